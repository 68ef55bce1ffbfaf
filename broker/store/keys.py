"""Every key and channel of the broker: its builder, type, end and writer. No key literal stands elsewhere.

| key | type | end | written by |
|---|---|---|---|
| `<ns>:{R}:run` | hash | with the run | every script: epoch, active, finished, expires_at_ms, last_activity_ms |
| `<ns>:{R}:gates` | hash | 30 d after the run's end | open_cancel: `*`, target, `=`target (narrow), `#subtrees` |
| `<ns>:{R}:cancels` | hash | with the run | open_cancel, driver scripts, reopening ones |
| `<ns>:{R}:executions` | hash | with the run | register, start, finish, restore, publish_cancels, ack, lose |
| `<ns>:{R}:workers` | hash | with the run | start, finish, restore, ack: slot → worker id, `=`worker id → slot |
| `<ns>:{R}:missing` | set | with the run | register, start |
| `<ns>:{R}:intents` | hash | with the run | publish_cancels, redeliver, register, start, finish |
| `<ns>:{R}:acks` | hash | with the run | ack, finish, lose, and what settles as never_started |
| `<ns>:{R}:unsettled` | zset | with the run | what tells and what settles |
| `<ns>:{R}:log` | stream, about 1,000 entries | with the run | audit of every operation |
| `<ns>:{R}:open` | set | with the run | cancel ids that are not settled |
| `<ns>:{R}:idempotency` | hash | with the run | open_cancel: client's key → cancel id |
| `<ns>:{R}:counts` | string | with the run | every script that counts: a line each (store/counts.py) |
| `<ns>:{R}:counts:batch` | string | with the run | collect_counts: what is on its way to the counts of all |
| `<ns>:{#}:counts` | hash | never: the counters of all, a bounded number of fields | add_counts, add_own_counts |
| `<ns>:{#}:nodes` | set, at most 50 | never: the agent nodes that have a label of their own | add_counts |
| `<ns>:{#}:batch:<R>:<id>` | string | 8 d, an hour once the run knows of it | add_counts: this batch is counted |
| `<ns>:{#}:told:<worker>:<inc>` | string | 1 h: longer than anyone says it again | add_own_counts: the last number |
| `<ns>:execution:<id>` | string | 30 d | index: execution id → run, verified at every use |
| `<ns>:open` | zset | never: the work list of all replicas, one entry an operation | list_operation, sweep |
| `<ns>:events` | stream | never: trimmed below the oldest pending entry of the group | control planes, publish |
| `<ns>:events:dead` | stream, about 10,000 entries | never: capped, and a refusal must be found however late | ingest |
| `<ns>:worker:<id>` | hash | 15 s | heartbeat, leave |
| `<ns>:worker:<id>:inc` | counter | 30 d after its last beat | process start, heartbeat, restore, declare_dead |
| `<ns>:worker-seen:<id>` | string | 7 d | heartbeat: Redis time of the last one, for when the heart has stopped |
| `<ns>:worker-dead:<id>` | string | 7 d | declare_dead: `<incarnation>|<reason>` of the last declaration |
| `<ns>:workers` | zset: id → last beat | never: heartbeats take off who was not seen for a day | heartbeat, leave |
| `<ns>:{R}:conformance:<word>` | set | 1 h | `broker conformance`: what may end, or stop, under trial |

A run lives 7 days after its last activity, 24 hours after it has finished (DESIGN section 3, PROTOCOL).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

NAMESPACE = "cb"
HOUR_S = 3600
DAY_S = 24 * HOUR_S


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long things are kept, in seconds. `retention_s` counts from the moment a run has finished."""

    active_s: int = 7 * DAY_S
    retention_s: int = DAY_S
    gates_s: int = 30 * DAY_S
    index_s: int = 30 * DAY_S


class RunKeys(NamedTuple):
    """The keys of one run, all in one Cluster slot, in the order in which every script gets them."""

    run: str
    gates: str
    cancels: str
    executions: str
    workers: str
    missing: str
    intents: str
    acks: str
    unsettled: str
    log: str
    open_cancels: str
    idempotency: str
    counts: str


@dataclass(frozen=True, slots=True)
class Keys:
    """Builds every key and channel of one namespace. Ids are checked before they come here."""

    namespace: str = NAMESPACE

    def channels(self, run_id: str) -> str:
        """Prefix of the keys and channels of a run."""
        return f"{self.namespace}:{{{run_id}}}:"

    def run(self, run_id: str) -> RunKeys:
        prefix = self.channels(run_id)
        names = (*RunKeys._fields[:-3], "open", "idempotency", "counts")
        return RunKeys(*(prefix + name for name in names))

    def cancel_channel(self, run_id: str, execution_id: str) -> str:
        return f"{self.namespace}:{{{run_id}}}:cancel:{execution_id}"

    def ack_channel(self, run_id: str) -> str:
        return f"{self.namespace}:{{{run_id}}}:ack-events"

    def control_channel(self, worker_id: str) -> str:
        return f"{self.namespace}:worker:{worker_id}:control"

    def conformance_set(self, run_id: str, word: str) -> str:
        """Of a run that `broker conformance` has made."""
        return f"{self.channels(run_id)}conformance:{word}"

    def execution(self, execution_id: str) -> str:
        return f"{self.namespace}:execution:{execution_id}"

    def worker(self, worker_id: str) -> str:
        return f"{self.namespace}:worker:{worker_id}"

    def incarnation(self, worker_id: str) -> str:
        return f"{self.namespace}:worker:{worker_id}:inc"

    def last_seen(self, worker_id: str) -> str:
        return f"{self.namespace}:worker-seen:{worker_id}"

    def declared_dead(self, worker_id: str) -> str:
        return f"{self.namespace}:worker-dead:{worker_id}"

    @property
    def counts(self) -> str:
        """`#` is in no id, so no run shares the slot of what is counted of all runs."""
        return f"{self.namespace}:{{#}}:counts"

    @property
    def nodes(self) -> str:
        return f"{self.namespace}:{{#}}:nodes"

    def counts_batch(self, run_id: str) -> str:
        """In the run's slot; only who carries counts on needs it."""
        return f"{self.channels(run_id)}counts:batch"

    def counted_batch(self, run_id: str, batch_id: str) -> str:
        return f"{self.namespace}:{{#}}:batch:{run_id}:{batch_id}"

    def own_counts_told(self, worker_id: str, incarnation: int) -> str:
        return f"{self.namespace}:{{#}}:told:{worker_id}:{incarnation}"

    @property
    def events(self) -> str:
        return f"{self.namespace}:events"

    @property
    def dead_events(self) -> str:
        return f"{self.namespace}:events:dead"

    @property
    def roster(self) -> str:
        return f"{self.namespace}:workers"

    @property
    def work_list(self) -> str:
        return f"{self.namespace}:open"
