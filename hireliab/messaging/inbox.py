"""
Inbox: at-least-once made once, by remembering what was handled.

    inbox = Inbox("state/accounting", group="accounting")
    bus.subscribe("transaction.#", inbox.once(handler), group="accounting")

A bus may deliver a message again: after a lost acknowledgement, a crash, or a second publish under the same id. The
inbox lets the first one through and acknowledges the others.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from hireliab.core import config as checks
from hireliab.core._file_lock import FileLock
from hireliab.core._sqlite import SOFT, SQLiteFile
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import BusError, ClosedError, ConfigError, JournalError
from hireliab.messaging import _inbox_rows as rows
from hireliab.messaging._inbox_owner import Owner
from hireliab.messaging._inbox_rows import Answer, Key
from hireliab.messaging.bus import Handler, Message, Reject

T = TypeVar("T")

_log = logging.getLogger("hireliab.inbox")

WEEK = 7 * 86400.0
APPLICATION_ID = 0x48524C49
"""The letters HRLI, in the header of the file."""
PRUNED = 500
"""Rows that are forgotten in one commit."""
PRUNE_INTERVAL = 3600.0
PRUNE_EVERY = 256
"""Messages in a user's database between two prunings of it."""
LOOK, LOOK_MOST = 0.01, 0.5
"""Seconds between two looks at a message that another process handles: the first, and the most."""


@dataclass(frozen=True, kw_only=True)
class InboxStats:
    """
    What became of the deliveries since the start.

    Attributes:
        handled: Handled, and remembered.
        duplicates: Let go, because they were handled before.
        failed: The handler raised, so that they may be handled again.
        conflicts: Refused, because their id belongs to a message with another body.
        old: Refused, because they are older than what is remembered.
        taken_over: Claims of dead processes among the handled and failed.
        held: Given back to the bus, because somebody else went on handling them.
    """

    handled: int
    duplicates: int
    failed: int
    conflicts: int
    old: int
    taken_over: int
    held: int


