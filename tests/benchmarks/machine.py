"""Where it was measured: without this an absolute time means nothing."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from redis import Redis


def describe(client: Redis) -> dict[str, str | int | float]:
    server = client.info("server")
    return {
        "cpu": _first("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int(_first("/proc/meminfo", "MemTotal").split()[0]) // 1024,
        "kernel": platform.release(),
        "load_1_min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "redis_server": server["redis_version"],
        "redis_py": version("redis"),
        "hiredis": version("hiredis"),
        "commit": _commit(),
    }


def redis_cpu_s(client: Redis) -> float:
    """CPU time of the server's process since it began: on a machine that others use, too, elapsed time says little."""
    used = client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


def _first(path: str, name: str) -> str:
    """The value of the first `name: value` line of a /proc file."""
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown 0"


def _commit() -> str:
    """Short hash, with a + where the tree differs from it; it says which code was measured."""
    try:
        command = ["git", "--no-optional-locks", "describe", "--always", "--dirty=+"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
