"""Samples of commands on their way: who is chosen, who marks, and what the marks mean."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from shm import hopcells, hops
from shm.codes import Kind, Side
from shm.cursors import SEQUENCED
from shm.hopcells import (
    ARMED,
    FIRST,
    HOP_CELLS,
    MARKED_DURABLE,
    MARKED_PUBLISH,
    NEXT_NS,
    ROW_WORDS,
    SAMPLES_BURST,
    SAMPLES_MAX,
    SAMPLES_PER_S,
    SEQ,
)
from shm.hops import (
    AFTER,
    HOP_PARTS,
    PublisherMarks,
    RequestMarks,
    Samples,
    in_order,
    marks_of,
    read_requests,
)
from shm.jit import kernel
from shm.marks import mark, mark_at, sample
from shm.pointers import Cells, table
from shm.records import HOPS
from shm.segment import Segment
from shm.traces import read_trace
from tests.venue import ANN, BOB, GATEWAY, Venue

ID = "0af7651916cd43dd8448eb211c80319c"
SECOND = 1_000_000_000
EVERY = SECOND // SAMPLES_PER_S


@kernel
def take(cells: Cells, words: Cells, mask: int, sequenced: int, took: int, now_ns: int) -> None:
    sample(cells, words, mask, sequenced, took, now_ns, 1)


@kernel
def pass_by(cells: Cells, marked: int, word: int, done: int, now_ns: int) -> None:
    mark_at(cells, marked, word, done, now_ns)


@kernel
def pass_by_clock(cells: Cells, marked: int, word: int, done: int) -> None:
    mark(cells, marked, word, done)


STAGES = (
    (hopcells.MARKED_RISK, hopcells.RISKED),
    (hopcells.MARKED_MATCH, hopcells.MATCHED),
    (hopcells.MARKED_SETTLE, hopcells.SETTLED),
    (hopcells.MARKED_DURABLE, hopcells.DURABLE),
)


class Rig:
    """A ring of commands that only a sequencer and four markers know."""

    def __init__(self, slots: int = 64) -> None:
        self.cells = np.zeros(HOP_CELLS, np.int64)
        self.words = np.zeros(slots * 32, np.int64)
        self.mask = slots - 1
        self.seq = 0

    def take(self, count: int, now_ns: int) -> None:
        """A turn of the sequencer."""
        for seq in range(self.seq + 1, self.seq + count + 1):
            at = (seq & self.mask) * 32
            self.words[at : at + 3] = seq, now_ns, seq * 10
        self.seq += count
        take(table(self.cells), table(self.words), self.mask, self.seq, count, now_ns)

    def passed(self, now_ns: int, seq: int | None = None) -> None:
        """Every stage has passed what was taken."""
        for marked, word in STAGES:
            pass_by(table(self.cells), marked, word, self.seq if seq is None else seq, now_ns)

    def rows(self) -> np.ndarray[Any, Any]:
        rows = self.cells[FIRST:].view(HOPS.dtype)
        return np.sort(rows[rows["sequenced_ns"] > 0], order="number")


def test_on_a_quiet_venue_every_command_is_sampled() -> None:
    rig = Rig()
    for k in range(300):
        rig.take(1, (k + 1) * SECOND)
        rig.passed((k + 1) * SECOND + 5)
    rows = rig.rows()
    assert rows["seq"].tolist() == list(range(2, 301)), "the first one came before any was chosen"
    assert (rows["request"] == rows["seq"] * 10).all()
    for name in ("risked_ns", "settled_ns", "durable_ns"):
        assert (rows[name] == rows["sequenced_ns"] + 5).all()
    assert (rows["matched_ns"][:, 0] == rows["sequenced_ns"] + 5).all()
    assert not rows["matched_ns"][:, 1:].any() and not rows["published_ns"].any()


def test_a_busy_one_has_no_more_than_its_rate() -> None:
    """Turns of 50 commands, one a microsecond, for 3 s: the burst, then so many a second."""
    rig = Rig()
    begin = 10 * SECOND
    for k in range(0, 3 * SECOND, 1_000_000 // 7):
        rig.take(50, begin + k)
        rig.passed(begin + k)
    count = len(rig.rows())
    assert abs(count - (SAMPLES_BURST + 3 * SAMPLES_PER_S)) <= 2


def test_a_stage_marks_only_what_it_has_passed() -> None:
    rig = Rig()
    for k in range(1, 4):
        rig.take(1, k * SECOND)
    rig.passed(5 * SECOND, seq=2)
    two, three = rig.rows()
    assert (two["seq"], three["seq"]) == (2, 3)
    assert two["risked_ns"] == 5 * SECOND and three["risked_ns"] == 0
    rig.passed(7 * SECOND)
    assert rig.rows()["risked_ns"].tolist() == [5 * SECOND, 7 * SECOND]


def test_samples_fall_anywhere_in_a_turn() -> None:
    """Turns of 8: no place is preferred. Turns of 1 after them: it waits until it is reached."""
    rig = Rig()
    for k in range(400):
        rig.take(8, (k + 1) * SECOND)
        rig.passed((k + 1) * SECOND)
    rows = rig.rows()
    places, counts = np.unique((rows["seq"] - 1) % 8, return_counts=True)
    assert len(places) == 8 and counts.min() > 40
    for k in range(20):
        rig.take(1, (500 + k) * SECOND)
        rig.passed((500 + k) * SECOND)
    assert rig.rows()["seq"].tolist()[-10:] == list(range(rig.seq - 9, rig.seq + 1))


def test_a_slot_that_was_used_again_tells_nothing() -> None:
    rig = Rig(slots=4)
    rig.take(1, SECOND)
    rig.take(5, 2 * SECOND)  # command 2, the sample, is overwritten by 6
    assert len(rig.rows()) == 0


def test_a_mark_by_the_clock() -> None:
    rig = Rig()
    rig.take(1, SECOND)
    rig.take(1, 2 * SECOND)
    pass_by_clock(table(rig.cells), hopcells.MARKED_RISK, hopcells.RISKED, 2)
    assert rig.rows()[0]["risked_ns"] > SECOND * 1_000_000_000


def test_no_row_is_taken_from_a_stage_that_hasnt_marked_it() -> None:
    """The journal stands still: what was sampled stays, nothing more is chosen."""
    rig = Rig()
    for k in range(SAMPLES_MAX + 500):
        rig.take(1, (k + 1) * SECOND)
        for marked, word in STAGES:
            if marked != MARKED_DURABLE:
                pass_by(table(rig.cells), marked, word, rig.seq, rig.seq * SECOND)
    assert rig.cells[ARMED] == SAMPLES_MAX
    assert rig.rows()[0]["seq"] == 2
    rig.passed(1 << 60)
    rig.take(1, 1 << 61)
    rig.take(1, (1 << 61) + SECOND)
    assert rig.rows()[-1]["seq"] == rig.seq and rig.cells[ARMED] == SAMPLES_MAX + 2


def test_a_publisher_that_is_late_holds_nobody_up() -> None:
    rig = Rig()
    publisher = PublisherMarks(rig.cells)
    for k in range(3 * SAMPLES_MAX):
        rig.take(1, (k + 1) * SECOND)
        rig.passed((k + 1) * SECOND)
    publisher.mark(rig.seq - 1, 77)
    rows = rig.rows()
    told = rows[rows["published_ns"] == 77]
    assert told["seq"][-1] == rig.seq - 1 and len(told) >= SAMPLES_MAX - 4
    assert rig.cells[MARKED_PUBLISH] == rig.cells[ARMED] - 2
    publisher.mark(rig.seq, 78)
    assert rig.rows()[-1]["published_ns"] == 78


# ---------------------------------------------------------------- in a venue


def test_a_venue_marks_and_is_no_other_for_it() -> None:
    """Stages mark in a random order; with samples or without, the reports are the same."""
    told = []
    for chosen in (True, False):
        v = Venue(shards=2, seed=5)
        if not chosen:
            v.arrays["hops"][NEXT_NS] = 1 << 62
        v.open_market(symbols=2)
        high, low = read_trace(ID) or (0, 0)
        for price in range(100, 140):
            v.place(ANN, Side.SELL, price, 2, ring=GATEWAY, symbol=price % 2, trace_hi=high,
                    trace_lo=low, recv_ns=5)  # fmt: skip
            v.place(BOB, Side.BUY, price, 1, symbol=price % 2)
            v.drain()
        told.append(v.all_reports().tobytes())
        rows = v.arrays["hops"][FIRST:].view(HOPS.dtype)
        rows = rows[rows["sequenced_ns"] > 0]
        assert (len(rows) > 30) == chosen
        traced = rows[rows["trace_hi"] == high]
        assert len(traced) == np.count_nonzero(rows["received_ns"] == 5)
        assert not chosen or len(traced) > 10
        last = int(v.cursors[SEQUENCED])
        for mark_of in ("risked_ns", "settled_ns"):
            assert (rows[mark_of][rows["seq"] <= last] > 0).all()
        assert (rows["matched_ns"][:, :2] > 0).all() and not rows["matched_ns"][:, 2:].any()
    assert told[0] == told[1]


# ---------------------------------------------------------------- what marks mean

MARKS = """
    received  handed over  sequenced  decided  matched  settled  durable  published   in order
    10        20           30         40       50       60       70       80          as it is
    10        20           30         46       45       44       70       80          decided 44, matched 44
    10        20           30         99       -        60       -        80          decided 60
    10        20           15         40       50       60       70       80          sequenced 20
    -         -            30         40       50       99       70       80          settled 80
    10        20           -          -        -        -        -        5           not in order
