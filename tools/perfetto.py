"""`perpcore trace --perfetto`: every hop of sampled commands, as Perfetto and Chrome draw it.

    samples of the engine ┐
                          ├─ by request ─▶ marks in order ─▶ a track a command, a slice a hop
    requests of gateways  ┘

Reads   shared memory of a running engine and its gateways (shm/hops.py), for some seconds.
Writes  one JSON file of trace events; what each hop took, as text.
Never   asks anything of the engine: the marks are made whether somebody looks or not.

Slices are async events (ph b and e), because commands overlap. `ts` is in µs since the first mark,
three decimals; otherData.begin_ns says when that was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from shm.codes import Kind
from shm.control import View
from shm.hops import AFTER, Sample, Samples, in_order, marks_of, read_requests
from shm.records import INGRESS
from shm.segment import FOLDER, PAGE_BYTES, PREFIX, list_segments
from shm.traces import NO_TRACE, trace_text
from shm.units import PRODUCER_SHIFT

POLL_S: Final = 0.5  # the rings hold some seconds
_INGRESS: Final = "ingress."
_SETTLING_S: Final = 0.3  # for the last ones to get through

# Tracks of their own: the journal syncs while matching and settlement go on, and the publisher has
# its say while gateways read the ring themselves.
_BESIDE: Final = {"durable": 2, "published": 3}
# What a hop is called while it is under way: it ends with the mark of that name.
_SPANS: Final = {
    "handed over": "gateway in",
    "sequenced": "ingress ring",
    "decided": "risk",
    "matched": "match",
    "settled": "settle",
    "durable": "journal",
    "published": "publish",
    "heard": "to the gateway",
    "answered": "gateway out",
}


class Way(NamedTuple):
    """A sampled command with every mark of it, in order."""

    sample: Sample
    marks: dict[str, int]


class Collected(NamedTuple):
    """What some seconds gave."""

    ways: list[Way]
    disordered: int  # left out: the clock was set meanwhile
    unfinished: int  # left out: not settled and durable yet


def way_of(sample: Sample, requests: dict[int, dict[str, int]]) -> dict[str, int]:
    """Every mark there is of a command, in order."""
    return marks_of(sample.marks | requests.get(sample.request, {}))


def collect(view: View, seconds: float) -> Collected:
    """Follow a running engine; SegmentError when it has just ended."""
    samples = Samples(view.instance, view.epoch, int(view.engine["shards"]))
    found: dict[int, Sample] = {}
    requests: dict[int, dict[str, int]] = {}
    first = last = samples.newest()
    until = time.monotonic() + seconds
    try:
        while True:
            left = until - time.monotonic()
            time.sleep(max(min(left, POLL_S), 0) if left > 0 else _SETTLING_S)
            last = samples.newest() if left > 0 else last
            found |= {s.number: s for s in samples.read(first) if s.number <= last}
            requests |= read_requests(view.instance)
            if left <= 0 or not view.alive:
                break
    finally:
        samples.close()
    ways, disordered, unfinished = [], 0, 0
    for sample in found.values():
        marks = way_of(sample, requests)
        if not {"settled", "durable"} <= marks.keys():
            unfinished += 1
        elif not in_order(marks):
            disordered += 1
        else:
            ways.append(Way(sample, marks))
    return Collected(ways, disordered, unfinished)


# ---------------------------------------------------------------- the file


def spans(marks: dict[str, int]) -> Iterator[tuple[str, int, int]]:
    """(name of a hop's mark, from, to) for every hop both of whose ends were marked."""
    for name, ns in marks.items():
        before = AFTER[name]
        while before and before not in marks:
            before = AFTER[before]
        begin = marks.get(before, 0)
        if name in ("published", "heard"):
            begin = max(begin, marks.get("settled", 0))
        if begin:
            yield name, begin, ns


def events_of(way: Way, begin_ns: int, producers: dict[int, str]) -> Iterator[dict[str, Any]]:
    """The events of one command: a slice of all of it, in it one a hop."""
    sample, marks = way
    kind = Kind(sample.kind).name if sample.kind in list(Kind) else str(sample.kind)
    producer = sample.request >> PRODUCER_SHIFT
    args = {
        "seq": sample.seq,
        "account": sample.account,
        "producer": producers.get(producer, str(producer)),
        "trace": trace_text(sample.trace) if sample.trace != NO_TRACE else "",
    }
    tracks: dict[int, list[tuple[str, int, int]]] = {1: [], 2: [], 3: []}
    for name, first, last in spans(marks):
        tracks[_BESIDE.get(name, 1)].append((_SPANS[name], first, last))
    name = f"{kind} {sample.seq}"
    for track, inner in tracks.items():
        if not inner:
            continue
        # Hops of a track follow one another: risk ends before match begins, and so on.
        edges = [(name, inner[0][1], inner[-1][2], args)] if track == 1 else []
        common = {"cat": "hops", "id": f"{sample.seq}.{track}", "pid": 1, "tid": track}
        for title, first, _last, more in edges:
            yield {**common, "ph": "b", "name": title, "ts": _us(first, begin_ns), "args": more}
        for title, first, last in inner:
            yield {**common, "ph": "b", "name": title, "ts": _us(first, begin_ns),
                   "args": {"ns": last - first}}  # fmt: skip
            yield {**common, "ph": "e", "name": title, "ts": _us(last, begin_ns)}
        for title, _first, last, _more in edges:
            yield {**common, "ph": "e", "name": title, "ts": _us(last, begin_ns)}


def _us(ns: int, begin_ns: int) -> float:
    return (ns - begin_ns) / 1000


def document(found: Collected, instance: str, producers: dict[int, str]) -> dict[str, Any]:
    """The whole file."""
    begin_ns = min((min(way.marks.values()) for way in found.ways), default=0)
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": f"perpcore {instance}"}},
        {"ph": "M", "pid": 1, "tid": 1, "name": "thread_name", "args": {"name": "commands"}},
        {"ph": "M", "pid": 1, "tid": 2, "name": "thread_name", "args": {"name": "journal"}},
        {"ph": "M", "pid": 1, "tid": 3, "name": "thread_name", "args": {"name": "publisher"}},
    ]
    for way in sorted(found.ways, key=lambda way: way.sample.seq):
        events += events_of(way, begin_ns, producers)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ns",
        "otherData": {
            "begin_ns": begin_ns,
            "instance": instance,
            "samples": len(found.ways),
            "disordered": found.disordered,
            "unfinished": found.unfinished,
        },
    }


