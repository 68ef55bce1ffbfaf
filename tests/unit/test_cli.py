"""The command line: what it says without its extra, its exit codes, and the pure parts of the demo."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from pathlib import Path

import pytest
from rich.console import Console

import broker
import broker.cli
from broker.cli import INSTALL, main
from broker.cli.demo import command
from broker.cli.demo.directory import (
    CHUNK_BYTES,
    FileHash,
    Root,
    count,
    execution_id,
    find_root,
    list_entries,
    shown,
)
from broker.cli.demo.marks import Marks
from broker.cli.demo.rows import choose, preorder
from broker.cli.demo.tree import Job, Node, Tree
from broker.cli.loading import loading, quick_interrupt
from broker.errors import BrokerUnavailable, InvalidInput
from broker.protocol.names import check_id
from broker.protocol.states import Disposition


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["broker", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code


def test_without_the_extra_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    monkeypatch.delitem(sys.modules, "broker.cli.app", raising=False)
    monkeypatch.delitem(sys.modules, "broker.cli.demo.command", raising=False)
    assert _run(monkeypatch, "demo") == 1
    assert capsys.readouterr().err == f"broker: {INSTALL}\n"


def test_version_and_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"broker {broker.__version__}\n"
    assert _run(monkeypatch, "--help") == 0
    assert "demo" in capsys.readouterr().out


def test_errors_of_ours_are_one_line_and_their_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(path: str | None) -> Root:
        raise BrokerUnavailable("nobody there")

    monkeypatch.setattr(command, "find_root", unreachable)
    assert _run(monkeypatch, "demo") == 6
    assert capsys.readouterr().err == "broker: nobody there\n"


def test_ctrl_c_outside_the_demo_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("broker.cli._run", interrupted)
    assert _run(monkeypatch) == 130
    assert capsys.readouterr().err == "broker: interrupted\n"


def test_ctrl_c_inside_a_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(path: str | None) -> Root:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "find_root", interrupted)
    assert _run(monkeypatch, "demo") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "broker: interrupted"


def test_ctrl_c_while_the_command_line_is_loaded_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[object, ...]] = []
    monkeypatch.setattr(os, "write", lambda *of: said.append(of))
    monkeypatch.setattr(os, "_exit", lambda code: said.append((code,)))
    with quick_interrupt():
        signal.raise_signal(signal.SIGINT)
    assert said == [(2, b"broker: interrupted\n"), (130,)]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_loaded_is_not_searched_for_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(gc.isenabled()))
    with loading():
        assert not gc.isenabled()
    with pytest.raises(ModuleNotFoundError), loading():
        raise ModuleNotFoundError
    assert (frozen, gc.isenabled()) == ([False, False], True)


def test_an_interrupt_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert _run(monkeypatch, "--version") == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_error_that_is_not_the_missing_extra_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "broker.cli.app", None)
    monkeypatch.setattr(sys, "argv", ["broker"])
    with pytest.raises(ModuleNotFoundError, match=r"broker\.cli\.app"):
        main()


# --- the file system ------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["missing", "file", "nul\0"])
def test_a_path_that_cannot_be_crawled_is_named(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="PATH"):
        find_root(f"{tmp_path}/{wrong}")


def test_the_default_is_the_standard_library_without_what_pip_installed() -> None:
    root = find_root(None)
    assert Path(root.absolute("asyncio/__init__.py")).is_file()
    assert "site-packages" not in [entry.name for entry in list_entries(root, "")]


def test_links_and_pipes_are_left_out_and_directories_come_spread_out(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).touch()
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "fifo")
    root = find_root(str(tmp_path))
    assert [entry.name for entry in list_entries(root, "")] == ["a", "b", "x", "c", "d", "y"]
    assert count(root) == (3, 4, True)
    assert count(root, at_most_s=-1.0) == (1, 0, False)


def test_a_directory_that_vanished_does_not_stop_the_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert count(Root(str(tmp_path / "gone"))) == (1, 0, True)


@pytest.mark.parametrize("size", [0, 5, CHUNK_BYTES, 2 * CHUNK_BYTES + 1])
def test_a_file_is_hashed_chunk_by_chunk(tmp_path: Path, size: int) -> None:
    import hashlib

    (tmp_path / "file").write_bytes(b"x" * size)
    file = FileHash(str(tmp_path / "file"))
    steps = 1
    while not file.step():
        steps += 1
    assert file.digest == hashlib.sha256(b"x" * size).hexdigest()
    assert (file.size, steps) == (size, size // CHUNK_BYTES + 1)


def test_what_is_no_regular_file_any_more_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    for name in ("fifo", "link", "gone"):
        with pytest.raises(OSError, match=r".+"):
            FileHash(str(tmp_path / name)).step()


@pytest.mark.parametrize("relative", ["", "a/b", "a:b", "@", "ä", "\udcff", "x" * 300, "a b", "new\nline"])
def test_every_path_makes_an_id(relative: str) -> None:
    check_id(execution_id("demo-0a1b2c", relative), "execution_id")


def test_ids_tell_paths_apart() -> None:
    paths = ["", "a/b", "a:b", "a@b", "x" * 300, "x" * 301, "\udcff", "\udcfe"]
    assert len({execution_id("r", one) for one in paths}) == len(paths)


def test_a_hostile_name_is_shown_without_harm() -> None:
    assert shown("ok/\udcff[bold]\x1b[31m\n") == "ok/?[bold]?[31m?"


# --- the picture ----------------------------------------------------------------------------------


def _tree() -> tuple[Tree, Node, Node, Node]:
    tree = Tree("r")
    child = tree.add("a", tree.root)
    leaf = tree.add("a/b", child)
    for node in (tree.root, child, leaf):
        tree.move(node, Job.RUNNING)
    return tree, tree.root, child, leaf


def test_a_small_terminal_shows_the_one_that_swallows_and_what_is_above_it() -> None:
    tree, root, child, leaf = _tree()
    for number in range(50):
        tree.move(tree.add(f"n{number}", root), Job.RUNNING)
    leaf.swallows = True
    assert choose(tree, 3, cancelled=True) == [root, child, leaf]
    assert len(choose(tree, 20, cancelled=False)) == 20


def test_the_tree_is_drawn_in_ascii_where_there_is_no_more() -> None:
    tree, root, child, leaf = _tree()
    second = tree.add("z", root)
    ascii_marks = Marks.for_console(Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii")))
    lines = [lead + node.name for lead, node in preorder([root, child, leaf, second], ascii_marks)]
    assert lines == ["", "|-- a", "|   `-- b", "`-- z"]
    for node in tree.nodes.values():
        for disposition in (None, *Disposition):
            node.disposition = disposition
            assert ascii_marks.of(node).plain.isascii()


def test_both_axes_are_told_apart() -> None:
    tree, root, _, _ = _tree()
    assert (root.status, root.still_running) == ("running", False)
    root.covered, root.disposition = True, Disposition.RECEIVED
    assert (root.status, root.still_running, tree.still_running) == ("cancelled", True, [root])
