"""BRACKET: the leverage brackets of a symbol, one command each, from the lowest up.

Reads   BRACKET commands as risk decides them.
Writes  BRACKET rows, and how many a symbol has.
Never   looks at positions: those beyond a new cap stay, and are liquidated when they are unsafe.

A bracket replaces the one of its index and drops those above it, so that a table is changed by
sending it again from the first one that differs. Its maintenance amount is reckoned here
(shm/maintenance.py), and with it no edge has a step.
"""

from __future__ import annotations

from engine.checks import symbol_reason, zero
from engine.commands import Commands
from engine.state import Risk
from shm.arithmetic import wide
from shm.codes import Reason
from shm.jit import kernel
from shm.maintenance import bracket_amount
from shm.pointers import Cells
from shm.units import BRACKETS_MAX, EXPOSURE_QUANTA_MAX, PPM


@kernel
def decide_bracket(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """BRACKET `index` of a symbol: begins where the one before ends, and is no milder than it."""
    if not zero(cs.words, at, 10, 15):
        return Reason.MALFORMED
    symbol = wide(cs.base[at]["symbol"])
    reason = symbol_reason(r, setup, symbol)
    if reason != Reason.NONE:
        return reason
    d = cs.brackets[at]
    s = r.symbols[symbol]
    index = d["index"]
    floor = d["floor_quanta"]
    ppm = d["maintenance_ppm"]
    leverage = d["bracket_leverage_max"]
    if (
        index < 0
        or index >= BRACKETS_MAX
        or index > s["brackets_count"]
        or d["cap_quanta"] <= floor
        or d["cap_quanta"] > EXPOSURE_QUANTA_MAX
        or ppm < 0
        or ppm > PPM
        or leverage < 1
        or leverage > s["leverage_max"]
    ):
        return Reason.BAD_PARAMETER
    row = symbol * BRACKETS_MAX + index
    amount = 0
    if index == 0:
        if floor != 0:
            return Reason.BAD_PARAMETER
    else:
        below = r.brackets[row - 1]
        if (
            floor != below["cap_quanta"]
            or ppm < below["maintenance_ppm"]
            or leverage > below["leverage_max"]
        ):
            return Reason.BAD_PARAMETER
        amount = bracket_amount(floor, ppm, below["maintenance_ppm"], below["amount_quanta"])
    b = r.brackets[row]
    b["floor_quanta"] = floor
    b["cap_quanta"] = d["cap_quanta"]
    b["maintenance_ppm"] = ppm
    b["amount_quanta"] = amount
    b["leverage_max"] = leverage
    s["brackets_count"] = index + 1
    for k in range(index + 1, BRACKETS_MAX):
        above = r.brackets[symbol * BRACKETS_MAX + k]
        above["floor_quanta"] = 0
        above["cap_quanta"] = 0
        above["maintenance_ppm"] = 0
        above["amount_quanta"] = 0
        above["leverage_max"] = 0
    return Reason.NONE
