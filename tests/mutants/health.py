"""Breakages of health and ``hireliab status`` that their tests must notice: (name, file, text that occurs once, replacement)."""

_DOOR = "hireliab/monitoring/health.py"
_RULES = "hireliab/monitoring/_health_rules.py"
_STATUS = "hireliab/_cli_status.py"

TESTS = ["tests/unit/monitoring/test_health.py", "tests/unit/test_cli_status.py"]

MUTANTS = [
    ("a poisoned journal is fine", _RULES, "    if stats.poisoned:\n", "    if False:\n"),
    ("a full disk is degraded", _RULES, '        yield DOWN, "the disk is full', '        yield DEGRADED, "the disk is full'),
    ("an open breaker is down", _RULES, '        yield DEGRADED, f"open{because}', '        yield DOWN, f"open{because}'),
    ("a pool with clients left is down", _RULES, "    elif stats.down and not stats.size:\n", "    elif stats.down:\n"),
    ("an ended resolver is not told", _RULES, "    if not stats.resolver_alive:\n", "    if False:\n"),
    ("an outcome may stay unknown for ever", _RULES, "stats.oldest_unresolved > UNKNOWN_FOR:\n", "stats.oldest_unresolved > 1e9:\n"),
    ("a broker that is away is not told", _RULES, "    elif not status.connected:\n", "    elif False:\n"),
    ("a bus can be down", _DOOR, "    if not look.critical or look.kind in NEVER_DOWN:\n", "    if not look.critical:\n"),
    ("critical counts for nothing", _DOOR, "    if not look.critical or look.kind in NEVER_DOWN:\n", "    if look.kind in NEVER_DOWN:\n"),
    ("a stopped pipeline is degraded", _RULES, '        return DOWN, f"{error.state}: no order is sent"\n', '        return DEGRADED, f"{error.state}: no order is sent"\n'),
    ("a journal that cannot be asked is degraded", _RULES, "    if isinstance(error, ClosedError | JournalError):\n", "    if False:\n"),
    ("the best is told first", _DOOR, "key=lambda check: -check.status.rank)", "key=lambda check: check.status.rank)"),
    ("a check that hangs is waited for every time", _DOOR, "                left = started + check.timeout - self._clock.monotonic()\n", "                left = check.timeout\n"),
    ("a check that hangs is started again", _DOOR, "                if check.started is not None:\n                    return\n", ""),
    ("a check whose start was cut short never runs again", _DOOR, "            if check.run is thread and thread.call_off():\n", "            if False:\n"),
    ("a check whose start was cut short runs twice", _DOOR, "            if check.run is thread and thread.call_off():\n", "            if True:\n"),
    ("a check that hangs is fine", _DOOR, "    if check.started is not None and now - check.started >= check.timeout:\n", "    if False:\n"),
    ("a report does not wait for its checks", _DOOR, "        for check in checks:\n            self._wait(check)\n", ""),
    ("status.json waits for checks", _DOOR, "            if check.ended is None or now - check.ended >= INTERVAL:\n                self._start(check)\n", "            if check.ended is None or now - check.ended >= INTERVAL:\n                self._start(check)\n                self._wait(check)\n"),
    ("a check runs at each look of the pipeline", _DOOR, "            if check.ended is None or now - check.ended >= INTERVAL:\n", "            if True:\n"),
    ("a check runs once", _DOOR, "            if check.ended is None or now - check.ended >= INTERVAL:\n", "            if check.ended is None:\n"),
    ("a raising check ends its thread in silence", _DOOR, "        except BaseException as error:  # a SystemExit", "        except ZeroDivisionError as error:  # a SystemExit"),
    ("an odd answer is fine", _DOOR, "    if said is None or said is True or (isinstance(said, str) and not said):\n", "    if said is not False and not isinstance(said, str) or said == \"\":\n"),
    ("secrets are told", _DOOR, "    return clean(text, MOST_REASON, one_line=True)\n", "    return text\n"),
    ("reasons are not bounded", _DOOR, '            "reasons": [*reasons[:MOST_REASONS],', '            "reasons": [*reasons,'),
    ("a forked child waits for its parent's check", _DOOR, "            check.started = None\n\n    def __repr__", "            pass\n\n    def __repr__"),
    ("a dead bot is taken for one that hangs", _STATUS, "        return _operator_client.is_owned(folder)\n", "        return True\n"),
    ("a bot that hangs is healthy", _STATUS, "    if late >= _operator_client.FRESH:\n", "    if False:\n"),
    ("a bot that starts is taken for its predecessor", _STATUS, "    if owner is not None and owner != pid:\n", "    if False:\n"),
    ("the exit code is always 0", _STATUS, "    return CODES[verdict.status]\n", "    return 0\n"),
    ("a torn file is a traceback", _STATUS, "    except (ValueError, RecursionError):\n        _is_torn(path)\n", "    except ZeroDivisionError:\n        _is_torn(path)\n"),
    ("what others may write is believed", _STATUS, "    if stat.S_IMODE(found.st_mode) & 0o022:\n", "    if False:\n"),
    ("another user's word is believed", _STATUS, "    if found.st_uid != owner:\n", "    if False:\n"),
    ("a pipe hangs the command", _STATUS, ' | getattr(os, "O_NONBLOCK", 0)', ""),
    ("a monitor hides the pipeline's trouble", _STATUS, "    _judge_figures(said, verdict)\n    for name", "    if 'health' not in said:\n        _judge_figures(said, verdict)\n    for name"),
    ("a misspelt option looks like a bot that is down", _STATUS, "            error.exit_code = NOT_KNOWN  #", "            error.exit_code = 2  #"),
    ("reasons are said twice", _STATUS, "        if not any(reason.endswith(why) for reason in verdict.reasons):\n", "        if True:\n"),
]  # fmt: skip
