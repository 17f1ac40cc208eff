"""What a scenario file says once names are numbers: declarations, steps, comparisons."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

from shm.codes import (
    AlgoStatus,
    Cause,
    Flip,
    Kind,
    LiquidationStep,
    MarginType,
    Move,
    Reason,
    State,
    Status,
)
from shm.units import ADJUST_ACCOUNT, DUST_ACCOUNT, FEE_ACCOUNT, INSURANCE_ACCOUNT
from tools.scenariounits import Want

VENUE_ACCOUNTS: Final = {
    "FUND": INSURANCE_ACCOUNT,
    "FEES": FEE_ACCOUNT,
    "DUST": DUST_ACCOUNT,
    "ADJUST": ADJUST_ACCOUNT,
}
NAMES: Final[dict[str, list[str]]] = {
    "status": sorted({*Status.__members__, *AlgoStatus.__members__, "ACCEPTED"}),
    "reason": list(Reason.__members__),
    "cause": list(Cause.__members__),
    "to": list(Flip.__members__),
    "step": list(LiquidationStep.__members__),
    "why": list(Move.__members__),
    "margin_type": list(MarginType.__members__),
    "state": list(State.__members__),
    "side": ["LONG", "SHORT", "FLAT"],
}

CONTRACT_FIELDS: Final = {
    "funding_interval": "funding_interval_ns",
    "funding_first": "funding_first_ns",
    "impact_notional": "impact_quanta",
    "interest": "interest_ppb",
    "funding_clamp": "funding_clamp_ppb",
    "funding_cap": "funding_cap_ppb",
    "funding_floor": "funding_floor_ppb",
    "mark_band": "mark_band_ppm",
    "source_clamp": "source_clamp_ppm",
    "source_stale": "source_stale_ns",
    "liquidation_fee": "liquidation_fee_ppm",
    "price_protect": "protect_ppm",
    "breaker": "breaker_ppm",
    "breaker_window": "breaker_window_ns",
    "breaker_pause": "breaker_pause_ns",
    "algos_max": "algos_max",
    "position_max": "position_quanta_max",
}


class ScenarioError(ValueError):
    """A file that can't be a scenario; one line a problem."""


class Asset(NamedTuple):
    name: str
    number: int
    scale: int

    @property
    def unit(self) -> Decimal:
        return Decimal(1).scaleb(-self.scale)


@dataclass
class Symbol:
    """A declared contract; `parameters` and `contract` are fields of its commands."""

    name: str
    number: int
    asset: Asset
    tick: Decimal
    lot: Decimal
    tick_lot_quanta: int
    parameters: dict[str, int] = field(default_factory=dict)
    contract: dict[str, int] = field(default_factory=dict)
    brackets: list[dict[str, int]] = field(default_factory=list)
    sources: dict[str, tuple[int, int]] = field(default_factory=dict)  # name -> number, weight
    mark: int = 0


@dataclass
class Account:
    name: str
    number: int
    deposits: dict[Asset, int] = field(default_factory=dict)
    commands: list[tuple[Kind, dict[str, int]]] = field(default_factory=list)


class Command(NamedTuple):
    """A command, but for the id of the order it is about, which only the venue knows."""

    kind: Kind
    fields: dict[str, Any]
    about: str = ""  # label whose id goes into `id_field`
    id_field: str = ""
    label: str = ""  # what this one creates is called so


class Check(NamedTuple):
    """One value that shall be: what it is called, where to find it, what it shall be."""

    what: str
    table: str
    key: tuple[Any, ...]
    field: str
    want: Want


class Rows(NamedTuple):
    """A list that shall be so and no longer; or, with `many`, of so many rows."""

    what: str
    table: str
    key: tuple[Any, ...]
    rows: list[dict[str, Want]]
    many: Want | None = None


@dataclass
class Expect:
    """Of one step: its answer, what happened, and what is so after it."""

    answer: dict[str, Want] = field(default_factory=dict)
    events: list[Rows] = field(default_factory=list)
    state: list[Check | Rows] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.answer) + len(self.events) + len(self.state)


@dataclass
class Step:
    """One step: commands of its own, or a verb that is more than a command, or steps inside."""

    number: str
    line: int
    verb: str = ""
    text: str = ""
    note: str = ""
    commands: list[Command] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    inner: list[Step] = field(default_factory=list)
    expect: Expect = field(default_factory=Expect)

    def where(self, file: str) -> str:
        at = f"{file}:{self.line}" if self.line else file
        return f"{at}, step {self.number}" if self.number else f"{at}, at the end"


@dataclass
class Label:
    """What a name of the file stands for."""

    kind: str  # order, request
    account: int
    symbol: Symbol | None
    algo: bool = False
    client_id: str = ""


@dataclass
class Scenario:
    """A whole file."""

    path: str
    title: str
    start_ns: int
    assets: dict[str, Asset]
    symbols: dict[str, Symbol]
    accounts: dict[str, Account]
    fund: dict[Asset, int]
    shards: list[int]
    seeds: list[int]
    scan: bool
    steps: list[Step] = field(default_factory=list)
    labels: dict[str, Label] = field(default_factory=dict)
    setup: list[Command] = field(default_factory=list)

    @property
    def numbers(self) -> dict[str, int]:
        """Account numbers by name, the venue's own too."""
        return {**VENUE_ACCOUNTS, **{a.name: a.number for a in self.accounts.values()}}
