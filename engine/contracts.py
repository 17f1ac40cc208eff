"""Risk's decisions about what makes a symbol a perpetual: CONTRACT, SOURCE, and the clock's words.

Reads   CONTRACT, SOURCE, SOURCE_PRICE and SAMPLE commands.
Writes  parameters of CONTRACT and SOURCE rows; when a source has last been heard.
Never   reckons a price: that is settlement's turn (engine/index.py).

Every field is bounded here, so that no product or sum in index and funding leaves its type.
"""

from __future__ import annotations

from engine.checks import symbol_reason, zero
from engine.commands import Commands, symbol_of
from engine.funding import next_time
from engine.index import FUTURE_NS, forget_window
from engine.state import Risk
from shm.codes import Reason, Route
from shm.jit import inlined, kernel
from shm.pointers import Cells, Rows
from shm.units import (
    FUNDING_NS_MAX,
    FUNDING_NS_MIN,
    NOTIONAL_QUANTA_MAX,
    PPM,
    RATE_PPB_MAX,
    SOURCES_MAX,
    WEIGHT_MAX,
)

DISTANCE_PPM_MAX = 10 * PPM  # of bands and jumps
ALGOS_MAX = (1 << 31) - 1
FIRST_NS_MAX = 1 << 62


@inlined
def _perpetual_reason(r: Risk, setup: Cells, symbol: int) -> int:
    """Whether there is such a symbol, and a CONTRACT for it."""
    reason = symbol_reason(r, setup, symbol)
    if reason == Reason.NONE and r.contracts[symbol]["declared"] == 0:
        return Reason.UNKNOWN_SYMBOL
    return reason


@inlined
def _out(value: int, least: int, most: int) -> bool:
    return value < least or value > most


@kernel
def _bad_contract(d: Rows) -> bool:
    """Whether a parameter of a CONTRACT command is outside what it may be."""
    interval = d["funding_interval_ns"]
    day = FUNDING_NS_MAX
    return (
        (interval != 0 and _out(interval, FUNDING_NS_MIN, day))
        or _out(d["funding_first_ns"], 0, FIRST_NS_MAX)
        or _out(d["impact_quanta"], 0, NOTIONAL_QUANTA_MAX)
        or _out(d["interest_ppb"], -RATE_PPB_MAX, RATE_PPB_MAX)
        or _out(d["funding_clamp_ppb"], 0, RATE_PPB_MAX)
        or _out(d["funding_cap_ppb"], -RATE_PPB_MAX, RATE_PPB_MAX)
        or _out(d["funding_floor_ppb"], -RATE_PPB_MAX, d["funding_cap_ppb"])
        or _out(d["mark_band_ppm"], 0, DISTANCE_PPM_MAX)
        or _out(d["source_clamp_ppm"], 0, PPM)
        or _out(d["source_stale_ns"], 0, day)
        or _out(d["liquidation_fee_ppm"], 0, PPM)
        or _out(d["protect_ppm"], 0, DISTANCE_PPM_MAX)
        or _out(d["breaker_ppm"], 0, PPM)
        or _out(d["breaker_window_ns"], 0, day)
        or _out(d["breaker_pause_ns"], 0, day)
        or (d["breaker_ppm"] > 0 and (d["breaker_window_ns"] == 0 or d["breaker_pause_ns"] == 0))
        or _out(d["algos_max"], 0, ALGOS_MAX)
        or _out(d["position_quanta_max"], 0, NOTIONAL_QUANTA_MAX)
        or _out(d["jump_ppm"], 0, DISTANCE_PPM_MAX)
    )


