"""What several commands need to know of a data directory: the limits its engine ran with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from engine.state import Limits


def last_seq(data_dir: Path) -> int:
    """The last command of a log that may have been pruned up to one of its snapshots."""
    from engine.snapshotfile import list_snapshots
    from engine.wal import scan_wal

    newest = list_snapshots(data_dir)[:1]
    return scan_wal(data_dir, int(newest[0].suffix[1:]) if newest else 0).seq


def limits_for(data_dir: Path) -> Limits:
    """Table sizes as the engine of this directory noted them when it last started."""
    from engine.recovery import LIMITS_FILE
    from engine.state import Limits

    path = data_dir / LIMITS_FILE
    if not path.exists():
        raise click.ClickException(
            f"{path} is not there: {data_dir} is no data directory, or no engine ever started on "
            "it. Name the directory that holds wal/ and manifest"
        )
    try:
        return Limits(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise click.ClickException(
            f"{path}: {error}. Start the engine once to write it again"
        ) from None
