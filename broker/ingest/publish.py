"""Publishing events for those who cannot XADD: checked first, so that a mistake is answered and not buried."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from broker.errors import InvalidInput
from broker.protocol.events import EVENT_TYPES, VERSION, parse_event
from broker.store.streams import EventStream


class Published(NamedTuple):
    """What became of one event: its stream id, or a code and a text that say why it was refused."""

    entry_id: str | None
    error: str | None = None
    message: str | None = None


async def publish_events(stream: EventStream, events: Sequence[object]) -> tuple[Published, ...]:
    """Appends what can be applied, in this order, and answers for each. Raises BrokerUnavailable, StoreRefused.

    An event is an object of JSON (as Python values). What the ingest would drop is refused here.
    """
    checked = [_check(event) for event in events]
    ids = iter(await stream.publish([one for one in checked if isinstance(one, str)]))
    return tuple(Published(next(ids)) if isinstance(one, str) else one for one in checked)


def _check(event: object) -> str | Published:
    """The event as it goes on the stream, or its refusal."""
    try:
        payload = json.dumps(event, separators=(",", ":"), allow_nan=False)
        parsed = parse_event(payload)
    except InvalidInput as error:
        return Published(None, error.code, str(error))
    except (TypeError, ValueError, RecursionError) as error:
        return Published(None, InvalidInput.code, f"event is not JSON: {error}")
    if parsed is None:
        allowed = ", ".join(sorted(EVENT_TYPES))
        return Published(None, InvalidInput.code, f"event of an unknown type or version; v {VERSION} has {allowed}")
    return payload
