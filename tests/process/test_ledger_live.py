"""The books beside a real engine: who may read what over HTTP, bookkeepers, breaks that stop trading.

One venue with its gateway, admin socket, ledger and a reconciliation that goes on and on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from engine.memory import segment_parts
from ledger.books import Books
from ledger.chart import Code, pack
from ledger.files import ledger_folder
from shm.config import load
from shm.control import View
from shm.segment import Segment, remove_segments
from tests.conftest import ROOT
from tests.process.gateway_helpers import Exchange, Trader
from tests.process.helpers import wait_until
from tools.cli import main


class Desk:
    """The exchange, and whoever uses it."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.ann = exchange.trader("ann")
        self.bob = exchange.trader("bob")
        self.eve = exchange.trader("eve", "read,audit")

    @property
    def data(self) -> Path:
        return self.exchange.venue.data

    def ledger(self, *arguments: str, token: str = "") -> Result:
        """A ledger command of `perpcore`, in this process: it loads its kernels once."""
        options = ("--instance", self.exchange.instance, "--data", str(self.data))
        settings = (f"--set={key}={value}" for key, value in self.exchange.settings.items())
        given = ["ledger", *arguments, *options, *settings]
        return CliRunner().invoke(main, given, env={"PERPCORE_TOKEN": token})

    def look(self, *arguments: str) -> Any:
        """What a command that only reads says, as JSON."""
        done = CliRunner().invoke(main, ["ledger", *arguments, "--data", str(self.data)])
        assert done.exit_code in (0, 1), done.output
        return json.loads(done.stdout)

    def breaks(self) -> list[dict[str, Any]]:
        path = self.data / "breaks.json"
        return json.loads(path.read_text()) if path.exists() else []


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    exchange = Exchange(
        tmp_path_factory.mktemp("books"),
        f"books-{os.getpid()}",
        {"checkpoint_every": 256, "http.weight_per_minute": 1_000_000},
    )
    try:
        exchange.start()
        exchange.spawn("ledger", "ledger", "run")
        exchange.declare()
        made = Desk(exchange)
        trade(made)
        custody = made.data.parent / "hot.csv"
        custody.write_text("wallet,asset,balance\nhot-1,USDT,3000000\n")
        mapping = made.data.parent / "wallets.json"
        mapping.write_text('{"hot-*": "hot"}')
        exchange.spawn(
            *("watch", "ledger", "reconcile", "--follow", "--every", "0.2", "--cancel-only"),
            f"--set=alert.command=['sh', '-c', 'echo \"$0\" >> {custody.parent}/alerts']",
            *("--custody", str(custody), "--mapping", str(mapping)),
        )
        wait_until(lambda: "reconciled to" in exchange.log("watch"), 60, exchange.log("watch"))
        yield made
    finally:
        exchange.end()
        remove_segments(exchange.instance, dead_only=False)


def trade(desk: Desk) -> None:
    """Some orders, trades and cancels, each with a trace."""
    for k in range(5):
        placed = desk.ann.order("BUY", "0.010", f"{60_000 - k}")
        assert placed["status"] == "NEW", placed
    filled = desk.bob.order("SELL", "0.025")
    assert filled["status"] == "FILLED", filled
    desk.ann.call("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")


# ---------------------------------------------------------------- who may read what


def ask(trader: Trader, name: str, **params: Any) -> tuple[int, Any]:
    return trader.call("GET", f"/ledger/v1/{name}", **params)


