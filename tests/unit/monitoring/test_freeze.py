import collections.abc
import decimal
import json
import sys
import types
import uuid
from collections import OrderedDict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from types import MappingProxyType
from zoneinfo import ZoneInfo

import pytest

from hireliab.monitoring._freeze import clean, freeze_mapping, freeze_text, thaw
from hireliab.monitoring._redaction import is_secret_key, redact

HEX40 = "0123456789abcdef0123456789ABCDEF01234567"
KEY64 = "A" * 43 + "="


def frozen(value):
    return thaw(freeze_mapping({"x": value}))["x"]


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("token=abc123", "abc123"),
        ("api_secret: 's3cr3t value'", "s3cr3t"),
        ('{"apiKey": "k-1", "x": 1}', "k-1"),
        ("X-Api-Key: k-1", "k-1"),
        ("passphrase = open", "open"),
        ("GET /x?symbol=BTC&signature=deadbeef&limit=1", "deadbeef"),
        (f"Authorization: Token {HEX40}", HEX40),
        ("Authorization: Bearer abc.def-ghi", "abc.def-ghi"),
        ("authorization=Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("sent Bearer abcdefghijklmnop", "abcdefghijklmnop"),
        (f"the key {HEX40} was refused", HEX40),
        (f"({HEX40}{HEX40})", HEX40),
        ("amqp://user:hunter2@host:5672/", "hunter2"),
        ("https://123456789:AAabcdefghijklmnopqrstuvwxyz0123456@x", "AAabc"),
        ("https://api.telegram.org/bot123456789:AAabcdefghijklmnopqrstuvwxyz012345/send", "AAabc"),
        ("eyJhbGciOiJIUzI1.eyJzdWIiOiIx.c2ln", "eyJzdWIi"),
        (f"secretless text {KEY64} end", KEY64),
        ("-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----", "MC4CAQAw"),
        ("-----BEGIN EC PRIVATE KEY-----\nMC4CAQAw", "MC4CAQAw"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text, secret):
    assert secret not in redact(text)
    assert "***" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "order 01ARZ3NDEKTSV4RRFFQ69G5FAV filled 0.001 BTC/USDT",
        "client order id bot1-01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "idempotency_key: 2024-05-01-buy",
        "https://api.nobitex.ir/market/orders/add at 12:30",
        f"commit {HEX40[:39]} is one digit short",
        str(uuid.UUID(int=7)),
        "the token bucket is full",
    ],
)
def test_ordinary_text_is_left_alone(text):
    assert redact(text) == text


def test_what_stands_around_a_secret_stays_readable():
    assert redact("GET /x?token=abc&symbol=BTC failed") == "GET /x?token=***&symbol=BTC failed"
    assert redact("Authorization: Token abc, then more") == "Authorization: ***, then more"
    assert redact('{"api_secret": "abc", "x": 1}') == '{"api_secret": "***", "x": 1}'
    assert redact("amqp://u:p@host/") == "amqp://***@host/"


@pytest.mark.parametrize(
    "key", ["token", "API_KEY", "apiSecret", "x-api-key", "Authorization", "db.password", "cookie"]
)
def test_a_secret_key_is_known_in_any_spelling(key):
    assert is_secret_key(key)


def test_values_of_secret_keys_are_masked_at_every_depth_and_of_every_type():
    context = {"api_secret": "a", "in": [{"token": {"a": "b"}}, {"password": 7}], "price": 1}
    assert thaw(freeze_mapping(context)) == {
        "api_secret": "***",
        "in": [{"token": "***"}, {"password": "***"}],
        "price": 1,
    }


def test_a_secret_in_a_key_is_masked_too():
    assert HEX40 not in str(thaw(freeze_mapping({HEX40: 1})))


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "copy"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (1.5, 1.5),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (Decimal("1.50"), "1.50"),
        (2**600, "<int of 601 bits>"),
        (b"secret bytes", "<12 bytes>"),
        (Colour.RED, "RED"),
        (datetime(2025, 1, 2, tzinfo=timezone.utc), "2025-01-02T00:00:00+00:00"),
        (date(2025, 1, 2), "2025-01-02"),
        (timedelta(seconds=61), "0:01:01"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a/b"), "/a/b"),
        (ValueError("bad", 7), "ValueError: bad, 7"),
        (KeyError(), "KeyError"),
        ((1, [2, {3}]), [1, [2, [3]]]),
        (deque([1, 2]), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        ({1: "one", None: 2}, {"1": "one", "None": 2}),
        ("lone \ud800 surrogate", "lone \\ud800 surrogate"),
        ("bell\x07 and \x1b[31mred", "bell  and  [31mred"),
    ],
)
def test_plain_values_are_shown_and_can_be_written_as_json(value, copy):
    assert frozen(value) == copy
    json.dumps(frozen(value), allow_nan=False).encode()


def test_numpy_scalars_are_numbers(monkeypatch):
    class Generic:  # numpy itself is not needed for the tests
        pass

    monkeypatch.setitem(sys.modules, "numpy", types.SimpleNamespace(generic=Generic))

    class Scalar(Generic):
        def __init__(self, *values):
            self.values = values

        def item(self):
            (value,) = self.values
            return value

    Scalar.__module__ = "numpy"
    assert frozen(Scalar(5)) == 5
    assert frozen(Scalar(float("nan"))) == "nan"
    assert frozen(Scalar(1, 2)) == "<unprintable Scalar>"
    assert frozen(Scalar(Scalar(1))).startswith("<numpy.")

    class Claims:
        def item(self):
            raise AssertionError("user code was run")

    Claims.__module__ = "numpy"
    assert frozen(Claims()).startswith("<numpy.")


