"""The publisher against real sockets, ring and report log; the engine around it is a table of steps.

Two reports a command: report i belongs to command 1 + i // 2 and says i in `order_id`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from engine import files
from engine.publisher import ANSWER_RECORDS, SEND_HWM, Publisher
from engine.reportlog import GROUP, ReportLog
from engine.wal import open_wal
from shm.config import Config, load
from shm.counters import COUNTER_CELLS, COUNTERS_MAX, Counter
from shm.cursors import (
    CURSOR_CELLS,
    JOURNALED,
    PUBLISHED,
    REPORTS_CLAIMED,
    REPORTS_JOURNALED,
    REPORTS_READ,
    REPORTS_WRITTEN,
    SEQUENCED,
    SETTLED,
)
from shm.feed import Feed
from shm.hopcells import HOP_CELLS
from shm.records import REPORT, layouts_digest

CAPACITY = 4096


class Engine:
    """Settlement and the journal as far as the publisher sees them."""

    def __init__(self, config: Config) -> None:
        self.config = config
        data = Path(config.data_dir)
        files.make_folders(data)
        manifest = open_wal(data, config.wal.segment_bytes)
        self.log = ReportLog(data, manifest, 0, segment_records=2 * GROUP)
        self.arrays: dict[str, Any] = {
            "cursors": np.zeros(CURSOR_CELLS, np.int64),
            "reports": np.zeros(CAPACITY, REPORT.dtype),
            "counters": np.zeros(COUNTERS_MAX * COUNTER_CELLS, np.int64),
            "hops": np.zeros(HOP_CELLS, np.int64),
        }
        self.cursors = self.arrays["cursors"]
        self.written = 0

    def write(self, count: int) -> None:
        """Settlement writes reports; they are not durable yet."""
        upto = self.written + count
        self.cursors[REPORTS_CLAIMED] = upto
        index = np.arange(self.written, upto)
        rows = self.arrays["reports"]
        rows["seq"][index % CAPACITY] = 1 + index // 2
        rows["order_id"][index % CAPACITY] = index
        self.written = upto
        self.cursors[REPORTS_WRITTEN] = upto
        self.cursors[SEQUENCED] = self.cursors[SETTLED] = upto // 2

    def journal(self, upto: int) -> None:
        """The journal syncs the commands of the reports below `upto`, and logs them."""
        index = np.arange(int(self.cursors[REPORTS_JOURNALED]), upto)
        self.cursors[JOURNALED] = upto // 2
        self.cursors[REPORTS_JOURNALED] = upto
        self.log.append(self.arrays["reports"][index % CAPACITY])
        self.cursors[REPORTS_READ] = upto

    def run(self, count: int) -> None:
        """Write and journal, a ring at a time."""
        while count:
            some = min(count, CAPACITY // 2)
            self.write(some)
            self.journal(self.written)
            count -= some

    def count(self, counter: Counter) -> int:
        return int(self.arrays["counters"][counter * COUNTER_CELLS])


class Client:
    """A subscriber, and the socket with which it asks for what it missed."""

    def __init__(self, config: Config, receive_hwm: int = 1000) -> None:
        self.context = zmq.Context()
        self.sub = self.context.socket(zmq.SUB)
        self.sub.setsockopt(zmq.RCVHWM, receive_hwm)
        self.sub.connect(config.publisher_endpoints[0])
        self.sub.subscribe(b"reports")
        self.ask = self.context.socket(zmq.DEALER)
        self.ask.connect(config.range_endpoints[0])

    def next(self, publisher: Publisher) -> tuple[dict[str, Any], Any]:
        """Step the publisher until a message is here."""
        until = time.monotonic() + 10
        while not self.sub.poll(5):
            publisher.step()
            assert time.monotonic() < until, "no message"
        topic, header, body = self.sub.recv_multipart()
        assert topic == b"reports"
        return msgpack.unpackb(header), np.frombuffer(body, REPORT.dtype)

    def range(self, publisher: Publisher, request: bytes) -> tuple[dict[str, Any], Any]:
        self.ask.send(request)
        until = time.monotonic() + 10
        while not self.ask.poll(5):
            publisher.step()
            assert time.monotonic() < until, "no answer"
        header, *body = self.ask.recv_multipart()
        rows = np.frombuffer(body[0], REPORT.dtype) if body else None
        return msgpack.unpackb(header), rows

    def close(self) -> None:
        self.context.destroy(linger=0)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    overrides = {"instance": "pub", "data_dir": str(tmp_path), "wal.segment_bytes": 4 << 20}
    return load(None, overrides)


@pytest.fixture
def engine(config: Config) -> Iterator[Engine]:
    engine = Engine(config)
    yield engine
    engine.log.close()


@pytest.fixture
def publisher(engine: Engine) -> Iterator[Publisher]:
    publisher = Publisher(engine.config, engine.arrays, epoch=3)
    yield publisher
    publisher.close()


@pytest.fixture
def client(publisher: Publisher, config: Config) -> Iterator[Client]:
    client = Client(config)
    header, rows = client.next(publisher)  # who has just subscribed hears where the stream stands
    assert len(rows) == 0 and header["count"] == 0
    yield client
    client.close()


STEPS = """
  write | journal | sent to | published
    4   |    0    |    0    |    0        nothing is durable yet
    4   |    6    |    6    |    2        what settlement had done a step before
    0   |    8    |    8    |    4        caught up with settlement: its last command is out
    1   |    9    |    9    |    4        command 5 has its first report only
    1   |   10    |   10    |    5
