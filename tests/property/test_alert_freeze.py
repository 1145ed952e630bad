import json
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from hireliab.monitoring import _redaction
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


# What secrets are made of, in pieces that alone are none.
_PIECES = (
    ": = ' \" :// @ / . - user pass word Token toKEN bearer Basic ba api _ key Private -----BEGIN -----END authorization coo"
    " kie PRIVATE KEY----- \u017fecret to\u212aen s\u0131gnature S\u0130GNATURE \u06a9\u0644\u06cc\u062f eyJ AbCd0123 123456 =="
    " 00000000000000000000 ffffffffffffffffffff Zz9_Zz9_Zz9_Zz9_ a+/ba+/ba+/ba+/ba+/ba+/ba+/b"
).split()
pieces = st.sampled_from([" ", "\n", *_PIECES])


@settings(max_examples=500, derandomize=True, deadline=None)
@given(st.lists(pieces, max_size=12).map("".join))
def test_the_quick_look_lets_no_secret_through(text):
    assert redact(text) == _redaction._SECRET.sub(_redaction._mask, text)


def test_known_secrets_are_found_by_what_the_shortest_of_them_have():
    known = _redaction.KnownSecrets()
    known.add(["json://me:hunter22@host/hook", "hunter22", "hunter22hunter22", "other-secret"])
    assert set(known._cores) == {"hunter22", "other-secret"}  # the address, and its encoded forms, hold the password
    for text in ["json://me:hunter22@host/hook", "json%3A%2F%2Fme%3Ahunter22%40host%2Fhook", "hunter22hunter22"]:
        assert known.mask(f"a {text} b") == "a *** b"
    assert known.mask("hunter2") == "hunter2"
