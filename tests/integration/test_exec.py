"""`broker exec` as a user calls it: from a shell, in a pipeline, at a terminal; and nothing is left after it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import broker
from broker.worker.reaper.proc import processes, read
from tests.support.backends import Capability
from tests.support.family import CHILD, MAIN, SESSION, STUBBORN, WHOLE_FAMILY, Family
from tests.support.parts import Parts
from tests.support.wait import wait_until, wait_until_sync

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the whole tree is ended on Linux only")
same_on_all = pytest.mark.needs(Capability.OWN_PROCESS)
"""What a process does with its signals, its terminal and its exit code has nothing to do with the kind of Redis."""

EXEC = (sys.executable, "-m", "broker", "exec")
RUN = ("--run-id", "run-1")
JOB = (*RUN, "--execution-id", "job")
NOWHERE = "redis://127.0.0.1:1/0"

CTRL_C = b"\x03"
TIDIES_UP = """
trap 'echo "asked $$" >>"$PIDS"; until [ -e "$PIDS.go" ]; do sleep 0.01; done; echo tidied; exit 0' INT TERM
echo "main $$" >>"$PIDS"
while :; do sleep 0.01; done
"""
"""Wants to end properly, which takes until the file `$PIDS.go` is there."""


class Shell:
    """Where `broker exec` is called: with this Redis, and with a mark in the environment of all that it starts."""

    def __init__(self, url: str, folder: Path) -> None:
        self.family = Family(folder)
        kept = {name: value for name, value in self.family.env.items() if not name.startswith("BROKER_")}
        self.env = {**kept, "BROKER_REDIS_URL": url, "EXEC": " ".join(EXEC)}
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *words: str, before: tuple[str, ...] = (), stdin: int = subprocess.DEVNULL) -> Call:
        process = subprocess.Popen(
            [*before, *EXEC, *words],
            env=self.env,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return Call(process, self)

    async def run(self, *words: str, before: tuple[str, ...] = ()) -> tuple[int, str, str]:
        return await self.start(*words, before=before).end()

    async def has(self, *names: str) -> None:
        """As `Family.has`, with time for a Python that starts, or two, on a busy machine."""
        await wait_until(lambda: set(names) <= set(self.family.pids()), f"{', '.join(names)} to have started", 40)

    def go(self) -> None:
        self.family.file.with_name("pids.go").touch()

    def living(self) -> list[int]:
        mark = f"PIDS={self.family.file}\0".encode()
        return [one.pid for one in processes() if one.lives and mark in read(f"/proc/{one.pid}/environ")]


class Call:
    """One `broker exec` that runs."""

    def __init__(self, process: subprocess.Popen[str], shell: Shell) -> None:
        self.process, self.shell = process, shell

    async def end(self) -> tuple[int, str, str]:
        """Exit code, output and errors; and when it has ended nothing is left, not a moment later."""
        out, err = await asyncio.to_thread(self.process.communicate, timeout=30)
        assert self.shell.living() == []
        return self.process.returncode, out, err


@pytest.fixture
def plain_shell(tmp_path: Path) -> Iterator[Shell]:
    """Without a Redis."""
    yield from _open(NOWHERE, tmp_path)


@pytest.fixture
def shell(redis_url: str, tmp_path: Path) -> Iterator[Shell]:
    yield from _open(redis_url, tmp_path)


def _open(url: str, folder: Path) -> Iterator[Shell]:
    opened = Shell(url, folder)
    yield opened
    for process in opened.started:
        process.kill()
        process.communicate()
    wait_until_sync(lambda: not opened.living(), "everything that broker exec started to be gone")


# --- as if the shell had started it -------------------------------------------------------------------


@same_on_all
@pytest.mark.parametrize(
    ("script", "code", "out", "err", "status"),
    [
        ("cat; echo out; echo err >&2", 0, "out\n", "err\n", "succeeded"),
        ("exit 3", 3, "", "", "failed"),
        ("kill -KILL $$", 128 + signal.SIGKILL, "", "", "failed"),
        (f"{CHILD} {SESSION} {STUBBORN} echo main; exit 5", 5, "main\n", "", "failed"),
    ],
)
async def test_output_and_exit_code_are_the_programs(
    script: str, code: int, out: str, err: str, status: str, shell: Shell, parts: Parts
) -> None:
    assert await shell.run(*JOB, "--grace", "0.2", "--", "sh", "-c", script) == (code, out, err)
    assert await parts.status("run-1", "job") == status


@same_on_all
async def test_in_a_pipeline_it_ends_when_nobody_reads_any_more(shell: Shell) -> None:
    script = "echo in | { $EXEC --run-id run-1 -- sh -c 'cat; yes'; echo $? >&2; } | head -2"
    piped = await asyncio.to_thread(
        subprocess.run, ["sh", "-c", script], env=shell.env, capture_output=True, text=True, check=True
    )
    assert (piped.stdout, piped.stderr) == ("in\ny\n", f"{128 + signal.SIGPIPE}\n")
    assert shell.living() == []


@same_on_all
async def test_what_is_ignored_stays_ignored(shell: Shell) -> None:
    code, out, _ = await shell.run(*RUN, "--", "grep", "SigIgn", "/proc/self/status", before=("nohup",))
    assert code == 0
    assert int(out.split()[1], 16) & 1 << signal.SIGHUP - 1


async def test_a_nested_call_finds_its_parent(shell: Shell, b: broker.Broker) -> None:
    """And is a worker of its own, whatever the outer one is called."""
    shell.env["BROKER_WORKER_ID"] = "pod-7"
    inner = f"exec $EXEC --execution-id inner -- sh -c '{MAIN.replace(chr(39), '')}'"
    call = shell.start(*JOB, "--redis-url", shell.env.pop("BROKER_REDIS_URL"), "--", "sh", "-c", inner)
    await shell.has("main")
    report = await b.cancel_run("run-1", wait=20)
    assert [(one.execution_id, one.depth) for one in report.nodes] == [("inner", 1), ("job", 0)]
    assert (await call.end())[0] == 143


@same_on_all
@pytest.mark.parametrize("enclosing", ["run-1", "@lone"])
async def test_a_parent_of_another_run_is_no_parent(enclosing: str, shell: Shell, b: broker.Broker) -> None:
    shell.env |= {"BROKER_RUN_ID": enclosing, "BROKER_EXECUTION_ID": "around"}
    run = ("--run-id", "run-2") if enclosing == "run-1" else ()
    call = shell.start(*run, "--execution-id", "job", "--", "sh", "-c", MAIN)
    await shell.has("main")
    report = await b.cancel_execution("job", wait=20)
    assert report.settled
    assert [(one.execution_id, one.depth) for one in report.nodes] == [("job", 0)]
    assert (await call.end())[0] == 143


# --- cancelled ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "disposition"), [(f"{CHILD} {SESSION} {MAIN}", "stopped"), (WHOLE_FAMILY, "killed")]
)
async def test_a_cancel_ends_all_of_it(script: str, disposition: str, shell: Shell, b: broker.Broker) -> None:
    call = shell.start(*JOB, "--grace", "0.3", "--", "sh", "-c", script)
    await shell.has("child", "session", "main")
    report = await b.cancel_run("run-1", reason="enough", requested_by="ann", wait=20)
    assert report.settled
    assert report.dispositions[disposition] == 1
    line = "broker exec: execution job was cancelled (cancel_tree by ann): enough\n"
    assert await call.end() == (143, "", line)
    assert shell.family.left() == {}


async def test_cancelled_before_the_start_it_never_runs(shell: Shell, b: broker.Broker) -> None:
    await b.register("run-1", [broker.Execution("job")])
    await b.cancel_run("run-1", reason="no need")
    line = "broker exec: execution job was cancelled (cancel_tree): no need\n"
    assert await shell.run(*JOB, "--", "echo", "ran") == (143, "", line)


async def test_a_cancel_does_not_cut_short_what_sigterm_began(shell: Shell, b: broker.Broker) -> None:
    """A tree that is ended from above hears of it twice: from the program around it, and from the broker."""
    call = shell.start(*JOB, "--grace", "100", "--", "sh", "-c", TIDIES_UP)
    await shell.has("main")
    call.process.terminate()
    await shell.has("asked")
    await b.cancel_run("run-1")

    async def told() -> bool:
        return (await b.report("run-1")).dispositions.get("received") == 1

    await wait_until(told, "the cancel to be received", 40)
    shell.go()
    code, out, _ = await call.end()
    assert (code, out) == (143, "tidied\n")
    assert (await b.cancel_run("run-1", wait=20)).dispositions["stopped"] == 1


# --- signals ------------------------------------------------------------------------------------------


@same_on_all
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_to_it_ends_the_tree(number: signal.Signals, shell: Shell, parts: Parts) -> None:
    call = shell.start(*JOB, "--grace", "0.2", "--", "sh", "-c", WHOLE_FAMILY)
    await shell.has("child", "stubborn", "session", "daemon", "main")
    call.process.send_signal(number)
    line = f"broker exec: execution job was ended by {number.name}\n"
    assert await call.end() == (128 + number, "", line)
    assert shell.family.left() == {}
    assert await parts.status("run-1", "job") == "cancelled"


class Terminal:
    """A call in the foreground of a terminal of its own."""

    def __init__(self, shell: Shell, *words: str) -> None:
        self.keys, theirs = os.openpty()
        self.call = shell.start(*words, before=("setsid", "--ctty"), stdin=theirs)
        os.close(theirs)

    def press(self, key: bytes) -> None:
        os.write(self.keys, key)

    async def end(self) -> tuple[int, str, str]:
        try:
            return await self.call.end()
        finally:
            os.close(self.keys)


@same_on_all
async def test_ctrl_c_ends_the_program_and_what_it_started(shell: Shell) -> None:
    terminal = Terminal(shell, *JOB, "--", "sh", "-c", f"{CHILD} {SESSION} {MAIN}")
    await shell.has("child", "session", "main")
    terminal.press(CTRL_C)
    assert await terminal.end() == (130, "", "")
    assert shell.family.left() == {}


@same_on_all
async def test_after_ctrl_c_the_program_may_tidy_up(shell: Shell) -> None:
    terminal = Terminal(shell, *JOB, "--", "sh", "-c", TIDIES_UP)
    await shell.has("main")
    terminal.press(CTRL_C)
    await shell.has("asked")
    shell.go()
    assert await terminal.end() == (130, "tidied\n", "")


@same_on_all
async def test_a_program_that_ignores_ctrl_c_is_ended_after_the_grace_time(shell: Shell) -> None:
    terminal = Terminal(shell, *JOB, "--grace", "0.2", "--", "sh", "-c", f"trap '' INT TERM; {MAIN}")
    await shell.has("main")
    terminal.press(CTRL_C)
    assert await terminal.end() == (130, "", "")


@same_on_all
async def test_ctrl_c_again_does_not_wait(shell: Shell) -> None:
    terminal = Terminal(shell, *JOB, "--grace", "1000", "--", "sh", "-c", f"trap '' INT TERM; {MAIN}")
    await shell.has("main")

    def ended() -> bool:
        terminal.press(CTRL_C)
        return shell.living() == []

    await wait_until(ended, "the end after some Ctrl-C")
    assert (await terminal.end())[0] == 130


async def test_ctrl_c_before_the_start_means_no_start(plain_shell: Shell) -> None:
    """It is sent as soon as it is heard, while Redis is a server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        call = plain_shell.start(*JOB, "--redis-url", url, "--", "echo", "ran")
        connection, _ = await asyncio.to_thread(server.accept)
        with connection:
            call.process.send_signal(signal.SIGINT)
            assert await call.end() == (130, "", "")


