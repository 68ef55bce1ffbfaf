"""The trees that floors and figures cancel: 37-character ids, ten children to a parent, or one."""

from collections.abc import Callable

BRANCHES = 10

ParentOf = Callable[[int], str | None]


def execution_id(index: int) -> str:
    return f"execution-{index:027d}"


def parent_id(index: int) -> str | None:
    """The parent of an execution; the root, index 0, has none."""
    return None if index == 0 else execution_id((index - 1) // BRANCHES)


def link_above(index: int) -> str | None:
    """The parent of an execution in a chain: the deepest tree there is."""
    return None if index == 0 else execution_id(index - 1)


def share(executions: int, worker: int, workers: int) -> list[int]:
    """The indexes that one worker of several holds: every level of the tree is spread over all of them."""
    return list(range(worker, executions, workers))
