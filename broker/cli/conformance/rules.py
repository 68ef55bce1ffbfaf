"""The rules of broker/protocol/README.md, "Worker, in any language", each with the trial that shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from broker.cli.conformance.trial import NEVER_MS, SETTLING, Bench, Broken, Trial
from broker.store.claims import Claims, End, Holder, Registration
from broker.store.reads import Reads

AT_ONCE = 4
"""Trials side by side: a program that starts slowly would take minutes one after the other."""
_HELD_S = 1.0
_SLOW_MS = 3000
_UNTIL_RECEIVED_S = 0.3
"""Then who takes longer than 50 ms to stop has said so."""
_NO_POLL = {"BROKER_HEARTBEAT_MS": str(NEVER_MS)}
_SLOW = {"BROKER_STOP_MS": str(_SLOW_MS)}


@dataclass(frozen=True)
class Rule:
    """`sentence` is what a program must do; `show` raises Broken where it does not."""

    name: str
    sentence: str
    show: Callable[[Trial], Awaitable[None]]
    env: dict[str, str] = field(default_factory=dict)
    executions: tuple[str, ...] = ("a",)


@dataclass(frozen=True)
class Verdict:
    """`why` is None where the rule was kept."""

    rule: Rule
    why: str | None


async def judge(bench: Bench, chosen: tuple[Rule, ...]) -> list[Verdict]:
    """Tries the program under every rule. Raises BrokerError where that cannot be done."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(rule: Rule) -> Verdict:
        async with slots:
            trial = Trial(bench, rule.executions, rule.env)
            try:
                await rule.show(trial)
            except Broken as broken:
                return Verdict(rule, str(broken))
            finally:
                await trial.end()
            return Verdict(rule, None)

    return list(await asyncio.gather(*map(one, chosen)))


# --- the start --------------------------------------------------------------------------------------------


async def _subscribes_first(trial: Trial) -> None:
    await trial.start_and_run()
    asked, started = trial.asked("SUBSCRIBE", trial.one), trial.saying(trial.one)[0][0]
    if not asked or trial.proxy.seen.index(asked[0]) > trial.proxy.seen.index(started):
        raise Broken("it said that it starts before it had subscribed")


class _Gate:
    """Holds the first thing that fits, until it is opened."""

    def __init__(self) -> None:
        self.reached, self.open = asyncio.Event(), asyncio.Event()

    async def pass_on(self) -> bool:
        self.reached.set()
        await self.open.wait()
        return True


def _hold_confirmation(trial: Trial) -> _Gate:
    gate, channel = _Gate(), trial.channel(trial.one)

    async def on_push(words: tuple[str, ...]) -> bool:
        return await gate.pass_on() if words[:2] == ("subscribe", channel) else True

    trial.proxy.on_push = on_push
    return gate


async def _waits(trial: Trial) -> None:
    gate = _hold_confirmation(trial)
    await trial.start()
    await trial.until(gate.reached.is_set, "SUBSCRIBE")
    before = trial.said(trial.one)
    await asyncio.sleep(_HELD_S)
    if trial.said(trial.one) != before:
        raise Broken("it started between SUBSCRIBE and its confirmation")
    gate.open.set()
    await trial.claimed(trial.one)


async def _obeys_intent(trial: Trial) -> None:
    gate = _hold_confirmation(trial)
    await trial.start()
    await trial.until(gate.reached.is_set, "SUBSCRIBE")
    await asyncio.sleep(_HELD_S)
    if "started" in trial.said(trial.one):
        return  # that is another rule
    await trial.control.cancel_run(trial.run)
    gate.open.set()
    await trial.left()
    await trial.ingested()
    view = await trial.view(trial.one)
    if view is None or view.disposition != "never_started":
        raise Broken(f"it ran under an intent that stood there at the confirmation: {view.disposition if view else ''}")


async def _told_at_start(trial: Trial) -> None:
    gate = _Gate()

    async def on_command(words: tuple[str, ...]) -> bool:
        names_it = words[0].upper() in ("XADD", "EVAL", "EVALSHA", "FCALL") and any(trial.one in one for one in words)
        return await gate.pass_on() if names_it else True

    trial.proxy.on_command = on_command
    await trial.start()
    await trial.until(gate.reached.is_set, "its start")
    await trial.control.cancel_run(trial.run)
    gate.open.set()
    await trial.left()
    await trial.ingested()
    view = await trial.view(trial.one)
    if view is None or view.disposition not in ("never_started", "stopped") or view.claim is not None:
        raise Broken(f"it was not stopped: disposition {view.disposition if view else 'none'}")


