"""perpcore.toml: everything an operator may choose, typed, checked, with a default for each.

Reads   one TOML file and overrides from the command line.
Never   reads the environment or the host: what of it this host can honour (cores, scheduling,
        locked memory) the workers find out and report. Imports no numba.

Every error names file, path, value found and what it must be; all of them are listed at once.

    instance = "main"          # several exchanges on one host differ in this and in data_dir
    topology = "auto"          # "fused", "split", "auto", or [[topology]] tables, one a worker:

    [[topology]]
    name = "engine"
    stages = ["sequence", "risk", "match:*", "settle"]
    cpu = 2                    # pinned; omit to let the kernel choose
    scheduler = "fifo:10"      # or "nice:-5", or "other"
    lock_memory = true
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import msgspec

from shm.codes import Kind
from shm.segment import INSTANCE
from shm.units import PRODUCERS_MAX, SHARDS_MAX, SOURCES_MAX

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
COMMANDS_MAX: Final = 32768  # `settled_lag` in the WAL is 16 bits
UNIX_PATH_MAX: Final = 107
RANGE_SUFFIX: Final = ".ask"
PRICE: Final = re.compile(r"0*[1-9]\d{0,17}(\.\d{1,12})?|0+\.\d{0,11}[1-9]\d{0,11}", re.ASCII)

_ORDER = (
    *(Kind.PLACE, Kind.CANCEL, Kind.AMEND, Kind.REDUCE, Kind.CANCEL_ALL, Kind.LEVERAGE),
    *(Kind.PLACE_ALGO, Kind.CANCEL_ALGO, Kind.CANCEL_ALGOS, Kind.COUNTDOWN, Kind.MARGIN_TYPE),
    *(Kind.POSITION_MODE, Kind.POSITION_MARGIN, Kind.REQUEST_WITHDRAW, Kind.TRANSFER),
)
_ADMIN = (
    *(Kind.CANCEL_ALL, Kind.CANCEL_SYMBOL, Kind.DEPOSIT, Kind.WITHDRAW, Kind.ASSET, Kind.ACCOUNT),
    *(Kind.SYMBOL, Kind.SYMBOL_STATE, Kind.VENUE_STATE, Kind.MARK, Kind.REQUEST_ADJUST),
    *(Kind.APPROVE, Kind.REJECT, Kind.SETTLE_WITHDRAW, Kind.TRANSFER, Kind.FEE_RATES),
    *(Kind.BOOKKEEPING, Kind.AUDIT, Kind.CONTRACT, Kind.BRACKET, Kind.SOURCE),
    *(Kind.SETTLE_SYMBOL, Kind.REQUEST_WITHDRAW, Kind.UPGRADE),
)
_CLOCK = (Kind.MARK, Kind.TICK, Kind.SOURCE_PRICE, Kind.SAMPLE, Kind.LIQUIDATE)
# What the sequencer makes itself (EXPIRE, CHECKPOINT, REFUSED) nobody may send.
KINDS: Final[dict[str, tuple[Kind, ...]]] = {
    "order": _ORDER,
    "admin": _ADMIN,
    "clock": _CLOCK,
    "any": (*_ORDER, *_ADMIN, *_CLOCK),
}


class ConfigError(ValueError):
    """The configuration cannot be used; one line a problem."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every table of the file: an unknown name is an error, not a silent typo."""


class Worker(_Table, frozen=True):
    """One process and the stages it runs, in this order."""

    name: str
    stages: tuple[str, ...]
    cpu: int | None = None
    scheduler: str = "other"
    lock_memory: bool = False


class Wait(_Table, frozen=True):
    """What a worker does when there is nothing to do (shm/wait.py)."""

    policy: str = "futex"
    spins: int = 0  # before yielding; anything above 0 wants a core of its own
    yields: int = 200  # before sleeping
    sleep_ms: int = 50


class Rings(_Table, frozen=True):
    """Slots, powers of two."""

    commands: int = 8192
    matches: int = 16384
    reports: int = 65536
    ingress: int = 4096


