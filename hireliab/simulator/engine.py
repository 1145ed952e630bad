"""Places, matches, triggers and cancels orders. No sockets, no JSON, no time of its own."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal

from hireliab.simulator import money, orders
from hireliab.simulator.book import Book, Resting
from hireliab.simulator.clock import Clock
from hireliab.simulator.house import House
from hireliab.simulator.ledger import FEES, HOUSE, Ledger
from hireliab.simulator.markets import Market
from hireliab.simulator.money import ZERO
from hireliab.simulator.orders import Fill, Order, OrderStore
from hireliab.simulator.placing import Draft, OrderRefused, check_prices, expected_price, worst_price
from hireliab.simulator.settings import Settings
from hireliab.simulator.tape import Print, Tape
from hireliab.simulator.truth import describe_balance, describe_fill, describe_order
from hireliab.simulator.visibility import Visibility

FIRST_ORDER_ID = 2**31 + 1
"""Ids do not fit 32 bits, on purpose."""
FIRST_FILL_ID = 100_000_001

_HUNDRED = Decimal(100)
Recorder = Callable[[str, dict[str, object]], None]


@dataclass
class Pit:
    """Everything that belongs to one market."""

    market: Market
    book: Book
    house: House
    tape: Tape
    is_closed: bool = False
    resting: dict[int, Resting] = field(default_factory=dict)
    stops: dict[int, None] = field(default_factory=dict)


class Engine:
    """
    Price-time matching with fees, blocked balances, collar, stops and OCO.

    Guarantees: per currency the sum of all balances never changes; matched plus unmatched is the
    amount; an account blocks exactly what its open orders need.

    Does not: look at the clock between calls. Delayed changes happen in `run_due`, which callers
    invoke first.

    Thread safety: None; the venue's lock guards it.
    """

    def __init__(
        self,
        markets: Iterable[Market],
        clock: Clock,
        *,
        seed: int = 0,
        settings: Settings | None = None,
        record: Recorder = lambda _kind, _fields: None,
        first_order_id: int = FIRST_ORDER_ID,
        first_fill_id: int = FIRST_FILL_ID,
    ) -> None:
        self.settings = settings or Settings()
        self.orders = OrderStore()
        self.ledger = Ledger()
        self.visibility = Visibility()
        self.fills: dict[str, list[Fill]] = defaultdict(list)
        self.request: int | None = None
        """Number of the request being served; None for admin calls and the passing of time."""
        self.blocked_accounts: dict[str, str] = {}
        """Accounts that may not trade, and the code that tells them."""
        self._clock = clock
        self._record = record
        self._rng = random.Random(f"{seed}/engine")
        self._order_ids = itertools.count(first_order_id)
        self._fill_ids = itertools.count(first_fill_id)
        self._recent: dict[tuple[object, ...], float] = {}
        self._due: list[tuple[float, int, str, int]] = []
        self._due_count = itertools.count()
        self._now = clock.monotonic()
        self._now_ns = clock.time_ns()
        self.pits: dict[str, Pit] = {}
        for market in markets:
            book = Book()
            tape = Tape(market, seed, self._now_ns)
            self.pits[market.symbol] = Pit(market, book, House(market, book, seed), tape)
        self.by_key = {pit.market.key: pit.market for pit in self.pits.values()}

    # --- called by the venue ---------------------------------------------------------------

    def run_due(self) -> None:
        """Let everything happen that was due by now: activations, rejections, cancels, pruning."""
        self._now, self._now_ns = self._clock.monotonic(), self._clock.time_ns()
        now, now_ns = self._now, self._now_ns
        while self._due and self._due[0][0] <= now:
            due, _, action, order_id = heapq.heappop(self._due)
            self._now, self._now_ns = due, now_ns - round((now - due) * 1e9)
            order = self.orders.get(order_id)
            if order is not None and order.is_open:
                self._do(action, order)
        self._now, self._now_ns = now, now_ns
        self._finish()
        if self.settings.prune_after is not None:
            self.orders.prune(now - self.settings.prune_after)

    def place(self, account: str, draft: Draft) -> list[Order]:
        """
        Check an order in the exchange's sequence, and let it trade.

        Returns:
            The order as it stands after matching; both legs of an OCO, limit leg first.

        Raises:
            OrderRefused: It was not registered.
        """
        pit = self.pits[draft.market.symbol]
        self._check_permitted(account, pit)
        self._check_duplicates(account, draft)
        check_prices(draft, pit.tape.last, self.settings)
        legs = self._legs(account, draft, pit.tape.last)
        self._check_funds(legs)
        self._remember_duplicate(account, draft)
        for leg in legs:
            self._accept(pit, leg)
        self._enter(pit, legs[0])
        self._finish()
        return [self._latest(leg.id) for leg in legs]

    def cancel(self, order: Order) -> Order:
        """Cancel an open order, and the other leg of an OCO; at once or after `cancel_delay`."""
        if self.settings.cancel_delay:
            self._later(self.settings.cancel_delay, "cancel", order.id)
            return replace(order, status=orders.CANCELED)
        self._do("cancel", order)
        self._finish()
        return self._latest(order.id)

    def set_balance(self, account: str, currency: str, total: Decimal) -> None:
        """Set a balance; orders that it no longer covers are cancelled, newest first."""
        difference = money.sub(total, self.ledger.get(account, currency).total)
        tp = "manual" if currency in self.ledger.wallets(account) else "deposit"
        self.ledger.move(currency, difference, source=HOUSE, target=account)
        self.ledger.note(account, currency, difference, tp=tp, text="Balance was set", at_ns=self._now_ns)
        for order in reversed(self.orders.open_orders(account)):
            if self.ledger.get(account, currency).free >= 0:
                break
            if self._held_currency(order) == currency:
                self._do("system", order)
        self._finish()

    # --- called by trading_floor.py ----------------------------------------------------------------

    def trade_at(self, pit: Pit, price: Decimal, amount: Decimal | None) -> None:
        """Let the house fill users' resting orders that accept `price`, best first, up to an amount."""
        for side in ("sell", "buy"):
            for entry in list(pit.book.crossing(side, price)):
                left = entry.remaining if amount is None else amount
                if entry.order_id is None or not left:
                    continue
                part = min(entry.remaining, left)
                pit.book.reduce(entry, part)
                self._exchange(pit, entry, part, None)
                amount = None if amount is None else money.sub(amount, part)

    def print_trade(self, pit: Pit, price: Decimal, amount: Decimal, side: str) -> None:
        """Put a trade between others on the tape, and let stops see it."""
        pit.tape.print(Print(self._now_ns, price, amount, side))
        self._trigger(pit)
        self._finish()

    # --- checks ----------------------------------------------------------------------------

    def _check_permitted(self, account: str, pit: Pit) -> None:
        if account in self.blocked_accounts:
            raise OrderRefused(self.blocked_accounts[account], "Trading is limited")
        if pit.is_closed:
            raise OrderRefused("MarketClosed", "Market is closed")

    def _check_duplicates(self, account: str, draft: Draft) -> None:
        client_id = draft.client_order_id
        if client_id is not None and self.orders.open_by_client_id(account, client_id, self._now):
            raise OrderRefused("DuplicateClientOrderId", "An open order has this clientOrderId")
        window = self.settings.duplicate_window
        key = (account, *draft.fingerprint())
        if self.settings.duplicate_by_client_id:
            key += (client_id,)
        if window and not draft.is_pro and self._now - self._recent.get(key, self._now - window) < window:
            raise OrderRefused("DuplicateOrder", "Duplicate orders are ignored for 10 seconds")

    def _remember_duplicate(self, account: str, draft: Draft) -> None:
        if len(self._recent) > 10_000:
            oldest = self._now - self.settings.duplicate_window
            self._recent = {key: at for key, at in self._recent.items() if at > oldest}
        key = (account, *draft.fingerprint())
        if self.settings.duplicate_by_client_id:
            key += (draft.client_order_id,)
        self._recent[key] = self._now

    def _check_funds(self, legs: list[Order]) -> None:
        first = legs[0]
        needed = money.add(first.held, legs[-1].held) if len(legs) > 1 else first.held
        if needed > self.ledger.get(first.account, self._held_currency(first)).free:
            raise OrderRefused("OverValueOrder")

    # --- orders come into being ------------------------------------------------------------

    def _legs(self, account: str, draft: Draft, last: Decimal) -> list[Order]:
        """The order, or both legs of an OCO, with what each must block."""
        first = Order(
            id=next(self._order_ids),
            account=account,
            market=draft.market.symbol,
            side=draft.side,
            execution=draft.execution,
            amount=draft.amount,
            price=expected_price(draft, last),
            stop_price=None if draft.is_oco else draft.stop_price,
            client_order_id=draft.client_order_id,
            created_ns=self._now_ns,
            request=self.request or 0,
            fee_currency=draft.market.base if draft.side == "buy" else draft.market.quote,
            worst_price=worst_price(draft, last, self.settings.collar),
            status=orders.INACTIVE if draft.is_stop else orders.ACTIVE,
        )
        first = replace(first, held=first.need())
        if not draft.is_oco or draft.stop_limit_price is None:
            return [first]
        first = replace(first, pair_id=first.id + 1)
        second = replace(
            first,
            id=next(self._order_ids),
            pair_id=first.id,
            execution="stop_limit",
            price=draft.stop_limit_price,
            worst_price=draft.stop_limit_price,
            stop_price=draft.stop_price,
            client_order_id=None,
            status=orders.INACTIVE,
        )
        return [first, replace(second, held=max(ZERO, money.sub(second.need(), first.held)))]

    def _accept(self, pit: Pit, leg: Order) -> None:
        self.orders.add(leg, self._now)
        self.ledger.block(leg.account, self._held_currency(leg), leg.held)
        if leg.status == orders.INACTIVE:
            pit.stops[leg.id] = None
        self._record("order", describe_order(leg, "accepted", self.request))

    def _enter(self, pit: Pit, order: Order) -> None:
        """Let an accepted order into the book, now or later; or reject it after all."""
        if order.status != orders.ACTIVE:
            return
        settings = self.settings
        if settings.reject_probability and self._rng.random() < settings.reject_probability:
            self._change(replace(order, status=orders.NEW), "queued")
            self._later(settings.reject_delay, "reject", order.id)
        elif settings.new_delay:
            self._change(replace(order, status=orders.NEW), "queued")
            self._later(settings.new_delay, "activate", order.id)
        else:
            self._match(pit, order)
            self._trigger(pit)

    # --- trading ---------------------------------------------------------------------------

    def _match(self, pit: Pit, order: Order) -> None:
        """Trade an active order; its rest goes into the book, or is cancelled at the collar."""
        if not self.settings.self_trade:
            self._clear_own(pit, order)
        for entry, part in pit.book.take(order.side, order.unmatched, order.worst_price):
            order = self._exchange(pit, entry, part, order)
        if order.is_open and order.takes_market_price:
            self._close(order, orders.CANCELED, "collar")
        elif order.is_open:
            entry = Resting(order.side, order.worst_price, order.unmatched, order.id)
            pit.resting[order.id] = entry
            pit.book.rest(entry)

    def _clear_own(self, pit: Pit, order: Order) -> None:
        for entry in list(pit.book.crossing(order.side, order.worst_price)):
            maker = self.orders.get(entry.order_id) if entry.order_id is not None else None
            if maker is not None and maker.account == order.account:
                self._do("system", maker)

    def _exchange(self, pit: Pit, entry: Resting, part: Decimal, taker: Order | None) -> Order:
        """
        One trade at the maker's price; a side that is not a user's order is the house.

        Returns:
            The taker, or the maker when the house took, after the trade.
        """
        maker = None if entry.order_id is None else self._latest(entry.order_id)
        if entry.order_id is None:
            pit.house.taken(entry)
        elif not entry.remaining:
            del pit.resting[entry.order_id]
        price, total = entry.price, money.mul(part, entry.price)
        market, fill_id = pit.market, next(self._fill_ids)
        taken = None if taker is None else self._fill(pit, taker, part, price, fill_id, is_maker=False)
        # A user who trades with himself may have two orders, never one with itself.
        made = None if maker is None else self._fill(pit, maker, part, price, fill_id, is_maker=True)
        sides = {entry.side: made.account if made else HOUSE}
        sides["sell" if entry.side == "buy" else "buy"] = taken.account if taken else HOUSE
        self.ledger.move(market.base, part, source=sides["sell"], target=sides["buy"])
        self.ledger.move(market.quote, total, source=sides["buy"], target=sides["sell"])
        for order in (taken, made):
            if order is not None:
                self._charge(market, order, part, total)
        side = "sell" if entry.side == "buy" else "buy"
        pit.tape.print(Print(self._now_ns, price, part, side))
        changed = taken or made
        assert changed is not None, "bug: the house traded with itself"
        return changed

    def _fill(self, pit: Pit, order: Order, part: Decimal, price: Decimal, fill_id: int, *, is_maker: bool) -> Order:
        """Book one fill on an order: amounts, fee, blocked balance, records, the other OCO leg."""
        total = money.mul(part, price)
        fee = self._fee(pit.market, order.side, part, total)
        filled = replace(
            order,
            matched=money.add(order.matched, part),
            value=money.add(order.value, total),
            fee=money.add(order.fee, fee),
        )
        if not filled.unmatched:
            filled = replace(filled, status=orders.DONE)
        filled = self._rehold(filled, filled.need())
        self._change(filled, "match")
        fill = Fill(
            id=fill_id,
            order_id=order.id,
            account=order.account,
            market=order.market,
            side=order.side,
            amount=part,
            price=price,
            total=total,
            fee=fee,
            fee_currency=order.fee_currency,
            maker=is_maker,
            at_ns=self._now_ns,
            at=self._now,
        )
        self.fills[order.account].append(fill)
        self._record("fill", describe_fill(fill))
        self._close_pair(filled)
        return filled

    def _charge(self, market: Market, order: Order, part: Decimal, total: Decimal) -> None:
        """Move the fee of a fill, and write the account statement."""
        fee = self._fee(market, order.side, part, total)
        buying = order.side == "buy"
        currency = market.base if buying else market.quote
        self.ledger.move(currency, fee, source=order.account, target=FEES)
        text = f"{market.label} {order.id}"
        credit, debit = (part, total) if buying else (total, part)
        paid = market.quote if buying else market.base
        self.ledger.note(order.account, paid, money.sub(ZERO, debit), tp="sell", text=text, at_ns=self._now_ns)
        self.ledger.note(order.account, currency, money.sub(credit, fee), tp="buy", text=text, at_ns=self._now_ns)

    def _trigger(self, pit: Pit) -> None:
        """Activate stops that the last price reached, until none is left; each may move the price."""
        while True:
            reached = [stop for stop in map(self._latest, pit.stops) if self._is_reached(pit, stop)]
            if not reached:
                return
            stop = reached[0]
            del pit.stops[stop.id]
            sibling = self.orders.get(stop.pair_id) if stop.pair_id is not None else None
            if sibling is not None and sibling.is_open:
                self._close(sibling, orders.CANCELED, "system")
            active = self._rehold(replace(stop, status=orders.ACTIVE), stop.need())
            self._change(active, "triggered")
            self._match(pit, active)

    def _is_reached(self, pit: Pit, stop: Order) -> bool:
        price, last = stop.stop_price, pit.tape.last
        assert price is not None, "bug: a stop without stop price"
        return last >= price if stop.side == "buy" else last <= price

    # --- orders change ---------------------------------------------------------------------

    def _do(self, action: str, order: Order) -> None:
        """Something that was asked for, or became due, happens to an open order."""
        pit = self.pits[order.market]
        if action == "activate":
            active = replace(order, status=orders.ACTIVE)
            self._change(active, "activated")
            self._match(pit, active)
            self._trigger(pit)
        elif action == "reject":
            self._close(order, orders.REJECTED, "rejected")
            self._close_pair(order)
        else:
            self._close(order, orders.CANCELED, action)
            self._close_pair(order)

    def _close(self, order: Order, status: str, reason: str) -> None:
        """End an order without a fill: out of the book, its balance free again."""
        pit = self.pits[order.market]
        pit.stops.pop(order.id, None)
        entry = pit.resting.pop(order.id, None)
        if entry is not None:
            pit.book.remove(entry)
        self._change(self._rehold(replace(order, status=status), ZERO), reason)

    def _close_pair(self, order: Order) -> None:
        """Cancel the other leg of an OCO, if it is still open."""
        sibling = self.orders.get(order.pair_id) if order.pair_id is not None else None
        if sibling is not None and sibling.is_open:
            self._close(sibling, orders.CANCELED, "system")

    def _rehold(self, order: Order, needed: Decimal) -> Order:
        """Block or release the difference to what an order needs now."""
        difference = money.sub(needed, order.held)
        if difference:
            self.ledger.block(order.account, self._held_currency(order), difference)
        return replace(order, held=needed)

    def _change(self, order: Order, reason: str) -> None:
        if self.settings.null_client_ids and not order.is_open:
            # Only reads lose the id; the truth keeps it.
            self.orders.update(replace(order, client_order_id=None), self._now)
        else:
            self.orders.update(order, self._now)
        self._record("order", describe_order(order, reason, self.request))

    def _later(self, delay: float, action: str, order_id: int) -> None:
        heapq.heappush(self._due, (self._now + delay, next(self._due_count), action, order_id))

    # --- helpers ---------------------------------------------------------------------------

    def _latest(self, order_id: int) -> Order:
        order = self.orders.get(order_id)
        assert order is not None, "bug: an order vanished"
        return order

    def _held_currency(self, order: Order) -> str:
        market = self.pits[order.market].market
        return market.base if order.side == "sell" else market.quote

    def _fee(self, market: Market, side: str, part: Decimal, total: Decimal) -> Decimal:
        """Out of what the order receives: base for a buy, quote for a sell."""
        percent = self.settings.fee if market.quote == "rls" else self.settings.fee_usdt
        return money.fee_of(part if side == "buy" else total, money.div(percent, _HUNDRED))

    def _finish(self) -> None:
        """After each operation: the house requotes, changed balances are remembered and recorded."""
        if self.settings.refill:
            for pit in self.pits.values():
                pit.house.refill()
        horizon = self.visibility.lag("wallets")
        for account, currency, balance in self.ledger.touched():
            if account not in (HOUSE, FEES):
                self.ledger.remember(account, currency, self._now, horizon)
                self._record("balance", describe_balance(account, currency, balance))
