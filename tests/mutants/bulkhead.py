"""Breakages of bulkhead and deadline that their tests must notice: (name, file, text that occurs once, replacement)."""

_FILE = "hireliab/core/bulkhead.py"
_DEADLINE = "hireliab/core/deadline.py"
_CLOCK = "hireliab/core/clock.py"

TESTS = [
    "tests/unit/core/test_bulkhead.py",
    "tests/unit/core/test_deadline.py",
    "tests/contract/test_clock.py",
    "tests/unit/core/test_threads.py",
]

MUTANTS = [
    ("one too many", _FILE, "                if self._running < self.max_concurrent:\n                    self._running += 1\n                    taken", "                if self._running <= self.max_concurrent:\n                    self._running += 1\n                    taken"),
    ("Ctrl-C keeps the place", _FILE, "            if taken or (waiter", "            if (waiter"),
    ("the queue is not bounded", _FILE, "len(self._queue) >= self.max_waiting", "False"),
    ("the queue is one too long", _FILE, "len(self._queue) >= self.max_waiting", "len(self._queue) > self.max_waiting"),
    ("last come, first served", _FILE, "waiter = self._queue.popleft()", "waiter = self._queue.pop()"),
    ("a place is freed and not handed over", _FILE, "                waiter.granted = True\n", "                waiter.granted = True\n                self._running -= 1\n"),
    ("a place granted at the last moment is lost", _FILE, "        return waiter.granted\n", "        return False\n"),
    ("an interrupted waiter keeps its place", _FILE, "            if taken or (waiter is not None and waiter.granted):", "            if taken:"),
    ("a waiter that gave up stays in the queue", _FILE, "                self._queue.remove(waiter)\n", "                pass\n"),
    ("a granted waiter is not woken", _FILE, "                waiter.condition.notify()\n", "                pass\n"),
    ("a permit gives back twice", _FILE, "bulkhead, self._bulkhead = self._bulkhead, None", "bulkhead = self._bulkhead"),
    ("the deadline is not respected", _FILE, "timeout = bounded(self.max_wait) or 0.0", "timeout = self.max_wait"),
    ("a passed deadline is a full bulkhead", _FILE, "        check(what)\n", ""),
    ("refusals are not counted", _FILE, "            self._refused += 1\n", ""),
    ("nobody can wait, and nobody says so", _FILE, "if bool(self.max_waiting) != bool(self.max_wait):", "if False:"),
    ("a child keeps the parent's lock", _FILE, '        self._lock = threading.RLock()\n        self._running = 0\n        self._queue = deque()\n\n    # --', '        self._running = 0\n        self._queue = deque()\n\n    # --'),
    ("a child keeps the parent's places", _FILE, '        self._lock = threading.RLock()\n        self._running = 0\n        self._queue = deque()\n\n    # --', '        self._lock = threading.RLock()\n        self._queue = deque()\n\n    # --'),
    ("a parent's permit frees a place that a child never had", _FILE, "            if not self._running:\n", "            if False:\n"),
    ("a wait is longer than a lock can wait", _CLOCK, "None if timeout is None else min(timeout, _LONGEST)", "timeout"),
    ("a lock is waited for longer than it can be", _CLOCK, "min(max(0.0, timeout), _LONGEST)", "max(0.0, timeout)"),
    ("threads are waited for longer than they can be", "hireliab/core/_threads.py", "thread.join(min(max(0.0, deadline - clock.monotonic()), threading.TIMEOUT_MAX))", "thread.join(max(0.0, deadline - clock.monotonic()))"),
    ("an inner deadline extends", _DEADLINE, "if seconds is None or outer[1] - outer[0]() <= seconds:", "if seconds is None:"),
    ("an inner deadline does not shrink", _DEADLINE, "if seconds is None or outer[1] - outer[0]() <= seconds:", "if True:"),
    ("clocks are mixed", _DEADLINE, "if seconds is None or outer[1] - outer[0]() <= seconds:", "if seconds is None or outer[1] - self._monotonic() <= seconds:"),
    ("the deadline outlives its block", _DEADLINE, "            _current.set(limit[2])\n", "            pass\n"),
    ("a timeout is not cut", _DEADLINE, "    return min(timeout, left)\n", "    return timeout\n"),
    ("a timeout is below zero", _DEADLINE, "    left = max(0.0, limit[1] - limit[0]())\n", "    left = limit[1] - limit[0]()\n"),
    ("what is left is below zero", _DEADLINE, "None if left == math.inf else max(0.0, left)", "None if left == math.inf else left"),
    ("nothing left is still something", _DEADLINE, "    if late >= 0:\n", "    if late > 0:\n"),
    ("a decorated function is called too late", _DEADLINE, "                check(what)\n", ""),
]  # fmt: skip