class Limits(_Table, frozen=True):
    """As engine.state.Limits: how much of everything this venue can hold."""

    accounts: int = 4096
    assets: int = 2
    symbols: int = 16
    positions: int = 16384
    orders: int = 65536
    clients: int = 131072
    algos: int = 16384
    requests: int = 4096
    client_window_ns: int = 600_000_000_000
    digests: int = 65536
    digest_window_ns: int = 61_000_000_000
    leaves: int = 8192
    trie: int = 8192


class Wal(_Table, frozen=True):
    """The log of commands and, beside it, the log of reports."""

    io: str = "direct"
    segment_bytes: int = 256 << 20
    preallocate: int = 2  # segments kept ready ahead of the one being written
    block_bytes_max: int = 512 << 10  # one group commit
    heartbeat_ms: int = 1000  # after the last block, one more that says so
    report_log_bytes_max: int = 8 << 30


class Producer(_Table, frozen=True):
    """Who may send commands: an ingress ring of its own, and what may come through it."""

    name: str
    id: int
    kinds: tuple[str, ...]
    privileged: bool = False


class Publisher(_Table, frozen=True):
    """Where reports go out over ZeroMQ."""

    ipc: str = ""  # "": publisher.sock in data_dir
    tcp: str = ""  # "": none; else "127.0.0.1:7001", and 7002 for reports that were missed


class ClockSource(_Table, frozen=True):
    """Where the clock takes the price of one index source from; prices are decimal, in quote."""

    symbol: str
    kind: str = "walk"  # "walk": seeded, random; "klines": a CSV file, played row by row
    source: int = 0  # which source of the symbol's index
    every_ms: int = 1000  # between two prices
    seed: int = 1  # walk
    price: str = ""  # walk: where it begins when the symbol has no index yet
    step_ppm: int = 100  # walk: a step is at most this
    path: str = ""  # klines: the file, plain or gzip, with a header
    column: str = "close"  # klines: which column is the price
    loop: bool = False  # klines: begin again after the last row; else the source goes silent


class Clock(_Table, frozen=True):
    """The clock process: it tells the engine the time, and what index sources say."""

    tick_ms: int = 100  # how often it looks whether a TICK is needed; one a second at least
    sample_ms: int = 1000  # between two looks at a book, for mark price and funding
    socket: str = ""  # Unix datagram socket for "SYMBOL SOURCE PRICE [TIME_NS]" lines; "": none
    offset_max_us: int = 0  # of the host's clock, by the kernel's own estimate; 0: any
    sources: tuple[ClockSource, ...] = ()


class View(_Table, frozen=True):
    """The account view: a follower that keeps accounts, positions and orders for all gateways."""

    closed_orders: int = 16384  # how many ended orders stay to be asked for
    checkpoint_seconds: int = 10


class MarketData(_Table, frozen=True):
    """The process that builds every market-data message once."""

    ipc: str = ""  # "": marketdata.sock in data_dir
    checkpoint_seconds: int = 30
    trades: int = 1000  # recent trades of a symbol that can be asked for
    klines: int = 1500  # recent candles of every interval


class History(_Table, frozen=True):
    """Orders, trades, income and candles in SQLite."""

    path: str = ""  # "": history.db in data_dir
    commit_ms: int = 50  # what came in the meantime is written together
    orders_days: int = 90  # how long what ended is kept; 0: for ever
    unfilled_days: int = 3  # the same for orders that ended without a fill
    trades_days: int = 0
    income_days: int = 0
    klines_days: int = 0  # of candles shorter than a day


