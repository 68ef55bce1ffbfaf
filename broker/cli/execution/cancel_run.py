"""`broker execution cancel-run`: every execution of a run."""

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
from broker.cli.options import SERVER, TIMEOUT, Json, RunId, Server, Timeout, Token


def cancel_run(
    run_id: RunId,
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
    """Cancels every execution of a run, the deepest first. Nothing of it starts any more from then on.

    \b
    Example: broker execution cancel-run nightly --reason "bad prompt" --wait 60
    """
    from broker.cli.execution.send import Cancel, run

    terms = Terms(reason, wait, order, force_after, deadline, grace, idempotency_key)
    run(Cancel("run", run_id, terms), (server, token, timeout), dry_run=dry_run, as_json=json)
