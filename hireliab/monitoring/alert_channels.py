"""
Where alerts go without any third party: the console, and any callable of the user's.

A channel is a callable that takes an `Alert` and returns when it is sent, or raises. It runs on a thread of its
own, so it may block; it must not be a coroutine function.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TextIO

from hireliab.errors import ConfigError
from hireliab.monitoring._freeze import thaw
from hireliab.monitoring.alert import Alert

Channel = Callable[[Alert], object]
"""Sends one alert, or raises; what it returns is ignored."""


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


def render_line(alert: Alert) -> str:
    """An alert on one line: time in UTC, level, source, title, message, context, notes, id."""
    when = datetime.fromtimestamp(alert.time, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
    parts = [f"{when} {alert.level.name:<8} {alert.source}: {alert.title}"]
    if alert.message:
        parts.append("| " + " / ".join(alert.message.splitlines()))
    if alert.context:
        parts.append("| " + " ".join(f"{key}={_value(thaw(value))}" for key, value in alert.context.items()))
    parts += [f"(note: {note})" for note in alert.notes]
    parts.append(f"[{alert.id}]")
    return " ".join(parts)


def _value(value: object) -> str:
    # A text of one word stands as it is; the rest as JSON, which keeps a line break on the line.
    if isinstance(value, str) and value and not any(character.isspace() for character in value):
        return value
    return json.dumps(value, ensure_ascii=False)


def check_channel(name: str, channel: object) -> Channel:
    """The channel, if it can be one; else a ConfigError."""
    if not callable(channel):
        raise ConfigError(
            f"channels: {name!r} must be True, False or a callable, got {type(channel).__name__}",
            setting=name,
            allowed="True, False or a callable",
        )
    if inspect.iscoroutinefunction(channel) or inspect.iscoroutinefunction(type(channel).__call__):
        # Calling it would only make a coroutine that nobody runs, and count the alert as delivered.
        raise ConfigError(
            f"channels: {name!r} is a coroutine function; write it without async",
            setting=name,
            allowed="a blocking callable",
        )
    return channel
