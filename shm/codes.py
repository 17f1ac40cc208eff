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
    PLACE_ALGO = 8  # a conditional order: an order once its trigger has been reached
    CANCEL_ALGO = 9  # one conditional order, by its id or, with order_id 0, by client id
    CANCEL_ALGOS = 10  # every conditional order of an account, in one symbol or in all
    COUNTDOWN = 11  # dead man's switch of (account, symbol): cancel all unless it is set again
    MARGIN_TYPE = 12  # cross or isolated margin of (account, symbol)
    POSITION_MODE = 13  # one-way or hedge, of an account
    POSITION_MARGIN = 14  # move money between the wallet and an isolated position
    DEPOSIT = 16
    WITHDRAW = 17  # at once; the venue's own desk
    REQUEST_WITHDRAW = 18  # set money aside until it is approved or rejected
    REQUEST_ADJUST = 19  # propose an adjustment of a wallet, signed
    APPROVE = 20  # a request; its principal differs from the one who asked
    REJECT = 21  # a request: what was set aside returns
    SETTLE_WITHDRAW = 22  # an approved withdrawal has left custody
    TRANSFER = 23  # between two accounts
    FEE_RATES = 24  # an account's own maker and taker fee
    BOOKKEEPING = 25  # an accounting command: passes through the engine uninterpreted
    AUDIT = 26  # what the user store changed, without secrets: passes through as well
    ASSET = 32  # declare an asset
    ACCOUNT = 33  # open an account, or set its state
    SYMBOL = 34  # declare a symbol, or change its parameters
    SYMBOL_STATE = 35
    VENUE_STATE = 36
    MARK = 37  # mark price of a symbol, set by hand
    CONTRACT = 38  # what makes a symbol a perpetual: index, funding, liquidation, limits
    BRACKET = 39  # one leverage bracket of a symbol
    SOURCE = 40  # one index source of a symbol, and its weight
    SETTLE_SYMBOL = 41  # delisting: close every position of a symbol at one price
    TICK = 48  # the clock: what is due by ts_ns is due now
    EXPIRE = (
        49  # proposed by settlement, for an order marked pending: cancel it for the marked reason
    )
    CHECKPOINT = (
        50  # settlement has caught up with risk; carries the digest of all reports before it
    )
    REFUSED = 51  # what the sequencer made of a command its producer may not send
    SOURCE_PRICE = 52  # the clock: what an index source says
    SAMPLE = 53  # the clock: look at the book, for basis and premium
    LIQUIDATE = 54  # the clock: this wallet or isolated position looks unsafe; risk decides
    TRIGGER = 55  # proposed: a conditional order has been reached, and is an order now
    FUNDING = 56  # proposed: pay one slice of a symbol's positions
    LIQUIDATION_ORDER = 57  # proposed: close what a liquidation has to close, in the market
    TAKEOVER = 58  # proposed: to the insurance fund, or against the other side (ADL)
    DELIST = 59  # proposed: close one slice of a delisted symbol's positions
    UPGRADE = 60  # another release goes on from here


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


class PositionMode(IntEnum):
    ONE_WAY = 0  # one signed position a symbol
    HEDGE = 1  # a long and a short leg


class MarginType(IntEnum):
    CROSS = 0
    ISOLATED = 1


class AlgoType(IntEnum):
    """Of a conditional order."""

    STOP = 0  # becomes LIMIT
    STOP_MARKET = 1
    TAKE_PROFIT = 2  # becomes LIMIT
    TAKE_PROFIT_MARKET = 3
    TRAILING_STOP_MARKET = 4


class Working(IntEnum):
    """Which price a conditional order watches."""

    LAST = 0
    MARK = 1


