"""A recovery beside its report log: each difference is named, whatever reads ahead and how far."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engine import overlap, readahead, recovery
from engine.files import WalDamage
from engine.memory import limits_of
from engine.recovery import kept_tables, verify
from engine.replay import Diverged, Replayer
from engine.reportlog import ReportLogReader, list_segments, segment_path
from shm.files import read_manifest, reports_folder
from shm.records import REPORT
from tests.model.wal_rig import segments_of
from tools.inprocess import zeroed_arrays
from tools.simulate import History
from tools.simulateengine import LOG_RECORDS

Array = np.ndarray[Any, Any]
HEAD = 4096  # bytes of a segment before its first report


@pytest.fixture(params=["as it comes", "read ahead"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As small directories are read, and as large ones are: in small pieces, by threads."""
    if request.param == "read ahead":
        monkeypatch.setattr(readahead, "COMMANDS_MANY", 1)
        monkeypatch.setattr(recovery, "_BATCH", 64)
        monkeypatch.setattr(overlap, "MANY", 1)
        monkeypatch.setattr(overlap, "PIECE", 50)
        monkeypatch.setattr(recovery, "_REPORTS", 128)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> History:
    """A venue that has ended, with a snapshot and commands behind it."""
    history = History(1, tmp_path_factory.mktemp("overlap") / "data", checkpoint_every=24)
    chance = random.Random(1)
    for rounds in (12, 30):
        for _ in range(rounds):
            for _ in range(8):
                history.send(*history.traffic.next(chance, history.venue.now))
            history.settle_down()
        if rounds == 12:
            assert recovery.take(history.data, history.limits).path is not None
    history.stop()
    return history


@pytest.fixture
def data(made: History, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.data, tmp_path / "data"))


def beside() -> list[threading.Thread]:
    """Threads that read ahead."""
    return [t for t in threading.enumerate() if t.name.startswith(("read ahead", "spare"))]


def recover(history: History, data: Path) -> tuple[recovery.Recovered, dict[str, Array]]:
    shards, commands, matches, reports = history.shape[:4]
    limits = limits_of(history.config)
    arrays = zeroed_arrays(limits, shards, commands=commands, matches=matches, reports=reports)
    config = msgspec.structs.replace(history.config, data_dir=str(data))
    found = recovery.recover(config, arrays, LOG_RECORDS)
    assert not beside(), "no thread outlives a recovery"
    return found, {name: rows.copy() for name, rows in kept_tables(arrays, limits).items()}


def logged(data: Path) -> Array:
    """Every report in the log."""
    reader = ReportLogReader(data, read_manifest(data))
    rows = [batch.copy() for batch in reader.batches(reader.first_index, reader.find_end())]
    reader.close()
    return np.concatenate(rows)


def change(data: Path, index: int, edit: Callable[[bytearray, int], None]) -> None:
    """Let `edit` change the content of a segment, given the byte of report `index` in it."""
    segments = list_segments(data, read_manifest(data))
    segment = next(s for s in segments if s.first_index <= index < s.end_index)
    content = bytearray(segment.path.read_bytes())
    edit(content, HEAD + (index - segment.first_index) * REPORT.dtype.itemsize)
    segment.path.write_bytes(content)


def flip(byte: int) -> Callable[[bytearray, int], None]:
    def edit(content: bytearray, at: int) -> None:
        content[at + byte] ^= 1

    return edit


@pytest.mark.usefixtures("reading")
def test_whole_short_or_gone_it_comes_to_the_same(made: History, data: Path) -> None:
    """What the log lacks is derived again: its end, all of it, what lies behind a hole."""
    want, state = recover(made, data)
    whole = logged(data)
    told = len(whole) // 2

    def cut(content: bytearray, at: int) -> None:
        content[at:] = bytes(len(content) - at)

    def hole(content: bytearray, at: int) -> None:
        content[at : at + REPORT.dtype.itemsize] = bytes(REPORT.dtype.itemsize)

    for index, edit in ((told, cut), (len(whole) - 1, cut), (len(whole) - 3, hole)):
        change(data, index, edit)
        found, now = recover(made, data)
        assert (found.seq, found.reports) == (want.seq, want.reports)
        assert all((now[name] == rows).all() for name, rows in state.items())
        assert (logged(data) == whole).all(), index
    shutil.rmtree(reports_folder(data))
    reports_folder(data).mkdir()
    _, now = recover(made, data)
    assert all((now[name] == rows).all() for name, rows in state.items())
    anew = logged(data)
    assert (anew == whole[-len(anew) :]).all(), "from the snapshot on"


