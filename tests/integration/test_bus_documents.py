"""docs/bus.rst: its code blocks run, the RabbitMQ ones against a broker of our own, and its tables are the code's."""

import dataclasses

from hireliab._testing_faults import AT_DELIVERY, AT_PUBLISH
from hireliab.core.clock import SYSTEM_CLOCK
from hireliab.messaging.memory_bus import MemoryBusConfig
from hireliab.messaging.rabbitmq.bus import RabbitMQConfig
from hireliab.testing import FaultyBus, ScriptedExchange
from tests.support import documents
from tests.support.buses import until

PAGE = "docs/bus.rst"


def defaults(config):
    return {field.name: str(field.default) for field in dataclasses.fields(config)}


def test_the_tables_of_settings_are_those_of_the_configs():
    assert documents.settings(PAGE) == defaults(RabbitMQConfig)
    assert documents.settings(PAGE, "Settings in memory") == defaults(MemoryBusConfig)


def test_every_fault_is_described():
    page = (documents.ROOT / PAGE).read_text(encoding="utf-8")
    for fault in (*AT_PUBLISH, *AT_DELIVERY):
        assert f"``{fault}``" in FaultyBus.__doc__
        assert f"``{fault}``" in page


def test_the_code_blocks_run(broker, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HIRELIAB_HOME", str(tmp_path / "home"))
    space = {"adapter": ScriptedExchange(clock=SYSTEM_CLOCK)}
    documents.run(PAGE, space, replace=[("amqp://bot:secret@rabbit.example.com/trading", broker.url)])
    bus, verifier, inbox = space["bus"], space["verifier"], space["inbox"]
    try:
        until(lambda: inbox.stats().duplicates == 1)
        assert (inbox.stats().handled, inbox.stats().failed) == (1, 0)
        groups = {one.group: one for one in bus.status().subscriptions}
        until(lambda: {one.group: one for one in bus.status().subscriptions}["bookkeeping"].acked == 1)
        assert set(groups) == {"bookkeeping", "payments", "positions"}
    finally:
        verifier.stop()
        bus.stop()
        inbox.close()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "order.filled 50000.10"
    assert "1 7" in printed
    assert "1" in printed
    assert printed.count("paid 12.50") == 1
    assert any(line.startswith("running True False") for line in printed)
