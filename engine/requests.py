"""Money that people ask for and others approve; transfers between accounts.

    REQUEST_WITHDRAW   sets the amount aside (`pending_quanta`): in the wallet still, and not free
    APPROVE            by another principal; a withdrawal may leave custody then
    SETTLE_WITHDRAW    of an approved one: the money has left, but for a fee that the venue keeps
    REJECT             of one that has not been settled: what was set aside returns
    REQUEST_ADJUST     sets nothing aside; APPROVE moves the signed amount from or to ADJUST_ACCOUNT
    TRANSFER           at once, from one account to another

Risk looks at what there is and sets it aside, settlement moves it in its turn; so nothing is spent
twice in between. A request's id is the sequence number of its command, and its client id names it
until it is over and for the window after that, as an order's does.
"""

from __future__ import annotations

from typing import Final

from engine import clients, reports
from engine.checks import account_reason, has_client_id, state_reason
from engine.commands import WORDS, Commands
from engine.reports import Out
from engine.scopes import is_locked
from engine.setup import ASSETS, REQUESTS
from engine.state import Risk
from shm.codes import Kind, Move, Reason, RequestStatus, State
from shm.jit import inlined, kernel
from shm.margin import withdrawable
from shm.pointers import Cells
from shm.records import NO_SYMBOL
from shm.units import ADJUST_ACCOUNT, FEE_ACCOUNT, MONEY_QUANTA_MAX, NIL

_MONEY: Final = MONEY_QUANTA_MAX


@inlined
def _shape_reason(cs: Commands, at: int) -> int:
    """Codes without a meaning here are zero, and so is what is reserved."""
    c = cs.requests[at]
    base = at * WORDS + 8
    words = cs.words
    if c["side"] | c["type"] | c["tif"] | c["flags"] | c["stp"] | c["position_side"] != 0:
        return Reason.MALFORMED
    if words[base] == 0 and (words[base + 1] | words[base + 2] | words[base + 3]) != 0:
        return Reason.MALFORMED
    if words[base + 4] >> 32 != 0 or (words[base] == 0 and words[base + 4] != 0):
        return Reason.MALFORMED
    if c["request_reserved"] != 0:
        return Reason.MALFORMED
    if c["kind"] != Kind.SETTLE_WITHDRAW and c["fee_quanta"] != 0:
        return Reason.MALFORMED
    verdict = c["kind"] >= Kind.APPROVE and c["kind"] <= Kind.SETTLE_WITHDRAW
    if verdict and c["amount_quanta"] | c["asset"] | words[base] != 0:
        return Reason.MALFORMED
    return Reason.NONE


@kernel
def find_request(r: Risk, request_id: int) -> int:
    """Row of a request under way, or NIL. Walks over the rows ever used: it is for desks."""
    if request_id > 0:
        for row in range(r.venue[0]["requests_used"]):
            if r.requests[row]["request_id"] == request_id:
                return row
    return NIL


@kernel
def _free_quanta(r: Risk, wallet: int, account: int) -> int:
    return withdrawable(r.accounts, r.wallets, r.symbols, r.positions, r.brackets, account, wallet)


