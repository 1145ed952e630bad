"""Single rules of dedup, grouping, repeat and resolve; the model test looks at their interplay."""

import itertools

import pytest

from hireliab.monitoring.alert import Alert, AlertLevel
from hireliab.monitoring.alert_groups import CRASH_MEMORY, Decision, Groups

INFO, WARNING, ERROR, CRITICAL = AlertLevel.INFO, AlertLevel.WARNING, AlertLevel.ERROR, AlertLevel.CRITICAL
T = 1000.0


@pytest.fixture
def groups():
    own = itertools.count()
    return Groups(make_id=lambda: f"own{next(own)}")


_numbers = itertools.count()


def alert(title="t", level=ERROR, *, key=None, source="exchange", message=None, time=T):
    number = next(_numbers)
    return Alert(
        id=f"a{number}",
        time=time,
        source=source,
        level=level,
        title=title,
        message=f"m{number}" if message is None else message,
        dedup_key=key,
    )


def over(time=T, message="it is over"):
    return alert("x", INFO, message=message, time=time)


def tell(groups, group, now):
    told = groups.compose(group)
    groups.delivered(group, now)
    return told


def due(groups, now):
    return [tell(groups, group, now) for group in groups.take_due(now)]


def test_an_error_is_told_at_once_and_a_warning_after_the_wait(groups):
    assert groups.offer(alert(level=ERROR), T)[0] is Decision.SEND
    assert groups.offer(alert("w", WARNING), T)[0] is Decision.HOLD
    assert groups.next_due() == T + 2
    assert due(groups, T + 1.9) == []
    (told,) = due(groups, T + 2)
    assert (told.title, told.count, told.since) == ("w", 1, None)


def test_a_burst_is_one_message_and_one_summary(groups):
    first = alert(time=T)
    decision, group = groups.offer(first, T)
    assert decision is Decision.SEND
    assert tell(groups, group, T) == first
    for second in range(1, 100):
        assert groups.offer(alert(time=T + second / 10), T + second / 10)[0] is Decision.COUNT
    assert due(groups, T + 59.9) == []
    (summary,) = due(groups, T + 60)
    assert (summary.count, summary.since, summary.time) == (100, T, T + 9.9)
    assert summary.id != first.id
    assert len(summary.also) == 5
    assert due(groups, T + 10_000) == []
    assert len(groups) == 0  # an event: forgotten


def test_the_same_title_of_another_source_or_with_a_key_is_other_trouble(groups):
    assert groups.offer(alert("t"), T)[0] is Decision.SEND
    assert groups.offer(alert("t", source="risk"), T)[0] is Decision.SEND
    assert groups.offer(alert("t", key="k"), T)[0] is Decision.SEND
    assert groups.offer(alert("other title", key="k"), T)[0] is Decision.COUNT


def test_a_higher_level_than_was_told_is_told_at_once_and_an_equal_one_is_not(groups):
    _, group = groups.offer(alert(level=ERROR), T)
    tell(groups, group, T)
    assert groups.offer(alert(level=WARNING), T + 1)[0] is Decision.COUNT
    assert groups.offer(alert(level=ERROR), T + 1)[0] is Decision.COUNT
    assert groups.offer(alert(level=CRITICAL), T + 2)[0] is Decision.SEND
    assert tell(groups, group, T + 2).level is CRITICAL
    assert groups.offer(alert(level=CRITICAL), T + 3)[0] is Decision.COUNT


def test_a_level_that_rises_while_the_message_is_on_its_way_changes_the_message(groups):
    _, group = groups.offer(alert(level=ERROR), T)
    assert groups.offer(alert(level=CRITICAL), T)[0] is Decision.RAISE
    assert groups.offer(alert(level=CRITICAL), T)[0] is Decision.COUNT
    told = tell(groups, group, T)
    assert (told.level, told.count) == (CRITICAL, 3)
    assert groups.next_due() == T + 60  # to be forgotten


def test_a_level_that_rises_during_the_send_is_told_next(groups):
    _, group = groups.offer(alert(level=ERROR), T)
    groups.compose(group)
    assert groups.offer(alert(level=CRITICAL), T)[0] is Decision.RAISE
    groups.delivered(group, T + 1)
    (told,) = due(groups, T + 1)
    assert told.level is CRITICAL


def test_what_ends_within_the_wait_is_never_told(groups):
    groups.offer(alert(level=INFO, key="k"), T)
    ((decision, _),) = groups.resolve("k", T + 1, over=over())
    assert decision is Decision.HOLD
    assert due(groups, T + 100) == []
    assert len(groups) == 0


def test_an_end_is_told_once_with_its_words_and_its_beginning(groups):
    _, group = groups.offer(alert(key="k"), T)
    tell(groups, group, T)
    ((decision, same),) = groups.resolve("k", T + 5, over=over(T + 5))
    assert (decision, same) == (Decision.SEND, group)
    told = tell(groups, group, T + 5)
    assert (told.resolved, told.message, told.since, told.time, told.title) == (True, "it is over", T, T + 5, "t")
    assert groups.resolve("k", T + 6, over=over()) == []
    assert due(groups, T + 10_000) == []


