"""The operator's command line: what it prints, its exit codes, and that no input makes a traceback."""

import dataclasses
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from decimal import Decimal

import pytest

from hireliab import _cli_text, cli
from hireliab._cli_advice import advice
from hireliab._cli_reader import record_json
from hireliab._cli_transactions import _record_facts
from hireliab.core._file_lock import FileLock
from hireliab.core.clock import SYSTEM_CLOCK, SystemClock
from hireliab.errors import ConfigError, JournalError
from hireliab.exchange import _halt, _operator_client
from hireliab.exchange.adapter import Account, Fill, Order
from hireliab.exchange.sqlite_journal import SQLiteJournal
from hireliab.exchange.transaction import Proof, Record, State, new_id
from hireliab.messaging.outbox import OutboxEvent

NOW = SYSTEM_CLOCK.time()
"""Read once: it stands still in these tests."""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HIRELIAB_HOME", str(tmp_path))
    monkeypatch.setattr(SystemClock, "time", lambda _: NOW)
    for name in ("NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def record(state, *, ago=60.0, symbol="BTC/USDT", side="buy", type_="limit", amount="0.5", price="60000", **more):
    txn_id = new_id(NOW - ago)
    order = Order(
        symbol=symbol,
        side=side,
        type=type_,
        amount=Decimal(amount),
        price=Decimal(price),
        client_order_id=f"abcde-{txn_id}",
    )
    given = {"version": 1, "attempt": 1, "created": NOW - ago, "updated": NOW - ago, "sent_wall": NOW - ago, **more}
    return Record(txn_id=txn_id, order=order, state=State(state), **given)


ROWS = {
    "rejected": record("FAILED", ago=9 * 86400, proof=Proof.REJECTED, reason="InsufficientBalance", type_="market"),
    "absent": record("FAILED", ago=4 * 3600, proof=Proof.ABSENT, watch_until=NOW + 5000, symbol="ETH/IRT"),
    "partial": record(
        "COMPLETED",
        ago=700,
        proof=Proof.PARTIAL,
        order_id="17",
        order_status="Canceled",
        filled=Decimal("0.2"),
        fee=Decimal("7.5"),
        side="sell",
    ),
    "resting": record("COMPLETED", ago=300, proof=Proof.LIVE, order_id="18", order_status="Active"),
    "lost": record("UNKNOWN", ago=125, needs_human=True, candidates=("19", "20"), reason="two orders may be it"),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "default"
    file = SQLiteJournal(folder)
    file.open()
    file.bind(Account(venue="nobitex", host="example", identity="key 1234"))
    for row in ROWS.values():
        file.write(dataclasses.replace(row, state=State.SUBMITTING), cause="T3", barrier=False)
        file.write(
            dataclasses.replace(row, version=2, updated=row.updated + 1.5), cause="T9 \x1b[31mlost", barrier=True
        )
    partial = ROWS["partial"]
    fill = {"order_id": "17", "symbol": "BTC/USDT", "side": "sell", "price": Decimal(60000), "time": NOW}
    file.write_fills(
        partial.txn_id,
        [Fill(trade_id=f"T{n}", amount=Decimal("0.1"), fee=Decimal("3.75"), **fill) for n in (1, 2)],
    )
    file.note_fact("orphan 16", "abcde-01KAX0000000000000000000AA")
    file.note_watermark("20")
    file.close()
    (folder / "ballast").unlink(missing_ok=True)  # large, and no concern of the command line's
    return folder


@pytest.fixture
def folder(home, written):
    """The journal of the pipeline "default", closed."""
    shutil.copytree(written, home / "default")
    return home / "default"


@pytest.fixture
def run(capsys):
    """Run a command: (exit code, stdout, stderr)."""

    def run(*args):
        code = cli.main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def read_json(run, *args):
    code, out, err = run(*args, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


# -- looking ------------------------------------------------------------------------------------------------------


def test_the_list_shows_each_transaction_newest_first(folder, run):
    code, out, _ = run("transactions", "list")
    lines = out.splitlines()
    assert code == 0
    assert [line[:26] for line in lines[3:8]] == [
        ROWS[name].txn_id for name in ("lost", "resting", "partial", "absent", "rejected")
    ]
    assert re.search(r" 2 min +BTC/USDT +buy +limit +0.5 +0 +UNKNOWN +UNKNOWN +- +yes$", lines[3])
    assert re.search(r" 11 min +BTC/USDT +sell +limit +0.5 +0.2 +COMPLETED +PARTIAL +17$", lines[5])
    assert re.search(r" 9 days +BTC/USDT +buy +market +0.5 +0 +FAILED +REJECTED +-$", lines[7])
    assert "5 of 5 transactions; not decided: 1; needs you: 1" in lines[8]
    assert "no bot seems to run" in lines[9]


def test_the_columns_of_a_plain_table_stand_below_each_other(folder, run):
    _, out, _ = run("transactions", "list")
    rule = out.splitlines()[2]
    starts = [match.start() for match in re.finditer("-+", rule)]
    for line in out.splitlines()[3:8]:
        for start in starts[1:]:
            assert line.ljust(200)[start - 1] == " "


def test_a_plain_table_has_the_same_width_on_every_terminal(folder, run, monkeypatch):
    _, wide, _ = run("transactions", "list")
    monkeypatch.setenv("COLUMNS", "40")
    assert run("transactions", "list")[1] == wide


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--unresolved"], ["lost"]),
        (["--status", "failed"], ["absent", "rejected"]),
        (["--status", "failed", "--status", "unknown"], ["lost", "absent", "rejected"]),
        (["--status", "failed", "--unresolved"], []),
        (["--limit", "2"], ["lost", "resting"]),
    ],
)
def test_the_list_can_be_narrowed(folder, run, options, names):
    found = read_json(run, "transactions", "list", *options)
    assert [row["txn_id"] for row in found["transactions"]] == [ROWS[name].txn_id for name in names]
    assert (found["total"], found["unresolved"]) == (5, 1)


def test_json_has_money_as_text_and_everything_of_the_record(folder, run):
    row = read_json(run, "transactions", "list", "--limit", "3")["transactions"][2]
    assert (row["amount"], row["filled"], row["fee"], row["verdict"]) == ("0.5", "0.2", "7.5", "PARTIAL")
    fields = {field.name for field in dataclasses.fields(Record)} | {field.name for field in dataclasses.fields(Order)}
    assert fields - {"order"} <= row.keys()


def test_a_transaction_is_shown_with_its_timeline_and_what_to_do(folder, run):
    lost = ROWS["lost"]
    code, out, _ = run("transactions", "show", lost.txn_id)
    assert code == 0
    for text in (
        "limit buy 0.5 BTC on BTC/USDT at 60000 USDT",
        "UNKNOWN, verdict UNKNOWN",
        "19, 20",
        "two orders may be it",
        f"abcde-{lost.txn_id}",
        f'hireliab transactions resolve {lost.txn_id} --as failed --evidence "what you saw"',
    ):
        assert text in out
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} +1\.500 +2  UNKNOWN +1  T9", out)


