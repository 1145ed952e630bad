"""
Asking the real exchange: a client that remembers what it saw, the reads of one run, and the watch over one order.

A run that may not place is held to that here, below everything else: the transport of its clients refuses whatever
places or cancels, and whatever exceeds the number of requests.
"""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hireliab.core._threads import Stop
from hireliab.core.clock import Clock
from hireliab.errors import HireliabError, NotSentError
from hireliab.exchange import _nobitex_survey as survey
from hireliab.exchange import _nobitex_values as values
from hireliab.exchange._nobitex_access import Access
from hireliab.exchange._nobitex_markets import Options, OrderBook
from hireliab.exchange._nobitex_survey import Facts, Seen
from hireliab.exchange._nobitex_survey_order import added, cancelled, sightings, wallets_show_it
from hireliab.exchange._nobitex_survey_rows import client_id_of
from hireliab.exchange._nobitex_transport import Answer, Request, Transport
from hireliab.exchange.adapter import Balance
from hireliab.exchange.nobitex_client import NobitexClient

MOST_REQUESTS = 40
"""Of a run that only reads."""

_HEADERS = ("retry-after", "content-type")
_NOBODYS_MARKET = "HIRELIABNONEIRT"
_SOON = 5.0  # within the 10 s in which an equal order is a duplicate
_GAPS = {"id": 1.0, "client id": 1.0, "list": 2.5, "wallets": 4.5}
"""Seconds between two looks of the watch: all below the limits of nobitex-api.md 4.2."""


class Notebook:
    """
    What was sent and what came back. Thread-safe.

    Args:
        may_change: Whether requests that place or cancel may go out.
        most: Refuse further requests after so many, or None. An order's cancel must not be refused: None with one.
    """

    def __init__(self, clock: Clock, *, may_change: bool = False, most: int | None = MOST_REQUESTS) -> None:
        self.clock = clock
        self.may_change = may_change
        self.most = most
        self._lock = threading.Lock()  # guards _seen and _count
        self._seen: list[Seen] = []
        self._count = 0
        self._thread = threading.local()

    @property
    def seen(self) -> tuple[Seen, ...]:
        """So far, in the order of the answers."""
        with self._lock:
            return tuple(self._seen)

    @property
    def count(self) -> int:
        """Requests that were made, repeated ones included."""
        with self._lock:
            return self._count

    @property
    def label(self) -> str:
        """Of this thread's requests at the moment."""
        return str(getattr(self._thread, "label", ""))

    @contextlib.contextmanager
    def labelled(self, label: str) -> Iterator[None]:
        """Label this thread's requests."""
        self._thread.label = label
        try:
            yield
        finally:
            self._thread.label = ""

    def admit(self, what: str, *, reads: bool) -> None:
        """
        Count a request that is about to go out.

        Raises:
            NotSentError: It may not.
        """
        if not reads and not self.may_change:
            raise NotSentError(f"{what}: this run only reads; nothing was sent")
        with self._lock:
            if self.most is not None and self._count >= self.most:
                raise NotSentError(f"{what}: this run has made its {self.most} requests; nothing was sent")
            self._count += 1

    def note(self, seen: Seen) -> None:
        """Keep one."""
        with self._lock:
            self._seen.append(seen)


class _NotingTransport(Transport):
    """A transport that writes into a notebook."""

    def __init__(self, notebook: Notebook, **settings: Any) -> None:
        super().__init__(clock=notebook.clock, **settings)
        self._notebook = notebook

    def request(self, make: Callable[[], Request], *, what: str, read: bool) -> Answer:
        book = self._notebook
        label = book.label
        sent: list[Request] = []

        def watched() -> Request:
            book.admit(what, reads=read)
            request = make()
            if label == survey.BAD_SIGNATURE:
                _spoil(request)
            sent.append(request)
            return request

        began = book.clock.monotonic()
        try:
            answer = super().request(watched, what=what, read=read)
        except Exception as error:
            if sent:
                ended = book.clock.monotonic()
                book.note(_seen(sent[-1], None, began=began, ended=ended, label=label, error=type(error).__name__))
            raise
        book.note(_seen(sent[-1], answer, began=began, ended=book.clock.monotonic(), label=label))
        return answer


def _spoil(request: Request) -> None:
    """Another signature of the right form."""
    good = request.headers.get("Nobitex-Signature", "")
    request.headers["Nobitex-Signature"] = ("B" if good[:1] == "A" else "A") + good[1:]


def _seen(request: Request, answer: Answer | None, *, began: float, ended: float, label: str, error: str = "") -> Seen:
    address = urllib.parse.urlsplit(request.url)
    payload = None
    if answer is not None:
        with contextlib.suppress(ValueError):
            payload = values.loads(answer.body)
    if address.path == survey.PROFILE and isinstance(payload, dict) and answer is not None and answer.status == 200:
        # Names, numbers and cards of a person have no business in a report.
        profile = payload.get("profile")
        options = profile.get("options") if isinstance(profile, dict) else None
        fees = {key: options.get(key) for key in ("fee", "feeUsdt")} if isinstance(options, dict) else {}
        payload = {"status": payload.get("status"), "profile": {"options": fees}}
    return Seen(
        method=request.method,
        path=address.path,
        query=dict(urllib.parse.parse_qsl(address.query)),
        body=_json_object(request.body),
        status=None if answer is None else answer.status,
        payload=payload,
        headers={} if answer is None else _kept(answer.headers),
        skew=None if answer is None else answer.skew,
        sent=began,
        received=ended,
        label=label,
        error=error,
    )


