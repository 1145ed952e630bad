import logging
import os
import threading
from decimal import Decimal

import pytest

from hireliab.errors import BusError, BusFullError, ClosedError, ConfigError
from hireliab.messaging.bus import PublishStatus, Reject
from hireliab.messaging.memory_bus import InMemoryMessageBus, MemoryBusConfig
from hireliab.testing import FakeClock
from tests.support.together import Background

CAP = 10.0  # real seconds after which a hang is a failure


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("hireliab."):
            thread.join(CAP)
            assert not thread.is_alive(), thread.name


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def make(clock):
    """Open buses that are stopped at the end, with a real cap against handlers that hang."""
    buses = []

    def make(**config):
        bus = InMemoryMessageBus(name="t", config=config, clock=clock)
        buses.append(bus)
        return bus

    yield make
    for bus in buses:
        bus.stop(0.0)


class Held:
    """A handler that holds each message until it is let go."""

    def __init__(self):
        self.seen = []
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self, message):
        self.seen.append(message)
        self.entered.release()
        assert self.go.acquire(timeout=CAP)

    def wait_entered(self):
        assert self.entered.acquire(timeout=CAP)


def queue_of(bus, pattern):
    (status,) = [s for s in bus.status().subscriptions if s.pattern == pattern]
    balance = status.queued + status.retrying + status.in_flight
    assert status.accepted == balance + status.acked + status.dead_lettered + status.unfinished
    return status


def test_a_failed_message_is_redelivered_after_its_delays_and_then_dead_lettered(make, clock):
    bus = make(retry_delays=[1.0, 5.0])
    seen = []

    def fail(message):
        seen.append((message.attempt, message.redelivered, clock.monotonic() - 1000.0))
        raise ValueError("no")

    bus.subscribe("a", fail)
    bus.publish("a", 1, message_id="m1")
    clock.wait_parked(1)
    assert seen == [(1, False, 0.0)]
    assert clock.next_deadline() == 1.0
    clock.advance(1.0)
    clock.wait_parked(1)
    assert seen[1:] == [(2, True, 1.0)]
    assert clock.next_deadline() == 5.0
    assert queue_of(bus, "a").retrying == 1
    clock.advance(5.0)
    clock.wait_parked(1)
    assert seen[2:] == [(3, True, 6.0)]
    assert clock.next_deadline() is None
    status = queue_of(bus, "a")
    assert (status.failures, status.dead_lettered, status.retrying, status.redelivered) == (3, 1, 0, 2)
    (letter,) = bus.dead_letters()
    assert (letter.message.id, letter.message.attempt, letter.pattern, letter.group) == ("m1", 3, "a", None)
    assert letter.reason == "ValueError: no"


def test_a_message_that_waits_for_its_retry_holds_up_nobody(make, clock):
    bus = make(retry_delays=[1.0])
    seen = []

    def handler(message):
        seen.append(message.data)
        if message.data == "bad" and message.attempt == 1:
            raise ValueError

    bus.subscribe("a", handler)
    for data in ("bad", "good 1", "good 2"):
        bus.publish("a", data)
    clock.wait_parked(1)
    assert seen == ["bad", "good 1", "good 2"]
    clock.advance(1.0)
    clock.wait_parked(1)
    assert seen[3:] == ["bad"]
    assert queue_of(bus, "a").acked == 3


def test_an_idle_second_thread_redelivers_while_the_first_is_busy(make, clock):
    bus = make(retry_delays=[1.0])
    held = Held()
    retried = threading.Event()

    def handler(message):
        if message.data == "hold":
            held(message)
        elif message.attempt == 1:
            raise ValueError
        else:
            retried.set()

    bus.subscribe("a", handler, concurrency=2)
    clock.wait_parked(2)  # both sleep without limit
    bus.publish("a", "fail")
    clock.wait_parked(2)
    # Whichever thread failed now holds the second message; the other must know of the retry.
    bus.publish("a", "hold")
    held.wait_entered()
    clock.wait_parked(1)
    clock.advance(1.0)
    assert retried.wait(CAP)
    held.go.release()


