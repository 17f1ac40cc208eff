"""Replay: the same kernels over commands from the WAL, interleaved exactly as they were.

Reads   COMMAND rows with the settlement each was decided after (`settled_seq`), in order.
Writes  the state in the arrays it is given, and reports: those that were logged are compared right
        after they are derived, all others go to a sink in order.
Never   sequences, journals or proposes: what is pending stays marked in the state.

Recovery, snapshots, verification and a standby are all this one thing with different sinks.
Every CHECKPOINT carries the digest of all reports before it; the first one that differs from what
replay derives stops it with `Diverged`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np

from engine import hashmap
from engine.pipeline import BATCH, SETTLE_BATCH, Arrays, Engine, engine_of, replay_turn
from engine.risk import warm
from engine.setup import COMMAND_MASK, ORDER_BITS, REPORT_MASK
from engine.state import Limits
from shm.arithmetic import wide
from shm.atomics import prefetch, prefetch_line
from shm.cursors import (
    JOURNALED,
    PUBLISHED,
    REPORTS_CLAIMED,
    REPORTS_JOURNALED,
    REPORTS_READ,
    REPORTS_WRITTEN,
    RISKED,
    SEQUENCED,
    SETTLED,
    matched,
    matches_read,
    matches_written,
)
from shm.jit import PLAIN, entry_of, inlined, kernel
from shm.pointers import Cells, cells_at, table
from shm.records import REPORT

Sink = Callable[[int, np.ndarray[Any, Any]], None]  # (index of the first, REPORT rows)


class Logged(Protocol):
    """Reports that were written once, and that a replay must derive again."""

    def window(self, index: int) -> tuple[int, int]:
        """(address, end) of those from `index` on as far as they lie in memory; address 0: nothing
        is known of those below `end`, they are passed over. `end` = `index`: no more are known."""

    def differs(self, index: int, derived: np.ndarray[Any, Any]) -> None:
        """Report `index` was derived otherwise; returns when nothing from it on is known then."""


EVERYTHING: Final = (1 << 63) - 1  # as `last` of replay_rows: settle everything

_WORDS = 32
_REPORT_WORDS = REPORT.dtype.itemsize // 8
_LOGGED_AHEAD = 48 * _REPORT_WORDS  # they come out of memory, or out of the other core
_LAG = 512  # commands between risk and settlement that the cache forgets
_WARM = 32  # commands whose rows are asked for at once
_FEED = 256  # commands laid out ahead of risk: they stay in the second-level cache

# Cells of a replay: the reports to compare with, and what came of it.
R_ADDRESS: Final = 0  # of report R_FIRST as it was written; 0: nothing is compared
R_FIRST: Final = 1
R_END: Final = 2  # reports below this index are compared, or passed over
R_DIFFERS: Final = 3  # 1 + index of the first that was derived otherwise, 0: none
R_STALLED: Final = 4  # 1: nothing moves until there are more commands, or room for reports
REPLAY_CELLS: Final = 8
_MATCHED = matched(0)
_SHARD_CELLS = matched(1) - matched(0)
_SETTLED = 24  # word of settled_seq: the first of line 3


class Diverged(Exception):
    """Replay derived other reports than the ones the WAL vouches for."""


@inlined
def _compare(e: Engine, cells: Cells) -> int:
    """Go over the reports written since, word by word beside those that were; returns how many."""
    read = e.cursors[REPORTS_READ]
    stop = min(e.cursors[REPORTS_WRITTEN], cells[R_END])
    if read >= stop:
        return 0
    at = read
    if cells[R_ADDRESS] != 0:
        first = cells[R_FIRST]
        mask = e.setup[REPORT_MASK]
        derived = e.out.words
        logged = cells_at(cells[R_ADDRESS], (cells[R_END] - first) * _REPORT_WORDS)
        while at < stop:
            a = (at & mask) * _REPORT_WORDS
            b = (at - first) * _REPORT_WORDS
            prefetch(logged, b + _LOGGED_AHEAD)
            other = 0
            for k in range(_REPORT_WORDS):
                other |= derived[a + k] ^ logged[b + k]
            if other != 0:
                cells[R_DIFFERS] = at + 1
                break
            at += 1
    else:  # nobody knows them, or wants them
        at = stop
    e.cursors[REPORTS_READ] = at
    return at - read


@inlined
def _fetch_settled(e: Engine, first: int, last: int) -> None:
    """Ask for what decided commands first..last will end: the orders' rows, and their entries."""
    mask = e.setup[COMMAND_MASK]
    orders = e.setup[ORDER_BITS]
    for seq in range(first, last + 1):
        c = e.commands.base[seq & mask]
        slot = wide(c["slot"])
        prefetch_line(e.risk.claims, slot, 0)
        prefetch_line(e.risk.claims, slot, 1)
        entry = 2 * hashmap.home(c["decided_order_id"], orders)
        prefetch(e.risk.order_index, entry)
        prefetch(e.risk.order_index, entry + 2)


