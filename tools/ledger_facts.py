"""What an independent replay of the WAL says of balances, positions and holds, for the ledger to
be held against; and what the engine itself has in memory.

Reads   WAL, from genesis or from a snapshot on, whose digest the engine's own had to equal; shared
        memory of a running engine, when nothing is in flight there.
Writes  nothing.
Never   looks at the report log or at the books: that would be asking the accused.

State can be compared where nothing is in flight: before a CHECKPOINT, which is decided only when
settlement has caught up; and behind the last command, when the engine was seen with everything
settled that it had sequenced, for then the next one was decided after that.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from ledger.chart import SUB_SHIFT, Code, pack, unpack
from ledger.reconcile import SYMBOLS, Facts, added_up
from shm import cursors
from shm.codes import Kind
from shm.config import Config
from shm.control import Phase, View
from shm.segment import Segment, SegmentError

Array = np.ndarray[Any, Any]
_NO_ROWS: Final = slice(0, 0)
_LEG_SHIFT: Final = 48


def facts_of(arrays: dict[str, Array], assets: int) -> Facts:
    """The tables of a state in which nothing is in flight."""
    venue, wallets = arrays["venue"][0], arrays["wallets"]
    used = arrays["positions"][: int(venue["positions_used"])]
    holds = np.zeros(len(wallets), np.int64)
    np.add.at(holds, used["wallet"], used["hold_quanta"])
    account, asset = np.divmod(np.arange(len(wallets), dtype=np.int64), assets)
    owner = asset << SUB_SHIFT | account
    leg = used["position_side"].astype(np.int64) << _LEG_SHIFT
    symbol = used["symbol"].astype(np.int64) << SUB_SHIFT
    place = leg | symbol | used["account"].astype(np.int64)
    contracts = arrays["contracts"]
    funding = np.arange(len(contracts), dtype=np.int64) << SUB_SHIFT
    under_way = np.where(contracts["funding_open"] == 1, contracts["round_sum_quanta"], 0)
    found = [
        (pack(Code.AVAILABLE, 0, 0) | owner, wallets["wallet_quanta"]),
        (pack(Code.ORDER_HOLD, 0, 0) | owner, holds),
        (pack(Code.POSITION_LOTS, 0, 0) | place, used["lots"]),
        (pack(Code.POSITION_COST, 0, 0) | place, used["entry_quanta"]),
        (pack(Code.POSITION_MARGIN, 0, 0) | place, used["isolated_quanta"]),
        (pack(Code.CLOSE_CLAIM, 0, 0) | place, used["close_lots"]),
        (pack(Code.PNL_CLEARING, 0, 0) | symbol, used["entry_quanta"]),
        (pack(Code.FUNDING_CLEARING, 0, 0) | funding, under_way),
    ]
    kept = [(keys[values != 0], values[values != 0].astype(np.int64)) for keys, values in found]
    keys, values = added_up(*(np.concatenate(part) for part in zip(*kept, strict=True)))
    trades = np.zeros(SYMBOLS, np.int64)
    symbols = arrays["symbols"]
    trades[: len(symbols)] = symbols["trade_count"].astype(np.int64) + symbols["outside_count"]
    return Facts(int(venue["settled_seq"]), int(venue["reports_count"]), keys, values, trades)


def figure_of(arrays: dict[str, Array], assets: int, key: int) -> int:
    """One figure of a state, as `facts_of` has it."""
    k = unpack(key)
    used = arrays["positions"][: int(arrays["venue"]["positions_used"][0])]
    if k.code == Code.AVAILABLE:
        return int(arrays["wallets"]["wallet_quanta"][k.account * assets + k.sub])
    if k.code == Code.ORDER_HOLD:
        return int(used["hold_quanta"][used["wallet"] == k.account * assets + k.sub].sum())
    of_symbol = used["symbol"] == k.sub
    if k.code == Code.PNL_CLEARING:
        return int(used["entry_quanta"][of_symbol].sum())
    if k.code == Code.FUNDING_CLEARING:
        contract = arrays["contracts"][k.sub]
        return int(contract["round_sum_quanta"]) if contract["funding_open"] == 1 else 0
    names = {
        Code.POSITION_LOTS: "lots",
        Code.POSITION_COST: "entry_quanta",
        Code.POSITION_MARGIN: "isolated_quanta",
        Code.CLOSE_CLAIM: "close_lots",
    }
    mine = of_symbol & (used["account"] == k.account) & (used["position_side"] == k.leg)
    return int(used[names[k.code]][mine].sum())


class Replay:
    """A replay that goes on as the WAL does, and stops where nothing is in flight."""

    def __init__(self, data: Path, *, genesis: bool = True) -> None:
        """genesis: replay everything; else begin with the newest snapshot there is."""
        from engine.recovery import fresh_arrays, restore
        from engine.releases import Releases
        from engine.replay import Replayer
        from engine.snapshotfile import newest_sound
        from engine.walreader import WalReader
        from tools.datadir import limits_for

        self.data = data
        self.limits = limits_for(data)
        self.arrays = fresh_arrays(self.limits)
        self.first_seq = 0
        found = None if genesis else newest_sound(data)
        if found is not None:
            _path, meta, sections, _damaged = found
            restore(self.arrays, self.limits, sections, 1)
            self.first_seq = int(meta["seq"])
        self.replayer = Replayer(self.arrays, self.limits)
        self._releases = Releases(data)
        self._reader = WalReader(data, self.first_seq)

    @property
    def seq(self) -> int:
        """The last command taken up."""
        return self.replayer.seq

    def close(self) -> None:
        self._reader.close()

    def facts(self) -> Facts:
        """What the state says; at a place where nothing is in flight."""
        return facts_of(self.arrays, self.limits.assets)

    def figure(self, key: int) -> int:
        return figure_of(self.arrays, self.limits.assets, key)

    def settle(self) -> None:
        """Nothing comes between the last command taken up and what is settled next."""
        self.replayer.feed(self._reader.read(0), end=True)

    def checkpoints(self, upto: int) -> Iterator[int]:
        """Go on to command `upto`, or as far as the WAL is written; stops at every CHECKPOINT on
        the way, before it, with everything settled. Yields the command the state stands behind."""
        while len(rows := self._reader.read(upto)):
            self._releases.check(rows)
            start = 0
            for at in np.flatnonzero(rows["kind"] == Kind.CHECKPOINT).tolist():
                self.replayer.feed(rows[start:at])
                self.replayer.feed(rows[_NO_ROWS], end=True)
                start = at
                yield int(rows["seq"][at]) - 1
            self.replayer.feed(rows[start:])

    def first_difference(self, key: int, told: Array, upto: int) -> int:
        """Go on command by command; the first settled one after which the figure isn't the books'.

        told        int64[n, 2]: (command, what the books say from there on), commands ascending
        returns     0 when there is none up to `upto`
        """
        venue = self.arrays["venue"][0]

        def differs() -> bool:
            at = int(np.searchsorted(told[:, 0], venue["settled_seq"], side="right")) - 1
            return self.figure(key) != (int(told[at, 1]) if at >= 0 else 0)

        while len(rows := self._reader.read(upto)):
            for at in range(len(rows)):
                before = int(venue["settled_seq"])
                self.replayer.feed(rows[at : at + 1])
                if int(venue["settled_seq"]) != before and differs():
                    # Settlement may take several commands in one step: the first of them is as near
                    # as the engine's own state can tell.
                    return before + 1
        self.settle()
        return int(venue["settled_seq"]) if differs() else 0


class Live:
    """A running engine's own tables, looked at when nothing is in flight."""

    def __init__(self, config: Config) -> None:
        """Raises SegmentError when no engine of this instance runs."""
        from engine.memory import limits_of, segment_parts

        self.view = View(config.instance)
        try:
            if self.view.phase != Phase.RUNNING:
                raise SegmentError(f"instance {config.instance!r} is not running")
            epoch = self.view.epoch
            parts = segment_parts(config)["risk"]
            self._risk = Segment.attach(config.instance, "risk", parts, epoch, writable=False)
        except SegmentError:
            self.view.close()
            raise
        self._assets = limits_of(config).assets

    @property
    def alive(self) -> bool:
        return bool(self.view.alive) and self.view.phase == Phase.RUNNING

    def close(self) -> None:
        self._risk.close()
        self.view.close()

    def _cell(self, cell: int) -> int:
        return int(self.view.cursor(cell))

    def at_rest(self) -> int:
        """The last command, when all that was sequenced is settled and durable; else 0."""
        settled = self._cell(cursors.SETTLED)
        rest = settled == self._cell(cursors.JOURNALED) == self._cell(cursors.SEQUENCED)
        return settled if rest else 0

    def durable(self) -> int:
        return self._cell(cursors.JOURNALED)

    def facts(self, seq: int) -> Facts | None:
        """What the memory says after command `seq`; None when the engine has gone on."""
        arrays = self._risk.arrays
        if self.at_rest() != seq:
            return None
        names = ("venue", "wallets", "positions", "symbols", "contracts")
        copied = {name: arrays[name].copy() for name in names}
        # Nothing was sequenced in the meantime, so nothing was written in the meantime.
        if self._cell(cursors.SEQUENCED) != seq or not self.alive:
            return None
        return facts_of(copied, self._assets)
