"""Funding of very many positions, and what it does to the orders that come meanwhile.

    python -m bench.funding [--smoke] [--json] [--out DIR] [--positions N]

One thread runs sequence, risk, match and settle over private memory; nothing is written to disk, so
what is measured is the engine's own work. N positions of one symbol are funded: slices alone, for
the rate; then with orders that come at a fixed rate (open loop: an order's time counts from when
it was to be sent, so waiting for a slice is in it), and the same while another thread sweeps the
tables for unsafe accounts again and again, as the clock process does once after a new mark. A mark
update with all positions in the symbol is timed by the turn.

Checked: everybody was paid once, and the money sums up with the dust.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Final

import numpy as np

from bench.harness import (
    LAST_NS,
    Report,
    apart,
    parser,
    stalls_of,
    with_backlog,
    witness,
    witness_cells,
)
from engine import pipeline
from engine.liquidation_scan import sweep
from engine.pipeline import Engine, Stage, turn
from engine.recovery import fresh_arrays
from engine.sequencer import LAST_TS_NS
from engine.setup import SLICE
from engine.state import Limits
from shm import ingress
from shm.atomics import CLOCK_MONOTONIC, clock_ns, store_release
from shm.codes import Kind, Side, State, Tif
from shm.config import Producer
from shm.cursors import (
    JOURNALED,
    REPORTS_READ,
    REPORTS_WRITTEN,
    RISKED,
    SEQUENCED,
    SETTLED,
)
from shm.jit import inlined, kernel
from shm.kinds import command
from shm.pointers import Cells, array_of, table
from shm.units import DUST_ACCOUNT, NIL, SYSTEM_ACCOUNTS

POSITIONS: Final = 1_000_000
HOUR_NS: Final = 3_600_000_000_000
SLOTS: Final = (
    65_536  # an ingress ring that takes the orders of half a second in which nothing runs
)
RATE: Final = 100_000  # orders a second
ORDERS: Final = 50_000

Spans = np.ndarray[Any, Any]  # int64 (n, 2): when an order was to be sent, when its report was out

STALL_NS: Final = 20_000  # longer than any turn of the stages here
ALL: Final = int(Stage.SEQUENCE | Stage.RISK | Stage.MATCH | Stage.SETTLE)


@inlined
def _turn(e: Engine) -> None:
    """All stages once; the journal and whoever reads reports keep up at once."""
    turn(e, ALL, 1)
    store_release(e.cursors, JOURNALED, e.cursors[RISKED])
    store_release(e.cursors, REPORTS_READ, e.cursors[REPORTS_WRITTEN])


@kernel
def rounds(e: Engine, most: int, times: Cells) -> int:
    """`most` turns of all stages, or until no funding is open; returns how many there were.

    times   int64: how long each turn took, ns
    """
    count = 0
    while count < most:
        begun = clock_ns(CLOCK_MONOTONIC)
        _turn(e)
        times[count] = clock_ns(CLOCK_MONOTONIC) - begun
        count += 1
        if e.risk.contracts[0]["funding_open"] == 0:
            break
    return count


@kernel
def open_loop(
    e: Engine,
    ring: Cells,
    capacity: int,
    row: Cells,
    every_ns: int,
    most: int,
    funded: bool,
    times: Cells,
    stalls: Cells,
    stall_cells: int,
) -> int:
    """`most` orders, one each `every_ns`, whatever becomes of those before; returns how many.

    row      the order to send
    funded   only as long as a funding is open
    times    int64: when each was to be sent, when its report was out, ns
    """
    sent = 0
    done = 0
    first = clock_ns(CLOCK_MONOTONIC) + every_ns
    while done < most:
        now = witness(stalls, stall_cells, STALL_NS)
        while sent < most and first + sent * every_ns <= now:
            row[2] += 1
            assert ingress.push_many(ring, capacity, row, 0, 1) == 1
            sent += 1
        _turn(e)
        # One turn takes every order that is there through all stages, whatever comes before it.
        if ring[ingress.HEAD] == ring[ingress.TAIL] and e.cursors[SETTLED] == e.cursors[SEQUENCED]:
            now = clock_ns(CLOCK_MONOTONIC)
            while done < sent:
                times[2 * done] = first + done * every_ns
                times[2 * done + 1] = now
                done += 1
        if funded and e.risk.contracts[0]["funding_open"] == 0:
            break
    return done


class Rig:
    """An engine whose one symbol has `positions` positions, half of them long."""

    def __init__(self, positions: int) -> None:
        self.positions = positions
        accounts = positions + SYSTEM_ACCOUNTS
        limits = Limits(
            accounts=accounts,
            assets=1,
            symbols=1,
            positions=positions + 16,
            orders=4096,
            clients=16,
        )
        arrays = self.arrays = fresh_arrays(limits, commands=8192, reports=65536)
        self.ring = np.zeros(ingress.SLOTS + SLOTS * ingress.SLOT_WORDS, np.int64)
        ingress.format_ring(
            self.ring, Producer(name="bench", id=1, kinds=("any",), privileged=True), SLOTS
        )
        self.engine = pipeline.engine_of(
            arrays, limits, checkpoint_every=1 << 40, funding_slice=SLICE, rings=(self.ring,)
        )
        self.number = 0
        self.times = np.zeros(1 << 20, np.int64)
        self.stalls = np.zeros(witness_cells(), np.int64)
        self.send(Kind.ASSET, asset=0, scale=6, name="USDT")
        self.send(
            Kind.SYMBOL,
            symbol=0,
            tick_lot_quanta=100,
            qty_lots_min=1,
            qty_lots_max=1_000_000,
            price_ticks_min=1,
            price_ticks_max=1_000_000,
            leverage_max=100,
            leverage_default=20,
            orders_max=1_000_000,
        )
        self.send(
            Kind.CONTRACT,
            symbol=0,
            funding_interval_ns=HOUR_NS,
            interest_ppb=800_000,
            funding_clamp_ppb=10**9,
            funding_cap_ppb=10**9,
            source_clamp_ppm=5_000,
            breaker_ppm=900_000,
            breaker_window_ns=10**9,
            breaker_pause_ns=10**9,
        )
        self.send(Kind.MARK, symbol=0, mark_ticks=600_000)
        self._fill()

    def _fill(self) -> None:
        """Positions as trades among neighbours would have made them."""
        a, n = self.arrays, self.positions
        rows = a["positions"][:n]
        at = np.arange(n)
        lots = (1 + at // 2 % 977) * np.where(at % 2 == 0, 1, -1)
        rows["lots"], rows["entry_quanta"] = lots, lots * 600_000 * 100
        rows["account"] = rows["wallet"] = SYSTEM_ACCOUNTS + at
        rows["next_position"] = rows["first_closer"] = rows["last_closer"] = NIL
        rows["countdown_heap"] = NIL
        rows["leverage"] = 20
        rows["next_in_symbol"] = np.where(at < n - 1, at + 1, NIL)
        a["accounts"]["state"][SYSTEM_ACCOUNTS:] = State.TRADING
        a["accounts"]["first_position"][SYSTEM_ACCOUNTS:] = at
        a["wallets"]["wallet_quanta"][SYSTEM_ACCOUNTS:] = 10**15
        a["symbols"][0]["first_position"], a["symbols"][0]["last_position"] = 0, n - 1
        a["symbols"][0]["open_lots"] = lots[lots > 0].sum()
        a["venue"]["positions_used"] = n

    def row(self, kind: Kind, **fields: Any) -> np.ndarray[Any, Any]:
        self.number += 1
        return command(kind, request=self.number, **fields)

    def send(self, kind: Kind, **fields: Any) -> None:
        """One command, through."""
        made = self.row(kind, **fields)
        ingress.push_many(table(self.ring), SLOTS, table(made.view(np.int64)), 0, 1)
        self.turns(1)

    def turns(self, most: int) -> int:
        return int(rounds(self.engine, most, table(self.times)))

    def orders(self, most: int, funded: bool = False) -> Spans:
        """Orders that find nobody to trade with, RATE a second."""
        order = command(
            Kind.PLACE,
            account=SYSTEM_ACCOUNTS,
            symbol=0,
            side=Side.BUY,
            price_ticks=1,
            qty_lots=1,
            tif=Tif.IOC,
            request=self.number,
        )
        where = (table(self.ring), SLOTS, table(order.view(np.int64)), 10**9 // RATE)
        self.stalls[LAST_NS] = 0  # Python between two runs is no stall
        seen = (table(self.stalls), len(self.stalls))
        done = open_loop(self.engine, *where, most, funded, table(self.times), *seen)
        self.number = int(order["request"][0])
        return self.times[: 2 * done].reshape(-1, 2).copy()

    def due(self) -> None:
        """The next command is sequenced at the next funding time."""
        array = array_of(self.engine.sequencer)
        array[LAST_TS_NS] = int(self.arrays["contracts"][0]["funding_next_ns"])
        array[LAST_TS_NS] = max(array[LAST_TS_NS], time.time_ns() + 2 * HOUR_NS)

    def fund(self) -> tuple[float, int]:
        """One round, alone: ns of this thread a position, and how many turns it took."""
        self.due()
        self.send(Kind.TICK)
        begun = time.thread_time_ns()
        count = self.turns(len(self.times))
        return (time.thread_time_ns() - begun) / self.positions, count

    def beside_funding(self, rounds: int) -> Spans:
        """Orders while so many rounds are paid."""
        found = []
        for _ in range(rounds):
            self.due()
            self.send(Kind.TICK)
            found.append(self.orders(len(self.times) // 2, funded=True))
            self.turns(len(self.times))  # what was sent and not taken when the last was paid
        return np.concatenate(found)

    def beside_sweeps(self, most: int) -> tuple[Spans, list[float]]:
        """Orders while a thread sweeps, and ms of that thread a sweep."""
        end = threading.Event()
        spent_ms: list[float] = []

        def look() -> None:
            while True:  # once at least, however late it gets a core
                begun = time.thread_time_ns()
                at, found = sweep(self.arrays, 0, self.positions + SYSTEM_ACCOUNTS)
                assert found == [] and at == self.positions + SYSTEM_ACCOUNTS
                spent_ms.append((time.thread_time_ns() - begun) / 1e6)
                if end.is_set():
                    return

        thread = threading.Thread(target=look)
        thread.start()
        times = self.orders(most)
        end.set()
        thread.join()
        return times, spent_ms

    def check(self, times: int) -> None:
        """Everybody was paid in every round, and nothing is lost."""
        a = self.arrays
        assert (a["positions"]["funding_round"][: self.positions] == times).all()
        assert a["wallets"]["funding_quanta"].sum() == 0
        assert 0 <= a["wallets"]["wallet_quanta"][DUST_ACCOUNT] < times * self.positions
        assert a["contracts"][0]["funding_round"] == times


def _waits(case: str, spans: Spans, stalls: np.ndarray[Any, Any]) -> dict[str, Any]:
    """How long orders took, and the same without those that met a stall of this thread."""
    took = spans[:, 1] - spans[:, 0]
    due, out = spans[:, 0].copy(), spans[:, 1].copy()
    calm = took[~with_backlog(apart(due, out, stalls_of(stalls)), due, out)]
    # On a busy host a short run may have none.
    p99, p999 = np.percentile(calm, (99, 99.9)) / 1e3 if len(calm) else (0.0, 0.0)
    return {
        "case": case,
        "orders": len(took),
        **_spread(took),
        "calm": len(calm),
        "calm p99 us": p99,
        "calm p99.9 us": p999,
    }


def _spread(times: np.ndarray[Any, Any]) -> dict[str, float]:
    cuts = np.percentile(times, (50, 99, 99.9))
    return {
        "p50 us": cuts[0] / 1e3,
        "p99 us": cuts[1] / 1e3,
        "p99.9 us": cuts[2] / 1e3,
        "max us": times.max() / 1e3,
    }


def main(argv: list[str] | None = None) -> None:
    made = parser("funding", __doc__)
    made.add_argument("--positions", type=int, default=POSITIONS)
    chosen = made.parse_args(argv)
    report = Report("funding", chosen)
    positions = 5_000 if chosen.smoke else chosen.positions
    rig = Rig(positions)
    runs = [rig.fund() for _ in range(2 if chosen.smoke else 5)]
    per = sorted(ns for ns, _ in runs)[len(runs) // 2]
    report.table(
        f"funding of {positions:,} positions, one thread, nothing else to do",
        [{"ns a position": per, "M positions/s": 1e3 / per, "slices": runs[-1][1]}],
    )
    times = 2 if chosen.smoke else 5
    most = 2_000 if chosen.smoke else ORDERS
    rig.orders(most)
    alone = rig.orders(most)
    beside = rig.beside_funding(times)
    swept, sweeps_ms = rig.beside_sweeps(most)
    report.table(
        f"an order's way through the stages, {RATE:,} orders/s, open loop",
        [
            _waits("alone", alone, rig.stalls),
            _waits("while funding is paid", beside, rig.stalls),
            _waits("while sweeps go on", swept, rig.stalls),
        ],
    )
    report.note(
        "calm: without the orders that met a stall (something else had the core for over"
        f" {STALL_NS // 1000} us) or queued behind it"
    )
    report.table(
        f"sweeps over {positions:,} accounts meanwhile, the thread's own time",
        [{"sweeps": len(sweeps_ms), "median ms": float(np.median(sweeps_ms))}],
    )
    rig.check(len(runs) + times)
    marks = []
    for k in range(200 if chosen.smoke else 5_000):
        rig.send(Kind.MARK, symbol=0, mark_ticks=600_000 + k % 2)
        marks.append(int(rig.times[0]))
    report.table(
        f"a new mark, with {positions:,} positions in the symbol",
        [{"case": "one turn", **_spread(np.array(marks))}],
    )
    report.finish()


if __name__ == "__main__":
    main()
