"""A command as an execution: what is said of it is said when everything below it is gone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import broker
from tests.support.family import ALL, DAEMON, MAIN, STUBBORN, WHOLE_FAMILY, Family
from tests.support.fleet import RUN, Fleet, open_fleet
from tests.support.points import PATIENCE_S, holding
from tests.support.wait import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the whole tree is ended on Linux only")

LONG_S = 600.0


@pytest.fixture
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with open_fleet(redis_url) as fleet:
        yield fleet


@pytest.fixture
def family(tmp_path: Path) -> Family:
    return Family(tmp_path)


class Command:
    """A shell script under `run_process`, in a task of its own."""

    def __init__(self, fleet: Fleet, family: Family, script: str, **options: Any) -> None:
        argv = ["sh", "-c", script]
        running = fleet.worker.run_process(argv, run_id=RUN, execution_id="x", env=family.env, **options)
        self.task = asyncio.create_task(running)

    async def code(self) -> int:
        return await asyncio.wait_for(self.task, PATIENCE_S)

    async def error(self) -> BaseException | None:
        done, _ = await asyncio.wait({self.task}, timeout=PATIENCE_S)
        assert done, "the command did not end"
        assert self.task.cancelling() == 0 or self.task.cancelled()
        return asyncio.CancelledError() if self.task.cancelled() else self.task.exception()


@pytest.mark.parametrize(
    ("script", "code", "status"),
    [("exit 0", 0, "succeeded"), ("exit 7", 7, "failed"), ("kill -KILL $$", -9, "failed")],
)
async def test_the_exit_code_is_passed_through(
    fleet: Fleet, family: Family, script: str, code: int, status: str
) -> None:
    assert await Command(fleet, family, script).code() == code
    assert await fleet.parts.status(RUN, "x") == status


async def test_the_command_finds_its_ids_in_its_environment(fleet: Fleet, family: Family) -> None:
    family.env["BROKER_EXECUTION_ID"] = "of its caller"
    script = 'echo "$BROKER_RUN_ID $BROKER_EXECUTION_ID" >>"$PIDS"'
    assert await Command(fleet, family, script).code() == 0
    assert family.words() == [[RUN, "x"]]


async def test_without_an_environment_it_has_the_callers(
    fleet: Fleet, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIDS", str(family.file))
    script = 'echo "$BROKER_RUN_ID $BROKER_EXECUTION_ID" >>"$PIDS"'
    await fleet.worker.run_process(["sh", "-c", script], run_id=RUN, execution_id="x", cwd=family.file.parent)
    assert family.words() == [[RUN, "x"]]


async def test_a_cancel_sends_sigterm_and_the_command_may_clean_up(fleet: Fleet, family: Family) -> None:
    script = """trap 'echo "cleaned 0" >>"$PIDS"; exit 3' TERM; sleep 1000 & echo "main $$" >>"$PIDS"; wait"""
    command = Command(fleet, family, script, grace=LONG_S)
    await family.has("main")
    report = await fleet.control.cancel_run(RUN, reason="enough", wait=PATIENCE_S)
    error = await command.error()
    assert isinstance(error, broker.ExecutionCancelled)
    assert error.cause.reason == "enough"
    assert family.words()[1:] == [["cleaned", "0"]]
    assert report.dispositions == {"stopped": 1}
    ack = await fleet.settled_ack("x")
    assert (ack.outcome, ack.detail) == ("cancelled", "exit code 3")


async def test_after_the_grace_the_whole_family_is_gone(fleet: Fleet, family: Family) -> None:
    """Among them one that ignores SIGTERM, one in a session of its own, and one that is both."""
    command = Command(fleet, family, WHOLE_FAMILY, grace=0.3)
    await family.has(*ALL)
    report = await fleet.control.cancel_run(RUN, wait=PATIENCE_S)
    assert family.left() == {}, "it was reported as ended before it was"
    assert isinstance(await command.error(), broker.ExecutionCancelled)
    assert report.dispositions == {"killed": 1}
    assert (await fleet.settled_ack("x")).detail == "2 ended by SIGKILL"


async def test_it_is_stopping_while_the_grace_lasts(fleet: Fleet, family: Family) -> None:
    command = Command(fleet, family, f"trap '' TERM; {MAIN}", grace=LONG_S)
    await family.has("main")
    await fleet.control.cancel_run(RUN)
    await fleet.until_cause("x", "stopping")
    assert set(family.living()) == {"main"}
    command.task.cancel()  # the caller's first and the broker's are one
    command.task.cancel()  # its second: no more patience
    assert isinstance(await command.error(), asyncio.CancelledError)
    assert family.left() == {}
    assert (await fleet.settled_ack("x")).disposition == "killed"


async def test_what_outlives_the_command_is_ended_with_it(fleet: Fleet, family: Family) -> None:
    script = f"{STUBBORN} {DAEMON}\nwhile [ $(wc -l <$PIDS) -lt 2 ]; do :; done; exit 5"
    assert await Command(fleet, family, script, grace=0.1).code() == 5
    assert set(family.pids()) == {"stubborn", "daemon"}
    assert family.left() == {}


async def test_a_foreign_cancel_ends_the_tree(fleet: Fleet, family: Family) -> None:
    command = Command(fleet, family, WHOLE_FAMILY, grace=0.3)
    await family.has(*ALL)
    command.task.cancel()
    assert isinstance(await command.error(), asyncio.CancelledError)
    assert family.left() == {}
    assert await fleet.parts.status(RUN, "x") == "cancelled"
    assert await fleet.parts.intent(RUN, "x") is None


async def test_a_command_that_does_not_exist_has_failed(fleet: Fleet) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        await fleet.worker.run_process(["no-such-command-at-all"], run_id=RUN, execution_id="x")
    assert raised.value.filename == "no-such-command-at-all"
    assert await fleet.parts.status(RUN, "x") == "failed"


async def test_a_directory_that_does_not_exist_has_failed(fleet: Fleet, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await fleet.worker.run_process(["true"], run_id=RUN, execution_id="x", cwd=tmp_path / "nowhere")
    assert await fleet.parts.status(RUN, "x") == "failed"


async def test_cancelled_beforehand_nothing_is_started(fleet: Fleet, family: Family) -> None:
    await fleet.control.register(RUN, [broker.Execution("x")])
    await fleet.control.cancel_run(RUN)
    assert isinstance(await Command(fleet, family, MAIN).error(), broker.ExecutionCancelled)
    assert family.words() == []


async def test_its_end_is_written_before_it_is_answered(fleet: Fleet, family: Family) -> None:
    with holding("worker.ending") as ending:
        command = Command(fleet, family, "exit 0")
        await ending.arrived()
        assert not command.task.done()
        assert await fleet.parts.status(RUN, "x") == "running"
    assert await command.code() == 0


async def test_the_streams_are_the_commands(fleet: Fleet, tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as to_out, err.open("wb") as to_err:
        script = ["sh", "-c", "cat; echo said; echo complained >&2"]
        with (tmp_path / "in").open("w+b") as source:
            source.write(b"heard\n")
            source.seek(0)
            await fleet.worker.run_process(
                script, run_id=RUN, execution_id="x", stdin=source, stdout=to_out, stderr=to_err
            )
    assert (out.read_text(), err.read_text()) == ("heard\nsaid\n", "complained\n")


async def test_a_cancel_that_names_a_grace_overrides_the_workers(fleet: Fleet, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    deaf = ["sh", "-c", f"trap '' TERM; touch '{ready}'; while :; do sleep 0.05; done"]
    running = asyncio.create_task(fleet.worker.run_process(deaf, run_id=RUN, execution_id="deaf", grace=3600.0))
    await wait_until(ready.exists, "the command to ignore SIGTERM")
    report = await fleet.control.cancel_run(RUN, grace=0.05, wait=10)
    assert (report.state, report.dispositions) == ("settled", {"killed": 1})
    with pytest.raises(broker.ExecutionCancelled) as ended:
        await running
    assert ended.value.cause.grace == 0.05
