"""A controller may die at any call: whoever goes on ends where a controller that never died would have ended."""

import pytest

from controller.core.model import OutcomeStatus
from tests.faults.interception import Crash, CrashAt, Mode
from tests.faults.stories import (
    ALL,
    CHANGES,
    Story,
    cold_start,
    half_stopped,
    idle,
    orphan,
    overwritten,
    refused,
    running,
    stopped_by_hand,
)
from tests.simulation import Simulation, container_of


def outcome(sim: Simulation) -> dict[str, object]:
    """Return what matters of a world at rest: what runs for whom, and what the records say."""
    records = {key: sim.tables.get_record(key) for key in sim.tables.rows["records"]}
    return {
        "live": sorted(container_of(t) for t in sim.live()),
        "records": {
            key: (str(r.status), r.session_count or 0, bool(r.task_arn)) for key, r in records.items() if r is not None
        },
        "named": sorted(
            str(r.task_arn) in {t["taskArn"] for t in sim.live()} for r in records.values() if r and r.task_arn
        ),
    }


def at_rest(sim: Simulation) -> dict[str, object]:
    sim.settle(most=40)
    sim.clock.step(seconds=15)
    sim.settle(most=40)
    return outcome(sim)


def calls_of(story: Story) -> list[str]:
    """Return every call of the controller from the story's world to rest."""
    sim = Simulation()
    story(sim)
    counting = CrashAt()
    sim.controller = sim.new_controller(counting.wrap)
    at_rest(sim)
    return counting.calls


def crashed(story: Story, crashes: list[tuple[int, Mode]]) -> dict[str, object]:
    """Run the story with controllers that die at these calls, one after the other, each followed by a fresh one."""
    sim = Simulation()
    story(sim)
    for n, mode in crashes:
        around = CrashAt(n, mode)
        sim.controller = sim.new_controller(around.wrap)
        try:
            at_rest(sim)
        except Crash:
            sim.check()
            sim.clock.step(seconds=1)
    sim.controller = sim.new_controller()
    return at_rest(sim)


@pytest.mark.parametrize("story", ALL, ids=lambda s: s.__name__)
def test_a_crash_at_every_call_in_every_mode(story):
    clean = Simulation()
    story(clean)
    expected = at_rest(clean)
    calls = calls_of(story)
    writing = [n for n, name in enumerate(calls) if name in ("write", "run_task", "stop_task", "tag_resource")]
    assert writing or story.__name__ == "running"
    last = max(writing, default=0) + 3
    for n in range(min(last, len(calls))):
        for mode in Mode:
            assert crashed(story, [(n, mode)]) == expected, f"{story.__name__}, call {n} ({calls[n]}), {mode}"


@pytest.mark.parametrize("story", [cold_start, idle, half_stopped, orphan], ids=lambda s: s.__name__)
def test_every_pair_of_crashes(story):
    clean = Simulation()
    story(clean)
    expected = at_rest(clean)
    calls = calls_of(story)
    writing = [n for n, name in enumerate(calls) if name in ("write", "run_task", "stop_task")]
    near = sorted({m for n in writing for m in (n, n + 1)})
    for first in near:
        for second in near:
            for mode in (Mode.BEFORE, Mode.REPLY_LOST):
                got = crashed(story, [(first, mode), (second, mode)])
                assert got == expected, f"{story.__name__}, calls {first} and {second}, {mode}"


def overwritten_and_crashed(mode: Mode) -> set[str]:
    """Die at each call while a second task is saved and stopped; return the calls at which somebody died."""
    died: set[str] = set()
    for n in range(200):
        sim = Simulation(agents=True)
        second, named = overwritten(sim)
        around = CrashAt(n, mode)
        sim.controller = sim.new_controller(around.wrap)
        try:
            sim.settle(most=40)
        except Crash:
            died.add(around.calls[n])
            sim.clock.step(seconds=1)
        sim.agents.restart()
        sim.controller = sim.new_controller()
        sim.settle(most=40)
        agent = sim.agents.of(second)
        assert agent.receipt_at == agent.pushed == agent.work == CHANGES, f"call {n}, {mode}: work was lost"
        assert [t["taskArn"] for t in sim.live()] == [named], f"call {n}, {mode}"
        assert set(sim.stopped) == {second}, f"call {n}, {mode}"
        if len(around.calls) <= n:
            break
    return died


@pytest.mark.parametrize("mode", list(Mode))
def test_a_crash_at_every_call_while_a_second_task_is_saved(mode):
    assert {"ask", "drain", "get_record", "stop_task"} <= overwritten_and_crashed(mode)


def test_the_stories_do_something():
    """A story whose world is at rest already would show nothing."""
    for story in ALL:
        sim = Simulation()
        story(sim)
        done = [o for o in sim.round().outcomes if o.status is OutcomeStatus.DONE]
        quiet = story in (running, orphan, refused, stopped_by_hand)
        assert bool(done) != quiet, story.__name__
