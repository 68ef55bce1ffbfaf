"""Where output goes: standard output for answers, standard error for what is said about them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Protocol

import typer

from broker.cli.visible import visible


@dataclass(frozen=True, slots=True)
class Paint:
    """Colours, where they are wanted; otherwise text stays as it is."""

    colour: bool = False
    unicode: bool = True

    def __call__(self, text: str, colour: str | None = None, *, bold: bool = False, dim: bool = False) -> str:
        if not self.colour or not text:
            return text
        return typer.style(text, fg=colour, bold=bold or None, dim=dim or None)

    @classmethod
    def of(cls, stream: IO[str]) -> Paint:
        """As this stream can take it (https://no-color.org)."""
        return cls(colour=can_draw(stream), unicode=_takes_unicode(stream))


class Progress(Protocol):
    """A line that is rewritten while somebody waits."""

    def __call__(self, text: str) -> None: ...


def can_draw(stream: IO[str]) -> bool:
    """A terminal that can move its cursor, and whose user did not ask for less."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def show(lines: Iterable[str]) -> None:
    """Prints lines of a view. What the output's encoding lacks is escaped."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    for line in lines:
        print(line)
    sys.stdout.flush()


def show_json(answer: Mapping[str, Any]) -> None:
    """One line, ASCII only: nothing in it can reach a terminal as a control character."""
    print(json.dumps(answer, ensure_ascii=True, separators=(",", ":")), flush=True)


def say(text: str) -> None:
    """One line for the person, beside the answer."""
    print(f"broker: {visible(text)}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """A line on standard error that is rewritten, and gone at the end; nothing where that is no terminal."""
    if not can_draw(sys.stderr):
        yield _silent
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text("waiting")) as status:
        yield lambda text: status.update(Text(text))


def _silent(text: str) -> None:
    """Nobody watches."""


def _takes_unicode(stream: IO[str]) -> bool:
    try:
        "└│…".encode(getattr(stream, "encoding", None) or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
