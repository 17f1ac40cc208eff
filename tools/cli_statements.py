"""`perpcore ledger ...` for accountants and auditors: statements, and down to the trade.

Reads   arguments.
Writes  text, JSON, CSV or HTML.
Never   imports numba, nor asks the venue.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tools.ledger_group import AT, DATA, FROM, TO, books_of, cut_of, ledger
from tools.options import Examples, print_json

if TYPE_CHECKING:
    from ledger.sheet import Sheet


def register(main: click.Group) -> None:
    """Add the group, with the commands of this module, to `perpcore`."""
    main.add_command(ledger)


_format = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv", "html"]),
    default="text",
    show_default=True,
)
_currency = click.option("--currency", metavar="NAME[:DECIMALS]", help="Add a column in it.")
_rates = click.option("--rate", "rates", multiple=True, metavar="ASSET=RATE", help="Of one unit.")


def _rated(currency: str | None, rates: tuple[str, ...]) -> Any:
    from ledger.query import parse_currency

    found = {}
    for text in rates:
        name, sign, value = text.partition("=")
        if not sign:
            raise click.BadParameter(f"{text!r}, must be ASSET=RATE")
        found[name] = value
    return parse_currency(currency, found)


def _show(made: Sheet, form: str) -> None:
    from ledger.sheet import FORMATS

    click.echo(FORMATS[form](made))
    sys.exit(0 if made.ok else 1)


# ---------------------------------------------------------------- statements


@ledger.command(
    "balance-sheet",
    cls=Examples,
    epilog="""
    perpcore ledger balance-sheet
    perpcore ledger balance-sheet --at 2026-01-31T23:59:59Z --currency USD --rate USDT=1.0002
    perpcore ledger balance-sheet --at 200000 --compare 100000 --format html
    """,
)
@DATA
@AT
@click.option("--compare", metavar="SEQ|TIME", help="Show this cut and the change beside it.")
@_currency
@_rates
@_format
def balance_sheet(
    data_dir: Path,
    at: str | None,
    compare: str | None,
    currency: str | None,
    rates: tuple[str, ...],
    form: str,
) -> None:
    """Assets, liabilities and equity at a moment.

    Ends with 1 if A = L + E doesn't hold.
    """
    from ledger import statements

    books = books_of(data_dir)
    before = cut_of(books, compare) if compare else None
    made = statements.balance_sheet(
        books, cut_of(books, at), before=before, currency=_rated(currency, rates)
    )
    _show(made, form)


@ledger.command("trial-balance")
@DATA
@FROM
@TO
@click.option("--detail", is_flag=True, help="Every account, not every line of the chart.")
@_format
def trial_balance(
    data_dir: Path, first: str | None, last: str | None, detail: bool, form: str
) -> None:
    """Opening, turnover and closing of every line."""
    from ledger import statements

    books = books_of(data_dir)
    made = statements.trial_balance(
        books, cut_of(books, first, genesis=True), cut_of(books, last), detail=detail
    )
    _show(made, form)


@ledger.command()
@DATA
@FROM
@TO
@_currency
@_rates
@_format
def income(
    data_dir: Path,
    first: str | None,
    last: str | None,
    currency: str | None,
    rates: tuple[str, ...],
    form: str,
) -> None:
    """Income and expense of a period, by instrument."""
    from ledger import statements

    books = books_of(data_dir)
    made = statements.income(
        books,
        cut_of(books, first, genesis=True),
        cut_of(books, last),
        currency=_rated(currency, rates),
    )
    _show(made, form)


def _period_command(name: str, text: str) -> Callable[..., Any]:
    """A statement of a period that needs nothing else."""

    @ledger.command(name, help=text)
    @DATA
    @FROM
    @TO
    @_format
    def command(data_dir: Path, first: str | None, last: str | None, form: str) -> None:
        from ledger import statements

        books = books_of(data_dir)
        make = getattr(statements, name)
        _show(make(books, cut_of(books, first, genesis=True), cut_of(books, last)), form)

    return command


def _moment_command(name: str, text: str) -> Callable[..., Any]:
    """A statement of a moment that needs nothing else."""

    @ledger.command(name, help=text)
    @DATA
    @AT
    @_format
    def command(data_dir: Path, at: str | None, form: str) -> None:
        from ledger import statements

        books = books_of(data_dir)
        _show(getattr(statements, name)(books, cut_of(books, at)), form)

    return command


_period_command("fund", "Insurance-fund roll-forward: what came, what went, and why.")
_period_command("fees", "What makers and takers paid, by symbol.")
_period_command("funding", "What positions paid and received, by symbol, and the dust between.")
_moment_command("custody", "What is held where, against what customers are owed.")
_moment_command("withdrawals", "Withdrawals under way, by age.")


@ledger.command(
    cls=Examples,
    epilog="""
    perpcore ledger statement 16 --from 2026-01-01 --to 2026-02-01
    """,
)
@click.argument("account", type=click.IntRange(min=0))
@DATA
@FROM
@TO
@_format
def statement(account: int, data_dir: Path, first: str | None, last: str | None, form: str) -> None:
    """Every movement of one customer's money."""
    from ledger import statements

    books = books_of(data_dir)
    if not books.has_customer(account):
        raise click.ClickException(f"customer {account}: nothing was ever booked for it")
    made = statements.customer(
        books, account, cut_of(books, first, genesis=True), cut_of(books, last)
    )
    _show(made, form)


