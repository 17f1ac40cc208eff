"""Laws of the WAL: whatever is written comes back, and a twin in plain Python agrees."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine import files, wal
from engine.files import WalDamage
from engine.walblocks import lines_of, pack_commands, unpack_commands
from shm.config import Wal
from shm.hashing import hash_words
from shm.jit import kernel
from shm.pointers import Cells, table
from shm.records import COMMAND
from tests.model.wal_rig import (
    PAGE,
    WalRig,
    content_of,
    copy_data,
    read_all,
    replayable,
    segments_of,
    twin_command,
    twin_of,
)
from tests.model.wal_twin import TwinDamage, hash_bytes

WORDS = st.integers(-(1 << 63), (1 << 63) - 1)


@kernel
def round_trip(
    ring: Cells, mask: int, first: int, last: int, words: Cells, skip: int, out: Cells
) -> tuple[int, int]:
    """Pack from a ring, unpack into rows; (commands packed, rows)."""
    count, _end = pack_commands(ring, mask, first, last, words, 0, mask * 24 + 24)
    rows, _at = unpack_commands(words, 0, count, skip, out, 0)
    return count, rows


@given(st.lists(WORDS, max_size=40), WORDS)
def test_the_hash_is_the_twins(words: list[int], seed: int) -> None:
    array = np.array([*words, 0], np.int64)
    data = array[:-1].tobytes()
    assert int(hash_words(table(array), 0, len(words), seed)) == hash_bytes(data, seed)


@given(st.integers(1, 1 << 40), st.integers(1, 8), st.data())
def test_any_command_survives_the_packing(first: int, count: int, data: st.DataObject) -> None:
    """Every word of the lines it has, settled_seq, and zeros for the rest."""
    ring = np.zeros(8, COMMAND.dtype)
    for seq in range(first, first + count):
        slot = ring[seq & 7 : (seq & 7) + 1]
        slot.view(np.int64)[:24] = data.draw(st.lists(WORDS, min_size=24, max_size=24))
        slot["seq"], slot["settled_lag"] = seq, 0
        slot["settled_seq"] = seq - 1 - data.draw(st.integers(0, 65535))
        lines = int(lines_of(slot.view(np.int64)[7]))
        slot.view(np.int64)[lines * 8 : 24] = 0
    words, out = np.zeros(8 * 24, np.int64), np.zeros(8, COMMAND.dtype)
    skip = data.draw(st.integers(0, count))
    packed, rows = round_trip(
        table(ring.view(np.int64)), 7, first, first + count - 1, table(words), skip,
        table(out.view(np.int64)),
    )  # fmt: skip
    assert (packed, rows) == (count, count - skip)
    want = replayable(ring[np.arange(first + skip, first + count) & 7])
    assert out[:rows].tobytes() == want.tobytes()


BATCHES = st.lists(st.lists(st.integers(1, 120), max_size=3), min_size=1, max_size=3)


@given(BATCHES, st.sampled_from([4, 6, 16]), st.sampled_from([2, 3]), st.integers(0, 1 << 30))
def test_any_history_comes_back(
    starts: list[list[int]], segment_pages: int, block_pages: int, seed: int
) -> None:
    """Any grouping over any number of starts; read from any place on."""
    with tempfile.TemporaryDirectory() as folder:
        config = Wal(
            segment_bytes=segment_pages * PAGE,
            block_bytes_max=block_pages * PAGE,
            heartbeat_ms=60_000,
            preallocate=1,
        )
        rig = WalRig(Path(folder), config, seed=seed)
        for batches in starts:
            rig.start()
            for count in batches:
                rig.write(count)
            rig.journal.close()
        want = rig.written()
        end = wal.scan_wal(rig.data)
        assert end.seq == end.durable_seq == len(want)
        assert twin_of(rig.data).commands == [twin_command(row) for row in want]
        after = seed % (len(want) + 1)
        assert (read_all(rig.data, after, len(want), 50) == want[after:]).all()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["flip", "zero", "copy", "cut"]),
            st.integers(0, (1 << 30) - 1),
            st.integers(0, (1 << 30) - 1),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_the_twin_agrees_on_any_damage(damage: list[tuple[str, int, int]]) -> None:
    """Several things at once: both refuse, or both find the same commands."""
    sample = _sample()
    with tempfile.TemporaryDirectory() as folder:
        data = copy_data(sample.data, Path(folder) / "data")
        segments = {n: bytearray(content) for n, content in segments_of(data).items()}
        for what, a, b in damage:
            number = sorted(segments)[a % len(segments)]
            content = segments[number]
            page = a // 7 % max(1, len(content) // PAGE) * PAGE
            other = segments[sorted(segments)[b % len(segments)]]
            if what == "flip" and content:
                content[b % len(content)] ^= 1 << (a % 8)
            elif what == "zero":
                content[page : page + PAGE] = bytes(len(content[page : page + PAGE]))
            elif what == "copy":
                source = b // 11 % max(1, len(other) // PAGE) * PAGE
                content[page : page + PAGE] = other[source : source + PAGE]
            elif what == "cut":
                del content[b % (len(content) + 1) :]
        for number, content in segments.items():
            files.segment_path(data, number).write_bytes(content)
        before = content_of(data)
        try:
            twin = len(twin_of(data).commands)
        except TwinDamage:
            twin = -1
        try:
            seq = wal.recover_wal(data).seq
        except WalDamage:
            seq = -1
            assert content_of(data) == before
        assert seq == twin
        if seq >= 0:
            assert (read_all(data, 0, seq) == sample.written()).all()


@cache
def _sample() -> WalRig:
    """A WAL of two starts, made once."""
    folder = tempfile.mkdtemp(prefix="wal-law-")
    atexit.register(shutil.rmtree, folder)
    config = Wal(segment_bytes=4 * PAGE, block_bytes_max=2 * PAGE, preallocate=1)
    rig = WalRig(Path(folder), config)
    for counts in ((3, 20), (1, 5, 20)):
        rig.start()
        for count in counts:
            rig.write(count)
        rig.journal.close()
    return rig
