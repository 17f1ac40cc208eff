"""The matching rules once more, in the slowest and plainest way: lists, dicts and no indexes.

A command is a dict with the COMMAND fields matching reads. `Twin.apply` returns what the match
stage must write, as tuples (kind, symbol, slot, price_ticks, lots, open_lots, maker,
maker_open_lots, trade_id, reason), in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shm.codes import Flag, Kind, MatchKind, Reason, Route, Side, Stp, Tif, Type
from shm.records import NO_SYMBOL
from shm.units import NIL

Command = dict[str, Any]
Event = tuple[int, int, int, int, int, int, int, int, int, int]


@dataclass
class Order:
    slot: int
    order_id: int
    account: int
    position: int
    symbol: int
    side: int
    price: int
    open: int
    filled: int = 0
    live: bool = False


class Twin:
    """All books of a venue; `queue` holds the live orders of everybody in order of arrival."""

    def __init__(self) -> None:
        self.rows: dict[int, Order] = {}
        self.queue: list[Order] = []
        self.mine: list[Order] = []  # the same orders; here an amended one keeps its place
        self.last_ticks: dict[int, int] = {}
        self.trades: dict[int, int] = {}
        self.events: list[Event] = []

    # ------------------------------------------------------------ looking

    def side_of(self, symbol: int, side: int) -> list[Order]:
        """Resting orders, best price first, oldest first."""
        own = [o for o in self.queue if o.symbol == symbol and o.side == side]
        return sorted(own, key=lambda o: o.price if side == Side.SELL else -o.price)

    def within(self, o: Order) -> list[Order]:
        """Who `o` may trade with, in the order in which it would."""
        return [
            m
            for m in self.side_of(o.symbol, 1 - o.side)
            if (m.price <= o.price if o.side == Side.BUY else m.price >= o.price)
        ]

    # ------------------------------------------------------------ saying

    def say(self, kind: MatchKind, symbol: int, slot: int, **more: int) -> None:
        self.events.append(
            (
                int(kind),
                symbol,
                slot,
                more.get("price", 0),
                more.get("lots", 0),
                more.get("open", 0),
                more.get("maker", NIL),
                more.get("maker_open", 0),
                more.get("trade_id", 0),
                int(more.get("reason", Reason.NONE)),
            )
        )

    def end(self, o: Order, reason: int) -> None:
        self.forget(o)
        self.say(MatchKind.ENDED, o.symbol, o.slot, open=o.open, reason=reason)

    def forget(self, o: Order) -> None:
        o.live = False
        self.queue = [q for q in self.queue if q is not o]
        self.mine = [q for q in self.mine if q is not o]

    # ------------------------------------------------------------ doing

    def apply(self, c: Command) -> list[Event]:
        self.events = []
        o = self.rows.get(c["slot"])
        live = o is not None and o.live and o.order_id == c["decided_order_id"]
        kind, flags = c["kind"], c["flags"]
        if c["route"] == Route.NOWHERE:
            pass
        elif kind == Kind.PLACE:
            self.enter(self.new(c), c, c["type"])
        elif kind == Kind.CANCEL_ALL:
            own = [m for m in self.mine if m.account == c["account"]]
            own = [m for m in own if c["symbol"] in (m.symbol, NO_SYMBOL)]
            for m in sorted(own, key=lambda m: (m.symbol, m.position)):
                self.end(m, c["end_reason"])
            self.say(MatchKind.DONE, c["symbol"], NIL)
        elif kind == Kind.CANCEL_SYMBOL:
            for side in (Side.BUY, Side.SELL):
                for m in self.side_of(c["symbol"], side):
                    self.end(m, c["end_reason"])
            self.say(MatchKind.DONE, c["symbol"], NIL)
        elif kind == Kind.CANCEL and live:
            self.end(o, c["end_reason"])
        elif kind == Kind.EXPIRE and live:
            if 0 < c["decided_lots"] < o.open:
                self.amend(o, o.price, o.open - c["decided_lots"])
            else:
                self.end(o, c["end_reason"])
        elif kind == Kind.REDUCE and live:
            if c["decided_lots"] >= o.open:
                self.end(o, Reason.USER_CANCEL)
            else:
                self.amend(o, o.price, o.open - c["decided_lots"])
        elif kind == Kind.AMEND and live:
            open_lots = c["decided_lots"]
            if flags & Flag.KEEP_QTY:
                open_lots = o.open
            elif not flags & Flag.REMAINING:
                open_lots -= o.filled
            keeps = c["limit_ticks"] == o.price and open_lots <= o.open
            if open_lots <= 0:
                self.end(o, Reason.AMENDED_AWAY)
            elif keeps and not flags & Flag.TO_BACK:
                self.amend(o, o.price, open_lots)
            else:
                self.queue = [q for q in self.queue if q is not o]
                self.amend(o, c["limit_ticks"], open_lots)
                self.enter(o, c, Type.LIMIT)
        elif (
            kind == Kind.AMEND
            and flags & Flag.UPSERT
            and c["slot"] != NIL
            and c["decided_lots"] > 0
            and not (o is not None and o.live)
        ):
            same = o is not None and o.order_id == c["decided_order_id"]
            filled = o.filled if same else 0
            o = self.new(c)
            o.filled = filled
            self.amend(o, o.price, o.open)
            self.enter(o, c, Type.LIMIT)
        elif kind in (Kind.CANCEL, Kind.EXPIRE, Kind.REDUCE, Kind.AMEND):
            self.say(MatchKind.REFUSED, c["symbol"], c["slot"])
        else:
            self.say(MatchKind.DONE, c["symbol"], NIL)
        return self.events

    def new(self, c: Command) -> Order:
        o = Order(
            c["slot"],
            c["decided_order_id"],
            c["account"],
            c["position"],
            c["symbol"],
            c["side"],
            c["limit_ticks"],
            c["decided_lots"],
        )
        self.rows[o.slot] = o
        return o

    def amend(self, o: Order, price: int, open_lots: int) -> None:
        o.price, o.open = price, open_lots
        self.say(
            MatchKind.AMENDED, o.symbol, o.slot, price=price, lots=o.filled + o.open, open=o.open
        )

    def enter(self, o: Order, c: Command, type_: int) -> None:
        tif, stp = c["order_tif"], c["order_stp"]
        if not c["flags"] & Flag.NO_MATCH:
            if tif == Tif.GTX and self.within(o):
                return self.end(o, Reason.WOULD_TAKE)
            if tif == Tif.FOK and not self.can_fill(o, stp):
                return self.end(o, Reason.FOK_UNFILLED)
            if self.take(o, stp):
                return None
            if type_ == Type.MARKET:
                return self.end(o, Reason.MARKET_REMAINDER)
            if tif == Tif.IOC:
                return self.end(o, Reason.IOC_REMAINDER)
        o.live = True
        self.queue.append(o)
        if not any(m is o for m in self.mine):
            self.mine.append(o)
        if self.events and self.events[-1][0] == MatchKind.AMENDED:
            return None  # it met nobody: that says it all
        self.say(MatchKind.RESTED, o.symbol, o.slot, price=o.price, open=o.open)
        return None

    def can_fill(self, o: Order, stp: int) -> bool:
        need = o.open
        for m in self.within(o):
            if m.account == o.account and stp == Stp.EXPIRE_MAKER:
                continue
            if m.account == o.account and stp != Stp.NONE:
                return False
            need -= m.open
            if need <= 0:
                return True
        return False

    def take(self, o: Order, stp: int) -> bool:
        """Trade; whether that was the end of `o`."""
        for m in self.within(o):
            if m.account == o.account and stp != Stp.NONE:
                if stp != Stp.EXPIRE_TAKER:
                    self.end(m, Reason.SELF_TRADE)
                if stp != Stp.EXPIRE_MAKER:
                    self.end(o, Reason.SELF_TRADE)
                    return True
                continue
            lots = min(o.open, m.open)
            o.open -= lots
            m.open -= lots
            o.filled += lots
            m.filled += lots
            self.trades[o.symbol] = self.trades.get(o.symbol, 0) + 1
            self.last_ticks[o.symbol] = m.price
            if m.open == 0:
                self.forget(m)
            self.say(
                MatchKind.FILL,
                o.symbol,
                o.slot,
                price=m.price,
                lots=lots,
                open=o.open,
                maker=m.slot,
                maker_open=m.open,
                trade_id=self.trades[o.symbol],
            )
            if o.open == 0:
                self.forget(o)
                return True
        return False
