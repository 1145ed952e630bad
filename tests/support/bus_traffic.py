"""Buses on a broker's node of our own, and what tests of their faults publish, collect and count."""

import threading
import time

import pytest

CAP = 60.0
"""Seconds that anything may take on a machine that is busy with other things."""


def until(condition, what="that did not happen", cap=CAP):
    """Wait for the condition, which nothing announces; returns its value."""
    give_up = time.monotonic() + cap
    while not (value := condition()):
        assert time.monotonic() < give_up, what() if callable(what) else what
        time.sleep(0.005)
    return value


class Collector:
    """A handler that keeps what it gets, in the order in which it gets it; `act` may fail for it."""

    def __init__(self, act=None):
        self.arrived = threading.Condition()
        self.messages = []
        self._act = act

    def __call__(self, message):
        with self.arrived:
            self.messages.append(message)
            self.arrived.notify_all()
        if self._act is not None:
            self._act(message)

    def data(self):
        with self.arrived:
            return [message.data for message in self.messages]

    def wait(self, condition, cap=CAP):
        """Until `condition(messages)` is true, or as many messages as it says have come. Returns their data."""
        if isinstance(condition, int):
            count, condition = condition, lambda messages: len(messages) >= count
        with self.arrived:
            assert self.arrived.wait_for(lambda: condition(self.messages), cap), f"{len(self.messages)} came"
        return self.data()


def fresh(messages):
    """
    The data of what never came again, in order. What a consumer had in hand when its connection ended is given back when
    the broker notices that; by then the next consumer may have got newer messages.
    """
    again = {message.id for message in messages if message.redelivered}
    return list(dict.fromkeys(message.data for message in messages if message.id not in again))


def make_bus(url, *, name="faults", **config):
    """A bus that does not dawdle: short heartbeats, no pause before another attempt."""
    from hireliab.messaging.rabbitmq.bus import RabbitMQMessageBus

    spill = config.pop("spill", None)
    settings = {"retry_delays": [0.0, 0.0], "heartbeat": 5, **config}
    return RabbitMQMessageBus(settings, url=url, name=name, spill=spill)


@pytest.fixture
def impatient(monkeypatch):
    """Buses that try everything again at once, as who waits for their tests would wish."""
    from hireliab.messaging.rabbitmq import _backoff, publisher

    monkeypatch.setattr(_backoff, "LONGEST_PAUSE", 0.5)
    monkeypatch.setattr(_backoff, "REFUSED_PAUSE", 1.0)
    monkeypatch.setattr(publisher, "NACK_PAUSES", (0.01, 0.02))
