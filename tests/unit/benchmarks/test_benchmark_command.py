"""``python -m benchmarks``: what runs, what is written, and what a failure costs."""

import importlib
import json
import subprocess
import sys
import tempfile

import pytest

from benchmarks import __main__ as command_line
from benchmarks import _measuring, harness
from benchmarks.harness import Report

MACHINE = {"cpu": "a CPU", "system": "Linux", "python": "CPython 3.11", "sqlite": "3", "disk": "a disk"}
FIGURES = {"goals": [{"what": "speed", "wanted": ">= 1", "measured": "2", "reached": True}]}


@pytest.fixture
def reported(monkeypatch):
    """Two benchmarks that do nothing; what each was asked for."""
    calls = []

    def install(*problems, **raising):
        def benchmark(name):
            def run(quick):
                calls.append((name, quick))
                if name in raising:
                    raise raising[name]
                return Report(lines=(f"a line of {name}",), data=FIGURES, problems=problems)

            return run

        monkeypatch.setattr(command_line, "BENCHMARKS", {name: benchmark(name) for name in ("first", "second")})
        monkeypatch.setattr(harness, "machine", lambda: dict(MACHINE))
        monkeypatch.setattr(_measuring, "_commit", lambda: {"commit": "abc", "changed": False})
        return calls

    return install


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        command_line.main(arguments)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("python -m benchmarks: ")
    assert err.count("\n") == 1
    return err


def test_without_a_name_every_benchmark_runs(reported, capsys):
    calls = reported()
    assert command_line.main([]) == 0
    assert calls == [("first", False), ("second", False)]
    out = capsys.readouterr().out
    assert "a CPU" in out
    assert "a line of first" in out
    assert "2 goals: 2 reached, 0 missed" in out
    assert "--quick" not in out


@pytest.mark.parametrize("name", list(command_line.BENCHMARKS))
def test_each_benchmark_is_there(name):
    assert callable(importlib.import_module(f"benchmarks.{name}").run)


def test_a_name_twice_runs_once(reported):
    calls = reported()
    assert command_line.main(["second", "second", "--quick"]) == 0
    assert calls == [("second", True)]


def test_the_json_file_says_where_when_and_with_what(reported, tmp_path):
    reported()
    file = tmp_path / "f.json"
    assert command_line.main(["first", "--quick", "--json", str(file)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]
    found = json.loads(file.read_text())
    assert set(found) == {"schema", "runs", "rows", "benchmarks", "reports", "problems"}
    (run,) = found["runs"]
    assert set(run) == {
        "date", "commit", "changed", "machine", "peers", "load", "seconds", "quick", "note", "benchmarks",
    }  # fmt: skip
    assert (run["machine"], run["quick"], run["commit"], run["benchmarks"]) == (MACHINE, True, "abc", ["first"])
    assert "requests" in run["peers"]
    assert found["benchmarks"] == {"first": FIGURES}
    assert found["reports"] == {"first": ["a line of first"]}
    (row,) = found["rows"]
    assert row == {
        "part": "first", "what": "speed", "against": "", "ratio": None, "absolute": "2", "wanted": ">= 1", "reached": True,
    }  # fmt: skip


def test_a_problem_is_named_and_makes_the_exit_code_1(reported, capsys):
    reported("hireliab: its books are wrong")
    assert command_line.main(["first"]) == 1
    assert "NOT COUNTED first: hireliab: its books are wrong" in capsys.readouterr().err


def test_one_that_fails_costs_none_of_the_others_its_figures(reported, tmp_path, capsys):
    calls = reported(first=RuntimeError("no broker\nat all"))
    file = tmp_path / "f.json"
    assert command_line.main(["--json", str(file)]) == 1
    assert len(calls) == 2
    assert "NOT COUNTED first: FAILED: RuntimeError: no broker at all" in capsys.readouterr().err
    found = json.loads(file.read_text())
    assert list(found["benchmarks"]) == ["second"]
    assert found["problems"] == ["first: FAILED: RuntimeError: no broker at all"]


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (_measuring.TerminatedError, 143)])
def test_an_interrupt_keeps_what_was_measured_and_names_what_was_not(reported, tmp_path, capsys, error, code):
    reported(second=error())
    file = tmp_path / "f.json"
    assert command_line.main(["--json", str(file)]) == code
    assert list(json.loads(file.read_text())["benchmarks"]) == ["first"]
    assert "interrupted; not measured: second" in capsys.readouterr().err


def test_an_interrupt_in_the_first_writes_nothing(reported, tmp_path):
    reported(first=KeyboardInterrupt())
    assert command_line.main(["--json", str(tmp_path / "f.json")]) == 130
    assert list(tmp_path.iterdir()) == []


def test_figures_that_the_table_cannot_read_are_written_all_the_same(reported, tmp_path, capsys, monkeypatch):
    reported()
    monkeypatch.setitem(command_line._rows.READERS, "first", lambda part: iter([part.figures["missing"]]))
    file = tmp_path / "f.json"
    assert command_line.main(["--json", str(file)]) == 1
    assert "first: its figures are not what this version writes: KeyError: 'missing'" in capsys.readouterr().err
    assert list(json.loads(file.read_text())["benchmarks"]) == ["first", "second"]


