"""The native gateway as its clients see it: a real engine, restarts, kills, attackers."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
import zmq

from gateways.client.client import Client, ClientError
from gateways.zmq import protocol
from gateways.zmq.gateway import ATTEND_NS
from gateways.zmq.protocol import NUMBER, Hello, Order, Taken
from shm.codes import Kind, Reason, ReportKind, Side, Status
from shm.hops import read_requests
from shm.interrupts import disk_cpus
from shm.kinds import command
from shm.records import COMMAND
from shm.units import PRODUCER_SHIFT
from tests.process.helpers import ROOT, wait_until
from tests.process.zmq_doors import Doors
from tools.metrics import as_text

BID = 590_000  # rests: the mark is 600,000
Wanted = Callable[[dict[str, Any]], bool]


@pytest.fixture(scope="module")
def ann(doors: Doors) -> tuple[str, str]:
    doors.user("ann")
    return doors.key("ann")


@pytest.fixture(scope="module")
def bob(doors: Doors) -> tuple[str, str]:
    doors.user("bob")
    return doors.key("bob")


def until(client: Client, wanted: Wanted, seconds: float = 30.0) -> dict[str, Any]:
    """The first report that `wanted` likes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for report in client.reports(0.2):
            if wanted(report):
                return report
    raise AssertionError("no such report came")


def upto(client: Client, request: int) -> list[dict[str, Any]]:
    """All reports up to a request's answer."""
    found: list[dict[str, Any]] = []

    def last(report: dict[str, Any]) -> bool:
        found.append(report)
        return report.get("request") == request

    until(client, last)
    return found


def answer(client: Client, request: int) -> dict[str, Any]:
    return until(client, lambda r: r.get("request") == request)


def bid(name: str = "", price: int = BID, **more: Any) -> Order:
    return Order("place", symbol=0, side=int(Side.BUY), price_ticks=price, qty_lots=1,
                 client_id=name, **more)  # fmt: skip


def ask(name: str = "", price: int = 610_000) -> Order:
    return Order(
        "place", symbol=0, side=int(Side.SELL), price_ticks=price, qty_lots=1, client_id=name
    )


def clean(client: Client) -> None:
    """No open order is left; all of it was heard."""
    taken = client.send([Order("cancel_all", symbol=0)])
    answer(client, taken.first_request)
    for _ in client.reports(0.1):
        pass


def ended(client: Client, why: str, seconds: float = 10.0) -> None:
    with pytest.raises(ClientError, match=why):
        until(client, lambda r: False, seconds)


# ---------------------------------------------------------------- orders


@pytest.mark.parametrize("records", [True, False], ids=["records", "msgpack"])
@pytest.mark.parametrize("tcp", [False, True], ids=["ipc", "tcp"])
def test_an_order_and_what_becomes_of_it(
    doors: Doors, ann: tuple[str, str], records: bool, tcp: bool
) -> None:
    with doors.connected(ann, records=records, tcp=tcp) as client:
        name = f"a-{records}-{tcp}"
        taken = client.send([bid(name), bid(name), bid("no-price", price=0)])
        assert taken.count == 3 and taken.refused == []
        first = answer(client, taken.first_request)
        assert first["kind"] == ReportKind.ORDER and first["account"] == client.account
        assert first["status"] == Status.NEW and first["price_ticks"] == BID
        named = until(client, lambda r: r["kind"] == ReportKind.CLIENT_ID)
        assert named["order_id"] == first["order_id"]
        again = answer(client, taken.first_request + 1)
        assert again["status"] == Status.REJECTED
        assert again["reason"] == Reason.DUPLICATE_CLIENT_ID
        assert again["order_id"] == first["order_id"], "natively, the original is named"
        wrong = answer(client, taken.first_request + 2)
        assert wrong["reason"] == Reason.BAD_PRICE
        gone = client.send([Order("cancel", symbol=0, client_id=name)])
        report = answer(client, gone.first_request)
        assert report["status"] == Status.CANCELED and report["order_id"] == first["order_id"]


