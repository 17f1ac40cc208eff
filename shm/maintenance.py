"""What a position must be worth to stay open: one kernel for risk, the scan and every account view.

Reads   brackets, symbols, positions and wallets, as tables or as bare numbers.
Never   writes anything, or decides: what follows from these numbers is engine/liquidation.py's.

    maintenance      MM(N) = ceil(N * mmr_b) - amount_b of the bracket b that holds notional N
    equity           wallet + unrealised PnL at mark (at cost before the first mark)
    unsafe           equity <= maintenance
    liquidation      the price where equity equals maintenance, all other symbols standing still
    bankruptcy       the price where what a position has is lost exactly

Roundings
    amount_b   amount_{b-1} + ceil(f * mmr_b) - ceil(f * mmr_{b-1}) at the floor f of bracket b. So
               MM is continuous in quanta, to the unit, at every edge and for any rates. Where f is
               a multiple of 10^6 quanta (with 6 decimals: whole USDT), no product has a fraction,
               and the amount is the one venues publish.
    MM         up, in favour of the venue.
    liquidation price   to the tick on the safe side: the last tick where equity >= maintenance by
               these very kernels, above it for a long, below it for a short.
    bankruptcy price    to the tick where the account keeps the odd quanta: up for a long, down for
               a short. Who closes there never owes more than the account has, so no rounding is
               left to the insurance fund. A share of equity is rounded down for the same reason.
"""

from __future__ import annotations

import numpy as np

from shm.arithmetic import bounded, clamped_product, fee_of, muldiv_down, muldiv_up
from shm.jit import inlined, kernel
from shm.pointers import Rows
from shm.units import BRACKETS_MAX, EXPOSURE_QUANTA_MAX, NIL, PPM

_EXACT_BITS = 41  # sizes below 2^41 quanta per tick need no scaling: times PPM they fit int64
_ROUNDS = 2 * BRACKETS_MAX + 2  # each round of the search moves one of two legs by a bracket


# ---------------------------------------------------------------- brackets


@inlined
def bracket_of(brackets: Rows, symbols: Rows, symbol: int, notional_quanta: int) -> int:
    """Row of the bracket that holds a notional, the last one above all caps; NIL without brackets.

    An edge belongs to the bracket below it, whose leverage it may still have.
    """
    count = symbols[symbol]["brackets_count"]
    if count == 0:
        return NIL
    first = np.int64(symbol) * BRACKETS_MAX
    k = 0
    while k < count - 1 and notional_quanta > brackets[first + k]["cap_quanta"]:
        k += 1
    return int(first + k)


@inlined
def maintenance(brackets: Rows, symbols: Rows, symbol: int, notional_quanta: int) -> int:
    """Maintenance margin of one position's notional, 0 <= notional <= EXPOSURE_QUANTA_MAX."""
    row = bracket_of(brackets, symbols, symbol, notional_quanta)
    if row == NIL:
        return 0
    b = brackets[row]
    return fee_of(notional_quanta, b["maintenance_ppm"]) - b["amount_quanta"]


@inlined
def bracket_amount(floor_quanta: int, ppm: int, ppm_below: int, amount_below: int) -> int:
    """Maintenance amount of a bracket that begins at a floor, from the bracket below it."""
    return amount_below + fee_of(floor_quanta, ppm) - fee_of(floor_quanta, ppm_below)


@inlined
def notional_allowed(brackets: Rows, symbols: Rows, symbol: int, leverage: int) -> int:
    """Largest notional that a leverage may have: the cap of the last bracket that allows it.

    0 where no bracket does; EXPOSURE_QUANTA_MAX, no limit, without brackets.
    """
    count = symbols[symbol]["brackets_count"]
    if count == 0:
        return EXPOSURE_QUANTA_MAX
    allowed = 0
    first = np.int64(symbol) * BRACKETS_MAX
    for row in range(first, first + count):
        if brackets[row]["leverage_max"] < leverage:
            break
        allowed = brackets[row]["cap_quanta"]
    return allowed