def test_an_auditor_sees_everything(desk: Desk) -> None:
    status, sheet = ask(desk.eve, "balance-sheet")
    assert status == 200 and sheet["ok"] and sheet["facts"]["A = L + E"] is True
    total = next(r for r in sheet["rows"] if r["name"] == "Total assets")
    assert total["cells"] == {"USDT": "3000000.000000"}
    usd = ask(desk.eve, "balance-sheet", currency="EUR", rates="USDT=0.9")[1]
    total = next(r for r in usd["rows"] if r["name"] == "Total assets")
    assert total["cells"]["EUR"] == "2700000.00"
    for name in ("trial-balance", "income", "custody", "fund", "fees", "funding", "withdrawals",
                 "notes", "breaks", "reconciliation", "head"):  # fmt: skip
        assert ask(desk.eve, name)[0] == 200, name
    fills = ask(desk.eve, "entries", event="FILL_OPEN", account=desk.ann.account)[1]["entries"]
    legs = {leg["account"] for e in fills for leg in e["legs"]}
    assert f"Liabilities:User:U{desk.ann.account}:Available:USDT" in legs
    traced = ask(desk.eve, "trace", trace=fills[0]["trace"])[1]["entries"]
    assert fills[0]["entry"] in [e["entry"] for e in traced], "a trade, and back from its request"
    assert ask(desk.eve, "statement", account=desk.bob.account)[0] == 200
    status, gone = ask(desk.eve, "statement", account=4711)
    assert (status, gone["code"]) == (404, -1130)


def test_a_customer_reads_itself_alone(desk: Desk) -> None:
    ann, bob = desk.ann, desk.bob
    mine = ask(ann, "statement", account=bob.account)[1]
    assert mine["facts"]["customer"] == ann.account
    own = f"U{ann.account}"
    for name, params in (
        ("statement", {}),
        ("entries", {"limit": 1000}),
        ("entries", {"account": bob.account}),
        ("accounts", {}),
    ):
        status, found = ask(ann, name, **params)
        text = json.dumps(found)
        assert status == 200 and own in text and f"U{bob.account}" not in text, (name, params)
    key = pack(Code.AVAILABLE, bob.account, 0)
    status, found = ask(ann, "entries", key=key)
    assert (status, found["code"]) == (404, -1130)
    every = ask(desk.eve, "entries", limit=1000)[1]["entries"]
    for entry in every:
        status, seen = ask(ann, "entry", entry=entry["entry"])
        if any(f":{own}:" in leg["account"] for leg in entry["legs"]):
            assert status == 200 and all(own in leg["account"] for leg in seen["legs"])
        else:
            assert status == 404, entry
    theirs = next(e["trace"] for e in every if e["trace"] and e["customer"] == bob.account)
    assert ask(ann, "trace", trace=theirs)[0] == 404
    assert theirs not in json.dumps(ask(ann, "entries", limit=1000)[1])
    for name in ("balance-sheet", "trial-balance", "income", "custody", "notes", "reconciliation"):
        assert ask(ann, name) == (
            401,
            {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."},
        )
    assert desk.exchange.call("GET", "/ledger/v1/statement")[0] == 401


def test_what_was_acknowledged_is_in_the_books(desk: Desk) -> None:
    for _ in range(10):
        placed = desk.ann.order("BUY", "0.001", "59000")
        found = ask(desk.ann, "entries", order=placed["orderId"])[1]["entries"]
        assert [e["event"] for e in found] == ["HOLD"], placed
        desk.ann.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=placed["orderId"])


BAD = (
    ("balance-sheet", {"at": "yesterday"}, 400),
    ("balance-sheet", {"at": "999999999"}, 400),
    ("balance-sheet", {"currency": "EUR"}, 400),
    ("balance-sheet", {"currency": "EUR", "rates": "USDT"}, 400),
    ("trial-balance", {"from": "5", "to": "4"}, 400),
    ("entries", {"limit": "0"}, 400),
    ("entries", {"limit": "1001"}, 400),
    ("entries", {"key": "9" * 30}, 400),
    ("entries", {"start": "-1"}, 400),
    ("entry", {}, 400),
    ("trace", {"trace": "x"}, 400),
    ("accounts", {"code": "7"}, 404),
)


