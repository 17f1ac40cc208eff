"""What clients send, as text: decimals, booleans, lists, JSON, signatures, time stamps."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateways.http import params as p
from gateways.http.decimals import (
    BadDecimal,
    TooPrecise,
    fixed,
    plain_number,
    rounded,
    scaled,
)
from gateways.http.errors import ERRORS, ApiError, refusal
from gateways.http.routes import BY_NAME
from gateways.http.schema import BOOLEAN, _parse_in_order, check_json, parse, read_json
from gateways.http.signing import (
    check_time,
    digest_of,
    digest_of_part,
    ed25519_matches,
    hmac_matches,
    pairs,
    payload,
    sorted_payload,
    unsigned,
)
from gateways.users.keyed import hmac_hex
from shm.codes import Kind, Reason

DECIMALS = """
  text                  | scale | units
  0                     |   2   | 0
  1                     |   2   | 100
  1.5                   |   2   | 150
  0.01                  |   2   | 1
  1.50000               |   2   | 150         zeros behind the scale say nothing
  123456789012345678    |   0   | 123456789012345678
  1.005                 |   2   | precise
  1234567890123456789   |   0   | bad         nineteen digits
  01                    |   2   | bad
  .5                    |   2   | bad
  5.                    |   2   | bad
  -1                    |   2   | bad
  +1                    |   2   | bad
  1e5                   |   2   | bad
  1E400                 |   2   | bad
  NaN                   |   2   | bad
  Infinity              |   2   | bad
  1_000                 |   2   | bad
  １２                   |   2   | bad         full width
  1,5                   |   2   | bad
  0x10                  |   2   | bad
