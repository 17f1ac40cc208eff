"""Between a request and its durable answer: the ingress ring one way, the reports the other.

Reads   durable reports (reportstream.py), the engine's cursors.
Writes  commands into this gateway's ingress ring; answers into the futures of who asked.
Never   says "not accepted" of what may have been taken. A command is answered by its report; as
        refused at the door when the ring was full; as not accepted when the engine ended and its
        recovered log has no such command; else, past the time-out, as unknown (-1007).

A command's reports are settled under one sequence number. Its answer goes out when all of them
have been seen: at the first report of a later command, or when the cursors say that settlement is
past it and nothing more was written.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Protocol

import numpy as np

from gateways.http.errors import ApiError
from gateways.http.reportstream import ReportStream, Rows
from gateways.http.rows import Ask, Row, rows_of
from shm import cursors
from shm.codes import Move, ReportKind
from shm.config import Config
from shm.control import View
from shm.door import Door
from shm.hops import RequestMarks
from shm.segment import SegmentError
from shm.units import PRODUCER_SHIFT

Report = tuple[int, ...]  # seq, account, symbol, kind, status, and six words
ATTACH_S: Final = 0.05
SWEEP_S: Final = 0.05
TAIL_S: Final = 0.0005
HAND_OVER: Final = 64  # commands that don't wait for the turn to end: the engine begins meanwhile
# Kinds whose first word is the command's time.
_TIMED: Final = np.zeros(256, bool)
_TIMED[[ReportKind.ORDER, ReportKind.ANSWER, ReportKind.CHECKPOINT, ReportKind.SYMBOL]] = True
_TIMED[[ReportKind.PRICE]] = True
_ANSWERS: Final = np.zeros(256, bool)
_ANSWERS[[ReportKind.ORDER, ReportKind.ANSWER]] = True
_OTHER: Final = 2  # the word of a MOVE that says whose money it was
_MOVE, _TRANSFER = int(ReportKind.MOVE), int(Move.TRANSFER)
_WORDS: Final = np.dtype([("head", "<q"), ("b", "<u8"), ("w", "<q", 6)])

Render = Callable[[Report], Any]


def _of_the_other(report: Report) -> Report:
    """A MOVE as it looks from the account that the money came from."""
    seq, account, symbol, kind, status, amount, wallet, other, other_wallet, *rest = report
    return (seq, other, symbol, kind, status, -amount, other_wallet, account, wallet, *rest)


class Sink(Protocol):
    """What hears of a command's outcome, once: a future, or who does without one."""

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, result: Any, /) -> None: ...

    def set_exception(self, error: BaseException, /) -> None: ...


class Pending:
    """A command that was handed over and hasn't been answered."""

    __slots__ = (
        "deadline",
        "epoch",
        "future",
        "handed_ns",
        "heard_ns",
        "origin",
        "render",
        "report",
    )

    def __init__(
        self,
        future: Sink,
        render: Render,
        deadline: float,
        epoch: int,
        origin: tuple[int, int, int],
    ) -> None:
        """origin: trace id and when the request had been read, as the command has them."""
        self.future = future
        self.render = render
        self.deadline = deadline
        self.epoch = epoch
        self.report: Report | None = None
        self.origin = origin
        self.handed_ns = 0
        self.heard_ns = 0


