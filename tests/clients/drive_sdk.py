"""The official SDK, run by its own Python: B, W, K, S as in README."""

import asyncio
import os

from binance_common.configuration import (
    ConfigurationRestAPI,
    ConfigurationWebSocketAPI,
    ConfigurationWebSocketStreams,
)
from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import (
    DerivativesTradingUsdsFutures,
)

B, W, K, S = (os.environ[name] for name in ("B", "W", "K", "S"))
PAIR = "BTCUSDT"
c = DerivativesTradingUsdsFutures(
    config_rest_api=ConfigurationRestAPI(api_key=K, api_secret=S, base_path=B, timeout=10000),
    config_ws_api=ConfigurationWebSocketAPI(api_key=K, api_secret=S, stream_url=W + "/ws-fapi/v1"),
    config_ws_streams=ConfigurationWebSocketStreams(stream_url=W),
)
r = c.rest_api


def say(name, value):
    print(f"{name:<28} {str(value)[:110]}", flush=True)
    return value


for name, arguments in (
    ("check_server_time", {}),
    ("exchange_information", {}),
    ("order_book", {"symbol": PAIR, "limit": 5}),
    ("recent_trades_list", {"symbol": PAIR}),
    ("compressed_aggregate_trades_list", {"symbol": PAIR}),
    ("kline_candlestick_data", {"symbol": PAIR, "interval": "1m"}),
    ("mark_price", {"symbol": PAIR}),
    ("get_funding_rate_history", {"symbol": PAIR}),
    ("get_funding_rate_info", {}),
    ("ticker24hr_price_change_statistics", {"symbol": PAIR}),
    ("symbol_price_ticker_v2", {"symbol": PAIR}),
    ("symbol_order_book_ticker", {"symbol": PAIR}),
    ("open_interest", {"symbol": PAIR}),
    ("account_information_v3", {}),
    ("account_information_v2", {}),
    ("futures_account_balance_v3", {}),
    ("position_information_v3", {}),
    ("futures_account_configuration", {}),
    ("symbol_configuration", {"symbol": PAIR}),
    ("notional_and_leverage_brackets", {}),
    ("get_current_position_mode", {}),
    ("user_commission_rate", {"symbol": PAIR}),
    ("get_income_history", {}),
    ("account_trade_list", {"symbol": PAIR}),
    ("all_orders", {"symbol": PAIR}),
    ("query_user_rate_limit", {}),
):
    say(name, getattr(r, name)(**arguments).data())

order = r.new_order(symbol=PAIR, side="BUY", type="LIMIT", quantity=0.01, price=59000,
                    time_in_force="GTC").data()  # fmt: skip
say("new_order", order)
say("query_order", r.query_order(symbol=PAIR, order_id=order.order_id).data())
say("current_all_open_orders", r.current_all_open_orders(symbol=PAIR).data())
changed = r.modify_order(
    symbol=PAIR, side="BUY", quantity=0.02, price=58999, order_id=order.order_id
)
say("modify_order", changed.data())
say("cancel_order", r.cancel_order(symbol=PAIR, order_id=order.order_id).data())
say("cancel_all_open_orders", r.cancel_all_open_orders(symbol=PAIR).data())
say("change_initial_leverage", r.change_initial_leverage(symbol=PAIR, leverage=10).data())
key = say("start_user_data_stream", r.start_user_data_stream().data()).listen_key


async def sockets():
    heard = []
    connection = await c.websocket_streams.create_connection()
    stream = await connection.user_data(key)
    stream.on("message", lambda data: heard.append(data))
    api = await c.websocket_api.create_connection()
    placed = await api.new_order(symbol=PAIR, side="BUY", type="LIMIT", quantity=0.01, price=59000,
                                 time_in_force="GTC")  # fmt: skip
    result = placed.data().result
    say("ws new_order", result)
    say("ws query_order", (await api.query_order(symbol=PAIR, order_id=result.order_id)).data())
    say("ws cancel_order", (await api.cancel_order(symbol=PAIR, order_id=result.order_id)).data())
    say("ws order_book", (await api.order_book(symbol=PAIR, limit=5)).data())
    for _ in range(200):
        if heard:
            break
        await asyncio.sleep(0.05)
    assert heard, "no user event"
    say("user_data", heard[0])
    await connection.close_connection(close_session=True)
    await api.close_connection(close_session=True)


asyncio.run(sockets())
