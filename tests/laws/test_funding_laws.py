"""Prices and funding under any flow: random trades, samples, ticks, clock jumps, dying sources.

once      a round for each funding time at most, whole intervals apart, one after the other
twin      lazy slices pay what an eager loop over all positions pays when a round begins
money     nothing appears or vanishes; what rounding keeps is the dust, less than a quantum each
mark      every reported mark and index is what fractions make of the inputs seen so far
replay    any shards, any rings, any interleaving: the same bytes, and what was proposed when an
          engine died is proposed again and ends the same way
"""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import pytest

from engine.recovery import kept_tables, state_digest
from engine.sequencer import LAST_TS_NS
from shm.codes import Kind, Side
from shm.units import PRODUCER_SHIFT
from tests.laws.test_engine_laws import replayed
from tests.model.prices_twin import payment_twin
from tests.venue import (
    ANN,
    CLOCK,
    DESK,
    PRODUCERS,
    SECOND,
    Venue,
    check_laws,
    check_reports,
)
from tools.inprocess import wal_rows

PLAIN = os.environ.get("NUMBA_DISABLE_JIT") == "1"
COMMANDS = 250 if PLAIN else 2500
SEEDS = range(1, 4 if PLAIN else 13)
SLICE = 2  # rows of a FUNDING, so that trades come between two
SHAPES = ((1, 256, 256, 1024), (2, 64, 64, 128), (3, 16, 8, 64))  # commands, matches, reports
SYMBOLS = 3
ACCOUNTS = range(ANN, ANN + 8)
INTERVALS = (7 * SECOND, 60 * SECOND, 0)
UNITS = (10, 7, 1)


def contract(r: random.Random, symbol: int) -> dict[str, int]:
    return {
        "symbol": symbol,
        "funding_interval_ns": INTERVALS[symbol - 1] if symbol else 11 * SECOND,
        "funding_first_ns": r.randrange(10**9),
        "impact_quanta": 30_000,
        "interest_ppb": r.choice((100_000_000, 0, -50_000_000)),
        "funding_clamp_ppb": r.choice((5_000_000, 900_000_000)),
        "funding_cap_ppb": 10**9,
        "funding_floor_ppb": -(10**9),
        "mark_band_ppm": 50_000,
        "source_clamp_ppm": 20_000,
        "source_stale_ns": 20 * SECOND,
        "breaker_ppm": r.choice((0, 30_000)),
        "breaker_window_ns": 10 * SECOND,
        "breaker_pause_ns": 5 * SECOND,
    }


def open_venue(v: Venue, r: random.Random) -> None:
    """Three perpetuals, the first with its mark set by hand, and eight accounts with money."""
    v.asset()
    for symbol in range(SYMBOLS):
        v.symbol(symbol, tick_lot_quanta=UNITS[symbol])
        v.send(Kind.CONTRACT, **contract(r, symbol))
        for source in range(symbol):
            v.send(Kind.SOURCE, symbol=symbol, source=source, weight=1 + source)
    for account in ACCOUNTS:
        v.account(account, 10**9)
    v.work()


