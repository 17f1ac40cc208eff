"""A whole venue in one process: sequence, risk, match and settle over private arrays.

    v = Venue(shards=2, commands=16, matches=8, reports=64, seed=7)
    v.open_market()                             # an asset, a symbol, two funded accounts
    v.place(ANN, side=Side.BUY, price=100, qty=5, client_id="a")
    reports = v.drain()                         # decoded, in order; laws hold

Reads and writes nothing outside its own arrays. `drain` calls pipeline.turn until nothing is left
to do: with a seed the stages run in a random order and by random amounts, and the journal and the
reader of reports lag at random, so that risk and settlement interleave as they may in production.
Without one, each stage does all it can, in order, so that settlement is always close behind.

Time stands still: every command is stamped `now` until `wait` moves it.

`log` holds what a WAL would: the commands with the settlement each was decided after.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from engine import pipeline
from engine.book import resting
from engine.pipeline import Stage
from engine.proposals import PUT, TAKEN
from engine.risk import position_key
from engine.sequencer import LAST_TS_NS
from engine.setup import bits_of
from engine.state import Limits, allocate, risk_tables, shard_tables, shared_book_tables
from shm import cursors, ingress
from shm.codes import (
    Flag,
    Kind,
    PositionSide,
    Reason,
    ReportKind,
    Side,
    State,
    Status,
    Stp,
    Tif,
    Type,
)
from shm.config import Producer
from shm.kinds import command
from shm.pointers import array_of, table
from shm.records import MATCH, RECORDS, REPORT, WALLET
from shm.units import FEE_ACCOUNT, NIL, SYSTEM_ACCOUNTS

LIMITS = Limits(
    accounts=32,
    assets=2,
    symbols=6,
    positions=128,
    orders=512,
    clients=256,
    client_window_ns=60_000_000_000,
    leaves=600,
    trie=600,
)
EPOCH_NS = 4_000_000_000_000_000_000  # ahead of every clock: the venue's time is the test's
SECOND = 1_000_000_000

ANN, BOB, CAT, DAN, EVE = range(SYSTEM_ACCOUNTS, SYSTEM_ACCOUNTS + 5)

CLOCK, DESK, GATEWAY = range(3)  # the rings, in the order they are drained
PRODUCERS = (
    Producer(name="clock", id=1, kinds=("clock",)),
    Producer(name="desk", id=4, kinds=("any",), privileged=True),
    Producer(name="gateway", id=8, kinds=("order",)),
)

SYMBOL_DEFAULTS = {
    "tick_lot_quanta": 10,
    "qty_lots_min": 1,
    "qty_lots_max": 10_000,
    "price_ticks_min": 1,
    "price_ticks_max": 100_000,
    "leverage_max": 100,
    "leverage_default": 10,
    "orders_max": 200,
}
_TABLE_OF = {
    ReportKind.ORDER: "REPORT",
    **{k: f"{k.name}_REPORT" for k in ReportKind if k not in (ReportKind.NONE, ReportKind.ORDER)},
}
ENUMS = {
    "side": Side,
    "type": Type,
    "tif": Tif,
    "reason": Reason,
    "position_side": PositionSide,
    "stp": Stp,
}


def words_text(words: Any) -> str:
    return np.asarray(words, np.int64).tobytes().rstrip(b"\0").decode("latin1")


def decode(row: Any) -> dict[str, Any]:
    """A report as a dict of names and numbers."""
    kind = ReportKind(int(row["kind"]))
    view = np.asarray(row).reshape(1).view(RECORDS[_TABLE_OF[kind]].dtype)[0]
    said: dict[str, Any] = {}
    for name in view.dtype.names:
        value = view[name]
        if name == "client_id":
            said[name] = words_text(value)
        elif value.ndim == 0:
            said[name] = int(value)
    said["kind"] = kind.name
    if kind == ReportKind.ORDER:
        said["status"] = Status(said["status"]).name
        said["command"] = Kind(said["command"]).name
        for name, enum in ENUMS.items():
            # What was rejected may say anything.
            said[name] = enum(said[name]).name if said[name] in list(enum) else said[name]
    elif kind == ReportKind.ANSWER:
        said["status"] = name_of(Kind, said["status"])
        said["reason"] = Reason(said["reason"]).name
    return said


def name_of(enum: Any, value: int) -> Any:
    return enum(value).name if value in list(enum) else value


class Venue:
    """See the module. `arrays` holds every table and ring by name."""

    def __init__(
        self,
        limits: Limits = LIMITS,
        *,
        shards: int = 1,
        commands: int = 256,
        matches: int = 256,
        reports: int = 1024,
        ingress_slots: int = 1024,
        checkpoint_every: int = 1 << 40,
        seed: int | None = None,
    ) -> None:
        self.limits, self.shards, self.seed = limits, shards, seed
        self.random = random.Random(seed)
        self.arrays = pipeline.allocate_rings(
            commands=commands, matches=matches, reports=reports, shards=shards
        )
        for specs, times in (
            (risk_tables(limits), 1),
            (shared_book_tables(limits), 1),
            (shard_tables(limits), shards),
        ):
            wide = tuple(s._replace(rows=s.rows * times) for s in specs)
            self.arrays.update(allocate(wide))
        pipeline.initialise(self.arrays, limits, shards)
        self.slots = ingress_slots
        cells = ingress.SLOTS + ingress_slots * ingress.SLOT_WORDS
        self.rings = tuple(np.zeros(cells, np.int64) for _ in PRODUCERS)
        for ring, producer in zip(self.rings, PRODUCERS, strict=True):
            ingress.format_ring(ring, producer, ingress_slots)
        self.engine = pipeline.engine_of(
            self.arrays,
            limits,
            shards=shards,
            checkpoint_every=checkpoint_every,
            rings=self.rings,
        )
        self.sequencer = array_of(self.engine.sequencer)
        self.sequencer[LAST_TS_NS] = EPOCH_NS
        self.cursors = self.arrays["cursors"]
        self.venue = self.arrays["venue"][0]
        self.numbers = [0 for _ in PRODUCERS]
        self.outbox: list[list[np.ndarray[Any, Any]]] = [[] for _ in PRODUCERS]
        self.log: list[np.ndarray[Any, Any]] = []
        self.reports: list[np.ndarray[Any, Any]] = []  # every report made, as rows
        self.told = 0  # of them, how many `drain` has given back

    # ------------------------------------------------------------ time

    @property
    def now(self) -> int:
        return int(self.sequencer[LAST_TS_NS])

    def wait(self, ns: int) -> None:
        """Commands sequenced from now on are this much later."""
        self.sequencer[LAST_TS_NS] += ns

    # ------------------------------------------------------------ sending

    def send(self, kind: int, *, ring: int = DESK, **fields: Any) -> int:
        """Queue a command for a ring; returns its producer's number."""
        if "request" not in fields:
            self.numbers[ring] += 1
            fields["request"] = self.numbers[ring]
        self.outbox[ring].append(command(kind, **fields))
        return int(fields["request"])

    def send_rows(self, rows: np.ndarray[Any, Any], ring: int = DESK) -> None:
        """Queue COMMAND rows as they are, but for fresh producer numbers."""
        rows = rows.copy()
        rows["request"] = self.numbers[ring] + 1 + np.arange(len(rows))
        self.numbers[ring] += len(rows)
        self.outbox[ring].append(rows)

    def do(self, kind: int, *, ring: int = DESK, **fields: Any) -> list[dict[str, Any]]:
        """Send one command and work until nothing is left to do."""
        self.send(kind, ring=ring, **fields)
        return self.drain()

    def place(
        self, account: int, side: int, price: int, qty: int, symbol: int = 0, **fields: Any
    ) -> int:
        """Queue a LIMIT order, or MARKET with type=; see `send`."""
        return self.send(
            Kind.PLACE,
            account=account,
            symbol=symbol,
            side=side,
            price_ticks=price,
            qty_lots=qty,
            **fields,
        )

    def asset(self, asset: int = 0, scale: int = 6) -> None:
        self.send(Kind.ASSET, asset=asset, scale=scale, name="USDT")

    def symbol(self, symbol: int = 0, **fields: Any) -> None:
        self.send(Kind.SYMBOL, symbol=symbol, **{**SYMBOL_DEFAULTS, "name": "BTC", **fields})

    def account(self, account: int, quanta: int = 0, asset: int = 0, state: int = 0) -> None:
        self.send(Kind.ACCOUNT, account=account, state=state)
        if quanta:
            self.send(Kind.DEPOSIT, account=account, asset=asset, amount_quanta=quanta)

    def mark(self, ticks: int, symbol: int = 0) -> None:
        self.send(Kind.MARK, symbol=symbol, mark_ticks=ticks)

    def open_market(
        self,
        accounts: int = 4,
        symbols: int = 1,
        quanta: int = 1_000_000,
        **fields: Any,
    ) -> Venue:
        """An asset, symbols and funded accounts, from ANN on."""
        self.asset()
        for symbol in range(symbols):
            self.symbol(symbol, **fields)
        for k in range(accounts):
            self.account(SYSTEM_ACCOUNTS + k, quanta)
        self.drain()
        return self

    # ------------------------------------------------------------ working

    def feed(self, most: int = 1 << 30) -> int:
        """Hand queued commands to the rings as far as they fit, at most `most` from each."""
        total = 0
        for ring, queue in zip(self.rings, self.outbox, strict=True):
            left = most
            while queue and left > 0:
                rows = queue[0]
                count = min(len(rows), left)
                taken = ingress.push_many(
                    table(ring), self.slots, table(rows.view(np.int64)), 0, count
                )
                total += taken
                left -= taken
                if taken == len(rows):
                    queue.pop(0)
                else:
                    queue[0] = rows[taken:]
                if taken < count:
                    break
        return total

    def raw(self, words: np.ndarray[Any, Any], ring: int = DESK) -> None:
        """Put slots of 192 bytes into a ring as they are: words[n, 24], n that fit."""
        cells = self.rings[ring]
        tail = int(cells[ingress.TAIL])
        assert tail + len(words) - cells[ingress.HEAD] <= self.slots
        at = (tail + np.arange(len(words))) % self.slots
        cells[ingress.SLOTS :].reshape(self.slots, 24)[at] = words
        cells[ingress.TAIL] = tail + len(words)

    def turn(self, stages: int, shards: int = 0) -> int:
        """Some stages once; `shards` are bits."""
        return int(pipeline.turn(self.engine, int(stages), shards))

    def sequence(self) -> int:
        return self.turn(Stage.SEQUENCE)

    def risk(self) -> int:
        """Risk, then settlement of what is there."""
        return self.turn(Stage.RISK | Stage.SETTLE)

    def match(self, shard: int | None = None) -> int:
        return self.turn(Stage.MATCH, (1 << self.shards) - 1 if shard is None else 1 << shard)

    def journal(self, most: int = 1 << 30) -> int:
        """Log what risk has decided, as the journal does; its slots are free then."""
        first = int(self.cursors[cursors.JOURNALED])
        last = min(int(self.cursors[cursors.RISKED]), first + most)
        ring = self.arrays["commands"]
        for seq in range(first + 1, last + 1):
            self.log.append(ring[seq % len(ring)].copy())
        self.cursors[cursors.JOURNALED] = last
        return last - first

    def read(self, most: int = 1 << 30) -> int:
        """Take reports out of their ring."""
        first = int(self.cursors[cursors.REPORTS_READ])
        last = min(int(self.cursors[cursors.REPORTS_WRITTEN]), first + most)
        ring = self.arrays["reports"]
        assert last <= self.cursors[cursors.REPORTS_CLAIMED] <= first + len(ring)
        at = np.arange(first, last) % len(ring)
        if last > first:
            self.reports.append(ring[at])
            ring[at] = np.zeros(1, REPORT.dtype)  # nobody else may need them
        self.cursors[cursors.REPORTS_READ] = last
        return last - first

    def quiet(self) -> bool:
        """Whether everything sent has been settled, answered and read."""
        c = self.cursors
        seq = c[cursors.SEQUENCED]
        queue = self.arrays["proposals"]
        return bool(
            not any(self.outbox)
            and all(ring[ingress.TAIL] == ring[ingress.HEAD] for ring in self.rings)
            and seq == c[cursors.SETTLED] == c[cursors.JOURNALED]
            and all(seq == c[cursors.matched(k)] for k in range(self.shards))
            and queue[TAKEN] == queue[PUT]
            and c[cursors.REPORTS_READ] == c[cursors.REPORTS_WRITTEN]
        )

    def _round(self) -> int:
        did = self.feed() + self.sequence()
        did += self.risk() + self.match() + self.risk()
        return did + self.journal() + self.read()

    def _chance(self) -> int:
        """One stage, by a random amount."""
        r = self.random
        few = r.choice((1, 2, 3, 8, 64))
        what = r.randrange(6)
        if what == 0:
            return self.feed(few) + self.sequence()
        if what == 1:
            return self.risk()
        if what == 2:
            return self.match(r.randrange(self.shards))
        if what == 3:
            return self.journal(few)
        if what == 4:
            return self.read(few)
        return self.match() + self.risk()

    def work(self) -> None:
        """Until nothing is left to do."""
        idle = 0
        while not self.quiet():
            did = self._round() if self.seed is None else self._chance()
            idle = 0 if did else idle + 1
            assert idle < 2000, f"nothing moves: {self.where()}"

    def drain(self) -> list[dict[str, Any]]:
        """Work until nothing is left to do; returns the reports since the last time."""
        self.work()
        return self.heard()

    def heard(self) -> list[dict[str, Any]]:
        """Reports since the last time, decoded."""
        rows, self.told = self.reports[self.told :], len(self.reports)
        return [decode(row) for batch in rows for row in batch]

    def where(self) -> dict[str, int]:
        names = ("SEQUENCED", "RISKED", "SETTLED", "JOURNALED", "REPORTS_WRITTEN", "REPORTS_READ")
        found = {name.lower(): int(self.cursors[getattr(cursors, name)]) for name in names}
        found |= {f"matched {k}": int(self.cursors[cursors.matched(k)]) for k in range(self.shards)}
        return found

    # ------------------------------------------------------------ looking

    def all_reports(self) -> np.ndarray[Any, Any]:
        """Every report so far as REPORT rows."""
        return np.concatenate([*self.reports, np.zeros(0, REPORT.dtype)])

    def wallet(self, account: int, asset: int = 0) -> dict[str, int]:
        return as_dict(self.arrays["wallets"][account * self.limits.assets + asset])

    def position(self, account: int, symbol: int = 0) -> dict[str, int]:
        """The POSITION row, or a flat one with nothing on it."""
        rows = self.arrays["positions"][: self.venue["positions_used"]]
        found = rows[(rows["account"] == account) & (rows["symbol"] == symbol)]
        return as_dict(found[0] if len(found) else np.zeros(1, rows.dtype)[0])

    def claim(self, order_id: int) -> dict[str, int] | None:
        """The live CLAIM row of an order."""
        rows = self.arrays["claims"]
        at = np.flatnonzero((rows["order_id"] == order_id) & (rows["done"] == 0))
        return as_dict(rows[at[0]]) if order_id and len(at) else None

    def live_claims(self) -> Iterator[dict[str, int]]:
        rows = self.arrays["claims"]
        for at in np.flatnonzero((rows["order_id"] != 0) & (rows["done"] == 0)):
            yield {"slot": int(at), **as_dict(rows[at])}

    def book(self, symbol: int = 0) -> list[tuple[str, int, int, int]]:
        """(side, price, order id, open lots) of resting orders: bids best first, then asks."""
        nodes = self.arrays["nodes"]
        return [
            (
                Side(side).name,
                int(nodes[slot]["price_ticks"]),
                int(nodes[slot]["order_id"]),
                int(nodes[slot]["open_lots"]),
            )
            for side, slot in resting(nodes, symbol)
        ]


