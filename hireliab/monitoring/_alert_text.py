"""How an alert reads: on one line, or as title, body and id."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from hireliab.monitoring._freeze import thaw

if TYPE_CHECKING:
    from hireliab.monitoring.alert import Alert


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
