"""kill -9 amid funding, liquidations, deleveraging, triggered orders: nothing is other than without.

A scripted market (tests/model/crash_script.py) goes to an exchange of real processes, one command
at a time, with a clock the script sets. Again and again one of its processes is killed while a
command is dealt with; what nobody answered is sent again after the recovery. In the end
    every command in the WAL, every report and the state are, to the byte, those of a venue in this
    process that had the same script and no kill. Like the time, how far settlement had got when a
    command was decided is given to it (tests/model/recorded.py); all else it comes to by
    itself: what was sent again, what the engine proposed and in which order
    an independent replay of the WAL derives every report and the state

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
from engine.setup import SLICE, SLICE_APART
from engine.walreader import read_commands
from shm.codes import Kind, LiquidationStep
from shm.cursors import SEQUENCED
from shm.records import COMMAND
from tests.model.crash_script import Script, looked
from tests.model.plain_state import differences, plain_state
from tests.process.live import Live, Lockstep, RecordedLockstep, kills_within, some_kills
from tests.venue import DESK, check_laws
from tools.inprocess import wal_rows

SEEDS = (
    4048401556,  # in this one a trigger is decided while another of its account is in flight
    2525690406,  # fused: an order ends, and a kill comes before its end, proposed too, is sequenced
)


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


def same(got: Any, wanted: Any, what: str) -> None:
    assert len(got) == len(wanted), f"{what}: {len(got)}, without kills {len(wanted)}"
    bad = np.flatnonzero(got != wanted)
    assert len(bad) == 0, f"{what} {bad[0]}: {got[bad[0]]}, without kills {wanted[bad[0]]}"


def run(script: Script, topology: str, live: Any, dice: random.Random, kills: int) -> Counter[str]:
    """One market with kills against one without; what was to be done next at each kill."""
    chosen = {
        "checkpoint_every": 512,
        "funding_slice": SLICE if topology == "fused" else SLICE_APART,
    }
    like = Lockstep(script.limits, **chosen)  # as it will be, but for some lag
    play(like, script)
    broken = live(script, topology)
    broken.kills = some_kills(dice, topology, like.log, kills)
    for kind in (Kind.FUNDING, Kind.TAKEOVER):
        broken.kills |= kills_within(dice, topology, like.log, kind)
    play(broken, script)
    assert all(number > broken.numbers[DESK] for number in broken.kills)  # a look found less
    reports = broken.all_reports()
    seq = int(broken.cursors[SEQUENCED])
    rows = commands_of(broken.exchange.data, seq)
    check_laws(broken)
    digest = state_digest(broken.arrays, script.limits)
    check_replay(script, rows, reports, digest)
    whole = RecordedLockstep(script.limits, rows, **chosen)
    try:
        play(whole, script)
    finally:  # where nothing moves any more, the first other command says more than that
        same(rows[: len(whole.log)], wal_rows(whole.log), "command")
    assert len(rows) == len(whole.log)
    same(reports, whole.all_reports(), "report")
    wanted = plain_state(whole.arrays, script.limits)
    assert differences(plain_state(broken.arrays, script.limits), wanted) == []
    assert digest == state_digest(whole.arrays, script.limits)
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
    seeds = [random.SystemRandom().randrange(1 << 32) for _ in range(14 if long_run else 1)]
    for seed in (*SEEDS, *seeds) if long_run else seeds:
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
