"""
One connection to a broker, from its making to its end: pika's SelectConnection, and what we do faster than it.

What is read faster are the frames of which there is one for each message; a reader that knows them is registered for
its channel. It reaches into pika: where a name that it needs is missing, pika's own way is taken, which is slower.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import threading
from collections.abc import Callable
from typing import Any, Protocol

import pika
from pika import frame as pika_frame
from pika.adapters import select_connection
from pika.exceptions import InvalidFrameError, StreamLostError

from hireliab.errors import ConfigError
from hireliab.messaging.rabbitmq import _frames as frames
from hireliab.messaging.rabbitmq._failures import Failure
from hireliab.messaging.rabbitmq._url import Address

_log = logging.getLogger("hireliab.bus")

FAST = all(
    hasattr(pika.SelectConnection, name)
    for name in ("_on_data_available", "_process_frame", "_output_marshaled_frames", "_trim_frame_buffer")
)
"""Whether this pika has what the short ways need."""

_RECEIVE_BYTES = 65_536  # per read: pika's 4096 make many small ones of it


class _Quiet(logging.Filter):
    """
    Makes what pika logs on our threads DEBUG: for each failed try it writes several errors with tracebacks, of which
    we tell the cause in one line. Other users of pika in this process are not concerned, and no level is changed.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is wanted."""
        if record.levelno <= logging.DEBUG or not str(record.threadName).startswith("hireliab.bus."):
            return True
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


def quieten_pika() -> None:
    """Have pika speak softly on our threads; again is no harm."""
    # A filter counts for the very logger of a record, so each of pika's modules needs it.
    for name in (
        "callback",
        "channel",
        "connection",
        "heartbeat",
        "adapters.base_connection",
        "adapters.select_connection",
        "adapters.utils.connection_workflow",
        "adapters.utils.io_services_utils",
        "adapters.utils.selector_ioloop_adapter",
    ):
        logging.getLogger(f"pika.{name}").addFilter(_QUIET)


_QUIET = _Quiet()


class Reader(Protocol):
    """Takes the frames of one channel that it knows."""

    def take(self, kind: int, data: bytes, start: int, stop: int) -> bool:
        """Take the frame whose payload is ``data[start:stop]``; False leaves it to pika."""

    def flush(self) -> None:
        """Work on what was taken; called when the data is at its end, and before pika gets a frame."""


class Connection(pika.SelectConnection):  # type: ignore[misc]  # pika has no types
    """A SelectConnection that hands the frames of some channels to their readers."""

    readers: dict[int, Reader]
    _frame_buffer: bytes

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.readers = {}
        super().__init__(*args, **kwargs)

    def _on_data_available(self, data_in: bytes) -> None:
        readers = self.readers
        if not readers:
            super()._on_data_available(data_in)
            return
        data = self._frame_buffer + data_in if self._frame_buffer else data_in
        place, end = 0, len(data)
        unpack = frames.FRAME_START.unpack_from
        taken: set[Reader] = set()
        while end - place >= 8:
            kind, channel, size = unpack(data, place)
            stop = place + 7 + size
            if stop >= end:
                break
            if data[stop] != frames.FRAME_END:
                raise InvalidFrameError("a frame does not end where it should")
            reader = readers.get(channel)
            if reader is not None and reader.take(kind, data, place + 7, stop):
                taken.add(reader)
            else:
                for one in taken:
                    one.flush()
                taken.clear()
                self._process_frame(pika_frame.decode_frame(data[place : stop + 1])[1])
            place = stop + 1
        # pika may have ended the connection meanwhile and have emptied its buffer; then nobody reads this one.
        self._frame_buffer = data[place:]
        self.bytes_received += place
        for one in taken:
            one.flush()


class Link:
    """
    One connection and its loop; everything but `wake` belongs to the thread that runs the loop.

    Args:
        generation: Counts the connections of one owner; what a former one brought must not be answered on this one.
        failed: Called with an exception that a callback of ours raised.
    """

    def __init__(self, generation: int, failed: Callable[[Exception], object]) -> None:
        self.generation = generation
        self.loop = select_connection.IOLoop()
        poller: Any = getattr(self.loop, "_poller", None)
        if hasattr(poller, "_waking_mutex"):
            # A signal handler that publishes may interrupt its own thread's wake(), where pika has a plain lock.
            poller._waking_mutex = threading.RLock()
        self.connection: Connection | None = None
        self.failure: Failure | None = None
        self._failed = failed

    def guarded(self, func: Callable[..., object]) -> Callable[..., None]:
        """The function, made safe as a callback: an exception would end pika's loop without a word."""

        def call(*args: Any) -> None:
            try:
                func(*args)
            except Exception as error:
                self._failed(error)
                self.abort("an error of ours in a callback")

        return call

    def wake(self, func: Callable[[], None]) -> None:
        """Call it soon on the loop's thread; from any thread. A loop that has ended forgets it."""
        self.loop.add_callback_threadsafe(func)

    def later(self, seconds: float, func: Callable[[], None]) -> None:
        """Call it on this loop after that time, unless the loop has ended by then."""
        self.loop.call_later(seconds, func)

    def channel(self, number: int | None, opened: Callable[[Any], object]) -> Any:
        """Open a channel of that number, or of any."""
        if self.connection is None:
            raise AssertionError("bug: a channel without a connection")
        return self.connection.channel(channel_number=number, on_open_callback=self.guarded(opened))

    @property
    def fast(self) -> bool:
        """Whether frames of ours can be written as they are."""
        connection = self.connection
        return FAST and connection is not None and int(connection.params.frame_max) >= frames.LARGEST_FRAME

    def emit(self, data: bytes) -> None:
        """Write whole frames; only when `fast`."""
        if self.connection is not None and not self.connection.is_closed:
            self.connection._output_marshaled_frames((data,))

    def read_in_large_pieces(self) -> None:
        """Let the transport read more at once."""
        transport: Any = getattr(self.connection, "_transport", None)
        if hasattr(transport, "_MAX_RECV_BYTES"):
            transport._MAX_RECV_BYTES = _RECEIVE_BYTES
            if type(transport).__name__ == "_AsyncPlaintextTransport":
                # One read for each time that the socket is readable: the second would mostly find nothing.
                transport._MAX_CONSUME_BYTES = 1

    def close(self, limit: float) -> None:
        """End it in order; after `limit` seconds, anyhow."""
        connection = self.connection
        if connection is None or connection.is_closed:
            self.loop.stop()
            return
        self.later(limit, lambda: self.abort("it did not close in time"))
        if not connection.is_closing:
            connection.close()

    def give_up(self, failure: Failure) -> None:
        """End it in order, because of this failure, unless it is ending already."""
        connection = self.connection
        if connection is not None and connection.is_open:
            self.failure = failure
            self.close(1.0)

    def abort(self, why: str) -> None:
        """End it without another word to the broker."""
        connection = self.connection
        if connection is None or connection.is_closed or not hasattr(connection, "_terminate_stream"):
            self.loop.stop()
            return
        try:
            connection._terminate_stream(StreamLostError(why))
        except Exception:
            # The state that pika is in does not allow it: bury() closes the socket.
            self.loop.stop()

    def bury(self) -> None:
        """After the loop has ended: leave no socket and no file behind."""
        connection = self.connection
        transport = getattr(connection, "_transport", None)
        if connection is not None and not connection.is_closed:
            # The loop broke. It can be started again, for long enough to end the connection.
            for _ in range(2):
                with contextlib.suppress(Exception):
                    self.loop.call_later(1.0, self.loop.stop)
                    self.abort("the loop broke")
                    self.loop.start()
                    break
        with contextlib.suppress(Exception):
            self.loop.close()
        sock = getattr(transport, "_sock", None)
        if sock is not None:
            with contextlib.suppress(Exception):
                sock.close()


