"""Alert systems on a fake clock, and channels that answer by a script."""

import itertools
import threading

from hireliab.monitoring.alert_channels import Ok
from hireliab.monitoring.alert_system import AlertSystem

CAP = 10.0  # real seconds after which a hang is a failure
_titles = itertools.count()


class Scripted:
    """Answers with what stands in `answers`, an exception is raised; then with Ok."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.alerts = []

    def __call__(self, alert):
        self.alerts.append(alert)
        answer = self.answers.pop(0) if self.answers else Ok()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    @property
    def titles(self):
        return [alert.title for alert in self.alerts]


class Hanging:
    """Holds each alert until it is let go; `entered` counts the calls, `inside` those that have not come back."""

    def __init__(self):
        self.alerts = []
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self, alert):
        self.alerts.append(alert)
        self.entered.release()
        assert self.go.acquire(timeout=5 * CAP)  # a test may do much meanwhile, on a busy machine

    def wait_entered(self):
        assert self.entered.acquire(timeout=CAP)


def system(clock, *, thresholds=None, **settings):
    """An alert system without a spool and without `group_wait`; other keywords are channels or settings."""
    names = ("failover", "queue_size", "group_wait", "group_interval", "repeat_interval", "spool", "heartbeat", "name")
    config = {"spool": False, "group_wait": 0}
    config |= {key: value for key, value in settings.items() if key in names}
    config["channels"] = {key: value for key, value in settings.items() if key not in names}
    config["level_thresholds"] = thresholds or {}
    return AlertSystem(config, clock=clock)


def send(alerts, title=None, level="error", **more):
    """Send an alert of its own trouble."""
    title = f"t{next(_titles)}" if title is None else title
    return alerts.send_alert(source="system", level=level, title=title, message="m", **more)


def channel(alerts, name="mine"):
    """A channel's status, whose sum is checked."""
    status = alerts.status().channels[name]
    waiting = status.queued + status.held + status.in_flight + status.spooled
    told = status.delivered + status.failed + status.dropped + status.deduplicated
    assert status.accepted == waiting + told, status
    return status
