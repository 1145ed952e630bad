"""Breakages of the alert system that a test must notice."""

_SYSTEM = "hireliab/monitoring/alert_system.py"
_CREW = "hireliab/monitoring/_alert_crew.py"
_WORKER = "hireliab/monitoring/_channel_worker.py"
_DOOR = "hireliab/monitoring/_channel_door.py"
_DESK = "hireliab/monitoring/_channel_desk.py"
_QUEUE = "hireliab/monitoring/_channel_queue.py"
_RATE = "hireliab/monitoring/_channel_rate.py"
_RETRY = "hireliab/monitoring/_channel_retry.py"
_STATUS = "hireliab/monitoring/_channel_status.py"
_AFTER = "hireliab/monitoring/_channel_aftermath.py"
_DOG = "hireliab/monitoring/_alert_watchdog.py"
_FAILOVER = "hireliab/monitoring/_alert_failover.py"
_REPLAY = "hireliab/monitoring/_alert_replay.py"
_SETTINGS = "hireliab/monitoring/_alert_settings.py"
_SILENCES = "hireliab/monitoring/_alert_silences.py"
_HOOKS = "hireliab/monitoring/_alert_hooks.py"
_BEAT = "hireliab/monitoring/_alert_heartbeat.py"
_INBOX = "hireliab/monitoring/_alert_inbox.py"
_TRIAL = "hireliab/monitoring/_alert_trial.py"
_FREEZE = "hireliab/monitoring/_freeze.py"
_REDACTION = "hireliab/monitoring/_redaction.py"
_ALERT = "hireliab/monitoring/alert.py"
_CHANNELS = "hireliab/monitoring/alert_channels.py"
_TEXT = "hireliab/monitoring/_alert_text.py"

TESTS = [
    "tests/unit/monitoring/test_alert.py",
    "tests/unit/monitoring/test_alert_channels.py",
    "tests/unit/monitoring/test_alert_delivery.py",
    "tests/unit/monitoring/test_alert_hooks.py",
    "tests/unit/monitoring/test_alert_inbox.py",
    "tests/unit/monitoring/test_alert_settings.py",
    "tests/unit/monitoring/test_alert_system.py",
    "tests/unit/monitoring/test_alert_trial.py",
    "tests/unit/monitoring/test_freeze.py",
    "tests/unit/monitoring/test_redaction.py",
    "tests/property/test_alert_queue.py",
    "tests/property/test_alert_freeze.py",
    "tests/integration/test_alert_system_process.py",
    "tests/integration/test_alert_cases.py",
    "tests/integration/test_alert_review.py",
]

