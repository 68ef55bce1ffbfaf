"""The Typer app: each command stands in a file of its own and is added here.

Errors of ours pass through to `broker.cli.main`, which knows their exit codes.
"""

from __future__ import annotations

from typing import Annotated

import typer

import broker
from broker.cli.demo.command import demo
from broker.cli.exec import exec_command
from broker.cli.serve import serve

app = typer.Typer(
    name="broker",
    help="Cancels a tree of executions bottom-up over Redis, and proves that each of them has stopped.",
    epilog="Exit codes: 0 done, 1 error, 2 usage, 3 still running, 4 not found, 5 already terminal, 6 unreachable.",
    no_args_is_help=True,
    add_completion=False,
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


app.command("demo")(demo)
app.command("exec", context_settings={"allow_interspersed_args": False})(exec_command)
app.command("serve")(serve)
