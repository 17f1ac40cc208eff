"""A scenario file, read and checked: names become numbers, decimals become ticks, lots, quanta.

Reads   one TOML file (tools/scenariokeys.py has every key).
Writes  a Scenario: declarations, steps as engine commands, expectations as comparisons.
Never   starts an engine: a file that can't be right is refused before anything runs, with every
        problem in it, each with its step, line, key, what was found and what is wanted.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from shm.codes import (
    AlgoType,
    Kind,
    MarginType,
    PositionMode,
    PositionSide,
    Side,
    State,
    Stp,
    Tif,
    Type,
    Working,
)
from shm.units import (
    BRACKETS_MAX,
    NOTIONAL_QUANTA_MAX,
    PPB,
    PPM,
    PRICE_TICKS_MAX,
    QTY_LOTS_MAX,
    SCALE_MAX,
    SHARDS_MAX,
    SOURCES_MAX,
    SYSTEM_ACCOUNTS,
    WEIGHT_MAX,
)
from tools import scenariokeys as keys
from tools.scenariomodel import (
    CONTRACT_FIELDS,
    VENUE_ACCOUNTS,
    Account,
    Asset,
    Command,
    Expect,
    Scenario,
    ScenarioError,
    Step,
    Symbol,
)
from tools.scenariosteps import ExpectReader, StepReader, brackets, declaration
from tools.scenariounits import (
    decimal,
    duration_ns,
    instant_ns,
    key_of,
    parts,
    perhaps,
    plain,
    quoted,
    rate,
    whole,
)

ENUMS: Final[dict[str, Any]] = {
    "side": Side,
    "type": Type,
    "tif": Tif,
    "stp": Stp,
    "leg": PositionSide,
    "margin_type": MarginType,
    "position_mode": PositionMode,
    "algo_type": AlgoType,
    "working": Working,
    "state": State,
}
SYNONYMS: Final = {
    ("tif", "POST_ONLY"): "GTX",
    ("position_mode", "ONEWAY"): "ONE_WAY",
    ("margin_type", "CROSSED"): "CROSS",
    ("side", "B"): "BUY",
    ("side", "S"): "SELL",
    ("working", "CONTRACT_PRICE"): "LAST",
    ("working", "LAST_PRICE"): "LAST",
    ("working", "MARK_PRICE"): "MARK",
    ("algo_type", "STOP_LIMIT"): "STOP",
    ("algo_type", "STOP_LOSS"): "STOP_MARKET",
    ("algo_type", "TAKE_PROFIT_LIMIT"): "TAKE_PROFIT",
    ("algo_type", "TRAILING_STOP"): "TRAILING_STOP_MARKET",
}
SYMBOL_FIELDS: Final = {  # key -> field of SYMBOL_COMMAND
    "leverage": "leverage_default",
    "leverage_max": "leverage_max",
    "maker_fee": "maker_fee_ppm",
    "taker_fee": "taker_fee_ppm",
    "qty_min": "qty_lots_min",
    "qty_max": "qty_lots_max",
    "price_min": "price_ticks_min",
    "price_max": "price_ticks_max",
    "notional_min": "notional_quanta_min",
    "band": "band_ppm",
    "market_band": "market_ppm",
    "orders_max": "orders_max",
    "state": "state",
}
FUNDING_DEFAULTS: Final = {
    "interest_ppb": 100_000,
    "funding_clamp_ppb": 500_000,
    "funding_cap_ppb": 3_000_000,
    "funding_floor_ppb": -3_000_000,
    "source_clamp_ppm": 10_000,
    "algos_max": 100,
}


def load(path: Path) -> Scenario:
    """Read a file; ScenarioError lists every problem in it."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: can't be read: {error}") from error
    return parse(text, str(path))


def parse(text: str, path: str) -> Scenario:
    """The same of text; `path` is what errors call it."""
    try:
        data = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{path}: no TOML: {error}") from error
    reader = FileReader(path, text)
    scenario = reader.file(data)
    if reader.problems:
        raise ScenarioError("\n".join(reader.problems))
    return scenario


