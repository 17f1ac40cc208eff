"""The in-process venue of tools/inprocess.py as tests use it: people, a market, shorter calls.

v = Venue(shards=2, commands=16, matches=8, reports=64, seed=7)
v.open_market()                             # an asset, a symbol, two funded accounts
v.place(ANN, side=Side.BUY, price=100, qty=5, client_id="a")
reports = v.drain()                         # decoded, in order
check_laws(v)
"""

from __future__ import annotations

from typing import Any

from shm.codes import Kind, State
from shm.kinds import command
from shm.units import NIL, SYSTEM_ACCOUNTS
from tools import inprocess
from tools.inprocess import (
    CLOCK,
    DESK,
    ENUMS,
    EPOCH_NS,
    GATEWAY,
    LIMITS,
    PRODUCERS,
    as_dict,
    decode,
    name_of,
    words_text,
)
from tools.laws import check_laws, check_reports, exact, leg_of

__all__ = [
    "CLOCK",
    "DESK",
    "ENUMS",
    "EPOCH_NS",
    "GATEWAY",
    "LIMITS",
    "PRODUCERS",
    "as_dict",
    "check_laws",
    "check_reports",
    "command",
    "decode",
    "exact",
    "name_of",
    "words_text",
]

SECOND = 1_000_000_000

ANN, BOB, CAT, DAN, EVE = range(SYSTEM_ACCOUNTS, SYSTEM_ACCOUNTS + 5)

SYMBOL_DEFAULTS = {
    "tick_lot_quanta": 10,
    "qty_lots_min": 1,
    "qty_lots_max": 10_000,
    "price_ticks_min": 1,
    "price_ticks_max": 100_000,
    "leverage_max": 100,
    "leverage_default": 10,
    "orders_max": 200,
}


class Venue(inprocess.Venue):
    """With the commands of every day under short names."""

    def place(
        self, account: int, side: int, price: int, qty: int, symbol: int = 0, **fields: Any
    ) -> int:
        """Queue a LIMIT order, or MARKET with type=; see `send`."""
        return self.send(
            Kind.PLACE,
            account=account,
            symbol=symbol,
            side=side,
            price_ticks=price,
            qty_lots=qty,
            **fields,
        )

    def asset(self, asset: int = 0, scale: int = 6) -> None:
        self.send(Kind.ASSET, asset=asset, scale=scale, name="USDT")

    def symbol(self, symbol: int = 0, **fields: Any) -> None:
        self.send(Kind.SYMBOL, symbol=symbol, **{**SYMBOL_DEFAULTS, "name": "BTC", **fields})

    def account(self, account: int, quanta: int = 0, asset: int = 0, state: int = 0) -> None:
        self.send(Kind.ACCOUNT, account=account, state=state)
        if quanta:
            self.send(Kind.DEPOSIT, account=account, asset=asset, amount_quanta=quanta)

    def mark(self, ticks: int, symbol: int = 0) -> None:
        self.send(Kind.MARK, symbol=symbol, mark_ticks=ticks)

    def open_market(
        self,
        accounts: int = 4,
        symbols: int = 1,
        quanta: int = 1_000_000,
        **fields: Any,
    ) -> Venue:
        """An asset, symbols and funded accounts, from ANN on."""
        self.asset()
        for symbol in range(symbols):
            self.symbol(symbol, **fields)
        for k in range(accounts):
            self.account(SYSTEM_ACCOUNTS + k, quanta)
        self.drain()
        return self


def state_of(v: Venue) -> dict[str, Any]:
    """What the tables say, as the twin of risk says it (tests/model/risk_twin.py)."""
    a = v.arrays
    n = v.limits.assets
    claims = {c["slot"]: c for c in v.live_claims()}
    positions = a["positions"][: v.venue["positions_used"]]
    closers = {}
    for p in positions:
        ids, at = [], int(p["first_closer"])
        while at != NIL:
            ids.append(claims[at]["order_id"])
            at = claims[at]["next_closer"]
        closers[leg_of(p)] = ids
    words = "open_lots close_lots hold_quanta reserve_quanta exposure_quanta qty_lots price_ticks"
    words += " pending apart"
    wallets = [(divmod(k, n), w) for k, w in enumerate(a["wallets"])]
    accounts, symbols = a["accounts"]["state"], a["symbols"]
    return {
        "balances": {k: int(w["wallet_quanta"]) for k, w in wallets if w["wallet_quanta"]},
        "held": {k: int(w["held_quanta"]) for k, w in wallets if w["held_quanta"]},
        "positions": {
            leg_of(p): tuple(
                int(p[name])
                for name in (
                    *("lots", "entry_quanta", "leverage"),
                    *("isolated", "isolated_quanta", "sunk_quanta"),
                )
            )
            for p in positions
        },
        "closers": closers,
        "orders": {c["order_id"]: tuple(c[w] for w in words.split()) for c in claims.values()},
        "names": {
            (int(c["account"]), c["client_id"].tobytes()): (int(c["order_id"]), int(c["closed_ns"]))
            for c in a["clients"]
            if c["order_id"]
        },
        "accounts": {k: int(s) for k, s in enumerate(accounts) if s != State.ABSENT},
        "symbols": {
            k: (int(s["state"]), int(s["mark_ticks"]), int(s["last_ticks"]))
            for k, s in enumerate(symbols)
            if s["state"] != State.ABSENT
        },
    }
