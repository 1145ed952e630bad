"""One connection to a broker that is kept up: a thread of its own makes it, runs its loop, and makes it again."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from hireliab.core._threads import Stop, join_all, start_thread
from hireliab.core.clock import Clock
from hireliab.errors import ConfigError
from hireliab.messaging.rabbitmq._backoff import Backoff
from hireliab.messaging.rabbitmq._failures import Failure, cut_while_made, failure_of
from hireliab.messaging.rabbitmq._link import Connection, Link, parameters, quieten_pika
from hireliab.messaging.rabbitmq._settings import RabbitMQConfig
from hireliab.messaging.rabbitmq._url import Address

_log = logging.getLogger("hireliab.bus")

_TICK = 1.0


class Client(Protocol):
    """What a connection is made for. All of it is called on the connection's thread."""

    def opened(self, link: Link) -> None:
        """The connection is up: open channels on it."""

    def leaving(self) -> None:
        """The connection is about to be closed, for good: say the last words."""

    def closed(self, failure: Failure) -> None:
        """The connection is gone, or could not be made."""

    def turn(self) -> None:
        """Somebody has called `wake`."""

    def blocked(self, reason: str | None) -> None:
        """The broker asks to publish nothing for now, and why; None: it may go on."""

    def tick(self) -> None:
        """About a second has passed, connected or not."""