# ---------------------------------------------------------------- positions and wallets


@inlined
def position_value(symbols: Rows, p: Rows) -> tuple[int, int]:
    """(notional at mark, unrealised PnL) of one position row; before the first mark, at cost."""
    lots = p["lots"]
    entry = p["entry_quanta"]
    s = symbols[p["symbol"]]
    mark = s["mark_ticks"]
    if mark == 0:
        return (entry if entry >= 0 else -entry), 0
    size = (lots if lots >= 0 else -lots) * s["tick_lot_quanta"]
    value = clamped_product(size, mark, EXPOSURE_QUANTA_MAX)
    return value, (value if lots >= 0 else -value) - entry


@inlined
def position_maintenance(brackets: Rows, symbols: Rows, p: Rows) -> int:
    """Maintenance margin of one position row at mark."""
    value, _ = position_value(symbols, p)
    return maintenance(brackets, symbols, p["symbol"], value)


@kernel
def cross_health(
    accounts: Rows,
    wallets: Rows,
    symbols: Rows,
    positions: Rows,
    brackets: Rows,
    account: int,
    wallet: int,
    without: int,
) -> tuple[int, int, int]:
    """(equity, maintenance, open positions) of a cross wallet; sums are clamped as all are.

    without   a symbol whose positions are left out, or NO_SYMBOL
    """
    w = wallets[wallet]
    equity = bounded(w["wallet_quanta"] - w["pending_quanta"], EXPOSURE_QUANTA_MAX)
    needed = 0
    count = 0
    at = accounts[account]["first_position"]
    while at != NIL:
        p = positions[at]
        if (
            p["lots"] != 0
            and p["wallet"] == wallet
            and p["isolated"] == 0
            and p["symbol"] != without
        ):
            value, unrealised = position_value(symbols, p)
            equity = bounded(equity + unrealised, EXPOSURE_QUANTA_MAX)
            needed = bounded(
                needed + maintenance(brackets, symbols, p["symbol"], value), EXPOSURE_QUANTA_MAX
            )
            count += 1
        at = p["next_position"]
    return equity, needed, count


@inlined
def isolated_health(brackets: Rows, symbols: Rows, p: Rows) -> tuple[int, int]:
    """(equity, maintenance) of an isolated position."""
    value, unrealised = position_value(symbols, p)
    equity = bounded(p["isolated_quanta"] + unrealised, EXPOSURE_QUANTA_MAX)
    return equity, maintenance(brackets, symbols, p["symbol"], value)


# ---------------------------------------------------------------- liquidation price


@inlined
def _gap(
    brackets: Rows,
    symbols: Rows,
    symbol: int,
    long_size: int,
    short_size: int,
    base: int,
    ticks: int,
) -> int:
    """Equity less maintenance if the mark were `ticks`. Sizes are quanta per tick."""
    up = clamped_product(long_size, ticks, EXPOSURE_QUANTA_MAX)
    down = clamped_product(short_size, ticks, EXPOSURE_QUANTA_MAX)
    equity = bounded(base + up - down, EXPOSURE_QUANTA_MAX)
    if long_size > 0:
        equity -= maintenance(brackets, symbols, symbol, up)
    if short_size > 0:
        equity -= maintenance(brackets, symbols, symbol, down)
    return equity


