"""`broker execution cancel-subtree`: an execution and everything below it."""

from __future__ import annotations

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
from broker.cli.options import SERVER, TIMEOUT, ExecutionId, Json, Server, Timeout, Token


def cancel_subtree(
    execution_id: ExecutionId,
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
    """Cancels an execution and everything below it, the deepest first. The rest of its run goes on.

    \b
    Example: broker execution cancel-subtree planner --wait 60 --force-after 20
    """
    from broker.cli.execution.send import Cancel, run

    terms = Terms(reason, wait, order, force_after, deadline, grace, idempotency_key)
    run(Cancel("subtree", execution_id, terms), (server, token, timeout), dry_run=dry_run, as_json=json)
