"""A test message through each channel, past all queues and rules: does it arrive?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hireliab.core.clock import Clock
from hireliab.monitoring._channel_answer import judge
from hireliab.monitoring._channel_status import describe, new_id
from hireliab.monitoring.alert import Alert, AlertLevel, AlertSource, make_alert
from hireliab.monitoring.alert_channels import (
    Channel,
    Misconfigured,
    Ok,
    Permanent,
    RateLimited,
    Result,
    Retry,
    Unknown,
)


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """
    What became of a test message.

    Attributes:
        channel: The channel's name.
        ok: Whether the service took it.
        reason: What happened, in words.
        seconds: How long it took.
    """

    __test__ = False  # no test of pytest's

    channel: str
    ok: bool
    reason: str
    seconds: float


_WORDS: tuple[tuple[type[object], str], ...] = (
    (Retry, "not sent"),
    (RateLimited, "the service takes no more for now"),
    (Permanent, "refused"),
    (Misconfigured, "wrong settings"),
    (Unknown, "perhaps sent, no answer came"),
)


class _Trial:
    def __init__(self, name: str, channel: Channel, alert: Alert, clock: Clock) -> None:
        self.name = name
        self._channel = channel
        self._alert = alert
        self._clock = clock
        self._condition = threading.Condition()  # guards result and ended
        self._began = clock.monotonic()
        self.result: Result | None = None
        self.ended = self._began
        # Its own thread: the channel's may be stuck, and this call must come back.
        self.thread = threading.Thread(target=self._run, name=f"hireliab.alerts.{name}.test", daemon=True)

    def _run(self) -> None:
        try:
            result = judge(self._channel(self._alert))
        except BaseException as error:
            result = Retry(describe(error)[0])
        with self._condition:
            self.result = result
            self.ended = self._clock.monotonic()
            self._condition.notify_all()

    def outcome(self, deadline: float) -> TestResult:
        with self._condition:
            left = max(0.0, deadline - self._clock.monotonic())
            self._clock.wait_for(self._condition, lambda: self.result is not None, left)
            result, ended = self.result, self.ended
        if result is None:
            seconds = self._clock.monotonic() - self._began
            return TestResult(channel=self.name, ok=False, reason=f"no answer within {seconds:.0f} s", seconds=seconds)
        seconds = ended - self._began
        if isinstance(result, Ok):
            return TestResult(channel=self.name, ok=True, reason="sent", seconds=seconds)
        words = next(words for kind, words in _WORDS if isinstance(result, kind))
        return TestResult(channel=self.name, ok=False, reason=f"{words}: {result.reason}", seconds=seconds)


def try_channels(
    channels: Sequence[tuple[str, Channel]], *, timeout: float, clock: Clock, make: Callable[[str], Alert] | None = None
) -> tuple[TestResult, ...]:
    """Send a test message through each channel, all at once, and wait `timeout` seconds for all of them together."""
    make = make or (lambda name: _test_alert(name, clock.time()))
    trials = [_Trial(name, channel, make(name), clock) for name, channel in channels]
    deadline = clock.monotonic() + timeout
    for trial in trials:
        trial.thread.start()
    return tuple(trial.outcome(deadline) for trial in trials)


def _test_alert(name: str, time: float) -> Alert:
    return make_alert(
        id=new_id(),
        time=time,
        source=AlertSource.SYSTEM,
        level=AlertLevel.INFO,
        title="test message",
        message=f"channel {name!r} of hireliab works",
    )