def test_a_lone_order_is_awaited_off_the_cores_of_the_disk(
    doors: Doors, ann: tuple[str, str]
) -> None:
    """All threads of the gateway keep off them while orders come singly, and no longer than that."""
    cores = os.sched_getaffinity(0)
    quiet = cores - disk_cpus(doors.venue.data)
    if not quiet or quiet == cores:
        pytest.skip("here every core takes the disk's interrupts, or none is said to")
    threads = Path(f"/proc/{doors.processes['zmq'].pid}/task")

    def kept() -> set[frozenset[int]]:
        return {frozenset(os.sched_getaffinity(int(each.name))) for each in threads.iterdir()}

    with doors.connected(ann) as client:
        took: list[float] = []
        while kept() != {frozenset(quiet)} and len(took) < 200:
            start = time.monotonic()
            answer(client, client.send([Order("cancel_all", symbol=0)]).first_request)
            took.append(time.monotonic() - start)
        if len(took) == 200:
            assert sorted(took)[100] > ATTEND_NS / 1e9, "its answers are quick, and it didn't move"
            pytest.skip("an answer takes so long here that nobody waits awake for it")
        end = time.monotonic() + 30
        while kept() != {frozenset(cores)}:
            assert time.monotonic() < end, "it keeps there though many are on their way"
            for _ in range(500):
                client.send_later([Order("cancel_all", symbol=0)])
            for _ in range(500):
                client.taken()
        clean(client)


def test_records_and_msgpack_say_the_same(doors: Doors, ann: tuple[str, str]) -> None:
    with doors.connected(ann) as raw, doors.connected(ann, records=False) as packed:
        row = command(
            Kind.PLACE, symbol=0, side=Side.BUY, price_ticks=BID, qty_lots=2, client_id="twin"
        ).view(COMMAND.dtype)
        raw.send_records(row, lines=2)
        taken = raw.taken()
        assert taken.count == 1
        packed.send([Order("amend", symbol=0, client_id="twin", price_ticks=BID - 1, qty_lots=3)])
        clean(packed)
        last = raw.send([bid()]).first_request  # both are told of it, and of what came before
        mine, theirs = ({r["index"]: r for r in upto(client, last)} for client in (raw, packed))
        both = mine.keys() & theirs.keys()
        assert len(both) > 0 and all(mine[k] == theirs[k] for k in both)
        clean(raw)


def test_a_trade_is_told_to_its_two_sides_and_to_nobody_else(
    doors: Doors, ann: tuple[str, str], bob: tuple[str, str]
) -> None:
    doors.user("eve")
    with (
        doors.connected(ann) as maker,
        doors.connected(bob) as taker,
        doors.connected(doors.key("eve")) as eve,
    ):
        maker.send([bid("m")])
        sold = taker.send([ask("t", price=BID)])
        answer(taker, sold.first_request)
        told = [until(c, lambda r: r["kind"] == ReportKind.EXEC) for c in (maker, taker)]
        assert told[0]["trade_id"] == told[1]["trade_id"] > 0
        for client in (maker, taker):
            assert all(r["account"] == client.account for r in client.reports(0.2))
        assert list(eve.reports(0.2)) == []
        # Somebody else's order can't even be named.
        placed = maker.send([bid("mine")])
        order = answer(maker, placed.first_request)["order_id"]
        tried = eve.send([Order("cancel", symbol=0, order_id=order)])
        assert answer(eve, tried.first_request)["reason"] == Reason.UNKNOWN_ORDER
        clean(maker)


