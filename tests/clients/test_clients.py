"""The clients people have, each in an environment of its own, against a real exchange.

Reads   PyPI, once: environments are kept in ~/.cache/perpcore/clients. Without the index, skipped.
A maker keeps the book alive meanwhile. The whole drives, and a market maker on ccxt.pro that trades for
minutes, are behind --long; the snippets always run, and so does a second keeper of books.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.depth_chain import follow
from tests.process.gateway_helpers import Exchange, Trader
from tools.snippets import PACKAGES, SNIPPETS, pasted

CACHE = Path(os.environ.get("PERPCORE_CACHE", Path.home() / ".cache" / "perpcore")) / "clients"
CLIENTS = {
    "ccxt": ("4.5.90", "drive_ccxt.py"),
    "binance-futures-connector": ("4.2.0", "drive_bfc.py"),
    "binance-sdk-derivatives-trading-usds-futures": ("18.1.0", "drive_sdk.py"),
    "python-binance": ("1.0.37", "drive_pb.py"),
    # The last one for Python 3.11, and a newer one.
    "nautilus_trader": (
        "1.231.0" if sys.version_info >= (3, 12) else "1.221.0",
        "drive_nautilus.py",
    ),
}
INSTALL_SECONDS = 300
MAKER_SECONDS = 180
HERE = Path(__file__).parent


def environment(name: str) -> Path:
    """The Python of a client's environment, made when it isn't there; skips without an index."""
    version = CLIENTS[name][0]
    folder = CACHE / f"{name}-{version}-{sys.version_info[0]}.{sys.version_info[1]}"
    python = folder / "bin" / "python"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once take turns
        if not (folder / "ready").exists():
            venv.create(folder, with_pip=True, clear=True)
            _install(python, name, version)
            (folder / "ready").touch()
    return python


def _install(python: Path, name: str, version: str) -> None:
    try:
        done = subprocess.run(
            [python, "-m", "pip", "install", "-q", f"{name}=={version}"],
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{name}: pip took more than {INSTALL_SECONDS} s")
    if done.returncode:
        pytest.skip(f"{name}: pip can't install it: {done.stderr.strip()[-300:]}")


class Maker(threading.Thread):
    """Two quotes around 60,000 and a small trade now and then, until it is told to stop."""

    def __init__(self, maker: Trader, taker: Trader) -> None:
        super().__init__(daemon=True)
        self.maker, self.taker = maker, taker
        self.over = threading.Event()

    def quote(self) -> None:
        for side, price in (
            ("BUY", "59990"),
            ("BUY", "59980"),
            ("SELL", "60010"),
            ("SELL", "60020"),
        ):
            self.maker.order(side, "5.000", price)

    def run(self) -> None:
        turn = 0
        while not self.over.wait(0.2):
            self.taker.order("BUY" if turn % 2 else "SELL", "0.001")
            turn += 1


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    made = Exchange(
        tmp_path_factory.mktemp("clients"),
        f"clients-{os.getpid()}",
        {"http.weight_per_minute": 1_000_000, "http.orders_per_10s": 100_000,
         "http.orders_per_minute": 100_000},
    )  # fmt: skip
    try:
        made.start("marketdata", "history")
        made.declare()
        maker = Maker(made.trader("maker"), made.trader("taker"))
        maker.quote()
        maker.start()
        yield made
        maker.over.set()
        maker.join()
    finally:
        made.end()


def drive(exchange: Exchange, name: str, user: str, *arguments: str) -> str:
    """Run a program with a client's Python, as a user of its own: B, W, K, S in its environment."""
    trader = exchange.trader(user)
    web = exchange.base.replace("http", "ws")
    return run(name, *arguments, B=exchange.base, W=web, K=trader.key, S=trader.secret)


def run(name: str, *arguments: str, **values: str) -> str:
    """Run a program with a client's Python."""
    done = subprocess.run(
        [environment(name), *arguments],
        env={**os.environ, **values},
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-6000:]}"
    return done.stdout


@pytest.mark.parametrize("name", SNIPPETS)
def test_snippet_as_it_is_pasted(exchange: Exchange, name: str) -> None:
    """README's and the demo's, which are the same (tests/test_docs.py)."""
    trader = exchange.trader(f"snippet-{name}"[:40])
    program = pasted(name, exchange.base, trader.key, trader.secret)
    run(PACKAGES.get(name, name), "-c", program)


@pytest.mark.parametrize("name", CLIENTS)
def test_drive(exchange: Exchange, name: str, long_run: bool) -> None:
    if not long_run:
        pytest.skip("the whole drive of every client: --long runs it")
    said = drive(exchange, name, f"drive-{name}"[:40], CLIENTS[name][1], "long")
    assert len(said.splitlines()) > 20, said


def test_a_market_maker_on_ccxt_pro(exchange: Exchange, long_run: bool) -> None:
    """ccxt checks the chain of every book itself (ChecksumError); the maker checks the rest."""
    if not long_run:
        pytest.skip("a market maker that trades for minutes: --long runs it")
    trader = exchange.trader("maker-on-ccxt")
    web = exchange.base.replace("http", "ws")
    keys = {"B": exchange.base, "W": web, "K": trader.key, "S": trader.secret}
    said = run("ccxt", "drive_maker.py", str(MAKER_SECONDS), **keys)
    assert "'crossed': 0" in said, said


def test_depth_chains_are_the_book(exchange: Exchange, long_run: bool) -> None:
    """Each speed's chain is unbroken, and makes the very book that REST shows at that update."""
    taker = exchange.trader("mover")
    over = threading.Event()

    def move() -> None:
        turn = 0
        while not over.wait(0.02):
            taker.order("BUY", "0.010", str(59_000 + turn % 50))
            turn += 1
            if turn % 20 == 0:
                taker.call("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")

    mover = threading.Thread(target=move, daemon=True)
    mover.start()
    try:
        found = asyncio.run(follow(exchange.base, "BTCUSDT", 60 if long_run else 3, 2))
    finally:
        over.set()
        mover.join()
    for stream, (events, compared) in found.items():
        assert events > 3 and compared >= 2, (stream, found)