@kernel
def replay_rows(
    e: Engine, shards: int, source: Cells, first: int, count: int, last: int, cells: Cells
) -> int:
    """Feed rows of `source` and work on until all are decided, or reports must be taken away.

    source    COMMAND rows as cells
    first     row to begin with; `count` rows in all
    last      settlement goes so far where no command follows that says how far
    cells     REPLAY_CELLS: reports in memory are compared and taken away in here
    returns   the row to go on with; call again while it is below `count` or there are reports
    """
    cells[R_STALLED] = 0
    v = e.risk.venue[0]
    mask = e.setup[COMMAND_MASK]
    half = (e.setup[REPORT_MASK] + 1) // 2
    row = first
    warmed = v["risked_seq"]
    fetched = v["settled_seq"]
    while True:
        seq = e.cursors[SEQUENCED]
        passed = v["settled_seq"]
        for shard in range(shards):
            passed = min(passed, e.cursors[_MATCHED + shard * _SHARD_CELLS])
        ahead = min(passed + mask, v["risked_seq"] + _FEED)
        while row < count and seq <= ahead:
            seq += 1
            to = (seq & mask) * _WORDS
            assert source[row * _WORDS] == seq
            for k in range(_WORDS):
                e.commands.words[to + k] = source[row * _WORDS + k]
            row += 1
        e.cursors[SEQUENCED] = seq
        if not PLAIN and warmed < min(v["risked_seq"] + BATCH, seq):
            # All that risk may decide in a turn, however few it does: every row is asked for once.
            upto = min(v["risked_seq"] + BATCH + _WARM, seq)
            warm(e.risk, e.setup, e.commands, max(warmed, v["risked_seq"]) + 1, upto)
            warmed = upto
        # Settlement may go as far as the next command to be decided saw it.
        following = v["risked_seq"] + 1
        if following <= seq:
            upto = e.commands.base[following & mask]["settled_seq"]
        elif row < count:
            upto = source[row * _WORDS + _SETTLED]
        else:
            upto = last
        if not PLAIN and v["risked_seq"] - v["settled_seq"] > _LAG:
            # What risk had asked for is out of the cache again before it is settled.
            stop = min(v["settled_seq"] + SETTLE_BATCH, upto)
            _fetch_settled(e, max(fetched, v["settled_seq"]) + 1, stop)
            fetched = max(fetched, stop)
        did = replay_turn(e, shards, upto) + _compare(e, cells)
        if did == 0:
            cells[R_STALLED] = 1
            return row
        if v["diverged_seq"] != 0 or cells[R_DIFFERS] != 0:
            return row
        if e.cursors[REPORTS_WRITTEN] - e.cursors[REPORTS_READ] > half:
            return row


