"""The operator's files: each command once, whatever dies when, and nothing that is in a file raises."""

import json
import os
import stat
import threading
from decimal import Decimal
from pathlib import Path

import pytest

from hireliab.core.clock import SYSTEM_CLOCK
from hireliab.errors import ConfigError, InvalidOrderError, JournalError, NotSentError, OutcomeUnknownError
from hireliab.exchange import _operator_client
from hireliab.exchange._operator import Operator
from hireliab.exchange._operator_desk import handlers, plain
from hireliab.exchange._operator_offline import resolve
from hireliab.exchange.adapter import Order
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction import Proof, Record, State, Verdict, new_id
from tests.support.pipeline import finish, market

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX owners and modes")


class Bot:
    """An operator with one command, "note", that keeps what it was asked."""

    def __init__(self, folder, clock):
        self.folder, self.clock = folder, clock
        self.done = []
        self.status = {"unresolved": 0}
        self.fail = None
        self.operator = self.restart()

    def restart(self):
        self.operator = Operator(self.folder, {"note": self.note}, lambda: self.status, self.clock, interval=0.5)
        return self.operator

    def note(self, args):
        self.done.append(args)
        if self.fail is not None:
            raise self.fail
        return {"noted": args.get("word"), "amount": Decimal("0.10")}

    def poll(self):
        self.clock.advance(1.0)
        self.operator.poll()

    def put(self, content=None, *, name=None, **more):
        name = name or new_id(self.clock.time())
        commands = self.folder / "commands"
        commands.mkdir(mode=0o700, exist_ok=True)
        if content is None:
            content = json.dumps({"command": "note", "args": {"word": "x"}, "asked": self.clock.time(), **more})
        (commands / f"{name}.json").write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    def answer(self, name):
        path = self.folder / "commands" / f"{name}.answer.json"
        return json.loads(path.read_text()) if path.exists() else None

    @property
    def files(self):
        return sorted(path.name for path in (self.folder / "commands").iterdir())

    def read_status(self):
        return json.loads((self.folder / "status.json").read_text())


@pytest.fixture
def bot(tmp_path, clock):
    old = os.umask(0o022)
    yield Bot(tmp_path, clock)
    os.umask(old)


# -- commands -----------------------------------------------------------------------------------------------------


def test_a_command_is_done_once_and_answered_beside_it(bot):
    name = bot.put()
    for _ in range(3):
        bot.poll()
    assert bot.done == [{"word": "x"}]
    answer = bot.answer(name)
    assert (answer["ok"], answer["command"], answer["answer"]) == (True, "note", {"noted": "x", "amount": "0.1"})
    assert bot.files == [f"{name}.answer.json"]


def test_the_oldest_command_is_done_first(bot):
    names = [f"{n:026d}" for n in (3, 1, 2)]
    for name in names:
        bot.put(args={"word": name}, name=name)
    bot.poll()
    assert [args["word"] for args in bot.done] == sorted(names)


def test_many_commands_do_not_keep_the_thread(bot):
    for n in range(20):
        bot.put(name=f"{n:026d}")
    bot.poll()
    assert len(bot.done) == 8
    bot.poll()
    bot.poll()
    assert len(bot.done) == 20


def test_it_looks_no_more_often_than_its_interval(bot, clock):
    bot.poll()
    bot.put()
    bot.operator.poll()
    assert not bot.done
    clock.advance(0.5)
    bot.operator.poll()
    assert len(bot.done) == 1


def test_what_was_claimed_by_a_bot_that_died_is_not_done_again(bot):
    name = bot.put()
    claimed = bot.folder / "commands" / f"{name}.running"
    (bot.folder / "commands" / f"{name}.json").rename(claimed)
    bot.restart()
    bot.poll()
    assert not bot.done
    answer = bot.answer(name)
    assert answer["ok"] is False
    assert answer["error"].startswith("interrupted")
    assert "look at the transaction" in answer["error"]
    assert bot.files == [f"{name}.answer.json"]


def test_a_command_is_claimed_before_it_is_done(bot):
    seen = []
    name = bot.put()
    bot.operator._handlers["note"] = lambda args: seen.append(bot.files) or {}
    bot.poll()
    assert seen == [[f"{name}.running"]]


