"""Compile every kernel of the engine before anything waits for one, on two cores where there are.

    settle_nowhere ──────────────┐            ┌── run
    risk, match, settle_match ───┴─ both done ┴── replay, turn

numba compiles one function at a time in a process. The kernel of a whole turn needs those of its
stages, which take nearly all the time: two processes compile them side by side and leave them in
the cache (shm/jit.py), where whoever compiles the turn finds them.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from engine import journal, liquidation_scan, pipeline
from engine.forks import die_with
from engine.matching import match_commands
from engine.pipeline import Arrays, Engine
from engine.replay import Replayer
from engine.risk import risk_commands
from engine.settlement import settle_match, settle_nowhere
from engine.state import Limits, allocate, books_of, risk_tables, shard_tables, shared_book_tables
from shm import ingress, jit, records
from shm.pointers import table

Say = Callable[[str], None]
Part = Callable[[], None]

_LIMITS: Final = Limits(
    accounts=32, symbols=2, positions=32, orders=64, clients=64, leaves=8, trie=8
)
_POLL_SECONDS: Final = 0.1


def compile_all(
    say: Say | None, beside: tuple[Part, ...] = (), look: Callable[[], None] | None = None
) -> None:
    """Compile, or load from the cache, every kernel an engine runs.

    One process does this before workers start: the cache takes care of the rest.

    say       hears of each step; None: a worker, which finds all of it compiled
    beside    functions of modules that compile what stands above the engine
    look      called all the time while other processes compile; what it raises ends them
    """
    if say is not None and not jit.PLAIN and not is_compiled():
        _side_by_side(say, beside, look or (lambda: None))
    # The journal's kernels need files: only the process that compiles for all makes some.
    files = () if say is None else (journal.compile_kernels,)
    for part in (_run, _turn, _replay, _loops, *files, *beside):
        if say is not None:
            say(f"loading {_name(part)}")
        part()


def is_compiled() -> bool:
    """Whether the kernels of a whole turn are in the cache: they are compiled last."""
    return jit.is_compiled(Path(pipeline.__file__))


def _side_by_side(say: Say, beside: tuple[Part, ...], look: Callable[[], None]) -> None:
    """Fill the cache from processes of their own; this one then loads what they made."""
    say("stages")
    _both(((_settlement,), (_decisions,)), look)
    say("turns, followers, journal")
    _both(((_run, *beside), (_replay, _turn, journal.compile_kernels, _loops)), look)


def _both(lanes: tuple[tuple[Part, ...], ...], look: Callable[[], None]) -> None:
    """Each lane in a process, all of them at once."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(os.getpid()), *map(_name, lane)],
            cwd=jit.ROOT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is ours to act on
        )
        for lane in lanes
    ]
    try:
        # One that failed has said why. What it leaves undone, this process does, or fails at too.
        while any(process.poll() is None for process in running):
            look()
            time.sleep(_POLL_SECONDS)
    finally:
        for process in running:
            process.kill()
            process.wait()


def _name(part: Part) -> str:
    return f"{part.__module__}:{part.__name__}"


def _arrays() -> Arrays:
    """An empty venue, as small as one can be: only the types matter."""
    arrays = pipeline.allocate_rings(commands=64, matches=64, reports=1024)
    for specs in (risk_tables(_LIMITS), shared_book_tables(_LIMITS), shard_tables(_LIMITS)):
        arrays.update(allocate(specs))
    pipeline.initialise(arrays, _LIMITS)
    return arrays


def _engine() -> Engine:
    return pipeline.engine_of(_arrays(), _LIMITS)


def _settlement() -> None:
    """What is settled without a match: nearly half of all there is to compile."""
    e = _engine()
    jit.compile_for(settle_nowhere, e.risk, e.out, e.cursors, e.setup, e.commands, 0)


def _decisions() -> None:
    """Risk, matching, and the settlement of a match."""
    e, b = _engine(), books_of(_arrays())
    jit.compile_for(
        risk_commands, *(e.risk, e.cursors, e.setup, e.commands), constants=(False, pipeline.BATCH)
    )
    jit.compile_for(
        match_commands,
        *(e.cursors, e.commands.base, e.matches, b.nodes, b.node_levels, b.books, b.mine),
        *(b.mine_heads, b.trie_bits, b.trie_children, b.leaf_bits, b.levels, b.matcher),
        *(0, 0, 0, 0, 0, 0, 0),
        constants=(pipeline.BATCH,),
    )
    jit.compile_for(settle_match, e.risk, e.out, e.cursors, e.setup, e.commands, e.matches, 0, 0)


def _run() -> None:
    pipeline.run(_engine(), 0, 0, 0, 0, 0, 0, 0, 0)


def _turn() -> None:
    """What a venue in one process is driven by; `run` has its own copy of it inside."""
    pipeline.turn(_engine(), 0, 0)


def _replay() -> None:
    arrays = _arrays()
    Replayer(arrays, _LIMITS).feed(np.zeros(0, records.COMMAND.dtype), end=True)


def _loops() -> None:
    """The kernels that stand beside the stages: the scan for unsafe accounts, producers' rings."""
    liquidation_scan.sweep(_arrays(), 0, _LIMITS.accounts)
    ring = np.zeros(ingress.SLOTS + 16 * ingress.SLOT_WORDS, np.int64)
    ingress.push_many(table(ring), 16, table(np.zeros(32, np.int64)), 0, 0)


def _main(parent: str, *names: str) -> None:
    """Run the named parts: what a process of `_both` does."""
    die_with(int(parent))
    for name in names:
        module, _, function = name.partition(":")
        getattr(importlib.import_module(module), function)()


if __name__ == "__main__":
    _main(*sys.argv[1:])
