"""An HTTP server on a real socket that answers what a test says: any status, any bytes, or a dropped connection."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.points import PATIENCE_S


@dataclass(frozen=True)
class Asked:
    """One request as it arrived. `path` is still quoted."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Canned:
    """One answer. Bytes are sent as they are, anything else as JSON; None closes the connection without an answer."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Answering = Callable[[Asked], Canned]


class StubServer:
    """`answers` is called for each request, in the thread that serves it; `asked` remembers them all."""

    def __init__(self, answers: Answering) -> None:
        self.asked: list[Asked] = []
        self._answers = answers
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def answer(self, asked: Asked) -> Canned:
        self.asked.append(asked)
        return self._answers(asked)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                parts = urlsplit(self.path)
                query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
                headers = {name.lower(): value for name, value in self.headers.items()}
                canned = stub.answer(Asked(self.command, parts.path, query, headers, json.loads(body or b"null")))
                if canned.body is None:
                    self.close_connection = True
                    return
                raw = canned.body if isinstance(canned.body, bytes) else json.dumps(canned.body).encode()
                self.send_response(canned.status)
                for name, value in {"Content-Length": str(len(raw)), **canned.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            do_POST = do_GET  # noqa: N815  http.server's name

            def log_message(self, *_: object) -> None:
                """Nothing: the tests read what was asked."""

        return Handler

    def start(self) -> None:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def stub_server(answers: Answering) -> Iterator[StubServer]:
    """A server for the length of the block."""
    server = StubServer(answers)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def talking(*said: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Says these bytes, one on each connection, which it closes then; the address, and what it was asked."""
    asked: list[bytes] = []

    def talk(listener: socket.socket) -> None:
        for one in said:
            with listener.accept()[0] as peer:
                asked.append(peer.recv(65536))
                peer.sendall(one)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        talker = threading.Thread(target=talk, args=(listener,), daemon=True)
        talker.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        talker.join(PATIENCE_S)
        assert len(asked) == len(said), "it was not asked so often"
