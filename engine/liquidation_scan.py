"""The scan of the clock process: which accounts look unsafe, read off the hot path.

Reads   accounts, wallets, positions, symbols, brackets and contracts of a running engine, in shared
        memory, while it writes to them.
Writes  nothing there; LIQUIDATE commands for its caller to send.
Never   decides: a row may be half written when it is read, so that what is found is a guess. Risk
        looks again when it decides the command; what is missed is found by the next sweep.

A sweep looks at every account whose positions the marks could have made unsafe: unsafe wallets and
isolated positions, margin calls and their end, debts that were left, and (once a second) whether
the insurance fund has something to close in the market. It skips what risk would refuse anyway:
what is being liquidated, and what has a mark that can't be trusted or no market.

Lists are walked within bounds: a torn link ends the walk of that account, never the process.
"""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np

from engine.liquidation import CALM_PPM, WARN_PPM
from shm.arithmetic import bounded, muldiv_down, wide
from shm.codes import Kind, LiquidationStep, State
from shm.jit import inlined, kernel
from shm.kinds import COMMAND_RECORDS, command
from shm.maintenance import isolated_health, maintenance, position_value
from shm.pointers import Cells, Rows, table
from shm.records import NO_SYMBOL
from shm.units import EXPOSURE_QUANTA_MAX, INSURANCE_ACCOUNT, NIL, PPM, SYSTEM_ACCOUNTS

FOUND_MAX: Final = 4096  # scopes of one sweep; the next one finds the rest
FOUND_CELLS: Final = 3  # account, position row or NIL, wallet row
UNWIND_NS: Final = 1_000_000_000

_LEGS: Final = 3  # positions of an account in one symbol, at most


@inlined
def _worth_a_look(equity: int, needed: int, count: int, warned: int) -> bool:
    """Whether risk would find something new: unsafe, a margin call, or the end of one."""
    if count == 0:
        return equity < 0
    if equity <= needed:
        return True
    if warned == 0:
        return needed > 0 and needed >= muldiv_down(equity, WARN_PPM, PPM)
    return needed < muldiv_down(equity, CALM_PPM, PPM)


@inlined
def _can_be_trusted(symbols: Rows, contracts: Rows, symbol: int) -> bool:
    """Whether a position there keeps its scope from nothing."""
    state = symbols[symbol]["state"]
    return state != State.CANCEL_ONLY and state != State.HALTED and contracts[symbol]["halted"] == 0


@inlined
def _add(found: Cells, count: int, account: int, row: int, wallet: int) -> int:
    found[count * FOUND_CELLS] = account
    found[count * FOUND_CELLS + 1] = row
    found[count * FOUND_CELLS + 2] = wallet
    return count + 1


@kernel
def scan_accounts(
    accounts: Rows,
    wallets: Rows,
    symbols: Rows,
    positions: Rows,
    brackets: Rows,
    contracts: Rows,
    assets: int,
    symbol_count: int,
    position_count: int,
    first: int,
    end: int,
    found: Cells,
    found_max: int,
) -> tuple[int, int]:
    """Look at accounts first to end - 1.

    found       FOUND_CELLS for each scope that is worth a look
    returns     (the account to go on with, scopes found)
    """
    count = 0
    hops_max = _LEGS * symbol_count
    account = max(first, SYSTEM_ACCOUNTS)
    while account < end:
        # An account can have as many scopes as positions, and its wallets.
        if count + hops_max + assets > found_max:
            break
        row = wide(accounts[account]["first_position"])
        if row != NIL:
            count = _scan_account(
                wallets,
                symbols,
                positions,
                brackets,
                contracts,
                assets,
                symbol_count,
                position_count,
                account,
                row,
                found,
                count,
            )
        account += 1
    return account, count


