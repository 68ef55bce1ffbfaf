"""The caller or the supervisor dies, in whichever way: nothing is left below."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from broker.worker import process, supervisor_link
from broker.worker.process import ProcessEnd, ProcessTree
from broker.worker.reaper.proc import descendants, look_up
from tests.support.family import (
    ALL,
    CALLER,
    MAIN,
    ONE,
    WHOLE_FAMILY,
    Family,
    changed_program,
    end_of,
    shell,
    started_caller,
    supervisor_of,
)
from tests.support.wait import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the whole tree is ended on Linux only")


# --- the caller ends ----------------------------------------------------------------------------------


def supervisors_of(pid: int) -> list[int]:
    names = {each.pid: Path(f"/proc/{each.pid}/cmdline").read_bytes() for each in descendants(pid)}
    return [each for each, name in names.items() if b"__main__.py" in name]


@pytest.mark.parametrize(
    "manner",
    [
        "returns",
        "raises",
        "block",
        "exits at once",
        "becomes another",
        "is killed",
        "is killed with its group",
        "foreground, is killed with its group",
        "is killed, forks",
        "is killed, forks, no pidfd",
    ],
)
async def test_however_the_caller_ends_nothing_is_left(manner: str, family: Family) -> None:
    if "no pidfd" in manner:
        family.env["REAPER_PROGRAM"] = str(changed_program(family, "import os; del os.pidfd_open"))
    with started_caller(next((how for how in ("forks", "foreground") if how in manner), manner), family) as caller:
        await family.has(*ALL)
        [supervisor] = supervisors_of(caller.pid)
        if "group" in manner:
            os.killpg(caller.pid, signal.SIGKILL)
        elif "killed" in manner:
            caller.kill()
        else:
            assert caller.stdin is not None
            caller.stdin.write(b"\n")
            caller.stdin.flush()
        await wait_until(lambda: not family.left(), "everything to be gone")
        await wait_until(lambda: not ((found := look_up(supervisor)) and found.lives), "the supervisor to end")


async def test_an_inner_tree_ends_with_the_outer_one(family: Family) -> None:
    command = [sys.executable, "-c", CALLER, WHOLE_FAMILY, "waits"]
    reader, writer = os.pipe()  # open, so that the inner caller has to wait
    outer = await ProcessTree.start(command, env=family.env, stdin=reader, stdout=subprocess.DEVNULL, grace=0.2)
    await family.has(*ALL)
    outer.kill()
    await end_of(outer)
    os.close(reader)
    os.close(writer)
    assert family.left() == {}


# --- the supervisor ends ------------------------------------------------------------------------------


async def test_a_killed_supervisor_is_said_and_what_can_be_found_is_killed(family: Family) -> None:
    unmarked = f'env -i PATH="$PATH" PIDS="$PIDS" {ONE} unmarked &'
    tree = await shell(f"{unmarked} {WHOLE_FAMILY}", family)
    await family.has("unmarked", *ALL)
    os.kill(supervisor_of(tree), signal.SIGKILL)
    end = await end_of(tree)
    assert (end.returncode, end.proof) == (-signal.SIGKILL, "none")
    assert family.living() == {}


async def test_the_command_does_not_outlive_its_supervisor_and_its_caller(family: Family) -> None:
    with started_caller("waits", family) as caller:
        await family.has(*ALL)
        [supervisor] = supervisors_of(caller.pid)
        os.kill(caller.pid, signal.SIGSTOP)
        os.kill(supervisor, signal.SIGKILL)
        await wait_until(lambda: "main" not in family.living(), "the command to be killed by the kernel")
        os.kill(caller.pid, signal.SIGCONT)
        await wait_until(lambda: not family.living(), "the caller to find the others")


async def test_a_supervisor_that_was_stopped_is_woken(family: Family) -> None:
    tree = await shell(WHOLE_FAMILY, family)
    await family.has(*ALL)
    os.kill(supervisor_of(tree), signal.SIGSTOP)
    tree.terminate(0.1)
    assert (await end_of(tree)).proof == "tree"
    assert family.left() == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTSTP, signal.SIGTERM])
async def test_signals_to_the_supervisor(number: int, family: Family) -> None:
    """SIGTERM ends the tree in order; the others, which a terminal or a careless script sends, do nothing."""
    tree = await shell(WHOLE_FAMILY, family, grace=0.1)
    await family.has(*ALL)
    os.kill(supervisor_of(tree), number)
    if number != signal.SIGTERM:
        tree.terminate(0.2)
    assert await end_of(tree) == ProcessEnd(-signal.SIGTERM, left=0, killed=2, proof="tree")


async def test_a_supervisor_that_fails_leaves_nothing(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = "import broker.worker.reaper.supervisor as it; it.Supervisor._obey = lambda self: 1 / 0"
    monkeypatch.setattr(supervisor_link, "PROGRAM", changed_program(family, changed))
    monkeypatch.setattr(process, "of_lost_tree", lambda *_: [])  # it does so itself
    tree = await shell(WHOLE_FAMILY, family)
    await family.has(*ALL)
    tree.terminate(1000)
    assert (await end_of(tree)).proof == "none"
    await wait_until(lambda: not family.living(), "everything to be gone")


async def test_a_kernel_without_pidfd_will_do(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_link, "PROGRAM", changed_program(family, "import os; del os.pidfd_open"))
    monkeypatch.delattr(os, "pidfd_open")
    tree = await shell(WHOLE_FAMILY, family)
    await family.has(*ALL)
    tree.terminate(0.1)
    assert await end_of(tree) == ProcessEnd(-signal.SIGTERM, left=0, killed=2, proof="tree")
    assert family.left() == {}


async def test_a_supervisor_that_cannot_start_is_an_error(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_link, "PROGRAM", Path("/dev/null"))
    with pytest.raises(RuntimeError, match="supervisor"):
        await shell(MAIN, family)
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(RuntimeError, match=r"sys\.executable"):
        await shell(MAIN, family)
