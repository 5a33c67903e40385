"""What happens to a container over hours: each story from its first row to rest."""

from itertools import pairwise

import pytest

from controller.core.identity import ContainerIdentity
from controller.core.model import HOUR, Hold
from controller.core.policy import Policy
from controller.errors import Held, LaunchFailed, NotReadyInTime
from controller.local.ecs import Timings
from controller.sessions import SessionRegistry
from tests.simulation import Simulation, rounds

TOM = ContainerIdentity("acme", "blog", "tom")
ID = TOM.container_id


@pytest.fixture
def sim():
    return Simulation()


def record_of(sim):
    record = sim.tables.get_record(ID)
    assert record is not None
    return record


def test_a_user_who_stays_keeps_one_container_all_day(sim):
    sim.registry.open("s1", TOM)
    sim.settle()
    for _ in range(40):
        sim.clock.step(minutes=15)
        sim.registry.touch("s1")
        sim.settle()
    assert (len(sim.live(ID)), sim.stopped, record_of(sim).generation) == (1, [], 1)


def test_a_user_who_comes_back_within_the_hour_gets_a_new_generation(sim):
    sim.registry.open("s1", TOM)
    sim.settle()
    sim.clock.step(minutes=22)
    sim.settle()
    assert not sim.live(ID)
    sim.registry.touch("s1")
    sim.settle()
    (task,) = sim.live(ID)
    assert record_of(sim).generation == 2
    assert task["taskArn"] not in sim.stopped


def test_a_message_a_second_before_the_stop_keeps_the_container(sim):
    sim.registry.open("s1", TOM)
    sim.settle()
    sim.clock.step(minutes=21, seconds=1)
    sim.round()
    assert record_of(sim).status == "stopping"
    sim.registry.touch("s1")
    sim.round()
    assert record_of(sim).status == "running"
    assert not sim.stopped
    sim.settle()
    assert len(sim.live(ID)) == 1


def test_no_start_beside_a_task_that_still_stops():
    sim = Simulation(timings=Timings(1, 1, 1, 30, 30, 30))
    sim.registry.open("s1", TOM)
    rounds(sim, 6)
    sim.clock.step(minutes=22)
    rounds(sim, 3)
    assert len(sim.stopped) == 1
    sim.registry.touch("s1")
    rounds(sim, 10)
    assert len(sim.launched) == 1, "its last push could race with a new container's"
    sim.clock.step(seconds=90)
    rounds(sim, 6)
    assert len(sim.launched) == 2


