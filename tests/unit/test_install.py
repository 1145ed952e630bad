"""install_high_reliability: what it asks for, what it refuses, and what it says of a part that does not work."""

import importlib.metadata
import importlib.util
import os
import site
import subprocess
import sys
import sysconfig

import pytest

from hireliab import _install_parts as parts
from hireliab import install_high_reliability as install

RICH = parts.parse('rich>=13; extra == "all"')
CLICK = parts.parse("click>=8.1")


@pytest.fixture
def wanted(monkeypatch):
    """What the metadata asks for; a test may change the list."""
    asked = [CLICK, RICH]
    monkeypatch.setattr(install, "requirements", lambda: list(asked))
    return asked


@pytest.fixture
def pip(monkeypatch):
    """Programs that were run, pip first, and the codes with which they end."""

    class Recorded:
        def __init__(self):
            self.commands, self.codes = [], [0, 0]

        def __call__(self, command, **_):
            self.commands.append(command)
            code = self.codes[len(self.commands) - 1]
            return subprocess.CompletedProcess(command, code)

    recorded = Recorded()
    monkeypatch.setattr(install, "_run_pip", lambda command: recorded(command).returncode)
    monkeypatch.setattr(install.subprocess, "run", recorded)
    return recorded


def lines(capsys):
    captured = capsys.readouterr()
    return captured.out.splitlines(), captured.err.splitlines()


# -- the metadata ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "name", "asked", "least", "extra"),
    [
        ("click>=8.1", "click", "click>=8.1", "8.1", None),
        ('rich>=13; extra == "cli"', "rich", "rich>=13", "13", "cli"),
        ("rich >=13 ; extra == 'all'", "rich", "rich>=13", "13", "all"),
        ("rich (>=13) ; extra == 'all'", "rich", "rich>=13", "13", "all"),
        ("prometheus_client", "prometheus-client", "prometheus_client", "", None),
        ('a>=1; python_version >= "3.11" and extra == "all"', "a", 'a>=1; python_version >= "3.11"', "1", "all"),
        ('a<2,>=1.5; sys_platform == "win32"', "a", 'a<2,>=1.5; sys_platform == "win32"', "1.5", None),
    ],
)
def test_a_line_of_the_metadata_is_taken_apart(line, name, asked, least, extra):
    assert parts.parse(line) == parts.Requirement(name=name, line=asked, least=least, extra=extra)


def test_a_line_that_is_none_is_named():
    with pytest.raises(ValueError, match="'!' in the metadata"):
        parts.parse("!")


@pytest.mark.parametrize(
    ("version", "least", "older"),
    [
        ("8.1", "8.1", False), ("8.1.7", "8.1", False), ("8", "8.0", False), ("13", "13.0.0", False),
        ("8.0.9", "8.1", True), ("2.32.2", "2.32.3", True), ("2.32.3.post1", "2.32.3", False), ("9.0", "10", True),
        ("10.0", "9.9", False), ("4.0rc1", "4", False), ("unknown", "1", True),
    ],
)  # fmt: skip
def test_versions_are_compared_by_their_numbers(version, least, older):
    assert parts.is_older(version, least) is older


