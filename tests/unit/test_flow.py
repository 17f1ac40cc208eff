"""Order flow files: the words they may use, what is refused and how it is said, what is written."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm.codes import Reason, Side, Status
from tests.model.flow_twin import FlowTwin
from tools import flow
from tools.flow import FLOW, NO_SIDE, Cmd, Expected

HEADER = "seq,time,cmd,order_id,side,price,qty,expected"

GOOD = f"""{HEADER}
0,1.5,SNAP,7,bid,100,5,
1,,limit,8,B,100,5,OK
2,x,PLACE,18446744073709551615,SELL,101,-5,reject
3,x,POST_ONLY,9,a,101,5,OK
4,x,MARKET,10,s,,5,
5,x,CANCEL,9,,,,FILLED

6,x,REDUCE,8,,0,2,
7,x,MOVE,8,,102,,
8,x,REPLACE,8,,103,4,
-9,x,REPLACE_BACK,8,ask,104,4,"OK"
10,x,IOC,11,buy,104,4,
11,x,Fok,12,Buy,104,4,
"""
BUY, SELL = int(Side.BUY), int(Side.SELL)
ROWS = [
    (0, Cmd.SNAP, 7, BUY, 100, 5, Expected.NOTHING),
    (1, Cmd.PLACE, 8, BUY, 100, 5, Expected.OK),
    (2, Cmd.PLACE, 2**64 - 1, SELL, 101, -5, Expected.REJECT),
    (3, Cmd.POST_ONLY, 9, SELL, 101, 5, Expected.OK),
    (4, Cmd.MARKET, 10, SELL, 0, 5, Expected.NOTHING),
    (5, Cmd.CANCEL, 9, NO_SIDE, 0, 0, Expected.OTHER),
    (6, Cmd.REDUCE, 8, NO_SIDE, 0, 2, Expected.NOTHING),
    (7, Cmd.MOVE, 8, NO_SIDE, 102, 0, Expected.NOTHING),
    (8, Cmd.REPLACE, 8, NO_SIDE, 103, 4, Expected.NOTHING),
    (-9, Cmd.REPLACE_BACK, 8, SELL, 104, 4, Expected.OK),
    (10, Cmd.IOC, 11, BUY, 104, 4, Expected.NOTHING),
    (11, Cmd.FOK, 12, BUY, 104, 4, Expected.NOTHING),
]
FIELDS = ["file_seq", "cmd", "order_id", "side", "price", "qty", "expected"]

# what is wrong | the second line of data | what must be said
BAD = """
a float             | 1,t,PLACE,8,bid,1.0,5        | line 3: price = '1.0', wanted an integer of 64 bits
not a number        | 1,t,PLACE,8,bid,100,5x       | line 3: qty = '5x', wanted an integer of 64 bits
a space             | 1,t,PLACE,8,bid, 100,5       | line 3: price = ' 100', wanted an integer
digits of elsewhere | 1,t,PLACE,8,bid,１００,5     | line 3: price = '１００', wanted an integer
an underscore       | 1,t,PLACE,8,bid,1_0,5        | line 3: price = '1_0', wanted an integer
a plus              | 1,t,PLACE,8,bid,+10,5        | line 3: price = '+10', wanted an integer
more than 64 bits   | 1,t,PLACE,8,bid,9223372036854775808,5 | line 3: price = '9223372036854775808'
a negative id       | 1,t,PLACE,-8,bid,100,5       | line 3: order_id = '-8', wanted an integer from 0
an id of 65 bits    | 1,t,PLACE,18446744073709551616,bid,1,5 | line 3: order_id = '18446744073709551616'
no id               | 1,t,CANCEL,,bid,,            | line 3: order_id = '', wanted one: CANCEL needs it
no number           | ,t,CANCEL,8,bid,,            | line 3: seq = '', wanted one: CANCEL needs it
no price            | 1,t,MOVE,8,,,                | line 3: price = '', wanted one: MOVE needs it
no quantity         | 1,t,MARKET,8,bid,,           | line 3: qty = '', wanted one: MARKET needs it
no side             | 1,t,IOC,8,,100,5             | line 3: side = '', wanted one: IOC needs it
an unknown side     | 1,t,CANCEL,8,long,,          | line 3: side = 'long', wanted buy | bid | B
an unknown command  | 1,t,STOP,8,bid,100,5         | line 3: cmd = 'STOP', wanted SNAP | PLACE
too few cells       | 1,t,CANCEL,8,bid,            | line 3: 6 columns, wanted 7
too many cells      | 1,t,CANCEL,8,bid,,,          | line 3: 8 columns, wanted 7
an open quote       | 1,t,"CANCEL,8,bid,,          | line 4: unexpected end of data
"""


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def load(path: Path) -> list[tuple[int, ...]]:
    return [tuple(int(row[name]) for name in FIELDS) for row in flow.load_flow(path)]


@pytest.mark.parametrize("name", ["flow.csv", "flow.csv.gz", "packed_without_saying_so"])
@pytest.mark.parametrize("text", [GOOD, GOOD.replace("\n", "\r\n"), "\ufeff" + GOOD.rstrip()])
def test_every_command_and_word(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    data = text.encode()
    path.write_bytes(data if name == "flow.csv" else gzip.compress(data))
    assert load(path) == ROWS


def test_header_may_be_absent_or_say_anything(tmp_path: Path) -> None:
    body = GOOD.partition("\n")[2]
    assert load(write(tmp_path / "none.csv", body)) == ROWS
    assert load(write(tmp_path / "other.csv", "a,b,c,d,e,f,g,h\n" + body)) == ROWS
    assert load(write(tmp_path / "only.csv", HEADER)) == []


def test_columns_after_the_eighth_are_not_read(tmp_path: Path) -> None:
    text = f"{HEADER},note\n1,t,CANCEL,8,bid,,,OK,hello\n"
    assert load(write(tmp_path / "wide.csv", text)) == [(1, Cmd.CANCEL, 8, BUY, 0, 0, Expected.OK)]


@pytest.mark.parametrize("case", [line for line in BAD.splitlines() if line])
def test_a_bad_cell_is_named(tmp_path: Path, case: str) -> None:
    _, line, said = (part.strip() for part in case.split(" | ", 2))
    good = "0,t,PLACE,7,bid,100,5\n"
    path = write(tmp_path / "bad.csv", f"{HEADER[:-9]}\n{good}{line}\n{good}")
    with pytest.raises(flow.FlowError) as error:
        flow.load_flow(path)
    assert str(error.value).startswith(f"{path}: {said}")


def test_line_numbers_hold_beyond_one_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "CHUNK_ROWS", 4)
    lines = [f"{n},t,CANCEL,{n},,," for n in range(20)]
    path = write(tmp_path / "long.csv", "\n".join([HEADER[:-9], *lines]))
    assert [row[0] for row in load(path)] == list(range(20))
    lines[17] = "17,t,CANCEL,?,,,"
    lines[3] = ""
    path = write(tmp_path / "long.csv", "\n".join([HEADER[:-9], *lines]))
    with pytest.raises(flow.FlowError, match="line 19: order_id"):
        flow.load_flow(path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"a,b,c\n", "line 1: 3 columns, wanted at least 7"),
        (b"\xff\xfe\x00", "cannot be read as text"),
        (gzip.compress(GOOD.encode())[:-20], "cannot be read as text"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "broken.csv"
    path.write_bytes(data)
    with pytest.raises(flow.FlowError, match=said):
        flow.load_flow(path)


CELLS = st.tuples(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(list(Cmd)),
    st.integers(0, 2**64 - 1),
    st.sampled_from([BUY, SELL]),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([Expected.NOTHING, Expected.OK, Expected.REJECT]),
)


@given(rows=st.lists(CELLS, max_size=40), quoted=st.booleans())
def test_quotes_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, ...]], quoted: bool
) -> None:
    """The fast split and the csv module read the same rows."""
    lines = [
        f"{seq},t,{Cmd(cmd).name},{order},{'BS'[side]},{price},{qty},{('', 'OK', 'REJECT')[said]}"
        for seq, cmd, order, side, price, qty, said in rows
    ]
    if quoted:
        lines = [",".join(f'"{cell}"' for cell in line.split(",")) for line in lines]
    path = write(tmp_path_factory.getbasetemp() / "any.csv", "\n".join([HEADER, *lines]))
    assert load(path) == rows


def test_fills_and_book_as_text(tmp_path: Path) -> None:
    ids = np.array([2**64 - 1, 5], "<u8")
    sides = np.array([BUY, SELL], "u1")
    numbers = np.array([10, -3], "<i8")
    path = tmp_path / "fills.csv"
    flow.write_fills(path, ids, ids[::-1], sides, numbers, numbers)
    assert path.read_text() == (
        "n,taker_id,maker_id,taker_side,price,qty\n"
        "0,18446744073709551615,5,buy,10,10\n"
        "1,5,18446744073709551615,sell,-3,-3\n"
    )
    path = tmp_path / "book.csv.gz"
    flow.write_book(path, sides, numbers, ids, numbers)
    first = path.read_bytes()
    assert gzip.decompress(first).decode() == (
        "side,price,order_id,qty\nbid,10,18446744073709551615,10\nask,-3,5,-3\n"
    )
    flow.write_book(path, sides, numbers, ids, numbers)
    assert path.read_bytes() == first, "the same rows give the same bytes, packed too"
    flow.write_book(path, sides[:0], numbers[:0], ids[:0], numbers[:0])
    assert gzip.decompress(path.read_bytes()) == b"side,price,order_id,qty\n"


def test_results_as_text(tmp_path: Path) -> None:
    rows = np.zeros(3, FLOW)
    rows["cmd"] = [Cmd.POST_ONLY, Cmd.CANCEL, Cmd.IOC]
    rows["order_id"] = [1, 2, 3]
    answers = flow.Answers(
        np.array([Status.EXPIRED, Status.REFUSED, Status.EXPIRED]),
        np.array([Reason.WOULD_TAKE, Reason.NONE, Reason.IOC_REMAINDER]),
        np.array([0, 0, 4]),
        np.array([0, 0, 0]),
    )
    flow.write_results(tmp_path / "results.csv", rows, answers)
    assert (tmp_path / "results.csv").read_text() == (
        "seq,cmd,order_id,answer,status,reason,filled,left\n"
        "0,POST_ONLY,1,REJECT,EXPIRED,WOULD_TAKE,0,0\n"
        "0,CANCEL,2,REJECT,REFUSED,,0,0\n"
        "0,IOC,3,OK,EXPIRED,IOC_REMAINDER,4,0\n"
    )


def test_recorded_day_is_read_whole(recorded: Path) -> None:
    rows = flow.load_flow(recorded / "bitstamp_btcusd_l3" / "commands.csv.gz")
    assert len(rows) == 79_954
    assert np.array_equal(rows["file_seq"], np.arange(len(rows)))
    assert int((rows["expected"] == Expected.REJECT).sum()) == 47_530


def test_slow_twin_makes_the_trades_of_the_recorded_day(recorded: Path, long_run: bool) -> None:
    if not long_run:
        pytest.skip("takes a minute; --long runs it")
    day = recorded / "bitstamp_btcusd_l3"
    twin = FlowTwin()
    for row in flow.load_flow(day / "commands.csv.gz"):
        answer = Expected.OK if twin.apply(row) else Expected.REJECT
        assert row["expected"] in (Expected.NOTHING, answer), row
    lines = (day / "expected_trades.csv").read_text().splitlines()[1:]
    assert [
        f"{n},{taker},{maker},{('buy', 'sell')[side]},{price},{lots}"
        for n, (taker, maker, side, price, lots) in enumerate(twin.fills)
    ] == lines
