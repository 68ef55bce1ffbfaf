"""A command as a tree of processes that ends for sure: `ProcessTree`.

Each tree has a supervisor of its own, the small program in `reaper/`, which is told over a socket and answers on it.
The event loop watches that socket and the supervisor's pidfd: no thread, no child watcher.

What is guaranteed on Linux: when `wait` returns with the proof "tree", the kernel has no process left that was started
below the command, whatever it ignored, detached from or forked into, and no zombie of it. The tree is ended in the same
way when the block is left by an exception and when the caller ends, by SIGKILL too: SIGTERM, at most 2 s, SIGKILL.

What is not:
- Work that somebody else starts on request (`docker run`, `systemd-run`, `at`, a running tmux server) is not below it.
- A process of another user (`sudo` without being root) cannot be signalled; `wait` goes on until it ends by itself.
- When the *supervisor* is killed by SIGKILL, the kernel kills the command. What the command had started is searched
  for, by session and by a mark in the environment, and killed by the caller, with the proof "none"; when the caller is
  killed at the same time, nobody does. A container or cgroup that is killed as a whole leaves nothing in any case.
- Other systems have no subreaper: there the proof is "group", and what left the process group is not seen or ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from signal import SIGKILL
from typing import Literal

from broker.worker.reaper.proc import of_lost_tree, send
from broker.worker.reaper.request import Request
from broker.worker.supervisor_link import Message, Stream, SupervisorLink, spawn_supervisor

MARK = "BROKER_PROCESS_TREE"
"""In the command's environment: the trees it belongs to, outermost first."""

WHOLE_TREE = sys.platform == "linux"
HUNT_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """How a tree ended.

    `returncode` is the command's, as subprocess has it: negative is the signal that ended it. `left` counts what
    outlived the command and had to be told to end; `killed` what had to be ended by SIGKILL. `proof` says what is known
    to be gone: "tree", everything; "group", the process group (not Linux); "none": the supervisor was killed, and what
    could be found was ended.
    """

    returncode: int
    left: int
    killed: int
    proof: Literal["tree", "group", "none"]

    @property
    def forced(self) -> bool:
        return self.killed > 0


