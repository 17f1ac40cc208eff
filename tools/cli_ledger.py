"""`perpcore ledger ...`: the books, for accountants, auditors and whoever runs the venue.

Reads   arguments, configuration (shm/config.py).
Writes  text, JSON, CSV or HTML.
Never   does the work itself: each command imports its module when it is called. Statements import
        no numba.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tools.options import FILE, Commands, Examples, as_json, config_of, configured, print_json

if TYPE_CHECKING:
    from ledger.books import Books, Cut
    from ledger.sheet import Sheet
    from shm.config import Config

NEW_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(cls=Commands)
def ledger() -> None:
    """The books in double entry: statements, checks, proofs, exports.

    --at, --from and --to are a sequence number or an instant in UTC (2026-01-31T23:59:59.5Z).
    """


def register(main: click.Group) -> None:
    """Add the group to `perpcore`."""
    main.add_command(ledger)


_data = click.option(
    "--data",
    "data_dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="var",
    show_default=True,
)
_at = click.option("--at", metavar="SEQ|TIME", help="As of then; default: now.")
_from = click.option("--from", "first", metavar="SEQ|TIME", help="Behind this; default: genesis.")
_to = click.option("--to", "last", metavar="SEQ|TIME", help="Up to and with this; default: now.")
_format = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv", "html"]),
    default="text",
    show_default=True,
)
_currency = click.option("--currency", metavar="NAME[:DECIMALS]", help="Add a column in it.")
_rates = click.option("--rate", "rates", multiple=True, metavar="ASSET=RATE", help="Of one unit.")


def _books(data_dir: Path) -> Books:
    from ledger.books import Books
    from ledger.files import ledger_folder

    return Books(ledger_folder(data_dir))


def _cut(books: Books, text: str | None, *, genesis: bool = False) -> Cut:
    from ledger.query import parse_cut

    return parse_cut(books, text, books.cut_seq(0) if genesis else books.now())


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


# ---------------------------------------------------------------- the process


@ledger.command(
    cls=Examples,
    epilog="""
    perpcore ledger run --data var
    """,
)
@configured
def run(
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
) -> None:
    """Keep the books beside an engine, until Ctrl-C.

    Follows its reports, from wherever the books stand. The engine never waits for it.
    """
    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    from tools import ledger_run

    sys.exit(ledger_run.run(config))


@ledger.command(
    cls=Examples,
    epilog="""
    perpcore ledger rebuild --data var --into /tmp/books
    perpcore ledger rebuild --sealed /backup/2026-01 --into /tmp/books
    """,
)
@_data
@click.option("--into", type=NEW_FOLDER, help="An empty folder; default: ledger in the data.")
@click.option(
    "--sealed",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Begin with these: see seal.",
)
@as_json
def rebuild(data_dir: Path, into: Path | None, sealed: Path | None, as_json: bool) -> None:
    """Make the books again from the WAL.

    From genesis, or from sealed books on. Ends with the head of the hash chain, which is the same
    as before.
    """
    from ledger.files import ledger_folder
    from tools import ledger_run

    said = ledger_run.rebuild(data_dir, into or ledger_folder(data_dir), sealed)
    if as_json:
        print_json(said)
    else:
        click.echo(
            "{entries} entries, {legs} legs to command {seq} in {seconds} s, from entry "
            "{from_entry} on ({entries_per_second} entries/s), chain {chain}".format(**said)
        )


@ledger.command(
    cls=Examples,
    epilog="""
    perpcore ledger seal /backup/2026-01
    """,
)
@click.argument("folder", type=NEW_FOLDER)
@_data
@as_json
def seal(folder: Path, data_dir: Path, as_json: bool) -> None:
    """Copy the books to where a rebuild may begin.

    Proven sound, with the snapshot to go on from: the WAL before it may be archived then.
    """
    from tools import ledger_seal

    said = ledger_seal.seal(data_dir, folder)
    if as_json:
        print_json(said)
        return
    needs = f"command {said['snapshot_seq'] + 1}" if said["snapshot_seq"] else "genesis"
    click.echo(
        "{entries} entries to command {seq}, chain {chain}".format(**said)
        + f"\n  a rebuild from here needs the WAL from {needs} on"
    )


@ledger.command(
    cls=Examples,
    epilog="""
    perpcore ledger verify --data var
    """,
)
@_data
@as_json
def verify(data_dir: Path, as_json: bool) -> None:
    """Prove the ledger's files sound, changing nothing.

    Ends with 1 and the place of the first damage if there is any.
    """
    from ledger.files import LedgerError, ledger_folder
    from ledger.verify import verify as prove_sound

    try:
        found = prove_sound(ledger_folder(data_dir))
    except LedgerError as error:
        if as_json:
            print_json({"sound": False, "problem": str(error)})
        else:
            click.echo(f"NOT SOUND: {error}", err=True)
        sys.exit(1)
    if as_json:
        print_json({"sound": True, **found._asdict()})
        return
    click.echo(
        f"sound: {found.entries} entries, {found.legs} legs, {found.blocks} blocks to command "
        f"{found.seq}\n  chain {found.chain}"
    )
    for note in found.notes:
        click.echo(f"  note: {note}")


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
@_data
@_at
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

    books = _books(data_dir)
    before = _cut(books, compare) if compare else None
    made = statements.balance_sheet(
        books, _cut(books, at), before=before, currency=_rated(currency, rates)
    )
    _show(made, form)


@ledger.command("trial-balance")
@_data
@_from
@_to
@click.option("--detail", is_flag=True, help="Every account, not every line of the chart.")
@_format
def trial_balance(
    data_dir: Path, first: str | None, last: str | None, detail: bool, form: str
) -> None:
    """Opening, turnover and closing of every line."""
    from ledger import statements

    books = _books(data_dir)
    made = statements.trial_balance(
        books, _cut(books, first, genesis=True), _cut(books, last), detail=detail
    )
    _show(made, form)


@ledger.command()
@_data
@_from
@_to
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

    books = _books(data_dir)
    made = statements.income(
        books,
        _cut(books, first, genesis=True),
        _cut(books, last),
        currency=_rated(currency, rates),
    )
    _show(made, form)


def _period_command(name: str, text: str) -> Callable[..., Any]:
    """A statement of a period that needs nothing else."""

    @ledger.command(name, help=text)
    @_data
    @_from
    @_to
    @_format
    def command(data_dir: Path, first: str | None, last: str | None, form: str) -> None:
        from ledger import statements

        books = _books(data_dir)
        make = getattr(statements, name)
        _show(make(books, _cut(books, first, genesis=True), _cut(books, last)), form)

    return command


def _moment_command(name: str, text: str) -> Callable[..., Any]:
    """A statement of a moment that needs nothing else."""

    @ledger.command(name, help=text)
    @_data
    @_at
    @_format
    def command(data_dir: Path, at: str | None, form: str) -> None:
        from ledger import statements

        books = _books(data_dir)
        _show(getattr(statements, name)(books, _cut(books, at)), form)

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
@_data
@_from
@_to
@_format
def statement(account: int, data_dir: Path, first: str | None, last: str | None, form: str) -> None:
    """Every movement of one customer's money."""
    from ledger import statements

    books = _books(data_dir)
    if not books.has_customer(account):
        raise click.ClickException(f"customer {account}: nothing was ever booked for it")
    made = statements.customer(books, account, _cut(books, first, genesis=True), _cut(books, last))
    _show(made, form)


