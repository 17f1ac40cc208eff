"""Any flow of commands, any order of stages, any size of rings: the laws hold and all agree.

    laws       tests/venue.py after every burst: money, positions, claims, holds, indexes, books
    twin       the reports and the state are those of tests/model/risk_twin.py
    replay     the log alone gives the same reports and tables, with other shards and other rings

A failure names the seed; `Run(seed)` repeats it.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from engine.recovery import kept_tables, refill, state_digest
from engine.replay import Diverged, Replayer
from engine.state import Limits, risk_tables, shared_book_tables
from shm.codes import Kind, Side, Tif
from shm.cursors import JOURNALED, SETTLED
from shm.records import CHECKPOINT_COMMAND, REPORT
from tests.model.random_flow import ACCOUNTS, Flow, open_venue
from tests.model.risk_twin import Twin
from tests.venue import ANN, BOB, LIMITS, Venue, check_laws, check_reports, decode, state_of
from tools.inprocess import fresh_arrays, wal_rows

PLAIN = os.environ.get("NUMBA_DISABLE_JIT") == "1"
CHECKED = os.environ.get("PERPCORE_BOUNDSCHECK") == "1"
COMMANDS = 150 if PLAIN else 1500 if CHECKED else 4000
SEEDS = range(1, 4 if PLAIN else 13 if CHECKED else 7)

# (shards, commands, matches, reports, ingress): large ones, odd ones, and as small as they go
SHAPES = (
    (1, 256, 256, 1024, 1024),
    (2, 64, 64, 256, 64),
    (3, 16, 8, 64, 32),
    (3, 256, 8, 128, 16),
)


# Tables that are full now and then; names that are free at once.
TIGHT = LIMITS._replace(orders=40, clients=24, positions=14)
ROOMS = (LIMITS, TIGHT, LIMITS._replace(client_window_ns=0))


class Run:
    """A random flow through a venue whose stages run in random order."""

    def __init__(self, seed: int, *, wide: bool = True, **more: Any) -> None:
        shards, commands, matches, reports, slots = SHAPES[seed % len(SHAPES)]
        sizes: dict[str, Any] = {
            "shards": shards,
            "commands": commands,
            "matches": matches,
            "reports": reports,
            "ingress_slots": slots,
        }
        limits = ROOMS[seed // 4 % len(ROOMS)]
        self.venue = v = Venue(limits, seed=seed, **{**sizes, **more})
        self.flow = Flow(seed, wide=wide)
        open_venue(v)

    def burst(self) -> None:
        """Some commands, all in flight together."""
        v = self.venue
        for kind, fields in self.flow.commands(v, v.random.choice((1, 5, 20, 60))):
            v.send(kind, **fields)
        v.work()

    def until(self, commands: int) -> Venue:
        while len(self.venue.log) < commands:
            self.burst()
        return self.venue


@pytest.mark.parametrize("seed", SEEDS)
def test_laws_hold_after_every_burst(seed: int) -> None:
    run = Run(seed)
    while len(run.venue.log) < COMMANDS:
        run.burst()
        check_laws(run.venue)
    check_reports(run.venue)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_twin_says_the_same(seed: int) -> None:
    v = Run(seed + 1000, wide=False).until(COMMANDS)
    twin = Twin(v.limits)
    twin.run(v.log)
    said = v.heard()
    for got, want in zip(said, twin.reports, strict=True):
        padding = {name for name in got if name.startswith("reserved")} - want.keys()
        assert {k: x for k, x in got.items() if k not in padding} == want
    assert state_of(v) == twin.state_of()


# ---------------------------------------------------------------- replay


def replayed(rows: Any, limits: Limits, shards: int, pieces: int, **rings: int) -> Any:
    """(arrays, reports) of a replay, fed in some pieces."""
    reports: list[Any] = []
    arrays = fresh_arrays(limits, shards, **rings)
    replayer = Replayer(arrays, limits, shards, lambda at, told: reports.append((at, told.copy())))
    for part in np.array_split(rows, pieces):
        replayer.feed(part)
    replayer.feed(rows[:0], end=True)
    first = [at for at, _ in reports]
    sizes = [len(told) for _, told in reports]
    assert first == np.cumsum([0, *sizes[:-1]]).tolist()
    return arrays, np.concatenate([np.zeros(0, REPORT.dtype), *(told for _, told in reports)])


@pytest.mark.parametrize("seed", SEEDS)
def test_replay_gives_the_same_bytes(seed: int) -> None:
    """Whatever the interleaving was, on any number of shards and with rings of any size."""
    v = Run(seed + 2000, checkpoint_every=97).until(COMMANDS)
    rows = wal_rows(v.log)
    assert (np.diff(rows["settled_seq"]) >= 0).all()
    for shards, rings in (
        (1, {"commands": 256, "matches": 8, "reports": 128}),
        (2, {"commands": 1024, "matches": 64, "reports": 64}),
        (4, {"commands": 512, "matches": 1024, "reports": 4096}),
    ):
        arrays, reports = replayed(rows, v.limits, shards, 1 + seed % 5, **rings)
        live = v.all_reports()
        assert reports.tobytes() == live.tobytes(), decode(
            live[np.flatnonzero(live[: len(reports)] != reports[: len(live)])[0]]
        )
        for name, kept in kept_tables(v.arrays, v.limits).items():
            again = kept_tables(arrays, v.limits)[name]
            assert again.tobytes() == kept.tobytes(), name
        assert state_digest(arrays, v.limits) == state_digest(v.arrays, v.limits)


def test_another_interleaving_is_another_history() -> None:
    """The settlement each command was decided after is part of what happened."""
    v = Venue().open_market()
    v.place(ANN, Side.BUY, 100, 5, client_id="a")
    v.place(BOB, Side.SELL, 100, 5)
    v.send(Kind.CANCEL, account=ANN, symbol=0, client_id="a")
    v.drain()
    rows = wal_rows(v.log)
    _, reports = replayed(rows, v.limits, 1, 1)
    assert reports.tobytes() == v.all_reports().tobytes()
    rows["settled_seq"] = rows["seq"] - 1
    _, reports = replayed(rows, v.limits, 1, 1)
    assert reports.tobytes() != v.all_reports().tobytes()


def test_a_checkpoint_that_says_otherwise_stops_a_replay() -> None:
    v = Venue(checkpoint_every=20).open_market()
    for _ in range(40):
        v.place(ANN, Side.BUY, 100, 5)
    v.drain()
    rows = wal_rows(v.log)
    at = np.flatnonzero(rows["kind"] == Kind.CHECKPOINT)
    assert len(at) == 2
    replayed(rows, v.limits, 1, 1)
    rows[at[1] : at[1] + 1].view(CHECKPOINT_COMMAND.dtype)["reports_digest"] ^= 1
    with pytest.raises(Diverged, match=f"before command {rows['seq'][at[1]]} "):
        replayed(rows, v.limits, 1, 1)


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_two_live_runs_agree_where_risk_could_not_refuse(seed: int) -> None:
    """Plenty of money: fills and books don't depend on how the stages interleave."""

    def run(shards: int, seed_: int | None) -> Any:
        v = Venue(LIMITS._replace(orders=COMMANDS), shards=shards, seed=seed_, matches=8)
        v.open_market(accounts=5, symbols=3, quanta=10**12, orders_max=COMMANDS)
        rng = np.random.default_rng(seed)
        for _ in range(COMMANDS // 2):
            v.place(
                int(rng.choice(ACCOUNTS)),
                int(rng.integers(2)),
                int(rng.integers(995, 1006)),
                int(rng.integers(1, 20)),
                symbol=int(rng.integers(3)),
                tif=int(rng.choice([Tif.GTC, Tif.GTC, Tif.IOC, Tif.GTX])),
            )
        v.work()
        reports = v.all_reports()
        return reports[reports["kind"] == 5].tobytes(), [v.book(k) for k in range(3)]

    assert run(1, None) == run(3, 7) == run(2, 8)


def test_what_was_pending_is_proposed_again() -> None:
    """An engine that dies with marks not yet proposed ends those orders after its recovery."""
    v = Venue().open_market(symbols=2)
    v.place(ANN, Side.BUY, 100, 5, tif=Tif.GTD, expire_ns=v.now + 1)
    v.place(BOB, Side.BUY, 100, 5)
    v.place(BOB, Side.BUY, 100, 5, symbol=1)
    v.work()
    v.wait(1)
    v.send(Kind.TICK)
    v.send(Kind.ACCOUNT, account=BOB, state=2, cancel=1)
    v.send(Kind.SYMBOL_STATE, symbol=1, state=2, cancel=1)
    v.feed()
    v.sequence()
    v.risk()
    v.match()
    v.journal()
    rows = wal_rows(v.log)
    again = Venue()
    Replayer(again.arrays, again.limits).feed(rows, end=True)
    again.cursors[JOURNALED] = again.cursors[SETTLED]
    assert again.quiet() and len(again.book()) == 2, "a replay proposes nothing"
    refill(again.engine.risk, again.engine.setup)
    again.work()
    assert [Kind(int(c["kind"])).name for c in again.log] == [
        "EXPIRE",
        "CANCEL_ALL",
        "CANCEL_SYMBOL",
    ]
    assert again.book(0) == again.book(1) == []
    check_laws(again)


# ---------------------------------------------------------------- a rejected command changes nothing


@pytest.mark.parametrize("seed", SEEDS[:6])
def test_a_refused_command_changes_nothing_but_its_producers_number(seed: int) -> None:
    run = Run(seed + 3000, checkpoint_every=1 << 40)
    v = run.until(COMMANDS // 3)
    names = [s.name for s in risk_tables(v.limits)] + [s.name for s in shared_book_tables(v.limits)]
    # A digest is remembered whatever becomes of its command.
    names = [n for n in names if n not in ("producers", "venue", "digests", "digest_index")]
    scalars = ("risked_seq", "settled_seq", "ts_ns", "reports_digest", "reports_count")
    refused = 0
    for _ in range(COMMANDS // 3):
        before = {name: v.arrays[name].copy() for name in names}
        venue = v.arrays["venue"].copy()
        kind, fields = run.flow.command(v)
        v.send(kind, **fields)
        v.work()
        if v.log[-1]["reason"] == 0 or v.log[-1]["seq"] != venue["risked_seq"][0] + 1:
            continue
        refused += 1
        for name in names:
            assert v.arrays[name].tobytes() == before[name].tobytes(), (name, v.log[-1])
        for name in (*scalars, "digests_first", "digests_count"):
            venue[name] = v.arrays["venue"][name]
        assert v.arrays["venue"].tobytes() == venue.tobytes(), v.log[-1]
    assert refused > 5
