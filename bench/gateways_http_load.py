"""A client of HTTP and of the WebSocket API that costs less than what it measures.

    closed_loop   as fast as answers come: requests signed before the clock starts, raw sockets
    open_loop     so many a second, from when each was due: no event loop, whose timers count ms

Never   counts an answer that it hasn't looked at.
"""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np

CONNECTIONS: Final = 64
SOCKETS: Final = 16  # of the WebSocket API
IN_FLIGHT: Final = 16  # requests of one of them
LATE_S: Final = 30.0  # for the last answers
AWAKE_NS: Final = 100_000  # before a request is due, so that it goes out when it is

Make = Callable[[int], bytes]  # number of the request -> its bytes


class Connection(asyncio.Protocol):
    """One connection: asks, hears, and tells `done` of every answer."""

    def __init__(self, done: Callable[[Connection, bytes], None], *, sockets: bool = False) -> None:
        self._done = done
        self._sockets = sockets
        self._buffer = b""
        self._asking: list[bytes] | None = None  # of the turn at hand: they go out in one write
        self.opened = not sockets
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.due_ns: list[int] = []
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own is none by class
        if self._sockets:
            self.transport.write(
                b"GET /ws-fapi/v1?returnRateLimits=false HTTP/1.1\r\nHost: x\r\n"
                b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
        else:
            self.ready.set_result(None)

    def ask(self, request: bytes, due_ns: int) -> None:
        self.due_ns.append(due_ns)
        if self._asking is None:
            self.transport.write(request)
        else:
            self._asking.append(request)

    def data_received(self, data: bytes) -> None:
        self._asking = []
        self._hear(data)
        if self._asking:
            self.transport.write(b"".join(self._asking))
        self._asking = None

    def _hear(self, data: bytes) -> None:
        self._buffer += data
        while (end := message_end(self._buffer, frames=self._sockets and self.opened)) > 0:
            message, self._buffer = self._buffer[:end], self._buffer[end:]
            if not self.opened:
                assert message.startswith(b"HTTP/1.1 101"), message
                self.opened = True
                self.ready.set_result(None)
                continue
            self._done(self, message)


def message_end(buffer: bytes, *, frames: bool = False) -> int:
    """Bytes of the first whole HTTP reply, or WebSocket frame; 0: none is."""
    if frames:
        if len(buffer) < 4:
            return 0
        size = buffer[1] if buffer[1] < 126 else int.from_bytes(buffer[2:4], "big") + 2
        return size + 2 if len(buffer) >= size + 2 else 0
    head = buffer.find(b"\r\n\r\n")
    if head < 0:
        return 0
    at = buffer.find(b"Content-Length: ", 0, head)
    size = int(buffer[at + 16 : buffer.find(b"\r\n", at)]) if at >= 0 else 0
    end = head + 4 + size
    return end if len(buffer) >= end else 0


async def connected(port: int, count: int, done: Any, *, sockets: bool = False) -> list[Connection]:
    loop = asyncio.get_running_loop()
    made = []
    for _ in range(count):
        _, connection = await loop.create_connection(
            lambda: Connection(done, sockets=sockets), "127.0.0.1", port
        )
        await connection.ready
        made.append(connection)
    return made


def signed_before(make: Make, count: int) -> Make:
    """The same requests, that many of them made now: their receive window is a minute."""
    made = deque(make(k) for k in range(count))
    return lambda k: made.popleft() if made else make(k)


async def closed_loop(
    port: int, make: Make, seconds: float, good: bytes, ahead: int, *, sockets: bool = False
) -> tuple[int, float]:
    """As fast as answers come: (answers, seconds). `good` is in every answer that is one.

    ahead       requests signed before the clock starts
    """
    over = asyncio.get_running_loop().create_future()
    answers = waiting = 0
    until = 0.0

    def done(connection: Connection, message: bytes) -> None:
        nonlocal answers, waiting
        connection.due_ns.clear()
        if good not in message:
            if not over.done():
                over.set_exception(AssertionError(message[-300:]))
            return
        answers += 1
        if time.monotonic() < until:
            connection.ask(make(answers), 0)
        else:
            waiting -= 1
            if not waiting and not over.done():
                over.set_result(None)

    count = SOCKETS if sockets else CONNECTIONS
    make = signed_before(make, ahead)
    everyone = await connected(port, count, done, sockets=sockets)
    begun = time.monotonic()
    until = begun + seconds
    for k, connection in enumerate(everyone):
        for _ in range(IN_FLIGHT if sockets else 1):
            waiting += 1
            connection.ask(make(k), 0)
    await asyncio.wait_for(over, seconds + LATE_S)
    took = time.monotonic() - begun
    for connection in everyone:
        connection.transport.close()
    return answers, took


def open_loop(
    port: int, make: Make, rate: int, seconds: float, good: bytes
) -> tuple[np.ndarray[Any, Any], int]:
    """So many a second, whatever becomes of them: (latencies from when each was due, count).

    Without an event loop, whose timers count milliseconds: a request goes out when it is due.
    """
    count = int(rate * seconds)
    latencies = np.zeros(count, np.int64)
    free = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    everyone = tuple(free)
    for one in everyone:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    heard = dict.fromkeys(everyone, b"")
    due: dict[socket.socket, int] = {}
    begun = time.monotonic_ns() + 50_000_000
    sent = answers = 0
    request = make(0)
    while answers < count:
        next_ns = begun + sent * 1_000_000_000 // rate
        wait_s = LATE_S
        if sent < count and free:
            wait_s = max((next_ns - AWAKE_NS - time.monotonic_ns()) / 1e9, 0.0)
            if time.monotonic_ns() >= next_ns:
                one = free.pop()
                due[one] = next_ns
                one.sendall(request)
                sent += 1
                request = make(sent)
                continue
        ready, _, _ = select.select(list(due), (), (), wait_s)
        assert ready or wait_s < LATE_S, f"{count - answers} answers are missing"
        for one in ready:
            heard[one] += one.recv(1 << 16)
            if not message_end(heard[one]):
                continue
            assert good in heard[one], heard[one][-300:]
            latencies[answers] = time.monotonic_ns() - due.pop(one)
            answers += 1
            heard[one] = b""
            free.append(one)
    for one in everyone:
        one.close()
    return latencies, count
