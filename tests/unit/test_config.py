"""What a caller asks for is checked before anything is written; the error names field, value, and what is allowed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from broker.config import cancel_terms, check_namespace, check_seconds
from broker.errors import InvalidInput
from broker.protocol.registration import Execution
from broker.protocol.states import Order, Scope

TERMS: dict[str, Any] = {
    "reason": None,
    "requested_by": None,
    "deadline": 30.0,
    "grace": 10.0,
    "force_after": None,
    "give_up": 3600.0,
    "order": "bottom_up",
    "idempotency_key": None,
    "allow_unknown": False,
}


@pytest.mark.parametrize("namespace", ["", "a b", "cb:", "{cb}", "x" * 41])
def test_a_namespace_that_breaks_keys_is_refused(namespace: str) -> None:
    with pytest.raises(InvalidInput, match=r"namespace .* allowed are"):
        check_namespace(namespace)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "soon", None, [], 1e12])
def test_what_is_no_duration_is_refused_with_its_field(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"wait .*allowed are 0 to"):
        check_seconds(value, "wait")


def test_the_least_duration_is_allowed() -> None:
    assert check_seconds(0.5, "timeout", least=0.5) == 0.5
    with pytest.raises(InvalidInput, match=r"timeout 0\.4"):
        check_seconds(0.4, "timeout", least=0.5)


@pytest.mark.parametrize("name", ["deadline", "grace", "give_up", "force_after"])
def test_every_duration_of_a_cancel_is_checked(name: str) -> None:
    with pytest.raises(InvalidInput, match=name):
        cancel_terms(Scope.RUN, **{**TERMS, name: -1.0})


def test_an_unknown_order_names_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match=r"top_down.*bottom_up, bottom_up_barrier"):
        cancel_terms(Scope.RUN, **{**TERMS, "order": "top_down"})


def test_terms_are_microseconds_and_trimmed_text() -> None:
    terms = cancel_terms(
        Scope.RUN,
        **{**TERMS, "reason": "  spent  ", "requested_by": " ", "force_after": 0.25, "order": Order.BOTTOM_UP},
    )
    assert (terms.reason, terms.requested_by) == ("spent", None)
    assert (terms.deadline_us, terms.force_after_us) == (30_000_000, 250_000)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"status": ""}, "status"),
        ({"status": "x" * 65}, "status"),
        ({"reasoner_id": "x" * 201}, "reasoner_id"),
        ({"started_at": datetime(2026, 11, 22)}, "started_at"),  # noqa: DTZ001 - that is the point
    ],
)
def test_an_execution_that_cannot_be_stored_is_refused(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        Execution("leaf", **fields)
