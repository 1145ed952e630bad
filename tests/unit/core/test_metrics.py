"""Counters and histograms: nothing is lost between threads, and a snapshot is consistent."""

from hireliab.core._metrics import SECONDS, Counter, Histogram
from tests.support.together import Background, together


def test_counts_of_many_threads_add_up():
    counter, histogram = Counter(), Histogram((1.0, 2.0))

    def count(i):
        for _ in range(500):
            counter.add("even" if i % 2 == 0 else "odd")
            histogram.observe(i / 2)

    together(8, count)
    assert counter.snapshot() == {"even": 2000, "odd": 2000}
    assert histogram.snapshot().counts == (1500, 1000, 1500)
    assert (histogram.snapshot().total, histogram.snapshot().most) == (500 * 14.0, 3.5)


def test_a_signal_handler_may_print_the_figures_on_the_thread_that_is_counting():
    counter, histogram, seen = Counter(), Histogram((1.0, 2.0)), []

    class Word(str):
        def __hash__(self):  # Python code in the middle of the count, as a handler would be
            if not seen:
                seen.append({})
                seen.append(counter.snapshot())
            return super().__hash__()

    class Value(float):
        def __radd__(self, other):
            seen.append(histogram.snapshot().count)
            return other + float(self)

    Background(counter.add, Word("even")).result()
    assert seen == [{}, {}]
    Background(histogram.observe, Value(1.5)).result()
    assert seen[-1] == 1
    assert (counter.snapshot(), histogram.snapshot().total) == ({"even": 1}, 1.5)


def test_a_bound_belongs_to_the_place_below_it():
    histogram = Histogram((1.0, 2.0))
    for value in (1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    assert histogram.snapshot().counts == (1, 2, 1)


def test_a_quantile_is_a_bound_and_never_more_than_the_most():
    histogram = Histogram(SECONDS)
    assert (histogram.snapshot().quantile(0.5), histogram.snapshot().mean) == (0.0, 0.0)
    for _ in range(99):
        histogram.observe(0.004)
    histogram.observe(99.0)
    found = histogram.snapshot()
    assert (found.quantile(0.5), found.quantile(1.0)) == (0.005, 99.0)
    few = Histogram(SECONDS)
    few.observe(0.004)
    assert few.snapshot().quantile(0.99) == 0.004
