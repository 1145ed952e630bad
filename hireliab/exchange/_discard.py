"""
Whether a client may be lent again after its method raised: pure, and without importing a third party.

The rule leans to one side on purpose. A good client that is thrown away costs one new connection; a broken one that
is lent again costs the next caller an order whose outcome nobody knows. So an error of the network discards at once, also
one that `requests` raises about a Session which would heal itself: there is nothing to count before it.
"""

from __future__ import annotations

from hireliab.errors import ConnectError, NotSentError, OutcomeUnknownError, RefusedError

_DEPTH = 10
"""How many links of a chain of causes are looked at; longer chains, and circles, end here."""

# Classes that say "the connection is broken or in an unknown state", by top package and name, so that none of these
# packages is imported. A subclass counts through its base.
_BROKEN = {
    ("http", "HTTPException"),
    ("requests", "ConnectionError"),
    ("requests", "Timeout"),
    ("requests", "ChunkedEncodingError"),
    ("niquests", "ConnectionError"),
    ("niquests", "Timeout"),
    ("niquests", "ChunkedEncodingError"),
    ("urllib3", "TimeoutError"),
    ("urllib3", "ProtocolError"),
    ("urllib3", "NewConnectionError"),
    ("urllib3", "ProxyError"),
    ("urllib3", "SSLError"),
    ("urllib3", "MaxRetryError"),
    ("urllib3", "ClosedPoolError"),
    ("httpx", "TransportError"),
    ("httpcore", "NetworkError"),
    ("httpcore", "TimeoutException"),
    ("httpcore", "ProtocolError"),
}

# Their root is an OSError in name only: an HTTP status 404 is one, and says nothing about the connection.
_OSERROR_IN_NAME_ONLY = {("requests", "RequestException"), ("niquests", "RequestException")}

_ABOUT_FILES = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)


def breaks_client(error: BaseException) -> bool:
    """
    Whether a client whose method raised `error` must be closed and replaced.

    True after an unknown outcome, a failed connection or a time-out, also when another error was raised from it
    (ten links of `__cause__` and `__context__` are followed), and after any BaseException that is no Exception: it
    stopped the client at an unknown place. False after a definite answer (RefusedError), after what kept the call from
    going out (NotSentError other than ConnectError), whatever their cause, and after everything else.

    Args:
        error: What the client's method raised.
    """
    if isinstance(error, RefusedError):
        return False
    link: BaseException | None = error
    for _ in range(_DEPTH):
        if link is None or (isinstance(link, NotSentError) and not isinstance(link, ConnectError)):
            return False  # what did not go out left the connection as it was
        if _is_broken(link):
            return True
        # "from None" hides a cause from people; the connection is as broken as before.
        # (`is None`, because an exception may call itself false.)
        link = link.__context__ if link.__cause__ is None else link.__cause__
    return False


def _is_broken(error: BaseException) -> bool:
    if not isinstance(error, Exception):
        return True
    if isinstance(error, OutcomeUnknownError | ConnectError | EOFError):
        return True
    names = {(str(cls.__module__).partition(".")[0], cls.__name__) for cls in type(error).__mro__}
    if names & _BROKEN:
        return True
    if not isinstance(error, OSError) or names & _OSERROR_IN_NAME_ONLY:
        return False
    return not isinstance(error, _ABOUT_FILES)
