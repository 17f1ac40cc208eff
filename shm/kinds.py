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
    Kind.TAKEOVER: records.TAKEOVER_COMMAND,
    Kind.DELIST: records.SETTLE_COMMAND,
    Kind.CHECKPOINT: records.CHECKPOINT_COMMAND,
}

# ORDER is REPORT itself.
REPORT_RECORDS: Final[dict[int, Record]] = {
    kind: RECORDS[f"{kind.name}_REPORT"]
    for kind in ReportKind
    if kind not in (ReportKind.NONE, ReportKind.ORDER)
}

# Whose payload PARAMETERS reports repeat, so that a follower can rebuild what is declared. The rest
# is told by their ANSWER (`value`), WALLET, SYMBOL, REQUEST and the like.
PARAMETER_KINDS: Final = frozenset(
    (
        *(Kind.ASSET, Kind.SYMBOL, Kind.CONTRACT, Kind.BRACKET, Kind.SOURCE, Kind.FEE_RATES),
        *(Kind.SETTLE_SYMBOL, Kind.BOOKKEEPING, Kind.AUDIT, Kind.UPGRADE),
    )
)
PAYLOAD: Final = (*range(3, 6), *range(8, 24))  # words of a command that are its kind's own
PAYLOAD_WORDS: Final = len(PAYLOAD)
WORDS_A_REPORT: Final = 6
PARAMETER_REPORTS: Final = -(-PAYLOAD_WORDS // WORDS_A_REPORT)

# Bit k: line 2 of kind k says where the command comes from (trace, digest, key).
HAS_ORIGIN: Final = sum(
    1 << kind
    for kind in Kind
    if kind
    and any(f.name == "digest_hi" for f in COMMAND_RECORDS.get(kind, records.COMMAND).fields)
)


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
    for field, value in fields.items():
        line = layout.offset(field) // 64 + 1
        lines = max(lines, line) if line <= 3 else lines
        if isinstance(value, str):
            value = text_words(value, 5 if field == "client_id" else 2)
        view[field] = value
    view["lines"] = fields.get("lines", lines)
    return row


def payload_command(reports: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The administrative command that PARAMETERS reports repeat, as one row of its own record.

    reports   reports of one command in order, as REPORT rows: its four PARAMETERS among them, and
              its ANSWER if time and request shall be filled in
    returns   row[1]; what is not of the payload, and not in a report's head, is zero
    raises    ValueError where a PARAMETERS report is missing, or they are of several commands
    """
    rows = np.ascontiguousarray(reports)
    told = rows[rows["kind"] == ReportKind.PARAMETERS]
    status, words = told["status"], told.view(np.int64).reshape(-1, 8)
    if (
        (status & 3).tolist() != list(range(PARAMETER_REPORTS))
        or len(set(told["seq"].tolist())) != 1
        or len(set((status >> 2).tolist())) != 1
    ):
        raise ValueError(
            f"PARAMETERS {status.tolist()} are not the {PARAMETER_REPORTS} of one command"
        )
    row = np.zeros(1, records.COMMAND.dtype)
    row.view(np.int64)[list(PAYLOAD)] = words[:, 2:].reshape(-1)[:PAYLOAD_WORDS]
    for name in ("seq", "account", "symbol"):
        row[name] = told[name][0]
    row["kind"] = kind = int(status[0]) >> 2
    row["lines"] = 3
    for answer in rows[(rows["kind"] == ReportKind.ANSWER) & (rows["seq"] == told["seq"][0])]:
        row["ts_ns"], row["request"] = answer["ts_ns"], answer["request"]
    return row.view(COMMAND_RECORDS[kind].dtype)
