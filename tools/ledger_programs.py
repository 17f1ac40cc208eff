"""R8: the books as other programs add them up. Exported, checked, and every account compared.

Reads   the books between two cuts.
Writes  a temporary folder; runs hledger, bean-check and ledger-cli, those that are installed.
Never   believes that a program which says nothing has read everything: hledger is asked for every
        balance, and the other two are given assertions of them.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from ledger.books import Books, Cut
from ledger.exports import DECIMALS, Exporter
from ledger.files import LedgerError
from ledger.reconcile import Break

TIMEOUT_S: Final = 600.0
PROGRAMS: Final[dict[str, tuple[str, str]]] = {  # format: program, what it is told
    "hledger": ("hledger", "-f FILE check --strict ordereddates"),
    "ledger": ("ledger", "-f FILE --strict --pedantic balance"),
    "beancount": ("bean-check", "--no-cache FILE"),
}


def second_opinions(books: Books, first: Cut, last: Cut) -> tuple[list[Break], dict[str, Any]]:
    """(breaks, files each program accepted or None where it is not installed).

    raises      LedgerError when none of the programs is there
    """
    found: list[Break] = []
    said: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="perpcore-export-") as folder:
        for form, (name, words) in PROGRAMS.items():
            program = _program(name)
            said[name] = None
            if program is None:
                continue
            exporter = Exporter(books, first, last)
            paths = exporter.write(Path(folder) / form, form)
            for path in paths:
                done = _run(program, words, path)
                if done.returncode != 0:
                    lines = (done.stderr or done.stdout).strip().splitlines()
                    why = lines[0] if lines else f"code {done.returncode}"
                    found.append(Break("R8", f"{name} refuses {path.name}: {why}", 1, 0, last.seq))
            if name == "hledger":
                found += _balances(program, exporter, paths, last)
            said[name] = len(paths)
    if not any(said.values()):
        raise LedgerError(f"none of {', '.join(said)} is installed: apt-get install hledger")
    return found, said


def _program(name: str) -> str | None:
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def _run(program: str, words: str, path: Path) -> subprocess.CompletedProcess[str]:
    arguments = [str(path) if word == "FILE" else word for word in words.split()]
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def _units(amount: str) -> int:
    """A printed amount as a whole number of 10^-DECIMALS."""
    whole, _, fraction = amount.partition(".")
    return int(whole + fraction.ljust(DECIMALS, "0"))


def _balances(program: str, exporter: Exporter, paths: list[Path], last: Cut) -> list[Break]:
    """Every account's balance at the end, as the program has it, against the books."""
    told: dict[str, int] = {}
    for path in paths:
        done = _run(program, "-f FILE balance --flat --no-total --empty -O csv", path)
        for account, amount in list(csv.reader(done.stdout.splitlines()))[1:]:
            told[account] = _units(amount.split()[0])
    balances = exporter.books.balances(last)
    found = []
    for row, account in exporter.names.accounts.items():
        own = int(balances[row]) * 10 ** (DECIMALS - exporter.scales[exporter.commodity[row]])
        other = told.pop(account, 0)
        if own != other:
            key = int(exporter.books.keys[row]["key"])
            found.append(Break("R8", f"hledger's {account}", own, other, last.seq, 0, key))
    found += [Break("R8", f"hledger's {name}", 0, v, last.seq) for name, v in told.items() if v]
    return found
