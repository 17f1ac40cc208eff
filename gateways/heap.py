"""How a door collects garbage: seldom, and never what it was started with.

Orders that rest are what a door's heap consists of, and none of it is garbage. At the usual
thresholds every few hundred orders have some of it looked through again, and all of it each time it
has grown by a quarter: a seventh of what an order costs (bench/gateways_http.py).

Never   turns the collector off: what errors leave behind in cycles is found among the young.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 50_000  # more containers made than freed, before somebody looks at those
OLDER: Final = 20
OLDEST: Final = 100


def settle() -> None:
    """When everything has been made that lasts: leave it out from now on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, OLDER, OLDEST)
