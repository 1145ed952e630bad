"""Fixtures for every test: a fake clock, and no thread left behind. And coverage survives a fork."""

import atexit
import importlib
import os
import shutil
import tempfile
import threading
import time

import pytest

from tests.support import forked_coverage  # noqa: F401 - first: its hook must run before those of hireliab

# isort: split
from hireliab.monitoring._redaction import known_secrets
from hireliab.testing import FakeClock
from tests.support.broker import _session_node, amqp_prefix, amqp_url, broker, broker_certificates, broker_node

__all__ = ["_session_node", "amqp_prefix", "amqp_url", "broker", "broker_certificates", "broker_node"]

if os.environ.get("HIRELIAB_REQUIRE_COMPAT") == "1":
    # In the CI stage of the extra test-compat a tool that is missing is a failure.
    pytest.importorskip = lambda name, *_, **__: importlib.import_module(name)


# No test writes into the folder of the user who runs it.
if "HIRELIAB_HOME" not in os.environ:
    os.environ["HIRELIAB_HOME"] = tempfile.mkdtemp(prefix="hireliab-tests-")
    atexit.register(shutil.rmtree, os.environ["HIRELIAB_HOME"], ignore_errors=True)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(autouse=True)
def each_test_has_its_own_secrets():
    """What one test's channels must not show would be masked in the texts of all tests after it."""
    before = {name: getattr(known_secrets, name) for name in ("_values", "_pattern", "longest")}
    yield
    for name, value in before.items():
        setattr(known_secrets, name, value)


@pytest.fixture(autouse=True)
def no_thread_left_behind():
    before = set(threading.enumerate())
    yield
    give_up = time.monotonic() + 5.0
    while True:
        left = [t.name for t in threading.enumerate() if t not in before and t.name.startswith(("hireliab", "sim"))]
        if not left or time.monotonic() > give_up:
            break
        time.sleep(0.005)
    assert not left, f"threads left behind: {left}"
