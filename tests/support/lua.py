"""Lua 5.1 asked about itself: which globals a script reads and writes, from its byte code."""

from __future__ import annotations

import struct
from typing import NamedTuple

from lupa.lua51 import LuaRuntime

GETGLOBAL, SETGLOBAL = 5, 7
HEADER_BYTES = 12
NUMBER, TEXT = 3, 4


class Globals(NamedTuple):
    """Names that a script uses and has not declared."""

    read: set[str]
    written: set[str]


def globals_of(source: str) -> Globals:
    """What a script reads and writes outside its locals, in any of its functions, whether they run or not."""
    lua = LuaRuntime(encoding=None)
    dump = lua.eval("function(source) return string.dump(assert(loadstring(source))) end")
    found = Globals(set(), set())
    _Reader(dump(source.encode())).function(found)
    return found


class _Reader:
    """A chunk as `string.dump` writes it: little-endian, 4-byte int, 8-byte size_t, 8-byte double."""

    def __init__(self, chunk: bytes) -> None:
        assert chunk[:HEADER_BYTES] == b"\x1bLua\x51\x00\x01\x04\x08\x04\x08\x00", chunk[:HEADER_BYTES]
        self._chunk, self._at = chunk, HEADER_BYTES

    def function(self, found: Globals) -> None:
        self._text()
        self._skip(4 + 4 + 4)  # first and last line; upvalues, parameters, vararg, stack
        code = [self._number("<I") for _ in range(self._number("<i"))]
        constants = [self._constant() for _ in range(self._number("<i"))]
        for instruction in code:
            opcode, index = instruction & 0x3F, instruction >> 14
            if opcode in (GETGLOBAL, SETGLOBAL):
                (found.read if opcode == GETGLOBAL else found.written).add(constants[index])
        for _ in range(self._number("<i")):
            self.function(found)
        self._skip(4 * self._number("<i"))  # lines
        for _ in range(self._number("<i")):
            self._text()
            self._skip(8)
        for _ in range(self._number("<i")):
            self._text()

    def _constant(self) -> str:
        kind = self._number("<B")
        if kind == TEXT:
            return self._text()
        self._skip({0: 0, 1: 1, NUMBER: 8}[kind])
        return ""

    def _text(self) -> str:
        size = self._number("<Q")
        text = self._chunk[self._at : self._at + size]
        self._skip(size)
        return text.rstrip(b"\0").decode()

    def _number(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self._chunk, self._at)
        self._skip(struct.calcsize(form))
        return int(value)

    def _skip(self, size: int) -> None:
        self._at += size