async def _start_number(trial: Trial) -> None:
    claims, holder = Claims(trial.bench.backend), Holder("an-earlier-worker", 1)
    await claims.index(trial.run, [trial.one])
    await claims.start(trial.run, Registration(trial.one), holder)
    await claims.finish(trial.run, holder, End(trial.one, 1, "queued", "ended_itself"))
    await trial.start()
    await trial.claimed(trial.one, 2)
    await trial.control.cancel_run(trial.run)
    await trial.stopped(trial.one)
    ack = (await Reads(trial.bench.backend).acks(trial.run))[trial.one]
    if ack.start != "2":
        raise Broken(f"it acked for start {ack.start or 'none'}, its claim has number 2")


# --- hearing ----------------------------------------------------------------------------------------------


async def _hears_push(trial: Trial) -> None:
    await trial.start_and_run()
    await asyncio.sleep(_HELD_S)
    await trial.control.cancel_run(trial.run)
    await trial.stopped(trial.one)


async def _reconciles(trial: Trial) -> None:
    await trial.start_and_run()
    await asyncio.sleep(_HELD_S)
    first, second = trial.executions
    gate = _Gate()

    async def on_command(words: tuple[str, ...]) -> bool:
        return await gate.pass_on() if words and words[0].upper() == "SUBSCRIBE" else True

    trial.proxy.on_command = on_command
    trial.proxy.end_subscriptions()
    await trial.until(gate.reached.is_set, "another SUBSCRIBE after its subscription was killed")
    await trial.control.cancel_execution(first)
    gate.open.set()
    await trial.stopped(first)
    trial.proxy.cut()
    await trial.control.cancel_run(trial.run)
    trial.proxy.restore()
    await trial.stopped(second)


async def _polls(trial: Trial) -> None:
    async def on_push(words: tuple[str, ...]) -> bool:
        return words[:1] != ("message",) or words[1] != trial.channel(trial.one)

    trial.proxy.on_push = on_push
    await trial.start_and_run()
    await trial.control.cancel_run(trial.run)
    await trial.stopped(trial.one)


async def _ignores_forged(trial: Trial) -> None:
    await trial.start_and_run()
    await trial.publish(trial.one, trial.forged(trial.one))
    await trial.until(lambda: bool(trial.pushes("message", trial.one)), "the forged message")
    await asyncio.sleep(_HELD_S)
    if trial.said(trial.one) != ["started"]:
        raise Broken(
            f"it took a message for a cancel, where no intent stands: it said {', '.join(trial.said(trial.one)[1:])}"
        )
    await trial.control.cancel_run(trial.run)
    await trial.stopped(trial.one)


async def _ignores_unknown(trial: Trial) -> None:
    await trial.start_and_run()
    for payload in (
        trial.forged(trial.one, v=2),
        trial.forged(trial.one, type="teleport"),
        "[]",
        '{"v":1',
        "",
    ):
        await trial.publish(trial.one, payload)
    await trial.until(lambda: len(trial.pushes("message", trial.one)) >= 5, "the odd messages")
    await trial.control.cancel_run(trial.run)
    await trial.stopped(trial.one)
    await trial.left()


# --- answering --------------------------------------------------------------------------------------------


async def _told_again(trial: Trial) -> int:
    """Slow to stop, and told twice more; answers how much it had said before."""
    await trial.start_and_run()
    await trial.control.cancel_run(trial.run)
    await trial.until(lambda: bool(trial.pushes("message", trial.one)), "the message")
    await asyncio.sleep(_UNTIL_RECEIVED_S)
    intent = (await Claims(trial.bench.backend).intents(trial.run, [trial.one]))[trial.one]
    said = len(trial.said(trial.one))
    for attempt in (2, 3):
        message = trial.forged(trial.one, cancel_id=intent.cancel_id, attempt=attempt, unheard_of=[attempt])
        await trial.publish(trial.one, message)
    await trial.stopped(trial.one)
    return said


