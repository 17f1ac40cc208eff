"""Deleveraging: the score's vectors, who is found first against a plain sort, and the lights."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import adl
from engine.adl import NOBODY, SEARCHING
from shm.codes import Side
from shm.jit import kernel
from shm.pointers import table
from shm.ranking import adl_score, lights_of, lights_of_place, position_score, score_positions
from shm.units import EXPOSURE_QUANTA_MAX, NIL, PPB
from tests.venue import ANN, LIMITS, Venue

# The largest amounts there are, and small ones.
MONEY = st.integers(-EXPOSURE_QUANTA_MAX, EXPOSURE_QUANTA_MAX) | st.integers(-(10**6), 10**9)
NEEDED = st.integers(0, EXPOSURE_QUANTA_MAX) | st.integers(0, 10**6)


@kernel
def _score(profit: int, wallet: int, needed: int, equity: int, one: int) -> int:
    return adl_score(profit, wallet, needed, equity, one)


SCORES = """
  profit | wallet |  needed | equity |    score
   40.20 |   4.27 |    5.97 |  44.47 | 1.263879     the reference's vector
   40.20 |   0.10 |    5.97 |  40.30 | 5.955186     a wallet counts as 1 at least
   40.20 |  -9.00 |    5.97 |  31.20 | 7.692115
   -1.00 |   4.27 |    5.97 |   3.27 | 0            no profit
    0.00 |   4.27 |    5.97 |   4.27 | 0
   40.20 | -50.00 |    5.97 |  -9.80 | 0            no equity
   40.20 |   4.27 |   90.00 |  44.47 | 9.414519     maintenance counts as no more than equity
   40.20 |   4.27 |    0.00 |  44.47 | 0            no brackets
