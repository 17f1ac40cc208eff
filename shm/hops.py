"""Where sampled commands are on their way: a ring in shared memory that every stage marks.

    segment "hops"             cells of the engine: HEADER, then HOPS[SAMPLES_MAX] as a ring
    segment "requests.<name>"  REQUEST_HOPS[REQUESTS_MAX] of one gateway, as a ring

The sequencer chooses the next command that it will take, at most SAMPLES_PER_S of them after a
burst of SAMPLES_BURST: on a quiet venue that is every command. Each stage looks once a turn
whether it has passed the oldest sample that it hasn't marked (shm/marks.py).

Reads   both, as any process may: `Samples`, `read_requests`.
Writes  the publisher's marks, and a gateway's own requests.
Never   imports numba; is never part of the state: no mark gets into WAL, report or digest.

A mark is made after the stage let others go on, so it is a bound: at that time it was done. Where
a later hop was marked earlier, that is the truer bound, and `marks_of` gives it.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any, Final, NamedTuple

import numpy as np

from shm.hopcells import (
    ARMED,
    FIRST,
    HOP_CELLS,
    MARKED_PUBLISH,
    PUBLISHED,
    ROW_WORDS,
    SAMPLES_MAX,
    SEQ,
)
from shm.records import HOPS, NO_SYMBOL, REQUEST_HOPS
from shm.segment import Part, Segment, SegmentError, list_segments
from shm.traces import Trace

SEGMENT: Final = "hops"
HOP_PARTS: Final = (Part("hops", "<i8", HOP_CELLS),)
REQUESTS: Final = "requests."
REQUESTS_MAX: Final = 8192

Array = np.ndarray[Any, Any]


# ---------------------------------------------------------------- reading


class Sample(NamedTuple):
    """A sampled command; marks as they were made, 0: none."""

    number: int
    seq: int
    request: int
    kind: int
    account: int
    symbol: int
    trace: Trace
    marks: dict[str, int]  # name of a hop -> ns since the Unix epoch


# Hops in the order in which they are shown, each with the one that it comes after.
AFTER: Final = {
    "received": "",
    "handed over": "received",
    "sequenced": "handed over",
    "decided": "sequenced",
    "matched": "decided",
    "settled": "matched",
    "durable": "decided",
    "published": "durable",
    "heard": "durable",  # a gateway reads the ring itself, beside the publisher
    "answered": "heard",
}
# What may only happen when this has happened, besides: reports go out when they are written.
_ALSO_AFTER: Final = {"published": "settled", "heard": "settled"}


def marks_of(marks: dict[str, int]) -> dict[str, int]:
    """Marks in order: a hop was done no later than any hop that comes after it was.

    The sequencer reads its clock when its turn begins: what came during the turn came before.
    """
    found = {name: ns for name in AFTER if (ns := marks.get(name, 0))}
    for name in reversed(AFTER):
        if name not in found or name in ("received", "handed over", "sequenced"):
            continue
        for before in (AFTER[name], _ALSO_AFTER.get(name, "")):
            while before and before not in found:
                before = AFTER[before]
            if before and before not in ("received", "handed over", "sequenced"):
                found[before] = min(found[before], found[name])
    if "sequenced" in found:
        came = max(found.get("received", 0), found.get("handed over", 0))
        found["sequenced"] = max(found["sequenced"], came)
    return found


def in_order(marks: dict[str, int]) -> bool:
    """Whether no hop is before the one it comes after: else somebody has set the clock."""
    for name, ns in marks.items():
        for before in (AFTER[name], _ALSO_AFTER.get(name, "")):
            while before and before not in marks:
                before = AFTER[before]
            if before and marks[before] > ns:
                return False
    return True


class Samples:
    """The samples of a running engine."""

    def __init__(self, instance: str, epoch: int, shards: int) -> None:
        """SegmentError: there is no such engine."""
        self._segment = Segment.attach(instance, SEGMENT, HOP_PARTS, epoch, writable=False)
        self._cells = self._segment.arrays["hops"]
        self._rows = self._cells[FIRST:].view(HOPS.dtype)
        self._shards = shards

    def newest(self) -> int:
        """How many samples were chosen so far; the last one may not have been taken yet."""
        return int(self._cells[ARMED])

    def read(self, first: int = 1) -> list[Sample]:
        """Samples that are still there, from number `first` on, but for those not taken yet."""
        rows = self._rows.copy()
        again = self._rows["number"].copy()  # a row that was used again meanwhile is left out
        good = (rows["number"] == again) & (rows["number"] >= first) & (rows["sequenced_ns"] > 0)
        order = np.flatnonzero(good)
        return [self._sample(rows[k]) for k in order[np.argsort(rows["number"][order])]]

    def find(self, seq: int) -> Sample | None:
        """The sample of a command, if it was sampled and is still there."""
        for k in np.flatnonzero(self._rows["seq"] == seq):
            row = self._rows[k].copy()
            if int(row["seq"]) == seq and int(row["sequenced_ns"]) > 0:
                return self._sample(row)
        return None

    def _sample(self, row: Any) -> Sample:
        symbol = int(row["symbol"])
        if symbol == NO_SYMBOL:
            matched = int(row["matched_ns"][: self._shards].max())
        else:
            matched = int(row["matched_ns"][symbol % self._shards])
        marks = {
            "received": int(row["received_ns"]),
            "sequenced": int(row["sequenced_ns"]),
            "decided": int(row["risked_ns"]),
            "matched": matched,
            "settled": int(row["settled_ns"]),
            "durable": int(row["durable_ns"]),
            "published": int(row["published_ns"]),
        }
        return Sample(
            number=int(row["number"]),
            seq=int(row["seq"]),
            request=int(row["request"]),
            kind=int(row["kind"]),
            account=int(row["account"]),
            symbol=symbol,
            trace=(int(row["trace_hi"]), int(row["trace_lo"])),
            marks=marks,
        )

    def close(self) -> None:
        self._cells = self._rows = np.zeros(0, np.int64)
        self._segment.close()


# ---------------------------------------------------------------- the publisher's marks


class PublisherMarks:
    """The last stage, which is no kernel."""

    def __init__(self, cells: Array) -> None:
        """cells: of an engine's segment."""
        self._cells = cells
        self._rows = cells[FIRST:].reshape(SAMPLES_MAX, ROW_WORDS)

    def mark(self, seq: int, now_ns: int) -> None:
        """Everything up to command `seq` went out."""
        cells = self._cells
        number, armed = int(cells[MARKED_PUBLISH]), int(cells[ARMED])
        number = max(number, armed - SAMPLES_MAX + 1)  # nobody waits for a publisher that is late
        while number < armed:
            row = self._rows[number & (SAMPLES_MAX - 1)]
            if row[SEQ] > seq:
                break
            row[PUBLISHED] = now_ns
            number += 1
        cells[MARKED_PUBLISH] = number


