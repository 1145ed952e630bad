import json
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from hireliab.monitoring._freeze import clean, freeze_mapping, redact, thaw

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals().map(Decimal),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.dictionaries(st.text(max_size=8), values, max_size=6))
def test_every_context_becomes_bounded_json(context):
    text = json.dumps(thaw(freeze_mapping(context)), allow_nan=False, ensure_ascii=False)
    text.encode()
    assert len(text) < 50_000


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.text(), st.integers(1, 60), st.booleans())
def test_a_cleaned_text_is_bounded_and_can_be_written(text, limit, one_line):
    cleaned = clean(text, limit, one_line=one_line)
    cleaned.encode()
    assert len(cleaned) <= limit + 40
    if one_line:
        assert len(cleaned.splitlines()) <= 1


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.text(" abc=:\"'&;,-", max_size=30), st.text("0123456789abcdef", min_size=40, max_size=90))
def test_a_long_run_of_hexadecimal_digits_never_shows(around, secret):
    assert secret not in redact(f"{around} {secret} {around}")