def test_what_came_from_elsewhere_cannot_colour_the_terminal(folder, run):
    _, out, _ = run("transactions", "show", ROWS["lost"].txn_id)
    assert "\x1b" not in out
    assert "T9 ?[31mlost" in out


def test_fills_are_shown_with_their_units(folder, run):
    _, out, _ = run("transactions", "show", ROWS["partial"].txn_id)
    assert re.search(r"\(BTC\) +\(USDT\) +\(USDT\)", out)
    assert len(re.findall(r" 0\.1 +60000 +3\.75  T[12]$", out, re.MULTILINE)) == 2
    assert "0.2 of 0.5 BTC" in out
    assert "7.5 USDT" in out


def test_a_rial_market_is_priced_in_rial(folder, run):
    assert "at 60000 rial" in run("transactions", "show", ROWS["absent"].txn_id)[1]


@pytest.mark.parametrize("form", ["{id}", "abcde-{id}", " {id} "])
def test_a_transaction_may_be_named_by_its_client_order_id(folder, run, form):
    txn_id = ROWS["lost"].txn_id
    given = form.format(id=txn_id.lower())
    assert read_json(run, "transactions", "show", given)["transaction"]["txn_id"] == txn_id


def test_export_writes_one_line_for_each_transaction(folder, run):
    code, out, _ = run("transactions", "export")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["transaction"]["txn_id"] for line in lines] == [row.txn_id for row in ROWS.values()]
    partial = lines[2]
    assert [fill["amount"] for fill in partial["fills"]] == ["0.1", "0.1"]
    assert [entry["state"] for entry in partial["log"]] == ["SUBMITTING", "COMPLETED"]
    assert "." not in re.sub(
        r'"(?:\\.|[^"\\])*"', "", re.sub(r'"(time|created|updated|sent_wall|watch_until)": [\d.]+|: 0\.0', "", out)
    ), "money as a number"


