"""Notes: commands that the engine sequences, keeps and repeats in its reports, and does not read.

BOOKKEEPING (reversal, period close, custody correction: the ledger's) and AUDIT (what the user
store changed, without secrets) become facts of the one order of everything this way: durable,
replayed, and told to followers word for word as PARAMETERS. UPGRADE names, in the first word of its
note, the release that goes on from here (engine/releases.py).
"""

from __future__ import annotations

from engine.checks import account_reason, symbol_reason
from engine.commands import WORDS, Commands
from engine.state import Risk
from shm.codes import Kind, Reason
from shm.jit import kernel
from shm.pointers import Cells
from shm.records import NO_SYMBOL
from shm.units import RELEASE_MAX


@kernel
def decide_note(r: Risk, setup: Cells, cs: Commands, at: int) -> int:
    """Only the envelope is checked: codes that have no meaning here are 0, and whom or where it is
    about must exist. Taken in any state of the venue: books are closed while it is halted."""
    c = cs.base[at]
    if c["side"] | c["type"] | c["tif"] | c["flags"] | c["stp"] | c["position_side"] != 0:
        return Reason.MALFORMED
    reason = account_reason(r, setup, c["account"])
    if reason == Reason.NONE and c["symbol"] != NO_SYMBOL:
        reason = symbol_reason(r, setup, c["symbol"])
    if reason == Reason.NONE and c["kind"] == Kind.UPGRADE:
        release = cs.words[at * WORDS + 3]
        if release < 1 or release > RELEASE_MAX:
            reason = Reason.BAD_PARAMETER
    return reason
