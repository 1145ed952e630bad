"""Small breakages of the journal and its writer; each must be caught by a unit or contract test."""

TESTS = ["tests/unit/core/test_sqlite.py", "tests/contract/test_journal.py"]

_SQLITE = "hireliab/core/_sqlite.py"
_DISK = "hireliab/core/_sqlite_disk.py"
_OPEN = "hireliab/core/_sqlite_open.py"
_READERS = "hireliab/core/_sqlite_readers.py"
_WRITE = "hireliab/core/_sqlite_write.py"
_JOURNAL = "hireliab/exchange/sqlite_journal.py"
_ROWS = "hireliab/exchange/_journal_rows.py"
_RETENTION = "hireliab/exchange/_journal_retention.py"
_READER = "hireliab/exchange/_journal_reader.py"

MUTANTS = [
    (
        "a failed commit is tried again",
        _SQLITE,
        "            first = self._poison is None\n            self._poison = self._poison or error",
        "            first = self._poison is None\n            self._poison = None",
    ),
    (
        "an unforeseen error leaves the queue waiting",
        _SQLITE,
        "left = [*self._batch, *self._queue]",
        "left = [*self._batch]",
    ),
    (
        "an unforeseen error leaves the batch waiting",
        _SQLITE,
        "left = [*self._batch, *self._queue]",
        "left = [*self._queue]",
    ),
    (
        "an unforeseen error ends the writer without a word",
        _SQLITE,
        "            self._poison = self._poison or error\n            self._busy = False\n",
        "            self._busy = False\n",
    ),
    (
        "a signal handler writes in the middle of a write",
        _SQLITE,
        "                if self._inside:\n",
        "                if False:\n",
    ),
    (
        "a child's close waits for the parent's lock",
        _SQLITE,
        "fork\n            return True\n",
        "fork\n            pass\n",
    ),
    (
        "a file without a thread stays open",
        _SQLITE,
        "            self._end(opened.connection)\n            raise JournalError",
        "            raise JournalError",
    ),
    (
        "a callback that raises ends the writer",
        _WRITE,
        "            except (Exception, SystemExit):",
        "            except ZeroDivisionError:",
    ),
    (
        "one bad operation undoes its neighbours",
        _WRITE,
        '        connection.execute("ROLLBACK TO operation")',
        '        connection.execute("ROLLBACK")',
    ),
    ("half an operation stays", _WRITE, '        connection.execute("ROLLBACK TO operation")\n', ""),
    ("durability is off", _SQLITE, '("synchronous", 2)', '("synchronous", 0)'),
    (
        "a write that nobody waits for is a commit of its own",
        _SQLITE,
        "ring = self._sleeping >= (_LINGERING if urgent else _ASLEEP)\n"
        "                    self._urgent = self._urgent or urgent",
        "ring = True\n                    self._urgent = True",
    ),
    (
        "a write that nobody waits for stays in memory",
        _SQLITE,
        "if self._queue and (self._urgent or lingered or self._closing):",
        "if self._queue and (self._urgent or self._closing):",
    ),
    (
        "what is queued is dropped when the file closes",
        _SQLITE,
        "                if self._queue and (self._urgent or lingered or self._closing):",
        "                if self._closing:\n                    return None\n"
        "                if self._queue and (self._urgent or lingered or self._closing):",
    ),
    (
        "a busy writer is taken for idle",
        _SQLITE,
        "                    self._busy = True\n                    self._quiet = 0\n",
        "                    self._busy = True\n",
    ),
    ("flush does not wait", _SQLITE, "        if pending:\n            self.write(lambda _: None)", "        pass"),
    ("a full disk takes intents", _SQLITE, "            if write.mark == INTENT:", "            if False:"),
    ("a full disk poisons at once", _SQLITE, "                if not is_full(error):\n", "                if True:\n"),
    (
        "a failed sync is taken for a full disk",
        _DISK,
        "    return code & 0xFF == _FULL or code == _SHMSIZE",
        "    return code & 0xFF == _FULL or code & 0xFF == 10",
    ),
    (
        "the ballast stays where it is needed",
        _SQLITE,
        "        self._ballast.release()\n        _log.critical",
        "        _log.critical",
    ),
    ("a disk that was full stays full", _SQLITE, "                    self._full = False\n", ""),
    ("the disk is asked for every intent", _SQLITE, "if now - self._space_checked >= _SPACE_CHECK:", "if True:"),
    (
        "the log is never copied",
        _SQLITE,
        "        if length.exceeds(max(self._checkpoint_at, CHECKPOINT_BYTES)):",
        "        if False:",
    ),
    ("a log is as long as its file", _DISK, "frame[8:16] == header[16:24]", "True"),
    (
        "a poisoned log is copied at the end",
        _SQLITE,
        "            if self._poison is not None:\n                # Nothing",
        "            if False:\n                # Nothing",
    ),
    ("readers stay open", _READERS, "        for connection in idle:\n            connection.close()\n", ""),
    (
        "a reader is opened for every question",
        _READERS,
        "keep = sound and not self._closed and len(self._idle) < KEPT",
        "keep = False",
    ),
    (
        "a foreign file is taken",
        _OPEN,
        "        if owner != application_id and (owner != 0 or tables != 0):",
        "        if False:",
    ),
    ("a damaged file is taken", _OPEN, "    if problems:\n", "    if False:\n"),
    ("a newer schema is taken", _OPEN, "        if version > newest:", "        if False:"),
    ("a migration is not one transaction", _OPEN, '    connection.execute("BEGIN IMMEDIATE")\n', ""),
    ("a network file system is taken", _SQLITE, "        if kind is not None:\n", "        if False:\n"),
    ("a part of a name is a mount point", _DISK, 'path.startswith(point.rstrip("/") + "/")', "path.startswith(point)"),
    ("an old version is written over a newer one", _ROWS, "WHERE version < excluded.version AND epoch", "WHERE epoch"),
    ("a stale epoch is written", _ROWS, " AND epoch <= excluded.epoch", ""),
    (
        "many records are not one commit",
        _JOURNAL,
        "            self._db.submit(operation, then=then).result()",
        "            self._db.submit(operation, atomic=True, then=then).result()",
    ),
    (
        "relaxed intents do not wait",
        _JOURNAL,
        "        elif barrier and record.state in _INTENTS:",
        "        elif self._relaxed:\n            barrier = False\n        elif barrier and record.state in _INTENTS:",
    ),
    (
        "relaxed verdicts wait",
        _JOURNAL,
        "                barrier, then = False, partial(self._written, record, then)",
        "                then = partial(self._written, record, then)",
    ),
    (
        "a relaxed failure keeps its key",
        _JOURNAL,
        "if self._relaxed and (record.state is not State.FAILED or record.idempotency_key is not None):",
        "if self._relaxed:",
    ),
    (
        "a relaxed verdict is not found before it is written",
        _JOURNAL,
        "        if not self._relaxed:\n            return None\n        by_order",
        "        return None\n        by_order",
    ),
    (
        "the watermark is written once",
        _JOURNAL,
        "        self._watermark_waits = False\n        db.execute",
        "        db.execute",
    ),
    (
        "facts are found by a pattern",
        "hireliab/exchange/_journal_reads.py",
        'WHERE substr(key, 1, ?) = ?", (len(beginning), beginning))',
        'WHERE key LIKE ?", (beginning + "%",))',
    ),
    ("what is watched is deleted", _RETENTION, '    " AND watch_until IS NULL"\n', ""),
    (
        "resting orders are deleted",
        _RETENTION,
        "    \" AND NOT (kind = 'ORDER' AND state = 'COMPLETED' AND order_status IN ('Active', 'Inactive'))\"\n",
        "",
    ),
    ("a child loses its parent", _RETENTION, "AND child.state NOT IN {_TERMINAL})", "AND 0)"),
    ("unpublished events are deleted", _RETENTION, "_PUBLISHED if self.has_outbox else _FINISHED", "_FINISHED"),
    (
        "events wait for an outbox that is not there",
        _RETENTION,
        "_PUBLISHED if self.has_outbox else _FINISHED",
        "_PUBLISHED",
    ),
    (
        "a clock that jumped deletes",
        _RETENTION,
        "min(self._clock.time(), newest[0] if newest else 0.0)",
        "self._clock.time()",
    ),
    ("the log of a deleted transaction stays", _RETENTION, '    "DELETE FROM txn_log WHERE txn_id = ?1",\n', ""),
    (
        "the events of a deleted transaction stay",
        _RETENTION,
        "    \"DELETE FROM event WHERE event_id > ?1 || ':' AND event_id < ?1 || ';'\",\n",
        "",
    ),
    ("a record is written without its event", _JOURNAL, "        db.execute(INSERT_EVENT, event)", "        pass"),
    ("a seq is used again", _ROWS, "PRIMARY KEY AUTOINCREMENT", "PRIMARY KEY"),
    ("marks are not kept", _JOURNAL, "db.executemany(MARK_PUBLISHED, rows)", "None"),
    (
        "an outbox hears of an event that was refused",
        "hireliab/core/_sqlite_write.py",
        "if self.then is not None and self.error is None:",
        "if self.then is not None:",
    ),
    (
        "an outbox hears of an event before it is there",
        _JOURNAL,
        "        told = None if event is None else to_event_row(event)\n",
        "        told = None if event is None else to_event_row(event)\n        if told and self._wake:\n            self._wake()\n",
    ),
    (
        "a reader trusts a file that changed",
        _READER,
        "            if self._still is None or self._still == self._look():",
        "            if True:",
    ),
]
