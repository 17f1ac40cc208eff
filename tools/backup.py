"""`perpcore backup` and `restore`: one cut of a venue, of a running one too, and back.

    BACKUP/data/        manifest, durable, limits.json, wal/, snapshots/, reports/: a data directory
    BACKUP/stores/      SQLite files, each copied by SQLite itself: users, history
    BACKUP/ledger/      and whatever else lies in the data directory, file by file
    BACKUP/backup.json  what it holds, its hashes; written last: without it there is no backup

The order makes the cut: stores first, then reports, then how far the log is durable, then the log,
so that nothing is ahead of the log; what that holds beyond is a tail like any other. A start of the
engine in between changes the manifest, and the copy begins again.

Reads   a data directory, its engine running or not.
Writes  the backup; the restored directory, which must not exist or be empty.
Never   counts as done before its log has been replayed and compared with its digests.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from engine import files, recovery, wal, walblocks, walreader
from engine.files import DataError, Manifest
from engine.room import wanting
from engine.snapshotfile import list_snapshots
from shm.files import PAGE_BYTES
from shm.records import REPORT_GROUP
from shm.reportlog import GROUP, RECORD_BYTES, ReportLogReader
from tools.datadir import limits_for

CONTENTS: Final = "backup.json"
FORMAT: Final = 1
TRIES: Final = 5
_PIECE: Final = 1 << 20
_OURS: Final = (
    "wal",
    "reports",
    "snapshots",
    "lock",
    "retention",
    "manifest",
    "durable",
    recovery.LIMITS_FILE,
)
_OF_THE_MOMENT: Final = ("gateways.once",)  # 32 MB that nobody has a use for a minute later
_SQLITE: Final = b"SQLite format 3\0"


class BackupError(Exception):
    """It cannot be done; the text says what, where and what to do."""


class Made(NamedTuple):
    """A backup."""

    path: str
    seq: int  # last command in it
    size_bytes: int
    files: int
    seconds: float


def _copy(source: Path, sink: Path, used: int | None = None) -> None:
    """Copy a file, or its first `used` bytes and a hole up to its size; zeros stay holes."""
    sink.parent.mkdir(parents=True, exist_ok=True)
    zeros = bytes(_PIECE)
    with open(source, "rb") as read, open(sink, "wb") as write:
        size = os.fstat(read.fileno()).st_size
        left = size if used is None else min(used, size)
        while left > 0 and (piece := read.read(min(left, _PIECE))):
            if piece == zeros[: len(piece)]:
                write.seek(len(piece), os.SEEK_CUR)
            else:
                write.write(piece)
            left -= len(piece)
        write.truncate(size)
        write.flush()
        os.fsync(write.fileno())


def _copy_reports(data: Path, to: Path, manifest: Manifest) -> None:
    """The report log up to where it ends now: what is written meanwhile is left out whole."""
    reader = ReportLogReader(data, manifest)
    end = reader.find_end()
    reader.close()
    for segment in reader.segments:
        used = min(max(end - segment.first_index, 0), segment.record_count)
        _copy(segment.path, to / segment.path.name, PAGE_BYTES + used * RECORD_BYTES)
        if segment.index_path.exists():
            groups = -(-used // GROUP) if used == segment.record_count else used // GROUP
            rows = groups * REPORT_GROUP.dtype.itemsize
            _copy(segment.index_path, to / segment.index_path.name, rows)


def _copy_wal(data: Path, to: Path, manifest: Manifest, durable_seq: int) -> None:
    """The log up to its last whole block of this moment, which is at least what is durable."""
    blocks = walreader.BlockScanner(data, manifest, max(durable_seq - 1, 0))
    blocks.advance(1 << 62, 1 << 62)
    blocks.close()
    last, end = int(blocks.scan[walblocks.S_SEGMENT]), int(blocks.scan[walblocks.S_OFFSET])
    for number in files.segment_numbers(data):
        if number <= last:
            path = files.segment_path(data, number)
            _copy(path, to / path.name, end if number == last else None)


def _copy_data(data: Path, to: Path) -> None:
    """A data directory as of now, such that recovery takes it; raises BackupError when it can't."""
    for _ in range(TRIES):
        if to.exists():
            shutil.rmtree(to)
        to.mkdir(parents=True)
        manifest = files.read_manifest(data)
        try:
            for folder in ("reports", "snapshots", "wal"):
                (to / folder).mkdir()
            _copy_reports(data, to / "reports", manifest)
            for path in list_snapshots(data):
                _copy(path, to / "snapshots" / path.name)
            for name in ("durable", recovery.LIMITS_FILE):
                _copy(data / name, to / name)
            durable_seq = files.read_watermark(to, manifest).durable_seq
            _copy_wal(data, to / "wal", manifest, durable_seq)
        except FileNotFoundError:
            continue  # pruned under our hands
        _copy(files.manifest_path(data), files.manifest_path(to))
        if files.read_manifest(data) == manifest:
            return
    raise BackupError(
        f"{data}: changed {TRIES} times while it was being copied: its engine starts again and "
        "again, or prunes. Try again when it runs steadily"
    )


