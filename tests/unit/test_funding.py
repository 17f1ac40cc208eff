"""Funding: the vectors of the reference, whole rounds in a venue, and what rounding keeps back."""

from __future__ import annotations

from fractions import Fraction
from math import floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import funding
from engine.funding import amount_of, rate_of, side_premium
from engine.setup import SLICE_APART
from shm.arithmetic import muldiv_down, muldiv_up
from shm.codes import Kind, Side
from shm.records import SETTLE_COMMAND
from shm.units import DUST_ACCOUNT, PPB, RATE_PPB_MAX, SYSTEM_ACCOUNTS
from tests.model.prices_twin import impact_twin, payment_twin, premium_twin, rate_twin
from tests.unit.test_index import CONTRACT, HOUR, market, price, said, weigh
from tests.venue import ANN, BOB, CAT, CLOCK, DAN, LIMITS, SECOND, Venue, check_laws, check_reports

# interest 0.01 %, clamp 0.05 %, cap 0.3 %
RATES = """
  premium | 8 h       | 4 h      | 1 h
  0       | 0.0001    | 0.00005  | 0.0000125
  0.0003  | 0.0001    | 0.00005  | 0.0000125
  -0.0003 | 0.0001    | 0.00005  | 0.0000125
  0.0006  | 0.0001    | 0.00005  | 0.0000125
  -0.0004 | 0.0001    | 0.00005  | 0.0000125
  0.0007  | 0.0002    | 0.0001   | 0.000025
  0.001   | 0.0005    | 0.00025  | 0.0000625
  -0.001  | -0.0005   | -0.00025 | -0.0000625
  0.01    | 0.003     | 0.003    | 0.0011875    the cap
  -0.01   | -0.003    | -0.003   | -0.0011875
"""


def ppb(text: str) -> int:
    whole = Fraction(text) * PPB
    assert whole.denominator == 1
    return int(whole)


@pytest.mark.parametrize("line", [s for s in RATES.splitlines()[2:] if s.strip()])
def test_rates(line: str) -> None:
    premium, *cells = (cell.split()[0] for cell in line.split("|"))
    for hours, cell in zip((8, 4, 1), cells, strict=True):
        terms = (100_000, 500_000, hours * HOUR, -3_000_000, 3_000_000)
        assert rate_of(ppb(premium), *terms) == ppb(cell) == rate_twin(ppb(premium), *terms)


RATE = st.integers(-RATE_PPB_MAX, RATE_PPB_MAX)


@given(RATE, RATE, st.integers(0, RATE_PPB_MAX), st.integers(SECOND, 24 * HOUR), RATE, RATE)
def test_rate_is_that_of_fractions(
    premium: int, interest: int, clamp: int, interval: int, one: int, other: int
) -> None:
    terms = (premium, interest, clamp, interval, min(one, other), max(one, other))
    assert rate_of(*terms) == rate_twin(*terms)


# ---------------------------------------------------------------- premium


def sampled(bids: list[tuple[int, int]], asks: list[tuple[int, int]], notional: int) -> Any:
    """The IMPACT record of a book of (ticks, lots) levels; the notional in ticks times lots."""
    v = market(impact_quanta=notional * 10)
    v.send(
        Kind.SYMBOL,
        symbol=0,
        tick_lot_quanta=10,
        qty_lots_min=1,
        qty_lots_max=1 << 40,
        price_ticks_min=1,
        price_ticks_max=100_000,
        leverage_max=100,
        leverage_default=10,
        orders_max=500,
    )
    for account in (ANN, BOB):
        v.send(Kind.DEPOSIT, account=account, amount_quanta=1 << 58)
    for ticks, lots in bids:
        v.place(ANN, Side.BUY, ticks, lots)
    for ticks, lots in asks:
        v.place(BOB, Side.SELL, ticks, lots)
    v.drain()
    v.send(Kind.SAMPLE, symbol=0)
    v.feed()
    v.sequence()
    v.risk()
    v.match()
    row = v.arrays["matches"][int(v.cursors[256 + 16]) - 1 & 255].copy()
    v.drain()
    return row


