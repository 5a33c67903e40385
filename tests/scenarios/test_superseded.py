"""A second task of ours whose agent holds a user's work: it is saved for good, then stopped, and never kept instead.

How there comes to be one: the original's getOrCreateContainer launches a task of its own and puts a whole record over
the one that named ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from controller.core.model import (
    MINUTE,
    SUPERSEDED_DRAIN,
    Action,
    ActionKind,
    DrainReason,
    Millis,
    OutcomeStatus,
    Reason,
    Step,
)
from controller.reconcile.reconciler import Round
from tests.faults.stories import CHANGES, TOM, overwritten, put_record
from tests.simulation import Simulation

ID = TOM.container_id


@dataclass
class Story:
    """A container in use whose record names another task than the one that holds its work."""

    sim: Simulation
    second: str
    """The ARN of the task that the record has passed by."""
    named: str
    seen: set[Reason] = field(default_factory=set)

    @property
    def is_live(self) -> bool:
        return self.second in {t["taskArn"] for t in self.sim.live(ID)}

    @property
    def stops(self) -> int:
        return self.sim.stopped.count(self.second)

    def decision(self) -> Action | None:
        """Return what would be done about the second task now."""
        actions = self.sim.controller.planner.view().plan.actions
        return next((a for a in actions if a.on_second_task), None)

    def round(self, *, seconds: float = 2) -> Round:
        done = self.sim.round()
        self.seen |= {a.reason for a in done.plan.actions if a.on_second_task}
        self.sim.clock.step(seconds=seconds)
        return done

    def until_it_is_stopped(
        self, *, at_most: Millis, each_minute: Callable[[], object] = lambda: None, touch: bool = True
    ) -> Millis:
        """Run a round a minute, the user working on, and return how long it took."""
        began = self.sim.clock()
        while not self.stops:
            if touch:
                self.sim.registry.touch("s1")
            each_minute()
            self.round(seconds=60)
            assert self.sim.clock() - began <= at_most, "it is never stopped"
        return self.sim.clock() - began - MINUTE


def superseded(sim: Simulation) -> Story:
    second, named = overwritten(sim)
    return Story(sim, second, named)


@pytest.fixture
def sim() -> Simulation:
    return Simulation(agents=True)


@pytest.fixture
def story(sim: Simulation) -> Story:
    return superseded(sim)


def test_its_work_is_saved_and_then_it_is_stopped(story: Story) -> None:
    agent = story.sim.agents.of(story.second)
    first = story.round()
    assert [o.action.step for o in first.outcomes if o.action.on_second_task] == [Step.DRAIN_SUPERSEDED]
    assert agent.drains.current == SUPERSEDED_DRAIN
    assert agent.frozen, "nothing is worked on that nobody will save"
    assert not story.stops

    second = story.round()
    (stop,) = [o for o in second.outcomes if o.action.on_second_task]
    assert (stop.status, stop.action.step, stop.action.drain_reason) == (
        OutcomeStatus.DONE,
        Step.STOP_SUPERSEDED,
        DrainReason.SUPERSEDED,
    )
    assert stop.action.message.endswith("saved edit/wip 0000000"), "the log says where the work is"
    assert (story.stops, agent.pushed, agent.receipt_at) == (1, CHANGES, CHANGES)

    story.sim.settle()
    assert [t["taskArn"] for t in story.sim.live(ID)] == [story.named]
    record = story.sim.tables.get_record(ID)
    assert record is not None
    assert record.task_arn == story.named


def test_while_it_saves_it_is_waited_for_and_the_container_itself_goes_on(story: Story) -> None:
    story.sim.agents.saving_until = story.sim.clock() + 3 * MINUTE
    took = story.until_it_is_stopped(at_most=10 * MINUTE)
    assert 3 * MINUTE <= took <= 4 * MINUTE
    assert story.seen == {Reason.SUPERSEDED, Reason.SAVING}


def test_a_save_that_fails_is_tried_again_for_two_hours_and_no_longer(story: Story) -> None:
    agent = story.sim.agents.of(story.second)
    story.sim.agents.remote_down = True
    asked = 0

    def count() -> None:
        nonlocal asked
        asked += agent.drains.wanted

    took = story.until_it_is_stopped(at_most=130 * MINUTE, each_minute=count)
    assert 120 * MINUTE <= took <= 121 * MINUTE
    assert 20 <= asked <= 26, "every five minutes"
    assert story.seen == {Reason.SUPERSEDED, Reason.SAVE_FAILED}
    assert agent.pushed == 0, "the remote was down to the end"


def test_the_remote_comes_back_and_it_is_stopped_with_everything_saved(story: Story) -> None:
    story.sim.agents.remote_down = True
    for _ in range(58):
        story.round(seconds=60)
    waits = story.decision()
    assert waits is not None
    assert (waits.kind, waits.deferred) == (ActionKind.DEFER, ActionKind.STOP)
    assert "its work is not saved: the remote is down; stopped all the same in 62 min" in waits.message
    story.sim.agents.remote_down = False
    took = story.until_it_is_stopped(at_most=10 * MINUTE)
    assert took <= 6 * MINUTE
    assert story.sim.agents.of(story.second).pushed == CHANGES


def test_one_whose_agent_does_not_answer_is_stopped_after_two_hours_and_sigterm_saves(story: Story) -> None:
    story.sim.agents.unreachable.add(story.second)
    took = story.until_it_is_stopped(at_most=130 * MINUTE)
    assert 120 * MINUTE <= took <= 121 * MINUTE
    assert story.seen == {Reason.SAVING, Reason.AGENT_UNREACHABLE, Reason.SUPERSEDED}
    assert story.sim.agents.of(story.second).pushed == CHANGES


def test_one_that_answers_after_all_is_saved_at_once(story: Story) -> None:
    story.sim.agents.unreachable.add(story.second)
    for _ in range(60):
        story.round(seconds=60)
    assert not story.stops
    story.sim.agents.unreachable.clear()
    assert story.until_it_is_stopped(at_most=5 * MINUTE) <= MINUTE
    assert story.sim.agents.of(story.second).receipt_at == CHANGES


def test_one_that_was_never_admitted_has_nothing_to_save_and_goes_at_once(sim: Simulation) -> None:
    sim.registry.open("s1", TOM)
    sim.settle()
    ghost = sim.launch(TOM, generation=1)
    sim.clock.step(seconds=5)
    sim.round()
    assert sim.stopped == [ghost]
    assert sim.agents.of(ghost).drains.current == 0, "nobody froze it first"
    # Nor is one waited for that has not even come up.
    early = sim.launch(TOM, generation=1)
    sim.agents.unreachable.add(early)
    sim.round()
    assert sim.stopped == [ghost, early]


def test_the_hold_is_counted_from_what_the_agent_says_whoever_asks(story: Story) -> None:
    """A controller that restarts every half hour gives a failing save no more time."""
    story.sim.agents.remote_down = True
    minutes = 0

    def restart() -> None:
        nonlocal minutes
        minutes += 1
        if minutes % 30 == 0:
            story.sim.agents.restart()
            story.sim.controller = story.sim.new_controller()

    took = story.until_it_is_stopped(at_most=130 * MINUTE, each_minute=restart)
    assert 120 * MINUTE <= took <= 121 * MINUTE


def test_a_restart_forgets_how_long_an_agent_was_silent_and_stops_it_later(story: Story) -> None:
    story.sim.agents.unreachable.add(story.second)
    for _ in range(60):
        story.sim.registry.touch("s1")
        story.round(seconds=60)
    story.sim.agents.restart()
    story.sim.controller = story.sim.new_controller()
    took = story.until_it_is_stopped(at_most=130 * MINUTE)
    assert 120 * MINUTE <= took <= 121 * MINUTE, "from the restart: less knowledge stops nothing earlier"


def test_a_hold_keeps_it_from_being_asked_and_from_being_stopped(story: Story) -> None:
    agent = story.sim.agents.of(story.second)
    story.sim.tables.set_pause("ops", "migration", story.sim.clock() + 30 * MINUTE)
    for _ in range(5):
        story.round(seconds=60)
    assert story.sim.agents.works(story.second), "nobody froze it"
    story.sim.tables.clear_pause()
    story.round()
    assert agent.drains.current == SUPERSEDED_DRAIN
    story.sim.tables.set_pause("ops", "migration", story.sim.clock() + 30 * MINUTE)
    for _ in range(5):
        story.round(seconds=60)
    assert not story.stops
    assert agent.frozen, "superseded is final: nobody works on there"
    story.sim.tables.clear_pause()
    story.round()
    assert (story.stops, agent.pushed) == (1, CHANGES + 1)


def test_no_new_task_starts_before_the_work_of_the_second_is_saved_and_it_is_gone(sim: Simulation) -> None:
    story = superseded(sim)
    sim.ecs.stop_by_hand(story.named)
    put_record(sim, {"containerStatus": {"S": "terminated"}, "generation": {"N": "1"}})
    sim.agents.saving_until = sim.clock() + MINUTE
    launched = set(sim.launched)
    while story.is_live:
        sim.registry.touch("s1")
        story.round(seconds=5)
        assert sim.launched == launched
    assert sim.agents.of(story.second).receipt_at == CHANGES
    sim.settle(most=20)
    (now,) = sim.live(ID)
    assert now["taskArn"] in sim.launched - launched


def test_two_controllers_at_once_ask_for_one_drain_and_harm_nothing(story: Story) -> None:
    sim, other = story.sim, story.sim.new_controller()
    sim.agents.remote_down = True
    for _ in range(20):
        story.round(seconds=10)
        other.round()
    agent = sim.agents.of(story.second)
    assert agent.drains.current == SUPERSEDED_DRAIN
    assert not story.stops
    sim.agents.remote_down = False
    for _ in range(40):
        story.round(seconds=10)
        other.round()
    sim.check()
    assert not story.is_live
    assert agent.receipt_at == agent.pushed == CHANGES
    assert [t["taskArn"] for t in sim.live(ID)] == [story.named]


def test_drains_that_it_had_while_it_was_named_stand_in_nobodys_way(sim: Simulation) -> None:
    """Its agent ignores the ids that were cancelled, and a receipt of before is none for what was done since."""
    sim.registry.open("s1", TOM)
    sim.settle()
    for _ in range(3):
        sim.clock.step(minutes=22)
        sim.round()
        sim.registry.touch("s1")
        sim.settle()
    story = superseded(sim)
    agent = sim.agents.of(story.second)
    assert agent.drains.cancelled == 3
    story.round()
    story.round()
    assert (story.stops, agent.receipt_at) == (1, CHANGES)
