"""The native gateway: an order's way to its durable report and back, orders a second, market data.

    python -m bench.gateways_zmq [--smoke] [--json] [--out DIR] [--seconds S] [--only PART]
                                 [--set NAME=VALUE]

A real engine (fused) and a real gateway process, one client over ipc with CURVE, all on this
machine. Latency is open loop: from when an order was due to when its durable report was in the
client's hands. Throughput is closed: a window of messages is on its way, and a command counts once
its durable answer has come back; half of them are limit orders that rest, half cancels of those.
Beside latency stand, in the same minute, the disk's sync, a bare CURVE echo at the same rate, and
what each hop took (shm/hops.py); what is left is two sockets, four threads and CURVE.
`gateway_cpu_per_s` is commands by second of the gateway process's CPU time, its I/O thread
included: what it would do with a core of its own. Beside it, in the same run: bare DEALER/ROUTER
echoes of messages of the same sizes, bare PUB/SUB of the same bytes, and the disk's sync.
"""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgpack
import numpy as np
import psutil
import zmq

from bench.harness import ROOT, Report, awake, die_with_parent, histogram_of, latency_row, parser
from gateways.client.client import Client
from gateways.http.main import open_store
from gateways.marketdata.client import END
from gateways.users.store import Scope
from gateways.zmq.curvekey import curve_key
from gateways.zmq.protocol import Order
from shm.codes import Kind, ReportKind, Side, State, Status
from shm.config import Config, load
from shm.control import Phase, View
from shm.door import Door
from shm.hops import Samples, marks_of, read_requests
from shm.kinds import command
from shm.records import COMMAND, L2_UPDATE
from shm.segment import SegmentError
from shm.units import SYSTEM_ACCOUNTS

ACCOUNT: Final = SYSTEM_ACCOUNTS + 1
BID: Final = 590_000
START_S: Final = 300.0
HOPS: Final = ("received", "handed over", "sequenced", "settled", "durable", "heard", "answered")
RATE: Final = 200  # orders a second where their latency is measured
AWAKE_NS: Final = 100_000  # before an order is due, so that it goes out when it is
SETTINGS: Final[dict[str, Any]] = {
    "topology": "fused",
    "limits.accounts": 256,
    "limits.orders": 1 << 18,
    "limits.clients": 1 << 18,
    "rings.ingress": 1 << 16,
    "wal.preallocate": 2,
}
# What is measured; a smoke run takes the second of each.
PACKED: Final = [(2, 256), (50, 32), (1024, 4)]  # orders a message, messages on their way
RAW: Final = [(1024, 4), (1024, 2), (1024, 1)]  # records a message, lines of each
ECHOED: Final = [(100, 256), (5_000, 32), (131_072, 8)]  # bytes, messages on their way
FED: Final = [(1, 4096, False), (4, 4096, False), (4, 4096, True)]  # symbols, records, msgpack


