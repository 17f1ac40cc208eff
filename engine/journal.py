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
from engine.direct import PAGE_BYTES, open_direct
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
from engine.journalrounds import (
    B_FAILED,
    BESIDE_CELLS,
    J_BLOCK,
    J_BLOCK_BYTES_MAX,
    J_EPOCH,
    J_FAILED,
    J_FD,
    J_HEARTBEAT_NS,
    J_LAST_NS,
    J_MAPPED,
    J_MARK_FD,
    J_MARKS,
    J_OFFSET,
    J_PREVIOUS,
    J_SAID,
    J_SEGMENT,
    J_SEGMENT_BYTES,
    J_SEQ,
    J_SYNC,
    J_WAL_HI,
    J_WAL_LO,
    JOURNAL_CELLS,
    LOG,
    MARK,
    MARK_SYNC,
    STOPPED,
    SYNC,
    WRITE,
    beside_loop,
    beside_round,
    journal_loop,
    journal_round,
    set_cell,
    stop_beside,
)
from engine.reportlog import (
    L_FLUSH,
    SEGMENT_FULL,
    ReportLog,
)
from engine.snapshotfile import list_snapshots, read_meta
from engine.wal import begin_epoch, create_wal, make_segment, recover_wal
from engine.walreader import Buffer
from shm.config import Wal
from shm.counters import COUNTER_CELLS, COUNTERS_MAX, TIMINGS_MAX
from shm.cursors import (
    CURSOR_CELLS,
    CUT,
    CUT_DISK,
    DOORBELL_CELLS,
    JOURNALED,
    REPORTS_JOURNALED,
)
from shm.files import is_full
from shm.histogram import HISTOGRAM_CELLS
from shm.hopcells import HOP_CELLS
from shm.jit import PLAIN
from shm.pointers import table
from shm.records import COMMAND, REPORT, WAL_BLOCK

log = logging.getLogger(__name__)

EXIT_DISK: Final = 74  # EX_IOERR: a write or sync failed, nothing was acknowledged after it

_CALLS: Final = {
    WRITE: "write of a WAL block",
    SYNC: "sync of the WAL",
    MARK: "write of the watermark",
    MARK_SYNC: "sync of the watermark",
    LOG: "write of the report log",
}

_LOG_LEAST: Final = 4096  # reports worth a write of their own: 256 KiB
_RETRY_SECONDS: Final = 1.0
_STARVED_SECONDS: Final = 0.001  # between looks for a segment, when there is none
_NO_BELLS: Final = np.zeros(DOORBELL_CELLS, np.int64)


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
        ahead: bool = True,
        segment_records: int = reportlog.SEGMENT_RECORDS,
        failed: Callable[[JournalFailed], None] = end_process,
    ) -> None:
        """
        commands, reports   the rings, as arrays of COMMAND and REPORT
        bells, wake         doorbells of all workers, and the set that waits for the journal
        counters, histograms cells of the counters segment; private ones without
        threads             False does everything within `step`: for tests and plain Python
        ahead               False, without threads: the caller makes segments (`make_ahead`) when
                            `wanted`, as a thread would at any time
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
        self._within = ahead and not threads  # `step` makes segments itself
        if self._within:
            self.make_ahead()
        elif not threads:
            self._news.set()
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
            if self._within:
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

    def abandon(self) -> None:
        """Leave the files as the death of a process does: nothing more is written."""
        self._release()
        self.log.close()

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

    def wanted(self) -> bool:
        """Whether it is time to make segments ahead; asked once."""
        wanted = self._news.is_set()
        self._news.clear()
        return wanted

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
            if not is_full(error):
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
            limit = self.config.report_log_bytes_max
            for path in reportlog.prune_reports(
                *(self.data, self.manifest),
                bytes_max=limit // 2, keep_index=self._covered, bytes_limit=limit,
            ):  # fmt: skip
                log.info("%s: removed, the report log was larger than it may be", path)
        except (OSError, DataError):
            log.exception("cannot prune the report log")

    def _covered(self) -> int:
        """How many reports the newest snapshot has behind it."""
        snapshots = list_snapshots(self.data)
        return int(read_meta(snapshots[0])["reports_count"]) if snapshots else 0

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
            if result == STOPPED:
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
                if not is_full(error):
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
