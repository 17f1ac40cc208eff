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
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

import numpy as np

from engine.direct import PAGE_BYTES
from shm.hashing import hash_words
from shm.pointers import table
from shm.records import WAL_MANIFEST, WATERMARK, Record

RELEASE: Final = 1  # of the program; stamped into what it writes

_LOCK_SECONDS: Final = 5.0


class DataError(Exception):
    """The data directory cannot be used as it is; says what, where and what to do."""


class WalDamage(DataError):
    """Something that was acknowledged cannot be read any more. Nothing was changed."""

    def __init__(
        self, path: Path, offset: int, first_seq: int, last_seq: int, what: str, remedy: str
    ) -> None:
        span = f"commands {first_seq}..{last_seq} were acknowledged and cannot be read"
        lost = span if last_seq >= first_seq else f"the log ends after command {first_seq - 1}"
        super().__init__(f"{path}: byte {offset}: {what}; {lost}. Nothing was changed. {remedy}")
        self.path = path
        self.offset = offset
        self.first_seq = first_seq
        self.last_seq = last_seq


RESTORE: Final = (
    "Copy the file from a standby or a backup of the same WAL, then start again; "
    "perpcore verify lists what else is damaged"
)


def magic_word(text: str) -> int:
    """Eight letters as the int64 that starts a file."""
    return int.from_bytes(text.encode(), "little", signed=True)


MANIFEST_MAGIC: Final = magic_word("PERPMAN1")
WATERMARK_MAGIC: Final = magic_word("PERPMRK1")


def digest_word(layout: Record) -> int:
    """A record's layout digest as one int64."""
    return int.from_bytes(bytes.fromhex(layout.digest), "little", signed=True)


def stamp(row: np.ndarray[Any, Any], magic: int) -> None:
    """Finish a header of one row whose first two words are magic and hash."""
    words = row.view(np.int64)
    words[0] = magic
    words[1] = hash_words(table(words), 2, len(words) - 2, magic)


def stamped(row: np.ndarray[Any, Any], magic: int) -> bool:
    """Whether `stamp` wrote it and nothing has changed since."""
    words = row.view(np.int64)
    return bool(
        words[0] == magic and words[1] == hash_words(table(words), 2, len(words) - 2, magic)
    )


def row_from(data: bytes, layout: Record) -> np.ndarray[Any, Any]:
    """One writable row out of the beginning of `data`, zeros where it is short."""
    size = layout.dtype.itemsize
    return np.frombuffer(bytearray(data[:size].ljust(size, b"\0")), layout.dtype)


# ---------------------------------------------------------------- names


def wal_folder(data: Path) -> Path:
    return data / "wal"


def segment_path(data: Path, number: int) -> Path:
    return wal_folder(data) / f"wal.{number:010d}.seg"


def segment_numbers(data: Path) -> list[int]:
    """Numbers of the segments that are there, ascending."""
    return sorted(int(path.name.split(".")[1]) for path in wal_folder(data).glob("wal.*.seg"))


def reports_folder(data: Path) -> Path:
    return data / "reports"


def snapshots_folder(data: Path) -> Path:
    return data / "snapshots"


# ---------------------------------------------------------------- durable names


def sync_folder(folder: Path) -> None:
    """fsync a directory: names made or removed in it are durable after this."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    """fsync one file."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_files(folder: Path) -> None:
    """fsync every file of a directory and the directory, so that what is read next is durable."""
    for path in sorted(folder.iterdir()):
        if path.is_file():
            sync_file(path)
    sync_folder(folder)


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` under `path` such that a crash leaves the old file or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
    try:
        at = 0
        while at < len(content):
            at += os.write(fd, content[at:])
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)
    sync_folder(path.parent)


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


# ---------------------------------------------------------------- manifest


class Manifest(NamedTuple):
    """WAL_MANIFEST in Python's numbers."""

    wal_hi: int
    wal_lo: int
    epoch: int
    segment_bytes: int
    segment: int = 0
    offset: int = 0
    block: int = 0
    seq: int = 0
    previous_hash: int = 0
    created_ns: int = 0
    release: int = RELEASE


def manifest_path(data: Path) -> Path:
    return data / "manifest"


def write_manifest(data: Path, manifest: Manifest) -> None:
    """Make it the data directory's manifest, durably."""
    row = np.zeros(1, WAL_MANIFEST.dtype)
    for name, value in manifest._asdict().items():
        row[name] = value
    stamp(row, MANIFEST_MAGIC)
    replace_file(manifest_path(data), row.tobytes())


def read_manifest(data: Path) -> Manifest:
    """Raise DataError when there is none or it is damaged."""
    path = manifest_path(data)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{path}: there is none, so {data} holds no WAL. Start an engine on it, or name another"
        ) from None
    row = row_from(content, WAL_MANIFEST)
    if len(content) != WAL_MANIFEST.dtype.itemsize or not stamped(row, MANIFEST_MAGIC):
        raise WalDamage(path, 0, 1, 0, "the manifest is damaged (hash differs)", RESTORE)
    return Manifest(**{name: int(row[0][name]) for name in Manifest._fields})


# ---------------------------------------------------------------- watermark


class Watermark(NamedTuple):
    """The newest sound slot."""

    durable_seq: int
    block: int
    epoch: int
    writes: int  # the slot's `count`


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
