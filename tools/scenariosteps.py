"""Steps and expectations of a scenario file, read into engine commands and comparisons.

Reads   tables of steps (tools/scenariokeys.py) by the reader of the file, whose names they use.
Writes  Step, Command, Check and Rows (tools/scenariofile.py).
Never   asks an engine: what an id will be is left open (`Command.about`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from shm.codes import Flag, Kind, PositionSide, Side, Tif, Type
from shm.units import CLIENT_ID_BYTES, PPM
from tools import scenariokeys as keys
from tools.scenariomodel import (
    CONTRACT_FIELDS,
    NAMES,
    Check,
    Command,
    Expect,
    Label,
    Rows,
    Step,
    Symbol,
)
from tools.scenariounits import (
    Want,
    duration_ns,
    key_of,
    perhaps,
    plain,
    quoted,
    shown,
    want_flag,
    want_instant,
    want_name,
    want_number,
)

if TYPE_CHECKING:
    from tools.scenariofile import FileReader

INSIDE: Final = {"wait", "restart", "together", "race", "scan"}  # verbs that must stand alone
TICKS_MAX: Final = 100_000  # of one wait


class StepReader:
    """Reads one step; `given` are its keys, `where` says which in errors."""

    def __init__(self, file: FileReader) -> None:
        self.file = file
        self.scenario = file.scenario
        self.where = ""
        self.given: dict[str, Any] = {}
        self.verb = ""

    def step(self, number: str, line: int, row: Any, inside: bool = False) -> Step:
        self.where = f"{f':{line}' if line else ''}, step {number}"
        step = Step(number, line)
        if not isinstance(row, dict):
            self.file.problem(self.where, f"{quoted(row)} stands where a step must be")
            return step
        names = {key_of(key, keys.VERBS): key for key in row}
        verbs = [name for name in names if name in keys.VERBS]
        if len(verbs) > 1:
            # `cancel` and `sample` are verbs, and keys of others.
            verbs = [v for v in verbs if not any(v in keys.VERBS[w].keys for w in verbs)]
        if len(verbs) > 1:
            self.file.problem(self.where, f"does two things at once: {' and '.join(verbs)}")
        step.note = str(row.get("note", ""))
        if not verbs:
            extra = [name for name in names if name not in keys.STEP]
            if extra:
                hint = perhaps(extra[0], list(keys.VERBS))
                self.file.problem(self.where, f"no such step or key: {names[extra[0]]}{hint}")
            step.text = step.note or "look"
        else:
            self.verb = step.verb = verbs[0]
            verb = keys.VERBS[self.verb]
            known = {**verb.keys, **keys.STEP}
            if self.verb in ("mark", "source_price") and not isinstance(row[names[self.verb]], str):
                known.pop("price")  # the value says it
            if self.verb == "change_symbol":
                known |= keys.SYMBOL | keys.CONTRACT
            rest = {
                key: value
                for name, key in names.items()
                if name != self.verb
                for value in [row[key]]
            }
            self.given = self.file.table(f"{self.where} ({self.verb})", rest, known)
            if inside and self.verb in INSIDE:
                self.file.problem(self.where, f"{self.verb} can't stand inside another step")
            else:
                self.read(step, row[names[self.verb]])
        step.expect = self.file.expect(self.where, row.get("expect", {}))
        return step

    # ------------------------------------------------------------ by subject

    def read(self, step: Step, subject: Any) -> None:
        """Fill in what the step does."""
        of = keys.VERBS[self.verb].subject
        if of == "steps":
            self.group(step, subject)
        elif of == "true":
            if subject is not True:
                self.wrong(self.verb, subject, "true")
            step.text = self.verb
            if self.verb == "tick":
                step.commands = [Command(Kind.TICK, {})]
        elif of == "duration":
            self.wait(step, subject)
        elif self.verb in ("mark", "source_price") and not isinstance(subject, str):
            self.prices(step, subject)
        else:
            step.commands = self.commands(subject)
            step.text = self.told(subject)

    def group(self, step: Step, rows: Any) -> None:
        if not isinstance(rows, list) or not 1 <= len(rows) <= 50:
            self.wrong(self.verb, rows, "a list of 1 to 50 steps")
            return
        step.text = f"{self.verb}, {len(rows)} steps"
        for k, row in enumerate(rows, 1):
            inner = StepReader(self.file).step(f"{step.number}.{k}", step.line, row, inside=True)
            step.inner.append(inner)

    def wait(self, step: Step, subject: Any) -> None:
        span = self.file.attempt(self.where, self.verb, subject, lambda: duration_ns(subject)) or 0
        every = self.get("every", "duration") or span
        if every > span or (every and span // every > TICKS_MAX):
            self.wrong(
                "every", self.given.get("every"), f"a part of the time, 1 / {TICKS_MAX} of it"
            )
            every = span
        self.file.now_ns += span
        sample = self.flag("sample")
        sources = self.file.flag(self.where, "sources", self.given.get("sources", True))
        tick = self.file.flag(self.where, "tick", self.given.get("tick", True))
        if not tick and ("every" in self.given or "sample" in self.given):
            self.wrong("tick", False, "true with every or sample")
        step.options = {
            "span": span,
            "every": every,
            "sample": sample,
            "sources": sources and tick,
            "tick": tick,
        }
        step.text = f"wait {subject}"
        if "every" in self.given:
            step.text += f" every {self.given['every']}"

    def prices(self, step: Step, subject: Any) -> None:
        """`mark = 91` and `mark = { BTC = 91, ETH = 5 }`."""
        if not isinstance(subject, dict):
            symbol = self.only_symbol()
            subject = {symbol.name: subject} if symbol else {}
        for name, price in subject.items():
            self.given["price"] = price
            step.commands += self.commands(name)
        step.text = f"{self.verb} " + ", ".join(f"{n} {shown(p)}" for n, p in subject.items())

    def told(self, subject: Any) -> str:
        """The step in one line."""
        shown_keys = [
            f"{key} {shown(value)}"
            for key, value in self.given.items()
            if key not in keys.STEP and not isinstance(value, dict | list)
        ]
        return " ".join([self.verb, f"{subject}:" if shown_keys else str(subject), *shown_keys])

    # ------------------------------------------------------------ values

    def wrong(self, key: str, value: Any, wanted: str) -> None:
        self.file.problem(self.where, f"{key} = {quoted(value)}, must be {wanted}")

    def get(self, key: str, kind: str, symbol: Symbol | None = None, default: int = 0) -> int:
        if key not in self.given:
            return default
        return self.file.value(self.where, key, self.given[key], kind, symbol)

    def flag(self, key: str) -> bool:
        return self.file.flag(self.where, key, self.given.get(key, False))

    def only_symbol(self) -> Symbol | None:
        symbols = self.scenario.symbols
        if len(symbols) == 1:
            return next(iter(symbols.values()))
        self.file.problem(self.where, f"symbol is missing: one of {', '.join(symbols)}")
        return None

    def symbol(self) -> Symbol | None:
        if "symbol" not in self.given:
            return self.only_symbol()
        found: Symbol | None = self.file.choice(
            self.where, "symbol", self.given["symbol"], self.scenario.symbols
        )
        return found

    def account(self, key: str, value: Any) -> int:
        number = self.file.choice(self.where, key, value, self.scenario.numbers)
        return number or 0

    def asset_number(self, amount: str = "amount") -> tuple[int, int]:
        """(number of the asset, quanta of the amount)."""
        assets = self.scenario.assets
        asset = next(iter(assets.values()))
        if "asset" in self.given:
            asset = self.file.choice(self.where, "asset", self.given["asset"], assets) or asset
        return asset.number, self.file.quanta(self.where, amount, self.given.get(amount, 0), asset)

    def text(self, key: str) -> str:
        value = self.given.get(key, "")
        if not isinstance(value, str) or len(value.encode()) > CLIENT_ID_BYTES:
            self.wrong(key, value, f"text of up to {CLIENT_ID_BYTES} characters")
            return ""
        return value

    def new_label(self, name: Any, label: Label) -> str:
        if not isinstance(name, str) or not name:
            self.wrong(self.verb, name, "a name for it")
            return ""
        known = self.scenario.labels
        if name in known:
            self.file.problem(self.where, f"{self.verb} = {quoted(name)}: the name is taken")
        known[name] = label
        return name

    def label(self, name: Any, kind: str, algo: bool | None = None) -> Label | None:
        known = {
            n: v
            for n, v in self.scenario.labels.items()
            if v.kind == kind and (algo is None or v.algo == algo)
        }
        found: Label | None = self.file.choice(self.where, self.verb, name, known)
        return found

    # ------------------------------------------------------------ commands

    def commands(self, subject: Any) -> list[Command]:
        """The engine's commands of a step about `subject`."""
        of = keys.VERBS[self.verb].subject
        if of == "account":
            return self.about_account(self.account(self.verb, subject))
        if of == "symbol":
            symbol = self.file.choice(self.where, self.verb, subject, self.scenario.symbols)
            return self.about_symbol(symbol) if symbol else []
        if of == "state":
            state = self.file.enum(self.where, self.verb, subject, "state")
            return [Command(Kind.VENUE_STATE, {"state": state, "cancel": int(self.flag("cancel"))})]
        if of in ("new order", "new request") and "account" not in self.given:
            return []  # noted already
        if self.verb == "place":
            return self.place(subject)
        if self.verb == "place_algo":
            return self.place_algo(subject)
        if of == "new request":
            return self.request(subject)
        if of == "request":
            return self.answer_request(subject)
        return self.about_order(subject)

    def terms(self, symbol: Symbol) -> dict[str, Any]:
        """What PLACE and PLACE_ALGO have in common."""
        g, get = self.given, self.get
        fields: dict[str, Any] = {
            "account": self.account("account", g.get("account")),
            "symbol": symbol.number,
            "side": get("side", "side"),
            "stp": get("stp", "stp"),
            "position_side": get("position_side", "leg"),
            "flags": int(Flag.REDUCE_ONLY) if self.flag("reduce_only") else 0,
            "tif": get("tif", "tif", default=int(Tif.GTD if "expires" in g else Tif.GTC)),
        }
        if "expires" in g:
            fields["expire_ns"] = get("expires", "instant")
        if client_id := self.text("client_id"):
            fields["client_id"] = client_id
        return fields

    def place(self, subject: Any) -> list[Command]:
        symbol = self.symbol()
        if symbol is None:
            return []
        g = self.given
        kind = self.get("type", "type", default=int(Type.LIMIT if "price" in g else Type.MARKET))
        fields = {
            **self.terms(symbol),
            "type": kind,
            "qty_lots": self.get("qty", "qty", symbol),
            "price_ticks": self.get("price", "price", symbol),
        }
        if self.flag("post_only"):
            fields["tif"] = int(Tif.GTX)
        label = Label("order", fields["account"], symbol, client_id=fields.get("client_id", ""))
        return [Command(Kind.PLACE, fields, label=self.new_label(subject, label))]

    def place_algo(self, subject: Any) -> list[Command]:
        symbol = self.symbol()
        if symbol is None:
            return []
        callback = self.get("callback", "rate")
        fields = {
            **self.terms(symbol),
            "type": self.get("type", "algo_type"),
            "qty_lots": self.get("qty", "qty", symbol),
            "trigger_ticks": self.get("trigger", "price", symbol),
            "price_ticks": self.get("price", "price", symbol),
            "activate_ticks": self.get("activate", "price", symbol),
            "terms": callback
            | self.get("working", "working") << 32
            | int(self.flag("price_protect")) << 40,
        }
        if callback < 0 or callback > PPM:
            self.wrong("callback", self.given["callback"], "a share of 0 to 1")
        if self.flag("close_position"):
            fields["flags"] |= int(Flag.CLOSE_POSITION)
        label = Label("order", fields["account"], symbol, True, fields.get("client_id", ""))
        return [Command(Kind.PLACE_ALGO, fields, label=self.new_label(subject, label))]

    def about_order(self, subject: Any) -> list[Command]:
        label = self.label(subject, "order", algo=True if self.verb == "cancel_algo" else None)
        if label is None or label.symbol is None:
            return []
        account = label.account
        if "account" in self.given:
            account = self.account("account", self.given["account"])
        fields: dict[str, Any] = {"account": account, "symbol": label.symbol.number}
        by = plain(str(self.given.get("by", "ID")))
        if by not in ("ID", "CLIENT_ID"):
            self.wrong("by", self.given["by"], "ID or CLIENT_ID")
        kind = Kind[self.verb.upper()]
        if kind == Kind.REDUCE:
            fields["qty_lots"] = self.get("qty", "qty", label.symbol)
        elif kind == Kind.AMEND:
            flags = Flag.TO_BACK if self.flag("to_back") else Flag.NONE
            if "qty" not in self.given:
                flags |= Flag.KEEP_QTY
            fields["flags"] = int(flags)
            fields["qty_lots"] = self.get("qty", "qty", label.symbol)
            # 0 stands for the price as it is; the runner fills it in.
            fields["price_ticks"] = self.get("price", "price", label.symbol)
        if by == "CLIENT_ID":
            return [Command(kind, {**fields, "client_id": label.client_id})]
        name = next(n for n, known in self.scenario.labels.items() if known is label)
        field_ = "algo_id" if kind == Kind.CANCEL_ALGO else "order_id"
        return [Command(kind, fields, about=name, id_field=field_)]

    def about_account(self, account: int) -> list[Command]:
        verb, g = self.verb, self.given
        who: dict[str, Any] = {"account": account}
        if verb in ("cancel_all", "cancel_algos"):
            if "symbol" in g and (symbol := self.symbol()):
                who["symbol"] = symbol.number
            return [Command(Kind[verb.upper()], who)]
        if verb in ("countdown", "leverage", "margin_type", "position_margin"):
            symbol = self.symbol()
            if symbol is None:
                return []
            who["symbol"] = symbol.number
            if verb == "leverage":
                return [Command(Kind.LEVERAGE, {**who, "leverage": self.get("to", "count")})]
            if verb == "margin_type":
                who["value"] = self.get("to", "margin_type")
            elif verb == "countdown":
                who["value"] = self.get("after", "duration")
            else:
                who["position_side"] = self.get("position_side", "leg")
                amount = g.get("amount", 0)
                who["value"] = self.file.quanta(self.where, "amount", amount, symbol.asset)
            return [Command(Kind[verb.upper()], who)]
        if verb == "position_mode":
            return [Command(Kind.POSITION_MODE, {**who, "value": self.get("to", "position_mode")})]
        if verb == "fee_rates":
            return [Command(Kind.FEE_RATES, {**who, **self.file.fees(self.where, g)})]
        if verb == "account_state":
            state = {"state": self.get("to", "state"), "cancel": int(self.flag("cancel"))}
            return [Command(Kind.ACCOUNT, {**who, **state})]
        asset, quanta = self.asset_number()
        who |= {"asset": asset, "amount_quanta": quanta}
        if request := self.text("request"):
            who["client_id"] = request
        if verb == "transfer":
            who["reference"] = self.account("to", g.get("to"))
        return [Command(Kind[verb.upper()], who)]

    def request(self, subject: Any) -> list[Command]:
        account = self.account("account", self.given.get("account"))
        asset, quanta = self.asset_number()
        fields = {
            "account": account,
            "asset": asset,
            "amount_quanta": quanta,
            "principal": self.get("principal", "count", default=1),
        }
        label = self.new_label(subject, Label("request", account, None))
        return [Command(Kind[self.verb.upper()], fields, label=label)]

    def answer_request(self, subject: Any) -> list[Command]:
        label = self.label(subject, "request")
        if label is None:
            return []
        fields: dict[str, Any] = {
            "account": label.account,
            "principal": self.get("principal", "count", default=1),
        }
        if self.verb == "settle_withdraw" and "fee" in self.given:
            fields["fee_quanta"] = self.asset_number("fee")[1]
        return [Command(Kind[self.verb.upper()], fields, str(subject), "reference")]

    def about_symbol(self, symbol: Symbol) -> list[Command]:
        verb, where = self.verb, {"symbol": symbol.number}
        if verb == "symbol_state":
            state = {"state": self.get("to", "state"), "cancel": int(self.flag("cancel"))}
            return [Command(Kind.SYMBOL_STATE, {**where, **state})]
        if verb == "change_symbol":
            return self.change_symbol(symbol)
        if verb in ("cancel_symbol", "sample"):
            return [Command(Kind[verb.upper()], where)]
        price = self.get("price", "price", symbol)
        if verb == "mark":
            return [Command(Kind.MARK, {**where, "mark_ticks": price})]
        if verb == "settle_symbol":
            return [Command(Kind.SETTLE_SYMBOL, {**where, "settle_ticks": price})]
        names = list(symbol.sources)
        if "source" in self.given:
            found = self.file.choice(
                self.where, "source", self.given["source"], {n: n for n in names}
            )
            names = [found] if found else []
        elif not names:
            self.file.problem(
                self.where, f"{symbol.name} has no sources: symbols.{symbol.name}.sources"
            )
        at = {"source_ns": self.get("at", "instant", default=self.file.now_ns)}
        return [
            Command(
                Kind.SOURCE_PRICE,
                {**where, **at, "source": symbol.sources[name][0], "source_ticks": price},
            )
            for name in names
        ]

    def change_symbol(self, symbol: Symbol) -> list[Command]:
        fixed = ("asset", "tick", "lot", "mark", "state", "sources")
        for key in fixed:
            if key in self.given:
                self.file.problem(self.where, f"{key} can't be changed here")
        given = {k: v for k, v in self.given.items() if k not in (*fixed, *keys.STEP)}
        self.file.change(self.where, symbol, given)
        found = [declaration(symbol)]
        if any(key in CONTRACT_FIELDS for key in given):
            found.append(Command(Kind.CONTRACT, {"symbol": symbol.number, **symbol.contract}))
        if "brackets" in given or "maintenance" in given:
            found += brackets(symbol)
        return found


