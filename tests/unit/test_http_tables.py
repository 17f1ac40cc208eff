"""Tables of the HTTP gateway: routes and their rules, command rows, OpenAPI, limits, users."""

from __future__ import annotations

import gc
import hashlib
import hmac
import sys
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import pyotp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateways.http import openapi, wsapi
from gateways.http.auth import authenticate, signature_good
from gateways.http.errors import ApiError
from gateways.http.limits import BAN_FIRST_MS, GRACE, Limits, Rates
from gateways.http.replies import SHAPES
from gateways.http.routes import BY_NAME, ROUTES
from gateways.http.rows import Ask, Origin, Row, rows_of
from gateways.http.schema import Security
from gateways.http.signing import hmac_matches, payload
from gateways.http.transfers import Own, named
from gateways.users import keyring
from gateways.users.audit import Action, Audit, reconcile, revoked_names
from gateways.users.keyring import KeyRing, address_of, allowed
from gateways.users.logins import LoginError, Logins
from gateways.users.seal import Seal, SealError
from gateways.users.store import Scope, Store, StoreError, key_name, scopes_of
from ledger.query import ROUTES as ledger_routes
from shm.codes import Kind, ReportKind
from shm.kinds import command
from shm.records import COMMAND, NO_SYMBOL, PARAMETERS_REPORT, REPORT

ORIGIN = Origin(1, 2, 3, 4, 5, 6)
ROWS: tuple[tuple[Ask, dict[str, Any]], ...] = (
    (
        Ask(Kind.PLACE, 7, ORIGIN, 2, (0, 600, 10), 1, 0, 4, 1, 2, 1, "abc", (99, 0, 0)),
        {"account": 7, "symbol": 2, "price_ticks": 600, "qty_lots": 10, "side": 1, "tif": 4,
         "flags": 1, "stp": 2, "position_side": 1, "client_id": "abc", "expire_ns": 99},
    ),
    (Ask(Kind.CANCEL, 7, ORIGIN, 2, (55, 0, 0)), {"account": 7, "symbol": 2, "order_id": 55}),
    (
        Ask(Kind.PLACE_ALGO, 7, ORIGIN, 2, (5, 6, 7), 1, 4, name="n", more=(1, 2, 3)),
        {"account": 7, "symbol": 2, "trigger_ticks": 5, "price_ticks": 6, "qty_lots": 7, "side": 1,
         "type": 4, "client_id": "n", "expire_ns": 1, "activate_ticks": 2, "terms": 3},
    ),
    (Ask(Kind.LEVERAGE, 7, ORIGIN, 2, (20, 0, 0)), {"account": 7, "symbol": 2, "leverage": 20}),
    (Ask(Kind.MARGIN_TYPE, 7, ORIGIN, 2, (1, 0, 0)), {"account": 7, "symbol": 2, "value": 1}),
    (
        Ask(Kind.TRANSFER, 7, ORIGIN, words=(5, 0, 8), name="t", more=(3, 0, 0)),
        {"account": 7, "symbol": NO_SYMBOL, "amount_quanta": 5, "reference": 8, "client_id": "t",
         "principal": 3},
    ),
    (Ask(Kind.COUNTDOWN, 7, ORIGIN, 2, (1, 0, 0)), {"account": 7, "symbol": 2, "value": 1}),
)  # fmt: skip


@pytest.mark.parametrize(("ask", "fields"), ROWS, ids=lambda x: getattr(x, "kind", None))
def test_packed_rows_are_what_the_records_say(ask: Ask, fields: dict[str, Any]) -> None:
    row = command(ask.kind, **fields, lines=3, **ORIGIN._asdict())
    row["request"] = 77
    packed = rows_of([ask.packed(77)])
    assert packed.tobytes() == row.view(COMMAND.dtype).tobytes()
    assert ask.trail == Row(row).trail == ORIGIN[:2] + ORIGIN[4:5]
    assert Row(row).packed(77) == packed.tobytes()


