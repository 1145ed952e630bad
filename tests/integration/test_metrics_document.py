"""docs/metrics-and-health.rst, executed against the simulator; its tables and blocks name what exists."""

import re

import pytest

from hireliab import cli
from hireliab.core.circuit_breaker import registry
from hireliab.monitoring._health_rules import NEVER_DOWN
from hireliab.monitoring._metrics_table import COUNTER, HISTOGRAM, TABLE
from hireliab.simulator.server import Simulator
from tests.support import documents
from tests.support.documents import ROOT
from tests.support.together import until

PAGE = "docs/metrics-and-health.rst"
LAST = 6  # the block that stops everything


def text():
    return (ROOT / PAGE).read_text(encoding="utf-8")


def test_the_pages_code_blocks_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("prometheus_client")
    monkeypatch.setenv("HIRELIAB_HOME", str(tmp_path))
    assert len(list(documents.blocks(PAGE))) == LAST + 1
    with Simulator(seed=1, truth=tmp_path / "truth.jsonl") as simulator:
        space = {"TOKEN": simulator.token, "BASE_URL": simulator.base_url}
        try:
            # Port 9464 may be taken on this machine.
            documents.run(PAGE, space, replace=[("port=9464", "port=0")], only=range(LAST))
            assert capsys.readouterr().out.splitlines() == ["1.0", "1.0", "{}", space["exporter"].url, "healthy"]
            assert space["health"].report()
            until((tmp_path / "grid-bot" / "status.json").exists)
            for line in re.findall(r"^   hireliab (status .*)$", text(), re.MULTILINE):
                assert until_known(line.split(), capsys) == 0
        finally:
            documents.run(PAGE, space, only=[LAST])
            registry.discard("news")


def until_known(args, capsys):
    """The exit code, once the bot has written what its first check found."""
    codes = []

    def asked():
        codes.append(cli.main(args))
        return codes[-1] == 0

    until(asked)
    out, err = capsys.readouterr()
    assert ("bot grid-bot: healthy" in out) or ('"health": "healthy"' in out)
    assert err == ""
    return codes[-1]


def test_the_metrics_that_the_page_names_exist():
    suffixes = {COUNTER: ["_total"], HISTOGRAM: ["_bucket", "_count", "_sum"]}
    known = {"hireliab_up"}
    for kind in TABLE.values():
        for measure in kind.measures:
            known |= {f"hireliab_{kind.prefix}_{measure.name}{end}" for end in suffixes.get(measure.type, [""])}
    named = set(re.findall(r"hireliab_[a-z_]+[a-z](?!\w)", text()))
    assert len(named) > 8
    assert named <= known
    # What begins the names: every kind is in the table, and nothing else is.
    prefixes = set(re.findall(r"``(hireliab_[a-z_]+_)``", text())) | {"hireliab_alert_"}
    for prefix in prefixes:
        assert any(name.startswith(prefix) for name in known)
    for name in known - {"hireliab_up"}:
        assert any(name.startswith(prefix) for prefix in prefixes), name


def test_the_rules_are_yaml_that_prometheus_takes():
    yaml = pytest.importorskip("yaml")
    block = re.search(r"\.\. code-block:: yaml\n\n((?:   .*\n|\n)+)", text())[1]
    (group,) = yaml.safe_load(block)["groups"]
    assert [set(rule) for rule in group["rules"]] == [{"alert", "expr"}] * 3


def test_the_parts_that_are_never_down_have_nothing_under_down():
    said = text().split("Degraded\n==", 1)[1].split("\n\n", 1)[0]
    words = {"bus": "message bus", "alerts": "alert system", "outbox": "outbox", "inbox": "bulkhead, inbox"}
    for kind in NEVER_DOWN:
        row = next(line for line in said.splitlines() if line.startswith(words[kind]))
        assert row[20:88].strip() == ""
