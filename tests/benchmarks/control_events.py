"""What a control plane says of running work: four events an execution, in runs that go on side by side."""

import json
import random
from collections.abc import Iterator

EXECUTIONS_A_RUN = 250
SEED = 7
ENDS = ("completed", "failed", "updated", "updated")


def events(number: int) -> list[str]:
    """So many events as text; those of one execution are in order, the executions of all runs are mixed."""
    lives = [_life(index) for index in range(number // 4)]
    turns = [index for index in range(len(lives)) for _ in range(4)]
    random.Random(SEED).shuffle(turns)
    return [next(lives[index]) for index in turns]


def _life(index: int) -> Iterator[str]:
    run, execution = f"run-{index // EXECUTIONS_A_RUN}", f"execution-{index:08}"
    parent = f"execution-{index - 1:08}" if index % EXECUTIONS_A_RUN else None
    held = {"worker_id": f"worker-{index % 50}", "start": 1} if index % 8 == 0 else {}
    known = {"parent_execution_id": parent, "agent_node_id": "gpu-7", "reasoner_id": "planner"}
    yield _event("created", run, execution, 0, status="queued", **known)
    yield _event("started", run, execution, 1, **held)
    yield _event("updated", run, execution, 2, status="waiting")
    yield _event(ENDS[index % 4], run, execution, 3, status=None if index % 4 < 2 else "running", **held)


def _event(kind: str, run: str, execution: str, second: int, **said: object) -> str:
    event = {"v": 1, "type": f"execution.{kind}", "run_id": run, "execution_id": execution}
    return json.dumps(event | {"occurred_at": f"2026-01-01T10:{second:02}:00.250Z"} | said, separators=(",", ":"))
