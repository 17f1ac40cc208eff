"""The clock as a process: it keeps time through restarts and kills, its own and the engine's.

ticks and samples arrive, prices move the mark, funding is paid while traders trade
kill -9 of the clock, of the engine in the middle of funding, again and again: in the end the
independent replay of the WAL has every report that was ever shown, and each round paid once
"""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from engine.recovery import fresh_arrays
from engine.replay import Replayer
from engine.state import Limits
from engine.walreader import read_commands
from shm.codes import Kind, ReportKind
from shm.cursors import SEQUENCED
from shm.door import Door
from shm.kinds import command
from shm.records import COMMAND, FUNDING_REPORT, FUNDING_ROUND_REPORT, PRICE_REPORT
from tests.process.helpers import SMALL, Venue, Witness, perpcore, wait_until
from tools.demomarket import CONTRACTS

LIMITS = Limits(**{k.partition(".")[2]: v for k, v in SMALL.items() if k.startswith("limits.")})


@pytest.fixture
def make(tmp_path: Path, instance: str) -> Iterator[Any]:
    made = []

    def venue(*arguments: str, **settings: Any) -> Venue:
        settings = {name.replace("__", "."): value for name, value in settings.items()}
        made.append(Venue(tmp_path, instance, *arguments, settings=settings))
        return made[-1]

    yield venue
    for venue in made:
        venue.end()


def clock_of(venue: Venue) -> psutil.Process:
    found: list[psutil.Process] = wait_until(
        lambda: [p for p in venue.processes() if p.name() == "pc-clock"], 60, "no clock"
    )
    return found[0]


def count(rows: np.ndarray[Any, Any], kind: Kind) -> int:
    answers = rows[rows["kind"] == ReportKind.ANSWER]
    return int((answers["status"] == kind).sum())


