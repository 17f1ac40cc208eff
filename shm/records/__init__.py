"""Every record that crosses a process boundary or reaches disk, declared once.

From these declarations come the dtypes kernels compile against, `perpcore layouts`, and the
digest stamped into every segment and file header. No other file writes an offset or a width.

The modules are told here in the order of that digest; everybody imports from `shm.records`.
"""

from shm.records.layout import *  # noqa: F403, I001 - the order is the digest's
from shm.records.commands import *  # noqa: F403
from shm.records.reports import *  # noqa: F403
from shm.records.state import *  # noqa: F403
from shm.records.views import *  # noqa: F403
from shm.records.memory import *  # noqa: F403
from shm.records.files import *  # noqa: F403
from shm.records.ledger import *  # noqa: F403
