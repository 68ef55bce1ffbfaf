"""Errors as answers: whatever goes wrong, the body is `{"error": code, "message": text}`, never a framework's.

The AgentField-compatible pair has texts of its own (routes/compatible.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broker.errors import (
    BrokerError,
    BrokerUnavailable,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    Unauthorized,
    UnsupportedMediaType,
)
from broker.observe.events import REQUEST_FAILED
from broker.observe.log import get_logger

log = get_logger("broker.server")

RETRY_AFTER_S = 1
_SHOWN = 120
_WRONG_TYPE = ("model_attributes_type", "dict_type", "list_type")


def install(app: FastAPI) -> None:
    """Puts every answer that is no success into our shape."""
    app.add_exception_handler(BrokerError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_framework)


def problem(error: BrokerError) -> Response:
    """The answer for an error of ours."""
    headers = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="broker"'
    if isinstance(error, BrokerUnavailable):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return JSONResponse({"error": error.code, "message": printable(str(error))}, error.http_status, headers)


def unexpected() -> Response:
    """The answer for what nobody foresaw; what it was stands in the log, beside the request id."""
    return JSONResponse({"error": BrokerError.code, "message": "unexpected error; the server's log says which"}, 500)


def printable(text: str) -> str:
    """JSON can carry half surrogates and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, BrokerError)  # noqa: S101 - what it was registered for
    if error.http_status >= 500:
        log.warning(REQUEST_FAILED, code=error.code, error=str(error), request_id=request.state.request_id)
    return problem(error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what it was registered for
    if _is_other_media(request, error.errors()):
        given = request.headers.get("content-type", "")[:_SHOWN]
        return problem(UnsupportedMediaType(f"Content-Type {given!r}: allowed is application/json"))
    return problem(InvalidInput("; ".join(map(describe, error.errors()[:3]))))


async def _of_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what it was registered for
    if isinstance(error.__cause__, BrokerError):
        return problem(error.__cause__)
    place = f"{request.method} {request.url.path[:_SHOWN]}"
    if error.status_code == 404:
        return problem(NotFound(f"{place}: there is no such endpoint; /docs lists them"))
    if error.status_code == 405:
        answer = problem(MethodNotAllowed(f"{place}: allowed is {(error.headers or {}).get('Allow', 'another')}"))
        answer.headers.update(error.headers or {})
        return answer
    return problem(InvalidInput("the body is no JSON that can be read"))


def describe(error: Any) -> str:
    """One validation error of pydantic: where, what was given, what is allowed."""
    where = ".".join(str(part) for part in error["loc"] if part not in ("body", "query", "header"))
    if error["type"] == "json_invalid":
        return f"the body is no JSON: {error['ctx']['error']}"
    given = error.get("input")
    shown = f" {given!r}"[:_SHOWN] if isinstance(given, str | int | float | bool) else ""
    return f"{where or 'the body'}{shown}: {error['msg']}"


def _is_other_media(request: Request, errors: Sequence[Any]) -> bool:
    """The framework hands on the bytes of a body that does not say it is JSON, which is no object then."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    is_json = kind == "application/json" or kind.endswith("+json")
    return not is_json and any(error["loc"] == ("body",) and error["type"] in _WRONG_TYPE for error in errors)
