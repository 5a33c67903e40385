"""Token buckets: a client at the floor waits never, one a little faster is held back; starts come before stops."""

from controller.core.model import Action, ActionKind, Reason, Step
from controller.reconcile.limits import Limits, Quota, TokenBucket


def test_a_client_at_the_rate_never_waits_and_one_five_percent_faster_does(clock):
    bucket = TokenBucket(Quota(5, 10), clock)
    for _ in range(5):
        assert bucket.take() == 0
    for _ in range(100):
        clock.step(ms=100)
        assert bucket.take() == 0

    waits = []
    for _ in range(100):
        clock.step(ms=95)
        waits.append(bucket.take())
    assert any(waits)


def test_the_wait_that_is_named_is_enough(clock):
    bucket = TokenBucket(Quota(1, 4), clock)
    assert bucket.take() == 0
    wait = bucket.take()
    assert wait == 250
    clock.step(ms=wait)
    assert bucket.take() == 0


def test_a_clock_that_goes_back_gives_no_tokens(clock):
    bucket = TokenBucket(Quota(1, 1), clock)
    bucket.take()
    clock.step(hours=-1)
    assert bucket.take() > 0


def test_stops_leave_tokens_to_starts(clock):
    limits = Limits(clock, Quota(100, 100), Quota(10, 1))
    stop = Action(ActionKind.STOP, "a-b-c", Reason.IDLE, "", Step.STOP_TASK)
    start = Action(ActionKind.START, "a-b-c", Reason.SESSION_ACTIVE, "", Step.CLAIM)
    stops = sum(1 for _ in range(20) if limits.wait_for(stop) == 0)
    starts = sum(1 for _ in range(20) if limits.wait_for(start) == 0)
    assert (stops, starts) == (8, 2)


def test_conditional_writes_need_no_quota_of_ecs(clock):
    limits = Limits(clock, Quota(1, 1), Quota(1, 1))
    drain = Action(ActionKind.DRAIN, "a-b-c", Reason.IDLE, "", Step.BEGIN_DRAIN)
    assert [limits.wait_for(drain) for _ in range(50)] == [0] * 50
