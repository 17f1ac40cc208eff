"""Seqlocks in one process: whole, torn, and left odd. Across processes: tests/process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm import seqlock
from shm.jit import kernel
from shm.pointers import array_of, table
from shm.seqlock import BUSY, read_words


@kernel
def begin(versions: Any, index: int) -> None:
    seqlock.write_begin(versions, index)


@kernel
def end(versions: Any, index: int) -> None:
    seqlock.write_end(versions, index)


@kernel
def look(versions: Any, index: int) -> int:
    return seqlock.read_begin(versions, index)


@kernel
def whole(versions: Any, index: int, version: int) -> bool:
    return seqlock.read_whole(versions, index, version)


STEPS = """
  steps             | version | a reader gets
  -                 | 0       | 0
  begin             | 1       | BUSY
  begin end         | 2       | 2
  begin end begin   | 3       | BUSY
  begin begin       | 3       | BUSY     the first writer was killed, the next one began
  begin begin end   | 4       | 4        and made it whole
"""


@pytest.mark.parametrize("row", STEPS.strip().splitlines()[1:])
def test_versions(row: str) -> None:
    steps, version, gets = (cell.strip() for cell in row.split("|"))
    versions, out = table(np.zeros(2, np.int64)), table(np.zeros(2, np.int64))
    for step in steps.split():
        if step != "-":
            {"begin": begin, "end": end}[step](versions, 1)
    assert array_of(versions).tolist() == [0, int(version)]
    word = gets.split()[0]
    wanted = BUSY if word == "BUSY" else int(word)
    assert read_words(versions, 1, out, 0, 1, out, 3) == wanted


def test_a_write_after_the_copy_began_is_noticed() -> None:
    versions = table(np.zeros(1, np.int64))
    version = look(versions, 0)
    assert whole(versions, 0, version)
    begin(versions, 0)
    assert not whole(versions, 0, version)
    end(versions, 0)
    assert not whole(versions, 0, version)


def test_ending_a_write_that_never_began_is_our_bug() -> None:
    with pytest.raises(AssertionError):
        end(table(np.zeros(1, np.int64)), 0)


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=9), st.integers(0, 5))
def test_what_is_copied_is_what_was_written(words: list[int], first: int) -> None:
    versions = table(np.zeros(1, np.int64))
    cells, out = np.zeros(20, np.int64), np.zeros(10, np.int64)
    begin(versions, 0)
    cells[first : first + len(words)] = words
    end(versions, 0)
    assert read_words(versions, 0, table(cells), first, len(words), table(out), 1) == 2
    assert out.tolist() == words + [0] * (10 - len(words))
