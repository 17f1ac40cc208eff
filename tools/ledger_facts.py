"""What an independent replay of the WAL says of balances, positions and holds, for the ledger to
be held against.

Reads   WAL; a state that replay makes of it (engine/replay.py), from genesis.
Writes  nothing.
Never   looks at the report log or at the books: that would be asking the accused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from ledger.reconcile import Facts
from shm.codes import Kind

Array = np.ndarray[Any, Any]
_NO_ROWS: Final = slice(0, 0)


def facts_of(arrays: dict[str, Array], assets: int) -> Facts:
    """The tables of a state in which nothing is in flight."""
    wallets, positions = arrays["wallets"], arrays["positions"]
    used = positions[: int(arrays["venue"]["positions_used"][0])]
    holds = np.zeros(len(wallets), np.int64)
    np.add.at(holds, used["wallet"], used["hold_quanta"])
    told = {}
    for row in np.flatnonzero((wallets["wallet_quanta"] != 0) | (holds != 0)).tolist():
        told[divmod(row, assets)] = (int(wallets["wallet_quanta"][row]), int(holds[row]))
    places = {}
    for p in used:
        values = tuple(
            int(p[name]) for name in ("lots", "entry_quanta", "isolated_quanta", "close_lots")
        )
        if any(values):
            where = (int(p["account"]), int(p["symbol"]), int(p["position_side"]))
            places[where] = (values[0], values[1], values[2], values[3])
    symbols = arrays["symbols"]
    counts = symbols["trade_count"].astype(np.int64) + symbols["outside_count"]
    trades = {int(symbol): int(counts[symbol]) for symbol in np.flatnonzero(counts)}
    return Facts(int(arrays["venue"]["settled_seq"][0]), told, places, trades)


class Replay:
    """A replay from genesis that stops at hash points, where nothing is in flight."""

    def __init__(self, data: Path) -> None:
        from engine.recovery import fresh_arrays
        from engine.replay import Replayer
        from tools.datadir import limits_for

        self.data = data
        self.limits = limits_for(data)
        self.arrays = fresh_arrays(self.limits)
        self.replayer = Replayer(self.arrays, self.limits)

    def facts(self) -> Facts:
        return facts_of(self.arrays, self.limits.assets)

    def points(self, upto: int, every: int = 1) -> Iterator[Facts]:
        """Facts before CHECKPOINT commands up to `upto`, each n-th, and at the very last of them.

        A CHECKPOINT is decided only when settlement has caught up, so that the state before it is
        one that was: a replay that stops there settles what had been settled.
        """
        from engine.wal import read_commands

        rows = None
        count = 0
        for rows in read_commands(self.data, 0, upto):
            start = 0
            for at in np.flatnonzero(rows["kind"] == Kind.CHECKPOINT).tolist():
                count += 1
                if count % every == 0:
                    self.replayer.feed(rows[start:at])
                    self.replayer.feed(rows[_NO_ROWS], end=True)
                    start = at
                    yield self.facts()
            self.replayer.feed(rows[start:])
        if rows is not None:
            self.replayer.feed(rows[_NO_ROWS], end=True)
            yield self.facts()

    def watch(self, upto: int, after: int, look: Callable[[int], bool]) -> int:
        """Replay command by command behind `after`; the first settled one for which `look` says
        so, or 0. Only what settlement alone changes may be looked at."""
        from engine.wal import read_commands

        venue = self.arrays["venue"][0]
        for rows in read_commands(self.data, 0, upto):
            behind = int(np.searchsorted(rows["seq"], after, side="right"))
            self.replayer.feed(rows[:behind])
            for at in range(behind, len(rows)):
                before = int(venue["settled_seq"])
                self.replayer.feed(rows[at : at + 1])
                settled = int(venue["settled_seq"])
                if settled != before and look(settled):
                    return self._first(before, settled)
        self.replayer.feed(rows[_NO_ROWS], end=True)
        settled = int(venue["settled_seq"])
        return settled if look(settled) else 0

    @staticmethod
    def _first(before: int, settled: int) -> int:
        """Settlement may take several commands in one step: then the first of them is as near as
        the engine's own state can tell."""
        return before + 1 if settled > before + 1 else settled