class Http(_Table, frozen=True):
    """The HTTP and WebSocket gateways; several may share one port."""

    host: str = "127.0.0.1"
    port: int = 8080
    admin_socket: str = ""  # "": admin.sock in data_dir
    users: str = ""  # "": users.db in data_dir
    master_key: str = ""  # "": master.key in data_dir; what seals secrets
    first_account: int = 1000  # accounts of new users are numbered from here on
    tls_certificate: str = ""  # with tls_key: https and wss
    tls_key: str = ""
    trusted_proxies: tuple[str, ...] = ()  # networks whose X-Forwarded-For counts
    cors_origins: tuple[str, ...] = ()  # origins a browser may come from; "*" for any
    weight_per_minute: int = 2400  # of one address
    orders_per_10s: int = 300  # of one account
    orders_per_minute: int = 1200
    answer_timeout_ms: int = 5000  # then a command's fate is unknown (-1007)
    body_bytes_max: int = 65536
    idle_timeout_s: int = 75  # for a request to come, or its head to be whole
    connections_max: int = 8192
    connections_per_address: int = 512
    sockets_per_address: int = 300
    streams_max: int = 1024  # of one WebSocket
    messages_per_s: int = 10  # control messages of one WebSocket
    requests_per_s: int = 2000  # of one WebSocket API connection
    frame_bytes_max: int = 65536
    unsent_bytes_max: int = 4 << 20  # of one WebSocket; then it is closed as too slow
    ping_s: int = 180
    pong_s: int = 600


class Alert(_Table, frozen=True):
    """Whom to tell when a unit has failed."""

    command: tuple[str, ...] = ()  # a program and its arguments; the message comes last
    seconds: float = 20.0  # how long it may take


class HotWallet(_Table, frozen=True):
    """How much of an asset the venue means to hold online; metrics and alerts tell of more."""

    asset: str
    max: str  # decimal, in units of the asset


class Books(_Table, frozen=True):
    """The ledger, and what a break between it and the engine leads to."""

    cancel_only: bool = False  # a break turns the venue cancel-only
    producer: str = "admin"  # as whom: an [[producers]] entry that may send VENUE_STATE
    hot_wallets: tuple[HotWallet, ...] = ()


class Zmq(_Table, frozen=True):
    """The native gateway."""

    ipc: str = ""  # "": orders.sock in data_dir
    tcp: str = ""  # "": none; else "0.0.0.0:7010"
    key: str = ""  # "": curve.key in data_dir; the gateway's own CURVE key pair
    heartbeat_ms: int = 1000  # a client silent for three of them is gone
    sessions_max: int = 1000
    message_bytes_max: int = 1 << 19
    unsent_messages_max: int = 2000  # of one client; what it doesn't read in time ends its session
    unread_messages_max: int = 500
    market_ipc: str = ""  # market data; "": market.sock in data_dir
    market_tcp: str = ""  # "": none; else "0.0.0.0:7020"; questions go one port on


PRODUCERS: Final = (
    Producer(name="clock", id=1, kinds=("clock",)),
    Producer(name="admin", id=2, kinds=("admin", "order")),
    Producer(name="demo", id=3, kinds=("any",)),
    Producer(name="replay", id=4, kinds=("any",), privileged=True),
    *(Producer(name=f"gateway{k}", id=8 + k, kinds=("order",)) for k in range(4)),
)


