"""The image without an engine: its build step in a fresh venv, its command, its health check, its end.

What the build step copies is all that it sees. Dependencies are those of the test run (PYTHONPATH), so that only the
package itself and its build backend are fetched; that they are declared is checked in tests/architecture.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.configured_redis import ConfiguredRedis
from tests.support.deployment import (
    DEPLOY,
    compose,
    dockerfile,
    healthcheck,
    image_command,
    image_environment,
    instruction,
)
from tests.support.points import PATIENCE_S
from tests.support.tree import ROOT
from tests.support.wait import wait_until_sync

PREFIX = "/opt/broker"
RUN = "demo"
pytestmark = pytest.mark.timeout(300)


class Image:
    """What the Dockerfile makes, with another prefix."""

    def __init__(self, folder: Path) -> None:
        self._prefix = folder / "prefix"
        self._sources = folder / "sources"

    def build(self) -> None:
        self._sources.mkdir()
        for word, rest in dockerfile():
            if word == "COPY" and "--from" not in rest:
                self._copy(*rest.split())
        (step,) = (rest for word, rest in dockerfile() if word == "RUN")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", self._moved(step)], cwd=self._sources, env={**self._clean(), "PATH": path},
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        shutil.copy(DEPLOY / "healthcheck.py", self._prefix)

    def _copy(self, *places: str) -> None:
        for place in places[:-1]:
            if (ROOT / place).is_dir():
                shutil.copytree(ROOT / place, self._sources / places[-1])
            elif places[-1] == "./":
                shutil.copy(ROOT / place, self._sources)
            else:
                assert places[-1] == f"{PREFIX}/{Path(place).name}"

    def _moved(self, text: str) -> str:
        return text.replace(PREFIX, str(self._prefix))

    def _clean(self) -> dict[str, str]:
        """Nothing of this process's settings, and the dependencies of the test run."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BROKER_", "VIRTUAL_", "CO"))}
        return {**kept, "PYTHONPATH": sysconfig.get_path("purelib")}

    def start(self, command: list[str], **variables: str) -> subprocess.Popen[str]:
        """As the container does, from a folder that has no sources."""
        own = image_environment()
        path = self._moved(own["PATH"]).replace("$PATH", os.environ["PATH"])
        words = [self._moved(word) for word in command]
        program = shutil.which(words[0], path=path)
        assert program is not None
        assert program.startswith(str(self._prefix)), program
        return subprocess.Popen(
            [program, *words[1:]], cwd=self._prefix, env={**self._clean(), **own, "PATH": path, **variables},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    image = Image(tmp_path_factory.mktemp("image"))
    image.build()
    return image


@pytest.fixture
def deployed(tmp_path: Path, real_redis: str) -> Iterator[ConfiguredRedis]:
    """`real_redis` says where there is no program."""
    assert real_redis
    with ConfiguredRedis(tmp_path) as server:
        yield server


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_the_image_serves_is_healthy_while_redis_answers_and_leaves_in_time(
    image: Image, deployed: ConfiguredRedis
) -> None:
    port = free_port()
    variables = {
        "BROKER_REDIS_URL": deployed.url_of("broker"),
        "BROKER_TOKENS_FILE": str(deployed.secrets / "tokens"),
        "BROKER_PORT": port,
    }

    def health() -> tuple[int, str]:
        with ended(image.start(healthcheck(), BROKER_PORT=port)) as check:
            _, said = check.communicate(timeout=PATIENCE_S)
            return check.returncode, said

    with ended(image.start(image_command(), **variables)) as server:
        assert line_of(server) == f"broker serves on http://0.0.0.0:{port}\n"
        wait_until_sync(lambda: health()[0] == 0, "the image to be healthy", PATIENCE_S)
        cancel_the_demo(image, deployed, f"http://127.0.0.1:{port}")

        deployed.kill()
        wait_until_sync(lambda: health()[0] == 1, "it to be unhealthy", PATIENCE_S)
        _, said = health()
        assert "503" in said
        assert "Traceback" not in said
        deployed.restart()
        wait_until_sync(lambda: health()[0] == 0, "it to be healthy again", PATIENCE_S)

        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=float(compose()["services"]["broker-a"]["stop_grace_period"].rstrip("s")))
        assert server.returncode == 0
    assert health()[0] == 1, "nobody serves any more"


def cancel_the_demo(image: Image, deployed: ConfiguredRedis, url: str) -> None:
    """Its worker, as the user `worker`, hashes until somebody with the token of `ops` cancels the run."""
    token = (deployed.secrets / "ops.token").read_text()
    worker = ["python", str(DEPLOY / "examples" / "demo-worker" / "worker.py")]
    variables = {"BROKER_REDIS_URL": deployed.url_of("worker"), "BROKER_WORKER_ID": "w-1", "DEMO_RUN": RUN}
    with (
        httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE_S) as http,
        ended(image.start(worker, **variables)) as running,
    ):
        assert "hashing" in line_of(running)
        assert http.post(f"/api/v1/workflows/{RUN}/cancel-tree").status_code == 401
        bearer = {"Authorization": f"Bearer {token}"}

        def nodes() -> object:
            return http.get(f"/api/v1/runs/{RUN}", headers=bearer).json().get("total_nodes")

        wait_until_sync(lambda: nodes() == 5, "the worker and its four threads", PATIENCE_S)
        answer = http.post(f"/api/v1/workflows/{RUN}/cancel-tree?wait_ms=30000", headers=bearer).json()
        assert (answer["cancelled_count"], answer["still_running_count"]) == (5, 0)
        said, errors = running.communicate(timeout=PATIENCE_S)
        assert (running.returncode, "w-1: " in said, errors) == (0, True, "")


def test_an_image_without_tokens_does_not_listen(image: Image, deployed: ConfiguredRedis) -> None:
    with ended(image.start(image_command(), BROKER_REDIS_URL=deployed.url_of("broker"))) as server:
        out, said = server.communicate(timeout=PATIENCE_S)
    assert (server.returncode, out) == (2, "")
    assert "without tokens" in said


def test_the_image_is_nobody_and_says_what_it_listens_on() -> None:
    user, group = (int(one) for one in instruction("USER").split(":"))
    assert min(user, group) >= 10000, "a uid that no machine gives to people"
    assert instruction("EXPOSE") == image_environment()["BROKER_PORT"]
