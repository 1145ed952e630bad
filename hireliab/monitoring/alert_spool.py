"""
Alerts that must not be lost, on disk until they are sent: `AlertSpool`.

A SQLite file in a folder that one process owns, and one thread that writes it. Whoever hands something over appends
it to a queue and may wait a moment for the commit; nothing here takes a lock that a signal handler could meet twice,
and nothing is raised for what the disk does. When it fails, the alerts go on in memory, new ones are not durable, and
what must be forgotten on disk is remembered until it can be.

Why not `core._sqlite.SQLiteFile`, on whose helpers this stands: that one refuses everything after a failed write,
which is right for a journal of orders. An alert had better be kept by half than not at all.

Decisions and their reasons
---------------------------
- WAL and synchronous=FULL: what `Ticket.wait` promises survives the process, and the machine.
- An alert is deleted when its last channel is settled, with the notification log in the same commit: a crash after a
  delivery repeats neither the one nor the other.
- A file that is damaged, of another program or of a newer version is renamed, never changed or deleted.
- The bounds are kept by deleting the lowest level first, oldest first, a few rows in each commit.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hireliab.core._sqlite_disk import is_full
from hireliab.core._threads import Starting, join_all
from hireliab.core.clock import SYSTEM_CLOCK, Clock
from hireliab.errors import JournalError
from hireliab.monitoring import _spool_folder, _spool_rows
from hireliab.monitoring._redaction import redact
from hireliab.monitoring._spool_file import FILE, TRY_AGAIN, SpoolFile, open_file, whole
from hireliab.monitoring._spool_rows import Notified, Size
from hireliab.monitoring.alert import Alert, alert_from_dict

__all__ = ["AlertSpool", "Notified", "SpoolStatus", "Ticket"]

_log = logging.getLogger("hireliab.alerts")

MAX_ROWS = 50_000
MAX_BYTES = 64 * 1024 * 1024
"""Of alerts in the file; beyond, the lowest level is evicted. Source: alerts-and-bus.md R9."""
REMEMBERED = 4 * 3600.0
"""Seconds for which the notification log keeps a trouble: the alert system's repeat interval."""
_BATCH = 64
"""Most operations in one commit: bounds the length of the log."""
_AT_A_TIME = 16
"""The same on a full disk."""
_WAITING = 5_000
"""Most operations in memory; beyond, new alerts are not durable."""
_DEBTS = 100_000
"""Most settled deliveries that are remembered while the disk does not take them."""
_ASK = 5.0
"""Seconds that a reader waits for the writer's thread."""
_PAGE = 200
_PATIENCE = 3
"""Attempts to read a page."""
_OWN_MISTAKES = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.InterfaceError)


class Ticket:
    """Something that was handed to the writer."""

    __slots__ = ("_clock", "_pending", "value", "written")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pending = threading.Lock()  # held until it is settled
        self._pending.acquire()
        self.written = False
        self.value: Any = None

    def wait(self, timeout: float) -> bool:
        """Whether it is on disk, at the latest after these seconds; 0 only looks."""
        if self._pending.locked() and self._clock.acquire(self._pending, timeout):
            self._settled()
        return self.written

    def settle(self, *, written: bool) -> None:
        """Tell whoever waits; by the writer, once."""
        self.written = written
        self._settled()

    def _settled(self) -> None:
        with contextlib.suppress(RuntimeError):  # another one who waited has let go of it
            self._pending.release()


@dataclass(frozen=True, kw_only=True)
class SpoolStatus:
    """
    A spool at one instant.

    Attributes:
        state: "closed", "open", "full" (the disk; it is tried again) or "broken" (so too; see `last_error`).
        rows: Alerts in the file.
        bytes: Their size.
        folder: Where the file is; None as long as it is closed.
        last_error: The last thing that went wrong, in words, or None.
        evicted: Alerts that were deleted because there were too many.
        not_durable: Alerts that could not be written.
        set_aside: Files that could not be read and were renamed.
    """

    state: str
    rows: int
    bytes: int
    folder: Path | None
    last_error: str | None
    evicted: int
    not_durable: int
    set_aside: int


@dataclass(slots=True)
class _Write:
    """One operation. A debt is done when the disk works again; the others are worth nothing later."""

    run: Callable[[sqlite3.Connection], Any]
    ticket: Ticket | None
    debt: bool = False
    alert: bool = False


