"""A connection of the RabbitMQ bus without a broker: what is written is kept, what comes in is put in by the test."""

from pika import frame, spec

from hireliab.messaging.rabbitmq import _frames as frames


class FakeChannel:
    def __init__(self, number):
        self.channel_number = number
        self.is_open = True
        self.calls = []  # (method, positional arguments, keyword arguments)
        self.on_close = self.on_return = self.on_cancel = self.on_select = self.on_consume = None

    @property
    def is_closed(self):
        return not self.is_open

    def add_on_close_callback(self, callback):
        self.on_close = callback

    def add_on_return_callback(self, callback):
        self.on_return = callback

    def add_on_cancel_callback(self, callback):
        self.on_cancel = callback

    def confirm_delivery(self, answered, ready):
        self.on_answer = answered
        ready(None)

    def basic_consume(self, queue, on_message, *, consumer_tag, callback=None):
        self.calls.append(("basic_consume", (queue,), {}))
        self.on_message = on_message
        self.on_consume = callback or self.on_consume

    def basic_cancel(self, tag, *, callback):
        self.calls.append(("basic_cancel", (tag,), {}))
        callback(None)

    def close(self, *args, **kwargs):
        self.calls.append(("close", args, kwargs))
        self.lose(Exception("closed by us"))

    def lose(self, reason):
        """The channel closes, for this reason."""
        self.is_open = False
        self.on_close(self, reason)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.calls.append((name, args, kwargs))

    def called(self, name):
        return [args for one, args, _ in self.calls if one == name]


class _Connection:
    def __init__(self):
        self.is_open = True
        self.readers = {}


class FakeLink:
    """Stands in for `_link.Link`; `run()` does what it would do later."""

    def __init__(self, *, fast=True):
        self.connection = _Connection()
        self.fast = fast
        self.channels = []
        self.wire = b""
        self.given_up = None
        self.ended = False
        self._later = []

    def guarded(self, func):
        return func

    def later(self, seconds, func):
        if self.ended:
            raise ValueError("Timeout closed before call")  # as pika's loop
        self._later.append((seconds, func))

    def run(self, within=0.0):
        """Call what was to be called within that time, until there is no more."""
        while due := [one for one in self._later if one[0] <= within]:
            self._later = [one for one in self._later if one[0] > within]
            for _, func in due:
                func()

    def channel(self, number, opened):
        self.channels.append(FakeChannel(number or len(self.channels) + 1))
        opened(self.channels[-1])

    def emit(self, data):
        self.wire += data

    def give_up(self, failure):
        self.given_up = failure
        self.connection.is_open = False

    def put_in(self, *wires, channel=1):
        """Bytes come from the broker."""
        reader = self.connection.readers[channel]
        for wire in wires:
            place = 0
            while place < len(wire):
                kind, _, size = frames.FRAME_START.unpack_from(wire, place)
                assert reader.take(kind, wire, place + 7, place + 7 + size)
                place += size + 8
        reader.flush()

    def written(self):
        """The frames written since the last look, by pika."""
        wire, self.wire = self.wire, b""
        found = []
        while wire:
            size, one = frame.decode_frame(wire)
            found.append(one)
            wire = wire[size:]
        return found


def ack(number, *, multiple=False):
    return frame.Method(1, spec.Basic.Ack(number, multiple)).marshal()


def nack(number, *, multiple=False):
    return frame.Method(1, spec.Basic.Nack(number, multiple)).marshal()


def delivery(number, wire, *, redelivered=False, channel=1):
    """A delivery of what a publisher wrote."""
    _, header, body = frames.content(wire)
    method = frame.Method(channel, spec.Basic.Deliver("tag", number, redelivered, "x", "a")).marshal()
    start = frames.FRAME_START.pack(frames.HEADER, channel, len(header))
    return method + start + header + b"\xce" + frames.body(channel, body)
