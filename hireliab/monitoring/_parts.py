"""
The parts of a bot that are looked at, for metrics and health: held weakly, each under a name of its own.

A part is known by its methods: this package imports no other. What has ``parts``, such as an adapter or a policy,
stands for them; they are asked for anew at each look, because a registry gets more of them.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hireliab.core._threads import renew_after_fork
from hireliab.errors import ClosedError, ConfigError
from hireliab.monitoring._freeze import clean

_log = logging.getLogger("hireliab.monitoring")

MOST_PARTS = 1000
"""Parts that are looked at; a bot that makes a breaker for every order must not fill the memory of who watches it."""
_NAME = 100  # characters
_DEPTH = 4

# kind, a method that only it has, the method that gives its snapshot
_KINDS = (
    ("pipeline", "create_transaction", "stats"),
    ("journal", "unfinished", "stats"),
    ("pool", "invalidate_all", "stats"),
    ("breaker", "half_open", "stats"),
    ("limiter", "preload", "stats"),
    ("bulkhead", "max_concurrent", "stats"),
    ("retry_budget", "earn", "stats"),
    ("outbox", "wake", "stats"),
    ("inbox", "once", "stats"),
    ("bus", "subscribe", "status"),
    ("alerts", "send_alert", "status"),
)
KINDS = tuple(kind for kind, _, _ in _KINDS)
_ALLOWED = (
    "a circuit breaker, rate limiter, bulkhead, retry budget, policy, registry, connection pool, adapter, pipeline,"
    " journal, outbox, inbox, message bus or alert system"
)


class NotRunningError(ClosedError):
    """A pipeline that is not running has no figures; ``state`` says what it is."""

    state = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """
    One part at one instant.

    Attributes:
        kind: One of `KINDS`.
        name: The part's name, redacted, short, and no other's of this kind: a second one gets ``#2``.
        critical: Whether orders depend on it.
        snapshot: What its ``stats()`` or ``status()`` gave, or None.
        error: What that raised, or None.
    """

    kind: str
    name: str
    critical: bool
    snapshot: Any = None
    error: BaseException | None = None


class Parts:
    """
    Those that were added and are alive, in the order in which they were added.

    Thread-safe. No lock is held while a part is asked.

    Args:
        where: For errors and logs.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        # Guards everything below. Re-entrant, because a signal handler may print the figures on the thread that is
        # inside.
        self._lock = threading.RLock()
        self._added: list[tuple[weakref.ref[Any], bool]] = []
        self._names: dict[int, tuple[weakref.ref[Any], str, str]] = {}  # by id: the part, its kind, its name
        self._told_full = False
        renew_after_fork(self)

    def add(self, parts: Iterable[object], *, critical: bool = True) -> None:
        """
        Look at these, too.

        Raises:
            ConfigError: One of them is nothing that can be looked at; none was added.
        """
        refs = []
        for part in parts:
            # A class has the methods of a part, too, and is none.
            if isinstance(part, type) or (_kind(part) is None and not hasattr(part, "parts")):
                raise ConfigError(
                    f"{self._where}: cannot look at {type(part).__name__}; give {_ALLOWED}",
                    setting="part",
                    allowed=_ALLOWED,
                )
            try:
                refs.append((weakref.ref(part), critical))
            except TypeError:
                raise ConfigError(
                    f"{self._where}: {type(part).__name__} cannot be referred to weakly; give its class __weakref__",
                    setting="part",
                    allowed=_ALLOWED,
                ) from None
        with self._lock:
            known: dict[int, tuple[weakref.ref[Any], bool]] = {}
            for ref, once in (*self._added, *refs):
                part = ref()
                if part is not None:  # and so its id is no other's
                    known[id(part)] = ref, once or known.get(id(part), (ref, False))[1]
            self._added = list(known.values())

    def discard(self, part: object) -> bool:
        """Look at this one no more; whether it was known."""
        with self._lock:
            before = len(self._added)
            self._added = [(ref, once) for ref, once in self._added if ref() is not part]
            return len(self._added) < before

    def look(self) -> list[Look]:
        """Ask each of them; one that raises has an error instead of a snapshot."""
        with self._lock:
            roots = [(part, critical) for ref, critical in self._added if (part := ref()) is not None]
        found: dict[int, tuple[object, str, str, bool]] = {}
        for root, critical in roots:
            for part, kind, method in _expand(root, _DEPTH):
                _, _, _, before = found.get(id(part), (part, kind, method, False))
                found[id(part)] = (part, kind, method, critical or before)
        if len(found) > MOST_PARTS:
            self._tell_full(len(found))
        chosen = list(found.values())[:MOST_PARTS]
        names = self._name([(part, kind) for part, kind, _, _ in chosen])
        looks = []
        for (part, kind, method, critical), name in zip(chosen, names, strict=True):
            try:
                looks.append(Look(kind=kind, name=name, critical=critical, snapshot=_ask(part, kind, method)))
            except Exception as error:  # it costs this part, and not the others
                looks.append(Look(kind=kind, name=name, critical=critical, error=error))
        return looks

    def renew_in_child(self) -> None:
        """Take a lock of its own in a forked child, where nobody would release the parent's."""
        self._lock = threading.RLock()

    def _name(self, parts: list[tuple[object, str]]) -> list[str]:
        """A name for each, the same as at the last look."""
        wanted = [_name_of(part, kind) for part, kind in parts]  # may run a part's own code: without the lock
        with self._lock:
            self._names = {key: entry for key, entry in self._names.items() if entry[0]() is not None}
            taken = {(_space(kind), name) for _, kind, name in self._names.values()}
            names = []
            for (part, kind), name in zip(parts, wanted, strict=True):
                known = self._names.get(id(part))
                if known is None or known[0]() is not part:
                    free = name
                    number = 2
                    while (_space(kind), free) in taken:
                        free, number = f"{name}#{number}", number + 1
                    known = (weakref.ref(part), kind, free)
                    self._names[id(part)] = known
                    taken.add((_space(kind), free))
                names.append(known[2])
            return names

    def _tell_full(self, count: int) -> None:
        with self._lock:
            told, self._told_full = self._told_full, True
        if not told:
            _log.warning("%s: %d parts, and only the first %d are looked at; does the bot make one for every order?",
                         self._where, count, MOST_PARTS)  # fmt: skip


