"""A perpetual exchange as hypothesis plays it: whatever is done next, the laws hold after it.

Several accounts, one-way and hedged, cross and isolated, trade two perpetuals whose prices, funding
and time move; the machine chooses every step and shrinks a run that breaks a law to its shortest.

after every step   tools/laws.py; legs of a hedged position never change side, whatever happens to
                   the price what one wins another loses, and nobody is left half liquidated
at steps           an accepted order leaves nothing overdrawn; a cancel gives back all that was
                   held; a reduce-only order never makes a position larger; who is liquidated and
                   closed owes nothing; a funding round pays what it takes, but for the dust
in the end         every command was answered once, and the log alone gives the same bytes
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from engine.liquidation_scan import sweep
from engine.recovery import kept_tables, state_digest
from shm.codes import (
    AlgoType,
    Flag,
    Kind,
    LiquidationStep,
    MarginType,
    PositionMode,
    PositionSide,
    Side,
    Status,
    Tif,
    Type,
)
from shm.margin import available
from shm.units import INSURANCE_ACCOUNT
from tests.laws.test_engine_laws import CHECKED, PLAIN, replayed
from tests.model.random_flow import bracket_rows
from tests.venue import ANN, CLOCK, LIMITS, SECOND, Venue, check_laws, check_reports, exact
from tools.inprocess import wal_rows

SYMBOLS = 2
PEOPLE = range(ANN, ANN + 5)
HEDGED = ANN + 3
MAKER = ANN + 5  # quotes both sides, and can afford to
QUOTES = (1, 2, 4, 8, 40)  # ticks from the price
PRICE = 1000
UNITS = (10, 7)
BRACKETS = ((500_000, 10_000, 50), (2_000_000, 30_000, 20), (1 << 50, 80_000, 10))
SMALL = LIMITS._replace(symbols=SYMBOLS)
EXAMPLES = 6 if PLAIN else 25

people = st.sampled_from(PEOPLE)
symbols = st.integers(0, SYMBOLS - 1)
sides = st.sampled_from(Side)
legs = st.sampled_from((PositionSide.LONG, PositionSide.SHORT))
near = st.one_of(st.integers(-8, 8), st.integers(-8, 8), st.integers(-150, 150))
sizes = st.one_of(st.integers(1, 20), st.integers(1, 60), st.integers(1, 400))
seldom = st.sampled_from((False,) * 5 + (True,))
tifs = st.sampled_from((Tif.GTC, Tif.GTC, Tif.IOC, Tif.FOK, Tif.GTX))
picks = st.integers(0, 30)


NEITHER = (False, False)  # reduce-only, MARKET


class Exchange(RuleBasedStateMachine):
    @initialize(
        money=st.sampled_from((30_000, 100_000, 400_000)),
        fund=st.sampled_from((0, 2_000, 1_000_000)),
        shards=st.integers(1, 2),
        seed=st.integers(0, 1 << 30),
    )
    def open(self, money: int, fund: int, shards: int, seed: int) -> None:
        self.v = v = Venue(SMALL, shards=shards, seed=seed, checkpoint_every=37)
        self.price = [PRICE] * SYMBOLS
        v.asset()
        for symbol in range(SYMBOLS):
            v.symbol(
                symbol,
                name=f"S{symbol}USDT",
                tick_lot_quanta=UNITS[symbol],
                leverage_max=50,
                maker_fee_ppm=(200, -100)[symbol],
                taker_fee_ppm=500,
            )
            v.send(
                Kind.CONTRACT,
                symbol=symbol,
                funding_interval_ns=(60, 11)[symbol] * SECOND,
                impact_quanta=20_000,
                interest_ppb=100_000,
                funding_clamp_ppb=500_000,
                funding_cap_ppb=20_000_000,
                funding_floor_ppb=-20_000_000,
                mark_band_ppm=50_000,
                source_clamp_ppm=20_000,
                source_stale_ns=3600 * SECOND,
                liquidation_fee_ppm=3_000,
            )
            for fields in bracket_rows(symbol, BRACKETS):
                v.send(Kind.BRACKET, **fields)
        v.send(Kind.SOURCE, symbol=1, source=0, weight=1)
        for account in PEOPLE:
            v.account(account, money)
        v.account(MAKER, 10**12)
        v.account(INSURANCE_ACCOUNT, fund)
        v.send(Kind.POSITION_MODE, account=HEDGED, value=PositionMode.HEDGE)
        v.work()
        for symbol in range(SYMBOLS):
            self.move(symbol, 0)
            self.quote(symbol, 50)

    # ------------------------------------------------------------ what people do

    def leg(self, account: int, leg: int) -> int:
        hedged = self.v.arrays["accounts"]["position_mode"][account] == PositionMode.HEDGE
        return int(leg) if hedged else int(PositionSide.BOTH)

    def free(self, account: int) -> int:
        r, row = self.v.engine.risk, account * self.v.limits.assets
        return int(available(r.accounts, r.wallets, r.symbols, r.positions, account, row))

    @rule(
        who=people,
        where=symbols,
        side=sides,
        off=near,
        lots=sizes,
        tif=tifs,
        leg=legs,
        only=seldom,
        market=seldom,
    )
    def place(
        self,
        who: int,
        where: int,
        side: Side,
        off: int,
        lots: int,
        tif: Tif,
        leg: PositionSide,
        only: bool,
        market: bool,
    ) -> None:
        leg = PositionSide(self.leg(who, leg))
        only = only and leg == PositionSide.BOTH
        before = self.v.position(who, where, leg)["lots"]
        fields: dict[str, Any] = {"symbol": where, "position_side": leg, "tif": tif}
        if market:
            fields |= {"type": Type.MARKET, "tif": Tif.IOC}
        told = self.do(
            Kind.PLACE,
            account=who,
            side=side,
            price_ticks=0 if market else max(1, self.price[where] + off),
            qty_lots=lots,
            flags=Flag.REDUCE_ONLY if only else Flag.NONE,
            **fields,
        )
        after = self.v.position(who, where, leg)["lots"]
        if told[0]["status"] == Status.NEW.name and not any(x["kind"] == "EXEC" for x in told):
            # A trade moves no mark, but it may cost: only what merely rests must leave what it took.
            assert self.free(who) >= 0, "accepted with money that isn't there"
        if only and told[0]["account"] == who:
            assert abs(after) <= abs(before) and after * before >= 0, "reduce-only made it larger"

    @rule(
        who=people,
        where=symbols,
        side=sides,
        off=near,
        lots=sizes,
        leg=legs,
        type_=st.sampled_from(
            (AlgoType.STOP_MARKET, AlgoType.TAKE_PROFIT_MARKET, AlgoType.TRAILING_STOP_MARKET)
        ),
        close=seldom,
        by_mark=st.integers(0, 1),
    )
    def condition(
        self,
        who: int,
        where: int,
        side: Side,
        off: int,
        lots: int,
        leg: PositionSide,
        type_: AlgoType,
        close: bool,
        by_mark: int,
    ) -> None:
        terms = by_mark << 32
        fields: dict[str, Any] = {"qty_lots": lots}
        if type_ == AlgoType.TRAILING_STOP_MARKET:
            terms |= 10_000
        else:
            fields["trigger_ticks"] = self.price[where] + off
            if close:
                fields |= {"qty_lots": 0, "flags": Flag.CLOSE_POSITION}
        self.do(
            Kind.PLACE_ALGO,
            account=who,
            symbol=where,
            side=side,
            type=type_,
            position_side=self.leg(who, leg),
            terms=terms,
            **fields,
        )

    @rule(
        who=people,
        where=symbols,
        side=sides,
        lots=sizes,
        leg=legs,
    )
    def take(self, who: int, where: int, side: Side, lots: int, leg: PositionSide) -> None:
        """At whatever the maker asks."""
        self.place(who, where, side, 50 if side == Side.BUY else -50, lots, Tif.IOC, leg, *NEITHER)

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        live = list(self.v.live_claims())
        if live:
            c = live[pick % len(live)]
            held = self.v.wallet(c["account"])["held_quanta"]
            mine = {k: c[k] for k in ("account", "symbol", "order_id")}
            self.do(Kind.CANCEL, **mine)
            assert self.v.claim(c["order_id"]) is None
            alone = not any(x["account"] == c["account"] for x in self.v.live_claims())
            if alone:
                assert self.v.wallet(c["account"])["held_quanta"] == 0, "held for nothing"
            assert self.v.wallet(c["account"])["held_quanta"] <= held

    @rule(pick=picks, off=near, lots=sizes)
    def amend(self, pick: int, off: int, lots: int) -> None:
        live = list(self.v.live_claims())
        if live:
            c = live[pick % len(live)]
            mine = {k: c[k] for k in ("account", "symbol", "order_id")}
            price = max(1, self.price[c["symbol"]] + off)
            self.do(Kind.AMEND, **mine, price_ticks=price, qty_lots=lots)

    @rule(
        who=people,
        where=symbols,
        leg=legs,
        what=st.sampled_from(
            (Kind.LEVERAGE, Kind.MARGIN_TYPE, Kind.POSITION_MODE, Kind.POSITION_MARGIN)
        ),
        value=st.integers(-2_000, 2_000),
    )
    def settle_terms(self, who: int, where: int, leg: PositionSide, what: Kind, value: int) -> None:
        match what:
            case Kind.LEVERAGE:
                self.do(what, account=who, symbol=where, leverage=1 + abs(value) % 50)
            case Kind.MARGIN_TYPE:
                kind = (MarginType.CROSS, MarginType.ISOLATED)[value % 2]
                self.do(what, account=who, symbol=where, value=kind)
            case Kind.POSITION_MODE:
                self.do(what, account=who, value=value % 2)
            case _:
                side = self.leg(who, leg)
                self.do(what, account=who, symbol=where, position_side=side, value=value)

    @rule(who=people, quanta=st.integers(1, 200_000), out=st.booleans())
    def pay(self, who: int, quanta: int, out: bool) -> None:
        kind = Kind.WITHDRAW if out else Kind.DEPOSIT
        self.do(kind, account=who, asset=0, amount_quanta=quanta)

    # ------------------------------------------------------------ what the market does

    @rule(where=symbols, by=st.one_of(st.integers(-10, 10), st.integers(-250, 250)))
    def move(self, where: int, by: int) -> None:
        v = self.v
        self.price[where] = ticks = max(100, self.price[where] + by)
        if where:
            fields = {"source": 0, "source_ticks": ticks, "source_ns": v.now}
            self.do(Kind.SOURCE_PRICE, ring=CLOCK, symbol=where, **fields)
        else:
            self.do(Kind.MARK, symbol=where, mark_ticks=ticks)

    @rule(where=symbols, fall=st.integers(80, 300), rise=st.booleans())
    def crash(self, where: int, fall: int, rise: bool) -> None:
        """The price is somewhere else, the quotes too, and the clock has seen it."""
        for _ in range(3):
            self.move(where, (fall if rise else -fall) // 3)
        self.quote(where, 20)
        self.look()

    @rule(where=symbols, lots=st.integers(1, 200))
    def quote(self, where: int, lots: int) -> None:
        """New quotes of the maker's, around what the price is now."""
        v = self.v
        v.send(Kind.CANCEL_ALL, account=MAKER, symbol=where)
        for off in QUOTES:
            v.place(MAKER, Side.BUY, self.price[where] - off, lots, symbol=where)
            v.place(MAKER, Side.SELL, self.price[where] + off, lots, symbol=where)
        v.drain()

    @rule(seconds=st.sampled_from((1, 5, 12, 61)))
    def wait(self, seconds: int) -> None:
        wallets = self.v.arrays["wallets"]
        before = exact(wallets["funding_quanta"]).sum()
        self.v.wait(seconds * SECOND)
        for symbol in range(SYMBOLS):
            self.do(Kind.SAMPLE, ring=CLOCK, symbol=symbol)
        told = self.do(Kind.TICK, ring=CLOCK)
        rounds = sum(x["kind"] == "FUNDING_ROUND" and x["status"] == 1 for x in told)
        # The dust account is one of the wallets: rounded against who pays, nothing is left over.
        assert exact(wallets["funding_quanta"]).sum() == before, f"{rounds} rounds made money"

    @rule()
    def look(self) -> None:
        """As the clock process does: whoever is unsafe is named to the engine."""
        v = self.v
        for rows in sweep(v.arrays, 0, v.limits.accounts)[1]:
            for row in rows:
                v.send_rows(row.reshape(1), ring=CLOCK)
        for x in v.drain():
            if x["kind"] == "LIQUIDATION" and x["status"] == LiquidationStep.CLOSED.name:
                assert x["equity_quanta"] >= 0 and x["maintenance_quanta"] == 0
                assert v.wallet(x["account"])["wallet_quanta"] >= 0

    def do(self, kind: int, **fields: Any) -> list[dict[str, Any]]:
        """Reports of all that one command led to."""
        self.v.drain()
        return self.v.do(kind, **fields)

    # ------------------------------------------------------------ what holds

    @invariant()
    def laws(self) -> None:
        check_laws(self.v)

    @invariant()
    def legs_keep_their_side(self) -> None:
        p = self.v.arrays["positions"]
        assert (p["lots"][p["position_side"] == PositionSide.LONG] >= 0).all()
        assert (p["lots"][p["position_side"] == PositionSide.SHORT] <= 0).all()

    @invariant()
    def what_one_wins_another_loses(self) -> None:
        p = self.v.arrays["positions"]
        lots, entry = exact(p["lots"]), exact(p["entry_quanta"])
        for ticks in (1, PRICE, 99_991):
            for symbol in range(SYMBOLS):
                own = p["symbol"] == symbol
                worth = (lots[own] * ticks * UNITS[symbol] - entry[own]).sum()
                assert worth == -entry[own].sum(), "a price that makes money of nothing"

    def teardown(self) -> None:
        if not hasattr(self, "v"):
            return
        v = self.v
        check_reports(v)
        arrays, reports = replayed(wal_rows(v.log), v.limits, 2, 3, commands=256, reports=256)
        assert reports.tobytes() == v.all_reports().tobytes()
        for name, kept in kept_tables(v.arrays, v.limits).items():
            assert kept_tables(arrays, v.limits)[name].tobytes() == kept.tobytes(), name
        assert state_digest(arrays, v.limits) == state_digest(v.arrays, v.limits)


TestExchange = Exchange.TestCase
# More steps, and under --long more runs: the profile's number stands where it is larger.
TestExchange.settings = settings(
    max_examples=max(EXAMPLES, settings().max_examples if settings().max_examples > 100 else 0),
    stateful_step_count=20 if PLAIN or CHECKED else 40,
    deadline=None,
)