# ---------------------------------------------------------------- who may


def test_every_route_has_a_rule() -> None:
    for route in ROUTES:
        if route.security == Security.NONE:
            assert route.scope == "" and route.method == "GET" and not route.changes, route.path
        else:
            assert route.scope in ("read", "trade", "transfer", "withdraw", "audit"), route.path
        if route.changes:
            assert route.security == Security.TRADE and route.scope != "read", route.path
        if route.method != "GET" and route.security != Security.USER_STREAM:
            assert route.changes, route.path
        if route.orders:
            assert route.changes
        assert route.reply in SHAPES and route.summary


def test_the_books_are_for_auditors_and_what_is_ones_own() -> None:
    """The route's rule is the role's: what a customer may not ask needs the scope `audit`."""
    for name, roles in ledger_routes.items():
        route = BY_NAME["GET", f"/ledger/v1/{name}"]
        assert (route.security == Security.NONE) == ("public" in roles)
        if "public" not in roles:
            assert route.security == Security.USER_DATA
            assert route.scope == ("read" if "customer" in roles else "audit")
    own = {name for name, roles in ledger_routes.items() if "customer" in roles}
    assert own == {"accounts", "statement", "entries", "entry", "trace", "proof", "proof-root"}


def test_websocket_methods_are_routes() -> None:
    assert all(route in BY_NAME.values() for route in wsapi.METHODS.values())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "users.db", Seal.load(tmp_path / "master.key", create=True))


def add(store: Store, scopes: Scope, networks: tuple[str, ...] = (), expires_ms: int = 0) -> str:
    name = f"user{len(store.users())}"
    user_id = store.add_user(name, "hash")
    account = store.next_account(1000)
    store.add_account(account, user_id)
    store.add_key(
        f"key-{name}",
        b"secret",
        user_id=user_id,
        account=account,
        scopes=scopes,
        networks=networks,
        expires_ms=expires_ms,
    )
    return f"key-{name}"


def refused(call: Any, *arguments: Any) -> int:
    with pytest.raises(ApiError) as error:
        call(*arguments)
    return error.value.code


SCOPES = (
    *(Scope(0), Scope.READ, Scope.TRADE, Scope.READ | Scope.TRADE, Scope.WITHDRAW, Scope.ADMIN),
    *(Scope.TRANSFER, Scope.AUDIT, Scope.AUDIT | Scope.READ),
)


@pytest.mark.parametrize("scopes", SCOPES, ids=lambda s: str(int(s)))
def test_every_route_against_every_scope(store: Store, scopes: Scope) -> None:
    networks = ("10.0.0.0/8",) if scopes & Scope.WITHDRAW else ()
    text = add(store, scopes, networks)
    keys, now = KeyRing(store), time.time_ns() // 1_000_000
    message = f"timestamp={now}".encode()
    signature = hmac.new(b"secret", message, hashlib.sha256).hexdigest()
    sent: dict[str, Any] = {"timestamp": str(now), "signature": signature}
    address = ip_address("10.1.2.3")
    for route in ROUTES:
        may = route.scope == "" or Scope[route.scope.upper()] in scopes
        arguments = (route, keys, text, address, sent, message, now)
        if may:
            caller = authenticate(*arguments)
            assert (caller.key is None) == (route.security == Security.NONE)
        else:
            assert refused(authenticate, *arguments) == -2015
        if route.security != Security.NONE:
            assert refused(authenticate, route, keys, "", address, sent, message, now) == -2014
            assert (
                refused(authenticate, route, keys, "nobody", address, sent, message, now) == -2015
            )
        if route.security in (Security.USER_DATA, Security.TRADE) and may:
            bent = {**sent, "signature": signature[::-1]}
            assert refused(authenticate, route, keys, text, address, bent, message, now) == -1022
            late = now + 70_000
            assert refused(authenticate, route, keys, text, address, sent, message, late) == -1021