def test_an_answer_that_was_written_before_the_bot_died_is_kept(bot):
    name = bot.put()
    bot.poll()
    (bot.folder / "commands" / f"{name}.running").write_text("{}")
    bot.restart()
    bot.poll()
    assert bot.answer(name)["ok"] is True
    assert bot.files == [f"{name}.answer.json"]
    assert len(bot.done) == 1


def test_what_was_asked_before_the_start_is_still_done_when_it_is_fresh(bot, clock):
    name = bot.put()
    clock.advance(60.0)
    bot.restart()
    bot.poll()
    assert bot.answer(name)["ok"] is True


@pytest.mark.parametrize("seconds", [700.0, -700.0])
def test_what_was_asked_long_ago_or_in_the_future_is_refused(bot, clock, seconds):
    name = bot.put(asked=clock.time() - seconds)
    bot.poll()
    assert not bot.done
    assert "nothing was done" in bot.answer(name)["error"]


BAD = {
    "empty": b"",
    "no JSON": b"resolve it",
    "half": b'{"command": "note", "args": {"wo',
    "not UTF-8": b'{"command": "\xff\xfe"}',
    "a list": b"[1]",
    "null": b"null",
    "no command": b'{"args": {}, "asked": 1760000001}',
    "command is no text": b'{"command": ["note"], "asked": 1760000001}',
    "args are a list": b'{"command": "note", "args": [1], "asked": 1760000001}',
    "args are null": b'{"command": "note", "args": null, "asked": 1760000001}',
    "no time": b'{"command": "note", "args": {}}',
    "time is text": b'{"command": "note", "args": {}, "asked": "now"}',
    "time is true": b'{"command": "note", "args": {}, "asked": true}',
    "time is NaN": b'{"command": "note", "args": {}, "asked": NaN}',
    "time is endless": b'{"command": "note", "args": {}, "asked": Infinity}',
    "time is huge": b'{"command": "note", "args": {}, "asked": 1' + b"0" * 400 + b"}",
    "deep": b"[" * 50_000,
    "large": b'{"command": "note", "x": "' + b"x" * 70_000 + b'"}',
    "digits": b"9" * 5_000,
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_a_malformed_command_is_answered_with_the_reason_and_not_done(bot, content):
    name, good = bot.put(content, name="0" * 26), bot.put(name="1" * 26)
    bot.poll()
    answer = bot.answer(name)
    assert answer["ok"] is False
    assert answer["error"].endswith("nothing was done")
    assert bot.answer(good)["ok"] is True
    assert len(bot.done) == 1


def test_a_large_file_is_refused_although_its_beginning_is_a_command(bot):
    name = bot.put(json.dumps({"command": "note", "args": {}, "asked": bot.clock.time()}) + " " * 70_000)
    bot.poll()
    assert not bot.done
    assert "larger than" in bot.answer(name)["error"]


def test_an_unknown_command_is_answered_with_the_near_miss(bot):
    name = bot.put(command="note!")
    bot.poll()
    assert "did you mean 'note'?" in bot.answer(name)["error"]


def test_files_of_other_names_are_left_alone(bot):
    (bot.folder / "commands").mkdir(mode=0o700)
    for name in ("x.json", "../x.json", f"{'a' * 26}.json", f"{'0' * 26}.json.tmp", "README"):
        (bot.folder / "commands" / name).write_text("{}")
    bot.poll()
    assert not bot.done
    assert len(bot.files) == 4


@posix
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(bot, mode):
    name = bot.put()
    (bot.folder / "commands" / f"{name}.json").chmod(mode)
    bot.poll()
    assert not bot.done
    assert "can be written by others" in bot.answer(name)["error"]


@posix
def test_a_file_of_another_user_is_refused(bot, monkeypatch):
    name = bot.put()
    real = os.fstat

    class Foreign:
        def __init__(self, found):
            self.st_mode, self.st_uid = found.st_mode, os.geteuid() + 1

    monkeypatch.setattr(os, "fstat", lambda fd: Foreign(real(fd)))
    bot.poll()
    monkeypatch.undo()
    assert not bot.done
    assert "belongs to user" in bot.answer(name)["error"]


@posix
def test_a_link_is_refused_and_its_target_is_not_touched(bot, tmp_path):
    target = tmp_path / "elsewhere.json"
    target.write_text(json.dumps({"command": "note", "asked": bot.clock.time()}))
    (bot.folder / "commands").mkdir(mode=0o700)
    name = "0" * 26
    (bot.folder / "commands" / f"{name}.json").symlink_to(target)
    bot.poll()
    assert not bot.done
    assert bot.answer(name)["ok"] is False
    assert target.exists()


@posix
def test_a_pipe_is_refused_and_nobody_waits_for_it(bot):
    (bot.folder / "commands").mkdir(mode=0o700)
    os.mkfifo(bot.folder / "commands" / f"{'0' * 26}.json")
    bot.poll()
    assert "no plain file" in bot.answer("0" * 26)["error"]


@posix
@pytest.mark.parametrize("mode", [0o770, 0o777])
def test_in_a_folder_that_others_can_write_nothing_is_done(bot, mode, caplog):
    bot.put()
    (bot.folder / "commands").chmod(mode)
    for _ in range(3):
        bot.poll()
    assert not bot.done
    assert sum("can be written by others" in record.message for record in caplog.records) == 1


def test_a_file_where_the_folder_should_be_raises_nothing(bot):
    (bot.folder / "commands").write_text("")
    bot.poll()
    assert bot.read_status()["state"] == "running"


def test_an_error_of_ours_is_the_answer(bot):
    bot.fail = InvalidOrderError("transaction X: unknown", by="hireliab")
    name = bot.put()
    bot.poll()
    answer = bot.answer(name)
    assert (answer["ok"], answer["error"], answer["error_type"]) == (
        False,
        "transaction X: unknown",
        "InvalidOrderError",
    )


def test_any_other_error_is_answered_too_and_is_in_the_log(bot, caplog):
    bot.fail = KeyError("order")
    name = bot.put()
    bot.poll()
    bot.poll()
    assert len(bot.done) == 1
    assert bot.answer(name)["error_type"] == "KeyError"
    assert any(record.exc_info for record in caplog.records)


def test_what_takes_its_time_is_asked_until_it_has_the_answer(bot):
    answers = [None, None, {"verdict": "CANCELLED"}]
    asked = []
    bot.operator._handlers["note"] = lambda args: asked.append(args) or (lambda: answers.pop(0))
    name = bot.put()
    bot.poll()
    assert bot.files == [f"{name}.running"]
    bot.poll()
    bot.poll()
    assert bot.answer(name)["answer"] == {"verdict": "CANCELLED"}
    assert len(asked) == 1


def test_what_takes_its_time_may_fail(bot):
    def later():
        raise InvalidOrderError("no such order")

    bot.operator._handlers["note"] = lambda _: later
    name = bot.put()
    bot.poll()
    assert bot.answer(name)["error"] == "no such order"
    assert bot.files == [f"{name}.answer.json"]


def test_what_is_not_done_when_the_bot_stops_is_answered_interrupted(bot):
    bot.operator._handlers["note"] = lambda _: lambda: None
    name = bot.put()
    bot.poll()
    bot.operator.close()
    assert bot.answer(name)["error"].startswith("interrupted")
    assert bot.read_status()["state"] == "stopped"


def test_an_answer_that_the_disk_does_not_take_is_written_later_and_nothing_is_done_twice(bot, monkeypatch):
    name = bot.put()
    real = Path.replace

    def full(path, target):
        if path.name.endswith(".answer.json.tmp"):
            raise OSError(28, "No space left on device")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", full)
    bot.poll()
    bot.poll()
    assert bot.answer(name) is None
    monkeypatch.undo()
    bot.poll()
    assert bot.answer(name)["ok"] is True
    assert len(bot.done) == 1
    assert bot.files == [f"{name}.answer.json"]


def test_answers_and_half_written_files_are_removed_after_a_day(bot, clock):
    name = bot.put()
    bot.poll()
    (bot.folder / "commands" / "half.json.tmp").write_text("")
    for file in bot.files:
        os.utime(bot.folder / "commands" / file, (clock.time(), clock.time()))
    clock.advance(86000.0)
    bot.poll()
    assert bot.files == [f"{name}.answer.json", "half.json.tmp"]
    clock.advance(4000.0)
    bot.poll()
    assert bot.files == []


# -- status -------------------------------------------------------------------------------------------------------


def test_the_status_says_who_runs_and_what_the_pipeline_tells(bot, clock):
    bot.status = {"unresolved": 3, "oldest": Decimal("1.50"), "bad": float("nan"), "state": "recovering"}
    bot.poll()
    status = bot.read_status()
    assert status["pid"] == os.getpid()
    assert status["name"] == bot.folder.name
    assert (status["started"], status["updated"]) == (clock.time() - 1.0, clock.time())
    assert (status["state"], status["unresolved"], status["oldest"], status["bad"]) == ("recovering", 3, "1.5", None)


@posix
def test_the_status_is_the_owners(bot):
    bot.poll()
    assert stat.S_IMODE((bot.folder / "status.json").stat().st_mode) == 0o600


def test_the_status_is_written_when_it_changes_and_every_ten_seconds(bot, clock):
    bot.poll()
    first = bot.read_status()["updated"]
    bot.poll()
    assert bot.read_status()["updated"] == first
    bot.status = {"unresolved": 1}
    bot.poll()
    assert bot.read_status()["updated"] == clock.time() > first
    changed = clock.time()
    for _ in range(9):
        bot.poll()
    assert bot.read_status()["updated"] == changed
    bot.poll()
    assert bot.read_status()["updated"] == clock.time() == changed + 10.0


def test_a_status_that_fails_is_told(bot):
    bot.operator._status = lambda: 1 / 0
    bot.poll()
    assert bot.read_status()["status_error"].startswith("ZeroDivisionError")


def test_the_status_is_replaced_whole(bot, monkeypatch):
    bot.poll()
    before = bot.read_status()
    bot.status = {"unresolved": object()}
    monkeypatch.setattr(json, "dump", lambda *_, **__: 1 / 0)
    bot.poll()
    monkeypatch.undo()
    assert bot.read_status() == before


# -- asking -------------------------------------------------------------------------------------------------------


class Running:
    """A bot that polls in a thread, in real time."""

    def __init__(self, folder, handlers):
        self.operator = Operator(folder, handlers, dict, SYSTEM_CLOCK, interval=0.01)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hireliab.resolver.test")

    def _run(self):
        while not self._stop.wait(0.01):
            self.operator.poll()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(5)
        assert not self._thread.is_alive()


def test_whoever_asks_gets_the_answer(tmp_path):
    with Running(tmp_path, {"note": lambda args: {"noted": args["word"]}}):
        answer = _operator_client.ask(tmp_path, "note", {"word": "سلام"}, timeout=5.0, clock=SYSTEM_CLOCK)
    assert (answer["ok"], answer["answer"]) == (True, {"noted": "سلام"})


def test_what_nobody_takes_is_withdrawn(tmp_path):
    with pytest.raises(NotSentError, match="withdrawn, nothing was done"):
        _operator_client.ask(tmp_path, "note", {}, timeout=0.1, clock=SYSTEM_CLOCK)
    assert list((tmp_path / "commands").iterdir()) == []


def test_what_was_taken_and_is_not_answered_is_unknown(tmp_path):
    with (
        Running(tmp_path, {"note": lambda _: lambda: None}),
        pytest.raises(OutcomeUnknownError, match="has not answered"),
    ):
        _operator_client.ask(tmp_path, "note", {}, timeout=0.5, clock=SYSTEM_CLOCK)


def test_many_who_ask_at_once_get_their_own_answers(tmp_path):
    answers = {}

    def ask(n):
        answers[n] = _operator_client.ask(tmp_path, "note", {"n": n}, timeout=10.0, clock=SYSTEM_CLOCK)

    done = []
    with Running(tmp_path, {"note": lambda args: done.append(args["n"]) or {"n": args["n"]}}):
        threads = [threading.Thread(target=ask, args=(n,)) for n in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(15)
    assert {n: answer["answer"]["n"] for n, answer in answers.items()} == {n: n for n in range(24)}
    assert sorted(done) == list(range(24))


def test_a_folder_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "commands").write_text("")
    with pytest.raises(JournalError, match="nothing was done"):
        _operator_client.ask(tmp_path, "note", {}, timeout=0.1, clock=SYSTEM_CLOCK)


def test_words_that_are_too_long_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(NotSentError, match="nothing was done"):
        _operator_client.ask(tmp_path, "note", {"evidence": "x" * 70_000}, timeout=0.1, clock=SYSTEM_CLOCK)
    assert not (tmp_path / "commands").exists()


def test_a_status_that_is_missing_or_broken_is_none(tmp_path):
    assert _operator_client.status(tmp_path) is None
    (tmp_path / "status.json").write_text("{")
    assert _operator_client.status(tmp_path) is None


# -- the pipeline's commands ---------------------------------------------------------------------------------------


@pytest.fixture
def lost(clock, exchange, make):
    """A pipeline and a transaction that only a person can decide."""
    pipeline = make(verification_timeout=5.0)
    exchange.null_client_ids = True
    exchange.script.append("fill_answer_lost")
    transaction = market(pipeline)
    finish(clock, pipeline, transaction)
    clock.advance_until(lambda: transaction.record.needs_human)
    return pipeline, transaction


WORDS = {"evidence": "order history", "who": "sara"}


def test_a_pipeline_is_asked_to_resolve(lost):
    pipeline, transaction = lost
    args = {"transaction_id": transaction.id, "as": "completed", "filled": "0.2", **WORDS}
    answer = handlers(pipeline)["resolve"](args)
    assert (answer["verdict"], answer["filled"], answer["remaining"]) == ("PARTIAL", "0.2", "0.3")
    assert transaction.record.proof is Proof.OPERATOR
    json.dumps(answer)


@pytest.mark.parametrize("more", [{"filled": 0.2}, {"order_id": 7}, {"evidence": None}, {"transaction_id": ["x"]}])
def test_an_argument_of_another_kind_is_refused(lost, more):
    pipeline, transaction = lost
    args = {"transaction_id": transaction.id, "as": "completed", **WORDS, **more}
    with pytest.raises(ValueError, match="must be a text"):
        handlers(pipeline)["resolve"](args)
    assert not transaction.state.is_terminal


def test_a_pipeline_is_asked_to_cancel_without_waiting_for_it():
    go, name = threading.Event(), []

    class Desk:
        def cancel(self, transaction_id):
            name.append((transaction_id, threading.current_thread().name))
            go.wait(5)
            raise InvalidOrderError("no such order")

    later = handlers(Desk())["cancel"]({"transaction_id": "T"})
    assert later() is None
    go.set()
    for thread in threading.enumerate():
        if thread.name == "hireliab.txn.operator-cancel-T":
            thread.join(5)
    with pytest.raises(InvalidOrderError, match="no such order"):
        later()
    assert name == [("T", "hireliab.txn.operator-cancel-T")]


def test_a_pipeline_is_asked_to_sweep_without_waiting_for_it():
    """The resolver's thread asks: while a long history is listed it must go on deciding and cancelling."""
    go = threading.Event()

    class Desk:
        def sweep_orphans(self):
            go.wait(5)
            return ()

    later = handlers(Desk())["sweep"]({})
    assert later() is None
    go.set()
    for thread in threading.enumerate():
        if thread.name == "hireliab.txn.operator-sweep":
            thread.join(5)
    assert later() == {"orphans": []}


def test_everything_becomes_json():
    class Odd:
        def __str__(self):
            return "odd"

    value = {1: Decimal("1E+3"), "s": State.ACKED, "v": (Verdict.UNKNOWN, None, True, 2), "f": float("inf"), "o": Odd()}
    assert plain(value) == {"1": "1000", "s": "ACKED", "v": ["UNKNOWN", None, True, 2], "f": None, "o": "odd"}


# -- without a bot -------------------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path):
    journal = SQLiteJournal(tmp_path / "offline")
    journal.open()
    yield journal
    journal.close()


def test_offline_a_call_of_which_nothing_is_known_can_be_completed(journal, clock):
    order = Order(symbol="", side="", type="", amount=Decimal(0))
    call = Record(txn_id="0" * 26, order=order, kind="CALL", state=State.UNKNOWN, version=1)
    journal.write(call, cause="T15", barrier=True)
    found = say(journal, clock, order_id="A-7", filled="2")
    assert (found.verdict, found.order_id, found.filled) == (Verdict.COMPLETED, "A-7", Decimal(2))


def row(journal, state, *, txn_id="0" * 26, **more):
    order = Order(
        symbol="BTC/USDT",
        side="buy",
        type="limit",
        amount=Decimal("0.5"),
        price=Decimal(100),
        client_order_id=f"abcde-{txn_id}",
    )
    record = Record(txn_id=txn_id, order=order, state=state, version=3, needs_human=True, candidates=("7",), **more)
    journal.write(record, cause="T9 timeout", barrier=True)
    return record


def say(journal, clock, as_="completed", **more):
    return resolve(journal, "0" * 26, as_, **{**WORDS, "clock": clock, **more})


@pytest.mark.parametrize(
    ("as_", "verdict", "filled"),
    [
        ("completed", Verdict.COMPLETED, "0.5"),
        ("failed", Verdict.CLOSED_UNFILLED, "0"),
        ("cancelled", Verdict.CANCELLED, "0"),
    ],
)
@pytest.mark.parametrize("state", ["SUBMITTING", "ACKED", "WORKING", "RESOLVING", "CANCELLING", "UNKNOWN"])
def test_offline_a_persons_word_decides_what_is_not_decided(journal, clock, state, as_, verdict, filled):
    row(journal, State(state))
    say(journal, clock, as_)
    found = journal.get("0" * 26)
    assert (found.verdict, found.proof, found.filled) == (verdict, Proof.OPERATOR, Decimal(filled))
    assert (found.reason, found.needs_human, found.candidates) == ("sara: order history", False, ())
    assert found.is_finished
    log = journal.log("0" * 26)
    assert [state for _, _, state, _, _ in log][-1] == found.state.value
    assert log[-1][4] == f"T26 {as_} says sara, not read at the exchange: order history"


@pytest.mark.parametrize("state", ["PREPARED", "COMPLETED", "FAILED", "ROLLED_BACK"])
def test_offline_what_is_decided_or_was_never_sent_stays_as_it_is(journal, clock, state):
    before = row(journal, State(state))
    with pytest.raises(InvalidOrderError, match=state):
        say(journal, clock)
    assert journal.get("0" * 26) == before


@pytest.mark.parametrize(
    "more",
    [
        {"as_": "done"},
        {"evidence": ""},
        {"evidence": "x" * 2000},
        {"who": "\n"},
        {"filled": "0"},
        {"filled": "0.6"},
        {"filled": "half"},
        {"as_": "failed", "filled": "0.1"},
        {"as_": "cancelled", "order_id": "7"},
        {"order_id": "seven"},
        {"order_id": "8"},
    ],
)
def test_offline_words_that_contradict_change_nothing(journal, clock, more):
    before = row(journal, State.UNKNOWN, order_id="7")
    with pytest.raises((ConfigError, InvalidOrderError)):
        say(journal, clock, **more)
    assert journal.get("0" * 26) == before


@pytest.mark.parametrize("as_", ["failed", "cancelled"])
def test_offline_what_the_exchange_showed_filled_was_not_unfilled(journal, clock, as_):
    before = row(journal, State.UNKNOWN, order_id="7", filled=Decimal("0.2"))
    with pytest.raises(InvalidOrderError, match="showed 0.2 of it filled"):
        say(journal, clock, as_)
    assert journal.get("0" * 26) == before
    assert say(journal, clock, filled="0.2").verdict is Verdict.PARTIAL


def test_offline_an_order_of_another_transaction_is_refused_and_no_step_is_kept(journal, clock):
    before = row(journal, State.ACKED)
    row(journal, State.UNKNOWN, txn_id="1" * 26, order_id="9")
    with pytest.raises(JournalError, match="belongs to another transaction"):
        say(journal, clock, order_id="9")
    assert journal.get("0" * 26) == before
    assert len(journal.log("0" * 26)) == 1


def test_offline_an_unknown_transaction_is_refused(journal, clock):
    with pytest.raises(InvalidOrderError, match="unknown"):
        say(journal, clock)


def test_offline_a_part_may_be_filled(journal, clock):
    row(journal, State.UNKNOWN)
    assert say(journal, clock, filled="0.2", order_id="9").verdict is Verdict.PARTIAL
    assert journal.find_order("9").filled == Decimal("0.2")
