"""The embedded default: a Redis inside this process, made of fakeredis. Nothing survives the process.

For demos, tests and a first look: no server to install, and worker processes of this machine can
connect to it like to any Redis. There is no persistence, no password and no second machine: when
the process ends, every run, intent and acknowledgement in it is gone.

fakeredis brings the commands (`FakeServer`, `AsyncFakeSocket`) and the encoding of replies. Its own
TCP front, `TcpFakeServer` of 2.41, is not used, because each of these would reach a user:

1. a client that reads a large reply slowly is cut off (EAGAIN on a socket made non-blocking);
2. CLIENT KILL answers, and leaves the killed client's socket open: it waits for ever;
3. its handler threads are not daemons, so Ctrl-C hangs while a client is connected;
4. each connection polls every 10 ms: pushes come that much later, and an idle one costs 0.5 % of a core.

Here one daemon thread runs one event loop for all connections: 1, 3 and 4 vanish with the threads and
their polling. `_Socket` repairs 2 and what lies in the commands themselves:

5. a blocked XREADGROUP whose client has gone waits on, and takes the next entry for nobody;
6. a connection that ends leaves an empty set behind for each of its channels.

`tests/store/test_embedded.py` tests each, beside a test that pins what fakeredis does: once that one fails
on a newer fakeredis, the repair can go. As in Redis, one command or script runs at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import hiredis

from broker.errors import Conflict, InvalidInput, MissingExtra

if TYPE_CHECKING:
    from types import TracebackType

    from fakeredis import FakeServer
    from fakeredis._helpers import SimpleError
    from fakeredis.aioredis import AsyncFakeSocket
else:
    # An optional extra: `_load_fakeredis` puts the real base class behind `_Socket` when a server starts.
    AsyncFakeSocket = object

_SCHEME = "embedded://"
_LOOPBACK = "127.0.0.1"
_ALLOWED = "embedded:// or embedded://HOST:PORT with a loopback host (127.0.0.1, localhost, [::1]) and a port from 0"
# The oldest Redis that the broker supports: what a newer one brings is not to be relied upon here either.
_REDIS_VERSION = (7, 0)
_BACKLOG = 1024
_STOP_TIMEOUT_S = 5.0
_INCOMPLETE = object()
_INSTALL = 'the embedded server needs fakeredis with Lua: pip install "cancellation-broker[embedded]"'


def parse_embedded_url(url: str) -> tuple[str, int]:
    """`embedded://` → `("127.0.0.1", 0)`, `embedded://127.0.0.1:7777` → `("127.0.0.1", 7777)`.

    Port 0 stands for a free one. Raises InvalidInput for every other form, and for a host that is
    not loopback: the embedded server asks for no password.
    """
    if not url.startswith(_SCHEME):
        raise _bad_url(url)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or _LOOPBACK, parts.port or 0
    except ValueError as exc:  # a port out of range, or a bracket that is not closed
        raise _bad_url(url) from exc
    if parts.path or "?" in url or "#" in url or "@" in parts.netloc:
        raise _bad_url(url)
    return _loopback(host), port


def _bad_url(url: str) -> InvalidInput:
    return InvalidInput(f"embedded server: url is {url!r}; allowed: {_ALLOWED}")


def _loopback(host: str) -> str:
    """A loopback host as an address, so that server and clients agree on what localhost is. Raises InvalidInput."""
    if host == "localhost":
        return _LOOPBACK
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise InvalidInput(f"embedded server: host is {host!r}; allowed: a loopback host (127.0.0.1, localhost, ::1)")


class EmbeddedServer:
    """A Redis inside this process, reachable by every process of this machine. Nothing survives the process.

    `port` 0 takes a free one. Usable as a context manager; a stopped server can be started again,
    empty, and with port 0 most likely on another port.
    """

    def __init__(self, host: str = _LOOPBACK, port: int = 0) -> None:
        """Raises InvalidInput for a host that is not loopback and for a port outside 0..65535."""
        self._host = _loopback(host)
        if not 0 <= port <= 65535:
            raise InvalidInput(f"embedded server: port is {port!r}; allowed: 0 (a free one) to 65535")
        self._port = port
        self._running: _Running | None = None

    def start(self) -> str:
        """Listen, and return the redis URL, `redis://127.0.0.1:PORT/0`; a running server just returns it.

        Raises MissingExtra without fakeredis, Conflict when the port is in use, InvalidInput when
        this process may not listen there.
        """
        if self._running is None:
            socket_class = _load_fakeredis()
            self._running = _Running(_listen(self._host, self._port), socket_class)
        return self._running.url

    def stop(self) -> None:
        """Close every socket and forget everything. Idempotent; at most 5 s, in practice some milliseconds."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()

    @property
    def url(self) -> str:
        """The redis URL of the running server. Raises Conflict when it does not run."""
        if self._running is None:
            raise Conflict("embedded server: it is not running, so it has no url; call start() first")
        return self._running.url

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _load_fakeredis() -> Callable[..., _Socket]:
    """The class of `_Socket` on top of fakeredis. Raises MissingExtra."""
    try:
        from fakeredis._clients._tcp_server import encode_reply
        from fakeredis.aioredis import AsyncFakeSocket
    except ImportError as exc:
        raise MissingExtra(_INSTALL) from exc
    if not hasattr(AsyncFakeSocket, "evalsha"):  # installed as plain `fakeredis`, without Lua
        raise MissingExtra(_INSTALL)
    return type("EmbeddedSocket", (_Socket, AsyncFakeSocket), {"encode_reply": staticmethod(encode_reply)})


