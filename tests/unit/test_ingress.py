"""The ingress ring against a list, and what it keeps its last tenth for."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm import ingress
from shm.codes import Flag, Kind
from shm.config import KINDS, PRODUCERS, Producer
from shm.ingress import (
    CORRUPT,
    HEAD,
    LAST_REQUEST,
    OWNER_PID,
    OWNER_START,
    SLOT_WORDS,
    TAIL,
    IngressRing,
    push_many,
    push_rows,
    ring_parts,
)
from shm.jit import PLAIN, kernel
from shm.pointers import table
from shm.records import COMMAND
from shm.segment import SegmentError, process_start
from shm.units import PRODUCER_SHIFT

GATEWAY = Producer(name="gateway0", id=8, kinds=("order",))


@kernel
def available(ring: Any, capacity: int) -> int:
    return ingress.available(ring, capacity)


@kernel
def take(ring: Any, capacity: int, count: int, out: Any) -> None:
    """Copy the `count` oldest commands to `out`, 24 words each, and free their slots."""
    for k in range(count):
        at = ingress.peek(ring, capacity, k)
        for w in range(SLOT_WORDS):
            out[k * SLOT_WORDS + w] = ring[at + w]
    ingress.release(ring, count)


def new_ring(capacity: int) -> np.ndarray[Any, Any]:
    return np.zeros(ring_parts(capacity)[0].rows, np.int64)


def commands(*kinds: int, lines: int = 1, flags: int = 0, first: int = 1) -> np.ndarray[Any, Any]:
    rows = np.zeros(len(kinds), COMMAND.dtype)
    rows["kind"], rows["lines"], rows["flags"] = kinds, lines, flags
    rows["request"] = np.arange(first, first + len(kinds))
    return rows


def push(cells: np.ndarray[Any, Any], capacity: int, rows: np.ndarray[Any, Any]) -> int:
    source = table(rows.view(np.int64))
    return int(push_many(table(cells), capacity, source, 0, len(rows)))


LAST_TENTH = """
  kind          | flags       | may use it
  PLACE         | NONE        | no
  PLACE         | REDUCE_ONLY | yes
  PLACE         | TO_BACK     | no
  AMEND         | NONE        | no
  AMEND         | REDUCE_ONLY | yes
  CANCEL        | NONE        | yes
  CANCEL_ALL    | NONE        | yes
  CANCEL_SYMBOL | NONE        | yes
  REDUCE        | NONE        | yes
  LEVERAGE      | REDUCE_ONLY | no
  DEPOSIT       | NONE        | no
  NONE          | NONE        | no
"""


@pytest.mark.parametrize("row", LAST_TENTH.strip().splitlines()[1:])
def test_the_last_tenth_is_for_what_lowers_risk(row: str) -> None:
    kind, flags, may = (cell.strip() for cell in row.split("|"))
    cells = new_ring(32)
    assert push(cells, 32, commands(*[Kind.PLACE] * 40)) == 29
    assert push(cells, 32, commands(*[Kind[kind]] * 40, flags=Flag[flags])) == (may == "yes") * 3
    assert available(table(cells), 32) == 29 + (may == "yes") * 3


LINES = """
  lines | words that travel
    1   | 8
    2   | 16
    3   | 24
    0   | 8      what makes no sense travels as one line and is refused by the sequencer
    4   | 8
    255 | 8
