"""What a user may import from `broker`, written down once. A change here is a change of the interface."""

from __future__ import annotations

import inspect

PUBLIC = {
    # the control plane's side
    "AuditEntry",
    "Broker",
    "AckLag",
    "CancelReport",
    "CancellationView",
    "Cancellations",
    "Claim",
    "ExecutionView",
    "RunView",
    "Execution",
    "ExecutionReport",
    "Lag",
    "NodeResult",
    "Preview",
    "Registered",
    "Totals",
    "WorkerView",
    "Workers",
    "connect",
    # the worker's side
    "Worker",
    "HeldExecution",
    "current_execution",
    # errors, and the cause that one of them carries
    "AlreadyClaimed",
    "AlreadyTerminal",
    "BodyTooLarge",
    "BrokerError",
    "BrokerUnavailable",
    "CancelCause",
    "Conflict",
    "ExecutionCancelled",
    "ExecutionInOtherRun",
    "Fenced",
    "Forbidden",
    "IdempotencyKeyReused",
    "InvalidId",
    "InvalidInput",
    "MethodNotAllowed",
    "MissingExtra",
    "NoCancellation",
    "NotFound",
    "ParentConflict",
    "RunCancelled",
    "StoreRefused",
    "TooManyStreams",
    "TreeTooDeep",
    "WorkerAlive",
    "Unauthorized",
    "UnsupportedMediaType",
    "WorkerIdInUse",
}


def test_the_public_names_are_the_written_list() -> None:
    import broker

    assert set(broker.__all__) == PUBLIC
    assert len(broker.__all__) == len(PUBLIC), "a name is listed twice"


def test_every_public_name_exists() -> None:
    import broker

    missing = sorted(name for name in PUBLIC if not hasattr(broker, name))
    assert not missing, f"in __all__ and not there: {', '.join(missing)}"


def test_every_error_is_public() -> None:
    from broker import errors

    own = {name for name, cls in inspect.getmembers(errors, inspect.isclass) if cls.__module__ == errors.__name__}
    assert own <= PUBLIC, f"not public: {', '.join(sorted(own - PUBLIC))}"
