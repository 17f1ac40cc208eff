"""Stage 7 of 7, publish: what is durable goes out over ZeroMQ.

Reads   the reports ring up to REPORTS_JOURNALED, and the report log once the ring has moved on.
Writes  batches of raw records to whoever has subscribed; PUBLISHED.
Never   holds anybody back: a subscriber that is slow loses messages, sees the gap in
        `first_index`, and asks for what it missed.

    PUB socket   [b"reports", header, records]       ROUTER socket   <- [request]
      header     msgpack {instance, epoch,             request       msgpack {first_index, count}
                 first_index, count, last_seq,                       -> [header, records]
                 layouts}                                            -> [{error}]
      records    count REPORT rows of 64 bytes, as in shm/records

The first message of every start, and one a second when nothing happens, has count 0: it says where
the stream stands. Records are the same bytes in ring, log, message and answer; an index means the
same report for ever, whatever the epoch. A reader that has seen index i never needs it again.

An answer holds at most ANSWER_RECORDS and never what is not durable; ask again for the rest.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Final

import msgpack
import numpy as np
import zmq

from engine import files
from shm.config import Config
from shm.counters import COUNTER_CELLS, Counter
from shm.cursors import PUBLISHED
from shm.feed import Feed, load_cursor, load_progress, store_cursor
from shm.hops import SEGMENT, PublisherMarks
from shm.pointers import table
from shm.records import REPORT, layouts_digest

Array = np.ndarray[Any, Any]

TOPIC: Final = b"reports"
BATCH_RECORDS: Final = 1024  # 64 KiB a message
BATCHES: Final = 16  # in one step
SEND_HWM: Final = 1024  # messages kept for one slow subscriber: at most 64 MiB
ANSWER_RECORDS: Final = 16384  # 1 MiB an answer
ANSWERS: Final = 16  # in one step
ANSWER_HWM: Final = 64  # answers kept for one asker that doesn't read them
REQUEST_BYTES_MAX: Final = 1024
IDLE_NS: Final = 1_000_000_000
LINGER_MS: Final = 500  # at a clean stop, for what is still on its way


class Publisher:
    """The stage; `step` as a worker calls it."""

    def __init__(self, config: Config, arrays: dict[str, Array], epoch: int) -> None:
        """Binds the sockets; raises OSError (zmq.ZMQError) when an endpoint is taken."""
        data = Path(config.data_dir)
        self._arrays = arrays
        self._cursors = table(arrays["cursors"])
        self._counters = arrays["counters"]
        self._marks = PublisherMarks(arrays[SEGMENT])
        self._feed = Feed(data, arrays["cursors"], arrays["reports"], BATCH_RECORDS)
        self._answers = Feed(data, arrays["cursors"], arrays["reports"], ANSWER_RECORDS)
        self._head = {
            "instance": config.instance,
            "epoch": epoch,
            "layouts": layouts_digest(),
        }
        self._topics: set[bytes] = set()
        self._next = self._feed.end()
        self._last_seq = int(load_cursor(self._cursors, PUBLISHED))
        self._passing = (0, 0)  # (settled, reports written) as they stood at some time past
        self._context = zmq.Context()
        # XPUB tells when somebody subscribes: for nobody, nothing need be copied.
        self._out = self._context.socket(zmq.XPUB)
        self._out.setsockopt(zmq.SNDHWM, SEND_HWM)
        self._asked = self._context.socket(zmq.ROUTER)
        self._asked.setsockopt(zmq.SNDHWM, ANSWER_HWM)
        self._asked.setsockopt(zmq.RCVHWM, ANSWER_HWM)
        self._asked.setsockopt(zmq.MAXMSGSIZE, REQUEST_BYTES_MAX)
        try:
            for socket, endpoints in (
                (self._out, config.publisher_endpoints),
                (self._asked, config.range_endpoints),
            ):
                socket.setsockopt(zmq.LINGER, 0)
                for endpoint in endpoints:
                    _bind(socket, endpoint)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._spoken_ns = 0

    def step(self) -> int:
        """Send what is new, answer who asks; returns how many records and answers that was."""
        did = self._hear() + self._answer()
        for _ in range(BATCHES):
            sent = self._send()
            did += sent
            if sent < BATCH_RECORDS:
                break
        if did == 0 and time.monotonic_ns() - self._spoken_ns > IDLE_NS:
            self._say(np.zeros(0, REPORT.dtype))
        return did

    @property
    def alone(self) -> bool:
        """Whether nobody has subscribed: then nobody minds when it is a little late."""
        return not self._topics

    def close(self) -> None:
        """Let what was sent arrive, within LINGER_MS, and close the sockets."""
        self._out.setsockopt(zmq.LINGER, LINGER_MS)
        self._asked.setsockopt(zmq.LINGER, LINGER_MS)
        self._context.destroy()
        self._feed.close()
        self._answers.close()

    # ------------------------------------------------------------ the stream

    def _hear(self) -> int:
        """Who has subscribed, and who has left."""
        while True:
            try:
                message = self._out.recv(zmq.NOBLOCK)
            except zmq.Again:
                return 0
            if message[:1] == b"\x01":
                self._topics.add(message[1:])
                self._spoken_ns = 0  # tell the newcomer where the stream stands
            else:
                self._topics.discard(message[1:])

    def _send(self) -> int:
        """One batch; returns how many records it had."""
        settled, written, journaled = load_progress(self._cursors)
        count = journaled - self._next
        if count and self._topics:
            reports = self._feed.read(self._next, BATCH_RECORDS)
            count = len(reports)
            if count:
                self._say(reports)
        self._next += count
        if self._next >= written:
            self._publish(settled)
        if self._next >= self._passing[1]:
            self._publish(self._passing[0])
            self._passing = (settled, written)
        if count:
            self._counters[Counter.PUBLISH_REPORTS * COUNTER_CELLS] += count
            self._counters[Counter.PUBLISH_LAPPED * COUNTER_CELLS] = self._feed.lapped_count
        return count

    def _publish(self, seq: int) -> None:
        """Move PUBLISHED: every report of the commands up to `seq` went out."""
        if seq > self._last_seq:
            self._last_seq = seq
            store_cursor(self._cursors, PUBLISHED, seq)
            self._marks.mark(seq, time.time_ns())

    def _say(self, reports: Array) -> None:
        """Send a message; whoever is too slow for it doesn't get it."""
        last_seq = int(reports[-1]["seq"]) if len(reports) else self._last_seq
        header = self._header(self._next, len(reports), last_seq)
        self._out.send_multipart([TOPIC, header, reports.tobytes()], zmq.NOBLOCK)
        self._spoken_ns = time.monotonic_ns()
        self._counters[Counter.PUBLISH_MESSAGES * COUNTER_CELLS] += 1

    def _header(self, first_index: int, count: int, last_seq: int) -> bytes:
        packed: bytes = msgpack.packb(
            {**self._head, "first_index": first_index, "count": count, "last_seq": last_seq}
        )
        return packed

    # ------------------------------------------------------------ what was missed

    def _answer(self) -> int:
        """Answer a few requests; returns how many."""
        for done in range(ANSWERS):
            try:
                *envelope, request = self._asked.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return done
            # A full queue to this asker drops the answer (ROUTER); it will ask again.
            self._asked.send_multipart([*envelope, *self._answer_to(request)], zmq.NOBLOCK)
        return ANSWERS

    def _answer_to(self, request: bytes) -> list[bytes]:
        try:
            asked = msgpack.unpackb(request)
            first, count = asked["first_index"], asked["count"]
            if not (type(first) is int and type(count) is int and first >= 0 and count > 0):
                raise ValueError
        except Exception:  # any bytes may come
            wanted = "wanted msgpack {first_index: integer >= 0, count: integer > 0}"
            return [msgpack.packb({**self._head, "error": f"malformed request, {wanted}"})]
        try:
            end = self._answers.end()  # what is asked for may be any number, kernels take 64 bits
            reports = self._answers.read(min(first, end), min(count, ANSWER_RECORDS))
        except files.DataError as error:
            return [msgpack.packb({**self._head, "error": str(error)})]
        last_seq = int(reports[-1]["seq"]) if len(reports) else self._last_seq
        return [self._header(first, len(reports), last_seq), reports.tobytes()]


def _bind(socket: Any, endpoint: str) -> None:
    """Bind; an ipc endpoint may be used by whoever may use the data directory's group."""
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise OSError(
            error.errno,
            f"publisher: cannot bind {endpoint}: {error.strerror}. Free it, or set "
            "publisher.ipc or publisher.tcp in perpcore.toml",
        ) from None
    if endpoint.startswith("ipc://"):
        os.chmod(endpoint.removeprefix("ipc://"), 0o660)
