"""Breakages of the alert spool that a test must notice."""

_SPOOL = "hireliab/monitoring/alert_spool.py"
_FILE = "hireliab/monitoring/_spool_file.py"
_ROWS = "hireliab/monitoring/_spool_rows.py"
_FOLDER = "hireliab/monitoring/_spool_folder.py"

TESTS = ["tests/unit/monitoring/test_alert_spool.py"]

MUTANTS = [
    ("bytes are characters", _ROWS, 'length = len(body.encode("utf-8", "surrogatepass"))', "length = len(body)"),
    ("an alert is forgotten when its first channel has it", _ROWS, 'if connection.execute("SELECT 1 FROM deliveries WHERE alert = ? LIMIT 1", (row[0],)).fetchone() is None:', "if True:"),
    ("a delivery is not forgotten", _ROWS, 'connection.execute("DELETE FROM deliveries WHERE alert = ? AND channel = ?", (row[0], channel))', "pass"),
    ("what was told is not written with the delivery", _SPOOL, "            if notified is not None:\n                _spool_rows.note(connection, notified)\n", ""),
    ("a restart does not mark what it sends late", _SPOOL, 'given["replayed"] = replayed or', 'given["replayed"] ='),
    ("this process's alerts are given as a former one's", _SPOOL, "self._old_until = _spool_rows.newest(self._file.connection)", "self._old_until = 10**9"),
    ("numbers are used again", _ROWS, "seq INTEGER PRIMARY KEY AUTOINCREMENT", "seq INTEGER PRIMARY KEY"),
    ("the highest level is evicted", _ROWS, "ORDER BY level, seq LIMIT 1", "ORDER BY level DESC, seq LIMIT 1"),
    ("the newest is evicted", _ROWS, "ORDER BY level, seq LIMIT 1", "ORDER BY level, seq DESC LIMIT 1"),
    ("bytes have no bound", _ROWS, "size.rows > rows or size.bytes > bytes", "size.rows > rows"),
    ("an old spool is not brought to its bounds", _SPOOL, "            elif self._too_much:", "            elif False:"),
    ("a whole spool is evicted at once", _ROWS, "and evicted < EVICTED_AT_ONCE", "and evicted < 10**9"),
    ("memory has no bound", _SPOOL, "len(self._queue) >= _WAITING", "False"),
    ("settled deliveries are refused when memory is full", _SPOOL, "len(self._queue) >= _WAITING and not write.debt", "len(self._queue) >= _WAITING"),
    ("a ticket is good before the commit", _SPOOL, '                    if write.ticket is not None:\n                        write.ticket.value = value\n            connection.execute("COMMIT")', '                    if write.ticket is not None:\n                        write.ticket.value = value\n                        write.ticket.settle(written=True)\n            connection.execute("COMMIT")'),
    ("what was settled on a broken disk is forgotten", _SPOOL, "        self._debts.extend(owed)\n", ""),
    ("a full disk takes no deletions", _SPOOL, "            if is_full(error):\n                self._pay(debts, batch)\n            else:\n                self._owe(debts, batch)", "            self._owe(debts, batch)"),
    ("the ballast is kept on a full disk", _FILE, "        self._ballast(self._claim.folder).release()\n", ""),
    ("a full disk is tried with every alert", _FILE, "        if now < self._look_at:\n            return False\n", ""),
    ("counts go wrong when a commit fails", _SPOOL, "            self._size, self._evicted = size, evicted\n", ""),
    ("a broken file is not opened again", _FILE, "            self._reopen(self._claim.folder)\n        return self.connection is not None", "            pass\n        return self.connection is not None"),
    ("a deleted file is written on", _FILE, "if self._identity == _identity(self._claim.folder / FILE):", "if True:"),
    ("a file of a newer version is written", _FILE, "if version > len(_spool_rows.SCHEMA):", "if False:"),
    ("a file of another program is written", _FILE, "if owner != _spool_rows.APPLICATION_ID and (owner or tables):", "if False:"),
    ("a damaged file stays in the way", _FILE, "if isinstance(meant, JournalCorruptError) and self._put_aside(folder / FILE):", "if False:"),
    ("unreadable files pile up", _FILE, "[:-MAX_ASIDE]", "[:0]"),
    ("a second process takes the same folder", _FOLDER, "    except filelock.Timeout:\n        return None\n", "    except filelock.Timeout:\n        pass\n"),
    ("what a second process left is not taken over", _SPOOL, "            self._take_over()\n", ""),
    ("a taken over file stays and is taken over again", _SPOOL, "                name.unlink()\n", "                pass\n"),
    ("the notification log is for ever", _SPOOL, "_spool_rows.notified(file.connection, since=self._clock.time() - REMEMBERED)", "_spool_rows.notified(file.connection, since=0.0)"),
    ("an unreadable row is kept", _SPOOL, "            _spool_rows.discard(connection, self._size, sequence)\n", ""),
    ("pending reads one page", _SPOOL, "        while self._accepting and failures < _PATIENCE:\n            found", "        for _ in range(1):\n            found"),
    ("dead letters show secrets", _SPOOL, '"reason": redact(reason)', '"reason": reason'),
    ("dead letters grow for ever", _FILE, "if path.stat().st_size > MAX_DEAD:", "if False:"),
    ("a fork does not wait for the writer", _SPOOL, "    _held.gates = [gate", "    _held.gates = [] and [gate"),
    ("close does not wait for what was handed over", _SPOOL, "            elif self._closing:\n                break\n", "            if self._closing:\n                break\n"),
]  # fmt: skip