def test_raw_records_are_for_ones_own_account_and_kinds(
    doors: Doors, ann: tuple[str, str], bob: tuple[str, str]
) -> None:
    with doors.connected(bob) as other, doors.connected(ann) as client:
        row = command(
            Kind.CANCEL_ALL, account=other.account, symbol=0, trace_hi=7, key_id=999, recv_ns=1
        ).view(COMMAND.dtype)
        alien = command(Kind.VENUE_STATE, state=2).view(COMMAND.dtype)
        client.send_records(np.concatenate([alien, row, alien]))
        taken = client.taken()
        assert taken.count == 1 and taken.refused == [(0, "FORBIDDEN"), (2, "FORBIDDEN")]
        assert answer(client, taken.first_request)["account"] == client.account
        trace = until(client, lambda r: r["kind"] == ReportKind.TRACE)
        assert trace["trace_hi"] == 7 and trace["key_id"] not in (0, 999) and trace["recv_ns"] > 1
        assert list(other.reports(0.1)) == []


# ---------------------------------------------------------------- who may come in


def test_nobody_without_a_key_or_with_too_little_of_one(doors: Doors, ann: tuple[str, str]) -> None:
    stranger = doors.client(tuple(k.decode() for k in zmq.curve_keypair()))  # type: ignore[arg-type]
    with pytest.raises(ClientError, match="no answer"):
        stranger.connect(0.5)
    stranger.close()
    elsewhere = doors.client(doors.key("ann", networks=["203.0.113.7"]), tcp=True)
    with pytest.raises(ClientError, match="not from there"):
        elsewhere.connect(5.0)
    elsewhere.close()
    reading = doors.key("ann", "read")
    with doors.connected(reading) as reader:
        assert reader.send([bid(), bid()]).refused == [(0, "FORBIDDEN"), (1, "FORBIDDEN")]
    # Nor may its silence cancel what others have placed.
    silent = doors.client(reading, cancel_on_disconnect=True)
    with pytest.raises(ClientError, match="who may trade"):
        silent.connect(5.0)
    silent.close()
    # An HMAC key's text is no CURVE key, whatever it looks like; a chosen routing id is refused.
    socket = _socket(doors, ann, routing_id=b"ann")
    socket.send_multipart([protocol.HELLO, msgspec.msgpack.encode(Hello(1))])
    assert socket.recv_multipart()[0] == protocol.GONE
    socket.close()


def test_a_revoked_key_ends_its_session(doors: Doors) -> None:
    doors.user("rita")
    key = doors.key("rita")
    # Strangers who knock all the time make the gateway look at its keys: that hides nothing.
    strangers = [_socket(doors, (a.decode(), b.decode())) for a, b in [zmq.curve_keypair()] * 5]
    with doors.connected(key) as client:
        doors.admin("/keys/revoke", {"api_key": key[0]})
        began = time.monotonic()
        ended(client, "revoked")
        assert time.monotonic() - began < 5
        with pytest.raises(ClientError):
            client.connect(0.5)
    for socket in strangers:
        socket.close()


def test_a_drop_copy_hears_every_account_of_its_user(doors: Doors) -> None:
    first = doors.user("firm")
    second = int(doors.admin("/accounts", {"name": "firm", "parent": first})["account"])
    doors.deposit(second)
    keys = [doors.key("firm", account=account) for account in (first, second)]
    with (
        doors.connected(keys[0]) as one,
        doors.connected(keys[1]) as two,
        doors.connected(keys[0], orders=False, accounts=[first, second]) as copy,
    ):
        assert copy.send([bid()]).refused == [(0, "FORBIDDEN")]
        sent = [one.send([bid("x")]), two.send([bid("x")])]
        for taken in sent:
            answer(copy, taken.first_request)
        clean(one)
        clean(two)
        found = [(r["index"], r["account"]) for r in copy.reports(0.3)]
        assert found == sorted(found) and {a for _, a in found} == {first, second}
    other = doors.client(keys[0], accounts=[first, second + 1])
    with pytest.raises(ClientError, match="is not the key's user's"):
        other.connect(5.0)
    other.close()


# ---------------------------------------------------------------- bad input


