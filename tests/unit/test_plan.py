"""The decision table: a world in, the actions with their reasons out."""

# ruff: noqa: E501 - a row of the decision table is one line

from dataclasses import replace
from typing import Any

import pytest

from controller.core.identity import ContainerIdentity
from controller.core.model import (
    SUPERSEDED_DRAIN,
    ActionKind,
    AgentReport,
    ContainerRecord,
    Declaration,
    DrainProgress,
    Launch,
    Quality,
    Quarantined,
    Reason,
    RunPolicy,
    Save,
    Session,
    Sight,
    Step,
    World,
)
from controller.core.plan import agents_to_ask, compute_plan, needs_second_look
from controller.core.policy import Policy
from tests.builders import (
    NOW,
    TOM,
    ago,
    arn,
    drain,
    failure,
    hold,
    identity,
    ms,
    original_session,
    partly,
    record,
    session,
    stopped,
    stopping,
    task,
    world,
)

POLICY = Policy()
EMPTY: dict[str, Any] = {"session_count": 0, "empty_since": ago("21m")}
QUIET = "22m"


def decisions(seen: World, policy: Policy = POLICY) -> list[str]:
    """Return each action as `kind step reason`, in the plan's order."""
    return [f"{a.kind} {a.step} {a.reason}" for a in compute_plan(seen, policy, NOW).actions]


def always(**more):
    return Declaration("uid", run_policy=RunPolicy.ALWAYS, **more)


def stop_declared(**more):
    return Declaration("uid", run_policy=RunPolicy.STOPPED, **more)


