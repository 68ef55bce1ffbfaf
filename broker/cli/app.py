"""The Typer app: each command stands in a file of its own and is added here.

Errors of ours pass through to `broker.cli.main`, which knows their exit codes.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Annotated

import typer

import broker
from broker.cli.cancellations import cancellations
from broker.cli.conformance.command import conformance
from broker.cli.demo.command import demo
from broker.cli.doctor import doctor
from broker.cli.events.dead import dead as dead_events
from broker.cli.events.replay import replay
from broker.cli.exec import exec_command
from broker.cli.execution.cancel import cancel, cancel_run, cancel_subtree
from broker.cli.execution.show import show_execution
from broker.cli.loading import loading
from broker.cli.run.log import log
from broker.cli.run.report import report
from broker.cli.run.tree import tree
from broker.cli.run.watch import watch
from broker.cli.serve import serve
from broker.cli.token.new import new
from broker.cli.top import top
from broker.cli.worker.dead import dead
from broker.cli.worker.list import list_workers

app = typer.Typer(
    name="broker",
    help="Cancels a tree of executions bottom-up over Redis, and proves that each of them has stopped.",
    epilog="Exit codes: 0 done, 1 error, 2 usage, 3 still running, 4 not found, 5 already terminal, 6 unreachable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"broker {broker.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of `broker` itself."""


_CLIENT = "broker.cli.client"


def _loaded(function: Callable[..., None], module: str = _CLIENT) -> Callable[..., None]:
    """A command that loads what takes long when it is clear that it is wanted."""

    @functools.wraps(function)
    def command(*arguments: object, **options: object) -> None:
        with loading():
            importlib.import_module(module)
        function(*arguments, **options)

    return command


def _group(name: str, text: str, module: str = _CLIENT, **commands: Callable[..., None]) -> None:
    group = typer.Typer(help=text, no_args_is_help=True)
    for command, function in commands.items():
        group.command(command.replace("_", "-"))(_loaded(function, module))
    app.add_typer(group, name=name)


app.command("demo")(demo)
app.command("exec", context_settings={"allow_interspersed_args": False})(exec_command)
app.command("conformance", context_settings={"allow_interspersed_args": False})(_loaded(conformance, "broker.control"))
app.command("serve")(serve)
app.command("doctor")(_loaded(doctor, "broker.control"))
app.command("cancellations")(_loaded(cancellations))
app.command("top")(_loaded(top))
_group(
    "execution",
    "Cancel an execution, a subtree or a whole run; look at one execution.",
    cancel=cancel,
    cancel_run=cancel_run,
    cancel_subtree=cancel_subtree,
    show=show_execution,
)
_group(
    "run", "Look at a run: its tree, the report of its cancel, its log.", tree=tree, report=report, watch=watch, log=log
)
_group("worker", "The processes that hold executions.", list=list_workers, dead=dead)
_group("events", "Events of control planes that could not be applied.", dead=dead_events, replay=replay)
_group("token", "Who may talk to a server.", "broker.server.tokens", new=new)
