"""What a pool is told and what it tells: PoolConfig, PoolStats, PoolEvent, PoolStopReport."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hireliab.core.config import number_or_none, whole
from hireliab.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """
    Settings of a ConnectionPool.

    Args:
        min_connections: Clients that `initialize` makes and that idle eviction leaves.
        max_connections: Clients that exist or are being made at one time.
        connection_timeout: Seconds that `acquire` waits for a client; None without limit, 0 does not wait.
        idle_timeout: Seconds after which an unused client above the minimum is closed; None never.
        max_lifetime: Seconds after its creation (less up to a tenth) from which a client is not lent again; None never.
        max_waiting: Callers that may wait at one time; None without limit.
        max_connecting: Factories that run at one time. Callers beyond them take a client that comes back or a place
            that becomes free, whichever is first.
        keepalive_interval: Seconds (less up to a tenth) after which `validate_func` is called with an idle client in
            the background; None never. Needs `validate_func`.
        leak_timeout: Seconds in use after which a client is reported once, with the place that acquired it; None
            never. Costs a look at the stack for each `acquire`.
        validate_func: Called with a client that lay idle for a second or longer before it is lent; false or an
            exception: the client is replaced.
        is_broken: Called with a client and the exception of its method: True discards the client, False keeps it,
            None leaves it to the pool. Not asked about Ctrl-C and its like, which always discard.
        reset_func: Called with a client that comes back unbroken; an exception: the client is replaced.
        close_func: Called with a client that is given up; without it the client's own `close()`, if it has one.
    """

    min_connections: int = 1
    max_connections: int = 4
    connection_timeout: float | None = 10.0
    idle_timeout: float | None = 60.0
    max_lifetime: float | None = None
    max_waiting: int | None = None
    max_connecting: int = 2
    keepalive_interval: float | None = None
    leak_timeout: float | None = None
    validate_func: Callable[[Any], object] | None = None
    reset_func: Callable[[Any], object] | None = None
    close_func: Callable[[Any], object] | None = None
    is_broken: Callable[[Any, Exception], bool | None] | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__  # how a frozen dataclass normalises its own fields
        put(self, "max_connections", whole("max_connections", self.max_connections, low=1))
        put(self, "min_connections", whole("min_connections", self.min_connections, low=0))
        if self.min_connections > self.max_connections:
            allowed = f"from 0 to max_connections ({self.max_connections})"
            raise ConfigError(
                f"min_connections must be {allowed}, got {self.min_connections}",
                setting="min_connections",
                value=self.min_connections,
                allowed=allowed,
            )
        put(self, "connection_timeout", number_or_none("connection_timeout", self.connection_timeout, low=0))
        put(self, "idle_timeout", number_or_none("idle_timeout", self.idle_timeout, above=0))
        put(self, "max_lifetime", number_or_none("max_lifetime", self.max_lifetime, above=0))
        if self.max_waiting is not None:
            put(self, "max_waiting", whole("max_waiting", self.max_waiting, low=0))
        put(self, "max_connecting", whole("max_connecting", self.max_connecting, low=1))
        put(self, "leak_timeout", number_or_none("leak_timeout", self.leak_timeout, above=0))
        put(self, "keepalive_interval", number_or_none("keepalive_interval", self.keepalive_interval, above=0))
        if self.keepalive_interval is not None and self.validate_func is None:
            allowed = "None without a validate_func to call"
            raise ConfigError(
                f"keepalive_interval must be {allowed}, got {self.keepalive_interval}",
                setting="keepalive_interval",
                value=self.keepalive_interval,
                allowed=allowed,
            )
        for name in ("validate_func", "reset_func", "close_func", "is_broken"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                takes = "the client and the exception" if name == "is_broken" else "the client"
                allowed = f"a callable that takes {takes}, or None"
                raise ConfigError(
                    f"{name} must be {allowed}, got {type(value).__name__}", setting=name, allowed=allowed
                )


@dataclass(frozen=True, kw_only=True)
class PoolStats:
    """
    A pool at one moment: `size == idle + in_use`, and `size + creating` never exceeds the maximum.

    The totals count from the pool's construction (in a forked child: from the fork).

    Attributes:
        status: "new", "running", "stopping" or "stopped".
        in_use: Clients that are lent, or being checked or reset.
        creating: Calls of the factory that are running.
        down: The factory's last call failed.
        acquired: Clients lent.
        discarded: Clients given up; `discards` splits it by reason: broken, invalid, reset, idle, lifetime, generation
            (`invalidate_all`), suspend (the machine slept), abandoned (its lease was dropped unreleased), interrupted,
            stop.
        timeouts: Calls that got no client in time.
        refused_full: Calls refused because of `max_waiting`.
        refused_down: Calls refused because the factory fails and no client can come back.
        leaks: Clients reported because they were in use for longer than `leak_timeout`.
    """

    name: str
    status: str
    min_connections: int
    max_connections: int
    size: int
    idle: int
    in_use: int
    creating: int
    waiting: int
    down: bool
    acquired: int
    created: int
    create_failures: int
    discarded: int
    discards: Mapping[str, int]
    timeouts: int
    refused_full: int
    refused_down: int
    leaks: int
    close_errors: int


@dataclass(frozen=True)
class PoolEvent:
    """
    Something that happened to a pool, as listeners hear it.

    Attributes:
        pool: The pool's name.
        kind: "created", "discarded", "leaked", "down" (the factory began to fail), "up" (it made a client again) or
            "exhausted" (a caller got no client).
        reason: Of a discard as in `PoolStats.discards`; of "down" the exception's type; of "leaked" where the client was
            acquired; of "exhausted" "timeout" or "full"; else None.
    """

    pool: str
    kind: str
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class PoolStopReport:
    """
    What `stop()` did.

    Attributes:
        closed: Idle clients that were closed.
        returned: Clients that came back in time and were closed.
        left: Clients still in use; each is closed when it comes back.
        creating: Calls of the factory that were still running; what they make is closed.
    """

    closed: int
    returned: int
    left: int
    creating: int
