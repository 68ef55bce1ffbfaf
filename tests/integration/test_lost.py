"""`lost` comes from a proof only, never from silence; and what its holder says afterwards stands instead of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

import broker
from broker import CancelReport
from broker.cancel.sweep import Sweep
from broker.protocol.records import AckRecord
from broker.store.claims import Holder, Loss
from tests.support.parts import Parts

RUN = "run-1"
OLD, NEW = Holder("w", 1), Holder("w", 2)
OTHER = Holder("v", 1)


@pytest.fixture(autouse=True)
async def first_incarnations(parts: Parts) -> None:
    """Worker `w` and worker `v` have started once, as every worker does before it claims."""
    for holder in (OLD, OTHER):
        assert await parts.claims.new_incarnation(holder.worker_id) == holder.incarnation


async def cancelled(b: broker.Broker, parts: Parts, *, scope: str = "run", others: Sequence[str] = ()) -> CancelReport:
    """`x` is held by the old incarnation of `w`, `others` by `v`; told, and nothing heard."""
    await parts.start(RUN, "x", holder=OLD)
    for one in others:
        await parts.start(RUN, one, holder=OTHER)
    if scope == "run":
        return await b.cancel_run(RUN)
    return await (b.cancel_subtree if scope == "subtree" else b.cancel_execution)("x")


async def is_lost(b: broker.Broker, parts: Parts, cancel_id: str) -> AckRecord:
    """The loss of `x` as it is written down, with its operation settled."""
    ack = await parts.ack_of(RUN, "x")
    assert ack is not None
    assert (ack.disposition, ack.slot, ack.start) == ("lost", "0", "1")
    assert ack.settled_at_us
    record = await parts.reads.execution(RUN, "x")
    assert record is not None
    assert (record.claimed, record.start) == (False, "1")
    report = await b.report(RUN, cancel_id)
    assert (report.state, report.still_running) == ("settled", ())
    assert report.dispositions["lost"] == 1
    return ack


async def log_of(parts: Parts) -> list[tuple[str, str]]:
    """Event and detail of each line of the run's log, oldest first."""
    entries = await parts.backend.commands.command("XRANGE", parts.backend.run(RUN).log, "-", "+")
    lines = [dict(zip(flat[0::2], flat[1::2], strict=True)) for _, flat in entries]
    return [(line["event"], line["detail"]) for line in lines]


async def lost_by_restart(b: broker.Broker, parts: Parts, scope: str = "run") -> str:
    """Settled because a newer process of the worker id has started; answers the cancel id."""
    report = await cancelled(b, parts, scope=scope)
    await parts.claims.new_incarnation("w")
    await parts.sweep_now(RUN, report.cancel_id)
    await is_lost(b, parts, report.cancel_id)
    return report.cancel_id


# --- the proof ---------------------------------------------------------------------------------------------------


async def test_t30_an_expired_heartbeat_alone_settles_nothing(b: broker.Broker, parts: Parts) -> None:
    report = await cancelled(b, parts)
    for _ in range(3):
        await parts.sweep_now(RUN, report.cancel_id)
    (one,) = (await b.report(RUN)).still_running
    assert (one.execution_id, one.cause, one.disposition) == ("x", "worker_lost", "asked")


async def test_t30_a_newer_incarnation_proves_that_the_older_is_gone(b: broker.Broker, parts: Parts) -> None:
    """Only what that process held: the work of others of the run goes on being told."""
    report = await cancelled(b, parts, others=["y"])
    await parts.claims.new_incarnation("w")
    await parts.sweep_now(RUN, report.cancel_id)
    ack = await parts.ack_of(RUN, "x")
    assert ack is not None
    assert (ack.disposition, ack.detail) == ("lost", "newer incarnation 2")
    after = await b.report(RUN)
    assert [one.execution_id for one in after.still_running] == ["y"]
    assert after.state == "open"
    await parts.finish(RUN, "y", holder=OTHER)
    assert (await b.report(RUN)).state == "settled"
    assert ("lost", "x start 1 of w: newer incarnation 2") in await log_of(parts)


@pytest.mark.parametrize("scope", ["run", "subtree", "execution"])
async def test_the_last_loss_settles_its_operation(scope: str, b: broker.Broker, parts: Parts) -> None:
    await lost_by_restart(b, parts, scope)


