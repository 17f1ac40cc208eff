"""A follower beside a writer, step by step, against a list. Across processes: tests/process."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm.cursors import CURSOR_CELLS, REPORTS_CLAIMED, REPORTS_JOURNALED, REPORTS_WRITTEN
from shm.follower import LAPPED, Follower, claim_reports, follow
from shm.jit import PLAIN, kernel
from shm.pointers import table
from shm.records import REPORT

CAPACITY = 16


@kernel
def claim(cursors: Any, upto: int) -> None:
    claim_reports(cursors, upto)


class Engine:
    """Settle and journal as far as a follower sees them."""

    def __init__(self) -> None:
        self.cursors = np.zeros(CURSOR_CELLS, np.int64)
        self.reports = np.zeros(CAPACITY, REPORT.dtype)
        self.written = 0

    def claim(self, count: int) -> None:
        claim(table(self.cursors), self.written + count)

    def write(self, count: int) -> None:
        """Report i says i in `seq` and -i in `open_lots`."""
        self.claim(count)
        for i in range(self.written, self.written + count):
            row = self.reports[i & (CAPACITY - 1)]
            row["seq"], row["open_lots"] = i, -i
        self.written += count
        self.cursors[REPORTS_WRITTEN] = self.written

    def journal(self, upto: int) -> None:
        self.cursors[REPORTS_JOURNALED] = upto


LAPS = """
  written | journaled | claimed | next | reads
     0    |     0     |    0    |   0  | nothing
     5    |     3     |    5    |   0  | 0 1 2         never past what is durable
     5    |     5     |    5    |   3  | 3 4
    16    |    16     |   16    |   0  | 0 1 2 3 4 5 6 7     a batch
    16    |    16     |   17    |   0  | lapped        report 16 may be in report 0's slot
    16    |    16     |   17    |   1  | 1 2 3 4 5 6 7 8
    16    |    16     |   32    |  15  | lapped
    20    |    20     |   20    |   3  | lapped
    20    |    20     |   20    |   4  | 4 5 6 7 8 9 10 11
    20    |    20     |   36    |  20  | nothing       up to date: cannot be lapped
"""


@pytest.mark.parametrize("row", LAPS.strip().splitlines()[1:])
def test_laps(row: str) -> None:
    *numbers, reads = row.split("|")
    written, journaled, claimed, after = (int(n) for n in numbers)
    engine = Engine()
    engine.write(written)
    engine.journal(journaled)
    engine.claim(claimed - written)
    follower = Follower(engine.cursors, engine.reports, after, batch=8)
    got = follower.read()
    says = reads.strip().split("   ")[0].strip()
    if says == "lapped":
        assert got is None and follower.next == after
    else:
        wanted = [int(w) for w in says.split()] if says != "nothing" else []
        assert got is not None and got["seq"].tolist() == wanted
        assert follower.next == after + len(wanted)


STEPS = st.lists(
    st.tuples(st.sampled_from(["write", "journal", "read", "claim"]), st.integers(0, 12)),
    max_size=60,
)


@given(STEPS, st.integers(1, 20))
def test_every_report_comes_once_and_whole_or_is_known_to_be_gone(
    steps: list[tuple[str, int]], batch: int
) -> None:
    engine = Engine()
    follower = Follower(engine.cursors, engine.reports, 0, batch)
    seen: list[int] = []
    claimed = 0
    for what, amount in steps:
        if what == "write":
            engine.write(amount)
            claimed = max(claimed, engine.written)
            engine.claim(claimed - engine.written)
        elif what == "claim":
            claimed = max(claimed, engine.written + amount)
            engine.claim(claimed - engine.written)
        elif what == "journal":
            done = int(engine.cursors[REPORTS_JOURNALED])
            engine.journal(min(done + amount, engine.written))
        else:
            before, got = follower.next, follower.read()
            durable = int(engine.cursors[REPORTS_JOURNALED])
            if got is None:
                assert before < claimed - CAPACITY
                follower.next = durable  # as if the log had been read
                seen += range(before, durable)
            else:
                assert len(got) == min(durable - before, batch, CAPACITY)
                assert (got["open_lots"] == -got["seq"]).all()
                seen += got["seq"].tolist()
    assert seen == list(range(len(seen)))


def test_the_engine_does_not_notice_followers() -> None:
    engine = Engine()
    engine.write(10)
    engine.journal(10)
    before = engine.cursors.copy(), engine.reports.copy()
    Follower(engine.cursors, engine.reports, 0).read()
    assert (engine.cursors == before[0]).all() and (engine.reports == before[1]).all()
    assert engine.cursors[REPORTS_CLAIMED] == 10


@pytest.mark.skipif(PLAIN, reason="there is no compiled code in the plain build")
def test_claimed_is_loaded_again_after_the_copy() -> None:
    """Numba cannot show code that came from its cache, so it is compiled afresh."""
    fresh = numba.njit(follow.py_func)
    cells = table(np.zeros(CURSOR_CELLS, np.int64))
    assert fresh(cells, cells, 16, 0, cells, 1) != LAPPED
    (code,) = fresh.inspect_llvm().values()
    assert code.count("load atomic i64") >= 3
    assert "fence acquire" in code
