"""Lights of the ADL queue: where each position stands among those of its symbol and side.

Reads   the account view's tables, in the process that keeps them.
Writes  the view's `lights`, a byte a position.
Never   is part of the view's state: what a checkpoint keeps doesn't have it, and a reader may see
        lights of a few seconds ago. Whom the engine deleverages it ranks itself, at that moment
        (engine/adl.py), by the same score (shm/ranking.py).

A pass scores SLICE rows a turn, so that reports never wait long, then ranks them all. The next one
begins when SHARE times as long has passed, so it costs at most a part in SHARE of a core.
"""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np

from gateways.accounts.layout import POSITIONS_USED
from gateways.accounts.rows import Tables
from shm.jit import kernel
from shm.pointers import Cells, table
from shm.ranking import lights_of, position_score
from shm.units import NIL

Array = np.ndarray[Any, Any]

SLICE: Final = 4096
SHARE: Final = 20
LEAST_S: Final = 1.0


@kernel
def score_rows(t: Tables, first: int, end: int, scores: Cells) -> None:
    """Scores of open positions first to end - 1: long ones + 1, short ones -1 - score; flat: 0."""
    for row in range(first, end):
        p = t.positions[row]
        scores[row] = 0
        if p["lots"] != 0 and p["wallet"] != NIL:
            one = 1
            for _ in range(t.assets[t.symbols[p["symbol"]]["asset"]]["scale"]):
                one *= 10
            score = position_score(
                t.accounts, t.wallets, t.symbols, t.positions, t.brackets, row, one
            )
            scores[row] = score + 1 if p["lots"] > 0 else -1 - score


class Ranks:
    """Passes over the positions of one view."""

    def __init__(self, tables: Tables, arrays: dict[str, Array]) -> None:
        self._tables = tables
        self._head = arrays["head"]
        self._symbols = arrays["positions"]["symbol"]
        self._lights = arrays["lights"]
        self._scores = np.zeros(len(self._lights), np.int64)
        self._cells = table(self._scores)
        self._at = 0
        self._took_s = 0.0
        self._due_s = 0.0

    def turn(self, now_s: float) -> None:
        """One slice more, if a pass is due or under way; `now_s`: time.monotonic()."""
        if now_s < self._due_s:
            return
        used = int(self._head[POSITIONS_USED])
        end = min(self._at + SLICE, used)
        score_rows(self._tables, self._at, end, self._cells)
        self._at = end
        if end == used:
            self._rank(used)
            self._at = 0
        self._took_s += time.monotonic() - now_s
        if end == used:
            self._due_s = now_s + max(LEAST_S, SHARE * self._took_s)
            self._took_s = 0.0

    def whole(self) -> None:
        """All of a pass, now."""
        used = int(self._head[POSITIONS_USED])
        score_rows(self._tables, 0, used, self._cells)
        self._rank(used)

    def _rank(self, used: int) -> None:
        symbols, scores = self._symbols[:used], self._scores[:used]
        lights = np.zeros(used, np.int8)
        open_rows = np.flatnonzero(scores)
        order = open_rows[np.argsort(symbols[open_rows], kind="stable")]
        edges = np.flatnonzero(np.diff(symbols[order])) + 1
        for rows in np.split(order, edges):
            lights[rows] = lights_of(scores[rows])
        self._lights[:used] = lights
