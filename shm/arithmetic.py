"""Integer arithmetic that cannot wrap unseen: products through 128 bits, rounding by name.

    muldiv_up(a, b, c)     ceil(a * b / c)    fees and funding owed, margin: in the venue's favour
    muldiv_down(a, b, c)   floor(a * b / c)   what a customer receives
    muldiv_nearest(a, b, c)    floor(a * b / c + 1/2)    prices: to the nearest tick, half up
    muldiv_cut(a, b, c)    a * b / c toward zero    premiums and rates: never more than they are

All want c > 0 and a result that fits int64, and assert it: limits in shm/units.py make anything
else unreachable, and tests/laws prove them against Python's integers.
"""

from __future__ import annotations

import numpy as np

from shm.atomics import divide_up, leading_zeros, multiply_high
from shm.jit import PLAIN, inlined, kernel, rarely
from shm.units import MONEY_QUANTA_MAX, PPM

_U = np.uint64


@kernel
def _divide_128(high: int, low: int, divisor: int) -> int:
    """(high:low) / divisor for uint64 words with high < divisor (Knuth D in two 32-bit steps)."""
    rarely()
    shift = _U(leading_zeros(np.int64(divisor)))
    v = divisor << shift
    v1 = v >> _U(32)
    v0 = v & _U(0xFFFFFFFF)
    un32 = high
    if shift > _U(0):
        un32 = (high << shift) | (low >> (_U(64) - shift))
    un10 = low << shift
    un1 = un10 >> _U(32)
    un0 = un10 & _U(0xFFFFFFFF)
    q1 = un32 // v1
    rest = un32 - q1 * v1
    while q1 >= _U(0x100000000) or q1 * v0 > ((rest << _U(32)) | un1):
        q1 -= _U(1)
        rest += v1
        if rest >= _U(0x100000000):
            break
    un21 = (un32 << _U(32)) + un1 - q1 * v
    q0 = un21 // v1
    rest = un21 - q0 * v1
    while q0 >= _U(0x100000000) or q0 * v0 > ((rest << _U(32)) | un0):
        q0 -= _U(1)
        rest += v1
        if rest >= _U(0x100000000):
            break
    return (q1 << _U(32)) + q0


if PLAIN:

    def muldiv_up(a: int, b: int, c: int) -> int:
        value = -((-int(a) * int(b)) // int(c))
        assert c > 0 and -(1 << 63) < value < 1 << 63
        return value

    def muldiv_down(a: int, b: int, c: int) -> int:
        value = (int(a) * int(b)) // int(c)
        assert c > 0 and -(1 << 63) < value < 1 << 63
        return value

    def muldiv_rest(a: int, b: int, c: int) -> int:
        return (int(a) * int(b)) % int(c)

    def product_exceeds(a: int, b: int, limit: int) -> bool:
        return int(a) * int(b) > int(limit)

else:

    @kernel
    def _muldiv(a: int, b: int, c: int) -> tuple[int, bool, bool]:
        """(|a * b| / c truncated, whether a * b < 0, whether something was left over)."""
        assert c > 0
        negative = (a < 0) != (b < 0) and a != 0 and b != 0
        ua = _U(a) if a >= 0 else _U(0) - _U(a)
        ub = _U(b) if b >= 0 else _U(0) - _U(b)
        high, low = multiply_high(ua, ub)
        uc = _U(c)
        assert high < uc
        quotient = low // uc if high == _U(0) else _divide_128(high, low, uc)
        assert quotient <= _U(0x7FFFFFFFFFFFFFFE)
        left = low - quotient * uc
        return np.int64(quotient), negative, left != _U(0)

    @kernel
    def muldiv_up(a: int, b: int, c: int) -> int:
        """ceil(a * b / c), c > 0."""
        value, negative, left = _muldiv(a, b, c)
        if negative:
            return -value
        return value + 1 if left else value

    @kernel
    def muldiv_down(a: int, b: int, c: int) -> int:
        """floor(a * b / c), c > 0."""
        value, negative, left = _muldiv(a, b, c)
        if negative:
            return -value - 1 if left else -value
        return value

    @kernel
    def muldiv_rest(a: int, b: int, c: int) -> int:
        """a * b - c * floor(a * b / c), c > 0: what muldiv_down left."""
        # Each of the two products wraps, and their difference is in range all the same.
        return a * b - muldiv_down(a, b, c) * c

    @inlined
    def product_exceeds(a: int, b: int, limit: int) -> bool:
        """Whether a * b > limit, for a, b, limit >= 0, through 128 bits."""
        high, low = multiply_high(_U(a), _U(b))
        return high != _U(0) or low > _U(limit)


if PLAIN:

    def clamped_product(a: int, b: int, limit: int) -> int:
        return min(int(a) * int(b), int(limit))

else:

    @inlined
    def clamped_product(a: int, b: int, limit: int) -> int:
        """min(a * b, limit) for a, b, limit >= 0, through 128 bits."""
        high, low = multiply_high(_U(a), _U(b))
        if high != _U(0) or low > _U(limit):
            return limit
        return np.int64(low)


@inlined
def wide(value: int) -> int:
    """A field of a few bits as int64: its own type would wrap in sums and shifts."""
    return np.int64(value)


@inlined
def below_zero(value: int) -> int:
    """1 where an int64 is negative, as NIL is, and 0 where not: for `either`."""
    return -(value >> np.int64(63))


@inlined
def bounded(value: int, limit: int) -> int:
    """`value`, or the nearest of +-limit."""
    return min(max(value, -limit), limit)


@inlined
def muldiv_nearest(a: int, b: int, c: int) -> int:
    """floor(a * b / c + 1/2), c > 0."""
    rest = muldiv_rest(a, b, c)
    return muldiv_down(a, b, c) + (1 if rest >= c - rest else 0)


@inlined
def muldiv_cut(a: int, b: int, c: int) -> int:
    """a * b / c toward zero, c > 0."""
    if (a < 0) != (b < 0):
        return muldiv_up(a, b, c)
    return muldiv_down(a, b, c)


@inlined
def ceil_div(a: int, b: int) -> int:
    """ceil(a / b) for b > 0."""
    assert b > 0
    return divide_up(a, b)


@inlined
def fee_of(notional_quanta: int, rate_ppm: int) -> int:
    """What a trade owes: rounded up, so that a fee gains and a rebate loses the odd quantum."""
    # |rate| <= PPM and notional <= 2^56: the plain product fits only below 2^43, hence the test.
    if notional_quanta < (1 << 42):
        return divide_up(notional_quanta * rate_ppm, PPM)
    return muldiv_up(notional_quanta, rate_ppm, PPM)


@inlined
def initial_margin(notional_quanta: int, leverage: int) -> int:
    """Margin that a notional needs at a leverage, rounded up."""
    return ceil_div(notional_quanta, leverage)


@inlined
def fits_money(quanta: int) -> bool:
    """Whether a balance is within what the units allow."""
    return -MONEY_QUANTA_MAX <= quanta <= MONEY_QUANTA_MAX
