"""
JSON in, exactly as `json` reads it, and faster where orjson is installed (the extra `fast`).

orjson turns an integer beyond 64 bits into a float without a word, and a long order id with it into another
one. It is therefore asked only where no run of digits is that long, and what it refuses (NaN, 1e400, a lone
surrogate, a byte order mark, encodings other than UTF-8, an error of the sender) `json` reads or refuses instead.
"""

from __future__ import annotations

import json
import re
from typing import Any

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment, unused-ignore]

# 10**18 is the least integer with 19 digits; the greatest of 64 bits has 19 with a sign, 20 without.
_long_integer = re.compile(rb"[0-9]{19}").search


def loads(body: bytes, **kwargs: Any) -> Any:
    """
    What ``json.loads(body, **kwargs)`` returns.

    Args:
        body: The text in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.
        **kwargs: Those of `json.loads`, for example ``parse_float=Decimal``; orjson is then not asked.

    Raises:
        json.JSONDecodeError: The body is no JSON.
        UnicodeDecodeError: Its bytes are no text. (Both are ValueErrors.)
        RecursionError: It is nested too deeply.
    """
    if orjson is not None and not kwargs and _long_integer(body) is None:
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            pass  # json has the last word, and words the error
    return json.loads(body, **kwargs)
