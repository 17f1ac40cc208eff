"""The HTTP gateway against a real engine, as clients see it: orders, streams, restarts, attackers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from gateways.http.routes import ROUTES
from gateways.http.schema import Security
from tests.process.gateway_helpers import Exchange, Trader
from tests.process.helpers import wait_until


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    made = Exchange(
        tmp_path_factory.mktemp("http"),
        f"http-{os.getpid()}",
        {"http.orders_per_10s": 100_000, "http.orders_per_minute": 100_000,
         "http.weight_per_minute": 1_000_000},
    )  # fmt: skip
    try:
        made.start()
        made.declare()
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def ann(exchange: Exchange) -> Trader:
    return exchange.trader("ann")


@pytest.fixture(scope="module")
def bob(exchange: Exchange) -> Trader:
    return exchange.trader("bob")


def cancel_all(*traders: Trader) -> None:
    for trader in traders:
        assert trader.call("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")[0] == 200


class Listener:
    """Events of a WebSocket while something is done."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.messages: list[Any] = []

    def during(self, work: Callable[[], Any], until: Callable[[list[Any]], bool]) -> Any:
        return asyncio.run(self._during(work, until))

    async def _during(self, work: Callable[[], Any], until: Callable[[list[Any]], bool]) -> Any:
        async with aiohttp.ClientSession() as session, session.ws_connect(self.url) as ws:
            doing = asyncio.create_task(asyncio.to_thread(work))
            while not until(self.messages):
                message = await ws.receive(timeout=20)
                assert message.type is aiohttp.WSMsgType.TEXT, (message, self.messages)
                self.messages.append(message.json())
            return await doing


def listen_key(trader: Trader) -> str:
    return str(trader.raw("POST", "/fapi/v1/listenKey")[1]["listenKey"])


# ---------------------------------------------------------------- orders


def test_an_order_lives_and_trades(ann: Trader, bob: Trader) -> None:
    placed = ann.order("BUY", "0.010", "60000.0", newClientOrderId="first")
    assert placed["status"] == "NEW" and placed["clientOrderId"] == "first"
    assert placed["origQty"] == "0.010" and placed["price"] == "60000.0"
    status, queried = ann.call("GET", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId="first")
    assert status == 200 and queried["orderId"] == placed["orderId"] and queried["time"] > 0
    assert [o["orderId"] for o in ann.call("GET", "/fapi/v1/openOrders")[1]] == [placed["orderId"]]
    filled = bob.order("SELL", "0.004")
    assert filled["status"] == "FILLED" and filled["avgPrice"] == "60000.00000"
    assert filled["executedQty"] == "0.004" and filled["cumQuote"] == "240.000000"
    changed = ann.call(
        *("PUT", "/fapi/v1/order"), symbol="BTCUSDT", side="BUY", orderId=placed["orderId"],
        quantity="0.008", price="59999.0",
    )[1]  # fmt: skip
    assert changed["status"] == "PARTIALLY_FILLED" and changed["origQty"] == "0.008"
    assert changed["executedQty"] == "0.004" and changed["price"] == "59999.0"
    ended = ann.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=placed["orderId"])[1]
    assert ended["status"] == "CANCELED" and ended["executedQty"] == "0.004"
    account = ann.call("GET", "/fapi/v3/account")[1]
    assert [(p["symbol"], p["positionAmt"]) for p in account["positions"]] == [("BTCUSDT", "0.004")]
    assert account["totalOpenOrderInitialMargin"] == "0.000000"
    risk = bob.call("GET", "/fapi/v3/positionRisk", symbol="BTCUSDT")[1][0]
    assert risk["positionAmt"] == "-0.004" and risk["entryPrice"] == "60000.00000000"


