"""The verdicts on a worker program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from broker.cli.terminal import Paint
from broker.cli.view.words import count
from broker.cli.visible import visible

if TYPE_CHECKING:
    from broker.cli.conformance.rules import Verdict


def verdict_lines(verdicts: Sequence[Verdict], paint: Paint) -> list[str]:
    """A rule a line, below a broken one what was seen; the sum at the end."""
    width = max(len(one.rule.name) for one in verdicts)
    lines: list[str] = []
    for one in verdicts:
        word = paint("pass", "green") if one.why is None else paint("FAIL", "red", bold=True)
        lines.append(f"{word}  {one.rule.name:{width}}  {one.rule.sentence}")
        if one.why is not None:
            lines.append(f"      {visible(one.why)}")
    broken = sum(one.why is not None for one in verdicts)
    return [
        *lines,
        f"{count(len(verdicts), 'rule')}, {broken} broken" if broken else f"All {len(verdicts)} rules are kept",
    ]
