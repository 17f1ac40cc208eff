"""The account view's process: a follower that keeps the tables of gateways/accounts/layout.py.

Reads   reports (gateways/follow.py); its checkpoint.
Writes  the segment <instance>.view, which dies with the process.
Never   answers questions: gateways read the memory themselves (gateways/accounts/client.py).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from gateways import checkpoint
from gateways.accounts import layout
from gateways.accounts.apply import apply_reports
from gateways.accounts.layout import Sizes, sizes_of, view_parts
from gateways.accounts.ranks import Ranks
from gateways.accounts.rows import Tables, batch_of, tables_of
from gateways.follow import Follower
from shm.config import Config
from shm.records import REPORT
from shm.reported import ReportCounts
from shm.segment import Segment, parts_digest
from shm.units import NIL, SYSTEM_ACCOUNTS

Array = np.ndarray[Any, Any]

NAME: Final = "view"
_NOT_KEPT: Final = ("versions", "lights")  # of this process's memory, not of the state


def format_view(arrays: dict[str, Array], sizes: Sizes) -> None:
    """An empty view in zeroed arrays: the venue's own accounts are there, nothing else."""
    head = arrays["head"]
    for cell, value in (
        (layout.ASSETS, sizes.assets),
        (layout.ACCOUNTS, sizes.accounts),
        (layout.SYMBOLS, sizes.symbols),
        (layout.POSITIONS, sizes.positions),
        (layout.ORDERS, sizes.orders),
        (layout.ALGOS, sizes.algos),
        (layout.REQUESTS, sizes.requests),
        (layout.ORDER_BITS, sizes.order_bits),
        (layout.ALGO_BITS, sizes.algo_bits),
        (layout.ORDERS_CLOSED_FIRST, NIL),
        (layout.ORDERS_CLOSED_LAST, NIL),
        (layout.ALGOS_CLOSED_FIRST, NIL),
        (layout.ALGOS_CLOSED_LAST, NIL),
    ):
        head[cell] = value
    arrays["accounts"]["first_position"] = NIL
    arrays["accounts"]["first_algo"] = NIL
    arrays["account_orders"][:] = NIL
    arrays["account_algos"][:] = NIL
    arrays["symbols"]["first_position"] = NIL
    arrays["symbols"]["last_position"] = NIL
    assert sizes.accounts > SYSTEM_ACCOUNTS


class ViewState:
    """The tables, wherever they lie, and the kernel over them."""

    def __init__(self, arrays: dict[str, Array], sizes: Sizes) -> None:
        self.arrays = arrays
        self.sizes = sizes
        format_view(arrays, sizes)
        self.tables: Tables = tables_of(arrays)

    def apply(self, rows: Array) -> None:
        """Whole commands."""
        rows = np.ascontiguousarray(rows)
        if not rows.flags.writeable:
            rows = rows.copy()
        apply_reports(self.tables, batch_of(rows), len(rows))

    def dump(self) -> dict[str, bytes]:
        """What a checkpoint keeps: every table up to its last byte that isn't zero."""
        return {
            name: array.tobytes().rstrip(b"\0")
            for name, array in self.arrays.items()
            if name not in _NOT_KEPT
        }

    def load(self, blobs: dict[str, bytes]) -> None:
        for name, blob in blobs.items():
            raw = self.arrays[name].view(np.uint8)
            raw[: len(blob)] = np.frombuffer(blob, np.uint8)
            raw[len(blob) :] = 0


def compile_kernels() -> None:
    """Compile, or load from the cache, the view's kernels."""
    sizes = Sizes(32, 1, 1, 16, 16, 16, 16)
    arrays = {part.name: np.zeros(part.rows, part.dtype) for part in view_parts(sizes)}
    state = ViewState(arrays, sizes)
    state.apply(np.zeros(0, REPORT.dtype))
    Ranks(state.tables, arrays).whole()


class AccountsFollower(Follower):
    """The process's loop."""

    name = NAME

    def __init__(self, config: Config) -> None:
        """Raises SegmentError when another view of this instance runs."""
        sizes = sizes_of(config)
        parts = view_parts(sizes)
        self.checkpoint_seconds = config.view.checkpoint_seconds
        self.counts = ReportCounts()
        self._layout = parts_digest(parts)
        self.segment = Segment.create(config.instance, layout.VIEW, parts, epoch=0)
        self.state = ViewState(self.segment.arrays, sizes)
        self.ranks = Ranks(self.state.tables, self.segment.arrays)
        kept = checkpoint.load(Path(config.data_dir), NAME, self._layout)
        if kept is not None:
            self.state.load(kept.blobs)
            self.segment.arrays["head"][layout.READY] = 0
        super().__init__(config, kept.at if kept is not None else 0)

    def apply(self, rows: Array) -> None:
        self.state.apply(rows)

    def turn(self) -> int:
        did = super().turn()
        self.ranks.turn(time.monotonic())
        return did

    def save(self, index: int) -> None:
        assert index == int(self.segment.arrays["head"][layout.INDEX])
        checkpoint.save(self.data, NAME, self._layout, index, self.state.dump())

    def on_ready(self) -> None:
        self.segment.arrays["head"][layout.READY] = 1

    def close(self) -> None:
        super().close()
        self.segment.unlink()