"""


@pytest.mark.parametrize("row", DECIMALS.strip().splitlines()[1:])
def test_decimals(row: str) -> None:
    text, scale, wanted = (cell.strip() for cell in row.split("|"))
    wanted = wanted.split()[0]
    if wanted in ("bad", "precise"):
        with pytest.raises(TooPrecise if wanted == "precise" else BadDecimal):
            scaled(text, int(scale))
    else:
        assert scaled(text, int(scale)) == int(wanted)


@pytest.mark.parametrize("text", [" 1", "1 ", "1\n", "", " ", "1\u00a0", "\uff11", "٣"])
def test_blanks_and_foreign_digits_are_no_decimals(text: str) -> None:
    with pytest.raises(BadDecimal):
        scaled(text, 2)


@given(st.integers(0, 10**17), st.integers(0, 9))
def test_what_is_written_reads_back(value: int, scale: int) -> None:
    assert scaled(fixed(value, scale), scale) == value
    assert Decimal(fixed(value, scale)) == Decimal(value).scaleb(-scale)
    assert fixed(-value, scale) == ("-" if value else "") + fixed(value, scale)


@given(st.integers(-(10**20), 10**20), st.integers(-(10**9), 10**9), st.integers(0, 8))
def test_quotients_are_cut_towards_zero(over: int, under: int, scale: int) -> None:
    text = rounded(over, under, scale)
    if under == 0:
        assert Decimal(text) == 0
        return
    whole = abs(over) * 10**scale // abs(under)
    sign = -1 if (over < 0) != (under < 0) else 1
    assert Decimal(text).scaleb(scale) == sign * whole


NUMBERS = (
    ("1e-05", "0.00001"),
    ("1.5e-7", "0.00000015"),
    ("1e5", "100000"),
    ("1.25E+3", "1250"),
    ("1.23456e2", "123.456"),
    ("1e400", "1e400"),
    ("0.1", "0.1"),
    ("-2e-1", "-0.2"),
)


@pytest.mark.parametrize(("raw", "plain"), NUMBERS)
def test_json_numbers_lose_their_exponent(raw: str, plain: str) -> None:
    assert plain_number(raw) == plain


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("true", True),
        ("True", True),
        ("TRUE", True),
        ("false", False),
        (True, True),
        (False, False),
    ],
)
def test_booleans(raw: Any, value: bool) -> None:
    assert BOOLEAN.read("x", raw) is value


@pytest.mark.parametrize("raw", ["1", "yes", "", 1, [], "truе"])
def test_no_booleans(raw: Any) -> None:
    with pytest.raises(ApiError):
        BOOLEAN.read("x", raw)


JSONS = (
    (b'{"a":1,"a":2}', -1101),
    (b'{"a":{"b":1,"b":2}}', -1101),
    (b'[{"a":1},{"a":2}]', 0),
    (b'{"a":"b","b":"a"}', 0),
    (b'{"a":["a","a"]}', 0),
    (b'{"\\u0061":1}', -1100),
    (b"[[[[[[[[[1]]]]]]]]]", -1100),
    (b"NaN", -1102),
    (b'{"a":Infinity}', -1102),
    (b'{"a":"\\ud800"}', -1102),
    (b"{", -1102),
    (b"\xff", -1102),
    (b"", -1102),
)


@pytest.mark.parametrize(("text", "code"), JSONS)
def test_json(text: bytes, code: int) -> None:
    if code == 0:
        assert read_json("x", text) is not None
        return
    with pytest.raises(ApiError) as refused:
        read_json("x", text)
    assert refused.value.code == code


def test_json_numbers_stay_exact() -> None:
    assert read_json("x", '{"a":0.1,"b":18446744073709551616}') == {"a": "0.1", "b": 1 << 64}


@given(st.binary(max_size=200))
def test_no_bytes_break_the_json_check(raw: bytes) -> None:
    try:
        check_json("x", raw)
    except ApiError as refused:
        assert refused.code in (-1100, -1101)


WORDS = st.sampled_from(["a", "b", "a:b", "x:", '":', "{", ""])
MEMBERS = st.recursive(
    st.one_of(st.integers(0, 9), WORDS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(st.tuples(st.sampled_from("abc"), inner), max_size=3).map(tuple),
    ),
    max_leaves=12,
)


def spelt(value: Any, pad: str) -> str:
    """JSON text of it; a tuple is an object, whose keys may come twice."""
    if isinstance(value, tuple):
        members = (f"{json.dumps(k)}{pad}:{pad}{spelt(v, pad)}" for k, v in value)
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(spelt(item, pad) for item in value) + "]"
    return json.dumps(value)


@given(MEMBERS, st.sampled_from(["", " "]))
def test_keys_given_twice_are_found_however_they_are_looked_for(value: Any, pad: str) -> None:
    """Counting colons says the same as walking over every token."""
    text, codes = spelt(value, pad), []
    for look in (read_json, lambda name, said: check_json(name, said.encode())):
        try:
            look("x", text)
            codes.append(0)
        except ApiError as refused:
            codes.append(refused.code)
    assert codes[0] == codes[1]


# ---------------------------------------------------------------- parameters

ORDERS = """
  what is wrong                                   | code
  side=BUY type=LIMIT                             | -1102     no symbol
  symbol=BTC* side=BUY type=LIMIT                 | -1121
  symbol=BTCUSDT side=UP type=LIMIT               | -1117
  symbol=BTCUSDT side=BUY type=ICEBERG            | -1116
  symbol=BTCUSDT side=BUY type=LIMIT timeInForce=X| -1115
  symbol=BTCUSDT side=BUY type=LIMIT quantity=1e5 | -1100
  symbol=BTCUSDT side=BUY type=LIMIT quantity=1_0 | -1100
  symbol=BTCUSDT side=BUY type=LIMIT price=1.2.3  | -1102
  symbol=BTCUSDT side=BUY type=LIMIT newClientOrderId=a/b!    | -4015
  symbol=BTCUSDT side=BUY type=LIMIT newOrderRespType=FULL    | -1136
  symbol=BTCUSDT side=BUY type=LIMIT positionSide=LEFT        | -4060
  symbol=BTCUSDT side=BUY type=LIMIT priceMatch=BEST          | -5037
  symbol=BTCUSDT side=BUY type=LIMIT workingType=LAST         | -4031
  symbol=BTCUSDT side=BUY type=LIMIT reduceOnly=maybe         | -1130
  symbol=BTCUSDT side=BUY type=LIMIT selfTradePreventionMode=X| -5039
  symbol=BTCUSDT side=BUY type=LIMIT useV2=true x=y           | 0       unknown ones are let be
  symbol=btcusdt side=buy type=limit                          | 0
