"""`perpcore demo`: a futures venue on one machine, all of it: started, kept alive, ended in order.

    engine (perpcore up) -> clock, account view, market data, history, ledger, admin gateway
                         -> HTTP and ZeroMQ gateway, traffic -> faucet account
                         -> native market data, reconciliation -> screen
    the end: traffic and gateways, clock, engine (finishes what was taken), then who follows it

Reads   the plan of the data directory (tools/demoplan.py); what children say (tools/children.py).
Writes  the plan; one process a part, the same commands that systemd's units run.
Never   knows how a part works: what it needs to know is in the configuration they all get.
"""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

import msgspec
import psutil
from rich.console import Console
from rich.live import Live

from shm.config import Config
from shm.control import View, text_of
from shm.segment import SegmentError, remove_segments
from tools import demopath, demoplan, demoscreen, snippets
from tools.children import ChildError, Children, python
from tools.demomarket import CONTRACTS
from tools.demoplan import DemoError, Plan, base_url
from tools.options import toml_lines

ENGINE: Final = "engine"
FOLLOWERS: Final = ("accounts", "marketdata", "history", "ledger")
FIRST_START_SECONDS: Final = 1800.0  # kernels are compiled, on a slow host
READY_SECONDS: Final = 300.0
MARKET_SECONDS: Final = 120.0
ENGINE_GRACE_S: Final = 60.0
GRACE_S: Final = 30.0
EXIT_FORCED: Final = 130
SNAPSHOT_NICE: Final = 15
SNAPSHOT_SECONDS: Final = 300.0  # a restart replays no more than comes in that time, and a bit
LINE_SECONDS: Final = 10.0  # between two lines where there is no terminal
NOTES: Final = 4  # lines about what was started again, below the screen


def arguments_of(part: str, data: Path) -> tuple[str, ...]:
    """The command line of a part, for this Python."""
    command = {
        ENGINE: ("up", "--no-clock"),
        "clock": ("clock",),
        "ledger": ("ledger", "run"),
        "admin": ("gateway", "admin"),
        "http": ("gateway", "http"),
        "zmq": ("gateway", "zmq"),
        "market": ("gateway", "market"),
        "reconcile": ("ledger", "reconcile", "--follow", "--every", "5"),
        **{name: ("follow", name) for name in ("accounts", "marketdata", "history")},
    }
    if part == "traffic":
        return ("-m", "tools.demo", str(data))
    return ("-m", "tools.cli", *command[part], "--config", str(demoplan.config_path(data)))