def test_reject_dead_letters_at_once(make, clock):
    bus = make()

    def reject(message):
        raise Reject("malformed order")

    bus.subscribe("a", reject, group="g")
    bus.publish("a", 1)
    clock.wait_parked(1)
    (letter,) = bus.dead_letters()
    assert (letter.reason, letter.group, letter.message.attempt) == ("malformed order", "g", 1)
    assert queue_of(bus, "a").dead_lettered == 1


def test_only_the_latest_dead_letters_are_kept_and_all_are_counted(make, clock):
    bus = make(dead_letters=2)

    def reject(message):
        raise Reject

    bus.subscribe("a", reject)
    for i in range(5):
        bus.publish("a", i)
    clock.wait_parked(1)
    assert [letter.message.data for letter in bus.dead_letters()] == [3, 4]
    assert queue_of(bus, "a").dead_lettered == 5


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, MemoryError, GeneratorExit])
def test_no_error_ends_the_handler_thread(make, clock, error):
    bus = make(retry_delays=[])
    seen = []

    def handler(message):
        seen.append(message.data)
        if message.data == 1:
            raise error

    bus.subscribe("a", handler)
    bus.publish("a", 1)
    bus.publish("a", 2)
    clock.wait_parked(1)
    assert seen == [1, 2]
    assert queue_of(bus, "a").dead_lettered == 1


def test_an_error_that_cannot_be_printed_ends_nothing(make, clock):
    class Awful(Exception):
        def __str__(self):
            raise RuntimeError("not even its text")

    bus = make(retry_delays=[])

    def handler(message):
        raise Awful

    bus.subscribe("a", handler)
    bus.publish("a", 1)
    bus.publish("a", 2)
    clock.wait_parked(1)
    assert [letter.reason for letter in bus.dead_letters()] == ["Awful", "Awful"]


def test_a_broken_log_handler_ends_nothing(make, clock):
    class Broken(logging.Handler):
        def emit(self, record):
            raise OSError("disk full")

    broken = Broken()
    logging.getLogger("hireliab.bus").addHandler(broken)
    try:
        bus = make(retry_delays=[])

        def handler(message):
            raise ValueError

        bus.subscribe("a", handler)
        bus.publish("a", 1)
        bus.publish("a", 2)
        clock.wait_parked(1)
        assert queue_of(bus, "a").dead_lettered == 2
    finally:
        logging.getLogger("hireliab.bus").removeHandler(broken)


def test_a_failure_is_logged_with_its_message_and_traceback(make, clock, caplog):
    bus = make()

    def handler(message):
        raise ValueError("why")

    bus.subscribe("a.*", handler)
    bus.publish("a.b", 1, message_id="m7")
    clock.wait_parked(1)
    (record,) = caplog.records
    assert "m7" in record.getMessage()
    assert "again in 1 s" in record.getMessage()
    assert record.exc_info is not None


def test_a_body_too_deep_to_decode_is_a_dead_letter(make, clock, monkeypatch):
    from hireliab.errors import MessageDecodeError
    from hireliab.messaging import memory_bus

    def refuse(body):
        raise MessageDecodeError("too deep")

    bus = make()
    bus.subscribe("a", pytest.fail)
    monkeypatch.setattr(memory_bus, "decode_data", refuse)
    bus.publish("a", 1)
    clock.wait_parked(1)
    assert queue_of(bus, "a").dead_lettered == 1


def test_a_full_queue_refuses_at_once_and_nobody_gets_the_message(make, clock):
    bus = make(queue_size=2)
    slow, others = Held(), []
    bus.subscribe("a", slow)
    bus.subscribe("#", lambda m: others.append(m.data))
    bus.publish("a", 1)
    slow.wait_entered()
    bus.publish("a", 2)
    clock.wait_parked(1)
    with pytest.raises(BusFullError, match=r"queue of .a. holds 2 messages of 2 bytes, .a. was not published"):
        bus.publish("a", 3)
    bus.publish("b", 4)
    clock.wait_parked(1)
    assert others == [1, 2, 4]
    assert bus.status().full == 1
    assert queue_of(bus, "a").accepted == 2
    slow.go.release(2)


