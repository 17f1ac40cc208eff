"""What one HTTP gateway process sustains, beside a bare aiohttp echo in the same run.

    python -m bench.gateways_http [--smoke] [--json] [--out DIR] [--seconds S]

A whole exchange of processes: engine with its disk, account view, admin socket, one gateway. The
client is this process: raw sockets, and where answers are asked for as fast as they come its
requests are signed before the clock starts, so that it costs less than what it measures. Every
order is signed, answered after its sync, and its answer looked at. Latency is open loop, from when
the order was due. `cpu_us` is what the serving process spent on one (its own clock, whatever else
runs), and `on one core` what a core of its own would sustain.

Fan-out: this process publishes book tickers in the place of the market-data process, in batches as
that one sends them, and reads 100 WebSockets; all bytes are counted and the last message checked.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil
import uvloop
import zmq
from aiohttp import WSMsgType, web

from bench.gateways_http_load import CONNECTIONS, IN_FLIGHT, SOCKETS, Make, closed_loop, open_loop
from bench.harness import ROOT, Report, awake, die_with_parent, histogram_of, latency_row, parser
from gateways.http.frames import frame
from gateways.marketdata.client import END, HEAD
from shm.config import Config

NAME: Final = "gateways_http"
FANOUT_CLIENTS: Final = 100
WINDOW: Final = 2000  # messages published and not yet read by everybody
TRADERS: Final = 8
BATCH: Final = 5
SIGNED_PER_S: Final = 25_000  # orders, before a case begins; more as they are sent
UNLIMITED: Final = 1_000_000_000
START_S: Final = 240.0
SETTINGS: Final[dict[str, Any]] = {
    "wal.segment_bytes": 64 << 20,
    "limits.accounts": 2048,
    "limits.positions": 4096,
    "limits.orders": 1 << 19,
    "limits.clients": 1 << 19,
    "http.weight_per_minute": UNLIMITED,
    "http.orders_per_10s": UNLIMITED,
    "http.orders_per_minute": UNLIMITED,
    "http.requests_per_s": 1 << 20,
    "http.connections_per_address": 1024,
}
SYMBOL: Final = {
    "symbol": 0,
    "tick_lot_quanta": 100,
    "tick_quanta": 100_000,
    "asset": 0,
    "state": "TRADING",
    "name": "BTCUSDT",
    "qty_lots_min": 1,
    "qty_lots_max": 1_000_000,
    "price_ticks_min": 1,
    "price_ticks_max": 10_000_000,
    "notional_quanta_min": 5_000_000,
    "band_ppm": 500_000,
    "market_ppm": 50_000,
    "maker_fee_ppm": 200,
    "taker_fee_ppm": 500,
    "leverage_max": 100,
    "leverage_default": 20,
    "orders_max": 1 << 18,
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---------------------------------------------------------------- what is measured


class Serving:
    """A process that listens on a port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self, *command: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=die_with_parent,
            )

    def cpu_s(self) -> float:
        """CPU seconds its process has had."""
        assert self.process is not None
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def until_open(self) -> None:
        """Until somebody answers."""
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self.process is None or self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"nobody listens on port {self.port}: {self.said()}")

    def said(self) -> str:
        """The ends of the logs."""
        return "\n".join(f"{p.name}: {p.read_text()[-2000:]}" for p in self.folder.glob("*.log"))


