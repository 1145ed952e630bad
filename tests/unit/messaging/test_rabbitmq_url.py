import logging
import ssl
import threading

import pytest

from hireliab.errors import ConfigError
from hireliab.messaging.rabbitmq._link import parameters, quieten_pika, tls_context
from hireliab.messaging.rabbitmq._settings import RabbitMQConfig
from hireliab.messaging.rabbitmq._url import Address, parse_addresses


def _one(url):
    (address,) = parse_addresses(url)
    return address


def test_an_address_says_host_port_vhost_and_who_we_are():
    address = _one("amqp://bot:p%40ss@mq.example:5673/prices")
    assert (address.host, address.port, address.vhost) == ("mq.example", 5673, "prices")
    assert (address.user, address.password, address.tls) == ("bot", "p@ss", False)
    assert str(address) == "mq.example:5673"


@pytest.mark.parametrize(
    ("url", "port", "vhost", "tls"),
    [
        ("amqp://host", 5672, "/", False),
        ("amqp://host/", 5672, "/", False),
        ("amqps://host", 5671, "/", True),
        ("amqp://host/%2F", 5672, "/", False),
        ("amqp://host/a%2Fb", 5672, "a/b", False),
        ("amqp://[::1]:7/x", 7, "x", False),
    ],
)
def test_what_is_left_out_has_the_usual_value(url, port, vhost, tls):
    address = _one(url)
    assert (address.port, address.vhost, address.tls) == (port, vhost, tls)
    assert (address.user, address.password) == ("guest", "guest")


def test_an_ipv6_host_is_written_with_brackets():
    assert str(_one("amqp://[::1]:7")) == "[::1]:7"


def test_several_hosts_are_several_addresses():
    addresses = parse_addresses(["amqp://a", "amqps://b:1"])
    assert [str(address) for address in addresses] == ["a:5672", "b:1"]


def test_options_are_read():
    address = _one("amqps://h?heartbeat=7&connection_timeout=1.5&cacertfile=/ca.pem&certfile=/c.pem&keyfile=/k.pem")
    assert (address.heartbeat, address.connection_timeout) == (7, 1.5)
    assert (address.ca_file, address.cert_file, address.key_file) == ("/ca.pem", "/c.pem", "/k.pem")


def test_an_unknown_option_names_the_near_miss():
    with pytest.raises(ConfigError, match="did you mean 'heartbeat'") as caught:
        parse_addresses("amqp://u:hunter2@h?hartbeat=7")
    assert caught.value.near_miss == "heartbeat"
    assert "hunter2" not in f"{caught.value!r}{vars(caught.value)}"


@pytest.mark.parametrize(
    "url",
    [
        "amqp://",
        "amqp://u:hunter2@",
        "amqp://u:hunter2@h:0",
        "amqp://u:hunter2@h:99999",
        "amqp://u:hunter2@h:x",
        "amqp://u:hunter2@h/a/b",
        "amqp://u:hunter2@h/#x",
        "amqp://u:hunter2@[::1",
        "amqp://u:hunter2@h h",
        "amqp://u:hunter2@h\n",
        "http://u:hunter2@h",
        "amqp://u:hunter2@h?heartbeat=-1",
        "amqp://u:hunter2@h?heartbeat=hunter2",
        "amqp://u:hunter2@h?heartbeat=1&heartbeat=2",
        "amqp://u:hunter2@h?connection_timeout=nan",
        "amqp://u:hunter2@h?cacertfile=/x",
        "amqps://u:hunter2@h?cacertfile=",
        "amqps://u:hunter2@h?keyfile=/k",
        [],
        ["amqp://h", None],
        ["amqp://h"] * 33,
        7,
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(url):
    with pytest.raises(ConfigError) as caught:
        parse_addresses(url)
    assert "hunter2" not in f"{caught.value!r}{vars(caught.value)}"
    assert caught.value.__cause__ is None


def test_the_password_is_in_no_text_of_an_address():
    address = Address(host="h", port=1, password="hunter2")
    assert "hunter2" not in f"{address!r}{address}"


def test_what_pika_is_told_shows_no_password_either():
    told = parameters(_one("amqp://u:hunter2@h/v?heartbeat=7"), name="bus", heartbeat=15, connection_timeout=5.0)
    assert "hunter2" not in f"{told!r}"
    assert told.heartbeat == 7
    assert told.credentials.password == "hunter2"


@pytest.mark.parametrize(
    ("level", "thread", "told"),
    [
        (logging.INFO, "hireliab.bus.b-publish", []),
        (logging.DEBUG, "hireliab.bus.b-publish", ["DEBUG"]),
        (logging.INFO, "MainThread", ["ERROR"]),
    ],
)
def test_what_pika_logs_on_our_threads_is_debug_and_elsewhere_as_it_is(caplog, level, thread, told):
    quieten_pika()
    quieten_pika()
    log = logging.getLogger("pika.adapters.base_connection")
    with caplog.at_level(level, "pika"):
        worker = threading.Thread(target=lambda: log.error("no broker"), name=thread)
        worker.start()
        worker.join()
    assert [record.levelname for record in caplog.records] == told


def test_certificates_are_checked_and_the_hosts_name_too():
    told = parameters(_one("amqps://mq.example"), name="bus", heartbeat=15, connection_timeout=5.0)
    context = told.ssl_options.context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert told.ssl_options.server_hostname == "mq.example"


def test_a_certificate_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="cannot be used"):
        tls_context(_one("amqps://h?cacertfile=/nowhere/ca.pem"))


@pytest.mark.parametrize(
    "setting",
    [
        {"amqp_exchange": "amq.topic"},
        {"amqp_exchange": "é"},
        {"amqp_exchange": ""},
        {"amqp_exchange": "x" * 61},
        {"queue_type": "stream"},
        {"max_length": 0},
        {"retry_delays": 3},
        {"retry_delays": [500, 500]},
        {"retry_delays": [-1]},
        {"delivery_limit": 4},
        {"window": 0},
        {"window_bytes": 1_000_000},
        {"when_full": "drop"},
        {"block_timeout": 0},
        {"confirm_timeout": 0.5},
        {"heartbeat": -1},
        {"heartbeat": 1.5},
        {"connection_timeout": 0},
        {"max_message_bytes": 0},
        {"source": ""},
    ],
)
def test_a_setting_out_of_its_range_is_refused(setting):
    with pytest.raises(ConfigError) as caught:
        RabbitMQConfig(**setting)
    assert caught.value.setting in (*setting, "window_bytes")
