"""The HTTP gateway under attack, overload and death: it answers truthfully, and others notice nothing.

One exchange with two gateways on one port. Limits are small so that they are reached.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import quote

import aiohttp
import psutil
import pytest

from tests.process.gateway_helpers import Exchange, Trader, free_port
from tests.process.helpers import wait_until

IDLE_S = 2
SETTINGS = {
    "http.weight_per_minute": 1_000_000,
    "http.idle_timeout_s": IDLE_S,
    "http.connections_per_address": 3000,
    "http.sockets_per_address": 600,
    "http.answer_timeout_ms": 4000,
    "http.cors_origins": '["https://terminal.example"]',
    "http.orders_per_10s": 300,
    "http.orders_per_minute": 100_000,
    "rings.ingress": 64,
    "heartbeat_timeout_ms": 120_000,  # a stopped engine is not a dead one
}


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    made = Exchange(tmp_path_factory.mktemp("faults"), f"faults-{os.getpid()}", SETTINGS)
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


def raw_order(trader: Trader, name: str, **more: Any) -> str:
    """A signed order as its query, to be sent as often as one likes."""
    terms = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "0.01",
             "price": "50000", "timeInForce": "GTC", "newClientOrderId": name,
             "recvWindow": 60000}  # fmt: skip
    return trader.signed(**{**terms, **more})


def open_names(trader: Trader) -> list[str]:
    return sorted(o["clientOrderId"] for o in trader.call("GET", "/fapi/v1/openOrders")[1])


def alive(trader: Trader) -> None:
    assert trader.call("GET", "/fapi/v3/balance")[0] == 200


# ---------------------------------------------------------------- input

DEEP = "[" * 4000 + "]" * 4000
BAD_VALUES = """
  parameter          | value                  | code
  quantity           | NaN                    | -1100
  quantity           | Infinity               | -1100
  quantity           | 1e400                  | -1100
  quantity           | １                      | -1100    full width
  quantity           | ٣                      | -1100    Arabic
  quantity           | 1_000                  | -1100
  quantity           | +1                     | -1100
  quantity           | 0x1                    | -1100
  quantity           | 1,5                    | -1100
  quantity           | .5                     | -1102
  quantity           | 99999999999999999999   | -1102
  price              | -0                     | -4001
  price              | 1e5                    | -1100
  timestamp          | １７００００００００００００   | -1102
  timestamp          | 1e12                   | -1102
  recvWindow         | 60001                  | -1130
  side               | buy\\x00               | -1100
  newClientOrderId   | a b                    | -4015
  newClientOrderId   | ＡＢＣ                    | -1100
  symbol             | ＢＴＣＵＳＤＴ               | -1100
  symbol             | BTC'USDT               | -1121
  reduceOnly         | 1                      | -1130
  goodTillDate       | 1.5                    | -1102
