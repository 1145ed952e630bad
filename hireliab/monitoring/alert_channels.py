"""
Where alerts go without any third party, what a channel answers, and how an alert reads.

A channel is a callable that takes an `Alert` and sends it once. It runs on a thread of its own, so it may block; it
must not be a coroutine function. It returns one of the results below, or anything else, which means `Ok`; but False
means `Retry`, and an awaitable `Misconfigured`. If it raises, it is tried again as after `Retry`. An attribute `rate` of
it counts only when it is a `Rate`. Waiting, trying again and giving up are the alert system's business.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TextIO

from hireliab.errors import ConfigError
from hireliab.monitoring._freeze import thaw
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


# -- how an alert reads -------------------------------------------------------------------------------------------


def render_line(alert: Alert) -> str:
    """An alert on one line: time in UTC, level, source, title, message, context, notes, id."""
    parts = [f"{render_time(alert.time)} {alert.level.name:<8} {alert.source}: {_head(alert)}"]
    if alert.message:
        parts.append("| " + " / ".join(alert.message.splitlines()))
    if alert.context:
        parts.append("| " + " ".join(f"{key}={_value(thaw(value))}" for key, value in alert.context.items()))
    parts += [f"({remark})" for remark in _remarks(alert)]
    parts.append(render_id(alert))
    return " ".join(parts)


def render_title(alert: Alert) -> str:
    """One line without markup: level, source, title, and how often; "RESOLVED" instead of the level when it is over."""
    return f"{'RESOLVED' if alert.resolved else alert.level.name} {alert.source}: {alert.title}{_times(alert)}"


def render_body(alert: Alert) -> str:
    """The rest without markup, on many lines: message, context, time, remarks; the id is not in it."""
    parts = [alert.message] if alert.message else []
    if alert.context:
        parts.append("\n".join(f"{key}: {_value(thaw(value))}" for key, value in alert.context.items()))
    parts.append("\n".join([render_time(alert.time), *_remarks(alert)]))
    return "\n\n".join(parts)


def render_id(alert: Alert) -> str:
    """The id as the end of a text."""
    return f"[{alert.id}]"


def render_time(seconds: float) -> str:
    """Unix seconds as a date and time in UTC."""
    try:
        # Not strftime, which imports: an alert may be written while the interpreter ends.
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat(" ", "seconds")[:19] + "Z"
    except (OverflowError, ValueError, OSError):
        return "(no valid time)"


def fit(title: str, body: str, tail: str, limit: int) -> str:
    """
    One text of at most `limit` code points: title, body and tail under each other.

    What does not fit is cut out of the body's middle; then, from the title's end. The tail stays whole as long as
    there is room for it.
    """
    whole = "\n".join(part for part in (title, body, tail) if part)
    if len(whole) <= limit:
        return whole
    frame = "\n".join(part for part in (title, tail) if part)
    room = limit - len(frame) - 1
    if room >= 20:
        mark = "\n[…]\n"
        keep = room - len(mark)
        return "\n".join([title, body[: keep - keep // 3] + mark + body[len(body) - keep // 3 :], tail]).strip("\n")
    short = limit - len(tail) - 2
    return f"{title[:short]}…\n{tail}" if tail and short > 0 else frame[:limit]


def _head(alert: Alert) -> str:
    return f"{'RESOLVED ' if alert.resolved else ''}{alert.title}{_times(alert)}"


def _times(alert: Alert) -> str:
    return f" (x{alert.count})" if alert.count > 1 else ""


def _remarks(alert: Alert) -> list[str]:
    remarks = []
    if alert.count > 1 and alert.since is not None:
        remarks.append(f"{alert.count} times, first {render_time(alert.since)}, last {render_time(alert.time)}")
    elif alert.resolved and alert.since is not None:
        remarks.append(f"since {render_time(alert.since)}")
    remarks += [f"also: {head}" for head in alert.also]
    if alert.replayed:
        remarks.append("sent late: the process ended before it could be sent")
    return remarks + [f"note: {note}" for note in alert.notes]


def _value(value: object) -> str:
    # A text of one word stands as it is; the rest as JSON, which keeps a line break on the line.
    if isinstance(value, str) and value and not any(character.isspace() for character in value):
        return value
    return json.dumps(value, ensure_ascii=False)


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