def test_impact_vector() -> None:
    """0.2 @60010, 1 @60000 against 0.1 @60020, 2 @60030, for 25,000, in lots of 0.1."""
    row = sampled([(60010, 2), (60000, 10)], [(60020, 1), (60030, 20)], 250_000)
    bid = Fraction(int(row["trade_id"]) * int(row["price_ticks"]), int(row["lots"]))
    ask = Fraction(int(row["trade_id"]) * int(row["open_lots"]), int(row["maker_open_lots"]))
    assert f"{float(bid):.8f} {float(ask):.8f}" == "60004.80038403 60027.59889604"
    assert f"{float((bid - 59950) / 59950):.10f}" == "0.0009141015"
    parts = int(row["trade_id"]), int(row["price_ticks"]), int(row["lots"])
    assert side_premium(*parts, 59950, True) == 914_101  # 914,101.49 ppb, toward zero
    assert side_premium(*parts, 60004, True) == 13_338  # 0.80038 ticks
    assert side_premium(*parts, 60005, True) == 0  # the index lies inside the impact spread
    parts = int(row["trade_id"]), int(row["open_lots"]), int(row["maker_open_lots"])
    assert side_premium(*parts, 60027, False) == 0
    assert side_premium(*parts, 60028, False) == 6_681  # 0.40110 ticks below


def test_a_side_that_is_too_thin() -> None:
    row = sampled([(60010, 2)], [(60020, 5)], 120_021)
    assert (row["price_ticks"], row["lots"]) == (0, 0)  # 120,020 in all
    assert row["open_lots"] == 60020
    row = sampled([(1000 - k, 1) for k in range(300)], [], 230_000)
    assert (row["price_ticks"], row["lots"]) == (0, 0)  # more than 256 levels
    row = sampled([], [], 0)
    assert (row["price_ticks"], row["lots"], row["open_lots"]) == (0, 0, 0)


LEVELS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 1000)), min_size=1, max_size=20)


@given(LEVELS, LEVELS, st.integers(1, 1_000_000), st.integers(800, 1200))
def test_impact_and_premium_are_those_of_fractions(
    below: Any, above: Any, notional: int, index: int
) -> None:
    bids = sorted({1000 - d: lots for d, lots in below}.items(), reverse=True)
    asks = sorted({1000 + d: lots for d, lots in above}.items())
    row = sampled(bids, asks, notional)
    bid, ask = impact_twin(bids, notional), impact_twin(asks, notional)
    notional = int(row["trade_id"])
    found = [int(row[f]) for f in ("price_ticks", "lots", "open_lots", "maker_open_lots")]
    assert (found[1] == 0) == (bid is None) and (found[3] == 0) == (ask is None)
    if bid is not None:
        assert Fraction(notional * found[0], found[1]) == bid
    if ask is not None:
        assert Fraction(notional * found[2], found[3]) == ask
    if bid is not None and ask is not None:
        premium = side_premium(notional, *found[:2], index, True)
        premium -= side_premium(notional, *found[2:], index, False)
        assert premium == premium_twin(bid, ask, index)


def test_newer_samples_weigh_more() -> None:
    """0.001, 0.002, 0.003 with weights 1, 2, 3: 0.0023333..."""
    v = market()
    c = v.arrays["contracts"][0]
    for k, premium in enumerate((1_000_000, 2_000_000, 3_000_000), 1):
        c["premium_sum"] += k * premium
        c["premium_count"] = k
    # 2,333,333 + clamp(100,000 - 2,333,333) = 1,833,333
    assert funding.rate_now(v.engine.risk, 0) == 1_833_333


# ---------------------------------------------------------------- payments

# lots | received; unit 10, mark 60,000, F = 0.00012345: 0.00012345 * 600,000 = 74.07 a lot
PAYMENTS = """
  1000 | -74070
  -333 | 24665     24,665.31
  -667 | 49404     49,404.69
  3    | -223      222.21
  -3   | 222
  1    | -75       74.07
"""


@pytest.mark.parametrize("line", [s for s in PAYMENTS.splitlines() if s.strip()])
def test_payer_rounds_up_receiver_down(line: str) -> None:
    lots, rest = line.split("|")
    got = amount_of(int(lots), 60_000, 10, 123_450)
    assert got == int(rest.split()[0]) == payment_twin(int(lots), 60_000, 10, 123_450)
    assert amount_of(-int(lots), 60_000, 10, -123_450) == got