def test_a_queue_is_full_by_its_bytes_too_and_each_end_gives_them_back(make, clock):
    bus = make(queue_size=100, max_message_bytes=10, queue_bytes=10, retry_delays=[0.0])
    held = Held()

    def handler(message):
        held(message)
        if message.data == "reject":
            raise Reject
        if message.data == "raise":
            raise ValueError

    bus.subscribe("a", handler)
    for data, deliveries in (("return", 1), ("reject", 1), ("raise", 2)):
        bus.publish("a", data)
        for _ in range(deliveries):
            held.wait_entered()
            with pytest.raises(BusFullError):
                bus.publish("a", "xyz")
            held.go.release()
        clock.wait_parked(1)
    bus.publish("a", "x" * 8)
    held.wait_entered()
    with pytest.raises(BusFullError):
        bus.publish("a", "")
    held.go.release()


def test_a_publisher_waits_for_room_at_most_its_timeout(make, clock):
    bus = make(queue_size=1)
    slow = Held()
    bus.subscribe("a", slow)
    bus.publish("a", 1)
    slow.wait_entered()
    outcome = []

    def publish():
        try:
            bus.publish("a", 2, timeout=3.0)
        except BusFullError as error:
            outcome.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    clock.wait_parked(1)
    clock.advance(3.0)
    thread.join(CAP)
    assert len(outcome) == 1
    slow.go.release()


@pytest.mark.parametrize("end", ["return", "reject", "unsubscribe"])
def test_room_wakes_a_waiting_publisher(make, clock, end):
    bus = make(queue_size=1)
    slow = Held()

    def handler(message):
        slow(message)
        if end == "reject":
            raise Reject

    subscription = bus.subscribe("a", handler)
    bus.publish("a", 1)
    slow.wait_entered()
    receipts = []
    thread = threading.Thread(target=lambda: receipts.append(bus.publish("a", 2, timeout=None)))
    thread.start()
    clock.wait_parked(1)
    if end == "unsubscribe":
        subscription.unsubscribe(0.0)
    else:
        slow.go.release()
    thread.join(CAP)
    assert not thread.is_alive()
    assert receipts[0].status is PublishStatus.CONFIRMED
    slow.go.release(2)


def test_a_handler_never_waits_for_room_in_its_own_bus(make, clock):
    bus = make(queue_size=1, retry_delays=[])
    outcome = []

    def handler(message):
        try:
            bus.publish("a", 2, timeout=None)  # its own queue is full with the message in hand
        except BusFullError as error:
            outcome.append(error)

    bus.subscribe("a", handler)
    bus.publish("a", 1)
    clock.wait_parked(1)
    assert len(outcome) == 1


def test_a_retrying_message_still_takes_room(make, clock):
    bus = make(queue_size=1, retry_delays=[1.0])

    def handler(message):
        raise ValueError

    bus.subscribe("a", handler)
    bus.publish("a", 1)
    clock.wait_parked(1)
    with pytest.raises(BusFullError):
        bus.publish("a", 2)


def test_too_much_data_is_refused_before_it_is_queued(make):
    bus = make(max_message_bytes=10)
    bus.subscribe("a", pytest.fail)
    with pytest.raises(BusError, match="at most 10"):
        bus.publish("a", "x" * 9)
    assert queue_of(bus, "a").accepted == 0


def test_mandatory_without_a_subscription_is_returned(make):
    bus = make()
    assert bus.publish("a", 1).status is PublishStatus.CONFIRMED
    receipt = bus.publish("a", 1, mandatory=True)
    assert receipt.status is PublishStatus.RETURNED
    with pytest.raises(BusError, match="nobody will see it"):
        bus.publish_sync("a", 1, mandatory=True)
    assert (bus.status().published, bus.status().returned) == (1, 2)


def test_each_delivery_has_its_own_copy_of_the_data(make, clock):
    bus = make(retry_delays=[0.0])
    seen = []

    def spoil(message):
        seen.append(dict(message.data))
        message.data["x"] = "spoilt"
        if message.attempt == 1:
            raise ValueError

    bus.subscribe("a", spoil)
    given = {"x": Decimal("1.50")}
    bus.publish("a", given)
    given["x"] = 2
    clock.wait_parked(1)
    assert seen == [{"x": "1.5"}, {"x": "1.5"}]


