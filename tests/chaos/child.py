"""What every process of the fleet does first: it ends with its supervisor, and logs into a file."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from tests.chaos.plan import Shape

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Orders:
    """What a process is started with. `began_us` is when run 0 is due, the same for all of them."""

    url: str
    folder: str
    index: int
    worker_id: str
    began_us: int
    ends_us: int
    heartbeat_s: float
    heartbeat_ttl_s: float
    shape: Shape

    def argument(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, argument: str) -> Self:
        fields: dict[str, Any] = json.loads(argument)
        return cls(**{**fields, "shape": Shape(**fields["shape"])})


def run(main: Coroutine[Any, Any, None], name: str, folder: Path) -> None:
    """Runs it until it is done; SIGTERM cancels it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == 1:
        sys.exit("the supervisor has ended")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    logging.basicConfig(filename=folder / f"{name}.log", level=logging.WARNING, format="%(asctime)s %(message)s")
    asyncio.run(_until_told(main))


async def _until_told(main: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(main)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return
