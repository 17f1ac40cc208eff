"""Funding: premium samples, the rate of an interval, and paying every position once.

Reads   impact prices that matching found (SAMPLE), CONTRACT parameters, positions of a symbol.
Writes  the premium sums and the round in CONTRACT; wallets and isolated wallets; FUNDING,
        FUNDING_ROUND and MOVE reports; what it proposes: the next slice of a round.
Never   looks at a clock: what is due is due at the time of a TICK.

    TICK at or after the funding time     rate and mark are fixed, FUNDING_ROUND 0, slice proposed
    FUNDING (proposed by settlement)      pays some rows of the symbol's list, proposes the next
    a fill in between                     pays the position it is about to change first
    last slice                            dust to DUST_ACCOUNT: MOVE, then FUNDING_ROUND 1

So everybody pays on what he had when the round began, whenever his slice comes. A position says in
`funding_round` which round it was last paid in; that makes a payment happen once.

Roundings: a premium, their mean and a rate toward zero, at 1e-9; a payment up when it is paid and
down when it is received, at one quantum. What that keeps back is the dust of the round.

Invariants
    1  no round is open, or no more than one: the next one waits
    2  while none is open, funding_round of every position is that of the contract
    3  round_sum_quanta = received - paid so far; its final value is -dust, 0 <= dust < positions
    4  funding_pending is set exactly while a FUNDING of the open round is proposed but not decided
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from engine import proposals, reports
from engine.commands import Commands, symbol_of
from engine.reports import Out
from engine.setup import ASSETS
from engine.state import Risk
from shm.arithmetic import (
    clamped_product,
    muldiv_cut,
    muldiv_down,
    muldiv_rest,
    muldiv_up,
)
from shm.atomics import prefetch
from shm.codes import Halt, Reason
from shm.jit import inlined, kernel, rarely
from shm.pointers import Cells, Rows
from shm.units import (
    DUST_ACCOUNT,
    EXPOSURE_QUANTA_MAX,
    NIL,
    PPB,
    PREMIUM_SAMPLES_MAX,
    RATE_PPB_MAX,
)

_SLICE_ONCE: Final = 128  # rows of a FUNDING that doesn't say: in logs of before it did
EIGHT_HOURS_NS: Final = 28_800_000_000_000
_WALLET_MAX: Final = 2 * EXPOSURE_QUANTA_MAX - 1  # no payment takes a wallet beyond +- this


# ---------------------------------------------------------------- premium and rate


@kernel
def side_premium(notional: int, ticks: int, divisor: int, index: int, bid: bool) -> int:
    """How far an impact price is beyond the index, as parts per billion of it; >= 0, toward zero.

    The impact price is notional * ticks / divisor, exactly (engine/matching.py).

    bid         True: max(0, impact - index), False: max(0, index - impact)
    """
    # Whole ticks and the rest apart: nothing is rounded before the last division.
    whole = muldiv_down(notional, ticks, divisor)
    rest = muldiv_rest(notional, ticks, divisor)
    if bid:
        ahead = whole - index
    else:
        # index - impact = (index - whole - 1) + (divisor - rest) / divisor when something is left
        ahead = index - whole
        if rest > 0:
            ahead -= 1
            rest = divisor - rest
    if ahead < 0:
        return 0
    if ahead >= index:
        return RATE_PPB_MAX
    parts = muldiv_down(ahead, PPB, index)
    left = muldiv_rest(ahead, PPB, index) + muldiv_down(rest, PPB, divisor)
    return min(parts + left // index, RATE_PPB_MAX)


@kernel
def add_premium(r: Risk, symbol: int, x: Rows, second: int) -> None:
    """A premium sample from an IMPACT record; one a second, and none without both impact prices."""
    c = r.contracts[symbol]
    index = c["index_ticks"]
    notional = x["trade_id"]
    if (
        x["lots"] == 0
        or x["maker_open_lots"] == 0
        or second == c["premium_second"]
        or c["premium_count"] >= PREMIUM_SAMPLES_MAX
    ):
        return
    premium = side_premium(notional, x["price_ticks"], x["lots"], index, True)
    premium -= side_premium(notional, x["open_lots"], x["maker_open_lots"], index, False)
    c["premium_count"] += 1
    c["premium_sum"] += c["premium_count"] * premium
    c["premium_second"] = second


@inlined
def _within(value: int, least: int, most: int) -> int:
    return min(max(value, least), most)


@kernel
def rate_of(premium: int, interest: int, clamp: int, interval_ns: int, floor: int, cap: int) -> int:
    """Funding rate of an interval: [premium + (interest - premium, within +- clamp)] * H / 8.

    All rates in ppb; the result is cut toward zero, then kept within floor and cap.
    """
    rate = premium + _within(interest - premium, -clamp, clamp)
    return _within(muldiv_cut(rate, interval_ns, EIGHT_HOURS_NS), floor, cap)


@kernel
def rate_now(r: Risk, symbol: int) -> int:
    """The rate if funding were due now; 0 where there is no funding."""
    c = r.contracts[symbol]
    if c["funding_interval_ns"] == 0:
        return 0
    count = c["premium_count"]
    premium = 0
    if count > 0:
        # Sample k weighs k: the newest ones say most about what is paid.
        premium = muldiv_cut(c["premium_sum"], 2, count * (count + 1))
    return rate_of(
        premium,
        c["interest_ppb"],
        c["funding_clamp_ppb"],
        c["funding_interval_ns"],
        c["funding_floor_ppb"],
        c["funding_cap_ppb"],
    )


@inlined
def next_time(first_ns: int, interval_ns: int, now_ns: int) -> int:
    """The first funding time after `now_ns`: whole intervals from `first_ns`, back or forth."""
    return first_ns + ((now_ns - first_ns) // interval_ns + 1) * interval_ns


# ---------------------------------------------------------------- a payment


@inlined
def amount_of(lots: int, mark: int, unit: int, rate: int) -> int:
    """What a position receives (negative: pays) at a rate in ppb; longs pay when it is > 0."""
    size = lots if lots >= 0 else -lots
    notional = clamped_product(size * unit, mark, EXPOSURE_QUANTA_MAX)
    if (lots > 0) == (rate > 0):
        return -muldiv_up(notional, abs(rate), PPB)
    return muldiv_down(notional, abs(rate), PPB)


@kernel
def _pay(r: Risk, out: Out, setup: Cells, seq: int, position: int) -> None:
    """Pay one position its share of the open round, and report it."""
    rarely()
    p = r.positions[position]
    symbol = symbol_of(p)
    c = r.contracts[symbol]
    rate = c["round_rate_ppb"]
    mark = c["round_mark_ticks"]
    amount = amount_of(p["lots"], mark, r.symbols[symbol]["tick_lot_quanta"], rate)
    w = r.wallets[p["wallet"]]
    before = p["isolated_quanta"] if p["isolated"] != 0 else w["wallet_quanta"]
    # No sum leaves int64, whatever the market does: what doesn't fit any more goes to the dust.
    after = _within(before + amount, min(before, -_WALLET_MAX), max(before, _WALLET_MAX))
    amount = after - before
    if p["isolated"] != 0:
        p["isolated_quanta"] = after
        w["isolated_quanta"] += amount
    else:
        w["wallet_quanta"] = after
    w["funding_quanta"] += amount
    c["round_sum_quanta"] += amount
    reports.funding(r, out, setup, seq, position, c["round_ns"], rate, mark, amount, after)


@kernel
def due_of(r: Risk, position: int) -> int:
    """What `settle_due` would pay into a position now; negative: take out of it."""
    p = r.positions[position]
    symbol = symbol_of(p)
    c = r.contracts[symbol]
    if p["funding_round"] == c["funding_round"] or p["lots"] == 0:
        return 0
    unit = r.symbols[symbol]["tick_lot_quanta"]
    return amount_of(p["lots"], c["round_mark_ticks"], unit, c["round_rate_ppb"])


@inlined
def settle_due(r: Risk, out: Out, setup: Cells, seq: int, position: int) -> None:
    """Before anything changes a position or its margin: pay what an open round still owes or asks.

    One report at most. Everything that touches lots, margin type or isolated wallet calls it.
    """
    p = r.positions[position]
    rounds = r.contracts[p["symbol"]]["funding_round"]
    if p["funding_round"] != rounds:
        p["funding_round"] = rounds
        if p["lots"] != 0:
            _pay(r, out, setup, seq, position)


# ---------------------------------------------------------------- a round


@inlined
def _propose(r: Risk, setup: Cells, symbol: int) -> None:
    r.contracts[symbol]["funding_pending"] = 1
    proposals.put(r.proposals, setup, proposals.FUNDING | symbol)


@kernel
def begin_due(r: Risk, out: Out, setup: Cells, command: Rows, symbol: int) -> None:
    """Begin the round of a symbol when a TICK says that its funding time has come.

    It waits while the symbol is halted, has no mark, or is still paying the round before. Times
    that were missed are not made up for: one round, for the last of them, at the rate of one
    interval.
    """
    c = r.contracts[symbol]
    interval = c["funding_interval_ns"]
    now = command["ts_ns"]
    if (
        interval == 0
        or now < c["funding_next_ns"]
        or c["halted"] != Halt.NONE
        or c["funding_open"] == 1
        or r.symbols[symbol]["mark_ticks"] == 0
    ):
        return
    following = next_time(c["funding_first_ns"], interval, now)
    c["round_ns"] = following - interval
    c["funding_next_ns"] = following
    c["round_rate_ppb"] = rate_now(r, symbol)
    c["round_mark_ticks"] = r.symbols[symbol]["mark_ticks"]
    c["round_sum_quanta"] = 0
    c["last_rate_ppb"] = c["round_rate_ppb"]
    c["premium_sum"] = 0
    c["premium_count"] = 0
    c["funding_round"] += 1
    c["funding_open"] = 1
    c["funding_row"] = r.symbols[symbol]["first_position"]
    reports.funding_round(r, out, setup, command["seq"], symbol, 0, 0)
    _propose(r, setup, symbol)


@kernel
def decide_funding(r: Risk, cs: Commands, at: int) -> int:
    """FUNDING: the slice that its symbol's contract has marked as proposed."""
    c = r.contracts[cs.base[at]["symbol"]]
    if c["funding_pending"] == 0:
        return Reason.NO_CHANGE
    c["funding_pending"] = 0
    return Reason.NONE


