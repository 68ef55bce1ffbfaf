"""Logs: names of events are written down in one place; JSON by default, for a person where somebody asks for it."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Iterator

import pytest

from broker.observe import events, log
from tests.support.tree import ROOT, parsed, place, python_files

LEVELS = {"debug", "info", "warning", "error", "exception"}
_NAMES = {name: value for name, value in vars(events).items() if name.isupper() and isinstance(value, str)}
PUT_TOGETHER = {"broker/cancel/sweep.py": "_REMARKS[event]", "broker/store/subscriptions.py": "_CHANGES[status]"}
"""Where one of several constants is chosen by a table."""


def logged() -> Iterator[tuple[str, ast.expr]]:
    """Place and first argument of every call of a logger in the package; the command line only prints."""
    files = (path for path in python_files("broker") if not place(path).startswith("broker/cli/"))
    for path in files:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and node.args and _is_logging(node.func):
                yield place(path, node.lineno), node.args[0]


def _is_logging(called: ast.expr) -> bool:
    """`log.info`, and what is chosen of such by an `if`."""
    return any(
        isinstance(one, ast.Attribute) and one.attr in LEVELS and "log" in ast.unparse(one.value)
        for one in ast.walk(called)
    )


def test_an_event_is_a_constant_wherever_it_is_logged() -> None:
    """A name that is typed twice is one day typed in two ways."""
    found = list(logged())
    assert len(found) > 60, "the search itself"
    wrong = [
        f"{where}: {ast.unparse(first)}"
        for where, first in found
        if ast.unparse(first) not in {*_NAMES, PUT_TOGETHER.get(where.partition(":")[0])}
    ]
    assert not wrong, "write them down in broker/observe/events.py:\n" + "\n".join(wrong)


def test_every_event_that_is_written_down_is_used_outside() -> None:
    used = set[str]()
    for path in python_files("broker"):
        if place(path) != "broker/observe/events.py":
            used |= {node.id for node in ast.walk(parsed(path)) if isinstance(node, ast.Name)}
    assert set(_NAMES) - used == set()


def test_no_event_has_two_names_and_each_says_what_it_is() -> None:
    assert set(_NAMES.values()) == events.EVENTS
    assert len(events.EVENTS) == len(_NAMES)
    text = (ROOT / "broker/observe/events.py").read_text(encoding="utf-8")
    for name, value in _NAMES.items():
        assert re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", value)
        assert re.search(rf'^{name}: Final = "{re.escape(value)}"\n"""[^"\n]+\."""$', text, re.MULTILINE), name


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
