"""binance-futures-connector 4.2, run by its own Python: B, W, K, S as in README."""

import json
import os
import time

from binance.error import ClientError
from binance.um_futures import UMFutures
from binance.websocket.um_futures.websocket_client import UMFuturesWebsocketClient

B, W, K, S = (os.environ[name] for name in ("B", "W", "K", "S"))
PAIR = "BTCUSDT"
c = UMFutures(key=K, secret=S, base_url=B)


def say(name, value):
    print(f"{name:<28} {str(value)[:110]}", flush=True)
    return value


for name in ("ping", "time", "exchange_info", "funding_info"):
    say(name, getattr(c, name)())
for name in ("depth", "trades", "historical_trades", "agg_trades", "mark_price", "funding_rate",
             "ticker_24hr_price_change", "ticker_price", "book_ticker", "open_interest"):  # fmt: skip
    say(name, getattr(c, name)(PAIR))
say("klines", c.klines(PAIR, "1m"))
say("continuous_klines", c.continuous_klines(PAIR, "PERPETUAL", "1m"))
say("mark_price_klines", c.mark_price_klines(PAIR, "1m"))
say("index_price_klines", c.index_price_klines(PAIR, "1m"))

for combined in (False, True):
    heard = []
    w = UMFuturesWebsocketClient(
        stream_url=W, is_combined=combined, on_message=lambda _, m, heard=heard: heard.append(m)
    )
    key = c.new_listen_key()["listenKey"]
    w.user_data(key)
    w.agg_trade(PAIR)
    w.diff_book_depth(PAIR, speed=100)
    time.sleep(1.0)
    order = c.new_order(symbol=PAIR, side="BUY", type="LIMIT", quantity=0.01, price=59000,
                        timeInForce="GTC")  # fmt: skip
    say("new_order", order)
    say("query_order", c.query_order(PAIR, orderId=order["orderId"]))
    say("get_open_orders", c.get_open_orders(PAIR, orderId=order["orderId"]))
    say("get_orders", c.get_orders(symbol=PAIR))
    say("modify_order", c.modify_order(PAIR, "BUY", 0.02, 58999, orderId=order["orderId"]))
    say("cancel_order", c.cancel_order(PAIR, orderId=order["orderId"]))
    until = time.time() + 20
    while not any("ORDER_TRADE_UPDATE" in m for m in heard):
        assert time.time() < until, heard
        time.sleep(0.05)
    events = [json.loads(m) for m in heard if "ORDER_TRADE_UPDATE" in m]
    assert ("stream" in events[0]) == combined, events[0]
    say("user_data", events[0])
    w.stop()
say("renew_listen_key", c.renew_listen_key(key))
say("new_order_test", c.new_order_test(symbol=PAIR, side="BUY", type="LIMIT", quantity=0.01,
                                       price=59000, timeInForce="GTC"))  # fmt: skip
batch = [{"symbol": PAIR, "side": "BUY", "type": "LIMIT", "quantity": "0.01", "price": "59000",
          "timeInForce": "GTC"}] * 2  # fmt: skip
placed = say("new_batch_order", c.new_batch_order(batch))
say("cancel_batch_order", c.cancel_batch_order(PAIR, [o["orderId"] for o in placed], []))
filled = c.new_order(
    symbol=PAIR, side="BUY", type="MARKET", quantity=0.01, newOrderRespType="RESULT"
)
assert say("market", filled)["status"] == "FILLED"
c.new_order(symbol=PAIR, side="SELL", type="MARKET", quantity=0.01, reduceOnly="true")
say("cancel_open_orders", c.cancel_open_orders(PAIR))
for name in (
    "balance",
    "account",
    "get_position_mode",
    "get_multi_asset_mode",
    "leverage_brackets",
):
    say(name, getattr(c, name)())
say("get_all_orders", c.get_all_orders(PAIR))
say("get_account_trades", c.get_account_trades(PAIR))
say("get_income_history", c.get_income_history())
say("get_position_risk", c.get_position_risk())
say("adl_quantile", c.adl_quantile())
say("force_orders", c.force_orders())
say("commission_rate", c.commission_rate(PAIR))
say("change_leverage", c.change_leverage(PAIR, 10))
try:
    c.cancel_order(PAIR, orderId=1)
except ClientError as error:
    assert error.error_code == -2011 and error.error_message == "Unknown order sent."
say("close_listen_key", c.close_listen_key(key))
