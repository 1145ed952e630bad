"""A prepared order and a prepared cancel: what waits and refuses is behind them, the first byte is ahead."""

from __future__ import annotations

from collections.abc import Callable

from hireliab.errors import HireliabError, MalformedResponseError, OutcomeUnknownError
from hireliab.exchange._nobitex_access import Access, Ticket
from hireliab.exchange.adapter import Order, OrderState
from hireliab.exchange.nobitex_client import NobitexClient


class NobitexPreparedOrder:
    """See `hireliab.exchange.adapter.PreparedOrder`."""

    def __init__(
        self, order: Order, *, ticket: Ticket, access: Access, placed: Callable[[Order, OrderState], None]
    ) -> None:
        self._order = order
        self._ticket = ticket
        self._access = access
        self._placed = placed

    @property
    def order(self) -> Order:
        """The order as it will be sent."""
        return self._order

    def submit(self, before_send: Callable[[], None]) -> OrderState:
        """See `Prepared.submit`."""
        _before(before_send, self._ticket)
        state = self._ticket.run(self._place)
        check_echo(self._order, state)
        self._placed(self._order, state)
        return state

    def abandon(self) -> None:
        """See `Prepared.abandon`."""
        self._ticket.abandon()

    def _place(self, client: NobitexClient) -> OrderState:
        order, who, url = self._order, self._access.credentials, self._access.base_url
        client_id = order.client_order_id or None
        if order.type in ("limit", "market"):
            assert order.price is not None, "bug: a prepared order without its price"
            place = client.place_limit if order.type == "limit" else client.place_market
            return place(
                symbol=order.symbol,
                side=order.side,
                amount=order.amount,
                price=order.price,
                client_order_id=client_id,
                credentials=who,
                base_url=url,
            )
        assert order.stop_price is not None, "bug: a prepared stop order without its stop price"
        return client.place_stop(
            symbol=order.symbol,
            side=order.side,
            amount=order.amount,
            stop_price=order.stop_price,
            price=order.price,
            client_order_id=client_id,
            credentials=who,
            base_url=url,
        )


class NobitexPreparedCancel:
    """See `hireliab.exchange.adapter.Prepared`."""

    def __init__(self, order_id: str, *, ticket: Ticket, access: Access, look: Callable[[], OrderState]) -> None:
        self._order_id = order_id
        self._ticket = ticket
        self._access = access
        self._look = look

    def submit(self, before_send: Callable[[], None]) -> OrderState:
        """See `Prepared.submit`. The state is the venue's answer, or, where it leaves the order out, a look at it."""
        _before(before_send, self._ticket)
        who, url = self._access.credentials, self._access.base_url
        result = self._ticket.run(lambda client: client.cancel(order_id=self._order_id, credentials=who, base_url=url))
        if result.order is not None:
            return result.order
        try:
            return self._look()
        except HireliabError as error:
            raise OutcomeUnknownError(
                f"nobitex: the cancel of order {self._order_id} was answered with {result.status.value!r}, but its"
                " state could not be read; look again",
                candidates=(self._order_id,),
            ) from error

    def abandon(self) -> None:
        """See `Prepared.abandon`."""
        self._ticket.abandon()


def _before(before_send: Callable[[], None], ticket: Ticket) -> None:
    try:
        before_send()
    except BaseException:
        ticket.abandon()
        raise


def check_echo(order: Order, state: OrderState) -> None:
    """
    Compare the venue's answer with the order that was sent; a missing client id is allowed.

    Raises:
        MalformedResponseError: It is about something else: what became of the order is unknown.
    """
    wanted = (order.symbol, order.side, order.type, order.amount)
    echoed = (state.symbol, state.side, state.type, state.amount)
    other_id = state.client_order_id is not None and state.client_order_id != order.client_order_id
    if wanted == echoed and not other_id:
        return
    error = MalformedResponseError(
        f"nobitex orders/add: answered with order {state.order_id}, which is not what was sent"
        f" ({' '.join(map(str, echoed))} {state.client_order_id} instead of {' '.join(map(str, wanted))}"
        f" {order.client_order_id}); what happened is unknown",
        http_status=200,
    )
    error.client_order_id = order.client_order_id or None
    error.candidates = (state.order_id,)
    raise error