class Rig:
    """An engine with one symbol, one funded account, a gateway and a client's key."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.seconds = seconds
        self.instance = f"bench-zmq-{os.getpid()}"
        given = {"instance": self.instance, "data_dir": str(folder / "data"), **SETTINGS}
        self.config: Config = load(None, given)
        self.data = folder / "data"
        self.log = folder / "log"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.spawn("up", "--no-clock", *self._options())
        self._until(self._running, "the engine")
        self._declare()
        store, _, _ = open_store(self.config)
        user = store.add_user("bench", "no password")
        store.add_account(ACCOUNT, user)
        public, secret = (key.decode() for key in zmq.curve_keypair())
        scopes = Scope.READ | Scope.TRADE
        store.add_key(public, b"", user_id=user, account=ACCOUNT, scopes=scopes, kind="curve")
        store.close()
        self.keys = (curve_key(self.config)[0].decode(), public, secret)
        gateway = self.spawn("gateway", "zmq", *self._options())
        self._until(lambda: re.search('"serving"', self.log.read_text()), "the gateway")
        self.gateway = psutil.Process(gateway.pid)

    def _options(self) -> list[str]:
        fixed = ["--instance", self.instance, "--data", str(self.data)]
        return [*fixed, *(f"--set={name}={value}" for name, value in SETTINGS.items())]

    def spawn(self, *words: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tools.cli", *words],
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=die_with_parent,
                )
            )
        return self.processes[-1]

    def _until(self, what: Callable[[], Any], name: str) -> None:
        until = time.monotonic() + START_S
        while not what():
            for process in self.processes:
                assert process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < until, f"{name} didn't start"
            time.sleep(0.02)

    def _running(self) -> bool:
        try:
            view = View(self.instance)
        except SegmentError:
            return False
        running = view.phase == Phase.RUNNING
        view.close()
        return running

    def _declare(self) -> None:
        rows = [
            command(Kind.ASSET, asset=0, scale=6, name="USDT"),
            command(
                Kind.SYMBOL,
                symbol=0,
                tick_lot_quanta=100,
                tick_quanta=100_000,
                asset=0,
                state=State.TRADING,
                name="BTCUSDT",
                qty_lots_min=1,
                qty_lots_max=1_000_000,
                price_ticks_min=1,
                price_ticks_max=10_000_000,
                leverage_max=100,
                leverage_default=20,
                orders_max=1 << 18,
            ),
            command(Kind.ACCOUNT, account=ACCOUNT, state=State.TRADING),
            command(Kind.DEPOSIT, account=ACCOUNT, amount_quanta=10**15, client_id="first"),
            command(Kind.MARK, symbol=0, mark_ticks=600_000),
        ]
        sent = np.concatenate([row.view(COMMAND.dtype) for row in rows])
        door = Door(self.instance, "demo")
        first = door.next_request()
        sent["request"] = np.arange(first, first + len(sent))
        assert door.send(sent) == len(sent)
        door.close()

    def client(self, **options: Any) -> Client:
        made = Client(self.config.zmq_endpoints[0], *self.keys, **options)
        made.connect(60.0)
        made.settle(60.0)
        return made

    def close(self) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, self.log.read_text()[-4000:]


# ---------------------------------------------------------------- the disk, and a bare echo


def sync_ns(folder: Path, count: int, pause_s: float = 0.002) -> np.ndarray[Any, Any]:
    """How long writing a page and syncing it takes, in the folder of the WAL.

    pause_s     between two: a host that has slept longer takes longer
    """
    path = folder / "probe"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(fd, bytes(4096 * count))
    os.fdatasync(fd)
    taken = []
    for k in range(count):
        before = time.perf_counter_ns()
        os.pwrite(fd, b"x" * 4096, 4096 * k)
        os.fdatasync(fd)
        taken.append(time.perf_counter_ns() - before)
        time.sleep(pause_s)
    os.close(fd)
    path.unlink()
    return np.array(taken)


ECHO: Final = """
import sys, zmq
context = zmq.Context()
router = context.socket(zmq.ROUTER)
if sys.argv[2]:
    router.curve_server, router.curve_secretkey = True, sys.argv[2].encode()
router.bind(sys.argv[1])
while True:
    router.send_multipart(router.recv_multipart())
"""
PIPE: Final = """
import sys, time, zmq
context = zmq.Context()
out = context.socket(zmq.XPUB)
out.setsockopt(zmq.SNDHWM, 1000)
out.setsockopt(zmq.XPUB_NODROP, 1)
out.bind(sys.argv[1])
out.recv()
frames = [sys.argv[3].encode(), bytes(24), bytes(int(sys.argv[2]))]
while True:
    out.send_multipart(frames)
