"""What sub-commands of `perpcore` share: options, help with examples, errors as messages.

Reads   arguments, configuration (shm/config.py).
Writes  JSON with --json; errors to stderr, in words an operator can act on.
Never   imports numba, or anything that a command may not need.
"""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from shm.config import Config

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUTPUT = click.Path(dir_okay=False, writable=True, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
TOPOLOGY = click.Choice(["fused", "split", "auto"])


def operator_errors() -> tuple[type[Exception], ...]:
    """Errors whose text is for the operator. Only of modules that are loaded: who raises is."""
    known = {
        "shm.segment": "SegmentError",
        "shm.config": "ConfigError",
        "tools.flow": "FlowError",
        "tools.inspect": "InspectError",
        "tools.install": "InstallError",
        "tools.trace": "TraceError",
        "shm.files": "DataError",
        "tools.demoplan": "DemoError",
        "gateways.http.adminclient": "AdminError",
        "gateways.users.seal": "SealError",
        "gateways.users.store": "StoreError",
        "tools.backup": "BackupError",
        "ledger.files": "LedgerError",
    }
    loaded = ((sys.modules.get(module), name) for module, name in known.items())
    return (OSError, *(getattr(module, name) for module, name in loaded if module))


def _told(error: Exception) -> str:
    """What an operator is told; of a full disk more than its errno, which often names no file."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{error}. Nothing that was acknowledged is lost. df says which disk it is, and "
            "perpcore prune --dry-run what of a venue may go; then run this again"
        )
    return str(error)


class Commands(click.Group):
    """A group whose commands end with a message where the operator can do something."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # click ends quietly: whoever read us has seen enough
        except Exception as error:
            if isinstance(error, operator_errors()):
                raise click.ClickException(_told(error)) from error
            raise


class Examples(click.Command):
    """A command whose help ends with examples, one a line, in `epilog`."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.strip().splitlines():
                    formatter.write(f"  {line.strip()}\n")


def configured(command: Callable[..., Any]) -> Callable[..., Any]:
    """--config, --set, --instance and --data, which together say what to run."""
    options = (
        click.option(
            "--config",
            "config_path",
            type=FILE,
            envvar="PERPCORE_CONFIG",
            help="Configuration file; without one everything has a default.",
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="PATH=VALUE",
            help="Override one setting, as in rings.commands=16384. May be repeated.",
        ),
        click.option("--instance", metavar="NAME", help="Exchanges on one host differ in this."),
        click.option(
            "--data",
            "data_dir",
            type=click.Path(file_okay=False),
            help="Data directory; default ./var.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def config_of(
    config_path: Path | None,
    settings: tuple[str, ...] = (),
    **direct: str | None,
) -> Config:
    """What the shared options mean; `direct` are settings that have options of their own."""
    from shm import config

    overrides: dict[str, Any] = dict(config.parse_override(text) for text in settings)
    overrides |= {name: value for name, value in direct.items() if value is not None}
    return config.load(config_path, overrides)


def named(command: Callable[..., Any]) -> Callable[..., Any]:
    """--instance, or --config that says it: which running exchange is meant."""
    options = (
        click.option("--instance", metavar="NAME", help="Which exchange; default main."),
        click.option(
            "--config",
            "config_path",
            type=FILE,
            envvar="PERPCORE_CONFIG",
            help="Take the name from this file.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=2))


def toml_lines(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    """A table as TOML: plain values first, then tables, then lists of tables."""
    lines = []
    tables = {}
    for name, value in table.items():
        nested = isinstance(value, dict) or (value and isinstance(value, list | tuple))
        if nested and not isinstance(value, dict):
            nested = isinstance(value[0], dict)
        if nested:
            tables[name] = value
        elif value is not None:  # TOML has no null: what is absent is left out
            lines.append(f"{name} = {json.dumps(value)}")
    for name, value in tables.items():
        for row in [value] if isinstance(value, dict) else value:
            heading = f"[{prefix}{name}]" if isinstance(value, dict) else f"[[{prefix}{name}]]"
            lines += ["", heading, *toml_lines(row, f"{prefix}{name}.")]
    return lines
