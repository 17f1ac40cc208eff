"""nautilus_trader (Binance adapter), run by its own Python: B, W, K, S as in README.

Two trading nodes one after the other. The first one's strategy hears the market, and places,
changes, cancels and fills orders of every type; it leaves a position and an order behind. The second
one finds both at its start, as its reconciliation has them, and closes them.
"""

import os
import sys
import threading
import time
from datetime import timedelta
from decimal import Decimal

from nautilus_trader.adapters.binance import (
    BINANCE,
    BinanceAccountType,
    BinanceDataClientConfig,
    BinanceExecClientConfig,
    BinanceLiveDataClientFactory,
    BinanceLiveExecClientFactory,
)
from nautilus_trader.adapters.binance.futures.types import BinanceFuturesMarkPriceUpdate
from nautilus_trader.config import (
    InstrumentProviderConfig,
    LiveExecEngineConfig,
    LoggingConfig,
    TradingNodeConfig,
)
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.data import BarType, DataType
from nautilus_trader.model.enums import (
    BookType,
    OrderSide,
    TimeInForce,
    TrailingOffsetType,
    TriggerType,
)
from nautilus_trader.model.identifiers import ClientId, InstrumentId, TraderId
from nautilus_trader.model.objects import Quantity
from nautilus_trader.trading.strategy import Strategy

B, W, K, S = (os.environ[name] for name in ("B", "W", "K", "S"))
PAIR = InstrumentId.from_str("BTCUSDT-PERP.BINANCE")
PATIENCE_S = 60.0


def say(name, value=""):
    print(f"{name:<28} {str(value)[:110]}", flush=True)


class Driver(Strategy):
    """Counts what it hears; what it does is told to it from `drive`."""

    def __init__(self):
        super().__init__()
        self.heard = {}
        self.events = []
        self.instrument = None

    def on_start(self):
        self.instrument = self.cache.instrument(PAIR)
        self.subscribe_quote_ticks(PAIR)
        self.subscribe_trade_ticks(PAIR)
        self.subscribe_order_book_deltas(PAIR, book_type=BookType.L2_MBP)
        self.subscribe_bars(BarType.from_str(f"{PAIR}-1-MINUTE-LAST-EXTERNAL"))
        self.subscribe_mark_prices(PAIR)
        self.subscribe_data(
            DataType(BinanceFuturesMarkPriceUpdate, metadata={"instrument_id": PAIR}),
            client_id=ClientId(BINANCE),
        )
        self.request_bars(
            BarType.from_str(f"{PAIR}-1-MINUTE-LAST-EXTERNAL"),
            start=self.clock.utc_now() - timedelta(hours=1),
        )
        self.request_trade_ticks(PAIR, start=self.clock.utc_now() - timedelta(minutes=1))
        self.request_instrument(PAIR)

    def count(self, kind):
        self.heard[kind] = self.heard.get(kind, 0) + 1

    def on_quote_tick(self, _tick):
        self.count("quotes")

    def on_trade_tick(self, _tick):
        self.count("trades")

    def on_order_book_deltas(self, _deltas):
        self.count("deltas")

    def on_bar(self, _bar):
        self.count("bars")

    def on_historical_data(self, _data):
        self.count("history")

    def on_mark_price(self, _mark):
        self.count("marks")

    def on_data(self, _data):
        self.count("data")

    def on_event(self, event):
        self.events.append(event)


def until(what, wanted, node):
    """Wait in a thread beside the node's loop."""
    end = time.monotonic() + PATIENCE_S
    while not wanted():
        assert time.monotonic() < end, (
            f"{what}; {[str(e)[:200] for e in node.strategy.events[-6:]]}"
        )
        time.sleep(0.05)
    say(what)


def made(strategy, name, *arguments, **values):
    """An order of the factory, submitted in the node's own thread."""
    order = getattr(strategy.order_factory, name)(*arguments, **values)
    strategy.node_loop.call_soon_threadsafe(strategy.submit_order, order)
    return order


