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
from shm.pointers import Cells, Rows
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
def is_frozen(p: Rows, w: Rows) -> bool:
    """Whether orders and settings of a position are refused; its row and its wallet's.

    An isolated position takes its margin from the cross wallet: that one's liquidation locks both.
    """
    if w["liquidation"] != 0:
        return True
    return p["isolated"] != 0 and (p["liquidation"] != 0 or p["isolated_quanta"] < 0)


@inlined
def is_locked(r: Risk, row: int, wallet: int) -> bool:
    """The same by numbers; row NIL: of a wallet alone."""
    w = r.wallets[wallet]
    if row == NIL:
        return w["liquidation"] != 0
    return is_frozen(r.positions[row], w)


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
