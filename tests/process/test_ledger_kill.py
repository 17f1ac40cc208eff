"""The ledger's own process, killed again and again: the same books in the end, and on the command line.

The report log is written beforehand, by the engine's own writer; no engine runs.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.files import make_folders
from engine.reportlog import ReportLog
from engine.wal import create_wal
from ledger.books import Books
from ledger.files import LedgerError, ledger_folder, read_head
from ledger.store import Ledger
from ledger.verify import verify
from tests.conftest import ROOT
from tests.unit.test_ledger_store import contents, stream


def run(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tools.cli", "ledger", *arguments]


def taken(data: Path) -> int:
    """Reports in the books so far."""
    try:
        return int(read_head(ledger_folder(data))["reports"][0])
    except (LedgerError, OSError):
        return -1


def writer(data: Path) -> int:
    """Process that wrote the head."""
    return int(read_head(ledger_folder(data))["pid"][0])


def handles_sigterm(pid: int) -> bool:
    """Whether it would end in order by now."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def test_killed_again_and_again(tmp_path: Path, instance: str) -> None:
    rows = stream(11, steps=6_000).rows()
    data = tmp_path / "data"
    make_folders(data)
    manifest = create_wal(data, 1 << 20)
    log = ReportLog(data, manifest, 0, 1 << 16)
    log.append(rows[: len(rows) // 3])
    r = random.Random(5)
    where = ("--data", str(data), "--instance", instance)
    kills = 0
    for part in (1, 2, 3):
        process = subprocess.Popen(run("run", *where), cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            goal = len(rows) * part // 3
            until = time.monotonic() + 240
            # Somewhere on the way, or when it has caught up and waits for more.
            # (The last command waits for a later one: without an engine it may have more reports.)
            stop = r.choice((goal - 16, r.randrange(goal * 9 // 10, goal - 16)))
            while taken(data) < stop and time.monotonic() < until:
                assert process.poll() is None
                time.sleep(0.005)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        if part < 3:
            log.append(rows[goal : len(rows) * (part + 1) // 3])
    process = subprocess.Popen(run("run", *where), cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 240
        while (
            taken(data) < len(rows) - 16
            or writer(data) != process.pid
            or not handles_sigterm(process.pid)
        ):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        with pytest.raises(LedgerError, match="another ledger writes"):
            Ledger(ledger_folder(data), wal=(manifest.wal_hi, manifest.wal_lo))
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    log.close()
    # The last command may have more reports, as far as a follower of the log can tell.
    done = taken(data)
    wanted = Ledger(tmp_path / "whole", wal=(manifest.wal_hi, manifest.wal_lo))
    wanted.feed(0, rows[:done])
    wanted.close()
    assert contents(ledger_folder(data)) == contents(tmp_path / "whole")
    assert verify(ledger_folder(data)).notes == []

    said = subprocess.run(
        run("balance-sheet", "--data", str(data), "--at", "100", "--format", "json"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    sheet = json.loads(said.stdout)
    books = Books(ledger_folder(data))
    assert sheet["ok"] and sheet["facts"]["entries"] == books.cut_seq(100).entries
