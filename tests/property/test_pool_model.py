"""The pool against a model of a few lists, on a clock that stands still between the rules."""

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hireliab.errors import PoolCreateError, PoolDeadlockError, PoolDownError, PoolStoppedError, PoolTimeoutError
from hireliab.exchange import _pool_backoff
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.testing import FakeClock


class Client:
    def __init__(self):
        self.closed = 0

    def work(self, error):
        if error is not None:
            raise error

    def close(self):
        self.closed += 1


class PoolMachine(RuleBasedStateMachine):
    """
    Model: `idle` (coldest first, with the time of last use), `held`, the set of all clients, a status, and how often
    the factory failed in a row.
    """

    @initialize(low=st.integers(0, 3), more=st.integers(0, 3))
    def build(self, low, more):
        self.clock = FakeClock()
        self.low, self.high = low, max(1, low + more)
        self.made, self.fail = [], False
        config = {"min_connections": low, "max_connections": self.high, "idle_timeout": 60, "connection_timeout": 0}
        self.pool = ConnectionPool(name="m", create_client_func=self.make, config=config, clock=self.clock)
        self.pool._tended = float("inf")  # upkeep only when a rule asks for it
        self.idle, self.held, self.given_up, self.dead = [], [], [], []
        self.status = "new"
        self.failures, self.rests_until = 0, 0.0
        self.random, _pool_backoff.random.random = _pool_backoff.random.random, lambda: 1.0

    def make(self):
        if self.fail:
            self.rests_until = self.clock.monotonic() + min(30.0, 0.05 * 2**self.failures)
            self.failures += 1
            raise OSError("down")
        self.failures = 0
        self.made.append(Client())
        return self.made[-1]

    def rests(self):
        return self.failures > 0 and self.clock.monotonic() < self.rests_until

    def expected(self):
        """What an acquire gives now: an error class, a client of the model, or None for a new one."""
        if self.status == "stopped":
            return PoolStoppedError
        if self.idle:
            return self.idle[-1][0]
        if len(self.held) >= self.high:
            return PoolTimeoutError
        if self.rests():
            return PoolTimeoutError if self.held else PoolDownError
        return PoolCreateError if self.fail else None

    @rule()
    def acquire(self):
        want = self.expected()
        if self.status == "new":
            self.status = "running"
        if isinstance(want, type):
            with pytest.raises(want):
                self.pool.acquire()
            return
        lease = self.pool.acquire()
        if want is None:
            assert lease.client is self.made[-1]
        else:
            assert lease.client is want
            self.idle.pop()
        self.held.append(lease)

    @rule(error=st.sampled_from([None, ValueError(), ConnectionResetError(), KeyboardInterrupt()]))
    def execute(self, error):
        want = self.expected()
        if self.status == "new":
            self.status = "running"
        count = len(self.made)
        raised = None
        try:
            self.pool.execute("work", error)
        except BaseException as caught:
            raised = caught
        if isinstance(want, type):
            assert type(raised) is want
            return
        assert raised is error
        client = self.made[-1] if want is None else want
        assert len(self.made) == count + (want is None)
        if want is not None:
            self.idle.pop()
        if error is None or isinstance(error, ValueError):
            self.idle.append((client, self.clock.monotonic()))
        else:
            self.dead.append(client)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), broken=st.booleans())
    def give_back(self, data, broken):
        lease = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        client = lease.client
        if broken:
            lease.discard()
        else:
            lease.release()
        if broken or client in self.given_up:
            self.dead.append(client)
        else:
            self.idle.append((client, self.clock.monotonic()))

    @precondition(lambda self: self.held)
    @rule()
    def drop_a_lease(self):
        client = self.held.pop().client
        self.pool._evict()
        self.pool._tended = float("inf")
        self.evict()
        self.dead.append(client)

    @precondition(lambda self: self.held and len(self.held) == self.high)
    @rule()
    def wait_for_oneself(self):
        with pytest.raises(PoolDeadlockError if self.status != "stopped" else PoolStoppedError):
            self.pool.acquire(timeout=None)

    @precondition(lambda self: self.status != "stopped")
    @rule()
    def invalidate(self):
        self.pool.invalidate_all()
        self.dead.extend(client for client, _ in self.idle)
        self.idle = []
        self.given_up.extend(lease.client for lease in self.held)

    @rule(seconds=st.sampled_from([0.04, 1, 30, 61]))
    def pass_time(self, seconds):
        self.clock.advance(seconds)

    def evict(self):
        now = self.clock.monotonic()
        for item in list(self.idle):
            if now - item[1] >= 60 and len(self.idle) + len(self.held) > self.low:
                self.idle.remove(item)
                self.dead.append(item[0])

    @rule()
    def tend(self):
        rested = self.rests()
        self.pool._tend()
        self.pool._tended = float("inf")
        if self.status == "stopped":
            return
        self.evict()
        if self.status == "running" and not self.fail and not rested:
            self.refill(self.low)

    def refill(self, most):
        count = max(0, min(most, self.low - len(self.idle) - len(self.held)))
        fresh = self.made[len(self.made) - count :]
        self.idle.extend((client, self.clock.monotonic()) for client in fresh)

    @rule()
    def start(self):
        if self.pool._state.filled:
            self.pool.initialize()
            return
        size = len(self.idle) + len(self.held)
        if self.fail and self.low > size and size == 0:
            with pytest.raises(PoolCreateError):
                self.pool.initialize()
            self.status = "running" if self.status == "running" else "new"
            return
        self.pool.initialize()
        self.status = "running"
        if not self.fail:
            self.refill(1)  # connection_timeout 0: one is made here, the rest in the background

    @rule()
    def stop(self):
        report = self.pool.stop(timeout=0)
        if self.status != "stopped":
            assert (report.closed, report.left) == (len(self.idle), len(self.held))
        self.dead.extend(client for client, _ in self.idle)
        self.idle = []
        self.given_up.extend(lease.client for lease in self.held)
        self.status = "stopped"

    @rule(fail=st.booleans())
    def the_other_side(self, fail):
        self.fail = fail

    @invariant()
    def agrees(self):
        if not hasattr(self, "pool"):
            return
        stats = self.pool.stats()
        assert (stats.idle, stats.in_use, stats.size) == (
            len(self.idle),
            len(self.held),
            len(self.idle) + len(self.held),
        )
        assert (stats.waiting, stats.creating, stats.status) == (0, 0, self.status)
        assert stats.down == (self.failures > 0)
        assert stats.size <= self.high
        assert stats.created == len(self.made) == stats.size + stats.discarded
        assert [entry.client for entry in self.pool._state.idle] == [client for client, _ in self.idle]
        closed = [client for client in self.made if client.closed]
        assert {id(client) for client in closed} == {id(client) for client in self.dead}
        assert all(client.closed == 1 for client in closed)

    def teardown(self):
        if hasattr(self, "pool"):
            self.pool.stop(timeout=0)
            _pool_backoff.random.random = self.random


PoolMachine.TestCase.settings = settings(
    derandomize=True, max_examples=60, stateful_step_count=40, deadline=None, database=None
)
TestPoolModel = PoolMachine.TestCase
