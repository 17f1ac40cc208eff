"""Risk refuses for the first reason that applies, in the order of codes.Reason, and for no other.

Each kind of command has a table of faults: what makes it wrong, in the order in which it must be
found out. Every pair of faults is tried, and all at once, one taken away after the other.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from shm.codes import (
    Flag,
    Kind,
    MarginType,
    PositionMode,
    PositionSide,
    Reason,
    Side,
    State,
    Tif,
    Type,
)
from shm.records import NO_SYMBOL
from shm.units import MONEY_QUANTA_MAX, NOTIONAL_QUANTA_MAX, PRICE_TICKS_MAX, QTY_LOTS_MAX
from tests.venue import ANN, BOB, DESK, GATEWAY, LIMITS, Venue, check_laws

UNIT = 1_000_000
RICH = 10**13
ORDERS = 16
SMALL = LIMITS._replace(orders=ORDERS, leaves=32, trie=128)

# What the venue is like: keys that start with + are about it, all others are fields.
ENVELOPE = {
    Reason.DUPLICATE_REQUEST: {"request": 0},
    Reason.UNKNOWN_KIND: {"kind_byte": 200},
}
STATES = {
    Reason.VENUE_STATE: {"+venue": State.HALTED},
    Reason.SYMBOL_STATE: {"+symbol": State.HALTED},
    Reason.ACCOUNT_STATE: {"+account": State.HALTED},
}
WHERE = {
    Reason.UNKNOWN_ACCOUNT: {"account": 30},
    Reason.UNKNOWN_SYMBOL: {"symbol": 5},
}
ORDER = {"account": ANN, "symbol": 0, "price_ticks": 1000, "qty_lots": 10}
TOO_SMALL = {"+notional_quanta_min": 2000 * 10 * UNIT, "qty_lots": 10, "flags": 0}
TOO_LARGE = {"qty_lots": 2 * NOTIONAL_QUANTA_MAX // UNIT // 1000}
OPEN_ISOLATED = {"+long": 1, "+isolated": 1, "position_side": 0}  # money needs a position
OFF_BAND = {"+mark": 2000, "+band_ppm": 100_000, "price_ticks": 1000, "type": Type.LIMIT}

TABLES: dict[str, tuple[dict[str, Any], dict[Reason, dict[str, Any]]]] = {
    "PLACE": (
        {"kind": Kind.PLACE, **ORDER, "side": Side.BUY, "client_id": "n"},
        {
            **ENVELOPE,
            Reason.FORBIDDEN: {"ring": GATEWAY, "flags": Flag.NO_MATCH},
            Reason.MALFORMED: {"side": 9},
            **WHERE,
            **STATES,
            Reason.DUPLICATE_CLIENT_ID: {"+named": 1},
            Reason.BAD_PRICE: {"price_ticks": 1 << 50},
            Reason.BAD_QTY: {"qty_lots": 0},
            Reason.BAD_EXPIRY: {"tif": Tif.GTD, "expire_ns": 1},
            Reason.NO_REFERENCE_PRICE: {"type": Type.MARKET, "price_ticks": 0, "tif": Tif.GTC},
            Reason.NOTIONAL_TOO_SMALL: TOO_SMALL,
            Reason.NOTIONAL_TOO_LARGE: TOO_LARGE,
            Reason.PRICE_BAND: OFF_BAND,
            Reason.TOO_MANY_ORDERS: {"+orders_max": 1, "+resting": 1, "position_side": 0},
            Reason.REDUCE_ONLY: {"flags": Flag.REDUCE_ONLY},
            Reason.INSUFFICIENT_MARGIN: {"+money": 1000},
            Reason.CAPACITY: {"+full": 1},
            Reason.POSITION_MODE: {"position_side": PositionSide.LONG},
            Reason.LIQUIDATING: {"+liquidating": 1},
            Reason.BRACKET_NOTIONAL: {"+position_quanta_max": 9_999 * UNIT},
        },
    ),
    "AMEND": (
        {"kind": Kind.AMEND, **ORDER, "qty_lots": 12, "order_id": "resting", "+resting": 1},
        {
            **ENVELOPE,
            Reason.FORBIDDEN: {"ring": GATEWAY, "flags": Flag.REMAINING},
            Reason.MALFORMED: {"flags": Flag.KEEP_QTY},
            **WHERE,
            Reason.UNKNOWN_ORDER: {"order_id": 777},
            **STATES,
            Reason.BAD_PRICE: {"price_ticks": 0},
            Reason.BAD_QTY: {"qty_lots": 1 << 60},
            Reason.NOTIONAL_TOO_SMALL: {
                "+notional_quanta_min": 2000 * 10 * UNIT,
                "qty_lots": 11,
                "+reduce_only": 0,
            },
            Reason.NOTIONAL_TOO_LARGE: TOO_LARGE,
            Reason.PRICE_BAND: {"+mark": 1200, "+band_ppm": 100_000, "price_ticks": 1000},
            Reason.REDUCE_ONLY: {"+reduce_only": 1},
            Reason.INSUFFICIENT_MARGIN: {"+money": 1_000_000_100, "+reduce_only": 0},
        },
    ),
    "CANCEL": (
        {"kind": Kind.CANCEL, "account": ANN, "symbol": 0, "order_id": "resting", "+resting": 1},
        {
            **ENVELOPE,
            Reason.FORBIDDEN: {"ring": GATEWAY, "flags": Flag.UPSERT},
            Reason.MALFORMED: {"qty_lots": 5},
            **WHERE,
            Reason.UNKNOWN_ORDER: {"order_id": 777},
            **STATES,
        },
    ),
    "REDUCE": (
        {
            "kind": Kind.REDUCE,
            "account": ANN,
            "symbol": 0,
            "order_id": "resting",
            "qty_lots": 1,
            "+resting": 1,
        },
        {
            **ENVELOPE,
            Reason.MALFORMED: {"price_ticks": 5},
            **WHERE,
            Reason.UNKNOWN_ORDER: {"order_id": 777},
            **STATES,
            Reason.BAD_QTY: {"qty_lots": QTY_LOTS_MAX + 1},
        },
    ),
    "CANCEL_ALL": (
        {"kind": Kind.CANCEL_ALL, "account": ANN, "symbol": 0},
        {**ENVELOPE, **WHERE, **STATES},
    ),
    "LEVERAGE": (
        {"kind": Kind.LEVERAGE, "account": ANN, "symbol": 0, "leverage": 5},
        {
            **ENVELOPE,
            Reason.MALFORMED: {"leverage_reserved": 1},
            **WHERE,
            **STATES,
            Reason.BAD_LEVERAGE: {"leverage": 101},
            Reason.IN_USE: {"+resting": 1},
            Reason.INSUFFICIENT_MARGIN: {"+long": 1, "+money": 150_000_000_000, "+isolated": 0},
            Reason.OPEN_POSITION: {"+long": 1, "+isolated": 1},
        },
    ),
    "MARGIN_TYPE": (
        {"kind": Kind.MARGIN_TYPE, "account": ANN, "symbol": 0, "value": MarginType.ISOLATED},
        {
            **ENVELOPE,
            Reason.MALFORMED: {"setting_reserved2": 1},
            **WHERE,
            **STATES,
            Reason.BAD_PARAMETER: {"value": 2},
            Reason.NO_CHANGE: {"value": MarginType.CROSS},
            Reason.OPEN_ORDERS: {"+resting": 1},
            Reason.OPEN_POSITION: {"+long": 1},
        },
    ),
    "POSITION_MODE": (
        {"kind": Kind.POSITION_MODE, "account": ANN, "value": PositionMode.HEDGE},
        {
            **ENVELOPE,
            Reason.MALFORMED: {"position_side": PositionSide.LONG},
            Reason.UNKNOWN_ACCOUNT: {"account": 30},
            Reason.VENUE_STATE: {"+venue": State.HALTED},
            Reason.ACCOUNT_STATE: {"+account": State.HALTED},
            Reason.BAD_PARAMETER: {"value": -1},
            Reason.NO_CHANGE: {"value": PositionMode.ONE_WAY},
            Reason.OPEN_ORDERS: {"+resting": 1},
            Reason.OPEN_POSITION: {"+long": 1},
        },
    ),
    "POSITION_MARGIN": (
        {
            "kind": Kind.POSITION_MARGIN,
            "account": ANN,
            "symbol": 0,
            "value": UNIT,
            "+long": 1,
            "+isolated": 1,
        },
        {
            **ENVELOPE,
            Reason.MALFORMED: {"setting_reserved": 1},
            **WHERE,
            **STATES,
            Reason.BAD_AMOUNT: {"value": 0},
            Reason.INSUFFICIENT_MARGIN: {"value": -1, **OPEN_ISOLATED},
            Reason.INSUFFICIENT_BALANCE: {"value": RICH, **OPEN_ISOLATED},
            Reason.POSITION_MODE: {"position_side": PositionSide.SHORT},
            Reason.NO_POSITION: {"+long": 0, "+isolated": 1},
            Reason.CROSS_MARGIN: {"+long": 1, "+isolated": 0},
        },
    ),
    "FEE_RATES": (
        {"kind": Kind.FEE_RATES, "account": ANN, "maker_fee_ppm": -5, "taker_fee_ppm": 5, "own": 1},
        {
            **ENVELOPE,
            Reason.FORBIDDEN: {"ring": GATEWAY},
            Reason.MALFORMED: {"fee_reserved": 1},
            Reason.UNKNOWN_ACCOUNT: {"account": 30},
            Reason.BAD_PARAMETER: {"maker_fee_ppm": -6},
        },
    ),
    "DEPOSIT": (
        {"kind": Kind.DEPOSIT, "account": ANN, "amount_quanta": 10, "client_id": "n"},
        {
            **ENVELOPE,
            Reason.FORBIDDEN: {"ring": GATEWAY},
            Reason.MALFORMED: {"transfer_reserved": 1},
            Reason.UNKNOWN_ACCOUNT: {"account": 30},
            Reason.UNKNOWN_ASSET: {"asset": 1},
            Reason.VENUE_STATE: {"+venue": State.CLOSED},
            Reason.ACCOUNT_STATE: {"+account": State.CLOSED},
            Reason.DUPLICATE_CLIENT_ID: {"+named": 1},
            Reason.BAD_AMOUNT: {"amount_quanta": MONEY_QUANTA_MAX},
        },
    ),
    "WITHDRAW": (
        {"kind": Kind.WITHDRAW, "account": ANN, "amount_quanta": 10, "client_id": "n"},
        {
            **ENVELOPE,
            Reason.FORBIDDEN: {"ring": GATEWAY},
            Reason.MALFORMED: {"transfer_reserved": 1},
            Reason.UNKNOWN_ACCOUNT: {"account": 30},
            Reason.UNKNOWN_ASSET: {"asset": -1},
            Reason.VENUE_STATE: {"+venue": State.HALTED},
            Reason.ACCOUNT_STATE: {"+account": State.HALTED},
            Reason.DUPLICATE_CLIENT_ID: {"+named": 1},
            Reason.BAD_AMOUNT: {"amount_quanta": 0},
            Reason.INSUFFICIENT_BALANCE: {"amount_quanta": RICH + 1},
        },
    ),
    "ASSET": (
        {"kind": Kind.ASSET, "asset": 1, "scale": 6},
        {
            **ENVELOPE,
            Reason.FORBIDDEN: {"ring": GATEWAY},
            Reason.MALFORMED: {"asset_reserved2": 1},
            Reason.UNKNOWN_ASSET: {"asset": 2},
            Reason.BAD_PARAMETER: {"scale": 9},
            Reason.EXISTS: {"asset": 0},
        },
    ),
    "ACCOUNT": (
        {"kind": Kind.ACCOUNT, "account": 29},
        {
            **ENVELOPE,
            Reason.FORBIDDEN: {"ring": GATEWAY},
            Reason.MALFORMED: {"state_reserved": 1},
            Reason.UNKNOWN_ACCOUNT: {"account": 32},
            Reason.BAD_PARAMETER: {"state": State.ABSENT},
        },
    ),
    "SYMBOL_STATE": (
        {"kind": Kind.SYMBOL_STATE, "symbol": 0, "state": State.HALTED},
        {
            **ENVELOPE,
            Reason.FORBIDDEN: {"ring": GATEWAY},
            Reason.MALFORMED: {"state_reserved2": 1},
            Reason.UNKNOWN_SYMBOL: {"symbol": NO_SYMBOL},
            Reason.BAD_PARAMETER: {"cancel": 2},
        },
    ),
    "VENUE_STATE": (
        {"kind": Kind.VENUE_STATE, "state": State.HALTED},
        {
            **ENVELOPE,
            Reason.FORBIDDEN: {"ring": GATEWAY},
            Reason.MALFORMED: {"state_reserved2": 1},
            Reason.BAD_PARAMETER: {"state": -1},
        },
    ),
    "MARK": (
        {"kind": Kind.MARK, "symbol": 0, "mark_ticks": 5},
        {
            **ENVELOPE,
            Reason.FORBIDDEN: {"ring": GATEWAY},
            Reason.MALFORMED: {"mark_reserved2": 1},
            Reason.UNKNOWN_SYMBOL: {"symbol": 5},
            Reason.BAD_PRICE: {"mark_ticks": 0},
        },
    ),
}
SYMBOL = {
    "tick_lot_quanta": UNIT,
    "asset": 0,
    "qty_lots_min": 1,
    "qty_lots_max": QTY_LOTS_MAX // 64,
    "price_ticks_min": 1,
    "price_ticks_max": 100_000,
    "leverage_max": 100,
    "leverage_default": 10,
    "orders_max": 200,
    "market_ppm": 10_000,
}
TABLES["SYMBOL"] = (
    {"kind": Kind.SYMBOL, "symbol": 0, **SYMBOL},
    {
        **ENVELOPE,
        Reason.FORBIDDEN: {"ring": GATEWAY},
        Reason.MALFORMED: {"symbol_reserved": 1},
        Reason.UNKNOWN_SYMBOL: {"symbol": 6},
        Reason.UNKNOWN_ASSET: {"asset": 1},
        Reason.BAD_PARAMETER: {"price_ticks_min": 0},
        Reason.IN_USE: {"tick_lot_quanta": UNIT + 1},
    },
)


def reason_of(fields: dict[str, Any]) -> Reason:
    """What a venue answers to the command."""
    fields = dict(fields)
    world = {name[1:]: fields.pop(name) for name in list(fields) if name[0] == "+"}
    v = Venue(SMALL)
    v.asset()
    symbol = {**SYMBOL, **{name: x for name, x in world.items() if name in ("band_ppm",)}}
    v.symbol(0, **symbol)
    for account in (ANN, BOB):
        v.account(account, RICH)
    v.work()
    resting = 0
    if world.get("isolated"):
        v.send(Kind.MARGIN_TYPE, account=ANN, symbol=0, value=MarginType.ISOLATED)
    if world.get("long") or world.get("reduce_only"):
        v.place(ANN, Side.BUY, 1000, 1000)
        v.place(BOB, Side.SELL, 1000, 1000)
        v.work()
    if world.get("resting"):
        flags = Flag.REDUCE_ONLY if world.get("reduce_only") else 0
        side = Side.SELL if world.get("reduce_only") else Side.BUY
        v.place(ANN, side, 1000, 10, flags=flags)
        v.work()
        resting = int(v.log[-1]["seq"])
    if world.get("named"):
        v.send(Kind.DEPOSIT, account=ANN, amount_quanta=1, client_id="n")
    if world.get("full"):
        for _ in range(ORDERS):
            v.place(BOB, Side.BUY, 500, 1)
    if "mark" in world:
        v.mark(world["mark"])
    if "position_quanta_max" in world:
        v.arrays["contracts"]["position_quanta_max"][0] = world["position_quanta_max"]
    late = {n: world[n] for n in ("notional_quanta_min", "orders_max") if n in world}
    if late:
        v.symbol(0, **{**symbol, **late})
    if "money" in world:
        v.work()
        left = v.wallet(ANN)["wallet_quanta"] - world["money"]
        v.send(Kind.WITHDRAW, account=ANN, amount_quanta=left)
    v.work()
    if "account" in world:
        v.send(Kind.ACCOUNT, account=ANN, state=world["account"])
    if "symbol" in world:
        v.send(Kind.SYMBOL_STATE, symbol=0, state=world["symbol"])
    if "venue" in world:
        v.send(Kind.VENUE_STATE, state=world["venue"])
    v.work()
    if fields.get("order_id") == "resting":
        fields["order_id"] = resting
    ring = fields.pop("ring", DESK)
    kind = fields.pop("kind")
    if ring == GATEWAY and fields.get("request") == 0:
        v.numbers[GATEWAY] = 5
    byte = fields.pop("kind_byte", kind)
    liquidation = v.arrays["wallets"]["liquidation"]
    liquidation[ANN * v.limits.assets] = int("liquidating" in world)
    v.send(kind, ring=ring, **fields)
    v.outbox[ring][-1]["kind"] = byte
    v.work()
    liquidation[ANN * v.limits.assets] = 0
    check_laws(v)
    return Reason(int(v.log[-1]["reason"]))


def combined(base: dict[str, Any], faults: tuple[dict[str, Any], ...]) -> dict[str, Any] | None:
    """The command with all of these faults; None when two of them want different things."""
    fields: dict[str, Any] = {}
    for fault in faults:
        for name, value in fault.items():
            if fields.setdefault(name, value) != value:
                return None
    return {**base, **fields}


@pytest.mark.parametrize("name", TABLES)
def test_each_fault_is_found(name: str) -> None:
    base, faults = TABLES[name]
    assert reason_of(base) == Reason.NONE
    for reason, fault in faults.items():
        assert reason_of({**base, **fault}) == reason, fault


@pytest.mark.parametrize("name", TABLES)
def test_of_two_faults_the_first_in_the_enumeration_is_named(name: str) -> None:
    base, faults = TABLES[name]
    assert list(faults) == sorted(faults), "the table is in checking order"
    tried = 0
    for (first, a), (_second, b) in combinations(faults.items(), 2):
        fields = combined(base, (a, b))
        if fields is not None:
            assert reason_of(fields) == first, (a, b)
            tried += 1
    assert tried >= len(faults) - 1


@pytest.mark.parametrize("name", TABLES)
def test_as_faults_are_mended_the_next_one_shows(name: str) -> None:
    base, faults = TABLES[name]
    left = list(faults.items())
    while left:
        chosen: list[tuple[Reason, dict[str, Any]]] = []
        for reason, fault in left:  # as many as can stand together, the first among them
            if combined(base, (*(f for _, f in chosen), fault)) is not None:
                chosen.append((reason, fault))
        fields = combined(base, tuple(f for _, f in chosen))
        assert fields is not None
        assert reason_of(fields) == chosen[0][0]
        left.pop(0)


# ---------------------------------------------------------------- parameters of a symbol

LIMIT = 1 << 63
PARAMETERS = """
    field                least      largest
    tick_lot_quanta      1          11529215046068   2^60 / 100,000, its highest price
    state                0          3
    qty_lots_min         1          100000           no more than the largest
    qty_lots_max         1          1152921504606    2^60 / 10^6, the unit
    notional_quanta_min  0          1152921504606846976
    price_ticks_min      1          100000           no more than the highest
    price_ticks_max      1          1152921504606
    band_ppm             0          10000000
    market_ppm           0          10000000
    taker_fee_ppm        0          1000000
    maker_fee_ppm        -500       1000000          no rebate larger than the taker's fee
    leverage_max         10         1000             no less than the default
    leverage_default     1          100
    orders_max           1          9223372036854775807
