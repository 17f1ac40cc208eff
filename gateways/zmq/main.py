"""`perpcore gateway zmq`: the native gateway, until it is told to stop.

Reads   the configuration, the user store, its own CURVE key pair.
Writes  what it serves, on stderr.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import signal
from contextlib import suppress
from typing import Final

from gateways import heap
from gateways.doorcounts import DoorCounts
from gateways.http.main import bring_up_to_date, checked_producer, loop_factory, open_store
from gateways.users.keyring import KeyRing
from gateways.zmq.curvekey import curve_key
from gateways.zmq.gateway import Gateway
from shm.config import Config
from shm.logs import say, set_up
from shm.notify import notify

LOG: Final = logging.getLogger("perpcore.zmq")
_PR_SET_TIMERSLACK: Final = 29
_SLACK_NS: Final = 1000  # the usual 50 us is a third of what an answer takes


async def serve(config: Config, producer: str, stop: asyncio.Event) -> None:
    """Run one gateway until `stop` is set."""
    checked_producer(config, producer)
    store, _, _ = open_store(config)
    bring_up_to_date(config, store)
    gateway = Gateway(config, producer, KeyRing(store), store)
    await gateway.start()
    public, _ = curve_key(config)
    say(LOG, logging.INFO, "serving", url=" ".join(config.zmq_endpoints), public=public.decode())
    counts = DoorCounts(config.instance, producer)
    heap.settle()
    notify("READY=1")
    try:
        while not stop.is_set():
            notify("WATCHDOG=1")
            counts.tell(gateway.counts())
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1.0)
            if gateway.failed is not None:
                raise gateway.failed
    finally:
        notify("STOPPING=1")
        counts.close()
        await gateway.stop()
        store.close()


def run(config: Config, producer: str) -> int:
    """Run one gateway in the foreground; returns the exit code."""
    set_up("gateway", config.instance, config.log_level, producer)

    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _SLACK_NS)

    async def until_told() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(config, producer, stop)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(until_told())
    return 0