class BrokerConnection:
    """
    Keeps one connection up until `close`.

    After a failure it tries the next address; when all have failed it pauses, with jitter, for up to 30 s; after a
    refusal (password, vhost, certificate) for up to 60 s. A broken loop is replaced like a broken connection.

    Args:
        name: Of its thread and, at the broker, of the connection.
        addresses: The brokers.
        config: Its heartbeat and connection_timeout count.
        client: Whom to tell.
    """

    def __init__(
        self,
        *,
        name: str,
        addresses: tuple[Address, ...],
        config: RabbitMQConfig,
        client: Client,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        quieten_pika()
        self.name = name
        self._addresses = rng.sample(addresses, len(addresses))
        self._config = config
        self._client = client
        self._clock = clock
        self._backoff = Backoff(rng)
        self._stop = Stop(clock)
        # Guards the fields below; the loop's thread alone writes them, but _thread. Re-entrant: a signal handler may stop
        # what its thread is just starting.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._link: Link | None = None
        self._limit = 1.0
        self.connected = False
        self.generation = 0
        self.last_error = ""
        # The loop's thread alone uses these.
        self._failure = Failure("it was never made")
        self._opened_at: float | None = None
        self._heard: tuple[int, float] = (0, 0.0)

    # -- for any thread -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread, once; it does not wait for the connection."""
        with self._lock:
            if self._thread is None and not self._stop.is_set:
                self._thread = start_thread(self._run, name=self.name)

    def wake(self) -> None:
        """Have `Client.turn` called soon; while there is no connection, it will be when there is one."""
        link = self._link
        if link is not None:
            link.wake(self._turn)

    def close(self, timeout: float) -> bool:
        """End the connection and the thread within about `timeout` seconds; whether they have ended."""
        with self._lock:
            self._limit = max(0.2, timeout / 2)
            self._stop.set()
            link, thread = self._link, self._thread
        if link is not None:
            link.wake(self._close)
        return thread is None or not join_all([thread], timeout=max(0.5, timeout), clock=self._clock)

    # -- on the loop's thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        place = 0
        while not self._stop.is_set:
            address = self._addresses[place % len(self._addresses)]
            place += 1
            try:
                self._live(address)
            except ConfigError as error:
                self._failure = Failure(str(error), refused=True)  # a certificate that was there before
            except (Exception, SystemExit) as error:
                # A loop that broke: it is replaced as a connection is. One that was to end anyway, such as in the middle of
                # a handshake, is no news.
                ending = self._stop.is_set
                cut = cut_while_made(error)
                level = logging.DEBUG if ending or cut is not None else logging.ERROR
                _log.log(level, "%s: its loop broke; making another", self.name, exc_info=not ending)
                self._failure = cut or Failure(f"its loop broke ({type(error).__name__})")
            self._ended(address)
            lasted = 0.0 if self._opened_at is None else self._clock.monotonic() - self._opened_at
            worked, self._opened_at = self._opened_at is not None, None
            # Another broker is tried at once; only when all of them have failed there is something to wait for.
            if worked or place % len(self._addresses) == 0:
                self._pause(self._backoff.pause(refused=self._failure.refused, lasted=lasted))

    def _live(self, address: Address) -> None:
        """Make a connection, and stay until it has ended."""
        self._failure = Failure("it ended")
        link = Link(self.generation + 1, self._callback_failed)
        try:
            settings = parameters(
                address,
                name=self.name,
                heartbeat=self._config.heartbeat,
                connection_timeout=self._config.connection_timeout,
            )
            link.connection = Connection(
                settings,
                on_open_callback=link.guarded(self._opened),
                on_open_error_callback=link.guarded(partial(self._lost, link)),
                on_close_callback=link.guarded(partial(self._lost, link)),
                custom_ioloop=link.loop,
            )
            with self._lock:
                self._link = link
                stopping = self._stop.is_set
            if stopping:
                link.wake(self._close)
            link.later(_TICK, self._tick)
            link.loop.start()
        finally:
            with self._lock:
                self._link = None
                self.connected = False
            link.bury()

    def _opened(self, connection: Connection) -> None:
        link = self._link
        if link is None:
            raise AssertionError("bug: a connection without a link")
        connection.add_on_connection_blocked_callback(link.guarded(self._blocked))
        connection.add_on_connection_unblocked_callback(link.guarded(lambda *_: self._client.blocked(None)))
        link.read_in_large_pieces()
        self._opened_at = self._clock.monotonic()
        self._heard = (0, self._opened_at)
        with self._lock:
            self.generation = link.generation
            self.connected = True
        self._client.opened(link)

    def _blocked(self, _connection: Connection, told: object) -> None:
        reason = getattr(getattr(told, "method", None), "reason", "")
        self._client.blocked(str(reason)[:200] or "it does not say why")

    def _lost(self, link: Link, _connection: Connection, error: object) -> None:
        self._failure = failure_of(error) if link.failure is None else link.failure
        link.loop.stop()

    def _ended(self, address: Address) -> None:
        if not self._stop.is_set:
            text = f"{address}: {self._failure.text}"
            with self._lock:
                news, self.last_error = text != self.last_error or self._opened_at is not None, text
            # A broker that is away for an hour is one line, not a line for each try.
            _log.log(logging.WARNING if news else logging.DEBUG, "%s: no connection to %s", self.name, text)
        self._call(lambda: self._client.closed(self._failure))

    def _pause(self, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        while (left := until - self._clock.monotonic()) > 0:
            if self._stop.sleep(min(left, _TICK)):
                return
            self._call(self._client.tick)

    def _turn(self) -> None:
        link = self._link
        if link is not None and self.connected:
            link.guarded(self._client.turn)()

    def _tick(self) -> None:
        link = self._link
        if link is None:
            return
        link.guarded(self._look)()
        link.later(_TICK, self._tick)

    def _look(self) -> None:
        link = self._link
        self._client.tick()
        if link is None or link.connection is None or not self.connected:
            return
        received, now = link.connection.bytes_received, self._clock.monotonic()
        if received != self._heard[0]:
            self._heard = (received, now)
        heartbeat = link.connection.params.heartbeat
        # pika looks once in each heartbeat, so it may take twice as long to see that nothing comes.
        if heartbeat and now - self._heard[1] > heartbeat + 5:
            link.abort(f"nothing came for {now - self._heard[1]:.0f} s")

    def _close(self) -> None:
        link = self._link
        if link is None:
            return
        if self.connected:
            link.guarded(self._client.leaving)()
        link.guarded(link.close)(self._limit)

    def _call(self, func: Callable[[], None]) -> None:
        try:
            func()
        except Exception as error:
            self._callback_failed(error)

    def _callback_failed(self, error: Exception) -> None:
        _log.error("%s: a callback failed; this is a bug of hireliab", self.name, exc_info=error)
