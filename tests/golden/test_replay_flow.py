"""Recorded days through the whole exchange: `perpcore replay` makes the trades the venue made.

Real processes, a real WAL, in each topology; what is written is compared with what was published.
"""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TOPOLOGIES = ("fused", "split")


def replay(*arguments: str | Path) -> dict[str, int]:
    """Run `perpcore replay … --json`; its summary."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.cli", "replay", *map(str, arguments), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, int] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def rows_of(path: Path) -> list[list[str]]:
    """Rows of a CSV without its header."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", newline="") as file:
        return list(csv.reader(file))[1:]


def test_a_recorded_day_makes_its_own_trades(recorded: Path, tmp_path: Path) -> None:
    folder = recorded / "bitstamp_btcusd_l3"
    outputs = {}
    for topology in TOPOLOGIES:
        paths = [tmp_path / f"{topology}.{name}.csv" for name in ("fills", "book", "answers")]
        found = replay(
            folder / "commands.csv.gz",
            *("--topology", topology, "--fills", paths[0], "--book", paths[1]),
            *("--results", paths[2]),
        )
        assert found["fills"] == 106
        assert found["expected"] == 73_389 and found["unexpected"] == 0
        outputs[topology] = [path.read_bytes() for path in paths]
        assert rows_of(paths[0]) == rows_of(folder / "expected_trades.csv")
    assert outputs["fused"] == outputs["split"]
    with gzip.open(folder / "commands.csv.gz", "rt", newline="") as file:
        commands = list(csv.reader(file))[1:]
    answers = rows_of(tmp_path / "fused.answers.csv")
    assert len(answers) == len(commands)
    post_only = [
        (command[7], answer[3])
        for command, answer in zip(commands, answers, strict=True)
        if command[2] == "POST_ONLY"
    ]
    assert len(post_only) == 60_482
    assert all(expected == said for expected, said in post_only)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_published_levels_stand_at_the_end(
    recorded: Path, tmp_path: Path, topology: str
) -> None:
    (messages,) = (recorded / "lobster_aapl_sample").glob("*_message_*.csv")
    book = tmp_path / "book.csv"
    replay(messages, "--format", "lobster", "--topology", topology, "--book", book)
    levels: dict[str, dict[int, int]] = {"bid": {}, "ask": {}}
    for side, price, _order, lots in rows_of(book):
        levels[side][int(price)] = levels[side].get(int(price), 0) + int(lots)
    published = messages.with_name(messages.name.replace("_message_", "_orderbook_"))
    last = [int(cell) for cell in published.read_text().strip().splitlines()[-1].split(",")]
    asks = sorted(levels["ask"].items())[:10]
    bids = sorted(levels["bid"].items(), reverse=True)[:10]
    assert asks == list(zip(last[0::4], last[1::4], strict=True))
    assert bids == list(zip(last[2::4], last[3::4], strict=True))


FLOW = """\
seq,time,cmd,order_id,side,price,qty
1,0,SNAP,1,bid,100,5
2,0,SNAP,2,ask,99,5
3,0,PLACE,3,sell,105,10
4,0,PLACE,4,sell,105,3
5,0,REPLACE,3,sell,105,8
6,0,REPLACE_BACK,3,sell,105,8
7,0,REPLACE_BACK,9,sell,106,2
8,0,MOVE,4,,106,
9,0,REDUCE,3,,,2
10,0,FOK,10,buy,105,7
11,0,IOC,11,buy,105,2
12,0,CANCEL,77,,,
13,0,MARKET,12,buy,,6
14,0,MOVE,1,,107,
"""


def test_every_command_of_a_flow(tmp_path: Path) -> None:
    """Snapshots may cross; a replace at the back stands behind; a move that crosses trades."""
    flow = tmp_path / "flow.csv"
    flow.write_text(FLOW)
    fills, book, answers = (tmp_path / f"{name}.csv" for name in ("fills", "book", "answers"))
    replay(flow, "--topology", "fused", "--fills", fills, "--book", book, "--results", answers)
    assert [(r[3], r[5]) for r in rows_of(answers)] == [
        ("OK", ""),
        ("OK", ""),
        ("OK", ""),
        ("OK", ""),
        ("OK", ""),
        ("OK", ""),
        ("OK", ""),
        ("OK", ""),
        ("OK", ""),
        ("OK", ""),
        ("OK", ""),
        ("REJECT", "UNKNOWN_ORDER"),
        ("OK", ""),
        ("OK", ""),
    ]
    # 5 lots of 2 at 99 fall to the FOK with 2 of 3 at 105; then 2 more, 2 more, 2 of 9, 2 of 4.
    assert rows_of(fills) == [
        ["0", "10", "2", "buy", "99", "5"],
        ["1", "10", "3", "buy", "105", "2"],
        ["2", "11", "3", "buy", "105", "2"],
        ["3", "12", "3", "buy", "105", "2"],
        ["4", "12", "9", "buy", "106", "2"],
        ["5", "12", "4", "buy", "106", "2"],
        ["6", "1", "4", "buy", "106", "1"],
    ]
    assert rows_of(book) == [["bid", "107", "1", "4"]]