class Config(_Table, frozen=True):
    """The whole file."""

    instance: str = "main"
    data_dir: str = "var"
    topology: str | tuple[Worker, ...] = "auto"
    shards: int = 1
    checkpoint_every: int = 65536  # commands between two digests in the WAL
    heartbeat_timeout_ms: int = 5000  # a worker silent for longer is taken for dead
    restarts_max: int = 5  # starts after a worker's death within a minute; then the engine ends
    log_level: str = "info"
    wait: Wait = Wait()
    rings: Rings = Rings()
    limits: Limits = Limits()
    wal: Wal = Wal()
    producers: tuple[Producer, ...] = PRODUCERS
    publisher: Publisher = Publisher()
    clock: Clock = Clock()
    alert: Alert = Alert()
    zmq: Zmq = Zmq()
    view: View = View()
    marketdata: MarketData = MarketData()
    history: History = History()
    http: Http = Http()
    ledger: Books = Books()

    @property
    def publisher_endpoints(self) -> tuple[str, ...]:
        """What ZeroMQ binds: always ipc, tcp when there is one."""
        ipc = self.publisher.ipc or str(Path(self.data_dir).resolve() / "publisher.sock")
        tcp = (f"tcp://{self.publisher.tcp}",) if self.publisher.tcp else ()
        return (f"ipc://{ipc}", *tcp)

    @property
    def range_endpoints(self) -> tuple[str, ...]:
        """Where reports that somebody missed can be asked for: beside the others, one port on."""
        ipc = f"{self.publisher_endpoints[0]}{RANGE_SUFFIX}"
        host, _, port = self.publisher.tcp.rpartition(":")
        return (ipc, *((f"tcp://{host}:{int(port) + 1}",) if host else ()))

    @property
    def marketdata_endpoint(self) -> str:
        """Where market data goes out; what was missed is asked for beside it."""
        return f"ipc://{self.marketdata.ipc or Path(self.data_dir).resolve() / 'marketdata.sock'}"

    @property
    def marketdata_ask_endpoint(self) -> str:
        return f"{self.marketdata_endpoint}{RANGE_SUFFIX}"

    @property
    def history_path(self) -> Path:
        return Path(self.history.path or Path(self.data_dir).resolve() / "history.db")

    @property
    def admin_socket(self) -> Path:
        """Where the admin endpoints listen."""
        return Path(self.http.admin_socket or Path(self.data_dir).resolve() / "admin.sock")

    @property
    def zmq_endpoints(self) -> tuple[str, ...]:
        """Where the native gateway listens: always ipc, tcp when there is one."""
        ipc = self.zmq.ipc or str(Path(self.data_dir).resolve() / "orders.sock")
        return (f"ipc://{ipc}", *((f"tcp://{self.zmq.tcp}",) if self.zmq.tcp else ()))

    @property
    def market_endpoints(self) -> tuple[str, ...]:
        """Where native market data goes out."""
        ipc = self.zmq.market_ipc or str(Path(self.data_dir).resolve() / "market.sock")
        return (f"ipc://{ipc}", *((f"tcp://{self.zmq.market_tcp}",) if self.zmq.market_tcp else ()))

    @property
    def market_ask_endpoints(self) -> tuple[str, ...]:
        """Where snapshots of it are asked for: beside the others, one port on."""
        host, _, port = self.zmq.market_tcp.rpartition(":")
        tcp = (f"tcp://{host}:{int(port) + 1}",) if host else ()
        return (f"{self.market_endpoints[0]}{RANGE_SUFFIX}", *tcp)

    @property
    def curve_key_path(self) -> Path:
        return Path(self.zmq.key or Path(self.data_dir) / "curve.key")

    @property
    def users_path(self) -> Path:
        return Path(self.http.users or Path(self.data_dir).resolve() / "users.db")

    @property
    def master_key_path(self) -> Path:
        return Path(self.http.master_key or Path(self.data_dir).resolve() / "master.key")

    def producer(self, name: str) -> Producer:
        """The producer of that name; KeyError when the file has none."""
        return {p.name: p for p in self.producers}[name]


def kinds_mask(kinds: tuple[str, ...]) -> int:
    """Bit k is set when codes.Kind k may be sent."""
    mask = 0
    for group in kinds:
        for kind in KINDS[group]:
            mask |= 1 << kind
    return mask


