"""What is known of each directory: from its worker how the job goes, from the broker what became of the cancel."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field

import broker
from broker.cli.demo.directory import execution_id
from broker.protocol.states import Disposition


class Job(enum.Enum):
    """How far the job of one directory is."""

    QUEUED = "pending"
    RUNNING = "running"
    WAITING = "running, waits for its children"
    DONE = "succeeded"
    STOPPED = "stopped"
    REFUSED = "refused"
    FAILED = "failed"

    @property
    def in_flight(self) -> bool:
        return self in (Job.RUNNING, Job.WAITING)


@dataclass(slots=True, eq=False)
class Node:
    """One execution: a directory, or the command. `relative` is its path below the root, "" for the root itself."""

    execution_id: str
    relative: str
    parent: Node | None
    depth: int
    children: list[Node] = field(default_factory=list)
    job: Job = Job.QUEUED
    worker: str = ""
    files: int = 0
    directories: int = 0
    hashed: int = 0
    swallows: bool = False
    is_command: bool = False
    detail: str = ""
    covered: bool = False  # the cancel has reached it: its status is `cancelled`
    disposition: Disposition | None = None
    told: bool = False
    cause: str = ""
    overdue: bool = False
    age_s: float = 0.0

    @property
    def name(self) -> str:
        return self.relative.rpartition("/")[2]

    @property
    def parent_id(self) -> str | None:
        return self.parent.execution_id if self.parent else None

    @property
    def not_spawned(self) -> int:
        """Sub-directories that its listing showed and that it has not asked for yet."""
        return self.directories - sum(not child.is_command for child in self.children)

    @property
    def is_stubborn(self) -> bool:
        """Not ended by its cancel: a body that swallows it, or a command that ignores it."""
        return self.swallows or self.is_command

    @property
    def still_running(self) -> bool:
        return self.disposition is not None and not self.disposition.settled

    @property
    def status(self) -> str:
        """The word for the decision; the disposition is the other axis."""
        if self.covered or self.job is Job.REFUSED:
            return "cancelled"
        return "running" if self.job.in_flight else self.job.value


class Tree:
    """All directories that were found, by execution id, and the sums over them."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.nodes: dict[str, Node] = {}
        self.hashed = 0
        self.size = 0
        self.unreadable = 0
        self.refused_at_gate = 0
        self.jobs: Counter[Job] = Counter()
        self.root = self.add("", None)
        self.command: Node | None = None

    def add(self, relative: str, parent: Node | None) -> Node:
        node = Node(execution_id(self.run_id, relative), relative, parent, parent.depth + 1 if parent else 0)
        if parent is not None:
            parent.children.append(node)
        self.nodes[node.execution_id] = node
        self.jobs[node.job] += 1
        return node

    def add_command(self, name: str) -> Node:
        """A command that runs beside the directories, below the root; no directory has an id with an `@`."""
        root = self.root
        self.command = Node(f"{self.run_id}:@{name}", name, root, 1, is_command=True)
        root.children.append(self.command)
        self.nodes[self.command.execution_id] = self.command
        self.jobs[self.command.job] += 1
        return self.command

    def move(self, node: Node, job: Job) -> None:
        self.jobs[node.job] -= 1
        self.jobs[job] += 1
        node.job = job

    @property
    def begun(self) -> bool:
        """The command, which takes longest to start, and the root are running or have run."""
        return all(node.job is not Job.QUEUED for node in (self.root, self.command) if node is not None)

    @property
    def directories(self) -> int:
        return len(self.nodes) - (self.command is not None)

    @property
    def in_flight(self) -> int:
        return self.jobs[Job.RUNNING] + self.jobs[Job.WAITING]

    @property
    def still_running(self) -> list[Node]:
        """What was cancelled and is not settled, deepest first."""
        return sorted((node for node in self.nodes.values() if node.still_running), key=lambda one: -one.depth)

    def dispositions(self) -> Counter[Disposition]:
        return Counter(node.disposition for node in self.nodes.values() if node.disposition is not None)

    def learn(self, report: broker.CancelReport) -> None:
        """Takes over what the broker reports. What was asked and is not in its list any more is settled."""
        running = {one.execution_id: one for one in report.still_running}
        told = {one.execution_id for one in report.nodes if one.status == "cancelled"}
        for node in self.nodes.values():
            if node.job not in (Job.DONE, Job.FAILED):
                node.covered = True
            if node.execution_id in told:
                node.covered = node.told = True
            if (one := running.get(node.execution_id)) is not None:
                node.covered, node.disposition = True, one.disposition
                node.age_s, node.overdue = one.age, one.overdue
                if one.attempts:
                    node.told, node.cause = True, str(one.cause)
            elif node.covered and not report.still_running_truncated:
                node.disposition = _settled_word(node, killed=bool(report.dispositions.get(Disposition.KILLED)))
                node.covered = node.disposition is not None


def _settled_word(node: Node, *, killed: bool) -> Disposition | None:
    """The broker says that it is settled, the worker how it ended; None: it had succeeded before it was told."""
    if node.is_command and killed:
        return Disposition.KILLED  # only a command can be ended by force, and there is one
    match node.job:
        case Job.DONE | Job.FAILED:
            return Disposition.ENDED_ITSELF if node.told else None
        case Job.QUEUED | Job.REFUSED:
            return Disposition.NEVER_STARTED
        case Job.STOPPED | Job.RUNNING | Job.WAITING:
            return Disposition.ENDED_ITSELF if node.swallows else Disposition.STOPPED
