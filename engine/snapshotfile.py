"""Snapshot files: named tables and a JSON text in one file that proves itself when it is read.

Reads   <data>/snapshots/snap.<seq>
Writes  the same, by way of a .tmp: write, fsync, read back and verify, rename, fsync the directory.
Never   knows what is in the tables: engine/snapshot.py does.

    SNAPSHOT_HEADER | meta: JSON | SNAPSHOT_SECTION per table | the tables     each zeros to 64

The header hashes itself, and text and section table with `file_hash`; the section table holds the
hash of each table. So one number vouches for every byte, and an error can say which table it is.
`meta` says what the snapshot is of; every snapshot has the keys seq, wal (32 hex digits), epoch
and reports_count.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from engine.files import (
    DataError,
    digest_word,
    magic_word,
    row_from,
    snapshots_folder,
    stamp,
    stamped,
    sync_folder,
)
from engine.room import wanting
from shm.hashing import hash_words
from shm.pointers import table
from shm.records import RECORDS, SNAPSHOT_HEADER, SNAPSHOT_SECTION

MAGIC: Final = magic_word("PERPSNP1")
FORMAT: Final = 1
_LINE: Final = 64
_HEADER_BYTES: Final = SNAPSHOT_HEADER.dtype.itemsize
_REMEDY: Final = (
    "Nothing was changed. Move it away: recovery takes the snapshot before it and replays more"
)

Sections = dict[str, np.ndarray[Any, Any]]


class SnapshotDamage(DataError):
    """A snapshot file that cannot be trusted: says file, section, byte."""


def snapshot_path(data: Path, seq: int) -> Path:
    return snapshots_folder(data) / f"snap.{seq:020d}"


def list_snapshots(data: Path) -> list[Path]:
    """Every finished snapshot, newest first; sound or not."""
    folder = snapshots_folder(data)
    if not folder.is_dir():
        return []
    names = (name for name in os.listdir(folder) if name.startswith("snap."))
    return [folder / n for n in sorted(names, reverse=True) if n[len("snap.") :].isdigit()]


def write_snapshot(
    path: Path, meta: Mapping[str, Any], sections: Mapping[str, np.ndarray[Any, Any]]
) -> None:
    """Write a snapshot such that, after a crash at any moment, it is whole or not there.

    sections    one-dimensional arrays of a record of shm/records, or of plain numbers
    raises      SnapshotDamage when what is read back is not what was written; NoRoom
    """
    rows = np.zeros(len(sections), SNAPSHOT_SECTION.dtype)
    text = _padded(json.dumps(dict(meta), sort_keys=True).encode())
    at = _HEADER_BYTES + len(text) + rows.nbytes
    for row, (name, array) in zip(rows, sections.items(), strict=True):
        kind = _type_name(array.dtype)
        assert array.ndim == 1 and len(name.encode()) <= 32 and len(kind) <= 48, name
        for field, value in (("name", name.encode()), ("type", kind.encode())):
            row[field][: len(value)] = np.frombuffer(value, np.uint8)
        row["layout"] = _dtype(kind)[1]
        row["rows"], row["row_bytes"] = len(array), array.dtype.itemsize
        row["offset"], row["bytes"] = at, array.nbytes
        row["hash"] = _hash(array)
        at += _padded_size(array.nbytes)
    head = np.zeros(1, SNAPSHOT_HEADER.dtype)
    head["file_bytes"], head["format"] = at, FORMAT
    head["meta_bytes"], head["section_count"] = len(text), len(rows)
    head["file_hash"] = _hash(np.frombuffer(text + rows.tobytes(), np.uint8))
    stamp(head, MAGIC)
    temporary = path.with_name(path.name + ".tmp")
    then = "Older ones stay. perpcore prune --dry-run says what may go"
    with wanting(at, path.parent, f"snapshot {path.name}", then), _whole_or_gone(temporary) as file:
        # All of it at once, or none: what is free is what a venue that runs needs next.
        os.posix_fallocate(file.fileno(), 0, at)
        file.write(head.tobytes() + text + rows.tobytes())
        for array in sections.values():
            file.write(np.ascontiguousarray(array).view(np.uint8).data)
            file.write(bytes(_padded_size(array.nbytes) - array.nbytes))
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # reading asks the disk
    verify_snapshot(temporary)
    os.rename(temporary, path)
    sync_folder(path.parent)


@contextmanager
def _whole_or_gone(path: Path) -> Iterator[BufferedWriter]:
    """A file to write, that is removed where it can't be."""
    with open(path, "wb") as file:
        try:
            yield file
        except OSError:
            path.unlink()
            raise


def load_snapshot(path: Path) -> tuple[dict[str, Any], Sections]:
    """(meta, sections) of a sound file; the arrays may be written to. Else SnapshotDamage."""
    with open(path, "rb") as file:
        contents = _contents(path, file)
        return contents.meta, dict(_tables(path, file, contents.rows))


def verify_snapshot(path: Path) -> dict[str, Any]:
    """As `load_snapshot`, holding one table at a time; returns meta."""
    with open(path, "rb") as file:
        contents = _contents(path, file)
        for _name, _array in _tables(path, file, contents.rows):
            pass
        return contents.meta


def read_meta(path: Path) -> dict[str, Any]:
    """What a snapshot says of itself, without reading its tables."""
    with open(path, "rb") as file:
        return _contents(path, file).meta


