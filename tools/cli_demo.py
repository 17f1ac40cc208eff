"""`perpcore demo`: a whole venue with play money, in one command.

Reads   arguments.
Writes  text; each command imports its module when it is called.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from tools.options import Commands, Examples, as_json, config_of, configured, print_json


def _folder(ctx: click.Context, _option: click.Parameter, given: Path | None) -> Path:
    """--data of the command, else of `demo` before it, else ./var."""
    before = ctx.parent.params.get("data_dir") if ctx.parent is not None else None
    return Path(given or before or "var").resolve()


_data = click.option(
    "--data",
    "data_dir",
    type=click.Path(file_okay=False, path_type=Path),
    callback=_folder,
    help="The demo's directory; default ./var.",
)


class _Group(Commands, Examples):
    """A group with examples of its own."""


@click.group(
    cls=_Group,
    invoke_without_command=True,
    epilog="""
    perpcore demo                         # a venue on port 8080, data in ./var, until Ctrl-C
    perpcore demo --seed 7 --http 8081    # other traffic and another path, on another port
    perpcore demo --reset                 # from the beginning
    perpcore demo faucet demo 50000       # more play money
    perpcore demo access                  # URLs, key and snippets again
    """,
)
@configured
@click.option(
    "--http",
    "http_port",
    type=click.IntRange(1, 65535),
    help="Port of HTTP and WebSocket; default 8080.",
)
@click.option("--seed", type=int, help="Of traffic and index path; default 1.")
@click.option("--rate", type=click.IntRange(1, 20_000), help="Commands a second; default 300.")
@click.option(
    "--speed",
    type=click.FloatRange(1 / 60, 60),
    help="Minutes of the index path in a second; default 1.",
)
@click.option(
    "--funding",
    "funding_seconds",
    type=click.FloatRange(1, 86_400),
    help="Seconds between two fundings; default 60.",
)
@click.option(
    "--klines",
    metavar="FILE",
    help="Recorded minutes (CSV with a column `close`) that BTCUSDT's index follows, or `none`: a "
    "simulated path. Default: the recording beside the project, if there is one.",
)
@click.option("--reset", "fresh", is_flag=True, help="Remove the demo that is there first.")
@click.option(
    "--seconds", type=click.FloatRange(min=0), help="Stop by itself after this long; default never."
)
@click.pass_context
def demo(
    ctx: click.Context,
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
    http_port: int | None,
    seed: int | None,
    rate: int | None,
    speed: float | None,
    funding_seconds: float | None,
    klines: str | None,
    fresh: bool,
    seconds: float | None,
) -> None:
    """Run a whole futures venue with play money, until Ctrl-C.

    Engine, clock, followers, ledger and HTTP/WebSocket gateway; market makers and takers; an index
    that follows a recorded or simulated path; funding every minute; accounts that are liquidated.
    Prints the key of a funded account, and how the usual clients are told to use it.

    A start on the same directory goes on where it was, with the same key. The same seed, speed,
    rate and path send the same commands in the same turns; which turns are left out, and how
    commands of others fall between them, depends on the clock on the wall.
    """
    if ctx.invoked_subcommand is not None:
        return
    if klines == "none":
        klines = ""
    elif klines is not None:
        klines = str(Path(klines).resolve())
    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    data = Path(config.data_dir).resolve()
    from tools import demoplan, demovenue

    if fresh and data.exists() and not demoplan.is_free(data):
        _say_left(data, demoplan.reset(data))
    asked = demovenue.Asked(http_port, seed, rate, speed, funding_seconds, klines)
    sys.exit(demovenue.run(config, data, asked, seconds=seconds))


@demo.command(cls=Examples, epilog="perpcore demo reset --data var")
@_data
def reset(data_dir: Path) -> None:
    """Remove everything of a demo that doesn't run.

    Refuses a directory that is no demo's, or in use. What lies there besides stays.
    """
    from tools import demoplan

    _say_left(data_dir, demoplan.reset(data_dir))


def _say_left(data: Path, left: list[str]) -> None:
    click.echo(
        f"{data}: the demo is gone" + (f"; not ours, left: {', '.join(left)}" if left else "")
    )


@demo.command(
    cls=Examples,
    epilog="""
    perpcore demo faucet demo 50000
    perpcore demo faucet 1000 0.5 --data /tmp/venue
    """,
)
@click.argument("who")
@click.argument("amount")
@_data
@as_json
def faucet(who: str, amount: str, data_dir: Path, as_json: bool) -> None:
    """Give an account play money: AMOUNT of USDT.

    WHO is an account's number or a user's name. The demo must be running; the deposit is a command
    in its log like any other.
    """
    from tools import demoplan
    from tools import faucet as money

    config = demoplan.config_of_demo(data_dir)
    wanted = money.amount_of(amount)
    account = money.account_of(config, who)
    answer = money.give(config, account, wanted)
    said: dict[str, Any] = {"account": account, "amount": str(wanted), "seq": answer["seq"]}
    if as_json:
        print_json(said)
    else:
        click.echo(f"account {account}: {wanted:,} USDT more (command {said['seq']})")


@demo.command(
    cls=Examples,
    epilog="""
    perpcore demo access
    perpcore demo access --client ccxt
    """,
)
@_data
@click.option("--client", help="Print one client's snippet alone, as a program.")
@as_json
def access(data_dir: Path, client: str | None, as_json: bool) -> None:
    """Print URLs, key and snippets of a demo again."""
    from tools import demoplan, demovenue, faucet, snippets

    config, plan = demoplan.config_of_demo(data_dir), demoplan.read_plan(data_dir)
    known = faucet.known_access(config)
    if known is None:
        raise demoplan.DemoError(f"{data_dir}: the demo has no key yet. Start it: perpcore demo")
    base = demoplan.base_url(config)
    clients = (snippets.NATIVE_NAME, *snippets.SNIPPETS)
    if client is not None and client not in clients:
        raise click.BadParameter(f"{client!r}; there are {', '.join(clients)}")
    if as_json:
        print_json({**known._asdict(), "base": base, "instance": config.instance})
    elif client == snippets.NATIVE_NAME:
        click.echo(snippets.native(known._asdict()), nl=False)
    elif client is not None:
        click.echo(snippets.pasted(client, base, known.api_key, known.secret), nl=False)
    else:
        click.echo("\n".join(demovenue.introduction(config, plan, data_dir, base, known._asdict())))


def register(main: click.Group) -> None:
    """Add these commands to `perpcore`."""
    main.add_command(demo)
