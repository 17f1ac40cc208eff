"""Flips: close claims that no longer hold, after a fill or a deleveraging took their position.

Reads   what is claimed of a position, and how much of it there is.
Writes  claims and holds of the robbed orders; FLIP reports; proposals for those that must end.
Never   leaves a position with more claims than it bears. engine/claims.py has the protocol.
"""

from __future__ import annotations

from typing import Final

from engine import claims, reports
from engine.reports import Out
from engine.state import Risk
from shm.codes import Flag
from shm.jit import kernel, rarely
from shm.pointers import Cells
from shm.units import NIL

_REDUCE_ONLY: Final = int(Flag.REDUCE_ONLY)


@kernel
def flip_robbed(
    r: Risk,
    out: Out,
    cursors: Cells,
    setup: Cells,
    seq: int,
    position: int,
    thief: int,
    resting: bool,
) -> bool:
    """Flip close claims until the position bears the rest: plain ones, then reduce-only ones, each
    from the newest. Returns False when the reports ring is full; called again, it goes on.

    thief     row of the order that took what they had claimed; NIL: no order did
    resting   it rests; before, a reduce-only order robs others only of what it has traded
    """
    rarely()
    p = r.positions[position]
    allowed = claims.backed(r, position)
    spared = NIL
    thief_order_id = 0 if thief == NIL else r.claims[thief]["order_id"]
    if not resting and r.claims[thief]["flags"] & _REDUCE_ONLY:
        spared = thief
        allowed += r.claims[thief]["close_lots"]
    for kind in range(2):
        slot = p["last_closer"]
        while slot != NIL and p["close_lots"] > allowed:
            c = r.claims[slot]
            older = c["prev_closer"]
            if slot != spared and (c["flags"] & _REDUCE_ONLY != 0) == (kind == 1):
                if not reports.has_room(r, cursors, setup):
                    return False
                lots = min(p["close_lots"] - allowed, c["close_lots"])
                held = c["hold_quanta"]
                apart = c["apart"]
                opened = claims.flip_to_open(r, setup, slot, lots)
                reports.flip(r, out, setup, seq, slot, thief_order_id, lots, held, opened)
                reports.hold(
                    r,
                    out,
                    setup,
                    seq,
                    slot,
                    c["apart"] != apart,
                    c["hold_quanta"],
                    0,
                    c["close_lots"],
                    c["open_lots"],
                )
            slot = older
    return True
