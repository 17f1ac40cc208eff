"""`perpcore gateway http`: one HTTP and WebSocket gateway, until it is told to stop.

Reads   the configuration; an inherited listening socket where there is one (systemd).
Writes  what it serves, on stderr.

Several gateways of one host take producers gateway0 to gateway7 of the configuration and share the
port. A stop is orderly: no more connections, requests on their way are answered, sockets told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from gateways import heap
from gateways.accounts import figures
from gateways.doorcounts import DoorCounts
from gateways.http.admin import Administrator
from gateways.http.adminsocket import AdminSocket, listen
from gateways.http.desk import Desk
from gateways.http.gate import Gate
from gateways.http.limits import Limits, Rates
from gateways.http.logins import LoginRoutes
from gateways.http.server import Front
from gateways.unixsocket import remove
from gateways.users.audit import reconcile
from gateways.users.keyring import KeyRing
from gateways.users.logins import Logins
from gateways.users.seal import Seal
from gateways.users.store import Store
from shm.config import Config, ConfigError
from shm.files import DataError, read_manifest
from shm.logs import Bounded, say, set_up
from shm.notify import Patience, notify
from shm.reportlog import ReportLogReader

LOG: Final = logging.getLogger("perpcore.http")
FIRST_INHERITED: Final = 3  # systemd's
STOP_S: Final = 10.0
READY_S: Final = 3.0
_COMPILE_S: Final = 600.0  # on a cold cache, on a slow host
BACKLOG: Final = 1024
ADMIN: Final = "admin"
CREDENTIAL: Final = "seal.key"


def inherited_sockets() -> list[socket.socket]:
    """Listening sockets that systemd opened for us (sd_listen_fds)."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(os.environ.get("LISTEN_FDS", "0"))
    return [socket.socket(fileno=FIRST_INHERITED + k) for k in range(count)]


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that other gateways may share."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise OSError(
            error.errno, f"cannot listen on {host}:{port}: {error.strerror}. Set http.port"
        ) from None
    return made


def _tls(config: Config) -> ssl.SSLContext | None:
    http = config.http
    if not http.tls_certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(http.tls_certificate, http.tls_key)
    return context


def master_key(config: Config) -> Path:
    """The file that seals secrets: systemd's credential where there is one."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY", "")
    path = Path(credentials) / CREDENTIAL
    return path if credentials and path.exists() else config.master_key_path


def open_store(config: Config) -> tuple[Store, Seal, bytes]:
    """The user store, what opens its secrets, and the key itself."""
    path = master_key(config)
    seal = Seal.load(path, create=path == config.master_key_path)
    return Store(config.users_path, seal), seal, path.read_bytes()


def bring_up_to_date(config: Config, store: Store) -> None:
    """Revoke what the WAL says was revoked: the file may have been restored from an old copy."""
    data = Path(config.data_dir)
    try:
        reader = ReportLogReader(data, read_manifest(data))
    except DataError:
        return  # nothing was ever logged here
    try:
        end = reader.find_end()
        first = min(max(store.reconciled(), reader.first_index), end)
        count = reconcile(store, reader.batches(first, end), end)
        if count:
            LOG.warning("users: %d keys were revoked that the log says were revoked", count)
    finally:
        reader.close()


async def beat(desk: Desk, stop: asyncio.Event, told: Callable[[], None] | None = None) -> None:
    """Until told to stop: say that we live, and our figures; end when the desk can't go on."""
    while not stop.is_set():
        notify("WATCHDOG=1")
        if told is not None:
            told()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 1.0)
        if desk.failed is not None:
            raise desk.failed


def checked_producer(config: Config, producer: str) -> None:
    known = [p.name for p in config.producers]
    if producer not in known:
        raise ConfigError(f"producers: there is no {producer!r}; there are {', '.join(known)}")


async def until_ready(desk: Desk) -> None:
    """Until commands would be answered; not for ever, since an engine may be started later."""
    until = asyncio.get_running_loop().time() + READY_S
    while not desk.ready and asyncio.get_running_loop().time() < until:
        await asyncio.sleep(0.01)


async def serve(config: Config, producer: str, stop: asyncio.Event) -> None:
    """Run one gateway until `stop` is set."""
    checked_producer(config, producer)
    http = config.http
    store, _, master = open_store(config)
    bring_up_to_date(config, store)
    keys = KeyRing(store)
    rates = Rates(http.weight_per_minute, http.orders_per_10s, http.orders_per_minute)
    column = config.producer(producer).id % 8
    limits = Limits(config.users_path.parent / "gateways.limits", column, rates)
    gate = Gate(config, producer, store, keys, limits)
    front = Front(gate, LoginRoutes(store, Logins(store, master)))
    server = front.server()
    runner = web.ServerRunner(server)
    with Patience(_COMPILE_S):
        figures.compile_kernels()
    await gate.start()
    await front.start()
    await until_ready(gate.desk)  # beside others on one port, it answers from its first request on
    await runner.setup()
    tls = _tls(config)
    sockets = inherited_sockets() or [listening_socket(http.host, http.port)]
    for listener in sockets:
        await web.SockSite(runner, listener, ssl_context=tls, backlog=BACKLOG).start()
        host, port = listener.getsockname()[:2]
        scheme = "https" if tls else "http"
        say(LOG, logging.INFO, "serving", url=f"{scheme}://{host}:{port}")
    heap.settle()
    notify("READY=1")
    counts = DoorCounts(config.instance, producer)
    try:
        await beat(gate.desk, stop, lambda: counts.tell(front.counts()))
    finally:
        counts.close()
        notify("STOPPING=1")
        for listener in sockets:
            listener.close()
        await front.stop()
        server.pre_shutdown()
        until = asyncio.get_running_loop().time() + STOP_S
        while gate.desk.waiting and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.01)
        await runner.cleanup()
        await gate.stop()
        limits.close()
        store.close()


async def serve_admin(config: Config, stop: asyncio.Event) -> None:
    """Run the operators' socket until `stop` is set."""
    checked_producer(config, ADMIN)
    store, seal, master = open_store(config)
    bring_up_to_date(config, store)
    desk = admin_desk(config)
    admin = Administrator(config, store, seal, desk)
    await desk.start()
    runner = await listen(AdminSocket(admin, Logins(store, master), desk), config.admin_socket)
    say(LOG, logging.INFO, "serving", socket=str(config.admin_socket))
    notify("READY=1")
    try:
        await beat(desk, stop)
    finally:
        notify("STOPPING=1")
        await runner.cleanup()
        await desk.stop()
        remove(config.admin_socket)
        store.close()


def admin_desk(config: Config) -> Desk:
    """A desk for the producer "admin", that follows nobody's account."""
    return Desk(
        config, ADMIN, lambda *_: None, lambda _: None, config.http.answer_timeout_ms / 1000
    )


def run(config: Config, producer: str) -> int:
    """Run one gateway in the foreground, or the operators' socket; returns the exit code."""
    set_up("gateway", config.instance, config.log_level, producer)
    for name in ("aiohttp.server", "aiohttp.web", "asyncio"):
        logging.getLogger(name).addFilter(Bounded())
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_until_told(config, producer))
    return 0


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _until_told(config: Config, producer: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    if producer == ADMIN:
        await serve_admin(config, stop)
    else:
        await serve(config, producer, stop)
