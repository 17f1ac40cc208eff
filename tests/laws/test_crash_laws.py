"""The engine dies at any moment, its log survives: what was reached, due or half done happens once.

A random flow runs with its stages in random order; again and again all but the log is thrown away,
a new venue replays it, proposes what is pending, and goes on. In the end
    every law holds, and the log alone gives the same state and reports once more
    every conditional order that was accepted waits still, or has ended exactly once
    every request that was accepted is under way still, or has ended exactly once
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from engine import proposals
from engine.proposals import refill
from engine.recovery import (
    fresh_arrays,
    kept_tables,
    propose_again,
    queue_section,
    restore,
    taken_proposals,
    untaken,
)
from engine.replay import Replayer
from engine.sequencer import LAST_TS_NS
from engine.state import risk_of
from shm.codes import AlgoStatus, ReportKind, RequestStatus
from shm.cursors import JOURNALED, SETTLED
from shm.records import ALGO_REPORT, REQUEST_REPORT
from tests.model.random_flow import Flow, open_venue
from tests.venue import LIMITS, PRODUCERS, Venue, check_laws, check_reports
from tools.inprocess import replayed, wal_rows

PLAIN = os.environ.get("NUMBA_DISABLE_JIT") == "1"
CHECKED = os.environ.get("PERPCORE_BOUNDSCHECK") == "1"
LIVES = 6 if PLAIN else 25
SEEDS = 3 if PLAIN else 6 if CHECKED else 8


def born_again(v: Venue, shards: int) -> Venue:
    """A venue that has nothing but the log of another one."""
    again = Venue(
        v.limits, shards=shards, seed=v.random.randrange(1 << 30), matches=16, reports=128
    )
    replayer = Replayer(
        again.arrays, again.limits, shards, lambda _at, rows: again.reports.append(rows.copy())
    )
    rows = wal_rows(v.log)
    replayer.feed(rows)
    replayer.feed(rows[:0], end=True)
    again.log = list(v.log)
    again.cursors[JOURNALED] = again.cursors[SETTLED]
    again.sequencer[LAST_TS_NS] = max(v.now, int(again.venue["ts_ns"]))
    for k, producer in enumerate(PRODUCERS):
        again.numbers[k] = int(again.arrays["producers"]["last_number"][producer.id])
    propose_again(again.arrays, again.engine.setup, taken_proposals(rows))
    return again


def pending(arrays: dict[str, Any]) -> list[int]:
    """What waits to become commands, oldest first."""
    queue = arrays["proposals"]
    return queue[proposals.FIRST : proposals.FIRST + int(queue[proposals.PUT])].tolist()


def after(rows: Any, sections: dict[str, Any] | None = None) -> tuple[dict[str, Any], Any]:
    """(tables, kernel settings) after commands, from nothing or from a snapshot."""
    arrays = fresh_arrays(LIMITS, commands=1024, reports=4096)
    if sections is not None:
        restore(arrays, LIMITS, sections, 1)
    replayer = Replayer(arrays, LIMITS)
    replayer.feed(rows)
    replayer.feed(rows[:0], end=True)
    return arrays, replayer.engine.setup


def test_a_snapshot_keeps_what_is_pending_in_its_order() -> None:
    """From a snapshot with a queue in the middle, recovery proposes what it would have from the
    whole log, in the same order; from the marks alone the order would be that of tables."""
    waited = orders = 0
    for seed in range(SEEDS):
        v = open_venue(Venue(LIMITS, seed=seed, matches=16, reports=128))
        flow = Flow(seed, wide=True)
        for _ in range(4):
            for kind, fields in flow.commands(v, 60):
                v.send(kind, **fields)
            v.work()
        rows = wal_rows(v.log)
        own = rows["request"] == 0
        # A snapshot is cut where settlement had come as far as risk.
        cuts = [k for k in np.flatnonzero(own) if rows["settled_seq"][k] == rows["seq"][k - 1]]
        for cut in cuts:
            for end in (cut, cut + 1, len(rows)):
                whole, setup = after(rows[:end])
                propose_again(whole, setup, taken_proposals(rows[:end]))
                arrays, _ = after(rows[:cut])
                waits = untaken(arrays, taken_proposals(rows[:cut]))
                sections = {**kept_tables(arrays, LIMITS), "proposals": queue_section(waits)}
                again, setup = after(rows[cut:end], sections)
                propose_again(again, setup, taken_proposals(rows[cut:end]))
                assert pending(again) == pending(whole), (seed, cut, end)
                mine, other = kept_tables(again, LIMITS), kept_tables(whole, LIMITS)
                assert all(mine[name].tobytes() == other[name].tobytes() for name in other)
            waited += len(waits)
            refill(risk_of(arrays), setup)
            orders += pending(arrays) != waits.tolist()
    assert waited > 0, "nothing was pending at any cut"
    if not PLAIN:
        assert orders > 0, "the order of tables would have done"


@pytest.mark.parametrize("seed", range(SEEDS))
def test_killed_again_and_again(seed: int, long_run: bool) -> None:
    v = open_venue(
        Venue(LIMITS._replace(client_window_ns=10**9), seed=seed, matches=16, reports=128)
    )
    flow = Flow(seed, wide=True)
    for life in range(LIVES * (10 if long_run else 1)):
        for kind, fields in flow.commands(v, v.random.choice((5, 30, 60))):
            v.send(kind, **fields)
        if v.random.random() < 0.3:
            v.work()
            check_laws(v)
        for _ in range(v.random.randrange(120)):  # and in the middle of this it dies
            v._chance()
        v = born_again(v, shards=1 + (seed + life) % 3)
    v.work()
    check_laws(v)
    check_reports(v)
    arrays, reports = replayed(v.log, v.limits, 2, reports=256, commands=1024)
    assert reports.tobytes() == v.all_reports().tobytes()
    for name, kept in kept_tables(v.arrays, v.limits).items():
        assert kept_tables(arrays, v.limits)[name].tobytes() == kept.tobytes(), name
    once(
        v.all_reports(),
        ReportKind.ALGO,
        ALGO_REPORT,
        "algo_id",
        AlgoStatus.NEW,
        {int(a) for a in v.arrays["algos"]["algo_id"] if a},
    )
    asked = v.arrays["requests"]["request_id"]
    ended = (RequestStatus.REJECTED, RequestStatus.SETTLED)
    once(
        v.all_reports(),
        ReportKind.REQUEST,
        REQUEST_REPORT,
        "request_id",
        RequestStatus.REQUESTED,
        {int(q) for q in asked if q},
        ended,
    )


def once(
    reports: Any,
    kind: int,
    record: Any,
    id_: str,
    first: int,
    left: set[int],
    last: tuple[int, ...] | None = None,
) -> None:
    """Each id begins once, and is left or ends once."""
    rows = reports[reports["kind"] == kind].view(record.dtype)
    begun = rows[id_][rows["status"] == first].tolist()
    over = rows["status"] != first if last is None else np.isin(rows["status"], last)
    ended = rows[id_][over].tolist()
    assert len(set(begun)) == len(begun)
    assert len(set(ended)) == len(ended)
    assert set(ended) | left == set(begun) and not set(ended) & left
