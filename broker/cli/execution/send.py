"""One cancel over HTTP, from the request to the exit code."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

from broker.cli.client import Client, Query, Reply, was_sent
from broker.cli.execution.follow import Ended, follow, see_report
from broker.cli.execution.request import Terms, leave
from broker.cli.loading import INTERRUPTED
from broker.cli.terminal import Paint, say, show, show_json
from broker.cli.view.cancel import execution_lines, preview_lines, tree_lines
from broker.cli.view.report import straggler_lines
from broker.errors import BrokerUnavailable
from broker.protocol.http.answers import CancelExecutionAnswer, CancelTreeAnswer, PreviewAnswer
from broker.protocol.names import check_id

Answer = CancelExecutionAnswer | CancelTreeAnswer


@dataclass(frozen=True, slots=True)
class Cancel:
    """What is to be cancelled: `target` is the id of a run, or of an execution."""

    scope: Literal["execution", "run", "subtree"]
    target: str
    terms: Terms

    def preview(self, client: Client) -> Reply[PreviewAnswer]:
        if self.scope == "run":
            return client.get(PreviewAnswer, "runs", self.target, "preview")
        return client.get(PreviewAnswer, "executions", self.target, "preview", query={"scope": self.scope})

    def send(self, client: Client) -> Reply[CancelExecutionAnswer] | Reply[CancelTreeAnswer]:
        query: Query = self.terms.query()
        body, key = self.terms.body(), self.terms.key
        if self.scope == "execution":
            return client.post(
                CancelExecutionAnswer, "executions", self.target, "cancel", body=body, query=query, key=key
            )
        if self.scope == "subtree":
            place = ("executions", self.target, "cancel-subtree")
        else:
            place = ("workflows", self.target, "cancel-tree")
        return client.post(CancelTreeAnswer, *place, body=body, query=query, key=key)

    def see(self) -> str:
        """The command that shows it, as long as no answer has come."""
        return see_report(self.target, None, None) if self.scope == "run" else see_report(None, self.target, None)


def run(cancel: Cancel, connection: tuple[str, str | None, str], *, dry_run: bool, as_json: bool) -> None:
    """The whole command."""
    check_id(cancel.target, "RUN" if cancel.scope == "run" else "ID")
    cancel.terms.query()
    wait_s = cancel.terms.wait_s
    with Client(*connection) as client:
        if dry_run:
            _show_preview(cancel.preview(client), as_json=as_json)
            return
        reply = _send(cancel, client)
        if reply is None:
            leave(INTERRUPTED)
            return
        leave(_show(cancel, client, reply, wait_s, as_json=as_json))


def _send(cancel: Cancel, client: Client) -> Reply[CancelExecutionAnswer] | Reply[CancelTreeAnswer] | None:
    """None after Ctrl-C. Where no answer came nobody knows whether the cancel was accepted: say how to find out."""
    try:
        return cancel.send(client)
    except BrokerUnavailable as error:
        if not was_sent(error):
            raise
        raise BrokerUnavailable(f"{error}; the cancel may have been accepted, see: {cancel.see()}") from error
    except KeyboardInterrupt:
        pass
    say(f"interrupted before the answer: the cancel may have been accepted, see: {cancel.see()}")
    return None


def _show(
    cancel: Cancel,
    client: Client,
    reply: Reply[CancelExecutionAnswer] | Reply[CancelTreeAnswer],
    wait_s: float | None,
    *,
    as_json: bool,
) -> int:
    """Prints what was done, waits where that was asked for, prints who is still running. The exit code."""
    answer: Answer = reply.answer
    paint = Paint.of(sys.stdout)
    if not as_json:
        show(_first_lines(answer, cancel.target, paint))
    ended = Ended(None, 0)
    run_id = answer.run_id
    see = see_report(run_id, cancel.target, answer.cancel_id)
    if wait_s is not None or (answer.still_running_count and not as_json):
        ended = follow(client, answer.report_endpoint, wait_s, see)
    if as_json:
        show_json({**reply.raw, "report": ended.report.raw} if ended.report else reply.raw)
    else:
        show(_last_lines(answer, ended, see, paint))
    return ended.exit_code or _errors(answer, ended)


def _first_lines(answer: Answer, target: str, paint: Paint) -> list[str]:
    if isinstance(answer, CancelExecutionAnswer):
        return execution_lines(answer, paint)
    return tree_lines(answer, target, paint)


def _last_lines(answer: Answer, ended: Ended, see: str, paint: Paint) -> list[str]:
    if ended.exit_code == INTERRUPTED:
        return []
    if ended.report is None:
        return [f"Still running: {answer.still_running_count}"]
    lines = straggler_lines(ended.report.answer, paint)
    return [*lines, f"See: {see}"] if ended.report.answer.totals.still_running else lines


def _errors(answer: Answer, ended: Ended) -> int:
    """Executions that could not be told are an error, unless the wait has shown that they ended."""
    failed = isinstance(answer, CancelTreeAnswer) and answer.error_count > 0
    return int(failed and not (ended.report and ended.report.answer.state == "settled"))


def _show_preview(reply: Reply[PreviewAnswer], *, as_json: bool) -> None:
    if as_json:
        show_json(reply.raw)
    else:
        show(preview_lines(reply.answer, Paint.of(sys.stdout)))
