"""What reports declare about symbols, assets and contracts, in the account view's tables.

Reads   PARAMETERS, PRICE and the like out of a batch of reports.
Writes  the tables of what is declared (gateways/accounts/layout.py).
Never   touches an account's money, positions or orders.
"""

from __future__ import annotations

import numpy as np

from gateways.accounts.layout import ACCOUNTS, ASSETS, COMMAND_NS, SCRATCH, SYMBOLS
from gateways.accounts.rows import Tables
from shm.codes import Kind
from shm.jit import inlined, kernel
from shm.maintenance import bracket_amount
from shm.pointers import Cells, Rows
from shm.units import BRACKETS_MAX, NIL


@kernel
def apply_parameters(t: Tables, words: Cells, at: int, symbol: int, account: int) -> None:
    """PARAMETERS: six words of an administrative command; the fourth report makes it whole.

    at      first word of the report
    source  shm/kinds.py: words 3 to 5 and 8 to 23 of the command
    """
    h = t.head
    status = (words[at + 1] >> 56) & 0xFF
    kind = status >> 2
    part = status & 3
    for k in range(6):
        word = part * 6 + k
        h[SCRATCH + (word + 3 if word < 3 else word + 5)] = words[at + 2 + k]
    if part != 3:
        return
    if kind == Kind.SYMBOL and symbol < h[SYMBOLS]:
        s = t.symbols[symbol]
        if s["tick_lot_quanta"] == 0:
            s["first_position"] = NIL
            s["last_position"] = NIL
        s["tick_lot_quanta"] = h[SCRATCH + 3]
        s["asset"] = h[SCRATCH + 4]
        s["state"] = h[SCRATCH + 5]
        s["name"][0] = h[SCRATCH + 8]
        s["name"][1] = h[SCRATCH + 9]
        s["qty_lots_min"] = h[SCRATCH + 10]
        s["qty_lots_max"] = h[SCRATCH + 11]
        s["notional_quanta_min"] = h[SCRATCH + 12]
        s["price_ticks_min"] = h[SCRATCH + 13]
        s["price_ticks_max"] = h[SCRATCH + 14]
        s["band_ppm"] = h[SCRATCH + 15]
        s["market_ppm"] = h[SCRATCH + 16]
        s["maker_fee_ppm"] = h[SCRATCH + 17]
        s["taker_fee_ppm"] = h[SCRATCH + 18]
        s["leverage_max"] = h[SCRATCH + 19]
        s["leverage_default"] = h[SCRATCH + 20]
        s["orders_max"] = h[SCRATCH + 21]
        s["tick_quanta"] = h[SCRATCH + 22]
    elif kind == Kind.CONTRACT and symbol < h[SYMBOLS]:
        c = t.contracts[symbol]
        c["declared"] = 1
        c["funding_interval_ns"] = h[SCRATCH + 3]
        c["impact_quanta"] = h[SCRATCH + 5]
        c["interest_ppb"] = h[SCRATCH + 8]
        c["funding_clamp_ppb"] = h[SCRATCH + 9]
        c["funding_cap_ppb"] = h[SCRATCH + 10]
        c["funding_floor_ppb"] = h[SCRATCH + 11]
        c["mark_band_ppm"] = h[SCRATCH + 12]
        c["source_clamp_ppm"] = h[SCRATCH + 13]
        c["source_stale_ns"] = h[SCRATCH + 14]
        c["liquidation_fee_ppm"] = h[SCRATCH + 15]
        c["protect_ppm"] = h[SCRATCH + 16]
        c["breaker_ppm"] = h[SCRATCH + 17]
        c["breaker_window_ns"] = h[SCRATCH + 18]
        c["breaker_pause_ns"] = h[SCRATCH + 19]
        c["algos_max"] = h[SCRATCH + 20]
        c["position_quanta_max"] = h[SCRATCH + 21]
    elif kind == Kind.BRACKET and symbol < h[SYMBOLS]:
        index = h[SCRATCH + 3]
        row = symbol * BRACKETS_MAX + index
        b = t.brackets[row]
        b["floor_quanta"] = h[SCRATCH + 4]
        b["cap_quanta"] = h[SCRATCH + 5]
        b["maintenance_ppm"] = h[SCRATCH + 8]
        b["leverage_max"] = h[SCRATCH + 9]
        b["amount_quanta"] = 0
        if index > 0:
            below = t.brackets[row - 1]
            b["amount_quanta"] = bracket_amount(
                h[SCRATCH + 4], h[SCRATCH + 8], below["maintenance_ppm"], below["amount_quanta"]
            )
        t.symbols[symbol]["brackets_count"] = index + 1
    elif kind == Kind.ASSET and h[SCRATCH + 3] >= 0 and h[SCRATCH + 3] < h[ASSETS]:
        a = t.assets[h[SCRATCH + 3]]
        a["declared"] = 1
        a["scale"] = h[SCRATCH + 4]
        a["name"][0] = h[SCRATCH + 8]
        a["name"][1] = h[SCRATCH + 9]
    elif kind == Kind.FEE_RATES and account < h[ACCOUNTS]:
        a = t.accounts[account]
        a["own_fees"] = h[SCRATCH + 5]
        a["maker_fee_ppm"] = h[SCRATCH + 3] if h[SCRATCH + 5] == 1 else 0
        a["taker_fee_ppm"] = h[SCRATCH + 4] if h[SCRATCH + 5] == 1 else 0
        t.account_times[account] = h[COMMAND_NS]


@inlined
def set_next_funding(t: Tables, symbol: int, next_ns: int) -> None:
    t.contracts[symbol]["funding_next_ns"] = next_ns
    t.rates[2 * symbol + 1] = next_ns


@kernel
def apply_price(t: Tables, r: Rows) -> None:
    """PRICE: mark, index and the funding rate if it were due now."""
    t.symbols[r["symbol"]]["mark_ticks"] = r["mark_ticks"]
    t.contracts[r["symbol"]]["index_ticks"] = r["index_ticks"]
    set_next_funding(t, np.int64(r["symbol"]), r["next_ns"])
    t.rates[2 * np.int64(r["symbol"])] = r["rate_ppb"]
