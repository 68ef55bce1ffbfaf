"""What a process costs: its own memory, its peak, and the processor time it has used. Linux, from /proc."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MEBIBYTE = 1024 * 1024
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid: int, name: str = "VmRSS") -> int:
    """`VmRSS`: resident now; `VmHWM`: the most that it ever was."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise LookupError(f"no {name} in /proc/{pid}/status")


def cpu_s(pid: int) -> float:
    """User and system time of all its threads since it began."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


@dataclass(frozen=True)
class Usage:
    """Processor time between two looks at a process."""

    pid: int
    cpu_s: float
    at_s: float

    @classmethod
    def now(cls, pid: int) -> "Usage":
        return cls(pid, cpu_s(pid), time.monotonic())

    def percent_since(self) -> float:
        """Percent of one core from then until now."""
        return (cpu_s(self.pid) - self.cpu_s) / (time.monotonic() - self.at_s) * 100


class Spent:
    """Processor time of some processes, by what they are, from when this is made: few cores have that to share."""

    def __init__(self, pids: Mapping[str, Sequence[int]]) -> None:
        self._pids = pids
        self._before = self._now()

    def per_us(self, number: int) -> dict[str, float]:
        """Microseconds for each of `number`: `cpu`, and its parts as `cpu_<what>`."""
        spent = {what: (after_s - self._before[what]) * 1e6 / number for what, after_s in self._now().items()}
        return {"cpu": sum(spent.values()), **{f"cpu_{what}": us for what, us in spent.items()}}

    def _now(self) -> dict[str, float]:
        return {what: sum(map(cpu_s, pids)) for what, pids in self._pids.items()}
