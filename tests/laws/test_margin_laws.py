"""Worst-case netting: whatever of an account's orders fill, in any order, their margin is there.

The mark stands still, so nothing but fills changes what an account is worth. Orders that only
close may lose as much as they free and no more: their prices are within a margin of the mark.
Money is in thousands, so that no fee is rounded: the laws hold to the quantum.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm.codes import Kind, MarginType, PositionMode, PositionSide, Side, Tif
from shm.margin import available, position_margin, removable, withdrawable
from shm.units import NIL
from tests.venue import ANN, BOB, LIMITS, Venue, check_laws

MARK = 1000
UNIT = 1000
LEVERAGE = 10  # a margin of 100 ticks
NEAR = 90  # that far from the mark an order costs less than its margin, the fee included
SMALL = LIMITS._replace(accounts=18, symbols=1, positions=8, orders=128, leaves=64, trie=128)

ORDERS = st.tuples(
    st.sampled_from(list(Side)),
    st.one_of(st.integers(-NEAR, NEAR), st.integers(-NEAR, NEAR), st.integers(-400, 400)),
    st.integers(1, 30),
    st.sampled_from((PositionSide.LONG, PositionSide.SHORT)),
)
FILLS = st.tuples(st.just("fill"), st.sampled_from(list(Side)), st.integers(1, 40))
CANCELS = st.tuples(st.just("cancel"), st.integers(0, 20))
BURSTS = st.lists(
    st.lists(st.one_of(ORDERS, ORDERS, FILLS, CANCELS), min_size=1, max_size=4), max_size=12
)


def market(hedge: bool, isolated: bool, money: int) -> Venue:
    v = Venue(SMALL)
    v.asset()
    v.symbol(
        tick_lot_quanta=UNIT,
        taker_fee_ppm=1000,
        maker_fee_ppm=1000,
        leverage_default=LEVERAGE,
        price_ticks_max=5000,
    )
    v.account(ANN, money)
    v.account(BOB, 10**15)
    v.mark(MARK)
    v.send(Kind.POSITION_MODE, account=ANN, value=PositionMode.HEDGE if hedge else 0)
    kind = MarginType.ISOLATED if isolated else MarginType.CROSS
    v.send(Kind.MARGIN_TYPE, account=ANN, symbol=0, value=kind)
    v.work()
    return v


def send(v: Venue, what: Any, hedge: bool) -> None:
    if what[0] == "cancel":
        own = [c for c in v.live_claims() if c["account"] == ANN]
        if own:
            order_id = own[what[1] % len(own)]["order_id"]
            v.send(Kind.CANCEL, account=ANN, symbol=0, order_id=order_id)
    elif what[0] == "fill":
        # Bob takes the best of her orders on this side.
        _, side, lots = what
        price = 1 if side == Side.BUY else 5000
        v.place(BOB, 1 - side, price, lots, tif=Tif.IOC)
    else:
        side, off, lots, leg = what
        v.place(ANN, side, MARK + off, lots, position_side=leg if hedge else 0)


def dear_closers(v: Venue) -> None:
    """Take out what closes further from the mark than its margin: it may lose what it likes."""
    for c in list(v.live_claims()):
        if c["account"] == ANN and c["close_lots"] and abs(c["price_ticks"] - MARK) > NEAR:
            v.send(Kind.CANCEL, account=ANN, symbol=0, order_id=c["order_id"])
    v.work()


def worth(v: Venue) -> tuple[int, int]:
    """(money in the wallet and in positions at mark, margin of the positions) of Ann."""
    money, margin = v.wallet(ANN)["wallet_quanta"], 0
    for p in v.arrays["positions"][: v.venue["positions_used"]]:
        if p["account"] == ANN:
            needed, gain = map(int, position_margin(v.engine.risk.symbols, p))
            money += int(p["isolated_quanta"]) + gain
            margin += needed
    return money, margin


@pytest.mark.parametrize("hedge", [False, True])
@given(bursts=BURSTS, money=st.sampled_from((100_000, 1_000_000, 4_000_000)))
def test_whatever_fills_has_its_margin(hedge: bool, bursts: Any, money: int) -> None:
    v = market(hedge, False, money)
    for burst in bursts:
        for what in burst:
            send(v, what, hedge)
        v.work()
        dear_closers(v)
        equity, margin = worth(v)
        assert equity >= margin
        assert v.venue["deficit_count"] == 0
    check_laws(v)


def test_a_better_price_takes_no_more_margin_than_there_is() -> None:
    """A SELL of 11 at 1000 holds a tenth of that and its fee; filled at 1327 it would want more."""
    v = market(False, True, 1_250_000)
    v.place(BOB, Side.BUY, 1327, 11)
    v.place(ANN, Side.SELL, 1000, 11)
    v.work()
    position = v.position(ANN)
    assert position["lots"] == -11 and v.wallet(ANN)["wallet_quanta"] == 0
    assert position["isolated_quanta"] == 1_250_000 - 14_597  # 11 * 1327 * 1000 at 0.1 %
    check_laws(v)


@pytest.mark.parametrize("hedge", [False, True])
@given(bursts=BURSTS, money=st.sampled_from((100_000, 1_000_000, 4_000_000)))
def test_isolated_positions_never_ask_the_wallet_for_more(
    hedge: bool, bursts: Any, money: int
) -> None:
    v = market(hedge, True, money)
    for burst in bursts:
        for what in burst:
            send(v, what, hedge)
        v.work()
        dear_closers(v)
        assert v.wallet(ANN)["wallet_quanta"] >= 0
        assert v.venue["deficit_count"] == 0
    check_laws(v)


@given(
    bursts=BURSTS,
    isolated=st.booleans(),
    marks=st.lists(st.integers(700, 1300), max_size=12),
)
def test_what_may_leave_leaves_enough(bursts: Any, isolated: bool, marks: list[int]) -> None:
    """All that may be withdrawn, added or removed can be, to the quantum, and not one more."""
    v = market(False, isolated, 4_000_000)
    for burst, mark in zip(bursts, marks, strict=False):
        for what in burst:
            send(v, what, False)
        v.mark(mark)
        v.work()
    r, row = v.engine.risk, ANN * v.limits.assets
    tables = (r.accounts, r.wallets, r.symbols, r.positions)
    rows = v.arrays["positions"][: v.venue["positions_used"]]
    at = next((k for k, p in enumerate(rows) if p["account"] == ANN and p["lots"]), NIL)
    # An isolated position that owes more than it has is the liquidation's: nothing moves there.
    owes = isolated and at != NIL and rows[at]["isolated_quanta"] < 0
    if isolated and at != NIL:
        out = int(removable(r.symbols, r.brackets, r.positions[at]))
        assert out == 0 or not owes
        refusal = "LIQUIDATING" if owes else "INSUFFICIENT_MARGIN"
        assert asked(v, Kind.POSITION_MARGIN, symbol=0, value=-out - 1) == refusal
        if out:
            assert asked(v, Kind.POSITION_MARGIN, symbol=0, value=-out) == "NONE"
            assert removable(r.symbols, r.brackets, r.positions[at]) == 0
    free = int(available(*tables, ANN, row))
    most = int(withdrawable(*tables, r.brackets, ANN, row))
    assert 0 <= most <= max(free, 0)
    if isolated and at != NIL:
        refusal = "LIQUIDATING" if owes else "INSUFFICIENT_BALANCE"
        assert asked(v, Kind.POSITION_MARGIN, symbol=0, value=most + 1) == refusal
    assert asked(v, Kind.WITHDRAW, amount_quanta=most + 1) == "INSUFFICIENT_BALANCE"
    if most:
        assert asked(v, Kind.WITHDRAW, amount_quanta=most) == "NONE"
        assert available(*tables, ANN, row) == free - most
    check_laws(v)


def asked(v: Venue, kind: int, **fields: Any) -> Any:
    """The answer to a command of Ann's."""
    v.drain()
    return v.do(kind, account=ANN, **fields)[0]["reason"]
