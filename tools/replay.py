"""`perpcore replay`: recorded order flow through a fresh exchange, as if its clients had sent it.

Reads   a flow file (tools/flow.py) or LOBSTER messages (tools/lobster.py).
Writes  fills, final book and answers as CSV; a summary on the terminal.
Never   looks inside the engine for a result but one: the queue order of the final book, which no
        report tells, is read from the books' own memory once everything has been answered.

The exchange is the real one: its workers, rings, WAL and report log in a directory of its own.
Commands go in through the ingress ring of the privileged producer `replay`; what comes out is read
from the reports anybody may follow. Order ids of the file travel as client ids. Orders are spread
over funded accounts (id mod number of accounts), with bands, fees and self-trade prevention off.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import numpy as np

from shm.codes import Flag, Kind, ReportKind, Side, Status, Tif, Type
from shm.config import Config, load, workers_for
from shm.control import CURSOR_PARTS, CURSORS, Phase, View
from shm.records import (
    ASSET_COMMAND,
    COMMAND,
    EXEC_REPORT,
    NO_SYMBOL,
    REPORT,
    STATE_COMMAND,
    SYMBOL_COMMAND,
    TRANSFER_COMMAND,
)
from shm.segment import Part, Segment, SegmentError
from shm.units import (
    EXPOSURE_QUANTA_MAX,
    MONEY_QUANTA_MAX,
    PRICE_TICKS_MAX,
    QTY_LOTS_MAX,
    SYSTEM_ACCOUNTS,
)
from tools.flow import (
    Answers,
    Cmd,
    Expected,
    load_flow,
    verdicts,
    write_book,
    write_fills,
    write_results,
)
from tools.lobster import book_beside, load_lobster

Array = np.ndarray[Any, Any]

LEVERAGE: Final = 1000
ACCOUNTS_MAX: Final = 4000
START_SECONDS: Final = 300.0
STALL_SECONDS: Final = 60.0
_PLACING: Final = (
    Cmd.SNAP,
    Cmd.PLACE,
    Cmd.POST_ONLY,
    Cmd.MARKET,
    Cmd.IOC,
    Cmd.FOK,
    Cmd.REPLACE_BACK,
)
_TIFS: Final = {Cmd.POST_ONLY: Tif.GTX, Cmd.IOC: Tif.IOC, Cmd.FOK: Tif.FOK, Cmd.MARKET: Tif.IOC}


class Plan(NamedTuple):
    """A flow as commands, and the venue they need."""

    commands: Array  # COMMAND rows, `request` counted from 0
    rows: Array  # which row of the flow each command answers; -1: none
    price_max: int
    shift: int  # added to every price of the file
    accounts: int
    orders: int
    leaves: int


def plan(flow: Array, accounts: int) -> Plan:
    """Translate a flow. REPLACE_BACK is a cancel and a new order of the same name."""
    cmd = flow["cmd"]
    placing = np.isin(cmd, [int(c) for c in _PLACING])
    # The engine's prices begin at 1; recorded ones may be 0 (a sell at any price) or below.
    priced = ~np.isin(cmd, (int(Cmd.CANCEL), int(Cmd.REDUCE), int(Cmd.MARKET)))
    shift = max(1 - int(flow["price"][priced].min(initial=1)), 0)
    price_max = int(min(max(flow["price"].max(initial=1) + shift, 1), PRICE_TICKS_MAX))
    # What an account may have open is bounded by its cost; more accounts if all of it were open.
    cost = (flow["price"][placing].astype(np.float64) * flow["qty"][placing]).sum()
    accounts = min(max(accounts, int(2 * cost / EXPOSURE_QUANTA_MAX) + 1), ACCOUNTS_MAX)

    twice = cmd == int(Cmd.REPLACE_BACK)
    at = np.repeat(np.arange(len(flow)), 1 + twice)
    first = np.ones(len(at), bool)
    first[1:] = at[1:] != at[:-1]
    rows = np.zeros(len(at), COMMAND.dtype)
    what = cmd[at]
    cancels = (what == int(Cmd.CANCEL)) | (twice[at] & first)
    places = placing[at] & ~cancels
    rows["kind"] = np.where(places, int(Kind.PLACE), int(Kind.AMEND))
    rows["kind"][cancels] = int(Kind.CANCEL)
    rows["kind"][what == int(Cmd.REDUCE)] = int(Kind.REDUCE)
    rows["side"] = np.where(places, flow["side"][at], 0)
    rows["price_ticks"] = np.where(
        cancels | (what == int(Cmd.REDUCE)), 0, flow["price"][at] + shift
    )
    rows["qty_lots"] = np.where(cancels | (what == int(Cmd.MOVE)), 0, flow["qty"][at])
    rows["flags"][places] = int(Flag.TAKE_NAME)
    rows["flags"][what == int(Cmd.SNAP)] |= int(Flag.NO_MATCH)
    rows["flags"][what == int(Cmd.MOVE)] = int(Flag.KEEP_QTY | Flag.TO_BACK)
    rows["flags"][what == int(Cmd.REPLACE)] = int(Flag.REMAINING)
    rows["type"][what == int(Cmd.MARKET)] = int(Type.MARKET)
    rows["price_ticks"][what == int(Cmd.MARKET)] = 0
    for kind, tif in _TIFS.items():
        rows["tif"][what == int(kind)] = int(tif)
    ids = flow["order_id"][at]
    rows["account"] = SYSTEM_ACCOUNTS + (ids.astype(np.uint64) % np.uint64(accounts)).astype(
        np.int64
    )
    rows["symbol"] = 0
    rows["lines"] = 2
    names = np.char.mod("%d", ids).astype("S40") if len(ids) else np.zeros(0, "S40")
    rows["client_id"] = np.frombuffer(names.tobytes(), np.int64).reshape(-1, 5)
    rows["request"] = np.arange(len(rows))
    return Plan(
        rows,
        np.where(first & twice[at], -1, at),
        price_max,
        shift,
        accounts,
        int(placing.sum()),
        len(np.unique((flow["price"] + shift) >> 6)),
    )


def configure(plan: Plan, topology: str, data: Path) -> Config:
    """A venue just large enough."""
    orders = max(plan.orders + 1024, 4096)
    return load(
        None,
        {
            "instance": f"replay-{os.getpid()}",
            "data_dir": str(data),
            "topology": topology,
            "log_level": "info",
            "limits.accounts": SYSTEM_ACCOUNTS + plan.accounts,
            "limits.assets": 1,
            "limits.symbols": 1,
            "limits.positions": SYSTEM_ACCOUNTS + plan.accounts,
            "limits.orders": orders,
            "limits.clients": orders,
            "limits.client_window_ns": 0,
            "limits.leaves": 2 * plan.leaves + 64,
            "limits.trie": 4 * plan.leaves + 256,
            "wal.segment_bytes": 64 << 20,
        },
    )


def serve(config: Config, cores: int) -> None:
    """The exchange, in a process of its own."""
    from engine.supervisor import Log, Supervisor

    with open(Path(config.data_dir) / "engine.log", "a") as stream:
        log = Log(stream, config.log_level, instance=config.instance)
        raise SystemExit(Supervisor(config, workers_for(config, cores), log, restarts_max=0).run())


class Session:
    """A started exchange and the way in and out of it."""

    def __init__(self, config: Config, producer: str = "replay") -> None:
        from shm.door import Door
        from shm.feed import Feed

        self.config = config
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=serve, args=(config, os.cpu_count() or 1))
        self.process.start()
        self._await_running()
        self.door = Door(config.instance, producer)
        view = self.door.view
        slots = int(view.engine["reports"])
        self._cursors = Segment.attach(config.instance, CURSORS, CURSOR_PARTS, view.epoch)
        parts = (Part("reports", "REPORT", slots),)
        self._reports = Segment.attach(config.instance, "reports", parts, view.epoch)
        self.feed = Feed(
            Path(config.data_dir),
            self._cursors.arrays["cursors"],
            self._reports.arrays["reports"],
            16384,
        )
        self.next_index = self.feed.end()
        self.base = self.door.next_request()

    def _await_running(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if not self.process.is_alive():
                break
            with contextlib.suppress(SegmentError):
                view = View(self.config.instance)
                phase = view.phase
                view.close()
                if phase == Phase.RUNNING:
                    return
            time.sleep(0.02)
        log = Path(self.config.data_dir) / "engine.log"
        raise click.ClickException(
            f"the exchange did not start: {log.read_text().strip() if log.exists() else 'no log'}"
        )

    def send(self, commands: Array, rate: int | None) -> tuple[Array, float]:
        """Hand over commands, wait for every answer; (all reports, seconds)."""
        commands = commands.copy()
        commands["request"] += self.base
        self.base += len(commands)
        wanted = len(commands)
        reports: list[Array] = []
        sent = answered = 0
        begun = last = time.monotonic()
        while answered < wanted:
            now = time.monotonic()
            ready = wanted if rate is None else min(wanted, int((now - begun) * rate) + 1)
            moved = 0
            if sent < ready:
                moved = self.door.send(commands[sent : min(ready, sent + 4096)])
                sent += moved
            batch = self.feed.read(self.next_index, 16384)
            if len(batch):
                self.next_index += len(batch)
                reports.append(batch.copy())
                told = np.isin(batch["kind"], (int(ReportKind.ORDER), int(ReportKind.ANSWER)))
                answered += int((batch["request"][told] >= int(commands["request"][0])).sum())
            if len(batch) or moved:
                last = now
            elif now - last > STALL_SECONDS or not self.process.is_alive():
                raise click.ClickException(
                    f"the exchange stopped answering after {answered} of {wanted} commands"
                )
            else:
                time.sleep(0.0002)
        return np.concatenate(reports), time.monotonic() - begun

    def nodes(self) -> Array:
        """The books' own rows, once nothing moves any more."""
        from engine.memory import attach

        memory = attach(self.config)
        rows = memory.arrays["nodes"].copy()
        memory.close()
        return rows

    def close(self) -> None:
        """Stop in order."""
        with contextlib.suppress(AttributeError):
            self.feed.close()
            self._cursors.close()
            self._reports.close()
            self.door.close()
        self.process.terminate()
        self.process.join(30)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def declare(plan: Plan) -> Array:
    """Asset, symbol and funded accounts; only what needs no answer to what came before."""
    rows: list[Array] = []

    def add(layout: Any, kind: Kind, **fields: Any) -> None:
        row = np.zeros(1, layout.dtype)
        row["kind"], row["lines"], row["request"] = kind, 3, len(rows)
        row["symbol"] = fields.pop("symbol", NO_SYMBOL)
        for name, value in fields.items():
            row[name] = value
        rows.append(row.view(COMMAND.dtype))

    add(ASSET_COMMAND, Kind.ASSET, asset=0, scale=0)
    add(
        SYMBOL_COMMAND,
        Kind.SYMBOL,
        symbol=0,
        tick_lot_quanta=1,
        qty_lots_min=1,
        qty_lots_max=QTY_LOTS_MAX,
        price_ticks_min=1,
        price_ticks_max=plan.price_max,
        leverage_max=LEVERAGE,
        leverage_default=LEVERAGE,
        orders_max=1 << 40,
    )
    for k in range(plan.accounts):
        account = SYSTEM_ACCOUNTS + k
        add(STATE_COMMAND, Kind.ACCOUNT, account=account)
        amount = MONEY_QUANTA_MAX // plan.accounts
        add(TRANSFER_COMMAND, Kind.DEPOSIT, account=account, amount_quanta=amount)
    return np.concatenate(rows)