@same_on_all
async def test_killed_itself_it_leaves_nothing(shell: Shell) -> None:
    call = shell.start(*JOB, "--grace", "0.2", "--", "sh", "-c", WHOLE_FAMILY)
    await shell.has("child", "stubborn", "session", "daemon", "main")
    call.process.kill()
    await wait_until(lambda: not shell.living(), "the end of everything below it")


# --- what cannot be run -------------------------------------------------------------------------------


@same_on_all
@pytest.mark.parametrize(
    ("command", "code", "why"),
    [("no-such-command", 127, "No such file or directory"), ("/etc/passwd", 126, "Permission denied")],
)
async def test_a_command_that_cannot_be_started(command: str, code: int, why: str, shell: Shell, parts: Parts) -> None:
    assert await shell.run(*JOB, "--", command) == (code, "", f"broker exec: {command}: {why}\n")
    assert await parts.status("run-1", "job") == "failed"


async def test_one_body_at_a_time_and_none_after_the_end(shell: Shell) -> None:
    call = shell.start(*JOB, "--", "sh", "-c", MAIN)
    await shell.has("main")
    second = shell.start(*JOB, "--", "echo", "ran")
    out, err = await asyncio.to_thread(second.process.communicate)
    assert (second.process.returncode, out, err.count("\n")) == (1, "", 1)
    assert "broker exec: execution job is held by worker" in err
    os.kill(shell.family.pids()["main"], signal.SIGTERM)
    assert (await call.end())[0] == 143
    line = "broker exec: execution job is in terminal state 'failed'\n"
    assert await shell.run(*JOB, "--", "echo", "ran") == (5, "", line)


@pytest.mark.parametrize(
    ("words", "code", "word"),
    [
        ((*JOB, "--", "echo", "ran"), 6, "Redis"),
        ((*JOB, "--redis-url", "embedded://", "--", "echo", "ran"), 2, "embedded://"),
        (("--run-id", "no id", "--", "echo", "ran"), 2, "--run-id"),
        ((*JOB, "--grace", "nan", "--", "echo", "ran"), 2, "--grace"),
    ],
)
async def test_what_stands_in_the_way_is_one_line(
    words: tuple[str, ...], code: int, word: str, plain_shell: Shell
) -> None:
    left_with, out, err = await plain_shell.run(*words)
    assert (left_with, out, err.count("\n")) == (code, "", 1)
    assert err.startswith("broker exec: ")
    assert word in err


async def test_usage(plain_shell: Shell) -> None:
    code, out, err = await plain_shell.run(*JOB)
    assert (code, out) == (2, "")
    assert "CMD" in err
    code, out, _ = await plain_shell.run("--help")
    assert code == 0
    assert "broker exec --run-id nightly --execution-id train -- ./train.sh" in out
