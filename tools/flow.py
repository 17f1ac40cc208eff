"""Order flow in files: what `perpcore replay` reads, and what it writes.

Reads   COMMANDS.csv[.gz]: seq,time,cmd,order_id,side,price,qty[,expected], by position.
Writes  fills, the final book and the answer to every command, as CSV (gzip if the name ends .gz).
Never   judges a number: a cell must be an integer where its command needs one; whether it is a
        price or quantity anybody may use is for the engine to say.

The first line is a header with any names, unless its third cell is a command. `time` and columns
after the eighth are not read. Words are case-insensitive. See README "Replay formats".
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import numpy as np

from shm.codes import Reason, Side, Status

Array = np.ndarray[Any, Any]

CHUNK_ROWS: Final = 1 << 12  # lines worked on at once; they should stay in the cache


class FlowError(Exception):
    """A file that is not what it should be: says file, line, column, got, wanted."""


class Cmd(IntEnum):
    """What a line of the file asks for."""

    SNAP = 1  # rest without matching
    PLACE = 2
    POST_ONLY = 3
    MARKET = 4
    IOC = 5
    FOK = 6
    CANCEL = 7
    REDUCE = 8  # by qty
    MOVE = 9  # to price; what remains remains, and goes to the back
    REPLACE = 10  # price and what shall remain; keeps its place if the price stays and it shrinks
    REPLACE_BACK = 11  # the same, always to the back; an order that is not there is inserted


class Expected(IntEnum):
    """What the file says the answer was."""

    NOTHING = 0  # it does not say
    OK = 1
    REJECT = 2
    OTHER = 3  # a word we do not know, and do not compare


NO_SIDE: Final = 255  # the cell was empty, and the command needs none

FLOW: Final = np.dtype(
    [
        ("file_seq", "<i8"),  # the file's own number
        ("order_id", "<u8"),  # the file's own id
        ("price", "<i8"),  # ticks; 0 if the cell was empty
        ("qty", "<i8"),  # lots; 0 if the cell was empty
        ("cmd", "u1"),  # Cmd
        ("side", "u1"),  # codes.Side or NO_SIDE
        ("expected", "u1"),  # Expected
    ]
)

_COLUMNS: Final = ("seq", "time", "cmd", "order_id", "side", "price", "qty", "expected")
_ALL: Final = frozenset(Cmd)
_NEED_PRICE: Final = frozenset(Cmd) - {Cmd.MARKET, Cmd.CANCEL, Cmd.REDUCE}
_NEED_QTY: Final = frozenset(Cmd) - {Cmd.CANCEL, Cmd.MOVE}
_NEED_SIDE: Final = frozenset(Cmd) - {Cmd.CANCEL, Cmd.REDUCE, Cmd.MOVE, Cmd.REPLACE}


_CMDS: Final = {cmd.name: int(cmd) for cmd in Cmd} | {"LIMIT": int(Cmd.PLACE)}
_SIDES: Final = (
    {word: int(Side.BUY) for word in ("BUY", "BID", "B")}
    | {word: int(Side.SELL) for word in ("SELL", "ASK", "A", "S")}
    | {"": NO_SIDE}
)
_EXPECTED: Final = {"": int(Expected.NOTHING), "OK": 1, "REJECT": 2}


# ---------------------------------------------------------------- reading


class Chunk(NamedTuple):
    """Some lines of a file by column, and where they stand."""

    path: Path
    names: Sequence[str]  # of the columns
    lines: Sequence[int]
    columns: list[list[str]]

    def error(self, row: int, column: int, wanted: str) -> FlowError:
        got = self.columns[column][row]
        return FlowError(
            f"{self.path}: line {self.lines[row]}: {self.names[column]} = {got!r}, wanted {wanted}"
        )


def read_lines(path: Path) -> Iterator[list[str]]:
    """Lines of a text file, at most CHUNK_ROWS at a time; gzip is unpacked, whatever the name."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            raw: Any = gzip.GzipFile(fileobj=file) if packed else file
            text = io.TextIOWrapper(raw, encoding="utf-8-sig")
            while lines := list(islice(text, CHUNK_ROWS)):
                yield lines
    except (UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FlowError(f"{path}: cannot be read as text: {error}") from error


def split(path: Path, names: Sequence[str], lines: list[str], before: int, width: int) -> Chunk:
    """Cells of lines that come after `before` others, `width` of them in each."""
    # All cells in one list, and a mark where each line ends: if the marks stand where they must,
    # every line has its width, and nothing was done line by line. csv takes three times as long.
    text = "".join(lines).rstrip("\n")
    cells = text.replace("\n", ",\n,").split(",") + ["\n"]
    marks = cells[width :: width + 1]
    if '"' not in text and len(cells) == len(marks) * (width + 1) and set(marks) == {"\n"}:
        columns = [cells[column :: width + 1] for column in range(width)]
        return Chunk(path, names, range(before + 1, before + 1 + len(marks)), columns)
    numbers, rows = [], []
    reader = csv.reader(lines, strict=True)
    try:
        for row in reader:
            if row and len(row) != width:
                at = before + reader.line_num
                raise FlowError(f"{path}: line {at}: {len(row)} columns, wanted {width}")
            if row:
                numbers.append(before + reader.line_num)
                rows.append(row)
    except csv.Error as error:
        raise FlowError(f"{path}: line {before + reader.line_num}: {error}") from error
    return Chunk(path, names, numbers, [list(column) for column in zip(*rows, strict=True)])


def integer(text: str) -> int | None:
    """The number, or None if the text is not plain digits with at most a minus sign before."""
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdecimal() else None


def integers(
    chunk: Chunk, column: int, least: int, most: int, wanted: str, empty: str = ""
) -> list[int]:
    """A column of numbers; an empty cell counts as `empty`, which by default is none."""
    cells = chunk.columns[column]
    if "" in cells:
        cells = [cell or empty for cell in cells]
    joined = "".join(cells)
    if joined.isascii() and joined.isdecimal() and all(cells):  # as nearly all are, and fast
        numbers = list(map(int, cells))
        if least <= min(numbers) and max(numbers) <= most:
            return numbers
    numbers = []
    for row, cell in enumerate(cells):
        number = integer(cell)
        if number is None or not least <= number <= most:
            raise chunk.error(row, column, wanted)
        numbers.append(number)
    return numbers


def _words(
    chunk: Chunk, column: int, known: dict[str, int], wanted: str, other: int | None = None
) -> list[int]:
    """A column of words, whatever their case: each spelling is looked up once."""
    cells = chunk.columns[column]
    codes = {cell: known.get(cell.upper(), other) for cell in set(cells)}
    numbers = [codes[cell] for cell in cells]
    if None in numbers:
        raise chunk.error(numbers.index(None), column, wanted)
    return cast(list[int], numbers)


def read_flow(path: Path) -> Iterator[Array]:
    """The commands of a file, FLOW rows, at most CHUNK_ROWS at a time."""
    before, width = 0, 0
    for lines in read_lines(path):
        taken = len(lines)
        if not width:
            header = next(csv.reader(lines[:1]), [])
            width = len(header)
            if width < 7:
                wanted = f"at least 7 ({','.join(_COLUMNS)})"
                raise FlowError(f"{path}: line 1: {width} columns, wanted {wanted}")
            if header[2].upper() not in _CMDS:
                before, lines, taken = 1, lines[1:], taken - 1
        chunk = split(path, _COLUMNS, lines, before, width)
        if chunk.lines:
            yield _parse(chunk)
        before += taken
    if not width:
        raise FlowError(f"{path}: is empty, wanted a header and commands ({','.join(_COLUMNS)})")


def load_flow(path: Path) -> Array:
    """All the commands of a file in one FLOW array."""
    chunks = list(read_flow(path))
    return np.concatenate(chunks) if chunks else np.zeros(0, FLOW)


def _parse(chunk: Chunk) -> Array:
    flow = np.zeros(len(chunk.lines), FLOW)
    flow["cmd"] = _words(chunk, 2, _CMDS, " | ".join([*Cmd.__members__, "LIMIT"]))
    flow["side"] = _words(chunk, 4, _SIDES, "buy | bid | B | sell | ask | A | S")
    if len(chunk.columns) > 7:
        flow["expected"] = _words(chunk, 7, _EXPECTED, "", int(Expected.OTHER))
    for column, needed in ((0, _ALL), (3, _ALL), (4, _NEED_SIDE), (5, _NEED_PRICE), (6, _NEED_QTY)):
        cells = chunk.columns[column]
        if "" in cells:
            needs = np.isin(flow["cmd"], [int(cmd) for cmd in needed])
            missing = np.flatnonzero(needs & np.array([not cell for cell in cells]))
            if missing.size:
                row = int(missing[0])
                raise chunk.error(row, column, f"one: {Cmd(int(flow['cmd'][row])).name} needs it")
    for column, field in ((0, "file_seq"), (5, "price"), (6, "qty")):
        flow[field] = integers(chunk, column, -(2**63), 2**63 - 1, "an integer of 64 bits", "0")
    flow["order_id"] = integers(chunk, 3, 0, 2**64 - 1, "an integer from 0 to 2^64 - 1")
    return flow


# ---------------------------------------------------------------- writing


def write_csv(path: Path, header: str, columns: Iterable[Array | Sequence[str]]) -> None:
    """Write columns of equal length; the same columns always give the same bytes."""
    listed = list(columns)
    count = len(listed[0])
    line = ",".join(["%s"] * len(listed)) + "\n"
    with path.open("wb") as file:
        packed = gzip.GzipFile("", "wb", 3, file, mtime=0) if path.suffix == ".gz" else None
        raw: Any = packed or file
        raw.write((header + "\n").encode())
        for start in range(0, count, CHUNK_ROWS):
            part = [column[start : start + CHUNK_ROWS] for column in listed]
            texts = [p.tolist() if isinstance(p, np.ndarray) else p for p in part]
            raw.write("".join(line % row for row in zip(*texts, strict=True)).encode())
        if packed:
            packed.close()


def named(codes: Array, names: Sequence[str]) -> list[str]:
    """Text of small codes: names[code] of each."""
    return [names[code] for code in codes.tolist()]


def write_fills(
    path: Path, taker_ids: Array, maker_ids: Array, taker_sides: Array, prices: Array, qtys: Array
) -> None:
    """Every fill in order, numbered from 0; ids are the file's, sides are codes.Side."""
    write_csv(
        path,
        "n,taker_id,maker_id,taker_side,price,qty",
        (
            np.arange(len(taker_ids)),
            taker_ids,
            maker_ids,
            named(taker_sides, ("buy", "sell")),
            prices,
            qtys,
        ),
    )


def write_book(path: Path, sides: Array, prices: Array, order_ids: Array, qtys: Array) -> None:
    """Resting orders as given: bids best to worst, then asks best to worst, each in its queue."""
    write_csv(
        path,
        "side,price,order_id,qty",
        (named(sides, ("bid", "ask")), prices, order_ids, qtys),
    )


class Answers(NamedTuple):
    """What the engine answered, one element for every command of a flow."""

    status: Array  # codes.Status of the answer
    reason: Array  # codes.Reason
    filled: Array  # lots this command traded as the taker
    left: Array  # lots of the order that are open after it


def verdicts(answers: Answers) -> Array:
    """Expected.OK or REJECT for each: rejected, or ended without having been in the market."""
    refused = np.isin(answers.status, [int(Status.REJECTED), int(Status.REFUSED)])
    unborn = np.isin(answers.reason, [int(Reason.WOULD_TAKE), int(Reason.FOK_UNFILLED)])
    return np.where(refused | unborn, int(Expected.REJECT), int(Expected.OK))


def write_results(path: Path, flow: Array, answers: Answers) -> None:
    """The answer to every command, in the order of the file."""
    reasons = [""] * 256
    for reason in Reason:
        reasons[reason] = reason.name if reason else ""
    write_csv(
        path,
        "seq,cmd,order_id,answer,status,reason,filled,left",
        (
            flow["file_seq"],
            named(flow["cmd"], ("", *(cmd.name for cmd in Cmd))),
            flow["order_id"],
            named(verdicts(answers), ("", "OK", "REJECT")),
            named(answers.status, [status.name for status in Status]),
            named(answers.reason, reasons),
            answers.filled,
            answers.left,
        ),
    )
