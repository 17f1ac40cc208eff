"""Stage 6 of 7, journal: on disk before anyone hears.

Reads   commands that risk has decided; reports that settlement has written.
Writes  one WAL block per group commit, the watermark, the report log; then JOURNALED,
        REPORTS_JOURNALED and, when they are in the log, REPORTS_READ.
Never   retries a write or sync that failed: the process ends, JOURNALED stays where it was.

One round, in the order that answers soonest:

    gather what is risked -> write + sync the block -> watermark -> JOURNALED, REPORTS_JOURNALED
    doorbells; the report log and the sync of the watermark go on beside the next block

"direct" gathers into a page-aligned buffer and writes it past the page cache with one system call
that returns when it is durable. "mmap" gathers into the mapped segment and calls fdatasync. On the
disks measured (bench/wal.py) direct is quicker in the median and twice as quick at p99 with large
blocks, because it has no page cache to walk; it is the default. A file system without direct I/O
gets plain writes and fdatasync, and a warning.

The beside work runs in a thread that stays inside a kernel, so it never waits for the interpreter.
A second thread, in Python, makes the segments of both logs before they are needed. When it finds
no room for one it sets CUT, the venue goes cancel-only, and it goes on trying.
"""

from __future__ import annotations

import logging
import mmap
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine import reportlog
from engine.direct import PAGE_BYTES, fdatasync, open_direct, pwrite_all
from engine.files import WATERMARK_MAGIC as MARK_MAGIC
from engine.files import (
    DataError,
    Lock,
    lock_wal,
    read_manifest,
    read_watermark,
    segment_numbers,
    watermark_path,
    watermark_row,
)
from engine.files import segment_path as wal_segment_path
from engine.reportlog import (
    L_BYTES,
    L_FLUSH,
    L_LOGGED,
    SEGMENT_FULL,
    ReportLog,
    no_space,
    pump,
)
from engine.snapshotfile import list_snapshots, read_meta
from engine.wal import begin_epoch, create_wal, make_segment, recover_wal
from engine.walblocks import (
    COMMAND_WORDS,
    DATA,
    HEADER_WORDS,
    HEARTBEAT,
    SEAL,
    finish_block,
    pack_commands,
)
from engine.walreader import Buffer
from shm.atomics import (
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    clock_ns,
    fence,
    futex_wait,
    futex_wake,
    load_acquire,
    store_release,
)
from shm.config import Wal
from shm.counters import COUNTER_CELLS, COUNTERS_MAX, TIMINGS_MAX, Counter, Timing
from shm.cursors import (
    CURSOR_CELLS,
    CUT,
    CUT_DISK,
    DOORBELL_CELLS,
    JOURNALED,
    REPORTS_JOURNALED,
    REPORTS_WRITTEN,
    RISKED,
)
from shm.hashing import hash_words
from shm.histogram import HISTOGRAM_CELLS
from shm.hopcells import DURABLE as HOP_DURABLE
from shm.hopcells import HOP_CELLS, MARKED_DURABLE
from shm.jit import PLAIN, inlined, kernel
from shm.marks import mark_at as mark_samples
from shm.measure import count, record
from shm.pointers import Cells, Rows, table
from shm.records import COMMAND, REPORT, WAL_BLOCK, WATERMARK
from shm.wait import FOR_EVER, beat, rest, ring_doorbells, stopping

log = logging.getLogger(__name__)

EXIT_DISK: Final = 74  # EX_IOERR: a write or sync failed, nothing was acknowledged after it

# Cells of the journal.
J_FD: Final = 0  # segment being written; -1 when there is none
J_MARK_FD: Final = 1
J_MAPPED: Final = 2  # 1: the block's memory is the segment itself, synced with fdatasync
J_SYNC: Final = 3  # 1: a write is durable only after fdatasync
J_SEGMENT: Final = 4
J_SEGMENT_BYTES: Final = 5
J_OFFSET: Final = 6
J_BLOCK: Final = 7
J_PREVIOUS: Final = 8
J_EPOCH: Final = 9
J_WAL_HI: Final = 10
J_WAL_LO: Final = 11
J_SEQ: Final = 12  # last command in the WAL, durable
J_MARKS: Final = 13  # watermark writes so far
J_BLOCK_BYTES_MAX: Final = 14
J_HEARTBEAT_NS: Final = 15
J_LAST_NS: Final = 16  # CLOCK_MONOTONIC of the last block
J_SAID: Final = 17  # durable_seq of the last block: what a heartbeat need not say again
J_FAILED: Final = 18  # which call failed
J_OWED_SEQ: Final = 19  # how far risk was when J_OWED_REPORTS were written, or later
J_OWED_REPORTS: Final = 20  # reports that may be shown once that is durable
JOURNAL_CELLS: Final = 32

