"""Each field of each command at 0, +-1 and the ends of its type: taken, or refused for its reason.

A row of the table names the values of these five that are fine, and what the others are refused
for. Fields that are reserved, and codes of orders where there is no order, need no row: anything
but 0 is MALFORMED. What has no row and no such rule makes the last test fail.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pytest

from engine.recovery import kept_tables
from shm.codes import AlgoType, Flag, Kind, PositionMode, Side, State
from shm.kinds import COMMAND_RECORDS, command
from shm.records import COMMAND
from tests.venue import ANN, BOB, CAT, GATEWAY, SECOND, Venue

MOST, LEAST = (1 << 63) - 1, -(1 << 63)
SPECIAL: Final = {"0": 0, "1": 1, "-1": -1, "max": MOST, "min": LEAST}
ORDER: Final = {"account": ANN, "symbol": 0, "price_ticks": 1000, "qty_lots": 3}
WHERE: Final = {"account": ANN, "symbol": 0}
SYMBOL: Final = {
    "symbol": 0,
    "name": "BTC",
    "asset": 0,
    "tick_lot_quanta": 10,
    "qty_lots_min": 1,
    "qty_lots_max": 10_000,
    "price_ticks_min": 1,
    "price_ticks_max": 100_000,
    "leverage_max": 100,
    "leverage_default": 10,
    "orders_max": 200,
    "taker_fee_ppm": 500,
}
BRACKET: Final = {"cap_quanta": 1 << 50, "maintenance_ppm": 5000, "bracket_leverage_max": 100}
CONTRACT: Final = {"symbol": 0, "funding_interval_ns": SECOND, "funding_floor_ppb": -1}
SOUND: Final[dict[str, tuple[Kind, dict[str, Any]]]] = {
    "PLACE": (Kind.PLACE, {**ORDER, "side": Side.BUY}),
    "CANCEL": (Kind.CANCEL, {**WHERE, "order_id": "resting"}),
    "AMEND": (Kind.AMEND, {**ORDER, "order_id": "resting"}),
    "REDUCE": (Kind.REDUCE, {**WHERE, "order_id": "resting", "qty_lots": 1}),
    "CANCEL_ALL": (Kind.CANCEL_ALL, WHERE),
    "CANCEL_SYMBOL": (Kind.CANCEL_SYMBOL, {"symbol": 0}),
    "LEVERAGE": (Kind.LEVERAGE, {"account": CAT, "symbol": 0, "leverage": 5}),
    "STOP": (
        Kind.PLACE_ALGO,
        {**ORDER, "type": AlgoType.STOP, "side": Side.SELL, "trigger_ticks": 990},
    ),
    "CLOSE": (
        Kind.PLACE_ALGO,
        {
            **WHERE,
            "type": AlgoType.STOP_MARKET,
            "side": Side.SELL,
            "trigger_ticks": 990,
            "flags": Flag.CLOSE_POSITION,
        },
    ),
    "TRAIL": (
        Kind.PLACE_ALGO,
        {
            **WHERE,
            "type": AlgoType.TRAILING_STOP_MARKET,
            "side": Side.SELL,
            "qty_lots": 3,
            "terms": 1000 | 1 << 32,
        },
    ),
    "CANCEL_ALGO": (Kind.CANCEL_ALGO, {**WHERE, "order_id": "waiting"}),
    "CANCEL_ALGOS": (Kind.CANCEL_ALGOS, {"account": ANN}),
    "COUNTDOWN": (Kind.COUNTDOWN, {**WHERE, "value": SECOND}),
    "MARGIN_TYPE": (Kind.MARGIN_TYPE, {"account": CAT, "symbol": 0, "value": 1}),
    "POSITION_MODE": (Kind.POSITION_MODE, {"account": CAT, "value": PositionMode.HEDGE}),
    "POSITION_MARGIN": (Kind.POSITION_MARGIN, {"account": BOB, "symbol": 0, "value": 10}),
    "DEPOSIT": (Kind.DEPOSIT, {"account": ANN, "amount_quanta": 5}),
    "WITHDRAW": (Kind.WITHDRAW, {"account": ANN, "amount_quanta": 5}),
    "REQUEST_WITHDRAW": (Kind.REQUEST_WITHDRAW, {"account": ANN, "amount_quanta": 5}),
    "REQUEST_ADJUST": (Kind.REQUEST_ADJUST, {"account": ANN, "amount_quanta": -5}),
    "APPROVE": (Kind.APPROVE, {"account": ANN, "reference": "asked", "principal": 7}),
    "REJECT": (Kind.REJECT, {"account": ANN, "reference": "asked"}),
    "SETTLE_WITHDRAW": (Kind.SETTLE_WITHDRAW, {"account": ANN, "reference": "approved"}),
    "TRANSFER": (Kind.TRANSFER, {"account": ANN, "reference": BOB, "amount_quanta": 5}),
    "FEE_RATES": (Kind.FEE_RATES, {"account": ANN, "taker_fee_ppm": 5, "own": 1}),
    "BOOKKEEPING": (Kind.BOOKKEEPING, {"account": ANN}),
    "AUDIT": (Kind.AUDIT, {"account": ANN}),
    "UPGRADE": (Kind.UPGRADE, {"note": (2, 0, 0)}),
    "ASSET": (Kind.ASSET, {"asset": 1, "scale": 6, "name": "USDC"}),
    "ACCOUNT": (Kind.ACCOUNT, {"account": 29}),
    "SYMBOL": (Kind.SYMBOL, SYMBOL),
    "SYMBOL_STATE": (Kind.SYMBOL_STATE, {"symbol": 0, "state": State.TRADING}),
    "VENUE_STATE": (Kind.VENUE_STATE, {"state": State.TRADING}),
    "MARK": (Kind.MARK, {"symbol": 0, "mark_ticks": 1000}),
    "CONTRACT": (Kind.CONTRACT, CONTRACT),
    "BRACKET": (Kind.BRACKET, {"symbol": 0, "index": 0, **BRACKET}),
    "SOURCE": (Kind.SOURCE, {"symbol": 0, "source": 1, "weight": 3}),
    "SOURCE_PRICE": (
        Kind.SOURCE_PRICE,
        {"symbol": 0, "source": 0, "source_ticks": 1000, "source_ns": "now"},
    ),
    "SETTLE_SYMBOL": (Kind.SETTLE_SYMBOL, {"symbol": 1, "settle_ticks": 1000}),
    "TICK": (Kind.TICK, {}),
    "SAMPLE": (Kind.SAMPLE, {"symbol": 0}),
    "LIQUIDATE": (Kind.LIQUIDATE, {"account": ANN}),
}


def world() -> tuple[Venue, dict[str, int]]:
    """Orders, positions, requests and sources to name in commands."""
    v = Venue().open_market(symbols=2)
    v.mark(1000)
    v.send(Kind.CONTRACT, symbol=0)
    v.send(Kind.SOURCE, symbol=0, source=0, weight=1)
    v.send(Kind.MARGIN_TYPE, account=BOB, symbol=0, value=1)
    v.work()
    v.place(ANN, Side.SELL, 1000, 20)
    v.place(BOB, Side.BUY, 1000, 20)
    v.send(Kind.SYMBOL_STATE, symbol=1, state=State.HALTED)
    v.work()
    seqs = []
    for kind, fields in (
        (Kind.PLACE, {**ORDER, "price_ticks": 900}),
        (Kind.PLACE_ALGO, SOUND["STOP"][1]),
        (Kind.REQUEST_WITHDRAW, {"account": ANN, "amount_quanta": 5}),
        (Kind.REQUEST_WITHDRAW, {"account": ANN, "amount_quanta": 5}),
    ):
        v.send(kind, **fields)
        v.work()
        seqs.append(len(v.log))
    v.send(Kind.APPROVE, account=ANN, reference=seqs[3], principal=9)
    v.work()
    v.heard()
    names = ("resting", "waiting", "asked", "approved")
    return v, {**dict(zip(names, seqs, strict=True)), "now": v.now}


def sound(name: str, ids: dict[str, int]) -> np.ndarray[Any, Any]:
    kind, fields = SOUND[name]
    named = {k: ids[x] if isinstance(x, str) and x in ids else x for k, x in fields.items()}
    row = command(kind, **named)
    row["lines"] = 3
    return row


def ask(v: Venue, row: np.ndarray[Any, Any]) -> str:
    """What a venue answers to a row."""
    v.send_rows(row)
    return str(v.drain()[0]["reason"])


def fields_of(name: str) -> list[str]:
    """What a client may say in a command of this kind; its envelope and origin left out."""
    layout = COMMAND_RECORDS.get(SOUND[name][0], COMMAND)
    mine = [f.name for f in layout.fields if layout.offset(f.name) < 192]
    return [n for n in mine if n not in ENVELOPE]


ENVELOPE = {
    *("seq", "ts_ns", "request", "kind", "lines", "settled_lag"),
    *("trace_hi", "trace_lo", "digest_hi", "digest_lo", "key_id", "recv_ns", "origin_reserved"),
}

TABLE = """
  command          | field                | fine         | else
  PLACE            | price_ticks          | 1            | BAD_PRICE
  PLACE            | qty_lots             | 1            | BAD_QTY
  PLACE            | account              |              | INSUFFICIENT_MARGIN UNKNOWN_ACCOUNT
  PLACE            | symbol               | 0            | SYMBOL_STATE UNKNOWN_SYMBOL
  PLACE            | side                 | 0 1          | MALFORMED
  PLACE            | type                 | 0            | BAD_PRICE MALFORMED
  PLACE            | tif                  | 0 1          | MALFORMED
  PLACE            | flags                | 0 1          | MALFORMED
  PLACE            | stp                  | 0 1          | MALFORMED
  PLACE            | position_side        | 0            | POSITION_MODE MALFORMED
  PLACE            | expire_ns            | 0            | BAD_EXPIRY
  CANCEL           | order_id             |              | UNKNOWN_ORDER
  CANCEL           | account              |              | UNKNOWN_ORDER UNKNOWN_ACCOUNT
  CANCEL           | symbol               | 0            | UNKNOWN_ORDER UNKNOWN_SYMBOL
  AMEND            | order_id             |              | UNKNOWN_ORDER
  AMEND            | price_ticks          | 1            | BAD_PRICE
  AMEND            | qty_lots             | 1            | BAD_QTY
  AMEND            | account              |              | UNKNOWN_ORDER UNKNOWN_ACCOUNT
  AMEND            | symbol               | 0            | UNKNOWN_ORDER UNKNOWN_SYMBOL
  REDUCE           | order_id             |              | UNKNOWN_ORDER
  REDUCE           | qty_lots             | 1            | BAD_QTY
  REDUCE           | account              |              | UNKNOWN_ORDER UNKNOWN_ACCOUNT
  REDUCE           | symbol               | 0            | UNKNOWN_ORDER UNKNOWN_SYMBOL
  CANCEL_ALL       | account              | 0 1          | UNKNOWN_ACCOUNT
  CANCEL_ALL       | symbol               | 0 max        | SYMBOL_STATE
  CANCEL_SYMBOL    | symbol               | 0 1          | UNKNOWN_SYMBOL
  LEVERAGE         | leverage             | 1            | BAD_LEVERAGE
  LEVERAGE         | account              | 0 1          | UNKNOWN_ACCOUNT
  LEVERAGE         | symbol               | 0            | SYMBOL_STATE UNKNOWN_SYMBOL
  STOP             | trigger_ticks        | 1            | BAD_TRIGGER
  STOP             | price_ticks          | 1            | BAD_PRICE
  STOP             | qty_lots             | 1            | BAD_QTY
  STOP             | account              | 0 1          | UNKNOWN_ACCOUNT
  STOP             | symbol               | 0            | SYMBOL_STATE UNKNOWN_SYMBOL
  STOP             | side                 | 1            | IMMEDIATE_TRIGGER MALFORMED
  STOP             | type                 | 0            | BAD_PRICE MALFORMED
  STOP             | tif                  | 0 1          | MALFORMED
  STOP             | flags                | 0 1          | MALFORMED
  STOP             | stp                  | 0 1          | MALFORMED
  STOP             | position_side        | 0            | POSITION_MODE MALFORMED
  STOP             | expire_ns            | 0            | BAD_EXPIRY
  CLOSE            | trigger_ticks        | 1            | BAD_TRIGGER
  CLOSE            | price_ticks          | 0            | BAD_PRICE
  CLOSE            | qty_lots             | 0            | BAD_QTY
  CLOSE            | account              | 0 1          | UNKNOWN_ACCOUNT
  CLOSE            | symbol               | 0            | SYMBOL_STATE UNKNOWN_SYMBOL
  CLOSE            | side                 | 1            | IMMEDIATE_TRIGGER MALFORMED
  CLOSE            | type                 | 1            | MALFORMED
  CLOSE            | tif                  | 0 1          | MALFORMED
  CLOSE            | flags                |              | BAD_QTY MALFORMED
  CLOSE            | stp                  | 0 1          | MALFORMED
  CLOSE            | position_side        | 0            | POSITION_MODE MALFORMED
  CLOSE            | expire_ns            | 0            | BAD_EXPIRY
  TRAIL            | price_ticks          | 0            | BAD_PRICE
  TRAIL            | qty_lots             | 1            | BAD_QTY
  TRAIL            | account              | 0 1          | UNKNOWN_ACCOUNT
  TRAIL            | symbol               | 0            | SYMBOL_STATE UNKNOWN_SYMBOL
  TRAIL            | side                 | 0 1          | MALFORMED
  TRAIL            | type                 |              | MALFORMED
  TRAIL            | tif                  | 0 1          | MALFORMED
  TRAIL            | flags                | 0 1          | MALFORMED
  TRAIL            | stp                  | 0 1          | MALFORMED
  TRAIL            | position_side        | 0            | POSITION_MODE MALFORMED
  TRAIL            | expire_ns            | 0            | BAD_EXPIRY
  TRAIL            | activate_ticks       | 0            | IMMEDIATE_TRIGGER BAD_TRIGGER
  TRAIL            | terms                |              | BAD_TRIGGER MALFORMED
  CANCEL_ALGO      | order_id             |              | UNKNOWN_ORDER
  CANCEL_ALGO      | account              |              | UNKNOWN_ORDER UNKNOWN_ACCOUNT
  CANCEL_ALGO      | symbol               | 0 max        | UNKNOWN_ORDER
  CANCEL_ALGOS     | account              | 0 1          | UNKNOWN_ACCOUNT
  CANCEL_ALGOS     | symbol               | 0 max        | SYMBOL_STATE
  COUNTDOWN        | value                | 0 1          | BAD_PARAMETER
  COUNTDOWN        | account              | 0 1          | UNKNOWN_ACCOUNT
  COUNTDOWN        | symbol               | 0            | SYMBOL_STATE UNKNOWN_SYMBOL
  MARGIN_TYPE      | value                | 1            | NO_CHANGE BAD_PARAMETER
  MARGIN_TYPE      | account              | 0 1          | UNKNOWN_ACCOUNT
  MARGIN_TYPE      | symbol               | 0            | SYMBOL_STATE UNKNOWN_SYMBOL
  POSITION_MODE    | value                | 1            | NO_CHANGE BAD_PARAMETER
  POSITION_MODE    | account              | 0 1          | UNKNOWN_ACCOUNT
  POSITION_MARGIN  | value                | 1            | BAD_AMOUNT INSUFFICIENT_MARGIN
  POSITION_MARGIN  | account              |              | NO_POSITION UNKNOWN_ACCOUNT
  POSITION_MARGIN  | symbol               | 0            | SYMBOL_STATE UNKNOWN_SYMBOL
  POSITION_MARGIN  | position_side        | 0            | POSITION_MODE MALFORMED
  DEPOSIT          | amount_quanta        | 1            | BAD_AMOUNT
  DEPOSIT          | asset                | 0            | UNKNOWN_ASSET
  DEPOSIT          | account              | 0 1          | UNKNOWN_ACCOUNT
  WITHDRAW         | amount_quanta        | 1            | BAD_AMOUNT
  WITHDRAW         | asset                | 0            | UNKNOWN_ASSET
  WITHDRAW         | account              |              | INSUFFICIENT_BALANCE UNKNOWN_ACCOUNT
  REQUEST_WITHDRAW | amount_quanta        | 1            | BAD_AMOUNT
  REQUEST_WITHDRAW | asset                | 0            | UNKNOWN_ASSET
  REQUEST_WITHDRAW | account              |              | INSUFFICIENT_BALANCE UNKNOWN_ACCOUNT
  REQUEST_ADJUST   | amount_quanta        | 1 -1         | BAD_AMOUNT
  REQUEST_ADJUST   | asset                | 0            | UNKNOWN_ASSET
  REQUEST_ADJUST   | account              | 0 1          | UNKNOWN_ACCOUNT
  APPROVE          | reference            |              | UNKNOWN_REQUEST
  APPROVE          | account              |              | UNKNOWN_REQUEST UNKNOWN_ACCOUNT
  APPROVE          | principal            | 1 -1 max min | SAME_PRINCIPAL
  REJECT           | reference            |              | UNKNOWN_REQUEST
  REJECT           | account              |              | UNKNOWN_REQUEST UNKNOWN_ACCOUNT
  SETTLE_WITHDRAW  | reference            |              | UNKNOWN_REQUEST
  SETTLE_WITHDRAW  | account              |              | UNKNOWN_REQUEST UNKNOWN_ACCOUNT
  SETTLE_WITHDRAW  | fee_quanta           | 0 1          | BAD_AMOUNT
  TRANSFER         | amount_quanta        | 1            | BAD_AMOUNT
  TRANSFER         | asset                | 0            | UNKNOWN_ASSET
  TRANSFER         | reference            | 0 1          | UNKNOWN_ACCOUNT
  TRANSFER         | account              |              | INSUFFICIENT_BALANCE UNKNOWN_ACCOUNT
  FEE_RATES        | maker_fee_ppm        | 0 1 -1       | BAD_PARAMETER
  FEE_RATES        | taker_fee_ppm        | 0 1          | BAD_PARAMETER
  FEE_RATES        | own                  | 1            | BAD_PARAMETER
  FEE_RATES        | account              | 0 1          | UNKNOWN_ACCOUNT
  BOOKKEEPING      | account              | 0 1          | UNKNOWN_ACCOUNT
  AUDIT            | account              | 0 1          | UNKNOWN_ACCOUNT
  UPGRADE          | account              | 0 1          | UNKNOWN_ACCOUNT
  ASSET            | asset                | 1            | EXISTS UNKNOWN_ASSET
  ASSET            | scale                | 0 1          | BAD_PARAMETER
  ACCOUNT          | state                | 0 1          | BAD_PARAMETER
  ACCOUNT          | cancel               | 0 1          | BAD_PARAMETER
  ACCOUNT          | account              | 0 1          | UNKNOWN_ACCOUNT
  SYMBOL           | tick_lot_quanta      |              | BAD_PARAMETER IN_USE
  SYMBOL           | asset                | 0            | UNKNOWN_ASSET
  SYMBOL           | state                | 0 1          | BAD_PARAMETER
  SYMBOL           | symbol               | 0 1          | UNKNOWN_SYMBOL
  SYMBOL           | qty_lots_min         | 1            | BAD_PARAMETER
  SYMBOL           | qty_lots_max         | 1            | BAD_PARAMETER
  SYMBOL           | notional_quanta_min  | 0 1          | BAD_PARAMETER
  SYMBOL           | price_ticks_min      | 1            | BAD_PARAMETER
  SYMBOL           | price_ticks_max      |              | BAD_PARAMETER IN_USE
  SYMBOL           | band_ppm             | 0 1          | BAD_PARAMETER
  SYMBOL           | market_ppm           | 0 1          | BAD_PARAMETER
  SYMBOL           | maker_fee_ppm        | 0 1 -1       | BAD_PARAMETER
  SYMBOL           | taker_fee_ppm        | 0 1          | BAD_PARAMETER
  SYMBOL           | leverage_max         |              | BAD_PARAMETER
  SYMBOL           | leverage_default     | 1            | BAD_PARAMETER
  SYMBOL           | orders_max           | 1 max        | BAD_PARAMETER
  SYMBOL           | tick_quanta          | 0 1 max      | BAD_PARAMETER
  SYMBOL_STATE     | state                | 0 1          | BAD_PARAMETER
  SYMBOL_STATE     | cancel               | 0 1          | BAD_PARAMETER
  SYMBOL_STATE     | symbol               | 0 1          | UNKNOWN_SYMBOL
  VENUE_STATE      | state                | 0 1          | BAD_PARAMETER
  VENUE_STATE      | cancel               | 0 1          | BAD_PARAMETER
  MARK             | mark_ticks           | 1            | BAD_PRICE
  MARK             | symbol               | 0 1          | UNKNOWN_SYMBOL
  CONTRACT         | funding_interval_ns  | 0            | BAD_PARAMETER
  CONTRACT         | funding_first_ns     | 0 1          | BAD_PARAMETER
  CONTRACT         | impact_quanta        | 0 1          | BAD_PARAMETER
  CONTRACT         | symbol               | 0 1          | UNKNOWN_SYMBOL
  CONTRACT         | interest_ppb         | 0 1 -1       | BAD_PARAMETER
  CONTRACT         | funding_clamp_ppb    | 0 1          | BAD_PARAMETER
  CONTRACT         | funding_cap_ppb      | 0 1 -1       | BAD_PARAMETER
  CONTRACT         | funding_floor_ppb    | 0 -1         | BAD_PARAMETER
  CONTRACT         | mark_band_ppm        | 0 1          | BAD_PARAMETER
  CONTRACT         | source_clamp_ppm     | 0 1          | BAD_PARAMETER
  CONTRACT         | source_stale_ns      | 0 1          | BAD_PARAMETER
  CONTRACT         | liquidation_fee_ppm  | 0 1          | BAD_PARAMETER
  CONTRACT         | protect_ppm          | 0 1          | BAD_PARAMETER
  CONTRACT         | breaker_ppm          | 0            | BAD_PARAMETER
  CONTRACT         | breaker_window_ns    | 0 1          | BAD_PARAMETER
  CONTRACT         | breaker_pause_ns     | 0 1          | BAD_PARAMETER
  CONTRACT         | algos_max            | 0 1          | BAD_PARAMETER
  CONTRACT         | position_quanta_max  | 0 1          | BAD_PARAMETER
  CONTRACT         | jump_ppm             | 0 1          | BAD_PARAMETER
  BRACKET          | index                | 0            | BAD_PARAMETER
  BRACKET          | floor_quanta         | 0            | BAD_PARAMETER
  BRACKET          | cap_quanta           | 1            | BAD_PARAMETER
  BRACKET          | symbol               | 0 1          | UNKNOWN_SYMBOL
  BRACKET          | maintenance_ppm      | 0 1          | BAD_PARAMETER
  BRACKET          | bracket_leverage_max | 1            | BAD_PARAMETER
  SOURCE           | source               | 0 1          | BAD_PARAMETER
  SOURCE           | weight               | 0 1          | BAD_PARAMETER
  SOURCE           | symbol               | 0            | UNKNOWN_SYMBOL
  SOURCE_PRICE     | source               | 0            | BAD_PARAMETER
  SOURCE_PRICE     | source_ticks         | 1            | BAD_PRICE
  SOURCE_PRICE     | symbol               | 0            | UNKNOWN_SYMBOL
  SOURCE_PRICE     | source_ns            | 0 1          | BAD_PARAMETER
  SETTLE_SYMBOL    | settle_ticks         | 1            | BAD_PRICE
  SETTLE_SYMBOL    | symbol               | 1            | SYMBOL_STATE UNKNOWN_SYMBOL
  SAMPLE           | symbol               | 0            | UNKNOWN_SYMBOL
  LIQUIDATE        | settle_row           | 0            | BAD_PARAMETER
  LIQUIDATE        | account              |              | NO_CHANGE UNKNOWN_ACCOUNT
  LIQUIDATE        | symbol               | max          | CROSS_MARGIN NO_POSITION
  LIQUIDATE        | position_side        | 0 1          | MALFORMED
