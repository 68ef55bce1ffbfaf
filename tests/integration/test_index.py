"""One run has an execution id, also while nobody has recorded it there yet."""

from __future__ import annotations

import broker
from broker.store.claims import RECORDED_WITHIN_S
from broker.store.keys import Lifetimes
from tests.support.fleet import RUN, open_fleet
from tests.support.parts import Parts
from tests.support.points import holding


async def test_a_cancel_of_what_is_unknown_finds_the_run_in_which_it_is_being_started(redis_url: str) -> None:
    """Found by chaos: the cancel took the index from under the start, and settled `never_started` beside the body."""
    async with open_fleet(redis_url) as fleet:
        with holding("worker.confirmed") as between:  # subscribed and indexed, not started
            body = fleet.body("x")
            await between.arrived()
            report = await fleet.control.cancel_execution("x", allow_unknown=True)
            between.release()
        assert report.run_id == RUN
        assert isinstance(await body.end(), broker.ExecutionCancelled)
        assert body.steps == []


async def test_an_execution_without_a_run_that_was_cancelled_before_anyone_knew_it_does_not_start_in_one(
    redis_url: str,
) -> None:
    async with open_fleet(redis_url) as fleet:
        report = await fleet.control.cancel_execution("x", allow_unknown=True)
        assert report.run_id is None
        assert isinstance(await fleet.body("x").end(), broker.ExecutionInOtherRun)


async def test_an_index_entry_is_left_alone_until_its_writer_has_had_time_to_record(parts: Parts) -> None:
    keys, command = parts.backend.keys, parts.backend.commands.command
    assert await parts.claims.index("run-1", ["x"]) == {}
    assert await parts.claims.index("run-2", ["x"]) == {"x": "run-1"}
    await command("EXPIRE", keys.execution("x"), Lifetimes().index_s - RECORDED_WITHIN_S)
    assert await parts.claims.index("run-2", ["x"]) == {}
    assert await parts.claims.index("run-1", ["x"]) == {"x": "run-2"}