class Outcome(NamedTuple):
    """What came out, in terms of the file."""

    answers: Answers
    takers: Array
    makers: Array
    sides: Array
    prices: Array
    lots: Array
    seqs: Array  # of every command, ascending
    ids: Array  # file order id of every command


def read_outcome(flow: Array, plan: Plan, reports: Array, base: int) -> Outcome:
    """Answers and fills from reports; order ids become the file's again.

    base    request of the first command
    """
    count = len(plan.commands)
    orders = reports[reports["kind"] == int(ReportKind.ORDER)]
    mine = orders[orders["request"] >= base]
    at = mine["request"] - base
    status, reason = np.zeros(count, np.int64), np.zeros(count, np.int64)
    seqs, left = np.zeros(count, np.int64), np.zeros(count, np.int64)
    order_ids = np.zeros(count, np.int64)
    status[at], reason[at], seqs[at] = mine["status"], mine["reason"], mine["seq"]
    order_ids[at] = mine["order_id"]
    living = np.isin(mine["status"], (int(Status.NEW), int(Status.AMENDED)))
    left[at[living]] = mine["open_lots"][living]
    assert (np.diff(seqs) > 0).all(), "commands of one producer keep their order"
    # The cancel of a REPLACE_BACK stands before the order it makes room for.
    owner = np.where(plan.rows >= 0, plan.rows, np.roll(plan.rows, -1))
    ids = flow["order_id"][owner]

    execs = reports[reports["kind"] == int(ReportKind.EXEC)].view(EXEC_REPORT.dtype)
    takers, makers = execs[execs["status"] & 1 == 1], execs[execs["status"] & 1 == 0]
    assert (takers["trade_id"] == makers["trade_id"]).all()
    filled = np.zeros(count, np.int64)
    np.add.at(filled, np.searchsorted(seqs, takers["seq"]), takers["lots"])
    left -= filled
    ended = orders[(orders["request"] == 0) & (orders["status"] != int(Status.NEW))]
    where = np.searchsorted(seqs, ended["seq"]).clip(0, count - 1)
    own = (seqs[where] == ended["seq"]) & (order_ids[where] == ended["order_id"])
    left[where[own]] = 0

    answered = plan.rows >= 0
    answers = Answers(status[answered], reason[answered], filled[answered], left[answered])
    return Outcome(
        answers,
        ids[np.searchsorted(seqs, takers["order_id"])],
        ids[np.searchsorted(seqs, makers["order_id"])],
        takers["status"] >> 1,
        takers["price_ticks"] - plan.shift,
        takers["lots"],
        seqs,
        ids,
    )


