"""How the clients people have are told to trade here: a few lines each, ready to paste.

README shows the same ones, with B, W, K and S for base URL, WebSocket URL, key and secret; a test
compares the two, and others run them. Each places a bid below the best one and cancels it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_CCXT_URLS: Final = """\
api = {
    "fapiPublic": B + "/fapi/v1",
    "fapiPublicV2": B + "/fapi/v2",
    "fapiPublicV3": B + "/fapi/v3",
    "fapiPrivate": B + "/fapi/v1",
    "fapiPrivateV2": B + "/fapi/v2",
    "fapiPrivateV3": B + "/fapi/v3",
    "fapiData": B + "/futures/data",
    "sapi": B + "/sapi/v1",
    "ws": {"linear": W + "/ws", "ws-api": {"linear": W + "/ws-fapi/v1"}},
}
"""
_CCXT_OPTIONS: Final = """\
    {
        "apiKey": K,
        "secret": S,
        "urls": {"api": api},
        "options": {"fetchCurrencies": False},
        "exceptions": {"exact": ccxt.binanceusdm().exceptions["linear"]["exact"]},
    }
"""

SNIPPETS: Final = {
    "ccxt": f"""\
import ccxt

{_CCXT_URLS}exchange = ccxt.binanceusdm(
{_CCXT_OPTIONS})
bid = exchange.fetch_order_book("BTC/USDT:USDT", 5)["bids"][0][0]
order = exchange.create_order("BTC/USDT:USDT", "limit", "buy", 0.01, bid * 0.99)
exchange.cancel_order(order["id"], "BTC/USDT:USDT")
""",
    "ccxt.pro": f"""\
import asyncio

import ccxt
import ccxt.pro

{_CCXT_URLS}

async def main():
    exchange = ccxt.pro.binanceusdm(
        {{
            "apiKey": K,
            "secret": S,
            "urls": {{"api": api}},
            "options": {{"fetchCurrencies": False}},
            "exceptions": {{"exact": ccxt.binanceusdm().exceptions["linear"]["exact"]}},
        }}
    )
    book = await exchange.watch_order_book("BTC/USDT:USDT")
    order = await exchange.create_order_ws(
        "BTC/USDT:USDT", "limit", "buy", 0.01, book["bids"][0][0] * 0.99
    )
    await exchange.cancel_order_ws(order["id"], "BTC/USDT:USDT")
    await exchange.close()


asyncio.run(main())
""",
    "binance-futures-connector": """\
from binance.um_futures import UMFutures

client = UMFutures(key=K, secret=S, base_url=B)
bid = float(client.book_ticker("BTCUSDT")["bidPrice"])
order = client.new_order(
    symbol="BTCUSDT",
    side="BUY",
    type="LIMIT",
    quantity=0.01,
    price=round(bid * 0.99, 1),
    timeInForce="GTC",
)
client.cancel_order(symbol="BTCUSDT", orderId=order["orderId"])
""",
    "binance-sdk-derivatives-trading-usds-futures": """\
from binance_common.configuration import ConfigurationRestAPI
from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import (
    DerivativesTradingUsdsFutures,
)

client = DerivativesTradingUsdsFutures(
    config_rest_api=ConfigurationRestAPI(api_key=K, api_secret=S, base_path=B, timeout=5000)
)
bid = float(client.rest_api.order_book(symbol="BTCUSDT", limit=5).data().bids[0][0])
order = client.rest_api.new_order(
    symbol="BTCUSDT",
    side="BUY",
    type="LIMIT",
    quantity=0.01,
    price=round(bid * 0.99, 1),
    time_in_force="GTC",
).data()
client.rest_api.cancel_order(symbol="BTCUSDT", order_id=order.order_id)
""",
    "python-binance": """\
from binance import Client

client = Client(K, S, ping=False)
client.FUTURES_URL = B + "/fapi"
bid = float(client.futures_orderbook_ticker(symbol="BTCUSDT")["bidPrice"])
order = client.futures_create_order(
    symbol="BTCUSDT",
    side="BUY",
    type="LIMIT",
    quantity=0.01,
    price=round(bid * 0.99, 1),
    timeInForce="GTC",
)
client.futures_cancel_order(symbol="BTCUSDT", orderId=order["orderId"])
""",
}
# Through the native door, which wants other addresses and keys (FEED and ASK are market data's).
NATIVE: Final = """\
import time

from gateways.client.client import Client
from gateways.client.market import Market
from gateways.zmq.protocol import Order

market = Market(FEED, ASK)
book = market.follow("BTCUSDT", "l2")
while not (book.ready and book.best()[0]):  # now and then nobody bids
    market.poll(1.0)
bid, ask = book.best()
with Client(ENDPOINT, SERVER, PUBLIC, SECRET, cancel_on_disconnect=True) as client:
    far, name = bid * 99 // 100, f"n-{time.time_ns()}"
    taken = client.send(
        [
            Order("place", symbol=0, side=0, price_ticks=far, qty_lots=10, client_id=name),
            Order("cancel", symbol=0, client_id=name),
        ]
    )
    cancel = taken.first_request + 1
    for report in client.reports(timeout_s=5.0):
        print(report)
        if report.get("request") == cancel:
            break
market.close()
"""
NATIVE_NAME: Final = "native"
PACKAGES: Final = {"ccxt.pro": "ccxt"}  # where the package isn't called as the client is


def pasted(name: str, base: str, api_key: str, secret: str) -> str:
    """A snippet that runs as it stands, for this venue and this key."""
    web = base.replace("http", "ws", 1)
    head = f'B, W = "{base}", "{web}"\nK = "{api_key}"\nS = "{secret}"\n\n'
    lines = SNIPPETS[name].splitlines(keepends=True)
    # Behind the imports, as people write it.
    return "".join(lines[: _imports(lines)]) + head + "".join(lines[_imports(lines) :])


def native(access: Mapping[str, Any]) -> str:
    """The native snippet as it runs, for the keys and addresses of a demo (tools/faucet.py)."""
    names = {
        "FEED": "feed",
        "ASK": "ask",
        "ENDPOINT": "endpoint",
        "SERVER": "server_key",
        "PUBLIC": "public_key",
        "SECRET": "secret_key",
    }
    head = "".join(f"{name} = {access[field]!r}\n" for name, field in names.items())
    lines = NATIVE.splitlines(keepends=True)
    at = _imports(lines)
    return "".join(lines[:at]) + head + "\n" + "".join(lines[at:])


def _imports(lines: list[str]) -> int:
    """How many lines at the beginning import something, with the blank one behind them."""
    inside = False
    for at, line in enumerate(lines):
        inside = line.startswith("from ") and line.endswith("(\n") or (inside and line != ")\n")
        over = not inside and line.strip() and line != ")\n"
        if over and not line.startswith(("import ", "from ")):
            return at
    raise AssertionError("a snippet that only imports")
