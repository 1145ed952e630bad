"""
Daemon threads that stop at once, and how long we wait for them.

A `Stop` is the one thing a background loop sleeps on: setting it wakes every sleeper, so no loop is deaf.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Protocol

from hireliab.core.clock import SYSTEM_CLOCK, Clock

_log = logging.getLogger("hireliab.threads")


class Stop:
    """A flag that background loops sleep on; once set it stays set."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._condition = threading.Condition()  # guards _set and _woken
        self._set = False
        self._woken = False

    def set(self) -> None:
        """Wake every sleeper, now and later."""
        with self._condition:
            self._set = True
            self._condition.notify_all()

    def wake(self) -> None:
        """Wake the present sleeper once: there is work."""
        with self._condition:
            self._woken = True
            self._condition.notify_all()

    @property
    def is_set(self) -> bool:
        """Whether the loop should end."""
        return self._set

    def sleep(self, seconds: float | None) -> bool:
        """Sleep until the time is over, `wake()` or `set()`; returns whether the loop should end."""
        with self._condition:
            self._clock.wait_for(self._condition, lambda: self._set or self._woken, seconds)
            self._woken = False
            return self._set


def start_thread(target: Callable[[], None], *, name: str) -> threading.Thread:
    """Start a daemon thread."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


class Starting(threading.Thread):
    """
    A daemon thread that can be called off as long as it has not begun.

    Ctrl-C may cut `start()` short before the thread is there or after: ``call_off()`` then says which, and its owner
    neither waits for a thread that never was, nor starts a second one beside it.
    """

    def __init__(self, work: Callable[[], None], *, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._permit = [True]  # whoever takes it out decides

    def run(self) -> None:
        """Do the work, unless it was called off."""
        if self._decide():
            self._work()

    def call_off(self) -> bool:
        """Prevent it; False when it has begun."""
        return self._decide()

    def _decide(self) -> bool:
        try:
            return self._permit.pop()
        except IndexError:
            return False


def run_forever(step: Callable[[], float | None], stop: Stop, *, what: str) -> None:
    """
    Call `step` until `stop` is set, sleeping for the seconds that it returns (None: until woken).

    An exception of a step is logged, and the loop goes on after a second: one bad row must not end the thread
    that looks after all the others.
    """
    while not stop.is_set:
        try:
            pause = step()
        except (Exception, SystemExit):  # SystemExit: a callback that calls sys.exit() ends no loop of ours
            _log.exception("%s: a step failed; going on in 1 s", what)
            pause = 1.0
        if stop.sleep(pause):
            return


def join_all(threads: Iterable[threading.Thread], *, timeout: float, clock: Clock = SYSTEM_CLOCK) -> list[str]:
    """
    Join threads with one shared deadline.

    Args:
        threads: The calling thread itself, and one that was not started yet, are skipped.
        timeout: Seconds for all of them together.

    Returns:
        The names of those still alive, which are also logged.
    """
    deadline = clock.monotonic() + timeout
    alive = []
    for thread in threads:
        if thread is threading.current_thread() or thread.ident is None:
            continue
        thread.join(min(max(0.0, deadline - clock.monotonic()), threading.TIMEOUT_MAX))  # more is an OverflowError
        if thread.is_alive():
            alive.append(thread.name)
    if alive:
        _log.warning("threads: %s did not end within %.1f s and are left behind", ", ".join(alive), timeout)
    return alive


class Renewable(Protocol):
    """Something with a lock, which a forked child must not inherit."""

    def renew_in_child(self) -> None:
        """Forget the parent's other threads; called in the child, before anything else runs there."""


_renewables: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_after_fork(owner: Renewable) -> None:
    """Call ``owner.renew_in_child()`` in every child forked while the owner lives: its lock may be held for ever."""
    _renewables.add(owner)


def _renew_all() -> None:
    for owner in list(_renewables):
        try:
            owner.renew_in_child()
        except Exception:  # the others need theirs all the same
            _log.exception("threads: %s was not renewed in the forked child", type(owner).__qualname__)


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_renew_all)