class Echo(Serving):
    """Bare aiohttp: a JSON body in, the same out; a WebSocket that sends what it is told."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.process = self.spawn(
            "bench.gateways_http", f"--echo={self.port}", log=folder / "echo.log"
        )
        self.until_open()

    def end(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


class Exchange(Serving):
    """Everything that an order goes through, a process each."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.instance = f"bench-http-{os.getpid()}"
        self.data = folder / "data"
        self.others: list[subprocess.Popen[bytes]] = []
        self.start("up", "--no-clock")
        self.start("follow", "accounts")
        self.start("gateway", "admin")
        self.process = self.start("gateway", "http", f"--set=http.port={self.port}")
        self.others.remove(self.process)
        self.until_open()
        until = time.monotonic() + START_S
        while not self.healthy():
            if time.monotonic() > until:
                raise RuntimeError(f"the exchange doesn't start: {self.said()}")
            time.sleep(0.1)
        self.admin("/commands/asset", {"asset": 0, "scale": 6, "name": "USDT"})
        self.admin("/commands/symbol", SYMBOL)
        self.admin("/commands/mark", {"symbol": 0, "mark_ticks": 600_000})
        self.keys = [self.trader(f"trader{k}") for k in range(TRADERS)]
        while not all(self.answers(key) for key in self.keys):
            time.sleep(0.05)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        settings = (f"--set={name}={value}" for name, value in SETTINGS.items())
        made = self.spawn(
            *("tools.cli", *command, "--instance", self.instance, "--data", str(self.data)),
            *settings,
            log=self.folder / f"{'-'.join(command[:2])}.log",
        )
        self.others.append(made)
        return made

    def healthy(self) -> bool:
        with suppress(OSError, AssertionError, http.client.HTTPException):
            health = self.admin("/health")
            return bool(health["engine"] and health["epoch"])
        return False

    def admin(self, path: str, body: dict[str, Any] | None = None) -> Any:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(str(self.data / "admin.sock"))
        method = "GET" if body is None else "POST"
        connection.request(method, path, json.dumps(body) if body else None)
        response = connection.getresponse()
        found = json.loads(response.read())
        connection.close()
        assert response.status == 200, found
        return found

    def trader(self, name: str) -> Key:
        """A user with a thousand million and a key that may trade."""
        account = self.admin("/users", {"name": name, "password": f"{name} password"})["account"]
        money = {"asset": 0, "amount_quanta": 10**15, "client_id": name, "source": 1}
        self.admin("/commands/deposit", {"account": account, **money})
        made = self.admin("/keys", {"name": name, "scopes": "read,trade"})
        return Key(made["apiKey"], made["secret"])

    def answers(self, key: Key) -> bool:
        """Whether the gateway knows a key, and the view its account."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"X-MBX-APIKEY": key.text}
        connection.request("GET", f"/fapi/v3/balance?{key.signed('a=1')}", headers=headers)
        status = connection.getresponse().status
        connection.close()
        return status == 200

    def cancel_all(self) -> None:
        """No order is left open: the next case begins like the first."""
        for key in self.keys:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            query = key.signed("symbol=BTCUSDT")
            connection.request(
                "DELETE", f"/fapi/v1/allOpenOrders?{query}", headers={"X-MBX-APIKEY": key.text}
            )
            assert connection.getresponse().status == 200
            connection.close()

    def end(self) -> None:
        assert self.process is not None
        for process in (self.process, *reversed(self.others)):
            process.terminate()
        for process in (self.process, *self.others):
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Key:
    """What a client signs with."""

    def __init__(self, text: str, secret: str) -> None:
        self.text = text
        self.secret = secret.encode()

    def signed(self, params: str) -> str:
        text = f"{params}&recvWindow=60000&timestamp={time.time_ns() // 1_000_000}"
        return f"{text}&signature={hmac.digest(self.secret, text.encode(), hashlib.sha256).hex()}"


# ---------------------------------------------------------------- requests


def echo_request(_number: int) -> bytes:
    body = (
        b'{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","quantity":"0.001","price":"50000.0",'
        b'"timeInForce":"GTC","timestamp":1700000000000,"signature":"%064d"}' % 0
    )
    return (
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )


def order_terms(number: int) -> str:
    """Rests below the market, at one of a thousand prices."""
    return (
        "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.001"
        f"&price={50000 + number % 1000}&newClientOrderId=b{number}"
    )


def order_json(number: int) -> str:
    """The same as an element of a batch."""
    return (
        '{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","timeInForce":"GTC","quantity":"0.001",'
        f'"price":"{50000 + number % 1000}","newClientOrderId":"b{number}"}}'
    )


def post(path: str, key: Key, params: str) -> bytes:
    body = key.signed(params)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nX-MBX-APIKEY: {key.text}\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


def orders(keys: list[Key], numbers: Iterator[int]) -> Make:
    return lambda k: post("/fapi/v1/order", keys[k % len(keys)], order_terms(next(numbers)))


def batches(keys: list[Key], numbers: Iterator[int]) -> Make:
    def make(k: int) -> bytes:
        every = ",".join(order_json(next(numbers)) for _ in range(BATCH))
        return post("/fapi/v1/batchOrders", keys[k % len(keys)], f"batchOrders=[{every}]")

    return make


def api_order(keys: list[Key], numbers: Iterator[int]) -> Make:
    """order.place as a masked frame; the mask is zero, which is one like any other."""

    def make(k: int) -> bytes:
        number, key = next(numbers), keys[k % len(keys)]
        params = dict(pair.split("=") for pair in order_terms(number).split("&"))
        params |= {"apiKey": key.text, "timestamp": str(time.time_ns() // 1_000_000)}
        params["recvWindow"] = "60000"
        text = "&".join(f"{name}={value}" for name, value in sorted(params.items()))
        params["signature"] = hmac.digest(key.secret, text.encode(), hashlib.sha256).hex()
        request = {"id": number, "method": "order.place", "params": params}
        body = json.dumps(request, separators=(",", ":")).encode()
        return b"\x81\xfe" + len(body).to_bytes(2, "big") + bytes(4) + body

    return make


def run_orders(report: Report, echo: Echo, exchange: Exchange, seconds: float, rate: int) -> None:
    numbers = iter(range(1, UNLIMITED))
    keys = exchange.keys

    def row(case: str, of: Serving, make: Make, good: bytes, each: int = 1, **how: Any) -> None:
        before = of.cpu_s()
        ahead = int(seconds * SIGNED_PER_S / each)
        answers, took = uvloop.run(closed_loop(of.port, make, seconds, good, ahead, **how))
        cpu_us = (of.cpu_s() - before) / (answers * each) * 1e6
        report.table(
            "as fast as answers come",
            [
                {
                    "case": case,
                    "per_s": answers * each / took,
                    "cpu_us": cpu_us,
                    "on_one_core_per_s": 1e6 / cpu_us if cpu_us else 0.0,
                    "count": answers * each,
                }
            ],
        )
        if of is exchange:
            exchange.cancel_all()

    def latency(case: str, of: Serving, make: Make, good: bytes) -> None:
        found, count = open_loop(of.port, make, rate, seconds, good)
        cells = histogram_of(found[count // 10 :])
        report.table(f"open loop, {rate} a second", [latency_row(case, cells)])
        report.latency(case, cells)
        if of is exchange:
            exchange.cancel_all()

    latency("aiohttp echo", echo, echo_request, b"BTCUSDT")
    latency("order, after its sync", exchange, orders(keys, numbers), b'"orderId"')
    with awake() as polls:
        if polls:
            case = "order, after its sync, idle cores poll"
            latency(case, exchange, orders(keys, numbers), b'"orderId"')
    row("aiohttp echo", echo, echo_request, b"BTCUSDT")
    row("orders, HTTP", exchange, orders(keys, numbers), b'"orderId"')
    row(f"orders, HTTP, {BATCH} a batch", exchange, batches(keys, numbers), b'"orderId"', BATCH)
    api = api_order(keys, numbers)
    row("orders, WebSocket API", exchange, api, b'"status":200', sockets=True)


# ---------------------------------------------------------------- fan-out


def ticker(number: int) -> bytes:
    """A book ticker, of the same length every time."""
    return (
        b'{"e":"bookTicker","u":%010d,"E":1767225600000,"T":1767225600000,"s":"BTCUSDT",'
        b'"b":"59990.0","B":"5.000","a":"60010.0","A":"5.000"}' % number
    )


def reader(port: int, path: str) -> socket.socket:
    """A WebSocket that is read as bytes."""
    made = socket.create_connection(("127.0.0.1", port))
    made.sendall(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += made.recv(1)
    assert head.startswith(b"HTTP/1.1 101"), head
    made.setblocking(False)
    return made


def fan_out(
    readers: list[socket.socket], publish: Callable[[int, int], None], count: int, batch: int
) -> float:
    """Publish `count` messages, at most WINDOW ahead of the slowest reader; the seconds it took."""
    size = len(frame(ticker(0)))
    heard = dict.fromkeys(readers, 0)
    tails = dict.fromkeys(readers, b"")
    selector = selectors.DefaultSelector()
    for one in readers:
        selector.register(one, selectors.EVENT_READ, one)
    sent = slowest = 0
    begun = time.monotonic()
    while slowest < count * size:
        while sent < count and sent - slowest // size < WINDOW:
            publish(sent, batch)
            sent += batch
        for key, _ in selector.select(1.0):
            one = key.data
            data = one.recv(1 << 18)
            heard[one] += len(data)
            tails[one] = data[-size:] if len(data) >= size else (tails[one] + data)[-size:]
        slowest = min(heard.values())
        if time.monotonic() - begun > START_S:
            raise RuntimeError("messages are missing")
    took = time.monotonic() - begun
    assert all(tail == frame(ticker(count - 1)) for tail in tails.values()), "other bytes came"
    return took


def run_fan_out(report: Report, echo: Echo, exchange: Exchange, count: int) -> None:
    config = Config(data_dir=str(exchange.data))
    context = zmq.Context()
    out = context.socket(zmq.PUB)
    out.setsockopt(zmq.SNDHWM, 0)
    out.bind(config.marketdata_endpoint)
    stream = "btcusdt@bookTicker"
    told = 0

    def publish(first: int, batch: int) -> None:
        nonlocal told
        head = HEAD.pack(told + 1, 0, 0)
        payloads = [ticker(first + k) for k in range(batch)]
        out.send_multipart([stream.encode() + END, head, *payloads])
        told += batch

    def row(case: str, of: Serving, go: Callable[[], float]) -> None:
        before = of.cpu_s()
        took = go()
        cpu_us = (of.cpu_s() - before) / (count * FANOUT_CLIENTS) * 1e6
        report.table(
            f"fan-out to {FANOUT_CLIENTS} WebSockets",
            [
                {
                    "case": case,
                    "messages_per_s": count * FANOUT_CLIENTS / took,
                    "cpu_us": cpu_us,
                    "on_one_core_per_s": 1e6 / cpu_us if cpu_us else 0.0,
                    "count": count * FANOUT_CLIENTS,
                }
            ],
        )

    asker = socket.create_connection(("127.0.0.1", echo.port))
    readers = [reader(echo.port, "/fan") for _ in range(FANOUT_CLIENTS)]

    asker.sendall(b"GET /feed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    size = len(ticker(0))

    def feed(first: int, batch: int) -> None:
        body = b"".join(ticker(first + k) for k in range(batch))
        asker.sendall(b"%x\r\n%s\r\n" % (batch * size, body))

    row("aiohttp send_str, one message a write", echo, lambda: fan_out(readers, feed, count, 1))
    for one in (*readers, asker):
        one.close()
    readers = [reader(exchange.port, f"/ws/{stream}") for _ in range(FANOUT_CLIENTS)]
    time.sleep(0.5)  # subscriptions travel
    for batch in (1, 10):
        case = f"gateway, {batch} a batch"
        row(case, exchange, lambda batch=batch: fan_out(readers, publish, count, batch))  # type: ignore[misc]
    for one in readers:
        one.close()
    context.destroy(linger=0)


# ---------------------------------------------------------------- bare aiohttp


async def serve_echo(port: int) -> None:
    listeners: set[web.WebSocketResponse] = set()

    async def echo(request: web.Request) -> web.Response:
        return web.json_response(await request.json())

    async def fan(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        listeners.add(ws)
        async for message in ws:
            if message.type is not WSMsgType.TEXT:
                break
        listeners.discard(ws)
        return ws

    async def feed(request: web.Request) -> web.Response:
        size, rest = len(ticker(0)), b""
        async for chunk, _ in request.content.iter_chunks():
            rest += chunk
            while len(rest) >= size:
                text, rest = rest[:size].decode(), rest[size:]
                for ws in listeners:
                    await ws.send_str(text)
        return web.Response()

    app = web.Application(client_max_size=1 << 40)
    app.router.add_post("/echo", echo)
    app.router.add_get("/fan", fan)
    app.router.add_get("/feed", feed)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


def main() -> None:
    made = parser(NAME, __doc__)
    made.add_argument("--seconds", type=float, default=10.0, help="of each case")
    made.add_argument("--echo", type=int, help="serve a bare echo on this port; for itself")
    chosen = made.parse_args()
    if chosen.echo:
        uvloop.run(serve_echo(chosen.echo))
        return
    seconds = 0.5 if chosen.smoke else chosen.seconds
    report = Report(NAME, chosen)
    with tempfile.TemporaryDirectory(prefix="perpcore-bench-") as folder:
        echo = Echo(Path(folder))
        exchange = Exchange(Path(folder))
        try:
            run_orders(report, echo, exchange, seconds, 50 if chosen.smoke else 500)
            run_fan_out(report, echo, exchange, 500 if chosen.smoke else 20_000)
        finally:
            exchange.end()
            echo.end()
    report.note(
        f"{CONNECTIONS} connections; WebSocket API: {SOCKETS} with {IN_FLIGHT} requests on their "
        f"way each; {TRADERS} accounts. Limits set for the run: order counts and weight unlimited, "
        f"requests of one WebSocket unlimited, {SYMBOL['orders_max']} orders an account. "
        "Requests signed before the clock starts, but where latency is measured."
    )
    report.finish()


if __name__ == "__main__":
    main()
