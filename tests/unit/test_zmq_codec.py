"""Messages of the native gateway: what they come to, what is refused, and any bytes at all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from gateways.zmq import codec
from gateways.zmq.codec import Malformed, report_frames, rows_of_orders, rows_of_records
from gateways.zmq.gateway import Gateway, Session
from gateways.zmq.protocol import (
    FORBIDDEN,
    NOT_RUNNING,
    OPERATIONS,
    ORDERS_MAX,
    OVERLOADED,
    WINDOW,
    Hello,
    Order,
    Report,
)
from gateways.zmq.sessions import OF_A_KEY_MAX, Answer, Sessions, TooManySessions
from shm.codes import Flag, Kind, ReportKind, Tif
from shm.files import DataError
from shm.kinds import COMMAND_RECORDS, command
from shm.records import COMMAND, NO_SYMBOL, REPORT

ACCOUNT, NOW, KEY = 21, 1_700_000_000_000_000_000, 5


def packed(*orders: Order) -> bytes:
    return msgspec.msgpack.encode(list(orders))


def rows_of(*orders: Order) -> np.ndarray[Any, Any]:
    return rows_of_orders(packed(*orders), ACCOUNT, NOW, KEY)


# An Order, and the command that a program with numpy would lay out for it.
SAME = [
    (Order("place", symbol=1, side=1, price_ticks=100, qty_lots=2),
     {"symbol": 1, "side": 1, "price_ticks": 100, "qty_lots": 2}),
    (Order("place", symbol=1, tif=int(Tif.GTD), expire_ns=9, price_ticks=1, qty_lots=1),
     {"symbol": 1, "tif": Tif.GTD, "expire_ns": 9, "price_ticks": 1, "qty_lots": 1}),
    (Order("place", symbol=1, price_ticks=1, qty_lots=1, client_id="x" * 36, flags=1),
     {"symbol": 1, "price_ticks": 1, "qty_lots": 1, "client_id": "x" * 36, "flags": 1}),
    (Order("place", symbol=1, price_ticks=1, qty_lots=1, trace_hi=-3, trace_lo=4),
     {"symbol": 1, "price_ticks": 1, "qty_lots": 1, "trace_hi": -3, "trace_lo": 4,
      "recv_ns": NOW, "key_id": KEY}),
    (Order("cancel", symbol=2, order_id=77), {"symbol": 2, "order_id": 77}),
    (Order("cancel", symbol=2, client_id="c"), {"symbol": 2, "client_id": "c"}),
    (Order("amend", symbol=2, order_id=7, price_ticks=5, qty_lots=6, flags=int(Flag.TO_BACK)),
     {"symbol": 2, "order_id": 7, "price_ticks": 5, "qty_lots": 6, "flags": Flag.TO_BACK}),
    (Order("reduce", symbol=2, order_id=7, qty_lots=1), {"symbol": 2, "order_id": 7, "qty_lots": 1}),
    (Order("cancel_all"), {}),
    (Order("cancel_all", symbol=3), {"symbol": 3}),
    (Order("place_algo", symbol=1, trigger_ticks=9, price_ticks=8, qty_lots=7, activate_ticks=6,
           terms=5, client_id="a"),
     {"symbol": 1, "trigger_ticks": 9, "price_ticks": 8, "qty_lots": 7, "activate_ticks": 6,
      "terms": 5, "client_id": "a"}),
    (Order("cancel_algo", symbol=1, order_id=4), {"symbol": 1, "order_id": 4}),
    (Order("cancel_algos", symbol=1), {"symbol": 1}),
    (Order("countdown", symbol=1, value=10**9), {"symbol": 1, "value": 10**9}),
    (Order("leverage", symbol=1, value=20), {"symbol": 1, "leverage": 20}),
    (Order("margin_type", symbol=1, value=1), {"symbol": 1, "value": 1}),
    (Order("position_mode", value=1), {"value": 1}),
    (Order("position_margin", symbol=1, value=-5, position_side=1),
     {"symbol": 1, "value": -5, "position_side": 1}),
]  # fmt: skip


def test_an_order_is_the_command_it_names() -> None:
    rows = rows_of(*(order for order, _ in SAME))
    for row, (order, fields) in zip(rows, SAME, strict=True):
        wanted = command(OPERATIONS[order.op], account=ACCOUNT, **fields).view(COMMAND.dtype)[0]
        assert row == wanted, order
    assert {order.op for order, _ in SAME} == set(OPERATIONS)
    assert Order("cancel_all").symbol == NO_SYMBOL


def test_every_operation_is_a_command_of_clients() -> None:
    assert {kind for kind in OPERATIONS.values() if kind in COMMAND_RECORDS} == {
        *(Kind.LEVERAGE, Kind.PLACE_ALGO, Kind.COUNTDOWN, Kind.MARGIN_TYPE),
        *(Kind.POSITION_MODE, Kind.POSITION_MARGIN),
    }


@pytest.mark.parametrize(
    ("orders", "text"),
    [
        ({}, "array"),
        ([{}], "op"),
        ([{"op": "place", "account": 3}], "account"),
        ([{"op": "place", "kind": 36}], "kind"),
        ([{"op": "deposit"}], "Invalid enum"),
        ([{"op": "place", "symbol": 65536}], "symbol"),
        ([{"op": "place", "symbol": -1}], "symbol"),
        ([{"op": "cancel_all"}, {"op": "place", "side": 256}], r"\$\[1\].side"),
        ([{"op": "place", "price_ticks": 1 << 63}], "price_ticks"),
        ([{"op": "place", "price_ticks": 1.0}], "price_ticks"),
        ([{"op": "place", "price_ticks": "1"}], "price_ticks"),
        ([{"op": "place", "price_ticks": True}], "price_ticks"),
        ([{"op": "place", "price_ticks": float("nan")}], "price_ticks"),
        ([{"op": "place", "client_id": "x" * 37}], "client_id"),
        ([{"op": "place", "client_id": "é"}], "ASCII"),
        ([{"op": "place", "client_id": "a\0b"}], "ASCII"),
        ([{"op": "cancel_all"}, {"op": "place", "value": 1}], r"\$\[1\].value: the operation"),
        ([{"op": "leverage", "value": 1, "qty_lots": 1}], "qty_lots: the operation"),
        ([{"op": "cancel", "trigger_ticks": 1}], "trigger_ticks: the operation"),
        ([{"op": "place_algo", "order_id": 1}], "order_id: the operation"),
        ([{"op": "cancel_all"}] * (ORDERS_MAX + 1), "at most"),
    ],
)
def test_what_is_no_message_is_named(orders: Any, text: str) -> None:
    with pytest.raises(Malformed, match=text):
        rows_of_orders(msgspec.msgpack.encode(orders), ACCOUNT, NOW, KEY)


@given(st.binary(max_size=400))
def test_any_bytes_are_orders_or_malformed(body: bytes) -> None:
    try:
        rows = rows_of_orders(body, ACCOUNT, NOW, KEY)
    except Malformed as error:
        assert str(error)
    else:
        assert (rows["account"] == ACCOUNT).all()


WORD = st.integers(-(1 << 63), (1 << 63) - 1)


@given(
    st.sampled_from((0, 1, 64, 100, 128, 192, 255, 256, -64, 1 << 40)),
    st.integers(0, 12),
    st.integers(0, 255),
    st.randoms(use_true_random=False),
)
def test_any_bytes_are_records_of_the_session_or_malformed(
    size: int, count: int, kind: int, rng: Any
) -> None:
    raw = bytearray(rng.randbytes(max(size, 0) % 4096 * count + rng.choice((0, 0, 0, 3))))
    if size in (64, 128, 192, 256):
        raw[56 : size * count : size] = bytes([kind]) * len(raw[56 : size * count : size])
    try:
        rows, others = rows_of_records(bytes(raw), size, ACCOUNT, NOW, KEY)
    except Malformed:
        assert size not in (64, 128, 192, 256) or len(raw) % size
        return
    assert len(rows) + len(others) == count
    assert (rows["account"] == ACCOUNT).all()
    assert set(rows["kind"].tolist()) <= {int(k) for k in OPERATIONS.values()}
    assert ((rows["lines"] >= 1) & (rows["lines"] <= min(size // 64, 3))).all()
    traced = rows[rows["lines"] == 3]
    assert (traced["key_id"] == KEY).all() and (traced["recv_ns"] == NOW).all()
    assert not traced["digest_hi"].any()
    whole = np.frombuffer(bytes(raw), np.uint8).reshape(count, size) if count else None
    for row, place in zip(rows, np.delete(np.arange(count), others), strict=True):
        assert whole is not None
        assert row.tobytes()[24:48] == whole[place, 24:48].tobytes()  # id, price, quantity


@given(st.lists(st.tuples(st.integers(1, 23), WORD, WORD), max_size=6), st.integers(-1, 1 << 40))
def test_reports_arrive_as_they_were(
    given_reports: list[tuple[int, int, int]], previous: int
) -> None:
    rows = np.zeros(len(given_reports), REPORT.dtype)
    words = rows.view(np.int64).reshape(-1, 8)
    for k, (kind, first, last) in enumerate(given_reports):
        rows["kind"][k], rows["seq"][k], rows["account"][k], rows["status"][k] = kind, k + 1, 9, 200
        words[k, 2], words[k, 7] = first, last
    indices = np.arange(len(rows), dtype=np.int64) * 3 + previous + 1
    _, before, told, raw = report_frames(rows, indices, previous, raw=True)
    assert int.from_bytes(before, "little", signed=True) == previous
    assert np.frombuffer(told, np.int64).tolist() == indices.tolist()
    assert np.frombuffer(raw, REPORT.dtype).tobytes() == rows.tobytes()
    _, body = report_frames(rows, indices, previous, raw=False)
    back, reports = msgspec.msgpack.decode(body, type=tuple[int, list[Report]])
    assert back == previous
    for k, report in enumerate(reports):
        assert report[:6] == (indices[k], k + 1, 9, 0, given_reports[k][0], 200)
        assert list(report[6:]) == words[k, 2:].tolist()
    assert codec.REPORTS == b"E" and ReportKind.ORDER == 1


# ---------------------------------------------------------------- sessions


def test_a_session_outlives_its_process(tmp_path: Path) -> None:
    path, wal = tmp_path / "sessions", (1, -2)
    memory = Sessions(path, 4, wal)
    row = memory.add(KEY, 77, ACCOUNT, set())
    memory.note(row, 1, 100, 3, OVERLOADED)
    memory.note(row, 2, 103, 5, OVERLOADED)
    memory.cut(row, 2, 4, OVERLOADED)
    memory.note(row, 3, 0, 0, FORBIDDEN)
    memory.note(row, 4, 107, 6, OVERLOADED)
    memory.arm(row, True)
    memory.close()
    again = Sessions(path, 4, wal)
    assert again.find(KEY, 77) == row and again.find(KEY + 1, 77) is None
    assert again.armed() == {row: ACCOUNT} and not again.settled and again.given == 112
    again.settle(109)  # it was killed while the last message went in
    assert [again.answer(row, number) for number in range(6)] == [
        None,
        Answer(100, 3, OVERLOADED),
        Answer(103, 4, OVERLOADED),
        Answer(0, 0, FORBIDDEN),
        Answer(107, 3, NOT_RUNNING),
        None,
    ]
    again.close()
    for other in ((1, -3), (0, 0)):
        fresh = Sessions(path, 4, other)
        assert fresh.find(KEY, 77) is None and fresh.settled and fresh.given == 0
        fresh.close()


def test_the_sessions_of_a_gateway_that_runs_are_left_alone(tmp_path: Path) -> None:
    """One of the same number that starts beside it, and would begin the file anew."""
    memory = Sessions(tmp_path / "sessions", 4, (0, 0))
    row = memory.add(KEY, 77, ACCOUNT, set())
    memory.arm(row, True)
    with pytest.raises(DataError, match="another gateway of this number runs"):
        Sessions(tmp_path / "sessions", 4, (1, 2))  # the first engine has started meanwhile
    assert memory.armed() == {row: ACCOUNT}
    memory.close()
    Sessions(tmp_path / "sessions", 4, (1, 2)).close()


def test_the_window_forgets_and_rows_are_used_again(tmp_path: Path) -> None:
    memory = Sessions(tmp_path / "sessions", OF_A_KEY_MAX + 2, (0, 0))
    rows = [memory.add(1, session, ACCOUNT, set()) for session in range(1, OF_A_KEY_MAX + 1)]
    for number in range(1, WINDOW + 2):
        memory.note(rows[0], number, number, 1, "")
    assert memory.answer(rows[0], 1) is None
    assert memory.answer(rows[0], 2) == Answer(2, 1, "")
    with pytest.raises(TooManySessions):
        memory.add(1, 1000, ACCOUNT, set(rows))
    # A row that is given to somebody else says nothing of who had it before.
    row = memory.add(1, 1000, ACCOUNT, set(rows[1:]))
    assert row == rows[0] and memory.last(row) == 0 and memory.answer(row, 2) is None
    assert memory.find(1, 1) is None
    others = [memory.add(2, session, ACCOUNT, set()) for session in (1, 2)]
    with pytest.raises(TooManySessions):
        memory.add(3, 1, ACCOUNT, {*rows, *others})
    assert memory.add(3, 1, ACCOUNT, {*rows, others[1]}) == others[0]
    memory.close()


def test_who_has_gone_is_not_read_for() -> None:
    """Until its silence has lasted: reports for it are neither kept behind nor read from the log."""
    context = zmq.Context()
    gateway = Gateway.__new__(Gateway)
    gateway._router = context.socket(zmq.ROUTER)
    gateway._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
    session = Session(b"\0gone", None, Hello(session=1), 0, (16,), 0.0)  # type: ignore[arg-type]
    gateway._sessions, gateway._behind = {session.identity: session}, {}
    gateway._loop = SimpleNamespace(time=lambda: 1.0)  # type: ignore[assignment]
    gateway._stream = SimpleNamespace(next=9)  # type: ignore[assignment]
    rows = np.zeros(2, REPORT.dtype)
    gateway._tell([session], rows, np.arange(2))
    assert session.away
    gateway._catch_up(session)  # has no log to read
    assert not gateway._behind
    gateway._tell([session], rows, np.arange(2, 4))
    assert not gateway._behind and session.last_index == -1
    session.barrier = object()  # type: ignore[assignment]
    gateway._check_current(session)
    assert session.barrier is not None and gateway._sessions, "its silence ends it, nothing else"
    context.destroy(linger=0)


@given(st.integers(1, 30), st.data())
def test_rows_are_picked_in_the_order_they_are_named(count: int, data: st.DataObject) -> None:
    rows = np.zeros(count, REPORT.dtype)
    rows["seq"] = np.arange(count)
    numbers = st.lists(st.integers(0, count - 1))
    runs = st.tuples(st.integers(0, count), st.integers(0, count)).map(lambda r: [*range(*r)])
    mixed = st.permutations(range(count))
    at = np.array(data.draw(st.one_of(numbers, runs, mixed)), np.int64)
    assert codec.picked(rows, at).tobytes() == rows[at].tobytes()