"""


@pytest.mark.parametrize("row", ORDERS.strip().splitlines()[1:])
def test_order_parameters(row: str) -> None:
    said, code = row.split("|")
    sent = dict(pair.split("=", 1) for pair in said.split())
    wanted = int(code.split()[0])
    if wanted == 0:
        assert parse(p.ORDER_PARAMS, sent)["symbol"] == "BTCUSDT"
        return
    with pytest.raises(ApiError) as refused:
        parse(p.ORDER_PARAMS, sent)
    assert refused.value.code == wanted


NAMES = [name for param in p.ORDER_PARAMS for name in (param.name, *param.aliases)]
RAWS = ("", None, "BUY", "limit", "LIMIT", "GTC", "btcusdt", "BTCUSDT", "0.5", "-1", "1e5", "true")


@given(
    st.dictionaries(
        st.sampled_from([*NAMES, "useV2"]),
        st.sampled_from([*RAWS, True, 5, [], {}]) | st.text(max_size=4),
    ),
    st.booleans(),
)
def test_what_is_read_at_once_is_what_is_read_in_order(sent: dict[str, Any], full: bool) -> None:
    """Values and refusals, the first in declared order, are those of the slow way."""
    if full:
        sent = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", **sent}

    def outcome(read: Any) -> Any:
        try:
            return dict(read(p.ORDER_PARAMS, sent))
        except ApiError as error:
            return error.code, error.message

    assert outcome(parse) == outcome(_parse_in_order)


def test_lists_in_every_spelling() -> None:
    for name in ("orderIdList", "orderidlist"):
        for raw in ("[1,2]", "1,2", '["1","2"]', [1, "2"]):
            assert parse(p.CANCEL_BATCH_PARAMS, {"symbol": "A", name: raw})["orderIdList"] == [1, 2]


# ---------------------------------------------------------------- signatures

SIGNED = (  # fapi_surface 1.2, secret "testsecret"
    (b"symbol=BTCUSDT&timestamp=1700000000000&recvWindow=5000", b"",
     "2c09de6c531ade5b0d38b5302ce2efebba5a9c5bf4ea2d767f0e4d5a02b1f77e"),
    (b"symbol=BTCUSDT&side=BUY", b"type=MARKET&quantity=1&timestamp=1700000000000",
     "8edf9777b07d838941605a9b275ac66bf602931e8c476ec734d75cf6b7023a11"),
    (b"", b'timestamp=1700000000000&batchOrders=[{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT",'
     b'"quantity":"0.001","price":"50000","timeInForce":"GTC"}]&recvWindow=10000',
     "421538d6e6edcc482e820d88118d1453e69a825998433b7ef9fc33135a9664ac"),
)  # fmt: skip


@pytest.mark.parametrize(("query", "body", "signature"), SIGNED)
def test_published_signatures(query: bytes, body: bytes, signature: str) -> None:
    message = payload(query, body)
    assert hmac_matches(b"testsecret", message, signature)
    assert hmac_matches(b"testsecret", message, signature.upper())
    assert not hmac_matches(b"testsecret", message, signature[:-1] + "f")
    assert not hmac_matches(None, message, signature)
    assert not hmac_matches(b"testsecret", message, "é" * 32)


def test_a_websocket_signature_is_of_sorted_parameters() -> None:
    params = {
        "symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "0.001",
        "price": 50000, "timeInForce": "GTC", "timestamp": 1700000000000, "apiKey": "testkey",
        "signature": "anything",
    }  # fmt: skip
    wanted = "643d727719b0926816c67f5fce85aab0ec91fa3670c8fb25f4ae4de60be83ab3"
    assert hmac_matches(b"testsecret", sorted_payload(params), wanted)
    assert sorted_payload({"b": True, "a": 1}) == b"a=1&b=true"


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        (b"a=1&signature=x", b"a=1"),
        (b"signature=x&a=1", b"a=1"),
        (b"a=1&signature=x&b=2", b"a=1&b=2"),
        (b"signature=x", b""),
        (b"a=1&xsignature=x", b"a=1&xsignature=x"),
        (b"", b""),
    ],
)
def test_the_signature_is_taken_out_wherever_it_stands(raw: bytes, left: bytes) -> None:
    assert unsigned(raw) == left


def test_every_bit_counts() -> None:
    message = b"symbol=BTCUSDT&timestamp=1700000000000"
    signature = hmac.new(b"s", message, hashlib.sha256).hexdigest()
    assert hmac_matches(b"s", message, signature)
    for k in range(8 * len(message)):
        bent = bytearray(message)
        bent[k // 8] ^= 1 << k % 8
        assert not hmac_matches(b"s", bytes(bent), signature)


@given(st.binary(min_size=1, max_size=200), st.binary(max_size=400))
def test_hmac_is_the_library_s(secret: bytes, message: bytes) -> None:
    for _ in range(2):  # as made, and as remembered
        assert hmac_hex(secret, message) == hmac.digest(secret, message, "sha256").hex()


def test_ed25519() -> None:
    private = Ed25519PrivateKey.generate()
    signature = base64.b64encode(private.sign(b"message")).decode()
    public = private.public_key()
    assert ed25519_matches(public, b"message", signature)
    assert not ed25519_matches(public, b"messagf", signature)
    assert not ed25519_matches(public, b"message", "not base64!")


def test_what_ccxt_sends_is_understood_and_signed_as_we_read_it(recorded: Path) -> None:
    """53 recorded calls: every one has a route, parses, and its signature is ours."""
    folder = recorded / "vectors" / "ccxt_binanceusdm_requests"
    cases = json.loads((folder / "requests.json").read_text())["cases"]
    seen = 0
    for case in cases:
        for request in case["requests"]:
            route = BY_NAME[request["method"], request["path"]]
            query, body = request["raw_query"].encode(), request["raw_body"].encode()
            sent = pairs(body, pairs(query, {}))
            parse(route.params, sent)
            if "signature" in sent:
                assert hmac_matches(b"secret", payload(query, body), str(sent["signature"]))
                check_time(sent, 1700000000000)
            seen += 1
    assert seen >= 53


TIMES = """
  timestamp | recvWindow | accepted
   1000     |            | yes
   1999     |            | yes        less than a second ahead
   2000     |            | no
  -4000     |            | yes        five seconds old
  -4001     |            | no
  -59000    | 60000      | yes
  -59001    | 60000      | no
   1000     | 60001      | -1130
   1000     | x          | -1102
            |            | -1102