def state_of(v: Venue) -> dict[str, Any]:
    """What the tables say, as the twin of risk says it (tests/model/risk_twin.py)."""
    a = v.arrays
    n = v.limits.assets
    claims = {c["slot"]: c for c in v.live_claims()}
    positions = a["positions"][: v.venue["positions_used"]]
    closers = {}
    for p in positions:
        ids, at = [], int(p["first_closer"])
        while at != NIL:
            ids.append(claims[at]["order_id"])
            at = claims[at]["next_closer"]
        closers[int(p["account"]), int(p["symbol"])] = ids
    words = "open_lots close_lots hold_quanta reserve_quanta exposure_quanta qty_lots price_ticks pending"
    wallets = [(divmod(k, n), w) for k, w in enumerate(a["wallets"])]
    accounts, symbols = a["accounts"]["state"], a["symbols"]
    return {
        "balances": {k: int(w["wallet_quanta"]) for k, w in wallets if w["wallet_quanta"]},
        "held": {k: int(w["held_quanta"]) for k, w in wallets if w["held_quanta"]},
        "positions": {
            (int(p["account"]), int(p["symbol"])): (
                int(p["lots"]),
                int(p["entry_quanta"]),
                int(p["leverage"]),
            )
            for p in positions
        },
        "closers": closers,
        "orders": {c["order_id"]: tuple(c[w] for w in words.split()) for c in claims.values()},
        "names": {
            (int(c["account"]), c["client_id"].tobytes()): (int(c["order_id"]), int(c["closed_ns"]))
            for c in a["clients"]
            if c["order_id"]
        },
        "accounts": {k: int(s) for k, s in enumerate(accounts) if s != State.ABSENT},
        "symbols": {
            k: (int(s["state"]), int(s["mark_ticks"]), int(s["last_ticks"]))
            for k, s in enumerate(symbols)
            if s["state"] != State.ABSENT
        },
    }


