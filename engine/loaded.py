"""What the server of engine/forks.py has loaded before it forks: it imports this, nobody else does.

Kernels that were never compiled are left to the supervisor, which compiles and says so.
"""

from __future__ import annotations

import gc
import os

from engine.forks import SUPERVISOR, die_with

die_with(int(os.environ[SUPERVISOR]))

import engine.clock  # noqa: E402
import engine.journal  # noqa: E402
import engine.publisher  # noqa: E402, F401
from engine import compiling  # noqa: E402
from engine.worker import name_process  # noqa: E402

name_process("pc-forks")
if compiling.is_compiled():
    compiling.compile_all(None)
gc.collect()
gc.freeze()  # a collection in a child would copy every page that holds an object
