"""The file that Perfetto and Chrome draw: its shape, its order, and what is left out of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shm.codes import Kind
from shm.hops import Sample
from tests.model.trace_events import check_document
from tools.perfetto import Collected, Way, document, spans, summary, way_of, write

TRACE = (1, 2)
BEGIN = 1_800_000_000_000_000_000
MARKS = {
    "sequenced": BEGIN + 40_000,
    "decided": BEGIN + 41_000,
    "matched": BEGIN + 41_500,
    "settled": BEGIN + 43_250,
    "durable": BEGIN + 400_000,
    "published": BEGIN + 450_001,
}
GATEWAY = {
    "received": BEGIN,
    "handed over": BEGIN + 30_000,
    "heard": BEGIN + 700_000,
    "answered": BEGIN + 800_000,
}


def sample(seq: int, marks: dict[str, int], request: int = 8 << 48) -> Sample:
    return Sample(seq, seq, request + seq, int(Kind.PLACE), 17, 0, TRACE, marks)


def way(seq: int, marks: dict[str, int], gateway: dict[str, int] | None = None) -> Way:
    made = sample(seq, marks)
    return Way(made, way_of(made, {made.request: gateway} if gateway else {}))


def events(found: list[Way]) -> list[dict[str, Any]]:
    made = document(Collected(found, 0, 0), "venue", {8: "gateway0"})
    check_document(made)
    return [event for event in made["traceEvents"] if event["ph"] != "M"]


SPANS = """
    handed over   30.000
    sequenced     10.000
    decided        1.000
    matched        0.500
    settled        1.750
    durable      359.000     from risk on: beside matching and settlement
    published     50.001     from what came last
    heard        300.000     as well: gateways read the ring beside the publisher
    answered     100.000
"""


def test_what_each_hop_took() -> None:
    took = {name: last - first for name, first, last in spans(way(7, MARKS, GATEWAY).marks)}
    wanted = (line.split("  ") for line in SPANS.strip().splitlines())
    rows = [[part.strip() for part in line if part.strip()] for line in wanted]
    assert took == {row[0]: round(float(row[1]) * 1000) for row in rows}


def test_one_command_as_events() -> None:
    found = events([way(7, MARKS, GATEWAY)])
    begins = [(e["name"], e["tid"], e["ts"]) for e in found if e["ph"] == "b"]
    assert begins == [
        ("PLACE 7", 1, 0.0),
        ("gateway in", 1, 0.0),
        ("ingress ring", 1, 30.0),
        ("risk", 1, 40.0),
        ("match", 1, 41.0),
        ("settle", 1, 41.5),
        ("to the gateway", 1, 400.0),
        ("gateway out", 1, 700.0),
        ("journal", 2, 41.0),
        ("publish", 3, 400.0),
    ]
    assert found[0]["args"]["trace"] == "00000000000000010000000000000002"
    assert found[0]["args"]["producer"] == "gateway0"


def test_commands_overlap_on_tracks_of_their_own() -> None:
    later = {name: ns + 1_000 for name, ns in MARKS.items()}
    found = events([way(8, later), way(7, MARKS, GATEWAY)])
    assert {e["id"] for e in found} == {"7.1", "7.2", "7.3", "8.1", "8.2", "8.3"}
    assert found[0]["name"] == "PLACE 7", "in the order of commands"


def test_a_command_of_no_gateway_begins_at_the_sequencer() -> None:
    names = {e["name"] for e in events([way(7, MARKS)])}
    assert names == {"PLACE 7", "risk", "match", "settle", "publish", "journal"}


def test_nothing_at_all() -> None:
    assert events([]) == []
    assert list(summary([]))[1:] == []


def test_the_file(tmp_path: Path) -> None:
    path = tmp_path / "hops.json"
    write(Collected([way(7, MARKS, GATEWAY)], 2, 1), path, "venue", {})
    made = json.loads(path.read_text())
    check_document(made)
    assert made["otherData"] == {
        "begin_ns": BEGIN,
        "instance": "venue",
        "samples": 1,
        "disordered": 2,
        "unfinished": 1,
    }
    assert list(tmp_path.iterdir()) == [path]


def test_summary() -> None:
    lines = list(summary([way(k, MARKS, GATEWAY) for k in range(1, 6)]))
    assert lines[0].split() == ["hop", "commands", "p50", "µs", "p99", "µs", "max", "µs"]
    (journal,) = (line.split() for line in lines if line.startswith("journal"))
    assert journal == ["journal", "5", "359.0", "359.0", "359.0"]
