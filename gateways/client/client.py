"""A native client: orders in, durable reports out, over one ZeroMQ connection.

    client = Client("tcp://127.0.0.1:7010", server_key, public_key, secret_key)
    client.connect()
    first = client.send([Order("place", symbol=0, side=0, price_ticks=100, qty_lots=1)])
    for report in client.reports(timeout_s=1.0):
        print(report)

Reads   shm/records.py for what reports mean. Never imports numba, and starts no thread: messages
        are taken when the caller asks. A gap in the reports is repaired from the gateway's log.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import zmq

from gateways.zmq import protocol
from gateways.zmq.protocol import Epoch, Hello, Order, Taken, Welcome
from shm.kinds import REPORT_RECORDS
from shm.records import REPORT, layouts_digest

ENCODER: Final = msgspec.msgpack.Encoder()


class ClientError(RuntimeError):
    """The gateway refused, went away, or isn't there."""


class Client:
    """One session. Not for use from several threads."""

    def __init__(
        self,
        endpoint: str,
        server_key: str,
        public_key: str,
        secret_key: str,
        *,
        records: bool = True,
        orders: bool = True,
        cancel_on_disconnect: bool = False,
    ) -> None:
        self.account = -1
        self.epoch = 0
        self.epoch_index = 0  # a command unanswered below it, of an earlier epoch, was not accepted
        self.last_index = -1  # of the newest report seen
        self.resent = 0  # times a gap was repaired
        self.heartbeat_s = 1.0
        self._endpoint = endpoint
        self._keys = (server_key.encode(), public_key.encode(), secret_key.encode())
        self._hello = Hello(-1, records, orders, cancel_on_disconnect)
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._taken: deque[Taken] = deque()
        self._reports: deque[Any] = deque()
        self._pongs = 0
        self._spoke_s = 0.0

    def __enter__(self) -> Client:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close(linger=100)
            self._socket = None
        self._context.term()

    # ------------------------------------------------------------ the session

    def connect(self, timeout_s: float = 5.0, after: int | None = None) -> Welcome:
        """Say hello, with everything behind report `after` sent again (default: what was seen).

        raises      ClientError when there is no answer, or a no
        """
        if self._socket is not None:
            self._socket.close(linger=0)
        socket = self._context.socket(zmq.DEALER)
        socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = self._keys
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(self._endpoint)
        self._socket = socket
        return self._greet(self.last_index if after is None else after, timeout_s)

    def _greet(self, after: int, timeout_s: float) -> Welcome:
        self._hello.after = after
        self._say(protocol.HELLO, ENCODER.encode(self._hello))
        until = time.monotonic() + timeout_s
        while True:
            frames = self._receive(until)
            if frames is None:
                raise ClientError(f"{self._endpoint}: no answer; is the key known there?")
            if frames[0] == protocol.WELCOME:
                welcome = msgspec.msgpack.decode(frames[1], type=Welcome)
                if self._hello.records and welcome.layouts != layouts_digest():
                    raise ClientError("the gateway has other records: ask for msgpack, or upgrade")
                self.account, self.epoch = welcome.account, welcome.epoch
                self.heartbeat_s = welcome.heartbeat_ms / 1000
                return welcome
            self._keep(frames)

    def _say(self, kind: bytes, body: bytes) -> None:
        if self._socket is None:
            raise ClientError("not connected")
        self._socket.send_multipart([kind, body])
        self._spoke_s = time.monotonic()

    def _receive(self, until: float) -> list[bytes] | None:
        assert self._socket is not None
        left = max(until - time.monotonic(), 0.0)
        if not self._socket.poll(int(left * 1000) + (left > 0)):
            return None
        return self._socket.recv_multipart()

    def poll(self, timeout_s: float = 0.0) -> bool:
        """Take one message, if one comes in time; keeps the session alive."""
        if time.monotonic() - self._spoke_s > self.heartbeat_s / 2:
            self._say(protocol.PING, b"")
        frames = self._receive(time.monotonic() + timeout_s)
        if frames is None:
            return False
        self._keep(frames)
        return True

    def _keep(self, frames: list[bytes]) -> None:
        kind = frames[0]
        if kind == protocol.REPORTS:
            self._keep_reports(frames)
        elif kind == protocol.TAKEN:
            self._taken.append(msgspec.msgpack.decode(frames[1], type=Taken))
        elif kind == protocol.EPOCH:
            found = msgspec.msgpack.decode(frames[1], type=Epoch)
            self.epoch, self.epoch_index = found.epoch, found.index
        elif kind == protocol.GONE:
            raise ClientError(msgspec.msgpack.decode(frames[1], type=str))
        elif kind == protocol.PONG:
            self._pongs += 1

    def _keep_reports(self, frames: list[bytes]) -> None:
        if len(frames) == 4:
            previous = int.from_bytes(frames[1], "little", signed=True)
            indices = np.frombuffer(frames[2], np.int64).tolist()
            found: Any = np.frombuffer(frames[3], REPORT.dtype)
        else:
            previous, rows = msgspec.msgpack.decode(frames[1])
            indices, found = [row[0] for row in rows], [tuple(row[1:]) for row in rows]
        if previous > self.last_index >= 0:
            self.resent += 1  # something was lost on the way: ask for all of it again
            self._greet(self.last_index, 5.0)
            return
        for index, row in zip(indices, found, strict=True):
            if index > self.last_index:
                self.last_index = index
                self._reports.append((index, row))

    # ------------------------------------------------------------ orders

    def send(self, orders: Sequence[Order], timeout_s: float = 5.0) -> Taken:
        """Hand orders over; says which were taken, and under which request numbers."""
        self._say(protocol.ORDERS, ENCODER.encode(list(orders)))
        return self.taken(timeout_s)

    def send_later(self, orders: Sequence[Order]) -> None:
        """As `send`, without waiting: `taken` has the answers, in order."""
        self._say(protocol.ORDERS, ENCODER.encode(list(orders)))

    def send_records(self, rows: np.ndarray[Any, Any]) -> None:
        """Raw COMMAND rows; whose they are and their numbers the gateway fills in."""
        self._say(protocol.RECORDS, rows.tobytes())

    def taken(self, timeout_s: float = 5.0) -> Taken:
        """The next TAKEN."""
        until = time.monotonic() + timeout_s
        while not self._taken:
            if not self.poll(max(until - time.monotonic(), 0.0)) and time.monotonic() > until:
                raise ClientError("no answer in time: what was sent may or may not be taken")
        return self._taken.popleft()

    # ------------------------------------------------------------ reports

    def raw_reports(self) -> list[tuple[int, Any]]:
        """What has come: (index, REPORT row, or its numbers as a tuple), without waiting."""
        while self.poll():
            pass
        found = list(self._reports)
        self._reports.clear()
        return found

    def reports(self, timeout_s: float = 1.0) -> Iterator[dict[str, Any]]:
        """Reports by name, as they come, until none has come for `timeout_s`."""
        while True:
            if not self._reports and not self.poll(timeout_s):
                return
            while self._reports:
                index, row = self._reports.popleft()
                yield {"index": index, **named(row)}


def named(row: Any) -> dict[str, Any]:
    """A report as a dict by field name; text fields stay words."""
    if isinstance(row, tuple):
        seq, account, symbol, kind, status, *words = row
        whole = np.zeros(1, REPORT.dtype)
        whole.view(np.int64)[2:] = words
        for name, value in (
            *(("seq", seq), ("account", account), ("symbol", symbol)),
            *(("kind", kind), ("status", status)),
        ):
            whole[name] = value
        row = whole[0]
    layout = REPORT_RECORDS.get(int(row["kind"]), REPORT)
    view = np.asarray(row).reshape(1).view(layout.dtype)[0]
    found: dict[str, Any] = {}
    for name in layout.dtype.names or ():
        value = view[name]
        found[name] = int(value) if value.ndim == 0 else value.tolist()
    return found
