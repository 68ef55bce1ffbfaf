"""What the bodies wrote, and when the processes that ran them died: what really happened, whoever says what."""

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

LOOK_S = 0.02


@dataclass(frozen=True)
class Line:
    """One event of a body: `start`, or `stop` when it left its work."""

    event: str
    task: int
    pid: int
    at_ns: int

    @classmethod
    def parse(cls, text: str) -> Self:
        event, task, pid, at_ns = text.split()
        return cls(event, int(task), int(pid), int(at_ns))


def stops_ns(lines: list[Line], deaths_ns: dict[int, int]) -> dict[int, int]:
    """When each task that runs no more stopped, by its last start: its own word, else its process's death."""
    stopped: dict[int, int] = {}
    running: dict[int, int] = {}
    for line in lines:
        if line.event == "start":
            running[line.task] = line.pid
            stopped.pop(line.task, None)
        else:
            running.pop(line.task, None)
            stopped[line.task] = line.at_ns
    return stopped | {task: deaths_ns[pid] for task, pid in running.items() if pid in deaths_ns}


class Journal:
    """The file that the bodies write to, and a descriptor for each process that wrote. On exit these are killed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[Line] = []
        self.deaths_ns: dict[int, int] = {}
        self._read_to = 0
        self._processes: dict[int, int] = {}

    async def __aenter__(self) -> Self:
        self.path.touch()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.look()
        self.kill_all()
        for pid in list(self._processes):
            self._forget(pid)

    def look(self) -> None:
        """Reads the lines that are new; a process that is new is watched from now on."""
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for text in whole.decode().splitlines():
            line = Line.parse(text)
            self.lines.append(line)
            if line.pid not in self._processes and line.pid not in self.deaths_ns:
                self._watch(line)

    def stops_ns(self) -> dict[int, int]:
        return stops_ns(self.lines, self.deaths_ns)

    def ended_by_death(self) -> set[int]:
        """The tasks whose stop is the death of their process, seen from outside and therefore late."""
        return set(self.stops_ns()) - set(stops_ns(self.lines, {}))

    def started(self) -> set[int]:
        return {line.task for line in self.lines if line.event == "start"}

    def starts_after(self, at_ns: int) -> set[int]:
        return {line.task for line in self.lines if line.event == "start" and line.at_ns > at_ns}

    async def until_started(self, tasks: int, timeout_s: float) -> None:
        """Raises TimeoutError, with how many runs there were, when not all have."""
        try:
            async with asyncio.timeout(timeout_s):
                while len(self.started()) < tasks:
                    await asyncio.sleep(LOOK_S)
                    self.look()
        except TimeoutError:
            raise TimeoutError(f"{len(self.started())} of {tasks} tasks ran after {timeout_s:g} s") from None

    async def until_stopped(self, tasks: int, timeout_s: float) -> bool:
        """False where some still run when the time is over."""
        end_s = time.monotonic() + timeout_s
        self.look()
        while len(self.stops_ns()) < tasks and time.monotonic() < end_s:
            await asyncio.sleep(LOOK_S)
            self.look()
        return len(self.stops_ns()) == tasks

    def kill_all(self) -> None:
        """SIGKILL to every process that ever wrote and lives."""
        for process in self._processes.values():
            signal.pidfd_send_signal(process, signal.SIGKILL)

    def _watch(self, line: Line) -> None:
        try:
            process = os.pidfd_open(line.pid)
        except ProcessLookupError:
            self.deaths_ns[line.pid] = time.monotonic_ns()
            return
        self._processes[line.pid] = process
        asyncio.get_running_loop().add_reader(process, self._died, line.pid)

    def _died(self, pid: int) -> None:
        self.deaths_ns[pid] = time.monotonic_ns()
        self._forget(pid)

    def _forget(self, pid: int) -> None:
        process = self._processes.pop(pid)
        asyncio.get_running_loop().remove_reader(process)
        os.close(process)
