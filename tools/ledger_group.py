"""What all commands of `perpcore ledger` share: the group, its options, books and cuts.

Never   imports numba: statements are read on hosts that have none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tools.options import Commands

if TYPE_CHECKING:
    from ledger.books import Books, Cut

NEW_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(cls=Commands)
def ledger() -> None:
    """The books in double entry: statements, checks, proofs, exports.

    --at, --from and --to are a sequence number or an instant in UTC (2026-01-31T23:59:59.5Z).
    """


DATA = click.option(
    "--data",
    "data_dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="var",
    show_default=True,
)
AT = click.option("--at", metavar="SEQ|TIME", help="As of then; default: now.")
FROM = click.option("--from", "first", metavar="SEQ|TIME", help="Behind this; default: genesis.")
TO = click.option("--to", "last", metavar="SEQ|TIME", help="Up to and with this; default: now.")


def books_of(data_dir: Path) -> Books:
    from ledger.books import Books
    from ledger.files import ledger_folder

    return Books(ledger_folder(data_dir))


def cut_of(books: Books, text: str | None, *, genesis: bool = False) -> Cut:
    from ledger.query import parse_cut

    return parse_cut(books, text, books.cut_seq(0) if genesis else books.now())
