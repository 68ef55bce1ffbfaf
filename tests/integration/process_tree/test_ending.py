"""Whatever is below a command is gone when `wait` returns (traps T26, T50)."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading

import pytest

from broker.worker import supervisor_link
from broker.worker.process import ProcessEnd, ProcessTree
from broker.worker.reaper.proc import look_up
from tests.support.family import (
    ALL,
    CHILD,
    DAEMON,
    MAIN,
    ONE,
    SESSION,
    STUBBORN,
    WHOLE_FAMILY,
    Family,
    changed_program,
    end_of,
    shell,
)
from tests.support.wait import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the whole tree is ended on Linux only")


# --- ending by itself ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", -9), ("kill -INT $$", -2)]
)
async def test_the_exit_code_is_the_commands(script: str, code: int, family: Family) -> None:
    assert await end_of(await shell(script, family)) == ProcessEnd(code, left=0, killed=0, proof="tree")


async def test_what_outlives_the_command_is_ended_and_counted(family: Family) -> None:
    tree = await shell(f"{CHILD} {STUBBORN} {DAEMON}\nwhile [ $(wc -l <$PIDS) -lt 3 ]; do :; done", family, grace=0.1)
    end = await end_of(tree)
    assert set(family.pids()) == {"child", "stubborn", "daemon"}
    assert family.left() == {}
    assert end == ProcessEnd(0, left=3, killed=2, proof="tree")
    assert end.forced


async def test_what_ends_by_itself_soon_after_the_command_is_let(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = "import broker.worker.reaper.supervisor as it; it.LINGER_S = 20"
    monkeypatch.setattr(supervisor_link, "PROGRAM", changed_program(family, patient))
    end = await end_of(await shell("(sleep 0.3; echo last word >>$PIDS) & exit 4", family))
    assert family.words() == [["last", "word"]]
    assert end == ProcessEnd(4, left=0, killed=0, proof="tree")


# --- being ended --------------------------------------------------------------------------------------


async def test_sigterm_reaches_every_relative(family: Family) -> None:
    tree = await shell(f"{CHILD} {SESSION} ({ONE} orphan &)\n{MAIN}", family)
    await family.has("child", "session", "orphan", "main")
    tree.terminate(30)
    assert await end_of(tree) == ProcessEnd(-signal.SIGTERM, left=0, killed=0, proof="tree")
    assert family.left() == {}


async def test_after_the_grace_whatever_ignored_it_is_killed(family: Family) -> None:
    tree = await shell(WHOLE_FAMILY, family)
    await family.has(*ALL)
    tree.terminate(0.2)
    end = await end_of(tree)
    assert family.left() == {}
    assert end == ProcessEnd(-signal.SIGTERM, left=0, killed=2, proof="tree")


async def test_kill_ends_all_at_once(family: Family) -> None:
    tree = await shell(WHOLE_FAMILY, family)
    await family.has(*ALL)
    tree.kill()
    end = await end_of(tree)
    assert family.left() == {}
    assert end == ProcessEnd(-signal.SIGKILL, left=0, killed=5, proof="tree")


@pytest.mark.parametrize("graces", [(1000, 0.05), (0.05, 1000), (0.05, 0.05), (float("inf"), 0)])
async def test_a_second_call_can_only_shorten_the_grace(graces: tuple[float, float], family: Family) -> None:
    tree = await shell(f"trap '' TERM; {MAIN}", family)
    await family.has("main")
    for grace in graces:
        tree.terminate(grace)
    assert (await end_of(tree)).returncode == -signal.SIGKILL
    tree.terminate(1)
    tree.kill()


async def test_calls_after_the_sigkill_change_nothing(family: Family) -> None:
    tree = await shell(WHOLE_FAMILY, family)
    await family.has(*ALL)
    for _ in range(50):
        tree.kill()
        tree.terminate(1000)
    assert (await end_of(tree)).killed == 5


@pytest.mark.parametrize("before", ["", "exec"])
async def test_what_a_cleanup_starts_or_becomes_is_not_hit(before: str, family: Family) -> None:
    script = f"""
        trap '{before} sh -c "sleep 0.3; echo cleaned up >>$PIDS; exit 3"; exit 3' TERM
        sleep 1000 & echo "main $$" >>"$PIDS"; wait
    """
    tree = await shell(script, family)
    await family.has("main")
    tree.terminate(20)
    assert await end_of(tree) == ProcessEnd(3, left=0, killed=0, proof="tree")
    assert family.words()[-1] == ["cleaned", "up"]


async def test_an_orphan_that_missed_the_sigterm_is_told_too(family: Family) -> None:
    """What was born while all were being told gets its SIGTERM when its parent is gone."""
    script = """
        late() { sh -c 'echo "late $$" >>"$PIDS"; exec sleep 1000' & exit 0; }
        trap late TERM; sleep 1000 & echo "main $$" >>"$PIDS"; wait
    """
    tree = await shell(script, family)
    await family.has("main")
    tree.terminate(60)
    assert await end_of(tree) == ProcessEnd(0, left=0, killed=0, proof="tree")
    assert family.left() == {}


async def test_a_sigterm_lost_before_an_exec_is_sent_again(family: Family) -> None:
    """What a shell has forked runs the shell's handler until its exec: it took the SIGTERM and forgot it."""
    script = """
        sh -c 'trap : TERM; sleep 1000 & echo "early $$" >>"$PIDS"; wait; exec sleep 1000' &
        trap 'exit 0' TERM; echo "main $$" >>"$PIDS"; wait
    """
    tree = await shell(script, family)
    await family.has("early", "main")
    tree.terminate(60)
    assert await end_of(tree) == ProcessEnd(0, left=0, killed=0, proof="tree")
    assert family.left() == {}