class FileReader:
    """One pass over a file, collecting what is wrong with it."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.problems: list[str] = []
        headers = [
            number
            for number, line in enumerate(text.splitlines(), 1)
            if re.match(r"\s*\[\[\s*steps?\s*\]\]", line)
        ]
        self.lines = headers
        self.now_ns = 0

    # ------------------------------------------------------------ problems

    def problem(self, where: str, text: str) -> None:
        line = f"{self.path}{where}: {text}"
        if line not in self.problems:
            self.problems.append(line)

    def attempt(self, where: str, key: str, value: Any, read: Callable[[], Any]) -> Any:
        """What `read` makes of a value, or a problem noted and None."""
        try:
            return read()
        except ValueError as error:
            self.problem(where, f"{key} = {quoted(value)}, must be {error}")
            return None

    def table(self, where: str, data: Any, known: dict[str, keys.Key]) -> dict[str, Any]:
        """Keys of a table under their usual spelling; unknown and missing ones noted."""
        if not isinstance(data, dict):
            self.problem(where, f"{quoted(data)} stands where a table of keys must be")
            return {}
        found: dict[str, Any] = {}
        for key, value in data.items():
            name = key_of(key, known)
            if name not in known:
                self.problem(where, f"no such key: {key}{perhaps(name, list(known))}")
            elif name in found:
                self.problem(where, f"{key} is said twice")
            else:
                found[name] = value
        for name, key_ in known.items():
            if key_.needed and name not in found:
                self.problem(where, f"{name} is missing: {key_.meaning}")
        return found

    # ------------------------------------------------------------ the file

    def file(self, data: dict[str, Any]) -> Scenario:
        top = self.table("", data, keys.FILE)
        start = self.attempt(
            "", "start", top.get("start"), lambda: instant_ns(top.get("start", keys.START), 0)
        )
        self.now_ns = start or 0
        self.scenario = s = Scenario(
            path=self.path,
            title=str(top.get("title", Path(self.path).stem)),
            start_ns=self.now_ns,
            assets=self.assets(top.get("assets", {"USDT": {}})),
            symbols={},
            accounts={},
            fund={},
            shards=self.numbers("shards", top.get("shards", [1, 2, 3]), 1, SHARDS_MAX) or [1],
            seeds=self.numbers("seeds", top.get("seeds", [1, 2, 3, 4]), 0, 1 << 31),
            scan=self.flag("", "scan", top.get("scan", True)),
        )
        for name, symbol in self.named("symbols", top.get("symbols", {"BTC": {}})):
            self.symbol(name, symbol)
        for name, account in self.named("accounts", top.get("accounts", {})):
            self.account(name, account)
        s.fund = self.money_by_asset("", "fund", top.get("fund", 0))
        s.setup = self.setup()
        rows = top.get("steps", [])
        if not isinstance(rows, list):
            self.problem("", "steps must be a list: begin each one with [[steps]]")
            rows = []
        for number, row in enumerate(rows, 1):
            line = self.lines[number - 1] if len(self.lines) == len(rows) else 0
            s.steps.append(self.step(str(number), line, row))
        last = Step("", 0)
        last.expect = self.expect("[expect]", top.get("expect", {}))
        s.steps.append(last)
        return s

    def setup(self) -> list[Command]:
        """Everything that is declared, as commands; before steps change any of it."""
        s = self.scenario
        found = [
            Command(Kind.ASSET, {"asset": a.number, "scale": a.scale, "name": a.name})
            for a in s.assets.values()
        ]
        for symbol in s.symbols.values():
            where = {"symbol": symbol.number}
            found.append(declaration(symbol))
            if symbol.contract:
                found.append(Command(Kind.CONTRACT, {**where, **symbol.contract}))
            found += brackets(symbol)
            for number, weight in symbol.sources.values():
                found.append(Command(Kind.SOURCE, {**where, "source": number, "weight": weight}))
            if symbol.mark:
                found.append(Command(Kind.MARK, {**where, "mark_ticks": symbol.mark}))
        for asset, quanta in s.fund.items():
            found.append(_deposit(VENUE_ACCOUNTS["FUND"], asset, quanta))
        for account in s.accounts.values():
            found.append(Command(Kind.ACCOUNT, {"account": account.number, "state": State.TRADING}))
            found += [_deposit(account.number, a, q) for a, q in account.deposits.items()]
            found += [Command(kind, fields) for kind, fields in account.commands]
        return found

    def named(self, what: str, data: Any) -> list[tuple[str, Any]]:
        """Pairs of a table, or of a list of names; bad names noted."""
        if isinstance(data, list) and all(isinstance(name, str) for name in data):
            data = {name: {} for name in data}
        if not isinstance(data, dict):
            self.problem("", f"{what} must be tables by name, as [{what}.NAME]")
            return []
        pairs = []
        for name, value in data.items():
            if not re.fullmatch(r"[A-Za-z][\w-]{0,15}", name):
                self.problem("", f"{what}.{name}: a name is a letter and up to 15 more characters")
            pairs.append((name, value))
        return pairs

    def numbers(self, key: str, value: Any, low: int, high: int) -> list[int]:
        values = value if isinstance(value, list) else [value]
        for number in values:
            if type(number) is not int or not low <= number <= high:
                self.problem("", f"{key} = {quoted(value)}, must be numbers of {low} to {high}")
                return []
        return list(values)

    def assets(self, data: Any) -> dict[str, Asset]:
        found: dict[str, Asset] = {}
        for name, table in self.named("assets", data):
            where = f", assets.{name}"
            fields = self.table(where, table, keys.ASSET)
            scale = self.count(where, "scale", fields.get("scale", 8), 0, SCALE_MAX)
            found[name] = Asset(name, len(found), scale)
        if not found:
            self.problem("", "assets: at least one is needed")
            found["USDT"] = Asset("USDT", 0, 8)
        return found

    def symbol(self, name: str, data: Any) -> None:
        s = self.scenario
        where = f", symbols.{name}"
        given = self.table(where, data, {**keys.SYMBOL, **keys.CONTRACT})
        asset = next(iter(s.assets.values()))
        if "asset" in given:
            asset = self.choice(where, "asset", given["asset"], s.assets) or asset
        steps: dict[str, Decimal] = {}
        for key in ("tick", "lot"):
            value = given.get(key, keys.SYMBOL[key].default)
            step = self.attempt(where, key, value, lambda v=value: decimal(v))  # type: ignore[misc]
            if step is not None and step <= 0:
                self.problem(where, f"{key} = {value}, must be above 0")
            steps[key] = step if step is not None and step > 0 else Decimal("0.01")
        worth = steps["tick"] * steps["lot"]
        unit = self.attempt(where, "tick * lot", worth, lambda: whole(worth, asset.unit, "units"))
        symbol = Symbol(name, len(s.symbols), asset, steps["tick"], steps["lot"], unit or 1)
        people = steps["tick"] / asset.unit
        whole_tick = people == people.to_integral_value() and symbol.tick_lot_quanta % people == 0
        s.symbols[name] = symbol
        symbol.parameters = {
            "leverage_default": 10,
            "leverage_max": 125,
            "qty_lots_min": 1,
            "qty_lots_max": min(QTY_LOTS_MAX, NOTIONAL_QUANTA_MAX // symbol.tick_lot_quanta),
            "price_ticks_min": 1,
            "price_ticks_max": min(PRICE_TICKS_MAX, NOTIONAL_QUANTA_MAX // symbol.tick_lot_quanta),
            "orders_max": 200,
            "state": State.TRADING,
            "tick_quanta": int(people) if whole_tick else 0,
        }
        self.change(where, symbol, given)
        if "mark" in given:
            symbol.mark = self.ticks(where, "mark", given["mark"], symbol)
        self.sources(where, symbol, given.get("sources", {}))

    def change(self, where: str, symbol: Symbol, given: dict[str, Any]) -> None:
        """Take parameters, contract and brackets over into a symbol."""
        known = {**keys.SYMBOL, **keys.CONTRACT}
        for key, to in SYMBOL_FIELDS.items():
            if key in given:
                symbol.parameters[to] = self.value(where, key, given[key], known[key].type, symbol)
        contract = {k: v for k, v in given.items() if k in CONTRACT_FIELDS}
        if (contract or given.get("sources")) and not symbol.contract:
            symbol.contract = {**FUNDING_DEFAULTS, "funding_first_ns": self.scenario.start_ns}
        for key, value in contract.items():
            kind = known[key].type
            field_ = CONTRACT_FIELDS[key]
            if kind == "rate" and field_.endswith("ppb"):
                kind = "rate_ppb"
            symbol.contract[field_] = self.value(where, key, value, kind, symbol)
        if "maintenance" in given:
            ppm = self.value(where, "maintenance", given["maintenance"], "rate", symbol)
            symbol.brackets = [
                {
                    "index": 0,
                    "floor_quanta": 0,
                    "cap_quanta": 1 << 60,
                    "maintenance_ppm": ppm,
                    "bracket_leverage_max": symbol.parameters["leverage_max"],
                }
            ]
        if "brackets" in given:
            self.brackets(where, symbol, given["brackets"])

    def brackets(self, where: str, symbol: Symbol, rows: Any) -> None:
        if not isinstance(rows, list) or not 1 <= len(rows) <= BRACKETS_MAX:
            self.problem(where, f"brackets must be a list of 1 to {BRACKETS_MAX} tables")
            return
        symbol.brackets, floor = [], 0
        for index, row in enumerate(rows):
            at = f"{where}, brackets[{index}]"
            given = self.table(at, row, keys.BRACKET)
            read = {
                key: self.value(at, key, given.get(key, 0), keys.BRACKET[key].type, symbol)
                for key in keys.BRACKET
            }
            symbol.brackets.append(
                {
                    "index": index,
                    "floor_quanta": floor,
                    "cap_quanta": read["cap"],
                    "maintenance_ppm": read["maintenance"],
                    "bracket_leverage_max": read["leverage"],
                }
            )
            floor = read["cap"]

    def sources(self, where: str, symbol: Symbol, data: Any) -> None:
        if isinstance(data, list):
            data = dict.fromkeys(data, 1)
        if not isinstance(data, dict) or len(data) > SOURCES_MAX:
            self.problem(where, f"sources must be weights by name, at most {SOURCES_MAX}")
            return
        for number, (name, weight) in enumerate(data.items()):
            read = self.count(f"{where}, sources", str(name), weight, 1, WEIGHT_MAX)
            symbol.sources[str(name)] = (number, read)

    def account(self, name: str, data: Any) -> None:
        s = self.scenario
        where = f", accounts.{name}"
        if name.upper() in VENUE_ACCOUNTS:
            self.problem(where, f"{name} is the venue's own")
        if not isinstance(data, dict):
            data = {"deposit": data}
        given = self.table(where, data, keys.ACCOUNT)
        account = Account(name, SYSTEM_ACCOUNTS + len(s.accounts))
        s.accounts[name] = account
        account.deposits = self.money_by_asset(where, "deposit", given.get("deposit", 0))
        who = {"account": account.number}
        if "position_mode" in given:
            mode = self.enum(where, "position_mode", given["position_mode"], "position_mode")
            if mode:
                account.commands.append((Kind.POSITION_MODE, {**who, "value": mode}))
        for symbol, value in self.by_symbol(where, "margin_type", given.get("margin_type")):
            kind = self.enum(where, "margin_type", value, "margin_type")
            if kind:
                at = {**who, "symbol": symbol.number}
                account.commands.append((Kind.MARGIN_TYPE, {**at, "value": kind}))
        for symbol, value in self.by_symbol(where, "leverage", given.get("leverage")):
            leverage = self.count(where, "leverage", value, 1, 1 << 20)
            at = {**who, "symbol": symbol.number}
            account.commands.append((Kind.LEVERAGE, {**at, "leverage": leverage}))
        fees = [key for key in ("maker_fee", "taker_fee") if key in given]
        if fees:
            if len(fees) == 1:
                self.problem(where, "maker_fee and taker_fee go together")
            account.commands.append((Kind.FEE_RATES, {**who, **self.fees(where, given)}))

    def fees(self, where: str, given: dict[str, Any]) -> dict[str, int]:
        if "maker_fee" not in given and "taker_fee" not in given:
            return {"own": 0}
        return {
            "own": 1,
            "maker_fee_ppm": self.value(where, "maker_fee", given.get("maker_fee", 0), "rate"),
            "taker_fee_ppm": self.value(where, "taker_fee", given.get("taker_fee", 0), "rate"),
        }

    def by_symbol(self, where: str, key: str, value: Any) -> list[tuple[Symbol, Any]]:
        """A value for all symbols, or one each."""
        symbols = self.scenario.symbols
        if value is None:
            return []
        if not isinstance(value, dict):
            return [(symbol, value) for symbol in symbols.values()]
        pairs = []
        for name, own in value.items():
            symbol = self.choice(where, f"{key}.{name}", name, symbols)
            if symbol is not None:
                pairs.append((symbol, own))
        return pairs

    def money_by_asset(self, where: str, key: str, value: Any) -> dict[Asset, int]:
        assets = self.scenario.assets
        if not isinstance(value, dict):
            value = {next(iter(assets)): value}
        found = {}
        for name, amount in value.items():
            asset = self.choice(where, f"{key}.{name}", name, assets)
            if asset is not None:
                quanta = self.quanta(where, key, amount, asset)
                if quanta < 0:
                    self.problem(where, f"{key} = {quoted(amount)}, must not be below 0")
                if quanta:
                    found[asset] = quanta
        return found

    # ------------------------------------------------------------ values

    def choice(self, where: str, key: str, value: Any, known: dict[str, Any]) -> Any:
        """What a name stands for, in any case where that is clear; or a problem and None."""
        if isinstance(value, str):
            if value in known:
                return known[value]
            same = [name for name in known if name.lower() == value.lower()]
            if len(same) == 1:
                return known[same[0]]
        names = ", ".join(known) or "none is declared"
        hint = perhaps(str(value), list(known))
        self.problem(where, f"{key} = {quoted(value)}, must be one of {names}{hint}")
        return None

    def enum(self, where: str, key: str, value: Any, kind: str) -> int:
        enum = ENUMS[kind]
        if isinstance(value, str):
            name = plain(value)
            name = SYNONYMS.get((kind, name), name)
            if name in enum.__members__:
                return int(enum[name])
        names = ", ".join(enum.__members__)
        self.problem(where, f"{key} = {quoted(value)}, must be one of {names}")
        return 0

    def flag(self, where: str, key: str, value: Any) -> bool:
        if not isinstance(value, bool):
            self.problem(where, f"{key} = {quoted(value)}, must be true or false")
        return value is True

    def count(self, where: str, key: str, value: Any, low: int, high: int) -> int:
        number = self.attempt(where, key, value, lambda: whole(decimal(value), Decimal(1), "units"))
        if number is None:
            return low
        if not low <= number <= high:
            self.problem(where, f"{key} = {number}, must be {low} to {high}")
            return low
        return int(number)

    def ticks(self, where: str, key: str, value: Any, symbol: Symbol) -> int:
        read = self.attempt(
            where, key, value, lambda: whole(decimal(value), symbol.tick, f"{symbol.name} ticks")
        )
        return int(read or 0)

    def quanta(self, where: str, key: str, value: Any, asset: Asset) -> int:
        read = self.attempt(
            where, key, value, lambda: whole(decimal(value), asset.unit, f"{asset.name} units")
        )
        return int(read or 0)

    def value(
        self, where: str, key: str, value: Any, kind: str, symbol: Symbol | None = None
    ) -> int:
        """A value of one of the simple types as the integer its command carries."""
        if kind == "price":
            assert symbol is not None
            return self.ticks(where, key, value, symbol)
        if kind == "qty":
            assert symbol is not None
            lot, name = symbol.lot, f"{symbol.name} lots"
            read = self.attempt(where, key, value, lambda: whole(decimal(value), lot, name))
        elif kind == "money":
            assert symbol is not None
            return self.quanta(where, key, value, symbol.asset)
        elif kind == "rate":
            read = self.attempt(where, key, value, lambda: parts(rate(value), PPM))
        elif kind == "rate_ppb":
            read = self.attempt(where, key, value, lambda: parts(rate(value), PPB))
        elif kind == "duration":
            read = self.attempt(where, key, value, lambda: duration_ns(value))
        elif kind == "instant":
            read = self.attempt(where, key, value, lambda: instant_ns(value, self.now_ns))
        elif kind == "flag":
            return int(self.flag(where, key, value))
        elif kind == "count":
            return self.count(where, key, value, 0, 1 << 31)
        else:
            return self.enum(where, key, value, kind)
        return int(read or 0)

    # ------------------------------------------------------------ steps

    def step(self, number: str, line: int, row: Any) -> Step:
        return StepReader(self).step(number, line, row)

    def expect(self, where: str, data: Any) -> Expect:
        return ExpectReader(self, where).expect(data)


def _deposit(account: int, asset: Asset, quanta: int) -> Command:
    fields = {"account": account, "asset": asset.number, "amount_quanta": quanta}
    return Command(Kind.DEPOSIT, fields)
