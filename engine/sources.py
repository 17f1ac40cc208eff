"""Index sources as the clock process knows them: seeded walks, recorded files, outside feeders.

Reads   CSV files, a Unix datagram socket, what symbols are called and how they count.
Writes  a small file per played CSV: when it began, so that a killed clock goes on where it was.
Never   fails for what a feeder says: a line that makes no sense is counted and dropped.

A source gives Quotes: symbol, source, price in ticks, and the source's own time. Prices of people
are decimals; the engine's tables say what a tick of a symbol is worth.
"""

from __future__ import annotations

import csv
import gzip
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from shm.codes import State
from shm.config import PRICE, Config, ConfigError
from shm.units import PPM, PRICE_TICKS_MAX, SOURCES_MAX

ROWS_MAX: Final = 10_000_000  # of a CSV file
DATAGRAM_BYTES_MAX: Final = 65536
DATAGRAMS_MAX: Final = 256  # looked at in one turn
QUOTES_MAX: Final = 1024  # kept from one turn of the socket; newer ones of a source replace older
_WALK_SHIFT: Final = 20  # a walk keeps fractions of a tick


class Quote(NamedTuple):
    symbol: int
    source: int
    ticks: int
    source_ns: int


class Names:
    """What symbols are called and what a tick is worth, from the engine's own tables."""

    def __init__(self, symbols: Any, assets: Any) -> None:
        """symbols, assets: SYMBOL and ASSET rows, live."""
        self._symbols = symbols
        self._assets = assets
        self._known: dict[str, int] = {}

    def symbol(self, name: str) -> int | None:
        """Index of a symbol, or None while it isn't declared."""
        at = self._known.get(name)
        if at is None:
            for k, row in enumerate(self._symbols):
                if row["state"] != State.ABSENT:
                    self._known[row["name"].tobytes().rstrip(b"\0").decode("utf-8", "replace")] = k
            at = self._known.get(name)
        return at

    def ticks(self, symbol: int, price: str) -> int | None:
        """A decimal price in ticks, to the nearest, half up; None for no price at all.

        A symbol that doesn't say what a tick is worth takes whole ticks.
        """
        if not PRICE.fullmatch(price):
            return None
        with suppress(InvalidOperation):
            row = self._symbols[symbol]
            scale = int(self._assets[int(row["asset"])]["scale"])
            worth = int(row["tick_quanta"])
            exact = Decimal(price) * 10**scale / worth if worth else Decimal(price)
            ticks = int(exact.quantize(Decimal(1), ROUND_HALF_UP))
            return ticks if 1 <= ticks <= PRICE_TICKS_MAX else None
        return None


class Source(Protocol):
    """Something that has prices now and then."""

    def poll(self, now_ns: int) -> list[Quote]:
        """What it has had to say since the last call."""

    def close(self) -> None: ...


