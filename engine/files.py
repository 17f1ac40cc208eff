"""The data directory: what lies where, who may write it, and how durable the WAL is known to be.

    lock                     flock of the engine that owns the directory
    manifest                 WAL_MANIFEST: which WAL, which epoch, where that epoch appends
    durable                  WATERMARK in two slots of 4096 bytes
    wal/wal.<n>.seg          segments of the WAL (engine/wal.py); *.broken: cut off by a recovery
    reports/rep.<index>.seg  the report log (engine/reportlog.py)
    snapshots/snap.<seq>     snapshots (engine/snapshotfile.py)

A new name is durable only after: write a .tmp, fsync it, rename it, fsync the directory.
The directory wal/ itself is locked by whoever appends to or cuts the WAL, so that a journal which
outlives its supervisor keeps a recovery from cutting under its feet.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

import numpy as np

from shm.files import (
    MANIFEST_MAGIC,
    PAGE_BYTES,
    RESTORE,
    DataError,
    Manifest,
    WalDamage,
    digest_word,
    magic_word,
    manifest_path,
    read_manifest,
    replace_file,
    reports_folder,
    row_from,
    snapshots_folder,
    stamp,
    stamped,
    sync_file,
    sync_folder,
    wal_folder,
)
from shm.records import WAL_MANIFEST, WATERMARK

# The reading half is shm/files.py, which followers stand on too.
__all__ = [
    "MANIFEST_MAGIC",
    "PAGE_BYTES",
    "RESTORE",
    "DataError",
    "Manifest",
    "WalDamage",
    "digest_word",
    "magic_word",
    "manifest_path",
    "read_manifest",
    "replace_file",
    "reports_folder",
    "row_from",
    "snapshots_folder",
    "stamp",
    "stamped",
    "sync_file",
    "sync_folder",
    "wal_folder",
]

_LOCK_SECONDS: Final = 5.0

WATERMARK_MAGIC: Final = magic_word("PERPMRK1")


# ---------------------------------------------------------------- names


@lru_cache(1024)
def segment_path(data: Path, number: int) -> Path:
    return wal_folder(data) / f"wal.{number:010d}.seg"


def segment_numbers(data: Path) -> list[int]:
    """Numbers of the segments that are there, ascending."""
    names = os.listdir(wal_folder(data))
    found = [n for n in names if n.endswith(".seg") and n.startswith("wal.") and n.count(".") == 2]
    return sorted(int(name[4:-4]) for name in found)


# ---------------------------------------------------------------- durable names


def sync_files(folder: Path, but: str = "\0") -> None:
    """fsync every file of a directory and the directory, so that what is read next is durable.

    but     leave out files whose names end so
    """
    with os.scandir(folder) as entries:
        paths = sorted(e.path for e in entries if e.is_file() and not e.name.endswith(but))
    for path in paths:
        sync_file(path)
    sync_folder(folder)


def make_folders(data: Path) -> None:
    """Make the data directory and those inside it, durably."""
    for folder in (data, wal_folder(data), reports_folder(data), snapshots_folder(data)):
        if not folder.is_dir():
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            sync_folder(folder.parent)


# ---------------------------------------------------------------- locks


class Lock:
    """flock on a file or directory, held until `release` or the end of the process."""

    def __init__(self, path: Path, whose: str, *, wait_seconds: float = 0.0) -> None:
        self.path = path
        flags = os.O_RDONLY | os.O_DIRECTORY if path.is_dir() else os.O_RDWR | os.O_CREAT
        self._fd = os.open(path, flags, 0o640)
        until = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < until:
                    time.sleep(0.01)
                    continue
                holder = (
                    "" if path.is_dir() else os.pread(self._fd, 32, 0).decode("ascii", "replace")
                )
                os.close(self._fd)
                raise DataError(
                    f"{path}: in use by {whose}{' ' + holder.strip() if holder.strip() else ''}. "
                    "Stop that process first, or give this one another data directory"
                ) from None
        if not path.is_dir():
            with suppress(OSError):  # for a message alone: whoever makes room needs this lock
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, f"pid {os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.release()


def lock_data(data: Path) -> Lock:
    """The one lock that makes a process the owner of a data directory."""
    return Lock(data / "lock", "an engine,")


def lock_wal(data: Path) -> Lock:
    """Held while appending to the WAL, and while cutting it."""
    return Lock(wal_folder(data), "a journal or a recovery", wait_seconds=_LOCK_SECONDS)


def lock_retention(data: Path) -> Lock:
    """Held while a backup copies, and while anything but the report log is pruned."""
    return Lock(data / "retention", "a backup or a pruning,")


# ---------------------------------------------------------------- manifest


def write_manifest(data: Path, manifest: Manifest) -> None:
    """Make it the data directory's manifest, durably."""
    row = np.zeros(1, WAL_MANIFEST.dtype)
    for name, value in manifest._asdict().items():
        row[name] = value
    stamp(row, MANIFEST_MAGIC)
    replace_file(manifest_path(data), row.tobytes())


# ---------------------------------------------------------------- watermark


class Watermark(NamedTuple):
    """The newest sound slot."""

    durable_seq: int
    block: int
    epoch: int
    writes: int  # the slot's `count`


@lru_cache(64)
def watermark_path(data: Path) -> Path:
    return data / "durable"


def watermark_row(manifest: Manifest, durable_seq: int, block: int, count: int) -> Any:
    """A slot, stamped."""
    row = np.zeros(1, WATERMARK.dtype)
    row["wal_hi"], row["wal_lo"] = manifest.wal_hi, manifest.wal_lo
    row["epoch"], row["durable_seq"] = manifest.epoch, durable_seq
    row["block"], row["count"] = block, count
    stamp(row, WATERMARK_MAGIC)
    return row


def create_watermark(data: Path, manifest: Manifest) -> None:
    """Slot 0 says that nothing is durable yet; slot 1 is blank."""
    slot = watermark_row(manifest, 0, -1, 0).tobytes()
    replace_file(watermark_path(data), slot.ljust(2 * PAGE_BYTES, b"\0"))


def read_watermark(data: Path, manifest: Manifest) -> Watermark:
    """The newest sound slot of this WAL; WalDamage when no slot is."""
    path = watermark_path(data)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    best: Watermark | None = None
    for at in (0, PAGE_BYTES):
        row = row_from(content[at : at + PAGE_BYTES], WATERMARK)
        if not stamped(row, WATERMARK_MAGIC):
            continue
        slot = row[0]
        if (int(slot["wal_hi"]), int(slot["wal_lo"])) != (manifest.wal_hi, manifest.wal_lo):
            raise WalDamage(path, at, 1, 0, "the watermark belongs to another WAL", RESTORE)
        fields = ("durable_seq", "block", "epoch", "count")
        found = Watermark(*(int(slot[name]) for name in fields))
        if best is None or found.writes > best.writes:
            best = found
    if best is None:
        what = "is damaged" if content else "is missing"
        raise WalDamage(
            path, 0, 1, 0, f"the watermark {what}, so nothing says where the log must end", RESTORE
        )
    return best