def test_export_of_one_and_of_more_than_a_page(folder, run, monkeypatch):
    monkeypatch.setattr("hireliab._cli_reader._PAGE", 2)
    assert len(run("transactions", "export")[1].splitlines()) == 5
    assert len(run("transactions", "export", ROWS["lost"].txn_id)[1].splitlines()) == 1


def test_looking_changes_no_file(folder, run):
    before = {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir()}
    for args in (["transactions", "list"], ["transactions", "export"], ["journal", "check"], ["journal", "stats"]):
        assert run(*args)[0] == 0
    assert {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir()} == before


def test_a_live_bot_is_named(folder, run):
    (folder / "status.json").write_text(
        json.dumps({"pid": 4711, "state": "running", "updated": NOW, "started": NOW - 90})
    )
    with FileLock(folder / "journal.lock"):
        assert "a bot runs (process 4711)" in run("transactions", "list")[1]
        assert read_json(run, "transactions", "list")["bot"] == 4711
        assert "process 4711, running, started" in run("journal", "stats")[1]
    # Killed a moment ago: what it said is fresh, and its lock is free.
    assert read_json(run, "transactions", "list")["bot"] is None


def test_where_the_lock_cannot_be_tried_a_live_bot_is_told_by_its_last_sign(folder, run, monkeypatch):
    def closed(_folder):
        raise JournalError("journal.lock: cannot be tried (Permission denied); nothing was done")

    monkeypatch.setattr(_operator_client, "is_owned", closed)
    (folder / "status.json").write_text(json.dumps({"pid": 4711, "state": "running", "updated": NOW}))
    assert read_json(run, "transactions", "list")["bot"] == 4711


@pytest.mark.parametrize("said", [{"state": "stopped", "updated": NOW}, {"updated": NOW - 3600}, {"updated": "x"}, {}])
def test_an_old_or_broken_status_is_no_live_bot(folder, run, said):
    (folder / "status.json").write_text(json.dumps({"pid": 1, **said}))
    assert read_json(run, "transactions", "list")["bot"] is None


# -- what to do ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("state", [state for state in State if state is not State.NEW])
@pytest.mark.parametrize("person", [True, False])
def test_there_is_advice_for_every_state(state, live, person):
    row = record(state.value, order_id="7", needs_human=person)
    text = advice(row, live=live, options=" --name x")
    assert len(text) > 20
    if person and not state.is_terminal and state is not State.PREPARED:
        assert f"hireliab transactions resolve {row.txn_id} --name x --as failed" in text
    elif not live and not state.is_terminal and state is not State.PREPARED:
        assert "Start the bot" in text


@pytest.mark.parametrize("proof", list(Proof))
def test_there_is_advice_for_every_proof(proof):
    assert advice(record("FAILED", proof=proof), live=True, options="")
    assert advice(record("COMPLETED", proof=proof), live=True, options="")


def test_a_call_of_which_nothing_is_known_is_described_without_gaps():
    bare = dataclasses.replace(ROWS["lost"], kind="CALL", order=Order(symbol="", side="", type="", amount=Decimal(0)))
    assert "history for a call of your own function with the client order id -" in advice(bare, live=True, options="")
    some = dataclasses.replace(bare, order=Order(symbol="BTC/USDT", side="sell", type="", amount=Decimal("0.50")))
    assert "history for sell 0.5 BTC on BTC/USDT with" in advice(some, live=True, options="")


def test_a_call_without_a_figure_is_not_shown_as_filled_0():
    call = dataclasses.replace(ROWS["lost"], kind="CALL", filled=Decimal(0))
    assert record_json(call)["filled"] is None
    assert dict(_record_facts(call, []))["filled"].startswith("- of 0.")
    some = dataclasses.replace(call, filled=Decimal("0.25"))
    assert record_json(some)["filled"] == "0.25"
    assert dict(_record_facts(some, []))["filled"].startswith("0.25 of 0.")


