import re

from hypothesis import given, settings
from hypothesis import strategies as st

from hireliab.messaging.bus import decode_data, encode_data, topic_matches

words = st.sampled_from(["a", "b", "cc"])
topics = st.lists(words, min_size=1, max_size=6).map(".".join)
patterns = st.lists(st.one_of(words, st.sampled_from(["*", "#"])), min_size=1, max_size=6).map(".".join)


def _by_regex(pattern: str, topic: str) -> bool:
    # Each word is written with a dot before it, so that # is any number of those pairs.
    parts = {"*": r"\.[^.]+", "#": r"(?:\.[^.]+)*"}
    expression = "".join(parts.get(part, r"\." + re.escape(part)) for part in pattern.split("."))
    return re.fullmatch(expression, "." + topic) is not None


@settings(max_examples=400, derandomize=True, deadline=None)
@given(patterns, topics)
def test_matching_agrees_with_a_regular_expression(pattern, topic):
    assert topic_matches(pattern, topic) == _by_regex(pattern, topic)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(json_values)
def test_json_data_survives_the_journey(data):
    assert decode_data(encode_data(data, limit=1_000_000)) == data
