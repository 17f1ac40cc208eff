"""`perpcore metrics`: what a running exchange's shared memory says, in Prometheus's own words.

Reads   cursors, counters, histograms, workers' heartbeats and the account view's insurance fund of
        one instance, mapped read only at each scrape: the hot path knows nothing of it.
Writes  the text format over HTTP, on a loopback address unless told otherwise.
Never   imports numba. An engine that is down is `perpcore_up 0`, not an error.

Names: a counter `stage.what` of shm/counters.py is perpcore_stage_what_total; refusals are one
metric by code; a latency is a summary in seconds.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
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
from shm.hostclock import host_clock
from shm.ingress import HEAD, TAIL, ring_parts, segment_name
from shm.notify import notify
from shm.reported import LIQUIDATED, REPORTED
from shm.segment import Segment, SegmentError
from shm.units import INSURANCE_ACCOUNT

WATCHDOG_SECONDS: Final = 2.0
HELD_SECONDS: Final = 10.0  # between two looks into the books
QUANTILES: Final = (0.5, 0.9, 0.99, 0.999)
STAGES: Final = (
    ("sequence", cursors.SEQUENCED),
    ("risk", cursors.RISKED),
    ("settle", cursors.SETTLED),
    ("journal", cursors.JOURNALED),
    ("publish", cursors.PUBLISHED),
)
_REFUSED: Final = "refused."
_BREAK_STATES: Final = ("OPEN", "INVESTIGATING", "EXPLAINED", "RESOLVED")
_FOLLOWER: Final = re.compile(r"follow\.([^.]+)\.([a-z_]+)")
_DOOR: Final = re.compile(r"door\.([^.]+)\.([a-z_]+)")  # gateways/doorcounts.py
# A counter that says how things are, and not how often something happened.
_LEVELS: Final = re.compile(
    r".*(\.lag|\.behind|\.index|_lag|\.breaks|\.open|\.clients|_bytes_used)$"
)


def hot_balances(data: Path) -> dict[str, float]:
    """What the books say the venue holds online, by asset; nothing where there are no books."""
    from ledger.books import Books
    from ledger.chart import Code, unpack
    from ledger.files import LedgerError, ledger_folder

    try:
        books = Books(ledger_folder(data))
        balances = books.balances(books.now())
    except LedgerError:
        return {}
    found: dict[str, float] = {}
    for row, balance in zip(books.keys, balances.tolist(), strict=False):
        key = unpack(int(row["key"]))
        if key.code == Code.CUSTODY_HOT:
            commodity = books.commodity_of(key)
            name = books.commodity_name(commodity)
            found[name] = found.get(name, 0.0) + balance / 10 ** books.scale(commodity)
    return found


def _name(label: str) -> str:
    return "perpcore_" + re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")


class Exchange(Collector):
    """One instance at the moment of a scrape."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._held: dict[str, float] = {}  # hot wallets by asset, and when that was looked up
        self._held_s = -HELD_SECONDS

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
        yield from self._books(Path(data_dir))
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
        came = CounterMetricFamily(
            "perpcore_ingress_commands", "commands a producer handed over", labels=["producer"]
        )
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
                came.add_metric([producer.name], int(cells[HEAD]))
                del cells
                segment.close()
        yield used
        yield came
        yield GaugeMetricFamily(
            "perpcore_cancel_only", "1: the disk is nearly full, 2: the clock is off, 0: neither",
            view.cursor(cursors.CUT),
        )  # fmt: skip

    def _counters(self) -> Iterable[Metric]:
        try:
            counters = Counters.attach(self._config.instance, writable=False)
        except SegmentError:
            return
        refused = CounterMetricFamily(
            "perpcore_refused", "commands refused, by code", labels=["reason"]
        )
        reported = CounterMetricFamily(
            "perpcore_reported", "reports the account view has applied, by kind", labels=["kind"]
        )
        liquidations = CounterMetricFamily(
            "perpcore_liquidations", "steps of liquidations, by step", labels=["step"]
        )
        followers: dict[str, Any] = {}
        doors: dict[str, Any] = {}
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
            elif match := _DOOR.fullmatch(label):
                name, what = match.groups()
                kind = GaugeMetricFamily if what == "clients" else CounterMetricFamily
                if what not in doors:
                    doors[what] = kind(
                        f"perpcore_door_{what}", f"{what} of a gateway", labels=["producer"]
                    )
                doors[what].add_metric([name], value)
            elif label.startswith(_REFUSED):
                refused.add_metric([label.removeprefix(_REFUSED)], value)
            elif label.startswith(REPORTED):
                reported.add_metric([label.removeprefix(REPORTED)], value)
            elif label.startswith(LIQUIDATED):
                liquidations.add_metric([label.removeprefix(LIQUIDATED)], value)
            elif _LEVELS.fullmatch(label):
                yield GaugeMetricFamily(_name(label), f"{label}, {unit}", value)
            else:
                yield CounterMetricFamily(_name(label), f"{label}, {unit}", value)
        yield from (refused, reported, liquidations)
        yield from followers.values()
        yield from doors.values()
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

    def _books(self, data: Path) -> Iterable[Metric]:
        """Breaks that somebody has to look at, and what the books say is held online."""
        breaks = GaugeMetricFamily(
            "perpcore_reconciliation_breaks", "breaks, by what became of them", labels=["state"]
        )
        rows = []
        with suppress(OSError, ValueError):
            rows = json.loads((data / "breaks.json").read_text())
        for state in _BREAK_STATES:
            breaks.add_metric([state], sum(row.get("state") == state for row in rows))
        yield breaks
        held = GaugeMetricFamily(
            "perpcore_hot_wallet", "what the books say is held online", labels=["asset"]
        )
        most = GaugeMetricFamily(
            "perpcore_hot_wallet_max", "as ledger.hot_wallets has it", labels=["asset"]
        )
        for hot in self._config.ledger.hot_wallets:
            most.add_metric([hot.asset], float(hot.max))
        now = time.monotonic()
        if self._config.ledger.hot_wallets and now - self._held_s > HELD_SECONDS:
            self._held, self._held_s = hot_balances(data), now
        for asset, amount in self._held.items():
            held.add_metric([asset], amount)
        yield held
        yield most

    def _host(self, data_dir: str) -> Iterable[Metric]:
        with suppress(OSError):
            free = shutil.disk_usage(data_dir).free
            yield GaugeMetricFamily("perpcore_disk_free_bytes", "where the log is written", free)
        clock = host_clock()
        yield GaugeMetricFamily(
            "perpcore_clock_synchronised", "1 when something disciplines the clock",
            int(clock is not None),
        )  # fmt: skip
        yield GaugeMetricFamily(
            "perpcore_clock_offset_max_seconds",
            "beyond it the venue is cancel-only; 0: never",
            self._config.clock.offset_max_us / 1e6,
        )
        if clock is not None:
            yield GaugeMetricFamily(
                "perpcore_clock_offset_seconds", "as the kernel has it", clock.offset_ns / 1e9
            )
            yield GaugeMetricFamily(
                "perpcore_clock_off_seconds", "how far off it may be", clock.off_ns / 1e9
            )


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
