"""`perpcore inspect`: every file and ring as text, sound or damaged, by the records declared."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from engine import files, memory, snapshotfile, wal, walblocks, walreader
from engine.reportlog import FollowerPosition, ReportLog, follower_positions
from shm import config, cursors, hopcells, records
from shm.codes import Kind, ReportKind, Side, Tif
from shm.pointers import table
from tools.cli import main
from tools.inspect import COMMAND_RECORDS, REPORT_RECORDS, Item, Wanted, as_text, file_items

INSTANCE = f"test-inspect-{os.getpid()}"


def perpcore(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def orders(count: int, first: int = 1) -> np.ndarray:
    """A few commands as the ring holds them."""
    rows = np.zeros(count, records.COMMAND.dtype)
    rows["seq"] = np.arange(first, first + count)
    rows["settled_seq"] = rows["seq"] - 1
    rows["request"] = (4 << 48) + rows["seq"]
    rows["kind"], rows["tif"], rows["side"] = Kind.PLACE, Tif.GTX, Side.SELL
    rows["price_ticks"], rows["qty_lots"], rows["account"] = 100, 7, 16
    rows["ts_ns"], rows["lines"] = 1_800_000_000_000_000_001, 2
    rows["client_id"][:, 0] = int.from_bytes(b"mine", "little")
    return rows


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    """A WAL segment of two blocks, three commands each, and room that nobody has written to."""
    manifest = wal.create_wal(tmp_path / "data", 1 << 20)
    buffer = walreader.Buffer(1 << 20)
    at = 0
    for block in range(2):
        rows = np.zeros(8, records.COMMAND.dtype)
        for row in orders(3, 1 + 3 * block):
            rows[row["seq"] & 7] = row
        head = buffer.array.view(records.WAL_BLOCK.dtype)[at // walblocks.HEADER_WORDS]
        head["wal_hi"], head["wal_lo"], head["epoch"] = manifest.wal_hi, manifest.wal_lo, 1
        head["offset"], head["block"], head["kind"] = at * 8, block, walblocks.DATA
        head["first_seq"], head["record_count"] = 1 + 3 * block, 3
        start = at + walblocks.HEADER_WORDS
        _, end = walblocks.pack_commands(
            table(rows.view(np.int64)),
            7,
            1 + 3 * block,
            3 + 3 * block,
            buffer.words,
            start,
            1 << 17,
        )
        at += walblocks.finish_block(buffer.blocks, buffer.words, at, end)
    path = files.segment_path(tmp_path / "data", 0)
    path.write_bytes(bytes(buffer.bytes))
    return path


def titles(items: Iterator[Item]) -> list[str]:
    return [item.title for item in items]


def test_wal_segment_as_text(segment: Path) -> None:
    lines = perpcore("inspect", str(segment)).splitlines()
    assert [line.split()[0] for line in lines] == ["block", *["PLACE"] * 3] * 2 + ["blank"]
    assert "state=sound" in lines[0]
    assert "kind=DATA" in lines[0]
    for word in (
        *("seq=2", "ts_ns=2027-01-15T08:00:00.000000001Z", "request=4:2", "price_ticks=100"),
        *("side=SELL", "type=LIMIT", "tif=GTX", "client_id=mine", "settled_seq=1"),
    ):
        assert word in lines[2].split(), lines[2]
    assert "order_id" not in lines[2], "what is zero says nothing"
    row = json.loads(perpcore("inspect", str(segment), "--json").splitlines()[2])
    assert row["is"] == "PLACE"
    assert row["order_id"] == 0
    assert (row["ts_ns"], row["request"]) == (1_800_000_000_000_000_001, (4 << 48) + 2)
    declared = {f.name for f in records.COMMAND.fields if "reserved" not in f.name}
    assert row.keys() == declared - {"kind"} | {"is"}


def test_wal_segment_by_sequence(segment: Path) -> None:
    lines = perpcore("inspect", str(segment), "--from", "3", "--to", "4").splitlines()
    assert [line.split()[0] for line in lines] == ["block", "PLACE", "block", "PLACE", "blank"]
    assert len(perpcore("inspect", str(segment), "--limit", "2").splitlines()) == 2


def test_damage_in_a_wal_segment_is_named_and_passed(segment: Path) -> None:
    data = bytearray(segment.read_bytes())
    data[16] ^= 1  # header of the first block
    data[4096 + 200] ^= 1  # body of the second
    data[8192 + 5] = 1  # a page that is nothing
    segment.write_bytes(data)
    items = list(file_items(segment))
    assert [(item.title, item.values["byte"]) for item in items] == [
        ("damage", 0),
        ("block", 4096),
        ("damage", 8192),
        ("blank", 12288),
    ]
    assert items[0].values["what"] == "the hash of the block header differs"
    assert items[1].values["state"] == "the hash of the block body differs"
    assert items[2].values["what"] == "no block begins here"


def test_small_files(segment: Path) -> None:
    data = segment.parent.parent
    (item,) = file_items(files.manifest_path(data))
    assert (item.title, item.values["state"]) == ("WAL_MANIFEST", "sound")
    slots = list(file_items(files.watermark_path(data)))
    assert [item.values["state"] for item in slots] == ["sound", "blank"]
    FollowerPosition(data, "ledger").close()
    assert follower_positions(data) == {"ledger": 0}
    (item,) = file_items(data / "reports" / "followers" / "ledger.pos")
    assert item.values["name"] == "ledger"


def test_report_log_segment(segment: Path) -> None:
    data = segment.parent.parent
    manifest = files.read_manifest(data)
    log = ReportLog(data, manifest, 0)
    rows = np.zeros(5000, records.REPORT.dtype)
    rows["seq"], rows["kind"] = np.arange(1, 5001), ReportKind.EXEC
    log.append(rows)
    log.close()
    (path,) = sorted((data / "reports").glob("*.seg"))
    items = list(file_items(path, Wanted(4999, 5000)))
    assert [item.title for item in items] == ["REPORT_SEGMENT", "EXEC", "EXEC"]
    assert items[1].values["index"] == 4998
    broken = bytearray(path.read_bytes())
    broken[4096 + 64 * 10 + 20] ^= 4
    path.write_bytes(broken)
    items = list(file_items(path, Wanted(1, 1)))
    assert [item.title for item in items] == ["REPORT_SEGMENT", "damage", "EXEC"]
    assert items[1].values["what"] == "the hash of reports 0 to 4095 differs"


def test_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "snap.7"
    accounts = np.zeros(4, records.ACCOUNT.dtype)
    accounts["open_orders"][2] = 9
    cells = np.array([0, 0, 5], np.int64)
    meta = {"seq": 7, "wal": "0" * 32, "epoch": 1, "reports_count": 0}
    snapshotfile.write_snapshot(path, meta, {"accounts": accounts, "heap": cells})
    assert titles(file_items(path)) == [
        "SNAPSHOT_HEADER",
        "meta",
        "SNAPSHOT_SECTION",
        "SNAPSHOT_SECTION",
    ]
    (row,) = list(file_items(path, Wanted(table="accounts")))[2:]
    assert (row.title, row.values["row"], row.values["open_orders"]) == ("ACCOUNT", 2, 9)
    (row,) = list(file_items(path, Wanted(table="heap")))[2:]
    assert row.values == {"row": 2, "value": 5}
    result = CliRunner().invoke(main, ["inspect", str(path), "--table", "nodes"])
    assert result.exit_code == 1
    assert "no table 'nodes'; there are accounts, heap" in result.stderr
    data = bytearray(path.read_bytes())
    data[-60] ^= 1
    path.write_bytes(data)
    assert titles(file_items(path))[:2] == ["damage", "SNAPSHOT_HEADER"]


@pytest.fixture
def engine() -> Iterator[memory.Memory]:
    """Shared memory of an engine that has taken three commands and no process but ours."""
    small = {"rings.commands": 64, "rings.matches": 64, "rings.reports": 256, "rings.ingress": 16}
    limits = {"accounts": 32, "positions": 32, "orders": 32, "clients": 32, "leaves": 8, "trie": 8}
    small |= {f"limits.{name}": rows for name, rows in limits.items()}
    made = memory.create(config.load(None, {"instance": INSTANCE, **small}), 3)
    status = made.arrays["engine_status"][0]
    status["shards"], status["epoch"], status["started_ns"] = 1, 3, 1
    for name in ("commands", "matches", "reports", "ingress"):
        status[name] = small[f"rings.{name}"]
    cells = made.arrays["cursors"]
    made.arrays["commands"][[1, 2, 3]] = orders(3)
    cells[cursors.SEQUENCED] = 3
    made.arrays["reports"][:2]["seq"] = [1, 2]
    made.arrays["reports"][:2]["kind"] = [ReportKind.ORDER, ReportKind.EXEC]
    cells[cursors.REPORTS_WRITTEN] = 2
    made.arrays["matches"][:1]["seq"] = 1
    cells[cursors.matches_written(0)] = 1
    samples = made.arrays["hops"][hopcells.FIRST :].view(records.HOPS.dtype)
    samples[:2]["number"], samples[:2]["seq"], samples[:2]["kind"] = [1, 2], [2, 3], Kind.PLACE
    yield made
    made.unlink()
    made.close()


def test_rings_and_status(engine: memory.Memory) -> None:
    def shown(name: str) -> list[str]:
        return [line.split()[0] for line in perpcore("inspect", f"{INSTANCE}.{name}").splitlines()]

    assert shown("commands") == ["PLACE"] * 3
    assert shown("reports") == ["ORDER", "EXEC"]
    assert shown("matches") == ["MATCH"]
    assert shown("cursors") == ["cursors", "shard"]
    assert shown("control") == ["ENGINE_STATUS"]
    assert shown("ingress.replay") == ["INGRESS"]
    assert shown("hops") == ["HOPS"] * 2
    assert "seq=3" in perpcore("inspect", f"{INSTANCE}.hops", "--from", "3")
    assert "sequencer.commands" in perpcore("inspect", f"{INSTANCE}.counters")
    assert "sequenced=3" in perpcore("inspect", f"{INSTANCE}.cursors")
    result = CliRunner().invoke(main, ["inspect", f"{INSTANCE}.risk"])
    assert result.exit_code == 1
    assert "perpcore snapshot" in result.stderr


def test_every_kind_has_its_record() -> None:
    named = {name for name in records.RECORDS if name.endswith("_COMMAND")}
    assert {layout.name for layout in COMMAND_RECORDS.values()} == named
    named = {name for name in records.RECORDS if name.endswith("_REPORT")}
    assert {layout.name for layout in REPORT_RECORDS.values()} == named


def test_values_no_enumeration_knows_are_numbers() -> None:
    row = orders(1)
    row["kind"], row["tif"], row["flags"] = 200, 99, 0b1000_0001
    from tools.inspect import command_item

    item = command_item(row[0])
    assert item.title == "200"
    assert (item.values["tif"], item.values["flags"]) == (99, "REDUCE_ONLY|CLOSE_POSITION")
    assert "tif=99" in as_text(item)
