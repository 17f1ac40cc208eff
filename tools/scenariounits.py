"""Values of scenario files: decimals, rates, durations, instants and wanted values, never a float.

Reads   what tomllib made of a file, its numbers as Decimal.
Writes  exact integers for commands, exact fractions for comparison.
Never   rounds what somebody wrote: a price between two ticks is an error that says so.

Every function raises ValueError with what it wants; the caller adds where.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation, localcontext
from difflib import get_close_matches
from fractions import Fraction
from typing import Any, Final, NamedTuple

SECOND_NS: Final = 1_000_000_000
_SPANS: Final = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": SECOND_NS,
    "m": 60 * SECOND_NS,
    "h": 3600 * SECOND_NS,
    "d": 86_400 * SECOND_NS,
}
_DIGITS: Final = 60  # no number of a scenario needs more
# Other words for keys, without underscores; each is taken where the key is one and it isn't.
ALSO: Final = {
    **dict.fromkeys(("quantity", "size", "lots", "amount"), "qty"),
    **dict.fromkeys(("user", "trader", "owner"), "account"),
    **dict.fromkeys(("timeinforce",), "tif"),
    **dict.fromkeys(("selftradepreventionmode", "selftradeprevention"), "stp"),
    **dict.fromkeys(("limitprice",), "price"),
    **dict.fromkeys(("clientorderid", "newclientorderid"), "client_id"),
    **dict.fromkeys(("stopprice", "triggerprice"), "trigger"),
    **dict.fromkeys(("activationprice", "activateprice"), "activate"),
    **dict.fromkeys(("callbackrate",), "callback"),
    **dict.fromkeys(("workingtype",), "working"),
    **dict.fromkeys(("ticksize",), "tick"),
    **dict.fromkeys(("stepsize", "lotsize", "step"), "lot"),
    **dict.fromkeys(("markprice",), "mark"),
    **dict.fromkeys(("indexprice",), "index"),
    **dict.fromkeys(("lastprice",), "last"),
    **dict.fromkeys(("marginmode",), "margin_type"),
    **dict.fromkeys(("maintenancerate", "maintenancemarginrate", "mmr"), "maintenance"),
    **dict.fromkeys(("maxleverage",), "leverage_max"),
    **dict.fromkeys(("minqty",), "qty_min"),
    **dict.fromkeys(("maxqty",), "qty_max"),
    **dict.fromkeys(("minprice",), "price_min"),
    **dict.fromkeys(("maxprice",), "price_max"),
    **dict.fromkeys(("minnotional",), "notional_min"),
    **dict.fromkeys(("makerfeerate", "maker"), "maker_fee"),
    **dict.fromkeys(("takerfeerate", "taker"), "taker_fee"),
    **dict.fromkeys(("fundinginterval",), "funding_interval"),
    **dict.fromkeys(("insurance", "insurancefund"), "fund"),
    **dict.fromkeys(("entryprice", "averageprice", "avgprice"), "entry"),
    **dict.fromkeys(("breakevenprice",), "break_even"),
    **dict.fromkeys(("pnl", "upnl", "unrealized", "unrealizedpnl", "unrealisedpnl"), "unrealised"),
    **dict.fromkeys(("realized", "realizedpnl", "realisedpnl"), "realised"),
    **dict.fromkeys(("initialmargin",), "initial"),
    **dict.fromkeys(("maintenancemargin", "maintmargin"), "maintenance"),
    **dict.fromkeys(("marginratio",), "ratio"),
    **dict.fromkeys(("walletbalance",), "wallet"),
    **dict.fromkeys(("availablebalance",), "available"),
    **dict.fromkeys(("marginbalance",), "equity"),
    **dict.fromkeys(
        ("maxwithdraw", "maxwithdrawamount", "maxwithdrawable", "addable", "maxaddable"),
        "withdrawable",
    ),
    **dict.fromkeys(("maxremovable",), "removable"),
    **dict.fromkeys(("maxnotional", "maxnotionalvalue"), "notional_max"),
    **dict.fromkeys(("adlquantile", "quantile"), "adl"),
    **dict.fromkeys(("adlscore", "score"), "adl_score"),
    **dict.fromkeys(("isolatedwallet", "isolatedmargin"), "isolated"),
    **dict.fromkeys(("closelots",), "close_claim"),
    **dict.fromkeys(("openlots",), "open_claim"),
    **dict.fromkeys(("remaining",), "open"),
    **dict.fromkeys(("executedqty", "filledqty"), "filled"),
    **dict.fromkeys(("origqty",), "qty"),
    **dict.fromkeys(("rejectreason",), "reason"),
    **dict.fromkeys(("trades",), "fills"),
    **dict.fromkeys(("orderbook", "depth"), "book"),
    **dict.fromkeys(("insurancefundbalance",), "fund"),
}
_MEANT: Final = {  # words that may have been meant so: for messages
    **dict.fromkeys(("who",), "account"),
    **dict.fromkeys(("im",), "initial"),
    **dict.fromkeys(("mm",), "maintenance"),
    **dict.fromkeys(("cash", "total"), "wallet"),
    **dict.fromkeys(("close",), "close_claim"),
    **dict.fromkeys(("error", "code", "reject"), "reason"),
    **dict.fromkeys(("wallet", "margin", "margins"), "balance"),
    **dict.fromkeys(("order", "buy", "sell"), "place"),
    **dict.fromkeys(("advance", "sleep", "time"), "wait"),
    **dict.fromkeys(("price",), "mark"),
    **dict.fromkeys(("hedge", "mode"), "position_mode"),
    **dict.fromkeys(("stop", "conditional"), "place_algo"),
}
_SHOWN: Final = 10  # decimals of what has no end


def decimal(value: Any) -> Decimal:
    """A number, or text that is one: 10, 10.5, "10.50", "1_000", "-3e-4"."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise ValueError('a number, as 12.5 or "12.5"')
    text = str(value).strip().replace("_", "").replace(",", "")
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError('a number, as 12.5 or "12.5"') from None
    if not number.is_finite():
        raise ValueError("a finite number")
    if number and not -_DIGITS < number.adjusted() < _DIGITS:
        raise ValueError(f"a number of less than {_DIGITS} digits")
    return number


