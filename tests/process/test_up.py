"""`perpcore up`, `status` and `stop` as processes: what an operator sees, and what is left behind."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import msgpack
import numpy as np
import psutil
import pytest
import zmq

from shm.control import Phase
from shm.cursors import JOURNALED, SEQUENCED, SLEEP, SLEEPS, TIMEOUTS, doorbell
from shm.door import Door
from shm.records import REPORT
from tests.process.conftest import Venues
from tests.process.helpers import START_SECONDS, perpcore, status_of, wait_until

TOPOLOGIES = {
    "fused": {"engine": ["sequence", "risk", "match:0", "settle"]},
    "split": {"risk": ["risk", "settle"], "match1": ["match:1"]},
}


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_up_status_stop_and_up_again(venues: Venues, topology: str) -> None:
    shards = 2 if topology == "split" else 1
    venue = venues("--topology", topology, "--traffic", "2000", settings={"shards": shards})
    venue.start()
    view = venue.until_running()
    wait_until(lambda: view.cursor(0) > 1000, 30, "no commands")

    found = status_of(venue.instance)
    assert found["phase"] == "RUNNING" and found["epoch"] == 1 and found["pid"] == venue.pid
    assert found["data_dir"] == str(venue.data)
    workers = {w["name"]: w for w in found["workers"]}
    for name, stages in TOPOLOGIES[topology].items():
        assert workers[name]["stages"] == stages
    assert all(w["alive"] and w["state"] == "RUNNING" for w in workers.values())
    assert found["rates"]["commands_per_s"] > 0
    text = perpcore("status", "--instance", venue.instance).stdout
    assert f"perpcore {venue.instance}: running" in text and "commands/s" in text

    stopped = perpcore("stop", "--instance", venue.instance)
    assert stopped.returncode == 0 and "all durable" in stopped.stdout, stopped.stderr
    assert venue.until_ended() == 0
    assert view.phase == Phase.STOPPED
    venue.check_nothing_left()
    taken = view.cursor(0)

    venue.start()
    again = venue.until_running(epoch=2)
    assert int(again.engine["recovered_seq"]) == taken
    wait_until(lambda: again.cursor(0) > taken + 500, 30, "no commands after recovery")
    assert venue.stop() == 0
    venue.check_nothing_left()


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_door_rouses_all_on_a_commands_way(venues: Venues, topology: str) -> None:
    shards = 2 if topology == "split" else 1
    venue = venues("--topology", topology, "--no-clock", settings={"shards": shards})
    venue.start()
    view = venue.until_running()
    door = Door(venue.instance, "demo")
    cells = door._control.arrays["control"]
    bells = [doorbell(k) for k, w in enumerate(view.workers()) if w.stages != ["publish"]]
    assert len(bells) == (2 if topology == "fused" else 5)

    def rung() -> list[int]:  # and one more for who sleeps just now
        return [int(cells[bell + SLEEPS] - cells[bell + TIMEOUTS]) for bell in bells]

    before = rung()
    for _ in range(5):
        wait_until(lambda: all(cells[bell + SLEEP] == 1 for bell in bells), 30, "somebody is awake")
        door.rouse()
    wait_until(
        lambda: all(n >= b + 4 for n, b in zip(rung(), before, strict=True)), 30, "one slept"
    )
    assert view.cursor(SEQUENCED) == int(view.engine["recovered_seq"]), "and nothing was done"
    door.close()
    assert venue.stop() == 0


ONE_WORKER = """
[[topology]]
name = "all"
stages = ["sequence", "risk", "match:*", "settle", "journal", "publish"]
cpu = 4095
scheduler = "nice:5"
lock_memory = false
"""


def test_one_worker_may_do_everything_and_says_what_it_was_refused(
    venues: Venues, tmp_path: Path
) -> None:
    config = tmp_path / "perpcore.toml"
    config.write_text(ONE_WORKER)
    venue = venues("--config", str(config), "--traffic", "1000")
    venue.start()
    view = venue.until_running()
    wait_until(lambda: view.cursor(0) > 500, 30, "no commands")
    (worker,) = status_of(venue.instance)["workers"]
    assert worker["refused"] == ["CPU"]
    assert os.getpriority(os.PRIO_PROCESS, worker["pid"]) == 5
    assert "cpu = 4095: Invalid argument" in venue.said()
    assert venue.stop() == 0
    venue.check_nothing_left()


def test_a_subscriber_hears_a_running_venue(venues: Venues) -> None:
    venue = venues("--traffic", "2000")
    venue.start()
    view = venue.until_running()
    with zmq.Context() as context, context.socket(zmq.SUB) as sub:
        sub.setsockopt(zmq.LINGER, 0)
        sub.subscribe(b"reports")
        sub.connect(f"ipc://{venue.data}/publisher.sock")
        seen, last_seq, following = 0, 0, None
        while seen < 2000:
            assert sub.poll(30_000), "silence"
            _, packed, body = sub.recv_multipart()
            header = msgpack.unpackb(packed)
            assert header["instance"] == venue.instance and header["epoch"] == view.epoch
            assert header["first_index"] == following or following is None
            following = header["first_index"] + header["count"]
            rows = np.frombuffer(body, REPORT.dtype)
            assert len(rows) == header["count"] and (np.diff(rows["seq"]) >= 0).all()
            if len(rows):
                assert rows["seq"][0] >= last_seq
                last_seq = rows["seq"][-1]
            seen += len(rows)
        assert last_seq <= view.cursor(JOURNALED)
    assert venue.stop() == 0
    venue.check_nothing_left()


def test_two_at_once_and_who_may_not_join_them(venues: Venues) -> None:
    first, second = venues(), venues()
    first.start()
    second.start()
    first.until_running()
    second.until_running()

    same_data = perpcore("up", "--instance", "other", "--data", str(first.data))
    assert same_data.returncode == 1
    assert f"{first.data}/lock: in use by an engine, pid {first.pid}" in same_data.stderr
    same_name = perpcore(
        *("up", "--instance", first.instance, "--data", str(first.data.parent / "new"))
    )
    assert same_name.returncode == 1
    assert f"{first.instance}.control: in use, written by pid {first.pid}" in same_name.stderr

    assert first.stop() == 0
    first.check_nothing_left()
    assert status_of(second.instance)["phase"] == "RUNNING", "its neighbour's end is not its own"
    gone = perpcore("status", "--instance", first.instance)
    assert gone.returncode == 1 and "not running" in gone.stderr
    assert second.instance in gone.stderr, "what does run is named"
    assert perpcore("stop", "--instance", first.instance).returncode == 1
    assert second.stop() == 0
    second.check_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_control_c_and_the_like_reach_the_whole_group(venues: Venues, number: int) -> None:
    venue = venues("--traffic", "2000")
    venue.start()
    view = venue.until_running()
    wait_until(lambda: view.cursor(0) > 500, 30, "no commands")
    os.killpg(venue.pid, number)
    assert venue.until_ended() == 0
    assert view.phase == Phase.STOPPED
    assert "Traceback" not in venue.said()
    assert "nothing left behind" in venue.said()
    venue.check_nothing_left()


def test_sigterm_to_a_worker_stops_all_in_order(venues: Venues) -> None:
    venue = venues("--traffic", "2000")
    venue.start()
    view = venue.until_running()
    os.kill(venue.worker("engine"), signal.SIGTERM)
    assert venue.until_ended() == 0
    assert view.phase == Phase.STOPPED
    venue.check_nothing_left()


def test_a_second_signal_ends_it_at_once(venues: Venues) -> None:
    venue = venues("--traffic", "2000")
    venue.start()
    view = venue.until_running()
    os.kill(venue.worker("journal"), signal.SIGSTOP)  # so that it can't finish
    os.kill(venue.pid, signal.SIGTERM)
    wait_until(lambda: view.phase == Phase.DRAINING, 30, "it doesn't stop")
    assert venue.stop() == 130
    venue.check_nothing_left()


def test_a_worker_that_hangs_is_taken_for_dead(venues: Venues) -> None:
    venue = venues("--traffic", "500", settings={"heartbeat_timeout_ms": 1500})
    venue.start()
    venue.until_running()
    os.kill(venue.worker("engine"), signal.SIGSTOP)
    venue.until_running(epoch=2)
    assert "no heartbeat for" in venue.said()
    assert venue.stop() == 0
    venue.check_nothing_left()


def test_the_server_they_were_forked_from_dies(venues: Venues) -> None:
    """Whoever it forked dies with it, at once; the next start has another one."""
    venue = venues("--traffic", "500")
    venue.start()
    venue.until_running()
    workers = [venue.worker(name) for name in ("engine", "journal", "publisher")]
    (server,) = {psutil.Process(pid).ppid() for pid in workers}
    assert server != venue.pid and psutil.Process(server).ppid() == venue.pid
    os.kill(server, signal.SIGKILL)
    venue.until_running(epoch=2)
    for pid in workers:
        with suppress(psutil.NoSuchProcess):
            assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert "killed together with the server" in venue.said()
    assert venue.stop() == 0
    venue.check_nothing_left()


def test_without_restart_a_death_is_the_end(venues: Venues) -> None:
    venue = venues("--no-restart")
    venue.start()
    venue.until_running()
    os.kill(venue.worker("journal"), signal.SIGKILL)
    assert venue.until_ended() == 70
    assert "killed by SIGKILL" in venue.said()
    venue.check_nothing_left()


def test_what_no_restart_cures_is_said_once(venues: Venues) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        venue = venues(settings={"publisher.tcp": f'"{address}"'})
        venue.start()
        assert venue.until_ended(150) == 70
    assert venue.said().count(f"cannot bind tcp://{address}: Address already in use") == 1
    venue.check_nothing_left()


def test_the_supervisor_killed_takes_its_workers_along(venues: Venues) -> None:
    venue = venues("--traffic", "2000")
    venue.start()
    view = venue.until_running()
    wait_until(lambda: view.cursor(0) > 500, 30, "no commands")
    os.kill(venue.pid, signal.SIGKILL)
    assert venue.until_ended() == -signal.SIGKILL
    wait_until(lambda: not venue.processes(), 5, "workers outlive their supervisor")
    assert venue.segments(), "it had no time to clean up"
    dead = perpcore("status", "--instance", venue.instance)
    assert dead.returncode == 1 and "the process that made it is gone" in dead.stderr
    venue.start()
    again = venue.until_running(epoch=2)
    assert int(again.engine["recovered_seq"]) > 0
    assert venue.stop() == 0
    venue.check_nothing_left()


def test_systemd_is_told(venues: Venues, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        path = str(tmp_path / "notify")
        heard.bind(path)
        heard.settimeout(START_SECONDS)
        said: list[str] = []

        def listen() -> None:
            while not said or "STOPPING=1" not in said[-1]:
                said.append(heard.recv(4096).decode())

        # Meanwhile: the socket has room for ten, and nobody waits for who doesn't read.
        with ThreadPoolExecutor(1) as pool:
            listening = pool.submit(listen)
            venue = venues(environment={"NOTIFY_SOCKET": path})
            venue.start()
            venue.until_running()
            assert venue.stop() == 0
            listening.result()
    assert [s.splitlines()[0] for s in said if "=1" in s and "WATCHDOG" not in s] == [
        "READY=1",
        "STOPPING=1",
    ]


def test_stop_signals_at_any_moment(venues: Venues, long_run: bool) -> None:
    """From the first instruction to well into running: it ends, and nothing is left."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    venue = venues("--traffic", "2000", "--topology", "fused")
    lock = venue.data / "lock"
    for _ in range(60 if long_run else 10):
        # It has its handlers when it locks the directory. Before, a signal does what it does to any
        # Python.
        lock.unlink(missing_ok=True)
        venue.start()
        delay, number = dice.uniform(0, 4.0), dice.choice((signal.SIGTERM, signal.SIGINT))
        time.sleep(delay)
        code = venue.stop(number)
        early = (-signal.SIGTERM, -signal.SIGINT, 1, 130)
        what = f"signal {number} after {delay:.3f} s: {code}\n{venue.said()[-3000:]}"
        assert code == 0 or (code in early and not lock.exists()), what
        venue.check_nothing_left()