def _listen(host: str, port: int) -> socket.socket:
    """Bind in the caller's thread, so that the caller gets the error."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as exc:
        where = f"embedded server: cannot listen on {host}:{port}"
        if exc.errno == errno.EADDRINUSE:
            raise Conflict(f"{where}: the port is in use; choose another one, or 0 for a free one") from exc
        raise InvalidInput(f"{where}: {os.strerror(exc.errno or 0)}; choose another one, or 0 for a free one") from exc


class _Running:
    """One run of the server: a daemon thread with one event loop, and the clients connected to it."""

    def __init__(self, listener: socket.socket, socket_class: Callable[..., _Socket]) -> None:
        """Returns once clients can connect."""
        host, port = listener.getsockname()[:2]
        self.url = f"redis://[{host}]:{port}/0" if ":" in host else f"redis://{host}:{port}/0"
        self._listener = listener
        self._socket_class = socket_class
        self._clients: set[_Client] = set()
        self._ready: Future[None] = Future()
        # A daemon: neither Ctrl-C nor the end of the program waits for a connected client.
        self._thread = threading.Thread(target=self._run, name="broker-embedded", daemon=True)
        self._thread.start()
        self._ready.result()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as exc:
            if self._ready.done():
                raise
            self._listener.close()
            self._ready.set_exception(exc)  # out of file descriptors: the caller of start() is to hear it

    async def _serve(self) -> None:
        from fakeredis import FakeServer

        backend = FakeServer(version=_REDIS_VERSION)
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = await self._loop.create_server(
            lambda: _Client(backend, self._socket_class, self._clients), sock=self._listener, backlog=_BACKLOG
        )
        self._ready.set_result(None)
        await self._stopping.wait()
        server.close()
        for client in self._clients:
            client.hang_up()
        await asyncio.gather(*(client.lost for client in self._clients))

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_STOP_TIMEOUT_S)


class _Client(asyncio.Protocol):
    """The TCP side of one connection: bytes → commands, replies and pushes → bytes.

    Replies are collected and written once per turn of the loop, so a pipeline of 1,000 commands costs
    one write. What a slow reader leaves is kept by the transport, as Redis keeps it for its clients.
    """

    def __init__(self, backend: FakeServer, socket_class: Callable[..., _Socket], clients: set[_Client]) -> None:
        self._backend = backend
        self._socket_class = socket_class
        self._clients = clients
        self._loop = asyncio.get_running_loop()
        # hiredis reads commands as well as replies; fakeredis's own parser copies the rest of the
        # buffer for each field of each command.
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._out: list[bytes] = []
        self.ended = False
        self.lost = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._clients.add(self)
        # asyncio does this only for a socket that names its protocol, which one from accept() here does not:
        # the second of two small replies in a row would wait 40 ms for the peer's delayed ACK.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        info = {
            "addr": _address(transport.get_extra_info("peername")),
            "laddr": _address(transport.get_extra_info("sockname")),
            "name": "",
            "flags": "N",
        }
        # client_class: fakeredis only asks whether its module is called valkey.
        self._socket = self._socket_class(self._backend, 0, client_class=object, client_info=info)
        self._socket.client = self

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        self.work()
        self._flush()  # now rather than in the next turn: that is one poll less for each round trip

    def work(self) -> None:
        """Run the complete commands that have arrived, up to one that blocks; its answer calls this again."""
        while not self.ended and not self._socket._paused:
            try:
                command = self._reader.gets()
            except hiredis.ProtocolError as exc:
                self.write(f"-ERR Protocol error: {exc}\r\n".encode())
                self.end()
                return
            if command is _INCOMPLETE:
                return
            self._run(command)

    def _run(self, command: list[bytes]) -> None:
        try:
            self._socket._process_command(command)
        except Exception as exc:  # noqa: BLE001 - arguments fakeredis does not foresee (CLIENT LIST TYPE: IndexError)
            self.write(f"-ERR fakeredis: {exc!r}\r\n".encode())

    def write(self, reply: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(reply)

    def _flush(self) -> None:
        if self._out and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def end(self) -> None:
        """Run nothing more, and close once what is being answered now has been written."""
        self.ended = True
        self._loop.call_soon(self.hang_up)

    def hang_up(self) -> None:
        """Close at once, whether or not the peer reads."""
        self.ended = True
        self._flush()
        # close() alone says nothing to the peer while a forked child of this process still has the descriptor.
        with contextlib.suppress(OSError):
            self._transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self._clients.discard(self)
        self._socket.leave()
        self.lost.set_result(None)


def _address(name: Any) -> str:
    """`("127.0.0.1", 7777)` → `127.0.0.1:7777`, the form of CLIENT LIST and CLIENT KILL ADDR."""
    return ":".join(str(part) for part in name[:2]) if name else ""


class _Socket(AsyncFakeSocket):
    """What fakeredis calls a socket, the state of one connection, with its client behind it. Numbers: see the top."""

    client: _Client
    encode_reply: Callable[[Any, int], bytes]

    def put_response(self, msg: Any) -> None:
        """Send a reply or a push, where fakeredis puts it into a queue that is polled (5)."""
        self.client.write(self.encode_reply(msg, self._client_info.protocol_version))

    def kill(self) -> None:
        """CLIENT KILL: fakeredis forgets the connection and leaves it open (2)."""
        super().kill()
        self.client.end()

    def leave(self) -> None:
        """The connection is gone: a command that it is blocked in ends now, and takes nothing (5)."""
        if not self._blocked:
            self.close()
            return
        with self._server.lock:
            self._unblock_reason = b"timeout"
            self._db.wake_all()

    async def _async_blocking(self, *args: Any, **kwargs: Any) -> None:
        await super()._async_blocking(*args, **kwargs)
        if self.client.ended:  # closing earlier would take the database away from the command
            self.close()

    def resume(self) -> None:
        """A blocking command is answered: go on with those behind it, which wait in the client's reader."""
        super().resume()
        self.client.work()

    def _decode_error(self, error: SimpleError) -> Any:
        """Errors keep their words, in one line; fakeredis makes an exception of redis-py, and of that a text again."""
        return type(error)(error.value.replace("\r", " ").replace("\n", " "))

    def _cleanup(self, server: FakeServer) -> None:
        """Leave every channel: fakeredis keeps empty sets, and forgets the sharded channels (6)."""
        for channels in (server.subscribers, server.psubscribers, server.ssubscribers):
            for channel in [channel for channel, sockets in channels.items() if self in sockets]:
                channels[channel].discard(self)
                if not channels[channel]:
                    del channels[channel]
        self._clear_watches()
