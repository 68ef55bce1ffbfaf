"""A virtual environment for each contender, below the user's cache directory, made once and used again."""

import json
import os
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.peers.contender import Contender

INSTALL_S = 600.0
VERSIONS = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"


class NotInstalled(RuntimeError):
    """pip could not, for the reason in the text."""


def default_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "cancellation-broker" / "benchmarks"


def python_for(contender: Contender, folder: Path) -> Path:
    """The interpreter that has the contender. Raises NotInstalled."""
    if not contender.requirements:
        return Path(sys.executable)
    home = folder / contender.requirements[0].replace("==", "-").replace("[redis]", "")
    python, recipe = home / "bin" / "python", home / "recipe"
    wanted = json.dumps([sys.version, *contender.requirements])
    if not (recipe.exists() and recipe.read_text() == wanted and python.exists()):
        venv.create(home, clear=True, with_pip=True)
        _pip(python, contender)
        recipe.write_text(wanted)
    return python


def _pip(python: Path, contender: Contender) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*command, *contender.requirements], capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"pip did not finish within {INSTALL_S:g} s") from None
    if done.returncode:
        raise NotInstalled(f"pip: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")


def versions(contender: Contender, python: Path) -> dict[str, str]:
    if not contender.requirements:
        return {name: version(name) for name in contender.shown}
    done = subprocess.run(
        [str(python), "-c", VERSIONS, *contender.shown], capture_output=True, text=True, timeout=60.0, check=True
    )
    answer: dict[str, str] = json.loads(done.stdout)
    return answer
