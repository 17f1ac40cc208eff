"""Where every stage has got to: one int64 each, on cache lines of its own.

A cursor is written by one stage with store_release and read by others with load_acquire, and
nothing else is shared between them. Commands are counted from 1 (0: none yet); records of the
matches and reports rings are counted from 0, and a cursor holds how many.

    per command   SEQUENCED >= RISKED >= matched(shard) >= SETTLED   JOURNALED, PUBLISHED behind
    per record    matches_written(shard) >= matches_read(shard)
                  REPORTS_CLAIMED >= REPORTS_WRITTEN >= REPORTS_JOURNALED >= REPORTS_READ

Who waits for whom
    sequencer   a slot is free when SETTLED, JOURNALED and every shard have passed the command in it
    risk        SEQUENCED; never between two matches of one command
    match       RISKED; room in its matches ring
    settle      matched records; room in the reports ring (REPORTS_READ)
    journal     RISKED for the WAL; REPORTS_WRITTEN, up to JOURNALED, for the report log
    followers   REPORTS_JOURNALED, and REPORTS_CLAIMED to notice that they were lapped
"""

from __future__ import annotations

from typing import Final

from shm.units import SHARDS_MAX

STRIDE: Final = 16  # int64 cells: 128 bytes, because the prefetcher pulls lines in pairs

SEQUENCED: Final = 0 * STRIDE  # highest sequence number published in the commands ring
RISKED: Final = 1 * STRIDE  # highest command risk has decided
SETTLED: Final = 2 * STRIDE  # highest command wholly settled, its reports written
JOURNALED: Final = 3 * STRIDE  # highest command whose WAL block is durable
PUBLISHED: Final = 4 * STRIDE  # highest command whose reports went out over ZeroMQ
REPORTS_CLAIMED: Final = 5 * STRIDE  # slots settle may be overwriting: index < CLAIMED + ...
REPORTS_WRITTEN: Final = 6 * STRIDE  # reports complete in the ring
REPORTS_READ: Final = 7 * STRIDE  # reports that are in the report log: their slots are free
REPORTS_JOURNALED: Final = 8 * STRIDE  # reports anybody outside may read
PROPOSALS: Final = 9 * STRIDE  # cancels settlement has proposed and the sequencer has not taken
CUT: Final = 10 * STRIDE  # nonzero: somebody asks for no new openings, CUT_...
_SHARD: Final = 16 * STRIDE

CUT_DISK: Final = 1  # the journal: the disk is nearly full
CUT_CLOCK: Final = 2  # the supervisor: the host's clock is off

CURSOR_CELLS: Final = _SHARD + 3 * SHARDS_MAX * STRIDE


def matched(shard: int) -> int:
    """Highest command this shard is done with. Kernels take the cell index as an argument."""
    return _SHARD + (3 * shard) * STRIDE


def matches_written(shard: int) -> int:
    """Records this shard has written to its matches ring."""
    return _SHARD + (3 * shard + 1) * STRIDE


def matches_read(shard: int) -> int:
    """Records of this shard's matches ring that settlement has consumed."""
    return _SHARD + (3 * shard + 2) * STRIDE


# ---------------------------------------------------------------- one doorbell a worker

# Two lines a worker: one that everybody reads and hardly anybody writes, one that only it writes.
DOORBELL_CELLS: Final = 32
DOORBELLS_MAX: Final = 62  # a set of workers is the bits of an int64

SLEEP: Final = 0  # futex: 1 while the worker sleeps or is about to, else 0
STOP: Final = 1  # 1: leave the loop, whatever there is to do
HEARTBEAT_NS: Final = STRIDE  # CLOCK_MONOTONIC when the worker last came by
PROGRESS: Final = STRIDE + 1  # units of work done since it started
SLEEPS: Final = STRIDE + 2  # times it went to sleep
TIMEOUTS: Final = STRIDE + 5  # times nobody rang before the sleep was over
WORKER_PID: Final = STRIDE + 3
EPOCH: Final = STRIDE + 4  # of the engine start that the worker belongs to; set when it is ready


def doorbell(worker: int) -> int:
    """First cell of a worker's doorbell."""
    return worker * DOORBELL_CELLS