TABLE = [
    # no live task
    ("nothing at all", world(), []),
    ("active session, nothing else", world(session()), ["start claim SessionActive"]),
    ("original session, nothing else", world(original_session(age="3h")), ["start claim SessionActive"]),
    ("active session, terminated", world(session(), record("terminated")), ["start claim SessionActive"]),
    ("active session, failed and due", world(session(), record("failed", failure=failure(retry_in="0s"))), ["start claim SessionActive"]),
    ("active session, failed, not due", world(session(), record("failed", failure=failure())), ["defer none BackingOff"]),
    ("quiet session, terminated", world(session(age=QUIET), record("terminated", age=QUIET)), ["keep none Stopped"]),
    ("no session, terminated", world(record("terminated", session_count=0)), ["keep none Stopped"]),
    ("asked for, terminated", world(record("terminated", session_count=0, wanted_until=NOW + ms("2m"))), ["start claim Wanted"]),
    ("asked for too far ahead is a wrong clock", world(record("terminated", session_count=0, wanted_until=NOW + ms("2d"))), ["keep none Stopped"]),
    ("declared Always", world(record("terminated", session_count=0, declared=always())), ["start claim Declared"]),
    ("declared Stopped, active session", world(session(), record("terminated", declared=stop_declared())), ["keep none Stopped"]),
    ("wanted, a task still stops", world(session(), record("terminated"), stopping(9)), ["defer none StopInProgress"]),
    ("starting, no ARN, wanted", world(session(), record("starting", task_arn=None)), ["start runTask LaunchUnfinished"]),
    ("starting, no ARN, not wanted", world(record("starting", task_arn=None, **EMPTY)), ["start runTask LaunchUnfinished"]),
    ("starting, no ARN, its task is listed", world(session(), record("starting", task_arn=None), task(7)), ["start recordArn LaunchUnfinished"]),
    ("starting, no ARN, its task stops already", world(session(), record("starting", task_arn=None), stopping(7)), ["start recordArn LaunchUnfinished"]),
    ("starting, no ARN, its task died", world(session(), record("starting", task_arn=None), stopped(7)), ["record failed LaunchFailed"]),
    ("starting, no ARN, nothing to repeat", world(session(), record("starting", task_arn=None, launch=None)), ["record failed LaunchFailed"]),
    ("starting, no ARN, a task of an older generation", world(session(), record("starting", task_arn=None, generation=2), task(7)), ["start runTask LaunchUnfinished", "drain stopSuperseded Superseded"]),
    ("running, not listed", world(session(), record()), ["defer none ListLag"]),
    ("running, not listed, not wanted", world(record(age=QUIET, **EMPTY)), ["keep none ListLag"]),
    ("running, MISSING, launched lately", world(session(), record(launched="2m"), missing=frozenset({arn(1)})), ["defer none ListLag"]),
    ("running, MISSING, launched long ago", world(session(), record(), missing=frozenset({arn(1)})), ["record failed TaskGone"]),
    ("running, STOPPED, wanted", world(session(), record(), stopped()), ["record failed TaskGone"]),
    ("running, STOPPED, not wanted", world(record(age=QUIET, **EMPTY), stopped()), ["record terminated TaskStopped"]),
    ("draining, STOPPED, wanted", world(session(), record("draining"), stopped()), ["record terminated TaskStopped"]),
    ("stopping, STOPPED", world(record("stopping", age=QUIET, **EMPTY), stopped()), ["record terminated TaskStopped"]),
    ("stopping after a time-out, STOPPED", world(session(), record("stopping", drain=drain("LaunchTimedOut")), stopped()), ["record failed LaunchTimedOut"]),
    ("running, no ARN: what a foreign hand left", world(session(), record("running", task_arn=None)), ["record terminated RecordBehind"]),
    # the named one lives
    ("agrees", world(session(), record(), task()), ["keep none InUse"]),
    ("status behind", world(session(), record("starting"), task()), ["record correct RecordBehind"]),
    ("status behind, not wanted, in its grace", world(record("starting", age="2m", session_count=0, empty_since=ago("2m")), task()), ["record correct RecordBehind"]),
    ("status behind, not wanted", world(record("starting", age=QUIET, **EMPTY), task()), ["drain beginDrain NoSessions"]),
    ("the record names another controller's task", world(session(), record(), task(ownership="foreign")), ["hold none Foreign"]),
    ("stopping, and the task has another controller's mark", world(record("stopping", **EMPTY), task(ownership="foreign")), ["hold none Foreign"]),
    ("address behind", world(session(), record(container_ip="10.9.9.9"), task()), ["record correct RecordBehind"]),
    ("starting, not ready yet", world(session(), record("starting", launched="2m"), task(last_status="PENDING", ip=None)), ["keep none Starting"]),
    ("starting, running without an address", world(session(), record("starting", launched="2m"), task(ip=None)), ["keep none Starting"]),
    ("no network interface at all", world(session(), record("starting", launched="2m"), task(ip=None, has_interface=False)), ["record correct RecordBehind"]),
    ("starting for too long", world(session(), record("starting", launched="11m"), task(last_status="PENDING", ip=None, age="11m")), ["drain beginDrain LaunchTimedOut"]),
    ("starting for too long, nobody waits", world(record("starting", launched="11m", **EMPTY), task(last_status="PENDING", ip=None)), ["drain beginDrain LaunchTimedOut"]),
    ("quiet for 19 min", world(session(age="19m"), record(age="19m"), task()), ["keep none InUse"]),
    ("quiet for 20 min: the slack for a writer's clock", world(session(age="20.5m"), record(age="20.5m"), task()), ["keep none InUse"]),
    ("quiet for 22 min", world(session(age=QUIET), record(age=QUIET), task()), ["drain beginDrain Idle"]),
    ("quiet rows, the record was touched", world(session(age=QUIET), record(age="3m"), task()), ["keep none IdleGrace"]),
    ("quiet, launched lately", world(session(age=QUIET), record(age=QUIET, launched="5m"), task(age="5m")), ["keep none IdleGrace"]),
    ("a shorter idle timeout is declared", world(session(age="7m"), record(age="7m", declared=Declaration("u", idle_timeout=ms("5m"))), task()), ["drain beginDrain Idle"]),
    ("just empty", world(record(age=QUIET, session_count=0), task()), ["record setEmpty Empty"]),
    ("empty for 19 min", world(record(age=QUIET, session_count=0, empty_since=ago("19m")), task()), ["keep none IdleGrace"]),
    ("empty for 21 min", world(record(age=QUIET, **EMPTY), task()), ["drain beginDrain NoSessions"]),
    ("no longer empty", world(session(), record(empty_since=ago("3m")), task()), ["record clearEmpty Occupied"]),
    ("declared Stopped", world(session(), record(declared=stop_declared()), task()), ["drain beginDrain Declared"]),
    ("declared Always, quiet", world(record(age="3d", declared=always(), **EMPTY), task()), ["keep none InUse"]),
    ("original row of 3 h", world(original_session(age="3h"), record(age="3h"), task(age="3h")), ["keep none InUse"]),
    ("original row of 13 h", world(original_session(age="13h"), record(age="13h"), task(age="13h")), ["drain beginDrain Idle"]),
    ("drained, not wanted", world(record("draining", age=QUIET, **EMPTY), task()), ["stop writeStopping Idle"]),
    ("drained, wanted again", world(session(), record("draining"), task()), ["cancelDrain cancelDrain WantedAgain"]),
    ("drained, released a minute ago", world(record("draining", age="1m", **EMPTY), task()), ["cancelDrain cancelDrain WantedAgain"]),
    ("drained by declaration, users active", world(session(), record("draining", drain=drain("Declared"), declared=stop_declared()), task()), ["stop writeStopping Declared"]),
    ("drained by request, users active", world(session(), record("draining", drain=drain("Requested")), task()), ["stop writeStopping Requested"]),
    ("drained by request, held", world(session(), record("draining", drain=drain("Requested"), hold=hold()), task()), ["cancelDrain cancelDrain Held"]),
    ("drained by a declaration that changed", world(session(), record("draining", drain=drain("Declared")), task()), ["cancelDrain cancelDrain Declared"]),
    ("drained as timed out, ready after all", world(session(), record("draining", drain=drain("LaunchTimedOut")), task()), ["cancelDrain cancelDrain WantedAgain"]),
    ("drained as timed out, still not ready", world(session(), record("draining", drain=drain("LaunchTimedOut")), task(ip=None)), ["stop writeStopping LaunchTimedOut"]),
    ("an orphan's drain ignores its youth", world(record("draining", age=QUIET, launched="6m", drain=drain("Orphaned"), session_count=0, last_activity=None), task(age="6m")), ["stop writeStopping Orphaned"]),
    ("draining without a drain", world(record("draining", age=QUIET, drain=None, **EMPTY), task()), ["cancelDrain cancelDrain RecordBehind"]),
    ("stopping: never back from here", world(session(), record("stopping"), task()), ["stop lookAgain Idle"]),
    ("stopping and confirmed", world(session(), record("stopping", drain=drain(confirmed_at=NOW)), task()), ["stop stopTask Idle"]),
    ("stopping, the task stops", world(record("stopping", age=QUIET, **EMPTY), stopping()), ["keep none StopInProgress"]),
    ("stopping, the task stops, wanted again", world(session(), record("stopping"), stopping()), ["defer none StopInProgress"]),
    # others
    ("a second task of ours", world(session(), record(), task(), task(2)), ["drain stopSuperseded Superseded", "keep none InUse"]),
    ("a task of ours beside a record at rest", world(session(), record("terminated"), task(2)), ["drain stopSuperseded Superseded", "defer none StopInProgress"]),
    ("no record, a task and a session", world(session(), task()), ["adopt adopt TaskNotRecorded"]),
    ("no record, two tasks: the higher generation", world(session(), task(1), task(2, generation=2, age="5m")), ["adopt adopt TaskNotRecorded"]),
    ("a row made by ADD alone, and a task", world(session(), ContainerRecord(TOM, session_count=1), task()), ["adopt adopt TaskNotRecorded"]),
    ("a young task without an owner", world(task(age="4m")), ["keep none OrphanGrace"]),
    ("a task without an owner, seen once", world(task()), ["defer none SeenOnce"]),
    ("a task without an owner, seen twice", world(task(), nominated_before=frozenset({arn(1)})), ["drain adoptOrphan Orphaned"]),
    ("the original's task, no record", world(original_session(), task(ownership="original")), ["adopt adopt TaskNotRecorded"]),
    ("the original's task, record at rest", world(session(), record("terminated"), task(ownership="original")), ["adopt adopt TaskNotRecorded"]),
    ("the original's task, now recorded", world(session(), record(), task(ownership="original")), ["record markTask NotMarked", "keep none InUse"]),
    ("the original's second task, young", world(session(), record(), task(), task(2, ownership="original", age="1m")), ["keep none InUse", "keep none OrphanGrace"]),
    ("the original's second task", world(session(), record(), task(), task(2, ownership="original")), ["drain stopSuperseded Superseded", "keep none InUse"]),
    ("another controller's task, wanted", world(session(), task(ownership="foreign")), ["hold none Foreign"]),
    ("another controller's task, not wanted", world(task(ownership="foreign")), ["hold none Foreign"]),
    ("another controller's task beside ours", world(session(), record(), task(), task(2, ownership="foreign")), ["hold none Foreign", "keep none InUse"]),
    # count
    ("count too high", world(session(), record(session_count=5), task()), ["count repairCount CountDrifted", "keep none InUse"]),
    ("count too low", world(session(), session("s2"), record(session_count=1), task()), ["count repairCount CountDrifted", "keep none InUse"]),
    ("count negative, nothing runs", world(ContainerRecord(TOM, session_count=-1)), ["count repairCount CountDrifted", "keep none Stopped"]),
    ("quiet, but the count differs", world(session(age=QUIET), record(age=QUIET, session_count=2), task()), ["count repairCount CountDrifted", "keep none CountDrifted"]),
    ("draining, but the count differs", world(record("draining", age=QUIET, session_count=1), task()), ["count repairCount CountDrifted", "defer none CountDrifted"]),
    # holds
    ("held, nothing runs", world(session(), record("terminated", hold=hold())), ["hold none Held"]),
    ("held, idle", world(session(age=QUIET), record(age=QUIET, hold=hold()), task()), ["hold none Held"]),
    ("held, draining", world(record("draining", age=QUIET, hold=hold(), **EMPTY), task()), ["cancelDrain cancelDrain Held"]),
    ("held, launch in flight", world(session(), record("starting", task_arn=None, hold=hold())), ["hold none Held"]),
    ("held, a second task", world(session(), record(hold=hold()), task(), task(2)), ["hold none Held", "keep none InUse"]),
    ("held, stop confirmed: nobody goes back", world(record("stopping", hold=hold(), drain=drain(confirmed_at=NOW), **EMPTY), task()), ["stop stopTask Idle"]),
    ("held, count still repaired", world(session(), record(session_count=3, hold=hold()), task()), ["count repairCount CountDrifted", "keep none InUse"]),
    ("a hold that ran out", world(session(), record("terminated", hold=replace(hold(), until=NOW))), ["start claim SessionActive"]),
    ("paused", world(session(), pause=hold()), ["hold none Paused"]),
    ("a declaration's hold", world(session(), record("terminated", declared=Declaration("u", hold=hold()))), ["hold none Held"]),
]  # fmt: skip


