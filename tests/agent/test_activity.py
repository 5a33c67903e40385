"""Busy leases: what is long and silent survives, what is stuck ends."""

from __future__ import annotations

import pytest

from controller.agent.activity import MOST_LEASES, Activity, LeaseRefused
from controller.agent.clock import Clock
from tests.fakes.clock import FakeClock

HOUR = 3600.0


@pytest.fixture
def activity(clock: FakeClock) -> Activity:
    return Activity(Clock(clock.now, lambda: clock.now() / 1000), maximum=2 * HOUR)


def test_without_a_lease_it_is_not_busy(activity):
    assert activity.busy() is None
    assert activity.idle_for() == float("inf")


def test_a_tool_call_of_40_silent_minutes_survives(activity, clock):
    for _ in range(80):
        activity.take("call", 90)
        clock.step(seconds=30)
        assert activity.busy()
    activity.end("call")
    assert activity.busy() is None
    assert activity.idle_for() == 0


def test_a_stuck_lease_ends_at_its_maximum(activity, clock):
    activity.take("stuck", 90)
    for _ in range(239):
        clock.step(seconds=30)
        activity.take("stuck", 90)
    clock.step(seconds=30)
    with pytest.raises(LeaseRefused, match="stuck"):
        activity.take("stuck", 90)
    assert activity.busy() is None
    for _ in range(100):
        clock.step(seconds=30)
        with pytest.raises(LeaseRefused):
            activity.take("stuck", 90)
    assert activity.idle_for() == pytest.approx(30 * 101)


def test_after_its_end_the_name_is_free_again(activity, clock):
    for _ in range(241):
        try:
            activity.take("stuck", 90)
        except LeaseRefused:
            break
        clock.step(seconds=30)
    activity.end("stuck")
    assert activity.take("stuck", 90) == 90


def test_a_lease_that_nobody_renews_ends(activity, clock):
    activity.take("killed", 90)
    clock.step(seconds=91)
    assert activity.busy() is None
    assert activity.idle_for() == pytest.approx(91)
    assert activity.take("killed", 90) == 90


def test_a_lease_is_never_longer_than_the_maximum(activity, clock):
    assert activity.take("long", 1e8) == 2 * HOUR
    clock.step(hours=2)
    assert activity.busy() is None


def test_the_longest_lease_counts(activity, clock):
    activity.take("a", 60)
    clock.step(seconds=10)
    activity.take("b", 600)
    since, until = activity.busy()
    assert until - since == pytest.approx(610)
    activity.end("b")
    assert activity.busy()[1] - since == pytest.approx(60)


def test_zero_seconds_only_report_activity(activity, clock):
    activity.take("x", 0)
    assert activity.busy() is None
    clock.step(seconds=5)
    assert activity.idle_for() == 5


def test_leases_are_bounded(activity):
    for number in range(MOST_LEASES):
        activity.take(str(number), 60)
    with pytest.raises(LeaseRefused):
        activity.take("one more", 60)


def test_a_clock_that_is_set_ends_no_lease(clock):
    steady = FakeClock()
    activity = Activity(Clock(clock.now, lambda: steady.now() / 1000), maximum=2 * HOUR)
    activity.take("x", 60)
    clock.step(hours=5)
    assert activity.busy()
