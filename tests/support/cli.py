"""The command line as a test uses it: in this process, where what it prints and its exit code are at hand."""

from __future__ import annotations

import os
import sys

import pytest

from broker.cli import main


class Cli:
    """Call it with the words of a command."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        for name in os.environ:
            if name.startswith("BROKER_") or name.lower().endswith("_proxy"):
                monkeypatch.delenv(name)

    def __call__(self, *arguments: str) -> tuple[int | str | None, str, str]:
        """Exit code, standard output, standard error."""
        self._monkeypatch.setattr(sys, "argv", ["broker", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        said = self._capsys.readouterr()
        return left.value.code, said.out, said.err
