"""What a cancel did, and what one would do. The first lines are those of AgentField's client, letter for letter."""

from __future__ import annotations

from broker.cli.terminal import Paint
from broker.cli.view.report import target_of
from broker.cli.view.words import columns, count
from broker.cli.visible import visible
from broker.protocol.http.answers import CancelExecutionAnswer, CancelTreeAnswer, NodeAnswer, PreviewAnswer

NODES_SHOWN = 50


def execution_lines(answer: CancelExecutionAnswer, paint: Paint) -> list[str]:
    """One execution was cancelled; others of its run may go on."""
    lines = [f"Execution {visible(answer.execution_id)} cancelled (was: {visible(answer.previous_status)})"]
    if answer.reason:
        lines.append(f"Reason: {visible(answer.reason)}")
    if answer.warning:
        lines.append(paint(f"Warning: {visible(answer.warning)}", "yellow"))
    if answer.suggested_endpoint:
        lines.append(f"Suggestion: POST {visible(answer.suggested_endpoint)}")
    return lines


def tree_lines(answer: CancelTreeAnswer, target: str, paint: Paint) -> list[str]:
    """A run or a subtree was cancelled, each execution that could not be named with why."""
    what = f"Subtree {visible(target)}" if answer.scope == "subtree" else f"Run {visible(target)}"
    lines = [
        f"{what} cancelled: {answer.cancelled_count} cancelled, {answer.skipped_count} skipped,"
        f" {answer.error_count} errors"
    ]
    failed = [node for node in answer.nodes or () if node.status == "error"]
    lines += [paint(f"  Error: {_failed(node)}", "red") for node in failed[:NODES_SHOWN]]
    if len(failed) > NODES_SHOWN:
        lines.append(f"  and {len(failed) - NODES_SHOWN:,} more errors")
    return lines


def preview_lines(answer: PreviewAnswer, paint: Paint) -> list[str]:
    """What would be told, in the order of the walk; what is terminal already is only counted."""
    what = target_of(answer.scope, answer.target, answer.run_id)
    lines = [
        f"Would cancel {answer.would_cancel:,} of {count(answer.total_nodes, 'execution')} of {what}"
        " (dry run: nothing was changed)"
    ]
    told = [node for node in answer.nodes or () if node.skip_reason is None]
    if told:
        head = ("depth", "status", "execution")
        rows = [(str(node.workflow_depth), visible(node.previous_status), _name(node)) for node in told[:NODES_SHOWN]]
        lines += [f"  {line}" for line in columns([head, *rows], paint)]
    if (more := answer.would_cancel - min(len(told), NODES_SHOWN)) > 0:
        lines.append(f"  and {more:,} more (--json has what the server lists)")
    return lines


def _failed(node: NodeAnswer) -> str:
    return f"{visible(node.execution_id)}: {visible(node.skip_reason or 'no reason given')}"


def _name(node: NodeAnswer) -> str:
    group = f" ({visible(node.agent_node_id)})" if node.agent_node_id else ""
    return f"{visible(node.execution_id)}{group}"
