"""What an alert is: `Alert`, `AlertLevel`, `AlertSource` and the `AlertReceipt` of one that was handed over."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from hireliab.monitoring._freeze import Frozen, freeze_mapping, freeze_text, thaw

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
        }


@dataclass(frozen=True, kw_only=True)
class AlertReceipt:
    """
    What became of one call of `send_alert`, as far as that is known when it returns.

    Attributes:
        id: The alert's id.
        accepted: Whether at least one channel has queued it.
        durable: Whether it survives this process.
        channels: The channels that have queued it.
        reason: "queued"; "not_started": queued until `start()`; "below_threshold": no channel wants this level;
            "dropped": every queue is full of alerts that matter more; "stopped": after `stop()`, nobody sees it;
            "error": a bug in hireliab, nobody sees it.
    """

    id: str
    accepted: bool
    durable: bool = False
    channels: tuple[str, ...] = ()
    reason: str = "queued"


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


def _level(given: Any) -> AlertLevel | None:
    if type(given) is AlertLevel:
        return given
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


def _source(given: Any) -> AlertSource | str | None:
    if type(given) is AlertSource:
        return given
    if not issubclass(type(given), str | enum.Enum):
        return None
    text = freeze_text(given, 80, one_line=True)
    try:
        return AlertSource(text)
    except ValueError:
        return text or None
