"""Demo traffic: market makers and takers of a few dozen accounts, on a seeded random walk.

Reads   answers and fills from the reports ring and log, like any follower.
Writes  commands through the ingress ring of producer "demo", at a modest rate.
Never   is needed: the engine doesn't know that this isn't a gateway.

On a data directory that has been used before, what exists is left as it is: orders of the demo's
accounts are cancelled, and trading goes on. When the engine starts again after a fault, so does
the demo: with the next epoch, from nothing but the reports.
"""

from __future__ import annotations

import random
import signal
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from engine.worker import SIGNALS, die_with, name_process
from shm.codes import Flag, Kind, Reason, ReportKind, Side, State, Status, Stp, Tif, Type
from shm.control import CURSOR_PARTS, CURSORS, Phase, text_of
from shm.door import Door
from shm.feed import Feed
from shm.records import (
    ASSET_COMMAND,
    COMMAND,
    CONTRACT_COMMAND,
    EXEC_REPORT,
    NO_SYMBOL,
    SOURCE_COMMAND,
    STATE_COMMAND,
    SYMBOL_COMMAND,
    TRANSFER_COMMAND,
    Record,
)
from shm.segment import Part, Segment, SegmentError
from shm.units import SYSTEM_ACCOUNTS

PRODUCER: Final = "demo"
RATE: Final = 2_000  # commands a second
TURNS_A_SECOND: Final = 100
WAIT_SECONDS: Final = 120.0  # for the engine to come back
SHORT: Final = int(Reason.INSUFFICIENT_MARGIN)
USDT: Final = 0
USDT_SCALE: Final = 6
MAKERS: Final = 8
TAKERS: Final = 24
QUOTES: Final = 6  # of one maker in one symbol and on one side
FUNDS: Final = 1_000_000 * 10**USDT_SCALE
FUNDING_NS: Final = 300_000_000_000  # every five minutes, so that there is something to see
IMPACT: Final = 25_000 * 10**USDT_SCALE
SPREAD_PPM: Final = 400
STEP_PPM: Final = 30  # of the random walk, a turn


class Contract(NamedTuple):
    """A symbol of the demo."""

    name: str
    price_ticks: int  # where the walk begins
    tick_lot_quanta: int
    tick_quanta: int  # a tick, in quanta a unit
    lots: int  # of a usual order


CONTRACTS: Final = (
    Contract("BTCUSDT", 600_000, 100, 100_000, 20),  # tick 0.1, lot 0.001
    Contract("ETHUSDT", 300_000, 100, 10_000, 30),  # tick 0.01, lot 0.01
    Contract("SOLUSDT", 150_000, 100, 1_000, 50),  # tick 0.001, lot 0.1
    Contract("DOGEUSDT", 150_000, 10, 1, 500),  # tick 0.000001, lot 10
)


class Quote:
    """A place of a maker in a book: an order, or one that is on its way, or none."""

    __slots__ = ("account", "order_id", "request", "side", "symbol")

    def __init__(self, account: int, symbol: int, side: int) -> None:
        self.account = account
        self.symbol = symbol
        self.side = side
        self.order_id = 0
        self.request = 0


