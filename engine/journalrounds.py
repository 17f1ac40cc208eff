"""The journal's rounds, in kernels: one block, the watermark, cursors; the report log beside it.

Reads   commands that risk has decided, and how far settlement has come.
Writes  WAL blocks and the watermark; JOURNALED, REPORTS_JOURNALED; what the thread beside needs.
Never   allocates, and never goes on after a call that failed: minus errno is what comes back.

Segments are made, opened and closed by engine/journal.py, which hands their memory in.
"""

from __future__ import annotations

from typing import Final

from engine.direct import PAGE_BYTES, fdatasync, pwrite_all
from engine.files import WATERMARK_MAGIC as MARK_MAGIC
from engine.reportlog import L_BYTES, L_FLUSH, L_LOGGED, SEGMENT_FULL, pump
from engine.walblocks import (
    COMMAND_WORDS,
    DATA,
    HEADER_WORDS,
    HEARTBEAT,
    SEAL,
    finish_block,
    pack_commands,
)
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
from shm.counters import Counter, Timing
from shm.cursors import JOURNALED, REPORTS_JOURNALED, REPORTS_WRITTEN, RISKED
from shm.hashing import hash_words
from shm.hopcells import DURABLE as HOP_DURABLE
from shm.hopcells import MARKED_DURABLE
from shm.jit import inlined, kernel
from shm.marks import mark_at as mark_samples
from shm.measure import count, record
from shm.pointers import Cells, Rows
from shm.records import COMMAND, WATERMARK
from shm.wait import FOR_EVER, beat, rest, ring_doorbells, stopping

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

WRITE: Final = 1
SYNC: Final = 2
MARK: Final = 3
MARK_SYNC: Final = 4
LOG: Final = 5

# Cells that the journal and its helper thread share.
B_SLEEP: Final = 0  # futex: 1 while the helper sleeps or is about to
B_STOP: Final = 16
B_MARKED: Final = 32  # watermark writes that are in the page cache
B_SYNCED: Final = 48  # watermark writes that are on disk
B_FAILED: Final = 49  # which call failed
BESIDE_CELLS: Final = 64
STOPPED: Final = -(1 << 40)

_MARK_BYTES: Final = WATERMARK.dtype.itemsize
_TS_WORD: Final = COMMAND.place("ts_ns")[0]
_NAP_NS: Final = 50_000_000  # the helper looks that often though nobody woke it
_LOOK_EVERY: Final = 16  # rounds between two looks at the clock and at STOP


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
            cells[J_FAILED] = WRITE
            return failed
    if cells[J_SYNC] != 0:
        failed = fdatasync(cells[J_FD])
        if failed != 0:
            cells[J_FAILED] = SYNC
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
        cells[J_FAILED] = MARK
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
        beside[B_FAILED] = LOG
        return logged
    if logged == SEGMENT_FULL:
        return logged
    marked = load_acquire(beside, B_MARKED)
    if marked != beside[B_SYNCED]:
        failed = fdatasync(mark_fd)
        if failed != 0:
            beside[B_FAILED] = MARK_SYNC
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
    """`beside_round` for ever; returns STOPPED, minus errno, or SEGMENT_FULL."""
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
    return STOPPED


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
