"""The figure beside the bare walk: from the records of a run to levels, deepest first. No Redis."""

import time

from broker.cancel.walk import Forest, walk
from tests.benchmarks.floor_fanout import bottom_up
from tests.benchmarks.forest import execution_id, parent_id
from tests.benchmarks.harness import Link, process

STAMP_US = 1_795_342_312_489_123


async def measure(url: str, executions: int) -> dict[str, float]:
    """Milliseconds of the walk, in a process of its own, with the records read in."""
    async with process(walk_once, executions) as walker:
        return {"walk": await walker.receive()}


async def walk_once(link: Link, executions: int) -> None:
    records = ((execution_id(i), parent_id(i) or "", STAMP_US + i, STAMP_US + i) for i in range(executions))
    forest = Forest(records)
    begin = time.perf_counter()
    walked = walk(forest)
    took_ms = (time.perf_counter() - begin) * 1_000
    if walked.total != executions:
        raise RuntimeError(f"walked {walked.total} of {executions}")
    link.send(took_ms)


async def measure_bare(url: str, executions: int) -> dict[str, float]:
    """The floor: the same levels from a dictionary of parents."""
    async with process(bare_once, executions) as walker:
        return {"walk": await walker.receive()}


async def bare_once(link: Link, executions: int) -> None:
    parents = {execution_id(index): parent_id(index) or "" for index in range(executions)}
    begin = time.perf_counter()
    walked = bottom_up(parents)
    took_ms = (time.perf_counter() - begin) * 1_000
    if len(walked) != executions:
        raise RuntimeError(f"walked {len(walked)} of {executions}")
    link.send(took_ms)
