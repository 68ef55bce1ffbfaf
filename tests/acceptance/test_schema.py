"""schemathesis over the OpenAPI document: whatever it sends, no answer is a server error or of another shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import response_schema_conformance

import broker
from broker.server.app import create_app
from tests.support.http import Server, register, serving

EXAMPLES = 6
"""Of each operation; with all of them this stays well below a minute."""


@schemathesis.serializer("application/x-ndjson")
def lines(context: schemathesis.SerializationContext, value: Any) -> bytes:
    """Any text goes as it is: what is no line of JSON has to be refused."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


schema = schemathesis.openapi.from_dict(create_app(broker.connect("embedded://")).openapi())


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Server]:
    with serving("embedded://") as server:
        register(server.client, "run-1", {"execution_id": "root"}, {"execution_id": "leaf-1"})
        yield server


# The server's thread draws its jitter while hypothesis draws examples: it takes that for a strategy that does.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@schema.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, phases=[Phase.explicit, Phase.generate], database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
def test_no_input_makes_a_server_error(case: schemathesis.Case[Any], fuzzed: Server) -> None:
    if "wait_ms" in case.query:
        case.query["wait_ms"] = "0"  # patience is tested elsewhere
    if case.path.endswith("/events") and case.method == "GET":
        case.path_parameters["run_id"] = "nope"  # a stream of a run that there is has no end
    answer = case.call(base_url=fuzzed.url, timeout=20)
    assert answer.status_code < 500, (answer.status_code, answer.text)
    if answer.status_code >= 400 and answer.text:
        assert next(iter(answer.json())) == "error"
    if answer.status_code == 200:
        case.validate_response(answer, checks=[response_schema_conformance])