def run(
    commands: Path,
    *,
    file_format: str = "csv",
    orderbook: Path | None = None,
    topology: str = "auto",
    fills: Path | None = None,
    book: Path | None = None,
    results: Path | None = None,
    rate: int | None = None,
    accounts: int = 16,
    data_dir: Path | None = None,
    as_json: bool = False,
) -> int:
    """Replay a file; returns the exit code: 1 when an answer is not the one the file expects."""
    if file_format == "lobster":
        flow = load_lobster(commands, orderbook or book_beside(commands)).flow
    else:
        flow = load_flow(commands)
    made = plan(flow, accounts)
    keep = data_dir is not None
    data = data_dir if data_dir is not None else Path(tempfile.mkdtemp(prefix="perpcore-replay-"))
    data.mkdir(parents=True, exist_ok=True)
    if (data / "wal").exists():
        raise click.ClickException(f"{data} holds an exchange already. Name an empty directory")
    session: Session | None = None
    try:
        session = Session(configure(made, topology, data))
        session.send(declare(made), None)
        base = session.base
        reports, seconds = session.send(made.commands, rate) if len(flow) else (_NO_REPORTS, 0.0)
        outcome = read_outcome(flow, made, reports, base) if len(flow) else None
        if book is not None:
            _write_book(book, session.nodes(), outcome, made.shift)
    finally:
        if session is not None:
            session.close()
        if not keep:
            shutil.rmtree(data, ignore_errors=True)
    if outcome is None:
        empty = np.zeros(0, np.int64)
        outcome = Outcome(Answers(empty, empty, empty, empty), *([empty] * 7))
    if fills is not None:
        o = outcome
        write_fills(fills, o.takers, o.makers, o.sides, o.prices, o.lots)
    if results is not None:
        write_results(results, flow, outcome.answers)
    return _summary(flow, outcome, seconds, as_json)