SIGNED_AS = """
  signature          | key asked for
  hexadecimal        | a good one
  hexadecimal        | an Ed25519 one
  hexadecimal        | nobody's
  base64             | a good one
  base64             | an Ed25519 one
  base64             | nobody's
  neither            | a good one
  neither            | an Ed25519 one
  neither            | nobody's
"""


def steps(call: Any, *arguments: Any) -> list[tuple[str, str]]:
    """Every function that is called meanwhile, in order, ours and others'.

    The collector rests: where it happens to run, hypothesis's callback would be among the steps.
    """
    found: list[tuple[str, str]] = []

    def note(_frame: Any, event: str, what: Any) -> None:
        if event in ("call", "c_call"):
            found.append((event, what.__qualname__ if event == "c_call" else _frame.f_code.co_name))

    gc.disable()
    sys.setprofile(note)
    try:
        call(*arguments)
    finally:
        sys.setprofile(None)
        gc.enable()
    return found


def test_what_a_wrong_signature_costs_tells_nothing_of_the_key(store: Store) -> None:
    """The same steps for a key that isn't there, and for one that signs otherwise."""
    add(store, Scope.READ)
    public = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    user_id = store.add_user("ed", "hash")
    account = store.next_account(1000)
    store.add_account(account, user_id)
    store.add_key(
        "key-ed", public, kind="ed25519", user_id=user_id, account=account, scopes=Scope.READ
    )
    keys = KeyRing(store)
    of = {"a good one": "key-user0", "an Ed25519 one": "key-ed", "nobody's": "nobody"}
    shapes = {"hexadecimal": "ab" * 32, "base64": "A" * 86 + "==", "neither": "zz"}
    cost: dict[str, list[list[tuple[str, str]]]] = {}
    for row in SIGNED_AS.strip().splitlines()[1:]:
        shape, who = (cell.strip() for cell in row.split("|"))
        key = keys.signer(of[who])
        assert (key is None) == (who == "nobody's")
        assert not signature_good(key, b"timestamp=1", shapes[shape])
        taken = steps(signature_good, key, b"timestamp=1", shapes[shape])
        cost.setdefault(shape, []).append(taken)
    for shape, taken_by in cost.items():
        assert taken_by[0] == taken_by[1] == taken_by[2], shape
    names = {shape: [name for _, name in found[0]] for shape, found in cost.items()}
    assert "hmac_hex" in names["hexadecimal"] and "compare_digest" in names["hexadecimal"]
    assert any(name.endswith("verify") for name in names["base64"])


ADDRESSES = """
  networks          | from               | allowed
  -                 | 203.0.113.9        | yes
  10.0.0.0/8        | 10.9.8.7           | yes
  10.0.0.0/8        | ::ffff:10.9.8.7    | yes        IPv4 in IPv6 clothes
  10.0.0.0/8        | 11.0.0.1           | no
  10.0.0.0/8        | local              | no
  2001:db8::/32     | 2001:db8::1        | yes
"""


@pytest.mark.parametrize("row", ADDRESSES.strip().splitlines()[1:])
def test_address_lists(store: Store, row: str) -> None:
    networks, source, wanted = (cell.strip() for cell in row.split("|"))
    text = add(store, Scope.READ, () if networks == "-" else (networks,))
    key = KeyRing(store).by_text[text]
    assert allowed(key, Scope.READ, address_of(source)) == (wanted.split()[0] == "yes")


# ---------------------------------------------------------------- users


def test_a_key_is_sealed_and_revoked_for_good(store: Store, tmp_path: Path) -> None:
    text = add(store, Scope.READ)
    assert b"secret" not in (tmp_path / "users.db").read_bytes()
    other = Store(tmp_path / "users.db", Seal.load(tmp_path / "master.key"))
    ring = KeyRing(other)
    assert ring.by_text[text].secret == b"secret"
    assert ring.refresh() == set()
    assert store.revoke_key(text) and store.revoke_key(text)
    assert ring.refresh() == {1} and not ring.by_text and not ring.by_id
    user = store.user("user0")
    assert user is not None
    store.add_key(text, b"new", user_id=user.id, account=1000, scopes=Scope.READ)
    assert not ring.by_text, "the same text again doesn't bring it back"
    ring.refresh()
    assert not ring.by_text


