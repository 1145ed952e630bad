"""`publish_sync`, which every bus does with its `publish` in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from hireliab.core.clock import Clock
from hireliab.messaging.bus import MessageBus, PublishReceipt


class _Bus(MessageBus, Protocol):
    _clock: Clock


class PublishSync:
    """A part of a `MessageBus` that has a clock."""

    def publish_sync(
        self: _Bus,
        topic: str,
        data: Any,
        *,
        headers: Mapping[str, str] | None = None,
        subject: str | None = None,
        message_id: str | None = None,
        mandatory: bool = False,
        timeout: float | None = 30.0,
    ) -> PublishReceipt:
        """See `MessageBus.publish_sync`."""
        began = self._clock.monotonic()
        receipt = self.publish(
            topic,
            data,
            headers=headers,
            subject=subject,
            message_id=message_id,
            mandatory=mandatory,
            timeout=timeout,
        )
        receipt.result(None if timeout is None else max(0.0, timeout - (self._clock.monotonic() - began)))
        return receipt
