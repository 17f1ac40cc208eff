"""The `perpcore` command: what each sub-command is called, takes and prints.

Reads   arguments, configuration (shm/config.py).
Writes  text, or JSON with --json; errors to stderr, in words an operator can act on.
Never   does the work itself, and never imports numba for a command that can do without: each
        imports its module when it is called.

Exit codes: 0 done; 1 the operator has something to put right, said in one message; 2 the command
line was wrong. A traceback is always a bug of ours.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import click

from tools import (
    cli_bookkeeping,
    cli_demo,
    cli_gateways,
    cli_ledger,
    cli_operations,
    cli_statements,
)
from tools.options import (
    FILE,
    FOLDER,
    OUTPUT,
    TOPOLOGY,
    Commands,
    Examples,
    toml_lines,
)
from tools.options import as_json as _json
from tools.options import config_of as _config
from tools.options import configured as _configured
from tools.options import named as _named
from tools.options import print_json as _print_json


def _print_version(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        from shm.records import layouts_digest
        from shm.release import RELEASE

        try:
            number = version("perpcore")
        except PackageNotFoundError:
            number = "(not installed)"
        click.echo(f"perpcore {number}, release {RELEASE}, layouts {layouts_digest()}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print version, release number and layout digest.",
)
def main() -> None:
    """Perpcore: a perpetual-futures exchange core.

    Start a whole venue with `perpcore demo`, look at it with `perpcore status`, and see what it
    wrote with `perpcore verify` and `perpcore inspect`. Every command explains itself: perpcore up
    -h.
    """


# ---------------------------------------------------------------- running an exchange


@main.command(
    cls=Examples,
    epilog="""
    perpcore up --config perpcore.toml          # an engine; gateways and followers are others
    perpcore up --topology split --data /srv/p  # one process a stage
    perpcore up --set shards=2 --instance b     # a second one on this host
    """,
)
@_configured
@click.option("--topology", type=TOPOLOGY, help="Which stages share a process; default auto.")
@click.option(
    "--traffic",
    type=click.IntRange(min=1),
    help="Send it the demo's orders, so many commands a second; default none.",
)
@click.option(
    "--seconds", type=click.FloatRange(min=0), help="Stop by itself after this long; default never."
)
@click.option(
    "--clock/--no-clock",
    default=True,
    show_default=True,
    help="Run the clock process beside it; without, start `perpcore clock` yourself.",
)
@click.option(
    "--restart/--no-restart",
    default=True,
    show_default=True,
    help="When a worker dies, start the engine again from the WAL; without, end with 70.",
)
def up(
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
    topology: str | None,
    traffic: int | None,
    seconds: float | None,
    clock: bool,
    restart: bool,
) -> None:
    """Start an engine, and stay with it until Ctrl-C or `stop`.

    Recovers from the data directory first, if there is one. Stops cleanly: what was accepted is
    finished, durable and published, and nothing is left in shared memory.
    """
    config = _config(config_path, settings, instance=instance, data_dir=data_dir, topology=topology)
    from tools import run

    code = run.up(
        config,
        traffic=traffic or 0,
        seconds=seconds,
        clock=clock,
        restart=restart,
    )
    sys.exit(code)


@main.command(
    cls=Examples,
    epilog="""
    perpcore clock --config perpcore.toml
    perpcore clock --instance b --set clock.tick_ms=50
    """,
)
@_configured
def clock(
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
) -> None:
    """Tell an exchange the time and what index sources say, until Ctrl-C.

    For an exchange that was started with --no-clock. Waits for it, and for the next one after it.
    """
    config = _config(config_path, settings, instance=instance, data_dir=data_dir)
    from engine.clock import run

    sys.exit(run(config))


@main.command(
    cls=Examples,
    epilog="""
    perpcore status
    perpcore status --instance b --json
    """,
)
@_named
@_json
def status(instance: str | None, config_path: Path | None, as_json: bool) -> None:
    """Show a running exchange: workers, stages, counters.

    Reads shared memory only; the engine doesn't notice. Ends with 1 if nothing runs.
    """
    from tools import run

    sys.exit(run.status(_config(config_path, instance=instance).instance, as_json=as_json))


@main.command(
    cls=Examples,
    epilog="""
    perpcore stop
    perpcore stop --instance b --seconds 60
    perpcore stop --config perpcore.toml --for-release 2
    """,
)
@_named
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Wait so long."
)
@click.option(
    "--for-release",
    type=click.IntRange(1, (1 << 31) - 1),
    metavar="NUMBER",
    help="Its last command says that this release goes on. Every gateway must be down.",
)
def stop(
    instance: str | None, config_path: Path | None, seconds: float, for_release: int | None
) -> None:
    """Ask a running exchange to end, and wait until it has.

    What it has taken is finished first, durable and published.
    """
    from tools import run

    config = _config(config_path, instance=instance)
    if for_release is not None:
        run.name_successor(config, for_release)
    sys.exit(run.stop(config.instance, seconds=seconds))


# ---------------------------------------------------------------- its data


@main.command(
    cls=Examples,
    epilog="""
    perpcore snapshot --data var
    perpcore snapshot --config /etc/perpcore/perpcore.toml
    """,
)
@_configured
@_json
def snapshot(
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Make a snapshot by replaying the WAL.

    Begins at the newest snapshot there is, beside a running engine or without one. The engine
    isn't stopped or slowed: this process reads files only. A snapshot whose digest differs from
    what the engine recorded is refused.
    """
    from tools import snapshot as snapshots

    config = _config(config_path, settings, instance=instance, data_dir=data_dir)
    sys.exit(snapshots.run(Path(config.data_dir), as_json=as_json))