def test_the_advice_names_the_command_for_the_order_that_rests_in_the_book():
    row = ROWS["resting"]
    assert f"hireliab transactions cancel {row.txn_id} --journal /x" in advice(row, live=True, options=" --journal /x")


def test_the_suggested_command_names_the_journal_that_was_asked(folder, run):
    _, out, _ = run("transactions", "show", ROWS["lost"].txn_id, "--journal", folder)
    assert f"resolve {ROWS['lost'].txn_id} --journal {folder} --as" in out


# -- the journal --------------------------------------------------------------------------------------------------


def test_a_sound_journal_is_called_sound(folder, run):
    code, out, _ = run("journal", "check")
    assert code == 0
    assert "sound" in out
    assert read_json(run, "journal", "check")["counts"] == {
        "transactions": 5,
        "log entries": 10,
        "fills": 2,
        "not decided": 1,
    }


def test_a_damaged_page_is_found_and_the_exit_code_is_one(folder, run):
    path = folder / "journal.db"
    data = bytearray(path.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(data)
    code, out, err = run("journal", "check")
    assert (code, err) == (1, "")
    assert "damaged" in out
    assert "copy the folder" in out
    code, out, _ = run("journal", "check", "--json")
    assert (code, json.loads(out)["ok"]) == (1, False)


def test_a_record_that_no_journal_holds_is_found(folder, run):
    with sqlite3.connect(folder / "journal.db") as db:
        db.execute("UPDATE txn SET state='HALFWAY' WHERE txn_id=?", (ROWS["lost"].txn_id,))
    db.close()
    code, out, _ = run("journal", "check")
    assert code == 1
    assert "HALFWAY" in out
    code, _, err = run("transactions", "list")
    assert code == 1
    assert err.startswith("hireliab: ")
    assert "journal check" in err


@pytest.mark.parametrize(
    "content", [b"", b"hello " * 1000, b"SQLite format 3\x00" + b"\x00" * 84], ids=["empty", "text", "head"]
)
@pytest.mark.parametrize(
    "command", [["journal", "check"], ["journal", "stats"], ["transactions", "list"], ["transactions", "export"]]
)
def test_a_file_that_is_no_journal_is_one_line_and_exit_code_one(home, run, content, command):
    (home / "default").mkdir()
    (home / "default" / "journal.db").write_bytes(content)
    code, out, err = run(*command)
    assert code == 1
    assert "Traceback" not in out + err
    assert len(err.splitlines()) == (0 if command == ["journal", "check"] else 1)


def test_events_that_wait_for_the_bus_are_counted(folder, run):
    assert read_json(run, "journal", "stats")["waiting_events"] == 0
    assert "not published yet" not in run("journal", "stats")[1]
    file = SQLiteJournal(folder)
    file.open()
    for number, ago in enumerate((3600, 60)):
        row = record("FAILED", ago=ago, proof=Proof.REJECTED)
        event = OutboxEvent(event_id=f"e{number}", key=row.txn_id, topic="t", body="{}", created=NOW - ago)
        file.write(row, cause="T9", barrier=True, event=event)
    file.close()
    found = read_json(run, "journal", "stats")
    assert (found["waiting_events"], found["oldest_waiting_event"]) == (2, NOW - 3600)
    assert re.search(r"events +2 not published yet, the oldest for 60 min", run("journal", "stats")[1])


def test_the_figures_of_a_journal(folder, run):
    found = read_json(run, "journal", "stats")
    assert found["states"] == {"COMPLETED": 2, "FAILED": 2, "UNKNOWN": 1}
    assert (found["unresolved"], found["needs_human"], found["resting"], found["watched"]) == (1, 1, 1, 1)
    assert found["orphans"] == {"16": "abcde-01KAX0000000000000000000AA"}
    assert found["watermark"] == "20"
    assert found["files"]["journal.db"] == (folder / "journal.db").stat().st_size
    assert found["account"] == {"venue": "nobitex", "host": "example", "identity": "key 1234"}
    out = run("journal", "stats")[1]
    for text in (
        "1, the oldest for 2 min, only a person can decide 1",
        "not halted",
        "16        abcde-01KAX",
        "9 days",
    ):
        assert text in out


# -- halt ---------------------------------------------------------------------------------------------------------


def test_halt_writes_the_file_and_says_when_it_holds(folder, run):
    code, out, _ = run("halt", "prices look wrong", "--who", "sara")
    assert code == 0
    assert "before each send" in out
    assert "Cancels and look-ups go on" in " ".join(out.split())
    assert "from the next start on" in out
    halt = _halt.read(folder)
    assert (halt.mode, halt.reason, halt.who) == ("HALTED", "prices look wrong", "sara")
    assert abs(halt.since - NOW) < 0.01
    assert "HALTED since" in run("transactions", "list")[1]
    assert "by sara: prices look wrong" in run("journal", "stats")[1]


def test_halt_needs_no_reason_and_may_let_sells_through(folder, run):
    assert read_json(run, "halt", "--reducing")["halt"]["mode"] == "REDUCING"
    assert _halt.read(folder).mode == "REDUCING"


def test_a_second_halt_says_what_it_takes_the_place_of(folder, run):
    assert read_json(run, "halt", "first", "--who", "sara")["replaced"] is None
    out = run("halt", "second", "--reducing", "--who", "ali")[1]
    assert out.startswith("REDUCING since ")
    assert re.search(r"^It takes the place of: HALTED since .* by sara: first$", out, re.MULTILINE)
    assert read_json(run, "halt", "third")["replaced"]["reason"] == "second"


def test_unhalt_removes_the_file_and_says_what_it_ended(folder, run):
    run("halt", "because", "--who", "sara")
    code, out, _ = run("unhalt", "--who", "ali")
    assert code == 0
    assert "ended by ali: HALTED since" in out
    assert _halt.read(folder) is None
    assert run("unhalt")[:2] == (0, "there was no halt\n")
    assert read_json(run, "unhalt")["ended"] is None


# -- deciding -----------------------------------------------------------------------------------------------------


def test_without_a_bot_a_persons_word_goes_into_the_journal(folder, run):
    txn_id = ROWS["lost"].txn_id
    args = ["resolve", txn_id, "--as", "completed", "--filled", "0.2", "--evidence", "order history", "--who", "sara"]
    code, out, _ = run("transactions", *args)
    assert (code, "PARTIAL on the word of sara" in out, "no bot runs" in out) == (0, True, True)
    shown = read_json(run, "transactions", "show", txn_id)
    assert (shown["transaction"]["proof"], shown["transaction"]["filled"]) == ("OPERATOR", "0.2")
    assert "says sara" in shown["log"][-1]["cause"]
    code, _, err = run("transactions", *args)
    assert code == 1
    assert "only one whose outcome is not known can be resolved" in err


def test_the_name_of_whoever_types_is_kept(folder, run, monkeypatch):
    monkeypatch.setenv("LOGNAME", "reza")
    run("transactions", "resolve", ROWS["lost"].txn_id, "--as", "failed", "--evidence", "x")
    assert read_json(run, "transactions", "show", ROWS["lost"].txn_id)["transaction"]["reason"] == "reza: x"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--as", "failed", "--evidence", ""], 2),
        (["--as", "failed", "--evidence", "x", "--who", ""], 2),
        (["--as", "failed", "--evidence", "x", "--filled", "1"], 1),
        (["--as", "completed", "--evidence", "x", "--filled", "9"], 1),
        (["--as", "completed", "--evidence", "x", "--filled", "NaN"], 1),
        (["--as", "completed", "--evidence", "x", "--order-id", "x"], 1),
        (["--as", "completed", "--evidence", "x", "--order-id", "17"], 1),
        (["--as", "done", "--evidence", "x"], 2),
        (["--as", "failed"], 2),
    ],
)
def test_a_word_that_cannot_be_is_refused_in_one_line(folder, run, more, code):
    got, out, err = run("transactions", "resolve", ROWS["lost"].txn_id, *more)
    assert (got, out, len(err.splitlines())) == (code, "", 1)
    assert read_json(run, "transactions", "show", ROWS["lost"].txn_id)["transaction"]["state"] == "UNKNOWN"


