"""Disks that say no: a failed write or sync ends the journal, and nobody was told too much.

strace makes the n-th call of a child fail, lie, or kill it. Every run is checked the same way:
what the child had said was durable is in the log that recovery finds.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from engine import files, wal
from engine.journal import EXIT_DISK
from shm.config import Wal
from shm.cursors import CUT, JOURNALED, RISKED
from tests.conftest import ROOT
from tests.model.wal_rig import PAGE, WalRig, read_all

strace = shutil.which("strace")
needs_strace = pytest.mark.skipif(
    strace is None, reason="strace makes system calls fail; apt-get install strace"
)


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The child's kernels, once, so that the runs below are short."""
    for io in ("direct", "mmap"):
        run(tmp_path_factory.mktemp("warm"), 2, io)


def run(
    data: Path, count: int, io: str, *inject: str, limit: int | None = None
) -> tuple[int, list[str], str]:
    """(exit code, lines said, errors) of the child, with system calls tampered with."""
    command = [sys.executable, "-m", "tests.faults.sync_actor", str(data), str(count), io]
    if inject:
        assert strace is not None
        trace = [strace, "-f", "-qq", "-o", "/dev/null"]
        for one in inject:
            trace += ["-e", f"inject={one}"]
        command = [*trace, *command]

    def limited() -> None:
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    child = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, preexec_fn=limited
    )
    return child.returncode, child.stdout.split("\n")[:-1], child.stderr


def said(lines: list[str]) -> int:
    """The last command that the child said was durable."""
    return max([int(line) for line in lines if line.isdigit()], default=0)


def check_recovery(data: Path, acknowledged: int) -> int:
    """Recovery finds what was said, and nothing that was never written."""
    end = wal.recover_wal(data)
    assert end.seq >= acknowledged
    want = WalRig(data)
    rows = read_all(data, 0, end.seq)
    assert rows["seq"].tolist() == list(range(1, end.seq + 1))
    assert end.seq % 3 == 0, "whole blocks of three"
    assert wal.recover_wal(want.data).seq == end.seq
    return end.seq


# The actor's writes of a block are the pwrite64 calls of 4096 bytes and more, but strace counts all
# of them; where each falls does not matter, since every one up to the last is made to fail.
@needs_strace
@pytest.mark.parametrize("io", ["direct", "mmap"])
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_every_failing_call_ends_the_journal(
    tmp_path: Path, io: str, call: str, error: str, long_run: bool
) -> None:
    """The n-th write or sync fails, for n after n, until the run is too short to have one."""
    died, when = 0, 1
    while True:
        data = tmp_path / f"{when}"
        code, lines, errors = run(data, 4, io, f"{call}:error={error}:when={when}+")
        if code == 0 and "closed" in lines:
            break  # fewer calls than that
        acknowledged = said(lines)
        if "ready" in lines and "failed" in errors:
            assert code == EXIT_DISK, errors
            told = re.search(r"commands after (\d+) were not acknowledged. Check the disk", errors)
            assert told and int(told[1]) >= acknowledged, errors
            acknowledged = int(told[1])
            died += 1
        if files.manifest_path(data).exists() and files.watermark_path(data).exists():
            check_recovery(data, acknowledged)
        when += 1 if long_run else 3
        assert when < 200
    assert died > 0 or (io, call) == ("direct", "fdatasync")


@needs_strace
def test_a_failing_sync_of_the_watermark_ends_the_journal(tmp_path: Path) -> None:
    """With direct I/O the only fdatasync of a round is the watermark's."""
    code, lines, errors = run(tmp_path / "data", 5, "direct", "fdatasync:error=EIO:when=2")
    assert code == EXIT_DISK
    assert "sync of the watermark failed: Input/output error (errno 5)" in errors
    check_recovery(tmp_path / "data", said(lines))


@needs_strace
@pytest.mark.parametrize("io", ["direct", "mmap"])
def test_killed_at_any_write(tmp_path: Path, io: str, long_run: bool) -> None:
    """SIGKILL at the n-th write: what was said is there, and the next start goes on."""
    for when in range(1, 40, 1 if long_run else 6):
        data = tmp_path / f"{when}"
        code, lines, _errors = run(data, 4, io, f"pwrite64:signal=SIGKILL:when={when}")
        if code == 0:
            break
        if not files.manifest_path(data).exists():
            continue
        check_recovery(data, said(lines))
        code, lines, errors = run(data, 2, io)
        assert code == 0, errors
        check_recovery(data, said(lines))


