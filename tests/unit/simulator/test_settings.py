from decimal import Decimal

import pytest

from hireliab.simulator.settings import SettingError, Settings


def test_settings_survive_the_way_through_json():
    changed = Settings().changed({"fee": "0.35", "quirks": ["int_zero"], "new_delay": 2, "prune_after": 60})
    assert changed.fee == Decimal("0.35")
    assert Settings().changed(changed.as_json()) == changed


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"refil": True}, "refill"),
        ({"refill": 1}, "true or false"),
        ({"fee": "-1"}, "at least 0"),
        ({"levels": "2.5"}, "whole number"),
        ({"reject_probability": 1.5}, "between 0 and 1"),
        ({"quirks": ["nope"]}, "int_zero"),
        ({"new_delay": None}, "at least 0"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(given, named):
    with pytest.raises(SettingError, match=named):
        Settings().changed(given)