def rate(value: Any) -> Decimal:
    """A share: 0.0005, "0.05%" and "5bp" are the same."""
    if isinstance(value, str):
        text = value.strip()
        for suffix, scale in (("%", 2), ("bps", 4), ("bp", 4)):
            if text.endswith(suffix):
                return decimal(text[: -len(suffix)]).scaleb(-scale)
    return decimal(value)


def duration_ns(value: Any) -> int:
    """Seconds as a number, or text with units: "8h", "1h 30m", "250ms"."""
    if isinstance(value, str) and not re.fullmatch(r"[\d._]+", value.strip()):
        parts = re.findall(r"([\d._]+)\s*(ns|us|ms|s|m|h|d)(?![a-z])", value)
        rest = re.sub(r"([\d._]+)\s*(ns|us|ms|s|m|h|d)(?![a-z])", "", value)
        if not parts or rest.strip():
            raise ValueError('seconds, or a duration as "8h", "1h 30m", "250ms"')
        total = sum((decimal(number) * _SPANS[unit] for number, unit in parts), Decimal(0))
    else:
        total = decimal(value) * SECOND_NS
    if total != total.to_integral_value():
        raise ValueError("a whole number of nanoseconds")
    if not 0 <= total < 1 << 61:
        raise ValueError("a duration of 0 to 70 years")
    return int(total)


def instant_ns(value: Any, start_ns: int) -> int:
    """An instant: a TOML date-time, ISO text, or "+8h" from the start of the scenario."""
    if isinstance(value, str):
        if value.strip().startswith("+"):
            return start_ns + duration_ns(value.strip()[1:])
        try:
            value = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
        except ValueError:
            raise ValueError(
                'an instant, as 2026-01-01T08:00:00Z, or "+8h" from the start'
            ) from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        raise ValueError('an instant, as 2026-01-01T08:00:00Z, or "+8h" from the start')
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    span = value - datetime(1970, 1, 1, tzinfo=UTC)
    if not 0 <= span.days < 60_000:
        raise ValueError("an instant from 1970 to 2134")
    return (span.days * 86_400 + span.seconds) * SECOND_NS + span.microseconds * 1_000


def whole(number: Decimal, unit: Decimal, what: str) -> int:
    """How many units a number is; ValueError when that is no whole number."""
    with localcontext() as context:
        context.prec = 4 * _DIGITS
        count = number / unit
        if count != count.to_integral_value():
            raise ValueError(f"a whole number of {what} of {unit:f}")
        if abs(count) >= 1 << 63:
            raise ValueError(f"less than 2^63 {what} of {unit:f}")
        return int(count)


def parts(number: Decimal, per_unit: int) -> int:
    """A share in parts per million or billion, exactly."""
    names = {1_000_000: "millionths (0.0001%)", 1_000_000_000: "billionths (0.0000001%)"}
    return whole(number, Decimal(1) / per_unit, names[per_unit])