def test_temporary_files_of_a_run_go_with_it_also_those_of_a_killed_child(reported, monkeypatch, tmp_path):
    reported()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)

    def run(quick):
        subprocess.run([sys.executable, "-c", "import tempfile; tempfile.mkdtemp()"], check=True)
        assert any(tmp_path.glob("*/*"))
        return Report(lines=(), data={}, problems=())

    monkeypatch.setattr(command_line, "BENCHMARKS", {"untidy": run})
    assert command_line.main([]) == 0
    assert list(tmp_path.iterdir()) == []
    assert tempfile.gettempdir() == str(tmp_path)


# -- what is found before anything is measured --------------------------------------------------------------------


def test_an_unknown_name_is_refused_with_the_near_miss(reported, capsys):
    calls = reported()
    assert "no benchmark 'frist'; did you mean 'first'?" in refused(capsys, "second", "frist")
    assert "no benchmark 'xyz'; there are: first, second" in refused(capsys, "xyz")
    assert "no option '--jsom'; did you mean '--json'?" in refused(capsys, "--jsom", "x")
    assert calls == []


def test_a_file_that_cannot_be_written_is_found_before_measuring(reported, tmp_path, capsys):
    calls = reported()
    missing = tmp_path / "missing" / "f.json"
    assert f"{missing}: cannot be written: No such file or directory" in refused(capsys, "--json", str(missing))
    assert "cannot be written" in refused(capsys, "--csv", str(missing))
    assert "is a folder" in refused(capsys, "--json", str(tmp_path))
    assert calls == []


def test_a_folder_for_charts_that_cannot_be_made_is_found_before_measuring(reported, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    calls = reported()
    (tmp_path / "file").touch()
    assert "cannot be made" in refused(capsys, "--plot", str(tmp_path / "file"))
    assert calls == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc takes no files, not even from root")
def test_no_permission_is_found_before_measuring(reported, capsys):
    calls = reported()
    assert "/proc/f.json: cannot be written" in refused(capsys, "--json", "/proc/f.json")
    assert calls == []


def test_without_matplotlib_plot_is_refused_with_the_command_that_installs_it(reported, tmp_path, capsys, monkeypatch):
    calls = reported()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "benchmarks._plot", raising=False)
    monkeypatch.delattr("benchmarks._plot", raising=False)
    assert "pip install 'hireliab[bench]'" in refused(capsys, "--plot", str(tmp_path))
    assert calls == []


# -- from files ---------------------------------------------------------------------------------------------------


def test_a_report_is_rebuilt_from_several_files_without_measuring(reported, tmp_path, capsys):
    calls = reported()
    one, two, both = (str(tmp_path / name) for name in ("one.json", "two.json", "both.json"))
    command_line.main(["first", "--quick", "--json", one])
    command_line.main(["second", "--json", two])
    capsys.readouterr()
    calls.clear()
    assert command_line.main(["--from", one, two, "--json", both, "--csv", str(tmp_path / "t.csv")]) == 0
    assert calls == []
    out = capsys.readouterr().out
    assert "a line of first" in out
    assert "a line of second" in out
    assert out.count("a CPU") == 1
    assert "--quick: " in out
    found = json.loads((tmp_path / "both.json").read_text())
    assert [run["benchmarks"] for run in found["runs"]] == [["first"], ["second"]]
    assert (tmp_path / "t.csv").read_text().splitlines()[1:] == [
        "-,first,speed,,2,>= 1,yes",
        "-,second,speed,,2,>= 1,yes",
    ]
    assert command_line.main(["second", "--from", both]) == 0
    assert "a line of first" not in capsys.readouterr().out


def test_a_rebuilt_report_is_the_same(reported, tmp_path):
    reported()
    file, again = tmp_path / "a.json", tmp_path / "b.json"
    command_line.main(["--json", str(file)])
    command_line.main(["--from", str(file), "--json", str(again)])
    assert file.read_bytes() == again.read_bytes()


def test_files_that_are_no_reports_are_refused(reported, tmp_path, capsys):
    reported()
    file = tmp_path / "f.json"
    assert "f.json: No such file or directory" in refused(capsys, "--from", str(file))
    for text, why in (
        ("{", "f.json: "),
        ("[]", "schema 1, but None"),
        ('{"schema": 2}', "but 2"),
        ('{"schema": 1}', "no 'runs'"),
    ):
        file.write_text(text)
        assert why in refused(capsys, "--from", str(file))
    file.write_bytes(b"\xff\xfe")
    assert "f.json: " in refused(capsys, "--from", str(file))


def test_a_report_without_the_wanted_benchmark_is_refused(reported, tmp_path, capsys):
    reported()
    file = tmp_path / "f.json"
    command_line.main(["first", "--json", str(file)])
    capsys.readouterr()
    assert "no figures of second" in refused(capsys, "second", "--from", str(file))