def _socket(doors: Doors, key: tuple[str, str], routing_id: bytes = b"") -> zmq.Socket[bytes]:
    """A bare connection that says what it likes."""
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.curve_serverkey = doors.server_key.encode()
    socket.curve_publickey, socket.curve_secretkey = (text.encode() for text in key)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVTIMEO, 10_000)
    if routing_id:
        socket.setsockopt(zmq.ROUTING_ID, routing_id)
    socket.connect(doors.config.zmq_endpoints[0])
    return socket


BAD_MESSAGES = [
    [b""],
    [b"O"],
    [b"\xff" * 40, b"x"],
    [b"Z", b"x"],
    [b"O", b"short", b"\x90"],
    [b"O", NUMBER.pack(7, 0), b"\x90"],
    [b"O", NUMBER.pack(-1, 0), b"\x90"],
    [b"O", NUMBER.pack(1, 0), b"\x90", b"more"],
    [b"H", b"\xc1"],
    [b"H", msgspec.msgpack.encode({"session": 0})],
    [b"H", msgspec.msgpack.encode({"session": 1, "account": 5})],
    [b"p"],
    [b"x"] * 300,
]
BAD_BODIES = [
    b"",
    b"\xc1",
    b"\xdd\xff\xff\xff\xff",
    b"\x91" * 5000,
    msgspec.msgpack.encode([{"op": "place"}] * (protocol.ORDERS_MAX + 1)),
    msgspec.msgpack.encode([{"op": "VENUE_STATE"}]),
    msgspec.msgpack.encode([{"op": "place", "side": 256}]),
    msgspec.msgpack.encode([{"op": "place", "price_ticks": 1.5}]),
    msgspec.msgpack.encode([{"op": "place", "price_ticks": 1 << 63}]),
    msgspec.msgpack.encode([{"op": "place", "client_id": "é" * 10}]),
    msgspec.msgpack.encode([{"op": "place", "account": 1}]),
    msgspec.msgpack.encode([{"op": "place", "trigger_ticks": 1}]),
    msgspec.msgpack.encode([{"op": "place", "qty_lots": float("nan")}]),
]


def test_whatever_is_sent_is_answered_or_dropped(
    doors: Doors, ann: tuple[str, str], bob: tuple[str, str]
) -> None:
    gateway = psutil.Process(doors.processes["zmq"].pid)
    for session, bad in enumerate(BAD_MESSAGES, 100):
        socket = _socket(doors, ann)
        if bad[0] != b"H":
            socket.send_multipart([protocol.HELLO, msgspec.msgpack.encode(Hello(session))])
            assert socket.recv_multipart()[0] == protocol.WELCOME
        socket.send_multipart(bad)
        while (got := socket.recv_multipart())[0] == protocol.CURRENT:
            pass
        assert got[0] == protocol.GONE, (bad[:3], got)
        socket.close()
    with doors.connected(bob) as witness:
        socket = _socket(doors, ann)
        socket.send_multipart([protocol.HELLO, msgspec.msgpack.encode(Hello(99))])
        before, number, answers = 0, 0, 0
        rng = random.Random(5)
        for round_ in range(4):
            for bad in BAD_BODIES * 20:
                number += 1
                body = bad if round_ % 2 == 0 else rng.randbytes(rng.randrange(200))
                kind = b"O" if rng.random() < 0.5 else b"R"
                socket.send_multipart([kind, NUMBER.pack(number, rng.choice((0, 64, 255))), body])
                while answers < number:
                    got = socket.recv_multipart()
                    if got[0] == protocol.TAKEN:
                        answers += 1
                        taken = msgspec.msgpack.decode(got[1], type=Taken)
                        assert taken.number == number
                        assert all("MALFORMED" in w or w == "FORBIDDEN" for _, w in taken.refused)
            if round_ == 0:
                before = gateway.memory_info().rss
            witness.poll()
        assert gateway.memory_info().rss < before + (16 << 20)
        socket.close()
        # A message beyond the limit costs its sender the connection, and nobody else anything.
        socket = _socket(doors, ann)
        socket.send_multipart([protocol.HELLO, msgspec.msgpack.encode(Hello(98))])
        assert socket.recv_multipart()[0] == protocol.WELCOME
        socket.send_multipart([b"O", NUMBER.pack(1, 0), b"\x00" * (1 << 20)])
        socket.send_multipart([protocol.PING, b""])
        while (got := socket.recv_multipart())[0] == protocol.CURRENT:
            pass
        assert got[0] == protocol.GONE
        socket.close()
        answer(witness, witness.send([bid("alive")]).first_request)
        clean(witness)


