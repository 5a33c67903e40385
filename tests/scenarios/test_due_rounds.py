"""Looks at a few containers, and the hints that call for them: quick when they come, harmless when they are wrong."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from controller.core.model import MINUTE, SECOND, ContainerRecord, Millis
from controller.core.reads import Hint
from controller.errors import Unavailable
from controller.reconcile.leadership import Leadership
from controller.reconcile.listen import STALE_AFTER, Listener
from controller.reconcile.loop import Loop
from tests.builders import identity
from tests.faults.stories import CHANGES, overwritten
from tests.simulation import Simulation

TOM = identity("acme-blog-tom")
POLL, RESYNC = 10 * SECOND, 10 * MINUTE


class Queue:
    """A hint queue in memory: what is written hints at itself after `delay`, unless a test loses or doubles it."""

    def __init__(self, simulation: Simulation, *, delay: Millis = 100) -> None:
        self.clock = simulation.clock
        self.delay = delay
        self.deleted: list[str] = []
        self.error: Exception | None = None
        self._numbers = iter(range(1_000_000))
        self._waiting: list[tuple[Millis, Hint]] = []

    def send(self, hint: Hint, delay: Millis | None = None) -> str:
        receipt = f"r{next(self._numbers)}"
        at = self.clock() + (self.delay if delay is None else delay)
        self._waiting.append((at, replace(hint, receipts=frozenset({receipt}))))
        return receipt

    def receive(self) -> list[Hint]:
        if self.error:
            raise self.error
        now = self.clock()
        come = [hint for at, hint in self._waiting if at <= now]
        self._waiting = [(at, hint) for at, hint in self._waiting if at > now]
        return come

    def next_at(self) -> Millis | None:
        return min((at for at, _ in self._waiting), default=None)

    def delete(self, receipts: Any) -> None:
        self.deleted += receipts


class Life:
    """A loop with its listener on one clock: waiting lets happen what is due, and takes in the hints that have come."""

    def __init__(self, simulation: Simulation, *, hints: bool = True) -> None:
        self.simulation = simulation
        self.clock = simulation.clock
        self.queue = Queue(simulation)
        self.controller = simulation.new_controller()
        self.leadership = Leadership(simulation.tables, "a", self.clock)
        self.listener = Listener(self.queue, self.controller.due, lambda: self.leadership.leads, self.clock)
        self.loop = Loop(
            self.controller,
            self.leadership,
            self,
            self.clock,
            POLL,
            resync=RESYNC,
            hints=self.listener if hints else None,
        )
        self._events: list[tuple[Millis, Callable[[], object]]] = []
        self._woken = False
        self._end: Millis = 0

    # What a loop needs of its stop

    @property
    def requested(self) -> bool:
        return self.clock() >= self._end

    def wake(self) -> None:
        self._woken = True

    def wait(self, seconds: float) -> None:
        until = min(self.clock() + max(round(seconds * SECOND), 1), self._end)
        while self.clock() < until and not self._is_awake():
            self.listener.turn()
            if self._is_awake():
                break
            times = [until, self.queue.next_at() or until, *(at for at, _ in self._events)]
            self.clock.step(ms=max(min(times) - self.clock(), 1))
            self._happen()
        self._woken = False

    def _is_awake(self) -> bool:
        return self._woken

    # What happens

    def at(self, when: Millis, event: Callable[[], object]) -> None:
        self._events.append((when, event))

    def _happen(self) -> None:
        for when, event in sorted(self._events, key=lambda e: e[0]):
            if when <= self.clock():
                self._events.remove((when, event))
                event()

    def run(self, milliseconds: Millis) -> None:
        self._end = self.clock() + milliseconds
        self.loop.run()
        self.simulation.check()

    def open(self, session_id: str = "s1", owner=TOM, *, hint: bool = True) -> None:
        self.simulation.registry.open(session_id, owner)
        if hint:
            self.queue.send(Hint(owner.container_id, session_ids=frozenset({session_id})))


def events(log: io.StringIO, name: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, log.getvalue().splitlines()) if line["event"] == name]


def record_of(simulation: Simulation, owner: Any = TOM) -> ContainerRecord:
    record = simulation.tables.get_record(owner.container_id)
    assert record is not None
    return record


def started_at(simulation: Simulation, container_id: str) -> Millis:
    record = simulation.tables.get_record(container_id)
    assert record is not None
    assert record.launch is not None
    return record.launch.requested_at


def test_a_hint_starts_a_container_at_once_and_its_message_is_deleted():
    simulation = Simulation()
    life = Life(simulation)
    life.run(3 * POLL)
    scans = simulation.tables.calls["read_sessions"]
    began = simulation.clock()
    life.at(began + 3_333, life.open)
    life.run(20 * SECOND)
    assert started_at(simulation, TOM.container_id) - (began + 3_333) <= 100 + 50
    assert record_of(simulation).status == "running"
    assert life.queue.deleted == ["r0"]
    # Nobody looked at everything for it.
    assert simulation.tables.calls["read_sessions"] == scans


def test_a_row_that_the_index_does_not_show_yet_is_found_by_the_hint_that_names_it():
    simulation = Simulation()
    simulation.tables.session_lag = 5 * MINUTE
    life = Life(simulation)
    life.run(30 * SECOND)
    life.open()
    life.run(20 * SECOND)
    assert record_of(simulation).status == "running"
    # And a row that the index still shows is known to be gone.
    simulation.registry.release("s1")
    life.queue.send(Hint(TOM.container_id, session_ids=frozenset({"s1"})))
    life.run(20 * SECOND)
    assert record_of(simulation).session_count == 0


def test_a_lost_hint_costs_a_resync_and_nothing_else():
    simulation = Simulation()
    life = Life(simulation)
    life.run(30 * SECOND)
    life.open(hint=False)
    life.run(RESYNC + POLL)
    assert record_of(simulation).status == "running"


def test_hints_that_are_doubled_late_or_of_nobody_change_nothing():
    simulation = Simulation()
    life = Life(simulation)
    life.run(30 * SECOND)
    life.open()
    for delay in (0, 0, 3 * SECOND, 2 * MINUTE):
        life.queue.send(Hint(TOM.container_id, session_ids=frozenset({"s1", "s9"})), delay)
    life.queue.send(
        Hint("nobody-ever-was", task_arns=frozenset({"arn:nonsense", simulation.launch(identity("x-y-z"))}))
    )
    life.run(3 * MINUTE)
    writes = simulation.writes()
    life.queue.send(Hint(TOM.container_id, session_ids=frozenset({"s1"})), 0)
    life.run(30 * SECOND)
    assert simulation.writes() - writes <= 30 // 5 + 1  # the lease, every five seconds
    assert len(simulation.live(TOM.container_id)) == 1
    assert simulation.ecs.calls["RunTask"] == 2


def test_without_good_receives_it_polls_and_says_so(log: io.StringIO):
    simulation = Simulation()
    life = Life(simulation)
    life.run(MINUTE)
    life.queue.error = Unavailable("ReceiveMessage failed at AWS", "HTTP 503", code="InternalError")
    life.run(STALE_AFTER + SECOND)
    life.open(hint=False)
    life.run(POLL + 5 * SECOND)
    assert record_of(simulation).status == "running"
    life.queue.error = None
    ann = identity("acme-blog-ann")
    life.open("s2", ann, hint=False)
    life.run(POLL + 5 * SECOND)
    # Who came while nothing was received is found by one more look at everything.
    assert record_of(simulation, ann).status == "running"
    said = [e["message"].partition(";")[0] for e in events(log, "hints")]
    assert said == ["are received", "do not come", "are received"]
    assert len([e for e in events(log, "error") if "hints cannot be received" in e["message"]]) == 1


def test_a_round_that_fails_loses_no_hint():
    simulation = Simulation()
    life = Life(simulation)
    life.run(30 * SECOND)
    simulation.tables.fail("read_sessions_of", times=3)
    life.open()
    life.run(30 * SECOND)
    assert record_of(simulation).status == "running"
    assert life.queue.deleted == ["r0"]


def test_whoever_does_not_lead_receives_nothing():
    simulation = Simulation()
    life = Life(simulation)
    other = Leadership(simulation.tables, "b", simulation.clock)
    other.tick()
    life.open()
    life.run(10 * SECOND)
    assert (life.queue.deleted, simulation.live()) == ([], [])
    other.release()
    life.run(10 * SECOND)
    assert len(simulation.live()) == 1


def test_deadlines_need_no_look_at_everything():
    simulation = Simulation()
    life = Life(simulation)
    life.open()
    life.run(RESYNC)
    simulation.registry.touch("s1")
    touched = simulation.clock()
    life.run(20 * MINUTE + 2 * MINUTE)
    record = record_of(simulation)
    assert record.drain is not None
    due = touched + simulation.policy.idle_timeout + simulation.policy.clock_slack
    assert due <= record.drain.requested_at <= due + SECOND
    assert record.status == "terminated"


def test_activity_is_not_looked_at_while_the_container_is_in_use_and_revives_one_that_has_stopped():
    simulation = Simulation()
    life = Life(simulation)
    life.open()
    life.run(2 * MINUTE)
    touch = Hint(TOM.container_id, session_ids=frozenset({"s1"}), routine=True)
    looks = simulation.tables.calls["read_records_of"]
    for minute in range(1, 30):
        life.at(simulation.clock() + minute * MINUTE, partial(simulation.registry.touch, "s1"))
        life.queue.send(touch, minute * MINUTE)
    life.run(31 * MINUTE)
    assert simulation.tables.calls["read_records_of"] - looks <= 2
    assert len(life.queue.deleted) == 30
    life.run(30 * MINUTE)
    assert simulation.live() == []
    simulation.registry.touch("s1")
    life.queue.send(touch)
    life.run(SECOND)
    assert len(simulation.live()) == 1


def test_at_rest_a_few_looks_an_hour_are_all():
    simulation = Simulation()
    life = Life(simulation)
    for n in range(20):
        life.open(f"s{n}", identity(f"acme-blog-user{n}"))
    life.run(2 * MINUTE)
    before = dict(simulation.tables.calls), dict(simulation.ecs.calls)
    for minute in range(1, 60, 5):
        for n in range(20):
            at = simulation.clock() + minute * MINUTE
            life.at(at, partial(simulation.registry.touch, f"s{n}"))
    life.run(60 * MINUTE)
    assert simulation.tables.calls["read_sessions"] - before[0]["read_sessions"] <= 6
    assert simulation.ecs.calls["ListTasks"] - before[1]["ListTasks"] <= 12
    assert len(simulation.live()) == 20


@pytest.mark.parametrize("seed", range(12))
def test_whatever_becomes_of_the_hints_it_ends_as_without_them(seed: int):
    """Sessions open, are touched and close; each hint is lost, doubled, late or in time: the same containers run."""
    chance = random.Random(seed)
    simulation = Simulation()
    life = Life(simulation)
    owners = [identity(f"acme-blog-user{n}") for n in range(6)]
    open_now: dict[str, Any] = {}

    def hint(owner: Any, session_id: str) -> None:
        for _ in range(chance.choice([0, 1, 1, 1, 2])):
            named = frozenset({session_id}) if chance.random() < 0.8 else frozenset()
            life.queue.send(Hint(owner.container_id, session_ids=named), chance.choice([10, 200, 4_000, 70_000]))

    def write(number: int) -> None:
        owner = chance.choice(owners)
        mine = [i for i, o in open_now.items() if o == owner]
        if mine and chance.random() < 0.5:
            session_id = chance.choice(mine)
            if chance.random() < 0.4:
                del open_now[session_id]
                simulation.registry.release(session_id)
            else:
                simulation.registry.touch(session_id)
        else:
            session_id = f"s{number}"
            open_now[session_id] = owner
            simulation.registry.open(session_id, owner)
        hint(owner, session_id)

    began = simulation.clock()
    for number in range(60):
        life.at(began + chance.randrange(40 * MINUTE), partial(write, number))
    life.run(40 * MINUTE + RESYNC + MINUTE)
    polled = simulation.new_controller().planner.twice().plan
    assert [(a.container_id, a.reason) for a in polled.changes] == []
    for owner in owners:
        record = simulation.tables.get_record(owner.container_id)
        if record:
            assert record.session_count == sum(1 for o in open_now.values() if o == owner)


def test_a_task_that_came_up_after_ecs_said_it_could_not_place_it_is_seen_before_the_next_launch():
    simulation = Simulation()
    life = Life(simulation)
    life.run(30 * SECOND)
    simulation.ecs.faults.refuse_placement("RESOURCE:MEMORY", appears_after_ms=6 * SECOND)
    life.open()
    life.run(3 * MINUTE)
    ghost, real = sorted(simulation.tasks(), key=lambda t: t["createdAt"])
    assert ghost["stoppedAt"] * SECOND <= started_at(simulation, TOM.container_id)
    assert [t["taskArn"] for t in simulation.live()] == [real["taskArn"]]


def with_a_second_task() -> tuple[Life, str]:
    """A life in which the original's call has overwritten a record, so that the task with the work is a second one."""
    simulation = Simulation(agents=True)
    life = Life(simulation)
    life.open()
    life.run(20 * SECOND)
    second, named = overwritten(simulation)
    life.queue.send(Hint(TOM.container_id, task_arns=frozenset({named})))
    return life, second


