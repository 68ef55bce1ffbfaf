"""The command of the demo in its worker: run by `run_process`, ended by force when it ignores its cancel."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from broker.cli.demo import archive
from broker.cli.demo.directory import Root
from broker.worker.worker import Worker

GRACE_S = 3.0
"""From SIGTERM to SIGKILL."""
KILLED_WITHIN_S = 0.05
"""A process tree that is cancelled a second time is killed at once; the first cancel needs a moment to be heard."""


def can_run() -> bool:
    """Ended for certain are commands only where the kernel lists what is below them."""
    return Path("/proc/self/stat").exists()


async def run(worker: Worker, root: Root, ids: Mapping[str, str], ready: Callable[[], None]) -> int:
    """The command's exit code; `ready` is called when a SIGTERM has become useless. Raises what `run_process` does."""
    command = [sys.executable, "-I", "-S", archive.__file__, root.path, *sorted(root.skip)]
    loop = asyncio.get_running_loop()
    ours, theirs = os.pipe()

    def hear() -> None:
        loop.remove_reader(ours)
        if os.read(ours, 16):
            ready()

    loop.add_reader(ours, hear)
    try:
        return await worker.run_process(
            command,
            run_id=ids["run_id"],
            execution_id=ids["id"],
            parent_execution_id=ids["parent"],
            grace=GRACE_S,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
        )
    finally:
        loop.remove_reader(ours)
        os.close(ours)
        os.close(theirs)


async def kill(task: asyncio.Task[None]) -> None:
    """Ends the command's task, and with it the command, without its grace."""
    for within_s in (KILLED_WITHIN_S, None):
        task.cancel()
        await asyncio.wait([task], timeout=within_s)
        if task.done():
            return
