"""Publishing what waits in the local store."""

import threading

import pytest

from hireliab.errors import BusError, BusFullError
from hireliab.messaging.bus import PublishReceipt, PublishStatus
from hireliab.messaging.rabbitmq._replay import Replayer
from hireliab.testing import FakeClock
from tests.support.together import Background


class _Kept:
    def __init__(self, seq):
        self.seq = seq
        self.topic, self.body, self.headers, self.message_id = "a", b"1", {}, str(seq)


class _Store:
    def __init__(self, *, fails=False):
        self.kept = []
        self.opened = self.closed = 0
        self._fails = fails
        self._seq = 0

    def open(self):
        self.opened += 1
        if self._fails:
            raise BusError("locked")

    def put(self, *_):
        self._seq += 1
        self.kept.append(_Kept(self._seq))
        return True

    def oldest(self, limit, after=0):
        return [kept for kept in self.kept if kept.seq > after][:limit]

    def remove(self, seqs):
        self.kept = [kept for kept in self.kept if kept.seq not in set(seqs)]

    def __len__(self):
        return len(self.kept)

    def close(self):
        self.closed += 1


class _Broker:
    """Confirms all but those in `fails`, or raises once `room` is used up."""

    def __init__(self):
        self.published = []
        self.fails = set()
        self.room = 10**6
        self.ready = True
        self.answers = True
        self.clock = FakeClock()
        self.held = self.inside = None
        self._open = []

    def publish(self, kept):
        if not self.room:
            raise BusFullError("full")
        self.room -= 1
        self.published.append(kept.seq)
        receipt = PublishReceipt(message_id=kept.message_id, topic=kept.topic, clock=self.clock)
        self._open.append((receipt, PublishStatus.NACKED if kept.seq in self.fails else PublishStatus.CONFIRMED))
        if self.inside is not None:
            self.inside.set()
            assert self.held.wait(10)
        if self.answers:
            self.confirm_all()
        return receipt

    def confirm_all(self):
        for receipt, status in self._open:
            receipt.settle(status)


@pytest.fixture
def store():
    return _Store()


@pytest.fixture
def broker():
    return _Broker()


@pytest.fixture
def replayer(store, broker):
    return Replayer(store, name="b", publish=broker.publish, ready=lambda: broker.ready, clock=broker.clock)


def test_what_waits_is_published_oldest_first_and_forgotten(store, broker, replayer):
    for _ in range(450):
        replayer.put("a", b"1", {}, "id")
    assert replayer._behind
    assert replayer.must_wait()
    assert [replayer.step() for _ in range(4)] == [0.0, 0.0, 0.0, None]
    assert broker.published == list(range(1, 451))
    assert not store.kept
    assert not replayer.must_wait()


def test_what_is_handed_over_but_not_confirmed_holds_up_nobody(store, broker, replayer):
    for _ in range(3):
        replayer.put("a", b"1", {}, "id")
    broker.answers = False
    stepping = Background(replayer.step)
    broker.clock.wait_parked(1)
    assert broker.published == [1, 2, 3]
    assert not replayer.must_wait()
    replayer.put("a", b"1", {}, "id")
    assert replayer.must_wait()
    broker.confirm_all()
    stepping.result()
    assert [kept.seq for kept in store.kept] == [4]


def test_a_publisher_waits_at_the_door_while_the_last_ones_are_handed_over(store, broker, replayer):
    replayer.put("a", b"1", {}, "id")
    broker.held = threading.Event()
    broker.inside = threading.Event()
    stepping = Background(replayer.step)
    assert broker.inside.wait(10)
    at_the_door = Background(replayer.must_wait)
    broker.clock.wait_parked(1)
    broker.held.set()
    assert at_the_door.result() is False
    stepping.result()


def test_a_full_window_opens_the_door_again(store, broker, replayer):
    for _ in range(3):
        replayer.put("a", b"1", {}, "id")
    broker.room = 1
    replayer.step()
    assert replayer.must_wait()
    assert broker.published == [1]


def test_nothing_is_read_while_the_broker_takes_nothing(broker, replayer):
    replayer.put("a", b"1", {}, "id")
    broker.ready = False
    assert replayer.step() > 0
    assert not broker.published
    assert replayer._behind


def test_what_was_not_confirmed_is_published_again(store, broker, replayer):
    for _ in range(3):
        replayer.put("a", b"1", {}, "id")
    broker.fails = {2}
    assert replayer.step() == 0.0
    assert [kept.seq for kept in store.kept] == [2]
    broker.fails = set()
    assert replayer.step() > 0  # nothing behind those; from the beginning, after a pause
    replayer.step()
    assert broker.published == [1, 2, 3, 2]
    assert replayer.step() is None


def test_a_full_window_ends_a_batch_and_loses_nothing(store, broker, replayer):
    for _ in range(5):
        replayer.put("a", b"1", {}, "id")
    broker.room = 2
    assert replayer.step() > 0
    broker.room = 10
    replayer.step()
    assert broker.published == [1, 2, 3, 4, 5]
    assert not store.kept


def test_a_store_that_shows_what_was_removed_for_a_moment_is_not_published_twice(store, broker, replayer, monkeypatch):
    for _ in range(3):
        replayer.put("a", b"1", {}, "id")
    removed = []
    monkeypatch.setattr(store, "remove", removed.extend)  # it takes its time
    assert replayer.step() == 0.0
    assert replayer.step() > 0
    assert broker.published == removed == [1, 2, 3]


def test_a_store_that_cannot_be_opened_is_told_and_may_be_tried_again():
    store = _Store(fails=True)
    replayer = Replayer(store, name="b", publish=_Broker().publish, ready=lambda: True, clock=FakeClock())
    for _ in range(2):
        with pytest.raises(BusError, match="locked"):
            replayer.start()
    assert store.opened == 2
    replayer.stop(1.0)
    replayer.start()  # a stopped one does not begin
    assert store.opened == 2


def test_its_thread_publishes_what_an_earlier_process_left(store, broker):
    store.put()
    replayer = Replayer(store, name="b", publish=broker.publish, ready=lambda: True, clock=FakeClock())
    replayer.start()
    replayer.start()
    replayer.stop(10.0)
    replayer.close()
    assert (store.opened, store.closed) == (1, 1)
    assert broker.published in ([], [1])  # it may have been stopped before its first step
