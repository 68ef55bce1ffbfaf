"""The control plane's side of the job: registers what the workers find, dispatches it, passes results on.

A spawn is gated here: once the run is cancelled, `register` answers `run_cancelled` and nothing is dispatched.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType
from typing import Self

import broker
from broker.cli.demo.fleet import Event, Fleet, Member
from broker.cli.demo.tree import Job, Node, Tree
from broker.errors import RunCancelled

_ENDS = {"done": Job.DONE, "stopped": Job.STOPPED, "refused": Job.REFUSED, "failed": Job.FAILED}


class Crawl:
    """Runs while its block does; `tick()` raises what went wrong inside."""

    def __init__(self, control: broker.Broker, fleet: Fleet, tree: Tree) -> None:
        self._control = control
        self._fleet = fleet
        self._tree = tree
        self._load: Counter[str] = Counter()
        self._members = {member.name: member for member in fleet.members}
        self._wanted: list[Node] = [tree.root, *([tree.command] if tree.command else [])]
        self._news = asyncio.Event()
        self._marks: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
        self.lost: list[str] = []
        self.swallowed: Node | None = None

    async def __aenter__(self) -> Self:
        self._news.set()
        self._tasks = {asyncio.create_task(self._hear_all()), asyncio.create_task(self._spawn_all())}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def over(self) -> bool:
        """The job has ended by itself."""
        return self._tree.root.job in (Job.DONE, Job.FAILED)

    async def tick(self, seconds: float) -> None:
        """Waits, and raises what the tasks of the crawl have raised."""
        done, _ = await asyncio.wait(self._tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def mark_one(self) -> Node | None:
        """Finds an execution in flight and has its body swallow the cancel that is about to come."""
        for node in sorted((one for one in self._tree.nodes.values() if _can_swallow(one)), key=_fitness)[:5]:
            self._fleet.send(self._members[node.worker], "swallow", id=node.execution_id)
            if await self._is_marked(node):
                node.swallows = True
                return node
        return None

    async def _is_marked(self, node: Node) -> bool:
        try:
            async with asyncio.timeout(1.0):
                while (answer := await self._marks.get())[0] != node.execution_id:
                    pass
        except TimeoutError:
            return False
        return answer[1]

    # --- spawning ---------------------------------------------------------------------------------

    async def _spawn_all(self) -> None:
        """What was found in the meantime is registered in one go, and dispatched."""
        while True:
            await self._news.wait()
            self._news.clear()
            wanted, self._wanted = self._wanted, []
            executions = [broker.Execution(node.execution_id, node.parent_id) for node in wanted]
            answer = await self._control.register(self._tree.run_id, executions)
            refused = dict(answer.refused)
            for node in wanted:
                if code := refused.get(node.execution_id):
                    self._refuse(node, code)
                else:
                    self._dispatch(node)

    def _refuse(self, node: Node, code: str) -> None:
        self._tree.refused_at_gate += code == RunCancelled.code
        self._tree.move(node, Job.REFUSED if code == RunCancelled.code else Job.FAILED)
        node.detail = code
        self._tell_parent(node, None)

    def _dispatch(self, node: Node) -> None:
        alive = [member for member in self._fleet.members if member.alive]
        if not alive:
            return
        member = min(alive, key=lambda one: self._load[one.name])
        self._load[member.name] += 1
        node.worker = member.name
        order = "command" if node.is_command else "run"
        self._fleet.send(member, order, id=node.execution_id, path=node.relative, parent=node.parent_id)

    def _tell_parent(self, node: Node, digest: str | None) -> None:
        if node.parent is not None and node.parent.worker and not node.is_command:
            member = self._members[node.parent.worker]
            self._fleet.send(member, "child", id=node.parent.execution_id, path=node.relative, digest=digest)

    # --- hearing ----------------------------------------------------------------------------------

    async def _hear_all(self) -> None:
        while True:
            event = await self._fleet.events.get()
            node = self._tree.nodes.get(event.fields.get("id", ""))
            if node is not None:
                self._hear(event, node)
            elif event.kind == "progress":
                self._progress(event)
            elif event.kind == "gone":
                self._gone(event.member, event.fields["how"])

    def _hear(self, event: Event, node: Node) -> None:
        fields = event.fields
        match event.kind:
            case "started":
                self._tree.move(node, Job.RUNNING)
            case "listed":
                node.files, node.directories = fields["files"], fields["directories"]
            case "spawn":
                self._wanted.append(self._tree.add(fields["path"], node))
                self._news.set()
            case "waiting":
                self._tree.move(node, Job.WAITING)
            case "marked":
                self._marks.put_nowait((node.execution_id, fields["there"]))
            case "swallowed":
                self.swallowed = node
            case "ended":
                self._ended(event, node)

    def _ended(self, event: Event, node: Node) -> None:
        self._load[event.member.name] -= 1
        how: str = event.fields["how"]
        self._tree.refused_at_gate += how == "refused"
        self._tree.move(node, _ENDS[how])
        node.detail = event.fields["detail"] or event.fields["digest"] or ""
        self._tell_parent(node, event.fields["digest"])

    def _progress(self, event: Event) -> None:
        for execution_id, hashed in event.fields["files"].items():
            self._tree.nodes[execution_id].hashed += hashed
            self._tree.hashed += hashed
        self._tree.size += event.fields["size"]
        self._tree.unreadable += event.fields["unreadable"]

    def _gone(self, member: Member, how: str) -> None:
        self.lost.append(f"worker process {member.number} (pid {member.pid}) {how}")


def _can_swallow(node: Node) -> bool:
    return node.job.in_flight and not node.is_command


def _fitness(node: Node) -> tuple[bool, bool, int, int]:
    """Best first: it crawls, is not the root, will ask for sub-directories after the cancel, is deep."""
    return node.job is not Job.RUNNING, node.parent is None, -min(3, node.not_spawned), -node.depth
