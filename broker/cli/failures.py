"""Pure: an HTTP answer that is no success → the error of ours that has the right exit code, in one clear line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from broker.cli.visible import visible
from broker.errors import AlreadyTerminal, BrokerError, BrokerUnavailable, InvalidInput, NotFound

_STATE = re.compile(r"terminal state '([^']*)'")
_LONGEST = 600
_BY_EXIT_CODE: dict[int, type[BrokerError]] = {2: InvalidInput, 4: NotFound, 6: BrokerUnavailable}
_GATEWAY = (502, 503, 504)


def failure(status: int, body: bytes, *, server: str, subject: str, has_token: bool) -> BrokerError:
    """`subject` is the id that was asked about, `server` the address for the text."""
    code, message = _parse(body)
    if status == 401:
        return BrokerError(_unknown_token(server, has_token))
    if code is None:
        return _not_an_answer(status, server)
    text = visible(message or code)[:_LONGEST]
    if status == 403:
        return BrokerError(f"the token may not do this: {text} (--token or BROKER_TOKEN names another)")
    if code in ("invalid_state", AlreadyTerminal.code):
        found = _STATE.search(message or "")
        return AlreadyTerminal(subject, visible(found[1]) if found else "terminal")
    kind = _BY_EXIT_CODE.get(_exit_code(status, code), BrokerError)
    return kind(text if kind is not BrokerUnavailable else f"{text} (the server at {server} is up)")


def not_ours(server: str, why: str) -> BrokerError:
    """Something answers at this address, and it is no broker."""
    return BrokerError(f"{server} is no broker server ({visible(why)[:200]}): --server or BROKER_SERVER names another")


def _parse(body: bytes) -> tuple[str | None, str | None]:
    """`error` and `message` of an error of ours; the compatible pair has its text in `error`."""
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("error"), str):
        return None, None
    message = parsed.get("message")
    return parsed["error"], message if isinstance(message, str) else None


def _exit_code(status: int, code: str) -> int:
    """A known code decides; the texts of the compatible pair are told by their status."""
    known = {kind.code: kind.exit_code for kind in _all_kinds(BrokerError)}
    if code in known:
        return known[code]
    return 4 if status == 404 else 2 if status in (400, 413, 414, 422) else 1


def _all_kinds(kind: type[BrokerError]) -> Iterator[type[BrokerError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _all_kinds(below)


def _unknown_token(server: str, has_token: bool) -> str:
    if has_token:
        return f"the server at {server} does not know this token: check BROKER_TOKEN (or --token)"
    return f"the server at {server} wants a token: set BROKER_TOKEN (or --token -, which reads it from standard input)"


def _not_an_answer(status: int, server: str) -> BrokerError:
    if status in _GATEWAY:
        return BrokerUnavailable(f"a proxy at {server} answers {status}: no broker server is reached behind it")
    if 300 <= status < 400:
        return not_ours(server, f"it answers {status}, a redirect")
    return not_ours(server, f"it answers {status} without an error of ours")