"""


@pytest.mark.parametrize("row", BAD_VALUES.strip().splitlines()[1:])
def test_values_that_lenient_parsers_let_through(ann: Trader, row: str) -> None:
    name, value, code = (cell.strip() for cell in row.split("|"))
    terms = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "0.01",
             "price": "50000", "timeInForce": "GTC", "timestamp": str(time.time_ns() // 10**6)}  # fmt: skip
    terms[name] = value.encode().decode("unicode_escape") if "\\" in value else value
    text = "&".join(f"{k}={quote(v)}" for k, v in terms.items())
    found = ann.raw("POST", f"/fapi/v1/order?{text}&signature={ann.sign(text)}")
    assert (found[0], found[1]["code"]) == (400, int(code.split()[0])), found


BODIES = {
    "bad UTF-8": (b"symbol=BTCUSDT&side=\xff\xfe", 400),
    "bad escape": (b"symbol=%zz&side=BUY", 400),
    "a name twice": (b"symbol=BTCUSDT&symbol=BTCUSDT", 400),
    "deep JSON": (b"batchOrders=" + DEEP.encode(), 400),
    "keys twice": (b'batchOrders=[{"symbol":"BTCUSDT","symbol":"BTCUSDT"}]', 400),
    "an escaped key": (b'batchOrders=[{"s\\u0079mbol":"BTCUSDT"}]', 400),
    "no JSON": (b"batchOrders=[}", 400),
    "NaN in JSON": (b'batchOrders=[{"quantity":NaN}]', 400),
    "too large": (b"a=" + b"x" * 70_000, 413),
    "a thousand names": (b"&".join(b"n%d=1" % k for k in range(1000)), 400),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies(exchange: Exchange, ann: Trader, name: str) -> None:
    body, status = BODIES[name]
    for path in ("/fapi/v1/order", "/fapi/v1/batchOrders"):
        signed = body + f"&timestamp={time.time_ns() // 10**6}".encode()
        signed += b"&signature=" + ann.sign(signed).encode()
        found = exchange.call("POST", path, signed, {"X-MBX-APIKEY": ann.key})
        assert found[0] == status and found[1]["code"] < 0, (path, found)
    alive(ann)


def test_numbers_of_json_that_no_float_holds(ann: Trader) -> None:
    order = ('{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","quantity":%s,"price":"50000",'
             '"timeInForce":"GTC"}')  # fmt: skip
    numbers = [
        "1e400",
        "1e-400",
        "0.010000000000000000000001",
        "0.01",
        "1E-2",
        "100000000000000000000",
    ]
    text = "[" + ",".join(order % number for number in numbers[:5]) + "]"
    found = ann.call("POST", "/fapi/v1/batchOrders", batchOrders=quote(text))[1]
    codes = [one.get("code", one.get("status")) for one in found]
    assert codes == [-1100, -1100, -1102, "NEW", "NEW"], codes
    assert ann.call("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")[0] == 200


# ---------------------------------------------------------------- connections


def test_two_thousand_idle_sockets_cost_nobody(exchange: Exchange, ann: Trader) -> None:
    process = psutil.Process(exchange.processes["http"].pid)
    before = process.memory_info().rss
    with ExitStack() as stack:
        for _ in range(2000):
            stack.enter_context(socket.create_connection(("127.0.0.1", exchange.port), 10))
        for _ in range(5):
            alive(ann)
        assert process.memory_info().rss - before < 64 << 20
        wait_until(lambda: process.num_fds() < 500, 30, "idle connections stay open")


def test_slow_clients_are_let_go(exchange: Exchange, ann: Trader) -> None:
    head = b"GET /fapi/v1/time HTTP/1.1\r\nHost: x\r\n"
    body = b"POST /fapi/v1/order HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    for begin in (head, body):
        with socket.create_connection(("127.0.0.1", exchange.port), 30) as slow:
            slow.sendall(begin)
            slow.settimeout(0.2)
            begun = time.monotonic()
            while time.monotonic() - begun < 30:
                with suppress(TimeoutError):
                    answer = slow.recv(4096)
                    assert answer == b"" or b" 408 " in answer.split(b"\r\n")[0], answer
                    break
                try:
                    slow.send(b"a")
                except ConnectionError:
                    break
            else:
                pytest.fail("it may go on for ever")
    alive(ann)


def test_floods_are_answered_or_closed(exchange: Exchange, ann: Trader) -> None:
    """Pipelined requests that nobody reads the answers of, while another client trades."""
    process = psutil.Process(exchange.processes["http"].pid)
    before = process.memory_info().rss
    request = b"GET /fapi/v1/exchangeInfo HTTP/1.1\r\nHost: x\r\n\r\n" * 200
    with ExitStack() as stack:
        flooders = []
        for _ in range(20):
            flooder = socket.create_connection(("127.0.0.1", exchange.port), 10)
            flooder.setblocking(False)
            flooders.append(stack.enter_context(flooder))
        for _ in range(20):
            for flooder in flooders:
                with suppress(BlockingIOError, ConnectionError):
                    flooder.send(request)
        for _ in range(5):
            alive(ann)
        assert process.memory_info().rss - before < 128 << 20
    alive(ann)


def test_floods_of_websocket_messages(exchange: Exchange, ann: Trader) -> None:
    async def flood() -> int | None:
        url = f"{exchange.base}/ws-fapi/v1"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
            with suppress(ConnectionError, aiohttp.ClientError):
                for number in range(5000):
                    await ws.send_str(f'{{"id":{number},"method":"ping"}}')
            while (await ws.receive(timeout=20)).type is aiohttp.WSMsgType.TEXT:
                pass
            return ws.close_code

    assert asyncio.run(flood()) == 1008
    alive(ann)


def test_origins(exchange: Exchange) -> None:
    def asked(origin: str) -> tuple[int, str | None]:
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        status, _, found = exchange.call("OPTIONS", "/fapi/v1/order", None, headers)
        return status, found.get("access-control-allow-origin")

    assert asked("https://terminal.example") == (204, "https://terminal.example")
    assert asked("https://evil.example") == (404, None)
    got = exchange.call("GET", "/fapi/v1/time", None, {"Origin": "https://evil.example"})
    assert got[0] == 200 and "access-control-allow-origin" not in got[2]

    async def connect(origin: str) -> int:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.ws_connect(f"{exchange.base}/ws", origin=origin):
                    return 101
            except aiohttp.WSServerHandshakeError as error:
                return error.status

    assert asyncio.run(connect("https://terminal.example")) == 101
    assert asyncio.run(connect("https://evil.example")) == 403


# ---------------------------------------------------------------- limits


def test_cancels_work_while_orders_are_throttled(exchange: Exchange) -> None:
    eve = exchange.trader("eve")
    batch = quote("[" + ",".join(['{"symbol":"BTCUSDT"}'] * 5) + "]")
    placed = eve.order("BUY", "0.010", "50000", newClientOrderId="mine")
    answer: Any = {}
    for _ in range(100):  # a window may end in between
        for _ in range(20):  # of orders that never come to the engine's disk
            eve.call("POST", "/fapi/v1/batchOrders", batchOrders=batch)
        answer = eve.order("BUY", "0.010", "50000")
        if "code" in answer:
            break
    assert answer["code"] == -1015 and "300 orders per 10 SECOND" in answer["msg"]
    ended = eve.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=placed["orderId"])
    assert ended[0] == 200 and ended[1]["status"] == "CANCELED"
    assert eve.call("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")[0] == 200


# ---------------------------------------------------------------- overload


def test_an_engine_that_can_take_no_more_says_so_at_once(exchange: Exchange, bob: Trader) -> None:
    placed = bob.order("BUY", "0.010", "50000", newClientOrderId="kept")
    engine = exchange.venue.worker("engine")
    os.kill(engine, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(100) as pool:
            asked = [
                pool.submit(bob.order, "BUY", "0.010", "50000", newClientOrderId=f"o{k}")
                for k in range(100)
            ]
            begun = time.monotonic()
            codes = [f.result()["code"] for f in asked if f.done() or f.result()]
            assert time.monotonic() - begun < 30
            # A tenth of the ring takes only what lowers risk.
            cancel = pool.submit(
                bob.call, "DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=placed["orderId"]
            )
            time.sleep(0.3)
            os.kill(engine, signal.SIGCONT)
            assert cancel.result()[1]["status"] == "CANCELED"
    finally:
        os.kill(engine, signal.SIGCONT)
    assert set(codes) == {-1008, -1007}, codes
    assert codes.count(-1008) >= 100 - 64, "what the ring had no room for"
    # What was unknown is known now: taken, all of it.
    wait_until(lambda: len(open_names(bob)) == codes.count(-1007), 20, "orders are missing")
    assert bob.call("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")[0] == 200


# ---------------------------------------------------------------- several gateways, and death


def listens(exchange: Exchange, name: str) -> bool:
    found = psutil.Process(exchange.processes[name].pid).net_connections("tcp")
    return any(c.status == psutil.CONN_LISTEN for c in found)


def test_two_gateways_share_a_port_and_one_dies(
    exchange: Exchange, ann: Trader, bob: Trader
) -> None:
    exchange.spawn("http1", "gateway", "http", "--number=1", f"--set=http.port={exchange.port}")
    wait_until(lambda: listens(exchange, "http1"), 60, "the second doesn't serve")
    # The host spreads connections over both; whichever it is, it knows of all orders.
    names = sorted(f"n{k:02}" for k in range(24))
    for name in names:
        assert ann.order("BUY", "0.010", "50000", newClientOrderId=name)["status"] == "NEW"
    assert open_names(ann) == names == open_names(ann)
    for k, name in enumerate(names):
        terms = {"symbol": "BTCUSDT", "origClientOrderId": name}
        if k % 2:
            assert ann.call("DELETE", "/fapi/v1/order", **terms)[1]["status"] == "CANCELED"
        else:
            changed = ann.call(
                "PUT", "/fapi/v1/order", side="BUY", quantity="0.02", price="50000", **terms
            )[1]
            assert changed["origQty"] == "0.020", changed
    both = [exchange.processes[name] for name in ("http", "http1")]
    assert all(psutil.Process(p.pid).cpu_times().user > 0 for p in both)
    sent = raw_order(ann, "twice")
    first = ann.raw("POST", f"/fapi/v1/order?{sent}")
    assert first[1]["status"] == "NEW"
    both[0].kill()
    both[0].wait()

    def resent() -> bool:
        """The very bytes, to the one that is left; connections of the dead are refused or reset."""
        with suppress(OSError):
            answer = ann.raw("POST", f"/fapi/v1/order?{sent}")[1]
            assert answer["code"] == -1021, answer
            return True
        return False

    wait_until(resent, 20, "the other gateway doesn't answer")
    fresh = ann.raw("POST", f"/fapi/v1/order?{raw_order(ann, 'twice')}")[1]
    assert fresh["code"] == -4116, "the order lives: its name can't be given twice"
    assert open_names(ann).count("twice") == 1
    assert ann.call("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")[0] == 200
    exchange.spawn("http", "gateway", "http", f"--set=http.port={exchange.port}")
    wait_until(lambda: listens(exchange, "http"), 60, "not back")
    # The next test wants its number, on a port of its own.
    second = exchange.processes.pop("http1")
    second.terminate()
    assert second.wait(30) == 0


def test_a_replayed_request_does_nothing_after_a_restart_either(
    exchange: Exchange, bob: Trader
) -> None:
    port = free_port()
    second = ("http1", "gateway", "http", "--number=1", f"--set=http.port={port}")
    exchange.spawn(*second)
    wait_until(lambda: listens(exchange, "http1"), 60, "the second doesn't serve")
    sent = [raw_order(bob, "once"), raw_order(bob, "gone")]
    for one in sent:
        assert bob.raw("POST", f"/fapi/v1/order?{one}")[1]["status"] == "NEW"
    assert (
        bob.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId="gone")[0] == 200
    )
    epoch = exchange.admin("/health")["epoch"]
    os.kill(exchange.venue.worker("engine"), signal.SIGKILL)
    # What was told "not accepted" meanwhile stays so: a copy that comes later is none of the venue's.
    refused = []

    def told_no() -> bool:
        refused.append(raw_order(bob, f"late{len(refused)}"))
        return bool(bob.raw("POST", f"/fapi/v1/order?{refused[-1]}")[1].get("code") == -1001)

    wait_until(told_no, 60, "every order is taken")
    wait_until(lambda: exchange.admin("/health")["epoch"] > epoch, 120, "no new start")
    wait_until(lambda: bob.call("GET", "/fapi/v1/openOrders")[0] == 200, 60, "no view")
    late = f"/fapi/v1/order?{refused[-1]}"
    assert bob.raw("POST", late)[1]["code"] == -1021
    # Nor another gateway's, nor that of one that begins again after a death.
    wait_until(
        lambda: bob.raw("GET", f"/fapi/v3/balance?{bob.signed()}", port=port)[0] == 200,
        60,
        "no view",
    )
    assert bob.raw("POST", late, port=port)[1]["code"] == -1021
    for name in set(open_names(bob)) - {"once"}:  # those before it, taken by the dying engine
        assert name != f"late{len(refused) - 1}"
        answer = bob.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId=name)
        assert answer[0] == 200
    for name in ("http", "http1"):
        exchange.processes[name].kill()
        exchange.processes[name].wait()
    exchange.spawn("http", "gateway", "http", f"--set=http.port={exchange.port}")
    wait_until(lambda: listens(exchange, "http"), 60, "not back")
    wait_until(lambda: bob.call("GET", "/fapi/v1/openOrders")[0] == 200, 60, "no view")
    assert bob.raw("POST", late)[1]["code"] == -1021
    # What was taken the engine knows of, whatever gateways have forgotten.
    gateway = exchange.processes["http"]
    gateway.kill()
    gateway.wait()
    (exchange.venue.data / "gateways.once").unlink()
    del exchange.processes["http1"]
    exchange.spawn("http", "gateway", "http", f"--set=http.port={exchange.port}")
    wait_until(lambda: listens(exchange, "http"), 60, "not back")
    wait_until(lambda: bob.call("GET", "/fapi/v1/openOrders")[0] == 200, 60, "no view")
    codes = []
    for one in sent:
        codes.append(bob.raw("POST", f"/fapi/v1/order?{one}")[1]["code"])
        moved = one.partition("&signature")[0]  # in the body it is the same request
        body = f"{moved}&signature={bob.sign(moved)}".encode()
        codes.append(bob.raw("POST", "/fapi/v1/order", body)[1]["code"])
    assert codes == [-1021] * 4 and open_names(bob) == ["once"]
    assert bob.call("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")[0] == 200


def test_a_users_stream_goes_on_through_a_restart_without_a_gap(
    exchange: Exchange, ann: Trader, long_run: bool
) -> None:
    """Orders are placed all the time; what was acknowledged is told once, in order."""
    if not long_run:
        pytest.skip("a third restart: --long; test_http.py has one under a stream")
    key = ann.raw("POST", "/fapi/v1/listenKey")[1]["listenKey"]
    acknowledged: list[str] = []
    over = False

    def place() -> None:
        number = 0
        while not over:
            with suppress(OSError):
                answer = ann.order("BUY", "0.010", "50000", newClientOrderId=f"g{number}")
                if answer.get("status") == "NEW":
                    acknowledged.append(answer["clientOrderId"])
            number += 1
            time.sleep(0.05)

    async def listen() -> list[str]:
        nonlocal over
        heard: list[str] = []
        url = f"{exchange.base}/private/ws?listenKey={key}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
            work = asyncio.create_task(asyncio.to_thread(place))
            epoch = (await asyncio.to_thread(exchange.admin, "/health"))["epoch"]
            await asyncio.sleep(0.5)
            os.kill(exchange.venue.worker("engine"), signal.SIGKILL)
            before, until = len(acknowledged), time.monotonic() + 120

            async def recovered() -> bool:
                health = await asyncio.to_thread(exchange.admin, "/health")
                return health["epoch"] > epoch and len(acknowledged) > before + 5

            while not await recovered():
                assert time.monotonic() < until, acknowledged
                await asyncio.sleep(0.05)
            over = True
            await work
            while not heard or set(acknowledged) - set(heard):
                try:
                    message = await ws.receive(timeout=20)
                except TimeoutError:
                    pytest.fail(f"acknowledged {acknowledged}, heard {heard}")
                assert message.type is aiohttp.WSMsgType.TEXT, message
                event = json.loads(message.data)
                if event["e"] == "ORDER_TRADE_UPDATE" and event["o"]["x"] == "NEW":
                    heard.append(event["o"]["c"])
        return heard

    heard = asyncio.run(listen())
    assert len(heard) == len(set(heard)), "nothing is told twice"
    known = set(acknowledged)
    assert [name for name in heard if name in known] == acknowledged
    assert sorted(heard) == open_names(ann), "what was unknown was told truthfully, too"
    assert ann.call("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")[0] == 200
