"""The conformance kit's proxy cuts RESP into values, whole or not at all."""

from __future__ import annotations

import hiredis
import pytest

from broker.cli.conformance.proxy import frame_end

WHOLE = [
    b"+OK\r\n",
    b":12\r\n",
    b"-ERR no\r\n",
    b"_\r\n",
    b"#t\r\n",
    b"$-1\r\n",
    b"$0\r\n\r\n",
    b"$4\r\na\r\nb\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*2\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n",
    b"%1\r\n+a\r\n*1\r\n:1\r\n",
    b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\n{}\r\n",
]


@pytest.mark.parametrize("frame", WHOLE)
def test_a_value_ends_where_the_next_begins_and_no_earlier(frame: bytes) -> None:
    assert frame_end(frame) == len(frame)
    assert frame_end(frame + b"+OK\r\n") == len(frame)
    assert [frame_end(frame[:end]) for end in range(len(frame))] == [-1] * len(frame)
    reader = hiredis.Reader(notEnoughData=None)
    reader.feed(frame + b"+next\r\n")
    reader.gets()
    assert reader.gets() == b"next", "hiredis sees the same border"
