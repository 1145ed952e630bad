"""Breakages of the operator's files and command line that their tests must notice: (name, file, text once, replacement)."""

_HALT = "hireliab/exchange/_halt.py"
_FILE = "hireliab/exchange/_operator.py"
_CLIENT = "hireliab/exchange/_operator_client.py"
_OFFLINE = "hireliab/exchange/_operator_offline.py"
_DESK = "hireliab/exchange/_operator_desk.py"
_CLI = "hireliab/cli.py"
_TABLE = "hireliab/_cli_table.py"
_TRANSACTIONS = "hireliab/_cli_transactions.py"
_JOURNAL = "hireliab/_cli_journal.py"

TESTS = ["tests/unit/exchange/test_halt.py", "tests/unit/exchange/test_operator.py", "tests/unit/test_cli.py"]

MUTANTS = [
    ("an unknown word does not halt", _HALT, '        mode=mode if known else "HALTED",\n', '        mode=mode if known else "REDUCING",\n'),
    ("an unreadable halt is none", _HALT, '    except OSError as error:\n        return Halt(mode="HALTED", reason=f"{NAME} cannot be read: {error.strerror}", who="", since=None)\n    try:', "    except OSError:\n        return None\n    try:"),
    ("a pipe stops the bot", _HALT, 'getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)', 'getattr(os, "O_CLOEXEC", 0)'),
    ("the halt is not on disk", _HALT, "                os.fsync(file.fileno())\n", ""),
    ("two halts share a file", _HALT, 'f"{NAME}.{os.getpid()}-{threading.get_ident()}.tmp"', 'f"{NAME}.tmp"'),
    ("a command is done before it is claimed", _FILE, '            (self._commands / f"{name}.json").rename(running)\n', "            os.link(self._commands / f\"{name}.json\", running)\n"),
    ("the interrupted are forgotten", _FILE, "            self._answer_interrupted(names)\n", ""),
    ("an answer is written over", _FILE, '            if f"{name}.answer.json" in names:', "            if False:"),
    ("old commands are done", _FILE, "        if not abs(age) <= MOST_AGE:\n", "        if False:\n"),
    ("others may command", _FILE, "    if stat.S_IMODE(found.st_mode) & 0o022:\n", "    if False:\n"),
    ("another user may command", _FILE, "    if found.st_uid != os.geteuid():\n", "    if False:\n"),
    ("links are followed", _FILE, 'os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)', 'os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)'),
    ("large files are read", _FILE, "        if len(raw) > MOST_BYTES:\n", "        if False:\n"),
    ("a failing handler ends the thread's step", _FILE, "        except Exception as error:\n            _log.exception(\"operator: %s %s failed\", command, name)\n", "        except ArithmeticError as error:\n            _log.exception(\"operator: %s %s failed\", command, name)\n"),
    ("an answer is lost with a full disk", _FILE, "        self._unwritten[name] = answer\n", ""),
    ("later is now", _FILE, "            elif outcome is None and again:\n", "            elif False:\n"),
    ("a stop answers nothing", _FILE, '        self._guarded("commands", self._end)\n', ""),
    ("answers stay for ever", _FILE, "                if now - os.lstat(self._commands / file).st_mtime > KEPT:\n", "                if False:\n"),
    ("the status is written once", _FILE, "        if content == self._written and now - self._written_at < STATUS_EVERY:\n", "        if self._written is not None:\n"),
    ("a command that nobody took stays", _CLIENT, "    if _withdraw(file):\n", "    if not file.exists():\n"),
    ("a cancel waits in the resolver", _DESK, '    start_thread(run, name=f"hireliab.txn.operator-{name}")\n', "    run()\n"),
    ("a sweep waits in the resolver", _DESK, 'return _apart("sweep", look)', "return look()"),
    ("offline, what is decided is decided again", _OFFLINE, "    State.UNKNOWN: (),\n", "    State.UNKNOWN: (),\n    State.FAILED: (),\n"),
    ("offline, more than all may be filled", _OFFLINE, "(word <= money.ZERO or money.ZERO < most < word)", "word <= money.ZERO"),
    ("offline, the log does not say so", _OFFLINE, "says {who}, not read at the exchange: {evidence}", "says {who}: {evidence}"),
    ("a damaged journal is fine", _JOURNAL, "    if problems:\n        sys.exit(BAD)\n", ""),
    ("a missing bot is asked", _TRANSACTIONS, "    if not _operator_client.is_owned(place.folder):\n", "    if False:\n"),
    ("a refusal is fine", _TRANSACTIONS, '    if not answer.get("ok"):\n', "    if False:\n"),
    ("an unverified cancel is fine", _TRANSACTIONS, "        sys.exit(BAD)\n", "        pass\n"),
    ("control characters reach the terminal", _TABLE, 'letter if letter.isprintable() else "?"', "letter"),
    ("usage is exit code one", _CLI, "        return error.exit_code\n    except click.ClickException", "        return 1\n    except click.ClickException"),
    ("any of several journals is taken", "hireliab/_cli_reader.py", "if name is None and len(known) == 1:", "if name is None and known:"),
    ("the only journal is not found", "hireliab/_cli_reader.py", "if name is None and len(known) == 1:", "if False:"),
]  # fmt: skip