def test_a_second_task_that_saves_is_looked_at_every_two_seconds_and_nothing_else_is():
    life, second = with_a_second_task()
    simulation = life.simulation
    began, scans = simulation.clock(), simulation.tables.calls["read_sessions"]
    looks = simulation.tables.calls["read_records_of"]
    simulation.agents.saving_until = began + MINUTE
    life.run(MINUTE - SECOND)
    assert simulation.agents.of(second).frozen
    assert simulation.stopped == []
    assert 28 <= simulation.tables.calls["read_records_of"] - looks <= 33
    life.run(4 * SECOND)
    assert simulation.stopped == [second]
    assert simulation.agents.of(second).receipt_at == CHANGES
    assert simulation.tables.calls["read_sessions"] == scans, "nobody looked at everything for it"
    # Then there is nothing to be looked at so often.
    life.run(30 * SECOND)
    looks = simulation.tables.calls["read_records_of"]
    life.run(MINUTE)
    assert simulation.tables.calls["read_records_of"] - looks <= 1


def test_a_second_task_whose_save_failed_is_asked_again_after_five_minutes_without_a_look_at_everything():
    life, second = with_a_second_task()
    simulation = life.simulation
    agent = simulation.agents.of(second)
    simulation.agents.remote_down = True
    life.run(30 * SECOND)
    assert agent.drains.failed is not None
    failed_at, looks = agent.drains.failed.at, simulation.tables.calls["read_records_of"]
    life.at(failed_at + 4 * MINUTE, lambda: setattr(simulation.agents, "remote_down", False))
    life.run(4 * MINUTE)
    assert simulation.tables.calls["read_records_of"] - looks <= 3, "it is known when to ask again"
    assert simulation.stopped == []
    scans = simulation.tables.calls["read_sessions"]
    life.run(MINUTE)
    assert simulation.stopped == [second]
    assert agent.receipt_at == CHANGES
    assert simulation.tables.calls["read_sessions"] == scans


def test_a_second_task_whose_agent_is_silent_is_looked_at_by_itself_until_its_time_is_over():
    life, second = with_a_second_task()
    simulation = life.simulation
    simulation.agents.unreachable.add(second)
    began = simulation.clock()
    for minute in range(5, 130, 5):
        life.at(began + minute * MINUTE, partial(simulation.registry.touch, "s1"))
    life.run(119 * MINUTE)
    assert simulation.stopped == []
    life.run(2 * MINUTE)
    assert simulation.stopped == [second]
    assert simulation.agents.of(second).pushed == CHANGES, "by the SIGTERM"


def test_a_controller_that_has_just_started_finds_a_second_task_that_saves():
    life, second = with_a_second_task()
    simulation = life.simulation
    simulation.agents.saving_until = simulation.clock() + 20 * SECOND
    life.run(10 * SECOND)
    assert simulation.agents.of(second).frozen
    life.leadership.release()
    simulation.agents.restart()
    again = Life(simulation)
    again.run(15 * SECOND)
    assert simulation.stopped == [second]
    assert simulation.agents.of(second).receipt_at == CHANGES
