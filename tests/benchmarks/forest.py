"""The tree that floors and figures cancel: ten children to a parent, 37-character ids."""

BRANCHES = 10


def execution_id(index: int) -> str:
    return f"execution-{index:027d}"


def parent_id(index: int) -> str | None:
    """The parent of an execution; the root, index 0, has none."""
    return None if index == 0 else execution_id((index - 1) // BRANCHES)


def share(executions: int, worker: int, workers: int) -> list[int]:
    """The indexes that one worker of several holds: every level of the tree is spread over all of them."""
    return list(range(worker, executions, workers))