def write(found: Collected, path: Path, instance: str, producers: dict[int, str]) -> None:
    """The file, whole or not at all."""
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(json.dumps(document(found, instance, producers)))
    draft.replace(path)


# ---------------------------------------------------------------- as text


def summary(ways: Iterable[Way]) -> Iterator[str]:
    """What each hop took: half of them no longer than, 99 of 100, the longest."""
    took: dict[str, list[int]] = {}
    for way in ways:
        for name, first, last in spans(way.marks):
            took.setdefault(name, []).append(last - first)
    yield f"{'hop':<16}{'commands':>10}{'p50 µs':>12}{'p99 µs':>12}{'max µs':>12}"
    for name, span in _SPANS.items():
        if name in took:
            values = sorted(took[name])
            at = [values[(len(values) - 1) * p // 100] / 1000 for p in (50, 99, 100)]
            yield f"{span:<16}{len(values):>10}" + "".join(f"{us:>12,.1f}" for us in at)


def producer_names(instance: str) -> dict[int, str]:
    """Names of the producers of a running instance by number, from their ingress rings."""
    found = {}
    for info in list_segments(instance):
        if info.state == "live" and info.name.startswith(_INGRESS):
            path = FOLDER / f"{PREFIX}{instance}.{info.name}"
            with suppress(OSError), path.open("rb") as file:
                file.seek(PAGE_BYTES)
                head = np.frombuffer(file.read(INGRESS.dtype.itemsize), INGRESS.dtype)[0]
                found[int(head["producer"])] = info.name.removeprefix(_INGRESS)
    return found