def as_dict(row: Any) -> dict[str, int]:
    return {name: int(row[name]) for name in row.dtype.names if row[name].ndim == 0}


# ---------------------------------------------------------------- laws


def check_laws(v: Venue) -> None:
    """Every invariant of the state, of a venue where nothing is in flight."""
    _money(v)
    _positions(v)
    _claims(v)
    _free_rows(v)
    _clients(v)
    _heap(v)
    _books(v)


def check_reports(v: Venue) -> None:
    """Reports are dense, in command order, and every command's first one is its answer, once."""
    rows = v.all_reports()
    assert len(rows) == v.venue["reports_count"]
    if not len(rows):
        return
    seqs = rows["seq"]
    assert (np.diff(seqs) >= 0).all()
    first = np.ones(len(rows), np.bool_)
    first[1:] = seqs[1:] != seqs[:-1]
    assert (seqs[first] == np.arange(1, v.venue["settled_seq"] + 1)).all(), "a command unanswered"
    kinds = rows["kind"]
    answers = np.isin(kinds, (ReportKind.ORDER, ReportKind.ANSWER, ReportKind.CHECKPOINT))
    assert answers[first].all()
    log = {int(c["seq"]): int(c["request"]) for c in v.log}
    requests = np.array([log[int(s)] for s in seqs[first]])
    assert (rows["request"][first] == requests).all()
    own = rows[~first & np.isin(kinds, (ReportKind.ORDER,))]
    assert (own["request"] == 0).all(), "a second answer"
    assert not (~first & (kinds == ReportKind.ANSWER)).any()


