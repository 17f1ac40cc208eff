"""Sub-commands of `perpcore` for whoever operates it: doctor, metrics, top, errors, backup, units.

Reads   arguments, configuration (shm/config.py).
Writes  text, or JSON with --json.
Never   does the work itself: each imports its module when it is called.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tools.options import OUTPUT, Examples, as_json, config_of, configured, named, print_json

COMMANDS: list[click.Command] = []


def register(main: click.Group) -> None:
    """Add these commands to `perpcore`."""
    for command in COMMANDS:
        main.add_command(command)


@COMMANDS.append
@click.command(
    cls=Examples,
    epilog="""
    perpcore follow accounts
    perpcore follow marketdata --config perpcore.toml
    perpcore follow history --data /srv/perpcore
    """,
)
@click.argument("which", type=click.Choice(["accounts", "marketdata", "history"]))
@configured
def follow(
    which: str,
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
) -> None:
    """Run one of the processes that read durable reports.

    `accounts` keeps the account view in shared memory, `marketdata` builds every market-data
    message, `history` writes SQLite. Each keeps its place, survives a kill without losing or
    doubling anything, and waits for an engine that isn't there.
    """
    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    from tools import follow as following

    sys.exit(following.run(which, config))


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


_ROOT = click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default="/",
    show_default=True,
    help="Another root than /, as of an image.",
)
_DRY = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
_PREFIX = click.option(
    "--prefix",
    type=click.Path(path_type=Path),
    default="/opt/perpcore",
    show_default=True,
    help="Where releases lie.",
)


@COMMANDS.append
@click.command(
    cls=Examples,
    epilog="""
    perpcore install --dry-run
    perpcore install --config /etc/perpcore/perpcore.toml
    perpcore install --root /mnt/image
    """,
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The configuration to install; default a documented example. One that is there stays.",
)
@_PREFIX
@_ROOT
@_DRY
def install(config_path: Path | None, prefix: Path, root: Path, dry_run: bool) -> None:
    """Write systemd units, user and folders from the configuration.

    Cores and limits of the engine's unit follow the configuration: install again after changing it.
    Then: systemctl daemon-reload && systemctl enable --now perpcore.target
    """
    from tools.install import CONFIG, under
    from tools.install import install as write

    present = under(root, CONFIG)
    chosen = config_path or (present if present.exists() else None)
    for what, path in write(root, chosen, prefix, dry_run=dry_run):
        click.echo(f"{'would write' if dry_run and what == 'write' else what:<12} {path}")


@COMMANDS.append
@click.command(cls=Examples, epilog="perpcore uninstall --dry-run")
@_ROOT
@_DRY
def uninstall(root: Path, dry_run: bool) -> None:
    """Remove what `install` wrote; configuration, keys and data stay."""
    from tools.install import uninstall as remove

    for path in remove(root, dry_run=dry_run):
        click.echo(f"{'would remove' if dry_run else 'removed'} {path}")


@COMMANDS.append
@click.command(cls=Examples, epilog="perpcore upgrade /opt/perpcore/releases/0.2.0")
@click.argument("release", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_PREFIX
def upgrade(release: Path, prefix: Path) -> None:
    """Switch to another release, and back by itself if that fails.

    Stops in order, switches, starts, and looks. Refused, with nothing changed, when the release
    lays out its records in another way.
    """
    from tools.install import upgrade as switch_over

    click.echo(switch_over(release, prefix))


@COMMANDS.append
@click.command(cls=Examples, epilog="perpcore top\nperpcore top --instance b --interval 0.2")
@named
@click.option("--interval", default=1.0, show_default=True, help="Seconds between two pictures.")
@click.option("--count", type=click.IntRange(1), help="End after so many pictures.")
def top(instance: str | None, config_path: Path | None, interval: float, count: int | None) -> None:
    """Watch a running exchange: stages, rings, latencies, refusals.

    Reads shared memory only; the engine doesn't notice. Ctrl-C ends it.
    """
    from tools.top import run

    sys.exit(run(config_of(config_path, instance=instance).instance, interval, count))


@COMMANDS.append
@click.command(cls=Examples, epilog="perpcore errors\nperpcore errors --json")
@named
@as_json
def errors(instance: str | None, config_path: Path | None, as_json: bool) -> None:
    """Distinct errors since the engine started: how often, first, last."""
    from datetime import UTC, datetime

    from shm.errors import ErrorTable

    table = ErrorTable.attach(config_of(config_path, instance=instance).instance, writable=False)
    found = table.read()
    if as_json:
        print_json([error._asdict() for error in found])
        return
    if not found:
        click.echo("no errors since the engine started")
    for error in found:
        first, last = (
            datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="milliseconds")
            for ns in (error.first_ns, error.last_ns)
        )
        click.echo(f"{error.times:>8,} x  {error.where}: {error.text}")
        click.echo(f"            first {first}, last {last}: {error.latest}")


@COMMANDS.append
@click.command(
    cls=Examples,
    epilog="""
    perpcore metrics
    perpcore metrics --listen 127.0.0.1:9464
    perpcore metrics --once
    """,
)
@named
@click.option("--listen", default="127.0.0.1:9464", show_default=True, metavar="HOST:PORT")
@click.option("--once", is_flag=True, help="Print them once, and end.")
def metrics(instance: str | None, config_path: Path | None, listen: str, once: bool) -> None:
    """Serve metrics to Prometheus, out of shared memory.

    A scrape reads counters that stages keep anyway; an engine that is down is perpcore_up 0.
    """
    from tools import metrics as module

    config = config_of(config_path, instance=instance)
    if once:
        click.echo(module.as_text(config), nl=False)
        return
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{listen!r}, must be HOST:PORT", param_hint="--listen")
    module.serve(config, host, int(port))


@COMMANDS.append
@click.command(
    cls=Examples,
    epilog="""
    perpcore backup --to /var/backups/perpcore
    perpcore backup --data /srv/perpcore --to /mnt/backups --keep 14
    perpcore backup --tar --to /tmp
    """,
)
@configured
@click.option(
    "--to",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of backups; this one goes into a new folder there.",
)
@click.option("--keep", type=click.IntRange(1), help="Remove the oldest beyond so many.")
@click.option("--tar", is_flag=True, help="Write it to standard output as a tar stream instead.")
@as_json
def backup(
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
    to: Path,
    keep: int | None,
    tar: bool,
    as_json: bool,
) -> None:
    """Back up a venue, running or not, and verify the copy.

    One cut of log, snapshots and stores. It counts only once its log was replayed and equals its
    recorded digests.
    """
    from tools import backup as module

    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    data = Path(config.data_dir)
    if tar:
        module.stream(data, sys.stdout.buffer, to)
        return
    made = module.backup(data, to)
    removed = module.prune(to, keep) if keep else []
    if as_json:
        print_json({**made._asdict(), "removed": [str(path) for path in removed]})
    else:
        click.echo(
            f"{made.path}: commands up to {made.seq}, {made.files} files, "
            f"{made.size_bytes:,} bytes, verified, {made.seconds:.1f} s"
        )
        for path in removed:
            click.echo(f"removed {path}")


@COMMANDS.append
@click.command(
    cls=Examples,
    epilog="""
    perpcore prune --dry-run
    perpcore prune --data /srv/perpcore --archive /mnt/archive
    perpcore prune --seals /var/backups/perpcore/seals --seal
    """,
)
@configured
@click.option("--keep", type=click.IntRange(1), default=2, help="Snapshots to keep. [2]")
@click.option(
    "--seals",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of sealed books, from which the ledger could be made again.",
)
@click.option("--seal", is_flag=True, help="Seal the books into that folder first.")
@click.option(
    "--archive",
    type=click.Path(file_okay=False, path_type=Path),
    help="Copy what goes to this folder first.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go, and who keeps the rest.")
@as_json
def prune(
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
    keep: int,
    seals: Path | None,
    seal: bool,
    archive: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove segments of the WAL that nobody can need any more.

    What recovery, a follower, a rebuild of the ledger or a backup may still read stays.
    """
    from engine.files import DataError
    from ledger.files import LedgerError
    from tools import prune as module

    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    data = Path(config.data_dir)
    if seal and seals is None:
        raise click.UsageError("--seal needs --seals FOLDER")
    try:
        if seal and seals is not None and not dry_run:
            module.seal_books(data, seals, keep)
        done = module.prune(data, keep=keep, seals=seals, archive=archive, dry_run=dry_run)
    except (DataError, LedgerError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        print_json({**done._asdict(), "needs": [need._asdict() for need in done.needs]})
        return
    verb = "would go" if dry_run else "removed"
    click.echo(
        f"{len(done.segments)} segments {verb}, {done.size_bytes:,} bytes: nobody needs commands "
        f"up to {done.after_seq}"
    )
    for need in done.needs:
        click.echo(f"  {need.who} needs what is after {need.after_seq}: {need.why}")


@COMMANDS.append
@click.command(
    cls=Examples,
    epilog="""
    perpcore restore /var/backups/perpcore/20261127T031500Z --data /srv/perpcore
    perpcore restore BACKUP --data DIR --to-seq 123456
    perpcore restore BACKUP --data DIR --to-time 2026-11-27T09:30:00Z
    """,
)
@click.argument("folder", metavar="BACKUP", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--data",
    "data_dir",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to; must be empty or not there.",
)
@click.option("--to-seq", type=click.IntRange(1), help="Only up to this command.")
@click.option("--to-time", type=str, metavar="TIME", help="Only up to this time (ISO 8601, UTC).")
@as_json
def restore(
    folder: Path, data_dir: Path, to_seq: int | None, to_time: str | None, as_json: bool
) -> None:
    """Restore a backup into an empty directory, and verify it.

    With --to-seq or --to-time the venue is as it was after that command, and goes on from there.
    """
    from datetime import UTC, datetime

    from tools import backup as module

    to_ns = None
    if to_time is not None:
        try:
            at = datetime.fromisoformat(to_time)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--to-time") from None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        to_ns = int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1000
    if to_seq is not None and to_ns is not None:
        raise click.UsageError("--to-seq and --to-time exclude each other")
    found = module.restore(folder, data_dir, to_seq=to_seq, to_ns=to_ns)
    if as_json:
        print_json({"data": str(data_dir), **found._asdict()})
    else:
        click.echo(
            f"{data_dir}: commands up to {found.seq}, state digest "
            f"{found.state_digest & (1 << 64) - 1:016x}, verified. Start it: perpcore up --data "
            f"{data_dir}"
        )


@COMMANDS.append
@click.command(cls=Examples, epilog="perpcore alert perpcore-engine.service")
@click.argument("unit")
@named
def alert(unit: str, instance: str | None, config_path: Path | None) -> None:
    """Say that a unit has failed; systemd calls this.

    Runs the command of [alert] in the configuration with one JSON object as its last argument.
    """
    from tools.alert import send

    click.echo(send(config_of(config_path, instance=instance), unit))


@COMMANDS.append
@click.command(
    cls=Examples,
    epilog="""
    perpcore trace 0af7651916cd43dd8448eb211c80319c
    perpcore trace 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 --data /srv/perpcore
    perpcore trace 4711 --json
    perpcore trace --perfetto hops.json --seconds 10
    """,
)
@click.argument("asked", metavar="[ID]", required=False)
@configured
@as_json
@click.option(
    "--perfetto", type=OUTPUT, help="Write the hops of sampled commands, for ui.perfetto.dev."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, max=3600),
    default=5,
    show_default=True,
    help="With --perfetto: how long to look.",
)
def trace(
    asked: str | None,
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
    as_json: bool,
    perfetto: Path | None,
    seconds: float,
) -> None:
    """Show the way of a request: hops, reports, ledger.

    ID is a trace id (X-Trace-Id), a W3C traceparent, or the number of a command or of an order.
    Beside a running exchange or without one; hops that left no mark are shown without an instant.

    With --perfetto instead of an ID: the latency of every hop of the commands that a running
    exchange samples.
    """
    if (asked is None) == (perfetto is None):
        raise click.UsageError("name an ID or --perfetto FILE, one of them")
    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    from tools import trace as module

    data = Path(config.data_dir)
    if perfetto is not None:
        for line in module.record(data, perfetto, seconds):
            click.echo(line)
        return
    assert asked is not None
    found = module.stories(data, asked)
    if as_json:
        print_json([module.as_data(story) for story in found])
        return
    for story in found:
        for line in module.as_text(story):
            click.echo(line)