def test_a_message_carries_what_its_publisher_said(make, clock):
    bus = make(source="bot-1")
    seen = []
    bus.subscribe("a.b", seen.append)
    receipt = bus.publish("a.b", None, headers={"h": "1"}, subject="txn-1", message_id="m1")
    clock.wait_parked(1)
    (message,) = seen
    assert (message.id, message.source, message.topic, message.subject) == ("m1", "bot-1", "a.b", "txn-1")
    assert message.headers == {"h": "1"}
    assert message.time == clock.time()
    assert (receipt.message_id, receipt.topic) == ("m1", "a.b")


def test_handlers_run_on_named_daemon_threads_never_on_the_publisher(make, clock):
    bus = make()
    seen = []
    bus.subscribe("a", lambda m: seen.append(threading.current_thread()))
    bus.publish("a", 1)
    clock.wait_parked(1)
    (thread,) = seen
    assert thread is not threading.current_thread()
    assert thread.name == "hireliab.bus.t-handler-0"
    assert thread.daemon


def test_unsubscribing_leaves_the_queue_and_waits_for_the_running_handler(make, clock):
    bus = make()
    held = Held()
    subscription = bus.subscribe("a", held)
    for i in range(3):
        bus.publish("a", i)
    held.wait_entered()
    result = []
    thread = threading.Thread(target=lambda: result.append(subscription.unsubscribe(60.0)))
    thread.start()
    clock.wait_parked(1)
    assert not bus.status().subscriptions
    bus.publish("a", 3)
    held.go.release()
    thread.join(CAP)
    assert result == [True]
    assert len(held.seen) == 1  # nothing was started after it
    assert subscription.unsubscribe() is True


def test_unsubscribe_inside_a_handler_only_signals(make, clock):
    bus = make()
    results = []
    held = threading.Event()

    def handler(message):
        results.append(subscription.unsubscribe(None))
        held.set()

    subscription = bus.subscribe("a", handler)
    bus.publish("a", 1)
    bus.publish("a", 2)
    assert held.wait(CAP)
    assert subscription.unsubscribe() is True
    assert results == [False]


def test_unsubscribe_gives_up_waiting_at_its_timeout(make, clock):
    bus = make()
    held = Held()
    subscription = bus.subscribe("a", held)
    bus.publish("a", 1)
    held.wait_entered()
    assert subscription.unsubscribe(0.0) is False
    held.go.release()
    assert subscription.unsubscribe(CAP) is True


def test_a_group_goes_on_when_one_of_its_members_leaves(make, clock):
    bus = make()
    seen = []
    first = bus.subscribe("a", lambda m: seen.append("first"), group="g")
    bus.subscribe("a", lambda m: seen.append("second"), group="g")
    clock.wait_parked(2)
    first.unsubscribe()
    for _ in range(3):
        bus.publish("a", 1)
    clock.wait_parked(1)
    assert seen == ["second"] * 3


def test_a_group_has_one_pattern(make):
    bus = make()
    bus.subscribe("a", lambda m: None, group="g")
    with pytest.raises(ConfigError, match="cannot take 'b' too"):
        bus.subscribe("b", lambda m: None, group="g")


def test_stop_hands_out_what_is_queued(make, clock):
    bus = make()
    held = Held()
    bus.subscribe("a", held)
    for i in range(5):
        bus.publish("a", i)
    held.wait_entered()
    held.go.release(5)
    bus.stop(CAP)
    assert [m.data for m in held.seen] == [0, 1, 2, 3, 4]
    assert bus.status().state == "stopped"
    assert queue_of(bus, "a").acked == 5


def test_stop_refuses_new_messages_at_once(make, clock):
    bus = make()
    held = Held()
    bus.subscribe("a", held)
    bus.publish("a", 1)
    held.wait_entered()
    stopper = threading.Thread(target=bus.stop, args=(60.0,))
    stopper.start()
    clock.wait_parked(1)
    assert bus.status().state == "stopping"
    with pytest.raises(ClosedError):
        bus.publish("a", 2)
    with pytest.raises(ClosedError):
        bus.subscribe("b", lambda m: None)
    with pytest.raises(ClosedError):
        bus.start()
    held.go.release()
    stopper.join(CAP)
    assert not stopper.is_alive()


