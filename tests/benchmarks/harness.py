"""The processes of a benchmark: spawned, heard from over a pipe, and ended with the block that started them."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from multiprocessing.connection import Connection
from typing import Any

LEAVE_S = 5.0
RECEIVE_S = 300.0

_SPAWN = multiprocessing.get_context("spawn")  # fork would copy the parent's event loop and sockets


class Link:
    """One end of a pipe, read by the event loop. `EOFError` from `receive` means that the other process is gone."""

    def __init__(self, connection: "Connection[Any, Any]", pid: int) -> None:
        self._connection = connection
        self.pid = pid  # of the process at the other end

    def send(self, message: object) -> None:
        self._connection.send(message)

    async def receive(self, timeout_s: float = RECEIVE_S) -> Any:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._connection.fileno(), readable.set)
        try:
            async with asyncio.timeout(timeout_s):
                await readable.wait()
        finally:
            loop.remove_reader(self._connection.fileno())
        try:
            return self._connection.recv()
        except EOFError:
            raise EOFError("the other process has ended; if it failed, its traceback is on stderr") from None

    def close(self) -> None:
        self._connection.close()


Role = Callable[..., Awaitable[None]]  # called with its Link, then the arguments given to `process`


@contextlib.asynccontextmanager
async def process(role: Role, *arguments: object) -> AsyncIterator[Link]:
    """Run `role(link, *arguments)` in a process of its own. Leaving the block ends it: asked first, then killed."""
    ours, theirs = _SPAWN.Pipe()
    child = _SPAWN.Process(target=_child, args=(theirs, role, arguments), daemon=True)
    child.start()
    theirs.close()
    assert child.pid is not None
    link = Link(ours, child.pid)
    try:
        yield link
    finally:
        link.close()  # a role that listens reads the end of the pipe, and leaves
        try:
            await asyncio.to_thread(child.join, LEAVE_S)
        finally:
            child.kill()
            child.join()


def _child(connection: "Connection[Any, Any]", role: Role, arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides who ends when
    with contextlib.suppress(EOFError, BrokenPipeError):
        asyncio.run(_run(Link(connection, os.getppid()), role, arguments))


async def _run(link: Link, role: Role, arguments: tuple[object, ...]) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    asyncio.get_running_loop().add_reader(
        parent.sentinel, os._exit, 1
    )  # the parent was killed: nobody else ends this one
    await role(link, *arguments)
