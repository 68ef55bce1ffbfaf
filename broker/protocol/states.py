"""The words of the two axes, each with its facts beside it: the only table of states.

`Status` is the record of the *decision*, `Disposition` what *really happened* to a cancelled
execution. The Lua tables and the picture in README.md are compared with this file by tests.
"""

from __future__ import annotations

from enum import StrEnum

# The defaults in the `__new__` below are only for the type checker, for look-ups like `Status("running")`.


class Status(StrEnum):
    """Canonical status words. A terminal status never changes again.

    `aliases` are the other words accepted on input, in lower case.
    """

    terminal: bool
    aliases: tuple[str, ...]

    def __new__(cls, word: str, terminal: bool = False, *aliases: str) -> Status:
        member = str.__new__(cls, word)
        member._value_ = word
        member.terminal = terminal
        member.aliases = aliases
        return member

    PENDING = "pending", False
    QUEUED = "queued", False, "wait"
    RUNNING = "running", False, "in_progress", "processing"
    WAITING = "waiting", False, "awaiting_approval", "awaiting_human", "approval_pending"
    PAUSED = "paused", False, "pause", "hold", "on_hold", "suspended"
    UNKNOWN = "unknown", False
    SUCCEEDED = "succeeded", True, "success", "successful", "completed", "complete", "done", "ok"
    FAILED = "failed", True, "error", "failure", "errored"
    CANCELLED = "cancelled", True, "canceled", "cancel"
    TIMEOUT = "timeout", True, "timed_out"


class Disposition(StrEnum):
    """What really happened to a cancelled execution.

    `rank` never falls: 0 nothing heard, 1 its worker heard (the worker's own sequence number decides
    between these), 2 settled. The first settled one stays, except where it is `replaceable` by evidence
    of a start or of life.
    """

    rank: int
    meaning: str
    replaceable: bool

    def __new__(cls, word: str, rank: int = 0, meaning: str = "", replaceable: bool = False) -> Disposition:
        member = str.__new__(cls, word)
        member._value_ = word
        member.rank = rank
        member.meaning = meaning
        member.replaceable = replaceable
        return member

    @property
    def settled(self) -> bool:
        """Whether nothing more is expected: the only state in which slots and locks are free."""
        return self.rank == 2

    ASKED = "asked", 0, "intent recorded, message published, nothing heard"
    RECEIVED = "received", 1, "its worker heard and is stopping"
    DEFERRED = "deferred", 1, "heard, inside a declared shield until at most t"
    REFUSED = "refused", 1, "heard, and the worker said it will not stop"
    NEVER_STARTED = "never_started", 2, "no claim is open and it was not said to be running", True
    STOPPED = "stopped", 2, "its holder says the work has ended because of the cancel"
    KILLED = "killed", 2, "ended by force"
    ENDED_ITSELF = "ended_itself", 2, "it ended by itself; the real outcome is kept beside it"
    LOST = "lost", 2, "proved gone; outcome unknown, side effects may exist", True


class Cause(StrEnum):
    """Why an execution is still running. Listed in the order of testing: the first that is true is reported."""

    meaning: str

    def __new__(cls, word: str, meaning: str = "") -> Cause:
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning = meaning
        return member

    REFUSED = "refused", "its worker heard and said it will not stop"
    DEFERRED = "deferred", "its worker heard and is inside a declared shield"
    STOPPING = "stopping", "its worker heard and is stopping"
    NO_WORKER = "no_worker", "it is said to be running, but no worker ever claimed it"
    WORKER_LOST = "worker_lost", "its worker's heartbeat has expired: a suspicion, not a proof"
    NOT_DELIVERED = "not_delivered", "the last message reached no subscriber"
    NO_ACK = "no_ack", "it was told, and nothing was heard"


class Source(StrEnum):
    """What an execution was told by: a cancel of itself, of its run, of a subtree, or the closed gate."""

    CANCEL_API = "cancel_api"
    CANCEL_TREE = "cancel_tree"
    CANCEL_SUBTREE = "cancel_subtree"
    GATE = "gate"


class Scope(StrEnum):
    """How much a cancel covers: all executions, an execution and its descendants, or just one."""

    RUN = "run"
    SUBTREE = "subtree"
    EXECUTION = "execution"


class Order(StrEnum):
    """Both tell the deepest level first; with the barrier a level waits for the one below, for a bounded time."""

    BOTTOM_UP = "bottom_up"
    BOTTOM_UP_BARRIER = "bottom_up_barrier"


def lua_words() -> dict[str, str]:
    """Every accepted input word, in lower case, with its canonical status: what the Lua table has to equal."""
    return {word: status.value for status in Status for word in (status.value, *status.aliases)}


_BY_WORD = {word: Status(canonical) for word, canonical in lua_words().items()}


def normalise(word: str) -> Status:
    """The canonical status of a word from outside: trimmed, in lower case; any other word is `unknown`.

    Trims and folds ASCII only, as Lua does, so that both sides agree on every input.
    """
    if not word.isascii():
        return Status.UNKNOWN
    return _BY_WORD.get(word.strip(" \t\n\v\f\r").lower(), Status.UNKNOWN)


def is_terminal(word: str) -> bool:
    """Whether a status word, raw or canonical, is terminal."""
    return normalise(word).terminal


def mermaid() -> str:
    """The picture of both axes as a fenced mermaid block, drawn from the tables above."""
    open_words = [status.value for status in Status if not status.terminal]
    terminal_words = [status.value for status in Status if status.terminal]
    nothing, heard, settled = ([d.value for d in Disposition if d.rank == rank] for rank in (0, 1, 2))
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += ['    state "status: what was decided" as status {']
    lines += _group("not terminal", "open", open_words) + _group("terminal", "terminal", terminal_words)
    lines += ["        [*] --> open", "        open --> terminal : once, one compare-and-set decides", "    }"]
    lines += ['    state "disposition: what really happened" as disposition {']
    lines += _group("rank 0: nothing heard", "rank0", nothing)
    lines += _group("rank 1: heard", "rank1", heard) + _group("rank 2: settled", "rank2", settled)
    lines += ["        [*] --> rank0 : told", "        [*] --> rank2 : nothing to tell"]
    lines += ["        rank0 --> rank1", "        rank0 --> rank2", "        rank1 --> rank2"]
    lines += [f"        {d.value} --> rank0 : evidence reopens" for d in Disposition if d.replaceable]
    return "\n".join([*lines, "    }", "```"])


def _group(title: str, name: str, words: list[str]) -> list[str]:
    """A composite state of the picture with one line for each word."""
    return [f'        state "{title}" as {name} {{', *(f"            {word}" for word in words), "        }"]
