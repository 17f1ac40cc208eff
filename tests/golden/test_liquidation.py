"""Liquidation as tables a trader can check: every *.txt in `liquidation` beside this file.

As tests/golden/test_tables.py, and besides

Given    brackets CAP:PPM:LEVERAGE ... of BTC, fund N (what the insurance fund has), clearance PPM
Left     liquidate Ann; liquidate Ann BTC LONG (an isolated leg); liquidate fund: look at it, as the
         clock does when its scan finds something
Middle   what a liquidation does, in order: started, order 5@90, takeover 5@90, adl 5@90, recovered,
         closed; trades outside the book as `fund gets 5@90 of Ann`; clearance, leftover, bad_debt:
         money between account and fund; margin call
Right    fund +5 (its position), fund wallet
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shm.codes import Cause, Kind, LiquidationStep, PositionSide, Side
from shm.units import INSURANCE_ACCOUNT
from tests.golden import test_tables
from tests.golden.test_tables import NAMES, PEOPLE, SYMBOLS, Table
from tests.venue import ANN, BOB, CAT, Venue, check_laws, check_reports

WHO = {**NAMES, INSURANCE_ACCOUNT: "fund"}


@pytest.mark.parametrize(
    "lines", list(test_tables.scenarios(Path(__file__).parent / "liquidation"))
)
def test_liquidation(lines: list[str]) -> None:
    play(lines)


def play(lines: list[str]) -> Venue:
    given = [line[len("given ") :] for line in lines if line.startswith("given ")]
    table = LiquidationTable(given)
    for group in grouped(line for line in lines if not line.startswith("given ")):
        table.play(group)
    check_reports(table.venue)
    return table.venue


def grouped(rows: Iterator[str]) -> Iterator[list[str]]:
    """Lines with those that are decided together with them."""
    group: list[str] = []
    for row in rows:
        if group and not row.startswith("&"):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


# Long 1 BTC @60000 with a wallet of 3000, taker fee 0.05 %, clearance 1.25 %: the reference's
# example. A price below the bankruptcy price is none the order could trade at: there the fund takes
# the position over at 57000, and closes it at that price for itself.
VECTOR = """
  fill     | taker fee | to fund | user | fund
  57236.18 |     28.62 |  207.56 |    0 |  207.56
  57100.00 |     28.55 |   71.45 |    0 |   71.45
  56900.00 |     28.45 |       0 |    0 | -128.45