def _stores(data: Path) -> Iterator[tuple[Path, bool]]:
    """Files in the data directory that are not the engine's, and whether SQLite keeps them."""
    for path in sorted(data.rglob("*")):
        part = path.relative_to(data).parts[0]
        if (
            part in (*_OURS, *_OF_THE_MOMENT)
            or not path.is_file()
            or path.name.endswith(("-wal", "-shm", ".sock"))
        ):
            continue
        with open(path, "rb") as file:
            yield path, file.read(16) == _SQLITE


def _copy_stores(data: Path, to: Path) -> None:
    for path, sqlite in _stores(data):
        sink = to / path.relative_to(data)
        sink.parent.mkdir(parents=True, exist_ok=True)
        if not sqlite:
            _copy(path, sink)
            continue
        with (
            closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(sink)) as copied,
        ):
            try:
                source.backup(copied)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                    raise
                raise OSError(errno.ENOSPC, str(error), str(sink)) from error


def _size(folder: Path) -> int:
    """Bytes of disk that its files take."""
    return sum(p.stat().st_blocks * 512 for p in folder.rglob("*") if p.is_file())


def _hash(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): _hash(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != CONTENTS
    }


def backup(data: Path, to: Path) -> Made:
    """Make a backup in a new folder below `to`, named by the time.

    raises      BackupError, DataError; then nothing that could be taken for a backup is left
    """
    begun = time.monotonic()
    if not files.manifest_path(data).exists():
        raise BackupError(f"{data}: no data directory (no manifest). Name the one that holds wal/")
    name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder, number = to / name, 1
    while folder.exists():
        folder, number = to / f"{name}-{number}", number + 1
    part = folder.with_name(folder.name + ".part")
    if part.exists():
        shutil.rmtree(part)
    to.mkdir(parents=True, exist_ok=True)
    then = "None was made, those before it stay. Make room (--keep), or name another disk"
    try:
        with wanting(_size(data), to, "a backup", then):
            with files.lock_retention(data):
                _copy_stores(data, part / "stores")
                _copy_data(data, part / "data")
            verified = recovery.verify(part / "data", limits_for(part / "data"))
            hashes = _hashes(part)
            contents = {
                "format": FORMAT,
                "made": name,
                "seq": verified.seq,
                "state_digest": verified.state_digest,
                "files": hashes,
            }
            (part / CONTENTS).write_text(json.dumps(contents, indent=1))
            files.sync_files(part)
            part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    size = _size(folder)
    return Made(str(folder), verified.seq, size, len(hashes), time.monotonic() - begun)


def prune(to: Path, keep: int) -> list[Path]:
    """Remove the oldest finished backups beyond `keep`; returns what was removed."""
    finished = sorted(p for p in to.iterdir() if (p / CONTENTS).exists())
    old = finished[:-keep]
    for path in old:
        shutil.rmtree(path)
    return old


def stream(data: Path, sink: BinaryIO, work: Path) -> Made:
    """A backup as one tar stream; `work` has room for one."""
    made = backup(data, work)
    folder = Path(made.path)
    with tarfile.open(fileobj=sink, mode="w|") as tar:
        tar.add(folder, arcname=folder.name)
    shutil.rmtree(folder)
    return made