@pytest.mark.parametrize("args", [["adopt", "16"], ["cancel", ROWS["resting"].txn_id], ["sweep"]])
def test_what_needs_the_exchange_needs_a_bot(folder, run, args):
    code, out, err = run("transactions", *args)
    assert (code, out) == (1, "")
    assert "start the bot" in err
    assert "nothing was done" in err
    assert not (folder / "commands").exists()


@pytest.fixture
def owned(folder):
    file = SQLiteJournal(folder)
    file.open()
    yield folder
    file.close()


def test_a_bot_that_does_not_listen_has_its_command_withdrawn(owned, run):
    for args in (
        ["resolve", ROWS["lost"].txn_id, "--as", "failed", "--evidence", "x"],
        ["cancel", ROWS["resting"].txn_id],
        ["adopt", "16"],
        ["sweep"],
    ):
        code, out, err = run("transactions", *args, "--timeout", "0.2")
        assert (code, out) == (1, "")
        assert "withdrawn, nothing was done" in err
    assert list((owned / "commands").iterdir()) == []


@pytest.mark.parametrize(
    ("args", "asked"),
    [
        (
            [
                "resolve",
                ROWS["lost"].txn_id,
                "--as",
                "completed",
                "--order-id",
                "19",
                "--evidence",
                "x",
                "--who",
                "sara",
            ],
            (
                "resolve",
                {
                    "transaction_id": ROWS["lost"].txn_id,
                    "as": "completed",
                    "evidence": "x",
                    "who": "sara",
                    "order_id": "19",
                    "filled": None,
                },
            ),
        ),
        (
            ["cancel", ROWS["resting"].txn_id, "--who", "sara"],
            ("cancel", {"transaction_id": ROWS["resting"].txn_id, "who": "sara"}),
        ),
        (["adopt", "16", "--who", "sara"], ("adopt", {"order_id": "16", "who": "sara"})),
    ],
)
def test_a_bot_is_asked_and_its_answer_is_shown(owned, run, monkeypatch, args, asked):
    seen = []
    answer = {"transaction_id": "T", "verdict": "COMPLETED", "order_id": "19", "filled": "0.5", "remaining": "0"}

    def ask(folder, command, given, *, timeout, clock):
        seen.append((command, given))
        return {"ok": True, "answer": answer}

    monkeypatch.setattr(_operator_client, "ask", ask)
    code, out, _ = run("transactions", *args)
    assert (code, seen) == (0, [asked])
    subject = f"cancel of transaction {ROWS['resting'].txn_id}" if args[0] == "cancel" else "transaction T"
    assert out.startswith(f"{subject}: COMPLETED; order 19")
    assert read_json(run, "transactions", *args) == {"bot": True, **answer}


