"""The signs of the picture, and the same in ASCII for terminals that have no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from broker.cli.demo.tree import Job, Node
from broker.protocol.states import Cause, Disposition

_STYLES = {
    Disposition.ASKED: "yellow",
    Disposition.RECEIVED: "blue",
    Disposition.STOPPED: "green",
    Disposition.KILLED: "bold red",
    Disposition.ENDED_ITSELF: "magenta",
    Disposition.NEVER_STARTED: "dim",
}
_UNICODE = {
    Disposition.ASKED: "◌",
    Disposition.RECEIVED: "◐",
    Disposition.STOPPED: "■",
    Disposition.KILLED: "✖",
    Disposition.ENDED_ITSELF: "◆",
    Disposition.NEVER_STARTED: "□",
}
_ASCII = {
    Disposition.ASKED: "?",
    Disposition.RECEIVED: "~",
    Disposition.STOPPED: "#",
    Disposition.KILLED: "X",
    Disposition.ENDED_ITSELF: "@",
    Disposition.NEVER_STARTED: "-",
}


@dataclass(frozen=True, slots=True)
class Marks:
    """One set of signs."""

    dispositions: Mapping[Disposition, str]
    running: str
    waiting: str
    done: str
    refused: str
    warning: str
    rule: str
    branch: str
    last: str
    line: str

    @classmethod
    def for_console(cls, console: Console) -> Marks:
        if console.options.ascii_only:
            return cls(_ASCII, "*", "o", "+", "x", "!", "-", "|-- ", "`-- ", "|   ")
        return cls(_UNICODE, "●", "○", "✓", "✗", "▲", "─", "├── ", "└── ", "│   ")

    def look(self, word: Disposition) -> tuple[str, str]:
        """Sign and style of a disposition."""
        return self.dispositions.get(word, "*"), _STYLES.get(word, "red")

    def of(self, node: Node) -> Text:
        """What really happened to a node, or how its job goes as long as nobody cancelled it."""
        if node.job is Job.REFUSED:
            return Text(f"{self.refused} spawn refused at the gate", "red")
        if node.disposition is None:
            return self._job(node)
        if node.is_stubborn and node.disposition is Disposition.RECEIVED:
            return Text(f"{self.warning} still running: {node.cause} {node.age_s:.1f} s", "bold red")
        glyph, style = self.look(node.disposition)
        lost = f" {node.cause}" if node.still_running and node.cause in (Cause.WORKER_LOST, Cause.NO_WORKER) else ""
        return Text(f"{glyph} {node.disposition}{lost}", style)

    def _job(self, node: Node) -> Text:
        match node.job:
            case Job.RUNNING:
                return Text(f"{self.running} {'compresses' if node.is_command else 'hashes'}", "cyan")
            case Job.WAITING:
                children = [child for child in node.children if not child.is_command]
                open_children = sum(child.job in (Job.QUEUED, Job.RUNNING, Job.WAITING) for child in children)
                return Text(f"{self.waiting} waits for {open_children} below it", "dim cyan")
            case Job.DONE:
                return Text(f"{self.done} {node.detail[:12] or 'no digest'}", "dim")
            case Job.FAILED:
                return Text(node.detail, "red")
        return Text("")
