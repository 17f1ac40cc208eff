"""Read the account view: accounts, positions and orders as of one stated sequence.

Reads   the segment <instance>.view, mapped read only; durable state alone is in it.
Never   writes, never imports numba, never hangs: every read is bounded and ends in ViewError.

    view = AccountView(config)                      # ViewError: the view process isn't there
    await view.wait_for(seq, timeout_s=1.0)         # one's own acknowledged writes are in it
    state = view.account(17)                        # None: never opened
    view.order(17, order_id=4711) or view.order(17, client_id="a-1")

A client that was acknowledged in a report of sequence S and then waits for S sees its own write.
x86-64 keeps loads in order, which is what makes a version read before and after a copy enough.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from gateways.accounts import layout
from gateways.accounts.layout import Sizes, name_key, sizes_of, view_parts
from gateways.scales import Scale, scale_of
from shm.config import Config
from shm.segment import Segment, SegmentError
from shm.units import BRACKETS_MAX, CLIENT_ID_BYTES, NIL

_WHOLE_TRIES: Final = 20  # for a copy of the whole view at one sequence; then of one account
_TRIES: Final = 400
_PAUSE_S: Final = 0.00005
_GOLDEN: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1


class ViewError(RuntimeError):
    """The view can't answer: it isn't running, is restarting, or didn't come so far in time."""


Row = dict[str, Any]


class Copy(NamedTuple):
    """One account's tables for the margin kernels (gateways/accounts/figures.py), rows anew:
    account 0, the wallet of asset k in row k, positions in their order."""

    seq: int
    exact: bool
    accounts: np.ndarray[Any, Any]  # ACCOUNT[1]
    wallets: np.ndarray[Any, Any]  # WALLET[assets]
    positions: np.ndarray[Any, Any]  # POSITION, by symbol and leg
    symbols: np.ndarray[Any, Any]  # SYMBOL by index; zeros where it has no position row
    brackets: np.ndarray[Any, Any]  # BRACKET, the same


class Account(NamedTuple):
    """All of one account, as of `seq`. Rows are dicts by field name, numbers as in shm/records.

    `exact`: every part is of that one sequence, marks included; else each is at least that new.
    """

    seq: int
    ts_ns: int
    exact: bool
    account: int
    row: Row  # ACCOUNT
    updated_ns: int
    wallets: dict[int, Row]  # asset -> WALLET and updated_ns
    positions: list[Row]  # POSITION, updated_ns and lights (of the ADL queue), by symbol and leg
    orders: list[Row]  # VIEW_ORDER, oldest first, client_id as text
    algos: list[Row]  # VIEW_ALGO
    requests: list[Row]  # REQUEST
    symbols: dict[int, Row]  # SYMBOL of every symbol it has a position row in
    tables: Copy  # the same for kernels


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("latin1")