def load(path: str | Path | None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read and check a file (None: all defaults), with overrides by dotted path on top.

    overrides   {"rings.commands": 16384, "topology": "split"}
    raises      ConfigError, listing every problem
    """
    raw: dict[str, Any] = {}
    where = str(path) if path is not None else "configuration"
    if path is not None:
        try:
            raw = tomllib.loads(Path(path).read_text())
        except FileNotFoundError:
            raise ConfigError(f"{where}: there is no such file") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{where}: {error}") from None
    for dotted, value in (overrides or {}).items():
        *tables, last = dotted.split(".")
        at = raw
        for table in tables:
            at = at.setdefault(table, {})
            if not isinstance(at, dict):
                raise ConfigError(f"{where}: {dotted}: {table} is not a table")
        at[last] = value
    try:
        config = msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_explain(str(error), raw)}") from None
    problems = [f"{where}: {p} = {got!r}, must be {must}" for p, got, must in _problems(config)]
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def parse_override(text: str) -> tuple[str, Any]:
    """'rings.commands=16384' as (path, value); what is no TOML value is text."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise ConfigError(f"{text!r}: must be path=value, as in rings.commands=16384")
    try:
        return path.strip(), tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        return path.strip(), value.strip()


_WORDS = {"int": "an integer", "str": "text", "bool": "true or false", "array": "a list"}
_WORDS |= {"object": "a table", "null": "absent"}


def _explain(message: str, raw: dict[str, Any]) -> str:
    """msgspec's message in our words: path, got, must be."""
    what, _, at = message.partition(" - at ")
    path = at.strip("`").removeprefix("$").removeprefix(".")
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", what):
        return f"{path}{'.' if path else ''}{match[1]}: there is no such setting"
    if match := re.fullmatch(r"Object missing required field `(.*)`", what):
        return f"{path}.{match[1]} is missing"
    got: Any = raw
    for step in re.findall(r"[^.\[\]]+", path):
        got = got[int(step)] if isinstance(got, list) else got[step]
    if match := re.match(r"Expected `([^`]*)`", what):
        must = " or ".join(_WORDS.get(word, word) for word in match[1].split(" | "))
        return f"{path} = {got!r}, must be {must}"
    return f"{path} = {got!r}: {what}"


Problem = tuple[str, Any, str]


def _problems(config: Config) -> Iterator[Problem]:
    """(path, got, must be) of everything that is well-typed and still wrong."""
    if not INSTANCE.fullmatch(config.instance):
        yield "instance", config.instance, f"text that matches {INSTANCE.pattern}"
    if not config.data_dir or "\0" in config.data_dir:
        yield "data_dir", config.data_dir, "a path"
    else:
        ipc = config.publisher_endpoints[0].removeprefix("ipc://")
        most = UNIX_PATH_MAX - len(RANGE_SUFFIX)
        if len(os.fsencode(ipc)) > most or "\0" in ipc:
            yield "publisher.ipc", ipc, f"a path of at most {most} bytes"
    yield from _range("shards", config.shards, 1, SHARDS_MAX)
    yield from _range("checkpoint_every", config.checkpoint_every, 256, 1 << 40)
    yield from _range("heartbeat_timeout_ms", config.heartbeat_timeout_ms, 200, 600_000)
    yield from _range("restarts_max", config.restarts_max, 0, 1000)
    yield from _one_of("log_level", config.log_level, ("debug", "info", "warning", "error"))
    yield from _one_of("wait.policy", config.wait.policy, ("spin", "futex"))
    yield from _range("wait.spins", config.wait.spins, 0, 1_000_000)
    yield from _range("wait.yields", config.wait.yields, 0, 1_000_000)
    yield from _range("wait.sleep_ms", config.wait.sleep_ms, 1, 50)
    yield from _power_of_two("rings.commands", config.rings.commands, 64, COMMANDS_MAX)
    yield from _power_of_two("rings.matches", config.rings.matches, 64, 1 << 24)
    yield from _power_of_two("rings.reports", config.rings.reports, 256, 1 << 26)
    yield from _power_of_two("rings.ingress", config.rings.ingress, 16, 1 << 20)
    for name in config.limits.__struct_fields__:
        least = {"accounts": 17, "client_window_ns": 0, "digest_window_ns": 0}.get(name, 1)
        most = {"symbols": 65534, "client_window_ns": 1 << 60, "digest_window_ns": 1 << 60}.get(
            name, (1 << 31) - 1
        )
        yield from _range(f"limits.{name}", getattr(config.limits, name), least, most)
    yield from _wal_problems(config.wal)
    yield from _producer_problems(config.producers)
    yield from _clock_problems(config.clock)
    yield from _follower_problems(config)
    for k, hot in enumerate(config.ledger.hot_wallets):
        if not re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18})?", hot.max, re.ASCII):
            yield f"ledger.hot_wallets[{k}].max", hot.max, "a decimal, as in 250000.5"
    yield from _http_problems(config.http)
    yield from _range("zmq.heartbeat_ms", config.zmq.heartbeat_ms, 50, 600_000)
    yield from _range("zmq.sessions_max", config.zmq.sessions_max, 1, 100_000)
    yield from _range("zmq.message_bytes_max", config.zmq.message_bytes_max, 4096, 1 << 26)
    for name in ("unsent_messages_max", "unread_messages_max"):
        yield from _range(f"zmq.{name}", getattr(config.zmq, name), 16, 1 << 20)
    for name, given in (
        ("publisher.tcp", config.publisher.tcp),
        ("zmq.tcp", config.zmq.tcp),
        ("zmq.market_tcp", config.zmq.market_tcp),
    ):
        tcp = re.fullmatch(r"([^\s:]+|\[[0-9a-fA-F:]+\]|\*):(\d{1,5})", given)
        if given and not (tcp and 0 < int(tcp[2]) < 65535):
            yield name, given, "host:port, port 1 to 65534"
    if isinstance(config.topology, str):
        yield from _one_of("topology", config.topology, ("fused", "split", "auto", _LIST))
    else:
        yield from _topology_problems(config.topology, config.shards)


