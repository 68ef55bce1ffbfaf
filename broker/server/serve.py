"""Runs the server until it is told to stop, and then leaves in good order.

A stop closes the listening socket, answers long polls with what is known, lets requests under way end, and hands
cancels that are still being walked to another replica: they are on the work list from before their gate closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import structlog
import uvicorn

from broker.control import connect
from broker.errors import InvalidInput
from broker.observe.log import renderer, use_console
from broker.server.app import create_app
from broker.server.context import Context
from broker.server.patience import Patience
from broker.server.settings import ServerSettings
from broker.server.streams import Streams

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LONGEST_HEAD = 256 * 1024  # an id of 10,000 characters, each of them encoded in 12 bytes
_BACKLOG = 1024
_LATE_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that accepts connections at `address`. `stop` may be called from any thread."""

    address: str
    stop: Callable[[], object]
    patience: Patience
    streams: Streams


async def serve(settings: ServerSettings, announce: Callable[[Serving], None]) -> None:
    """Serves until SIGINT, SIGTERM or `stop`; `announce` is called once connections are accepted.

    Raises BrokerUnavailable where Redis cannot be reached, InvalidInput where the address cannot be taken.
    """
    tokens = settings.read_tokens()
    listening = _listen(settings.host, settings.port)
    with contextlib.closing(listening):
        broker = connect(
            settings.redis_url, namespace=settings.namespace, timeout=settings.redis_timeout_s, ingest=True
        )
        async with broker:
            app = create_app(broker, tokens, Streams(settings.max_event_streams))
            context: Context = app.state.context
            config = uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                h11_max_incomplete_event_size=_LONGEST_HEAD,
                timeout_graceful_shutdown=max(1, round(settings.stop_timeout_s)),
                timeout_keep_alive=75,
            )
            await _Server(config, context, _address(listening), announce).serve(sockets=[listening])


class _Server(uvicorn.Server):
    """Uvicorn, with the signals heard by us: a stop ends the long polls as well."""

    def __init__(
        self, config: uvicorn.Config, context: Context, address: str, announce: Callable[[Serving], None]
    ) -> None:
        super().__init__(config)
        self._patience, self._streams = context.patience, context.streams
        self._address = address
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        if self.started:
            stop = partial(loop.call_soon_threadsafe, self._stop)
            self._announce(Serving(self._address, stop, self._patience, self._streams))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The first signal stops in good order, the second one does not wait for requests."""
        loop = asyncio.get_running_loop()
        heard = _SIGNALS if threading.current_thread() is threading.main_thread() else ()
        for number in heard:
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in heard:
                loop.remove_signal_handler(number)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Uvicorn closes idle connections once, and waits for one that was just being accepted until its time is up."""
        closing = asyncio.create_task(self._close_idle())
        try:
            await super().shutdown(sockets)
        finally:
            closing.cancel()

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(_LATE_PAUSE_S)
            for connection in list(self.server_state.connections):
                if not connection.transport.is_closing():
                    connection.shutdown()  # after its answer, where it is giving one

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
        self._patience.stop()


def run(settings: ServerSettings, announce: Callable[[Serving], None]) -> None:
    """`serve()` on uvloop where there is one."""
    log_to_stderr()
    try:
        import uvloop
    except ModuleNotFoundError:  # Windows has none
        asyncio.run(serve(settings, announce))
    else:
        uvloop.run(serve(settings, announce))


def log_to_stderr() -> None:
    """For a person where stderr is a terminal, else one JSON object a line; uvicorn's lines become what ours are."""
    if sys.stderr.isatty():
        use_console()
    ours = logging.StreamHandler(sys.stderr)
    ours.setFormatter(logging.Formatter("%(message)s"))
    theirs = logging.StreamHandler(sys.stderr)
    stamped: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    theirs.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=stamped,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer(),
            ],
        )
    )
    for name, handler, level in (("broker", ours, logging.INFO), ("uvicorn", theirs, logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise InvalidInput(f"host {host!r}: {error}; allowed is an address or a name of this machine") from error
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise InvalidInput(f"host {host!r}, port {port}: {error.strerror}; allowed is a free port from 0") from error
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