@kernel
def _wallet_sums(
    symbols: Rows,
    positions: Rows,
    brackets: Rows,
    contracts: Rows,
    symbol_count: int,
    position_count: int,
    row: int,
    wallet: int,
) -> tuple[int, int, int, bool, bool]:
    """(unrealised PnL, maintenance, open positions, all to be trusted, others met) of a wallet."""
    gains = 0
    needed = 0
    count = 0
    sound = True
    others = False
    hops = 0
    while 0 <= row < position_count and hops < _LEGS * symbol_count:
        p = positions[row]
        symbol = wide(p["symbol"])
        if p["lots"] != 0 and p["isolated"] == 0 and symbol < symbol_count:
            if p["wallet"] == wallet:
                value, unrealised = position_value(symbols, p)
                gains = bounded(gains + unrealised, EXPOSURE_QUANTA_MAX)
                needed += maintenance(brackets, symbols, symbol, value)
                needed = bounded(needed, EXPOSURE_QUANTA_MAX)
                count += 1
                sound = sound and _can_be_trusted(symbols, contracts, symbol)
            else:
                others = True
        row = wide(p["next_position"])
        hops += 1
    return gains, needed, count, sound, others


@kernel
def _isolated_scopes(
    wallets: Rows,
    symbols: Rows,
    positions: Rows,
    brackets: Rows,
    contracts: Rows,
    symbol_count: int,
    position_count: int,
    account: int,
    row: int,
    found: Cells,
    count: int,
) -> int:
    """An account's isolated positions that are worth a look; returns scopes found so far."""
    hops = 0
    while 0 <= row < position_count and hops < _LEGS * symbol_count:
        p = positions[row]
        symbol = wide(p["symbol"])
        if (
            p["isolated"] != 0
            and p["liquidation"] == LiquidationStep.NONE
            and (p["lots"] != 0 or p["isolated_quanta"] < 0)
            and symbol < symbol_count
        ):
            open_count = 1 if p["lots"] != 0 else 0
            equity, needed = isolated_health(brackets, symbols, p)
            if (
                _worth_a_look(equity, needed, open_count, p["warned"])
                and (open_count == 0 or _can_be_trusted(symbols, contracts, symbol))
                and wallets[p["wallet"]]["liquidation"] == LiquidationStep.NONE
            ):
                count = _add(found, count, account, row, wide(p["wallet"]))
        row = wide(p["next_position"])
        hops += 1
    return count


@kernel
def _scan_account(
    wallets: Rows,
    symbols: Rows,
    positions: Rows,
    brackets: Rows,
    contracts: Rows,
    assets: int,
    symbol_count: int,
    position_count: int,
    account: int,
    row: int,
    found: Cells,
    count: int,
) -> int:
    """One account: its isolated positions, then its wallets; returns scopes found so far."""
    count = _isolated_scopes(
        wallets,
        symbols,
        positions,
        brackets,
        contracts,
        symbol_count,
        position_count,
        account,
        row,
        found,
        count,
    )
    others = True
    for asset in range(assets):
        wallet = account * assets + asset
        w = wallets[wallet]
        gains = 0
        needed = 0
        open_count = 0
        sound = True
        if others:
            # Nearly always all positions are of the first asset: one walk is enough.
            gains, needed, open_count, sound, others = _wallet_sums(
                symbols,
                positions,
                brackets,
                contracts,
                symbol_count,
                position_count,
                row,
                wallet,
            )
        equity = bounded(
            gains + bounded(w["wallet_quanta"] - w["pending_quanta"], EXPOSURE_QUANTA_MAX),
            EXPOSURE_QUANTA_MAX,
        )
        if (
            sound
            and w["liquidation"] == LiquidationStep.NONE
            and _worth_a_look(equity, needed, open_count, w["warned"])
        ):
            count = _add(found, count, account, NIL, wallet)
    return count


