"""What this process holds against what the broker believes that it holds.

A ghost holds a claim that the store has closed or given to another: its heart was taken for dead, or it was
declared so. Where a newer claim exists ours ends; where the claim was closed as lost it says that it lives, and
the script that hears it takes the loss back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from broker.errors import CancelCause, InvalidInput
from broker.observe.events import EXECUTION_GHOST, EXECUTION_NOT_HELD, MESSAGE_REFUSED
from broker.observe.log import get_logger
from broker.protocol.messages import DoYouHoldMessage, parse_message
from broker.protocol.states import Disposition
from broker.store.claims import Claims, Holder
from broker.worker.acks import Acks
from broker.worker.held import Held

log = get_logger("broker.worker")

FENCED = "fenced"


class Ghosts:
    """Compares `held` with the store; lives on the listener's loop."""

    def __init__(self, held: Mapping[str, Held], claims: Claims, acks: Acks, holder: Holder) -> None:
        self._held = held
        self._claims = claims
        self._acks = acks
        self._holder = holder

    def asked(self, payload: bytes) -> list[str]:
        """A message on the control channel: `do_you_hold`. What is not held is said so, until that is accepted.

        Answers what is held and was not told to its body: those intents are to be read. Held counts from before
        SUBSCRIBE until the end is recorded, so a start or an end that is under way is no `not_held`.
        """
        try:
            message = parse_message(payload)
        except InvalidInput as error:
            log.warning(MESSAGE_REFUSED, error=str(error))
            return []
        if not isinstance(message, DoYouHoldMessage) or message.incarnation != self._holder.incarnation:
            return []
        mine = [(one, start, self._held.get(one)) for one, start in message.executions]
        gone = [(one, start) for one, start, held in mine if held is None or held.start not in (0, start)]
        if gone:
            log.warning(EXECUTION_NOT_HELD, run_id=message.run_id, executions=len(gone), first=gone[0][0])
            self._acks.not_held(message.run_id, gone)
        return [one for one, _, held in mine if held is not None and not held.applied]

    async def look(self, run_id: str, execution_ids: Sequence[str]) -> None:
        """Reads the claims as they stand in the store, where the epoch of the run has changed."""
        records = await self._claims.records(run_id, execution_ids)
        for execution_id, record in records.items():
            held = self._held.get(execution_id)
            if held is None or held.ended or held.start == 0:
                continue
            if int(record.start) > held.start:
                self._stop_superseded(held, int(record.start))
            elif not record.claimed:
                self._warn(held, "its claim is closed")
                self._acks.say(held, *held.said)

    def _stop_superseded(self, held: Held, newest: int) -> None:
        """Where our heart was taken for dead, another may have claimed what is held here: it goes on, ours ends."""
        self._warn(held, f"start {newest} has replaced it")
        held.fire(
            CancelCause("", FENCED, f"start {newest} of {held.execution_id} has replaced start {held.start}"), False
        )

    def replaced(self, held: Held) -> None:
        """Redis has lost the claim, and has given it to another since: numbers say nothing there, ours ends."""
        why = f"another claim of {held.execution_id} has replaced start {held.start}"
        self._warn(held, why)
        held.fire(CancelCause("", FENCED, why), False)

    def fence(self, newest: int) -> None:
        """A newer process has this worker id, or this one was declared dead: all that is held ends, and says so."""
        why = f"incarnation {newest} of {self._holder.worker_id} has replaced incarnation {self._holder.incarnation}"
        for held in list(self._held.values()):
            held.fire(CancelCause("", FENCED, why), False)
            if held.start and not held.ended:
                self._warn(held, why)
                self._acks.say(held, Disposition.RECEIVED, f"fenced: {why}")

    @staticmethod
    def _warn(held: Held, why: str) -> None:
        log.error(EXECUTION_GHOST, run_id=held.run_id, execution_id=held.execution_id, start=held.start, why=why)
