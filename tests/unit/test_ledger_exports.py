"""Other programs accept the exported books, and refuse them with one unit changed at 1e-18."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from decimal import Decimal
from pathlib import Path

import pytest

from ledger.books import Books
from ledger.exports import DECIMALS, FORMATS, Exporter
from tests.unit.test_ledger_statements import books_of, day
from tests.unit.test_ledger_store import stream

PROGRAMS = ("hledger", "beancount", "ledger")
BEAN_CHECK = Path(sys.executable).with_name("bean-check")


def program(name: str) -> str:
    """hledger or ledger; a root on a host with apt and a network gets it installed."""
    found = shutil.which(name)
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(
            ["apt-get", "install", "-y", "--no-install-recommends", name],
            capture_output=True,
            timeout=120,
            check=False,
        )
        found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed, and only root may: apt-get install {name}")
    return found


def checked(path: Path) -> subprocess.CompletedProcess[str]:
    """What the program of this format says to a file."""
    if path.suffix == ".journal":
        command = [program("hledger"), "-f", str(path), "check", "--strict", "ordereddates"]
    elif path.suffix == ".ledger":
        command = [program("ledger"), "-f", str(path), "--strict", "--pedantic", "balance"]
    else:
        if not BEAN_CHECK.exists():
            pytest.skip("bean-check is not installed: pip install beancount")
        command = [str(BEAN_CHECK), "--no-cache", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def exported(tmp_path: Path, form: str, chunk: int = 40) -> list[Path]:
    books = books_of(tmp_path / "books", stream(3))
    return Exporter(books, books.cut_seq(0), books.now(), chunk=chunk).write(tmp_path / form, form)


@pytest.mark.parametrize("form", PROGRAMS)
def test_accepted(form: str, tmp_path: Path) -> None:
    paths = exported(tmp_path, form)
    assert len(paths) > 3
    for path in paths:
        said = checked(path)
        assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("form", PROGRAMS)
@pytest.mark.parametrize("line", [1, 5, -1])
def test_refused_with_one_unit_changed(form: str, line: int, tmp_path: Path) -> None:
    path = exported(tmp_path, form)[1]
    bend(path, line)
    assert checked(path).returncode != 0


def bend(path: Path, line: int) -> None:
    """Change the amount of one leg by 1e-18."""
    lines = path.read_text().splitlines()
    legs = [k for k, text in enumerate(lines) if re.match(r"\s+[A-Z]\S+  -?\d+\.\d+ ", text)]
    at = legs[line]
    amount = re.search(r"-?\d+\.\d{18}", lines[at])
    assert amount is not None
    changed = Decimal(amount[0]) + Decimal(1).scaleb(-DECIMALS)
    lines[at] = lines[at].replace(amount[0], f"{changed:.18f}", 1)
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("form", PROGRAMS)
def test_refused_with_a_wrong_assertion(form: str, tmp_path: Path) -> None:
    path = exported(tmp_path, form)[0]
    text = path.read_text()
    found = re.findall(r"= (-?\d+\.\d{18})|balance \S+ (-?\d+\.\d{18})", text)
    last = next(a or b for a, b in reversed(found))
    at = text.rindex(last)
    changed = Decimal(last) + Decimal(1).scaleb(-DECIMALS)
    path.write_text(text[:at] + f"{changed:.18f}" + text[at + len(last) :])
    assert checked(path).returncode != 0


def fava(tmp_path: Path) -> str:
    """The program: the one on the path, or one in an environment of its own."""
    found = shutil.which("fava")
    if not found:
        folder = tmp_path / "fava"
        venv.create(folder, with_pip=True)
        found = str(folder / "bin" / "fava")
        pip = [str(folder / "bin" / "pip"), "install", "-q", "fava"]
        if subprocess.run(pip, capture_output=True, timeout=500).returncode != 0:
            pytest.skip("fava is not installed, and cannot be from here: pip install fava")
    return found


def test_fava_opens_the_beancount_export(tmp_path: Path, long_run: bool) -> None:
    if not long_run:
        pytest.skip("--long")
    path = exported(tmp_path, "beancount", chunk=10_000)[0]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [fava(tmp_path), "-p", str(port), str(path)], stderr=subprocess.DEVNULL
    )
    try:
        base, until = f"http://127.0.0.1:{port}/perpcore-chunk-1", time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{base}/api/errors") as answer:
                    assert json.load(answer)["data"] == []
                break
            except urllib.error.URLError:
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.1)
        with urllib.request.urlopen(f"{base}/api/balance_sheet") as answer:
            text = answer.read().decode()
        assert "Available" in text and "USDT" in text
    finally:
        process.terminate()
        process.wait(30)


def test_csv_is_the_books(tmp_path: Path) -> None:
    books = books_of(tmp_path / "books", day())
    paths = Exporter(books, books.cut_seq(0), books.now(), chunk=5).write(tmp_path / "csv", "csv")
    rows = [row for path in paths for row in csv.DictReader(path.open())]
    legs = [row for row in rows if row["event"] != "OPENING"]
    assert len(legs) == books.legs
    sums: dict[str, Decimal] = {}
    for row in legs:
        sums.setdefault(row["commodity"], Decimal(0))
        sums[row["commodity"]] += Decimal(row["debit"] or 0) - Decimal(row["credit"] or 0)
    assert set(sums.values()) == {Decimal(0)}
    last = {(row["account"], row["commodity"]): Decimal(row["balance"]) for row in rows}
    balances = books.balances(books.now())
    told = sorted(int(balances[k]) for k in range(len(books.keys)))
    scale = {unit: books.scale(unit) for unit in set(books.keys["commodity"].tolist())}
    names = {books.commodity_name(unit): s for unit, s in scale.items()}
    assert sorted(int(v.scaleb(names[c])) for (_, c), v in last.items()) == told


def test_every_format_writes_every_entry(tmp_path: Path) -> None:
    books = books_of(tmp_path / "books", day())
    for form in FORMATS:
        paths = Exporter(books, books.cut_seq(0), books.now(), chunk=6).write(tmp_path / form, form)
        assert len(paths) == -(-books.entries // 6)
        text = "".join(path.read_text() for path in paths)
        assert text.count("TRANSFER") >= 1 and text.count("WITHDRAW_REQUEST") >= 1


def test_an_empty_ledger_exports(tmp_path: Path) -> None:
    from tests.model.report_stream import Stream

    books = books_of(tmp_path / "books", Stream().market())
    for form in ("hledger", "beancount"):
        (path,) = Exporter(books, books.now(), books.now()).write(tmp_path / form, form)
        assert checked(path).returncode == 0


def test_parquet_is_the_books(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    from tools.ledger_archive import archive

    books = books_of(tmp_path / "books", stream(3))
    archive(books, books.cut_seq(0), books.now(), tmp_path / "out")
    ((count, total),) = duckdb.sql(
        f"SELECT count(*), sum(amount) FROM '{tmp_path}/out/legs.*.parquet'"
    ).fetchall()
    assert (count, total) == (books.legs, 0)
    deposits = duckdb.sql(
        f"SELECT count(*) FROM '{tmp_path}/out/entries.*.parquet' WHERE event = 'DEPOSIT'"
    ).fetchall()[0][0]
    assert deposits == len(books.find_entries(event=1, limit=10**6))
    assert isinstance(books, Books)
