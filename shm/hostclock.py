"""How far this host's clock is off, as the kernel has it from whatever disciplines it.

Reads   adjtimex(2): what chrony, ntpd or systemd-timesyncd told the kernel last.
Never   sets anything. A clock that nobody disciplines has no offset: None, and not zero.
"""

from __future__ import annotations

import ctypes
from typing import Final, NamedTuple

_STA_UNSYNC: Final = 0x40
_STA_NANO: Final = 0x2000


class HostClock(NamedTuple):
    """The kernel's estimates."""

    offset_ns: int  # still to be slewed; positive: the clock is behind
    error_ns: int  # estimated error besides

    @property
    def off_ns(self) -> int:
        """How far off it may well be."""
        return abs(self.offset_ns) + self.error_ns


class _Timex(ctypes.Structure):
    """struct timex, as far as it is read."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def host_clock() -> HostClock | None:
    """What the kernel knows of its clock; None when nobody disciplines it."""
    timex = _Timex()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(ctypes.byref(timex)) < 0 or timex.status & _STA_UNSYNC:
        return None
    unit = 1 if timex.status & _STA_NANO else 1000
    return HostClock(timex.offset * unit, timex.esterror * 1000)