def test_bad_questions(desk: Desk) -> None:
    for name, params, wanted in BAD:
        status, found = ask(desk.eve, name, **params)
        assert status == wanted and found["code"] < 0, (name, params, found)
        assert str(desk.data) not in json.dumps(found)


def test_a_customer_proves_what_it_is_owed(desk: Desk) -> None:
    assert ask(desk.ann, "proof")[0] == 404
    root = desk.look("prove", "--publish")["root"]
    status, public, _ = desk.exchange.call("GET", "/ledger/v1/proof-root")
    assert status == 200 and public["root"] == root
    proof = ask(desk.ann, "proof", account=desk.bob.account)[1]
    assert proof["customer"] == desk.ann.account and proof["root"] == root
    path = desk.data.parent / "proof.json"
    path.write_text(json.dumps(proof))
    script = ROOT / "ledger" / "check_proof.py"
    done = subprocess.run(
        [sys.executable, "-I", str(script), str(path), root["hash"]], capture_output=True, text=True
    )
    assert done.returncode == 0 and "proven" in done.stdout, done.stderr


# ---------------------------------------------------------------- bookkeepers


def test_bookkeepers_propose_approve_close_and_open_again(desk: Desk) -> None:
    who = ("--principal", "7", "--reason", "sweep")
    asked = desk.ledger("journal", "CUSTODY_COLD", "CUSTODY_HOT", "12.5", *who)
    assert asked.exit_code == 0, asked.output
    number = asked.stdout.split()[1].rstrip(":")
    same = desk.ledger("approve", number, "--principal", "7")
    assert same.exit_code == 1 and "who approves must not be who proposed" in same.stdout
    done = desk.ledger("approve", number, "--principal", "9")
    assert done.exit_code == 0 and "approved: entries" in done.stdout, done.output
    entry = done.stdout.split()[-3]
    assert "no proposal" in desk.ledger("approve", number, "--principal", "9").stdout
    custody = {r["name"]: r["cells"] for r in desk.look("custody", "--format", "json")["rows"]}
    assert custody["Custody/Cold"] == {"USDT": "12.500000"}
    wrong = desk.ledger("journal", "CUSTODY_COLD", "AVAILABLE", "1", *who)
    assert "AVAILABLE is the engine's" in wrong.stdout
    assert (
        "more than 6 decimals"
        in desk.ledger(*("journal", "CUSTODY_COLD", "CUSTODY_HOT", "0.0000001", *who)).stderr
    )
    back = desk.ledger("reverse", entry, "--principal", "7", "--reason", "not yet").stdout
    done = desk.ledger("approve", back.split()[1].rstrip(":"), "--principal", "9")
    assert "approved: entries" in done.stdout

    def result(sheet: Any) -> str:
        rows = {row["name"]: row["cells"] for row in sheet["rows"]}
        return str(rows["Result of the period"]["USDT"]) if "Result of the period" in rows else ""

    before = desk.look("balance-sheet", "--format", "json")
    income = desk.look("income", "--format", "json")["rows"][-1]["cells"]["USDT"]
    assert result(before) == income and float(income) > 0
    until = before["facts"]["instant"]
    said = desk.ledger("close", until, "--principal", "7", "--reason", "month")
    number = said.stdout.split()[1].rstrip(":")
    assert desk.ledger("approve", number, "--principal", "9").exit_code == 0
    closed = desk.look("balance-sheet", "--format", "json")
    assert closed["ok"] and result(closed) == "0.000000"
    retained = {r["name"]: r["cells"] for r in closed["rows"]}["Retained"]
    assert retained == {"USDT": income}
    assert desk.look("income", "--format", "json")["rows"][-1]["cells"]["USDT"] == income
    late = desk.ledger(
        "journal", "NETWORK", "CUSTODY_HOT", "1", "--effective", until, "--principal", "7",
        "--reason", "late",
    )  # fmt: skip
    assert late.exit_code == 1 and "is in a period that was closed" in late.stdout
    said = desk.ledger("reopen", "--principal", "9", "--reason", "late invoice")
    assert (
        desk.ledger("approve", said.stdout.split()[1].rstrip(":"), "--principal", "7").exit_code
        == 0
    )
    assert result(desk.look("balance-sheet", "--format", "json")) == income
    ops = [note["op"] for note in desk.look("notes", "--format", "json")["notes"]]
    assert ops.count("CLOSE") == 1 and ops.count("REOPEN") == 1


