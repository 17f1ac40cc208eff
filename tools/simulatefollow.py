"""Those who follow a simulated exchange: its account view, and sometimes its ledger.

Reads   the reports that a follower of the simulation has heard, in whole commands.
Writes  the view's tables in memory, and its checkpoints; the ledger's own files, by the real store.
Never   looks into the engine but to compare, when nothing is in flight.

Each dies by itself now and then, or with the host. The view goes on from its last checkpoint, the
ledger from whatever its files hold: after a power cut each file is as it was at the last sync, or
as the page cache had it.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.files import read_manifest
from engine.pipeline import Arrays
from engine.state import Limits
from gateways.accounts import layout
from gateways.accounts.apply import apply_reports
from gateways.accounts.layout import Sizes, view_parts
from gateways.accounts.main import ViewState
from gateways.accounts.rows import batch_of
from ledger.reconcile import compare, laws
from ledger.store import Ledger
from shm.records import REPORT
from tools.inprocess import typed_once
from tools.ledger_facts import facts_of
from tools.simulatedisk import ALL, Died, dying

Rows = np.ndarray[Any, Any]
Read = Callable[[int, int], Rows]  # (index, count) -> REPORT rows of the log

CLOSED: Final = 64  # rows of the view for what has ended
BATCH: Final = 512
SEGMENT: Final = {"segment_legs": 1 << 10, "segment_entries": 1 << 8, "balance_legs": 1 << 8}
MONEY: Final = (
    *("wallet_quanta", "held_quanta", "isolated_quanta", "realised_quanta", "fees_quanta"),
    *("pending_quanta", "deposited_quanta", "withdrawn_quanta", "adjusted_quanta"),
)
PLACE: Final = ("account", "symbol", "position_side")
LOTS: Final = ("lots", "entry_quanta", "open_orders", "order_lots", "hold_quanta", "leverage")


class View:
    """The account view, without its process."""

    def __init__(self, limits: Limits) -> None:
        self.sizes = Sizes(
            *(limits.accounts, limits.assets, limits.symbols, limits.positions),
            *(limits.orders + CLOSED, limits.algos + CLOSED, limits.requests + CLOSED),
        )
        parts = view_parts(self.sizes)
        self.state = ViewState({p.name: np.zeros(p.rows, p.dtype) for p in parts}, self.sizes)
        self.rows = np.zeros(BATCH, REPORT.dtype)  # as the kernels take them, whatever comes
        self.batch = batch_of(self.rows)
        for tables in (self.state.tables, self.batch):
            typed_once(tables)
        self.kept = self.state.dump()

    @property
    def next(self) -> int:
        return int(self.state.arrays["head"][layout.INDEX])

    def feed(self, index: int, rows: Rows) -> None:
        rows = rows[self.next - index :]
        if len(rows) > len(self.rows):
            self.rows = np.zeros(len(rows), REPORT.dtype)
            self.batch = batch_of(self.rows)
        self.rows[: len(rows)].view(np.uint8)[:] = rows.view(np.uint8)
        apply_reports(self.state.tables, self.batch, len(rows))

    def checkpoint(self, _calls: int) -> bool:
        self.kept = self.state.dump()
        return True

    def crash(self, _chance: random.Random, _power: bool) -> None:
        """Its memory is gone; the checkpoint was written durably, whatever happened."""
        self.state.load(self.kept)

    def differs(self, arrays: Arrays, _limits: Limits) -> str:
        """What it says otherwise than the engine's tables."""
        mine = self.state.arrays
        for name in MONEY:
            if not np.array_equal(mine["wallets"][name], arrays["wallets"][name]):
                return f"the account view's {name} of a wallet"
        theirs = arrays["positions"][: arrays["venue"]["positions_used"][0]]
        if told(mine["positions"]) != told(theirs):
            return "a position of the account view"
        claims = arrays["claims"]
        live = claims["order_id"][(claims["order_id"] != 0) & (claims["done"] == 0)]
        orders = mine["orders"]
        if sorted(orders["order_id"][orders["open"] != 0].tolist()) != sorted(live.tolist()):
            return "the open orders of the account view"
        return ""

    def close(self) -> None:
        pass


def told(rows: Rows) -> dict[tuple[int, ...], tuple[int, ...]]:
    """Positions that are not flat, or have orders, by place."""
    rows = rows[(rows["lots"] != 0) | (rows["open_orders"] != 0)]
    return {tuple(int(row[n]) for n in PLACE): tuple(int(row[n]) for n in LOTS) for row in rows}


