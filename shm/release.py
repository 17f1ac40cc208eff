"""Which release of the program this is: a number, stamped into what it writes (engine/releases.py).

It counts up whenever the same commands would be decided otherwise; replay never crosses from one
number to another. The version of the package says nothing of that.
"""

from __future__ import annotations

from typing import Final

RELEASE: Final = 1

__all__ = ["RELEASE"]
