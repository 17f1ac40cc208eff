"""Index, mark and circuit breaker: tables a trader can check, and whole commands in a venue."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.index import median_mark, reckon_index
from shm.codes import Halt, Kind, Side, State
from shm.pointers import table
from shm.records import SOURCE
from shm.units import PRICE_TICKS_MAX, SOURCES_MAX, WEIGHT_MAX
from tests.model.prices_twin import index_twin, mark_twin
from tests.venue import ANN, BOB, CLOCK, SECOND, Venue, check_laws, check_reports

HOUR = 3600 * SECOND
CONTRACT = {
    "symbol": 0,
    "funding_interval_ns": 8 * HOUR,
    "impact_quanta": 1_000_000,
    "interest_ppb": 100_000,
    "funding_clamp_ppb": 500_000,
    "funding_cap_ppb": 3_000_000,
    "funding_floor_ppb": -3_000_000,
    "mark_band_ppm": 50_000,
    "source_clamp_ppm": 5_000,
    "source_stale_ns": 60 * SECOND,
}

# prices by weight | clamp, ppm | last index | index
INDEX = """
  100x1                  | 5000  | 0     | 100     one source is the index
  60000x1 60100x1        | 5000  | 0     | 60050   two: around the mean of both
  60000x1 60000000x1     | 5000  | 60000 | 60150   one of two is absurd: the one near the last index counts,
  60000x1 60x1           | 5000  | 60000 | 59850   the other moves it by half its clamp
  60000x3 60x1           | 5000  | 0     | 59925   more weight, without a last index
  60000x1 60010x1 60000000x1 | 5000 | 0  | 60107   one of three: (60000 + 60010 + 60310) / 3 = 60106.67
  60000x1 60010x1 60x1   | 5000  | 0     | 59903   (60000 + 60010 + 59700) / 3
  60000x1 60010x1 70000x1 | 0    | 0     | 60010   no reach: the median alone
  1000x1 1001x1          | 1000000 | 0   | 1001    half a tick goes up
  1000x2 1001x1          | 1000000 | 0   | 1000    a third goes down
"""


def sources_of(text: str) -> np.ndarray[Any, Any]:
    rows = np.zeros(SOURCES_MAX, SOURCE.dtype)
    for k, cell in enumerate(text.split()):
        rows[k]["price_ticks"], rows[k]["weight"] = (int(x) for x in cell.split("x"))
    return rows


@pytest.mark.parametrize("line", [s for s in INDEX.splitlines() if s.strip()])
def test_index(line: str) -> None:
    prices, clamp, base, rest = (cell.strip() for cell in line.split("|"))
    rows = sources_of(prices)
    got = reckon_index(table(rows), 0, int(clamp), 0, 0, int(base))
    assert got == int(rest.split()[0])
    assert got == index_twin(rows, int(clamp), int(base))


PRICES = st.integers(1, PRICE_TICKS_MAX) | st.integers(990, 1010)
SOURCES = st.lists(
    st.tuples(PRICES, st.integers(1, WEIGHT_MAX) | st.integers(1, 3)), min_size=1, max_size=8
)


@given(SOURCES, st.integers(0, 1_000_000), st.just(0) | PRICES)
def test_index_is_that_of_fractions(given: Any, clamp: int, base: int) -> None:
    rows = np.zeros(SOURCES_MAX, SOURCE.dtype)
    for k, (price, weight) in enumerate(given):
        rows[k]["price_ticks"], rows[k]["weight"] = price, weight
    got = reckon_index(table(rows), 0, clamp, 0, 0, base)
    assert got == index_twin(rows, clamp, base)


@given(st.integers(1_000, 10**9), st.integers(1, PRICE_TICKS_MAX), st.integers(2, 7))
def test_one_absurd_source_of_several_moves_the_index_by_no_more_than_its_clamp(
    price: int, absurd: int, others: int
) -> None:
    rows = np.zeros(SOURCES_MAX, SOURCE.dtype)
    rows["price_ticks"][: others + 1] = price
    rows["weight"][: others + 1] = 1
    rows["price_ticks"][others] = absurd
    got = reckon_index(table(rows), 0, 5_000, 0, 0, 0)
    assert abs(got - price) * (others + 1) <= price * 5_000 // 1_000_000 + others + 1


# index | last rate, ppb | hours left of 8 | samples: sum of bid + ask - 2 * index, count | last | band | mark
MARK = """
  60000  | 100000  | 4 | 2160 30 | 60100 | 0     | 60036   P1 60003, P2 60036 (30 samples of +36)
  60000  | 100000  | 4 | 0 0     | 60100 | 0     | 60003   no samples: P2 is the index
  60000  | 100000  | 4 | 2160 30 | 0     | 0     | 60003   no trade yet: the last price is the index
  60000  | 100000  | 0 | 2160 30 | 60100 | 0     | 60036   nothing left of the interval: P1 is the index
  60000  | -100000 | 8 | 0 0     | 50000 | 0     | 59994   below
  1000   | 0       | 4 | 1 1     | 2000  | 0     | 1001    half a tick goes up
  1000   | 0       | 4 | -1 1    | 1     | 0     | 1000    and so does minus half a tick
  60000  | 0       | 4 | 12000 1 | 90000 | 50000 | 63000   a thin book: no further than 5 % from the index
  60000  | 0       | 4 | -12000 1 | 1    | 50000 | 57000
