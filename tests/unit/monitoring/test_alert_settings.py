"""What an alert system refuses to be told, and that no refusal shows a secret."""

import pytest

from hireliab.errors import ConfigError
from hireliab.monitoring import _alert_settings
from hireliab.monitoring._alert_settings import AlertConfig, default_folder, plan_channels
from hireliab.monitoring.alert import AlertLevel
from hireliab.monitoring.alert_channels import ConsoleChannel, Rate
from hireliab.monitoring.alert_system import AlertSystem

TOKEN = "123456789:AAsecretsecretsecretsecretsecret0123"
URL = f"tgram://{TOKEN}/999"


class FakeApprise:
    """Stands for an Apprise channel; those of the real one have tests of their own."""

    rate = None

    def __init__(self, url, name):
        self.url, self.name = url, name

    def __call__(self, alert):
        pass


@pytest.fixture(autouse=True)
def no_apprise(monkeypatch):
    monkeypatch.setattr(_alert_settings, "_apprise_channel", lambda url, name, clock: FakeApprise(url, name))
    for name in ("EMAIL", "TELEGRAM"):
        monkeypatch.delenv(f"HIRELIAB_{name}_URL", raising=False)
        monkeypatch.delenv(f"HIRELIAB_{name}_URL_FILE", raising=False)


def plans(clock, **settings):
    return plan_channels(AlertConfig(**settings), clock)


def test_a_channel_may_be_a_url_several_urls_a_file_of_them_a_callable_or_the_console(clock, tmp_path):
    file = tmp_path / "urls"
    file.write_text(f"# ours\n\n {URL} \njson://x\n")
    made = plans(
        clock,
        channels={
            "console": True,
            "email": False,
            "one": {"url": f" {URL} "},
            "two": {"urls": [URL, "json://x"], "per_minute": 30},
            "three": {"url_file": file},
            "mine": print,
        },
        level_thresholds={"two": "error"},
    )
    assert [(plan.name, plan.family) for plan in made] == [
        ("console", "console"),
        ("one", "one"),
        ("two[1]", "two"),
        ("two[2]", "two"),
        ("three[1]", "three"),
        ("three[2]", "three"),
        ("mine", "mine"),
    ]
    assert isinstance(made[0].channel, ConsoleChannel)
    assert [plan.channel.url for plan in made[1:6]] == [URL, URL, "json://x", URL, "json://x"]
    assert [plan.rate for plan in made[1:4]] == [None, Rate(30), Rate(30)]
    assert [plan.threshold for plan in made[1:4]] == [AlertLevel.INFO, AlertLevel.ERROR, AlertLevel.ERROR]


@pytest.mark.parametrize(("name", "variable"), [("email", "HIRELIAB_EMAIL_URL"), ("telegram", "HIRELIAB_TELEGRAM_URL")])
def test_true_takes_the_url_from_the_environment_or_from_a_file(clock, monkeypatch, tmp_path, name, variable):
    monkeypatch.setenv(variable, URL)
    (plan,) = plans(clock, channels={name: True})
    assert (plan.name, plan.channel.url) == (name, URL)
    monkeypatch.delenv(variable)
    (tmp_path / "secret").write_text(URL + "\n")
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "secret"))
    (plan,) = plans(clock, channels={name: True})
    assert plan.channel.url == URL
    monkeypatch.setenv(variable, URL)
    with pytest.raises(ConfigError, match=f"both {variable} and {variable}_FILE are set"):
        plans(clock, channels={name: True})


