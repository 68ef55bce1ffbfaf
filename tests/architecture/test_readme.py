"""The README names every endpoint and every command, and nothing that is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator

import typer

import broker
from broker.cli.app import app
from broker.server.app import create_app
from tests.support.tree import ROOT

README = (ROOT / "README.md").read_text()
SHORT = {"{execution_id}": "{id}", "{worker_id}": "{id}", "{run_id}": "{run}"}


def chapter(title: str) -> str:
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


def test_every_endpoint_is_in_the_table_of_the_server() -> None:
    paths = create_app(broker.connect("embedded://")).openapi()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    for long, short in SHORT.items():
        served = {one.replace(long, short) for one in served}
    named = set(re.findall(r"`((?:GET|POST) /[^`?]*)[^`]*`", chapter("The server")))
    assert named == served


def test_every_parameter_of_a_cancel_is_named() -> None:
    operation = create_app(broker.connect("embedded://")).openapi()["paths"]
    for path in ("/api/v1/workflows/{run_id}/cancel-tree", "/api/v1/executions/{execution_id}/cancel-subtree"):
        for parameter in operation[path]["post"]["parameters"]:
            assert parameter["in"] == "path" or f"`{parameter['name']}" in chapter("The server"), parameter["name"]


def test_every_command_is_in_the_table_of_the_command_line() -> None:
    text = chapter("The command line")
    missing = [words for words in commands(typer.main.get_command(app), "broker") if f"`{words}" not in text]
    assert missing == []


def commands(command: object, words: str) -> Iterator[str]:
    below: dict[str, object] | None = getattr(command, "commands", None)
    if below is None:
        yield words
        return
    for name, one in below.items():
        yield from commands(one, f"{words} {name}")