async def test_a_start_of_the_newer_process_is_the_proof_at_once(b: broker.Broker, parts: Parts) -> None:
    report = await cancelled(b, parts)
    await parts.claims.new_incarnation("w")
    answer = await parts.start(RUN, "x", holder=NEW)
    assert (answer.code, answer.start) == ("cancelled", 0)
    ack = await is_lost(b, parts, report.cancel_id)
    assert ack.detail == "newer incarnation 2"


@pytest.mark.parametrize("incarnation", [0, 1])
async def test_a_start_of_the_same_process_or_an_older_one_proves_nothing(
    incarnation: int, b: broker.Broker, parts: Parts
) -> None:
    """A start whose answer was lost is sent again; what it claimed is still held."""
    await cancelled(b, parts)
    assert (await parts.start(RUN, "x", holder=Holder("w", incarnation))).code == "cancelled"
    assert await parts.ack_of(RUN, "x") is None
    assert (await b.report(RUN)).totals.still_running == 1


async def test_lost_is_no_sample_of_the_ack_lag(b: broker.Broker, parts: Parts) -> None:
    """T35: a proof of death is not an answer, neither to when it heard nor to when it ended."""
    cancel_id = await lost_by_restart(b, parts)
    report = await b.report(RUN, cancel_id)
    assert (report.ack_lag.received.count, report.ack_lag.stopped.count) == (0, 0)


@pytest.mark.parametrize("claim", [("w", 1, 2), ("w", 2, 1), ("v", 1, 1), ("nobody", 1, 1)])
async def test_only_exactly_the_claim_that_is_proved_gone_is_lost(
    claim: tuple[str, int, int], b: broker.Broker, parts: Parts
) -> None:
    worker_id, incarnation, start = claim
    await cancelled(b, parts)
    losses = [Loss("x", start, "not_held"), Loss("unknown", 1, "not_held")]
    assert await parts.claims.lose(RUN, Holder(worker_id, incarnation), losses) == ["changed", "changed"]
    assert (await b.report(RUN)).totals.still_running == 1


async def test_what_nobody_cancelled_is_never_lost(b: broker.Broker, parts: Parts) -> None:
    """`lost` is a disposition, and only what was told has one: the claim is left to whoever starts it next."""
    await parts.start(RUN, "x", holder=OLD)
    assert await parts.claims.lose(RUN, OLD, [Loss("x", 1, "not_held")]) == ["changed"]
    record = await parts.reads.execution(RUN, "x")
    assert record is not None
    assert record.claimed


async def test_many_are_lost_in_several_script_calls(b: broker.Broker, parts: Parts) -> None:
    ids = [f"x-{number}" for number in range(230)]
    await asyncio.gather(*(parts.start(RUN, one, holder=OLD) for one in ids))
    report = await b.cancel_run(RUN)
    await parts.claims.new_incarnation("w")
    await parts.sweep_now(RUN, report.cancel_id)
    after = await b.report(RUN)
    assert (after.state, after.dispositions) == ("settled", {"lost": 230})
    assert [event for event, _ in await log_of(parts)].count("lost") == 3


# --- declared dead -----------------------------------------------------------------------------------------------


async def test_t30_declared_dead_is_a_proof_and_says_who_said_why(b: broker.Broker, parts: Parts) -> None:
    report = await cancelled(b, parts)
    assert await parts.claims.declare_dead("w", 1, "the pod is gone | 50%") == 2
    await parts.sweep_now(RUN, report.cancel_id)
    ack = await is_lost(b, parts, report.cancel_id)
    assert ack.detail == "declared dead: the pod is gone %7C 50%25"


async def test_declared_dead_twice_is_declared_once(parts: Parts) -> None:
    assert await parts.claims.declare_dead("w", 1, "first") == 2
    assert await parts.claims.declare_dead("w", 1, "second") == 2
    state = (await parts.reads.workers(["w"]))["w"]
    assert (state.newest, state.declared_dead) == (2, (1, "first"))
    assert (state.proof_against(1), state.proof_against(2)) == ("declared dead: first", None)


async def test_a_worker_whose_heart_beats_cannot_be_declared_dead(b: broker.Broker, parts: Parts) -> None:
    report = await cancelled(b, parts)
    await parts.claims.heartbeat(OLD, "", 1, 60.0)
    with pytest.raises(broker.WorkerAlive, match="w, incarnation 1, beats"):
        await parts.claims.declare_dead("w", 1, "I am sure")
    await parts.sweep_now(RUN, report.cancel_id)
    assert (await b.report(RUN)).totals.still_running == 1


