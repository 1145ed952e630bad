"""Settings: unknown keys, near misses, ranges."""

from dataclasses import dataclass

import pytest

from hireliab.core import config
from hireliab.core.bulkhead import Bulkhead
from hireliab.core.circuit_breaker import CircuitBreaker
from hireliab.core.policy import Policy, reliable
from hireliab.core.rate_limiter import RateLimiter
from hireliab.core.retry import Retry, RetryBudget
from hireliab.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Settings:
    max_size: int = 3
    timeout: float | None = 1.0
    needed: str

    def __post_init__(self):
        config.whole("max_size", self.max_size, low=1, high=9)
        config.number_or_none("timeout", self.timeout, low=0)


def test_a_mapping_becomes_the_dataclass():
    assert config.load(Settings, {"needed": "x", "max_size": 4}, where="part") == Settings(needed="x", max_size=4)


def test_an_instance_passes_through():
    given = Settings(needed="x")
    assert config.load(Settings, given, where="part") is given


def test_an_unknown_key_names_its_near_miss():
    with pytest.raises(ConfigError, match="part: no setting 'maxsize'; did you mean 'max_size'") as caught:
        config.load(Settings, {"needed": "x", "maxsize": 4}, where="part")
    assert (caught.value.setting, caught.value.near_miss) == ("maxsize", "max_size")


def test_a_missing_key_is_named():
    with pytest.raises(ConfigError, match="part: needed is missing"):
        config.load(Settings, None, where="part")


@pytest.mark.parametrize("value", [0, 10, 2.5, "3", True, None, float("nan")])
def test_a_value_out_of_range_is_named_with_the_range(value):
    with pytest.raises(ConfigError, match="part: max_size must be a whole number, from 1 to 9") as caught:
        config.load(Settings, {"needed": "x", "max_size": value}, where="part")
    assert caught.value.setting == "max_size"


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", True])
def test_a_bad_number_is_refused(value):
    with pytest.raises(ConfigError, match="timeout"):
        config.load(Settings, {"needed": "x", "timeout": value}, where="part")


class Nameless:
    def __repr__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize("value", [10**400, -(10**400), 10**5000, Nameless()], ids=["400", "-400", "5000", "nameless"])
@pytest.mark.parametrize(
    "check",
    [config.number, config.whole, config.flag, config.text, lambda name, value: config.choice(name, value, ["a", "b"])],
    ids=["number", "whole", "flag", "text", "choice"],
)
def test_a_value_that_is_no_float_or_cannot_be_shown_is_refused_like_any_other(check, value):
    with pytest.raises(ConfigError, match=r"^size must be .*, got .{1,80}$") as caught:
        check("size", value)
    assert caught.value.value is value


@pytest.mark.parametrize("value", [10**5000, Nameless()], ids=["5000", "nameless"])
@pytest.mark.parametrize(
    "make",
    [
        lambda value: Bulkhead(name=value, max_concurrent=1),
        lambda value: CircuitBreaker(name=value),
        lambda value: CircuitBreaker(listeners=value),
        lambda value: CircuitBreaker(exclude=[value]),
        lambda value: Policy(name="p", breaker=value),
        lambda value: reliable(value, atempts=3),
        lambda value: RateLimiter(name="l", limits=value),
        lambda value: RateLimiter(name="l", limit=value, per=1.0),
        lambda value: Retry(stop=value),
        lambda value: RetryBudget.shared(value, capasity=3),
    ],
)
def test_every_part_refuses_what_cannot_be_shown_like_any_other_value(make, value):
    with pytest.raises(ConfigError):
        make(value)


def test_a_config_that_is_no_mapping_is_refused():
    with pytest.raises(ConfigError, match="must be a mapping, a Settings or None, got list"):
        config.load(Settings, [1], where="part")


def test_words_and_flags():
    assert config.choice("mode", "a", ["a", "b"]) == "a"
    with pytest.raises(ConfigError, match="did you mean 'market_buy'"):
        config.choice("type", "market_by", ["market_buy", "limit_buy"])
    with pytest.raises(ConfigError, match="True or False"):
        config.flag("on", "false")
    with pytest.raises(ConfigError, match="printable"):
        config.text("name", "a\nb")
