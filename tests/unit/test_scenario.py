"""Scenario files that are wrong say where, what was found and what is wanted; the command's exits."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from click.testing import CliRunner

from tools.cli import main
from tools.scenariofile import parse
from tools.scenariomodel import ScenarioError
from tools.scenariorun import run
from tools.scenariounits import (
    clock,
    decimal,
    duration_ns,
    instant_ns,
    rate,
    shown,
    want_name,
    want_number,
    whole,
)

HEAD = """
[symbols.BTC]
tick = 0.1
lot = 0.01
[accounts]
Ann = 100
"""
# what stands in the file -> what the error says
WRONG = """
[[steps]]                                         | accounts is missing: traders, by name
place = "a"
---
HEAD                                              | f.toml:8, step 1 (place): no such key: qtty; perhaps "qty"?
[[steps]]
place = "a"
account = "Ann"
side = "buy"
qtty = 1
---
HEAD                                              | f.toml:8, step 1: price = 100.05, must be a whole number of BTC ticks of 0.1
[[steps]]
place = "a"
account = "Ann"
side = "buy"
qty = 1
price = 100.05
---
HEAD                                              | f.toml:8, step 1: qty = 0.001, must be a whole number of BTC lots of 0.01
[[steps]]
place = "a"
account = "Ann"
side = "buy"
qty = 0.001
price = 100
---
HEAD                                              | f.toml:8, step 1: account = "An", must be one of FUND, FEES, DUST, ADJUST, Ann; perhaps "Ann"?
[[steps]]
place = "a"
account = "An"
side = "buy"
qty = 1
---
HEAD                                              | f.toml:8, step 1: side = "up", must be one of BUY, SELL
[[steps]]
place = "a"
account = "Ann"
side = "up"
qty = 1
---
HEAD                                              | f.toml:8, step 1: cancel = "z", must be one of none is declared
[[steps]]
cancel = "z"
---
HEAD                                              | f.toml:8, step 1: does two things at once: cancel_all and tick
[[steps]]
cancel_all = "Ann"
tick = true
---
HEAD                                              | f.toml:8, step 1: no such step or key: plase; perhaps "place"?
[[steps]]
plase = "a"
---
HEAD                                              | f.toml:8, step 1 expect: position.Ann has no cash
[[steps]]
expect.position.Ann.cash = 1
---
HEAD                                              | f.toml:8, step 1 expect: position.Ann.qty = "many", must be a number
[[steps]]
expect.position.Ann.qty = "many"
---
HEAD                                              | f.toml:8, step 1 expect: no such key: positionn; perhaps "position"?
[[steps]]
expect.positionn.Ann.qty = 1
---
HEAD                                              | f.toml:8, step 1 expect: reason = "POOR", must be one of NONE, DUPLICATE_REQUEST
[[steps]]
tick = true
expect.reason = "POOR"
---
HEAD                                              | f.toml, [expect]: no such key: balanc; perhaps "balance"?
[expect]
balanc.Ann = 100
---
HEAD                                              | f.toml:8, step 1: price = 1E+30, must be less than 2^63 BTC ticks of 0.1
[[steps]]
mark = 1e30
---
HEAD                                              | f.toml:8, step 1: wait = "soon", must be seconds, or a duration
[[steps]]
wait = "soon"
---
HEAD                                              | f.toml:8, step 1.1: wait can't stand inside another step
[[steps]]
together = [{ wait = 5 }]
---
[accounts.Ann                                     | f.toml: no TOML
"""


def cases() -> list[tuple[str, str]]:
    found = []
    for block in WRONG.strip("\n").split("\n---\n"):
        first, _, rest = block.partition("\n")
        left, _, said = first.partition("|")
        found.append(((left.strip().replace("HEAD", HEAD) + "\n" + rest), said.strip()))
    return found


@pytest.mark.parametrize(("text", "said"), cases())
def test_a_wrong_file_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(ScenarioError) as error:
        parse(text, "f.toml")
    assert said in str(error.value)


ALSO_TAKEN = """
[accounts]
Ann = { deposit = 1_000 }
Bob = { deposit = 1_000 }
[symbols.BTC]
tickSize = "0.1"
step_size = 1
markPrice = 100
[[steps]]
place = "a"
trader = "Ann"
side = "b"
quantity = 1
limitPrice = "100.0"
timeInForce = "gtc"
expect.order.a = { origQty = 1, remaining = 1, executedQty = 0 }
[[steps]]
placeAlgo = "s"
account = "Ann"
side = "sell"
type = "stop_limit"
size = 1
stopPrice = 90
price = 89
workingType = "mark_price"
reduceOnly = true
[[steps]]
cancelAll = "Ann"
expect.order.a = "cancelled"
expect.balances.Ann = { walletBalance = 1_000, availableBalance = 1_000 }
[[steps]]
account_state = "Ann"
to = "halted"
[[steps]]
place = "b"
account = "Bob"
side = "S"
size = 1
price = 100
[[steps]]
symbol_state = "BTC"
to = "cancel-only"
cancel = true
expect.ended = [{ order = "b", status = "CANCELED", reason = "SYMBOL_CLOSED" }]
expect.order.b.status = "EXPIRED"
"""


def test_other_words_for_keys_and_values() -> None:
    outcome = run(parse(ALSO_TAKEN, "f.toml"))
    assert not outcome.problems, outcome.problems
    wrong = ALSO_TAKEN.replace('status = "CANCELED"', 'status = "FILLED"')
    assert run(parse(wrong, "f.toml")).problems


def test_all_problems_are_listed_at_once() -> None:
    text = HEAD + "[[steps]]\nplace = 'a'\nside = 'up'\nprice = 0.05\n[[steps]]\nfly = true\n"
    with pytest.raises(ScenarioError) as error:
        parse(text, "f.toml")
    lines = str(error.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "f.toml:7, step 1 (place)",
        "f.toml:7, step 1 (place)",
        "f.toml:11, step 2",
    ]


@pytest.mark.parametrize(
    ("read", "value", "is_"),
    [
        (decimal, "1_000.50", Decimal("1000.50")),
        (decimal, 7, Decimal(7)),
        (rate, "0.05%", Decimal("0.0005")),
        (rate, "5bp", Decimal("0.0005")),
        (rate, Decimal("0.0005"), Decimal("0.0005")),
        (duration_ns, "1h 30m", 5400 * 10**9),
        (duration_ns, "250ms", 250_000_000),
        (duration_ns, 5, 5 * 10**9),
        (duration_ns, "2.5", 2_500_000_000),
        (lambda v: instant_ns(v, 0), "1970-01-02", 86_400 * 10**9),
        (lambda v: instant_ns(v, 7), "+1s", 10**9 + 7),
        (clock, 86_400 * 10**9 + 500_000_000, "1970-01-02T00:00:00.5Z"),
        (shown, Fraction(-1, 40), "-0.025"),
        (shown, Fraction(1, 3), "0.3333333333…"),
        (shown, Fraction(5), "5"),
    ],
)
def test_values(read: object, value: object, is_: object) -> None:
    assert read(value) == is_  # type: ignore[operator]


@pytest.mark.parametrize("value", [True, "", "a", [1], "nan", "1e99", "1..2"])
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(ValueError, match="number"):
        decimal(value)


def test_a_part_of_a_step_is_refused() -> None:
    assert whole(Decimal("60000.1"), Decimal("0.1"), "ticks") == 600_001
    with pytest.raises(ValueError, match="whole number of ticks"):
        whole(Decimal("60000.15"), Decimal("0.1"), "ticks")


@pytest.mark.parametrize(
    ("want", "met", "not_met"),
    [
        (5, "5", "5.0000001"),
        ("5", "5", "6"),
        ("~57.18", "57.1809", "57.191"),
        ("~57.18", "57.17", "57.169"),
        ("> 5", "5.01", "5"),
        (">= 5", "5", "4.9"),
        ("<5", "4", "5"),
        ("!= 0", "1", "0"),
        ("1 .. 2", "2", "2.1"),
        ([1, 3], "3", "2"),
        ("-1 .. 1", "-1", "-2"),
    ],
)
def test_wanted_numbers(want: object, met: str, not_met: str) -> None:
    assert want_number(want).met(Fraction(met))
    assert not want_number(want).met(Fraction(not_met))
    assert not want_number(want).met(None)


def test_wanted_shares_names_and_nothing() -> None:
    assert want_number("~0.05%", share=True).met(Fraction("0.000505"))
    assert not want_number("~0.05%", share=True).met(Fraction("0.00061"))
    assert want_number("none").met(None)
    assert not want_number("none").met(Fraction(0))
    names = ["NEW", "POST_ONLY"]
    assert want_name("post-only", names).met("POST_ONLY")
    assert want_name("!new", names).met("POST_ONLY")
    assert not want_name("!new", names).met("NEW")
    with pytest.raises(ValueError, match="one of NEW, POST_ONLY"):
        want_name("old", names)


def scenario(tmp_path: Path, text: str, *more: str) -> tuple[int, str]:
    path = tmp_path / "f.toml"
    path.write_text(text)
    result = CliRunner().invoke(main, ["scenario", str(path), *more])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result.exit_code, result.output


RIGHT = HEAD + "[expect]\nbalance.Ann = 100\n"
NOT_SO = HEAD + "[[steps]]\ntick = true\nexpect.balance.Ann = { wallet = 99, available = 100 }\n"


def test_exit_codes_and_what_is_said(tmp_path: Path) -> None:
    code, said = scenario(tmp_path, RIGHT)
    assert code == 0 and said.startswith("ok ")
    code, said = scenario(tmp_path, NOT_SO)
    assert code == 1
    where = f"{tmp_path / 'f.toml'}:7, step 1: tick"
    assert where in said
    assert "balance.Ann.wallet\n      expected  99\n      got       100" in said
    assert "available" not in said
    code, said = scenario(tmp_path, "x = 1")
    assert code == 2 and "no such key: x" in said
    assert CliRunner().invoke(main, ["scenario", str(tmp_path / "none")]).exit_code == 2
    assert CliRunner().invoke(main, ["scenario"]).exit_code == 2


def test_json(tmp_path: Path) -> None:
    code, said = scenario(tmp_path, NOT_SO, "--json")
    result = json.loads(said)
    assert code == 1 and result["ok"] is False
    (problem,) = result["files"][0]["problems"]
    assert (problem["what"], problem["expected"], problem["got"]) == (
        "balance.Ann.wallet",
        "99",
        "100",
    )


def test_verbose_tells_every_report(tmp_path: Path) -> None:
    place = "[[steps]]\nplace = 'a'\naccount = 'Ann'\nside = 'buy'\nqty = 0.1\nprice = 100\n"
    code, said = scenario(tmp_path, HEAD + place, "-v")
    assert code == 0
    assert "order Ann BTC status NEW a price 100 open 0.1 side BUY LIMIT PLACE" in said
