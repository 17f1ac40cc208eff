"""`perpcore ledger ...` for bookkeepers: closing, re-opening, reversals, journals, approvals.

Reads   arguments, configuration (shm/config.py).
Writes  BOOKKEEPING commands; what came of each.
Never   writes the books: they are booked from the log, as everything is.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tools.ledger_group import books_of, ledger
from tools.options import Examples, config_of, configured

if TYPE_CHECKING:
    from shm.config import Config


def register(main: click.Group) -> None:
    """Add the group, with the commands of this module, to `perpcore`."""
    main.add_command(ledger)


def _note(config: Config, op: str, **fields: Any) -> None:
    """Send a BOOKKEEPING command; say its number and what came of it, 1 where it was refused."""
    from ledger.bookkeeping import Op, Refused, note_fields
    from tools.ledger_notes import send

    try:
        note_fields(Op[op], **fields)  # what cannot be said is not sent
    except (Refused, OverflowError) as error:
        raise click.ClickException(str(error)) from None
    text, done = send(config, op, fields)
    click.echo(text)
    sys.exit(0 if done else 1)


_principal = click.option(
    "--principal",
    type=click.IntRange(min=1),
    help="Your number; an operator's token (PERPCORE_TOKEN) says it by itself.",
)
_reason = click.option("--reason", required=True, help="Up to 88 bytes, kept for ever.")


@ledger.command(
    cls=Examples,
    epilog="""
    perpcore ledger close 2026-01-31T23:59:59.999999999Z --principal 7 --reason "January"
    """,
)
@click.argument("until", metavar="TIME")
@_principal
@_reason
@configured
def close(
    until: str,
    principal: int | None,
    reason: str,
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
) -> None:
    """Propose to close a period.

    Income and expense go to retained earnings. Another principal has to approve it.
    """
    from ledger.query import parse_time

    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    _note(config, "CLOSE", principal=principal or 0, effective_ns=parse_time(until), text=reason)


@ledger.command()
@_principal
@_reason
@configured
def reopen(
    principal: int | None,
    reason: str,
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
) -> None:
    """Propose to open the period closed last again."""
    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    _note(config, "REOPEN", principal=principal or 0, text=reason)


@ledger.command()
@click.argument("number", type=click.IntRange(min=0))
@_principal
@_reason
@configured
def reverse(
    number: int,
    principal: int | None,
    reason: str,
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
) -> None:
    """Propose to reverse a bookkeeper's entry."""
    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    _note(config, "REVERSE", principal=principal or 0, reference=number, text=reason)


@ledger.command(
    cls=Examples,
    epilog="""
    perpcore ledger journal CUSTODY_COLD CUSTODY_HOT 0.7 --principal 7 --reason sweep
    """,
)
@click.argument("debit")
@click.argument("credit")
@click.argument("amount")
@click.option("--asset", metavar="NAME", help="Of AMOUNT; may be left out where there is one.")
@click.option("--effective", metavar="TIME", help="When it counts; default: now.")
@_principal
@_reason
@configured
def journal(
    debit: str,
    credit: str,
    amount: str,
    asset: str | None,
    effective: str | None,
    principal: int | None,
    reason: str,
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
) -> None:
    """Propose an entry of AMOUNT between two accounts of the chart.

    The engine's own, as customers' wallets, are none of a bookkeeper's business.
    """
    from ledger.chart import Code, pack
    from ledger.query import parse_time
    from tools.ledger_notes import quanta_of

    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    number, quanta = quanta_of(books_of(Path(config.data_dir)), asset, amount)
    keys = []
    for name in (debit, credit):
        if name not in Code.__members__:
            raise click.BadParameter(f"{name!r} is none of {', '.join(Code.__members__)}")
        keys.append(pack(Code[name], 0, number))
    _note(
        config,
        "JOURNAL",
        principal=principal or 0,
        amount=quanta,
        debit=keys[0],
        credit=keys[1],
        effective_ns=parse_time(effective) if effective else 0,
        text=reason,
    )


@ledger.command()
@click.argument("number", type=click.IntRange(min=1))
@click.option("--reject", is_flag=True, help="Drop it instead.")
@_principal
@configured
def approve(
    number: int,
    reject: bool,
    principal: int | None,
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
) -> None:
    """Approve what another principal proposed, by its command."""
    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    _note(config, "REJECT" if reject else "APPROVE", principal=principal or 0, reference=number)
