"""ccxt 4.5 (`binanceusdm`), run by its own Python: B, W, K, S as in README.

Prints one line a call; whatever raises ends it with a traceback.
"""

import asyncio
import os
import sys

import ccxt
import ccxt.pro

B, W, K, S = (os.environ[name] for name in ("B", "W", "K", "S"))
LONG = len(sys.argv) > 1
SYMBOL = "BTC/USDT:USDT"
API = {
    "fapiPublic": B + "/fapi/v1", "fapiPublicV2": B + "/fapi/v2", "fapiPublicV3": B + "/fapi/v3",
    "fapiPrivate": B + "/fapi/v1", "fapiPrivateV2": B + "/fapi/v2", "fapiPrivateV3": B + "/fapi/v3",
    "fapiData": B + "/futures/data", "sapi": B + "/sapi/v1",
    "ws": {"linear": W + "/ws", "ws-api": {"linear": W + "/ws-fapi/v1"}},
}  # fmt: skip
OPTIONS = {
    "apiKey": K,
    "secret": S,
    "urls": {"api": API},
    "options": {"fetchOpenOrders": {"warnWithoutSymbol": False}},
    "exceptions": {"exact": ccxt.binanceusdm().exceptions["linear"]["exact"]},
}


def say(name, value):
    print(f"{name:<28} {str(value)[:110]}", flush=True)
    return value


def public(ex):
    markets = ex.load_markets()
    assert SYMBOL in markets and markets[SYMBOL]["swap"]
    say("fetch_time", ex.fetch_time())
    book = say("fetch_order_book", ex.fetch_order_book(SYMBOL, 5))
    assert book["bids"] and book["asks"] and book["bids"][0][0] < book["asks"][0][0]
    say("fetch_ticker", ex.fetch_ticker(SYMBOL))
    say("fetch_tickers", ex.fetch_tickers())
    say("fetch_bids_asks", ex.fetch_bids_asks())
    assert say("fetch_trades", ex.fetch_trades(SYMBOL, limit=5))
    assert say("fetch_ohlcv", ex.fetch_ohlcv(SYMBOL, "1m", limit=3))
    say("fetch_ohlcv mark", ex.fetch_ohlcv(SYMBOL, "1m", limit=3, params={"price": "mark"}))
    say("fetch_ohlcv index", ex.fetch_ohlcv(SYMBOL, "1m", limit=3, params={"price": "index"}))
    say("fetch_funding_rate", ex.fetch_funding_rate(SYMBOL))
    say("fetch_funding_rates", ex.fetch_funding_rates())
    say("fetch_mark_price", ex.fetch_mark_price(SYMBOL))
    say("fetch_funding_rate_history", ex.fetch_funding_rate_history(SYMBOL))
    say("fetch_funding_intervals", ex.fetch_funding_intervals())
    say("fetch_open_interest", ex.fetch_open_interest(SYMBOL))


def orders(ex):
    order = say("limit", ex.create_order(SYMBOL, "limit", "buy", 0.01, 59000))
    assert order["status"] == "open" and order["amount"] == 0.01 and order["price"] == 59000
    assert say("fetch_order", ex.fetch_order(order["id"], SYMBOL))["status"] == "open"
    assert [o["id"] for o in ex.fetch_open_orders(SYMBOL)] == [order["id"]]
    say("fetch_open_orders", ex.fetch_open_orders())
    edited = say("edit_order", ex.edit_order(order["id"], SYMBOL, "limit", "buy", 0.02, 58999))
    assert edited["amount"] == 0.02 and edited["price"] == 58999
    assert say("cancel_order", ex.cancel_order(order["id"], SYMBOL))["status"] == "canceled"
    post = ex.create_order(SYMBOL, "limit", "buy", 0.01, 59000, {"postOnly": True})
    assert say("postOnly", post)["timeInForce"] in ("PO", "GTX")
    named = ex.create_order(SYMBOL, "limit", "buy", 0.01, 59001, {"clientOrderId": "my-own"})
    assert named["clientOrderId"] == "my-own"
    ex.cancel_order(None, SYMBOL, {"clientOrderId": "my-own"})
    say("cancel_all_orders", ex.cancel_all_orders(SYMBOL))
    batch = ex.create_orders(
        [
            {"symbol": SYMBOL, "type": "limit", "side": "buy", "amount": 0.01, "price": p}
            for p in (59000, 58990)
        ]
    )
    assert len(say("create_orders", batch)) == 2
    say("cancel_orders", ex.cancel_orders([o["id"] for o in batch], SYMBOL))
    market = say("market", ex.create_order(SYMBOL, "market", "buy", 0.01))
    assert market["status"] == "closed" and market["filled"] == 0.01 and market["average"] > 0
    assert say("fetch_balance", ex.fetch_balance())["USDT"]["total"] > 0
    positions = say("fetch_positions", ex.fetch_positions([SYMBOL]))
    assert positions[0]["side"] == "long" and positions[0]["contracts"] == 0.01
    closed = ex.create_order(SYMBOL, "market", "sell", 0.01, None, {"reduceOnly": True})
    assert say("reduceOnly", closed)["status"] == "closed"
    say("fetch_orders", ex.fetch_orders(SYMBOL))
    assert say("fetch_my_trades", ex.fetch_my_trades(SYMBOL))
    say("fetch_ledger", ex.fetch_ledger())
    say("fetch_funding_history", ex.fetch_funding_history(SYMBOL))
    say("fetch_trading_fee", ex.fetch_trading_fee(SYMBOL))
    say("fetch_leverage_tiers", ex.fetch_leverage_tiers([SYMBOL]))
    say("fetch_leverages", ex.fetch_leverages([SYMBOL]))
    say("fetch_margin_mode", ex.fetch_margin_mode(SYMBOL))
    say("fetch_position_mode", ex.fetch_position_mode(SYMBOL))
    say("fetch_my_liquidations", ex.fetch_my_liquidations(SYMBOL))
    say("set_leverage", ex.set_leverage(10, SYMBOL))


