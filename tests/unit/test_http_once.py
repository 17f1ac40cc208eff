"""A signed request is dealt with once, for as long as a copy of it could be accepted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.http import once as module
from gateways.http.once import AHEAD_MS, BUCKET_WORDS, BUCKETS, FIRST_WORD, ROWS, Came, Once
from gateways.http.signing import FUTURE_MS, digest_of
from shm.files import DataError

BOOTED_S = 1000  # how long the host has run when a table begins, at BEGAN_MS by its clock
BEGAN_MS = 1_800_000_000_000
# The host's clock and the one that counts on (ms), a request, good until (ms): what is it?
CAME = """
    host |  steady | signed | until | came
       0 |       0 | a      |  5000 | first
      10 |      10 | a      |  5000 | copy
      10 |      10 | b      |  5000 | first     another one
    5000 |    5000 | a      |  5000 | copy      on its last millisecond
    5999 |    5999 | c      | 60999 | first
   60999 |   60999 | c      | 60999 | copy
   70000 |   70000 | a      | 75000 | copy      nobody needed its place

  the clock is ahead for a moment
       0 |       0 | a      |    5000 | first
 3600000 |    1000 | b      | 3605000 | first     by an hour: nothing is forgotten for it
    2000 |    2000 | a      |    5000 | copy
    2000 |    2000 | b      |    5000 | copy

  the clock is put back
       0 |       0 | a      |    5000 | first
    7000 |    7000 | b      |   12000 | first     in a's place
    3000 |    8000 | a      |    5000 | no room   it was forgotten, and nobody can say so
    3000 |    8000 | c      |    4000 | no room   nor of any from then
    3000 |    8000 | d      |    8000 | first     others go on
    7000 |   12000 | b      |   12000 | copy

  by an hour
 3600000 |       0 | a      | 3605000 | first
       0 |    1000 | b      |    5000 | first
    6000 |    7000 | c      |   11000 | first     the past hour doesn't shut this one
 3600000 | 3601000 | a      | 3605000 | copy      the clock comes to it again

  by an hour, and then by seconds
 3600000 |       0 | a      | 3605000 | first
 3607000 |    7000 | b      | 3612000 | first     in a's place
       0 |    8000 | c      |    5000 | first
    7000 |   15000 | d      |   12000 | first     in c's place
    3000 |   16000 | c      |    5000 | no room

  the host was booted anew meanwhile
       0 |       0 | a      |    5000 | first
   20000 | -980000 | a      |   25000 | copy
   20000 | -980000 | b      |   25000 | first     in its place: its time is over
   20001 | -979999 | a      |   25001 | first
"""
TABLES = [table.strip().splitlines() for table in CAME.strip().split("\n\n")]


@contextmanager
def opened(folder: Path, buckets: int = 1) -> Iterator[tuple[Once, list[int]]]:
    """A set, and its steady clock (ms) to be told."""
    steady_ms = [0]
    once = Once(folder / "once", buckets, lambda: BOOTED_S + steady_ms[0] / 1000)
    try:
        yield once, steady_ms
    finally:
        once.close()


def ask(once: Once, digest: tuple[int, int], until_ms: int, at_ms: int) -> Came:
    """What a request is; times from the table's begin."""
    return once.came(digest, BEGAN_MS + until_ms, BEGAN_MS + at_ms)


def named(signed: str) -> tuple[int, int]:
    """Digests that all want the same row of the same bucket."""
    return 0, ROWS * ord(signed)


@pytest.mark.parametrize("table", TABLES, ids=[table[0] for table in TABLES])
def test_each_once(tmp_path: Path, table: list[str]) -> None:
    with opened(tmp_path) as (once, steady_ms):
        for row in table[1:]:
            host, steady, signed, until, came = (cell.strip() for cell in row.split("|"))
            steady_ms[0] = int(steady)
            found = ask(once, named(signed), int(until), int(host))
            assert came.startswith(found.name.lower().replace("_", " ")), row


FULL = """
    at | signed  | until | came
     0 | fill 63 |  5000 |          a bucket's names
     0 | late    |  9000 | no room
     0 | name 0  |  5000 | copy      nothing was forgotten
    10 | soon    |  5010 | no room
  7000 | late    |  9000 | no room   there is room, but it was refused
  7000 | another |  8999 | no room   and can't be told from this one
  7000 | later   | 12000 | first
  9001 | short   | 10001 | first
"""


def test_what_cant_be_remembered_is_refused_and_so_are_its_copies(tmp_path: Path) -> None:
    with opened(tmp_path) as (once, steady_ms):
        for row in FULL.strip().splitlines()[1:]:
            at, signed, until, came = (cell.strip() for cell in row.split("|"))
            steady_ms[0] = int(at)
            if signed.startswith("fill"):
                for k in range(ROWS):
                    name = digest_of(b"name %d" % k, "key")
                    assert ask(once, name, int(until), int(at)) is Came.FIRST
                continue
            found = ask(once, digest_of(signed.encode(), "key"), int(until), int(at))
            assert came.startswith(found.name.lower().replace("_", " ")), row


