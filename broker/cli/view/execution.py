"""One execution, a fact a line."""

from __future__ import annotations

from broker.cli.terminal import Paint
from broker.cli.view.words import disposition, meaning, settled, status
from broker.cli.visible import visible
from broker.protocol.http.answers import ExecutionAnswer
from broker.protocol.states import Disposition

_WIDTH = 13


def execution_lines(one: ExecutionAnswer, paint: Paint) -> list[str]:
    """Both axes first, then where it stands, who holds it, and when things happened."""
    reason = f' (reason: "{visible(one.status_reason)}")' if one.status_reason else ""
    facts = [("status", status(paint, one.status) + reason)]
    if one.disposition is not None:
        facts.append(("disposition", _what_happened(one, paint)))
    texts = (
        ("outcome", one.outcome),
        ("detail", one.detail),
        ("cancel", one.cancel_id),
        ("run", one.run_id),
        ("parent", one.parent_execution_id),
        ("agent node", one.agent_node_id),
        ("reasoner", one.reasoner_id),
    )
    facts += [(name, visible(text)) for name, text in texts if text]
    facts.append(("depth", str(one.depth)))
    if one.claim is not None:
        claim = one.claim
        held = f"{visible(claim.worker_id)} (incarnation {claim.incarnation}, start {claim.start})"
        facts.append(("held by", held))
    facts += _times(one)
    return [paint(f"Execution {visible(one.execution_id)}", bold=True), *(f"  {n:<{_WIDTH}}{t}" for n, t in facts)]


def _what_happened(one: ExecutionAnswer, paint: Paint) -> str:
    word = one.disposition or ""
    said = Disposition(word).meaning if word in tuple(Disposition) else ""
    if not settled(word) and one.cause and (why := meaning(one.cause)):
        said = why
    return disposition(paint, word, one.cause) + (f" ({said})" if said else "")


def _times(one: ExecutionAnswer) -> list[tuple[str, str]]:
    times = (
        ("registered", one.registered_at),
        ("started", one.started_at),
        ("told", one.published_at),
        ("heard", one.received_at),
        ("settled", one.settled_at),
    )
    return [(name, visible(at)) for name, at in times if at]
