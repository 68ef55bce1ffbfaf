"""The capability table is true: what it says a backend lacks is refused, and what it says it has is answered."""

from __future__ import annotations

import pytest
import redis

from tests.support.backends import PROBES, Backend, Capability


@pytest.mark.parametrize("capability", list(PROBES), ids=lambda capability: capability.value)
def test_the_table_says_what_the_server_answers(redis_url: str, backend: Backend, capability: Capability) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert _is_known(client, PROBES[capability]) == (capability in backend.has)


def test_the_table_knows_where_cjson_loses_digits(redis_url: str, backend: Backend) -> None:
    """Trap T45: a stamp in microseconds loses its last digits in `cjson.encode` of a real server, and only there."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        written = client.eval("return cjson.encode({at = 1795342312489123})", 0)
    loses = written != '{"at":1795342312489123}'
    assert loses == (Capability.CJSON_LOSES_DIGITS in backend.has)


def _is_known(client: redis.Redis, command: tuple[str, ...]) -> bool:
    """False where the server has no such command; any other refusal (no cluster, no such key) shows that it has."""
    try:
        client.execute_command(*command)  # type: ignore[no-untyped-call]
    except redis.ResponseError as error:
        return "unknown" not in str(error).lower()
    return True
