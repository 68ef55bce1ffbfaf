"""The one place that talks to the server. Every failure is an error of broker.errors with one clear line."""

from __future__ import annotations

import getpass
import ipaddress
import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote, unquote, urlsplit

import httpx
from pydantic import ValidationError

from broker.cli.failures import failure, not_ours
from broker.cli.settings import bad, seconds
from broker.cli.visible import visible
from broker.errors import BrokerError, BrokerUnavailable, InvalidInput
from broker.protocol.http.answers import Answer

A = TypeVar("A", bound=Answer)
Query = dict[str, str | int]

CONNECT_TIMEOUT_S = 5.0
SILENCE_S = 45.0
"""A stream that is quiet for so long is dead: the server says something every 15 seconds."""
PREFIX = "/api/v1"


@dataclass(frozen=True, slots=True)
class Reply(Generic[A]):
    """What the server answered: as `answer` for people, as `raw` for machines, who may know newer fields."""

    answer: A
    raw: dict[str, Any]


class LineStream:
    """The lines of an answer that goes on."""

    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[str]:
        return self._answer.iter_lines()

    def cut(self) -> None:
        """Ends it from another thread: a close would not wake one that reads."""
        stream = self._answer.extensions.get("network_stream")
        socket_of = stream.get_extra_info("socket") if stream is not None else None
        if socket_of is not None:
            with suppress(OSError):
                socket_of.shutdown(socket.SHUT_RDWR)