class AlgoStatus(IntEnum):
    NEW = 0
    TRIGGERED = 1  # an order of its own exists now
    CANCELED = 2
    EXPIRED = 3
    REJECTED = 4  # reached, and refused then
    REFUSED = 5  # a cancel that found nothing to do


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
    CLOSE_POSITION = 128  # PLACE_ALGO: all that is there when it is reached; qty_lots is 0


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
    LIQUIDATION = 55  # the account or position is being liquidated
    ADL = 56  # the other side of a liquidation was closed against this position
    COUNTDOWN = 57  # the dead man's switch ran out
    DELISTED = 58  # the symbol was settled for good
    TRIGGERED = 59  # a conditional order that became an order
    POSITION_CLOSED = 60  # what it would have closed is gone
    # refusals of what makes a perpetual, after those above, in checking order
    POSITION_MODE = 64  # the position side doesn't fit the account's mode
    LIQUIDATING = 65  # the account may not act while it is being liquidated
    NO_CHANGE = 66  # it is so already
    OPEN_ORDERS = 67  # can't change while orders are open
    OPEN_POSITION = 68  # can't change while a position is open
    NO_POSITION = 69  # there is none to move margin to or to close
    CROSS_MARGIN = 70  # an isolated position is needed
    BAD_TRIGGER = 71  # a trigger, activation price or callback outside what can be
    IMMEDIATE_TRIGGER = 72  # it would be reached at once
    TOO_MANY_ALGOS = 73
    BRACKET_NOTIONAL = 74  # more than the leverage allows
    UNKNOWN_REQUEST = 75  # no request of this id waits for that
    SAME_PRINCIPAL = 76  # who approves must not be who asked
    REPLAYED = 77  # a signed request with this digest was taken before
    STALE_PRICE = 78  # of an index source


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
    MARGIN = 11  # follows POSITION: isolated wallet, maintenance, liquidation price
    HOLD = 12  # what an order holds and claims, after it changed without a trade or a flip
    FUNDING = 13  # one position paid or received funding
    FUNDING_ROUND = 14  # a symbol's funding began or ended
    PRICE = 15  # mark, index and estimated funding rate of a symbol
    ALGO = 16  # a conditional order's state after an event
    TRAIL = 17  # follows ALGO: what a trailing stop has besides
    MOVE = 18  # money moved between pockets or accounts without a trade
    LIQUIDATION = 19  # a step of a liquidation
    WARNING = 20  # a margin call
    REQUEST = 21  # a withdrawal or adjustment was requested, approved, rejected, settled
    PARAMETERS = 22  # the payload of an administrative command, verbatim
    EXPIRY = 23  # follows the ORDER that opened a GTD order: when it ends
    ADL = 24  # follows the trade of a deleveraging: the victim's score and place


class Flip(IntEnum):
    """What became of a close claim that was robbed; `status` of a FLIP report."""

    TO_OPEN = 0  # it opens now, and holds margin
    TO_CLOSE = 1  # it closes now, and its margin is back
    TRIMMED = 2  # it can do neither: the order is proposed to shrink or end


class Cause(IntEnum):
    """Why a trade happened; bits 2 to 4 of `status` of EXEC and POSITION."""

    MATCH = 0
    LIQUIDATION = 1  # this side's order was the liquidation's
    TAKEOVER = 2  # the insurance fund took it at the bankruptcy price
    ADL = 3  # closed against the other side at the bankruptcy price
    DELIST = 4  # closed at the settlement price


class Move(IntEnum):
    """Why money moved; `status` of MOVE."""

    ISOLATE = 0  # from the wallet into an isolated position
    RELEASE = 1  # back from it
    TRANSFER = 2  # between accounts
    CLEARANCE = 3  # liquidation fee, to the insurance fund
    LEFTOVER = 4  # what a taken-over position left, to the insurance fund
    BAD_DEBT = 5  # the fund makes a negative wallet whole
    DUST = 6  # what rounding kept back, to the dust account
    ADJUST = 7  # by hand, approved
    WITHDRAW_HOLD = 8  # set aside for a requested withdrawal
    WITHDRAW_RETURN = 9  # it was rejected
    WITHDRAW_SETTLE = 10  # it has left


class Halt(IntEnum):
    """Why nobody is liquidated and nothing is funded in a symbol."""

    NONE = 0
    STALE = 1  # no index source is live
    JUMP = 2  # the index would move further at once than is believed


class RequestStatus(IntEnum):
    REQUESTED = 0
    APPROVED = 1
    REJECTED = 2
    SETTLED = 3


class LiquidationStep(IntEnum):
    """`status` of LIQUIDATION."""

    NONE = 0
    STARTED = 1  # risk found it unsafe: its open orders are being cancelled
    ORDER = 2  # an IOC at the bankruptcy price went to the market
    TAKEOVER = 3  # the insurance fund takes the rest
    ADL = 4  # the other side takes the rest
    RECOVERED = 5  # safe again
    CLOSED = 6  # nothing is left open


class MatchKind(IntEnum):
    """What matching says happened. No money in it."""

    NONE = 0
    RESTED = 1  # the subject is in the book with `open_lots`
    FILL = 2  # maker and taker met
    ENDED = 3  # the order at `slot` left the book (or never entered) with `open_lots` unfilled
    # The subject has a new price and `open_lots`, before any fills it causes; the last record:
    # it met nobody, and rests.
    AMENDED = 4
    REFUSED = 5  # nothing to do: the subject was not live
    DONE = 6  # a shard has nothing (more) to say about this command
    BOOK = 7  # SAMPLE: best bid and ask
    IMPACT = 8  # SAMPLE: average prices that the impact notional would get


class Route(IntEnum):
    """Where a command goes after risk."""

    NOWHERE = 0  # settled by risk itself
    SHARD = 1  # to the shard of its symbol
    ALL_SHARDS = 2


class NodeState(IntEnum):
    FREE = 0
    LIVE = 1  # in the book
    DEAD = 2  # filled, cancelled or expired; its slot waits for settlement
