"""The byte map of every record, as text or as plain data.

Reads   shm/records, where each record is declared once.
Never   imports numba.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shm.records import RECORDS, Record, layout_table, layouts_digest


def layout_text(layout: Record) -> Iterator[str]:
    """One record: a headline, then offset, width, type, name and meaning of each field."""
    size = layout.dtype.itemsize
    yield f"{layout.name}  {size} bytes  {layout.digest}"
    yield f"    {layout.meaning}"
    types = {field.name: field.type for field in layout.fields}
    for offset, width, name, meaning in layout_table(layout):
        if offset % 64 == 0 and offset > 0 and size <= 1024:  # who writes a line matters
            yield f"    line {offset // 64}"
        yield f"    {offset:5} {width:5}  {types[name]:<6} {name:<20} {meaning}"


def layouts_text(names: tuple[str, ...] = ()) -> Iterator[str]:
    """All records, or those named."""
    for name in names or tuple(RECORDS):
        yield from layout_text(RECORDS[name])
        yield ""
    yield f"digest of all {len(RECORDS)} records: {layouts_digest()}"


def layouts_data(names: tuple[str, ...] = ()) -> dict[str, Any]:
    """The same as dicts and lists."""
    return {
        "digest": layouts_digest(),
        "records": {
            name: {
                "meaning": RECORDS[name].meaning,
                "bytes": RECORDS[name].dtype.itemsize,
                "digest": RECORDS[name].digest,
                "fields": [
                    {
                        "name": field.name,
                        "type": field.type,
                        "offset": offset,
                        "bytes": width,
                        "meaning": field.meaning,
                    }
                    for field, (offset, width, _, _) in zip(
                        RECORDS[name].fields, layout_table(RECORDS[name]), strict=True
                    )
                ],
            }
            for name in names or tuple(RECORDS)
        },
    }
