"""Index, mark price and circuit breaker of a symbol, from what sources and its own book say.

Reads   SOURCE_PRICE, SAMPLE, MARK and TICK commands; the contract's parameters; last trade.
Writes  sources, index, basis samples, mark and breaker in CONTRACT and SYMBOL; PRICE and SYMBOL
        reports.
Never   looks at positions or orders: everything here costs the same however many there are.

    index   weighted mean of the live sources, each within source_clamp_ppm of their weighted median
    P1      index * (1 + last funding rate * time to the next funding / interval)
    P2      index + mean of (best bid + best ask) / 2 - index, over the last 30 seconds' samples
    mark    the median of P1, P2 and the last trade, within mark_band_ppm of the index

All of them are ticks, rounded to the nearest, half up; the median of rounded numbers is the
rounded median. Without samples P2 is the index, before the first trade the last price is.

No source live, or an index that jumps: index and mark stay where they were, and CONTRACT.halted
says so (codes.Halt). Trading goes on, nobody is liquidated, nothing is funded. An index that has
jumped is believed when it comes back, or when a MARK by hand says that it may be there.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine import funding, reports, triggers
from engine.commands import Commands, symbol_of
from engine.reports import Out
from engine.setup import SYMBOLS
from engine.state import Risk
from shm.arithmetic import muldiv_down, muldiv_nearest
from shm.codes import Halt, Kind, MatchKind, State, Working
from shm.jit import inlined, kernel, rarely
from shm.pointers import Cells, Rows
from shm.units import (
    BASIS_SAMPLES,
    INDEX_JUMP_PPM,
    PPB,
    PPM,
    PRICE_TICKS_MAX,
    SOURCES_MAX,
)

SECOND_NS: Final = 1_000_000_000
BREAKER_PARTS: Final = 8  # the window is seven of them, and the one that is running
FUTURE_NS: Final = 10 * SECOND_NS  # a source's clock may be this far ahead of ours
_ONE: Final = PPB * PPB


# ---------------------------------------------------------------- index


@inlined
def _counts(s: Rows, stale_ns: int, now_ns: int) -> bool:
    """Whether a source is live."""
    return (
        s["weight"] > 0
        and s["price_ticks"] > 0
        and (stale_ns == 0 or s["price_ns"] + stale_ns >= now_ns)
    )


@kernel
def reckon_index(
    sources: Rows, first: int, clamp_ppm: int, stale_ns: int, now_ns: int, base: int
) -> int:
    """The index of live sources in rows `first` to first + SOURCES_MAX - 1; 0: none is live.

    base        the last index, or 0. Where the weight splits exactly in half between two prices,
                their median is the one nearer to it (their mean without one), so that one of two
                sources cannot drag the index away
    """
    total = 0
    for k in range(SOURCES_MAX):
        if _counts(sources[first + k], stale_ns, now_ns):
            total += sources[first + k]["weight"]
    if total == 0:
        return 0
    # The least price that has half of the weight at or below it, and the least with more than half.
    low = 0
    high = 0
    for k in range(SOURCES_MAX):
        if not _counts(sources[first + k], stale_ns, now_ns):
            continue
        price = sources[first + k]["price_ticks"]
        upto = 0
        for j in range(SOURCES_MAX):
            other = sources[first + j]
            if _counts(other, stale_ns, now_ns) and other["price_ticks"] <= price:
                upto += other["weight"]
        if 2 * upto >= total and (low == 0 or price < low):
            low = price
        if 2 * upto > total and (high == 0 or price < high):
            high = price
    median = low
    if high != low:
        if base == 0:
            median = (low + high + 1) // 2
        elif abs(high - base) < abs(base - low):
            median = high
    reach = muldiv_down(median, clamp_ppm, PPM)
    weighted = 0
    for k in range(SOURCES_MAX):
        s = sources[first + k]
        if _counts(s, stale_ns, now_ns):
            price = min(max(s["price_ticks"], median - reach), median + reach)
            weighted += s["weight"] * price
    return (2 * weighted + total) // (2 * total)


@inlined
def _jumps(before: int, after: int, ppm: int) -> bool:
    """Whether the larger of two prices is more than `ppm` above the smaller."""
    low = min(before, after)
    return max(before, after) - low > muldiv_down(low, ppm, PPM)


@kernel
def refresh_index(r: Risk, symbol: int, now_ns: int) -> None:
    """Reckon the index again, or say why it stays as it is."""
    c = r.contracts[symbol]
    if c["sources_count"] == 0:
        return
    base = c["index_ticks"] if c["index_ticks"] > 0 else r.symbols[symbol]["mark_ticks"]
    found = reckon_index(
        r.sources,
        symbol * SOURCES_MAX,
        c["source_clamp_ppm"],
        c["source_stale_ns"],
        now_ns,
        c["index_ticks"],
    )
    jump = c["jump_ppm"] if c["jump_ppm"] > 0 else INDEX_JUMP_PPM
    if found == 0:
        c["halted"] = Halt.STALE
    elif base > 0 and _jumps(base, found, jump):
        c["halted"] = Halt.JUMP
    else:
        c["halted"] = Halt.NONE
        c["index_ticks"] = min(max(found, 1), PRICE_TICKS_MAX)
        c["index_ns"] = now_ns


# ---------------------------------------------------------------- mark


@inlined
def _drop_basis(c: Rows, place: int) -> None:
    if (c["basis_bits"] >> place) & 1:
        c["basis_bits"] &= ~(np.int64(1) << np.int64(place))
        c["basis_sum"] -= c["basis"][place]
        c["basis_count"] -= 1


@kernel
def age_basis(c: Rows, second: int) -> None:
    """Drop samples that are older than the last BASIS_SAMPLES seconds, `second` the newest."""
    behind = second - c["basis_second"]
    if behind >= BASIS_SAMPLES:
        c["basis_bits"] = 0
        c["basis_sum"] = 0
        c["basis_count"] = 0
    else:
        for k in range(1, behind + 1):
            _drop_basis(c, (c["basis_second"] + k) % BASIS_SAMPLES)
    c["basis_second"] = second


@kernel
def add_basis(c: Rows, second: int, bid: int, ask: int) -> None:
    """A sample of this second; the last one of a second counts."""
    age_basis(c, second)
    place = second % BASIS_SAMPLES
    _drop_basis(c, place)
    sample = bid + ask - 2 * c["index_ticks"]
    c["basis"][place] = sample
    c["basis_bits"] |= np.int64(1) << np.int64(place)
    c["basis_sum"] += sample
    c["basis_count"] += 1


@kernel
def median_mark(
    index: int,
    rate_ppb: int,
    left_ns: int,
    interval_ns: int,
    basis_sum: int,
    basis_count: int,
    last: int,
    band_ppm: int,
) -> int:
    """The mark of these inputs in ticks, at least 1.

    rate_ppb, left_ns, interval_ns    of funding; interval 0: there is none
    basis_sum, basis_count            samples of best bid + best ask - 2 * index
    last                              last trade; 0: none yet
    """
    p1 = index
    if interval_ns > 0:
        # The rate that is still to come, at 1e-18 and cut down, then one rounding to a tick.
        share = muldiv_down(rate_ppb * PPB, min(max(left_ns, 0), interval_ns), interval_ns)
        p1 = muldiv_nearest(index, _ONE + share, _ONE)
    p2 = index
    if basis_count > 0:
        halves = 2 * basis_count
        p2 = (2 * (halves * index + basis_sum) + halves) // (2 * halves)
    if last == 0:
        last = index
    mark = p1 + p2 + last - min(p1, min(p2, last)) - max(p1, max(p2, last))
    if band_ppm > 0:
        reach = muldiv_down(index, band_ppm, PPM)
        mark = min(max(mark, index - reach), index + reach)
    return max(mark, 1)


@kernel
def refresh_mark(r: Risk, out: Out, setup: Cells, command: Rows, symbol: int) -> None:
    """Reckon the mark of a symbol whose index comes from sources, if it has one."""
    c = r.contracts[symbol]
    s = r.symbols[symbol]
    if c["sources_count"] == 0 or c["index_ticks"] == 0 or c["halted"] != Halt.NONE:
        return
    now = command["ts_ns"]
    age_basis(c, now // SECOND_NS)
    mark = median_mark(
        c["index_ticks"],
        c["last_rate_ppb"],
        c["funding_next_ns"] - now,
        c["funding_interval_ns"],
        c["basis_sum"],
        c["basis_count"],
        s["last_ticks"],
        c["mark_band_ppm"],
    )
    s["mark_ticks"] = min(mark, s["price_ticks_max"])
    mark_changed(r, out, setup, command, symbol)


@kernel
def mark_changed(r: Risk, out: Out, setup: Cells, command: Rows, symbol: int) -> None:
    """What follows from a mark that may be another one; cheap when it is not."""
    mark = r.symbols[symbol]["mark_ticks"]
    if mark > 0:
        triggers.on_price(r, setup, symbol, Working.MARK, mark)
    if r.contracts[symbol]["breaker_seen_ticks"] != mark:
        _watch(r, out, setup, command, symbol)


# ---------------------------------------------------------------- circuit breaker


@inlined
def _see(c: Rows, place: int, mark: int) -> None:
    if c["breaker_low_ticks"][place] == 0 or mark < c["breaker_low_ticks"][place]:
        c["breaker_low_ticks"][place] = mark
    if mark > c["breaker_high_ticks"][place]:
        c["breaker_high_ticks"][place] = mark


@kernel
def forget_window(c: Rows) -> None:
    """What moved before counts no more."""
    for k in range(BREAKER_PARTS):
        c["breaker_low_ticks"][k] = 0
        c["breaker_high_ticks"][k] = 0


@kernel
def _watch(r: Risk, out: Out, setup: Cells, command: Rows, symbol: int) -> None:
    """Open the breaker when the mark is too far from any that stood within the window.

    The window is kept in sevenths, so it reaches back at least as far as declared and at most a
    seventh further.
    """
    c = r.contracts[symbol]
    s = r.symbols[symbol]
    mark = s["mark_ticks"]
    before = c["breaker_seen_ticks"]
    c["breaker_seen_ticks"] = mark
    window = c["breaker_window_ns"]
    if c["breaker_ppm"] == 0 or window == 0 or before == 0:
        return
    part = command["ts_ns"] // ((window + BREAKER_PARTS - 2) // (BREAKER_PARTS - 1))
    behind = part - c["breaker_part"]
    if behind >= BREAKER_PARTS or behind < 0:
        forget_window(c)
    else:
        for k in range(1, behind + 1):
            c["breaker_low_ticks"][(c["breaker_part"] + k) % BREAKER_PARTS] = 0
            c["breaker_high_ticks"][(c["breaker_part"] + k) % BREAKER_PARTS] = 0
    c["breaker_part"] = part
    # The mark before stood until now, however long ago it came.
    _see(c, part % BREAKER_PARTS, before)
    _see(c, part % BREAKER_PARTS, mark)
    low = mark
    high = mark
    for k in range(BREAKER_PARTS):
        if c["breaker_low_ticks"][k] > 0:
            low = min(low, c["breaker_low_ticks"][k])
            high = max(high, c["breaker_high_ticks"][k])
    moved = high - mark > muldiv_down(high, c["breaker_ppm"], PPM)
    moved |= mark - low > muldiv_down(low, c["breaker_ppm"], PPM)
    if moved and c["breaker_until_ns"] == 0 and s["state"] == State.TRADING:
        s["state"] = State.CANCEL_ONLY
        c["breaker_until_ns"] = command["ts_ns"] + c["breaker_pause_ns"]
        reports.symbol(r, out, setup, command, symbol)


@inlined
def release_breaker(r: Risk, symbol: int) -> None:
    """The operator has set the symbol's state himself: the breaker has no say in it any more."""
    r.contracts[symbol]["breaker_until_ns"] = 0