"""
# What an order is besides its name isn't asked of a cancel; notes and references are whose they are.
UNREAD: Final = {
    "CANCEL": "side type tif stp position_side expire_ns",
    "AMEND": "side type tif stp position_side expire_ns",
    "REDUCE": "side type tif stp position_side expire_ns",
    "CANCEL_SYMBOL": "account",
    "CANCEL_ALGO": "side type tif stp position_side expire_ns",
    "POSITION_MODE": "symbol",
    "POSITION_MARGIN": "side type tif flags stp",
    "DEPOSIT": "source symbol",
    "WITHDRAW": "source symbol",
    "REQUEST_WITHDRAW": "reference symbol principal",
    "REQUEST_ADJUST": "reference symbol principal",
    "APPROVE": "symbol",
    "REJECT": "symbol principal",
    "SETTLE_WITHDRAW": "symbol principal",
    "TRANSFER": "symbol principal",
    "FEE_RATES": "symbol",
    "BOOKKEEPING": "note symbol note2 note3",
    "AUDIT": "note symbol note2 note3",
    "UPGRADE": "note symbol note2 note3",
    "ASSET": "account symbol name",
    "ACCOUNT": "symbol",
    "SYMBOL": "account name",
    "SYMBOL_STATE": "account",
    "VENUE_STATE": "account symbol",
    "MARK": "account",
    "CONTRACT": "account",
    "BRACKET": "account",
    "SOURCE": "account",
    "SOURCE_PRICE": "account",
    "SETTLE_SYMBOL": "account",
    "TICK": "account symbol",
    "SAMPLE": "account",
    "LIQUIDATE": "side type tif flags stp",
}
CODES: Final = ("side", "type", "tif", "flags", "stp", "position_side")


def rows_of(name: str) -> dict[str, tuple[list[str], list[str]]]:
    """field -> (values that are fine, reasons of the others)."""
    found = {}
    for line in TABLE.strip().splitlines()[1:]:
        kind, field, fine, reasons = (cell.strip() for cell in line.split("|"))
        if kind == name:
            found[field] = fine.split(), reasons.split()
    return found


def with_field(row: np.ndarray[Any, Any], name: str, field: str, value: int) -> bool:
    """Put a value, into the last word of several; whether the field can hold it."""
    view = row.view(COMMAND_RECORDS.get(SOUND[name][0], COMMAND).dtype)
    type_ = view.dtype.fields[field][0]
    if type_.subdtype:
        view[field][0][-1] = value
        return True
    info = np.iinfo(type_)
    if value == MOST:
        value = int(info.max)
    if not info.min <= value <= info.max:
        return False
    view[field] = value
    return True


def state(v: Venue) -> list[bytes]:
    """What a refused command must leave as it was."""
    kept = kept_tables(v.arrays, v.limits)
    return [t.tobytes() for name, t in kept.items() if name not in ("venue", "producers")]


@pytest.mark.parametrize("name", SOUND)
def test_every_field_at_its_limits(name: str) -> None:
    rows, unread = rows_of(name), UNREAD.get(name, "").split()
    v, ids = world()
    accepted = ask(v, sound(name, ids))
    assert accepted in ("NONE", "USER_CANCEL", "STALE_PRICE"), accepted
    dirty = True
    for field in fields_of(name):
        seen = []
        for text, value in SPECIAL.items():
            if dirty:
                v, ids = world()
                before = state(v)
            row = sound(name, ids)
            if not with_field(row, name, field, value):
                continue
            reason = ask(v, row)
            if field in rows:
                fine, reasons = rows[field]
                assert (reason == accepted) == (text in fine), (field, text, reason)
                assert reason == accepted or reason in reasons, (field, text, reason)
            elif field in unread:
                assert reason == accepted, (field, text, reason)
            else:
                assert reason == ("MALFORMED" if value else accepted), (field, text, reason)
            seen.append(reason)
            dirty = reason in ("NONE", "USER_CANCEL")
            assert dirty or state(v) == before, (field, text, reason)
        if field in rows:
            assert set(rows[field][1]) == set(seen) - {accepted}, field


def test_every_command_a_client_may_send_is_here() -> None:
    own = {Kind.EXPIRE, Kind.CHECKPOINT, Kind.TRIGGER, Kind.FUNDING, Kind.LIQUIDATION_ORDER}
    own |= {Kind.TAKEOVER, Kind.DELIST, Kind.REFUSED, Kind.NONE}
    assert {kind for kind, _ in SOUND.values()} == set(Kind) - own
    v, _ = world()
    for kind in sorted(own - {Kind.NONE, Kind.REFUSED}):
        v.send_rows(command(kind, account=ANN, symbol=0), GATEWAY)
        assert v.drain()[0]["reason"] == "FORBIDDEN", kind
