"""The commands ring as kernels see it: one memory, read by each kind through its own record."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from shm.jit import inlined
from shm.pointers import Cells, Rows, bundle, table
from shm.records import RECORDS


class Commands(NamedTuple):
    """Views of one ring; a slot is the same command in all of them."""

    base: Rows  # COMMAND
    transfers: Rows  # DEPOSIT, WITHDRAW
    assets: Rows
    states: Rows  # ACCOUNT, SYMBOL_STATE, VENUE_STATE
    leverages: Rows
    marks: Rows
    checkpoints: Rows
    declarations: Rows  # SYMBOL
    algos: Rows  # PLACE_ALGO
    settings: Rows  # COUNTDOWN, MARGIN_TYPE, POSITION_MODE, POSITION_MARGIN
    requests: Rows  # REQUEST_*, APPROVE, REJECT, SETTLE_WITHDRAW, TRANSFER
    fees: Rows  # FEE_RATES
    contracts: Rows  # CONTRACT
    brackets: Rows  # BRACKET
    sources: Rows  # SOURCE, SOURCE_PRICE
    settles: Rows  # SETTLE_SYMBOL and what the engine proposes about positions
    takeovers: Rows  # TAKEOVER
    words: Cells  # int64, WORDS a slot


WORDS = 32  # of a slot; a client id starts at word 8, what risk decided at word 24


@inlined
def symbol_of(command: Rows) -> int:
    """Where a command is, as wide as what it is reckoned with."""
    symbol: Any = np.int64(command["symbol"])
    return symbol


_RECORDS = (
    "TRANSFER",
    "ASSET",
    "STATE",
    "LEVERAGE",
    "MARK",
    "CHECKPOINT",
    "SYMBOL",
    "ALGO",
    "SETTING",
    "REQUEST",
    "FEE",
    "CONTRACT",
    "BRACKET",
    "SOURCE",
    "SETTLE",
    "TAKEOVER",
)


def commands_of(array: np.ndarray[Any, Any]) -> Commands:
    """The commands ring in all its views."""
    views = [table(array.view(RECORDS[f"{name}_COMMAND"].dtype)) for name in _RECORDS]
    return bundle(Commands._make([table(array), *views, table(array.view(np.int64))]))
