"""`perpcore ledger seal`: books up to a state, with the snapshot that a replay goes on from.

    <folder>/ledger/       the books, ended at their newest state
    <folder>/snapshot      the engine's state at or before that place; none: the WAL from genesis on
    <folder>/seal          JSON: where it stands, the head of the hash chain, the hash of all that

Reads   the ledger's directory, beside its writer or without one; snapshots.
Writes  a new folder, whole or not at all.
Never   seals books that are not sound. The WAL before the snapshot may be archived then: `rebuild
        --sealed` begins here.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

from ledger.files import (
    STATE_MAGIC,
    STATE_TYPES,
    LedgerError,
    digest,
    ledger_folder,
    unpack_sections,
)
from ledger.verify import verify
from shm.files import sync_folder

SEAL: Final = "seal"
SNAPSHOT: Final = "snapshot"


def seal(data: Path, into: Path) -> dict[str, Any]:
    """Seal the books of a data directory; what was written.

    raises      LedgerError where they are damaged, or nothing can be sealed yet
    """
    from ledger.store import Ledger
    from tools.ledger_run import wal_of

    if into.exists():
        raise LedgerError(f"{into} is there already. Name another folder")
    temporary = into.with_name(f"{into.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True, mode=0o750)
    try:
        _copy(ledger_folder(data), temporary / "ledger")
        # Opened for writing, books fall back to their newest state: what is behind it goes.
        ledger = Ledger(temporary / "ledger", wal=wal_of(data))
        ledger.close()
        sound = verify(temporary / "ledger")
        said: dict[str, Any] = {
            "wal": f"{ledger.wal[0] & _MASK:016x}{ledger.wal[1] & _MASK:016x}",
            "seq": sound.seq,
            "entries": sound.entries,
            "legs": sound.legs,
            "reports": ledger.next_report,
            "chain": sound.chain,
            "snapshot_seq": _snapshot(data, temporary, ledger.next_report),
        }
        text = json.dumps(said, sort_keys=True)
        (temporary / SEAL).write_text(f"{text}\n{digest(text.encode()).hex()}\n")
        for path in temporary.rglob("*"):
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    os.rename(temporary, into)
    sync_folder(into.parent)
    return said


_MASK: Final = (1 << 64) - 1


def _copy(books: Path, into: Path) -> None:
    """The books with one state, the newest that is whole; the writer may go on meanwhile."""
    states = sorted(books.glob("state.*[0-9]"))
    if not states:
        raise LedgerError(f"{books}: there is no state to seal yet. Start the ledger first")
    # The state before anything else: what is copied after it reaches at least as far.
    into.mkdir(mode=0o750)
    shutil.copy2(states[-1], into / states[-1].name)
    unpack_sections(into / states[-1].name, STATE_MAGIC, STATE_TYPES)

    def skip(folder: str, names: list[str]) -> set[str]:
        top = Path(folder) == books
        return {n for n in names if n.endswith(".tmp") or (top and n.startswith("state."))}

    shutil.copytree(books, into, ignore=skip, dirs_exist_ok=True)


def _snapshot(data: Path, folder: Path, reports: int) -> int:
    """Copy the newest snapshot that is not ahead of the books; its command, 0: none."""
    from engine.snapshotfile import SnapshotDamage, list_snapshots, verify_snapshot

    for path in list_snapshots(data):
        try:
            meta = verify_snapshot(path)
        except SnapshotDamage:
            continue
        if int(meta["reports_count"]) <= reports:
            shutil.copy2(path, folder / SNAPSHOT)
            return int(meta["seq"])
    return 0


def read_seal(folder: Path) -> dict[str, Any]:
    """What a seal says; LedgerError where it has changed, or isn't one."""
    path = folder / SEAL
    try:
        text, said, *_ = path.read_text().split("\n")
    except (OSError, ValueError) as error:
        raise LedgerError(f"{path}: cannot be read: {error}") from None
    if digest(text.encode()).hex() != said:
        raise LedgerError(f"{path}: its hash differs")
    found: dict[str, Any] = json.loads(text)
    return found


def unseal(folder: Path, into: Path) -> dict[str, Any]:
    """Lay sealed books into an empty folder, proven first; returns the seal."""
    said = read_seal(folder)
    sound = verify(folder / "ledger")
    if (sound.chain, sound.entries, sound.seq) != (said["chain"], said["entries"], said["seq"]):
        raise LedgerError(f"{folder}: these are other books than its seal says")
    shutil.copytree(folder / "ledger", into, dirs_exist_ok=True)
    return said
