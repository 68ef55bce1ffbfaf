"""What a cancel costs while 1,000 workers without Redis stand in long polls on the same server.

`python -m tests.benchmarks.long_polls`: median of five rounds; in each the same cancels without and with the polls.
A cancel is the HTTP request for a run of 20 executions that an SDK worker holds, until it is answered as settled.
"""

import asyncio
import contextlib
import socket
import statistics
import sys
import time

import httpx
import uvicorn
from redis.asyncio import Redis

import broker
from broker.server.app import create_app
from tests.benchmarks.harness import Link, process
from tests.support.redis_server import RedisServer
from tests.support.wait import wait_until

POLLS = 1_000
ROUNDS = 5
CANCELS = 20  # in a sample, one after the other
EXECUTIONS = 20  # in each cancelled run
TARGET = 2.0
WAIT_MS = 60_000
POLLED = "polled"


async def serve(link: Link, url: str) -> None:
    """The server, in a process of its own."""
    with socket.create_server(("127.0.0.1", 0), backlog=POLLS) as listening:
        async with broker.connect(url) as control:
            config = uvicorn.Config(create_app(control), log_config=None, access_log=False, lifespan="off")
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            link.send(listening.getsockname()[1])
            with contextlib.suppress(EOFError):
                await link.receive(3_600.0)
            server.force_exit = server.should_exit = True
            await serving


async def poll(link: Link, port: int) -> None:
    """1,000 polls, each with its own connection and execution; each that ends is followed by another."""
    async with asyncio.TaskGroup() as group:
        for number in range(POLLS):
            group.create_task(_poll_for_ever(port, number))
        with contextlib.suppress(EOFError):
            await link.receive(3_600.0)
        raise SystemExit


async def _poll_for_ever(port: int, number: int) -> None:
    path = f"/api/v1/workers/poller-{number}/heartbeat"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await _post(reader, writer, path, "{}")
    held = f'[{{"run_id":"{POLLED}","execution_id":"e-{number}"}}]'
    while True:
        await _post(reader, writer, path, f'{{"incarnation":1,"wait_ms":{WAIT_MS},"held":{held}}}')


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: b\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write((head + body).encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer.decode())
    length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))


async def sample(url: str, client: httpx.AsyncClient, name: str) -> float:
    """Milliseconds of a cancel, the median of some."""
    took_ms: list[float] = []
    async with broker.Worker(url) as worker:
        for number in range(CANCELS):
            run = f"{name}-{number}"
            async with asyncio.TaskGroup() as bodies:
                begun = [asyncio.Event() for _ in range(EXECUTIONS)]
                for index, event in enumerate(begun):
                    bodies.create_task(_body(worker, run, f"{run}-{index}", event))
                await asyncio.gather(*(event.wait() for event in begun))
                began = time.perf_counter()
                answer = await client.post(f"/api/v1/workflows/{run}/cancel-tree", params={"wait_ms": 30_000})
                took_ms.append((time.perf_counter() - began) * 1_000)
            if answer.json()["still_running_count"]:
                raise RuntimeError(answer.text)
    return statistics.median(took_ms)


async def _body(worker: broker.Worker, run: str, execution_id: str, begun: asyncio.Event) -> None:
    with contextlib.suppress(broker.ExecutionCancelled):
        async with worker.execution(run, execution_id):
            begun.set()
            await asyncio.Event().wait()


async def until_all_stand(client: Redis) -> None:
    pattern = f"cb:{{{POLLED}}}:cancel:*"

    async def all_stand() -> bool:
        return len(await client.pubsub_channels(pattern)) >= POLLS

    await wait_until(all_stand, f"{POLLS} polls to stand", timeout=120.0)


async def one_round(number: int, redis_url: str) -> tuple[float, float]:
    """A cancel without polls, and with them."""
    async with contextlib.AsyncExitStack() as stack:
        redis = await stack.enter_async_context(Redis.from_url(redis_url))
        await redis.flushall()
        server = await stack.enter_async_context(process(serve, redis_url))
        port = int(await server.receive())
        address = f"http://127.0.0.1:{port}"
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=address, timeout=60.0))
        without = await sample(redis_url, client, f"without-{number}")
        await stack.enter_async_context(process(poll, port))
        await until_all_stand(redis)
        return without, await sample(redis_url, client, f"with-{number}")


async def measure(redis_url: str) -> int:
    """0 where the median ratio meets the target, else 1."""
    ratios: list[float] = []
    for number in range(ROUNDS):
        without, standing = await one_round(number, redis_url)
        ratios.append(standing / without)
        print(
            f"round {number + 1}: {without:.1f} ms without, {standing:.1f} ms with, ratio {ratios[-1]:.2f}", flush=True
        )
    ratio = statistics.median(ratios)
    print(f"median ratio {ratio:.2f} (target <= {TARGET:g}) with {POLLS:,} polls, {ROUNDS} rounds of {CANCELS} cancels")
    return 0 if ratio <= TARGET else 1


if __name__ == "__main__":
    with RedisServer() as redis_server:
        sys.exit(asyncio.run(measure(redis_server.url)))
