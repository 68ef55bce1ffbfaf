"""Checks what a caller asks for, before it goes inside: each error names the field, the value, what is allowed."""

from __future__ import annotations

import math
import re

from broker.errors import InvalidInput
from broker.protocol.names import CANCEL_TEXT_LIMIT, clean_text
from broker.protocol.states import Order, Scope
from broker.store.operations import CancelTerms

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_LONGEST_S = 365 * 24 * 3600.0
IDEMPOTENCY_KEY_LIMIT = 200


def check_namespace(namespace: str) -> str:
    """The first part of every key. Raises InvalidInput."""
    if not _NAMESPACE.fullmatch(namespace):
        raise InvalidInput(f"namespace {namespace!r}: allowed are 1 to 40 of A-Z a-z 0-9 . _ -")
    return namespace


def check_seconds(value: float, field: str, *, least: float = 0.0) -> float:
    """A duration in seconds. Raises InvalidInput for what is no number, not finite, or out of range."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not least <= seconds <= _LONGEST_S:
        raise InvalidInput(f"{field} {value!r}: allowed are {least:g} to {_LONGEST_S:g} seconds")
    return seconds


def check_count(value: object, field: str, most: int = 1000) -> int:
    """A whole number from 0. Raises InvalidInput."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise InvalidInput(f"{field} {value!r}: allowed are whole numbers from 0 to {most}")
    return value


def cancel_terms(
    scope: Scope,
    target: str = "",
    *,
    reason: str | None,
    requested_by: str | None,
    deadline: float,
    grace: float | None,
    force_after: float | None,
    give_up: float,
    order: str,
    idempotency_key: str | None,
    allow_unknown: bool,
) -> CancelTerms:
    """The terms of a cancel as the store takes them. Raises InvalidInput."""
    if order not in tuple(Order):
        raise InvalidInput(f"order {order!r}: allowed are {', '.join(Order)}")
    return CancelTerms(
        scope=scope,
        target=target,
        order=Order(order),
        reason=clean_text(reason, "reason", CANCEL_TEXT_LIMIT),
        requested_by=clean_text(requested_by, "requested_by", CANCEL_TEXT_LIMIT),
        deadline_us=_us(deadline, "deadline"),
        grace_us=None if grace is None else _us(grace, "grace"),
        force_after_us=None if force_after is None else _us(force_after, "force_after"),
        give_up_us=_us(give_up, "give_up"),
        idempotency_key=clean_text(idempotency_key, "idempotency_key", IDEMPOTENCY_KEY_LIMIT) or "",
        allow_unknown=allow_unknown,
    )


def _us(seconds: float, field: str) -> int:
    return round(check_seconds(seconds, field) * 1e6)
