"""`broker execution cancel`, `cancel-run`, `cancel-subtree`: the same options, another reach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from broker.cli.execution.request import (
    Deadline,
    DryRun,
    ForceAfter,
    Grace,
    Key,
    OrderName,
    Reason,
    Terms,
    Wait,
)
from broker.cli.options import SERVER, TIMEOUT, ExecutionId, Json, RunId, Server, Timeout, Token


def _command(scope: Literal["execution", "run", "subtree"], argument: Any, text: str) -> Callable[..., None]:
    """A cancel of this scope; Typer reads the argument from the annotation, and the help from the docstring."""

    def command(
        target: str,
        reason: Reason = None,
        wait: Wait = None,
        order: OrderName = None,
        force_after: ForceAfter = None,
        deadline: Deadline = None,
        grace: Grace = None,
        idempotency_key: Key = None,
        dry_run: DryRun = False,
        json: Json = False,
        server: Server = SERVER,
        token: Token = None,
        timeout: Timeout = TIMEOUT,
    ) -> None:
        from broker.cli.execution.send import Cancel, run

        terms = Terms(reason, wait, order, force_after, deadline, grace, idempotency_key)
        run(Cancel(scope, target, terms), (server, token, timeout), dry_run=dry_run, as_json=json)

    command.__annotations__["target"] = argument
    command.__doc__ = text
    return command


cancel = _command(
    "execution",
    ExecutionId,
    """Cancels just one execution; what it has started goes on. The answer says how many others of its run do.

    \b
    Example: broker execution cancel leaf-1 --reason "wrong input" --wait 30
    """,
)
cancel_run = _command(
    "run",
    RunId,
    """Cancels every execution of a run, the deepest first. Nothing of it starts any more from then on.

    \b
    Example: broker execution cancel-run nightly --reason "bad prompt" --wait 60
    """,
)
cancel_subtree = _command(
    "subtree",
    ExecutionId,
    """Cancels an execution and everything below it, the deepest first. The rest of its run goes on.

    \b
    Example: broker execution cancel-subtree planner --wait 60 --force-after 20
    """,
)
