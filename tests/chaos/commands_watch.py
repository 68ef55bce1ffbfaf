"""Watches the commands that `run_process` bodies started: nobody's word counts for them but the kernel's."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.bodies import MARK
from tests.chaos.truth import TruthFile, now_us
from tests.support.wait import spread

EVERY_S = 0.5


class CommandsWatch:
    """Looks at all processes of this machine every now and then; a stamp is taken before each look."""

    def __init__(self, folder: Path) -> None:
        self._mark = f"{MARK}={folder}".encode()
        self._truth = TruthFile(folder / "commands.jsonl")
        self._seen: dict[str, tuple[str, int]] = {}

    async def keep(self) -> None:
        while True:
            self.look()
            await spread(EVERY_S)

    def look(self) -> dict[str, str]:
        """Process → execution id of those that live now; those that have gone are written down."""
        at_us = now_us()
        processes = (path.name for path in Path("/proc").iterdir() if path.name.isdigit())
        living = {process: found for process in processes if (found := self._of(process))}
        for process, execution_id in living.items():
            if process not in self._seen:
                self._truth.write("began", execution_id, 0, at_us=at_us)
            self._seen[process] = (execution_id, at_us)
        for process in self._seen.keys() - living.keys():
            execution_id, last_us = self._seen.pop(process)
            self._truth.write("command", execution_id, process, last_us)
        return living

    def close(self) -> dict[str, str]:
        """The last look: what lives still is left over, whether anybody names it or not."""
        left = self.look()
        for process, (execution_id, last_us) in self._seen.items():
            self._truth.write("command", execution_id, process, last_us)
            self._truth.write("left", execution_id, process)
        self._truth.close()
        return left

    def _of(self, process: str) -> str | None:
        """A zombie has no environment any more, and has ended."""
        try:
            environ = Path(f"/proc/{process}/environ").read_bytes()
        except OSError:
            return None
        if self._mark not in environ:
            return None
        for entry in environ.split(b"\0"):
            if entry.startswith(b"BROKER_EXECUTION_ID="):
                return entry.partition(b"=")[2].decode()
        return None
