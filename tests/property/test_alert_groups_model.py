"""
Dedup, grouping, repeat and resolve against a model that knows only what a person would say: what happened, and what
was told of it.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from hireliab.monitoring.alert import Alert, AlertLevel
from hireliab.monitoring.alert_groups import (
    FORGET_AFTER,
    GROUP_INTERVAL,
    GROUP_WAIT,
    REPEAT_INTERVAL,
    Decision,
    Groups,
)

ERROR = AlertLevel.ERROR


class Trouble:
    """What a person knows about one trouble."""

    def __init__(self, keyed):
        self.keyed = keyed
        self.firing = False
        self.happened = 0  # alerts since the last time that somebody knew everything
        self.first_at = None  # of those
        self.last_at = None
        self.message = None  # [made at, level, is resolution when made] of the one on its way
        self.said = []  # (at, firing, level, count) as told
        self.made = []  # (at, level, rise) of messages that tell that it fires
        self.lost = 0  # messages given up


class GroupsMachine(RuleBasedStateMachine):
    keys = Bundle("keys")

    def __init__(self):
        super().__init__()
        self.now = 1000.0
        self.number = 0
        self.groups = Groups(make_id=lambda: f"own{self.number}")
        self.troubles = {}
        self.pending = {}

    @rule(target=keys, name=st.sampled_from("abc"), keyed=st.booleans())
    def key(self, name, keyed):
        return name, keyed

    def trouble(self, key):
        return self.troubles.setdefault(key, Trouble(key[1]))

    @rule(key=keys, level=st.sampled_from([AlertLevel.INFO, AlertLevel.WARNING, ERROR, AlertLevel.CRITICAL]))
    def happens(self, key, level):
        name, keyed = key
        self.number += 1
        alert = Alert(
            id=str(self.number),
            time=self.now,
            source="keyed" if keyed else "event",
            level=level,
            title=name,
            message=f"m{self.number}",
            dedup_key=name if keyed else None,
        )
        trouble = self.trouble(key)
        if self.is_forgotten(key, trouble):
            trouble.said, trouble.lost = [], 0
        decision, group = self.groups.offer(alert, self.now)
        quiet = trouble.first_at is None and trouble.message is None
        trouble.happened += 1
        if trouble.first_at is None:
            trouble.first_at = self.now
        trouble.last_at = self.now
        trouble.firing = True
        if key in self.pending:
            assert decision in (Decision.COUNT, Decision.RAISE)
        if decision is Decision.SEND:
            self.make(key, group)
        elif level >= ERROR and key not in self.pending:
            # Counted: then the same was told within the interval, or given up.
            assert trouble.said or trouble.lost
        elif quiet and not trouble.said and not trouble.lost:
            assert decision is Decision.HOLD

    @rule(key=keys)
    def ends(self, key):
        name, keyed = key
        trouble = self.troubles.get(key)
        over = Alert(id="x", time=self.now, source="system", level=AlertLevel.INFO, title=name, message="over")
        changes = self.groups.resolve(name, self.now, over=over, source="keyed" if keyed else "event")
        assert len(changes) <= 1
        if trouble is not None:
            if self.is_forgotten(key, trouble):
                if trouble.keyed:
                    trouble.lost += 1  # forgotten at its next repeat, or not yet
                else:
                    trouble.said, trouble.lost = [], 0
            trouble.firing = False
        for decision, group in changes:
            assert trouble is not None
            if decision is Decision.SEND:
                assert trouble.said, "a channel that was never told is told of the end"
                assert trouble.said[-1][1] or trouble.lost, "an end is told twice"
                self.make(key, group)
            if decision is Decision.HOLD:
                assert not trouble.said or trouble.lost
                trouble.happened = 0
                trouble.first_at = None
        if trouble is not None and key not in self.pending and not trouble.said:
            trouble.happened, trouble.first_at = 0, None

    @rule(seconds=st.sampled_from([0.5, 2.0, 10.0, 30.0, 60.0, 61.0, 3600.0, REPEAT_INTERVAL, FORGET_AFTER]))
    def time_passes(self, seconds):
        end = self.now + seconds
        while (at := self.groups.next_due()) is not None and at <= end:
            self.now = max(self.now, at)
            for group in self.groups.take_due(self.now):
                self.make((group.name, group.keyed), group)
        self.now = end

    def is_forgotten(self, key, trouble):
        """Whether nobody remembers: all was told, long ago."""
        if (
            key in self.pending
            or trouble.happened
            or trouble.lost
            or not trouble.said
            or trouble.firing is not trouble.said[-1][1]
        ):
            return False
        if trouble.keyed and trouble.firing:
            return self.now >= trouble.last_at + FORGET_AFTER
        return self.now >= trouble.said[-1][0] + GROUP_INTERVAL

    def make(self, key, group):
        assert key not in self.pending, "two messages of one group on their way"
        assert group.pending
        self.pending[key] = group
        trouble = self.trouble(key)
        trouble.message = self.now
        fires = trouble.firing
        if fires and group.level < ERROR and not trouble.said and not trouble.lost:
            assert self.now >= trouble.first_at + GROUP_WAIT, "told before the wait was over"
        if fires and trouble.said:
            at, fired, level, _ = trouble.said[-1]
            rise = group.level > level
            assert rise or self.now >= at + GROUP_INTERVAL, "told again within the interval"
            if fired and not trouble.happened:
                assert trouble.keyed, "an event is repeated"
                assert self.now >= at + REPEAT_INTERVAL, "repeated too early"

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def is_sent(self, data):
        key = data.draw(st.sampled_from(sorted(self.pending)))
        group = self.pending[key]
        trouble = self.trouble(key)
        alert = self.groups.compose(group)
        assert self.groups.compose(group).id == alert.id
        assert alert.resolved is not trouble.firing
        if alert.resolved:
            assert trouble.said or trouble.happened or trouble.lost
        del self.pending[key]
        self.groups.delivered(group, self.now)
        trouble.said.append((self.now, not alert.resolved, alert.level, alert.count))
        trouble.happened, trouble.first_at, trouble.message = 0, None, None

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def is_given_up(self, data):
        key = data.draw(st.sampled_from(sorted(self.pending)))
        group = self.pending.pop(key)
        self.groups.given_up(group, self.now)
        trouble = self.trouble(key)
        trouble.lost += 1
        trouble.happened, trouble.first_at, trouble.message = 0, None, None

    @invariant()
    def what_is_due_is_taken(self):
        due = self.groups.next_due()
        if due is not None and due <= self.now:
            for group in self.groups.take_due(self.now):
                self.make((group.name, group.keyed), group)

    def teardown(self):
        """Everything is told in the end, once, and what was told last is true."""
        for key, group in list(self.pending.items()):
            alert = self.groups.compose(group)
            del self.pending[key]
            self.groups.delivered(group, self.now)
            self.trouble(key).said.append((self.now, not alert.resolved, alert.level, alert.count))
            self.trouble(key).happened = 0
        end = self.now + 2 * GROUP_INTERVAL + 1
        while (at := self.groups.next_due()) is not None and at <= end:
            self.now = max(self.now, at)
            for group in self.groups.take_due(self.now):
                alert = self.groups.compose(group)
                self.groups.delivered(group, self.now)
                trouble = self.trouble((group.name, group.keyed))
                trouble.said.append((self.now, not alert.resolved, alert.level, alert.count))
                trouble.happened = 0
        for trouble in self.troubles.values():
            assert trouble.happened == 0
            if trouble.said and not trouble.lost:
                assert trouble.said[-1][1] is trouble.firing, trouble.said
        assert len(self.groups) <= sum(trouble.keyed for trouble in self.troubles.values()) + len(self.troubles)


GroupsMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, derandomize=True, deadline=None)
TestGroups = GroupsMachine.TestCase
