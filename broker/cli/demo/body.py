"""The body of one execution: hashes the files of one directory, and asks for an execution per sub-directory.

The digest of a directory is the sha256 over the names and digests of what is in it, so a parent really
waits for its children. A cancel is heard at every pause and between two chunks of a file.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from broker.cli.demo.directory import Entry, FileHash, Root, below, list_entries

CLEAN_UP_S = 0.4
"""Every body takes this long to put its work away once it was cancelled, so that `received` can be seen."""
CHILDREN_AT_MOST_S = 0.8
"""A cancelled parent waits so long for its children to put theirs away."""
LASTS_S = 2.0
"""A directory is spread over about this long, however much is in it, so that any tree can be caught in mid-flight."""
HOLDS_S = 5.0
"""The body that is going to swallow its cancel waits at most this long to hear it, and then goes on."""
GOES_ON_S = 2.5
"""How long the body that swallows its cancel goes on."""

Say = Callable[..., None]


class Tally:
    """What this process has hashed since it last said so."""

    def __init__(self) -> None:
        self.files: dict[str, int] = {}
        self.size = 0
        self.unreadable = 0

    def hashed(self, execution_id: str, size: int) -> None:
        self.files[execution_id] = self.files.get(execution_id, 0) + 1
        self.size += size

    def take(self) -> dict[str, Any]:
        taken = {"files": self.files, "size": self.size, "unreadable": self.unreadable}
        self.files, self.size, self.unreadable = {}, 0, 0
        return taken


class Directory:
    """One directory, from its listing to its digest."""

    def __init__(self, execution_id: str, root: Root, relative: str, *, say: Say, tally: Tally) -> None:
        self.execution_id = execution_id
        self.swallows = False
        self._heard = False
        self._root = root
        self._relative = relative
        self._say = say
        self._tally = tally
        self._todo: deque[Entry] = deque()
        self._digests: dict[str, str] = {}
        self._children: dict[str, asyncio.Future[str | None]] = {}
        self._reading: asyncio.Future[bool] | None = None

    async def run(self) -> str | None:
        """The directory's digest; None where not all of it could be hashed."""
        try:
            await self._list()
            await self._crawl()
            digest = await self._collect()
            await self._hold()
            return digest
        except asyncio.CancelledError:
            if not self.swallows:
                await self._clean_up()
                raise
            self._heard = True
            self._say("swallowed", id=self.execution_id)
            await self._go_on()
            return None

    def child_ended(self, child_id: str, digest: str | None) -> None:
        """The control plane says that a child has ended; None is a child without a result."""
        future = self._children.get(child_id)
        if future is not None and not future.done():
            future.set_result(digest)

    async def _list(self) -> None:
        try:
            self._todo.extend(await asyncio.to_thread(list_entries, self._root, self._relative))
        except OSError:
            self._tally.unreadable += 1
            self._digests["."] = "unreadable"
        directories = sum(entry.is_directory for entry in self._todo)
        self._say("listed", id=self.execution_id, files=len(self._todo) - directories, directories=directories)

    async def _crawl(self, ends_at: float = math.inf) -> None:
        """What is done leaves the list, so that a crawl that was interrupted can go on."""
        loop = asyncio.get_running_loop()
        pause_s = min(LASTS_S, ends_at - loop.time()) / (len(self._todo) + 1)
        while self._todo and loop.time() < ends_at:
            await asyncio.sleep(pause_s)
            await self._hold()
            entry = self._todo[0]
            if entry.is_directory:
                self._spawn(entry.name)
            else:
                self._digests[entry.name] = await self._hash(entry.name)
            self._todo.popleft()

    async def _hold(self) -> None:
        """So that the cancel finds this body with work left, however long the cancel takes."""
        if self.swallows and not self._heard:
            await asyncio.sleep(HOLDS_S)
            self._heard = True

    def _spawn(self, name: str) -> None:
        relative = below(self._relative, name)
        self._children[relative] = asyncio.get_running_loop().create_future()
        self._say("spawn", id=self.execution_id, path=relative)

    async def _hash(self, name: str) -> str:
        file = FileHash(self._root.absolute(below(self._relative, name)))
        try:
            done = False
            while not done:
                self._reading = asyncio.ensure_future(asyncio.to_thread(file.step))
                done = await asyncio.shield(self._reading)
        except OSError:
            self._tally.unreadable += 1
            return "unreadable"
        finally:
            # Work has stopped when the thread has: a chunk that is being read is waited for.
            if self._reading is not None and not self._reading.done():
                await asyncio.wait([self._reading])
            file.close()
        self._tally.hashed(self.execution_id, file.size)
        return file.digest

    async def _collect(self) -> str | None:
        self._say("waiting", id=self.execution_id)
        for relative, future in self._children.items():
            digest = await future
            if digest is None:
                return None
            self._digests[relative.rpartition("/")[2] + "/"] = digest
        total = hashlib.sha256()
        for name, digest in sorted(self._digests.items()):
            total.update(os.fsencode(name) + b"\0" + digest.encode() + b"\n")
        return total.hexdigest()

    async def _clean_up(self) -> None:
        """What a body does once it is cancelled: lets its children end first, and puts its own work away."""
        if open_children := [future for future in self._children.values() if not future.done()]:
            await asyncio.wait(open_children, timeout=CHILDREN_AT_MOST_S)
        await asyncio.sleep(CLEAN_UP_S)

    async def _go_on(self) -> None:
        """The bug that this demo is about: an `except` too wide, and the work goes on as if nothing was said."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + GOES_ON_S
        await self._crawl(ends_at)
        if open_children := [future for future in self._children.values() if not future.done()]:
            await asyncio.wait(open_children, timeout=max(0.0, ends_at - loop.time()))
        await asyncio.sleep(max(0.0, ends_at - loop.time()))
