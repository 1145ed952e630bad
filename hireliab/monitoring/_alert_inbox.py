"""
Alerts below ERROR between the bot's call and the channels.

They wait for `group_wait` in any case, so the caller only leaves them here, and a thread of its own brings them to the
channels in their order. That thread does nothing that can block, as the others do: it neither sends, nor logs, nor
touches a disk.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable

from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.monitoring._alert_watchdog import Watchdog
from hireliab.monitoring.alert import Alert, AlertLevel

REST = 0.05
"""Seconds for which the first alert lies here, so that a burst wakes the thread once. Far less than `group_wait`."""
ASK_AGAIN = 1.0
"""Seconds after which the thread is woken in any case: Ctrl-C may have struck just before it was."""
MOST = 1000
"""Alerts that lie here; what finds no room is brought to the channels by its caller."""
_AT_A_STRETCH = 8
_BREATH = 0.0005
_STEP_ASIDE = 0.02

Key = tuple[str, str]
"""A trouble: source, and dedup key or title."""


class Inbox:
    """
    Any thread, signal handler or finaliser may call every method. Leaving an alert here takes no lock.

    Args:
        deliver: Brings one alert to every channel; its second argument is the monotonic second of the call.
        wait: `group_wait`.
    """

    def __init__(self, *, deliver: Callable[[Alert, float], None], wait: float, clock: Clock) -> None:
        self._deliver = deliver
        self._rest = min(REST, wait / 4)
        self._clock = clock
        self._clerk = Watchdog(clock=clock, name="inbox", step=self._carry)
        self.reset()

    def reset(self) -> None:
        """Start anew: at construction and in a forked child."""
        self._waiting: deque[tuple[int, Alert, Key, float]] = deque()
        self._ticks = itertools.count(1)
        self._levels: dict[Key, AlertLevel] = {}  # of the last one for each trouble that lies here
        self._open = False
        self._closed = False  # for good
        self._ask_again = 0.0  # monotonic; until then the thread knows that something lies here
        self._flooded = False  # somebody found no room
        self._busy = False  # one is on its way to the channels
        self._carried = 0  # the highest tick that was carried
        self._times = 0  # how many were
        self._lock = threading.RLock()
        self._passed = threading.Condition(self._lock)  # notified with every one, while somebody waits for it
        self._watchers = 0
        self._never = threading.Lock()
        self._never.acquire()
        self._clerk.reset()

    @property
    def thread(self) -> threading.Thread | None:
        """Its thread, once started."""
        return self._clerk.thread

    @property
    def is_open(self) -> bool:
        """Whether alerts may be left here."""
        return self._open

    def start(self) -> None:
        """Start the thread, and take alerts from now on; once closed, nothing."""
        self._clerk.start()
        self._open = not self._closed

    @property
    def locks(self) -> tuple[threading.RLock, ...]:
        """The locks, of which somebody may ask whether he has one."""
        return self._lock, self._clerk.lock

    def put(self, alert: Alert, key: Key, now: float) -> bool:
        """Leave an alert here; False when it is closed or full, and the caller has to bring it himself."""
        if not self._open:
            return False
        if len(self._waiting) >= MOST:
            self._flooded = True
            return False
        entry = (next(self._ticks), alert, key, now)
        self._levels[key] = alert.level
        self._waiting.append(entry)
        if now >= self._ask_again:
            self._ask_again = now + ASK_AGAIN
            self._clerk.wake_by(now + self._rest)
        if not self.is_open:  # closed since the first line: perhaps nobody comes any more
            try:
                self._waiting.remove(entry)
            except ValueError:
                return True  # somebody came
            return False
        return True

    def level_of(self, key: Key) -> AlertLevel | None:
        """The level of the last alert about this trouble that lies here."""
        return self._levels.get(key)

    def flush(self, timeout: float) -> None:
        """Have what lies here brought to the channels now; waits for that, at most so many seconds."""
        times = self._times
        try:
            last = self._waiting[-1][0]
        except IndexError:
            if not self._busy:
                return
            last = 0
        if threading.current_thread() is self._clerk.thread:
            return

        def is_done() -> bool:
            return self._carried >= last if last else self._times > times

        self._clerk.wake_by(self._clock.monotonic())
        with self._passed:
            self._watchers += 1
            try:
                self._clock.wait_for(self._passed, is_done, timeout)
            finally:
                self._watchers -= 1

    def close(self, timeout: float) -> None:
        """Take no more, bring everything to the channels, and end the thread."""
        self._closed = True
        self._open = False
        self.flush(timeout)
        self._clerk.stop()
        while self._carry_one():  # what came in between, and everything when the thread does not run
            pass

    def _carry(self) -> None:
        self._ask_again = 0.0  # before the last look: who comes after it, wakes the thread again
        bug: Exception | None = None
        for done in itertools.count(1):
            try:
                if not self._carry_one():
                    break
            except Exception as error:
                bug = error
            if done % _AT_A_STRETCH == 0 and not self._watchers:
                # A real pause, whatever the clock: the bot's thread needs the interpreter, and must not wait for it.
                # In a flood it carries its alerts itself, and two who do that would wait for each other all the time.
                SYSTEM_CLOCK.acquire(self._never, _STEP_ASIDE if self._flooded else _BREATH)
                self._flooded = False
        if bug is not None:
            raise bug

    def _carry_one(self) -> bool:
        self._busy = True  # before it is out of the queue: `flush` must find it in the one or the other
        try:
            tick, alert, key, at = self._waiting.popleft()
        except IndexError:
            self._busy = False
            return False
        try:
            self._deliver(alert, at)
        finally:
            self._levels.pop(key, None)
            self._carried = max(self._carried, tick)
            self._times += 1
            self._busy = False
            if self._watchers:
                with self._passed:
                    self._passed.notify_all()
        return True