"""
USDT = 10**6


@pytest.mark.parametrize("line", VECTOR.strip().splitlines()[1:])
def test_the_references_example(line: str) -> None:
    fill, taker, clearance, user, fund = (float(cell) for cell in line.split("|"))
    v = Venue()
    v.asset()
    # ticks of 0.01, lots of 0.001 BTC
    contract = {
        "tick_lot_quanta": 10,
        "price_ticks_max": 20_000_000,
        "qty_lots_max": 10**9,
        "leverage_default": 20,
    }
    v.symbol(**contract)
    v.account(ANN, 3_000 * USDT)
    for account in (BOB, CAT):
        v.account(account, 10**6 * USDT)
    v.send(Kind.DEPOSIT, account=INSURANCE_ACCOUNT, asset=0, amount_quanta=100_000 * USDT)
    for index, (floor, cap, ppm) in enumerate(((0, 50_000, 4_000), (50_000, 600_000, 5_000))):
        v.send(
            Kind.BRACKET,
            symbol=0,
            index=index,
            floor_quanta=floor * USDT,
            cap_quanta=cap * USDT,
            maintenance_ppm=ppm,
            bracket_leverage_max=100,
        )
    v.mark(60_000_00)
    v.drain()
    v.place(BOB, Side.SELL, 60_000_00, 1000)
    v.place(ANN, Side.BUY, 60_000_00, 1000)
    v.drain()
    v.symbol(**contract, taker_fee_ppm=500)
    v.send(Kind.CONTRACT, symbol=0, liquidation_fee_ppm=12_500)
    v.drain()
    v.mark(57_236_18)
    v.place(CAT, Side.BUY, round(fill * 100), 1000)
    v.send(Kind.LIQUIDATE, account=ANN, settle_row=ANN * v.limits.assets)
    reports = v.drain()
    if fund < 0:
        v.mark(round(fill * 100))
        v.send(
            Kind.LIQUIDATE,
            account=INSURANCE_ACCOUNT,
            settle_row=INSURANCE_ACCOUNT * v.limits.assets,
        )
        reports += v.drain()
    fees = sum(r["fee_quanta"] for r in reports if r["kind"] == "EXEC")
    moved = [r for r in reports if r["kind"] == "MOVE"]
    assert round(fees / USDT, 2) == taker
    assert round(sum(-r["amount_quanta"] for r in moved) / USDT, 2) == clearance
    assert round(v.wallet(ANN)["wallet_quanta"] / USDT, 2) == user
    assert round(v.wallet(INSURANCE_ACCOUNT)["wallet_quanta"] / USDT - 100_000, 2) == fund
    assert v.position(ANN)["lots"] == v.position(INSURANCE_ACCOUNT)["lots"] == 0
    check_laws(v)
    check_reports(v)


class LiquidationTable(Table):
    def __init__(self, given: list[str]) -> None:
        plain = [line for line in given if line.split()[0] not in ("brackets", "fund", "clearance")]
        super().__init__(plain)
        v = self.venue
        self.outside: dict[str, Any] = {}
        for line in given:
            what, *words = line.split()
            if what == "brackets":
                floor = 0
                for k, word in enumerate(words):
                    cap, ppm, leverage = map(int, word.split(":"))
                    v.send(
                        Kind.BRACKET,
                        symbol=0,
                        index=k,
                        floor_quanta=floor,
                        cap_quanta=cap,
                        maintenance_ppm=ppm,
                        bracket_leverage_max=leverage,
                    )
                    floor = cap
            elif what == "fund":
                v.send(
                    Kind.DEPOSIT, account=INSURANCE_ACCOUNT, asset=0, amount_quanta=int(words[0])
                )
            elif what == "clearance":
                for symbol in SYMBOLS.values():
                    v.send(Kind.CONTRACT, symbol=symbol, liquidation_fee_ppm=int(words[0]))
        assert all(r.get("reason", "NONE") == "NONE" for r in v.drain())

    def command(self, words: list[str]) -> tuple[Kind, dict[str, Any]]:
        if words[0] == "liquidate":
            account = INSURANCE_ACCOUNT if words[1] == "fund" else PEOPLE[words[1]]
            fields: dict[str, Any] = {"account": account}
            if len(words) > 2:
                fields["symbol"] = SYMBOLS[words[2]]
                fields["position_side"] = PositionSide[words[3]] if len(words) > 3 else 0
            else:
                fields["settle_row"] = account * self.venue.limits.assets
            return Kind.LIQUIDATE, fields
        return super().command(words)

    def name(self, order_id: int) -> str:
        found = super().name(order_id)
        return "liq" if found == str(order_id) else found

    def told(self, r: dict[str, Any], asked: bool) -> str:
        kind = r["kind"]
        if kind == "LIQUIDATION":
            step = LiquidationStep(r["status"])
            if step in (LiquidationStep.STARTED, LiquidationStep.RECOVERED, LiquidationStep.CLOSED):
                return step.name.lower()
            return f"{step.name.lower()} {abs(r['lots'])}@{r['price_ticks']}"
        if kind == "WARNING":
            return f"margin call {r['maintenance_quanta']}/{r['equity_quanta']}"
        if kind == "EXEC" and r["trade_id"] < 0:
            cause = Cause(r["status"] >> 2 & 7)
            assert cause in (Cause.TAKEOVER, Cause.ADL) and r["fee_quanta"] == 0
            if not self.outside:
                self.outside = r
                return ""
            first, self.outside = self.outside, {}
            for field in ("trade_id", "lots", "price_ticks", "symbol"):
                assert first[field] == r[field], "the two sides of a trade differ"
            assert (first["status"] ^ r["status"]) & 2, "the two sides are one"
            return f"{WHO[r['account']]} gets {r['lots']}@{r['price_ticks']} of {WHO[first['account']]}"
        if kind == "ANSWER" and not asked and r["reason"] != "NONE":
            return f"engine: {r['reason']}"
        return super().told(r, asked)

    def look(self, fact: str, left: str) -> None:
        subject, *words = fact.replace(",", " ").split()
        if subject != "fund":
            super().look(fact, left)
            return
        if words[0][0] in "+-":
            words = ["lots", *words]
        seen = self.person(INSURANCE_ACCOUNT, words)
        wanted = dict(zip(words[::2], map(int, words[1::2]), strict=True))
        assert {word: seen[word] for word in wanted} == wanted, f"{left}: {fact}"