def test_an_operators_token_is_the_principal(desk: Desk) -> None:
    tokens, numbers = [], []
    for name in ("olga", "otto"):
        password = f"{name}-password"
        desk.exchange.admin("/users", {"name": name, "password": password, "admin": True})
        said = desk.exchange.admin("/login", {"name": name, "password": password})
        tokens.append(said["access"])
        users = desk.exchange.admin("/users")
        numbers.append(next(u["id"] for u in users if u["name"] == name))
    journal = ("journal", "CAPITAL", "CUSTODY_HOT", "1", "--reason", "dividend")
    nobody = desk.ledger(*journal)
    assert nobody.exit_code == 1 and "say who you are" in nobody.output
    other = desk.ledger(*journal, "--principal", str(numbers[1]), token=tokens[0])
    assert other.exit_code == 1 and f"you are principal {numbers[0]}" in other.output
    asked = desk.ledger(*journal, token=tokens[0])
    assert asked.exit_code == 0, asked.output
    number = asked.stdout.split()[1].rstrip(":")
    assert "must not be who proposed" in desk.ledger("approve", number, token=tokens[0]).output
    assert desk.ledger("approve", number, "--reject", token=tokens[1]).exit_code == 0
    notes = desk.look("notes", "--format", "json")["notes"]
    assert [n["principal"] for n in notes[-3:]] == [numbers[0], numbers[0], numbers[1]]
    stranger = desk.ledger("approve", number, token="x.y.z")
    assert stranger.exit_code == 1 and "not authorized" in stranger.output


# ---------------------------------------------------------------- breaks


def watch_says(desk: Desk) -> str:
    return (desk.exchange.folder / "watch.log").read_text()


def test_sound_books_have_no_break_and_memory_is_what_a_replay_says(desk: Desk) -> None:
    trade(desk)
    once = desk.ledger("reconcile", "--json", "--genesis")
    assert once.exit_code == 0, once.output
    said = json.loads(once.stdout)
    assert said["breaks"] == 0 and said["live"] == said["replayed"] > 0
    wrong = [line for line in watch_says(desk).splitlines() if "BREAK" in line]
    # What the bookkeepers moved, the custody file doesn't know of.
    assert all("BREAK R5 Assets:Custody" in line for line in wrong), wrong
    assert "not compared" not in watch_says(desk)


def risk_tables(desk: Desk) -> Segment:
    """The engine's own memory, writable: what nobody should be able to do."""
    exchange = desk.exchange
    settings = {"instance": exchange.instance, "data_dir": str(desk.data), **exchange.settings}
    parts = segment_parts(load(None, settings))["risk"]
    return Segment.attach(
        exchange.instance, "risk", parts, View(exchange.instance).epoch, writable=True
    )


def is_open(desk: Desk, check: str, word: str) -> dict[str, Any] | None:
    for row in desk.breaks():
        if row["check"] == check and word in row["account"] and row["state"] != "RESOLVED":
            return row
    return None


def test_a_custody_line_off_by_one_unit_is_found(desk: Desk) -> None:
    path = desk.data.parent / "hot.csv"
    whole = path.read_text()
    path.write_text(whole.replace("3000000", "2999999.999999"))
    row = wait_until(lambda: is_open(desk, "R5", "Custody:Hot"), 20, watch_says(desk))
    assert row["difference"] == 1
    path.write_text(whole)
    wait_until(lambda: not is_open(desk, "R5", "Custody:Hot"), 20, "it was mended")
    assert desk.exchange.admin("/commands/mark", {"symbol": 0, "mark_ticks": 600_000})
    placed = desk.ann.order("BUY", "0.001", "59000")
    assert placed["status"] == "NEW", "custody stops nobody's trading"
    desk.ann.call("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")


