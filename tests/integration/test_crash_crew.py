"""The crew that runs campaigns side by side, with a script in the place of the campaign."""

import json

import pytest

from benchmarks import crash

REPORT = {
    "seed": 5, "profile": "default", "stage": "storm", "kills": 10, "accepted": 20, "requests": 30, "undecidable": 0,
    "claims": 4, "phases": {}, "told": {}, "deaths": {}, "hits": {}, "nested": {}, "violations": {},
    "decided": {"in time": 19, "late": 1, "cut short": 2},
}  # fmt: skip
SCRIPT = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--keep") + 1])
folder.mkdir(parents=True)
print(json.dumps({"kills": 3, "answers": 1}))
print("took a moment")
(folder / "report.json").write_text(pathlib.Path(__file__).with_name("report.json").read_text())
sys.exit(1 if "null-client-ids" in sys.argv else 0)
"""


@pytest.fixture(autouse=True)
def script(tmp_path, monkeypatch):
    path = tmp_path / "campaign.py"
    path.write_text(SCRIPT)
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    monkeypatch.setattr(crash, "CAMPAIGN", path)
    return path


def test_a_crew_runs_every_shard_and_keeps_only_the_files_of_those_that_failed(tmp_path):
    told = []
    crew = crash.Crew(tmp_path / "runs", told=lambda shard, kills: told.append((shard.name, kills)), keep=False)
    shards = crash.shards_of(kills=4, seed=5, profiles=crash.PROFILES, size=1, classes=())
    outcomes = crew.run(shards, jobs=2)
    assert sorted(o.shard.name for o in outcomes) == sorted(s.name for s in shards) == sorted(name for name, _ in told)
    assert all(o.text == ["took a moment"] and o.report == REPORT for o in outcomes)
    kept = {path.name for path in (tmp_path / "runs").iterdir()}
    assert kept == {o.shard.name for o in outcomes if o.code == 1} == {s.name for s in shards if s.profile != "default"}


def test_the_exit_code_and_the_figures_are_those_of_all_shards(tmp_path, capsys):
    figures = tmp_path / "figures.json"
    words = ["--kills", "2", "--seed", "5", "--classes", "", "--keep", str(tmp_path / "runs"), "--json", str(figures)]
    assert crash.main(words) == 1
    assert "crash campaign: 20 kills" in capsys.readouterr().out
    found = json.loads(figures.read_text())
    assert found["kills"] == 20 and found["failed"] == [
        ["--stage", "storm", "--profile", "null-client-ids", "--seed", "6", "--kills", "1"]
    ]


def test_a_campaign_that_cannot_run_is_no_success(tmp_path, script, capsys):
    script.write_text("raise SystemExit('no fork() here')")
    assert crash.main(["--kills", "1", "--seed", "5", "--classes", "", "--keep", str(tmp_path / "runs")]) == 1
    assert "no fork() here" in capsys.readouterr().out
    script.write_text("print('killed'); import os; os.kill(os.getpid(), 15)")
    assert crash.main(["--kills", "1", "--seed", "5", "--classes", "", "--keep", str(tmp_path / "again")]) == 2


def test_a_shard_whose_words_make_no_sense_is_no_success_and_costs_no_other_its_run(tmp_path, script):
    script.write_text("import sys\nprint('{\"kills\": 3,' if '5' in sys.argv else 'fine')\n")
    crew = crash.Crew(tmp_path / "runs", told=lambda *_: None, keep=False)
    shards = crash.shards_of(kills=2, seed=5, profiles=["default"], size=1, classes=())
    outcomes = crew.run(shards, jobs=1)
    assert [(o.shard.seed, o.code) for o in outcomes] == [(5, 2), (6, 0)]
    assert outcomes[0].text[-1].startswith("not run to its end: JSONDecodeError")
    lines, data = crash.summary(outcomes, seed=5, seconds=1.0)
    assert data["failed"] == [shards[0].arguments] and outcomes[0].text[-1] in lines