class AlertSpool:
    """
    Unsent alerts on disk. Every method may be called from any thread, and from a signal handler; none raises.

    Args:
        folder: Made when it is missing. A second process that is given the same folder gets one of its own below it,
            whose alerts are sent by the next one that owns the folder itself.
    """

    def __init__(
        self, folder: Path, *, clock: Clock = SYSTEM_CLOCK, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._reset()
        _spools.add(self)

    def _reset(self) -> None:
        # There is no lock: one thread writes each of these, and a deque's ends are safe for everybody.
        self._queue: deque[_Write] = deque()
        self._bell = threading.Lock()  # held, except while the writer is to wake up
        self._bell.acquire()
        # Held by the writer while it is inside SQLite, whose own locks a child would find taken for ever; and by a fork.
        self._inside = threading.Lock()
        self._accepting = True
        self._closing = False
        self._thread: threading.Thread | None = None
        # From here on the writer thread's own after open(); figures are read by anybody.
        self._file = SpoolFile(self._folder, self._clock)
        self._debts: deque[_Write] = deque(maxlen=_DEBTS)
        self._pay_at = 0.0
        self._size = Size()
        self._old_until = 0
        self._told: list[Notified] = []
        self._evicted = self._not_durable = 0

    # -- opening and closing ------------------------------------------------------------------------------------

    def open(self) -> None:
        """
        Take the folder, open the file and start the writer. What does not work is in `status()`.

        The work does not grow with the file: it is counted, and its bounds are kept, on the writer's thread.
        """
        if self._thread is not None or self._closing:
            return
        file = self._file
        file.open()
        if file.connection is not None:
            with file.guarded():
                self._told = _spool_rows.notified(file.connection, since=self._clock.time() - REMEMBERED)
        self._thread = thread = Starting(self._run, name=f"hireliab.sqlite.alerts-{self._folder.name}")
        try:
            thread.start()
        except BaseException as error:
            if not thread.call_off():
                raise
            self._thread = None
            if not isinstance(error, RuntimeError):  # no more threads, or the interpreter is ending
                raise
            file.failed(f"{self._folder}: no thread could be started ({error})")
            self._accepting = False

    def close(self, timeout: float) -> bool:
        """Write what was handed over, and give the folder back; whether that was done within these seconds."""
        self._accepting = False
        self._closing = True
        self._ring()
        thread = self._thread
        if thread is None:
            self._file.close()
            return True
        return not join_all([thread], timeout=timeout, clock=self._clock)

    def after_fork(self) -> None:
        """In a forked child: begin anew, without a touch to what is the parent's."""
        self._file.forget_in_child()
        self._reset()

    # -- handing over -------------------------------------------------------------------------------------------

    def add(self, alert: Alert, channels: Sequence[str]) -> Ticket:
        """Keep an alert until each of these channels is settled."""
        names = tuple(channels)

        def run(connection: sqlite3.Connection) -> None:
            body = json.dumps(alert.to_dict(), ensure_ascii=False)
            if _spool_rows.add(connection, self._size, id=alert.id, level=int(alert.level), body=body, channels=names):
                self._evict(connection)

        return self._hand_over(_Write(run, Ticket(self._clock), alert=True))

    def settle(self, ids: Sequence[str], channel: str, notified: Notified | None = None) -> Ticket:
        """These alerts have reached the channel, or never will; `notified` is written in the same commit."""
        names = tuple(ids)

        def run(connection: sqlite3.Connection) -> None:
            _spool_rows.settle(connection, self._size, names, channel)
            if notified is not None:
                _spool_rows.note(connection, notified)

        return self._hand_over(_Write(run, Ticket(self._clock), debt=True))

    def note(self, notified: Notified) -> None:
        """Write the notification log."""
        self._hand_over(_Write(lambda connection: _spool_rows.note(connection, notified), None, debt=True))

    def forget(self, channel: str, fingerprint: str) -> None:
        """The trouble is over: the next one is new."""
        self._hand_over(
            _Write(lambda connection: _spool_rows.forget(connection, channel, fingerprint), None, debt=True)
        )

    def bury(self, alert: Alert, channel: str, reason: str) -> None:
        """Write an alert that no attempt will ever deliver into dead.jsonl, for a person to read."""
        line = {"channel": channel, "reason": redact(reason), "buried": self._clock.time(), "alert": alert.to_dict()}
        self._hand_over(_Write(lambda _connection: self._file.bury(line), None))

    def _hand_over(self, write: _Write) -> Ticket:
        ticket = write.ticket or Ticket(self._clock)
        if not self._accepting or (len(self._queue) >= _WAITING and not write.debt):
            self._not_durable += write.alert
            ticket.settle(written=False)
            return ticket
        self._queue.append(write)
        self._ring()
        return ticket

    def _ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # it rings already
            self._bell.release()

    # -- reading ------------------------------------------------------------------------------------------------

    def notified(self) -> list[Notified]:
        """The notification log as `open` found it, without what is older than 4 hours."""
        return list(self._told)

    def pending(self) -> Iterator[tuple[Alert, tuple[str, ...]]]:
        """What former processes left unsent, oldest first, each with the channels that wait for it."""
        after = failures = 0
        while self._accepting and failures < _PATIENCE:
            found = self._ask(self._page(after))
            if found is None:
                failures += 1
                continue
            if not found:
                return
            for sequence, body, channels in found:
                after = sequence
                alert = _read(body)
                if alert is None:
                    self._discard(sequence, body)
                elif channels:
                    yield alert, channels

    def _page(self, after: int) -> Callable[[sqlite3.Connection], Any]:
        return lambda connection: _spool_rows.batch(connection, after=after, until=self._old_until, most=_PAGE)

    def load(self, ids: Sequence[str]) -> dict[str, Alert] | None:
        """Alerts by id, those that are there; None when the file cannot be read now."""
        names = tuple(ids)
        found = self._ask(lambda connection: _spool_rows.load(connection, names))
        if found is None:
            return None
        alerts = {id_: _read(body, replayed=False) for id_, body in found.items()}
        return {id_: alert for id_, alert in alerts.items() if alert is not None}

    def status(self) -> SpoolStatus:
        """A snapshot."""
        file = self._file
        return SpoolStatus(
            state=file.state,
            rows=self._size.rows,
            bytes=self._size.bytes,
            folder=file.folder,
            last_error=file.last_error,
            evicted=self._evicted,
            not_durable=self._not_durable,
            set_aside=file.set_aside,
        )

    def _ask(self, run: Callable[[sqlite3.Connection], Any]) -> Any:
        """What the writer reads; None when it cannot, or not in time."""
        if self._thread is None:
            return None
        ticket = self._hand_over(_Write(run, Ticket(self._clock)))
        return ticket.value if ticket.wait(_ASK) else None

    def _discard(self, sequence: int, body: object) -> None:
        text = str(body)[:20_000]  # whatever it is: SQLite keeps any type in any column
        line: dict[str, object] = {"reason": "cannot be read, of another version of hireliab?", "body": text}

        def run(connection: sqlite3.Connection) -> None:
            self._file.bury(line)
            _spool_rows.discard(connection, self._size, sequence)

        self._hand_over(_Write(run, None))

    # -- the writer's thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with self._inside:
                self._begin()
        except Exception:  # this thread must not end: see _commit
            _log.exception("alert spool %s: bug: what was there before is not read", self._folder)
        while True:
            batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
            waiting = bool(self._debts) or self._file.state in ("full", "broken")
            if batch or (waiting and not self._closing and self._clock.monotonic() >= self._pay_at):
                self._commit(batch)
            elif self._closing:
                break
            elif self._too_much:  # an old file, larger than the bounds: a little of it between two batches
                self._commit([_Write(self._evict, None)])
            else:
                self._clock.acquire(self._bell, TRY_AGAIN if waiting else None)
        if self._debts:  # the last chance not to send them again
            self._file.try_now()
            self._commit([])
        with self._inside:
            self._file.close()

    def _begin(self) -> None:
        """What may take long with a large file, and what other processes left behind."""
        if self._file.connection is None:
            return
        with self._file.guarded():
            self._size = _spool_rows.measure(self._file.connection)
            self._take_over()
            self._old_until = _spool_rows.newest(self._file.connection)
        before = self._clock.time() - REMEMBERED
        self._commit_inside([_Write(lambda on: _spool_rows.drop_old(on, before=before), None)])

    @property
    def _too_much(self) -> bool:
        return self._file.state == "open" and (self._size.rows > self._max_rows or self._size.bytes > self._max_bytes)

    def _evict(self, connection: sqlite3.Connection) -> None:
        self._evicted += _spool_rows.evict(connection, self._size, rows=self._max_rows, bytes=self._max_bytes)

    def _commit(self, batch: list[_Write]) -> None:
        with self._inside:
            self._commit_inside(batch)

    def _commit_inside(self, batch: list[_Write]) -> None:
        try:
            self._write(batch)
        except Exception:
            # The thread must not end: alerts would be durable no more, and a restart would send old ones again.
            _log.exception("alert spool %s: bug: a batch was lost", self._folder)
            self._owe((), batch)

    def _write(self, batch: list[_Write]) -> None:
        debts = list(self._debts)
        self._debts.clear()
        file = self._file
        had = file.connection
        if not file.connected():
            self._owe(debts, batch)
            return
        if file.connection is not None and file.connection is not had:
            with file.guarded():
                self._size = _spool_rows.measure(file.connection)
        if not file.takes_more():
            self._pay(debts, batch)
            return
        try:
            self._transact([*debts, *batch])
        except sqlite3.Error as error:
            file.broke(error)
            if is_full(error):
                self._pay(debts, batch)
            else:
                self._owe(debts, batch)
        else:
            file.works()

    def _transact(self, writes: Sequence[_Write]) -> None:
        connection = self._file.connection
        if connection is None:
            raise sqlite3.OperationalError("the file is closed")
        size, evicted = Size(self._size.rows, self._size.bytes), self._evicted
        failed: list[tuple[_Write, Exception]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for write in writes:
                try:
                    value = write.run(connection)
                except Exception as error:
                    if isinstance(error, sqlite3.Error) and not isinstance(error, _OWN_MISTAKES):
                        raise  # the disk, not the operation
                    failed.append((write, error))
                else:
                    if write.ticket is not None:
                        write.ticket.value = value
            connection.execute("COMMIT")
        except BaseException:
            self._size, self._evicted = size, evicted
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise
        wrong = {id(write) for write, _ in failed}
        for write in writes:
            if write.ticket is not None:
                write.ticket.settle(written=id(write) not in wrong)
        for _, why in failed:
            _log.error("alert spool %s: an operation failed: %r", self._folder, why)

    def _pay(self, debts: Sequence[_Write], batch: Sequence[_Write]) -> None:
        """On a full disk: without the new alerts. What was sent must be forgotten, and reading takes no room."""
        rest = [*debts, *(write for write in batch if not write.alert)]
        while rest and self._fits(rest[:_AT_A_TIME]):
            del rest[:_AT_A_TIME]
        self._owe((), [*rest, *(write for write in batch if write.alert)])

    def _fits(self, writes: Sequence[_Write]) -> bool:
        for last in (False, True):
            try:
                self._transact(writes)
            except sqlite3.Error:
                if not last:
                    self._file.make_room()
            else:
                return True
        return False

    def _owe(self, debts: Sequence[_Write], batch: Sequence[_Write]) -> None:
        """Nothing was written: remember what must be, and tell the others."""
        for write in batch:
            self._not_durable += write.alert
            if write.ticket is not None:
                write.ticket.settle(written=False)
        owed = [write for write in (*debts, *batch) if write.debt]
        for write in owed:
            write.ticket = None
        self._debts.extend(owed)
        self._pay_at = self._clock.monotonic() + TRY_AGAIN

    # -- what other processes left ------------------------------------------------------------------------------

    def _take_over(self) -> None:
        """The spools of processes that had a folder below this one, and are gone."""
        file = self._file
        if file.folder != self._folder:
            return
        for left in _spool_folder.abandoned(self._folder):
            path = left.folder / FILE
            try:
                if path.exists():
                    self._take_over_file(path)
            except (sqlite3.Error, JournalError, OSError) as error:
                file.failed(f"{path}: cannot be taken over ({error})", file.state)
            finally:
                left.release()

    def _take_over_file(self, path: Path) -> None:
        other = open_file(path)
        try:
            self._transact([_Write(lambda connection: _spool_rows.copy(other, connection, self._size), None)])
        finally:
            other.close()
        for name in whole(path):
            with contextlib.suppress(FileNotFoundError):
                name.unlink()


_spools: weakref.WeakSet[AlertSpool] = weakref.WeakSet()
_held = threading.local()
"""The locks of the spools that a fork of this thread, which is under way, keeps out of SQLite."""
_FORK_WAITS = 1.0
"""Seconds for which a fork waits for a commit; a disk that hangs must not hang the program."""


def _before_fork() -> None:
    gates = [spool._inside for spool in list(_spools)]
    _held.gates = [gate for gate in gates if SYSTEM_CLOCK.acquire(gate, _FORK_WAITS)]


def _after_fork() -> None:
    gates = getattr(_held, "gates", [])
    while gates:
        gates.pop().release()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


def _read(body: str, *, replayed: bool = True) -> Alert | None:
    try:
        given = json.loads(body)
        given["replayed"] = replayed or bool(given.get("replayed"))
        return alert_from_dict(given)
    except Exception:  # also RecursionError and OverflowError: one bad row must not keep the others
        return None
