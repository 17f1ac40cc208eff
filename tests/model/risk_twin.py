"""Risk, settlement and reports once more, in the slowest and plainest way: dicts, lists, sums.

    twin = Twin(limits)
    twin.run(log)          # COMMAND rows with the settlement each was decided after
    twin.reports           # what the venue must have reported, as tests.venue.decode gives it

Nothing is kept twice: what is held, claimed or free is added up from the orders whenever it is
asked for. Matching is tests/model/book_twin.py. `state` lists what the tables must say at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.state import Limits
from shm.codes import (
    Flag,
    Flip,
    Kind,
    MarginType,
    MatchKind,
    Move,
    PositionMode,
    PositionSide,
    Reason,
    Route,
    Side,
    State,
    Status,
    Stp,
    Tif,
    Type,
)
from shm.kinds import PARAMETER_KINDS
from shm.records import NO_SYMBOL, RECORDS
from shm.units import (
    BRACKETS_MAX,
    EXPOSURE_QUANTA_MAX,
    FEE_ACCOUNT,
    MONEY_QUANTA_MAX,
    NOTIONAL_QUANTA_MAX,
    PPM,
    PRICE_TICKS_MAX,
    PRODUCER_SHIFT,
    PRODUCERS_MAX,
    QTY_LOTS_MAX,
    REQUEST_NUMBER_MAX,
    SCALE_MAX,
    SYSTEM_ACCOUNTS,
)
from tests.model import book_twin
from tests.venue import ENUMS, name_of, words_text

Report = dict[str, Any]

EXPIRE_PER_TICK = 1024
FORGET_PER_TICK = 1024
PARAMETERS = (
    "tick_lot_quanta",
    "asset",
    "state",
    "qty_lots_min",
    "qty_lots_max",
    "notional_quanta_min",
    "price_ticks_min",
    "price_ticks_max",
    "band_ppm",
    "market_ppm",
    "maker_fee_ppm",
    "taker_fee_ppm",
    "leverage_max",
    "leverage_default",
    "orders_max",
    "tick_quanta",
)
TRACELESS = (Kind.NONE, Kind.SYMBOL, Kind.CONTRACT, Kind.BOOKKEEPING, Kind.AUDIT, Kind.UPGRADE)
RECORD_OF = {
    Kind.DEPOSIT: "TRANSFER",
    Kind.WITHDRAW: "TRANSFER",
    Kind.ASSET: "ASSET",
    Kind.ACCOUNT: "STATE",
    Kind.SYMBOL_STATE: "STATE",
    Kind.VENUE_STATE: "STATE",
    Kind.SYMBOL: "SYMBOL",
    Kind.LEVERAGE: "LEVERAGE",
    Kind.MARK: "MARK",
    Kind.CHECKPOINT: "CHECKPOINT",
    Kind.MARGIN_TYPE: "SETTING",
    Kind.POSITION_MODE: "SETTING",
    Kind.POSITION_MARGIN: "SETTING",
    Kind.FEE_RATES: "FEE",
    Kind.BRACKET: "BRACKET",
}
LEGS = tuple(PositionSide)


def up(a: int, b: int) -> int:
    """ceil(a / b)"""
    return -(-a // b)


def fee_of(notional: int, ppm: int) -> int:
    return up(notional * ppm, PPM)


@dataclass
class Bracket:
    floor: int
    cap: int
    ppm: int
    leverage: int
    amount: int  # what the lower brackets charge less

    def charge(self, notional: int) -> int:
        return fee_of(notional, self.ppm) - self.amount


@dataclass(eq=False)
class Liquidation:
    """A liquidation price that any of those fits which the numbers behind it allow: the last tick
    where equity covers maintenance, next to one where it does not."""

    brackets: list[Bracket]
    sizes: tuple[int, int]  # quanta per tick of the long and the short leg
    base: int  # wallet less cost
    ticks_max: int

    def safe(self, ticks: int) -> bool:
        long, short = (size * ticks for size in self.sizes)
        needed = sum(charge(self.brackets, value) for value in (long, short) if value)
        return self.base + long - short >= needed

    def __eq__(self, ticks: object) -> bool:
        assert isinstance(ticks, int)
        if ticks == 0:
            # Nowhere, or below the first tick, or above the last.
            net_long = self.sizes[0] > self.sizes[1]
            return (
                not self.brackets or self.safe(1) or not self.safe(self.ticks_max) or not net_long
            )
        near = (self.safe(ticks - 1), self.safe(ticks), self.safe(ticks + 1))
        return near[1] and not (near[0] and near[2])


def charge(brackets: list[Bracket], notional: int) -> int:
    """Maintenance margin of a notional."""
    if not brackets:
        return 0
    return next((b for b in brackets if notional <= b.cap), brackets[-1]).charge(notional)


@dataclass
class Order:
    id: int
    account: int
    symbol: int
    leg: int
    side: int
    type: int
    tif: int
    flags: int
    stp: int
    price: int  # what its hold was reckoned at
    open: int
    total: int
    expire: int
    name: bytes
    worst: int
    exposure: int
    apart: bool = False  # its hold is not netted
    first_hold: int = 0  # when risk let it through
    close: int = 0
    hold: int = 0
    reserve: int = 0
    flying: int = 1
    amended: bool = False
    pending: int = 0
    due: bool = False  # its GTD has been noticed
    done: bool = False

    @property
    def reduce_only(self) -> bool:
        return bool(self.flags & Flag.REDUCE_ONLY)


@dataclass
class Position:
    account: int
    symbol: int
    leg: int
    leverage: int
    isolated: bool = False
    lots: int = 0
    entry: int = 0
    money: int = 0  # its own wallet when isolated
    sunk: int = 0  # fees paid less PnL realised since it was opened
    closers: list[Order] = field(default_factory=list)  # oldest claim first


@dataclass
class Name:
    order: int
    closed: int = 0  # when; 0: it lives
    live: bool = True


CODELESS = (
    *(Kind.CANCEL_ALL, Kind.CANCEL_SYMBOL, Kind.TICK, Kind.LEVERAGE, Kind.MARGIN_TYPE),
    *(Kind.POSITION_MODE, Kind.FEE_RATES, Kind.DEPOSIT, Kind.WITHDRAW, Kind.ASSET, Kind.ACCOUNT),
    *(Kind.SYMBOL, Kind.SYMBOL_STATE, Kind.VENUE_STATE, Kind.MARK, Kind.BRACKET),
)


@dataclass
class Decided:
    """A command on its way from risk to settlement."""

    row: Any
    reason: int = Reason.NONE
    note: int = 0
    end: int = 0  # the reason that orders it cancels shall have
    order: Order | None = None
    name: bytes = b""  # of a transfer
    position: Position | None = None  # of POSITION_MARGIN
    events: list[book_twin.Event] | None = None  # None: matching never sees it

    def __getitem__(self, name: str) -> int:
        return int(self.row[name])

    def also(self, name: str) -> int:
        """A field of the command's own kind."""
        layout = RECORDS[RECORD_OF[Kind(self["kind"])] + "_COMMAND"]
        return int(np.asarray(self.row).reshape(1).view(layout.dtype)[0][name])

    def reserved(self) -> bool:
        """Whether a field of its kind says something where it must be zero."""
        layout = RECORDS[RECORD_OF[Kind(self["kind"])] + "_COMMAND"]
        row = np.asarray(self.row).reshape(1).view(layout.dtype)[0]
        names = [f.name for f in layout.fields if "reserved" in f.name]
        own = [n for n in names if n not in ("origin_reserved", "risk_reserved")]
        return any(np.any(row[n]) for n in own)

    @property
    def client(self) -> bytes:
        return bytes(self.row["client_id"].tobytes())

    @property
    def own(self) -> bool:
        """Whether the engine itself sent it."""
        return self["request"] >> PRODUCER_SHIFT == 0


