"""What a trade costs, and how settlement stops and goes on."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fills import trade_position
from shm import cursors
from shm.codes import Flag, Kind, Side, Tif
from shm.units import FEE_ACCOUNT, PPM
from tests.venue import ANN, BOB, CAT, DAN, LIMITS, Venue, check_laws, check_reports

SMALL = LIMITS._replace(leaves=64, trie=128)
FILLS = st.lists(st.tuples(st.sampled_from(list(Side)), st.integers(1, 50), st.integers(1, 20)))


@given(FILLS, st.integers(1, 7))
def test_profit_is_what_went_in_less_what_came_out(
    fills: list[tuple[int, int, int]], unit: int
) -> None:
    """Cash flow is the oracle; average cost with exact remainders must come to the same."""
    v = Venue(SMALL).open_market(tick_lot_quanta=unit)
    v.place(ANN, Side.BUY, 1, 1)
    v.work()
    r, p = v.engine.risk, v.arrays["positions"][0]
    cash = total = 0
    average = Fraction(0)
    for side, price, lots in fills:
        signed = lots if side == Side.BUY else -lots
        held = int(p["lots"])
        closing, realised = map(int, trade_position(r, 0, int(side), price, lots))
        cash -= signed * price * unit
        total += realised
        assert closing == (min(lots, abs(held)) if held * signed < 0 else 0)
        assert p["lots"] == held + signed
        assert total - int(p["entry_quanta"]) == cash
        # The exact average of what is open; the table's is never off by a quantum a lot.
        if held * signed >= 0:
            worth = average * abs(held) + price * unit * lots
            average = worth / abs(held + signed)
        elif abs(signed) > abs(held):
            average = Fraction(price * unit)
        elif held + signed == 0:
            average = Fraction(0)
        assert abs(abs(int(p["entry_quanta"])) - average * abs(held + signed)) < 1 + len(fills)
        longs = int(p["lots"]) if p["lots"] > 0 else 0
        assert v.arrays["symbols"][0]["open_lots"] == longs
    if p["lots"] == 0:
        assert p["entry_quanta"] == 0 and total == cash


@pytest.mark.parametrize("taker", [0, 1, 333, 500, PPM])
@pytest.mark.parametrize("maker", [-333, -1, 0, 77, PPM])
def test_fees_round_for_the_house(taker: int, maker: int) -> None:
    if maker < -taker:
        return
    v = Venue(SMALL).open_market(
        quanta=10**9, tick_lot_quanta=1, taker_fee_ppm=taker, maker_fee_ppm=maker
    )
    owed = [0, 0]
    for price, lots in ((1, 1), (7, 3), (101, 70), (9999, 1000), (3, 3)):
        v.place(ANN, Side.BUY, price, lots)
        v.place(BOB, Side.SELL, price, lots)
        v.work()
        owed[0] += -(-price * lots * maker // PPM)
        owed[1] += -(-price * lots * taker // PPM)
        assert [v.wallet(who)["fees_quanta"] for who in (ANN, BOB)] == owed
        assert v.wallet(FEE_ACCOUNT)["wallet_quanta"] == sum(owed) >= 0
    check_laws(v)


def test_a_full_reports_ring_stops_it_anywhere() -> None:
    """Between two matches of one command and between two flips of one match; nothing is lost, and
    risk decides nothing meanwhile."""

    def play(reports: int, steps: int | None) -> Venue:
        v = Venue(SMALL, reports=reports, matches=64).open_market(quanta=10**7)
        v.place(ANN, Side.BUY, 100, 40)
        v.place(BOB, Side.SELL, 100, 40)
        v.work()
        for k in range(20):
            v.place(ANN, Side.SELL, 110 + k, 2)
        v.work()
        for _ in range(20):
            v.place(CAT, Side.BUY, 90, 2)
        v.place(ANN, Side.SELL, 90, 40)
        v.place(DAN, Side.BUY, 80, 1)
        if steps is None:
            v.work()
            return v
        paused = 0
        v.feed()
        while not v.quiet():
            v.sequence()
            v.match()
            v.risk()
            if v.venue["mid_command"]:
                paused += 1
                before = int(v.cursors[cursors.RISKED])
                v.risk()
                assert v.cursors[cursors.RISKED] == before
            v.journal()
            v.read(steps)
        assert paused > 0
        return v

    want = play(1024, None)
    for reports, steps in ((64, 1), (64, 7), (64, 64), (128, 3)):
        v = play(reports, steps)
        assert v.all_reports().tobytes() == want.all_reports().tobytes()
        assert v.arrays["claims"].tobytes() == want.arrays["claims"].tobytes()
        check_laws(v)
        check_reports(v)


def test_shards_are_merged_in_symbol_order() -> None:
    """Whichever shard speaks first."""
    for shards, order in ((1, [0]), (2, [1, 0]), (3, [2, 0, 1]), (4, [3, 1, 0, 2])):
        v = Venue(SMALL, shards=shards).open_market(symbols=6)
        for symbol in (4, 1, 3, 0, 5, 1):
            v.place(ANN, Side.BUY, 100 + symbol, 1, symbol=symbol)
        v.work()
        v.heard()
        v.send(Kind.CANCEL_ALL, account=ANN)
        v.feed()
        v.sequence()
        v.risk()
        for shard in order:
            v.match(shard)
            v.risk()
        told = v.drain()
        assert [r["symbol"] for r in told if r["kind"] == "ORDER"] == [0, 1, 1, 3, 4, 5]
        assert told[0]["kind"] == "ANSWER"
        check_laws(v)


def test_open_interest_counts_longs() -> None:
    v = Venue(SMALL).open_market()
    wanted = 0
    for buyer, seller, lots, more in (
        (ANN, BOB, 10, 10),
        (CAT, ANN, 4, 0),  # a long changes hands
        (BOB, CAT, 4, -4),  # both close
        (CAT, ANN, 6, 0),
        (BOB, ANN, 6, 0),  # one closes, one opens
    ):
        v.place(buyer, Side.BUY, 100, lots)
        v.place(seller, Side.SELL, 100, lots)
        v.work()
        wanted += more
        assert v.arrays["symbols"][0]["open_lots"] == wanted
        check_laws(v)


def test_what_an_account_lacks_is_counted() -> None:
    """Fills of what opens and holds nothing: each is counted once, for the account and the venue."""
    v = Venue(SMALL).open_market()
    for k in range(3):
        v.place(ANN, Side.SELL, 100 + k, 1)
    v.work()
    v.send(Kind.PLACE, account=BOB, symbol=0, side=Side.BUY, type=1, qty_lots=3, tif=Tif.IOC)
    v.work()
    assert v.wallet(BOB)["deficit_count"] == v.venue["deficit_count"] == 3
    assert v.wallet(ANN)["deficit_count"] == 0
    # the rest of a closing order counts nothing
    v.place(BOB, Side.SELL, 100, 3, flags=Flag.REDUCE_ONLY)
    v.place(CAT, Side.BUY, 100, 3)
    v.work()
    assert v.venue["deficit_count"] == 3
    check_laws(v)


def test_answers_come_first_and_once() -> None:
    """For every kind that matching sees, whatever it says."""
    v = Venue(SMALL).open_market(symbols=2)
    traced = {"trace_hi": 1, "trace_lo": 2, "recv_ns": 3, "key_id": 4}
    sent = [
        (Kind.PLACE, {"side": 0, "price_ticks": 100, "qty_lots": 5, "client_id": "a"}, "NEW"),
        (Kind.PLACE, {"side": 1, "price_ticks": 100, "qty_lots": 2, "tif": Tif.IOC}, "NEW"),
        (Kind.PLACE, {"side": 1, "price_ticks": 100, "qty_lots": 2, "tif": Tif.GTX}, "EXPIRED"),
        (Kind.PLACE, {"side": 1, "price_ticks": 100, "qty_lots": 9, "tif": Tif.FOK}, "EXPIRED"),
        (Kind.AMEND, {"price_ticks": 101, "qty_lots": 5, "client_id": "a"}, "AMENDED"),
        (Kind.REDUCE, {"qty_lots": 1, "client_id": "a"}, "AMENDED"),
        (Kind.CANCEL, {"client_id": "a"}, "CANCELED"),
        (Kind.CANCEL, {"client_id": "a"}, "REFUSED"),
        (Kind.CANCEL_ALL, {}, 5),
        (Kind.CANCEL_SYMBOL, {}, 6),
    ]
    for kind, fields, status in sent:
        told = v.do(kind, account=ANN, symbol=0, **fields, **traced)
        traces = [r for r in told if r["kind"] == "TRACE"]
        assert len(traces) == 1 and traces[0]["trace_lo"] == 2, (kind, told)
        answer = told[0]
        got = answer["status"] if answer["kind"] == "ORDER" else Kind[answer["status"]]
        assert got == status and answer["request"] != 0
        names = [r for r in told if r["kind"] == "CLIENT_ID"]
        assert [r["client_id"] for r in names] == (
            ["a"] if kind == Kind.PLACE and "client_id" in fields else []
        )
        assert told.index(traces[0]) == 1 + len(names)
    check_reports(v)


def test_venues_own_accounts_may_trade() -> None:
    """The insurance fund closes what it has taken over like anybody else."""
    v = Venue(SMALL).open_market(taker_fee_ppm=1000)
    v.send(Kind.DEPOSIT, account=1, amount_quanta=10**6)
    v.send(Kind.DEPOSIT, account=FEE_ACCOUNT, amount_quanta=10**6)
    v.work()
    v.place(1, Side.BUY, 100, 5)
    v.place(FEE_ACCOUNT, Side.SELL, 100, 5)
    v.work()
    assert v.position(1)["lots"] == 5 and v.position(FEE_ACCOUNT)["lots"] == -5
    assert v.wallet(FEE_ACCOUNT)["wallet_quanta"] == 10**6
    check_laws(v)
    assert np.sum(v.arrays["wallets"]["wallet_quanta"]) == 6 * 10**6