class Signals:
    """How often somebody asked us to end."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1

    def asked(self) -> bool:
        return self.count > 0

    def insisted(self) -> bool:
        return self.count > 1


@contextmanager
def heard(signals: Signals) -> Iterator[None]:
    """Handle what ends us; a SIGHUP that is ignored (nohup) stays so."""
    numbers = [
        n
        for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(n) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, signals) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---------------------------------------------------------------- before anything runs


def check_free(config: Config) -> None:
    """Whether nobody stands where we want to: DemoError says who, and what to do."""
    host, port = config.http.host, config.http.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Gateways share their port (SO_REUSEPORT): a second venue would take half of our clients.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise DemoError(
                f"cannot listen on {host}:{port}: {error.strerror}{_listener(port)}. "
                f"Choose another port: perpcore demo --http {port + 1 if port < 65535 else 8080}"
            ) from None
    with suppress(SegmentError):
        view = View(config.instance)
        try:
            if view.alive:
                raise DemoError(
                    f"an exchange called {config.instance!r} runs already, pid {view.pid}, data in "
                    f"{text_of(view.engine['data_dir'])}. Stop it (perpcore stop --instance "
                    f"{config.instance}), or give this one another name: --instance demo"
                )
        finally:
            view.close()


def _listener(port: int) -> str:
    """Who listens there, as far as we may know."""
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if local and local.port == port and connection.pid and connection.status == "LISTEN":
                return f", pid {connection.pid} ({psutil.Process(connection.pid).name()}) does"
    return ""


class Asked(NamedTuple):
    """What the command line says; None where it says nothing."""

    http_port: int | None = None
    seed: int | None = None
    rate: int | None = None
    speed: float | None = None
    funding_seconds: float | None = None
    recording: str | None = None


def prepare(config: Config, data: Path, asked: Asked) -> tuple[Config, Plan]:
    """The directory made ready for a start: a new plan, or the one that it was made with.

    raises      DemoError when it is no demo's, or was made with another seed, speed or recording
    """
    if demoplan.plan_path(data).exists():
        plan = demoplan.read_plan(data)
        for name, wanted, made in (
            ("--seed", asked.seed, plan.seed),
            ("--speed", asked.speed, plan.speed),
            ("--klines", asked.recording, plan.recording),
        ):
            if wanted is not None and wanted != made:
                option = f"{name} {wanted or 'none'}"
                raise DemoError(
                    f"{data}: this demo was made with {name} {made or 'none'}, and goes on so. "
                    f"For {option} begin a new one: perpcore demo --reset {option}"
                )
    else:
        from tools.demoflow import RATE
        from tools.demomarket import FUNDING_NS

        found = asked.recording
        plan = Plan(
            seed=1 if asked.seed is None else asked.seed,
            rate=RATE,
            speed=asked.speed or 1.0,
            recording=demoplan.find_recording() if found is None else found,
            funding_ns=FUNDING_NS,
        )
    changes: dict[str, int] = {}
    if asked.rate is not None:
        changes["rate"] = asked.rate
    if asked.funding_seconds is not None:
        changes["funding_ns"] = int(asked.funding_seconds * 1e9)
    plan = demoplan.begin(msgspec.structs.replace(plan, **changes))
    config = demoplan.configured(config, data, asked.http_port)
    check_free(config)
    demopath.write(demoplan.paths_folder(data), plan.seed, plan.speed, plan.recording)
    (data / "demo" / "logs").mkdir(mode=0o750, exist_ok=True)
    demoplan.write_plan(data, plan)
    demoplan.write_config(data, "\n".join(toml_lines(msgspec.to_builtins(config))) + "\n")
    demoplan.tell_clock(data, plan)
    return config, plan


# ---------------------------------------------------------------- while it runs


class Venue:
    """One run of `perpcore demo`."""

    def __init__(self, config: Config, plan: Plan, data: Path, signals: Signals) -> None:
        self.config, self.plan, self.data, self.signals = config, plan, data, signals
        self.console = Console(highlight=False, soft_wrap=True)
        self.children = Children(data / "demo" / "logs", self.note)
        self.notes: list[str] = []
        self.live: Live | None = None
        self.base = base_url(config)
        self.access: dict[str, Any] = {}
        self.snapshot: subprocess.Popen[bytes] | None = None
        self.snapshot_s = time.monotonic()  # when the last one was begun

    def say(self, text: str = "") -> None:
        with suppress(OSError):  # whoever reads us may go; the venue stays
            self.console.print(text, markup=False)

    def note(self, text: str) -> None:
        """Something that happened by itself."""
        self.notes = [*self.notes, f"{time.strftime('%H:%M:%S')} {text}"][-NOTES:]
        if self.live is None:
            self.say(self.notes[-1])

    def spawn(self, *parts: str) -> None:
        for part in parts:
            grace_s = ENGINE_GRACE_S if part == ENGINE else GRACE_S
            self.children.start(part, *arguments_of(part, self.data), grace_s=grace_s)

    def start(self) -> bool:
        """Everything, in its order; False when we were asked to end meanwhile."""
        self.say(f"perpcore demo: starting, data in {self.data}, logs in {self.data}/demo/logs")
        stop = self.signals.asked
        self.spawn(ENGINE)
        compiling = Compiling(self.children.all[ENGINE].log, self.say)
        if not self.children.until_ready([ENGINE], FIRST_START_SECONDS, stop, compiling.look):
            return False
        for parts in (("clock", *FOLLOWERS, "admin"), ("http", "zmq", "traffic")):
            self.spawn(*parts)
            if not self.children.until_ready(parts, READY_SECONDS, stop):
                return False
        return self.open_account() and self.until_usable()

    def until_usable(self) -> bool:
        """Wait until a client's first order can be taken: its key is known to the gateway, and both
        sides of every book are there."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is our own
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        opener.addheaders = [("X-MBX-APIKEY", self.access["api_key"])]

        def asked(path: str) -> Any:
            with opener.open(f"{self.base}/fapi/v1/{path}", timeout=5) as answer:
                return json.loads(answer.read())

        until = time.monotonic() + MARKET_SECONDS
        while not self.signals.asked():
            with suppress(OSError, ValueError, KeyError):
                asked(f"historicalTrades?symbol={CONTRACTS[0].name}&limit=1")  # refused without it
                books = asked("ticker/bookTicker")
                if len(books) >= len(CONTRACTS) and all(
                    float(book["bidPrice"]) > 0 and float(book["askPrice"]) > 0 for book in books
                ):
                    return True
            if time.monotonic() > until:
                raise ChildError(
                    f"no market after {MARKET_SECONDS:.0f} s: see {self.data}/demo/logs/traffic.log"
                )
            self.children.wait(0.2)
            self.children.look()
        return False

    def open_account(self) -> bool:
        """The faucet account and its key."""
        log = self.data / "demo" / "logs" / "faucet.log"
        with (
            log.open("ab") as errors,
            python("-m", "tools.faucet", str(self.data), stderr=errors) as p,
        ):
            while p.poll() is None:
                if self.signals.asked():
                    p.kill()
                    return False
                self.children.wait(0.05)
            if p.returncode:
                raise ChildError(f"the faucet account could not be made: {log.read_text()[-2000:]}")
            assert p.stdout is not None
            self.access = json.loads(p.stdout.read())
        return True

    def introduce(self) -> None:
        """What a client needs, for the person in front of the screen."""
        for text in introduction(self.config, self.plan, self.data, self.base, self.access):
            self.say(text)

    def watch(self, until_s: float | None) -> None:
        """Keep everything alive and show it, until we are asked to end."""
        watch = demoscreen.Watch(self.config)
        before, told_s, saved_s = watch.look(), 0.0, time.monotonic()
        terminal = self.console.is_terminal
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            self.live = live if terminal else None
            while not self.signals.asked() and (until_s is None or time.monotonic() < until_s):
                next_s = time.monotonic() + 1.0
                while not self.signals.asked() and (left := next_s - time.monotonic()) > 0:
                    self.children.wait(min(left, 0.25))
                    if self.children.all[ENGINE].ended_well:  # perpcore stop
                        self.note("the engine was told to stop: ending with it")
                        return
                    self.children.look()
                self.take_snapshot()
                now, reconciled = watch.look(), self.children.all["reconcile"].status
                if terminal:
                    notes = [*self.notes, f"{self.base}  (Ctrl-C ends it in order)"]
                    live.update(
                        demoscreen.screen(now, before, self.children.all, reconciled, notes),
                        refresh=True,
                    )
                    before = now
                elif time.monotonic() - told_s >= LINE_SECONDS:
                    self.say(demoscreen.line(now, before, reconciled))
                    before, told_s = now, time.monotonic()
                if time.monotonic() - saved_s >= 1.0:
                    self.save()
                    saved_s = time.monotonic()
        self.live = None

    def take_snapshot(self) -> None:
        """Begin a snapshot when it is time for one: `perpcore snapshot`, out of everybody's way."""
        if self.snapshot is not None and self.snapshot.poll() is not None:
            if self.snapshot.returncode:
                self.note(f"no snapshot was made: {self.data}/demo/logs/snapshot.log")
            self.snapshot = None
        if self.snapshot is not None or time.monotonic() - self.snapshot_s < SNAPSHOT_SECONDS:
            return
        self.snapshot_s = time.monotonic()
        with (self.data / "demo" / "logs" / "snapshot.log").open("wb") as log:
            self.snapshot = python(
                *("-m", "tools.cli", "snapshot", "--data", str(self.data)),
                stdout=log,
                stderr=log,
                nice=SNAPSHOT_NICE,
            )

    def end_snapshot(self) -> None:
        """One that is being made is left: what was written of it is a temporary file."""
        if self.snapshot is not None:
            self.snapshot.kill()
            self.snapshot.wait()
            self.snapshot = None

    def save(self) -> None:
        """Keep how far the demo's time has come."""
        played_ns = time.time_ns() - self.plan.began_ns
        demoplan.write_plan(self.data, msgspec.structs.replace(self.plan, played_ns=played_ns))

    def stop(self) -> list[str]:
        """End all of it in order; who had to be killed."""
        self.say("stopping: finishing what was taken (Ctrl-C again ends at once)")
        killed: list[str] = []
        self.end_snapshot()
        doors = ("traffic", "http", "zmq", "market", "admin", "reconcile")
        for parts in (doors, ("clock",), (ENGINE,), FOLLOWERS):
            killed += self.children.stop(parts, self.signals.insisted)
        return killed

    def clean(self) -> None:
        """Whatever happened: no child, no segment, no socket stays."""
        self.end_snapshot()
        self.children.kill()
        remove_segments(self.config.instance)
        for pattern in ("*.sock", "*.sock.ask"):
            for path in self.data.glob(pattern):
                if path.is_socket():
                    path.unlink(missing_ok=True)


