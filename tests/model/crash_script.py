"""A market by script: every command with the time it is sent at, by seed, whatever comes of them.

`Script(seed)` has `setup` and `steps`, to send one by one, each when all that the one before it
caused is done. Two perpetuals with leveraged traders, half of them long, one whale among them, few
quotes and a poor insurance fund live through trading with conditional orders of every kind, dead
man's switches, funding, a crash, a rebound and the delisting of one symbol.

A step of no commands is a look of the clock process: `looked` makes its commands of the tables as
they are then, as the clock does. All else is decided beforehand, so that a venue that was killed
and sent again what it had not answered can be compared, byte by byte, with one that was not.
"""

from __future__ import annotations

import random
from typing import Any, Final, NamedTuple

import numpy as np

from engine.liquidation_scan import sweep, unwinding
from engine.state import Limits
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
from shm.kinds import command
from shm.units import INSURANCE_ACCOUNT, SYSTEM_ACCOUNTS

Array = np.ndarray[Any, Any]

START_NS: Final = 4_000_000_000_000_000_000  # ahead of every clock: what a script says is the time
SECOND: Final = 1_000_000_000
HOUR: Final = 3600 * SECOND
USDT: Final = 10**6
UNIT: Final = 1000  # quanta of a tick times a lot: ticks of 1 USDT, lots of 0.001
MAKERS: Final = range(SYSTEM_ACCOUNTS, SYSTEM_ACCOUNTS + 3)
SCALES: Final = (1, 15)  # the second symbol costs a fifteenth of the first
BRACKETS: Final = ((20_000, 4_000, 100), (200_000, 10_000, 50), (100_000_000, 25_000, 20))
LOOKS: Final = 6  # in a row, at most


class Step(NamedTuple):
    at_ns: int
    what: str  # for people
    rows: tuple[Array, ...]  # COMMAND rows, one a command; none: a look


def limits_for(traders: int) -> Limits:
    """Tables that hold the market."""
    accounts = MAKERS.stop + traders
    return Limits(
        accounts=accounts,
        assets=1,
        symbols=2,
        positions=4 * accounts,
        orders=8192,
        clients=8192,
        algos=2048,
        requests=16,
        leaves=4096,
        trie=4096,
        digests=4096,
    )


def looked(arrays: dict[str, Array]) -> list[Array]:
    """What a look of the clock at the tables makes it propose."""
    found, accounts = [], int(arrays["venue"]["accounts_used"][0])
    for rows in sweep(arrays, 0, accounts)[1]:
        found += [rows[k : k + 1].copy() for k in range(len(rows))]
    return [*found, *unwinding(arrays)]


