"""The account view says what the engine's own tables say, from nothing but reports."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gateways.accounts.client import AccountView
from gateways.accounts.figures import figures_of
from gateways.accounts.layout import INDEX, SEQ, Sizes, view_parts
from gateways.accounts.main import ViewState
from gateways.accounts.ranks import Ranks
from shm.codes import Kind, Side, Type
from shm.margin import available, withdrawable
from shm.pointers import table
from shm.ranking import lights_of, score_positions
from tests.laws.test_funding_laws import SYMBOLS, Run
from tests.model.random_flow import ACCOUNTS, Flow, open_venue
from tests.venue import LIMITS, Venue

SIZES = Sizes(LIMITS.accounts, LIMITS.assets, LIMITS.symbols, LIMITS.positions, 700, 300, 64)

FIELDS = (
    *("lots", "entry_quanta", "open_orders", "order_lots", "sell_lots"),
    *("hold_quanta", "hold_sell_quanta", "hold_apart_quanta", "leverage", "isolated"),
    *("isolated_quanta", "sunk_quanta"),
)
MONEY = (
    *("wallet_quanta", "held_quanta", "isolated_quanta", "realised_quanta", "fees_quanta"),
    *("pending_quanta", "deposited_quanta", "withdrawn_quanta", "adjusted_quanta"),
)


def fresh_view(sizes: Sizes = SIZES) -> ViewState:
    return ViewState({p.name: np.zeros(p.rows, p.dtype) for p in view_parts(sizes)}, sizes)


def _algo(row: Any) -> tuple[int, ...]:
    names = ("account", "symbol", "side", "type", "tif", "flags", "qty_lots", "price_ticks")
    return tuple(int(row[name]) for name in names)


def _request(row: Any) -> tuple[int, ...]:
    return tuple(int(row[name]) for name in ("account", "kind", "status", "amount_quanta", "asset"))


def engine_says(v: Venue) -> dict[str, Any]:
    """Orders, positions and wallets as the engine has them."""
    orders = {}
    for claim in v.live_claims():
        orders[claim["order_id"]] = tuple(
            claim[name]
            for name in (
                *("account", "symbol", "side", "type", "tif", "flags", "stp", "position_side"),
                *("open_lots", "qty_lots", "hold_quanta", "apart"),
            )
        )
    positions = {}
    algos = {int(row["algo_id"]): _algo(row) for row in v.arrays["algos"] if row["algo_id"]}
    requests = {int(q["request_id"]): _request(q) for q in v.arrays["requests"] if q["request_id"]}
    for row in v.arrays["positions"][: v.venue["positions_used"]]:
        key = (int(row["account"]), int(row["symbol"]), int(row["position_side"]))
        if row["lots"] or row["open_orders"]:
            positions[key] = tuple(int(row[n]) for n in FIELDS)
    wallets = [tuple(int(row[n]) for n in MONEY) for row in v.arrays["wallets"]]
    told = {"orders": orders, "positions": positions, "wallets": wallets}
    return {**told, "algos": algos, "requests": requests}


def view_says(state: ViewState) -> dict[str, Any]:
    a = state.arrays
    orders = {}
    for row in a["orders"]:
        if row["open"]:
            orders[int(row["order_id"])] = tuple(
                int(row[name])
                for name in (
                    *("account", "symbol", "side", "type", "tif", "flags", "stp", "position_side"),
                    *("open_lots", "qty_lots", "hold_quanta", "apart"),
                )
            )
    positions = {}
    algos = {int(row["algo_id"]): _algo(row) for row in a["algos"] if row["open"]}
    requests = {int(q["request_id"]): _request(q) for q in a["requests"] if q["request_id"]}
    for row in a["positions"]:
        if row["lots"] or row["open_orders"]:
            key = (int(row["account"]), int(row["symbol"]), int(row["position_side"]))
            positions[key] = tuple(int(row[n]) for n in FIELDS)
    wallets = [tuple(int(row[n]) for n in MONEY) for row in a["wallets"]]
    told = {"orders": orders, "positions": positions, "wallets": wallets}
    return {**told, "algos": algos, "requests": requests}


@pytest.mark.parametrize("seed", range(6))
def test_view_is_the_engine(seed: int) -> None:
    v = open_venue(Venue(seed=seed))
    state = fresh_view()
    flow = Flow(seed, wide=True)
    for _ in range(12):
        for kind, fields in flow.commands(v, 40):
            v.send(kind, **fields)
        v.work()
        rows = v.all_reports()
        state.apply(rows[int(state.arrays["head"][INDEX]) :])
        assert int(state.arrays["head"][SEQ]) == int(v.venue["settled_seq"])
        assert view_says(state) == engine_says(v)


@pytest.mark.parametrize("seed", (1, 2))
def test_prices_and_funding_too(seed: int) -> None:
    """Marks, indexes and what funding moved, through random sources, clocks and rounds."""
    run = Run(seed)
    v = run.until(250)
    state = fresh_view()
    state.apply(v.all_reports())
    assert view_says(state) == engine_says(v)
    a, e = state.arrays, v.arrays
    for name in (
        "mark_ticks",
        "state",
        "last_ticks",
        "open_lots",
        "trade_count",
        "tick_lot_quanta",
    ):
        assert (a["symbols"][name] == e["symbols"][name])[:SYMBOLS].all(), name
    for name in ("index_ticks", "funding_next_ns", "funding_interval_ns", "interest_ppb"):
        assert (a["contracts"][name] == e["contracts"][name])[:SYMBOLS].all(), name
    funded = [int(x) for x in a["wallets"]["funding_quanta"]]
    assert funded == [int(x) for x in e["wallets"]["funding_quanta"]]
    assert any(funded)


def lights_by_leg(rows: Any, lights: Any) -> dict[tuple[int, int, int], int]:
    keys = zip(rows["account"], rows["symbol"], rows["position_side"], strict=True)
    found = {tuple(map(int, key)): int(lights[k]) for k, key in enumerate(keys)}
    return {key: light for key, light in found.items() if light}


def test_lights_are_the_engines_ranking() -> None:
    """Slice by slice, or whole: the fifth of its side that the engine's score puts a position in."""
    v = Venue(LIMITS)
    given = {"symbol": 0, "name": "X", "tick_lot_quanta": 1000, "leverage_default": 10}
    bounds = {"qty_lots_max": 10**6, "price_ticks_max": 10**6, "leverage_max": 100}
    v.send(Kind.ASSET, asset=0, scale=2, name="USDT")
    v.send(Kind.SYMBOL, **given, **bounds, qty_lots_min=1, price_ticks_min=1, orders_max=50)
    top = {"cap_quanta": 1 << 60, "maintenance_ppm": 10_000, "bracket_leverage_max": 100}
    v.send(Kind.BRACKET, symbol=0, index=0, floor_quanta=0, **top)
    for account in range(16, 30):
        v.send(Kind.ACCOUNT, account=account)
        v.send(Kind.DEPOSIT, account=account, asset=0, amount_quanta=10**7 + account * 10**6)
    v.work()
    for account in range(16, 30):
        side = Side.BUY if account % 2 else Side.SELL
        terms = {"type": Type.LIMIT, "qty_lots": account, "price_ticks": 100}
        v.send(Kind.PLACE, account=account, symbol=0, side=side, **terms)
    state = fresh_view()
    ranks = Ranks(state.tables, state.arrays)
    for mark in (90, 110):
        v.send(Kind.MARK, symbol=0, mark_ticks=mark)
        v.work()
        state.apply(v.all_reports()[int(state.arrays["head"][INDEX]) :])
        r, used = v.engine.risk, int(v.venue["positions_used"])
        scores = np.zeros(used, np.int64)
        rows = (r.accounts, r.wallets, r.symbols, r.positions, r.brackets)
        score_positions(*rows, 0, 100, 0, used, table(scores))
        wanted = lights_by_leg(v.arrays["positions"][:used], lights_of(scores))
        assert set(wanted.values()) == {1, 2, 3, 4} | ({0} & set(wanted.values()))
        if mark == 90:
            ranks.turn(5.0)
        else:
            ranks.turn(5.5)  # not due yet
            assert lights_by_leg(state.arrays["positions"], state.arrays["lights"]) != wanted
            ranks.whole()
        assert lights_by_leg(state.arrays["positions"], state.arrays["lights"]) == wanted