REFUSALS = """
  order                                                | status | code
  BUY 0.01 60000.05                                    | 400    | -1111
  BUY 0.0001 60000                                     | 400    | -1111
  BUY 0 60000                                          | 400    | -4003
  BUY 1001 60000                                       | 400    | -4005
  BUY 0.01 0                                           | 400    | -4013
  BUY 0.01 2000000                                     | 400    | -4002
  BUY 0.01 -1                                          | 400    | -4001
  BUY 0.01 95000                                       | 400    | -4016     above the band
  BUY 0.001 31000 quantity=0.000                       | 400    | -4003
  BUY 400 60000                                        | 400    | -2019     24 millions at 20
  SELL 0.01 60000 reduceOnly=true positionSide=LONG    | 400    | -4061
  BUY 0.01 61000 newOrderRespType=FULL                 | 400    | -1136
  BUY 0.01 61000 timeInForce=GTX price=90001           | 400    | -4016
  BUY 0.01 61000 type=STOP_MARKET                      | 400    | -1106
  BUY 0.01 61000 timeInForce=GTD                       | 400    | -1102
  BUY 0.01 61000 timeInForce=GTD goodTillDate=1        | 400    | -5040
  BUY 0.01 61000 symbol=NOPE                           | 400    | -1121
  BUY 5 59000 timeInForce=FOK                          | 400    | -5021
"""


@pytest.mark.parametrize("row", REFUSALS.strip().splitlines()[1:])
def test_refusals(ann: Trader, row: str) -> None:
    order, status, code = (cell.strip() for cell in row.split("|"))
    side, quantity, price, *more = order.split()
    sent = {"symbol": "BTCUSDT", "side": side, "quantity": quantity, "price": price}
    sent |= {"type": "LIMIT", "timeInForce": "GTC"} | dict(pair.split("=") for pair in more)
    got = ann.call("POST", "/fapi/v1/order", **sent)
    assert (got[0], got[1]["code"]) == (int(status), int(code.split()[0])), got


def test_numbers_that_no_command_can_say(ann: Trader) -> None:
    cancel_all(ann)
    last = ann.order("BUY", "0.010", "50000", timeInForce="GTD", goodTillDate=253402300798999)
    assert (last["status"], last["goodTillDate"]) == ("NEW", 9223372036000), last
    asked = {"symbol": "BTCUSDT", "amount": "385413240364012", "type": 1}
    status, got, *_ = ann.call("POST", "/fapi/v1/positionMargin", **asked)
    assert status == 400 and got["code"] < -1000, got
    cancel_all(ann)


def test_post_only_fok_and_duplicates(ann: Trader, bob: Trader) -> None:
    cancel_all(ann, bob)
    assert ann.order("SELL", "0.010", "60100", newClientOrderId="ask")["status"] == "NEW"
    assert ann.order("SELL", "0.010", "60200", newClientOrderId="ask")["code"] == -4116
    assert bob.order("BUY", "0.010", "60100", timeInForce="GTX")["code"] == -5022
    assert bob.order("BUY", "0.020", "60100", timeInForce="FOK")["code"] == -5021
    rest = bob.order("BUY", "0.020", "60100", timeInForce="IOC")
    assert rest["status"] == "EXPIRED" and rest["executedQty"] == "0.010"
    assert bob.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=1)[1] == {
        "code": -2011,
        "msg": "Unknown order sent.",
    }
    nobody = bob.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=0)[1]
    assert nobody["code"] == -2011, "0 names no order"
    taken = ann.call("POST", "/fapi/v1/order", symbol="BTCUSDT", side="BUY", type="LIMIT",
                     quantity="0.01", price="50000", timeInForce="GTC")[1]  # fmt: skip
    assert taken["status"] == "NEW", "newOrderRespType is ACK unless said"
    cancel_all(ann)


def test_batches(ann: Trader) -> None:
    cancel_all(ann)
    good = '{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","quantity":0.01,"price":"50000","timeInForce":"GTC"}'
    bad = good.replace("LIMIT", "LIMITED")
    batch = ann.call("POST", "/fapi/v1/batchOrders", batchOrders=f"[{good},{bad},{good}]")
    assert batch[0] == 200
    assert [o.get("status") or o["code"] for o in batch[1]] == ["NEW", -1116, "NEW"]
    ids = [o["orderId"] for o in batch[1] if "orderId" in o]
    ended = ann.call(
        "DELETE", "/fapi/v1/batchOrders", symbol="BTCUSDT", orderIdList=f"[{ids[0]},1,{ids[1]}]"
    )[1]
    assert [o.get("status") or o["code"] for o in ended] == ["CANCELED", -2011, "CANCELED"]
    six = ann.call("POST", "/fapi/v1/batchOrders", batchOrders="[" + ",".join([good] * 6) + "]")
    assert six == (400, {"code": -4082, "msg": "Invalid number of batch place orders."})


