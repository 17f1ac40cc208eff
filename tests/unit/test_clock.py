"""The clock process against the memory of an engine: what it says, when, and what a full ring costs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import memory, pipeline
from engine.clock import Clock
from shm import ingress
from shm.codes import Kind, State
from shm.config import Config, load
from shm.control import Phase
from shm.kinds import command
from shm.records import COMMAND, SOURCE_COMMAND
from shm.segment import SegmentError

ROOT = Path(__file__).parents[2]
RINGS = ("ingress", "commands", "reports")
SECOND = 1_000_000_000
MS = 1_000_000
NOW = 1_800_000_000 * SECOND


class Engine:
    """The memory of a running engine, and nobody who runs it; `take` is its sequencer."""

    def __init__(self, instance: str, folder: Path, **settings: Any) -> None:
        sizes = {"accounts": 32, "positions": 32, "orders": 64, "clients": 64, "algos": 64}
        overrides = {f"limits.{name}": size for name, size in sizes.items()}
        overrides |= {"rings.ingress": 16, "rings.commands": 64, "rings.reports": 256}
        overrides |= {"instance": instance, "data_dir": str(folder)}
        self.config: Config = load(None, overrides | settings)
        self.memory = memory.create(self.config, 1)
        self.arrays = self.memory.arrays
        pipeline.initialise(self.arrays, memory.limits_of(self.config))
        engine = self.arrays["engine_status"][0]
        engine["epoch"], engine["pid"] = 1, os.getpid()
        engine["ingress"], engine["workers"] = 16, 1
        engine["phase"] = Phase.RUNNING
        engine["started_ns"] = NOW
        for symbol, name in ((0, b"BTC"), (2, b"ETH")):
            row = self.arrays["symbols"][symbol]
            row["state"] = State.TRADING
            row["name"] = np.frombuffer(name.ljust(16, b"\0"), np.int64)
            self.arrays["contracts"][symbol]["declared"] = 1

    def take(self) -> list[np.ndarray[Any, Any]]:
        """Commands in the clock's ring, taken out of it."""
        ring = self.arrays[ingress.segment_name("clock")]
        rows = []
        for k in range(int(ring[ingress.HEAD]), int(ring[ingress.TAIL])):
            at = ingress.SLOTS + (k % 16) * ingress.SLOT_WORDS
            row = np.zeros(1, COMMAND.dtype)
            row.view(np.int64)[: ingress.SLOT_WORDS] = ring[at : at + ingress.SLOT_WORDS]
            rows.append(row[0])
        ring[ingress.HEAD] = ring[ingress.TAIL]
        return rows

    def kinds(self) -> list[str]:
        return [
            f"{Kind(int(c['kind'])).name} {c['symbol']}".replace(" 65535", "") for c in self.take()
        ]

    def close(self) -> None:
        self.memory.unlink()
        self.memory.close()


@pytest.fixture
def engines(instance: str, tmp_path: Path) -> Iterator[Any]:
    made: list[Engine] = []

    def engine(**settings: Any) -> Engine:
        made.append(Engine(instance, tmp_path, **settings))
        return made[-1]

    yield engine
    for one in made:
        one.close()


def test_a_tick_and_a_sample_of_every_contract_each_second(engines: Any) -> None:
    engine = engines()
    clock = Clock(engine.config)

    def said(at: int) -> list[str]:
        clock.send(clock.due(at))
        return engine.kinds()  # type: ignore[no-any-return]

    assert said(NOW) == ["SAMPLE 0", "SAMPLE 2", "TICK"]
    assert said(NOW + 1) == []
    assert [said(NOW + k * 100 * MS) for k in range(1, 10)] == [[]] * 9
    assert said(NOW + SECOND) == ["SAMPLE 0", "SAMPLE 2", "TICK"]
    # A timer that is due: at the next look, and once.
    contract = engine.arrays["contracts"][0]
    contract["breaker_until_ns"] = NOW + SECOND + 150 * MS
    assert said(NOW + SECOND + 100 * MS) == []
    assert said(NOW + SECOND + 200 * MS) == ["TICK"]
    contract["breaker_until_ns"] = 0
    assert said(NOW + SECOND + 300 * MS) == []
    # A clock that jumps, forth and back: it goes on from where it is.
    assert said(NOW + 5000 * SECOND) == ["SAMPLE 0", "SAMPLE 2", "TICK"]
    assert said(NOW + 5000 * SECOND + 500 * MS) == []
    back = NOW + 100 * SECOND
    told = [said(back + k * 100 * MS) for k in range(60)]
    assert 5 <= sum("TICK" in batch for batch in told) <= 7
    assert 5 <= sum("SAMPLE 0" in batch for batch in told) <= 7
    clock.close()