def _json_object(body: bytes | None) -> Mapping[str, Any]:
    parsed = json.loads(body) if body else {}
    return parsed if isinstance(parsed, dict) else {}


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    lower = {str(name).lower(): str(value)[:80] for name, value in headers.items()}
    return {name: value for name, value in lower.items() if name in _HEADERS or "ratelimit" in name}


class SurveyClient(NobitexClient):
    """A NobitexClient that writes into a notebook, and asks what no bot would ask."""

    def __init__(self, notebook: Notebook, *, timeout: float, **settings: Any) -> None:
        super().__init__(total_timeout=timeout, read_timeout=timeout, clock=notebook.clock, **settings)
        self._calls.transport = _NotingTransport(
            notebook,
            connect_timeout=min(3.05, timeout),
            read_timeout=timeout,
            total_timeout=timeout,
            max_bytes=32 * 1024 * 1024,
        )

    def status_of(self, body: Mapping[str, object]) -> None:
        """POST orders/status with any body; a read."""
        self._calls.private("POST", survey.STATUS, credentials=None, base_url=None, body=body)

    def book_of(self, path: str) -> None:
        """The book of a market that may be none."""
        self._calls.public(survey.BOOK + path, base_url=None)

    def stats_with(self, params: Mapping[str, object]) -> None:
        """market/stats with any parameters."""
        self._calls.public(survey.STATS, base_url=None, params=params)


