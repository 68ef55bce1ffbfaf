"""Ids and texts that come from outside: checked here, before they reach a key, a channel or a log.

Every id (run, execution, worker, agent node, reasoner) has one grammar. It leaves out the braces of
the Cluster hash tag, the `|` that separates the fields of a compact record, and all white space, so an
id can stand in keys and records as it is. A leading `@` is ours: it marks the run of an execution that
has none.
"""

from __future__ import annotations

import re

from broker.errors import InvalidId, InvalidInput

ID_LIMIT = 200
"""Longest id, in characters (all ASCII, so also in bytes)."""
CANCEL_TEXT_LIMIT = 500
"""Longest reason or requested_by of an operation, in characters."""
NUMBER_LIMIT = 2**53 - 1
"""Largest incarnation, start number or seq: the last whole number that Lua tells from the next one."""
MESSAGE_TEXT_LIMIT = 120
"""The same in a cancel message, which has to stay small (about 400 B with its channel)."""

_ID = re.compile(r"[A-Za-z0-9._:-][A-Za-z0-9._:@-]{0,199}")
_SHOWN = 60
_POSITION = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
_LONE = "@"
_COUNTER = ":inc"


def check_id(value: object, field: str) -> str:
    """Return `value` unchanged if it is a well-formed id, else raise InvalidId that names `field`."""
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    raise InvalidId(
        f"{field}: {_show(value)} is not an id: allowed are 1 to {ID_LIMIT} characters of"
        " A-Z a-z 0-9 . _ : @ -, not beginning with @"
    )


def check_worker_id(value: object, field: str = "worker_id") -> str:
    """The same for a worker: `:inc` at its end is ours, it marks the counter of the worker id before it."""
    worker_id = check_id(value, field)
    if worker_id.endswith(_COUNTER):
        raise InvalidId(f"{field}: {worker_id!r} ends with {_COUNTER}, which the broker keeps for itself")
    return worker_id


def lone_run(execution_id: str) -> str:
    """The run key of an execution that belongs to no run. `execution_id` is checked already."""
    return _LONE + execution_id


def public_run(run_key: str) -> str | None:
    """The run id to show for a run key: None for an execution without a run, so that answers omit it."""
    return None if run_key.startswith(_LONE) else run_key


def check_position(value: str, what: str) -> str:
    """The id of an entry of a stream, as far as every such number is one for Redis. Raises InvalidInput."""
    if not _POSITION.fullmatch(value):
        raise InvalidInput(f"{what} {value[:60]!r}: allowed are ids of the stream, such as 1795342312489-0")
    return value


def run_in_words(run_key: str) -> str:
    """`run R`, or `execution E` for one without a run: what a text says."""
    return f"run {run_key}" if public_run(run_key) else f"execution {run_key.removeprefix(_LONE)}"


def clean_text(value: object, field: str, limit: int) -> str | None:
    """A text for people (reason, requested_by): trimmed, blank becomes None, cut to `limit` characters.

    Control characters stay: answers repeat the text as it was given, JSON and the log renderer escape
    them, and who prints to a terminal has to. Half surrogates, which JSON can carry and UTF-8 cannot,
    become `?`. Raises InvalidInput if it is neither a string nor None.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"{field}: {_show(value)} is not a text: allowed are a string or null")
    text = value.encode("utf-8", "replace").decode("utf-8")
    return text.strip()[:limit].rstrip() or None


def _show(value: object) -> str:
    """A repr short enough for an error, whatever the size of `value`."""
    if isinstance(value, str | bytes):
        cut = repr(value[:_SHOWN])
        return cut if len(value) <= _SHOWN else f"{cut}... ({len(value)} long)"
    if value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63):
        return repr(value)
    return f"a value of type {type(value).__name__}"
