"""The native door: sessions, the way in and the way out.

Reads   clients' messages (ROUTER, CURVE; ZAP looks keys up in the user store), durable reports.
Writes  commands into one producer's ingress ring; each account's reports to its sessions.
Never   waits for a client: who doesn't read is served from the log at its own pace, and dropped
        when it stays that way. Never says that a command was taken that wasn't, nor hides one that
        was: what became of it are its durable reports.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import zmq
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator

from gateways.http.reportstream import ReportStream, Rows
from gateways.users.keyring import KeyRing, address_of, allowed
from gateways.users.store import Key, Scope, Store, scope_words
from gateways.zmq import protocol
from gateways.zmq.barrier import Barrier
from gateways.zmq.binding import bind, unlink
from gateways.zmq.codec import (
    ENCODER,
    Malformed,
    picked,
    report_frames,
    rows_of_orders,
    rows_of_records,
)
from gateways.zmq.cores import Cores
from gateways.zmq.curvekey import curve_key
from gateways.zmq.looking import Looking
from gateways.zmq.protocol import NUMBER, Current, Epoch, Hello, Taken, Welcome
from gateways.zmq.resend import Log, Pruned
from gateways.zmq.sessions import Answer, Sessions, TooManySessions
from shm.codes import Kind
from shm.config import Config
from shm.door import Door
from shm.files import DataError, read_manifest
from shm.kinds import command
from shm.records import COMMAND, layouts_digest
from shm.segment import SegmentError

DOMAIN: Final = "perpcore"  # of ZAP
SILENT_BEATS: Final = 3
HANDSHAKE_MS: Final = 5000
LOOK_S: Final = 0.1
TICK_S: Final = 0.01  # while somebody catches up or waits for CURRENT
IDLE_S: Final = 0.05
MESSAGES_A_TURN: Final = 256
COMMANDS_A_TURN: Final = 4096
FAREWELLS_MAX: Final = 1000  # clients that went without being told, and will be when they speak
_NOT_THEIRS: Final = (protocol.NOT_RUNNING, protocol.OVERLOADED)  # a client couldn't help it
HELLOS: Final = msgspec.msgpack.Decoder(Hello)
ATTEND_NS: Final = 1_000_000  # where a lone answer takes longer, two wake-ups more are nothing
FEW: Final = 16  # commands that are waited for awake; reports that are looked at one by one
_MORE: Final = zmq.NOBLOCK | zmq.SNDMORE
_NOBODY: Final = np.zeros(0, np.int64)


@dataclass(eq=False)
class Session:
    """One client, by the routing id that ZeroMQ gave its connection."""

    identity: bytes
    key: Key
    hello: Hello
    row: int  # in the file of sessions
    accounts: tuple[int, ...]
    heard_s: float
    trades: bool = False  # it may send commands
    last_index: int = -1  # of the newest report sent
    next: int = -1  # behind: the index from which the log has to be read; -1: it hears live
    barrier: Barrier | None = None  # CURRENT is due
    away: bool = False  # its connection has gone: nothing is read or encoded for it any more
    full_since_s: float = 0.0  # since when it takes no more reports; 0: it does
    mask: Any = field(default=None, repr=False)  # of several accounts


class Gateway:
    """All sessions of one process."""

    def __init__(self, config: Config, producer: str, keys: KeyRing, store: Store) -> None:
        self._config = config
        self._producer = producer
        self._keys = keys
        self._store = store
        self._sessions: dict[bytes, Session] = {}
        self._by_account: dict[int, list[Session]] = {}
        self._several: list[Session] = []  # that hear more than one account
        self._behind: dict[bytes, Session] = {}
        self._waiting: dict[bytes, Session] = {}  # for CURRENT
        self._farewells: dict[bytes, str] = {}
        self._interest = np.zeros(config.limits.accounts, bool)
        self._door: Door | None = None
        self._number = 0  # the next request's
        self._last = 0  # the newest request that was handed over for a client
        self._answered = True  # and its answer has come
        self._since_ns = 0  # when a request was handed over while no other was on its way
        self._usual_ns = 0  # how long the answer to such a one takes
        self._cores = Cores(Path(config.data_dir))
        self._memory = Sessions(*_memory_of(config, producer))
        self._orphans = self._memory.armed()  # row -> account, of a process that was killed
        self._orphans_until_s = 0.0
        self._to_cancel: set[int] = set()  # accounts
        self._log = Log(Path(config.data_dir))
        self._stream = ReportStream(config, self._on_batch, self._on_epoch)
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._looking = Looking(config.instance, producer)
        self._tasks: list[asyncio.Task[None]] = []
        self._again: asyncio.TimerHandle | None = None
        self._nudging = False
        self.dropped = 0
        self.messages = self.commands = self.refusals = self.reports = 0

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Bind, and attach to the engine as soon as it runs.

        raises      DataError when an endpoint can't be had
        """
        own = self._config.zmq
        self._loop = asyncio.get_running_loop()
        self._auth = AsyncioAuthenticator(zmq.asyncio.Context.shadow(self._context.underlying))
        self._auth.start()
        # Only what is asked for under the very domain of the socket reaches the callback.
        self._auth.configure_curve_callback(DOMAIN, self)
        public, secret = curve_key(self._config)
        router = self._router
        router.curve_server = True
        router.curve_secretkey, router.curve_publickey = secret, public
        router.zap_domain = DOMAIN.encode()
        for option, value in (
            (zmq.ROUTER_MANDATORY, 1),
            (zmq.MAXMSGSIZE, own.message_bytes_max),
            (zmq.SNDHWM, own.unsent_messages_max),
            (zmq.RCVHWM, own.unread_messages_max),
            (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
            (zmq.LINGER, 500),
        ):
            router.setsockopt(option, value)
        bind(router, self._config.zmq_endpoints)
        self._fd = int(router.getsockopt(zmq.FD))
        self._loop.add_reader(self._fd, self._turn)
        self._stream.start()
        self._orphans_until_s = self._loop.time() + self._silent_s
        self._attach()
        self._tasks = [asyncio.create_task(self._look())]
        self._tick()

    async def stop(self) -> None:
        """Tell every session; what their silence would cancel stays, as they were told."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for session in list(self._sessions.values()):
            self._end(session, "the gateway stops", cancel=False)
        self._loop.remove_reader(self._fd)
        if self._again is not None:
            self._again.cancel()
        self._stream.close()
        self._auth.stop()
        self._router.close()
        self._context.term()
        unlink(self._config.zmq_endpoints)
        self._log.close()
        self._looking.close()
        self._memory.close()
        if self._door is not None:
            self._door.close()

    def counts(self) -> dict[str, int]:
        """Figures for people (gateways/doorcounts.py)."""
        return {
            "clients": len(self._sessions),
            "messages": self.messages,
            "commands": self.commands,
            "refusals": self.refusals,
            "reports": self.reports,
            "dropped": self.dropped,
        }

    @property
    def failed(self) -> Exception | None:
        """Why it can't go on, if so."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                return error if isinstance(error, Exception) else RuntimeError(repr(error))
        return self._stream.failed

    @property
    def _silent_s(self) -> float:
        return SILENT_BEATS * self._config.zmq.heartbeat_ms / 1000

    def _tick(self) -> None:
        """What is due. And ZeroMQ's descriptor tells of changes, not of states: look anyway."""
        busy = bool(self._behind or self._waiting)
        self._again = self._loop.call_later(TICK_S if busy else IDLE_S, self._tick)
        for session in list(self._waiting.values()):
            self._check_current(session)
        self._nudge()

    def _attach(self) -> None:
        with suppress(SegmentError):
            door = Door(self._config.instance, self._producer)
            self._door = door
            first = door.next_request()
            if not self._memory.settled:
                self._memory.settle(first - 1)
            self._number = max(self._number, self._memory.given + 1, first)

    @property
    def _open(self) -> Door | None:
        """The way in, while there is one."""
        door = self._door
        return door if door is not None and door.open else None

    async def _look(self) -> None:
        """Now and then: the engine, keys that were revoked, clients that fell silent."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._door is not None and not self._door.open:
                self._door.close()
                self._door = None
            if self._door is None:
                self._attach()
            self._note_gone(self._keys.refresh())
            now = self._loop.time()
            for session in list(self._sessions.values()):
                if now - session.heard_s > self._silent_s:
                    self._end(session, f"nothing was heard for {self._silent_s:.1f} s")
                elif session.full_since_s and now - session.full_since_s > self._silent_s:
                    self._end(session, f"nothing was read for {self._silent_s:.1f} s")
            if self._orphans and now > self._orphans_until_s:
                self._to_cancel.update(self._orphans.values())
                for row in self._orphans:
                    self._memory.arm(row, False)
                self._orphans.clear()
            self._cancel_due()

    def _note_gone(self, keys: set[int]) -> None:
        """Whoever looked: keys that are no longer good are told only once."""
        for session in list(self._sessions.values()):
            if session.key.id in keys:
                self._end(session, "the key was revoked or has expired")

    # ------------------------------------------------------------ who may come in

    def callback(self, _domain: str, key: bytes) -> bool:
        """ZAP: whether a client with this CURVE key may connect at all."""
        text = key.decode()
        if text not in self._keys.by_text:
            # An error here would end the authenticator, and with it every later connection.
            with suppress(sqlite3.Error):
                self._note_gone(self._keys.refresh())
        found = self._keys.by_text.get(text)
        return found is not None and found.kind == "curve"

    def _hello(self, identity: bytes, frame: zmq.Frame, body: bytes) -> None:
        try:
            hello = HELLOS.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            self._dismiss(identity, f"malformed HELLO: {error}")
            return
        key = self._keys.by_text.get(str(frame.get("User-Id")))
        address = address_of(str(frame.get("Peer-Address")))
        why = self._refusal(identity, key, hello, address)
        if why:
            self._dismiss(identity, why)
            return
        assert key is not None
        before = self._sessions.get(identity)
        if before is not None:
            self._forget(before)
        row = self._memory.find(key.id, hello.session)
        for other in [s for s in self._sessions.values() if s.row == row]:
            # The same client through another connection: its silence here means nothing.
            self._dismiss(other.identity, "the session goes on through another connection")
            self._forget(other)
        known = row is not None
        if row is None:
            connected = {session.row for session in self._sessions.values()} | {*self._orphans}
            try:
                row = self._memory.add(key.id, hello.session, key.account, connected)
            except TooManySessions:
                self._dismiss(identity, "too many sessions: of this key, or of the gateway")
                return
        self._memory.touch(row)
        self._memory.arm(row, hello.cancel_on_disconnect)
        self._orphans.pop(row, None)
        accounts = tuple(hello.accounts) or (key.account,)
        trades = hello.orders and bool(key.scopes & Scope.TRADE)
        session = Session(identity, key, hello, row, accounts, self._loop.time(), trades)
        self._enter(session)
        welcome = Welcome(
            *(key.account, scope_words(key.scopes).split(","), self._stream.epoch),
            *(self._stream.next, self._config.zmq.heartbeat_ms),
            *(self._memory.last(row) if known else -1, layouts_digest()),
        )
        self._send(session, [protocol.WELCOME, ENCODER.encode(welcome)])
        if hello.after >= 0:
            session.next = hello.after + 1
            self._behind[identity] = session
        self._await_current(session)
        self._soon()

    def _refusal(self, identity: bytes, key: Key | None, hello: Hello, address: Any) -> str:
        """Why somebody may not come in, or ""."""
        # Who could choose its routing id could speak for whoever used it before.
        if identity[:1] != b"\0":
            return "set no routing id of your own"
        if key is None or not allowed(key, Scope.READ, address):
            return "the key may not be used, or not from there"
        if key.account >= len(self._interest):
            return "the account is not of this venue"
        if hello.cancel_on_disconnect and not (hello.orders and key.scopes & Scope.TRADE):
            return "cancel_on_disconnect is for who may trade"
        for account in hello.accounts:
            if account >= len(self._interest) or self._store.owner_of(account) != key.user_id:
                return f"account {account} is not the key's user's"
        if not self._memory.settled and self._memory.find(key.id, hello.session) is not None:
            return "the engine is not running yet: say HELLO again"
        if len(self._sessions) >= self._config.zmq.sessions_max:
            return "too many sessions"
        return ""

    def _enter(self, session: Session) -> None:
        self._sessions[session.identity] = session
        self._farewells.pop(session.identity, None)
        if len(session.accounts) == 1:
            self._by_account.setdefault(session.accounts[0], []).append(session)
        else:
            session.mask = np.zeros(len(self._interest), bool)
            session.mask[list(session.accounts)] = True
            self._several.append(session)
        self._interest[list(session.accounts)] = True

    # ------------------------------------------------------------ in

    def _turn(self) -> None:
        """Take what has come; where nothing else is on its way, look for its answers at once."""
        alone, first = self._answered, self._number
        self._drain()
        if alone and 0 < self._number - first <= FEW:
            self._attend()
        elif self._number != first:
            self._cores.awaits_many()

    def _drain(self) -> None:
        """Take what has come; more than a turn's worth goes on in the next one."""
        commands = 0
        for _ in range(MESSAGES_A_TURN):
            try:
                frames = self._receive()
            except zmq.Again:
                return
            commands += self._take(frames)
            if commands > COMMANDS_A_TURN:
                break
        self._soon()

    def _receive(self) -> list[zmq.Frame]:
        """As `recv_multipart`, which asks the socket after each frame whether it was the last."""
        frame = self._router.recv(zmq.NOBLOCK, copy=False)
        frames = [frame]
        while frame.more:
            frame = self._router.recv(zmq.NOBLOCK, copy=False)
            frames.append(frame)
        return frames

    def _attend(self) -> None:
        """The answer is a sync away: be awake when it comes, and don't wait to be woken twice.

        Who is never idle needs none of this. To sleep for a part of the time was tried: the timer
        of a halted core is late, and it cost 60 us in the median. One core at most looks like this:
        where the host has none to spare for its disks, two keep the sync from ending. And not a
        core that takes the disk's interrupts, where there is another.
        """
        if self._usual_ns > ATTEND_NS:
            return
        self._cores.awaits_one()
        until_ns = self._since_ns + ATTEND_NS
        while not self._answered and time.monotonic_ns() < until_ns:
            if not self._stream.attend(self._fd, until_ns):
                return
            self._drain()  # sending, too, hides what has come

    def _take(self, frames: list[zmq.Frame]) -> int:
        """One message; returns how many commands it had."""
        identity = frames[0].bytes
        kind = frames[1].bytes if len(frames) > 1 else b""
        session = self._sessions.get(identity)
        if kind == protocol.HELLO and len(frames) == 3:
            self._hello(identity, frames[1], frames[2].bytes)
        elif session is None:
            self._dismiss(identity, self._farewells.pop(identity, "say HELLO first"))
        elif kind in (protocol.ORDERS, protocol.RECORDS) and len(frames) == 4:
            session.heard_s = self._loop.time()
            if self._answered and self._door is not None:
                self._door.rouse()
            return self._commands(session, kind, frames[2].bytes, frames[3].bytes)
        elif kind == protocol.PING and len(frames) == 3:
            session.heard_s = self._loop.time()
            self._send(session, [protocol.PONG, frames[2].bytes])
        else:
            text = f"malformed message: kind {kind[:16]!r} with {len(frames) - 2} frames"
            self._end(session, text)
        return 1

    def _commands(self, session: Session, kind: bytes, head: bytes, body: bytes) -> int:
        """ORDERS or RECORDS: hand over what is new, answer again what is not."""
        if len(head) != NUMBER.size:
            self._end(session, f"malformed number: {len(head)} bytes, must be {NUMBER.size}")
            return 1
        number, size_bytes = NUMBER.unpack(head)
        last = self._memory.last(session.row)
        known = None
        if number != last + 1:
            known = self._memory.answer(session.row, number)
            if known is None:
                self._end(session, f"message {number} after {last}, must be {last + 1}")
                return 1
        key, now_ns = session.key, time.time_ns()
        forbidden = _NOBODY
        try:
            if kind == protocol.ORDERS:
                rows = rows_of_orders(body, key.account, now_ns, key.id)
            else:
                rows, forbidden = rows_of_records(body, size_bytes, key.account, now_ns, key.id)
        except Malformed as error:
            if known is None:
                self._memory.note(session.row, number, 0, 0, protocol.MALFORMED)
            text = f"{protocol.MALFORMED}: {error}"
            self._looking.note(logging.INFO, "refused", account=key.account, why=text)
            self.messages += 1
            self.refusals += 1
            self._answer(session, Taken(number, 0, 0, [(protocol.WHOLE, text)]))
            return 1
        if known is None:
            known = self._hand_over(session, number, rows)
            if known.taken:
                self._looking.handed(rows[: known.taken], now_ns)
        refused = [(int(place), protocol.FORBIDDEN) for place in forbidden]
        if known.taken < len(rows):
            places = np.delete(np.arange(len(rows) + len(forbidden)), forbidden)
            refused = sorted(
                [*refused, *((int(place), known.why) for place in places[known.taken :])]
            )
        self.messages += 1
        self.commands += known.taken
        if refused:
            self.refusals += len(refused)
            self._looking.note(
                logging.WARNING if known.why in _NOT_THEIRS else logging.INFO,
                "failed" if known.why in _NOT_THEIRS else "refused",
                account=key.account,
                why=refused[0][1],
                commands=len(refused),
            )
        self._answer(session, Taken(number, known.first_request, known.taken, refused))
        return max(len(rows), 1)

    def _hand_over(self, session: Session, number: int, rows: Rows) -> Answer:
        """Put rows into the ring, as many as it takes; the first that doesn't fit is the last."""
        first, door = self._number, self._open
        if not session.trades:
            answer = Answer(0, 0, protocol.FORBIDDEN)
        elif door is None:
            answer = Answer(0, 0, protocol.NOT_RUNNING)
        else:
            rows["request"] = np.arange(first, first + len(rows)) if len(rows) > 1 else first
            self._memory.note(session.row, number, first, len(rows), protocol.OVERLOADED)
            taken = door.send(rows) if len(rows) else 0
            self._number += taken
            if taken:
                if self._answered:
                    self._since_ns = time.monotonic_ns()
                self._last, self._answered = self._number - 1, False
            if taken < len(rows):
                self._memory.cut(session.row, number, taken, protocol.OVERLOADED)
            return Answer(first, taken, protocol.OVERLOADED)
        self._memory.note(session.row, number, 0, 0, answer.why)
        return answer

    def _answer(self, session: Session, taken: Taken) -> None:
        self._send(session, [protocol.TAKEN, ENCODER.encode(taken)])

    # ------------------------------------------------------------ out

    def _put(self, identity: bytes, frames: Sequence[bytes]) -> bool:
        """Whether there was room."""
        send = self._router.send
        last = len(frames) - 1
        try:
            # As `send_multipart`, which looks at each frame twice. The first says who: past it
            # there is room for the whole message.
            send(identity, _MORE)
            for place, frame in enumerate(frames):
                send(frame, _MORE if place < last else zmq.NOBLOCK)
        except zmq.ZMQError as error:  # full (EAGAIN), or gone
            # Whoever comes back has another identity, and says HELLO.
            if error.errno == zmq.EHOSTUNREACH and identity in self._sessions:
                self._sessions[identity].away = True
            return False
        return True

    def _send(self, session: Session, frames: Sequence[bytes]) -> None:
        """What a client must have; one that has no room for it is gone."""
        if not self._put(session.identity, frames):
            self._end(session, "no room for an answer: nothing was read")

    def _dismiss(self, identity: bytes, why: str) -> None:
        """GONE, at once, or when the client is heard of again."""
        if not self._put(identity, [protocol.GONE, ENCODER.encode(why)]):
            if len(self._farewells) >= FAREWELLS_MAX:
                del self._farewells[next(iter(self._farewells))]
            self._farewells[identity] = why

    def _soon(self) -> None:
        """Have `_nudge` called in this turn of the loop, once."""
        if not self._nudging:
            self._nudging = True
            self._loop.call_soon(self._nudge)

    def _nudge(self) -> None:
        """One who is behind gets a piece; and after sending, the descriptor hides what came."""
        self._nudging = False
        if self._behind:
            session = self._behind.pop(next(iter(self._behind)))
            self._behind[session.identity] = session  # the next one's turn comes next
            self._catch_up(session)
        self._turn()

    def _on_batch(self, rows: Rows, first: int) -> None:
        if len(rows) <= FEW and not self._several and self._on_one(rows, first):
            return
        accounts = np.minimum(rows["account"], len(self._interest) - 1)
        at = np.flatnonzero(self._interest[accounts])
        if len(at) == 0:
            return
        heard_ns = time.time_ns() if self._looking.waiting else 0
        owners = accounts[at]
        if not self._answered:
            self._note_answer(bool((rows["request"][at] == self._last).any()))
        if (owners == owners[0]).all():  # as in a burst
            sessions = self._by_account.get(int(owners[0]))
            if sessions:
                own = rows if len(at) == len(rows) else picked(rows, at)
                self._tell(sessions, own, at + first)
        else:
            at = at[np.argsort(owners, kind="stable")]
            owners = accounts[at]
            edges = [0, *(np.flatnonzero(np.diff(owners)) + 1).tolist(), len(at)]
            for start, end in pairwise(edges):
                sessions = self._by_account.get(int(owners[start]))
                if sessions:
                    own = at[start:end]
                    self._tell(sessions, picked(rows, own), own + first)
        for session in self._several:
            own = np.flatnonzero(session.mask[accounts])
            if len(own):
                self._tell((session,), picked(rows, own), own + first)
        if heard_ns:
            self._looking.told(rows, heard_ns)
        self._soon()

    def _on_one(self, rows: Rows, first: int) -> bool:
        """As `_on_batch`, for reports of one account alone: what comes of an order that rests."""
        accounts = rows["account"].tolist()
        account = accounts[0]
        if accounts.count(account) != len(accounts):
            return False
        sessions = self._by_account.get(account)
        if sessions:
            heard_ns = time.time_ns() if self._looking.waiting else 0
            if not self._answered:
                self._note_answer(self._last in rows["request"].tolist())
            self._tell(sessions, rows, np.arange(first, first + len(rows)))
            if heard_ns:
                self._looking.told(rows, heard_ns)
            self._soon()
        return True

    def _note_answer(self, answered: bool) -> None:
        """Whether the newest request's answer is among the reports."""
        if answered:
            self._answered = True
            # Where one in five is quicker: a mean would oversleep for ten orders after each stall.
            longer = time.monotonic_ns() - self._since_ns > self._usual_ns
            self._usual_ns += self._usual_ns // 32 + 1000 if longer else -(self._usual_ns // 8)

    def _tell(self, sessions: Iterable[Session], rows: Rows, indices: Rows) -> None:
        """Live reports to who is not behind; who has no room is from now on."""
        for session in list(sessions):
            if session.away or session.identity in self._behind:
                continue
            if not self._report(session, rows, indices):
                session.next = int(indices[0])
                self._behind[session.identity] = session

    def _report(self, session: Session, rows: Rows, indices: Rows) -> bool:
        frames = report_frames(rows, indices, session.last_index, raw=session.hello.records)
        if not self._put(session.identity, frames):
            session.full_since_s = session.full_since_s or self._loop.time()
            return False
        session.full_since_s = 0.0
        session.last_index = int(indices[-1])
        self.reports += len(rows)
        return True

    def _catch_up(self, session: Session) -> None:
        """Some of what it has missed, from the log; live again when that was all."""
        end = self._stream.next
        if end < 0 or session.identity not in self._behind:
            return
        if session.away:
            del self._behind[session.identity]
            return
        if session.next < end:
            try:
                rows = self._log.read(session.next, end)
            except Pruned as error:
                self._end(session, str(error))
                return
            own = np.flatnonzero(np.isin(rows["account"], session.accounts))
            if len(own) and not self._report(session, picked(rows, own), own + session.next):
                return
            session.next += len(rows)
            if len(rows) == 0:
                return  # published, and not yet in the log
        if session.next >= end:
            del self._behind[session.identity]
            self._check_current(session)
        if self._behind:
            self._soon()

    # ------------------------------------------------------------ CURRENT

    def _await_current(self, session: Session) -> None:
        session.barrier = Barrier(self._door, self._number - 1)
        self._waiting[session.identity] = session

    def _check_current(self, session: Session) -> None:
        """Whether everything handed over before has its answer sent to this session."""
        barrier = session.barrier
        if barrier is None or session.away or session.identity in self._behind:
            return
        index = barrier.passed(self._door, self._stream.epoch)
        if index < 0 or self._stream.next < index:
            return
        session.barrier = None
        self._waiting.pop(session.identity, None)
        current = Current(self._stream.next, barrier.request)
        self._send(session, [protocol.CURRENT, ENCODER.encode(current)])

    def _on_epoch(self, epoch: int) -> None:
        body = ENCODER.encode(Epoch(epoch, max(self._stream.next, 0)))
        for session in list(self._sessions.values()):
            self._send(session, [protocol.EPOCH, body])
            if session.identity in self._sessions:
                self._await_current(session)

    # ------------------------------------------------------------ the end of a session

    def _forget(self, session: Session) -> None:
        self._sessions.pop(session.identity, None)
        self._behind.pop(session.identity, None)
        self._waiting.pop(session.identity, None)
        if session.mask is not None:
            self._several.remove(session)
        else:
            account = session.accounts[0]
            self._by_account[account].remove(session)
            if not self._by_account[account]:
                del self._by_account[account]
        for account in session.accounts:
            self._interest[account] = account in self._by_account or any(
                other.mask[account] for other in self._several
            )

    def _end(self, session: Session, why: str, *, cancel: bool = True) -> None:
        """The session is over; `cancel`: what it said about its silence comes true."""
        if session.identity not in self._sessions:
            return
        self.dropped += 1
        self._looking.note(logging.INFO, "session ends", account=session.key.account, why=why)
        self._forget(session)
        self._dismiss(session.identity, why)
        self._memory.touch(session.row)
        if session.hello.cancel_on_disconnect:
            self._memory.arm(session.row, False)
            if cancel:
                self._to_cancel.add(session.key.account)
                self._cancel_due()

    def _cancel_due(self) -> None:
        """Cancel on disconnect: every order of the account, now or when the engine is back."""
        for account in list(self._to_cancel):
            door = self._open
            if door is None:
                return
            rows = command(Kind.CANCEL_ALL, account=account).view(COMMAND.dtype)
            rows["request"] = self._number
            if door.send(rows):
                self._number += 1
                self._to_cancel.discard(account)


def _memory_of(config: Config, producer: str) -> tuple[Path, int, tuple[int, int]]:
    """Where the sessions are kept, how many, and the WAL their requests are counted in."""
    data = Path(config.data_dir)
    try:
        manifest = read_manifest(data)
        wal = (manifest.wal_hi, manifest.wal_lo)
    except DataError:
        wal = (0, 0)  # nothing was ever logged here
    return data / f"sessions.{producer}", config.zmq.sessions_max, wal
