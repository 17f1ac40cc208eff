"""Prove the ledger's files sound: every bit of them is under a hash, or follows from what is.

Reads   the whole directory, a segment at a time.
Writes  nothing.

    head, blocks, balances, state, names, notes    carry their own hashes
    entries, account, amount, accounts             the trees of the blocks; the open tail: state's
    traces, breaks                                 `beside` of the blocks, or state's
    balance, before                                are derived again from account and amount
    behind the last row of a segment               must be zeros

Beside a running writer the tail after its newest state is checked for balance alone: run it again
after the ledger has stopped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ledger.books import Books
from ledger.chart import unpack
from ledger.files import (
    BALANCE_MAGIC,
    BALANCE_TYPES,
    COLUMNS,
    REMAKE,
    STATE_MAGIC,
    STATE_TYPES,
    LedgerError,
    digest,
    sealed,
    unpack_sections,
)
from ledger.tree import tree_root
from shm.records import LEDGER_ACCOUNT, LEDGER_BLOCK, LEDGER_BREAK, LEDGER_TRACE

Array = np.ndarray[Any, Any]


class Sound(NamedTuple):
    """What was proven."""

    entries: int
    legs: int
    blocks: int
    seq: int
    chain: str
    hashed: int  # entries under a block's or state's hash
    notes: list[str]


def verify(folder: Path) -> Sound:
    """Raise LedgerError with the place of the first damage."""
    for name in ("head", "names", "accounts", "blocks", "traces", "breaks", "notes"):
        if not (folder / name).exists():
            raise LedgerError(f"{folder / name}: is missing. {REMAKE}")
    try:
        return _Check(folder).run()
    except OSError as error:
        raise LedgerError(f"{error.filename}: {error.strerror}. {REMAKE}") from error


class _Check:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.books = Books(folder)
        self.notes: list[str] = []
        self.balance = np.zeros(len(self.books.keys), np.int64)
        self.last_leg = np.full(len(self.books.keys), -1, np.int64)
        rows = np.zeros(len(self.books.keys), LEDGER_ACCOUNT.dtype)
        rows["key"] = self.books.keys["key"]
        self.accounts = rows

    def run(self) -> Sound:
        books = self.books
        self._keys()
        self._notes()
        blocks = self._blocks()
        states = self._states()
        snapshots = self._snapshots()
        for at in range(len(books.segments)):
            self._segment(at, blocks, states, snapshots)
        left = [legs for legs in snapshots if legs > books.legs]
        if left:
            raise self._bad("balances", f"a file stands at leg {left[0]}, behind the last")
        self._beside(blocks, states)
        self._sizes()
        hashed = int(blocks["first_entry"][-1] + blocks["entry_count"][-1]) if len(blocks) else 0
        hashed = max([hashed, *(s["entries"] for s in states)])
        if hashed < books.entries:
            self.notes.append(f"{books.entries - hashed} entries are under no hash yet")
        head = books.head
        return Sound(
            books.entries, books.legs, len(blocks), head["seq"], books.chain(), hashed, self.notes
        )

    def _bad(self, name: str, what: str) -> LedgerError:
        return LedgerError(
            f"{self.folder / name}: {what}. The books are derived data: move the directory away "
            "and run `perpcore ledger rebuild`"
        )

    # ------------------------------------------------------------ files with their own hashes

    def _keys(self) -> None:
        keys = self.books.keys
        if keys["reserved"].any():
            raise self._bad("accounts", "a reserved field is not 0")
        if len(np.unique(keys["key"])) != len(keys):
            raise self._bad("accounts", "an account stands there twice")
        for at, row in enumerate(keys):
            try:
                said = self.books.commodity_of(unpack(int(row["key"])))
            except (ValueError, KeyError):
                said = -1
            if said != int(row["commodity"]):
                raise self._bad("accounts", f"row {at}: commodity {int(row['commodity'])}")

    def _notes(self) -> None:
        path = self.folder / "notes"
        data = path.read_bytes()[: self.books.head["notes"]] if path.exists() else b""
        chain = bytes(32)
        for number, line in enumerate(data.splitlines()):
            text, _, said = line.rpartition(b" ")
            chain = digest(chain + text)
            try:
                json.loads(text)
                same = bytes.fromhex(said.decode()) == chain
            except (ValueError, UnicodeDecodeError):
                same = False
            if not same:
                raise self._bad("notes", f"line {number + 1}: its hash differs")
        if len(data) != self.books.head["notes"] or (data and not data.endswith(b"\n")):
            raise self._bad("notes", "it ends in the middle of a line")

    def _blocks(self) -> Array:
        try:
            blocks = self.books.blocks()
        except OSError as error:
            raise self._bad("blocks", str(error)) from None
        previous = np.zeros(4, np.int64)
        entry = leg = 0
        for at in range(len(blocks)):
            row = blocks[at : at + 1]
            if not sealed(row):
                raise self._bad("blocks", f"block {at}: its hash differs")
            b = row[0]
            if int(b["block"]) != at or (b["previous"] != previous).any():
                raise self._bad("blocks", f"block {at} does not follow the one before")
            if int(b["first_entry"]) != entry or int(b["first_leg"]) != leg:
                raise self._bad("blocks", f"block {at}: begins at entry {int(b['first_entry'])}")
            entry += int(b["entry_count"])
            leg += int(b["leg_count"])
            previous = b["hash"]
        return blocks

    def _states(self) -> list[dict[str, Any]]:
        found = []
        for path in sorted(self.folder.glob("state.*")):
            if path.suffix == ".tmp":
                self.notes.append(f"{path.name} was never finished")
                continue
            meta, arrays = unpack_sections(path, STATE_MAGIC, STATE_TYPES)
            cells = arrays["cells"]
            meta["entries"], meta["legs"] = int(cells[0]), int(cells[1])
            meta["block_entry"] = int(cells[14])
            meta["rooms"] = int(cells[5]), int(cells[4])  # legs and entries of a segment
            meta["accounts"] = arrays["accounts"]
            if meta["entries"] <= self.books.entries:
                found.append(meta)
        return found

    def _snapshots(self) -> dict[int, tuple[Array, Array]]:
        found = {}
        for path in sorted((self.folder / "balances").glob("*")):
            if path.suffix == ".tmp":
                self.notes.append(f"balances/{path.name} was never finished")
                continue
            meta, arrays = unpack_sections(path, BALANCE_MAGIC, BALANCE_TYPES)
            if path.name != f"{meta['entries']:015d}.{meta['legs']:015d}":
                raise self._bad(f"balances/{path.name}", "was written under another name")
            found[int(meta["legs"])] = (arrays["balance"], arrays["last_leg"])
        return found

    # ------------------------------------------------------------ a segment

    def _segment(
        self,
        at: int,
        blocks: Array,
        states: list[dict[str, Any]],
        snapshots: dict[int, tuple[Array, Array]],
    ) -> None:
        books = self.books
        segment = books.segments[at]
        name = segment.path.name
        first_entry, last_entry = books._bounds(at, "entries")
        first_leg, last_leg = books._bounds(at, "amount")
        count, legs = last_entry - first_entry, last_leg - first_leg
        used = {c: count if c == "entries" else legs for c in COLUMNS}
        self._cut_short(at, used, states)
        columns = {c: books._column(segment, c) for c in COLUMNS}
        for column, rows in columns.items():
            if rows[used[column] :].tobytes().strip(b"\0"):
                raise self._bad(f"{name}/{column}", f"something stands behind row {used[column]}")
        entries = columns["entries"][:count]
        account, amount = columns["account"][:legs], columns["amount"][:legs]
        self._entries(name, entries, account, amount, legs)
        # Every hash that covers entries of this segment.
        for b in blocks[
            (blocks["first_entry"] >= first_entry) & (blocks["first_entry"] < last_entry)
        ]:
            where, length = int(b["first_entry"]) - first_entry, int(b["entry_count"])
            self._tree(name, columns, where, length, b["root"].tobytes(), int(b["block"]))
        for state in states:
            where, length = (
                state["block_entry"] - first_entry,
                state["entries"] - state["block_entry"],
            )
            if length > 0 and 0 <= where < count:
                self._tree(name, columns, where, length, bytes.fromhex(state["tail"]), -1)
        stops = [s for s in {*snapshots, *(s["legs"] for s in states)} if first_leg < s <= last_leg]
        begin = 0
        for stop in [*sorted(s - first_leg for s in stops), legs]:
            self._running(name, columns, first_leg, begin, stop)
            begin = stop
            self._compare(first_leg + stop, states, snapshots)

    def _cut_short(self, at: int, used: dict[str, int], states: list[dict[str, Any]]) -> None:
        """Columns end with a whole row; the last segment's are as long as they were made."""
        segment = self.books.segments[at]
        last = at + 1 == len(self.books.segments)
        for name, dtype in COLUMNS.items():
            room, rest = divmod((segment.path / name).stat().st_size, dtype.itemsize)
            made = states[-1]["rooms"][name == "entries"] if states and last else room
            where = f"{segment.path.name}/{name}"
            if rest:
                raise self._bad(where, f"ends in the middle of row {room}")
            if room < used[name]:
                raise self._bad(where, f"ends at row {room} of {used[name]}")
            if room != made:
                raise self._bad(where, f"ends at row {room}, was made for {made}")

    def _entries(self, name: str, entries: Array, account: Array, amount: Array, legs: int) -> None:
        """Legs are those of the entries, one after the other, and every entry balances."""
        counts = entries["leg_count"].astype(np.int64)
        ends = np.cumsum(counts)
        starts = entries["first_leg"].astype(np.int64)
        if len(entries) and ((starts != ends - counts).any() or int(ends[-1]) != legs):
            raise self._bad(f"{name}/entries", "legs do not follow each other")
        for field in ("seq", "recorded_ns"):
            if (np.diff(entries[field]) < 0).any():
                raise self._bad(f"{name}/entries", f"{field} falls")
        if legs and int(account.max()) >= len(self.books.keys):
            raise self._bad(f"{name}/account", "names an account that is not there")
        if legs == 0:
            return
        owner = np.repeat(np.arange(len(entries)), counts)
        commodity = self.books.keys["commodity"][account].astype(np.int64)
        order = np.lexsort((commodity, owner))
        change = np.ones(legs, np.bool_)
        change[1:] = (np.diff(owner[order]) != 0) | (np.diff(commodity[order]) != 0)
        sums = np.add.reduceat(amount[order], np.flatnonzero(change))
        if sums.any():
            at = int(owner[order][np.flatnonzero(change)[np.flatnonzero(sums)[0]]])
            raise self._bad(f"{name}/amount", f"entry {at} of it does not balance")

    def _tree(
        self, name: str, columns: dict[str, Array], at: int, count: int, root: bytes, block: int
    ) -> None:
        entries = columns["entries"]
        if at + count > len(entries):
            raise self._bad(name, f"block {block} reaches beyond it")
        made = tree_root(entries, columns["account"], columns["amount"], self.accounts, at, count)
        if made != root:
            what = f"block {block}" if block >= 0 else "the tail of state"
            raise self._bad(name, f"{what}: the hash of its entries differs")

    def _running(
        self, name: str, columns: dict[str, Array], first_leg: int, begin: int, end: int
    ) -> None:
        """Balances and links of legs [begin, end), derived again."""
        account = columns["account"][begin:end].astype(np.int64)
        if len(account) == 0:
            return
        order = np.argsort(account, kind="stable")
        sorted_accounts, amounts = account[order], columns["amount"][begin:end][order]
        starts = np.flatnonzero(np.r_[True, np.diff(sorted_accounts) != 0])
        groups = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(order)]))
        sums = np.cumsum(amounts)
        base = np.r_[0, sums[starts[1:] - 1]] if len(starts) > 1 else np.zeros(1, np.int64)
        running = sums - base[groups] + self.balance[sorted_accounts]
        wrong = np.flatnonzero(columns["balance"][begin:end][order] != running)
        if len(wrong):
            at = begin + int(order[wrong].min())
            raise self._bad(f"{name}/balance", f"row {at} is not the sum of what came before")
        before = np.empty(len(order), np.int64)
        before[1:] = first_leg + begin + order[:-1]
        before[starts] = self.last_leg[sorted_accounts[starts]]
        wrong = np.flatnonzero(columns["before"][begin:end][order] != before)
        if len(wrong):
            at = begin + int(order[wrong].min())
            raise self._bad(f"{name}/before", f"row {at} links to another leg")
        ends = np.r_[starts[1:] - 1, len(order) - 1]
        self.balance[sorted_accounts[ends]] = running[ends]
        self.last_leg[sorted_accounts[ends]] = first_leg + begin + order[ends]

    def _compare(
        self, legs: int, states: list[dict[str, Any]], snapshots: dict[int, tuple[Array, Array]]
    ) -> None:
        """Files that say what the balances are here."""
        if legs in snapshots:
            balance, last_leg = snapshots[legs]
            if (balance != self.balance[: len(balance)]).any():
                raise self._bad("balances", f"at leg {legs}: not the sums of the legs")
            if (last_leg != self.last_leg[: len(last_leg)]).any():
                raise self._bad("balances", f"at leg {legs}: not the last legs")
        for state in states:
            if state["legs"] == legs:
                rows = state["accounts"]
                if (rows["balance"] != self.balance[: len(rows)]).any():
                    raise self._bad("state", f"at leg {legs}: not the sums of the legs")

    # ------------------------------------------------------------ beside the entries

    def _beside(self, blocks: Array, states: list[dict[str, Any]]) -> None:
        for name, record in (("traces", LEDGER_TRACE), ("breaks", LEDGER_BREAK)):
            rows = getattr(self.books, name)()
            if (np.diff(rows["seq"]) < 0).any():
                raise self._bad(name, "its sequence falls")
            assert rows.dtype == record.dtype
        traces, breaks = self.books.traces(), self.books.breaks()
        at = [0, 0]
        for b in blocks:
            upto = [int(b["traces"]), int(b["breaks"])]
            data = traces[at[0] : upto[0]].tobytes() + breaks[at[1] : upto[1]].tobytes()
            if digest(data) != b["beside"].tobytes():
                raise self._bad("traces", f"block {int(b['block'])}: their hash differs")
            at = upto
        for state in states:
            if state["blocks"] != len(blocks):
                continue
            for name, rows, first in (("traces", traces, at[0]), ("breaks", breaks, at[1])):
                upto = state["flushed"][name]
                if rows[first:upto].tobytes().hex() != state["beside"][name]:
                    raise self._bad(name, f"rows from {first} differ from state's")

    def _sizes(self) -> None:
        """Beside no writer nothing stands behind what head says."""
        from ledger.lock import FolderLock

        try:
            lock = FolderLock(self.folder)
        except LedgerError:
            self.notes.append("a writer is running: the tail is checked when it has stopped")
            return
        lock.release()
        head = self.books.head
        for name, size in (
            ("accounts", head["accounts"] * self.books.keys.itemsize),
            ("blocks", head["blocks"] * LEDGER_BLOCK.dtype.itemsize),
            ("traces", head["traces"] * LEDGER_TRACE.dtype.itemsize),
            ("breaks", head["breaks"] * LEDGER_BREAK.dtype.itemsize),
            ("notes", head["notes"]),
            ("head", 256),
        ):
            found = (self.folder / name).stat().st_size
            if found != size:
                self.notes.append(f"{name}: {found} bytes, {size} are used: a writer was killed")
