"""A market of leveraged traders along a recorded price path: what liquidation is tried out on.

`Market(path, seed)` opens a venue of two perpetuals, a thousand traders with leverage from 3 to 60,
cross and isolated, one-way and hedge, and a few makers whose quotes follow the mark and are thin.
`run()` plays the path: the mark moves, makers quote anew, some traders trade, the scan looks, and
what it proposes is decided. Everything is drawn from the seed; what happens is in the venue's log.
"""

from __future__ import annotations

import csv
import gzip
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from engine.liquidation_scan import sweep, unwinding
from engine.state import Limits
from shm.codes import (  # fmt: skip
    Kind,
    LiquidationStep,
    MarginType,
    Move,
    PositionMode,
    ReportKind,
    Side,
    Tif,
    Type,
)
from shm.units import INSURANCE_ACCOUNT, SYSTEM_ACCOUNTS
from tests.venue import Venue
from tools.laws import check_laws

USDT: Final = 10**6
MAKERS: Final = 4
FIRST_TRADER: Final = SYSTEM_ACCOUNTS + MAKERS
# Ticks of 1 USDT, lots of 0.001: the second symbol follows the first at a fifteenth of its price.
UNIT: Final = 1000
SCALES: Final = (1, 15)
BRACKETS: Final = (
    (50_000, 4_000, 100),
    (600_000, 5_000, 75),
    (3_000_000, 10_000, 50),
    (100_000_000, 25_000, 20),
)


def closing_prices(
    path: Path, every: int = 1, first: int = 0, count: int | None = None
) -> list[int]:
    """Closing prices of a file of one-minute bars, whole USDT, each `every`-th."""
    with gzip.open(path, "rt") as lines:
        prices = [round(float(row["close"])) for row in csv.DictReader(lines)]
    chosen = prices[first::every]
    return chosen[:count] if count else chosen


def _in_process(limits: Limits) -> Venue:
    return Venue(limits, shards=2, commands=4096, matches=4096, reports=1 << 15)


class Market:
    def __init__(
        self,
        prices: list[int],
        seed: int,
        *,
        traders: int = 1000,
        fund: int = 20_000,
        make: Callable[[Limits], Venue] | None = None,
    ) -> None:
        """make: the venue to play in, of these limits; else one in this process"""
        self.prices, self.random = prices, random.Random(seed)
        self.traders = range(FIRST_TRADER, FIRST_TRADER + traders)
        accounts = FIRST_TRADER + traders
        limits = Limits(
            accounts=accounts,
            assets=1,
            symbols=2,
            positions=6 * accounts,
            orders=8192,
            algos=16,
            requests=16,
            clients=1024,
            leaves=4096,
            trie=4096,
        )
        self.venue = v = (make or _in_process)(limits)
        self.seen: Counter[str] = Counter()
        self.told = 0
        v.asset()
        for symbol, scale in enumerate(SCALES):
            v.symbol(
                symbol,
                tick_lot_quanta=UNIT,
                qty_lots_max=10**7,
                price_ticks_max=200_000,
                market_ppm=20_000,
                taker_fee_ppm=500,
                maker_fee_ppm=200,
            )
            floor = 0
            for index, (cap, ppm, leverage) in enumerate(BRACKETS):
                v.send(
                    Kind.BRACKET,
                    symbol=symbol,
                    index=index,
                    floor_quanta=floor * USDT,
                    cap_quanta=cap * USDT,
                    maintenance_ppm=ppm,
                    bracket_leverage_max=leverage,
                )
                floor = cap
            v.send(Kind.CONTRACT, symbol=symbol, liquidation_fee_ppm=12_500)
            v.mark(prices[0] // scale, symbol)
        v.send(Kind.DEPOSIT, account=INSURANCE_ACCOUNT, asset=0, amount_quanta=fund * USDT)
        for account in range(SYSTEM_ACCOUNTS, FIRST_TRADER):
            v.account(account, 50_000_000 * USDT)
        v.work()
        for account in self.traders:
            self._open_account(account)
        v.work()

    def _open_account(self, account: int) -> None:
        v, r = self.venue, self.random
        v.account(account, r.choice((300, 1_000, 5_000, 20_000, 100_000)) * USDT)
        if r.random() < 0.2:
            v.send(Kind.POSITION_MODE, account=account, value=PositionMode.HEDGE)
        for symbol in range(len(SCALES)):
            leverage = r.choice((3, 10, 20, 50))
            v.send(Kind.LEVERAGE, account=account, symbol=symbol, leverage=leverage)
            if r.random() < 0.4:
                value = MarginType.ISOLATED
                v.send(Kind.MARGIN_TYPE, account=account, symbol=symbol, value=value)
        if account % 64 == 0:
            v.work()

    def run(self, laws_every: int = 100) -> Market:
        for step, price in enumerate(self.prices):
            for symbol, scale in enumerate(SCALES):
                self.venue.mark(max(price // scale, 1), symbol)
                self._quote(symbol, max(price // scale, 1))
            self.venue.work()
            busy = 40 if step < 40 else 4
            for _ in range(busy):
                self._trade(price)
            self.venue.work()
            self._scan()
            if step % laws_every == 0:
                check_laws(self.venue)
        check_laws(self.venue)
        self._count()
        return self

    def _quote(self, symbol: int, mark: int) -> None:
        """Makers around the mark, with less than a cascade would take."""
        v, r = self.venue, self.random
        for maker in range(SYSTEM_ACCOUNTS, FIRST_TRADER):
            v.send(Kind.CANCEL_ALL, account=maker, symbol=symbol)
            away = max(mark * r.randint(2, 60) // 10_000, 1)
            for side in Side:
                price = mark - away if side == Side.BUY else mark + away
                v.place(maker, side, max(price, 1), r.randint(200, 3_000) * SCALES[symbol], symbol)

    def _trade(self, price: int) -> None:
        """Somebody opens or closes something, as large as the leverage allows or smaller."""
        v, r = self.venue, self.random
        account = r.choice(self.traders)
        symbol = r.randrange(len(SCALES))
        mark = max(price // SCALES[symbol], 1)
        wallet = int(v.arrays["wallets"]["wallet_quanta"][account])
        most = wallet * r.choice((2, 8, 15, 40)) // (mark * UNIT)
        hedge = v.arrays["accounts"]["position_mode"][account] == PositionMode.HEDGE
        fields: dict[str, Any] = {}
        if hedge:
            fields["position_side"] = r.choice((1, 2))
        v.place(
            account,
            r.choice(list(Side)),
            0,
            max(most * r.randint(1, 10) // 10, 1),
            symbol,
            type=Type.MARKET,
            tif=Tif.IOC,
            **fields,
        )

    def _scan(self) -> None:
        """As the clock does, until nothing looks unsafe."""
        v = self.venue
        for _ in range(8):
            _, rows = sweep(v.arrays, 0, v.limits.accounts)
            if not rows:
                break
            for part in rows:
                v.send_rows(part)
            v.work()
        for row in unwinding(v.arrays):
            v.send_rows(row)
        v.work()

    def _count(self) -> None:
        for r in self.venue.all_reports():
            if r["kind"] == ReportKind.LIQUIDATION:
                self.seen[LiquidationStep(int(r["status"])).name] += 1
            elif r["kind"] == ReportKind.WARNING:
                self.seen["WARNING"] += 1
            elif r["kind"] == ReportKind.MOVE:
                self.seen[Move(int(r["status"])).name] += 1

    def open_interest(self) -> int:
        return int(self.venue.arrays["symbols"]["open_lots"].sum())
