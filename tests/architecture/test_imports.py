"""Who may import whom: the contracts of pyproject.toml hold."""

from __future__ import annotations

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from tests.support.tree import ROOT


def test_every_import_contract_holds(capsys: pytest.CaptureFixture[str]) -> None:
    """Layers, redis in one folder, a pure core, a light base install: import-linter names the line that breaks one."""
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=None, no_cache=True, no_logo=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out
