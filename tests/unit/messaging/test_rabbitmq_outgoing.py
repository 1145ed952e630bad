"""The bounded window of messages on their way out."""

import contextlib
import sys

import pytest

from hireliab.errors import BusFullError, ClosedError
from hireliab.messaging.bus import PublishReceipt
from hireliab.messaging.rabbitmq._outgoing import BATCH, BATCH_BYTES, Outgoing, Window
from hireliab.testing import FakeClock
from tests.support.together import Background


def _message(number=0, size=10):
    return Outgoing(PublishReceipt(message_id=str(number), topic="a"), b"x" * size, None, False)


def _window(most=3, most_bytes=1000, clock=None):
    return Window(name="b", most=most, most_bytes=most_bytes, clock=clock or FakeClock())


def test_a_full_window_refuses_and_says_why():
    window = _window(most=2)
    window.offer(_message(), 0.0)
    window.offer(_message(), 0.0)
    with pytest.raises(BusFullError, match="2 messages of 20 bytes wait to be confirmed, 'a' was not published"):
        window.offer(_message(), 0.0)
    count, size, tally = window.picture()
    assert (count, size, tally["full"]) == (2, 20, 1)


def test_bytes_fill_a_window_too_but_one_message_always_fits():
    window = _window(most=10, most_bytes=100)
    window.offer(_message(size=150), 0.0)
    with pytest.raises(BusFullError):
        window.offer(_message(size=1), 0.0)
    window.release(window.drain(), {})
    window.offer(_message(size=60), 0.0)
    with pytest.raises(BusFullError):
        window.offer(_message(size=60), 0.0)
    window.offer(_message(size=40), 0.0)


def test_a_publisher_waits_for_room_until_its_time_is_over():
    clock = FakeClock()
    window = _window(most=1, clock=clock)
    window.offer(_message(), 0.0)
    waiting = Background(window.offer, _message(), 5.0)
    clock.wait_parked(1)
    clock.advance(5.0)
    with pytest.raises(BusFullError):
        waiting.result()


def test_room_wakes_a_publisher_that_waits():
    clock = FakeClock()
    window = _window(most=1, clock=clock)
    window.offer(_message(), 0.0)
    waiting = Background(window.offer, _message(), None)
    clock.wait_parked(1)
    window.release(window.drain(), {"confirmed": 1})
    waiting.result()
    assert window.picture()[0] == 1


def test_closing_wakes_and_refuses_publishers():
    clock = FakeClock()
    window = _window(most=1, clock=clock)
    window.offer(_message(), 0.0)
    waiting = Background(window.offer, _message(), None)
    clock.wait_parked(1)
    window.close()
    with pytest.raises(ClosedError):
        waiting.result()
    with pytest.raises(ClosedError):
        window.offer(_message(), 0.0)
    window.offer_own(_message())  # a dead letter of a handler that still runs
    assert window.picture()[0] == 2


def test_the_io_thread_is_woken_once_until_it_has_found_nothing():
    window = _window(most=10)
    assert not window.offer(_message(), 0.0)  # nowhere to send
    assert window.allow(True)
    assert [len(window.take()), len(window.take())] == [1, 0]
    assert window.offer(_message(), 0.0)
    assert not window.offer(_message(), 0.0)
    assert len(window.take()) == 2
    assert not window.offer(_message(), 0.0)  # it comes again by itself
    assert len(window.take()) == 1
    assert window.take() == []
    assert window.offer(_message(), 0.0)


def test_nothing_is_sent_while_the_broker_takes_nothing():
    window = _window(most=10)
    window.allow(True)
    window.offer(_message(), 0.0)
    window.allow(False)
    assert window.take() == []
    assert not window.offer(_message(), 0.0)
    assert window.allow(True)
    assert len(window.take()) == 2


def test_a_batch_is_bounded_in_messages_and_bytes_and_keeps_the_order():
    window = _window(most=10_000, most_bytes=100_000_000)
    window.allow(True)
    messages = [_message(number) for number in range(BATCH + 10)]
    for message in messages:
        window.offer(message, 0.0)
    assert window.take() + window.take() == messages
    large = [_message(number, size=BATCH_BYTES // 2 + 1) for number in range(5)]
    for message in large:
        window.offer(message, 0.0)
    assert [len(window.take()) for _ in range(4)] == [2, 2, 1, 0]


def test_messages_given_back_come_first_and_in_their_order():
    window = _window(most=100)
    window.allow(True)
    for number in range(3):
        window.offer(_message(number), 0.0)
    sent = window.take()
    for message in sent:
        message.sendings = 1
    window.offer(_message(3), 0.0)
    window.allow(False)
    window.give_back(sent, first=True)
    assert window.sent_before() == sent
    window.allow(True)
    assert [message.receipt.message_id for message in window.take()] == ["0", "1", "2", "3"]
    assert not window.give_back([], first=False)


class _Interrupting:
    """Looks like a lock, and lets a publisher be interrupted at its n-th step in it, as Ctrl-C does."""

    def __init__(self, lock, step):
        self._lock, self._left = lock, step

    def __enter__(self):
        self._lock.acquire()
        frame = sys._getframe(1)
        self._line = frame.f_lineno  # of the with itself, where CPython lets no signal in
        self._tracer = sys.gettrace()  # coverage's
        sys.settrace(lambda *_: None)
        frame.f_trace = self._trace

    def __exit__(self, *_):
        sys.settrace(self._tracer)
        self._lock.release()

    def _trace(self, frame, event, _argument):
        if event == "line" and frame.f_lineno != self._line:
            self._left -= 1
        if not self._left:
            self._left = -1
            raise KeyboardInterrupt
        return self._trace


@pytest.mark.parametrize("step", range(1, 8))
def test_an_interrupted_publisher_takes_no_place_for_ever(step):
    window = _window(most=10)
    window.allow(True)
    lock = window._lock
    window._lock = _Interrupting(lock, step)
    with contextlib.suppress(KeyboardInterrupt):
        window.offer(_message(), 0.0)
    window._lock = lock
    window.offer(_message(), 0.0)
    taken = window.take()
    assert window.picture()[:2] == (len(taken), 10 * len(taken))
    window.release(taken, {})
    assert window.picture()[:2] == (0, 0)
    assert window.wait_until_empty(0.0)


def test_waiting_until_everything_is_settled():
    clock = FakeClock()
    window = _window(clock=clock)
    assert window.wait_until_empty(0.0)
    window.offer(_message(), 0.0)
    assert not window.wait_until_empty(0.0)
    waiting = Background(window.wait_until_empty, 100.0)
    clock.wait_parked(1)
    window.release(window.drain(), {})
    assert waiting.result()