"""


def test_only_what_is_durable_goes_out(
    engine: Engine, publisher: Publisher, client: Client
) -> None:
    seen = 0
    for row in STEPS.strip().splitlines()[1:]:
        write, journal, sent, published = (int(cell.split()[0]) for cell in row.split("|"))
        engine.write(write)
        engine.journal(journal)
        publisher.step()
        while seen < sent:
            header, rows = client.next(publisher)
            if len(rows) == 0:
                continue  # a heartbeat
            assert header["first_index"] == seen and header["count"] == len(rows)
            assert header["instance"] == "pub" and header["epoch"] == 3
            assert header["layouts"] == layouts_digest()
            assert rows["order_id"].tolist() == list(range(seen, seen + len(rows)))
            assert header["last_seq"] == rows["seq"][-1]
            seen += len(rows)
        assert seen == sent
        publisher.step()
        assert engine.cursors[PUBLISHED] == published, row


def test_without_subscribers_the_stream_goes_on(engine: Engine, publisher: Publisher) -> None:
    engine.run(10 * CAPACITY)
    publisher.step()
    publisher.step()
    assert engine.cursors[PUBLISHED] == engine.cursors[SETTLED]
    assert engine.count(Counter.PUBLISH_REPORTS) == 10 * CAPACITY
    assert engine.count(Counter.PUBLISH_LAPPED) == 0, "nothing was read for nobody"


def test_a_publisher_that_was_lapped_goes_on_from_the_log(
    engine: Engine, publisher: Publisher, client: Client
) -> None:
    engine.run(3 * CAPACITY + 5)
    seen = 0
    while seen < engine.written:
        header, rows = client.next(publisher)
        if len(rows):
            assert header["first_index"] == seen
            assert rows["order_id"].tolist() == list(range(seen, seen + len(rows)))
            seen += len(rows)
    assert engine.count(Counter.PUBLISH_LAPPED) > 0


def test_a_slow_subscriber_blocks_nobody_and_repairs_its_gap(
    engine: Engine, publisher: Publisher, config: Config
) -> None:
    client = Client(config, receive_hwm=1)
    publisher.step()
    client.next(publisher)
    messages = 3 * SEND_HWM  # more than both queues and the socket hold
    total = 64 * messages
    for _ in range(messages):
        engine.run(64)
        publisher.step()  # would hang here
    assert engine.cursors[PUBLISHED] == engine.cursors[SETTLED]
    expected, repaired = 0, 0
    while expected < total:
        header, rows = client.next(publisher)
        while expected < header["first_index"]:
            gap = header["first_index"] - expected
            request = msgpack.packb({"first_index": expected, "count": gap})
            answer, missed = client.range(publisher, request)
            assert answer["first_index"] == expected and answer["count"] == len(missed) > 0
            assert missed["order_id"].tolist() == list(range(expected, expected + len(missed)))
            expected += len(missed)
            repaired += len(missed)
        assert rows["order_id"].tolist() == list(range(expected, expected + len(rows)))
        expected += len(rows)
    assert repaired > 0, "it was never slow"
    client.close()


REQUESTS = """
  first | count  | answer
     0  |      3 | 0..2          out of the log: the ring has moved on
 12000  |      5 | 12000..12004  out of the ring
 12286  |     10 | 12286..12287  as far as there is
 12288  |     10 | none          no news
 99999  |     10 | none
     0  | 999999 | 0..8191       to the end of a segment of the log, at most ANSWER_RECORDS
  8192  | 999999 | 8192..12287
