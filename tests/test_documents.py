"""
No code block of README or docs is there only to be looked at: each is run by a test, or is listed here with the reason.

A page's Python blocks count as run when a test calls ``documents.run`` with the page: that runs all of them. Everything
else (shell, pictures in text, other languages) stands in `OTHER_BLOCKS` by its first line.
"""

import ast
import functools

import pytest

from tests.support import documents
from tests.support.documents import ROOT

NEEDS_A_BROKER_TOOL = "not run: a tool of RabbitMQ's, and its plug-in for management, on the broker's machine"
PICTURE = "not run: a picture in text"

# Page -> first line of the block -> the test that runs or checks it, or why none can.
OTHER_BLOCKS = {
    "README.rst": {
        "python3 -m venv .venv && .venv/bin/python -m pip install -q . && .venv/bin/python -m hireliab.examples"
        ".high_reliability_demo": "not run: .ci/run does both commands, in this order",
        "python3 -m venv .venv && .venv/bin/python -m pip install -q -e '.[test]' && .venv/bin/python -m pytest": "tests/test_documents.py::test_ci_runs_the_readmes_commands",
    },
    "benchmarks/README.rst": {
        "python -m benchmarks                        all of them": "not run: hours; .ci/run has the quick ones",
        "python -m benchmarks --from FILE … --json benchmarks/results/report.json --csv benchmarks/results/table.csv": "tests/unit/benchmarks/test_summary.py::test_the_committed_files_are_of_one_report",
    },
    "docs/alerts.rst": {
        "hireliab alerts test                                      # console, telegram and email, from the variables above": "tests/integration/test_documents_shell.py::test_the_alerts_commands_reach_the_channels",
    },
    "docs/benchmarks.rst": {
        "python -m pip install '.[bench]'                          from a checkout": "not run: half an hour; .ci/run has the quick ones",
    },
    "docs/bus.rst": {
        "rabbitmqadmin get queue=hireliab.dead.queue.bookkeeping count=10": NEEDS_A_BROKER_TOOL,
    },
    "docs/circuit-breaker.rst": {
        "closed      every call passes; failures are counted": PICTURE,
    },
    "docs/errors.rst": {
        "HireliabError": "tests/test_reference_pages.py::test_the_hierarchy_on_the_page_is_that_of_the_code",
    },
    "docs/from-a-legacy-bot.rst": {
        "python -m hireliab.examples.legacy_bot_before": "tests/integration/test_examples.py::test_the_legacy_bots_print_the_difference",
        "hireliab transactions list --name grid-bot": "tests/integration/test_from_a_legacy_bot.py::test_the_commands_beside_the_running_bot_work",
    },
    "docs/metrics-and-health.rst": {
        "groups:": "tests/integration/test_metrics_document.py::test_the_rules_are_yaml_that_prometheus_takes",
        "hireliab status --name grid-bot": "tests/integration/test_metrics_document.py::test_the_pages_code_blocks_run",
        "# grid-bot.service": "not run: a unit of systemd",
    },
    "docs/policy.rst": {
        "fallback            the answer when nothing else can answer; for idempotent calls only": "tests/test_documents.py::test_the_picture_of_a_policy_has_its_order",
    },
    "docs/quick-start.rst": {
        "python -m pip install path/to/hireliab": "tests/integration/test_self_test.py::test_every_part_works_in_this_installation",
        "hireliab status --name first-bot": "tests/integration/test_readme.py::test_its_commands_look_at_the_bot",
        "python -m hireliab.simulator --port 8080 --token 0123456789abcdef0123456789abcdef01234567": "tests/integration/test_documents_shell.py::test_the_simulator_starts_with_the_pages_command",
    },
    "docs/simulator.rst": {
        "python -m hireliab.simulator --port 8080 --seed 1 --truth truth.jsonl": "tests/integration/test_documents_shell.py::test_the_simulator_starts_with_the_pages_command",
    },
    "docs/venue-check.rst": {
        "export NOBITEX_TOKEN=...": "tests/integration/test_documents_shell.py::test_the_checks_of_the_exchange_run",
    },
    "docs/verified-transactions.rst": {
        "prepare   validate, quantise, price, limiter, breaker, client     everything that can wait or refuse": PICTURE,
    },
}
# Pages each of whose blocks is run by this test, whatever its language.
WHOLE_PAGES = {
    "docs/operator.rst": "tests/integration/test_operator_document.py::test_the_pages_commands_print_what_it_shows",
}


