"""The writing end of the books: reports in, each exactly once, whatever dies in between.

Reads   reports with their indices; what was taken up before is skipped, a gap is refused.
Writes  the ledger's directory (ledger/files.py), and nothing else.
Never   waits for the engine, never corrects what is written.

Everything written after the newest `state` file is thrown away at the next start and made again
from the reports, to the same bytes: entries, blocks and hashes are a function of the reports and of
the segment sizes alone. So kill -9 at any instant, a torn page or a power cut cost the reports of a
few seconds, read once more. Blocks that were closed before must come out with the same hash.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from ledger import postings
from ledger import tables as t
from ledger.books import Books
from ledger.chart import CHART, LOTS, By, Event, Key, unpack
from ledger.clerk import Clerk
from ledger.files import (
    BALANCE_MAGIC,
    COLUMNS,
    LAYOUT,
    MAGIC,
    STATE_MAGIC,
    STATE_TYPES,
    LedgerError,
    append_file,
    digest,
    list_segments,
    pack_sections,
    seal,
    segment_path,
    unpack_sections,
)
from ledger.tables import Book, reports_of
from ledger.tree import tree_root
from shm.codes import Kind
from shm.files import sync_file, sync_folder
from shm.kinds import COMMAND_RECORDS, PAYLOAD
from shm.pointers import table
from shm.records import (
    COMMAND,
    LEDGER_ACCOUNT,
    LEDGER_BLOCK,
    LEDGER_BREAK,
    LEDGER_HEAD,
    LEDGER_KEY,
    LEDGER_NOTE,
    LEDGER_ORDER,
    LEDGER_SYMBOL,
    LEDGER_TRACE,
    NO_SYMBOL,
    REPORT,
)

Array = np.ndarray[Any, Any]

SEGMENT_LEGS: Final = 1 << 20
SEGMENT_ENTRIES: Final = 1 << 18
BATCH: Final = 8192
BALANCE_LEGS: Final = 1 << 18  # legs between two files of all balances, at least
STATE_SECONDS: Final = 5.0
STATE_LEGS: Final = 1 << 22  # legs after which state is written, however fast they come
_ROOM: Final = 4096  # accounts at first
_SIDE_ROWS: Final = 16384  # traces and breaks between two commits


class Ledger:
    """The books of one data directory, open for writing. One process at a time."""

    def __init__(
        self,
        folder: Path,
        *,
        wal: tuple[int, int] = (0, 0),
        segment_legs: int = SEGMENT_LEGS,
        segment_entries: int = SEGMENT_ENTRIES,
        balance_legs: int = BALANCE_LEGS,
        span: int = postings.BLOCK_ENTRIES,
    ) -> None:
        """wal: which WAL the reports come from; sizes hold for a new directory only."""
        from ledger.lock import FolderLock

        self.folder = folder
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        (folder / "balances").mkdir(mode=0o750, exist_ok=True)
        self._lock = FolderLock(folder)
        self.wal = wal
        self.balance_legs = balance_legs
        self.cells = np.zeros(t.CELLS, np.int64)
        self.accounts = np.zeros(_ROOM, LEDGER_ACCOUNT.dtype)
        self.index = np.zeros(4 * _ROOM, np.int32)
        self.orders = np.zeros(2 * _ROOM, LEDGER_ORDER.dtype)
        self.symbols = _room(t.SYMBOLS, LEDGER_SYMBOL.dtype)
        self.assets: dict[int, dict[str, Any]] = {}
        self._declared: set[int] = set()  # symbols: their table has room for all there can be
        self.traces = _room(_SIDE_ROWS, LEDGER_TRACE.dtype)
        self.breaks = _room(_SIDE_ROWS, LEDGER_BREAK.dtype)
        self.batch = _room(BATCH, REPORT.dtype)
        self.reports = reports_of(self.batch)
        self.payload: list[int] = []
        self.sound = True
        self.clerk = Clerk(self)
        self.blocks = 0
        self.chain = bytes(32)
        self.flushed = {"traces": 0, "breaks": 0, "accounts": 0, "notes": 0}
        self.note_chain = bytes(32)
        self.beside = {"traces": b"", "breaks": b""}  # written since the last block
        self.expected: dict[int, bytes] = {}
        self.columns: dict[str, Array] = {}
        self.balance_at = 0  # legs at the newest file of balances
        self.state_at = (0, 0, time.monotonic())
        self._unsynced: set[Path] = set()
        self._files: dict[str, int] = {}
        self._names_dirty = True
        if not self._resume(segment_legs, segment_entries, span):
            self._begin(segment_legs, segment_entries, span)
        for name in ("accounts", "blocks", "traces", "breaks", "notes"):
            fd = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o640)
            os.ftruncate(fd, self._file_bytes(name))
            self._files[name] = fd
        self._open_segment()
        self.book = self._tables()
        t.rebuild_index(self.book)
        self.commit()

    # ------------------------------------------------------------ where it stands

    @property
    def next_report(self) -> int:
        """Index of the next report wanted."""
        return int(self.cells[t.REPORTS])

    @property
    def seq(self) -> int:
        return int(self.cells[t.SEQ])

    @property
    def entries(self) -> int:
        return int(self.cells[t.ENTRIES])

    @property
    def legs(self) -> int:
        return int(self.cells[t.LEGS])

    @property
    def locked_ns(self) -> int:
        """Periods up to here are closed."""
        return self.clerk.locked_ns

    # ------------------------------------------------------------ feeding

    def feed(self, index: int, rows: Array) -> int:
        """Book REPORT rows, the first of which has this index; returns how many were new.

        raises   LedgerError where there is a gap before them, or one cannot be booked
        """
        skip = self.next_report - index
        if skip < 0:
            raise LedgerError(
                f"{self.folder}: report {self.next_report} is the next, got {index}: there is a gap"
            )
        fresh = rows[skip:]
        self.sound = False  # until all of it is booked: half an entry must not become state
        for at in range(0, len(fresh), BATCH):
            part = fresh[at : at + BATCH]
            self.batch[: len(part)] = part
            self._post(len(part))
        self.sound = True
        return len(fresh)

    def _post(self, count: int) -> None:
        base = self.next_report
        at = 0
        while at < count:
            why = postings.post_reports(self.book, self.reports, at, count)
            at = self.next_report - base
            if why == postings.DONE:
                break
            if why == postings.SEGMENT:
                self.close_block()
                self._roll()
            elif why == postings.TABLES:
                self._grow()
            elif why == postings.BLOCK:
                self.close_block()
            elif why == postings.ASIDE:
                self._aside(self.batch[at])
                self.cells[t.REPORTS] += 1
                at += 1
            else:
                self._fail()
        if self.cells[t.TRACES] > _SIDE_ROWS // 2 or self.cells[t.BREAKS] > _SIDE_ROWS // 2:
            self._flush_side()

    def _fail(self) -> None:
        what = int(self.cells[t.FAULT])
        key = int(self.cells[t.FAULT_KEY])
        where = f"{self.folder}: report {self.next_report}, command {self.seq}"
        if what == t.OVERFLOW:
            k = unpack(key)
            raise LedgerError(
                f"{where}: {k.code.name} of {k.account} in {k.sub} would leave 64 bits"
            )
        if what == t.DISORDER:
            raise LedgerError(f"{where}: command {key} follows it; reports are not in order")
        raise LedgerError(
            f"{where}: symbol {key} was never declared in these reports. Begin at genesis, with "
            "reports of a release that tells what is declared"
        )

    # ------------------------------------------------------------ what is not for a kernel

    def _aside(self, row: Any) -> None:
        """A PARAMETERS report; the fourth of a command completes it."""
        status = int(row["status"])
        if status & 3 == 0:
            self.payload = []
        self.payload += np.asarray(row).reshape(1).view(np.int64)[2:].tolist()
        if status & 3 != 3:
            return
        kind = status >> 2
        if kind == Kind.BOOKKEEPING:
            words = np.array(self.payload[: len(PAYLOAD)], np.int64)
            self.clerk.take(words.view(LEDGER_NOTE.dtype)[0])
            return
        if kind not in (Kind.ASSET, Kind.SYMBOL):
            return
        command = np.zeros(1, COMMAND.dtype)
        command.view(np.int64)[list(PAYLOAD)] = self.payload[: len(PAYLOAD)]
        said = command.view(COMMAND_RECORDS[kind].dtype)[0]
        if kind == Kind.ASSET:
            name = said["name"].tobytes().rstrip(b"\0").decode("latin1")
            self.assets[int(said["asset"])] = {"name": name, "scale": int(said["scale"])}
        else:
            s = self.symbols[int(row["symbol"])]
            s["name"] = said["name"]
            s["declared"] = 1
            self._declared.add(int(row["symbol"]))
            s["asset"] = said["asset"]
            s["tick_lot_quanta"] = said["tick_lot_quanta"]
            s["tick_quanta"] = said["tick_quanta"]
        self._names_dirty = True

    def commodity_of(self, key: Key) -> int:
        """Asset, or LOTS | symbol, of an account of the books; -1 when it is not declared."""
        by = CHART[key.code].by
        if by == By.ASSET:
            return key.sub if key.sub in self.assets else -1
        if not self.symbols[key.sub]["declared"]:
            return -1
        money = by in (By.SYMBOL, By.SYMBOL_LEG)
        return int(self.symbols[key.sub]["asset"]) if money else LOTS | key.sub

    def add_note(self, line: dict[str, Any]) -> None:
        """Append a line of notes; its hash covers all before it."""
        text = json.dumps(line, sort_keys=True)
        self.note_chain = digest(self.note_chain + text.encode())
        data = f"{text} {self.note_chain.hex()}\n".encode()
        append_file(self._files["notes"], self.flushed["notes"], data)
        self.flushed["notes"] += len(data)

    def written(self) -> Books:
        """A reader of what is written by now."""
        self.commit()
        return Books(self.folder)

    def add_entry(
        self, event: Event, reference: int, effective_ns: int, legs: list[tuple[int, int]]
    ) -> None:
        """Book one entry of Python's making, with room made for it first."""
        c = self.cells
        if (
            c[t.ENTRIES] - c[t.FIRST_ENTRY] >= c[t.ROOM_ENTRIES]
            or c[t.LEGS] - c[t.FIRST_LEG] + len(legs) > c[t.ROOM_LEGS]
        ):
            self.close_block()
            self._roll()
        if c[t.ACCOUNTS] + len(legs) > c[t.ACCOUNT_ROOM]:
            self._grow()
        at = self.entries - int(c[t.FIRST_ENTRY])
        postings.begin_entry(self.book, int(event), 0, NO_SYMBOL, 0, reference)
        if effective_ns:
            self.columns["entries"][at]["effective_ns"] = effective_ns
        for key, amount in legs:
            postings.leg(self.book, key, self.commodity_of(unpack(key)), amount)
        if c[t.FAULT]:
            self._fail()
        postings.end_entry(self.book)

    # ------------------------------------------------------------ blocks

    def close_block(self) -> None:
        """Hash the entries since the last block into a tree, and the tree into the chain."""
        c = self.cells
        first, count = int(c[t.BLOCK_ENTRY]), int(c[t.ENTRIES] - c[t.BLOCK_ENTRY])
        if count == 0:
            return
        self._flush_side()
        root = self._root(first)
        at = first - int(c[t.FIRST_ENTRY])
        entries = self.columns["entries"]
        last = entries[at + count - 1]
        first_leg = int(entries[at]["first_leg"]) + int(c[t.FIRST_LEG])
        row = np.zeros(1, LEDGER_BLOCK.dtype)
        row["block"], row["first_entry"], row["entry_count"] = self.blocks, first, count
        row["first_leg"], row["leg_count"] = first_leg, self.legs - first_leg
        row["first_seq"], row["last_seq"] = entries[at]["seq"], last["seq"]
        row["last_ns"], row["accounts"] = last["recorded_ns"], c[t.ACCOUNTS]
        row["traces"], row["breaks"] = self.flushed["traces"], self.flushed["breaks"]
        row["root"] = np.frombuffer(root, np.int64)
        beside = digest(self.beside["traces"] + self.beside["breaks"])
        row["beside"] = np.frombuffer(beside, np.int64)
        row["previous"] = np.frombuffer(self.chain, np.int64)
        seal(row)
        data = row.tobytes()
        known = self.expected.pop(self.blocks, None)
        if known is not None and known != data[-32:]:
            raise LedgerError(
                f"{self.folder}: block {self.blocks}, entries {first} to {first + count - 1}, was "
                "closed before with another hash: the reports since then have changed"
            )
        append_file(self._files["blocks"], self.blocks * len(data), data)
        self.blocks += 1
        self.chain = data[-32:]
        self.beside = {"traces": b"", "breaks": b""}
        c[t.BLOCK_ENTRY] = c[t.ENTRIES]
        if self.legs - self.balance_at >= max(self.balance_legs, 4 * int(c[t.ACCOUNTS])):
            self._write_balances()

    def _root(self, first: int) -> bytes:
        """Root of the tree over entries from `first` to the last, all of this segment."""
        at = first - int(self.cells[t.FIRST_ENTRY])
        count = self.entries - first
        entries = self.columns["entries"]
        return tree_root(
            entries, self.columns["account"], self.columns["amount"], self.accounts, at, count
        )

    def _write_balances(self) -> None:
        used = self.accounts[: int(self.cells[t.ACCOUNTS])]
        path = self.folder / "balances" / f"{self.entries:015d}.{self.legs:015d}"
        data = pack_sections(
            BALANCE_MAGIC,
            {"entries": self.entries, "legs": self.legs},
            {"balance": used["balance"].copy(), "last_leg": used["last_leg"].copy()},
        )
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(data)
        os.rename(temporary, path)
        self._unsynced.add(path)
        self.balance_at = self.legs

    # ------------------------------------------------------------ making things larger

    def _tables(self) -> Book:
        c = self.cells
        c[t.ACCOUNT_ROOM], c[t.ACCOUNT_BITS] = len(self.accounts), _bits(len(self.index))
        c[t.ORDER_BITS] = _bits(len(self.orders))
        c[t.ROOM_TRACES], c[t.ROOM_BREAKS] = len(self.traces), len(self.breaks)
        k = self.columns
        return Book(
            table(c),
            table(self.accounts),
            table(self.index),
            table(self.orders),
            table(self.symbols),
            table(k["entries"]),
            table(k["account"]),
            table(k["amount"]),
            table(k["balance"]),
            table(k["before"]),
            table(self.traces),
            table(self.breaks),
        )

    def _grow(self) -> None:
        c = self.cells
        self._flush_side()
        if c[t.ACCOUNTS] + 4 * postings.LEGS_MAX > c[t.ACCOUNT_ROOM]:
            grown = np.zeros(2 * len(self.accounts), LEDGER_ACCOUNT.dtype)
            grown[: len(self.accounts)] = self.accounts
            self.accounts, self.index = grown, np.zeros(4 * len(grown), np.int32)
            self.book = self._tables()
            t.rebuild_index(self.book)
        if 2 * c[t.ORDERS] >= len(self.orders):
            before = self.orders
            self.orders = np.zeros(2 * len(before), LEDGER_ORDER.dtype)
            c[t.ORDERS] = 0
            self.book = self._tables()
            t.copy_orders(table(before), len(before), self.book)

    def _roll(self) -> None:
        """Go on in a new segment; the open block was closed."""
        self._seal_segment()
        self.cells[t.FIRST_ENTRY], self.cells[t.FIRST_LEG] = self.entries, self.legs
        self._open_segment()
        self.book = self._tables()

    def _seal_segment(self) -> None:
        path = self._segment_path()
        for name, dtype in COLUMNS.items():
            self.columns[name] = np.zeros(0, dtype)
            file = path / name
            os.truncate(file, self._used(name) * dtype.itemsize)
            self._unsynced.add(file)

    def _used(self, name: str) -> int:
        c = self.cells
        if name == "entries":
            return int(c[t.ENTRIES] - c[t.FIRST_ENTRY])
        return int(c[t.LEGS] - c[t.FIRST_LEG])

    def _segment_path(self) -> Path:
        return segment_path(
            self.folder, int(self.cells[t.FIRST_ENTRY]), int(self.cells[t.FIRST_LEG])
        )

    def _open_segment(self) -> None:
        """Map the columns of the segment in hand; what is behind its last leg is zeros."""
        path = self._segment_path()
        path.mkdir(mode=0o750, exist_ok=True)
        for name, dtype in COLUMNS.items():
            room = self.cells[t.ROOM_ENTRIES if name == "entries" else t.ROOM_LEGS]
            size = int(room) * dtype.itemsize
            fd = os.open(path / name, os.O_RDWR | os.O_CREAT, 0o640)
            try:
                # A full disk is an error here, and not a SIGBUS in a kernel.
                os.ftruncate(fd, self._used(name) * dtype.itemsize)
                os.posix_fallocate(fd, 0, size)
                self.columns[name] = np.frombuffer(mmap.mmap(fd, size), dtype)
            finally:
                os.close(fd)

    # ------------------------------------------------------------ committing

    def _flush_side(self) -> None:
        """Append traces and breaks; the block that is closed next covers them."""
        for name, rows, cell in (
            ("traces", self.traces, t.TRACES),
            ("breaks", self.breaks, t.BREAKS),
        ):
            count = min(int(self.cells[cell]), len(rows))
            if count:
                data = rows[:count].tobytes()
                append_file(self._files[name], self.flushed[name] * rows.itemsize, data)
                self.beside[name] += data
                self.flushed[name] += count
            self.cells[cell] = 0

    def commit(self) -> None:
        """Show readers what is written."""
        c = self.cells
        self._flush_side()
        have, count = self.flushed["accounts"], int(c[t.ACCOUNTS])
        if count > have:
            rows = np.zeros(count - have, LEDGER_KEY.dtype)
            rows["key"] = self.accounts["key"][have:count]
            rows["commodity"] = self.accounts["commodity"][have:count]
            append_file(self._files["accounts"], have * rows.itemsize, rows.tobytes())
            self.flushed["accounts"] = count
        if self._names_dirty:
            self._write_names()
        head = np.zeros(1, LEDGER_HEAD.dtype)
        head["magic"], head["layout"] = MAGIC, LAYOUT
        head["wal_hi"], head["wal_lo"] = self.wal
        head["entries"], head["legs"], head["accounts"] = self.entries, self.legs, count
        head["traces"], head["breaks"] = self.flushed["traces"], self.flushed["breaks"]
        head["blocks"], head["seq"], head["ts_ns"] = self.blocks, c[t.SEQ], c[t.TS_NS]
        head["reports"], head["locked_ns"] = c[t.REPORTS], self.locked_ns
        head["pid"], head["updated_ns"] = os.getpid(), time.time_ns()
        head["segment_legs"], head["segment_entries"] = c[t.ROOM_LEGS], c[t.ROOM_ENTRIES]
        head["notes"] = self.flushed["notes"]
        seal(head)
        append_file(self._files["head"], 0, head.tobytes())

    def _names(self) -> dict[str, Any]:
        """Symbols and assets as JSON."""
        return {
            "assets": {str(k): v for k, v in sorted(self.assets.items())},
            "symbols": {
                str(k): {
                    "name": self.symbols[k]["name"].tobytes().rstrip(b"\0").decode("latin1"),
                    "asset": int(self.symbols[k]["asset"]),
                    "tick_lot_quanta": int(self.symbols[k]["tick_lot_quanta"]),
                    "tick_quanta": int(self.symbols[k]["tick_quanta"]),
                }
                for k in sorted(self._declared)
            },
        }

    def _write_names(self) -> None:
        text = json.dumps(self._names(), sort_keys=True)
        data = f"{text}\n{digest(text.encode()).hex()}\n".encode()
        temporary = self.folder / "names.tmp"
        temporary.write_bytes(data)
        os.rename(temporary, self.folder / "names")
        self._unsynced.add(self.folder / "names")
        self._names_dirty = False

    def maybe_checkpoint(self) -> bool:
        """Write state when enough has come since the last one; returns whether it did."""
        reports, legs, when = self.state_at
        if self.next_report == reports:
            return False
        if self.legs - legs < STATE_LEGS and time.monotonic() - when < STATE_SECONDS:
            return False
        self.checkpoint()
        return True

    def checkpoint(self) -> None:
        """Make everything durable, and write what the next start goes on from."""
        self.commit()
        path = self._segment_path()
        for name in COLUMNS:
            self._unsynced.add(path / name)
        for file in sorted(self._unsynced):
            if file.exists():
                sync_file(file)
        self._unsynced.clear()
        for fd in self._files.values():
            os.fsync(fd)
        for folder in (path, self.folder / "balances", self.folder):
            sync_folder(folder)
        used = int(self.cells[t.ACCOUNTS])
        live = self.orders[self.orders["order_id"] != 0]
        live = live[np.argsort(live["order_id"])]
        meta = {
            "wal": list(self.wal),
            "names": self._names(),
            "blocks": self.blocks,
            "chain": self.chain.hex(),
            "flushed": self.flushed,
            "note_chain": self.note_chain.hex(),
            "beside": {name: data.hex() for name, data in self.beside.items()},
            "tail": self._root(int(self.cells[t.BLOCK_ENTRY])).hex(),
            "balance_at": self.balance_at,
            "payload": self.payload,
            "clerk": self.clerk.state(),
        }
        data = pack_sections(
            STATE_MAGIC,
            meta,
            {"cells": self.cells, "accounts": self.accounts[:used], "orders": live},
        )
        state = self.folder / f"state.{self.next_report:015d}"
        temporary = state.with_suffix(".tmp")
        temporary.write_bytes(data)
        sync_file(temporary)
        os.rename(temporary, state)
        sync_folder(self.folder)
        for old in sorted(self.folder.glob("state.*"))[:-2]:
            old.unlink()
        self.state_at = (self.next_report, self.legs, time.monotonic())

    def close(self) -> None:
        """Leave: state is written, so that the next start has nothing to make again.

        After a report that could not be booked nothing is written: the next start reads it again.
        """
        if self._files:
            if self.sound:
                self.checkpoint()
            self.abandon()

    def abandon(self) -> None:
        """Leave as a kill would: nothing more is written."""
        for fd in self._files.values():
            os.close(fd)
        self._files = {}
        self.columns = {}
        self._lock.release()

    # ------------------------------------------------------------ starting

    def _begin(self, legs: int, entries: int, span: int) -> None:
        """An empty directory's books."""
        assert legs >= 4 * postings.LEGS_MAX and entries >= 4 and span >= 1
        for path in (*self.folder.glob("seg.*"), self.folder / "balances"):
            shutil.rmtree(path, ignore_errors=True)
        (self.folder / "balances").mkdir(mode=0o750, exist_ok=True)
        for path in self.folder.glob("state.*"):
            path.unlink()
        c = self.cells
        c[t.ROOM_LEGS], c[t.ROOM_ENTRIES], c[t.SPAN] = legs, entries, span
        self._files["head"] = os.open(self.folder / "head", os.O_RDWR | os.O_CREAT, 0o640)

    def _resume(self, legs: int, entries: int, span: int) -> bool:
        """Go on from the newest sound state; everything after it is made again."""
        for path in sorted(self.folder.glob("state.*"), reverse=True):
            if path.suffix == ".tmp":
                path.unlink()
                continue
            try:
                meta, arrays = unpack_sections(path, STATE_MAGIC, STATE_TYPES)
            except LedgerError:
                path.unlink()  # an older one, or the reports from the first, make the same books
                continue
            if tuple(meta["wal"]) != self.wal:
                raise LedgerError(f"{self.folder}: the books of another WAL. Move them away")
            self._take(meta, arrays)
            return True
        return False

    def _take(self, meta: dict[str, Any], arrays: dict[str, Array]) -> None:
        self.cells[:] = arrays["cells"]
        rows = arrays["accounts"]
        room = max(_ROOM, 1 << (len(rows) + 4 * postings.LEGS_MAX).bit_length())
        self.accounts = np.zeros(room, LEDGER_ACCOUNT.dtype)
        self.accounts[: len(rows)] = rows
        self.index = np.zeros(4 * room, np.int32)
        live = arrays["orders"]
        room = max(2 * _ROOM, 1 << (2 * len(live) + 2).bit_length())
        self.orders = np.zeros(room, LEDGER_ORDER.dtype)
        self.columns = {name: np.zeros(1, dtype) for name, dtype in COLUMNS.items()}
        self.cells[t.ORDERS] = 0
        if len(live):
            t.copy_orders(table(live), len(live), self._tables())
        self.blocks, self.chain = meta["blocks"], bytes.fromhex(meta["chain"])
        self.flushed = meta["flushed"]
        self.note_chain = bytes.fromhex(meta["note_chain"])
        self.beside = {name: bytes.fromhex(text) for name, text in meta["beside"].items()}
        self.balance_at = meta["balance_at"]
        self.payload = meta["payload"]
        self.clerk.restore(meta["clerk"])
        self._remember_blocks()
        for segment in list_segments(self.folder):
            if segment.first_entry > self.cells[t.FIRST_ENTRY]:
                shutil.rmtree(segment.path)
        for path in (self.folder / "balances").iterdir():
            if path.suffix == ".tmp" or int(path.name.split(".")[0]) > self.entries:
                path.unlink()
        self._take_names(meta["names"])
        self._files["head"] = os.open(self.folder / "head", os.O_RDWR | os.O_CREAT, 0o640)
        self.state_at = (self.next_report, self.legs, time.monotonic())

    def _remember_blocks(self) -> None:
        """Hashes of blocks that were closed after the state: they must come out again."""
        path = self.folder / "blocks"
        if not path.exists():
            return
        data = path.read_bytes()
        width = LEDGER_BLOCK.dtype.itemsize
        for block in range(self.blocks, len(data) // width):
            row = np.frombuffer(data[block * width : (block + 1) * width], LEDGER_BLOCK.dtype)
            words = row.view(np.int64)
            if digest(words[:-4].tobytes()) == words[-4:].tobytes():
                self.expected[block] = words[-4:].tobytes()

    def _take_names(self, found: dict[str, Any]) -> None:
        self.assets = {int(k): v for k, v in found["assets"].items()}
        for k, v in found["symbols"].items():
            s = self.symbols[int(k)]
            s["name"] = np.frombuffer(v["name"].encode("latin1").ljust(16, b"\0"), np.int64)
            s["declared"], s["asset"] = 1, v["asset"]
            self._declared.add(int(k))
            s["tick_lot_quanta"], s["tick_quanta"] = v["tick_lot_quanta"], v["tick_quanta"]

    def _file_bytes(self, name: str) -> int:
        """How long a file is when nothing is in it that has to be made again."""
        widths = {
            "accounts": LEDGER_KEY.dtype.itemsize,
            "traces": LEDGER_TRACE.dtype.itemsize,
            "breaks": LEDGER_BREAK.dtype.itemsize,
            "notes": 1,
        }
        if name == "blocks":
            return self.blocks * LEDGER_BLOCK.dtype.itemsize
        return int(self.flushed[name]) * widths[name]


def _room(rows: int, dtype: np.dtype[Any]) -> Array:
    """A zeroed table of which only what is used takes memory, and time."""
    size = rows * dtype.itemsize
    return np.frombuffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype)


def _bits(size: int) -> int:
    assert size & (size - 1) == 0
    return size.bit_length() - 1
