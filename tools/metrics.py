"""`perpcore metrics`: what a running exchange's shared memory says, in Prometheus's own words.

Reads   cursors, counters, histograms, workers' heartbeats and the account view's insurance fund of
        one instance, mapped read only at each scrape: the hot path knows nothing of it.
Writes  the text format over HTTP, on a loopback address unless told otherwise.
Never   imports numba. An engine that is down is `perpcore_up 0`, not an error.

Names: a counter `stage.what` of shm/counters.py is perpcore_stage_what_total; refusals are one
metric by code; a latency is a summary in seconds.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

from prometheus_client import generate_latest, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Sample

from shm import cursors
from shm.config import Config
from shm.control import View, text_of
from shm.counters import Counters
from shm.histogram import SUM, count_of, percentiles
from shm.ingress import HEAD, TAIL, ring_parts, segment_name
from shm.notify import notify
from shm.segment import Segment, SegmentError
from shm.units import INSURANCE_ACCOUNT

WATCHDOG_SECONDS: Final = 2.0
QUANTILES: Final = (0.5, 0.9, 0.99, 0.999)
STAGES: Final = (
    ("sequence", cursors.SEQUENCED),
    ("risk", cursors.RISKED),
    ("settle", cursors.SETTLED),
    ("journal", cursors.JOURNALED),
    ("publish", cursors.PUBLISHED),
)
_REFUSED: Final = "refused."
_FOLLOWER: Final = re.compile(r"follow\.([^.]+)\.([a-z_]+)")
# A counter that says how things are, and not how often something happened.
_LEVELS: Final = re.compile(
    r".*(\.lag|\.behind|\.index|_lag|\.breaks|\.open|\.clients|_bytes_used)$"
)


def clock_offset_seconds() -> float | None:
    """How far the kernel believes this host's clock is off; None when nobody disciplines it."""

    class Timex(ctypes.Structure):
        """struct timex of adjtimex(2), as far as it is read."""

        _fields_ = (
            ("modes", ctypes.c_uint),
            ("offset", ctypes.c_long),
            ("freq", ctypes.c_long),
            ("maxerror", ctypes.c_long),
            ("esterror", ctypes.c_long),
            ("status", ctypes.c_int),
            ("rest", ctypes.c_char * 256),
        )

    timex = Timex()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(ctypes.byref(timex)) < 0 or timex.status & 0x40:  # STA_UNSYNC
        return None
    unit = 1e-9 if timex.status & 0x2000 else 1e-6  # STA_NANO
    return float(timex.offset) * unit


def _name(label: str) -> str:
    return "perpcore_" + re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")


