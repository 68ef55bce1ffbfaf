"""Pieces that several views share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from broker.cli.terminal import Paint
from broker.cli.visible import visible
from broker.protocol.states import Cause, Disposition, normalise

_STATUS_COLOURS = {"cancelled": "magenta", "succeeded": "green", "failed": "red", "timeout": "red", "running": "cyan"}


def count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(milliseconds: float) -> str:
    """The two units that matter: `840 ms`, `3.2 s`, `4 min 10 s`, `2 h 05 min`, `3 d 4 h`."""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02} s"
    hours, rest_min = divmod(minutes, 60)
    return f"{hours} h {rest_min:02} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def counts(of: Mapping[str, int]) -> str:
    """`3 stopping, 1 no_ack`: the most frequent first."""
    ranked = sorted(of.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{number:,} {visible(word)}" for word, number in ranked if number)


def meaning(cause: str) -> str:
    """What a cause means; a newer server may have words that are not known here."""
    return Cause(cause).meaning if cause in tuple(Cause) else ""


def settled(disposition: str | None) -> bool:
    return disposition in tuple(Disposition) and Disposition(disposition).settled


def status(paint: Paint, word: str) -> str:
    return paint(visible(word), _STATUS_COLOURS.get(normalise(word)))


def disposition(paint: Paint, word: str | None, cause: str | None) -> str:
    """What really happened: green when it is proved to have ended, else red, with the cause."""
    if word is None:
        return ""
    if settled(word):
        return paint(visible(word), "yellow" if word == Disposition.LOST else "green")
    text = word if cause is None else f"{word}: {cause}"
    return paint(visible(text), "red", bold=True)


def quoted(text: str) -> str:
    return f'"{visible(text)}"'


def columns(rows: Iterable[Sequence[str]], paint: Paint) -> list[str]:
    """Aligned, two blanks apart, the first row as its head; the last column is as long as it is."""
    table = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return [paint(lines[0], bold=True), *lines[1:]]