@pytest.mark.usefixtures("reading")
def test_a_difference_is_named(made: History, data: Path) -> None:
    """The first, one in the middle, the last: any byte of it, also of one that was not synced."""
    recover(made, data)
    whole = logged(data)
    first = whole_after_snapshot(made, data)
    places = (first, first + 1, (first + len(whole)) // 2, len(whole) - 1)
    for index, byte in zip(places, (0, 15, 16, 63), strict=True):
        change(data, index, flip(byte))
        said = rf"report {index} .*\(command {whole[index]['seq']}\)"
        with pytest.raises(Diverged, match=f"{said}. The log is damaged"):
            recover(made, data)
        with pytest.raises(Diverged, match=said):
            verify(data, made.limits)
        assert not beside()
        change(data, index, flip(byte))
    recover(made, data)


def whole_after_snapshot(made: History, data: Path) -> int:
    """Index of the first report that a recovery derives."""
    meta, _sections, _notes = recovery._load_newest(data, read_manifest(data))
    assert meta is not None
    return int(meta["reports_count"])


@pytest.mark.usefixtures("reading")
def test_a_proof_counts_what_it_compared(made: History, data: Path) -> None:
    proven = verify(data, made.limits)
    assert proven.compared == len(logged(data)) < proven.reports  # the newest were in the ring


def test_nothing_is_written_before_the_log_is_judged(
    made: History, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports are missing, and further on the WAL is damaged: it is refused as it was found."""
    monkeypatch.setattr(overlap, "LATE_MAX", 1)
    first = whole_after_snapshot(made, data)

    def cut(content: bytearray, at: int) -> None:
        content[at:] = bytes(len(content) - at)

    change(data, first + 2, cut)
    used = [n for n, content in sorted(segments_of(data).items()) if any(content)]
    number = used[-2]  # the next one vouches for what is in it
    path = data / "wal" / f"wal.{number:010d}.seg"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    before = {p: p.read_bytes() for p in data.rglob("*.seg")}
    with pytest.raises(WalDamage):
        recover(made, data)
    assert {p: p.read_bytes() for p in data.rglob("*.seg")} == before
    assert segment_path(data, 0) in before


def test_a_ring_too_small_for_the_lag_is_said(made: History, data: Path) -> None:
    """It was an endless loop: more commands than the ring has, none of which may be decided."""
    arrays = recovery.fresh_arrays(made.limits, commands=16)
    rows = np.zeros(64, arrays["commands"].dtype)
    rows["seq"] = np.arange(1, 65)
    rows["settled_seq"] = np.maximum(rows["seq"].astype(np.int64) - 40, 0)
    rows["kind"] = 255
    with pytest.raises(Diverged, match=r"Raise rings\.commands"):
        Replayer(arrays, made.limits).feed(rows)


# ---------------------------------------------------------------- reading ahead


def numbers(upto: int, closed: list[bool]) -> Generator[int, None, None]:
    try:
        yield from range(upto)
        if upto == 7:
            raise ValueError("behind the last")
    finally:
        closed.append(True)


@pytest.mark.parametrize("count", [0, 1, 2, 6, 100])
def test_the_same_pieces_in_order(count: int) -> None:
    closed: list[bool] = []
    assert list(readahead.ahead(numbers(count, closed))) == list(range(count))
    assert closed == [True] and not beside()


def test_an_error_comes_in_its_place() -> None:
    got, closed = [], list[bool]()
    with pytest.raises(ValueError, match="behind the last"):
        for n in readahead.ahead(numbers(7, closed)):
            got.append(n)
    assert got == list(range(7)) and closed == [True]


@pytest.mark.parametrize("taken", [1, 2, 5])
def test_who_leaves_early_leaves_no_thread(taken: int) -> None:
    closed: list[bool] = []
    pieces = readahead.ahead(numbers(1000, closed))
    assert [next(pieces) for _ in range(taken)] == list(range(taken))
    pieces.close()
    assert closed == [True] and not beside()


def test_as_much_memory_as_is_said() -> None:
    """With BUFFERS in turn no piece is made over one that is in use."""
    memory = np.full(readahead.BUFFERS, -1)

    def pieces() -> Generator[int, None, None]:
        for n in range(500):
            memory[n % readahead.BUFFERS] = n
            yield n

    for n in readahead.ahead(pieces()):
        assert memory[n % readahead.BUFFERS] == n
