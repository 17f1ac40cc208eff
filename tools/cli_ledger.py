"""`perpcore ledger ...` for whoever runs the venue: the process, reconciliation, proofs, exports.

Reads   arguments, configuration (shm/config.py).
Writes  text, JSON, files.
Never   does the work itself: each command imports its module when it is called.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tools.ledger_group import AT, DATA, FROM, NEW_FOLDER, TO, books_of, cut_of, ledger
from tools.options import FILE, Examples, as_json, config_of, configured, print_json


def register(main: click.Group) -> None:
    """Add the group, with the commands of this module, to `perpcore`."""
    main.add_command(ledger)


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
@DATA
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
@DATA
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
@DATA
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
@DATA
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
@DATA
@AT
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
    books = books_of(data_dir)
    said = proof.published(data_dir) if at is None and secret is None and not publishes else None
    if said is not None and customer is not None:
        print_json(proof.published_tree(books, said).prove(customer))
        return
    if publishes and secret is not None:
        raise click.UsageError("what is published is salted with <data>/proof.key: no --secret")
    salt = secret.read_bytes() if secret is not None else proof.secret_of(data_dir)
    tree = proof.Tree(books, cut_of(books, at), salt)
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
@DATA
@click.option(
    "--format",
    "form",
    type=click.Choice(["hledger", "beancount", "ledger", "csv", "parquet"]),
    default="hledger",
    show_default=True,
)
@FROM
@TO
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
    books = books_of(data_dir)
    span = (cut_of(books, first, genesis=True), cut_of(books, last))
    if form == "parquet":
        from tools.ledger_archive import archive

        paths = archive(books, *span, folder)
    else:
        from ledger.exports import Exporter

        paths = Exporter(books, *span, chunk=chunk).write(folder, form)
    for path in paths:
        click.echo(path)
