"""What the numbers are: integer units, their limits, and the proof that arithmetic on them fits.

    price     ticks     of a symbol; 1 <= price <= PRICE_TICKS_MAX
    quantity  lots      of a symbol; 1 <= quantity <= QTY_LOTS_MAX
    money     quanta    of an asset, 10^-scale each; |money| <= MONEY_QUANTA_MAX
    rate      ppm       parts per million of a notional
    time      ns        since the Unix epoch, stamped by the sequencer alone

A symbol says how many quanta one tick times one lot is worth (`tick_lot_quanta`), always a whole
number, so notional and PnL are exact: notional_quanta = price_ticks * qty_lots * tick_lot_quanta.
Products go through 128 bits where they could pass int64, and limits keep every stored sum inside:

    an order         worst price * lots * unit <= NOTIONAL_QUANTA_MAX; the worst price of a sell
                     that may take is the highest bid ever accepted in its symbol
    a wallet         |cost| of its positions + worst cost of its open orders <= EXPOSURE_QUANTA_MAX,
                     and |balance| <= MONEY_QUANTA_MAX, checked when an order is accepted: a fill
                     only moves from the second to the first, and realises and pays no more than
                     that sum, so a balance stays inside +-2^63 whatever the market does
    an asset         deposits - withdrawals <= MONEY_QUANTA_MAX over the whole venue
    at a mark        values are clamped at EXPOSURE_QUANTA_MAX: nothing near it is affordable
"""

from __future__ import annotations

from typing import Final

PRICE_TICKS_MAX: Final = (1 << 42) - 1
QTY_LOTS_MAX: Final = (1 << 46) - 1
NOTIONAL_QUANTA_MAX: Final = 1 << 60
EXPOSURE_QUANTA_MAX: Final = 1 << 61
MONEY_QUANTA_MAX: Final = 1 << 60
PPM: Final = 1_000_000
SCALE_MAX: Final = 8
ID_MAX: Final = (1 << 53) - 1

NIL: Final = -1  # "no slot", in every field that holds one

CLIENT_ID_BYTES: Final = 36  # stored in 40, the last four zero, so that it is five words

# A request names its producer in the top 16 bits and counts in the rest.
PRODUCER_SHIFT: Final = 48
REQUEST_NUMBER_MAX: Final = (1 << PRODUCER_SHIFT) - 1
PRODUCERS_MAX: Final = 64
SHARDS_MAX: Final = 16

SYSTEM_ACCOUNTS: Final = 16  # 0..15 belong to the venue
FEE_ACCOUNT: Final = 0
INSURANCE_ACCOUNT: Final = 1
DUST_ACCOUNT: Final = 2
ADJUST_ACCOUNT: Final = 3  # the other side of adjustments

PPB: Final = 1_000_000_000  # funding rates and premiums are parts per billion
BRACKETS_MAX: Final = 16  # of one symbol
SOURCES_MAX: Final = 8  # of one symbol's index
BASIS_SAMPLES: Final = 30

WEIGHT_MAX: Final = 1 << 16  # of an index source
RATE_PPB_MAX: Final = PPB  # of a funding interval, a premium and what they are clamped by
FUNDING_NS_MIN: Final = 1_000_000_000  # a funding interval
FUNDING_NS_MAX: Final = 86_400_000_000_000
INDEX_JUMP_PPM: Final = 9 * PPM  # an index ten times the last, or a tenth of it, isn't believed
PREMIUM_SAMPLES_MAX: Final = 86_400  # of one funding round; more are not counted
ALGOS_MAX: Final = 200  # conditional orders of an account in a symbol whose contract says nothing
CALLBACK_PPM_MIN: Final = 1_000  # of a trailing stop: 0.1 %
CALLBACK_PPM_MAX: Final = 100_000  # 10 %
COUNTDOWN_NS_MAX: Final = 366 * 86_400 * 1_000_000_000  # a dead man's switch of a year
RELEASE_MAX: Final = (1 << 31) - 1  # number of a release, as an UPGRADE names it
