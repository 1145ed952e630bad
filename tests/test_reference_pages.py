"""docs/threads.rst, errors.rst and guarantees.rst say what the code has: names of threads, errors and tests."""

import ast
import importlib
import inspect
import re

import pytest

import hireliab
from hireliab import errors
from tests.support import documents
from tests.support.documents import ROOT

# -- threads ------------------------------------------------------------------------------------------------------


def template(node):
    """The text of a string with ``<>`` in place of what is filled in, or None."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "<>" for part in node.values)
    return None


def thread_names(folder=ROOT / "hireliab"):
    """Every name of a thread in the code: what is passed as name=, assigned to a thread's name, or returned as one."""
    found = set()
    for path in folder.rglob("*.py"):
        if "simulator" in path.relative_to(folder).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            values = []
            if isinstance(node, ast.Call):
                values = [keyword.value for keyword in node.keywords if keyword.arg == "name"]
            elif isinstance(node, ast.Return | ast.Assign) and node.value is not None:
                values = [node.value]
            for text in map(template, values):
                if text and re.fullmatch(r"hireliab\.[a-z]+[.\-][^ ]*", text):
                    found.add(text)
    # The log handler knows its own senders by the beginning; the installer and the self-test are programs, not parts.
    return {name for name in found if name != "hireliab.alerts." and not name.startswith(PROGRAMS)}


PROGRAMS = ("hireliab.install-", "hireliab.self-test.")


def listed_threads(text):
    names = re.findall(r"^``(hireliab\.[^`]+)``", text, re.MULTILINE)
    return {re.sub(r"<[^>]+>|(?<=handler-)N", "<>", name) for name in names}


def test_the_table_of_threads_has_those_of_the_code_and_no_others():
    listed, templates = listed_threads((ROOT / "docs" / "threads.rst").read_text(encoding="utf-8")), thread_names()
    assert templates <= listed
    for name in listed - templates:  # one that the code fills in, such as the watchdog's of hireliab.alerts.<>
        assert any(re.fullmatch(re.escape(one).replace("<>", r"\w+"), name) for one in templates), name


def test_a_new_thread_would_be_noticed(tmp_path):
    (tmp_path / "part.py").write_text(
        "start_thread(run, name=f'hireliab.part.{name}-x')\n"
        "thread = threading.Thread(target=run, name='hireliab.part.clean-up')\n"
        "log = logging.getLogger('hireliab.part')\n"
        "worker.thread.name = f'hireliab.idle-part.{n}'\n"
    )
    assert thread_names(tmp_path) == {"hireliab.part.<>-x", "hireliab.part.clean-up", "hireliab.idle-part.<>"}


def test_every_part_that_knows_of_forks_is_in_the_table_of_places():
    page = (ROOT / "docs" / "threads.rst").read_text(encoding="utf-8").split("What may be called from where")[1]
    for name in (
        "CircuitBreaker",
        "RateLimiter",
        "Bulkhead",
        "RetryBudget",
        "ConnectionPool",
        "Session",
        "Inbox",
        "AlertSystem",
    ):
        assert hasattr(hireliab, name)
        assert f"``{name}``" in page


# -- errors -------------------------------------------------------------------------------------------------------

ERRORS = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.HireliabError)
}


def tree(cls=errors.HireliabError, depth=0):
    """The hierarchy as the page draws it: the children of each error in the order of errors.py, with its other bases."""
    others = [
        base.__name__ for base in cls.__bases__ if not issubclass(base, errors.HireliabError) and base is not Exception
    ]
    others += [base.__name__ for base in cls.__bases__[1:] if issubclass(base, errors.HireliabError)]
    yield "   " * depth + cls.__name__ + (f"({', '.join(others)})" if others else "")
    for child in ERRORS.values():
        if child.__bases__[0] is cls:
            yield from tree(child, depth + 1)


def test_the_hierarchy_on_the_page_is_that_of_the_code():
    (drawn,) = [source for _line, language, source in documents.all_blocks("docs/errors.rst") if language == "text"]
    assert drawn.splitlines() == list(tree())


def test_every_error_has_a_row_that_says_what_next():
    page = (ROOT / "docs" / "errors.rst").read_text(encoding="utf-8")
    rows = set(re.findall(r"^``(\w+Error)``", page, re.MULTILINE))
    named = set(re.findall(r"``(\w+Error)``", page)) - {"ValueError", "ImportError"}
    kinds = {"HireliabError", "RefusedError"}  # nothing raises these two themselves
    assert named <= set(ERRORS)
    assert set(ERRORS) - kinds <= named, "an error that the page does not name"
    assert {"NotSentError", "OutcomeUnknownError", "PartialFillError"} <= rows


