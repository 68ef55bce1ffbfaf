"""Logs: names of events are written down in one place; JSON by default, for a person where somebody asks for it."""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Iterator

import pytest

from broker.observe import events, log
from tests.support.tree import parsed, place, python_files

LEVELS = {"debug", "info", "warning", "error", "exception"}
COMPUTED = {"broker/cancel/sweep.py", "broker/store/subscriptions.py"}
"""Where a name is put together: `cancel.` with a remark, `subscriptions.` with a state."""


def logged() -> Iterator[tuple[str, ast.expr]]:
    """Place and first argument of every call of a logger in the package; the command line only prints."""
    files = (path for path in python_files("broker") if not place(path).startswith("broker/cli/"))
    for path in files:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and node.args and _is_logging(node.func):
                yield place(path, node.lineno), node.args[0]


def _is_logging(called: ast.expr) -> bool:
    return isinstance(called, ast.Attribute) and called.attr in LEVELS and "log" in ast.unparse(called.value)


def names() -> dict[str, str]:
    """Name of an event → where it is logged."""
    constants = {name: getattr(events, name) for name in dir(events) if name.isupper()}
    found = dict[str, str]()
    for where, first in logged():
        if isinstance(first, ast.Constant):
            found[str(first.value)] = where
        elif isinstance(first, ast.Name) and first.id in constants:
            found[constants[first.id]] = where
    return found


def test_every_event_that_is_logged_is_written_down() -> None:
    unknown = [f"{where}: {name}" for name, where in names().items() if name not in events.EVENTS]
    assert not unknown, "not in broker/observe/events.py:\n" + "\n".join(unknown)


def test_only_known_places_put_a_name_together() -> None:
    computed = {where.partition(":")[0] for where, first in logged() if isinstance(first, ast.JoinedStr)}
    assert computed <= COMPUTED


PUT_TOGETHER = {"cancel.overdue", "cancel.given_up"} | {
    f"subscriptions.{end}" for end in ("connect.complete", "connect.failed", "close.complete")
}


def test_every_event_that_is_written_down_is_logged() -> None:
    assert events.EVENTS - set(names()) - PUT_TOGETHER == set()


@pytest.fixture
def console() -> Iterator[None]:
    log.use_console(colors=False)
    yield
    log._console = None


def line_of(caplog: pytest.LogCaptureFixture, name: str) -> str:
    caplog.set_level(logging.INFO, name)
    log.get_logger(name).info(events.CANCEL_COMPLETE, run_id="r\n1", error="a\x1b[31m")
    return caplog.records[-1].getMessage()


def test_a_line_is_json_unless_somebody_asks(caplog: pytest.LogCaptureFixture) -> None:
    line = json.loads(line_of(caplog, "broker.test.json"))
    assert (line["event"], line["run_id"], line["level"]) == ("cancel.complete", "r\n1", "info")


@pytest.mark.usefixtures("console")
def test_t33_at_a_terminal_a_line_is_for_a_person_and_nothing_in_it_is_obeyed(caplog: pytest.LogCaptureFixture) -> None:
    line = line_of(caplog, "broker.test.console")
    assert "cancel.complete" in line
    assert not line.startswith("{")
    assert "\n" not in line
    assert "\x1b" not in line