# With agents

KEYED = Launch(ago("1h"), "{}", "k1")
YOUNG = Launch(ago("2m"), "{}", "k1")
OLD = Launch(ago("11m"), "{}", "k1")
WITH_AGENTS = replace(POLICY, agents=True)


def says(**more: Any) -> dict[str, Any]:
    """Return the world's agents with one report of task 1, admitted unless told otherwise."""
    return {"agents": {arn(1): AgentReport(arn(1), **{"admitted": True, **more})}}


def drained(reason: str = "Idle", **more: Any) -> Any:
    return record("draining", age=QUIET, launch=KEYED, drain=drain(reason, **more), **EMPTY)


def second(**more: Any) -> tuple[Any, ...]:
    """Return a container in use, and a second task of ours that was launched with an agent."""
    return session(), record(launch=KEYED), task(), task(2, token_digest="d", **more)


def second_says(**more: Any) -> dict[str, Any]:
    """Return the world's agents with one report of task 2, admitted unless told otherwise."""
    return {"agents": {arn(2): AgentReport(arn(2), **{"admitted": True, **more})}}


def second_serves(progress: DrainProgress, since: str, **more: Any) -> dict[str, Any]:
    return second_says(drain_id=SUPERSEDED_DRAIN, drain_since=ago(since), progress=progress, **more)


