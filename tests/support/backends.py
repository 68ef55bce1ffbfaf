"""What each kind of server can do: the one capability table of the tests.

A test never names a backend. It says what it needs, `@pytest.mark.needs(Capability.WAIT)`, and is not collected for
a backend that lacks it. tests/architecture/test_backends.py asks the servers whether the table is true.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Capability(StrEnum):
    """A word of the table. `probe()` is the command that shows it, where one can."""

    INFO = "info"
    """Server facts: version, memory, run id."""
    CONFIG_GET = "config_get"
    """Reading settings such as `maxmemory-policy`."""
    WAIT = "wait"
    """Asking how many replicas have a write."""
    SLOWLOG = "slowlog"
    """How long commands held the server."""
    MEMORY = "memory"
    """What a key costs."""
    ROLE = "role"
    """Primary or replica."""
    CLUSTER = "cluster"
    """The CLUSTER commands are known (not: cluster mode is on)."""
    EVAL_RO = "eval_ro"
    """Read-only scripts."""
    CJSON_LOSES_DIGITS = "cjson_loses_digits"
    """`cjson.encode` keeps 14 digits, as in real Redis (trap T45). Without it a test of stamps is blind."""
    OWN_PROCESS = "own_process"
    """It runs outside the test process: it can be killed, and does not share the interpreter's lock."""


PROBES: dict[Capability, tuple[str, ...]] = {
    Capability.INFO: ("INFO", "server"),
    Capability.CONFIG_GET: ("CONFIG", "GET", "maxmemory-policy"),
    Capability.WAIT: ("WAIT", "0", "10"),
    Capability.SLOWLOG: ("SLOWLOG", "LEN"),
    Capability.MEMORY: ("MEMORY", "USAGE", "absent"),
    Capability.ROLE: ("ROLE",),
    Capability.CLUSTER: ("CLUSTER", "INFO"),
    Capability.EVAL_RO: ("EVAL_RO", "return 1", "0"),
}
"""A command for each capability that is a command: it is answered, or refused as unknown."""


@dataclass(frozen=True)
class Backend:
    """A kind of server that the whole suite runs against. `name` is its test id."""

    name: str
    has: frozenset[Capability]


BACKENDS: tuple[Backend, ...] = (
    Backend("fakeredis", has=frozenset()),  # trap T46 lists what it lacks
    Backend("redis", has=frozenset(Capability)),
)

BY_NAME: dict[str, Backend] = {backend.name: backend for backend in BACKENDS}
