"""What operators ask for, as values: holds and drains, revisions, room for stops, and what a plan rested on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.core import ledger
from controller.core.conditions import conditions_of, summaries
from controller.core.fingerprint import basis, changes, fingerprint
from controller.core.forecast import forecast
from controller.core.identity import ContainerIdentity
from controller.core.ledger import Absent
from controller.core.model import Action, Drain, DrainReason, Hold, Reason
from controller.core.plan import compute_plan
from controller.core.policy import Policy, stops_left
from controller.core.revisions import is_outdated, short_revision
from tests.builders import NOW, TOM, ago, arn, drain, identity, ms, record, session, task, world
from tests.fakes.clock import FakeClock
from tests.fakes.tables import FakeTables

FAMILY = "arn:aws:ecs:eu-west-1:123456789012:task-definition/webordinary-edit"


@pytest.mark.parametrize(
    ("runs", "newest", "outdated"),
    [
        (":1", f"{FAMILY}:2", True),
        (":3", f"{FAMILY}:2", True),
        (":2", f"{FAMILY}:2", False),
        (":1", "", False),
        ("-acme-blog:1", f"{FAMILY}:2", False),
    ],
    ids=["older", "one that was taken back", "the same", "nobody knows", "another family"],
)
def test_outdated(runs: str, newest: str, outdated: bool) -> None:
    assert is_outdated(task(task_definition=FAMILY + runs), newest) is outdated


def test_what_is_not_there_is_not_outdated() -> None:
    assert not is_outdated(None, f"{FAMILY}:2")
    assert not is_outdated(task(task_definition=f"{FAMILY}:1", last_status="STOPPED"), f"{FAMILY}:2")
    assert short_revision(f"{FAMILY}:17") == "webordinary-edit:17"


def test_outdated_is_a_condition_and_no_reason_to_act() -> None:
    seen = world(session(), record(), task(task_definition=f"{FAMILY}:1"), newest_definition=f"{FAMILY}:2")
    plan = compute_plan(seen, Policy(), NOW)
    assert plan.changes == ()
    [summary] = summaries(plan, seen.newest_definition)
    assert summary.outdated
    [condition] = [c for c in summary.conditions if c.type == "Outdated"]
    assert condition.message.endswith("runs webordinary-edit:1, a new one would run webordinary-edit:2")
    assert [c.status for c in conditions_of(list(plan.actions)) if c.type == "Outdated"] == ["Unknown"]


def test_a_requested_drain_goes_by_the_fence_unless_it_is_told_otherwise() -> None:
    there = record()
    careful = ledger.request_drain(there, NOW, NOW + 1, even_if_active=False)
    forced = ledger.request_drain(there, NOW, NOW + 1, even_if_active=True)
    assert set(careful.expect) > set(forced.expect)
    assert {c.path for c in set(careful.expect) - set(forced.expect)} == {
        ("lastActivity",),
        ("sessionCount",),
        ("wantedUntil",),
    }
    assert forced.set[("drain",)]["reason"] == DrainReason.REQUESTED


def test_a_held_record_is_made_only_where_there_is_none() -> None:
    tables = FakeTables(FakeClock())
    write = ledger.hold_new(identity(TOM), "ann", "demo", NOW + 1)
    assert write.expect == (Absent(("containerId",)),)
    made = tables.write(write)
    assert (made.identity, made.status, made.hold and made.hold.reason) == (
        ContainerIdentity("acme", "blog", "tom"),
        None,
        "demo",
    )
    plan = compute_plan(world(made, session()), Policy(), NOW)
    assert [str(a.reason) for a in plan.actions if a.reason is Reason.HELD] == ["Held"]


def test_room_for_stops_counts_what_was_stopped_and_what_waits() -> None:
    policy = Policy(stop_budget=3)
    stopped = Drain(1, DrainReason.IDLE, ago("2m"), stopping_at=ago("1m"))
    assert stops_left(world(), policy, NOW) == 3
    assert stops_left(world(record("terminated", drain=stopped)), policy, NOW) == 2
    assert stops_left(world(record("terminated", drain=stopped)), policy, NOW + ms("5m")) == 3
    waiting = world(record("terminated", drain=stopped), record("draining", "acme-blog-eva", drain=drain()))
    assert stops_left(waiting, policy, NOW) == 1
    assert stops_left(waiting, replace(policy, stop_budget=1), NOW) == 0


def test_what_a_decision_rested_on_can_be_compared() -> None:
    def action(*things: object) -> Action:
        [only] = compute_plan(world(*things), Policy(), NOW).changes
        return only

    before = action(session(age="22m"), record(age="22m"), task())
    later = action(session(age="22m"), record(age="21.9m", hold=Hold("ann", "demo", ago("1m"))), task())
    assert changes(basis(before), before) == ()
    found = {c.name: (c.before, c.now) for c in changes(basis(before), later)}
    assert found == {"lastActivity": (ago("22m"), ago("21.9m")), "heldUntil": (None, ago("1m"))}
    assert fingerprint(before) != fingerprint(later)


def test_a_forecast_is_the_plan_of_a_later_time() -> None:
    seen = world(session(age="1m"), record(age="1m"), task(age="2h"))
    assert compute_plan(seen, Policy(), NOW).changes == ()
    ahead = forecast(seen, Policy(), NOW + ms("30m"))
    assert [(str(a.kind), a.reason) for a in ahead.changes] == [("drain", Reason.IDLE)]
    assert ahead.at == NOW + ms("30m")


def test_a_forecast_of_many_stops_says_which_come_first() -> None:
    things = [
        part
        for n in range(12)
        for part in (
            session(f"s{n}", f"acme-blog-u{n:02}", age="1m"),
            record(container=f"acme-blog-u{n:02}", age="1m", task_arn=arn(n + 10)),
            task(n + 10, f"acme-blog-u{n:02}"),
        )
    ]
    ahead = forecast(world(*things), Policy(), NOW + ms("30m"))
    assert ahead.counts()["drain"] == 10
    assert {a.reason for a in ahead.actions if a.deferred} == {Reason.BUDGET_EXHAUSTED}