class Exchange(Collector):
    """One instance at the moment of a scrape."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def collect(self) -> Iterator[Metric]:
        begun = time.perf_counter()
        try:
            view = View(self._config.instance)
        except SegmentError:
            yield GaugeMetricFamily("perpcore_up", "1 while the engine takes commands", 0)
            return
        try:
            data_dir = text_of(view.engine["data_dir"])
            yield from self._engine(view)
            yield from self._rings(view)
        finally:
            view.close()
        yield from self._counters()
        yield from self._fund()
        yield from self._host(data_dir)
        yield GaugeMetricFamily(
            "perpcore_scrape_seconds", "time this scrape took", time.perf_counter() - begun
        )

    def _engine(self, view: View) -> Iterable[Metric]:
        running = view.alive and view.phase.name == "RUNNING"
        yield GaugeMetricFamily("perpcore_up", "1 while the engine takes commands", int(running))
        yield GaugeMetricFamily("perpcore_epoch", "starts of this engine", view.epoch)
        yield GaugeMetricFamily(
            "perpcore_restarts", "starts after a worker's death", int(view.engine["restarts"])
        )
        yield GaugeMetricFamily(
            "perpcore_recovery_seconds",
            "how long recovery took",
            int(view.engine["recovered_us"]) / 1e6,
        )
        at = {name: view.cursor(cell) for name, cell in STAGES}
        shards = int(view.engine["shards"])
        at["match"] = min((view.cursor(cursors.matched(k)) for k in range(shards)), default=0)
        sequence = CounterMetricFamily(
            "perpcore_stage_commands", "commands a stage is done with", labels=["stage"]
        )
        backlog = GaugeMetricFamily(
            "perpcore_stage_backlog", "commands a stage is behind the sequencer", labels=["stage"]
        )
        for name, number in at.items():
            sequence.add_metric([name], number)
            backlog.add_metric([name], max(at["sequence"] - number, 0))
        yield sequence
        yield backlog
        yield GaugeMetricFamily(
            "perpcore_durable_lag", "commands taken and not durable yet",
            max(at["sequence"] - at["journal"], 0),
        )  # fmt: skip
        age = GaugeMetricFamily(
            "perpcore_worker_heartbeat_age_seconds", "since a worker came by", labels=["worker"]
        )
        refused = GaugeMetricFamily(
            "perpcore_worker_refused", "wishes the host refused", labels=["worker", "wish"]
        )
        now_ns = time.monotonic_ns()
        for worker in view.workers():
            age.add_metric([worker.name], max(now_ns - worker.heartbeat_ns, 0) / 1e9)
            for wish in type(worker.refused):
                what = str(wish.name).lower()
                refused.add_metric([worker.name, what], int(wish in worker.refused))
        yield age
        yield refused

    def _rings(self, view: View) -> Iterable[Metric]:
        used = GaugeMetricFamily(
            "perpcore_ring_used_ratio", "share of a ring that waits to be read", labels=["ring"]
        )
        slots = int(view.engine["reports"])
        waiting = view.cursor(cursors.REPORTS_WRITTEN) - view.cursor(cursors.REPORTS_READ)
        used.add_metric(["reports"], waiting / slots if slots else 0.0)
        slots = int(view.engine["commands"])
        behind = view.cursor(cursors.SEQUENCED) - min(
            view.cursor(cursors.SETTLED), view.cursor(cursors.JOURNALED)
        )
        used.add_metric(["commands"], behind / slots if slots else 0.0)
        for producer in self._config.producers:
            name = segment_name(producer.name)
            with suppress(SegmentError):
                capacity = int(view.engine["ingress"])
                segment = Segment.attach(
                    self._config.instance, name, ring_parts(capacity), view.epoch, writable=False
                )
                cells = segment.arrays["ring"]
                used.add_metric([name], (int(cells[TAIL]) - int(cells[HEAD])) / capacity)
                del cells
                segment.close()
        yield used

    def _counters(self) -> Iterable[Metric]:
        try:
            counters = Counters.attach(self._config.instance, writable=False)
        except SegmentError:
            return
        refused = CounterMetricFamily(
            "perpcore_refused", "commands refused, by code", labels=["reason"]
        )
        followers: dict[str, Any] = {}
        for label, (value, unit) in counters.read().items():
            if match := _FOLLOWER.fullmatch(label):
                name, what = match.groups()
                kind = GaugeMetricFamily if what in ("behind", "reports") else CounterMetricFamily
                if what not in followers:
                    followers[what] = kind(
                        f"perpcore_follower_{what}",
                        f"{what} of a follower, {unit}",
                        labels=["follower"],
                    )
                followers[what].add_metric([name], value)
            elif label.startswith(_REFUSED):
                refused.add_metric([label.removeprefix(_REFUSED)], value)
            elif _LEVELS.fullmatch(label):
                yield GaugeMetricFamily(_name(label), f"{label}, {unit}", value)
            else:
                yield CounterMetricFamily(_name(label), f"{label}, {unit}", value)
        yield refused
        yield from followers.values()
        for label, cells in counters.read_timings().items():
            name = _name(label) + "_seconds"
            family = SummaryMetricFamily(
                name, f"{label}", count_value=count_of(cells), sum_value=int(cells[SUM]) / 1e9
            )
            found = percentiles(cells, [100 * q for q in QUANTILES])
            for quantile, ns in zip(QUANTILES, found, strict=True):
                family.samples.append(Sample(name, {"quantile": str(quantile)}, ns / 1e9))
            yield family

    def _fund(self) -> Iterable[Metric]:
        from gateways.accounts.client import AccountView, ViewError

        try:
            view = AccountView(self._config)
        except ViewError:
            return
        try:
            account = view.account(INSURANCE_ACCOUNT)
        except ViewError:
            return
        finally:
            view.close()
        fund = GaugeMetricFamily(
            "perpcore_insurance_fund_quanta", "wallet of the insurance fund", labels=["asset"]
        )
        for asset, row in (account.wallets if account else {}).items():
            fund.add_metric([str(asset)], row["wallet_quanta"])
        yield fund

    def _host(self, data_dir: str) -> Iterable[Metric]:
        with suppress(OSError):
            free = shutil.disk_usage(data_dir).free
            yield GaugeMetricFamily("perpcore_disk_free_bytes", "where the log is written", free)
        offset = clock_offset_seconds()
        yield GaugeMetricFamily(
            "perpcore_clock_synchronised", "1 when something disciplines the clock",
            int(offset is not None),
        )  # fmt: skip
        if offset is not None:
            yield GaugeMetricFamily("perpcore_clock_offset_seconds", "as the kernel has it", offset)


def registry(config: Config) -> CollectorRegistry:
    """A registry with nothing but this exchange in it."""
    made = CollectorRegistry()
    made.register(Exchange(config))
    return made


def as_text(config: Config) -> str:
    """What a scrape would get now."""
    return generate_latest(registry(config)).decode()


def serve(config: Config, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT. OSError: the address is taken."""
    server, thread = start_http_server(port, host, registry(config))
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: over.set())
    notify(f"READY=1\nSTATUS=http://{host}:{port}/metrics")
    print(f"perpcore {config.instance}: metrics at http://{host}:{port}/metrics", flush=True)
    while not over.wait(WATCHDOG_SECONDS):
        notify("WATCHDOG=1")
    notify("STOPPING=1")
    server.shutdown()
    thread.join(5.0)