# ---------------------------------------------------------------- drill-down


def _ask(data_dir: Path, name: str, params: dict[str, Any]) -> dict[str, Any]:
    from ledger.query import AUDITOR, Viewer, answer

    books = _books(data_dir)
    given = {k: str(v) for k, v in params.items() if v is not None}
    return answer(books, Viewer(AUDITOR), name, given)


def _show_entries(found: list[dict[str, Any]], form: str, data_dir: Path) -> None:
    if form == "json":
        print_json(found)
        return
    from ledger.report import entry_text

    books = _books(data_dir)
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
@_data
@click.option("--key", type=int, help="Of an account of the books, as `accounts` shows it.")
@click.option("--order", type=int, help="About this order.")
@click.option("--reference", type=int, help="About this trade, request or source.")
@click.option("--account", type=int, help="Of this customer.")
@click.option("--symbol", type=int, help="In this symbol.")
@click.option("--event", help="Of this event, as DEPOSIT.")
@_from
@_to
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@_lines
def entries(data_dir: Path, form: str, first: str | None, last: str | None, **wanted: Any) -> None:
    """Journal entries with all their legs."""
    data = _ask(data_dir, "entries", {"from": first, "to": last, **wanted})
    _show_entries(data["entries"], form, data_dir)


@ledger.command()
@click.argument("number", type=click.IntRange(min=0))
@_data
@_lines
def entry(number: int, data_dir: Path, form: str) -> None:
    """One journal entry."""
    _show_entries([_ask(data_dir, "entry", {"entry": number})], form, data_dir)