@kernel
def _estimate(
    brackets: Rows,
    symbols: Rows,
    symbol: int,
    long_size: int,
    short_size: int,
    base: int,
    safer: int,
    ticks_max: int,
) -> int:
    """Where the gap is zero by the formula, consistent with the brackets there; 0: nowhere.

    The gap is concave in the price, and linear within a pair of brackets: Newton's method from the
    side where it is negative moves towards the root only, one pair at a time, and ends.

    safer     1: the root that prices above are safer than; -1: below
    returns   0 to ticks_max + 1; a few quanta of rounding off
    """
    scale = 0
    while (max(long_size, short_size) >> scale) >> _EXACT_BITS != 0:
        scale += 1
    longs = long_size >> scale
    shorts = short_size >> scale
    at = 0
    if safer < 0 and long_size > 0:
        at = ticks_max  # two legs: only from above does it move one way
    long_row = NIL
    short_row = NIL
    if long_size > 0:
        notional = clamped_product(long_size, at, EXPOSURE_QUANTA_MAX)
        long_row = bracket_of(brackets, symbols, symbol, notional)
    if short_size > 0:
        notional = clamped_product(short_size, at, EXPOSURE_QUANTA_MAX)
        short_row = bracket_of(brackets, symbols, symbol, notional)
    for _ in range(_ROUNDS):
        slope = (longs - shorts) * PPM
        rest = base
        if long_row != NIL:
            slope -= longs * brackets[long_row]["maintenance_ppm"]
            rest += brackets[long_row]["amount_quanta"]
        if short_row != NIL:
            slope -= shorts * brackets[short_row]["maintenance_ppm"]
            rest += brackets[short_row]["amount_quanta"]
        slope *= safer
        rest = (-safer * rest) >> scale
        if slope <= 0 or rest <= 0:
            return 0
        if rest // slope > ticks_max // PPM:
            at = ticks_max + 1
        elif safer > 0:
            at = min(muldiv_up(rest, PPM, slope), ticks_max + 1)
        else:
            at = min(muldiv_down(rest, PPM, slope), ticks_max + 1)
        before = long_row + short_row
        if long_size > 0:
            notional = clamped_product(long_size, at, EXPOSURE_QUANTA_MAX)
            long_row = bracket_of(brackets, symbols, symbol, notional)
        if short_size > 0:
            notional = clamped_product(short_size, at, EXPOSURE_QUANTA_MAX)
            short_row = bracket_of(brackets, symbols, symbol, notional)
        if long_row + short_row == before:
            break
    return at


@kernel
def _last_safe(
    brackets: Rows,
    symbols: Rows,
    symbol: int,
    long_size: int,
    short_size: int,
    base: int,
    safer: int,
    ticks_max: int,
    near: int,
) -> int:
    """The tick by `near` whose gap is not negative while that of the next less safe one is; or 0.

    Nearly always the estimate or its neighbour. Where a tick is worth less than the roundings of
    maintenance there may be several; any of them is within a quantum of the truth.
    """
    at = min(max(near, 1), ticks_max)
    step = 1
    if _gap(brackets, symbols, symbol, long_size, short_size, base, at) >= 0:
        good = at
        bad = at - safer
        while 1 <= bad <= ticks_max and (
            _gap(brackets, symbols, symbol, long_size, short_size, base, bad) >= 0
        ):
            good = bad
            step *= 2
            bad = min(max(good - safer * step, 0), ticks_max + 1)
    else:
        bad = at
        good = at + safer
        while 1 <= good <= ticks_max and (
            _gap(brackets, symbols, symbol, long_size, short_size, base, good) < 0
        ):
            bad = good
            step *= 2
            good = min(max(bad + safer * step, 0), ticks_max + 1)
        if good < 1 or good > ticks_max:
            return 0
    while good - bad != safer:
        middle = (good + bad) // 2
        if _gap(brackets, symbols, symbol, long_size, short_size, base, middle) >= 0:
            good = middle
        else:
            bad = middle
    return 0 if bad > ticks_max else good