@kernel
def decide_contract(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """CONTRACT: declare what makes a symbol a perpetual, or change any of it.

    A new funding interval or first time counts from the next such time on; a round that has begun
    ends as it began.
    """
    if not zero(cs.words, at, 23, 23):
        return Reason.MALFORMED
    command = cs.base[at]
    symbol = symbol_of(command)
    reason = symbol_reason(r, setup, symbol)
    if reason != Reason.NONE:
        return reason
    d = cs.contracts[at]
    if _bad_contract(d):
        return Reason.BAD_PARAMETER
    c = r.contracts[symbol]
    interval = d["funding_interval_ns"]
    first = d["funding_first_ns"]
    if interval != c["funding_interval_ns"] or first != c["funding_first_ns"]:
        c["funding_next_ns"] = next_time(first, interval, command["ts_ns"]) if interval > 0 else 0
    if d["breaker_window_ns"] != c["breaker_window_ns"]:
        forget_window(c)
    if c["declared"] == 0:
        c["breaker_seen_ticks"] = r.symbols[symbol]["mark_ticks"]
        c["index_ticks"] = r.symbols[symbol]["mark_ticks"]
    c["declared"] = 1
    c["funding_interval_ns"] = interval
    c["funding_first_ns"] = first
    c["impact_quanta"] = d["impact_quanta"]
    c["interest_ppb"] = d["interest_ppb"]
    c["funding_clamp_ppb"] = d["funding_clamp_ppb"]
    c["funding_cap_ppb"] = d["funding_cap_ppb"]
    c["funding_floor_ppb"] = d["funding_floor_ppb"]
    c["mark_band_ppm"] = d["mark_band_ppm"]
    c["source_clamp_ppm"] = d["source_clamp_ppm"]
    c["source_stale_ns"] = d["source_stale_ns"]
    c["liquidation_fee_ppm"] = d["liquidation_fee_ppm"]
    c["protect_ppm"] = d["protect_ppm"]
    c["breaker_ppm"] = d["breaker_ppm"]
    c["breaker_window_ns"] = d["breaker_window_ns"]
    c["breaker_pause_ns"] = d["breaker_pause_ns"]
    c["algos_max"] = d["algos_max"]
    c["position_quanta_max"] = d["position_quanta_max"]
    c["jump_ppm"] = d["jump_ppm"]
    return Reason.NONE


@kernel
def decide_source(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """SOURCE: declare an index source, change its weight, or (weight 0) drop it."""
    if not zero(cs.words, at, 5, 5) or not zero(cs.words, at, 8, 15):
        return Reason.MALFORMED
    symbol = symbol_of(cs.base[at])
    reason = _perpetual_reason(r, setup, symbol)
    if reason != Reason.NONE:
        return reason
    d = cs.sources[at]
    if _out(d["source"], 0, SOURCES_MAX - 1) or _out(d["weight"], 0, WEIGHT_MAX):
        return Reason.BAD_PARAMETER
    s = r.sources[symbol * SOURCES_MAX + d["source"]]
    s["weight"] = d["weight"]
    if d["weight"] == 0:
        s["price_ticks"] = 0
        s["price_ns"] = 0
        s["taken_ns"] = 0
    count = 0
    for k in range(SOURCES_MAX):
        if r.sources[symbol * SOURCES_MAX + k]["weight"] > 0:
            count += 1
    r.contracts[symbol]["sources_count"] = count
    return Reason.NONE


@kernel
def decide_source_price(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """SOURCE_PRICE: what an index source says, with its own time, which never goes back."""
    if not zero(cs.words, at, 4, 4) or not zero(cs.words, at, 9, 15):
        return Reason.MALFORMED
    command = cs.base[at]
    symbol = symbol_of(command)
    reason = _perpetual_reason(r, setup, symbol)
    if reason != Reason.NONE:
        return reason
    d = cs.sources[at]
    if _out(d["source_ticks"], 1, r.symbols[symbol]["price_ticks_max"]):
        return Reason.BAD_PRICE
    now = command["ts_ns"]
    said = d["source_ns"]
    if _out(d["source"], 0, SOURCES_MAX - 1) or _out(said, 0, now + FUTURE_NS):
        return Reason.BAD_PARAMETER
    s = r.sources[symbol * SOURCES_MAX + d["source"]]
    if s["weight"] == 0:
        return Reason.BAD_PARAMETER
    stale = r.contracts[symbol]["source_stale_ns"]
    if said < s["taken_ns"] or (stale > 0 and said + stale < now):
        return Reason.STALE_PRICE
    s["taken_ns"] = said
    return Reason.NONE


@kernel
def decide_sample(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """SAMPLE: matching looks at the book, for as much notional as the contract says."""
    if not zero(cs.words, at, 3, 5) or not zero(cs.words, at, 8, 15):
        return Reason.MALFORMED
    command = cs.base[at]
    symbol = symbol_of(command)
    reason = _perpetual_reason(r, setup, symbol)
    if reason != Reason.NONE:
        return reason
    # Whole ticks times lots, cut down: matching knows nothing of money.
    command["decided_lots"] = (
        r.contracts[symbol]["impact_quanta"] // r.symbols[symbol]["tick_lot_quanta"]
    )
    command["route"] = Route.SHARD
    return Reason.NONE