def test_only_what_is_needed_and_the_extra_all_is_asked_for(monkeypatch):
    metadata = ["click>=8.1", 'rich>=13; extra == "all"', 'rich>=13; extra == "cli"', 'ruff>=0.9; extra == "lint"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: metadata)
    assert parts.requirements() == [CLICK, RICH]


# -- the commands -----------------------------------------------------------------------------------------------------


def test_dry_run_prints_a_command_for_this_interpreter_and_runs_nothing(wanted, pip, capsys):
    assert install.main(["--dry-run"]) == 0
    out, err = lines(capsys)
    assert out == [f"{sys.executable} -m pip install --disable-pip-version-check 'click>=8.1' 'rich>=13'"]
    assert not err
    assert not pip.commands


def test_what_is_there_is_not_installed_again_and_is_checked_by_a_fresh_interpreter(wanted, pip, capsys):
    wanted.remove(RICH)
    assert install.main([]) == 0
    assert pip.commands == [[sys.executable, "-m", "hireliab.install_high_reliability", "--check"]]
    assert "everything is installed" in lines(capsys)[0][0]


def test_what_is_missing_is_installed_and_then_checked(wanted, pip, capsys):
    wanted.append(parts.parse("a-distribution-that-nobody-has>=1"))
    assert install.main([]) == 0
    first, second = pip.commands
    assert first[:4] == [sys.executable, "-m", "pip", "install"]
    assert first[-1] == "a-distribution-that-nobody-has>=1"
    assert second[-1] == "--check"
    assert "installing a-distribution-that-nobody-has>=1" in lines(capsys)[0][0]


@pytest.mark.parametrize(("codes", "code"), [([1, 0], 1), ([0, 1], 1), ([0, -11], 1), ([0, 0], 0)])
def test_a_failure_of_pip_or_of_the_check_is_the_exit_code(wanted, pip, codes, code, capsys):
    wanted.append(parts.parse("a-distribution-that-nobody-has>=1"))
    pip.codes = codes
    assert install.main([]) == code
    err = " ".join(lines(capsys)[1])
    assert ("pip ended with code 1" in err) == (codes[0] == 1)
    assert ("the check ended with code -11" in err) == (codes[1] == -11)


def test_an_interruption_is_one_line(wanted, monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(install, "check", interrupted)
    assert install.main(["--check"]) == 130
    assert lines(capsys) == ([], ["python -m hireliab.install_high_reliability: interrupted; run it again to go on"])


@pytest.mark.parametrize(
    ("given", "near"),
    [
        (["--chek"], "'--check'"),
        (["--dryrun"], "'--dry-run'"),
        (["--che"], "'--check'"),
        (["--check=1"], None),
        (["rich"], None),
    ],
)
def test_an_unknown_option_is_one_line_with_the_near_miss(given, near, capsys):
    with pytest.raises(SystemExit) as ended:
        install.main(given)
    assert ended.value.code == 2
    out, err = lines(capsys)
    assert not out
    assert len(err) == 1
    assert err[0].lower().endswith("see 'python -m hireliab.install_high_reliability --help'")
    assert near is None or f"did you mean {near}?" in err[0]


def test_check_and_dry_run_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as ended:
        install.main(["--check", "--dry-run"])
    assert ended.value.code == 2
    assert "not allowed with" in lines(capsys)[1][0]


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.fixture
def missing(wanted):
    wanted.append(parts.parse("a-distribution-that-nobody-has>=1"))


@pytest.fixture
def system_python(monkeypatch, tmp_path):
    """An interpreter that is in no virtual environment; its folder for the marker file."""
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    paths = {"stdlib": str(tmp_path), "purelib": str(tmp_path)}
    monkeypatch.setattr(sysconfig, "get_path", lambda name, *_: paths[name])
    return tmp_path


MARKER = "[externally-managed]\nError=To install a package, try apt install\n python3-xyz.\n"


@pytest.mark.parametrize("text", [MARKER, "", "no ini file at all \x00", "[externally-managed]\nError=100 % yours\n"])
def test_an_externally_managed_environment_is_refused_with_the_remedy(missing, system_python, pip, text, capsys):
    (system_python / "EXTERNALLY-MANAGED").write_text(text)
    assert install.main([]) == 2
    _, err = lines(capsys)
    assert not pip.commands
    assert len(err) == 1
    assert "managed by its system's package manager" in err[0]
    assert "python3 -m venv .venv" in err[0]
    assert ("(To install a package, try apt install)" in err[0]) == (text == MARKER)


def test_dry_run_says_of_a_managed_environment_that_it_would_be_refused(wanted, system_python, capsys):
    (system_python / "EXTERNALLY-MANAGED").write_text(MARKER)
    assert install.main(["--dry-run"]) == 2
    out, err = lines(capsys)
    assert "pip install" in out[0]
    assert "python3 -m venv .venv" in err[0]


def test_the_marker_does_not_count_in_a_virtual_environment(missing, system_python, pip, monkeypatch):
    (system_python / "EXTERNALLY-MANAGED").write_text(MARKER)
    monkeypatch.setattr(sys, "prefix", "/an/environment")
    assert install.main([]) == 0
    assert len(pip.commands) == 2


def test_no_pip_is_one_line_that_says_what_to_do(missing, monkeypatch, pip, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert install.main([]) == 2
    (line,) = lines(capsys)[1]
    assert "there is no pip" in line
    assert "-m ensurepip" in line
    assert "'rich>=13'" in line
    assert not pip.commands


@pytest.mark.parametrize(("venv", "user_site", "code"), [(True, True, 2), (False, False, 2), (False, True, 0)])
def test_no_permission_to_write_is_one_line_unless_pip_has_the_users_own_folder(
    missing, monkeypatch, system_python, pip, venv, user_site, code, capsys
):
    if venv:
        monkeypatch.setattr(sys, "prefix", "/an/environment")
    monkeypatch.setattr(site, "ENABLE_USER_SITE", user_site)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert install.main([]) == code
    err = lines(capsys)[1]
    assert len(pip.commands) == (0 if code else 2)
    assert code == 0 or ("no permission to write in" in err[0] and len(err) == 1)


@pytest.mark.parametrize("how", [[], ["--check"], ["--dry-run"]])
def test_a_hireliab_that_is_not_installed_is_one_line(monkeypatch, how, capsys):
    def nothing():
        raise importlib.metadata.PackageNotFoundError("hireliab")

    monkeypatch.setattr(install, "requirements", nothing)
    assert install.main(how) == 2
    (line,) = lines(capsys)[1]
    assert "hireliab is not installed" in line
    assert "-m pip install" in line


# -- the check --------------------------------------------------------------------------------------------------------


def check_with(monkeypatch, capsys, work, requirement=RICH):
    monkeypatch.setattr(install, "PARTS", [parts.Part(name=requirement.name, use="tables", work=work)])
    monkeypatch.setattr(install, "requirements", lambda: [requirement])
    code = install.main(["--check"])
    return code, capsys.readouterr().out


def test_a_part_that_works_is_a_row_with_yes(monkeypatch, capsys):
    code, out = check_with(monkeypatch, capsys, lambda: None)
    assert code == 0
    assert out.splitlines()[3].split() == ["rich", importlib.metadata.version("rich"), "tables", "yes"]
    assert "All 2 parts work" in out


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ImportError("libssl.so.1: cannot open\nshared object file"),
            "no: ImportError: libssl.so.1: cannot open shared object file",
        ),
        (parts.Failed("a table has no cells"), "no: Failed: a table has no cells"),
        (SystemExit(3), "no: SystemExit: 3"),
    ],
)
def test_a_part_that_is_there_and_does_not_work_is_a_no_with_the_reason(monkeypatch, capsys, error, said):
    def broken():
        raise error

    code, out = check_with(monkeypatch, capsys, broken)
    assert code == 1
    assert said in out
    assert "1 of 2 parts do not work: rich." in out
    assert "hireliab itself works without them." in out
    assert "--force-reinstall 'rich>=13'" in out
    assert "To install what is missing" not in out


def test_a_part_that_is_missing_is_not_tried_and_the_way_to_it_is_told(monkeypatch, capsys):
    tried = []
    missing = parts.parse('a-distribution-that-nobody-has>=1; extra == "all"')
    code, out = check_with(monkeypatch, capsys, lambda: tried.append(1), missing)
    assert code == 1
    assert not tried
    assert "no: not installed" in out
    assert "To install what is missing: python -m hireliab.install_high_reliability" in out
    assert "--force-reinstall" not in out


def test_a_part_that_is_too_old_is_a_no_though_it_works(monkeypatch, capsys):
    code, out = check_with(monkeypatch, capsys, lambda: None, parts.parse("click>=1000.1"))
    assert code == 1
    assert "no: too old, at least 1000.1 is needed" in out
    assert "hireliab itself works" not in out


def test_every_part_that_hireliab_asks_for_is_tried():
    known = [part.name for part in parts.PARTS]
    assert len(set(known)) == len(known)
    assert {one.name for one in parts.requirements()} == set(known)