@kernel
def liquidation_ticks(
    brackets: Rows,
    symbols: Rows,
    symbol: int,
    long_lots: int,
    short_lots: int,
    entry_quanta: int,
    rest_quanta: int,
) -> int:
    """Liquidation price of the positions in one symbol that share their collateral; 0: none.

    long_lots, short_lots   >= 0, sizes of the legs; one of them is 0 but for hedge mode with cross
    entry_quanta            signed exact cost of both legs: a short's is negative
    rest_quanta             wallet - maintenance of the other symbols + their unrealised PnL;
                            isolated: the position's own wallet
    returns                 1 to the symbol's highest price, or 0
    source                  README "Liquidation": the price where equity equals maintenance
    """
    s = symbols[symbol]
    long_size = long_lots * s["tick_lot_quanta"]
    short_size = short_lots * s["tick_lot_quanta"]
    size = max(long_size, short_size)
    if size == 0:
        return 0
    ticks_max = min(s["price_ticks_max"], EXPOSURE_QUANTA_MAX // size)
    base = bounded(rest_quanta, EXPOSURE_QUANTA_MAX) - bounded(entry_quanta, EXPOSURE_QUANTA_MAX)
    # A net long is liquidated below, a net short above. A hedged book may fall to either side: its
    # maintenance grows with the price; the side of its net comes first.
    safer = 1 if long_size > short_size else -1
    while True:
        near = _estimate(brackets, symbols, symbol, long_size, short_size, base, safer, ticks_max)
        if near != 0:
            found = _last_safe(
                brackets, symbols, symbol, long_size, short_size, base, safer, ticks_max, near
            )
            if found != 0:
                return found
        if safer < 0 or short_size == 0:
            return 0
        safer = -1


@kernel
def cross_liquidation_ticks(
    accounts: Rows,
    wallets: Rows,
    symbols: Rows,
    positions: Rows,
    brackets: Rows,
    account: int,
    wallet: int,
    symbol: int,
) -> int:
    """Liquidation price of an account's cross positions in one symbol: both legs share it."""
    equity, needed, _ = cross_health(
        accounts, wallets, symbols, positions, brackets, account, wallet, symbol
    )
    longs = 0
    shorts = 0
    entry = 0
    at = accounts[account]["first_position"]
    while at != NIL:
        p = positions[at]
        if p["symbol"] == symbol and p["isolated"] == 0 and p["lots"] != 0:
            if p["lots"] > 0:
                longs += p["lots"]
            else:
                shorts -= p["lots"]
            entry += p["entry_quanta"]
        at = p["next_position"]
    return liquidation_ticks(brackets, symbols, symbol, longs, shorts, entry, equity - needed)


@inlined
def isolated_liquidation_ticks(brackets: Rows, symbols: Rows, p: Rows) -> int:
    """Liquidation price of one isolated position."""
    lots = p["lots"]
    return liquidation_ticks(
        brackets,
        symbols,
        p["symbol"],
        max(lots, 0),
        max(-lots, 0),
        p["entry_quanta"],
        p["isolated_quanta"],
    )


# ---------------------------------------------------------------- bankruptcy price


@inlined
def equity_share(equity_quanta: int, part_quanta: int, whole_quanta: int, count: int) -> int:
    """What of an account's equity stands behind one position: its part of the maintenance margin.

    Without brackets nothing has maintenance, and `count` positions share alike. Rounded down, so
    that the shares never add up to more than there is.
    """
    if whole_quanta > 0:
        return muldiv_down(equity_quanta, part_quanta, whole_quanta)
    return equity_quanta // count


@kernel
def bankruptcy_ticks(
    symbols: Rows, symbol: int, lots: int, value_quanta: int, share_quanta: int, fee_ppm: int
) -> int:
    """The worst price at which a position can be closed for what stands behind it.

    lots          signed, not 0
    value_quanta  its notional at mark (at cost before the first mark)
    share_quanta  the equity behind it at the same mark; an isolated one's own. May be negative
    fee_ppm       taker fee of the closing trade, kept back from the share; 0: none is paid
    returns       1 to the symbol's highest price
    """
    s = symbols[symbol]
    size = (lots if lots > 0 else -lots) * s["tick_lot_quanta"]
    # A fee of more than half the notional is not kept back whole: there is no such market.
    fee = min(fee_ppm, PPM // 2)
    if lots > 0:
        left = bounded(value_quanta - share_quanta, EXPOSURE_QUANTA_MAX)
        ticks = -((-muldiv_up(left, PPM, PPM - fee)) // size)
    else:
        left = bounded(value_quanta + share_quanta, EXPOSURE_QUANTA_MAX)
        ticks = muldiv_down(left, PPM, PPM + fee) // size
    return min(max(ticks, 1), s["price_ticks_max"])
