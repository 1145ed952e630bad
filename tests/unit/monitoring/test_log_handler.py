import logging
import sys
import threading

import pytest

from hireliab.errors import ConfigError
from hireliab.monitoring.alert import AlertLevel, AlertSource
from hireliab.monitoring.log_handler import AlertHandler, install_excepthooks
from tests.support.together import Background, together


class Sent:
    """An alert system that keeps what it is told."""

    def __init__(self):
        self.calls = []
        self.also = None  # called by send_alert

    def send_alert(self, **call):
        self.calls.append(call)
        if self.also is not None:
            self.also()

    @property
    def only(self):
        (call,) = self.calls
        return call


@pytest.fixture
def sent():
    return Sent()


@pytest.fixture
def log(sent):
    """A logger with the handler, of its own name."""
    logger = logging.getLogger("a_bot")
    handler = AlertHandler(sent, "info")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.NOTSET)
    handler.close()


def test_a_line_becomes_an_alert_of_its_level(log, sent):
    log.warning("spread is %s on %s", 0.5, "BTC/USDT")
    assert sent.only["level"] is AlertLevel.WARNING
    assert sent.only["title"] == "spread is 0.5 on BTC/USDT"
    assert sent.only["message"] == ""
    assert sent.only["source"] is AlertSource.SYSTEM
    assert sent.only["context"]["logger"] == "a_bot"
    assert sent.only["context"]["where"].startswith("test_log_handler.py:")


def test_lines_below_the_handlers_level_are_none(log, sent):
    log.debug("nothing")
    assert not sent.calls


@pytest.mark.parametrize(
    ("number", "level"), [(5, "DEBUG"), (25, "INFO"), (35, "WARNING"), (45, "ERROR"), (60, "CRITICAL")]
)
def test_levels_of_ones_own_become_the_one_below(sent, number, level):
    handler = AlertHandler(sent, 0)
    handler.handle(logging.makeLogRecord({"name": "x", "levelno": number, "msg": "m"}))
    assert sent.only["level"] is AlertLevel[level]


def test_one_place_is_one_trouble_whatever_its_values_are(log, sent):
    for order in range(3):
        log.error("order %s failed", order)
        log.error(f"price of {order} is {order * 1.5}, too high")
    keys = [call["dedup_key"] for call in sent.calls]
    assert len(set(keys[0::2])) == 1
    assert len(set(keys[1::2])) == 1
    assert keys[0] != keys[1]


def test_level_logger_template_and_exception_tell_troubles_apart(sent):
    handler = AlertHandler(sent, "debug")

    def record(**changes):
        return logging.makeLogRecord({"name": "x", "levelno": 40, "msg": "m %s", "args": (1,), **changes})

    def caught(kind):
        try:
            raise kind("why")
        except Exception:
            return sys.exc_info()

    variants = [
        record(), record(name="y"), record(levelno=50), record(msg="n %s"),
        record(exc_info=caught(ValueError)), record(exc_info=caught(TypeError)),
    ]  # fmt: skip
    for one in variants:
        handler.handle(one)
    assert len({call["dedup_key"] for call in sent.calls}) == len(variants)


def test_an_exception_is_in_the_message_with_its_place(log, sent):
    try:
        raise ValueError("the venue said no")
    except ValueError:
        log.exception("order failed")
    assert sent.only["title"] == "order failed"
    assert "ValueError: the venue said no" in sent.only["message"]
    assert "test_log_handler.py" in sent.only["message"]


def test_a_long_line_is_whole_in_the_message(log, sent):
    log.error("x" * 300)
    assert sent.only["message"] == "x" * 300


def test_arguments_that_do_not_fit_are_said_and_nothing_is_raised_or_printed(sent, capsys):
    class Bad:
        def __str__(self):
            raise RuntimeError("no")

    handler = AlertHandler(sent)  # alone: pytest's own handler on the loggers raises
    for template, arguments in (("order %s and %d", (1,)), ("order %s", (Bad(),))):
        handler.handle(logging.makeLogRecord({"name": "x", "levelno": 40, "msg": template, "args": arguments}))
    assert [call["title"] for call in sent.calls] == [
        "order %s and %d (its arguments do not fit: TypeError)",
        "order %s (its arguments do not fit: RuntimeError)",
    ]
    assert capsys.readouterr() == ("", "")


def test_an_alert_system_that_raises_does_not_reach_the_bot(log, sent, capsys):
    def fail():
        raise RuntimeError("broken")

    sent.also = fail
    log.error("order failed")
    assert capsys.readouterr() == ("", "")


def test_lines_that_are_written_while_an_alert_is_made_are_none(log, sent):
    sent.also = lambda: log.error("an error about the error")
    log.error("the error")
    assert len(sent.calls) == 1
    log.error("the next one")
    assert len(sent.calls) == 2


