"""What is in a file or a ring, as text: one line a record, by the declarations of shm/records.

Reads   any one file of a data directory, on its own, sound or not; or a segment of shared memory.
Writes  nothing. A ring that is running moves on while it is read, so its oldest rows may be torn.
Never   repairs, and never stops at damage: it says where, and looks for what follows.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import IntFlag
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from shm import codes, cursors, hopcells, hops, records
from shm.control import View
from shm.kinds import COMMAND_RECORDS, REPORT_RECORDS
from shm.records import Record
from shm.segment import FOLDER, PREFIX, Part, Segment, list_segments
from shm.units import PRODUCER_SHIFT, REQUEST_NUMBER_MAX, SHARDS_MAX

Array = np.ndarray[Any, Any]

# `status` of a report means what its kind says; "" is a plain number.
_STATUS: Final = {
    "REPORT": "Status",
    "ANSWER_REPORT": "Kind",
    "WALLET_REPORT": "Kind",
    "FLIP_REPORT": "Flip",
    "ALGO_REPORT": "AlgoStatus",
    "MOVE_REPORT": "Move",
    "LIQUIDATION_REPORT": "LiquidationStep",
    "REQUEST_REPORT": "RequestStatus",
}
_HEX: Final = re.compile(r"(.*_)?(hash|hi|lo|layouts?|parts|magic|digest)")


class InspectError(Exception):
    """What was named is nothing that can be looked into."""


class Item(NamedTuple):
    """One line: what it is, and its fields by name."""

    title: str
    values: dict[str, Any]
    indent: int = 0


class Wanted(NamedTuple):
    """What is asked for: sequence numbers, both ends included, and of a snapshot one table."""

    first: int = 0
    last: int = (1 << 63) - 1
    table: str = ""

    def holds(self, rows: Array) -> Array:
        """Those of the rows whose `seq` is in it."""
        return rows[(rows["seq"] >= self.first) & (rows["seq"] <= self.last)]


ALL: Final = Wanted()
Reader = Callable[[Path, Wanted], Iterator[Item]]


# ---------------------------------------------------------------- one row


def _converter(layout: Record, field: records.Field) -> Callable[[Any], Any] | None:
    """How a field of this record reads; None leaves it out."""
    if "reserved" in field.name:
        return None
    shape = layout.dtype[field.name].shape
    named = re.search(r"codes\.(\w+)", field.meaning)
    enum = named[1] if named else ""
    if field.name == "status":
        enum = _STATUS.get(layout.name, "")
    if enum:
        return _enum_name(getattr(codes, enum))
    if shape and "text" in field.meaning:
        return lambda cells: cells.tobytes().rstrip(b"\0").decode("utf-8", "backslashreplace")
    if shape:
        return lambda cells: cells.tolist()
    if _HEX.fullmatch(field.name):
        return lambda cell: f"{int(cell) & (1 << 64) - 1:016x}"
    return int


def _enum_name(enum: Any) -> Callable[[Any], Any]:
    names = {int(member): member.name for member in enum}

    def name(cell: Any) -> Any:
        value = int(cell)
        if issubclass(enum, IntFlag) and value:
            return "|".join(names.get(1 << k, str(1 << k)) for k in range(8) if value >> k & 1)
        return names.get(value, value)

    return name


_CONVERTERS: dict[str, list[tuple[str, Callable[[Any], Any]]]] = {}


def values_of(layout: Record, row: Any) -> dict[str, Any]:
    """Every field that is not reserved: codes by name, text as text, digests in hex."""
    if layout.name not in _CONVERTERS:
        found = ((field.name, _converter(layout, field)) for field in layout.fields)
        _CONVERTERS[layout.name] = [(name, convert) for name, convert in found if convert]
    return {name: convert(row[name]) for name, convert in _CONVERTERS[layout.name]}


def command_item(row: Any, indent: int = 0) -> Item:
    """A row of COMMAND as the record that its kind lays over it."""
    layout = COMMAND_RECORDS.get(int(row["kind"]), records.COMMAND)
    values = values_of(layout, _as(layout, row))
    title = str(values.pop("kind"))
    return Item(title, values, indent)


def report_item(row: Any, index: int) -> Item:
    """A row of REPORT as the record that its kind lays over it."""
    layout = REPORT_RECORDS.get(int(row["kind"]), records.REPORT)
    values = {"index": index} | values_of(layout, _as(layout, row))
    title = str(values.pop("kind"))
    return Item(title, values)


def row_item(layout: Record, cells: Any, **more: Any) -> Item:
    """Any other row; `more` comes first."""
    return Item(layout.name, more | values_of(layout, cells))


def _as(layout: Record, row: Any) -> Any:
    return np.frombuffer(row.tobytes(), layout.dtype)[0]


# ---------------------------------------------------------------- lines

_ZERO_SPEAKS: Final = ("side", "type", "tif", "seq", "index", "byte", "row", "status", "state")


def as_text(item: Item) -> str:
    """A line to read: what is zero and says nothing is left out, times are dates."""
    order = item.title in ("PLACE", "ORDER", "NODE", "CLAIM")
    parts = []
    for name, value in item.values.items():
        if value in (0, "", "NONE", "0" * 16, -1, "NOWHERE", "BOTH") and name not in _ZERO_SPEAKS:
            continue
        if name in ("side", "type", "tif") and not order and value in ("BUY", "LIMIT", "GTC"):
            continue
        if name == "symbol" and value == records.NO_SYMBOL:
            continue
        parts.append(f"{name}={_worded(name, value)}")
    return "  " * item.indent + " ".join([f"{item.title:<10}", *parts])


def _worded(name: str, value: Any) -> Any:
    if name.endswith("_ns") and isinstance(value, int) and 10**17 < value < 4 * 10**18:
        at = datetime.fromtimestamp(value // 10**9, UTC)
        return f"{at:%Y-%m-%dT%H:%M:%S}.{value % 10**9:09}Z"
    if name == "request":
        return f"{value >> PRODUCER_SHIFT}:{value & REQUEST_NUMBER_MAX}"
    return json.dumps(value) if isinstance(value, str) and re.search(r"\s|\"", value) else value


def as_json(item: Item) -> str:
    """The same with every field, one JSON object a line."""
    return json.dumps({"is": item.title, **item.values})


# ---------------------------------------------------------------- files


def file_items(path: Path, wanted: Wanted = ALL) -> Iterator[Item]:
    """What is in a file, which is known by its first bytes; of its records those wanted."""
    with path.open("rb") as file:
        magic = file.read(8)
    read = _READERS.get(magic)
    if read is None and magic == bytes(8):
        read = wal_items  # a preallocated segment that nobody has written to yet
    if read is None:
        known = ", ".join(known.decode() for known in _READERS)
        raise InspectError(f"{path}: begins with {magic!r}, wanted one of {known}")
    return read(path, wanted)


def _page_items(layout: Record, page_bytes: int) -> Reader:
    """A reader of small files: one stamped row at the beginning of each page."""

    def read(path: Path, _wanted: Wanted) -> Iterator[Item]:
        from engine.files import row_from, stamped

        content = path.read_bytes()
        for at in range(0, len(content), page_bytes or len(content)):
            row = row_from(content[at:], layout)
            magic = int(row[0]["magic"])
            more: dict[str, Any] = {"byte": at}
            if any(field.name == "hash" for field in layout.fields):
                sound = stamped(row, magic)
                more["state"] = "sound" if sound else "damaged" if magic else "blank"
            yield row_item(layout, row[0], **more)

    return read


_BLOCK_KINDS: Final[dict[Any, str]] = {1: "DATA", 2: "HEARTBEAT", 3: "SEAL"}


def wal_items(path: Path, wanted: Wanted = ALL) -> Iterator[Item]:
    """Blocks of a WAL segment, each followed by its commands."""
    from engine import walblocks
    from engine.direct import PAGE_BYTES
    from shm.hashing import hash_words
    from shm.pointers import table

    page = PAGE_BYTES
    size = path.stat().st_size
    with path.open("rb") as file:
        at = 0
        while at < size:
            blank = _blank_until(file.fileno(), at, size)
            if blank > at:
                yield Item("blank", {"byte": at, "bytes": blank - at})
                at = blank
                continue
            words = _words_at(file.fileno(), at, page)
            head = words[: walblocks.HEADER_WORDS].view(records.WAL_BLOCK.dtype)[0]
            if not walblocks.header_sound(table(words), 0):
                magic = int(words[0]) == walblocks.MAGIC
                what = walblocks.SAYS[
                    walblocks.Verdict.HEADER_HASH if magic else walblocks.Verdict.NO_BLOCK
                ]
                yield Item("damage", {"byte": at, "what": what})
                at += page
                continue
            body, count = int(head["body_bytes"]), int(head["record_count"])
            total = -(-(body // 8 + walblocks.HEADER_WORDS) * 8 // page) * page
            first = int(head["first_seq"])
            if first <= wanted.last and first + max(count, 1) > wanted.first:
                words = _words_at(file.fileno(), at, total)
                end = walblocks.HEADER_WORDS
                found = hash_words(table(words), end, total // 8 - end, walblocks.MAGIC)
                sound = int(found) == int(head["body_hash"])
                state = "sound" if sound else walblocks.SAYS[walblocks.Verdict.BODY_HASH]
                values = {"byte": at, "bytes": total, "state": state}
                values |= values_of(records.WAL_BLOCK, head)
                yield Item("block", values | {"kind": _BLOCK_KINDS.get(int(head["kind"]), "?")})
                if sound:
                    rows = np.zeros(count, records.COMMAND.dtype)
                    cells = table(rows.view(np.int64))
                    walblocks.unpack_commands(table(words), end, count, 0, cells, 0)
                    for row in wanted.holds(rows):
                        yield command_item(row, 1)
            at += total


def report_items(path: Path, wanted: Wanted = ALL) -> Iterator[Item]:
    """Reports of a segment of the report log; groups are checked against the file beside it."""
    from engine import reportlog
    from engine.direct import PAGE_BYTES
    from engine.files import row_from, stamped
    from shm.pointers import table

    index_path = path.with_suffix(".idx")
    groups = np.zeros(0, records.REPORT_GROUP.dtype)
    if index_path.is_file():
        groups = np.fromfile(index_path, groups.dtype)
    with path.open("rb") as file:
        row = row_from(file.read(PAGE_BYTES), records.REPORT_SEGMENT)
        state = "sound" if stamped(row, reportlog.MAGIC) else "damaged"
        yield row_item(records.REPORT_SEGMENT, row[0], byte=0, state=state)
        index, number = int(row[0]["first_index"]), 0
        while data := file.read(reportlog.GROUP * reportlog.RECORD_BYTES):
            whole = len(data) // reportlog.RECORD_BYTES * reportlog.RECORD_BYTES
            rows = np.frombuffer(bytearray(data[:whole]), records.REPORT.dtype)
            if number < len(groups) and int(groups[number]["hash"]):
                digest = reportlog.hash_reports(table(rows.view(np.int64)), 0, len(rows))
                if reportlog.end_group(digest, len(rows)) != int(groups[number]["hash"]):
                    at = PAGE_BYTES + number * reportlog.GROUP * reportlog.RECORD_BYTES
                    what = f"the hash of reports {index} to {index + len(rows) - 1} differs"
                    yield Item("damage", {"byte": at, "what": what})
            written = rows["seq"] > 0
            asked = (rows["seq"] >= wanted.first) & (rows["seq"] <= wanted.last)
            for k in np.flatnonzero(written & asked):
                yield report_item(rows[k], index + int(k))
            if not written.all() or int(rows[-1]["seq"]) > wanted.last:
                return
            index += len(rows)
            number += 1


def snapshot_items(path: Path, wanted: Wanted = ALL) -> Iterator[Item]:
    """Head, text and tables of a snapshot, or the rows of one table that are not all zeros."""
    from engine.files import row_from
    from engine.snapshotfile import SnapshotDamage, verify_snapshot

    try:
        verify_snapshot(path)
        state = "sound"
    except SnapshotDamage as damage:
        state = "damaged"
        yield Item("damage", {"what": str(damage)})
    content = np.memmap(path, np.uint8, "r")
    head = row_from(content[:64].tobytes(), records.SNAPSHOT_HEADER)[0]
    yield row_item(records.SNAPSHOT_HEADER, head, byte=0, state=state)
    at = records.SNAPSHOT_HEADER.dtype.itemsize
    text = content[at : at + int(head["meta_bytes"])].tobytes().rstrip(b"\0")
    try:
        meta = json.loads(text)
    except ValueError:
        meta = {"what": "no JSON text"}
    yield Item("meta", meta if isinstance(meta, dict) else {"text": meta})
    at += int(head["meta_bytes"])
    size = int(head["section_count"]) * records.SNAPSHOT_SECTION.dtype.itemsize
    sections = np.frombuffer(content[at : at + size].tobytes(), records.SNAPSHOT_SECTION.dtype)
    names = []
    for section in sections:
        item = row_item(records.SNAPSHOT_SECTION, section)
        names.append(item.values["name"])
        if not wanted.table:
            yield item
        elif names[-1] == wanted.table:
            first = int(section["offset"])
            yield from _table_items(item, content[first : first + int(section["bytes"])])
    if wanted.table and wanted.table not in names:
        raise InspectError(f"{path}: no table {wanted.table!r}; there are {', '.join(names)}")


def _table_items(section: Item, content: Array) -> Iterator[Item]:
    layout = records.RECORDS.get(section.values["type"])
    if layout is None:
        cells = np.frombuffer(content.tobytes(), section.values["type"])
        for row in np.flatnonzero(cells):
            yield Item(section.values["name"], {"row": int(row), "value": int(cells[row])})
        return
    rows = np.frombuffer(content.tobytes(), layout.dtype)
    used = content.reshape(len(rows), -1).any(axis=1)
    for row in np.flatnonzero(used):
        yield row_item(layout, rows[row], row=int(row))


def _words_at(fd: int, at: int, size: int) -> Array:
    return np.frombuffer(bytearray(os.pread(fd, size, at).ljust(size, b"\0")), np.int64)


def _blank_until(fd: int, at: int, size: int) -> int:
    """The first page at or after `at` that is not all zeros, or the end."""
    step = 1 << 20
    while at < size:
        data = np.frombuffer(os.pread(fd, min(step, size - at), at), np.uint8)
        written = np.flatnonzero(data)
        if written.size:
            return at + int(written[0]) // 4096 * 4096
        at += len(data)
    return size


_READERS: Final[dict[bytes, Reader]] = {
    b"PERPWAL1": wal_items,
    b"PERPREP1": report_items,
    b"PERPSNP1": snapshot_items,
    b"PERPFOL1": _page_items(records.FOLLOWER, 0),
    b"PERPMAN1": _page_items(records.WAL_MANIFEST, 0),
    b"PERPMRK1": _page_items(records.WATERMARK, 4096),
}


# ---------------------------------------------------------------- shared memory


def segment_items(label: str, wanted: Wanted = ALL) -> Iterator[Item]:
    """Rows of a ring, cursors or status of an instance; the name is one of `perpcore shm ls`."""
    instance, _, name = label.partition(".")
    known = {f"{info.instance}.{info.name}": info for info in list_segments(instance)}
    if label not in known:
        there = ", ".join(known) or "none"
        raise InspectError(f"{label}: no file and no segment; segments of {instance!r}: {there}")
    view = View(instance, dead=True)
    try:
        if name == "control":
            yield row_item(records.ENGINE_STATUS, view.engine)
            segment = _attach(instance, name)
            for k, row in enumerate(segment["worker_status"][: len(view.workers())]):
                yield row_item(records.WORKER_STATUS, row, row=k)
        elif name == "cursors":
            yield from _cursor_items(view)
        elif name == "counters":
            yield from _counter_items(instance)
        elif name == "commands":
            slots = _attach(instance, name, Part(name, "COMMAND", int(view.engine["commands"])))
            rows = slots[name].copy()
            for row in np.sort(wanted.holds(rows[rows["seq"] > 0]), order="seq"):
                yield command_item(row)
        elif name == "reports":
            yield from _report_slots(instance, view, wanted)
        elif name == "matches":
            yield from _match_slots(instance, view, wanted)
        elif name == hops.SEGMENT:
            cells = _attach(instance, name, *hops.HOP_PARTS)["hops"]
            rows = cells[hopcells.FIRST :].view(records.HOPS.dtype).copy()
            for row in np.sort(wanted.holds(rows[rows["number"] > 0]), order="number"):
                yield row_item(records.HOPS, row)
        elif name.startswith(hops.REQUESTS):
            part = Part("requests", "REQUEST_HOPS", hops.REQUESTS_MAX)
            rows = _attach(instance, name, part)["requests"].copy()
            for row in np.sort(wanted.holds(rows[rows["request"] > 0]), order="seq"):
                yield row_item(records.REQUEST_HOPS, row)
        elif name.startswith("ingress."):
            yield from _ingress_slots(instance, name, view)
        else:
            path = FOLDER / f"{PREFIX}{label}"
            raise InspectError(
                f"{label}: tables of the state are not shown from {path}; "
                "make a snapshot and inspect that: perpcore snapshot"
            )
    finally:
        view.close()


def _attach(instance: str, name: str, *parts: Part) -> dict[str, Array]:
    from shm.control import CONTROL_PARTS
    from shm.counters import counter_parts

    parts = parts or {"control": CONTROL_PARTS, "counters": counter_parts()}[name]
    return Segment.attach(instance, name, parts, writable=False, dead=True).arrays


def _cursor_items(view: View) -> Iterator[Item]:
    values = {
        name.lower(): view.cursor(getattr(cursors, name))
        for name in (
            *("SEQUENCED", "RISKED", "SETTLED", "JOURNALED", "PUBLISHED", "REPORTS_CLAIMED"),
            *("REPORTS_WRITTEN", "REPORTS_READ", "REPORTS_JOURNALED", "PROPOSALS", "CUT"),
        )
    }
    yield Item("cursors", values)
    for shard in range(min(int(view.engine["shards"]), SHARDS_MAX)):
        yield Item(
            "shard",
            {
                "row": shard,
                "matched": view.cursor(cursors.matched(shard)),
                "written": view.cursor(cursors.matches_written(shard)),
                "read": view.cursor(cursors.matches_read(shard)),
            },
        )


def _counter_items(instance: str) -> Iterator[Item]:
    from shm.counters import COUNTER_CELLS

    arrays = _attach(instance, "counters")
    for k, label in enumerate(arrays["labels"]):
        values = values_of(records.LABEL, label)
        if values["name"]:
            count = int(arrays["counters"][k * COUNTER_CELLS])
            yield Item("counter", {"row": k, **values, "count": count})


def _report_slots(instance: str, view: View, wanted: Wanted) -> Iterator[Item]:
    capacity = int(view.engine["reports"])
    arrays = _attach(instance, "reports", Part("reports", "REPORT", capacity))
    written = view.cursor(cursors.REPORTS_WRITTEN)
    rows = arrays["reports"].copy()
    for index in range(max(0, written - capacity), written):
        if wanted.first <= rows[index % capacity]["seq"] <= wanted.last:
            yield report_item(rows[index % capacity], index)


def _match_slots(instance: str, view: View, wanted: Wanted) -> Iterator[Item]:
    capacity, shards = int(view.engine["matches"]), int(view.engine["shards"])
    arrays = _attach(instance, "matches", Part("matches", "MATCH", shards * capacity))
    for shard in range(shards):
        written = view.cursor(cursors.matches_written(shard))
        rows = arrays["matches"][shard * capacity : (shard + 1) * capacity].copy()
        for index in range(max(0, written - capacity), written):
            if wanted.first <= rows[index % capacity]["seq"] <= wanted.last:
                yield row_item(records.MATCH, rows[index % capacity], shard=shard, index=index)


def _ingress_slots(instance: str, name: str, view: View) -> Iterator[Item]:
    """Commands that the sequencer has taken or will take; lines not sent show older ones' bytes."""
    from shm.ingress import HEAD, SLOT_WORDS, SLOTS, TAIL, ring_parts

    capacity = int(view.engine["ingress"])
    cells = _attach(instance, name, *ring_parts(capacity))["ring"].copy()
    head, tail = int(cells[HEAD]), int(cells[TAIL])
    yield row_item(records.INGRESS, cells[:8].view(records.INGRESS.dtype)[0], head=head, tail=tail)
    for index in range(max(0, tail - capacity), tail):
        at = SLOTS + index % capacity * SLOT_WORDS
        words = np.zeros(records.COMMAND.dtype.itemsize // 8, np.int64)
        words[:SLOT_WORDS] = cells[at : at + SLOT_WORDS]
        item = command_item(words.view(records.COMMAND.dtype)[0])
        state = "taken" if index < head else "waiting"
        yield item._replace(values={"index": index, "state": state, **item.values})
