"""What a trade does to one side's money: position, PnL, fee, and the wallet that bears them.

Reads   positions, wallets, symbols.
Writes  the same; POSITION, MOVE and MARGIN reports. Claims and orders are settlement's.
Never   fails: what a wallet lacks for it is counted, for liquidation.

Cross     PnL and fee go to the wallet.
Isolated  What opens takes price * lots / leverage, rounded up, from the cross wallet: no more than
          the order held for it and the wallet has free. What closes gives back its share of the
          isolated wallet. A profit stays there, a loss comes out of the share first, so that what
          is left of the position is as safe as it was; with the last lot all of it returns. The
          fee is paid there too. A wallet that ends below zero stays so, the position closed, until
          liquidation has found who bears it. While that goes on nothing is given back.
Sunk      `sunk_quanta` of a position is what closing it must bring in besides its cost to break
          even: fees paid since it was opened, less PnL realised since. Of a fill that turns it
          round, the new position pays the share of the fee that opened it.
"""

from __future__ import annotations

import numpy as np

from engine import reports
from engine.reports import Out
from engine.state import Risk
from shm.arithmetic import ceil_div, muldiv_down
from shm.codes import Move, Side
from shm.jit import inlined, kernel, rarely
from shm.margin import available
from shm.pointers import Cells


@inlined
def trade_position(r: Risk, position: int, side: int, price: int, lots: int) -> tuple[int, int]:
    """Apply a fill to a position; returns (lots that closed, realised PnL).

    A partial close takes floor(|cost| * closed / size) off the exact cost and leaves the rest, so
    what rounding keeps back comes out with the last lot.
    """
    p = r.positions[position]
    s = r.symbols[p["symbol"]]
    unit = price * s["tick_lot_quanta"]
    held = p["lots"]
    signed = lots if side == Side.BUY else -lots
    closing = 0
    realised = 0
    opening = signed
    if held != 0 and (held > 0) != (signed > 0):
        size = held if held > 0 else -held
        closing = min(lots, size)
        entry = p["entry_quanta"]
        removed = entry
        if closing < size:
            if entry >= 0:
                removed = muldiv_down(entry, closing, size)
            else:
                removed = -muldiv_down(-entry, closing, size)
        part = closing if held > 0 else -closing
        realised = part * unit - removed
        p["entry_quanta"] = entry - removed
        p["realised_quanta"] += realised
        opening = signed + part
    p["entry_quanta"] += opening * unit
    after = held + signed
    p["lots"] = after
    s["open_lots"] += max(after, 0) - max(held, 0)
    return closing, realised


@inlined
def settle_trade(
    r: Risk,
    out: Out,
    setup: Cells,
    seq: int,
    position: int,
    price: int,
    lots: int,
    closing: int,
    realised: int,
    fee: int,
    held: int,
    trade_id: int,
    status: int,
    hold: int,
) -> None:
    """Money of a trade that `trade_position` has been applied for; POSITION, MOVE, MARGIN.

    closing, realised   what that returned
    fee                 paid by this side, rounded already; negative is a rebate
    held                what the order held for this fill; 0 without an order
    status              of EXEC and POSITION
    hold                what the order still holds
    """
    p = r.positions[position]
    w = r.wallets[p["wallet"]]
    opening = lots - closing
    after = p["lots"]
    before = closing + (0 if opening > 0 else (after if after >= 0 else -after))
    fee_close = fee if opening == 0 else (muldiv_down(fee, closing, lots) if closing > 0 else 0)
    if closing > 0 and (opening > 0 or after == 0):
        p["sunk_quanta"] = fee - fee_close  # that position is over
    else:
        p["sunk_quanta"] += fee - realised
    w["realised_quanta"] += realised
    w["fees_quanta"] += fee
    if p["isolated"] == 0:
        w["wallet_quanta"] += realised - fee
        reports.position(
            r, out, setup, seq, position, status, trade_id, realised, w["wallet_quanta"], hold
        )
    else:
        _settle_isolated(
            r,
            out,
            setup,
            seq,
            position,
            price,
            opening,
            closing,
            before,
            realised,
            fee,
            fee_close,
            held,
            trade_id,
            status,
            hold,
        )
    reports.margin(r, out, setup, seq, position)


@kernel
def change_isolated(r: Risk, position: int, change: int) -> None:
    """Add to an isolated position's wallet, and to the sum of them."""
    p = r.positions[position]
    p["isolated_quanta"] += change
    r.wallets[p["wallet"]]["isolated_quanta"] += change


@kernel
def move_isolated(
    r: Risk, out: Out, setup: Cells, seq: int, position: int, quanta: int, reference: int
) -> None:
    """Move money from the cross wallet into an isolated position; negative: back. MOVE."""
    p = r.positions[position]
    w = r.wallets[p["wallet"]]
    w["wallet_quanta"] -= quanta
    change_isolated(r, position, quanta)
    reports.move(
        r,
        out,
        setup,
        seq,
        p["account"],
        p["symbol"],
        Move.ISOLATE if quanta > 0 else Move.RELEASE,
        -quanta,
        w["wallet_quanta"],
        p["account"],
        p["isolated_quanta"],
        reference,
        r.symbols[p["symbol"]]["asset"] | (np.int64(p["position_side"]) << 16),
    )


@kernel
def _settle_isolated(
    r: Risk,
    out: Out,
    setup: Cells,
    seq: int,
    position: int,
    price: int,
    opening: int,
    closing: int,
    before: int,
    realised: int,
    fee: int,
    fee_close: int,
    held: int,
    trade_id: int,
    status: int,
    hold: int,
) -> None:
    """The same for an isolated position; `before` lots were open on the side that closes."""
    rarely()
    p = r.positions[position]
    w = r.wallets[p["wallet"]]
    gain = realised - fee_close
    released = 0
    # While it is being liquidated all it has stays behind it: the end of that gives back the rest.
    if closing > 0 and p["liquidation"] == 0:
        if closing == before:
            released = max(p["isolated_quanta"] + gain, 0)
        else:
            part = muldiv_down(max(p["isolated_quanta"], 0), closing, before)
            released = max(part + min(gain, 0), 0)
    change_isolated(r, position, realised - fee)
    reports.position(
        r, out, setup, seq, position, status, trade_id, realised, w["wallet_quanta"], hold
    )
    if released > 0:
        move_isolated(r, out, setup, seq, position, -released, trade_id)
    if opening > 0:
        s = r.symbols[p["symbol"]]
        wanted = ceil_div(opening * price * s["tick_lot_quanta"], p["leverage"])
        if wanted > held:
            free = available(
                r.accounts, r.wallets, r.symbols, r.positions, p["account"], p["wallet"]
            )
            # What the order held for this fill is in `free` already: the claim was consumed.
            wanted = min(wanted, max(held, free))
        if wanted > 0:
            move_isolated(r, out, setup, seq, position, wanted, trade_id)
