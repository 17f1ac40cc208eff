"""Administrative commands are repeated word for word, and notes are taken as they come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shm.codes import Kind, Reason, ReportKind, State
from shm.kinds import COMMAND_RECORDS, PARAMETER_KINDS, payload_command
from shm.records import COMMAND, NO_SYMBOL
from shm.units import PRODUCER_SHIFT
from tests.venue import ANN, BOB, LIMITS, SYMBOL_DEFAULTS, Venue, check_reports

SMALL = LIMITS._replace(leaves=64, trie=128)
NOTE = {"note": [1, -2, 1 << 62], "note2": list(range(4, 12)), "note3": list(range(-20, -12))}
CODES = ("side", "type", "tif", "flags", "stp", "position_side")


def told(v: Venue, first: int = 0) -> Any:
    """Reports made from number `first` on, as rows."""
    return v.all_reports()[first:]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Kind.ASSET, {"asset": 1, "scale": 8, "name": "BTC"}),
        (Kind.SYMBOL, {"symbol": 3, "name": "XRPUSDT", **SYMBOL_DEFAULTS}),
        (Kind.SYMBOL, {"symbol": 0, "name": "again", **SYMBOL_DEFAULTS, "taker_fee_ppm": 7}),
        (Kind.BOOKKEEPING, {"account": BOB, "symbol": 0, **NOTE}),
        (Kind.AUDIT, {"account": ANN, **NOTE}),
        (Kind.AUDIT, {}),
    ],
)
def test_what_was_said_can_be_had_from_the_reports(kind: Kind, fields: dict[str, Any]) -> None:
    v = Venue(SMALL).open_market()
    before = int(v.venue["reports_count"])
    number = v.send(kind, **fields)
    sent = v.outbox[1][0].copy()
    v.work()
    rows = told(v, before)
    assert rows["kind"][:5].tolist() == [ReportKind.ANSWER] + 4 * [ReportKind.PARAMETERS]
    again = payload_command(rows)
    layout = COMMAND_RECORDS[kind]
    assert again.dtype == layout.dtype
    for field in layout.fields:
        if layout.offset(field.name) < 192 and field.name not in ("seq", "lines"):
            want = sent.view(layout.dtype)[field.name]
            if field.name == "request":
                want = 4 << PRODUCER_SHIFT | number
            elif field.name == "ts_ns":
                want = v.now
            assert (again[field.name] == want).all(), field.name
    assert again["seq"][0] == v.log[-1]["seq"]
    check_reports(v)


def test_every_parameter_kind_has_a_record_of_its_own() -> None:
    assert all(COMMAND_RECORDS[kind] is not COMMAND for kind in PARAMETER_KINDS)


def test_reports_that_are_not_one_command_are_refused() -> None:
    v = Venue(SMALL)
    v.asset(0)
    v.asset(1)
    v.work()
    rows = told(v)
    assert payload_command(rows[:5])["asset"][0] == 0
    for wrong in (rows[:4], rows, rows[2:7], rows[:0], rows[[0, 1, 3, 2, 4]]):
        with pytest.raises(ValueError, match="PARAMETERS"):
            payload_command(wrong)


@pytest.mark.parametrize("kind", [Kind.BOOKKEEPING, Kind.AUDIT])
def test_notes_are_checked_in_this_order(kind: Kind) -> None:
    v = Venue(SMALL).open_market()
    v.send(Kind.VENUE_STATE, state=State.CLOSED)  # books are closed while a venue is
    v.work()
    v.heard()

    def answer(**fields: Any) -> str:
        return str(v.do(kind, **fields)[0]["reason"])

    for name in CODES:
        assert answer(account=99, symbol=77, **NOTE, **{name: 1}) == Reason.MALFORMED.name
    assert answer(account=31, symbol=77, **NOTE) == Reason.UNKNOWN_ACCOUNT.name
    assert answer(account=ANN, symbol=77, **NOTE) == Reason.UNKNOWN_SYMBOL.name
    assert answer(account=ANN, symbol=0, **NOTE) == Reason.NONE.name
    assert answer(account=ANN, symbol=NO_SYMBOL) == Reason.NONE.name


def test_a_refused_command_repeats_nothing() -> None:
    v = Venue(SMALL)
    v.asset(0)
    v.work()
    before = int(v.venue["reports_count"])
    v.asset(0)
    v.work()
    assert told(v, before)["kind"].tolist() == [ReportKind.ANSWER]


def test_a_note_says_nothing_of_a_trace() -> None:
    """Its third line is its own: what stands there is no trace id."""
    v = Venue(SMALL)
    before = int(v.venue["reports_count"])
    v.send(Kind.AUDIT, note3=np.arange(1, 9))
    v.work()
    assert ReportKind.TRACE not in told(v, before)["kind"]