@pytest.mark.parametrize(("name", "variable"), [("email", "HIRELIAB_EMAIL_URL"), ("telegram", "HIRELIAB_TELEGRAM_URL")])
def test_true_without_a_url_names_the_variable(name, variable):
    with pytest.raises(ConfigError, match=f"alert system: channels: '{name}' is True, but {variable} is not set"):
        AlertSystem({"channels": {name: True}})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"channels": {"ops": {"ulr": URL}}}, "channels['ops']: no setting 'ulr'; did you mean 'url'"),
        ({"channels": {"ops": {}}}, "give one of url, urls and url_file, got none"),
        ({"channels": {"ops": {"url": URL, "urls": [URL]}}}, "got url and urls"),
        ({"channels": {"ops": {"url": [URL]}}}, "channels['ops']['url'] must be an Apprise URL"),
        ({"channels": {"ops": {"url": " "}}}, "channels['ops']['url'] must be an Apprise URL"),
        ({"channels": {"ops": {"urls": URL}}}, "channels['ops']['urls'] must be a list of Apprise URLs"),
        ({"channels": {"ops": {"urls": []}}}, "must be a list of Apprise URLs"),
        ({"channels": {"ops": {"urls": [URL, 7]}}}, "must be a list of Apprise URLs"),
        ({"channels": {"ops": URL}}, "'ops' must be True, False, a callable or a mapping with a url, got str"),
        ({"channels": {"ops": {"url": URL, "per_minute": 0}}}, "['per_minute'] must be a number, more than 0"),
        ({"channels": {"console": {"url": URL}}}, "'console' must be True, False or a callable"),
        ({"channels": {"ops": True}}, "no setting 'ops'"),
        ({"channels": {"ops": {"url_file": 7}}}, "must be a path"),
        ({"channels": {"ops": {"url_file": "/no/such/file"}}}, "/no/such/file cannot be read: No such file"),
        ({"failover": {"consol": "mine"}}, "did you mean 'console'"),
        ({"failover": {"console": "email"}, "channels": {"console": True, "email": False}}, "must be one of"),
        ({"failover": {"console": "console"}}, "failover['console'] must be one of"),
        ({"failover": {"console": 7}}, "failover['console'] must be a channel's name or a list of them"),
        ({"failover": {"a": ["bb"]}, "channels": {"a": print, "bbb": print}}, "did you mean 'bbb'"),
        ({"failover": ["a"]}, "failover must be a mapping by channel"),
        ({"name": "../x"}, "name must be of letters"),
        ({"name": ".hidden"}, "name must be of letters"),
        ({"name": ""}, "name must be a printable text"),
        ({"spool": 7}, "spool must be True, False, None or a folder, got int"),
        ({"group_wait": -1}, "group_wait must be a number"),
        ({"group_interval": 0}, "group_interval must be a number"),
        ({"repeat_interval": 30}, "repeat_interval must be a number"),
        ({"heartbeat": 7}, "heartbeat must be an http or https URL"),
        ({"heartbeat": f"ftp://{TOKEN}"}, "heartbeat must be an http or https URL"),
        ({"heartbeat": {"url": f"https://x/{TOKEN}", "evry": 5}}, "did you mean 'every'"),
        ({"heartbeat": {"url": f"https://x/{TOKEN}", "every": 0}}, "heartbeat['every'] must be a number"),
        ({"heartbeat": {"every": 5}}, "heartbeat must be an http or https URL"),
    ],
)
def test_a_wrong_setting_is_named_without_any_secret(config, words):
    with pytest.raises(ConfigError, match="alert system: ") as caught:
        AlertSystem(config)
    assert words in str(caught.value)
    assert TOKEN not in f"{caught.value}{vars(caught.value)}{caught.value.__cause__}"


def test_a_file_without_a_url_is_named_and_nothing_of_it_is_shown(tmp_path, monkeypatch):
    file = tmp_path / "empty"
    file.write_text("# nothing\n")
    with pytest.raises(ConfigError, match="empty holds no URL"):
        AlertSystem({"channels": {"ops": {"url_file": str(file)}}})
    file.write_bytes(b"\xff\xfe" + URL.encode())
    monkeypatch.setenv("HIRELIAB_EMAIL_URL_FILE", str(file))
    with pytest.raises(
        ConfigError, match="HIRELIAB_EMAIL_URL_FILE: .*empty cannot be read: UnicodeDecodeError"
    ) as caught:
        AlertSystem({"channels": {"email": True}})
    assert TOKEN not in str(caught.value)


def test_a_config_shows_no_url():
    config = AlertConfig(channels={"ops": {"url": URL}}, heartbeat=f"https://example.com/{TOKEN}")
    assert TOKEN not in repr(config)
    assert TOKEN not in repr(AlertSystem(config))


def test_a_spool_is_used_when_a_channel_other_than_the_console_is_on(monkeypatch, tmp_path):
    monkeypatch.setenv("HIRELIAB_HOME", str(tmp_path))
    assert AlertConfig().spool_folder() is None
    assert AlertConfig(channels={"console": print, "email": False}).spool_folder() is None
    assert AlertConfig(channels={"mine": print}).spool_folder() == tmp_path / "alert-spool" / "main"
    assert AlertConfig(channels={"mine": print}, spool=False).spool_folder() is None
    assert AlertConfig(spool=True, name="bot-2").spool_folder() == tmp_path / "alert-spool" / "bot-2"
    assert AlertConfig(spool=str(tmp_path / "x")).spool_folder() == tmp_path / "x"
    assert AlertConfig(spool=tmp_path / "x").spool_folder() == tmp_path / "x"
    monkeypatch.delenv("HIRELIAB_HOME")
    assert default_folder("main").parts[-3:] == ("hireliab", "alert-spool", "main")


def test_a_heartbeat_may_be_a_url_or_say_how_often():
    assert AlertConfig(heartbeat="https://x/y").heartbeat_settings() == ("https://x/y", 60.0)
    assert AlertConfig(heartbeat={"url": "http://x", "every": 5}).heartbeat_settings() == ("http://x", 5.0)