@kernel
def settle_slice(r: Risk, out: Out, cursors: Cells, setup: Cells, cs: Commands, at: int) -> bool:
    """FUNDING: pay as many rows of the symbol's list as it says; False: no room, come again.

    VENUE.slice_sum counts the rows this command has done.
    """
    command = cs.base[at]
    symbol = symbol_of(command)
    seq = command["seq"]
    v = r.venue[0]
    c = r.contracts[symbol]
    assert c["funding_open"] == 1
    row = c["funding_row"]
    rows = cs.settles[at]["settle_lots"]
    if rows == 0:
        rows = _SLICE_ONCE
    while row != NIL and v["slice_sum"] < rows:
        if not reports.has_room(r, cursors, setup):
            c["funding_row"] = row
            return False
        following: Any = np.int64(r.positions[row]["next_in_symbol"])
        if following != NIL:
            # Ask for what comes next: with a million positions every row of it is a cache miss.
            wallet: Any = np.int64(r.positions[following]["wallet"])
            after: Any = np.int64(r.positions[following]["next_in_symbol"])
            prefetch(r.wallets, wallet)
            prefetch(r.positions, after)
        settle_due(r, out, setup, seq, row)
        row = following
        v["slice_sum"] += 1
    c["funding_row"] = row
    if not reports.has_room(r, cursors, setup):
        return False
    v["slice_sum"] = 0
    if row != NIL:
        _propose(r, setup, symbol)
    else:
        _close(r, out, setup, seq, symbol)
    return True


@kernel
def _close(r: Risk, out: Out, setup: Cells, seq: int, symbol: int) -> None:
    """Everybody has been paid: what rounding kept goes to the dust account."""
    c = r.contracts[symbol]
    dust = -c["round_sum_quanta"]
    c["funding_open"] = 0
    if dust != 0:
        row = DUST_ACCOUNT * setup[ASSETS] + r.symbols[symbol]["asset"]
        w = r.wallets[row]
        w["wallet_quanta"] += dust
        w["funding_quanta"] += dust
        reports.dust(r, out, setup, seq, symbol, row, dust)
    reports.funding_round(r, out, setup, seq, symbol, 1, dust)
