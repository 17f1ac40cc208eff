"""A statement as a table, and as text, CSV, HTML or JSON."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ledger.books import Books, Cut
from ledger.report import time_text

CODE_FIRST: Final = 1000  # of the chart; what is below isn't an account's


class Row(NamedTuple):
    """One line: `kind` is head, line, total or note; amounts are text, empty for none."""

    kind: str
    name: str
    cells: tuple[str, ...] = ()
    code: int = 0  # of the chart, to drill down from


class Sheet(NamedTuple):
    """A statement. `facts` say what it is of; `ok` is False when one of its checks failed."""

    title: str
    facts: dict[str, Any]
    columns: tuple[str, ...]
    rows: list[Row]
    ok: bool = True


def facts_of(books: Books, cut: Cut) -> dict[str, Any]:
    """Where a statement stands: enough to draw it again, and to hold it against another."""
    blocks = books.blocks()
    closed = blocks[blocks["first_entry"] + blocks["entry_count"] <= cut.entries]
    digest = closed["hash"][-1].tobytes().hex() if len(closed) else "0" * 64
    return {
        "sequence": cut.seq,
        "instant": time_text(cut.ts_ns),
        "entries": cut.entries,
        "block": len(closed) - 1,
        "digest": digest,
        "wal": f"{books.head['wal_hi'] & _MASK:016x}{books.head['wal_lo'] & _MASK:016x}",
    }


_MASK: Final = (1 << 64) - 1


def as_text(sheet: Sheet) -> str:
    """Columns as wide as they need to be."""
    lines = [sheet.title, ""]
    lines += [f"{name:<12} {_plain(value)}" for name, value in sheet.facts.items()]
    lines.append("")
    wide = max([len(_label(row)) for row in sheet.rows] + [20])
    widths = [
        max([len(column)] + [len(row.cells[k]) for row in sheet.rows if k < len(row.cells)])
        for k, column in enumerate(sheet.columns)
    ]
    head = [c.rjust(w) for c, w in zip(sheet.columns, widths, strict=True)]
    lines.append("  ".join(["".ljust(wide), *head]).rstrip())
    for row in sheet.rows:
        cells = [c.rjust(w) for c, w in zip(row.cells, widths, strict=False)]
        lines.append("  ".join([_label(row).ljust(wide), *cells]).rstrip())
        if row.kind == "total":
            lines.append("")
    return "\n".join(lines).rstrip("\n")


def _label(row: Row) -> str:
    """A line's code, by which its accounts are asked for, and its name."""
    if row.kind != "line":
        return row.name
    return f"  {row.code} {row.name}" if row.code >= CODE_FIRST else f"  {row.name}"


def _plain(value: Any) -> str:
    return "yes" if value is True else "NO" if value is False else str(value)


def as_csv(sheet: Sheet) -> str:
    """One line a row; facts come first, as lines of their own with # in front."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for name, value in sheet.facts.items():
        writer.writerow([f"# {name}", _plain(value)])
    writer.writerow(["kind", "code", "name", *sheet.columns])
    for row in sheet.rows:
        writer.writerow([row.kind, row.code or "", row.name, *row.cells])
    return out.getvalue().rstrip("\n")


def as_html(sheet: Sheet) -> str:
    """A page that stands alone: nothing is loaded from anywhere."""
    e = html.escape
    facts = "".join(
        f"<tr><th>{e(name)}</th><td>{e(_plain(value))}</td></tr>"
        for name, value in sheet.facts.items()
    )
    head = "".join(f"<th>{e(column)}</th>" for column in sheet.columns)
    body = "".join(
        f'<tr class="{row.kind}"><td>{e(_label(row).strip())}</td>'
        + "".join(f"<td>{e(cell)}</td>" for cell in row.cells)
        + "</tr>"
        for row in sheet.rows
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{e(sheet.title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{e(sheet.title)}</h1><table class=facts>{facts}</table>"
        f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"
        "</body></html>"
    )


_STYLE: Final = (
    "body{font:14px/1.5 system-ui,sans-serif;margin:2rem;color:#1a1a1a}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.15rem .8rem;text-align:right}"
    "td:first-child,th:first-child,.facts td{text-align:left}"
    ".facts{color:#555;font-size:12px}.head td{font-weight:600;padding-top:.8rem}"
    ".line td:first-child{padding-left:2rem}"
    ".total td{font-weight:600;border-top:1px solid #999;border-bottom:3px double #999}"
    "td{font-variant-numeric:tabular-nums}"
)


def as_json(sheet: Sheet) -> str:
    return json.dumps(as_data(sheet), indent=2)


def as_data(sheet: Sheet) -> dict[str, Any]:
    """What JSON has: amounts are text, exact."""
    return {
        "title": sheet.title,
        "ok": sheet.ok,
        "facts": sheet.facts,
        "columns": list(sheet.columns),
        "rows": [
            {
                "kind": row.kind,
                "name": row.name,
                "code": row.code or None,
                "cells": dict(zip(sheet.columns, row.cells, strict=False)),
            }
            for row in sheet.rows
        ],
    }


FORMATS: Final[dict[str, Callable[[Sheet], str]]] = {
    "text": as_text,
    "json": as_json,
    "csv": as_csv,
    "html": as_html,
}
