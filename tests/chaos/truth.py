"""Ground truth: what processes really did, each in a file of its own, written through before the next step.

A line is a JSON array: microseconds since 1970 (the clock that Redis on this machine reads, too), number in the
file, word, and what belongs to the word. A line that a kill has cut in half is no line.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self


def now_us() -> int:
    return time.time_ns() // 1000


class Line(NamedTuple):
    """`where` names the file."""

    where: str
    at_us: int
    number: int
    word: str
    rest: tuple[Any, ...]

    def show(self) -> str:
        return f"{self.at_us / 1e6:.6f} {self.where}#{self.number} {self.word} {' '.join(map(str, self.rest))}"


class TruthFile:
    """Appended to by one process, from any of its threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._lock = threading.Lock()
        self._number = 0

    def write(self, word: str, *rest: object, at_us: int | None = None) -> int:
        """One line in one write, so nothing of it waits in this process; answers its stamp."""
        with self._lock:
            at_us = now_us() if at_us is None else at_us
            self._number += 1
            line = json.dumps([at_us, self._number, word, *rest], separators=(",", ":"))
            os.write(self._descriptor, f"{line}\n".encode())
        return at_us

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_lines(folder: Path) -> Iterator[Line]:
    """All lines of all files of a folder, file by file."""
    for path in sorted(folder.glob("*.jsonl")):
        yield from read_file(path)


def read_file(path: Path) -> Iterator[Line]:
    """The lines of one file, none where it does not exist."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for raw in text.splitlines():
        try:
            at_us, number, word, *rest = json.loads(raw)
        except ValueError:
            continue
        yield Line(path.stem, int(at_us), int(number), str(word), tuple(rest))