@kernel
def _close_breaker(r: Risk, out: Out, setup: Cells, command: Rows, symbol: int) -> None:
    """TICK: trading goes on once the pause is over; what moved before is forgotten."""
    c = r.contracts[symbol]
    if c["breaker_until_ns"] == 0 or command["ts_ns"] < c["breaker_until_ns"]:
        return
    c["breaker_until_ns"] = 0
    forget_window(c)
    if r.symbols[symbol]["state"] == State.CANCEL_ONLY:
        r.symbols[symbol]["state"] = State.TRADING
        reports.symbol(r, out, setup, command, symbol)


# ---------------------------------------------------------------- commands, at their settlement


@kernel
def refresh(r: Risk, out: Out, setup: Cells, command: Rows, symbol: int, always: bool) -> None:
    """Index and mark again, reported when one of them changed, or `always`."""
    c = r.contracts[symbol]
    s = r.symbols[symbol]
    mark = s["mark_ticks"]
    index = c["index_ticks"]
    halted = c["halted"]
    refresh_index(r, symbol, command["ts_ns"])
    refresh_mark(r, out, setup, command, symbol)
    if always or mark != s["mark_ticks"] or index != c["index_ticks"] or halted != c["halted"]:
        reports.price(r, out, setup, command, symbol, funding.rate_now(r, symbol))


