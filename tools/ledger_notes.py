"""Bookkeepers' notes from the command line: into the WAL, and back with what the clerk made of it.

Reads   the ledger's notes, until the one that was sent is among them.
Writes  one BOOKKEEPING command: through the operators' socket where there is one, else as the
        producer that `ledger.producer` names.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Final

from ledger.books import Books
from ledger.files import LedgerError, QuestionError, ledger_folder
from shm.config import Config

TOKEN: Final = "PERPCORE_TOKEN"  # an operator's access token, of POST /login
ANSWER_S: Final = 5.0


def send(config: Config, op: str, fields: dict[str, Any]) -> tuple[str, bool]:
    """(what came of it, whether it was done).

    raises      AdminError, SegmentError: it was not taken
    """
    from gateways.http.adminclient import administer

    token = os.environ.get(TOKEN, "")
    if not token and not fields["principal"]:
        raise QuestionError(f"say who you are: --principal NUMBER, or a token in {TOKEN}")
    if config.ledger.producer != "admin":
        from ledger.bookkeeping import Op, note_command
        from tools.desk import ask

        seq = ask(config, config.ledger.producer, note_command(Op[op], **fields))
    else:
        body = {"op": op, **fields}
        answer = administer(
            config, "/books", body, lambda admin, who: admin.keep_books(who, **body), token
        )
        seq = int(answer["seq"])
    return _outcome(ledger_folder(Path(config.data_dir)), op, seq)


def _outcome(folder: Path, op: str, seq: int) -> tuple[str, bool]:
    """What the clerk wrote about command `seq`."""
    until = time.monotonic() + ANSWER_S
    while time.monotonic() < until:
        try:
            books = Books(folder)
        except LedgerError:
            break
        if books.head["seq"] >= seq:
            for line in books.notes():
                if line["seq"] == seq:
                    return _text(op, line), "refused" not in line
        time.sleep(0.02)
    return f"command {seq}: no ledger follows now; perpcore ledger notes says later", True


def _text(op: str, line: dict[str, Any]) -> str:
    seq = line["seq"]
    if "refused" in line:
        return f"command {seq}: refused: {line['refused']}"
    if op in ("APPROVE", "REJECT"):
        first, last = line.get("entries", (0, 0))
        booked = f"entries {first} to {last - 1}" if last > first else "nothing to book"
        what = f"approved: {booked}" if op == "APPROVE" else "rejected"
        return f"command {seq}: proposal {line['reference']} {what}"
    return f"command {seq}: proposed; another principal: perpcore ledger approve {seq}"


def quanta_of(books: Books, asset: str | None, amount: str) -> tuple[int, int]:
    """(asset's number, quanta) of an amount in whole units, exact.

    asset       its name; None: the only one there is
    """
    from ledger.reconcile import parse_amount

    names = {str(v["name"]): k for k, v in books.assets.items()}
    if asset is None and len(names) == 1:
        asset = next(iter(names))
    if asset not in names:
        raise QuestionError(f"asset {asset!r}, must be one of {', '.join(names)}")
    return names[asset], parse_amount(amount, books.scale(names[asset]), "journal")