"""


def echo(folder: Path, body: bytes, window: int, seconds: float, *, curve: bool) -> float:
    """Messages a second through a bare ROUTER in a process of its own."""
    endpoint = f"ipc://{folder}/echo"
    public, secret = zmq.curve_keypair()
    process = subprocess.Popen(
        [sys.executable, "-c", ECHO, endpoint, secret.decode() if curve else ""],
        preexec_fn=die_with_parent,
    )
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.setsockopt(zmq.RCVTIMEO, 30_000)
    if curve:
        dealer.curve_serverkey = public
        dealer.curve_publickey, dealer.curve_secretkey = zmq.curve_keypair()
    dealer.connect(endpoint)
    frames = [b"O", bytes(16), body]
    dealer.send_multipart(frames)
    dealer.recv_multipart()
    for _ in range(window):
        dealer.send_multipart(frames)
    start, count = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        for _ in range(100):
            assert len(dealer.recv_multipart()) == 3
            dealer.send_multipart(frames)
        count += 100
    rate = count / (time.perf_counter() - start)
    process.kill()
    process.wait()
    context.destroy(linger=0)
    return rate


def echo_ns(folder: Path, rate: int, count: int) -> np.ndarray[Any, Any]:
    """As `latency`, of a message of an order's size there and back, with CURVE and nothing else."""
    endpoint = f"ipc://{folder}/echo-alone"
    public, secret = zmq.curve_keypair()
    process = subprocess.Popen(
        [sys.executable, "-c", ECHO, endpoint, secret.decode()], preexec_fn=die_with_parent
    )
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.RCVTIMEO, 30_000)
    dealer.curve_serverkey = public
    dealer.curve_publickey, dealer.curve_secretkey = zmq.curve_keypair()
    dealer.connect(endpoint)
    frames = [b"O", bytes(16), bytes(100)]
    dealer.send_multipart(frames)
    dealer.recv_multipart()
    start = time.perf_counter_ns() + 10_000_000
    taken = []
    for k in range(count):
        due = start + k * 1_000_000_000 // rate
        time.sleep(max((due - AWAKE_NS - time.perf_counter_ns()) / 1e9, 0))
        while time.perf_counter_ns() < due:
            pass
        dealer.send_multipart(frames)
        assert len(dealer.recv_multipart()) == 3
        taken.append(time.perf_counter_ns() - due)
    process.kill()
    process.wait()
    context.destroy(linger=0)
    return np.array(taken)


# ---------------------------------------------------------------- orders


def latency(rig: Rig, rate: int, *, records: bool) -> np.ndarray[Any, Any]:
    """ns from when each order was due to its durable report in the client's hands."""
    total = max(int(rate * rig.seconds), 20)
    due: dict[int, int] = {}
    taken: list[int] = []
    with rig.client(records=records) as client:
        start = time.perf_counter_ns() + 10_000_000
        numbers: dict[int, int] = {}
        sent = 0
        while len(taken) < total:
            now = time.perf_counter_ns()
            while sent < total and start + sent * 1_000_000_000 // rate <= now:
                order = Order("place", symbol=0, price_ticks=BID, qty_lots=1)
                numbers[client.send_later([order])] = start + sent * 1_000_000_000 // rate
                sent += 1
            next_ns = start + sent * 1_000_000_000 // rate - AWAKE_NS
            wait_s = max((next_ns - time.perf_counter_ns()) / 1e9, 0) if sent < total else 1.0
            client.poll(min(wait_s, 0.05))
            while client._taken:
                answer = client._taken.popleft()
                assert answer.count == 1, answer
                due[answer.first_request] = numbers.pop(answer.number)
            now = time.perf_counter_ns()
            for _, rows in client.kept():
                for request in rows["request"].tolist() if records else [row[6] for row in rows]:
                    if request in due:
                        taken.append(now - due.pop(request))
        _cancel_all(client)
    return np.array(taken)


def _cancel_all(client: Client) -> None:
    taken = client.send([Order("cancel_all", symbol=0)], 60.0)
    while taken.first_request in client._requests:
        client.poll(0.1)