async def _handles_once(trial: Trial) -> None:
    await _told_again(trial)
    await trial.left()
    ends = [word for word in trial.said(trial.one) if word in SETTLING]
    if len(ends) != 1:
        raise Broken(f"told three times, it said {len(ends)} times that it had stopped")


async def _acks_again(trial: Trial) -> None:
    said = await _told_again(trial)
    if "received" not in trial.said(trial.one)[said:]:
        raise Broken("told again while it was stopping, it did not ack again: a lost ack would stay lost")


async def _received(trial: Trial) -> None:
    await trial.start_and_run()
    await trial.control.cancel_run(trial.run)
    await trial.stopped(trial.one)
    if trial.said(trial.one)[1:2] != ["received"]:
        raise Broken(f"it took {_SLOW_MS} ms to stop, and did not say `received` first")


async def _stopped_after_end(trial: Trial) -> None:
    await trial.start_and_run()
    began = asyncio.get_running_loop().time()
    await trial.control.cancel_run(trial.run)
    await trial.stopped(trial.one)
    at = next(seen.at for seen, word in trial.saying(trial.one) if word in SETTLING or word == "ended")
    if at - began < _SLOW_MS / 1000:
        raise Broken(
            f"it said that it had stopped after {(at - began) * 1000:.0f} ms, its work takes {_SLOW_MS} ms to stop"
        )


# --- the end ----------------------------------------------------------------------------------------------


async def _unsubscribes(trial: Trial) -> None:
    await trial.start_and_run()
    await trial.control.cancel_execution(trial.one)
    await trial.stopped(trial.one)
    await trial.until(lambda: bool(trial.asked("UNSUBSCRIBE", trial.one)), "UNSUBSCRIBE")


async def _late_cancel(trial: Trial) -> None:
    gate, channel = _Gate(), trial.channel(trial.one)

    async def on_command(words: tuple[str, ...]) -> bool:
        is_it = bool(words) and words[0].upper() == "UNSUBSCRIBE" and channel in words
        return await gate.pass_on() if is_it else True

    trial.proxy.on_command = on_command
    await trial.start()
    await trial.ended(trial.one)
    await trial.control.cancel_run(trial.run)
    await trial.publish(trial.one, trial.forged(trial.one))
    await asyncio.sleep(_HELD_S)
    gate.open.set()
    await trial.left()
    await trial.ingested()
    view = await trial.view(trial.one)
    acked = [word for word in trial.said(trial.one) if word not in ("started", "ended", "ended_itself")]
    if acked or view is None or view.status != "succeeded":
        raise Broken(f"a cancel after its end was answered: {', '.join(acked) or (view.status if view else 'gone')}")


RULES = (
    Rule("subscribes-first", "subscribes before it starts", _subscribes_first),
    Rule("waits", "waits for the confirmation of SUBSCRIBE before it starts", _waits),
    Rule("obeys-intent", "does not run what has an intent at the confirmation", _obeys_intent),
    Rule("told-at-start", "stops what was cancelled while it started", _told_at_start),
    Rule("start-number", "says the number of its claim in every word", _start_number, {"BROKER_START": "2"}),
    Rule("push", "hears a message at once, without waiting for its heartbeat", _hears_push, _NO_POLL),
    Rule("reconcile", "reads the intents again at every confirmation after a break", _reconciles, _NO_POLL, ("a", "b")),
    Rule("poll", "hears by its heartbeat alone where messages are lost", _polls),
    Rule("forged", "stops for an intent only: a message is a hint", _ignores_forged),
    Rule("unknown", "drops messages of an unknown type, a higher version, or no JSON", _ignores_unknown),
    Rule("once", "stops once, however often it is told", _handles_once, _SLOW),
    Rule("acks-again", "acks again when it is told again", _acks_again, _SLOW),
    Rule("received", "says `received` where stopping takes longer than 50 ms", _received, _SLOW),
    Rule("stopped", "says `stopped` only when the work has ended", _stopped_after_end, _SLOW),
    Rule("unsubscribes", "unsubscribes at the end of each execution", _unsubscribes, executions=("a", "b")),
    Rule("late-cancel", "answers no cancel of what has ended", _late_cancel, {"BROKER_WORK_MS": "200"}),
)