class Trader:
    """One start of the engine, traded on until it ends."""

    def __init__(self, instance: str, rate: int, seed: int) -> None:
        """Raises SegmentError when the engine isn't running."""
        self.door = Door(instance, PRODUCER)
        view = self.door.view
        slots = int(view.engine["reports"])
        epoch = view.epoch
        self._cursors = Segment.attach(instance, CURSORS, CURSOR_PARTS, epoch)
        reports = (Part("reports", "REPORT", slots),)
        self._reports = Segment.attach(instance, "reports", reports, epoch)
        self.feed = Feed(
            Path(text_of(view.engine["data_dir"])),
            self._cursors.arrays["cursors"],
            self._reports.arrays["reports"],
            4096,
        )
        self.next_index = self.feed.end()
        self.rate = rate
        self.random = random.Random(f"{seed} {epoch}")
        self.request = self.door.next_request()
        self.accounts = range(SYSTEM_ACCOUNTS, SYSTEM_ACCOUNTS + MAKERS + TAKERS)
        self.makers = self.accounts[:MAKERS]
        self.takers = self.accounts[MAKERS:]
        self.prices = [float(contract.price_ticks) for contract in CONTRACTS]
        self.by_request: dict[int, Quote] = {}
        self.by_order: dict[int, Quote] = {}
        self.poor: set[int] = set()  # accounts whose margin ran out
        self.quotes = [
            Quote(account, symbol, side)
            for account in self.makers
            for symbol in range(len(CONTRACTS))
            for side in (Side.BUY, Side.SELL)
            for _ in range(QUOTES)
        ]
        self.outbox: deque[np.ndarray[Any, Any]] = deque()

    def close(self) -> None:
        self.feed.close()
        self._cursors.close()
        self._reports.close()
        self.door.close()

    # ------------------------------------------------------------ commands

    def post(self, layout: Record, kind: Kind, lines: int = 1, **fields: Any) -> int:
        """Queue a command; returns its request."""
        row = np.zeros(1, layout.dtype)
        row["kind"], row["lines"], row["symbol"] = kind, lines, NO_SYMBOL
        for name, value in fields.items():
            row[name] = value
        request = self.request
        row["request"] = request
        self.request += 1
        self.outbox.append(row.view(COMMAND.dtype))
        return request

    def flush(self) -> None:
        """Hand over what is queued; what doesn't fit waits."""
        if self.outbox:
            taken = self.door.send(np.concatenate(list(self.outbox)))
            for _ in range(taken):
                self.outbox.popleft()

    def declare(self) -> None:
        """Assets, symbols, accounts and money; what exists already refuses, and that is fine."""
        self.post(
            ASSET_COMMAND, Kind.ASSET, 2, asset=USDT, scale=USDT_SCALE, name=words_of("USDT", 2)
        )
        for symbol, contract in enumerate(CONTRACTS):
            self.post(
                SYMBOL_COMMAND,
                Kind.SYMBOL,
                3,
                symbol=symbol,
                tick_lot_quanta=contract.tick_lot_quanta,
                asset=USDT,
                state=State.TRADING,
                name=words_of(contract.name, 2),
                qty_lots_min=1,
                qty_lots_max=100_000,
                price_ticks_min=1,
                price_ticks_max=10 * contract.price_ticks,
                band_ppm=100_000,
                market_ppm=20_000,
                maker_fee_ppm=200,
                taker_fee_ppm=500,
                leverage_max=100,
                leverage_default=20,
                orders_max=200,
                tick_quanta=contract.tick_quanta,
            )
            self.post(
                CONTRACT_COMMAND,
                Kind.CONTRACT,
                3,
                symbol=symbol,
                funding_interval_ns=FUNDING_NS,
                impact_quanta=IMPACT,
                interest_ppb=100_000,
                funding_clamp_ppb=500_000,
                funding_cap_ppb=3_000_000,
                funding_floor_ppb=-3_000_000,
                mark_band_ppm=50_000,
                source_clamp_ppm=5_000,
                source_stale_ns=30_000_000_000,
                liquidation_fee_ppm=5_000,
                protect_ppm=50_000,
                algos_max=200,
            )
            self.post(SOURCE_COMMAND, Kind.SOURCE, symbol=symbol, source=0, weight=1)
            self.tell_price(symbol)
        for account in self.accounts:
            self.post(STATE_COMMAND, Kind.ACCOUNT, account=account, state=State.TRADING)
            self.deposit(account, "first")
            self.post(COMMAND, Kind.CANCEL_ALL, account=account)

    def deposit(self, account: int, name: str) -> None:
        """Money, once for each name."""
        self.post(
            TRANSFER_COMMAND,
            Kind.DEPOSIT,
            2,
            account=account,
            asset=USDT,
            amount_quanta=FUNDS * (10 if account in self.makers else 1),
            client_id=words_of(f"demo-{account}-{name}", 5),
        )

    def tell_price(self, symbol: int) -> None:
        """Say where the price is, as the only source of its index."""
        self.post(
            SOURCE_COMMAND,
            Kind.SOURCE_PRICE,
            2,
            symbol=symbol,
            source_ticks=round(self.prices[symbol]),
            source_ns=time.time_ns(),
        )

    # ------------------------------------------------------------ trading

    def walk(self) -> None:
        """Move every price a little, back towards where it began when it is far away."""
        for symbol, contract in enumerate(CONTRACTS):
            away = self.prices[symbol] / contract.price_ticks - 1.0
            step = self.random.gauss(-away * 0.0005, STEP_PPM * 1e-6)
            self.prices[symbol] *= 1.0 + step

    def quote_price(self, quote: Quote) -> int:
        """A price for a maker: near the walk, on its own side of it."""
        price = self.prices[quote.symbol]
        away = max(1.0, price * SPREAD_PPM * 1e-6 * self.random.uniform(0.1, 3.0))
        return round(price - away if quote.side == Side.BUY else price + away)

    def act(self) -> None:
        """One command of somebody."""
        dice = self.random.random()
        if dice < 0.12:
            self.take()
            return
        quote = self.random.choice(self.quotes)
        about = {"account": quote.account, "symbol": quote.symbol}
        if quote.request:
            return  # its answer is still to come
        if not quote.order_id:
            quote.request = self.post(
                COMMAND,
                Kind.PLACE,
                side=quote.side,
                type=Type.LIMIT,
                tif=Tif.GTX if dice < 0.5 else Tif.GTC,
                stp=Stp.EXPIRE_TAKER,
                price_ticks=self.quote_price(quote),
                qty_lots=self.lots(quote.symbol, 4),
                **about,
            )
            self.by_request[quote.request] = quote
        elif dice < 0.8:
            self.post(
                COMMAND,
                Kind.AMEND,
                order_id=quote.order_id,
                price_ticks=self.quote_price(quote),
                flags=Flag.KEEP_QTY,
                **about,
            )
        else:
            self.post(COMMAND, Kind.CANCEL, order_id=quote.order_id, **about)

    def take(self) -> None:
        """A taker trades at once, at any price near or at the market's."""
        symbol = self.random.randrange(len(CONTRACTS))
        side = self.random.choice((Side.BUY, Side.SELL))
        market = self.random.random() < 0.3
        reach = 1.002 if side == Side.BUY else 0.998
        self.post(
            COMMAND,
            Kind.PLACE,
            account=self.random.choice(self.takers),
            symbol=symbol,
            side=side,
            type=Type.MARKET if market else Type.LIMIT,
            tif=Tif.IOC,
            stp=Stp.EXPIRE_TAKER,
            price_ticks=0 if market else round(self.prices[symbol] * reach),
            qty_lots=self.lots(symbol, 1),
        )

    def lots(self, symbol: int, times: int) -> int:
        return self.random.randint(1, CONTRACTS[symbol].lots * times)

    # ------------------------------------------------------------ answers

    def listen(self) -> None:
        """Follow the reports: which orders there are, and which have ended."""
        while len(reports := self.feed.read(self.next_index, 4096)):
            self.next_index += len(reports)
            orders = reports[reports["kind"] == ReportKind.ORDER]
            for row in orders[["request", "order_id", "status"]].tolist():
                self.hear(*row)
            self.poor |= set(orders["account"][orders["reason"] == SHORT].tolist())
            trades = reports[reports["kind"] == ReportKind.EXEC].view(EXEC_REPORT.dtype)
            for order_id in trades["order_id"][trades["open_lots"] == 0].tolist():
                self.ended(order_id)

    def hear(self, request: int, order_id: int, status: int) -> None:
        """An ORDER report."""
        quote = self.by_request.pop(request, None)
        if quote is not None:
            quote.request = 0
            if status == Status.NEW:
                quote.order_id = order_id
                self.by_order[order_id] = quote
                return
        if status in (Status.FILLED, Status.CANCELED, Status.EXPIRED, Status.REJECTED):
            self.ended(order_id)

    def ended(self, order_id: int) -> None:
        quote = self.by_order.pop(order_id, None)
        if quote is not None:
            quote.order_id = 0

    # ------------------------------------------------------------ time

    def run(self) -> Phase:
        """Trade until the engine stops; returns how it ended."""
        self.declare()
        turn_ns = 1_000_000_000 // TURNS_A_SECOND
        next_ns = time.monotonic_ns()
        owed = 0.0
        turns = 0
        while self.door.open:
            self.listen()
            turns += 1
            if not self.outbox:
                self.walk()
                if turns % TURNS_A_SECOND < len(CONTRACTS):
                    self.tell_price(turns % TURNS_A_SECOND)
                for account in self.poor.intersection(self.accounts):
                    self.deposit(account, str(self.request))
                self.poor.clear()
                owed += self.rate / TURNS_A_SECOND
                while owed >= 1:
                    self.act()
                    owed -= 1
            self.flush()
            next_ns += turn_ns
            late_ns = time.monotonic_ns() - next_ns
            if late_ns < 0:
                time.sleep(-late_ns / 1e9)
            elif late_ns > 1_000_000_000:
                next_ns += late_ns  # a modest rate: what was missed isn't made up for
        return self.door.view.phase


def words_of(text: str, words: int) -> np.ndarray[Any, Any]:
    """Text as the zero-padded words of a record."""
    return np.frombuffer(text.encode().ljust(8 * words, b"\0"), np.int64)


def main(instance: str, rate: int, seed: int, parent: int) -> None:
    """Entry of the process: trade on every start of the engine, until it stops for good."""
    die_with(parent)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    name_process("pc-demo")
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        with suppress(SegmentError):
            trader = Trader(instance, rate, seed)
            try:
                if trader.run() == Phase.STOPPED:
                    return
            finally:
                trader.close()
            until = time.monotonic() + WAIT_SECONDS
        time.sleep(0.05)