def test_launches_that_fail_are_spaced_and_end_when_capacity_is_back(sim):
    sim.registry.open("s1", TOM)
    sim.ecs.faults.refuse_placement(times=4)
    started = sim.clock()
    at = []
    for _ in range(200):
        before = sim.ecs.calls["RunTask"]
        sim.round()
        if sim.ecs.calls["RunTask"] > before:
            at.append((sim.clock() - started) // 1000)
        if sim.live(ID):
            break
        sim.clock.step(seconds=1)
    gaps = [b - a for a, b in pairwise(at)]
    assert gaps == [10, 20, 40, 80]
    sim.settle()
    assert record_of(sim).failure is None


def test_a_task_that_dies_again_and_again_is_restarted_ever_more_slowly(sim):
    sim.registry.open("s1", TOM)
    at: list[int] = []
    while len(at) < 8:
        sim.registry.touch("s1")
        sim.round()
        for task in sim.live(ID):
            at.append(sim.clock() // 1000)
            sim.ecs.exit_task(task["taskArn"], 1)
        sim.clock.step(seconds=1)
    gaps = [b - a for a, b in pairwise(at)]
    assert gaps[:5] == [10, 20, 40, 80, 160]
    assert gaps[-1] == 300
    failure = record_of(sim).failure
    assert failure is not None
    assert "TaskFailedToStart" in failure.reason


def test_a_hold_freezes_and_its_end_lets_go(sim):
    sim.registry.open("s1", TOM)
    sim.settle()
    sim.clock.step(minutes=10)
    row = sim.tables.rows["records"][ID]
    until = sim.clock() + 2 * HOUR
    sim.tables.put_row(
        "records",
        {**row, "hold": {"M": {"by": {"S": "ops"}, "reason": {"S": "looking"}, "until": {"N": str(until)}}}},
    )
    for _ in range(11):
        sim.clock.step(minutes=10)
        sim.settle()
    assert len(sim.live(ID)) == 1
    sim.clock.step(minutes=20)
    sim.settle()
    assert not sim.live(ID)


def test_a_pause_stops_starts_and_stops_but_not_counts(sim):
    sim.registry.open("s1", TOM)
    sim.tables.set_pause("ops", "migration", sim.clock() + HOUR)
    sim.tables.add_raw_count(ID, 5)
    sim.settle()
    assert not sim.live(ID)
    assert record_of(sim).session_count == 1
    sim.tables.clear_pause()
    sim.settle()
    assert len(sim.live(ID)) == 1


def waiting(sim, then=lambda: None):
    """A registry whose waiting lets time pass and rounds run."""

    def wait(seconds):
        sim.clock.step(seconds=seconds)
        then()

    return SessionRegistry(sim.tables, sim.policy, sim.clock, wait)


def test_get_or_create_waits_until_the_container_can_be_used(sim):
    container = waiting(sim, sim.round).get_or_create_container(TOM)
    (task,) = sim.live(ID)
    assert container.task_arn == task["taskArn"]
    assert container.container_ip
    again = waiting(sim).get_or_create_container(TOM)
    assert again == container
    assert len(sim.launched) == 1


def test_a_wish_that_nobody_follows_up_ends_by_itself(sim):
    waiting(sim, sim.round).get_or_create_container(TOM)
    sim.settle()
    sim.clock.step(minutes=27)
    sim.settle()
    sim.clock.step(minutes=21)
    sim.settle()
    assert not sim.live(ID), "nobody opened a session: the container goes after the idle timeout"


def test_get_or_create_says_why_there_is_none(sim):
    with pytest.raises(NotReadyInTime) as nobody:
        waiting(sim).get_or_create_container(TOM, 5_000)
    assert "is a controller running?" in nobody.value.why

    sim.ecs.faults.refuse_placement(times=50)
    with pytest.raises(LaunchFailed) as refused:
        waiting(sim, sim.round).get_or_create_container(TOM, 8_000)
    assert "Capacity is unavailable" in refused.value.why

    sim.tables.set_pause("ops", "migration", sim.clock() + HOUR)
    with pytest.raises(Held) as held:
        waiting(sim).get_or_create_container(TOM)
    assert held.value.todo == "wait, or: editctl unpause"


def test_a_hold_that_is_over_holds_nothing():
    assert not Hold("ops", "", until=5).in_force(5)


def test_stops_of_a_large_fleet_are_spread_and_starts_are_not_held_up():
    sim = Simulation(policy=Policy(stop_budget=3, stop_budget_share=0))
    for n in range(12):
        sim.registry.open(f"s{n}", ContainerIdentity("acme", f"site{n}", "tom"))
    sim.settle()
    sim.clock.step(minutes=22)
    sim.registry.open("new", TOM)
    rounds(sim, 4)
    assert len(sim.stopped) == 3
    assert len(sim.live(ID)) == 1
    for _ in range(6):
        sim.registry.touch("new")
        rounds(sim, 4, seconds=80)
    assert len(sim.stopped) == 12


def test_an_unreadable_row_protects_for_a_day_and_anew_after_it_was_mended(sim):
    sim.registry.open("s1", TOM)
    sim.settle()
    good = sim.tables.rows["sessions"]["s1"]
    bad = {**good, "lastActivity": {"S": "NaN"}}
    for _ in range(2):
        sim.tables.put_row("sessions", bad)
        for _ in range(23):
            sim.clock.step(hours=1)
            sim.round()
        assert len(sim.live(ID)) == 1
        before = sim.writes()
        sim.round()
        assert sim.writes() == before, "its note is written once"
        sim.tables.put_row("sessions", good | {"lastActivity": {"N": str(sim.clock())}})
        sim.round()
        assert not sim.tables.rows["notes"], "mended: the note is gone"
    sim.tables.put_row("sessions", bad)
    for _ in range(26):
        sim.clock.step(hours=1)
        sim.settle()
    assert not sim.live(ID), "after a day it counts as absent"