def test_dust_vector() -> None:
    """+1.000, -0.333, -0.667 at 60000.12345678 and 0.00012345, at 1e-8: two of them are kept."""
    # A lot of 0.001 and a tick of 1e-8 are worth 1e-11, of which 1000 make the last decimal.
    mark, rate, one = 6_000_012_345_678, 123_450, PPB * 1000
    exact = [Fraction(-lots * mark * rate, one) for lots in (1000, -333, -667)]
    assert sum(exact) == 0
    assert -sum(int(x) for x in exact) == 1  # toward zero
    paid = (
        -muldiv_up(1000 * mark, rate, one),
        *(muldiv_down(n * mark, rate, one) for n in (333, 667)),
    )
    assert [floor(x) for x in exact] == list(paid) and -sum(paid) == 2
    # The same positions in this venue, where the last decimal is 1e-11.
    got = [amount_of(lots, mark, 1, rate) for lots in (1000, -333, -667)]
    assert got == [payment_twin(lots, mark, 1, rate) for lots in (1000, -333, -667)]
    assert 0 <= -sum(got) < 3


@given(st.integers(-(1 << 40), 1 << 40), st.integers(1, 1 << 19), RATE)
def test_payment_is_that_of_fractions(lots: int, mark: int, rate: int) -> None:
    assert amount_of(lots, mark, 1, rate) == payment_twin(lots, mark, 1, rate)


# ---------------------------------------------------------------- rounds


def hold(v: Venue, *sizes: tuple[int, int]) -> None:
    """Positions by trades at 1000 among the accounts; sizes add up to zero."""
    for account, lots in sizes:
        v.place(account, Side.BUY if lots > 0 else Side.SELL, 1000, abs(lots))
    v.drain()
    assert all(v.position(account)["lots"] == lots for account, lots in sizes)


def tick(v: Venue, seconds: int = 0) -> list[dict[str, Any]]:
    """A TICK some time on; the reports of funding it made, and check everything."""
    v.wait(seconds * SECOND)
    said = v.do(Kind.TICK, ring=CLOCK)
    check_laws(v)
    return [x for x in said if x["kind"] in ("FUNDING", "FUNDING_ROUND", "MOVE")]


def ready() -> Venue:
    v = market(funding_interval_ns=HOUR, interest_ppb=123_456 * 8, funding_clamp_ppb=10**9)
    v.do(Kind.MARK, symbol=0, mark_ticks=1000)
    return v


