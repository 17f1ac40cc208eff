"""What every handler stands on: one Gate a process, one Call a request.

Reads   everything through the clients of the other processes; a client that is gone is made anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from gateways.accounts.client import Account, AccountView, ViewError
from gateways.history.queries import History, HistoryError, QueryError
from gateways.http.accounts import Accounts
from gateways.http.classic import Classic
from gateways.http.desk import Desk
from gateways.http.errors import ApiError
from gateways.http.library import Library
from gateways.http.limits import Limits
from gateways.http.once import Once
from gateways.http.orders import HEARD, AccountState
from gateways.http.refusals import Refusals
from gateways.http.rows import Origin
from gateways.http.schema import Values
from gateways.http.signing import digest_of_part
from gateways.http.venue import Symbol, Venue
from gateways.marketdata.client import MarketData, MarketDataError
from gateways.users.keyring import KeyRing
from gateways.users.store import Key, Store
from shm.config import Config

VENUE_POLL_S: Final = 1.0
READ_S: Final = 2.0
Found = TypeVar("Found")


class Gate:
    """The services of one gateway process."""

    def __init__(
        self,
        config: Config,
        producer: str,
        store: Store,
        keys: KeyRing,
        limits: Limits,
    ) -> None:
        self.config = config
        self.store = store
        self.keys = keys
        self.limits = limits
        self.refusals = Refusals()
        self.once = Once(Path(config.data_dir) / "gateways.once")
        self._view: AccountView | None = None
        self._history: History | None = None
        self.venue = Venue(self.view)
        self.classic = Classic(config.users_path.parent / "classic.db")
        self.accounts = Accounts(self.view, self.venue, self.classic)
        self.desk = Desk(
            config,
            producer,
            self.accounts.on_report,
            self.accounts.done,
            config.http.answer_timeout_ms / 1000,
            HEARD,
        )
        self.accounts.desk = self.desk
        self.market = MarketData(config)
        self.library = Library(Path(config.data_dir))
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.desk.start()
        self._tasks = [asyncio.create_task(self._poll())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.desk.stop()
        self.market.close()
        self.classic.close()
        self.once.close()
        if self._view is not None:
            self._view.close()

    async def _poll(self) -> None:
        """What is declared changes rarely; marks are looked up for user events."""
        while True:
            self.venue.refresh()
            for index, symbol in self.venue.by_index.items():
                self.accounts.marks[index] = symbol.row["mark_ticks"]
            await asyncio.sleep(VENUE_POLL_S)

    # ------------------------------------------------------------ clients of other processes

    def view(self) -> AccountView:
        """The account view that is kept up to date now; ViewError when there is none."""
        if self._view is None or not self._view.alive:
            if self._view is not None:
                self._view.close()
                self._view = None
            self._view = AccountView(self.config)
        return self._view

    async def fresh_view(self) -> AccountView:
        """The view, with everything in it that anybody was acknowledged until now."""
        try:
            view = self.view()
            await view.wait_for(await self.desk.caught_up(), READ_S)
        except ViewError:
            raise ApiError(-1001) from None
        return view

    async def account(self, account: int) -> Account:
        """All of an account, one's own acknowledged writes included."""
        view = await self.fresh_view()
        try:
            found = view.account(account)
        except ViewError:
            raise ApiError(-1001) from None
        if found is None:
            raise ApiError(-1109)
        return found

    async def state(self, account: int) -> AccountState:
        """An account as this gateway follows it."""
        try:
            return await self.accounts.get(account)
        except ViewError:
            raise ApiError(-1001) from None

    async def trading_state(self, account: int) -> AccountState:
        """The same for commands, which go on without a view: with nothing known of the account."""
        try:
            return await self.accounts.get(account)
        except ViewError:
            return AccountState(account)

    async def found(self, look: Callable[[], Found | None]) -> Found | None:
        """What is looked for in an account; where it isn't, after all that is durable was heard.

        Another gateway may have been told of it before this one.
        """
        there = look()
        if there is None:
            await self.desk.caught_up()
            there = look()
        return there

    async def ask_market(self, what: str, **parameters: Any) -> bytes:
        """A snapshot of market data, as final JSON."""
        try:
            return await self.market.ask(what, **parameters)
        except MarketDataError as error:
            if "didn't answer" in str(error):
                raise ApiError(-1001) from None
            raise ApiError(-1130, message=str(error)) from None

    async def history(self, query: str, *values: Any, **filters: Any) -> Any:
        """One query of the history, once it has what anybody was acknowledged until now."""
        seq = await self.desk.caught_up()

        def run() -> Any:
            if self._history is None:
                self._history = History(self.config)
            self._history.wait_for(seq, READ_S)
            return getattr(self._history, query)(*values, **filters)

        try:
            return await asyncio.to_thread(run)
        except HistoryError:
            raise ApiError(-1001) from None
        except QueryError as error:
            raise ApiError(error.code, message=str(error)) from None


class Call:
    """One request after it was authenticated and parsed."""

    __slots__ = ("digest", "gate", "key", "now_ms", "part", "recv_ns", "trace", "values")

    def __init__(
        self,
        gate: Gate,
        values: Values,
        key: Key | None,
        recv_ns: int,
        digest: tuple[int, int] | None,
        trace: tuple[int, int],
        part: int = 0,
    ) -> None:
        """digest: of what was signed of it, which names it for ever; None where that isn't needed.
        part: which command of the request this is, where one makes several.
        """
        self.gate = gate
        self.values = values
        self.key = key
        self.recv_ns = recv_ns
        self.now_ms = recv_ns // 1_000_000
        self.digest = digest
        self.trace = trace
        self.part = part

    def of(self, values: Values, part: int) -> Call:
        """One of the several that this request asks for."""
        return Call(self.gate, values, self.key, self.recv_ns, self.digest, self.trace, part)

    @property
    def account(self) -> int:
        assert self.key is not None, "a route without a key has no account"
        return self.key.account

    def origin(self) -> Origin:
        """Where the command that this makes comes from."""
        assert self.key is not None
        high = low = 0
        if self.digest is not None:
            high, low = digest_of_part(self.digest, self.part)
        return Origin(*self.trace, high, low, self.recv_ns, self.key.id)

    def symbol(self) -> Symbol:
        return self.gate.venue.symbol(self.values["symbol"])

    def symbol_index(self) -> int | None:
        """Index of the symbol asked for, or None for all."""
        return self.symbol().index if self.values["symbol"] is not None else None


def clock_ns() -> int:
    return time.time_ns()
