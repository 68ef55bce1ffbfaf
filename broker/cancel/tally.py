"""Pure: the records of a run, summed up page by page; what still runs is all that is kept of them.

A run has up to a million executions. Almost all of them have settled when their report is made, and of those it says
numbers.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping

from broker.protocol.records import ExecutionRecord, OperationRecord, Rows
from broker.protocol.states import Disposition, is_terminal

_WORDS = {one.value: (one, one.settled) for one in Disposition}
_NEVER_STARTED, _LOST = Disposition.NEVER_STARTED.value, Disposition.LOST.value


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
        self._untold: set[str] = set()
        self._said: Counter[str] = Counter()
        self.received_us, self.stopped_us = array("q"), array("q")

    @property
    def executions(self) -> int:
        return len(self.told) + len(self._untold)

    @property
    def settled(self) -> int:
        return sum(count for word, count in self._said.items() if _WORDS[word][1])

    @property
    def dispositions(self) -> dict[str, int]:
        """How many there are of each."""
        return dict(self._said)

    def add(self, page: Rows) -> None:
        """Counts these."""
        told, untold, said = self.told, self._untold, self._said
        for one, raw, intent, ack in zip(*page, strict=True):
            if one in told or one in untold:
                continue
            if intent is None:
                untold.add(one)
                self._look_at_untold(one, raw, ack)
                continue
            word = "asked" if ack is None else ack[: ack.index("|")]
            told[one], settled = _WORDS.get(word) or _unknown(word)
            said[word] += 1
            if not settled:
                self._keep(one, raw, intent, ack)
            if ack is not None and word != _NEVER_STARTED:
                self._take_lag(word, intent, ack)

    def _look_at_untold(self, one: str, raw: str, ack: str | None) -> None:
        """It had ended before, or a walk that has not come by yet is to tell it."""
        record = ExecutionRecord.parse(raw)
        ended = is_terminal(record.raw_status)
        self.skipped += ended
        if self._to_be_walked and (record.claimed or record.seen_to_run or not ended):
            self._keep(one, raw, None, ack)

    def _keep(self, one: str, raw: str, intent: str | None, ack: str | None) -> None:
        self.running[one] = raw
        if intent is not None:
            self.intents[one] = intent
        if ack is not None:
            self.acks[one] = ack

    def _take_lag(self, word: str, intent: str, ack: str) -> None:
        """Published → heard, and published → ended; what was settled without being told has no lag.

        A proof of death is no answer: what is lost was heard if it ever said so, and its end is unknown (trap T35).
        """
        published_us = int(intent.split("|", 2)[1])
        _, _, _, _, _, received, settled, _ = ack.split("|")
        ended = "" if word == _LOST else settled
        for at, samples in ((received or ended, self.received_us), (ended, self.stopped_us)):
            if at and (at_us := int(at)) != published_us:  # equal: settled by the script that wrote the intent
                samples.append(max(0, at_us - published_us))

    def holders(self, worker_of_slot: Mapping[str, str]) -> set[str]:
        """The workers whose heartbeat can be a cause: those that hold what was told and is not settled."""
        slots = {ExecutionRecord.parse(self.running[one]).slot for one in self.intents}
        return {worker_of_slot[slot] for slot in slots if slot in worker_of_slot}


def _unknown(word: str) -> tuple[Disposition, bool]:
    """Raises ValueError: no script writes another word."""
    return Disposition(word), False
