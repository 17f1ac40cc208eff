"""How fast a venue comes back: replay with checksums, recovery, start to taking orders.

    python -m bench.recovery [--smoke] [--json] [--out DIR] [--commands N]

A venue with many accounts and resting orders is stopped, a snapshot is taken, and N more commands
go through it. Then, on that directory: the WAL alone is scanned; a recovery runs in this process
(snapshot, WAL with every hash, every report derived again and compared with the log byte by byte);
and the whole exchange is started, from nothing running to taking orders.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.harness import Report, parser
from bench.pipeline import command, declare, flat_out, next_number, venue
from engine import memory, pipeline
from engine.recovery import recover, take
from engine.state import allocate, risk_tables, shard_tables, shared_book_tables
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


def load_up(session: Session, config: Config, count: int) -> int:
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
                *(1 << session.door._sequencer, next_number(ring)),
                *(time.monotonic_ns() + 50_000_000, 256, rows, 1024),
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
    with tempfile.TemporaryDirectory(
        prefix="perpcore-bench-", dir=os.environ.get("PERPCORE_BENCH_DIR")
    ) as data:
        limits = {
            "accounts": SYSTEM_ACCOUNTS + accounts,
            "assets": 1,
            "symbols": 1,
            "positions": SYSTEM_ACCOUNTS + accounts,
            "orders": 262144,
            "clients": 1024,
        }
        config = venue("fused", f"bench-{os.getpid()}-r", data, limits)
        _run(report, config, accounts, orders, count)
    report.finish()


def _run(report: Report, config: Config, accounts: int, orders: int, count: int) -> None:
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
        load_up(session, config, count)
    finally:
        session.close()

    end = scan_wal(data, taken.seq)
    begun = time.monotonic()
    scanned = sum(len(rows) for rows in read_commands(data, taken.seq, end.seq))
    scan_seconds = time.monotonic() - begun

    arrays = pipeline.allocate_rings(commands=8192, matches=16384, reports=65536)
    for specs in (risk_tables(sizes), shared_book_tables(sizes), shard_tables(sizes)):
        arrays.update(allocate(specs))
    begun = time.monotonic()
    found = recover(config, arrays)
    seconds = time.monotonic() - begun
    live = int(arrays["venue"]["live_orders"][0])
    assert found.snapshot_seq == taken.seq and found.seq == end.seq
    assert live >= orders, f"{live} orders after recovery, {orders} rested"

    begun = time.monotonic()
    session = Session(config, producer="bench")
    started = time.monotonic() - begun
    session.close()
    report.table(
        f"recovery: {accounts:,} accounts, {live:,} resting orders, "
        f"{found.replayed:,} commands after the snapshot",
        [
            {
                "step": "WAL scanned, hashed, unpacked",
                "s": scan_seconds,
                "M/s": scanned / scan_seconds / 1e6,
            },
            {
                "step": "recovered: snapshot, replay, reports compared",
                "s": seconds,
                "M/s": found.replayed / seconds / 1e6,
            },
            {
                "step": "exchange started, to RUNNING",
                "s": started,
                "M/s": found.replayed / started / 1e6,
            },
        ],
    )


if __name__ == "__main__":
    main()
