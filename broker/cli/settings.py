"""How options are named and read: each has a `BROKER_*` variable, and a bad value is one line that names it.

Typer gets every value as text. Its own refusals are a box of several lines that leaves out the value.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from typing import Any

import typer

from broker.errors import InvalidInput

LONGEST_S = 365 * 24 * 3600.0
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


def variable(option: str) -> str:
    """`--force-after` → `BROKER_FORCE_AFTER`."""
    return "BROKER_" + option.lstrip("-").replace("-", "_").upper()


def option(name: str, text: str, metavar: str = "TEXT") -> Any:
    """An option with a value, and its variable."""
    return typer.Option(name, envvar=variable(name), metavar=metavar, help=text)


def flag(name: str, text: str) -> Any:
    """A switch. Its variable is read here, because Typer's refusal would not say what is allowed."""
    envvar = variable(name)

    def from_environment(context: typer.Context, value: bool) -> bool:
        return value or (not context.resilient_parsing and switch(os.environ.get(envvar, ""), envvar))

    return typer.Option(name, help=f"{text} (env var: {envvar})", callback=from_environment, show_default=False)


def switch(value: str, envvar: str) -> bool:
    """The truth of a variable. Raises InvalidInput."""
    word = value.strip().lower()
    if word not in _TRUE + _FALSE:
        raise InvalidInput(f"{envvar} {value!r}: allowed are {', '.join(_TRUE)} or {', '.join(filter(None, _FALSE))}")
    return word in _TRUE


def seconds(value: str | None, name: str, *, least: float = 0.0, most: float = LONGEST_S) -> float | None:
    """A duration. Raises InvalidInput for what is no number, not finite, or out of range."""
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise bad(name, value, f"{least:g} to {most:,.0f} seconds")
    return number


def whole(value: str | None, name: str, *, least: int = 1) -> int | None:
    """A whole number below 2**53. Raises InvalidInput."""
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal() and len(value) <= 16 and least <= int(value) < 2**53):
        raise bad(name, value, f"whole numbers from {least}")
    return int(value)


def one_of(value: str | None, name: str, allowed: Collection[str]) -> str | None:
    """A word of a closed set. Raises InvalidInput."""
    if value is None or value in allowed:
        return value
    raise bad(name, value, ", ".join(allowed))


def bad(name: str, value: str, allowed: str) -> InvalidInput:
    """The one form of refusing an option's value."""
    return InvalidInput(f"{name} ({variable(name)}) {value[:60]!r}: allowed are {allowed}")
