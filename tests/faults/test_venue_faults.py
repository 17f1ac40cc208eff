"""A whole engine on a host that misbehaves: power cuts, a full disk, clocks that jump, processes
that stop. Whatever was reported before is in the log afterwards, and replay gives it byte by byte.

What the host doesn't allow is skipped with the reason.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from shm.control import View
from shm.cursors import CUT, JOURNALED, SEQUENCED
from tests.process.helpers import Venue, Witness, wait_until
from tests.process.test_kill import check_history, loaded

EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
NO_LOG_FLUSH = 2  # what ext4's own journal hasn't written is lost too: a power cut
IMAGE_BYTES = 1 << 30  # sparse: the report log preallocates a segment of 256 MiB
FULL_BYTES = 560 << 20  # two segments of the report log, which are made ahead, and some of the WAL


def mounted_by(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount: {' '.join(command)}: {done.stderr.strip()}")


class LoopDisk:
    """An ext4 in a file, behind a loop device, whose power can be cut."""

    def __init__(self, folder: Path) -> None:
        if os.getuid() != 0:
            pytest.skip("a file system of its own needs root")
        if shutil.which("mkfs.ext4") is None:
            pytest.skip("no mkfs.ext4: apt-get install e2fsprogs")
        self.image, self.folder = folder / "image", folder / "disk"
        self.folder.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(IMAGE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.image], check=True, capture_output=True)
        self.mount()

    def mount(self) -> None:
        mounted_by(["mount", "-o", "loop", str(self.image), str(self.folder)], self.folder)

    def cut_power(self) -> None:
        """Nothing is written any more, whoever asks; then the host comes back."""
        fd = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        except OSError as error:
            pytest.skip(f"this kernel's ext4 has no shutdown: {error}")
        finally:
            os.close(fd)

    def unmount(self) -> None:
        def gone() -> bool:
            return subprocess.run(["umount", self.folder], capture_output=True).returncode == 0

        wait_until(gone, 30, "the disk is still in use")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    made = LoopDisk(tmp_path)
    yield made
    subprocess.run(["umount", "-l", made.folder], capture_output=True)


@contextmanager
def venue_in(folder: Path, instance: str, *arguments: str, **settings: Any) -> Iterator[Venue]:
    made = Venue(
        folder,
        instance,
        *("--traffic", "3000", *arguments),
        settings={"restarts_max": 1000, "checkpoint_every": 1024, **settings},
    )
    try:
        yield made
    finally:
        made.end()


def test_power_cuts(disk: LoopDisk, instance: str, long_run: bool) -> None:
    """The disk stops in the middle of traffic, again and again; what was reported is there."""
    with venue_in(disk.folder, instance, "--no-restart") as venue:
        witness = Witness(venue)
        venue.log = disk.image.with_name("up.log")  # not on the disk that dies
        for turn in range(12 if long_run else 1):
            venue.start()
            view = venue.until_running(turn + 1)
            witness.attach(view)
            loaded(view)
            witness.follow(0.3 + 0.1 * (turn % 5))
            disk.cut_power()
            assert venue.until_ended() != 0, "an engine without a disk must not go on"
            witness.follow(0.1)
            witness.detach()
            venue.end()
            disk.unmount()
            disk.mount()
        venue.start()
        view = venue.until_running()
        witness.attach(view)
        loaded(view)
        witness.follow(0.2)
        assert venue.stop() == 0, venue.said()[-3000:]
        witness.finish()
        witness.detach()
        check_history(venue.data, view.cursor(SEQUENCED), witness.reports())


def test_a_full_disk(tmp_path: Path, instance: str) -> None:
    """It fills up under the venue: cancel-only before it is full, and open again when there is room."""
    if os.getuid() != 0:
        pytest.skip("a file system of its own needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    size = f"size={FULL_BYTES}"
    mounted_by(["mount", "-t", "tmpfs", "-o", size, "small", str(folder)], folder)
    try:
        with venue_in(folder, instance, **{"wal.segment_bytes": 2 << 20}) as venue:
            venue.log = tmp_path / "up.log"
            witness = Witness(venue)
            venue.start()
            view = venue.until_running()
            witness.attach(view)
            loaded(view)
            assert not view.cursor(CUT), "there is room yet"
            neighbour = folder / "neighbour"
            # Nothing kept back for close, which would meet the full disk once more.
            with open(neighbour, "wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(1 << 20))
            wait_until(lambda: view.cursor(CUT), 180, "nobody noticed")
            witness.follow(0.2)
            neighbour.unlink()
            wait_until(lambda: not view.cursor(CUT), 180, "it stays cancel-only")
            before = view.cursor(JOURNALED)
            wait_until(lambda: view.cursor(JOURNALED) > before + 200, 180, "it takes no more")
            assert view.epoch == 1, "a full disk is no reason to die"
            witness.follow(0.2)
            assert venue.stop() == 0, venue.said()[-3000:]
            witness.finish()
            witness.detach()
            check_history(venue.data, view.cursor(SEQUENCED), witness.reports())
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


CLOCK_C = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
static volatile long long *offset_s;
int clock_gettime(clockid_t id, struct timespec *to) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) {
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
        int fd = open(getenv("OFFSET_FILE"), O_RDONLY);
        if (fd >= 0) offset_s = mmap(0, 8, PROT_READ, MAP_SHARED, fd, 0);
    }
    int code = real(id, to);
    if (id == CLOCK_REALTIME && offset_s && offset_s != MAP_FAILED) to->tv_sec += *offset_s;
    return code;
}
"""


