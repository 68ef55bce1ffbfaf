"""The file that a measure is kept in: a section for each thing measured, each with its own time, machine and commit."""

import json
from pathlib import Path
from typing import Any

KEPT = Path(__file__).parent / "results" / "figures.json"


def read(path: Path) -> dict[str, Any]:
    """All sections by name; none where there is no such file."""
    sections: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return sections


def write(path: Path, section: str, measured: dict[str, Any]) -> None:
    """Replaces one section and leaves the others: they can be measured one at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**read(path), section: measured}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
