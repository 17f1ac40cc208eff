"""`perpcore ledger run` and `rebuild`: reports into the books, from the engine or from the WAL.

Reads   the reports ring and the report log (gateways/follow.py); rebuild: the WAL, replayed.
Writes  <data>/ledger, through ledger/store.py.
Never   holds the engine back.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import numpy as np

from gateways.follow import Follower
from ledger.files import LedgerError, ledger_folder
from ledger.store import Ledger
from shm.config import Config
from shm.files import DataError, is_full, read_manifest
from shm.logs import say, set_up
from shm.notify import WAITS, Patience, alive

Array = np.ndarray[Any, Any]

LOG: Final = logging.getLogger("perpcore.ledger")
NAME: Final = "ledger"
_WAIT_S: Final = 0.1
_START_SECONDS: Final = 600.0
_FULL_SECONDS: Final = 5


def wal_of(data: Path) -> tuple[int, int]:
    """Which WAL a data directory holds."""
    manifest = read_manifest(data)
    return manifest.wal_hi, manifest.wal_lo


class LedgerFollower(Follower):
    """The ledger's process."""

    name = NAME
    checkpoint_seconds = 5.0

    def __init__(self, config: Config) -> None:
        data = Path(config.data_dir)
        self.ledger = Ledger(ledger_folder(data), wal=wal_of(data))
        self._told_breaks = self.ledger.flushed["breaks"]
        super().__init__(config, self.ledger.next_report)

    def apply(self, rows: Array) -> None:
        self.ledger.feed(self.source.next - len(rows), rows)
        self.ledger.commit()
        breaks = self.ledger.flushed["breaks"]
        if breaks != self._told_breaks:
            say(
                LOG,
                logging.WARNING,
                "reports differ from the books: perpcore ledger reconcile",
                reports=breaks - self._told_breaks,
                last_seq=self.ledger.seq,
            )
            self._told_breaks = breaks

    def save(self, index: int) -> None:
        assert index == self.ledger.next_report
        self.ledger.checkpoint()

    def close(self) -> None:
        super().close()
        self.ledger.close()


def run(config: Config) -> int:
    """Follow the engine until SIGTERM; returns the exit code."""
    set_up("ledger", config.instance, config.log_level)
    data = Path(config.data_dir)
    while True:
        try:
            read_manifest(data)
            break
        except DataError:
            alive(False, WAITS)  # no engine was ever here: wait for the first one
            time.sleep(_WAIT_S)
    try:
        with Patience(_START_SECONDS):
            follower = LedgerFollower(config)
        say(LOG, logging.INFO, "following", report=follower.source.next)
        follower.run()
    except LedgerError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        if not is_full(error):
            raise
        say(LOG, logging.ERROR, "the disk is full: the books wait for room", why=str(error))
        _begin_again()
    return 0


def _begin_again() -> NoReturn:
    """Start this program anew in a while: books stand a kill, and this is no death that counts.

    A service manager gives up on one that dies again and again, also when there is room at last.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for _ in range(_FULL_SECONDS):
        alive(False, "the disk is full")
        time.sleep(1)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


class _Sink:
    """Reports of a replay into a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def __call__(self, index: int, rows: Array) -> None:
        if index + len(rows) > self.ledger.next_report:
            self.ledger.feed(index, rows)


def rebuild(data: Path, into: Path, sealed: Path | None = None) -> dict[str, Any]:
    """Make the books from the WAL, into an empty folder; returns what came of it.

    sealed      begin with these books and their snapshot (tools/ledger_seal.py); None: at genesis
    """
    from engine.recovery import fresh_arrays, restore
    from engine.releases import Releases
    from engine.replay import Replayer
    from engine.snapshotfile import load_snapshot
    from engine.wal import scan_wal
    from engine.walreader import read_commands
    from tools.datadir import limits_for
    from tools.ledger_seal import SNAPSHOT, unseal

    if into.exists() and any(into.iterdir()):
        raise click.ClickException(
            f"{into} is not empty. Move it away, or name another with --into"
        )
    limits = limits_for(data)
    begun, cpu = time.monotonic(), time.process_time()
    arrays, first_seq = fresh_arrays(limits), 0
    if sealed is not None:
        first_seq = int(unseal(sealed, into)["snapshot_seq"])
        if first_seq:
            _meta, sections = load_snapshot(sealed / SNAPSHOT)
            restore(arrays, limits, sections, 1)
    ledger = Ledger(into, wal=wal_of(data))
    before = (ledger.entries, ledger.legs)
    replayer = Replayer(arrays, limits, sink=_Sink(ledger))
    end, releases = scan_wal(data, first_seq), Releases(data)
    rows = np.zeros(0, replayer.arrays["commands"].dtype)
    for rows in read_commands(data, first_seq, end.seq):
        releases.check(rows)
        replayer.feed(rows)
        ledger.maybe_checkpoint()
    replayer.feed(rows[:0], end=True)
    ledger.close()
    seconds = time.monotonic() - begun
    return {
        "seq": ledger.seq,
        "entries": ledger.entries,
        "legs": ledger.legs,
        "from_entry": before[0],
        "chain": ledger.chain.hex(),
        "seconds": round(seconds, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "entries_per_second": round((ledger.entries - before[0]) / seconds) if seconds else 0,
    }
