"""The self-test of what keeps one call safe: breaker, retry, limiter, bulkhead, deadline and policy."""

from __future__ import annotations

import threading

from hireliab._install_parts import Failed, require
from hireliab._self_test_stage import BOOK, PATIENCE, SYMBOL, Stage, closed_port, together, until
from hireliab.core.bulkhead import Bulkhead
from hireliab.core.circuit_breaker import CircuitBreaker
from hireliab.core.clock import SYSTEM_CLOCK
from hireliab.core.policy import Policy
from hireliab.core.rate_limiter import RateLimiter
from hireliab.core.retry import Retry
from hireliab.errors import (
    BulkheadFullError,
    CircuitOpenError,
    ConnectError,
    HireliabError,
    OutcomeUnknownError,
    RateLimitedError,
)
from hireliab.exchange.nobitex_client import NobitexClient


def breaker(stage: Stage) -> str:
    """Opens while the exchange is gone, refuses without calling, and closes when it is back."""
    circuit = CircuitBreaker(name="self-test", failure_threshold=3, reset_timeout=0.2)
    calls: list[int] = []
    with stage.client() as client:

        def read() -> object:
            calls.append(1)
            return client.get_orderbook(SYMBOL)

        with stage.cut_off():
            for _ in range(10):
                try:
                    circuit.execute(read)
                except CircuitOpenError:
                    break
                except HireliabError:
                    continue
            require(len(calls) == 3, f"it let {len(calls)} calls fail, not the 3 that it was told")
            require(circuit.current_state == "open", f"it is {circuit.current_state} after them")

        def probe() -> bool:
            try:
                circuit.execute(read)
            except CircuitOpenError:
                return False
            return True

        require(until(probe), "it let no probe through after its reset_timeout")
    require(circuit.current_state == "closed", f"it is {circuit.current_state} after a good probe")
    return "opened after 3 failures, refused without a call, closed after a probe"


def retry(stage: Stage) -> str:
    """Repeats what was not sent, and not what may have happened."""
    calls: list[int] = []
    repeat = Retry(attempts=3, wait=0.01)
    with stage.client() as client:
        nobody = NobitexClient(base_url=f"http://127.0.0.1:{closed_port()}")

        def read() -> object:
            calls.append(1)
            return (client if len(calls) == 3 else nobody).get_orderbook(SYMBOL)

        repeat.execute(read)
        require(len(calls) == 3, f"after two calls that were not sent it made {len(calls)} in all, not 3")

        def read_once() -> object:
            calls.append(1)
            return client.get_orderbook(SYMBOL)

        calls.clear()
        client.close()  # so that it is sent on a new connection, where a lost answer is no stale connection
        stage.fault(BOOK, "answer_lost")
        try:
            repeat.execute(read_once)
        except OutcomeUnknownError as error:
            require(len(calls) == 1, f"it repeated a call that may have happened: {len(calls)} calls")
            return f"2 unsent calls repeated; 1 that ended in {type(error).__name__} was not"
    raise Failed(f"a lost answer became a result after {len(calls)} calls")


def limiter(stage: Stage) -> str:
    """Never lets more through than its limit, whatever threads do; and knows when there is room."""
    limit = RateLimiter(name="self-test", limit=5, per=60.0)
    taken: list[int] = []
    refused: list[float] = []
    with stage.client() as client:

        def ask(number: int) -> None:
            for _ in range(2):
                try:
                    limit.acquire()
                    taken.append(number)
                except RateLimitedError as error:
                    refused.append(error.retry_after or 0.0)

        together(8, ask)
        require(len(taken) == 5, f"8 threads got {len(taken)} permits, not 5")
        require(all(0 < seconds <= 60 for seconds in refused), f"it says to come back in {refused} s")
        paced = RateLimiter(name="self-test, paced", limit=1, per=0.2)
        began = SYSTEM_CLOCK.monotonic()
        for _ in range(2):
            paced.acquire(timeout=PATIENCE)
            client.get_orderbook(SYMBOL)
        took = SYSTEM_CLOCK.monotonic() - began
        require(took >= 0.2, f"the second call of two in 0.2 s went out after {took:.3f} s")
    return f"8 threads got 5 permits of 5 a minute, {len(refused)} were refused; the next one waited its turn"


def bulkhead(_stage: Stage) -> str:
    """Lets two run, two wait, and refuses the fifth."""
    places = Bulkhead(name="self-test", max_concurrent=2, max_waiting=2, max_wait=PATIENCE)
    lock, leave = threading.Lock(), threading.Event()  # the lock guards running and most
    running = most = 0

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        leave.wait(PATIENCE)
        with lock:
            running -= 1

    def caller(number: int) -> None:
        if number:
            places.execute(call)
            return
        try:
            full = until(lambda: (places.stats().running, places.stats().waiting) == (2, 2))
            require(full, f"of 4 callers {places.stats().running} run and {places.stats().waiting} wait, not 2 and 2")
            places.execute(call)
        except BulkheadFullError:
            return
        finally:
            leave.set()
        raise Failed("a fifth caller was let in")

    together(5, caller)
    require(most == 2, f"{most} calls ran at once, not 2")
    return "of 5 callers 2 ran, 2 waited, 1 was refused"


def policy(stage: Stage) -> str:
    """All parts around one call: its deadline ends a call that hangs, and the next call passes them all."""
    parts = Policy(
        name="self-test",
        idempotent=True,
        deadline=0.5,
        retry=Retry(on=ConnectError, idempotent=True, attempts=2, wait=0.01),
        breaker=CircuitBreaker(name="self-test of the policy", failure_threshold=5),
        bulkhead=Bulkhead(name="self-test of the policy", max_concurrent=1),
        limiter=RateLimiter(name="self-test of the policy", limit=10, per=60.0),
    )
    with stage.client() as client:
        parts.execute(client.get_orderbook, SYMBOL)
        stage.fault(BOOK, "delay", seconds=6)
        began = SYSTEM_CLOCK.monotonic()
        try:
            parts.execute(client.get_orderbook, SYMBOL)
        except (OutcomeUnknownError, TimeoutError) as error:
            took = SYSTEM_CLOCK.monotonic() - began
            require(took < 5.0, f"a call with a deadline of 0.5 s took {took:.1f} s")
            name = type(error).__name__
        else:
            raise Failed("a call that hangs for 6 s ended within a deadline of 0.5 s, and with a result")
        parts.execute(client.get_orderbook, SYMBOL)
    return f"a call that hangs for 6 s ended after {took:.2f} s with {name}; the next one passed"
