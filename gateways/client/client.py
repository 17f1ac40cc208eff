"""A native client: orders in, durable reports out, over one ZeroMQ connection.

    with Client("tcp://127.0.0.1:7010", server_key, public_key, secret_key) as client:
        taken = client.send([Order("place", symbol=0, side=0, price_ticks=100, qty_lots=1)])
        for report in client.reports(timeout_s=1.0):
            print(report)

Reads   shm/records for what reports mean.
Writes  nothing. Imports no numba, and starts no thread: messages are taken when the caller asks.
Never   guesses: `connect` after a ClientError goes on where it was. Messages without an answer are
        sent again under their numbers, which does nothing twice; reports that were missed come;
        and once `current` is there, `not_accepted` has the requests that came to nothing.
"""

from __future__ import annotations

import secrets
import select
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import zmq

from gateways.zmq import protocol
from gateways.zmq.protocol import (
    NUMBER,
    REPORT_ROW,
    WINDOW,
    Current,
    Epoch,
    Hello,
    Order,
    Taken,
    Welcome,
)
from shm.codes import ReportKind
from shm.kinds import REPORT_RECORDS
from shm.records import REPORT, layouts_digest

ENCODER: Final = msgspec.msgpack.Encoder()
UNKNOWN: Final = "UNKNOWN"  # the gateway lost its memory: whether it was taken can't be told
SILENT_BEATS: Final = 3
FEW: Final = 16  # reports that are quicker looked at one by one
_ANSWERS: Final = (int(ReportKind.ORDER), int(ReportKind.ANSWER))
_KIND, _REQUEST = 4, 7  # places in a Report


