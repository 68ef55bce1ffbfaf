"""From the query and headers of a cancel to what the broker is asked for: milliseconds there, seconds here."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from broker.errors import InvalidInput
from broker.server.cancelling import options_of, query_of


def request(query: str = "", **headers: str) -> Request:
    named = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    made = Request({"type": "http", "query_string": query.encode(), "headers": named})
    made.state.caller = "ops"
    return made


def test_every_term_of_a_cancel_arrives_in_seconds() -> None:
    asked = request(
        "deadline_ms=1500&grace_ms=2500&force_after_ms=3500&give_up_ms=4500&order=bottom_up_barrier",
        idempotency_key="k-1",
    )
    assert options_of(asked, query_of(asked), "user") == {
        "reason": "user", "requested_by": "ops", "deadline": 1.5, "grace": 2.5, "force_after": 3.5, "give_up": 4.5,
        "order": "bottom_up_barrier", "idempotency_key": "k-1",
    }  # fmt: skip


def test_what_is_not_said_is_the_default() -> None:
    asked = request()
    assert options_of(asked, query_of(asked), None) == {
        "reason": None, "requested_by": "ops", "deadline": 30.0, "grace": None, "force_after": None, "give_up": 3600.0,
        "order": "bottom_up", "idempotency_key": None,
    }  # fmt: skip


@pytest.mark.parametrize("key", ["", "\xa0", "k" * 201])
def test_a_key_that_says_nothing_or_too_much_is_refused(key: str) -> None:
    asked = request(idempotency_key=key)
    with pytest.raises(InvalidInput, match=f"Idempotency-Key: {len(key)} characters"):
        options_of(asked, query_of(asked), None)