class _Table:
    """Rows of a structured array as dicts, without numpy's cost for every field."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        names = array.dtype.names
        assert names is not None
        self._names = [name for name in names if not name.startswith("reserved")]
        fields: dict[str, Any] = dict(array.dtype.fields or {})
        self._plain = np.dtype(
            {
                "names": self._names,
                "formats": [fields[n][0] for n in self._names],
                "offsets": [fields[n][1] for n in self._names],
                "itemsize": array.dtype.itemsize,
            }
        )
        self._has_id = "client_id" in names
        self._name = "name" in names

    def row(self, at: int) -> Row:
        """A copy of one row."""
        item = np.frombuffer(self.array[at].tobytes(), self._plain)
        row: Row = dict(zip(self._names, item.tolist()[0], strict=True))
        if self._has_id:
            row["client_id"] = _text(item["client_id"].tobytes())
        if self._name:
            row["name"] = _text(item["name"].tobytes())
        return row


class AccountView:
    """One mapping of the view; attach again when `alive` turns False."""

    def __init__(self, config: Config) -> None:
        """Raises ViewError when the view process isn't running."""
        self.config: Config | None = config
        self.sizes = sizes_of(config)
        self._segment: Segment | None = None
        self.attach()

    @classmethod
    def over(cls, arrays: dict[str, np.ndarray[Any, Any]], sizes: Sizes) -> AccountView:
        """A view of tables in this process: for tests and tools."""
        view = cls.__new__(cls)
        view.config, view.sizes, view._segment = None, sizes, None
        view._take(arrays)
        return view

    def attach(self) -> None:
        """Map the view that runs now."""
        assert self.config is not None
        self.close()
        try:
            segment = Segment.attach(
                self.config.instance, layout.VIEW, view_parts(self.sizes), writable=False
            )
        except SegmentError as error:
            raise ViewError(str(error)) from None
        self._segment = segment
        self._take(segment.arrays)

    def _take(self, a: dict[str, np.ndarray[Any, Any]]) -> None:
        self._head, self._versions = a["head"], a["versions"]
        self._arrays = a
        self._tables = {name: _Table(a[name]) for name in _TABLES}

    def close(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    @property
    def alive(self) -> bool:
        """Whether the process that keeps this mapping up to date runs."""
        return self._segment is not None and self._segment.current() and self._segment.owner_alive()

    @property
    def ready(self) -> bool:
        """Whether it has caught up once since it started."""
        return bool(self._head[layout.READY])

    @property
    def seq(self) -> int:
        """Every report of the commands up to this one is in the view."""
        return int(self._head[layout.SEQ])

    @property
    def ts_ns(self) -> int:
        return int(self._head[layout.TS_NS])

    @property
    def open_count(self) -> int:
        """Open orders of everybody."""
        return int(self._head[layout.OPEN_ORDERS])

    @property
    def venue_state(self) -> int:
        return int(self._head[layout.VENUE_STATE])

    async def wait_for(self, seq: int, timeout_s: float = 1.0) -> None:
        """Return once the view stands at `seq` or later; ViewError when that takes too long."""
        until = time.monotonic() + timeout_s
        pause = 0.0002
        while self.seq < seq:
            if time.monotonic() >= until:
                raise self._late(seq)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.005)

    def wait_for_sync(self, seq: int, timeout_s: float = 1.0) -> None:
        """As `wait_for`, for a caller without an event loop."""
        until = time.monotonic() + timeout_s
        while self.seq < seq:
            if time.monotonic() >= until:
                raise self._late(seq)
            time.sleep(0.0005)

    def _late(self, seq: int) -> ViewError:
        what = "has not come so far" if self.alive else "is gone"
        return ViewError(f"account view: wanted sequence {seq}, stands at {self.seq}, and {what}")

    # ------------------------------------------------------------ accounts

    def account(self, account: int) -> Account | None:
        """Everything of one account at one sequence; None when it was never opened.

        raises      ViewError when the view was killed in the middle of a change, or is changing
                    this account without a pause
        """
        if not 0 <= account < self.sizes.accounts:
            return None
        for attempt in range(_WHOLE_TRIES + _TRIES):
            exact = attempt < _WHOLE_TRIES
            guard = layout.BATCH if exact else layout.ACCOUNT + account
            version = int(self._versions[guard])
            if version & 1 == 0:
                found = self._copy_account(account, exact)
                if found is not _BROKEN and int(self._versions[guard]) == version:
                    return found
            time.sleep(_PAUSE_S)
        raise ViewError(f"account view: account {account} is changing, or the view is gone")

    def _copy_tables(self, account: int, exact: bool) -> Copy | None:
        """None where the list of positions is torn."""
        a = self._arrays
        seq = self.seq
        accounts = a["accounts"][account : account + 1].copy()
        assets = self.sizes.assets
        wallets = a["wallets"][account * assets : (account + 1) * assets].copy()
        rows: list[int] = []
        at = int(accounts[0]["first_position"])
        while at != NIL:
            if len(rows) > self.sizes.symbols * 3 or not 0 <= at < self.sizes.positions:
                return None
            rows.append(at)
            at = int(a["positions"][at]["next_position"])
        positions = a["positions"][rows].copy() if rows else a["positions"][:0].copy()
        positions["wallet"] -= account * assets
        positions["account"] = 0
        positions["next_position"] = np.arange(1, len(rows) + 1)
        if rows:
            positions["next_position"][-1] = NIL
        accounts["first_position"] = 0 if rows else NIL
        symbols, brackets = np.zeros_like(a["symbols"]), np.zeros_like(a["brackets"])
        for symbol in set(positions["symbol"].tolist()):
            symbols[symbol] = a["symbols"][symbol]
            first = symbol * BRACKETS_MAX
            brackets[first : first + BRACKETS_MAX] = a["brackets"][first : first + BRACKETS_MAX]
        return Copy(seq, exact, accounts, wallets, positions, symbols, brackets)

    def _copy_account(self, account: int, exact: bool) -> Any:
        t, a = self._tables, self._arrays
        row = t["accounts"].row(account)
        if row["opened_ns"] == 0 and account >= 16:
            return None
        seq, ts_ns = self.seq, self.ts_ns
        tables = self._copy_tables(account, exact)
        if tables is None:
            return _BROKEN
        wallets = {}
        for asset in range(self.sizes.assets):
            at = account * self.sizes.assets + asset
            wallets[asset] = t["wallets"].row(at)
            wallets[asset]["updated_ns"] = int(a["wallet_times"][at])
        positions: list[Row] = []
        symbols: dict[int, Row] = {}
        at = row["first_position"]
        while at != NIL:
            if len(positions) > self.sizes.symbols * 3 or not 0 <= at < self.sizes.positions:
                return _BROKEN
            position = t["positions"].row(at)
            position["updated_ns"] = int(a["position_times"][at])
            position["lights"] = int(a["lights"][at])
            positions.append(position)
            symbol = position["symbol"]
            if symbol not in symbols:
                symbols[symbol] = t["symbols"].row(symbol)
            at = position["next_position"]
        orders = self._list("orders", int(a["account_orders"][2 * account]))
        algos = self._list("algos", int(a["account_algos"][2 * account]))
        if orders is None or algos is None:
            return _BROKEN
        return Account(
            seq,
            ts_ns,
            exact,
            account,
            row,
            int(a["account_times"][account]),
            wallets,
            positions,
            orders,
            algos,
            self._requests(account),
            symbols,
            tables,
        )

    def _list(self, name: str, at: int) -> list[Row] | None:
        """Rows of an account's list from its oldest; None where the list is torn."""
        table = self._tables[name]
        rows: list[Row] = []
        while at != NIL:
            if len(rows) >= len(table.array) or not 0 <= at < len(table.array):
                return None
            row = table.row(at)
            rows.append(row)
            at = row["next"]
        return rows

    def _requests(self, account: int) -> list[Row]:
        used = int(self._head[layout.REQUESTS_USED])
        rows = self._arrays["requests"][:used]
        mine = np.flatnonzero((rows["account"] == account) & (rows["request_id"] != 0))
        return [self._tables["requests"].row(int(at)) for at in mine]

    # ------------------------------------------------------------ orders

    def order(self, account: int, *, order_id: int = 0, client_id: str = "") -> Row | None:
        """An order that is open, or closed not long ago (`open` says); None: look in history.

        With both names `order_id` wins. Of several orders with one client id, the newest.
        """
        return self._find("orders", "order", account, order_id, client_id)

    def algo(self, account: int, *, algo_id: int = 0, client_id: str = "") -> Row | None:
        """As `order`, of conditional orders."""
        return self._find("algos", "algo", account, algo_id, client_id)

    def open_orders(self, account: int, symbol: int | None = None) -> list[Row]:
        """Open orders, oldest first, of one symbol or all."""
        state = self.account(account)
        orders = state.orders if state else []
        return [o for o in orders if symbol is None or o["symbol"] == symbol]

    def open_algos(self, account: int, symbol: int | None = None) -> list[Row]:
        """Conditional orders that wait, oldest first, of one symbol or all."""
        state = self.account(account)
        algos = state.algos if state else []
        return [o for o in algos if symbol is None or o["symbol"] == symbol]

    def _find(self, name: str, kind: str, account: int, key: int, client_id: str) -> Row | None:
        if key > 0:
            index = f"{kind}_index"
        else:
            raw = client_id.encode("latin1", "replace")
            if not raw or len(raw) > CLIENT_ID_BYTES:
                return None
            words = np.frombuffer(raw.ljust(40, b"\0"), np.int64).tolist()
            key = name_key(account, words)
            index = "name_index" if kind == "order" else "algo_name_index"
        id_field = f"{kind}_id"
        for _ in range(_TRIES):
            version = int(self._versions[layout.INDEXES])
            mine = int(self._versions[layout.ACCOUNT + account])
            if version & 1 == 0 and mine & 1 == 0:
                found: Row | None = None
                for at in self._probe(self._arrays[index], key):
                    row = self._tables[name].row(at)
                    by_name = index != f"{kind}_index"
                    if row["account"] != account or (by_name and row["client_id"] != client_id):
                        continue
                    if found is None or row[id_field] > found[id_field]:
                        found = row
                if (
                    int(self._versions[layout.INDEXES]) == version
                    and int(self._versions[layout.ACCOUNT + account]) == mine
                ):
                    return found
            time.sleep(_PAUSE_S)
        raise ViewError("account view: its index is changing, or the view is gone")

    def _probe(self, index: np.ndarray[Any, Any], key: int) -> Iterator[int]:
        """Rows stored for a key; the same walk as shm/hashmap.py."""
        entries = len(index) // 2
        bits = entries.bit_length() - 1
        at = ((key * _GOLDEN) & _MASK) >> (64 - bits)
        for _ in range(entries):
            found = int(index[2 * at])
            if found == 0:
                return
            if found == key:
                yield int(index[2 * at + 1])
            at = (at + 1) & (entries - 1)

    # ------------------------------------------------------------ what is declared

    def symbols(self) -> dict[int, Row]:
        """SYMBOL of every symbol that was declared, by index."""
        named = np.flatnonzero(self._arrays["symbols"]["tick_lot_quanta"])
        return {int(k): self._tables["symbols"].row(int(k)) for k in named}

    def symbol(self, symbol: int) -> Row:
        return self._tables["symbols"].row(symbol)

    def contract(self, symbol: int) -> Row:
        """CONTRACT of a symbol, with `rate_ppb` and `next_ns` as last told."""
        row = self._tables["contracts"].row(symbol)
        row["rate_ppb"] = int(self._arrays["rates"][2 * symbol])
        row["next_ns"] = int(self._arrays["rates"][2 * symbol + 1])
        return row

    def brackets(self, symbol: int) -> list[Row]:
        """Leverage brackets of a symbol, lowest first."""
        count = min(int(self._arrays["symbols"][symbol]["brackets_count"]), BRACKETS_MAX)
        table = self._tables["brackets"]
        return [table.row(symbol * BRACKETS_MAX + k) for k in range(count)]

    def assets(self) -> dict[int, Row]:
        """ASSET of every asset that was declared."""
        declared = np.flatnonzero(self._arrays["assets"]["declared"])
        return {int(k): self._tables["assets"].row(int(k)) for k in declared}

    def scale(self, symbol: int) -> Scale:
        """How to write this symbol's ticks, lots and money."""
        row = self._arrays["symbols"][symbol]
        asset = self._arrays["assets"][int(row["asset"])]
        return scale_of(int(row["tick_lot_quanta"]), int(row["tick_quanta"]), int(asset["scale"]))


_BROKEN: Final = object()
_TABLES: Final = (
    *("accounts", "assets", "wallets", "symbols", "contracts", "brackets"),
    *("positions", "orders", "algos", "requests"),
)
