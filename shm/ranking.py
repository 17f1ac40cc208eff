"""Who is deleveraged first: the score of a position, and the lights that show it to its owner.

    score    max(0, U) / max(1, WB) * MM / EQ, in parts per billion, cut down

U      unrealised profit of the position at mark
WB     wallet: of an isolated position its own, of a cross one the account's; 1 is one unit of the
       asset (1 USDT), so that an almost empty wallet doesn't make every profit infinite
MM/EQ  maintenance by equity of the same scope, at most 1: how far its leverage has taken it
0      without profit, or without equity

Ties are broken by the smaller account, then the smaller row. Lights go from 0 (last to be
deleveraged, or no profit) to 4: the fifth of the ranking that a position is in.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shm.arithmetic import bounded, muldiv_down
from shm.jit import inlined, kernel
from shm.maintenance import cross_health, isolated_health, position_value
from shm.pointers import Cells, Rows
from shm.records import NO_SYMBOL
from shm.units import EXPOSURE_QUANTA_MAX, PPB

SCORE_MAX = 1 << 60
_RATIO_MAX = 1 << 30  # profit by wallet: what is beyond ranks alike


@inlined
def adl_score(
    profit_quanta: int, wallet_quanta: int, needed_quanta: int, equity_quanta: int, one: int
) -> int:
    """The score from its parts; `one` is what one unit of the asset is worth in quanta."""
    if profit_quanta <= 0 or equity_quanta <= 0:
        return 0
    wallet = max(wallet_quanta, one)
    if profit_quanta // wallet >= _RATIO_MAX:
        ratio = SCORE_MAX
    else:
        ratio = min(muldiv_down(profit_quanta, PPB, wallet), SCORE_MAX)
    return muldiv_down(ratio, min(needed_quanta, equity_quanta), equity_quanta)


@kernel
def position_score(
    accounts: Rows,
    wallets: Rows,
    symbols: Rows,
    positions: Rows,
    brackets: Rows,
    row: int,
    one: int,
) -> int:
    """Score of one open position."""
    p = positions[row]
    _, profit = position_value(symbols, p)
    if profit <= 0:
        return 0
    if p["isolated"] != 0:
        equity, needed = isolated_health(brackets, symbols, p)
        wallet = p["isolated_quanta"]
    else:
        equity, needed, _ = cross_health(
            accounts, wallets, symbols, positions, brackets, p["account"], p["wallet"], NO_SYMBOL
        )
        w = wallets[p["wallet"]]
        wallet = bounded(w["wallet_quanta"] - w["pending_quanta"], EXPOSURE_QUANTA_MAX)
    return adl_score(profit, wallet, needed, equity, one)


@inlined
def lights_of_place(place: int, ranked: int, score: int) -> int:
    """Lights of a place in the queue: 4 in its first fifth, 0 in the last or without a score."""
    return 4 - min((place - 1) * 5 // max(ranked, 1), 4) if score > 0 else 0


@kernel
def score_positions(
    accounts: Rows,
    wallets: Rows,
    symbols: Rows,
    positions: Rows,
    brackets: Rows,
    symbol: int,
    one: int,
    first: int,
    end: int,
    scores: Cells,
) -> None:
    """Scores of rows first to end - 1: those of `symbol`, short ones as -1 - score; else 0.

    A position that is flat or elsewhere has 0; a long one has score + 1.
    """
    for row in range(first, end):
        p = positions[row]
        scores[row - first] = 0
        if p["symbol"] == symbol and p["lots"] != 0:
            score = position_score(accounts, wallets, symbols, positions, brackets, row, one)
            scores[row - first] = score + 1 if p["lots"] > 0 else -1 - score


def lights_of(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Lights of every position, 0 to 4, from what `score_positions` gave for all rows.

    scores    int64[n]; each side is ranked for itself
    returns   int8[n]; 0 for what is flat, elsewhere, or without profit
    """
    lights = np.zeros(len(scores), np.int8)
    for side in (1, -1):
        rows = np.flatnonzero(np.sign(scores) == side)
        score = np.abs(scores[rows]) - 1
        # Rank 0 is the highest score; equal scores are ranked alike, by the best of them.
        ranks = np.searchsorted(np.sort(-score), -score)
        lights[rows] = np.where(score > 0, 4 - np.minimum(ranks * 5 // max(len(rows), 1), 4), 0)
    return lights
