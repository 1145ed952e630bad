import errno
import http.client
import itertools
import ssl

import pytest
import requests
import urllib3.exceptions

from hireliab.errors import (
    AuthenticationError,
    ConfigError,
    ConnectError,
    DeadlineExceededError,
    MalformedResponseError,
    OutcomeUnknownError,
    RateLimitedError,
    RefusedError,
    ResponseLostError,
    ThrottledError,
)
from hireliab.exchange._discard import breaks_client


class FalseError(ValueError):
    def __bool__(self):
        return False


class OddModuleError(ValueError):
    pass


OddModuleError.__module__ = None


class NothingSentError(DeadlineExceededError, requests.ConnectTimeout):
    """As the HTTP session raises it when the deadline had passed before the first byte."""


def chain(*errors):
    """The first error, raised from the second, and so on."""
    for outer, inner in itertools.pairwise(errors):
        outer.__cause__ = inner
    return errors[0]


@pytest.mark.parametrize(
    "error",
    [
        OutcomeUnknownError(),
        ResponseLostError(),
        MalformedResponseError(),
        ConnectError(),
        ConnectionResetError(),
        TimeoutError(),
        OSError(errno.EHOSTUNREACH, "no route"),
        OSError("of some kind"),
        BrokenPipeError(),
        EOFError(),
        ssl.SSLError(),
        http.client.IncompleteRead(b""),
        http.client.RemoteDisconnected(),
        requests.ConnectionError(),
        requests.ReadTimeout(),
        requests.ConnectTimeout(),
        requests.exceptions.ChunkedEncodingError(),
        urllib3.exceptions.ProtocolError(),
        urllib3.exceptions.ReadTimeoutError(None, "/", "late"),
        KeyboardInterrupt(),
        SystemExit(),
        GeneratorExit(),
        chain(ValueError(), RuntimeError(), KeyError(), ConnectionResetError()),
        chain(FalseError(), FalseError(), ConnectionResetError()),
    ],
    ids=repr,
)
def test_an_error_that_may_have_broken_the_connection_discards(error):
    assert breaks_client(error)


@pytest.mark.parametrize(
    "error",
    [
        RefusedError(),
        ThrottledError(),
        AuthenticationError(),
        chain(RefusedError(), requests.ConnectionError()),
        ConfigError(),
        RateLimitedError(),
        chain(RateLimitedError(), ConnectionResetError()),
        NothingSentError(),
        chain(ValueError(), NothingSentError()),
        ValueError(),
        KeyError(),
        RuntimeError(),
        ZeroDivisionError(),
        StopIteration(),
        requests.HTTPError("404"),
        requests.exceptions.JSONDecodeError("no", "", 0),
        requests.exceptions.MissingSchema(),
        FileNotFoundError(),
        IsADirectoryError(),
        OddModuleError(),
        FalseError(),
    ],
    ids=repr,
)
def test_an_error_that_says_nothing_about_the_connection_keeps(error):
    assert not breaks_client(error)


def test_the_context_counts_like_the_cause_also_when_hidden():
    with pytest.raises(ValueError) as caught:
        try:
            raise ConnectionResetError
        except OSError:
            raise ValueError("tidy") from None
    assert breaks_client(caught.value)


def test_a_circle_of_causes_ends():
    first, second = ValueError(), KeyError()
    chain(first, second, first)
    assert not breaks_client(first)


def test_only_ten_links_are_followed():
    assert breaks_client(chain(*[ValueError() for _ in range(9)], ConnectionResetError()))
    assert not breaks_client(chain(*[ValueError() for _ in range(10)], ConnectionResetError()))
