"""What an order, a position and an account need: one kernel for risk and for every account view.

    hold of an order       margin of its opening part + loss at once against the mark + taker fee
    margin of a position   its notional at mark (at cost before the first mark) / leverage
    need of a position     max(margin + holds that increase it, holds on the other side)
                           + holds apart; of an isolated one, less the margin in its own wallet
    available              wallet - set aside for withdrawals + unrealised PnL - needs

Worst-case netting: orders on one side of a position count only where they need more than those on
the other. Whatever fills, in any order, leaves a position that its margin is there for: let buys
of margin M_b fill and sells of margin M_s <= M_b. The position needs M_b - M_s, fees and losses of
both sides are C_b + C_s, and M_b - M_s + C_b + C_s <= M_b + C_b as long as C_s <= M_s. An order
that costs more at once than its margin (far through the mark, or with a fee above 1 / leverage)
would break that, so its hold stands apart and is never netted.

A sell is reckoned at the mark where that is above its price.

Roundings, all in the venue's favour: margins and fees up. Sums are clamped at +-AVAILABLE_CLAMP,
far outside any balance, so that no number of positions can wrap them.
"""

from __future__ import annotations

from shm.arithmetic import bounded, ceil_div, clamped_product, fee_of, wide
from shm.atomics import either, unlikely
from shm.codes import Side
from shm.jit import inlined, kernel
from shm.maintenance import maintenance, position_value
from shm.pointers import Rows
from shm.units import EXPOSURE_QUANTA_MAX, NIL

AVAILABLE_CLAMP = EXPOSURE_QUANTA_MAX


# ---------------------------------------------------------------- orders


@inlined
def taker_fee_ppm(a: Rows, s: Rows) -> int:
    """The taker fee an account pays in a symbol; their rows."""
    if unlikely(a["own_fees"] != 0):
        return a["taker_fee_ppm"]
    return s["taker_fee_ppm"]


@inlined
def maker_fee_ppm(a: Rows, s: Rows) -> int:
    """The maker fee an account pays in a symbol; negative is a rebate."""
    if unlikely(a["own_fees"] != 0):
        return a["maker_fee_ppm"]
    return s["maker_fee_ppm"]


@inlined
def order_hold(
    s: Rows, side: int, price_ticks: int, lots: int, leverage: int, fee_ppm: int
) -> tuple[int, int]:
    """What `lots` that may open at `price_ticks` hold, and 1 if that stands apart.

    A sell may fill above its limit, so it is reckoned at the mark when that is higher. Opening
    above the mark (or selling below it) loses the difference at once; that is held too.

    s         the symbol's row
    fee_ppm   the account's taker fee
    """
    # Nothing that opens goes the same way and comes to nothing: it is as frequent as something.
    lots = max(lots, 0)
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
    margin = ceil_div(notional, leverage)
    cost = fee_of(notional, fee_ppm)
    if loss_ticks > 0:
        cost += clamped_product(loss_ticks, size, EXPOSURE_QUANTA_MAX)
    return margin + cost, 1 if cost > margin else 0


# ---------------------------------------------------------------- positions


@inlined
def position_margin(symbols: Rows, p: Rows) -> tuple[int, int]:
    """(initial margin, unrealised PnL) of one position row."""
    value, unrealised = position_value(symbols, p)
    return ceil_div(value, p["leverage"]), unrealised


@inlined
def own_margin(symbols: Rows, p: Rows) -> tuple[int, int]:
    """(margin that stands behind a position, unrealised PnL for the cross wallet).

    An isolated position has no more than its initial margin, and no more than is left of its
    wallet: what would be there for orders that turn it round. Its PnL is its own.
    """
    margin, unrealised = position_margin(symbols, p)
    if p["isolated"] == 0:
        return margin, unrealised
    return max(min(margin, p["isolated_quanta"] + unrealised), 0), 0


@inlined
def _need(lots: int, margin: int, buys: int, sells: int, apart: int) -> int:
    """What a position of margin `margin` and its orders need at worst."""
    if lots > 0:
        buys += margin
    else:
        sells += margin  # flat: there is none
    return (buys if buys > sells else sells) + apart


