"""What an order, a position and an account need: one kernel for risk and for every account view.

    hold of an order      margin of its opening part + loss at once against the mark + taker fee
    margin of a position  its notional at mark (at cost before the first mark) / leverage
    available             wallet + unrealised PnL - margins of positions - holds

Roundings, all in the venue's favour: margins and fees up. Sums are clamped at +-AVAILABLE_CLAMP,
far outside any balance, so that no number of positions can wrap them.
"""

from __future__ import annotations

from shm.arithmetic import clamped_product, fee_of
from shm.codes import Side
from shm.jit import inlined, kernel
from shm.pointers import Rows
from shm.units import EXPOSURE_QUANTA_MAX, NIL

AVAILABLE_CLAMP = EXPOSURE_QUANTA_MAX


@inlined
def clamp(quanta: int) -> int:
    """`quanta`, or the nearest of +-AVAILABLE_CLAMP."""
    return min(max(quanta, -AVAILABLE_CLAMP), AVAILABLE_CLAMP)


@inlined
def order_hold(
    symbols: Rows, symbol: int, side: int, price_ticks: int, lots: int, leverage: int
) -> int:
    """What `lots` that may open at `price_ticks` hold.

    A sell may fill above its limit, so it is reckoned at the mark when that is higher. Opening
    above the mark (or selling below it) loses the difference at once; that is held too.
    """
    if lots <= 0:
        return 0
    s = symbols[symbol]
    mark = s["mark_ticks"]
    price = price_ticks
    loss_ticks = 0
    if mark > 0:
        if side == Side.BUY:
            if price > mark:
                loss_ticks = price - mark
        elif price < mark:
            loss_ticks = mark - price
            price = mark
    size = lots * s["tick_lot_quanta"]
    notional = clamped_product(price, size, EXPOSURE_QUANTA_MAX)
    hold = -((-notional) // leverage) + fee_of(notional, s["taker_fee_ppm"])
    if loss_ticks > 0:
        hold += clamped_product(loss_ticks, size, EXPOSURE_QUANTA_MAX)
    return hold


@inlined
def position_margin(symbols: Rows, p: Rows) -> tuple[int, int]:
    """(margin, unrealised PnL) of one position row."""
    lots = p["lots"]
    entry = p["entry_quanta"]
    s = symbols[p["symbol"]]
    mark = s["mark_ticks"]
    if mark == 0:
        cost = entry if entry >= 0 else -entry
        return -((-cost) // p["leverage"]), 0
    unit = s["tick_lot_quanta"]
    size = lots if lots >= 0 else -lots
    value = clamped_product(size * unit, mark, EXPOSURE_QUANTA_MAX)
    margin = -((-value) // p["leverage"])
    return margin, (value if lots >= 0 else -value) - entry


@kernel
def available(
    accounts: Rows,
    wallets: Rows,
    symbols: Rows,
    positions: Rows,
    account: int,
    wallet: int,
    with_profit: bool,
) -> int:
    """What a wallet could still hold for new orders; negative when it is short.

    with_profit   count unrealised profit; a withdrawal may not
    """
    w = wallets[wallet]
    total = clamp(w["wallet_quanta"] - w["held_quanta"])
    at = accounts[account]["first_position"]
    while at != NIL:
        p = positions[at]
        if p["lots"] != 0 and p["wallet"] == wallet:
            margin, unrealised = position_margin(symbols, p)
            if unrealised > 0 and not with_profit:
                unrealised = 0
            total = clamp(total + unrealised - margin)
        at = p["next_position"]
    return total