@ledger.command()
@click.argument("trace")
@_data
@_lines
def trace(trace: str, data_dir: Path, form: str) -> None:
    """Entries that a request caused, by its trace id in hex."""
    _show_entries(_ask(data_dir, "trace", {"trace": trace})["entries"], form, data_dir)


@ledger.command()
@click.argument("code", type=int)
@_data
@_at
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
@_data
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


# ---------------------------------------------------------------- reconciliation


@ledger.command(
    cls=Examples,
    epilog="""
    perpcore ledger reconcile
    perpcore ledger reconcile --custody hot.csv --mapping wallets.json --cancel-only
    perpcore ledger reconcile --follow --every 1
    """,
)
@configured
@click.option(
    "--custody", multiple=True, type=FILE, help="CSV of wallet,asset,balance. May be repeated."
)
@click.option("--mapping", type=FILE, help="JSON: wallet, or beginning* -> hot, cold, third.")
@click.option("--replay/--no-replay", default=True, show_default=True, help="R1 to R4 and R7.")
@click.option("--genesis", is_flag=True, help="Replay all, not from the newest snapshot on.")
@click.option("--programs", is_flag=True, help="R8: export; hledger and the like add it up.")
@click.option("--cancel-only", is_flag=True, help="A break of R1 to R4 or R7 stops trading.")
@click.option("--follow", is_flag=True, help="Over and over, until Ctrl-C.")
@click.option(
    "--every", type=click.FloatRange(min=0.05), default=1.0, show_default=True, help="Seconds."
)
@as_json
def reconcile(
    config_path: Path | None,
    settings: tuple[str, ...],
    instance: str | None,
    data_dir: str | None,
    custody: tuple[Path, ...],
    mapping: Path | None,
    replay: bool,
    genesis: bool,
    programs: bool,
    cancel_only: bool,
    follow: bool,
    every: float,
    as_json: bool,
) -> None:
    """Hold the books against a replay of the WAL and against custody.

    And against the engine's memory, when it is at rest. At equal sequence numbers, to the unit.
    Ends with 1 if there is a break, which is kept in the break report with the first command at
    which it shows.
    """
    config = config_of(config_path, settings, instance=instance, data_dir=data_dir)
    if follow:
        from tools import ledger_watch

        sys.exit(
            ledger_watch.run(
                config,
                custody=custody,
                mapping=mapping,
                genesis=genesis,
                cancel_only=cancel_only,
                every_s=every,
            )
        )
    from tools import ledger_reconcile

    sys.exit(
        ledger_reconcile.run(
            config,
            custody=custody,
            mapping=mapping,
            replay=replay,
            genesis=genesis,
            programs=programs,
            cancel_only=cancel_only,
            as_json=as_json,
        )
    )


