"""What the user store changed, as AUDIT commands say it: first in the WAL, without a secret.

    note    action | principal | account
    note2   key name, 16 bytes | user | scopes | expiry, ms

A user store that was restored from an old copy is brought up to date from these: what the WAL says
was revoked stays revoked (`reconcile`).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np

from gateways.users.store import Store, key_name
from shm.codes import Kind, ReportKind
from shm.kinds import command
from shm.records import PARAMETERS_REPORT, REPORT

FIRST: Final = int(Kind.AUDIT) << 2  # `status` of the first of an AUDIT's PARAMETERS


class Action(IntEnum):
    """What was done. Part of the log: append, never renumber."""

    USER_ADD = 1
    USER_DISABLE = 2
    PASSWORD = 3
    TOTP = 4
    KEY_NEW = 5
    KEY_REVOKE = 6
    ACCOUNT_ADD = 7


class Audit(NamedTuple):
    """One entry."""

    action: Action
    principal: int
    account: int = 0
    api_key: str = ""
    user_id: int = 0
    scopes: int = 0
    expires_ms: int = 0

    def row(self) -> np.ndarray[Any, Any]:
        """The AUDIT command, still without a number."""
        name = key_name(self.api_key) if self.api_key else bytes(16)
        words = np.frombuffer(name, np.int64).tolist()
        return command(
            Kind.AUDIT,
            account=self.account,
            note=[int(self.action), self.principal, self.account],
            note2=[*words, self.user_id, self.scopes, self.expires_ms, 0, 0, 0],
            lines=3,
        )


def revoked_names(reports: np.ndarray[Any, Any]) -> list[bytes]:
    """Names of the keys that these reports say were revoked."""
    wanted = (reports["kind"] == ReportKind.PARAMETERS) & (reports["status"] == FIRST)
    if not wanted.any():
        return []
    payloads = reports[wanted].view(PARAMETERS_REPORT.dtype)["payload"]
    return [payload[3:5].tobytes() for payload in payloads if int(payload[0]) == Action.KEY_REVOKE]


def reconcile(store: Store, batches: Iterable[np.ndarray[Any, Any]], end: int) -> int:
    """Revoke what the log says was revoked; returns how many keys that were.

    batches     reports from `store.reconciled()` on
    end         index one past the last of them
    """
    count = 0
    for reports in batches:
        assert reports.dtype == REPORT.dtype
        for name in revoked_names(reports):
            count += store.revoke_named(name)
    store.set_reconciled(end)
    return count