def test_a_user_hears_of_everything(exchange: Exchange, ann: Trader, bob: Trader) -> None:
    cancel_all(ann, bob)
    key = listen_key(ann)
    assert listen_key(ann) == key, "the same while it lives"
    heard = Listener(f"{exchange.base}/private/ws?listenKey={key}")

    def work() -> Any:
        placed = ann.order("BUY", "0.010", "60000", newClientOrderId="heard")
        bob.order("SELL", "0.010")
        return placed

    placed = heard.during(work, lambda got: any(e["e"] == "ACCOUNT_UPDATE" for e in got))
    kinds = [e["e"] for e in heard.messages]
    assert kinds == ["ORDER_TRADE_UPDATE", "ORDER_TRADE_UPDATE", "TRADE_LITE", "ACCOUNT_UPDATE"]
    new, trade = (e["o"] for e in heard.messages[:2])
    assert (new["x"], new["X"], new["c"]) == ("NEW", "NEW", "heard")
    assert (trade["x"], trade["X"], trade["l"], trade["m"]) == ("TRADE", "FILLED", "0.010", True)
    assert new["i"] == trade["i"] == placed["orderId"] and trade["n"] == "0.120000"
    update = heard.messages[3]["a"]
    assert update["m"] == "ORDER" and update["P"][0]["s"] == "BTCUSDT"


def test_streams_with_control_messages(exchange: Exchange, ann: Trader) -> None:
    async def talk() -> list[Any]:
        async with (
            aiohttp.ClientSession() as s,
            s.ws_connect(f"{exchange.base}/private/stream") as ws,
        ):
            answers = []
            for request in (
                {"method": "SUBSCRIBE", "params": [listen_key(ann)], "id": "a"},
                {"method": "LIST_SUBSCRIPTIONS", "id": 7},
                {"method": "GET_PROPERTY", "params": ["combined"], "id": 8},
                {"method": "SUBSCRIBE", "params": ["nonsense@x"], "id": 9},
                {"method": "SUBSCRIBE", "params": ["0" * 64], "id": 10},
            ):
                await ws.send_json(request)
                answers.append((await ws.receive(timeout=10)).json())
            await ws.send_str('{"id":1,"id":2}')
            answers.append((await ws.receive(timeout=10)).json())
            return answers

    key = listen_key(ann)
    one, two, three, four, five, six = asyncio.run(talk())
    assert one == {"result": None, "id": "a"} and two == {"result": [key], "id": 7}
    assert three == {"result": True, "id": 8}
    assert four["error"]["code"] == 2 and four["id"] == 9 and five["error"]["code"] == 2
    assert six["error"]["code"] == 3 and six["id"] is None


def test_the_websocket_api(exchange: Exchange, ann: Trader) -> None:
    import hashlib
    import hmac

    def sign(params: dict[str, Any]) -> dict[str, Any]:
        text = "&".join(f"{k}={v}" for k, v in sorted(params.items()))
        return {
            **params,
            "signature": hmac.new(ann.secret.encode(), text.encode(), hashlib.sha256).hexdigest(),
        }

    async def talk() -> list[Any]:
        async with aiohttp.ClientSession() as s, s.ws_connect(f"{exchange.base}/ws-fapi/v1") as ws:
            answers = []
            now = time.time_ns() // 1_000_000
            order = {"apiKey": ann.key, "symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT",
                     "quantity": "0.010", "price": 50000, "timeInForce": "GTC", "timestamp": now}  # fmt: skip
            for request_id, method, params in (
                ("1", "order.place", sign(order)),
                (2, "order.place", {**sign(order), "signature": "0" * 64}),
                (3, "v2/account.balance", sign({"apiKey": ann.key, "timestamp": now})),
                (4, "session.logon", sign({"apiKey": ann.key, "timestamp": now})),
                (5, "no.such", {}),
                (6, "time", {"returnRateLimits": False}),
            ):
                await ws.send_json({"id": request_id, "method": method, "params": params})
                answers.append((await ws.receive(timeout=10)).json())
            return answers

    placed, bad, balance, logon, unknown, told = asyncio.run(talk())
    assert placed["status"] == 200 and placed["id"] == "1" and placed["result"]["status"] == "NEW"
    assert {r["rateLimitType"] for r in placed["rateLimits"]} == {"REQUEST_WEIGHT", "ORDERS"}
    assert bad["error"]["code"] == -1022 and bad["status"] == 400
    assert balance["result"][0]["asset"] == "USDT" and logon["error"]["code"] == -4056
    assert unknown["error"]["code"] == -1020 and "rateLimits" not in told
    cancel_all(ann)


