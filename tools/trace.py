"""`perpcore trace`: where one request has been, by its trace id, command or order.

    trace id ─▶ TRACE reports, WAL ─▶ command ─▶ its reports ─▶ later ones of its orders ─▶ entries
                                         └─▶ hops: every mark that was left of its way, in ns

Reads   a data directory, beside a running engine or without one: WAL, report log, ledger; of a
        running engine the reports that aren't in the log yet.
Writes  nothing.
Never   makes up an instant: a hop that left no mark is shown without one.

What is durable holds two instants: when the gateway had read the request (in the command), and
when the sequencer took it. All others are marks in shared memory (shm/hops.py), which hold the
last requests of each gateway, and of commands a sample: on a quiet venue every one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from shm import records
from shm.codes import AlgoStatus, ReportKind, Status
from shm.control import View
from shm.files import read_manifest
from shm.hops import AFTER, Samples, marks_of, read_requests
from shm.kinds import REPORT_RECORDS
from shm.segment import SegmentError
from shm.traces import NO_TRACE, Trace, read_trace, trace_text
from shm.units import PRODUCER_SHIFT
from tools.inspect import Item, command_item, report_item
from tools.inspect import as_text as line_of
from tools.tracelog import Array, Logged, Reports, Wal, running_on, trace_in

LATER_MAX: Final = 1000  # reports kept of what came later
_ENDED: Final = (Status.FILLED, Status.CANCELED, Status.EXPIRED, Status.REJECTED)
_OF_A_TRADE: Final = (
    *(ReportKind.POSITION, ReportKind.MARGIN, ReportKind.MOVE),
    *(ReportKind.HOLD, ReportKind.FLIP, ReportKind.WALLET),
)
_ALGO_ENDED: Final = (AlgoStatus.CANCELED, AlgoStatus.EXPIRED, AlgoStatus.REJECTED)


class TraceError(Exception):
    """Nothing is known of what was asked for."""


class Hop(NamedTuple):
    """One station of a command's way."""

    name: str
    ns: int  # since the Unix epoch; 0: no mark was left
    where: str


class Report(NamedTuple):
    """A report and where it is in the log."""

    number: int  # in the log, from 0
    row: Any  # of REPORT

    @property
    def item(self) -> Item:
        return report_item(self.row, self.number)


class Story(NamedTuple):
    """All that is known of one command."""

    seq: int
    logged: Logged | None  # None: the WAL doesn't reach back so far
    trace: Trace
    hops: list[Hop]
    reports: list[Report]
    later: list[Report]
    cut: bool  # more came later than was kept
    entries: list[dict[str, Any]]


class Live:
    """Marks that a running engine and its gateways still have of what they did lately."""

    def __init__(self, view: View) -> None:
        self._samples: Samples | None = None
        with suppress(SegmentError):
            self._samples = Samples(view.instance, view.epoch, int(view.engine["shards"]))
        self._requests = read_requests(view.instance)

    def marks(self, seq: int, request: int) -> dict[str, int]:
        """Of one command; none when it wasn't sampled, or long ago."""
        sample = self._samples.find(seq) if self._samples is not None else None
        found = {} if sample is None else {k: ns for k, ns in sample.marks.items() if ns}
        return found | self._requests.get(request, {})


# ---------------------------------------------------------------- what was asked


def stories(data: Path, asked: str) -> list[Story]:
    """What `asked` means, and what became of it.

    asked     32 hexadecimal digits, a W3C traceparent, or the number of a command or order
    raises    TraceError when nothing of the kind is known
    """
    manifest = read_manifest(data)
    view = running_on(data)
    reports, wal = Reports(data, manifest, view), Wal(data, manifest)
    try:
        found = _asked_for(reports, wal, asked)
        if not found:
            raise TraceError(
                f"{data}: nothing is known of {asked}. WAL and report log reach back to report "
                f"{reports.first_index}; what never got to the engine is in the gateways' logs"
            )
        live = Live(view) if view is not None else None
        return [_story(data, reports, live, seq, logged) for seq, logged in sorted(found.items())]
    finally:
        reports.close()
        if view is not None:
            view.close()


