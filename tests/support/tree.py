"""The checkout as data: which files it has and what stands in them."""

from __future__ import annotations

import ast
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def tracked_files() -> tuple[Path, ...]:
    """What git tracks and the tree still has, relative to the root. Skips where this is no checkout."""
    # CI often mounts a checkout that belongs to another user, which git refuses unless it is told.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"not a git checkout: {error}")
    return tuple(path for name in listing.stdout.split("\0") if name and (ROOT / (path := Path(name))).is_file())


def python_files(folder: str) -> Iterator[Path]:
    """The Python files below a folder of the root, tracked or not, sorted."""
    return iter(sorted((ROOT / folder).rglob("*.py")))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def place(path: Path, line: int | None = None) -> str:
    """`broker/store/keys.py:12`: what an editor can open."""
    name = path.relative_to(ROOT).as_posix() if path.is_absolute() else path.as_posix()
    return name if line is None else f"{name}:{line}"
