"""What risk decides about money that comes, goes, or moves between accounts.

Reads   wallets and what they hold and need.
Writes  the wallet of whoever pays, at once: nothing decided later may count on that money.
Never   moves what an open position or order needs.
"""

from __future__ import annotations

from engine import clients
from engine.checks import account_reason, has_client_id, line_1_is_clean, state_reason, zero
from engine.commands import WORDS, Commands
from engine.scopes import is_locked
from engine.setup import ASSETS
from engine.state import Risk
from shm.codes import Kind, Reason, State
from shm.jit import kernel
from shm.margin import withdrawable
from shm.pointers import Cells
from shm.records import NO_SYMBOL
from shm.units import MONEY_QUANTA_MAX, NIL


@kernel
def decide_transfer(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """DEPOSIT and WITHDRAW; settlement moves the money in its turn."""
    c = cs.base[at]
    t = cs.transfers[at]
    if not line_1_is_clean(cs.words, at) or not zero(cs.words, at, 13, 13):
        return Reason.MALFORMED
    account = c["account"]
    reason = account_reason(r, setup, account)
    if reason != Reason.NONE:
        return reason
    asset = t["asset"]
    if asset < 0 or asset >= setup[ASSETS] or r.assets[asset]["declared"] == 0:
        return Reason.UNKNOWN_ASSET
    # Money comes in as long as the account is not closed, and out while it may still act.
    worst = State.HALTED if c["kind"] == Kind.DEPOSIT else State.CANCEL_ONLY
    reason = state_reason(r, account, NO_SYMBOL, worst)
    if reason != Reason.NONE:
        return reason
    past = NIL
    if has_client_id(cs.words, at):
        client = clients.find_client(r, setup, account, cs.words, at * WORDS + 8)
        if client != NIL and clients.is_over(r, setup, client):
            past = client
        elif client != NIL:
            c["risk_note"] = r.clients[client]["order_id"]
            return Reason.DUPLICATE_CLIENT_ID
    amount = t["amount_quanta"]
    if amount <= 0 or amount > MONEY_QUANTA_MAX:
        return Reason.BAD_AMOUNT
    wallet = account * setup[ASSETS] + asset
    if c["kind"] == Kind.DEPOSIT:
        if r.assets[asset]["total_quanta"] + amount > MONEY_QUANTA_MAX:
            return Reason.BAD_AMOUNT
    else:
        free = withdrawable(
            r.accounts, r.wallets, r.symbols, r.positions, r.brackets, account, wallet
        )
        if amount > free:
            return Reason.INSUFFICIENT_BALANCE
        if is_locked(r, NIL, wallet):
            return Reason.LIQUIDATING
    if has_client_id(cs.words, at):
        if past != NIL:
            clients.forget(r, setup, past)
        client = clients.open_client(r, setup, account, cs.words, at * WORDS + 8, c["seq"])
        if client == NIL:
            return Reason.CAPACITY
        c["slot"] = client
    if c["kind"] == Kind.DEPOSIT:
        # Counted at once, so that deposits in flight together cannot pass the limit.
        r.assets[asset]["total_quanta"] += amount
    else:
        r.wallets[wallet]["pending_quanta"] += amount
        c["risk_held_quanta"] = amount
    return Reason.NONE