def _asked_for(reports: Reports, wal: Wal, asked: str) -> dict[int, Logged | None]:
    """Commands by number; None where only reports are left."""
    if asked.isascii() and asked.isdecimal() and len(asked) < 19:
        seq = int(asked)  # of an order: it is numbered as the command that placed it
        logged = wal.find_seq(seq)
        known = logged is not None or any(True for _ in _of_command(reports, seq))
        return {seq: logged} if known else {}
    trace = read_trace(asked)
    if trace is None:
        raise TraceError(
            f"{asked!r} is no trace id (32 hexadecimal digits), no traceparent and no number"
        )
    seqs = set(_reported(reports, trace))
    if not seqs or reports.first_index > 0:
        # Not reported yet, of a kind whose reports have no trace, or older than the report log.
        return dict.fromkeys(seqs) | {logged.seq: logged for logged in wal.find_trace(trace)}
    return {seq: wal.find_seq(seq) for seq in seqs}


def _reported(reports: Reports, trace: Trace) -> Iterator[int]:
    """Commands whose TRACE report has that id."""
    layout = records.TRACE_REPORT.dtype
    for _, rows in reports.batches(0):
        told = rows.view(layout)
        hits = (told["trace_lo"] == trace[1]) & (told["trace_hi"] == trace[0])
        yield from told["seq"][hits & (told["kind"] == ReportKind.TRACE)].tolist()


# ---------------------------------------------------------------- what became of it


def _words_of(field: str) -> Array:
    """Which word of a report of each kind holds a field; 0 where none does."""
    words = np.zeros(256, np.int64)
    for kind in ReportKind:
        layout = REPORT_RECORDS.get(kind, records.REPORT)
        if kind and field in (layout.dtype.names or ()):
            words[kind] = layout.place(field)[0]
    return words


_ORDER_WORD: Final = _words_of("order_id")
_ALGO_WORD: Final = _words_of("algo_id")


def _of_command(reports: Reports, seq: int) -> Iterator[Report]:
    for index, rows in reports.batches(reports.find_seq(seq)):
        for k in np.flatnonzero(rows["seq"] == seq):
            yield Report(index + int(k), rows[k].copy())
        if int(rows[-1]["seq"]) > seq:
            return


def _word(row: Any, words: Array) -> int:
    """A field of a report by its kind's table of words; 0 where it has none."""
    word = int(words[int(row["kind"])])
    return int(np.frombuffer(row.tobytes(), np.int64)[word]) if word else 0


class _Orders:
    """The orders and conditional orders that a command made, and which of them still live."""

    def __init__(self) -> None:
        self.ids: set[int] = set()
        self.algos: set[int] = set()
        self.live: set[int] = set()

    def made_by(self, reports: Iterable[Report]) -> None:
        """Take those that a command's own reports tell of as new."""
        for report in reports:
            row = report.row
            if row["kind"] == ReportKind.ORDER and _word(row, _ORDER_WORD) == row["seq"]:
                self._begin(self.ids, int(row["seq"]))
            elif row["kind"] == ReportKind.ALGO and _word(row, _ALGO_WORD) == row["seq"]:
                self._begin(self.algos, int(row["seq"]))
        for report in reports:
            self.hear(report.row)

    def _begin(self, kept: set[int], number: int) -> None:
        kept.add(number)
        self.live.add(number)

    def hear(self, row: Any) -> None:
        """A report of one of them: it may have ended, or become another order."""
        kind, status = int(row["kind"]), int(row["status"])
        order = _word(row, _ORDER_WORD)
        if kind == ReportKind.ALGO:
            algo = _word(row, _ALGO_WORD)
            if algo not in self.algos:
                return
            if order and order not in self.ids:
                self._begin(self.ids, order)
            if order or status in _ALGO_ENDED:
                self.live.discard(algo)
        elif (kind == ReportKind.ORDER and status in _ENDED) or (
            kind == ReportKind.EXEC and int(_as(records.EXEC_REPORT, row)["open_lots"]) == 0
        ):
            self.live.discard(order)

    def among(self, rows: Array) -> Array:
        """Which of the reports are about one of them."""
        words = rows.view(np.int64).reshape(-1, 8)
        hits = np.zeros(len(rows), np.bool_)
        for numbers, places in ((self.ids, _ORDER_WORD), (self.algos, _ALGO_WORD)):
            if numbers:
                place = places[rows["kind"]]
                values = words[np.arange(len(rows)), place]
                hits |= (place > 0) & np.isin(values, list(numbers))
        return hits