def test_an_end_of_what_nobody_knows_of_changes_nothing(groups):
    assert groups.resolve("k", T, over=over()) == []
    groups.offer(alert(key="k"), T)
    assert groups.resolve("other", T, over=over()) == []
    assert groups.resolve("k", T, over=over(), source="risk") == []


def test_an_end_before_the_message_was_sent_is_told_in_one(groups):
    _, group = groups.offer(alert(key="k"), T)
    assert [decision for decision, _ in groups.resolve("k", T, over=over())] == [Decision.COUNT]
    told = tell(groups, group, T + 1)
    assert told.resolved
    assert due(groups, T + 10_000) == []


def test_an_end_during_the_send_is_told_next(groups):
    _, group = groups.offer(alert(key="k"), T)
    assert not groups.compose(group).resolved
    groups.resolve("k", T, over=over())
    groups.delivered(group, T + 1)
    (told,) = due(groups, T + 1)
    assert told.resolved


def test_a_title_serves_as_key_of_an_end(groups):
    _, group = groups.offer(alert("t"), T)
    tell(groups, group, T)
    assert groups.resolve("t", T + 1, over=over())[0][0] is Decision.SEND


def test_what_stands_is_repeated_every_four_hours_with_a_new_id_until_it_is_forgotten(groups):
    _, group = groups.offer(alert(key="k"), T)
    first = tell(groups, group, T)
    told = []
    now = T
    while (at := groups.next_due()) is not None:
        now = at
        told += due(groups, now)
    assert len(told) == 5  # at 4, 8, 12, 16 and 20 hours
    assert now == T + 24 * 3600
    assert len({first.id, *(one.id for one in told)}) == 6
    assert all("still not resolved" in one.notes for one in told)
    assert len(groups) == 0


def test_flapping_is_bounded_and_what_was_told_last_is_true(groups):
    told = []
    now = T
    for number in range(6000):  # ten minutes, each 100 ms
        if number % 2 == 0:
            decision, group = groups.offer(alert(key="k"), now)
            if decision is Decision.SEND:
                told.append(tell(groups, group, now))
        else:
            for decision, group in groups.resolve("k", now, over=over()):
                if decision is Decision.SEND:
                    told.append(tell(groups, group, now))
        told += due(groups, now)
        now += 0.1
    told += due(groups, now + 61)
    assert len(told) <= 2 * 11
    assert told[-1].resolved
    assert due(groups, now + 10_000) == []


def test_what_was_given_up_is_counted_and_not_tried_again_by_itself(groups):
    _, group = groups.offer(alert(key="k"), T)
    groups.given_up(group, T)
    assert due(groups, T + 59) == []
    assert groups.offer(alert(key="k"), T + 59)[0] is Decision.COUNT
    (told,) = due(groups, T + 60)
    assert told.count == 2


def test_an_end_that_was_given_up_is_not_tried_for_ever(groups):
    _, group = groups.offer(alert(key="k"), T)
    tell(groups, group, T)
    groups.resolve("k", T + 1, over=over())
    groups.given_up(group, T + 1)
    assert due(groups, T + 10_000) == []
    assert len(groups) == 0


def test_the_same_message_has_the_same_id_at_every_attempt(groups):
    first = alert()
    _, group = groups.offer(first, T)
    assert groups.compose(group).id == first.id
    groups.offer(alert(), T)
    assert groups.compose(group).id == first.id


def test_a_storm_of_titles_shares_groups_and_leaves_room_for_what_matters():
    groups = Groups(make_id=lambda: "own", limit=100)
    for number in range(500):
        groups.offer(alert(f"order {number}", WARNING), T)
    assert len(groups) == 76
    decisions = [groups.offer(alert(f"error {number}", ERROR), T)[0] for number in range(500)]
    assert decisions.count(Decision.SEND) == 25
    assert len(groups) == 100
    decision, group = groups.offer(alert("at last", CRITICAL), T)
    assert decision is Decision.RAISE
    told = tell(groups, group, T)
    assert (told.level, told.title) == (CRITICAL, "many different alerts")
    assert told.message.startswith("at last\n")


def test_a_storm_of_sources_is_bounded_too():
    groups = Groups(make_id=lambda: "own", limit=100)
    for number in range(500):
        groups.offer(alert("t", ERROR, source=f"s{number}"), T)
    assert len(groups) <= 107


def test_what_a_former_process_told_is_only_counted(groups):
    groups.restore("exchange\x1ft", level=ERROR, keyed=False, count=3, alert=alert(), age=10.0, now=T)
    decision, group = groups.offer(alert(), T + 1)
    assert decision is Decision.COUNT
    assert due(groups, T + 60.9) == []  # not at once, or a crash loop would tell it each time
    (told,) = due(groups, T + 61)
    assert told.count == 4
    assert groups.offer(alert(level=CRITICAL), T + 62)[0] is Decision.SEND
    assert group is not None