def test_a_full_ring_loses_nothing_that_is_not_said_again(engines: Any) -> None:
    engine = engines()
    clock = Clock(engine.config)
    requests = []
    for k in range(20):
        clock.send(clock.due(NOW + k * SECOND))
        if k in (9, 19):
            requests += [int(c["request"]) for c in engine.take()]
    assert clock.refused > 0
    first = requests[0]
    assert requests == list(range(first, first + len(requests))), "a number was left out"
    clock.close()
    # Another process after a kill goes on above the last number.
    again = Clock(engine.config)
    again.send([command(Kind.TICK)])
    assert int(engine.take()[0]["request"]) == requests[-1] + 1
    again.close()


def test_prices_of_sources_are_sent_before_the_tick(engines: Any, tmp_path: Path) -> None:
    path = tmp_path / "p.sock"
    engine = engines(**{"clock.socket": str(path)})
    clock = Clock(engine.config)
    mouth = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    mouth.sendto(b"BTC 1 60000 123\nETH 0 3000\nDOGE 0 1\n", str(path))
    clock.rest()  # returns at once: somebody has spoken
    clock.send(clock.due(NOW))
    rows = np.array(engine.take())
    assert [Kind(int(k)).name for k in rows["kind"]] == [
        *("SOURCE_PRICE", "SOURCE_PRICE", "SAMPLE", "SAMPLE", "TICK")
    ]
    prices = rows[:2].view(SOURCE_COMMAND.dtype)
    assert prices["source_ticks"].tolist() == [60000, 3000]
    assert prices["source_ns"].tolist() == [123, NOW] and prices["source"].tolist() == [1, 0]
    assert (prices["lines"] == 2).all()
    mouth.close()
    clock.close()


def test_what_a_scan_finds_is_sent(engines: Any) -> None:
    engine = engines()
    clock = Clock(engine.config, scan=lambda arrays: [command(Kind.LIQUIDATE, account=17)])
    clock.turn()
    assert engine.kinds()[-1] == "LIQUIDATE"
    clock.close()


def test_no_clock_without_an_engine(engines: Any) -> None:
    engine = engines()
    clock = Clock(engine.config)
    assert clock.door.open
    engine.arrays["engine_status"][0]["phase"] = Phase.DRAINING
    assert not clock.door.open
    clock.close()
    with pytest.raises(SegmentError, match="is draining, not running"):
        Clock(engine.config)


def test_as_a_process_it_survives_kills_and_ends_when_asked(engines: Any) -> None:
    """`perpcore clock` itself: attaches, is killed, attaches again, stops in order."""
    engine = engines()
    sizes = ("accounts", "positions", "orders", "clients", "algos")
    settings = {f"limits.{name}": getattr(engine.config.limits, name) for name in sizes}
    settings |= {f"rings.{name}": getattr(engine.config.rings, name) for name in RINGS}
    command_line = [
        *(sys.executable, "-m", "tools.cli", "clock", "--instance", engine.config.instance),
        *("--data", engine.config.data_dir, "--set", "clock.sample_ms=100"),
        *(f"--set={name}={value}" for name, value in settings.items()),
    ]
    requests: list[int] = []
    for ending in (signal.SIGKILL, signal.SIGTERM):
        process = subprocess.Popen(command_line, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            heard: set[str] = set()
            until = time.monotonic() + 60
            while heard < {"SAMPLE", "TICK"}:
                assert time.monotonic() < until and process.poll() is None, process
                rows = engine.take()
                requests += [int(c["request"]) for c in rows]
                heard |= {Kind(int(c["kind"])).name for c in rows}
                time.sleep(0.01)
        finally:
            process.send_signal(ending)
            _, said = process.communicate(timeout=60)
        assert process.returncode == (0 if ending == signal.SIGTERM else -ending)
        (line,) = (json.loads(text) for text in said.splitlines())
        assert (line["role"], line["event"], line["epoch"]) == ("clock", "attached", 1)
        requests += [int(c["request"]) for c in engine.take()]
    assert requests == list(range(requests[0], requests[0] + len(requests)))