def test_a_key_ends_at_its_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ends_ms = time.time_ns() // 1_000_000 + 60_000
    add(store, Scope.READ, expires_ms=ends_ms)
    ring = KeyRing(store)
    monkeypatch.setattr(keyring, "now_ms", lambda: ends_ms - 1)
    assert ring.refresh() == set() and ring.by_text
    monkeypatch.setattr(keyring, "now_ms", lambda: ends_ms)
    assert ring.refresh() == {1} and not ring.by_text


def test_a_restored_store_learns_what_the_log_says_was_revoked(store: Store) -> None:
    text = add(store, Scope.READ)
    row = Audit(Action.KEY_REVOKE, 3, 1000, text).row()
    words = row.view(COMMAND.dtype).view("<i8")
    payload_words = [*words[3:6], *words[8:11]]
    reports = np.zeros(3, REPORT.dtype)
    reports["kind"][1] = ReportKind.PARAMETERS
    reports["status"][1] = int(Kind.AUDIT) << 2
    reports[1:2].view(PARAMETERS_REPORT.dtype)["payload"][0] = payload_words
    assert revoked_names(reports) == [key_name(text)]
    assert reconcile(store, [reports], 3) == 1
    assert store.reconciled() == 3 and not KeyRing(store).by_text
    assert text.encode() not in row.tobytes() and b"secret" not in row.tobytes()


def test_withdrawing_wants_addresses(store: Store) -> None:
    with pytest.raises(StoreError, match="addresses"):
        add(store, Scope.WITHDRAW)
    assert scopes_of("read, trade") == Scope.READ | Scope.TRADE
    with pytest.raises(StoreError, match="scope 'fly'"):
        scopes_of("fly")


