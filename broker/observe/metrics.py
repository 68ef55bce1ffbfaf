"""Every metric: its name, kind, unit and meaning, its labels and their bounds, and what to do when it is red.

/metrics renders this table (broker/server/metrics.py), the dashboard is generated from it (tests/support/dashboard.py),
and tests hold both against it. A metric that is not here does not exist; a label without a bound cannot be written.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from broker.protocol.states import Cause, Disposition

LAG_BOUNDS_S: Final = (*(100e-6 * 2**n for n in range(22)), 300.0)
"""100 µs to 5 min, each twice the one before: a percentile is known to a factor of two."""
HTTP_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
AGENT_NODES: Final = 50


class Kind(StrEnum):
    """As Prometheus calls them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Source(StrEnum):
    """`REDIS`: every replica tells the same, so never add replicas up. `REPLICA`: each tells its own share."""

    REDIS = "redis"
    REPLICA = "replica"


@dataclass(frozen=True, slots=True)
class Label:
    """A label with the values it can have; where those are not known beforehand, at most how many, and of what."""

    name: str
    values: tuple[str, ...] = ()
    at_most: int = 0
    of: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `red` says what to do when its panel is red; empty: it needs no panel, and `meaning` says why.

    `query` is what the panel shows, `warn` from which value on it is red (None: there is no such value).
    """

    name: str
    kind: Kind
    unit: str
    source: Source
    meaning: str
    red: str = ""
    query: str = ""
    warn: float | None = None
    labels: tuple[Label, ...] = ()


_NODE = Label("agent_node", at_most=AGENT_NODES + 2, of="agent nodes: the first 50, then `other`; `none` without one")
_HEARD = Label("disposition", tuple(one.value for one in Disposition if one.rank > 0))
_SETTLED = Label("disposition", tuple(one.value for one in Disposition if one.settled))
_CAUSE = Label("cause", (*(one.value for one in Cause), "not_read"))
_EVENT = Label(
    "event",
    ("requested", "escalated", "asserted_again", "published", "takeover", "overdue", "given_up", "reopened", "settled",
     "lost", "ghost", "late_ack", "late_end", "late_event"),
)  # fmt: skip
_CONNECTION = Label("connection", ("commands", "listener"))
_ROUTE = Label("route", at_most=100, of="route templates of the application; `unknown` where none matched")
_METHOD = Label("method", ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"))
_STATUS = Label("status", ("1xx", "2xx", "3xx", "4xx", "5xx"))

METRICS: Final = (
    # --- is it bad right now ---------------------------------------------------------------------------------
    Metric(
        "broker_operations_overdue", Kind.GAUGE, "operations", Source.REDIS,
        "Cancels with something still running past its deadline.",
        red="Open the run's report: it names who still runs and why; end those processes, or ask with force.",
        query="max(broker_operations_overdue)", warn=1,
    ),
    Metric(
        "broker_oldest_unsettled_seconds", Kind.GAUGE, "seconds", Source.REDIS,
        "Age of the execution that was told longest ago and is not settled; 0 where there is none.",
        red="List the open cancels oldest first (GET /api/v1/cancellations) and look at the cause of the first.",
        query="max(broker_oldest_unsettled_seconds)", warn=300,
    ),
    Metric(
        "broker_canary_age_seconds", Kind.GAUGE, "seconds", Source.REPLICA,
        "Time since a message of this replica to itself came back through Redis.",
        red="Messages do not arrive: look at Redis (pub/sub buffers, ACL, network). Polls still deliver, only later.",
        query="max(broker_canary_age_seconds) by (instance)", warn=30,
    ),
    Metric(
        "broker_redis_up", Kind.GAUGE, "1 or 0", Source.REPLICA,
        "Whether this replica could read Redis for this scrape; 0: whatever comes from Redis is left out.",
        red="Redis is away for this replica: see its log for `commands.failed`, then the Redis itself.",
        query="min(broker_redis_up) by (instance)",
    ),
    # --- what is open ----------------------------------------------------------------------------------------
    Metric(
        "broker_stragglers", Kind.GAUGE, "executions", Source.REDIS,
        "Told and not settled, by why; beyond the oldest 1,000, or 100 runs, as not_read.",
        red="no_ack, worker_lost: look at those workers; not_delivered: the network; stopping: the body's clean-up.",
        query="max(broker_stragglers) by (cause)", warn=1, labels=(_CAUSE,),
    ),
    Metric(
        "broker_executions_unsettled", Kind.GAUGE, "executions", Source.REDIS,
        "Executions that were told to stop and are not settled.",
        red="If it stays up, the stragglers' causes beside it say where to look.",
        query="max(broker_executions_unsettled)",
    ),
    Metric(
        "broker_operations_open", Kind.GAUGE, "operations", Source.REDIS, "Cancels that are not settled.",
        red="If it only rises, something never stops: list the open cancels, oldest first.",
        query="max(broker_operations_open)",
    ),
    Metric(
        "broker_workers_alive", Kind.GAUGE, "workers", Source.REDIS, "Worker processes whose heart beats.",
        red="Fewer than you started: those that died hold work until somebody declares them dead.",
        query="max(broker_workers_alive)",
    ),
    Metric(
        "broker_open_list_complete", Kind.GAUGE, "1 or 0", Source.REDIS,
        "0: more than 10,000 operations are due, the gauges count the first; no panel, the alert list shows it.",
    ),
    # --- how fast, and what happened -------------------------------------------------------------------------
    Metric(
        "broker_ack_stopped_seconds", Kind.HISTOGRAM, "seconds", Source.REDIS,
        "From the first message until the execution had ended, once for each that did.",
        red="Slow on one agent node: its bodies clean up slowly. On all: look at Redis and the workers' event loops.",
        query="histogram_quantile(0.99, sum(rate(broker_ack_stopped_seconds_bucket[5m])) by (le, agent_node))",
        warn=30, labels=(_NODE, _SETTLED),
    ),
    Metric(
        "broker_ack_received_seconds", Kind.HISTOGRAM, "seconds", Source.REDIS,
        "From the first message until anything was heard of the execution.",
        red="Near the poll interval: messages are lost, see canary and reconnects. Else the workers' loops block.",
        query="histogram_quantile(0.99, sum(rate(broker_ack_received_seconds_bucket[5m])) by (le, agent_node))",
        warn=5, labels=(_NODE, _HEARD),
    ),
    Metric(
        "broker_settled_without_lag_total", Kind.COUNTER, "executions", Source.REDIS,
        "Settled without an answer to a message: never started, lost, or ended before it was told.",
        red="lost: a process died with cancelled work; its outcome is unknown, look at what it left behind.",
        query="max(rate(broker_settled_without_lag_total[5m])) by (disposition)", labels=(_SETTLED,),
    ),
    Metric(
        "broker_messages_total", Kind.COUNTER, "messages", Source.REDIS, "Cancel messages that were published.",
        red="Many redeliveries: workers do not hear; see the stragglers' causes.",
        query="max(rate(broker_messages_total[5m])) by (kind)",
        labels=(Label("kind", ("first", "redelivery", "forced")),),
    ),
    Metric(
        "broker_gate_refusals_total", Kind.COUNTER, "refusals", Source.REDIS,
        "Starts and registrations that met a closed gate.",
        red="Rising long after a cancel: somebody schedules work of a run that is cancelled.",
        query="max(rate(broker_gate_refusals_total[5m])) by (at)", labels=(Label("at", ("start", "register")),),
    ),
    Metric(
        "broker_audit_events_total", Kind.COUNTER, "events", Source.REDIS,
        "What the audits of the runs say, by event; takeover, reopened, overdue and late ones tell of trouble.",
        red="takeover: replicas die or stall; reopened, ghost: a settled execution spoke again, see the run's audit.",
        query="max(rate(broker_audit_events_total[5m])) by (event)", labels=(_EVENT,),
    ),
    # --- the event stream ------------------------------------------------------------------------------------
    Metric(
        "broker_ingest_lag_seconds", Kind.GAUGE, "seconds", Source.REDIS, "Age of the oldest event not applied.",
        red="No replica consumes, or too few: start one with ingest, or look for `ingest.waiting` in the log.",
        query="max(broker_ingest_lag_seconds)", warn=60,
    ),
    Metric(
        "broker_ingest_backlog_events", Kind.GAUGE, "events", Source.REDIS, "Events nobody has read.",
        red="Producers are faster than the replicas that consume: add one.", query="max(broker_ingest_backlog_events)",
    ),
    Metric(
        "broker_ingest_pending_events", Kind.GAUGE, "events", Source.REDIS, "Events read and not applied yet.",
        red="Stays up without a backlog: a replica died with them, another takes over after 30 s.",
        query="max(broker_ingest_pending_events)",
    ),
    Metric(
        "broker_ingest_dead_events", Kind.GAUGE, "events", Source.REDIS, "Refused events that are kept.",
        red="Read their reasons, mend the producer, then replay them.",
        query="max(broker_ingest_dead_events)", warn=1,
    ),
    Metric(
        "broker_ingest_events_total", Kind.COUNTER, "events", Source.REPLICA, "What this replica did with events.",
        red="dead: see the refused events; taken_over: another replica died.",
        query="sum(rate(broker_ingest_events_total[5m])) by (result)",
        labels=(Label("result", ("applied", "dropped", "dead", "taken_over")),),
    ),
    # --- the workers -----------------------------------------------------------------------------------------
    Metric(
        "broker_worker_reconnects_total", Kind.COUNTER, "connections", Source.REDIS,
        "Connections of workers to Redis that had to be made again; each says so with its next heartbeat.",
        red="What comes meanwhile arrives by poll, up to a heartbeat later: look at output buffers and the network.",
        query="max(rate(broker_worker_reconnects_total[5m])) by (connection)", labels=(_CONNECTION,),
    ),
    Metric(
        "broker_worker_canary_failures_total", Kind.COUNTER, "canaries", Source.REDIS,
        "Messages of workers to themselves that could not be sent or did not come back.",
        red="Their subscriptions are silently dead for up to 10 s: the log of the worker says which, and why.",
        query="max(rate(broker_worker_canary_failures_total[5m]))",
    ),
    # --- the replicas ----------------------------------------------------------------------------------------
    Metric(
        "broker_reconnects_total", Kind.COUNTER, "connections", Source.REPLICA,
        "Connections of this replica to Redis that had to be made again.",
        red="Redis or the network cuts them: client-output-buffer-limit pubsub, time-outs of proxies, restarts.",
        query="sum(rate(broker_reconnects_total[5m])) by (connection)",
        labels=(_CONNECTION,),
    ),
    Metric(
        "broker_canary_failures_total", Kind.COUNTER, "canaries", Source.REPLICA,
        "Messages of this replica to itself that could not be sent or did not come back.",
        red="Now and then: restarts. Steadily: see the canary's age.",
        query="sum(rate(broker_canary_failures_total[5m])) by (instance)",
    ),
    Metric(
        "broker_http_requests_total", Kind.COUNTER, "requests", Source.REPLICA, "Requests this replica has answered.",
        red="5xx: the log line of the request id says why; 503 is Redis.",
        query="sum(rate(broker_http_requests_total[5m])) by (route, status)", labels=(_ROUTE, _METHOD, _STATUS),
    ),
    Metric(
        "broker_http_request_seconds", Kind.HISTOGRAM, "seconds", Source.REPLICA,
        "Time until an answer had been sent; long polls take what they were asked to.",
        red="Look at Redis first: every request is one or a few round trips.",
        query="histogram_quantile(0.99, sum(rate(broker_http_request_seconds_bucket[5m])) by (le, route))",
        labels=(_ROUTE,),
    ),
)  # fmt: skip
"""In the order of the dashboard."""

BY_NAME: Final = {metric.name: metric for metric in METRICS}
