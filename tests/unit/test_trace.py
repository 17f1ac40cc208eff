"""`perpcore trace` on a data directory that no engine runs on, and trace ids as clients write them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine.journal import Journal
from engine.memory import limits_of
from engine.recovery import recover
from gateways.http.traces import message_trace, trace_of
from shm import config as configs
from shm.codes import AlgoType, Kind, Side, Tif
from shm.cursors import JOURNALED, REPORTS_JOURNALED, REPORTS_READ
from shm.files import read_manifest
from shm.traces import NO_TRACE, new_trace, read_trace, trace_text
from tests.venue import ANN, BOB, EPOCH_NS, GATEWAY, LIMITS, Venue
from tools import tracelog
from tools.cli import main
from tools.inprocess import fresh_arrays
from tools.trace import Story, TraceError, stories

ID = "0af7651916cd43dd8448eb211c80319c"
OTHER = "f0e0d0c0b0a090807060504030201000"
RECV_NS = 1_800_000_000_123_456_789


class Kept(Venue):
    """A venue whose journal is the real one."""

    journal_: Journal

    def journal(self, most: int = 1 << 30) -> int:
        before = int(self.cursors[JOURNALED]) + int(self.cursors[REPORTS_READ])
        self.journal_.step()
        return int(self.cursors[JOURNALED]) + int(self.cursors[REPORTS_READ]) - before

    def read(self, most: int = 1 << 30) -> int:
        return 0  # the report log does

    def quiet(self) -> bool:
        hidden = int(self.cursors[REPORTS_READ])
        self.cursors[REPORTS_READ] = self.venue["reports_count"]
        found = super().quiet() and self.cursors[REPORTS_JOURNALED] == self.venue["reports_count"]
        self.cursors[REPORTS_READ] = hidden
        return bool(found)

    def order(self, account: int, side: Side, price: int, qty: int, **fields: Any) -> int:
        """Place it, and work until it is answered; returns its number."""
        self.place(account, side, price, qty, ring=GATEWAY, **fields)
        self.work()
        return int(self.venue["risked_seq"])


def traced(text: str) -> dict[str, int]:
    """Fields of a command that carries a trace."""
    high, low = read_trace(text) or NO_TRACE
    return {"trace_hi": high, "trace_lo": low, "recv_ns": RECV_NS, "key_id": 5}


class Numbers:
    """Commands of the market below."""

    maker = other = taker = later = cancel = algo = 0


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Numbers]]:
    """ANN rests 5, BOB takes 2 and then 3; another order of ANN is cancelled; blocks of a page."""
    data = tmp_path_factory.mktemp("market")
    limits = configs.Limits(**LIMITS._asdict())
    wal = configs.Wal(segment_bytes=1 << 16, block_bytes_max=4096, preallocate=1)
    config = configs.Config(data_dir=str(data), limits=limits, wal=wal)
    arrays = fresh_arrays(limits_of(config), 1, commands=256, matches=256, reports=1024)
    recover(config, arrays, 4096)
    v = Kept(limits_of(config), arrays=arrays)
    v.journal_ = Journal(
        *(data, v.cursors, arrays["commands"], arrays["reports"], config.wal),
        threads=False,
        segment_records=4096,
    )
    n = Numbers()
    v.asset()
    v.symbol()
    for account in (ANN, BOB):
        v.account(account, 1_000_000)
    v.work()
    n.maker = v.order(ANN, Side.SELL, 100, 5, client_id="rests", **traced(ID))
    n.other = v.order(ANN, Side.SELL, 120, 1, **traced(ID))
    n.taker = v.order(BOB, Side.BUY, 100, 2, **traced(OTHER))
    n.later = v.order(BOB, Side.BUY, 100, 3, tif=Tif.IOC)
    v.send(Kind.CANCEL, ring=GATEWAY, account=ANN, symbol=0, order_id=n.other)
    v.work()
    n.cancel = int(v.venue["risked_seq"])
    v.send(
        Kind.PLACE_ALGO, ring=GATEWAY, account=BOB, symbol=0, side=Side.SELL,
        type=AlgoType.STOP_MARKET, trigger_ticks=90, qty_lots=2, **traced(OTHER),
    )  # fmt: skip
    v.work()
    n.algo = int(v.venue["risked_seq"])
    v.order(ANN, Side.SELL, 300, 1)  # its reports are behind all others
    v.journal_.close()
    yield data, n


def kinds(reports: Any) -> list[str]:
    return [report.item.title for report in reports]


def test_from_the_trace_to_everything_it_caused(market: tuple[Path, Numbers]) -> None:
    data, n = market
    maker, other = stories(data, ID)
    assert (maker.seq, other.seq) == (n.maker, n.other)
    assert trace_text(maker.trace) == ID
    assert kinds(maker.reports) == ["ORDER", "CLIENT_ID", "TRACE", "HOLD"]
    # Both fills of what rested, each with what it did to ANN and nobody else.
    fills = [r for r in maker.later if r.item.title == "EXEC"]
    assert [int(r.row["seq"]) for r in fills] == [n.taker, n.later]
    assert {int(r.row["account"]) for r in maker.later} == {ANN}
    assert kinds(maker.later).count("POSITION") == 2
    # The other one ends with its cancel.
    assert [int(r.row["seq"]) for r in other.later] == [n.cancel, n.cancel]
    assert kinds(other.later) == ["ORDER", "HOLD"]


def test_hops_are_marks_that_were_left(market: tuple[Path, Numbers]) -> None:
    data, n = market
    hops = {hop.name: hop for hop in stories(data, ID)[0].hops}
    assert hops["received"].ns == RECV_NS and "producer 8" in hops["received"].where
    assert hops["sequenced"].ns == EPOCH_NS, "the venue stands still"
    assert hops["durable"].ns == 0, "the WAL holds no time of its own"
    assert f"commands {n.maker} to {n.maker}" in hops["durable"].where


@pytest.mark.parametrize("which", ["maker", "other", "taker", "later", "cancel", "algo"])
def test_a_number_finds_what_it_is_the_number_of(market: tuple[Path, Numbers], which: str) -> None:
    data, n = market
    seq = getattr(n, which)
    (story,) = stories(data, str(seq))
    assert story.seq == seq and story.logged is not None and story.logged.seq == seq
    assert story.reports and all(int(r.row["seq"]) == seq for r in story.reports)
    place = story.logged.place
    assert place.first_seq <= seq < place.first_seq + place.commands
    assert (story.trace == NO_TRACE) == (which in ("later", "cancel"))


def test_traceparent_means_its_trace(market: tuple[Path, Numbers]) -> None:
    data, n = market
    found = stories(data, f"00-{OTHER}-b7ad6b7169203331-01")
    assert [story.seq for story in found] == [n.taker, n.algo]


def test_the_wal_alone_knows_it(market: tuple[Path, Numbers]) -> None:
    """Without its TRACE report: the log may be pruned, or the reports not there yet."""
    data, n = market
    wal = tracelog.Wal(data, read_manifest(data))
    assert [c.seq for c in wal.find_trace(read_trace(ID) or NO_TRACE)] == [n.maker, n.other]
    # Its 16 bytes as a client id are nobody's trace.
    assert wal.find_trace((int.from_bytes(b"rests", "little"), 0)) == []
    assert wal.find_seq(0) is None and wal.find_seq(1 << 40) is None


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("1" * 32, "nothing is known of"),
        ("999999", "nothing is known of"),
        ("0" * 32, "is no trace id"),
        ("order 5", "is no trace id"),
        ("٣", "is no trace id"),
    ],
)
def test_what_is_unknown_is_said(market: tuple[Path, Numbers], asked: str, says: str) -> None:
    with pytest.raises(TraceError, match=says):
        stories(market[0], asked)
    result = CliRunner().invoke(main, ["trace", asked, "--data", str(market[0])])
    assert result.exit_code == 1 and says in result.output and "Traceback" not in result.output


def test_text_and_json(market: tuple[Path, Numbers]) -> None:
    data, n = market
    text = CliRunner().invoke(main, ["trace", ID, "--data", str(data)]).output.splitlines()
    assert text[0] == f"trace {ID}" and text[1].startswith("PLACE ")
    assert "2027-01-15 08:00:00.123456789" in text[2] and text[2].startswith("  received")
    (told,) = json.loads(
        CliRunner().invoke(main, ["trace", str(n.maker), "--data", str(data), "--json"]).output
    )
    assert told["trace"] == ID and told["command"]["client_id"] == "rests"
    marked = {hop["hop"]: hop["ns"] for hop in told["hops"] if hop["ns"]}
    assert list(marked) == ["received", "sequenced"]
    assert told["hops"][0]["ns"] == RECV_NS and told["wal"]["commands"] == 1


def test_a_directory_without_an_exchange(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["trace", ID, "--data", str(tmp_path)])
    assert result.exit_code == 1 and "Traceback" not in result.output


def later_of(story: Story) -> list[int]:
    return [report.number for report in story.later]


def test_small_reads_find_the_same(
    market: tuple[Path, Numbers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a read holds, nothing is lost where two of them meet."""
    data, _ = market
    whole = [later_of(story) for story in stories(data, ID)]
    for size in (9, 16, 31):
        monkeypatch.setattr(tracelog, "BATCH", size)
        assert [later_of(story) for story in stories(data, ID)] == whole


