"""Where the report of a run's cancel stands."""

from __future__ import annotations

from broker.cli.client import Query, path_of
from broker.protocol.names import check_id


def report_place(run_id: str, cancel_id: str | None) -> tuple[str, Query]:
    """Path and query. Raises InvalidId."""
    path = path_of("runs", check_id(run_id, "RUN"), "cancellation")
    return path, {} if cancel_id is None else {"cancel_id": check_id(cancel_id, "--cancel-id (BROKER_CANCEL_ID)")}
