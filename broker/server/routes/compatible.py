"""The two endpoints that AgentField clients call: names, order of fields, texts and order of checks are the wire's.

A blank id is refused before the body is looked at, a malformed body before anything is looked up. An id that
cannot exist does not: it is never made a key.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broker.cancel.report import CancelReport
from broker.control import CancelOptions
from broker.errors import AlreadyTerminal, BrokerError, InvalidId, InvalidInput, NotFound, StoreRefused
from broker.observe.events import COMPATIBLE_FAILED
from broker.observe.log import get_logger
from broker.protocol.http.answers import CancelExecutionAnswer, CancelTreeAnswer
from broker.protocol.http.requests import CancelQuery, CancelRequest
from broker.protocol.names import check_id
from broker.protocol.states import Status
from broker.server.answers import narrow_answer, respond, tree_answer
from broker.server.auth import Guarded, needs
from broker.server.cancelling import options_of, patiently, query_of
from broker.server.context import broker_of
from broker.server.documents import CANCEL, NARROW, NARROW_ERRORS, TREE, TREE_ERRORS, documented
from broker.server.problems import describe, printable
from broker.server.tokens import Right

log = get_logger("broker.server")

PREFIXES = ("/api/v1", "/api/ui/v1")
T = TypeVar("T")
_GO_SPACE = " \t\n\v\f\r\x85\xa0"


class Refused(Exception):
    """An answer with a text of the pair's own."""

    def __init__(self, status: int, error: str, message: str | None = None) -> None:
        super().__init__(error)
        body = {"error": printable(error)} if message is None else {"error": error, "message": printable(message)}
        self.response = JSONResponse(body, status)


def compatible_routes() -> APIRouter:
    """Both endpoints, under both prefixes; the second one is the same, so the document lists the first."""
    router = APIRouter(route_class=Guarded, tags=["cancel"])
    for prefix in PREFIXES:
        listed = prefix == PREFIXES[0]
        add = _Adding(router, listed)
        add.post(f"{prefix}/executions/{{execution_id:id}}/cancel", _cancel_execution, CancelExecutionAnswer)
        add.post(f"{prefix}/workflows/{{run_id:id}}/cancel-tree", _cancel_tree, CancelTreeAnswer)
        router.add_api_route(
            f"{prefix}/workflows/cancel-tree", _no_run, methods=["POST"], include_in_schema=False,
            openapi_extra=needs(Right.CANCEL), name=f"no run {prefix}",
        )  # fmt: skip
    return router


class _Adding:
    def __init__(self, router: APIRouter, listed: bool) -> None:
        self._router = router
        self._listed = listed

    def post(self, path: str, endpoint: Callable[..., Awaitable[Response]], model: type[Any]) -> None:
        narrow = model is CancelExecutionAnswer
        self._router.add_api_route(
            path,
            endpoint,
            methods=["POST"],
            summary="Cancel just one execution" if narrow else "Cancel every execution of a run, deepest first",
            include_in_schema=self._listed,
            operation_id=("cancel_execution" if narrow else "cancel_tree") if self._listed else None,
            responses=documented(model, NARROW if narrow else TREE, NARROW_ERRORS if narrow else TREE_ERRORS),
            openapi_extra=needs(Right.CANCEL, **CANCEL),
        )


async def _cancel_execution(request: Request, execution_id: str) -> Response:
    """Its answer says how many others of the run go on, and how to stop them."""
    try:
        return await _narrow(request, _present(execution_id, "execution_id is required"))
    except Refused as refused:
        return refused.response


async def _cancel_tree(request: Request, run_id: str) -> Response:
    """Repeating it answers for the same operation, every node `terminal`."""
    try:
        return await _tree(request, _present(run_id, "workflowId is required"))
    except Refused as refused:
        return refused.response


async def _no_run() -> Response:
    return Refused(400, "workflowId is required").response


async def _narrow(request: Request, execution_id: str) -> Response:
    options, query = await _asked(request)
    broker = broker_of(request)
    absent = f"execution {execution_id} not found"
    await _with_their_texts(absent, "failed to look up execution", broker.run_of, execution_id)
    try:
        report = await broker.cancel_execution(execution_id, **options)
    except AlreadyTerminal as error:
        raise _terminal(error.status) from error
    except NotFound as error:
        raise Refused(404, absent) from error
    except StoreRefused as error:
        raise _failed("failed to cancel execution", error) from error
    if report.repeated and options.get("idempotency_key") is None:
        raise _terminal(Status.CANCELLED)
    return respond(narrow_answer(await patiently(request, report, query), execution_id))


async def _tree(request: Request, run_id: str) -> Response:
    options, query = await _asked(request)

    async def cancel(run_id: str) -> CancelReport:
        return await broker_of(request).cancel_run(run_id, **options)

    report = await _with_their_texts(f"run {run_id} not found", "failed to load run", cancel, run_id)
    return respond(tree_answer(await patiently(request, report, query), with_nodes=query.nodes))


async def _with_their_texts(absent: str, failed: str, call: Callable[[str], Awaitable[T]], given: str) -> T:
    """Calls, and has the pair's words for what is not there and for what Redis refused."""
    try:
        return await call(check_id(given, "id"))
    except (InvalidId, NotFound) as error:
        raise Refused(404, absent) from error
    except StoreRefused as error:
        raise _failed(failed, error) from error


def _failed(text: str, error: BrokerError) -> Refused:
    log.error(COMPATIBLE_FAILED, answer=text, error=str(error))
    return Refused(500, text)


def _terminal(status: str) -> Refused:
    return Refused(409, "invalid_state", f"execution is in terminal state '{status}'")


def _present(given: str, text: str) -> str:
    found = given.strip(_GO_SPACE)
    if not found:
        raise Refused(400, text)
    return found


async def _asked(request: Request) -> tuple[CancelOptions, CancelQuery]:
    """The body first, then the query, which is ours and has errors of ours."""
    reason = _reason(await request.body())
    query = query_of(request)
    return options_of(request, query, reason), query


def _reason(body: bytes) -> str | None:
    """Whatever the Content-Type says, as the control plane does it. No body, or a blank one, is none."""
    if not body.strip():
        return None
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"invalid request body: {_why(error)}") from error
    if not isinstance(parsed, dict):
        raise Refused(400, f"invalid request body: expected a JSON object, found {_kind(parsed)}")
    try:
        reason = CancelRequest.model_validate({"reason": _trimmed(parsed.get("reason"))}).reason
    except (ValidationError, InvalidInput) as error:
        why = describe(error.errors()[0]) if isinstance(error, ValidationError) else str(error)
        raise Refused(400, f"invalid request body: {why}") from error
    return reason or None


def _trimmed(reason: Any) -> Any:
    return printable(reason).strip(_GO_SPACE) if isinstance(reason, str) else reason


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return "not UTF-8" if isinstance(error, UnicodeError) else str(error)[:200]


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