# ---------------------------------------------------------------- drill-down


def _ask(data_dir: Path, name: str, params: dict[str, Any]) -> dict[str, Any]:
    from ledger.query import AUDITOR, Viewer, answer

    books = books_of(data_dir)
    given = {k: str(v) for k, v in params.items() if v is not None}
    return answer(books, Viewer(AUDITOR), name, given)


def _show_entries(found: list[dict[str, Any]], form: str, data_dir: Path) -> None:
    if form == "json":
        print_json(found)
        return
    from ledger.report import entry_text

    books = books_of(data_dir)
    for data in found:
        click.echo(f"entry {data['entry']}  command {data['seq']}  {data['recorded']}")
        click.echo(entry_text(books, data["entry"]))


_lines = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
)


@ledger.command(
    cls=Examples,
    epilog="""
    perpcore ledger entries --order 4711
    perpcore ledger entries --event BAD_DEBT --from 2026-01-01
    perpcore ledger entries --key 2263047498072785408 --limit 20
    """,
)
@DATA
@click.option("--key", type=int, help="Of an account of the books, as `accounts` shows it.")
@click.option("--order", type=int, help="About this order.")
@click.option("--reference", type=int, help="About this trade, request or source.")
@click.option("--account", type=int, help="Of this customer.")
@click.option("--symbol", type=int, help="In this symbol.")
@click.option("--event", help="Of this event, as DEPOSIT.")
@FROM
@TO
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@_lines
def entries(data_dir: Path, form: str, first: str | None, last: str | None, **wanted: Any) -> None:
    """Journal entries with all their legs."""
    data = _ask(data_dir, "entries", {"from": first, "to": last, **wanted})
    _show_entries(data["entries"], form, data_dir)


@ledger.command()
@click.argument("number", type=click.IntRange(min=0))
@DATA
@_lines
def entry(number: int, data_dir: Path, form: str) -> None:
    """One journal entry."""
    _show_entries([_ask(data_dir, "entry", {"entry": number})], form, data_dir)


@ledger.command()
@click.argument("trace")
@DATA
@_lines
def trace(trace: str, data_dir: Path, form: str) -> None:
    """Entries that a request caused, by its trace id in hex."""
    _show_entries(_ask(data_dir, "trace", {"trace": trace})["entries"], form, data_dir)


@ledger.command()
@click.argument("code", type=int)
@DATA
@AT
@_lines
def accounts(code: int, data_dir: Path, at: str | None, form: str) -> None:
    """The accounts behind a line of a statement, by its code."""
    said = _ask(data_dir, "accounts", {"code": code, "at": at})
    if form == "json":
        print_json(said)
        return
    click.echo(f"{code}: {said['meaning']}")
    for a in said["accounts"]:
        click.echo(f"  {a['account']:<48} {a['balance']:>26} {a['commodity']:<10} key {a['key']}")


@ledger.command()
@DATA
@_lines
def notes(data_dir: Path, form: str) -> None:
    """What bookkeepers proposed, approved and were refused."""
    said = _ask(data_dir, "notes", {})
    if form == "json":
        print_json(said)
        return
    for n in said["notes"]:
        about = f" {n['reference']}" if "reference" in n else ""
        first, last = n.get("entries", (0, 0))
        came = f"entries {first} to {last - 1}" if last > first else ""
        came = f"refused: {n['refused']}" if "refused" in n else came
        words = f'"{n["text"]}"' if n["text"] else ""
        click.echo(
            f"command {n['seq']}  principal {n['principal']}  "
            + "  ".join(filter(None, (f"{n['op']}{about}", words, came)))
        )