def engine_figures(v: Venue) -> dict[tuple[int, int], tuple[int, int]]:
    """(available, withdrawable) of every account and asset by the engine's own tables."""
    a = v.arrays
    tables = [table(a[n]) for n in ("accounts", "wallets", "symbols", "positions")]
    brackets = table(a["brackets"])
    found = {}
    for account in ACCOUNTS:
        for asset in range(v.limits.assets):
            wallet = account * v.limits.assets + asset
            found[account, asset] = (
                int(available(*tables, account, wallet)),
                int(withdrawable(*tables, brackets, account, wallet)),
            )
    return found


@pytest.mark.parametrize("seed", range(4))
def test_available_is_the_engines(seed: int) -> None:
    """Holds, margins and marks: what risk would find free is what the view's figures say."""
    v = open_venue(Venue(seed=seed))
    state = fresh_view()
    view = AccountView.over(state.arrays, SIZES)
    flow = Flow(seed, wide=True)
    for _ in range(8):
        for kind, fields in flow.commands(v, 40):
            v.send(kind, **fields)
        v.work()
        state.apply(v.all_reports()[int(state.arrays["head"][INDEX]) :])
        wanted = engine_figures(v)
        for account in ACCOUNTS:
            account_state = view.account(account)
            assert account_state is not None
            got = figures_of(account_state.tables)
            assert got.exact and got.seq == int(v.venue["settled_seq"])
            for asset in range(v.limits.assets):
                w = got.wallets[asset]
                assert (w.available, w.withdrawable) == wanted[account, asset], (account, asset)