@pytest.fixture
def clock(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file whose number of seconds is added to the time of day, and the environment for it."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to put another clock before libc's: apt-get install gcc")
    source, library, offset = (tmp_path / name for name in ("clock.c", "clock.so", "offset"))
    source.write_text(CLOCK_C)
    offset.write_bytes(bytes(8))
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return offset, {"LD_PRELOAD": str(library), "OFFSET_FILE": str(offset)}


def test_the_clock_jumps(tmp_path: Path, instance: str, clock: tuple[Path, dict[str, str]]) -> None:
    """Back an hour, and on by two: the log's time never goes back, nothing is lost, and it goes on."""
    offset, environment = clock

    def jump(seconds: int) -> None:
        with open(offset, "r+b") as file:
            file.write(struct.pack("q", seconds))

    with venue_in(tmp_path, instance) as venue:
        venue.environment |= environment
        witness = Witness(venue)
        venue.start()
        view = venue.until_running()
        witness.attach(view)
        loaded(view)
        for seconds in (-3600, 3600, 0):
            jump(seconds)
            before = view.cursor(JOURNALED)
            wait_until(
                lambda before=before: view.cursor(JOURNALED) > before + 300, 60, "it stands still"
            )
            witness.follow(0.1)
        assert view.epoch == 1
        assert venue.stop() == 0, venue.said()[-3000:]
        witness.finish()
        witness.detach()
        check_history(venue.data, view.cursor(SEQUENCED), witness.reports())
    from engine.walreader import read_commands

    times = [
        t for rows in read_commands(venue.data, 0, view.cursor(SEQUENCED)) for t in rows["ts_ns"]
    ]
    assert times == sorted(times)
    assert max(times) > (time.time() + 3000) * 1e9, "the jump on was seen"


def test_every_worker_stopped(tmp_path: Path, instance: str, long_run: bool) -> None:
    """SIGSTOP: for a moment nothing comes of it; for too long it is taken for dead, and replaced."""
    with venue_in(tmp_path, instance, *("--topology", "split"), heartbeat_timeout_ms=1500) as venue:
        witness = Witness(venue)
        venue.start()
        view = venue.until_running()
        names = [worker.name for worker in view.workers()]
        assert len(names) >= 5
        for name in names if long_run else ("risk", "journal"):
            witness.attach(view)
            loaded(view)
            epoch, pid = view.epoch, venue.worker(name)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.3)
            os.kill(pid, signal.SIGCONT)
            before = view.cursor(JOURNALED)
            wait_until(lambda v=view, b=before: moved(v, b), 60, f"{name} doesn't go on")
            witness.follow(0.1)
            os.kill(venue.worker(name), signal.SIGSTOP)
            view = venue.until_running(epoch + 1)
        witness.attach(view)
        loaded(view)
        witness.follow(0.2)
        assert venue.stop() == 0, venue.said()[-3000:]
        witness.finish()
        witness.detach()
        check_history(venue.data, view.cursor(SEQUENCED), witness.reports())


def moved(view: View, before: int) -> bool:
    return view.cursor(JOURNALED) > before + 100 or not view.alive