class Reads:
    """
    The reads of one run, through the adapter's own limits and breakers.

    Attributes:
        problems: Reads of which the adapter could make nothing, with the reason.
        book: Of the market asked for; options and balances likewise, None where they could not be read.
    """

    def __init__(self, access: Access, notebook: Notebook, *, market: str) -> None:
        self._access = access
        self._notebook = notebook
        self._market = market
        self.problems: list[tuple[str, HireliabError]] = []
        self.book: OrderBook | None = None
        self.options: Options | None = None
        self.balances: dict[str, Balance] | None = None

    def first(self) -> None:
        """
        The two reads without which nothing can be said: is it reachable, and are we known.

        Raises:
            HireliabError: It is not, or we are not.
        """
        self.options = self._access.call("options", lambda client: client.get_options())
        self._access.call("profile", lambda client: client.get_profile())

    def all(self, *, wrong_signature: bool = False) -> None:
        """The others. None of them ends the run; the adapter's gate stops private ones after a 401."""
        market = values.symbol(self._market)
        rial = values.Symbol(market.base, "IRT")
        self.book = self._try("orderbook", lambda client: client.get_orderbook(str(market)))
        if rial != market:
            self._try("orderbook", lambda client: client.get_orderbook(str(rial)))
        end = int(self._notebook.clock.time() + self._access.skew)
        # Trades and candles have windows of their own, wider than this one.
        self._try("stats", lambda client: client.get_trades(str(market)))
        self._try("stats", lambda client: client.get_ohlc(str(rial), resolution="60", end=end, start=end - 12 * 3600))
        self._ask(
            survey.EXTRA_PARAMETER,
            "stats",
            lambda c: _survey(c).stats_with({"srcCurrency": market.src, "dstCurrency": market.dst, "hireliab": 1}),
        )
        self._ask(survey.BAD_SYMBOL, "orderbook", lambda c: _survey(c).book_of(_NOBODYS_MARKET))
        self.read_balances()
        self._try("orders/list", lambda client: client.list_orders(status="all", order="-id"))
        self._try("orders/list", lambda client: client.list_orders(status="open", order="id"))
        self._history()
        self._try("trades/list", lambda client: client.list_fills())
        self._ask(survey.NO_ID, "orders/status", lambda c: _survey(c).status_of({}))
        unknown = "hireliab-venue-check-" + format(int(self._notebook.clock.time() * 1000) % 10**10, "010d")
        self._ask(survey.UNKNOWN_CLIENT_ID, "orders/status", lambda c: _survey(c).status_of({"clientOrderId": unknown}))
        if wrong_signature:
            # Past the gate, and last: what comes back must not close the way for the reads before.
            wrong = self._notebook.labelled(survey.BAD_SIGNATURE)
            with contextlib.suppress(HireliabError), self._access.pool.connection() as client, wrong:
                client.get_profile()

    def _history(self) -> None:
        """Listings from the middle, and the newest closed order with a client id by that id and by the venue's."""
        facts = Facts(seen=self._notebook.seen)
        ids = sorted(int(order_id) for order_id in facts.order_rows() if order_id.isdigit())
        if len(ids) > 1:
            middle = ids[len(ids) // 2 - 1]
            self._try("orders/list", lambda client: client.list_orders(status="all", order="id", from_id=middle))
        with_id = [(int(row["id"]), shown) for row in facts.closed_rows() if (shown := client_id_of(row))]
        if with_id:
            order_id, client_id = max(with_id)
            self._try("orders/status", lambda client: client.get_order(order_id=order_id))
            self._ask(
                survey.CLOSED_BY_CLIENT_ID,
                "orders/status",
                lambda c: _survey(c).status_of({"clientOrderId": client_id}),
            )

    def read_balances(self) -> None:
        """Read `balances` anew."""
        self.balances = self._try("wallets", lambda client: client.get_balances())

    def look(self, source: str, *, order_id: int, client_id: str, label: str = "") -> None:
        """One look at the placed order: by id, by client id, in the list, or at the balances."""
        if source == "wallets":
            self._ask(label, "wallets", lambda client: client.get_balances())
        elif source == "list":
            self._ask(label, "orders/list", lambda c: c.list_orders(status="all", order="id", from_id=order_id - 1))
        elif source == "id":
            self._ask(label, "orders/status", lambda c: _survey(c).status_of({"id": order_id}))
        else:
            self._ask(label, "orders/status", lambda c: _survey(c).status_of({"clientOrderId": client_id}))

    def _try(self, endpoint: str, call: Callable[[NobitexClient], Any]) -> Any:
        try:
            return self._call(endpoint, call)
        except HireliabError as error:
            self.problems.append((endpoint, error))
            return None

    def _ask(self, label: str, endpoint: str, call: Callable[[NobitexClient], Any]) -> None:
        """A call that may well be refused: what came back is in the notebook."""
        with self._notebook.labelled(label), contextlib.suppress(HireliabError):
            self._call(endpoint, call)

    def _call(self, endpoint: str, call: Callable[[NobitexClient], Any]) -> Any:
        return self._access.call(
            endpoint, call, lane="reserved" if endpoint in ("orders/list", "trades/list") else "normal"
        )


def _survey(client: NobitexClient) -> SurveyClient:
    assert isinstance(client, SurveyClient), "bug: the pool of a survey lends other clients"
    return client


class Watch:
    """
    Looks at the placed order, beside the pipeline, until everything was seen or the time is over.

    Args:
        reads: Makes the looks.
        facts: What is known now, with the order that was placed.
    """

    def __init__(self, reads: Reads, facts: Callable[[], Facts], clock: Clock) -> None:
        self._reads = reads
        self._facts = facts
        self._clock = clock
        self._stop = Stop(clock)

    def run(
        self, *, is_over: Callable[[], bool], once_seen: Callable[[], object] | None = None, grace: float, most: float
    ) -> None:
        """
        Look until `is_over`, and afterwards until the closed order was seen everywhere, for `grace` seconds at most.

        Args:
            is_over: Whether the pipeline has its verdict.
            once_seen: Called once, when everything has shown the order, or a few seconds after it was accepted.
            most: Seconds for everything.
        """
        began = self._clock.monotonic()
        over_at: float | None = None
        asked: dict[str, float] = {}
        while True:
            now = self._clock.monotonic()
            if over_at is None and is_over():
                over_at = now
                asked.clear()  # each source is looked at once more
            facts = self._facts()
            due = wanted(facts)
            add = added(facts)
            if once_seen is not None and add is not None and (not due or now - add.received > _SOON):
                once_seen()
                once_seen = None
            if (over_at is not None and (not due or now - over_at > grace)) or now - began > most:
                return
            for source in due:
                if add is not None and now - asked.get(source, -1e9) >= _GAPS[source]:
                    asked[source] = now
                    label = survey.CLOSED_BY_CLIENT_ID if over_at is not None and source == "client id" else ""
                    self._reads.look(
                        source,
                        order_id=int(add.payload["order"]["id"]),
                        client_id=self._client_id(facts),
                        label=label,
                    )
            self._stop.sleep(0.1)

    @staticmethod
    def _client_id(facts: Facts) -> str:
        assert facts.placed is not None, "bug: a watch without an order"
        return facts.placed.order.client_order_id


def wanted(facts: Facts) -> tuple[str, ...]:
    """Which looks are still worth making: before the cancel until each shows the order, after it until each shows its end."""
    add, cancel, looks = added(facts), cancelled(facts), sightings(facts)
    if add is None:
        return ()
    if cancel is None:
        shown = {look.source for look in looks if look.status is not None}
        missing = [source for source in ("client id", "list") if source not in shown]
        if not any(look.source == "id" and look.status not in (None, "New") for look in looks):
            missing.append("id")
        if not wallets_show_it(facts):
            missing.append("wallets")
        return tuple(missing)
    closed = {
        look.source
        for look in looks
        if look.sent >= cancel.received and look.status in ("Done", "Canceled", "Rejected")
    }
    missing = [source for source in ("id", "list") if source not in closed]
    if not missing and not facts.of(survey.STATUS, survey.CLOSED_BY_CLIENT_ID)[-1:]:
        missing.append("client id")
    return tuple(missing)