@functools.cache
def callers():
    """Page -> tests that call documents.run with it, found in the text of the tests."""
    found = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "documents" not in text:
            continue
        tree = ast.parse(text)
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "documents.run" and node.args:
                page = node.args[0]
                name = page.value if isinstance(page, ast.Constant) else constants.get(ast.unparse(page))
                if name:
                    found.setdefault(name, []).append(path.relative_to(ROOT).as_posix())
    return found


def functions(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("page", documents.pages())
def test_every_block_of_a_page_is_run_or_listed_with_the_reason(page):
    if page in WHOLE_PAGES:
        return
    listed = OTHER_BLOCKS.get(page, {})
    unknown = []
    for line, language, source in documents.all_blocks(page):
        if language == "python":
            if page not in callers():
                unknown.append(f"{page}:{line}: no test calls documents.run with this page")
        elif source.splitlines()[0] not in listed:
            unknown.append(f"{page}:{line}: list it in OTHER_BLOCKS: {source.splitlines()[0]!r}")
    assert not unknown, "\n".join(unknown)


def test_the_list_names_no_block_that_is_gone():
    for page, listed in OTHER_BLOCKS.items():
        there = [
            source.splitlines()[0] for _line, language, source in documents.all_blocks(page) if language != "python"
        ]
        assert set(listed) <= set(there), page


def test_the_list_names_tests_that_exist_and_reasons():
    named = [told for listed in OTHER_BLOCKS.values() for told in listed.values()] + list(WHOLE_PAGES.values())
    for told in named:
        if not told.startswith("not run: "):
            path, _, name = told.partition("::")
            assert name in functions(path), told


def test_a_page_that_nobody_runs_is_noticed(tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "new.rst").write_text(
        "New\n===\n\n.. code-block:: python\n\n   print(1)\n\nAnd so::\n\n   ls\n"
    )
    (tmp_path / "docs" / "new.md").write_text("# New\n\n```python\nprint(1)\n```\n\n```{code-block} console\nls\n```\n")
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    for page in ("docs/new.rst", "docs/new.md"):
        with pytest.raises(AssertionError, match=r"no test calls documents.run(.|\n)*'ls'"):
            test_every_block_of_a_page_is_run_or_listed_with_the_reason(page)
        assert [source.strip() for _line, source in documents.blocks(page)] == ["print(1)"]


@pytest.mark.parametrize("page", documents.pages())
def test_the_runner_finds_every_python_block_that_the_reader_sees(page):
    shown = [source.strip() for _line, language, source in documents.all_blocks(page) if language == "python"]
    assert [source.strip() for _line, source in documents.blocks(page)] == shown


def test_ci_runs_the_readmes_commands():
    readme = (ROOT / "README.rst").read_text(encoding="utf-8")
    assert any(line.strip().endswith("pytest") for line in readme.splitlines())
    assert "grep -E '^ +python3 .*pytest' README.rst" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_picture_of_a_policy_has_its_order():
    from hireliab.core.bulkhead import Bulkhead
    from hireliab.core.circuit_breaker import CircuitBreaker
    from hireliab.core.policy import Policy
    from hireliab.core.rate_limiter import RateLimiter
    from hireliab.core.retry import Retry

    policy = Policy(  # every part there is
        name="p",
        idempotent=True,
        fallback=str,
        deadline=1.0,
        retry=Retry(),
        breaker=CircuitBreaker(name="b"),
        bulkhead=Bulkhead(name="h", max_concurrent=1),
        limiter=RateLimiter(name="l", limit=1, per=1.0),
    )
    (picture,) = [source for _line, language, source in documents.all_blocks("docs/policy.rst") if language == "text"]
    layers = [line.split("  ")[0].removeprefix("the ") for line in picture.splitlines()]
    told = [
        line.split(". ", 1)[1].replace("circuit breaker 'b'", "breaker") for line in policy.explain().splitlines()[1:]
    ]
    assert len(told) == len(layers)
    for layer, line in zip(layers, told, strict=True):
        assert line.removeprefix("the ").startswith(layer), (layer, line)