class Compiling:
    """Tells of the engine's first start, which compiles its kernels: that takes minutes."""

    def __init__(self, log: Path, say: Callable[[str], None]) -> None:
        self._log, self._say = log, say
        self._at = log.stat().st_size if log.exists() else 0

    def look(self) -> None:
        with self._log.open("rb") as file:
            file.seek(self._at)
            for raw in file:
                if not raw.endswith(b"\n"):
                    break
                self._at += len(raw)
                with suppress(ValueError, KeyError, TypeError):
                    record = json.loads(raw)
                    if record["event"] == "compiling":
                        self._say(f"  compiling {record['what']} (once; kept for the next start)")


def _beside(program: str, name: str) -> str:
    return shlex.quote(str(Path(program).with_name(name)))


def introduction(
    config: Config, plan: Plan, data: Path, base: str, access: dict[str, Any]
) -> list[str]:
    """How to use the venue: URLs, key, money, and a snippet a client."""
    path = f"the recording {plan.recording}" if plan.recording else "simulated"
    where = shlex.quote(str(data))
    # On no PATH after a mere checkout; a stranger pastes what stands here.
    command = "perpcore" if shutil.which("perpcore") else _beside(sys.executable, "perpcore")
    web = base.replace("http", "ws", 1)
    lines = [
        "",
        f"perpcore demo is up: four perpetuals, {plan.rate} commands a second, seed {plan.seed}",
        f"  index       {path}, {plan.speed:g} minutes of it a second",
        f"  REST        {base}            described at {base}/docs and {base}/openapi.json",
        f"  WebSocket   {web}/ws, {web}/stream, {web}/ws-fapi/v1",
        f"  API key     {access['api_key']}",
        f"  secret      {access['secret']}",
        f"  native      {access['endpoint']}, market data {access['feed']}",
        f"  account     {access['account']}, play money; for more: "
        f"{command} demo faucet {access['account']} 50000 --data {where}",
        f"  operators   {command} status, top, key, ...: --config {where}/demo/config.toml",
        f"  again       {command} demo access --data {where}",
    ]
    lines += ["", f"# ---- native: nothing to install; run it with {sys.executable}", ""]
    lines += snippets.native(access).splitlines()
    for name in snippets.SNIPPETS:
        package = snippets.PACKAGES.get(name, name)
        lines += ["", f"# ---- {name}: pip install {package}", ""]
        lines += snippets.pasted(name, base, access["api_key"], access["secret"]).splitlines()
    return [*lines, ""]


def run(config: Config, data: Path, asked: Asked, *, seconds: float | None = None) -> int:
    """Start a demo and stay with it; returns the exit code."""
    signals = Signals()
    data.mkdir(mode=0o750, parents=True, exist_ok=True)
    if not demoplan.plan_path(data).exists() and not demoplan.is_free(data):
        raise DemoError(demoplan.NO_DEMO.format(data=data))
    with demoplan.locked(data), heard(signals):
        config, plan = prepare(config, data, asked)
        venue = Venue(config, plan, data, signals)
        killed: list[str] = []
        try:
            if venue.start():
                venue.save()
                venue.introduce()
                venue.spawn("market", "reconcile")  # nobody's first order waits for these
                venue.watch(None if seconds is None else time.monotonic() + seconds)
            killed = venue.stop()
            venue.save()
        except ChildError as error:
            print(f"Error: {error}", file=sys.stderr)
            venue.stop()
            return 1
        finally:
            venue.clean()
    if killed:
        venue.say(f"ended, but killed: {', '.join(killed)}. The next start recovers all the same")
        return EXIT_FORCED if signals.insisted() else 1
    venue.say("stopped: nothing left behind; the next start goes on here")
    return 0