@main.command(
    cls=Examples,
    epilog="""
    perpcore verify --data var
    perpcore verify --data /backup/var --json
    """,
)
@click.option("--data", "data_dir", type=FOLDER, default="var", show_default=True)
@_json
def verify(data_dir: Path, as_json: bool) -> None:
    """Prove a data directory sound, changing nothing.

    Checks every block, hash and chain of the WAL, the report log and the snapshots, replays all of
    it, and compares with the digests recorded while it ran. Ends with 1 and the place of the first
    damage if there is any.
    """
    from tools import verify as verification

    sys.exit(verification.run(data_dir, as_json=as_json))


@main.command(
    cls=Examples,
    epilog="""
    perpcore replay commands.csv.gz --fills fills.csv --book book.csv
    perpcore replay commands.csv --topology split --results answers.csv.gz
    perpcore replay AAPL_2012-06-21_message_10.csv --format lobster --book book.csv
    """,
)
@click.argument("commands", type=FILE)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["csv", "lobster"]),
    default="csv",
    show_default=True,
    help='README, "Replay formats", describes both.',
)
@click.option(
    "--orderbook", type=FILE, help="LOBSTER book file; default: the one beside the messages."
)
@click.option("--topology", type=TOPOLOGY, default="auto", show_default=True)
@click.option("--fills", type=OUTPUT, help="Write every fill in order.")
@click.option("--book", type=OUTPUT, help="Write what rests at the end, in book and queue order.")
@click.option("--results", type=OUTPUT, help="Write the answer to every command.")
@click.option(
    "--rate", type=click.IntRange(min=1), help="Commands a second; default: as fast as it goes."
)
@click.option(
    "--accounts",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Spread the orders over so many funded accounts.",
)
@click.option(
    "--data",
    "data_dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the data directory here; default: a temporary one.",
)
@_json
def replay(
    commands: Path,
    file_format: str,
    orderbook: Path | None,
    topology: str,
    fills: Path | None,
    book: Path | None,
    results: Path | None,
    rate: int | None,
    accounts: int,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Feed recorded order flow into a fresh exchange.

    COMMANDS goes in through an ingress ring and is matched, settled and made durable by separate
    processes, as in production. Outputs are gzipped if their names end in .gz.
    """
    from tools import replay as replays

    sys.exit(
        replays.run(
            commands,
            file_format=file_format,
            orderbook=orderbook,
            topology=topology,
            fills=fills,
            book=book,
            results=results,
            rate=rate,
            accounts=accounts,
            data_dir=data_dir,
            as_json=as_json,
        )
    )


@main.command(
    cls=Examples,
    epilog="""
    perpcore scenario flip.toml                 # run one
    perpcore scenario scenarios/ --json         # all below a directory, for scripts
    perpcore scenario flip.toml --verbose       # what the venue says to every step
    perpcore scenario --example > mine.toml     # begin with this
    """,
)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--example", is_flag=True, help="Print a scenario that shows the format, and end.")
@click.option("--keys", is_flag=True, help="Print every key of the format, and end.")
@click.option("--verbose", "-v", is_flag=True, help="Print every report of every step, in units.")
@click.option(
    "--compiled", is_flag=True, help="Run the compiled kernels; default: the same as plain Python."
)
@_json
def scenario(
    files: tuple[Path, ...], example: bool, keys: bool, verbose: bool, compiled: bool, as_json: bool
) -> None:
    """Run tables of orders and prices, and compare with what they expect.

    FILES are TOML, or directories of them; README, "Scenarios", describes the format. Each one runs
    with several numbers of matching shards and random interleavings of the stages; conservation
    laws are checked after every step, and the log is replayed in the end. Ends with 1 when
    something isn't as expected, with 2 when a file is no scenario.
    """
    if not compiled and "numba" not in sys.modules:
        # Starts at once. The kernels are the same source, and the tests run both.
        os.environ["NUMBA_DISABLE_JIT"] = "1"
    if example or keys:
        from tools import scenariodocs

        click.echo(scenariodocs.EXAMPLE if example else scenariodocs.reference(), nl=keys)
        return
    if not files:
        raise click.UsageError("no FILES: name scenarios, or see --example")
    for file in files:
        if not file.exists():
            raise click.UsageError(f"{file}: there is no such file or directory")
    from tools import scenario as scenarios

    sys.exit(scenarios.main(files, as_json=as_json, verbose=verbose))


@main.command(
    cls=Examples,
    epilog="""
    perpcore simulate --runs 100                 # a hundred histories
    perpcore simulate --seed 8123 --steps 310    # one again, as a failure says
    perpcore simulate --forever --seed 100000    # for nights
    perpcore simulate --lying --runs 20          # disks that say synced and have not
    """,
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the first history.")
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    help="How many, seed after seed; default 10, or 1 with a seed.",
)
@click.option(
    "--steps", type=click.IntRange(min=1), default=400, show_default=True, help="Of each history."
)
@click.option("--lying", is_flag=True, help="Disks lie about syncs, and must be found out.")
@click.option("--without", default="", metavar="LIST", help="Leave out steps, as in 1-40,52.")
@click.option("--forever", "for_ever", is_flag=True, help="Until something breaks, or Ctrl-C.")
@_json
def simulate(
    seed: int,
    runs: int | None,
    steps: int,
    lying: bool,
    without: str,
    for_ever: bool,
    as_json: bool,
) -> None:
    """Simulate an exchange that is killed again and again.

    The whole exchange runs in this process, decided by nothing but the seed: gateways, desk, clock,
    followers, every order of the stages, full rings, crashes at any step, and a disk that drops,
    tears and garbles what was not synced. After each recovery everything acknowledged must be
    there, once. Prints the line that repeats a failure, and ends with 1.
    """
    from tools import simulate as simulation

    try:
        simulation.numbers_of(without)
    except ValueError:
        raise click.UsageError(f"--without {without}: must be numbers as in 1-40,52") from None
    count = runs or (1 if without or seed != 1 else 10)
    sys.exit(
        simulation.main(
            seed=seed,
            runs=count,
            steps=steps,
            lying=lying,
            without=without,
            for_ever=for_ever,
            as_json=as_json,
        )
    )


@main.command(
    cls=Examples,
    epilog="""
    perpcore inspect var/wal/wal.0000000000.seg --limit 20
    perpcore inspect var/reports/rep.0000000000000000.seg --from 1000 --to 1010
    perpcore inspect var/snapshots/snap.0000065536 --table accounts --json
    perpcore inspect main.commands
    """,
)
@click.argument("target")
@click.option("--from", "first_seq", type=int, default=0, help="Leave out what came before.")
@click.option("--to", "last_seq", type=int, default=(1 << 63) - 1, help="And what came after.")
@click.option("--table", default="", help="Of a snapshot: print the rows of this table.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=0, help="Stop after so many lines; 0: never."
)
@_json
def inspect(
    target: str, first_seq: int, last_seq: int, table: str, limit: int, as_json: bool
) -> None:
    """Print what is in a file or a ring, one line a record.

    TARGET is any file of a data directory (WAL segment, report-log segment, snapshot, manifest,
    watermark), or a live segment by its name in `perpcore shm ls`. Damage is reported where it is
    and what follows is printed all the same. With --json, one object a line and every field.
    """
    from tools import inspect as inspection

    wanted = inspection.Wanted(first_seq, last_seq, table)
    if Path(target).exists():
        items = inspection.file_items(Path(target), wanted)
    else:
        items = inspection.segment_items(target, wanted)
    line = inspection.as_json if as_json else inspection.as_text
    for item in islice(items, limit or None):
        click.echo(line(item))


# ---------------------------------------------------------------- what it is made of


@main.command(
    cls=Examples,
    epilog="""
    perpcore layouts COMMAND MATCH
    perpcore layouts --json | jq .digest
    """,
)
@click.argument("records", nargs=-1, metavar="[RECORD]...")
@_json
def layouts(records: tuple[str, ...], as_json: bool) -> None:
    """Print the byte map of every record, or some.

    Two builds whose digests agree can share memory and files.
    """
    from shm.records import RECORDS
    from tools.layouts import layouts_data, layouts_text

    for name in records:
        if name not in RECORDS:
            raise click.BadParameter(f"no record {name!r}; there are {', '.join(RECORDS)}")
    if as_json:
        _print_json(layouts_data(records))
    else:
        click.echo("\n".join(layouts_text(records)))


@main.command(name="compile")
@click.option("--quiet", is_flag=True, help="No progress line.")
def compile_kernels(quiet: bool) -> None:
    """Compile all kernels, once.

    Every later start loads them from the cache. That is in ~/.cache/perpcore, or where
    PERPCORE_CACHE says, and is made anew for every change of the program, of numba or of Python.
    What no release has used for 30 days is removed.
    """
    begun, done, terminal = time.monotonic(), threading.Event(), sys.stderr.isatty()
    step = "loading"

    def show() -> None:
        if not quiet:
            text = f"perpcore: compiling kernels, {time.monotonic() - begun:3.0f} s: {step}"
            # On a terminal one line, written over and over.
            click.echo(f"\r{text:<72}" if terminal else text, nl=not terminal, err=True)

    def progress(text: str) -> None:
        nonlocal step
        step = text
        show()

    def tick() -> None:  # a step may take a minute
        while not done.wait(1.0):
            show()

    if terminal:
        threading.Thread(target=tick, daemon=True).start()
    show()
    try:
        from engine import compiling
        from tools import follow

        compiling.compile_all(progress, beside=(follow.compile_kernels,))
    finally:
        done.set()
        if terminal and not quiet:
            click.echo(err=True)
    from shm import kernelcache

    kernelcache.mark_used()
    removed = kernelcache.prune()
    if removed and not quiet:
        click.echo(f"removed {len(removed)} folders of kernels unused for 30 days", err=True)


@main.group(cls=Commands)
def shm() -> None:
    """Shared memory: what there is, and how to get rid of it."""


@shm.command(
    "ls",
    cls=Examples,
    epilog="""
    perpcore shm ls
    perpcore shm ls --instance main --json
    """,
)
@click.option("--instance", metavar="NAME", help="Only of this one; default: all of this host.")
@_json
def shm_ls(instance: str | None, as_json: bool) -> None:
    """List every Perpcore segment of this host.

    STATE is live, dead (the process that made it is gone), unfinished, foreign or unreadable;
    BUILD is other where another build made it, which may not attach to ours.
    """
    from shm.segment import list_segments

    found = list_segments(instance)
    if as_json:
        _print_json([info._asdict() for info in found])
        return
    rows = [
        (
            f"{info.instance}.{info.name}",
            f"{info.size_bytes:,}",
            info.state,
            str(info.epoch),
            str(info.pid),
            "same" if info.same_build else "other",
        )
        for info in found
    ]
    _table(("SEGMENT", "BYTES", "STATE", "EPOCH", "PID", "BUILD"), rows)


@shm.command(
    "reset",
    cls=Examples,
    epilog="""
    perpcore shm reset
    perpcore shm reset --instance main --force
    """,
)
@click.option("--instance", metavar="NAME", help="Only of this one; default: all of this host.")
@click.option("--force", is_flag=True, help="Remove what belongs to a live process, too.")
@_json
def shm_reset(instance: str | None, force: bool, as_json: bool) -> None:
    """Remove segments whose makers are gone. Nothing is lost: the WAL has everything.

    Ends with 1 if segments of live processes were left.
    """
    from shm.segment import list_segments, remove_segments

    names = sorted({info.instance for info in list_segments(instance)})
    removed = {name: remove_segments(name, dead_only=not force) for name in names}
    left = [f"{info.instance}.{info.name}" for info in list_segments(instance)]
    if as_json:
        _print_json({"removed": removed, "left": left})
    else:
        count = sum(len(segments) for segments in removed.values())
        click.echo(f"removed {count} segments, left {len(left)}")
        if left:
            click.echo(f"in use: {', '.join(left)}. Stop them with: perpcore stop --instance NAME")
    sys.exit(1 if left else 0)


@main.group(cls=Commands)
def config() -> None:
    """Configuration: check a file, or show what a start would use."""


@config.command(
    "check",
    cls=Examples,
    epilog="""
    perpcore config check perpcore.toml
    """,
)
@click.argument("config_path", type=FILE, metavar="FILE")
@_json
def config_check(config_path: Path, as_json: bool) -> None:
    """Check a configuration file, and list all that is wrong with it."""
    from shm.config import ConfigError

    try:
        checked = _config(config_path)
    except ConfigError as error:
        if not as_json:
            raise
        _print_json({"ok": False, "problems": str(error).splitlines()})
        sys.exit(1)
    if as_json:
        _print_json({"ok": True, "problems": []})
    else:
        click.echo(f"{config_path}: ok, instance {checked.instance}, data in {checked.data_dir}")


@config.command(
    "show",
    cls=Examples,
    epilog="""
    perpcore config show
    perpcore config show --config perpcore.toml --set shards=2
    """,
)
@_configured
@_json
def config_show(
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Print every setting with its value.

    The text is a configuration file in turn.
    """
    import msgspec

    shown = msgspec.to_builtins(
        _config(config_path, settings, instance=instance, data_dir=data_dir)
    )
    if as_json:
        _print_json(shown)
    else:
        click.echo("\n".join(toml_lines(shown)))


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as they need to be; numbers to the right."""
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    for row in [header, *rows]:
        cells = (
            cell.rjust(width) if cell.replace(",", "").isdecimal() else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        )
        click.echo("  ".join(cells).rstrip())


@main.command(
    cls=Examples,
    epilog="""
    perpcore bench
    perpcore bench book rings --out results
    perpcore bench --smoke
    """,
)
@click.argument("subjects", nargs=-1)
@click.option("--smoke", is_flag=True, help="Run everything tiny, to see that it works.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write text, JSON and the latency plot into this folder, too.",
)
def bench(subjects: tuple[str, ...], smoke: bool, out: Path | None) -> None:
    """Measure this host.

    Prints every figure with the conditions it was taken under. SUBJECTS are parts of the
    benchmark; default: all of them. The plot needs matplotlib: pip install perpcore[bench].
    """
    from bench import run

    sys.exit(run.run(subjects, smoke=smoke, out=out))


_LEDGER = (cli_ledger, cli_statements, cli_bookkeeping)
for commands in (cli_demo, cli_operations, cli_gateways, *_LEDGER):
    commands.register(main)

if __name__ == "__main__":
    main()
