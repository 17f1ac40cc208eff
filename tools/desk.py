"""One command to a running exchange, and its answer: what administrative sub-commands stand on.

Reads   the answer from the reports ring or the report log.
Writes  one command into a producer's ingress ring.
Never   sends again: without an answer in time it says that the outcome is not known.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from shm.codes import Reason, ReportKind
from shm.config import Config
from shm.control import CURSOR_PARTS, CURSORS
from shm.door import Door
from shm.feed import Feed
from shm.segment import Part, Segment
from shm.units import PRODUCER_SHIFT

ANSWER_S: Final = 10.0


def ask(config: Config, producer: str, row: np.ndarray[Any, Any]) -> int:
    """Send a COMMAND row, wait until it is answered; returns its sequence number.

    raises   ClickException where it was refused, or no answer came
    """
    door = Door(config.instance, producer)
    try:
        epoch, slots = door.view.epoch, int(door.view.engine["reports"])
        cursors = Segment.attach(config.instance, CURSORS, CURSOR_PARTS, epoch)
        part = Part("reports", "REPORT", slots)
        reports = Segment.attach(config.instance, "reports", (part,), epoch)
        feed = Feed(
            Path(config.data_dir), cursors.arrays["cursors"], reports.arrays["reports"], 4096
        )
        at = feed.end()
        row["request"] = request = door.next_request()
        assert request >> PRODUCER_SHIFT == config.producer(producer).id
        if door.send(row) != 1:
            raise click.ClickException("overloaded, not accepted: try again")
        until = time.monotonic() + ANSWER_S
        while time.monotonic() < until and door.open:
            rows = feed.read(at, 4096)
            at += len(rows)
            for report in rows[rows["request"] == request]:
                if report["kind"] == ReportKind.ANSWER:
                    return _answered(report)
            if not len(rows):
                time.sleep(0.002)
        raise click.ClickException("no answer came: whether it was done is not known")
    finally:
        door.close()


def _answered(report: Any) -> int:
    from shm.records import ANSWER_REPORT

    reason = Reason(int(np.asarray(report).reshape(1).view(ANSWER_REPORT.dtype)["reason"][0]))
    if reason != Reason.NONE:
        raise click.ClickException(f"refused: {reason.name}")
    return int(report["seq"])
