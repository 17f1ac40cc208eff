"""Where the clock has prices from: walks, recorded files, lines of feeders; and what it then sends."""

from __future__ import annotations

import gzip
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.clock import timer_due
from engine.sources import Klines, Lines, Names, Walk, began, read_klines
from shm.codes import Halt, Kind, Side, State, Tif
from shm.config import ConfigError
from shm.records import ASSET, SYMBOL
from tests.unit.test_index import HOUR, market, price, weigh
from tests.venue import ANN, CLOCK, SECOND, Venue


def names(tick_quanta: int = 100_000) -> Names:
    """BTCUSDT with a tick of 0.1, in an asset of six decimals; a hole; and a symbol of ticks."""
    symbols, assets = np.zeros(4, SYMBOL.dtype), np.zeros(1, ASSET.dtype)
    symbols["state"] = State.ABSENT
    assets["scale"] = 6
    for k, name, worth in ((1, b"BTCUSDT", tick_quanta), (3, b"RAW", 0)):
        symbols[k]["name"] = np.frombuffer(name.ljust(16, b"\0"), np.int64)
        symbols[k]["state"] = State.TRADING
        symbols[k]["tick_quanta"] = worth
    return Names(symbols, assets)


PRICES = """
  60000.5     | 600005
  60000.55    | 600006    half a tick goes up
  60000.549   | 600005
  060000.5    | 600005
  0.1         | 1
  0.04        | -         below a tick
  0           | -
  0.0         | -
  -1          | -
  +1          | -
  1e3         | -
  nan         | -
  Infinity    | -
  60000,5     | -
  9999999999999999999 | -  no price has nineteen digits
  999999999999 | -         above what a price may be
  1_000       | -
"""


@pytest.mark.parametrize("line", [s for s in PRICES.splitlines() if s.strip()])
def test_decimal_prices_become_ticks(line: str) -> None:
    text, rest = line.split("|")
    want = rest.split()[0]
    assert names().ticks(1, text.strip()) == (None if want == "-" else int(want))


def test_symbols_by_name() -> None:
    n = names()
    assert (n.symbol("BTCUSDT"), n.symbol("RAW"), n.symbol("ETHUSDT")) == (1, 3, None)
    assert n.ticks(3, "60000.5") == 60001 and n.ticks(3, "60000") == 60000  # whole ticks


def test_a_walk_is_its_seed() -> None:
    def walk(seed: int, index: int = 0) -> list[int]:
        w = Walk(names(), lambda _s: index, "BTCUSDT", 0, "60000", 500, SECOND, seed)
        told = [q for k in range(200) for q in w.poll(k * SECOND)]
        assert [q.source_ns for q in told] == [k * SECOND for k in range(200)]
        assert w.poll(199 * SECOND + 1) == []
        return [q.ticks for q in told]

    first = walk(1)
    assert first == walk(1) != walk(2)
    steps = np.abs(np.diff(first)) / np.array(first[:-1])
    assert 0 < steps.max() <= 501e-6
    assert abs(walk(1, index=300_000)[0] - 300_000) <= 150  # it goes on where the index is
    assert Walk(names(), lambda _s: 0, "ETHUSDT", 0, "1", 1, 1, 1).poll(5) == []  # not declared yet


def test_a_recorded_file_plays_row_by_row(tmp_path: Path) -> None:
    text = "timestamp,open,close\n1,9,100.0\n2,9,100.1\n3,9,100.2\n"
    plain, packed = tmp_path / "a.csv", tmp_path / "a.csv.gz"
    plain.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))
    assert read_klines(str(plain), "close") == read_klines(str(packed), "close")
    prices = read_klines(str(plain), "close")

    def played(loop: bool, times: list[int]) -> list[int]:
        k = Klines(names(), "BTCUSDT", 0, prices, 10, 5, loop)
        return [q.ticks for at in times for q in k.poll(at)]

    assert played(False, [10, 11, 15, 19, 20, 25, 30]) == [1000, 1001, 1002]
    assert played(False, [20, 21]) == [1002]  # killed meanwhile: it goes on where it would be
    assert played(True, [10, 15, 20, 25, 30]) == [1000, 1001, 1002, 1000, 1001]
    assert began(tmp_path, "BTCUSDT", 0, 777) == 777 == began(tmp_path, "BTCUSDT", 0, 999)
    (tmp_path / "clock.BTCUSDT.0").write_text("garbage")
    assert began(tmp_path, "BTCUSDT", 0, 999) == 999


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,open\n1,2\n", "has no column 'close'"),
        ("close\n", "has no rows"),
        ("close\n1\nx\n", "line 3: close = 'x', wanted a price"),
        ("close\n-1\n", "line 2: close = '-1', wanted a price"),
    ],
)
def test_a_file_that_is_no_price_path_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_klines(str(path), "close")
    with pytest.raises(ConfigError, match="No such file"):
        read_klines(str(tmp_path / "none.csv"), "close")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(text.encode())[:-9])
    with pytest.raises(ConfigError):
        read_klines(str(tmp_path / "cut.gz"), "close")