@needs_strace
@pytest.mark.parametrize("call", ["rename", "fsync", "pwrite64"])
def test_killed_while_recovering(tmp_path: Path, call: str, long_run: bool) -> None:
    """Recovery of a torn log, killed again and again, comes to the same end."""
    rig = WalRig(tmp_path / "data")
    rig.start()
    rig.write(9)
    rig.journal.close()
    end = wal.scan_wal(rig.data)
    path = files.segment_path(rig.data, end.segment)
    with open(path, "r+b") as file:
        file.seek(end.offset)
        file.write(b"torn" * 700)
    program = (
        "import sys; from pathlib import Path; from engine import wal;"
        "data = Path(sys.argv[1]); wal.begin_epoch(data, wal.recover_wal(data)); print('done')"
    )
    assert strace is not None
    for when in range(1, 12, 1 if long_run else 3):
        subprocess.run(
            [strace, "-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:signal=SIGKILL:when={when}",
             sys.executable, "-c", program, str(rig.data)],
            cwd=ROOT, capture_output=True, timeout=120,
        )  # fmt: skip
        assert files.read_manifest(rig.data).seq <= 9
    again = wal.recover_wal(rig.data)
    assert (again.seq, again.offset) == (9, end.offset)
    assert (read_all(rig.data, 0, 9) == rig.written()).all()


@needs_strace
def test_a_lying_disk_is_found_out(tmp_path: Path) -> None:
    """The control: writes that are not made but reported as made lose data, and recovery refuses.

    Every block after the third is dropped by the "disk"; the watermark is another file, and told.
    """
    rig = WalRig(tmp_path / "data")
    rig.start()
    for _block in range(3):
        rig.write(2)
    before = files.segment_path(rig.data, 0).read_bytes()
    rig.write(2)
    rig.journal.close()
    files.segment_path(rig.data, 0).write_bytes(before)
    with pytest.raises(files.WalDamage, match=r"commands 7\.\.8 were acknowledged"):
        wal.recover_wal(rig.data)


@needs_strace
def test_a_slow_disk_delays_answers_and_changes_none(tmp_path: Path) -> None:
    code, lines, errors = run(
        tmp_path / "data", 6, "mmap", "fdatasync:delay_enter=100000:when=2..5"
    )
    assert code == 0, errors
    assert [int(line) for line in lines if line.isdigit()] == [3, 6, 9, 12, 15, 18]
    assert check_recovery(tmp_path / "data", 18) == 18


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """RLIMIT_FSIZE: no further report log or segment can be made; the venue goes cancel-only."""
    code, lines, errors = run(tmp_path / "data", 4, "direct", limit=16 * PAGE)
    assert code != 0 and "File too large" in errors
    assert said(lines) == 0


@contextmanager
def mounted(folder: Path, kind: str, *options: str) -> Iterator[Path]:
    """A file system of its own in memory; skips where that is not allowed."""
    if os.getuid() != 0:
        pytest.skip("mounting a file system needs root")
    folder.mkdir()
    command = ["mount", "-t", kind, *options, "perpcore-test", str(folder)]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        pytest.skip(f"cannot mount a file system: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    with mounted(tmp_path / "tiny", "tmpfs", "-o", "size=2m") as folder:
        yield folder


def test_without_direct_io(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """ramfs refuses O_DIRECT: plain writes and fdatasync, said once, and the same log."""
    with mounted(tmp_path / "ram", "ramfs") as folder:
        rig = WalRig(folder / "data")
        for _start in range(2):
            rig.start()
            for count in (1, 100, 30):
                rig.write(count, reports=1)
            rig.journal.close()
        want = rig.written()
        assert (read_all(rig.data, 0, len(want)) == want).all()
    said_so = [r for r in caplog.records if "no direct I/O on this file system" in r.message]
    assert len(said_so) == 2


@pytest.mark.parametrize("io", ["direct", "mmap"])
@pytest.mark.parametrize("threads", [False, True])
def test_a_full_disk_is_noticed_ahead(tiny_disk: Path, io: str, threads: bool) -> None:
    """CUT is set while there still is room in a segment; room again, and it is cleared.

    The last segment fills to its end, then nothing moves; nobody dies of SIGBUS.
    """
    config = Wal(io=io, segment_bytes=64 * PAGE, block_bytes_max=8 * PAGE, preallocate=1)
    rig = WalRig(tiny_disk / "data", config, capacity=4096)
    rig.start(threads=threads)
    neighbour = tiny_disk / "neighbour"
    try:
        with open(neighbour, "wb") as file:
            while True:
                file.write(bytes(PAGE))
                file.flush()
    except OSError:
        pass
    turns = 0
    while not rig.cursors[CUT]:
        if rig.cursors[JOURNALED] == rig.cursors[RISKED]:
            rig.put(100)
        rig.journal.step()
        turns += 1
        assert turns < 1_000_000
    durable = int(rig.cursors[JOURNALED])
    for _turn in range(40):
        if room := 4000 - int(rig.cursors[RISKED] - rig.cursors[JOURNALED]):
            rig.put(room)
        for _round in range(40):
            rig.journal.step()
    stuck = int(rig.cursors[JOURNALED])
    assert durable <= stuck < rig.cursors[RISKED]
    assert rig.journal.step() == 0
    neighbour.unlink()
    rig.journal.make_ahead()
    assert rig.cursors[CUT] == 0
    while rig.cursors[JOURNALED] < rig.cursors[RISKED]:
        rig.journal.step()
    rig.journal.close()
    want = rig.written()
    assert (read_all(rig.data, 0, len(want)) == want).all()
    assert np.diff(want["seq"]).tolist() == [1] * (len(want) - 1)
