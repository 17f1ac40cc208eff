"""POSIX shared memory: named segments that outlive any process and say whose they are.

    /dev/shm/perpcore.<instance>.<name>

    byte 0      SEGMENT_HEADER: magic, digests, epoch, owner          one page
    byte 4096   first part, then each part from the next multiple of 4096

Reads   the header of whatever stands under the name, and /proc for whether its owner lives.
Writes  a segment that is preallocated and prefaulted: no later store can end in SIGBUS.
Never   imports numba; never unlinks what another live process made; never unlinks by itself at
        exit, so a kill -9 of anybody leaves the data of all others in place.

Invariants
    1. The header's magic is written last. A segment without it is being made, or its maker died.
    2. Whoever makes or removes a segment holds flock(LOCK_EX) on its inode meanwhile; the kernel
       lets go of that lock when the process dies.
    3. A name is given a new inode for a new segment; what is mapped never changes its size.
    4. A segment belongs to the process that made it. When that is gone the segment is dead:
       nobody attaches to it, and the next `create` of the name replaces it.

Known limitation: the owner is looked up by pid, so all processes of an instance must share one
pid namespace.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import re
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import posix_ipc

from shm.records import RECORDS, SEGMENT_HEADER, layouts_digest

FOLDER: Final = Path("/dev/shm")
PREFIX: Final = "perpcore."
PAGE_BYTES: Final = 4096
MAGIC: Final = int.from_bytes(b"PERPSHM1", "little")
RESET: Final = "Stop every Perpcore process, then: perpcore shm reset"

INSTANCE: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_LOCK_SECONDS = 10.0


class SegmentError(RuntimeError):
    """Shared memory is not what this process needs; the text says what the operator can do."""


class Part(NamedTuple):
    """One array of a segment: its name, a record's name or a numpy type, and how many rows."""

    name: str
    type: str
    rows: int

    @property
    def dtype(self) -> np.dtype[Any]:
        known = RECORDS.get(self.type)
        return known.dtype if known else np.dtype(self.type)


class SegmentInfo(NamedTuple):
    """What a segment's header says, and whether the process that made it still runs."""

    instance: str
    name: str
    size_bytes: int
    epoch: int
    pid: int
    created_ns: int
    state: str  # live, dead, unfinished (its maker died making it), foreign or unreadable
    same_build: bool


def parts_digest(parts: Sequence[Part]) -> str:
    """Digest of names, types and sizes: two processes that agree on it see the same arrays."""
    text = repr([(p.name, p.type, p.dtype.itemsize, p.rows) for p in parts])
    return hashlib.blake2s(text.encode(), digest_size=8).hexdigest()