def _as(layout: records.Record, row: Any) -> Any:
    return np.frombuffer(row.tobytes(), layout.dtype)[0]


def _later(reports: Reports, seq: int, orders: _Orders) -> Iterator[Report]:
    """What came of the command's orders after it: fills with what they did, triggers, cancels."""
    done_seq = 0  # the command that ended the last of them
    for first, rows in reports.batches(reports.find_seq(seq + 1)):
        at = 0
        while at < len(rows):
            hits = (np.flatnonzero(orders.among(rows[at:])) + at).tolist()
            at, known = len(rows), len(orders.ids)
            for hit in hits:
                if done_seq and int(rows[hit]["seq"]) > done_seq:
                    return
                for k in _with_what_follows(rows, hit):
                    yield Report(first + k, rows[k].copy())
                orders.hear(rows[hit])
                if not orders.live:
                    done_seq = int(rows[hit]["seq"])
                if len(orders.ids) > known:
                    at = hit + 1  # a conditional order became this one: look for it, too
                    break
        if done_seq and int(rows[-1]["seq"]) > done_seq:
            return


def _with_what_follows(rows: Array, at: int) -> Iterator[int]:
    """A report, and after one of a trade what that did to the same account."""
    yield at
    if rows[at]["kind"] != ReportKind.EXEC:
        return
    for k in range(at + 1, len(rows)):
        same = rows[k]["seq"] == rows[at]["seq"] and rows[k]["account"] == rows[at]["account"]
        if not same or rows[k]["kind"] not in _OF_A_TRADE:
            return
        yield k


def _story(
    data: Path, reports: Reports, live: Live | None, seq: int, logged: Logged | None
) -> Story:
    caused = list(_of_command(reports, seq))
    orders = _Orders()
    orders.made_by(caused)
    later: list[Report] = []
    cut = False
    if orders.live:
        for report in _later(reports, seq, orders):
            if len(later) == LATER_MAX:
                cut = True
                break
            later.append(report)
    trace = trace_in(logged.row) if logged is not None else NO_TRACE
    for report in caused:
        if report.row["kind"] == ReportKind.TRACE and trace == NO_TRACE:
            told = _as(records.TRACE_REPORT, report.row)
            trace = int(told["trace_hi"]), int(told["trace_lo"])
    seqs = {seq, *(int(report.row["seq"]) for report in later)}
    return Story(
        seq,
        logged,
        trace,
        _hops(seq, logged, caused, live),
        caused,
        later,
        cut,
        _entries(data, seq, seqs, orders.ids),
    )


def _hops(seq: int, logged: Logged | None, caused: list[Report], live: Live | None) -> list[Hop]:
    """The stations in order, with the marks there are."""
    marks: dict[str, int] = {}
    request = 0
    place = "the WAL doesn't reach back so far"
    if logged is not None:
        row, at = logged.row, logged.place
        request, marks["sequenced"] = int(row["request"]), int(row["ts_ns"])
        if trace_in(row) != NO_TRACE:
            marks["received"] = int(row["recv_ns"])
        place = (
            f"{at.path.name} byte {at.byte}, block {at.block} of epoch {at.epoch}: commands "
            f"{at.first_seq} to {at.first_seq + at.commands - 1}"
        )
    for report in caused:
        if report.row["kind"] == ReportKind.TRACE:
            marks["received"] = int(_as(records.TRACE_REPORT, report.row)["recv_ns"])
        elif report.row["kind"] in (ReportKind.ORDER, ReportKind.ANSWER):
            marks.setdefault("sequenced", int(report.row["ts_ns"]))
            request = request or int(report.row["request"])
    if live is not None:
        marks |= live.marks(seq, request)
    marks = marks_of(marks)
    said = f"reports {caused[0].number} to {caused[-1].number}" if caused else "no report"
    where = {
        "received": f"by the gateway, producer {request >> PRODUCER_SHIFT}",
        "sequenced": f"as command {seq}",
        "settled": said,
        "durable": place,
    }
    return [Hop(name, marks.get(name, 0), where.get(name, "")) for name in AFTER]