async def test_a_stopped_process_hears_the_sigterm(family: Family) -> None:
    tree = await shell('echo "main $$" >>$PIDS; kill -STOP $$; exec sleep 1000', family)
    pid = (await family.has("main"))["main"]
    await wait_until(lambda: (found := look_up(pid)) and found.state == b"T", "the command to stop")
    tree.terminate(60)
    assert await end_of(tree) == ProcessEnd(-signal.SIGTERM, left=0, killed=0, proof="tree")


async def test_twenty_at_once(family: Family) -> None:
    names = [f"n{number}" for number in range(20)]
    threads = threading.active_count()
    trees = await asyncio.gather(
        *(shell(f"{ONE} {name} & trap '' TERM; setsid {ONE} {name}s & wait", family) for name in names)
    )
    await family.has(*names, *(f"{name}s" for name in names))
    assert threading.active_count() == threads
    for tree in trees:
        tree.terminate(0.3)
    ends = await asyncio.gather(*map(end_of, trees))
    assert {end.proof for end in ends} == {"tree"}
    assert all(end.forced for end in ends)
    assert family.left() == {}


# --- leaving the block --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [None, ValueError, asyncio.CancelledError])
async def test_leaving_the_block_ends_the_tree(error: type[BaseException] | None, family: Family) -> None:
    seen = None
    try:
        async with await shell(WHOLE_FAMILY, family, grace=0.1):
            await family.has(*ALL)
            if error is not None:
                raise error
    except BaseException as caught:  # noqa: BLE001 - it is looked at below
        seen = type(caught)
    assert seen is error
    assert family.left() == {}


async def test_cancelled_while_it_leaves_it_kills_and_still_waits(family: Family) -> None:
    left = asyncio.Event()

    async def body() -> None:
        async with await shell(WHOLE_FAMILY, family, grace=1000):
            await family.has(*ALL)
            left.set()

    task = asyncio.create_task(body())
    await left.wait()
    await wait_until(lambda: "main" not in family.living(), "the SIGTERM")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(task), 20)
    assert family.left() == {}


async def test_a_cancelled_wait_leaves_the_tree_alone(family: Family) -> None:
    async with await shell(MAIN, family, grace=0.1) as tree:
        await family.has("main")
        waiting = asyncio.create_task(tree.wait())
        await asyncio.wait([waiting], timeout=0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert family.living() == {"main": tree.pid}


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 50])
async def test_a_cancelled_start_leaves_nothing(turns: int, family: Family) -> None:
    big = {**family.env, "BIG": "x" * 100_000}
    task = asyncio.create_task(ProcessTree.start(["sh", "-c", MAIN], env=big, grace=0.1))
    for _ in range(turns):
        await asyncio.wait([task], timeout=0.002)
    if not task.done():
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        async with task.result():
            pass
    assert family.left() == {}
