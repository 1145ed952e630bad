"""Which sent messages the broker has not answered: sequence numbers of one channel. Pure."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class ConfirmBook(Generic[T]):
    """The messages of one channel in the order of sending; the broker numbers them from 1. One thread's own."""

    def __init__(self) -> None:
        self._open: deque[T | None] = deque()  # None: answered before one that was sent earlier
        self._first = 1  # the number of the leftmost
        self.stray = 0
        """Answers for numbers that were not open."""

    def __len__(self) -> int:
        return len(self._open) - self._open.count(None)

    def sent(self, message: T) -> None:
        """Note that this message has just been sent."""
        self._open.append(message)

    def answered(self, number: int, *, multiple: bool) -> list[T]:
        """
        What an ack or nack is about; each message comes out once.

        Args:
            number: The broker's number.
            multiple: Everything open up to that number is meant; with the number 0, all that is open.
        """
        row = self._open
        place = number - self._first
        if multiple:
            place = len(row) - 1 if number == 0 else place
            if not 0 <= place < len(row):
                self.stray += 1
                return []
            self._first += place + 1
            taken = [row.popleft() for _ in range(place + 1)]
            return [message for message in taken if message is not None]
        if not 0 <= place < len(row) or row[place] is None:
            self.stray += 1
            return []
        message = row[place]
        row[place] = None
        while row and row[0] is None:
            row.popleft()
            self._first += 1
        return [] if message is None else [message]

    def waiting(self) -> list[T]:
        """What is open, in the order of sending."""
        return [message for message in self._open if message is not None]

    def forget(self) -> list[T]:
        """Empty the book, for another channel; what was open comes out in the order of sending."""
        messages = self.waiting()
        self._open.clear()
        self._first = 1
        return messages