def check(folder: Path) -> dict[str, object]:
    """What a backup says of itself, compared with every byte of it."""
    try:
        contents: dict[str, object] = json.loads((folder / CONTENTS).read_text())
    except (OSError, ValueError) as error:
        raise BackupError(
            f"{folder}: no backup ({CONTENTS}: {error}). One that was not finished ends in .part"
        ) from None
    if contents.get("format") != FORMAT:
        raise BackupError(
            f"{folder}: format {contents.get('format')!r}, this release reads {FORMAT}"
        )
    wanted, found = contents["files"], _hashes(folder)
    assert isinstance(wanted, dict)
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            what = "is missing" if name not in found else "is not what was backed up"
            raise BackupError(f"{folder / name}: {what}. Take another backup")
    return contents


def _seq_at(data: Path, ts_ns: int) -> int:
    """The last command at or before a time."""
    found = 0
    manifest = files.read_manifest(data)
    first = walreader.first_header(data, manifest, files.segment_numbers(data)[0])
    after = int(first["first_seq"]) - 1
    end = wal.scan_wal(data, after).seq
    for rows in walreader.read_commands(data, after, end):
        early = rows[rows["ts_ns"] <= ts_ns]
        if len(early):
            found = int(early["seq"][-1])
        if len(early) < len(rows):
            break
    return found


def restore(
    folder: Path, data: Path, *, to_seq: int | None = None, to_ns: int | None = None
) -> recovery.Verified:
    """Lay a backup into a directory that is not there or empty, and prove it sound.

    to_seq, to_ns   only up to this command, or this time: what came after is not in the result,
                    whose next start begins a new epoch there
    """
    contents = check(folder)
    if data.exists() and any(data.iterdir()):
        raise BackupError(f"{data}: not empty. Restore into a directory that is, or is not there")
    source = folder / "data"
    last = contents["seq"]
    assert isinstance(last, int)
    if to_ns is not None:
        to_seq = _seq_at(source, to_ns)
    if to_seq is not None and not 0 < to_seq <= last:
        raise BackupError(f"{folder}: holds commands up to {last}; asked for {to_seq}")
    with _all_or_nothing(folder, data):
        shutil.copytree(source, data, dirs_exist_ok=True)
        stores = folder / "stores"
        if to_seq is None or to_seq == last:
            if stores.is_dir():
                shutil.copytree(stores, data, dirs_exist_ok=True)
        else:
            # Followers' stores may be ahead of that point: they are derived again from the log.
            for path in stores.glob("users*") if stores.is_dir() else ():
                shutil.copy2(path, data / path.name)
            _cut_after(data, to_seq)
        files.sync_files(data)
    return recovery.verify(data, limits_for(data))


@contextmanager
def _all_or_nothing(folder: Path, data: Path) -> Iterator[None]:
    """Leave nothing in a directory that was empty, or not there, when a disk says no.

    Half a venue would be taken for one: some of its files prove themselves.
    """
    existed = data.exists()
    try:
        yield
    except OSError as error:
        for path in data.iterdir() if data.exists() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        room = os.statvfs(next(p for p in (data, *data.parents) if p.exists()))
        if not existed and data.exists():
            data.rmdir()
        # Of all that shutil could not copy, the first.
        why = error.args[0][0][2] if isinstance(error, shutil.Error) else error
        wanted = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        raise BackupError(
            f"{data}: {wanted:,} bytes were to be laid there, its disk has "
            f"{room.f_bavail * room.f_frsize:,} free: {why}. Nothing of it was left. "
            "Make room, or name a directory on another disk"
        ) from error


def _cut_after(data: Path, seq: int) -> None:
    """Make the log end with `seq`, so that it is what it was when that command was the newest."""
    for path in list_snapshots(data):
        if int(path.name.rpartition(".")[2]) > seq:
            path.unlink()
    wal.cut_after(data, seq)
    for path in (data / "reports").iterdir():
        path.unlink()  # derived again at the first start


__all__ = ["BackupError", "DataError", "backup", "check", "restore", "stream"]