def _money(v: Venue) -> None:
    wallets = {name: exact(v.arrays["wallets"][name]) for name in WALLET.dtype.names or ()}
    positions = v.arrays["positions"]
    n = v.limits.assets
    for asset in range(n):
        own = {name: column[asset::n] for name, column in wallets.items()}
        entry = exact(positions["entry_quanta"])[positions["wallet"] % n == asset].sum()
        deposits = own["deposited_quanta"].sum() - own["withdrawn_quanta"].sum()
        assert own["wallet_quanta"].sum() - entry == deposits, "money appeared or vanished"
        assert v.arrays["assets"][asset]["total_quanta"] == deposits
        told = own["deposited_quanta"] - own["withdrawn_quanta"]
        told = told + own["realised_quanta"] - own["fees_quanta"]
        told[FEE_ACCOUNT] += own["fees_quanta"].sum()
        assert (own["wallet_quanta"] == told).all(), "a wallet is not the sum of what moved"


def exact(column: Any) -> Any:
    """As Python's integers, which cannot wrap."""
    return np.asarray(column).astype(object)


def _positions(v: Venue) -> None:
    rows = v.arrays["positions"][: v.venue["positions_used"]]
    assert not v.arrays["positions"][v.venue["positions_used"] :]["lots"].any()
    symbols, accounts = v.arrays["symbols"], v.arrays["accounts"]
    for symbol in range(v.limits.symbols):
        lots = rows["lots"][rows["symbol"] == symbol]
        assert lots.sum() == 0, "long and short differ"
        assert symbols[symbol]["open_lots"] == lots[lots > 0].sum(), "open interest"
    assert (np.sign(rows["entry_quanta"]) * np.sign(rows["lots"]) >= 0).all()
    assert not rows["entry_quanta"][rows["lots"] == 0].any(), "cost without position"
    index = index_of(v.arrays["position_index"], bits_of(v.limits.positions))
    keys = [
        position_key(int(p["account"]), int(p["symbol"]), int(p["position_side"])) for p in rows
    ]
    assert index == sorted((key, row) for row, key in enumerate(keys)), "position index"
    listed = 0
    for account in range(v.limits.accounts):
        at, before = int(accounts[account]["first_position"]), -1
        while at != NIL:
            assert rows[at]["account"] == account and rows[at]["symbol"] > before
            before, listed = int(rows[at]["symbol"]), listed + 1
            at = int(rows[at]["next_position"])
    assert listed == len(rows)
    wallets = rows["account"].astype(np.int64) * v.limits.assets
    assert (rows["wallet"] == wallets + symbols["asset"][rows["symbol"]]).all()


