"""What the venue does, as tables a trader can check: every *.txt beside this file.

A scenario begins with `=== title`. `given` lines set it up, then each line is a command, what the
venue answers, and what is so afterwards:

    a: Ann buys 10 @100     | new a 10@100; b takes 4@100 from a     | Ann +4, held 60; a open 6

Left     Ann, Bob, Cat, Dan, Eve have 10,000 each unless `given` says otherwise; symbols are BTC
         (where nothing else is said) and ETH; one tick times one lot is worth 1; no fees, leverage
         10. A line that begins with & was decided together with the one above: neither had been
         settled when risk looked at the other. Empty: nothing is sent.
         Settings: Ann mode HEDGE; Ann margin ISOLATED ETH; Ann moves 50 LONG (into the isolated
         position, -50 out of it); Ann fees -100 400 (maker, taker ppm), Ann fees own=0; orders of
         a leg carry LONG or SHORT. Brackets: bracket BTC 1 5000 60000 20000 20 (index, floor,
         cap, maintenance ppm, largest leverage).
Middle   every report, in order, but those of positions, wallets and holds; complete. Commands that
         the engine gives itself stand on the line that caused them. `isolate 50` and `release 50`:
         money goes into an isolated position and comes back.
Right    whatever is worth a look: Ann +4 (long 4; short is -4), or Ann LONG +4 of a leg, cost,
         wallet, held, free, isolated; most: may be withdrawn; spare: may be taken out of the
         isolated position; of an order: open, close (what it claims of the position), hold; the
         book as `bids 99 a5 b3`.

Conditional orders are orders with `stop=95`, `profit=110` or `trail=10000` (ppm; `from=110` is where it
begins), `on-mark`, `protected`, `close-all`. `waits s`: it does. `triggered s; new s! 10@94`: the order
it became is called s!. `Ann requests 500 by=7` is a withdrawal asked for by principal 7.

Laws of the whole state (tests/venue.py) are checked after every line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shm.codes import (
    AlgoStatus,
    AlgoType,
    Flag,
    Flip,
    Kind,
    MarginType,
    Move,
    PositionMode,
    PositionSide,
    Reason,
    RequestStatus,
    Side,
    State,
    Status,
    Stp,
    Tif,
    Type,
    Working,
)
from shm.margin import available, removable, withdrawable
from shm.units import PRODUCER_SHIFT
from tests.venue import ANN, DESK, GATEWAY, SECOND, Venue, check_laws, check_reports

PEOPLE = {name: ANN + k for k, name in enumerate(("Ann", "Bob", "Cat", "Dan", "Eve"))}
SYMBOLS = {"BTC": 0, "ETH": 1}
NAMES = {number: name for name, number in PEOPLE.items()}
MONEY = 10_000
SHORT = {  # names of a symbol's parameters in `given` lines
    "unit": "tick_lot_quanta",
    "taker": "taker_fee_ppm",
    "maker": "maker_fee_ppm",
    "leverage": "leverage_default",
    "band": "band_ppm",
    "bound": "market_ppm",
    "orders": "orders_max",
    "qty_min": "qty_lots_min",
    "qty_max": "qty_lots_max",
    "price_min": "price_ticks_min",
    "price_max": "price_ticks_max",
    "notional_min": "notional_quanta_min",
}
FLAGS = {
    "reduce-only": Flag.REDUCE_ONLY,
    "no-match": Flag.NO_MATCH,
    "to-back": Flag.TO_BACK,
    "keep": Flag.KEEP_QTY,
    "remaining": Flag.REMAINING,
    "take-name": Flag.TAKE_NAME,
    "close-all": Flag.CLOSE_POSITION,
}
PLAIN = {"tick_lot_quanta": 1, "price_ticks_max": 1_000_000, "qty_lots_max": 1_000_000}


def scenarios(folder: Path = Path(__file__).parent) -> Iterator[Any]:
    for path in sorted(folder.glob("*.txt")):
        for part in re.split(r"^=== ", path.read_text(), flags=re.MULTILINE)[1:]:
            title, _, body = part.partition("\n")
            lines = [s for s in body.splitlines() if s.strip() and not s.startswith("#")]
            yield pytest.param(lines, id=f"{path.stem}: {title.strip()}")


@pytest.mark.parametrize("lines", list(scenarios()))
def test_table(lines: list[str]) -> None:
    given = [line[len("given ") :] for line in lines if line.startswith("given ")]
    table = Table(given)
    rows = [line for line in lines if not line.startswith("given ")]
    at = 0
    while at < len(rows):
        end = at + 1
        while end < len(rows) and rows[end].startswith("&"):
            end += 1
        table.play(rows[at:end])
        at = end
    check_reports(table.venue)


class Table:
    def __init__(self, given: list[str]) -> None:
        self.venue = v = Venue()
        self.orders: dict[str, int] = {}  # name -> order id
        self.where: dict[str, tuple[int, int]] = {}  # name -> (account, symbol)
        self.parameters: dict[int, dict[str, int]] = {k: {**PLAIN} for k in SYMBOLS.values()}
        money = dict.fromkeys(PEOPLE, MONEY)
        later = []
        for line in given:
            who, *words = line.split()
            if who in SYMBOLS:
                self.parameters[SYMBOLS[who]] |= parameters(words)
            elif who in PEOPLE:
                money[who] = int(words[0])
            else:
                later.append(line)
        v.asset()
        for symbol, fields in self.parameters.items():
            v.symbol(symbol, **fields)
        for who, quanta in money.items():
            v.account(PEOPLE[who], quanta)
        for line in later:
            self.send(line)
        v.drain()
        check_laws(v)

    def play(self, rows: list[str]) -> None:
        """Lines that are decided together."""
        v = self.venue
        cells = [[cell.strip() for cell in f"{row.lstrip('&')} | |".split("|")] for row in rows]
        sent = [self.send(left) if left else None for left, *_ in cells]
        reports = v.drain()
        seqs = {int(c["request"]): int(c["seq"]) for c in v.log}
        lines: list[list[str]] = [[] for _ in rows]
        owners = {seqs[s]: k for k, s in enumerate(sent) if s is not None}
        for (left, *_), request in zip(cells, sent, strict=True):
            if ":" in left and request is not None:
                self.orders[left.split(":")[0]] = seqs[request]
        k = 0
        for report in reports:
            k = owners.get(report["seq"], len(rows) - 1)
            if text := self.told(report, report["seq"] in owners):
                lines[k].append(text)
        for (left, middle, *_), said in zip(cells, lines, strict=True):
            wanted = [part.strip() for part in middle.split(";") if part.strip()]
            assert said == wanted, left
        check_laws(v)
        for left, _, right, *_ in cells:
            for fact in (part.strip() for part in right.split(";")):
                if fact:
                    self.look(fact, left)

    # ------------------------------------------------------------ left

    def send(self, text: str) -> int:
        """Send one command; returns its request."""
        v = self.venue
        name, colon, rest = text.partition(":")
        words = (rest if colon else text).split()
        ring = DESK
        if "as-gateway" in words:
            words.remove("as-gateway")
            ring = GATEWAY
        kind, fields = self.command(words)
        if colon:
            self.where[name.strip()] = fields["account"], fields.get("symbol", 0)
        if "number" in fields:
            fields["request"] = fields.pop("number")
        number = v.send(kind, ring=ring, **fields)
        return (4 if ring == DESK else 8) << PRODUCER_SHIFT | number

    def command(self, words: list[str]) -> tuple[Kind, dict[str, Any]]:
        who, verb = words[0], words[1] if len(words) > 1 else ""
        if who in PEOPLE:
            account = {"account": PEOPLE[who]}
            if verb in ("buys", "sells"):
                if any(word.startswith(CONDITIONS) for word in words):
                    return Kind.PLACE_ALGO, account | self.conditional(verb, words[2:])
                return Kind.PLACE, account | self.order(verb, words[2:])
            if verb == "cancels-algo":
                return Kind.CANCEL_ALGO, account | {"client_id": words[2].strip('"')}
            if verb == "cancels-algos":
                return Kind.CANCEL_ALGOS, account | more(words[2:])
            if verb == "countdown":
                value = {"symbol": 0, "value": int(words[2].removesuffix("s")) * SECOND}
                return Kind.COUNTDOWN, account | value | more(words[3:])
            if verb in MONEY_KINDS:
                return MONEY_KINDS[verb], account | self.money(verb, words[2:])
            if verb in ("cancels", "amends", "reduces") and words[2] != "all":
                # by client id
                about = {**account, "symbol": 0, "client_id": words[2].strip('"')}
                if verb == "reduces":
                    return Kind.REDUCE, about | {"qty_lots": int(words[4])}
                if verb == "amends":
                    return Kind.AMEND, about | self.amend(words[3:])
                return Kind.CANCEL, about | more(words[3:])
            if verb == "cancels":
                rest = words[3:]
                where = {"symbol": SYMBOLS[rest.pop(0)]} if rest and rest[0] in SYMBOLS else {}
                return Kind.CANCEL_ALL, account | where | more(rest)
            if verb in ("deposits", "withdraws"):
                kind = Kind.DEPOSIT if verb == "deposits" else Kind.WITHDRAW
                return kind, account | {"amount_quanta": int(words[2])} | more(words[3:])
            if verb == "leverage":
                leverage = {"symbol": 0, "leverage": int(words[2])}
                return Kind.LEVERAGE, account | leverage | more(words[3:])
            if verb == "mode":
                return Kind.POSITION_MODE, account | {"value": PositionMode[words[2]]}
            if verb == "margin":
                value = {"symbol": 0, "value": MarginType[words[2]]}
                return Kind.MARGIN_TYPE, account | value | more(words[3:])
            if verb == "moves":
                value = {"symbol": 0, "value": int(words[2])}
                return Kind.POSITION_MARGIN, account | value | more(words[3:])
            if verb == "fees":
                if words[2] == "own=0":
                    return Kind.FEE_RATES, account | {"own": 0}
                rates = {"maker_fee_ppm": int(words[2]), "taker_fee_ppm": int(words[3])}
                return Kind.FEE_RATES, account | rates | {"own": 1}
        if who == "cancel-algo":
            owner, symbol = self.where.get(verb, (ANN, 0))
            found = self.orders.get(verb, 0) or 999_999
            return Kind.CANCEL_ALGO, {"account": owner, "symbol": symbol, "order_id": found}
        if who in VERDICTS:
            return VERDICTS[who], self.verdict(words[1:])
        if who == "delist":
            symbol = {"symbol": SYMBOLS[verb]}
            return Kind.SETTLE_SYMBOL, symbol | {"settle_ticks": int(words[2].removeprefix("@"))}
        if who in ("cancel", "amend", "reduce"):
            account_, symbol = self.where.get(verb, (ANN, 0))
            about = {"account": account_, "symbol": symbol}
            about["order_id"] = self.orders.get(verb, 0) or 999_999
            if who == "reduce":
                return Kind.REDUCE, about | {"qty_lots": int(words[3])}
            if who == "amend":
                return Kind.AMEND, about | self.amend(words[2:])
            if verb == "symbol":
                return Kind.CANCEL_SYMBOL, {"symbol": SYMBOLS[words[2]]}
            return Kind.CANCEL, about | more(words[2:])
        if who == "mark":
            return Kind.MARK, {"mark_ticks": int(verb), "symbol": 0} | more(words[2:])
        if who == "state":
            state = {"state": int(State[words[2]]), "cancel": int("cancel" in words)}
            if verb in PEOPLE:
                return Kind.ACCOUNT, state | {"account": PEOPLE[verb]}
            if verb in SYMBOLS:
                return Kind.SYMBOL_STATE, state | {"symbol": SYMBOLS[verb]}
            return Kind.VENUE_STATE, state
        if who in SYMBOLS:
            fields = self.parameters[SYMBOLS[who]] | parameters(words[1:])
            self.parameters[SYMBOLS[who]] = fields
            from tests.venue import SYMBOL_DEFAULTS

            return Kind.SYMBOL, {**SYMBOL_DEFAULTS, **fields, "symbol": SYMBOLS[who]}
        if who == "bracket":
            index, floor, cap, ppm, leverage = map(int, words[2:])
            bracket = {"index": index, "floor_quanta": floor, "cap_quanta": cap}
            rates = {"maintenance_ppm": ppm, "bracket_leverage_max": leverage}
            return Kind.BRACKET, {"symbol": SYMBOLS[verb], **bracket, **rates}
        if who == "tick":
            if verb:
                self.venue.wait(int(verb.strip("+s")) * SECOND)
            return Kind.TICK, {}
        raise ValueError(f"no such command: {' '.join(words)}")

    def order(self, verb: str, words: list[str]) -> dict[str, Any]:
        qty, price, *rest = words
        fields: dict[str, Any] = {
            "side": Side.BUY if verb == "buys" else Side.SELL,
            "qty_lots": int(qty),
            "symbol": 0,
            **priced(price),
        }
        for word in list(rest):
            if word.startswith("GTD"):
                rest.remove(word)
                seconds = int(word[3:].strip("+s") or 0)
                fields |= {"tif": Tif.GTD, "expire_ns": self.venue.now + seconds * SECOND}
        return fields | more(rest)

    def conditional(self, verb: str, words: list[str]) -> dict[str, Any]:
        """`10 market stop=95`, `10 @94 profit=110 on-mark`, `0 market stop=95 close-all`,
        `10 market trail=10000 from=110 protected`."""
        words = list(words)
        terms = 0
        fields: dict[str, Any] = {}
        for word in list(words):
            name, _, value = word.partition("=")
            if name in ("stop", "profit"):
                fields["trigger_ticks"] = int(value)
                fields["type"] = AlgoType.STOP_MARKET
                if name == "profit":
                    fields["type"] = AlgoType.TAKE_PROFIT_MARKET
            elif name == "trail":
                fields["type"] = AlgoType.TRAILING_STOP_MARKET
                terms |= int(value)
            elif name == "from":
                fields["activate_ticks"] = int(value)
            elif word == "on-mark":
                terms |= Working.MARK << 32
            elif word == "protected":
                terms |= 1 << 40
            else:
                continue
            words.remove(word)
        order = self.order(verb, words)
        if order.pop("type", Type.LIMIT) == Type.LIMIT:
            fields["type"] -= 1  # STOP, TAKE_PROFIT
        return order | fields | {"terms": terms}

    def money(self, verb: str, words: list[str]) -> dict[str, Any]:
        """`500 by=7 id=w1`, `500 to Bob id=t1`."""
        fields = {"amount_quanta": int(words[0])}
        if words[1:2] == ["to"]:
            fields["reference"] = PEOPLE[words[2]]
            words = words[2:]
        return fields | by(words[1:])

    def verdict(self, words: list[str]) -> dict[str, Any]:
        """`w by=8 fee=2`"""
        owner, _ = self.where.get(words[0], (ANN, 0))
        found = self.orders.get(words[0], 999_999)
        return {"account": owner, "reference": found} | by(words[1:])

    def amend(self, words: list[str]) -> dict[str, Any]:
        """`to 5 @100`, `@100 keep`."""
        fields: dict[str, Any] = {}
        if words[0] == "to":
            fields["qty_lots"] = int(words[1])
            words = words[2:]
        return fields | priced(words[0]) | more(words[1:])

    # ------------------------------------------------------------ middle

    def name(self, order_id: int) -> str:
        found = [name for name, known in self.orders.items() if known == order_id]
        return found[0] if found else str(order_id)

    def told(self, r: dict[str, Any], asked: bool) -> str:
        """A report in words."""
        kind = r["kind"]
        if kind == "ORDER":
            name = self.name(r["order_id"])
            why = "" if r["reason"] == "NONE" else f" {r['reason']}"
            price = "market" if r["type"] == "MARKET" else f"@{r['price_ticks']}"
            amount = f"{r['open_lots']}{price}" if price[0] == "@" else f"{r['open_lots']} {price}"
            if r["status"] in (Status.REJECTED.name, Status.REFUSED.name):
                twice = f" {name}" if r["reason"].startswith("DUPLICATE") and r["order_id"] else ""
                return f"{r['status'].lower()}{why}{twice}"
            if r["status"] in (Status.NEW.name, Status.AMENDED.name):
                return f"{r['status'].lower()} {name} {amount}{why}"
            return f"{r['status'].lower()} {name} {r['open_lots']}{why}"
        if kind == "EXEC":
            if r["status"] & 1 == 0:
                self.maker = r
                return ""
            names = self.name(r["order_id"]), self.name(self.maker["order_id"])
            return f"{names[0]} takes {r['lots']}@{r['price_ticks']} from {names[1]}"
        if kind == "ANSWER" and asked:
            twice = r["original"] if r["reason"].startswith("DUPLICATE") else 0
            return "ok" if r["reason"] == "NONE" else f"no {r['reason']}" + " again" * bool(twice)
        if kind == "ALGO":
            name, status = self.name(r["algo_id"]), AlgoStatus(r["status"]).name.lower()
            why = f" {Reason(r['reason']).name}" if r["reason"] else ""
            if r["order_id"]:
                self.orders[f"{name}!"] = r["order_id"]
            return f"{status.replace('new', 'waits')} {name}{why}"
        if kind == "REQUEST":
            return f"{RequestStatus(r['status']).name.lower()} {self.name(r['request_id'])}"
        if kind == "MOVE":
            return f"{Move(r['status']).name.lower()} {abs(r['amount_quanta'])}"
        if kind == "FLIP":
            name = self.name(r["order_id"])
            if r["status"] == Flip.TRIMMED:
                return f"trim {name} {r['lots']}"
            return f"flip {name} {r['lots']} to open, holds {r['hold_quanta']}"
        return ""

    # ------------------------------------------------------------ right

    def look(self, fact: str, left: str) -> None:
        v = self.venue
        subject, *words = fact.replace(",", " ").split()
        if subject in ("bids", "asks"):
            side = "BUY" if subject == "bids" else "SELL"
            levels: list[str] = []
            for side_, price, order_id, open_lots in v.book():
                if side_ == side:
                    text = f"{self.name(order_id)}{open_lots}"
                    if str(price) in levels:
                        levels.append(text)
                    else:
                        levels += [str(price), text]
            assert levels == words, f"{left}: {fact}"
            return
        if subject in PEOPLE:
            seen = self.person(PEOPLE[subject], words)
        elif subject in ("venue", *SYMBOLS):
            row = v.venue if subject == "venue" else v.arrays["symbols"][SYMBOLS[subject]]
            names = {
                "state": "state",
                "deficits": "deficit_count",
                "interest": "open_lots",
                "trades": "trade_count",
            }
            seen = {word: int(row[names[word]]) for word in words[::2]}
        else:
            claim = v.claim(self.orders[subject]) or {}
            seen = {
                "open": claim.get("open_lots"),
                "close": claim.get("close_lots"),
                "hold": claim.get("hold_quanta"),
                "gone": 1 if not claim else 0,
            }
        if words and re.fullmatch(r"[+-]?\d+", words[0]):
            words = ["lots", *words]
        wanted = dict(zip(words[::2], map(int, words[1::2]), strict=True))
        assert {word: seen[word] for word in wanted} == wanted, f"{left}: {fact}"

    def person(self, account: int, words: list[str]) -> dict[str, int]:
        v = self.venue
        if words and words[0] in SYMBOLS:
            symbol = SYMBOLS[words.pop(0)]
        else:
            symbol = 0
        leg = PositionSide.BOTH
        if words and words[0] in ("LONG", "SHORT"):
            leg = PositionSide[words.pop(0)]
        p, w = v.position(account, symbol, leg), v.wallet(account)
        r = v.engine.risk
        row = account * v.limits.assets
        tables = (r.accounts, r.wallets, r.symbols, r.positions)
        rows = v.arrays["positions"]
        same = (rows["account"] == account) & (rows["symbol"] == symbol)
        same &= rows["position_side"] == leg
        spare = (
            removable(r.symbols, r.brackets, r.positions[int(same.argmax())]) if any(same) else 0
        )
        return {
            "isolated": p["isolated_quanta"],
            "sunk": p["sunk_quanta"],
            "liquidation": p["liquidation_ticks"],
            "most": int(withdrawable(*tables, r.brackets, account, row)),
            "spare": int(spare),
            "lots": p["lots"],
            "cost": p["entry_quanta"],
            "realised": p["realised_quanta"],
            "closing": p["close_lots"],
            "orders": p["open_orders"],
            "leverage": p["leverage"],
            "wallet": w["wallet_quanta"],
            "aside": w["pending_quanta"],
            "waiting": int(v.arrays["accounts"][account]["algo_count"]),
            "fees": w["fees_quanta"],
            "held": w["held_quanta"],
            "short": w["deficit_count"],
            "free": int(available(*tables, account, row)),
        }


CONDITIONS = ("stop=", "profit=", "trail=")
MONEY_KINDS = {
    "requests": Kind.REQUEST_WITHDRAW,
    "adjusts": Kind.REQUEST_ADJUST,
    "sends": Kind.TRANSFER,
}
VERDICTS = {"approve": Kind.APPROVE, "reject": Kind.REJECT, "settle": Kind.SETTLE_WITHDRAW}


def by(words: list[str]) -> dict[str, Any]:
    """`by=7` says who asks or approves."""
    short = {"by": "principal", "fee": "fee_quanta"}
    return more(
        [short.get(w.split("=")[0], w.split("=")[0]) + "=" + w.split("=")[1] for w in words]
    )


def parameters(words: list[str]) -> dict[str, int]:
    pairs = [word.split("=") for word in words]
    return {SHORT.get(name, name): int(value) for name, value in pairs}


def priced(word: str) -> dict[str, Any]:
    if word == "market":
        return {"type": Type.MARKET, "price_ticks": 0}
    return {"price_ticks": int(word.removeprefix("@"))}


def more(words: list[str]) -> dict[str, Any]:
    """Time in force, flags and the like."""
    fields: dict[str, Any] = {"flags": 0}
    for word in words:
        name, _, value = word.partition("=")
        if word in Tif.__members__:
            fields["tif"] = Tif[word]
        elif word in FLAGS:
            fields["flags"] |= FLAGS[word]
        elif word in SYMBOLS:
            fields["symbol"] = SYMBOLS[word]
        elif word in ("LONG", "SHORT"):
            fields["position_side"] = PositionSide[word]
        elif name == "stp":
            fields["stp"] = Stp[value]
        elif name == "id":
            fields["client_id"] = value
        else:
            fields[name] = int(value)
    if not fields["flags"]:
        del fields["flags"]
    return fields


def test_every_reason_is_in_some_table() -> None:
    """But those of the envelope, of the desk's declarations and of full tables: tested elsewhere."""
    text = "".join(p.read_text() for p in Path(__file__).parent.glob("*.txt"))
    elsewhere = {"NONE", "UNKNOWN_KIND", "MALFORMED", "UNKNOWN_ACCOUNT", "UNKNOWN_ASSET", "EXISTS"}
    elsewhere |= {"UNKNOWN_SYMBOL", "BAD_PARAMETER", "CAPACITY", "BOOK_FULL"}
    elsewhere |= {r.name for r in Reason if r >= Reason.LIQUIDATION}  # what makes a perpetual
    missing = [r.name for r in Reason if not re.search(rf"\b{r.name}\b", text)]
    assert set(missing) <= elsewhere, missing
