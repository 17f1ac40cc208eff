"""What several commands need to know of a data directory: the limits its engine ran with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from engine.state import Limits


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
