"""The clients people have, each in an environment of its own, against a real exchange.

Reads   PyPI, once: environments are kept in ~/.cache/perpcore/clients. Without the index, skipped.
A maker keeps the book alive meanwhile. The whole drive is behind --long; README's snippets always run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.gateway_helpers import Exchange, Trader
from tests.process.helpers import ROOT

CACHE = Path(os.environ.get("PERPCORE_CACHE", Path.home() / ".cache" / "perpcore")) / "clients"
CLIENTS = {
    "ccxt": ("4.5.90", "drive_ccxt.py"),
    "binance-futures-connector": ("4.2.0", "drive_bfc.py"),
    "binance-sdk-derivatives-trading-usds-futures": ("18.1.0", "drive_sdk.py"),
    "python-binance": ("1.0.37", "drive_pb.py"),
}
INSTALL_SECONDS = 300
HERE = Path(__file__).parent
SNIPPETS = dict(re.findall(r"```python ([\w-]+)\n(.*?)```", (ROOT / "README.md").read_text(), re.S))


def environment(name: str) -> Path:
    """The Python of a client's environment, made when it isn't there; skips without an index."""
    version = CLIENTS[name][0]
    folder = CACHE / f"{name}-{version}-{sys.version_info[0]}.{sys.version_info[1]}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
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
        (folder / "ready").touch()
    return python


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
    """Run a program with a client's Python, as a user of its own."""
    python = environment(name)
    trader = exchange.trader(user)
    values = {
        "B": exchange.base,
        "W": exchange.base.replace("http", "ws"),
        "K": trader.key,
        "S": trader.secret,
    }
    done = subprocess.run(
        [python, *arguments],
        env={**os.environ, **values},
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-6000:]}"
    return done.stdout


@pytest.mark.parametrize("name", CLIENTS)
def test_snippet_of_readme(exchange: Exchange, name: str) -> None:
    head = "import os\nB, W, K, S = (os.environ[name] for name in 'BWKS')\n"
    drive(exchange, name, f"snippet-{name}"[:40], "-c", head + SNIPPETS[name])


@pytest.mark.parametrize("name", CLIENTS)
def test_drive(exchange: Exchange, name: str, long_run: bool) -> None:
    if not long_run:
        pytest.skip("the whole drive of every client: --long runs it")
    said = drive(exchange, name, f"drive-{name}"[:40], CLIENTS[name][1], "long")
    assert len(said.splitlines()) > 20, said