def test_a_round_pays_everybody_once() -> None:
    v = ready()
    hold(v, (ANN, 7), (BOB, -3), (CAT, -4))
    first = int(v.arrays["contracts"][0]["funding_next_ns"])
    assert first % HOUR == 0 and v.now < first <= v.now + HOUR
    assert tick(v, (first - v.now) // SECOND - 1) == []
    begun, *paid, move, ended = tick(v, 1)
    assert (begun["status"], begun["funding_ns"], begun["rate_ppb"]) == (0, first, 123_456)
    assert begun["next_ns"] == first + HOUR
    # 1.23456 a lot: Ann pays 8.64, Bob receives 3.70, Cat 4.94
    assert [(x["account"], x["amount_quanta"]) for x in paid] == [(ANN, -9), (BOB, 3), (CAT, 4)]
    assert (move["account"], move["amount_quanta"]) == (DUST_ACCOUNT, 2)
    assert (ended["status"], ended["dust_quanta"]) == (1, 2)
    assert v.wallet(DUST_ACCOUNT)["wallet_quanta"] == 2
    assert tick(v) == [] and tick(v, 3599) == []
    assert len(tick(v, 1)) == 6
    check_reports(v)


def test_missed_times_are_paid_once() -> None:
    v = ready()
    hold(v, (ANN, 7), (BOB, -7))
    first = int(v.arrays["contracts"][0]["funding_next_ns"])
    begun, *paid, _, _ = tick(v, (first - v.now) // SECOND + 10 * 3600 + 17)
    assert begun["funding_ns"] == first + 10 * HOUR and begun["next_ns"] == first + 11 * HOUR
    assert [x["amount_quanta"] for x in paid] == [-9, 8]
    assert tick(v, 3600 - 18) == []
    assert len(tick(v, 1)) == 5


def test_halted_it_waits() -> None:
    v = ready()
    hold(v, (ANN, 7), (BOB, -7))
    weigh(v)
    price(v, 1000)
    first = int(v.arrays["contracts"][0]["funding_next_ns"])
    assert tick(v, (first - v.now) // SECOND + 100) == []  # the source is stale
    price(v, 1001)
    begun, *_ = tick(v)
    assert (begun["funding_ns"], begun["mark_ticks"]) == (first, 1001)


def test_without_a_mark_or_an_interval_nothing_is_due() -> None:
    v = market(funding_interval_ns=HOUR)
    hold(v, (ANN, 7), (BOB, -7))
    assert tick(v, 7200) == []
    v = market(funding_interval_ns=0)
    v.do(Kind.MARK, symbol=0, mark_ticks=1000)
    assert tick(v, 7200) == []


def held_by(count: int) -> Venue:
    """A venue in which so many accounts have a position, when funding is due."""
    limits = LIMITS._replace(accounts=count + 32, positions=count + 8, clients=8)
    v = Venue(limits, commands=64, matches=64, reports=4096).open_market()
    v.send(Kind.CONTRACT, **{**CONTRACT, "funding_interval_ns": HOUR})
    v.mark(1000)
    accounts = range(SYSTEM_ACCOUNTS, SYSTEM_ACCOUNTS + count)
    for account in accounts:
        v.account(account, 10**9)
    for one, other in zip(accounts[::2], accounts[1::2], strict=True):
        v.place(one, Side.BUY, 1000, 100)
        v.place(other, Side.SELL, 1000, 100)
    v.drain()
    v.wait(HOUR)
    return v


def test_who_trades_before_his_slice_is_paid_first() -> None:
    """More rows than a slice: a position behind them trades while the round is under way."""
    count = SLICE_APART + 30
    v = held_by(count)
    accounts = range(SYSTEM_ACCOUNTS, SYSTEM_ACCOUNTS + count)
    last, before = accounts[-1], accounts[-2]
    v.send(Kind.TICK, ring=CLOCK)
    v.feed()
    for _ in range(2):  # the TICK, and its first slice
        v.sequence()
        v.risk()
    assert v.arrays["contracts"][0]["funding_open"] == 1
    v.place(before, Side.SELL, 1000, 100)
    v.place(last, Side.BUY, 1000, 100)
    v.place(ANN, Side.BUY, 1000, 50)  # paid already
    v.place(BOB, Side.SELL, 1000, 50)
    reports = v.drain()
    paid = [x for x in reports if x["kind"] == "FUNDING"]
    assert sorted(x["account"] for x in paid) == list(accounts)  # once each
    assert all(abs(x["position_lots"]) == 100 for x in paid)
    kinds = [(x["kind"], x["account"]) for x in reports if x["account"] in (last, before)]
    assert kinds.index(("FUNDING", last)) < kinds.index(("POSITION", last))
    assert v.position(last)["lots"] == 0 and v.position(ANN)["lots"] == 150
    check_laws(v)
    check_reports(v)


@pytest.mark.parametrize("says, pays", [(None, SLICE_APART), (5, 5), (0, 128)])
def test_a_slice_is_as_long_as_its_command_says(says: int | None, pays: int) -> None:
    """0 stands in logs of before FUNDING said so: it was 128 rows then."""
    v = held_by(300)
    v.send(Kind.TICK, ring=CLOCK)
    v.feed()
    v.sequence()
    v.risk()
    v.sequence()
    seq = v.where()["sequenced"]
    slot = v.arrays["commands"].view(SETTLE_COMMAND.dtype)[seq & 63]
    assert slot["kind"] == Kind.FUNDING
    if says is not None:
        slot["settle_lots"] = says
    reports = v.drain()
    paid = [x["seq"] for x in reports if x["kind"] == "FUNDING"]
    assert len(paid) == 300
    assert paid.count(seq) == pays
    assert paid.count(seq + 1) == min(SLICE_APART, 300 - pays)
    check_laws(v)
    check_reports(v)


def test_a_position_of_a_round_under_way_owes_nothing_to_it() -> None:
    v = ready()
    hold(v, (ANN, 7), (BOB, -7))
    v.wait(2 * HOUR)
    v.send(Kind.TICK, ring=CLOCK)
    v.feed()
    v.sequence()
    v.risk()
    v.place(CAT, Side.BUY, 1000, 5)
    v.place(DAN, Side.SELL, 1000, 5)
    paid = [x["account"] for x in v.drain() if x["kind"] == "FUNDING"]
    assert paid == [ANN, BOB]
    check_laws(v)
    v.wait(HOUR)
    paid = [x["account"] for x in v.do(Kind.TICK, ring=CLOCK) if x["kind"] == "FUNDING"]
    assert paid == [ANN, BOB, CAT, DAN]


def test_a_changed_interval_counts_from_its_next_time() -> None:
    v = ready()
    hold(v, (ANN, 7), (BOB, -7))
    v.do(
        Kind.CONTRACT,
        **{**CONTRACT, "funding_interval_ns": 4 * HOUR, "funding_first_ns": v.now - 5 * HOUR},
    )
    assert v.arrays["contracts"][0]["funding_next_ns"] == v.now + 3 * HOUR
    assert tick(v, 3 * 3600 - 1) == []
    assert len(tick(v, 1)) == 5


def test_samples_make_the_rate() -> None:
    """A book above the index: premium 1 %, half a day of samples, then nothing again."""
    v = market(funding_interval_ns=8 * HOUR, funding_cap_ppb=10**8, impact_quanta=10_000)
    v.do(Kind.MARK, symbol=0, mark_ticks=1000)
    hold(v, (ANN, 7), (BOB, -7))
    v.place(ANN, Side.BUY, 1010, 50)
    v.place(BOB, Side.SELL, 1020, 50)
    v.drain()
    for _ in range(10):
        said(v, Kind.SAMPLE)
        said(v, Kind.SAMPLE)  # of the same second: not counted again
        v.wait(SECOND)
    assert v.arrays["contracts"][0]["premium_count"] == 10
    begun, *_ = tick(v, 8 * 3600)
    assert begun["rate_ppb"] == 10_000_000 - 500_000
    assert v.arrays["contracts"][0]["premium_count"] == 0
    assert funding.rate_now(v.engine.risk, 0) == 100_000


def test_recorded_rates_keep_the_rules(recorded: Any) -> None:
    """Eighteen months of three venues: every published rate is one our rule can give, and where
    the premium was inside the clamp it is the interest itself."""
    import csv
    import gzip

    (path,) = (recorded / "funding").glob("*.csv.gz")
    with gzip.open(path, "rt", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["funding rate"]]
    binance = [row for row in rows if row["exchange"] == "binance"]
    assert len(binance) > 3000
    interest, clamp = 100_000, 500_000
    cap = 3_000_000
    flat = 0
    for row in binance:
        rate = round(Fraction(row["funding rate"]) * PPB)
        assert -cap <= rate <= cap
        # The premium that gives this rate: beyond the clamp it is the rate -+ the clamp.
        premium = rate + clamp if rate > interest else rate - clamp if rate < interest else 0
        assert rate_of(premium, interest, clamp, 8 * HOUR, -cap, cap) == rate
        flat += rate == interest
    assert flat > len(binance) // 4  # the dead zone of the rule is where markets mostly are
    # And they are paid every eight hours, on the hour.
    one = [r["time_utc"] for r in binance if r["pair"] == binance[0]["pair"]]
    hours = np.array([np.datetime64(t.replace(" ", "T")) for t in one])
    assert set(np.diff(hours).astype("timedelta64[h]").astype(int).tolist()) == {8}
    seconds = hours.astype("datetime64[s]").astype(np.int64)
    for at in seconds[:100].tolist():
        assert funding.next_time(0, 8 * HOUR, at * SECOND - 1) == at * SECOND
