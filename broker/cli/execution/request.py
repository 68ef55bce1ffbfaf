"""What the three cancel commands share: their options, sending one, waiting for it, and the exit code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.settings import flag, one_of, option, seconds
from broker.protocol.states import Order

if TYPE_CHECKING:
    from broker.cli.client import Query

STILL_RUNNING = 3

Reason = Annotated[str | None, option("--reason", "Why, for everyone who asks later. At most 500 characters.")]
Wait = Annotated[
    str | None,
    option(
        "--wait",
        "Wait at most so long until everything has stopped; leave with 3 when something is still running.",
        "SECONDS",
    ),
]
OrderName = Annotated[
    str | None,
    option("--order", "bottom_up, or bottom_up_barrier: each level waits for the one below it.", "ORDER"),
]
ForceAfter = Annotated[
    str | None, option("--force-after", "End by force what has not stopped by then. Default: never.", "SECONDS")
]
Deadline = Annotated[
    str | None, option("--deadline", "After it what still runs is called overdue. Default: 30.", "SECONDS")
]
Grace = Annotated[
    str | None,
    option("--grace", "For processes, from SIGTERM to SIGKILL. Default: what their worker says, 10.", "SECONDS"),
]
Key = Annotated[str | None, option("--idempotency-key", "The same key is the same cancel, however often it is sent.")]
DryRun = Annotated[bool, flag("--dry-run", "Show what would be cancelled, and change nothing.")]


@dataclass(frozen=True, slots=True)
class Terms:
    """The options of a cancel as they were given: texts, checked by the two methods."""

    reason: str | None
    wait: str | None
    order: str | None
    force_after: str | None
    deadline: str | None
    grace: str | None
    key: str | None

    def query(self) -> Query:
        """Query of the request. Raises InvalidInput."""
        query: Query = {}
        for name, value, text in (
            ("deadline_ms", self.deadline, "--deadline"),
            ("grace_ms", self.grace, "--grace"),
            ("force_after_ms", self.force_after, "--force-after"),
        ):
            if (number := seconds(value, text)) is not None:
                query[name] = round(number * 1000)
        if (order := one_of(self.order, "--order", tuple(map(str, Order)))) is not None:
            query["order"] = order
        return query

    def body(self) -> dict[str, Any]:
        return {} if self.reason is None else {"reason": self.reason}

    @property
    def wait_s(self) -> float | None:
        """Raises InvalidInput."""
        return seconds(self.wait, "--wait")


def leave(code: int) -> None:
    if code:
        raise typer.Exit(code)
