"""The first thing that a worker process of the demo runs: it loads the rest."""

from __future__ import annotations

from typing import Any

from broker.cli.loading import unsearched


def main(hello: dict[str, Any]) -> None:
    with unsearched():
        from broker.cli.demo.job import main as work
    work(hello)
