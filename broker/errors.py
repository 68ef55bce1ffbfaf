"""Every error a user can meet, and the only place where codes are given out.

```
BrokerError
├── InvalidInput                 what was given cannot be used; nothing was changed
│   ├── InvalidId                an id that does not match the grammar
│   ├── TreeTooDeep              more than 1,000 levels to climb under a subtree gate
│   ├── BodyTooLarge             a request body over the limit
│   ├── MethodNotAllowed         an address of the server that does not know this HTTP method
│   └── UnsupportedMediaType     a request body that does not say it is JSON
├── Unauthorized                 no token, or one that the server does not know
├── Forbidden                    the token does not have the scope that this needs
├── NotFound                     no such run or execution
│   └── NoCancellation           the run exists, but nobody cancelled it
├── Conflict                     the state of things does not allow it
│   ├── AlreadyTerminal          the execution has ended
│   ├── AlreadyClaimed           another worker holds the execution, or this worker already does
│   ├── ExecutionInOtherRun      a live execution of another run has this id
│   ├── ParentConflict           the execution is known under another parent
│   ├── IdempotencyKeyReused     the key was given to a different cancel before
│   ├── RunCancelled             registered under a closed gate: recorded, and never to be started
│   ├── Fenced                   a newer process has this worker id, or the claim was superseded
│   ├── WorkerIdInUse            a live process has this worker id
│   └── WorkerAlive              declared dead while its heart beats
├── ExecutionCancelled           raised out of a worker's block: the work was cancelled
├── StoreRefused                 Redis refused a command: out of memory, read-only, missing rights
├── BrokerUnavailable            Redis cannot be reached, or did not answer in time
│   └── TooManyStreams           this server follows as many runs for others as it may
└── MissingExtra                 an optional dependency is not installed
```

Codes, HTTP statuses and exit codes are API and never change; texts are not (the two
AgentField-compatible endpoints keep their own texts, byte for byte).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class BrokerError(Exception):
    """Base of all errors of this package.

    `code` is stable and meant for programs, the text is meant for people. `retryable` says
    whether the same call can succeed later without anything else being changed.
    """

    code: ClassVar[str] = "broker_error"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False


class InvalidInput(BrokerError, ValueError):
    """What was given cannot be used. The text names the field, the value and what is allowed."""

    code = "invalid_input"
    http_status = 400
    exit_code = 2


class InvalidId(InvalidInput):
    """An id that does not match the grammar of `broker.protocol.names`; it never reaches a key."""

    code = "invalid_id"


class TreeTooDeep(InvalidInput):
    """Under a subtree gate an execution has more than 1,000 ancestors, so the gate cannot be checked."""

    code = "tree_too_deep"


class BodyTooLarge(InvalidInput):
    """A request body is longer than the server reads; the text names the limit."""

    code = "body_too_large"
    http_status = 413


class MethodNotAllowed(InvalidInput):
    """The address exists and does not know this HTTP method."""

    code = "method_not_allowed"
    http_status = 405


class UnsupportedMediaType(InvalidInput):
    """The body of a request does not say that it is JSON."""

    code = "unsupported_media_type"
    http_status = 415


class Unauthorized(BrokerError):
    """The server wants a token, and got none or one that it does not know."""

    code = "unauthorized"
    http_status = 401


class Forbidden(BrokerError):
    """The token does not have the scope that is needed; or, without tokens, the caller is not of this machine."""

    code = "forbidden"
    http_status = 403


class NotFound(BrokerError, LookupError):
    """There is no such run or execution."""

    code = "not_found"
    http_status = 404
    exit_code = 4


class NoCancellation(NotFound):
    """The run exists and was never cancelled, so there is no report."""

    code = "no_cancellation"


class Conflict(BrokerError):
    """The present state does not allow what was asked."""

    code = "conflict"
    http_status = 409


class AlreadyTerminal(Conflict):
    """The execution has ended; `status` is the status that it has."""

    code = "already_terminal"
    exit_code = 5

    def __init__(self, execution_id: str, status: str) -> None:
        super().__init__(execution_id, status)
        self.execution_id = execution_id
        self.status = status

    def __str__(self) -> str:
        return f"execution {self.execution_id} is in terminal state '{self.status}'"


class AlreadyClaimed(Conflict):
    """A claim on this execution is open: one body at a time."""

    code = "already_claimed"

    def __init__(self, execution_id: str, worker_id: str) -> None:
        super().__init__(execution_id, worker_id)
        self.execution_id = execution_id
        self.worker_id = worker_id

    def __str__(self) -> str:
        return f"execution {self.execution_id} is held by worker {self.worker_id}; wait until it ends or is given back"


class ExecutionInOtherRun(Conflict):
    """Execution ids are unique across runs, and a live execution of another run has this one."""

    code = "execution_in_other_run"


class ParentConflict(Conflict):
    """A parent once set never changes."""

    code = "parent_conflict"


class IdempotencyKeyReused(Conflict):
    """The idempotency key belongs to a cancel with another scope or target."""

    code = "idempotency_key_reused"


class RunCancelled(Conflict):
    """Registered under a closed gate: the execution is recorded as cancelled and must not be started."""

    code = "run_cancelled"


class Fenced(Conflict):
    """A newer process runs under this worker id, or a newer claim has replaced this one."""

    code = "fenced"


class WorkerIdInUse(Conflict):
    """Another live process has this worker id."""

    code = "worker_id_in_use"


class WorkerAlive(Conflict):
    """A worker whose heart beats is not dead: its process has to end first."""

    code = "worker_alive"


@dataclass(frozen=True, slots=True)
class CancelCause:
    """Why an execution was cancelled.

    `source` is one of `cancel_api` (one execution), `cancel_tree` (a run), `cancel_subtree`, `gate`
    (it met a closed gate), or `fenced` (a newer process or claim has replaced it: the block raises Fenced then).
    `requested_at_us` is Redis time in microseconds since 1970, `grace` the seconds that the
    canceller gives a process between SIGTERM and SIGKILL, None where it leaves that to the worker.
    """

    cancel_id: str
    source: str
    reason: str | None = None
    requested_by: str | None = None
    requested_at_us: int = 0
    grace: float | None = None


class ExecutionCancelled(BrokerError):
    """The work was cancelled: raised at the exit of the block, or before its first line.

    Never retry on it: the run's gate stays closed. Picklable, so it crosses process pools.
    """

    code = "execution_cancelled"
    http_status = 409

    def __init__(self, execution_id: str, cause: CancelCause) -> None:
        super().__init__(execution_id, cause)
        self.execution_id = execution_id
        self.cause = cause

    def __str__(self) -> str:
        by = f" by {self.cause.requested_by}" if self.cause.requested_by else ""
        why = f": {self.cause.reason}" if self.cause.reason else ""
        return f"execution {self.execution_id} was cancelled ({self.cause.source}{by}){why}"


class StoreRefused(BrokerError):
    """Redis refused a command; the text is its own: out of memory, a read-only replica, missing rights."""

    code = "store_refused"
    http_status = 503


class BrokerUnavailable(BrokerError, ConnectionError):
    """Redis cannot be reached or did not answer in time. Nothing is known to have been changed."""

    code = "broker_unavailable"
    http_status = 503
    exit_code = 6
    retryable = True


class TooManyStreams(BrokerUnavailable):
    """This server has as many event streams open as its settings allow; another replica may have room."""

    code = "too_many_streams"


class MissingExtra(BrokerError, ImportError):
    """An optional dependency is needed; the text says which extra to install."""

    code = "missing_extra"
