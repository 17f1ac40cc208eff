"""What many kinds of command are asked: who, where, in what state, and whether it is well formed.

Reads   the command's slot, accounts, symbols, assets, wallets.
Writes  nothing: each check gives a codes.Reason, NONE when there is nothing to say against it.
"""

from __future__ import annotations

from typing import Final

from engine.setup import ACCOUNTS, SYMBOLS
from engine.state import Risk
from shm.arithmetic import muldiv_down, wide
from shm.codes import Reason, State
from shm.jit import inlined, kernel
from shm.pointers import Cells, Rows
from shm.records import NO_SYMBOL
from shm.units import EXPOSURE_QUANTA_MAX, MONEY_QUANTA_MAX, PPM

_WORDS: Final = 32  # of a COMMAND slot; its client id starts at word 8


@inlined
def has_client_id(words: Cells, at: int) -> bool:
    """Whether the slot carries a client id."""
    return words[at * _WORDS + 7] >> 56 != 1 and words[at * _WORDS + 8] != 0


@inlined
def line_1_is_clean(words: Cells, at: int) -> bool:
    """The client id is 36 bytes from its first byte on, and nothing stands where zero must."""
    base = at * _WORDS
    if words[base + 7] >> 56 == 1:
        return True  # a command of one line: the sequencer has seen to it that the rest is zero
    if (
        words[base + 8] == 0
        and (words[base + 9] | words[base + 10] | words[base + 11] | words[base + 12]) != 0
    ):
        return False
    return (words[base + 12] >> 32) == 0 and (words[base + 14] | words[base + 15]) == 0


@kernel
def zero(words: Cells, at: int, first: int, last: int) -> bool:
    """Whether the slot's words from `first` to `last` are zero, so that they can gain a meaning."""
    found = 0
    for k in range(first, last + 1):
        found |= words[at * _WORDS + k]
    return found == 0


@inlined
def account_reason(r: Risk, setup: Cells, account: int) -> int:
    if account >= setup[ACCOUNTS] or r.accounts[account]["state"] == State.ABSENT:
        return Reason.UNKNOWN_ACCOUNT
    return Reason.NONE


@inlined
def symbol_reason(r: Risk, setup: Cells, symbol: int) -> int:
    if symbol >= setup[SYMBOLS] or r.symbols[symbol]["state"] == State.ABSENT:
        return Reason.UNKNOWN_SYMBOL
    return Reason.NONE


@inlined
def state_reason(r: Risk, account: int, symbol: int, worst: int) -> int:
    """Whether venue, symbol and account are all in a state no worse than `worst`."""
    if r.venue[0]["state"] > worst or r.venue[0]["disk_state"] > worst:
        return Reason.VENUE_STATE
    if symbol != NO_SYMBOL and r.symbols[symbol]["state"] > worst:
        return Reason.SYMBOL_STATE
    if r.accounts[account]["state"] > worst:
        return Reason.ACCOUNT_STATE
    return Reason.NONE


@inlined
def all_trades(r: Risk, setup: Cells, account: int, symbol: int) -> bool:
    """Whether account and symbol exist, and they and the venue take everything.

    That is so nearly always, and then the three above need not be asked.
    """
    if account >= setup[ACCOUNTS] or symbol >= setup[SYMBOLS]:
        return False
    v = r.venue[0]
    states = wide(r.symbols[symbol]["state"]) | wide(r.accounts[account]["state"])
    return (states | v["state"] | v["disk_state"]) == State.TRADING


@inlined
def price_reason(s: Rows, price: int) -> int:
    """Whether a limit price is one this symbol takes now."""
    if price < s["price_ticks_min"] or price > s["price_ticks_max"]:
        return Reason.BAD_PRICE
    return Reason.NONE


@inlined
def band_reason(s: Rows, price: int) -> int:
    mark = s["mark_ticks"]
    if s["band_ppm"] > 0 and mark > 0:
        off = price - mark if price > mark else mark - price
        if off > muldiv_down(mark, s["band_ppm"], PPM):
            return Reason.PRICE_BAND
    return Reason.NONE


@inlined
def outgrown(w: Rows, more: int) -> bool:
    """Whether `more` exposure could take the sums of a wallet out of int64 (shm/units.py)."""
    return (
        w["exposure_quanta"] + more > EXPOSURE_QUANTA_MAX
        or w["wallet_quanta"] > MONEY_QUANTA_MAX
        or w["wallet_quanta"] < -MONEY_QUANTA_MAX
    )
