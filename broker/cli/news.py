"""Whether something has happened in a run: its event stream, read beside whoever waits, opened again when it breaks.

What has happened is then asked for: the report is what counts, an event is the reason to look at it.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from broker.cli.client import Client, LineStream
from broker.errors import BrokerError, BrokerUnavailable

RETRY_PAUSE_S = 1.0
LEAVING_S = 1.0


class News:
    """The stream of one run for the length of the block. Where `streaming` is False, ask by the clock."""

    def __init__(self, client: Client, run_id: str) -> None:
        self._client = client
        self._parts = ("runs", run_id, "events")
        self._happened = threading.Event()
        self._ended = threading.Event()
        self._lines: LineStream | None = None
        self._last_id: str | None = None
        self._reader = threading.Thread(target=self._read, name="news", daemon=True)

    @property
    def streaming(self) -> bool:
        return self._lines is not None

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        if (lines := self._lines) is not None:
            lines.cut()
        self._reader.join(LEAVING_S)

    def wait(self, timeout_s: float) -> None:
        """Returns when something has happened since the last call, when the stream breaks, or after this time."""
        self._happened.wait(timeout_s)
        self._happened.clear()

    def _read(self) -> None:
        while not self._ended.is_set():
            try:
                with self._client.lines(*self._parts, after=self._last_id) as lines:
                    self._lines = lines
                    if not self._ended.is_set():
                        self._take(lines)
            except BrokerUnavailable:
                pass  # the stream is opened again; whoever waits asks, and says so, meanwhile
            except BrokerError:
                return  # no stream here: an older server, or no right to it; asking says which
            finally:
                self._lines = None
                self._happened.set()
            self._ended.wait(RETRY_PAUSE_S)

    def _take(self, lines: LineStream) -> None:
        """An id counts when its event is complete: at the empty line."""
        seen_id = self._last_id
        for line in lines:
            if line.startswith("id: "):
                seen_id = line.removeprefix("id: ")
            elif not line:
                self._last_id = seen_id
                self._happened.set()
