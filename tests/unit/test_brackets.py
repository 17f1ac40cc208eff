"""BRACKET: declared from the lowest up; what does not follow is refused and changes nothing."""

from __future__ import annotations

import pytest

from shm.codes import Kind
from shm.units import BRACKETS_MAX, EXPOSURE_QUANTA_MAX
from tests.venue import Venue

GOOD = {
    "floor_quanta": 0,
    "cap_quanta": 1000,
    "maintenance_ppm": 10_000,
    "bracket_leverage_max": 50,
}

# After brackets 0 (to 1000, 1 %, 50x) and 1 (to 5000, 2 %, 20x), in a symbol of at most 100x.
TABLE = """
  index | floor |  cap |   ppm | leverage | answer
      2 |  5000 | 9000 | 30000 |       10 | NONE
      2 |  5000 | 9000 | 20000 |       20 | NONE             no worse is no rise
      0 |     0 | 2000 | 10000 |      100 | NONE             those above it are dropped
      3 |  9000 | 9999 | 30000 |       10 | BAD_PARAMETER    the one before it isn't there
      2 |  5001 | 9000 | 30000 |       10 | BAD_PARAMETER    a gap
      2 |  4999 | 9000 | 30000 |       10 | BAD_PARAMETER    an overlap
      2 |  5000 | 5000 | 30000 |       10 | BAD_PARAMETER    empty
      2 |  5000 | 9000 | 19999 |       10 | BAD_PARAMETER    milder than below
      2 |  5000 | 9000 | 30000 |       21 | BAD_PARAMETER    more leverage than below
      2 |  5000 | 9000 | 30000 |        0 | BAD_PARAMETER
      0 |     1 | 9000 | 10000 |       10 | BAD_PARAMETER    the first begins at 0
      0 |     0 | 9000 | 10000 |      101 | BAD_PARAMETER    more than the symbol's
      0 |     0 | 9000 | -1    |       10 | BAD_PARAMETER
      0 |     0 | 9000 | 1000001 |     10 | BAD_PARAMETER
     -1 |     0 | 9000 | 10000 |       10 | BAD_PARAMETER
     16 |     0 | 9000 | 10000 |       10 | BAD_PARAMETER
"""


def declare(v: Venue, index: int, **fields: int) -> str:
    v.send(Kind.BRACKET, symbol=0, index=index, **{**GOOD, **fields})
    reason: str = v.drain()[0]["reason"]
    return reason


def two() -> Venue:
    v = Venue().open_market()
    assert declare(v, 0) == "NONE"
    wanted = {"floor_quanta": 1000, "cap_quanta": 5000, "maintenance_ppm": 20_000}
    assert declare(v, 1, **wanted, bracket_leverage_max=20) == "NONE"
    return v


@pytest.mark.parametrize("line", TABLE.strip().splitlines()[1:])
def test_bracket(line: str) -> None:
    index, floor, cap, ppm, leverage, answer = (c.split()[0] for c in line.split("|"))
    v = two()
    before = v.arrays["brackets"].tobytes()
    fields = {"floor_quanta": int(floor), "cap_quanta": int(cap), "maintenance_ppm": int(ppm)}
    assert declare(v, int(index), **fields, bracket_leverage_max=int(leverage)) == answer
    if answer == "NONE":
        assert v.arrays["symbols"]["brackets_count"][0] == int(index) + 1
        rows = v.arrays["brackets"][:BRACKETS_MAX]
        assert not rows[int(index) + 1 :].view("i8").any(), "those above are gone"
    else:
        assert v.arrays["brackets"].tobytes() == before


def test_the_amount_makes_the_edges_meet() -> None:
    v = two()
    assert v.arrays["brackets"]["amount_quanta"][:2].tolist() == [0, 10]


def test_sixteen_brackets_to_the_end_of_arithmetic() -> None:
    v = Venue().open_market()
    floor = 0
    for index in range(BRACKETS_MAX):
        cap = EXPOSURE_QUANTA_MAX >> (BRACKETS_MAX - 1 - index)
        fields = {"floor_quanta": floor, "cap_quanta": cap, "maintenance_ppm": 1_000_000}
        assert declare(v, index, **fields, bracket_leverage_max=1) == "NONE"
        floor = cap
    assert declare(v, BRACKETS_MAX, floor_quanta=floor, cap_quanta=floor + 1) == "BAD_PARAMETER"


def test_envelope() -> None:
    v = Venue().open_market()
    v.send(Kind.BRACKET, symbol=5, index=0, **GOOD)
    v.send(Kind.BRACKET, symbol=0, index=0, **GOOD, bracket_reserved=[0, 0, 1, 0, 0, 0])
    assert [r["reason"] for r in v.drain()] == ["UNKNOWN_SYMBOL", "MALFORMED"]