class Desk:
    """One gateway's way into the engine and back."""

    def __init__(
        self,
        config: Config,
        producer: str,
        on_report: Callable[[Report, int], None],
        on_done: Callable[[int], None],
        answer_timeout_s: float,
        heard: Iterable[int] = range(256),
    ) -> None:
        """on_report: every report of an account of interest, with its command's time, ns.
        heard: kinds of reports that it is for.
        on_done: all reports of the commands up to this one have been seen.
        """
        self.seen_seq = 0  # every report of the commands up to here was handed on
        self.overloads = 0
        self.unknowns = 0
        self.interest = np.zeros(config.limits.accounts, bool)
        self._listens = False  # to any account, ever
        self._heard = np.zeros(256, bool)
        self._heard[list(heard)] = True
        self._config = config
        self._producer = producer
        self._mine = config.producer(producer).id
        self._on_report = on_report
        self._on_done = on_done
        self._timeout_s = answer_timeout_s
        self._stream = ReportStream(config, self._on_batch, self._on_epoch, self._wanted)
        self._door: Door | None = None
        self._marks: RequestMarks | None = None
        self._view: View | None = None
        self._number = 0
        self._outbox: list[tuple[int, bytes, Pending]] = []
        self._flushing = False
        self._pending: dict[int, Pending] = {}
        self._answered: deque[Pending] = deque()
        self._open_seq = 0  # a command whose reports may go on
        self._open_ns = 0
        self._tail: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._door_epoch = 0

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Listen, and attach to the engine as soon as it runs."""
        self._loop = asyncio.get_running_loop()
        self._marks = RequestMarks(self._config.instance, self._producer)
        self._stream.start()
        self._attach()
        self._tasks = [
            asyncio.create_task(self._keep_attached()),
            asyncio.create_task(self._sweep()),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tail is not None:
            self._tail.cancel()
        for pending in self._pending.values():
            self._fail(pending, ApiError(-1007))
        self._stream.close()
        if self._door is not None:
            self._door.close()
        if self._marks is not None:
            self._marks.close()

    @property
    def open(self) -> bool:
        """Whether commands can be handed over now."""
        return self._door is not None and self._door.open

    @property
    def ready(self) -> bool:
        """Whether commands can be handed over and their answers will be heard."""
        return self.open and self._stream.next >= 0

    @property
    def failed(self) -> Exception | None:
        """Why this gateway can't go on, if so."""
        return self._stream.failed

    @property
    def epoch(self) -> int:
        return self._stream.epoch

    @property
    def waiting(self) -> int:
        """Commands on their way."""
        return len(self._pending)

    def _attach(self) -> None:
        with suppress(SegmentError):
            door = Door(self._config.instance, self._producer)
            self._door = door
            self._door_epoch = door.view.epoch
            self._number = max(self._number + 1, door.next_request())

    async def _keep_attached(self) -> None:
        """The engine may end and start again; so does the door."""
        while True:
            await asyncio.sleep(ATTACH_S)
            if self._door is not None and not self._door.open:
                self._door.close()
                self._door = None
            if self._door is None:
                self._attach()

    # ------------------------------------------------------------ in

    def ask(self, ask: Ask | Row, render: Render, into: Sink | None = None) -> Any:
        """Hand a command over; the future has what `render` makes of its answer.

        `render` runs when all reports of the command have been seen, and before any later one.
        into        what shall have it instead
        raises      ApiError -1001 while no engine runs
        """
        door = self._door
        if door is None or self._stream.next < 0:
            raise ApiError(-1001)
        request = self._number
        self._number += 1
        future = self._loop.create_future() if into is None else into
        deadline = self._loop.time() + self._timeout_s
        pending = Pending(future, render, deadline, self._door_epoch, ask.trail)
        self._outbox.append((request, ask.packed(request), pending))
        if not self._pending:
            door.rouse()
            if not self._listens:
                self._stream.hurry()
        self._pending[request] = pending
        if len(self._outbox) >= HAND_OVER:
            self._flush()
        elif not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        return future

    def _wanted(self) -> bool:
        """Whether a report may be for anybody here."""
        return self._listens or bool(self._pending or self._answered)

    def listen_to(self, account: int) -> None:
        """Hand on its reports from now on."""
        self.interest[account] = self._listens = True

    def _flush(self) -> None:
        """Hand over what has come together since the last turn of the loop."""
        self._flushing = False
        outbox, self._outbox = self._outbox, []
        if not outbox:
            return  # they went when there were many
        door = self._door
        if door is None or not self.open:
            for request, _, _ in outbox:
                self._fail(self._pending.pop(request), ApiError(-1001))
            return
        handed_ns = time.time_ns()
        for _, _, pending in outbox:
            pending.handed_ns = handed_ns
        rows = rows_of([packed for _, packed, _ in outbox])
        at = 0
        while at < len(rows):
            at += door.send(rows[at:])
            if at < len(rows):
                # This one found no room. Those behind it may: a tenth is kept for cancels.
                self.overloads += 1
                self._fail(self._pending.pop(outbox[at][0]), ApiError(-1008))
                at += 1

    @staticmethod
    def _fail(pending: Pending, error: Exception) -> None:
        if not pending.future.done():
            pending.future.set_exception(error)

    async def _sweep(self) -> None:
        """What takes too long is unknown; its answer may still come, and nobody waits for it."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self._loop.time()
            late = []
            for request, pending in self._pending.items():
                if pending.deadline > now:
                    break  # they are in order of time
                late.append(request)
            for request in late:
                self.unknowns += 1
                self._fail(self._pending.pop(request), ApiError(-1007))

    # ------------------------------------------------------------ out

    def _on_batch(self, rows: Rows, _first: int) -> None:
        kinds = rows["kind"]
        words = rows.view(_WORDS)["w"]
        mine = _ANSWERS[kinds] & ((words[:, 1] >> PRODUCER_SHIFT) == self._mine)
        accounts = self._known(rows["account"])
        wanted = mine | self.interest[accounts] & self._heard[kinds]
        moved = np.flatnonzero((kinds == ReportKind.MOVE) & (rows["status"] == Move.TRANSFER))
        if len(moved):  # rare; one report tells both sides
            wanted[moved] |= self.interest[self._known(words[moved, _OTHER])]
        at = np.flatnonzero(wanted)
        if len(at):
            seqs = rows["seq"]
            starts = np.searchsorted(seqs, seqs[at], "left")
            times = np.where(_TIMED[kinds[starts]], words[starts, 0], 0)
            self._walk(rows[at], times.tolist(), mine[at].tolist())
        last = int(rows[-1]["seq"])
        if self._open_seq < last:
            self._settle(last - 1)
            self._open_seq = last
        first_of_last = int(np.searchsorted(rows["seq"], last, "left"))
        if _TIMED[kinds[first_of_last]]:
            self._open_ns = int(words[first_of_last, 0])
        self._check_tail()

    def _known(self, accounts: Rows) -> Rows:
        """Accounts as places in `interest`."""
        return np.minimum(accounts, len(self.interest) - 1)

    def _walk(self, rows: Rows, times: list[int], mine: list[bool]) -> None:
        seqs, accounts, symbols = (rows[n].tolist() for n in ("seq", "account", "symbol"))
        kinds, statuses = rows["kind"].tolist(), rows["status"].tolist()
        words = rows.view(_WORDS)["w"].tolist()
        interest = self.interest[self._known(rows["account"])].tolist()
        on_report, pendings, heard_ns = self._on_report, self._pending, time.time_ns()
        every = zip(
            *(seqs, accounts, symbols, kinds, statuses, words, times, mine, interest), strict=True
        )
        for seq, account, symbol, kind, status, six, time_ns, own, heard in every:
            if seq != self._open_seq:
                self._settle(seq - 1)
                self._open_seq, self._open_ns = seq, time_ns
            report = (seq, account, symbol, kind, status, *six)
            if heard:
                on_report(report, time_ns or self._open_ns)
            if kind == _MOVE and status == _TRANSFER:
                on_report(_of_the_other(report), time_ns or self._open_ns)
            if own:
                pending = pendings.pop(report[6], None)
                if pending is not None:
                    pending.report, pending.heard_ns = report, heard_ns
                    self._answered.append(pending)

    def _settle(self, seq: int) -> None:
        """All reports of the commands up to `seq` have been seen: answer who waits."""
        if seq <= self.seen_seq:
            return
        self.seen_seq = seq
        while self._answered:
            pending = self._answered.popleft()
            if pending.future.done():
                continue  # whoever asked has gone
            assert pending.report is not None
            report = pending.report
            try:
                pending.future.set_result(pending.render(report))
            except Exception as error:  # a refusal, or a bug of ours for the one who asked
                pending.future.set_exception(error)
            if self._marks is not None:  # where the request was when, for `perpcore trace`
                high, low, received_ns = pending.origin
                self._marks.keep(
                    *(report[6], report[0], (high, low), received_ns),
                    *(pending.handed_ns, pending.heard_ns, time.time_ns()),
                )
        self._on_done(seq)

    def _check_tail(self) -> None:
        """Whether the newest command has said all it has to say, by the engine's own cursors."""
        if self._tail is not None:
            self._tail.cancel()
            self._tail = None
        if self._open_seq <= self.seen_seq:
            return
        if self._whole():
            self._settle(self._open_seq)
        elif self._wanted():
            self._tail = self._loop.call_later(TAIL_S, self._check_tail)

    def _whole(self) -> bool:
        # x86-64 keeps loads in order: what is settled has its reports below what is written.
        view = self._door.view if self._door is not None else None
        if view is None or view.epoch != self._stream.epoch:
            return False
        settled = view.cursor(cursors.SETTLED)
        written = view.cursor(cursors.REPORTS_WRITTEN)
        return settled >= self._open_seq and written <= self._stream.next

    def _on_epoch(self, epoch: int) -> None:
        """Everything an earlier start ever reported has been seen; what it didn't is not done."""
        if self._open_seq > self.seen_seq:
            self._settle(self._open_seq)
        lost = [r for r, pending in self._pending.items() if pending.epoch < epoch]
        for request in lost:
            self._fail(self._pending.pop(request), ApiError(-1001))

    # ------------------------------------------------------------ what others have done

    def durable_index(self) -> int:
        """Reports that anybody may have been told of by now; 0 while no engine runs."""
        return self._door.view.cursor(cursors.REPORTS_JOURNALED) if self._door is not None else 0

    async def caught_up(self, timeout_s: float = 1.0) -> int:
        """Wait until everything durable now has been seen here; returns `seen_seq`.

        Whoever was acknowledged by another gateway finds it here after this.
        """
        target = self.durable_index()
        self._stream.hurry()
        until = self._loop.time() + timeout_s
        while self._stream.next < target or (
            self._stream.next == target and self._open_seq > self.seen_seq
        ):
            if self._loop.time() > until:
                break
            await asyncio.sleep(0.0005)
            self._stream.hurry()
            self._check_tail()
        return self.seen_seq
