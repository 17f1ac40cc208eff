"""The chart of accounts: every account of the books, declared as data, and how its key is packed.

Reads   nothing.
Never   imports numba: statements, exports and gateways stand on it.

An account of the books is a code of the chart, and for most codes a customer, a symbol or asset,
and a leg of a position. All of that is one int64, its key:

    code 13 bits << 50 | leg 2 << 48 | symbol or asset 16 << 32 | customer 32

Amounts are signed quanta (or lots): a debit is positive, a credit negative. The chart says on which
side an account normally stands, and the statements turn the sign.

What the venue owes or owns, and nothing else, stands outside the memorandum accounts (7xxx). Those
hold what is claimed and where positions stand, each against a control account of its own, so that
they balance among themselves and add nothing to assets, liabilities or equity.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from shm.units import (
    ADJUST_ACCOUNT,
    DUST_ACCOUNT,
    FEE_ACCOUNT,
    INSURANCE_ACCOUNT,
    SYSTEM_ACCOUNTS,
)

CODE_SHIFT: Final = 50
LEG_SHIFT: Final = 48
SUB_SHIFT: Final = 32
LOTS: Final = 1 << 16  # commodity LOTS | symbol: contracts of it; below: an asset


class Type(IntEnum):
    ASSET = 1
    LIABILITY = 2
    EQUITY = 3
    INCOME = 4
    EXPENSE = 5
    MEMO = 7


class By(IntEnum):
    """What an account of the chart is kept apart by, besides the customer."""

    ASSET = 0
    SYMBOL = 1  # money of its settlement asset
    SYMBOL_LEG = 2
    SYMBOL_LOTS = 3  # contracts, not money
    SYMBOL_LEG_LOTS = 4


class Code(IntEnum):
    """Numbers are in the files: append, never renumber."""

    CUSTODY_HOT = 1010
    CUSTODY_COLD = 1020
    CUSTODY_THIRD = 1030
    DEPOSITS_TRANSIT = 1040
    WITHDRAWALS_TRANSIT = 1050
    CUSTODY_FAUCET = 1060
    RECEIVABLE = 1090
    AVAILABLE = 2010
    POSITION_MARGIN = 2030
    WITHDRAWAL_PENDING = 2040
    DEPOSIT_PENDING = 2050
    PNL_CLEARING = 2110
    FUNDING_CLEARING = 2120
    ROUNDING = 2130
    INSURANCE_FUND = 2210
    SUSPENSE = 2290
    CAPITAL = 3010
    RETAINED = 3020
    VENUE_DESK = 3030
    TAKER_FEE = 4010
    MAKER_FEE = 4020
    LIQUIDATION_FEE = 4030
    WITHDRAWAL_FEE = 4040
    OTHER_INCOME = 4090
    MAKER_REBATE = 5010
    NETWORK = 5020
    BAD_DEBT = 5030
    FUND_TOP_UP = 5040
    ADJUSTMENT = 5050
    ORDER_HOLD = 7010
    ORDER_HOLD_CONTROL = 7020
    POSITION_LOTS = 7110
    POSITION_LOTS_CONTROL = 7120
    POSITION_COST = 7210
    POSITION_COST_CONTROL = 7220
    CLOSE_CLAIM = 7310
    CLOSE_CLAIM_CONTROL = 7320


class Account(NamedTuple):
    """One line of the chart."""

    code: Code
    path: tuple[str, ...]  # as exports name it, before customer, symbol and leg
    type: Type
    debit: bool  # stands on the debit side when all is well
    by: By
    customer: bool  # one for each customer
    engine: bool  # the engine keeps it too: only the engine's reports may change it
    meaning: str


def _accounts() -> dict[int, Account]:
    a, lia, e = Type.ASSET, Type.LIABILITY, Type.EQUITY
    inc, exp, memo = Type.INCOME, Type.EXPENSE, Type.MEMO
    c = Code
    rows: tuple[tuple[Code, str, Type, int, By, int, int, str], ...] = (
        (c.CUSTODY_HOT, "Custody:Hot", a, 1, By.ASSET, 0, 0, "what the venue holds online"),
        (c.CUSTODY_COLD, "Custody:Cold", a, 1, By.ASSET, 0, 0, "what it holds offline"),
        (c.CUSTODY_THIRD, "Custody:ThirdParty", a, 1, By.ASSET, 0, 0, "what others hold for it"),
        (c.CUSTODY_FAUCET, "Custody:Faucet", a, 1, By.ASSET, 0, 0, "test money, of no value"),
        (c.DEPOSITS_TRANSIT, "DepositsInTransit", a, 1, By.ASSET, 0, 0, "seen, not confirmed"),
        (c.WITHDRAWALS_TRANSIT, "WithdrawalsInTransit", a, 0, By.ASSET, 0, 0, "sent, unconfirmed"),
        (c.RECEIVABLE, "Receivable:UserDeficit", a, 1, By.ASSET, 1, 0, "owed by customers"),
        (c.AVAILABLE, "User:Available", lia, 0, By.ASSET, 1, 1, "cross wallets of customers"),
        (c.POSITION_MARGIN, "User:PositionMargin", lia, 0, By.SYMBOL_LEG, 1, 1, "isolated wallets"),
        (c.WITHDRAWAL_PENDING, "User:WithdrawalPending", lia, 0, By.ASSET, 1, 1, "asked for"),
        (c.DEPOSIT_PENDING, "User:DepositPending", lia, 0, By.ASSET, 1, 0, "seen, not credited"),
        (c.PNL_CLEARING, "Clearing:PnL", lia, 0, By.SYMBOL, 0, 1, "entry value of open positions"),
        (c.FUNDING_CLEARING, "Clearing:Funding", lia, 0, By.SYMBOL, 0, 1, "0 between rounds"),
        (c.ROUNDING, "Clearing:Rounding", lia, 0, By.ASSET, 1, 1, "dust that rounding kept back"),
        (c.INSURANCE_FUND, "InsuranceFund", lia, 0, By.ASSET, 1, 1, "bears what others cannot"),
        (c.SUSPENSE, "Suspense", lia, 0, By.ASSET, 0, 0, "must be 0"),
        (c.CAPITAL, "Capital", e, 0, By.ASSET, 1, 0, "put in by the owners"),
        (c.RETAINED, "Retained", e, 0, By.ASSET, 1, 1, "results of closed periods"),
        (c.VENUE_DESK, "VenueDesk", e, 0, By.ASSET, 1, 1, "the venue's own trading accounts"),
        (c.TAKER_FEE, "TakerFee", inc, 0, By.SYMBOL, 0, 1, "paid by takers"),
        (c.MAKER_FEE, "MakerFee", inc, 0, By.SYMBOL, 0, 1, "paid by makers"),
        (c.LIQUIDATION_FEE, "LiquidationFee", inc, 0, By.SYMBOL, 0, 1, "clearance, to the venue"),
        (c.WITHDRAWAL_FEE, "WithdrawalFee", inc, 0, By.ASSET, 0, 1, "kept of withdrawals"),
        (c.OTHER_INCOME, "Other", inc, 0, By.ASSET, 0, 1, "what came to the venue otherwise"),
        (c.MAKER_REBATE, "MakerRebate", exp, 1, By.SYMBOL, 0, 1, "paid to makers"),
        (c.NETWORK, "Network", exp, 1, By.ASSET, 0, 0, "paid to chains and banks"),
        (c.BAD_DEBT, "BadDebt", exp, 1, By.ASSET, 0, 1, "deficits nobody else bore"),
        (c.FUND_TOP_UP, "InsuranceTopUp", exp, 1, By.ASSET, 0, 0, "put into the fund"),
        (c.ADJUSTMENT, "AdminAdjustment", exp, 1, By.ASSET, 1, 1, "by hand, approved"),
        (c.ORDER_HOLD, "OrderHold", memo, 1, By.ASSET, 1, 1, "held for open orders"),
        (c.ORDER_HOLD_CONTROL, "OrderHoldControl", memo, 0, By.ASSET, 0, 1, "its other side"),
        (c.POSITION_LOTS, "Position", memo, 1, By.SYMBOL_LEG_LOTS, 1, 1, "signed contracts"),
        (c.POSITION_LOTS_CONTROL, "PositionControl", memo, 0, By.SYMBOL_LOTS, 0, 1, "must be 0"),
        (c.POSITION_COST, "PositionCost", memo, 1, By.SYMBOL_LEG, 1, 1, "signed entry value"),
        (c.POSITION_COST_CONTROL, "PositionCostControl", memo, 0, By.SYMBOL, 0, 1, "other side"),
        (c.CLOSE_CLAIM, "CloseClaim", memo, 1, By.SYMBOL_LEG_LOTS, 1, 1, "claimed by orders"),
        (c.CLOSE_CLAIM_CONTROL, "CloseClaimControl", memo, 0, By.SYMBOL_LOTS, 0, 1, "other side"),
    )
    return {
        int(code): Account(
            code, tuple(path.split(":")), kind, bool(debit), by, bool(customer), bool(engine), text
        )
        for code, path, kind, debit, by, customer, engine, text in rows
    }


CHART: Final = _accounts()
assert CHART.keys() == set(map(int, Code))

ROOTS: Final = {
    Type.ASSET: "Assets",
    Type.LIABILITY: "Liabilities",
    Type.EQUITY: "Equity",
    Type.INCOME: "Income",
    Type.EXPENSE: "Expenses",
    Type.MEMO: "Equity:Memo",  # exports know five roots; these add up to nothing
}
LEGS: Final = ("", "Long", "Short")


class Event(IntEnum):
    """What happened, of a journal entry. Numbers are in the files: append, never renumber."""

    DEPOSIT = 1
    WITHDRAW = 2
    WITHDRAW_REQUEST = 3
    WITHDRAW_RETURN = 4
    WITHDRAW_SETTLE = 5
    HOLD = 6  # an order holds more
    RELEASE = 7  # an order holds less, or has ended
    FILL_OPEN = 8
    FILL_REDUCE = 9
    FILL_FLIP = 10  # through zero
    CLAIM_FLIP = 11
    FUNDING = 12
    FUNDING_DUST = 13
    ISOLATE = 14
    UNISOLATE = 15
    TRANSFER = 16
    CLEARANCE = 17
    LEFTOVER = 18
    BAD_DEBT = 19
    ADJUST = 20
    LIQUIDATION_FILL = 22
    TAKEOVER = 23
    ADL = 24
    DELIST = 25
    REVERSAL = 32
    CLOSE = 33
    REOPEN = 34
    JOURNAL = 35  # custody, capital, network cost: a bookkeeper's own entry


# What a report said otherwise than the books, when it was booked.
CHECK_WALLET: Final = 1
CHECK_LOTS: Final = 2
CHECK_COST: Final = 3
CHECK_FUNDING: Final = 4
CHECK_ISOLATED: Final = 5
CHECKS: Final = {
    CHECK_WALLET: "R2 wallet",
    CHECK_LOTS: "R1 fills to position",
    CHECK_COST: "R3 entry value",
    CHECK_FUNDING: "R3 funding clearing",
    CHECK_ISOLATED: "R2 isolated wallet",
}

# Where the money of a deposit or withdrawal is: the top seven bits of its `source`.
SOURCE_SHIFT: Final = 56
CUSTODY: Final = (
    Code.CUSTODY_HOT,
    Code.CUSTODY_COLD,
    Code.CUSTODY_THIRD,
    Code.CUSTODY_FAUCET,
)


class Key(NamedTuple):
    """A key of an account, taken apart."""

    code: Code
    account: int  # customer, or system account whose money it is
    sub: int  # asset or symbol, as the chart says
    leg: int  # codes.PositionSide

    @property
    def line(self) -> Account:
        return CHART[self.code]


def pack(code: int, account: int, sub: int, leg: int = 0) -> int:
    """The key of an account of the books."""
    return (
        int(code) << CODE_SHIFT
        | int(leg) << LEG_SHIFT
        | int(sub) << SUB_SHIFT
        | int(account) & 0xFFFFFFFF
    )


def unpack(key: int) -> Key:
    """The parts of a key."""
    key = int(key)
    code = Code(key >> CODE_SHIFT)
    return Key(code, key & 0xFFFFFFFF, (key >> SUB_SHIFT) & 0xFFFF, (key >> LEG_SHIFT) & 3)


_SYSTEM: Final = {
    FEE_ACCOUNT: Code.OTHER_INCOME,
    INSURANCE_ACCOUNT: Code.INSURANCE_FUND,
    DUST_ACCOUNT: Code.ROUNDING,
    ADJUST_ACCOUNT: Code.ADJUSTMENT,
}


_NAMES: Final = {
    FEE_ACCOUNT: "Fees",
    INSURANCE_ACCOUNT: "Fund",
    DUST_ACCOUNT: "Dust",
    ADJUST_ACCOUNT: "Adjust",
}
_ONE: Final = (Code.INSURANCE_FUND, Code.ROUNDING, Code.ADJUSTMENT)  # always the same account's


def owner_name(key: Key) -> str:
    """Whose account of the books it is, as a part of its path; empty where that goes without."""
    if not key.line.customer or key.code in _ONE:
        return ""
    if key.account >= SYSTEM_ACCOUNTS:
        return f"U{key.account}"
    return _NAMES.get(key.account, f"Venue{key.account}")


def wallet_code(account: int) -> Code:
    """Which account of the chart holds the cross wallet of a customer or system account."""
    if account >= SYSTEM_ACCOUNTS:
        return Code.AVAILABLE
    return _SYSTEM.get(account, Code.VENUE_DESK)