async def test_an_older_process_is_declared_dead_while_the_newer_one_lives(b: broker.Broker, parts: Parts) -> None:
    assert await parts.claims.new_incarnation("w") == 2
    await parts.claims.heartbeat(NEW, "", 0, 60.0)
    assert await parts.claims.declare_dead("w", 1, "long gone") == 2
    assert await parts.claims.heartbeat(NEW, "", 0, 60.0) == 2, "the living one is not fenced by it"


async def test_what_was_declared_of_one_process_is_not_said_of_another(parts: Parts) -> None:
    assert await parts.claims.new_incarnation("w") == 2
    assert await parts.claims.declare_dead("w", 2, "gone") == 3
    state = (await parts.reads.workers(["w"]))["w"]
    proofs = ["newer incarnation 3", "declared dead: gone", None]
    assert [state.proof_against(number) for number in (1, 2, 3)] == proofs


@pytest.mark.parametrize(("worker_id", "incarnation"), [("nobody", 1), ("w", 2), ("w", 10**9)])
async def test_what_never_was_cannot_be_declared_dead(worker_id: str, incarnation: int, parts: Parts) -> None:
    with pytest.raises(broker.NotFound, match=f"worker {worker_id} has no incarnation {incarnation}"):
        await parts.claims.declare_dead(worker_id, incarnation, "typed wrongly")
    assert await parts.claims.new_incarnation("w") == 2, "nothing was raised"


async def test_a_process_that_was_declared_dead_finds_itself_fenced(parts: Parts) -> None:
    """The race of the two steps: a heart that beats right after it was looked at learns it with that beat."""
    await parts.claims.declare_dead("w", 1, "it was only asleep")
    assert await parts.claims.heartbeat(OLD, "", 1, 60.0) == 2


# --- what its holder says afterwards -----------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["run", "subtree", "execution"])
@pytest.mark.parametrize("word", ["received", "deferred", "refused"])
async def test_t25_a_sign_of_life_takes_the_loss_back(word: str, scope: str, b: broker.Broker, parts: Parts) -> None:
    """The execution and every operation that covers it are open again, and the claim is whose it was."""
    cancel_id = await lost_by_restart(b, parts, scope)
    v, epoch = (await parts.operation(RUN, cancel_id)).v, (await parts.reads.run_state(RUN)).epoch
    assert await parts.ack(RUN, "x", word, holder=OLD, seq=1) == "reopened"
    operation = await parts.operation(RUN, cancel_id)
    assert operation.state == "open"
    assert int(operation.v) > int(v)
    assert (await parts.reads.run_state(RUN)).epoch > epoch
    (one,) = (await b.report(RUN, cancel_id)).still_running
    assert (one.execution_id, one.disposition, one.worker_id) == ("x", word, "w")
    record = await parts.reads.execution(RUN, "x")
    assert record is not None
    assert (record.slot, record.incarnation, record.start) == ("0", "1", "1")
    assert ("ghost", f"x start 1 of w was lost: {word}") in await log_of(parts)
    assert ("reopened", "alive after lost") in await log_of(parts)
    assert await parts.operations.due_at(RUN, cancel_id) == 0, "the sweep looks at it now"


async def test_every_operation_that_covers_it_is_reopened(b: broker.Broker, parts: Parts) -> None:
    await parts.start(RUN, "x", parent="root", holder=OLD)
    narrow = await b.cancel_execution("x")
    below = await b.cancel_subtree("x")
    wide = await b.cancel_run(RUN)
    await parts.claims.new_incarnation("w")
    ids = [narrow.cancel_id, below.cancel_id, wide.cancel_id]
    for one in ids:
        await parts.sweep_now(RUN, one)
    assert {(await parts.operation(RUN, one)).state for one in ids} == {"settled"}
    assert await parts.ack(RUN, "x", "received", holder=OLD) == "reopened"
    assert {(await parts.operation(RUN, one)).state for one in ids} == {"open"}


async def test_a_proof_of_death_is_a_state(b: broker.Broker, parts: Parts) -> None:
    """A late ack has reopened it; the proof still stands, so the next look settles it again."""
    cancel_id = await lost_by_restart(b, parts)
    for seq in (1, 2):
        assert await parts.ack(RUN, "x", "received", holder=OLD, seq=seq) == "reopened"
        await parts.sweep.once()
        await is_lost(b, parts, cancel_id)