_LIST = "a list of tables"


def _follower_problems(config: Config) -> Iterator[Problem]:
    view, market, history = config.view, config.marketdata, config.history
    yield from _range("view.closed_orders", view.closed_orders, 1, 1 << 24)
    yield from _range("view.checkpoint_seconds", view.checkpoint_seconds, 1, 3600)
    if config.data_dir and "\0" not in config.data_dir:
        ipc = config.marketdata_endpoint.removeprefix("ipc://")
        most = UNIX_PATH_MAX - len(RANGE_SUFFIX)
        if len(os.fsencode(ipc)) > most or "\0" in ipc:
            yield "marketdata.ipc", ipc, f"a path of at most {most} bytes"
    yield from _range("marketdata.checkpoint_seconds", market.checkpoint_seconds, 1, 3600)
    yield from _range("marketdata.trades", market.trades, 1, 100_000)
    yield from _range("marketdata.klines", market.klines, 1500, 100_000)
    if "\0" in history.path:
        yield "history.path", history.path, "a path"
    yield from _range("history.commit_ms", history.commit_ms, 1, 10_000)
    for name in ("orders_days", "unfilled_days", "trades_days", "income_days", "klines_days"):
        yield from _range(f"history.{name}", getattr(history, name), 0, 36_500)


_HTTP_RANGES: Final = {
    "port": (0, 65535),
    "first_account": (16, (1 << 31) - 1),
    "weight_per_minute": (1, 1 << 40),
    "orders_per_10s": (1, 1 << 40),
    "orders_per_minute": (1, 1 << 40),
    "answer_timeout_ms": (100, 600_000),
    "body_bytes_max": (4096, 16 << 20),
    "idle_timeout_s": (1, 3600),
    "connections_max": (1, 1 << 20),
    "connections_per_address": (1, 1 << 20),
    "sockets_per_address": (1, 1 << 20),
    "streams_max": (1, 65536),
    "messages_per_s": (1, 1 << 20),
    "requests_per_s": (1, 1 << 20),
    "frame_bytes_max": (1024, 16 << 20),
    "unsent_bytes_max": (65536, 1 << 30),
    "ping_s": (1, 3600),
    "pong_s": (1, 7200),
}