def _claims(v: Venue) -> None:
    a = v.arrays
    positions, wallets = a["positions"], a["wallets"]
    claims = a["claims"]
    live = np.flatnonzero((claims["order_id"] != 0) & (claims["done"] == 0))
    rows = claims[live]
    assert (rows["in_flight"] == 0).all() and (rows["pending"] == 0).all()
    assert not v.arrays["accounts"]["pending"].any() and not v.arrays["symbols"]["pending"].any()
    # 1: each order's own claims
    assert (rows["open_lots"] > 0).all() and (rows["qty_lots"] >= rows["open_lots"]).all()
    assert (rows["close_lots"] >= 0).all() and (rows["close_lots"] <= rows["open_lots"]).all()
    reduce_only = rows["flags"] & Flag.REDUCE_ONLY != 0
    assert (rows["close_lots"] == rows["open_lots"])[reduce_only].all()
    assert (rows["hold_quanta"] >= 0).all()
    opens = rows["open_lots"] - rows["close_lots"]
    assert (rows["hold_quanta"][opens == 0] == 0).all(), "a hold for nothing"
    # 2, 3: their sums
    for field, of in (
        ("close_lots", rows["close_lots"]),
        ("reduce_only_lots", np.where(reduce_only, rows["close_lots"], 0)),
        ("hold_quanta", rows["hold_quanta"]),
        ("open_orders", np.ones(len(rows), np.int64)),
        ("order_lots", rows["open_lots"]),
    ):
        assert (sums(rows["position"], of, len(positions)) == positions[field]).all(), field
    assert (positions["close_lots"] <= np.abs(positions["lots"])).all(), "claims beyond position"
    own = sums(positions["wallet"], positions["hold_quanta"], len(wallets))
    assert (own == wallets["held_quanta"]).all(), "held"
    symbol = a["symbols"][rows["symbol"]]
    most = exact(rows["worst_ticks"]) * rows["open_lots"] * symbol["tick_lot_quanta"]
    assert (rows["exposure_quanta"] == most).all() and (rows["reserve_quanta"] == 0).all()
    own = sums(positions["wallet"][rows["position"]], rows["exposure_quanta"], len(wallets))
    own += sums(positions["wallet"], np.abs(positions["entry_quanta"]), len(wallets))
    assert (own == wallets["exposure_quanta"]).all(), "exposure"
    counts = sums(rows["account"], np.ones(len(rows), np.int64), v.limits.accounts)
    assert (counts == a["accounts"]["open_orders"]).all()
    assert v.venue["live_orders"] == len(rows)
    assert (positions["account"][rows["position"]] == rows["account"]).all()
    assert (positions["symbol"][rows["position"]] == rows["symbol"]).all()
    # 4: the lists of closers
    listed = []
    for row in range(v.venue["positions_used"]):
        before, at = NIL, int(positions[row]["first_closer"])
        while at != NIL:
            c = claims[at]
            assert c["position"] == row and c["prev_closer"] == before and c["close_lots"] > 0
            assert (c["side"] == Side.SELL) == (positions[row]["lots"] > 0)
            listed.append(at)
            before, at = at, int(c["next_closer"])
        assert positions[row]["last_closer"] == before
    assert sorted(listed) == live[rows["close_lots"] > 0].tolist()
    index = index_of(a["order_index"], bits_of(v.limits.orders))
    assert index == sorted(zip(rows["order_id"].tolist(), live.tolist(), strict=True))


