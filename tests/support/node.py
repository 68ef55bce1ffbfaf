"""The Node worker of deploy/examples, installed: needs node, npm, and npm's registry or its cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.tree import ROOT

SOURCE = ROOT / "deploy" / "examples" / "node-worker"
OLDEST = (18, 19)
ATTEMPTS = 3


def install(folder: Path) -> list[str]:
    """The command that runs the worker, from a copy in `folder`. What is missing is a skip that says so."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        not_tested("there is no node and npm on PATH; Debian, Ubuntu: apt-get install nodejs npm")
    version = _version(node)
    if version < OLDEST:
        not_tested(f"node is {version[0]}.{version[1]}, npm's redis needs {OLDEST[0]}.{OLDEST[1]}")
    for name in ("package.json", "worker.mjs"):
        shutil.copy(SOURCE / name, folder / name)
    failure = ""
    for _ in range(ATTEMPTS):
        command = [npm, "install", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel", "error"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=30)
        except subprocess.TimeoutExpired:
            failure = "npm install took more than 30 s"
            continue
        if done.returncode == 0:
            return [node, str(folder / "worker.mjs")]
        failure = done.stderr[-500:]
    return not_tested(f"npm install failed {ATTEMPTS} times: {failure}")


def not_tested(why: str) -> NoReturn:
    """Loud. A skip in CI too: Node and the npm registry are not the project's to promise, unlike a redis-server.

    A failure where BROKER_TEST_NODE says `required`: who set the machine up knows that both are there.
    """
    text = f"NODE WORKER NOT TESTED: {why}"
    if os.environ.get("BROKER_TEST_NODE") == "required":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def _version(node: str) -> tuple[int, int]:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False, timeout=30).stdout
    found = re.match(r"v(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)
