"""Laws: what must hold of the state of a venue where nothing is in flight, and of its reports.

Reads   every table and the reports of an in-process venue (tools/inprocess.py).
Never   changes one, and never asks the kernels: sums are taken again from the rows they are sums
        of, in Python's integers, which cannot wrap.

A law that is broken is an AssertionError that says which. README, "Invariants", has them in words.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.hashmap import home
from engine.leftist import KEY, LEFT, NEWER, OLDER, PRICE, RIGHT, STRIDE, TRAIL, UP
from engine.positions import position_key
from engine.setup import bits_of
from engine.state import ALGO_CELLS
from engine.triggers import HEAPS, TRAILS
from shm.codes import (
    AlgoType,
    Flag,
    Kind,
    PositionMode,
    PositionSide,
    ReportKind,
    RequestStatus,
    Side,
    Type,
)
from shm.records import MATCH, WALLET
from shm.units import FEE_ACCOUNT, NIL
from tools.inprocess import Venue


def check_laws(v: Venue) -> None:
    """Every invariant of the state, of a venue where nothing is in flight."""
    _money(v)
    _positions(v)
    _claims(v)
    _free_rows(v)
    _clients(v)
    _heap(v)
    _books(v)
    _funding(v)
    _algos(v)
    _countdowns(v)
    _requests(v)
    _liquidations(v)


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
        whole = own["wallet_quanta"] + own["isolated_quanta"]
        assert whole.sum() - entry == deposits, "money appeared or vanished"
        assert v.arrays["assets"][asset]["total_quanta"] == deposits
        told = own["deposited_quanta"] - own["withdrawn_quanta"]
        told = told + own["realised_quanta"] - own["fees_quanta"] + own["funding_quanta"]
        told = told + own["adjusted_quanta"]
        told[FEE_ACCOUNT] += own["fees_quanta"].sum()
        assert own["adjusted_quanta"].sum() == 0, "moved from or to nobody"
        assert (whole == told).all(), "a wallet is not the sum of what moved"
        asked = v.arrays["requests"]
        asked = asked[(asked["request_id"] != 0) & (asked["kind"] == Kind.REQUEST_WITHDRAW)]
        asked = asked[asked["asset"] == asset]
        aside = sums(asked["account"], asked["amount_quanta"], v.limits.accounts)
        assert (aside == own["pending_quanta"]).all(), "set aside for nothing"


def _liquidations(v: Venue) -> None:
    """A liquidation that has begun goes on until it is over: no mark stands when all is done."""
    positions, wallets = v.arrays["positions"], v.arrays["wallets"]
    assert not wallets["liquidation"].any() and not wallets["liquidation_row"].any()
    for name in ("liquidation", "tried", "plan_lots", "plan_ticks", "pending"):
        assert not positions[name].any(), f"{name} stands"


def leg_of(p: Any) -> tuple[int, int, int]:
    """Key of a POSITION row: account, symbol, position side."""
    return int(p["account"]), int(p["symbol"]), int(p["position_side"])


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
        at, before = int(accounts[account]["first_position"]), (account, -1, 0)
        while at != NIL:
            assert rows[at]["account"] == account and leg_of(rows[at]) > before
            before, listed = leg_of(rows[at]), listed + 1
            at = int(rows[at]["next_position"])
    assert listed == len(rows)
    wallets = rows["account"].astype(np.int64) * v.limits.assets
    assert (rows["wallet"] == wallets + symbols["asset"][rows["symbol"]]).all()
    _legs(v, rows)


def _legs(v: Venue, rows: Any) -> None:
    """What the legs of an (account, symbol) share, and what each must be."""
    shared: dict[tuple[int, int], tuple[int, int]] = {}
    for p in rows:
        said = int(p["leverage"]), int(p["isolated"])
        assert shared.setdefault(leg_of(p)[:2], said) == said, "legs that don't agree"
    sides, flat = rows["position_side"], rows["lots"] == 0
    assert not (rows["lots"][sides == PositionSide.LONG] < 0).any(), "a long leg is short"
    assert not (rows["lots"][sides == PositionSide.SHORT] > 0).any(), "a short leg is long"
    assert not rows["isolated_quanta"][rows["isolated"] == 0].any(), "cross, but with its own money"
    assert not (rows["isolated_quanta"][flat] > 0).any(), "money left in a closed position"
    assert not rows["sunk_quanta"][flat].any(), "money sunk in nothing"
    hedge = v.arrays["accounts"]["position_mode"][rows["account"]] == PositionMode.HEDGE
    active = ~flat | (rows["open_orders"] != 0)
    assert ((sides != PositionSide.BOTH) == hedge)[active].all(), "a leg of another mode"
    wallets = v.arrays["wallets"]
    own = sums(rows["wallet"], rows["isolated_quanta"], len(wallets))
    assert (own == wallets["isolated_quanta"]).all(), "isolated"


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
    sells, apart = rows["side"] == Side.SELL, rows["apart"] == 1
    closes = (rows["position_side"] == PositionSide.LONG) & sells
    closes |= (rows["position_side"] == PositionSide.SHORT) & ~sells
    assert reduce_only[closes].all(), "a leg could be turned round"
    assert (rows["position_side"] == positions["position_side"][rows["position"]]).all()
    # 2, 3: their sums
    for field, of in (
        ("close_lots", rows["close_lots"]),
        ("reduce_only_lots", np.where(reduce_only, rows["close_lots"], 0)),
        ("hold_quanta", rows["hold_quanta"]),
        ("open_orders", np.ones(len(rows), np.int64)),
        ("order_lots", rows["open_lots"]),
        ("sell_lots", np.where(sells, rows["open_lots"], 0)),
        ("hold_sell_quanta", np.where(sells & ~apart, rows["hold_quanta"], 0)),
        ("hold_apart_quanta", np.where(apart, rows["hold_quanta"], 0)),
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
    live = (claims["order_id"] != 0) & (claims["done"] == 0)
    here = sums(claims["symbol"][live], np.ones(live.sum(), np.int64), v.limits.symbols)
    assert (here == v.arrays["symbols"]["open_orders"]).all()
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
    for table, id_ in (("algos", "algo_id"), ("requests", "request_id")):
        others = v.arrays[table]
        others = others[(others[id_] != 0) & (others["client"] != NIL)]
        assert (rows["order_id"][others["client"]] == others[id_]).all()
        assert (rows["closed_ns"][others["client"]] == 0).all()
        assert not named & set(others["client"].tolist())
        named |= set(others["client"].tolist())
    assert (rows["order_id"][live["client"]] == live["order_id"]).all()
    assert (rows["closed_ns"][live["client"]] == 0).all()
    assert not named & set(closed) and not named & free and not free & set(closed)
    assert len(named) + len(closed) + len(free) == used, "a client row is lost"
    index = index_of(v.arrays["client_index"], bits_of(v.limits.clients))
    assert sorted(row for _, row in index) == sorted(named | set(closed))


def _algos(v: Venue) -> None:
    """Each conditional order waits once, where its terms say, and nothing due is left waiting."""
    a, links = v.arrays["algos"], v.arrays["algo_links"].reshape(-1, STRIDE)
    cells = v.arrays["algo_heaps"].reshape(-1, ALGO_CELLS)
    live = np.flatnonzero(a["algo_id"] != 0)
    assert not a["pending"][live].any()
    for of, table in (("account", "accounts"), ("symbol", "symbols")):
        counts = sums(a[of][live], np.ones(len(live), np.int64), len(v.arrays[table]))
        assert (counts == v.arrays[table]["algo_count"]).all()
    index = index_of(v.arrays["algo_index"], bits_of(v.limits.algos))
    assert index == sorted(zip(a["algo_id"][live].tolist(), live.tolist(), strict=True))
    listed = []
    for account in range(v.limits.accounts):
        before, at = NIL, int(v.arrays["accounts"][account]["first_algo"])
        while at != NIL:
            assert a[at]["account"] == account and a[at]["prev"] == before
            listed.append(at)
            before, at = at, int(a[at]["next"])
    assert sorted(listed) == live.tolist()
    waiting: list[int] = []
    for symbol, own in enumerate(cells):
        heads = {}
        for heap in range(8):
            for row in rows_of_heap(links, PRICE, int(own[HEAPS + heap])):
                assert a[row]["symbol"] == symbol and a[row]["heap"] == heap
                assert a[row]["working"] == heap >> 2
                follows = a[row]["type"] == AlgoType.TRAILING_STOP_MARKET and a[row]["active"]
                asleep = a[row]["type"] == AlgoType.TRAILING_STOP_MARKET and not a[row]["active"]
                ticks = a[row]["activate_ticks"] if asleep else a[row]["trigger_ticks"]
                assert links[row, PRICE + KEY] == (-ticks if heap & 1 else ticks)
                assert asleep or a[row]["protect"] == heap >> 1 & 1
                if follows:
                    heads[row] = heap
                else:
                    waiting.append(row)
        for trail in range(8):
            newer, row = NIL, int(own[TRAILS + trail])
            while row != NIL:
                group = rows_of_heap(links, TRAIL, row)
                assert row in heads and links[row, NEWER] == newer
                assert {
                    int(a[m]["working"]) * 4 + int(a[m]["protect"]) * 2 + int(a[m]["side"])
                    for m in group
                } == {trail}
                if newer != NIL:
                    older_is_better = a[row]["extreme_ticks"] - a[newer]["extreme_ticks"]
                    assert older_is_better < 0 if trail & 1 == Side.BUY else older_is_better > 0
                waiting += group
                heads.pop(row)
                newer, row = row, int(links[row, OLDER])
        assert not heads
    assert sorted(waiting) == live.tolist()
    free, at = set(), int(v.venue["algos_free"])
    while at != NIL:
        assert a[at]["algo_id"] == 0 and at not in free
        free.add(at)
        at = int(a[at]["next"])
    assert len(free) + len(live) == v.venue["algos_used"], "a conditional order's row is lost"


def rows_of_heap(links: Any, set_: int, root: int) -> list[int]:
    """Rows of a leftist heap."""
    found, todo = [], [root]
    while todo:
        row = todo.pop()
        if row != NIL:
            found.append(row)
            for child in (int(links[row, set_ + LEFT]), int(links[row, set_ + RIGHT])):
                assert child == NIL or links[child, set_ + UP] == row
                todo.append(child)
    return found


def _countdowns(v: Venue) -> None:
    p, count = v.arrays["positions"], int(v.venue["countdown_count"])
    heap = v.arrays["countdowns"][:count]
    used = int(v.venue["positions_used"])
    assert sorted(heap.tolist()) == np.flatnonzero(p["countdown_ns"] != 0).tolist()
    assert not v.arrays["countdowns"][count:].any() and not p["pending"][:used].any()
    key = [(int(p[row]["countdown_ns"]), int(row)) for row in heap]
    for at in range(count):
        assert p[heap[at]]["countdown_heap"] == at
        assert at == 0 or key[(at - 1) // 2] < key[at]


def _requests(v: Venue) -> None:
    rows = v.arrays["requests"]
    live = rows["request_id"] != 0
    assert (rows["status"][live] < RequestStatus.REJECTED).all()
    free, at = set(), int(v.venue["requests_free"])
    while at != NIL:
        assert not live[at] and at not in free
        free.add(at)
        at = int(rows[at]["next_free"])
    assert len(free) + int(live.sum()) == v.venue["requests_used"], "a request's row is lost"


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


def _funding(v: Venue) -> None:
    """No round is under way, everybody has been paid in the last one, and it summed up to zero."""
    contracts = v.arrays["contracts"]
    rows = v.arrays["positions"][: v.venue["positions_used"]]
    assert not contracts["funding_open"].any() and not contracts["funding_pending"].any()
    assert (rows["funding_round"] == contracts["funding_round"][rows["symbol"]]).all()
    for asset in range(v.limits.assets):
        own = v.arrays["wallets"]["funding_quanta"][asset :: v.limits.assets]
        assert exact(own).sum() == 0, "funding appeared or vanished"


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
    pairs = index.reshape(-1, 2)
    assert len(pairs) == 1 << bits
    taken = np.flatnonzero(pairs[:, 0])
    for at in taken.tolist():
        key: Any = np.int64(pairs[at, 0])
        probe = int(home(key, bits))
        while probe != at:
            assert pairs[probe, 0] != 0, "a probe would miss it"
            probe = (probe + 1) & ((1 << bits) - 1)
    return sorted((int(pairs[at, 0]), int(pairs[at, 1])) for at in taken)
