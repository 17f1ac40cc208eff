"""One idle worker, step by step, and what wakes it."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

from shm import wait
from shm.config import Wait
from shm.cursors import (
    DOORBELL_CELLS,
    DOORBELLS_MAX,
    HEARTBEAT_NS,
    PROGRESS,
    SLEEP,
    SLEEPS,
    STOP,
    TIMEOUTS,
    doorbell,
)
from shm.jit import PLAIN, kernel
from shm.pointers import array_of, table

MS = 1_000_000


@kernel
def rest(bells: Any, me: int, did: int, turns: int, spins: int, yields: int, ns: int) -> int:
    return wait.rest(bells, me, did, turns, spins, yields, ns)


@kernel
def ring_doorbells(bells: Any, workers: int) -> None:
    wait.ring_doorbells(bells, workers)


@kernel
def beat(bells: Any, worker: int, did: int) -> None:
    wait.beat(bells, worker, did)


@kernel
def stopping(bells: Any, worker: int) -> bool:
    return wait.stopping(bells, worker)


@pytest.fixture
def bells() -> Any:
    return table(np.zeros(4 * DOORBELL_CELLS, np.int64))


def sleep_word(bells: Any, worker: int) -> int:
    return int(array_of(bells)[doorbell(worker) + SLEEP])


def test_spin_then_yield_then_announce_then_sleep(bells: Any) -> None:
    turns, seen = 0, []
    for _ in range(4):
        turns = rest(bells, 1, 0, turns, 2, 1, MS)
        seen.append((turns, sleep_word(bells, 1)))
    assert seen == [(1, 0), (2, 0), (3, 0), (4, 1)]
    turns = rest(bells, 1, 0, turns, 2, 1, MS)
    assert sleep_word(bells, 1) == 0
    assert array_of(bells)[doorbell(1) + SLEEPS] == 1
    if not PLAIN:  # plain Python does not sleep
        assert turns == 3, "nobody rang: announce again, look once, sleep again"
        assert array_of(bells)[doorbell(1) + TIMEOUTS] == 1


def test_work_ends_the_rest_and_takes_the_announcement_back(bells: Any) -> None:
    assert rest(bells, 0, 5, 2, 0, 9, MS) == 0
    turns = rest(bells, 0, 0, 0, 0, 0, MS)
    assert (turns, sleep_word(bells, 0)) == (1, 1)
    assert rest(bells, 0, 1, turns, 0, 0, MS) == 0
    assert sleep_word(bells, 0) == 0


def test_a_ring_between_looking_and_sleeping_is_not_lost(bells: Any) -> None:
    turns = rest(bells, 2, 0, 0, 0, 0, 999 * MS)
    ring_doorbells(bells, 0b100)
    assert sleep_word(bells, 2) == 0
    assert rest(bells, 2, 0, turns, 0, 0, 999 * MS) == 0
    assert array_of(bells)[doorbell(2) + TIMEOUTS] == 0


def test_only_the_workers_named_are_woken(bells: Any) -> None:
    for worker in range(4):
        rest(bells, worker, 0, 0, 0, 0, MS)
    ring_doorbells(bells, wait.others(4, 1) & ~0b1000)
    assert [sleep_word(bells, w) for w in range(4)] == [0, 1, 0, 1]
    assert wait.others(3, 0) == 0b110


def test_stop_is_seen_and_wakes(bells: Any) -> None:
    assert not stopping(bells, 3)
    rest(bells, 3, 0, 0, 0, 0, MS)
    wait.request_stop(bells, 3)
    assert stopping(bells, 3)
    assert sleep_word(bells, 3) == 0
    assert not stopping(bells, 2)


def test_beats_add_up_and_carry_a_time(bells: Any) -> None:
    beat(bells, 1, 10)
    first = int(array_of(bells)[doorbell(1) + HEARTBEAT_NS])
    beat(bells, 1, 5)
    assert array_of(bells)[doorbell(1) + PROGRESS] == 15
    assert 0 < first <= array_of(bells)[doorbell(1) + HEARTBEAT_NS]


def test_the_policy_is_what_the_configuration_says() -> None:
    assert wait.policy_of(Wait()) == (0, 200, 50 * MS)
    assert wait.policy_of(Wait(spins=7, yields=9, sleep_ms=1)) == (7, 9, MS)
    assert wait.policy_of(Wait(policy="spin")).spins == wait.FOR_EVER


@pytest.mark.skipif(PLAIN, reason="there is no compiled code in the plain build")
def test_both_sides_fence_between_their_store_and_their_load() -> None:
    """What invariant 1 rests on; too rare to provoke. Numba cannot show code from its cache."""
    cells = table(np.zeros(DOORBELL_CELLS, np.int64))
    for function, arguments in (
        (wait._rest_slowly, (cells, 0, 0, 0, 1)),
        (ring_doorbells, (cells, 0)),
    ):
        fresh = numba.njit(function.py_func)
        fresh(*arguments)
        (code,) = fresh.inspect_llvm().values()
        assert "fence seq_cst" in code and "load atomic i64" in code


def test_what_all_read_and_what_one_writes_are_not_on_neighbouring_lines() -> None:
    assert {SLEEP // 16, STOP // 16} == {0}
    assert {HEARTBEAT_NS // 16, PROGRESS // 16, SLEEPS // 16, TIMEOUTS // 16} == {1}
    assert 1 << DOORBELLS_MAX < 1 << 63
