"""`perpcore demo` as somebody has it who has just got it: all of a venue, from one command."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from ast import literal_eval
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from shm.codes import Cause, Status
from shm.segment import list_segments, remove_segments
from tests.process.helpers import ROOT, SMALL, die_with_pytest, free_port, perpcore, wait_until
from tools.demoplan import read_plan

PATIENCE = 200.0  # a cold cache compiles everything once; a busy machine takes its time
# A year of the path passes in minutes: somebody is liquidated within seconds.
FAST = ("--seed", "5", "--speed", "60", "--funding", "2", "--klines", "none")


class Demo:
    """One data directory, and the `perpcore demo` that runs on it."""

    def __init__(self, folder: Path, instance: str) -> None:
        self.data = folder / "venue"
        self.log = folder / "demo.log"
        self.instance = instance
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.sessions: list[int] = []
        self.said_before = 0

    @property
    def arguments(self) -> list[str]:
        settings = [
            f"--set={name}={value}" for name, value in SMALL.items() if "accounts" not in name
        ]
        where = ("--instance", self.instance, "--data", str(self.data), "--http", str(self.port))
        return ["demo", *where, *FAST, *settings]

    def start(self) -> None:
        self.said_before = len(self.said())
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tools.cli", *self.arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_pytest,
            )
        self.sessions.append(self.process.pid)

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def until_up(self) -> None:
        """Until it has printed the last snippet."""

        def up() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.said()[-4000:]
            return "futures_cancel_order(" in self.said()[self.said_before :]

        wait_until(up, PATIENCE, "the demo is not up")

    def printed(self, name: str) -> str:
        """What the last start says behind a name."""
        found = re.search(rf"^  {name} +(\S+)", self.said()[self.said_before :], re.M)
        assert found, name
        return found[1]

    def call(self, method: str, path: str, **params: Any) -> tuple[int, Any]:
        """A call signed with the printed key, over the printed URL."""
        params["timestamp"] = time.time_ns() // 1_000_000
        text = "&".join(f"{name}={value}" for name, value in params.items())
        secret = self.printed("secret").encode()
        text += f"&signature={hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()}"
        host = self.printed("REST").removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=30)
        try:
            key = {"X-MBX-APIKEY": self.printed("API key")}
            connection.request(method, f"{path}?{text}", headers=key)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def history(self, query: str) -> Any:
        """One value out of the history; 0 while there is none."""
        with suppress(sqlite3.Error):
            db = sqlite3.connect(f"file:{self.data}/history.db?mode=ro", uri=True)
            try:
                return db.execute(query).fetchone()[0] or 0
            finally:
                db.close()
        return 0

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                mine = os.getsid(process.pid) in self.sessions
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def part(self, *words: str) -> psutil.Process | None:
        """The child whose command line has these words."""
        for process in self.processes():
            with suppress(psutil.Error):
                line = process.cmdline()
                if process.ppid() == self.pid and all(word in line for word in words):
                    return process
        return None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self, number: int = signal.SIGINT) -> int:
        """As Ctrl-C: the whole foreground group hears it."""
        assert self.process is not None
        os.killpg(self.pid, number)
        try:
            return self.process.wait(90)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there:\n{self.said()[-4000:]}") from None

    def check_nothing_left(self) -> None:
        assert [info.name for info in list_segments(self.instance)] == []
        assert [path for path in self.data.rglob("*") if path.is_socket()] == []
        wait_until(lambda: not self.processes(), 5, f"processes: {self.processes()}")

    def end(self) -> None:
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        if self.process is not None:
            self.process.wait()
        remove_segments(self.instance, dead_only=False)


@pytest.fixture
def demo(tmp_path: Path, instance: str) -> Iterator[Demo]:
    made = Demo(tmp_path, instance)
    yield made
    made.end()


def place(demo: Demo, part: float = 0.97) -> tuple[int, Any]:
    """A bid below the best one, as the printed snippets place it."""
    status, book = demo.call("GET", "/fapi/v1/ticker/bookTicker", symbol="BTCUSDT")
    if status != 200 or not float(book["bidPrice"]):
        return 503, {"code": -1001, "msg": book}  # market data is on its way
    return demo.call(
        "POST",
        "/fapi/v1/order",
        symbol="BTCUSDT",
        side="BUY",
        type="LIMIT",
        quantity="0.01",
        price=f"{float(book['bidPrice']) * part:.1f}",
        timeInForce="GTC",
    )


def order_and_cancel(demo: Demo) -> None:
    """What each of the printed snippets does."""
    status, order = place(demo, 0.95)  # a second plays an hour here: a fall may be 3 %
    assert status == 200 and order["status"] == "NEW", order
    status, done = demo.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=order["orderId"])
    assert status == 200 and done["status"] == "CANCELED", done


def takes_orders(demo: Demo) -> bool:
    """Whether the door and the engine behind it are there."""
    with suppress(OSError):
        status, order = place(demo)
        assert status == 200 or order["code"] in (-1001, -1007), order  # not accepted, or unknown
        if status == 200:
            return True
    time.sleep(0.2)  # orders are counted
    return False


def balance(demo: Demo) -> float:
    status, found = demo.call("GET", "/fapi/v3/balance")
    assert status == 200, found
    return float(next(row for row in found if row["asset"] == "USDT")["balance"])


@pytest.mark.timeout(1800)  # half a minute, where there is a core
def test_a_venue_in_one_command(demo: Demo) -> None:
    demo.start()
    demo.until_up()
    assert demo.process is not None
    order_and_cancel(demo)

    # It lives: trades, a funding that was paid, somebody liquidated.
    assert wait_until(
        lambda: demo.call("GET", "/fapi/v1/trades", symbol="ETHUSDT")[1], 60, "no trade"
    )
    paid = "SELECT count(*) FROM income WHERE type = 'FUNDING_FEE' AND amount_quanta > 0"
    wait_until(lambda: demo.history(paid), PATIENCE, "no funding")
    rounds = demo.call("GET", "/fapi/v1/fundingRate", symbol="BTCUSDT")[1]
    assert rounds and float(rounds[0]["markPrice"]) > 0
    filled = f"SELECT count(*) FROM force_orders WHERE cause = {int(Cause.LIQUIDATION)} AND filled_lots > 0"
    wait_until(lambda: demo.history(filled), PATIENCE, "nobody is liquidated")

    # More money.
    before = balance(demo)
    given = perpcore("demo", "faucet", "demo", "1_234.5", "--data", str(demo.data))
    assert given.returncode == 0, given.stderr
    assert balance(demo) - before == pytest.approx(1234.5)

    # The other door, as it is printed.
    native = perpcore("demo", "access", "--data", str(demo.data), "--client", "native").stdout
    assert native in demo.said()
    done = subprocess.run(
        [sys.executable, "-c", native], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    statuses = {literal_eval(line)["status"] for line in done.stdout.splitlines()}
    assert {int(Status.NEW), int(Status.CANCELED)} <= statuses, done.stdout

    second = perpcore("demo", "--data", str(demo.data))
    assert second.returncode == 1 and f"a demo runs there, pid {demo.pid}" in second.stderr

    # A part that dies comes back: the door, then the engine with everything it holds.
    for words in (("gateway", "http"), ("up",)):
        child = demo.part(*words)
        assert child is not None, words
        child.kill()
        wait_until(
            lambda words=words, pid=child.pid: (now := demo.part(*words)) and now.pid != pid,
            PATIENCE,
            "it stays dead",
        )
        wait_until(lambda: takes_orders(demo), PATIENCE, f"no answer after {words} was killed")
    assert "was killed by SIGKILL" in demo.said()
    order_and_cancel(demo)
    key = demo.printed("API key")

    assert demo.stop() == 0, demo.said()[-4000:]
    assert "nothing left behind" in demo.said() and "Traceback" not in demo.said()
    demo.check_nothing_left()
    books = perpcore("ledger", "reconcile", "--data", str(demo.data))
    assert books.returncode == 0 and books.stdout.startswith("0 breaks"), (
        books.stdout + books.stderr
    )
    played_ns = read_plan(demo.data).played_ns

    # Again: the same key, the same account, time goes on. Killed, it takes its children along: they
    # hear of it from the kernel, and end in order by themselves.
    demo.start()
    demo.until_up()
    assert demo.printed("API key") == key
    order_and_cancel(demo)
    os.kill(demo.pid, signal.SIGKILL)
    demo.process.wait()
    wait_until(lambda: not demo.processes(), PATIENCE, "they live on")
    assert played_ns < read_plan(demo.data).played_ns

    (demo.data / "mine.txt").touch()
    wiped = perpcore("demo", "reset", "--data", str(demo.data))
    assert wiped.returncode == 0 and "left: mine.txt" in wiped.stdout, wiped.stderr
    assert [path.name for path in demo.data.iterdir()] == ["mine.txt"]


def test_a_signal_while_it_starts_ends_it(demo: Demo) -> None:
    demo.start()
    wait_until(lambda: "starting" in demo.said(), PATIENCE, "it says nothing")
    wait_until(lambda: demo.part("up"), PATIENCE, "no engine")
    assert demo.stop() == 0, demo.said()[-4000:]
    demo.check_nothing_left()
