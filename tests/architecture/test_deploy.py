"""What deploy/ says is true: its files parse, what they reference is there, and the program takes what it is given."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml

from broker.cli.app import app
from broker.server.routes import metrics
from broker.server.settings import ServerSettings
from broker.worker.worker import WORKER_ID_VARIABLE
from tests.support.dashboard import DASHBOARD
from tests.support.deployment import (
    DEPLOY,
    VARIABLE,
    broker_commands,
    compose,
    dockerfile,
    image_environment,
    kubernetes,
    make_secrets,
    pods,
    text_files,
    unit,
)
from tests.support.tree import ROOT

COMMAND: Any = typer.main.get_command(app)
SERVICES: dict[str, dict[str, Any]] = compose()["services"]
IN_REFERENCE = re.compile(r"deploy/[\w./@-]*\w")


def _options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        yield from [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or ()
    for each in getattr(command, "commands", {}).values():
        yield from _options(each)


OTHER_LANGUAGES = {"node-worker", "redis-cli-control-plane"}


def test_every_variable_is_a_setting() -> None:
    known = {
        WORKER_ID_VARIABLE,
        *_options(COMMAND),
        *(f"BROKER_{name.upper()}" for name in ServerSettings.model_fields),
    }
    ours = [path for path in text_files() if not OTHER_LANGUAGES & set(path.parts)]  # theirs are what conformance gives
    used = {name: path.name for path in ours for name in VARIABLE.findall(path.read_text(encoding="utf-8"))}
    assert {"BROKER_REDIS_URL", "BROKER_TOKENS_FILE", "BROKER_STOP_TIMEOUT_S"} <= set(used)
    assert not {name: place for name, place in used.items() if name not in known}


def test_every_command_line_is_one_that_the_program_takes() -> None:
    calls = list(broker_commands())
    assert {place.split(",")[0] for place, _ in calls} >= {"Dockerfile", "compose.yaml", "kubernetes", "README.md"}
    for place, arguments in calls:
        assert _refusal(arguments) is None, (place, arguments)


def _refusal(arguments: list[str]) -> str | None:
    """Parsed as the program does, and not run."""
    command, rest = COMMAND, list(arguments)
    while getattr(command, "commands", None) is not None:
        if not rest or rest[0] not in command.commands:
            return f"no such command: {rest[:1]}"
        command = command.commands[rest.pop(0)]
    try:
        command.make_context("broker", rest)
    except Exception as error:  # noqa: BLE001 - whatever it is, it keeps the command from running
        return str(error)
    return None


def test_the_check_of_command_lines_refuses() -> None:
    assert _refusal(["serve", "--no-such-option"])
    assert _refusal(["run", "no-such-command"])
    assert _refusal(["run", "tree"])


def test_what_compose_references_is_there(tmp_path: Path) -> None:
    secrets = make_secrets(tmp_path)
    places = [
        *(one for service in SERVICES.values() for one in service.get("env_file", [])),
        *(one.split(":")[0] for service in SERVICES.values() for one in service.get("volumes", []) if one[0] == "."),
        *(one["file"] for one in compose()["secrets"].values()),
    ]
    assert len(places) > 8
    missing = [one for one in places if not (_made(one, secrets) or _elsewhere(one) or (DEPLOY / one).exists())]
    assert not missing
    for service in SERVICES.values():
        if "build" in service:
            folder = DEPLOY / service["build"]["context"]
            assert (folder / service["build"]["dockerfile"]).samefile(DEPLOY / "Dockerfile")
    named = {one.split(":")[0] for service in SERVICES.values() for one in service.get("volumes", []) if one[0] != "."}
    assert named == set(compose()["volumes"])
    assert {one for service in SERVICES.values() for one in service.get("secrets", [])} == set(compose()["secrets"])


def _observability(name: str) -> Any:
    return yaml.safe_load((DEPLOY / "observability" / name).read_text(encoding="utf-8"))


def _mounted(service: str, inside: str) -> Path:
    """Where a path of a container lies here."""
    for volume in SERVICES[service]["volumes"]:
        here, there, *_ = volume.split(":")
        if here.startswith(".") and Path(inside).is_relative_to(there):
            return DEPLOY / str(here) / Path(inside).relative_to(there)
    raise AssertionError(f"{inside} is mounted into {service} from nowhere")


def test_prometheus_scrapes_every_server_and_finds_its_rules() -> None:
    config = _observability("prometheus.yml")
    (job,) = config["scrape_configs"]
    (static,) = job["static_configs"]
    servers = {name for name, service in SERVICES.items() if service.get("command") == ["serve"]}
    assert set(static["targets"]) == {f"{name}:{image_environment()['BROKER_PORT']}" for name in servers}
    assert job["metrics_path"] in {getattr(route, "path", None) for route in metrics.router.routes}
    assert Path(job["authorization"]["credentials_file"]).name in SERVICES["prometheus"]["secrets"]
    (config_file,) = (one.split("=")[1] for one in SERVICES["prometheus"]["command"] if "config.file" in one)
    assert _mounted("prometheus", config_file).samefile(DEPLOY / "observability" / "prometheus.yml")
    for rules in config["rule_files"]:
        assert _mounted("prometheus", str(Path(config_file).parent / rules)).is_file()


def test_grafana_finds_prometheus_and_its_dashboard() -> None:
    (source,) = _observability("grafana/datasources/prometheus.yml")["datasources"]
    url = urlsplit(source["url"])
    assert url.hostname in SERVICES
    assert SERVICES[url.hostname]["ports"] == [f"127.0.0.1:{url.port}:{url.port}"]
    (provider,) = _observability("grafana/dashboards/dashboards.yml")["providers"]
    assert list(_mounted("grafana", provider["options"]["path"]).glob("*.json")) == [DASHBOARD]
    password = SERVICES["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"]
    assert Path(password).name in SERVICES["grafana"]["secrets"]


def _made(place: str, secrets: Path) -> bool:
    parts = Path(place).parts
    return parts[0] == "secrets" and secrets.joinpath(*parts[1:]).exists()


def _elsewhere(place: str) -> bool:
    """Metrics come with a folder of their own; once it is there, everything in it has to be."""
    return "observability" in Path(place).parts and not (DEPLOY / "observability").exists()


def test_secrets_are_never_committed_and_never_reach_an_image() -> None:
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line[0] == "!"}
    copied = {
        one for word, rest in dockerfile() if word == "COPY" and "--from" not in rest for one in rest.split()[:-1]
    }
    assert copied == allowed, "what is not sent cannot be copied, what is not copied need not be sent"
    assert all((ROOT / one).exists() for one in copied)


def test_compose_publishes_loopback_only_and_hardens_what_it_runs() -> None:
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "restart" in service, name
        assert not service["image"].endswith(":latest"), name
        assert ":" in service["image"], name
        for other, how in dict(_depends(service)).items():
            assert "healthcheck" in SERVICES[other] or "build" in SERVICES[other] or how != "service_healthy", name


def _depends(service: dict[str, Any]) -> Iterator[tuple[str, str]]:
    needs = service.get("depends_on", {})
    for other in needs:
        yield other, needs[other]["condition"] if isinstance(needs, dict) else "service_started"


def test_nothing_is_killed_before_its_stop_timeout_is_over() -> None:
    """SIGKILL in mid-request loses nothing, but it answers nobody either."""
    for service in (one for one in SERVICES.values() if "build" in one):
        assert float(service["stop_grace_period"].rstrip("s")) > float(service["environment"]["BROKER_STOP_TIMEOUT_S"])
    settings = unit("broker.service")
    stop_s = next(value for key, value in settings if key == "TimeoutStopSec")
    variables = " ".join(value for key, value in settings if key == "Environment")
    assert f"BROKER_STOP_TIMEOUT_S={int(stop_s) // 2}" in variables
    server = next(pod for pod in pods() if "serve" in pod["containers"][0]["args"])
    (container,) = server["containers"]
    before = float(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    allowed = next(float(one["value"]) for one in container["env"] if one["name"] == "BROKER_STOP_TIMEOUT_S")
    assert server["terminationGracePeriodSeconds"] > before + allowed


def test_kubernetes_objects_fit_together() -> None:
    objects = {(one["kind"], one["metadata"]["name"]): one for one in kubernetes()}
    assert {kind for kind, _ in objects} == {"Deployment", "StatefulSet", "Service", "PodDisruptionBudget"}
    for (kind, name), one in objects.items():
        if kind in ("Deployment", "StatefulSet"):
            labels = one["spec"]["template"]["metadata"]["labels"]
            assert one["spec"]["selector"]["matchLabels"] == labels, name
            assert objects["Service", one["spec"].get("serviceName", name)]["spec"]["selector"] == labels, name
    broker = objects["Deployment", "broker"]["spec"]
    (container,) = broker["template"]["spec"]["containers"]
    assert broker["replicas"] == 2
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert objects["PodDisruptionBudget", "broker"]["spec"]["selector"] == broker["selector"]
    (worker,) = objects["StatefulSet", "broker-worker"]["spec"]["template"]["spec"]["containers"]
    identity = next(one for one in worker["env"] if one["name"] == WORKER_ID_VARIABLE)
    assert identity["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_all_run_as_the_user_of_the_image() -> None:
    user, group = next(rest for word, rest in dockerfile() if word == "USER").split(":")
    for pod in pods():
        assert pod["securityContext"]["runAsUser"] == int(user)
        assert pod["securityContext"]["runAsGroup"] == int(group)
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
    port = image_environment()["BROKER_PORT"]
    assert ("EXPOSE", port) in dockerfile()
    assert all(one.endswith(f":{port}") for name in ("broker-a", "broker-b") for one in SERVICES[name]["ports"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze: units are not verified")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """As they are, but with a program that is there."""
    program = shutil.which("true")
    for path in (DEPLOY / "systemd").iterdir():
        text = re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={program}", path.read_text(encoding="utf-8"))
        name = path.name.replace("@.", "@1.")
        (tmp_path / name).write_text(text)
        command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        ours = [line for line in done.stderr.splitlines() if path.name.split("@")[0].split(".")[0] in line]
        assert (done.returncode, ours) == (0, []), done.stderr


def test_every_file_named_in_the_text_is_there() -> None:
    """`deploy/…` in comments, scripts and the README."""
    for path in text_files():
        for name in IN_REFERENCE.findall(path.read_text(encoding="utf-8")):
            known = name.startswith("deploy/secrets") or _elsewhere(name) or (ROOT / name).exists()
            assert known, f"{path.name} names {name}"
