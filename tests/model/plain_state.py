"""What a state says, and not in which row of a table it says it.

Two venues that decided the same commands have the same state but for one thing: how far settlement
had got when a command was decided says which rows were free then, so an order, a name or a
conditional order may lie in another row. Here each goes by its own id, and lists by what they hold.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from engine.book import resting
from engine.recovery import kept_tables
from engine.state import Limits
from shm.units import NIL

Array = np.ndarray[Any, Any]

# Tables whose rows are made in the order of commands, without what points at rows of others.
FIXED: Final = (
    *("accounts", "assets", "wallets", "symbols", "positions", "brackets", "contracts", "sources"),
    *("adl_queues", "adl_ranks", "producers", "countdowns", "digests", "books"),
)
BY_ID: Final = {"claims": "order_id", "algos": "algo_id", "requests": "request_id"}
WHERE: Final = {
    *("first_closer", "last_closer", "next_closer", "prev_closer", "first_algo", "next", "prev"),
    *("client", "heap", "next_free", "claims_used", "claims_free", "algos_used", "algos_free"),
    *("requests_used", "requests_free", "clients_used", "clients_free"),
    *("clients_oldest", "clients_newest"),
}


def _fields(row: Any) -> dict[str, Any]:
    return {n: row[n].tolist() for n in row.dtype.names if n not in WHERE}


def plain_state(arrays: dict[str, Array], limits: Limits) -> dict[str, Any]:
    """Everything the state says, by table; a difference names its row and field."""
    kept = kept_tables(arrays, limits)
    said: dict[str, Any] = {"venue": [_fields(arrays["venue"][0])]}
    for name in FIXED:
        rows = kept[name]
        said[name] = [_fields(r) for r in rows] if rows.dtype.names else rows.tolist()
    for name, id_ in BY_ID.items():
        rows = kept[name][kept[name][id_] != 0]
        if name == "claims":
            rows = rows[rows["done"] == 0]
        said[name] = {int(r[id_]): _fields(r) for r in rows}
    names = kept["clients"][kept["clients"]["order_id"] != 0]
    said["clients"] = {(int(r["account"]), r["client_id"].tobytes()): _fields(r) for r in names}
    claims = kept["claims"]
    said["closers"] = []
    for p in kept["positions"]:
        ids, at = [], int(p["first_closer"])
        while at != NIL:
            ids.append(int(claims[at]["order_id"]))
            at = int(claims[at]["next_closer"])
        said["closers"].append(ids)
    nodes = arrays["nodes"]
    said["queues"] = [
        [(side, _fields(nodes[slot])["order_id"]) for side, slot in resting(nodes, symbol)]
        for symbol in range(limits.symbols)
    ]
    return said


def differences(mine: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What one state says otherwise than another."""
    found = []
    for table, rows in wanted.items():
        pairs = rows.items() if isinstance(rows, dict) else enumerate(rows)
        own = mine[table]
        if len(own) != len(rows):
            found.append(f"{table}: {len(own)} rows, wanted {len(rows)}")
            continue
        for key, row in pairs:
            got = own.get(key) if isinstance(own, dict) else own[key]
            if got != row and isinstance(got, dict) and isinstance(row, dict):
                found += [
                    f"{table} {key}.{field}: {got[field]}, wanted {value}"
                    for field, value in row.items()
                    if got[field] != value
                ]
            elif got != row:
                found.append(f"{table} {key}: {got}, wanted {row}")
    return found
