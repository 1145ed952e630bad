"""The door of the RabbitMQ bus without a broker: what is refused, kept, and settled when it stops."""

import pickle

import pytest

from hireliab.errors import BusError, BusFullError, ClosedError, ConfigError, UnconfirmedPublishError
from hireliab.messaging.bus import PublishStatus
from hireliab.messaging.rabbitmq import bus as rabbitmq
from hireliab.messaging.rabbitmq.bus import RabbitMQMessageBus
from hireliab.testing import FakeClock
from tests.support.together import Background


class _Spill:
    def __init__(self, *, takes=True):
        self.kept = []
        self.takes = takes

    def __call__(self, topic, body, headers, message_id):
        if self.takes == "raises":
            raise OSError("disk")
        if self.takes:
            self.kept.append((topic, body, dict(headers), message_id))
        return self.takes


@pytest.fixture
def open_bus():
    def open_bus(**options):
        spill, clock = options.pop("spill", None), options.pop("clock", None) or FakeClock()
        bus = RabbitMQMessageBus(options, url="amqp://u:hunter2@host", spill=spill, clock=clock)
        bus._publisher.connection.start = bus._consumer.connection.start = lambda: None
        opened.append(bus)
        return bus

    opened = []
    yield open_bus
    for bus in opened:
        bus.stop(0.0)


def test_its_first_use_starts_it_and_it_ends_once(open_bus):
    bus = open_bus()
    assert bus.status().state == "new"
    receipt = bus.publish("a", 1)
    assert bus.status().state == "running"
    assert (bus.status().in_flight, bus.status().durable, bus.status().connected) == (1, True, False)
    bus.stop(0.0)
    bus.stop(0.0)
    assert bus.status().state == "stopped"
    assert receipt.status is PublishStatus.REJECTED
    assert bus.status().rejected == 1
    for use in (bus.start, lambda: bus.publish("a", 1), lambda: bus.subscribe("a", print)):
        with pytest.raises(ClosedError, match="stopped; make a new one"):
            use()


def test_what_was_sent_and_not_confirmed_is_unknown_at_the_end(open_bus):
    bus = open_bus()
    receipt = bus.publish("a", 1)
    (message,) = bus._publisher.window.drain()
    message.sendings = 1
    bus._publisher.window.give_back([message], first=True)
    bus.stop(0.0)
    assert receipt.status is PublishStatus.UNKNOWN


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("a.*", 1), ConfigError),
        (("#", 1), ConfigError),
        (("a", float("nan")), BusError),
        (("a", "x" * 200), BusError),
        ((["a"], 1), ConfigError),
    ],
)
def test_what_cannot_be_published_is_refused_before_it_is_queued(open_bus, arguments, error):
    bus = open_bus(max_message_bytes=100)
    with pytest.raises(error):
        bus.publish(*arguments)
    assert bus.status().in_flight == 0
    assert bus.status().state == "new"


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"CC": "x"}},
        {"headers": {"x-death": "x"}},
        {"headers": {"é" * 128: "x"}},
        {"headers": {"a": "\ud800"}},
        {"subject": ""},
        {"message_id": "é" * 128},
        {"message_id": ""},
        {"timeout": -1},
        {"timeout": "1"},
    ],
)
def test_a_malformed_argument_is_refused(open_bus, options):
    bus = open_bus()
    with pytest.raises(ConfigError):
        bus.publish("a", 1, **options)
    assert bus.status().in_flight == 0


@pytest.mark.parametrize(
    "options",
    [
        {"pattern": "a*"},
        {"concurrency": 0},
        {"concurrency": 65},
        {"prefetch": 301},
        {"concurrency": 4, "prefetch": 3},
        {"group": ""},
        {"group": "é" * 100},
        {"handler": None},
    ],
)
def test_a_malformed_subscription_is_refused(open_bus, options):
    with pytest.raises(ConfigError):
        open_bus().subscribe(**{"pattern": "a", "handler": print, **options})


def test_a_coroutine_is_no_handler(open_bus):
    async def handle(message):
        pass

    with pytest.raises(ConfigError, match="async"):
        open_bus().subscribe("a", handle)


def test_ids_are_all_different(open_bus):
    bus, other = open_bus(), open_bus()
    ids = {bus.publish("a", 1).message_id for _ in range(100)} | {other.publish("a", 1).message_id for _ in range(100)}
    assert len(ids) == 200


def test_topics_without_end_keep_no_memory(open_bus):
    bus = open_bus(window=3000)
    for number in range(2500):
        bus.publish(f"order.{number}", 1)
    assert len(bus._templates) <= 1000


def test_a_full_bus_raises_at_once(open_bus):
    bus = open_bus(window=1)
    bus.publish("a", 1)
    with pytest.raises(BusFullError):
        bus.publish("a", 2)
    assert bus.status().full == 1


def test_a_full_bus_may_block_for_its_own_time(open_bus):
    bus = open_bus(window=1, when_full="block", block_timeout=7)
    bus.publish("a", 1)
    waiting = Background(bus.publish, "a", 2)
    bus._clock.wait_parked(1)
    bus._clock.advance(6.9)
    bus._clock.wait_parked(1)
    bus._clock.advance(0.2)
    with pytest.raises(BusFullError):
        waiting.result()


