"""WebSocket frames made once for everybody, and a connection that never waits for its client.

    one encoding -> frame bytes -> transport of each subscriber

Never   buffers without end: who has more unsent than is allowed is closed as too slow.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

from aiohttp import WSMsgType, web

LOG: Final = logging.getLogger("perpcore.http")
TOO_SLOW: Final = b"too slow: unsent messages were piling up"
ABORT_S: Final = 2.0
LINGER_S: Final = 1.0
POLICY: Final = 1008
_GOES_ON: Final = (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG)
GOING_AWAY: Final = 1001


def frame(payload: bytes) -> bytes:
    """A text frame, as a server sends it: whole, unmasked."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


def close_frame(code: int, reason: bytes) -> bytes:
    """A close frame with its reason."""
    body = code.to_bytes(2, "big") + reason[:123]
    return bytes((0x88, len(body))) + body


class Socket:
    """One WebSocket: what is written goes to the kernel or into a bounded buffer."""

    def __init__(
        self, ws: web.WebSocketResponse, request: web.BaseRequest, unsent_max: int
    ) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        self.ws = ws
        self.address = request.remote or ""
        self._transport: asyncio.Transport = transport
        self._unsent_max = unsent_max
        self._loop = asyncio.get_running_loop()
        self._outbox: list[bytes] = []
        self.last_heard = self._loop.time()
        self.closed = False

    def send(self, payload: bytes) -> None:
        """One text message."""
        self.write(frame(payload))

    def send_soon(self, payload: bytes) -> None:
        """One text message; with others of this turn of the loop in one write."""
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append(frame(payload))

    def _flush(self) -> None:
        if self._outbox:
            frames, self._outbox = b"".join(self._outbox), []
            self.write(frames)

    def write(self, frames: bytes) -> None:
        """Frames that were made already, one or several."""
        if self._outbox:
            self._flush()
        if self.closed or self._transport.is_closing():
            return
        self._transport.write(frames)
        if self._transport.get_write_buffer_size() > self._unsent_max:
            LOG.warning("websocket %s closed: too slow", self.address)
            self.drop(POLICY, TOO_SLOW)

    def ping(self) -> None:
        """Ask whether anybody is there."""
        if not self.closed and not self._transport.is_closing():
            self._transport.write(b"\x89\x00")

    def refuse(self, code: int, reason: bytes) -> None:
        """Say goodbye to a client that is still sending; `linger` ends the connection.

        Closed over what hasn't been read it would be reset, and what was said here lost.
        """
        self._flush()
        if not self.closed and not self._transport.is_closing():
            self._transport.write(close_frame(code, reason))
        self.closed = True

    async def linger(self) -> None:
        """Read on, and throw it away, until the client has gone or its time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while (await self.ws.receive()).type in _GOES_ON:
                    pass
        self._transport.close()

    def drop(self, code: int, reason: bytes) -> None:
        """Close, without waiting for a client that may not read any more."""
        self._flush()
        if self.closed:
            return
        self.closed = True
        if not self._transport.is_closing():
            self._transport.write(close_frame(code, reason))
            self._transport.close()
            self._loop.call_later(ABORT_S, self._transport.abort)
