"""The account view says what the engine's own tables say, from nothing but reports."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gateways.accounts.layout import INDEX, SEQ, Sizes, view_parts
from gateways.accounts.main import ViewState
from tests.model.random_flow import Flow, open_venue
from tests.venue import LIMITS, Venue

SIZES = Sizes(LIMITS.accounts, LIMITS.assets, LIMITS.symbols, LIMITS.positions, 700, 300, 64)

FIELDS = (
    *("lots", "entry_quanta", "open_orders", "order_lots", "sell_lots"),
    *("hold_quanta", "hold_sell_quanta", "hold_apart_quanta", "leverage", "isolated"),
    *("isolated_quanta", "fees_quanta"),
)
MONEY = ("wallet_quanta", "held_quanta", "isolated_quanta", "realised_quanta", "fees_quanta")


def fresh_view(sizes: Sizes = SIZES) -> ViewState:
    return ViewState({p.name: np.zeros(p.rows, p.dtype) for p in view_parts(sizes)}, sizes)


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
    for row in v.arrays["positions"][: v.venue["positions_used"]]:
        key = (int(row["account"]), int(row["symbol"]), int(row["position_side"]))
        if row["lots"] or row["open_orders"]:
            positions[key] = tuple(int(row[n]) for n in FIELDS)
    wallets = [tuple(int(row[n]) for n in MONEY) for row in v.arrays["wallets"]]
    return {"orders": orders, "positions": positions, "wallets": wallets}


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
    for row in a["positions"]:
        if row["lots"] or row["open_orders"]:
            key = (int(row["account"]), int(row["symbol"]), int(row["position_side"]))
            positions[key] = tuple(int(row[n]) for n in FIELDS)
    wallets = [tuple(int(row[n]) for n in MONEY) for row in a["wallets"]]
    return {"orders": orders, "positions": positions, "wallets": wallets}


@pytest.mark.parametrize("seed", range(6))
def test_view_is_the_engine(seed: int) -> None:
    v = open_venue(Venue(seed=seed))
    state = fresh_view()
    flow = Flow(seed)
    for _ in range(12):
        for kind, fields in flow.commands(v, 40):
            v.send(kind, **fields)
        v.work()
        rows = v.all_reports()
        state.apply(rows[int(state.arrays["head"][INDEX]) :])
        assert int(state.arrays["head"][SEQ]) == int(v.venue["settled_seq"])
        assert view_says(state) == engine_says(v)
