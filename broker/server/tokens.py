"""Tokens: who may do what. The server knows only their SHA-256, which is enough because they are long and random."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from broker.errors import Forbidden, InvalidInput, Unauthorized
from broker.protocol.names import check_id

_PREFIX = "cbt_"
_RANDOM_BYTES = 32
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FORM = "a line is `name scope[,scope] sha256`, the scopes observe, publish, cancel, the hash 64 hexadecimal digits"


class Right(StrEnum):
    """The scopes of tokens. `publish` and `cancel` include `observe`, not each other."""

    OBSERVE = "observe"
    PUBLISH = "publish"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    rights: frozenset[Right]
    sha256: str

    def __repr__(self) -> str:
        return f"token {self.name}"  # the hash stays out of every log and traceback


class Tokens:
    """The tokens that a server accepts; none at all means that everyone who reaches it may do everything."""

    def __init__(self, entries: Iterable[_Entry] = ()) -> None:
        self._entries = tuple(entries)

    @classmethod
    def parse(cls, text: str, source: str) -> Tokens:
        """Reads lines; blank ones and those that begin with # are skipped. Raises InvalidInput that names the line."""
        entries = [
            _parse_line(line, f"{source}, line {number}")
            for number, line in enumerate(text.splitlines(), start=1)
            if line.strip() and not line.lstrip().startswith("#")
        ]
        if not entries:
            raise InvalidInput(f"{source}: holds no token; {_FORM}")
        return cls(entries)

    @classmethod
    def read(cls, path: str, source: str) -> Tokens:
        """Reads a file. Raises InvalidInput."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{source} {path!r}: cannot be read: {error}; allowed is a text file") from error
        return cls.parse(text, f"{source} {path}")

    def __bool__(self) -> bool:
        return bool(self._entries)

    def check(self, token: str | None, right: Right) -> str:
        """The name of the token. Raises Unauthorized and Forbidden."""
        if not token:
            raise Unauthorized("a token is needed: Authorization: Bearer <token>, or X-API-Key: <token>")
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        found = [one for one in self._entries if hmac.compare_digest(one.sha256, digest)]  # all, whichever matches
        if not found:
            raise Unauthorized("this token is not known here")
        allowed = frozenset[Right]().union(*(one.rights for one in found))
        if right not in allowed:
            scopes = ", ".join(sorted(allowed))
            raise Forbidden(f"token {found[0].name} has the scopes {scopes}; this needs {right}")
        return found[0].name


def new_token(name: str, scopes: Iterable[str]) -> tuple[str, str]:
    """A fresh token, to be shown once, and the line for the server's file. Raises InvalidId and InvalidInput."""
    token = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    rights = _rights(list(scopes), "scopes")
    words = ",".join(right for right in Right if right in rights)
    return token, f"{check_id(name, 'name')} {words} {hashlib.sha256(token.encode()).hexdigest()}"


def _parse_line(line: str, place: str) -> _Entry:
    """The text of an error leaves the hash out."""
    fields = line.split()
    if len(fields) != 3 or not _SHA256.fullmatch(fields[2].lower()):
        raise InvalidInput(f"{place}: {len(fields)} words, or no hash at its end; {_FORM}")
    name, scopes, sha256 = fields
    rights = _rights(scopes.split(","), place)
    return _Entry(check_id(name, place), rights | {Right.OBSERVE}, sha256.lower())


def _rights(words: list[str], place: str) -> frozenset[Right]:
    unknown = [word for word in words if word not in tuple(Right)]
    if unknown or not words:
        raise InvalidInput(f"{place}: scopes {','.join(words)[:100]!r}: allowed are {', '.join(Right)}")
    return frozenset(map(Right, words))