@kernel
def settle_source(r: Risk, out: Out, setup: Cells, cs: Commands, at: int) -> None:
    """SOURCE and SOURCE_PRICE after their answer."""
    command = cs.base[at]
    symbol = symbol_of(command)
    given = cs.sources[at]
    source = r.sources[symbol * SOURCES_MAX + given["source"]]
    # One that was dropped while its price was on the way stays dropped.
    if command["kind"] == Kind.SOURCE_PRICE and source["weight"] > 0:
        source["price_ticks"] = given["source_ticks"]
        source["price_ns"] = min(given["source_ns"], command["ts_ns"])
    c = r.contracts[symbol]
    if c["sources_count"] == 0:
        c["halted"] = Halt.NONE  # by hand from now on
    refresh(r, out, setup, command, symbol, False)


@kernel
def settle_mark(r: Risk, out: Out, setup: Cells, cs: Commands, at: int) -> None:
    """MARK by hand after its answer: it stands until the next one that is reckoned.

    Without sources it stands for the index too. With sources it is where the index may be: one
    that has jumped there is believed.
    """
    command = cs.base[at]
    symbol = symbol_of(command)
    c = r.contracts[symbol]
    if c["declared"] == 0:
        return
    mark = cs.marks[at]["mark_ticks"]
    if c["sources_count"] == 0 or c["halted"] == Halt.JUMP:
        c["index_ticks"] = mark
    refresh_index(r, symbol, command["ts_ns"])
    mark_changed(r, out, setup, command, symbol)
    reports.price(r, out, setup, command, symbol, funding.rate_now(r, symbol))


