"""What the demo trades: contracts, brackets, accounts, and the commands that declare them.

Reads   nothing.
Writes  COMMAND rows; whoever sends them numbers them.
Never   knows what exists already: a command for what is there is refused, or changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from shm.codes import Kind, MarginType, State
from shm.kinds import command
from shm.units import INSURANCE_ACCOUNT, RATE_PPB_MAX, SYSTEM_ACCOUNTS

Rows = np.ndarray[Any, Any]

USDT: Final = 0
USDT_SCALE: Final = 6
MAKERS: Final = 6
TAKERS: Final = 24
GAMBLERS: Final = 16  # isolated, as much leverage as there is: these are liquidated
ACCOUNTS: Final = range(SYSTEM_ACCOUNTS, SYSTEM_ACCOUNTS + MAKERS + TAKERS + GAMBLERS)
FUNDS: Final = 1_000_000 * 10**USDT_SCALE  # of a taker; a maker has ten times as much
STAKE: Final = 500 * 10**USDT_SCALE  # what a gambler is given for every bet
FUND: Final = 250_000 * 10**USDT_SCALE  # of the insurance fund
FUNDING_NS: Final = 60_000_000_000
INTEREST_PPB: Final = 100_000  # of one interval: what elsewhere is paid in eight hours
EIGHT_HOURS_NS: Final = 28_800_000_000_000
# ledger.chart: the top byte of a deposit's source says where its money lies; 3 is the faucet.
FAUCET: Final = 3 << 56
BRACKETS: Final = (  # notional up to, maintenance, leverage
    (100_000, 5_000, 100),
    (1_000_000, 10_000, 50),
    (10_000_000, 25_000, 20),
    (50_000_000, 50_000, 10),
    (1_000_000_000, 125_000, 4),
)
LEVERAGE_MAX: Final = BRACKETS[0][2]


class Contract(NamedTuple):
    """A symbol of the demo."""

    name: str
    price_ticks: int  # where a simulated path begins
    tick_lot_quanta: int
    tick_quanta: int  # a tick, in quanta a unit
    lots: int  # of a usual order
    beta_ppm: int  # of a move of BTC, how much it makes its own
    step_ppm: int  # of its own moves, a minute

    def price(self, ticks: int) -> str:
        """Ticks as a decimal price."""
        decimals = len(str(10**USDT_SCALE // self.tick_quanta)) - 1
        assert self.tick_quanta * 10**decimals == 10**USDT_SCALE
        return f"{ticks // 10**decimals}.{ticks % 10**decimals:0{decimals}d}"


CONTRACTS: Final = (
    Contract("BTCUSDT", 600_000, 100, 100_000, 20, 0, 700),  # tick 0.1, lot 0.001
    Contract("ETHUSDT", 300_000, 100, 10_000, 30, 1_100_000, 500),  # tick 0.01, lot 0.01
    Contract("SOLUSDT", 150_000, 100, 1_000, 50, 1_300_000, 900),  # tick 0.001, lot 0.1
    Contract("DOGEUSDT", 150_000, 10, 1, 500, 1_000_000, 1_200),  # tick 0.000001, lot 10
)


def makers() -> range:
    return ACCOUNTS[:MAKERS]


def takers() -> range:
    return ACCOUNTS[MAKERS : MAKERS + TAKERS]


def gamblers() -> range:
    return ACCOUNTS[MAKERS + TAKERS :]


def declarations(funding_ns: int = FUNDING_NS) -> Iterator[Rows]:
    """Asset, symbols, accounts, settings, first money; orders of an earlier start are cancelled."""
    yield command(Kind.ASSET, asset=USDT, scale=USDT_SCALE, name="USDT")
    for symbol, contract in enumerate(CONTRACTS):
        yield from _symbol(symbol, contract, funding_ns)
    yield deposit(INSURANCE_ACCOUNT, FUND, "demo-fund")
    for account in ACCOUNTS:
        yield command(Kind.ACCOUNT, account=account, state=State.TRADING)
        yield deposit(account, funds_of(account), f"demo-{account}-first")
        yield command(Kind.CANCEL_ALL, account=account)
    for account in gamblers():
        about = {"account": account, "symbol": bet_symbol(account)}
        yield command(Kind.MARGIN_TYPE, value=MarginType.ISOLATED, **about)
        yield command(Kind.LEVERAGE, leverage=LEVERAGE_MAX, **about)


def _symbol(symbol: int, contract: Contract, funding_ns: int) -> Iterator[Rows]:
    yield command(
        Kind.SYMBOL,
        symbol=symbol,
        tick_lot_quanta=contract.tick_lot_quanta,
        asset=USDT,
        state=State.TRADING,
        name=contract.name,
        qty_lots_min=1,
        qty_lots_max=100_000,
        price_ticks_min=1,
        price_ticks_max=100 * contract.price_ticks,
        band_ppm=100_000,
        market_ppm=20_000,
        maker_fee_ppm=200,
        taker_fee_ppm=500,
        leverage_max=LEVERAGE_MAX,
        leverage_default=20,
        orders_max=200,
        tick_quanta=contract.tick_quanta,
        lines=3,
    )
    # The engine takes a rate of eight hours, and pays the interval's share of it.
    interest_ppb = min(INTEREST_PPB * EIGHT_HOURS_NS // funding_ns, RATE_PPB_MAX)
    yield command(
        Kind.CONTRACT,
        symbol=symbol,
        funding_interval_ns=funding_ns,
        impact_quanta=10_000 * 10**USDT_SCALE,
        interest_ppb=interest_ppb,
        funding_clamp_ppb=interest_ppb,
        funding_cap_ppb=500_000,
        funding_floor_ppb=-500_000,
        mark_band_ppm=50_000,
        source_clamp_ppm=5_000,
        source_stale_ns=30_000_000_000,
        liquidation_fee_ppm=5_000,
        protect_ppm=50_000,
        algos_max=200,
        lines=3,
    )
    floor = 0
    for index, (cap, maintenance_ppm, leverage) in enumerate(BRACKETS):
        yield command(
            Kind.BRACKET,
            symbol=symbol,
            index=index,
            floor_quanta=floor,
            cap_quanta=cap * 10**USDT_SCALE,
            maintenance_ppm=maintenance_ppm,
            bracket_leverage_max=leverage,
        )
        floor = cap * 10**USDT_SCALE
    yield command(Kind.SOURCE, symbol=symbol, source=0, weight=1)


def funds_of(account: int) -> int:
    """Money an account begins with, in quanta."""
    if account in gamblers():
        return STAKE
    return FUNDS * (10 if account in makers() else 1)


def bet_symbol(gambler: int) -> int:
    """Each gambler knows one symbol."""
    return gambler % len(CONTRACTS)


def deposit(account: int, quanta: int, name: str) -> Rows:
    """Play money, once for each name."""
    return command(
        Kind.DEPOSIT,
        account=account,
        asset=USDT,
        amount_quanta=quanta,
        source=FAUCET,
        client_id=name,
    )
