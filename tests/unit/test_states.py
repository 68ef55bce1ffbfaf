"""The one table of states: its words, its ranks, and the picture in broker/protocol/README.md."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import broker.protocol.states as states
from broker.protocol.states import (
    Cause,
    Disposition,
    Order,
    Scope,
    Source,
    Status,
    is_terminal,
    lua_words,
    mermaid,
    normalise,
)

README = Path(states.__file__).with_name("README.md")

ALIASES = {
    "succeeded": "success, successful, completed, complete, done, ok",
    "failed": "error, failure, errored",
    "cancelled": "canceled, cancel",
    "paused": "pause, hold, on_hold, suspended",
    "timeout": "timed_out",
    "queued": "wait",
    "waiting": "awaiting_approval, awaiting_human, approval_pending",
    "running": "in_progress, processing",
}


def test_the_status_words_and_which_of_them_are_terminal() -> None:
    open_words = ["pending", "queued", "running", "waiting", "paused", "unknown"]
    terminal_words = ["succeeded", "failed", "cancelled", "timeout"]
    assert [status.value for status in Status if not status.terminal] == open_words
    assert [status.value for status in Status if status.terminal] == terminal_words


def test_the_aliases_are_those_of_the_wire_document_and_no_others() -> None:
    expected = {alias: status for status, aliases in ALIASES.items() for alias in aliases.split(", ")}
    expected |= {status.value: status.value for status in Status}
    assert lua_words() == expected
    text = " ".join(README.read_text().split())
    for status, aliases in ALIASES.items():
        assert f"{aliases} → {status}" in text


@pytest.mark.parametrize(("word", "status"), lua_words().items())
def test_words_are_trimmed_and_lower_cased(word: str, status: str) -> None:
    for variant in (word, word.upper(), word.title(), f" \t{word}\r\n"):
        assert normalise(variant) is Status(status)
        assert is_terminal(variant) is Status(status).terminal


@pytest.mark.parametrize(
    "word", ["", " ", "Running!", "time out", "skipped", "o\u212a", "\u00a0done", "done\x00", "\x1cok"]
)
def test_any_other_word_is_unknown_and_not_terminal(word: str) -> None:
    assert normalise(word) is Status.UNKNOWN
    assert not is_terminal(word)


@given(st.text())
def test_every_text_has_a_status_and_its_canonical_word_is_stable(word: str) -> None:
    status = normalise(word)
    assert normalise(status.value) is status


def test_no_word_means_two_statuses() -> None:
    words = [word for status in Status for word in (status.value, *status.aliases)]
    assert len(words) == len(set(words))


def test_the_ranks_of_the_dispositions() -> None:
    by_rank = {rank: {d.value for d in Disposition if d.rank == rank} for rank in range(3)}
    assert by_rank == {
        0: {"asked"},
        1: {"received", "deferred", "refused"},
        2: {"never_started", "stopped", "killed", "ended_itself", "lost"},
    }
    assert {d.value for d in Disposition if d.settled} == by_rank[2]
    assert {d.value for d in Disposition if d.replaceable} == {"never_started", "lost"}


def test_the_causes_stand_in_the_order_in_which_they_are_tested() -> None:
    assert [cause.value for cause in Cause] == [
        "refused",
        "deferred",
        "stopping",
        "no_worker",
        "worker_lost",
        "not_delivered",
        "no_ack",
    ]


def test_the_closed_sets_of_the_wire() -> None:
    assert [source.value for source in Source] == ["cancel_api", "cancel_tree", "cancel_subtree", "gate"]
    assert [scope.value for scope in Scope] == ["run", "subtree", "execution"]
    assert [order.value for order in Order] == ["bottom_up", "bottom_up_barrier"]


@pytest.mark.parametrize("member", [*Status, *Disposition, *Cause])
def test_members_are_their_words_everywhere(member: Status | Disposition | Cause) -> None:
    assert member == member.value == str(member) == f"{member}"
    assert type(member)(member.value) is member
    assert pickle.loads(pickle.dumps(member)) is member


@pytest.mark.parametrize("member", [*Disposition, *Cause])
def test_every_meaning_is_one_line_that_says_something(member: Disposition | Cause) -> None:
    assert 10 < len(member.meaning) < 100
    assert "\n" not in member.meaning


def test_the_picture_in_the_readme_is_drawn_from_the_tables() -> None:
    text = README.read_text()
    _, begin, rest = text.partition("<!-- states:begin -->\n")
    picture, end, _ = rest.partition("\n<!-- states:end -->")
    assert begin
    assert end
    assert picture == mermaid(), "paste the output of broker.protocol.states.mermaid() between the markers"


def test_every_word_is_in_the_picture() -> None:
    lines = {line.strip() for line in mermaid().splitlines()}
    assert {*(status.value for status in Status), *(disposition.value for disposition in Disposition)} <= lines
