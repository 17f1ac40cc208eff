"""Signed requests that have come, until their time is over: each is dealt with once.

A network may bring a request twice, on two connections: by a proxy that sends again, by a client's
library. The engine refuses the second of two that it took (codes.Reason.REPLAYED). Here the second
is refused also where the first came to nothing: it was told "not accepted", and a copy of it that
was carried out a moment later would make that untrue.

Reads   and writes <data>/gateways.once, a file that every HTTP gateway of the instance maps.
Never   synced: it outlives gateways and engines, whatever kills them, not a power cut.

    page 0      MAGIC | buckets | a secret factor      all of it is words of 8 bytes
    bucket      63 names | 63 times: until, s << 32 | kept until, s | shut until, ms | 0

Invariants
    1. A name stands in its own bucket, and whoever looks or writes there holds the bucket's lock:
       of copies that come to several gateways at once one is the first. The kernel lets go of the
       lock when its holder dies, and a bucket is in order after each store.
    2. A name is written over when its time is over by both clocks: the host's, which people set,
       and the one that counts from the boot.
    3. What couldn't be remembered is refused, and its copies find the bucket shut until their time
       is over; so do copies of what was written over, should the host's clock be put back to it.
    4. Nobody can tell which bucket a request falls into, and so fill another's.

Known limitation: put back by more than two minutes, the host's clock may come a second time to what
was refused, written over and forgotten. What the engine took, the engine remembers.
"""

from __future__ import annotations

import logging
import mmap
import os
import secrets
import struct
import time
from collections.abc import Callable
from enum import Enum, auto
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, flock, lockf
from pathlib import Path
from typing import Final

from gateways.disk import reserve
from gateways.http.signing import FUTURE_MS, RECV_WINDOW_MS_MAX
from shm.files import DataError, magic_word
from shm.logs import Bound, say

LOG: Final = logging.getLogger("perpcore.http")
MAGIC: Final = magic_word("PERPONC1")
FIRST_WORD: Final = 512
BUCKET_WORDS: Final = 128
ROWS: Final = 63
BUCKETS: Final = 32_768  # a million names, a gateway's in the longest receive window, leave room
AHEAD_MS: Final = RECV_WINDOW_MS_MAX + FUTURE_MS  # how long a request's time may last
WAIT_S: Final = 0.25  # for a lock that is held for microseconds, unless its holder was stopped
PAUSE_S: Final = 20e-6
_SHUT: Final = 2 * ROWS  # word of a bucket
_HEAD: Final = struct.Struct("<qqQ")
_NAME: Final = struct.Struct("<q")
_KEPT_S: Final = AHEAD_MS // 1000 + 1
_LOWER: Final = (1 << 32) - 1
_OPEN_S: Final = 10.0


class Came(Enum):
    """What a signed request is."""

    FIRST = auto()
    COPY = auto()
    NO_ROOM = auto()  # perhaps the first, but there is no place to remember it