class ProcessTree:
    """A running command and everything below it. Use it on the event loop it was started on.

    Leaving `async with` ends the tree with the `grace` given at the start, and returns when it is gone. Cancelled while
    it waits for that, it kills at once and still waits; cancelled again, it leaves and the supervisor goes on alone.
    """

    pid: int
    """The command's; in a session of its own also the id of that session and of its process group."""

    def __init__(self, argv: Sequence[str], grace: float) -> None:
        loop = asyncio.get_running_loop()
        self._argv, self._grace = argv, grace
        self._mark = secrets.token_hex(8)
        self._link: SupervisorLink
        self._heard: Message = {}
        self._hunt: asyncio.Task[None] | None = None
        self._started: asyncio.Future[int] = loop.create_future()
        self._started.add_done_callback(asyncio.Future.exception)  # nobody may be left to look at it
        self._ended: asyncio.Future[ProcessEnd] = loop.create_future()

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        grace: float = 10.0,
        foreground: bool = False,
    ) -> ProcessTree:
        """Starts the command. The streams are those of subprocess, without PIPE: nothing stands between them and it.

        It runs in a session of its own, without a terminal. With `foreground` it stays in the caller's process group
        (Linux only), so that Ctrl-C, Ctrl-Z and a pipeline reach it as if the shell had started it. `grace`, in
        seconds, is for what outlives the command and for leaving the block.

        Raises what subprocess does: FileNotFoundError, PermissionError or another OSError that names the command or
        `cwd`; ValueError and TypeError for arguments that make no command. RuntimeError where the supervisor failed.
        """
        tree = cls(_checked_words(argv), _checked_seconds(grace))
        group = os.getpgrp() if foreground and WHOLE_TREE else 0
        request = tree._request(os.environ if env is None else env, group).encode()
        _refuse_pipes(stdin, stdout, stderr)
        process, channel = spawn_supervisor(cwd, (stdin, stdout, stderr), own_session=not group)
        tree._link = SupervisorLink(process, channel, tree._hear, tree._lose_supervisor)
        try:
            await tree._link.send_request(request)
            tree.pid = await asyncio.shield(tree._started)
        except asyncio.CancelledError:
            tree._link.hang_up()
            while not tree._ended.done():  # a second cancel does not make it gone: who says so waits for it
                with contextlib.suppress(asyncio.CancelledError):
                    await tree.wait()
            raise
        return tree

    async def __aenter__(self) -> ProcessTree:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.terminate(self._grace)
        try:
            await self.wait()
        except asyncio.CancelledError:
            self.kill()
            await self.wait()
            raise

    async def wait(self) -> ProcessEnd:
        """Returns when everything below is gone. May be called again and by several; cancelled, the tree runs on."""
        return await asyncio.shield(self._ended)

    def terminate(self, grace: float) -> None:
        """SIGTERM to everything, SIGKILL to what is left after `grace` seconds. A repeat can only shorten that."""
        self._link.send(f"term {_checked_seconds(grace)}\n")

    def kill(self) -> None:
        """SIGKILL to everything, until nothing is left."""
        self._link.send("kill\n")

    def _request(self, env: Mapping[str, str], group: int) -> Request:
        marks = ":".join(filter(None, (env.get(MARK), self._mark)))
        words = {os.fsencode(name): os.fsencode(value) for name, value in {**env, MARK: marks}.items()}
        if any(b"=" in name or not name for name in words):
            raise ValueError("a name in the environment is empty or holds a '='")
        argv = [os.fsencode(word) for word in self._argv]
        return Request(argv, words, grace_s=self._grace, group=group, whole_tree=WHOLE_TREE)

    def _hear(self, message: Message) -> None:
        self._heard.update(message)
        if "started" in message:
            self._started.set_result(message["started"])

    def _lose_supervisor(self) -> None:
        """It has ended: as it should, after its last word, or not."""
        heard = self._heard
        if "failed" in heard:
            self._started.set_exception(OSError(heard["failed"], os.strerror(heard["failed"]), self._argv[0]))
            self._ended.set_result(ProcessEnd(127, 0, 0, "tree"))
        elif "gone" in heard:
            self._ended.set_result(ProcessEnd(heard["exited"], heard["left"], heard["killed"], heard["gone"]))
        else:
            self._hunt = asyncio.ensure_future(self._hunt_down())

    async def _hunt_down(self) -> None:
        """Without its supervisor: kills what can be found until nothing more is found."""
        killed: set[int] = set()
        while found := await asyncio.to_thread(of_lost_tree, self._heard.get("started", -1), self._mark):
            killed.update(process.pid for process in found if send(process, SIGKILL))
            await asyncio.sleep(HUNT_PAUSE_S)
        if not self._started.done():
            self._started.set_exception(
                RuntimeError(f"the supervisor of {self._argv[0]!r} ended before it was started")
            )
        self._ended.set_result(ProcessEnd(self._heard.get("exited", -SIGKILL), 0, len(killed), "none"))


def _checked_words(argv: Sequence[str]) -> list[str]:
    if isinstance(argv, str | bytes):
        raise TypeError(f"a command is a list of words, not one string: {argv!r}")
    if not argv:
        raise ValueError("a command needs at least one word")
    return [os.fspath(word) for word in argv]


def _checked_seconds(grace: float) -> float:
    if math.isnan(grace) or grace < 0:
        raise ValueError(f"grace is {grace!r}; it is a number of seconds, 0 or more")
    return float(grace)


def _refuse_pipes(*streams: Stream) -> None:
    if subprocess.PIPE in streams:
        raise ValueError("PIPE is not for process trees: make a pipe with os.pipe() and pass its end")
