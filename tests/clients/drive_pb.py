"""python-binance 1.0.37, run by its own Python: B, W, K, S as in README."""

import asyncio
import os

from binance import AsyncClient, BinanceSocketManager, Client
from binance.exceptions import BinanceAPIException

B, W, K, S = (os.environ[name] for name in ("B", "W", "K", "S"))
PAIR = "BTCUSDT"
c = Client(K, S, ping=False)
c.FUTURES_URL = B + "/fapi"
c.FUTURES_DATA_URL = B + "/futures/data"
c.API_URL = B + "/api"


def say(name, value):
    print(f"{name:<34} {str(value)[:110]}", flush=True)
    return value


for name in ("ping", "time", "exchange_info", "mark_price", "funding_rate", "ticker", "symbol_ticker",
             "orderbook_ticker", "account", "account_balance", "position_information",
             "get_position_mode", "leverage_bracket", "income_history", "get_open_orders"):  # fmt: skip
    say(name, getattr(c, f"futures_{name}")())
say("order_book", c.futures_order_book(symbol=PAIR))
say("klines", c.futures_klines(symbol=PAIR, interval="1m"))
say("aggregate_trades", c.futures_aggregate_trades(symbol=PAIR))
say("open_interest", c.futures_open_interest(symbol=PAIR))
terms = {"symbol": PAIR, "side": "BUY", "type": "LIMIT", "quantity": 0.01, "price": 59000,
         "timeInForce": "GTC"}  # fmt: skip
order = say("create_order", c.futures_create_order(**terms))
say("get_order", c.futures_get_order(symbol=PAIR, orderId=order["orderId"]))
say("modify_order", c.futures_modify_order(symbol=PAIR, side="BUY", quantity=0.02, price=58999,
                                           orderId=order["orderId"]))  # fmt: skip
say("cancel_order", c.futures_cancel_order(symbol=PAIR, orderId=order["orderId"]))
say("create_test_order", c.futures_create_test_order(**terms))
batch = [{**terms, "quantity": "0.01", "price": price} for price in ("59000", "58990")]
placed = say("place_batch_order", c.futures_place_batch_order(batchOrders=batch))
say(
    "cancel_orders",
    c.futures_cancel_orders(symbol=PAIR, orderidlist=[o["orderId"] for o in placed]),
)
filled = c.futures_create_order(symbol=PAIR, side="BUY", type="MARKET", quantity=0.01,
                                newOrderRespType="RESULT")  # fmt: skip
assert say("market", filled)["status"] == "FILLED"
c.futures_create_order(symbol=PAIR, side="SELL", type="MARKET", quantity=0.01, reduceOnly=True)
say("cancel_all_open_orders", c.futures_cancel_all_open_orders(symbol=PAIR))
say("account_trades", c.futures_account_trades(symbol=PAIR))
say("get_all_orders", c.futures_get_all_orders(symbol=PAIR))
say("change_leverage", c.futures_change_leverage(symbol=PAIR, leverage=10))
try:
    c.futures_cancel_order(symbol=PAIR, orderId=1)
except BinanceAPIException as error:
    assert (error.code, error.message) == (-2011, "Unknown order sent.")


async def sockets():
    a = AsyncClient(K, S)
    a.FUTURES_URL = B + "/fapi"
    a.API_URL = B + "/api"
    manager = BinanceSocketManager(a)
    manager.FSTREAM_URL = W + "/"
    async with manager.futures_user_socket() as user:
        await asyncio.sleep(0.5)
        order = await a.futures_create_order(**terms)
        event = await asyncio.wait_for(user.recv(), 20)
        assert say("futures_user_socket", event)["e"] == "ORDER_TRADE_UPDATE"
        await a.futures_cancel_order(symbol=PAIR, orderId=order["orderId"])
    async with manager.futures_depth_socket(PAIR) as depth:
        say("futures_depth_socket", await asyncio.wait_for(depth.recv(), 20))
    await a.close_connection()


asyncio.run(sockets())
