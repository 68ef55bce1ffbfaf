"""What a program answers to a cancel, and how an execution ends."""

from __future__ import annotations

from broker.cli.conformance.proxy import Gate
from broker.cli.conformance.trial import ENDS, SETTLING, Broken, Trial
from broker.store.claims import Claims


async def says_received(trial: Trial) -> None:
    trial.has_slow_stop()
    await trial.start_and_run()
    await trial.control.cancel_run(trial.run)
    await _until_answered(trial, trial.one)
    if (word := trial.answered(trial.one)[0]) != "received":
        raise Broken(f"its work was still to stop, and its first word was `{word}`")
    await trial.let_stop(trial.one)
    await trial.stopped(trial.one)


async def _until_answered(trial: Trial, execution_id: str) -> None:
    await trial.until(lambda: bool(trial.answered(execution_id)), "`received`, before BROKER_STOP_KEY lets it stop")


async def stops_first(trial: Trial) -> None:
    trial.has_slow_stop()
    await trial.start_and_run()
    await trial.control.cancel_run(trial.run)
    await trial.heard(trial.one)
    await trial.heartbeats()
    if ends := [word for word in trial.answered(trial.one) if word in ENDS]:
        raise Broken(f"it said `{ends[0]}` while its work went on: BROKER_STOP_KEY had not let it stop")
    await trial.let_stop(trial.one)
    await trial.stopped(trial.one)


async def _tell_again(trial: Trial, execution_id: str, attempt: int) -> None:
    intent = (await Claims(trial.bench.backend).intents(trial.run, [execution_id]))[execution_id]
    message = trial.forged(execution_id, cancel_id=intent.cancel_id, attempt=attempt, unheard_of=[attempt])
    await trial.publish(execution_id, message)


async def acks_again(trial: Trial) -> None:
    trial.has_slow_stop()
    await trial.start_and_run()
    await trial.control.cancel_run(trial.run)
    await _until_answered(trial, trial.one)
    before = len(trial.answered(trial.one))
    await _tell_again(trial, trial.one, 2)
    await trial.until(
        lambda: "received" in trial.answered(trial.one)[before:],
        "`received` once more when it is told again (a lost ack would stay lost)",
    )
    await trial.let_stop(trial.one)
    await trial.stopped(trial.one)


async def stops_once(trial: Trial) -> None:
    """The other execution is cancelled behind the repeats: when it has heard, they were heard."""
    trial.has_slow_stop()
    await trial.start_and_run()
    one, other = trial.executions
    await trial.control.cancel_execution(one)
    await trial.heard(one)
    for attempt in (2, 3):
        await _tell_again(trial, one, attempt)
    await trial.control.cancel_execution(other)
    await trial.heard(other)
    await trial.heartbeats()
    for execution_id in trial.executions:
        await trial.let_stop(execution_id)
    await trial.left()
    ends = [word for word in trial.said(one) if word in SETTLING]
    if len(ends) != 1:
        raise Broken(f"told three times, it said {len(ends)} times that it had stopped")


async def unsubscribes(trial: Trial) -> None:
    await trial.start_and_run()
    await trial.control.cancel_execution(trial.one)
    await trial.stopped(trial.one)
    channel = trial.channel(trial.one)
    await trial.until(lambda: bool(trial.asked("UNSUBSCRIBE", channel)), "UNSUBSCRIBE after the end")


async def late_cancel(trial: Trial) -> None:
    """The first has ended, its UNSUBSCRIBE is held; the other is cancelled behind the late message."""
    trial.has_own_end()
    one, other = trial.executions
    gate, channel = Gate(), trial.channel(one)

    async def on_command(words: tuple[str, ...]) -> bool:
        is_it = bool(words) and words[0].upper() == "UNSUBSCRIBE" and channel in words
        return await gate.pass_on() if is_it else True

    trial.proxy.on_command = on_command
    await trial.start_and_run()
    await trial.let_end(one)
    await trial.ended(one)
    await trial.heartbeats()  # behind the answer to its end, so that it knows of it
    await trial.publish(one, trial.forged(one))
    await trial.control.cancel_run(trial.run)
    await trial.stopped(other)
    gate.open()
    await trial.left()
    view = await trial.view(one)
    acked = [word for word in trial.answered(one) if word not in ("ended", "ended_itself")]
    if acked or view is None or view.status != "succeeded":
        raise Broken(f"a cancel after its end was answered: {', '.join(acked) or (view.status if view else 'gone')}")
