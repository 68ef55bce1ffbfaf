"""The settings of the server: each from its option, its `BROKER_*` variable, or its default."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from broker.config import check_namespace
from broker.embedded import parse_embedded_url
from broker.errors import InvalidInput
from broker.server.tokens import Tokens

_SECRET = ("tokens",)


class ServerSettings(BaseSettings):
    """What a server needs to know.

    `redis_url`: `embedded://` keeps everything in this process · `redis_timeout_s`: how long Redis may take before a
    request is answered with 503 · `max_event_streams`: how many clients may follow a run at the same time; each costs
    a connection and up to about a megabyte, one more is answered with 503 · `stop_timeout_s`: how long requests under
    way may take once the server is told to stop; a cancel that is still being walked then is finished by another
    replica.
    """

    model_config = SettingsConfigDict(env_prefix="BROKER_", extra="ignore", frozen=True, env_ignore_empty=True)

    redis_url: str = "embedded://"
    namespace: str = "cb"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8470
    tokens_file: str | None = None
    tokens: SecretStr | None = None
    redis_timeout_s: Annotated[float, Field(gt=0, le=60)] = 1.5
    max_event_streams: Annotated[int, Field(ge=0, le=100_000)] = 256
    stop_timeout_s: Annotated[float, Field(ge=0, le=600)] = 10.0

    def read_tokens(self) -> Tokens:
        """The tokens of the file, or of the variable. Raises InvalidInput."""
        if self.tokens_file is not None and self.tokens is not None:
            raise InvalidInput("BROKER_TOKENS_FILE and BROKER_TOKENS are both set; allowed is one of them")
        if self.tokens_file is not None:
            return Tokens.read(self.tokens_file, "BROKER_TOKENS_FILE")
        if self.tokens is not None:
            return Tokens.parse(self.tokens.get_secret_value(), "BROKER_TOKENS")
        return Tokens()


def load_settings(**options: Any) -> ServerSettings:
    """Settings from the environment, with what was given as options before it. None counts as not given.

    Raises InvalidInput that names the variable, the value and what is allowed.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        settings = ServerSettings(**given)
    except ValidationError as error:
        raise InvalidInput("; ".join(_describe(one, given) for one in error.errors())) from error
    check_namespace(settings.namespace)
    if settings.redis_url.startswith("embedded:"):
        parse_embedded_url(settings.redis_url)
    if not settings.read_tokens() and not is_loopback(settings.host):
        raise InvalidInput(
            f"{_place('host', given)} {settings.host!r}: without tokens allowed is loopback only (127.0.0.1, ::1,"
            " localhost), because everyone who reaches the server could cancel everything;"
            " `--tokens-file` or BROKER_TOKENS_FILE names a file of tokens"
        )
    return settings


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _describe(error: Any, given: dict[str, Any]) -> str:
    name = str(error["loc"][0]).removeprefix("BROKER_").lower() if error["loc"] else ""
    value = "" if name in _SECRET else f" {error.get('input')!r}"
    return f"{_place(name, given)}{value}: {error['msg']}"


def _place(name: str, given: dict[str, Any]) -> str:
    return f"--{name.replace('_', '-')}" if name in given else f"BROKER_{name.upper()}"
