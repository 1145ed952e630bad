"""One request from arrival to reply: fault, authentication, limits, handler, truth. No sockets."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from hireliab.simulator.auth import BAD_CREDENTIALS, Identity, unauthorized
from hireliab.simulator.faults import Fault, FaultPlan
from hireliab.simulator.limits import ORDERS, Throttled, too_many
from hireliab.simulator.message import BadBodyError, Refused, Reply, Request, answer, failed, page
from hireliab.simulator.routes import Route, Routes
from hireliab.simulator.state import Call, ExchangeState
from hireliab.simulator.trading import order_cost
from hireliab.simulator.truth import Record, describe_body

_log = logging.getLogger(__name__)

_SECRET_BODIES = ("/auth/login",)


@dataclass
class Arrival:
    """A request that has been received, with its number and its fate."""

    n: int
    request: Request
    account: str | None
    fault: Fault | None
    is_recorded: bool = False
    """Whether its ``request`` record is in the truth file already."""


class Venue:
    """
    The exchange without its sockets.

    Every request goes through `receive`, and through `process` when it takes effect. Both write
    the truth file before they return.

    Thread safety: Any thread; one lock serialises everything.
    """

    def __init__(self, state: ExchangeState, faults: FaultPlan) -> None:
        self.lock = threading.Lock()  # guards state and everything in it, and _received
        self.state = state
        self.faults = faults
        self._routes = Routes()
        self._received = 0

    @property
    def received(self) -> int:
        """Number of requests so far."""
        return self._received

    def receive(self, request: Request) -> Arrival:
        """Number a request and decide its fate."""
        state = self.state
        with self.lock:
            self._received += 1
            account = state.credentials.account_hint(request)
            arrival = Arrival(self._received, request, account, None)
            fault = arrival.fault = self.faults.decide(request.method, request.path, account)
            if fault is not None:
                fields: Record = {"n": arrival.n, "rule": fault.rule, "fault": fault.kind}
                state.truth.add("fault", {**fields, "seconds": fault.seconds, "processed": fault.processed})
                if not fault.processed or fault.kind.startswith("late"):
                    state.truth.add_first("request", _describe(arrival, None))
                    arrival.is_recorded = True
                state.truth.flush()
        return arrival

    def repeat(self, arrival: Arrival) -> Arrival:
        """The same request, arriving once more."""
        with self.lock:
            self._received += 1
            return Arrival(self._received, arrival.request, arrival.account, arrival.fault)

    def check(self, arrival: Arrival) -> Reply | None:
        """Authenticate and count a request now that is to be processed later; the refusal, if any."""
        with self.lock:
            found = self._routes.find(arrival.request.path)
            try:
                if found is not None:
                    self._admit(found[0], arrival.request)
            except Refused as refused:
                self.state.truth.add("outcome", _outcome(arrival, refused.reply))
                self.state.truth.flush()
                return refused.reply
        return None

    def process(self, arrival: Arrival, *, is_checked: bool = False) -> Reply:
        """
        Let a request take effect.

        Args:
            is_checked: Credential and limits were good when it arrived; do not look again.
        """
        state = self.state
        with self.lock:
            state.engine.run_due()
            state.truth.flush()
            state.engine.request = arrival.n
            try:
                reply = self._answer(arrival.request, is_checked=is_checked, account=arrival.account)
            except Exception:  # a bug here must look like one of the exchange's, not cut the connection
                _log.exception("request %d failed", arrival.n)
                reply = answer({"status": "failed", "code": "UnexpectedError", "message": "Simulator bug"}, 500)
            finally:
                state.engine.request = None
            if arrival.is_recorded:
                state.truth.add_first("outcome", _outcome(arrival, reply))
            else:
                state.truth.add_first("request", _describe(arrival, reply))
                arrival.is_recorded = True
            state.truth.flush()
        return reply

    def run(self, action: Callable[[ExchangeState], object], name: str, shown: object) -> object:
        """Run an admin action under the lock; it and its changes go into the truth file."""
        with self.lock:
            self.state.engine.run_due()
            self.state.truth.flush()
            self.state.truth.add("admin", {"action": name, "body": shown})
            try:
                return action(self.state)
            finally:
                # The clock may have been stepped.
                self.state.engine.run_due()
                self.state.truth.flush()

    def look(self, question: Callable[[ExchangeState], object]) -> object:
        """Ask something under the lock, with everything done that was due."""
        with self.lock:
            self.state.engine.run_due()
            self.state.truth.flush()
            return question(self.state)

    # --- all below needs the lock ----------------------------------------------------------

    def _answer(self, request: Request, *, is_checked: bool, account: str | None) -> Reply:
        state = self.state
        if state.settings.maintenance:
            return page(503, "Service Temporarily Unavailable")
        found = self._routes.find(request.path)
        if found is None:
            return page(404, "Not Found")
        route, rest = found
        if request.method not in route.methods:
            return answer({"detail": f'Method "{request.method}" not allowed.'}, 405)
        try:
            if is_checked:
                identity = Identity(account or "", "")
            else:
                identity = self._admit(route, request)
            return self._handle(route, rest, request, identity)
        except Refused as refused:
            return refused.reply
        except BadBodyError as error:
            return failed("ParseError", str(error), 400)

    def _admit(self, route: Route, request: Request) -> Identity:
        """Authentication, then limits."""
        state, now = self.state, self.state.clock.monotonic()
        settings = state.settings
        if settings.limits:
            blocked = state.limiter.blocked(request.ip, now, settings)
            if blocked is not None:
                raise Refused(too_many(blocked, settings))
        identity = Identity("", "anonymous:" + request.ip)
        if route.permission is not None:
            try:
                identity = state.credentials.identify(request, route.permission, state.clock.time_ns(), settings)
            except Refused as refused:
                if refused.reply.status == 401:
                    state.limiter.note_unauthorized(request.ip, now, settings)
                raise
        banned = state.limiter.banned(identity.credential, now) if settings.limits else None
        if banned is not None:
            raise Refused(too_many(banned, settings))
        if route.limit is not None:
            throttled = self._count(route, request, identity, now)
            if throttled is not None:
                state.limiter.note_throttled(identity.credential, now, settings)
                raise Refused(too_many(throttled, settings))
        return identity

    def _count(self, route: Route, request: Request, identity: Identity, now: float) -> Throttled | None:
        assert route.limit is not None, "bug: nothing to count"
        cost = 1
        if route.places_order:
            try:
                cost = order_cost(request.form)
            except BadBodyError:
                cost = 1  # the parser refuses it after the limit
        keys = (identity.credential, request.ip)
        return self.state.limiter.admit(route.limit, keys, now, self.state.settings, cost)

    def _handle(self, route: Route, rest: str, request: Request, identity: Identity) -> Reply:
        state = self.state
        now = state.clock.monotonic()

        def charge(cost: int) -> Throttled | None:
            keys = (identity.credential, request.ip)
            return state.limiter.admit(ORDERS, keys, now, state.settings, cost)

        call = Call(
            request=request,
            params=request.query if request.method == "GET" else request.form,
            rest=rest,
            account=identity.account,
            now=now,
            now_ns=state.clock.time_ns(),
            charge=charge,
        )
        return route.handler(state, call)


def fault_reply(fault: Fault, venue: Venue) -> Reply:
    """What a fault answers instead of the exchange."""
    if fault.kind == "throttle":
        seconds = max(1, int(fault.seconds or 1))
        return too_many(Throttled(seconds, 60), venue.state.settings)
    if fault.kind == "unauthorized":
        return unauthorized(BAD_CREDENTIALS)
    if fault.kind == "http_500":
        return answer({"status": "failed", "code": "UnexpectedError", "message": "Internal server error"}, 500)
    titles = {"http_502": "Bad Gateway", "http_503": "Service Temporarily Unavailable", "http_504": "Gateway Time-out"}
    return page(int(fault.kind[-3:]), titles[fault.kind])


def _describe(arrival: Arrival, reply: Reply | None) -> Record:
    """The fields of a ``request`` record."""
    request = arrival.request
    redacted = request.path.startswith(_SECRET_BODIES)
    body: Record = {"body_redacted": True} if redacted else describe_body(request.body)
    return {
        "n": arrival.n,
        "account": arrival.account,
        "ip": request.ip,
        "method": request.method,
        "path": request.target,
        **body,
        "client_order_id": None if redacted else _client_order_id(request),
        "fault": None if arrival.fault is None else arrival.fault.kind,
        "received_mono": request.received_mono,
        "status": None if reply is None else reply.status,
        "code": None if reply is None else reply.code,
    }


def _outcome(arrival: Arrival, reply: Reply) -> Record:
    """The fields of an ``outcome`` record."""
    return {"n": arrival.n, "status": reply.status, "code": reply.code}


def _client_order_id(request: Request) -> str | None:
    try:
        value = request.form.get("clientOrderId") if request.body else request.query.get("clientOrderId")
    except BadBodyError:
        return None
    return value if isinstance(value, str) else None
