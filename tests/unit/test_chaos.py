"""The bad network, with sockets: what each kind of trouble does, and that bytes are never changed."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tools.chaos import Proxy, Request, Toxics, split

Client = Callable[[int, "Venue"], Awaitable[Any]]


class Venue:
    """Counts what reaches it, and says so."""

    def __init__(self) -> None:
        self.orders: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        self.bodies: list[bytes] = []
        self.changed = asyncio.Event()

    async def order(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        self.orders[request.query.get("id", "")] += 1
        self.changed.set()
        return web.json_response({"id": request.query.get("id"), "text": "x" * 500})

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            self.messages[message.data] += 1
            await ws.send_str(f"heard {message.data}")
        return ws

    async def until(self, what: Callable[[], bool]) -> None:
        while not what():
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 10)


@asynccontextmanager
async def venue_behind(toxics: Toxics, seed: int = 1) -> AsyncIterator[tuple[Proxy, int, Venue]]:
    venue = Venue()
    app = web.Application()
    app.router.add_post("/order", venue.order)
    app.router.add_get("/ws", venue.stream)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    proxy = Proxy(("127.0.0.1", site._server.sockets[0].getsockname()[1]), toxics, seed)
    port = await proxy.start("127.0.0.1", 0)
    try:
        yield proxy, port, venue
    finally:
        await proxy.stop()
        await runner.cleanup()


def behind(toxics: Toxics, client: Client, seed: int = 1) -> Counter[str]:
    """Run a client through the proxy; what the proxy did."""

    async def run() -> Counter[str]:
        async with venue_behind(toxics, seed) as (proxy, port, venue):
            await asyncio.wait_for(client(port, venue), 30)
        return proxy.done

    return asyncio.run(run())


async def post(session: aiohttp.ClientSession, port: int, name: str, body: bytes = b"{}") -> Any:
    async with session.post(f"http://127.0.0.1:{port}/order?id={name}", data=body) as reply:
        return await reply.json()


def test_without_trouble_nothing_is_changed() -> None:
    async def client(port: int, venue: Venue) -> None:
        bodies = [bytes([k]) * size for k, size in enumerate((0, 1, 70_000, 300_000))]
        async with aiohttp.ClientSession() as session:
            for k, body in enumerate(bodies):
                assert (await post(session, port, str(k), body))["id"] == str(k)
            async with session.ws_connect(f"http://127.0.0.1:{port}/ws") as ws:
                for text in ("a", "b" * 200, "c" * 70_000):
                    await ws.send_str(text)
                    assert (await ws.receive()).data == f"heard {text}"
        assert venue.bodies == bodies and set(venue.orders.values()) == {1}

    assert behind(Toxics(), client)["connections"] == 1


def test_slices_and_delays_keep_the_order() -> None:
    async def client(port: int, venue: Venue) -> None:
        async with aiohttp.ClientSession() as session:
            for k in range(4):
                assert (await post(session, port, str(k)))["text"] == "x" * 500
        assert list(venue.orders) == ["0", "1", "2", "3"]

    behind(Toxics(slice_bytes=7, jitter_s=0.002, delay_s=0.001), client)


def test_requests_and_messages_arrive_twice() -> None:
    async def client(port: int, venue: Venue) -> None:
        async with aiohttp.ClientSession() as session:
            for k in range(3):
                await post(session, port, str(k), b"body")
            await venue.until(lambda: sum(venue.orders.values()) == 6)
            async with session.ws_connect(f"http://127.0.0.1:{port}/ws") as ws:
                await ws.send_str("one")
                heard = [(await ws.receive()).data for _ in range(2)]
        assert set(venue.orders.values()) == {2} and set(venue.bodies) == {b"body"}
        assert heard == ["heard one"] * 2 and venue.messages == {"one": 2}

    assert behind(Toxics(duplicate=1.0), client)["duplicate"] == 4


def test_a_lost_reply_was_carried_out() -> None:
    """What a client must find out by asking: the order is there, and it heard nothing."""

    async def client(port: int, venue: Venue) -> None:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await post(session, port, "mine")
        assert venue.orders["mine"] >= 1

    assert behind(Toxics(lose=1.0), client)["lose"] >= 1


def test_refused_and_cut() -> None:
    async def client(port: int, _venue: Venue) -> None:
        reader, _ = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises(ConnectionResetError):  # and no orderly end
            await reader.read()

    assert behind(Toxics(refuse=1.0), client)["refuse"] == 1
    assert behind(Toxics(cut_every_s=0.01), client)["cut"] == 1


def test_half_closed() -> None:
    """The venue's direction ends and ours goes on, or the other way round, by the seed."""

    async def client(port: int, _venue: Venue) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""  # either way, no reset: the stream just ends
        writer.close()

    for seed in range(3):
        assert behind(Toxics(cut_every_s=0.01, half=1.0), client, seed)["half-close"] == 1


def test_a_stall_is_silence_and_then_everything() -> None:
    async def client(port: int, venue: Venue) -> None:
        async with aiohttp.ClientSession() as session:
            for k in range(20):
                await post(session, port, str(k))
        assert len(venue.orders) == 20

    assert behind(Toxics(stall_every_s=0.001, stall_s=0.02), client)["stall"] > 0


def test_a_seed_is_a_network() -> None:
    async def client(port: int, _venue: Venue) -> None:
        for _ in range(24):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /order?id=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            with suppress(ConnectionResetError):
                await reader.read()
            writer.close()

    toxics = Toxics(refuse=0.3, lose=0.3)
    assert behind(toxics, client, 5) == behind(toxics, client, 5)
    assert behind(toxics, client, 5) != behind(toxics, client, 6)


FRAME = b"\x81\x82\0\0\0\0hi"
UPGRADE = b"GET /ws HTTP/1.1\r\nUpgrade: WebSocket\r\n\r\n"
GET = b"GET / HTTP/1.1\r\n\r\n"
BODY = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = b"\x82\xfe" + struct.pack(">H", 300) + b"mask" + bytes(300)
PART = b"\x01\x81maskx"

TABLE: list[tuple[str, bytes, bool, list[Request]]] = [
    ("two requests", GET + BODY, True, [Request(GET, True), Request(BODY, True)]),
    ("cut off", BODY[:-1], True, [Request(BODY[:-1], False)]),
    ("cut off in its head", GET[:-1], True, [Request(GET[:-1], False)]),
    ("chunked", CHUNKED + b"0\r\n", True, [Request(CHUNKED, False), Request(b"0\r\n", False)]),
    ("messages", UPGRADE + FRAME + LONG, True,
     [Request(UPGRADE, True, True), Request(FRAME, True), Request(LONG, True)]),
    ("a part of one", UPGRADE + PART, True, [Request(UPGRADE, True, True), Request(PART, False)]),
    ("not agreed to", UPGRADE + GET, False, [Request(UPGRADE, True, True), Request(GET, True)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "agreed", "want"), [r[1:] for r in TABLE], ids=[r[0] for r in TABLE]
)
def test_split(data: bytes, agreed: bool, want: list[Request]) -> None:
    async def run() -> list[Request]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()

        async def upgraded() -> bool:
            return agreed

        return [request async for request in split(reader, upgraded)]

    assert asyncio.run(run()) == want
