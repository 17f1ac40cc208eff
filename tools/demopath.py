"""Where the demo's index prices go: a recorded path, or a simulated one, the same for a seed.

    minutes     prices of BTC a minute: a window of a recording, or a seeded walk
    points      the same every POINT_NS of play, `speed` minutes a second, there and back again

Reads   a CSV of klines, where there is one.
Writes  <data>/paths/<symbol>.csv, which the clock process plays as the symbol's index source.
Never   calls a function whose last digit depends on the machine: sums and products only.

A path is played forward, then backward, and so on: it never ends, and never jumps.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.sources import read_klines
from tools.demomarket import CONTRACTS, USDT_SCALE, Contract

Ticks = np.ndarray[Any, Any]

POINT_NS: Final = 250_000_000
POINTS_MAX: Final = 28_800  # two hours, before it turns back
MINUTES: Final = 7_202  # of a simulated path
_CALM: Final = 0.98  # of what was exciting a minute ago
_JUMP: Final = 0.002  # chance of a minute that moves ten times as far
_HOME: Final = 0.0002  # pull of the beginning, so that no path leaves the world


def points_of(speed: float, most: int) -> Any:
    """Which minute (a fraction) each point is, of `most` minutes."""
    count = min(POINTS_MAX, int((most - 1) / speed * 1e9 / POINT_NS) + 1)
    return np.arange(count) * (speed * POINT_NS / 1e9)


def _normal(dice: random.Random) -> float:
    """About a standard normal number, out of sums alone."""
    return 2.0 * (dice.random() + dice.random() + dice.random() - 1.5)


def simulated(seed: int, contract: Contract, market: Sequence[float], count: int) -> list[float]:
    """Moves of `count` minutes, 0.001 for 0.1 %: its own, and beta times those of `market`."""
    dice = random.Random(f"{seed} {contract.name}")
    beta, step = contract.beta_ppm * 1e-6, contract.step_ppm * 1e-6
    excitement, away = 1.0, 0.0
    moves = []
    for minute in range(count):
        size = step * (0.6 + 0.8 * excitement)
        move = size * _normal(dice) * (10.0 if dice.random() < _JUMP else 1.0)
        move = min(max(move, -0.03), 0.03)
        excitement = _CALM * excitement + (1.0 - _CALM) * min(abs(move) / step, 4.0)
        move -= _HOME * away
        away += move
        moves.append(move + (beta * market[minute] if market else 0.0))
    return moves


def window(seed: int, prices: Sequence[float], count: int) -> Sequence[float]:
    """`count` prices in a row out of a recording, which ones the seed says."""
    first = random.Random(f"{seed} window").randrange(len(prices) - count + 1)
    return prices[first : first + count]


def paths(seed: int, speed: float, recorded: Sequence[float] = ()) -> list[Ticks]:
    """Index prices of every contract in ticks, a row a point: int64[points] each."""
    most = len(recorded) or MINUTES
    at = points_of(speed, most)
    count = min(int(at[-1]) + 2, most)
    market: list[float] = []
    made = []
    for k, contract in enumerate(CONTRACTS):
        if k == 0 and recorded:
            shown = window(seed, recorded, count)
            minutes: Any = np.array(shown) * (10**USDT_SCALE / contract.tick_quanta)
            market = [b / a - 1.0 for a, b in zip(shown, shown[1:], strict=False)] + [0.0]
        else:
            moves = simulated(seed, contract, market, count)
            minutes = np.cumprod(1.0 + np.array(moves)) * contract.price_ticks
            market = market or moves
        ticks = np.rint(np.interp(at, np.arange(count), minutes)).astype(np.int64)
        ticks = np.clip(ticks, 1, 50 * contract.price_ticks)
        made.append(np.concatenate((ticks, ticks[-2:0:-1])))  # there and back again
    return made


def write(folder: Path, seed: int, speed: float, recording: str) -> None:
    """One CSV a symbol, unless all are there; ConfigError when the recording is none."""
    named = [folder / f"{contract.name}.csv" for contract in CONTRACTS]
    if all(path.exists() for path in named):
        return
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    recorded = [float(price) for price in read_klines(recording, "close")] if recording else []
    made = paths(seed, speed, recorded)
    for path, contract, ticks in zip(named, CONTRACTS, made, strict=True):
        fresh = path.with_suffix(".tmp")
        fresh.write_text("close\n" + "\n".join(map(contract.price, ticks.tolist())) + "\n")
        fresh.rename(path)


def read(folder: Path) -> list[Ticks]:
    """What `write` wrote; ConfigError says what is wrong with a file."""
    made = []
    for contract in CONTRACTS:
        prices = read_klines(str(folder / f"{contract.name}.csv"), "close")
        ticks = [round(Decimal(price) * 10**USDT_SCALE / contract.tick_quanta) for price in prices]
        made.append(np.array(ticks, np.int64))
    return made
