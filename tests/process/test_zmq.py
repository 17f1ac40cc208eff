"""The native gateway with its client, beside an engine with demo traffic."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from gateways.client.client import Client, ClientError
from gateways.http.main import open_store
from gateways.users.store import Scope
from gateways.zmq.main import curve_key
from gateways.zmq.protocol import Order
from shm.codes import Kind, Reason, ReportKind, Side, Status, Tif
from shm.config import Config, load
from shm.kinds import command
from shm.records import COMMAND
from shm.units import SYSTEM_ACCOUNTS
from tests.process.conftest import Venues
from tests.process.helpers import Venue, die_with_pytest, wait_until

ROOT = Path(__file__).parent.parent.parent
ANN, BOB = SYSTEM_ACCOUNTS, SYSTEM_ACCOUNTS + 1  # two of the demo's accounts


class Setting:
    """An engine, a gateway process, and two clients' keys."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.config: Config = load(
            None, {"instance": venue.instance, "data_dir": str(venue.data), "zmq.heartbeat_ms": 300}
        )
        self.keys: dict[int, tuple[str, str]] = {}
        self.store, _, _ = open_store(self.config)
        user = self.store.add_user("ann", "no password")
        for account in (ANN, BOB):
            self.store.add_account(account, user)
            self.add_key(account, Scope.READ | Scope.TRADE)
        self.server_key = curve_key(self.config)[0].decode()
        self.gateway: subprocess.Popen[bytes] | None = None

    def add_key(self, account: int, scopes: Scope) -> tuple[str, str]:
        public, secret = (key.decode() for key in zmq.curve_keypair())
        self.store.add_key(public, b"", user_id=1, account=account, scopes=scopes, kind="curve")
        self.keys[account] = (public, secret)
        return public, secret

    def start(self) -> None:
        settings = ("--set", "zmq.heartbeat_ms=300")
        self.gateway = subprocess.Popen(
            [sys.executable, "-m", "tools.cli", "gateway", "zmq", "--instance", self.venue.instance,
             "--data", str(self.venue.data), *settings],
            cwd=ROOT, preexec_fn=die_with_pytest,
        )  # fmt: skip

    def kill(self) -> None:
        assert self.gateway is not None
        self.gateway.kill()
        self.gateway.wait()

    def client(self, account: int, **options: Any) -> Client:
        return Client(self.config.zmq_endpoints[0], self.server_key, *self.keys[account], **options)

    def connected(self, account: int, **options: Any) -> Client:
        client = self.client(account, **options)
        client.connect(60.0)
        return client

    def close(self) -> None:
        if self.gateway is not None and self.gateway.poll() is None:
            self.gateway.terminate()
            assert self.gateway.wait(20) == 0
        self.store.close()


@pytest.fixture
def setting(venues: Venues) -> Iterator[Setting]:
    venue = venues("--demo-rate", "200", "--topology", "fused")
    venue.start()
    venue.until_running()
    made = Setting(venue)
    made.start()
    yield made
    made.close()
    assert venue.stop() == 0