def _entries(data: Path, seq: int, seqs: set[int], orders: set[int]) -> list[dict[str, Any]]:
    """What the ledger booked of the command and, in later ones, of its orders."""
    from ledger.books import Books
    from ledger.files import LedgerError, ledger_folder
    from ledger.report import entry_data

    folder = ledger_folder(data)
    if not (folder / "head").exists():
        return []
    try:
        books = Books(folder)
        found = []
        for number in sorted(seqs):
            for entry in books.find_seq(number):
                row = entry_data(books, entry)
                if number == seq or row["order_id"] in orders:
                    found.append(row)
    except LedgerError as error:
        raise TraceError(f"the books: {error}") from None
    return found


# ---------------------------------------------------------------- as people and programs read it


def _instant(ns: int) -> str:
    at = datetime.fromtimestamp(ns // 10**9, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}.{ns % 10**9:09}"


def as_text(story: Story) -> Iterator[str]:
    """The lines of one command."""
    if story.trace != NO_TRACE:
        yield f"trace {trace_text(story.trace)}"
    if story.logged is not None:
        yield line_of(command_item(story.logged.row))
    else:
        yield f"command {story.seq}"
    at = {hop.name: hop.ns for hop in story.hops}
    for hop in story.hops:
        when = _instant(hop.ns) if hop.ns else "no mark"
        before = AFTER[hop.name]
        while before and not at[before]:
            before = AFTER[before]
        since = f"{hop.ns - at[before]:+,} ns" if hop.ns and before else ""
        yield f"  {hop.name:<12}{when:<30}{since:>18}  {hop.where}".rstrip()
    for title, reports in (("reports", story.reports), ("later", story.later)):
        if reports:
            yield f"  {title}"
        for report in reports:
            yield f"    {line_of(report.item)}"
    if story.cut:
        yield f"    and more: the first {LATER_MAX} are shown"
    if story.entries:
        yield "  entries"
    for entry in story.entries:
        legs = ", ".join(f"{leg['side']} {leg['amount']} {leg['account']}" for leg in entry["legs"])
        yield f"    {entry['entry']} of command {entry['seq']}: {entry['event']}: {legs}"


def as_data(story: Story) -> dict[str, Any]:
    """The same for programs."""
    command = place = None
    if story.logged is not None:
        item = command_item(story.logged.row)
        command = {"kind": item.title, **item.values}
        place = {**story.logged.place._asdict(), "path": str(story.logged.place.path)}
    return {
        "seq": story.seq,
        "trace": trace_text(story.trace) if story.trace != NO_TRACE else None,
        "command": command,
        "wal": place,
        "hops": [{"hop": h.name, "ns": h.ns or None, "where": h.where} for h in story.hops],
        "reports": [{"kind": r.item.title, **r.item.values} for r in story.reports],
        "later": [{"kind": r.item.title, **r.item.values} for r in story.later],
        "later_cut": story.cut,
        "entries": story.entries,
    }


def record(data: Path, out: Path, seconds: float) -> Iterator[str]:
    """Write the hops of commands sampled in the next seconds; gives lines that say what they took.

    raises    TraceError when no engine runs on the directory, or no command came
    """
    from tools import perfetto

    view = running_on(data)
    if view is None:
        raise TraceError(f"{data}: no engine runs on it. Start it: perpcore up --data {data}")
    try:
        found = perfetto.collect(view, seconds)
        if not found.ways:
            raise TraceError(f"{data}: no command went all the way within {seconds:g} s")
        producers = perfetto.producer_names(view.instance)
        perfetto.write(found, out, view.instance, producers)
    finally:
        view.close()
    yield from perfetto.summary(found.ways)
    yield f"{out}: {len(found.ways)} commands; open it in ui.perfetto.dev or chrome://tracing"
    if found.disordered:
        yield f"{found.disordered} left out: somebody set the clock"
