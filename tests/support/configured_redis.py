"""A redis-server started as deploy/ starts it: with its redis.conf and its users, on a free port."""

from __future__ import annotations

from pathlib import Path

import redis

from tests.support.deployment import DEPLOY, make_secrets, redis_url
from tests.support.redis_server import RedisServer, ServerDied


class ConfiguredRedis(RedisServer):
    """`url_of(user)` is what that user's BROKER_REDIS_URL says."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.secrets = make_secrets(folder, "127.0.0.1:PORT")

    def url_of(self, user: str) -> str:
        return redis_url(self.secrets, user).replace("PORT", str(self.port))

    def _command(self, program: str) -> list[str]:
        place = ("--port", str(self.port), "--dir", str(self._log_path().parent))
        return [program, str(DEPLOY / "redis" / "redis.conf"), *place, "--aclfile", str(self.secrets / "users.acl")]

    def _answers(self) -> bool:
        """The default user is off, so it is asked as somebody who may look."""
        process = self._running()
        if process.poll() is not None:
            raise ServerDied(f"the server left with code {process.returncode}; its log:\n{self.log()}")
        with redis.Redis.from_url(self.url_of("observer"), socket_timeout=1.0) as client:
            try:
                return bool(client.info("server")["process_id"] == process.pid)
            except (redis.ConnectionError, redis.TimeoutError):
                return False
