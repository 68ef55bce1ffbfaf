"""Real processes to end: a shell that starts relatives of every kind, each of which writes down its name and pid."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from broker.worker import supervisor_link
from broker.worker.process import ProcessEnd, ProcessTree
from broker.worker.reaper.proc import look_up, read, send
from tests.support.tree import ROOT
from tests.support.wait import wait_until

ONE = """sh -c 'echo "$0 $$" >>"$PIDS"; exec sleep 1000' """
"""Starts a relative whose name follows. It takes over whether SIGTERM is ignored."""

CHILD = f"{ONE} child &"
STUBBORN = f"(trap '' TERM; exec {ONE} stubborn) &"
SESSION = f"setsid {ONE} session &"
DAEMON = f"(trap '' TERM; setsid {ONE} daemon &)"
MAIN = 'echo "main $$" >>"$PIDS"; exec sleep 1000'

ALL = ("child", "stubborn", "session", "daemon", "main")
WHOLE_FAMILY = "\n".join((CHILD, STUBBORN, SESSION, DAEMON, MAIN))


class Family:
    """What a command has written down, and what is left of it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "pids"
        self.file.touch()
        self.env = {**os.environ, "PIDS": str(self.file), "PYTHONPATH": str(ROOT)}

    def words(self) -> list[list[str]]:
        return [line.split() for line in self.file.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def pids(self) -> dict[str, int]:
        return {words[0]: int(words[1]) for words in self.words()}

    async def has(self, *names: str) -> dict[str, int]:
        """Returns when all of these have written down their pids."""
        await wait_until(
            lambda: set(names) <= {words[0] for words in self.words()}, f"{', '.join(names)} to have started"
        )
        return self.pids()

    def left(self) -> dict[str, int]:
        """Those of whom anything exists, a zombie as well."""
        return {name: pid for name, pid in self.pids().items() if look_up(pid) is not None}

    def living(self) -> dict[str, int]:
        """Without zombies: for those that are nobody's to reap but the system's."""
        return {name: pid for name, pid in self.pids().items() if (process := look_up(pid)) and process.lives}

    def kill(self) -> None:
        """For a test that has failed: the next ones, and the machine, are spared what it left."""
        for words in self.words():
            process = look_up(int(words[1])) if words[1].isdigit() else None
            if process is not None and self.is_of(process.pid):
                send(process, signal.SIGKILL)

    def is_of(self, pid: int) -> bool:
        return f"PIDS={self.file}\0".encode() in read(f"/proc/{pid}/environ")


async def shell(script: str, family: Family, **options: float | bool | int) -> ProcessTree:
    return await ProcessTree.start(["sh", "-c", script], env=family.env, **options)  # type: ignore[arg-type]


async def end_of(tree: ProcessTree) -> ProcessEnd:
    return await asyncio.wait_for(tree.wait(), 20)


def supervisor_of(tree: ProcessTree) -> int:
    command = look_up(tree.pid)
    assert command is not None
    return command.parent


CALLER = """
import asyncio, os, pathlib, sys
from broker.worker import supervisor_link
from broker.worker.process import ProcessTree

async def main():
    supervisor_link.PROGRAM = pathlib.Path(os.environ.get("REAPER_PROGRAM", supervisor_link.PROGRAM))
    tree = await ProcessTree.start(["sh", "-c", sys.argv[1]], grace=0.2, foreground=sys.argv[2] == "foreground")
    print(os.getpid(), flush=True)
    if sys.argv[2] == "forks" and os.fork() == 0:
        os.read(0, 1)  # holds a copy of the channel, and outlives the caller
        os._exit(0)
    await asyncio.to_thread(sys.stdin.readline)
    if sys.argv[2] == "raises":
        raise ValueError
    if sys.argv[2] == "block":
        async with tree:
            raise ValueError
    if sys.argv[2] == "exits at once":
        os._exit(0)
    if sys.argv[2] == "becomes another":
        os.execv("/bin/sleep", ["sleep", "1000"])

asyncio.run(main())
"""


def started_caller(manner: str, family: Family) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """A caller of its own, which ends as `manner` says when it gets a line; killed when the block is left."""
    command = [sys.executable, "-W", "ignore", "-c", CALLER, WHOLE_FAMILY, manner]
    return killed_at_the_end(
        subprocess.Popen(
            command,
            env=family.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a stopped process in the group of the tests would be a danger to them
        )
    )


@contextmanager
def killed_at_the_end(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    with process:
        try:
            yield process
        finally:
            process.kill()


def changed_program(family: Family, change: str) -> Path:
    """The supervisor's program with a line that runs before its `main`."""
    program = supervisor_link.PROGRAM
    text = program.read_text(encoding="utf-8").replace("__file__", repr(str(program)))
    text = text.replace("    main(int", f"    {change}\n    main(int")
    changed = family.file.with_name("reaper__main__.py")
    changed.write_text(text, encoding="utf-8")
    return changed
