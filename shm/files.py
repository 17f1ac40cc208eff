"""What lies in a data directory, for whoever reads it: names, headers, the manifest.

Reads   the manifest; headers that `stamp` finished.
Writes  a file as a whole, durably, when asked (`replace_file`, `create_file`).
Never   appends or cuts a log: what owns the directory does that (engine/files.py).

A new name is durable only after: write a .tmp, fsync it, rename it, fsync the directory.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from shm.hashing import hash_words
from shm.pointers import table
from shm.records import WAL_MANIFEST, Record
from shm.release import RELEASE

PAGE_BYTES: Final = 4096  # what O_DIRECT asks of address, offset and length, on any disk we know


class DataError(Exception):
    """The data directory cannot be used as it is; says what, where and what to do."""


def is_full(error: OSError) -> bool:
    """Whether it says that there is no room: on a disk, in a quota, under a limit of file sizes."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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


# Asked for at every look at a file, of one directory in a process's life, or a few.
@lru_cache(64)
def wal_folder(data: Path) -> Path:
    return data / "wal"


@lru_cache(64)
def reports_folder(data: Path) -> Path:
    return data / "reports"


@lru_cache(64)
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


def sync_file(path: Path | str) -> None:
    """fsync one file."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


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


def create_file(path: Path, content: bytes) -> None:
    """Put `content` under `path`, for its owner alone (0600), unless somebody has the name already.

    Of any number of processes that do so at once one wins, and nobody ever reads a part of it.
    """
    temporary = path.with_name(f"{path.name}.{os.urandom(8).hex()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)
    sync_folder(path.parent)


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


@lru_cache(64)
def manifest_path(data: Path) -> Path:
    return data / "manifest"


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
