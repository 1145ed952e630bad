"""Breakages of the Apprise channels and of the log handler that a test must notice."""

_CHANNEL = "hireliab/monitoring/apprise_channel.py"
_EVIDENCE = "hireliab/monitoring/_apprise_evidence.py"
_VERDICT = "hireliab/monitoring/_apprise_verdict.py"
_LOG = "hireliab/monitoring/log_handler.py"

TESTS = [
    "tests/unit/monitoring/test_apprise_verdict.py",
    "tests/unit/monitoring/test_log_handler.py",
    "tests/integration/test_alerts_apprise.py",
    "tests/integration/test_alert_review.py",
]

MUTANTS = [
    ("who has got it gets it again", _CHANNEL, "        if self._tracker is None:\n", "        if True:\n"),
    ("Apprise's throttle sleeps by the wall clock", _CHANNEL, "    plugin.throttle = _no_sleep\n", ""),
    ("a plugin that wants to sleep has sent", _CHANNEL, "        raise _PauseError(float(wait))\n", "        return\n"),
    ("the URL is repeated in the error", _CHANNEL, 'return "the url does not begin with a service such as \'tgram://\'"', 'return f"the url {url} does not begin with a service such as \'tgram://\'"'),
    ("the plugin's own error is shown", _CHANNEL, 'plugin, why = None, f" ({type(error).__name__})"', 'plugin, why = None, f" ({error})"'),
    ("a warning of a plugin ends the start", _CHANNEL, 'warnings.simplefilter("ignore")', "pass"),
    ("a refused text is not tried in plain words", _CHANNEL, "if isinstance(result, Permanent) and wants_plain_text(evidence):", "if False:"),
    ("the plain words have markup", _CHANNEL, "part.translate(_MARKUP)", "part"),
    ("the plain words are as long as before", _CHANNEL, "told, limit=PLAIN_LIMIT)", "told)"),
    ("a text is measured without its markup", _CHANNEL, "size = len(marked.encode", "size = len(whole.encode"),
    ("a text is measured in code points", _CHANNEL, 'len(marked.encode("utf-16-le", "surrogatepass")) // 2', "len(marked)"),
    ("text is not escaped", _CHANNEL, "marked = str(self._convert(self._text_format, target, whole))", "marked = whole"),
    ("every alert is a failure", _CHANNEL, "    if alert.level >= AlertLevel.ERROR:", "    if True:"),
    ("what the plugin masks is shown", _CHANNEL, "            found.append(plain)\n", "            pass\n"),
    ("the log of a send is shown", _EVIDENCE, "                evidence.said.append(record.getMessage()[:2000])\n        return False", "                evidence.said.append(record.getMessage()[:2000])\n        return True"),
    ("a program's own log of Apprise is kept back", _EVIDENCE, "        if evidence is None:\n            return True\n", "        if evidence is None:\n            return False\n"),
    ("redirects are followed", _EVIDENCE, '        kwargs["allow_redirects"] = False', '        kwargs["allow_redirects"] = True'),
    ("an answer is read to its end", _EVIDENCE, "while len(body) < MOST_OF_AN_ANSWER and", "while"),
    ("a body may drip for ever", _EVIDENCE, " and evidence.clock.monotonic() < evidence.deadline:", ":"),
    ("Retry-After is not seen", _EVIDENCE, 'response.headers.get("Retry-After")', "None"),
    ("a mail server's refusal is not seen", _EVIDENCE, "if code >= 400 and _here.evidence is not None:", "if False:"),
    ("a pause is taken as it is given", _VERDICT, "return min(max(1.0, seconds), LONGEST_PAUSE)", "return seconds"),
    ("a pause in words is not read", _VERDICT, "    return _clamped(float(said[1])) if said else None", "    return None"),
    ("a lost answer was not sent", _VERDICT, 'return Unknown("no answer in time")', 'return Retry("no answer in time")'),
    ("a wrong token is tried again", _VERDICT, "    return Misconfigured(reason)  # 401", "    return Retry(reason)  # 401"),
    ("a 400 blocks the queue", _VERDICT, "        return Permanent(reason)\n    return Misconfigured", "        return Retry(reason)\n    return Misconfigured"),
    ("a chat that is not there is tried in plain words", _VERDICT, "        and not _NOBODY.search(failed.text)\n    )", "    )"),
    ("recipients that have it get it again", _VERDICT, "if several and some_got_it and isinstance(result, Permanent | Misconfigured):", "if False:"),
    ("a mail server's farewell hides its refusal", _VERDICT, "return (refusals or wrong or [None])[-1]", "return (wrong or [None])[-1]"),
    ("a reason shows secrets", _VERDICT, 'clean(" ".join(text.split()), 300, one_line=True)', '" ".join(text.split())[:300]'),
    ("log lines about sending make alerts", _LOG, "        if self._here.busy or self._is_ours(record):", "        if self._here.busy:"),
    ("a line that is logged while an alert is made makes the next", _LOG, "        if self._here.busy or self._is_ours(record):", "        if self._is_ours(record):"),
    ("values make troubles", _LOG, "template = _text(record.msg)[:500]", "template = record.getMessage()[:500]"),
    ("filled in numbers make troubles", _LOG, '        template = _NUMBERS.sub("#", template)\n', "        pass\n"),
    ("the handler takes logging's lock", _LOG, "    def handle(self, record", "    def handle_with_a_lock(self, record"),
    ("a handler's mistake is printed", _LOG, '"""Nothing: logging\'s own prints the record, secrets and all."""', "super().handleError(record)"),
    ("the hook before is not called", _LOG, "        before(kind, error, trace)\n", ""),
    ("a keyboard interrupt pages", _LOG, "if error is None or not isinstance(error, Exception) or here.busy:", "if error is None or here.busy:"),
]  # fmt: skip
