"""What keeps a goal of `apply` open: a save under way, of the container's own task or of a second one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.cli.campaign import Campaign, Goal, State
from controller.core.explain import explain
from controller.core.model import (
    SUPERSEDED_DRAIN,
    AgentReport,
    DrainProgress,
    Launch,
    Outcome,
    OutcomeStatus,
    Plan,
    Save,
    World,
)
from controller.core.plan import compute_plan
from controller.core.policy import Policy
from tests.builders import NOW, TOM, ago, arn, drain, record, session, stopped, task, world

POLICY = replace(Policy(), agents=True)
KEYED = Launch(ago("1h"), "{}", "k1")
QUIET: dict[str, Any] = {"age": "22m", "session_count": 0, "empty_since": ago("21m"), "launch": KEYED}
SAVED = Save("saved", branch="edit/wip", commit="9c1e2f0aaaa", at=NOW)


def says(number: int, **more: Any) -> dict[str, Any]:
    return {"agents": {arn(number): AgentReport(arn(number), **{"admitted": True, **more})}}


def idle(progress: DrainProgress | None = None, **more: Any) -> World:
    """Return a container that is to be drained, or one that is drained and so far."""
    if progress is None and not more:
        return world(record(**QUIET), task(), **says(1))
    serves = {"drain_id": 1, "progress": progress} if progress else {}
    return world(record("draining", drain=drain(), **QUIET), task(), **says(1, **serves, **more))


def doubled(progress: DrainProgress | None = None, **more: Any) -> World:
    """Return a container in use beside which a second task runs."""
    serves = {"drain_id": SUPERSEDED_DRAIN, "drain_since": ago("5s"), "progress": progress} if progress else {}
    second = task(2, token_digest="d")
    return world(session(), record(launch=KEYED), task(), second, **says(2, **serves, **more))


def begun(seen: World) -> tuple[Campaign, Goal]:
    """Return the campaign of a world, its one goal stepped once."""
    campaign = Campaign.of(plan_of(seen))
    (goal,) = campaign.open
    campaign.note(Outcome(goal.action, OutcomeStatus.DONE, "the agent saves"))
    return campaign, goal


def plan_of(seen: World) -> Plan:
    return compute_plan(seen, POLICY, NOW)


def judged(campaign: Campaign, seen: World) -> None:
    campaign.judge(seen, plan_of(seen))


@pytest.mark.parametrize("case", [idle, doubled])
def test_a_save_that_is_under_way_is_waited_for(case):
    campaign, goal = begun(case())
    judged(campaign, case(DrainProgress.SAVING))
    assert goal.state is State.OPEN
    judged(campaign, case(DrainProgress.SAVED, save=SAVED))
    assert goal.state is State.OPEN
    assert len(campaign.restrict(plan_of(case(DrainProgress.SAVED, save=SAVED))).changes) == 1, "the stop belongs to it"


@pytest.mark.parametrize("case", [idle, doubled])
def test_an_agent_that_cannot_be_reached_from_here_is_left_to_the_running_controller(case):
    campaign, goal = begun(case())
    judged(campaign, case(unknown="timed out", unknown_since=NOW))
    assert goal.state is State.DEFERRED
    assert "does not answer (timed out)" in goal.message


@pytest.mark.parametrize("case", [idle, doubled])
def test_a_save_that_failed_ends_it(case):
    campaign, goal = begun(case())
    judged(campaign, case(DrainProgress.FAILED, save=replace(SAVED, state="failed", message="RemoteUnreachable")))
    assert goal.state is State.DEFERRED
    assert "RemoteUnreachable" in goal.message


def test_a_second_task_that_has_gone_is_done():
    campaign, goal = begun(doubled())
    judged(campaign, world(session(), record(launch=KEYED), task(), stopped(2)))
    assert (goal.state, goal.message) == (State.DONE, "stopped")


def explained(seen: World) -> tuple[str, ...]:
    found = explain(seen, plan_of(seen), TOM, POLICY, NOW, lambda at: f"{(at - NOW) // 60_000} min")
    assert found is not None
    return dict(found.parts)["next"]


def test_explain_says_why_a_second_task_is_still_there():
    waits, then = explained(doubled(DrainProgress.SAVING))
    assert waits.startswith("not yet stop (Saving): task 000000 is a second one: the record names 000000; its agent")
    assert then == "20 min drain, if nobody writes"
    (now, *_) = explained(doubled())
    assert now.startswith("now: drain (Superseded): task 000000 is a second one: the record names 000000; its work is")
