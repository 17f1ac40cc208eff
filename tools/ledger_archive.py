"""The books as Parquet, for whoever wants to ask in SQL: entries, legs and accounts."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from ledger.books import Books, Cut, account_path
from ledger.chart import Event, unpack


def archive(books: Books, first: Cut, last: Cut, folder: Path) -> list[Path]:
    """Write accounts.parquet, entries.<n>.parquet and legs.<n>.parquet; returns the files."""
    try:
        import duckdb
    except ImportError:
        raise click.ClickException(
            "duckdb is not installed: pip install perpcore[archive]"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    db = duckdb.connect()
    paths = []

    def put(name: str, columns: dict[str, np.ndarray]) -> None:
        path = folder / f"{name}.parquet"
        db.register("rows", columns)
        target = str(path).replace("'", "''")
        db.execute(f"COPY (SELECT * FROM rows) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
        db.unregister("rows")
        paths.append(path)

    keys = [int(key) for key in books.keys["key"]]
    put(
        "accounts",
        {
            "account": np.arange(len(keys)),
            "key": np.array(keys, np.int64),
            "name": np.array([account_path(unpack(key), books) for key in keys], object),
            "commodity": np.array(
                [books.commodity_name(int(unit)) for unit in books.keys["commodity"]], object
            ),
        },
    )
    names = np.array([Event(k).name if k in list(Event) else "" for k in range(64)], object)
    for number, (begin, rows) in enumerate(books.pieces("entries", first.entries, last.entries), 1):
        columns: dict[str, np.ndarray] = {
            name: np.ascontiguousarray(rows[name])
            for name in ("seq", "recorded_ns", "effective_ns", "order_id", "reference", "symbol")
        }
        columns["customer"] = np.ascontiguousarray(rows["account"])
        columns["event"] = names[rows["event"]]
        columns["entry"] = np.arange(begin, begin + len(rows))
        put(f"entries.{number:05d}", columns)
        start = books.first_leg(begin)
        counts = rows["leg_count"].astype(np.int64)
        end = start + int(counts.sum())
        put(
            f"legs.{number:05d}",
            {
                "entry": np.repeat(columns["entry"], counts),
                "account": books.rows("account", start, end).astype(np.int64),
                "amount": np.array(books.rows("amount", start, end)),
                "balance": np.array(books.rows("balance", start, end)),
            },
        )
    db.close()
    return paths
