"""A family of processes for each test, and a look at what it left behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.worker import supervisor_link
from broker.worker.reaper.proc import descendants
from tests.support.family import Family


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    family = Family(tmp_path)
    yield family
    family.kill()


@pytest.fixture(autouse=True)
def measured_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without -S, coverage sees inside the supervisor."""
    if "COVERAGE_PROCESS_CONFIG" in os.environ or "COVERAGE_PROCESS_START" in os.environ:
        monkeypatch.setattr(supervisor_link, "INTERPRETER_FLAGS", ("-I",))


@pytest.fixture(autouse=True)
def _nothing_is_left_over() -> Iterator[None]:
    """No descriptor, no thread of ours, and neither a child nor the zombie of one."""
    files = len(list(Path("/proc/self/fd").iterdir()))
    children = {each.pid for each in descendants(os.getpid())}
    yield
    assert {each.pid for each in descendants(os.getpid())} <= children
    assert len(list(Path("/proc/self/fd").iterdir())) <= files
    assert not [thread.name for thread in threading.enumerate() if "waitpid" in thread.name]