def follow_until(witness: Witness, what: Any, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not what(witness.reports()):
        assert time.monotonic() < until, "it doesn't come"
        witness.follow(0.1)


def test_the_clock_keeps_time_whoever_is_killed(make: Any, long_run: bool) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    venue = make(
        *("--clock", "--topology", "fused", "--traffic", "2000"),
        restarts_max=1000,
        checkpoint_every=1024,
        clock__sample_ms=200,
    )
    venue.start()
    witness = Witness(venue)
    view = venue.until_running()
    witness.attach(view)
    for role in ["clock", "engine", "clock"] * (8 if long_run else 1):
        seen = witness.count
        for kind in (Kind.TICK, Kind.SAMPLE, Kind.SOURCE_PRICE):
            follow_until(witness, lambda rows, at=seen, kind=kind: count(rows[at:], kind) >= 2)
        witness.follow(dice.uniform(0, 0.5))
        if role == "clock":
            clock = clock_of(venue)
            clock.kill()
            wait_until(lambda pid=clock.pid: clock_of(venue).pid != pid, 60, "it stays dead")
        else:
            epoch = view.epoch
            os.kill(venue.worker("engine"), signal.SIGKILL)
            view = venue.until_running(epoch + 1)
            witness.attach(view)
    assert venue.stop() == 0, venue.said()[-4000:]
    witness.finish()
    witness.detach()
    venue.check_nothing_left()
    rows = replayed(venue.data, view.cursor(SEQUENCED))
    assert (witness.reports() == rows[: witness.count]).all()
    prices = rows[rows["kind"] == ReportKind.PRICE].view(PRICE_REPORT.dtype)
    assert set(prices["symbol"].tolist()) == set(range(len(CONTRACTS)))
    assert len(np.unique(prices["mark_ticks"][prices["symbol"] == 0])) > 1
    check_rounds(rows)


def replayed(data: Path, last_seq: int) -> np.ndarray[Any, Any]:
    """The reports an independent replay of the WAL derives."""
    derived: list[np.ndarray[Any, Any]] = []
    arrays = fresh_arrays(LIMITS)
    replayer = Replayer(arrays, LIMITS, sink=lambda _index, rows: derived.append(rows.copy()))
    for rows in read_commands(data, 0, last_seq):
        replayer.feed(rows)  # raises Diverged where a recorded digest is another one
    replayer.feed(np.zeros(0, COMMAND.dtype), end=True)
    return np.concatenate(derived)


def check_rounds(rows: np.ndarray[Any, Any]) -> int:
    """Nobody is paid twice in a round, money sums up with the dust; how many rounds ended."""
    rounds = rows[rows["kind"] == ReportKind.FUNDING_ROUND].view(FUNDING_ROUND_REPORT.dtype)
    paid = rows[rows["kind"] == ReportKind.FUNDING].view(FUNDING_REPORT.dtype)
    ended = rounds[rounds["status"] == 1]
    for x in ended:
        own = paid[(paid["symbol"] == x["symbol"]) & (paid["funding_ns"] == x["funding_ns"])]
        who = own["account"].astype(np.int64) * 8 + own["status"]
        assert len(np.unique(who)) == len(who), "paid twice"
        assert own["amount_quanta"].sum() == -x["dust_quanta"]
        assert own["position_lots"].sum() == 0
    for symbol in np.unique(rounds["symbol"]):
        own = rounds[rounds["symbol"] == symbol]
        assert (own["status"] == np.arange(len(own)) % 2).all(), "one round after the other"
        assert (np.diff(own["funding_ns"][own["status"] == 0]) > 0).all()
    return len(ended)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kill" in metafunc.fixturenames:
        rounds = 12 if metafunc.config.getoption("--long") else 1
        metafunc.parametrize("kill", range(rounds))


def test_kill_in_the_middle_of_funding(make: Any, kill: int) -> None:
    """Funding every second under load, and the engine dies several times: each round once."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}, run {kill}")
    dice = random.Random(seed)
    venue = make(
        *("--clock", "--topology", dice.choice(("fused", "split")), "--traffic", "2000"),
        restarts_max=1000,
        checkpoint_every=1024,
        clock__tick_ms=20,
    )
    venue.start()
    witness = Witness(venue)
    view = venue.until_running()
    witness.attach(view)
    for _ in range(3):
        seen = witness.count

        def begun(rows: np.ndarray[Any, Any], seen: int = seen) -> bool:
            fund_every_second(venue.instance)  # again: the demo declares its own when it starts
            return bool((rows[seen:]["kind"] == ReportKind.FUNDING).sum() >= 10)

        follow_until(witness, begun)
        witness.follow(dice.uniform(0.0, 1.2))  # a round begins every second
        epoch = view.epoch
        victim = dice.choice(("journal", "engine" if "engine" in roles(view) else "risk"))
        os.kill(venue.worker(victim), signal.SIGKILL)
        view = venue.until_running(epoch + 1)
        witness.attach(view)
    assert venue.stop() == 0, venue.said()[-4000:]
    witness.finish()
    witness.detach()
    rows = replayed(venue.data, view.cursor(SEQUENCED))
    assert (witness.reports() == rows[: witness.count]).all()
    assert check_rounds(rows) >= 3


def fund_every_second(instance: str) -> None:
    """As the operator: shorter funding intervals for what the demo trades."""
    door = Door(instance, "admin")
    rows = np.concatenate(
        [
            command(
                Kind.CONTRACT,
                symbol=symbol,
                funding_interval_ns=1_000_000_000,
                interest_ppb=800_000_000,
                funding_clamp_ppb=800_000_000,
                funding_cap_ppb=100_000_000,
                source_clamp_ppm=5_000,
                source_stale_ns=60_000_000_000,
                mark_band_ppm=50_000,
                lines=3,
            )
            for symbol in range(len(CONTRACTS))
        ]
    )
    rows["request"] = door.next_request() + np.arange(len(rows))
    door.send(rows)
    door.close()


def roles(view: Any) -> set[str]:
    return {worker.name for worker in view.workers()}


def test_a_clock_of_its_own_takes_prices_from_outside(make: Any, tmp_path: Path) -> None:
    """`perpcore clock` beside an engine that runs without one; lines over a Unix socket."""
    path = tmp_path / "p.sock"
    venue = make("--no-clock", "--traffic", "100", clock__socket=str(path))
    venue.start()
    view = venue.until_running()
    witness = Witness(venue)
    witness.attach(view)
    witness.follow(1.0)
    assert count(witness.reports(), Kind.TICK) == 0
    clock = Venue(tmp_path, venue.instance)
    clock.arguments = ["clock", *venue.arguments[1:5]]
    clock.arguments += [a for a in venue.arguments if a.startswith("--set=")]
    clock.log = tmp_path / "clock.log"
    clock.start()
    try:
        wait_until(lambda: "attached" in clock.said(), 60, "it doesn't attach")
        second = perpcore("status", "--instance", venue.instance, "--json")
        assert second.returncode == 0
        follow_until(witness, lambda rows: count(rows, Kind.TICK) >= 2)
        mouth = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

        def heard(rows: np.ndarray[Any, Any]) -> bool:
            # The demo's ETHUSDT: 3000.00, told by somebody else now.
            mouth.sendto(b"ETHUSDT 0 3001.23\nnonsense\n", str(path))
            told = rows[rows["kind"] == ReportKind.PRICE].view(PRICE_REPORT.dtype)
            return bool(((told["symbol"] == 1) & (told["index_ticks"] == 300_123)).any())

        follow_until(witness, heard)
        mouth.close()
        assert clock.stop() == 0, clock.said()
        assert not path.exists()
    finally:
        clock.end()
    assert venue.stop() == 0
    witness.detach()
