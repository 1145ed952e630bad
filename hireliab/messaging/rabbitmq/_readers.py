"""Readers of the frames of which there is one for each message: a publisher's answers, a consumer's deliveries."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hireliab.messaging.rabbitmq import _frames as frames


class Answer(NamedTuple):
    """
    An ack or nack of the broker.

    Attributes:
        number: Of the message on its channel.
        multiple: Whether all up to that number are meant.
        refused: Whether it is a nack.
    """

    number: int
    multiple: bool
    refused: bool


class AnswerReader:
    """Collects the answers to published messages, and hands over all that came at once."""

    def __init__(self, sink: Callable[[list[Answer]], None]) -> None:
        self._sink = sink
        self._answers: list[Answer] = []

    def take(self, kind: int, data: bytes, start: int, stop: int) -> bool:
        """See `Reader.take`."""
        if kind != frames.METHOD or stop - start != frames.ANSWER.size:
            return False
        method, number, bits = frames.ANSWER.unpack_from(data, start)
        if method == frames.ACK:
            self._answers.append(Answer(number, bits & 1 == 1, refused=False))
        elif method == frames.NACK:
            self._answers.append(Answer(number, bits & 1 == 1, refused=True))
        else:
            return False
        return True

    def flush(self) -> None:
        """See `Reader.flush`."""
        answers, self._answers = self._answers, []
        if answers:
            self._sink(answers)


class Delivered(NamedTuple):
    """
    A message as it came.

    Attributes:
        number: Of the delivery on its channel.
        redelivered: Whether the broker says that it was delivered before.
        properties: The content header's payload from its flags on.
        body: The body.
    """

    number: int
    redelivered: bool
    properties: bytes
    body: bytes


class DeliveryReader:
    """Puts deliveries together from their frames, and hands over all that came at once."""

    def __init__(self, sink: Callable[[list[Delivered]], None]) -> None:
        self._sink = sink
        self._done: list[Delivered] = []
        self._method: tuple[int, bool] | None = None
        self._properties = b""
        self._pieces: list[bytes] = []
        self._missing = 0

    def take(self, kind: int, data: bytes, start: int, stop: int) -> bool:
        """See `Reader.take`."""
        if kind == frames.METHOD:
            if data[start : start + 4] != _DELIVER:
                return False
            self._method = frames.read_deliver(data[start:stop])
            return True
        if self._method is None:
            return False  # the content of something else
        if kind == frames.HEADER:
            _, _, self._missing, _ = frames.CONTENT.unpack_from(data, start)
            self._properties = data[start + 12 : stop]
        else:
            self._pieces.append(data[start:stop])
            self._missing -= stop - start
        if self._missing <= 0:
            number, redelivered = self._method
            pieces = self._pieces
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._done.append(Delivered(number, redelivered, self._properties, body))
            self._method = None
            pieces.clear()
        return True

    def flush(self) -> None:
        """See `Reader.flush`."""
        done, self._done = self._done, []
        if done:
            self._sink(done)


_DELIVER = frames.DELIVER.to_bytes(4, "big")
