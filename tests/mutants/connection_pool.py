"""Breakages of the connection pool; each must be caught by a test."""

_POOL = "hireliab/exchange/connection_pool.py"
_ENGINE = "hireliab/exchange/_pool_engine.py"
_STATE = "hireliab/exchange/_pool_state.py"
_PHASES = "hireliab/exchange/_pool_phases.py"
_UPKEEP = "hireliab/exchange/_pool_upkeep.py"
_MAKING = "hireliab/exchange/_pool_making.py"
_QUEUE = "hireliab/exchange/_pool_queue.py"
_PICTURE = "hireliab/exchange/_pool_picture.py"
_BACKOFF = "hireliab/exchange/_pool_backoff.py"
_KEEPER = "hireliab/exchange/_pool_housekeeper.py"
_DISCARD = "hireliab/exchange/_discard.py"
_LEASE = "hireliab/exchange/_pool_lease.py"

MUTANTS = [
    # the short way
    ("the short way passes the queue", _POOL, "                and not state.waiting\n                and state.inside is None\n                and now <", "                and state.inside is None\n                and now <"),
    ("the short way runs in the middle of a step", _POOL, "                and state.inside is None\n                and now <", "                and now <"),
    ("the short way lends from a stopped pool", _POOL, "                and state.status is _RUNNING\n                and state.upkeep", "                and state.upkeep"),
    ("the short way lends without a look", _POOL, "                and now < (entry := idle[-1]).trusted", "                and (entry := idle[-1]) is not None"),
    ("the short way lends what is lent", _POOL, "                and entry.holder is None\n            ):\n                entry.holder = me", "            ):\n                entry.holder = me"),
    ("the coldest goes out the short way", _POOL, "now < (entry := idle[-1]).trusted\n                and entry.holder is None\n            ):\n                entry.holder = me\n                lease._entry = entry\n                del idle[-1]", "now < (entry := idle[0]).trusted\n                and entry.holder is None\n            ):\n                entry.holder = me\n                lease._entry = entry\n                del idle[0]"),
    ("a client comes back the short way past the waiters", _LEASE, "                and not state.waiting\n", ""),
    ("a client comes back the short way unreset", _LEASE, "                and state.direct\n", ""),
    ("a doomed client comes back the short way", _LEASE, "                and entry.doom is None\n", ""),
    ("an old client comes back the short way", _LEASE, "                and now < entry.expires\n", ""),
    ("a lease may be released twice", _LEASE, "                and entry.holder is self._ref\n            ):", "            ):"),
    # lending and waiting
    ("fifo instead of lifo", _STATE, "entry = self.idle.pop()", "entry = self.idle.pop(0)"),
    ("one client too many", _STATE, "if len(self.entries) + making >= self.config.max_connections", "if len(self.entries) + making > self.config.max_connections"),
    ("creations do not count", _STATE, "if len(self.entries) + making >= self.config.max_connections", "if len(self.entries) >= self.config.max_connections"),
    ("the last waiter first", _STATE, "            claim = self.waiting[0]()\n            if isinstance(claim, Claim):  # None", "            claim = self.waiting[-1]()\n            if isinstance(claim, Claim):  # None"),
    ("a failed creation wakes nobody", _STATE, "        claim.slot = None\n        self.serve_locked(now)\n        self.changed_locked()", "        claim.slot = None\n        self.changed_locked()"),
    ("a returned client wakes nobody", _STATE, "            self.shelve_locked(entry)\n        self.serve_locked(now)\n        self.changed_locked()\n        return True", "            self.shelve_locked(entry)\n        self.changed_locked()\n        return True"),
    ("a late waiter refuses a client it was given", _STATE, "        if claim.settled():\n            return\n        if refusal is Refusal.TIMEOUT", "        if refusal is Refusal.TIMEOUT"),
    ("an interrupted waiter stays in the queue", _STATE, "        self.unqueue_locked(claim)\n        self.drop_slot_locked", "        self.drop_slot_locked"),
    ("an interrupted waiter keeps its client", _STATE, "        if claim.has_client():\n            # A client", "        if claim.touched and claim.has_client():\n            # A client"),
    ("an interrupted check lends on", _ENGINE, "        claim.touched = True  # interrupted", "        claim.touched = False  # interrupted"),
    ("dropped leases are not found", _STATE, "elif entry.holder() is None:", "elif entry.holder is None:"),
    ("a new client is lent before it is the pool's", _MAKING, "    state.entries[entry.key] = entry  # first: what is lent, or in the index, is always one of them\n    if lend:\n        state.lend_locked(entry, claim)", "    if lend:\n        state.lend_locked(entry, claim)\n    state.entries[entry.key] = entry\n    if lend:\n        pass"),
    ("expired clients are lent", _STATE, "            if now < entry.expires:\n                return entry", "            return entry"),
    ("lifetimes without jitter", _MAKING, "_JITTER * random.random()", "0.0 * random.random()"),
    ("the same client twice", _MAKING, "elif any(entry.client is client for entry in state.entries.values()):", "elif False:"),
    ("the deadline does not cover the check", _POOL, "self._section(PoolState.replace_locked, claim, now, late=late)", "self._section(PoolState.replace_locked, claim, now, late=False)"),
    ("a time-out is not seen", _POOL, "self._section(PoolState.look_again_locked, claim, self._monotonic(), late=late)", "self._section(PoolState.look_again_locked, claim, self._monotonic(), late=False)"),
    ("a failed check says nothing about the others", _STATE, "                entry.checked = entry.trusted = -math.inf", "                pass"),
    # permits and pauses
    ("any number of factories at a time", _STATE, " or making >= permits:", " or making >= 1000:"),
    ("many probes in an outage", _STATE, "permits = 1 if self.backoff.failures else self.config.max_connecting", "permits = self.config.max_connecting"),
    ("a free permit serves nobody", _MAKING, "    state.serve_locked(now)  # a permit is free again\n", ""),
    ("waiters have no patience", _MAKING, "state.patience = now + min(took, _PATIENCE)", "state.patience = now"),
    ("waiters have patience without end", _MAKING, "state.patience = now + min(took, _PATIENCE)", "state.patience = now + 1000.0"),
    ("no pause after a failure", _BACKOFF, "self.until = now + min", "self.until = now + 0.0 * min"),
    ("pauses do not grow", _BACKOFF, "min(self.failures - 1, 10)", "0"),
    ("an outage never ends", _BACKOFF, "self.failures, self.until, self.error = 0, -math.inf, None", "self.until, self.error = -math.inf, None"),
    ("nobody is told that nothing can come back", _STATE, "elif self.backoff.failures and not self.entries and not self.creating:", "elif False:"),
    ("those who could get a client are told that it is down", _STATE, "elif self.backoff.failures and not self.entries and not self.creating:", "elif self.backoff.failures and not self.creating:"),
    ("nobody wakes at the end of a pause", _STATE, "                claim.alarm = alarm\n", "                claim.alarm = None\n"),
    ("a new first in the queue sets no alarm", _STATE, "        self.unqueue_locked(claim)\n        self.serve_locked(now)  # the next", "        self.unqueue_locked(claim)  # the next"),
    ("an interrupt counts as a failed creation", _ENGINE, "        except BaseException:  # Ctrl-C says nothing about the other side\n            self._section(PoolState.drop_slot_locked, claim, self._monotonic())", "        except BaseException as error:  # Ctrl-C says nothing about the other side\n            self._section(making.failed_locked, claim, self._monotonic(), error, None)"),
    ("the refill knows no pause", _MAKING, "(patient and state.may_make_at_locked() > now)", "False"),
    ("a copied error keeps its frames", _ENGINE, "twin = copy.copy(error)", "twin = error.with_traceback(error.__traceback__)"),
    # deadlocks
    ("self-deadlock is not seen", _STATE, "elif stuck(self):", "elif False:"),
    ("a stale hint is a deadlock", _PICTURE, "return all(id(claim._owner) in waiters for claim in holders(state))", "return True"),
    ("a lease handed over is still mine", _LEASE, "        self._owner = this_thread()  # handed", "        # handed"),
    ("a client passed on wakes nobody", _STATE, "            claim.open_gate()\n            if self.waiting and", "            if self.waiting and"),
    ("a client passed on leaves the next without an alarm", _STATE, "            if self.waiting and self.may_make_at_locked() < math.inf:", "            if False:"),
    ("a doomed client is passed on", _STATE, "            and self.direct\n            and entry.doom is None\n", "            and self.direct\n"),
    ("an unreset client is passed on", _STATE, "            and self.direct\n            and entry.doom", "            and entry.doom"),
    ("a client is passed on twice", _STATE, "            and entry.holder is lease._ref\n        ):", "        ):"),
    ("the short way queues beside an idle client", _QUEUE, "        not state.idle\n        and len", "        len"),
    ("the short way queues where there is room", _QUEUE, "        and len(state.entries) >= state.config.max_connections\n", ""),
    ("the short way queues behind dead leases", _QUEUE, "        if lease is None:\n            return False", "        if lease is None:\n            continue"),
    ("the short way sees no deadlock", _QUEUE, "    if not busy:\n        return False\n", ""),
    ("the short way takes its own leases for another's", _QUEUE, "    claim._owner.waits = state  # first", "    # first"),
    ("the short way knows no max_waiting", _QUEUE, " or state.config.max_waiting is not None", ""),
    # start, stop, generations
    ("stop forgets the waiters", _STATE, "                if not claim.settled():\n                    self._refuse_locked(claim, Refusal.STOPPED)", "                pass"),
    ("a client in use at a stop lives on", _PHASES, '        entry.doom = "stop"', "        entry.doom = None"),
    ("a client made during a stop is lent", _PHASES, "    state.creating.clear()", "    pass"),
    ("a borrower waits for itself in stop", _POOL, "phases.in_use_locked(state, but_by=me) == 0", "phases.in_use_locked(state) == 0"),
    ("a killed stop stops for ever", _PHASES, "(state.stopper is None or state.stopper() is None)", "False"),
    ("a killed start starts for ever", _PHASES, "if state.filled or (filler is not None and filler._owner is claim._owner):", "if state.filled or state.filling is not None:"),
    ("idle clients outlive an invalidation", _PHASES, 'closed = _close_idle_locked(state, "generation")', "closed = 0"),
    ("lent clients outlive an invalidation", _PHASES, 'entry.doom = entry.doom or "generation"', "pass"),
    ("clients being made outlive an invalidation", _MAKING, "if claim.generation != state.generation:", "if False:"),
    # upkeep
    ("eviction ignores the minimum", _UPKEEP, "if len(state.entries) <= state.config.min_connections:", "if len(state.entries) < 0:"),
    ("eviction at the hot end", _UPKEEP, "for entry in [entry for entry in state.idle if now - entry.idle_since >= limit]:", "for entry in [entry for entry in reversed(state.idle) if now - entry.idle_since >= limit]:"),
    ("use does not count as use", _LEASE, "entry.idle_since = entry.checked = now", "entry.checked = now"),
    ("a check counts as use", _ENGINE, "state.finish_locked(claim, now, reason, used=False)", "state.finish_locked(claim, now, reason)"),
    ("a check is repeated at every round", _STATE, "            if checked:\n", "            if used:\n"),
    ("clients in use are checked", _UPKEEP, "        if entry.holder is None and now - entry.checked", "        if now - entry.checked"),
    ("checks come too early", _UPKEEP, "(1.0 - _JITTER * random.random())", "0.5"),
    ("a suspended machine goes unnoticed", _UPKEEP, "state.offset - before > _ASLEEP", "False"),
    ("a clock set back is a suspended machine", _UPKEEP, "state.offset - before > _ASLEEP", "abs(state.offset - before) > _ASLEEP"),
    ("a leak is reported again and again", _UPKEEP, "            lease._taken = None  # once per lease\n", ""),
    ("leaks are not reported", _UPKEEP, "now - taken[0] >= limit", "now - taken[0] >= 1000 * limit"),
    ("the place of a leak is inside the pool", _UPKEEP, "        if not module.startswith", "        if module or not module.startswith"),
    ("the housekeeper dies of a factory", _KEEPER, "        except BaseException:  # a factory", "        except ZeroDivisionError:  # a factory"),
    ("the housekeeper outlives the last pool", _KEEPER, "                post, self._post = self._post, None", "                post = None"),
    ("a late round drops the pool's next life", _KEEPER, "if other is not ref]", "if other() is not pool]"),
    ("nobody rings after a discard", _ENGINE, "            HOUSEKEEPER.ring()  # it may", "            pass  # it may"),
    # around it
    ("a failed close is raised", _ENGINE, "        except Exception as error:\n            self._section(_count_close_error)", "        except ZeroDivisionError as error:\n            self._section(_count_close_error)"),
    ("a step may be entered twice", _ENGINE, "                if state.inside:\n                    raise ReenteredError", "                pass"),
    ("letters are not read", _ENGINE, "                while state.mail:", "                while False:"),
    ("listeners hear nothing", _ENGINE, "                if state.listeners:\n", "                if False:\n"),
    ("the user's word does not count", _ENGINE, "            if verdict is not None:", "            if False:"),
    ("the user is asked about Ctrl-C", _ENGINE, "if is_broken is not None and isinstance(error, Exception):", "if is_broken is not None:"),
    ("the method is looked up too late", _POOL, "            self._check_method(method)\n        lease", "            pass\n        lease"),
    ("a result that escapes goes unnoticed", _POOL, "if kind not in self._warned and uses_client(client, result):", "if False:"),
    ("a child keeps the parent's state", _ENGINE, "        self._state = self._new_state(Status.STOPPED if stopped", "        self._new_state(Status.STOPPED if stopped"),
    ("a child lets the parent's clients be collected", _ENGINE, "        _bury(old)\n", ""),
    ("a parent's lease is valid in the child", _ENGINE, '            entry.holder, entry.doom = gone, "fork"', "            pass"),
    ("a refusal is judged by its cause", _DISCARD, "    if isinstance(error, RefusedError):\n        return False\n", ""),
    ("what was not sent broke the client", _DISCARD, " or (isinstance(link, NotSentError) and not isinstance(link, ConnectError))", ""),
    ("a 404 breaks the client", _DISCARD, " or names & _OSERROR_IN_NAME_ONLY", ""),
    ("only the outermost error counts", _DISCARD, "_DEPTH = 10", "_DEPTH = 1"),
    ("Ctrl-C keeps the client", _DISCARD, "    if not isinstance(error, Exception):\n        return True", "    if not isinstance(error, Exception):\n        return False"),
]  # fmt: skip

TESTS = [
    "tests/unit/exchange/test_discard.py",
    "tests/unit/exchange/test_connection_pool.py",
    "tests/unit/exchange/test_connection_pool_upkeep.py",
    "tests/property/test_pool_model.py",
    "tests/unit/exchange/test_pool_cases.py",
    "tests/unit/exchange/test_pool_cases_down.py",
    "tests/unit/exchange/test_pool_cases_time.py",
    "tests/unit/exchange/test_pool_cases_clients.py",
    "tests/unit/exchange/test_pool_cases_interrupts.py",
    "tests/unit/exchange/test_pool_threads.py",
    "tests/integration/test_pool_fork.py",
]