class Hostile:
    """Every door that a careless copy would open."""

    def _fail(self, *args):
        raise AssertionError("user code was run")

    __repr__ = __str__ = __len__ = __iter__ = __hash__ = __eq__ = __getattr__ = __bool__ = __format__ = _fail  # type: ignore[assignment]

    @property
    def __class__(self):
        raise AssertionError("user code was run")


def test_a_stranger_becomes_its_type_and_none_of_its_code_runs():
    assert frozen(Hostile()).endswith("test_freeze.Hostile>")
    assert frozen([Hostile()])[0].endswith("Hostile>")
    assert freeze_text(Hostile(), 100).endswith("Hostile>")
    assert list(freeze_mapping(Hostile())) == ["context"]


class HostileDict(dict):
    def _fail(self, *args):
        raise AssertionError("user code was run")

    __iter__ = __getitem__ = __len__ = items = keys = values = copy = __repr__ = _fail


class HostileText(str):
    def _fail(self, *args):
        raise AssertionError("user code was run")

    __str__ = __getitem__ = __len__ = isascii = encode = replace = __repr__ = _fail  # type: ignore[assignment]


class HostileError(Exception):
    def __str__(self):
        raise AssertionError("user code was run")

    args = property(__str__)


class HostileEnum(Enum):
    RED = 1

    def __str__(self):
        raise AssertionError("user code was run")


class HostileInt(int):
    def __index__(self):
        raise AssertionError("user code was run")

    __int__ = __str__ = __repr__ = bit_length = __index__  # type: ignore[assignment]


def test_subclasses_of_plain_types_are_read_without_their_code():
    assert frozen(HostileDict(a=1)) == {"a": 1}
    assert frozen(HostileText("text")) == "text"
    assert freeze_text(HostileText("text"), 100) == "text"
    assert frozen(HostileError("why")) == "HostileError: why"
    assert frozen(HostileEnum.RED) == "RED"
    assert frozen(HostileInt(7)) == 7
    assert type(frozen(HostileInt(7))) is int


def test_an_unprintable_value_is_said_to_be_one():
    class Zone(timezone.__base__):
        def utcoffset(self, when):
            raise RuntimeError

    assert frozen(datetime(2025, 1, 1, 12, 30, tzinfo=Zone())).startswith("2025-01-01T12:30:00 <tests.")
    assert frozen(time(12, 30, tzinfo=Zone())) == "<datetime.time>"
    assert frozen(datetime(2025, 1, 1, tzinfo=ZoneInfo("UTC"))) == "2025-01-01T00:00:00+00:00"
    assert frozen(time(12, 30, tzinfo=timezone.utc)) == "12:30:00+00:00"


def test_a_mapping_behind_a_proxy_runs_no_code_of_its_own():
    class Mine(collections.abc.Mapping):
        def __getitem__(self, key):
            raise AssertionError("user code was run")

        __iter__ = __len__ = items = __getitem__  # type: ignore[assignment]

    assert frozen({"a": MappingProxyType(MappingProxyType({"b": 1}))}) == {"a": {"b": 1}}
    ((key, value),) = frozen(MappingProxyType(Mine())).items()
    assert key == "…"
    assert value.endswith("Mine>")


def test_a_copy_that_contains_itself_ends():
    context = {"a": 1}
    context["self"] = context
    copy = thaw(freeze_mapping(context))
    assert copy["self"]["self"]["self"]["self"] == "<deeper>"


def test_a_huge_context_becomes_a_small_copy():
    long = "x" * 5000

    def nest(depth):
        return long if depth == 0 else dict.fromkeys((f"key {i}" for i in range(40)), nest(depth - 1))

    text = json.dumps(thaw(freeze_mapping(nest(3))))
    assert len(text) < 20_000
    assert "more>" in text


def test_a_huge_list_becomes_a_small_copy():
    wide = [[["word"] * 40] * 40] * 40
    text = json.dumps(frozen(wide))
    assert len(text) < 20_000
    assert "<cut>" in text


def test_a_long_list_says_how_much_is_missing():
    assert frozen(list(range(100)))[-1] == "<68 more>"
    assert frozen({i: i for i in range(100)})["…"] == "<68 more>"


def test_the_copy_cannot_be_changed():
    copy = freeze_mapping({"a": {"b": [1]}})
    with pytest.raises(TypeError):
        copy["c"] = 1  # type: ignore[index]
    with pytest.raises(TypeError):
        copy["a"]["b"] = 1  # type: ignore[index]
    assert copy["a"]["b"] == (1,)


def test_later_changes_of_the_original_do_not_show():
    inner = [1]
    copy = freeze_mapping({"a": inner})
    inner.append(2)
    assert thaw(copy) == {"a": [1]}


def test_a_long_text_is_cut_and_says_so():
    assert clean("x" * 300, 100) == "x" * 100 + "… [200 characters cut]"
    assert clean("x" * 100, 100) == "x" * 100


@pytest.mark.parametrize("where", range(258, 305))
def test_no_part_of_a_secret_shows_at_the_edge_of_the_cut(where):
    # Only 300 characters are looked at, and a mask at the front shortens them by more than the margin: half a token
    # at their end would move into view.
    front = "token=" + "s" * 250 + " "
    text = front + "." * (where - len(front)) + " " + HEX40 + " tail" * 100
    shown = clean(text, 100)
    assert shown.startswith("token=*** ")
    assert HEX40[:4] not in shown


def test_a_title_is_one_line_without_header_injection():
    assert clean("a\r\nBcc: x\tb\x00", 100, one_line=True) == "a Bcc: x b"
    assert clean("a\r\nb", 100) == "a\nb"


def test_the_ambient_decimal_context_changes_nothing():
    with decimal.localcontext() as context:
        context.prec = 2
        assert frozen(Decimal("1.23456")) == "1.23456"