class Stream:
    """A stream of messages that is endless: rests `half` orders, then cancels them by name.

    Of one line, which has no room for names: it rests `half`, and cancels by id `half` of those
    that its reports have told of; more rest instead where there are not so many.
    """

    made = 0

    def __init__(self, size: int, *, lines: int, packed: bool) -> None:
        self.size = size
        self.packed = packed
        self.lines = lines
        self.half = size // 2
        self.round = Stream.made << 16  # names of streams differ
        Stream.made += 1
        self.rows = np.zeros(size, COMMAND.dtype)
        self.rows["symbol"], self.rows["lines"] = 0, 2
        self.rows["kind"][: self.half], self.rows["kind"][self.half :] = Kind.PLACE, Kind.CANCEL
        self.rows["price_ticks"][: self.half] = BID
        self.rows["qty_lots"][: self.half] = 1
        self.rows["side"] = Side.BUY
        self.resting = np.zeros(0, np.int64)
        self.cancels = self.cancelled = 0
        if lines == 1:
            self.rows["lines"] = 1

    def hear(self, rows: Any) -> None:
        """Raw reports: orders that rest now, and those that have been cancelled."""
        if self.lines > 1:
            return
        orders, status = rows["kind"] == ReportKind.ORDER, rows["status"]
        made = rows["order_id"][orders & (status == Status.NEW)]
        self.resting = np.append(self.resting, made)
        self.cancelled += int(np.count_nonzero(orders & (status == Status.CANCELED)))

    def send_by_id(self, client: Client) -> None:
        ids, self.resting = self.resting[: self.half], self.resting[self.half :]
        places = self.size - len(ids)
        self.cancels += len(ids)
        self.rows["kind"][:places], self.rows["kind"][places:] = Kind.PLACE, Kind.CANCEL
        self.rows["price_ticks"][:places], self.rows["qty_lots"][:places] = BID, 1
        self.rows["price_ticks"][places:], self.rows["qty_lots"][places:] = 0, 0
        self.rows["order_id"][:places], self.rows["order_id"][places:] = 0, ids
        client.send_records(self.rows, 1)

    def send(self, client: Client) -> None:
        if self.lines == 1:
            self.send_by_id(client)
            return
        self.round += 1
        first = self.round * self.half
        if self.packed:
            names = [f"{k:x}" for k in range(first, first + self.half)]
            places = [
                Order("place", symbol=0, price_ticks=BID, qty_lots=1, client_id=name)
                for name in names
            ]
            client.send_later([*places, *(Order("cancel", symbol=0, client_id=n) for n in names)])
            return
        # A name of eight bytes, none of them zero.
        numbers = np.arange(first, first + self.half, dtype=np.int64)
        text = (numbers[:, None] >> (5 * np.arange(8)) & 31) + ord("A")
        words = text.astype(np.uint8).view(np.int64)[:, 0]
        self.rows["client_id"][: self.half, 0] = words
        self.rows["client_id"][self.half :, 0] = words
        client.send_records(self.rows, self.lines)


def throughput(rig: Rig, stream: Stream, window: int, *, records: bool) -> dict[str, Any]:
    """Commands a second whose durable answers have come back."""
    with rig.client(records=records) as client:
        cpu = rig.gateway.cpu_times()
        start = time.perf_counter()
        on_way = done = refused = 0
        stop = False
        messages = 0
        while not stop or on_way:
            stop = stop or time.perf_counter() > start + rig.seconds
            while not stop and on_way < window * stream.size and len(client._unanswered) < window:
                stream.send(client)
                messages += 1
                on_way += stream.size
            client.poll(0.05)
            while client._taken:
                answer = client._taken.popleft()
                refused += len(answer.refused)
                done += answer.count
            for _, rows in client.kept():
                if records:
                    stream.hear(rows)
            # What is on its way is what has no TAKEN, or one and no answer.
            on_way = len(client._unanswered) * stream.size + len(client._requests)
        wall = time.perf_counter() - start
        now = rig.gateway.cpu_times()
        assert not client._requests and done + refused == messages * stream.size
        assert stream.cancelled == stream.cancels, "cancels that came too late"
        if stream.lines == 1:
            _cancel_all(client)
        busy = now.user + now.system - cpu.user - cpu.system
        return {
            "commands_per_s": round(done / wall),
            "gateway_cpu_per_s": round(done / max(busy, 0.01)),
            "messages_per_s": round(messages / wall),
            "refused": refused,
        }


# ---------------------------------------------------------------- market data


UNKNOWN: Final = -1  # the command before a message, where the gateway has missed some

FEED: Final = """
import json, sys, time
import msgpack, zmq
out_endpoint, ask_endpoint, symbols, rows = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:5])
import numpy as np
from shm.records import L2_UPDATE
from gateways.marketdata.client import END, HEAD
context = zmq.Context()
out = context.socket(zmq.XPUB)
out.setsockopt(zmq.SNDHWM, 1000)
out.setsockopt(zmq.XPUB_NODROP, 1)
out.bind(out_endpoint)
door = context.socket(zmq.ROUTER)
door.bind(ask_endpoint)
names = [{"name": f"SYM{k}", "index": k} for k in range(symbols)]
heard = False
made = np.zeros(rows, L2_UPDATE.dtype)
made["symbol"] = np.arange(rows) % symbols
made["lots"] = 1
number = 1
while True:
    while door.poll(0):
        *envelope, request = door.recv_multipart()
        what = msgpack.unpackb(request)["what"]
        stands = {"seq": number - 1, "records": {"l2": number - 1} if heard else {}}
        said = names if what == "symbols" else stands
        door.send_multipart([*envelope, b"ok", json.dumps(said).encode()])
    while out.poll(0 if heard else 1):
        heard = heard or out.recv() == b"\\1records.l2" + END
    if heard:
        for _ in range(20):
            made["seq"] = np.arange(number, number + rows)
            out.send_multipart([b"records.l2" + END, HEAD.pack(number, 0, 0), made.tobytes()])
            number += rows
"""


