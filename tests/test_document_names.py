"""What README and docs call by name is there: methods, settings, modules, commands and their options."""

import dataclasses
import functools
import importlib
import inspect
import re

import click
import pytest

import hireliab
from hireliab import cli
from hireliab.core.circuit_breaker import CircuitBreaker
from hireliab.exchange._pipeline_settings import PipelineConfig
from hireliab.exchange.connection_pool import Lease
from hireliab.monitoring.health import HealthMonitor
from hireliab.monitoring.metrics import Metrics
from tests.support import documents
from tests.support.documents import ROOT

# What the documents call their objects -> the class.
OBJECTS = {
    "verifier": hireliab.TransactionVerificationPipeline,
    "pipeline": hireliab.TransactionVerificationPipeline,
    "adapter": hireliab.EnhancedNobitexAdapter,
    "breaker": CircuitBreaker,
    "limiter": hireliab.RateLimiter,
    "pool": hireliab.ConnectionPool,
    "connection_pool": hireliab.ConnectionPool,
    "lease": Lease,
    "alerts": hireliab.AlertSystem,
    "alert_system": hireliab.AlertSystem,
    "bus": hireliab.MessageBus,
    "inbox": hireliab.Inbox,
    "policy": hireliab.Policy,
    "metrics": Metrics,
    "health": HealthMonitor,
    "unknown": hireliab.OutcomeUnknownError,
    "partial": hireliab.PartialFillError,
}
OWN_OF_ONE = {"bus": ("dead_letters",)}  # what only one of the buses has
FILES = {"alerts.db"}  # no attributes


PACKAGES = {path.stem for path in (ROOT / "hireliab").iterdir()}


@functools.cache
def attributes(cls):
    """Names that objects of the class have, those that only __init__ sets included."""
    names = (
        set(dir(cls)) | {field.name for field in dataclasses.fields(cls)}
        if dataclasses.is_dataclass(cls)
        else set(dir(cls))
    )
    source = "".join(inspect.getsource(one) for one in cls.__mro__ if one.__module__.startswith("hireliab"))
    return names | set(re.findall(r"self\.(\w+)(?:: [^=\n]+)? = ", source))


def text(page):
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", documents.pages())
def test_methods_and_attributes_that_a_page_uses_exist(page):
    for name, attribute in re.findall(r"(?<![\w./\"'-])([a-z_]+)\.([a-z]\w*)", text(page)):
        cls = OBJECTS.get(name)
        if cls is None or f"{name}.{attribute}" in FILES or attribute in OWN_OF_ONE.get(name, ()):
            continue
        assert attribute in attributes(cls), f"{page}: {name}.{attribute}: {cls.__name__} has no such thing"


@pytest.mark.parametrize("page", documents.pages())
def test_modules_and_what_is_in_them_exist(page):
    for dotted in set(re.findall(r"\bhireliab(?:\.[a-zA-Z_]\w*)+", text(page))):
        if dotted.split(".")[1] not in PACKAGES:
            continue  # the name of a thread, of a logger, of a queue
        parts = dotted.split(".")
        for count in range(len(parts), 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:count]))
            except ImportError:
                continue
            for name in parts[count:]:
                assert hasattr(found, name), f"{page}: {dotted}"
                found = getattr(found, name)
            break


def commands(group=cli.root, before=("hireliab",)):
    """Every command: its words and the options that it takes."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        words = (*before, name)
        yield words, {option for parameter in command.params for option in getattr(parameter, "opts", [])}
        if isinstance(command, click.Group):
            yield from commands(command, words)


KNOWN = dict(commands())


@pytest.mark.parametrize("page", documents.pages())
def test_commands_and_their_options_exist(page):
    shown = re.findall(r"``(hireliab [a-z][^`]*)``", text(page))
    for _line, language, source in documents.all_blocks(page):
        if language != "python":
            shown += re.findall(r"^ *(?:\$ )?(hireliab [a-z].*)", source, re.MULTILINE)
    if page == "CHANGELOG.rst":
        return  # it tells what was
    for line in shown:
        words = line.split("  ")[0].split()
        best = max((known for known in KNOWN if tuple(words[: len(known)]) == known), key=len, default=None)
        assert best, f"{page}: {line}"
        for option in re.findall(r"(?<!\S)(--[a-z-]+)", line):
            assert option in KNOWN[best] | {"--help"}, f"{page}: {line}: no {option}"


@pytest.mark.parametrize("page", documents.pages())
def test_options_that_a_page_speaks_of_exist(page):
    options = {option for taken in KNOWN.values() for option in taken}
    for option in set(re.findall(r"``(--[a-z][a-z-]+)", text(page))):
        others = ("docs/simulator.rst", "benchmarks/README.rst", "CHANGELOG.rst", "docs/benchmarks.rst")
        assert option in options or page in others, f"{page}: {option}"


def test_the_pipelines_table_of_settings_is_that_of_its_config():
    fields = {field.name: str(field.default) for field in dataclasses.fields(PipelineConfig)}
    assert documents.settings("docs/verified-transactions.rst") == fields


def test_the_breakers_table_of_settings_is_that_of_its_constructor():
    listed = documents.settings("docs/circuit-breaker.rst")
    parameters = inspect.signature(CircuitBreaker).parameters
    for name, told in listed.items():
        assert name in parameters, name
        default = parameters[name].default
        if told not in ("none", "None") and default is not None:
            assert told.strip('"') == str(default).strip('"'), name
    assert set(parameters) - set(listed) <= {
        "name",
        "clock",
        "fail_max",
        "throw_new_error_on_trip",
        "state_storage",
        "settings",
        "pybreaker_names",
    }


def test_the_limiters_table_of_settings_is_that_of_its_constructor():
    listed = documents.settings("docs/rate-limiter.rst")
    assert set(listed) == set(inspect.signature(hireliab.RateLimiter).parameters) - {"clock"}


def test_the_operators_table_of_commands_is_complete():
    page = text("docs/operator.rst").split("\nLooking\n-------")[0]
    listed = set()
    for row in re.findall(r"^``hireliab .*", page, re.MULTILINE):
        for command in re.findall(r"``hireliab ([a-z ]+)", row[:42]):
            listed.add(tuple(command.split()))
    leaves = {
        words[1:] for words in KNOWN if not any(other[: len(words)] == words and other != words for other in KNOWN)
    }
    assert listed == leaves


@pytest.mark.parametrize("page", documents.pages())
def test_every_page_is_reached_from_the_index(page):
    if not page.startswith("docs/") or page in ("docs/index.rst", "docs/reference/index.rst"):
        return
    index = text("docs/reference/index.rst") if page.startswith("docs/reference/") else text("docs/index.rst")
    assert re.search(rf"^   {re.escape(page.rpartition('/')[2].partition('.')[0])}$", index, re.MULTILINE), page
