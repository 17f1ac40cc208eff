"""Followers as processes: killed under load they come to the same state, and cost the engine nothing."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from gateways import checkpoint
from gateways.accounts import layout
from gateways.accounts.client import AccountView, ViewError
from gateways.accounts.layout import sizes_of, view_parts
from gateways.accounts.main import ViewState
from gateways.history.queries import History
from gateways.history.writer import Writer, connect
from gateways.marketdata.client import MarketData
from gateways.marketdata.main import LAYOUT
from gateways.marketdata.market import Hub, Markets
from shm.config import Config, load
from shm.cursors import JOURNALED
from shm.files import read_manifest
from shm.reportlog import ReportLogReader
from tests.model.depth_client import DepthClient
from tests.process.helpers import ROOT, SMALL, Venue, die_with_pytest, wait_until

NAMES = ("accounts", "marketdata", "history")


class Followed:
    """A venue with its followers, each a process that may be killed and started again."""

    def __init__(self, folder: Path, instance: str, *arguments: str) -> None:
        self.venue = Venue(folder, instance, *arguments)
        overrides = {"instance": instance, "data_dir": str(self.venue.data), **SMALL}
        overrides["marketdata.checkpoint_seconds"] = overrides["view.checkpoint_seconds"] = 1
        self.settings = overrides
        self.config: Config = load(None, overrides)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.log = folder / "followers.log"

    def start(self, name: str) -> None:
        arguments = [f"--set={k}={v}" for k, v in self.settings.items() if "." in k]
        arguments += ["--instance", self.venue.instance, "--data", str(self.venue.data)]
        with self.log.open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "tools.cli", "follow", name, *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_pytest,
            )

    def kill(self, name: str) -> None:
        process = self.processes[name]
        assert process.poll() is None, self.log.read_text()[-3000:]
        process.kill()
        process.wait()

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        assert process.poll() is None, self.log.read_text()[-3000:]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, self.log.read_text()[-3000:]

    def end(self) -> None:
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
        self.venue.end()

    def reports(self) -> Any:
        """Everything that is in the report log."""
        reader = ReportLogReader(self.venue.data, read_manifest(self.venue.data))
        end = reader.find_end()
        rows = list(reader.batches(0, end))
        reader.close()
        return np.concatenate(rows)

    def view(self) -> AccountView | None:
        with suppress(ViewError):
            view = AccountView(self.config)
            if view.ready:
                return view
            view.close()
        return None


@pytest.fixture
def followed(tmp_path: Path, instance: str) -> Iterator[Followed]:
    made = Followed(tmp_path, instance, "--demo-rate", "2000")
    yield made
    made.end()


def history_rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    db = connect(path)
    names = [r[0] for r in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    rows = {
        name: sorted(db.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in names
    }
    db.close()
    return rows


def test_killed_followers_come_to_the_same_state(followed: Followed, tmp_path: Path) -> None:
    dice = random.Random(7)
    followed.venue.start()
    view = followed.venue.until_running()
    for name in NAMES:
        followed.start(name)
    wait_until(followed.view, 120, "no account view")
    for _ in range(3):
        for name in dice.sample(NAMES, 3):
            time.sleep(dice.uniform(0.2, 0.9))
            followed.kill(name)
            followed.start(name)
    client = wait_until(followed.view, 120, "no account view after kills")
    wait_until(lambda: client.seq > view.cursor(JOURNALED) - 2000, 60, "the view lags")
    history = wait_until(lambda: _history(followed.config), 60, "no history")
    wait_until(lambda: history.seq() > client.seq, 60, "history lags")
    time.sleep(0.5)
    # The engine is killed too, and comes back: followers go on with its next start.
    os.kill(followed.venue.worker("engine"), signal.SIGKILL)
    again = followed.venue.until_running(epoch=2)
    wait_until(lambda: client.seq > int(again.engine["recovered_seq"]) + 500, 60, "no second start")
    wait_until(lambda: history.seq() > int(again.engine["recovered_seq"]) + 500, 60, "history")
    assert followed.venue.stop() == 0
    for name in NAMES:
        followed.stop(name)
    rows = followed.reports()
    data = followed.venue.data

    kept = checkpoint.load(data, "view", _view_layout(followed.config))
    assert kept is not None and kept.at > 5000
    state = ViewState(_arrays(followed.config), sizes_of(followed.config))
    state.apply(rows[: kept.at])
    wanted = state.dump()
    assert {k: v for k, v in kept.blobs.items() if k != "head"} == {
        k: v for k, v in wanted.items() if k != "head"
    }
    head = np.frombuffer(kept.blobs["head"].ljust(8 * layout.HEAD_CELLS, b"\0"), np.int64).copy()
    head[layout.READY] = 0
    assert (head == state.arrays["head"]).all()
    assert head[layout.DROPPED] == 0

    market = checkpoint.load(data, "marketdata", LAYOUT)
    assert market is not None and market.at > 5000
    markets = Markets(Hub())
    markets.apply(rows[: market.at])
    assert msgpack.unpackb(market.blobs["state"]) == msgpack.unpackb(msgpack.packb(markets.dump()))

    found = history_rows(followed.config.history_path)
    index = dict(found["meta"])["index"]
    assert index > 5000
    writer = Writer(connect(tmp_path / "other.db"), followed.config.history)
    writer.apply(rows[:index])
    writer.commit()
    writer.db.close()
    assert found == history_rows(tmp_path / "other.db")


def _history(config: Config) -> History | None:
    return History(config) if config.history_path.exists() else None


def _view_layout(config: Config) -> str:
    from shm.segment import parts_digest

    return parts_digest(view_parts(sizes_of(config)))


def _arrays(config: Config) -> dict[str, Any]:
    return {p.name: np.zeros(p.rows, p.dtype) for p in view_parts(sizes_of(config))}


def test_depth_streams_of_a_live_venue(followed: Followed) -> None:
    """A client of the dialect's rules keeps its book over a kill of the market-data process."""
    followed.venue.start()
    followed.venue.until_running()
    followed.start("marketdata")

    async def listen() -> None:
        market = MarketData(followed.config)
        market.subscribe("btcusdt@depth@100ms")
        events: list[dict[str, Any]] = []

        async def hear(until: int) -> None:
            async for _, payloads in market.messages():
                events.extend(json.loads(p) for p in payloads)
                if len(events) >= until:
                    return

        await asyncio.wait_for(hear(5), 60)
        snapshot = json.loads(await market.ask("depth", symbol="BTCUSDT", limit=1000))
        client = DepthClient(snapshot)
        await asyncio.wait_for(hear(15), 60)
        followed.kill("marketdata")
        await asyncio.sleep(0.3)
        followed.start("marketdata")
        await asyncio.wait_for(hear(40), 120)
        for event in events:
            client.hear(event)
        assert client.synced and client.last == events[-1]["u"]
        kline = json.loads(await market.ask("klines", symbol="BTCUSDT", interval="1m"))
        assert kline and len(kline[0]) == 12
        assert json.loads(await market.ask("ticker", symbol="BTCUSDT"))["symbol"] == "BTCUSDT"
        market.close()

    asyncio.run(listen())
    assert followed.venue.stop() == 0