# ---------------------------------------------------------------- who may


def test_nobody_sees_or_touches_anothers(ann: Trader, bob: Trader) -> None:
    cancel_all(ann, bob)
    placed = ann.order("BUY", "0.010", "50000", newClientOrderId="mine")
    names = {"orderId": placed["orderId"]}, {"origClientOrderId": "mine"}
    for name in names:
        for method, path in (("DELETE", "/fapi/v1/order"), ("GET", "/fapi/v1/openOrder")):
            status, answer = bob.call(method, path, symbol="BTCUSDT", **name)
            assert status == 400 and answer["code"] in (-2011, -2013)
        status, answer = bob.call("PUT", "/fapi/v1/order", symbol="BTCUSDT", side="BUY",
                                  quantity="0.02", price="50000", **name)  # fmt: skip
        assert answer["code"] == -2013
    assert bob.call("GET", "/fapi/v1/openOrders")[1] == []
    cancel_all(bob)
    assert len(ann.call("GET", "/fapi/v1/openOrders")[1]) == 1
    cancel_all(ann)


def test_every_signed_route_refuses_strangers(exchange: Exchange, ann: Trader) -> None:
    for route in ROUTES:
        if route.security == Security.NONE:
            continue
        assert exchange.call(route.method, route.path)[:2] == (
            401,
            {"code": -2014, "msg": "API-key format invalid."},
        )
        status, answer, _ = exchange.call(
            route.method, f"{route.path}?timestamp=1&signature=00", None, {"X-MBX-APIKEY": "x"}
        )
        assert (status, answer["code"]) == (401, -2015), route.path
        if route.security in (Security.USER_DATA, Security.TRADE):
            status, answer, _ = ann.raw(route.method, f"{route.path}?timestamp=1&signature=00")
            may = route.scope in ("read", "trade")  # as ann's key says
            wanted = (400, -1022) if may else (401, -2015)
            assert (status, answer["code"]) == wanted, route.path


def test_a_revoked_key_is_out_on_live_streams(exchange: Exchange) -> None:
    eve = exchange.trader("eve")

    async def watch() -> float:
        url = f"{exchange.base}/private/ws?listenKey={listen_key(eve)}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
            await asyncio.to_thread(exchange.admin, "/keys/revoke", {"api_key": eve.key})
            begun = time.monotonic()
            while True:
                message = await ws.receive(timeout=10)
                if message.type is not aiohttp.WSMsgType.TEXT:
                    assert ws.close_code == 1008
                    return time.monotonic() - begun

    assert asyncio.run(watch()) < 5
    assert eve.call("GET", "/fapi/v3/balance")[0] == 401
    audit = exchange.admin("/audit")
    assert audit[0]["action"] == "KEY_REVOKE" and audit[0]["seq"] > 0


def test_two_people_for_an_adjustment(exchange: Exchange) -> None:
    told = exchange.admin("/commands")
    assert {"request_adjust", "approve", "symbol", "contract", "venue_state"} <= told.keys()
    assert "principal" not in told["approve"], "who acts is not theirs to say"


# ---------------------------------------------------------------- bad input

MALFORMED = (
    b"GET / HTTP/1.1\r\nHost: x\r\n\x00\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"h%d: x\r\n" % k for k in range(1000)) + b"\r\n",
    b"POST /fapi/v1/order HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"a" * 200_000,
    b"POST /fapi/v1/order HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /fapi/v1/order HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"\r\n" * 1000,
    bytes(range(256)) * 16,
)


def test_malformed_bytes_harm_nobody(exchange: Exchange, ann: Trader) -> None:
    for raw in MALFORMED:
        with socket.create_connection(("127.0.0.1", exchange.port), timeout=20) as probe:
            try:
                probe.sendall(raw)
                probe.shutdown(socket.SHUT_WR)
                answer = probe.recv(65536)
            except ConnectionError:
                continue
            assert answer == b"" or answer.split()[1] in (b"400", b"413", b"401", b"404", b"431"), (
                answer
            )
    assert ann.call("GET", "/fapi/v3/balance")[0] == 200