def test_what_a_former_process_told_long_ago_is_told_again(groups):
    groups.restore("exchange\x1ft", level=ERROR, keyed=False, count=1, alert=alert(), age=CRASH_MEMORY, now=T)
    assert groups.offer(alert(), T)[0] is Decision.SEND
    groups.restore("exchange\x1fu", level=ERROR, keyed=False, count=1, alert=alert(), age=CRASH_MEMORY - 5, now=T)
    assert groups.offer(alert("u"), T + 5)[0] is Decision.SEND
    groups.restore("exchange\x1fk", level=ERROR, keyed=True, count=1, alert=alert(), age=CRASH_MEMORY, now=T)
    assert groups.offer(alert(key="k"), T)[0] is Decision.COUNT


def test_an_end_reaches_what_a_former_process_told(groups):
    groups.restore("exchange\x1fk", level=ERROR, keyed=True, count=1, alert=alert(key="k"), age=10.0, now=T)
    ((decision, group),) = groups.resolve("k", T, over=over())
    assert decision is Decision.SEND
    assert tell(groups, group, T).resolved


def test_what_a_former_process_told_is_repeated_in_its_time(groups):
    groups.restore("exchange\x1fk", level=ERROR, keyed=True, count=1, alert=alert(key="k"), age=3600.0, now=T)
    assert groups.next_due() == T + 3 * 3600


def test_a_restored_group_replaces_none(groups):
    _, group = groups.offer(alert(key="k"), T)
    groups.restore("exchange\x1fk", level=ERROR, keyed=True, count=9, alert=alert(key="k"), age=10.0, now=T)
    assert groups.compose(group).count == 1
    assert groups.offer(alert(key="k"), T)[1] is group
    assert groups.compose(group).count == 2


def test_what_a_former_process_told_too_long_ago_is_not_repeated_by_this_one(groups):
    groups.restore("exchange\x1fk", level=ERROR, keyed=True, count=1, alert=alert(), age=4 * 3600.0, now=T)
    assert groups.next_due() is None
    assert len(groups) == 0


def test_what_must_be_told_is_told_whatever_was_told_before(groups):
    _, group = groups.offer(alert(time=T), T)
    tell(groups, group, T)
    late = alert(time=T - 500, message="older")
    decision, same = groups.offer(late, T + 1, insist=True)
    assert (decision, same) == (Decision.SEND, group)
    told = groups.compose(group)
    assert (told.count, told.since) == (2, T - 500)
    assert told.message != "older"
    assert groups.offer(alert(), T + 1, insist=True)[0] is Decision.COUNT


def test_a_channel_knows_what_it_was_told_or_is_about_to_be(groups):
    one = alert(key="k")
    assert not groups.knows(one)
    _, group = groups.offer(one, T)
    assert groups.knows(one)
    tell(groups, group, T)
    assert groups.knows(one)
    groups.resolve("k", T, over=over())
    assert not groups.knows(one)


def test_last_words_are_everything_that_was_not_told(groups):
    groups.offer(alert("held", INFO), T)
    _, group = groups.offer(alert("told"), T)
    tell(groups, group, T)
    groups.offer(alert("told"), T)
    _, known = groups.offer(alert("nothing new"), T)
    tell(groups, known, T)
    assert sorted(one.name for one in groups.take_all()) == ["held", "told"]
    assert groups.take_all() == []


def test_without_a_wait_everything_is_told_at_once():
    groups = Groups(make_id=lambda: "own", group_wait=0)
    assert groups.offer(alert(level=AlertLevel.DEBUG), T)[0] is Decision.SEND


def test_an_end_that_must_wait_is_told_at_last(groups):
    _, group = groups.offer(alert(level=ERROR, key="k"), T)
    tell(groups, group, T)
    groups.resolve("k", T + 1, over=over())
    tell(groups, group, T + 1)
    assert groups.offer(alert(level=CRITICAL, key="k"), T + 2)[0] is Decision.SEND
    tell(groups, group, T + 2)
    assert [decision for decision, _ in groups.resolve("k", T + 3, over=over())] == [Decision.COUNT]
    assert due(groups, T + 61.9) == []
    (told,) = due(groups, T + 62)
    assert told.resolved


def test_an_event_of_a_former_process_is_remembered_longer_than_one_of_this(groups):
    groups.restore("exchange\x1ft", level=ERROR, keyed=False, count=1, alert=alert(), age=CRASH_MEMORY - 5, now=T)
    assert groups.offer(alert(), T)[0] is Decision.COUNT


def test_a_key_of_log_lines_groups_them_and_stands_for_nothing(groups):
    _, group = groups.offer(alert("a", key="log:1"), T)
    assert groups.offer(alert("b", key="log:1"), T)[1] is group
    tell(groups, group, T)
    assert due(groups, T + 10_000) == []
    assert len(groups) == 0
