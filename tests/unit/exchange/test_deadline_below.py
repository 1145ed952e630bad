"""A deadline around a call shortens what the pool, the limiter and the client wait for."""

import pytest

from hireliab.core.deadline import deadline
from hireliab.errors import DeadlineExceededError, PoolTimeoutError
from hireliab.exchange.connection_pool import ConnectionPool
from hireliab.exchange.nobitex_client import NobitexClient
from tests.support.together import Background


def test_a_wait_for_a_client_ends_with_the_deadline(clock):
    pool = ConnectionPool(
        name="small", create_client_func=object, config={"max_connections": 1, "connection_timeout": 60}, clock=clock
    )
    with pool:
        lease = pool.acquire()

        def late():
            with deadline(2.0, clock=clock), pytest.raises(PoolTimeoutError):
                pool.acquire()

        waiting = Background(late)
        clock.wait_parked(1)
        clock.advance(2.0)
        waiting.result()
        lease.release()


def test_a_call_after_the_deadline_is_not_made():
    client = NobitexClient(base_url="http://127.0.0.1:9")  # a port that nobody listens to: it must not be asked
    with deadline(0.0), pytest.raises(DeadlineExceededError, match="not made"):
        client.get_options()
    client.close()