class Walk:
    """A geometric random walk in integers: the same seed gives the same steps everywhere."""

    def __init__(
        self,
        names: Names,
        index_of: Callable[[int], int],
        name: str,
        source: int,
        price: str,
        step_ppm: int,
        every_ns: int,
        seed: int,
    ) -> None:
        """index_of: the index of a symbol now, 0 for none: the walk goes on from there."""
        self._names, self._index_of = names, index_of
        self._name, self._source, self._price = name, source, price
        self._step_ppm, self._every_ns = step_ppm, every_ns
        self._random = random.Random(f"{seed} {name} {source}")
        self._at = 0  # ticks << _WALK_SHIFT
        self._next_ns = 0

    def poll(self, now_ns: int) -> list[Quote]:
        symbol = self._names.symbol(self._name)
        if symbol is None or 0 < self._next_ns - now_ns <= self._every_ns:
            return []
        self._next_ns = now_ns + self._every_ns
        if self._at == 0:
            first = self._index_of(symbol) or self._names.ticks(symbol, self._price)
            if first is None:
                return []
            self._at = first << _WALK_SHIFT
        step = self._random.randint(-self._step_ppm, self._step_ppm)
        self._at = max(self._at + self._at * step // PPM, 1 << _WALK_SHIFT)
        self._at = min(self._at, PRICE_TICKS_MAX << _WALK_SHIFT)
        return [Quote(symbol, self._source, self._at >> _WALK_SHIFT, now_ns)]

    def close(self) -> None:
        pass


class Klines:
    """A recorded file, a row every so often, from the moment it was first played on."""

    def __init__(
        self,
        names: Names,
        name: str,
        source: int,
        prices: list[str],
        began_ns: int,
        every_ns: int,
        loop: bool,
    ) -> None:
        self._names, self._name, self._source = names, name, source
        self._prices, self._loop = prices, loop
        self._began_ns, self._every_ns = began_ns, every_ns
        self._told = -1

    def poll(self, now_ns: int) -> list[Quote]:
        symbol = self._names.symbol(self._name)
        row = (now_ns - self._began_ns) // self._every_ns
        if symbol is None or row == self._told or row < 0:
            return []
        self._told = row
        if row >= len(self._prices) and not self._loop:
            return []
        ticks = self._names.ticks(symbol, self._prices[row % len(self._prices)])
        return [] if ticks is None else [Quote(symbol, self._source, ticks, now_ns)]

    def close(self) -> None:
        pass


def read_klines(path: str, column: str) -> list[str]:
    """Prices of a CSV column, as text; ConfigError says what is wrong with the file."""
    where = f"clock.sources: {path}"
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        opened = gzip.open if packed else open
        with opened(path, "rt", newline="") as file:
            rows = csv.DictReader(file)
            if column not in (rows.fieldnames or ()):
                raise ConfigError(f"{where} has no column {column!r}, but {rows.fieldnames}")
            prices = []
            for number, row in enumerate(rows, 2):
                text = (row[column] or "").strip()
                if not PRICE.fullmatch(text):
                    raise ConfigError(
                        f"{where}, line {number}: {column} = {text!r}, wanted a price"
                    )
                prices.append(text)
                if len(prices) > ROWS_MAX:
                    raise ConfigError(f"{where} has more than {ROWS_MAX} rows")
    except (OSError, UnicodeDecodeError, csv.Error, EOFError) as error:
        raise ConfigError(f"{where}: {error}") from None
    if not prices:
        raise ConfigError(f"{where} has no rows")
    return prices


def began(folder: Path, name: str, source: int, now_ns: int) -> int:
    """When this file was first played in this data directory; now, if never."""
    path = folder / f"clock.{name}.{source}"
    with suppress(OSError, ValueError):
        return int(path.read_text())
    fresh = path.with_name(f"{path.name}.new")
    with suppress(OSError):  # without it a restart plays from the beginning, no worse
        fresh.write_text(str(now_ns))
        os.replace(fresh, path)
    return now_ns


class Lines:
    """Prices from outside: datagrams of "SYMBOL SOURCE PRICE [TIME_NS]" lines on a Unix socket."""

    def __init__(self, names: Names, path: str) -> None:
        """Raises ConfigError when the path is taken by something that is no socket."""
        self._names = names
        self._path = Path(path)
        self.dropped = 0  # lines that made no sense
        if self._path.exists() and not self._path.is_socket():
            raise ConfigError(f"clock.socket = {path}: there is something that is no socket")
        with suppress(FileNotFoundError):
            self._path.unlink()  # a killed clock left it
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.bind(path)
        except OSError as error:
            self._socket.close()
            raise ConfigError(f"clock.socket = {path}: {error}") from None
        os.chmod(path, 0o660)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def poll(self, now_ns: int) -> list[Quote]:
        newest: dict[tuple[int, int], Quote] = {}
        for _ in range(DATAGRAMS_MAX):
            try:
                data = self._socket.recv(DATAGRAM_BYTES_MAX)
            except BlockingIOError:
                break
            for line in data.decode("utf-8", "replace").splitlines():
                quote = self._quote(line, now_ns)
                if quote is None:
                    self.dropped += 1
                elif len(newest) < QUOTES_MAX or quote[:2] in newest:
                    newest[quote.symbol, quote.source] = quote
        return list(newest.values())

    def _quote(self, line: str, now_ns: int) -> Quote | None:
        words = line.split()
        if (
            not line.isascii()
            or not 3 <= len(words) <= 4
            or not words[1].isdecimal()
            or len(words[1]) > 2
        ):
            return None
        symbol, source = self._names.symbol(words[0]), int(words[1])
        if symbol is None or source >= SOURCES_MAX:
            return None
        ticks = self._names.ticks(symbol, words[2])
        if ticks is None:
            return None
        at = now_ns
        if len(words) == 4:
            if not words[3].isdecimal() or len(words[3]) > 19:
                return None
            at = int(words[3])
        return Quote(symbol, source, ticks, at) if at < 1 << 62 else None

    def close(self) -> None:
        self._socket.close()
        with suppress(FileNotFoundError):
            self._path.unlink()


def sources_of(config: Config, names: Names, index_of: Callable[[int], int]) -> Iterator[Source]:
    """What [clock] asks for; ConfigError when a file or the socket can't be had."""
    for entry in config.clock.sources:
        every_ns = entry.every_ms * 1_000_000
        if entry.kind == "walk":
            yield Walk(
                names,
                index_of,
                entry.symbol,
                entry.source,
                entry.price,
                entry.step_ppm,
                every_ns,
                entry.seed,
            )
        else:
            prices = read_klines(entry.path, entry.column)
            first = began(Path(config.data_dir), entry.symbol, entry.source, time.time_ns())
            yield Klines(names, entry.symbol, entry.source, prices, first, every_ns, entry.loop)
    if config.clock.socket:
        yield Lines(names, config.clock.socket)
