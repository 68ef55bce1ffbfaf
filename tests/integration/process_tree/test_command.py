"""What the command sees is what it would see without a supervisor; and what cannot be started is said."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from broker.worker import process
from broker.worker.process import MARK, ProcessEnd, ProcessTree
from tests.support.family import (
    ALL,
    CHILD,
    MAIN,
    SESSION,
    STUBBORN,
    WHOLE_FAMILY,
    Family,
    end_of,
    killed_at_the_end,
    shell,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the whole tree is ended on Linux only")


def all_of(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


# --- what the command sees ----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["no-such-command", "/no/such/file", "text", "./text", "./odd"])
async def test_a_command_that_cannot_start_is_subprocess_error(command: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not executable")
    (tmp_path / "odd").write_text("no format that anybody knows")
    (tmp_path / "odd").chmod(0o755)
    env = {"PATH": f"/no/such/folder:{tmp_path}:/bin"}
    with pytest.raises(OSError, match=command) as plain:
        subprocess.run([command], check=False, env=env, cwd=tmp_path)
    with pytest.raises(OSError, match=command) as raised:
        await ProcessTree.start([command], env=env, cwd=tmp_path)
    assert type(raised.value) is type(plain.value)
    assert raised.value.errno == plain.value.errno


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        await ProcessTree.start(["true"], cwd=tmp_path / "none")
    assert str(raised.value.filename) == str(tmp_path / "none")


@pytest.mark.parametrize(
    "script",
    [
        "grep -E '^Sig[BIC]' /proc/self/status",
        "ls /proc/self/fd",
        "pwd",
        "cat",
        "env -u BROKER_PROCESS_TREE | sort | grep -v ^_=",
    ],
)
@pytest.mark.parametrize("env", [{"PATH": os.environ["PATH"], "LC_ALL": "C", "ODD": "ä=\n"}, dict(os.environ)])
async def test_the_command_sees_what_a_plain_child_would(script: str, env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "in"
    file.write_text("input\n")
    command = ["sh", "-c", script]
    with file.open() as stdin:
        plain = subprocess.run(command, env=env, stdin=stdin, cwd=tmp_path, capture_output=True, check=True).stdout
    with file.open() as stdin, (tmp_path / "out").open("w+b") as stdout:
        tree = await ProcessTree.start(command, env=env, stdin=stdin, stdout=stdout, cwd=tmp_path)
        assert (await end_of(tree)).returncode == 0
    assert (tmp_path / "out").read_bytes() == plain


async def test_much_output_passes_through_a_pipe(family: Family) -> None:
    reader, writer = os.pipe()
    tree = await ProcessTree.start(
        ["sh", "-c", "head -c 20000000 /dev/zero; echo end >&2"], stdout=writer, stderr=writer
    )
    os.close(writer)
    data = await asyncio.to_thread(all_of, reader)
    assert (await end_of(tree)).returncode == 0
    assert len(data) == 20_000_004
    assert data.endswith(b"\0end\n")


async def test_a_reader_sees_the_end_of_the_output_while_the_command_lives(family: Family) -> None:
    reader, writer = os.pipe()
    async with await shell(f"exec >&-; {MAIN}", family, stdout=writer, grace=0.1):
        os.close(writer)
        assert await asyncio.to_thread(all_of, reader) == b""
        await family.has("main")
        assert "main" in family.living()


async def test_the_mark_names_the_trees_around(family: Family) -> None:
    family.env[MARK] = "outer"
    assert (await end_of(await shell(f'echo "x 1 ${MARK}" >>$PIDS', family))).returncode == 0
    outer, inner = family.words()[0][2].split(":")
    assert (outer, len(inner)) == ("outer", 16)


# --- in a terminal ------------------------------------------------------------------------------------

AT_A_TERMINAL = """
import asyncio, fcntl, os, signal, sys, termios
from broker.worker.process import ProcessTree