def test_a_full_ring_refuses_at_once_and_has_room_for_cancels(doors: Doors) -> None:
    account = doors.user("olga")
    key = doors.key("olga")
    with doors.connected(key) as client:
        name = next(w.name for w in doors.venue.until_running().workers() if "sequence" in w.stages)
        worker = psutil.Process(doors.venue.worker(name))
        row = command(Kind.PLACE, symbol=0, price_ticks=BID, qty_lots=1).view(COMMAND.dtype)
        taken: list[Taken] = []
        worker.suspend()
        try:
            for _ in range(5):
                client.send_records(np.repeat(row, protocol.ORDERS_MAX), lines=1)
                taken.append(client.taken())
            cancel = client.send([Order("cancel_all", symbol=0)])
            again = client.send([bid(), Order("cancel_all", symbol=0)])
        finally:
            worker.resume()
        counts = [t.count for t in taken]
        assert counts[:3] == [protocol.ORDERS_MAX] * 3 and counts[4] == 0
        assert sum(counts) <= 4096 * 9 // 10 + 1
        partly = next(t for t in taken if t.refused)
        places = list(range(partly.count, protocol.ORDERS_MAX))
        assert partly.refused == [(place, "OVERLOADED") for place in places]
        assert cancel.count == 1 and again.refused == [(0, "OVERLOADED"), (1, "OVERLOADED")]
        # What was taken is done, all of it and nothing else, and what was placed is cancelled.
        answer(client, cancel.first_request)
        assert client._requests == set() and client.account == account
    answers = answers_of(everything(doors, key))
    for t in [*taken, cancel]:
        for request in range(t.first_request, t.first_request + t.count):
            assert answers.pop(request) == 1
    operators = doors.config.producer("admin").id
    assert {request >> PRODUCER_SHIFT for request in answers} == {operators}


def test_who_reads_slowly_gets_everything_and_delays_nobody(
    doors: Doors, ann: tuple[str, str]
) -> None:
    with doors.connected(ann) as client:
        slow = _socket(doors, ann)
        slow.setsockopt(zmq.RCVHWM, 10)
        slow.disconnect(doors.config.zmq_endpoints[0])
        slow.connect(doors.config.zmq_endpoints[0])
        slow.send_multipart([protocol.HELLO, msgspec.msgpack.encode(Hello(77))])
        assert slow.recv_multipart()[0] == protocol.WELCOME
        for count in range(400):
            taken = client.send([bid(), Order("cancel_all", symbol=0)] * 4)
            assert taken.count == 8
            if count % 50 == 0:
                slow.send_multipart([protocol.PING, b""])
        client.settle()
        answer(client, taken.first_request + 7)
        previous, newest = -1, client.last_index
        while previous < newest:
            got = slow.recv_multipart()
            if got[0] == protocol.REPORTS:
                assert int.from_bytes(got[1], "little", signed=True) == previous
                indices = np.frombuffer(got[2], np.int64)
                assert (np.diff(indices) > 0).all() and indices[0] > previous
                previous = int(indices[-1])
        slow.close()
        clean(client)


# ---------------------------------------------------------------- sessions, silence, kills