def until(client: Client, wanted: Any, seconds: float = 30.0) -> dict[str, Any]:
    """The first report that `wanted` likes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for report in client.reports(0.2):
            if wanted(report):
                return report
    raise AssertionError("no such report came")


def bid(name: str = "", price: int = 1, **more: Any) -> Order:
    return Order("place", symbol=0, side=int(Side.BUY), price_ticks=price, qty_lots=1,
                 client_id=name, **more)  # fmt: skip


@pytest.mark.parametrize("records", [True, False], ids=["records", "msgpack"])
def test_an_order_and_what_becomes_of_it(setting: Setting, records: bool) -> None:
    with setting.connected(ANN, records=records) as client:
        taken = client.send([bid("a-1"), Order("nonsense"), bid("a-1")])
        assert taken.count == 2 and taken.refused == [(1, "MALFORMED")]
        answer = until(client, lambda r: r.get("request") == taken.first_request)
        assert answer["kind"] == ReportKind.ORDER and answer["account"] == ANN
        again = until(client, lambda r: r.get("request") == taken.first_request + 1)
        assert again["status"] == Status.REJECTED
        if answer["status"] == Status.NEW:
            assert again["reason"] == Reason.DUPLICATE_CLIENT_ID
            ended = client.send([Order("cancel", symbol=0, client_id="a-1")])
            gone = until(client, lambda r: r.get("request") == ended.first_request)
            assert gone["status"] == Status.CANCELED and gone["order_id"] == answer["order_id"]


def test_raw_records_are_for_ones_own_account_and_kinds(setting: Setting) -> None:
    with setting.connected(ANN) as client:
        row = command(Kind.CANCEL_ALL, account=BOB).view(COMMAND.dtype)
        alien = command(Kind.VENUE_STATE, state=2).view(COMMAND.dtype)
        client.send_records(np.concatenate([row, alien]))
        taken = client.taken()
        assert taken.count == 1 and taken.refused == [(1, "FORBIDDEN")]
        answer = until(client, lambda r: r.get("request") == taken.first_request)
        assert answer["account"] == ANN
        client._say(b"R", b"x" * 255)
        with pytest.raises(ClientError, match="malformed"):
            client.taken()


def test_nobody_without_a_key_and_nothing_of_others(setting: Setting) -> None:
    public, secret = (key.decode() for key in zmq.curve_keypair())
    with setting.connected(BOB) as other:
        stranger = Client(setting.config.zmq_endpoints[0], setting.server_key, public, secret)
        with pytest.raises(ClientError, match="no answer"):
            stranger.connect(1.0)
        stranger.close()
        with setting.connected(ANN) as client:
            taken = client.send([bid()])
            until(client, lambda r: r.get("request") == taken.first_request)
        assert all(r["account"] == BOB for r in other.reports(0.3))
        # A key that may only read listens, and hands nothing over.
        setting.add_key(BOB, Scope.READ)
        with setting.connected(BOB) as reader:
            assert reader.send([bid()]).refused == [(0, "FORBIDDEN")]


def test_a_revoked_key_ends_its_session(setting: Setting) -> None:
    with setting.connected(ANN) as client:
        setting.store.revoke_key(setting.keys[ANN][0])
        with pytest.raises(ClientError, match="revoked"):
            until(client, lambda r: False, 10.0)


def test_the_gateway_is_killed_and_nothing_is_missed(setting: Setting) -> None:
    with setting.connected(ANN) as client:
        seen = [r["index"] for r in client.reports(1.0)]
        for round_ in range(3):
            client.send_later([bid(f"k{round_}")])
            setting.kill()
            setting.start()
            client.connect(60.0)
            until(client, lambda r: r["index"] > client.last_index - 1 or True)
        client.send([bid("last")])
        found = until(client, lambda r: r["kind"] == ReportKind.CLIENT_ID)
        assert found is not None
        # An independent reading of everything from the beginning agrees.
        with setting.client(ANN) as fresh:
            fresh.connect(60.0, after=0)
            whole = [r["index"] for r in fresh.reports(1.0)]
        assert whole == sorted(set(whole))
        assert set(seen) <= set(whole)


def test_the_engine_starts_again_under_a_client(setting: Setting) -> None:
    with setting.connected(ANN) as client:
        epoch = client.epoch
        assert setting.venue.stop() == 0
        refused = client.send([bid()])
        assert refused.refused == [(0, "NOT_RUNNING")]
        setting.venue.start()
        setting.venue.until_running()
        wait_until(lambda: client.poll(0.05) or client.epoch > epoch, 60, "no new epoch was heard")
        wait_until(lambda: client.send([bid()]).count == 1, 30, "the door didn't open again")
        assert client.epoch > epoch and client.epoch_index > 0


def test_silence_cancels_what_is_open(setting: Setting) -> None:
    with setting.connected(BOB) as watcher:
        quiet = setting.connected(BOB, cancel_on_disconnect=True)
        taken = quiet.send([bid("quiet", tif=int(Tif.GTC))])
        answer = until(quiet, lambda r: r.get("request") == taken.first_request)
        if answer["status"] == Status.NEW:
            # It says nothing more; three heartbeats later its order is gone.
            ended = until(
                watcher,
                lambda r: (
                    r["kind"] == ReportKind.ORDER
                    and r["order_id"] == answer["order_id"]
                    and r["status"] == Status.CANCELED
                ),
            )
            assert ended["reason"] == Reason.CANCEL_ALL
        quiet.close()
