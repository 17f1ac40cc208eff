"""Every enumeration that is stored or sent.

Values are part of the file formats: append, never renumber.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Kind(IntEnum):
    """What a command asks for."""

    NONE = 0
    PLACE = 1  # a new order
    CANCEL = 2  # one order, by order id or, with order_id 0, by client id
    AMEND = 3  # price and quantity of one order
    REDUCE = 4  # take `qty_lots` off one order; it keeps its place
    CANCEL_ALL = 5  # every order of an account, in one symbol or (symbol NO_SYMBOL) in all
    CANCEL_SYMBOL = 6  # every order of everybody in one symbol
    LEVERAGE = 7  # initial-margin leverage of (account, symbol)
    DEPOSIT = 16
    WITHDRAW = 17
    ASSET = 32  # declare an asset
    ACCOUNT = 33  # open an account, or set its state
    SYMBOL = 34  # declare a symbol, or change its parameters
    SYMBOL_STATE = 35
    VENUE_STATE = 36
    MARK = 37  # mark price of a symbol
    TICK = 48  # the clock: what is due by ts_ns is due now
    EXPIRE = (
        49  # proposed by settlement, for an order marked pending: cancel it for the marked reason
    )
    CHECKPOINT = (
        50  # settlement has caught up with risk; carries the digest of all reports before it
    )
    REFUSED = 51  # what the sequencer made of a command its producer may not send


class Side(IntEnum):
    BUY = 0
    SELL = 1


class Type(IntEnum):
    LIMIT = 0
    MARKET = 1


class Tif(IntEnum):
    """Time in force."""

    GTC = 0
    IOC = 1
    FOK = 2
    GTX = 3  # post only
    GTD = 4


class Stp(IntEnum):
    """What happens when an order would meet one of its own account; the taker's mode decides."""

    NONE = 0
    EXPIRE_TAKER = 1
    EXPIRE_MAKER = 2
    EXPIRE_BOTH = 3


class PositionSide(IntEnum):
    BOTH = 0
    LONG = 1
    SHORT = 2


class Flag(IntFlag):
    """Bits of COMMAND.flags."""

    NONE = 0
    REDUCE_ONLY = 1
    NO_MATCH = 2  # privileged: rest without matching, may leave a crossed book
    TO_BACK = 4  # AMEND: lose the place in the queue whatever the change
    UPSERT = 8  # privileged, AMEND: an order that is gone comes back as a new one
    REMAINING = 16  # privileged, AMEND: qty_lots is what shall remain, not the new total
    KEEP_QTY = 32  # AMEND: only the price changes, what remains remains
    TAKE_NAME = 64  # privileged, PLACE: the client id passes to this order, whoever has it now


PRIVILEGED_FLAGS = Flag.NO_MATCH | Flag.UPSERT | Flag.REMAINING | Flag.TAKE_NAME


class State(IntEnum):
    """Of a symbol, an account or the venue: what it still accepts."""

    TRADING = 0
    CANCEL_ONLY = 1
    HALTED = 2
    CLOSED = 3
    ABSENT = 4  # never declared


class Reason(IntEnum):
    """Why a command was refused or an order ended; refusals are listed in checking order.

    The first check that fails names the reason, so this order is part of the API.
    """

    NONE = 0
    # the envelope
    DUPLICATE_REQUEST = 1  # this producer's number was taken before
    UNKNOWN_KIND = 2
    FORBIDDEN = 3  # this producer may not send this kind or flag
    MALFORMED = 4  # a field outside its enumeration, or not zero where it must be
    # who and where
    UNKNOWN_ACCOUNT = 5
    UNKNOWN_SYMBOL = 6
    UNKNOWN_ASSET = 7
    UNKNOWN_ORDER = 8
    VENUE_STATE = 9
    SYMBOL_STATE = 10
    ACCOUNT_STATE = 11
    # the order itself
    DUPLICATE_CLIENT_ID = 12
    BAD_PRICE = 13  # outside the symbol's lowest and highest price, or a price where none belongs
    BAD_QTY = 14  # outside the symbol's least and largest quantity
    BAD_EXPIRY = 15  # GTD not in the future
    BAD_LEVERAGE = 16
    BAD_AMOUNT = 17
    BAD_PARAMETER = 18
    EXISTS = 19
    IN_USE = 20  # cannot change while orders are open, or once declared
    NO_REFERENCE_PRICE = 21  # a MARKET order needs a mark or a last price
    NOTIONAL_TOO_SMALL = 22
    NOTIONAL_TOO_LARGE = 23
    PRICE_BAND = 24
    TOO_MANY_ORDERS = 25
    # what it needs
    REDUCE_ONLY = 26  # it would not reduce
    INSUFFICIENT_MARGIN = 27
    INSUFFICIENT_BALANCE = 28
    CAPACITY = 29  # a table of this venue is full
    # decided by the book: the order was accepted, and ended
    WOULD_TAKE = 40  # GTX would have traded at once
    FOK_UNFILLED = 41
    IOC_REMAINDER = 42
    MARKET_REMAINDER = 43
    SELF_TRADE = 44
    BOOK_FULL = 45
    # asked for, or decided by settlement
    USER_CANCEL = 48
    CANCEL_ALL = 49
    GTD_EXPIRED = 50
    FLIP = 51  # its claim could not be kept
    SYMBOL_CLOSED = 52
    KILL_SWITCH = 53
    AMENDED_AWAY = 54  # amended to a total that was already filled


class Status(IntEnum):
    """Of an order, as reports tell it."""

    NEW = 0
    PARTIALLY_FILLED = 1
    FILLED = 2
    CANCELED = 3
    EXPIRED = 4
    REJECTED = 5
    AMENDED = 6
    REFUSED = 7  # a cancel or amend that found nothing to do; the order is as it was


class ReportKind(IntEnum):
    """What a report record says. Every command's first report is its answer: ORDER or ANSWER."""

    NONE = 0
    ORDER = 1  # an order's state after an event
    ANSWER = 2  # to a command that is not about one order
    CLIENT_ID = 3  # follows the ORDER that opened an order with a client id
    TRACE = 4  # follows the answer to a command that carried a trace
    EXEC = 5  # one side of a trade
    POSITION = 6  # a position and its wallet after a trade
    WALLET = 7  # a wallet after money moved without a trade
    FLIP = 8  # a claim changed kind
    CHECKPOINT = 9
    SYMBOL = 10  # a symbol's state or mark


class Flip(IntEnum):
    """What became of a close claim that was robbed; `status` of a FLIP report."""

    TO_OPEN = 0  # it opens now, and holds margin
    TO_CLOSE = 1  # it closes now, and its margin is back
    TRIMMED = 2  # it can do neither: the order is proposed to shrink or end


class MatchKind(IntEnum):
    """What matching says happened. No money in it."""

    NONE = 0
    RESTED = 1  # the subject is in the book with `open_lots`
    FILL = 2  # maker and taker met
    ENDED = 3  # the order at `slot` left the book (or never entered) with `open_lots` unfilled
    AMENDED = 4  # the subject has a new price and `open_lots`, before any fills it causes
    REFUSED = 5  # nothing to do: the subject was not live
    DONE = 6  # a shard has nothing (more) to say about this command


class Route(IntEnum):
    """Where a command goes after risk."""

    NOWHERE = 0  # settled by risk itself
    SHARD = 1  # to the shard of its symbol
    ALL_SHARDS = 2


class NodeState(IntEnum):
    FREE = 0
    LIVE = 1  # in the book
    DEAD = 2  # filled, cancelled or expired; its slot waits for settlement
