"""The crash campaign's crew: how kills are split, and what a report says."""

import pytest

from benchmarks import crash


@pytest.mark.parametrize("kills", [0, 1, 2, 249, 250, 500, 501, 10_000])
def test_the_kills_are_split_evenly_over_profiles_and_no_shard_is_too_large(kills):
    shards = [s for s in crash.shards_of(kills=kills, seed=5, profiles=crash.PROFILES) if s.stage == "storm"]
    assert sum(s.kills for s in shards) == kills
    assert all(0 < s.kills <= crash.SHARD for s in shards)
    by_profile = [sum(s.kills for s in shards if s.profile == profile) for profile in crash.PROFILES]
    assert max(by_profile) - min(by_profile) <= 1
    assert len({s.seed for s in shards}) == len({s.name for s in shards}) == len(shards)


def test_each_profile_goes_through_the_labels_first():
    shards = crash.shards_of(kills=10, seed=5, profiles=crash.PROFILES)
    assert [(s.stage, s.profile) for s in shards[:2]] == [("labels", "default"), ("labels", "null-client-ids")]
    assert all(s.stage == "storm" for s in crash.shards_of(kills=10, seed=5, profiles=crash.PROFILES, classes=()))


def report(**changes):
    known = {
        "seed": 5, "profile": "default", "stage": "storm", "kills": 10, "accepted": 20, "requests": 30, "undecidable": 0,
        "claims": 4, "phases": {"submitting": 3}, "told": {"True COMPLETED": 7}, "deaths": {}, "hits": {}, "nested": {},
        "violations": {}, "decided": {"in time": 97, "late": 3, "cut short": 9},
    }  # fmt: skip
    return {**known, **changes}


def outcome(code=0, text=(), **changes):
    shard = crash.Shard(stage="storm", profile="default", seed=5, kills=10)
    return crash.Outcome(shard=shard, code=code, text=list(text), report=report(**changes))


def test_figures_are_added_up_over_the_shards():
    lines, data = crash.summary(
        [outcome(), outcome(profile="null-client-ids", undecidable=2, deaths={"L05 calm": 1, "L05 stormy": 1})],
        seed=5,
        seconds=60.0,
    )
    assert data["kills"] == 20 and data["accepted"] == 40 and data["phases"] == {"submitting": 6}
    assert data["profiles"]["null-client-ids"] == {"kills": 10, "undecidable": 2, "in time": 97, "timed": 100}
    assert "violations: none" in lines[0] and "rule of three" in lines[2]
    assert any(line.split()[:2] == ["L05", "2"] for line in lines)


def test_a_failed_shard_is_named_with_the_command_that_runs_it_again():
    failed = outcome(code=1, text=["  a line of the table", "VIOLATION I2: twice"], violations={"I2": 1})
    lines, data = crash.summary([outcome(), failed], seed=5, seconds=60.0)
    text = "\n".join(lines)
    assert "violations: I2 1" in lines[0] and "rule of three" not in text
    assert "tests/crash/campaign.py --stage storm --profile default --seed 5 --kills 10" in text
    assert "VIOLATION I2: twice" in text and "a line of the table" not in text
    assert data["failed"] == [failed.shard.arguments]


def test_too_few_orders_decided_in_time_over_all_campaigns_of_a_profile_is_a_violation():
    slow, fine = {"in time": 91, "late": 9}, {"in time": 100, "late": 0}
    both = [outcome(decided=slow), outcome(decided=fine)]
    assert crash.summary(both, seed=5, seconds=60.0)[1]["violations"] == {}, "191 of 200"
    lines, data = crash.summary([*both, outcome(decided=slow)], seed=5, seconds=60.0)
    assert data["violations"] == {"LIVENESS": 1}, "282 of 300"
    assert any(line.startswith("TOO SLOW default") for line in lines) and "rule of three" not in "".join(lines)


def test_a_shard_that_could_not_run_shows_its_last_words():
    broken = crash.Outcome(
        shard=crash.Shard(stage="storm", profile="default", seed=5, kills=10), code=2, text=["no fork()"]
    )
    lines, _ = crash.summary([broken], seed=5, seconds=60.0)
    assert "no fork()" in lines


def test_progress_is_told_line_by_line_where_nobody_looks(capsys, monkeypatch):
    moments = iter([0.0, 10.0, 40.0, 40.0, 40.0])
    monkeypatch.setattr(crash.time, "monotonic", lambda: next(moments))
    shard = crash.Shard(stage="storm", profile="default", seed=5, kills=100)
    with crash.progress(100) as told:
        told(shard, 10)
        told(shard, 20)
    assert capsys.readouterr().err == "benchmarks: crash: 20 of about 100 kills, 0.5 a second, 3 min left\n"


@pytest.mark.parametrize("words", [["--kills", "-1"], ["--jobs", "0"], ["--shard", "0"], ["--profile", "other"]])
def test_options_that_make_no_sense_are_refused(words, capsys):
    with pytest.raises(SystemExit) as raised:
        crash.main(words)
    assert raised.value.code == 2
    assert "usage: python -m benchmarks crash" in capsys.readouterr().err