def layout(parts: Sequence[Part]) -> tuple[list[int], int]:
    """(where each part starts, bytes of the whole segment)."""
    starts, at = [], PAGE_BYTES
    for part in parts:
        starts.append(at)
        size = part.rows * part.dtype.itemsize
        at += -(-size // PAGE_BYTES) * PAGE_BYTES
    return starts, at


def process_start(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 when it is gone or only a zombie.

    A pid alone says little: it is given to another process sooner or later.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = stat[stat.rindex(")") + 2 :].split()
    return 0 if fields[0] in "ZXx" else int(fields[19])


class ProcessWatch:
    """Whether a process still runs, for the price of one poll; `process_start` costs a file.

    Watch first, then ask whether the pid is the process that was meant: from there on it is.
    """

    def __init__(self, pid: int) -> None:
        self._poll = select.poll()
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._fd = -1
        else:
            self._poll.register(self._fd, select.POLLIN)

    @property
    def gone(self) -> bool:
        """True from when it has exited, even where nobody has waited for it yet."""
        return self._fd < 0 or bool(self._poll.poll(0))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _word(digest: str) -> int:
    return int.from_bytes(bytes.fromhex(digest), "little", signed=True)


def _digest(word: int) -> str:
    return int(word).to_bytes(8, "little", signed=True).hex()


def _name_checked(instance: str, name: str) -> str:
    if not INSTANCE.fullmatch(instance):
        raise SegmentError(f"instance {instance!r}: must match {INSTANCE.pattern}")
    if not _NAME.fullmatch(name):
        raise SegmentError(f"segment name {name!r}: must match {_NAME.pattern}")
    return f"{PREFIX}{instance}.{name}"


@contextmanager
def _locked(fd: int, operation: int, label: str) -> Iterator[None]:
    """Hold flock on a segment's inode; give up rather than hang on a stopped process."""
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, operation | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > until:
                raise SegmentError(
                    f"segment {label}: another process has been making or removing it for "
                    f"{_LOCK_SECONDS:.0f} s. See: perpcore shm ls"
                ) from None
            time.sleep(0.002)
    try:
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)


@contextmanager
def _opened(file: str, flags: int = 0, mode: int = 0o660) -> Iterator[int]:
    """File descriptor of a segment, open for this block only."""
    try:
        memory = posix_ipc.SharedMemory(f"/{file}", flags, mode)
    except posix_ipc.PermissionsError:
        raise SegmentError(
            f"{FOLDER / file} may not be opened by user {os.getuid()}. "
            "Run as the engine's user or as a member of its group"
        ) from None
    try:
        yield memory.fd
    finally:
        memory.close_fd()


def _read_header(fd: int) -> Any:
    """The header row behind `fd`; zeros for a file shorter than one."""
    page = os.pread(fd, PAGE_BYTES, 0).ljust(PAGE_BYTES, b"\0")
    return np.frombuffer(page, SEGMENT_HEADER.dtype)[0]


def _state(header: Any) -> str:
    """Of a header read while nobody held the lock exclusively."""
    if header["magic"] == 0:
        return "unfinished"
    if header["magic"] != MAGIC:
        return "foreign"
    alive = process_start(int(header["pid"])) == int(header["process_start"])
    return "live" if alive else "dead"


def _written_by(header: Any) -> str:
    at = datetime.fromtimestamp(int(header["created_ns"]) / 1e9)
    return f"written by pid {int(header['pid'])} at {at:%H:%M:%S}"


class Segment:
    """A mapping of one segment; `arrays` are its parts, each 4096-aligned.

    Use `create` or `attach`. The mapping lives as long as this object or any array out of it.
    """

    def __init__(
        self, label: str, file: str, memory: mmap.mmap, parts: Sequence[Part], inode: int
    ) -> None:
        self.label = label
        self.parts = tuple(parts)
        self.arrays: dict[str, np.ndarray[Any, Any]] = {}
        self._file = file
        self._memory = memory
        self._inode = inode
        starts, self.size_bytes = layout(parts)
        for part, start in zip(parts, starts, strict=True):
            self.arrays[part.name] = np.frombuffer(memory, part.dtype, part.rows, start)
        self._header = np.frombuffer(memory, SEGMENT_HEADER.dtype, 1)

    @property
    def epoch(self) -> int:
        return int(self._header[0]["epoch"])

    @classmethod
    def create(
        cls, instance: str, name: str, parts: Sequence[Part], epoch: int, mode: int = 0o660
    ) -> Segment:
        """Make a segment of zeros, owned by this process.

        Replaces one whose owner is dead. Raises SegmentError when the owner lives, or when
        /dev/shm has no room.
        """
        file, label = _name_checked(instance, name), f"{instance}.{name}"
        if not parts or len({p.name for p in parts}) != len(parts):
            raise ValueError(f"segment {label}: parts must have names of their own")
        if any(p.rows < 1 for p in parts):
            raise ValueError(f"segment {label}: a part has no rows")
        while True:
            try:
                opened = _opened(file, posix_ipc.O_CREX, mode)
                with opened as fd, _locked(fd, fcntl.LOCK_EX, label):
                    if os.fstat(fd).st_nlink == 0:
                        continue  # somebody took it for a dead one before we had the lock
                    return cls._fill(fd, file, label, parts, epoch, mode)
            except posix_ipc.ExistentialError:
                _remove_dead(file, label)

    @classmethod
    def _fill(
        cls, fd: int, file: str, label: str, parts: Sequence[Part], epoch: int, mode: int
    ) -> Segment:
        """Size, map and describe a segment just made; the caller holds its lock."""
        size = layout(parts)[1]
        try:
            os.fchmod(fd, mode)  # shm_open obeyed the umask
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            os.unlink(FOLDER / file)
            if error.errno != errno.ENOSPC:
                raise
            room = os.statvfs(FOLDER)
            raise SegmentError(
                f"segment {label}: needs {size:,} bytes, {FOLDER} has "
                f"{room.f_bavail * room.f_frsize:,} free of {room.f_blocks * room.f_frsize:,}. "
                "Lower [limits] or [rings] in perpcore.toml, remove dead segments "
                f"(perpcore shm ls), or: mount -o remount,size=... {FOLDER}"
            ) from None
        memory = mmap.mmap(fd, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        segment = cls(label, file, memory, parts, os.fstat(fd).st_ino)
        header = segment._header[0]
        header["layouts"] = _word(layouts_digest())
        header["parts"] = _word(parts_digest(parts))
        header["epoch"] = epoch
        header["pid"] = os.getpid()
        header["process_start"] = process_start(os.getpid())
        header["created_ns"] = time.time_ns()
        header["size_bytes"] = size
        text = label.encode()
        header["name"][: len(text)] = np.frombuffer(text, np.uint8)
        header["magic"] = MAGIC
        return segment

    @classmethod
    def attach(
        cls,
        instance: str,
        name: str,
        parts: Sequence[Part],
        epoch: int | None = None,
        *,
        writable: bool = True,
        dead: bool = False,
    ) -> Segment:
        """Map a segment that another process made, or refuse and say why.

        epoch       the start of the engine it must belong to; None for any
        writable    False maps it read-only and does not prefault: for tools
        dead        True also takes one whose owner is gone: for looking at what it left
        """
        file, label = _name_checked(instance, name), f"{instance}.{name}"
        try:
            with _opened(file) as fd, _locked(fd, fcntl.LOCK_SH, label):
                _verify(fd, label, parts, epoch, dead)
                flags = mmap.MAP_SHARED | (mmap.MAP_POPULATE if writable else 0)
                access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
                memory = mmap.mmap(fd, layout(parts)[1], flags=flags, prot=access)
                return cls(label, file, memory, parts, os.fstat(fd).st_ino)
        except posix_ipc.ExistentialError:
            raise SegmentError(
                f"segment {label}: there is none. Is the engine of instance {instance!r} running?"
            ) from None

    def owner_alive(self) -> bool:
        """Whether the process that made it still runs."""
        return _state(self._header[0]) == "live"

    def current(self) -> bool:
        """Whether the name still leads to this memory: False once it was removed or replaced."""
        try:
            return os.stat(FOLDER / self._file).st_ino == self._inode
        except FileNotFoundError:
            return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the segment's lock for a few lines that no other process may run meanwhile.

        raises      SegmentError: the name was removed since this was made or attached to
        """
        try:
            with _opened(self._file) as fd, _locked(fd, fcntl.LOCK_EX, self.label):
                yield
        except posix_ipc.ExistentialError:
            raise SegmentError(f"segment {self.label}: was removed just now") from None

    def close(self) -> None:
        """Drop the arrays; the memory is unmapped when the last array out of it is gone."""
        self.arrays.clear()
        self._header = np.zeros(1, SEGMENT_HEADER.dtype)
        with suppress(BufferError):  # an array still held keeps the mapping alive, as it must
            self._memory.close()

    def unlink(self) -> None:
        """Remove the name, unless it has come to mean another segment."""
        if self.current():
            os.unlink(FOLDER / self._file)


def _foreign(header: Any, label: str) -> SegmentError:
    return SegmentError(
        f"segment {label}: magic {_digest(header['magic'])} != {_digest(MAGIC)} of this build. "
        f"{RESET} --force"
    )


def _verify(fd: int, label: str, parts: Sequence[Part], epoch: int | None, dead: bool) -> None:
    """Raise SegmentError unless what is behind `fd` is the segment that the caller means."""
    header = _read_header(fd)
    state = _state(header)
    if state == "unfinished":
        # A maker has the name a moment before it has the lock.
        raise SegmentError(
            f"segment {label}: unfinished: it is being made now, or its maker died. If it stays "
            f"so: {RESET}"
        )
    if state == "foreign":
        raise _foreign(header, label)
    by = _written_by(header)
    for what, got, wanted in (
        ("layout", _digest(header["layouts"]), layouts_digest()),
        ("parts", _digest(header["parts"]), parts_digest(parts)),
    ):
        if got != wanted:
            raise SegmentError(
                f"segment {label}: {what} digest {got} != {wanted} of this build; {by}. {RESET}"
            )
    wanted_size = layout(parts)[1]
    for size in (os.fstat(fd).st_size, int(header["size_bytes"])):
        if size != wanted_size:
            raise SegmentError(
                f"segment {label}: {size:,} bytes, must be {wanted_size:,}; {by}. {RESET}"
            )
    if epoch is not None and int(header["epoch"]) != epoch:
        raise SegmentError(
            f"segment {label}: epoch {int(header['epoch'])} != {epoch} of the running engine; "
            f"{by}. {RESET}"
        )
    if state == "dead" and not dead:
        raise SegmentError(
            f"segment {label}: the process that made it is gone; {by}, epoch "
            f"{int(header['epoch'])}. Start the engine again, or: perpcore shm reset"
        )


def _remove_dead(file: str, label: str) -> None:
    """Remove what stands under a name; raise SegmentError if its owner lives."""
    try:
        with _opened(file) as fd, _locked(fd, fcntl.LOCK_EX, label):
            if os.fstat(fd).st_nlink == 0:
                return
            header = _read_header(fd)
            if _state(header) == "foreign":  # of a release whose owner we cannot make out
                raise _foreign(header, label)
            if _state(header) == "live":
                raise SegmentError(
                    f"segment {label}: in use, {_written_by(header)}, epoch "
                    f"{int(header['epoch'])}. Stop that engine, or choose another instance name"
                )
            os.unlink(FOLDER / file)
    except posix_ipc.ExistentialError:
        return


def list_segments(instance: str | None = None) -> list[SegmentInfo]:
    """Every Perpcore segment of this host, or of one instance, by name."""
    found = []
    for path in sorted(FOLDER.glob(f"{PREFIX}*")):
        owner, _, name = path.name.removeprefix(PREFIX).partition(".")
        if instance not in (None, owner):
            continue
        header, state = np.zeros(1, SEGMENT_HEADER.dtype)[0], "unreadable"
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                header = _read_header(file.fileno())
                state = _state(header)
        except FileNotFoundError:
            continue
        except PermissionError:
            size = path.stat().st_size
        found.append(
            SegmentInfo(
                instance=owner,
                name=name,
                size_bytes=size,
                epoch=int(header["epoch"]),
                pid=int(header["pid"]),
                created_ns=int(header["created_ns"]),
                state=state,
                same_build=_digest(header["layouts"]) == layouts_digest(),
            )
        )
    return found


def remove_segments(instance: str, dead_only: bool = True) -> list[str]:
    """Remove an instance's segments; with `dead_only`, those whose owner is gone. Returns names.

    Processes that still map a removed segment keep their memory; nobody new finds it.
    """
    removed = []
    for info in list_segments(instance):
        file = f"{PREFIX}{info.instance}.{info.name}"
        try:
            if dead_only:
                _remove_dead(file, f"{info.instance}.{info.name}")
            else:
                os.unlink(FOLDER / file)
        except FileNotFoundError:
            continue
        except SegmentError:
            continue  # its owner lives, may live, or is making it now
        removed.append(info.name)
    return removed
