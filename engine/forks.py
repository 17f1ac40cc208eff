"""The engine's processes are forked from a server that has loaded everything once.

    supervisor ──starts──> server: imports, loads kernels (engine/loaded.py)
    supervisor ──asks────> server ──forks──> worker, worker, clock, ...

Reads   nothing.
Writes  nothing.
Never   forks a process in which threads run: the server has none, the supervisor has.

A process of its own that imports numba and loads kernels takes a second of a core, and a venue has
several on few cores. The server (multiprocessing's forkserver) does it once, while the supervisor
does the same for itself, and stays: a group that must start again starts in milliseconds.

Whoever was forked dies with the server, and the server with the supervisor: both by the kernel's
hand (PR_SET_PDEATHSIG), as what is inherited, an open pipe, would keep the server alive.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerProcess
from typing import Any, Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOADED: Final = "engine.loaded"  # the module that the server imports
SUPERVISOR: Final = "PERPCORE_SUPERVISOR"  # in the server's environment: its pid

_TRIES: Final = 10
_DYING_SECONDS: Final = 0.1
_PR_SET_PDEATHSIG: Final = 1
_EX_PARENT_GONE: Final = 69


def start_server() -> None:
    """Have the server load what it has to; returns at once. Needless before `start_process`."""
    _blocked(forkserver.ensure_running)


def start_process(
    target: Callable[..., None], args: tuple[Any, ...], name: str
) -> ForkServerProcess:
    """Start a child; SIGNALS are blocked in it until it unblocks them itself.

    raises      RuntimeError when the server dies again and again
    """
    context = multiprocessing.get_context("forkserver")
    for _ in range(_TRIES):
        process = context.Process(target=target, args=args, name=name, daemon=True)
        try:
            _blocked(process.start)
            return process
        except (ConnectionError, EOFError):
            # It was killed, and isn't gone yet: the next one is started when it is.
            time.sleep(_DYING_SECONDS)
    raise RuntimeError(f"the server that {name} is to be forked from dies: see its traceback")


def _blocked(act: Callable[[], None]) -> None:
    # multiprocessing's tracker unblocks signals when it starts, so it must be there before.
    resource_tracker.ensure_running()
    multiprocessing.get_context("forkserver").set_forkserver_preload([LOADED])
    os.environ[SUPERVISOR] = str(os.getpid())
    # The server inherits the mask, and its children do: Ctrl-C can't hit one before it has its
    # handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        act()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(_EX_PARENT_GONE)  # it died before we could ask


def die_with_server() -> None:
    """The same for what `start_process` started: the server first, when the supervisor dies."""
    assert LOADED in sys.modules, f"the fork server did not import {LOADED}: see its traceback"
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    supervisor = multiprocessing.parent_process()
    assert supervisor is not None
    if not supervisor.is_alive():
        os._exit(_EX_PARENT_GONE)