def shown(value: Any) -> str:
    """A value as a trader reads it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Fraction):
        return _fraction(value)
    return str(value)


def _fraction(value: Fraction) -> str:
    rest, digits = value.denominator, 0
    for prime in (2, 5):
        power = 0
        while rest % prime == 0:
            rest //= prime
            power += 1
        digits = max(digits, power)
    endless = rest != 1 or digits > 18
    places = _SHOWN if endless else digits
    scaled = value * 10**places
    sign = "-" if value < 0 else ""
    text = str(abs(scaled.numerator) // scaled.denominator).rjust(places + 1, "0")
    text = f"{text[: len(text) - places]}.{text[len(text) - places :]}" if places else text
    return sign + text + "…" * endless


# ---------------------------------------------------------------- what a file expects


class Want(NamedTuple):
    """What a value shall be, as it was written."""

    text: str
    op: str  # = ~ < <= > >= != .. any none
    low: Any = None
    high: Any = None

    def met(self, got: Any) -> bool:
        """Whether a value is what was wanted."""
        if self.op == "any":
            return any(want.met(got) for want in self.low)
        if self.op == "none" or got is None:
            return self.op == "none" and got is None
        if self.low == getattr(got, "also", None):
            return self.op == "="
        if self.op == "!=":
            return bool(got != self.low)
        if self.op == "~":
            return bool(abs(got - self.low) <= self.high)
        if self.op == "..":
            return bool(self.low <= got <= self.high)
        if self.op == "<":
            return bool(got < self.low)
        if self.op == "<=":
            return bool(got <= self.low)
        if self.op == ">":
            return bool(got > self.low)
        if self.op == ">=":
            return bool(got >= self.low)
        return bool(got == self.low)


def want_number(value: Any, share: bool = False) -> Want:
    """12.5 exactly; "~12.5" to the digits written; "> 1", "1 .. 2", "!= 0"; "none"; a list: any."""
    if isinstance(value, list):
        return _any_of(value, lambda v: want_number(v, share))
    read = rate if share else decimal
    if not isinstance(value, str):
        return Want(shown(Fraction(read(value))), "=", Fraction(read(value)))
    text = value.strip()
    if text.lower() == "none":
        return Want("none", "none")
    if match := re.fullmatch(r"(.+?)\s*\.\.\s*(.+)", text):
        low, high = (Fraction(read(part)) for part in match.groups())
        return Want(text, "..", low, high)
    match = re.match(r"~|<=|>=|!=|<|>|=", text)
    op = match.group() if match else "="
    number = text[len(op) :] if match else text
    exact = read(number)
    if op == "~":
        # One unit of the last digit as it was written.
        plain_number = number.strip().rstrip("%bps")
        digits = decimal(plain_number).as_tuple().exponent
        assert isinstance(digits, int)
        unit = read("1" + number.strip()[len(plain_number) :]).scaleb(digits)
        return Want(text, "~", Fraction(exact), Fraction(unit))
    return Want(text, op, Fraction(exact))


class Word(str):
    """A name that goes by another one too."""

    also = ""

    @classmethod
    def of(cls, name: str, also: str) -> Word:
        word = cls(name)
        word.also = also
        return word


def want_name(value: Any, names: list[str]) -> Want:
    """One of some names, in any case; a list: any of them; "!NAME": another."""
    if isinstance(value, list):
        return _any_of(value, lambda v: want_name(v, names))
    if not isinstance(value, str):
        raise ValueError(f"one of {', '.join(names)}")
    text = plain(value).replace("CANCELLED", "CANCELED")
    if text == "NONE" and "NONE" not in names:
        return Want("none", "none")
    op = "="
    if text.startswith("!"):
        op, text = "!=", text[1:].lstrip("=_")
    if text not in names:
        raise ValueError(f"one of {', '.join(names)}")
    return Want(text if op == "=" else f"!{text}", op, text)


def want_flag(value: Any) -> Want:
    """true or false."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return Want(str(value).lower(), "=", value)


def want_instant(value: Any, start_ns: int) -> Want:
    """An instant, "+8h" from the start, or "none"."""
    if isinstance(value, str) and value.strip().lower() == "none":
        return Want("none", "none")
    at = instant_ns(value, start_ns)
    return Want(clock(at), "=", clock(at))


def _any_of(values: list[Any], read: Any) -> Want:
    wants = [read(v) for v in values]
    if not wants:
        raise ValueError("at least one value in the list")
    return Want(" or ".join(w.text for w in wants), "any", wants)


def key_of(name: str, known: Collection[str]) -> str:
    """A key as it is usually spelled, from any case, with or without underscores and the plural's
    s, or another word for it; as it is where it is none."""
    own = plain(name).lower()
    flat = own.replace("_", "")
    same = [k for k in known if k.replace("_", "") == flat]
    tried = (own, f"{own}s", own.removesuffix("s"), *same, ALSO.get(flat, ""))
    return next((k for k in tried if k in known), own)


def plain(text: str) -> str:
    """A name as enumerations have it: POST_ONLY for "post-only"."""
    return re.sub(r"[\s-]+", "_", text.strip()).upper()


def clock(ns: int) -> str:
    """An instant as ISO text."""
    seconds, rest = divmod(ns, SECOND_NS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{rest:09d}".rstrip("0") if rest else "") + "Z"


def quoted(value: Any) -> str:
    """A value as it was written, for a message."""
    return f'"{value}"' if isinstance(value, str) else shown(value)


def perhaps(name: str, known: list[str]) -> str:
    """The name that was probably meant, for the end of a message."""
    meant = _MEANT.get(name.lower(), "")
    close = [meant] if meant in known else get_close_matches(name, known, 1, 0.5)
    return f'; perhaps "{close[0]}"?' if close else ""