def _address(text: str, option: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{text!r}, must be HOST:PORT", param_hint=option)
    return host.strip("[]"), int(port)


_SHARE = click.FloatRange(0, 100)
_TIME = click.FloatRange(min=0)


@COMMANDS.append
@click.command(
    cls=Examples,
    epilog="""
    perpcore chaos --to 127.0.0.1:8080
    perpcore chaos --listen 127.0.0.1:8090 --lose 20 --duplicate 20 --cut-every 0
    perpcore chaos --seed 7 --delay 0 --jitter 0 --stall-every 5 --stall 30
    """,
)
@click.option("--listen", default="127.0.0.1:8090", show_default=True, metavar="HOST:PORT")
@click.option(
    "--to", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT", help="A gateway."
)
@click.option("--seed", default=1, show_default=True, help="The same trouble again.")
@click.option("--refuse", type=_SHARE, default=1, show_default=True, help="% of connections.")
@click.option(
    "--cut-every", type=_TIME, default=30, show_default=True, help="Seconds to a reset, on average."
)
@click.option(
    "--half", type=_SHARE, default=20, show_default=True, help="% of cuts that close one direction."
)
@click.option(
    "--stall-every", type=_TIME, default=60, show_default=True, help="Seconds to one, on average."
)
@click.option("--stall", type=_TIME, default=3, show_default=True, help="Seconds it lasts.")
@click.option("--delay", type=_TIME, default=20, show_default=True, help="ms, of every piece.")
@click.option("--jitter", type=_TIME, default=80, show_default=True, help="Up to so many ms more.")
@click.option(
    "--slice", "slice_bytes", type=click.IntRange(0), default=0, help="Replies in such pieces."
)
@click.option(
    "--duplicate", type=_SHARE, default=2, show_default=True, help="% of requests sent twice."
)
@click.option(
    "--lose", type=_SHARE, default=2, show_default=True, help="% of requests without a reply."
)
def chaos(
    listen: str,
    to: str,
    seed: int,
    refuse: float,
    cut_every: float,
    half: float,
    stall_every: float,
    stall: float,
    delay: float,
    jitter: float,
    slice_bytes: int,
    duplicate: float,
    lose: float,
) -> None:
    """Be a bad network before a demo venue, to try a client.

    Let the client connect to --listen. Connections are refused, reset, half closed and stalled;
    requests are delayed, reach the venue twice, or are carried out and never answered. 0 switches
    each of these off. One line of JSON says what was done to whom.
    """
    from tools.chaos import Toxics, run

    toxics = Toxics(
        refuse=refuse / 100,
        cut_every_s=cut_every,
        half=half / 100,
        stall_every_s=stall_every,
        stall_s=stall,
        delay_s=delay / 1000,
        jitter_s=jitter / 1000,
        slice_bytes=slice_bytes,
        duplicate=duplicate / 100,
        lose=lose / 100,
    )
    sys.exit(run(_address(listen, "--listen"), _address(to, "--to"), toxics, seed))