_NO_REPORTS = np.zeros(0, REPORT.dtype)


def _write_book(path: Path, nodes: Array, outcome: Outcome | None, shift: int) -> None:
    from engine.book import resting

    slots = list(resting(nodes, 0))
    rows = nodes[[slot for _side, slot in slots]] if slots else nodes[:0]
    sides = np.array([int(side) for side, _slot in slots], np.int64)
    ids = rows["order_id"]
    if outcome is not None and len(ids):
        ids = outcome.ids[np.searchsorted(outcome.seqs, ids)]
    write_book(path, sides, rows["price_ticks"] - shift, ids, rows["open_lots"])


def _summary(flow: Array, outcome: Outcome, seconds: float, as_json: bool) -> int:
    said = verdicts(outcome.answers)
    judged = np.isin(flow["expected"], (int(Expected.OK), int(Expected.REJECT)))
    wrong = np.flatnonzero(judged & (said != flow["expected"]))
    found = {
        "commands": len(flow),
        "fills": len(outcome.lots),
        "lots": int(outcome.lots.sum()),
        "bought": int((outcome.sides == int(Side.BUY)).sum()),
        "rejected": int((said == int(Expected.REJECT)).sum()),
        "expected": int(judged.sum()),
        "unexpected": len(wrong),
        "seconds": round(seconds, 3),
        "per_second": round(len(flow) / seconds) if seconds else 0,
    }
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo(
            "{commands} commands in {seconds} s ({per_second}/s, every answer durable): "
            "{fills} fills of {lots} lots, {rejected} rejected".format(**found)
        )
        if judged.any():
            click.echo(f"{judged.sum()} answers were expected, {len(wrong)} came out otherwise")
        for row in wrong[:10].tolist():
            click.echo(
                f"  seq {flow['file_seq'][row]} {Cmd(int(flow['cmd'][row])).name} "
                f"{flow['order_id'][row]}: expected {Expected(int(flow['expected'][row])).name}, "
                f"got {Expected(int(said[row])).name}"
            )
    return 1 if len(wrong) else 0
