"""The simulation holds, repeats itself, and finds bugs that are put in.

Each bug is one that the design must not have: an acknowledgement before the sync, a block that is
lost, a command done twice, a state that the log doesn't give.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine import recovery
from engine.pipeline import Stage
from shm.cursors import REPORTS_JOURNALED, RISKED
from tools import simulate, simulateengine
from tools.cli import main
from tools.simulate import History, ranges
from tools.simulatedisk import Disk

PLAIN = os.environ.get("NUMBA_DISABLE_JIT") == "1"
SEEDS = range(1, 4 if PLAIN else 9)
STEPS = 80 if PLAIN else 300


@pytest.mark.parametrize("seed", SEEDS)
def test_everything_acknowledged_comes_back_once(seed: int) -> None:
    outcome = simulate.simulate(seed, STEPS)
    assert not outcome.broken, simulate.repeat_line(outcome, False, frozenset())
    assert outcome.recoveries > 0


def test_a_seed_is_a_history() -> None:
    """To the last byte of the logs, and wherever Python's hashes put things."""
    first, second = simulate.simulate(4, 80), simulate.simulate(4, 80)
    assert first == second and first.digest != 0
    command = [sys.executable, "-m", "tools.cli", "simulate", "--json", "--runs", "1"]
    elsewhere = subprocess.run(
        [*command, "--seed", "4", "--steps", "80"],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        check=True,
    )
    assert json.loads(elsewhere.stdout)["digest"] == f"{first.digest:016x}"


@pytest.mark.parametrize("seed", [1, 2])
def test_recovery_is_killed_before_each_of_its_calls(tmp_path: Path, seed: int) -> None:
    """Before the n-th call that changes a file, for every n that there is; another takes over."""
    history = History(seed, tmp_path / "data")
    for calls in range(30):
        for number in range(4 * calls, 4 * calls + 4):
            chance = random.Random(number)
            history.send(*history.traffic.next(chance, history.venue.now))
        v = history.venue
        v.feed()
        v.turn(Stage.SEQUENCE | Stage.RISK | Stage.SETTLE | Stage.MATCH, (1 << v.shards) - 1)
        history.crash(random.Random(calls), calls)
    history.finish()
    history.stop()
    assert 10 < history.outcome.died_recovering < 30


def test_a_lying_disk_is_found_out() -> None:
    found = 0
    for seed in range(1, 5):
        outcome = simulate.simulate(seed, 100, lying=True)
        assert not outcome.broken, outcome.broken
        found += outcome.detected
    assert found > 0


# ---------------------------------------------------------------- bugs put in


def broken_by(steps: int = 100, seeds: range = range(1, 9)) -> simulate.Outcome:
    """The first history that notices."""
    for seed in seeds:
        outcome = simulate.simulate(seed, steps)
        if outcome.broken:
            return outcome
    raise AssertionError("nobody noticed")


def test_acknowledging_before_the_sync_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def early(self: History) -> tuple[int, int]:
        c = self.venue.cursors
        return int(c[RISKED]), int(c[REPORTS_JOURNALED])

    monkeypatch.setattr(History, "acknowledged", early)
    # Commands that were acknowledged are gone, or a standby that believed it is ahead of the log.
    assert re.search("were acknowledged|differs from", broken_by().broken)


def test_a_lost_block_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk whose synced pages vanish too: recovery says so, or the simulation does."""

    def cut(self: Disk, chance: random.Random) -> set[Path]:
        segments = sorted(self.data.glob("wal/*.seg"))
        used = [p for p in segments if p.read_bytes().strip(b"\0")][-1]
        content = used.read_bytes()
        last = len(content.rstrip(b"\0")) // 4096 * 4096
        used.write_bytes(content[:last].ljust(len(content), b"\0"))
        return set()

    monkeypatch.setattr(Disk, "cut", cut)
    assert "were acknowledged" in broken_by().broken


def test_a_command_done_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A venue that forgets after a crash which requests it has taken."""
    start = History.start

    def forgetful(self: History) -> None:
        start(self)
        self.venue.arrays["producers"].view("i8")[:] = 0

    monkeypatch.setattr(History, "start", forgetful)
    monkeypatch.setattr(History, "compare", lambda _self: None)
    # By whoever looks first: the next crash replays a log in which nobody forgot, and a follower
    # then misses reports it has heard of, or recovery finds others in the log.
    assert re.search("was done by|is nowhere|than the WAL gives", broken_by().broken)


def test_a_state_that_the_log_does_not_give_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    recover = recovery.recover

    def careless(config: Any, arrays: Any, *more: Any) -> recovery.Recovered:
        recovered = recover(config, arrays, *more)
        if recovered.seq > 60:
            arrays["wallets"]["wallet_quanta"][16 * 2] += 1
        return recovered

    monkeypatch.setattr(simulateengine, "recover", careless)
    outcome = broken_by()
    assert "differs from what a replica derives" in outcome.broken
    # And it is cut down to what it needs: little traffic, and one crash.
    without = simulate.shrink(outcome, False)
    assert len(without) > outcome.at // 2
    again = simulate.simulate(outcome.seed, outcome.at, without=without)
    assert again.broken == outcome.broken


# ---------------------------------------------------------------- the command


def test_the_command_says_how_to_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    good = CliRunner().invoke(main, ["simulate", "--runs", "1", "--steps", "40", "--json"])
    assert good.exit_code == 0 and json.loads(good.output)["ok"] is True
    monkeypatch.setattr(History, "acknowledged", lambda _self: (1 << 40, 0))
    bad = CliRunner().invoke(main, ["simulate", "--runs", "3", "--steps", "60"])
    assert bad.exit_code == 1
    line = bad.output.splitlines()[-1].removeprefix("repeat  ")
    again = CliRunner().invoke(main, line.split()[1:])
    assert again.exit_code == 1
    assert again.output.splitlines()[-1].removeprefix("repeat  ") == line


@pytest.mark.parametrize("numbers", [(), (1,), (1, 2, 3), (1, 3, 4, 9)])
def test_ranges(numbers: tuple[int, ...]) -> None:
    assert simulate.numbers_of(ranges(frozenset(numbers))) == frozenset(numbers)