"""


@pytest.mark.parametrize("line", [s for s in MARK.splitlines() if s.strip()])
def test_mark(line: str) -> None:
    index, rate, hours, samples, last, band, rest = (cell.strip() for cell in line.split("|"))
    total, count = (int(x) for x in samples.split())
    inputs = (int(index), int(rate), int(hours) * HOUR, 8 * HOUR)
    got = median_mark(*inputs, total, count, int(last), int(band))
    assert got == int(rest.split()[0])
    assert got == mark_twin(*inputs, total, count, int(last), int(band))


@given(
    st.integers(1, PRICE_TICKS_MAX) | st.integers(1, 1000),
    st.integers(-(10**9), 10**9),
    st.integers(-(10**15), 10**15),
    st.integers(1, 86_400 * SECOND) | st.just(0),
    st.lists(st.integers(-1000, 1000) | st.integers(-(1 << 43), 1 << 43), max_size=30),
    st.integers(0, PRICE_TICKS_MAX),
    st.integers(0, 10_000_000),
)
def test_mark_is_that_of_fractions(
    index: int, rate: int, left: int, interval: int, basis: list[int], last: int, band: int
) -> None:
    arguments = (index, rate, left, interval, sum(basis), len(basis), last, band)
    assert median_mark(*arguments) == mark_twin(*arguments)


# ---------------------------------------------------------------- commands


def market(**more: Any) -> Venue:
    v = Venue().open_market(quanta=10**12)
    v.send(Kind.CONTRACT, **{**CONTRACT, **more})
    v.drain()
    return v


def said(v: Venue, kind: Kind, ring: int = CLOCK, **fields: Any) -> str:
    """A command's refusal, or what it made of the price: mark/index, ! when halted."""
    reports = v.do(kind, symbol=0, ring=ring, **fields)
    check_laws(v)
    assert reports[0]["kind"] == "ANSWER"
    if reports[0]["reason"] != "NONE":
        return str(reports[0]["reason"])
    told = [
        f"{x['mark_ticks']}/{x['index_ticks']}{'!' * (x['halted'] != Halt.NONE)}"
        for x in reports
        if x["kind"] == "PRICE"
    ]
    return " ".join(told)


def price(v: Venue, ticks: int, source: int = 0, age: int = 0) -> str:
    return said(
        v, Kind.SOURCE_PRICE, source=source, source_ticks=ticks, source_ns=v.now - age * SECOND
    )


def weigh(v: Venue, weight: int = 1, source: int = 0) -> str:
    return said(v, Kind.SOURCE, ring=1, source=source, weight=weight)