"""


@pytest.mark.parametrize("row", REQUESTS.strip().splitlines()[1:])
def test_ranges(engine: Engine, publisher: Publisher, client: Client, row: str) -> None:
    engine.run(3 * CAPACITY)
    assert engine.written == 12288
    first, count, answer = (cell.split()[0] for cell in row.split("|"))
    header, rows = client.range(
        publisher, msgpack.packb({"first_index": int(first), "count": int(count)})
    )
    if answer == "none":
        assert header["count"] == len(rows) == 0
    else:
        low, high = (int(n) for n in answer.split(".."))
        assert rows["order_id"].tolist() == list(range(low, high + 1))
        assert header["count"] == len(rows) <= ANSWER_RECORDS
        assert header["last_seq"] == 1 + high // 2


MALFORMED = (
    b"",
    b"\xc1",
    msgpack.packb(7),
    msgpack.packb([0, 1]),
    msgpack.packb({}),
    msgpack.packb({"first_index": 0}),
    msgpack.packb({"first_index": -1, "count": 1}),
    msgpack.packb({"first_index": 0, "count": 0}),
    msgpack.packb({"first_index": True, "count": 1}),
    msgpack.packb({"first_index": 0.0, "count": 1}),
    msgpack.packb({"first_index": "0", "count": "1"}),
)


@pytest.mark.parametrize("request_bytes", MALFORMED)
def test_nonsense_gets_an_error(
    engine: Engine, publisher: Publisher, client: Client, request_bytes: bytes
) -> None:
    engine.run(10)
    header, rows = client.range(publisher, request_bytes)
    assert rows is None and "malformed" in header["error"]
    header, rows = client.range(publisher, msgpack.packb({"first_index": 0, "count": 10}))
    assert len(rows) == 10


def test_a_range_for_the_largest_numbers(publisher: Publisher, client: Client) -> None:
    huge = (1 << 64) - 1
    for asked in ({"first_index": huge, "count": 1}, {"first_index": 0, "count": huge}):
        header, _ = client.range(publisher, msgpack.packb(asked))
        assert header.get("count", 0) == 0


def test_a_feed_does_not_take_an_empty_slot_for_a_report(engine: Engine, config: Config) -> None:
    """After a recovery the ring is empty, and its indices go on where the log ends."""
    engine.run(100)
    fresh = np.zeros(CAPACITY, REPORT.dtype)
    feed = Feed(Path(config.data_dir), engine.cursors, fresh, 64)
    rows = feed.read(40, 64)
    assert rows["order_id"].tolist() == list(range(40, 100))
    feed.close()


def test_endpoints_that_are_taken_are_named(engine: Engine, publisher: Publisher) -> None:
    taken = load(None, {"data_dir": engine.config.data_dir, "publisher.tcp": "203.0.113.9:7001"})
    with pytest.raises(OSError, match=r"cannot bind tcp://203\.0\.113\.9:7001"):
        Publisher(taken, engine.arrays, epoch=3)
