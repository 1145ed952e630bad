"""
Leave to make one call of Nobitex: account gate, rate limit, circuit breaker and a client, in this order.

`Access.admit` takes all four or none. What they may wait for or refuse comes before the call, so that an error of
`admit` means that nothing was sent.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from hireliab.core.circuit_breaker import CircuitBreaker, Permit
from hireliab.core.clock import Clock
from hireliab.core.deadline import bounded
from hireliab.core.rate_limiter import Token
from hireliab.errors import (
    AuthenticationError,
    ClosedError,
    ConfigError,
    ConnectError,
    MalformedResponseError,
    NotSentError,
    PoolError,
    RefusedError,
    ThrottledError,
)
from hireliab.exchange._nobitex_errors import DEFAULT_BACKOFF
from hireliab.exchange._nobitex_gate import AccountGate
from hireliab.exchange._nobitex_limits import Limits
from hireliab.exchange._nobitex_signing import Credentials
from hireliab.exchange.connection_pool import ConnectionPool, Lease
from hireliab.exchange.nobitex_client import NobitexClient

T = TypeVar("T")

_log = logging.getLogger("hireliab.nobitex")

_CANCEL = "orders/update-status"

# endpoint -> breaker; placing and cancelling each have their own, so that a venue which takes no orders can still
# be asked to cancel, and what is read of the market says nothing about the account.
_BREAKER_OF = {
    "orderbook": "market",
    "stats": "market",
    "options": "market",
    "profile": "account",
    "wallets": "account",
    "orders/status": "account",
    "orders/list": "account",
    "trades/list": "account",
    "orders/add": "place",
    _CANCEL: "cancel",
}
_RESET_TIMEOUT = {"market": 5.0, "account": 5.0, "place": 10.0, "cancel": 5.0}
_FAILURES = 5
CLIENT_WAIT = 2.0
"""Seconds to wait for a client: an order that comes late is worse than none."""


class _StoppedError(NotSentError, ClosedError):
    """The adapter was stopped; nothing was sent."""


class Ticket:
    """Leave to make one call. Exactly one of `run` and `abandon` is called, once; a second one is an error."""

    __slots__ = ("_access", "_endpoint", "_lease", "_permit", "_probe", "_token", "_used")

    def __init__(
        self,
        access: Access,
        endpoint: str,
        *,
        probe: bool,
        token: Token | None,
        permit: Permit | None,
        lease: Lease[NobitexClient],
    ) -> None:
        self._access = access
        self._endpoint = endpoint
        self._probe = probe
        self._token = token
        self._permit = permit
        self._lease = lease
        self._used = False

    def run(self, call: Callable[[NobitexClient], T]) -> T:
        """Make the call; its exceptions pass through. Everything is given back, whatever happens."""
        self._use()
        access = self._access
        try:
            with self._permit or contextlib.nullcontext(), self._lease:
                client = self._lease.client
                result = call(client)
                if client.skew is not None and (access.skew == 0.0 or _BREAKER_OF[self._endpoint] != "market"):
                    access.skew = client.skew
        except BaseException as error:
            access._note(self._endpoint, self._token, error, probe=self._probe)
            raise
        access._note(self._endpoint, self._token, None, probe=self._probe)
        return result

    def abandon(self) -> None:
        """The call is not made."""
        self._use()
        if self._permit is not None:
            self._permit.ignore()
        self._lease.release()
        self._access._give_up(self._endpoint, self._token, probe=self._probe)

    def _use(self) -> None:
        if self._used:
            raise RuntimeError("nobitex: this call was already submitted or abandoned; prepare another one")
        self._used = True


class Access:
    """
    What stands between the adapter and the venue. Thread-safe.

    Args:
        reserve: Where a cancel gets its client when `pool` has none free at once: answers that drip may fill `pool`.

    Attributes:
        breakers: By what they guard: market, account, place, cancel.
        gate: Closed after a 401.
        limits: The rate limits.
        skew: Seconds that the venue's clock is ahead of ours; 0.0 until an answer said so.
    """

    def __init__(
        self,
        *,
        pool: ConnectionPool[NobitexClient],
        reserve: ConnectionPool[NobitexClient] | None = None,
        credentials: Credentials | None,
        base_url: str | None,
        rate_limits: object,
        clock: Clock,
    ) -> None:
        self.pool = pool
        self._reserve = reserve
        self.credentials = credentials
        self.base_url = base_url
        self.skew = 0.0
        self.limits = Limits(rate_limits, clock=clock)
        self.breakers = {
            what: CircuitBreaker(
                name=f"nobitex {what}", failure_threshold=_FAILURES, reset_timeout=timeout, clock=clock
            )
            for what, timeout in _RESET_TIMEOUT.items()
        }
        self.gate = AccountGate([self.breakers[what] for what in ("account", "place", "cancel")], clock=clock)
        self._stopped = threading.Event()

    @property
    def parts(self) -> tuple[object, ...]:
        """Pools, circuit breakers and rate limiters."""
        pools = [pool for pool in (self.pool, self._reserve) if pool is not None]
        return (*pools, *self.breakers.values(), *self.limits.parts)

    def stop(self) -> None:
        """Refuse every later call."""
        self._stopped.set()

    def start(self) -> None:
        """Admit calls, again after a `stop`."""
        self._stopped.clear()

    def admit(self, endpoint: str, *, lane: str = "normal", wait: float = 1.0) -> Ticket:
        """
        Leave to make one call, and a client to make it with.

        Args:
            endpoint: One of the rate limits' table.
            lane: Of the rate limiter.
            wait: Seconds to wait for the rate limiter.

        Raises:
            NotSentError: No leave; nothing was taken.
            ConfigError: The pool's clients are no NobitexClient.
        """
        if self._stopped.is_set():
            raise _StoppedError("nobitex adapter: it was stopped, nothing was sent; initialize() starts it again")
        breaker = self.breakers[_BREAKER_OF[endpoint]]
        probe = breaker is not self.breakers["market"] and self.gate.admit()
        token = None
        try:
            token = self.limits.acquire(endpoint, timeout=bounded(wait) or 0.0, lane=lane)
            # A probe must get through the breakers, which the gate itself holds isolated.
            permit = None if probe else breaker.acquire()
            try:
                lease = self._borrow(endpoint)
            except BaseException:
                if permit is not None:
                    permit.ignore()
                raise
        except BaseException:
            self._give_up(endpoint, token, probe=probe)
            raise
        return Ticket(self, endpoint, probe=probe, token=token, permit=permit, lease=lease)

    def call(self, endpoint: str, call: Callable[[NobitexClient], T], *, lane: str = "normal") -> T:
        """Admit and make one call; raises what either raises."""
        return self.admit(endpoint, lane=lane).run(call)

    def probe(self) -> None:
        """
        With the gate closed: make the probe if one is due, else refuse. With the gate open: nothing.

        Raises:
            NotSentError: The credentials are refused, as far as known.
        """
        if not self.gate.is_closed:
            return
        try:
            self.call(
                "profile", lambda client: client.get_profile(credentials=self.credentials, base_url=self.base_url)
            )
        except NotSentError:
            raise
        except Exception as error:
            if self.gate.is_closed:
                raise NotSentError(
                    f"nobitex: the probe of the credentials failed, nothing was sent: {error}"
                ) from error

    def _borrow(self, endpoint: str) -> Lease[NobitexClient]:
        if endpoint == _CANCEL and self._reserve is not None:
            try:
                # First here: these clients were used last, and so have a connection that is young enough.
                lease = self.pool.acquire(timeout=0)
            except PoolError:
                lease = self._reserve.acquire(timeout=CLIENT_WAIT)
        else:
            lease = self.pool.acquire(timeout=CLIENT_WAIT)
        client: object = lease.client
        if not isinstance(client, NobitexClient):
            lease.release()
            raise ConfigError(
                f"connection_pool: its clients must be NobitexClient, got {type(client).__module__}."
                f"{type(client).__qualname__}; let create_client_func return a NobitexClient",
                setting="connection_pool",
                allowed="a pool of NobitexClient",
            )
        return lease

    def _give_up(self, endpoint: str, token: Token | None, *, probe: bool) -> None:
        self.limits.give_back(endpoint, token)
        if probe:
            self.gate.unused()

    def _note(self, endpoint: str, token: Token | None, error: BaseException | None, *, probe: bool) -> None:
        """Learn from how a call ended."""
        if isinstance(error, ThrottledError):
            _log.warning("nobitex %s: throttled for %.0f s", endpoint, error.retry_after)
            self.limits.penalize(endpoint, error.retry_after)
        elif isinstance(error, MalformedResponseError) and error.http_status == 429:
            # A proxy's, for a call that may have happened: it asks for quiet all the same.
            self.limits.penalize(endpoint, DEFAULT_BACKOFF)
        elif isinstance(error, AuthenticationError) and error.http_status != 403 and _BREAKER_OF[endpoint] != "market":
            # 403 is about this one call (permission, address); the credentials themselves are known.
            self.gate.refused(error)
        elif isinstance(error, ConnectError):
            self._give_up(endpoint, token, probe=False)
        elif probe and (error is None or isinstance(error, RefusedError)):
            self.gate.accepted()
