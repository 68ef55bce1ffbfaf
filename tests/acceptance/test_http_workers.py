"""Workers without Redis, over HTTP: from the first heartbeat to the settled cancel."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from broker.worker import cancel_feed, long_poll
from tests.support.points import holding
from tests.support.serving import Served, open_served
from tests.support.wait import wait_until

RUN = "run-1"
LONG_MS = 60_000
"""A patience that no test uses up: what ends the poll is what is tested."""


class HttpWorker:
    """What a worker in any language does."""

    def __init__(self, served: Served, worker_id: str) -> None:
        self.client = served.client
        self.worker_id = worker_id
        self.incarnation = 0

    async def post(self, path: str, body: object, status: int = 200) -> dict[str, Any]:
        response = await self.client.post(f"/api/v1/{path}", json=body)
        assert response.status_code == status, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def begin(self) -> HttpWorker:
        body = {"agent_node_id": "gpu-7"}
        self.incarnation = (await self.post(f"workers/{self.worker_id}/heartbeat", body))["incarnation"]
        return self

    @property
    def me(self) -> dict[str, Any]:
        return {"worker_id": self.worker_id, "incarnation": self.incarnation}

    async def start(self, execution_id: str, status: int = 200, **more: Any) -> dict[str, Any]:
        return await self.post(f"executions/{execution_id}/start", {**self.me, "run_id": RUN, **more}, status)

    async def beat(self, *held: str, wait_ms: int = 0) -> dict[str, Any]:
        named = [{"run_id": RUN, "execution_id": one} for one in held]
        body = {"incarnation": self.incarnation, "held": named, "wait_ms": wait_ms}
        return await self.post(f"workers/{self.worker_id}/heartbeat", body)

    async def standing(self, *held: str) -> asyncio.Task[dict[str, Any]]:
        """A long poll that has read everything and waits."""
        with holding("poll.waiting") as point:
            poll = asyncio.create_task(self.beat(*held, wait_ms=LONG_MS))
            await point.arrived()
        return poll

    async def ack(self, execution_id: str, disposition: str, *, seq: int = 1, start: int = 1) -> dict[str, Any]:
        body = {**self.me, "start": start, "seq": seq, "disposition": disposition}
        return await self.post(f"executions/{execution_id}/ack", body)

    async def finish(self, execution_id: str, *, start: int = 1, status: str = "cancelled") -> dict[str, Any]:
        return await self.post(f"executions/{execution_id}/finish", {**self.me, "start": start, "status": status})


async def cancel(served: Served, reason: str = "enough") -> dict[str, Any]:
    response = await served.client.post(f"/api/v1/workflows/{RUN}/cancel-tree", json={"reason": reason})
    answer: dict[str, Any] = response.json()
    return answer


async def report(served: Served) -> dict[str, Any]:
    answer: dict[str, Any] = (await served.client.get(f"/api/v1/runs/{RUN}/cancellation")).json()
    return answer


async def test_a_whole_life_of_a_worker_over_http(redis_url: str) -> None:
    async with open_served(redis_url) as served:
        worker = await HttpWorker(served, "w1").begin()
        assert await worker.start("leaf", agent_node_id="gpu-7") == {"code": "claimed", "start": 1}
        poll = await worker.standing("leaf")
        cancelled = await cancel(served)
        heard = await poll
        (intent,) = heard["intents"]
        assert {name: intent[name] for name in ("run_id", "execution_id", "cancel_id", "start", "force", "reason")} == {
            "run_id": RUN, "execution_id": "leaf", "cancel_id": cancelled["cancel_id"], "start": 1, "force": False,
            "reason": "enough",
        }  # fmt: skip
        assert (heard["incarnation"], heard["fenced"], heard["superseded"]) == (1, False, [])
        assert await worker.ack("leaf", "received") == {"code": "applied"}
        assert (await report(served))["still_running"][0]["cause"] == "stopping"
        assert await worker.finish("leaf") == {"code": "settled"}
        settled = await report(served)
        assert (settled["state"], settled["dispositions"]) == ("settled", {"stopped": 1})
        assert await worker.beat("leaf") == {"incarnation": 1, "fenced": False, "intents": [], "superseded": []}


async def test_a_start_under_a_closed_gate_says_why(redis_url: str) -> None:
    async with open_served(redis_url) as served:
        worker = await HttpWorker(served, "w1").begin()
        await worker.start("root")
        await cancel(served, "closed")
        answer = await worker.start("late", parent_execution_id="root")
        assert (answer["code"], answer["start"]) == ("cancelled", 0)
        assert (answer["intent"]["execution_id"], answer["intent"]["reason"]) == ("late", "closed")


async def test_a_wrong_start_number_is_late(redis_url: str) -> None:
    async with open_served(redis_url) as served:
        worker = await HttpWorker(served, "w1").begin()
        await worker.start("leaf")
        await cancel(served)
        assert await worker.ack("leaf", "stopped", start=2) == {"code": "late"}
        assert await worker.finish("leaf", start=2) == {"code": "late"}
        assert (await report(served))["state"] == "open"


async def test_two_workers_hear_their_own_and_one_gets_the_claim(redis_url: str) -> None:
    async with open_served(redis_url) as served:
        first, second = await HttpWorker(served, "w1").begin(), await HttpWorker(served, "w2").begin()
        await first.start("a")
        await second.start("b")
        refused = await second.start("a", 409)
        assert refused["error"] == "already_claimed"
        polls = [await first.standing("a"), await second.standing("b")]
        await cancel(served)
        heard = [[one["execution_id"] for one in (await poll)["intents"]] for poll in polls]
        assert heard == [["a"], ["b"]]


async def test_fifty_polls_each_hear_only_their_own(redis_url: str) -> None:
    async with open_served(redis_url) as served:
        worker = await HttpWorker(served, "w1").begin()
        ids = [f"leaf-{number}" for number in range(50)]
        await asyncio.gather(*(worker.start(one) for one in ids))
        polls = [asyncio.create_task(worker.beat(one, wait_ms=LONG_MS)) for one in ids]
        await cancel(served)
        heard = await asyncio.gather(*polls)
        assert [[one["execution_id"] for one in answer["intents"]] for answer in heard] == [[one] for one in ids]


async def test_what_was_acked_answers_no_further_poll(redis_url: str) -> None:
    async with open_served(redis_url) as served:
        worker = await HttpWorker(served, "w1").begin()
        await worker.start("leaf")
        await cancel(served)
        await worker.beat("leaf", wait_ms=LONG_MS)
        await worker.ack("leaf", "received")
        poll = await worker.standing("leaf")
        assert not poll.done()
        assert (await worker.beat("leaf"))["intents"], "a beat without patience still names what is not settled"
        served.context.patience.stop()
        assert (await poll)["intents"]


async def test_a_second_process_and_a_fenced_one(redis_url: str) -> None:
    async with open_served(redis_url) as served:
        worker = await HttpWorker(served, "w1").begin()
        assert (await worker.post("workers/w1/heartbeat", {}, 409))["error"] == "worker_id_in_use"
        await served.parts.backend.commands.command("DEL", "cb:worker:w1")
        newer = await HttpWorker(served, "w1").begin()
        assert newer.incarnation == 2
        assert (await worker.beat("leaf"))["fenced"]
        assert (await worker.start("leaf", 409))["error"] == "fenced"


async def test_a_client_that_leaves_leaves_no_subscription(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancel_feed, "LINGER_S", 0.0)
    channel = f"cb:{{{RUN}}}:cancel:leaf"
    async with open_served(redis_url) as served, Redis.from_url(redis_url) as client:
        worker = await HttpWorker(served, "w1").begin()
        poll = await worker.standing("leaf")
        assert await client.pubsub_numsub(channel) == [(channel.encode(), 1)]
        poll.cancel()
        with suppress(asyncio.CancelledError):
            await poll

        async def nothing_left() -> bool:
            subscribed = await client.pubsub_numsub(channel)
            return subscribed == [(channel.encode(), 0)] and served.control.remote.polls == 0

        await wait_until(nothing_left, "the poll and its subscription to end")


async def test_a_heart_that_stops_is_a_suspicion_and_a_declaration_is_the_proof(redis_url: str) -> None:
    async with open_served(redis_url) as served:
        worker = await HttpWorker(served, "w1").begin()
        await worker.start("leaf")
        cancelled = await cancel(served)
        declaration = {"incarnation": 1, "reason": "pod gone"}
        assert (await worker.post("workers/w1/dead", declaration, 409))["error"] == "worker_alive"
        await served.parts.backend.commands.command("DEL", "cb:worker:w1")
        assert (await report(served))["still_running"][0]["cause"] == "worker_lost"
        assert await worker.post("workers/w1/dead", declaration) == {"worker_id": "w1", "incarnation": 1}
        await served.parts.sweep_now(RUN, cancelled["cancel_id"])
        assert (await report(served))["dispositions"] == {"lost": 1}
        assert (await worker.post("workers/nobody/dead", declaration, 404))["error"] == "not_found"


async def test_the_heart_beats_while_a_poll_stands(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_poll, "BEAT_EVERY_S", 0.01)
    async with open_served(redis_url) as served:
        worker = await HttpWorker(served, "w1").begin()
        await worker.standing("leaf")
        await served.parts.backend.commands.command("DEL", "cb:worker:w1")
        await wait_until(lambda: served.parts.claims.is_alive("w1"), "the heart to beat again")


async def test_the_list_of_workers(redis_url: str) -> None:
    async with open_served(redis_url) as served:
        for name in ("w1", "w2", "w3"):
            await HttpWorker(served, name).begin()
        await served.parts.backend.commands.command("DEL", "cb:worker:w2")
        first = (await served.client.get("/api/v1/workers?limit=2")).json()
        assert first["next_cursor"] == "w2"
        ages = [one.pop("last_seen_ms") for one in first["workers"]]
        assert all(isinstance(age, int) and age >= 0 for age in ages)
        assert first["workers"] == [
            {"worker_id": "w1", "incarnation": 1, "agent_node_id": "gpu-7", "alive": True, "held": 0},
            {"worker_id": "w2", "incarnation": 1, "alive": False},
        ]
        rest = (await served.client.get("/api/v1/workers?limit=2&cursor=w2")).json()
        assert [one["worker_id"] for one in rest["workers"]] == ["w3"]
        assert "next_cursor" not in rest


BAD: tuple[tuple[str, object], ...] = (
    ("workers/w1/heartbeat", {"incarnation": 0}),
    ("workers/w1/heartbeat", {"incarnation": 7}),
    ("workers/w1/heartbeat", {"incarnation": 1, "wait_ms": 60_001}),
    ("workers/w1/heartbeat", {"incarnation": 1, "held": [{"execution_id": "a b"}]}),
    ("workers/w1/heartbeat", {"incarnation": 1, "held": [{"execution_id": "a", "run_id": "{x}"}]}),
    ("workers/w1/heartbeat", {"incarnation": 1, "held": "a"}),
    ("workers/w1/heartbeat", {"agent_node_id": "a b"}),
    ("workers/@w1/heartbeat", {}),
    ("workers/w1:inc/heartbeat", {}),
    ("workers/w1:inc/dead", {"incarnation": 1}),
    ("workers/w1/heartbeat", {"incarnation": 2**53}),
    ("workers/w1/dead", {"incarnation": 2**53}),
    ("workers/w1/heartbeat", []),
    ("executions/leaf/start", {"worker_id": "w1"}),
    ("executions/leaf/start", {"worker_id": "w1", "incarnation": 7}),
    ("executions/leaf/start", {"worker_id": "w 1", "incarnation": 1}),
    ("executions/leaf/start", {"worker_id": "w1", "incarnation": 1, "parent_execution_id": "a|b"}),
    ("executions/a%20b/start", {"worker_id": "w1", "incarnation": 1}),
    ("executions/leaf/finish", {"worker_id": "w1", "incarnation": 1, "start": 1, "status": ""}),
    ("executions/leaf/finish", {"worker_id": "w1", "incarnation": 1, "start": 0, "status": "failed"}),
    ("executions/leaf/ack", {"worker_id": "w1", "start": 1, "seq": 1, "disposition": "lost"}),
    ("executions/leaf/ack", {"worker_id": "w1", "start": 1, "disposition": "stopped"}),
    ("executions/leaf/ack", {"worker_id": "w1", "start": 1, "seq": 2**53, "disposition": "stopped"}),
    ("workers/w1/dead", {"reason": "gone"}),
)
"""Path and body, each of them wrong in one thing."""


async def test_a_bad_body_is_refused_and_changes_nothing(redis_url: str) -> None:
    async with open_served(redis_url) as served:
        worker = await HttpWorker(served, "w1").begin()
        before = await served.parts.backend.commands.command("DBSIZE")
        for path, body in BAD:
            response: httpx.Response = await served.client.post(f"/api/v1/{path}", json=body)
            assert response.status_code == 400, (path, body, response.text)
            assert response.json()["error"] in ("invalid_input", "invalid_id"), (path, body)
            assert await served.parts.backend.commands.command("DBSIZE") == before, (path, body)
        assert (await worker.beat())["fenced"] is False


async def test_what_is_not_known_is_not_found(redis_url: str) -> None:
    async with open_served(redis_url) as served:
        worker = await HttpWorker(served, "w1").begin()
        end = {**worker.me, "start": 1, "status": "succeeded"}
        assert (await worker.post("executions/nobody/finish", end, 404))["error"] == "not_found"
        said = {**worker.me, "start": 1, "seq": 1, "disposition": "stopped"}
        assert (await worker.post("executions/nobody/ack", {**said, "run_id": RUN}, 404))["error"] == "not_found"
