"""What the journal costs: a block and its sync by batch size, a stream of both logs, reading back.

    python -m bench.wal                       all of it, in a directory under --data
    python -m bench.wal --sync --count 2000   only block + sync latency, direct and mmap
    python -m bench.wal --journal --seconds 60
    python -m bench.wal --smoke               a second of everything; checks the answers

Measured: from RISKED moved to JOURNALED moved, in one process, watermark write included. The disk's
own promise, that what it called synced is on the medium, cannot be measured from here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from engine import wal
from engine.journal import B_SYNCED, Journal
from engine.reportlog import ReportLogReader
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
from shm.histogram import HISTOGRAM_CELLS, summary
from shm.jit import kernel
from shm.pointers import Cells, Rows, table
from shm.records import COMMAND, REPORT

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
        while self.journal.segments_ahead() < config.preallocate:
            time.sleep(0.001)

    def timing(self, which: Timing) -> Any:
        cells = self.journal.histograms[which * HISTOGRAM_CELLS :][:HISTOGRAM_CELLS]
        return summary(cells)


def sync_latency(data: Path, io: str, batch: int, count: int) -> dict[str, Any]:
    """p50, p99, max of one durable block of `batch` commands, one after the other."""
    config = Wal(io=io, block_bytes_max=4 * MIB, segment_bytes=256 * MIB, heartbeat_ms=60_000)
    rig = Rig(data, config, 32768, 65536)
    taken = np.zeros(count, np.int64)
    for n in range(count):
        upto = int(rig.cursors[RISKED]) + batch
        while rig.cursors[RISKED] < upto:
            produce(*rig.rings, upto, 0)
        start = time.perf_counter_ns()
        rig.journal.step()
        taken[n] = time.perf_counter_ns() - start
        while rig.cursors[JOURNALED] < upto:  # the end of a segment cuts a block
            rig.journal.step()
    rig.journal.close()
    assert wal.scan_wal(data).seq == batch * count
    p50, p99, top = (np.percentile(taken, q) / 1e3 for q in (50, 99, 100))
    return {
        "io": io, "batch": batch, "blocks": count, "p50_us": round(p50, 1), "p99_us": round(p99, 1),
        "max_us": round(top, 1), "commands_per_s": round(batch * 1e9 / taken.mean()),
    }  # fmt: skip


def journal_rate(
    data: Path, io: str, seconds: float, each: int, capacity: int, preallocate: int
) -> dict[str, Any]:
    """Commands a second through the journal, with `each` reports a command, ring full of both."""
    config = Wal(io=io, preallocate=preallocate, report_log_bytes_max=4096 * MIB)
    rig = Rig(data, config, capacity, 65536)
    cursors, stop = rig.cursors, np.zeros(8, np.int64)
    engine = threading.Thread(
        target=produce_until, args=(*rig.rings, each, table(stop)), daemon=True
    )
    cpu = time.process_time(), time.thread_time()
    start = time.perf_counter()
    engine.start()
    pruned = 0
    while (elapsed := time.perf_counter() - start) < seconds:
        for _turn in range(256):
            rig.journal.step()
        while int(cursors[JOURNALED]) - pruned > 40_000_000:  # a WAL of a minute is 20 GB
            pruned += 30_000_000
            threading.Thread(target=wal.prune_wal, args=(data, pruned)).start()
    elapsed = time.perf_counter() - start
    done, shown = int(cursors[JOURNALED]), int(cursors[REPORTS_JOURNALED])
    cpu = time.process_time() - cpu[0], time.thread_time() - cpu[1]
    logged = int(cursors[REPORTS_READ])
    stop[0] = 1
    engine.join()
    rig.journal.close()
    end = wal.scan_wal(data, pruned)
    assert end.seq == int(cursors[RISKED]) == int(cursors[JOURNALED])
    reader = ReportLogReader(data, rig.manifest)
    assert reader.find_end() == int(cursors[REPORTS_WRITTEN]) == each * end.seq
    assert reader.sound_end(max(reader.first_index, logged - 100_000), logged) == logged
    sync, durable = rig.timing(Timing.SYNC), rig.timing(Timing.SEQUENCED_TO_DURABLE)
    return {
        "io": io, "seconds": round(elapsed, 1), "reports_each": each,
        "commands_per_s": round(done / elapsed), "reports_per_s": round(shown / elapsed),
        "commands_per_block": round(done / max(1, sync.value_count)),
        "sync_p50_us": sync.p50_ns / 1e3, "sync_p99_us": sync.p99_ns / 1e3,
        "sync_max_us": sync.max_ns / 1e3, "oldest_durable_p50_us": durable.p50_ns / 1e3,
        "oldest_durable_p99_us": durable.p99_ns / 1e3,
        "journal_thread_cpu": round(cpu[1] / elapsed, 2),
        "watermark_syncs": int(rig.journal.beside[B_SYNCED]),
    }  # fmt: skip


def reading(data: Path, commands: int) -> dict[str, Any]:
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
    total = sum(int(rows["seq"].sum()) for rows in wal.read_commands(data, 0, commands))
    read = time.perf_counter() - start
    assert total == commands * (commands + 1) // 2
    return {
        "commands": commands,
        "scan_per_s": round(commands / scanned),
        "read_per_s": round(commands / read),
    }


def conditions(data: Path) -> dict[str, Any]:
    """What the figures depend on."""
    kind = next(
        (
            f"{line.split()[0]} {line.split()[2]}"
            for line in reversed(Path("/proc/mounts").read_text().splitlines())
            if data.resolve().is_relative_to(line.split()[1])
        ),
        "unknown",
    )
    return {
        "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "kernel": platform.release(),
        "disk": kind, "data": str(data),
    }  # fmt: skip


def main() -> None:
    """Print a line per figure, or JSON."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    options.add_argument("--data", type=Path, default=None, help="directory on the disk to measure")
    options.add_argument("--sync", action="store_true", help="only block + sync latency")
    options.add_argument("--journal", action="store_true", help="only the stream of both logs")
    options.add_argument("--reading", action="store_true", help="only scan and read")
    options.add_argument("--io", choices=("direct", "mmap"), default=None, help="only this way")
    options.add_argument("--count", type=int, default=500, help="blocks a batch size")
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--reports", type=int, default=2, help="reports a command")
    options.add_argument("--commands", type=int, default=8192, help="slots of the commands ring")
    options.add_argument("--preallocate", type=int, default=2, help="segments made ahead")
    options.add_argument("--smoke", action="store_true", help="tiny, to see that it works")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    base = Path(tempfile.mkdtemp(prefix="wal-bench-", dir=chosen.data))
    data = base / "data"
    everything = not (chosen.sync or chosen.journal or chosen.reading)
    ways = (chosen.io,) if chosen.io else ("direct", "mmap")
    result: dict[str, Any] = {"conditions": conditions(base)}
    try:
        if chosen.sync or everything:
            batches, count = ((1, 64), 10) if chosen.smoke else ((1, 16, 256, 4096, 16384), None)
            result["sync"] = [
                sync_latency(data, io, batch, count or chosen.count)
                for batch in batches
                for io in ways
            ]
        if chosen.journal or everything:
            seconds = 0.3 if chosen.smoke else chosen.seconds
            result["journal"] = [
                journal_rate(data, io, seconds, chosen.reports, chosen.commands, chosen.preallocate)
                for io in ways
            ]
        if chosen.reading or everything:
            result["reading"] = reading(data, 20_000 if chosen.smoke else 10_000_000)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if chosen.json:
        json.dump(result, sys.stdout, indent=1)
        return
    for name, rows in result.items():
        for row in rows if isinstance(rows, list) else [rows]:
            print(f"{name:10}", *(f"{key} {value}" for key, value in row.items()), sep="  ")


if __name__ == "__main__":
    main()
