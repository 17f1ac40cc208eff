"""Who does what in the demo, and when: commands as a function of the seed and the number of a turn.

    flow = Flow(seed, rate, paths)
    rows = flow.turn(k)         # COMMAND rows of turn k, TURN_NS after those of turn k - 1

Reads   the seed, the index path.
Writes  COMMAND rows without numbers of a producer.
Never   hears an answer, a clock or another turn: whoever asks for turn k gets the same commands, so
        that a demo with the same seed, rate and path sends the same, whatever became of it before.

    makers     quote both sides of every book, LEVELS deep, around the index: one maker in one
               symbol after the other, all his quotes at a time, cancelled and placed anew
    takers     trade at once, more often with the last move than against it, and leave an order
               each, further away, which is placed, amended LIVES - 1 times, and cancelled
    gamblers   get STAKE, bet it isolated at the highest leverage, and close BET_TURNS later what
               hasn't been liquidated by then

What a taker leaves is known by its client id alone, the taker and the number of its life. One that
was filled stays away until its next life: until then amends and cancel are refused. Makers' quotes
have no names: a venue remembers names for a while, and has room for so many.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from shm.codes import Flag, Kind, Side, Stp, Tif, Type
from shm.kinds import command
from shm.records import COMMAND
from tools.demomarket import (
    CONTRACTS,
    FUNDS,
    STAKE,
    USDT_SCALE,
    bet_symbol,
    deposit,
    gamblers,
    makers,
    takers,
)
from tools.demopath import POINT_NS, Ticks

Rows = np.ndarray[Any, Any]

RATE: Final = 300  # commands a second
TURNS_A_SECOND: Final = 20
TURN_NS: Final = 1_000_000_000 // TURNS_A_SECOND
TURNS_A_POINT: Final = POINT_NS // TURN_NS
LEVELS: Final = 4  # of one maker in one symbol and on one side
QUOTES: Final = tuple((level, side) for level in range(LEVELS) for side in (Side.BUY, Side.SELL))
LIVES: Final = 6  # an order that a taker leaves is placed, amended so often less one, cancelled
EVERY: Final = 10  # of so many commands two are takers': one trades, one is left
STEP_PPM: Final = 250  # between two levels
LEFT_PPM: Final = 3_000  # how far away an order that is left may be
TREND_POINTS: Final = 40  # takers look so far back
BET_TURNS: Final = 60 * TURNS_A_SECOND
BET_QUANTA: Final = 20_000 * 10**USDT_SCALE  # notional
TOP_UP_TURNS: Final = 3600 * TURNS_A_SECOND


class Order(NamedTuple):
    """A command about one order, the fields of COMMAND by name; `name` is its client id."""

    kind: int
    account: int
    symbol: int
    side: int = 0
    type: int = 0
    tif: int = 0
    stp: int = 0
    flags: int = 0
    price_ticks: int = 0
    qty_lots: int = 0
    name: str = ""


class Flow:
    """See the module."""

    def __init__(self, seed: int, rate: int, paths: Sequence[Ticks], *, tell: bool = False) -> None:
        """
        rate        commands a second
        paths       index prices of every contract, a row a point
        tell        say index prices as the only source, for an exchange whose clock has none
        """
        self.seed, self.rate, self.tell = seed, rate, tell
        self.paths = [ticks.tolist() for ticks in paths]
        self.pairs = [(maker, symbol) for maker in makers() for symbol in range(len(CONTRACTS))]

    def index(self, symbol: int, turn: int, back: int = 0) -> int:
        """Index price in ticks at a turn, or `back` points before it."""
        path = self.paths[symbol]
        ticks: int = path[(turn // TURNS_A_POINT - back) % len(path)]
        return ticks

    def turn(self, turn: int) -> Rows:
        """Commands of one turn, in order."""
        dice = random.Random(f"{self.seed} {turn}")
        orders = list(self._bets(turn))
        first = self.rate * turn // TURNS_A_SECOND
        for number in range(first, self.rate * (turn + 1) // TURNS_A_SECOND):
            round_, place = divmod(number, EVERY)
            if place == 0:
                orders.append(self._take(turn, dice))
            elif place == 1:
                orders += self._leave(turn, round_, dice)
            else:
                orders.append(self._quote(turn, round_ * (EVERY - 2) + place - 2, dice))
        return np.concatenate([*self._by_the_clock(turn), rows_of(orders)])

    # ------------------------------------------------------------ makers

    def _quote(self, turn: int, number: int, dice: random.Random) -> Order:
        """A maker cancels his quotes in one symbol, or places the next; `number` counts from 0."""
        visit, step = divmod(number, 1 + len(QUOTES))
        maker, symbol = self.pairs[visit % len(self.pairs)]
        if step == 0:
            return Order(Kind.CANCEL_ALL, maker, symbol)
        level, side = QUOTES[step - 1]
        return Order(
            Kind.PLACE,
            maker,
            symbol,
            side=side,
            tif=Tif.GTX if level == 0 else Tif.GTC,
            stp=Stp.EXPIRE_TAKER,
            price_ticks=self._beside(symbol, side, turn, STEP_PPM * (level + dice.random())),
            qty_lots=dice.randint(1, CONTRACTS[symbol].lots * 2 * (level + 1)),
        )

    def _beside(self, symbol: int, side: int, turn: int, away_ppm: float) -> int:
        """A price on its own side of the index."""
        index = self.index(symbol, turn)
        away = max(1, int(index * away_ppm / 1e6))
        return max(index - away, 1) if side == Side.BUY else index + away

    # ------------------------------------------------------------ takers and gamblers

    def _take(self, turn: int, dice: random.Random) -> Order:
        symbol = dice.randrange(len(CONTRACTS))
        index = self.index(symbol, turn)
        rising = index >= self.index(symbol, turn, TREND_POINTS)
        side = Side.BUY if rising == (dice.random() < 0.55) else Side.SELL
        market = dice.random() < 0.3
        reach = 1.002 if side == Side.BUY else 0.998
        return Order(
            Kind.PLACE,
            dice.choice(takers()),
            symbol,
            side=side,
            type=Type.MARKET if market else Type.LIMIT,
            tif=Tif.IOC,
            stp=Stp.EXPIRE_TAKER,
            price_ticks=0 if market else max(int(index * reach), 1),
            qty_lots=dice.randint(1, CONTRACTS[symbol].lots),
        )

    def _leave(self, turn: int, number: int, dice: random.Random) -> Iterator[Order]:
        """A taker looks after the order that is left; `number` counts from 0."""
        at = number % len(takers())
        account, symbol = takers()[at], at % len(CONTRACTS)
        life, age = divmod(number // len(takers()) + at, LIVES)  # not all born at once
        side = Side.BUY if (at // len(CONTRACTS) + life) % 2 else Side.SELL
        price = self._beside(symbol, side, turn, LEFT_PPM * (0.5 + 0.5 * dice.random()))
        name = f"left-{life}"
        if age > 0:
            yield Order(
                Kind.AMEND, account, symbol, price_ticks=price, flags=Flag.KEEP_QTY, name=name
            )
            return
        if life > 0:
            yield Order(Kind.CANCEL, account, symbol, name=f"left-{life - 1}")
        yield Order(
            Kind.PLACE,
            account,
            symbol,
            side=side,
            stp=Stp.EXPIRE_TAKER,
            price_ticks=price,
            qty_lots=dice.randint(1, CONTRACTS[symbol].lots),
            name=name,
        )

    def _bets(self, turn: int) -> Iterator[Order]:
        for account in gamblers():
            bet, age = bet_of(account, turn)
            if age in (0, BET_TURNS - TURNS_A_SECOND):
                yield self._bet(account, bet, turn, opens=age == 0)

    def _bet(self, account: int, bet: int, turn: int, *, opens: bool) -> Order:
        """Open a bet, or close what is left of it: it only reduces, so that more does no harm."""
        symbol = bet_symbol(account)
        side = random.Random(f"{self.seed} bet {account} {bet}").choice((Side.BUY, Side.SELL))
        index = self.index(symbol, turn)
        lots = max(BET_QUANTA // (index * CONTRACTS[symbol].tick_lot_quanta), 1)
        # No MARKET order to open: its worst price would hold three times the margin.
        reach = 1.003 if side == Side.BUY else 0.997
        return Order(
            Kind.PLACE,
            account,
            symbol,
            side=side if opens else 1 - side,
            type=Type.LIMIT if opens else Type.MARKET,
            tif=Tif.IOC,
            flags=Flag.NONE if opens else Flag.REDUCE_ONLY,
            price_ticks=max(int(index * reach), 1) if opens else 0,
            qty_lots=lots if opens else 2 * lots,
        )

    # ------------------------------------------------------------ prices and money

    def _by_the_clock(self, turn: int) -> Iterator[Rows]:
        """What comes at turns of its own, before the turn's orders."""
        if self.tell and turn % TURNS_A_POINT == 0:
            for symbol in range(len(CONTRACTS)):
                yield command(
                    Kind.SOURCE_PRICE, symbol=symbol, source_ticks=self.index(symbol, turn), lines=2
                )
        for account in gamblers():
            bet, age = bet_of(account, turn)
            if age == 0:
                yield deposit(account, STAKE, f"stake-{bet}")
        if turn % TOP_UP_TURNS == TOP_UP_TURNS - 1:
            for account in takers():
                yield deposit(account, FUNDS // 10, f"top-up-{turn}")


def bet_of(account: int, turn: int) -> tuple[int, int]:
    """(number of a gambler's bet, how many turns ago it began): one after the other begins."""
    return divmod(turn + gamblers().index(account) * BET_TURNS // len(gamblers()), BET_TURNS)


def rows_of(orders: Sequence[Order]) -> Rows:
    """Orders as COMMAND rows, column by column: some microseconds each are saved."""
    rows = np.zeros(len(orders), COMMAND.dtype)
    if not orders:
        return rows
    *columns, names = zip(*orders, strict=True)
    for field, column in zip(Order._fields, columns, strict=False):
        rows[field] = column
    text = b"".join(name.encode().ljust(40, b"\0") for name in names)
    rows["client_id"] = np.frombuffer(text, np.int64).reshape(-1, 5)
    rows["lines"] = [2 if name else 1 for name in names]
    return rows
