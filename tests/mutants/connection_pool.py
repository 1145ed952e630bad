"""Breakages of the connection pool; each must be caught by a test."""

_POOL = "hireliab/exchange/connection_pool.py"
_STATE = "hireliab/exchange/_pool_state.py"
_KEEPER = "hireliab/exchange/_pool_housekeeper.py"
_DISCARD = "hireliab/exchange/_discard.py"
_LEASE = "hireliab/exchange/_pool_lease.py"

MUTANTS = [
    ("fifo instead of lifo", _STATE, "entry = self.idle.pop()", "entry = self.idle.pop(0)"),
    ("one client too many", _STATE, "len(self.creating) < self.config.max_connections", "len(self.creating) <= self.config.max_connections"),
    ("creations do not count", _STATE, "elif len(self.entries) + len(self.creating) < self.config.max", "elif len(self.entries) < self.config.max"),
    ("the last waiter first", _STATE, "claim = self.waiting[0]()", "claim = self.waiting[-1]()"),
    ("a failed creation wakes nobody", _STATE, "        claim.slot = None\n        self.serve_locked(now)\n        self._changed_locked()", "        claim.slot = None\n        self._changed_locked()"),
    ("a returned client wakes nobody", _STATE, "            self.idle.append(entry)\n        self.serve_locked(now)\n        self._changed_locked()", "            self.idle.append(entry)\n        self._changed_locked()"),
    ("a late waiter refuses a client it was given", _STATE, "        if claim.settled():\n            return\n        if refusal is Refusal.TIMEOUT", "        if refusal is Refusal.TIMEOUT"),
    ("an interrupted waiter stays in the queue", _STATE, "        self._unqueue_locked(claim)\n        self.drop_slot_locked", "        self.drop_slot_locked"),
    ("an interrupted waiter keeps its client", _STATE, "        if claim.entry is not None:\n            # A client", "        if claim.touched and claim.entry is not None:\n            # A client"),
    ("an interrupted check lends on", _POOL, "        claim.touched = True  # interrupted", "        claim.touched = False  # interrupted"),
    ("dropped leases are not found", _STATE, "if entry.holder() is None:", "if entry.holder is None:"),
    ("eviction ignores the minimum", _STATE, "if len(self.entries) <= self.config.min_connections:", "if len(self.entries) < 0:"),
    ("eviction at the hot end", _STATE, "for entry in [entry for entry in self.idle if now - entry.idle_since >= limit]:", "for entry in [entry for entry in reversed(self.idle) if now - entry.idle_since >= limit]:"),
    ("use does not count as use", _STATE, "            if used:\n                entry.idle_since = now", "            if not used:\n                entry.idle_since = now"),
    ("expired clients are lent", _STATE, "            if not self._expired(entry, now):\n                return entry", "            return entry"),
    ("expired clients are taken back", _STATE, "if reason is None and self._expired(entry, now):", "if reason is not None and self._expired(entry, now):"),
    ("lifetimes without jitter", _STATE, "_JITTER * random.random()", "0.0 * random.random()"),
    ("stop forgets the waiters", _STATE, "                if not claim.settled():\n                    self._refuse_locked(claim, Refusal.STOPPED)", "                pass"),
    ("a client in use at a stop lives on", _STATE, "            entry.given_up = True", "            entry.given_up = False"),
    ("a client made during a stop is lent", _STATE, "        self.creating.clear()", "        pass"),
    ("a borrower waits for itself in stop", _POOL, "state.in_use_locked(but_by=me) == 0", "state.in_use_locked() == 0"),
    ("self-deadlock is not seen", _STATE, "elif self._mine_alone_locked(claim.owner):", "elif False:"),
    ("any full pool is a deadlock", _STATE, "return all(claim is not None and claim.owner is owner for claim in claims)", "return any(claim is not None and claim.owner is owner for claim in claims)"),
    ("a lease handed over is still mine", _LEASE, "        claim.owner = token()  # handed", "        # handed"),
    ("the same client twice", _STATE, "elif any(entry.client is client for entry in self.entries.values()):", "elif False:"),
    ("an interrupt counts as a failed creation", _POOL, "failed = isinstance(error, Exception)", "failed = True"),
    ("a failed close is raised", _POOL, "        except Exception as error:\n            self._section(_count_close_error)", "        except ZeroDivisionError as error:\n            self._section(_count_close_error)"),
    ("a step may be entered twice", _POOL, "                if state.inside:\n                    raise _ReenteredError", "                pass"),
    ("letters are not read", _POOL, "                while state.mail:", "                while False:"),
    ("every idle client is checked", _POOL, "entry.idle_since < _TRUSTED", "entry.idle_since < 0"),
    ("the deadline does not cover the check", _POOL, "self._section(PoolState.replace_locked, claim, now, late=late)", "self._section(PoolState.replace_locked, claim, now, late=False)"),
    ("the method is looked up too late", _POOL, "        self._check_method(method)\n", ""),
    ("a child keeps the parent's state", _POOL, "        pool._state = PoolState(pool.name, pool.config, Status.STOPPED", "        PoolState(pool.name, pool.config, Status.STOPPED"),
    ("a child lets the parent's clients be collected", _POOL, "        _GRAVEYARD.append(old)\n", ""),
    ("a child resets the parent's client", _STATE, "            claim.entry = None  # it belongs", "            pass  # it belongs"),
    ("the housekeeper dies of a factory", _KEEPER, "        except BaseException:  # a factory", "        except ZeroDivisionError:  # a factory"),
    ("the housekeeper outlives the last pool", _KEEPER, "                post, self._post = self._post, None", "                post = None"),
    ("nobody rings after a discard", _POOL, "            HOUSEKEEPER.ring()  # it may", "            pass  # it may"),
    ("a refusal is judged by its cause", _DISCARD, "    if isinstance(error, RefusedError):\n        return False\n", ""),
    ("a 404 breaks the client", _DISCARD, " or names & _OSERROR_IN_NAME_ONLY", ""),
    ("only the outermost error counts", _DISCARD, "_DEPTH = 10", "_DEPTH = 1"),
    ("Ctrl-C keeps the client", _DISCARD, "    if not isinstance(error, Exception):\n        return True", "    if not isinstance(error, Exception):\n        return False"),
]  # fmt: skip

TESTS = [
    "tests/unit/exchange/test_connection_pool.py",
    "tests/unit/exchange/test_discard.py",
    "tests/unit/exchange/test_pool_threads.py",
    "tests/property/test_pool_model.py",
    "tests/integration/test_pool_fork.py",
]
