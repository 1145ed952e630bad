"""What a failed connection or a closed channel means: a text without secrets, and whether the broker said no."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any

from pika import exceptions

from hireliab.messaging.rabbitmq.topology import topology_error

_REFUSED = (exceptions.AuthenticationError, ssl.SSLCertVerificationError)
# What pika concludes from the moment at which a connection ended, and what it then means. It concludes the same when
# the line was just cut: a broker that says no says so in a frame, and pika quotes it.
_CONCLUDED = {
    exceptions.ProbableAuthenticationError: "the broker refused the user or the password",
    exceptions.ProbableAccessDeniedError: "the broker refused the vhost",
    exceptions.IncompatibleProtocolError: "the broker speaks another protocol",
}
# Codes of AMQP that no repetition changes: access refused, not allowed, not implemented. What is not found is declared
# anew with the next channel.
_REFUSING_CODES = frozenset({403, 530, 540})
# Closed in order, by an operator, or because an exchange was deleted.
_BLAMELESS_CODES = frozenset({200, 320, 404})
_CLOSED = (exceptions.ConnectionClosed, exceptions.ChannelClosed)


@dataclass(frozen=True)
class Failure:
    """
    Why something ended.

    Attributes:
        text: For people; no address, no password.
        refused: Whether the broker said no: asking again soon is pointless.
        error: A TopologyError, when the broker has something else under a name of ours.
        blames: Whether what was sent may have been the cause: it is not to be sent again without end.
    """

    text: str
    refused: bool = False
    error: Exception | None = None
    blames: bool = False


_CUT = Failure("the connection was cut while it was made")


def failure_of(error: object) -> Failure:
    """
    What an exception of pika or of the socket below it means.

    pika wraps an error several times over, and the text of some wrappers is empty: the innermost is what counts.
    """
    root = _root(error)
    if isinstance(root, _CLOSED):
        different = topology_error(root.reply_text)
        if different is not None:
            return Failure(str(different), refused=True, error=different)
        code = root.reply_code
        return Failure(
            f"{code} {root.reply_text}"[:500], refused=code in _REFUSING_CODES, blames=code not in _BLAMELESS_CODES
        )
    text = f"{type(root).__name__}: {root}" if str(root) else repr(root)
    if type(root) in _CONCLUDED:
        if "StreamLostError" in str(root):
            return _CUT
        return Failure(f"{_CONCLUDED[type(root)]} ({root})"[:500], refused=True)
    return Failure(text[:500], refused=isinstance(root, _REFUSED))


def cut_while_made(error: BaseException) -> Failure | None:
    """What it means that pika's loop raised this: it asks a new socket for its peer, and the peer may just have gone."""
    return _CUT if isinstance(error, ValueError) and "getpeername" in str(error) else None


def _root(error: Any) -> Any:
    for _ in range(10):
        inner = None
        several = getattr(error, "exceptions", None)
        if isinstance(several, tuple) and several:
            inner = several[-1]
        elif isinstance(getattr(error, "exception", None), BaseException):
            inner = getattr(error, "exception", None)
        elif isinstance(error, exceptions.AMQPConnectionError) and error.args:
            inner = error.args[0] if isinstance(error.args[0], BaseException) else None
        if inner is None:
            return error
        error = inner
    return error
