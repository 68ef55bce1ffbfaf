"""What every cancel endpoint does around the cancel itself: its terms, and the patience of its caller."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from broker.cancel.report import CancelReport
from broker.config import IDEMPOTENCY_KEY_LIMIT
from broker.control import CancelOptions
from broker.errors import BrokerError, InvalidInput
from broker.observe.events import CANCEL_WAIT_FAILED
from broker.observe.log import get_logger
from broker.protocol.http.requests import CancelQuery
from broker.server.context import caller_of, context_of
from broker.server.problems import describe

log = get_logger("broker.server")


def query_of(request: Request) -> CancelQuery:
    """The query of a cancel. Raises InvalidInput."""
    try:
        return CancelQuery.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise InvalidInput("; ".join(describe(one) for one in error.errors()[:3])) from error


def options_of(request: Request, query: CancelQuery, reason: str | None) -> CancelOptions:
    """What the broker is asked for, without the patience."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key.strip()) <= IDEMPOTENCY_KEY_LIMIT:
        raise InvalidInput(f"Idempotency-Key: {len(key)} characters; allowed are 1 to {IDEMPOTENCY_KEY_LIMIT}")
    return CancelOptions(
        reason=reason,
        requested_by=caller_of(request),
        deadline=query.deadline_ms / 1000,
        grace=None if query.grace_ms is None else query.grace_ms / 1000,
        force_after=None if query.force_after_ms is None else query.force_after_ms / 1000,
        give_up=query.give_up_ms / 1000,
        order=query.order,
        idempotency_key=key,
    )


async def patiently(request: Request, report: CancelReport, query: CancelQuery) -> CancelReport:
    """The same operation once it is settled, or when the caller's time is over, or when the server stops.

    The cancel has been made: where looking at it fails, the answer is what was known then.
    """
    if report.settled or query.wait_ms == 0:
        return report
    context, wait_s = context_of(request), query.wait_ms / 1000
    if report.run_id is not None:
        asking = context.broker.report(report.run_id, report.cancel_id, wait=wait_s)
    else:
        asking = context.broker.report_execution(report.target or "", wait=wait_s)
    try:
        later = await context.patience.wait(asking)
    except BrokerError as error:
        log.warning(CANCEL_WAIT_FAILED, cancel_id=report.cancel_id, error=str(error))
        return report
    return report if later is None else replace(later, nodes=report.nodes, repeated=report.repeated)


def query_parameters(model: type[BaseModel] = CancelQuery) -> list[dict[str, Any]]:
    """A model as the query parameters of the OpenAPI document."""
    properties: dict[str, Any] = model.model_json_schema(ref_template="#/components/schemas/{model}")["properties"]
    for schema in properties.values():
        if "$ref" in schema:  # Order: the document has no component for it
            schema.pop("$ref")
            schema["type"], schema["enum"] = "string", ["bottom_up", "bottom_up_barrier"]
    return [
        {"name": name, "in": "query", "required": False, "description": schema.pop("description", ""), "schema": schema}
        for name, schema in properties.items()
    ]