class Client:
    """A connection to one server. Raises BrokerError for everything that goes wrong, with the right exit code."""

    def __init__(self, server: str, token: str | None, timeout: str) -> None:
        self.server = check_server(server)
        self._timeout_s = seconds(timeout, "--timeout", least=0.1, most=3600.0) or 0.0
        self._token = read_token(token)
        headers = {"Accept": "application/json", **_who(self._token)}
        try:
            self._http = httpx.Client(headers=headers, trust_env=not is_loopback(self.server))
        except (ValueError, httpx.InvalidURL) as error:  # a proxy that is no address
            raise InvalidInput(f"HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, model: type[A], *parts: str, query: Query | None = None, wait_s: float = 0.0) -> Reply[A]:
        """`parts` are the path below /api/v1, quoted here. `wait_s` is how long the server was asked to hold it."""
        return self._ask("GET", model, path_of(*parts), query=query, wait_s=wait_s)

    def get_at(self, model: type[A], path: str, query: Query | None = None, wait_s: float = 0.0) -> Reply[A]:
        """A path that the server itself gave, such as `report_endpoint`."""
        if not path.startswith("/") or path.startswith("//"):
            raise not_ours(self.server, f"it names {path!r} as an endpoint")
        return self._ask("GET", model, path, query=query, wait_s=wait_s)

    def post(
        self, model: type[A], *parts: str, body: dict[str, Any], query: Query | None = None, key: str | None = None
    ) -> Reply[A]:
        """`key` is the idempotency key."""
        headers = {"Idempotency-Key": key} if key else {}
        return self._ask("POST", model, path_of(*parts), query=query, body=body, headers=headers)

    @contextmanager
    def lines(self, *parts: str, query: Query | None = None, after: str | None = None) -> Iterator[LineStream]:
        """A stream of events, read for the length of the block. Raises BrokerError for what is no stream."""
        path = path_of(*parts)
        headers = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": after})
        limits = httpx.Timeout(SILENCE_S, connect=min(self._timeout_s, CONNECT_TIMEOUT_S))
        try:
            url = _with_query(self.server + path, query)
            with self._http.stream("GET", url, headers=headers, timeout=limits) as answer:
                self._check(answer.status_code, b"" if answer.status_code == 200 else answer.read(), path)
                if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                    raise not_ours(self.server, "what it sends is no stream of events")
                yield LineStream(answer)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise self._transport_failure(error) from error

    def _check(self, status: int, body: bytes, path: str) -> None:
        if status != 200:
            has_token = self._token is not None
            raise failure(status, body, server=self.server, subject=_subject(path), has_token=has_token)

    def _ask(
        self,
        method: str,
        model: type[A],
        path: str,
        *,
        query: Query | None = None,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        wait_s: float = 0.0,
    ) -> Reply[A]:
        url = _with_query(self.server + path, query)
        limits = httpx.Timeout(wait_s + self._timeout_s, connect=min(self._timeout_s, CONNECT_TIMEOUT_S))
        try:
            answer = self._http.request(method, url, json=body, headers=headers, timeout=limits)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._transport_failure(error) from error
        self._check(answer.status_code, answer.content, path)
        return self._parse(model, answer.content)

    def _parse(self, model: type[A], body: bytes) -> Reply[A]:
        try:
            raw = json.loads(body)
            return Reply(model.model_validate(raw), raw)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the answer"
            raise not_ours(self.server, f"{where}: {first['msg']}") from error
        except (ValueError, RecursionError) as error:
            raise not_ours(self.server, "its answer is no JSON") from error

    def _transport_failure(self, error: Exception) -> BrokerError:
        match error:
            case httpx.ReadTimeout() | httpx.WriteTimeout():
                why = f"the server at {self.server} did not answer within {self._timeout_s:g} s"
                return BrokerUnavailable(f"{why} (--timeout or BROKER_TIMEOUT allows more)")
            case httpx.ConnectTimeout():
                return self._unreachable("no answer to the connection")
            case httpx.RemoteProtocolError() if not _is_cut(error):
                return not_ours(self.server, f"it does not speak HTTP: {error}")
            case httpx.DecodingError() | httpx.InvalidURL() | httpx.LocalProtocolError():
                return not_ours(self.server, str(error))
            case _:
                return self._unreachable(str(error) or type(error).__name__)

    def _unreachable(self, why: str) -> BrokerUnavailable:
        return BrokerUnavailable(
            f"cannot reach the server at {self.server}: {visible(why)}"
            " (is `broker serve` running there? --server or BROKER_SERVER names another)"
        )


def _is_cut(error: httpx.RemoteProtocolError) -> bool:
    """Whether the server went away before its answer, or in the middle of it; only the text says so."""
    return any(words in str(error) for words in ("disconnected", "closed connection"))


def path_of(*parts: str) -> str:
    """The path of an endpoint; ids are quoted so that none can leave its place in it, `..` too."""
    return "/".join((PREFIX, *(_quote(part) for part in parts)))


def check_server(url: str) -> str:
    """The address without a slash at its end. Raises InvalidInput."""
    allowed = "http://HOST[:PORT] or https://HOST[:PORT], with a path where a proxy adds one"
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for what is no number up to 65535
    except ValueError as error:
        raise bad("--server", url, f"{allowed} ({error})") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise bad("--server", url, allowed)
    if "@" in parts.netloc:  # never shown: there may be a password in it
        raise InvalidInput(
            "--server (BROKER_SERVER): user and password do not belong into it, a token is in BROKER_TOKEN"
        )
    if not url.isascii() or not url.isprintable() or " " in url:
        raise bad("--server", url, allowed)
    return url.rstrip("/")


def read_token(token: str | None) -> str | None:
    """The token to send; `-` reads a line from standard input. Raises InvalidInput, which never shows it."""
    if token == "-":  # noqa: S105
        token = sys.stdin.readline()
    token = (token or "").strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise InvalidInput("--token (BROKER_TOKEN): allowed are printable ASCII characters without spaces")
    return token or None


def _who(token: str | None) -> dict[str, str]:
    """A token says who asks. A server without tokens takes the word of whoever is on its machine."""
    if token:
        return {"Authorization": f"Bearer {token}"}
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, in a container
        return {}
    return {"X-Requested-By": name} if name.isascii() and name.isprintable() else {}


def was_sent(error: BrokerUnavailable) -> bool:
    """Whether the request may have arrived although no answer came."""
    why = error.__cause__
    return isinstance(why, httpx.TransportError) and not isinstance(
        why, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError
    )


def is_loopback(server: str) -> bool:
    """Whether no proxy can stand between: a proxy of the environment would look for 127.0.0.1 on its own host."""
    host = urlsplit(server).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _quote(part: str) -> str:
    return quote(part, safe="").replace(".", "%2E") if part.strip(".") == "" else quote(part, safe="")


def _with_query(url: str, query: Query | None) -> str:
    if not query:
        return url
    return f"{url}{'&' if '?' in url else '?'}{httpx.QueryParams(query)}"


def _subject(path: str) -> str:
    """The id that a path of ours is about: /api/v1/executions/ID/cancel."""
    parts = path.removeprefix(PREFIX).split("?")[0].split("/")
    return visible(unquote(parts[2])) if len(parts) > 2 else ""
