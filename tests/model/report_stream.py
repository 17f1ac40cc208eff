"""Reports by hand: a stream as the engine would write it, one call a thing that happens.

    s = Stream().market()
    s.deposit(ANN, 1_000_000)
    s.trade(maker=(ANN, "BUY"), taker=BOB, price=100, lots=5)
    rows = s.rows()

Keeps wallets and positions the slow, obvious way, so that what reports say is right unless a test
asks for something else.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from shm import records
from shm.codes import Cause, Kind, Move, ReportKind, RequestStatus, Side, Status
from shm.kinds import PAYLOAD, REPORT_RECORDS, command
from shm.records import NO_SYMBOL, REPORT
from shm.units import DUST_ACCOUNT, INSURANCE_ACCOUNT, SYSTEM_ACCOUNTS

ANN, BOB, CAT, DAN = range(SYSTEM_ACCOUNTS, SYSTEM_ACCOUNTS + 4)
FUND = INSURANCE_ACCOUNT
T0 = 1_700_000_000_000_000_000
UNIT = 10  # quanta a tick and lot of every symbol here


class Stream:
    def __init__(self) -> None:
        self.made: list[np.ndarray[Any, Any]] = []
        self.seq = 0
        self.ts_ns = T0
        self.trades = 0
        self.wallets: dict[int, int] = defaultdict(int)
        self.isolated: dict[tuple[int, int, int], int] = defaultdict(int)
        self.lots: dict[tuple[int, int, int], int] = defaultdict(int)
        self.cost: dict[tuple[int, int, int], int] = defaultdict(int)

    def rows(self) -> np.ndarray[Any, Any]:
        """Every report so far."""
        return np.concatenate([*self.made, np.zeros(0, REPORT.dtype)])

    # ------------------------------------------------------------ one report

    def add(self, kind: ReportKind, **fields: Any) -> None:
        """A report of the command in hand."""
        row = np.zeros(1, REPORT.dtype)
        layout = records.REPORT if kind == ReportKind.ORDER else REPORT_RECORDS[kind]
        view = row.view(layout.dtype)
        view["seq"], view["kind"], view["symbol"] = self.seq, kind, NO_SYMBOL
        for name, value in fields.items():
            view[name] = value
        self.made.append(row)

    def answer(self, kind: Kind, account: int = 0, trace: int = 0, **fields: Any) -> int:
        """Begin a command that is not about one order; returns its sequence number."""
        self.seq += 1
        self.ts_ns += 1_000_000
        self.add(ReportKind.ANSWER, account=account, status=kind, ts_ns=self.ts_ns, **fields)
        if trace:
            self.add(ReportKind.TRACE, account=account, trace_hi=trace, trace_lo=~trace)
        return self.seq

    def parameters(self, row: np.ndarray[Any, Any]) -> None:
        words = row.view(np.int64).reshape(-1)[list(PAYLOAD)].tolist() + [0] * 5
        for index in range(4):
            self.add(
                ReportKind.PARAMETERS,
                account=row["account"][0],
                symbol=row["symbol"][0],
                status=int(row["kind"][0]) << 2 | index,
                payload=words[index * 6 : index * 6 + 6],
            )

    def administer(self, kind: Kind, **fields: Any) -> int:
        """A command whose payload is repeated."""
        seq = self.answer(kind)
        self.parameters(command(kind, **fields))
        return seq

    # ------------------------------------------------------------ what happens

    def market(self, symbols: int = 1) -> Stream:
        self.administer(Kind.ASSET, asset=0, scale=6, name="USDT")
        for symbol in range(symbols):
            self.administer(
                Kind.SYMBOL,
                symbol=symbol,
                tick_lot_quanta=UNIT,
                asset=0,
                name=("BTCUSDT", "ETHUSDT", "SOLUSDT")[symbol],
            )
        return self

    def deposit(self, account: int, amount: int, source: int = 0, **fields: Any) -> None:
        """Negative: a withdrawal at once."""
        kind = Kind.DEPOSIT if amount > 0 else Kind.WITHDRAW
        self.answer(kind, account, **fields)
        self.wallets[account] += amount
        self.add(
            ReportKind.WALLET,
            account=account,
            status=kind,
            amount_quanta=amount,
            wallet_quanta=self.wallets[account],
            source=source,
        )

    def order(
        self, account: int, status: Status = Status.NEW, order_id: int = 0, **fields: Any
    ) -> int:
        """An order's state; NEW gives it the sequence number as id."""
        self.seq += 1
        self.ts_ns += 1_000_000
        self.add(
            ReportKind.ORDER,
            account=account,
            symbol=0,
            status=status,
            ts_ns=self.ts_ns,
            order_id=order_id or self.seq,
            **fields,
        )
        return order_id or self.seq

    def hold(
        self, account: int, order_id: int, quanta: int, close_lots: int = 0, open_lots: int = 1
    ) -> None:
        self.add(
            ReportKind.HOLD,
            account=account,
            symbol=0,
            order_id=order_id,
            hold_quanta=quanta,
            close_lots=close_lots,
            open_lots=open_lots,
        )

    def fill(
        self,
        account: int,
        side: Side,
        price: int,
        lots: int,
        *,
        fee: int = 0,
        taker: bool = False,
        order_id: int = 0,
        open_lots: int = 0,
        hold: int = 0,
        cause: Cause = Cause.MATCH,
        symbol: int = 0,
        leg: int = 0,
        isolated: bool = False,
    ) -> int:
        """One side of a trade, of the command in hand; returns what it realised."""
        where = (account, symbol, leg)
        signed = lots if side == Side.BUY else -lots
        held, cost = self.lots[where], self.cost[where]
        realised, opening = 0, signed
        if held * signed < 0:
            closing = min(lots, abs(held))
            removed = (
                cost
                if closing == abs(held)
                else (abs(cost) * closing // abs(held)) * (1 if cost > 0 else -1)
            )
            part = closing if held > 0 else -closing
            realised = part * price * UNIT - removed
            cost -= removed
            opening = signed + part
        self.lots[where] = held + signed
        self.cost[where] = cost + opening * price * UNIT
        if isolated:
            self.isolated[where] += realised - fee
        else:
            self.wallets[account] += realised - fee
        status = int(taker) | side << 1 | cause << 2 | leg << 5
        self.add(
            ReportKind.EXEC,
            account=account,
            symbol=symbol,
            status=status,
            order_id=order_id,
            trade_id=self.trades,
            price_ticks=price,
            lots=lots,
            open_lots=open_lots,
            fee_quanta=fee,
        )
        self.add(
            ReportKind.POSITION,
            account=account,
            symbol=symbol,
            status=status,
            trade_id=self.trades,
            position_lots=self.lots[where],
            entry_quanta=self.cost[where],
            realised_quanta=realised,
            wallet_quanta=self.wallets[account],
            hold_quanta=hold,
        )
        self.add(
            ReportKind.MARGIN,
            account=account,
            symbol=symbol,
            status=leg | (4 if isolated else 0),
            isolated_quanta=self.isolated[where],
        )
        return realised

    def trade(
        self,
        buyer: int,
        seller: int,
        price: int,
        lots: int,
        *,
        taker: int | None = None,
        fees: tuple[int, int] = (0, 0),
        cause: Cause = Cause.MATCH,
        maker_cause: Cause = Cause.MATCH,
        **fields: Any,
    ) -> None:
        """Both sides, the maker's first; fees are (maker's, taker's)."""
        taker = seller if taker is None else taker
        self.seq += 1
        self.ts_ns += 1_000_000
        self.add(ReportKind.ANSWER, account=taker, status=Kind.PLACE, ts_ns=self.ts_ns)
        self.trades += 1
        sides = ((buyer, Side.BUY), (seller, Side.SELL))
        for account, side in sorted(sides, key=lambda s: s[0] == taker):
            own = account == taker
            self.fill(
                account,
                side,
                price,
                lots,
                fee=fees[own],
                taker=own,
                cause=cause if own else maker_cause,
                **fields,
            )

    def move(
        self,
        why: Move,
        account: int,
        amount: int,
        *,
        other: int | None = None,
        symbol: int = NO_SYMBOL,
        leg: int = 0,
        reference: int = 0,
    ) -> None:
        """Money into the wallet of `account`, of the command in hand."""
        other = account if other is None else other
        if why in (Move.ISOLATE, Move.RELEASE):
            self.wallets[account] += amount
            self.isolated[account, symbol, leg] -= amount
            told = self.isolated[account, symbol, leg]
        elif why in (Move.WITHDRAW_HOLD, Move.WITHDRAW_RETURN):
            told = 0
        elif why == Move.WITHDRAW_SETTLE:
            self.wallets[account] += amount
            told = 0
        elif why == Move.DUST:
            self.wallets[account] += amount
            told = self.wallets[account]
        else:
            self.wallets[account] += amount
            self.wallets[other] -= amount
            told = self.wallets[other]
        self.add(
            ReportKind.MOVE,
            account=account,
            symbol=symbol,
            status=why,
            amount_quanta=amount,
            wallet_quanta=self.wallets[account],
            other_account=other,
            other_quanta=told,
            reference=reference,
            pocket=leg << 16,
        )

    def request(
        self, account: int, status: RequestStatus, amount: int, *, request: int, fee: int = 0
    ) -> None:
        self.add(
            ReportKind.REQUEST,
            account=account,
            status=status,
            request_id=request,
            amount_quanta=amount,
            what=Kind.REQUEST_WITHDRAW | fee << 8,
        )

    def funding(self, rate_of: dict[tuple[int, bool], int], symbol: int = 0) -> None:
        """A round: (account, isolated) -> money in; what is left over goes to dust."""
        self.answer(Kind.FUNDING)
        self.add(ReportKind.FUNDING_ROUND, symbol=symbol, status=0, funding_ns=self.ts_ns)
        for (account, isolated), amount in rate_of.items():
            if isolated:
                self.isolated[account, symbol, 0] += amount
            else:
                self.wallets[account] += amount
            self.add(
                ReportKind.FUNDING,
                account=account,
                symbol=symbol,
                status=4 if isolated else 0,
                funding_ns=self.ts_ns,
                amount_quanta=amount,
                wallet_quanta=self.isolated[account, symbol, 0]
                if isolated
                else self.wallets[account],
            )
        dust = -sum(rate_of.values())
        if dust:
            self.move(Move.DUST, DUST_ACCOUNT, dust, symbol=symbol)
        self.add(
            ReportKind.FUNDING_ROUND,
            symbol=symbol,
            status=1,
            funding_ns=self.ts_ns,
            dust_quanta=dust,
        )