def test_retryable_errors_are_those_that_the_pages_call_so():
    retryable = {name for name, error in ERRORS.items() if getattr(error, "retryable", False)}
    assert retryable == {"PoolTimeoutError", "RateLimitedError", "ConnectError"}
    retry = (ROOT / "docs" / "retry.rst").read_text(encoding="utf-8")
    for name in retryable:
        assert f"``{name}``" in retry


def test_each_error_says_what_it_means():
    for error in ERRORS.values():
        assert inspect.getdoc(error)


# -- guarantees ---------------------------------------------------------------------------------------------------

PAGES_THAT_NAME_TESTS = [
    page
    for page in documents.pages()
    if "tests/" in (ROOT / page).read_text(encoding="utf-8") and page.startswith("docs/")
]


@pytest.mark.parametrize("page", PAGES_THAT_NAME_TESTS)
def test_every_test_that_a_page_names_exists(page):
    named = re.findall(r"``?(tests/[\w/]+\.py)(?:::(\w+))?``?", (ROOT / page).read_text(encoding="utf-8"))
    for path, name in named:
        assert (ROOT / path).is_file(), path
        if name:
            tests = {
                node.name
                for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
                if isinstance(node, ast.FunctionDef)
            }
            assert name in tests, f"{path}::{name}"


def test_each_promise_says_what_it_rests_on_what_ends_it_and_what_proves_it():
    page = (ROOT / "docs" / "guarantees.rst").read_text(encoding="utf-8")
    section = page.split("The promises, one by one\n----")[1].split("\nWhat this assumes\n")[0]
    promises = re.split(r"^(?=\S.*\.\n   :)", section, flags=re.MULTILINE)[1:]
    assert len(promises) >= 18
    for promise in promises:
        fields = re.findall(r"^   :([^:]+): \S", promise, re.MULTILINE)
        assert fields == ["Rests on", "Ends", "Proof"], promise
        assert "::test_" in promise.split(":Proof:")[1]


def test_every_label_of_the_crash_campaign_is_in_the_table_of_what_a_crash_leaves():
    from hireliab.core._kill_points import LABELS

    page = (ROOT / "docs" / "guarantees.rst").read_text(encoding="utf-8").split("What a crash leaves")[1]
    shown = set()
    for first, last in re.findall(r" L(\d\d)(?:-L(\d\d))? ", page):
        shown |= {f"L{n:02}" for n in range(int(first), int(last or first) + 1)}
    assert shown == set(LABELS)


def test_the_table_of_verdicts_is_that_of_the_code():
    from hireliab.exchange.transaction import Verdict

    page = (ROOT / "docs" / "guarantees.rst").read_text(encoding="utf-8")
    table = page.split("What a verdict rests on\n----")[1].split("\nA verdict never changes")[0]
    rows = re.findall(r"^([A-Z_]+(?:, [A-Z_]+)*)  ", table, re.MULTILINE)
    assert {name for row in rows for name in row.split(", ")} == {verdict.value for verdict in Verdict}


# -- the two pages of the original's names ------------------------------------------------------------------------


def test_the_summary_names_every_public_part():
    page = (ROOT / "docs" / "HIGH_RELIABILITY_SUMMARY.md").read_text(encoding="utf-8")
    missing = [name for name in hireliab.__all__ if name not in ERRORS and f"`{name}`" not in page]
    assert not missing


def test_the_summary_and_the_architecture_name_files_and_names_that_exist():
    for page in ("HIGH_RELIABILITY_SUMMARY.md", "HIGH_RELIABILITY_ARCHITECTURE.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        for path in re.findall(r"`((?:tests|hireliab)/[\w/.]+)`", text):
            assert (ROOT / path).exists(), path
        for name in re.findall(r"`(_?[a-z_]+\.py)`", text):
            assert list((ROOT / "hireliab").rglob(name)), name


def test_every_public_name_is_in_the_reference():
    """Its module has a page, which shows all or names it."""
    shown = {}
    for path in (ROOT / "docs" / "reference").glob("*.rst"):
        for module, members in re.findall(r"automodule:: (\S+)\n   :members:(.*)", path.read_text(encoding="utf-8")):
            shown[module] = [name.strip() for name in members.split(",") if name.strip()]
    for name in hireliab.__all__:
        home = getattr(getattr(hireliab, name), "__module__", None)
        assert any(name in (members or defined(module)) for module, members in shown.items()), (name, home)


def defined(module):
    """What autodoc shows of a module: its ``__all__``, or without one what it defines itself."""
    names = vars(importlib.import_module(module))
    return names.get("__all__") or [
        name for name, value in names.items() if getattr(value, "__module__", None) == module
    ]