# ---------------------------------------------------------------- gateways


_REQUEST: Final = struct.Struct("<8q")
_REQUEST_PARTS: Final = (Part("requests", "REQUEST_HOPS", REQUESTS_MAX),)
assert _REQUEST.size == REQUEST_HOPS.dtype.itemsize


class RequestMarks:
    """The requests of one gateway; the newest REQUESTS_MAX are kept."""

    def __init__(self, instance: str, producer: str) -> None:
        """Without room for the segment nothing is kept: a gateway does without."""
        self._count = 0
        self._segment: Segment | None = None
        self._bytes: Any = None
        with suppress(SegmentError):
            self._segment = Segment.create(instance, REQUESTS + producer, _REQUEST_PARTS, 0)
            self._bytes = self._segment.arrays["requests"].view(np.uint8).data

    def keep(
        self, request: int, seq: int, trace: Trace, received: int, handed: int, heard: int,
        answered: int,
    ) -> None:  # fmt: skip
        """A request that was answered; instants in ns since the Unix epoch."""
        if self._bytes is not None:
            at = self._count % REQUESTS_MAX * _REQUEST.size
            self._count += 1
            _REQUEST.pack_into(
                self._bytes, at, request, seq, *trace, received, handed, heard, answered
            )

    def close(self) -> None:
        self._bytes = None
        if self._segment is not None:
            self._segment.unlink()
            self._segment.close()
            self._segment = None


def read_requests(instance: str) -> dict[int, dict[str, int]]:
    """request -> marks of its gateway, of every gateway of an instance that runs."""
    found: dict[int, dict[str, int]] = {}
    for info in list_segments(instance):
        if info.state != "live" or not info.name.startswith(REQUESTS):
            continue
        try:
            segment = Segment.attach(instance, info.name, _REQUEST_PARTS, writable=False)
        except SegmentError:
            continue  # it has just ended
        rows = segment.arrays["requests"].copy()
        segment.close()
        for row in rows[rows["request"] != 0]:
            found[int(row["request"])] = {
                "received": int(row["received_ns"]),
                "handed over": int(row["handed_ns"]),
                "heard": int(row["heard_ns"]),
                "answered": int(row["answered_ns"]),
            }
    return found
