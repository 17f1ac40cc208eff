"""An exchange with a native gateway, for the tests of orders and of market data."""

from __future__ import annotations

import os
import signal
from typing import Any

import zmq

from gateways.client.client import Client
from gateways.client.market import Market
from shm.config import Config, load
from tests.process.gateway_helpers import SYMBOL, Exchange
from tests.process.helpers import free_port, wait_until

MONEY = 10**12


class Doors(Exchange):
    """An engine, the operators' socket and a native gateway."""

    def open(self) -> None:
        ports = free_port(), free_port()
        self.settings |= {
            "heartbeat_timeout_ms": 60_000,  # a test stops the sequencer for a while
            "rings.ingress": 4096,
            "zmq.heartbeat_ms": 700,
            "zmq.tcp": f"127.0.0.1:{ports[0]}",
            "zmq.market_tcp": f"127.0.0.1:{ports[1]}",
        }
        self.venue.start()
        self.venue.until_running()
        self.spawn("admin", "gateway", "admin")
        wait_until(self.admin_listens, 120, "no operators' socket")
        self.declare()
        given = {"instance": self.instance, "data_dir": str(self.venue.data), **self.settings}
        self.config: Config = load(None, given)
        self.open_gateway()

    def open_gateway(self) -> None:
        self.spawn("zmq", "gateway", "zmq")
        wait_until(lambda: '"serving"' in self.log("zmq"), 120, "no gateway")
        self.server_key = self.config.curve_key_path.read_bytes().split()[0].decode()

    def kill_gateway(self) -> None:
        os.kill(self.processes["zmq"].pid, signal.SIGKILL)
        self.processes["zmq"].wait()

    def user(self, name: str) -> int:
        """A user with a million; returns the account."""
        account = int(
            self.admin("/users", {"name": name, "password": f"{name}-password"})["account"]
        )
        self.deposit(account)
        return account

    def deposit(self, account: int) -> None:
        self.admin(
            "/commands/deposit",
            {"account": account, "asset": 0, "amount_quanta": MONEY, "client_id": f"d{account}",
             "source": 1},
        )  # fmt: skip

    def key(self, name: str, scopes: str = "read,trade", **more: Any) -> tuple[str, str]:
        public, secret = (key.decode() for key in zmq.curve_keypair())
        self.admin("/keys", {"name": name, "scopes": scopes, "curve": public, **more})
        return public, secret

    def client(self, key: tuple[str, str], *, tcp: bool = False, **options: Any) -> Client:
        endpoint = self.config.zmq_endpoints[1 if tcp else 0]
        return Client(endpoint, self.server_key, *key, **options)

    def connected(self, key: tuple[str, str], **options: Any) -> Client:
        client = self.client(key, **options)
        client.connect(30.0)
        return client

    # ------------------------------------------------------------ market data

    def open_market(self) -> None:
        """The market-data follower, its native gateway, and a symbol that nobody trades yet."""
        self.admin("/commands/symbol", {**SYMBOL, "symbol": 1, "name": "ETHUSDT"})
        self.admin("/commands/mark", {"symbol": 1, "mark_ticks": 600_000})
        self.spawn("marketdata", "follow", "marketdata")
        self.spawn("market", "gateway", "market")
        wait_until(lambda: '"serving"' in self.log("market"), 60, "no market data")

    def market(self, **options: Any) -> Market:
        ends = self.config.market_endpoints[1], self.config.market_ask_endpoints[1]
        return Market(*ends, **options)

    def respawn(self, name: str, *command: str) -> None:
        os.kill(self.processes[name].pid, signal.SIGKILL)
        self.processes[name].wait()
        self.spawn(name, *command)