def published(
    folder: Path, symbols: int, rows: int, seconds: float, *, packed: bool
) -> tuple[float, int]:
    """From the market-data process through the gateway to one subscriber: records a second that
    arrived, and how many gaps between messages. The feed doesn't wait for anybody, and PUB drops
    what a queue has no room for."""
    data = folder / f"feed-{symbols}-{rows}-{packed}"
    data.mkdir()
    given = {"instance": f"bench-market-{os.getpid()}", "data_dir": str(data)}
    config = load(None, given)
    ends = (config.marketdata_endpoint, config.marketdata_ask_endpoint, str(symbols), str(rows))
    options = ("--instance", given["instance"], "--data", str(data))
    processes = [
        subprocess.Popen(command, cwd=ROOT, preexec_fn=die_with_parent, stderr=subprocess.DEVNULL)
        for command in (
            [sys.executable, "-c", FEED, *ends],
            [sys.executable, "-m", "tools.cli", "gateway", "market", *options],
        )
    ]
    context = zmq.Context()
    sub = context.socket(zmq.SUB)
    sub.setsockopt(zmq.RCVHWM, 100_000)
    sub.setsockopt(zmq.RCVTIMEO, 60_000)
    sub.connect(config.market_endpoints[0])
    for symbol in range(symbols):
        sub.subscribe(f"{'m.' if packed else ''}l2.SYM{symbol}".encode() + END)
    size = L2_UPDATE.dtype.itemsize
    start, count, gaps = 0.0, 0, 0
    last: dict[bytes, int] = {}
    while not start or time.perf_counter() < start + seconds:
        topic, head, body = sub.recv_multipart()
        records = _rows(body) if packed else len(body) // size
        previous, newest = struct.unpack_from("<qq", head)
        if records == 0:
            assert previous == newest, "a beat says where its topic stands"
            continue
        count += records
        # After a gap of its own the gateway doesn't know what came before.
        assert last.get(topic, previous) <= previous < newest or previous == UNKNOWN
        gaps += last.get(topic, previous) != previous
        last[topic] = newest
        if not start and len(last) == symbols:
            start, count, gaps = time.perf_counter(), 0, 0
    rate = count / (time.perf_counter() - start)
    for process in processes:
        process.kill()
        process.wait()
    context.destroy(linger=0)
    return rate, gaps


def _rows(body: bytes) -> int:
    unpacker = msgpack.Unpacker()
    unpacker.feed(body)
    return int(unpacker.read_array_header())


def piped(folder: Path, size_bytes: int, seconds: float) -> float:
    """Messages a second of bare PUB/SUB, of as many bytes."""
    endpoint = f"ipc://{folder}/pipe"
    process = subprocess.Popen(
        [sys.executable, "-c", PIPE, endpoint, str(size_bytes), "t"], preexec_fn=die_with_parent
    )
    context = zmq.Context()
    sub = context.socket(zmq.SUB)
    sub.setsockopt(zmq.RCVTIMEO, 30_000)
    sub.connect(endpoint)
    sub.subscribe(b"t")
    sub.recv_multipart()
    start, count = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        sub.recv_multipart()
        count += 1
    rate = count / (time.perf_counter() - start)
    process.kill()
    process.wait()
    context.destroy(linger=0)
    return rate


def main(argv: list[str] | None = None) -> None:
    """All of it."""
    made = parser("gateways_zmq", __doc__)
    made.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    made.add_argument("--only", choices=("latency", "rates", "market"), help="one part alone")
    text = "a setting of engine and gateway other than its default, as in perpcore.toml"
    made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=text)
    chosen = made.parse_args(argv)
    for given in chosen.set:
        name, _, value = given.partition("=")
        SETTINGS[name] = int(value) if value.isdecimal() else value
    seconds = 0.2 if chosen.smoke else chosen.seconds
    report = Report("gateways_zmq", chosen)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if chosen.only != "market":
            orders(report, folder, seconds, chosen.only, smoke=chosen.smoke)
        if chosen.only in (None, "market"):
            market(report, folder, seconds, smoke=chosen.smoke)
    report.finish()


