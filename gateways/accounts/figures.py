"""What an account is worth and needs at the marks of one sequence, by the kernels that risk uses.

Reads   a copy of one account's tables (Account.tables).
Writes  nothing that outlives the call.
Never   reckons anything its own way: shm/margin.py and shm/maintenance.py are the engine's own, so
        `available` here is what risk would find at this sequence if it decided now.

This imports numba; gateways/accounts/client.py doesn't.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from gateways.accounts.client import Copy
from shm.jit import kernel
from shm.maintenance import (
    cross_health,
    cross_liquidation_ticks,
    isolated_liquidation_ticks,
    maintenance,
    position_value,
)
from shm.margin import available, position_margin, withdrawable
from shm.pointers import Cells, Rows, table
from shm.records import NO_SYMBOL, RECORDS
from shm.units import NIL

_POSITION_CELLS: Final = 5
_WALLET_CELLS: Final = 4


class PositionFigures(NamedTuple):
    """Of one leg, in quanta; `liquidation_ticks` 0: there is none."""

    notional: int  # signed
    unrealised: int
    initial: int
    maintenance: int
    liquidation_ticks: int


class WalletFigures(NamedTuple):
    """Of one asset's cross wallet, in quanta."""

    available: int  # for new orders; negative when it is short
    withdrawable: int
    equity: int  # wallet + unrealised of cross positions
    maintenance: int  # of cross positions


class Figures(NamedTuple):
    """At the marks of `seq`; see gateways.accounts.client.Account about `exact`."""

    seq: int
    exact: bool
    positions: dict[tuple[int, int], PositionFigures]  # (symbol, leg)
    wallets: dict[int, WalletFigures]  # asset


@kernel
def reckon(
    accounts: Rows,
    wallets: Rows,
    symbols: Rows,
    positions: Rows,
    brackets: Rows,
    position_count: int,
    assets: int,
    of_positions: Cells,
    of_wallets: Cells,
) -> None:
    """Fill in the figures of account 0, five cells a position and four a wallet."""
    for row in range(position_count):
        p = positions[row]
        at = row * _POSITION_CELLS
        lots = p["lots"]
        for k in range(_POSITION_CELLS):
            of_positions[at + k] = 0
        if lots == 0:
            continue
        symbol = p["symbol"]
        value, unrealised = position_value(symbols, p)
        initial, _ = position_margin(symbols, p)
        of_positions[at] = value if lots > 0 else -value
        of_positions[at + 1] = unrealised
        of_positions[at + 2] = initial
        of_positions[at + 3] = maintenance(brackets, symbols, symbol, value)
        if symbols[symbol]["brackets_count"] > 0:
            if p["isolated"] != 0:
                of_positions[at + 4] = isolated_liquidation_ticks(brackets, symbols, p)
            else:
                of_positions[at + 4] = cross_liquidation_ticks(
                    accounts, wallets, symbols, positions, brackets, 0, p["wallet"], symbol
                )
    for asset in range(assets):
        at = asset * _WALLET_CELLS
        of_wallets[at] = available(accounts, wallets, symbols, positions, 0, asset)
        of_wallets[at + 1] = withdrawable(accounts, wallets, symbols, positions, brackets, 0, asset)
        equity, needed, _ = cross_health(
            accounts, wallets, symbols, positions, brackets, 0, asset, NO_SYMBOL
        )
        of_wallets[at + 2] = equity
        of_wallets[at + 3] = needed


def compile_kernels() -> None:
    """Compile, or load from the cache: before a gateway answers, since it takes seconds once."""
    tables = [np.zeros(1, RECORDS[name].dtype) for name in ("ACCOUNT", "WALLET", "SYMBOL")]
    more = [np.zeros(16, RECORDS[name].dtype) for name in ("POSITION", "BRACKET")]
    tables[0]["first_position"] = NIL
    figures_of(Copy(0, True, tables[0], tables[1], more[0][:0], tables[2], more[1]))


def figures_of(c: Copy) -> Figures:
    """Figures of an account out of its tables (Account.tables)."""
    count, assets = len(c.positions), len(c.wallets)
    positions = c.positions if count else np.zeros(1, c.positions.dtype)
    of_positions = np.zeros(max(count, 1) * _POSITION_CELLS, np.int64)
    of_wallets = np.zeros(assets * _WALLET_CELLS, np.int64)
    reckon(
        *(table(c.accounts), table(c.wallets), table(c.symbols), table(positions)),
        *(table(c.brackets), count, assets, table(of_positions), table(of_wallets)),
    )
    by_position = of_positions.reshape(-1, _POSITION_CELLS).tolist()
    by_wallet = of_wallets.reshape(-1, _WALLET_CELLS).tolist()
    return Figures(
        c.seq,
        c.exact,
        {
            (int(row["symbol"]), int(row["position_side"])): PositionFigures(*by_position[k])
            for k, row in enumerate(c.positions)
        },
        {asset: WalletFigures(*by_wallet[asset]) for asset in range(assets)},
    )
