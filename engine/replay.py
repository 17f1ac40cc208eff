"""Replay: the same kernels over commands from the WAL, interleaved exactly as they were.

Reads   COMMAND rows with the settlement each was decided after (`settled_seq`), in order.
Writes  the state in the arrays it is given, and reports, which go to a sink in order.
Never   sequences, journals or proposes: what is pending stays marked in the state.

Recovery, snapshots, verification and a standby are all this one thing with different sinks.
Every CHECKPOINT carries the digest of all reports before it; the first one that differs from what
replay derives stops it with `Diverged`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from engine.pipeline import Arrays, Engine, engine_of, replay_turn
from engine.setup import COMMAND_MASK, REPORT_MASK
from engine.state import Limits
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
from shm.jit import kernel
from shm.pointers import Cells, table

Sink = Callable[[int, np.ndarray[Any, Any]], None]  # (index of the first, REPORT rows)

EVERYTHING: Final = (1 << 63) - 1  # as `last` of replay_rows: settle everything

_WORDS = 32
_MATCHED = matched(0)
_SHARD_CELLS = matched(1) - matched(0)
_SETTLED = 24  # word of settled_seq: the first of line 3


class Diverged(Exception):
    """Replay derived other reports than the ones the WAL vouches for."""


@kernel
def replay_rows(e: Engine, shards: int, source: Cells, first: int, count: int, last: int) -> int:
    """Feed rows of `source` and work on until all are decided, or reports must be taken away.

    source    COMMAND rows as cells
    first     row to begin with; `count` rows in all
    last      settlement goes so far where no command follows that says how far
    returns   the row to go on with; call again while it is below `count` or there are reports
    """
    v = e.risk.venue[0]
    mask = e.setup[COMMAND_MASK]
    half = (e.setup[REPORT_MASK] + 1) // 2
    row = first
    while True:
        seq = e.cursors[SEQUENCED]
        passed = v["settled_seq"]
        for shard in range(shards):
            passed = min(passed, e.cursors[_MATCHED + shard * _SHARD_CELLS])
        while row < count and seq - passed <= mask:
            seq += 1
            to = (seq & mask) * _WORDS
            assert source[row * _WORDS] == seq
            for k in range(_WORDS):
                e.commands.words[to + k] = source[row * _WORDS + k]
            row += 1
        e.cursors[SEQUENCED] = seq
        # Settlement may go as far as the next command to be decided saw it.
        following = v["risked_seq"] + 1
        if following <= seq:
            upto = e.commands.base[following & mask]["settled_seq"]
        elif row < count:
            upto = source[row * _WORDS + _SETTLED]
        else:
            upto = last
        did = replay_turn(e, shards, upto)
        if did == 0 or v["diverged_seq"] != 0:
            return row
        if e.cursors[REPORTS_WRITTEN] - e.cursors[REPORTS_READ] > half:
            return row


class Replayer:
    """A state and the commands that go on from it.

    arrays    state tables and rings (pipeline.allocate_rings, or an instance's own)
    sink      is given every report in order; None when nobody wants them
    engine    `engine_of` these arrays, by who has made it already
    """

    def __init__(
        self,
        arrays: Arrays,
        limits: Limits,
        shards: int = 1,
        sink: Sink | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.arrays = arrays
        self.limits = limits
        self.shards = shards
        self.sink = sink
        self.engine = engine or engine_of(arrays, limits, shards=shards)
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
        row = 0
        while True:
            before = (row, self._progress())
            row = replay_rows(self.engine, self.shards, source, row, len(rows), last)
            taken = self._drain()
            if self.venue["diverged_seq"]:
                seq = int(self.venue["diverged_seq"])
                raise Diverged(
                    f"the reports derived before command {seq} have another digest than its "
                    f"CHECKPOINT says ({int(self.venue['reports_digest']) & _MASK:016x} after "
                    f"{int(self.venue['reports_count'])} reports). The commands up to there were "
                    "written by another release, or a table of this build is wrong"
                )
            if row == len(rows) and not taken and before == (row, self._progress()):
                break
        if end:
            assert self.venue["settled_seq"] == self.venue["risked_seq"] == self.seq
        if len(rows) and self.seq != int(rows["seq"][-1]):
            raise Diverged(
                f"command {self.seq + 1} was decided {self.arrays['commands'].size} or more "
                "commands ahead of settlement. Raise rings.commands to what it was then"
            )

    def _progress(self) -> tuple[int, int, int]:
        v = self.venue
        return int(v["risked_seq"]), int(v["settled_seq"]), int(v["reports_count"])

    def _drain(self) -> int:
        """Hand reports to the sink and free their slots; returns how many there were."""
        cursors, ring = self.arrays["cursors"], self.arrays["reports"]
        first, last = int(cursors[REPORTS_READ]), int(cursors[REPORTS_WRITTEN])
        at = first
        while at < last and self.sink is not None:
            slot = at % len(ring)
            count = min(last - at, len(ring) - slot)
            self.sink(at, ring[slot : slot + count])
            at += count
        cursors[REPORTS_READ] = last
        return last - first


_NO_WORDS = np.zeros(_WORDS, np.int64)
_MASK = (1 << 64) - 1
