"""Token buckets: a client at the floor waits never, one a little faster is held back; starts come before stops."""

from controller.core.model import Action, ActionKind, Reason, Step
from controller.reconcile.limits import Limits, Quota, TokenBucket


def test_a_client_at_the_rate_never_waits_and_one_five_percent_faster_does(clock):
    bucket = TokenBucket(Quota(5, 10), clock)
    for n in range(5):
        assert bucket.take(f"a{n}") == 0
    for n in range(100):
        clock.step(ms=100)
        assert bucket.take(f"b{n}") == 0

    waits = []
    for n in range(100):
        clock.step(ms=95)
        waits.append(bucket.take(f"c{n}"))
    assert any(waits)


def test_the_wait_that_is_named_is_enough(clock):
    bucket = TokenBucket(Quota(1, 4), clock)
    assert bucket.take("a") == 0
    wait = bucket.take("b")
    assert wait == 250
    clock.step(ms=wait)
    assert bucket.take("b") == 0


def test_a_thousand_that_wait_get_a_turn_each_and_the_order_is_kept(clock):
    bucket = TokenBucket(Quota(20, 20), clock)
    waits = [bucket.take(f"user{n}") for n in range(1_000)]
    assert waits[:20] == [0] * 20
    assert waits[20:23] == [50, 100, 150]
    assert waits[-1] == 49_000
    clock.step(ms=150)
    assert [bucket.take(f"user{n}") for n in (20, 21, 22, 23)] == [0, 0, 0, 50]
    assert bucket.take("late") == 49_050 - 150


def test_a_turn_that_is_not_taken_is_forgotten_in_the_end(clock):
    bucket = TokenBucket(Quota(1, 1), clock)
    assert [bucket.take(who) for who in ("a", "gone")] == [0, 1_000]
    clock.step(minutes=3)
    assert bucket.take("b") == 0
    assert bucket.take("gone") == 1_000


def test_a_start_that_waits_for_the_second_bucket_keeps_no_token_of_the_first(clock):
    limits = Limits(clock, Quota(1, 1), Quota(1, 0.5))
    first, second = (Action(ActionKind.START, i, Reason.WANTED, "", Step.CLAIM) for i in ("a-b-c", "a-b-d"))
    assert limits.wait_for(first) == 0
    assert limits.wait_for(second) == 1_000
    clock.step(seconds=1)
    assert limits.wait_for(second) == 1_000
    clock.step(seconds=1)
    assert limits.wait_for(second) == 0


def test_a_clock_that_goes_back_gives_no_tokens(clock):
    bucket = TokenBucket(Quota(1, 1), clock)
    bucket.take("a")
    clock.step(hours=-1)
    assert bucket.take("b") > 0


def test_stops_leave_tokens_to_starts(clock):
    limits = Limits(clock, Quota(100, 100), Quota(10, 1))
    stop = Action(ActionKind.STOP, "a-b-c", Reason.IDLE, "", Step.STOP_TASK)
    users = [Action(ActionKind.START, f"a-b-{n}", Reason.SESSION_ACTIVE, "", Step.CLAIM) for n in range(20)]
    stops = sum(1 for _ in range(20) if limits.wait_for(stop) == 0)
    starts = sum(1 for start in users if limits.wait_for(start) == 0)
    assert (stops, starts) == (8, 2)


def test_conditional_writes_need_no_quota_of_ecs(clock):
    limits = Limits(clock, Quota(1, 1), Quota(1, 1))
    drain = Action(ActionKind.DRAIN, "a-b-c", Reason.IDLE, "", Step.BEGIN_DRAIN)
    assert [limits.wait_for(drain) for _ in range(50)] == [0] * 50
