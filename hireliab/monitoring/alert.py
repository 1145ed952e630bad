"""What an alert is: `Alert`, `AlertLevel`, `AlertSource` and the `AlertReceipt` of one that was handed over."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from hireliab.monitoring._alert_text import render_line
from hireliab.monitoring._freeze import Frozen, freeze_mapping, freeze_text, thaw

EVENT_KEY = "log:"
"""A dedup key that begins so makes a group, but nothing that stands until it is resolved: log lines have no end."""
MAX_TITLE = 200
MAX_MESSAGE = 4000
_NOTHING: Mapping[str, Frozen] = MappingProxyType({})


class AlertLevel(enum.IntEnum):
    """
    How much an alert matters; levels compare by weight, and have the numbers of `logging`.

    ``AlertLevel("warning")`` finds a level by its name in any case.
    """

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40
    CRITICAL = 50

    @classmethod
    def _missing_(cls, value: object) -> AlertLevel | None:
        return cls.__members__.get(value.strip().upper()) if type(value) is str else None

    def __str__(self) -> str:
        return self.name


class AlertSource(str, enum.Enum):
    """
    Which part of the bot an alert is about; a text of the user's own serves as well.

    ``AlertSource("market_data")`` finds a source by its name in any case.
    """

    SYSTEM = "system"
    EXCHANGE = "exchange"
    EXECUTION = "execution"
    MARKET_DATA = "market_data"
    STRATEGY = "strategy"
    RISK = "risk"
    NETWORK = "network"
    STORAGE = "storage"

    @classmethod
    def _missing_(cls, value: object) -> AlertSource | None:
        return cls.__members__.get(value.strip().upper()) if type(value) is str else None

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, kw_only=True)
class Alert:
    """
    What a channel sends. Its texts and context are copies, bounded and without secrets.

    Attributes:
        id: A short id, so that a person sees that two messages are one alert.
        time: When `send_alert` was called, Unix seconds.
        source: An AlertSource, or the user's own text.
        level: How much it matters.
        title: One line.
        message: Any number of lines.
        context: Facts by name; read-only all the way down. `to_dict` gives plain dicts and lists.
        dedup_key: Alerts with the same key are about the same trouble; or None.
        notes: What was wrong with the call, for the eyes of its author.
        count: How many alerts about the same trouble this one stands for, since the first.
        since: When the first of them was sent, Unix seconds; None for a single one.
        also: How other messages of the group begin that were not told yet.
        resolved: Whether it tells that the trouble is over.
        replayed: Whether it comes from a process that ended before it could be sent.
    """

    id: str
    time: float
    source: AlertSource | str
    level: AlertLevel
    title: str
    message: str
    context: Mapping[str, Frozen] = field(default_factory=lambda: _NOTHING)
    dedup_key: str | None = None
    notes: tuple[str, ...] = ()
    count: int = 1
    since: float | None = None
    also: tuple[str, ...] = ()
    resolved: bool = False
    replayed: bool = False

    def __str__(self) -> str:
        """One line, as the console shows it."""
        return render_line(self)

    def to_dict(self) -> dict[str, object]:
        """A fresh plain dictionary, ready for JSON; level and source are their names."""
        return {
            "id": self.id,
            "time": self.time,
            "source": str(self.source),
            "level": self.level.name.lower(),
            "title": self.title,
            "message": self.message,
            "context": thaw(self.context),
            "dedup_key": self.dedup_key,
            "notes": list(self.notes),
            "count": self.count,
            "since": self.since,
            "also": list(self.also),
            "resolved": self.resolved,
            "replayed": self.replayed,
        }


@dataclass(frozen=True, kw_only=True)
class AlertReceipt:
    """
    What became of one call of `send_alert`, as far as that is known when it returns.

    Attributes:
        id: The alert's id.
        accepted: Whether it is told, alone or counted with others of the same trouble.
        durable: Whether it survives this process, as far as that is known.
        channels: The channels that have queued it.
        reason: "queued"; "deduplicated": counted with others of the same trouble; "not_started": queued until `start()`;
            "silenced": nobody wants to hear it now; "below_threshold": no channel wants this level; "dropped": every
            queue is full of alerts that matter more; "stopped": after `stop()`, nobody sees it; "error": a bug in
            hireliab, nobody sees it.
    """

    id: str
    accepted: bool
    durable: bool = False
    channels: tuple[str, ...] = ()
    reason: str = "queued"


def alert_from_dict(given: Mapping[str, Any]) -> Alert:
    """
    The alert that `Alert.to_dict` made; keys that are not known are ignored, for a newer version may have written them.

    Raises:
        KeyError, TypeError, ValueError: It is not what `to_dict` makes.
    """
    source = str(given["source"])
    since = given.get("since")
    dedup_key = given.get("dedup_key")
    return Alert(
        id=str(given["id"]),
        time=float(given["time"]),
        source=_source(source) or source,
        level=AlertLevel(given["level"]),
        title=str(given["title"]),
        message=str(given["message"]),
        context=freeze_mapping(given.get("context") or {}),
        dedup_key=None if dedup_key is None else str(dedup_key),
        notes=tuple(map(str, given.get("notes", ()))),
        count=int(given.get("count", 1)),
        since=None if since is None else float(since),
        also=tuple(map(str, given.get("also", ()))),
        resolved=bool(given.get("resolved", False)),
        replayed=bool(given.get("replayed", False)),
    )


def make_alert(
    *,
    id: str,  # noqa: A002 - the attribute's name
    time: float,
    source: object,
    level: object,
    title: object,
    message: object,
    context: object = None,
    dedup_key: object = None,
) -> Alert:
    """
    An alert from whatever the caller gave; what cannot be understood is replaced and noted, never refused.

    A level that is none becomes ERROR: an alert that somebody wrote wrongly must not be filtered out.
    """
    notes = []
    known_level = _level(level)
    if known_level is None:
        notes.append(f"level {freeze_text(level, 80, one_line=True)} is unknown, sent as ERROR")
    known_source = _source(source)
    if known_source is None:
        notes.append(f"source {freeze_text(source, 80, one_line=True)} is neither an AlertSource nor a text")
    frozen = freeze_mapping(context)
    if context is not None and not issubclass(type(context), dict | MappingProxyType):
        notes.append("context is no dictionary")
    return Alert(
        id=id,
        time=time,
        source=AlertSource.SYSTEM if known_source is None else known_source,
        level=AlertLevel.ERROR if known_level is None else known_level,
        title=freeze_text(title, MAX_TITLE, one_line=True),
        message=freeze_text(message, MAX_MESSAGE),
        context=frozen,
        dedup_key=None if dedup_key is None else freeze_text(dedup_key, MAX_TITLE, one_line=True),
        notes=tuple(notes),
    )


def rescue_alert(*, id: str, time: float, source: object, level: object, title: object, message: object) -> Alert:  # noqa: A002
    """What can be saved of an alert that `make_alert` cannot make: the rest of a bug of ours, rather than silence."""
    return Alert(
        id=id,
        time=time,
        source=_or_else(lambda: _source(source)) or AlertSource.SYSTEM,
        level=_or_else(lambda: _level(level)) or AlertLevel.ERROR,
        title=_or_else(lambda: freeze_text(title, MAX_TITLE, one_line=True)) or _UNSHOWN,
        message=_or_else(lambda: freeze_text(message, MAX_MESSAGE)) or _UNSHOWN,
        notes=("a part of this alert could not be shown",),
    )


_UNSHOWN = "<cannot be shown>"
_T = TypeVar("_T")


def _or_else(make: Callable[[], _T | None]) -> _T | None:
    try:
        return make()
    except Exception:
        return None


def _level(given: Any) -> AlertLevel | None:
    if type(given) is AlertLevel:
        return given
    if type(given) is str and (found := _LEVELS.get(given)) is not None:
        return found
    if issubclass(type(given), str | enum.Enum):  # the user's own enumeration counts by its names
        number: Any = freeze_text(given, 80, one_line=True)
    elif type(given) is int:
        number = given
    else:
        return None
    try:
        return AlertLevel(number)
    except ValueError:
        return None


# The usual spellings, so that they cost no more than a look.
_LEVELS = {name: level for level in AlertLevel for name in (level.name, level.name.lower())}
_SOURCES = {name: source for source in AlertSource for name in (source.name, source.value)}


def _source(given: Any) -> AlertSource | str | None:
    if type(given) is AlertSource:
        return given
    if type(given) is str and (found := _SOURCES.get(given)) is not None:
        return found
    if not issubclass(type(given), str | enum.Enum):
        return None
    text = freeze_text(given, 80, one_line=True)
    try:
        return AlertSource(text)
    except ValueError:
        return text or None
