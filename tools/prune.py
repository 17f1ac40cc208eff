"""`perpcore prune`: removes segments of the WAL that nobody can need any more.

    recovery    goes on from a snapshot: the newest `keep` sound ones stay, and all behind them
    followers   go on from the report log; from the WAL, with a snapshot at or before their durable
                place, where that was cut: account view, market data, history, ledger
    ledger      is made again from genesis or from sealed books: with neither those nor an archive
                nothing goes
    backup      copies everything: while one is being taken nothing goes

Reads   snapshots, cursors of followers, states of the ledger, seals.
Writes  an archive, if asked; then removes whole segments, oldest first.
Never   removes what it could not prove to be of no use: a consumer whose place isn't known needs
        everything.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from engine.files import (
    DataError,
    Lock,
    lock_retention,
    read_manifest,
    sync_file,
    sync_folder,
)
from engine.recovery import check_history, wal_name
from engine.snapshotfile import SnapshotDamage, list_snapshots, verify_snapshot
from engine.wal import prunable, prune_wal
from ledger.files import ledger_folder
from shm.reportlog import follower_positions
from tools.ledger_seal import SNAPSHOT, read_seal

KEEP: Final = 2
_STORES: Final = {  # what shows that a follower keeps something here
    "history": "history.db",
    "ledger": "ledger/head",
    "accounts": "followers/accounts.ckpt",
    "marketdata": "followers/marketdata.ckpt",
}


class Need(NamedTuple):
    """Who needs the WAL from which command on, and why."""

    who: str
    after_seq: int
    why: str


class Pruned(NamedTuple):
    """What was, or would be, removed."""

    after_seq: int  # commands up to here nobody needs
    needs: list[Need]
    segments: list[str]
    size_bytes: int
    archive: str
    dry_run: bool


def needs(data: Path, *, keep: int, seals: Path | None, archived: bool) -> list[Need]:
    """Everybody who reads the WAL, least first.

    raises   DataError and LedgerError where a snapshot or seal isn't of this log
    """
    sound = list(_snapshots(data))
    found = [_recovery(sound, keep)]
    for name, index in sorted(_places(data).items()):
        covering = [seq for seq, reports in sound if reports <= index]
        if covering:
            why = f"stands at report {index}, and the snapshot at {covering[0]} is before it"
            found.append(Need(name, covering[0], why))
        else:
            found.append(Need(name, 0, f"stands at report {index}, and no snapshot is before it"))
    if (ledger_folder(data) / "head").exists() and not archived:
        found.append(_books(data, seals))
    return sorted(found, key=lambda need: (need.after_seq, need.who))


def _snapshots(data: Path) -> Iterator[tuple[int, int]]:
    """(command, reports) of every sound snapshot of this log, newest first."""
    name = wal_name(read_manifest(data))
    for path in list_snapshots(data):
        try:
            meta = verify_snapshot(path)
        except SnapshotDamage:
            continue  # recovery would take the one before it
        if meta["wal"] != name:
            raise DataError(f"{path}: a snapshot of WAL {meta['wal']}, the directory has {name}")
        check_history(data, meta)
        yield int(meta["seq"]), int(meta["reports_count"])


def _recovery(sound: list[tuple[int, int]], keep: int) -> Need:
    if len(sound) < keep:
        return Need("recovery", 0, f"{len(sound)} sound snapshots, {keep} are to be kept")
    seq = sound[keep - 1][0]
    return Need("recovery", seq, f"{keep} sound snapshots, the older one at {seq}")


def _places(data: Path) -> dict[str, int]:
    """Report at which each follower would go on after a kill; 0 where it isn't known."""
    found = follower_positions(data)
    for name, store in _STORES.items():
        if (data / store).exists():
            found.setdefault(name, 0)
    for path in (data / "reports" / "followers").glob("*.pos"):
        found.setdefault(path.stem, 0)  # damaged: it may stand anywhere
    states = [p.suffix[1:] for p in ledger_folder(data).glob("state.*")]
    reached = [int(text) for text in states if text.isdigit()]
    if "ledger" in found:
        # It falls back to the older state when the newer one is damaged.
        found["ledger"] = min([found["ledger"], *reached]) if reached else 0
    return found


def _books(data: Path, seals: Path | None) -> Need:
    """Where a rebuild of the ledger could begin."""
    best = Need("ledger rebuild", 0, "begins at genesis: seal the books, or archive what goes")
    name = wal_name(read_manifest(data))
    for path in sorted(seals.iterdir()) if seals is not None and seals.is_dir() else ():
        if not (path / "seal").exists():
            continue
        said = read_seal(path)
        seq = int(said["snapshot_seq"])
        if said["wal"] != name or seq <= best.after_seq:
            continue
        verify_snapshot(path / SNAPSHOT)
        best = Need("ledger rebuild", seq, f"begins at the sealed books in {path}")
    return best


def prune(
    data: Path,
    *,
    keep: int = KEEP,
    seals: Path | None = None,
    archive: Path | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Remove segments that are of no use; see the module.

    seals     folder of sealed books (`perpcore ledger seal`), each in a folder of its own
    archive   copy what goes to this folder first, compared byte by byte
    """
    with _alone(data):
        wanted = needs(data, keep=keep, seals=seals, archived=archive is not None)
        after_seq = wanted[0].after_seq
        going = prunable(data, after_seq)
        size = sum(path.stat().st_size for path in going)
        if going and not dry_run:
            if archive is not None:
                for path in going:
                    _archive(path, archive)
                sync_folder(archive)
            removed = prune_wal(data, after_seq)
            assert removed == going, (removed, going)
        names = [str(path) for path in going]
        where = str(archive) if archive is not None else ""
        return Pruned(after_seq, wanted, names, size, where, dry_run)


def _alone(data: Path) -> Lock:
    try:
        return lock_retention(data)
    except DataError as error:
        raise DataError(f"nothing was pruned: {error}") from None


def _archive(path: Path, archive: Path) -> None:
    """A durable copy under the same name; one that is there must be the same."""
    to = archive / path.name
    try:
        archive.mkdir(parents=True, exist_ok=True)
        if not to.exists():
            temporary = to.with_name(f"{to.name}.tmp")
            shutil.copyfile(path, temporary)
            sync_file(temporary)
            os.rename(temporary, to)
    except OSError as error:
        raise DataError(
            f"{to}: {error.strerror or error}, of {path.stat().st_size} bytes to copy from {path}. "
            "Nothing was removed. Make room there, or name another archive"
        ) from None
    if _digest(to) != _digest(path):
        raise DataError(
            f"{to}: is not the segment {path}. Nothing was removed. Name another archive, or move "
            "that file away"
        )


def _digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()


def seal_books(data: Path, seals: Path, keep: int) -> Path | None:
    """Seal the books once more where that lets more of the WAL go; old seals beyond `keep` go.

    returns   the new folder; None: nothing to seal, or the newest one says as much
    """
    from tools.ledger_seal import seal

    if not (ledger_folder(data) / "head").exists():
        return None
    seals.mkdir(parents=True, exist_ok=True)
    newest = max((seq for seq, _ in _snapshots(data)), default=0)
    if newest <= _books(data, seals).after_seq:
        return None
    into = seals / f"seal.{newest:020d}"
    with suppress(FileNotFoundError):
        shutil.rmtree(into)  # one that was of older books, with no snapshot to go on from
    seal(data, into)
    for old in sorted(seals.glob("seal.*[0-9]"))[:-keep]:
        shutil.rmtree(old)
    return into