def test_a_position_altered_in_memory_stops_trading(desk: Desk) -> None:
    """And nothing else but the venue's operator lets it go on."""
    segment = risk_tables(desk)
    rows = segment.arrays["positions"]
    at = int(np.flatnonzero(rows["lots"] != 0)[0])
    lots = int(rows[at]["lots"])
    rows[at]["lots"] += 1
    row = wait_until(lambda: is_open(desk, "R7", "Position:U"), 20, watch_says(desk))
    assert row["difference"] == -1 and row["other"] == lots + 1
    told = desk.data.parent / "alerts"
    wait_until(lambda: told.exists() and "Position:U" in told.read_text(), 20, "nobody was told")
    rows[at]["lots"] -= 1
    segment.close()
    wait_until(lambda: "nothing but cancels now" in watch_says(desk), 20, watch_says(desk))
    refused = desk.ann.order("BUY", "0.001", "59000")
    assert refused["code"] == -1016, refused
    wait_until(lambda: not is_open(desk, "R7", "Position:U"), 20, "it was put right")
    desk.exchange.admin("/commands/venue_state", {"state": "TRADING"})
    assert desk.ann.order("BUY", "0.001", "59000")["status"] == "NEW"
    desk.ann.call("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")


@pytest.mark.parametrize("part", [0.2, 0.6, 1.0])
def test_a_posting_altered_by_one_unit_is_found_and_named(desk: Desk, part: float) -> None:
    books = Books(ledger_folder(desk.data))
    entry = int((books.entries - 1) * part)
    first = books.first_leg(entry)
    seq = int(books.entry_rows(entry, 1)[0]["seq"])
    key, _ = books.entry_legs(entry)[0]
    before = len(desk.breaks())
    amounts = np.memmap(books.segments[-1].path / "amount", np.int64, "r+")
    amounts[first - books.segments[-1].first_leg] += 1
    amounts[first + 1 - books.segments[-1].first_leg] -= 1

    def found() -> list[dict[str, Any]]:
        return [r for r in desk.breaks()[before:] if r["first_seq"] == seq]

    wait_until(found, 30, watch_says(desk))
    once = desk.ledger("reconcile")
    assert once.exit_code == 1 and f"first at command {seq}" in once.stdout, once.stdout
    amounts[first - books.segments[-1].first_leg] -= 1
    amounts[first + 1 - books.segments[-1].first_leg] += 1
    wait_until(lambda: all(r["state"] == "RESOLVED" for r in desk.breaks()), 30, watch_says(desk))
    desk.exchange.admin("/commands/venue_state", {"state": "TRADING"})
    report = desk.look("breaks", "--assign", "1", "--owner", "ann", "--note", f"key {key}")
    assert report[0]["owner"] == "ann"


def test_it_goes_on_through_a_restart_of_the_engine(desk: Desk) -> None:
    exchange = desk.exchange
    epoch = exchange.venue.until_running().epoch
    os.kill(exchange.venue.worker("engine"), signal.SIGKILL)
    exchange.venue.until_running(epoch + 1)
    wait_until(lambda: desk.ann.order("BUY", "0.001", "59000").get("status") == "NEW", 60, "orders")
    trade(desk)
    said = watch_says(desk)
    once = desk.ledger("reconcile", "--json")
    assert once.exit_code == 0, once.output
    exchange.processes["watch"].send_signal(signal.SIGTERM)
    assert exchange.processes["watch"].wait(30) == 0
    assert "Traceback" not in said + watch_says(desk)
    assert "0 breaks open" in watch_says(desk)[len(said) :]