def _space(kind: str) -> str:
    """Kinds whose names must differ: a pipeline tells of its journal and outbox under its own name."""
    return "pipeline" if kind in ("journal", "outbox") else kind


def _kind(part: object) -> tuple[str, str] | None:
    """The kind of a part and the method that gives its snapshot, or None."""
    for kind, marker, method in _KINDS:
        with contextlib.suppress(Exception):  # a property of somebody's own class
            if hasattr(part, marker) and callable(getattr(part, method, None)):
                return kind, method
    return None


def _expand(part: object, depth: int) -> Iterator[tuple[object, str, str]]:
    """A part and what it consists of, as far as it can be asked."""
    kind = _kind(part)
    if kind is not None and type(part).__weakrefoffset__:  # else it cannot be told from a later one in its place
        yield part, *kind
    if depth:
        try:
            within = tuple(getattr(part, "parts", ()))
        except Exception:  # somebody's own adapter
            _log.debug("parts of %s cannot be had", type(part).__name__, exc_info=True)
            within = ()
        for child in within:
            yield from _expand(child, depth - 1)


def _ask(part: Any, kind: str, method: str) -> Any:
    if kind == "pipeline":
        state = getattr(part, "state", "running")
        if state != "running":  # stats() would start it
            error = NotRunningError(f"pipeline: {state}")
            error.state = str(state)
            raise error
    return getattr(part, method)()


def _name_of(part: Any, kind: str) -> str:
    for path in (("name",), ("target",), ("group",), ("config", "name"), ("folder", "name")):
        found = part
        for step in path:
            found = getattr(found, step, None)
        if isinstance(found, str) and found:
            return clean(found, _NAME, one_line=True)
    return kind