class Replayer:
    """A state and the commands that go on from it.

    arrays    state tables and rings (pipeline.allocate_rings, or an instance's own)
    sink      is given every report in order; None when nobody wants them
    logged    has reports to compare with: those are not given to the sink
    engine    `engine_of` these arrays, by who has made it already
    """

    def __init__(
        self,
        arrays: Arrays,
        limits: Limits,
        shards: int = 1,
        sink: Sink | None = None,
        engine: Engine | None = None,
        logged: Logged | None = None,
    ) -> None:
        self.arrays = arrays
        self.limits = limits
        self.shards = shards
        self.sink = sink
        self.logged = logged
        self.engine = engine or engine_of(arrays, limits, shards=shards)
        self._cells = np.zeros(REPLAY_CELLS, np.int64)
        if sink is None and logged is None:
            self._cells[R_END] = EVERYTHING
        self._table = table(self._cells)
        none = table(_NO_WORDS)
        self._replay = entry_of(replay_rows, self.engine, shards, none, 0, 0, 0, self._table)
        self.venue = arrays["venue"][0]
        cursors = arrays["cursors"]
        seq, count = int(self.venue["settled_seq"]), int(self.venue["reports_count"])
        assert seq == int(self.venue["risked_seq"])
        for cell in (SEQUENCED, RISKED, SETTLED, JOURNALED, PUBLISHED):
            cursors[cell] = seq
        for cell in (REPORTS_CLAIMED, REPORTS_WRITTEN, REPORTS_READ, REPORTS_JOURNALED):
            cursors[cell] = count
        for shard in range(shards):
            cursors[matched(shard)] = seq
            assert cursors[matches_written(shard)] == cursors[matches_read(shard)]

    @property
    def seq(self) -> int:
        """The last command replayed."""
        return int(self.venue["risked_seq"])

    def feed(self, rows: np.ndarray[Any, Any], end: bool = False) -> None:
        """Replay COMMAND rows that follow the last one; `end`: nothing comes after them."""
        source = table(np.ascontiguousarray(rows).view(np.int64) if len(rows) else _NO_WORDS)
        last = EVERYTHING if end else 0
        row, cells = 0, self._cells
        while True:
            row = self._replay(self.engine, self.shards, source, row, len(rows), last, self._table)
            stalled = cells[R_STALLED] != 0
            taken = self._drain()
            if self.venue["diverged_seq"]:
                seq = int(self.venue["diverged_seq"])
                raise Diverged(
                    f"the reports derived before command {seq} have another digest than its "
                    f"CHECKPOINT says ({int(self.venue['reports_digest']) & _MASK:016x} after "
                    f"{int(self.venue['reports_count'])} reports). The commands up to there were "
                    "written by another release, or a table of this build is wrong"
                )
            if stalled and not taken:
                break
        if len(rows) and self.seq != int(rows["seq"][-1]):
            raise Diverged(
                f"command {self.seq + 1} was decided {self.arrays['commands'].size} or more "
                "commands ahead of settlement. Raise rings.commands to what it was then"
            )
        if end:
            assert self.venue["settled_seq"] == self.venue["risked_seq"] == self.seq

    def _drain(self) -> bool:
        """Have the reports that were not compared taken away; whether there were any.

        They are compared in the kernel where they are known, and go to the sink where not.
        """
        cursors, ring, cells = self.arrays["cursors"], self.arrays["reports"], self._cells
        at, last = int(cursors[REPORTS_READ]), int(cursors[REPORTS_WRITTEN])
        if cells[R_DIFFERS]:
            assert self.logged is not None and cells[R_DIFFERS] == at + 1
            self.logged.differs(at, ring[at % len(ring) : at % len(ring) + 1])
            cells[R_DIFFERS] = 0
            cells[R_END] = at
        if at == last:
            return False
        if self.logged is not None:
            address, end = self.logged.window(at)
            if end > at:
                cells[R_ADDRESS], cells[R_FIRST], cells[R_END] = address, at, end
                return True
        while at < last:
            slot = at % len(ring)
            count = min(last - at, len(ring) - slot)
            if self.sink is not None:
                self.sink(at, ring[slot : slot + count])
            at += count
        cursors[REPORTS_READ] = last
        return True


_NO_WORDS = np.zeros(_WORDS, np.int64)
_MASK = (1 << 64) - 1
