"""The command of the demo: compresses every file below a directory, again and again, and ignores SIGTERM.

`python -I -S archive.py PATH [SKIPPED NAME ...]`. A real program with a real bug: only SIGKILL ends it. It runs by
itself, without the package; it says `ready` once SIGTERM means nothing to it any more.
"""

from __future__ import annotations

import itertools
import os
import signal
import stat
import sys
import time
import zlib
from collections.abc import Iterator

CHUNK_BYTES = 1 << 20
GZIP = 31  # zlib's word for the format
PAUSE_S = 0.05
"""Between two passes: there may be nothing to compress."""


def main(path: str, *skip: str) -> None:
    """Does not return. Its output, which nobody wants, goes nowhere."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(10)  # the job has the first claim on the processor
    os.write(1, b"ready\n")
    for level in itertools.cycle(range(1, 10)):
        pack(path, frozenset(skip), level)
        time.sleep(PAUSE_S)


def pack(path: str, skip: frozenset[str], level: int) -> int:
    """One pass over all that can be read; answers how many bytes it came to."""
    packer = zlib.compressobj(level, wbits=GZIP)
    with open(os.devnull, "wb", buffering=0) as nowhere:  # noqa: PTH123 - starts twice as fast without pathlib
        written = sum(nowhere.write(packer.compress(chunk)) for chunk in _chunks(path, skip))
        return written + nowhere.write(packer.flush())


def _chunks(path: str, skip: frozenset[str]) -> Iterator[bytes]:
    for folder, directories, files in os.walk(path):
        if folder == path:
            directories[:] = [name for name in directories if name not in skip]
        for name in files:
            try:
                yield from _read(f"{folder}/{name}")
            except OSError:
                continue


def _read(path: str) -> Iterator[bytes]:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while stat.S_ISREG(os.fstat(file).st_mode) and (chunk := os.read(file, CHUNK_BYTES)):
            yield chunk
    finally:
        os.close(file)


if __name__ == "__main__":  # pragma: no cover - in a process of its own, which ends by SIGKILL
    main(*sys.argv[1:])
