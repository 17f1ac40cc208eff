"""How fast the clock process finds who is unsafe: one sweep over every account after a mark change.

    python -m bench.scan [--smoke] [--json] [--out DIR] [--accounts N]

Tables of a venue with a million accounts, a cross position each and every tenth an isolated one in
a second symbol, are filled in; then the mark falls so far that a thousand become unsafe. A sweep
has to find exactly these. Time is the thread's own CPU, so that busy neighbours don't count; the
first sweep after a start, that meets cold memory, is told apart.
"""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np

from bench.harness import Report, parser
from engine.liquidation_scan import FOUND_CELLS, sweep
from engine.state import Limits, allocate, risk_tables
from shm.units import NIL, SYSTEM_ACCOUNTS

ACCOUNTS: Final = 1_000_000
UNSAFE: Final = 1_000
ENTRY: Final = 10_000  # ticks
LOTS: Final = 100
RUNS: Final = 9

Arrays = dict[str, np.ndarray[Any, Any]]


def tables(accounts: int, unsafe: int) -> Arrays:
    """Risk's tables with `accounts` positions, of which a mark 5 % lower makes `unsafe` so."""
    isolated = accounts // 10
    limits = Limits(
        accounts=SYSTEM_ACCOUNTS + accounts,
        assets=1,
        symbols=2,
        positions=accounts + isolated,
        orders=64,
        clients=64,
    )
    kept = [
        spec
        for spec in risk_tables(limits)
        if spec.name in ("venue", "accounts", "wallets", "symbols", "positions", "brackets")
        or spec.name == "contracts"
    ]
    a = allocate(tuple(kept))
    a["venue"]["accounts_used"] = SYSTEM_ACCOUNTS + accounts
    a["symbols"]["tick_lot_quanta"] = 10
    a["symbols"]["mark_ticks"] = ENTRY
    a["symbols"]["brackets_count"] = 2
    for symbol in range(2):
        a["brackets"][16 * symbol] = (0, 5_000_000, 5_000, 0, 100, [0, 0, 0])
        a["brackets"][16 * symbol + 1] = (5_000_000, 1 << 60, 10_000, 25_000, 50, [0, 0, 0])
    rows, people = a["positions"], np.arange(accounts)
    value = ENTRY * LOTS * 10
    for first, who, symbol in ((0, people, 0), (accounts, people[:: accounts // isolated], 1)):
        part = rows[first : first + len(who)]
        part["account"] = part["wallet"] = SYSTEM_ACCOUNTS + who
        part["symbol"] = symbol
        part["lots"] = LOTS
        part["entry_quanta"] = value
        part["isolated"] = symbol
        part["isolated_quanta"] = symbol * value // 4
        part["next_position"] = NIL
    rows["next_position"][people[:: accounts // isolated]] = accounts + np.arange(isolated)
    a["accounts"]["first_position"] = NIL
    a["accounts"]["first_position"][SYSTEM_ACCOUNTS:] = people
    # 6 % of notional is safe at -5 % and calls no margin; 5 % is not.
    money = np.full(accounts, value * 8 // 100)
    money[:: accounts // unsafe] = value * 5 // 100
    a["wallets"]["wallet_quanta"][SYSTEM_ACCOUNTS:] = money
    return a


def main(argv: list[str] | None = None) -> None:
    """Fill tables, let the mark fall, sweep."""
    made = parser("scan", __doc__)
    made.add_argument("--accounts", type=int, default=ACCOUNTS)
    chosen = made.parse_args(argv)
    report = Report("scan", chosen)
    accounts = 2_000 if chosen.smoke else chosen.accounts
    unsafe = min(UNSAFE, accounts // 10)
    arrays = tables(accounts, unsafe)
    found = np.zeros(FOUND_CELLS * 2 * unsafe, np.int64)
    end = SYSTEM_ACCOUNTS + accounts
    assert sweep(arrays, 0, end, found) == (end, []), "somebody is unsafe before the fall"
    arrays["symbols"]["mark_ticks"] = ENTRY * 95 // 100
    first_ms, times_ms = 0.0, []
    for run in range(RUNS + 1):
        begun = time.thread_time_ns()
        at, rows = sweep(arrays, 0, end, found)
        spent_ms = (time.thread_time_ns() - begun) / 1e6
        assert at == end and sum(map(len, rows)) == unsafe, "not those that are unsafe"
        if run == 0:
            first_ms = spent_ms
        else:
            times_ms.append(spent_ms)
    report.table(
        f"{unsafe:,} unsafe among {accounts:,} accounts, one sweep",
        [
            {
                "case": "sweep",
                "first_ms": first_ms,
                "median_ms": float(np.median(times_ms)),
                "worst_ms": max(times_ms),
                "ns_an_account": float(np.median(times_ms)) * 1e6 / accounts,
            }
        ],
    )
    report.finish()


if __name__ == "__main__":
    main()