def latency_beside_syncs(
    report: Report, rig: Rig, folder: Path, case: str, records: bool, *, smoke: bool
) -> dict[str, Any]:
    """One row: an order's time, and what a sync and a bare echo took before and after."""
    count = 20 if smoke else 200
    before = np.median(sync_ns(folder, count)), np.median(echo_ns(folder, RATE, count))
    cells = histogram_of(latency(rig, RATE, records=records))
    after = np.median(sync_ns(folder, count)), np.median(echo_ns(folder, RATE, count))
    sync, echo = (round(float(a + b) / 2) for a, b in zip(before, after, strict=True))
    report.latency(case, cells)
    rested = round(float(np.median(sync_ns(folder, count, 1 / RATE))))
    beside = {"sync_p50_ns": sync, "echo_p50_ns": echo, "wanted_ns": 2 * sync + 200_000}
    beside["sync_rested_p50_ns"] = rested  # at the rate of the orders; what is wanted goes by sync
    return latency_row(case, cells, **beside, **hops(rig, int(rig.seconds * RATE)))


def hops(rig: Rig, most: int) -> dict[str, int]:
    """Median of what each hop of the newest sampled orders took."""
    view = View(rig.instance)
    samples = Samples(rig.instance, view.epoch, 1)
    of_gateway = read_requests(rig.instance)
    found = [
        marks_of(sample.marks | of_gateway[sample.request])
        for sample in samples.read(samples.newest() - most)
        if sample.request in of_gateway
    ]
    samples.close()
    view.close()
    taken = {}
    for before, hop in pairwise(HOPS):
        times = [marks[hop] - marks[before] for marks in found if before in marks and hop in marks]
        if times:
            taken[f"{hop.replace(' ', '_')}_ns"] = round(float(np.median(times)))
    return taken


def latencies(report: Report, rig: Rig, folder: Path, *, smoke: bool) -> None:
    rows = []
    for case, records in (("msgpack, 200/s", False), ("records, 200/s", True)):
        rows.append(latency_beside_syncs(report, rig, folder, case, records, smoke=smoke))
    with awake() as polls:
        if polls:
            case = "records, 200/s, idle cores poll"
            rows.append(latency_beside_syncs(report, rig, folder, case, True, smoke=smoke))
    report.table("An order, from when it was due to its durable report", rows)


def orders(report: Report, folder: Path, seconds: float, only: str | None, *, smoke: bool) -> None:
    rig = Rig(folder, seconds)
    some = slice(1, 2) if smoke else slice(None)
    try:
        if only != "rates":
            latencies(report, rig, folder, smoke=smoke)
        if only == "latency":
            return
        cases: list[dict[str, Any]] = []
        for size, window in PACKED[some]:
            stream = Stream(size, lines=2, packed=True)
            found = throughput(rig, stream, window, records=False)
            cases.append({"case": f"msgpack, {size} a message", **found})
        for size, lines in RAW[some]:
            stream = Stream(size, lines=lines, packed=False)
            found = throughput(rig, stream, 8, records=True)
            cases.append({"case": f"records of {64 * lines} bytes, {size} a message", **found})
        report.table("Commands a second, answered durably, one gateway process", cases)
    finally:
        rig.close()
    rows = []
    for size_bytes, window in ECHOED[some]:
        body = bytes(size_bytes)
        rows.append(
            {
                "case": f"messages of {size_bytes:,} bytes",
                "curve_per_s": round(echo(folder, body, window, seconds, curve=True)),
                "plain_per_s": round(echo(folder, body, window, seconds, curve=False)),
            }
        )
    report.table("Bare DEALER/ROUTER echo", rows)


def market(report: Report, folder: Path, seconds: float, *, smoke: bool) -> None:
    rows: list[dict[str, Any]] = []
    for symbols, batch, packed in FED[1:2] if smoke else FED:
        bare = piped(folder, batch // symbols * L2_UPDATE.dtype.itemsize, seconds)
        kind = "msgpack" if packed else "records"
        rate, gaps = published(folder, symbols, batch, seconds, packed=packed)
        rows.append(
            {
                "case": f"{kind}, {symbols} symbols, {batch} a batch",
                "records_per_s": round(rate),
                "gaps": gaps,
                "bare_records_per_s": round(bare * (batch // symbols)),
            }
        )
    report.table("L2 records a second to a subscriber", rows)


if __name__ == "__main__":
    main()
