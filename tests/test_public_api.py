"""The public door: its names, its laziness, and every error pickling."""

import ast
import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import hireliab
from hireliab import errors

INIT = Path(hireliab.__file__)
ERRORS = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.HireliabError)
]


def test_the_names_that_type_checkers_see_are_the_names_at_run_time():
    for node in ast.parse(INIT.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If):
            typed = {alias.asname for statement in node.body for alias in statement.names}
    assert typed == set(hireliab.__all__)


@pytest.mark.parametrize("name", hireliab.__all__)
def test_each_name_is_importable(name):
    assert getattr(hireliab, name).__name__ in (name, "retry") or name == "reliable"


def test_a_misspelt_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Circuitbreaker"):
        hireliab.Circuitbreaker


def test_every_error_is_public():
    assert {cls.__name__ for cls in ERRORS} <= set(hireliab.__all__)


def test_importing_hireliab_loads_no_third_party_module():
    code = "import sys, hireliab; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    unwanted = {"pika", "apprise", "requests", "urllib3", "ssl", "asyncio", "pybreaker", "tenacity", "cryptography"}
    assert not loaded & (unwanted | {"filelock", "click", "platformdirs", "typing", "sqlite3"})


@pytest.mark.parametrize("cls", ERRORS)
def test_every_error_pickles_and_copies_with_its_facts(cls):
    error = cls("pool 'main': no client became free; try again")
    error.extra = 7
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is cls
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


def test_each_error_speaks_exactly_one_of_the_three_words():
    words = (errors.NotSentError, errors.RefusedError, errors.OutcomeUnknownError)
    for cls in ERRORS:
        assert sum(issubclass(cls, word) for word in words) <= 1


def test_pool_errors_are_no_timeouts_and_no_os_errors():
    for cls in ERRORS:
        if issubclass(cls, errors.PoolError):
            assert not issubclass(cls, TimeoutError | OSError)


def test_an_open_circuit_formats_itself_only_when_printed():
    error = errors.CircuitOpenError(name="placing", retry_after=2.5, last_error="ConnectError: refused")
    assert str(error) == (
        "circuit breaker 'placing': open after ConnectError: refused, the call was not made; try again in 2.5 s"
    )
