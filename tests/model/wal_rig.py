"""A journal over rings in this process, and commands to put through it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from engine import files, wal, walreader
from engine.journal import Journal, JournalFailed
from shm.config import Wal
from shm.cursors import (
    CURSOR_CELLS,
    JOURNALED,
    REPORTS_CLAIMED,
    REPORTS_JOURNALED,
    REPORTS_READ,
    REPORTS_WRITTEN,
    RISKED,
    SETTLED,
)
from shm.records import COMMAND, REPORT
from tests.model.wal_twin import Command, Log, read_wal

PAGE = 4096
SMALL = Wal(segment_bytes=8 * PAGE, block_bytes_max=4 * PAGE, heartbeat_ms=60_000, preallocate=1)


def commands_from(first_seq: int, count: int, seed: int) -> np.ndarray[Any, Any]:
    """Commands full of noise, as risk leaves them in the ring."""
    rng = np.random.default_rng((seed, first_seq))
    rows = np.zeros(count, COMMAND.dtype)
    words = rows.view(np.int64).reshape(count, 32)
    words[:, 1:32] = rng.integers(-(1 << 62), 1 << 62, (count, 31))
    rows["seq"] = np.arange(first_seq, first_seq + count)
    rows["settled_lag"] = 0
    rows["lines"] = rng.integers(1, 4, count)
    rows["ts_ns"] = 1_700_000_000_000_000_000 + rows["seq"]
    rows["settled_seq"] = rows["seq"] - 1 - np.minimum(rows["seq"] - 1, rng.integers(0, 200, count))
    for row, lines in enumerate(rows["lines"]):
        words[row, 8 * int(lines) : 24] = 0
    return rows


def replayable(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What of commands comes back from the WAL."""
    kept = rows.copy()
    kept.view(np.int64).reshape(-1, 32)[:, 24:] = 0
    kept["settled_seq"] = rows["settled_seq"]
    return kept


def twin_command(row: Any) -> Command:
    """A row as the twin reads it."""
    return Command(
        int(row["seq"]), int(row["settled_seq"]), row.tobytes()[: 64 * int(row["lines"])]
    )


def give_up(error: JournalFailed) -> None:
    """Instead of ending the process."""
    raise error


class WalRig:
    """One data directory over any number of engine starts."""

    def __init__(
        self, data: Path, config: Wal = SMALL, *, capacity: int = 256, seed: int = 1
    ) -> None:
        self.data = data
        self.config = config
        self.seed = seed
        self.capacity = capacity
        self.commands: list[np.ndarray[Any, Any]] = []
        self.reports: list[np.ndarray[Any, Any]] = []
        self.report_count = 0
        self.cursors = np.zeros(CURSOR_CELLS, np.int64)
        self.ring = np.zeros(capacity, COMMAND.dtype)
        self.report_ring = np.zeros(capacity, REPORT.dtype)
        wal.open_wal(data, config.segment_bytes)

    def start(self, *, snapshot_seq: int = 0, **options: Any) -> Journal:
        """Recover, begin an epoch, make a journal."""
        end = wal.recover_wal(self.data, snapshot_seq)
        wal.begin_epoch(self.data, end)
        self.cursors[:] = 0
        for cell in (JOURNALED, RISKED, SETTLED):
            self.cursors[cell] = end.seq
        for cell in (REPORTS_CLAIMED, REPORTS_WRITTEN, REPORTS_READ, REPORTS_JOURNALED):
            self.cursors[cell] = self.report_count
        arguments = {"threads": False, "segment_records": 4096, "failed": give_up} | options
        self.journal = Journal(
            self.data, self.cursors, self.ring, self.report_ring, self.config, **arguments
        )
        return self.journal

    def put(self, count: int, reports: int = 0) -> None:
        """Let risk decide `count` more commands, and settlement write as many `reports` of each."""
        assert count <= self.capacity - (self.cursors[RISKED] - self.cursors[JOURNALED])
        rows = commands_from(int(self.cursors[RISKED]) + 1, count, self.seed)
        self.ring[rows["seq"] & (self.capacity - 1)] = rows
        self.commands.append(replayable(rows))
        told = np.zeros(count * reports, REPORT.dtype)
        told["seq"] = np.repeat(rows["seq"], reports)
        told["order_id"] = np.arange(self.report_count, self.report_count + len(told))
        told["open_lots"] = told["order_id"] * 12345
        self.report_ring[told["order_id"] & (self.capacity - 1)] = told
        self.reports.append(told)
        self.report_count += len(told)
        self.cursors[REPORTS_CLAIMED] = self.cursors[REPORTS_WRITTEN] = self.report_count
        self.cursors[RISKED] = self.cursors[SETTLED] = int(rows["seq"][-1])

    def write(self, count: int, reports: int = 0) -> None:
        """`put`, and make it durable: one block if it fits one."""
        self.put(count, reports)
        while self.cursors[JOURNALED] < self.cursors[RISKED]:
            self.journal.step()

    def written(self) -> np.ndarray[Any, Any]:
        """All commands so far, as they come back."""
        return np.concatenate([np.zeros(0, COMMAND.dtype), *self.commands])

    def told(self) -> np.ndarray[Any, Any]:
        """All reports so far."""
        return np.concatenate([np.zeros(0, REPORT.dtype), *self.reports])


def segments_of(data: Path) -> dict[int, bytes]:
    """Every segment file's content."""
    return {n: files.segment_path(data, n).read_bytes() for n in files.segment_numbers(data)}


def twin_of(data: Path, segments: dict[int, bytes] | None = None, snapshot_seq: int = 0) -> Log:
    """The twin's reading of a data directory, or of other segments in their place."""
    manifest = files.read_manifest(data)
    return read_wal(
        segments_of(data) if segments is None else segments,
        wal=(manifest.wal_hi, manifest.wal_lo),
        epoch=manifest.epoch,
        epoch_block=manifest.block,
        epoch_seq=manifest.seq,
        segment_bytes=manifest.segment_bytes,
        mark=files.watermark_path(data).read_bytes(),
        snapshot_seq=snapshot_seq,
    )


def copy_data(data: Path, to: Path) -> Path:
    """A data directory of its own with the same content."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(data, to)
    return to


def content_of(data: Path) -> dict[str, bytes]:
    """Every file, to see that nothing was changed."""
    return {
        str(p.relative_to(data)): p.read_bytes()
        for p in sorted(data.rglob("*"))
        if p.is_file() and p.name != "lock"
    }


def read_all(data: Path, after_seq: int, until_seq: int, batch: int = 64) -> np.ndarray[Any, Any]:
    """Commands back from disk, in one array."""
    found = [rows.copy() for rows in walreader.read_commands(data, after_seq, until_seq, batch)]
    return np.concatenate([np.zeros(0, COMMAND.dtype), *found])
