"""Liquidations thrown into any flow: money, positions and claims keep their laws, whoever closes.

laws      tools/laws.py after every burst; nothing is left half liquidated
reports   both sides of a trade outside the book are the same trade; who is closed owes nothing
replay    the log alone gives the same reports and tables
crash     an engine that dies anywhere in the chain goes on with it, once
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from engine.recovery import kept_tables, state_digest
from shm.codes import Cause, Kind, LiquidationStep, Move, ReportKind
from shm.kinds import REPORT_RECORDS
from shm.records import TAKEOVER_COMMAND
from shm.units import INSURANCE_ACCOUNT
from tests.laws.test_engine_laws import CHECKED, PLAIN, SHAPES, replayed
from tests.model.random_flow import ACCOUNTS, SYMBOLS, Flow, open_venue
from tests.venue import LIMITS, Venue, check_laws, check_reports
from tools.inprocess import wal_rows

COMMANDS = 250 if PLAIN else 1500 if CHECKED else 4000
SEEDS = range(1, 5 if PLAIN else 9)
BRACKETS = ((8_000, 10_000), (30_000, 30_000), (1 << 50, 120_000))  # cap, ppm


class Market(Flow):
    """The flow of all engine tests, in a market that falls and rises, with somebody who looks."""

    def command(self, v: Venue) -> tuple[Kind, dict[str, Any]]:
        chance = self.random.random()
        if chance < 0.25:
            return self.liquidate(v)
        if chance < 0.30:
            symbol = self.random.randrange(self.symbols)
            return Kind.MARK, {"symbol": symbol, "mark_ticks": self.random.randint(600, 1500)}
        if chance < 0.32:
            # It never has much: takeovers and deleveraging both come up.
            amount = self.random.choice((1_000, 30_000, 300_000))
            asset = self.random.choice((0, 1))
            fields = {"account": INSURANCE_ACCOUNT, "asset": asset, "amount_quanta": amount}
            return Kind.DEPOSIT, fields
        return super().command(v)

    def liquidate(self, v: Venue) -> tuple[Kind, dict[str, Any]]:
        positions = v.arrays["positions"][: v.venue["positions_used"]]
        open_ = positions[(positions["lots"] != 0) | (positions["isolated_quanta"] < 0)]
        if len(open_) and self.random.random() < 0.8:
            p = self.random.choice(open_)
            if p["isolated"]:
                names = ("account", "symbol", "position_side")
                return Kind.LIQUIDATE, {name: int(p[name]) for name in names}
            fields = {"account": int(p["account"]), "settle_row": int(p["wallet"])}
            return Kind.LIQUIDATE, fields
        account = self.random.choice((*ACCOUNTS, INSURANCE_ACCOUNT))
        if account != INSURANCE_ACCOUNT and self.random.random() < 0.4:
            where = {"symbol": self.random.randrange(self.symbols)}
            return Kind.LIQUIDATE, {
                "account": account,
                "position_side": self.random.randrange(3),
                **where,
            }
        row = account * v.limits.assets + self.random.choice((0, 0, 0, 1))
        return Kind.LIQUIDATE, {"account": account, "settle_row": row}


def open_market(v: Venue) -> Venue:
    open_venue(v)
    for symbol in range(len(SYMBOLS)):
        floor = 0
        leverage = int(v.arrays["symbols"]["leverage_max"][symbol])
        for index, (cap, ppm) in enumerate(BRACKETS):
            v.send(
                Kind.BRACKET,
                symbol=symbol,
                index=index,
                floor_quanta=floor,
                cap_quanta=cap,
                maintenance_ppm=ppm,
                bracket_leverage_max=leverage,
            )
            floor = cap
    # Little money for what they do.
    for account in ACCOUNTS:
        row = account * v.limits.assets
        left = int(v.arrays["wallets"]["wallet_quanta"][row]) * 4 // 5
        v.send(Kind.WITHDRAW, account=account, asset=0, amount_quanta=left)
    for symbol in range(len(SYMBOLS)):
        v.send(Kind.CONTRACT, symbol=symbol, liquidation_fee_ppm=3000)
    v.work()
    return v


def market(seed: int, **more: Any) -> tuple[Venue, Market]:
    shards, commands, matches, reports, slots = SHAPES[seed % len(SHAPES)]
    sizes: dict[str, Any] = {
        "shards": shards,
        "commands": commands,
        "matches": matches,
        "reports": reports,
        "ingress_slots": slots,
    }
    v = Venue(LIMITS, seed=seed, **{**sizes, **more})
    open_market(v)
    return v, Market(seed)


def burst(v: Venue, flow: Market) -> None:
    for kind, fields in flow.commands(v, v.random.choice((1, 5, 20, 60))):
        v.send(kind, **fields)
    v.work()


def told(v: Venue, kind: ReportKind) -> Any:
    rows = v.all_reports()
    return np.ascontiguousarray(rows[rows["kind"] == kind]).view(REPORT_RECORDS[kind].dtype)


@pytest.mark.parametrize("seed", SEEDS)
def test_laws_hold_after_every_burst(seed: int) -> None:
    v, flow = market(seed)
    while len(v.log) < COMMANDS:
        burst(v, flow)
        check_laws(v)
    check_reports(v)
    check_outside(v)
    check_steps(v)


def check_outside(v: Venue) -> None:
    """Trades outside the book have two sides that differ in nothing but the side, and no fee."""
    execs = told(v, ReportKind.EXEC)
    outside = execs[execs["trade_id"] < 0]
    assert (outside["fee_quanta"] == 0).all() and (outside["order_id"] == 0).all()
    first, second = outside[::2], outside[1::2]
    for name in ("seq", "symbol", "trade_id", "price_ticks", "lots"):
        assert (first[name] == second[name]).all(), name
    assert ((first["status"] ^ second["status"]) & 0x1E == 2).all(), "side and cause"
    assert (first["account"] != second["account"]).all()
    cause = second["status"] >> 2 & 7
    assert np.isin(cause, (Cause.TAKEOVER, Cause.ADL)).all()
    assert ((second["account"] == INSURANCE_ACCOUNT) == (cause == Cause.TAKEOVER)).all()
    counts = np.bincount(outside["symbol"], minlength=len(v.arrays["symbols"])) // 2
    assert (counts == v.arrays["symbols"]["outside_count"]).all()
    check_places(told(v, ReportKind.ADL), second[cause == Cause.ADL])


def check_places(places: Any, execs: Any) -> None:
    """Each victim of ADL is told which place it had, by its own trade."""
    for name in ("seq", "account", "symbol", "trade_id", "price_ticks"):
        assert places[name].tolist() == execs[name].tolist(), name
    sells = (execs["status"] & 2) != 0
    assert places["lots"].tolist() == np.where(sells, execs["lots"], -execs["lots"]).tolist()
    assert (places["place"] >= 1).all() and (places["place"] <= places["ranked"]).all()
    assert (places["score_ppb"] >= 0).all() and (places["status"] <= 4).all()


def check_steps(v: Venue) -> None:
    """A liquidation begins unsafe and ends safe or closed, owing nothing."""
    steps = told(v, ReportKind.LIQUIDATION)
    ended = np.isin(steps["status"], (LiquidationStep.RECOVERED, LiquidationStep.CLOSED))
    closed = steps[steps["status"] == LiquidationStep.CLOSED]
    assert (closed["equity_quanta"] >= 0).all() and (closed["maintenance_quanta"] == 0).all()
    safe = steps[steps["status"] == LiquidationStep.RECOVERED]
    assert (safe["equity_quanta"] > safe["maintenance_quanta"]).all()
    started = steps[steps["status"] == LiquidationStep.STARTED]
    assert len(started) == ended.sum()
    moves = told(v, ReportKind.MOVE)
    to_fund = moves[np.isin(moves["status"], (Move.CLEARANCE, Move.LEFTOVER))]
    assert (to_fund["amount_quanta"] < 0).all() and (to_fund["wallet_quanta"] >= 0).all()


@pytest.mark.skipif(PLAIN, reason="needs more commands than plain Python has time for")
def test_every_step_is_taken_in_some_seed() -> None:
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        v, flow = market(seed)
        while len(v.log) < COMMANDS:
            burst(v, flow)
        seen.update(LiquidationStep(s).name for s in told(v, ReportKind.LIQUIDATION)["status"])
        seen.update(Move(s).name for s in told(v, ReportKind.MOVE)["status"])
        seen["WARNING"] += len(told(v, ReportKind.WARNING))
    wanted = {"STARTED", "ORDER", "TAKEOVER", "ADL", "RECOVERED", "CLOSED"}
    wanted |= {"CLEARANCE", "BAD_DEBT", "LEFTOVER", "WARNING"}
    assert wanted <= seen.keys(), seen


@pytest.mark.parametrize("seed", SEEDS)
def test_replay_gives_the_same_bytes(seed: int) -> None:
    v, flow = market(seed + 500, checkpoint_every=61)
    while len(v.log) < COMMANDS:
        burst(v, flow)
    rows = wal_rows(v.log)
    arrays, reports = replayed(
        rows, v.limits, 1 + seed % 3, 1 + seed % 5, commands=256, reports=256
    )
    live = v.all_reports()
    assert reports.tobytes() == live.tobytes()
    for name, kept in kept_tables(v.arrays, v.limits).items():
        assert kept_tables(arrays, v.limits)[name].tobytes() == kept.tobytes(), name
    assert state_digest(arrays, v.limits) == state_digest(v.arrays, v.limits)


def test_a_log_of_before_places_were_told() -> None:
    """Its TAKEOVERs don't ask for them: all else is the same, and stays the same."""
    for seed in range(600, 640):
        v, flow = market(seed)
        while len(v.log) < COMMANDS:
            burst(v, flow)
        if len(told(v, ReportKind.ADL)):
            break
    live = v.all_reports()
    assert (live["kind"] == ReportKind.ADL).any()
    rows = wal_rows(v.log)
    rows.view(TAKEOVER_COMMAND.dtype)["tells_rank"][rows["kind"] == Kind.TAKEOVER] = 0
    arrays, reports = replayed(rows, v.limits, 1, 1, commands=256, reports=256)
    assert reports.tobytes() == live[live["kind"] != ReportKind.ADL].tobytes()
    kept = kept_tables(v.arrays, v.limits)
    for name, of_before in kept_tables(arrays, v.limits).items():
        if name not in ("venue", "adl_ranks"):  # how many reports, and their digest
            assert of_before.tobytes() == kept[name].tobytes(), name
    assert not arrays["adl_ranks"].view(np.int64).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_crash_anywhere_ends_the_same_way(seed: int) -> None:
    """Cut the log after any command: recovered, the chain goes on to the same end."""
    v, flow = market(seed + 900, shards=1, commands=256, matches=256, reports=1024)
    while not len(told(v, ReportKind.LIQUIDATION)) or len(v.log) < COMMANDS // 3:
        burst(v, flow)
    chain = [
        k
        for k, c in enumerate(v.log)
        if c["kind"] in (Kind.LIQUIDATE, Kind.LIQUIDATION_ORDER, Kind.TAKEOVER)
    ]
    for cut in chain[:: max(len(chain) // 6, 1)]:
        again = Venue(LIMITS, commands=4096, reports=1 << 15, log=v.log[: cut + 1])
        again.work()
        check_laws(again)
