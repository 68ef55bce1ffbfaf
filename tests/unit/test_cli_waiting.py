"""A cancel that is followed while its server comes and goes."""

from __future__ import annotations

from typing import Any, cast

import pytest

from broker.cli import news, waiting
from broker.cli.client import Client, Reply
from broker.errors import BrokerUnavailable
from tests.support.answers import report_answer, straggler
from tests.support.stub_server import talking
from tests.support.wait import wait_until_sync


class Server:
    """Answers, or is away, in this order."""

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)

    def get_at(self, *_: object) -> Any:
        answer = self._answers.pop(0)
        if answer in ("open", "settled"):
            running = [straggler("leaf")] if answer == "open" else []
            return Reply(report_answer(*running), {})
        raise BrokerUnavailable(answer)


def test_why_a_server_is_away_is_said_once_until_it_is_another_or_away_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting._Clock, "pause", lambda *_: None)
    said: list[str] = []
    server = Server("open", "reset", "refused", "refused", "refused", "open", "refused", "settled")
    last = waiting.follow_report(
        cast(Client, server), "x", {}, wait_s=60.0, live=True, on_report=lambda _: None, on_gap=said.append
    )
    assert last.answer.state == "settled"
    assert said == ["reset", "refused", "refused"]


def test_a_stream_that_was_cut_is_opened_again_behind_the_last_whole_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a server that was killed leaves it: in the middle of a chunk, without the last one."""
    monkeypatch.setattr(news, "RETRY_PAUSE_S", 0.0)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    events = b"id: 7-1\nevent: ack\ndata: {}\n\nid: 8-1\nevent: ack\n"
    refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    cut = head + b"%x\r\n%s\r\n5\r\nda" % (len(events), events)
    with (
        talking(cut, refused) as (url, asked),
        Client(url, None, "5") as client,
        news.News(client, "nightly") as stream,
    ):
        wait_until_sync(lambda: len(asked) == 2 and not stream._reader.is_alive(), "it to be refused")
    assert [b"last-event-id: 7-1" in one.lower() for one in asked] == [False, True]
