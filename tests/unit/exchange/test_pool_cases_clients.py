"""Cases 14, 23 and 24 of test_pool_cases.py: odd clients, loggers and hooks that call back, results that run away."""

import functools
import http.client
import inspect
import io
import logging
import random
import sys
import tracemalloc
from unittest.mock import MagicMock, Mock, NonCallableMock

import pytest
import requests
import urllib3

from hireliab.errors import ConfigError, PoolError, PoolStoppedError, PoolTimeoutError
from hireliab.exchange._pool_escape import uses_client
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.testing import FakeClock
from tests.support.pools import Gate, Maker, cheap_collections, full_capacity, other_thread
from tests.support.together import Background


@pytest.fixture
def make():
    return Maker()


# -- closing (14) ---------------------------------------------------------------------------------------------------


class NoClose:
    def work(self):
        return 7


class OddClose(NoClose):
    close = 3


class SilentClose(NoClose):
    close = None


@pytest.mark.parametrize(("kind", "errors"), [(NoClose, 0), (SilentClose, 0), (OddClose, 1), (object, 0), (dict, 0)])
def test_a_client_without_a_close_is_given_up_quietly(pool_of, kind, errors):
    pool = pool_of(kind)
    pool.acquire().discard()
    assert (pool.stats().size, pool.stats().close_errors) == (0, errors)


def test_a_close_that_hangs_holds_up_only_its_own_caller(pool_of):
    gate = Gate()
    pool = pool_of(max_connections=2, close_func=gate.pass_through)
    closing = Background(pool.acquire().discard)
    gate.wait()
    for _ in range(3):
        pool.execute("work")
        pool.stats()
    gate.open.set()
    closing.result()


def test_whatever_happens_to_a_client_it_is_closed_once(pool_of, clock, make):
    rng = random.Random(14)
    pool = pool_of(max_connections=3, min_connections=1, idle_timeout=20, max_lifetime=50, reset_func=lambda client: 1)
    leases = []
    for _ in range(1500):
        choice = rng.randrange(9)
        try:
            if choice < 3:
                leases.append(pool.acquire(timeout=0))
            elif choice < 6 and leases:
                lease = leases[rng.randrange(len(leases))]  # perhaps given back before
                rng.choice([lease.release, lease.discard])()
                if rng.random() < 0.7:
                    leases.remove(lease)
            elif choice == 6:
                clock.advance(rng.random() * 15)
                pool._tend()
            elif choice == 7 and rng.random() < 0.2:
                pool.stop(timeout=0)
            elif choice == 8:
                pool.initialize()
        except (PoolTimeoutError, PoolStoppedError):
            pass
        assert max((client.closed for client in make.made), default=0) <= 1
    for lease in leases:
        lease.release()
    pool.stop(timeout=0)
    assert {client.closed for client in make.made} == {1}


# -- hostile clients (23) -------------------------------------------------------------------------------------------


class YesMan:
    """Answers to every name."""

    def __init__(self):
        self.__dict__["asked"] = []

    def __getattr__(self, name):
        self.asked.append(name)
        return lambda *args, **kwargs: name


class Slotted:
    __slots__ = ()

    def work(self):
        return "slotted"


class FalseAndUnhashable:
    __hash__ = None

    def __bool__(self):
        return False

    def __eq__(self, other):
        raise AssertionError("compared")

    def __len__(self):
        raise AssertionError("measured")

    def work(self):
        return "odd"


class Impostor:
    """Says that it is something else, and that it is equal to everything."""

    __class__ = dict

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 1

    def work(self):
        return "impostor"


class LastWords:
    def work(self):
        return "dying"

    def __del__(self):
        raise AssertionError("finaliser")


def test_a_client_that_answers_to_every_name_is_asked_for_what_is_needed_only(pool_of):
    pool = pool_of(YesMan, max_connections=2)
    assert pool.execute("fetch_anything", 1, two=2) == "fetch_anything"
    with pool.connection() as client:
        assert client.asked == ["fetch_anything"]  # not entered, compared or measured by its own methods
    pool.stop()
    assert client.asked == ["fetch_anything", "close"]
    assert pool.stats().close_errors == 0