def test_a_refusal_of_the_bot_is_exit_code_one(owned, run, monkeypatch):
    monkeypatch.setattr(
        _operator_client, "ask", lambda *_, **__: {"ok": False, "error": "venue order 16: is transaction X"}
    )
    code, out, err = run("transactions", "adopt", "16")
    assert (code, out) == (1, "")
    assert err == "hireliab: adopt: the bot refuses: venue order 16: is transaction X\n"


def test_a_cancel_that_is_not_verified_is_exit_code_one(owned, run, monkeypatch):
    answer = {"transaction_id": "T", "kind": "CANCEL", "verdict": "UNKNOWN", "filled": "0", "remaining": "1"}
    monkeypatch.setattr(_operator_client, "ask", lambda *_, **__: {"ok": True, "answer": answer})
    code, out, _ = run("transactions", "cancel", ROWS["resting"].txn_id)
    assert code == 1
    assert "the bot goes on with it" in out


@pytest.mark.parametrize(
    ("orphans", "text"),
    [([], "has its transaction"), ([{"order_id": "16", "client_order_id": "abcde-X"}], "16        abcde-X")],
)
def test_orphans_are_listed(owned, run, monkeypatch, orphans, text):
    monkeypatch.setattr(_operator_client, "ask", lambda *_, **__: {"ok": True, "answer": {"orphans": orphans}})
    code, out, _ = run("transactions", "sweep")
    assert code == 0
    assert text in out


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX owners")
def test_another_users_journal_is_not_written(folder, run, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    code, _, err = run("transactions", "resolve", ROWS["lost"].txn_id, "--as", "failed", "--evidence", "x")
    assert code == 2
    assert "belongs to user" in err


# -- bad input ----------------------------------------------------------------------------------------------------

ID = ROWS["lost"].txn_id
USAGE = {
    "no such command": (["transctions"], "did you mean 'transactions'?"),
    "no such sub-command": (["transactions", "lisst"], "did you mean 'list'?"),
    "nothing near": (["qqqq"], "known: alerts, halt, journal"),
    "no such option": (["transactions", "list", "--limt", "3"], "--limit"),
    "not a number": (
        ["transactions", "list", "--limit", "many"],
        "must be a whole number from 1 to 100000, got 'many'",
    ),
    "zero": (["transactions", "list", "--limit", "0"], "must be a whole number from 1 to 100000, got '0'"),
    "an option before the command": (["--json", "status"], "behind the command, as in 'hireliab COMMAND --json'"),
    "an option of a command": (["transactions", "--status", "x"], "as in 'hireliab transactions COMMAND --status'"),
    "a question, and a sentence behind it": (["transctions"], "'transactions'? See 'hireliab --help'"),
    "no such status": (["transactions", "list", "--status", "lost"], "lost"),
    "no argument": (["transactions", "show"], "TRANSACTION_ID"),
    "one too many": (["transactions", "show", ID, "x"], "x"),
    "no such transaction": (["transactions", "show", "01KZZ"], "transactions list"),
    "empty id": (["transactions", "show", ""], "transactions list"),
    "id of other letters": (["transactions", "show", "تراکنش\x1b[31m"], "transactions list"),
    "id with a quote": (["transactions", "show", "' OR 1=1 --"], "transactions list"),
    "export of nothing": (["transactions", "export", "01KZZ"], "transactions list"),
    "resolve of nothing": (
        ["transactions", "resolve", "01KZZ", "--as", "failed", "--evidence", "x"],
        "transactions list",
    ),
    "adopt of a word": (["transactions", "adopt", "sixteen"], "number"),
    "adopt of a minus": (["transactions", "adopt", "--", "-5"], "number"),
    "other name": (["transactions", "list", "--name", "defalt"], "known names: default"),
    "name that cannot be": (["transactions", "list", "--name", "../x"], "name must be"),
    "empty name": (["transactions", "list", "--name", ""], "name must be"),
    "no folder": (["journal", "stats", "--journal", "/nowhere"], "no journal in /nowhere"),
    "folder with a null": (["journal", "stats", "--journal", "a\0b"], "journal"),
    "halt of nothing": (["halt", "--name", "other"], "no journal"),
    "unhalt of nothing": (["unhalt", "--name", "other"], "no journal"),
    "both": (["halt", "--name", "default", "--journal", "x"], "not both"),
    "no time": (["transactions", "sweep", "--timeout", "0"], "0"),
    "endless time": (["transactions", "sweep", "--timeout", "nan"], "nan"),
}


@pytest.mark.parametrize(("args", "text"), USAGE.values(), ids=USAGE.keys())
def test_bad_input_is_one_line_on_stderr_and_exit_code_two(folder, run, args, text):
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("hireliab: ")
    assert text in err
    assert "\x1b" not in err
    assert _halt.read(folder) is None


def test_the_only_journal_needs_no_name_and_one_of_several_does(folder, run):
    code, out, _ = run("halt", "look first", "--json")
    assert (code, _halt.read(folder) is None) == (0, False)
    assert run("unhalt")[0] == 0
    folder.rename(folder.parent / "my-bot")
    assert run("halt", "look first")[0] == 0
    assert _halt.read(folder.parent / "my-bot") is not None
    assert run("transactions", "list")[0] == 0
    (folder.parent / "another").mkdir()
    (folder.parent / "another" / "journal.db").write_bytes((folder.parent / "my-bot" / "journal.db").read_bytes())
    for args in (["transactions", "list"], ["unhalt"]):
        code, out, err = run(*args)
        assert (code, out) == (2, "")
        assert "known names: another, my-bot" in err
    assert _halt.read(folder.parent / "my-bot") is not None


def test_without_arguments_the_help_is_shown(run):
    for args in ([], ["transactions"], ["journal"], ["venue"]):
        code, out, err = run(*args)
        assert (code, out) == (2, "")
        assert "Commands:" in err
    for args in (["--help"], ["transactions", "--help"], ["halt", "-h"], ["transactions", "resolve", "--help"]):
        code, out, _ = run(*args)
        assert code == 0
        assert "Usage: hireliab" in out


def test_a_missing_venue_command_is_left_out(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "hireliab._cli_venue", None)
    assert "venue" not in run("--help")[1]
    assert run("venue", "check")[0] == 2


def test_the_version(run):
    import hireliab

    assert run("--version") == (0, f"hireliab, version {hireliab.__version__}\n", "")


def test_ctrl_c_is_no_traceback(folder, run, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("hireliab._cli_transactions._show_list", lambda *_, **__: stop())
    code, out, err = run("transactions", "list")
    assert (code, out, err) == (130, "", "\nhireliab: interrupted\n")


def test_a_full_disk_is_one_line(folder, run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "/x")

    monkeypatch.setattr(_halt, "write", full)
    assert run("halt") == (1, "", "hireliab: /x: No space left on device\n")


def test_a_config_error_is_usage(run, monkeypatch):
    def refuse(*_):
        raise ConfigError("name: no\nsecond line")

    monkeypatch.setattr("hireliab._cli_reader.find", refuse)
    assert run("halt") == (2, "", "hireliab: name: no second line\n")


@pytest.mark.skipif(os.name != "posix", reason="needs a pipe that is closed")
def test_a_reader_that_has_enough_is_no_error(folder):
    command = f"{sys.executable} -m hireliab transactions export | head -c 10"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_letters_that_the_terminal_cannot_show_are_no_error(folder):
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-m", "hireliab", "halt", "قیمت"], check=True, env=env, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-m", "hireliab", "journal", "stats"], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- how it is written --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"), (-5, "in the future"), (-0.5, "just now"), (0, "just now"), (1, "1 s"), (119, "119 s"), (120, "2 min"),
        (7199, "119 min"), (7200, "2 h"), (172799, "47 h"), (172800, "2 days"), (86400 * 400, "400 days"),
    ],
)  # fmt: skip
def test_ages_are_words(seconds, words):
    assert _cli_text.age(seconds) == words


