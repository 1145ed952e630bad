import pytest

from hireliab.errors import ConfigError
from hireliab.messaging import message_bus
from hireliab.messaging.message_bus import InMemoryMessageBus, open_message_bus
from hireliab.testing import FakeClock


def test_the_door_has_every_promised_name():
    promised = {"MessageBus", "InMemoryMessageBus", "Message", "PublishReceipt", "Reject", "open_message_bus"}
    assert set(message_bus.__all__) == promised
    assert all(hasattr(message_bus, name) for name in promised)


@pytest.mark.parametrize(("url", "name"), [("memory://", "memory"), ("memory://prices", "prices")])
def test_a_memory_address_opens_a_bus_in_memory(url, name):
    with open_message_bus(url, clock=FakeClock()) as bus:
        assert isinstance(bus, InMemoryMessageBus)
        assert bus.name == name


@pytest.mark.parametrize("url", ["amqp://user:hunter2@host/", "amqps://user:hunter2@host/"])
def test_an_amqp_address_says_when_it_comes_and_keeps_the_password(url):
    with pytest.raises(ConfigError, match="RabbitMQ issue") as caught:
        open_message_bus(url)
    assert "hunter2" not in f"{caught.value!r}{vars(caught.value)}"


@pytest.mark.parametrize("url", ["", "memory", "memory:/", "redis://user:hunter2@host", None])
def test_another_address_is_refused_without_repeating_it(url):
    with pytest.raises(ConfigError, match="use memory://") as caught:
        open_message_bus(url)
    assert "hunter2" not in f"{caught.value!r}{vars(caught.value)}"
