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

from engine.reportlog import GROUP, ReportLog
from engine.wal import create_wal
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
from shm.reportlog import ReportLogReader, follower_positions
from shm.segment import parts_digest
from tests.model.depth_client import DepthClient
from tests.model.random_flow import Flow, open_venue
from tests.process.helpers import ROOT, SMALL, Venue, die_with_pytest, wait_until
from tests.venue import Venue as InProcess

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
    made = Followed(tmp_path, instance, "--traffic", "2000")
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


def check_states(followed: Followed, other: Path) -> int:
    """What each follower kept is what its code makes of the log's reports in one go; how many."""
    rows = followed.reports()
    data = followed.venue.data
    kept = checkpoint.load(data, "view", _view_layout(followed.config))
    assert kept is not None
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
    assert market is not None
    markets = Markets(Hub())
    markets.apply(rows[: market.at])
    wanted = msgpack.unpackb(msgpack.packb(markets.dump()), strict_map_key=False)
    assert msgpack.unpackb(market.blobs["state"], strict_map_key=False) == wanted

    found = history_rows(followed.config.history_path)
    index = dict(found["meta"])["index"]
    writer = Writer(connect(other), followed.config.history)
    writer.apply(rows[:index])
    writer.commit()
    writer.db.close()
    assert found == history_rows(other)
    return min(kept.at, market.at, index)


def test_killed_followers_come_to_the_same_state(followed: Followed, tmp_path: Path) -> None:
    """The log grows while they are killed again and again, without any engine."""
    dice = random.Random(7)
    v = open_venue(InProcess(seed=3))
    for kind, fields in Flow(3).commands(v, 600):
        v.send(kind, **fields)
        v.work()
    rows = v.all_reports()
    data = followed.venue.data
    log = ReportLog(data, create_wal(data, 1 << 16), 0, GROUP)
    parts = np.array_split(rows, 4)
    for part in parts:
        for name in NAMES:
            followed.start(name)
        at = 0
        while at < len(part):
            stop = min(len(part), at + dice.randint(1, 60))
            log.append(part[at:stop])
            at = stop
            time.sleep(0.01)
        positions = follower_positions(data)
        wait_until(lambda p=positions: _moved(data, p), 120, "a follower doesn't get on")
        time.sleep(dice.uniform(0, 0.3))
        for name in NAMES if part is not parts[-1] else ():
            followed.kill(name)
    log.close()

    def caught_up() -> bool:
        positions = follower_positions(data)
        return len(positions) == 3 and min(positions.values()) > len(rows) - 50

    wait_until(caught_up, 120, "followers have not read it all")
    for name in NAMES:
        followed.stop(name)
    assert check_states(followed, tmp_path / "other.db") > len(rows) - 50


def test_followers_outlive_their_engine(followed: Followed, tmp_path: Path) -> None:
    """A live venue: its followers are killed, then its engine; all go on."""
    dice = random.Random(11)
    followed.venue.start()
    view = followed.venue.until_running()
    for name in NAMES:
        followed.start(name)
    wait_until(followed.view, 120, "no account view")
    for name in dice.sample(NAMES, 3):
        time.sleep(dice.uniform(0.2, 0.9))
        followed.kill(name)
        followed.start(name)
    client = wait_until(followed.view, 120, "no account view after kills")
    wait_until(lambda: client.seq > view.cursor(JOURNALED) - 2000, 60, "the view lags")
    wait_until(lambda: client.account(16), 60, "the view hasn't come to the first account yet")
    os.kill(followed.venue.worker("engine"), signal.SIGKILL)
    again = followed.venue.until_running(epoch=2)
    history = History(followed.config)
    goal = int(again.engine["recovered_seq"]) + 500
    wait_until(lambda: client.seq > goal, 60, "the view follows no second start")
    wait_until(lambda: history.seq() > goal, 60, "history follows no second start")
    # Stopped followers hold nobody back.
    for process in followed.processes.values():
        process.send_signal(signal.SIGSTOP)
    before = again.cursor(JOURNALED)
    wait_until(
        lambda: again.cursor(JOURNALED) > before + 2000, 30, "the engine waits for followers"
    )
    for process in followed.processes.values():
        process.send_signal(signal.SIGCONT)
    wait_until(lambda: client.seq > before + 2000, 60, "the view doesn't catch up")
    assert followed.venue.stop() == 0
    for name in NAMES:
        followed.stop(name)
    assert check_states(followed, tmp_path / "other.db") > 5000


def _moved(data: Path, before: dict[str, int]) -> bool:
    """Whether every follower has kept something since."""
    now = follower_positions(data)
    return len(now) == 3 and all(index > before.get(name, 0) for name, index in now.items())


def _view_layout(config: Config) -> str:
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