# ---------------------------------------------------------------- ids

TEXTS = """
    0af7651916cd43dd8448eb211c80319c                                same
    0AF7651916CD43DD8448EB211C80319C                                same
    00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01         same
    00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more    none     version 00 ends there
    cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more    same     a later one may go on
    ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01         none     no version
    00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01         none     capitals
    00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01         none     no parent
    00-00000000000000000000000000000000-b7ad6b7169203331-01         none     no trace
    00000000000000000000000000000000                                none
    0af7651916cd43dd8448eb211c80319                                 none     31 digits
    0af7651916cd43dd8448eb211c80319cc                               none     33 digits
    0af7651916cd43dd8448eb211c80319٣                                none     a digit of another script
"""


@pytest.mark.parametrize("line", TEXTS.strip().splitlines())
def test_texts(line: str) -> None:
    text, wanted = line.split()[:2]
    found = read_trace(text)
    assert (found is not None and trace_text(found) == ID) == (wanted == "same")
    assert (found is None) == (wanted == "none")


def test_digits_and_words() -> None:
    """As the ledger and `perpcore inspect` print the two words: the digits from left to right."""
    assert read_trace("00000000000000010000000000000002") == (1, 2)
    assert read_trace("f" * 32) == (-1, -1)
    assert trace_text((1, -1)) == "0000000000000001ffffffffffffffff"
    assert new_trace() != new_trace()


def test_what_a_request_names() -> None:
    parent = f"00-{ID}-b7ad6b7169203331-01"
    assert trace_text(trace_of({"X-Trace-Id": OTHER, "traceparent": parent})) == OTHER
    assert trace_text(trace_of({"X-Trace-Id": "nonsense", "traceparent": parent})) == ID
    assert trace_text(trace_of({"traceparent": parent})) == ID
    assert trace_of({}) not in (trace_of({}), NO_TRACE)
    assert trace_text(message_trace({"traceId": ID})) == ID
    for nonsense in (7, None, [ID], "9" * 10_000):
        assert trace_text(message_trace({"traceId": nonsense, "traceparent": parent})) == ID
