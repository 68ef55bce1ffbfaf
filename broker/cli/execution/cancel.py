"""`broker execution cancel`: just one execution."""

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


def cancel(
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
    """Cancels just one execution; what it has started goes on. The answer says how many others of its run do.

    \b
    Example: broker execution cancel leaf-1 --reason "wrong input" --wait 30
    """
    from broker.cli.execution.send import Cancel, run

    terms = Terms(reason, wait, order, force_after, deadline, grace, idempotency_key)
    run(Cancel("execution", execution_id, terms), (server, token, timeout), dry_run=dry_run, as_json=json)