async def test_a_repeated_ack_is_no_sign_of_life(b: broker.Broker, parts: Parts) -> None:
    """It was said before the loss and only arrives twice: acks are sent until they are accepted."""
    report = await cancelled(b, parts)
    assert await parts.ack(RUN, "x", "received", holder=OLD, seq=3) == "applied"
    await parts.claims.new_incarnation("w")
    await parts.sweep_now(RUN, report.cancel_id)
    for seq in (1, 3):
        assert await parts.ack(RUN, "x", "received", holder=OLD, seq=seq) == "repeat"
    await is_lost(b, parts, report.cancel_id)
    assert await parts.ack(RUN, "x", "received", holder=OLD, seq=4) == "reopened"


@pytest.mark.parametrize("word", ["stopped", "killed", "ended_itself"])
@pytest.mark.parametrize("by", ["ack", "finish"])
async def test_an_end_stands_instead_of_lost_and_reopens_nothing(
    by: str, word: str, b: broker.Broker, parts: Parts
) -> None:
    cancel_id = await lost_by_restart(b, parts)
    v = (await parts.operation(RUN, cancel_id)).v
    if by == "ack":
        assert await parts.ack(RUN, "x", word, holder=OLD) == "applied"
    else:
        assert await parts.finish(RUN, "x", disposition=word, status="failed", holder=OLD) == "settled"
        assert await parts.finish(RUN, "x", disposition=word, status="failed", holder=OLD) == "repeat"
    report = await b.report(RUN, cancel_id)
    assert (report.state, report.dispositions) == ("settled", {word: 1})
    assert (await parts.operation(RUN, cancel_id)).v == v
    assert ("ghost", f"x start 1 of w was lost: {word}") in await log_of(parts)
    assert await parts.ack(RUN, "x", "received", holder=OLD, seq=9) == "repeat", "the first settled word stays"


async def test_an_older_start_number_is_no_evidence(b: broker.Broker, parts: Parts) -> None:
    """The first claim was superseded; that its old holder still speaks says nothing of the second."""
    await parts.start(RUN, "x", holder=OTHER)
    assert (await parts.start(RUN, "x", holder=OLD, supersedes="1")).start == 2
    report = await b.cancel_run(RUN)
    await parts.claims.new_incarnation("w")
    await parts.sweep_now(RUN, report.cancel_id)
    assert (await b.report(RUN)).dispositions == {"lost": 1}
    for holder in (OTHER, OLD):
        assert await parts.ack(RUN, "x", "received", holder=holder, start=1, seq=9) == "late"
        assert await parts.finish(RUN, "x", start=1, holder=holder) == "late"
    assert await parts.ack(RUN, "x", "stopped", holder=OTHER, start=2, seq=9) == "late", "another worker's claim"
    after = await b.report(RUN)
    assert (after.state, after.dispositions) == ("settled", {"lost": 1})


# --- the pauses of redelivery ------------------------------------------------------------------------------------


async def attempts(parts: Parts) -> int:
    intent = await parts.intent(RUN, "x")
    assert intent is not None
    return intent.attempt


