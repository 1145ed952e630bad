"""The file HALT: whatever is in it, the safe direction is to send nothing."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hireliab.errors import ConfigError, JournalError
from hireliab.exchange import _halt
from hireliab.exchange._halt import Halt

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")
HALT = Halt(mode="HALTED", reason="prices look wrong", who="sara", since=1_700_000_000.25)


@pytest.mark.parametrize("mode", _halt.MODES)
def test_what_is_written_is_read(tmp_path, mode):
    halt = Halt(mode=mode, reason="قیمت‌ها", who="sara", since=1_700_000_000.25)
    _halt.write(tmp_path, halt)
    assert _halt.read(tmp_path) == halt
    assert [path.name for path in tmp_path.iterdir()] == ["HALT"]


def test_without_the_file_there_is_no_halt(tmp_path):
    assert _halt.read(tmp_path) is None
    assert _halt.read(tmp_path / "no folder") is None


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (b"", "HALTED", ""),
        (b"\n", "HALTED", ""),
        (b"reducing", "REDUCING", ""),
        (b"REDUCING wind down\n", "REDUCING", "wind down"),
        (b"REDUCE", "HALTED", "REDUCE"),
        (b"stop it, something is wrong\n", "HALTED", "stop it, something is wrong"),
        (b"\nREDUCING\n", "HALTED", ""),
        (b"\xff\xfe\x00\x01", "HALTED", None),
        (b"REDUCINGx" * 10_000, "HALTED", None),
    ],
)
def test_what_a_person_writes_by_hand_halts_unless_it_is_a_known_word(tmp_path, content, mode, reason):
    (tmp_path / "HALT").write_bytes(content)
    halt = _halt.read(tmp_path)
    assert (halt.mode, halt.who, halt.since) == (mode, "", None)
    assert reason is None or halt.reason == reason


@pytest.mark.parametrize("since", ["nan", "inf", "-3", "0", "soon", ""])
def test_a_time_that_is_none_is_not_known(tmp_path, since):
    (tmp_path / "HALT").write_text(f"HALTED x\nwho: sara\nsince: {since}\n")
    assert _halt.read(tmp_path) == Halt(mode="HALTED", reason="x", who="sara", since=None)


def test_an_unknown_time_is_written_as_none(tmp_path):
    _halt.write(tmp_path, Halt(mode="HALTED", reason="x", who="sara", since=None))
    assert _halt.read(tmp_path).since is None


def test_a_folder_of_that_name_halts(tmp_path):
    (tmp_path / "HALT").mkdir()
    halt = _halt.read(tmp_path)
    assert halt.mode == "HALTED"
    assert "cannot be read" in halt.reason


@posix
@pytest.mark.skipif(os.name == "posix" and os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_halts(tmp_path):
    (tmp_path / "HALT").write_text("REDUCING")
    (tmp_path / "HALT").chmod(0)
    assert _halt.read(tmp_path).mode == "HALTED"


@posix
def test_a_pipe_of_that_name_halts_and_does_not_wait(tmp_path):
    os.mkfifo(tmp_path / "HALT")
    assert _halt.read(tmp_path).mode == "HALTED"


@posix
def test_a_link_to_itself_halts(tmp_path):
    (tmp_path / "HALT").symlink_to(tmp_path / "HALT")
    assert _halt.read(tmp_path).mode == "HALTED"


@posix
def test_only_the_owner_may_read_it(tmp_path):
    old = os.umask(0)
    try:
        _halt.write(tmp_path, HALT)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "HALT").stat().st_mode) == 0o600


def test_words_with_line_breaks_stay_on_their_lines(tmp_path):
    _halt.write(tmp_path, Halt(mode="HALTED", reason="a\nwho: eve\u2028b\x85c", who="sara\nsince: 5", since=7.0))
    assert _halt.read(tmp_path) == Halt(mode="HALTED", reason="a who: eve b c", who="sara since: 5", since=7.0)


def test_long_words_are_cut_and_the_rest_is_still_read(tmp_path):
    _halt.write(tmp_path, Halt(mode="REDUCING", reason="\U00010348" * 100_000, who="ß" * 100_000, since=7.0))
    halt = _halt.read(tmp_path)
    assert halt.mode == "REDUCING"
    assert halt.reason == "\U00010348" * 1000
    assert (halt.who, halt.since) == ("ß" * 1000, 7.0)


def test_a_lone_surrogate_is_written_as_a_question_mark(tmp_path):
    _halt.write(tmp_path, Halt(mode="HALTED", reason="a\udc80", who="sara", since=None))
    assert _halt.read(tmp_path).reason == "a?"


def test_another_mode_is_refused_and_changes_nothing(tmp_path):
    _halt.write(tmp_path, HALT)
    with pytest.raises(ConfigError, match="HALTED, REDUCING"):
        _halt.write(tmp_path, Halt(mode="halted", reason="x", who="sara", since=None))
    assert _halt.read(tmp_path) == HALT


def test_a_halt_that_cannot_be_written_says_that_nothing_is_halted(tmp_path):
    with pytest.raises(JournalError, match="nothing is halted"):
        _halt.write(tmp_path / "no folder", HALT)


def test_a_failed_write_leaves_the_old_halt_and_no_litter(tmp_path, monkeypatch):
    _halt.write(tmp_path, HALT)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JournalError, match="No space left"):
        _halt.write(tmp_path, Halt(mode="REDUCING", reason="", who="", since=None))
    assert _halt.read(tmp_path) == HALT
    assert [path.name for path in tmp_path.iterdir()] == ["HALT"]


@posix
def test_the_file_and_its_name_are_on_disk_before_write_returns(tmp_path, monkeypatch):
    steps = []
    sync, replace = os.fsync, Path.replace

    def synced(descriptor):
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def replaced(path, target):
        steps.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    _halt.write(tmp_path, HALT)
    assert steps == ["file", "rename", "folder"]


def test_clear_says_whether_there_was_one(tmp_path):
    _halt.write(tmp_path, HALT)
    assert _halt.clear(tmp_path) is True
    assert _halt.read(tmp_path) is None
    assert _halt.clear(tmp_path) is False


def test_a_halt_that_cannot_be_removed_says_that_it_goes_on(tmp_path):
    (tmp_path / "HALT").mkdir()
    with pytest.raises(JournalError, match="goes on"):
        _halt.clear(tmp_path)


def test_many_halts_at_once_leave_one_whole_file(tmp_path):
    halts = [
        Halt(mode=_halt.MODES[i % 2], reason=f"reason {i}", who=f"person {i}", since=float(i + 1)) for i in range(32)
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda halt: _halt.write(tmp_path, halt), halts))
    assert _halt.read(tmp_path) in halts
    assert [path.name for path in tmp_path.iterdir()] == ["HALT"]
