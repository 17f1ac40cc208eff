"""The accounts this gateway follows, and who listens to them.

Reads   the account view when an account is first asked for; the desk's reports from then on.
Writes  user-stream events to the listeners, as one text for all of them.

An account is adopted once: reports that come while the view is being read wait in its backlog, and
those the view already had are left out (orders.py's invariant).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from gateways.accounts.client import AccountView, ViewError
from gateways.http.classic import Classic
from gateways.http.desk import Desk, Report
from gateways.http.orders import AccountState, Algo, AlgoHappening
from gateways.http.shapes import events
from gateways.http.venue import Venue

Listener = Callable[[str, bytes], None]  # name of the event, its JSON
ADOPT_S = 2.0


class Accounts:
    """Every account that was asked for since this gateway started."""

    def __init__(self, view: Callable[[], AccountView], venue: Venue, classic: Classic) -> None:
        """view: the mapping that is good now; raises ViewError."""
        self._view = view
        self.classic = classic
        self._venue = venue
        self._states: dict[int, AccountState] = {}
        self._adopting: dict[int, asyncio.Task[AccountState]] = {}
        self._touched: dict[int, AccountState] = {}
        self._listeners: dict[int, list[Listener]] = {}
        self.marks: dict[int, int] = {}
        self.desk: Desk | None = None

    # ------------------------------------------------------------ adoption

    def followed(self, account: int) -> AccountState | None:
        """An account that was adopted before, else None."""
        state = self._states.get(account)
        return state if state is not None and state.ready else None

    async def get(self, account: int) -> AccountState:
        """An account, adopted if it wasn't; ViewError when the view can't say what it has."""
        state = self.followed(account)
        if state is not None:
            return state
        task = self._adopting.get(account)
        if task is None:
            task = asyncio.create_task(self._adopt(account))
            self._adopting[account] = task
            task.add_done_callback(lambda _: self._adopting.pop(account, None))
        return await asyncio.shield(task)

    async def _adopt(self, account: int) -> AccountState:
        assert self.desk is not None
        state = AccountState(account)
        state.listened = account in self._listeners
        self._states[account] = state
        self.desk.listen_to(account)
        try:
            view = self._view()
            await view.wait_for(self.desk.seen_seq, ADOPT_S)
            found = view.account(account)
        except ViewError:
            del self._states[account]
            self.desk.interest[account] = False
            raise
        self._venue.refresh()
        AccountState.assets_by_symbol = {
            index: symbol.asset_index for index, symbol in self._venue.by_index.items()
        }
        if found is not None:
            state.seed(found)
            for index, row in found.symbols.items():
                self.marks.setdefault(index, row["mark_ticks"])
        state.ready = True
        for report, ts_ns in state.backlog:
            self._apply(state, report, ts_ns)
        state.backlog.clear()
        self.done(self.desk.seen_seq)
        return state

    # ------------------------------------------------------------ reports

    def on_report(self, report: Report, ts_ns: int) -> None:
        """One report about an account of interest."""
        state = self._states.get(report[1])
        if state is None:
            return
        if state.ready:
            self._apply(state, report, ts_ns)
        else:
            state.backlog.append((report, ts_ns))

    def _apply(self, state: AccountState, report: Report, ts_ns: int) -> None:
        turn = state.turn
        if turn is not None and turn.seq != report[0]:
            self._flush(state)
        state.apply(report, ts_ns)
        if state.turn is not None:
            self._touched[state.account] = state

    def done(self, seq: int) -> None:
        """All reports of the commands up to `seq` are in: tell who listens."""
        if not self._touched:
            return
        for state in tuple(self._touched.values()):
            if state.turn is None or state.turn.seq <= seq:
                self._flush(state)

    def _flush(self, state: AccountState) -> None:
        turn, state.turn = state.turn, None
        self._touched.pop(state.account, None)
        listeners = self._listeners.get(state.account)
        if turn is None or not listeners:
            return
        for happening in turn.happenings:
            if isinstance(happening, AlgoHappening):
                self.is_classic(state, happening.algo)
        for event in events(state, turn, self._venue, self.marks):
            text = msgspec.json.encode(event)
            for listener in tuple(listeners):
                listener(event["e"], text)

    def is_classic(self, state: AccountState, algo: Algo) -> bool:
        """Whether a conditional order came through the classic order path."""
        if algo.classic is None:
            algo.classic = self.classic.has(state.account, algo.client_id)
        return algo.classic

    # ------------------------------------------------------------ listeners

    def listen(self, account: int, listener: Listener) -> Callable[[], None]:
        """Hear an adopted account's events; returns how to stop."""
        listeners = self._listeners.setdefault(account, [])
        listeners.append(listener)
        self._mark(account, listened=True)

        def stop() -> None:
            if listener in listeners:
                listeners.remove(listener)
            if not listeners and self._listeners.get(account) is listeners:
                del self._listeners[account]
                self._mark(account, listened=False)

        return stop

    def _mark(self, account: int, *, listened: bool) -> None:
        state = self._states.get(account)
        if state is not None:
            state.listened = listened

    def figures(self) -> dict[str, Any]:
        """For health pages."""
        return {"accounts": len(self._states), "listened": len(self._listeners)}