class Once:
    """The set, as one gateway maps it."""

    def __init__(
        self, path: Path, buckets: int = BUCKETS, steady_s: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises DataError: no room on the disk, or a gateway of another release uses the file.

        steady_s    a clock that nobody sets, the same in all processes
        """
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._buckets = buckets
        self._steady_s = steady_s
        self._fd = _opened(path, buckets)
        self._factor = _HEAD.unpack(os.pread(self._fd, _HEAD.size, 0))[2]
        self._map = mmap.mmap(self._fd, _size_bytes(buckets))
        self._words = memoryview(self._map).cast("q")
        self._lines = Bound(per_s=1, burst=5)

    def close(self) -> None:
        self._words.release()
        self._map.close()
        os.close(self._fd)

    def came(self, digest: tuple[int, int], until_ms: int, now_ms: int) -> Came:
        """Whether this request comes for the first time; from now on it has come.

        digest      what names it (signing.digest_of)
        until_ms    when it is too old, at most AHEAD_MS from now
        """
        high, low = digest
        # Only the upper bits of a product follow from all bits of what is multiplied.
        bucket = (high * self._factor >> 32 & _LOWER) * self._buckets >> 32
        try:
            lockf(self._fd, LOCK_EX | LOCK_NB, 1, bucket)
        except BlockingIOError:
            if not self._locked_late(bucket, until_ms, now_ms):
                return Came.NO_ROOM
        try:
            return self._claim(bucket, low, until_ms, now_ms)
        finally:
            lockf(self._fd, LOCK_UN, 1, bucket)

    def _claim(self, bucket: int, low: int, until_ms: int, now_ms: int) -> Came:
        """Write a name into a bucket, unless it is there. The caller holds the bucket's lock."""
        words, first = self._words, FIRST_WORD + bucket * BUCKET_WORDS
        times = first + ROWS
        name, at = _NAME.pack(low), 8 * first
        found = self._map.find(name, at, 8 * times)
        while found >= 0:
            if found % 8 == 0:
                return Came.COPY
            found = self._map.find(name, found + 1, 8 * times)  # it was across two names
        shut_ms, far_ms = words[first + _SHUT], now_ms + 2 * AHEAD_MS
        if until_ms <= shut_ms <= far_ms:
            return Came.NO_ROOM
        now_s, steady_s = now_ms // 1000, int(self._steady_s())
        row = low % ROWS
        for _ in range(ROWS):
            time_s = words[times + row]
            until_s = time_s >> 32
            # Kept for longer than any request is: since another boot.
            if until_s < now_s and not 0 <= (time_s & _LOWER) - steady_s <= _KEPT_S:
                if not 1000 * until_s + 999 <= shut_ms <= far_ms:
                    words[first + _SHUT] = 1000 * until_s + 999
                kept_s = steady_s + (until_ms - now_ms) // 1000 + 1
                words[times + row] = until_ms // 1000 << 32 | kept_s
                words[first + row] = low
                return Came.FIRST
            row = row + 1 if row + 1 < ROWS else 0
        self._shut(bucket, until_ms, now_ms)
        self._say("full", bucket)
        return Came.NO_ROOM

    # ------------------------------------------------------------ when it can't be remembered

    def _locked_late(self, bucket: int, until_ms: int, now_ms: int) -> bool:
        """Have the lock after all; False when its holder keeps it, stopped or dumping core."""
        give_up = time.monotonic() + WAIT_S
        while not self._is_shut(bucket, until_ms, now_ms):
            time.sleep(PAUSE_S)
            try:
                lockf(self._fd, LOCK_EX | LOCK_NB, 1, bucket)
            except BlockingIOError:
                if time.monotonic() > give_up:  # and don't wait for others that come
                    self._shut(bucket, now_ms + AHEAD_MS, now_ms)
                    self._say("locked by a gateway that doesn't go on", bucket)
            else:
                return True
        return False

    def _is_shut(self, bucket: int, until_ms: int, now_ms: int) -> bool:
        """Whether requests that end so early are refused, since some of them were forgotten.

        Not by a time that no request has: the host's clock was ahead.
        """
        shut_ms = self._words[FIRST_WORD + bucket * BUCKET_WORDS + _SHUT]
        return until_ms <= shut_ms <= now_ms + 2 * AHEAD_MS

    def _shut(self, bucket: int, until_ms: int, now_ms: int) -> None:
        """Refuse whatever ends until then."""
        if not self._is_shut(bucket, until_ms, now_ms):
            self._words[FIRST_WORD + bucket * BUCKET_WORDS + _SHUT] = until_ms

    def _say(self, why: str, bucket: int) -> None:
        left_out = self._lines.take()
        if left_out >= 0:
            say(LOG, logging.WARNING, "signed requests refused", bucket=bucket, why=why)


def _size_bytes(buckets: int) -> int:
    return 8 * (FIRST_WORD + buckets * BUCKET_WORDS)


def _opened(path: Path, buckets: int) -> int:
    """The file, made if need be; who uses it holds flock(LOCK_SH), who makes it LOCK_EX."""
    give_up = time.monotonic() + _OPEN_S
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if _ready(fd, path, buckets):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        if time.monotonic() > give_up:
            raise DataError(
                f"{path}: not {buckets} buckets of this release, and another gateway uses it. "
                "Stop every HTTP gateway of this instance, then start them again"
            )
        time.sleep(0.01)


def _ready(fd: int, path: Path, buckets: int) -> bool:
    """Whether the file is good, and ours to use; makes it where nobody uses it."""
    if _flocked(fd, LOCK_EX) and not _good(fd, buckets):
        _make(fd, path, buckets)
    return _flocked(fd, LOCK_SH) and _good(fd, buckets)  # another may have got in between


def _flocked(fd: int, operation: int) -> bool:
    try:
        flock(fd, operation | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _good(fd: int, buckets: int) -> bool:
    head = os.pread(fd, _HEAD.size, 0)
    size_good = os.fstat(fd).st_size == _size_bytes(buckets)
    return size_good and _HEAD.unpack(head)[:2] == (MAGIC, buckets)


def _make(fd: int, path: Path, buckets: int) -> None:
    """Begin anew: zeros that have their place on the disk, a new secret, and the magic last."""
    size_bytes = _size_bytes(buckets)
    os.ftruncate(fd, 0)
    try:
        reserve(fd, path, size_bytes)
    except DataError:
        os.ftruncate(fd, 0)
        raise
    # Real zeros, and not only their place: each page's first store would wait for the file system.
    zeros = bytes(1 << 20)
    for at in range(0, size_bytes, len(zeros)):
        os.pwrite(fd, zeros[: size_bytes - at], at)
    head = _HEAD.pack(MAGIC, buckets, secrets.randbits(64) | 1)
    os.pwrite(fd, head[8:], 8)
    os.pwrite(fd, head[:8], 0)
