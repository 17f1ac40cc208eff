"""Figures of an account as the HTTP gateway shows them are those risk reckons with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.http.portfolio import Wallet, figures_of, maintenance_of
from shm import margin
from shm.maintenance import bracket_amount, maintenance
from shm.pointers import table
from shm.records import ACCOUNT, BRACKET, POSITION, SYMBOL, WALLET
from shm.units import BRACKETS_MAX, NIL

MILLION = 10**6
QUANTA = st.integers(0, 10**12)


def brackets_of(floors: list[int]) -> np.ndarray[Any, Any]:
    """Brackets at these floors, half a per cent more each."""
    rows = np.zeros(BRACKETS_MAX, BRACKET.dtype)
    for k, floor in enumerate(floors):
        rows[k]["floor_quanta"] = floor
        rows[k]["cap_quanta"] = floors[k + 1] if k + 1 < len(floors) else 1 << 60
        rows[k]["maintenance_ppm"] = 5_000 * (k + 1)
        if k:
            below = rows[k - 1]
            rows[k]["amount_quanta"] = bracket_amount(
                floor, 5_000 * (k + 1), int(below["maintenance_ppm"]), int(below["amount_quanta"])
            )
    return rows


@st.composite
def positions(draw: st.DrawFn) -> dict[str, int]:
    lots = draw(st.integers(-1000, 1000))
    hold = draw(QUANTA)
    sells = draw(st.integers(0, hold))
    return {
        "lots": lots,
        "entry_quanta": lots * draw(st.integers(1, 10**6)) * 100,
        "hold_quanta": hold,
        "hold_sell_quanta": sells,
        "hold_apart_quanta": draw(st.integers(0, hold - sells)),
        "leverage": draw(st.integers(1, 125)),
        "isolated": draw(st.integers(0, 1)),
        "isolated_quanta": draw(QUANTA),
    }


@given(positions(), QUANTA, st.integers(0, MILLION), st.integers(0, 10**6))
def test_available_and_withdrawable(
    position: dict[str, int], wallet: int, pending: int, mark: int
) -> None:
    if not position["isolated"]:
        position["isolated_quanta"] = 0
    symbols = np.zeros(1, SYMBOL.dtype)
    symbols[0]["tick_lot_quanta"], symbols[0]["mark_ticks"] = 100, mark
    symbols[0]["brackets_count"] = 3
    brackets = brackets_of([0, 50_000 * MILLION, 250_000 * MILLION])
    rows = np.zeros(1, POSITION.dtype)
    for name, value in position.items():
        rows[0][name] = value
    rows[0]["next_position"] = NIL
    wallets = np.zeros(1, WALLET.dtype)
    wallets[0]["wallet_quanta"], wallets[0]["pending_quanta"] = wallet, pending
    accounts = np.zeros(1, ACCOUNT.dtype)
    accounts[0]["first_position"] = 0
    tables = [table(x) for x in (accounts, wallets, symbols, rows)]
    shown = Wallet({"wallet_quanta": wallet, "pending_quanta": pending})
    plain = [
        {name: int(b[name]) for name in ("cap_quanta", "maintenance_ppm", "amount_quanta")}
        for b in brackets[:3]
    ]
    symbol = {"mark_ticks": mark, "tick_lot_quanta": 100}
    figures = figures_of(position, symbol, plain)
    shown.add(position, figures)
    assert shown.available == margin.available(*tables, 0, 0)
    most = margin.withdrawable(*tables, table(brackets), 0, 0)
    assert shown.withdrawable == most


@pytest.mark.parametrize("notional", [0, 1, 50_000 * MILLION, 50_000 * MILLION + 1, 10**15])
def test_maintenance_at_the_edges(notional: int) -> None:
    symbols = np.zeros(1, SYMBOL.dtype)
    symbols[0]["brackets_count"] = 3
    brackets = brackets_of([0, 50_000 * MILLION, 250_000 * MILLION])
    plain = [
        {name: int(b[name]) for name in ("cap_quanta", "maintenance_ppm", "amount_quanta")}
        for b in brackets[:3]
    ]
    wanted = maintenance(table(brackets), table(symbols), 0, notional)
    assert maintenance_of(plain, notional) == wanted
