"""`perpcore chaos`: a bad network between a client and a demo venue, to try the client out.

A TCP proxy before an HTTP and WebSocket gateway. What it does to a connection is drawn from a seed
and the connection's number, so that a run can be had again with the same client.

    refuse       a new connection is closed at once
    cut          a connection is reset after a while, or only one direction of it is closed
    stall        nothing moves for some seconds, and nobody says why
    delay        every piece takes longer, each by another amount; their order stays
    slice        what comes back arrives in small pieces
    duplicate    a request reaches the venue twice, as from a proxy that sends again; a message of a
                 WebSocket too
    lose         a request is carried out, and the connection is reset instead of the reply

Reads   and writes sockets; one line of JSON for each thing it does.
Never   changes a byte, or the order of bytes. Never knows of keys: requests are signed by clients.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

BODY_MAX: Final = 1 << 24
PIECE: Final = 1 << 16
QUEUED_MAX: Final = 64  # pieces under way in one direction
COPY_S: Final = 5.0  # how long the reply to a copy is waited for
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close sends RST


class Toxics(NamedTuple):
    """How bad it is. Shares are of 1; 0 switches off."""

    refuse: float = 0.0  # share of connections
    cut_every_s: float = 0.0  # mean time to it
    half: float = 0.0  # share of cuts that close one direction only
    stall_every_s: float = 0.0  # mean time to one
    stall_s: float = 0.0
    delay_s: float = 0.0  # of each piece
    jitter_s: float = 0.0  # and up to this more
    slice_bytes: int = 0
    duplicate: float = 0.0  # share of requests and messages
    lose: float = 0.0  # share of requests


class Request(NamedTuple):
    """What a client sent, up to where it could be cut."""

    data: bytes
    whole: bool  # a request or a message as a whole: it may be sent twice
    upgrades: bool = False


class Proxy:
    """Listens, and makes a Link of every connection."""

    def __init__(
        self,
        to: tuple[str, int],
        toxics: Toxics,
        seed: int,
        say: Callable[[dict[str, Any]], None] = lambda _event: None,
    ) -> None:
        self.to, self.toxics, self.seed = to, toxics, seed
        self.done: Counter[str] = Counter()
        self._say = say
        self._links: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.start_server(self._accept, host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._links:
            task.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def tell(self, what: str, link: int, **more: Any) -> None:
        """Count something that was done, and say so."""
        self.done[what] += 1
        self._say({"event": what, "connection": link, **more})

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.done["connections"] += 1
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            await Link(self, self.done["connections"], reader, writer).run()
        finally:
            self._links.discard(task)


class Link:
    """One connection of a client, and ours to the venue."""

    def __init__(
        self,
        proxy: Proxy,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.proxy, self.number = proxy, number
        self.toxics = proxy.toxics
        self.chance = random.Random(f"{proxy.seed} {number}")
        self.client = (reader, writer)
        self.moving = asyncio.Event()
        self.moving.set()
        self.losing = False  # the next reply
        self.upgraded: asyncio.Future[bool] | None = None  # while an upgrade is asked for
        self._writers = [writer]
        self._copies: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        if self.chance.random() < self.toxics.refuse:
            self.proxy.tell("refuse", self.number)
            self.reset()
            return
        try:
            server = await asyncio.open_connection(*self.proxy.to)
        except OSError:
            self.reset()
            return
        self._writers.append(server[1])
        pumps = [
            asyncio.create_task(self._pump(self._requests(), server[1])),
            asyncio.create_task(self._pump(self._replies(server[0]), self.client[1])),
        ]
        troubles = [asyncio.create_task(t) for t in (self._stall(), self._cut(pumps))]
        try:
            await asyncio.gather(*pumps)  # the first error ends both
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for task in (*pumps, *troubles, *self._copies):
                task.cancel()
            await asyncio.gather(*pumps, *troubles, *self._copies, return_exceptions=True)
            for writer in self._writers:
                writer.close()

    def reset(self) -> None:
        """End both connections as a broken host would."""
        for writer in self._writers:
            with suppress(OSError):
                own = writer.get_extra_info("socket")
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    # ------------------------------------------------------------ pieces

    async def _requests(self) -> AsyncIterator[bytes]:
        """What the client sends, in whole requests, twice where it is to be."""
        async for request in split(self.client[0], self._asks_upgrade):
            if request.whole and self.chance.random() < self.toxics.lose:
                self.losing = True
            if request.upgrades:
                self.upgraded = asyncio.get_running_loop().create_future()
            yield request.data
            if request.whole and self.chance.random() < self.toxics.duplicate:
                if request.upgrades:
                    continue
                self.proxy.tell("duplicate", self.number, request=first_line(request.data))
                if request.data[:1].isalpha():  # HTTP
                    wait_s = self.chance.uniform(0, 0.05)
                    task = asyncio.create_task(self._copy(request.data, wait_s))
                    self._copies.add(task)
                    task.add_done_callback(self._copies.discard)
                else:
                    yield request.data

    async def _asks_upgrade(self) -> bool:
        """Whether the venue has agreed to what the client asked it to become."""
        assert self.upgraded is not None
        agreed = await self.upgraded
        self.upgraded = None
        return agreed

    async def _copy(self, data: bytes, wait_s: float) -> None:
        """The same request on another connection; nobody waits for what is answered."""
        await asyncio.sleep(wait_s)
        with suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection(*self.proxy.to)
            try:
                writer.write(data)
                await asyncio.wait_for(reader.read(PIECE), COPY_S)
            finally:
                writer.close()

    async def _replies(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        while data := await reader.read(PIECE):
            if self.losing:
                self.proxy.tell("lose", self.number)
                self.reset()
                return
            if self.upgraded is not None and not self.upgraded.done():
                self.upgraded.set_result(data.startswith(b"HTTP/1.1 101"))
            step = self.toxics.slice_bytes or len(data)
            for at in range(0, len(data), step):
                yield data[at : at + step]
        if self.upgraded is not None and not self.upgraded.done():
            self.upgraded.set_result(False)

    async def _pump(self, pieces: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
        """Pass pieces on, each when its time has come."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED_MAX)

        async def write() -> None:
            while True:
                due_s, data = await queue.get()
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                await self.moving.wait()
                if not data:
                    if writer.can_write_eof():
                        writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()

        writing = asyncio.create_task(write())
        reading = asyncio.create_task(self._fill(queue, pieces))
        try:
            done, _ = await asyncio.wait((writing, reading), return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in (writing, reading):
                task.cancel()
            await asyncio.gather(writing, reading, return_exceptions=True)

    async def _fill(
        self, queue: asyncio.Queue[tuple[float, bytes]], pieces: AsyncIterator[bytes]
    ) -> None:
        last_s = 0.0
        async for data in pieces:
            jitter_s = self.chance.uniform(0, self.toxics.jitter_s)
            last_s = max(last_s, time.monotonic() + self.toxics.delay_s + jitter_s)
            await queue.put((last_s, data))
        await queue.put((last_s, b""))

    # ------------------------------------------------------------ trouble

    async def _stall(self) -> None:
        every_s = self.toxics.stall_every_s
        while every_s:
            await asyncio.sleep(self.chance.expovariate(1 / every_s))
            self.proxy.tell("stall", self.number, seconds=self.toxics.stall_s)
            self.moving.clear()
            await asyncio.sleep(self.toxics.stall_s)
            self.moving.set()

    async def _cut(self, pumps: list[asyncio.Task[None]]) -> None:
        if not self.toxics.cut_every_s:
            return
        await asyncio.sleep(self.chance.expovariate(1 / self.toxics.cut_every_s))
        if self.chance.random() >= self.toxics.half:
            self.proxy.tell("cut", self.number)
            self.reset()
            return
        side = self.chance.randrange(2)
        self.proxy.tell("half-close", self.number, of=("venue", "client")[side])
        # What the client sends, or what it hears, ends; the other direction goes on.
        writer = (self._writers[1], self.client[1])[side]
        with suppress(OSError, RuntimeError):
            writer.write_eof()


def first_line(data: bytes) -> str:
    """Method and path of a request, without its query: that holds a signature."""
    if not data[:1].isalpha():
        return "message"
    line = data.split(b"\r\n", 1)[0].decode("latin1")
    return line.partition("?")[0].removesuffix(" HTTP/1.1")


async def split(
    reader: asyncio.StreamReader, upgraded: Callable[[], Any]
) -> AsyncIterator[Request]:
    """What a client sends, in whole requests of HTTP/1.1, and messages once it has upgraded.

    upgraded    awaited after a request to become a WebSocket: whether the venue agreed
    """
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                yield Request(error.partial, False)
            return
        except asyncio.LimitOverrunError:
            break  # no HTTP, or not for us to understand: passed on as it is
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        }
        length = fields.get(b"content-length", b"0")
        if b"transfer-encoding" in fields or not length.isdigit() or int(length) > BODY_MAX:
            yield Request(head, False)
            break
        try:
            body = await reader.readexactly(int(length))
        except asyncio.IncompleteReadError as error:
            yield Request(head + error.partial, False)
            return
        asks = fields.get(b"upgrade", b"").lower() == b"websocket"
        yield Request(head + body, True, asks)
        if asks and await upgraded():
            async for frame in frames(reader):
                yield frame
            return
    while data := await reader.read(PIECE):
        yield Request(data, False)


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[Request]:
    """Frames of a WebSocket as a client sends them; only whole data messages may be sent twice."""
    with suppress(asyncio.IncompleteReadError):
        while True:
            head = await reader.readexactly(2)
            size = head[1] & 127
            more = await reader.readexactly({126: 2, 127: 8}.get(size, 0))
            if more:
                size = int.from_bytes(more, "big")
            mask = await reader.readexactly(4 if head[1] & 128 else 0)
            if size > BODY_MAX:
                yield Request(head + more + mask, False)
                break
            body = await reader.readexactly(size)
            # FIN, text or binary: a message of one frame.
            yield Request(head + more + mask + body, head[0] in (0x81, 0x82))
    while data := await reader.read(PIECE):
        yield Request(data, False)


def run(listen: tuple[str, int], to: tuple[str, int], toxics: Toxics, seed: int) -> int:
    """Stand between clients and a venue until SIGTERM or Ctrl-C; returns the exit code."""

    def say(event: dict[str, Any]) -> None:
        print(json.dumps({"ts": round(time.time(), 3), **event}), flush=True)

    async def serve() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        proxy = Proxy(to, toxics, seed, say)
        port = await proxy.start(*listen)
        print(f"perpcore chaos: {listen[0]}:{port} -> {to[0]}:{to[1]}, seed {seed}",
              file=sys.stderr, flush=True)  # fmt: skip
        await stop.wait()
        await proxy.stop()
        say({"event": "end", **proxy.done})

    asyncio.run(serve())
    return 0
