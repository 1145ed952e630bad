import json
import math
import random
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hireliab.exchange import _json
from hireliab.exchange._json import loads


@pytest.fixture(params=["with orjson", "without orjson"])
def engine(request, monkeypatch):
    if request.param == "without orjson":
        monkeypatch.setattr(_json, "orjson", None)
    else:
        pytest.importorskip("orjson")


def same(body, **kwargs):
    """`loads` does what json does: the same value of the same types, or an error of the same type and text."""

    def outcome(func):
        try:
            return repr(func(body, **kwargs))
        except ValueError as error:
            return type(error), str(error)

    assert outcome(loads) == outcome(json.loads), body


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    "number",
    [2**53 + 1, 10**18 - 1, 10**18, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**30, -(10**18)],
)
def test_integers_of_any_length_are_exact(number):
    for text in (f"{number}", f'{{"id": {number}}}', f"[[{number},1]]", f'{{"{number}": {number} }}'):
        value = loads(text.encode())
        while not isinstance(value, int):
            value = value[0] if isinstance(value, list) else next(iter(value.values()))
        assert value == number and type(value) is int


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    "body",
    [
        b"{}", b"[]", b'""', b" null ", b"-0", b"-0.0", b"1E5", b"1e23", b"0.30000000000000004", b"9007199254740993.0",
        b"5e-324", b"1e-400", b"1.7976931348623157e308", b'{"a":1,"b":2,"a":3}', '"é\u2028😀"'.encode(), b'"\\u0000\\/"',
        b'{"price": 0.1234567890123456789012345}', b"[1.0000000000000000001]", b'"12345678901234567890123"',
        # what orjson refuses and json reads
        b"NaN", b"[Infinity, -Infinity]", b"1e400", b'"\\ud800"', b'\xef\xbb\xbf{"a":1}', '{"a":"é"}'.encode("utf-16"),
        '{"a":"é"}'.encode("utf-32-be"), '[1,"x"]'.encode("utf-16-le"),
        # what neither reads
        b"", b" ", b"{", b"[1,]", b"01", b"[1.e3]", b"1 2", b"{a:1}", b"nul", b"<html>", b'"\t"', b"-", b"'a'", b"\xff\xfe",
        b'"\xff"', b"[" * 10, b'{"a":1}x', b"\x00",
    ],
)  # fmt: skip
def test_reads_and_refuses_what_json_does(body):
    same(body)


@pytest.mark.usefixtures("engine")
def test_not_a_number_and_infinity_are_read():
    value = loads(b"[NaN, Infinity, -Infinity]")
    assert math.isnan(value[0]) and value[1:] == [math.inf, -math.inf]


@pytest.mark.usefixtures("engine")
def test_keyword_arguments_reach_json():
    assert loads(b'{"price": 0.10}', parse_float=Decimal) == {"price": Decimal("0.10")}
    assert loads(b'{"b": 1, "a": 2}', object_pairs_hook=list) == [("b", 1), ("a", 2)]
    assert loads(b"[1]", parse_int=str) == ["1"]


@pytest.mark.usefixtures("engine")
def test_errors_are_jsons_own():
    with pytest.raises(json.JSONDecodeError) as caught:
        loads(b'{"a": 1,\n "b" 2}')
    assert type(caught.value) is json.JSONDecodeError
    assert (caught.value.lineno, caught.value.colno, caught.value.doc) == (2, 6, '{"a": 1,\n "b" 2}')


@pytest.mark.usefixtures("engine")
def test_deep_nesting_is_read_or_a_recursion_error():
    assert loads(b"[" * 200 + b"]" * 200)
    with pytest.raises(RecursionError):
        loads(b"[" * 100_000 + b"]" * 100_000)


@pytest.mark.usefixtures("engine")
def test_orjson_is_never_asked_about_long_runs_of_digits(monkeypatch):
    class Trap:
        JSONDecodeError = json.JSONDecodeError

        def loads(self, body):
            raise AssertionError(f"orjson was asked about {body}")

    monkeypatch.setattr(_json, "orjson", Trap())
    assert loads(b'{"id": 1234567890123456789}') == {"id": 1234567890123456789}
    with pytest.raises(AssertionError):
        loads(b'{"id": 123456789012345678}')


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=30, deadline=None)
@given(values, st.booleans())
def test_any_value_reads_as_json_reads_it(value, plain):
    same(json.dumps(value, ensure_ascii=plain).encode("utf-8", "surrogatepass"))


def test_damaged_texts_read_as_json_reads_them():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    text = json.dumps(
        {"orders": [{"id": 2**62 + i, "price": 0.1 * i, "side": "buy", "n": None} for i in range(3)]}
    ).encode()
    for _ in range(500):
        damaged = bytearray(text)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(damaged))
            damaged[at : at + chance.randint(0, 2)] = chance.choice(
                [b"", b"0", b'"', b"e", b"-", b",", b"]", b"\\", b"9" * 20]
            )
        same(bytes(damaged))