@pytest.mark.parametrize("seconds", [1e300, float("nan"), float("inf"), -1e18])
def test_a_time_that_cannot_be_shown_is_a_question_mark(seconds):
    assert _cli_text.local_time(seconds) == "?"


def test_times_are_local_and_have_their_zone(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "Asia/Tehran")
    time.tzset()
    try:
        assert _cli_text.local_time(1_760_000_000.0) == "2025-10-09 12:23:20 +0330"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("no_color", [True, False])
def test_on_a_terminal_no_line_is_longer_than_it(folder, columns, no_color):
    pytest.importorskip("rich")
    out = on_a_terminal(columns, ["transactions", "list"], {"NO_COLOR": "1"} if no_color else {})
    assert ("\x1b[" in out) is not no_color
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    table = plain.partition("5 of 5")[0]
    assert max(len(line) for line in table.splitlines()) <= columns
    if columns >= 80:
        assert all(row.txn_id in plain for row in ROWS.values())
        assert "yes" in plain or "needs you" in plain
        for word in ("CLOSED", "PARTIAL", "REJECTED", "ABSENT")[1:]:
            assert word in plain


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_without_rich_a_terminal_gets_the_plain_table(folder, run):
    plain = run("transactions", "list")[1]
    out = on_a_terminal(130, ["transactions", "list"], {}, before="sys.modules['rich'] = None; ")
    ages = re.compile(r" +[0-9]+ (s|min|h|days) ")  # the other process has a clock that goes on
    assert ages.sub("", out.replace("\r", "")).splitlines()[:8] == ages.sub("", plain).splitlines()[:8]


def on_a_terminal(columns, args, env, before=""):
    """What the command writes on a pseudo-terminal of so many columns."""
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    code = f"import sys; {before}from hireliab.cli import main; sys.exit(main({args!r}))"
    given = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**given, "TERM": "xterm-256color", **env},
    )
    os.close(slave)
    out = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        out += part
    os.close(master)
    assert process.wait(30) == 0, out.decode()
    return out.decode()