@pytest.mark.parametrize("word", ["received", "deferred", "refused"])
async def test_what_was_heard_is_told_again_only_at_the_longest_pause(
    word: str, b: broker.Broker, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that cleans up slowly is not flooded; when its heart stops it is told again as before."""
    monkeypatch.setattr("broker.cancel.schedule.told_for_us", lambda attempt: 0)
    report = await cancelled(b, parts)
    await parts.claims.heartbeat(OLD, "", 1, 60.0)
    await parts.sweep_now(RUN, report.cancel_id)
    assert await attempts(parts) == 2, "nothing heard: told again"
    await parts.ack(RUN, "x", word, holder=OLD)
    await parts.sweep_now(RUN, report.cancel_id)
    assert await attempts(parts) == 2
    monkeypatch.setattr("broker.cancel.schedule.LONGEST_PAUSE_US", 0)
    await parts.sweep_now(RUN, report.cancel_id)
    assert await attempts(parts) == 3, "the longest pause is over"
    monkeypatch.undo()
    monkeypatch.setattr("broker.cancel.schedule.told_for_us", lambda attempt: 0)
    await parts.backend.commands.command("DEL", parts.backend.keys.worker("w"))
    await parts.sweep_now(RUN, report.cancel_id)
    assert await attempts(parts) == 4, "its heart has stopped"


async def test_the_forced_step_does_not_wait_for_the_longest_pause(b: broker.Broker, parts: Parts) -> None:
    await parts.start(RUN, "x", holder=OLD)
    await parts.claims.heartbeat(OLD, "", 1, 60.0)
    report = await b.cancel_run(RUN, force_after=0)
    await parts.ack(RUN, "x", "received", holder=OLD)
    await parts.sweep_now(RUN, report.cancel_id)
    intent = await parts.intent(RUN, "x")
    assert intent is not None
    assert (intent.force, intent.attempt) == (True, 2)


async def test_the_next_look_is_no_later_than_a_heart_may_be_silent(b: broker.Broker, parts: Parts) -> None:
    """Nothing is to be told for a minute, and still a worker that is replaced meanwhile is found in good time."""
    report = await cancelled(b, parts)
    await parts.claims.heartbeat(OLD, "", 1, 60.0)
    await parts.ack(RUN, "x", "received", holder=OLD)
    now_us = await parts.operations.now_us()
    await parts.sweep_now(RUN, report.cancel_id)
    due_us = await parts.operations.due_at(RUN, report.cancel_id)
    assert due_us is not None
    assert now_us + 10_000_000 < due_us < now_us + 30_000_000


@pytest.mark.parametrize(("others", "soon"), [((), False), (("y",), True)], ids=["alone", "in a busy run"])
async def test_a_subtree_in_a_busy_run_is_looked_at_often(
    others: tuple[str, ...], soon: bool, b: broker.Broker, parts: Parts
) -> None:
    """Acks settle a subtree only where the whole run waits for nothing: else it is settled by the next look."""
    report = await cancelled(b, parts, scope="subtree", others=others)
    await parts.claims.heartbeat(OLD, "", 1, 60.0)
    await parts.ack(RUN, "x", "received", holder=OLD)
    for one in others:
        await b.cancel_execution(one)
    now_us = await parts.operations.now_us()
    await parts.sweep_now(RUN, report.cancel_id)
    due_us = await parts.operations.due_at(RUN, report.cancel_id)
    assert due_us is not None
    assert (due_us - now_us < 10_000_000) is soon


# --- deadlines ---------------------------------------------------------------------------------------------------


async def test_t21_an_adopted_execution_is_overdue_by_the_earliest_deadline(b: broker.Broker, parts: Parts) -> None:
    """The wide cancel has time; the narrow one that told the execution has none left."""
    await parts.start(RUN, "x", holder=OLD)
    await parts.start(RUN, "y", holder=OTHER)
    await b.cancel_execution("x", deadline=0)
    wide = await b.cancel_run(RUN, deadline=3600)
    after = await b.report(RUN, wide.cancel_id)
    assert {one.execution_id: one.overdue for one in after.still_running} == {"x": True, "y": False}
    assert after.overdue
    await parts.finish(RUN, "x", holder=OLD)
    assert not (await b.report(RUN, wide.cancel_id)).overdue


async def test_a_later_cancel_with_less_time_is_overdue_by_its_own(b: broker.Broker, parts: Parts) -> None:
    await parts.start(RUN, "x", holder=OLD)
    first = await b.cancel_execution("x", deadline=3600)
    wide = await b.cancel_run(RUN, deadline=0)
    assert [one.overdue for one in (await b.report(RUN, wide.cancel_id)).still_running] == [True]
    assert [one.overdue for one in (await b.report(RUN, first.cancel_id)).still_running] == [False]


# --- a look that is beaten ---------------------------------------------------------------------------------------


async def test_what_ends_while_the_sweep_looks_is_not_lost(
    b: broker.Broker, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim that was read is not the claim that is there any more: the script decides, not the reader."""
    report = await cancelled(b, parts)
    await parts.claims.new_incarnation("w")
    lose = parts.claims.lose

    async def end_first(run_id: str, holder: Holder, losses: Sequence[Loss]) -> list[str]:
        await parts.finish(RUN, "x", holder=OLD)
        return await lose(run_id, holder, losses)

    monkeypatch.setattr(parts.claims, "lose", end_first)
    assert isinstance(parts.sweep, Sweep)
    await parts.sweep_now(RUN, report.cancel_id)
    after = await b.report(RUN)
    assert (after.state, after.dispositions) == ("settled", {"stopped": 1})
