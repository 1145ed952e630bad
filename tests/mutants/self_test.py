"""Breakages of the installer and of the self-test: a table must not be kinder than the installation."""

_CORE = "hireliab/_self_test_core.py"
_EXCHANGE = "hireliab/_self_test_exchange.py"
_INSTALL = "hireliab/install_high_reliability.py"
_MAIN = "hireliab/test_high_reliability.py"
_MESSAGING = "hireliab/_self_test_messaging.py"
_MONITORING = "hireliab/_self_test_monitoring.py"
_PARTS = "hireliab/_install_parts.py"
_RUN = "hireliab/_self_test_run.py"
_STAGE = "hireliab/_self_test_stage.py"

MUTANTS = [
    ("a failed part is no exit code", _MAIN, "        return BAD\n    _say", "        return 0\n    _say"),
    ("a failed part is no exit code in JSON", _MAIN, "        return BAD if failed else 0\n", "        return 0\n"),
    ("what is left out counts as failed", _MAIN, "if row.verdict == FAILED]\n    skipped", "if row.verdict != 'ok']\n    skipped"),
    ("the folder stays", _MAIN, 'with tempfile.TemporaryDirectory(prefix="hireliab-", ignore_cleanup_errors=True) as folder:', 'for folder in [tempfile.mkdtemp(prefix="hireliab-")]:'),
    ("the user's folder is used", _MAIN, '"HIRELIAB_HOME": str(Path(folder) / "home"), ', ""),
    ("a termination leaves the simulator behind", _MAIN, "sys.exit(TERMINATED))", "os._exit(TERMINATED))"),
    ("pytest collects it", _MAIN, "__test__ = False", "def test_nothing(): pass"),
    ("a check that hangs is ok", _RUN, "else (FAILED, f\"did not end", "else (OK, f\"did not end"),
    ("a check that ends its thread is ok", _RUN, 'outcome.append((FAILED, f"{type(error).__name__}', 'outcome.append((OK, f"{type(error).__name__}'),
    ("what has no time left is begun", _RUN, "        if left <= 0:\n", "        if left < -1e9:\n"),
    ("any number of sends will do", _STAGE, "    require(sent == 1,", "    require(sent >= 1,"),
    ("the truth file need not agree", _STAGE, "        require(not row.differences,", "        require(True,"),
    ("faults stay for the next check", _STAGE, '            connection.request("DELETE", "/faults")\n', '            connection.request("GET", "/state")\n'),
    ("the breaker may let any number fail", _CORE, "    require(len(calls) == 3, f\"it let", "    require(calls, f\"it let"),
    ("a lost answer may become a result", _CORE, "    raise Failed(f\"a lost answer became", "    return (f\"a lost answer became"),
    ("a broken client may come back", _EXCHANGE, "            require(client is not broken,", "            require(client,"),
    ("a session need not say what happened", _EXCHANGE, "            require(isinstance(error, OutcomeUnknownError), f\"a lost", "            require(error, f\"a lost"),
    ("a stranger may read", _EXCHANGE, 'raise Failed("a stranger read the balances")', 'return "a stranger read the balances"'),
    ("the killed bot's order may be missing", _EXCHANGE, "        require(undecided == 1,", "        require(True,"),
    ("a message may be handled again", _MESSAGING, "    require(len(handled) == 1,", "    require(handled,"),
    ("events may be missing", _MESSAGING, "    require(came == expected,", "    require(True,"),
    ("an alert may show a password", _MONITORING, "    require(_PASSWORD.encode() not in endpoint.bodies[0],", "    require(True,"),
    ("an open circuit may be healthy", _MONITORING, "        require(ill.status is not Health.HEALTHY,", "        require(True,"),
    ("a part that does not work is no exit code", _INSTALL, "    return BAD\n\n\ndef why_not", "    return 0\n\n\ndef why_not"),
    ("pip's failure is no exit code", _INSTALL, "    return BAD if code or checked else 0\n", "    return BAD if checked else 0\n"),
    ("a managed environment is not refused", _INSTALL, "    if in_venv() or not marker.is_file():\n", "    if True:\n"),
    ("the marker counts in a virtual environment", _INSTALL, "    if in_venv() or not marker", "    if not marker"),
    ("the check does not use the parts", _INSTALL, "        part.work()\n", "        pass\n"),
    ("what is too old passes", _INSTALL, "    if requirement.least and is_older", "    if not requirement.least and is_older"),
    ("versions are compared as texts", _PARTS, "[int(n) for n in match[0].split(\".\")]", "[n for n in match[0].split(\".\")]"),
    ("every extra is installed", _PARTS, 'if one.extra in (None, "all")]', "]"),
]  # fmt: skip
TESTS = ["tests/unit/test_install.py", "tests/integration/test_self_test.py"]
