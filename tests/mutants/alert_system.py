"""Breakages of the alert system that a test must notice."""

_SYSTEM = "hireliab/monitoring/alert_system.py"
_WORKER = "hireliab/monitoring/_channel_worker.py"
_FREEZE = "hireliab/monitoring/_freeze.py"
_ALERT = "hireliab/monitoring/alert.py"
_CHANNELS = "hireliab/monitoring/alert_channels.py"

TESTS = [
    "tests/unit/monitoring/test_alert.py",
    "tests/unit/monitoring/test_alert_channels.py",
    "tests/unit/monitoring/test_alert_system.py",
    "tests/unit/monitoring/test_freeze.py",
    "tests/property/test_alert_queue.py",
    "tests/property/test_alert_freeze.py",
    "tests/integration/test_alert_system_process.py",
]

MUTANTS = [
    ("our own error reaches the caller", _SYSTEM, "        except Exception:\n            # Nothing is logged here", "        except ZeroDivisionError:\n            # Nothing is logged here"),
    ("a keyboard interrupt is swallowed", _SYSTEM, "        except Exception:\n            # Nothing is logged here", "        except BaseException:\n            # Nothing is logged here"),
    ("the least important alert goes first", _WORKER, "highest = max(level", "highest = min(level"),
    ("the newest goes first", _WORKER, "return self._levels[highest].popleft()", "return self._levels[highest].pop()"),
    ("the most important alert is evicted", _WORKER, "return min(level for level", "return max(level for level"),
    ("critical alerts evict critical ones", _WORKER, "if lowest > alert.level or lowest is AlertLevel.CRITICAL:", "if lowest > alert.level:"),
    ("the queue is not bounded", _WORKER, "if self._queued >= self._size:", "if self._queued > self._size:"),
    ("drops are not counted", _WORKER, 'self._count["dropped"] += 1', "pass"),
    ("drops are not reported", _WORKER, "        self._unreported[level] += 1\n", ""),
    ("drops are reported at once each time", _WORKER, "self._report_at = now + REPORT_EVERY", "self._report_at = now"),
    ("the last drops are not reported at stop", _WORKER, "last_words = self._closed and not self._queued", "last_words = False"),
    ("a failed report is forgotten", _WORKER, "self._unreported.update(drops)", "pass"),
    ("a failed last report is repeated for ever", _WORKER, "self._abandoned = True  # these", "pass  # these"),
    ("other channels are told of every drop", _WORKER, "self._announced_until = now + REPORT_EVERY", "self._announced_until = now"),
    ("other channels are not told", _SYSTEM, "other.put(announcement)", "pass"),
    ("SystemExit ends the channel", _WORKER, "except BaseException as error:\n            # Also", "except Exception as error:\n            # Also"),
    ("an error is logged with its secrets", _WORKER, 'summary = clean(f"{type(error).__name__}: {error}", 500, one_line=True)', 'summary = f"{type(error).__name__}: {error}"'),
    ("the threshold is exclusive", _WORKER, "if alert.level < self._threshold:", "if alert.level <= self._threshold:"),
    ("alerts are queued after stop", _WORKER, "            if self._closed:\n                self._count[\"refused\"]", "            if self._abandoned:\n                self._count[\"refused\"]"),
    ("stop drops what is queued", _SYSTEM, "            worker.close()\n        # A channel", "            worker.abandon()\n        # A channel"),
    ("each channel has a deadline of its own", _SYSTEM, "max(0.0, deadline - self._clock.monotonic())", "max(0.0, timeout or 0.0)"),
    ("nothing is abandoned at the deadline", _WORKER, "while not self._abandoned:", "while True:"),
    ("stop waits for its own channel", _SYSTEM, "if worker.thread is not threading.current_thread()", "if True"),
    ("a lock that a signal handler cannot enter", _WORKER, "self._lock = threading.RLock()", "self._lock = threading.Lock()"),
    ("no exit hook", _SYSTEM, "        atexit.register(self._exit_hook)\n", ""),
    ("the child keeps the parent's locks", _SYSTEM, "            worker.reset()\n", ""),
    ("a level that is none is info", _ALERT, "AlertLevel.ERROR if known_level is None", "AlertLevel.INFO if known_level is None"),
    ("a stranger's repr is run", _FREEZE, "    return type_name(value)\n\n\ndef _some", "    return repr(value)\n\n\ndef _some"),
    ("values of secret keys show", _FREEZE, "if is_secret_key(name):", "if False:"),
    ("texts are not redacted", _FREEZE, "    text = redact(text)\n", ""),
    ("half a token shows at the cut", _FREEZE, 'tail = _LAST_WORD.sub("", text[limit:])', "tail = text[limit:]"),
    ("the context is unbounded", _FREEZE, "    if budget.spent:\n        return \"<cut>\"\n", ""),
    ("the context is shared with the caller", _FREEZE, "    return tuple(frozen_items)", "    return value"),
    ("an alert spreads over lines", _CHANNELS, '" / ".join(alert.message.splitlines())', "alert.message"),
    ("the console is not flushed", _CHANNELS, "        stream.flush()\n", ""),
    ("a coroutine function is a channel", _CHANNELS, "if inspect.iscoroutinefunction(channel) or", "if"),
]  # fmt: skip
