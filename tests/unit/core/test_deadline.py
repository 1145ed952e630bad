import contextvars
import math

import pytest

from hireliab.core.deadline import bounded, check, deadline, remaining
from hireliab.errors import ConfigError, DeadlineExceededError, NotSentError
from hireliab.testing import FakeClock
from tests.support.together import Background


def test_without_a_deadline_nothing_is_limited():
    assert remaining() is None
    assert bounded(7.0) == 7.0
    assert bounded(None) is None
    check("a call")


def test_what_is_left_shrinks_with_the_time(clock):
    with deadline(5.0, clock=clock):
        assert remaining() == 5.0
        clock.advance(2.0)
        assert remaining() == 3.0
        clock.advance(9.0)
        assert remaining() == 0.0
    assert remaining() is None


def test_the_time_runs_from_the_entry_and_not_from_the_making(clock):
    budget = deadline(5.0, clock=clock)
    clock.advance(60.0)
    with budget:
        assert remaining() == 5.0


def test_a_timeout_is_cut_to_what_is_left(clock):
    with deadline(5.0, clock=clock):
        assert bounded(10.0) == 5.0
        assert bounded(2.0) == 2.0
        assert bounded(None) == 5.0
        clock.advance(6.0)
        assert bounded(2.0) == 0.0
        assert bounded(None) == 0.0


def test_check_raises_as_soon_as_nothing_is_left(clock):
    with deadline(5.0, clock=clock):
        clock.advance(4.5)
        check("placing")
        clock.advance(0.5)
        with pytest.raises(DeadlineExceededError) as caught:
            check("placing")
    assert isinstance(caught.value, NotSentError)
    assert str(caught.value) == "placing: the deadline passed 0.000 s ago, the call was not made; allow more time"


def test_an_inner_deadline_shrinks(clock):
    with deadline(5.0, clock=clock):
        with deadline(2.0, clock=clock):
            assert remaining() == 2.0
        assert remaining() == 5.0


def test_an_inner_deadline_never_extends(clock):
    with deadline(5.0, clock=clock):
        clock.advance(1.0)
        with deadline(60.0, clock=clock):
            assert remaining() == 4.0
            clock.advance(4.0)
            with pytest.raises(DeadlineExceededError):
                check("a call")
        with deadline(None, clock=clock):
            assert remaining() == 0.0


def test_none_sets_no_limit_and_zero_leaves_nothing(clock):
    with deadline(None, clock=clock):
        assert remaining() is None
        assert bounded(None) is None
        assert bounded(3.0) == 3.0
        check("a call")
        with deadline(0, clock=clock), pytest.raises(DeadlineExceededError):
            check("a call")
    assert remaining() is None


def test_deadlines_of_different_clocks_are_compared_by_what_is_left():
    late, early = FakeClock(start=1_000_000.0), FakeClock(start=0.0)
    with deadline(5.0, clock=late), deadline(60.0, clock=early):
        assert remaining() == 5.0
    with deadline(5.0, clock=early), deadline(2.0, clock=late):
        assert remaining() == 2.0


def test_it_ends_with_the_block_when_the_block_raises(clock):
    with pytest.raises(KeyboardInterrupt), deadline(5.0, clock=clock):
        raise KeyboardInterrupt
    assert remaining() is None


def test_one_object_may_be_nested_in_itself(clock):
    budget = deadline(5.0, clock=clock)
    with budget:
        clock.advance(1.0)
        with budget:
            assert remaining() == 4.0
        assert remaining() == 4.0
    assert remaining() is None


def test_another_thread_has_no_deadline_unless_it_gets_the_context(clock):
    with deadline(5.0, clock=clock):
        assert Background(contextvars.Context().run, remaining).result() is None
        assert Background(contextvars.copy_context().run, remaining).result() == 5.0


def test_an_exit_in_another_context_changes_nothing(clock):
    budget = deadline(5.0, clock=clock)
    budget.__enter__()
    contextvars.Context().run(budget.__exit__, None, None, None)
    assert remaining() == 5.0
    budget.__exit__(None, None, None)
    assert remaining() is None


def test_each_call_of_a_decorated_function_gets_the_budget_anew(clock):
    @deadline(5.0, clock=clock)
    def call(seconds):
        """Call."""
        left = remaining()
        clock.advance(seconds)
        return left

    assert [call(9.0), call(seconds=9.0)] == [5.0, 5.0]  # and a late result is returned
    assert (call.__name__, call.__doc__) == ("call", "Call.")


def test_a_decorated_function_is_not_called_when_nothing_is_left(clock):
    calls = []
    with deadline(0, clock=clock), pytest.raises(DeadlineExceededError, match="append"):
        deadline(5.0, clock=clock)(calls.append)(1)
    assert calls == []


def test_methods_of_every_kind_can_be_decorated(clock):
    class Client:
        @deadline(5.0, clock=clock)
        def bound(self):
            return self, remaining()

        @deadline(5.0, clock=clock)
        @classmethod
        def of_class(cls):
            return cls, remaining()

        @deadline(5.0, clock=clock)
        @staticmethod
        def static():
            return remaining()

    client = Client()
    assert client.bound() == (client, 5.0)
    assert client.of_class() == (Client, 5.0)
    assert client.static() == 5.0


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "5", True])
def test_a_senseless_number_of_seconds_is_refused(seconds):
    with pytest.raises(ConfigError, match="seconds"):
        deadline(seconds)


def test_generators_coroutines_and_classes_are_refused_at_decoration():
    def generate():
        yield 1

    async def wait():
        pass

    async def stream():
        yield 1

    for func in (generate, wait, stream, dict, 7):
        with pytest.raises(ConfigError, match="func|generate|wait|stream"):
            deadline(1.0)(func)


def test_a_deadline_around_a_call_ends_with_it_however_it_ends(clock):
    limit = deadline(5.0, clock=clock)
    with deadline(9.0, clock=clock):
        for error in (ValueError, KeyboardInterrupt):

            def raising(kind):
                assert remaining() == 5.0
                raise kind

            with pytest.raises(error):
                limit._run(raising, error)
            assert remaining() == 9.0
        with deadline(3.0, clock=clock):
            assert limit._run(remaining) == 3.0  # a budget only shrinks
    assert remaining() is None
