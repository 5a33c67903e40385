"""The lease: one leader at a time, quick hand-over, take-over after a crash, whatever the clocks say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.reads import Lease
from controller.errors import ConditionFailed, Unavailable
from controller.reconcile.leadership import LEASE, LOOK_EVERY, Leadership
from tests.fakes.clock import FakeClock


class LeaseRow:
    """The lease row in memory, with its condition, and a switch that takes it away."""

    def __init__(self) -> None:
        self.row: Lease | None = None
        self.down = False

    def read_lease(self) -> Lease | None:
        if self.down:
            raise Unavailable("the controller table does not answer")
        return self.row

    def write_lease(self, lease: Lease, seen: Lease | None) -> None:
        if self.down:
            raise Unavailable("the controller table does not answer")
        if self.row != seen:
            raise ConditionFailed("the lease has moved on")
        self.row = lease


@pytest.fixture
def row():
    return LeaseRow()


def test_the_first_leads_and_the_second_waits(row, clock):
    a, b = Leadership(row, "a", clock), Leadership(row, "b", clock)
    a.tick()
    b.tick()
    assert (a.leads, b.leads, b.holder) == (True, False, "a")


def test_a_lease_that_is_given_up_is_taken_within_two_seconds(row, clock):
    a, b = Leadership(row, "a", clock), Leadership(row, "b", clock)
    a.tick()
    wait = b.tick()
    a.release()
    assert not a.leads
    clock.step(ms=wait)
    b.tick()
    assert b.leads
    assert wait <= 2000
    assert b.epoch == 2


def test_after_a_crash_another_leads_within_17_seconds_and_not_before_the_lease_is_out(row, clock):
    a, b = Leadership(row, "a", clock), Leadership(row, "b", clock)
    a.tick()
    crashed = clock()
    wait = b.tick()
    while not b.leads:
        clock.step(ms=wait)
        wait = b.tick()
    assert LEASE <= clock() - crashed <= 17_000


def test_a_leader_that_slept_knows_that_it_no_longer_leads(row, clock):
    a, b = Leadership(row, "a", clock), Leadership(row, "b", FakeClock())
    a.tick()
    clock.step(seconds=20)
    assert not a.leads
    other = FakeClock()
    b = Leadership(row, "b", other)
    b.tick()
    other.step(ms=LEASE)
    b.tick()
    assert b.leads
    a.tick()
    assert not a.leads
    assert a.tick() == LOOK_EVERY


def test_a_table_that_does_not_answer_ends_the_lease_by_itself(row, clock):
    a = Leadership(row, "a", clock)
    a.tick()
    row.down = True
    clock.step(seconds=6)
    with pytest.raises(Unavailable):
        a.tick()
    assert a.leads
    clock.step(ms=LEASE)
    assert not a.leads


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["tick", "release", "crash"]), st.integers(0, 9000)),
        max_size=60,
    )
)
def test_never_two_leaders_who_tick_as_asked(moves):
    """Clocks run at one rate but start anywhere; a crashed controller comes back as a new one."""
    row = LeaseRow()
    clocks = {name: FakeClock(start) for name, start in (("a", 0), ("b", 10**9), ("c", 5))}
    sides = {name: Leadership(row, name, clocks[name]) for name in "abc"}
    epochs = []
    for name, move, ms in moves:
        for clock in clocks.values():
            clock.step(ms=ms)
        if move == "tick":
            sides[name].tick()
        elif move == "release":
            sides[name].release()
        else:
            sides[name] = Leadership(row, name, clocks[name])
        assert sum(side.leads for side in sides.values()) <= 1
        epochs.append(row.row.epoch if row.row else 0)
    assert epochs == sorted(epochs)
