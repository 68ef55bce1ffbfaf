"""The error tree: drawn as it is, with codes that never change, and able to cross a process boundary."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from broker import errors
from broker.errors import AlreadyClaimed, AlreadyTerminal, BrokerError, CancelCause, ExecutionCancelled

CLASSES = {name: cls for name, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, BrokerError)}

# API: people script against these. A line is added for a new class; no line ever changes.
FIXED = {
    "BrokerError": ("broker_error", 500, 1, False),
    "InvalidInput": ("invalid_input", 400, 2, False),
    "InvalidId": ("invalid_id", 400, 2, False),
    "TreeTooDeep": ("tree_too_deep", 400, 2, False),
    "BodyTooLarge": ("body_too_large", 413, 2, False),
    "MethodNotAllowed": ("method_not_allowed", 405, 2, False),
    "UnsupportedMediaType": ("unsupported_media_type", 415, 2, False),
    "Unauthorized": ("unauthorized", 401, 1, False),
    "Forbidden": ("forbidden", 403, 1, False),
    "NotFound": ("not_found", 404, 4, False),
    "NoCancellation": ("no_cancellation", 404, 4, False),
    "Conflict": ("conflict", 409, 1, False),
    "AlreadyTerminal": ("already_terminal", 409, 5, False),
    "AlreadyClaimed": ("already_claimed", 409, 1, False),
    "ExecutionInOtherRun": ("execution_in_other_run", 409, 1, False),
    "ParentConflict": ("parent_conflict", 409, 1, False),
    "IdempotencyKeyReused": ("idempotency_key_reused", 409, 1, False),
    "RunCancelled": ("run_cancelled", 409, 1, False),
    "Fenced": ("fenced", 409, 1, False),
    "WorkerIdInUse": ("worker_id_in_use", 409, 1, False),
    "WorkerAlive": ("worker_alive", 409, 1, False),
    "ExecutionCancelled": ("execution_cancelled", 409, 1, False),
    "BrokerUnavailable": ("broker_unavailable", 503, 6, True),
    "TooManyStreams": ("too_many_streams", 503, 6, True),
    "StoreRefused": ("store_refused", 503, 1, False),
    "MissingExtra": ("missing_extra", 500, 1, False),
}

CAUSE = CancelCause("c_1", "cancel_tree", reason="user clicked cancel", requested_by="ops", requested_at_us=1)
EXAMPLES: dict[str, BrokerError] = {
    "AlreadyTerminal": AlreadyTerminal("leaf-1", "succeeded"),
    "AlreadyClaimed": AlreadyClaimed("leaf-1", "worker-1"),
    "ExecutionCancelled": ExecutionCancelled("leaf-1", CAUSE),
}


def drawn() -> dict[str, str | None]:
    """Class -> parent, read from the picture in the docstring; a level is four columns."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").split("```")[1].strip().splitlines():
        match = re.match(r"(?P<lines>[│├└─ ]*)(?P<name>\w+)", line)
        assert match, line
        level, odd = divmod(len(match["lines"]), 4)
        assert odd == 0, line
        assert match["name"] not in parents, line
        path[level:] = [match["name"]]
        parents[match["name"]] = path[level - 1] if level else None
    return parents


def example(name: str) -> BrokerError:
    return EXAMPLES.get(name) or CLASSES[name]("run_id: 'two words' is not an id")


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    actual = {
        name: next((base.__name__ for base in cls.__bases__ if issubclass(base, BrokerError)), None)
        for name, cls in CLASSES.items()
    }
    assert drawn() == actual


def test_codes_and_statuses_never_change() -> None:
    actual = {name: (cls.code, cls.http_status, cls.exit_code, cls.retryable) for name, cls in CLASSES.items()}
    assert actual == FIXED


def test_every_code_belongs_to_one_class() -> None:
    codes = [cls.code for cls in CLASSES.values()]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_a_docstring_of_its_own(name: str) -> None:
    assert CLASSES[name].__doc__ != BrokerError.__base__.__doc__
    assert "__doc__" in vars(CLASSES[name])


@pytest.mark.parametrize("name", CLASSES)
def test_every_error_survives_a_process_boundary(name: str) -> None:
    error = example(name)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(error, protocol))
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert vars(copy) == vars(error)


def test_the_cause_of_a_cancellation_survives_whole() -> None:
    copy = pickle.loads(pickle.dumps(ExecutionCancelled("leaf-1", CAUSE)))
    assert copy.execution_id == "leaf-1"
    assert copy.cause == CAUSE


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("AlreadyTerminal", "execution leaf-1 is in terminal state 'succeeded'"),
        ("AlreadyClaimed", "execution leaf-1 is held by worker worker-1; wait until it ends or is given back"),
        ("ExecutionCancelled", "execution leaf-1 was cancelled (cancel_tree by ops): user clicked cancel"),
    ],
)
def test_errors_that_are_built_from_parts_say_them(name: str, text: str) -> None:
    assert str(example(name)) == text


def test_a_cancellation_without_reason_and_person_says_only_where_it_came_from() -> None:
    assert str(ExecutionCancelled("leaf-1", CancelCause("c_1", "gate"))) == "execution leaf-1 was cancelled (gate)"
