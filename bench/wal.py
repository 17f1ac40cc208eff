"""What the journal costs: a block and its sync by batch size, a stream of both logs, reading back.

    python -m bench.wal [--smoke] [--json] [--out DIR] [--data DIR] [--only sync|journal|reading]
    python -m bench.wal --only journal --io direct --seconds 60

Measured: gather, write, sync and watermark of a block, by the journal's own clock; a command is one
line of 64 bytes. In the stream a thread on another core plays the engine: it fills both rings
as fast as their readers free them. The WAL is pruned on the way, so that a minute fits the disk.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench import harness
from engine import wal, walreader
from engine.journal import Journal
from engine.journalrounds import B_SYNCED
from shm.atomics import CLOCK_REALTIME, clock_ns, load_acquire, store_release
from shm.config import Wal
from shm.counters import Timing
from shm.cursors import (
    CURSOR_CELLS,
    JOURNALED,
    REPORTS_CLAIMED,
    REPORTS_JOURNALED,
    REPORTS_READ,
    REPORTS_WRITTEN,
    RISKED,
    SEQUENCED,
    SETTLED,
)
from shm.histogram import HISTOGRAM_CELLS, SUM, summary
from shm.jit import kernel
from shm.pointers import Cells, Rows, table
from shm.records import COMMAND, REPORT
from shm.reportlog import ReportLogReader

MIB = 1 << 20


@kernel
def produce(
    cursors: Cells, commands: Rows, capacity: int, reports: Rows, reports_capacity: int,
    upto: int, each: int,
) -> int:  # fmt: skip
    """What an engine would have put into both rings by command `upto`, as far as there is room."""
    now = clock_ns(CLOCK_REALTIME)
    seq = load_acquire(cursors, RISKED)
    index = load_acquire(cursors, REPORTS_WRITTEN)
    last = min(upto, load_acquire(cursors, JOURNALED) + capacity)
    last = min(last, seq + 64)
    room = (load_acquire(cursors, REPORTS_READ) + reports_capacity - index) // max(each, 1)
    last = min(last, seq + room)
    made = last - seq
    while seq < last:
        seq += 1
        c = commands[seq & (capacity - 1)]
        c["seq"] = seq
        c["ts_ns"] = now
        c["order_id"] = seq * 7
        c["price_ticks"] = 1000 + (seq & 63)
        c["qty_lots"] = 1 + (seq & 7)
        c["account"] = seq & 1023
        c["lines"] = 1
        c["settled_seq"] = seq - 1 - min(seq - 1, 3)
        for _k in range(each):
            r = reports[index & (reports_capacity - 1)]
            r["seq"] = seq
            r["ts_ns"] = now
            r["order_id"] = seq * 7
            r["open_lots"] = index
            index += 1
    store_release(cursors, REPORTS_CLAIMED, index)
    store_release(cursors, REPORTS_WRITTEN, index)
    store_release(cursors, SEQUENCED, seq)
    store_release(cursors, SETTLED, seq)
    store_release(cursors, RISKED, seq)
    return made


@kernel
def produce_until(
    cursors: Cells, commands: Rows, capacity: int, reports: Rows, reports_capacity: int,
    each: int, stop: Cells,
) -> None:  # fmt: skip
    """`produce` in a loop, until stop[0]: the engine on another core."""
    while load_acquire(stop, 0) == 0:
        produce(cursors, commands, capacity, reports, reports_capacity, 1 << 40, each)


class Rig:
    """A data directory, rings and a journal, in one process."""

    def __init__(self, data: Path, config: Wal, capacity: int, reports_capacity: int) -> None:
        shutil.rmtree(data, ignore_errors=True)
        self.data = data
        wal.create_wal(data, config.segment_bytes)
        self.manifest = wal.begin_epoch(data, wal.recover_wal(data))
        self.cursors = np.zeros(CURSOR_CELLS, np.int64)
        commands = np.zeros(capacity, COMMAND.dtype)
        reports = np.zeros(reports_capacity, REPORT.dtype)
        self.rings = (
            *(table(self.cursors), table(commands), capacity),
            *(table(reports), reports_capacity),
        )
        self.journal = Journal(data, self.cursors, commands, reports, config)
        # Compile everything, and let the segments ahead be made, before anything is timed.
        produce(*self.rings, 1, 1)
        while self.cursors[JOURNALED] < 1:
            self.journal.step()
        ready = (self.journal.beside, B_SYNCED)
        while self.journal.segments_ahead() < config.preallocate or ready[0][ready[1]] == 0:
            time.sleep(0.001)
        self.journal.histograms[:] = 0

    def histogram(self, which: Timing) -> Any:
        return self.journal.histograms[which * HISTOGRAM_CELLS :][:HISTOGRAM_CELLS]


def sync_latency(
    report: harness.Report, data: Path, io: str, batch: int, count: int
) -> harness.Row:
    """p50, p99, max of one durable block of `batch` commands, one after the other."""
    config = Wal(io=io, block_bytes_max=4 * MIB, segment_bytes=256 * MIB, heartbeat_ms=60_000)
    rig = Rig(data, config, 32768, 65536)
    for _block in range(count):
        upto = int(rig.cursors[RISKED]) + batch
        while rig.cursors[RISKED] < upto:
            produce(*rig.rings, upto, 0)
        while rig.cursors[JOURNALED] < upto:  # the end of a segment cuts a block in two
            rig.journal.step()
    cells = rig.histogram(Timing.SYNC).copy()
    rig.journal.close()
    assert wal.scan_wal(data).seq == batch * count + 1
    if batch in (1, 4096):
        report.latency(f"{io}, {batch} commands", cells)
    rate = round(batch * count * 1e9 / int(cells[SUM]))
    return harness.latency_row(f"{io} {batch}", cells, commands_per_s=rate)


def burnt_seconds(threads: list[threading.Thread]) -> float:
    """Time on a core of threads of this process, so far."""
    files = (Path(f"/proc/self/task/{thread.native_id}/schedstat") for thread in threads)
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def journal_rate(
    data: Path, io: str, seconds: float, each: int, capacity: int, preallocate: int
) -> harness.Row:
    """Commands a second through the journal, with `each` reports a command, ring full of both."""
    config = Wal(io=io, preallocate=preallocate, report_log_bytes_max=4096 * MIB)
    rig = Rig(data, config, capacity, 65536)
    rig.journal.run(0, 0, 1, 0, 1)
    cursors, stop = rig.cursors, np.zeros(8, np.int64)
    engine = threading.Thread(
        target=produce_until, args=(*rig.rings, each, table(stop)), daemon=True
    )
    stop[0] = 1
    produce_until(*rig.rings, each, table(stop))  # compiled before it is timed
    stop[0] = 0
    workers = [threading.current_thread(), *rig.journal.threads]
    burnt = burnt_seconds(workers)
    start = time.perf_counter()
    engine.start()
    pruned = 0
    while (elapsed := time.perf_counter() - start) < seconds:
        rig.journal.run(0, 0, 1 << 40, 0, 10_000_000)
        while int(cursors[JOURNALED]) - pruned > 40_000_000:  # a WAL of a minute is 20 GB
            pruned += 30_000_000
            threading.Thread(target=wal.prune_wal, args=(data, pruned)).start()
    elapsed = time.perf_counter() - start
    done, shown = int(cursors[JOURNALED]), int(cursors[REPORTS_JOURNALED])
    burnt = burnt_seconds(workers) - burnt
    logged = int(cursors[REPORTS_READ])
    stop[0] = 1
    engine.join()
    rig.journal.close()
    end = wal.scan_wal(data, pruned)
    assert end.seq == int(cursors[RISKED]) == int(cursors[JOURNALED])
    reader = ReportLogReader(data, rig.manifest)
    assert reader.find_end() == int(cursors[REPORTS_WRITTEN]) == 1 + each * (end.seq - 1)
    assert reader.sound_end(max(reader.first_index, logged - 100_000), logged) == logged
    sync, durable = (summary(rig.histogram(t)) for t in (Timing.SYNC, Timing.SEQUENCED_TO_DURABLE))
    return {
        "case": io,
        "seconds": elapsed,
        "commands_per_s": round(done / elapsed),
        "reports_per_s": round(shown / elapsed),
        "commands_a_block": round(done / max(1, sync.value_count)),
        "sync_p50_us": sync.p50_ns / 1e3,
        "sync_p99_us": sync.p99_ns / 1e3,
        "sync_max_us": sync.max_ns / 1e3,
        "oldest_p50_us": durable.p50_ns / 1e3,
        "oldest_p99_us": durable.p99_ns / 1e3,
        "cores_used": burnt / elapsed,
        "watermark_syncs": int(rig.journal.beside[B_SYNCED]),
    }


def reading(data: Path, commands: int) -> harness.Row:
    """Scan, and read into COMMAND arrays, a WAL of so many commands; the page cache is not used."""
    config = Wal(segment_bytes=64 * MIB, block_bytes_max=512 * 1024)
    rig = Rig(data, config, 32768, 65536)
    while rig.cursors[JOURNALED] < commands:
        upto = min(commands, int(rig.cursors[JOURNALED]) + 8000)
        while rig.cursors[RISKED] < upto:
            produce(*rig.rings, upto, 0)
        rig.journal.step()
    rig.journal.close()
    start = time.perf_counter()
    assert wal.scan_wal(data).seq == commands
    scanned = time.perf_counter() - start
    start = time.perf_counter()
    total = sum(int(rows["seq"].sum()) for rows in walreader.read_commands(data, 0, commands))
    read = time.perf_counter() - start
    assert total == commands * (commands + 1) // 2
    return {
        "commands": commands,
        "scan_per_s": round(commands / scanned),
        "read_per_s": round(commands / read),
    }


def disk_of(folder: Path) -> str:
    """Device and file system under a directory."""
    found, best = "unknown", ""
    for line in Path("/proc/mounts").read_text().splitlines():
        device, mount, kind = line.split()[:3]
        if folder.resolve().is_relative_to(mount) and len(mount) >= len(best):
            found, best = f"{kind} on {device}", mount
    return found


def main() -> None:
    parser = harness.parser("wal", __doc__)
    parser.add_argument("--data", type=Path, default=None, help="directory on the disk to measure")
    parser.add_argument("--only", choices=("sync", "journal", "reading"), default=None)
    parser.add_argument("--io", choices=("direct", "mmap"), default=None, help="only this way")
    parser.add_argument("--count", type=int, default=500, help="blocks a batch size")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the stream of both logs")
    parser.add_argument("--reports", type=int, default=2, help="reports a command")
    parser.add_argument("--commands", type=int, default=8192, help="slots of the commands ring")
    parser.add_argument("--preallocate", type=int, default=2, help="segments made ahead")
    chosen = parser.parse_args()
    report = harness.Report("wal", chosen)
    base = Path(tempfile.mkdtemp(prefix="wal-bench-", dir=chosen.data))
    data = base / "data"
    ways = (chosen.io,) if chosen.io else ("direct", "mmap")
    try:
        if chosen.only in (None, "sync"):
            batches = (1, 64) if chosen.smoke else (1, 16, 256, 4096, 16384)
            count = 10 if chosen.smoke else chosen.count
            rows = [sync_latency(report, data, io, n, count) for n in batches for io in ways]
            report.table("One durable block after the other", rows)
        if chosen.only in (None, "journal"):
            seconds = 0.3 if chosen.smoke else chosen.seconds
            rings = (chosen.commands, chosen.preallocate)
            rows = [journal_rate(data, io, seconds, chosen.reports, *rings) for io in ways]
            report.table("Both logs, rings always full", rows)
        if chosen.only in (None, "reading"):
            rows = [reading(data, 20_000 if chosen.smoke else 10_000_000)]
            report.table("Read back, past the page cache", rows)
        report.note(f"data on {disk_of(base)}; whether its syncs reach a medium is not known here")
    finally:
        shutil.rmtree(base, ignore_errors=True)
    report.finish()


if __name__ == "__main__":
    main()