class Scan:
    """Sweeps over the tables of one engine; what `engine.clock` calls between its other duties.

    A sweep begins when a mark has changed, and every `every_ns` in any case: funding, fees and
    deposits change what a wallet can bear too. Within a sweep one call looks at `most` accounts.
    """

    def __init__(self, *, every_ns: int = 1_000_000_000, most: int = 1 << 20) -> None:
        self.every_ns, self.most = every_ns, most
        self._found: np.ndarray[Any, Any] | None = None
        self._at = 0  # account the sweep under way goes on with; 0: none is
        self._marks: np.ndarray[Any, Any] | None = None
        self._begun_ns = self._unwound_ns = -(1 << 62)
        self.swept = 0  # accounts looked at
        self.proposed = 0  # scopes found

    def __call__(
        self, arrays: dict[str, np.ndarray[Any, Any]], now_ns: int | None = None
    ) -> list[Any]:
        """LIQUIDATE commands for what looks unsafe, at most FOUND_MAX scopes.

        now_ns      for the schedule alone; None: of the monotonic clock
        """
        if now_ns is None:
            now_ns = time.monotonic_ns()
        if self._at == 0:
            marks = arrays["symbols"]["mark_ticks"]
            if (
                self._marks is not None
                and now_ns - self._begun_ns < self.every_ns
                and np.array_equal(marks, self._marks)
            ):
                return []
            self._marks, self._begun_ns = marks.copy(), now_ns
            self._at = SYSTEM_ACCOUNTS
        if self._found is None:
            self._found = room_for(arrays)
        used = int(arrays["venue"]["accounts_used"][0])
        end = min(self._at + self.most, used, len(arrays["accounts"]))
        at, rows = sweep(arrays, self._at, end, self._found)
        self.swept += at - self._at
        self._at = 0 if at >= min(used, len(arrays["accounts"])) else at
        if now_ns - self._unwound_ns >= UNWIND_NS:
            self._unwound_ns = now_ns
            rows += unwinding(arrays)
        self.proposed += len(rows)
        return rows


def room_for(arrays: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Cells for what a sweep finds: FOUND_MAX scopes, and never fewer than two accounts have."""
    assets = len(arrays["wallets"]) // len(arrays["accounts"])
    most = _LEGS * len(arrays["symbols"]) + assets
    return np.zeros(FOUND_CELLS * max(FOUND_MAX, 2 * most), np.int64)


def sweep(
    arrays: dict[str, np.ndarray[Any, Any]],
    first: int,
    end: int,
    found: np.ndarray[Any, Any] | None = None,
) -> tuple[int, list[Any]]:
    """(account to go on with, LIQUIDATE commands) of accounts first to end - 1."""
    if found is None:
        found = room_for(arrays)
    at, count = scan_accounts(
        table(arrays["accounts"]),
        table(arrays["wallets"]),
        table(arrays["symbols"]),
        table(arrays["positions"]),
        table(arrays["brackets"]),
        table(arrays["contracts"]),
        len(arrays["wallets"]) // len(arrays["accounts"]),
        len(arrays["symbols"]),
        len(arrays["positions"]),
        first,
        end,
        table(found),
        len(found) // FOUND_CELLS,
    )
    if count == 0:
        return int(at), []
    scopes = found[: FOUND_CELLS * count].reshape(-1, FOUND_CELLS)
    return int(at), [commands_for(arrays, scopes)]


def commands_for(
    arrays: dict[str, np.ndarray[Any, Any]], scopes: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """LIQUIDATE commands for (account, position row or NIL, wallet row), as COMMAND rows."""
    rows = np.repeat(command(Kind.LIQUIDATE), len(scopes))
    view = rows.view(COMMAND_RECORDS[Kind.LIQUIDATE].dtype)
    account, row, wallet = scopes.T
    isolated = row != NIL
    view["account"] = account
    view["settle_row"] = np.where(isolated, row, wallet)
    p = arrays["positions"][np.where(isolated, row, 0)]
    view["symbol"] = np.where(isolated, p["symbol"], NO_SYMBOL)
    view["position_side"] = np.where(isolated, p["position_side"], 0)
    return rows


def unwinding(arrays: dict[str, np.ndarray[Any, Any]]) -> list[Any]:
    """LIQUIDATE of each wallet of the insurance fund that has something it could close now."""
    positions, symbols = arrays["positions"], arrays["symbols"]
    wallets = set()
    row = int(arrays["accounts"]["first_position"][INSURANCE_ACCOUNT])
    for _ in range(len(symbols)):
        if not 0 <= row < len(positions):
            break
        p = positions[row]
        s = symbols[min(int(p["symbol"]), len(symbols) - 1)]
        if p["lots"] != 0 and s["state"] == State.TRADING and s["mark_ticks"] > 0:
            wallets.add(int(p["wallet"]))
        row = int(p["next_position"])
    waiting = [w for w in sorted(wallets) if arrays["wallets"]["liquidation"][w] == 0]
    return [
        command(Kind.LIQUIDATE, account=INSURANCE_ACCOUNT, settle_row=wallet) for wallet in waiting
    ]
