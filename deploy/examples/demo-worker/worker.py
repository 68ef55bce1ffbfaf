"""A worker for the demo deployment: hashes the files below /usr/lib, over and over, until its run is cancelled.

One execution for the process, and below it one for each of four threads, which look for their cancel between two
blocks. Its id is its container's, which a restart keeps: so the restart after a crash proves that the work is gone.

    BROKER_REDIS_URL=redis://127.0.0.1:6379/0 DEMO_RUN=demo python deploy/examples/demo-worker/worker.py
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import sys
from pathlib import Path

import broker

FOLDER = Path("/usr/lib")
THREADS = 4
BLOCK_BYTES = 64 * 1024
PAUSE_S = 0.02  # about 3 MB/s a thread: a demo leaves the machine to others


def hash_files(paths: list[Path]) -> None:
    """Never ends by itself. Raises ExecutionCancelled."""
    execution = broker.current_execution()
    while True:
        digest = hashlib.sha256()
        for path in paths:
            with path.open("rb") as file:
                while block := file.read(BLOCK_BYTES):
                    digest.update(block)
                    execution.wait(PAUSE_S)
                    execution.raise_if_cancelled()


def readable_files() -> list[Path]:
    files = sorted(path for path in FOLDER.rglob("*") if path.is_file() and os.access(path, os.R_OK))
    return files or sys.exit(f"nothing to hash below {FOLDER}")


async def work(run_id: str, name: str, files: list[Path]) -> None:
    """Until the run is cancelled."""
    async with broker.Worker(os.environ["BROKER_REDIS_URL"], worker_id=name, agent_node_id="demo") as worker:
        root = f"{run_id}.{name}"
        try:
            async with worker.execution(run_id, root) as execution:
                print(f"{name}: hashing {len(files)} files as {root}", flush=True)
                threads = (
                    worker.run(
                        hash_files,
                        files[part::THREADS],
                        run_id=run_id,
                        execution_id=f"{root}.{part}",
                        parent_execution_id=root,
                    )
                    for part in range(THREADS)
                )
                # One that was cancelled alone does not end the others.
                await asyncio.gather(*threads, return_exceptions=True)
                execution.raise_if_cancelled()
        except broker.ExecutionCancelled as error:
            print(f"{name}: {error}", flush=True)


if __name__ == "__main__":
    own_name = os.environ.get("BROKER_WORKER_ID", socket.gethostname())
    asyncio.run(work(os.environ.get("DEMO_RUN", "demo"), own_name, readable_files()))
