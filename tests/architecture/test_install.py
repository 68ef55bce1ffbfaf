"""What `pip install .` brings: enough for a worker, and no web framework, terminal library or Lua interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tree import ROOT

# `pip` and `setuptools` are what a fresh venv itself brings; async-timeout is redis-py's on Python before 3.11.3.
EXPECTED = {
    *("cancellation-broker", "redis", "hiredis", "structlog"),
    *("pydantic", "pydantic-core", "annotated-types", "typing-extensions", "typing-inspection"),
}
OPTIONAL = {"pip", "setuptools", "async-timeout"}

LIST_INSTALLED = """
import json, importlib.metadata as metadata
names = [item.metadata["Name"].lower().replace("_", "-") for item in metadata.distributions()]
files = [str(file) for file in metadata.files("cancellation-broker") or ()]
print(json.dumps({"names": names, "files": files}))
"""

# Two pip runs against an index, each with a time limit of its own.
pytestmark = pytest.mark.timeout(400)


def _run(*command: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Outside the checkout, and without what would let the checkout's own packages be found."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=check,
    )


@pytest.fixture(scope="module")
def base_install(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a venv that has the package without any extra."""
    folder = tmp_path_factory.mktemp("base-install")
    _run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    bin_folder = folder / "venv" / "bin"
    pip = (bin_folder / "python", "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check")
    done = _run(*pip, ROOT, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return bin_folder


def test_a_base_install_is_enough_and_small(base_install: Path) -> None:
    """A worker host imports the SDK with these distributions and no others; scripts and wire document come along."""
    _run(base_install / "python", "-W", "error", "-c", "import broker; broker.Worker; broker.connect", cwd=base_install)
    listing = json.loads(_run(base_install / "python", "-c", LIST_INSTALLED, cwd=base_install).stdout)
    assert set(listing["names"]) - OPTIONAL == EXPECTED

    data = [*(ROOT / "broker").rglob("*.lua"), *(ROOT / "broker").rglob("*.md")]
    missing = {path.relative_to(ROOT).as_posix() for path in data} - set(listing["files"])
    assert not missing, f"not in the wheel: {', '.join(sorted(missing))}"
    packages = {Path(name).parts[0] for name in listing["files"] if name.endswith(".py")}
    assert packages == {"broker"}, "the wheel installs something else than the package"


def test_the_command_says_what_to_install(base_install: Path) -> None:
    """Without the extra `cli` the script is there, and its answer is one line a person can act on."""
    done = _run(base_install / "broker", "doctor", cwd=base_install, check=False)
    assert done.returncode != 0
    assert "cancellation-broker[cli]" in done.stderr
    assert "Traceback" not in done.stderr