"""


@pytest.mark.parametrize("line", MARKS.strip().splitlines()[1:])
def test_marks_are_bounds(line: str) -> None:
    names = ("received", "handed over", "sequenced", "decided", "matched", "settled", "durable",
             "published")  # fmt: skip
    words = line.split()
    given = {name: int(w) for name, w in zip(names, words, strict=False) if w != "-"}
    wanted = " ".join(words[len(names) :])
    found = marks_of(given)
    assert in_order(found) == (wanted != "not in order")
    changes = {name: ns for name, ns in found.items() if given[name] != ns}
    said = {}
    if wanted not in ("as it is", "not in order"):
        parts = (part.rsplit(" ", 1) for part in wanted.split(", "))
        said = {name: int(ns) for name, ns in parts}
    assert changes == said
    assert list(found) == [name for name in AFTER if name in found]


# ---------------------------------------------------------------- shared memory


@pytest.fixture
def engine(instance: str) -> Iterator[Segment]:
    segment = Segment.create(instance, hops.SEGMENT, HOP_PARTS, 3)
    yield segment
    segment.unlink()
    segment.close()


def test_samples_are_read_by_others(engine: Segment, instance: str) -> None:
    rig = Rig()
    rig.cells = engine.arrays["hops"]
    for k in range(40):
        rig.take(1, (k + 1) * SECOND)
        rig.passed((k + 1) * SECOND + 9)
    samples = Samples(instance, 3, 1)
    assert [s.seq for s in samples.read(30)] == list(range(31, 41))
    found = samples.find(20)
    assert found is not None and found.marks["durable"] == 20 * SECOND + 9
    assert found.request == 200 and samples.find(41) is None and samples.newest() == 40
    samples.close()


def test_requests_of_a_gateway(instance: str) -> None:
    marks = RequestMarks(instance, "gateway0")
    for k in range(1, hops.REQUESTS_MAX + 3):
        marks.keep(k, k + 7, (1, 2), 10, 20, 30, 40)
    found = read_requests(instance)
    assert len(found) == hops.REQUESTS_MAX and 1 not in found and 2 not in found
    assert found[3] == {"received": 10, "handed over": 20, "heard": 30, "answered": 40}
    # Another of the same name, while this one runs, does without.
    other = RequestMarks(instance, "gateway0")
    other.keep(1, 1, (0, 0), 1, 1, 1, 1)
    other.close()
    assert len(read_requests(instance)) == hops.REQUESTS_MAX
    marks.close()
    marks.keep(1, 1, (0, 0), 1, 1, 1, 1)
    assert read_requests(instance) == {} and not os.path.exists(
        f"/dev/shm/perpcore.{instance}.requests.gateway0"
    )


def test_rows_are_as_declared() -> None:
    assert HOPS.dtype.itemsize == ROW_WORDS * 8 and FIRST % ROW_WORDS == 0
    assert SEQ == 1 and SAMPLES_MAX & (SAMPLES_MAX - 1) == 0
    assert Kind.PLACE < 64