"""


@pytest.mark.parametrize("line", PARAMETERS.strip().splitlines()[1:], ids=lambda s: s.split()[0])
def test_limits_of_a_symbols_parameters(line: str) -> None:
    field, least, largest = line.split()[0], *map(int, line.split()[1:3])
    for value in {least, largest, least - 1, largest + 1, -1, -LIMIT, LIMIT - 1, 0}:
        if not -LIMIT <= value < LIMIT:
            continue
        v = Venue(SMALL)
        v.asset()
        v.drain()
        fields = {**SYMBOL, "taker_fee_ppm": 500, "qty_lots_max": 100_000, field: value}
        told = v.do(Kind.SYMBOL, symbol=1, **fields)[0]["reason"]
        assert told == ("NONE" if least <= value <= largest else "BAD_PARAMETER"), value
        assert largest < PRICE_TICKS_MAX or field in (
            "notional_quanta_min",
            "orders_max",
            "price_ticks_max",
            "tick_lot_quanta",
        )


def test_hold_prices_of_amended_orders_follow() -> None:
    """A REDUCE of many keeps the hold of the rest, to the quantum that rounding costs."""
    v = Venue().open_market(quanta=10**9)
    v.place(ANN, Side.BUY, 997, 1000)
    v.work()
    order_id = int(v.log[-1]["seq"])
    for left in range(999, 0, -37):
        claim = v.claim(order_id)
        assert claim
        v.send(
            Kind.REDUCE,
            account=ANN,
            symbol=0,
            order_id=order_id,
            qty_lots=claim["open_lots"] - left,
        )
        v.work()
        claim = v.claim(order_id)
        assert claim and claim["open_lots"] == left
        assert 0 <= 997 * left - claim["hold_quanta"] <= 28
        check_laws(v)
