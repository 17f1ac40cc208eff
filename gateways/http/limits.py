"""Request weight by address, orders by account, and bans; one count for all gateways of a host.

Reads   and writes <data>/gateways.limits, a file that every gateway maps: a row a subject, in it
        one column a gateway, so that each cell has one writer and nobody locks to count.
Never   forgets a ban when a gateway ends. When the file is full a new subject is counted here only.

    row     key | banned until, ms | bans | (window, count) for each of 3 limits and 8 gateways

Windows are those of the clock: a minute, ten seconds (fapi_surface 1.3).
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
from pathlib import Path
from typing import Final, NamedTuple

from gateways.disk import reserve
from gateways.http.errors import ApiError

INSTANCES: Final = 8
WEIGHT_1M: Final = 0
ORDERS_10S: Final = 1
ORDERS_1M: Final = 2
WINDOW_MS: Final = (60_000, 10_000, 60_000)
ROWS: Final = 4096
ROW_CELLS: Final = 64
_HEAD: Final = 4  # key, banned until, bans, last used
_FILE_BYTES: Final = ROWS * ROW_CELLS * 8
PROBES: Final = 32
BAN_FIRST_MS: Final = 120_000
BAN_MOST_MS: Final = 3 * 24 * 3600 * 1000
# Requests past a limit that are only told so; whoever goes on after them is banned.
GRACE: Final = 50


class Rates(NamedTuple):
    """What is allowed in a window."""

    weight_1m: int
    orders_10s: int
    orders_1m: int


class Limits:
    """This gateway's column of the counters, and the sums over all columns."""

    def __init__(self, path: Path, instance: int, rates: Rates) -> None:
        """instance: 0 to 7, another one for each gateway of this host.

        raises      DataError: the disk has no room for the file
        """
        self.rates = rates
        self._most = tuple(rates)
        self._instance = instance
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
        reserve(self._file, path, _FILE_BYTES)
        self._map = mmap.mmap(self._file, _FILE_BYTES)
        self._cells = memoryview(self._map).cast("q")
        self._rows: dict[str, tuple[int, int]] = {}  # subject -> its first cell, its key
        self._overflow: dict[str, list[int]] = {}
        self._over: dict[str, tuple[int, int]] = {}  # subject -> (window, requests past the limit)

    def close(self) -> None:
        self._cells.release()
        self._map.close()
        os.close(self._file)

    # ------------------------------------------------------------ counting

    def count(self, subject: str, limit: int, amount: int, now_ms: int) -> int:
        """Add to a subject's count; returns the sum over all gateways in this window."""
        window = now_ms // WINDOW_MS[limit]
        base = self._row(subject, now_ms)
        if base < 0:
            return self._count_here(subject, limit, amount, window)
        return self._add(base, limit, amount, window)

    def _add(self, base: int, limit: int, amount: int, window: int) -> int:
        cells = self._cells
        mine = base + _HEAD + (self._instance * 3 + limit) * 2
        if cells[mine] != window:
            cells[mine + 1] = 0
            cells[mine] = window
        cells[mine + 1] = own = cells[mine + 1] + amount
        at, end = base + _HEAD + limit * 2, base + _HEAD + INSTANCES * 6
        windows = cells[at:end:6].tolist()
        if windows.count(window) == 1:  # nobody else has counted it
            return own
        counts = cells[at + 1 : end : 6].tolist()
        return sum(n for w, n in zip(windows, counts, strict=True) if w == window)

    def _count_here(self, subject: str, limit: int, amount: int, window: int) -> int:
        if len(self._overflow) > 4 * ROWS:
            self._overflow.clear()
        cells = self._overflow.setdefault(subject, [0] * 6)
        if cells[2 * limit] != window:
            cells[2 * limit : 2 * limit + 2] = [window, 0]
        cells[2 * limit + 1] += amount
        return cells[2 * limit + 1]

    def _row(self, subject: str, now_ms: int) -> int:
        """First cell of a subject's row, or -1 when there is no room."""
        known = self._rows.get(subject)
        if known is not None and self._cells[known[0]] == known[1]:
            self._cells[known[0] + 3] = now_ms
            return known[0]
        key = _key(subject)
        base = self._claim(key, now_ms)
        if base >= 0:
            if len(self._rows) > 4 * ROWS:
                self._rows.clear()
            self._rows[subject] = base, key
        return base

    def _claim(self, key: int, now_ms: int) -> int:
        """The row of a key, made if there is none; under a lock, once for each new subject."""
        cells = self._cells
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            free = -1
            for k in range(PROBES):
                base = ((key + k) % ROWS) * ROW_CELLS
                if cells[base] == key:
                    return base
                idle = now_ms - cells[base + 3] > 120_000 and cells[base + 1] < now_ms
                if free < 0 and (cells[base] == 0 or idle):
                    free = base
            if free >= 0:
                for k in range(ROW_CELLS):
                    cells[free + k] = 0
                cells[free + 3] = now_ms
                cells[free] = key
            return free
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    # ------------------------------------------------------------ rules

    def refuse_banned(self, address: str, now_ms: int) -> None:
        """ApiError -1003 for who is banned: before anything is reckoned, or remembered, for it."""
        base = self._row(address, now_ms)
        if base >= 0 and self._cells[base + 1] > now_ms:
            raise self._banned(self._cells[base + 1], now_ms)

    def weigh(self, address: str, weight: int, now_ms: int) -> int:
        """Count a request; returns the weight used.

        raises      ApiError -1003: 429 past the limit, 418 for whoever goes on all the same
        """
        base = self._row(address, now_ms)
        if base >= 0:
            banned = self._cells[base + 1]
            if banned > now_ms:
                raise self._banned(banned, now_ms)
            used = self._add(base, WEIGHT_1M, weight, now_ms // WINDOW_MS[WEIGHT_1M])
        else:
            used = self.count(address, WEIGHT_1M, weight, now_ms)
        if used > self._most[WEIGHT_1M]:
            raise self._too_heavy(address, base, now_ms)
        return used

    def _too_heavy(self, address: str, base: int, now_ms: int) -> ApiError:
        window = now_ms // 60_000
        known, times = self._over.get(address, (window, 0))
        times = times + 1 if known == window else 1
        if len(self._over) > 4 * ROWS:
            self._over.clear()
        self._over[address] = (window, times)
        if times > GRACE and base >= 0:
            bans = min(self._cells[base + 2], 20)
            until = now_ms + min(BAN_FIRST_MS << bans, BAN_MOST_MS)
            self._cells[base + 1] = until
            self._cells[base + 2] = bans + 1
            return self._banned(until, now_ms)
        error = ApiError(-1003, address, self._most[WEIGHT_1M])
        error.retry_after_s = max(1, ((window + 1) * 60_000 - now_ms + 999) // 1000)
        return error

    @staticmethod
    def _banned(until_ms: int, now_ms: int) -> ApiError:
        error = ApiError(
            -1003,
            message=f"Way too many requests; IP banned until {until_ms}. "
            "Please use the websocket for live updates to avoid bans.",
            status=418,
        )
        error.retry_after_s = max(1, (until_ms - now_ms + 999) // 1000)
        return error

    def order(self, account: int, amount_10s: int, amount_1m: int, now_ms: int) -> tuple[int, int]:
        """Count new orders; returns the counts (10 s, 1 min).

        raises      ApiError -1015, and what was refused isn't counted
        """
        subject = f"account {account}"
        in_10s = self.count(subject, ORDERS_10S, amount_10s, now_ms)
        if in_10s > self._most[ORDERS_10S]:
            self.count(subject, ORDERS_10S, -amount_10s, now_ms)
            raise self._too_many(ORDERS_10S, "10 SECOND", now_ms)
        in_1m = self.count(subject, ORDERS_1M, amount_1m, now_ms)
        if in_1m > self._most[ORDERS_1M]:
            self.count(subject, ORDERS_10S, -amount_10s, now_ms)
            self.count(subject, ORDERS_1M, -amount_1m, now_ms)
            raise self._too_many(ORDERS_1M, "1 MINUTE", now_ms)
        return in_10s, in_1m

    def _too_many(self, limit: int, words: str, now_ms: int) -> ApiError:
        error = ApiError(-1015, self._most[limit], words)
        window = WINDOW_MS[limit]
        error.retry_after_s = max(1, (window - now_ms % window + 999) // 1000)
        return error

    def used(self, address: str, now_ms: int) -> int:
        """Weight used in this minute."""
        return self.count(address, WEIGHT_1M, 0, now_ms)

    def orders_used(self, account: int, now_ms: int) -> tuple[int, int]:
        """Orders counted in the last window of 10 s and 1 min."""
        subject = f"account {account}"
        return (
            self.count(subject, ORDERS_10S, 0, now_ms),
            self.count(subject, ORDERS_1M, 0, now_ms),
        )

    def rate_limits(self) -> list[dict[str, str | int]]:
        """As exchangeInfo tells them."""
        return [
            _rule("REQUEST_WEIGHT", "MINUTE", 1, self.rates.weight_1m),
            _rule("ORDERS", "MINUTE", 1, self.rates.orders_1m),
            _rule("ORDERS", "SECOND", 10, self.rates.orders_10s),
        ]


def _rule(kind: str, interval: str, number: int, limit: int) -> dict[str, str | int]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}


def _key(subject: str) -> int:
    """A positive word that names a subject."""
    return int.from_bytes(hashlib.blake2b(subject.encode(), digest_size=8).digest()) >> 2 or 1
