"""What the caller asks the supervisor to start, as bytes on the channel: both ends of it in one file."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LENGTH_BYTES = 8


class Request:
    """`group` is the process group to join, or 0 for a session of its own; `whole_tree` false asks for the fallback."""

    __slots__ = ("argv", "env", "grace_s", "group", "whole_tree")

    def __init__(
        self, argv: Sequence[bytes], env: Mapping[bytes, bytes], *, grace_s: float, group: int, whole_tree: bool
    ) -> None:
        self.argv = argv
        self.env = env
        self.grace_s = grace_s
        self.group = group
        self.whole_tree = whole_tree

    def encode(self) -> bytes:
        """Eight bytes of length, then fields that end with a NUL each. Raises ValueError for a NUL inside one."""
        head = f"{self.whole_tree:d} {self.group} {self.grace_s} {len(self.argv)}".encode()
        fields = [head, *self.argv, *(name + b"=" + value for name, value in self.env.items())]
        if any(b"\0" in field for field in fields):
            raise ValueError("a word of the command or its environment holds a NUL byte")
        body = b"".join(field + b"\0" for field in fields)
        return len(body).to_bytes(LENGTH_BYTES, "big") + body


def read_request(channel: int) -> Request | None:
    """Waits for it. None where the caller went away before it had sent everything."""
    length = _read(channel, LENGTH_BYTES)
    body = _read(channel, int.from_bytes(length, "big")) if length else b""
    if not body:
        return None
    head, *fields = body.split(b"\0")[:-1]
    whole_tree, group, grace_s, words = head.split()
    argv, env = fields[: int(words)], fields[int(words) :]
    return Request(
        argv,
        dict(_pair(field) for field in env),
        grace_s=float(grace_s),
        group=int(group),
        whole_tree=whole_tree == b"1",
    )


def _pair(field: bytes) -> tuple[bytes, bytes]:
    name, _, value = field.partition(b"=")
    return name, value


def _read(channel: int, size: int) -> bytes:
    """Exactly `size` bytes, or none where the channel ends before."""
    data = b""
    while len(data) < size:
        more = os.read(channel, size - len(data))
        if not more:
            return b""
        data += more
    return data
