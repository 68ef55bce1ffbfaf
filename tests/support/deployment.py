"""The files of deploy/ as data: what they reference, which variables they set, which commands they run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.tree import ROOT

DEPLOY = ROOT / "deploy"
VARIABLE = re.compile(r"\bBROKER_[A-Z][A-Z_]*[A-Z]\b")
_ASSIGNMENT = re.compile(r"[A-Z_]+=")
_DEFAULTED = re.compile(r"\$\{\w+:-([^}]*)\}")


def make_secrets(folder: Path, address: str = "redis:6379") -> Path:
    """Runs deploy/make-secrets.sh into a folder of its own, and answers that folder."""
    command = ["sh", str(DEPLOY / "make-secrets.sh"), str(folder / "secrets"), address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "secrets"


def redis_url(secrets: Path, user: str) -> str:
    """`BROKER_REDIS_URL` of one user of Redis."""
    return (secrets / f"{user}.env").read_text().strip().removeprefix("BROKER_REDIS_URL=")


def compose() -> dict[str, Any]:
    """deploy/compose.yaml, each `${NAME:-default}` at its default."""
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(_DEFAULTED.sub(r"\1", text))
    return loaded


def kubernetes() -> Iterator[dict[str, Any]]:
    """Every object of deploy/kubernetes."""
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


def pods() -> Iterator[dict[str, Any]]:
    return (one["spec"]["template"]["spec"] for one in kubernetes() if "template" in one["spec"])


def text_files() -> Iterator[Path]:
    """All files of deploy/ but secrets that somebody made there."""
    return (path for path in sorted(DEPLOY.rglob("*")) if path.is_file() and "secrets" not in path.parts)


def dockerfile() -> list[tuple[str, str]]:
    """The instructions of deploy/Dockerfile, continued lines joined: `("RUN", "python -m …")`."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for line in joined.splitlines() if line for word, rest in [line.split(" ", 1)]]


def instruction(name: str) -> str:
    """The last of that name, as Docker has it."""
    return [rest for word, rest in dockerfile() if word == name][-1]


def image_command() -> list[str]:
    """What `docker run` of the image without arguments starts."""
    return [*json.loads(instruction("ENTRYPOINT")), *json.loads(instruction("CMD"))]


def image_environment() -> dict[str, str]:
    return dict(one.split("=", 1) for one in shlex.split(instruction("ENV")))


def healthcheck() -> list[str]:
    command: list[str] = json.loads(instruction("HEALTHCHECK").split(" CMD ", 1)[1])
    return command


def unit(name: str) -> list[tuple[str, str]]:
    """The settings of a systemd unit, in their order."""
    lines = (DEPLOY / "systemd" / name).read_text(encoding="utf-8").splitlines()
    return [(key, value) for line in lines if "=" in line and line[0] != "#" for key, value in [line.split("=", 1)]]


def shell_lines(path: Path) -> Iterator[str]:
    """The commands in ```sh blocks of a Markdown file, continued lines joined."""
    for block in re.findall(r"^```sh\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        yield from (line for line in re.sub(r"\\\n\s*", "", block).splitlines() if line and line[0] != "#")


def broker_commands() -> Iterator[tuple[str, list[str]]]:
    """The arguments of every call of `broker` in deploy/, with the place where it stands."""
    assert json.loads(instruction("ENTRYPOINT")) == ["broker"]
    yield "Dockerfile", json.loads(instruction("CMD"))
    for name, service in compose()["services"].items():
        if service["image"].startswith("cancellation-broker") and "entrypoint" not in service:
            yield f"compose.yaml, {name}", [str(word) for word in service["command"]]
    for pod in pods():
        yield from (("kubernetes", container["args"]) for container in pod["containers"])
    lines = [("README.md", line) for line in shell_lines(DEPLOY / "README.md")]
    for path in sorted((DEPLOY / "systemd").iterdir()):
        lines += [(path.name, value) for key, value in unit(path.name) if key == "ExecStart"]
    for place, line in lines:
        yield from ((place, arguments) for arguments in _calls(line))


def _calls(line: str) -> Iterator[list[str]]:
    """`broker …`, `/opt/broker/bin/broker …`, `NAME=value broker …`, `docker compose … exec SERVICE broker …`."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("();<>|&"):
            while words and _ASSIGNMENT.match(words[0]):
                words.pop(0)
            if words[:2] == ["docker", "compose"] and "broker" in words:
                words = words[words.index("broker") :]
            if words and Path(words[0]).name == "broker":
                yield words[1:]
            words = []
        else:
            words.append(word)
