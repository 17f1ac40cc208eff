"""What was taken of each client's messages: a file that outlives the process that writes it.

Reads   <data>/sessions.<producer>, mapped; the ring's last number once, after a restart.
Writes  one row a session: its messages' answers, and whether its silence cancels.
Never   synced: it must outlive a killed gateway, not a crashed host. A file of another boot or
        another WAL starts empty, and a client whose session isn't in it is told so.

    words 0-7   MAGIC, boot id (2), WAL id (2), window, rows, the highest request given out
    row         session, key, account, number of the newest message, last use in ms, armed, 0, 0
                WINDOW answers: message number, first request, commands taken | why << 32

An answer is noted before its commands go into the ring, and cut afterwards to what went in. Killed
in between: `settle` cuts the newest answers by what the ring says was handed over last.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from pathlib import Path
from typing import Final, NamedTuple

from gateways.disk import reserve
from gateways.zmq.protocol import NOT_RUNNING, WHYS, WINDOW
from shm.files import DataError, magic_word

MAGIC: Final = magic_word("PERPSES1")
HEAD_WORDS: Final = 8
ROW_HEAD: Final = 8
ROW_WORDS: Final = ROW_HEAD + 3 * WINDOW
OF_A_KEY_MAX: Final = 16  # sessions of one key that are remembered or connected
_SESSION, _KEY, _ACCOUNT, _LAST, _USED, _ARMED = range(6)
_GIVEN: Final = 7


class Answer(NamedTuple):
    """What a message came to: `taken` commands from `first_request` on, the others for `why`."""

    first_request: int
    taken: int
    why: str


class TooManySessions(RuntimeError):
    """No row is free: all are of connected clients."""


def boot_words() -> tuple[int, int]:
    """This boot of the host, as two words."""
    text = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    return _signed(int(text[:16], 16)), _signed(int(text[16:], 16))


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


class Sessions:
    """The mapped file. Rows are named by their number."""

    def __init__(self, path: Path, rows: int, wal: tuple[int, int]) -> None:
        """wal: id of the log that requests are counted in; (0, 0) while there is none.

        raises      DataError: the disk has no room for the file, or another process writes it
        """
        head = (MAGIC, *boot_words(), *wal, WINDOW, rows)
        size_bytes = 8 * (HEAD_WORDS + rows * ROW_WORDS)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Whoever empties the file ends a process that has mapped it (SIGBUS).
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise DataError(
                f"{path}: another gateway of this number runs. Stop it first, or give this one "
                "another: --number"
            ) from None
        try:
            self._map = self._mapped(path, size_bytes, head)
        except BaseException:
            os.close(self._fd)
            raise
        self._words = memoryview(self._map).cast("q")
        self._rows = rows
        self._at: dict[tuple[int, int], int] = {}
        self._free: list[int] = []
        for row in reversed(range(rows)):
            at = HEAD_WORDS + row * ROW_WORDS
            if self._words[at + _SESSION]:
                self._at[self._words[at + _KEY], self._words[at + _SESSION]] = row
            else:
                self._free.append(row)
        self.settled = not self._at  # whether what is noted is known to be what happened

    def _mapped(self, path: Path, size_bytes: int, head: tuple[int, ...]) -> mmap.mmap:
        """The file as memory; zeros behind a head of our own, if it had another one."""
        kept = os.pread(self._fd, 8 * len(head), 0)
        fresh = os.fstat(self._fd).st_size != size_bytes or kept != _packed(head)
        if fresh:
            os.ftruncate(self._fd, 0)
        reserve(self._fd, path, size_bytes)
        if fresh:
            os.pwrite(self._fd, _packed(head), 0)
        return mmap.mmap(self._fd, size_bytes)

    def close(self) -> None:
        self._words.release()
        self._map.close()
        os.close(self._fd)

    # ------------------------------------------------------------ rows

    def find(self, key: int, session: int) -> int | None:
        return self._at.get((key, session))

    def add(self, key: int, session: int, account: int, connected: set[int]) -> int:
        """A row for a new session; the key's oldest one, or the oldest of all, makes room.

        connected   rows that may not go
        raises      TooManySessions
        """
        own = [row for (k, _), row in self._at.items() if k == key]
        crowd = own if len(own) >= OF_A_KEY_MAX else [] if self._free else self._at.values()
        if crowd:
            idle = [row for row in crowd if row not in connected]
            if not idle:
                raise TooManySessions
            self.drop(min(idle, key=lambda row: self._words[self._base(row) + _USED]))
        row = self._free.pop()
        at = self._base(row)
        self._map[8 * at : 8 * (at + ROW_WORDS)] = bytes(8 * ROW_WORDS)
        self._words[at + _KEY], self._words[at + _ACCOUNT] = key, account
        self._words[at + _SESSION] = session
        self._at[key, session] = row
        self.touch(row)
        return row

    def drop(self, row: int) -> None:
        """Forget a session."""
        at = self._base(row)
        del self._at[self._words[at + _KEY], self._words[at + _SESSION]]
        self._words[at + _SESSION] = 0
        self._free.append(row)

    def touch(self, row: int) -> None:
        self._words[self._base(row) + _USED] = time.time_ns() // 1_000_000

    def arm(self, row: int, armed: bool) -> None:
        """Whether the session's silence cancels its account's orders, whoever notices it."""
        self._words[self._base(row) + _ARMED] = int(armed)

    def armed(self) -> dict[int, int]:
        """Row -> account of sessions whose silence cancels."""
        found = {}
        for row in self._at.values():
            at = self._base(row)
            if self._words[at + _ARMED]:
                found[row] = self._words[at + _ACCOUNT]
        return found

    def _base(self, row: int) -> int:
        return HEAD_WORDS + row * ROW_WORDS

    # ------------------------------------------------------------ messages

    def last(self, row: int) -> int:
        """Number of the newest message of a session, 0: none."""
        return self._words[self._base(row) + _LAST]

    @property
    def given(self) -> int:
        """The highest request number that any message was given."""
        return self._words[_GIVEN]

    def note(self, row: int, number: int, first_request: int, count: int, why: str) -> None:
        """Message `number` gets `count` requests from `first_request` on."""
        words, at = self._words, self._base(row)
        answer = at + ROW_HEAD + number % WINDOW * 3
        words[answer + 1] = first_request
        words[answer + 2] = count | WHYS.index(why) << 32
        words[answer] = number
        words[at + _LAST] = number
        if count:
            words[_GIVEN] = max(words[_GIVEN], first_request + count - 1)

    def cut(self, row: int, number: int, count: int, why: str) -> None:
        """Only so many of them went into the ring."""
        answer = self._base(row) + ROW_HEAD + number % WINDOW * 3
        self._words[answer + 2] = count | WHYS.index(why) << 32

    def answer(self, row: int, number: int) -> Answer | None:
        """What message `number` came to, as long as it is remembered."""
        at = self._base(row) + ROW_HEAD + number % WINDOW * 3
        if number < 1 or self._words[at] != number:
            return None
        packed = self._words[at + 2]
        return Answer(self._words[at + 1], packed & 0xFFFFFFFF, WHYS[packed >> 32])

    def settle(self, last_request: int) -> None:
        """After a restart: nothing above `last_request` was ever handed over.

        A message of which nothing was is forgotten, so that it is done when it is said again.
        """
        for row in self._at.values():
            number = self.last(row)
            found = self.answer(row, number)
            if found is not None and found.first_request + found.taken - 1 > last_request:
                count = max(last_request - found.first_request + 1, 0)
                if count:
                    self.cut(row, number, count, NOT_RUNNING)
                else:
                    self._words[self._base(row) + ROW_HEAD + number % WINDOW * 3] = 0
                    self._words[self._base(row) + _LAST] = number - 1
        self.settled = True


def _packed(words: tuple[int, ...]) -> bytes:
    return b"".join(word.to_bytes(8, "little", signed=True) for word in words)
