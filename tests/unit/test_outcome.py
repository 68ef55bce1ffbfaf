"""How a body ended, and what is said of it: `stopped` only where the cancel was the reason."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from broker.errors import CancelCause, ExecutionCancelled
from broker.protocol.states import Disposition
from broker.worker.outcome import DETAIL_LIMIT, NEVER_RAN, Outcome, outcome_of

STOPPED, ITSELF = Disposition.STOPPED, Disposition.ENDED_ITSELF


def ended(error: BaseException | None, *, delivered: bool = False, seen: bool = False) -> Outcome:
    return outcome_of("x", error, delivered=delivered, seen=seen)


def asked(execution_id: str) -> ExecutionCancelled:
    return ExecutionCancelled(execution_id, CancelCause("c_1", "cancel_tree", "why"))


def raised(work: Callable[[], None]) -> BaseException:
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - it is what the test looks at
        return error
    raise AssertionError("nothing was raised")


def cleanup_that_fails() -> None:
    try:
        raise asyncio.CancelledError
    finally:
        raise OSError("disk full")


def translated() -> None:
    try:
        raise asyncio.CancelledError
    except asyncio.CancelledError as error:
        raise ValueError("gave up") from error


def test_what_returns_has_succeeded_by_itself() -> None:
    assert ended(None) == Outcome("succeeded", ITSELF)


def test_a_coroutine_that_returns_has_swallowed_its_cancel() -> None:
    assert ended(None, delivered=True) == Outcome("succeeded", ITSELF)


def test_a_thread_that_looked_and_returned_has_stopped() -> None:
    assert ended(None, delivered=True, seen=True) == Outcome("cancelled", STOPPED)


@pytest.mark.parametrize(("delivered", "disposition"), [(True, STOPPED), (False, ITSELF)])
def test_a_cancelled_error_is_ours_only_when_it_was_delivered(delivered: bool, disposition: Disposition) -> None:
    assert ended(asyncio.CancelledError(), delivered=delivered) == Outcome("cancelled", disposition)


def test_the_error_of_a_look_is_ours_only_with_our_id() -> None:
    assert ended(asked("x")) == Outcome("cancelled", STOPPED)
    assert ended(asked("child")).disposition is ITSELF
    assert ended(asked("child")).status == "failed"


@pytest.mark.parametrize("work", [cleanup_that_fails, translated])
def test_a_failure_that_comes_from_the_cancel_is_a_stop(work: Callable[[], None]) -> None:
    error = raised(work)
    assert ended(error, delivered=True)[:2] == ("failed", STOPPED)
    assert ended(error)[:2] == ("failed", ITSELF)


def test_a_group_that_holds_the_cancel_is_a_stop() -> None:
    group = BaseExceptionGroup("both", [ValueError(), BaseExceptionGroup("inner", [asyncio.CancelledError()])])
    assert ended(group, delivered=True)[:2] == ("failed", STOPPED)


def test_a_failure_of_its_own_after_the_cancel_is_no_stop() -> None:
    assert ended(ValueError("its own"), delivered=True) == Outcome("failed", ITSELF, "ValueError: its own")


def test_a_thread_that_looked_and_failed_has_stopped() -> None:
    assert ended(OSError("closed"), delivered=True, seen=True) == Outcome("failed", STOPPED, "OSError: closed")


def test_errors_that_name_each_other_come_to_an_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__context__ = second, first
    assert ended(first, delivered=True).disposition is ITSELF


def test_the_detail_is_cut() -> None:
    assert len(ended(ValueError("x" * 1000)).detail) == DETAIL_LIMIT


def test_what_never_ran_has_stopped() -> None:
    assert NEVER_RAN[:2] == ("cancelled", STOPPED)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), GeneratorExit()])
def test_what_ends_the_program_is_a_failure(error: BaseException) -> None:
    assert ended(error, delivered=True)[:2] == ("failed", ITSELF)
