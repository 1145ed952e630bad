"""README.rst and the quick start, run as they stand."""

import re
import shlex

import pytest

from hireliab import cli
from hireliab.simulator.server import Simulator
from hireliab.simulator.truth import read
from tests.support import documents
from tests.support.venue import OtherExchange

QUICK_START = "docs/quick-start.rst"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HIRELIAB_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("fault", [None, "answer lost"])
def test_the_readmes_code_blocks_run(tmp_path, capsys, fault):
    with Simulator(seed=1, truth=tmp_path / "truth.jsonl") as simulator, OtherExchange() as other:
        other.faults = [fault]
        space = {"TOKEN": simulator.token, "BASE_URL": simulator.base_url}
        documents.run("README.rst", space, replace=[("https://api.example.com", other.url)])
    assert capsys.readouterr().out.startswith("bought 0.001 at ")
    assert space["order"] == other.orders[0]  # as it would have been without the fault
    assert len(other.orders) == 1
    space["session"].close()


def test_the_readme_is_short():
    assert len((documents.ROOT / "README.rst").read_text(encoding="utf-8").splitlines()) <= 150


def test_what_the_readme_names_is_there():
    text = (documents.ROOT / "README.rst").read_text(encoding="utf-8")
    files = re.findall(r"(?:``|:: )(docs/[\w/.-]+\.\w+|\w+\.rst)", text)
    assert len([name for name in files if name.endswith(".svg")]) == 2
    for name in files:
        assert (documents.ROOT / name).exists() or (documents.ROOT / "docs" / name).exists(), name
    commands = re.findall(r"``hireliab (\w+)", text)
    assert {"status", "transactions", "halt"} <= set(commands) <= set(cli.root.commands)


@pytest.fixture
def practice(tmp_path):
    """The simulator of the page: the token that it gives is the one in the bot."""
    page = (documents.ROOT / QUICK_START).read_text(encoding="utf-8")
    token = re.search(r"--token (\w+)", page)[1]
    with Simulator(seed=1, truth=tmp_path / "truth.jsonl", token=token) as practice:
        yield practice


def first_bot(practice, *only):
    here = [("http://127.0.0.1:8080", practice.base_url)]
    return documents.run(QUICK_START, {}, replace=here, only=only or None)


def test_the_quick_start_buys_and_tells_what_can_happen(practice, capsys):
    first_bot(practice)
    first, *others = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"bought 0\.001 BTC at [\d.]+ USDT", first)
    page = (documents.ROOT / QUICK_START).read_text(encoding="utf-8")
    told = re.findall(r"^   print\(buy\(.*\)\) +# (.*)$", page, re.MULTILINE)
    assert len(told) == len(others) == 3
    for line, promised in zip(others, told, strict=True):
        assert line.startswith(promised.removesuffix("..."))


def test_run_twice_it_buys_once(practice, capsys):
    for _ in range(2):
        first_bot(practice)
    printed = capsys.readouterr().out.splitlines()
    assert printed[:3] == printed[4:7]
    bought = {record["client_order_id"] for record in read(practice.truth) if record["kind"] == "order"}
    assert len(bought) == 2  # "first" and "signal-1"


def test_its_commands_look_at_the_bot(practice, capsys):
    space = first_bot(practice, 0)
    try:
        page = (documents.ROOT / QUICK_START).read_text(encoding="utf-8")
        commands = [shlex.split(line.strip())[1:] for line in page.splitlines() if line.startswith("   hireliab ")]
        assert [words[0] for words in commands] == ["status", "transactions"]
        capsys.readouterr()
        assert cli.main(commands[1]) == 0
        assert "COMPLETED" in capsys.readouterr().out
        assert cli.main(commands[0]) in (0, 1, 2)  # the bot has just begun
        assert "first-bot" in capsys.readouterr().out
    finally:
        space["verifier"].stop()
        space["adapter"].stop()