def test_prices_of_sources() -> None:
    v = market()
    assert weigh(v) == "0/0!"  # declared, and not heard yet
    assert price(v, 1000, source=1) == "BAD_PARAMETER"  # nobody declared it
    assert price(v, 0) == price(v, 100_001) == "BAD_PRICE"
    assert price(v, 1000, age=61) == "STALE_PRICE"
    assert price(v, 1000, age=-11) == "BAD_PARAMETER"  # of the future
    assert price(v, 1000, age=20) == "1000/1000"
    assert price(v, 1001, age=21) == "STALE_PRICE"  # it went back
    assert price(v, 1001, age=20) == "1001/1001"
    assert price(v, 1001) == ""  # nothing new
    v.wait(61 * SECOND)
    assert said(v, Kind.TICK) == "1001/1001!"
    assert v.arrays["contracts"][0]["halted"] == Halt.STALE
    assert price(v, 1002) == "1002/1002"
    assert weigh(v, 0) == ""
    assert price(v, 1003) == "BAD_PARAMETER"
    check_reports(v)


def test_an_index_that_jumps_waits() -> None:
    v = market()
    weigh(v)
    assert price(v, 50) == "50/50"
    assert price(v, 50_000) == "50/50!"  # a thousandfold, of the only source there is
    assert v.arrays["contracts"][0]["halted"] == Halt.JUMP
    assert price(v, 50_001) == ""
    assert price(v, 51) == "51/51"  # it has come back
    assert price(v, 611) == "51/51!"
    assert said(v, Kind.MARK, ring=1, mark_ticks=52) == "52/52!"  # the operator doesn't agree
    assert said(v, Kind.MARK, ring=1, mark_ticks=500) == "500/611"  # and now he does
    assert price(v, 612) == "612/612"
    v = market(jump_ppm=100_000)
    weigh(v)
    assert price(v, 1000) == "1000/1000"
    assert price(v, 1101) == "1000/1000!"
    assert price(v, 1100) == "1100/1100"
    assert price(v, 999) == "1100/1100!"
    assert price(v, 1000) == "1000/1000"


def test_a_mark_by_hand_stands_until_the_next_one_reckoned() -> None:
    v = market()
    assert said(v, Kind.MARK, ring=1, mark_ticks=900) == "900/900"  # no sources: the index as well
    weigh(v)
    price(v, 1000)
    assert said(v, Kind.MARK, ring=1, mark_ticks=990) == "990/1000"
    assert price(v, 1001) == "1001/1001"


def test_samples_of_the_book() -> None:
    v = market()
    weigh(v)
    price(v, 1000)
    assert said(v, Kind.SAMPLE) == "1000/1000"
    basis = v.arrays["contracts"][0]
    assert basis["basis_count"] == 0  # an empty book says nothing
    v.place(ANN, Side.BUY, 1010, 5)
    v.drain()
    said(v, Kind.SAMPLE)
    assert basis["basis_count"] == 0  # nor does one side of one
    v.place(BOB, Side.SELL, 1021, 5)
    v.drain()
    # P1 1000, P2 1000 + 15.5, last := index
    assert said(v, Kind.SAMPLE) == "1000/1000"
    assert (basis["basis_count"], basis["basis_sum"]) == (1, 31)
    said(v, Kind.SAMPLE)
    assert basis["basis_count"] == 1  # one a second
    v.place(BOB, Side.SELL, 1010, 5)
    v.drain()
    v.wait(SECOND)
    assert said(v, Kind.SAMPLE) == "1010/1000"  # a trade at 1010; P2 is 1016 still
    for _ in range(29):
        v.wait(SECOND)
        price(v, 1000)
        said(v, Kind.SAMPLE)
    assert basis["basis_count"] == 0  # 30 seconds later
    assert v.arrays["symbols"][0]["mark_ticks"] == 1000
    check_reports(v)


