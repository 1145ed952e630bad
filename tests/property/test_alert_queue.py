"""A channel's queue against a list that is sorted by hand."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hireliab.monitoring._channel_queue import Notice, NoticeQueue
from hireliab.monitoring.alert import Alert, AlertLevel

LEVELS = st.sampled_from(list(AlertLevel))


class Model:
    def __init__(self, size):
        self.size = size
        self.waiting = []  # (level, number), oldest first

    def put(self, level, number):
        """The number of what there was no room for, or None."""
        if len(self.waiting) < self.size:
            self.waiting.append((level, number))
            return None
        lowest = min(waiting for waiting, _ in self.waiting)
        if level < lowest or lowest == AlertLevel.CRITICAL:
            return number
        victim = next(item for item in self.waiting if item[0] == lowest)
        self.waiting.remove(victim)
        self.waiting.append((level, number))
        return victim[1]

    def take(self):
        best = max(self.waiting, key=lambda item: (item[0], -item[1]))
        self.waiting.remove(best)
        return best[1]


def notice(level, number):
    alert = Alert(id=str(number), time=0.0, source="x", level=level, title="t", message="m")
    return Notice(group=None, alert=alert, level=level, queued_at=0.0, expires_at=1e9)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.integers(1, 5), st.lists(st.one_of(LEVELS, st.none()), max_size=40))
def test_the_queue_keeps_what_matters_most(size, steps):
    queue, model = NoticeQueue(size), Model(size)
    for number, level in enumerate(steps):
        if level is None:
            if model.waiting:
                assert int(queue.take(0.0).alert.id) == model.take()
        else:
            victim = queue.put(notice(level, number))
            assert (None if victim is None else int(victim.alert.id)) == model.put(level, number)
        assert len(queue) == len(model.waiting)
    assert [int(left.alert.id) for left in queue.clear()] == [
        number for _, number in sorted(model.waiting, key=lambda item: (-item[0], item[1]))
    ]


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(st.tuples(LEVELS, st.integers(0, 9)), min_size=1, max_size=20), st.integers(0, 9))
def test_what_waits_for_its_next_attempt_is_ready_at_its_time_and_no_earlier(given_, now):
    queue = NoticeQueue(100)
    for number, (level, at) in enumerate(given_):
        one = notice(level, number)
        one.not_before = float(at)
        queue.put_back(one)
    ready = []
    while (taken := queue.take(float(now))) is not None:
        ready.append(int(taken.alert.id))
    assert sorted(ready) == [number for number, (_, at) in enumerate(given_) if at <= now]
    levels = [given_[number][0] for number in ready]
    assert levels == sorted(levels, reverse=True)
    later = [at for _, at in given_ if at > now]
    assert queue.next_at() == (float(min(later)) if later else None)
    assert len(queue) == len(later)
    assert all(queue.take(0.0, last=True) is not None for _ in later)
