"""Real processes to end: a shell that starts relatives of every kind, each of which writes down its name and pid."""

from __future__ import annotations

import os
from pathlib import Path

from broker.worker.reaper.proc import look_up
from tests.support.tree import ROOT
from tests.support.wait import wait_until

ONE = """sh -c 'echo "$0 $$" >>"$PIDS"; exec sleep 1000' """
"""Starts a relative whose name follows. It takes over whether SIGTERM is ignored."""

CHILD = f"{ONE} child &"
STUBBORN = f"(trap '' TERM; exec {ONE} stubborn) &"
SESSION = f"setsid {ONE} session &"
DAEMON = f"(trap '' TERM; setsid {ONE} daemon &)"
MAIN = 'echo "main $$" >>"$PIDS"; exec sleep 1000'


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