@kernel
def settle_sample(r: Risk, out: Out, setup: Cells, command: Rows, x: Rows) -> None:
    """SAMPLE: what matching saw of the book; BOOK comes first, IMPACT last."""
    rarely()
    symbol = symbol_of(command)
    c = r.contracts[symbol]
    second = command["ts_ns"] // SECOND_NS
    sound = c["index_ticks"] > 0 and c["halted"] == Halt.NONE
    if x["kind"] == MatchKind.BOOK:
        # A book without both sides says nothing of the basis.
        if sound and x["price_ticks"] > 0 and x["lots"] <= PRICE_TICKS_MAX:
            add_basis(c, second, x["price_ticks"], x["lots"])
    else:
        if sound:
            funding.add_premium(r, symbol, x, second)
        refresh(r, out, setup, command, symbol, c["index_ticks"] > 0)


@kernel
def settle_timers(r: Risk, out: Out, cursors: Cells, setup: Cells, command: Rows) -> bool:
    """TICK: what is due by its time, symbol by symbol; False: no room to report, come again.

    For each: sources that have become stale, then funding, then the end of the breaker's pause.
    VENUE.slice_row is the symbol to go on with.
    """
    v = r.venue[0]
    while v["slice_row"] < setup[SYMBOLS]:
        symbol = v["slice_row"]
        if r.contracts[symbol]["declared"] == 1:
            if not reports.has_room(r, cursors, setup):
                return False
            refresh(r, out, setup, command, symbol, False)
            funding.begin_due(r, out, setup, command, symbol)
            _close_breaker(r, out, setup, command, symbol)
        v["slice_row"] += 1
    v["slice_row"] = 0
    return True