def _free_rows(v: Venue) -> None:
    claims = v.arrays["claims"]
    used = int(v.venue["claims_used"])
    free, at = set(), int(v.venue["claims_free"])
    while at != NIL:
        assert claims[at]["order_id"] == 0 and at not in free
        free.add(at)
        at = int(claims[at]["next_free"])
    assert len(free) + v.venue["live_orders"] == used, "a claim row is lost"
    assert not claims["order_id"][used:].any()


def _clients(v: Venue) -> None:
    rows, claims = v.arrays["clients"], v.arrays["claims"]
    used = int(v.venue["clients_used"])
    free, at = set(), int(v.venue["clients_free"])
    while at != NIL:
        assert rows[at]["order_id"] == 0 and at not in free
        free.add(at)
        at = int(rows[at]["next"])
    closed, at = [], int(v.venue["clients_oldest"])
    while at != NIL:
        assert rows[at]["order_id"] != 0 and rows[at]["closed_ns"] != 0
        closed.append(at)
        at = int(rows[at]["next"])
    assert v.venue["clients_newest"] == (closed[-1] if closed else NIL)
    assert (np.diff(rows["closed_ns"][closed]) >= 0).all()
    live = claims[(claims["order_id"] != 0) & (claims["done"] == 0) & (claims["client"] != NIL)]
    named = set(live["client"].tolist())
    assert len(named) == len(live)
    assert (rows["order_id"][live["client"]] == live["order_id"]).all()
    assert (rows["closed_ns"][live["client"]] == 0).all()
    assert not named & set(closed) and not named & free and not free & set(closed)
    assert len(named) + len(closed) + len(free) == used, "a client row is lost"
    index = index_of(v.arrays["client_index"], bits_of(v.limits.clients))
    assert sorted(row for _, row in index) == sorted(named | set(closed))


