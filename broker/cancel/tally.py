"""Pure: the records of a run, summed up page by page; what still runs is all that is kept of them.

A run has up to a million executions. Almost all of them have settled when their report is made, and of those it says
numbers. What it costs is the time from the last stop until the caller knows: hence a column at a time, in C.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import compress

from broker.protocol.records import ExecutionRecord, OperationRecord, Rows
from broker.protocol.states import Disposition, is_terminal

_BY_WORD = {one.value: one for one in Disposition}
_SETTLED = frozenset(one.value for one in Disposition if one.settled)
_ASKED, _NEVER_STARTED, _LOST = Disposition.ASKED.value, Disposition.NEVER_STARTED.value, Disposition.LOST.value
_NO_END, _NO_LAG = frozenset({_NEVER_STARTED, _LOST}), frozenset({_NEVER_STARTED})
_NOTHING_SAID = f"{_ASKED}|||||||"


class Tally:
    """What was read of the executions in an operation's scope. An execution that comes twice counts once.

    `told` has the disposition of each that has an intent, `skipped` counts those that had ended before they were told.
    `running`, `intents` and `acks` are the records, as text, of what still runs. `received_us` and `stopped_us` have a
    sample for each that was told and has answered: from the message until its worker had heard, and until it had ended.
    """

    def __init__(self, operation: OperationRecord) -> None:
        self._to_be_walked = operation.state == "open" and (operation.phase == "walking" or operation.dirty)
        self.told: dict[str, Disposition] = {}
        self.skipped = 0
        self.running: dict[str, str] = {}
        self.intents: dict[str, str] = {}
        self.acks: dict[str, str] = {}
        self.received_us, self.stopped_us = array("q"), array("q")
        self._untold: set[str] = set()
        self._said: Counter[str] = Counter()

    @property
    def executions(self) -> int:
        return len(self.told) + len(self._untold)

    @property
    def settled(self) -> int:
        return sum(count for word, count in self._said.items() if word in _SETTLED)

    @property
    def dispositions(self) -> dict[str, int]:
        """How many there are of each."""
        return dict(self._said)

    def add(self, page: Rows) -> None:
        """Counts these. Raises KeyError for a disposition that no script writes."""
        if not self._are_new(page.ids):
            page = _where(page, self._first(page.ids))
        if None in page.intents:
            self._add_untold(_where(page, (one is None for one in page.intents)))
            page = _where(page, (one is not None for one in page.intents))
        if page.ids:
            self._add_told(page)

    def _are_new(self, ids: Sequence[str]) -> bool:
        """Few pages have one that has come before: what finds that out costs less than looking at each."""
        return self.told.keys().isdisjoint(ids) and self._untold.isdisjoint(ids) and len(set(ids)) == len(ids)

    def _first(self, ids: Iterable[str]) -> Iterator[bool]:
        seen: set[str] = set()
        for one in ids:
            yield not (one in seen or one in self.told or one in self._untold)
            seen.add(one)

    def _add_untold(self, page: Rows) -> None:
        """They had ended before, or a walk that has not come by yet is to tell them."""
        for one, raw, _, ack in zip(*page, strict=True):
            record = ExecutionRecord.parse(raw)
            ended = is_terminal(record.raw_status)
            self._untold.add(one)
            self.skipped += ended
            if self._to_be_walked and (record.claimed or record.seen_to_run or not ended):
                self._keep(one, raw, None, ack)

    def _add_told(self, page: Rows) -> None:
        acks = [_NOTHING_SAID if ack is None else ack for ack in page.acks]
        words = [ack.partition("|")[0] for ack in acks]
        if not _NO_LAG.issuperset(words):  # of a run of which most was never started that saves half
            self._take_lags(words, page.intents, acks)
        self._said.update(words)
        self.told.update(zip(page.ids, map(_BY_WORD.__getitem__, words), strict=True))
        if not _SETTLED.issuperset(words):
            for row in zip(*_where(page, (word not in _SETTLED for word in words)), strict=True):
                self._keep(*row)

    def _take_lags(self, words: Sequence[str], intents: Iterable[str | None], acks: Sequence[str]) -> None:
        """Published → heard, and published → ended; what was settled without being told has no lag.

        A proof of death is no answer: what is lost was heard if it ever said so, and its end is unknown (trap T35).
        Taken apart field by field: lists that wait for each other would call the garbage collector.
        """
        published_us = [int(one.split("|", 2)[1]) for one in intents if one is not None]
        received, settled = [one.rsplit("|", 3)[1] for one in acks], [one.rsplit("|", 3)[2] for one in acks]
        ended_us = [int(at) if at and word not in _NO_END else 0 for word, at in zip(words, settled, strict=True)]
        heard = zip(words, received, ended_us, strict=True)
        heard_us = [int(at) if at and word != _NEVER_STARTED else ended for word, at, ended in heard]
        self.received_us.extend(_lags(heard_us, published_us))
        self.stopped_us.extend(_lags(ended_us, published_us))

    def _keep(self, one: str, raw: str, intent: str | None, ack: str | None) -> None:
        self.running[one] = raw
        if intent is not None:
            self.intents[one] = intent
        if ack is not None:
            self.acks[one] = ack

    @property
    def cancel_ids(self) -> set[str]:
        """The operations that told what still runs: their deadlines count, too."""
        return {intent.partition("|")[0] for intent in self.intents.values()}

    def holders(self, worker_of_slot: Mapping[str, str]) -> set[str]:
        """The workers whose heartbeat can be a cause: those that hold what was told and is not settled."""
        slots = {ExecutionRecord.parse(self.running[one]).slot for one in self.intents}
        return {worker_of_slot[slot] for slot in slots if slot in worker_of_slot}


def _where(page: Rows, chosen: Iterable[bool]) -> Rows:
    """Some rows of a page."""
    keep = list(chosen)
    ids, executions, intents, acks = page
    return Rows(
        list(compress(ids, keep)), list(compress(executions, keep)), list(compress(intents, keep)),
        list(compress(acks, keep)),
    )  # fmt: skip


def _lags(at_us: Iterable[int], published_us: Iterable[int]) -> list[int]:
    """In microseconds. Without those that are 0, and with none for what was settled by the script that told it."""
    pairs = zip(at_us, published_us, strict=True)
    return [max(0, at - published) for at, published in pairs if at and at != published]
