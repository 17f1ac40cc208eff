"""`perpcore verify`: prove a data directory sound, changing nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tools.datadir import limits_for


def _ledger(data_dir: Path) -> dict[str, Any] | None:
    """What is proven of the books, when there are any; LedgerError where they are damaged."""
    from ledger.files import ledger_folder

    folder = ledger_folder(data_dir)
    if not (folder / "head").exists():
        return None
    from ledger.verify import verify as prove_sound

    return prove_sound(folder)._asdict()


def run(data_dir: Path, *, as_json: bool = False) -> int:
    """Scan, replay and compare; returns the exit code, 1 with the place of the first damage."""
    from engine.files import DataError
    from engine.recovery import verify
    from engine.replay import Diverged
    from ledger.files import LedgerError

    try:
        found = verify(data_dir, limits_for(data_dir))
        books = _ledger(data_dir)
    except (DataError, Diverged, LedgerError) as error:
        if as_json:
            click.echo(json.dumps({"sound": False, "problem": str(error)}))
        else:
            click.echo(f"NOT SOUND: {error}", err=True)
        return 1
    if as_json:
        click.echo(json.dumps({"sound": True, **found._asdict(), "ledger": books}))
        return 0
    click.echo(
        f"sound: {data_dir}, commands {found.first_seq} to {found.seq}\n"
        f"  {found.checkpoints} CHECKPOINT digests equal to what replay derives\n"
        f"  {found.compared} of {found.reports} reports in the report log, equal byte by byte\n"
        f"  {found.snapshots} snapshots, each the state that replay reaches there\n"
        f"  state digest {found.state_digest & (1 << 64) - 1:016x} at {found.seq}, "
        f"in {found.seconds:.1f} s"
    )
    if books is not None:
        click.echo(
            f"  books of {books['entries']} entries to command {books['seq']}, chain "
            f"{books['chain'][:16]}"
        )
    for note in (*found.notes, *(books["notes"] if books else ())):
        click.echo(f"  note: {note}")
    return 0
