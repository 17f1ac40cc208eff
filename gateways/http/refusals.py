"""What the log says of requests that were not done: a line each with its trace id, up to a rate.

Writes  `refused` for what clients got wrong, `failed` for what they couldn't help; each has a bound
        of its own, so that a flood of the one doesn't hide the other.
Never   logs a parameter, a signature or a body: a path, who, and what was answered.
"""

from __future__ import annotations

import logging
from typing import Final

from gateways.http.errors import ApiError
from shm.logs import Bound, say
from shm.traces import Trace, trace_text

LOG: Final = logging.getLogger("perpcore.http")
PER_S: Final = 10
BURST: Final = 100
WHERE_MAX: Final = 128  # characters of what a client called it
# Not done, and not the client's doing: disconnected, unknown, overloaded, a bug of ours.
_FAILURES: Final = frozenset((-1000, -1001, -1007, -1008))


class Refusals:
    """Of one gateway process."""

    def __init__(self) -> None:
        self._refused = Bound(PER_S, BURST)
        self._failed = Bound(PER_S, BURST)
        self._bugs = Bound(PER_S, BURST)

    def note(
        self, error: ApiError, trace: Trace, where: str, address: str, account: int | None = None
    ) -> None:
        """A request ended with an error. where: method and path, as the client wrote them."""
        account = error.account if account is None else account
        failed = error.code in _FAILURES or error.status >= 500
        left_out = (self._failed if failed else self._refused).take()
        if left_out < 0:
            return
        say(
            LOG,
            logging.WARNING if failed else logging.INFO,
            "failed" if failed else "refused",
            trace,
            where=where[:WHERE_MAX],
            status=error.status,
            code=error.code,
            why=error.message,
            address=address,
            **({"account": account} if account is not None else {}),
            **({"left_out": left_out} if left_out else {}),
        )

    def bug(self, trace: Trace, where: str) -> None:
        """The exception being handled is ours; its traceback is the line that matters."""
        left_out = self._bugs.take()
        if left_out >= 0:
            fields = {"trace": trace_text(trace), "where": where[:WHERE_MAX]}
            fields |= {"left_out": str(left_out)} if left_out else {}
            LOG.exception("bug", extra={"fields": fields})
