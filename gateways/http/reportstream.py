"""The durable reports, in order and without a gap, as the publisher sends them.

Reads   engine/publisher.py's PUB stream, and its ranges for what was missed.
Writes  batches into `on_batch(rows, first_index)`; `on_epoch(epoch)` once everything that an
        earlier start of the engine reported has been handed over.
Never   skips a report: while a gap is open, what comes meanwhile is asked for again by index.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgpack
import numpy as np
import zmq

from shm.config import Config
from shm.records import REPORT, layouts_digest

Rows = np.ndarray[Any, Any]
RECEIVE_HWM: Final = 4096
MESSAGES_A_TURN: Final = 64
ASK_AGAIN_S: Final = 1.0
RANGE_RECORDS: Final = 16384
_LAYOUTS: Final = layouts_digest()  # reckoning it takes as long as a batch of reports


class StreamError(RuntimeError):
    """The publisher speaks of records this build doesn't know."""


class ReportStream:
    """One subscription, driven by an event loop."""

    def __init__(
        self,
        config: Config,
        on_batch: Callable[[Rows, int], None],
        on_epoch: Callable[[int], None],
        durable: Callable[[], int] = lambda: 0,
    ) -> None:
        """durable: how many reports there are, by the engine's own cursor; 0 while none runs."""
        self.next = -1  # index of the next report; -1: the first message says where we begin
        self.epoch = 0
        self.failed: StreamError | None = None
        self._on_batch = on_batch
        self._on_epoch = on_epoch
        self._durable = durable
        self._still = -1  # `next` when it was last looked at
        self._coming: tuple[int, int] | None = None  # epoch, index at which it began
        self._end = -1  # reports there are, as far as the publisher has said
        self._asked_at = 0.0
        self._asked = False
        self._context = zmq.Context()
        self._in = self._context.socket(zmq.SUB)
        self._in.setsockopt(zmq.RCVHWM, RECEIVE_HWM)
        self._in.setsockopt(zmq.RECONNECT_IVL, 20)
        self._in.setsockopt(zmq.RECONNECT_IVL_MAX, 200)
        self._in.connect(config.publisher_endpoints[0])
        self._ranges = self._context.socket(zmq.DEALER)
        self._ranges.setsockopt(zmq.RECONNECT_IVL, 20)
        self._ranges.setsockopt(zmq.RECONNECT_IVL_MAX, 200)
        self._ranges.connect(config.range_endpoints[0])
        self._loop: asyncio.AbstractEventLoop | None = None
        self._again: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to listen, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._in.setsockopt(zmq.SUBSCRIBE, b"reports")
        for socket in (self._in, self._ranges):
            self._loop.add_reader(int(socket.getsockopt(zmq.FD)), self._turn)
        self._timer()

    def close(self) -> None:
        if self._loop is not None:
            for socket in (self._in, self._ranges):
                self._loop.remove_reader(int(socket.getsockopt(zmq.FD)))
        if self._again is not None:
            self._again.cancel()
        self._context.destroy(linger=0)

    def _timer(self) -> None:
        """ZeroMQ's file descriptor tells of changes, not of states: look now and then anyway."""
        assert self._loop is not None
        self._again = self._loop.call_later(0.1, self._timer)
        if 0 <= self.next == self._still:
            # Nothing came since: a message may have been lost with a connection, and none follows.
            self._end = max(self._end, self._durable())
        self._still = self.next
        self._turn()

    def _turn(self) -> None:
        """Take what has come; more than a turn's worth goes on in the next one."""
        try:
            for _ in range(MESSAGES_A_TURN):
                if not (self._take_message() or self._take_range()):
                    break
            else:
                assert self._loop is not None
                self._loop.call_soon(self._turn)
            self._repair()
        except StreamError as error:
            self.failed = error

    def _take_message(self) -> bool:
        try:
            _, header, body = self._in.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        head = msgpack.unpackb(header)
        if head["layouts"] != _LAYOUTS:
            raise StreamError("reports: the engine is another build; stop all of it, start it anew")
        first, count = head["first_index"], head["count"]
        if head["epoch"] != (self._coming[0] if self._coming else self.epoch):
            if self.next < 0:
                self.next = self._end = first
            self._coming = (head["epoch"], first)
        self._end = max(self._end, first + count)
        if first <= self.next < first + count:
            self._hand_over(np.frombuffer(body, REPORT.dtype)[self.next - first :])
        self._arrive()
        return True

    def _take_range(self) -> bool:
        try:
            header, *body = self._ranges.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._asked = False
        head = msgpack.unpackb(header)
        if "error" in head:
            raise StreamError(f"reports: {head['error']}")
        first, count = head["first_index"], head["count"]
        self._end = max(self._end, first + count)
        if first <= self.next < first + count:
            self._hand_over(np.frombuffer(body[0], REPORT.dtype)[self.next - first :])
        self._arrive()
        return True

    def _hand_over(self, rows: Rows) -> None:
        first = self.next
        self.next += len(rows)
        self._on_batch(rows, first)

    def _arrive(self) -> None:
        """A new start of the engine counts once everything before it has been handed over."""
        if self._coming is not None and self.next >= self._coming[1]:
            self.epoch = self._coming[0]
            self._coming = None
            self._on_epoch(self.epoch)

    def _repair(self) -> None:
        """Ask for what is missing; one question at a time, again when no answer comes."""
        if self.next < 0 or self.next >= self._end:
            return
        assert self._loop is not None
        now = self._loop.time()
        if self._asked and now - self._asked_at < ASK_AGAIN_S:
            return
        self._asked, self._asked_at = True, now
        count = min(self._end - self.next, RANGE_RECORDS)
        request = msgpack.packb({"first_index": self.next, "count": count})
        try:
            self._ranges.send(request, zmq.NOBLOCK)
        except zmq.Again:
            self._asked = False
