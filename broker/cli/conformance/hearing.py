"""How a program hears of a cancel, and of what is none: push, reconcile and poll, each alone."""

from __future__ import annotations

from broker.cli.conformance.proxy import Gate
from broker.cli.conformance.trial import Broken, Trial


async def by_push(trial: Trial) -> None:
    await trial.start_and_run()
    await trial.quiet()
    await trial.control.cancel_run(trial.run)
    await trial.stopped(trial.one)


async def by_confirmation(trial: Trial) -> None:
    """One is cancelled while a killed subscription comes back, the other while the network is gone."""
    await trial.start_and_run()
    await trial.quiet()
    first, second = trial.executions
    gate = Gate()

    async def on_command(words: tuple[str, ...]) -> bool:
        return await gate.pass_on() if words and words[0].upper() == "SUBSCRIBE" else True

    trial.proxy.on_command = on_command
    trial.proxy.end_subscriptions()
    await trial.until(gate.is_reached, "another SUBSCRIBE after its subscription was killed")
    await trial.control.cancel_execution(first)
    gate.open()
    await trial.stopped(first)
    trial.proxy.cut()
    await trial.control.cancel_run(trial.run)
    trial.proxy.restore()
    await trial.stopped(second)


async def by_poll(trial: Trial) -> None:
    async def on_push(words: tuple[str, ...]) -> bool:
        return words[:1] != ("message",) or words[1] != trial.channel(trial.one)

    trial.proxy.on_push = on_push
    await trial.start_and_run()
    await trial.control.cancel_run(trial.run)
    await trial.stopped(trial.one)


async def ignores_forged(trial: Trial) -> None:
    """Another execution is cancelled behind the forged message: when it has stopped, both were heard.

    The third goes on, so that the program does.
    """
    await trial.start_and_run()
    one, other, _ = trial.executions
    await trial.publish(one, trial.forged(one))
    await trial.control.cancel_execution(other)
    await trial.stopped(other)
    await trial.heartbeats()
    if answered := trial.answered(one):
        raise Broken(f"it took a message for a cancel, where no intent stands: it said {', '.join(answered)}")
    await trial.control.cancel_run(trial.run)
    await trial.stopped(one)


async def ignores_unknown(trial: Trial) -> None:
    await trial.start_and_run()
    one = trial.one
    for payload in (trial.forged(one, v=2), trial.forged(one, type="teleport"), "[]", '{"v":1', ""):
        await trial.publish(one, payload)
    await trial.control.cancel_run(trial.run)
    await trial.stopped(one)
    await trial.left()