_WRITE: Final = 1
_SYNC: Final = 2
_MARK: Final = 3
_MARK_SYNC: Final = 4
_LOG: Final = 5
_CALLS: Final = {
    _WRITE: "write of a WAL block",
    _SYNC: "sync of the WAL",
    _MARK: "write of the watermark",
    _MARK_SYNC: "sync of the watermark",
    _LOG: "write of the report log",
}

# Cells that the journal and its helper thread share.
B_SLEEP: Final = 0  # futex: 1 while the helper sleeps or is about to
B_STOP: Final = 16
B_MARKED: Final = 32  # watermark writes that are in the page cache
B_SYNCED: Final = 48  # watermark writes that are on disk
B_FAILED: Final = 49  # which call failed
BESIDE_CELLS: Final = 64
_STOPPED: Final = -(1 << 40)

_LOG_LEAST: Final = 4096  # reports worth a write of their own: 256 KiB
_RETRY_SECONDS: Final = 1.0
_STARVED_SECONDS: Final = 0.001  # between looks for a segment, when there is none
_MARK_BYTES: Final = WATERMARK.dtype.itemsize
_NO_BELLS: Final = np.zeros(DOORBELL_CELLS, np.int64)
_TS_WORD: Final = COMMAND.dtype.fields["ts_ns"][1] // 8  # type: ignore[index]


