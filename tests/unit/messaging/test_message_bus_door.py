import subprocess
import sys

import pytest

from hireliab.errors import ConfigError
from hireliab.messaging import message_bus
from hireliab.messaging.message_bus import InMemoryMessageBus, open_message_bus
from hireliab.testing import FakeClock


def test_the_door_has_every_promised_name():
    promised = {"MessageBus", "InMemoryMessageBus", "Inbox", "Message", "PublishReceipt", "Reject", "open_message_bus"}
    assert set(message_bus.__all__) == promised
    assert all(hasattr(message_bus, name) for name in promised)


@pytest.mark.parametrize(("url", "name"), [("memory://", "memory"), ("memory://prices", "prices")])
def test_a_memory_address_opens_a_bus_in_memory(url, name):
    with open_message_bus(url, clock=FakeClock()) as bus:
        assert isinstance(bus, InMemoryMessageBus)
        assert bus.name == name


@pytest.mark.parametrize("url", ["amqp://user:hunter2@host/", ["amqp://user:hunter2@a", "amqps://user:hunter2@b:1"]])
def test_an_amqp_address_opens_a_bus_over_rabbitmq_that_is_not_started(url):
    bus = open_message_bus(url, name="prices", config={"window": 7}, clock=FakeClock())
    assert type(bus).__name__ == "RabbitMQMessageBus"
    assert bus.name == "prices"
    assert bus.status().state == "new"
    assert "hunter2" not in f"{bus!r}{bus.status()}"


def test_a_local_store_is_used_when_a_bus_over_rabbitmq_is_full():
    bus = open_message_bus("amqp://host", spill=lambda *_: True, clock=FakeClock())
    assert bus._config.when_full == "spill"
    other = open_message_bus("amqp://host", spill=lambda *_: True, config={"when_full": "block"}, clock=FakeClock())
    assert other._config.when_full == "block"


def test_a_local_store_has_no_place_in_memory():
    with pytest.raises(ConfigError, match="no use"):
        open_message_bus("memory://", spill=lambda *_: True)


def test_settings_reach_the_bus_in_memory():
    with pytest.raises(ConfigError, match="did you mean 'queue_size'"):
        open_message_bus("memory://", config={"queue_sice": 1})


def test_opening_a_bus_in_memory_loads_no_pika():
    code = "import sys; from hireliab import open_message_bus as o; o('memory://').stop(); assert 'pika' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


@pytest.mark.parametrize(
    "url", ["", "memory", "memory:/", "redis://user:hunter2@host", None, [], ["memory://"], "amqp:user:hunter2@host"]
)
def test_another_address_is_refused_without_repeating_it(url):
    with pytest.raises(ConfigError, match="use memory://") as caught:
        open_message_bus(url)
    assert "hunter2" not in f"{caught.value!r}{vars(caught.value)}"
