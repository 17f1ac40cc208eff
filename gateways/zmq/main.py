"""`perpcore gateway zmq`: the native gateway, until it is told to stop.

Reads   clients' messages (ROUTER, CURVE; ZAP looks keys up in the user store), durable reports.
Writes  commands into one producer's ingress ring; each account's reports to its sessions.
Never   waits for a client: who doesn't read is dropped with a reason. Never says that a command was
        taken that wasn't, nor hides one that was: what became of it are its durable reports.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import zmq
import zmq.asyncio
import zmq.auth
from zmq.auth.asyncio import AsyncioAuthenticator

from gateways.http.main import bring_up_to_date, checked_producer, loop_factory, open_store
from gateways.http.reportstream import ReportStream, Rows
from gateways.users.keyring import KeyRing, address_of, allowed
from gateways.users.store import Key, Scope, scope_words
from gateways.zmq import protocol
from gateways.zmq.codec import ENCODER, report_frames, rows_of_orders, rows_of_records
from gateways.zmq.protocol import Epoch, Hello, Taken, Welcome
from shm.codes import Kind
from shm.config import Config
from shm.door import Door
from shm.files import read_manifest
from shm.kinds import command
from shm.notify import notify
from shm.records import COMMAND, layouts_digest
from shm.reportlog import ReportLogReader
from shm.segment import SegmentError

LOG: Final = logging.getLogger("perpcore.zmq")
DOMAIN: Final = "perpcore"  # of ZAP
SILENT_BEATS: Final = 3
LOOK_S: Final = 0.1
MESSAGES_A_TURN: Final = 256
RESEND_BATCH: Final = 65536
HELLOS: Final = msgspec.msgpack.Decoder(Hello)


@dataclass
class Session:
    """One client, by the routing id that ZeroMQ gave its connection."""

    identity: bytes
    key: Key
    hello: Hello
    last_index: int  # of the newest report sent
    heard_s: float
    resending: bool = False


class Gateway:
    """All sessions of one process."""

    def __init__(self, config: Config, producer: str, keys: KeyRing) -> None:
        self._config = config
        self._producer = producer
        self._keys = keys
        self._sessions: dict[bytes, Session] = {}
        self._by_account: dict[int, list[Session]] = {}
        self._interest = np.zeros(config.limits.accounts, bool)
        self._door: Door | None = None
        self._number = 0
        self._stream = ReportStream(config, self._on_batch, self._on_epoch)
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._tasks: list[asyncio.Task[None]] = []
        self._again: asyncio.TimerHandle | None = None
        self.dropped = 0

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        own = self._config.zmq
        self._loop = asyncio.get_running_loop()
        self._auth = AsyncioAuthenticator(zmq.asyncio.Context.shadow(self._context.underlying))
        self._auth.start()
        self._auth.configure_curve_callback(DOMAIN, self)
        public, secret = curve_key(self._config)
        router = self._router
        router.curve_server = True
        router.curve_secretkey, router.curve_publickey = secret, public
        router.zap_domain = DOMAIN.encode()
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.setsockopt(zmq.MAXMSGSIZE, own.message_bytes_max)
        router.setsockopt(zmq.SNDHWM, own.unsent_messages_max)
        router.setsockopt(zmq.RCVHWM, own.unread_messages_max)
        router.setsockopt(zmq.LINGER, 500)
        for endpoint in self._config.zmq_endpoints:
            router.bind(endpoint)
        self._loop.add_reader(int(router.getsockopt(zmq.FD)), self._turn)
        self._stream.start()
        self._attach()
        self._tasks = [asyncio.create_task(self._look())]
        self._timer()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for session in list(self._sessions.values()):
            self._end(session, "the gateway stops", cancel=False)
        self._loop.remove_reader(int(self._router.getsockopt(zmq.FD)))
        if self._again is not None:
            self._again.cancel()
        self._stream.close()
        self._auth.stop()
        self._router.close()
        self._context.term()
        if self._door is not None:
            self._door.close()

    @property
    def failed(self) -> Exception | None:
        return self._stream.failed

    def _timer(self) -> None:
        """ZeroMQ's file descriptor tells of changes, not of states: look now and then anyway."""
        self._again = self._loop.call_later(0.05, self._timer)
        self._turn()

    def _attach(self) -> None:
        with suppress(SegmentError):
            door = Door(self._config.instance, self._producer)
            self._door = door
            self._number = max(self._number + 1, door.next_request())

    async def _look(self) -> None:
        """Now and then: the engine, keys that were revoked, clients that fell silent."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._door is not None and not self._door.open:
                self._door.close()
                self._door = None
            if self._door is None:
                self._attach()
            gone = self._keys.refresh()
            silent_s = SILENT_BEATS * self._config.zmq.heartbeat_ms / 1000
            now = self._loop.time()
            for session in list(self._sessions.values()):
                if session.key.id in gone:
                    self._end(session, "the key was revoked or has expired")
                elif now - session.heard_s > silent_s:
                    self._end(session, f"nothing was heard for {silent_s:.1f} s")

    # ------------------------------------------------------------ who may come in

    def callback(self, _domain: str, key: bytes) -> bool:
        """ZAP: whether a client with this CURVE key may connect at all."""
        found = self._keys.by_text.get(key.decode())
        if found is None:
            self._keys.load()
            found = self._keys.by_text.get(key.decode())
        return found is not None and found.kind == "curve"

    # ------------------------------------------------------------ in

    def _turn(self) -> None:
        for _ in range(MESSAGES_A_TURN):
            try:
                frames = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                self._take(frames)
            except msgspec.DecodeError as error:
                self._send(frames[0].bytes, [protocol.GONE, ENCODER.encode(f"malformed: {error}")])
        self._loop.call_soon(self._turn)

    def _take(self, frames: list[zmq.Frame]) -> None:
        identity = frames[0].bytes
        if len(frames) != 3:
            raise msgspec.ValidationError(f"{len(frames) - 1} frames, must be a kind and a body")
        kind, body = frames[1].bytes, frames[2].bytes
        if kind == protocol.HELLO:
            self._hello(identity, frames[1], body)
            return
        session = self._sessions.get(identity)
        if session is None:
            self._send(identity, [protocol.GONE, ENCODER.encode("say HELLO first")])
            return
        session.heard_s = self._loop.time()
        if kind == protocol.PING:
            self._send(identity, [protocol.PONG, body])
        elif kind == protocol.ORDERS:
            key = session.key
            rows, refused = rows_of_orders(body, key.account, time.time_ns(), key.id)
            self._hand_over(session, rows, refused)
        elif kind == protocol.RECORDS:
            rows, refused = rows_of_records(body, session.key.account)
            self._hand_over(session, rows, refused)
        else:
            raise msgspec.ValidationError(f"kind {kind!r} is unknown")

    def _hello(self, identity: bytes, frame: zmq.Frame, body: bytes) -> None:
        hello = HELLOS.decode(body)
        key = self._keys.by_text.get(str(frame.get("User-Id")))
        if key is None or not allowed(key, Scope.READ, address_of(str(frame.get("Peer-Address")))):
            why = "the key may not be used, or not from there"
            self._send(identity, [protocol.GONE, ENCODER.encode(why)])
            return
        if key.account >= len(self._interest):
            why = "the account is not of this venue"
            self._send(identity, [protocol.GONE, ENCODER.encode(why)])
            return
        before = self._sessions.get(identity)
        if before is not None:
            self._forget(before)
        now = self._loop.time()
        session = Session(identity, key, hello, -1, now)
        self._sessions[identity] = session
        self._by_account.setdefault(key.account, []).append(session)
        self._interest[key.account] = True
        index = max(self._stream.next, 0)
        welcome = Welcome(
            *(key.account, scope_words(key.scopes).split(","), self._stream.epoch, index),
            *(self._config.zmq.heartbeat_ms, layouts_digest()),
        )
        self._send(identity, [protocol.WELCOME, ENCODER.encode(welcome)])
        if hello.after >= 0 and hello.after + 1 < index:
            self._resend(session, hello.after + 1, index)

    def _hand_over(self, session: Session, rows: Rows, refused: list[tuple[int, str]]) -> None:
        """Put rows into the ring and say which were taken."""
        total = len(rows) + len(refused)
        first = self._number
        taken = 0
        why = protocol.NOT_RUNNING
        if not session.hello.orders or not session.key.scopes & Scope.TRADE:
            why = protocol.FORBIDDEN
        elif self._door is not None and self._door.open:
            rows["request"] = np.arange(first, first + len(rows))
            taken = self._door.send(rows) if len(rows) else 0
            why = protocol.OVERLOADED
            self._number += taken
        if taken < len(rows):
            gone = {place for place, _ in refused}
            places = [place for place in range(total) if place not in gone]
            refused = sorted([*refused, *((place, why) for place in places[taken:])])
        self._send(session.identity, [protocol.TAKEN, ENCODER.encode(Taken(first, taken, refused))])

    # ------------------------------------------------------------ out

    def _send(self, identity: bytes, frames: list[bytes]) -> bool:
        try:
            self._router.send_multipart([identity, *frames], zmq.NOBLOCK, copy=False)
        except (zmq.Again, zmq.ZMQError):
            session = self._sessions.get(identity)
            if session is not None:
                self.dropped += 1
                self._forget(session)  # it doesn't read, or is gone; HELLO brings it back
                self._cancel(session)
            return False
        return True

    def _on_batch(self, rows: Rows, first: int) -> None:
        accounts = np.minimum(rows["account"], len(self._interest) - 1)
        at = np.flatnonzero(self._interest[accounts])
        if len(at) == 0:
            return
        for account in np.unique(accounts[at]).tolist():
            own = at[accounts[at] == account]
            self._tell(self._by_account.get(account, ()), rows[own], own.astype(np.int64) + first)

    def _tell(self, sessions: Iterable[Session], rows: Rows, indices: np.ndarray[Any, Any]) -> None:
        for session in list(sessions):
            if session.resending:
                continue  # it has them from the log, in its turn
            frames = report_frames(rows, indices, session.last_index, raw=session.hello.records)
            session.last_index = int(indices[-1])
            self._send(session.identity, frames)

    def _resend(self, session: Session, first: int, end: int) -> None:
        """Everything of the account from the log, then on with what is new."""
        try:
            reader = ReportLogReader(
                Path(self._config.data_dir), read_manifest(Path(self._config.data_dir))
            )
        except OSError:
            return
        try:
            if first < reader.first_index:
                self._end(session, f"reports before {reader.first_index} are no longer kept")
                return
            for batch in reader.batches(first, end, RESEND_BATCH):
                own = np.flatnonzero(batch["account"] == session.key.account)
                if len(own):
                    self._tell([session], batch[own], own.astype(np.int64) + first)
                first += len(batch)
        finally:
            reader.close()

    def _on_epoch(self, epoch: int) -> None:
        body = ENCODER.encode(Epoch(epoch, max(self._stream.next, 0)))
        for session in list(self._sessions.values()):
            self._send(session.identity, [protocol.EPOCH, body])

    # ------------------------------------------------------------ the end of a session

    def _forget(self, session: Session) -> None:
        self._sessions.pop(session.identity, None)
        others = self._by_account.get(session.key.account, [])
        if session in others:
            others.remove(session)
        if not others:
            self._by_account.pop(session.key.account, None)
            self._interest[session.key.account] = False

    def _end(self, session: Session, why: str, *, cancel: bool = True) -> None:
        self._send(session.identity, [protocol.GONE, ENCODER.encode(why)])
        self._forget(session)
        if cancel:
            self._cancel(session)

    def _cancel(self, session: Session) -> None:
        """Cancel on disconnect: every order of the account, unless another session is there."""
        account = session.key.account
        if not session.hello.cancel_on_disconnect or self._door is None or not self._door.open:
            return
        rows = command(Kind.CANCEL_ALL, account=account).view(COMMAND.dtype)
        rows["request"] = self._number
        self._number += self._door.send(rows)


def curve_key(config: Config) -> tuple[bytes, bytes]:
    """The gateway's own key pair: (public, secret), made at the first start, 0600."""
    path = config.curve_key_path
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        public, secret = zmq.curve_keypair()
        path.touch(mode=0o600)
        path.write_bytes(public + b"\n" + secret + b"\n")
    public, secret = path.read_bytes().split()
    return public, secret


async def serve(config: Config, producer: str, stop: asyncio.Event) -> None:
    """Run one gateway until `stop` is set."""
    checked_producer(config, producer)
    store, _, _ = open_store(config)
    bring_up_to_date(config, store)
    gateway = Gateway(config, producer, KeyRing(store))
    await gateway.start()
    public, _ = curve_key(config)
    LOG.info(
        "perpcore gateway %s: %s, public key %s",
        *(producer, " ".join(config.zmq_endpoints), public.decode()),
    )
    notify("READY=1")
    try:
        while not stop.is_set():
            notify("WATCHDOG=1")
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1.0)
            if gateway.failed is not None:
                raise gateway.failed
    finally:
        notify("STOPPING=1")
        await gateway.stop()
        store.close()


def run(config: Config, producer: str) -> int:
    """Run one gateway in the foreground; returns the exit code."""
    logging.basicConfig(level=config.log_level.upper(), format="%(message)s")

    async def until_told() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(config, producer, stop)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(until_told())
    return 0
