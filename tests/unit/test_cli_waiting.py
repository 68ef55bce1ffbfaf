"""A cancel that is followed while its server comes and goes."""

from __future__ import annotations

from typing import Any, cast

import pytest

from broker.cli import waiting
from broker.cli.client import Client, Reply
from broker.errors import BrokerUnavailable
from tests.support.answers import report_answer, straggler


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