"""


@pytest.mark.parametrize("row", TIMES.strip().splitlines()[1:])
def test_time_stamps(row: str) -> None:
    offset, window, wanted = (cell.strip() for cell in row.split("|"))
    base = 1_700_000_000_000
    sent: dict[str, Any] = {}
    if offset:
        sent["timestamp"] = str(base + int(offset))
    if window:
        sent["recvWindow"] = window
    wanted = wanted.split()[0]
    if wanted == "yes":
        check_time(sent, base + 1000)
        return
    with pytest.raises(ApiError) as refused:
        check_time(sent, base + 1000)
    assert refused.value.code == (-1021 if wanted == "no" else int(wanted))


def test_the_query_wins_and_nothing_comes_twice() -> None:
    assert pairs(b"a=2&b=3", pairs(b"a=1", {})) == {"a": "1", "b": "3"}
    assert pairs(b"a=%7B%22x%22%3A1%7D&b=1+2", {}) == {"a": '{"x":1}', "b": "1 2"}
    with pytest.raises(ApiError) as refused:
        pairs(b"a=1&a=1", {})
    assert refused.value.code == -1101
    with pytest.raises(ApiError):
        pairs(b"a=%ff", {})


def test_digests_name_a_request() -> None:
    one = digest_of(b"a=1", "key")
    assert one == digest_of(b"a=1", "key") == digest_of_part(one, 0)
    others = {digest_of(b"a=2", "key"), digest_of(b"a=1", "kez"), digest_of_part(one, 1)}
    assert len({one, *others}) == 4


DIGEST_PARTS = """
  digest                   part  is
  7 5                      2     7 7
  7 -1                     1     7 0
  0 -1                     1     1 0                      never the digest of nothing
  7 9223372036854775807    1     7 -9223372036854775808   a word is 64 bits
  7 9223372036854775806    4     7 -9223372036854775806
"""


@pytest.mark.parametrize("row", DIGEST_PARTS.strip().splitlines()[1:])
def test_parts_of_a_request_have_digests_of_their_own(row: str) -> None:
    high, low, part, *wanted = (int(word) for word in row.split()[:5])
    assert digest_of_part((high, low), part) == tuple(wanted)


# ---------------------------------------------------------------- codes


def test_every_reason_has_a_code_that_exists() -> None:
    for reason in Reason:
        for kind in (Kind.PLACE, Kind.CANCEL, Kind.AMEND, Kind.LEVERAGE, Kind.MARGIN_TYPE):
            error = refusal(reason, kind)
            assert error.code in ERRORS and error.body == {"code": error.code, "msg": error.message}
            assert "{" not in error.message


LITERAL = (  # clients match these texts
    (-2011, "Unknown order sent."),
    (-2013, "Order does not exist."),
    (-4046, "No need to change margin type."),
    (-4059, "No need to change position side."),
    (-2019, "Margin is insufficient."),
    (-2022, "ReduceOnly Order is rejected."),
    (-4116, "ClientOrderId is duplicated."),
    (-2021, "Order would immediately trigger."),
)


@pytest.mark.parametrize(("code", "message"), LITERAL)
def test_literal_messages(code: int, message: str) -> None:
    assert ERRORS[code] == (400, message)