class Inbox:
    """
    Remembers which messages a group of consumers has handled, by their source and id.

    Guarantees: no two threads or processes that share the file handle one message at the same time, and none handles
    one again that was handled within `keep`. A handler that raises gives its message back; one whose process dies has it
    taken over. The file is on disk before the message is acknowledged. Between the handler's own effects and that
    moment a crash makes the handler run again: where the effects are rows of a SQLite database, pass `connect` to `once`,
    and both are one transaction.

    Args:
        path: The file, or an existing folder, in which it is ``inbox.db``; several processes may share it. None: only
            `once` with `connect`, and `is_first`.
        group: Whose deliveries these are: the subscription's group. Each group sees each message once.
        keep: Seconds for which a message is remembered. One that was published longer ago and is not remembered is
            rejected to the dead letters, because it may have been handled: see `force`.
        patience: Seconds that a delivery waits for another that is being handled, before it goes back to the bus.

    Thread safety: any thread. Context manager: open and close.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        group: str,
        keep: float = WEEK,
        patience: float = 30.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.group = checks.text("group", group)
        self._keep = checks.number("keep", keep, above=0, high=3650 * 86400.0)
        self._patience = checks.number("patience", patience, low=0, high=86400.0)
        self._clock = clock
        self._path = None if path is None else Path(path)
        if self._path is not None and self._path.is_dir():
            self._path = self._path / "inbox.db"
        self._pid = os.getpid()
        # guards everything down to the blank line; notified when a message is not being handled any more
        self._changed = threading.Condition()
        self._phase = "new"
        self._active: set[Key] = set()  # being handled in this object
        self._counts: Counter[str] = Counter()
        self._since_pruned = 0

        self._file: SQLiteFile | None = None
        self._owner: Owner | None = None

    # -- life -----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """
        Open or make the file; the first use does it otherwise.

        Raises:
            BusError: The file cannot be used.
            ClosedError: After close(), or in a forked child.
        """
        self._check_process()
        path = self._path
        if path is None:
            raise ConfigError("inbox: it has no file; give a path, or pass connect= to once()", setting="path")
        ours = False
        try:
            with self._changed:
                self._clock.wait_for(self._changed, lambda: self._phase != "opening", None)
                if self._phase == "open":
                    return
                if self._phase == "closed":
                    raise ClosedError(f"inbox {path}: closed; make a new one")
                self._phase, ours = "opening", True
            self._open(path)
        finally:
            if ours:
                with self._changed:
                    self._phase = "new" if self._file is None else "open"
                    self._changed.notify_all()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ClosedError(f"inbox {self.group}: belongs to process {self._pid}; make a new one after a fork")

    def _open(self, path: Path) -> None:
        with _as_bus_error(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            guard = FileLock(path.with_name(f"{path.name}.lock"), poll=0.001)
            owner = Owner(path.with_name(f"{path.name}.owners"))
            with guard:
                owner.begin()
            file = SQLiteFile(
                path,
                what=f"inbox-{self.group}",
                application_id=APPLICATION_ID,
                schema=(rows.TABLE,),
                idle=self._prune,
                guard=guard,
                clock=self._clock,
            )
            try:
                file.open()
            except BaseException:
                owner.end()
                raise
            self._owner, self._file = owner, file

    def close(self, timeout: float = 5.0) -> bool:
        """
        Let go of the file; idempotent. Stop the bus first.

        Waits at most `timeout` seconds for handlers that still run. Whose handler goes on keeps its claim, and the file,
        until this process ends: nobody else may handle that message meanwhile.

        Returns:
            Whether the file is closed.
        """
        if os.getpid() != self._pid:
            return False
        with self._changed:
            self._clock.wait_for(self._changed, lambda: self._phase != "opening", None)
            self._phase = "closed"
            idle = self._clock.wait_for(self._changed, lambda: not self._active, timeout)
        file, owner = self._file, self._owner
        if not idle:
            _log.warning("inbox %s: closed while messages are being handled; they keep their claims", self._path)
            return False
        if file is not None and not file.close():
            return False
        if owner is not None:
            owner.end()
        return True

    def __enter__(self) -> Inbox:
        if self._path is not None:
            self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Inbox {self.group} {self._path or 'in the database of its user'}>"

    def stats(self) -> InboxStats:
        """What became of the deliveries."""
        names = ("handled", "duplicates", "failed", "conflicts", "old", "taken_over", "held")
        with self._changed:
            return InboxStats(**{name: self._counts[name] for name in names})

    # -- the wrapper ----------------------------------------------------------------------------------------------

    def once(
        self,
        handler: Callable[..., object],
        *,
        connect: Callable[[], sqlite3.Connection] | None = None,
        force: bool = False,
    ) -> Handler:
        """
        A handler that handles each message once.

        Args:
            handler: Called with the message; with `connect` also with the connection.
            connect: Gives a connection of the user's database that no other thread uses meanwhile and that has no open
                transaction. What the handler writes through it and the memory of the message are one transaction, which
                is committed here: whatever happens, both are there or none. The handler neither commits nor rolls back.
            force: Handle also messages that are older than what is remembered, as for a replay of dead letters that
                surely were not handled.

        Returns:
            For `subscribe`. It returns None for a message that was handled before, and raises `Reject` for one that is
            too old or whose id belongs to another body, BusError when somebody else goes on handling it or the file
            cannot be used, and whatever the handler raises.
        """
        checks.blocking_function(f"inbox {self.group}", handler)  # the bus sees only the wrapper
        if connect is None and self._path is None:
            raise ConfigError("inbox: it has no file; give a path, or pass connect= to once()", setting="path")

        def handle(message: Message) -> object:
            self._check_process()
            if connect is not None:
                return self._within(connect(), message, handler, force=force)
            return self._beside(message, handler, force=force)

        with contextlib.suppress(AttributeError, TypeError):
            functools.update_wrapper(handle, handler)
        return handle

    def is_first(self, message: Message, connection: sqlite3.Connection, *, force: bool = False) -> bool:
        """
        Whether the message was not handled before, asked within a transaction of your own.

        When it is True, the message counts as handled as soon as you commit, and never when you roll back.

        Raises:
            Reject: It is too old, or its id belongs to another body; see `once`.
        """
        rows.make_table(connection)
        now = self._clock.time()
        answer, _ = rows.claim(
            connection,
            rows.key_of(self.group, message),
            rows.digest_of(message),
            owner=None,
            until=rows.until_of(message, now, self._keep),
            old=not force and rows.is_old(message, now, self._keep),
        )
        self._refuse(answer, message)
        if answer is not Answer.FIRST:
            self._count("duplicates")
        return answer is Answer.FIRST

    # -- in the user's database -----------------------------------------------------------------------------------

    def _within(
        self, connection: sqlite3.Connection, message: Message, handler: Callable[..., object], *, force: bool
    ) -> object:
        # From Python 3.12 on a connection may always be in a transaction; otherwise an open one is somebody else's.
        always = getattr(connection, "autocommit", None) is False
        if connection.in_transaction and not always:
            raise ConfigError(
                "inbox: the connection is in a transaction already; give each thread its own", setting="connect"
            )
        try:
            if not connection.in_transaction:
                connection.execute("BEGIN IMMEDIATE")
            result = None
            if self.is_first(message, connection, force=force):
                result = handler(message, connection)
                self._count("handled")
            if self._prune_is_due():
                rows.prune(connection, self._clock.time(), PRUNED)
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        return result

    def _prune_is_due(self) -> bool:
        with self._changed:
            self._since_pruned = (self._since_pruned + 1) % PRUNE_EVERY
            return self._since_pruned == 0

    # -- in a file of its own -------------------------------------------------------------------------------------

    def _beside(self, message: Message, handler: Callable[..., object], *, force: bool) -> object:
        self.open()
        key, digest = rows.key_of(self.group, message), rows.digest_of(message)
        answer = self._claim(key, digest, message, force=force)
        if answer is Answer.DONE:
            self._count("duplicates")
            return None
        self._refuse(answer, message)
        try:
            try:
                result = handler(message)
            except BaseException:
                self._count("failed")
                self._release(key)
                raise
            until = rows.until_of(message, self._clock.time(), self._keep)
            self._write(lambda db: rows.done(db, key, digest, until))
            self._count("handled")
            return result
        finally:
            self._leave(key)

    def _claim(self, key: Key, digest: str, message: Message, *, force: bool) -> Answer:
        """Claim it, waiting for whoever handles it now; after FIRST it is in `_active`."""
        give_up = self._clock.monotonic() + self._patience
        pause = LOOK
        while True:
            with self._changed:
                left = max(0.0, give_up - self._clock.monotonic())
                if not self._clock.wait_for(self._changed, lambda: key not in self._active, left):
                    raise self._is_held(key)
                self._active.add(key)
            answer = Answer.HELD
            try:
                answer = self._ask(key, digest, message, force=force)
            finally:
                if answer is not Answer.FIRST:
                    self._leave(key)
            if answer is not Answer.HELD:
                return answer
            with self._changed:
                left = give_up - self._clock.monotonic()
                if left <= 0:
                    raise self._is_held(key)
                self._clock.wait_for(self._changed, lambda: False, min(pause, left))
            pause = min(LOOK_MOST, 2 * pause)

    def _ask(self, key: Key, digest: str, message: Message, *, force: bool) -> Answer:
        owner = self._owner
        assert owner is not None, "bug: it is open"
        now = self._clock.time()
        until, old = rows.until_of(message, now, self._keep), not force and rows.is_old(message, now, self._keep)
        # A claim must be seen by others now, and not after power loss: then it would be a dead process's.
        answer, holder = self._write(
            lambda db: rows.claim(db, key, digest, owner=owner.name, until=until, old=old), mark=SOFT
        )
        # Nobody else in this object has it, so a claim of our own name was left by a release that failed.
        free = answer is Answer.HELD and (holder == owner.name or owner.is_dead(holder))
        if free and self._write(lambda db: rows.take_over(db, key, owner=owner.name, dead=holder)):
            self._count("taken_over")
            return Answer.FIRST
        return answer

    def _release(self, key: Key) -> None:
        owner, file = self._owner, self._file
        assert owner is not None, "bug: it is open"
        assert file is not None, "bug: it is open"
        name = owner.name
        # Nobody waits: what is lost in a crash is a claim of a dead process.
        with contextlib.suppress(JournalError, ClosedError):
            file.post(lambda db: rows.release(db, key, name), what=f"release of message {key.id}")

    def _leave(self, key: Key) -> None:
        with self._changed:
            self._active.discard(key)
            self._changed.notify_all()

    def _is_held(self, key: Key) -> BusError:
        self._count("held")
        return BusError(
            f"inbox {self._path}: message {key.id} is being handled elsewhere for more than {self._patience:g} s; it is"
            " delivered again later"
        )

    def _write(self, operation: Callable[[sqlite3.Connection], T], mark: str = "") -> T:
        assert self._file is not None, "bug: it is open"
        with _as_bus_error(self._path):
            return self._file.submit(operation, mark=mark).result()

    def _prune(self, db: sqlite3.Connection) -> float:
        return 0.0 if rows.prune(db, self._clock.time(), PRUNED) == PRUNED else PRUNE_INTERVAL

    # -- both -----------------------------------------------------------------------------------------------------

    def _refuse(self, answer: Answer, message: Message) -> None:
        if answer is Answer.CONFLICT:
            self._count("conflicts")
            _log.error("inbox %s: message %s came with another body than before", self.group, message.id)
            raise Reject(
                f"inbox {self.group}: id {message.id} of {message.source} belongs to a message with another body"
            )
        if answer is Answer.OLD:
            self._count("old")
            days = self._keep / 86400.0
            raise Reject(
                f"inbox {self.group}: message {message.id} is older than the {days:g} days that are remembered, so it may"
                " have been handled; replay it with force=True if it was not"
            )

    def _count(self, name: str) -> None:
        with self._changed:
            self._counts[name] += 1


@contextlib.contextmanager
def _as_bus_error(path: Any) -> Iterator[None]:
    try:
        yield
    except (JournalError, OSError, NotImplementedError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise BusError(f"inbox {path}: cannot be used ({why})") from error
