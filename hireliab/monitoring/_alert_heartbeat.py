"""A sign of life to a watcher elsewhere: a process that was killed cannot alert, but its silence can."""

from __future__ import annotations

import contextlib
import logging
import threading
import urllib.request

from hireliab.core._threads import Starting, Stop
from hireliab.core.clock import Clock
from hireliab.monitoring._channel_status import describe
from hireliab.monitoring._redaction import known_secrets, secrets_of_url

_log = logging.getLogger("hireliab.alerts")

TIMEOUT = 10.0
"""Seconds for the connection, and for each read."""
TOTAL = 15.0
"""Seconds for a whole call."""
MOST_ABANDONED = 2
"""Calls that may run on beyond that; while they do, there is no further one."""


class Heartbeat:
    """
    Args:
        url: An http or https URL; it is a secret, and appears in no log line.
        every: Seconds between two calls; what a call takes is not added.
    """

    def __init__(self, *, url: str, every: float, clock: Clock) -> None:
        known_secrets.add(secrets_of_url(url))
        self._url = url
        self._every = every
        self._clock = clock
        self._failing = False
        self.beats = 0
        self.reset()

    def reset(self) -> None:
        """Start anew: at construction and in a forked child."""
        self._stop = Stop(self._clock)
        self._calls: list[threading.Thread] = []
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, whose first call is made at once; a second `start` changes nothing."""
        if self.thread is not None:
            return
        self.thread = thread = Starting(self._run, name="hireliab.alerts.heartbeat")
        try:
            thread.start()
        except BaseException:
            if thread.call_off():
                self.thread = None
            raise

    def stop(self) -> None:
        """Let the thread end; a call that is under way is left to itself."""
        self._stop.set()

    def _run(self) -> None:
        next_at = self._clock.monotonic()
        while not self._stop.is_set:
            self._beat()
            now = self._clock.monotonic()
            next_at = max(next_at + self._every, now)  # what was missed is not made up for
            while (pause := next_at - self._clock.monotonic()) > 0:  # a late call may wake us before
                if self._stop.sleep(pause):
                    return

    def _beat(self) -> None:
        self._calls = [call for call in self._calls if call.is_alive()]
        if len(self._calls) >= MOST_ABANDONED:
            self._failed("earlier calls have not come back")
            return
        answers: list[str] = []
        stop = self._stop

        def call() -> None:
            answers.append(_call(self._url))
            stop.wake()

        # On a thread of its own: a server that drips its headers keeps every limit of a read, for hours.
        thread = threading.Thread(target=call, name="hireliab.alerts.heartbeat-call", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads
            self._failed(str(error))
            return
        self._calls.append(thread)
        until = self._clock.monotonic() + TOTAL
        while not answers:
            left = until - self._clock.monotonic()
            if left <= 0:
                self._failed(f"no answer within {TOTAL:g} s")
                return
            if stop.sleep(left):
                return
        if answers[0]:
            self._failed(answers[0])
        else:
            self.beats += 1
            self._failing = False

    def _failed(self, why: str) -> None:
        if not self._failing:  # once for each outage
            self._failing = True
            with contextlib.suppress(Exception):
                _log.warning("alerts: the heartbeat was not taken: %s", why)


def _call(url: str) -> str:
    """Call once; what was wrong, or ""."""
    try:
        # The settings let nothing but http and https through.
        request = urllib.request.Request(url, headers={"User-Agent": "hireliab"})  # noqa: S310
        # The status line is the answer; the body is not read.
        with urllib.request.urlopen(request, timeout=TIMEOUT):  # noqa: S310
            return ""
    except Exception as error:
        return describe(error)[0] or "it failed"