def newest_sound(
    data: Path, seq_max: int | None = None
) -> tuple[Path, dict[str, Any], Sections, list[SnapshotDamage]] | None:
    """The newest snapshot that loads, and the damage of newer ones; None when there is none.

    seq_max     leave out snapshots of later commands
    raises      SnapshotDamage when there are snapshots and none of them loads
    """
    damaged: list[SnapshotDamage] = []
    for path in list_snapshots(data):
        if seq_max is not None and int(path.suffix[1:]) > seq_max:
            continue
        try:
            meta, sections = load_snapshot(path)
        except SnapshotDamage as damage:
            damaged.append(damage)
            continue
        return path, meta, sections, damaged
    if damaged:
        raise damaged[0]
    return None


def prune_snapshots(data: Path, keep: int, read_to: int | None = None) -> list[Path]:
    """Remove all but the newest `keep` sound ones, and what crashes left; returns what was removed.

    A damaged one doesn't count: the sound one behind it is what recovery would take.

    read_to     reports that the slowest follower has read: the newest one before that stays too,
                since the WAL may begin there
    """
    found: list[Path] = []
    sound, covered = 0, read_to is None
    for path in list_snapshots(data):
        if covered and sound >= max(keep, 1):
            found.append(path)
            continue
        try:
            reports = int(verify_snapshot(path)["reports_count"])
        except SnapshotDamage:
            continue  # stays for whoever wants to know why
        covers = read_to is not None and reports <= read_to
        if sound < max(keep, 1) or covers:
            sound += 1
            covered |= covers
        else:
            found.append(path)
    removed = [*found, *snapshots_folder(data).glob("snap.*.tmp")]
    for path in removed:
        path.unlink()
    if removed:
        sync_folder(snapshots_folder(data))
    return removed


class _Contents(NamedTuple):
    meta: dict[str, Any]
    rows: np.ndarray[Any, Any]  # SNAPSHOT_SECTION


def _padded_size(size_bytes: int) -> int:
    return -(-size_bytes // _LINE) * _LINE


def _padded(content: bytes) -> bytes:
    return content.ljust(_padded_size(len(content)), b"\0")


def _hash(array: np.ndarray[Any, Any]) -> int:
    """Of an array's bytes, zeros to a multiple of 8; 1 for none."""
    if array.nbytes == 0:
        return 1
    content = np.ascontiguousarray(array).view(np.uint8)
    if len(content) % 8 or not content.flags.writeable:
        content = np.concatenate([content, np.zeros(-len(content) % 8, np.uint8)])
    words = content.view(np.int64)
    return int(hash_words(table(words), 0, len(words), MAGIC))


def _text(cells: np.ndarray[Any, Any]) -> str:
    return bytes(cells).rstrip(b"\0").decode(errors="replace")


def _type_name(dtype: np.dtype[Any]) -> str:
    """A record's name, or numpy's name of a plain type."""
    for name, layout in RECORDS.items():
        if layout.dtype == dtype:
            return name
    assert dtype.names is None, f"{dtype} is not declared in shm/records"
    return dtype.str


def _dtype(name: str) -> tuple[np.dtype[Any] | None, int]:
    """(type, layout digest) of a section's type name; None when there is no such type."""
    if name in RECORDS:
        return RECORDS[name].dtype, digest_word(RECORDS[name])
    try:
        return np.dtype(name), 0
    except TypeError:
        return None, 0


def _contents(path: Path, file: BufferedReader) -> _Contents:
    """Text and section table, once they, the header and the size of the file are right."""
    row = row_from(file.read(_HEADER_BYTES), SNAPSHOT_HEADER)
    head = row[0]
    if not stamped(row, MAGIC):
        raise SnapshotDamage(f"{path}: byte 0: the hash of the file header differs. {_REMEDY}")
    if int(head["format"]) != FORMAT:
        raise SnapshotDamage(
            f"{path}: format {int(head['format'])}, this release reads {FORMAT}. "
            "Load it with the release that wrote it"
        )
    size = os.fstat(file.fileno()).st_size
    if size != int(head["file_bytes"]):
        raise SnapshotDamage(
            f"{path}: {size} bytes, was written with {int(head['file_bytes'])}. {_REMEDY}"
        )
    text_bytes = int(head["meta_bytes"])
    both = file.read(text_bytes + int(head["section_count"]) * SNAPSHOT_SECTION.dtype.itemsize)
    if _hash(np.frombuffer(both, np.uint8)) != int(head["file_hash"]):
        raise SnapshotDamage(
            f"{path}: byte {_HEADER_BYTES}: the hash of text and section table differs. {_REMEDY}"
        )
    meta = json.loads(both[:text_bytes].rstrip(b"\0"))
    return _Contents(meta, np.frombuffer(both[text_bytes:], SNAPSHOT_SECTION.dtype))


def _tables(
    path: Path, file: BufferedReader, rows: np.ndarray[Any, Any]
) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Each section's name and table, once its hash is right."""
    for row in rows:
        name, kind = _text(row["name"]), _text(row["type"])
        size, start = int(row["bytes"]), int(row["offset"])
        dtype, layout = _dtype(kind)
        if dtype is None or layout != int(row["layout"]) or dtype.itemsize != row["row_bytes"]:
            raise SnapshotDamage(
                f"{path}: section {name}: {kind} of another release, "
                f"{int(row['row_bytes'])} bytes a row. Load it with the release that wrote it"
            )
        content = np.empty(_padded_size(size), np.uint8)
        content = content[: file.readinto(content.data)]
        padding = content[size:]
        if _hash(content[:size]) != int(row["hash"]) or (len(padding) and padding.any()):
            raise SnapshotDamage(
                f"{path}: section {name}: from byte {start}: the hash differs. {_REMEDY}"
            )
        yield name, content[:size].view(dtype)
