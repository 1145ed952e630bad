import json

from hireliab.simulator.limits import Limit, Limiter, Throttled, too_many
from hireliab.simulator.settings import Settings

RULE = Limit("x", 3, 60)
ON = Settings()


def test_a_window_slides_and_back_off_is_the_time_until_the_oldest_hit_leaves():
    limiter = Limiter()
    assert [limiter.admit(RULE, ["a"], now, ON) for now in (0, 10, 20)] == [None] * 3
    assert limiter.admit(RULE, ["a"], 25, ON) == Throttled(35, 3)
    assert limiter.admit(RULE, ["a"], 60, ON) is None
    assert limiter.admit(RULE, ["a"], 61, ON) == Throttled(9, 3)


def test_a_refused_call_is_not_counted():
    limiter = Limiter()
    for now in (0, 0, 0, 1, 2, 3):
        limiter.admit(RULE, ["a"], now, ON)
    assert limiter.admit(RULE, ["a"], 60, ON) is None


def test_credential_and_address_are_counted_apart_and_both_must_pass():
    limiter = Limiter()
    for credential in "abc":
        assert limiter.admit(RULE, [credential, "ip"], 0, ON) is None
    assert limiter.admit(RULE, ["d", "ip"], 0, ON) is not None
    assert limiter.admit(RULE, ["a", "other"], 0, ON) is None


def test_a_costly_call_waits_for_as_many_hits_to_leave():
    limiter = Limiter()
    for now in (0, 10, 20):
        limiter.admit(RULE, ["a"], now, ON)
    assert limiter.admit(RULE, ["a"], 30, ON, cost=2) == Throttled(40, 3)


def test_the_scale_multiplies_and_switching_off_admits_everything():
    limiter = Limiter()
    double, off = ON.changed({"limit_scale": 2}), ON.changed({"limits": False})
    assert [limiter.admit(RULE, ["a"], 0, double) for _ in range(7)].count(None) == 6
    assert limiter.admit(RULE, ["a"], 0, off) is None


def test_a_credential_that_ignores_limits_is_banned_for_two_minutes():
    limiter = Limiter()
    for now in range(19):
        limiter.note_throttled("a", now, ON)
    assert limiter.banned("a", 19) is None
    limiter.note_throttled("a", 19, ON)
    assert limiter.banned("a", 20) == Throttled(119, 0)
    assert limiter.banned("a", 139) is None


def test_throttled_answers_spread_over_time_ban_nobody():
    limiter = Limiter()
    for now in range(0, 400, 4):
        limiter.note_throttled("a", now, ON)
    assert limiter.banned("a", 400) is None


def test_failed_authentications_block_the_address_until_their_window_ends():
    limiter = Limiter()
    for now in range(100):
        assert limiter.blocked("ip", now, ON) is None
        limiter.note_unauthorized("ip", now, ON)
    assert limiter.blocked("ip", 100, ON) == Throttled(1700, 100)
    assert limiter.blocked("ip", 1800, ON) is None


def test_the_body_is_the_documented_one():
    reply = too_many(Throttled(12, 60), ON)
    body = json.loads(reply.body)
    assert reply.status == 429
    assert reply.headers == ()
    assert "12" in body.pop("message")
    assert body == {"status": "failed", "code": "TooManyRequests", "backOff": 12, "limit": 60}


def test_a_retry_after_header_is_an_option():
    assert too_many(Throttled(12, 60), ON.changed({"retry_after": True})).headers == (("Retry-After", "12"),)
