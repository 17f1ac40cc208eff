"""`perpcore snapshot`: a snapshot by replay, in this process, beside the engine or without one."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tools.datadir import limits_for


def run(data_dir: Path, *, as_json: bool = False) -> int:
    """Write a snapshot at the last CHECKPOINT; returns the exit code."""
    from engine.files import DataError
    from engine.recovery import take
    from engine.replay import Diverged

    try:
        taken = take(data_dir, limits_for(data_dir))
    except (DataError, Diverged) as error:
        raise click.ClickException(f"no snapshot was written: {error}") from None
    if as_json:
        click.echo(json.dumps({**taken._asdict(), "path": str(taken.path) if taken.path else None}))
    elif taken.path is None:
        click.echo(f"nothing to do: {taken.why} (newest is at {taken.seq})")
    else:
        click.echo(
            f"{taken.path}: the state after command {taken.seq}, "
            f"{taken.replayed} commands replayed in {taken.seconds:.1f} s"
        )
    return 0