def test_a_message_said_twice_is_done_once(doors: Doors, ann: tuple[str, str]) -> None:
    with doors.connected(ann) as client:
        first = client.send([bid(), bid()])
        assert client.send([bid()]).number == 2
        message = [protocol.ORDERS, NUMBER.pack(1, 0), msgspec.msgpack.encode([bid(), bid()])]
        socket = client._socket_or_no()
        socket.send_multipart(message)
        assert client.taken() == first
        opened = [r for r in client.reports(0.3) if r["kind"] == ReportKind.ORDER]
        assert len(opened) == 3
        clean(client)
        socket.send_multipart([protocol.ORDERS, NUMBER.pack(9, 0), message[2]])
        ended(client, "must be 4")
        client.connect()
        assert client.send([bid()]).number == 4
        clean(client)


def test_silence_cancels_what_is_open(doors: Doors, ann: tuple[str, str]) -> None:
    with doors.connected(ann) as watcher:
        quiet = doors.connected(ann, cancel_on_disconnect=True)
        order = answer(quiet, quiet.send([bid("quiet")]).first_request)["order_id"]
        # It says nothing more; three heartbeats later its order is gone.
        gone = until(watcher, lambda r: r.get("order_id") == order and r["status"] == 3)
        assert gone["reason"] == Reason.CANCEL_ALL
        quiet.close()
        # The gateway's death is a silence as well: its successor keeps the promise.
        quiet = doors.connected(ann, cancel_on_disconnect=True)
        stays = doors.connected(ann, cancel_on_disconnect=True)
        order = answer(quiet, quiet.send([bid("quiet2")]).first_request)["order_id"]
        quiet.close()
        doors.kill_gateway()
        doors.open_gateway()
        watcher.connect(30.0)
        gone = until(watcher, lambda r: r.get("order_id") == order and r["status"] == 3)
        assert gone["reason"] == Reason.CANCEL_ALL
        stays.close()


def everything(doors: Doors, key: tuple[str, str]) -> list[dict[str, Any]]:
    """All reports of an account from the beginning, heard by somebody else."""
    client = doors.client(key)
    client.connect(30.0, after=0)
    client.settle(30.0)
    found = list(client.reports(0.3))
    client.close()
    indices = [r["index"] for r in found]
    assert indices == sorted(set(indices))
    return found


def pump(clients: list[Client], what: Callable[[], Any], seconds: float, why: str) -> None:
    """Wait for something while the clients stay alive."""

    def look() -> Any:
        for client in clients:
            client.poll(0.01)
        return what()

    wait_until(look, seconds, why)


def answers_of(reports: list[dict[str, Any]]) -> Counter[int]:
    """How often each request was answered."""
    return Counter(r["request"] for r in reports if r.get("request"))


def test_the_gateway_is_killed_and_nothing_is_lost_or_doubled(doors: Doors) -> None:
    """Orders without names: only the session's numbers tell a second order from a second copy."""
    doors.user("kit")
    key = doors.key("kit")
    rng = random.Random(3)
    got: dict[int, Taken] = {}
    with doors.connected(key) as client:
        for _ in range(3):
            for _ in range(rng.randrange(10, 30)):
                last = client.send_later([bid()] * 3)
                if rng.random() < 0.2:
                    client.poll()
            doors.kill_gateway()
            doors.open_gateway()
            client.connect(30.0)
            client.settle(30.0)
            assert client.not_accepted == []
            while last not in got:
                taken = client.taken()
                got[taken.number] = taken
        seen = everything(doors, key)
    assert sorted(got) == list(range(1, last + 1))
    assert all(t.count == 3 and not t.refused for t in got.values())
    answers = answers_of(seen)
    requests = [t.first_request + k for t in got.values() for k in range(3)]
    assert len(set(requests)) == 3 * last
    assert [answers[request] for request in requests] == [1] * len(requests)
    # What is open is what was asked for, and not one order more.
    placed = [r for r in seen if r["kind"] == ReportKind.ORDER and r["status"] == Status.NEW]
    assert len(placed) == 3 * last


