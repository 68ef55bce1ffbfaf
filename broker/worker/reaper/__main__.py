"""Run by its path: `python -I -S .../reaper/__main__.py CHANNEL CALLER_PID`."""

from __future__ import annotations

import os
import sys


def stand_in_for_packages() -> None:  # pragma: no cover - runs before coverage knows the package
    """Makes `broker.worker.reaper` importable without running `broker/__init__.py`, which would import pydantic."""
    folder = os.path.realpath(__file__)
    for name in ("broker.worker.reaper", "broker.worker", "broker"):
        folder = os.path.split(folder)[0]
        package = type(sys)(name)
        package.__path__ = [folder]
        sys.modules[name] = package


if __name__ == "__main__":  # pragma: no cover
    stand_in_for_packages()

    from broker.worker.reaper.supervisor import main

    main(int(sys.argv[1]), int(sys.argv[2]))
    os._exit(0)  # the caller waits for this; tidying the interpreter up takes as long as starting it
