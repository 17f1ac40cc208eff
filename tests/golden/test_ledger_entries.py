"""What is booked when something happens, as an accountant reads it: tests/golden/ledger.txt.

Each section of that file is one event, made here under the same name, and the entries it must make.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.bookkeeping import Op, note_fields
from ledger.books import Books
from ledger.chart import Code, pack
from ledger.report import entry_text
from ledger.store import Ledger
from shm.codes import Cause, Kind, Move, ReportKind, RequestStatus, Side, Status
from tests.model.report_stream import ANN, BOB, CAT, FUND, Stream

GOLDEN = Path(__file__).with_name("ledger.txt")
COLD = 1 << 56
EVENTS: dict[str, Callable[[Stream], None]] = {}


def event(make: Callable[[Stream], None]) -> Callable[[Stream], None]:
    EVENTS[make.__name__.replace("_", " ")] = make
    return make


@event
def deposit(s: Stream) -> None:
    s.deposit(CAT, 5_000_000)


@event
def deposit_into_cold_storage(s: Stream) -> None:
    s.deposit(CAT, 5_000_000, source=COLD | 77)


@event
def withdrawal_at_once(s: Stream) -> None:
    s.deposit(ANN, -250_000)


@event
def withdrawal_asked_for_and_rejected(s: Stream) -> None:
    seq = s.answer(Kind.REQUEST_WITHDRAW, ANN)
    s.request(ANN, RequestStatus.REQUESTED, 400_000, request=seq)
    s.move(Move.WITHDRAW_HOLD, ANN, -400_000, reference=seq)
    s.answer(Kind.REJECT, ANN)
    s.request(ANN, RequestStatus.REJECTED, 400_000, request=seq)
    s.move(Move.WITHDRAW_RETURN, ANN, 400_000, reference=seq)


@event
def withdrawal_asked_for_approved_and_settled(s: Stream) -> None:
    seq = s.answer(Kind.REQUEST_WITHDRAW, ANN)
    s.move(Move.WITHDRAW_HOLD, ANN, -400_000, reference=seq)
    s.answer(Kind.APPROVE, ANN)
    s.request(ANN, RequestStatus.APPROVED, 400_000, request=seq)
    s.answer(Kind.SETTLE_WITHDRAW, ANN)
    s.request(ANN, RequestStatus.SETTLED, 400_000, request=seq, fee=1_500)
    s.move(Move.WITHDRAW_SETTLE, ANN, -400_000, reference=seq)


@event
def order_placed_and_cancelled(s: Stream) -> None:
    order = s.order(ANN)
    s.hold(ANN, order, 105_000)
    s.order(ANN, Status.CANCELED, order)


@event
def order_amended_down(s: Stream) -> None:
    order = s.order(ANN)
    s.hold(ANN, order, 105_000)
    s.order(ANN, Status.AMENDED, order)
    s.hold(ANN, order, 52_500)


@event
def opening_trade_with_fees(s: Stream) -> None:
    order = s.order(ANN)
    s.hold(ANN, order, 51_000)
    s.seq += 1
    s.add(ReportKind.ANSWER, account=BOB, ts_ns=s.ts_ns)
    s.trades = 1
    s.fill(ANN, Side.BUY, 1000, 50, fee=100, order_id=order)
    s.fill(BOB, Side.SELL, 1000, 50, fee=250, taker=True)


@event
def maker_with_a_rebate(s: Stream) -> None:
    s.trade(ANN, BOB, 1000, 50, fees=(-50, 250))


@event
def half_of_an_order_filled(s: Stream) -> None:
    order = s.order(ANN)
    s.hold(ANN, order, 51_001)
    s.seq += 1
    s.add(ReportKind.ANSWER, account=ANN, ts_ns=s.ts_ns)
    s.fill(ANN, Side.BUY, 1000, 25, order_id=order, open_lots=25, hold=25_500)


@event
def reducing_trade_with_a_profit(s: Stream) -> None:
    s.trade(ANN, BOB, 1000, 50)
    s.trade(CAT, ANN, 1010, 20, fees=(0, 101))


@event
def reducing_trade_with_a_loss(s: Stream) -> None:
    s.trade(ANN, BOB, 1000, 50)
    s.trade(CAT, ANN, 990, 20, fees=(0, 99))


@event
def trade_through_zero(s: Stream) -> None:
    s.trade(ANN, BOB, 1000, 50)
    s.trade(CAT, ANN, 1010, 80)


@event
def close_claim_robbed_and_flipped(s: Stream) -> None:
    s.trade(ANN, BOB, 1000, 50)
    order = s.order(ANN)
    s.hold(ANN, order, 0, close_lots=10)
    s.order(CAT)
    s.add(
        ReportKind.FLIP,
        account=ANN,
        symbol=0,
        order_id=order,
        thief_order_id=99,
        lots=10,
        close_lots=0,
        hold_quanta=10_500,
        hold_change_quanta=10_500,
    )


@event
def isolated_position_opened_and_closed(s: Stream) -> None:
    s.seq += 1
    s.add(ReportKind.ANSWER, account=ANN, ts_ns=s.ts_ns)
    s.fill(ANN, Side.BUY, 1000, 50, fee=250, taker=True, isolated=True)
    s.move(Move.ISOLATE, ANN, -50_000, symbol=0)
    s.seq += 1
    s.add(ReportKind.ANSWER, account=ANN, ts_ns=s.ts_ns)
    s.fill(ANN, Side.SELL, 1010, 50, fee=253, taker=True, isolated=True)
    s.move(Move.RELEASE, ANN, s.isolated[ANN, 0, 0], symbol=0)


@event
def margin_moved_by_hand(s: Stream) -> None:
    s.answer(Kind.POSITION_MARGIN, ANN)
    s.move(Move.ISOLATE, ANN, -10_000, symbol=0)
    s.answer(Kind.POSITION_MARGIN, ANN)
    s.move(Move.RELEASE, ANN, 4_000, symbol=0)


@event
def hedge_mode_legs(s: Stream) -> None:
    s.seq += 1
    s.add(ReportKind.ANSWER, account=ANN, ts_ns=s.ts_ns)
    s.fill(ANN, Side.BUY, 1000, 5, leg=1)
    s.fill(ANN, Side.SELL, 1000, 5, leg=2)


@event
def funding_with_dust(s: Stream) -> None:
    s.funding({(ANN, False): -1_001, (BOB, False): 666, (CAT, False): 334})


@event
def funding_of_an_isolated_position(s: Stream) -> None:
    s.answer(Kind.POSITION_MARGIN, ANN)
    s.move(Move.ISOLATE, ANN, -10_000, symbol=0)
    s.funding({(ANN, True): -500, (BOB, False): 500})


@event
def transfer(s: Stream) -> None:
    s.answer(Kind.TRANSFER, ANN)
    s.move(Move.TRANSFER, BOB, 30_000, other=ANN)


@event
def adjustment_by_hand(s: Stream) -> None:
    s.answer(Kind.APPROVE, ANN)
    s.move(Move.ADJUST, ANN, 2_500, other=3, reference=7)


@event
def liquidation_better_than_bankruptcy(s: Stream) -> None:
    s.trade(ANN, BOB, 1000, 50)
    s.trade(CAT, ANN, 990, 50, fees=(0, 248), cause=Cause.LIQUIDATION)
    s.move(Move.CLEARANCE, FUND, 1_237, other=ANN)


@event
def takeover_leftover_and_unwinding(s: Stream) -> None:
    s.trade(ANN, BOB, 1000, 50)
    s.trade(FUND, ANN, 980, 50, cause=Cause.TAKEOVER, maker_cause=Cause.TAKEOVER)
    s.move(Move.LEFTOVER, FUND, 321, other=ANN)
    s.trade(CAT, FUND, 975, 50, fees=(0, 244))


@event
def bad_debt_paid_by_the_fund(s: Stream) -> None:
    s.deposit(FUND, 100_000)
    s.trade(ANN, BOB, 1000, 50)
    s.trade(CAT, ANN, 790, 50, cause=Cause.LIQUIDATION)
    s.move(Move.BAD_DEBT, ANN, 5_000, other=FUND)


@event
def deleveraging(s: Stream) -> None:
    s.trade(ANN, BOB, 1000, 50)
    s.trade(BOB, ANN, 980, 50, cause=Cause.ADL, maker_cause=Cause.ADL)


@event
def delisting(s: Stream) -> None:
    s.trade(ANN, BOB, 1000, 50)
    s.trade(BOB, ANN, 1005, 50, cause=Cause.DELIST, maker_cause=Cause.DELIST)


def _note(s: Stream, op: Op, principal: int, **fields: object) -> int:
    return s.administer(Kind.BOOKKEEPING, **note_fields(op, principal=principal, **fields))  # type: ignore[arg-type]


HOT, COLD_STORE = pack(Code.CUSTODY_HOT, 0, 0), pack(Code.CUSTODY_COLD, 0, 0)


@event
def custody_moved_to_cold_storage(s: Stream) -> None:
    seq = _note(s, Op.JOURNAL, 1, amount=700_000, debit=COLD_STORE, credit=HOT, text="sweep")
    _note(s, Op.APPROVE, 2, reference=seq)


@event
def network_cost_reversed(s: Stream) -> None:
    network = pack(Code.NETWORK, 0, 0)
    seq = _note(s, Op.JOURNAL, 1, amount=42, debit=network, credit=HOT, text="gas")
    _note(s, Op.APPROVE, 2, reference=seq)
    seq = _note(s, Op.REVERSE, 2, reference=2, text="was booked twice")
    _note(s, Op.APPROVE, 1, reference=seq)


@event
def period_closed_and_opened_again(s: Stream) -> None:
    s.trade(ANN, BOB, 1000, 50, fees=(-50, 250))
    seq = _note(s, Op.CLOSE, 1, effective_ns=s.ts_ns, text="January")
    _note(s, Op.APPROVE, 2, reference=seq)
    seq = _note(s, Op.REOPEN, 1, text="a late invoice")
    _note(s, Op.APPROVE, 2, reference=seq)


def sections() -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in GOLDEN.read_text().splitlines():
        if line.startswith("# "):
            name = line[2:]
            found[name] = ""
        elif name:
            found[name] += line + "\n"
    return {name: text.strip("\n") for name, text in found.items()}


def booked(name: str, folder: Path) -> tuple[str, Books]:
    """Entries of an event after a market with ANN and BOB funded, as text."""
    s = Stream().market()
    for account in (ANN, BOB):
        s.deposit(account, 1_000_000)
    EVENTS[name](s)
    ledger = Ledger(folder / "ledger")
    ledger.feed(0, s.rows())
    ledger.close()
    books = Books(folder / "ledger")
    return "\n".join(entry_text(books, entry) for entry in range(2, books.entries)), books


@pytest.mark.parametrize("name", EVENTS)
def test_entries(name: str, tmp_path: Path) -> None:
    text, books = booked(name, tmp_path)
    assert len(books.breaks()) == 0
    assert text == sections()[name]


def test_every_section_is_an_event() -> None:
    assert list(sections()) == list(EVENTS)
