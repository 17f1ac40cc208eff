"""What a venue says, in the names and units of a scenario: positions, balances, orders, events.

Reads   tables and reports of an in-process venue.
Writes  exact fractions in units of money, price and quantity, and names.
Never   changes the venue. Margins and liquidation prices come from the kernels that risk and
        liquidation use; everything else is read or summed from the rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from shm.codes import (
    AlgoStatus,
    Cause,
    Flag,
    Flip,
    Kind,
    LiquidationStep,
    MarginType,
    Move,
    PositionSide,
    Reason,
    RequestStatus,
    Side,
    State,
    Working,
)
from shm.maintenance import (
    cross_health,
    cross_liquidation_ticks,
    isolated_health,
    isolated_liquidation_ticks,
    notional_allowed,
    position_maintenance,
    position_value,
)
from shm.margin import available, position_margin, removable, withdrawable
from shm.pointers import table
from shm.ranking import lights_of, score_positions
from shm.records import NO_SYMBOL
from shm.units import EXPOSURE_QUANTA_MAX, PPB, PPM, PRICE_TICKS_MAX
from tools.inprocess import Venue, name_of
from tools.scenariokeys import ALGO, EVENTS, ORDER
from tools.scenariomodel import Asset, Scenario, Symbol
from tools.scenariounits import Word, clock, shown

# Ends that the venue decided: a trader may call such an order cancelled as well as expired.
_CANCELS = {
    *("FLIP", "KILL_SWITCH", "SYMBOL_CLOSED", "COUNTDOWN", "LIQUIDATION", "ADL", "DELISTED"),
    *("REDUCE_ONLY", "POSITION_CLOSED"),
}

_ISOLATED = 4  # bit of `status` in MARGIN and FUNDING


@dataclass
class Order:
    """What reports have said about an order, or (algo) about a conditional one."""

    status: str = "NEW"
    reason: str = "NONE"
    symbol: int = 0
    price: int = 0
    open: int = 0
    filled: int = 0
    spent: int = 0  # ticks * lots of its fills
    fees: int = 0
    trigger: int = 0


def ended(status: str, reason: str) -> str:
    """A status under both its names, if it has two."""
    if reason not in _CANCELS or status not in ("CANCELED", "EXPIRED"):
        return status
    return Word.of(status, "EXPIRED" if status == "CANCELED" else "CANCELED")


class Eye:
    """Looks at one venue; `hear` must be given every report, in order."""

    def __init__(self, scenario: Scenario, venue: Venue, offset_ns: int) -> None:
        self.scenario = scenario
        self.venue = venue
        self.offset_ns = offset_ns
        self.symbols = {s.number: s for s in scenario.symbols.values()}
        self.assets = {a.number: a for a in scenario.assets.values()}
        self.accounts = {number: name for name, number in scenario.numbers.items()}
        self.orders: dict[int, Order] = {}
        self.algos: dict[int, Order] = {}
        self.ids: dict[str, int] = {}  # label -> order, or request
        self.algo_ids: dict[str, int] = {}  # label -> conditional order
        self.rates: dict[int, int] = {}  # symbol -> ppb of its last funding

    # ------------------------------------------------------------ hearing

    def hear(self, reports: Iterable[dict[str, Any]]) -> None:
        """Keep what reports say about orders."""
        for r in reports:
            kind = r["kind"]
            if kind == "ORDER":
                self._order(r)
            elif kind == "EXEC" and r["order_id"]:
                order = self.orders.setdefault(r["order_id"], Order(symbol=r["symbol"]))
                order.open = r["open_lots"]
                order.filled += r["lots"]
                order.spent += r["lots"] * r["price_ticks"]
                order.fees += r["fee_quanta"]
                order.status = "PARTIALLY_FILLED" if order.open else "FILLED"
            elif kind == "ALGO":
                self._algo(r)
            elif kind == "FUNDING_ROUND":
                self.rates[r["symbol"]] = r["rate_ppb"]

    def _order(self, r: dict[str, Any]) -> None:
        status, order_id = r["status"], r["order_id"]
        if status == "REFUSED" or (status == "REJECTED" and r["command"] != "PLACE"):
            return
        if status == "REJECTED":
            # What was refused has no id: its place in the log stands for one.
            order_id = r["seq"]
        order = self.orders.setdefault(order_id, Order(symbol=r["symbol"]))
        order.reason = r["reason"] if r["reason"] != "AMENDED_AWAY" else order.reason
        order.price, order.open = r["price_ticks"], r["open_lots"]
        if status == "AMENDED":
            order.status = "PARTIALLY_FILLED" if order.filled else "NEW"
        else:
            order.status = status

    def _algo(self, r: dict[str, Any]) -> None:
        status = name_of(AlgoStatus, r["status"])
        if status == "REFUSED":
            return
        algo_id = r["algo_id"] or r["seq"]
        algo = self.algos.setdefault(algo_id, Order(symbol=r["symbol"]))
        algo.status = status
        algo.reason = name_of(Reason, r["reason"])
        algo.trigger = r["trigger_ticks"]
        if r["order_id"]:
            for label, known in self.algo_ids.items():
                if known == algo_id:
                    self.ids[label] = r["order_id"]

    def label(self, order_id: int) -> str | None:
        """The scenario's name of an order; None if it has none."""
        names = [n for n, known in self.ids.items() if known == order_id]
        return names[0] if names and order_id else None

    def algo_label(self, algo_id: int) -> str | None:
        names = [n for n, known in self.algo_ids.items() if known == algo_id]
        return names[0] if names else None

    # ------------------------------------------------------------ units

    def price(self, symbol: int, ticks: int) -> Fraction:
        return Fraction(self.symbols[symbol].tick) * ticks

    def qty(self, symbol: int, lots: int) -> Fraction:
        return Fraction(self.symbols[symbol].lot) * lots

    def money(self, asset: Asset, quanta: int) -> Fraction:
        return Fraction(quanta, 10**asset.scale)

    def paid(self, symbol: int, quanta: int) -> Fraction:
        """Money of a symbol's settlement asset."""
        return self.money(self.symbols[symbol].asset, quanta)

    def account(self, number: int) -> str:
        return self.accounts.get(number, str(number))

    def symbol(self, number: int) -> str | None:
        return self.symbols[number].name if number in self.symbols else None

    # ------------------------------------------------------------ state

    def value(self, table: str, key: tuple[Any, ...], field: str) -> Any:
        """One value of a table of tools/scenariokeys.py; None: there is none."""
        found: dict[str, Any]
        if table == "position":
            found = self.position(*key)
        elif table == "balance":
            found = self.balance(*key)
        elif table == "order":
            found = self.order(*key)
        elif table == "algo":
            found = self.algo(*key)
        elif table == "symbol":
            found = self.contract(*key)
        else:
            venue = self.venue.venue
            found = {
                "state": name_of(State, int(venue["state"])),
                "orders": Fraction(int(venue["live_orders"])),
                "deficits": Fraction(int(venue["deficit_count"])),
            }
        return found[field]

    def _row(self, account: int, symbol: Symbol, leg: PositionSide) -> Any:
        at = self._place(account, symbol, leg)
        return None if at is None else self.venue.arrays["positions"][at]

    def _place(self, account: int, symbol: Symbol, leg: PositionSide) -> int | None:
        rows = self.venue.arrays["positions"][: self.venue.venue["positions_used"]]
        at = np.flatnonzero(
            (rows["account"] == account)
            & (rows["symbol"] == symbol.number)
            & (rows["position_side"] == leg)
        )
        return int(at[0]) if len(at) else None

    def position(self, account: int, symbol: Symbol, leg: PositionSide) -> dict[str, Any]:
        r = self.venue.engine.risk
        row = self._place(account, symbol, leg)
        p = None if row is None else self.venue.arrays["positions"][row]
        zero = Fraction(0)
        names = "qty cost realised unrealised notional initial maintenance isolated claimed hold"
        found: dict[str, Any] = dict.fromkeys((*names.split(), "orders"), zero)
        found |= {"side": "FLAT", "entry": None, "break_even": None, "liquidation_price": None}
        found |= {"margin_type": "CROSS", "equity": zero, "ratio": None, "removable": zero}
        found |= {"adl": zero, "adl_score": zero}
        leverage = symbol.parameters["leverage_default"] if p is None else int(p["leverage"])
        most = int(notional_allowed(r.brackets, r.symbols, symbol.number, leverage))
        found["leverage"] = Fraction(leverage)
        found["notional_max"] = (
            None if most == EXPOSURE_QUANTA_MAX else self.paid(symbol.number, most)
        )
        if p is None or row is None:
            return found
        n, unit = symbol.number, symbol.asset
        lots, entry = int(p["lots"]), int(p["entry_quanta"])
        qty = self.qty(n, lots)
        value, unrealised = position_value(r.symbols, p)
        margin, _ = position_margin(r.symbols, p)
        found |= {
            "qty": qty,
            "cost": self.money(unit, entry),
            "realised": self.money(unit, int(p["realised_quanta"])),
            "unrealised": self.money(unit, int(unrealised)),
            "notional": self.money(unit, int(value)),
            "initial": self.money(unit, int(margin)),
            "maintenance": self.money(
                unit, int(position_maintenance(r.brackets, r.symbols, p)) if lots else 0
            ),
            "isolated": self.money(unit, int(p["isolated_quanta"])),
            "claimed": self.qty(n, int(p["close_lots"])),
            "hold": self.money(unit, int(p["hold_quanta"])),
            "orders": Fraction(int(p["open_orders"])),
            "margin_type": MarginType(int(p["isolated"])).name,
        }
        if lots:
            sunk = self.money(unit, int(p["sunk_quanta"]))
            found["side"] = "LONG" if lots > 0 else "SHORT"
            found["entry"] = found["cost"] / qty
            found["break_even"] = (found["cost"] + sunk) / qty
            if p["isolated"]:
                ticks = isolated_liquidation_ticks(r.brackets, r.symbols, p)
            else:
                ticks = cross_liquidation_ticks(
                    *(r.accounts, r.wallets, r.symbols, r.positions, r.brackets),
                    *(account, int(p["wallet"]), n),
                )
            found["liquidation_price"] = self.price(n, int(ticks)) if ticks else None
            found |= self._standing(account, row, symbol)
        return found

    def _standing(self, account: int, row: int, symbol: Symbol) -> dict[str, Any]:
        """What stands behind an open position, and how near it is to be deleveraged."""
        r, rows = self.venue.engine.risk, self.venue.arrays["positions"]
        p = rows[row]
        used = int(self.venue.venue["positions_used"])
        tables = (r.accounts, r.wallets, r.symbols, r.positions, r.brackets)
        spare = 0
        if p["isolated"]:
            equity, needed = isolated_health(r.brackets, r.symbols, p)
            spare = removable(r.symbols, r.brackets, p)
        else:
            equity, needed, _ = cross_health(*tables, account, int(p["wallet"]), NO_SYMBOL)
        scores = np.zeros(used, np.int64)
        one = 10**symbol.asset.scale
        score_positions(*tables, symbol.number, one, 0, used, table(scores))
        return {
            "equity": self.money(symbol.asset, int(equity)),
            "ratio": Fraction(int(needed), int(equity)) if equity > 0 else None,
            "removable": self.money(symbol.asset, int(spare)),
            "adl": Fraction(int(lights_of(scores)[row])),
            "adl_score": Fraction(abs(int(scores[row])) - 1, PPB),
        }

    def balance(self, account: int, asset: Asset) -> dict[str, Any]:
        v, r = self.venue, self.venue.engine.risk
        row = account * v.limits.assets + asset.number
        w = v.arrays["wallets"][row]
        tables = (r.accounts, r.wallets, r.symbols, r.positions)
        free = int(available(*tables, account, row))
        equity, needed, _ = cross_health(*tables, r.brackets, account, row, NO_SYMBOL)
        positions = v.arrays["positions"][: v.venue["positions_used"]]
        mine = positions[(positions["wallet"] == row) & (positions["lots"] != 0)]
        cross = [p for p in mine if not p["isolated"]]
        initial = sum(int(position_margin(r.symbols, p)[0]) for p in cross)
        unrealised = sum(int(position_value(r.symbols, p)[1]) for p in cross)
        equity = int(w["wallet_quanta"]) + unrealised
        quanta = {
            "wallet": w["wallet_quanta"],
            "available": max(free, 0),
            "withdrawable": withdrawable(*tables, r.brackets, account, row),
            "held": w["held_quanta"],
            "pending": w["pending_quanta"],
            "isolated": w["isolated_quanta"],
            "unrealised": unrealised,
            "equity": equity,
            "initial": initial,
            "maintenance": needed,
            "deposited": w["deposited_quanta"],
            "withdrawn": w["withdrawn_quanta"],
            "realised": w["realised_quanta"],
            "fees": w["fees_quanta"],
            "funding": w["funding_quanta"],
            "adjusted": w["adjusted_quanta"],
        }
        found: dict[str, Any] = {k: self.money(asset, int(q)) for k, q in quanta.items()}
        found["ratio"] = Fraction(int(needed), int(equity)) if equity > 0 else None
        found["deficits"] = Fraction(int(w["deficit_count"]))
        return found

    def order(self, label: str) -> dict[str, Any]:
        order_id = self.ids.get(label, 0)
        order = self.orders.get(order_id)
        if order is None:
            return dict.fromkeys(ORDER)
        claim = self.venue.claim(order_id)
        live = claim or {"open_lots": 0, "close_lots": 0, "hold_quanta": 0}
        n = order.symbol
        average = Fraction(order.spent, order.filled) if order.filled else None
        total = claim["qty_lots"] if claim else order.open + order.filled
        return {
            "status": ended(order.status, order.reason),
            "reason": order.reason,
            "qty": self.qty(n, total),
            "open": self.qty(n, live["open_lots"]),
            "filled": self.qty(n, order.filled),
            "price": self.price(n, order.price) if order.price else None,
            "average": None if average is None else average * Fraction(self.symbols[n].tick),
            "fees": self.paid(n, order.fees),
            "close_claim": self.qty(n, live["close_lots"]),
            "open_claim": self.qty(n, live["open_lots"] - live["close_lots"]),
            "hold": self.paid(n, live["hold_quanta"]),
        }

    def algo(self, label: str) -> dict[str, Any]:
        algo = self.algos.get(self.algo_ids.get(label, 0))
        if algo is None:
            return dict.fromkeys(ALGO)
        trigger = algo.trigger
        rows = self.venue.arrays["algos"]
        at = np.flatnonzero(rows["algo_id"] == self.algo_ids[label])
        if len(at):
            trigger = int(rows[at[0]]["trigger_ticks"])
        return {
            "status": ended(algo.status, algo.reason),
            "reason": algo.reason,
            "trigger": self.price(algo.symbol, trigger) if trigger else None,
        }

    def contract(self, symbol: Symbol) -> dict[str, Any]:
        arrays, n = self.venue.arrays, symbol.number
        s, c, b = arrays["symbols"][n], arrays["contracts"][n], arrays["books"][n]
        rate = self.rates.get(n)
        following = int(c["funding_next_ns"])

        def price(ticks: int) -> Fraction | None:
            return self.price(n, ticks) if 0 < ticks <= PRICE_TICKS_MAX else None

        return {
            "mark": price(int(s["mark_ticks"])),
            "last": price(int(s["last_ticks"])),
            "index": price(int(c["index_ticks"])),
            "state": name_of(State, int(s["state"])),
            "open_interest": self.qty(n, int(s["open_lots"])),
            "trades": Fraction(int(s["trade_count"])),
            "best_bid": price(int(b["best_bid"])),
            "best_ask": price(int(b["best_ask"])),
            "halted": bool(c["halted"]),
            "funding_rate": None if rate is None else Fraction(rate, PPB),
            "next_funding": clock(following - self.offset_ns) if following else None,
        }

    # ------------------------------------------------------------ lists

    def rows(self, table: str, key: tuple[Any, ...]) -> list[dict[str, Any]]:
        """A list of the state: levels of a book, claims on a position."""
        if table == "book":
            return self.levels(*key)
        p = self._row(*key)
        claims, found = self.venue.arrays["claims"], []
        at = -1 if p is None else int(p["first_closer"])
        while at != -1:
            c = claims[at]
            close = self.qty(int(p["symbol"]), int(c["close_lots"]))
            found.append({"order": self.label(int(c["order_id"])), "close": close})
            at = int(c["next_closer"])
        return found

    def levels(self, symbol: Symbol, side: Side) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for side_, ticks, order_id, lots in self.venue.book(symbol.number):
            if side_ != side.name:
                continue
            price, qty = self.price(symbol.number, ticks), self.qty(symbol.number, lots)
            label = self.label(order_id) or str(order_id)
            if found and found[-1]["price"] == price:
                found[-1]["qty"] += qty
                found[-1]["orders"] += f" {label}"
            else:
                found.append({"price": price, "qty": qty, "orders": label})
        return found

    # ------------------------------------------------------------ events

    def events(self, table: str, reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What happened, as rows of a table of tools/scenariokeys.py."""
        if table == "fills":
            return self._fills(reports)
        make = {
            "flips": ("FLIP", self._flip),
            "ended": ("ORDER", self._ended),
            "triggered": ("ALGO", self._triggered),
            "liquidations": ("LIQUIDATION", self._liquidation),
            "deleveraged": ("ADL", self._deleveraged),
            "warnings": ("WARNING", self._warning),
            "funding": ("FUNDING", self._funding),
            "moves": ("MOVE", self._move),
        }
        kind, row = make[table]
        made = [row(r) for r in reports if r["kind"] == kind]
        return [found for found in made if found is not None]

    def _fills(self, reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found: dict[tuple[int, int], dict[str, Any]] = {}
        for r in reports:
            if r["kind"] != "EXEC":
                continue
            n, status = r["symbol"], r["status"]
            row = found.setdefault(
                (n, r["trade_id"]),
                {
                    **dict.fromkeys(EVENTS["fills"]),
                    "symbol": self.symbol(n),
                    "qty": self.qty(n, r["lots"]),
                    "price": self.price(n, r["price_ticks"]),
                    "cause": "MATCH",
                },
            )
            role = "taker" if status & 1 else "maker"
            side = "seller" if status & 2 else "buyer"
            cause = name_of(Cause, status >> 2 & 7)
            if cause != "MATCH":
                row["cause"] = cause
            row[side] = self.account(r["account"])
            row[f"{side}_fee"] = row[f"{role}_fee"] = self.paid(n, r["fee_quanta"])
            if r["order_id"]:
                row[role] = self.label(r["order_id"])
        return list(found.values())

    def _flip(self, r: dict[str, Any]) -> dict[str, Any]:
        n = r["symbol"]
        return {
            "order": self.label(r["order_id"]),
            "to": name_of(Flip, r["status"]),
            "qty": self.qty(n, r["lots"]),
            "thief": self.label(r["thief_order_id"]),
            "close": self.qty(n, r["close_lots"]),
            "hold": self.paid(n, r["hold_quanta"]),
            "hold_change": self.paid(n, r["hold_change_quanta"]),
        }

    def _ended(self, r: dict[str, Any]) -> dict[str, Any] | None:
        if r["status"] not in ("CANCELED", "EXPIRED") or self.label(r["order_id"]) is None:
            return None  # the venue's own, of a liquidation, have no name
        return {
            "order": self.label(r["order_id"]),
            "status": ended(r["status"], r["reason"]),
            "reason": r["reason"],
            "open": self.qty(r["symbol"], r["open_lots"]),
        }

    def _triggered(self, r: dict[str, Any]) -> dict[str, Any] | None:
        status = name_of(AlgoStatus, r["status"])
        if status in ("NEW", "REFUSED"):
            return None
        reason = name_of(Reason, r["reason"])
        order = self.algo_label(r["algo_id"])
        return {"order": order, "status": ended(status, reason), "reason": reason}

    def _scope(self, r: dict[str, Any]) -> Asset:
        return self.assets[r["scope"] & 0xFFFF]

    def _liquidation(self, r: dict[str, Any]) -> dict[str, Any]:
        n, asset = r["symbol"], self._scope(r)
        here = n in self.symbols
        return {
            "account": self.account(r["account"]),
            "symbol": self.symbol(n),
            "step": name_of(LiquidationStep, r["status"]),
            "price": self.price(n, r["price_ticks"]) if here and r["price_ticks"] else None,
            "qty": self.qty(n, r["lots"]) if here else None,
            "equity": self.money(asset, r["equity_quanta"]),
            "maintenance": self.money(asset, r["maintenance_quanta"]),
            "fund": self.money(asset, r["fund_quanta"]),
        }

    def _deleveraged(self, r: dict[str, Any]) -> dict[str, Any]:
        n = r["symbol"]
        return {
            "account": self.account(r["account"]),
            "symbol": self.symbol(n),
            "qty": self.qty(n, r["lots"]),
            "price": self.price(n, r["price_ticks"]),
            "adl": Fraction(r["status"]),
            "adl_score": Fraction(r["score_ppb"], PPB),
            "place": Fraction(r["place"]),
            "ranked": Fraction(r["ranked"]),
        }

    def _warning(self, r: dict[str, Any]) -> dict[str, Any]:
        asset = self._scope(r)
        return {
            "account": self.account(r["account"]),
            "symbol": self.symbol(r["symbol"]),
            "equity": self.money(asset, r["equity_quanta"]),
            "maintenance": self.money(asset, r["maintenance_quanta"]),
        }

    def _funding(self, r: dict[str, Any]) -> dict[str, Any]:
        n = r["symbol"]
        return {
            "account": self.account(r["account"]),
            "symbol": self.symbol(n),
            "rate": Fraction(r["rate_ppb"], PPB),
            "mark": self.price(n, r["mark_ticks"]),
            "qty": self.qty(n, r["position_lots"]),
            "amount": self.paid(n, r["amount_quanta"]),
        }

    def _move(self, r: dict[str, Any]) -> dict[str, Any]:
        asset = self.assets[r["pocket"] & 0xFFFF]
        return {
            "account": self.account(r["account"]),
            "from": self.account(r["other_account"]),
            "why": name_of(Move, r["status"]),
            "amount": self.money(asset, r["amount_quanta"]),
        }

    # ------------------------------------------------------------ any report

    def told(self, r: dict[str, Any]) -> str:
        """A report in one line, in names and units."""
        kind, n = r["kind"], r["symbol"]
        words = [kind.lower()]
        if r["account"] or kind != "ANSWER":
            words.append(self.account(r["account"]))
        if n in self.symbols:
            words.append(self.symbols[n].name)
        asset = self._asset_of(r)
        for field, value in r.items():
            if field in ("seq", "account", "symbol", "kind", "request", "ts_ns", "source"):
                continue
            if field.startswith("reserved") or value in (0, "", "NONE", "BOTH", "GTC"):
                continue
            text = self._shown(kind, field, value, n, asset)
            if text:
                words.append(text)
        return " ".join(words)

    def _asset_of(self, r: dict[str, Any]) -> Asset:
        if (
            "asset" in r
            and r["asset"] in self.assets
            and r["kind"] in ("WALLET", "HOLD", "REQUEST")
        ):
            return self.assets[r["asset"]]
        for field in ("scope", "pocket"):
            if field in r and r[field] & 0xFFFF in self.assets:
                return self.assets[r[field] & 0xFFFF]
        if r["symbol"] in self.symbols:
            return self.symbols[r["symbol"]].asset
        return next(iter(self.assets.values()))

    def _shown(self, kind: str, field: str, value: Any, n: int, asset: Asset) -> str:
        """One field of a report; "" where it says nothing."""
        name, _, unit = field.rpartition("_")
        if field in ("order_id", "thief_order_id"):
            what = "thief " if field != "order_id" else ""
            return f"{what}{self.label(value) or f'#{value}'}"
        if field == "algo_id":
            return self.algo_label(value) or f"#{value}"
        if field == "other_account":
            return f"from {self.account(value)}"
        if field == "status" and isinstance(value, int):
            return _status(kind, value)
        if field in _ENUMS and isinstance(value, int):
            return str(name_of(_ENUMS[field], value))
        if field == "flags":
            return "|".join(f.name or "" for f in Flag if value & f)
        if unit == "ticks" and n in self.symbols:
            return f"{name} {shown(self.price(n, value))}"
        if unit == "lots" and n in self.symbols:
            return f"{name} {shown(self.qty(n, value))}"
        if unit == "quanta":
            return f"{name} {shown(self.money(asset, value))}"
        if unit == "ppb":
            return f"{name} {shown(Fraction(value * 100, PPB))}%"
        if unit == "ppm":
            return f"{name} {shown(Fraction(value * 100, PPM))}%"
        if unit == "ns" and value > self.offset_ns:
            return f"{name} {clock(value - self.offset_ns)}"
        if field in ("scope", "pocket", "command", "asset", "value", "what", "stp", "tif", "type"):
            return str(value) if isinstance(value, str) else ""
        return f"{field} {value}"


_ENUMS: dict[str, Any] = {"reason": Reason, "side": Side, "working": Working, "state": State}
_STATUS: dict[str, Any] = {
    "FLIP": Flip,
    "MOVE": Move,
    "LIQUIDATION": LiquidationStep,
    "REQUEST": RequestStatus,
    "ALGO": AlgoStatus,
    "WALLET": Kind,
}


def _status(kind: str, value: int) -> str:
    if kind in _STATUS:
        return str(name_of(_STATUS[kind], value)).lower()
    if kind in ("EXEC", "POSITION"):
        words = ["taker" if value & 1 else "maker", "sells" if value & 2 else "buys"]
        cause = name_of(Cause, value >> 2 & 7)
        return " ".join(words + ([str(cause).lower()] if cause != "MATCH" else []))
    if kind in ("MARGIN", "FUNDING"):
        return "isolated" if value & _ISOLATED else ""
    return f"status {value}" if kind not in ("PARAMETERS", "TRACE", "CLIENT_ID") else ""
