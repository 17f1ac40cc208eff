"""Scopes of liquidation, cross wallets and isolated positions, and the mark that says what is next.

Reads   positions and the health of a scope (shm/maintenance.py).
Writes  a scope's mark; a proposal for the command that the mark says is due.
Never   decides: engine/liquidation.py and engine/takeover.py do.
"""

from __future__ import annotations

from engine import proposals
from engine.state import Risk
from shm.arithmetic import wide
from shm.codes import LiquidationStep
from shm.jit import inlined, kernel
from shm.maintenance import cross_health, isolated_health
from shm.pointers import Cells
from shm.records import NO_SYMBOL
from shm.units import NIL


@inlined
def in_scope(r: Risk, row: int, wallet: int, isolated: int) -> bool:
    """Whether a position belongs to a scope: an isolated one, or the cross ones of a wallet."""
    if isolated != NIL:
        return row == isolated
    return r.positions[row]["wallet"] == wallet and r.positions[row]["isolated"] == 0


@inlined
def scope_of(r: Risk, row: int) -> tuple[int, int]:
    """(wallet row, position row if it is isolated, else NIL) of a position's scope."""
    p = r.positions[row]
    return wide(p["wallet"]), wide(row) if p["isolated"] != 0 else wide(NIL)


@kernel
def scope_health(r: Risk, wallet: int, isolated: int, account: int) -> tuple[int, int, int]:
    """(equity, maintenance, open positions) of a scope."""
    if isolated != NIL:
        p = r.positions[isolated]
        equity, needed = isolated_health(r.brackets, r.symbols, p)
        return equity, needed, 1 if p["lots"] != 0 else 0
    return cross_health(
        r.accounts, r.wallets, r.symbols, r.positions, r.brackets, account, wallet, NO_SYMBOL
    )


@inlined
def is_unsafe(equity: int, needed: int, count: int) -> bool:
    """Whether a scope has to be liquidated: also one that owes, and has nothing open any more."""
    return equity <= needed if count > 0 else equity < 0


@inlined
def step_of(r: Risk, wallet: int, isolated: int) -> int:
    """The step a scope waits for; NONE while it isn't liquidated."""
    if isolated != NIL:
        return wide(r.positions[isolated]["liquidation"])
    return r.wallets[wallet]["liquidation"]


@inlined
def is_locked(r: Risk, row: int, wallet: int) -> bool:
    """Whether orders and settings of a position (or, NIL, of a wallet) are refused.

    An isolated position takes its margin from the cross wallet: that one's liquidation locks both.
    """
    if r.wallets[wallet]["liquidation"] != 0:
        return True
    if row == NIL or r.positions[row]["isolated"] == 0:
        return False
    return r.positions[row]["liquidation"] != 0 or r.positions[row]["isolated_quanta"] < 0


@inlined
def set_step(r: Risk, wallet: int, isolated: int, step: int, row: int) -> None:
    """Mark the step a scope waits for, and the position it is about."""
    if isolated != NIL:
        r.positions[isolated]["liquidation"] = step
    else:
        r.wallets[wallet]["liquidation"] = step
        r.wallets[wallet]["liquidation_row"] = row if step != LiquidationStep.NONE else 0


@kernel
def propose_step(r: Risk, setup: Cells, wallet: int, isolated: int, step: int, row: int) -> None:
    """Mark the next step and propose it."""
    set_step(r, wallet, isolated, step, row)
    if isolated != NIL:
        proposals.put(r.proposals, setup, proposals.ISOLATED | wide(isolated))
    else:
        proposals.put(r.proposals, setup, proposals.WALLET | wide(wallet))
