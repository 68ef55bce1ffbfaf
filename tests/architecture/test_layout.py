"""Where things stand, and what stands nowhere: DESIGN's layout as programs over the files of the checkout."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.tree import ROOT, parsed, place, python_files, tracked_files

TOP_LEVEL = {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "broker", "tests", "deploy"}
LONGEST_FILE = 400

# A path of somebody's machine. Not part of a longer word or of a URL, hence the look-behind.
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:root|home|work|Users)/[\w.-]")

KEY_LITERAL = re.compile(r"\bcb:")
"""A key or channel of the default namespace, written out."""

MAY_WRITE_KEYS = "broker/store/keys.py"
MAY_SLEEP = "tests/support/wait.py"
SLEEPERS = {"time", "asyncio", "anyio"}


def test_the_top_level_holds_only_the_agreed_names() -> None:
    names = {path.parts[0] for path in tracked_files()}
    extra = sorted(name for name in names - TOP_LEVEL if not name.startswith("."))
    assert not extra, f"not agreed for the top level: {', '.join(extra)}"


def test_no_file_of_the_package_is_long() -> None:
    """A file that keeps growing is split by step, not into "utils"."""
    lengths = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files("broker")}
    long = [f"{name}: {lines} lines" for name, lines in lengths.items() if lines > LONGEST_FILE]
    assert not long, f"over {LONGEST_FILE} lines: {'; '.join(long)}"


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [hit for path in tracked_files() for hit in _machine_paths(path)]
    assert not found, "paths that exist on one machine only:\n" + "\n".join(found)


def test_keys_are_written_in_one_file() -> None:
    """Every key literal stands in store/keys.py; docstrings may name keys."""
    files = [path for path in python_files("broker") if place(path) != MAY_WRITE_KEYS]
    found = [place(path, line) for path in files for line in sorted(_key_literals(parsed(path)))]
    assert not found, f"key literals outside {MAY_WRITE_KEYS}: {', '.join(found)}"


def test_tests_wait_for_conditions_and_never_sleep() -> None:
    # A benchmark paces its load; it is no test.
    files = [path for path in python_files("tests") if place(path) != MAY_SLEEP and "benchmarks" not in path.parts]
    found = [place(path, line) for path in files for line in sorted(_sleeps(parsed(path)))]
    assert not found, f"use wait_until of {MAY_SLEEP} instead of a sleep: {', '.join(found)}"


def _machine_paths(path: Path) -> Iterator[str]:
    try:
        text = (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return  # a picture
    for number, line in enumerate(text.splitlines(), start=1):
        if MACHINE_PATH.search(line):
            yield f"{place(path, number)}: {line.strip()}"


def _key_literals(tree: ast.Module) -> Iterator[int]:
    """Lines with a string that holds a key. A string that is a statement by itself is documentation."""
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and id(node) not in documentation
            and KEY_LITERAL.search(_as_text(node.value))
        ):
            yield node.lineno


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else ""


def _sleeps(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=module), attr="sleep") if module in SLEEPERS:
                yield node.lineno
            case ast.ImportFrom(module=module, names=names) if module in SLEEPERS:
                yield from (node.lineno for name in names if name.name == "sleep")


def test_the_rules_see_what_they_forbid() -> None:
    """A rule that cannot fail is no rule: each finds an offender written here, and leaves its neighbour alone."""
    keys = 'CHANNEL = f"cb:{run}:x"\nRAW = b"cb:open"\nHARMLESS = "abcb:x"\ndef f():\n    "lists cb:open"\n'
    assert sorted(_key_literals(ast.parse(keys))) == [1, 2]
    sleeps = "import time\ntime.sleep(1)\nfrom asyncio import sleep\nclock.sleep(1)\n"
    assert sorted(_sleeps(ast.parse(sleeps))) == [2, 3]
    slash = "/"
    assert MACHINE_PATH.search(f"cd {slash}root{slash}project")
    assert not MACHINE_PATH.search(f"https://example.com{slash}home{slash}index.html")
