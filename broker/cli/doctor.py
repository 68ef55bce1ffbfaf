"""`broker doctor`: whether a Redis can be trusted with cancels, and how to mend what is wrong."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from broker.cli.options import Json
from broker.cli.settings import option, seconds

RedisUrl = Annotated[str, option("--redis-url", "The Redis to look at.", "URL")]
Timeout = Annotated[str, option("--timeout", "How long Redis may take to answer.", "SECONDS")]


def doctor(redis_url: RedisUrl = "redis://127.0.0.1:6379/0", timeout: Timeout = "5", json: Json = False) -> None:
    """Looks at a Redis: version, eviction, persistence, rights, pub/sub, scripts, clock; says how to mend each.

    \b
    Example: broker doctor --redis-url redis://127.0.0.1:6379/0

    Exit codes: 0 all is well, 1 something is to be mended, 2 usage, 6 unreachable.
    """
    from broker.cli.terminal import Paint, show, show_json
    from broker.cli.view.doctor import doctor_lines
    from broker.control import check

    timeout_s = seconds(timeout, "--timeout", least=0.1, most=3600.0) or 0.0
    findings = asyncio.run(check(redis_url, timeout_s))
    if json:
        show_json({"findings": [finding._asdict() for finding in findings]})
    else:
        show(doctor_lines(findings, Paint.of(sys.stdout)))
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)