def test_a_full_bus_gives_the_rest_to_its_store(open_bus):
    spill = _Spill()
    bus = open_bus(window=1, when_full="spill", spill=spill)
    first = bus.publish("a", 1)
    headers = {"k": "v"}
    second = bus.publish("b", {"n": 2}, headers=headers, subject="s", message_id="m")
    headers["k"] = "changed"
    assert (first.status, second.status) == (None, PublishStatus.BUFFERED)
    assert spill.kept == [("b", b'{"n":2}', {"k": "v", "cloudEvents_subject": "s"}, "m")]
    bus.stop(0.0)
    assert first.status is PublishStatus.BUFFERED
    assert bus.status().buffered == 2


@pytest.mark.parametrize("takes", [False, "raises"])
def test_a_store_that_takes_nothing_leaves_the_bus_full(open_bus, takes):
    bus = open_bus(window=1, when_full="spill", spill=_Spill(takes=takes))
    first = bus.publish("a", 1)
    with pytest.raises(BusFullError):
        bus.publish("a", 2)
    bus.stop(0.0)
    assert first.status is PublishStatus.REJECTED


def test_without_a_store_there_is_nothing_to_spill_into():
    with pytest.raises(ConfigError, match="give it spill="):
        RabbitMQMessageBus({"when_full": "spill"}, url="amqp://host")


def test_synchronous_publishing_waits_for_the_confirm_within_its_time(open_bus):
    bus = open_bus()
    waiting = Background(bus.publish_sync, "a", 1, timeout=3.0)
    bus._clock.wait_parked(1)
    (message,) = bus._publisher.window.drain()
    message.receipt.settle(PublishStatus.CONFIRMED)
    assert waiting.result().status is PublishStatus.CONFIRMED
    waiting = Background(bus.publish_sync, "a", 1, timeout=3.0)
    bus._clock.wait_parked(1)
    bus._clock.advance(3.0)
    with pytest.raises(UnconfirmedPublishError, match="not confirmed"):
        waiting.result()


def test_it_cannot_be_pickled_and_shows_no_password(open_bus):
    bus = open_bus()
    with pytest.raises(TypeError, match="make one in each process"):
        pickle.dumps(bus)
    assert "hunter2" not in f"{bus!r}{bus.status()}"


def test_a_second_stop_waits_for_the_first(open_bus):
    bus = open_bus()
    bus.publish("a", 1)
    first = Background(bus.stop, 5.0)
    bus._clock.wait_parked(1)
    second = Background(bus.stop, 5.0)
    bus._clock.wait_parked(2)
    bus._clock.advance(5.0)
    first.result()
    second.result()
    assert bus.status().state == "stopped"


class _Interrupted(FakeClock):
    """Ctrl-C comes at the n-th wait from now."""

    waits = 0

    def wait_for(self, condition, predicate, timeout=None):
        self.waits -= 1
        if self.waits == 0:
            raise KeyboardInterrupt
        return super().wait_for(condition, predicate, 0.0)


@pytest.mark.parametrize("wait", [1, 2, 3])
def test_what_a_stop_that_ctrl_c_cut_short_left_is_kept_by_the_next(open_bus, wait):
    spill = _Spill()
    bus = open_bus(window=5, when_full="spill", spill=spill, clock=_Interrupted())
    receipts = [bus.publish("a", number) for number in range(3)]
    bus._clock.waits = wait
    with pytest.raises(KeyboardInterrupt):
        bus.stop(5.0)
    assert spill.kept == []
    rabbitmq._stop_all()  # as the end of the process does
    assert [receipt.status for receipt in receipts] == [PublishStatus.BUFFERED] * 3
    assert [body for _, body, _, _ in spill.kept] == [b"0", b"1", b"2"]
    assert bus.status().state == "stopped"


def test_a_signal_handler_that_stops_the_bus_while_its_thread_does_waits_for_nobody(open_bus):
    bus = open_bus()
    bus.publish("a", 1)
    calls = []

    def end(deadline):
        calls.append("ends")
        bus.stop(None)  # it would wait for ever
        real(deadline)

    real, bus._end = bus._end, end
    Background(bus.stop, 0.0).result()
    assert calls == ["ends"]
    assert bus.status().state == "stopped"


def test_a_signal_handler_may_publish_and_stop_wherever_it_interrupts(open_bus):
    bus = open_bus(window=5)
    bus.publish("a", 1)
    window, lanes, connection = bus._publisher.window, bus._consumer._lanes, bus._publisher.connection
    done = []

    def interrupted():
        # A signal handler runs in the main thread, in the middle of what that was doing.
        with window._lock, lanes.lock, connection._lock, bus._lock:
            done.append(bus.publish("a", 2))
            bus.stop(0.0)

    Background(interrupted).result()
    assert done[0].status is PublishStatus.REJECTED
    assert bus.status().state == "stopped"
