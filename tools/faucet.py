"""The demo's faucet: a funded account with an API key, made once; and play money for whoever asks.

Reads   the demo's user store.
Writes  through the admin socket (gateways/http/adminclient.py): every deposit is a command in the
        WAL, its source is the faucet, and the ledger shows it as money of no value.
Never   gives anything in a directory that is no demo's.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

import zmq

from gateways.http.admin import Administrator, Principal
from gateways.http.adminclient import administer
from gateways.http.main import open_store
from gateways.users.store import Store
from shm.codes import Kind
from shm.config import Config
from shm.files import create_file
from tools import demoplan
from tools.demomarket import FAUCET, USDT, USDT_SCALE
from tools.demoplan import DemoError

USER: Final = "demo"
LABEL: Final = "faucet"
SCOPES: Final = "read,trade"
FIRST: Final = Decimal(100_000)
MOST: Final = Decimal(1_000_000_000)  # at once
AMOUNT: Final = re.compile(rf"[0-9][0-9_]{{0,15}}(\.[0-9]{{1,{USDT_SCALE}}})?")


class Access(NamedTuple):
    """What a client needs to know."""

    account: int
    api_key: str
    secret: str
    endpoint: str = ""  # of the native gateway, with the CURVE keys of server and client
    server_key: str = ""
    public_key: str = ""
    secret_key: str = ""
    feed: str = ""  # of native market data, and where to ask for snapshots
    ask: str = ""


def _known(store: Store) -> tuple[bool, int | None, Access | None]:
    """(whether there is the user, its account, its key) as far as they were made before."""
    user = store.user(USER)
    if user is None:
        return False, None, None
    accounts = store.accounts_of(user.id)
    rows = {row["api_key"] for row in store.key_rows() if row["label"] == LABEL}
    for key in store.every_key():
        good = key.api_key in rows and key.user_id == user.id and not key.revoked_ms
        if good and key.kind == "hmac":
            return True, key.account, Access(key.account, key.api_key, key.secret.decode())
    return True, accounts[0][0] if accounts else None, None


def known_access(config: Config) -> Access | None:
    """The faucet account's keys, where they were made before."""
    store, _, _ = open_store(config)
    try:
        access = _known(store)[2]
    finally:
        store.close()
    return access and _with_native(config, access, native_pair(config))


def open_account(config: Config) -> Access:
    """The faucet account and its keys: those of the first start, made now if this is it.

    Interrupted anywhere, the next call goes on with what is missing.
    """
    store, _, _ = open_store(config)
    try:
        there, account, access = _known(store)
        native = native_pair(config)
        registered = {row["api_key"] for row in store.key_rows()}
    finally:
        store.close()
    if access is None:
        access = _opened(config, there, account)
    if native[0] not in registered:
        _new_key(config, access.account, curve=native[0])
    return _with_native(config, access, native)


def native_pair(config: Config) -> tuple[str, str]:
    """The faucet account's own CURVE keys, public and secret: play money is all they open."""
    path = demoplan.folder_of(Path(config.data_dir)) / "native.key"
    if not path.exists():
        create_file(path, b"\n".join(zmq.curve_keypair()))
    public, secret = path.read_text().splitlines()
    return public, secret


def _with_native(config: Config, access: Access, native: tuple[str, str]) -> Access:
    server = config.curve_key_path.read_text().split()[0] if config.curve_key_path.exists() else ""
    return access._replace(
        endpoint=config.zmq_endpoints[0],
        server_key=server,
        public_key=native[0],
        secret_key=native[1],
        feed=config.market_endpoints[0],
        ask=config.market_ask_endpoints[0],
    )


def _opened(config: Config, there: bool, account: int | None) -> Access:
    """The account, its first money and its key for HTTP."""
    if not there:
        # Nobody logs in with it: an operator may set another (POST /users/password).
        password = secrets.token_urlsafe(24)
        body: dict[str, Any] = {"name": USER, "password": password, "admin": False}
        account = administer(
            config, "/users", body, lambda admin, who: admin.add_user(who, USER, password)
        )["account"]
    if account is None:
        account = administer(config, "/accounts", {"name": USER}, _add_account)["account"]
    give(config, account, FIRST, f"demo-first-{account}")
    made = _new_key(config, account)
    return Access(account, made["apiKey"], made["secret"])


def _new_key(config: Config, account: int, **more: str) -> dict[str, Any]:
    terms: dict[str, Any] = {"account": account, "scopes": SCOPES, "label": LABEL, **more}
    made: dict[str, Any] = administer(
        config,
        "/keys",
        {"name": USER, **terms},
        lambda admin, who: admin.new_key(who, USER, **terms),
    )
    return made


async def _add_account(admin: Administrator, who: Principal) -> Any:
    return {"account": await admin.add_account(who, USER)}


def account_of(config: Config, who: str) -> int:
    """An account by its number, or the first one of a user; DemoError when there is none."""
    if who.isascii() and who.isdecimal():
        return int(who)
    store, _, _ = open_store(config)
    try:
        user = store.user(who)
        accounts = store.accounts_of(user.id) if user is not None else []
    finally:
        store.close()
    if not accounts:
        raise DemoError(f"{who!r} is neither an account's number nor a user with an account")
    return accounts[0][0]


def amount_of(text: str) -> Decimal:
    """An amount of USDT as people write it; DemoError for what is none."""
    if not AMOUNT.fullmatch(text):
        raise DemoError(f"{text!r} is no amount, as in 5000 or 0.5")
    amount = Decimal(text.replace("_", ""))
    if not 0 < amount <= MOST:
        raise DemoError(f"{text}: must be above 0 and at most {MOST:,}")
    return amount


def give(config: Config, account: int, amount: Decimal, name: str = "") -> dict[str, Any]:
    """Play money for an account; the same name is not done twice.

    raises      AdminError with the engine's reason, SegmentError when no demo runs
    """
    fields = {
        "account": account,
        "asset": USDT,
        "amount_quanta": int(amount.scaleb(USDT_SCALE)),
        "source": FAUCET,
        "client_id": name or f"faucet-{time.time_ns()}-{secrets.token_hex(4)}",
    }
    path = f"/commands/{Kind.DEPOSIT.name.lower()}"
    answer: dict[str, Any] = administer(
        config, path, fields, lambda admin, who: admin.act(who, Kind.DEPOSIT, fields)
    )
    return answer


if __name__ == "__main__":  # what `perpcore demo` asks for, without loading all of this itself
    print(json.dumps(open_account(demoplan.config_of_demo(Path(sys.argv[1])))._asdict()))
