"""What a trader may expect of every order type, time in force, amend and cancel: as tables.

Each line is a command, what comes of it, and the book afterwards. The kernel and the slow twin
must both say the same as the table.

    a: Ann buy 5 @100 IOC       order `a` of account Ann; words after the price: a time in force,
                                MARKET, NO_MATCH, stp=MODE
    a 5@100                     maker `a` gave 5 at 100
    rest a 5, end a 2 REASON    `a` is in the book with 5; `a` ended with 2 unfilled
    amend a 7 open 4            `a` has a new total of 7, of which 4 are open
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from engine.book import resting
from engine.matching import MATCHES_MIN
from shm.codes import Flag, Kind, MatchKind, Reason, Side, Stp, Tif, Type
from shm.records import NO_SYMBOL
from shm.units import PRICE_TICKS_MAX
from tests.model.book_rig import Rig, check_laws, command, position_of
from tests.model.book_twin import Twin

TABLES = {
    "price first, then arrival": """
        a: Ann sell 5 @101          | rest a 5                 |               | 101 a5
        b: Bob sell 3 @100          | rest b 3                 |               | 100 b3, 101 a5
        c: Cat sell 2 @100          | rest c 2                 |               | 100 b3 c2, 101 a5
        x: Dan buy 4 @101           | b 3@100, c 1@100         |               | 100 c1, 101 a5
        y: Dan buy 9 @101           | c 1@100, a 5@101, rest y 3 | 101 y3      |
        z: Ann sell 3 @90           | y 3@101                  |               |
    """,
    "a level is a queue": """
        a: Ann buy 5 @100           | rest a 5                 | 100 a5        |
        b: Bob buy 5 @100           | rest b 5                 | 100 a5 b5     |
        c: Cat buy 5 @100           | rest c 5                 | 100 a5 b5 c5  |
        cancel b                    | end b 5 USER_CANCEL      | 100 a5 c5     |
        d: Bob buy 1 @100           | rest d 1                 | 100 a5 c5 d1  |
        cancel a                    | end a 5 USER_CANCEL      | 100 c5 d1     |
        x: Dan sell 5 @100          | c 5@100                  | 100 d1        |
        cancel d                    | end d 1 USER_CANCEL      |               |
        cancel d                    | refused d                |               |
    """,
    "IOC takes what is there": """
        a: Ann sell 5 @100          | rest a 5                 |               | 100 a5
        x: Bob buy 3 @99 IOC        | end x 3 IOC_REMAINDER    |               | 100 a5
        y: Bob buy 3 @100 IOC       | a 3@100                  |               | 100 a2
        z: Bob buy 3 @100 IOC       | a 2@100, end z 1 IOC_REMAINDER |         |
    """,
    "FOK takes all or nothing": """
        a: Ann sell 5 @100          | rest a 5                 |               | 100 a5
        b: Bob sell 5 @102          | rest b 5                 |               | 100 a5, 102 b5
        w: Cat buy 11 @102 FOK      | end w 11 FOK_UNFILLED    |               | 100 a5, 102 b5
        x: Cat buy 6 @101 FOK       | end x 6 FOK_UNFILLED     |               | 100 a5, 102 b5
        y: Cat buy 6 @102 FOK       | a 5@100, b 1@102         |               | 102 b4
        z: Cat buy 4 @102 FOK       | b 4@102                  |               |
        v: Cat buy 1 @102 FOK       | end v 1 FOK_UNFILLED     |               |
    """,
    "GTX only makes": """
        a: Ann sell 5 @100          | rest a 5                 |               | 100 a5
        x: Bob buy 5 @100 GTX       | end x 5 WOULD_TAKE       |               | 100 a5
        y: Bob buy 5 @99 GTX        | rest y 5                 | 99 y5         | 100 a5
        z: Bob buy 5 @101 GTX stp=EXPIRE_MAKER | end z 5 WOULD_TAKE | 99 y5    | 100 a5
        amend y 5 @100 GTX          | amend y 5 open 5, end y 5 WOULD_TAKE |   | 100 a5
    """,
    "GTD rests like GTC": """
        a: Ann sell 5 @100 GTD      | rest a 5                 |               | 100 a5
        expire a GTD_EXPIRED        | end a 5 GTD_EXPIRED      |               |
        expire a GTD_EXPIRED        | refused a                |               |
    """,
    "what settlement takes off a reduce-only order leaves it its place": """
        a: Ann buy 5 @100           | rest a 5                 | 100 a5        |
        b: Bob buy 5 @100           | rest b 5                 | 100 a5 b5     |
        expire a FLIP 2             | amend a 3 open 3         | 100 a3 b5     |
        expire a FLIP 3             | end a 3 FLIP             | 100 b5        |
    """,
    "MARKET trades to its bound, and the rest is gone": """
        x: Cat buy 5 @1000 MARKET   | end x 5 MARKET_REMAINDER |               |
        a: Ann sell 5 @100          | rest a 5                 |               | 100 a5
        b: Bob sell 5 @110          | rest b 5                 |               | 100 a5, 110 b5
        y: Cat buy 7 @105 MARKET    | a 5@100, end y 2 MARKET_REMAINDER |      | 110 b5
        z: Cat buy 5 @1000 MARKET   | b 5@110                  |               |
        w: Ann buy 5 @100           | rest w 5                 | 100 w5        |
        v: Bob sell 9 @1 MARKET     | w 5@100, end v 4 MARKET_REMAINDER |      |
    """,
    "self-trade: NONE trades": """
        a: Ann sell 5 @100          | rest a 5                 |               | 100 a5
        x: Ann buy 5 @100           | a 5@100                  |               |
    """,
    "self-trade: EXPIRE_TAKER": """
        a: Bob sell 1 @100          | rest a 1                 |               | 100 a1
        b: Ann sell 5 @100          | rest b 5                 |               | 100 a1 b5
        x: Ann buy 5 @100 stp=EXPIRE_TAKER | a 1@100, end x 4 SELF_TRADE |     | 100 b5
    """,
    "self-trade: EXPIRE_MAKER": """
        a: Ann sell 5 @100          | rest a 5                 |               | 100 a5
        b: Bob sell 1 @100          | rest b 1                 |               | 100 a5 b1
        c: Ann sell 2 @101          | rest c 2                 |               | 100 a5 b1, 101 c2
        x: Ann buy 3 @101 stp=EXPIRE_MAKER | end a 5 SELF_TRADE, b 1@100, end c 2 SELF_TRADE, rest x 2 | 101 x2 |
    """,
    "self-trade: EXPIRE_BOTH": """
        a: Ann sell 5 @100          | rest a 5                 |               | 100 a5
        b: Ann sell 2 @101          | rest b 2                 |               | 100 a5, 101 b2
        x: Ann buy 3 @101 stp=EXPIRE_BOTH | end a 5 SELF_TRADE, end x 3 SELF_TRADE |  | 101 b2
    """,
    "self-trade: the taker's mode counts, and only until it is filled": """
        a: Bob sell 3 @100 stp=EXPIRE_BOTH | rest a 3          |               | 100 a3
        b: Ann sell 5 @100          | rest b 5                 |               | 100 a3 b5
        x: Ann buy 3 @100 stp=EXPIRE_BOTH | a 3@100            |               | 100 b5
    """,
    "self-trade: FOK does not count its own": """
        a: Ann sell 5 @100          | rest a 5                 |               | 100 a5
        b: Bob sell 5 @101          | rest b 5                 |               | 100 a5, 101 b5
        x: Ann buy 6 @101 FOK stp=EXPIRE_MAKER | end x 6 FOK_UNFILLED |        | 100 a5, 101 b5
        y: Ann buy 5 @101 FOK stp=EXPIRE_TAKER | end y 5 FOK_UNFILLED |        | 100 a5, 101 b5
        z: Ann buy 5 @101 FOK stp=EXPIRE_BOTH | end z 5 FOK_UNFILLED |         | 100 a5, 101 b5
        w: Ann buy 5 @101 FOK stp=EXPIRE_MAKER | end a 5 SELF_TRADE, b 5@101 | |
    """,
    "amend: down at the same price keeps the place": """
        a: Ann buy 5 @100           | rest a 5                 | 100 a5        |
        b: Bob buy 5 @100           | rest b 5                 | 100 a5 b5     |
        amend a 3 @100              | amend a 3 open 3         | 100 a3 b5     |
        amend a 3 @100              | amend a 3 open 3         | 100 a3 b5     |
        x: Cat sell 2 @100          | a 2@100                  | 100 a1 b5     |
        amend a 4 @100              | amend a 4 open 2           | 100 b5 a2   |
        amend b 5 @100 TO_BACK      | amend b 5 open 5           | 100 a2 b5   |
    """,
    "amend: a new price goes to the back of its queue": """
        a: Ann buy 5 @100           | rest a 5                 | 100 a5        |
        b: Bob buy 5 @99            | rest b 5                 | 100 a5, 99 b5 |
        amend a 4 @99               | amend a 4 open 4           | 99 b5 a4    |
        amend b 5 @101              | amend b 5 open 5           | 101 b5, 99 a4 |
    """,
    "amend: it may trade when it crosses": """
        a: Ann buy 5 @100           | rest a 5                 | 100 a5        |
        b: Bob sell 3 @102          | rest b 3                 | 100 a5        | 102 b3
        amend a 5 @102              | amend a 5 open 5, b 3@102, rest a 2 | 102 a2 |
        c: Bob sell 3 @103          | rest c 3                 | 102 a2        | 103 c3
        amend a 5 @103              | amend a 5 open 2, c 2@103 |              | 103 c1
        amend a 9 @103              | refused a                |               | 103 c1
    """,
    "amend: to what is filled already ends it": """
        a: Ann buy 5 @100           | rest a 5                 | 100 a5        |
        x: Bob sell 3 @100          | a 3@100                  | 100 a2        |
        amend a 3 @100              | end a 2 AMENDED_AWAY     |               |
    """,
    "amend: what is meant by the quantity": """
        a: Ann buy 5 @100           | rest a 5                 | 100 a5        |
        x: Bob sell 3 @100          | a 3@100                  | 100 a2        |
        amend a 9 @101 KEEP_QTY     | amend a 5 open 2           | 101 a2      |
        amend a 4 @102 REMAINING    | amend a 7 open 4           | 102 a4      |
        amend a 6 @102              | amend a 6 open 3         | 102 a3        |
    """,
    "amend: UPSERT brings back what is gone": """
        a: Ann buy 5 @100           | rest a 5                 | 100 a5        |
        x: Bob sell 2 @100          | a 2@100                  | 100 a3        |
        cancel a                    | end a 3 USER_CANCEL      |               |
        amend a 4 @101 UPSERT       | amend a 6 open 4           | 101 a4      |
        amend a 8 @101 UPSERT TO_BACK | amend a 8 open 6           | 101 a6    |
        amend Ann new n buy 4 @99 UPSERT | amend n 4 open 4           | 101 a6, 99 n4 |
    """,
    "amend: it meets its own": """
        a: Ann buy 5 @100           | rest a 5                 | 100 a5        |
        b: Ann sell 3 @102          | rest b 3                 | 100 a5        | 102 b3
        amend a 5 @102 stp=EXPIRE_TAKER | amend a 5 open 5, end a 5 SELF_TRADE | | 102 b3
    """,
    "reduce keeps the place": """
        a: Ann buy 5 @100           | rest a 5                 | 100 a5        |
        b: Bob buy 5 @100           | rest b 5                 | 100 a5 b5     |
        x: Cat sell 1 @100          | a 1@100                  | 100 a4 b5     |
        reduce a 3                  | amend a 2 open 1         | 100 a1 b5     |
        reduce a 1                  | end a 1 USER_CANCEL      | 100 b5        |
        reduce b 9                  | end b 5 USER_CANCEL      |               |
        reduce b 9                  | refused b                |               |
    """,
    "cancel all of an account, by symbol, oldest first": """
        a: Ann buy 5 @100 in 2      | rest a 5                 |               |
        b: Ann buy 5 @100           | rest b 5                 | 100 b5        |
        c: Bob buy 5 @100           | rest c 5                 | 100 b5 c5     |
        d: Ann sell 5 @200          | rest d 5                 | 100 b5 c5     | 200 d5
        amend b 5 @99               | amend b 5 open 5           | 100 c5, 99 b5 | 200 d5
        cancel-all Ann              | end b 5 CANCEL_ALL, end d 5 CANCEL_ALL, end a 5 CANCEL_ALL, done | 100 c5 |
        cancel-all Ann              | done                     | 100 c5        |
        e: Ann buy 1 @100 in 2      | rest e 1                 | 100 c5        |
        f: Ann buy 1 @100           | rest f 1                 | 100 c5 f1     |
        cancel-all Ann in 2         | end e 1 CANCEL_ALL, done | 100 c5 f1     |
        cancel-all Ann in 0         | end f 1 CANCEL_ALL, done | 100 c5        |
    """,
    "cancel a symbol: bids from the best, then asks": """
        a: Ann buy 5 @100           | rest a 5                 | 100 a5        |
        b: Bob buy 5 @101           | rest b 5                 | 101 b5, 100 a5 |
        c: Cat sell 5 @200          | rest c 5                 | 101 b5, 100 a5 | 200 c5
        d: Dan sell 5 @199          | rest d 5                 | 101 b5, 100 a5 | 199 d5, 200 c5
        e: Bob buy 1 @101           | rest e 1                 | 101 b5 e1, 100 a5 | 199 d5, 200 c5
        o: Bob buy 1 @101 in 2      | rest o 1                 | 101 b5 e1, 100 a5 | 199 d5, 200 c5
        cancel-symbol 0             | end b 5 SYMBOL_CLOSED, end e 1 SYMBOL_CLOSED, end a 5 SYMBOL_CLOSED, end d 5 SYMBOL_CLOSED, end c 5 SYMBOL_CLOSED, done | |
        cancel-symbol 0             | done                     |               |
        cancel o                    | end o 1 USER_CANCEL      |               |
    """,
    "NO_MATCH may leave a crossed book": """
        a: Ann sell 5 @100          | rest a 5                 |               | 100 a5
        b: Bob buy 5 @105 NO_MATCH  | rest b 5                 | 105 b5        | 100 a5
        x: Cat buy 6 @101           | a 5@100, rest x 1        | 105 b5, 101 x1 |
        c: Dan sell 5 @101          | b 5@105                  | 101 x1        |
    """,
    "the ends of the price range": f"""
        a: Ann sell 5 @{PRICE_TICKS_MAX} | rest a 5            |               | {PRICE_TICKS_MAX} a5
        b: Bob buy 5 @1             | rest b 5                 | 1 b5          | {PRICE_TICKS_MAX} a5
        x: Cat buy 6 @{PRICE_TICKS_MAX} | a 5@{PRICE_TICKS_MAX}, rest x 1 | {PRICE_TICKS_MAX} x1, 1 b5 |
        y: Dan sell 9 @1            | x 1@{PRICE_TICKS_MAX}, b 5@1, rest y 3 |  | 1 y3
    """,
}

ACCOUNTS = {"Ann": 17, "Bob": 18, "Cat": 19, "Dan": 20}


class Reader:
    """Turns lines into commands and events into words; remembers which letter is which slot."""

    def __init__(self) -> None:
        self.letters: dict[str, dict[str, Any]] = {}

    def command(self, line: str) -> dict[str, Any]:
        words = line.split()
        symbol = int(words[words.index("in") + 1]) if "in" in words else 0
        price = next((int(w[1:]) for w in words if w[0] == "@"), 0)
        flags = sum(Flag[w] for w in words if w in Flag.__members__)
        stp = next((Stp[w[4:]] for w in words if w.startswith("stp=")), Stp.NONE)
        tif = next((Tif[w] for w in words if w in Tif.__members__), Tif.GTC)
        more = {"limit_ticks": price, "flags": flags, "order_stp": stp, "order_tif": tif}
        if words[0] == "cancel-all":
            where = {"symbol": symbol if "in" in words else NO_SYMBOL}
            return command(
                kind=Kind.CANCEL_ALL,
                account=ACCOUNTS[words[1]],
                route=1 if "in" in words else 2,
                end_reason=Reason.CANCEL_ALL,
                **where,
            )
        if words[0] == "cancel-symbol":
            return command(
                kind=Kind.CANCEL_SYMBOL, symbol=int(words[1]), end_reason=Reason.SYMBOL_CLOSED
            )
        if words[0] in ("cancel", "expire", "reduce", "amend") and words[2:3] != ["new"]:
            more["kind"] = Kind[words[0].upper()]
            more["end_reason"] = Reason[words[2]] if words[0] == "expire" else Reason.USER_CANCEL
            numbers = [int(w) for w in words[2:4] if w.isdecimal()]
            more["decided_lots"] = numbers[0] if numbers else 0
            return {**self.letters[words[1]], **more}
        kind = Kind.AMEND if words[0] == "amend" else Kind.PLACE
        words = [f"{words[3]}:", words[1], *words[4:]] if kind == Kind.AMEND else words
        letter, account = words[0][:-1], ACCOUNTS[words[1]]
        number = len(self.letters) + 1
        identity = command(
            slot=100 + number,
            decided_order_id=number,
            account=account,
            symbol=symbol,
            position=position_of(account, symbol),
            side=Side[words[2].upper()],
        )
        self.letters[letter] = identity
        type_ = Type.MARKET if "MARKET" in words else Type.LIMIT
        return {**identity, **more, "kind": kind, "type": type_, "decided_lots": int(words[3])}

    def letter(self, slot: int) -> str:
        return next((k for k, c in self.letters.items() if c["slot"] == slot), "?")

    def words(self, events: list[tuple[int, ...]]) -> str:
        out = []
        for kind, _, slot, price, lots, open_lots, maker, _, _, reason in events:
            name = self.letter(slot)
            out.append(
                {
                    MatchKind.RESTED: f"rest {name} {open_lots}",
                    MatchKind.FILL: f"{self.letter(maker)} {lots}@{price}",
                    MatchKind.ENDED: f"end {name} {open_lots} {Reason(reason).name}",
                    MatchKind.AMENDED: f"amend {name} {lots} open {open_lots}",
                    MatchKind.REFUSED: f"refused {name}",
                    MatchKind.DONE: "done",
                }[MatchKind(kind)]
            )
        return ", ".join(out)

    def book(self, orders: list[tuple[int, int, int, int]], side: int) -> str:
        levels: dict[int, list[str]] = {}
        for order_side, slot, price, lots in orders:
            if order_side == side:
                levels.setdefault(price, [str(price)]).append(f"{self.letter(slot)}{lots}")
        return ", ".join(" ".join(words) for words in levels.values())


def rig_book(rig: Rig) -> list[tuple[int, int, int, int]]:
    nodes = rig.shared["nodes"]
    return [
        (side, slot, int(nodes["price_ticks"][slot]), int(nodes["open_lots"][slot]))
        for side, slot in resting(nodes, 0)
    ]


def twin_book(twin: Twin) -> list[tuple[int, int, int, int]]:
    return [
        (side, o.slot, o.price, o.open)
        for side in (Side.BUY, Side.SELL)
        for o in twin.side_of(0, side)
    ]


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("ring", [MATCHES_MIN, 1024])
def test_table(name: str, ring: int) -> None:
    reader, rig, twin = Reader(), Rig(ring=ring), Twin()
    for line in TABLES[name].strip().splitlines():
        order, *wanted = (re.sub(r"\s+", " ", part.strip()) for part in line.split("|"))
        c = reader.command(order)
        said = rig.run([c])[0][0]
        check_laws(rig)
        assert said == twin.apply(c), order
        assert reader.words(said) == wanted[0], order
        for book in (rig_book(rig), twin_book(twin)):
            assert [reader.book(book, Side.BUY), reader.book(book, Side.SELL)] == [
                *wanted[1:],
                "",
            ][:2], order


def test_nowhere_and_unknown_kinds_say_nothing_or_done() -> None:
    rig = Rig()
    said = rig.run([command(kind=Kind.DEPOSIT, route=0), command(kind=Kind.LEVERAGE, route=1)])
    assert said[0] == [[]]
    assert [event[0] for event in said[1][0]] == [MatchKind.DONE]


def test_cancel_of_another_order_in_the_same_row_is_refused() -> None:
    rig = Rig()
    place = command(
        slot=3, decided_order_id=7, position=position_of(20, 0), limit_ticks=5, decided_lots=1
    )
    other = command(kind=Kind.CANCEL, slot=3, decided_order_id=6)
    nowhere = command(kind=Kind.CANCEL, slot=-1, decided_order_id=6)
    said = rig.run([place, other, nowhere])
    assert [e[0] for e in said[1][0] + said[2][0]] == [MatchKind.REFUSED, MatchKind.REFUSED]
    check_laws(rig)


@pytest.mark.parametrize("kind", [Kind.PLACE, Kind.CANCEL_ALL, Kind.CANCEL_SYMBOL])
def test_a_command_larger_than_the_ring_resumes(kind: Kind) -> None:
    """400 resting orders go in one command through a ring of 16 records."""
    rig, twin = Rig(ring=16), Twin()
    orders = [
        command(
            slot=k,
            decided_order_id=k + 1,
            position=position_of(17, 0),
            account=17,
            side=Side.SELL,
            limit_ticks=1000 + k // 3,
            decided_lots=1 + k % 5,
        )
        for k in range(400)
    ]
    sweep = command(
        kind=kind,
        slot=500,
        decided_order_id=999,
        account=17 if kind == Kind.CANCEL_ALL else 18,
        position=position_of(18, 0),
        limit_ticks=PRICE_TICKS_MAX,
        decided_lots=5000,
    )
    commands = [*orders, sweep]
    before = rig.steps
    said = rig.run(commands)
    assert rig.steps - before > 400 / 16
    assert [s[0] for s in said] == [twin.apply(c) for c in commands]
    assert len(said[-1][0]) == 401
    check_laws(rig)


def vectors() -> Path:
    data = os.environ.get("PERPCORE_DATA") or str(Path(__file__).parents[3] / "shared" / "data")
    return Path(data) / "vectors" / "small_matching" / "cases.json"


def cases() -> list[Any]:
    path = vectors()
    if not path.exists():
        skip = pytest.mark.skip(reason=f"no {path}; PERPCORE_DATA names another place")
        return [pytest.param(None, marks=skip)]
    return [pytest.param(case, id=case["name"]) for case in json.loads(path.read_text())]


@pytest.mark.parametrize("case", cases())
def test_published_cases(case: Any) -> None:
    """Small order lists, with the trades other people's engines and exercises give for them."""
    rig = Rig()
    names: dict[int, str] = {}
    sides: dict[int, int] = {}
    symbols: dict[str, int] = {}
    commands = []
    for slot, order in enumerate(case["orders"]):
        symbol = symbols.setdefault(order.get("symbol", ""), len(symbols))
        side = Side.BUY if order["side"][0].upper() == "B" else Side.SELL
        names[slot], sides[slot] = order["id"], side
        market = order["type"] == "m"
        price = round(float(order["price"]) * 100)
        if market:
            price = PRICE_TICKS_MAX if side == Side.BUY else 1
        commands.append(
            command(
                slot=slot,
                decided_order_id=slot + 1,
                account=17 + slot % 2,
                position=position_of(17 + slot % 2, symbol),
                symbol=symbol,
                side=side,
                type=Type.MARKET if market else Type.LIMIT,
                limit_ticks=price,
                decided_lots=int(order["qty"]),
            )
        )
    trades = []
    for events in rig.run(commands):
        for kind, _, slot, price, lots, _, maker, *_ in events[0]:
            if kind == MatchKind.FILL:
                buyer, seller = (slot, maker) if sides[slot] == Side.BUY else (maker, slot)
                parties = {"taker": names[slot], "maker": names[maker]}
                parties |= {"buy_id": names[buyer], "sell_id": names[seller]}
                trades.append((parties, price, lots))
    assert len(trades) == len(case["trades"])
    for (parties, price, lots), t in zip(trades, case["trades"], strict=True):
        assert (price, lots) == (round(float(t["price"]) * 100), int(t["qty"]))
        assert all(parties[role] == t[role] for role in parties if role in t)
    check_laws(rig)
