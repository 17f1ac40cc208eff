"""What a simulated exchange is sent: traders, a desk and a clock, by chance and by seed.

Reads   orders that were acknowledged, to aim at.
Writes  (ring, kind, fields) of commands, most of them sensible.
Never   looks into the venue: gateways can't either.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from shm.codes import (
    AlgoType,
    Flag,
    Kind,
    MarginType,
    PositionMode,
    PositionSide,
    Side,
    State,
    Stp,
    Tif,
    Type,
    Working,
)
from shm.config import Producer
from shm.records import NO_SYMBOL
from shm.units import INSURANCE_ACCOUNT, SYSTEM_ACCOUNTS

PRODUCERS: Final = (
    Producer(name="clock", id=1, kinds=("clock",)),
    Producer(name="desk", id=2, kinds=("admin", "order")),
    *(Producer(name=f"gateway{k}", id=8 + k, kinds=("order",)) for k in range(3)),
)
CLOCK, DESK, GATEWAY = range(3)
GATEWAYS: Final = (2, 3, 4)
ACCOUNTS: Final = range(SYSTEM_ACCOUNTS, SYSTEM_ACCOUNTS + 6)
SYMBOLS: Final = 3
SECOND: Final = 1_000_000_000
QUANTA: Final = 400_000
SYMBOL: Final = {
    "name": "SIM",
    "tick_lot_quanta": 10,
    "qty_lots_min": 1,
    "qty_lots_max": 1_000,
    "price_ticks_min": 1,
    "price_ticks_max": 100_000,
    "leverage_max": 100,
    "leverage_default": 10,
    "orders_max": 20,
    "maker_fee_ppm": -50,
    "taker_fee_ppm": 333,
}
CONTRACT: Final = {
    "funding_interval_ns": 60 * SECOND,
    "impact_quanta": 20_000,
    "interest_ppb": 100_000,
    "funding_clamp_ppb": 500_000,
    "funding_cap_ppb": 3_000_000,
    "funding_floor_ppb": -3_000_000,
    "mark_band_ppm": 50_000,
    "source_clamp_ppm": 20_000,
    "source_stale_ns": 30 * SECOND,
    "liquidation_fee_ppm": 5_000,
    "protect_ppm": 50_000,
    "breaker_ppm": 300_000,
    "breaker_window_ns": 5 * SECOND,
    "breaker_pause_ns": 5 * SECOND,
    "algos_max": 20,
}
BRACKETS: Final = (
    (0, 60_000, 5_000, 100),
    (60_000, 250_000, 10_000, 50),
    (250_000, 1 << 60, 50_000, 10),
)

Sent = tuple[int, Kind, dict[str, Any]]


def market(start_ns: int) -> Iterator[Sent]:
    """What makes a market, by the desk."""
    for asset in (0, 1):
        yield DESK, Kind.ASSET, {"asset": asset, "scale": 6, "name": f"A{asset}"}
    for symbol in range(SYMBOLS):
        at = {"symbol": symbol}
        yield DESK, Kind.SYMBOL, {**SYMBOL, **at, "asset": int(symbol == 2)}
        yield DESK, Kind.CONTRACT, {**CONTRACT, **at, "funding_first_ns": start_ns}
        for index, (floor, cap, ppm, leverage) in enumerate(BRACKETS):
            bracket = {"index": index, "floor_quanta": floor, "cap_quanta": cap}
            bracket |= {"maintenance_ppm": ppm, "bracket_leverage_max": leverage}
            yield DESK, Kind.BRACKET, {**at, **bracket}
        for source in (0, 1):
            yield DESK, Kind.SOURCE, {**at, "source": source, "weight": 1 + source}
    for account in ACCOUNTS:
        yield DESK, Kind.ACCOUNT, {"account": account, "state": State.TRADING}
    for account in (*ACCOUNTS, INSURANCE_ACCOUNT):
        for asset in (0, 1):
            money = {"asset": asset, "amount_quanta": QUANTA * (1 + account % 3)}
            yield DESK, Kind.DEPOSIT, {"account": account, **money}


class Traffic:
    """Commands by chance; `known` are (account, symbol, order id) that were acknowledged."""

    def __init__(self) -> None:
        self.known: list[tuple[int, int, int]] = []
        self.closed: list[Sent] = []  # states to take back

    def hear(self, account: int, symbol: int, order_id: int) -> None:
        """An order is in the market."""
        self.known.append((account, symbol, order_id))
        del self.known[:-64]

    def next(self, chance: random.Random, now_ns: int) -> Sent:
        """One more command."""
        if self.closed and chance.random() < 0.4:
            return self.closed.pop()
        makers: tuple[tuple[float, Callable[[random.Random, int], Sent]], ...] = (
            (50, self._place),
            (12, self._cancel),
            (8, self._amend),
            (6, self._algo),
            (4, self._setting),
            (5, self._clock),
            (4, self._source),
            (3, self._mark),
            (3, self._money),
            (0.6, self._state),
        )
        make = chance.choices([m for _, m in makers], [w for w, _ in makers])[0]
        return make(chance, now_ns)

    def _where(self, chance: random.Random) -> dict[str, Any]:
        where = {"account": chance.choice(ACCOUNTS), "symbol": chance.randrange(SYMBOLS)}
        return {**where, "position_side": chance.choice((0, 0, 0, 0, *PositionSide))}

    def _price(self, chance: random.Random) -> int:
        return chance.choice((chance.randint(996, 1004), chance.randint(980, 1020)))

    def _terms(self, chance: random.Random, now_ns: int) -> dict[str, Any]:
        fields = {
            **self._where(chance),
            "side": chance.choice(list(Side)),
            "qty_lots": chance.choice((1, 2, 3, 5, 8, 13, 40)),
            "price_ticks": self._price(chance),
            "stp": chance.choice((0, 0, 0, *Stp)),
            "flags": int(chance.choice((0, 0, 0, Flag.REDUCE_ONLY))),
        }
        if chance.random() < 0.3:
            fields["client_id"] = f"c{chance.randrange(40)}"
        if chance.random() < 0.1:
            fields |= {"tif": Tif.GTD, "expire_ns": now_ns + chance.randint(0, 9) * SECOND}
        return fields

    def _place(self, chance: random.Random, now_ns: int) -> Sent:
        fields = self._terms(chance, now_ns)
        if "tif" not in fields:
            fields["tif"] = chance.choice((0, 0, 0, 0, Tif.IOC, Tif.FOK, Tif.GTX))
        if chance.random() < 0.15:
            fields |= {"type": Type.MARKET, "price_ticks": 0, "tif": Tif.IOC}
            fields.pop("expire_ns", None)
        if chance.random() < 0.05:
            fields |= {"trace_hi": chance.getrandbits(40), "trace_lo": 5, "recv_ns": now_ns}
        return chance.choice(GATEWAYS), Kind.PLACE, fields

    def _order(self, chance: random.Random) -> dict[str, Any]:
        if self.known and chance.random() < 0.9:
            account, symbol, order_id = chance.choice(self.known)
            return {"account": account, "symbol": symbol, "order_id": order_id}
        where = self._where(chance)
        where.pop("position_side")
        return {**where, "client_id": f"c{chance.randrange(40)}"}

    def _cancel(self, chance: random.Random, _now_ns: int) -> Sent:
        gateway = chance.choice(GATEWAYS)
        if chance.random() < 0.1:
            symbol = chance.choice((NO_SYMBOL, chance.randrange(SYMBOLS)))
            return gateway, Kind.CANCEL_ALL, {"account": chance.choice(ACCOUNTS), "symbol": symbol}
        if chance.random() < 0.15:
            return gateway, Kind.REDUCE, {**self._order(chance), "qty_lots": chance.randint(1, 9)}
        return gateway, Kind.CANCEL, self._order(chance)

    def _amend(self, chance: random.Random, _now_ns: int) -> Sent:
        fields = {**self._order(chance), "price_ticks": self._price(chance)}
        return chance.choice(GATEWAYS), Kind.AMEND, {**fields, "qty_lots": chance.randint(1, 20)}

    def _algo(self, chance: random.Random, now_ns: int) -> Sent:
        fields = self._terms(chance, now_ns)
        kind = chance.choice(list(AlgoType))
        limit = kind in (AlgoType.STOP, AlgoType.TAKE_PROFIT)
        trailing = kind == AlgoType.TRAILING_STOP_MARKET
        callback = chance.choice((1_000, 10_000)) if trailing else 0
        fields |= {
            "type": kind,
            "trigger_ticks": 0 if trailing else self._price(chance),
            "price_ticks": fields["price_ticks"] if limit else 0,
            "terms": callback | chance.choice(list(Working)) << 32,
        }
        if not limit:
            fields.pop("expire_ns", None)
            fields.pop("tif", None)
        return chance.choice(GATEWAYS), Kind.PLACE_ALGO, fields

    def _setting(self, chance: random.Random, _now_ns: int) -> Sent:
        where, gateway = self._where(chance), chance.choice(GATEWAYS)
        leg = where.pop("position_side")
        kind = chance.choice(
            (
                Kind.LEVERAGE,
                Kind.MARGIN_TYPE,
                Kind.POSITION_MODE,
                Kind.POSITION_MARGIN,
                Kind.COUNTDOWN,
            )
        )
        if kind == Kind.LEVERAGE:
            return gateway, kind, {**where, "leverage": chance.choice((1, 5, 20, 100))}
        if kind == Kind.POSITION_MODE:
            mode = chance.choice(list(PositionMode))
            return gateway, kind, {"account": where["account"], "value": mode}
        if kind == Kind.MARGIN_TYPE:
            return gateway, kind, {**where, "value": chance.choice(list(MarginType))}
        if kind == Kind.POSITION_MARGIN:
            amount = chance.choice((-500, 500, 5_000))
            return gateway, kind, {**where, "position_side": leg, "value": amount}
        return gateway, kind, {**where, "value": chance.choice((0, SECOND, 5 * SECOND))}

    def _clock(self, chance: random.Random, _now_ns: int) -> Sent:
        if chance.random() < 0.5:
            return CLOCK, Kind.TICK, {}
        if chance.random() < 0.7:
            return CLOCK, Kind.SAMPLE, {"symbol": chance.randrange(SYMBOLS)}
        account = chance.choice(ACCOUNTS)
        row = account * 2 + chance.randrange(2)
        return CLOCK, Kind.LIQUIDATE, {"account": account, "settle_row": row}

    def _source(self, chance: random.Random, now_ns: int) -> Sent:
        price = {"source_ticks": self._price(chance), "source_ns": now_ns}
        where = {"symbol": chance.randrange(SYMBOLS), "source": chance.randrange(2)}
        return CLOCK, Kind.SOURCE_PRICE, {**where, **price}

    def _mark(self, chance: random.Random, _now_ns: int) -> Sent:
        ticks = chance.choice((chance.randint(990, 1010), chance.randint(930, 1070)))
        return DESK, Kind.MARK, {"symbol": chance.randrange(SYMBOLS), "mark_ticks": ticks}

    def _money(self, chance: random.Random, _now_ns: int) -> Sent:
        kind = chance.choice((Kind.DEPOSIT, Kind.WITHDRAW, Kind.TRANSFER, Kind.REQUEST_WITHDRAW))
        fields: dict[str, Any] = {
            "account": chance.choice(ACCOUNTS),
            "asset": chance.choice((0, 0, 1)),
            "amount_quanta": chance.choice((1, 5_000, 40_000, QUANTA)),
        }
        if kind == Kind.TRANSFER:
            fields["reference"] = chance.choice(ACCOUNTS)
        if kind == Kind.REQUEST_WITHDRAW:
            fields["principal"] = 1
        if chance.random() < 0.4:
            fields["client_id"] = f"m{chance.randrange(30)}"
        return DESK, kind, fields

    def _state(self, chance: random.Random, _now_ns: int) -> Sent:
        kind = chance.choice((Kind.ACCOUNT, Kind.SYMBOL_STATE, Kind.VENUE_STATE))
        what: dict[str, Any] = {
            Kind.ACCOUNT: {"account": chance.choice(ACCOUNTS)},
            Kind.SYMBOL_STATE: {"symbol": chance.randrange(SYMBOLS)},
            Kind.VENUE_STATE: {},
        }[kind]
        self.closed.append((DESK, kind, {**what, "state": State.TRADING}))
        state = chance.choice((State.CANCEL_ONLY, State.HALTED))
        return DESK, kind, {**what, "state": state, "cancel": chance.randrange(2)}