LINES = """
BTCUSDT 0 60000.5 123       | 1 0 600005 123
BTCUSDT 7 60000             | 1 7 600000 99
  RAW   1 5                 | 3 1 5 99
BTCUSDT 8 60000             |
BTCUSDT -1 60000            |
ETHUSDT 0 60000             |
BTCUSDT 0 sixty             |
BTCUSDT 0 60000 1.5         |
BTCUSDT 0 60000 99999999999999999999 |
BTCUSDT 0 60000 9223372036854775807 |
BTCUSDT 0                   |
BTCUSDT 0 1 2 3             |
BTCUSDT ٣ 60000             |
"""


def test_lines_of_feeders(tmp_path: Path) -> None:
    path = tmp_path / "p.sock"
    ears = Lines(names(), str(path))
    mouth = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bad = 0
    for line in LINES.strip().splitlines():
        text, want = line.split("|")
        mouth.sendto(text.encode(), str(path))
        told = [" ".join(map(str, q)) for q in ears.poll(99)]
        assert told == ([want.strip()] if want.strip() else []), text
        bad += not want.strip()
        assert ears.dropped == bad
    mouth.sendto(b"\xff\xfe garbage \0", str(path))
    assert ears.poll(99) == []
    mouth.sendto(b"BTCUSDT 0 1\nBTCUSDT 0 2\nRAW 0 3", str(path))
    assert [q.ticks for q in ears.poll(99)] == [20, 3]  # the newest of each
    Lines(names(), str(path)).close()  # a clock started again takes over a path that was left
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="no socket"):
        Lines(names(), str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="No such file"):
        Lines(names(), str(tmp_path / "none" / "p.sock"))
    mouth.close()
    ears.close()


# ---------------------------------------------------------------- when a TICK is needed


def due(v: Venue, after: int = 0) -> bool:
    return timer_due(v.arrays, v.now + after)


def test_a_tick_is_needed_when_something_is_due() -> None:
    v = market(funding_interval_ns=HOUR)
    assert not due(v)
    assert not due(v, HOUR)  # no mark: nothing to pay at
    v.do(Kind.MARK, symbol=0, mark_ticks=1000)
    first = int(v.arrays["contracts"][0]["funding_next_ns"]) - v.now
    assert not due(v, first - 1) and due(v, first)
    v.wait(first)
    v.do(Kind.TICK, ring=CLOCK)
    assert not due(v)
    v.place(ANN, Side.BUY, 900, 1, tif=Tif.GTD, expire_ns=v.now + 5 * SECOND)
    v.drain()
    assert not due(v, 5 * SECOND - 1) and due(v, 5 * SECOND)
    v.wait(5 * SECOND)
    v.do(Kind.TICK, ring=CLOCK)
    assert not due(v)
    weigh(v)
    price(v, 1000)
    assert not due(v, 60 * SECOND) and due(v, 60 * SECOND + 1)  # its source becomes stale
    v.wait(61 * SECOND)
    v.do(Kind.TICK, ring=CLOCK)
    assert v.arrays["contracts"][0]["halted"] == Halt.STALE and not due(v, 2 * HOUR)


def test_a_tick_is_needed_at_the_end_of_a_breakers_pause() -> None:
    v = market(
        funding_interval_ns=0,
        breaker_ppm=10_000,
        breaker_window_ns=SECOND,
        breaker_pause_ns=SECOND,
    )
    v.do(Kind.MARK, symbol=0, mark_ticks=1000)
    v.do(Kind.MARK, symbol=0, mark_ticks=2000)
    assert not due(v, SECOND - 1) and due(v, SECOND)


def test_torn_reads_of_the_tables_do_no_harm() -> None:
    v = market()
    torn: dict[str, Any] = dict(v.arrays)
    for row, count, heap in (
        (-7, "heap_count", "heap"),
        (1 << 40, "countdown_count", "countdowns"),
    ):
        torn[heap] = np.full_like(v.arrays[heap], row)
        torn["venue"] = v.arrays["venue"].copy()
        torn["venue"][count] = 5
        assert timer_due(torn, v.now) is False