def test_the_engine_is_killed_under_its_clients(doors: Doors) -> None:
    doors.user("kate")
    key = doors.key("kate")
    with doors.connected(key) as client, doors.connected(key, records=False) as other:
        client.settle(30.0)
        epoch = client.epoch
        for _ in range(30):
            client.send_later([bid()] * 3)
        client.poll()
        os.kill(doors.venue.pid, signal.SIGKILL)
        doors.venue.until_ended()
        doors.venue.end()
        taken = [client.taken(20.0) for _ in range(30)]
        assert client.send([bid()]).refused == [(0, "NOT_RUNNING")]
        doors.venue.start()
        both = [client, other]
        pump(both, lambda: client.epoch > epoch, 120, "no epoch was heard")
        pump(both, lambda: client.current and other.current, 30, "not current")
        assert other.epoch == client.epoch
        again = client.send([bid("again")])
        assert again.count == 1
        answer(client, again.first_request)
        lost = set(client.not_accepted)
        seen = everything(doors, key)
        client.connect()
        clean(client)
    answers = answers_of(seen)
    for t in taken:
        for request in range(t.first_request, t.first_request + t.count):
            assert answers[request] == (request not in lost)
    assert again.first_request > max(r for r in answers if r != again.first_request)
    assert answers[again.first_request] == 1


def test_what_people_look_at(doors: Doors, ann: tuple[str, str]) -> None:
    """Hops of a request, counters as Prometheus has them, a line of the log that is JSON."""
    client = doors.connected(ann)
    trace = (0x0AF7651916CD43DD, 0x1448EB211C80319C)
    far = Order("place", symbol=0, side=0, price_ticks=500_000, qty_lots=1, client_id="looked-at",
                trace_hi=trace[0], trace_lo=trace[1])  # fmt: skip
    taken = client.send([far, Order("cancel", symbol=0, client_id="looked-at")])
    until(client, lambda r: r.get("status") == Status.CANCELED)
    marks = wait_until(
        lambda: read_requests(doors.config.instance).get(taken.first_request), 10, "no marks"
    )
    assert 0 < marks["received"] <= marks["handed over"] <= marks["heard"] <= marks["answered"]

    client.send([Order("place", symbol=77, side=0, price_ticks=1, qty_lots=1)])

    def counted() -> bool:
        text = as_text(doors.config)
        found = re.search(r'perpcore_door_commands_total{producer="gateway3"} ([0-9.e+]+)', text)
        return bool(found and float(found[1]) >= 2 and "perpcore_door_clients{" in text)

    wait_until(counted, 10, "nothing is counted")
    client.close()

    def lines() -> list[dict[str, Any]]:
        text = doors.log("zmq")
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def told() -> bool:
        return any(line["event"] == "session ends" and "account" in line for line in lines())

    assert {"ts", "level", "role", "instance", "who", "event"} <= lines()[0].keys()
    wait_until(told, 30, "nobody says that its session ends")  # of silence


def test_snippet_of_readme(
    doors: Doors, ann: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "README.md").read_text()
    snippet = text.partition("```python perpcore native client\n")[2].partition("```")[0]
    names = ("ENDPOINT", "SERVER", "PUBLIC", "SECRET")
    exec(
        snippet,
        dict(zip(names, (doors.config.zmq_endpoints[1], doors.server_key, *ann), strict=True)),
    )
    statuses = [
        line.rpartition("'status': ")[2][0] for line in capsys.readouterr().out.splitlines()
    ]
    assert statuses[0] == str(int(Status.NEW)) and str(int(Status.CANCELED)) in statuses


def test_it_says_goodbye(doors: Doors, ann: tuple[str, str]) -> None:
    client = doors.connected(ann)
    doors.processes["zmq"].terminate()
    ended(client, "the gateway stops")
    assert doors.processes["zmq"].wait(20) == 0
    client.close()