class Script:
    def __init__(self, seed: int, *, traders: int = 300, rounds: int = 2) -> None:
        self.random = r = random.Random(seed)
        self.traders = range(MAKERS.stop, MAKERS.stop + traders)
        self.limits = limits_for(traders)
        self.whale = self.traders[0]
        self.hedged = set(r.sample(self.traders[1:], traders // 8))
        self.price = 40_000
        self.at_ns = START_NS
        self.setup: list[Array] = []
        self.steps: list[Step] = []
        self._names = 0
        self._declare(r.choice((500, 5_000, 100_000)))
        self._fill()
        self._stops()
        for _ in range(rounds):
            self._trade(25)
            self._funding()
            self._trade(15)
            for _ in range(3):
                self._move(r.uniform(0.92, 0.97))
                self._trade(4)
            self._switches()
            self._move(r.uniform(1.06, 1.12))
            self._funding()
        self._delist()

    # ------------------------------------------------------------ setting it up

    def _later(self, ns: int) -> None:
        self.at_ns += ns

    def _send(self, what: str, kind: int, **fields: Any) -> None:
        self.steps.append(Step(self.at_ns, what, (command(kind, **fields),)))

    def _look(self) -> None:
        self.steps.append(Step(self.at_ns, "look", ()))

    def _ticks(self, symbol: int) -> int:
        return max(self.price // SCALES[symbol], 1)

    def _declare(self, fund: int) -> None:
        def add(kind: int, **fields: Any) -> None:
            self.setup.append(command(kind, **fields))

        r = self.random
        add(Kind.ASSET, asset=0, scale=6, name="USDT")
        for symbol in range(len(SCALES)):
            add(
                Kind.SYMBOL,
                symbol=symbol,
                name=f"S{symbol}USDT",
                tick_lot_quanta=UNIT,
                qty_lots_min=1,
                qty_lots_max=10**7,
                price_ticks_min=1,
                price_ticks_max=200_000,
                leverage_max=100,
                leverage_default=10,
                orders_max=200,
                market_ppm=50_000,
                taker_fee_ppm=500,
                maker_fee_ppm=-50,
            )
            floor = 0
            for index, (cap, ppm, leverage) in enumerate(BRACKETS):
                add(
                    Kind.BRACKET,
                    symbol=symbol,
                    index=index,
                    floor_quanta=floor * USDT,
                    cap_quanta=cap * USDT,
                    maintenance_ppm=ppm,
                    bracket_leverage_max=leverage,
                )
                floor = cap
            add(
                Kind.CONTRACT,
                symbol=symbol,
                funding_interval_ns=HOUR,
                funding_first_ns=START_NS,
                impact_quanta=500 * USDT,
                interest_ppb=100_000,
                funding_clamp_ppb=500_000,
                funding_cap_ppb=3_000_000,
                funding_floor_ppb=-3_000_000,
                mark_band_ppm=30_000,
                source_clamp_ppm=5_000,
                liquidation_fee_ppm=12_500,
                protect_ppm=40_000,
                algos_max=20,
            )
        # The first symbol has an index; of the second the mark is set by hand.
        for source in range(2):
            add(Kind.SOURCE, symbol=0, source=source, weight=1 + source)
        add(Kind.DEPOSIT, account=INSURANCE_ACCOUNT, asset=0, amount_quanta=fund * USDT)
        for account in MAKERS:
            add(Kind.ACCOUNT, account=account)
            add(Kind.DEPOSIT, account=account, asset=0, amount_quanta=20_000_000 * USDT)
        for account in self.traders:
            add(Kind.ACCOUNT, account=account)
            money = r.choice((300, 1_000, 5_000, 20_000))
            if account == self.whale:
                money = 100_000
            add(Kind.DEPOSIT, account=account, asset=0, amount_quanta=money * USDT)
            if account in self.hedged:
                add(Kind.POSITION_MODE, account=account, value=PositionMode.HEDGE)
            for symbol in range(len(SCALES)):
                leverage = 20 if account == self.whale else r.choice((5, 20, 50))
                add(Kind.LEVERAGE, account=account, symbol=symbol, leverage=leverage)
                if r.random() < 0.4:
                    kind = MarginType.ISOLATED
                    add(Kind.MARGIN_TYPE, account=account, symbol=symbol, value=kind)

    def _fill(self) -> None:
        """Everybody takes a position, from a maker who has enough."""
        r = self.random
        self._prices()
        for symbol in range(len(SCALES)):
            for side in Side:
                away = 1 if side == Side.SELL else -1
                self._send(
                    "quote",
                    Kind.PLACE,
                    account=MAKERS[0],
                    symbol=symbol,
                    side=side,
                    price_ticks=self._ticks(symbol) + away,
                    qty_lots=10**6,
                )
        for account in self.traders:
            for symbol in range(len(SCALES)):
                if account == self.whale:
                    self._order(account, symbol, True, 900_000)
                else:
                    self._order(account, symbol, r.random() < 0.5, r.choice((500, 2_000, 8_000)))
        for step in self.steps:
            self.setup += step.rows
        self.steps.clear()
        self._send("no quotes", Kind.CANCEL_ALL, account=MAKERS[0])

    # ------------------------------------------------------------ what happens in it

    def _order(self, account: int, symbol: int, buy: bool, notional: int) -> None:
        leg = 0
        if account in self.hedged:
            leg = PositionSide.LONG if buy else PositionSide.SHORT
        self._send(
            "market order",
            Kind.PLACE,
            account=account,
            symbol=symbol,
            side=Side.BUY if buy else Side.SELL,
            type=Type.MARKET,
            tif=Tif.IOC,
            qty_lots=max(notional * 1000 // self._ticks(symbol), 1),
            position_side=leg,
        )

    def _prices(self) -> None:
        """Sources and marks say the price; the book is looked at."""
        for source in range(2):
            self._send(
                "source",
                Kind.SOURCE_PRICE,
                symbol=0,
                source=source,
                source_ticks=self.price + self.random.randint(-3, 3),
                source_ns=self.at_ns,
            )
        self._send("mark", Kind.MARK, symbol=1, mark_ticks=self._ticks(1))
        for symbol in range(len(SCALES)):
            self._send("sample", Kind.SAMPLE, symbol=symbol)

    def _quote(self) -> None:
        """Fresh quotes, thinner than what a cascade needs."""
        r = self.random
        for maker in MAKERS:
            self._send("no quotes", Kind.CANCEL_ALL, account=maker)
            for symbol in range(len(SCALES)):
                mark = self._ticks(symbol)
                away = max(mark * r.randint(2, 60) // 10_000, 1)
                for side in Side:
                    self._send(
                        "quote",
                        Kind.PLACE,
                        account=maker,
                        symbol=symbol,
                        side=side,
                        price_ticks=mark - away if side == Side.BUY else mark + away,
                        qty_lots=r.randint(10, 200) * SCALES[symbol],
                    )

    def _move(self, factor: float) -> None:
        """The price is another one: what is reached triggers, what is unsafe is liquidated."""
        self._later(SECOND)
        self.price = round(self.price * factor)
        self._prices()
        self._quote()
        for _ in range(LOOKS):
            self._look()

    def _trade(self, count: int) -> None:
        r = self.random
        self._later(SECOND)
        self._quote()
        for _ in range(count):
            account, symbol = r.choice(self.traders), r.randrange(len(SCALES))
            what = r.random()
            if what < 0.3:
                self._order(account, symbol, r.random() < 0.5, r.choice((200, 2_000)))
            elif what < 0.6:
                self._limit(account, symbol)
            else:
                self._conditional(account, symbol)

    def _signed(self, account: int) -> dict[str, Any]:
        """A name, and a digest that is never taken twice."""
        self._names += 1
        return {
            "client_id": f"t{account}-{self._names}",
            "digest_hi": self.random.getrandbits(60),
            "digest_lo": self._names,
        }

    def _terms(self, account: int, symbol: int) -> dict[str, Any]:
        r = self.random
        leg = r.choice((1, 2)) if account in self.hedged else 0
        reduce = leg == 0 and r.random() < 0.4
        return {
            "account": account,
            "symbol": symbol,
            "side": r.choice(list(Side)),
            "qty_lots": r.randint(1, 60) * SCALES[symbol],
            "position_side": leg,
            "flags": Flag.REDUCE_ONLY if reduce else 0,
            **self._signed(account),
        }

    def _limit(self, account: int, symbol: int) -> None:
        r = self.random
        mark = self._ticks(symbol)
        fields = self._terms(account, symbol)
        fields["tif"] = r.choice((Tif.GTC, Tif.GTC, Tif.IOC, Tif.FOK, Tif.GTX, Tif.GTD))
        if fields["tif"] == Tif.GTD:
            fields["expire_ns"] = self.at_ns + r.randint(1, 2 * 3600) * SECOND
        fields["stp"] = r.choice(list(Stp))
        price = mark + mark * r.randint(-300, 300) // 10_000
        self._send("limit order", Kind.PLACE, **fields, price_ticks=max(price, 1))

    def _conditional(self, account: int, symbol: int) -> None:
        r = self.random
        mark = self._ticks(symbol)
        fields = self._terms(account, symbol)
        fields["type"] = kind = r.choice(list(AlgoType))
        terms = r.choice(list(Working)) << 32 | (r.random() < 0.3) << 40
        up = (fields["side"] == Side.BUY) == (kind in (AlgoType.STOP, AlgoType.STOP_MARKET))
        away = mark * r.randint(20, 900) // 10_000
        if kind == AlgoType.TRAILING_STOP_MARKET:
            terms |= r.choice((1_000, 10_000, 50_000))
        else:
            fields["trigger_ticks"] = max(mark + away if up else mark - away, 1)
            if kind in (AlgoType.STOP, AlgoType.TAKE_PROFIT):
                fields["price_ticks"] = fields["trigger_ticks"]
            elif r.random() < 0.4:
                fields |= {"flags": Flag.CLOSE_POSITION, "qty_lots": 0}
        self._send("conditional order", Kind.PLACE_ALGO, **fields, terms=terms)

    def _stops(self) -> None:
        """Half of the traders want out of the second symbol at about the same price."""
        r = self.random
        for account in r.sample(self.traders[1:], len(self.traders) // 2):
            mark = self._ticks(1)
            self._send(
                "stop",
                Kind.PLACE_ALGO,
                account=account,
                symbol=1,
                side=Side.SELL,
                type=AlgoType.STOP_MARKET,
                trigger_ticks=mark - mark * r.randint(10, 300) // 10_000,
                position_side=PositionSide.LONG if account in self.hedged else 0,
                flags=Flag.CLOSE_POSITION,
                terms=int(Working.MARK) << 32,
                **self._signed(account),
            )

    def _switches(self) -> None:
        """Dead man's switches of those who may have orders, then the time they run out."""
        r = self.random
        for account in r.sample(self.traders, len(self.traders) // 10):
            where = {"account": account, "symbol": r.randrange(len(SCALES))}
            self._send("switch", Kind.COUNTDOWN, **where, value=r.randint(1, 5) * SECOND)
        self._later(6 * SECOND)
        self._send("tick", Kind.TICK)

    def _funding(self) -> None:
        """To the next funding time, with samples on the way; then the tick that begins it."""
        for _ in range(4):
            self._later(5 * SECOND)
            self._prices()
        self._later(HOUR)
        self._prices()
        self._send("funding", Kind.TICK)
        for _ in range(LOOKS):
            self._look()

    def _delist(self) -> None:
        self._send("halt", Kind.SYMBOL_STATE, symbol=1, state=State.HALTED, cancel=1)
        self._send("delist", Kind.SETTLE_SYMBOL, symbol=1, settle_ticks=self._ticks(1))
        for _ in range(LOOKS):
            self._look()
