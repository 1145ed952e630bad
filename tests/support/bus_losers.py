"""Contestants of the bus benchmark whose figures must not count, each run in a process of its own."""

from benchmarks._bus_peers import Blocking
from benchmarks._bus_work import Done
from hireliab.errors import BusFullError


class _Worse:
    def __init__(self, publisher, way):
        self._publisher, self._way, self._said = publisher, way, 0

    def publish(self, number):
        self._said += 1
        self._way(self._publisher, number, self._said)

    def finish(self):
        return self._said


class _Publishing(Blocking):
    """Says that every message was confirmed once."""

    def publisher(self, place):
        outer = super().publisher(place)

        class Manager:
            def __enter__(self):
                return _Worse(outer.__enter__(), way)

            def __exit__(self, *exc_info):
                return outer.__exit__(*exc_info)

        way = self.way
        return Manager()


class Forgets(_Publishing):
    """Every tenth message is lost."""

    @staticmethod
    def way(publisher, number, said):
        if said % 10:
            publisher.publish(number)


class Repeats(_Publishing):
    """Every tenth message is published twice."""

    @staticmethod
    def way(publisher, number, said):
        publisher.publish(number)
        if not said % 10:
            publisher.publish(number)


class Unacknowledged(Blocking):
    """Counts what it has taken and never acknowledges it."""

    def consume(self, place, count):
        import pika

        numbers = range(count)
        with pika.BlockingConnection(pika.URLParameters(place.url)) as connection:
            channel = connection.channel()
            for _ in numbers:
                channel.basic_get(place.queue)
        return Done(count=count, distinct=count, elapsed_ns=1)


class Skips(Blocking):
    """Acknowledges what it has not parsed."""

    def consume(self, place, count):
        done = super().consume(place, count)
        done.distinct -= 1
        return done


class Dies(Blocking):
    """Its process ends."""

    def publisher(self, place):
        import os

        os._exit(3)


class Full(Blocking):
    """Its bus is full while its calls are timed."""

    def calls(self, place, count):
        raise BusFullError("the queue holds 10000 messages")