"""


@pytest.mark.parametrize("row", LINES.strip().splitlines()[1:])
def test_only_the_lines_that_are_filled_travel(row: str) -> None:
    lines, words = (int(cell.split()[0]) for cell in row.split("|"))
    cells, out = new_ring(16), np.zeros(SLOT_WORDS, np.int64)
    cells[ingress.SLOTS :] = -7
    rows = commands(Kind.PLACE, lines=lines)
    sent = rows.view(np.int64)
    sent[8:] = 3
    assert push(cells, 16, rows) == 1
    take(table(cells), 16, 1, table(out))
    assert out.tolist() == sent[:words].tolist() + [-7] * (24 - words)


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_rows_may_be_as_narrow_as_the_lines_that_are_filled(lines: int) -> None:
    rows = commands(*[Kind.PLACE] * 40, lines=lines)
    whole = rows.view(np.int64).reshape(-1, 32)
    whole[:, 8 * lines - 1] |= np.arange(40) << 8  # something of each in its last line
    wide_ring, narrow_ring = new_ring(64), new_ring(64)
    assert push(wide_ring, 64, rows) == 40
    narrow = whole[:, : 8 * lines].ravel()
    assert push_rows(table(narrow_ring), 64, table(narrow), 8 * lines, 0, 40) == 40
    assert narrow_ring.tolist() == wide_ring.tolist()
    assert push_rows(table(narrow_ring), 64, table(narrow), 8 * lines, 3, 5) == 5
    with pytest.raises(AssertionError):
        push_rows(table(narrow_ring), 64, table(narrow), 8 * lines - 8, 0, 1)


BATCHES = st.lists(
    st.tuples(
        st.lists(st.sampled_from([Kind.PLACE, Kind.CANCEL]), max_size=70), st.integers(0, 70)
    ),
    max_size=12,
)


@given(st.sampled_from([16, 32, 64]), BATCHES)
def test_it_is_a_queue_with_two_limits(
    capacity: int, batches: list[tuple[list[Kind], int]]
) -> None:
    cells = new_ring(capacity)
    out = np.zeros(capacity * SLOT_WORDS, np.int64)
    queue: list[int] = []
    number = 1
    for kinds, wanted in batches:
        rows = commands(*kinds, first=number)
        fitted = 0
        for kind in kinds:
            limit = capacity if kind == Kind.CANCEL else capacity - capacity // 10
            if len(queue) >= limit:
                break
            queue.append(number + fitted)
            fitted += 1
        assert push(cells, capacity, rows) == fitted
        number += fitted
        assert int(cells[LAST_REQUEST]) == number - 1
        count = available(table(cells), capacity)
        assert 0 <= count <= len(queue) and (count > 0 or not queue)
        count = min(count, wanted)
        take(table(cells), capacity, count, table(out))
        assert out.reshape(-1, SLOT_WORDS)[:count, 2].tolist() == queue[:count]
        del queue[:count]


def test_a_cursor_that_makes_no_sense_is_noticed() -> None:
    for tail in (-1, 17, 1 << 62, -(1 << 63)):
        cells = new_ring(16)
        cells[TAIL] = tail
        assert available(table(cells), 16) == CORRUPT


def test_who_may_send_what_stands_in_the_head(instance: str) -> None:
    for producer in PRODUCERS:
        ring = IngressRing.create(instance, producer, 16, epoch=1)
        assert ring.head["producer"] == producer.id
        assert ring.head["privileged"] == producer.privileged
        allowed = {kind for kind in Kind if int(ring.head["kinds"]) >> kind & 1}
        assert allowed == {kind for group in producer.kinds for kind in KINDS[group]}
        assert not allowed & {Kind.NONE, Kind.EXPIRE, Kind.CHECKPOINT, Kind.REFUSED}


def test_numbers_go_on_where_a_killed_producer_stopped(instance: str) -> None:
    made = IngressRing.create(instance, GATEWAY, 64, epoch=1)
    ring = IngressRing.attach(instance, "gateway0", 64, epoch=1)
    assert ring.next_request() == (8 << PRODUCER_SHIFT) + 1
    rows = commands(*[Kind.PLACE] * 40, first=ring.next_request())
    assert ring.push(rows) == 40
    again = IngressRing.attach(instance, "gateway0", 64)
    assert again.next_request() == (8 << PRODUCER_SHIFT) + 41
    assert available(made.cells, 64) == 40


def test_a_second_live_producer_is_refused(instance: str) -> None:
    made = IngressRing.create(instance, GATEWAY, 64, epoch=1)
    made.array[OWNER_PID], made.array[OWNER_START] = os.getppid(), process_start(os.getppid())
    with pytest.raises(SegmentError, match=f"process {os.getppid()} sends through it. Stop that"):
        IngressRing.attach(instance, "gateway0", 64)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    made.array[OWNER_PID] = gone.pid
    IngressRing.attach(instance, "gateway0", 64)
    assert made.array[OWNER_PID] == os.getpid()


@pytest.mark.skipif(PLAIN, reason="there is no compiled code in the plain build")
def test_cursors_are_loaded_and_stored_atomically_in_compiled_code() -> None:
    """A plain load may be hoisted out of a loop; numba cannot show code that came from its cache."""
    fresh = numba.njit(push_many.py_func)
    cells = table(new_ring(16))
    fresh(cells, 16, cells, 0, 0)
    (code,) = fresh.inspect_llvm().values()
    assert "load atomic i64" in code and "acquire" in code
    assert "store atomic i64" in code and "release" in code
    fresh = numba.njit(available.py_func)
    fresh(cells, 16)
    (code,) = fresh.inspect_llvm().values()
    assert "load atomic i64" in code


def test_head_and_tail_are_not_on_neighbouring_lines() -> None:
    assert abs(TAIL - HEAD) * 8 >= 128
