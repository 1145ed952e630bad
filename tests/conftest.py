"""Fixtures for every test: a fake clock, and no thread left behind."""

import importlib
import os
import threading
import time

import pytest

from hireliab.testing import FakeClock

if os.environ.get("HIRELIAB_REQUIRE_COMPAT") == "1":
    # In the CI stage of the extra test-compat a tool that is missing is a failure.
    pytest.importorskip = lambda name, *_, **__: importlib.import_module(name)


@pytest.fixture
def clock():
    return FakeClock()


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