@given(
    st.lists(
        st.tuples(
            st.integers(0, 50) | st.integers(0, 40_000),  # ms that pass
            st.integers(-60_000, 60_000),  # how far the host's clock is off
            st.integers(0, 200),  # which request is sent
            st.sampled_from([1, 5000, 60_000]),  # its receive window
        ),
        max_size=150,
    )
)
def test_no_copy_is_ever_taken_for_the_first(
    steps: list[tuple[int, int, int, int]],
) -> None:
    """However the host's clock jumps within two minutes, with three times the names that fit."""
    stamps: dict[int, tuple[int, int]] = {}  # of each request, when it was signed first
    came: set[int] = set()
    with TemporaryDirectory() as folder, opened(Path(folder)) as (once, steady_ms):
        for passed, off, request, window in steps:
            steady_ms[0] += passed
            now_ms = steady_ms[0] + off
            stamp, window = stamps.setdefault(request, (now_ms, window))
            if not (stamp < now_ms + FUTURE_MS and now_ms - stamp <= window):
                continue  # signing.check_time refuses it
            found = ask(once, (0, 1 + request), stamp + window, now_ms)
            if request in came:
                assert found is not Came.FIRST
            came.add(request)


def test_it_is_there_again_after_a_restart_and_for_others(tmp_path: Path) -> None:
    with opened(tmp_path, 64) as (one, _), opened(tmp_path, 64) as (other, _):
        for k in range(200):
            name = digest_of(b"%d" % k, "key")
            first, second = (one, other) if k % 2 else (other, one)
            assert ask(first, name, 5000, 0) is Came.FIRST
            assert ask(second, name, 5000, 0) is Came.COPY
    with opened(tmp_path, 64) as (again, _):
        for k in range(200):
            assert ask(again, digest_of(b"%d" % k, "key"), 5000, 0) is Came.COPY


def test_a_gateways_longest_minute_fits(tmp_path: Path) -> None:
    """14,000 requests a second, each good for the longest time: the fullest bucket has room.

    Where they fall is all that counts here: a file as large is filled by a few of them.
    """
    shrunk = 64  # times
    with opened(tmp_path, BUCKETS // shrunk) as (once, _):
        for k in range(14_000 * AHEAD_MS // 1000 // shrunk):
            assert ask(once, digest_of(b"%d" % k, "key"), AHEAD_MS, 0) is Came.FIRST


@pytest.mark.parametrize("shift", [0, 20, 40, 52])
def test_digests_that_are_alike_fall_into_different_buckets(tmp_path: Path, shift: int) -> None:
    """Whichever bits they differ in: what somebody chose with care fills no bucket either."""
    with opened(tmp_path, 256):
        pass
    with open(tmp_path / "once", "r+b") as file:  # a secret that is the same in every run
        file.seek(16)
        file.write((0x9E37_79B9_7F4A_7C15).to_bytes(8, "little"))
    with opened(tmp_path, 256) as (once, _):
        for k in range(2048):  # eight a bucket, where they are spread
            assert ask(once, (k << shift, k + 1), 5000, 0) is Came.FIRST


@contextmanager
def another_holds(path: Path, locks: int) -> Iterator[subprocess.Popen[str]]:
    """A process that has the locks of the first buckets, until it is killed."""
    code = (
        "import fcntl, os, signal, sys\n"
        "fcntl.lockf(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX, int(sys.argv[2]))\n"
        "print(flush=True)\n"
        "signal.pause()\n"
    )
    command = [sys.executable, "-c", code, str(path), str(locks)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield holder
        holder.kill()


def test_who_was_stopped_with_a_lock_makes_its_bucket_refuse(tmp_path: Path) -> None:
    with opened(tmp_path) as (once, steady_ms):
        with another_holds(tmp_path / "once", 1):
            assert ask(once, named("a"), 5000, 0) is Came.NO_ROOM
            assert ask(once, named("a"), 5000, 0) is Came.NO_ROOM
        assert ask(once, named("a"), 5000, 0) is Came.NO_ROOM, "it was refused"
        steady_ms[0] = later = AHEAD_MS + 1
        assert ask(once, named("a"), later + 5000, later) is Came.FIRST


def test_who_was_killed_with_a_lock_holds_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as (once, _), another_holds(tmp_path / "once", 1) as holder:
        holder.kill()
        holder.wait()
        assert ask(once, named("a"), 5000, 0) is Came.FIRST


# ---------------------------------------------------------------- the file


def test_a_file_that_is_none_of_ours_begins_anew(tmp_path: Path) -> None:
    for garbage in (b"", b"x" * 100, bytes(8 * FIRST_WORD), b"y" * 8 * (FIRST_WORD + BUCKET_WORDS)):
        (tmp_path / "once").write_bytes(garbage)
        with opened(tmp_path) as (once, _):
            assert ask(once, named("a"), 5000, 0) is Came.FIRST
        assert (tmp_path / "once").stat().st_mode & 0o777 == 0o644, "as it was"
        with opened(tmp_path) as (once, _):
            assert ask(once, named("a"), 5000, 0) is Came.COPY


def test_a_file_of_another_release_is_left_to_who_uses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_OPEN_S", 0.05)
    with opened(tmp_path, 2) as (theirs, _):
        assert ask(theirs, named("a"), 5000, 0) is Came.FIRST
        with (
            pytest.raises(DataError, match="another gateway uses it. Stop every HTTP gateway"),
            opened(tmp_path, 4),
        ):
            pass
        assert ask(theirs, named("a"), 5000, 0) is Came.COPY
    with opened(tmp_path, 4) as (ours, _):
        assert ask(ours, named("a"), 5000, 0) is Came.FIRST


def test_two_sets_have_two_secrets(tmp_path: Path) -> None:
    """Who knows which buckets of one venue requests fall into doesn't know those of another."""
    found = []
    for name in ("one", "other"):
        with opened(tmp_path / name, 64):
            head = (tmp_path / name / "once").read_bytes()[:24]
            found.append(head)
    assert found[0][:16] == found[1][:16] and found[0][16:] != found[1][16:]