@inlined
def start_block(blocks: Rows, at: int, kind: int, seq: int, taken: int, cells: Cells) -> None:
    """Fill a block's header but for what `finish_block` adds."""
    head = blocks[at // HEADER_WORDS]
    head["wal_hi"] = cells[J_WAL_HI]
    head["wal_lo"] = cells[J_WAL_LO]
    head["epoch"] = cells[J_EPOCH]
    head["segment"] = cells[J_SEGMENT]
    head["offset"] = cells[J_OFFSET]
    head["block"] = cells[J_BLOCK]
    head["previous_hash"] = cells[J_PREVIOUS]
    head["first_seq"] = seq
    head["durable_seq"] = cells[J_SEQ]
    head["record_count"] = taken
    head["kind"] = kind


@kernel
def end_block(blocks: Rows, words: Cells, at: int, end: int, cells: Cells) -> int:
    """Finish a block, and make the next one follow it; returns the word after it."""
    total = finish_block(blocks, words, at, end)
    cells[J_PREVIOUS] = blocks[at // HEADER_WORDS]["header_hash"]
    cells[J_BLOCK] = cells[J_BLOCK] + 1
    cells[J_OFFSET] = cells[J_OFFSET] + total * 8
    return at + total


@kernel
def write_block(
    commands: Cells, mask: int, risked: int, blocks: Rows, words: Cells, words_at: int,
    marks: Rows, mark: Cells, mark_at: int, cells: Cells,
) -> int:  # fmt: skip
    """Write one durable block of commands up to `risked`; without any, a heartbeat.

    blocks      WAL_BLOCK rows over `words`: a buffer, or the mapped segment
    words_at    address of `words`
    marks       one WATERMARK, also as cells `mark` at address mark_at
    returns     the last command that is durable now, or minus errno with J_FAILED set
    asserts     the segment has room for its seal
    """
    seq = cells[J_SEQ]
    offset = cells[J_OFFSET]
    room = cells[J_SEGMENT_BYTES] - offset - PAGE_BYTES  # the last page is the seal's
    assert room >= 0
    first = offset // 8 if cells[J_MAPPED] != 0 else 0
    taken = 0
    end = first
    if room >= PAGE_BYTES:
        limit = first + min(cells[J_BLOCK_BYTES_MAX], room) // 8
        taken, end = pack_commands(
            commands, mask, seq + 1, risked, words, first + HEADER_WORDS, limit
        )
        start_block(blocks, first, DATA if taken > 0 else HEARTBEAT, seq + 1, taken, cells)
        end = end_block(blocks, words, first, end, cells)
    if cells[J_SEGMENT_BYTES] - cells[J_OFFSET] < 2 * PAGE_BYTES:
        # No room for another block and the seal: the seal goes with this one, in one write. It
        # goes alone when a power cut took the seal and left the block.
        start_block(blocks, end, SEAL, seq + taken + 1, 0, cells)
        end = end_block(blocks, words, end, end + HEADER_WORDS, cells)
    if cells[J_MAPPED] == 0:
        failed = pwrite_all(cells[J_FD], words_at, (end - first) * 8, offset)
        if failed != 0:
            cells[J_FAILED] = _WRITE
            return failed
    if cells[J_SYNC] != 0:
        failed = fdatasync(cells[J_FD])
        if failed != 0:
            cells[J_FAILED] = _SYNC
            return failed
    cells[J_SAID] = seq
    cells[J_SEQ] = seq + taken
    cells[J_MARKS] = cells[J_MARKS] + 1
    marks[0]["durable_seq"] = cells[J_SEQ]
    marks[0]["block"] = cells[J_BLOCK] - 1
    marks[0]["count"] = cells[J_MARKS]
    marks[0]["hash"] = hash_words(mark, 2, _MARK_BYTES // 8 - 2, MARK_MAGIC)
    failed = pwrite_all(cells[J_MARK_FD], mark_at, _MARK_BYTES, (cells[J_MARKS] & 1) * PAGE_BYTES)
    if failed != 0:
        cells[J_FAILED] = _MARK
        return failed
    durable: int = cells[J_SEQ]
    return durable


@kernel
def release_reports(cursors: Cells, cells: Cells) -> int:
    """Move REPORTS_JOURNALED over the reports that nothing can change; returns by how many.

    A report may tell of holds that risk took for later commands, so it stands only when all that
    risk had decided by the time it was written is durable, and not when its own command is. The
    pair noted here says how far reports were, and then how far risk was.
    """
    visible = load_acquire(cursors, REPORTS_JOURNALED)
    durable = load_acquire(cursors, JOURNALED)
    shown = visible
    if durable >= cells[J_OWED_SEQ]:
        shown = max(shown, cells[J_OWED_REPORTS])
        cells[J_OWED_REPORTS] = load_acquire(cursors, REPORTS_WRITTEN)
        cells[J_OWED_SEQ] = load_acquire(cursors, RISKED)
        if durable >= cells[J_OWED_SEQ]:
            shown = cells[J_OWED_REPORTS]
    if shown != visible:
        store_release(cursors, REPORTS_JOURNALED, shown)
    return shown - visible


@kernel
def journal_round(
    cursors: Cells, commands: Cells, capacity: int, reports: Cells, reports_capacity: int,
    blocks: Rows, words: Cells, words_at: int, marks: Rows, mark: Cells, mark_at: int,
    cells: Cells, report_log: Cells, beside: Cells, bells: Cells, wake: int,
    counters: Cells, histograms: Cells, hops: Cells, force: bool,
) -> int:  # fmt: skip
    """One block if there is anything to write, and whatever reports may be shown.

    force       write a heartbeat although nobody has been idle, and flush the report log
    returns     commands and reports moved on, or minus errno
    """
    moved = 0
    before = cells[J_SEQ]
    shown = release_reports(cursors, cells)
    risked = load_acquire(cursors, RISKED)
    start = clock_ns(CLOCK_MONOTONIC)
    quiet = force or start - cells[J_LAST_NS] >= cells[J_HEARTBEAT_NS]
    if cells[J_FD] >= 0 and (risked > before or (quiet and cells[J_SAID] != before)):
        offset = cells[J_OFFSET]
        seq = write_block(
            commands, capacity - 1, risked, blocks, words, words_at, marks, mark, mark_at, cells
        )
        if seq < 0:
            return seq
        moved = seq - before
        if moved > 0:
            # Of the oldest in the block: read while the slot is still ours.
            stamped = commands[((before + 1) & (capacity - 1)) * COMMAND_WORDS + _TS_WORD]
            now = clock_ns(CLOCK_REALTIME)
            store_release(cursors, JOURNALED, seq)
            record(histograms, Timing.SEQUENCED_TO_DURABLE, now - stamped)
            mark_samples(hops, MARKED_DURABLE, HOP_DURABLE, seq, now)
        stop = clock_ns(CLOCK_MONOTONIC)
        cells[J_LAST_NS] = stop
        store_release(beside, B_MARKED, cells[J_MARKS])
        record(histograms, Timing.SYNC, stop - start)
        count(counters, Counter.JOURNAL_COMMANDS, moved)
        count(counters, Counter.JOURNAL_BLOCKS, 1)
        count(counters, Counter.JOURNAL_SYNCS, 1)
        count(counters, Counter.JOURNAL_BYTES, cells[J_OFFSET] - offset)
    shown += release_reports(cursors, cells)
    if moved + shown > 0:
        ring_doorbells(bells, wake)
        count(counters, Counter.JOURNAL_REPORTS, shown)
    news = moved + shown > 0
    if quiet and moved + shown == 0:
        visible = load_acquire(cursors, REPORTS_JOURNALED)
        if visible != load_acquire(report_log, L_LOGGED) and report_log[L_FLUSH] != visible:
            store_release(report_log, L_FLUSH, visible)
            news = True
    if news or beside[B_SYNCED] != cells[J_MARKS]:
        fence()
        if load_acquire(beside, B_SLEEP) == 1:
            store_release(beside, B_SLEEP, 0)
            futex_wake(beside, B_SLEEP, 1)
    return moved + shown


@kernel
def journal_loop(
    cursors: Cells, commands: Cells, capacity: int, reports: Cells, reports_capacity: int,
    blocks: Rows, words: Cells, words_at: int, marks: Rows, mark: Cells, mark_at: int,
    cells: Cells, report_log: Cells, beside: Cells, bells: Cells, wake: int,
    counters: Cells, histograms: Cells, hops: Cells,
    worker: int, spins: int, yields: int, sleep_ns: int, slice_ns: int,
) -> int:  # fmt: skip
    """Round after round for about `slice_ns`, waiting by policy, as engine.pipeline.run does.

    returns     what was done, or minus errno; early when a segment is full
    """
    until = clock_ns(CLOCK_MONOTONIC) + slice_ns
    total = 0
    since = 0
    turns = 0 if spins >= FOR_EVER else spins + yields
    rounds = 0
    while True:
        did = journal_round(
            cursors, commands, capacity, reports, reports_capacity, blocks, words, words_at,
            marks, mark, mark_at, cells, report_log, beside, bells, wake, counters, histograms,
            hops, False,
        )  # fmt: skip
        if did < 0:
            return did
        since += did
        total += did
        if cells[J_FD] < 0 or cells[J_OFFSET] == cells[J_SEGMENT_BYTES]:
            break
        turns = rest(bells, worker, did, turns, spins, yields, sleep_ns)
        rounds += 1
        # After a sync the clock costs nothing, and on a slow disk sixteen may take seconds.
        if did > 0 or rounds % _LOOK_EVERY == 0 or turns > spins + yields:
            beat(bells, worker, since)
            since = 0
            if stopping(bells, worker) or clock_ns(CLOCK_MONOTONIC) >= until:
                break
    beat(bells, worker, since)
    return total


@kernel
def beside_round(
    cursors: Cells, reports: Cells, reports_capacity: int, least: int, window: Cells,
    window_at: int, groups: Rows, groups_at: int, report_log: Cells, mark_fd: int,
    beside: Cells, bells: Cells, wake: int, counters: Cells,
) -> int:  # fmt: skip
    """Log reports that may be shown, sync the watermark if it was written since.

    returns     work done, minus errno with B_FAILED set, or SEGMENT_FULL
    """
    written = report_log[L_BYTES]
    logged = pump(
        cursors, reports, reports_capacity, least, window, window_at, groups, groups_at, report_log
    )
    if report_log[L_BYTES] != written:
        count(counters, Counter.JOURNAL_REPORT_BYTES, report_log[L_BYTES] - written)
        ring_doorbells(bells, wake)  # settlement may wait for room in the ring
    if logged < 0:
        beside[B_FAILED] = _LOG
        return logged
    if logged == SEGMENT_FULL:
        return logged
    marked = load_acquire(beside, B_MARKED)
    if marked != beside[B_SYNCED]:
        failed = fdatasync(mark_fd)
        if failed != 0:
            beside[B_FAILED] = _MARK_SYNC
            return failed
        store_release(beside, B_SYNCED, marked)
        logged += 1
    return logged


@kernel
def beside_loop(
    cursors: Cells, reports: Cells, reports_capacity: int, least: int, window: Cells,
    window_at: int, groups: Rows, groups_at: int, report_log: Cells, mark_fd: int,
    beside: Cells, bells: Cells, wake: int, counters: Cells,
) -> int:  # fmt: skip
    """`beside_round` for ever; returns _STOPPED, minus errno, or SEGMENT_FULL."""
    announced = False
    while load_acquire(beside, B_STOP) == 0:
        did = beside_round(
            cursors, reports, reports_capacity, least, window, window_at, groups, groups_at,
            report_log, mark_fd, beside, bells, wake, counters,
        )  # fmt: skip
        if did < 0 or did == SEGMENT_FULL:
            return did
        if did > 0:
            announced = False
        elif not announced:
            # As shm/wait.py: announce, look once more, then sleep.
            store_release(beside, B_SLEEP, 1)
            fence()
            announced = True
        else:
            futex_wait(beside, B_SLEEP, 1, _NAP_NS)
            announced = False
    return _STOPPED


_NAP_NS: Final = 50_000_000  # the helper looks that often though nobody woke it
_LOOK_EVERY: Final = 16  # rounds between two looks at the clock and at STOP


class JournalFailed(Exception):
    """A write or sync failed; the process has to end, and recovery decides what is durable."""


def end_process(error: JournalFailed) -> None:
    """What a journal does after a failed write or sync: say it and be gone, at once."""
    print(f"perpcore journal: {error}", file=sys.stderr, flush=True)
    os._exit(EXIT_DISK)


class Journal:
    """The journal of one engine start; `step` in a loop, `close` at a clean stop.

    The epoch must have been begun (engine.wal.begin_epoch) and not been written to, and the
    cursors must say where recovery ended.
    """

    def __init__(
        self,
        data: Path,
        cursors: np.ndarray[Any, Any],
        commands: np.ndarray[Any, Any],
        reports: np.ndarray[Any, Any],
        config: Wal,
        *,
        bells: np.ndarray[Any, Any] = _NO_BELLS,
        wake: int = 0,
        counters: np.ndarray[Any, Any] | None = None,
        histograms: np.ndarray[Any, Any] | None = None,
        hops: np.ndarray[Any, Any] | None = None,
        threads: bool = not PLAIN,
        segment_records: int = reportlog.SEGMENT_RECORDS,
        failed: Callable[[JournalFailed], None] = end_process,
    ) -> None:
        """
        commands, reports   the rings, as arrays of COMMAND and REPORT
        bells, wake         doorbells of all workers, and the set that waits for the journal
        counters, histograms cells of the counters segment; private ones without
        threads             False does everything within `step`: for tests and plain Python
        """
        self.data = data
        self.config = config
        self.manifest = manifest = read_manifest(data)
        self.cells = np.zeros(JOURNAL_CELLS, np.int64)
        self.cursors = cursors
        self._cursors = table(cursors)
        self._failed = failed
        self._segment_map: mmap.mmap | None = None
        self._buffer = Buffer(config.block_bytes_max + PAGE_BYTES)
        self._memory: tuple[Any, ...] = ()
        self._args: tuple[Any, ...] = ()
        self._warned = False
        self._mark_fd = -1
        self.cells[J_FD] = -1
        self._lock: Lock = lock_wal(data)
        try:
            self._check_start()
            self._set_cells()
            self._open_segment()
            self.log = ReportLog(data, manifest, int(cursors[REPORTS_JOURNALED]), segment_records)
        except BaseException:
            self._release()
            raise
        self.counters = np.zeros(COUNTERS_MAX * COUNTER_CELLS, np.int64)
        self.counters = self.counters if counters is None else counters
        self.histograms = np.zeros(TIMINGS_MAX * HISTOGRAM_CELLS, np.int64)
        self.histograms = self.histograms if histograms is None else histograms
        hops = np.zeros(HOP_CELLS, np.int64) if hops is None else hops
        self.beside = np.zeros(BESIDE_CELLS, np.int64)
        self._beside = table(self.beside)
        mark = watermark_row(manifest, 0, 0, 0)
        cells = mark.view(np.int64)
        self._mark = (table(mark), table(cells), cells.ctypes.data)
        rings = (self._cursors, table(commands.view(np.int64)), len(commands))
        self._reports = (table(reports.view(np.int64).reshape(-1)), len(reports))
        self._wake = (table(bells), wake)
        counting = table(self.counters)
        self._rings = rings
        self._tail = (
            *(table(self.cells), self.log.cells, self._beside, *self._wake),
            *(counting, table(self.histograms), table(hops)),
        )
        self._counting = counting
        self._least = min(_LOG_LEAST, max(1, len(reports) // 4))
        self._bind()
        self._news = threading.Event()
        self._log_lock = threading.Lock()
        self._ahead_lock = threading.Lock()
        self._stop = False
        self.threads: list[threading.Thread] = []
        if not threads:
            self.make_ahead()
        else:
            for name, body in (("beside", self._run_beside), ("ahead", self._run_ahead)):
                thread = threading.Thread(
                    target=self._guarded, args=(body,), name=f"journal-{name}", daemon=True
                )
                self.threads.append(thread)
                thread.start()

    # ------------------------------------------------------------ the stage

    def step(self) -> int:
        """One round; returns how many commands and reports moved on."""
        return self._round(False)

    def run(self, worker: int, spins: int, yields: int, sleep_ns: int, slice_ns: int) -> int:
        """Rounds for about `slice_ns` without the interpreter in between, waiting by policy.

        For a worker that runs nothing but the journal: a call of `step` costs 20 us of Python.
        """
        assert self.threads
        if not self._ready():
            time.sleep(_STARVED_SECONDS)
            return self._round(False)
        args = (*self._args, worker, spins, yields, sleep_ns, slice_ns)
        return self._moved(journal_loop(*args))

    def _ready(self) -> bool:
        """Whether there is a segment to write to; if not, the others wait as JOURNALED does."""
        if self.cells[J_FD] >= 0 or self._open_segment():
            return True
        self._news.set()
        return False

    def _round(self, force: bool) -> int:
        self._ready()
        args = (*self._args, force)
        moved = self._moved(journal_round(*args))
        if not self.threads:
            self._beside_once()
        return moved

    def _moved(self, result: int) -> int:
        """See to what kernels leave to Python: errors, and the next segment."""
        if result < 0:
            self._fail(int(self.cells[J_FAILED]), -result)
            return 0
        if self.cells[J_OFFSET] == self.cells[J_SEGMENT_BYTES]:
            self._close_segment()
            self.cells[J_SEGMENT] += 1
            self.cells[J_OFFSET] = 0
            if not self.threads:
                self.make_ahead()
            self._ready()
            self._news.set()
        return result

    def close(self) -> None:
        """Clean stop: say in the log that all of it is durable, and leave nothing unwritten."""
        if self.cells[J_FAILED] == 0 and self.beside[B_FAILED] == 0:
            while self._round(False) > 0:
                pass
            self._round(True)
        self._stop = True
        stop_beside(self._beside)
        self._news.set()
        for thread in self.threads:
            thread.join()
        self.threads.clear()
        if self.cells[J_FAILED] == 0 and self.beside[B_FAILED] == 0:
            self.log.log[L_FLUSH] = int(self.cursors[REPORTS_JOURNALED])
            self._beside_once()
            self.log.sync()
        self.log.close()
        self._release()

    # ------------------------------------------------------------ starting

    def _check_start(self) -> None:
        manifest = self.manifest
        for name, cell, wanted in (("JOURNALED", JOURNALED, manifest.seq),):
            if int(self.cursors[cell]) != wanted:
                raise DataError(
                    f"{self.data}: cursor {name} = {int(self.cursors[cell])}, the manifest says "
                    f"{wanted}. Recover, begin an epoch and set the cursors first"
                )
        if manifest.epoch < 1:
            raise DataError(f"{self.data}: no epoch was begun. Recover and begin one first")
        path = wal_segment_path(self.data, manifest.segment)
        if path.exists():
            with open(path, "rb") as file:
                file.seek(manifest.offset)
                if any(file.read(PAGE_BYTES)):
                    raise DataError(
                        f"{path}: byte {manifest.offset}: epoch {manifest.epoch} has been written "
                        "to already. Recover and begin a new epoch first"
                    )

    def _set_cells(self) -> None:
        manifest, cells, config = self.manifest, self.cells, self.config
        mark = read_watermark(self.data, manifest)
        self._mark_fd = os.open(watermark_path(self.data), os.O_RDWR)
        cells[J_MARK_FD], cells[J_MARKS] = self._mark_fd, mark.writes
        cells[J_SEGMENT], cells[J_OFFSET] = manifest.segment, manifest.offset
        cells[J_SEGMENT_BYTES] = manifest.segment_bytes
        cells[J_BLOCK], cells[J_PREVIOUS] = manifest.block, manifest.previous_hash
        cells[J_EPOCH], cells[J_SEQ] = manifest.epoch, manifest.seq
        cells[J_WAL_HI], cells[J_WAL_LO] = manifest.wal_hi, manifest.wal_lo
        cells[J_BLOCK_BYTES_MAX] = config.block_bytes_max
        cells[J_HEARTBEAT_NS] = config.heartbeat_ms * 1_000_000
        cells[J_LAST_NS] = time.monotonic_ns()
        cells[J_SAID] = manifest.seq
        cells[J_MAPPED] = 1 if config.io == "mmap" else 0
        if not wal_segment_path(self.data, manifest.segment).exists():
            make_segment(self.data, manifest.segment, manifest.segment_bytes)

    # ------------------------------------------------------------ segments

    def _open_segment(self) -> bool:
        """Open the segment that is next; False when it has not been made yet."""
        cells = self.cells
        path = wal_segment_path(self.data, int(cells[J_SEGMENT]))
        if not path.exists():
            return False
        buffer = self._buffer
        if cells[J_MAPPED]:
            fd = os.open(path, os.O_RDWR)
            self._segment_map = mmap.mmap(fd, int(cells[J_SEGMENT_BYTES]))
            words = np.frombuffer(self._segment_map, np.int64)
            self._memory = (table(words.view(WAL_BLOCK.dtype)), table(words), words.ctypes.data)
            cells[J_SYNC] = 1
        else:
            fd, direct = open_direct(path, os.O_RDWR | os.O_DSYNC)
            if not direct and not self._warned:
                self._warned = True
                log.warning("%s: no direct I/O on this file system, using plain writes", path)
            self._memory = (buffer.blocks, buffer.words, buffer.array.ctypes.data)
            cells[J_SYNC] = 0 if direct else 1
        cells[J_FD] = fd
        self._bind()
        return True

    def _close_segment(self) -> None:
        if self.cells[J_FD] >= 0:
            os.close(int(self.cells[J_FD]))
            self.cells[J_FD] = -1
        self._memory = (self._buffer.blocks, self._buffer.words, self._buffer.array.ctypes.data)
        self._segment_map = None  # unmapped with the last array over it
        self._bind()

    def _bind(self) -> None:
        """Arguments of journal_round, made once and not at every round."""
        if hasattr(self, "_tail"):
            self._args = (
                *(*self._rings, *self._reports),
                *(*self._memory, *self._mark, *self._tail),
            )

    def segments_ahead(self) -> int:
        """Segments made and not yet begun."""
        current = int(self.cells[J_SEGMENT])
        return len([n for n in segment_numbers(self.data) if n > current])

    def make_ahead(self) -> bool:
        """Make the segments that will be needed next; sets or clears CUT. False: no room."""
        with self._ahead_lock:
            return self._make_ahead()

    def _make_ahead(self) -> bool:
        cut = int(self.cursors[CUT]) == CUT_DISK
        try:
            first, present = int(self.cells[J_SEGMENT]), set(segment_numbers(self.data))
            for number in range(first, first + self.config.preallocate + 1):
                if number not in present and not self._stop:
                    make_segment(self.data, number, self.manifest.segment_bytes)
            with self._log_lock:
                self.log.prepare()
        except OSError as error:
            if not no_space(error):
                log.exception("cannot make a segment ahead")
            if not cut:
                log.error(
                    "%s: no room for the next segment (%s), %d left: cancel-only until there is",
                    *(self.data, error.strerror, self.segments_ahead()),
                )
            set_cell(self._cursors, CUT, CUT_DISK)
            return False
        if cut:
            log.warning("%s: there is room for segments again: openings are accepted", self.data)
            set_cell(self._cursors, CUT, 0)
        self._prune()
        return True

    def _prune(self) -> None:
        """Remove what is old: at half the limit what nobody needs, at the limit all the same."""
        try:
            snapshots = list_snapshots(self.data)
            keep = int(read_meta(snapshots[0])["reports_count"]) if snapshots else 0
            limit = self.config.report_log_bytes_max
            for path in reportlog.prune_reports(
                *(self.data, self.manifest),
                bytes_max=limit // 2, keep_index=keep, bytes_limit=limit,
            ):  # fmt: skip
                log.info("%s: removed, the report log was larger than it may be", path)
        except (OSError, DataError):
            log.exception("cannot prune the report log")

    # ------------------------------------------------------------ threads

    def _beside_args(self) -> tuple[Any, ...]:
        return (
            *(self._cursors, *self._reports, self._least, *self.log.args(), self._mark_fd),
            *(self._beside, *self._wake, self._counting),
        )

    def _beside_once(self) -> None:
        while True:
            result = beside_round(*self._beside_args())
            if result < 0:
                self._fail(int(self.beside[B_FAILED]), -result)
            if result == 0 or result < 0:
                return
            if result == SEGMENT_FULL and not self._roll_log():
                return

    def _guarded(self, body: Callable[[], None]) -> None:
        """A thread that dies takes the journal with it: without it the engine would just stop."""
        try:
            body()
        except BaseException as error:
            log.exception("%s", threading.current_thread().name)
            self._failed(JournalFailed(f"{threading.current_thread().name}: {error!r}"))

    def _run_beside(self) -> None:
        while True:
            result = beside_loop(*self._beside_args())
            if result == _STOPPED:
                return
            if result != SEGMENT_FULL:
                self._fail(int(self.beside[B_FAILED]), -result)
                return
            while not self._roll_log() and not self._stop:
                time.sleep(0.01)  # the ring fills meanwhile: back-pressure
            self._news.set()

    def _roll_log(self) -> bool:
        with self._log_lock:
            try:
                self.log.roll()
            except OSError as error:
                if not no_space(error):
                    raise
                return False
        return True

    def _run_ahead(self) -> None:
        while not self._stop:
            made = self.make_ahead()
            self._news.wait(None if made else _RETRY_SECONDS)
            self._news.clear()

    # ------------------------------------------------------------ ending

    def _fail(self, call: int, error: int) -> None:
        """Never write again; what happens to the process is the caller's choice."""
        self._close_segment()
        self._failed(
            JournalFailed(
                f"{_CALLS.get(call, 'a call')} failed: {os.strerror(error)} (errno {error}), "
                f"{wal_segment_path(self.data, int(self.cells[J_SEGMENT]))} near byte "
                f"{int(self.cells[J_OFFSET])}; commands after {int(self.cursors[JOURNALED])} "
                "were not acknowledged. Check the disk, then start the engine: it recovers"
            )
        )

    def _release(self) -> None:
        self._close_segment()
        if self._mark_fd >= 0:
            os.close(self._mark_fd)
            self._mark_fd = -1
        self._lock.release()


@kernel
def set_cell(cells: Cells, index: int, value: int) -> None:
    """store_release, from Python."""
    store_release(cells, index, value)


@kernel
def stop_beside(beside: Cells) -> None:
    """End `beside_loop`."""
    store_release(beside, B_STOP, 1)
    fence()
    store_release(beside, B_SLEEP, 0)
    futex_wake(beside, B_SLEEP, 1)


def compile_kernels() -> None:
    """Compile every kernel of the stage, on a WAL of its own in a temporary directory."""
    rings = (
        np.zeros(CURSOR_CELLS, np.int64),
        np.zeros(8, COMMAND.dtype),
        np.zeros(64, REPORT.dtype),
    )
    with tempfile.TemporaryDirectory(prefix="perpcore-compile-") as folder:
        data = Path(folder)
        create_wal(data, 1 << 20)
        begin_epoch(data, recover_wal(data))
        journal = Journal(data, *rings, Wal(segment_bytes=1 << 20, preallocate=1))
        journal.step()
        if journal.threads:
            journal.run(0, 0, 1, 0, 1)
        journal.close()
