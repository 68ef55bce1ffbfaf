"""What was found out about a Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broker.cli.terminal import Paint
from broker.cli.view.words import count
from broker.cli.visible import visible


class Finding(Protocol):
    """One check: `ok` is None where it could not be made, `mend` says what to do."""

    @property
    def name(self) -> str: ...
    @property
    def ok(self) -> bool | None: ...
    @property
    def what(self) -> str: ...
    @property
    def mend(self) -> str: ...


_WORDS = {True: ("ok", "green"), False: ("bad", "red"), None: ("?", "yellow")}


def doctor_lines(findings: Sequence[Finding], paint: Paint) -> list[str]:
    """A check a line, below it how to mend it; the sums at the end."""
    width = max((len(one.name) for one in findings), default=0)
    lines = []
    for one in findings:
        word, colour = _WORDS[one.ok]
        lines.append(f"{paint(f'{word:<3}', colour, bold=True)}  {one.name:<{width}}  {visible(one.what)}")
        if one.mend:
            lines.append(f"     {'':<{width}}  mend: {visible(one.mend)}")
    bad = sum(one.ok is False for one in findings)
    unseen = sum(one.ok is None for one in findings)
    said = f"{count(bad, 'thing')} to mend" if bad else "Nothing to mend"
    return [*lines, said + (f"; {count(unseen, 'check')} could not be made here" if unseen else "")]
