"""
Publishes what a bus has put into its local store, oldest first, when the broker takes messages again.

While something waits there, what is published goes to the end of the store too: a later message does not overtake. The
last batch closes the door: publishers wait for the moment that it takes to hand it to the bus, and then go straight on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from hireliab.core._threads import Stop, join_all, run_forever, start_thread
from hireliab.core.clock import Clock
from hireliab.errors import BusFullError
from hireliab.messaging.bus import PublishReceipt, PublishStatus

_log = logging.getLogger("hireliab.bus")

_BATCH = 200
_PAUSE = 0.5  # seconds between looks at a broker that takes nothing
_DOOR = 1.0  # seconds that a publisher waits at the door, and the thread for publishers inside
_SLICE = 0.5  # seconds of waiting for a confirm, before looking whether to stop


class Kept(Protocol):
    """A message in a store."""

    @property
    def seq(self) -> int:
        """Its place."""

    @property
    def topic(self) -> str:
        """Its topic."""

    @property
    def body(self) -> bytes:
        """Its data as JSON."""

    @property
    def headers(self) -> dict[str, str]:
        """Its headers, the subject among them."""

    @property
    def message_id(self) -> str:
        """Its id."""


class Store(Protocol):
    """A queue on disk, such as `hireliab.messaging._spill_store.SpillStore`."""

    def open(self) -> None:
        """Take the file."""

    def put(self, topic: str, body: bytes, headers: Mapping[str, str], message_id: str) -> bool:
        """Keep a message; whether it is on disk."""

    def oldest(self, limit: int, after: int = 0) -> Sequence[Any]:
        """At most so many `Kept` behind that place."""

    def remove(self, seqs: Sequence[int]) -> None:
        """Forget these."""

    def __len__(self) -> int:
        """How many wait."""

    def close(self) -> None:
        """Let go of the file."""


class Replayer:
    """
    A store, and the thread that empties it.

    Args:
        store: Belongs to the replayer from now on.
        name: The bus's.
        publish: Hands a message to the bus; may raise BusFullError.
        ready: Whether the broker takes messages.
    """

    def __init__(
        self,
        store: Store,
        *,
        name: str,
        publish: Callable[[Kept], PublishReceipt],
        ready: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._store = store
        self._name = name
        self._publish = publish
        self._ready = ready
        self._clock = clock
        self._stop = Stop(clock)
        # Guards the fields below, but for the last two. Re-entrant: a signal handler may publish, too.
        self._lock = threading.RLock()
        self._moved = threading.Condition(self._lock)  # publishers wait at the door, the thread for those inside
        self._opened = False
        self._behind = False  # something waits that the bus has not been handed
        self._closed = False  # the door: what waits is just being handed over
        self._putting = 0  # publishers inside
        self._after = 0  # the thread's own: the place up to which everything was handed over
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """
        Open the store and start the thread, once.

        Raises:
            BusError: The store cannot be used; nothing was started.
        """
        with self._lock:
            if self._opened or self._stop.is_set:
                return
            self._opened = True
        try:
            self._store.open()
        except BaseException:
            with self._lock:
                self._opened = False
            raise
        with self._lock:
            self._behind = len(self._store) > 0
        self._thread = start_thread(self._run, name=f"hireliab.bus.{self._name}-replay")

    def must_wait(self) -> bool:
        """Whether what is published now belongs into the store, behind what waits there."""
        if not self._behind:
            return False
        with self._lock:
            self._clock.wait_for(self._moved, lambda: not self._closed, _DOOR)
            return self._behind

    def put(self, topic: str, body: bytes, headers: Mapping[str, str], message_id: str) -> bool:
        """Keep a message; whether it is on disk. It waits for the disk."""
        with self._lock:
            self._putting += 1
            self._behind = True
        try:
            return self._store.put(topic, body, headers, message_id)
        finally:
            with self._lock:
                self._putting -= 1
                self._moved.notify_all()
            self._stop.wake()

    def stop(self, timeout: float) -> None:
        """End the thread; the store stays open for what the bus could not send."""
        self._stop.set()
        if self._thread is not None:
            join_all([self._thread], timeout=timeout)

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()

    def _run(self) -> None:
        run_forever(self.step, self._stop, what=f"bus {self._name!r}: local store")

    def step(self) -> float | None:
        """Publish the next messages; seconds until there is more to do, None when nothing waits."""
        if not len(self._store):
            with self._lock:
                self._behind = self._putting > 0
            self._after = 0
            return None
        if not self._ready():
            return _PAUSE
        batch = self._store.oldest(_BATCH, self._after)
        last = len(batch) < _BATCH
        if last:
            self._close_door()
        sent: list[tuple[Kept, PublishReceipt]] = []
        try:
            if last:
                batch = self._store.oldest(2 * _BATCH, self._after)  # those that were inside, too
            sent = self._hand_over(batch)
        finally:
            self._open_door(empty=last and len(sent) == len(batch))
        if not batch:
            self._after = 0  # what is left was not confirmed, or is just being removed
            return _PAUSE
        done = [kept.seq for kept, receipt in sent if self._is_confirmed(receipt)]
        self._store.remove(done)
        if len(sent) == len(batch):
            self._after = batch[-1].seq
            return 0.0
        self._after = sent[-1][0].seq if sent else self._after
        return _PAUSE

    def _close_door(self) -> None:
        with self._lock:
            self._closed = True
            self._clock.wait_for(self._moved, lambda: not self._putting, _DOOR)

    def _open_door(self, *, empty: bool) -> None:
        with self._lock:
            self._closed = False
            if empty and not self._putting:
                self._behind = False
            self._moved.notify_all()

    def _hand_over(self, batch: Sequence[Kept]) -> list[tuple[Kept, PublishReceipt]]:
        """As many of them as the bus has room for."""
        sent: list[tuple[Kept, PublishReceipt]] = []
        try:
            for kept in batch:
                sent.append((kept, self._publish(kept)))  # noqa: PERF401 - those before the error count
        except BusFullError:
            pass  # the rest comes next time
        return sent

    def _is_confirmed(self, receipt: PublishReceipt) -> bool:
        while (status := receipt.wait(_SLICE)) is None:
            if self._stop.is_set:
                return False
        return status is PublishStatus.CONFIRMED
