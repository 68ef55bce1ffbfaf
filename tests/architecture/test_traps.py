"""No trap is forgotten: each has a test of its name, or a line in traps.md that says why not."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.tree import python_files

TRAPS = range(1, 51)
LIST = Path(__file__).with_name("traps.md")
_TEST = re.compile(r"^\s*(?:async )?def test_t(\d\d)_", re.MULTILINE)
_LINE = re.compile(r"^- T(\d\d) \S.{40,}$", re.MULTILINE)


def proved() -> set[int]:
    found = (_TEST.findall(path.read_text(encoding="utf-8")) for path in python_files("tests"))
    return {int(number) for numbers in found for number in numbers}


def explained() -> list[int]:
    return [int(number) for number in _LINE.findall(LIST.read_text(encoding="utf-8"))]


def test_every_trap_is_tested_or_explained() -> None:
    missing = sorted(set(TRAPS) - proved() - set(explained()))
    assert not missing, f"neither a test_tNN_… nor a line in {LIST.name}: {missing}"


def test_no_trap_is_explained_that_is_tested_or_twice() -> None:
    lines = explained()
    assert len(lines) == len(set(lines)) == LIST.read_text(encoding="utf-8").count("\n- T")
    assert not set(lines) & proved(), "has a test by now: take its line away"
    assert set(lines) | proved() <= set(TRAPS), "a number that no trap has"
