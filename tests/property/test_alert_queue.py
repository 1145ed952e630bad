"""The channel's queue against a list that is sorted by hand."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hireliab.monitoring._channel_worker import ChannelWorker, Put
from hireliab.monitoring.alert import Alert, AlertLevel
from hireliab.testing import FakeClock

LEVELS = st.sampled_from(list(AlertLevel))


class Model:
    def __init__(self, size):
        self.size = size
        self.waiting = []  # (level, number), oldest first
        self.dropped = 0

    def put(self, level, number):
        if len(self.waiting) < self.size:
            self.waiting.append((level, number))
            return True
        self.dropped += 1
        lowest = min(waiting for waiting, _ in self.waiting)
        if level < lowest or lowest == AlertLevel.CRITICAL:
            return False
        self.waiting.remove(next(item for item in self.waiting if item[0] == lowest))
        self.waiting.append((level, number))
        return True

    def take(self):
        best = max(self.waiting, key=lambda item: (item[0], -item[1]))
        self.waiting.remove(best)
        return best


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.integers(1, 5), st.lists(st.one_of(LEVELS, st.none()), max_size=40))
def test_the_queue_keeps_what_matters_most(size, steps):
    worker = ChannelWorker(name="x", channel=print, threshold=AlertLevel.DEBUG, size=size, clock=FakeClock())
    worker._report_at = float("inf")  # reports are another test's business
    model = Model(size)
    accepted = 0
    for number, level in enumerate(steps):
        if level is None:
            if model.waiting:
                taken = worker._take()
                assert (taken.level, int(taken.id)) == model.take()
                worker._in_flight = 0
            continue
        alert = Alert(id=str(number), time=0.0, source="x", level=level, title="t", message="m")
        assert (worker.put(alert)[0] is Put.QUEUED) is model.put(level, number)
        accepted += 1
        status = worker.status()
        assert (status.queued, status.dropped, status.accepted) == (len(model.waiting), model.dropped, accepted)
