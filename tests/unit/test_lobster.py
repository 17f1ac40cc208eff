"""LOBSTER files: what each message becomes, and that the published book holds at every row."""

from __future__ import annotations

from pathlib import Path

import pytest

from shm.codes import Side
from tests.model.flow_twin import FlowTwin
from tools.flow import Cmd, FlowError
from tools.lobster import Lobster, book_beside, load_lobster

# Two levels; a message, and the book after it: ask, size, bid, size, ask 2, size, bid 2, size.
STORY = """
1,1,50,5,99,1      | 101 7 100 3  102 9  99 5     a new bid below the best; the rest was there
1,2,17,2,100,1     | 101 7 100 1  102 9  99 5     an older order is reduced: ours at its price is
1,4,18,4,101,-1    | 101 3 100 1  102 9  99 5     an older offer is hit for 4
1,5,19,4,101,-1    | 101 3 100 1  102 9  99 5     hidden: nothing to see
1,4,17,1,100,1     | 101 3  99 5  102 9  98 6     the best bid goes; a level we never saw shows
1,3,50,5,99,1      | 101 3  98 6  102 9  97 1     a deletion of an order the file placed
1,1,51,4,100,-1    | 100 4  98 6  101 3  97 1     a better offer: 102 goes out of view
1,3,51,4,100,-1    | 101 3  98 6  102 2  97 1     and comes back smaller
1,1,52,1,98,-1     |  98 1  98 6  101 3  97 1     the file says it rests, crossed or not
"""


def story(tmp_path: Path) -> tuple[Path, Path]:
    lines = [line.partition("|") for line in STORY.splitlines() if line]
    messages = tmp_path / "X_message_2.csv"
    orderbook = tmp_path / "X_orderbook_2.csv"
    messages.write_text("\n".join(message.strip() for message, _, _ in lines))
    orderbook.write_text("\n".join(",".join(book.split()[:8]) for _, _, book in lines))
    return messages, orderbook


def assert_published(lobster: Lobster, orderbook: Path) -> None:
    """After the rows of each message, the naive book's best levels are the published ones."""
    twin, row = FlowTwin(), 0
    for line, text in enumerate(orderbook.read_text().splitlines(), 1):
        while row < len(lobster.flow) and lobster.flow[row]["file_seq"] <= line:
            assert twin.apply(lobster.flow[row]), lobster.flow[row]
            row += 1
        cells = list(map(int, text.split(",")))
        depth = len(cells) // 4
        for side, first in ((Side.SELL, 0), (Side.BUY, 2)):
            shown = list(zip(cells[first::4], cells[first + 1 :: 4], strict=True))
            wanted = [(price, lots) for price, lots in shown if lots > 0]
            assert twin.levels(side, depth) == wanted, f"line {line}, {side.name}"
    assert row == len(lobster.flow)


def test_story(tmp_path: Path) -> None:
    messages, orderbook = story(tmp_path)
    assert book_beside(messages) == orderbook
    lobster = load_lobster(messages, orderbook)
    rows = [
        (
            int(r["file_seq"]),
            Cmd(int(r["cmd"])).name,
            int(r["order_id"]),
            "BS"[int(r["side"])],
            int(r["price"]),
            int(r["qty"]),
        )
        for r in lobster.flow
    ]
    assert rows == [
        (0, "SNAP", 53, "B", 100, 3),
        (0, "SNAP", 54, "S", 101, 7),
        (0, "SNAP", 55, "S", 102, 9),
        (1, "PLACE", 50, "B", 99, 5),
        (2, "REDUCE", 53, "B", 100, 2),
        (3, "IOC", 56, "B", 101, 4),
        (5, "IOC", 57, "S", 100, 1),
        (5, "SNAP", 58, "B", 98, 6),
        (6, "CANCEL", 50, "B", 99, 0),
        (6, "SNAP", 59, "B", 97, 1),
        (7, "PLACE", 51, "S", 100, 4),
        (8, "CANCEL", 51, "S", 100, 0),
        (8, "REDUCE", 55, "S", 102, 7),
        (9, "SNAP", 52, "S", 98, 1),
    ]
    assert (lobster.seeded, lobster.corrected) == (3, 3)
    assert_published(lobster, orderbook)


def test_without_a_book_nothing_rests_before_the_first_message(tmp_path: Path) -> None:
    messages, orderbook = story(tmp_path)
    orderbook.unlink()
    assert book_beside(messages) is None
    lobster = load_lobster(messages)
    assert (lobster.seeded, lobster.corrected) == (0, 0)
    assert [Cmd(int(cmd)).name for cmd in lobster.flow["cmd"][:3]] == ["PLACE", "CANCEL", "IOC"]
    messages.write_text("")
    assert len(load_lobster(messages).flow) == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1,8,50,5,99,1", "type = '8', wanted a message type, 1 to 7"),
        ("1,1,,5,99,1", "order_id = '', wanted an integer"),
        ("1,1,50,5.5,99,1", "size = '5.5', wanted an integer"),
        ("1,1,50,5,99,2", "direction = '2', wanted 1 for a buy order"),
        ("1,1,50,5,99", "5 columns, wanted 6"),
    ],
)
def test_a_bad_cell_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(f"{line}\n")
    with pytest.raises(FlowError, match="line 1: " + said):
        load_lobster(path)


def test_one_order_is_not_placed_twice(tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("1,1,50,5,99,1\n1,1,50,5,99,1\n")
    with pytest.raises(FlowError, match="line 2: order_id = 50 is live already"):
        load_lobster(path)


def test_recorded_sample_keeps_the_published_book_at_every_row(recorded: Path) -> None:
    folder = recorded / "lobster_aapl_sample"
    messages = folder / "AAPL_2012-06-21_first1000_message_10.csv"
    orderbook = book_beside(messages)
    assert orderbook is not None
    assert_published(load_lobster(messages, orderbook), orderbook)