"""


@pytest.mark.parametrize("line", SCORES.strip().splitlines()[1:])
def test_score(line: str) -> None:
    profit, wallet, needed, equity, score = (c.split()[0] for c in line.split("|"))
    money = [round(float(word) * 10**6) for word in (profit, wallet, needed, equity)]
    found = int(_score(*money, 10**6))
    assert abs(found - round(float(score) * PPB)) <= 1000


@given(MONEY, MONEY, NEEDED, MONEY, st.sampled_from((1, 100, 10**6, 10**8)))
def test_the_score_is_the_formula_cut_down(
    profit: int, wallet: int, needed: int, equity: int, one: int
) -> None:
    found = int(_score(profit, wallet, needed, equity, one))
    if profit <= 0 or equity <= 0:
        assert found == 0
        return
    ratio = min(Fraction(profit, max(wallet, one)), 1 << 30)
    exact = ratio * min(needed, equity) / equity * PPB
    assert found <= max(exact, 1 << 60)
    if ratio < 1 << 29:
        assert exact - 2 < found <= exact


def crowd(seed: int, people: int) -> Venue:
    """A venue whose tables hold positions at random, written by hand: half of them long."""
    chance = random.Random(seed)
    v = Venue(LIMITS._replace(accounts=16 + people, positions=people)).open_market(accounts=1)
    a = v.arrays
    a["symbols"]["mark_ticks"][0] = 100
    a["symbols"]["brackets_count"][0] = 1
    a["brackets"][0] = (0, 1 << 60, 10_000, 0, 100, [0, 0, 0])
    n = v.limits.assets
    a["accounts"]["first_position"] = NIL
    order = list(range(people))
    chance.shuffle(order)
    for row, k in enumerate(order):
        account = 16 + k
        lots = chance.choice((1, -1)) * chance.choice((0, 1, 5, 40))
        entry = lots * 10 * chance.choice((90, 95, 100, 101, 110))
        p = a["positions"][row : row + 1]
        p["account"], p["wallet"], p["lots"], p["entry_quanta"] = account, account * n, lots, entry
        p["next_position"], p["next_in_symbol"] = NIL, row + 1 if row + 1 < people else NIL
        isolated = int(chance.random() < 0.3)
        p["isolated"] = isolated
        p["isolated_quanta"] = isolated * chance.choice((50, 500, 5000))
        p["liquidation"] = isolated * (chance.random() < 0.1)
        a["accounts"]["first_position"][account] = row
        a["wallets"]["wallet_quanta"][account * n] = chance.choice((0, 100, 1000, 1000, 10**6))
        a["wallets"]["liquidation"][account * n] = chance.random() < 0.1
    a["symbols"]["first_position"][0] = 0
    return v


def ranking(v: Venue, position: int) -> list[tuple[int, int]]:
    """(row, score) of all on the other side, best first: a sort over everything there is."""
    r = v.engine.risk
    rows = v.arrays["positions"]
    found = []
    for row in range(len(rows)):
        p = rows[row]
        locked = (
            p["liquidation"] if p["isolated"] else v.arrays["wallets"]["liquidation"][p["wallet"]]
        )
        if p["lots"] * rows[position]["lots"] >= 0 or locked:
            continue
        if p["account"] == rows[position]["account"]:
            continue
        score = position_score(
            r.accounts, r.wallets, r.symbols, r.positions, r.brackets, row, 10**6
        )
        found.append((-int(score), int(p["account"]), row))
    return [(row, -score) for score, _, row in sorted(found)]


def bearing(v: Venue, ranked: list[tuple[int, int]], price: int) -> list[int]:
    """Rows of those who can close something at a price."""
    return [row for row, _ in ranked if adl.bearable_lots(v.engine.risk, row, price, 1) > 0]


def told(v: Venue, position: int) -> tuple[int, int, int]:
    """(place, of how many, score) of who was taken off last, as a report would say it."""
    side = Side.SELL if v.arrays["positions"][position]["lots"] > 0 else Side.BUY
    row = v.arrays["adl_ranks"][int(side)]
    return int(row["place"]), int(row["ranked"]), int(row["score_ppb"])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("price", [80, 100, 104])
def test_the_highest_score_is_found(seed: int, price: int) -> None:
    v = crowd(seed, 40)
    r, setup = v.engine.risk, v.engine.setup
    position = next(k for k, p in enumerate(v.arrays["positions"]) if p["lots"] > 0)
    for now in range(3):
        ranked = ranking(v, position)
        wanted = bearing(v, ranked, price)
        found = int(adl.find_victim(r, setup, position, price, now, 1))
        assert found == (wanted[0] if wanted else NOBODY)
        if wanted:
            place = [row for row, _ in ranked].index(found)
            assert told(v, position) == (place + 1, len(ranked), ranked[place][1])
            v.arrays["positions"]["lots"][found] = 0  # closed: the next one is another


@pytest.mark.parametrize("seed", range(3))
def test_a_large_symbol_is_searched_in_slices(seed: int) -> None:
    people = 3 * adl.SLICE + 7
    v = crowd(seed, people)
    r, setup = v.engine.risk, v.engine.setup
    position = next(k for k, p in enumerate(v.arrays["positions"]) if p["lots"] > 0)
    ranked = ranking(v, position)
    wanted = bearing(v, ranked, 95)
    found = []
    searching = 0
    for _ in range(adl.CANDIDATES // 2):
        victim = int(adl.find_victim(r, setup, position, 95, 0, 1))
        while victim == SEARCHING:
            searching += 1
            victim = int(adl.find_victim(r, setup, position, 95, 0, 1))
        found.append(victim)
        place = [row for row, _ in ranked].index(victim)
        assert told(v, position) == (place + 1, len(ranked), ranked[place][1])
    assert searching == 3, "one command a slice, and one search serves many victims"
    assert found == wanted[: len(found)]
    # After a while the rest is not believed any more.
    assert int(adl.find_victim(r, setup, position, 95, adl.FRESH_NS + 1, 1)) == SEARCHING


def test_nobody_is_left() -> None:
    v = crowd(1, 10)
    v.arrays["positions"]["lots"][1:] = 0
    v.arrays["positions"]["lots"][0] = 5
    v.arrays["positions"]["account"][0] = ANN
    assert int(adl.find_victim(v.engine.risk, v.engine.setup, 0, 100, 0, 1)) == NOBODY
    assert not any(v.arrays["adl_queues"]["count"])


def test_logs_of_before_leave_the_ranks_alone() -> None:
    v = crowd(3, 40)
    position = next(k for k, p in enumerate(v.arrays["positions"]) if p["lots"] > 0)
    victim = adl.find_victim(v.engine.risk, v.engine.setup, position, 100, 0, 0)
    assert victim == bearing(v, ranking(v, position), 100)[0]
    assert told(v, position) == (0, 0, 0)


PLACES = """
  place of ranked | lights
  1 of 1          | 4
  1 of 5          | 4
  2 of 5          | 3
  5 of 5          | 0
  2 of 6          | 4
  3 of 6          | 3
  64 of 1000      | 4
  201 of 1000     | 3
"""


@pytest.mark.parametrize("line", PLACES.strip().splitlines()[1:])
def test_lights_of_a_place(line: str) -> None:
    said, lights = line.split("|")
    place, _, ranked = said.split()
    assert lights_of_place(int(place), int(ranked), 7) == int(lights)
    assert lights_of_place(int(place), int(ranked), 0) == 0


LIGHTS = """
  scores            | lights
  5 4 3 2 1         | 4 3 2 1 0
  5 4 3 2 1 0 0 0 0 0 | 4 4 3 3 2 0 0 0 0 0
  7                 | 4
  0                 | 0
  3 3 3 3 3         | 4 4 4 4 4
"""


@pytest.mark.parametrize("line", LIGHTS.strip().splitlines()[1:])
@pytest.mark.parametrize("side", [1, -1])
def test_lights(line: str, side: int) -> None:
    scores, lights = ([int(n) for n in cell.split()] for cell in line.split("|"))
    told = np.array([side * (score + 1) for score in scores], np.int64)
    assert lights_of(told).tolist() == lights


def test_lights_of_a_symbol() -> None:
    v = crowd(3, 30)
    r = v.engine.risk
    scores = np.zeros(30, np.int64)
    score_positions(
        r.accounts, r.wallets, r.symbols, r.positions, r.brackets, 0, 10**6, 0, 30, table(scores)
    )
    rows: Any = v.arrays["positions"]
    assert (np.sign(scores) == np.sign(rows["lots"])).all()
    lights = lights_of(scores)
    assert lights[rows["lots"] == 0].max(initial=0) == 0 and lights.max() == 4