def _http_problems(http: Http) -> Iterator[Problem]:
    for name, (least, most) in _HTTP_RANGES.items():
        yield from _range(f"http.{name}", getattr(http, name), least, most)
    for k, network in enumerate(http.trusted_proxies):
        try:
            ip_network(network, strict=False)
        except ValueError:
            yield f"http.trusted_proxies[{k}]", network, "an address or a network"
    for k, origin in enumerate(http.cors_origins):
        if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
            yield f"http.cors_origins[{k}]", origin, 'as in "https://example.org", or "*"'
    if bool(http.tls_certificate) != bool(http.tls_key):
        yield "http.tls_key", http.tls_key, "there when tls_certificate is, and only then"


def _range(path: str, got: int, least: int, most: int) -> Iterator[Problem]:
    if not least <= got <= most:
        yield path, got, f"{least} to {most}"


def _one_of(path: str, got: str, known: tuple[str, ...]) -> Iterator[Problem]:
    if got not in known or got == _LIST:
        yield path, got, " or ".join(known)


def _power_of_two(path: str, got: int, least: int, most: int) -> Iterator[Problem]:
    if not least <= got <= most or got & (got - 1):
        yield path, got, f"a power of two, {least} to {most}"


def _wal_problems(wal: Wal) -> Iterator[Problem]:
    yield from _one_of("wal.io", wal.io, ("direct", "mmap"))
    block, segment = wal.block_bytes_max, wal.segment_bytes
    if not 16384 <= block <= 64 << 20 or block % 4096:
        yield "wal.block_bytes_max", block, "a multiple of 4096, 16384 to 67108864"
    if not 4 * block <= segment <= 1 << 40 or segment % 4096:
        yield "wal.segment_bytes", segment, f"a multiple of 4096, {4 * block} to {1 << 40}"
    yield from _range("wal.preallocate", wal.preallocate, 1, 64)
    yield from _range("wal.heartbeat_ms", wal.heartbeat_ms, 1, 60_000)
    yield from _range("wal.report_log_bytes_max", wal.report_log_bytes_max, 2 * segment, 1 << 60)


def _clock_problems(clock: Clock) -> Iterator[Problem]:
    yield from _range("clock.tick_ms", clock.tick_ms, 1, 1000)
    yield from _range("clock.sample_ms", clock.sample_ms, 100, 60_000)
    yield from _range("clock.offset_max_us", clock.offset_max_us, 0, 10_000_000)
    if len(os.fsencode(clock.socket)) > UNIX_PATH_MAX or "\0" in clock.socket:
        yield "clock.socket", clock.socket, f"a path of at most {UNIX_PATH_MAX} bytes"
    taken: set[tuple[str, int]] = set()
    for k, source in enumerate(clock.sources):
        at = f"clock.sources[{k}]"
        if not 1 <= len(source.symbol.encode()) <= 16:
            yield f"{at}.symbol", source.symbol, "a symbol's name, 1 to 16 bytes"
        if (source.symbol, source.source) in taken:
            yield f"{at}.source", source.source, "one that no other entry of the symbol has"
        taken.add((source.symbol, source.source))
        yield from _one_of(f"{at}.kind", source.kind, ("walk", "klines"))
        yield from _range(f"{at}.source", source.source, 0, SOURCES_MAX - 1)
        yield from _range(f"{at}.every_ms", source.every_ms, 10, 3_600_000)
        yield from _range(f"{at}.step_ppm", source.step_ppm, 0, 100_000)
        if source.kind == "walk" and not PRICE.fullmatch(source.price):
            yield f"{at}.price", source.price, "a decimal number above zero"
        if source.kind == "klines" and not source.path:
            yield f"{at}.path", source.path, "the path of a CSV file"


