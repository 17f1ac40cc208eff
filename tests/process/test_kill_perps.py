"""kill -9 amid funding, liquidations, deleveraging, triggered orders: nothing is other than without.

A scripted market (tests/model/crash_script.py) goes to an exchange of real processes, one command
at a time, with a clock the script sets. Again and again one of its processes is killed while a
command is dealt with; what nobody answered is sent again after the recovery. In the end
    every command in the WAL and every report are, to the byte, those of a venue in this process
    that had the same script and no kill, and the state says the same
    an independent replay of the WAL derives every report and, to the byte, the state

Where a kill landed is what a replay of the commands that came back shows: a round of funding that
has begun and not everybody was paid in, a scope that waits for its next step, and so on.

The campaign, fifteen seeds a topology, takes longer than a test may:
    pytest -s --long -o timeout=0 -o faulthandler_timeout=0 tests/process/test_kill_perps.py
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.recovery import fresh_arrays, state_digest
from engine.replay import Replayer
from engine.walreader import read_commands
from shm.codes import Kind, LiquidationStep
from shm.cursors import SEQUENCED
from shm.records import COMMAND
from tests.model.crash_script import Script, looked
from tests.model.plain_state import differences, plain_state
from tests.process.live import Live, Lockstep, kills_within, some_kills
from tests.venue import check_laws
from tools.inprocess import wal_rows


@pytest.fixture
def live(tmp_path: Path, instance: str) -> Iterator[Any]:
    made: list[Live] = []

    def start(script: Script, topology: str) -> Live:
        folder = tmp_path / str(len(made))
        made.append(Live(folder, f"{instance}-{len(made)}", script.limits, topology))
        return made[-1]

    yield start
    for venue in made:
        venue.end()


def play(v: Any, script: Script) -> None:
    for row in script.setup:
        v.send_rows(row)
    v.work()
    for step in script.steps:
        v.set_time(step.at_ns)
        for row in step.rows or looked(v.arrays):
            v.send_rows(row)
        v.work()


def commands_of(data: Path, last_seq: int) -> Any:
    return np.concatenate(list(read_commands(data, 0, last_seq)))


def without_progress(rows: Any) -> Any:
    """How far settlement had got when a command was decided is the one thing that may differ."""
    rows = rows.copy()
    rows["settled_seq"] = 0
    return rows


def same(got: Any, wanted: Any, what: str) -> None:
    assert len(got) == len(wanted), f"{what}: {len(got)}, without kills {len(wanted)}"
    bad = np.flatnonzero(got != wanted)
    assert len(bad) == 0, f"{what} {bad[0]}: {got[bad[0]]}, without kills {wanted[bad[0]]}"


def run(script: Script, topology: str, live: Any, dice: random.Random, kills: int) -> Counter[str]:
    """One market with kills against one without; what was to be done next at each kill."""
    whole = Lockstep(script.limits, checkpoint_every=512)
    play(whole, script)
    check_laws(whole)
    broken = live(script, topology)
    broken.kills = some_kills(dice, topology, whole.log, kills)
    for kind in (Kind.FUNDING, Kind.TAKEOVER):
        broken.kills |= kills_within(dice, topology, whole.log, kind)
    play(broken, script)
    assert not broken.kills
    reports = broken.all_reports()
    seq = int(broken.cursors[SEQUENCED])
    rows = commands_of(broken.exchange.data, seq)
    same(without_progress(rows), without_progress(wal_rows(whole.log)), "command")
    same(reports, whole.all_reports(), "report")
    check_laws(broken)
    wanted = plain_state(whole.arrays, script.limits)
    assert differences(plain_state(broken.arrays, script.limits), wanted) == []
    check_replay(script, rows, reports, state_digest(broken.arrays, script.limits))
    broken.stop()
    landed: Counter[str] = Counter()
    for at in broken.recovered:
        landed.update(under_way(script, rows[rows["seq"] <= at]))
    return landed


def under_way(script: Script, rows: Any) -> list[str]:
    """What the commands that came back have begun and not ended: the state they give says it."""
    arrays = fresh_arrays(script.limits)
    replayer = Replayer(arrays, script.limits)
    replayer.feed(rows)
    replayer.feed(np.zeros(0, COMMAND.dtype), end=True)
    found = []
    for c, s in zip(arrays["contracts"], arrays["symbols"], strict=True):
        if c["funding_open"]:
            begun = c["funding_row"] != s["first_position"]
            found.append("funding, between slices" if begun else "funding, none paid")
    for table in ("wallets", "positions"):
        for step in arrays[table]["liquidation"]:
            if step:
                found.append(f"liquidation, {LiquidationStep(int(step)).name}")
    if arrays["claims"]["pending"].any():
        found.append("orders to end")
    return found or ["nothing"]


def check_replay(script: Script, rows: Any, reports: Any, digest: int) -> None:
    """The WAL alone gives the state and every report that was ever shown."""
    derived: list[Any] = []
    arrays = fresh_arrays(script.limits)
    replayer = Replayer(arrays, script.limits, sink=lambda _at, new: derived.append(new.copy()))
    replayer.feed(rows)
    replayer.feed(np.zeros(0, COMMAND.dtype), end=True)
    same(reports, np.concatenate(derived), "report against replay")
    assert state_digest(arrays, script.limits) == digest


@pytest.mark.parametrize("topology", ["fused", "split"])
def test_the_same_with_kills_as_without(topology: str, live: Any, long_run: bool) -> None:
    landed: Counter[str] = Counter()
    for _ in range(15 if long_run else 1):
        seed = random.SystemRandom().randrange(1 << 32)
        print(f"seed {seed}")
        script = Script(seed, traders=300 if long_run else 80, rounds=2 if long_run else 1)
        found = run(script, topology, live, random.Random(seed), 8 if long_run else 2)
        print(f"{topology}: killed amid {dict(found)}")
        landed += found
    print(f"{topology}: killed amid {dict(landed)}")
    assert sum(landed.values()) > 0
    if long_run:
        assert landed["funding, none paid"] + landed["funding, between slices"] > 0, landed
        assert landed["liquidation, ADL"] > 0, landed
