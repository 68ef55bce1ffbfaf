"""A cancellation broker: cancels a run of executions spread over worker processes, and proves that they stopped.

Start with `connect()` on the control plane's side and `Worker` on the side that runs things. Names are
imported when they are first used: a worker host loads no control plane, and the `broker` command is
there at once.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # what a type checker takes for true, without an import that Ctrl-C could hit
if TYPE_CHECKING:
    from broker.cancel.nodes import NodeResult
    from broker.cancel.report import AckLag, CancelReport, ExecutionReport, Lag, Totals
    from broker.cancel.survey import Preview
    from broker.cancel.views import Cancellations, CancellationView, Claim, ExecutionView, RunView
    from broker.control import Broker, Registered, connect
    from broker.errors import (
        AlreadyClaimed,
        AlreadyTerminal,
        BodyTooLarge,
        BrokerError,
        BrokerUnavailable,
        CancelCause,
        Conflict,
        ExecutionCancelled,
        ExecutionInOtherRun,
        Fenced,
        Forbidden,
        IdempotencyKeyReused,
        InvalidId,
        InvalidInput,
        MethodNotAllowed,
        MissingExtra,
        NoCancellation,
        NotFound,
        ParentConflict,
        RunCancelled,
        StoreRefused,
        TooManyStreams,
        TreeTooDeep,
        Unauthorized,
        UnsupportedMediaType,
        WorkerAlive,
        WorkerIdInUse,
    )
    from broker.protocol.records import AuditEntry
    from broker.protocol.registration import Execution
    from broker.store.roster import Workers, WorkerView
    from broker.worker.execution import HeldExecution, current_execution
    from broker.worker.worker import Worker

__version__ = "0.1.0"

_PLACES = {
    "broker.cancel.nodes": ("NodeResult",),
    "broker.cancel.report": ("AckLag", "CancelReport", "ExecutionReport", "Lag", "Totals"),
    "broker.cancel.survey": ("Preview",),
    "broker.cancel.views": ("CancellationView", "Cancellations", "Claim", "ExecutionView", "RunView"),
    "broker.control": ("Broker", "Registered", "connect"),
    "broker.protocol.records": ("AuditEntry",),
    "broker.protocol.registration": ("Execution",),
    "broker.store.roster": ("WorkerView", "Workers"),
    "broker.worker.execution": ("HeldExecution", "current_execution"),
    "broker.worker.worker": ("Worker",),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "AckLag",
    "AlreadyClaimed",
    "AlreadyTerminal",
    "AuditEntry",
    "BodyTooLarge",
    "Broker",
    "BrokerError",
    "BrokerUnavailable",
    "CancelCause",
    "CancelReport",
    "CancellationView",
    "Cancellations",
    "Claim",
    "Conflict",
    "Execution",
    "ExecutionCancelled",
    "ExecutionInOtherRun",
    "ExecutionReport",
    "ExecutionView",
    "Fenced",
    "Forbidden",
    "HeldExecution",
    "IdempotencyKeyReused",
    "InvalidId",
    "InvalidInput",
    "Lag",
    "MethodNotAllowed",
    "MissingExtra",
    "NoCancellation",
    "NodeResult",
    "NotFound",
    "ParentConflict",
    "Preview",
    "Registered",
    "RunCancelled",
    "RunView",
    "StoreRefused",
    "TooManyStreams",
    "Totals",
    "TreeTooDeep",
    "Unauthorized",
    "UnsupportedMediaType",
    "Worker",
    "WorkerAlive",
    "WorkerIdInUse",
    "WorkerView",
    "Workers",
    "connect",
    "current_execution",
]


def __getattr__(name: str) -> object:
    """PEP 562. What is public and has no place of its own is an error class."""
    if name not in __all__:
        raise AttributeError(f"module 'broker' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACE_OF.get(name, "broker.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