@ledger.command(
    cls=Examples,
    epilog="""
    perpcore ledger breaks
    perpcore ledger breaks --assign 3 --owner ann --state INVESTIGATING --note "asked custody"
    """,
)
@_data
@click.option("--assign", type=int, metavar="ID", help="Change this one.")
@click.option("--owner", help="Who looks after it.")
@click.option("--state", help="OPEN, INVESTIGATING, EXPLAINED or RESOLVED.")
@click.option("--note", help="What is known.")
def breaks(
    data_dir: Path, assign: int | None, owner: str | None, state: str | None, note: str | None
) -> None:
    """The break report: every difference ever found, its owner and state."""
    from ledger.breaks import BreakReport

    report = BreakReport(data_dir)
    if assign is not None:
        report.assign(assign, owner=owner, state=state, note=note)
    print_json(report.rows)


# ---------------------------------------------------------------- proofs and exports


@ledger.command(
    cls=Examples,
    epilog="""
    perpcore ledger prove --publish
    perpcore ledger prove --customer 16
    perpcore ledger prove --secret salt.key --at 200000
    """,
)
@_data
@_at
@click.option(
    "--secret", type=FILE, help="At least 16 bytes that salt the leaves; default: <data>/proof.key."
)
@click.option("--customer", type=int, help="Its proof; default: what everybody may see.")
@click.option("--publish", "publishes", is_flag=True, help="Gateways prove against it from now on.")
@click.option("--checker", is_flag=True, help="Print the program that checks a proof instead.")
def prove(
    data_dir: Path,
    at: str | None,
    secret: Path | None,
    customer: int | None,
    publishes: bool,
    checker: bool,
) -> None:
    """Proof of liabilities: its root, or the proof of one customer.

    Without --at, a customer's is of the root that was published last, if one was.
    """
    from ledger import check_proof, proof

    if checker:
        click.echo(Path(check_proof.__file__).read_text(), nl=False)
        return
    books = _books(data_dir)
    said = proof.published(data_dir) if at is None and secret is None and not publishes else None
    if said is not None and customer is not None:
        print_json(proof.published_tree(books, said).prove(customer))
        return
    if publishes and secret is not None:
        raise click.UsageError("what is published is salted with <data>/proof.key: no --secret")
    salt = secret.read_bytes() if secret is not None else proof.secret_of(data_dir)
    tree = proof.Tree(books, _cut(books, at), salt)
    if publishes:
        proof.publish(data_dir, tree)
    print_json(tree.publish() if customer is None else tree.prove(customer))


@ledger.command(
    cls=Examples,
    epilog="""
    perpcore ledger export books --format hledger
    perpcore ledger export books --format beancount --from 2026-01-01
    perpcore ledger export archive --format parquet
    """,
)
@click.argument("folder", type=NEW_FOLDER)
@_data
@click.option(
    "--format",
    "form",
    type=click.Choice(["hledger", "beancount", "ledger", "csv", "parquet"]),
    default="hledger",
    show_default=True,
)
@_from
@_to
@click.option(
    "--chunk", type=click.IntRange(min=1), default=50_000, show_default=True, help="Entries a file."
)
def export(
    folder: Path, data_dir: Path, form: str, first: str | None, last: str | None, chunk: int
) -> None:
    """Write the books for other programs, in chunks.

    Each chunk begins with opening balances, and asserts its balances at the end. Parquet needs
    duckdb: pip install perpcore[archive].
    """
    books = _books(data_dir)
    span = (_cut(books, first, genesis=True), _cut(books, last))
    if form == "parquet":
        from tools.ledger_archive import archive

        paths = archive(books, *span, folder)
    else:
        from ledger.exports import Exporter

        paths = Exporter(books, *span, chunk=chunk).write(folder, form)
    for path in paths:
        click.echo(path)


# ---------------------------------------------------------------- bookkeepers


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
    number, quanta = quanta_of(_books(Path(config.data_dir)), asset, amount)
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
