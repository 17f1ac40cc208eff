"""Whatever bytes a producer puts into its ring: every slot is answered, nothing breaks, laws hold.

any bytes       hypothesis draws whole slots of 192 bytes
structured      sound commands with some fields at 0, +-1, the limits of their type
in bulk         the same by the hundred thousand, by numpy
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm.codes import AlgoType, Flag, Kind, Reason, ReportKind, Side, State, Status, Tif, Type
from shm.records import COMMAND, LEVERAGE_COMMAND, MARK_COMMAND, NO_SYMBOL, STATE_COMMAND
from shm.units import (
    EXPOSURE_QUANTA_MAX,
    MONEY_QUANTA_MAX,
    NOTIONAL_QUANTA_MAX,
    PRICE_TICKS_MAX,
    QTY_LOTS_MAX,
)
from tests.model.random_flow import ACCOUNTS, open_venue
from tests.venue import (
    ANN,
    BOB,
    CAT,
    CLOCK,
    DESK,
    GATEWAY,
    LIMITS,
    SECOND,
    Venue,
    check_laws,
    check_reports,
    command,
    exact,
)

PLAIN = os.environ.get("NUMBA_DISABLE_JIT") == "1"
CHECKED = os.environ.get("PERPCORE_BOUNDSCHECK") == "1"
BULK = 600 if PLAIN else 60_000 if CHECKED else 100_000

WORDS = 24  # of a slot
SPECIAL = np.array(
    [
        *(0, 1, -1, 2, 7, 100, 1000, 1001, 65535, 65536, 1 << 31, 1 << 32, -(1 << 32)),
        *(PRICE_TICKS_MAX, PRICE_TICKS_MAX + 1, QTY_LOTS_MAX, QTY_LOTS_MAX + 1),
        *(NOTIONAL_QUANTA_MAX, EXPOSURE_QUANTA_MAX, MONEY_QUANTA_MAX, MONEY_QUANTA_MAX + 1),
        *((1 << 63) - 1, -(1 << 63), -(1 << 63) + 1, 1 << 62),
        4_000_000_000_000_000_000,
        0x0101010101010101,
    ],
    np.int64,
)


def _names() -> tuple[list[str], list[str]]:
    """Fields of line 0 that are words, and those that are bytes."""
    line = COMMAND.dtype.fields or {}
    bytes_ = ["kind", "side", "type", "tif", "flags", "stp", "position_side", "lines"]
    words = [n for n in line if line[n][1] < 192 and line[n][0] == np.int64 and n not in bytes_]
    return words, bytes_


def templates() -> np.ndarray[Any, Any]:
    """A sound command of every kind."""
    somewhere = {"account": ANN, "symbol": 0}
    order = {**somewhere, "price_ticks": 1000, "qty_lots": 3}
    sound = [
        command(Kind.PLACE, **order, side=Side.BUY, client_id="a"),
        command(Kind.PLACE, **order, side=Side.SELL, lines=3),
        command(Kind.PLACE, **order, side=Side.SELL, tif=Tif.IOC),
        command(Kind.PLACE, **{**order, "price_ticks": 0}, type=Type.MARKET, side=Side.BUY),
        command(Kind.PLACE, **order, side=Side.SELL, flags=Flag.REDUCE_ONLY),
        command(Kind.PLACE, **order, tif=Tif.GTD, expire_ns=(1 << 62)),
        command(Kind.CANCEL, **somewhere, order_id=40),
        command(Kind.CANCEL, **somewhere, client_id="a"),
        command(Kind.AMEND, **order, order_id=40),
        command(Kind.AMEND, **order, client_id="a"),
        command(Kind.REDUCE, **somewhere, qty_lots=1, client_id="a"),
        command(Kind.CANCEL_ALL, account=ANN),
        command(Kind.CANCEL_SYMBOL, symbol=0),
        command(Kind.LEVERAGE, **somewhere, leverage=5),
        command(Kind.PLACE, **{**order, "account": CAT}, position_side=1, side=Side.BUY),
        command(Kind.PLACE, **{**order, "account": CAT}, position_side=2, side=Side.SELL),
        command(Kind.PLACE, **{**order, "account": BOB}, side=Side.SELL),
        command(Kind.MARGIN_TYPE, **somewhere, value=1),
        command(Kind.POSITION_MODE, account=ANN, value=1),
        command(Kind.POSITION_MARGIN, account=BOB, symbol=0, value=100),
        command(Kind.POSITION_MARGIN, account=BOB, symbol=0, value=-100),
        command(Kind.FEE_RATES, account=ANN, maker_fee_ppm=-10, taker_fee_ppm=400, own=1),
        command(Kind.DEPOSIT, account=ANN, amount_quanta=1000, client_id="d"),
        command(Kind.WITHDRAW, account=ANN, amount_quanta=1000),
        command(Kind.ASSET, asset=0, scale=6),
        command(Kind.ACCOUNT, account=ANN),
        command(
            Kind.SYMBOL,
            symbol=0,
            tick_lot_quanta=10,
            qty_lots_min=1,
            qty_lots_max=10_000,
            price_ticks_min=1,
            price_ticks_max=100_000,
            taker_fee_ppm=500,
            maker_fee_ppm=-100,
            leverage_max=100,
            leverage_default=10,
            orders_max=200,
        ),
        command(Kind.SYMBOL_STATE, symbol=0, state=0),
        command(Kind.VENUE_STATE, state=0),
        command(Kind.MARK, symbol=0, mark_ticks=1000),
        command(Kind.PLACE_ALGO, **order, type=AlgoType.STOP, trigger_ticks=990, side=Side.SELL),
        command(
            Kind.PLACE_ALGO,
            **{**order, "price_ticks": 0},
            type=AlgoType.TRAILING_STOP_MARKET,
            terms=1000 | 1 << 32 | 1 << 40,
            client_id="t",
        ),
        command(
            Kind.PLACE_ALGO,
            **somewhere,
            type=AlgoType.TAKE_PROFIT_MARKET,
            trigger_ticks=1005,
            side=Side.SELL,
            flags=Flag.CLOSE_POSITION,
        ),
        command(Kind.CANCEL_ALGO, **somewhere, order_id=40),
        command(Kind.CANCEL_ALGO, account=ANN, client_id="t"),
        command(Kind.CANCEL_ALGOS, account=ANN),
        command(Kind.COUNTDOWN, **somewhere, value=SECOND),
        command(Kind.REQUEST_WITHDRAW, account=ANN, amount_quanta=5, principal=1, client_id="w"),
        command(Kind.REQUEST_ADJUST, account=ANN, amount_quanta=-5, principal=1),
        command(Kind.APPROVE, account=ANN, reference=40, principal=2),
        command(Kind.REJECT, account=ANN, reference=40),
        command(Kind.SETTLE_WITHDRAW, account=ANN, reference=40, fee_quanta=1),
        command(Kind.TRANSFER, account=ANN, reference=BOB, amount_quanta=5),
        command(Kind.SETTLE_SYMBOL, symbol=0, settle_ticks=1000),
        command(Kind.TRIGGER, order_id=40),
        command(Kind.DELIST, symbol=0),
        command(Kind.UPGRADE, note=(2, 0, 0)),
        command(Kind.LEVERAGE, **somewhere, leverage=5, digest_hi=3, digest_lo=4),
        command(Kind.BOOKKEEPING, account=ANN, note=(1, 2, 3), note3=np.arange(8)),
        command(Kind.AUDIT, account=ANN, symbol=0, note2=np.arange(8)),
        command(Kind.TICK),
        command(
            Kind.CONTRACT,
            symbol=0,
            funding_interval_ns=SECOND,
            impact_quanta=30_000,
            interest_ppb=-900_000_000,
            funding_clamp_ppb=1_000_000,
            funding_cap_ppb=10_000_000,
            funding_floor_ppb=-10_000_000,
            mark_band_ppm=50_000,
            source_clamp_ppm=5_000,
            jump_ppm=100_000,
        ),
        command(Kind.SOURCE, symbol=0, source=1, weight=3),
        command(Kind.SOURCE_PRICE, symbol=0, source=1, source_ticks=1001, source_ns=1 << 61),
        command(Kind.SAMPLE, symbol=0),
        command(
            Kind.BRACKET,
            symbol=0,
            index=0,
            cap_quanta=1 << 50,
            maintenance_ppm=5_000,
            bracket_leverage_max=100,
        ),
        command(Kind.LIQUIDATE, account=ANN),
        command(Kind.LIQUIDATE, account=BOB, symbol=0),
        command(Kind.LIQUIDATION_ORDER, **somewhere, settle_lots=1, settle_ticks=1000),
        command(Kind.TAKEOVER, **somewhere),
        command(Kind.FUNDING, symbol=0),
        command(Kind.EXPIRE, **somewhere, order_id=40),
        command(Kind.CHECKPOINT),
        command(Kind.REFUSED),
    ]
    return np.concatenate(sound)


TEMPLATES = templates()


def slots_of(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(rows).view(np.int64).reshape(-1, 32)[:, :WORDS].copy()


def venue() -> Venue:
    return open_venue(Venue(matches=64, ingress_slots=256))


def take(v: Venue, slots: np.ndarray[Any, Any], ring: int = DESK) -> None:
    """Put slots into a ring and work them off; each must have had its answer."""
    before = len(v.log)
    for part in np.array_split(slots, -(-len(slots) // 128)):
        v.raw(part, ring)
        v.work()
    asked = [c for c in v.log[before:] if c["request"] >> 48 != 0]
    assert len(asked) == len(slots)


def sane(v: Venue) -> None:
    check_laws(v)
    check_reports(v)
    wallets = v.arrays["wallets"]
    assert (np.abs(wallets["wallet_quanta"]) < 1 << 62).all()
    assert (wallets["exposure_quanta"] <= EXPOSURE_QUANTA_MAX).all()


@given(
    st.lists(st.tuples(st.sampled_from((CLOCK, DESK, GATEWAY)), st.binary(min_size=192, max_size=192)), max_size=20)
)  # fmt: skip
def test_any_bytes(slots: list[tuple[int, bytes]]) -> None:
    v = venue()
    for ring, data in slots:
        take(v, np.frombuffer(data, np.int64).reshape(1, WORDS), ring)
    sane(v)


@st.composite
def mutated(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """A sound command with up to four fields of it at odd values."""
    row = TEMPLATES[draw(st.integers(0, len(TEMPLATES) - 1))].copy()
    slot = slots_of(row.reshape(1))[0]
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(("word", "byte", "account", "symbol")))
        if kind == "word":
            at = draw(st.integers(2, WORDS - 1))
            slot[at] = draw(st.sampled_from(SPECIAL.tolist()))
        elif kind == "byte":
            slot.view(np.uint8)[56 + draw(st.integers(0, 7))] = draw(st.integers(0, 255))
        elif kind == "account":
            slot.view(np.uint32)[12] = draw(
                st.sampled_from((0, 15, ANN, BOB, 31, 32, (1 << 32) - 1))
            )
        else:
            slot.view(np.uint16)[26] = draw(st.sampled_from((0, 3, 5, 6, NO_SYMBOL, 1 << 15)))
    return slot


@given(st.lists(st.tuples(st.sampled_from((DESK, DESK, GATEWAY)), mutated()), max_size=40))
def test_odd_fields(slots: list[tuple[int, Any]]) -> None:
    v = venue()
    for number, (ring, slot) in enumerate(slots):
        if slot[2] == 0:
            slot[2] = 1000 + number
        take(v, slot.reshape(1, WORDS), ring)
    sane(v)


@pytest.mark.parametrize("field", _names()[1])
def test_every_value_of_every_byte(field: str) -> None:
    v = venue()
    for template in TEMPLATES[:: 5 if PLAIN else 1]:
        rows = np.repeat(template.reshape(1), 256)
        rows[field] = np.arange(256)
        rows["request"] = v.numbers[DESK] + 1 + np.arange(256)
        v.numbers[DESK] += 256
        take(v, slots_of(rows))
        revive(v)
    sane(v)


@pytest.mark.parametrize("field", _names()[0])
def test_every_special_value_of_every_word(field: str) -> None:
    v = venue()
    for template in TEMPLATES[:: 5 if PLAIN else 1]:
        rows = np.repeat(template.reshape(1), len(SPECIAL))
        if field != "request":
            rows["request"] = v.numbers[DESK] + 1 + np.arange(len(SPECIAL))
            v.numbers[DESK] += len(SPECIAL)
        column = rows[field]
        column[...] = SPECIAL.reshape(-1, *[1] * (column.ndim - 1))
        take(v, slots_of(rows))
        if field != "request":
            revive(v)
    sane(v)


def revive(v: Venue) -> None:
    """Whatever has been halted trades again."""
    v.send(Kind.VENUE_STATE, state=State.TRADING)
    for symbol in range(4):
        v.send(Kind.SYMBOL_STATE, symbol=symbol, state=State.TRADING)
    for account in ACCOUNTS:
        v.send(Kind.ACCOUNT, account=account, state=State.TRADING)
        v.send(Kind.DEPOSIT, account=account, amount_quanta=100_000)
    v.work()


def bulk(rng: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    """Slots that are sound but for a few fields, more of them orders than anything else."""
    weights = np.where(TEMPLATES["kind"] == Kind.PLACE, 24.0, 1.0)
    rows = TEMPLATES[rng.choice(len(TEMPLATES), count, p=weights / weights.sum())]
    rows["account"] = rng.choice(ACCOUNTS, count)
    orders = (rows["kind"] <= Kind.REDUCE) | (rows["kind"] == Kind.MARK)
    rows["symbol"][orders] = rng.integers(0, 4, orders.sum())
    states = np.isin(rows["kind"], (Kind.ACCOUNT, Kind.SYMBOL_STATE, Kind.VENUE_STATE))
    states &= rng.random(count) < 0.05
    rows.view(STATE_COMMAND.dtype)["state"][states] = rng.integers(0, 4, states.sum())
    # It has one field to go wrong in, which is seldom hit else.
    levers = (rows["kind"] == Kind.LEVERAGE) & (rng.random(count) < 0.1)
    rows.view(LEVERAGE_COMMAND.dtype)["leverage"][levers] = rng.choice((-1, 0, 1001), levers.sum())
    marks = rows["kind"] == Kind.MARK
    rows.view(MARK_COMMAND.dtype)["mark_ticks"][marks] = rng.integers(950, 1050, marks.sum())
    placed = (rows["kind"] == Kind.PLACE) & (rows["price_ticks"] != 0)
    rows["price_ticks"][placed] = rng.integers(990, 1011, placed.sum())
    rows["qty_lots"][placed] = rng.integers(1, 20, placed.sum())
    rows["side"][placed] = rng.integers(0, 2, placed.sum())
    named = rows["client_id"][:, 0] != 0
    rows["client_id"][named, 0] = rng.integers(1, 300, named.sum())
    known = (rows["order_id"] != 0) & (rows["kind"] <= Kind.REDUCE)
    rows["order_id"][known] = rng.integers(1, 2 * count, known.sum())
    slots = slots_of(rows)
    for _ in range(3):
        odd = rng.random(count) < 0.06
        slots[odd, rng.integers(3, WORDS, odd.sum())] = rng.choice(SPECIAL, odd.sum())
        odd = rng.random(count) < 0.05
        at = np.flatnonzero(odd) * WORDS * 8 + 56 + rng.integers(0, 8, odd.sum())
        slots.reshape(-1).view(np.uint8)[at] = rng.integers(0, 256, odd.sum())
    odd = rng.random(count) < 0.01
    slots.view(np.uint32).reshape(count, -1)[odd, 12] = rng.integers(0, 40, odd.sum())
    odd = rng.random(count) < 0.01
    slots.view(np.uint16).reshape(count, -1)[odd, 26] = rng.integers(0, 8, odd.sum())
    slots[:, 2] = np.arange(count)
    slots[rng.random(count) < 0.01, 2] = 0
    return slots


@pytest.mark.parametrize("seed", [1, 2])
def test_in_bulk(seed: int, long_run: bool) -> None:
    rng = np.random.default_rng(seed)
    shards = 1 + seed % 3
    v = Venue(
        LIMITS._replace(orders=2048, clients=512),
        shards=shards,
        matches=32,
        reports=256,
        ingress_slots=256,
        seed=None if seed % 2 else seed,
    )
    open_venue(v)
    left = BULK * (10 if long_run else 1)
    heard = np.zeros(256, np.int64)
    while left > 0:
        count = min(left, 4096)
        slots = bulk(rng, count)
        slots[:, 2] += v.numbers[DESK] + 1
        v.numbers[DESK] += count
        start = len(v.log)
        take(v, slots)
        heard += np.bincount([int(c["reason"]) for c in v.log[start:]], minlength=256)
        revive(v)
        if rng.random() < 0.2:
            v.wait(int(rng.integers(1, 30)) * SECOND)
        check_laws(v)
        left -= count
    check_reports(v)
    if BULK >= 60_000:
        # The fuzz reaches the inside: every reason that risk has, but of tables that are full.
        rare = {Reason.UNKNOWN_ASSET, Reason.EXISTS, Reason.BAD_AMOUNT}
        rare |= {Reason.NOTIONAL_TOO_LARGE, Reason.CAPACITY}
        silent = {r for r in Reason if r < Reason.WOULD_TAKE and not heard[r]}
        assert silent <= rare, silent
        rows = v.all_reports()
        statuses = rows["status"][rows["kind"] == ReportKind.ORDER]
        # What has traded, EXEC reports say.
        assert set(statuses.tolist()) == set(Status) - {Status.PARTIALLY_FILLED, Status.FILLED}
        assert (rows["kind"] == ReportKind.EXEC).sum() > BULK // 20


# ---------------------------------------------------------------- arithmetic at its limits


def test_losses_as_large_as_can_be() -> None:
    """Sold at one tick and bought back at 2^42, again and again, from many: who loses stops before
    anything wraps, and so does who wins."""
    v = Venue(LIMITS)
    wide = {
        "tick_lot_quanta": 1,
        "price_ticks_max": PRICE_TICKS_MAX,
        "qty_lots_max": QTY_LOTS_MAX,
        "leverage_max": 1000,
        "leverage_default": 1000,
        "taker_fee_ppm": 1000,
        "orders_max": 1 << 40,
    }
    v.open_market(accounts=13, symbols=6, quanta=1 << 56, **wide)
    lots = 1 << 40
    most = NOTIONAL_QUANTA_MAX // PRICE_TICKS_MAX
    winners = [(symbol, ANN + 1 + 2 * symbol + k) for symbol in range(6) for k in range(2)]
    for symbol, who in winners:
        v.place(ANN, Side.SELL, 1, lots, symbol=symbol)
        v.place(who, Side.BUY, 1, lots, symbol=symbol)
    v.work()
    for _ in range(3):
        for symbol, who in winners:
            v.place(who, Side.SELL, PRICE_TICKS_MAX, most, symbol=symbol)
            v.place(ANN, Side.BUY, PRICE_TICKS_MAX, most, symbol=symbol)
            v.work()
            check_laws(v)
    wallets = exact(v.arrays["wallets"]["wallet_quanta"])
    assert min(wallets) < -MONEY_QUANTA_MAX, "nobody lost enough for this test"
    assert max(wallets) > MONEY_QUANTA_MAX // 2
    assert max(abs(w) for w in wallets) < 1 << 62
    refused = [r for r in v.heard() if r.get("reason") == "NOTIONAL_TOO_LARGE"]
    assert refused


@pytest.mark.parametrize("leverage", [1, 7, 1000])
@pytest.mark.parametrize("price", [1, 12345, PRICE_TICKS_MAX])
@pytest.mark.parametrize("unit", [1, 10**6])
def test_one_order_as_large_as_can_be(unit: int, price: int, leverage: int) -> None:
    """The largest order there may be, filled, marked and closed; and one lot more is refused."""
    v = Venue(LIMITS._replace(symbols=1))
    price = min(price, NOTIONAL_QUANTA_MAX // unit)
    most = min(NOTIONAL_QUANTA_MAX // unit // price, QTY_LOTS_MAX, NOTIONAL_QUANTA_MAX // unit)
    v.open_market(
        accounts=2,
        quanta=1 << 59,
        tick_lot_quanta=unit,
        price_ticks_max=price,
        qty_lots_max=min(QTY_LOTS_MAX, NOTIONAL_QUANTA_MAX // unit),
        leverage_max=1000,
        leverage_default=leverage,
        taker_fee_ppm=1000,
        maker_fee_ppm=-999,
    )
    v.heard()
    if most < min(QTY_LOTS_MAX, NOTIONAL_QUANTA_MAX // unit):
        v.place(ANN, Side.BUY, price, most + 1)
        assert v.drain()[0]["reason"] == "NOTIONAL_TOO_LARGE"
    lots = most if leverage > 3 else most // 3
    if lots == 0:
        return
    v.place(ANN, Side.BUY, price, lots)
    v.place(BOB, Side.SELL, price, lots)
    v.mark(1)
    v.mark(price)
    v.work()
    v.place(BOB, Side.BUY, price, lots)
    v.place(ANN, Side.SELL, price, lots)
    v.work()
    check_laws(v)
    told = [r for r in v.heard() if r["kind"] == "ORDER"]
    assert [r["status"] for r in told] == ["NEW"] * 4, told
    assert v.position(ANN)["lots"] == 0


def test_band_and_bound_at_the_highest_price() -> None:
    """Ten times the mark of 2^42: products that int64 could not hold."""
    v = Venue(LIMITS._replace(symbols=1))
    wide = {"price_ticks_max": PRICE_TICKS_MAX, "band_ppm": 10_000_000, "market_ppm": 10_000_000}
    v.open_market(accounts=2, quanta=1 << 58, tick_lot_quanta=1, qty_lots_max=100, **wide)
    v.mark(PRICE_TICKS_MAX)
    v.work()
    v.heard()
    v.place(ANN, Side.SELL, PRICE_TICKS_MAX, 10)
    v.place(BOB, Side.BUY, 1, 10)
    v.send(Kind.PLACE, account=BOB, symbol=0, side=Side.BUY, type=Type.MARKET, qty_lots=10)
    told = [(r["status"], r["reason"]) for r in v.drain() if r["kind"] == "ORDER"]
    assert told == [("NEW", "NONE")] * 3
    assert v.position(BOB)["lots"] == 10
    v.symbol(0, tick_lot_quanta=1, qty_lots_max=100, **{**wide, "band_ppm": 1})
    v.work()
    v.heard()
    least = PRICE_TICKS_MAX - PRICE_TICKS_MAX // 1_000_000
    v.place(ANN, Side.BUY, least, 1)
    v.place(ANN, Side.BUY, least - 1, 1)
    assert [r["reason"] for r in v.drain() if r["kind"] == "ORDER"] == ["NONE", "PRICE_BAND"]
    check_laws(v)