class Run:
    """A venue whose prices, books and time move at random."""

    def __init__(self, seed: int) -> None:
        shards, commands, matches, reports = SHAPES[seed % len(SHAPES)]
        self.random = random.Random(seed)
        self.venue = v = Venue(
            funding_slice=SLICE,
            shards=shards,
            commands=commands,
            matches=matches,
            reports=reports,
            seed=seed,
        )
        open_venue(v, self.random)
        self.price = 1000

    def step(self) -> None:
        v, r = self.venue, self.random
        dice = r.random()
        symbol = r.randrange(SYMBOLS)
        if dice < 0.45:
            v.place(
                r.choice(ACCOUNTS),
                r.choice(list(Side)),
                self.price + r.randint(-6, 6),
                r.randint(1, 20),
                symbol=symbol,
            )
        elif dice < 0.6:
            v.send(Kind.TICK, ring=CLOCK)
        elif dice < 0.7:
            v.send(Kind.SAMPLE, ring=CLOCK, symbol=symbol)
        elif dice < 0.85:
            self.price = max(500, self.price + r.randint(-5, 5))
            v.send(
                Kind.SOURCE_PRICE,
                ring=CLOCK,
                symbol=symbol,
                source=r.randrange(2),
                source_ticks=r.choice((self.price,) * 12 + (1, 99_999)) + r.randint(0, 3),
                source_ns=v.now - r.choice((0, 0, 0, SECOND, 30 * SECOND)),
            )
        elif dice < 0.9:
            v.mark(self.price, r.choice((0, 0, 0, symbol)))
        elif dice < 0.98:
            v.wait(r.choice((SECOND // 10, SECOND, SECOND, 3 * SECOND, 300 * SECOND)))
        elif dice < 0.985:
            v.send(Kind.CONTRACT, **contract(r, symbol))
        else:
            v.send(Kind.SOURCE, symbol=2, source=1, weight=r.choice((0, 2)))

    def until(self, commands: int, check: bool = False) -> Venue:
        while len(self.venue.log) < commands:
            for _ in range(self.random.choice((1, 5, 30))):
                self.step()
            self.venue.work()
            if check:
                check_laws(self.venue)
        return self.venue


def check_rounds(reports: list[dict[str, Any]]) -> int:
    """Every round pays what an eager loop over the positions pays when it begins; how many."""
    lots: dict[tuple[int, int], int] = {}
    owed: dict[int, dict[int, int]] = {}  # symbol -> account -> amount, of the open round
    begun: dict[int, dict[str, Any]] = {}
    before: dict[int, int] = {}
    rounds = 0
    for x in reports:
        symbol = x["symbol"]
        if x["kind"] == "POSITION":
            lots[x["account"], symbol] = x["position_lots"]
        elif x["kind"] == "FUNDING_ROUND" and x["status"] == 0:
            assert symbol not in begun, "a round while another one is open"
            assert x["funding_ns"] > before.get(symbol, 0)
            assert x["next_ns"] > x["funding_ns"]
            begun[symbol], before[symbol] = x, x["funding_ns"]
            owed[symbol] = {
                account: payment_twin(size, x["mark_ticks"], UNITS[symbol], x["rate_ppb"])
                for (account, where), size in lots.items()
                if where == symbol and size
            }
        elif x["kind"] == "FUNDING":
            assert x["funding_ns"] == begun[symbol]["funding_ns"]
            assert x["amount_quanta"] == owed[symbol].pop(x["account"]), "not once, or not this"
            begun[symbol]["dust_quanta"] -= x["amount_quanta"]
            begun[symbol]["count"] = begun[symbol].get("count", 0) + 1
        elif x["kind"] == "FUNDING_ROUND":
            first = begun.pop(symbol)
            assert not owed[symbol], "somebody has not been paid"
            assert x["dust_quanta"] == first["dust_quanta"]
            assert 0 <= x["dust_quanta"] <= first.get("count", 0)
            rounds += 1
    assert not begun
    return rounds


@pytest.mark.parametrize("seed", SEEDS)
def test_everybody_is_paid_once_in_every_round(seed: int) -> None:
    v = Run(seed).until(COMMANDS, check=True)
    assert check_rounds(v.heard()) > 3
    check_reports(v)


@pytest.mark.parametrize("seed", SEEDS)
def test_replay_gives_the_same_bytes(seed: int) -> None:
    v = Run(seed + 100).until(COMMANDS)
    rows = wal_rows(v.log)
    for shards, rings in (
        (1, {"commands": 256, "matches": 8, "reports": 128}),
        (3, {"commands": 512, "matches": 64, "reports": 64}),
    ):
        arrays, reports = replayed(rows, v.limits, shards, 1 + seed % 5, **rings)
        assert reports.tobytes() == v.all_reports().tobytes()
        for name, kept in kept_tables(v.arrays, v.limits).items():
            assert kept_tables(arrays, v.limits)[name].tobytes() == kept.tobytes(), name
        assert state_digest(arrays, v.limits) == state_digest(v.arrays, v.limits)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_engine_that_dies_in_the_middle_goes_on(seed: int) -> None:
    """Cut the log anywhere: what was proposed is proposed again, and everybody is paid once."""
    v = Run(seed + 200).until(COMMANDS)
    rows = wal_rows(v.log)
    slices = np.flatnonzero(rows["kind"] == Kind.FUNDING)
    assert len(slices) > 3
    r = random.Random(seed)
    # Between a TICK that has begun a round and its first slice, and anywhere at all.
    cuts = [int(r.choice(slices)) for _ in range(3)] + [r.randrange(len(rows)) for _ in range(2)]
    for cut in cuts:
        again = Venue(seed=seed, log=v.log[:cut], funding_slice=SLICE)
        again.told = 0  # what was reported before belongs to the same rounds
        again.work()
        check_laws(again)
        check_rounds(again.heard())


def test_a_scripted_clock_gives_the_same_prices_whatever_the_interleaving() -> None:
    """Prices of a symbol that nobody trades in depend on nothing but what the clock has said."""

    def run(shards: int, seed: int | None) -> Any:
        v = Venue(shards=shards, matches=8, seed=seed, funding_slice=SLICE).open_market(symbols=2)
        r = random.Random(5)
        for symbol in range(2):
            v.send(Kind.CONTRACT, **contract(random.Random(3), symbol) | {"breaker_ppm": 0})
            v.send(Kind.SOURCE, symbol=symbol, source=0, weight=1)
        v.work()
        told = []
        for _ in range(COMMANDS // 10):
            for symbol in range(2):
                ticks = 1000 + r.randint(-20, 20)
                v.send(
                    Kind.SOURCE_PRICE,
                    ring=CLOCK,
                    symbol=symbol,
                    source_ticks=ticks,
                    source_ns=v.now,
                )
                v.send(Kind.SAMPLE, ring=CLOCK, symbol=symbol)
            v.send(Kind.TICK, ring=CLOCK)
            v.work()
            v.wait(SECOND)
            told += [(x["symbol"], x["mark_ticks"]) for x in v.heard() if x["kind"] == "PRICE"]
        return sorted(told), state_of_prices(v)

    def state_of_prices(v: Venue) -> Any:
        return v.arrays["contracts"].tobytes(), v.arrays["symbols"]["mark_ticks"].tolist()

    first = run(1, None)
    assert len(first[0]) > 20 and run(3, 7) == run(2, 8) == first


def script_of(seed: int, steps: int) -> list[tuple[int, Kind, int, dict[str, Any]]]:
    """What clock and traders send, and when, without looking at what comes of it."""
    run = Run(seed)
    sent: list[tuple[int, Kind, int, dict[str, Any]]] = []
    v = run.venue
    at = v.now

    def send(kind: int, *, ring: int = DESK, **fields: Any) -> int:
        sent.append((at, Kind(kind), ring, fields))
        return 0

    def wait(ns: int) -> None:
        nonlocal at
        at += ns
        v.sequencer[LAST_TS_NS] = at

    v.send, v.wait = send, wait  # type: ignore[method-assign]
    while len(sent) < steps:
        run.step()
    return sent


def play(seed: int, script: list[tuple[int, Kind, int, dict[str, Any]]], deaths: bool) -> Venue:
    """The script from an empty venue on; with deaths, what nobody had logged is sent again."""
    r = random.Random(seed)
    v = Venue(funding_slice=SLICE)
    open_venue(v, random.Random(seed))
    for at, kind, ring, fields in script:
        v.sequencer[LAST_TS_NS] = at
        number = v.send(kind, ring=ring, **fields)
        if deaths and r.random() < 0.15:
            numbers = list(v.numbers)
            v.feed()
            for _ in range(r.randrange(8)):
                r.choice((v.sequence, v.risk, v.match, v.risk))()
                v.journal(r.randint(0, 2))
            v = v.successor()
            v.numbers = numbers
            v.sequencer[LAST_TS_NS] = at
            request = (PRODUCERS[ring].id << PRODUCER_SHIFT) | number
            if request not in {int(c["request"]) for c in v.log}:
                v.send(kind, ring=ring, request=number, **fields)
        v.work()
    return v


@pytest.mark.parametrize("seed", SEEDS)
def test_deaths_change_nothing_when_what_was_lost_is_sent_again(seed: int) -> None:
    """With a scripted clock: the same digest, the same bytes of reports and of state."""
    script = script_of(seed, COMMANDS // 2)
    whole, broken = play(seed, script, False), play(seed, script, True)
    check_laws(whole)
    broken.told = 0
    assert check_rounds(broken.heard()) > 0
    assert broken.all_reports().tobytes() == whole.all_reports().tobytes()
    assert broken.venue["reports_digest"] == whole.venue["reports_digest"]
    assert state_digest(broken.arrays, broken.limits) == state_digest(whole.arrays, whole.limits)
