"""Breakages of the circuit breaker that its tests must notice: (name, file, text that occurs once, replacement)."""

_GATE = "hireliab/core/_gate.py"
_BREAKER = "hireliab/core/circuit_breaker.py"
_RULES = "hireliab/core/_breaker_settings.py"
_LISTENERS = "hireliab/core/_listeners.py"

TESTS = ["tests/unit/core/test_circuit_breaker.py", "tests/property/test_breaker_model.py"]

MUTANTS = [
    ("opens one failure late", _GATE, "gate.failures >= self.fail_max", "gate.failures > self.fail_max"),
    ("a success does not clear the count", _GATE, "            gate.failures = 0  # of", "            pass  # of"),
    (
        "a late failure is counted",
        _GATE,
        "            if self.gate is not gate:\n                self._late += 1\n                return\n",
        "",
    ),
    (
        "a late failure hits the present gate",
        _GATE,
        "            if self.gate is not gate:\n                self._late += 1\n                return\n",
        "            if self.gate is not gate:\n                self._late += 1\n                self._trip(self.gate, now, '', error)\n                return\n",
    ),
    ("a probe of a retired gate counts", _GATE, "if not held or self.gate is not gate:", "if not held:"),
    ("swaps whatever the state is", _GATE, "        if self.gate is not expected:\n            return\n", ""),
    ("one probe too many", _GATE, "self.probes > most", "self.probes > most + 1"),
    ("more probes than needed", _GATE, "or self.successes + self.probes > wanted", ""),
    (
        "looks before it leases",
        _GATE,
        "        self._leases[lease] = ends\n        if self.probes > most or self.successes + self.probes > wanted:\n            del self._leases[lease]\n            return None\n",
        "        if self.probes >= most or self.successes + self.probes >= wanted:\n            return None\n        self._leases[lease] = ends\n",
    ),
    ("a lost probe wedges", _GATE, "return any(ends <= now for", "return any(ends < -1.0 for"),
    ("a lease ends too late", _GATE, "return any(ends <= now for", "return any(ends < now for"),
    ("the lease ignores the break", _GATE, "now + max(self.reset_timeout, PROBE_LEASE)", "now + PROBE_LEASE"),
    ("the break is too long", _GATE, "now >= gate.until", "now > gate.until"),
    ("one good probe is enough", _GATE, "gate.successes >= self.success_threshold", "gate.successes >= 1"),
    ("isolation ends by itself", _GATE, "        elif gate.state is ISOLATED:\n            return\n", ""),
    ("retry_after falls below zero", _GATE, "max(0.0, self.until - now)", "self.until - now"),
    ("tells of no change", _GATE, "        if new.state is not expected.state:\n", "        if True:\n"),
    ("trips are not counted", _GATE, "self._trips += new.state is OPEN", "pass"),
    ("a permit speaks twice", _BREAKER, "            permit._ended = True\n", ""),
    ("a plain lock", _BREAKER, "threading.RLock()", "threading.Lock()"),
    (
        "holds the lock during the call",
        _BREAKER,
        "        with self.acquire():\n            if self._listeners:",
        "        with self._mx, self.acquire():\n            if self._listeners:",
    ),
    (
        "listeners run under the lock",
        _BREAKER,
        "            self._machine.force(state, now)\n        self._events",
        "            self._machine.force(state, now)\n            self._events",
    ),
    ("a falsy exception is a success", _BREAKER, "        if error is None:\n", "        if not error:\n"),
    (
        "Ctrl-C in a predicate keeps the probe",
        _BREAKER,
        "            self.ignore()\n            raise",
        "            raise",
    ),
    (
        "Ctrl-C in a listener keeps the probe",
        _BREAKER,
        "            if permit is not None:\n                permit.ignore()\n",
        "",
    ),
    ("a type with a metaclass is a predicate", _BREAKER, "if isinstance(predicate, type) else", "if type(predicate) is type else"),
    ("a broken predicate means success", _BREAKER, "            return Outcome.FAILURE\n        if verdict", "            return Outcome.SUCCESS\n        if verdict"),
    ("is_failure without a verdict means success", _BREAKER, "        if verdict is None:\n            return outcome\n", ""),
    ("Ctrl-C is a failure", _RULES, "    if not isinstance(error, Exception):\n        return Outcome.IGNORE\n", ""),
    ("our own refusal speaks for the venue", _RULES, 'Outcome.SUCCESS if error.by == "venue" else Outcome.IGNORE', "Outcome.SUCCESS"),
    ("a failed connection is ignored", _RULES, " and not isinstance(error, ConnectError)", ""),
    ("async objects pass", _RULES, "for candidate in (func, called):", "for candidate in (func,):"),
    ("both spellings pass", _RULES, "if not isinstance(ours, _Default):", "if False:"),
    ("a failing __str__ escapes", _RULES, '        words = ""  # the', "        raise  # the"),
    (
        "an event is left in the queue",
        _LISTENERS,
        "        while self._queue:\n            if not self._delivering",
        "        if self._queue:\n            if not self._delivering",
    ),
    ("waits for another thread's listener", _LISTENERS, "acquire(blocking=False)", "acquire()"),
    ("a raising listener reaches the caller", _LISTENERS, '            self.report(listener, "listener")', "            raise"),
    ("logs a listener each time", _LISTENERS, "        self._reported.add(id(culprit))\n", ""),
    ("the last to ask replaces the breaker", _BREAKER, "            breaker = self._breakers.setdefault(name, candidate)", "            breaker = self._breakers[name] = candidate"),
    ("a conflict is overlooked", _BREAKER, "            if have != want:", "            if False:"),
]