async def main():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, print, "caller heard it")
    tree = await ProcessTree.start(["sh", "-c", sys.argv[1]], foreground=True, grace=0.2)
    end = await tree.wait()
    print("ended", end.returncode, end.left, flush=True)

asyncio.run(main())
"""


async def test_ctrl_c_and_the_terminals_input_reach_a_command_in_the_foreground(family: Family) -> None:
    ours, theirs = os.openpty()
    script = f'read word; echo "$word $$" >>"$PIDS"; {CHILD} {SESSION} {MAIN}'
    command = [sys.executable, "-c", AT_A_TERMINAL, script]
    caller = subprocess.Popen(command, env=family.env, stdin=theirs, stdout=subprocess.PIPE, start_new_session=True)
    with killed_at_the_end(caller):
        os.close(theirs)
        os.write(ours, b"typed\n")
        await family.has("typed", "child", "session", "main")
        os.write(ours, b"\x03")
        assert caller.stdout is not None
        output = await asyncio.to_thread(caller.stdout.read)
    os.close(ours)
    assert output.decode().splitlines() == ["caller heard it", "ended -2 2"]  # a script's `&` ignores Ctrl-C
    assert family.left() == {}


WITH_A_STOPPED_NEIGHBOUR = """
import asyncio, os, signal, subprocess
from broker.worker.process import ProcessTree

async def main():
    neighbour = subprocess.Popen(["sleep", "1000"])
    os.kill(neighbour.pid, signal.SIGSTOP)
    os.waitpid(neighbour.pid, os.WUNTRACED)
    tree = await ProcessTree.start(["true"], foreground=True)
    assert (await tree.wait()).returncode == 0
    neighbour.kill()
    neighbour.wait()

asyncio.run(main())
"""


async def test_a_tree_in_the_foreground_brings_no_hang_up_to_its_group(family: Family) -> None:
    """Two groups of one session that are parent and child, one ends, somebody is stopped: the kernel sends SIGHUP."""
    command = [sys.executable, "-c", WITH_A_STOPPED_NEIGHBOUR]
    caller = subprocess.Popen(command, env=family.env, stdin=subprocess.DEVNULL, start_new_session=True)
    with killed_at_the_end(caller):
        assert await asyncio.to_thread(caller.wait, 20) == 0


async def test_in_the_foreground_only_the_tree_is_signalled(family: Family) -> None:
    tree = await shell(WHOLE_FAMILY, family, foreground=True)
    await family.has(*ALL)
    assert os.getpgid(tree.pid) == os.getpgrp()
    tree.terminate(0.1)
    assert (await end_of(tree)).killed == 2
    assert family.left() == {}


# --- the fallback, and refusals -----------------------------------------------------------------------


async def test_without_a_subreaper_the_group_is_ended_and_no_more_is_claimed(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "WHOLE_TREE", False)
    tree = await shell("\n".join((CHILD, STUBBORN, SESSION, MAIN)), family, foreground=True)
    pids = await family.has("child", "stubborn", "session", "main")
    assert os.getpgid(tree.pid) == tree.pid
    tree.terminate(0.1)
    assert await end_of(tree) == ProcessEnd(-signal.SIGTERM, left=0, killed=1, proof="group")
    assert family.living() == {"session": pids["session"]}
    os.kill(pids["session"], signal.SIGKILL)


@pytest.mark.parametrize("error", [ValueError])
async def test_what_makes_no_command_is_refused(error: type[Exception]) -> None:
    for argv in ([], ["a\0b"]):
        with pytest.raises(error):
            await ProcessTree.start(argv)
    for env in ({"A": "a\0b"}, {"A=B": "c"}, {"": "c"}):
        with pytest.raises(error):
            await ProcessTree.start(["true"], env=env)
    for grace in (-1.0, float("nan")):
        with pytest.raises(error):
            await ProcessTree.start(["true"], grace=grace)
    with pytest.raises(error, match=r"os\.pipe"):
        await ProcessTree.start(["true"], stdout=subprocess.PIPE)
    with pytest.raises(TypeError):
        await ProcessTree.start("true")