SAVED = Save("saved", branch="edit/tom/wip", commit="9c1e2f0aaaa", at=NOW)
FAILED = Save("failed", message="RemoteUnreachable", at=ago("1m"))

AGENTS = [
    ("runs, not admitted yet", world(session(), record("starting", launch=YOUNG), task(), **says(admitted=False)), ["record admit Starting"]),
    ("runs, its agent does not answer yet", world(session(), record("starting", launch=YOUNG), task(), **says(unknown="refused", admitted=False)), ["record admit Starting"]),
    ("runs, never admitted", world(session(), record("starting", launch=OLD), task(age="11m"), **says(unknown="refused", admitted=False)), ["drain beginDrain LaunchTimedOut"]),
    ("admitted by somebody, record behind", world(session(), record("starting", launch=YOUNG), task(), **says()), ["record correct RecordBehind"]),
    ("launched by others: there is no agent", world(session(), record("starting", launched="2m"), task()), ["record correct RecordBehind"]),
    ("idle", world(record(age=QUIET, launch=KEYED, **EMPTY), task(), **says()), ["drain beginDrain NoSessions"]),
    ("idle, busy inside", world(record(age=QUIET, launch=KEYED, **EMPTY), task(), **says(busy_until=NOW + ms("9m"))), ["keep none Busy"]),
    ("idle, the lease has run out", world(record(age=QUIET, launch=KEYED, **EMPTY), task(), **says(busy_until=NOW)), ["drain beginDrain NoSessions"]),
    ("idle, active inside", world(record(age=QUIET, launch=KEYED, **EMPTY), task(), **says(last_activity=ago("5m"))), ["keep none IdleGrace"]),
    ("idle, the agent does not answer", world(record(age=QUIET, launch=KEYED, **EMPTY), task(), **says(unknown="timed out")), ["drain beginDrain NoSessions"]),
    ("draining, not asked yet", world(drained(), task(), **says()), ["drain askToSave Idle"]),
    ("draining, serves an older drain", world(drained(number=3), task(), **says(drain_id=2, progress=DrainProgress.SAVED, save=SAVED)), ["drain askToSave Idle"]),
    ("draining, saving", world(drained(), task(), **says(drain_id=1, progress=DrainProgress.SAVING)), ["defer none Saving"]),
    ("draining, saved", world(drained(), task(), **says(drain_id=1, progress=DrainProgress.SAVED, save=SAVED)), ["stop writeStopping Idle"]),
    ("draining, failed a minute ago", world(drained(), task(), **says(drain_id=1, progress=DrainProgress.FAILED, save=FAILED)), ["defer none SaveFailed"]),
    ("draining, failed 6 min ago", world(drained(age="7m"), task(), **says(drain_id=1, progress=DrainProgress.FAILED, save=replace(FAILED, at=ago("6m")))), ["drain askToSave SaveFailed"]),
    ("draining, failed for 2 h", world(drained(age="2h"), task(), **says(drain_id=1, progress=DrainProgress.FAILED, save=FAILED)), ["stop writeStopping Idle"]),
    ("draining, no answer", world(drained(), task(), **says(unknown="timed out")), ["defer none Saving"]),
    ("draining, no answer for 6 min", world(drained(age="6m"), task(), **says(unknown="timed out")), ["defer none AgentUnreachable"]),
    ("draining, no answer for 2 h", world(drained(age="2h"), task(), **says(unknown="timed out")), ["stop writeStopping Idle"]),
    ("draining, busy again", world(drained(), task(), **says(drain_id=1, busy_until=NOW + ms("1m"))), ["cancelDrain cancelDrain Busy"]),
    ("draining, active again", world(drained(age="1m"), task(), **says(drain_id=1, last_activity=ago("10s"))), ["cancelDrain cancelDrain WantedAgain"]),
    ("draining as timed out: there is no work yet", world(session(), record("draining", launch=OLD, drain=drain("LaunchTimedOut")), task(), **says(unknown="refused", admitted=False)), ["stop writeStopping LaunchTimedOut"]),
    ("drained by request, busy: the operator has the last word", world(drained("Requested"), task(), **says(busy_until=NOW + ms("1m"), drain_id=1, progress=DrainProgress.SAVED)), ["stop writeStopping Requested"]),
    # a second task
    ("second, launched by others: there is no agent", world(session(), record(launch=KEYED), task(), task(2)), ["drain stopSuperseded Superseded", "keep none InUse"]),
    ("second, its containers have not run yet", world(*second(last_status="PENDING", ip=None)), ["drain stopSuperseded Superseded", "keep none InUse"]),
    ("second, never admitted", world(*second(), **second_says(admitted=False)), ["drain stopSuperseded Superseded", "keep none InUse"]),
    ("second, not asked yet", world(*second(), **second_says()), ["drain drainSuperseded Superseded", "keep none InUse"]),
    ("second, busy: it is final", world(*second(), **second_says(busy_until=NOW + ms("9m"))), ["drain drainSuperseded Superseded", "keep none InUse"]),
    ("second, serves the drain of when it was named", world(*second(), **second_says(drain_id=1, progress=DrainProgress.SAVED, save=SAVED)), ["drain drainSuperseded Superseded", "keep none InUse"]),
    ("second, saving", world(*second(), **second_serves(DrainProgress.SAVING, "5s")), ["defer none Saving", "keep none InUse"]),
    ("second, saving for 2 h", world(*second(), **second_serves(DrainProgress.SAVING, "2h")), ["drain stopSuperseded Superseded", "keep none InUse"]),
    ("second, saved", world(*second(), **second_serves(DrainProgress.SAVED, "5s", save=SAVED)), ["drain stopSuperseded Superseded", "keep none InUse"]),
    ("second, failed a minute ago", world(*second(), **second_serves(DrainProgress.FAILED, "1m", save=FAILED)), ["defer none SaveFailed", "keep none InUse"]),
    ("second, failed 6 min ago", world(*second(), **second_serves(DrainProgress.FAILED, "7m", save=replace(FAILED, at=ago("6m")))), ["drain drainSuperseded SaveFailed", "keep none InUse"]),
    ("second, failed for 2 h", world(*second(), **second_serves(DrainProgress.FAILED, "2h", save=FAILED)), ["drain stopSuperseded Superseded", "keep none InUse"]),
    ("second, no answer", world(*second(), **second_says(unknown="timed out", unknown_since=ago("1m"))), ["defer none Saving", "keep none InUse"]),
    ("second, no answer for 6 min", world(*second(), **second_says(unknown="timed out", unknown_since=ago("6m"))), ["defer none AgentUnreachable", "keep none InUse"]),
    ("second, no answer for 2 h", world(*second(), **second_says(unknown="timed out", unknown_since=ago("2h"))), ["drain stopSuperseded Superseded", "keep none InUse"]),
    ("second, nobody can ask", world(*second()), ["defer none Saving", "keep none InUse"]),
    ("second, held", world(session(), record(launch=KEYED, hold=hold()), task(), task(2, token_digest="d"), **second_says()), ["hold none Held", "keep none InUse"]),
    ("second beside a record at rest: no start while it lives", world(session(), record("terminated"), task(2, token_digest="d"), **second_serves(DrainProgress.SAVING, "5s")), ["defer none Saving", "defer none StopInProgress"]),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_decision_table(seen, expected):
    assert decisions(seen) == expected


@pytest.mark.parametrize(("seen", "expected"), [row[1:] for row in AGENTS], ids=[row[0] for row in AGENTS])
def test_decision_table_with_agents(seen, expected):
    assert decisions(seen, WITH_AGENTS) == expected


def test_without_an_agent_port_no_agent_is_waited_for():
    seen = world(record("draining", launch=KEYED, **(EMPTY | {"last_activity": ago(QUIET)})), task())
    assert decisions(seen) == ["stop writeStopping Idle"]


def test_only_those_agents_are_asked_of_which_an_answer_is_needed():
    idle = (record(age=QUIET, launch=KEYED, **EMPTY), task())
    used = (session(), record(launch=KEYED), task())
    assert [t.arn for _, t in agents_to_ask(world(*idle), WITH_AGENTS, NOW)] == [arn(1)]
    assert agents_to_ask(world(*used), WITH_AGENTS, NOW) == ()
    assert agents_to_ask(world(*idle), POLICY, NOW) == ()
    assert agents_to_ask(world(*idle, sessions_sight=partly()), WITH_AGENTS, NOW) == ()
    # A second task's is asked whatever becomes of the container; not where there is none, or nothing has run.
    assert [t.arn for _, t in agents_to_ask(world(*second()), WITH_AGENTS, NOW)] == [arn(2)]
    assert agents_to_ask(world(*used, task(2)), WITH_AGENTS, NOW) == ()
    assert agents_to_ask(world(*second(last_status="PENDING")), WITH_AGENTS, NOW) == ()


def test_what_waits_for_a_second_tasks_agent_is_looked_at_again_soon():
    """Whatever keeps a second task from being stopped, somebody looks again: at a time, or within seconds."""
    waits = {"Saving": 2_000, "AgentUnreachable": 5_000, "SaveFailed": None}
    seen = set()
    for _, there, _ in AGENTS:
        for action in compute_plan(there, WITH_AGENTS, NOW).actions:
            if action.on_second_task and action.kind is ActionKind.DEFER:
                assert WITH_AGENTS.look_again_in(action) == waits[action.reason]
                assert action.reason != "SaveFailed" or action.until == ago("-4m")
                seen.add(str(action.reason))
    assert seen == set(waits)


def test_the_table_has_every_step():
    """A step that no row of the table reaches would be a step that nobody decided about."""
    reached = {a.step for _, seen, _ in TABLE for a in compute_plan(seen, POLICY, NOW).actions}
    reached |= {a.step for _, seen, _ in AGENTS for a in compute_plan(seen, WITH_AGENTS, NOW).actions}
    assert reached == set(Step)


def test_the_higher_generation_is_adopted_then_the_oldest():
    plan = compute_plan(
        world(session(), task(1, generation=1), task(2, generation=2, age="9m"), task(3, generation=2, age="5m")),
        POLICY,
        NOW,
    )
    assert [a.task and a.task.arn for a in plan.actions] == [arn(2)]


def test_a_claim_takes_the_next_generation_of_record_and_tasks():
    plan = compute_plan(world(session(), record("terminated", generation=3), stopped(1, generation=7)), POLICY, NOW)
    assert plan.actions[0].generation == 8


# Identity


AMBIGUOUS = "acme-shop-api-bob"


def test_a_row_that_names_no_client_is_held_when_its_id_can_be_read_in_two_ways():
    seen = world(Session("o1", AMBIGUOUS, last_activity=NOW))
    (action,) = compute_plan(seen, POLICY, NOW).actions
    assert (action.kind, action.reason) == ("hold", "AmbiguousIdentity")
    assert "acme + shop-api + bob or acme-shop + api + bob" in action.message


def test_a_record_or_a_task_resolves_an_ambiguous_row():
    owner = ContainerIdentity("acme", "shop-api", "bob")
    row = Session("o1", AMBIGUOUS, last_activity=NOW)
    by_record = world(row, ContainerRecord(AMBIGUOUS, owner, session_count=1))
    by_task = world(row, replace(task(), identity=owner))
    assert decisions(by_record) == ["start claim SessionActive"]
    assert compute_plan(by_record, POLICY, NOW).actions[0].identity == owner
    assert decisions(by_task) == ["adopt adopt TaskNotRecorded"]


@pytest.mark.parametrize("what", ["session", "record", "task"])
def test_two_triples_on_one_id_are_held_and_both_left_alone(what):
    a, b = ContainerIdentity("acme", "shop-api", "bob"), ContainerIdentity("acme-shop", "api", "bob")
    ours = Session("s1", AMBIGUOUS, a, last_activity=NOW)
    other = {
        "session": Session("s2", AMBIGUOUS, b, last_activity=NOW),
        "record": ContainerRecord(AMBIGUOUS, b, session_count=1),
        "task": replace(task(), identity=b),
    }[what]
    assert decisions(world(ours, other)) == ["hold none IdentityConflict"]


# Sight


@pytest.mark.parametrize(("seen", "before"), [row[1:] for row in TABLE if row[1].sessions or row[1].records or row[1].tasks], ids=[row[0] for row in TABLE if row[1].sessions or row[1].records or row[1].tasks])  # fmt: skip
class TestPartialSight:
    """Whatever the table says, partial sight only takes away."""

    def test_records_seen_in_part_do_nothing(self, seen, before):
        plan = compute_plan(replace(seen, records_sight=partly()), POLICY, NOW)
        assert {a.kind for a in plan.actions} == {ActionKind.HOLD}

    def test_tasks_seen_in_part_start_and_stop_nothing(self, seen, before):
        plan = compute_plan(replace(seen, tasks_sight=partly()), POLICY, NOW)
        assert {a.kind for a in plan.changes} <= {ActionKind.COUNT, ActionKind.RECORD, ActionKind.CANCEL_DRAIN}
        assert not plan.nominated

    def test_sessions_seen_in_part_stop_nothing_and_count_nothing(self, seen, before):
        plan = compute_plan(replace(seen, sessions_sight=partly()), POLICY, NOW)
        allowed = {ActionKind.START, ActionKind.ADOPT, ActionKind.RECORD, ActionKind.CANCEL_DRAIN}
        assert {a.kind for a in plan.changes} <= allowed
        assert not {a.step for a in plan.changes} & {Step.TERMINATED, Step.FAILED, Step.SET_EMPTY}
        assert not plan.nominated

    def test_a_held_decision_says_what_it_keeps_from_happening(self, seen, before):
        plan = compute_plan(replace(seen, tasks_sight=partly("page 7 failed")), POLICY, NOW)
        for action in plan.actions:
            if action.reason == "SightIncomplete":
                assert "page 7 failed" in action.message
                assert action.deferred is not None


def test_sight_that_is_unknown_is_not_an_empty_list():
    unknown = Sight(Quality.UNKNOWN, "AccessDenied")
    idle = world(record(age=QUIET, **EMPTY), task())
    assert decisions(replace(idle, sessions_sight=unknown)) == ["hold none SightIncomplete"]
    assert decisions(replace(world(session()), tasks_sight=unknown)) == ["hold none SightIncomplete"]


def test_a_complete_empty_answer_is_valid():
    assert decisions(world(record(age=QUIET, **EMPTY), task())) == ["drain beginDrain NoSessions"]


# Quarantine


def bad_row(table="sessions", container=TOM, first_seen=NOW):
    return Quarantined(table, "s9", container, "lastActivity is S 'NaN'", first_seen)


def test_an_unreadable_session_protects_its_container_for_a_day():
    idle = (record(age=QUIET, **EMPTY), task())
    assert decisions(world(*idle, quarantined=(bad_row(),))) == ["hold none RowQuarantined"]
    assert decisions(world(*idle, quarantined=(bad_row(first_seen=ago("25h")),))) == ["drain beginDrain NoSessions"]


def test_an_unreadable_session_holds_up_no_other_container():
    other = session("s1", "acme-blog-eva")
    assert decisions(world(other, quarantined=(bad_row(),))) == ["start claim SessionActive"]
    assert decisions(world(session(), record(), task(), quarantined=(bad_row(),))) == ["keep none InUse"]


def test_an_unreadable_session_stops_a_drain_and_counts_nothing():
    draining = world(record("draining", age=QUIET, session_count=1), task(), quarantined=(bad_row(),))
    assert decisions(draining) == ["defer none CountDrifted"]


def test_an_unreadable_record_holds_its_container_and_no_other():
    seen = world(session(), session("s2", "acme-blog-eva"), quarantined=(bad_row("records"),))
    assert decisions(seen) == ["start claim SessionActive", "hold none RowQuarantined"]


def test_an_unreadable_row_without_a_container_id_concerns_nobody():
    assert decisions(world(session(), quarantined=(bad_row(container=None),))) == ["start claim SessionActive"]


# Clocks


def test_an_activity_in_the_future_is_not_believed():
    skewed = session(last_activity=NOW + ms("3h"), created_at=ago("22m"))
    assert decisions(world(skewed, record(age=QUIET), task())) == ["drain beginDrain Idle"]
    timeless = session(last_activity=NOW + ms("3h"), created_at=None)
    assert decisions(world(timeless, record(age=QUIET), task())) == ["keep none InUse"]
    seen_long_ago = world(timeless, record(age=QUIET), task(), first_seen={"s1": ago("22m")})
    assert decisions(seen_long_ago) == ["drain beginDrain Idle"]


def test_a_record_activity_in_the_future_is_not_believed():
    assert decisions(world(record(last_activity=NOW + ms("3h"), **EMPTY), task())) == ["drain beginDrain NoSessions"]


def test_a_row_without_any_time_counts_from_when_it_was_first_seen():
    bare = original_session(created_at=None, last_activity=None)
    assert decisions(world(bare, record(age=QUIET), task())) == ["keep none InUse"]


def test_a_clock_that_is_not_that_of_aws_stops_nothing_and_starts_all_the_same():
    for offset in (ms("61s"), -ms("61s")):
        idle = world(record(age=QUIET, **EMPTY), task(), session("s2", "acme-blog-eva"), clock_offset=offset)
        assert decisions(idle) == ["start claim SessionActive", "hold none ClockUnsure"]
    assert decisions(world(record(age=QUIET, **EMPTY), task(), clock_offset=ms("59s"))) == [
        "drain beginDrain NoSessions"
    ]


# Budgets


def fleet(n, **how):
    seen = []
    for i in range(n):
        container = f"acme-site{i:03}-tom"
        seen += [
            record("running", container, age="25m", task_arn=arn(i), session_count=0, empty_since=ago("21m")),
            task(i, container),
        ]
    return world(*seen, **how)


def test_stops_are_kept_to_the_budget_and_the_longest_quiet_go_first():
    seen = fleet(11)
    nominated = compute_plan(seen, POLICY, NOW).nominated
    seen = replace(seen, records=tuple(replace(r, last_activity=ago(f"{30 + i}m")) for i, r in enumerate(seen.records)), nominated_before=nominated)  # fmt: skip
    plan = compute_plan(seen, POLICY, NOW)
    assert plan.counts() == {"drain": 10, "defer": 1}
    (late,) = [a for a in plan.actions if a.kind is ActionKind.DEFER]
    assert (late.reason, late.deferred, late.container_id) == ("BudgetExhausted", "drain", "acme-site000-tom")


def test_more_stops_than_the_budget_need_a_second_look():
    seen = fleet(11)
    first = compute_plan(seen, POLICY, NOW)
    assert first.counts() == {"defer": 11}
    assert {a.reason for a in first.actions} == {"MassStop"}
    assert needs_second_look(first)
    second = compute_plan(replace(seen, nominated_before=first.nominated), POLICY, NOW)
    assert second.counts() == {"drain": 10, "defer": 1}


def test_starts_go_on_while_stops_are_held_back():
    seen = fleet(20)
    seen = replace(seen, sessions=(session("s1", "acme-new-eva"),))
    assert compute_plan(seen, POLICY, NOW).counts() == {"start": 1, "defer": 20}


def test_the_budget_counts_what_the_records_say_so_a_restart_refills_nothing():
    seen = fleet(5)
    done = tuple(
        record("terminated", f"acme-done{i}-tom", session_count=0, drain=drain(stopping_at=ago("4m"))) for i in range(8)
    )
    plan = compute_plan(replace(seen, records=seen.records + done), POLICY, NOW)
    assert [a.kind for a in plan.actions if a.deferred or a.kind is ActionKind.DRAIN] == ["drain"] * 2 + ["defer"] * 3
    deferred = next(a for a in plan.actions if a.kind is ActionKind.DEFER)
    assert deferred.until == ago("4m") + ms("5m")


def test_a_large_fleet_has_a_share_and_old_stops_do_not_count():
    policy = replace(POLICY, stop_budget_share=0.5)
    seen = fleet(40)
    seen = replace(seen, nominated_before=compute_plan(seen, policy, NOW).nominated)
    old = tuple(
        record("terminated", f"acme-done{i}-tom", session_count=0, drain=drain(stopping_at=ago("6m"))) for i in range(9)
    )
    plan = compute_plan(replace(seen, records=seen.records + old), policy, NOW)
    assert plan.counts()["drain"] == 20


# What a plan says


def test_next_is_the_earliest_decision_that_changes_by_itself():
    seen = world(
        session(age="3m"), record(age="3m"), task(), session("s2", "acme-shop-eva", age="10m"),
        record("running", "acme-shop-eva", age="10m", task_arn=arn(2)), task(2, "acme-shop-eva"),
    )  # fmt: skip
    upcoming = compute_plan(seen, POLICY, NOW).next
    assert upcoming is not None
    assert (upcoming.container_id, upcoming.what, upcoming.at) == ("acme-shop-eva", "drain", NOW + ms("11m"))


def test_bookkeeping_alone_is_an_empty_plan():
    assert compute_plan(world(session(), record("starting"), task()), POLICY, NOW).is_empty
    assert not compute_plan(world(session()), POLICY, NOW).is_empty


def test_the_end_of_a_task_that_somebody_wants_is_no_empty_plan():
    """Bookkeeping now, a start in the next look: a script that stops at "nothing to do" would stop too early."""
    assert not compute_plan(world(session(), record(), stopped()), POLICY, NOW).is_empty
    assert compute_plan(world(record(age=QUIET, **EMPTY), stopped()), POLICY, NOW).is_empty


def test_every_action_says_why_in_a_sentence():
    for _, seen, _ in TABLE:
        for action in compute_plan(seen, POLICY, NOW).actions:
            assert action.message
            assert "None" not in action.message


def test_the_launch_of_an_adopted_task_cannot_be_repeated():
    """An adopted task has no request; if its record ever waits for an ARN again, that is a failure, not a RunTask."""
    lost = record("starting", task_arn=None, launch=Launch(ago("1h"), ""))
    assert decisions(world(session(), lost)) == ["record failed LaunchFailed"]


def test_identities_come_from_the_record_even_when_no_session_is_there():
    (action,) = compute_plan(world(record(age=QUIET, **EMPTY), task()), POLICY, NOW).actions
    assert action.identity == identity()


def test_only_a_second_look_at_everything_releases_the_breaker():
    ids = [f"acme-blog-user{n:02d}" for n in range(14)]
    seen = World(
        sessions=tuple(session(f"s{i}", i, age="2h") for i in ids),
        records=tuple(record("running", i, age="2h", launched="3h", task_arn=arn(n)) for n, i in enumerate(ids)),
        tasks=tuple(task(n, i, age="3h") for n, i in enumerate(ids)),
    )
    first = compute_plan(seen, POLICY, NOW)
    assert {a.reason for a in first.actions} == {Reason.MASS_STOP}
    agreeing = replace(seen, nominated_before=first.nominated)
    some = compute_plan(replace(agreeing, scope=frozenset(ids)), POLICY, NOW)
    assert {a.reason for a in some.actions} == {Reason.MASS_STOP}
    second = compute_plan(agreeing, POLICY, NOW)
    assert [a.step for a in second.changes] == [Step.BEGIN_DRAIN] * 10
