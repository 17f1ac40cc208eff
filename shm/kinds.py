"""Which record a command or a report of a kind is, for whoever makes or reads them in Python."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from shm import records
from shm.codes import Kind, ReportKind
from shm.records import RECORDS, Record

# Kinds that are not here are about an order: COMMAND itself.
COMMAND_RECORDS: Final[dict[int, Record]] = {
    Kind.LEVERAGE: records.LEVERAGE_COMMAND,
    Kind.PLACE_ALGO: records.ALGO_COMMAND,
    Kind.COUNTDOWN: records.SETTING_COMMAND,
    Kind.MARGIN_TYPE: records.SETTING_COMMAND,
    Kind.POSITION_MODE: records.SETTING_COMMAND,
    Kind.POSITION_MARGIN: records.SETTING_COMMAND,
    Kind.DEPOSIT: records.TRANSFER_COMMAND,
    Kind.WITHDRAW: records.TRANSFER_COMMAND,
    Kind.REQUEST_WITHDRAW: records.REQUEST_COMMAND,
    Kind.REQUEST_ADJUST: records.REQUEST_COMMAND,
    Kind.APPROVE: records.REQUEST_COMMAND,
    Kind.REJECT: records.REQUEST_COMMAND,
    Kind.SETTLE_WITHDRAW: records.REQUEST_COMMAND,
    Kind.TRANSFER: records.REQUEST_COMMAND,
    Kind.FEE_RATES: records.FEE_COMMAND,
    Kind.BOOKKEEPING: records.NOTE_COMMAND,
    Kind.AUDIT: records.NOTE_COMMAND,
    Kind.UPGRADE: records.NOTE_COMMAND,
    Kind.ASSET: records.ASSET_COMMAND,
    Kind.ACCOUNT: records.STATE_COMMAND,
    Kind.SYMBOL: records.SYMBOL_COMMAND,
    Kind.SYMBOL_STATE: records.STATE_COMMAND,
    Kind.VENUE_STATE: records.STATE_COMMAND,
    Kind.MARK: records.MARK_COMMAND,
    Kind.CONTRACT: records.CONTRACT_COMMAND,
    Kind.BRACKET: records.BRACKET_COMMAND,
    Kind.SOURCE: records.SOURCE_COMMAND,
    Kind.SOURCE_PRICE: records.SOURCE_COMMAND,
    Kind.SETTLE_SYMBOL: records.SETTLE_COMMAND,
    Kind.LIQUIDATE: records.SETTLE_COMMAND,
    Kind.FUNDING: records.SETTLE_COMMAND,
    Kind.LIQUIDATION_ORDER: records.SETTLE_COMMAND,
    Kind.TAKEOVER: records.SETTLE_COMMAND,
    Kind.DELIST: records.SETTLE_COMMAND,
    Kind.CHECKPOINT: records.CHECKPOINT_COMMAND,
}

# ORDER is REPORT itself.
REPORT_RECORDS: Final[dict[int, Record]] = {
    kind: RECORDS[f"{kind.name}_REPORT"]
    for kind in ReportKind
    if kind not in (ReportKind.NONE, ReportKind.ORDER)
}


def text_words(text: str, words: int) -> np.ndarray[Any, Any]:
    """Text as the words of a record."""
    return np.frombuffer(text.encode().ljust(8 * words, b"\0"), np.int64)


def command(kind: int, **fields: Any) -> np.ndarray[Any, Any]:
    """One COMMAND row, laid out as its kind is; text fields as str. `lines` defaults to what is
    needed."""
    row = np.zeros(1, records.COMMAND.dtype)
    layout = COMMAND_RECORDS.get(kind, records.COMMAND)
    view = row.view(layout.dtype)
    view["symbol"] = records.NO_SYMBOL
    view["kind"] = kind
    lines = 1
    offsets: dict[str, Any] = dict(layout.dtype.fields or {})
    for field, value in fields.items():
        line = offsets[field][1] // 64 + 1
        lines = max(lines, line) if line <= 3 else lines
        if isinstance(value, str):
            value = text_words(value, 5 if field == "client_id" else 2)
        view[field] = value
    view["lines"] = fields.get("lines", lines)
    return row
