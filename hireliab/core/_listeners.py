"""Events for listeners: in order, one at a time, outside of every lock, and never at the caller's expense."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

E = TypeVar("E")


class Events(Generic[E]):
    """
    A queue between the lock under which things happen and the listeners that hear of them.

    The owner calls `put` with its lock held, so the queue has the order of the facts, and `deliver` after
    releasing it. One thread delivers at a time; the others leave their events to it and go on at once.

    Args:
        log: Where a raising listener is reported.
        subject: Names the owner in that report.
    """

    def __init__(self, log: logging.Logger, subject: Callable[[], str]) -> None:
        self._log = log
        self._subject = subject
        self._queue: deque[E] = deque()
        # The deque's own method: no Python code runs between the call and the append, so a signal handler cannot
        # put a later event first.
        self.put: Callable[[E], None] = self._queue.append
        # Under 0 the mark of the one call that delivers; tried and never waited for. No lock: Ctrl-C may come after a
        # lock's acquire() and before its answer is known, and then nobody would release it.
        self._delivering: dict[int, object] = {}
        self._reported: set[int] = set()

    def deliver(self, tell: Callable[[E], None]) -> None:
        """
        Tell every queued event, unless another thread is at it already.

        Args:
            tell: Hears one event; it calls the listeners through `call`.
        """
        # Looked at again after the release: thread A may find the queue empty and still have its mark there while
        # thread B appends, fails to set its own and leaves. A then sees B's event here.
        mine, delivering = object(), self._delivering
        while self._queue:
            try:
                if delivering.setdefault(0, mine) is not mine:
                    return
                while self._queue:
                    tell(self._queue.popleft())
            finally:
                # Nothing is called before the mark is gone: calls are where Python looks for signals.
                if 0 in delivering and delivering[0] is mine:
                    del delivering[0]

    def after_fork(self) -> None:
        """In a forked child: the thread that delivered is not here, and its queue is the parent's business."""
        self._delivering = {}
        self._queue.clear()

    def call(self, listener: object, hook: Callable[..., object], /, *args: Any, **kwargs: Any) -> None:
        """Call a listener; what it raises is logged once per listener, by name, and goes no further."""
        try:
            hook(*args, **kwargs)
        except Exception:
            self.report(listener, "listener")

    def report(self, culprit: object, role: str) -> None:
        """Log the exception being handled, once for each culprit, by its name."""
        if id(culprit) in self._reported:
            return
        self._reported.add(id(culprit))
        name = getattr(culprit, "__qualname__", None) or type(culprit).__qualname__
        self._log.exception("%s: %s %s raised; its further errors are not logged", self._subject(), role, name)
