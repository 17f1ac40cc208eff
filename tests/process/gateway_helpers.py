"""A venue with its account view, admin socket and one HTTP gateway, each a process of its own."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from shm.segment import remove_segments
from tests.process.helpers import ROOT, SMALL, Venue, die_with_pytest, wait_until

SETTINGS = {**SMALL, "limits.accounts": 2048}
SYMBOL = {
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
    "orders_max": 200,
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Exchange:
    """Everything a client needs."""

    def __init__(self, folder: Path, instance: str, settings: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.settings = {**SETTINGS, **(settings or {})}
        self.venue = Venue(folder, instance, settings=self.settings)
        self.instance = instance
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *followers: str) -> None:
        """The engine, the view and whatever other followers are named, admin, and gateway 0."""
        self.venue.start()
        self.venue.until_running()
        for name in ("accounts", *followers):
            self.spawn(name, "follow", name)
        self.spawn("admin", "gateway", "admin")
        self.spawn("http", "gateway", "http", f"--set=http.port={self.port}")
        self.until_serving()

    def spawn(self, name: str, *command: str) -> None:
        options = (
            *("--instance", self.instance, "--data", str(self.venue.data)),
            *(f"--set={key}={value}" for key, value in self.settings.items()),
        )
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "tools.cli", *command, *options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_pytest,
            )

    def until_serving(self) -> None:
        """Until the gateway answers and the admin socket takes connections."""

        def up() -> bool:
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name}: {self.log(name)}"
            with suppress(OSError):
                return self.call("GET", "/fapi/v1/ping")[0] == 200 and self.admin_listens()
            return False

        wait_until(up, 120, "the gateway doesn't serve")

    @property
    def admin_socket(self) -> Path:
        return self.venue.data / "admin.sock"

    def admin_listens(self) -> bool:
        """Whether the admin socket takes connections; its file is there a moment before."""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(self.admin_socket))
            return True
        return False

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-4000:]

    def end(self) -> None:
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.venue.end()
        remove_segments(self.instance, dead_only=False)  # it was killed: nobody else does

    # ------------------------------------------------------------ administration

    def admin(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """POST to the admin socket; GET without a body."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(str(self.admin_socket))
        connection.request(
            "GET" if body is None else "POST", path, json.dumps(body) if body else None
        )
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        assert response.status == 200, answer
        return answer

    def declare(self) -> None:
        """USDT, BTCUSDT at 60,000."""
        wait_until(lambda: self.admin("/health")["engine"], 30, "admin hears no engine")
        wait_until(lambda: self.admin("/health")["epoch"], 30, "admin hears no reports")
        self.admin("/commands/asset", {"asset": 0, "scale": 6, "name": "USDT"})
        self.admin("/commands/symbol", SYMBOL)
        self.admin("/commands/mark", {"symbol": 0, "mark_ticks": 600_000})

    def trader(self, name: str, scopes: str = "read,trade") -> Trader:
        """A user with an account, a million and a key."""
        user = self.admin("/users", {"name": name, "password": f"{name}-password"})
        account = user["account"]
        self.admin(
            "/commands/deposit",
            {
                "account": account,
                "asset": 0,
                "amount_quanta": 10**12,
                "client_id": f"first-{account}",
                "source": 1,
            },
        )
        key = self.admin("/keys", {"name": name, "scopes": scopes})
        trader = Trader(self, account, key["apiKey"], key["secret"])
        wait_until(
            lambda: trader.call("GET", "/fapi/v3/balance")[0] == 200, 60, "the view isn't there"
        )
        return trader

    # ------------------------------------------------------------ plain HTTP

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        port: int = 0,
    ) -> tuple[int, Any, dict[str, str]]:
        """(status, JSON, headers). port: of a gateway that has its own."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            text = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, json.loads(text) if text else None, found
        finally:
            connection.close()


class Trader:
    """A key, and calls signed with it."""

    def __init__(self, exchange: Exchange, account: int, key: str, secret: str) -> None:
        self.exchange = exchange
        self.account = account
        self.key = key
        self.secret = secret

    def sign(self, text: str | bytes) -> str:
        raw = text.encode() if isinstance(text, str) else text
        return hmac.new(self.secret.encode(), raw, hashlib.sha256).hexdigest()

    def signed(self, **params: Any) -> str:
        pairs = [f"{name}={value}" for name, value in params.items()]
        pairs.append(f"timestamp={time.time_ns() // 1_000_000}")
        text = "&".join(pairs)
        return f"{text}&signature={self.sign(text)}"

    def call(self, method: str, path: str, **params: Any) -> tuple[int, Any]:
        """A signed call, parameters in the query."""
        status, found, _ = self.raw(method, f"{path}?{self.signed(**params)}")
        return status, found

    def raw(
        self, method: str, path: str, body: bytes | None = None, port: int = 0
    ) -> tuple[int, Any, dict[str, str]]:
        return self.exchange.call(method, path, body, {"X-MBX-APIKEY": self.key}, port)

    def order(self, side: str, quantity: str, price: str | None = None, **more: Any) -> Any:
        """A LIMIT order, or MARKET without a price; the reply, or {code, msg}."""
        sent: dict[str, Any] = {"symbol": "BTCUSDT", "side": side, "quantity": quantity}
        if price is None:
            sent["type"] = "MARKET"
        else:
            sent |= {"type": "LIMIT", "price": price, "timeInForce": "GTC"}
        sent |= {"newOrderRespType": "RESULT", **more}
        return self.call("POST", "/fapi/v1/order", **sent)[1]
