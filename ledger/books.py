"""The reading end of the books: balances at any cut, entries, legs, accounts, traces.

Reads   the ledger's directory as far as its head says, beside a writer or without one.
Writes  nothing.
Never   imports numba, so that gateways and tools can stand on it.

A cut is a place between two entries, named by a sequence number or an instant: everything up to and
with it counts. Balances at a cut are the newest file of balances before it and the legs since; a
search by sequence or time is binary, over columns that only grow.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from ledger.chart import CHART, LEGS, LOTS, ROOTS, By, Code, Event, Key, owner_name, unpack
from ledger.files import (
    BALANCE_MAGIC,
    BALANCE_TYPES,
    COLUMNS,
    REMAKE,
    LedgerError,
    QuestionError,
    Segment,
    digest,
    list_segments,
    read_head,
    read_rows,
    unpack_sections,
)
from shm.records import LEDGER_BLOCK, LEDGER_BREAK, LEDGER_KEY, LEDGER_TRACE

Array = np.ndarray[Any, Any]
LINKS: Final = 256  # of an account's legs, one behind the other, before all legs are looked at
MAPPED: Final = 16  # segments kept mapped at most
NEVER: Final = (1 << 63) - 1
BOOKKEEPING: Final = (Event.JOURNAL, Event.REVERSAL, Event.CLOSE, Event.REOPEN)


class Cut(NamedTuple):
    """A place in the books: so many entries, so many legs; the last command and its time."""

    entries: int
    legs: int
    seq: int
    ts_ns: int


def read_names(folder: Path) -> dict[str, Any]:
    """Symbols and assets; LedgerError when the file has changed."""
    path = folder / "names"
    try:
        text, said, *_ = path.read_text().split("\n")
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise LedgerError(f"{path}: cannot be read: {error}. {REMAKE}") from None
    if digest(text.encode()).hex() != said or path.stat().st_size != len(text.encode()) + 66:
        raise LedgerError(f"{path}: its hash differs. {REMAKE}")
    return json.loads(text)


def _unique(names: dict[int, str]) -> dict[int, str]:
    """Names by number; one that several have is followed by the number."""
    count = Counter(names.values())
    return {k: name if count[name] == 1 else f"{name}-{k}" for k, name in names.items()}


class Books:
    """The books as they stood when this was made, or at the last `refresh`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mapped: dict[tuple[Path, str], Array] = {}
        self.refresh()

    def refresh(self) -> None:
        """See what was written since."""
        head = read_head(self.folder)[0]
        self.head = {name: int(head[name]) for name in head.dtype.names if head[name].ndim == 0}
        self.entries, self.legs = self.head["entries"], self.head["legs"]
        self.keys = read_rows(self.folder / "accounts", LEDGER_KEY, 0, self.head["accounts"])
        self.segments = [s for s in list_segments(self.folder) if s.first_entry <= self.entries]
        self._first_entries = [s.first_entry for s in self.segments]
        self._first_legs = [s.first_leg for s in self.segments]
        names = read_names(self.folder)
        self.assets: dict[int, dict[str, Any]] = {int(k): v for k, v in names["assets"].items()}
        self.symbols: dict[int, dict[str, Any]] = {int(k): v for k, v in names["symbols"].items()}
        self._names = {
            **_unique({k: str(v["name"]) or f"ASSET{k}" for k, v in self.assets.items()}),
            **{
                LOTS | k: name
                for k, name in _unique(
                    {k: str(v["name"]) or f"SYMBOL{k}" for k, v in self.symbols.items()}
                ).items()
            },
        }
        self._mapped.clear()

    # ------------------------------------------------------------ columns

    def _column(self, segment: Segment, name: str) -> Array:
        found = self._mapped.get((segment.path, name))
        if found is None:
            if len(self._mapped) >= MAPPED * len(COLUMNS):
                self._mapped.pop(next(iter(self._mapped)))
            path, dtype = segment.path / name, COLUMNS[name]
            if path.stat().st_size < dtype.itemsize:
                found = np.zeros(0, dtype)
            else:
                found = np.asarray(np.memmap(path, dtype, "c"))
            self._mapped[segment.path, name] = found
        return found

    def _bounds(self, at: int, name: str) -> tuple[int, int]:
        """First row of segment `at` and one past its last, counted over all segments."""
        segment = self.segments[at]
        entries = name == "entries"
        first = segment.first_entry if entries else segment.first_leg
        if at + 1 < len(self.segments):
            after = self.segments[at + 1]
            return first, after.first_entry if entries else after.first_leg
        return first, self.entries if entries else self.legs

    def pieces(self, name: str, first: int, last: int) -> Iterator[tuple[int, Array]]:
        """(index of the first, rows) of a column over [first, last), a segment at a time."""
        starts = self._first_entries if name == "entries" else self._first_legs
        for at in range(max(bisect_right(starts, first) - 1, 0), len(starts)):
            segment = self.segments[at]
            low, high = self._bounds(at, name)
            if low >= last:
                return
            begin, end = max(first, low), min(last, high)
            if begin >= end:
                continue
            rows = self._column(segment, name)
            if end - low > len(rows):
                raise LedgerError(f"{segment.path / name}: ends at row {len(rows)}. {REMAKE}")
            yield begin, rows[begin - low : end - low]

    def gather(self, name: str, places: Array) -> Array:
        """Rows of a column at ascending places."""
        starts = self._first_entries if name == "entries" else self._first_legs
        cuts = np.searchsorted(places, [*starts[1:], 1 << 62])
        begin, found = 0, [np.zeros(0, COLUMNS[name])]
        for segment, low, end in zip(self.segments, starts, cuts.tolist(), strict=True):
            if end > begin:
                found.append(self._column(segment, name)[places[begin:end] - low])
            begin = end
        return np.concatenate(found)

    def rows(self, name: str, first: int, last: int) -> Array:
        """A column over [first, last) in one array."""
        parts = [rows for _, rows in self.pieces(name, first, last)]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([*parts, np.zeros(0, COLUMNS[name])])

    # ------------------------------------------------------------ cuts

    def _cut_at(self, entries: int, seq: int | None = None, ts_ns: int | None = None) -> Cut:
        """The cut behind so many entries."""
        if entries == self.entries:
            said = Cut(entries, self.legs, self.head["seq"], self.head["ts_ns"])
        elif entries == 0:
            said = Cut(0, 0, 0, 0)
        else:
            last = self.entry_rows(entries - 1, 1)[0]
            legs = self.first_leg(entries - 1) + int(last["leg_count"])
            said = Cut(entries, legs, int(last["seq"]), int(last["recorded_ns"]))
        return said._replace(
            seq=said.seq if seq is None else seq, ts_ns=said.ts_ns if ts_ns is None else ts_ns
        )

    def _search(self, field: str, value: int) -> int:
        """How many entries have `field` at most `value`; the field never falls."""
        for at in reversed(range(len(self.segments))):
            low, high = self._bounds(at, "entries")
            rows = self._column(self.segments[at], "entries")[field][: high - low]
            if len(rows) and (int(rows[0]) <= value or at == 0):
                return low + int(np.searchsorted(rows, value, side="right"))
        return 0

    def cut_seq(self, seq: int) -> Cut:
        """Everything up to and with command `seq`."""
        if seq < 0:
            raise QuestionError(f"sequence {seq}, must be 0 or more")
        if seq > self.head["seq"]:
            raise QuestionError(f"the books have come to command {self.head['seq']}, not to {seq}")
        return self._cut_at(self._search("seq", seq), seq=seq)

    def cut(self, ts_ns: int) -> Cut:
        """Everything recorded up to and with an instant."""
        if ts_ns > self.head["ts_ns"]:
            return self._cut_at(self.entries)
        return self._cut_at(self._search("recorded_ns", ts_ns), ts_ns=ts_ns)

    def cut_entry(self, entries: int) -> Cut:
        """The first so many entries."""
        if not 0 <= entries <= self.entries:
            raise QuestionError(f"there are {self.entries} entries, not {entries}")
        return self._cut_at(entries)

    def now(self) -> Cut:
        return self._cut_at(self.entries)

    # ------------------------------------------------------------ balances

    @lru_cache(maxsize=2)  # noqa: B019  a Books is short-lived, and so is its cache
    def _snapshot(self, path: Path) -> tuple[Array, Array]:
        _meta, arrays = unpack_sections(path, BALANCE_MAGIC, BALANCE_TYPES)
        return arrays["balance"], arrays["last_leg"]

    def _newest_balances(self, legs: int) -> tuple[int, Array, Array]:
        """(legs it stands at, balances, last legs) of the newest sound file up to `legs`."""
        best = []
        for path in (self.folder / "balances").glob("*.*"):
            if path.suffix != ".tmp" and int(path.name.split(".")[1]) <= legs:
                best.append(path)
        for path in sorted(best, reverse=True):
            try:
                balance, last_leg = self._snapshot(path)
            except (LedgerError, OSError):
                continue  # `verify` tells; the one before and more legs say the same
            return int(path.name.split(".")[1]), balance, last_leg
        return 0, np.zeros(0, np.int64), np.zeros(0, np.int64)

    def balances(self, cut: Cut, effective_ns: int | None = None) -> Array:
        """Debits less credits of every account of the books at a cut; int64[accounts].

        effective_ns   count what bookkeepers dated up to then though they recorded it later, and
                       leave out what they dated later
        """
        at, balance, _ = self._newest_balances(cut.legs)
        total = np.zeros(len(self.keys), np.int64)
        total[: len(balance)] = balance
        for first, rows in self.pieces("account", at, cut.legs):
            np.add.at(total, rows, self.rows("amount", first, first + len(rows)))
        if effective_ns is not None:
            for entry in self.bookkeeping():
                row = self.entry_rows(entry, 1)[0]
                counts = int(row["effective_ns"]) <= effective_ns
                if counts != (entry < cut.entries):
                    for account, amount in zip(*self._leg_rows(entry), strict=True):
                        total[account] += amount if counts else -amount
        return total

    def turnover(self, first: int, last: int, *, without: tuple[int, ...] = ()) -> tuple[Any, Any]:
        """Debits and credits of every account over legs [first, last), as Python's integers.

        without   events whose entries are left out
        """
        if first > last:
            raise QuestionError("the span ends before it begins")
        debit = np.zeros((2, len(self.keys)), np.int64)
        credit = np.zeros((2, len(self.keys)), np.int64)
        skip = self._legs_of(first, last, without) if without else None
        for begin, rows in self.pieces("account", first, last):
            amounts = self.rows("amount", begin, begin + len(rows))
            if skip is not None:
                amounts = np.where(skip[begin - first : begin - first + len(rows)], 0, amounts)
            for to, part in ((debit, np.maximum(amounts, 0)), (credit, -np.minimum(amounts, 0))):
                # Two halves of 32 bits each: sums of 2^31 legs cannot leave int64.
                np.add.at(to[0], rows, part >> 32)
                np.add.at(to[1], rows, part & 0xFFFFFFFF)
        whole = [half[0].astype(object) * (1 << 32) + half[1].astype(object)
                 for half in (debit, credit)]  # fmt: skip
        return whole[0], whole[1]

    def _legs_of(self, first: int, last: int, events: tuple[int, ...]) -> Array:
        """Which legs of [first, last) are of entries with these events."""
        skip = np.zeros(last - first, np.bool_)
        for entry in self.bookkeeping():
            row = self.entry_rows(entry, 1)[0]
            if int(row["event"]) in events:
                at = self.first_leg(entry) - first
                skip[max(at, 0) : max(at + int(row["leg_count"]), 0)] = True
        return skip

    def bookkeeping(self) -> list[int]:
        """Entries that bookkeepers made."""
        found: list[int] = []
        for line in self.notes():
            first, last = line.get("entries", (0, 0))
            found += range(first, min(last, self.entries))
        return found

    def has_customer(self, account: int) -> bool:
        """Whether anything was ever booked for it."""
        return bool(((self.keys["key"] & 0xFFFFFFFF) == account).any())

    def find_key(self, key: int) -> int | None:
        """Row of an account of the books."""
        found = np.flatnonzero(self.keys["key"] == key)
        return int(found[0]) if len(found) else None

    def commodity_name(self, commodity: int) -> str:
        """Name of an asset, or of the contracts of a symbol; unique."""
        if commodity & LOTS:
            return f"{self.symbol_name(commodity & 0xFFFF)}.LOT"
        return self._names.get(commodity, f"ASSET{commodity}")

    def symbol_name(self, symbol: int) -> str:
        return self._names.get(LOTS | symbol, f"SYMBOL{symbol}")

    def scale(self, commodity: int) -> int:
        """Decimals of a commodity."""
        if commodity & LOTS:
            return 0
        return int(self.assets.get(commodity, {}).get("scale", 0))

    def commodity_of(self, key: Key) -> int:
        by = CHART[key.code].by
        if by == By.ASSET:
            return key.sub
        if by in (By.SYMBOL, By.SYMBOL_LEG):
            return int(self.symbols[key.sub]["asset"])
        return LOTS | key.sub

    # ------------------------------------------------------------ entries and legs

    def entry_rows(self, first: int, count: int) -> Array:
        """LEDGER_ENTRY rows; `first_leg` counts from the segment's first."""
        if not 0 <= first <= self.entries:
            raise QuestionError(f"there are entries 0 to {self.entries - 1}, not {first}")
        return self.rows("entries", first, min(first + count, self.entries))

    def first_leg(self, entry: int) -> int:
        """Index of an entry's first leg over all segments."""
        segment = self.segments[bisect_right(self._first_entries, entry) - 1]
        return segment.first_leg + int(self.entry_rows(entry, 1)[0]["first_leg"])

    def entry_of(self, leg: int) -> int:
        """The entry a leg belongs to."""
        return int(self.entries_of(np.array([leg]))[0])

    def entries_of(self, legs: Array) -> Array:
        """The entries that ascending legs belong to."""
        cuts = np.searchsorted(legs, [*self._first_legs[1:], 1 << 62])
        begin, found = 0, [np.zeros(0, np.int64)]
        for at, end in enumerate(cuts.tolist()):
            if end > begin:
                low, high = self._bounds(at, "entries")
                column = self._column(self.segments[at], "entries")["first_leg"][: high - low]
                starts = np.ascontiguousarray(column).astype(np.int64)
                inside = legs[begin:end] - self._first_legs[at]
                found.append(low + np.searchsorted(starts, inside, "right") - 1)
            begin = end
        return np.concatenate(found)

    def _leg_rows(self, entry: int) -> tuple[list[int], list[int]]:
        first = self.first_leg(entry)
        last = first + int(self.entry_rows(entry, 1)[0]["leg_count"])
        return (
            self.rows("account", first, last).tolist(),
            self.rows("amount", first, last).tolist(),
        )

    def entry_legs(self, entry: int) -> list[tuple[int, int]]:
        """(key, amount) of an entry's legs."""
        accounts, amounts = self._leg_rows(entry)
        return [
            (int(self.keys[a]["key"]), amount) for a, amount in zip(accounts, amounts, strict=True)
        ]

    def account_legs(self, row: int, first: int, last: int, limit: int | None = None) -> list[int]:
        """Legs of one account in [first, last), the oldest `limit` of them, oldest first.

        Through the links between them while they are few; else by looking at every leg.
        """
        at = self._last_leg(row, last)
        found: list[int] = []
        while at >= first and at >= 0:
            if len(found) == LINKS:
                return self._scan_legs(row, first, last, limit)
            found.append(at)
            at = int(self.rows("before", at, at + 1)[0])
        return found[::-1][:limit]

    def _scan_legs(self, row: int, first: int, last: int, limit: int | None) -> list[int]:
        found: list[int] = []
        for begin, rows in self.pieces("account", first, last):
            found += (begin + np.flatnonzero(rows == row)).tolist()
            if limit is not None and len(found) >= limit:
                break
        return found[:limit]

    def _last_leg(self, row: int, before: int) -> int:
        """The newest leg of an account below index `before`, or -1."""
        at, _balance, last_leg = self._newest_balances(before)
        best = int(last_leg[row]) if row < len(last_leg) else -1
        for begin, rows in self.pieces("account", at, before):
            found = np.flatnonzero(rows == row)
            if len(found):
                best = begin + int(found[-1])
        return best

    # ------------------------------------------------------------ what belongs to them

    def find_seq(self, seq: int) -> range:
        """Entries of one command."""
        return range(self._search("seq", seq - 1), self._search("seq", seq))

    def find_entries(
        self,
        *,
        order_id: int | None = None,
        reference: int | None = None,
        account: int | None = None,
        symbol: int | None = None,
        event: int | None = None,
        first: int = 0,
        last: int | None = None,
        limit: int = 100,
    ) -> list[int]:
        """Entries with these properties, oldest first."""
        wanted = {
            "order_id": order_id,
            "reference": reference,
            "account": account,
            "symbol": symbol,
            "event": event,
        }
        found: list[int] = []
        end = self.entries if last is None else min(last, self.entries)
        for begin, rows in self.pieces("entries", first, end):
            keep = np.ones(len(rows), np.bool_)
            for name, value in wanted.items():
                if value is not None:
                    keep &= rows[name] == value
            found += (begin + np.flatnonzero(keep)[: limit - len(found)]).tolist()
            if len(found) >= limit:
                break
        return found

    def traces(self) -> Array:
        return read_rows(self.folder / "traces", LEDGER_TRACE, 0, self.head["traces"])

    def trace_of(self, seq: int) -> tuple[int, int] | None:
        """Trace id of a command that made entries."""
        rows = self.traces()
        at = int(np.searchsorted(rows["seq"], seq))
        if at < len(rows) and int(rows[at]["seq"]) == seq:
            return int(rows[at]["trace_hi"]), int(rows[at]["trace_lo"])
        return None

    def trace_order(self, seq: int) -> int:
        """The order that the request behind a command was about; 0: none."""
        rows = self.traces()
        at = int(np.searchsorted(rows["seq"], seq))
        known = at < len(rows) and int(rows[at]["seq"]) == seq
        return int(rows[at]["order_id"]) if known else 0

    def find_trace(self, high: int, low: int) -> list[int]:
        """Commands with a trace id."""
        rows = self.traces()
        return rows["seq"][(rows["trace_hi"] == high) & (rows["trace_lo"] == low)].tolist()

    def breaks(self) -> Array:
        """What reports said otherwise than the books."""
        return read_rows(self.folder / "breaks", LEDGER_BREAK, 0, self.head["breaks"])

    def blocks(self) -> Array:
        return read_rows(self.folder / "blocks", LEDGER_BLOCK, 0, self.head["blocks"])

    def notes(self) -> list[dict[str, Any]]:
        """Lines of bookkeeping."""
        if self.head["notes"] == 0:
            return []
        data = (self.folder / "notes").read_bytes()[: self.head["notes"]]
        return [json.loads(line.rpartition(" ")[0]) for line in data.decode().splitlines()]

    def chain(self) -> str:
        """Hash of the newest closed block: the head of the chain."""
        blocks = self.head["blocks"]
        if blocks == 0:
            return "0" * 64
        row = read_rows(self.folder / "blocks", LEDGER_BLOCK, blocks - 1, 1)
        return row.view(np.int64).reshape(-1)[-4:].tobytes().hex()


def account_path(key: Key, books: Books) -> str:
    """The full name of an account of the books, as statements and exports print it."""
    line = key.line
    parts = [ROOTS[line.type], *line.path]
    who = owner_name(key)
    if who:
        parts.insert(2 if line.path[0] == "User" else 1 + len(line.path), who)
    if line.by == By.ASSET:
        parts.append(books.commodity_name(key.sub))
    else:
        parts.append(books.symbol_name(key.sub))
    if key.leg:
        # No account below the one-way position's: beancount's assertions count those below.
        parts[-1] += f"-{LEGS[key.leg]}"
    return ":".join(parts)


__all__ = ["BOOKKEEPING", "NEVER", "Books", "Code", "Cut", "account_path", "unpack"]