def _heap(v: Venue) -> None:
    claims, heap = v.arrays["claims"], v.arrays["heap"]
    count = int(v.venue["heap_count"])
    timed = np.flatnonzero(
        (claims["order_id"] != 0) & (claims["done"] == 0) & (claims["expire_ns"] != 0)
    )
    assert sorted(heap[:count].tolist()) == timed.tolist()
    assert not heap[count:].any()
    key = [(int(claims[s]["expire_ns"]), int(claims[s]["order_id"])) for s in heap[:count]]
    for at in range(count):
        assert claims[heap[at]]["heap"] == at
        assert at == 0 or key[(at - 1) // 2] < key[at]


def _books(v: Venue) -> None:
    nodes, claims = v.arrays["nodes"], v.arrays["claims"]
    live = np.flatnonzero((claims["order_id"] != 0) & (claims["done"] == 0))
    assert np.flatnonzero(nodes["state"] == 1).tolist() == live.tolist()
    for field in ("order_id", "open_lots", "account", "position", "symbol", "side"):
        assert (nodes[field][live] == claims[field][live]).all(), field
    limit = live[claims["type"][live] == Type.LIMIT]
    assert (nodes["price_ticks"][limit] == claims["price_ticks"][limit]).all()
    done = claims["qty_lots"][live] - claims["open_lots"][live]
    assert (nodes["filled_lots"][live] == done).all()
    assert not len(v.arrays["matches"]) or v.arrays["matches"].dtype == MATCH.dtype


def sums(at: Any, of: Any, rows: int) -> Any:
    total = exact(np.zeros(rows, np.int64))
    np.add.at(total, at, exact(of))
    return total


def index_of(index: Any, bits: int) -> list[tuple[int, int]]:
    """(key, row) pairs of a hash index, sorted; every one is where a probe finds it."""
    from engine.hashmap import home

    pairs = index.reshape(-1, 2)
    assert len(pairs) == 1 << bits
    taken = np.flatnonzero(pairs[:, 0])
    for at in taken.tolist():
        probe = int(home(np.int64(pairs[at, 0]), bits))
        while probe != at:
            assert pairs[probe, 0] != 0, "a probe would miss it"
            probe = (probe + 1) & ((1 << bits) - 1)
    return sorted((int(pairs[at, 0]), int(pairs[at, 1])) for at in taken)
