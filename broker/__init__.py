"""A cancellation broker: cancels a run of executions spread over worker processes, and proves that they stopped.

Start with `connect()` on the control plane's side and `Worker` on the side that runs things.
"""

from broker.cancel.report import CancelReport, ExecutionReport, Lag, NodeResult, Totals
from broker.cancel.survey import Preview
from broker.connect import Broker, Registered, connect
from broker.errors import (
    AlreadyClaimed,
    AlreadyTerminal,
    BrokerError,
    BrokerUnavailable,
    CancelCause,
    Conflict,
    ExecutionCancelled,
    ExecutionInOtherRun,
    Fenced,
    IdempotencyKeyReused,
    InvalidId,
    InvalidInput,
    MissingExtra,
    NoCancellation,
    NotFound,
    ParentConflict,
    RunCancelled,
    StoreRefused,
    TreeTooDeep,
    WorkerIdInUse,
)
from broker.protocol.registration import Execution
from broker.worker.execution import HeldExecution
from broker.worker.worker import Worker

__version__ = "0.1.0"

__all__ = [
    "AlreadyClaimed",
    "AlreadyTerminal",
    "Broker",
    "BrokerError",
    "BrokerUnavailable",
    "CancelCause",
    "CancelReport",
    "Conflict",
    "Execution",
    "ExecutionCancelled",
    "ExecutionInOtherRun",
    "ExecutionReport",
    "Fenced",
    "HeldExecution",
    "IdempotencyKeyReused",
    "InvalidId",
    "InvalidInput",
    "Lag",
    "MissingExtra",
    "NoCancellation",
    "NodeResult",
    "NotFound",
    "ParentConflict",
    "Preview",
    "Registered",
    "RunCancelled",
    "StoreRefused",
    "Totals",
    "TreeTooDeep",
    "Worker",
    "WorkerIdInUse",
    "connect",
]