def test_stop_returns_at_its_deadline_and_counts_what_is_left(make, clock, caplog):
    bus = make()
    held = Held()
    bus.subscribe("a", held)
    for i in range(3):
        bus.publish("a", i)
    held.wait_entered()
    stopper = threading.Thread(target=bus.stop, args=(5.0,))
    stopper.start()
    clock.wait_parked(1)
    clock.advance(5.0)
    stopper.join(CAP)
    assert not stopper.is_alive()
    status = queue_of(bus, "a")
    assert (status.in_flight, status.unfinished, status.queued) == (1, 2, 0)
    assert "2 messages unfinished and 1 handlers still running" in caplog.text
    held.go.release(3)
    bus.stop(CAP)
    assert len(held.seen) == 1
    assert queue_of(bus, "a").acked == 1


def test_stop_does_not_wait_for_retries(make, clock):
    bus = make(retry_delays=[30.0])

    def handler(message):
        raise ValueError

    bus.subscribe("a", handler)
    bus.publish("a", 1)
    clock.wait_parked(1)
    bus.stop(5.0)  # nobody advances the clock: waiting would hang
    assert queue_of(bus, "a").unfinished == 1


def test_a_failure_while_stopping_is_left_unfinished(make, clock):
    bus = make()
    held = Held()

    def handler(message):
        held(message)
        raise ValueError

    bus.subscribe("a", handler)
    bus.publish("a", 1)
    held.wait_entered()
    bus.stop(0.0)
    held.go.release()
    bus.stop(CAP)
    assert queue_of(bus, "a").unfinished == 1


def test_stop_inside_a_handler_only_signals(make, clock):
    bus = make()
    seen = []
    stopped = threading.Event()

    def handler(message):
        seen.append(message.data)
        bus.stop(None)
        bus.stop(None)
        stopped.set()

    bus.subscribe("a", handler)
    bus.publish("a", 1)
    assert stopped.wait(CAP)
    bus.stop(CAP)
    assert seen == [1]
    assert bus.status().state == "stopped"


def test_stop_wakes_a_publisher_that_waits_for_room(make, clock):
    bus = make(queue_size=1)
    held = Held()
    bus.subscribe("a", held)
    bus.publish("a", 1)
    held.wait_entered()
    outcome = []

    def publish():
        try:
            bus.publish("a", 2, timeout=None)
        except ClosedError as error:
            outcome.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    clock.wait_parked(1)
    bus.stop(0.0)
    thread.join(CAP)
    assert len(outcome) == 1
    held.go.release()


def test_a_signal_handler_may_use_a_bus_whose_lock_its_thread_has(make, clock):
    bus, seen = make(), []

    def interrupted():
        # A signal handler runs in the main thread, in the middle of what that was doing.
        with bus._lock:
            bus.subscribe("a", lambda m: seen.append(m.data))
            assert bus.publish("a", 1).status is PublishStatus.CONFIRMED
            bus.stop(0.0)
            return bus.status().state

    assert Background(interrupted).result() == "stopped"
    bus.stop(CAP)


def test_first_use_starts_the_bus_and_a_with_block_stops_it(clock):
    bus = InMemoryMessageBus(clock=clock)
    assert bus.status().state == "new"
    assert bus.status().durable is False
    with bus as same:
        assert same is bus
        assert bus.status().state == "running"
        assert "running" in repr(bus)
    assert bus.status().state == "stopped"
    bus.stop()
    other = InMemoryMessageBus(clock=clock)
    other.publish("a", 1)
    assert other.status().state == "running"
    other.stop()


def test_a_forked_child_gets_a_clear_error_and_its_stop_does_nothing(make, monkeypatch):
    bus = make()
    subscription = bus.subscribe("a", lambda m: None)
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    for use in (
        lambda: bus.publish("a", 1),
        lambda: bus.subscribe("a", lambda m: None),
        bus.start,
        bus.status,
        bus.dead_letters,
        subscription.unsubscribe,
    ):
        with pytest.raises(ClosedError, match=f"belongs to process {parent}"):
            use()
    bus.stop()
    monkeypatch.undo()
    assert bus.status().state == "running"


class _AsyncCallable:
    async def __call__(self, message):
        pass


async def _coroutine(message):
    pass


def _generator(message):
    yield message


@pytest.mark.parametrize("handler", [_coroutine, _AsyncCallable(), _generator])
def test_what_would_not_run_when_called_is_refused_as_handler(make, handler):
    with pytest.raises(ConfigError, match="bus: handler.*function, its work would run after the call"):
        make().subscribe("a", handler)