class Twin:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.book = book_twin.Twin()
        self.now = 0
        self.risked = self.settled = 0
        self.venue_state = self.disk_state = State.TRADING
        self.accounts: dict[int, int] = dict.fromkeys(range(SYSTEM_ACCOUNTS), State.TRADING)
        self.assets: dict[int, int] = {}  # what may still come in, counted when risk lets it
        self.symbols: dict[int, dict[str, int]] = {}
        self.modes: dict[int, int] = {}
        self.brackets: dict[int, list[Bracket]] = {}
        self.rates: dict[int, tuple[int, int]] = {}  # own (maker, taker) fees of accounts
        self.positions: dict[tuple[int, int, int], Position] = {}
        self.balances: dict[tuple[int, int], int] = {}
        self.withdrawing: dict[tuple[int, int], int] = {}
        self.orders: dict[int, Order] = {}  # live ones
        self.ended: list[Order] = []  # with commands in flight: they still take a row
        self.names: dict[tuple[int, bytes], Name] = {}
        self.closing: list[tuple[int, bytes]] = []  # closed names in order of closing
        self.producers: dict[int, tuple[int, int]] = {}
        self.account_pending: dict[int, int] = {}
        self.symbol_pending: dict[int, int] = {}
        self.flight: list[Decided] = []
        self.reports: list[Report] = []

    def run(self, log: Any) -> None:
        """Decide each command after exactly the settlement it was decided after; settle the rest."""
        for row in log:
            while self.settled < row["settled_seq"]:
                self.settle(self.flight.pop(0))
            self.decide(row)
        while self.flight:
            self.settle(self.flight.pop(0))

    # ------------------------------------------------------------ what things come to

    def balance(self, account: int, asset: int) -> int:
        return self.balances.get((account, asset), 0)

    def held(self, account: int, asset: int) -> int:
        own = [o for o in self.orders.values() if o.account == account]
        own = [o for o in own if self.symbols[o.symbol]["asset"] == asset]
        return sum(o.hold + o.reserve for o in own)

    def rows(self, account: int, asset: int) -> list[Position]:
        own = [p for p in self.positions.values() if p.account == account]
        return [p for p in own if self.symbols[p.symbol]["asset"] == asset]

    def value(self, p: Position) -> tuple[int, int]:
        """(notional, unrealised PnL) at the mark, or at cost before the first one."""
        s = self.symbols[p.symbol]
        if s["mark"] == 0:
            return abs(p.entry), 0
        value = p.lots * s["mark"] * s["tick_lot_quanta"]
        return abs(value), value - p.entry

    def need(self, p: Position) -> int:
        """What position and orders want of the cross wallet, whichever of the orders fill."""
        value, gain = self.value(p)
        margin = up(value, p.leverage)
        if p.isolated:
            margin = max(min(margin, p.money + gain), 0)
        sides, apart = {Side.BUY: 0, Side.SELL: 0}, 0
        for o in self.live(p):
            if o.apart:
                apart += o.hold + o.reserve
            else:
                sides[Side(o.side)] += o.hold + o.reserve
        sides[Side.BUY if p.lots > 0 else Side.SELL] += margin
        return max(sides.values()) + apart - (margin if p.isolated else 0)

    def free_wallet(self, account: int, asset: int) -> int:
        return self.balance(account, asset) - self.withdrawing.get((account, asset), 0)

    def available(self, account: int, asset: int) -> int:
        rows = self.rows(account, asset)
        gains = sum(self.value(p)[1] for p in rows if not p.isolated)
        return self.free_wallet(account, asset) + gains - sum(self.need(p) for p in rows)

    def maintenance(self, p: Position) -> int:
        return charge(self.brackets.get(p.symbol, []), self.value(p)[0])

    def liquidation(self, p: Position) -> Liquidation | int:
        """The price at which a position, or the cross legs of its symbol together, are unsafe."""
        if not p.lots or p.symbol not in self.brackets:
            return 0
        s = self.symbols[p.symbol]
        asset, legs, rest = s["asset"], [p], p.money
        if not p.isolated:
            legs = [q for q in self.legs(p.account, p.symbol) if q.lots]
            rest = self.free_wallet(p.account, asset)
            for q in self.rows(p.account, asset):
                if q.lots and not q.isolated and q.symbol != p.symbol:
                    rest += self.value(q)[1] - self.maintenance(q)
        unit = s["tick_lot_quanta"]
        sizes = sum(max(q.lots, 0) for q in legs) * unit, sum(max(-q.lots, 0) for q in legs) * unit
        base = rest - sum(q.entry for q in legs)
        return Liquidation(self.brackets[p.symbol], sizes, base, s["price_ticks_max"])

    def allowed(self, symbol: int, leverage: int) -> int | None:
        """The largest notional of a leverage; None: any."""
        brackets = self.brackets.get(symbol)
        if not brackets:
            return None
        caps = [b.cap for b in brackets if b.leverage >= leverage]
        return max(caps, default=0)

    def beyond(self, p: Position, symbol: int, side: int, price: int, lots: int) -> bool:
        """Whether so many lots more on a side are more than the leverage may have."""
        most, s = self.allowed(symbol, p.leverage), self.symbols[symbol]
        if most is None:
            return False
        size = lots + sum(o.open for o in self.live(p) if o.side == side)
        size += p.lots if side == Side.BUY else -p.lots
        reference = s["mark"] or max(s["last"], price)
        return size > 0 and size * reference * s["tick_lot_quanta"] > most

    def bracket(self, d: Decided) -> int:
        if d.reserved():
            return Reason.MALFORMED
        symbol = d["symbol"]
        if symbol not in self.symbols:
            return Reason.UNKNOWN_SYMBOL
        have = self.brackets.get(symbol, [])
        k, floor, cap = d.also("index"), d.also("floor_quanta"), d.also("cap_quanta")
        ppm, leverage = d.also("maintenance_ppm"), d.also("bracket_leverage_max")
        most = self.symbols[symbol]["leverage_max"]
        if not 0 <= k <= len(have) or k >= BRACKETS_MAX or not floor < cap <= EXPOSURE_QUANTA_MAX:
            return Reason.BAD_PARAMETER
        if not 0 <= ppm <= PPM or not 1 <= leverage <= most:
            return Reason.BAD_PARAMETER
        below = have[k - 1] if k else Bracket(0, 0, 0, most, 0)
        if floor != below.cap or ppm < below.ppm or leverage > below.leverage:
            return Reason.BAD_PARAMETER
        amount = below.amount + fee_of(floor, ppm) - fee_of(floor, below.ppm) if k else 0
        self.brackets[symbol] = [*have[:k], Bracket(floor, cap, ppm, leverage, amount)]
        return Reason.NONE

    def withdrawable(self, account: int, asset: int) -> int:
        floor = self.free_wallet(account, asset)
        for p in self.rows(account, asset):
            floor -= self.need(p) if p.isolated else self.maintenance(p)
        return max(min(floor, self.available(account, asset)), 0)

    def removable(self, p: Position) -> int:
        value, gain = self.value(p)
        spare = p.money + gain - up(value, p.leverage)
        return max(min(p.money - self.maintenance(p), spare), 0)

    def fee_rate(self, account: int, symbol: int, taker: bool) -> int:
        s = self.symbols[symbol]
        rates = self.rates.get(account, (s["maker_fee_ppm"], s["taker_fee_ppm"]))
        return rates[1] if taker else rates[0]

    def order_hold(
        self, account: int, symbol: int, side: int, price: int, lots: int, leverage: int
    ) -> tuple[int, bool]:
        """Margin of what may open, what it would lose at once, and the taker fee; whether the
        latter two are the larger part."""
        s = self.symbols[symbol]
        lots = max(lots, 0)
        unit, mark, loss = s["tick_lot_quanta"] * lots, s["mark"], 0
        if mark and side == Side.BUY:
            loss = max(price - mark, 0)
        elif mark:
            loss = max(mark - price, 0)
            price = max(price, mark)
        margin = up(price * unit, leverage)
        cost = loss * unit + fee_of(price * unit, self.fee_rate(account, symbol, True))
        return margin + cost, cost > margin

    def takes(self, o: Order, hold: int, reserve: int, apart: bool) -> bool:
        """Let an order hold this, if it is there."""
        p, asset = self.at(o), self.symbols[o.symbol]["asset"]
        before, free = self.need(p), self.available(o.account, asset)
        was = o.hold, o.reserve, o.apart
        o.hold, o.reserve, o.apart = hold, reserve, apart
        if self.need(p) - before <= free:
            return True
        o.hold, o.reserve, o.apart = was
        return False

    def at(self, o: Order) -> Position:
        return self.positions[o.account, o.symbol, o.leg]

    def legs(self, account: int, symbol: int) -> list[Position]:
        keys = [(account, symbol, leg) for leg in LEGS]
        return [self.positions[k] for k in keys if k in self.positions]

    def fits(self, account: int, leg: int) -> bool:
        return (self.modes.get(account) == PositionMode.HEDGE) == (leg != PositionSide.BOTH)

    def live(self, position: Position) -> list[Order]:
        at = (position.account, position.symbol, position.leg)
        return [o for o in self.orders.values() if (o.account, o.symbol, o.leg) == at]

    def backed(self, p: Position, side: int) -> int:
        """Lots of the position that orders of this side would reduce."""
        return abs(p.lots) if (p.lots > 0) == (side == Side.SELL) else 0

    def claim(self, p: Position, o: Order, lots: int) -> None:
        """Set the close claim of an order."""
        if o.close == 0 and lots:
            p.closers.append(o)
        if lots == 0:
            p.closers = [x for x in p.closers if x is not o]
        o.close = lots

    # ------------------------------------------------------------ risk

    def decide(self, row: Any) -> None:
        d = Decided(row.copy())
        self.now = d["ts_ns"]
        d.reason = int(self.envelope(d) or self.check(d))
        self.risked = d["seq"]
        self.flight.append(d)

    def envelope(self, d: Decided) -> int:
        producer, number = d["request"] >> PRODUCER_SHIFT, d["request"] & REQUEST_NUMBER_MAX
        if not 0 <= producer < PRODUCERS_MAX:
            return Reason.MALFORMED
        if producer:
            last, seq = self.producers.get(producer, (0, 0))
            if number <= last:
                d.note = seq if number == last else 0
                return Reason.DUPLICATE_REQUEST
            self.producers[producer] = number, d["seq"]
        return Reason.NONE

    def check(self, d: Decided) -> int:
        kind = d["kind"]
        checks = {
            Kind.PLACE: self.place,
            Kind.CANCEL: self.cancel,
            Kind.REDUCE: self.cancel,
            Kind.AMEND: self.amend,
            Kind.CANCEL_ALL: self.cancel_all,
            Kind.CANCEL_SYMBOL: self.cancel_symbol,
            Kind.EXPIRE: self.expire,
            Kind.LEVERAGE: self.leverage,
            Kind.MARGIN_TYPE: self.margin_type,
            Kind.POSITION_MODE: self.position_mode,
            Kind.POSITION_MARGIN: self.position_margin,
            Kind.FEE_RATES: self.fee_rates,
            Kind.BRACKET: self.bracket,
            Kind.DEPOSIT: self.transfer,
            Kind.WITHDRAW: self.transfer,
            Kind.ASSET: self.asset,
            Kind.ACCOUNT: self.account,
            Kind.SYMBOL: self.declare,
            Kind.SYMBOL_STATE: self.state,
            Kind.VENUE_STATE: self.state,
            Kind.MARK: self.mark,
            Kind.TICK: lambda _d: self.forget(FORGET_PER_TICK),
            Kind.CHECKPOINT: lambda _d: Reason.NONE,
            Kind.BOOKKEEPING: self.note,
            Kind.AUDIT: self.note,
            Kind.REFUSED: lambda _d: Reason.FORBIDDEN,
        }
        if kind in CODELESS and not d.own and self.says_more(d):
            return Reason.MALFORMED
        return checks[kind](d) if kind in checks else Reason.UNKNOWN_KIND

    def says_more(self, d: Decided) -> bool:
        """Codes that only orders have; or a payload, where there is none."""
        names = ["side", "type", "tif", "flags", "stp", "position_side"]
        if d["kind"] in (Kind.CANCEL_ALL, Kind.CANCEL_SYMBOL, Kind.TICK):
            names += ["order_id", "price_ticks", "qty_lots", "expire_ns"]
            names += ["client_id", "order_reserved"]
        return any(np.any(d.row[name]) for name in names)

    def unclean(self, d: Decided) -> bool:
        """Whether line 1 of a command about an order says what it must not."""
        nameless = d.client[:8] == bytes(8) and d.client != bytes(40)
        return nameless or d.client[36:] != bytes(4) or bool(d.row["order_reserved"].any())

    def unknown(self, d: Decided) -> int:
        if d["account"] not in self.accounts:
            return Reason.UNKNOWN_ACCOUNT
        return Reason.NONE if d["symbol"] in self.symbols else Reason.UNKNOWN_SYMBOL

    def closed(self, d: Decided, worst: int, symbol: bool = True) -> int:
        """Whether venue, symbol or account is in a state worse than `worst`."""
        if max(self.venue_state, self.disk_state) > worst:
            return Reason.VENUE_STATE
        if symbol and self.symbols[d["symbol"]]["state"] > worst:
            return Reason.SYMBOL_STATE
        if self.accounts[d["account"]] > worst:
            return Reason.ACCOUNT_STATE
        return Reason.NONE

    def taken(self, d: Decided) -> Name | None:
        """The name a command carries, if it is live or within its window."""
        name = self.names.get((d["account"], d.client))
        if name and not name.live and name.closed + self.limits.client_window_ns <= self.now:
            return None
        return name

    def open_name(self, d: Decided) -> bool:
        """Remember a new name; False: every row is a live one."""
        key = (d["account"], d.client)
        while key in self.names:  # past its window, and so is all that closed before it
            self.names.pop(self.closing.pop(0))
        self.forget(2)
        if len(self.names) == self.limits.clients:
            if not self.closing:
                return False
            self.names.pop(self.closing.pop(0))
        self.names[key] = Name(d["seq"])
        return True

    def forget(self, most: int) -> int:
        """Names whose window has passed."""
        window = self.limits.client_window_ns
        for _ in range(most):
            if self.closing and self.names[self.closing[0]].closed + window <= self.now:
                self.names.pop(self.closing.pop(0))
        return Reason.NONE

    def close_name(self, key: tuple[int, bytes]) -> None:
        if self.limits.client_window_ns == 0:
            self.names.pop(key)
            return
        self.names[key].live = False
        self.names[key].closed = self.now
        self.closing.append(key)

    def outgrown(self, account: int, asset: int, more: int) -> bool:
        """Whether orders and positions could come to more than int64 bears."""
        own = [p for p in self.positions.values() if p.account == account]
        own = [p for p in own if self.symbols[p.symbol]["asset"] == asset]
        for p in own:
            more += abs(p.entry) + sum(o.exposure for o in self.live(p))
        return more > EXPOSURE_QUANTA_MAX or abs(self.balance(account, asset)) > MONEY_QUANTA_MAX

    def worst_price(self, symbol: int, side: int, limit: int) -> int:
        return limit if side == Side.BUY else max(limit, self.symbols[symbol]["high_bid"])

    def off_band(self, symbol: int, price: int) -> bool:
        s = self.symbols[symbol]
        if not s["band_ppm"] or not s["mark"]:
            return False
        return abs(price - s["mark"]) * PPM > s["band_ppm"] * s["mark"]

    def place(self, d: Decided) -> int:
        side, type_, tif, flags = d["side"], d["type"], d["tif"], d["flags"]
        market, price, lots = type_ == Type.MARKET, d["price_ticks"], d["qty_lots"]
        if side not in list(Side) or type_ not in list(Type) or tif not in list(Tif):
            return Reason.MALFORMED
        if d["stp"] not in list(Stp) or d["position_side"] not in LEGS or d["order_id"]:
            return Reason.MALFORMED
        wrong = Flag.TO_BACK | Flag.UPSERT | Flag.REMAINING | Flag.KEEP_QTY | Flag.CLOSE_POSITION
        if flags & wrong:
            return Reason.MALFORMED
        if market and (tif not in (Tif.GTC, Tif.IOC) or flags & Flag.NO_MATCH):
            return Reason.MALFORMED
        if self.unclean(d):
            return Reason.MALFORMED
        if reason := self.unknown(d) or self.closed(d, State.TRADING):
            return reason
        s = self.symbols[d["symbol"]]
        named, name = d.client != bytes(40), self.taken(d)
        passed = bool(name and flags & Flag.TAKE_NAME and name.order in self.orders)
        if named and name and not passed:
            d.note = name.order
            return Reason.DUPLICATE_CLIENT_ID
        if price if market else not s["price_ticks_min"] <= price <= s["price_ticks_max"]:
            return Reason.BAD_PRICE
        if not s["qty_lots_min"] <= lots <= s["qty_lots_max"]:
            return Reason.BAD_QTY
        expire = d["expire_ns"]
        if (expire <= self.now) if tif == Tif.GTD else expire:
            return Reason.BAD_EXPIRY
        limit = hold_price = price
        if market:
            reference = s["mark"] or s["last"]
            reach = reference * s["market_ppm"] // PPM
            if s["market_ppm"] and not reference:
                return Reason.NO_REFERENCE_PRICE
            if s["market_ppm"] and side == Side.BUY:
                limit = hold_price = min(reference + reach, s["price_ticks_max"])
            elif s["market_ppm"]:
                limit = hold_price = max(reference - reach, 1)
            else:
                hold_price = reference
                limit = PRICE_TICKS_MAX if side == Side.BUY else 1
                if side == Side.BUY:
                    limit = min(limit, NOTIONAL_QUANTA_MAX // s["tick_lot_quanta"] // lots)
        leg, asked = d["position_side"], bool(flags & Flag.REDUCE_ONLY)
        closes = ((PositionSide.LONG, Side.SELL), (PositionSide.SHORT, Side.BUY))
        reduce_only = asked or (leg, side) in closes
        unit = s["tick_lot_quanta"]
        if not reduce_only and s["notional_quanta_min"]:
            if not hold_price:
                return Reason.NO_REFERENCE_PRICE
            if hold_price * lots * unit < s["notional_quanta_min"]:
                return Reason.NOTIONAL_TOO_SMALL
        worst = self.worst_price(d["symbol"], side, limit)
        p = self.positions.get((d["account"], d["symbol"], leg))
        if worst * lots > NOTIONAL_QUANTA_MAX // unit:
            return Reason.NOTIONAL_TOO_LARGE
        if self.outgrown(d["account"], s["asset"], worst * lots * unit):
            return Reason.NOTIONAL_TOO_LARGE
        if not market and self.off_band(d["symbol"], price):
            return Reason.PRICE_BAND
        if p and len(self.live(p)) >= s["orders_max"]:
            return Reason.TOO_MANY_ORDERS
        free = 0
        if p:
            others = [o for o in p.closers if o.reduce_only or not reduce_only]
            free = max(self.backed(p, side) - sum(o.close for o in others), 0)
        if reduce_only and not free:
            return Reason.REDUCE_ONLY
        lots = min(lots, free) if reduce_only else lots
        close = min(lots, free)
        relatives = self.legs(d["account"], d["symbol"])
        leverage = relatives[0].leverage if relatives else s["leverage_default"]
        isolated = relatives[0].isolated if relatives else False
        o = Order(
            d["seq"],
            d["account"],
            d["symbol"],
            leg,
            side,
            type_,
            tif,
            flags | (Flag.REDUCE_ONLY if reduce_only else 0),
            d["stp"],
            hold_price,
            lots,
            lots,
            expire,
            d.client if named else b"",
            worst,
            worst * lots * unit,
        )
        opens = lots - close
        hold, apart = self.order_hold(o.account, o.symbol, side, hold_price, opens, leverage)
        if hold:
            # As if it were there: what the position needs then is what counts.
            new = Position(o.account, o.symbol, leg, leverage, isolated)
            self.positions.setdefault((o.account, o.symbol, leg), new)
            self.orders[o.id] = o
            enough = self.takes(o, hold, 0, apart)
            del self.orders[o.id]
            if not p:
                del self.positions[o.account, o.symbol, leg]
            if not enough:
                return Reason.INSUFFICIENT_MARGIN
        if len(self.orders) + len(self.ended) == self.limits.orders:
            return Reason.CAPACITY
        if not p and len(self.positions) == self.limits.positions:
            return Reason.CAPACITY
        if not self.fits(o.account, leg) or (asked and leg):
            return Reason.POSITION_MODE
        if self.locked([p] if p else relatives[:1]):
            return Reason.LIQUIDATING
        seat = p or Position(o.account, o.symbol, leg, leverage, isolated)
        if opens and self.beyond(seat, o.symbol, side, hold_price, lots):
            return Reason.BRACKET_NOTIONAL
        if passed and name:
            self.orders[name.order].name = b""
            name.order = d["seq"]
        elif named and not self.open_name(d):
            return Reason.CAPACITY
        if not p:
            p = Position(o.account, o.symbol, leg, leverage, isolated)
            self.positions[o.account, o.symbol, leg] = p
        if side == Side.BUY and not market:
            s["high_bid"] = max(s["high_bid"], price)
        o.hold = o.first_hold = hold
        o.apart = apart
        self.orders[o.id] = o
        self.claim(p, o, close)
        d.order = o
        self.match(d, limit_ticks=limit, decided_lots=lots)
        return Reason.NONE

    def match(self, d: Decided, **fields: int) -> None:
        """What matching says about a command that risk lets through."""
        o = d.order
        about = {
            "slot": o.id if o else -1,
            "decided_order_id": o.id if o else 0,
            "position": list(self.positions).index((o.account, o.symbol, o.leg)) if o else 0,
            "order_tif": o.tif if o else 0,
            "order_stp": o.stp if o else 0,
            "limit_ticks": 0,
            "decided_lots": 0,
            "end_reason": d.end,
            "route": Route.SHARD,
        }
        names = ("kind", "account", "symbol", "side", "type", "flags")
        d.events = self.book.apply({**{n: d[n] for n in names}, **about, **fields})

    def meant(self, d: Decided) -> Order | None:
        """The live order a command is about, by id or by name."""
        order_id = d["order_id"]
        if order_id == 0 and d.client != bytes(40):
            name = self.names.get((d["account"], d.client))
            order_id = name.order if name and name.live else 0
        o = self.orders.get(order_id)
        here = o and (o.account, o.symbol) == (d["account"], d["symbol"])
        return o if here else None

    def cancel(self, d: Decided) -> int:
        """CANCEL, REDUCE."""
        if d["flags"] or d["price_ticks"] or self.unclean(d):
            return Reason.MALFORMED
        if d["kind"] == Kind.CANCEL and d["qty_lots"]:
            return Reason.MALFORMED
        if reason := self.unknown(d):
            return reason
        o = self.meant(d)
        if o is None:
            return Reason.UNKNOWN_ORDER
        if reason := self.closed(d, State.CANCEL_ONLY):
            return reason
        if d["kind"] == Kind.REDUCE and not 0 < d["qty_lots"] <= QTY_LOTS_MAX:
            return Reason.BAD_QTY
        if self.locked([self.at(o)]):
            return Reason.LIQUIDATING
        d.order, d.end = o, Reason.USER_CANCEL
        o.flying += 1
        self.match(d, decided_lots=d["qty_lots"])
        return Reason.NONE

    def amend(self, d: Decided) -> int:
        flags, price, keep = d["flags"], d["price_ticks"], bool(d["flags"] & Flag.KEEP_QTY)
        if flags & (Flag.REDUCE_ONLY | Flag.NO_MATCH | Flag.UPSERT | Flag.TAKE_NAME):
            return Reason.MALFORMED
        if keep and (d["qty_lots"] or flags & Flag.REMAINING) or self.unclean(d):
            return Reason.MALFORMED
        if reason := self.unknown(d):
            return reason
        o = self.meant(d)
        if o is None or o.type == Type.MARKET:
            return Reason.UNKNOWN_ORDER
        if reason := self.closed(d, State.TRADING):
            return reason
        s = self.symbols[o.symbol]
        if not s["price_ticks_min"] <= price <= s["price_ticks_max"]:
            return Reason.BAD_PRICE
        lots = o.open if keep else d["qty_lots"]
        if not keep and not s["qty_lots_min"] <= lots <= s["qty_lots_max"]:
            return Reason.BAD_QTY
        filled = o.total - o.open
        left = lots if keep or flags & Flag.REMAINING else max(lots - filled, 0)
        unit = s["tick_lot_quanta"]
        if not o.reduce_only and price * (filled + left) * unit < s["notional_quanta_min"]:
            return Reason.NOTIONAL_TOO_SMALL
        p = self.at(o)
        worst = max(self.worst_price(o.symbol, o.side, price), o.worst)
        most = max(left, o.open)
        exposure = max(worst * most * unit, o.exposure)
        if worst * most > NOTIONAL_QUANTA_MAX // unit:
            return Reason.NOTIONAL_TOO_LARGE
        if self.outgrown(o.account, s["asset"], exposure - o.exposure):
            return Reason.NOTIONAL_TOO_LARGE
        if self.off_band(o.symbol, price):
            return Reason.PRICE_BAND
        if o.reduce_only and left > o.open:
            return Reason.REDUCE_ONLY
        was = o.hold, o.reserve, o.apart
        if not o.reduce_only and (price != o.price or left > o.open):
            opens = left - o.close
            hold, apart = self.order_hold(o.account, o.symbol, o.side, price, opens, p.leverage)
            reserve = max(o.reserve, hold - o.hold)
            if (reserve, apart or o.apart) != (o.reserve, o.apart) and not self.takes(
                o, o.hold, reserve, apart or o.apart
            ):
                return Reason.INSUFFICIENT_MARGIN
            more = left - o.open
            if self.locked([p]):
                o.hold, o.reserve, o.apart = was
                return Reason.LIQUIDATING
            if more > 0 and opens > 0 and self.beyond(p, o.symbol, o.side, price, more):
                o.hold, o.reserve, o.apart = was
                return Reason.BRACKET_NOTIONAL
        if self.locked([p]):
            return Reason.LIQUIDATING
        o.amended, o.worst, o.exposure = True, worst, exposure
        if o.side == Side.BUY:
            s["high_bid"] = max(s["high_bid"], price)
        d.order = o
        o.flying += 1
        self.match(d, limit_ticks=price, decided_lots=lots)
        return Reason.NONE

    def cancel_all(self, d: Decided) -> int:
        everywhere = d["symbol"] == NO_SYMBOL
        if d["account"] not in self.accounts:
            return Reason.UNKNOWN_ACCOUNT
        if not everywhere and d["symbol"] not in self.symbols:
            return Reason.UNKNOWN_SYMBOL
        if not d.own and (reason := self.closed(d, State.CANCEL_ONLY, not everywhere)):
            return reason
        d.end = Reason.CANCEL_ALL
        if d.own:
            d.end = self.account_pending.pop(d["account"], d.end)
        if everywhere or self.legs(d["account"], d["symbol"]):
            self.match(d)
        return Reason.NONE

    def cancel_symbol(self, d: Decided) -> int:
        if d["symbol"] not in self.symbols:
            return Reason.UNKNOWN_SYMBOL
        d.end = Reason.SYMBOL_CLOSED
        if d.own:
            d.end = self.symbol_pending.pop(d["symbol"], d.end)
        self.match(d)
        return Reason.NONE

    def expire(self, d: Decided) -> int:
        o = self.orders.get(d["order_id"])
        if not o or not o.pending or (o.account, o.symbol) != (d["account"], d["symbol"]):
            return Reason.UNKNOWN_ORDER
        d.order, d.end, o.pending = o, o.pending, 0
        o.flying += 1
        shrinks = d.end == Reason.REDUCE_ONLY or (d.end == Reason.FLIP and o.close > 0)
        if not shrinks:
            self.match(d)
        else:  # matching's twin has no EXPIRE by some lots: it is a REDUCE that ends otherwise
            self.match(d, kind=Kind.REDUCE, decided_lots=o.open - o.close)
            assert d.events is not None
            d.events = [
                (*e[:-1], int(d.end) if e[0] == MatchKind.ENDED else e[-1]) for e in d.events
            ]
        return Reason.NONE

    def leverage(self, d: Decided) -> int:
        if d.reserved():
            return Reason.MALFORMED
        if reason := self.unknown(d) or self.closed(d, State.CANCEL_ONLY):
            return reason
        s, leverage = self.symbols[d["symbol"]], d.also("leverage")
        if not 1 <= leverage <= s["leverage_max"]:
            return Reason.BAD_LEVERAGE
        account, symbol = d["account"], d["symbol"]
        legs = self.legs(account, symbol)
        if not legs:
            if len(self.positions) == self.limits.positions:
                return Reason.CAPACITY
            self.settings(account, symbol, leverage)
            return Reason.NONE
        before, isolated = legs[0].leverage, legs[0].isolated
        if leverage == before:
            return Reason.NONE
        if any(self.live(p) for p in legs):
            return Reason.IN_USE
        for p in legs:
            p.leverage = leverage
        reason, most = Reason.NONE, self.allowed(symbol, leverage)
        less = leverage < before and any(p.lots for p in legs)
        if less and not isolated and self.available(account, s["asset"]) < 0:
            reason = Reason.INSUFFICIENT_MARGIN
        elif self.locked(legs[:1]):
            reason = Reason.LIQUIDATING
        elif less and isolated:
            reason = Reason.OPEN_POSITION
        elif most is not None and any(p.lots and self.value(p)[0] > most for p in legs):
            reason = Reason.BRACKET_NOTIONAL
        if reason:
            for p in legs:
                p.leverage = before
        return reason

    def locked(self, rows: list[Position]) -> bool:
        """Whether one of them owes after an isolated loss; nothing is liquidated here."""
        return any(p.isolated and p.money < 0 for p in rows)

    def settings(self, account: int, symbol: int, leverage: int) -> Position:
        """A row for what is set before there is an order."""
        hedge = self.modes.get(account) == PositionMode.HEDGE
        leg = PositionSide.LONG if hedge else PositionSide.BOTH
        p = self.positions[account, symbol, leg] = Position(account, symbol, leg, leverage)
        return p

    def margin_type(self, d: Decided) -> int:
        if d.reserved() or d["position_side"]:
            return Reason.MALFORMED
        if reason := self.unknown(d) or self.closed(d, State.CANCEL_ONLY):
            return reason
        kind = d.also("value")
        if kind not in list(MarginType):
            return Reason.BAD_PARAMETER
        legs = self.legs(d["account"], d["symbol"])
        if not legs and len(self.positions) == self.limits.positions:
            return Reason.CAPACITY
        if self.locked(legs):
            return Reason.LIQUIDATING
        if kind == (legs[0].isolated if legs else MarginType.CROSS):
            return Reason.NO_CHANGE
        if any(self.live(p) for p in legs):
            return Reason.OPEN_ORDERS
        if any(p.lots or p.money for p in legs):
            return Reason.OPEN_POSITION
        if not legs:
            leverage = self.symbols[d["symbol"]]["leverage_default"]
            legs = [self.settings(d["account"], d["symbol"], leverage)]
        for p in legs:
            p.isolated = bool(kind)
        return Reason.NONE

    def position_mode(self, d: Decided) -> int:
        account, mode = d["account"], d.also("value")
        if d.reserved() or d["position_side"]:
            return Reason.MALFORMED
        if account not in self.accounts:
            return Reason.UNKNOWN_ACCOUNT
        if reason := self.closed(d, State.CANCEL_ONLY, False):
            return reason
        if mode not in list(PositionMode):
            return Reason.BAD_PARAMETER
        if self.locked([p for p in self.positions.values() if p.account == account]):
            return Reason.LIQUIDATING
        if mode == self.modes.get(account, 0):
            return Reason.NO_CHANGE
        if any(o.account == account for o in self.orders.values()):
            return Reason.OPEN_ORDERS
        if any(p.account == account and (p.lots or p.money) for p in self.positions.values()):
            return Reason.OPEN_POSITION
        self.modes[account] = mode
        return Reason.NONE

    def position_margin(self, d: Decided) -> int:
        account, symbol, leg = d["account"], d["symbol"], d["position_side"]
        if d.reserved() or leg not in LEGS:
            return Reason.MALFORMED
        if reason := self.unknown(d) or self.closed(d, State.CANCEL_ONLY):
            return reason
        amount = d.also("value")
        if not 0 < abs(amount) <= MONEY_QUANTA_MAX:
            return Reason.BAD_AMOUNT
        if not self.fits(account, leg):
            return Reason.POSITION_MODE
        p = self.positions.get((account, symbol, leg))
        if p and self.locked([p]):
            return Reason.LIQUIDATING
        if not p or not p.lots:
            return Reason.NO_POSITION
        if not p.isolated:
            return Reason.CROSS_MARGIN
        asset = self.symbols[symbol]["asset"]
        if amount < 0 and -amount > self.removable(p):
            return Reason.INSUFFICIENT_MARGIN
        if amount > self.withdrawable(account, asset):
            return Reason.INSUFFICIENT_BALANCE
        self.set_aside(account, asset, max(amount, 0))
        d.position = p
        return Reason.NONE

    def set_aside(self, account: int, asset: int, quanta: int) -> None:
        self.withdrawing[account, asset] = self.withdrawing.get((account, asset), 0) + quanta

    def fee_rates(self, d: Decided) -> int:
        if d.reserved():
            return Reason.MALFORMED
        if d["account"] not in self.accounts:
            return Reason.UNKNOWN_ACCOUNT
        maker, taker, own = d.also("maker_fee_ppm"), d.also("taker_fee_ppm"), d.also("own")
        sound = own in (0, 1) and 0 <= taker <= PPM and -taker <= maker <= PPM
        if not sound or (own == 0 and (maker or taker)):
            return Reason.BAD_PARAMETER
        if own:
            self.rates[d["account"]] = maker, taker
        else:
            self.rates.pop(d["account"], None)
        return Reason.NONE

    def transfer(self, d: Decided) -> int:
        account, asset, amount = d["account"], d.also("asset"), d.also("amount_quanta")
        deposit = d["kind"] == Kind.DEPOSIT
        if self.unclean(d) or d.reserved():
            return Reason.MALFORMED
        if account not in self.accounts:
            return Reason.UNKNOWN_ACCOUNT
        if asset not in self.assets:
            return Reason.UNKNOWN_ASSET
        if reason := self.closed(d, State.HALTED if deposit else State.CANCEL_ONLY, False):
            return reason
        named, name = d.client != bytes(40), self.taken(d)
        if named and name:
            d.note = name.order
            return Reason.DUPLICATE_CLIENT_ID
        if not 0 < amount <= MONEY_QUANTA_MAX:
            return Reason.BAD_AMOUNT
        if deposit and self.assets[asset] + amount > MONEY_QUANTA_MAX:
            return Reason.BAD_AMOUNT
        if not deposit and amount > self.withdrawable(account, asset):
            return Reason.INSUFFICIENT_BALANCE
        if named and not self.open_name(d):
            return Reason.CAPACITY
        d.name = d.client if named else b""
        if deposit:
            self.assets[asset] += amount
        else:
            self.set_aside(account, asset, amount)
        return Reason.NONE

    def asset(self, d: Decided) -> int:
        if d.reserved():
            return Reason.MALFORMED
        asset = d.also("asset")
        if not 0 <= asset < self.limits.assets:
            return Reason.UNKNOWN_ASSET
        if not 0 <= d.also("scale") <= SCALE_MAX:
            return Reason.BAD_PARAMETER
        if asset in self.assets:
            return Reason.EXISTS
        self.assets[asset] = 0
        return Reason.NONE

    def account(self, d: Decided) -> int:
        if d.reserved():
            return Reason.MALFORMED
        state = d.also("state")
        if d["account"] >= self.limits.accounts:
            return Reason.UNKNOWN_ACCOUNT
        if state not in range(State.ABSENT) or d.also("cancel") not in (0, 1):
            return Reason.BAD_PARAMETER
        self.accounts[d["account"]] = state
        return Reason.NONE

    def declare(self, d: Decided) -> int:
        """SYMBOL."""
        if d.reserved():
            return Reason.MALFORMED
        x = {name: d.also(name) for name in PARAMETERS}
        if d["symbol"] >= self.limits.symbols:
            return Reason.UNKNOWN_SYMBOL
        if x["asset"] not in self.assets:
            return Reason.UNKNOWN_ASSET
        unit, high = x["tick_lot_quanta"], x["price_ticks_max"]
        sound = (
            unit >= 1
            and x["state"] in range(State.ABSENT)
            and 1 <= x["price_ticks_min"] <= high <= PRICE_TICKS_MAX
            and 1 <= x["qty_lots_min"] <= x["qty_lots_max"] <= QTY_LOTS_MAX
            and high * unit <= NOTIONAL_QUANTA_MAX
            and x["qty_lots_max"] * unit <= NOTIONAL_QUANTA_MAX
            and 0 <= x["notional_quanta_min"] <= NOTIONAL_QUANTA_MAX
            and 0 <= x["band_ppm"] <= 10 * PPM
            and 0 <= x["market_ppm"] <= 10 * PPM
            and 0 <= x["taker_fee_ppm"] <= PPM
            and -x["taker_fee_ppm"] <= x["maker_fee_ppm"] <= PPM
            and 1 <= x["leverage_default"] <= x["leverage_max"] <= 1000
            and x["orders_max"] >= 1
            and x["tick_quanta"] >= 0
        )
        if not sound:
            return Reason.BAD_PARAMETER
        s = self.symbols.get(d["symbol"], {**x, "mark": 0, "last": 0, "high_bid": 0})
        if any(s[n] != x[n] for n in ("tick_lot_quanta", "asset", "price_ticks_max")):
            return Reason.IN_USE
        self.symbols[d["symbol"]] = {**s, **x}
        return Reason.NONE

    def state(self, d: Decided) -> int:
        """SYMBOL_STATE, VENUE_STATE."""
        if d.reserved():
            return Reason.MALFORMED
        state, of_symbol = d.also("state"), d["kind"] == Kind.SYMBOL_STATE
        if of_symbol and d["symbol"] not in self.symbols:
            return Reason.UNKNOWN_SYMBOL
        if state not in range(State.ABSENT) or d.also("cancel") not in (0, 1):
            return Reason.BAD_PARAMETER
        if of_symbol:
            self.symbols[d["symbol"]]["state"] = state
        elif d.own:
            self.disk_state = State(state)
        else:
            self.venue_state = State(state)
        return Reason.NONE

    def mark(self, d: Decided) -> int:
        if d.reserved():
            return Reason.MALFORMED
        if d["symbol"] not in self.symbols:
            return Reason.UNKNOWN_SYMBOL
        s = self.symbols[d["symbol"]]
        if not 1 <= d.also("mark_ticks") <= s["price_ticks_max"]:
            return Reason.BAD_PRICE
        s["mark"] = d.also("mark_ticks")
        return Reason.NONE

    def note(self, d: Decided) -> int:
        """BOOKKEEPING, AUDIT."""
        if any(d[n] for n in ("side", "type", "tif", "flags", "stp", "position_side")):
            return Reason.MALFORMED
        if d["account"] not in self.accounts:
            return Reason.UNKNOWN_ACCOUNT
        if d["symbol"] not in (NO_SYMBOL, *self.symbols):
            return Reason.UNKNOWN_SYMBOL
        return Reason.NONE

    # ------------------------------------------------------------ settlement

    def settle(self, d: Decided) -> None:
        if d.events is None:
            self.answer(d)
        else:
            for number, event in enumerate(d.events):
                self.matched(d, event, number == 0)
        if d.order:
            self.land(d.order)
        self.settled = d["seq"]

    def land(self, o: Order) -> None:
        """A command about an order is settled."""
        o.flying -= 1
        if o.flying == 0 and o.done:
            self.ended = [x for x in self.ended if x is not o]
        elif o.flying == 0 and o.amended:
            o.amended, o.reserve, o.worst = False, 0, o.price
            o.exposure = o.price * o.open * self.symbols[o.symbol]["tick_lot_quanta"]

    def end(self, o: Order) -> None:
        p = self.at(o)
        self.claim(p, o, 0)
        del self.orders[o.id]
        o.done = True
        if o.name:
            self.close_name((o.account, o.name))
        if o.flying:
            self.ended.append(o)

    def matched(self, d: Decided, event: book_twin.Event, first: bool) -> None:
        kind, symbol, slot, price, lots, open_lots, maker, _left, trade, reason = event
        unborn = (Reason.WOULD_TAKE, Reason.FOK_UNFILLED, Reason.BOOK_FULL)
        born = False
        if first and d["kind"] == Kind.PLACE:
            if not (kind == MatchKind.ENDED and reason in unborn):
                born = True
                assert d.order
                self.say_order(d, d.order, Status.NEW, Reason.NONE, True)
                self.say_origin(d, d.order.id, True)
                if d.order.first_hold or d.order.hold or d.order.close:
                    self.say_hold(d, d.order, d.order.first_hold)
        elif first and d["kind"] in (Kind.CANCEL_ALL, Kind.CANCEL_SYMBOL):
            self.say_answer(d, 0)
            self.say_origin(d, 0, False)
        if kind == MatchKind.FILL:
            s = self.symbols[symbol]
            s["last"] = price
            makers, takers = self.orders[maker], self.orders[slot]
            self.trade(d, makers, 0, price, lots, trade)
            self.trade(d, takers, 1, price, lots, trade)
            if self.at(makers) is not self.at(takers):
                self.flip(d, self.at(makers), makers)
            self.flip(d, self.at(takers), takers, resting=False)
            for o in (makers, takers):
                if o.open == 0:
                    self.end(o)
        elif kind == MatchKind.RESTED:
            o = self.orders[slot]
            if o.reduce_only and d["kind"] == Kind.PLACE:
                self.flip(d, self.at(o), o)
        elif kind == MatchKind.ENDED:
            o = self.orders[slot]
            assert o.open == open_lots
            asked = (Reason.USER_CANCEL, Reason.CANCEL_ALL, Reason.AMENDED_AWAY)
            status = Status.CANCELED if reason in asked else Status.EXPIRED
            mine = first and not born and o is d.order
            self.say_order(d, o, status, reason, mine)
            if mine:
                self.say_origin(d, o.id, d["kind"] == Kind.PLACE)
            # What an order that never was held, nobody has heard; but of its flips they have.
            unborn_here = mine and d["kind"] == Kind.PLACE
            told = o.hold - (o.first_hold if unborn_here else 0)
            if told or (o.close and told == o.hold):
                self.say_hold(d, o, -told, close=0, left=0)
            self.end(o)
        elif kind == MatchKind.AMENDED:
            o = self.orders[slot]
            before = o.hold, o.close, o.apart
            self.amended(o, price, lots, open_lots)
            self.say_order(d, o, Status.AMENDED, d.end if d["kind"] == Kind.EXPIRE else 0, True)
            self.say_origin(d, o.id, False)
            if (o.hold, o.close, o.apart) != before:
                self.say_hold(d, o, o.hold - before[0])
        elif kind == MatchKind.REFUSED:
            self.say_refused(d, slot, Status.REFUSED, Reason.UNKNOWN_ORDER)
            self.say_origin(d, slot, False)

    def trade(self, d: Decided, o: Order, taker: int, price: int, lots: int, trade: int) -> None:
        """One side of a fill."""
        s = self.symbols[o.symbol]
        p = self.at(o)
        unit = s["tick_lot_quanta"] * price
        signed = lots if o.side == Side.BUY else -lots
        size = abs(p.lots)
        closing, realised = min(lots, self.backed(p, o.side)), 0
        if closing:
            cost = abs(p.entry) * closing // size  # what rounding keeps comes out last
            removed = cost if p.lots > 0 else -cost
            realised = (closing if p.lots > 0 else -closing) * unit - removed
            p.entry -= removed
        p.entry += (lots - closing) * (1 if signed > 0 else -1) * unit
        p.lots += signed
        fee = fee_of(unit * lots, self.fee_rate(o.account, o.symbol, bool(taker)))
        self.pay(FEE_ACCOUNT, s["asset"], fee)
        # The closing part comes out of the close claim first, the rest out of what opens.
        opens, held = o.open - o.close, o.hold
        from_close = max(min(closing, o.close), lots - opens)
        left = opens - (lots - from_close)
        o.exposure = o.exposure * (o.open - lots) // o.open
        o.open -= lots
        self.claim(p, o, o.close - from_close)
        if lots > from_close:
            o.hold = o.hold * left // opens
        at = {"seq": d["seq"], "account": o.account, "symbol": o.symbol}
        status = taker + 2 * o.side + 32 * o.leg
        self.say(
            "EXEC",
            **at,
            status=status,
            order_id=o.id,
            trade_id=trade,
            price_ticks=price,
            lots=lots,
            open_lots=o.open,
            fee_quanta=fee,
        )
        fee_close = fee * closing // lots  # of what it closed
        if closing and (lots > closing or not p.lots):
            p.sunk = fee - fee_close
        else:
            p.sunk += fee - realised
        if not p.isolated:
            self.pay(o.account, s["asset"], realised - fee)
        self.say(
            "POSITION",
            **at,
            status=status,
            trade_id=trade,
            position_lots=p.lots,
            entry_quanta=p.entry,
            realised_quanta=realised,
            wallet_quanta=self.balance(o.account, s["asset"]),
            hold_quanta=o.hold,
        )
        if p.isolated:
            gain = realised - fee_close
            back = 0
            if closing == size:
                back = max(p.money + gain, 0) if closing else 0
            elif closing:
                back = max(max(p.money, 0) * closing // size + min(gain, 0), 0)
            p.money += realised - fee
            self.isolate(d, p, -back, trade)
            if lots > closing:
                wanted = up((lots - closing) * unit, p.leverage)
                spare = max(held - o.hold, self.available(o.account, s["asset"]))
                self.isolate(d, p, min(wanted, spare), trade)
        self.say_margin(d, p)

    def isolate(self, d: Decided, p: Position, quanta: int, reference: int) -> None:
        """Move money from the wallet to an isolated position, or back."""
        if quanta == 0:
            return
        asset = self.symbols[p.symbol]["asset"]
        self.pay(p.account, asset, -quanta)
        p.money += quanta
        self.say(
            "MOVE",
            seq=d["seq"],
            account=p.account,
            symbol=p.symbol,
            status=int(Move.ISOLATE if quanta > 0 else Move.RELEASE),
            amount_quanta=-quanta,
            wallet_quanta=self.balance(p.account, asset),
            other_account=p.account,
            other_quanta=p.money,
            reference=reference,
            pocket=asset + (p.leg << 16),
        )

    def say_margin(self, d: Decided, p: Position) -> None:
        self.say(
            "MARGIN",
            seq=d["seq"],
            account=p.account,
            symbol=p.symbol,
            status=p.leg + 4 * p.isolated,
            liquidation_ticks=self.liquidation(p),
            isolated_quanta=p.money,
            maintenance_quanta=self.maintenance(p),
            leverage=p.leverage,
            sunk_quanta=p.sunk,
            mark_ticks=self.symbols[p.symbol]["mark"],
        )

    def say_hold(
        self, d: Decided, o: Order, change: int, close: int | None = None, left: int | None = None
    ) -> None:
        self.say(
            "HOLD",
            seq=d["seq"],
            account=o.account,
            symbol=o.symbol,
            status=int(o.apart),
            order_id=o.id,
            hold_quanta=o.hold if close is None else 0,
            change_quanta=change,
            close_lots=o.close if close is None else close,
            open_lots=o.open if left is None else left,
            asset=self.symbols[o.symbol]["asset"],
        )

    def pay(self, account: int, asset: int, quanta: int) -> None:
        self.balances[account, asset] = self.balance(account, asset) + quanta

    def flip(self, d: Decided, p: Position, thief: Order, resting: bool = True) -> None:
        """Close claims beyond the position: the newest plain ones first, then reduce-only ones."""
        newest = p.closers[::-1]
        if not resting and thief.reduce_only:
            newest = [o for o in newest if o is not thief]
        for o in [x for x in newest if not x.reduce_only] + [x for x in newest if x.reduce_only]:
            excess = sum(x.close for x in newest) - self.backed(p, o.side)
            lots = min(excess, o.close)
            if lots <= 0:
                continue
            self.claim(p, o, o.close - lots)
            how, taken, was_apart = Flip.TRIMMED, 0, o.apart
            if o.reduce_only:
                o.pending = o.pending or Reason.REDUCE_ONLY
            else:
                more, apart = self.order_hold(
                    o.account, o.symbol, o.side, o.price, lots, p.leverage
                )
                if self.takes(o, o.hold + more, o.reserve, apart or o.apart):
                    how, taken = Flip.TO_OPEN, more
                else:
                    o.pending = o.pending or Reason.FLIP
            self.say(
                "FLIP",
                seq=d["seq"],
                account=o.account,
                symbol=o.symbol,
                status=int(how),
                order_id=o.id,
                thief_order_id=thief.id,
                lots=lots,
                close_lots=o.close,
                hold_quanta=o.hold,
                hold_change_quanta=taken,
            )
            if o.apart != was_apart:
                self.say_hold(d, o, 0)

    def amended(self, o: Order, price: int, total: int, left: int) -> None:
        """An AMEND, REDUCE or trim has come through matching."""
        s = self.symbols[o.symbol]
        p = self.at(o)
        opens, less = o.open - o.close, price == o.price and left <= o.open
        o.open, o.total, o.price = left, total, price
        exposure = o.worst * left * s["tick_lot_quanta"]
        o.exposure = max(o.exposure, exposure) if o.amended else exposure
        self.claim(p, o, min(o.close, left))
        if o.reduce_only:
            if left > o.close:
                o.pending = o.pending or Reason.REDUCE_ONLY
            elif o.pending == Reason.REDUCE_ONLY:
                o.pending = 0
            return
        if left == o.close and o.pending == Reason.FLIP:
            o.pending = 0
        held, apart = o.hold + o.reserve, o.apart
        if not less:
            need, apart = self.order_hold(
                o.account, o.symbol, o.side, price, left - o.close, p.leverage
            )
            apart = apart or (o.apart and o.flying > 1)
        elif left - o.close < opens:
            need = o.hold * (left - o.close) // opens
        else:
            need = o.hold
        # More than was held only if it is there; less, or netted again, in any case.
        more = need > held or apart > o.apart
        if more and not self.takes(o, max(need, held), 0, apart or o.apart):
            need, apart = min(need, held), o.apart
        o.hold, o.apart = need, apart
        o.reserve = max(held - need, 0) if o.amended else 0

    def answer(self, d: Decided) -> None:
        """A command that matching never sees, or that risk refused."""
        kind, reason = d["kind"], d.reason
        if kind in (Kind.PLACE, Kind.CANCEL, Kind.AMEND, Kind.REDUCE, Kind.EXPIRE):
            twice = reason in (Reason.DUPLICATE_CLIENT_ID, Reason.DUPLICATE_REQUEST)
            order_id = d.note if twice else d["order_id"]
            status = Status.REJECTED if kind == Kind.PLACE else Status.REFUSED
            self.say_refused(d, order_id, status, reason)
            self.say_origin(d, order_id, False)
            return
        if kind == Kind.CHECKPOINT and reason == Reason.NONE:
            self.say(
                "CHECKPOINT",
                seq=d["seq"],
                account=0,
                symbol=NO_SYMBOL,
                status=int(Kind.CHECKPOINT),
                ts_ns=d["ts_ns"],
                request=d["request"],
                reports_digest=d.also("reports_digest"),
                reports_count=len(self.reports),
            )
            return
        value = {
            Kind.DEPOSIT: "amount_quanta",
            Kind.WITHDRAW: "amount_quanta",
            Kind.ACCOUNT: "state",
            Kind.SYMBOL_STATE: "state",
            Kind.VENUE_STATE: "state",
            Kind.LEVERAGE: "leverage",
            Kind.MARK: "mark_ticks",
            Kind.MARGIN_TYPE: "value",
            Kind.POSITION_MODE: "value",
            Kind.POSITION_MARGIN: "value",
            Kind.BRACKET: "index",
        }.get(kind)  # type: ignore[call-overload]
        p, amount = d.position, 0
        if p:
            asset, amount = self.symbols[p.symbol]["asset"], d.also("value")
            self.set_aside(p.account, asset, -max(amount, 0))
            if p.lots == 0:
                reason = d.reason = Reason.NO_POSITION
            elif not p.isolated:
                reason = d.reason = Reason.CROSS_MARGIN
            elif -amount > self.removable(p):
                reason = d.reason = Reason.INSUFFICIENT_MARGIN
        self.say_answer(d, d.also(value) if value else 0)
        self.say_origin(d, 0, False)
        if p and reason == Reason.NONE:
            self.isolate(d, p, amount, 0)
            self.say_margin(d, p)
        if reason != Reason.NONE:
            return
        if kind in PARAMETER_KINDS:
            self.say_parameters(d)
        if kind in (Kind.DEPOSIT, Kind.WITHDRAW):
            self.moved(d)
        elif kind == Kind.TICK:
            self.tick(d)
        elif kind == Kind.ACCOUNT:
            some = any(o.account == d["account"] for o in self.orders.values())
            if d.also("cancel") and some:
                self.account_pending.setdefault(d["account"], Reason.KILL_SWITCH)
        elif kind in (Kind.SYMBOL_STATE, Kind.SYMBOL, Kind.MARK):
            s = self.symbols[d["symbol"]]
            self.say(
                "SYMBOL",
                seq=d["seq"],
                account=d["account"],
                symbol=d["symbol"],
                status=0,
                ts_ns=d["ts_ns"],
                state=s["state"],
                mark_ticks=s["mark"],
                last_ticks=s["last"],
            )
            if kind == Kind.SYMBOL_STATE and d.also("cancel"):
                self.symbol_pending.setdefault(d["symbol"], Reason.SYMBOL_CLOSED)
        elif kind == Kind.VENUE_STATE and d.also("cancel"):
            for symbol in self.symbols:
                self.symbol_pending.setdefault(symbol, Reason.KILL_SWITCH)

    def moved(self, d: Decided) -> None:
        """Money came in or went out."""
        account, asset, amount = d["account"], d.also("asset"), d.also("amount_quanta")
        if d["kind"] == Kind.WITHDRAW:
            self.withdrawing[account, asset] -= amount
            self.assets[asset] -= amount
            amount = -amount
        self.pay(account, asset, amount)
        if d.name:
            self.close_name((account, d.name))
        self.say(
            "WALLET",
            seq=d["seq"],
            account=account,
            symbol=NO_SYMBOL,
            status=d["kind"],
            asset=asset,
            amount_quanta=amount,
            wallet_quanta=self.balance(account, asset),
            held_quanta=self.held(account, asset),
            source=d.also("source"),
            reserved=0,
        )

    def tick(self, d: Decided) -> None:
        due = [o for o in self.orders.values() if o.expire and o.expire <= d["ts_ns"] and not o.due]
        for o in sorted(due, key=lambda o: (o.expire, o.id))[:EXPIRE_PER_TICK]:
            o.due, o.pending = True, Reason.GTD_EXPIRED

    # ------------------------------------------------------------ saying

    def say(self, kind: str, **fields: Any) -> None:
        self.reports.append({"kind": kind, **fields})

    def say_order(self, d: Decided, o: Order, status: Status, reason: int, answer: bool) -> None:
        self.say(
            "ORDER",
            seq=d["seq"],
            account=o.account,
            symbol=o.symbol,
            status=status.name,
            ts_ns=d["ts_ns"],
            request=d["request"] if answer else 0,
            order_id=o.id,
            price_ticks=o.price,
            open_lots=o.open,
            side=Side(o.side).name,
            type=Type(o.type).name,
            tif=Tif(o.tif).name,
            flags=o.flags | (d["flags"] & Flag.TO_BACK if status == Status.AMENDED else 0),
            reason=Reason(reason).name,
            position_side=PositionSide(o.leg).name,
            stp=Stp(o.stp).name,
            command=Kind(d["kind"]).name,
        )

    def say_refused(self, d: Decided, order_id: int, status: Status, reason: int) -> None:
        said = {name: name_of(enum, d[name]) for name, enum in ENUMS.items() if name != "reason"}
        self.say(
            "ORDER",
            seq=d["seq"],
            account=d["account"],
            symbol=d["symbol"],
            status=status.name,
            ts_ns=d["ts_ns"],
            request=d["request"],
            order_id=order_id,
            price_ticks=d["price_ticks"],
            open_lots=0,
            flags=d["flags"],
            reason=Reason(reason).name,
            command=Kind(d["kind"]).name,
            **said,
        )

    def say_answer(self, d: Decided, value: int) -> None:
        self.say(
            "ANSWER",
            seq=d["seq"],
            account=d["account"],
            symbol=d["symbol"],
            status=name_of(Kind, d["kind"]),
            ts_ns=d["ts_ns"],
            request=d["request"],
            reason=Reason(d.reason).name,
            value=value,
            original=d.note,
            reserved=0,
        )

    def say_parameters(self, d: Decided) -> None:
        """What the command says, six words a report."""
        words = np.asarray(d.row).reshape(1).view(np.int64).tolist()
        payload = [*words[3:6], *words[8:24], *[0] * 5]
        at = {"seq": d["seq"], "account": d["account"], "symbol": d["symbol"]}
        for k in range(4):
            status = 4 * d["kind"] + k
            self.say("PARAMETERS", **at, status=status, payload=payload[6 * k : 6 * k + 6])

    def say_origin(self, d: Decided, order_id: int, named: bool) -> None:
        """Client id, expiry and trace of a new order, if there are any."""
        at = {"seq": d["seq"], "account": d["account"], "symbol": d["symbol"], "status": 0}
        if d["lines"] > 1 and named and d.client != bytes(40):
            name = words_text(d.row["client_id"])
            self.say("CLIENT_ID", **at, order_id=order_id, client_id=name)
        if named and d["tif"] == Tif.GTD:
            self.say("EXPIRY", **at, order_id=order_id, expire_ns=d["expire_ns"])
        if d["lines"] > 2 and d["kind"] not in TRACELESS and (d["trace_hi"] or d["trace_lo"]):
            names = ("trace_hi", "trace_lo", "recv_ns", "key_id")
            traced = {n: d[n] for n in names}
            self.say("TRACE", **at, **traced, order_id=order_id, reserved=0)

    # ------------------------------------------------------------ the end

    def state_of(self) -> dict[str, Any]:
        """What is left, to be compared with the venue's tables: see tests.venue.state_of."""
        return {
            "balances": {k: v for k, v in self.balances.items() if v},
            "held": {
                (a, k): h for a in self.accounts for k in self.assets if (h := self.held(a, k))
            },
            "positions": {
                k: (p.lots, p.entry, p.leverage, p.isolated, p.money, p.sunk)
                for k, p in self.positions.items()
            },
            "closers": {k: [o.id for o in p.closers] for k, p in self.positions.items()},
            "orders": {
                o.id: (
                    *(o.open, o.close, o.hold, o.reserve, o.exposure, o.total, o.price),
                    *(o.pending, o.apart),
                )
                for o in self.orders.values()
            },
            "names": {k: (n.order, n.closed) for k, n in self.names.items()},
            "accounts": self.accounts,
            "symbols": {k: (s["state"], s["mark"], s["last"]) for k, s in self.symbols.items()},
        }
