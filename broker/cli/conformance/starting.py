"""How a program starts: trials of the rules of the first two steps of the protocol."""

from __future__ import annotations

from broker.cli.conformance.proxy import Gate
from broker.cli.conformance.trial import Broken, Trial
from broker.store.claims import Claims, End, Holder, Registration
from broker.store.reads import Reads

_STARTS = ("XADD", "EVAL", "EVALSHA", "FCALL")


async def subscribes_first(trial: Trial) -> None:
    await trial.start_and_run()
    asked, said = trial.asked("SUBSCRIBE", trial.channel(trial.one)), trial.saying(trial.one)
    if not said:
        raise Broken("its start did not come over BROKER_REDIS_URL")
    seen = trial.proxy.seen
    if not asked or seen.index(asked[0]) > seen.index(said[0][0]):
        raise Broken("it said that it starts before it had subscribed")


def _hold_confirmation(trial: Trial) -> Gate:
    gate, channel = Gate(), trial.channel(trial.one)

    async def on_push(words: tuple[str, ...]) -> bool:
        return await gate.pass_on() if words[:2] == ("subscribe", channel) else True

    trial.proxy.on_push = on_push
    return gate


async def _to_its_subscription(trial: Trial) -> Gate:
    """Its SUBSCRIBE has come, the confirmation is held."""
    gate = _hold_confirmation(trial)
    await trial.start()
    await trial.until(gate.is_reached, "SUBSCRIBE")
    return gate


async def waits(trial: Trial) -> None:
    gate = await _to_its_subscription(trial)
    await trial.heartbeats()
    if "started" in trial.said(trial.one):
        raise Broken("it started between SUBSCRIBE and its confirmation")
    gate.open()
    await trial.claimed(trial.one)


async def obeys_intent(trial: Trial) -> None:
    gate = await _to_its_subscription(trial)
    await trial.control.cancel_run(trial.run)
    gate.open()
    await trial.left()
    view = await trial.view(trial.one)
    if view is None or view.disposition != "never_started":
        raise Broken(f"it ran under an intent that stood there at the confirmation: {view.disposition if view else ''}")


async def told_at_start(trial: Trial) -> None:
    gate = Gate()

    async def on_command(words: tuple[str, ...]) -> bool:
        names_it = words[0].upper() in _STARTS and any(trial.one in one for one in words) if words else False
        return await gate.pass_on() if names_it else True

    trial.proxy.on_command = on_command
    await trial.start()
    await trial.until(gate.is_reached, "its start")
    await trial.control.cancel_run(trial.run)
    gate.open()
    await trial.left()
    view = await trial.view(trial.one)
    if view is None or view.disposition not in ("never_started", "stopped") or view.claim is not None:
        raise Broken(f"it was not stopped: disposition {view.disposition if view else 'none'}")


async def start_number(trial: Trial) -> None:
    claims, earlier = Claims(trial.bench.backend), Holder("an-earlier-worker", 1)
    await claims.index(trial.run, [trial.one])
    await claims.start(trial.run, Registration(trial.one), earlier)
    await claims.finish(trial.run, earlier, End(trial.one, 1, "queued", "ended_itself"))
    await trial.start()
    await trial.until(lambda: "started" in trial.said(trial.one), "its start")
    await trial.applied()
    view = await trial.view(trial.one)
    if view is None or view.claim is None or view.claim.start != 2:
        raise Broken("it has no claim with number 2 (BROKER_START) after it said that it started")
    await trial.control.cancel_run(trial.run)
    await trial.stopped(trial.one)
    ack = (await Reads(trial.bench.backend).acks(trial.run))[trial.one]
    if ack.start != "2":
        raise Broken(f"it acked for start {ack.start or 'none'}, its claim has number 2")