@kernel
def decide_request(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """REQUEST_WITHDRAW, REQUEST_ADJUST, TRANSFER: what names an account, an asset, an amount."""
    c = cs.requests[at]
    kind = c["kind"]
    account = c["account"]
    reason = _shape_reason(cs, at)
    if reason == Reason.NONE:
        reason = account_reason(r, setup, account)
    if reason != Reason.NONE:
        return reason
    asset = c["asset"]
    amount = c["amount_quanta"]
    other = c["reference"]
    if kind == Kind.TRANSFER:
        if other < 0 or other > 0xFFFFFFFF:
            return Reason.UNKNOWN_ACCOUNT
        reason = account_reason(r, setup, other)
        if reason != Reason.NONE:
            return reason
    if asset < 0 or asset >= setup[ASSETS] or r.assets[asset]["declared"] == 0:
        return Reason.UNKNOWN_ASSET
    # An adjustment puts right what a closed account has wrong as well.
    worst = State.CLOSED if kind == Kind.REQUEST_ADJUST else State.CANCEL_ONLY
    reason = state_reason(r, account, NO_SYMBOL, worst)
    if reason == Reason.NONE and kind == Kind.TRANSFER:
        reason = state_reason(r, other, NO_SYMBOL, State.HALTED)
    if reason != Reason.NONE:
        return reason
    named = has_client_id(cs.words, at)
    first = at * WORDS + 8
    past = NIL
    if named:
        past = clients.find_client(r, setup, account, cs.words, first)
        if past != NIL and not clients.is_over(r, setup, past):
            cs.base[at]["risk_note"] = r.clients[past]["order_id"]
            return Reason.DUPLICATE_CLIENT_ID
    if amount > _MONEY or amount < -_MONEY or amount == 0:
        return Reason.BAD_AMOUNT
    if amount < 0 and kind != Kind.REQUEST_ADJUST:
        return Reason.BAD_AMOUNT
    if kind == Kind.TRANSFER and other == account:
        return Reason.BAD_PARAMETER
    wallet = account * setup[ASSETS] + asset
    if kind != Kind.REQUEST_ADJUST and amount > _free_quanta(r, wallet, account):
        return Reason.INSUFFICIENT_BALANCE
    v = r.venue[0]
    if (
        kind != Kind.TRANSFER
        and v["requests_free"] == NIL
        and v["requests_used"] == setup[REQUESTS]
    ):
        return Reason.CAPACITY
    if kind != Kind.REQUEST_ADJUST and is_locked(r, NIL, wallet):
        return Reason.LIQUIDATING
    client = NIL
    if named:
        if past != NIL:
            clients.forget(r, setup, past)
        client = clients.open_client(r, setup, account, cs.words, first, c["seq"])
        if client == NIL:
            return Reason.CAPACITY
    c["risk_held_quanta"] = 0
    if kind != Kind.REQUEST_ADJUST:
        r.wallets[wallet]["pending_quanta"] += amount
        c["risk_held_quanta"] = amount
    if kind == Kind.TRANSFER:
        c["slot"] = client
        return Reason.NONE
    row = v["requests_free"]
    if row != NIL:
        v["requests_free"] = r.requests[row]["next_free"]
    else:
        row = v["requests_used"]
        v["requests_used"] = row + 1
    q = r.requests[row]
    q["request_id"] = c["seq"]
    q["amount_quanta"] = amount
    q["asset"] = asset
    q["principal"] = c["principal"]
    q["reference"] = other
    q["account"] = account
    q["kind"] = kind
    q["status"] = RequestStatus.REQUESTED
    q["client"] = client
    q["next_free"] = NIL
    c["slot"] = row
    return Reason.NONE


@kernel
def decide_verdict(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """APPROVE, REJECT, SETTLE_WITHDRAW: `reference` is the request, `account` whose it is."""
    c = cs.requests[at]
    kind = c["kind"]
    account = c["account"]
    reason = _shape_reason(cs, at)
    if reason == Reason.NONE:
        reason = account_reason(r, setup, account)
    if reason != Reason.NONE:
        return reason
    row = find_request(r, c["reference"])
    if row == NIL or r.requests[row]["account"] != account:
        return Reason.UNKNOWN_REQUEST
    q = r.requests[row]
    adjusts = q["kind"] == Kind.REQUEST_ADJUST
    status = q["status"]
    if kind == Kind.REJECT:
        if status != RequestStatus.REQUESTED and status != RequestStatus.APPROVED:
            return Reason.UNKNOWN_REQUEST
        q["status"] = RequestStatus.REJECTED
    elif kind == Kind.SETTLE_WITHDRAW:
        if adjusts or status != RequestStatus.APPROVED:
            return Reason.UNKNOWN_REQUEST
        if c["fee_quanta"] < 0 or c["fee_quanta"] > q["amount_quanta"]:
            return Reason.BAD_AMOUNT
        q["status"] = RequestStatus.SETTLED
    else:
        if status != RequestStatus.REQUESTED:
            return Reason.UNKNOWN_REQUEST
        amount = q["amount_quanta"]
        other = r.wallets[ADJUST_ACCOUNT * setup[ASSETS] + q["asset"]]
        wallet = account * setup[ASSETS] + q["asset"]
        if adjusts:
            left = other["wallet_quanta"] - other["pending_quanta"] - amount
            if account == ADJUST_ACCOUNT or left > _MONEY or left < -_MONEY:
                return Reason.BAD_AMOUNT
            if amount < 0 and -amount > _free_quanta(r, wallet, account):
                return Reason.INSUFFICIENT_BALANCE
        if adjusts and amount < 0 and is_locked(r, NIL, wallet):
            return Reason.LIQUIDATING
        if q["principal"] == c["principal"]:
            return Reason.SAME_PRINCIPAL
        if adjusts:
            # Counted at once, so that no number of them in flight can pass the limit.
            other["pending_quanta"] += amount
            q["status"] = RequestStatus.SETTLED
            if amount < 0:
                r.wallets[wallet]["pending_quanta"] -= amount
        else:
            q["status"] = RequestStatus.APPROVED
    c["slot"] = row
    return Reason.NONE


# ---------------------------------------------------------------- settlement


@inlined
def _close_name(r: Risk, setup: Cells, client: int) -> None:
    if client != NIL:
        clients.close_client(r, setup, client)


@kernel
def _free(r: Risk, setup: Cells, row: int) -> None:
    q = r.requests[row]
    _close_name(r, setup, q["client"])
    q["client"] = NIL
    q["request_id"] = 0
    q["next_free"] = r.venue[0]["requests_free"]
    r.venue[0]["requests_free"] = row


@kernel
def settle_request(r: Risk, out: Out, setup: Cells, cs: Commands, at: int) -> None:
    """What follows the answer of any of these kinds: REQUEST, and MOVE where money moves."""
    c = cs.requests[at]
    kind = c["kind"]
    seq = c["seq"]
    account = c["account"]
    if kind == Kind.TRANSFER:
        _transfer(r, out, setup, cs, at)
        return
    q = r.requests[c["slot"]]
    amount = q["amount_quanta"]
    asset = q["asset"]
    reference = q["request_id"]
    w = r.wallets[account * setup[ASSETS] + asset]
    asked = kind == Kind.REQUEST_WITHDRAW or kind == Kind.REQUEST_ADJUST
    status = RequestStatus.REQUESTED
    if kind == Kind.REJECT:
        status = RequestStatus.REJECTED
    elif kind == Kind.SETTLE_WITHDRAW:
        status = RequestStatus.SETTLED
    elif kind == Kind.APPROVE:
        status = RequestStatus.APPROVED
        if q["kind"] == Kind.REQUEST_ADJUST:
            status = RequestStatus.SETTLED
    reports.request(r, out, setup, cs, at, c["slot"], status)
    if asked and kind == Kind.REQUEST_ADJUST:
        return
    other = account
    why = Move.WITHDRAW_HOLD
    moved = -amount
    if q["kind"] == Kind.REQUEST_ADJUST:
        if kind == Kind.REJECT:
            _free(r, setup, c["slot"])
            return
        why = Move.ADJUST
        moved = amount
        other = ADJUST_ACCOUNT
        if amount < 0:
            w["pending_quanta"] += amount
        w["wallet_quanta"] += amount
        w["adjusted_quanta"] += amount
        x = r.wallets[ADJUST_ACCOUNT * setup[ASSETS] + asset]
        x["pending_quanta"] -= amount
        x["wallet_quanta"] -= amount
        x["adjusted_quanta"] -= amount
        other_quanta = x["wallet_quanta"]
    else:
        if kind == Kind.APPROVE:
            return
        if kind == Kind.REJECT:
            why = Move.WITHDRAW_RETURN
            moved = amount
            w["pending_quanta"] -= amount
        elif kind == Kind.SETTLE_WITHDRAW:
            why = Move.WITHDRAW_SETTLE
            fee = c["fee_quanta"]
            w["pending_quanta"] -= amount
            w["wallet_quanta"] -= amount
            w["withdrawn_quanta"] += amount - fee
            w["fees_quanta"] += fee
            r.wallets[FEE_ACCOUNT * setup[ASSETS] + asset]["wallet_quanta"] += fee
            r.assets[asset]["total_quanta"] -= amount - fee
        other_quanta = w["pending_quanta"]
    reports.move(
        r,
        out,
        setup,
        seq,
        account,
        NO_SYMBOL,
        why,
        moved,
        w["wallet_quanta"],
        other,
        other_quanta,
        reference,
        asset,
    )
    if not asked:
        _free(r, setup, c["slot"])


@kernel
def _transfer(r: Risk, out: Out, setup: Cells, cs: Commands, at: int) -> None:
    c = cs.requests[at]
    amount = c["amount_quanta"]
    other = c["reference"]
    asset = c["asset"]
    w = r.wallets[c["account"] * setup[ASSETS] + asset]
    x = r.wallets[other * setup[ASSETS] + asset]
    w["pending_quanta"] -= c["risk_held_quanta"]
    w["wallet_quanta"] -= amount
    w["adjusted_quanta"] -= amount
    x["wallet_quanta"] += amount
    x["adjusted_quanta"] += amount
    _close_name(r, setup, c["slot"])
    reports.move(
        r,
        out,
        setup,
        c["seq"],
        other,
        NO_SYMBOL,
        Move.TRANSFER,
        amount,
        x["wallet_quanta"],
        c["account"],
        w["wallet_quanta"],
        c["seq"],
        asset,
    )