class Books:
    """The ledger, without its process."""

    def __init__(self, data: Path) -> None:
        self.data, self.folder = data, data / "ledger"
        manifest = read_manifest(data)
        self.wal = manifest.wal_hi, manifest.wal_lo
        self.ledger = Ledger(self.folder, wal=self.wal, **SEGMENT)
        for tables in (self.ledger.book, self.ledger.reports):
            typed_once(tables)
        self.durable: dict[Path, bytes] = {}
        self.checkpoint(ALL)

    @property
    def next(self) -> int:
        return self.ledger.next_report

    def feed(self, index: int, rows: Rows) -> None:
        self.ledger.feed(index, rows)
        self.ledger.commit()

    def _files(self) -> dict[Path, bytes]:
        names = (f"{at}/{name}" for at, _, files in os.walk(self.folder) for name in files)
        return {Path(name): _content(name) for name in sorted(names)}

    def checkpoint(self, calls: int) -> bool:
        """Write one; False when it was killed before so many calls that change a file."""
        try:
            with dying(calls, lambda _path: None):
                self.ledger.checkpoint()
        except Died:
            return False
        finally:
            self.durable = self._files()
        return True

    def crash(self, chance: random.Random, power: bool) -> None:
        self.ledger.abandon()
        if power:
            for path in sorted({*self._files(), *self.durable}):
                if chance.random() < 0.5 or path.parent != self.folder:
                    continue
                if path in self.durable:
                    path.write_bytes(self.durable[path])
                elif path.name.startswith("state."):
                    path.unlink()
        self.ledger = Ledger(self.folder, wal=self.wal, **SEGMENT)

    def differs(self, arrays: Arrays, limits: Limits) -> str:
        self.ledger.commit()
        books = self.ledger.written()
        found = compare(books, facts_of(arrays, limits.assets)) + laws(books, books.now())
        return f"the ledger: {found[0]}" if found else ""

    def close(self) -> None:
        self.ledger.abandon()
        shutil.rmtree(self.folder)


def _content(name: str) -> bytes:
    with open(name, "rb", buffering=0) as file:
        return file.read()


class Followers:
    """All of them behind one reader of the reports."""

    def __init__(self, data: Path, limits: Limits, *, books: bool) -> None:
        self.all: list[View | Books] = [View(limits)]
        if books:
            self.all.append(Books(data))
        self._held: list[Rows] = []  # of the command that may have more reports
        self._at = 0  # index of the first of them

    def hear(self, rows: Rows) -> None:
        """Reports as they come; whole commands are passed on."""
        self._held.append(rows)
        waiting = np.concatenate(self._held)
        whole = int(np.searchsorted(waiting["seq"], waiting["seq"][-1], "left"))
        self._pass(waiting, whole)

    def settle(self) -> None:
        """Nothing is in flight: the last command has no more reports."""
        if self._held:
            waiting = np.concatenate(self._held)
            self._pass(waiting, len(waiting))

    def _pass(self, waiting: Rows, count: int) -> None:
        if count:
            for follower in self.all:
                follower.feed(self._at, waiting[:count])
        self._held = [waiting[count:]] if count < len(waiting) else []
        self._at += count

    def checkpoint(self, chance: random.Random, read: Read) -> None:
        """One of them keeps where it is, or dies in it."""
        follower = chance.choice(self.all)
        if not follower.checkpoint(chance.randrange(25) if chance.random() < 0.3 else ALL):
            self._restart(follower, chance, False, read)

    def crash(self, chance: random.Random, power: bool, read: Read) -> None:
        """Some of them, or with the power all, start again and read on from the log."""
        for follower in self.all:
            if power or chance.random() < 0.3:
                self._restart(follower, chance, power, read)

    def _restart(
        self, follower: View | Books, chance: random.Random, power: bool, read: Read
    ) -> None:
        follower.crash(chance, power)
        while (at := follower.next) < self._at:
            self._again(follower, at, read)

    def _again(self, follower: View | Books, at: int, read: Read) -> None:
        """Feed what it has missed, in whole commands, however many reports one has."""
        rows = np.zeros(0, REPORT.dtype)
        while at + len(rows) < self._at:
            more = read(at + len(rows), min(BATCH, self._at - at - len(rows)))
            if not len(more):
                raise AssertionError(f"report {at + len(rows)} of {self._at} is nowhere")
            rows = np.concatenate((rows, more))
            last = at + len(rows) == self._at
            count = len(rows) if last else int(np.searchsorted(rows["seq"], rows["seq"][-1]))
            if count:
                follower.feed(at, rows[:count])
                return

    def differs(self, arrays: Arrays, limits: Limits) -> str:
        return next(filter(None, (f.differs(arrays, limits) for f in self.all)), "")

    def close(self) -> None:
        for follower in self.all:
            follower.close()
