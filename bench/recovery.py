"""How fast a venue comes back: replay with checksums, recovery, start to taking orders.

    python -m bench.recovery [--smoke] [--json] [--out DIR] [--commands N]

A venue with many accounts and resting orders is stopped, a snapshot is taken, and N more commands
go through it, three reports each or two. Then, on that directory: the WAL alone is scanned; a
part of its commands is replayed out of memory, in one thread and compared with nothing, which no
recovery can be faster than; recoveries run in this process (snapshot, WAL with every hash, every
report derived again and compared with the log byte by byte), first from the disk, then with the
report log in the page cache; and the whole exchange is started, from nothing running to taking
orders.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from bench.harness import Report, parser
from bench.pipeline import STEPS, command, declare, flat_out, next_number, venue
from engine import memory, pipeline
from engine.recovery import Recovered, fresh_arrays, recover, restore, take
from engine.replay import Replayer
from engine.snapshotfile import list_snapshots, load_snapshot, read_meta
from engine.state import Limits, allocate, risk_tables, shard_tables, shared_book_tables
from engine.wal import scan_wal
from engine.walreader import read_commands
from shm import ingress
from shm.codes import Kind
from shm.config import Config
from shm.cursors import JOURNALED, SEQUENCED, SETTLED
from shm.pointers import table
from shm.records import COMMAND
from shm.units import SYSTEM_ACCOUNTS
from tools.replay import Session

COMMANDS: Final = 10_000_000
ALONE: Final = 1_000_000  # commands replayed out of memory
RUNS: Final = 3  # of a recovery


def resting(accounts: int, orders: int) -> np.ndarray[Any, Any]:
    """Bids below everything the load trades at, spread over accounts and 5,000 prices."""
    rows = np.concatenate([command(COMMAND, Kind.PLACE)] * 1).repeat(orders)
    number = np.arange(orders)
    rows["account"] = SYSTEM_ACCOUNTS + number % accounts
    rows["symbol"] = 0
    rows["price_ticks"] = 4_000 + number % 5_000
    rows["qty_lots"] = 1 + number % 7
    rows["lines"] = 1
    rows["request"] = number
    return rows


def load_up(session: Session, config: Config, count: int, steps: int) -> int:
    """Send the pattern flat out until about `count` commands are durable."""
    found = memory.attach(config)
    try:
        arrays = found.arrays
        ring = arrays[ingress.segment_name("bench")]
        cursors, goal = arrays["cursors"], int(arrays["cursors"][SEQUENCED]) + count
        rows = table(np.zeros(1024 * 32, np.int64))
        while int(cursors[SEQUENCED]) < goal:
            flat_out(
                *(table(ring), config.rings.ingress, table(cursors), table(arrays["control"])),
                *(1 << session.door._sequencer, next_number(ring, steps)),
                *(time.monotonic_ns() + 50_000_000, 256, rows, 1024, steps),
            )
        while min(int(cursors[SETTLED]), int(cursors[JOURNALED])) < int(cursors[SEQUENCED]):
            time.sleep(0.01)
        return int(cursors[SEQUENCED])
    finally:
        found.close()


def main(argv: list[str] | None = None) -> None:
    """Build the directory, then time each way back."""
    made = parser("recovery", __doc__)
    made.add_argument(
        "--commands", type=int, default=COMMANDS, help="in the WAL after the snapshot"
    )
    chosen = made.parse_args(argv)
    report = Report("recovery", chosen)
    accounts, orders = (100, 1_000) if chosen.smoke else (10_000, 100_000)
    count = 20_000 if chosen.smoke else chosen.commands
    limits = {
        "accounts": SYSTEM_ACCOUNTS + accounts,
        "assets": 1,
        "symbols": 1,
        "positions": SYSTEM_ACCOUNTS + accounts,
        "orders": 262144,
        "clients": 1024,
    }
    for steps in (STEPS,) if chosen.smoke else (STEPS, 2 * STEPS):
        with tempfile.TemporaryDirectory(
            prefix="perpcore-bench-", dir=os.environ.get("PERPCORE_BENCH_DIR")
        ) as data:
            config = venue("fused", f"bench-{os.getpid()}-r", data, limits)
            _run(report, config, accounts, orders, count, steps, 1 if chosen.smoke else RUNS)
    report.finish()


def alone(data: Path, sizes: Limits, after_seq: int, upto_seq: int) -> float:
    """Seconds of this thread to replay the commands of a WAL out of memory, from a snapshot on."""
    rows = np.concatenate([batch.copy() for batch in read_commands(data, after_seq, upto_seq)])
    _meta, sections = load_snapshot(list_snapshots(data)[0])
    arrays = fresh_arrays(sizes, reports=2048)
    restore(arrays, sizes, sections, 1)
    replayer = Replayer(arrays, sizes)
    begun = time.thread_time()
    for first in range(0, len(rows), 8192):
        replayer.feed(rows[first : first + 8192])
    replayer.feed(rows[:0], end=True)
    return time.thread_time() - begun


def from_disk(data: Path) -> None:
    """Have the operating system forget what it keeps of the report log."""
    for path in (data / "reports").glob("*.seg"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(config: Config) -> tuple[float, Recovered, int]:
    """(seconds, what was found, live orders) of a recovery into memory of its own."""
    sizes = memory.limits_of(config)
    arrays = pipeline.allocate_rings(commands=8192, matches=16384, reports=65536)
    for specs in (risk_tables(sizes), shared_book_tables(sizes), shard_tables(sizes)):
        arrays.update(allocate(specs))
    begun = time.monotonic()
    found = recover(config, arrays)
    return time.monotonic() - begun, found, int(arrays["venue"]["live_orders"][0])


def _run(
    report: Report,
    config: Config,
    accounts: int,
    orders: int,
    count: int,
    steps: int,
    runs: int,
) -> None:
    data = Path(config.data_dir)
    sizes = memory.limits_of(config)
    session = Session(config, producer="bench")
    try:
        session.send(declare(accounts), None)
        session.send(resting(accounts, orders), None)
    finally:
        session.close()
    taken = take(data, sizes)
    assert taken.path is not None, taken.why
    session = Session(config, producer="bench")
    try:
        load_up(session, config, count, steps)
    finally:
        session.close()

    end = scan_wal(data, taken.seq)
    begun = time.monotonic()
    scanned = sum(len(rows) for rows in read_commands(data, taken.seq, end.seq))
    scan_seconds = time.monotonic() - begun

    some = min(ALONE, end.seq - taken.seq)
    alone_seconds = alone(data, sizes, taken.seq, taken.seq + some)
    cold, warm = [], []
    for _ in range(runs):
        from_disk(data)
        cold.append(timed(config)[0])
        seconds, found, live = timed(config)
        warm.append(seconds)
        assert found.snapshot_seq == taken.seq and found.seq == end.seq
        assert live >= orders, f"{live} orders after recovery, {orders} rested"
    made = found.reports - int(read_meta(list_snapshots(data)[0])["reports_count"])
    from_disk(data)

    begun = time.monotonic()
    session = Session(config, producer="bench")
    started = time.monotonic() - begun
    session.close()
    steps_taken = (
        ("WAL scanned, hashed, unpacked", scanned, scan_seconds),
        ("replayed out of memory, one thread, cpu", some, alone_seconds),
        ("recovered, report log on the disk, median", found.replayed, median(cold)),
        ("recovered, report log in the page cache, median", found.replayed, median(warm)),
        ("exchange started, report log on the disk, to RUNNING", found.replayed, started),
    )
    report.table(
        f"recovery: {accounts:,} accounts, {live:,} resting orders, {found.replayed:,} commands "
        f"after the snapshot, {made / found.replayed:.2f} reports each, all compared; {runs} runs",
        [
            {
                "step": name,
                "s": seconds,
                "M/s": commands / seconds / 1e6,
                "ns": seconds / commands * 1e9,
            }
            for name, commands, seconds in steps_taken
        ],
    )


if __name__ == "__main__":
    main()
