"""Breakages of the rate limiter that its tests must notice: (name, file, text that occurs once, replacement)."""

_FILE = "hireliab/core/rate_limiter.py"

TESTS = ["tests/unit/core/test_rate_limiter.py", "tests/property/test_limiter_model.py"]

MUTANTS = [
    ("one too many", _FILE, "+ waiter.weight <= self.limit", "+ waiter.weight <= self.limit + 1"),
    ("leaves the window too late", _FILE, "self._log[0].leaves <= now", "self._log[0].leaves < now"),
    ("leaves the window too early", _FILE, "token = Token(now + self.per, waiter", "token = Token(now + self.per * 0.99, waiter"),
    ("weights count as one", _FILE, "self._used[waiter.lane] += waiter.weight", "self._used[waiter.lane] += 1"),
    ("an old time is used", _FILE, "                    now = self._clock.monotonic()\n                    due", "                    now = self._clock.monotonic() - 1e-3\n                    due"),
    ("everybody uses the reserve", _FILE, "        if waiter.lane == _NORMAL and", "        if False and"),
    ("the reserve counts against the normal lane", _FILE, "used[_NORMAL] + waiter.weight", "sum(used.values()) + waiter.weight"),
    ("binary fractions shrink a share", _FILE, "(1 - share) + 1e-9", "(1 - share)"),
    ("normal goes first", _FILE, "{_RESERVED: deque(), _NORMAL: deque()}", "{_NORMAL: deque(), _RESERVED: deque()}"),
    ("who is in front does not matter", _FILE, "            if other is waiter:\n                return due\n", "            if other is not waiter:\n                continue\n            return due\n"),
    ("a heavy waiter is overtaken", _FILE, "        for other in itertools.chain(*self._queues.values()):\n            while", "        for other in (waiter,):\n            while"),
    ("waits although it is hopeless", _FILE, "if due > deadline:", "if due > deadline and now >= deadline:"),
    ("a penalty is ignored", _FILE, "due = max(now, self._blocked_until)", "due = now"),
    ("a shorter penalty wins", _FILE, "max(self._blocked_until, self._clock.monotonic() + seconds)", "self._clock.monotonic() + seconds"),
    ("a penalty wakes nobody", _FILE, "            for waiter in itertools.chain(*self._queues.values()):\n                self._wake_locked(waiter)\n", "            pass\n"),
    ("a waiter that leaves wakes nobody", _FILE, "                    queue.remove(waiter)\n                self._wake_next_locked()\n", "                    queue.remove(waiter)\n"),
    ("a place given back wakes nobody", _FILE, "            self._used[token.lane] -= token.weight\n            self._wake_next_locked()\n", "            self._used[token.lane] -= token.weight\n"),
    ("a place is given back twice", _FILE, "                return  # given back before, or out of the window\n", "                pass\n"),
    ("an interrupted waiter stays in the queue", _FILE, "                    queue.remove(waiter)\n", "                    if __import__('sys').exc_info()[0] is not KeyboardInterrupt:\n                        queue.remove(waiter)\n"),
    ("a hair's breadth of a wait", _FILE, "max(until - now, _SHORTEST_WAIT)", "until - now"),
    ("history is out of order", _FILE, 'deque(sorted((*self._log, *tokens), key=attrgetter("leaves")))', "deque((*self._log, *tokens))"),
    ("a send time in the future lasts longer", _FILE, 'max(0.0, config.number("ages", age))', 'config.number("ages", age)'),
    ("a share is rounded down", _FILE, "math.ceil(amount * share - 1e-9)", "int(amount * share)"),
    ("an impossible weight waits for ever", _FILE, "        if weight > most:\n", "        if weight > self.limit:\n"),
    ("waits under another lock", _FILE, "self.condition = threading.Condition(lock)", "self.condition = threading.Condition()"),
    ("no lock in acquire", _FILE, "        with self._lock:\n            deadline", "        with contextlib.nullcontext():\n            deadline"),
]