def test_circuit_breaker() -> None:
    v = market(breaker_ppm=100_000, breaker_window_ns=70 * SECOND, breaker_pause_ns=100 * SECOND)

    def state() -> State:
        return State(int(v.arrays["symbols"][0]["state"]))

    def mark(ticks: int, after: int = 0) -> State:
        v.wait(after * SECOND)
        v.do(Kind.MARK, symbol=0, mark_ticks=ticks)
        return state()

    assert mark(1000) == State.TRADING
    assert mark(1100) == State.TRADING  # exactly a tenth
    assert mark(1000, 60) == State.TRADING
    assert mark(989, 5) == State.CANCEL_ONLY  # from 1100, a minute ago
    v.wait(99 * SECOND)
    v.do(Kind.TICK, ring=CLOCK)
    assert state() == State.CANCEL_ONLY
    v.wait(SECOND)
    v.do(Kind.TICK, ring=CLOCK)
    assert state() == State.TRADING
    assert mark(900, 1) == State.TRADING  # what moved before the pause is forgotten
    assert mark(950, 80) == State.TRADING
    assert mark(1050, 1) == State.CANCEL_ONLY  # from 900: it stood until eighty seconds were over
    v.do(Kind.SYMBOL_STATE, symbol=0, state=State.HALTED)
    v.wait(1000 * SECOND)
    v.do(Kind.TICK, ring=CLOCK)
    assert state() == State.HALTED  # the operator's word stays
    v.do(Kind.SYMBOL_STATE, symbol=0, state=State.TRADING)
    assert mark(1100, 100) == State.TRADING
    assert mark(1300) == State.CANCEL_ONLY
    check_reports(v)


BAD = """
  funding_interval_ns 999999999      a second is the least
  funding_interval_ns 86400000000001 a day the most
  funding_first_ns    -1
  impact_quanta       -1
  impact_quanta       1152921504606846977
  interest_ppb        1000000001
  interest_ppb        -1000000001
  funding_clamp_ppb   -1
  funding_cap_ppb     -3000001       below the floor
  funding_cap_ppb     1000000001
  funding_floor_ppb   3000001        above the cap
  mark_band_ppm       -1
  mark_band_ppm       10000001
  source_clamp_ppm    -1
  source_clamp_ppm    1000001
  source_stale_ns     -1
  source_stale_ns     86400000000001
  liquidation_fee_ppm -1
  liquidation_fee_ppm 1000001
  protect_ppm         -1
  protect_ppm         10000001
  breaker_ppm         1              without a window
  breaker_ppm         1000001
  breaker_window_ns   -1
  breaker_pause_ns    -1
  algos_max           -1
  algos_max           2147483648
  position_quanta_max -1
  position_quanta_max 1152921504606846977
  jump_ppm            -1
  jump_ppm            10000001
"""


@pytest.mark.parametrize("line", [s for s in BAD.splitlines() if s.strip()])
def test_parameters_out_of_range(line: str) -> None:
    name, value = line.split()[:2]
    v = Venue().open_market()
    before = v.arrays["contracts"].copy()
    assert v.do(Kind.CONTRACT, **{**CONTRACT, name: int(value)})[0]["reason"] == "BAD_PARAMETER"
    assert (v.arrays["contracts"] == before).all()


def test_what_is_refused_otherwise() -> None:
    v = Venue().open_market()
    for kind in (Kind.SOURCE, Kind.SOURCE_PRICE, Kind.SAMPLE):
        assert said(v, kind, ring=1) == "UNKNOWN_SYMBOL"  # no contract
    assert said(v, Kind.FUNDING, ring=1) == "FORBIDDEN"  # the engine's own
    assert v.do(Kind.CONTRACT, **{**CONTRACT, "symbol": 5})[0]["reason"] == "UNKNOWN_SYMBOL"
    assert v.do(Kind.CONTRACT, **CONTRACT, contract_reserved=1)[0]["reason"] == "MALFORMED"
    v.do(Kind.CONTRACT, **CONTRACT)
    assert said(v, Kind.SOURCE, ring=1, source=8, weight=1) == "BAD_PARAMETER"
    assert said(v, Kind.SOURCE, ring=1, source=-1, weight=1) == "BAD_PARAMETER"
    assert said(v, Kind.SOURCE, ring=1, source=0, weight=WEIGHT_MAX + 1) == "BAD_PARAMETER"
    assert said(v, Kind.SOURCE, ring=1, source=0, weight=-1) == "BAD_PARAMETER"
    assert said(v, Kind.SOURCE, ring=1, source=0, weight=1, source_ticks=1) == "MALFORMED"
    assert said(v, Kind.SOURCE_PRICE, source=0, weight=1, source_ticks=1) == "MALFORMED"
    assert said(v, Kind.SAMPLE, qty_lots=1) == "MALFORMED"
    check_reports(v)
