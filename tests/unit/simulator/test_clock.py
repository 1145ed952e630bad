import threading

from hireliab.simulator.clock import Clock, VirtualClock


def test_a_step_moves_both_clocks_together():
    clock = VirtualClock(start=1000)
    clock.advance(2.5)
    assert clock.monotonic() == 2.5
    assert clock.time_ns() == 1_002_500_000_000


def test_a_wait_ends_when_the_clock_is_stepped_past_it():
    clock = Clock()
    clock.advance(3600)
    done = []
    thread = threading.Thread(target=lambda: done.append(clock.pause(1000, lambda: False)))
    thread.start()
    clock.advance(1000)
    thread.join(5)
    assert done == [True]


def test_a_wait_ends_when_it_is_stopped():
    clock, stopped, done = VirtualClock(), threading.Event(), []
    thread = threading.Thread(target=lambda: done.append(clock.pause(1000, stopped.is_set)))
    thread.start()
    stopped.set()
    clock.wake()
    thread.join(5)
    assert done == [False]
