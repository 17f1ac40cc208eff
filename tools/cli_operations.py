"""Sub-commands of `perpcore` for whoever operates it: doctor, metrics, top, errors, backup, units.

Reads   arguments, configuration (shm/config.py).
Writes  text, or JSON with --json.
Never   does the work itself: each imports its module when it is called.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tools.options import Examples, as_json, config_of, configured, print_json

COMMANDS: list[click.Command] = []


def register(main: click.Group) -> None:
    """Add these commands to `perpcore`."""
    for command in COMMANDS:
        main.add_command(command)


@COMMANDS.append
@click.command(
    cls=Examples,
    epilog="""
    perpcore doctor
    perpcore doctor --config /etc/perpcore/perpcore.toml --quick
    perpcore doctor --json
    """,
)
@configured
@click.option("--quick", is_flag=True, help="Leave out what takes time: syncs and spin jitter.")
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="/",
    help="Look at another tree than /, as of another host.",
)
@as_json
def doctor(
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
    quick: bool,
    root: Path,
    as_json: bool,
) -> None:
    """Examine this host: what costs latency or safety.

    Each check says ok, warning or unknown, and a warning names the command that mends it.

    Exit code 0 when nothing is wrong, 1 when there are warnings. What a host doesn't have is
    `unknown`, and no warning.
    """
    from tools.doctor import WARNING, Host, as_text, examine

    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    host = Host(config, root, 0.0 if quick else 0.5, 0 if quick else 50)
    findings = list(examine(host))
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        click.echo(as_text(findings))
    sys.exit(1 if any(f.status == WARNING for f in findings) else 0)