@kernel
def order_need(
    symbols: Rows, p: Rows, side: int, held: int, was_apart: int, hold: int, apart: int
) -> int:
    """How much more a position needs when one of its orders holds `hold` instead of `held`.

    p        its row; only its own holds, lots and leverage count
    side     of the order
    held     what it holds now, 0 for a new one; `was_apart` says where
    """
    sells = p["hold_sell_quanta"]
    aside = p["hold_apart_quanta"]
    buys = p["hold_quanta"] - sells - aside
    lots = p["lots"]
    margin = 0
    if lots != 0:
        margin, _ = own_margin(symbols, p)
    before = _need(lots, margin, buys, sells, aside)
    if was_apart != 0:
        aside -= held
    else:
        sells -= either(wide(side), 0, held)
        buys -= either(wide(side), held, 0)
    if apart != 0:
        aside += hold
    else:
        sells += either(wide(side), 0, hold)
        buys += either(wide(side), hold, 0)
    return _need(lots, margin, buys, sells, aside) - before


# ---------------------------------------------------------------- accounts


@kernel
def available(
    accounts: Rows, wallets: Rows, symbols: Rows, positions: Rows, account: int, wallet: int
) -> int:
    """What a cross wallet could still hold for new orders; negative when it is short."""
    w = wallets[wallet]
    total = bounded(w["wallet_quanta"] - w["pending_quanta"], AVAILABLE_CLAMP)
    at = accounts[account]["first_position"]
    while at != NIL:
        p = positions[at]
        lots = p["lots"]
        hold = p["hold_quanta"]
        if (lots != 0 or hold != 0) and p["wallet"] == wallet:
            margin = 0
            unrealised = 0
            if lots != 0:
                margin, unrealised = own_margin(symbols, p)
            sells = p["hold_sell_quanta"]
            aside = p["hold_apart_quanta"]
            need = _need(lots, margin, hold - sells - aside, sells, aside)
            if p["isolated"] != 0:
                need -= margin
            total = bounded(total + unrealised - need, AVAILABLE_CLAMP)
        at = p["next_position"]
    return total


@kernel
def cross_floor(
    accounts: Rows,
    wallets: Rows,
    symbols: Rows,
    positions: Rows,
    brackets: Rows,
    account: int,
    wallet: int,
) -> int:
    """A cross wallet less the orders of its isolated positions and its maintenance margin.

    What goes out may not be unrealised profit, and never what keeps positions open.
    """
    w = wallets[wallet]
    total = bounded(w["wallet_quanta"] - w["pending_quanta"], AVAILABLE_CLAMP)
    at = accounts[account]["first_position"]
    while at != NIL:
        p = positions[at]
        if p["wallet"] == wallet:
            if p["isolated"] != 0:
                sells = p["hold_sell_quanta"]
                aside = p["hold_apart_quanta"]
                buys = p["hold_quanta"] - sells - aside
                margin, _ = own_margin(symbols, p) if p["lots"] != 0 else (0, 0)
                need = _need(p["lots"], margin, buys, sells, aside) - margin
                total = bounded(total - need, AVAILABLE_CLAMP)
            elif p["lots"] != 0:
                value, _ = position_value(symbols, p)
                kept = maintenance(brackets, symbols, p["symbol"], value)
                total = bounded(total - kept, AVAILABLE_CLAMP)
        at = p["next_position"]
    return total


@kernel
def withdrawable(
    accounts: Rows,
    wallets: Rows,
    symbols: Rows,
    positions: Rows,
    brackets: Rows,
    account: int,
    wallet: int,
) -> int:
    """The most that may leave a cross wallet: by withdrawal, transfer, or into isolated margin."""
    free = available(accounts, wallets, symbols, positions, account, wallet)
    floor = cross_floor(accounts, wallets, symbols, positions, brackets, account, wallet)
    return max(min(free, floor), 0)


@kernel
def removable(symbols: Rows, brackets: Rows, p: Rows) -> int:
    """The most that may be taken out of an isolated position's wallet.

    Not below its maintenance, and not below its initial margin less what it has gained.
    """
    value, unrealised = position_value(symbols, p)
    kept = maintenance(brackets, symbols, p["symbol"], value)
    spare = p["isolated_quanta"] + unrealised - ceil_div(value, p["leverage"])
    return max(min(p["isolated_quanta"] - kept, spare), 0)