def refusals(ex):
    cases = (
        (ccxt.OrderNotFound, lambda: ex.cancel_order("1", SYMBOL)),
        (ccxt.OrderNotFound, lambda: ex.fetch_order("1", SYMBOL)),
        (ccxt.InsufficientFunds, lambda: ex.create_order(SYMBOL, "limit", "buy", 900, 59000)),
        (ccxt.OrderNotFillable,
         lambda: ex.create_order(SYMBOL, "limit", "buy", 0.01, 61500, {"postOnly": True})),
        (ccxt.AuthenticationError, lambda: wrong(ex)),
    )  # fmt: skip
    for kind, call in cases:
        try:
            call()
        except kind as error:
            say(kind.__name__, error)
        else:
            raise AssertionError(f"no {kind.__name__}")


def wrong(_):
    other = ccxt.binanceusdm({**OPTIONS, "secret": "wrong"})
    other.options["fetchCurrencies"] = False
    return other.fetch_balance()


async def pro():
    ex = ccxt.pro.binanceusdm(OPTIONS)
    try:
        await ex.load_markets()
        book = await asyncio.wait_for(ex.watch_order_book(SYMBOL), 20)
        say("watch_order_book", book["bids"][:1])
        say("watch_ticker", await asyncio.wait_for(ex.watch_ticker(SYMBOL), 20))
        orders = asyncio.create_task(ex.watch_orders(SYMBOL))
        await asyncio.sleep(1.0)
        placed = await ex.create_order(SYMBOL, "limit", "buy", 0.01, 59000)
        seen = await asyncio.wait_for(orders, 20)
        assert say("watch_orders", seen)[0]["id"] == placed["id"]
        for _ in range(20 if LONG else 5):
            book = await asyncio.wait_for(ex.watch_order_book(SYMBOL), 20)
        say("watch_order_book again", book["nonce"])
        await ex.cancel_order(placed["id"], SYMBOL)
        trades = asyncio.create_task(ex.watch_my_trades(SYMBOL))
        balance = asyncio.create_task(ex.watch_balance())
        await asyncio.sleep(0.2)
        done = await ex.create_order_ws(SYMBOL, "market", "buy", 0.01)
        say("create_order_ws", done)
        assert say("watch_my_trades", await asyncio.wait_for(trades, 20))[0]["amount"] > 0
        say("watch_balance", (await asyncio.wait_for(balance, 20))["USDT"])
        limit = await ex.create_order_ws(SYMBOL, "limit", "buy", 0.01, 59000)
        say("fetch_order_ws", await ex.fetch_order_ws(limit["id"], SYMBOL))
        say("cancel_order_ws", await ex.cancel_order_ws(limit["id"], SYMBOL))
        say("fetch_balance_ws", (await ex.fetch_balance_ws())["USDT"])
        await ex.create_order(SYMBOL, "market", "sell", 0.01, None, {"reduceOnly": True})
        if LONG:
            say("watch_trades", await asyncio.wait_for(ex.watch_trades(SYMBOL), 60))
            say("watch_ohlcv", await asyncio.wait_for(ex.watch_ohlcv(SYMBOL), 60))
            say("watch_mark_price", await asyncio.wait_for(ex.watch_mark_price(SYMBOL), 60))
            say("watch_bids_asks", await asyncio.wait_for(ex.watch_bids_asks([SYMBOL]), 60))
    finally:
        await ex.close()


exchange = ccxt.binanceusdm(OPTIONS)
public(exchange)
orders(exchange)
refusals(exchange)
OPTIONS["options"]["fetchCurrencies"] = False
asyncio.run(pro())
