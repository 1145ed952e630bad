"""Breakages of the rate limiter that its tests must notice: (name, file, text that occurs once, replacement)."""

_FILE = "hireliab/core/rate_limiter.py"
_WINDOW = "hireliab/core/_limiter_window.py"

TESTS = [
    "tests/unit/core/test_rate_limiter.py",
    "tests/unit/core/test_rate_limiter_windows.py",
    "tests/property/test_limiter_model.py",
]

_READ = "                now = self._monotonic()\n                queues"

MUTANTS = [
    ("one too many", _WINDOW, "self.used + weight <= self.limit and", "self.used + weight <= self.limit + 1 and"),
    (
        "leaves the window too late",
        _WINDOW,
        "while log and log[0].at + self.per <= now:",
        "while log and log[0].at + self.per < now:",
    ),
    (
        "leaves the window too early in the future",
        _WINDOW,
        "self._room_at = gone.at + window.per",
        "self._room_at = gone.at + window.per * 0.9",
    ),
    (
        "leaves the window too early",
        _WINDOW,
        "while log and log[0].at + self.per <= now:",
        "while log and log[0].at + self.per * 0.99 <= now:",
    ),
    ("weights count as one", _WINDOW, "        self.used += token.weight\n", "        self.used += 1\n"),
    ("weights count as one in the future", _WINDOW, "        self._used += weight\n", "        self._used += 1\n"),
    ("an old time is used", _FILE, _READ, _READ.replace("()\n", "() - 1e-3\n")),
    (
        "an old time is used after a wait",
        _FILE,
        "                now = self._monotonic()\n                due",
        "                now = self._monotonic() - 1e-3\n                due",
    ),
    ("everybody uses the reserve", _WINDOW, "(lane == RESERVED or self.used_normal + weight <= self.normal)", "True"),
    ("waiters use the reserve", _WINDOW, " or (lane == NORMAL and self._used_normal + weight > window.normal)", ""),
    (
        "the reserve counts against the normal lane",
        _WINDOW,
        "self._used_normal + weight > window.normal",
        "self._used + weight > window.normal",
    ),
    ("binary fractions shrink a share", _WINDOW, "(1 - share) + 1e-9", "(1 - share)"),
    ("normal goes first", _FILE, "{RESERVED: deque(), NORMAL: deque()}", "{NORMAL: deque(), RESERVED: deque()}"),
    (
        "who is in front does not matter",
        _FILE,
        "            if other is waiter:\n                return due, longest\n",
        "            if other is not waiter:\n                continue\n            return due, longest\n",
    ),
    ("a heavy waiter is overtaken", _FILE, "not queues[RESERVED] and (lane == RESERVED or not queues[NORMAL])", "True"),
    ("a reserved waiter is overtaken", _FILE, "not queues[RESERVED] and (lane", "(lane"),
    (
        "one window is enough",
        _FILE,
        "                        if not window.fits(weight, lane, now):\n                            break\n",
        "                        if window.fits(weight, lane, now):\n                            return self._admit_locked(weight, lane, now)\n                        break\n",
    ),
    (
        "only the first window is played",
        _FILE,
        "plays = [Played(window) for window in self._windows]",
        "plays = [Played(window) for window in self._windows[:1]]",
    ),
    ("waits although it is hopeless", _FILE, "if due > deadline:", "if due > deadline and now >= deadline:"),
    ("a penalty is ignored", _FILE, "if now >= self._blocked_until and", "if"),
    ("a penalty is ignored by waiters", _FILE, "due = max(now, self._blocked_until)", "due = now"),
    (
        "a shorter penalty wins",
        _FILE,
        "self._blocked_until = max(self._blocked_until, until)",
        "self._blocked_until = until",
    ),
    (
        "a penalty wakes nobody",
        _FILE,
        "        for waiter in itertools.chain(*self._queues.values()):\n            self._wake_locked(waiter)\n",
        "        pass\n",
    ),
    (
        "a waiter that leaves wakes nobody",
        _FILE,
        "                queue.remove(waiter)\n            self._wake_next_locked()\n",
        "                queue.remove(waiter)\n",
    ),
    (
        "a place given back wakes nobody",
        _FILE,
        "            window.remove(token)\n        self._wake_next_locked()\n",
        "            window.remove(token)\n",
    ),
    (
        "a place is given back twice",
        _WINDOW,
        "                return\n        self._leave",
        "                pass\n        self._leave",
    ),
    (
        "another limiter's place is given back",
        _FILE,
        "        if token.owner is not self:\n            return",
        "        if token.owner is None:\n            return",
    ),
    (
        "an interrupted waiter stays in the queue",
        _FILE,
        "                queue.remove(waiter)\n",
        "                if __import__('sys').exc_info()[0] is not KeyboardInterrupt:\n                    queue.remove(waiter)\n",
    ),
    ("a hair's breadth of a wait", _FILE, "max(due - now, _SHORTEST_WAIT)", "due - now"),
    ("history is out of order", _WINDOW, '        self.log = deque(sorted(self.log, key=attrgetter("at")))\n', ""),
    (
        "a send time in the future lasts longer",
        _FILE,
        'max(0.0, config.number("ages", age))',
        'config.number("ages", age)',
    ),
    ("a share is rounded down", _FILE, "math.ceil(amount * share - 1e-9)", "int(amount * share)"),
    ("an impossible weight waits for ever", _FILE, "        if weight > most:\n", "        if weight > self.limit:\n"),
    (
        "waits under another lock",
        _FILE,
        "waiter.condition = threading.Condition(self._lock)",
        "waiter.condition = threading.Condition()",
    ),
    (
        "no lock in acquire",
        _FILE,
        "        with self._lock:\n            if self._inside:\n                raise self._entered_twice()\n            self._inside = True\n            try:\n                # Read",
        "        with contextlib.nullcontext():\n            try:\n                # Read",
    ),
    ("an older answer lowers the count", _FILE, "            if missing > 0:\n", "            if missing:\n"),
    ("a smaller limit of the server is not believed", _FILE, " + max(0, window.limit - theirs)", ""),
    ("what a smaller limit leaves is not believed", _FILE, "max(theirs, window.limit) - config", "theirs - config"),
    ("a larger limit of the server is not known", _FILE, "max(theirs, window.limit) - config", "window.limit - config"),
    (
        "what others used takes the reserve",
        _FILE,
        "Token(now, missing, NORMAL, self)",
        "Token(now, missing, RESERVED, self)",
    ),
    (
        "an observation wakes nobody",
        _FILE,
        "NORMAL, self)])\n                self._wake_next_locked()\n",
        "NORMAL, self)])\n",
    ),
    (
        "a child inherits the lock",
        _FILE,
        "        self._lock = threading.RLock()\n        self._inside = False\n        for queue",
        "        for queue",
    ),
    ("a child inherits the waiters", _FILE, "            queue.clear()\n", "            pass\n"),
    (
        "a signal handler is admitted in the middle of an admission",
        _FILE,
        "            if self._inside:\n                raise self._entered_twice()\n            self._inside = True\n            try:\n                # Read",
        "            self._inside = True\n            try:\n                # Read",
    ),
    (
        "a signal handler changes what is being changed",
        _FILE,
        "            if self._inside:\n                raise self._entered_twice()\n            self._inside = True\n            try:\n                return step()",
        "            self._inside = True\n            try:\n                return step()",
    ),
    (
        "Ctrl-C leaves somebody inside",
        _FILE,
        "            try:\n                return step()\n            finally:\n                self._inside = False\n",
        "            result = step()\n            self._inside = False\n            return result\n",
    ),
    (
        "who waits keeps the others out",
        _FILE,
        "                self._inside = False  # while the others have the lock\n",
        "",
    ),
    (
        "who has waited is not alone",
        _FILE,
        "                finally:\n                    self._inside = True\n",
        "                finally:\n                    pass\n",
    ),
    ("two limits for the same seconds", _WINDOW, "if len({per for _, per in pairs}) < len(pairs):", "if False:"),
]
