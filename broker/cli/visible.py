"""Text from elsewhere, made harmless: what reaches a terminal may not move its cursor, hide or fake a line."""

from __future__ import annotations


def visible(text: str) -> str:
    """Control characters, direction marks and half surrogates as `\\x1b`, `\\u202e`; all on one line."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escape(one) for one in text)


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
