"""`perpcore follow`: one of the processes that read durable reports and serve everybody else.

Reads   configuration; the rest is the follower's own (gateways/follow.py).
Writes  a line when it is ready, one when it has ended.
"""

from __future__ import annotations

import logging
from typing import Final

from gateways.follow import Follower
from shm.config import Config
from shm.logs import say, set_up
from shm.notify import Patience

LOG: Final = logging.getLogger("perpcore.follow")
FOLLOWERS: Final = ("accounts", "marketdata", "history")
_START_SECONDS: Final = 600.0


def make(which: str, config: Config) -> Follower:
    """The follower of that name, its state as its last checkpoint says."""
    if which == "accounts":
        from gateways.accounts.main import AccountsFollower

        return AccountsFollower(config)
    if which == "marketdata":
        from gateways.marketdata.main import MarketDataFollower

        return MarketDataFollower(config)
    assert which == "history"
    from gateways.history.main import HistoryFollower

    return HistoryFollower(config)


def compile_kernels() -> None:
    """Compile, or load from the cache, what followers run."""
    from gateways.accounts import figures
    from gateways.accounts import main as accounts

    accounts.compile_kernels()
    figures.compile_kernels()


def run(which: str, config: Config) -> int:
    """Follow until a signal says stop; returns the exit code."""
    set_up("follower", config.instance, config.log_level, which)
    with Patience(_START_SECONDS):
        follower = make(which, config)
    say(LOG, logging.INFO, "following", report=follower.source.next)
    follower.run()
    say(LOG, logging.INFO, "stopped", report=follower.source.next)
    return 0