class ClientError(RuntimeError):
    """The gateway refused, went away, or isn't there; `connect` begins again."""


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
        accounts: Sequence[int] = (),
        cancel_on_disconnect: bool = False,
    ) -> None:
        """records: reports as raw records; else by msgpack, for who has other layouts."""
        self.account = -1
        self.epoch = 0
        self.last_index = -1  # of the newest report seen
        self.current = False  # nothing older than the last `connect` or EPOCH is on its way
        self.not_accepted: list[int] = []  # requests that were taken, and came to nothing
        self.heartbeat_s = 1.0
        self._endpoint = endpoint
        self._keys = (server_key.encode(), public_key.encode(), secret_key.encode())
        self._hello = Hello(
            session=secrets.randbits(62) + 1,
            records=records,
            orders=orders,
            accounts=list(accounts),
            cancel_on_disconnect=cancel_on_disconnect,
        )
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._fd = -1  # of the socket, asked for once
        self._number = 0
        self._unanswered: deque[tuple[int, list[bytes]]] = deque()
        self._taken: deque[Taken] = deque()
        self._requests: set[int] = set()  # taken, and not yet answered
        self._early: set[int] = set()  # answered before their TAKEN was seen
        self._reports: deque[tuple[Any, Any]] = deque()  # indices and rows of each message
        self._spoke_s = self._heard_s = 0.0

    def __enter__(self) -> Client:
        if self._socket is None:
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
        """Say hello; go on where the session was.

        after       reports behind this one are sent again; default: those that were missed
        raises      ClientError when there is no answer in time, or a no
        """
        until = time.monotonic() + timeout_s
        self._hello.after = self.last_index if after is None else after
        self.current = False
        while True:
            self._open()
            self._say(protocol.HELLO, ENCODER.encode(self._hello))
            # A socket whose key was refused once stays refused: begin anew, now and then.
            frames = self._receive(min(until, time.monotonic() + 2.0))
            if frames is not None and frames[0] == protocol.WELCOME:
                break
            if frames is not None and frames[0] == protocol.GONE:
                why = msgspec.msgpack.decode(frames[1], type=str)
                if "HELLO again" not in why or time.monotonic() > until:
                    raise ClientError(why)
                time.sleep(0.05)
            if time.monotonic() > until:
                raise ClientError(f"{self._endpoint}: no answer; is the key known there?")
        welcome = msgspec.msgpack.decode(frames[1], type=Welcome)
        if self._hello.records and welcome.layouts != layouts_digest():
            raise ClientError("the gateway has other records: ask for msgpack, or upgrade")
        self.account, self.epoch = welcome.account, welcome.epoch
        self.heartbeat_s = welcome.heartbeat_ms / 1000
        self._heard_s = time.monotonic()
        self.last_index = max(
            self.last_index, welcome.next_index - 1 if self._hello.after < 0 else -1
        )
        if welcome.last_number < 0 and self._number:
            return self._forgotten(until)
        for _, message in self._unanswered:
            self._socket_or_no().send_multipart(message)
        return welcome

    def _forgotten(self, until: float) -> Welcome:
        """The gateway doesn't know this session: what became of it only reports can tell."""
        for number, _ in self._unanswered:
            self._taken.append(Taken(number, 0, 0, [(protocol.WHOLE, UNKNOWN)]))
        self._unanswered.clear()
        self._number = 0
        self._hello.session = secrets.randbits(62) + 1
        return self.connect(max(until - time.monotonic(), 0.1), self._hello.after)

    def _open(self) -> None:
        """A connection of its own: nothing of an earlier one arrives through it."""
        if self._socket is not None:
            self._socket.close(linger=0)
        socket = self._context.socket(zmq.DEALER)
        socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = self._keys
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        socket.connect(self._endpoint)
        self._socket = socket
        self._fd = int(socket.getsockopt(zmq.FD))

    def _socket_or_no(self) -> zmq.Socket[bytes]:
        if self._socket is None:
            raise ClientError("not connected")
        return self._socket

    def _say(self, kind: bytes, body: bytes) -> None:
        self._socket_or_no().send_multipart([kind, body])
        self._spoke_s = time.monotonic()

    def _receive(self, until: float) -> list[bytes] | None:
        """A message; its descriptor tells of changes, so that what is there is asked for first.

        ZeroMQ's own poll counts whole milliseconds.
        """
        socket = self._socket_or_no()
        while not int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            left = until - time.monotonic()
            if left <= 0 or not select.select((self._fd,), (), (), left)[0]:
                return None
        # As `recv_multipart`, which asks the socket after each frame whether it was the last.
        frame = socket.recv(zmq.NOBLOCK, copy=False)
        frames = [frame.bytes]
        while frame.more:
            frame = socket.recv(zmq.NOBLOCK, copy=False)
            frames.append(frame.bytes)
        return frames

    def poll(self, timeout_s: float = 0.0) -> bool:
        """Take one message, if one comes in time; keeps the session alive.

        raises      ClientError when the session is over, or nothing was heard for three heartbeats
        """
        now = time.monotonic()
        if now - self._spoke_s > self.heartbeat_s / 2:
            self._say(protocol.PING, b"")
        frames = self._receive(now + timeout_s)
        if frames is None:
            if time.monotonic() - self._heard_s > SILENT_BEATS * self.heartbeat_s + timeout_s:
                raise ClientError(f"{self._endpoint}: the gateway fell silent")
            return False
        self._heard_s = time.monotonic()
        self._keep(frames)
        return True

    def _keep(self, frames: list[bytes]) -> None:
        kind = frames[0]
        if kind == protocol.REPORTS:
            self._keep_reports(frames)
        elif kind == protocol.TAKEN:
            self._keep_taken(msgspec.msgpack.decode(frames[1], type=Taken))
        elif kind == protocol.CURRENT:
            self._keep_current(msgspec.msgpack.decode(frames[1], type=Current))
        elif kind == protocol.EPOCH:
            self.epoch = msgspec.msgpack.decode(frames[1], type=Epoch).epoch
            self.current = False
        elif kind == protocol.GONE:
            raise ClientError(msgspec.msgpack.decode(frames[1], type=str))

    def _keep_taken(self, taken: Taken) -> None:
        while self._unanswered and self._unanswered[0][0] <= taken.number:
            self._unanswered.popleft()
        got = set(range(taken.first_request, taken.first_request + taken.count))
        if self._early:
            early = got & self._early
            self._early -= early
            got -= early
        self._requests |= got
        if not self._unanswered:
            self._early.clear()
        self._taken.append(taken)

    def _keep_current(self, current: Current) -> None:
        lost = {request for request in self._requests if request <= current.request}
        self._requests -= lost
        self.not_accepted.extend(sorted(lost))
        self.last_index = max(self.last_index, current.index - 1)
        self.current = True

    def _keep_reports(self, frames: list[bytes]) -> None:
        indices: Any
        rows: Any
        if len(frames) == 4:
            previous = int.from_bytes(frames[1], "little", signed=True)
            indices = np.frombuffer(frames[2], np.int64)
            rows = np.frombuffer(frames[3], REPORT.dtype)
            if len(rows) <= FEW:
                unpacked = REPORT_ROW.iter_unpack(frames[3])
                answered = {row[_REQUEST - 1] for row in unpacked if row[_KIND - 1] in _ANSWERS}
            else:
                kinds = rows["kind"]
                told = rows["request"][(kinds == _ANSWERS[0]) | (kinds == _ANSWERS[1])]
                answered = set(told.tolist())
            # Indices only grow: what was seen already, after a resend, stands in front.
            new = 0
            if len(indices) and indices[0] <= self.last_index:
                new = int(np.searchsorted(indices, self.last_index, "right"))
        else:
            previous, found = msgspec.msgpack.decode(frames[1])
            answered = {row[_REQUEST] for row in found if row[_KIND] in _ANSWERS}
            indices, rows = [row[0] for row in found], [tuple(row[1:]) for row in found]
            new = bisect_right(indices, self.last_index)
        if previous > self.last_index >= 0:
            raise ClientError(f"reports after {self.last_index} are missing")
        early = answered - self._requests
        self._requests -= answered
        if early and self._unanswered:
            self._early |= early - {0}
        if new < len(indices):
            self.last_index = int(indices[-1])
            self._reports.append((indices[new:], rows[new:]))

    # ------------------------------------------------------------ orders

    def send(self, orders: Sequence[Order], timeout_s: float = 5.0) -> Taken:
        """Hand orders over; says which were taken, and under which request numbers."""
        return self.taken(timeout_s, self.send_later(orders))

    def send_later(self, orders: Sequence[Order]) -> int:
        """As `send`, without waiting: `taken` has the answers, in order. The message's number."""
        return self._send(protocol.ORDERS, 0, ENCODER.encode(list(orders)))

    def send_records(self, rows: np.ndarray[Any, Any], lines: int = 4) -> int:
        """Raw COMMAND rows, or their first lines; whose they are, the gateway fills in."""
        size_bytes = 64 * lines
        cells = rows.view(np.uint8).reshape(len(rows), -1)[:, :size_bytes]
        return self._send(protocol.RECORDS, size_bytes, cells.tobytes())

    def _send(self, kind: bytes, size_bytes: int, body: bytes) -> int:
        while len(self._unanswered) >= WINDOW:
            self.poll(1.0)
        socket = self._socket_or_no()
        self._number += 1
        message = [kind, NUMBER.pack(self._number, size_bytes), body]
        self._unanswered.append((self._number, message))
        # As `send_multipart`, which looks at each frame twice.
        socket.send(kind, zmq.SNDMORE)
        socket.send(message[1], zmq.SNDMORE)
        socket.send(body)
        self._spoke_s = time.monotonic()
        return self._number

    def taken(self, timeout_s: float = 5.0, number: int = 0) -> Taken:
        """The next TAKEN; of message `number`, and those of earlier ones are passed over.

        raises      ClientError: what was sent may or may not be taken; `connect` finds out
        """
        until = time.monotonic() + timeout_s
        while True:
            while self._taken:
                taken = self._taken.popleft()
                if not number or taken.number >= number or taken.number == 0:
                    return taken
            left = until - time.monotonic()
            if left <= 0:
                raise ClientError(f"no answer in {timeout_s} s")
            self.poll(min(left, self.heartbeat_s / 2))

    def settle(self, timeout_s: float = 5.0) -> None:
        """Wait until nothing older than the last `connect` or EPOCH is on its way."""
        until = time.monotonic() + timeout_s
        while not self.current or self._unanswered:
            if time.monotonic() > until:
                raise ClientError(f"not current after {timeout_s} s")
            self.poll(self.heartbeat_s / 2)

    # ------------------------------------------------------------ reports

    def raw_reports(self) -> list[tuple[int, Any]]:
        """What has come: (index, REPORT row, or its numbers as a tuple), without waiting."""
        while self.poll():
            pass
        return [(int(i), row) for some in self.kept() for i, row in zip(*some, strict=True)]

    def kept(self) -> list[tuple[Any, Any]]:
        """What `poll` has kept so far, message by message: (indices, REPORT rows), two arrays.

        Where reports come by msgpack, two lists. For who has more of them than a loop can take.
        """
        found = list(self._reports)
        self._reports.clear()
        return found

    def reports(self, timeout_s: float = 1.0) -> Iterator[dict[str, Any]]:
        """Reports by name, as they come, until none has come for `timeout_s`."""
        until = time.monotonic() + timeout_s
        while True:
            while self._reports:
                indices, rows = self._reports.popleft()
                if len(indices) > 1:
                    self._reports.appendleft((indices[1:], rows[1:]))
                yield {"index": int(indices[0]), **named(rows[0])}
                until = time.monotonic() + timeout_s
            left = until - time.monotonic()
            if left <= 0:
                return
            self.poll(min(left, self.heartbeat_s / 2))


def named(row: Any) -> dict[str, Any]:
    """A report as a dict by field name."""
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
