"""`perpcore gateway market`: market data for native clients, as records and as msgpack.

Reads   the market-data process (gateways/marketdata/client.py): records of every symbol, streams of
        final JSON, snapshots.
Writes  one PUB socket by topic, and answers on a ROUTER socket beside it. Market data is public.
Never   waits for a subscriber: who is too slow loses messages and sees it. Never asks for the same
        snapshot twice at once, or five times a second.

    topic (ends with a zero byte)      frames after it
    l2.<SYMBOL>    l3.<SYMBOL>         HEAD, L2_UPDATE or L3_UPDATE rows (shm/records)
    m.l2.<SYMBOL>  m.l3.<SYMBOL>       HEAD, msgpack [[field, ...], ...] of the same fields in order
    records.l2     records.l3          every symbol, as the market-data process says it
    btcusdt@trade  ...                 any stream of the dialect: number, index and time, then JSON

HEAD is (previous, last, ts_ns): the command of the symbol's record before these, -1 where that is
not known, and of the last of these. Whoever has seen commands up to `previous` has missed nothing;
else a snapshot is the way on: it says the command S at which it was taken, and records of commands
above S go on top. A topic that somebody hears and that has no news is told so once a second.

    request     msgpack {"what": "l2" or "l3", "symbol": name}, or anything in marketdata/client.py
    answer      b"ok" and the body, or b"refused" and text; l2 and l3: msgpack {symbol, seq,
                update_id, ts_ns, rows}, rows as records: levels from the best, or orders by queue
"""

from __future__ import annotations

import json
import logging
import re
import signal
import struct
import time
from typing import Any, Final

import msgpack
import numpy as np
import zmq

from gateways.marketdata.client import END, HEAD, canonical
from gateways.zmq.binding import bind, unlink
from gateways.zmq.codec import ENCODER, picked
from shm.config import Config
from shm.logs import say, set_up
from shm.notify import notify
from shm.records import L2_UPDATE, L3_UPDATE, Record

Rows = np.ndarray[Any, Any]

LOG: Final = logging.getLogger("perpcore.market")
NATIVE_HEAD: Final = struct.Struct("<qqq")  # previous, last, ts_ns
RECORDS: Final = {"l2": L2_UPDATE, "l3": L3_UPDATE}
SEND_HWM: Final = 10_000  # messages kept for one slow subscriber
RECEIVE_HWM: Final = 100_000
ANSWER_HWM: Final = 100
REQUEST_BYTES_MAX: Final = 4096
TOPICS_MAX: Final = 20_000
TOPIC_BYTES_MAX: Final = 80
MESSAGES_A_TURN: Final = 256
REQUESTS_A_TURN: Final = 64
WAITING_MAX: Final = 1000  # requests on their way
BEAT_S: Final = 1.0
SOON_S: Final = 0.1
SYMBOLS_S: Final = 5.0
SNAPSHOT_S: Final = 0.2  # a younger one is given again
ASK_AGAIN_S: Final = 2.0
UNKNOWN: Final = -1
SYMBOLS: Final = 1 << 16
_SYMBOLS: Final[bytes] = msgpack.packb({"what": "symbols"})
_STATUS: Final[bytes] = msgpack.packb({"what": "status"})
_NATIVE: Final = re.compile(r"(m\.)?(l2|l3)\.(.{1,32})")


class Level:
    """L2 or L3 of every symbol: what was told last of each, and who hears it."""

    def __init__(self, name: str, layout: Record) -> None:
        self.stream = f"records.{name}".encode() + END
        self.dtype = layout.dtype
        self.names = [n for n in layout.dtype.names or () if not n.startswith("reserved")]
        self.number = UNKNOWN  # of the newest record
        self.expected = UNKNOWN  # the newest that there was a while ago
        self.last = np.full(SYMBOLS, UNKNOWN)  # command of the newest record, by symbol
        self.raw: dict[int, bytes] = {}  # symbol -> topic that somebody hears
        self.packed: dict[int, bytes] = {}
        self.wanted = np.zeros(SYMBOLS, bool)

    def forget(self) -> None:
        """Something was missed, or will be."""
        self.number = self.expected = UNKNOWN
        self.last[:] = UNKNOWN

    def stands(self, number: int, seq: int) -> None:
        """The market-data process sends to us; its newest record has this number, or none since."""
        if self.number == UNKNOWN or self.number < self.expected:
            # Whoever has seen less than this command may have missed something.
            self.number = number
            self.last[:] = seq
        self.expected = number