def parameters(address: Address, *, name: str, heartbeat: int, connection_timeout: float) -> pika.ConnectionParameters:
    """
    What pika is told of a broker.

    Raises:
        ConfigError: A certificate file cannot be read.
    """
    timeout = address.connection_timeout or connection_timeout
    options = None
    if address.tls:
        options = pika.SSLOptions(tls_context(address), server_hostname=address.host)
    return pika.ConnectionParameters(
        host=address.host,
        port=address.port,
        virtual_host=address.vhost,
        credentials=pika.PlainCredentials(address.user, address.password),
        heartbeat=heartbeat if address.heartbeat is None else address.heartbeat,
        frame_max=frames.LARGEST_FRAME,
        connection_attempts=1,
        socket_timeout=timeout,
        stack_timeout=2 * timeout,
        ssl_options=options,
        client_properties={"connection_name": name, "product": "hireliab"},
    )


def tls_context(address: Address) -> ssl.SSLContext:
    """
    A context that checks the broker's certificate and name.

    Raises:
        ConfigError: A file cannot be read, or is no certificate or key.
    """
    try:
        context = ssl.create_default_context(cafile=address.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if address.cert_file is not None:
            context.load_cert_chain(address.cert_file, address.key_file)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"message bus: a certificate of {address} cannot be used ({type(error).__name__}: {error}); check the files",
            setting="url",
            allowed="readable PEM files",
        ) from None
    return context
