"""
Where alerts go without any third party, and what a channel answers.

A channel is a callable that takes an `Alert` and sends it once. It runs on a thread of its own, so it may block; it
must not be a coroutine function. It returns one of the results below, or anything else, which means `Ok`; but False
means `Retry`, and an awaitable `Misconfigured`. If it raises, it is tried again as after `Retry`. An attribute `rate` of
it counts only when it is a `Rate`. Waiting, trying again and giving up are the alert system's business.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from hireliab.errors import ConfigError
from hireliab.monitoring._alert_text import render_line
from hireliab.monitoring.alert import Alert

Channel = Callable[[Alert], object]
"""Sends one alert; see above for what it returns."""


@dataclass(frozen=True)
class Ok:
    """It was sent."""


@dataclass(frozen=True)
class Retry:
    """
    It was not sent, and a later attempt may succeed: a lost connection, a server's 5xx.

    Attributes:
        reason: In words, without secrets.
        after: Seconds that the service asks to wait, or None.
    """

    reason: str
    after: float | None = None


@dataclass(frozen=True)
class RateLimited:
    """
    The service takes nothing for a while.

    Attributes:
        reason: In words, without secrets.
        after: Seconds that the service asks to wait, or None.
    """

    reason: str
    after: float | None = None


@dataclass(frozen=True)
class Permanent:
    """This alert will never be taken; others may."""

    reason: str


@dataclass(frozen=True)
class Misconfigured:
    """Nothing will be taken until a person mends the configuration: a wrong token, a chat that does not exist."""

    reason: str


@dataclass(frozen=True)
class Unknown:
    """It may have been sent: no answer came after all of it was written."""

    reason: str


Result = Ok | Retry | RateLimited | Permanent | Misconfigured | Unknown
"""What became of one attempt."""

RESULTS = (Ok, Retry, RateLimited, Permanent, Misconfigured, Unknown)


@dataclass(frozen=True)
class Rate:
    """
    How much a service takes: what a channel's attribute `rate` may say.

    Attributes:
        per_minute: Messages in a minute.
        gap: Seconds between two messages at least.
    """

    per_minute: float
    gap: float = 0.0


class ConsoleChannel:
    """
    One line an alert, on standard error.

    Args:
        stream: Where to write instead; None looks `sys.stderr` up each time, so that redirecting it works.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def __call__(self, alert: Alert) -> None:
        """Write the line; raises what the stream raises."""
        stream = sys.stderr if self._stream is None else self._stream
        if stream is None:
            return  # a program without a console, such as pythonw or a Windows service
        line = render_line(alert) + "\n"
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(line.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()


def check_channel(name: str, channel: object) -> Channel:
    """The channel, if it can be one; else a ConfigError."""
    if not callable(channel):
        raise ConfigError(
            f"channels: {name!r} must be True, False, a callable or a mapping with a url, got {type(channel).__name__}",
            setting=name,
            allowed='True, False, a callable or {"url": …}',
        )
    if inspect.iscoroutinefunction(channel) or inspect.iscoroutinefunction(type(channel).__call__):
        # Calling it would only make a coroutine that nobody runs, and count the alert as delivered.
        raise ConfigError(
            f"channels: {name!r} is a coroutine function; write it without async",
            setting=name,
            allowed="a blocking callable",
        )
    return channel