def declaration(symbol: Symbol) -> Command:
    """The SYMBOL command of a symbol as it stands."""
    fields = {
        "symbol": symbol.number,
        "name": symbol.name,
        "asset": symbol.asset.number,
        "tick_lot_quanta": symbol.tick_lot_quanta,
        **symbol.parameters,
    }
    return Command(Kind.SYMBOL, fields)


def brackets(symbol: Symbol) -> list[Command]:
    return [Command(Kind.BRACKET, {"symbol": symbol.number, **row}) for row in symbol.brackets]


class ExpectReader:
    """Reads what a step expects."""

    def __init__(self, file: FileReader, where: str) -> None:
        self.file = file
        self.scenario = file.scenario
        self.where = f"{where} expect" if where.startswith((",", ":")) else f", {where}"

    def problem(self, text: str) -> None:
        self.file.problem(self.where, text)

    def expect(self, data: Any) -> Expect:
        expect = Expect()
        if not isinstance(data, dict):
            self.problem(f"{quoted(data)} stands where a table of keys must be")
            return expect
        known = [*keys.ANSWER, *keys.EVENTS, *keys.STATE, *keys.ROWS, *keys.PURSES]
        for name, value in data.items():
            key = key_of(name, known)
            if key in keys.ANSWER:
                want = self.want(key, key, keys.ANSWER[key], value)
                if want:
                    expect.answer[key] = want
            elif key in keys.EVENTS:
                rows = self.rows(key, key, (), keys.EVENTS[key], value)
                expect.events += [rows] if rows else []
            elif key in keys.PURSES:
                self.purse(expect, key, value)
            elif key in ("position", "balance", "claims"):
                self.by_account(expect, key, value)
            elif key in keys.STATE or key == "book":
                self.by_name(expect, key, value)
            elif key == "venue":
                self.fields(expect, "venue", "venue", (), keys.VENUE, value)
            else:
                self.problem(
                    f"no such key: {name}{perhaps(plain(name).lower(), [*known, 'venue'])}"
                )
        return expect

    # ------------------------------------------------------------ where

    def purse(self, expect: Expect, key: str, value: Any) -> None:
        assets = self.scenario.assets
        table = value if isinstance(value, dict) else {next(iter(assets)): value}
        for name, own in table.items():
            asset = self.file.choice(self.where, f"{key}.{name}", name, assets)
            if asset is not None:
                what = f"{key}.{name}" if len(assets) > 1 else key
                want = self.want(what, "wallet", keys.BALANCE["wallet"], own)
                account = {"fund": "FUND", "fees": "FEES", "dust": "DUST"}[key]
                if want:
                    key_ = (self.scenario.numbers[account], asset)
                    expect.state.append(Check(what, "balance", key_, "wallet", want))

    def by_account(self, expect: Expect, table: str, value: Any) -> None:
        if not isinstance(value, dict):
            self.problem(f"{table} must be by account, as {table}.NAME = ...")
            return
        for name, own in value.items():
            account = self.file.choice(self.where, f"{table}.{name}", name, self.scenario.numbers)
            if account is None:
                continue
            if table == "balance":
                self.balance(expect, f"{table}.{name}", account, own)
            else:
                self.position(expect, table, f"{table}.{name}", account, None, None, own)

    def balance(self, expect: Expect, what: str, account: int, value: Any) -> None:
        assets = self.scenario.assets
        if isinstance(value, dict) and value and all(name in assets for name in value):
            for name, own in value.items():
                key = (account, assets[name])
                self.fields(expect, f"{what}.{name}", "balance", key, keys.BALANCE, own)
            return
        key = (account, next(iter(assets.values())))
        self.fields(expect, what, "balance", key, keys.BALANCE, value)

    def position(
        self,
        expect: Expect,
        table: str,
        what: str,
        account: int,
        symbol: Symbol | None,
        leg: PositionSide | None,
        value: Any,
    ) -> None:
        """`position.Ann`, and below it symbols and legs as far as they are named."""
        own = value
        if isinstance(value, dict):
            own = {}
            for name, inner in value.items():
                if symbol is None and leg is None and name in self.scenario.symbols:
                    at = self.scenario.symbols[name]
                    self.position(expect, table, f"{what}.{name}", account, at, None, inner)
                elif leg is None and plain(name) in PositionSide.__members__:
                    side = PositionSide[plain(name)]
                    self.position(expect, table, f"{what}.{name}", account, symbol, side, inner)
                else:
                    own[name] = inner
            if not own:
                return
        if symbol is None:
            if len(self.scenario.symbols) != 1:
                names = ", ".join(self.scenario.symbols)
                self.problem(f"{what}: which symbol? {what}.SYMBOL = ..., one of {names}")
                return
            symbol = next(iter(self.scenario.symbols.values()))
        key = (account, symbol, leg if leg is not None else PositionSide.BOTH)
        if table == "claims":
            rows = self.rows(what, "claims", key, keys.CLAIM, own)
            expect.state += [rows] if rows else []
        else:
            self.fields(expect, what, "position", key, keys.POSITION, own)

    def by_name(self, expect: Expect, table: str, value: Any) -> None:
        if table in ("symbol", "book"):
            known: dict[str, Any] = self.scenario.symbols
        else:
            known = {
                n: n
                for n, label in self.scenario.labels.items()
                if label.kind == "order" and (label.algo or table == "order")
            }
        if table in ("symbol", "book") and len(known) == 1:
            only = next(iter(known))
            if not isinstance(value, dict) or only not in value:
                value = {only: value}
        if not isinstance(value, dict):
            self.problem(f"{table} must be by name, as {table}.NAME = ...")
            return
        for name, own in value.items():
            about = self.file.choice(self.where, f"{table}.{name}", name, known)
            if about is None:
                continue
            what = f"{table}.{name}"
            if table == "book":
                self.book(expect, what, about, own)
            else:
                self.fields(expect, what, table, (about,), keys.STATE[table][1], own)

    def book(self, expect: Expect, what: str, symbol: Symbol, value: Any) -> None:
        if not isinstance(value, dict):
            self.problem(f"{what} must be tables of bids and asks")
            return
        for name, levels in value.items():
            side = {"BIDS": Side.BUY, "ASKS": Side.SELL}.get(plain(name))
            if side is None or not isinstance(levels, list):
                self.problem(f"{what}.{name} must be a list of levels, as bids = [[90, 30]]")
                continue
            tables = [
                dict(zip(("price", "qty"), level, strict=True))
                if isinstance(level, list) and len(level) == 2
                else level
                for level in levels
            ]
            rows = self.rows(f"{what}.{name}", "book", (symbol, side), keys.LEVEL, tables)
            expect.state += [rows] if rows else []

    # ------------------------------------------------------------ values

    def fields(
        self,
        expect: Expect,
        what: str,
        table: str,
        key: tuple[Any, ...],
        known: dict[str, keys.Key],
        value: Any,
    ) -> None:
        """Every field named, or the usual one for a plain value."""
        if not isinstance(value, dict):
            value = {keys.STATE[table][2]: value} if table in keys.STATE else {}
        for name, own in value.items():
            field = key_of(name, known)
            if field not in known:
                hint = perhaps(plain(name).lower(), list(known))
                self.problem(f"{what} has no {name}{hint}")
                continue
            want = self.want(f"{what}.{field}", field, known[field], own)
            if want:
                expect.state.append(Check(f"{what}.{field}", table, key, field, want))

    def rows(
        self, what: str, table: str, key: tuple[Any, ...], known: dict[str, keys.Key], value: Any
    ) -> Rows | None:
        if isinstance(value, int | str) and not isinstance(value, bool):
            count = self.want(what, "count", keys.Key("number", ""), value)
            return Rows(what, table, key, [], count) if count else None
        if isinstance(value, dict):
            value = [value]
        if not isinstance(value, list):
            self.problem(f"{what} = {quoted(value)}, must be a list, or how many")
            return None
        found = []
        for k, row in enumerate(value, 1):
            if isinstance(row, str):
                row = {"order" if "order" in known else "account": row}
            if not isinstance(row, dict):
                self.problem(f"{what}[{k}] = {quoted(row)}, must be a table")
                continue
            wants: dict[str, Want] = {}
            for name, own in row.items():
                field = key_of(name, known)
                if field not in known:
                    hint = perhaps(plain(name).lower(), list(known))
                    self.problem(f"{what}[{k}] has no {name}{hint}")
                    continue
                want = self.want(f"{what}[{k}].{field}", field, known[field], own)
                if want:
                    wants[field] = want
            found.append(wants)
        return Rows(what, table, key, found)

    def want(self, what: str, field: str, key: keys.Key, value: Any) -> Want | None:
        """What a value shall be, by the type of its field."""
        start = self.file.now_ns

        def read() -> Want:
            if key.type == "number":
                return want_number(value)
            if key.type == "rate":
                return want_number(value, share=True)
            if key.type == "name":
                return want_name(value, NAMES[field])
            if key.type == "flag":
                return want_flag(value)
            if key.type == "instant":
                return want_instant(value, start)
            if key.type == "list":
                names = value if isinstance(value, list) else [value]
                return Want(" ".join(map(str, names)), "=", " ".join(map(str, names)))
            return self.name(key.type, value)

        found: Want | None = self.file.attempt(self.where, what, value, read)
        return found

    def name(self, kind: str, value: Any) -> Want:
        if isinstance(value, list):
            wants = [self.name(kind, one) for one in value]
            return Want(" or ".join(w.text for w in wants), "any", wants)
        known: Any = self.scenario.symbols
        if kind == "account":
            known = self.scenario.numbers
        elif kind == "order":
            known = self.scenario.labels
        if isinstance(value, str) and value in known:
            return Want(value, "=", value)
        if isinstance(value, str) and value.lower() == "none":
            return Want("none", "none")
        raise ValueError(f"none or one of {', '.join(known)}{perhaps(str(value), list(known))}")