@pytest.mark.parametrize(
    "arguments",
    [
        {"handler": None},
        {"pattern": "a b"},
        {"group": ""},
        {"concurrency": 0},
        {"concurrency": 65},
        {"concurrency": True},
        {"prefetch": 0},
        {"concurrency": 3, "prefetch": 2},
    ],
)
def test_wrong_arguments_subscribe_nothing(make, arguments):
    bus = make()
    arguments = {"pattern": "a", "handler": lambda m: None, **arguments}
    pattern, handler = arguments.pop("pattern"), arguments.pop("handler")
    with pytest.raises(ConfigError):
        bus.subscribe(pattern, handler, **arguments)
    assert bus.status().subscriptions == ()


def test_when_no_thread_can_be_started_nothing_stays_subscribed(make, monkeypatch):
    bus = make()
    real, calls = threading.Thread.start, []

    def start(thread):
        calls.append(thread)
        if len(calls) == 2:
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start"):
        bus.subscribe("a", lambda m: None, concurrency=3)
    monkeypatch.undo()
    assert bus.status().subscriptions == ()
    bus.stop(CAP)
    assert bus.status().state == "stopped"


@pytest.mark.parametrize(
    "config",
    [
        {"queue_size": 0},
        {"max_message_bytes": 0},
        {"queue_bytes": 1_048_575},
        {"retry_delays": "1"},
        {"retry_delays": [-1]},
        {"dead_letters": -1},
        {"source": ""},
        {"queue": 3},
    ],
)
def test_wrong_settings_are_refused_by_name(config):
    with pytest.raises(ConfigError, match=f"bus 'memory'.*{next(iter(config))}"):
        InMemoryMessageBus(config=config)


def test_a_config_object_is_taken_as_it_is():
    config = MemoryBusConfig(retry_delays=[1])
    assert config.retry_delays == (1.0,)
    assert InMemoryMessageBus(config=config).status().state == "new"


# -- in order -----------------------------------------------------------------------------------------------------


def test_in_order_a_message_that_waits_for_its_retry_holds_up_those_behind_it(make, clock):
    bus = make(retry_delays=[1.0])
    seen = []

    def handler(message):
        seen.append((message.data, message.attempt))
        if message.data == "bad" and message.attempt == 1:
            raise ValueError

    bus.subscribe("a", handler, in_order=True)
    for data in ("bad", "good 1", "good 2"):
        bus.publish("a", data)
    clock.wait_parked(1)
    assert seen == [("bad", 1)]
    assert (queue_of(bus, "a").retrying, queue_of(bus, "a").queued) == (1, 2)
    clock.advance(1.0)
    clock.wait_parked(1)
    assert seen[1:] == [("bad", 2), ("good 1", 1), ("good 2", 1)]


def test_in_order_the_member_that_was_there_first_handles_and_the_others_stand_by(make, clock):
    bus = make()
    first, second = [], []
    leaving = bus.subscribe("a", first.append, group="g", in_order=True)
    clock.wait_parked(1)
    bus.subscribe("a", second.append, group="g", in_order=True)
    clock.wait_parked(2)
    first_queue, (one, two) = bus._queues[0], bus._queues[0].members
    for data in range(3):
        bus.publish("a", data)
        clock.wait_parked(2)
    with bus._lock:
        first_queue.ready.append(None)
        assert (first_queue.may_take_locked(one), first_queue.may_take_locked(two)) == (True, False)
        first_queue.ready.pop()
    assert ([message.data for message in first], second) == ([0, 1, 2], [])
    assert leaving.unsubscribe(CAP)
    bus.publish("a", 3)
    clock.wait_parked(1)
    assert [message.data for message in second] == [3]


def test_in_order_nothing_overtakes_what_fails_while_the_bus_stops(make, clock):
    bus, held = make(), Held()

    def fail(message):
        held(message)
        raise ValueError("no")

    bus.subscribe("a", fail, in_order=True)
    for data in range(3):
        bus.publish("a", data)
    held.wait_entered()
    stopping = Background(bus.stop, CAP)
    clock.wait_parked(1)
    held.go.release(3)
    stopping.result()
    assert [message.data for message in held.seen] == [0]
    assert queue_of(bus, "a").unfinished == 3