class MarketGateway:
    """The process's loop; `step` until told to stop."""

    def __init__(self, config: Config) -> None:
        """Raises DataError when an endpoint can't be had."""
        self._config = config
        self._levels = {name: Level(name, layout) for name, layout in RECORDS.items()}
        self._by_stream = {level.stream: level for level in self._levels.values()}
        self._heard: set[bytes] = set()
        self._streams: set[bytes] = set()  # heard from the market-data process
        self._indices: dict[str, int] = {}
        self._symbols_at = 0.0
        self._status_at = 0.0
        self._beat_at = 0.0
        self._numbers = 0
        self._waiting: dict[int, tuple[bytes, float, list[list[bytes]]]] = {}
        self._asked: dict[bytes, int] = {}  # request -> its number, while it is on its way
        self._recent: dict[bytes, tuple[float, list[bytes]]] = {}
        context = self._context = zmq.Context()
        self._out = context.socket(zmq.XPUB)
        self._out.setsockopt(zmq.SNDHWM, SEND_HWM)
        self._door = context.socket(zmq.ROUTER)
        self._door.setsockopt(zmq.SNDHWM, ANSWER_HWM)
        self._door.setsockopt(zmq.RCVHWM, ANSWER_HWM)
        for socket in (self._out, self._door):
            socket.setsockopt(zmq.MAXMSGSIZE, REQUEST_BYTES_MAX)
            socket.setsockopt(zmq.HANDSHAKE_IVL, 5000)
        self._in = context.socket(zmq.SUB)
        self._in.setsockopt(zmq.RCVHWM, RECEIVE_HWM)
        self._ask = context.socket(zmq.DEALER)
        for socket in (self._in, self._ask):
            socket.setsockopt(zmq.RECONNECT_IVL, 50)
            socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        try:
            bind(self._out, config.market_endpoints)
            bind(self._door, config.market_ask_endpoints)
        except BaseException:
            context.destroy(linger=0)
            raise
        self._in.connect(config.marketdata_endpoint)
        self._ask.connect(config.marketdata_ask_endpoint)
        self._poller = zmq.Poller()
        for socket in (self._in, self._ask, self._out, self._door):
            self._poller.register(socket, zmq.POLLIN)

    def close(self) -> None:
        self._context.destroy(linger=200)
        unlink((*self._config.market_endpoints, *self._config.market_ask_endpoints))

    def step(self, wait_ms: int) -> None:
        """Take what has come from all sides."""
        if self._poller.poll(wait_ms):
            self._hear()
            self._forward()
            self._take_requests()
            self._take_answers()
        now = time.monotonic()
        if now - self._beat_at > BEAT_S:
            self._beat_at = now
            self._beat()
            self._expire(now)
        if now - self._symbols_at > (SYMBOLS_S if self._indices else SOON_S):
            self._symbols_at = now
            self._request(_SYMBOLS, [])
        listening = [lv for lv in self._levels.values() if lv.stream in self._streams]
        soon = any(level.number == UNKNOWN for level in listening)
        if listening and now - self._status_at > (SOON_S if soon else BEAT_S):
            self._status_at = now
            self._request(_STATUS, [])

    # ------------------------------------------------------------ subscriptions

    def _hear(self) -> None:
        """Who has subscribed, and who has left; XPUB tells of the first and the last of a topic."""
        for _ in range(MESSAGES_A_TURN):
            try:
                message = self._out.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            if len(message) > TOPIC_BYTES_MAX:
                continue  # none of ours is that long
            if message[:1] == b"\x01" and len(self._heard) < TOPICS_MAX:
                self._heard.add(message[1:])
                self._listen(message[1:])
            elif message[:1] == b"\x00" and message[1:] in self._heard:
                self._heard.discard(message[1:])
                self._leave(message[1:])

    def _native(self, topic: bytes) -> tuple[Level, bool, int] | None:
        """(level, whether msgpack, symbol or UNKNOWN) of a topic of ours."""
        found = _NATIVE.fullmatch(topic.removesuffix(END).decode(errors="replace"))
        if found is None or not topic.endswith(END):
            return None
        return self._levels[found[2]], bool(found[1]), self._indices.get(found[3], UNKNOWN)

    def _listen(self, topic: bytes) -> None:
        native = self._native(topic)
        if native is not None:
            level, packed, symbol = native
            self._subscribe(level.stream)
            if symbol == UNKNOWN:
                return  # its name may be declared later
            (level.packed if packed else level.raw)[symbol] = topic
            level.wanted[symbol] = True
        elif topic in self._by_stream or (
            topic.endswith(END) and canonical(topic[:-1].decode(errors="replace"))
        ):
            self._subscribe(topic)

    def _leave(self, topic: bytes) -> None:
        native = self._native(topic)
        if native is None:
            if topic in self._streams and topic not in self._by_stream:
                self._streams.discard(topic)
                self._in.unsubscribe(topic)
            elif topic in self._by_stream:
                self._drop_unheard(self._by_stream[topic])
            return
        level, packed, symbol = native
        (level.packed if packed else level.raw).pop(symbol, None)
        if symbol != UNKNOWN:
            level.wanted[symbol] = symbol in level.raw or symbol in level.packed
        self._drop_unheard(level)

    def _drop_unheard(self, level: Level) -> None:
        if not level.raw and not level.packed and level.stream not in self._heard:
            self._streams.discard(level.stream)
            self._in.unsubscribe(level.stream)
            level.forget()

    def _subscribe(self, stream: bytes) -> None:
        if stream not in self._streams:
            self._streams.add(stream)
            self._in.subscribe(stream)

    # ------------------------------------------------------------ out

    def _forward(self) -> None:
        for _ in range(MESSAGES_A_TURN):
            try:
                frames = self._in.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            topic = frames[0]
            level = self._by_stream.get(topic)
            if level is None or topic in self._heard:
                self._out.send_multipart(frames, zmq.NOBLOCK)
            if level is not None:
                self._records(level, frames[1], b"".join(frames[2:]))

    def _records(self, level: Level, head: bytes, body: bytes) -> None:
        """Split by symbol. What was heard before is dropped, what was missed is known as missed."""
        first, _, ts_ns = HEAD.unpack(head)
        rows = np.frombuffer(body, level.dtype)
        if first <= level.number:
            rows = rows[level.number + 1 - first :]
        elif first > level.number + 1 and level.number != UNKNOWN:
            level.forget()
        if len(rows) == 0:
            return
        level.number = first + len(body) // level.dtype.itemsize - 1
        symbols = np.ascontiguousarray(rows["symbol"])
        if (symbols == symbols[0]).all():
            if level.wanted[symbols[0]]:
                self._tell(level, int(symbols[0]), rows, ts_ns)
        else:
            at = np.flatnonzero(level.wanted[symbols])
            if len(at):
                at = at[np.argsort(symbols[at], kind="stable")]
                found = picked(rows, at)
                cuts = np.flatnonzero(np.diff(found["symbol"])) + 1
                for own in np.split(found, cuts):
                    self._tell(level, int(own["symbol"][0]), own, ts_ns)
        # The last of equal symbols counts. A status may know of later commands already.
        level.last[symbols] = np.maximum(level.last[symbols], rows["seq"])

    def _tell(self, level: Level, symbol: int, rows: Rows, ts_ns: int) -> None:
        head = NATIVE_HEAD.pack(level.last[symbol], rows["seq"][-1], ts_ns)
        topic = level.raw.get(symbol)
        if topic is not None:
            self._out.send_multipart([topic, head, rows.tobytes()], zmq.NOBLOCK)
        topic = level.packed.get(symbol)
        if topic is not None:
            columns = [rows[name].tolist() for name in level.names]
            body = ENCODER.encode(list(zip(*columns, strict=True)))
            self._out.send_multipart([topic, head, body], zmq.NOBLOCK)

    def _beat(self) -> None:
        """Where every heard topic stands: who lost the last message before a silence sees it."""
        for level in self._levels.values():
            for topics, empty in ((level.raw, b""), (level.packed, b"\x90")):
                for symbol, topic in topics.items():
                    last = level.last[symbol]
                    head = NATIVE_HEAD.pack(last, last, time.time_ns())
                    self._out.send_multipart([topic, head, empty], zmq.NOBLOCK)

    # ------------------------------------------------------------ snapshots

    def _take_requests(self) -> None:
        for _ in range(REQUESTS_A_TURN):
            try:
                *envelope, request = self._door.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            request = _plain(request)
            kept = self._recent.get(request)
            if kept is not None and time.monotonic() - kept[0] < SNAPSHOT_S:
                self._answer(envelope, kept[1])
            elif len(self._waiting) >= WAITING_MAX and request not in self._asked:
                self._answer(envelope, [b"refused", b"too many questions"])
            else:
                self._request(request, [envelope])

    def _request(self, request: bytes, envelopes: list[list[bytes]]) -> None:
        """Ask, or wait with those who have asked the same."""
        asked = self._asked.get(request)
        if asked is not None:
            if len(self._waiting[asked][2]) < WAITING_MAX:
                self._waiting[asked][2].extend(envelopes)
            return
        self._numbers += 1
        try:
            self._ask.send_multipart([self._numbers.to_bytes(8, "little"), request], zmq.NOBLOCK)
        except zmq.Again:
            for envelope in envelopes:
                self._answer(envelope, [b"refused", b"market data doesn't answer"])
            return
        self._asked[request] = self._numbers
        self._waiting[self._numbers] = (request, time.monotonic(), envelopes)

    def _take_answers(self) -> None:
        for _ in range(REQUESTS_A_TURN):
            try:
                number, *said = self._ask.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            found = self._waiting.pop(int.from_bytes(number, "little"), None)
            if found is None:
                continue
            request, _, envelopes = found
            del self._asked[request]
            if said[0] == b"ok" and request == _SYMBOLS:
                self._know_symbols(said[1])
            elif said[0] == b"ok" and request == _STATUS:
                self._know_status(said[1])
            self._recent[request] = (time.monotonic(), said)
            for envelope in envelopes:
                self._answer(envelope, said)

    def _know_status(self, body: bytes) -> None:
        said = json.loads(body)
        for name, number in said["records"].items():
            self._levels[name].stands(number, said["seq"])

    def _know_symbols(self, body: bytes) -> None:
        known = {row["name"]: row["index"] for row in json.loads(body)}
        if known != self._indices:
            self._indices = known
            for topic in self._heard:
                self._listen(topic)

    def _answer(self, envelope: list[bytes], said: list[bytes]) -> None:
        # A full queue to this asker drops the answer (ROUTER); it will ask again.
        self._door.send_multipart([*envelope, *said], zmq.NOBLOCK)

    def _expire(self, now: float) -> None:
        late = [n for n, (_, at, _) in self._waiting.items() if now - at > ASK_AGAIN_S]
        for number in late:
            request, _, envelopes = self._waiting.pop(number)
            del self._asked[request]
            for envelope in envelopes:
                self._answer(envelope, [b"refused", b"market data doesn't answer"])
        old = [request for request, (at, _) in self._recent.items() if now - at > SNAPSHOT_S]
        for request in old:
            del self._recent[request]


def _plain(request: bytes) -> bytes:
    """The one way to ask for a snapshot; what is none of ours goes on as it is."""
    try:
        asked = msgpack.unpackb(request)
        if asked["what"] in RECORDS:
            return bytes(msgpack.packb({"what": asked["what"], "symbol": asked["symbol"]}))
    except Exception:  # any bytes may come; the market-data process says what is wrong with them
        return request
    return request


def run(config: Config) -> int:
    """Run one in the foreground until it is told to stop; returns the exit code."""
    set_up("gateway", config.instance, config.log_level, "market")
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda signum, _frame: stop.append(signum))
    gateway = MarketGateway(config)
    say(LOG, logging.INFO, "serving", url=" ".join(config.market_endpoints))
    notify("READY=1")
    said = 0.0
    try:
        while not stop:
            gateway.step(100)
            if time.monotonic() - said > 1:
                said = time.monotonic()
                notify("WATCHDOG=1")
    finally:
        notify("STOPPING=1")
        gateway.close()
    return 0