def trade(node):
    s = node.strategy
    until("quotes", lambda: s.heard.get("quotes", 0) > 2, node)
    for kind in ("deltas", "marks", "trades"):
        until(kind, lambda kind=kind: s.heard.get(kind, 0) > 0, node)
    book = s.cache.order_book(PAIR)
    until("book", lambda: book.best_bid_price() is not None, node)
    assert book.best_bid_price() < book.best_ask_price()
    i = s.instrument
    bid = float(book.best_bid_price())
    qty = i.make_qty(0.01)

    def price(share):
        return i.make_price(round(bid * share))

    limit = made(s, "limit", PAIR, OrderSide.BUY, qty, price(0.97), post_only=True)
    until("limit accepted", lambda: limit.is_open, node)
    s.node_loop.call_soon_threadsafe(
        lambda: s.modify_order(limit, quantity=i.make_qty(0.02), price=price(0.96))
    )
    until("limit modified", lambda: limit.quantity == Quantity.from_str("0.020"), node)
    assert limit.price == price(0.96)
    s.node_loop.call_soon_threadsafe(s.cancel_order, limit)
    until("limit canceled", lambda: limit.is_closed, node)
    market = made(s, "market", PAIR, OrderSide.BUY, qty)
    until("market filled", lambda: market.is_closed and market.filled_qty == qty, node)
    until("position", lambda: s.portfolio.net_position(PAIR) == Decimal("0.010"), node)
    waiting = [
        made(s, "stop_market", PAIR, OrderSide.SELL, qty, price(0.95), TriggerType.LAST_PRICE,
             reduce_only=True),
        made(s, "stop_limit", PAIR, OrderSide.SELL, qty, price(0.94), price(0.95),
             TriggerType.LAST_PRICE),
        made(s, "market_if_touched", PAIR, OrderSide.SELL, qty, price(1.05), TriggerType.MARK_PRICE),
        made(s, "limit_if_touched", PAIR, OrderSide.SELL, qty, price(1.05), price(1.05),
             TriggerType.LAST_PRICE),
        made(s, "trailing_stop_market", PAIR, OrderSide.SELL, qty, activation_price=price(1.05),
             trailing_offset=Decimal(100), trailing_offset_type=TrailingOffsetType.BASIS_POINTS,
             trigger_type=TriggerType.LAST_PRICE),
    ]  # fmt: skip
    for order in waiting:
        until(f"{order.type_string()} accepted", lambda order=order: order.is_open, node)
    # One at a time, and the rest at once.
    s.node_loop.call_soon_threadsafe(s.cancel_order, waiting[0])
    until("stop canceled", lambda: waiting[0].is_closed, node)
    s.node_loop.call_soon_threadsafe(lambda: s.cancel_all_orders(PAIR))
    until("all canceled", lambda: all(order.is_closed for order in waiting), node)
    ioc = made(s, "limit", PAIR, OrderSide.BUY, qty, price(0.97), time_in_force=TimeInForce.IOC)
    until("IOC ended", lambda: ioc.is_closed, node)
    taker = made(s, "limit", PAIR, OrderSide.BUY, qty, price(1.01), post_only=True)
    until("post-only refused", lambda: taker.is_closed, node)
    batch = [
        s.order_factory.limit(PAIR, OrderSide.BUY, qty, price(share)) for share in (0.97, 0.96)
    ]
    s.node_loop.call_soon_threadsafe(s.submit_order_list, s.order_factory.create_list(batch))
    until("list accepted", lambda: all(order.is_open for order in batch), node)
    s.node_loop.call_soon_threadsafe(lambda: s.cancel_orders(batch))
    until("list canceled", lambda: all(order.is_closed for order in batch), node)
    left = made(s, "limit", PAIR, OrderSide.BUY, qty, price(0.95))
    until("left open", lambda: left.is_open, node)
    s.left_id = left.venue_order_id
    account = s.portfolio.account(PAIR.venue)
    assert account is not None and account.balance_total(USDT).as_double() > 0
    say("heard", s.heard)


def take_over(node):
    """What reconciliation found, of another node's doing."""
    s = node.strategy
    until("position found", lambda: s.portfolio.net_position(PAIR) == Decimal("0.010"), node)
    found = [o for o in s.cache.orders_open(instrument_id=PAIR) if o.venue_order_id == LEFT[0]]
    assert found, s.cache.orders_open()
    say("order found", found[0])
    s.node_loop.call_soon_threadsafe(s.cancel_order, found[0])
    until("it is canceled", lambda: found[0].is_closed, node)
    closing = made(s, "market", PAIR, OrderSide.SELL, s.instrument.make_qty(0.01), reduce_only=True)
    until("it is closed", lambda: closing.filled_qty == closing.quantity, node)
    until("flat", lambda: s.portfolio.is_flat(PAIR), node)


LEFT = []
# Newer ones trade over HTTP and the WebSocket API; for older ones the one address is of streams.
EXEC_URLS = {"base_url_ws": W}
if "base_url_ws_stream" in BinanceExecClientConfig.__struct_fields__:
    EXEC_URLS = {"base_url_ws": W + "/ws-fapi/v1", "base_url_ws_stream": W}


def run(work, name):
    provider = InstrumentProviderConfig(load_ids=frozenset([PAIR]))
    keys = {"api_key": K, "api_secret": S, "account_type": BinanceAccountType.USDT_FUTURES,
            "base_url_http": B, "instrument_provider": provider}  # fmt: skip
    node = TradingNode(
        TradingNodeConfig(
            trader_id=TraderId(name),
            logging=LoggingConfig(log_level="WARNING", log_colors=False),
            exec_engine=LiveExecEngineConfig(reconciliation=True, reconciliation_lookback_mins=60),
            data_clients={BINANCE: BinanceDataClientConfig(**keys, base_url_ws=W)},
            exec_clients={
                BINANCE: BinanceExecClientConfig(**keys, **EXEC_URLS),
            },
            timeout_connection=60.0,
            timeout_reconciliation=60.0,
        )
    )
    node.strategy = Driver()
    node.trader.add_strategy(node.strategy)
    node.add_data_client_factory(BINANCE, BinanceLiveDataClientFactory)
    node.add_exec_client_factory(BINANCE, BinanceLiveExecClientFactory)
    node.build()
    node.strategy.node_loop = node.get_event_loop()
    failed = []

    def beside():
        try:
            until(f"{name} runs", lambda: node.strategy.is_running, node)
            work(node)
            LEFT.append(getattr(node.strategy, "left_id", None))
        except BaseException as error:
            failed.append(error)
        node.strategy.node_loop.call_soon_threadsafe(node.stop)

    thread = threading.Thread(target=beside)
    thread.start()
    node.run()
    thread.join()
    node.dispose()
    if failed:
        raise failed[0]


if len(sys.argv) < 3:  # each node in a process of its own: it can be set up only once in one
    import subprocess

    told = subprocess.run(
        [sys.executable, __file__, "trade", "-"], stdout=subprocess.PIPE, text=True, check=False
    )
    print(told.stdout, flush=True)
    assert told.returncode == 0
    left = told.stdout.split("LEFT ")[1].split()[0]
    sys.exit(subprocess.run([sys.executable, __file__, "take_over", left], check=False).returncode)
if sys.argv[1] == "trade":
    run(trade, "FIRST-001")
    print("LEFT", LEFT[0])
else:
    from nautilus_trader.model.identifiers import VenueOrderId

    LEFT.append(VenueOrderId(sys.argv[2]))
    run(take_over, "SECOND-001")