@pytest.mark.parametrize("kind", [Slotted, FalseAndUnhashable, Impostor])
def test_an_odd_client_is_lent_told_apart_and_closed(pool_of, clock, kind):
    closed = []
    pool = pool_of(kind, max_connections=3, close_func=closed.append, max_lifetime=100)
    with pool.connection() as one, pool.connection() as other:
        assert one is not other
        assert pool.execute("work") == kind.work(one)
    clock.advance(101)
    pool._tend()
    assert len({id(client) for client in closed}) == len(closed) == 3
    assert pool.stats().size == 0


@pytest.mark.parametrize("kind", [Mock, MagicMock, functools.partial(NonCallableMock, spec=["fetch", "close"])])
def test_a_mock_is_a_client(pool_of, kind):
    mocks = []

    def factory():
        mocks.append(kind())
        return mocks[-1]

    pool = pool_of(factory, max_connections=2)
    pool.execute("fetch", "BTC/USDT", timeout=3)
    with pool.connection(), pool.connection():
        pass
    pool.stop()
    mocks[0].fetch.assert_called_once_with("BTC/USDT", timeout=3)
    assert len(mocks) == 2
    for mock in mocks:
        mock.close.assert_called_once_with()


def test_a_client_whose_every_attribute_raises_harms_only_its_own_call(pool_of):
    class Locked:
        def __getattribute__(self, name):
            raise ValueError(f"no {name} for you")

    pool = pool_of(Locked, max_connections=1)
    for _ in range(3):
        with pytest.raises(ValueError, match="no work for you"):
            pool.execute("work")
    assert pool.stats().in_use == 0
    assert repr(pool)
    pool.stop()
    assert pool.stats().close_errors == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_client_whose_finaliser_raises_is_replaced_like_any_other(pool_of, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", lambda caught: None)
    pool = pool_of(LastWords, max_connections=1)
    for _ in range(3):
        assert pool.execute("work") == "dying"
        pool.acquire().discard()
    assert pool.stats().size == 0


def test_small_numbers_and_texts_are_clients_too(pool_of):
    answers = ["one", 2, (), b"four"]
    pool = pool_of(answers.pop, max_connections=4)
    leases = [pool.acquire() for _ in range(4)]
    assert [lease.client for lease in leases] == [b"four", (), 2, "one"]
    for lease in leases:
        lease.discard()
    assert pool.stats().close_errors == 0


# -- logging and hooks that call back (23) ----------------------------------------------------------------------------


class CallingHandler(logging.Handler):
    """A log handler that uses the pool, like one that sends its lines through the pool's clients."""

    def __init__(self, act):
        super().__init__()
        self.act = act
        self.count = 0
        self.inside = False

    def emit(self, record):
        self.count += 1
        if self.inside:
            return  # its own lines
        self.inside = True
        try:
            self.act()
        finally:
            self.inside = False


@pytest.fixture
def handler_of():
    logger = logging.getLogger("hireliab.pool")
    added = []
    level = logger.level
    logger.setLevel(logging.DEBUG)

    def add(act):
        added.append(CallingHandler(act))
        logger.addHandler(added[-1])
        return added[-1]

    yield add
    logger.setLevel(level)
    for handler in added:
        logger.removeHandler(handler)


def noisy(pool, clock, make):
    """Everything that makes the pool log."""
    pool.initialize()
    pool.acquire().discard("odd answer")
    lease = pool.acquire()
    lease.release()
    lease.release()
    clock.advance(2)
    make.errors = [OSError("down")]
    try:
        pool.execute("work")
    except PoolError:
        pass
    make.errors = [OSError("down")]
    pool._tend()
    make.errors = []
    clock.advance(100)  # any pause after a failure is over
    lease = other_thread(pool.acquire)
    pool.stop(timeout=0)
    lease.release()


def raising(*_):
    raise ValueError("a hook of the user")


@pytest.mark.parametrize("act", ["uses", "discards", "stops", "asks"])
def test_a_log_handler_may_use_the_pool_that_is_logging(pool_of, clock, make, handler_of, act):
    pool = pool_of(max_connections=3, min_connections=2, validate_func=raising, reset_func=raising, close_func=raising)

    def do():
        try:
            if act == "uses":
                pool.execute("work")
            elif act == "discards":
                pool.acquire(timeout=0).discard()
            elif act == "stops":
                pool.stop(timeout=0)
            else:
                pool.stats()
        except PoolError:
            pass

    handler = handler_of(do)
    try:
        noisy(pool, clock, make)
    except PoolError:
        assert act == "stops"
    assert handler.count
    logging.getLogger("hireliab.pool").removeHandler(handler)
    pool.stop(timeout=0)
    make.errors = []
    clock.advance(100)
    pool.initialize()
    full_capacity(pool, 3)


def test_a_log_handler_that_raises_loses_no_client(pool_of, clock, make, handler_of):
    pool = pool_of(max_connections=2, close_func=raising, reset_func=raising)

    def fail():
        raise ZeroDivisionError

    handler_of(fail)
    for _ in range(5):
        lease = pool.acquire()
        for end in (lease.release, lease.release, lease.discard):
            try:
                end()
            except ZeroDivisionError:
                pass
        assert pool.stats().in_use == 0
    full = [pool.acquire(timeout=0) for _ in range(2)]
    assert pool.stats().size == 2
    del full


@pytest.mark.parametrize("hook", ["validate_func", "reset_func", "close_func"])
def test_a_hook_may_borrow_from_its_own_pool(pool_of, clock, make, hook):
    def use(client):
        seen.append(client)
        if len(seen) < 10:
            pool.execute("work")
        return True

    seen = []
    pool = pool_of(max_connections=3, **{hook: use})
    for _ in range(5):
        pool.execute("work")
        clock.advance(2)
        pool.execute("work")
        pool.acquire().discard()
    assert seen
    seen.extend([None] * 10)
    full_capacity(pool, 3)


def test_a_listener_may_use_the_pool_and_hears_of_that_too(pool_of, make):
    pool = pool_of(max_connections=2)
    heard = []

    def listener(event):
        heard.append((event.pool, event.kind, event.reason))
        if len(heard) < 5:
            pool.execute("work")
            pool.acquire().discard()

    pool.add_listener(listener)
    pool.execute("work")
    pool.acquire().discard()
    kinds = [kind for _, kind, _ in heard]
    stats = pool.stats()
    assert kinds.count("created") == stats.created
    assert kinds.count("discarded") == stats.discarded
    assert {pool for pool, _, _ in heard} == {"p"}
    assert ("p", "discarded", "broken") in heard
    full_capacity(pool, 2)


def test_a_listener_that_raises_is_logged_once_and_the_others_hear_the_rest(pool_of, caplog):
    pool = pool_of(max_connections=2)
    heard = []
    pool.add_listener(raising)
    pool.add_listener(heard.append)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            pool.acquire().discard()
    assert [record.message.count("listener raising raised") for record in caplog.records] == [1]
    assert [event.kind for event in heard] == ["created", "discarded"] * 5
    pool.remove_listener(raising)
    pool.remove_listener(heard.append)
    pool.acquire().discard()
    assert len(heard) == 10


def test_a_listener_hears_of_time_outs_and_full_queues(pool_of, clock):
    pool = pool_of(max_connections=1, max_waiting=0)
    heard = []
    pool.add_listener(heard.append)
    lease = other_thread(pool.acquire)
    for timeout in (0, 1):
        with pytest.raises(PoolError):
            pool.acquire(timeout=timeout)
    assert [(event.kind, event.reason) for event in heard] == [
        ("created", None),
        ("exhausted", "timeout"),
        ("exhausted", "full"),
    ]
    lease.release()


# -- memory (23) ----------------------------------------------------------------------------------------------------


class ImpatientClock(FakeClock):
    """Every wait is over at once."""

    def acquire(self, lock, timeout=None):
        if lock.acquire(blocking=False):
            return True
        self.advance(timeout)
        return False


@pytest.mark.parametrize("timeout", [0, 5], ids=["not waiting", "waiting"])
def test_thousands_of_time_outs_leave_no_memory_behind(timeout):
    pool = ConnectionPool(
        name="p",
        create_client_func=Maker(),
        config={"min_connections": 0, "max_connections": 1},
        clock=ImpatientClock(),
    )
    gate = Gate()

    def hold():
        with pool.connection():
            gate.pass_through()

    holder = Background(hold)
    gate.wait()

    def time_outs(count):
        for _ in range(count):
            try:
                pool.acquire(timeout=timeout)
            except PoolTimeoutError:
                continue
            raise AssertionError("acquired")

    with cheap_collections():
        time_outs(2000)
        before = sys.getallocatedblocks()
        time_outs(5000)
        assert sys.getallocatedblocks() - before < 500
        tracemalloc.start()
        try:
            time_outs(100)
            low, _ = tracemalloc.get_traced_memory()
            time_outs(500)
            high, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert high - low < 10_000
    assert pool.stats().timeouts == 7600
    gate.open.set()
    holder.result()
    full_capacity(pool, 1)
    pool.stop()


# -- results that run away (24) -------------------------------------------------------------------------------------


class Runaway:
    """Methods whose result needs the client after they returned."""

    def __init__(self):
        self.name = "no method"

    def rows(self):
        yield 1

    async def later(self):
        return 1

    async def later_rows(self):
        yield 1

    def method(self):
        return self.rows

    def myself(self):
        return self

    def stream(self):
        response = requests.Response()
        response.raw = MagicMock(name="raw", closed=False)
        return response

    def whole(self):
        response = requests.Response()
        response._content = b"{}"
        response._content_consumed = True
        response.raw = MagicMock(name="raw", closed=True)
        return response

    def plain(self):
        return {"rows": [1, 2, 3], "text": "x"}

    def listed(self):
        return iter([1, 2])

    def close(self):
        pass

    def echo(self, /, *args, **kwargs):
        return args, kwargs


@pytest.mark.parametrize("method", ["rows", "later", "later_rows", "method", "myself", "stream"])
def test_a_result_that_still_needs_the_client_is_warned_of_once_and_passed_on(pool_of, caplog, method):
    pool = pool_of(Runaway)
    with caplog.at_level(logging.WARNING, "hireliab.pool"):
        results = [pool.execute(method) for _ in range(3)]
    for result in results:
        if inspect.iscoroutine(result):
            result.close()
    assert caplog.text.count("connection()") == 1
    assert method in caplog.text
    assert pool.stats().idle == 1
    if method == "rows":
        assert list(results[0]) == [1]


class Awaitable:
    def __await__(self):
        yield


class Unaskable:
    @property
    def __class__(self):
        raise ValueError("do not ask")


def http_response(fp):
    response = http.client.HTTPResponse.__new__(http.client.HTTPResponse)
    response.fp = fp
    return response


@pytest.mark.parametrize(
    ("result", "needs"),
    [
        (lambda client: client, True),
        (lambda client: client.rows, True),
        (lambda client: functools.partial(client.echo, 1), True),
        (lambda client: client.rows(), True),
        (lambda client: client.later_rows(), True),
        (lambda client: Awaitable(), True),
        (lambda client: client.stream(), True),
        (lambda client: http_response(io.BytesIO(b"x")), True),
        (lambda client: urllib3.HTTPResponse(body=io.BytesIO(b"x"), preload_content=False), True),
        (lambda client: http_response(None), False),
        (lambda client: urllib3.HTTPResponse(body=b"x"), False),
        (lambda client: client.whole(), False),
        (lambda client: Runaway().rows, False),
        (lambda client: Runaway, False),
        (lambda client: len, False),
        (lambda client: [].append, False),
        (lambda client: io.BytesIO(b"a file"), False),
        (lambda client: Unaskable(), False),
        (lambda client: YesMan(), False),
        (lambda client: MagicMock(), False),
        (lambda client: {"a": 1}, False),
    ],
)
def test_what_needs_its_client_is_told_from_what_does_not(result, needs):
    client = Runaway()
    assert uses_client(client, result(client)) is needs


@pytest.mark.parametrize("method", ["plain", "whole", "listed"])
def test_a_result_that_stands_on_its_own_is_not_warned_of(pool_of, caplog, method):
    pool = pool_of(Runaway)
    with caplog.at_level(logging.WARNING, "hireliab.pool"):
        pool.execute(method)
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["name", "nam", "__init__", "_x", "", "a.b", "plain()", "plain ", b"plain", 3, None])
def test_what_is_no_method_is_refused_and_costs_no_client(pool_of, name):
    pool = pool_of(Runaway, max_connections=1)
    pool.execute("plain")
    with pytest.raises(ConfigError):
        pool.execute(name)
    assert (pool.stats().idle, pool.stats().discarded) == (1, 0)


def test_every_keyword_reaches_the_client(pool_of):
    pool = pool_of(Runaway)
    words = {"timeout": 1, "self": 2, "method": 3, "name": 4, "args": 5, "kwargs": 6, "lease": 7, "pool": 8, "error": 9}
    assert pool.execute("echo", 0, **words) == ((0,), words)
