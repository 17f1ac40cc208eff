"""A demo venue killed at random, with a client that remembers every answer.

    python -m tests.faults.campaign DATA --kills 300 [--seed N] [--chaos] [--seconds S]

    `perpcore demo` runs the whole venue and starts again what dies, as systemd would. Somebody
    kills one of its processes after the other, any of them, in one of several ways; a client
    places and cancels orders all the while, perhaps through a bad network (tools/chaos.py).

In the end, when everything was stopped in order
    every order that was acknowledged is in the log once, with the id that was told
    no order that was refused is there, and none is there twice, however often it was sent
    `perpcore verify`: replay gives what the engine said, byte by byte
    `perpcore ledger reconcile`: the books are the engine's tables, to the unit

Prints one line for each kill, and one JSON object in the end.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import psutil

from shm.codes import Kind, ReportKind, Status
from shm.control import Phase, View
from shm.segment import SegmentError
from tests.conftest import ROOT
from tests.process.helpers import die_with_pytest, free_port, wait_until

DEATHS_MAX: Final = 6  # of one role within a minute: its keeper gives up at eight
MINUTE_S: Final = 60.0
STRACE: Final = shutil.which("strace")
# Calls at which a process is killed, by how its command line ends.
CALLS: Final = {
    "journal": ("pwrite64", "fdatasync", "futex"),
    "publisher": ("sendto", "write", "poll", "futex"),
    "history": ("pwrite64", "fdatasync", "lseek"),
    "ledger": ("write", "pwrite64", "fdatasync", "rename"),
    "accounts": ("write", "fsync", "rename", "clock_nanosleep"),
    "marketdata": ("write", "fsync", "rename", "clock_nanosleep"),
    "http": ("sendto", "recvfrom", "write", "epoll_wait"),
    "admin": ("epoll_wait",),
    "clock": ("write", "rename", "futex", "clock_nanosleep"),
}
OTHER_CALLS: Final = ("futex", "clock_nanosleep", "sched_yield")
DUPLICATE: Final = (-4116, -1021)  # the same request came before, by whatever way


class Answer(NamedTuple):
    """What the client was told of an order."""

    what: str  # acknowledged, refused, unknown
    order_id: int
    code: int


def demo_command(data: Path, instance: str, port: int, rate: int, seed: int) -> list[str]:
    return [
        *(sys.executable, "-m", "tools.cli", "demo", "--data", str(data), "--instance", instance),
        *("--http", str(port), "--rate", str(rate), "--seed", str(seed), "--klines", "none"),
        *(f"--set={name}={value}" for name, value in SETTINGS.items()),
    ]


SETTINGS: Final = {
    "restarts_max": 1000,
    "checkpoint_every": 1024,
    "http.orders_per_10s": 1_000_000,
    "http.orders_per_minute": 1_000_000,
    "http.weight_per_minute": 10_000_000,
}


class Client(threading.Thread):
    """Places orders, one after the other, and cancels them; never sends the same twice."""

    def __init__(self, port: int, key: str, secret: str, name: str) -> None:
        super().__init__(daemon=True)
        self.port, self.key, self.secret, self.prefix = port, key, secret, name
        self.answers: dict[str, Answer] = {}
        self.acknowledged = 0
        self.over = threading.Event()
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, **params: Any) -> tuple[int, Any]:
        """(status, reply); (0, None) when none came."""
        text = "&".join(f"{name}={value}" for name, value in params.items())
        text += f"&recvWindow=10000&timestamp={time.time_ns() // 1_000_000}"
        signature = hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=8)
            self._connection.request(
                method,
                f"/fapi/v1/order?{text}&signature={signature}",
                headers={"X-MBX-APIKEY": self.key},
            )
            response = self._connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            return 0, None

    def run(self) -> None:
        number = 0
        while not self.over.is_set():
            number += 1
            name = f"{self.prefix}-{number}"
            sent = {"symbol": "BTCUSDT", "side": ("BUY", "SELL")[number % 2], "quantity": "0.002"}
            if number % 5 == 0:
                sent |= {"type": "MARKET"}
            else:
                price = "30000" if sent["side"] == "BUY" else "180000"
                sent |= {"type": "LIMIT", "timeInForce": "GTX", "price": price}
            status, reply = self.ask("POST", **sent, newClientOrderId=name)
            self.answers[name] = answer = answer_of(status, reply)
            if answer.what == "acknowledged":
                self.acknowledged += 1
                if number % 5 and number % 3:
                    self.ask("DELETE", symbol="BTCUSDT", orderId=answer.order_id)
            elif status == 0 or status >= 500:
                time.sleep(0.05)
            time.sleep(0.02)


def answer_of(status: int, reply: Any) -> Answer:
    if status == 200:
        return Answer("acknowledged", int(reply["orderId"]), 0)
    code = int(reply["code"]) if isinstance(reply, dict) and "code" in reply else 0
    if code in (0, -1007, *DUPLICATE):
        return Answer("unknown", 0, code)
    return Answer("refused", 0, code)


class Campaign:
    """One venue, from its start to the proof that nothing was lost."""

    def __init__(self, folder: Path, instance: str, seed: int, *, chaos: bool, rate: int) -> None:
        self.folder, self.data, self.instance, self.seed = folder, folder / "data", instance, seed
        self.chance = random.Random(seed)
        self.chaos, self.rate = chaos, rate
        self.port = free_port()
        self.log = folder / "demo.log"
        self.killed: Counter[str] = Counter()
        self.ways: Counter[str] = Counter()
        self.clients: list[Client] = []
        self._deaths: dict[str, list[float]] = defaultdict(list)
        self._started: list[subprocess.Popen[bytes]] = []

    # ------------------------------------------------------------ life

    def _spawn(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=die_with_pytest,
            )
        self._started.append(process)
        return process

    def _demo(self) -> None:
        command = demo_command(self.data, self.instance, self.port, self.rate, self.seed)
        self.demo = self._spawn(command, self.log)

    def start(self) -> None:
        self._demo()
        told = wait_until(self._access, 900, "the demo is not up")
        port = self.port
        if self.chaos:
            port = free_port()
            options = ("--listen", f"127.0.0.1:{port}", "--to", f"127.0.0.1:{self.port}")
            bad = ("--cut-every", "5", "--stall-every", "20", "--stall", "1", "--jitter", "30")
            worse = ("--delay", "2", "--duplicate", "10", "--lose", "5", "--refuse", "2")
            chaos = ["chaos", *options, *bad, *worse, "--seed", str(self.seed)]
            self._spawn([sys.executable, "-m", "tools.cli", *chaos], self.folder / "chaos.log")
        for number in range(2):
            self.clients.append(Client(port, *told, f"s{self.seed}c{number}"))
            self.clients[-1].start()
        self._until_taken("before the first kill")

    def _access(self) -> tuple[str, str] | None:
        if self.demo.poll() is not None:
            # On a busy host its admin gateway may not hear the engine yet when it is first asked.
            assert "Service Unavailable" in self.log.read_text(), self.log.read_text()[-4000:]
            self.log.rename(self.log.with_suffix(f".{self.demo.pid}"))
            self._demo()
        if not self.log.exists() or "perpcore demo is up" not in self.log.read_text():
            return None
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tools.cli",
                "demo",
                "access",
                "--data",
                str(self.data),
                "--json",
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        found = json.loads(done.stdout)
        return found["api_key"], found["secret"]

    def _until_taken(self, when: str) -> float:
        """Until the client's orders are taken again; how long that took."""
        before = sum(client.acknowledged for client in self.clients)
        begun = time.monotonic()

        def taken() -> bool:
            assert self.demo.poll() is None, f"{when}: {self.log.read_text()[-4000:]}"
            return sum(client.acknowledged for client in self.clients) > before

        wait_until(taken, 600, f"{when}: no order is taken")
        return time.monotonic() - begun

    def stop(self) -> None:
        for client in self.clients:
            client.over.set()
        for client in self.clients:
            client.join(30)
        self.demo.send_signal(signal.SIGTERM)
        assert self.demo.wait(120) == 0, self.log.read_text()[-4000:]

    def end(self) -> None:
        """Whatever happened: nothing of it goes on."""
        for process in self._started:
            with suppress(psutil.Error):
                for child in psutil.Process(process.pid).children(recursive=True):
                    with suppress(psutil.Error):
                        child.kill()
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()

    # ------------------------------------------------------------ kills

    def roles(self) -> dict[str, int]:
        """Every process that may be killed, by its role."""
        found = {}
        for process in psutil.Process(self.demo.pid).children():
            with suppress(psutil.Error):
                words = process.cmdline()
                if "-m" not in words:
                    continue
                at = words.index("-m") + 1
                name = " ".join(w for w in words[at + 1 :] if not w.startswith(("-", "/")))
                role = {"up": "supervisor", "follow accounts": "accounts", "ledger run": "ledger",
                        "follow marketdata": "marketdata", "follow history": "history",
                        "gateway http": "http", "gateway admin": "admin", "clock": "clock"}.get(
                    name, "traffic" if words[at] == "tools.demo" else "")  # fmt: skip
                if role:
                    found[role] = process.pid
        with suppress(SegmentError):
            view = View(self.instance)
            if view.phase == Phase.RUNNING:
                found |= {worker.name: worker.pid for worker in view.workers() if worker.pid}
            view.close()
        return found

    def kill_one(self) -> str:
        """Kill somebody, in some way; who and how, or nothing when nobody may be now."""
        now = time.monotonic()
        allowed = {
            role: pid
            for role, pid in self.roles().items()
            if sum(now - at < MINUTE_S for at in self._deaths[role]) < DEATHS_MAX
        }
        if not allowed:
            return ""
        role = self.chance.choice(sorted(allowed))
        way = self.chance.choice(("kill", "kill", "syscall" if STRACE else "kill", "stop"))
        self._deaths[role].append(now)
        with suppress(ProcessLookupError):
            what = {"kill": self._kill, "syscall": self._at_call, "stop": self._stop}[way](
                role, allowed[role]
            )
            self.ways[way] += 1
            if way != "stop":
                self.killed[role] += 1
            return f"{role} {what}"
        return ""

    @staticmethod
    def _kill(_role: str, pid: int) -> str:
        os.kill(pid, signal.SIGKILL)
        return "killed"

    def _at_call(self, role: str, pid: int) -> str:
        """Killed by strace at its n-th call of one kind; at once when it makes none."""
        call = self.chance.choice(CALLS.get(role, OTHER_CALLS))
        when = self.chance.randint(1, 40)
        assert STRACE is not None
        process = subprocess.Popen(
            [STRACE, "-f", "-qq", "-o", "/dev/null", "-p", str(pid),
             "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={when}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(3)
            return f"killed at {call} {when}"
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            os.kill(pid, signal.SIGKILL)
            return f"killed ({call} was not called {when} times)"

    def _stop(self, _role: str, pid: int) -> str:
        """Stopped for a while; then it goes on, if nobody has taken it for dead meanwhile."""
        os.kill(pid, signal.SIGSTOP)
        seconds = self.chance.uniform(0.1, 2.5)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)
        return f"stopped for {seconds:.1f} s"

    def run(self, kills: int, seconds: float = 1e9) -> None:
        """So many kills, or for so long; who was stopped for a while is not counted as killed."""
        until = time.monotonic() + seconds
        while self.killed.total() < kills and time.monotonic() < until:
            said = self.kill_one()
            if not said:
                time.sleep(0.5)
                continue
            again = self._until_taken(said)
            number = self.ways.total()
            print(f"{number}: {said}; an order {again:.2f} s later", flush=True)
            time.sleep(self.chance.uniform(0.0, 0.4))

    # ------------------------------------------------------------ proof

    def check(self) -> dict[str, Any]:
        """Prove it; what there was."""
        told = {name: answer for client in self.clients for name, answer in client.answers.items()}
        placed, last = placed_orders(self.data)
        lost = []
        for name, answer in told.items():
            there = placed.get(name, [])
            if len(there) > 1:
                lost.append(f"{name} was placed {len(there)} times: {there}")
            if answer.what == "acknowledged" and there != [answer.order_id]:
                lost.append(f"{name} was acknowledged as {answer.order_id}, the log has {there}")
            if answer.what == "refused" and there:
                lost.append(f"{name} was refused with {answer.code}, the log has {there}")
        assert not lost, "\n".join(lost[:20])
        for words in (("verify", "--data", str(self.data)),
                      ("ledger", "reconcile", "--data", str(self.data))):  # fmt: skip
            done = subprocess.run(
                [sys.executable, "-m", "tools.cli", *words],
                cwd=ROOT,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return {
            "seed": self.seed,
            "kills": self.killed.total(),
            "by_role": dict(sorted(self.killed.items())),
            "by_way": dict(sorted(self.ways.items())),
            "commands": last,
            "orders": dict(Counter(answer.what for answer in told.values())),
            "unknown_but_placed": sum(
                answer.what == "unknown" and name in placed for name, answer in told.items()
            ),
            "lost": 0,
            "doubled": 0,
        }


def placed_orders(data: Path) -> tuple[dict[str, list[int]], int]:
    """Ids of the orders that were taken, by the client's own id, as a replay of the WAL gives them;
    the last command."""
    from engine.recovery import fresh_arrays
    from engine.replay import Replayer
    from engine.wal import scan_wal
    from engine.walreader import read_commands
    from tools.datadir import limits_for
    from tools.inprocess import words_text

    names: dict[int, str] = {}  # command -> client id
    taken: list[np.ndarray[Any, Any]] = []

    def keep(_at: int, rows: np.ndarray[Any, Any]) -> None:
        orders = rows[(rows["kind"] == ReportKind.ORDER) & (rows["command"] == Kind.PLACE)]
        orders = orders[(orders["request"] != 0) & (orders["status"] != Status.REJECTED)]
        taken.append(orders[["seq", "order_id"]].copy())

    limits = limits_for(data)
    replayer = Replayer(fresh_arrays(limits), limits, sink=keep)
    end = scan_wal(data).seq
    for rows in read_commands(data, 0, end):
        for row in rows[rows["kind"] == Kind.PLACE]:
            if name := words_text(row["client_id"]):
                names[int(row["seq"])] = name
        replayer.feed(rows)
    replayer.feed(rows[:0], end=True)
    found: dict[str, list[int]] = defaultdict(list)
    for row in np.concatenate(taken):
        if name := names.get(int(row["seq"])):
            found[name].append(int(row["order_id"]))
    return dict(found), end


@contextmanager
def campaign(
    folder: Path, instance: str, seed: int, *, chaos: bool = False, rate: int = 100
) -> Iterator[Campaign]:
    """A venue under attack, and its end."""
    made = Campaign(folder, instance, seed, chaos=chaos, rate=rate)
    try:
        made.start()
        yield made
    finally:
        made.end()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--chaos", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    name = f"campaign-{os.getpid()}"
    with campaign(options.folder, name, options.seed, chaos=options.chaos) as made:
        made.run(options.kills, options.seconds)
        made.stop()
        found = made.check()
    print(json.dumps({**found, "seconds": round(time.monotonic() - begun)}, indent=2))


if __name__ == "__main__":
    main()
