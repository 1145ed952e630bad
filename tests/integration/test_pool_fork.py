"""A forked child starts afresh, and never touches a client of its parent. Real processes and sockets."""

import os
import socket
import threading
import warnings

import pytest

from hireliab.errors import ClosedError, PoolStoppedError
from hireliab.exchange.connection_pool import ConnectionPool
from tests.support.together import in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


class Client:
    """Owns one end of a socket pair, like a session owns its connection, and says goodbye when closed or collected."""

    def __init__(self):
        self.near, self.far = socket.socketpair()
        self.pid = os.getpid()

    def ping(self):
        return self.pid

    def close(self):
        self.near.send(b"bye")
        self.near.close()
        self.far.close()

    def goodbyes(self):
        self.far.setblocking(False)
        try:
            return self.far.recv(100)
        except BlockingIOError:
            return b""

    def __del__(self):
        if self.near.fileno() != -1:
            self.close()


@pytest.fixture
def pool():
    config = {"min_connections": 1, "max_connections": 2, "connection_timeout": 5, "max_lifetime": 1000}
    pool = ConnectionPool(name="fork", create_client_func=Client, config=config)
    pool.initialize()
    yield pool
    pool.stop()


def test_a_child_makes_its_own_clients_and_the_parents_stay_usable(pool):
    with pool.connection() as client:

        def check():
            fresh = pool.stats().size == 0 and pool.stats().status == "new"
            mine = pool.execute("ping") == os.getpid()
            pool.stop()
            pool.initialize()
            return fresh and mine and pool.execute("ping") == os.getpid()

        in_child(check)
        assert client.goodbyes() == b""
    assert pool.execute("ping") == os.getpid()


def test_a_lease_of_the_parent_is_refused_and_harmless_in_the_child(pool):
    resets = []
    lease = pool.acquire()

    object.__setattr__(pool.config, "reset_func", resets.append)

    def check():
        with pytest.raises(ClosedError):
            lease.client
        lease.release()
        lease.discard()
        return pool.stats().size == 0 and resets == []

    in_child(check)
    assert lease.client.goodbyes() == b""
    lease.release()
    assert pool.stats().idle == 1


def test_a_fork_inside_a_call_gives_nothing_of_the_parent_back(pool):
    seen = []

    def both():
        in_child(lambda: pool.stats().in_use == 0)
        seen.append(1)

    with pool.connection() as client:
        both()
        assert client.goodbyes() == b""
    assert seen == [1]


def test_a_child_is_not_stuck_on_a_lock_that_another_thread_of_the_parent_held(pool):
    held, done = threading.Event(), threading.Event()

    def hold():
        with pool._state.lock:
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert held.wait(20)
    try:
        in_child(lambda: pool.execute("ping") == os.getpid())
    finally:
        done.set()
        thread.join(20)


def test_a_child_has_a_housekeeper_of_its_own(pool):
    def check():
        names = [thread.name for thread in threading.enumerate()]
        pool.initialize()
        after = [thread.name for thread in threading.enumerate()]
        pool.stop()
        return "hireliab.pool-housekeeper" not in names and after.count("hireliab.pool-housekeeper") == 1

    in_child(check)
    assert any(thread.name == "hireliab.pool-housekeeper" for thread in threading.enumerate())


def test_a_client_whose_factory_forked_is_not_used_in_the_child():
    parent = os.getpid()
    children = []

    def factory():
        client = Client()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            children.append(os.fork())
        return client

    pool = ConnectionPool(name="fork", create_client_func=factory, config={"min_connections": 0})
    code = 1
    try:
        lease = pool.acquire()
    except PoolStoppedError as error:
        code = 0 if "forked" in str(error) else 2
    finally:
        if os.getpid() != parent:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
    assert lease.client.goodbyes() == b""
    lease.release()
    pool.stop()


def test_a_stopped_pool_stays_stopped_in_the_child(pool):
    pool.stop()

    def check():
        with pytest.raises(PoolStoppedError):
            pool.acquire()
        return True

    in_child(check)