MUTANTS = [
    ("what was told by another way is told once more at the next start", _WORKER,
     "                self._changed.notify_all()\n            self._settle_expired()\n", "                self._changed.notify_all()\n"),
    # -- the call
    ("our own error reaches the caller", _SYSTEM, "        except Exception:\n            # Nothing is logged here", "        except ZeroDivisionError:\n            # Nothing is logged here"),
    ("a keyboard interrupt is swallowed", _SYSTEM, "        except Exception:\n            # Nothing is logged here", "        except BaseException:\n            # Nothing is logged here"),
    ("the threshold is exclusive", _DESK, "if alert.level < self.threshold and not force:", "if alert.level <= self.threshold and not force:"),
    ("a critical alert after stop is lost", _SYSTEM, "                last_words(alert)\n", "                pass\n"),
    ("a signal handler's alert is lost", _DOOR, "            self._interrupting.append(functools.partial(self._admit_locked, alert, force, ticket))\n", ""),
    ("a signal handler changes what is being changed", _DOOR, "            if self._inside:\n                return Offer(Put.QUEUED, deferred=True)\n", ""),
    ("two threads that are interrupted wait for each other", _CREW, "        if self._is_interrupting():\n            return self._take_later(alert, keep=keep)\n", ""),
    ("two threads that resolve wait for each other", _CREW, "        if self._is_interrupting():\n            return self._put_off(functools.partial(self.resolve, key, over=over, source=source))\n", ""),
    ("what was put off is forgotten", _CREW, "        self._make_up()\n        return self._rounds()\n", "        return self._rounds()\n"),
    ("what was put off is forgotten by stop", _CREW, "        self._closing = True\n        self._make_up()\n", "        self._closing = True\n"),
    ("alerts are queued after stop", _DOOR, "            if self._closed:\n                self._count_refused", "            if self._abandoned:\n                self._count_refused"),
    ("a lock that a signal handler cannot enter", _DOOR, "self._lock = threading.RLock()", "self._lock = threading.Lock()"),
    # -- the queue
    ("the least important alert goes first", _QUEUE, "        self._mature(now, last=last)\n        for waiting in reversed(self._ready.values()):", "        self._mature(now, last=last)\n        for waiting in self._ready.values():"),
    ("the newest goes first", _QUEUE, "return waiting.popleft()", "return waiting.pop()"),
    ("the most important alert is evicted", _QUEUE, "ready = next((waiting[0] for waiting in self._ready.values() if waiting), None)", "ready = next((waiting[0] for waiting in reversed(self._ready.values()) if waiting), None)"),
    ("critical alerts evict critical ones", _QUEUE, "if victim.level > notice.level or victim.level is AlertLevel.CRITICAL:", "if victim.level > notice.level:"),
    ("the queue is not bounded", _QUEUE, "if len(self) >= self._size:", "if len(self) > self._size:"),
    ("attempts do not wait", _QUEUE, "(last or self._later[0][0] <= now)", "True"),
    # -- drops
    ("drops are not counted", _DESK, '        self.count["dropped"] += 1\n        self.unreported', "        self.unreported"),
    ("drops are not reported", _DESK, "        self.unreported[level] += 1\n", ""),
    ("drops are reported at once each time", _DESK, "self.report_at = now + REPORT_EVERY", "self.report_at = now"),
    ("the last drops are not reported at stop", _DESK, "        if self.unreported:\n            return self._make_report(now), None\n        return None, None if push_at", "        return None, None if push_at"),
    ("a failed report is forgotten", _WORKER, "self._desk.unreported.update(drops)", "pass"),
    ("a failed last report is repeated for ever", _WORKER, "self._abandoned = True  # these", "pass  # these"),
    ("other channels are told of every drop", _DESK, "self._announced_until = now + REPORT_EVERY", "self._announced_until = now"),
    ("other channels are not told of drops", _CREW, "other.put(announcement)", "pass"),
    ("a report keeps a critical alert waiting", _DESK, "if self.unreported and (first is None or first.level is not AlertLevel.CRITICAL):", "if self.unreported:"),
    # -- attempts
    ("SystemExit ends the channel", _WORKER, "except BaseException as error:\n            # Also", "except Exception as error:\n            # Also"),
    ("an error is logged with its secrets", _STATUS, 'summary = clean(f"{type(error).__name__}: {error}", 500, one_line=True)', 'summary = f"{type(error).__name__}: {error}"'),
    ("what failed is not tried again", _DESK, "        self.queue.put_back(notice)\n", "        self._drop_old(notice, now)\n"),
    ("the pause does not grow", _RETRY, "FIRST_PAUSE * 2.0 ** min(attempt - 1, 30)", "FIRST_PAUSE"),
    ("the pause grows for ever", _RETRY, "min(LONGEST_PAUSE, FIRST_PAUSE", "max(0.0, FIRST_PAUSE"),
    ("a service's pause is not kept", _DESK, "limit_pause(asked) if asked is not None else", "0.0 if asked is not None else"),
    ("a service may ask for a year", _RETRY, "min(LONGEST_LIMIT_PAUSE, max(FIRST_PAUSE, after))", "max(FIRST_PAUSE, after)"),
    ("a rate limit does not pause the channel", _DESK, "            self.paused_until = now + limit_pause(result.after)\n", "            pass\n"),
    ("a wrong setting is tried again and again", _DESK, "            self.paused_until = now + PROBE_EVERY\n", "            pass\n"),
    ("a refused alert is tried again", _DESK, "            return self._gone(notice, now, buried=result.reason)\n", "            pass\n"),
    ("three failures in a row are no reason to rest", _DESK, "if self._failures >= REST_AFTER:", "if False:"),
    ("nothing is ever too old", _DESK, "notice.expires_at <= now:\n            self.queue.remove", "False:\n            self.queue.remove"),
    ("critical alerts are soon too old", _RETRY, "AlertLevel.CRITICAL: 72 * 3600.0", "AlertLevel.CRITICAL: 3600.0"),
    ("stop does not try once more", _DESK, "self._take(now, last=True)", "self._take(now, last=False)"),
    ("stop ignores a service's wish for rest", _DESK, "if rest > 0 and self._told_to_rest:", "if False:"),
    ("a stream of small matters keeps critical ones in the spool", _DESK, "(spooled > first.level if first is not None else not len(self.queue))", "(False if first is not None else not len(self.queue))"),
    ("a report of drops disturbs a service that rests", _DESK, "at = max(self.report_at, self.paused_until, now", "at = max(self.report_at, now"),
    ("a late success counts for what came after it", _DESK, "            if later := notice.rows[told:]:", "            if False:"),
    ("an interrupted offer silences its title", _DESK, "        while self._offered:\n", "        while False:\n"),
    ("a bug ends a channel's thread", _WORKER, "            return self._recover(work, generation)", "            raise"),
    # -- rate
    ("no share is kept for critical alerts", _RATE, "self._size * CRITICAL_SHARE)", "0.0)"),
    ("the bucket is never empty", _RATE, "self._tokens = max(0.0, self._tokens - 1.0)", "pass"),
    ("the gap is not kept", _RATE, "self._next = now + self._gap", "self._next = now"),
    ("the bucket has no bottom and no brim", _RATE, "self._tokens = min(self._size, self._tokens + ", "self._tokens = (self._tokens + "),
    # -- failover
    ("nobody stands in", _DOG, "                self._failover.take(worker, alert)\n", "                pass\n"),
    ("a warning is told by another", _DESK, "if notice.level < AlertLevel.ERROR or notice.failed_over:", "if notice.failed_over:"),
    ("another is asked again and again", _DESK, "                notice.failed_over = True\n                late", "                late"),
    ("a long pause is waited for", _DESK, "or self.paused_until > at:", "or False:"),
    ("what is refused for good is told by nobody", _WORKER, "            if after.fail_over:\n", "            if False:\n"),
    ("a dead channel stands in", _FAILOVER, "if other.family == family and not other.is_blocked]", "if other.family == family]"),
    ("who was told is told again", _FAILOVER, "        if other.knows(alert):\n            return True\n", ""),
    ("the last resort is silent", _FAILOVER, "target=last_words, args=(alert,)", "target=lambda *a, **k: None, args=(alert,)"),
    ("the last resort has no end", _FAILOVER, "if number > MOST_LINES or (", "if ("),
    ("nobody hears that a channel is down", _WORKER, "down = failing and not self._said_down and not self._closed", "down = False"),
    ("others hear again and again that a channel is down", _WORKER, "                self._said_down = True\n", "                pass\n"),
    ("nobody hears that a channel is back", _WORKER, "                back = self._desk.late_since_down\n", "                pass\n"),
    # -- watchdog
    ("a stuck send is waited for", _WORKER, "now - flight.since < HARD_DEADLINE:", "True:"),
    ("any number of sends is abandoned", _WORKER, "if self._sends_abandoned >= MOST_ABANDONED:", "if False:"),
    ("an abandoned alert is lost", _WORKER, "            self._desk.take_back(flight.notice", "            (lambda *a: None)(flight.notice"),
    ("a late success is sent again", _WORKER, "after = self._desk.late_success(notice, sent, now) if isinstance(result, Ok) else None", "after = None"),
    ("a thread that came back sends beside the new one", _WORKER, "if self._abandoned or generation != self._generation:", "if self._abandoned:"),
    ("the watchdog is not woken", _DOG, "            self._wanted = at if self._wanted is None else min(at, self._wanted)\n", ""),
    # -- the inbox
    ("the inbox has no end", _INBOX, "if len(self._waiting) >= MOST:", "if False:"),
    ("a burst wakes the thread each time", _INBOX, "            self._ask_again = now + ASK_AGAIN\n", ""),
    ("what comes during the last look waits for ever", _INBOX, "        self._ask_again = 0.0  # before", "        pass  # before"),
    ("what is left while it is closed is lost", _INBOX, "        if not self.is_open:  # closed", "        if False:  # closed"),
    ("flush forgets what is being carried", _INBOX, "            if not self._busy:\n                return\n            last = 0", "            return"),
    ("close forgets what lies there", _INBOX, "        while self._carry_one():  # what came", "        while False:  # what came"),
    ("a child carries its parent's", _INBOX, "        self._waiting: deque[tuple[int, Alert, Key, float]] = deque()\n", "        self._waiting = getattr(self, '_waiting', deque())\n"),
    ("one that fails keeps the others", _INBOX, "                bug = error\n", "                raise\n"),
    ("an error overtakes the warning before it", _CREW, "                self._inbox.flush(OVERTAKE)\n", "                pass\n"),
    ("a status is behind", _CREW, "            self._inbox.flush(CATCH_UP)\n", "            pass\n"),
    ("the wait of a group begins late", _CREW, "self._offer(alert, keep=False, at=at)", "self._offer(alert, keep=False)"),
    ("a warning waits for the channels", _CREW, "            if alert.level < AlertLevel.ERROR:\n                taken", "            if False:\n                taken"),
    ("a receipt knows nothing of the groups", _CREW, "if not worker.would_count(key, level, now)]", "]"),
    # -- the spool
    ("nothing is kept", _CREW, "ticket = self.spool.add(alert, takers) if takers else None", "ticket = None"),
    ("what was delivered stays in the spool", _AFTER, "        store.settle(after.settle, channel, notified).wait(SETTLE_WAIT)\n", "        pass\n"),
    ("what was told is not remembered", _AFTER, "        notified = Notified(\n", "        (lambda **k: None)(\n"),
    ("what is over is remembered", _AFTER, "        store.forget(channel, after.over.fingerprint)\n", "        pass\n"),
    ("former processes' alerts are not told", _DOG, "        self._replay.run()\n", ""),
    ("former processes' messages are told again", _REPLAY, "            worker.restore(", "            (lambda told: None)("),
    ("a renamed channel's alerts are lost", _REPLAY, "if gone and worker.name not in channels and", "if False and"),
    ("an old alert is young after a restart", _DESK, "expires_at=now + TIME_TO_LIVE[group.level] - age,", "expires_at=now + TIME_TO_LIVE[group.level],"),
    ("what the queue has no room for is lost", _DESK, "            if victim.rows:\n", "            if False:\n"),
    ("what waits in the spool is not read again", _DESK, "        if spooled is not None and (spooled", "        if False and (spooled"),
    ("a broken spool is told at each look", _DOG, "            if before[0] != status.state:\n", "            if True:\n"),
    # -- life
    ("stop drops what is queued", _CREW, "            worker.close()\n        # A channel", "            worker.abandon()\n        # A channel"),
    ("each channel has a deadline of its own", _CREW, "wait_ended(self._left(deadline))", "wait_ended(timeout)"),
    ("nothing is abandoned at the deadline", _WORKER, "if self._abandoned or generation != self._generation:", "if generation != self._generation:"),
    ("stop waits for its own channel", _CREW, "if worker.thread is not threading.current_thread()", "if True"),
    ("stop does not tell what waits for its group", _DESK, "            self._due(self.groups.take_all(), now)\n        self._due(self.groups.take_due", "            pass\n        self._due(self.groups.take_due"),
    ("no exit hook", _SYSTEM, "            atexit.register(self._exit_hook)  # first", "            pass  # first"),
    ("a start that failed counts as one", _SYSTEM, '                    self._state = "not_started"\n            raise\n', "                    pass\n            raise\n"),
    ("the child keeps the parent's locks", _CREW, "            worker.reset()\n", ""),
    ("a channel is not closed", _CREW, "                _close(worker)\n", "                pass\n"),
    # -- silences
    ("a silence never ends", _SILENCES, "any(silence.until > now and silence.covers(alert)", "any(silence.covers(alert)"),
    ("a silence covers critical alerts", _SILENCES, "if alert.level >= AlertLevel.CRITICAL and not self.include_critical:", "if False:"),
    ("a silence covers every title", _SILENCES, "fnmatchcase(alert.title, _pattern(self.title))", "True"),
    ("a silence takes brackets for a choice", _SILENCES, "fnmatchcase(alert.title, _pattern(self.title))", "fnmatchcase(alert.title, self.title)"),
    ("a silence covers nothing", _SYSTEM, "if self._silences.cover(alert, self._clock.monotonic()):", "if False:"),
    # -- settings
    ("an unknown key of a channel is ignored", _SETTINGS, "        checks.refuse_unknown(channel, _CHANNEL_KEYS, where=", "        (lambda *a, **k: None)(channel, _CHANNEL_KEYS, where="),
    ("a config shows its URLs", _SETTINGS, 'default_factory=lambda: MappingProxyType({"console": True}), repr=False', 'default_factory=lambda: MappingProxyType({"console": True}), repr=True'),
    ("the variable's file is not read", _SETTINGS, '    if file:\n        return _urls_from_file(file', '    if False:\n        return _urls_from_file(file'),
    ("a channel may stand in for itself", _SETTINGS, "[one for one in on if one != name]", "on"),
    ("there is never a spool", _SETTINGS, "return default_folder(self.name) if wanted else None", "return None"),
    # -- hooks
    ("a closed breaker stays open in the alerts", _HOOKS, '        alerts.resolve(key, f"it is closed again', '        str(f"it is closed again'),
    ("what is decided stays unknown", _HOOKS, '        self._alerts.resolve(_key(transaction_id)', '        (lambda *a: None)(_key(transaction_id)'),
    ("what is decided already stands open", _HOOKS, 'open_ = str(facts.get("verdict")).upper() == "UNKNOWN" and', "open_ ="),
    ("a pool that is up stays down", _HOOKS, '        alerts.resolve(key, "a client was made again")', "        pass"),
    # -- heartbeat and test messages
    ("the heart beats faster when it was late", _BEAT, "next_at = max(next_at + self._every, now)", "next_at = next_at + self._every"),
    ("a failed beat counts", _BEAT, "            self.beats += 1\n", "            pass\n"),
    ("a call that hangs holds up the heart", _BEAT, "            if left <= 0:\n", "            if False:\n"),
    ("calls that hang pile up", _BEAT, "if len(self._calls) >= MOST_ABANDONED:", "if False:"),
    ("a late call hurries the heart", _BEAT, "            while (pause := next_at", "            if (pause := next_at"),
    ("a test that gets no answer is ok", _TRIAL, "ok=False, reason=f\"no answer", "ok=True, reason=f\"no answer"),
    ("a test message that is refused is ok", _TRIAL, 'ok=False, reason=f"{words}', 'ok=True, reason=f"{words}'),
    # -- texts
    ("a level that is none is info", _ALERT, "AlertLevel.ERROR if known_level is None", "AlertLevel.INFO if known_level is None"),
    ("a stranger's repr is run", _FREEZE, "    return type_name(value)\n\n\n_PRINTED", "    return repr(value)\n\n\n_PRINTED"),
    ("values of secret keys show", _FREEZE, "if is_secret_key(name):", "if False:"),
    ("texts are not redacted", _FREEZE, "    text = redact(text)\n", ""),
    ("half a token shows at the cut", _FREEZE, 'tail = _LAST_WORD.sub("", text[limit:])', "tail = text[limit:]"),
    ("half a known secret shows at the cut", _FREEZE, "            text = known_secrets.mask(text[:window])\n", "            text = text[:window]\n"),
    ("the context is unbounded", _FREEZE, "    if budget.spent:\n        return \"<cut>\"\n", ""),
    ("the context is shared with the caller", _FREEZE, "    return tuple(frozen_items)", "    return value"),
    ("what we know to be secret shows", _REDACTION, "    text = known_secrets.mask(text)\n    return", "    return"),
    ("a look at the names misses a scheme", _REDACTION, "    if any(word in lower for word in _SCHEMES):\n        return True\n", ""),
    ("a look at the names misses what folds to them", _REDACTION, "any(letter in text for letter in _FOLDED)", "False"),
    ("a look at the words misses a token", _REDACTION, "_LONG_WORD = 37", "_LONG_WORD = 41"),
    ("an encoded secret shows", _REDACTION, "for spelling in (value, unquote(value), quote(value, safe=\"\"), quote_plus(value), quote(value))", "for spelling in (value,)"),
    ("the rest of a longer secret shows", _REDACTION, "key=lambda spelling: (-len(spelling), spelling)", "key=lambda spelling: (len(spelling), spelling)"),
    ("others' exceptions show secrets", _REDACTION, "                record.exc_info = None\n", "                record.exc_text = None\n"),
    ("others' lines show secrets", _REDACTION, "                record.msg, record.args = clean, ()\n", "                pass\n"),
    ("an alert spreads over lines", _TEXT, '" / ".join(alert.message.splitlines())', "alert.message"),
    ("the console is not flushed", _CHANNELS, "        stream.flush()\n", ""),
    ("a coroutine function is a channel", _CHANNELS, "if inspect.iscoroutinefunction(channel) or", "if"),
    ("the count is not shown", _TEXT, 'return f" (x{alert.count})" if alert.count > 1 else ""', 'return ""'),
    ("a text does not fit", _TEXT, "    if len(whole) <= limit:\n", "    if True:\n"),
    ("the id is cut", _TEXT, "return f\"{title[:short]}…\\n{tail}\" if tail and short > 0 else frame[:limit]", "return frame[:limit]"),
]  # fmt: skip
