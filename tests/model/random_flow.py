"""Order flow of any kind, by seed: what the engine's laws, twins and replays are tested with.

`Flow(seed).commands(v, n)` gives (kind, fields) pairs that fit a Venue opened by `open_venue`. It
looks at the venue to aim at orders that may still live; nothing else connects the two.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

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
)
from shm.kinds import COMMAND_RECORDS
from shm.records import COMMAND, NO_SYMBOL
from tests.venue import ANN, BOB, CAT, DAN, EVE, SECOND, Venue

WIDE = (
    *(Kind.PLACE_ALGO, Kind.CANCEL_ALGO, Kind.CANCEL_ALGOS, Kind.COUNTDOWN, Kind.REQUEST_WITHDRAW),
    *(Kind.REQUEST_ADJUST, Kind.TRANSFER, Kind.APPROVE, Kind.REJECT, Kind.SETTLE_WITHDRAW),
    *(Kind.SETTLE_SYMBOL, Kind.UPGRADE, Kind.LIQUIDATE, Kind.BRACKET),
    *(Kind.CONTRACT, Kind.SOURCE, Kind.SOURCE_PRICE, Kind.SAMPLE),
)
SIGNED = (Kind.PLACE, Kind.PLACE_ALGO, Kind.CANCEL, Kind.AMEND, Kind.TRANSFER, Kind.LEVERAGE)
ACCOUNTS = range(ANN, EVE + 1)
SYMBOLS = (
    # fees and rebates, and nothing else
    {"taker_fee_ppm": 500, "maker_fee_ppm": -100},
    # every limit there is
    {
        "tick_lot_quanta": 7,
        "qty_lots_min": 2,
        "qty_lots_max": 30,
        "notional_quanta_min": 20_000,
        "price_ticks_min": 900,
        "price_ticks_max": 1100,
        "band_ppm": 20_000,
        "market_ppm": 5_000,
        "taker_fee_ppm": 333,
        "maker_fee_ppm": 77,
        "orders_max": 5,
    },
    # another asset, high leverage
    {"asset": 1, "tick_lot_quanta": 1, "leverage_max": 1000, "leverage_default": 500},
    # no leverage
    {"leverage_max": 1, "leverage_default": 1, "taker_fee_ppm": 1000, "market_ppm": 50_000},
)
QUANTA = 300_000
HEDGED = (CAT, DAN)  # from the start; others may follow
BRACKETS = {  # of symbols: cap, maintenance ppm, largest leverage
    0: ((200_000, 10_000, 100), (1_000_000, 25_000, 20), (10**12, 50_000, 10)),
    2: ((20_000, 2_000, 1000), (60_000, 4_000, 500), (10**12, 10_000, 100)),
    3: ((10**12, 30_000, 1),),
}
ISOLATED = ((BOB, 0), (BOB, 3), (DAN, 0), (DAN, 2))


def open_venue(v: Venue, symbols: int = len(SYMBOLS)) -> Venue:
    """Two assets, four kinds of symbol, five accounts with too little money for what they do, two
    of them in hedge mode, some of their positions isolated."""
    v.asset(0)
    v.asset(1, scale=8)
    for k in range(symbols):
        v.symbol(k, name=f"S{k}USDT", **SYMBOLS[k % len(SYMBOLS)])
    for account in ACCOUNTS:
        v.account(account, QUANTA * (1 + account % 3))
        v.send(Kind.DEPOSIT, account=account, asset=1, amount_quanta=QUANTA // 10)
    for symbol, brackets in BRACKETS.items():
        if symbol < symbols:
            for fields in bracket_rows(symbol, brackets):
                v.send(Kind.BRACKET, **fields)
    for account in HEDGED:
        v.send(Kind.POSITION_MODE, account=account, value=PositionMode.HEDGE)
    for account, symbol in ISOLATED:
        if symbol < symbols:
            v.send(Kind.MARGIN_TYPE, account=account, symbol=symbol, value=MarginType.ISOLATED)
    v.work()
    return v


def bracket_rows(
    symbol: int, brackets: tuple[tuple[int, int, int], ...]
) -> Iterator[dict[str, int]]:
    floor = 0
    for index, (cap, ppm, leverage) in enumerate(brackets):
        fields = {"index": index, "floor_quanta": floor, "cap_quanta": cap}
        rates = {"maintenance_ppm": ppm, "bracket_leverage_max": leverage}
        yield {"symbol": symbol, **fields, **rates}
        floor = cap


class Flow:
    def __init__(self, seed: int, symbols: int = len(SYMBOLS), *, wide: bool = False) -> None:
        """`wide`: conditional orders, requests, prices and signed commands too, which the twin of
        risk doesn't know."""
        self.random = random.Random(seed)
        self.wide = wide
        self.symbols = symbols
        self.closed: list[tuple[Kind, dict[str, Any]]] = []  # states to take back

    def commands(self, v: Venue, count: int) -> Iterator[tuple[Kind, dict[str, Any]]]:
        for _ in range(count):
            yield self.command(v)

    def command(self, v: Venue) -> tuple[Kind, dict[str, Any]]:
        r = self.random
        if self.closed and r.random() < 0.4:
            return self.closed.pop()
        makers: tuple[tuple[float, Any], ...] = (
            (50, self.place),
            (8, self.market),
            (12, self.cancel),
            (4, self.reduce),
            (12, self.amend),
            (0.8, self.cancel_all),
            (0.2, self.cancel_symbol),
            (2, self.leverage),
            (1, self.margin_type),
            (0.5, self.position_mode),
            (2, self.position_margin),
            (0.5, self.fee_rates),
            (0.3, self.bracket),
            (3, self.transfer),
            (4, self.mark),
            (3, self.tick),
            (0.5, self.state),
            (0.5, self.declare),
            (0.5, self.note),
            (1, self.nonsense),
        )
        if self.wide:
            makers += (
                (25, self.conditional),
                (4, self.cancel_algo),
                (1, self.cancel_algos),
                (2, self.countdown),
                (3, self.request),
                (4, self.verdict),
                (0.2, self.delist),
            )
        make = r.choices([m for _, m in makers], [w for w, _ in makers])[0]
        kind, fields = make(v)
        if "trace_hi" in COMMAND_RECORDS.get(kind, COMMAND).dtype.names and r.random() < 0.05:
            fields |= {"trace_hi": r.getrandbits(40), "trace_lo": 5, "key_id": 9, "recv_ns": 77}
            if self.wide and kind in SIGNED:
                fields |= {"digest_hi": r.randrange(9), "digest_lo": r.randrange(9)}
        return kind, fields

    def name(self) -> str:
        return f"c{self.random.randrange(60)}"

    def where(self) -> dict[str, int]:
        r = self.random
        return {"account": r.choice(ACCOUNTS), "symbol": r.randrange(self.symbols)}

    def price(self) -> int:
        r = self.random
        return r.choice(
            (r.randint(997, 1003), r.randint(994, 1006), r.randint(994, 1006), r.randint(880, 1120))
        )

    def place(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        r = self.random
        fields = {
            **self.where(),
            "side": r.choice(list(Side)),
            "price_ticks": self.price(),
            "qty_lots": r.choice((1, 2, 3, 5, 8, 13, 21, 40)),
            "position_side": 0,
            "tif": r.choice([Tif.GTC] * 6 + list(Tif)),
            "stp": r.choice([Stp.NONE] * 4 + list(Stp)),
        }
        if fields["tif"] == Tif.GTD:
            fields["expire_ns"] = _v.now + r.randint(0, 10) * SECOND
        if self.hedged(_v, fields["account"]):
            fields["position_side"] = r.choice((PositionSide.LONG, PositionSide.SHORT))
        if r.random() < 0.03:
            fields["position_side"] = r.choice(list(PositionSide))
        often = 0.25 if fields["position_side"] == PositionSide.BOTH else 0.02
        flags = Flag.REDUCE_ONLY if r.random() < often else Flag.NONE
        if r.random() < 0.02:
            flags |= Flag.NO_MATCH
        if r.random() < 0.4:
            fields["client_id"] = self.name()
            if r.random() < 0.1:
                flags |= Flag.TAKE_NAME
        return Kind.PLACE, {**fields, "flags": flags}

    def market(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        kind, fields = self.place(_v)
        fields.pop("expire_ns", None)
        return kind, {
            **fields,
            "type": Type.MARKET,
            "price_ticks": 0,
            "tif": self.random.choice((Tif.GTC, Tif.IOC)),
            "flags": int(fields["flags"]) & ~Flag.NO_MATCH,
        }

    def order(self, v: Venue) -> dict[str, Any]:
        """Somebody's live order if there is one, by id or by name; now and then a guess."""
        r = self.random
        live = list(v.live_claims())
        if live and r.random() < 0.9:
            claim = r.choice(live)
            fields = {"account": claim["account"], "symbol": claim["symbol"]}
            name = _name_of(v, claim["client"])
            if name and r.random() < 0.5:
                return {**fields, "client_id": name}
            return {**fields, "order_id": claim["order_id"]}
        if r.random() < 0.5:
            return {**self.where(), "client_id": self.name()}
        return {**self.where(), "order_id": r.randint(0, int(v.venue["risked_seq"]) + 2)}

    def cancel(self, v: Venue) -> tuple[Kind, dict[str, Any]]:
        return Kind.CANCEL, self.order(v)

    def reduce(self, v: Venue) -> tuple[Kind, dict[str, Any]]:
        return Kind.REDUCE, {**self.order(v), "qty_lots": self.random.randint(0, 12)}

    def amend(self, v: Venue) -> tuple[Kind, dict[str, Any]]:
        r = self.random
        flags = r.choice([0] * 4 + [Flag.TO_BACK, Flag.KEEP_QTY, Flag.REMAINING])
        qty = 0 if flags & Flag.KEEP_QTY else r.choice((1, 2, 5, 9, 25))
        fields = {**self.order(v), "price_ticks": self.price(), "qty_lots": qty, "flags": flags}
        claim = v.claim(fields.get("order_id", 0))
        if claim and r.random() < 0.4:
            fields["price_ticks"] = claim["price_ticks"]
        return Kind.AMEND, fields

    def cancel_all(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        symbol = self.random.choice((NO_SYMBOL, self.random.randrange(self.symbols)))
        return Kind.CANCEL_ALL, {**self.where(), "symbol": symbol}

    def cancel_symbol(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        return Kind.CANCEL_SYMBOL, {"symbol": self.random.randrange(self.symbols)}

    def leverage(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        return Kind.LEVERAGE, {**self.where(), "leverage": self.random.choice((0, 1, 5, 20, 100))}

    def hedged(self, v: Venue, account: int) -> bool:
        return bool(v.arrays["accounts"]["position_mode"][account] == PositionMode.HEDGE)

    def margin_type(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        return Kind.MARGIN_TYPE, {**self.where(), "value": self.random.choice((0, 1, 1, 2))}

    def position_mode(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        r = self.random
        return Kind.POSITION_MODE, {"account": r.choice(ACCOUNTS), "value": r.choice((0, 1, 1, 2))}

    def position_margin(self, v: Venue) -> tuple[Kind, dict[str, Any]]:
        """Of an isolated position if there is one."""
        r = self.random
        rows = v.arrays["positions"][: v.venue["positions_used"]]
        rows = rows[(rows["isolated"] == 1) & (rows["lots"] != 0)]
        fields = {**self.where(), "position_side": r.choice(list(PositionSide))}
        if len(rows) and r.random() < 0.8:
            p = r.choice(rows)
            fields = {name: int(p[name]) for name in ("account", "symbol", "position_side")}
        return Kind.POSITION_MARGIN, {**fields, "value": r.choice((0, 1, 300, -1, -300, -5000))}

    def fee_rates(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        r = self.random
        maker, taker = r.choice(((-100, 300), (100, 700), (-800, 700), (0, 0)))
        own = int(r.random() < 0.6)
        fields = {"maker_fee_ppm": own * maker, "taker_fee_ppm": own * taker, "own": own}
        return Kind.FEE_RATES, {"account": r.choice(ACCOUNTS), **fields}

    def bracket(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        """One of those a symbol has, a little different: those above it are dropped."""
        r = self.random
        symbol = r.choice([s for s in BRACKETS if s < self.symbols])
        fields = r.choice(list(bracket_rows(symbol, BRACKETS[symbol])))
        what = r.choice(("maintenance_ppm", "cap_quanta", "floor_quanta", "index"))
        return Kind.BRACKET, {**fields, what: fields[what] + r.choice((0, 0, 1, 1000))}

    def transfer(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        r = self.random
        fields: dict[str, Any] = {
            "account": r.choice(ACCOUNTS),
            "asset": r.choice((0, 0, 1)),
            "amount_quanta": r.choice((1, 5_000, 40_000, QUANTA)),
            "source": r.randrange(9),
        }
        if r.random() < 0.4:
            fields["client_id"] = self.name()
        return r.choice((Kind.DEPOSIT, Kind.WITHDRAW)), fields

    def mark(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        ticks = self.random.choice((self.random.randint(990, 1010), self.random.randint(940, 1060)))
        return Kind.MARK, {"symbol": self.random.randrange(self.symbols), "mark_ticks": ticks}

    def tick(self, v: Venue) -> tuple[Kind, dict[str, Any]]:
        v.wait(self.random.choice((0, 1, SECOND, 7 * SECOND)))
        return Kind.TICK, {}

    def state(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        r = self.random
        kind = r.choice((Kind.ACCOUNT, Kind.SYMBOL_STATE, Kind.VENUE_STATE))
        what = {
            Kind.ACCOUNT: {"account": r.choice(ACCOUNTS)},
            Kind.SYMBOL_STATE: {"symbol": r.randrange(self.symbols)},
            Kind.VENUE_STATE: {},
        }[kind]
        self.closed.append((kind, {**what, "state": State.TRADING}))
        state = r.choice((State.TRADING, State.CANCEL_ONLY, State.HALTED, State.CLOSED))
        return kind, {**what, "state": state, "cancel": r.randrange(2)}

    def declare(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        """The same symbol again, with something else about it."""
        from tests.venue import SYMBOL_DEFAULTS

        r = self.random
        symbol = r.randrange(self.symbols)
        fields = {**SYMBOL_DEFAULTS, **SYMBOLS[symbol % len(SYMBOLS)], "name": f"S{symbol}USDT"}
        fields[r.choice(("maker_fee_ppm", "taker_fee_ppm"))] = r.choice((-50, 50, 200))
        return Kind.SYMBOL, {"symbol": symbol, **fields}

    def note(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        r = self.random
        words = [r.getrandbits(40) for _ in range(19)]
        fields = {"note": words[:3], "note2": words[3:11], "note3": words[11:]}
        return r.choice((Kind.BOOKKEEPING, Kind.AUDIT)), {**fields, "account": r.choice(ACCOUNTS)}

    def conditional(self, v: Venue) -> tuple[Kind, dict[str, Any]]:
        r = self.random
        type_ = r.choice(list(AlgoType))
        kind, order = (
            self.place(v) if type_ in (AlgoType.STOP, AlgoType.TAKE_PROFIT) else self.market(v)
        )
        fields: dict[str, Any] = {**order, "type": type_}
        fields["flags"] = int(order["flags"]) & int(Flag.REDUCE_ONLY)
        terms = r.randrange(2) << 32 | (r.random() < 0.3) << 40
        if type_ == AlgoType.TRAILING_STOP_MARKET:
            terms |= r.choice((1000, 1500, 3000))
            fields["activate_ticks"] = r.choice((0, self.price()))
        else:
            fields["trigger_ticks"] = self.price()
            if type_ not in (AlgoType.STOP, AlgoType.TAKE_PROFIT) and r.random() < 0.3:
                fields |= {"flags": Flag.CLOSE_POSITION, "qty_lots": 0}
        return Kind.PLACE_ALGO, {**fields, "terms": terms}

    def cancel_algo(self, v: Venue) -> tuple[Kind, dict[str, Any]]:
        algos = v.arrays["algos"]
        algos = algos[algos["algo_id"] != 0]
        if not len(algos):
            return Kind.CANCEL_ALGO, {**self.where(), "client_id": self.name()}
        a = algos[self.random.randrange(len(algos))]
        fields = {"account": int(a["account"]), "symbol": int(a["symbol"])}
        return Kind.CANCEL_ALGO, {**fields, "order_id": int(a["algo_id"])}

    def cancel_algos(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        symbol = self.random.choice((NO_SYMBOL, self.random.randrange(self.symbols)))
        return Kind.CANCEL_ALGOS, {**self.where(), "symbol": symbol}

    def countdown(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        value = self.random.choice((0, 1, SECOND, 5 * SECOND, 60 * SECOND, -1))
        return Kind.COUNTDOWN, {**self.where(), "value": value}

    def request(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        r = self.random
        fields: dict[str, Any] = {
            "account": r.choice(ACCOUNTS),
            "asset": r.choice((0, 0, 1)),
            "amount_quanta": r.choice((1, 5_000, 40_000)),
            "principal": r.randrange(3),
        }
        kind = r.choice((Kind.REQUEST_WITHDRAW, Kind.REQUEST_ADJUST, Kind.TRANSFER))
        if kind == Kind.TRANSFER:
            fields["reference"] = r.choice(ACCOUNTS)
        if kind == Kind.REQUEST_ADJUST and r.random() < 0.5:
            fields["amount_quanta"] *= -1
        if r.random() < 0.4:
            fields["client_id"] = self.name()
        return kind, fields

    def verdict(self, v: Venue) -> tuple[Kind, dict[str, Any]]:
        r = self.random
        asked = v.arrays["requests"]
        asked = asked[asked["request_id"] != 0]
        fields: dict[str, Any] = {"account": ANN, "reference": 5}
        if len(asked):
            q = asked[r.randrange(len(asked))]
            fields = {"account": int(q["account"]), "reference": int(q["request_id"])}
        kind = r.choice((Kind.APPROVE, Kind.APPROVE, Kind.REJECT, Kind.SETTLE_WITHDRAW))
        if kind == Kind.SETTLE_WITHDRAW:
            fields["fee_quanta"] = r.choice((0, 1, 7))
        return kind, {**fields, "principal": r.randrange(3)}

    def delist(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        """Halt a symbol and end what is open there; close it at a price when it comes to that."""
        symbol = self.random.randrange(self.symbols)
        self.closed += [
            (Kind.SYMBOL_STATE, {"symbol": symbol, "state": State.TRADING}),
            (Kind.SETTLE_SYMBOL, {"symbol": symbol, "settle_ticks": self.price()}),
        ]
        return Kind.SYMBOL_STATE, {"symbol": symbol, "state": State.HALTED, "cancel": 1}

    def nonsense(self, _v: Venue) -> tuple[Kind, dict[str, Any]]:
        r = self.random
        kind = r.choice([k for k in (*Kind, 99) if self.wide or k not in WIDE])
        return kind, {"account": r.choice((0, ANN, 31, 99)), "symbol": r.choice((0, 5, 77))}


def _name_of(v: Venue, row: int) -> str:
    from tests.venue import words_text

    return words_text(v.arrays["clients"][row]["client_id"]) if row >= 0 else ""