@pytest.mark.parametrize(
    "name", ["hireliab", "hireliab.alerts", "apprise", "urllib3.connectionpool", "requests", "mine.x"]
)
def test_those_who_send_make_no_alerts(sent, name):
    handler = AlertHandler(sent, "debug", ignore=["mine"])
    handler.handle(logging.makeLogRecord({"name": name, "levelno": 50, "msg": "m"}))
    assert not sent.calls


def test_a_name_that_only_begins_like_an_ignored_one_is_not_ignored(sent):
    handler = AlertHandler(sent, "debug", ignore="mine")
    handler.handle(logging.makeLogRecord({"name": "requests_of_mine", "levelno": 50, "msg": "m"}))
    handler.handle(logging.makeLogRecord({"name": "minefield", "levelno": 50, "msg": "m"}))
    assert len(sent.calls) == 2


def test_what_a_channels_thread_logs_is_no_alert(log, sent):
    thread = threading.Thread(target=lambda: log.error("my channel failed"), name="hireliab.alerts.mine")
    thread.start()
    thread.join()
    assert not sent.calls


def test_many_threads_log_at_once(log, sent):
    together(8, lambda i: [log.error("thread %s", i) for _ in range(100)])
    assert len(sent.calls) == 800


def test_a_handler_that_is_in_the_middle_of_one_record_takes_no_lock(log, sent):
    entered, go = threading.Event(), threading.Event()

    def hold():
        sent.also = None
        entered.set()
        assert go.wait(30)

    sent.also = hold
    first = Background(log.error, "first")
    try:
        assert entered.wait(10)
        Background(log.error, "second, as a signal handler would").result()
        assert len(sent.calls) == 2
    finally:
        go.set()
    first.result()


def test_filters_and_formatters_work_as_in_any_handler(sent):
    handler = AlertHandler(sent, "debug")
    handler.addFilter(lambda record: "secret" not in record.getMessage())
    handler.setFormatter(logging.Formatter("%(name)s says %(message)s"))
    handler.handle(logging.makeLogRecord({"name": "x", "levelno": 50, "msg": "secret"}))
    handler.handle(logging.makeLogRecord({"name": "x", "levelno": 50, "msg": "plain"}))
    assert sent.only["message"] == "x says plain"


@pytest.mark.parametrize("level", ["warn", None, object(), True, "fatal"])
def test_a_level_that_is_none_is_refused(sent, level):
    with pytest.raises(ConfigError, match="AlertHandler: level"):
        AlertHandler(sent, level)


def test_something_that_cannot_send_is_refused():
    with pytest.raises(ConfigError, match="must be an AlertSystem, got dict"):
        AlertHandler({})


# -- uncaught exceptions --------------------------------------------------------------------------------------------


@pytest.fixture
def hooks(monkeypatch):
    """What the hooks that were there before are called with."""
    called = []
    monkeypatch.setattr(sys, "excepthook", lambda *args: called.append(args))
    monkeypatch.setattr(threading, "excepthook", called.append)
    return called


def test_an_exception_that_ends_the_program_is_told_and_the_hook_before_runs(sent, hooks):
    remove = install_excepthooks(sent)
    error = ValueError("why")
    sys.excepthook(ValueError, error, None)
    assert sent.only["level"] is AlertLevel.CRITICAL
    assert sent.only["title"] == "the program ends: ValueError"
    assert sent.only["message"] == "ValueError: why"
    assert hooks == [(ValueError, error, None)]
    remove()


def test_an_exception_that_ends_a_thread_is_told(sent, hooks):
    remove = install_excepthooks(sent)

    def fail():
        raise KeyError("gone")

    thread = threading.Thread(target=fail, name="strategy")
    thread.start()
    thread.join()
    assert sent.only["title"] == "a thread ended: KeyError"
    assert sent.only["context"] == {"thread": "strategy"}
    assert len(hooks) == 1
    remove()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_a_wish_to_end_is_no_trouble(sent, hooks, error):
    install_excepthooks(sent)
    sys.excepthook(type(error), error, None)
    assert not sent.calls
    assert len(hooks) == 1


def test_a_broken_alert_system_does_not_keep_the_hook_before_from_running(sent, hooks):
    def fail():
        raise RuntimeError

    sent.also = fail
    install_excepthooks(sent)
    sys.excepthook(ValueError, ValueError(), None)
    assert len(hooks) == 1


def test_the_hooks_are_taken_out_unless_others_stand_over_them(sent, hooks):
    before = sys.excepthook
    remove = install_excepthooks(sent)
    remove()
    assert sys.excepthook is before
    remove = install_excepthooks(sent)
    ours = sys.excepthook
    sys.excepthook = lambda kind, error, trace: ours(kind, error, trace) or None
    remove()
    assert sys.excepthook is not before
