"""The benchmark harness: due times, stalls set apart, tables, and what a report says of itself."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import harness
from shm.jit import kernel
from shm.pointers import table


@kernel
def due_ns(start: int, i: int, rate: int) -> int:
    return harness.due_ns(start, i, rate)


@kernel
def look(cells: Any, count: int, threshold_ns: int) -> int:
    return harness.witness(cells, count, threshold_ns)


@given(st.integers(0, 1 << 62), st.integers(1, 10**7), st.integers(0, 10**6), st.integers(0))
def test_due_times_are_exact_in_runs_of_days(start: int, rate: int, seconds: int, k: int) -> None:
    i = seconds * rate + k % rate
    assert due_ns(start, i, rate) == start + int(Fraction(i * 10**9, rate))


SPANS = """
  span   | set apart        stalls at 10..20 and 30..40
   0-5   | no
   0-10  | no               received as the stall began
   0-11  | yes
  15-16  | yes
   0-50  | yes
  20-30  | no               due as one ended, received as the next began
  20-31  | yes
  40-99  | no
"""


@pytest.mark.parametrize("row", SPANS.strip().splitlines()[1:])
def test_a_span_that_overlaps_a_stall_is_set_apart(row: str) -> None:
    span, says = row.split("|")
    begin, end = (np.array([int(n)]) for n in span.split("-"))
    stalls, none = np.array([[10, 20], [30, 40]]), np.zeros((0, 2), np.int64)
    assert harness.apart(begin, end, none, stalls)[0] == (says.split()[0] == "yes")
    assert not harness.apart(begin, end, none)[0]


BACKLOG = """
  due  | through | set apart
   0   |    9    | yes          held up by a stall
   2   |   10    | yes          queued behind it
   9   |   11    | yes          and behind that
   11  |   12    | no           nobody was there any more
   11  |   13    | no
   20  |   30    | yes          another one
   30  |   31    | no
"""


def test_what_queued_behind_a_stall_is_set_apart_with_it() -> None:
    rows = [[cell.split()[0] for cell in row.split("|")] for row in BACKLOG.split("\n")[2:-1]]
    due, through = (np.array([int(row[k]) for row in rows]) for k in (0, 1))
    hit = np.isin(np.arange(len(rows)), [0, 5])
    got = harness.with_backlog(hit, due, through)
    assert got.tolist() == [row[2] == "yes" for row in rows]
    assert not harness.with_backlog(hit & False, due, through).any()
    assert len(harness.with_backlog(hit[:0], due[:0], through[:0])) == 0


def test_a_witness_notes_gaps_and_survives_more_than_it_can_keep() -> None:
    cells = np.zeros(harness.witness_cells(2), np.int64)
    for k in range(4):
        now = look(table(cells), len(cells), -1 if k else 0)
        assert now == cells[harness.LAST_NS] > 0
    assert cells[harness.STALL_COUNT] == 3, "the first look has nothing before it"
    stalls = harness.stalls_of(cells)
    assert stalls.shape == (2, 2)
    assert stalls[0, 1] == stalls[1, 0]
    look(table(cells), len(cells), 1 << 60)
    assert cells[harness.STALL_COUNT] == 3


def test_a_table_has_every_column_and_aligns_numbers() -> None:
    rows = [{"case": "a", "ns": 1234567}, {"case": "long", "ns": 1.5, "note": "x"}]
    assert harness.table_text(rows).splitlines() == [
        "  case         ns  note",
        "  a     1,234,567",
        "  long       1.50  x",
    ]


def test_a_report_says_its_conditions_in_text_json_and_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = harness.options("sample", "What it is.\n\nMore.", ["--json", "--out", str(tmp_path)])
    report = harness.Report("sample", options)
    cells = harness.histogram_of(np.arange(1, 1001))
    report.table("hop", [harness.latency_row("ring", cells, rate=5)])
    report.latency("ring", cells)
    report.note("NOT included: sockets")
    report.finish()
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "sample.json").read_text())
    assert {"commit", "cpu", "numba", "load", "cores"} <= printed["conditions"].keys()
    row = printed["tables"]["hop"][0]
    assert (row["case"], row["rate"], row["max_ns"], row["count"]) == ("ring", 5, 1000, 1000)
    text = (tmp_path / "sample.txt").read_text()
    assert text.startswith("sample  commit ") and text.endswith("NOT included: sockets\n")
    pytest.importorskip("matplotlib")
    assert "<svg" in (tmp_path / "sample.svg").read_text()
