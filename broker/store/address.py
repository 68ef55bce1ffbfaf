"""The address of a Redis that cannot be one: refused in one form, which keeps the password that may stand in it."""

from __future__ import annotations

import re

from broker.errors import InvalidInput

_CREDENTIALS = re.compile(r"(?<=//).*(?=@)", re.DOTALL)


def bad_address(url: str, error: ValueError) -> InvalidInput:
    """What to raise; the text of `error` may repeat a part of the password, so it is only said where there is none."""
    why = "" if "@" in url else f" {error};"
    return InvalidInput(f"Redis URL {_CREDENTIALS.sub('***', url)!r}:{why} allowed is redis://, rediss:// or unix://")
