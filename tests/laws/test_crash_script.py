"""A scripted market that dies again and again is, in the end, the one that never died.

To the byte: the one that never died decides each command after as much settlement as the other did
(tests/model/recorded.py), and has all else by itself.

In one process, a crash between any two turns of any stage; tests/process/test_kill_perps.py does
it to real processes. Whatever the log had of a chain that the engine itself proposes (slices of
funding and of a delisting, steps of liquidations, triggered orders, the cancels of a dead man's
switch), it goes on with the very command that was next.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from engine.recovery import state_digest
from engine.sequencer import LAST_TS_NS
from shm.codes import Kind, LiquidationStep, ReportKind
from shm.units import PRODUCER_SHIFT
from tests.model.crash_script import Script, looked
from tests.model.plain_state import differences, plain_state
from tests.model.recorded import Recorded
from tests.venue import DESK, PRODUCERS, Venue, check_laws
from tools.inprocess import wal_rows

SEEDS = range(4)

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="too long for plain Python"
)


class Player:
    """Plays a script one command at a time; with `deaths`, so often dies while it does."""

    def __init__(self, v: Venue, script: Script, seed: int = 0, deaths: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.deaths = deaths
        self.died: Counter[str] = Counter()  # what was to be done next when it did
        self.v = v
        for row in script.setup:
            self.v.send_rows(row)
        self.v.work()
        for step in script.steps:
            self.v.sequencer[LAST_TS_NS] = step.at_ns
            for row in step.rows or looked(self.v.arrays):
                self.do(row)

    def do(self, row: Any) -> None:
        v = self.v
        v.send_rows(row)
        if self.random.random() < self.deaths:
            self.die()
        self.v.work()

    def die(self) -> None:
        """In the middle of a command and what follows from it, with part of that in the log."""
        v, r = self.v, self.random
        now, number, row = v.now, v.numbers[DESK], v.outbox[DESK][0]
        v.feed()
        for _ in range(r.randrange(40)):
            r.choice((v.sequence, v.risk, v.match, v.risk))()
            v.journal(r.choice((0, 0, 1, 2)))
            v.read()
        self.v = again = v.successor()
        again.sequencer[LAST_TS_NS] = now
        again.numbers = v.numbers
        request = PRODUCERS[DESK].id << PRODUCER_SHIFT | number
        if request not in [int(c["request"]) for c in again.log[-200:]]:
            again.outbox[DESK].append(row)
        before = len(again.log)
        again.work()
        if before < len(again.log) and again.log[before]["request"] == 0:
            self.died[Kind(int(again.log[before]["kind"])).name] += 1


def told(v: Venue) -> tuple[bytes, bytes]:
    return wal_rows(v.log).tobytes(), v.all_reports().tobytes()


@pytest.mark.parametrize("seed", SEEDS)
def test_deaths_change_nothing(seed: int) -> None:
    script = Script(seed, traders=120)
    player = Player(Venue(script.limits), script, seed + 1, deaths=0.3)
    broken = player.v
    check_laws(broken)
    assert sum(player.died.values()) >= 10
    whole = Player(Recorded(script.limits, wal_rows(broken.log)), script).v
    check_laws(whole)
    check_eventful(whole)
    assert told(broken) == told(whole)
    wanted = plain_state(whole.arrays, whole.limits)
    assert differences(plain_state(broken.arrays, whole.limits), wanted) == []
    assert state_digest(broken.arrays, whole.limits) == state_digest(whole.arrays, whole.limits)


def check_eventful(v: Venue) -> None:
    """What the script is for has happened."""
    rows = v.all_reports()
    steps = np.bincount(rows["status"][rows["kind"] == ReportKind.LIQUIDATION], minlength=8)
    kinds = Counter(int(c["kind"]) for c in v.log)
    for step in (LiquidationStep.ORDER, LiquidationStep.TAKEOVER, LiquidationStep.ADL):
        assert steps[step] > 0, step
    for kind in (Kind.FUNDING, Kind.TRIGGER, Kind.DELIST, Kind.LIQUIDATION_ORDER):
        assert kinds[kind] > 0, kind