def test_logins(store: Store, tmp_path: Path) -> None:
    logins = Logins(store, (tmp_path / "master.key").read_bytes())
    with pytest.raises(StoreError):
        logins.hash("short")
    store.add_user("ann", logins.hash("long enough"), admin=True)
    tokens = logins.login("ann", "long enough")
    assert logins.principal(tokens.access).admin
    again = logins.refresh(tokens.refresh)
    with pytest.raises(LoginError):
        logins.refresh(tokens.refresh)  # spent; somebody has a copy, so all of them end
    with pytest.raises(LoginError):
        logins.refresh(again.refresh)
    for name, password in (("ann", "wrong password"), ("nobody", "long enough")):
        with pytest.raises(LoginError):
            logins.login(name, password)
    with pytest.raises(LoginError):
        logins.principal(tokens.access[:-2] + "xx")
    with pytest.raises(LoginError):
        logins.principal("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.")
    user = store.user("ann")
    assert user is not None
    store.set_totp(user.id, "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    with pytest.raises(LoginError):
        logins.login("ann", "long enough")
    assert logins.login("ann", "long enough", pyotp.TOTP("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP").now())


def test_the_key_file_is_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    seal = Seal.load(path, create=True)
    sealed = seal.seal(b"x", "a")
    assert seal.open(sealed, "a") == b"x"
    for owner, text in (("b", sealed), ("a", sealed[:-1] + bytes([sealed[-1] ^ 1]))):
        with pytest.raises(SealError):
            seal.open(text, owner)
    path.chmod(0o644)
    with pytest.raises(SealError, match="mode 644"):
        Seal.load(path)
    with pytest.raises(SealError, match="No such file"):
        Seal.load(tmp_path / "absent")


def test_listen_keys_live_for_an_hour_and_are_the_same(store: Store) -> None:
    add(store, Scope.READ)
    first, _ = store.open_listen_key(1000, 1)
    assert store.open_listen_key(1000, 1)[0] == first
    assert store.extend_listen_key(1000) == first and store.extend_listen_key(1001) is None
    store.close_listen_key(1000)
    assert store.open_listen_key(1000, 1)[0] != first
    store.revoke_key("key-user0")
    assert store.listen_keys() == {}


# ---------------------------------------------------------------- limits

NOW = 1_700_000_000_000


def test_weights_are_counted_over_all_gateways(tmp_path: Path) -> None:
    one = Limits(tmp_path / "limits", 0, Rates(100, 10, 20))
    two = Limits(tmp_path / "limits", 1, Rates(100, 10, 20))
    assert one.weigh("a", 60, NOW) == 60
    assert two.weigh("a", 40, NOW) == 100
    assert one.weigh("b", 1, NOW) == 1
    assert refused(one.weigh, "a", 1, NOW) == -1003
    assert one.weigh("a", 1, NOW + 60_000) == 1, "the next minute"


def test_whoever_goes_on_is_banned_everywhere(tmp_path: Path) -> None:
    one = Limits(tmp_path / "limits", 0, Rates(10, 10, 20))
    two = Limits(tmp_path / "limits", 1, Rates(10, 10, 20))
    one.weigh("a", 10, NOW)
    statuses = []
    for _ in range(GRACE + 2):
        with pytest.raises(ApiError) as error:
            one.weigh("a", 1, NOW)
        statuses.append(error.value.status)
        assert error.value.retry_after_s > 0
    assert statuses[0] == 429 and statuses[-1] == 418
    for refuse in (lambda at: two.weigh("a", 1, at), lambda at: two.refuse_banned("a", at)):
        with pytest.raises(ApiError) as error:
            refuse(NOW + BAN_FIRST_MS - 1)
        assert error.value.status == 418 and error.value.code == -1003
    two.refuse_banned("b", NOW)
    two.refuse_banned("a", NOW + BAN_FIRST_MS)
    assert two.weigh("a", 1, NOW + BAN_FIRST_MS + 60_000) == 1


def test_order_counts(tmp_path: Path) -> None:
    limits = Limits(tmp_path / "limits", 0, Rates(100, 10, 20))
    for k in range(10):
        assert limits.order(7, 1, 1, NOW) == (k + 1, k + 1)
    assert refused(limits.order, 7, 1, 1, NOW) == -1015
    assert limits.orders_used(7, NOW) == (10, 10), "what was refused isn't counted"
    assert limits.order(8, 1, 1, NOW) == (1, 1)
    assert limits.order(7, 5, 1, NOW + 10_000) == (5, 11), "a batch: five and one"


# ---------------------------------------------------------------- OpenAPI


def test_openapi_names_every_route_and_its_parameters() -> None:
    document = openapi.document()
    assert document["openapi"].startswith("3.1")
    for route in ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        names = {parameter["name"] for parameter in operation["parameters"]}
        assert {param.name for param in route.params} <= names
        signed = route.security in (Security.USER_DATA, Security.TRADE)
        assert ("timestamp" in names) == signed
        assert operation["responses"].keys() >= {"200", "400", "401", "429"}
    assert "/fapi/v1/order" in openapi.page()


def test_payloads_of_nothing_are_nothing() -> None:
    assert payload(b"", b"") == b"" and not hmac_matches(b"s", b"", "")


# account | parent | label
OWN = {
    row.account: row
    for row in (Own(5, None, "7"), Own(7, 5, "desk"), Own(9, 5, "5"), Own(11, 5, ""))
}


@pytest.mark.parametrize(
    ("text", "account"),
    [("7", 7), ("7@perpcore", 7), ("5", 5), ("desk@anything", 7), ("desk", 7), ("9", 9)],
)
def test_an_account_is_called_by_its_number_before_any_label(text: str, account: int) -> None:
    assert named(OWN, text) == account


@pytest.mark.parametrize("text", ["", "@", "8", "DESK", "desk@perpcore@perpcore", "07"])
def test_no_account_is_called_that(text: str) -> None:
    with pytest.raises(ApiError):
        named(OWN, text)
