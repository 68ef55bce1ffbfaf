"""The worker program that is tried, in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from broker.errors import InvalidInput


class Program(Protocol):
    """One that runs."""

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""

    async def kill(self) -> None: ...


Launch = Callable[[Mapping[str, str]], Awaitable[Program]]
"""Starts the program with these variables in its environment, beside those that there are."""


class Process:
    """A process that leads a session of its own, so that what it starts can be ended with it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def code(self) -> int | None:
        return self._process.returncode

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # nothing of it is left
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()


def launcher(command: Sequence[str], *, is_quiet: bool) -> Launch:
    """Starts `command`; what it prints is shown on standard error, or not at all. Raises InvalidInput."""

    async def launch(env: Mapping[str, str]) -> Program:
        out = asyncio.subprocess.DEVNULL if is_quiet else 2
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **env},
                start_new_session=True,
            )
        except OSError as error:
            raise InvalidInput(f"CMD {command[0]!r}: {error.strerror or error}") from error
        return Process(process)

    return launch