def _producer_problems(producers: tuple[Producer, ...]) -> Iterator[Problem]:
    names: set[str] = set()
    ids: set[int] = set()
    for k, producer in enumerate(producers):
        at = f"producers[{k}]"
        if not NAME.fullmatch(producer.name) or producer.name in names:
            yield f"{at}.name", producer.name, f"a name of its own that matches {NAME.pattern}"
        if not 1 <= producer.id < PRODUCERS_MAX or producer.id in ids:
            yield f"{at}.id", producer.id, f"a number of its own, 1 to {PRODUCERS_MAX - 1}"
        if not producer.kinds:
            yield f"{at}.kinds", list(producer.kinds), "some of " + ", ".join(KINDS)
        for j, kind in enumerate(producer.kinds):
            yield from _one_of(f"{at}.kinds[{j}]", kind, tuple(KINDS))
        names.add(producer.name)
        ids.add(producer.id)


def _topology_problems(workers: tuple[Worker, ...], shards: int) -> Iterator[Problem]:
    names: set[str] = set()
    home: dict[str, int] = {}  # which worker runs a stage
    known = {"sequence", "risk", "settle", "journal", "publish"}
    known |= {f"match:{k}" for k in range(shards)}
    for k, worker in enumerate(workers):
        at = f"topology[{k}]"
        if not NAME.fullmatch(worker.name) or worker.name in names:
            yield f"{at}.name", worker.name, f"a name of its own that matches {NAME.pattern}"
        names.add(worker.name)
        if worker.cpu is not None:
            yield from _range(f"{at}.cpu", worker.cpu, 0, 4095)
        yield from _scheduler_problems(f"{at}.scheduler", worker.scheduler)
        if not worker.stages:
            yield f"{at}.stages", [], "a list of stages"
        for stage in expand(worker.stages, shards):
            if stage not in known:
                must = f"sequence, risk, match:* or match:0 to match:{shards - 1}"
                yield f"{at}.stages", stage, f"one of {must}, settle, journal, publish"
            elif stage in home:
                yield f"{at}.stages", stage, f"in one worker only, not in topology[{home[stage]}]"
            home.setdefault(stage, k)
    for stage in sorted(known - home.keys()):
        yield "topology", [w.name for w in workers], f"workers that also run stage {stage!r}"
    if home.get("risk") != home.get("settle"):
        yield "topology", [w.name for w in workers], "such that one worker runs risk and settle"


def _scheduler_problems(path: str, got: str) -> Iterator[Problem]:
    match = re.fullmatch(r"other|fifo:(\d{1,2})|nice:(-?\d{1,2})", got)
    if not match or not 1 <= int(match[1] or 1) <= 99 or not -20 <= int(match[2] or 0) <= 19:
        yield path, got, "other, fifo:1 to fifo:99, or nice:-20 to nice:19"


def expand(stages: tuple[str, ...], shards: int) -> tuple[str, ...]:
    """The stages with match:* written out."""
    every = tuple(f"match:{k}" for k in range(shards))
    return tuple(s for stage in stages for s in (every if stage == "match:*" else (stage,)))


def workers_for(config: Config, cores: int) -> tuple[Worker, ...]:
    """Which processes to start, in pipeline order, every stage written out.

    cores   physical cores this instance may use
    "auto" splits when each worker can have a core and one is left for everything else.
    """
    fused = (
        Worker(name="engine", stages=("sequence", "risk", "match:*", "settle")),
        Worker(name="journal", stages=("journal",)),
        Worker(name="publisher", stages=("publish",)),
    )
    split = (
        Worker(name="sequencer", stages=("sequence",)),
        Worker(name="risk", stages=("risk", "settle")),
        *(Worker(name=f"match{k}", stages=(f"match:{k}",)) for k in range(config.shards)),
        Worker(name="journal", stages=("journal",)),
        Worker(name="publisher", stages=("publish",)),
    )
    chosen: tuple[Worker, ...]
    if not isinstance(config.topology, str):
        chosen = config.topology
    elif config.topology == "auto":
        chosen = split if cores >= len(split) + 1 else fused
    else:
        chosen = split if config.topology == "split" else fused
    return tuple(msgspec.structs.replace(w, stages=expand(w.stages, config.shards)) for w in chosen)