def test_a_flood_leaves_memory_flat(exchange: Exchange, ann: Trader) -> None:
    process = psutil.Process(exchange.processes["http"].pid)
    idle = [socket.create_connection(("127.0.0.1", exchange.port)) for _ in range(300)]
    try:
        for turn in range(3):
            for _ in range(100):
                exchange.call("POST", "/fapi/v1/order?a=" + "b" * 5000, b"x" * 60_000)
            if turn == 0:
                before = process.memory_info().rss
        after = process.memory_info().rss
    finally:
        for probe in idle:
            probe.close()
    assert after - before < 48 << 20
    assert ann.call("GET", "/fapi/v3/balance")[0] == 200


def test_websocket_abuse_ends_the_connection_only(exchange: Exchange, ann: Trader) -> None:
    async def abuse() -> list[int | None]:
        codes = []
        async with aiohttp.ClientSession() as session:
            for messages in (["x" * 70_000], ["{}"] * 40):
                async with session.ws_connect(f"{exchange.base}/ws") as ws:
                    for text in messages:
                        await ws.send_str(text)
                    while (await ws.receive(timeout=20)).type is aiohttp.WSMsgType.TEXT:
                        pass
                    codes.append(ws.close_code)
            async with session.ws_connect(f"{exchange.base}/ws") as ws:
                await ws.send_bytes(b"\x00")
                await ws.receive(timeout=20)
                codes.append(ws.close_code)
        return codes

    assert asyncio.run(abuse()) == [1009, 1008, 1003]
    assert ann.call("GET", "/fapi/v3/balance")[0] == 200


def test_headers_of_limits_and_traces(exchange: Exchange, ann: Trader) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    status, _, headers = exchange.call(
        "GET", "/fapi/v1/time", None, {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    )
    assert status == 200 and int(headers["x-mbx-used-weight-1m"]) > 0
    assert headers["x-trace-id"] == trace
    text = ann.signed(symbol="BTCUSDT", side="BUY", type="LIMIT", quantity="0.01", price="50000",
                      timeInForce="GTC")  # fmt: skip
    headers = ann.raw("POST", "/fapi/v1/order", text.encode())[2]
    assert {"x-mbx-order-count-10s", "x-mbx-order-count-1m"} <= headers.keys()
    cancel_all(ann)
    assert exchange.call("GET", "/nothing")[:2] == (
        404,
        {"code": -5000, "msg": "Path /nothing, Method GET is invalid"},
    )


# ---------------------------------------------------------------- restarts: the last, they disturb


def test_an_engine_that_is_killed_leaves_gateways_and_clients(
    exchange: Exchange, ann: Trader
) -> None:
    cancel_all(ann)
    kept = ann.order("BUY", "0.010", "50000", newClientOrderId="kept")
    key = listen_key(ann)
    gateway = exchange.processes["http"].pid

    async def through() -> list[Any]:
        url = f"{exchange.base}/private/ws?listenKey={key}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
            await asyncio.to_thread(kill_and_wait)
            await asyncio.to_thread(
                ann.call, "DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=kept["orderId"]
            )
            events = []
            while not any(e["o"]["x"] == "CANCELED" for e in events):
                message = await ws.receive(timeout=30)
                assert message.type is aiohttp.WSMsgType.TEXT
                events.append(message.json())
            return events

    def kill_and_wait() -> None:
        epoch = exchange.admin("/health")["epoch"]
        os.kill(exchange.venue.worker("engine"), signal.SIGKILL)
        seen = set()

        def back() -> bool:
            answer = ann.order("BUY", "0.010", "49000")
            seen.add(answer.get("code", 0))
            return "orderId" in answer and exchange.admin("/health")["epoch"] > epoch

        wait_until(back, 120, "orders don't go through again")
        assert seen <= {0, -1001, -1007}, seen

    events = asyncio.run(through())
    assert events[-1]["o"]["c"] == "kept"
    assert exchange.processes["http"].poll() is None and exchange.processes["http"].pid == gateway
    cancel_all(ann)


def test_a_stopped_gateway_ends_in_order(exchange: Exchange) -> None:
    exchange.processes["http"].send_signal(signal.SIGTERM)
    assert exchange.processes["http"].wait(30) == 0, exchange.log("http")
    exchange.processes["admin"].send_signal(signal.SIGTERM)
    assert exchange.processes["admin"].wait(30) == 0
    assert not Path(exchange.admin_socket).exists()
