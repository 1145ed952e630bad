"""Alerts that nobody wants to hear for a while. Every silence ends by itself."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hireliab.errors import ConfigError
from hireliab.monitoring._freeze import freeze_text
from hireliab.monitoring.alert import MAX_TITLE, Alert, AlertLevel, AlertSource


@dataclass(frozen=True, kw_only=True)
class Silence:
    """
    What is silent, until when. What is None matches everything.

    Attributes:
        id: For `AlertSystem.unsilence`.
        until: Monotonic seconds.
        source: The source's name.
        title: The title; ``*`` stands for any characters.
        dedup_key: The dedup key.
        include_critical: Whether CRITICAL is silent, too.
    """

    id: str
    until: float
    source: str | None
    title: str | None
    dedup_key: str | None
    include_critical: bool

    def covers(self, alert: Alert) -> bool:
        """Whether the alert is one of them."""
        if alert.level >= AlertLevel.CRITICAL and not self.include_critical:
            return False
        return (
            (self.source is None or self.source == str(alert.source))
            and (self.dedup_key is None or self.dedup_key == alert.dedup_key)
            and (self.title is None or fnmatchcase(alert.title, _pattern(self.title)))
        )


def _pattern(title: str) -> str:
    """Of all that `fnmatch` takes for more than itself, only the star is meant."""
    return title.replace("[", "[[]").replace("?", "[?]")


def text_of_a_silence(name: str, given: object) -> str | None:
    """
    A title or a dedup key as alerts have it.

    Raises:
        ConfigError: It is no text.
    """
    if given is None:
        return None
    if not isinstance(given, str):
        raise ConfigError(
            f"silence: {name} must be a text, got {type(given).__name__}", setting=name, allowed="a text or None"
        )
    return freeze_text(given, MAX_TITLE, one_line=True)


def source_of_a_silence(given: object) -> str | None:
    """
    A source's name as alerts have it.

    Raises:
        ConfigError: It is no source.
    """
    if given is None or isinstance(given, AlertSource):
        return None if given is None else str(given)
    name = text_of_a_silence("source", given)
    try:
        return str(AlertSource(name))
    except ValueError:
        return name


class Silences:
    """The present ones. Looking costs nothing while there are none."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards the writing of _silences; re-entrant for signal handlers
        self._silences: tuple[Silence, ...] = ()

    def add(self, silence: Silence, now: float) -> None:
        """Begin one, and forget those that have ended."""
        with self._lock:
            present = [other for other in self._silences if other.until > now]
            self._silences = (*present, silence)

    def remove(self, silence_id: str) -> bool:
        """End one early; whether there was one."""
        with self._lock:
            left = tuple(silence for silence in self._silences if silence.id != silence_id)
            found = len(left) < len(self._silences)
            self._silences = left
            return found

    def cover(self, alert: Alert, now: float) -> bool:
        """Whether the alert is silent now; takes no lock."""
        silences = self._silences
        if not silences:
            return False
        try:
            return any(silence.until > now and silence.covers(alert) for silence in silences)
        except Exception:  # a bug: rather one message too many
            return False

    def present(self, now: float) -> tuple[Silence, ...]:
        """Those that have not ended."""
        return tuple(silence for silence in self._silences if silence.until > now)

    def renew_in_child(self) -> None:
        """In a forked child the lock may be held by a thread that is not here."""
        self._lock = threading.RLock()
