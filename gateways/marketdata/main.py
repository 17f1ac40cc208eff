"""The market-data process: one follower, one PUB socket, one ROUTER for what is asked.

Reads   reports (gateways/follow.py); its checkpoint; requests.
Writes  messages by stream, as gateways/marketdata/client.py describes; answers.
Never   waits for a subscriber: who is too slow loses messages, and sees it by their numbers.

Messages since the last checkpoint are told again after a kill, under the numbers they had; whoever
has heard them drops them. The process first waits SETTLE_S for its subscribers to come back.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import msgpack
import numpy as np
import zmq

from gateways import checkpoint
from gateways.follow import Follower
from gateways.marketdata.answers import Refused, answer
from gateways.marketdata.client import END, HEAD
from gateways.marketdata.market import Hub, Markets
from gateways.zmq.binding import bind, unlink
from shm.config import Config
from shm.records import L2_UPDATE, L3_UPDATE

Array = np.ndarray[Any, Any]

NAME: Final = "marketdata"
LAYOUT: Final = f"1 {L2_UPDATE.digest} {L3_UPDATE.digest}"
SEND_HWM: Final = 100_000  # messages kept for one slow subscriber
ANSWER_HWM: Final = 1000
ANSWERS: Final = 64  # in one turn
REQUEST_BYTES_MAX: Final = 4096
SETTLE_S: Final = 0.3


class MarketDataFollower(Follower):
    """The process's loop."""

    name = NAME

    def __init__(self, config: Config) -> None:
        """Raises DataError when its sockets are taken: another one runs."""
        self.checkpoint_seconds = config.marketdata.checkpoint_seconds
        self.hub = Hub()
        self.markets = Markets(self.hub, config.marketdata.trades, config.marketdata.klines)
        kept = checkpoint.load(Path(config.data_dir), NAME, LAYOUT)
        if kept is not None:
            self.markets.load(msgpack.unpackb(kept.blobs["state"], strict_map_key=False))
            assert self.markets.index == kept.at
        super().__init__(config, self.markets.index)
        self._context = zmq.Context()
        self._out = self._context.socket(zmq.XPUB)
        self._out.setsockopt(zmq.SNDHWM, SEND_HWM)
        self._asked = self._context.socket(zmq.ROUTER)
        self._asked.setsockopt(zmq.SNDHWM, ANSWER_HWM)
        self._asked.setsockopt(zmq.MAXMSGSIZE, REQUEST_BYTES_MAX)
        try:
            bind(self._out, [config.marketdata_endpoint])
            bind(self._asked, [config.marketdata_ask_endpoint])
        except BaseException:
            self._context.destroy(linger=0)
            raise
        until = time.monotonic() + SETTLE_S
        while time.monotonic() < until:
            self._hear()
            time.sleep(0.01)

    def apply(self, rows: Array) -> None:
        self.markets.apply(np.ascontiguousarray(rows))
        self._send()

    def serve(self) -> int:
        return self._hear() + self._answer()

    def save(self, index: int) -> None:
        assert index == self.markets.index
        blob: bytes = msgpack.packb(self.markets.dump())
        checkpoint.save(self.data, NAME, LAYOUT, index, {"state": blob})

    def close(self) -> None:
        super().close()
        self._context.destroy(linger=500)
        unlink((self.config.marketdata_endpoint, self.config.marketdata_ask_endpoint))

    def _hear(self) -> int:
        """Who has subscribed, and who has left."""
        did = 0
        while True:
            try:
                message = self._out.recv(zmq.NOBLOCK)
            except zmq.Again:
                return did
            stream = message[1:].removesuffix(END).decode(errors="replace")
            assert self.hub.heard is not None
            # XPUB tells of the first subscriber of a topic and of the last that left.
            if message[:1] == b"\x01":
                self.hub.heard.add(stream)
            else:
                self.hub.heard.discard(stream)
            did += 1

    def _send(self) -> None:
        markets = self.markets
        for stream, (first, payloads) in self.hub.take().items():
            head = HEAD.pack(first, markets.index, markets.ts_ns)
            self._out.send_multipart([stream.encode() + END, head, *payloads], zmq.NOBLOCK)

    def _answer(self) -> int:
        for did in range(ANSWERS):
            try:
                *envelope, request = self._asked.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return did
            try:
                said = [b"ok", answer(self.markets, msgpack.unpackb(request))]
            except Refused as error:
                said = [b"refused", str(error).encode()]
            except (ValueError, msgpack.UnpackException):
                said = [b"refused", b"malformed request, wanted msgpack"]
            # A full queue to this asker drops the answer (ROUTER); it will ask again.
            self._asked.send_multipart([*envelope, *said], zmq.NOBLOCK)
        return ANSWERS
