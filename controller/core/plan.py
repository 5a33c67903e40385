"""The planner: a world, a policy and a time in, a plan out.

Each container is decided by itself (`decide.py`). What must not happen on bad sight, under a hold or in a pause is
taken out afterwards, so that it can be shown; then the budgets are enforced.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from controller.core.case import Case, hold_text, readings
from controller.core.decide import decide
from controller.core.model import (
    Action,
    ActionKind,
    ContainerRecord,
    ContainerStatus,
    Millis,
    Plan,
    Quarantined,
    Reason,
    Session,
    Step,
    Task,
    World,
)
from controller.core.policy import Policy, enforce
from controller.core.words import duration

_ORDER = {kind: position for position, kind in enumerate(ActionKind)}

NEEDS_TASKS = frozenset(
    {
        Step.CLAIM,
        Step.RUN_TASK,
        Step.RECORD_ARN,
        Step.ADOPT,
        Step.ADOPT_ORPHAN,
        Step.MARK_TASK,
        Step.BEGIN_DRAIN,
        Step.WRITE_STOPPING,
        Step.LOOK_AGAIN,
        Step.STOP_TASK,
        Step.DRAIN_SUPERSEDED,
        Step.STOP_SUPERSEDED,
        Step.TERMINATED,
        Step.FAILED,
        Step.ADMIT,
        Step.ASK_TO_SAVE,
    }
)
"""Steps that nobody may take who has not seen all tasks."""
NEEDS_SESSIONS = frozenset(
    {
        Step.ADOPT_ORPHAN,
        Step.SET_EMPTY,
        Step.ASK_TO_SAVE,
        Step.REPAIR_COUNT,
        Step.BEGIN_DRAIN,
        Step.WRITE_STOPPING,
        Step.LOOK_AGAIN,
        Step.STOP_TASK,
        Step.DRAIN_SUPERSEDED,
        Step.STOP_SUPERSEDED,
        Step.TERMINATED,
        Step.FAILED,
    }
)
"""Steps that nobody may take who has not seen all sessions: an absent row proves nothing."""
RESTS_ON_OUR_CLOCK = frozenset(
    {
        Step.ADOPT_ORPHAN,
        Step.BEGIN_DRAIN,
        Step.WRITE_STOPPING,
        Step.LOOK_AGAIN,
        Step.STOP_TASK,
        Step.DRAIN_SUPERSEDED,
        Step.STOP_SUPERSEDED,
    }
)
"""Steps towards a stop: how long something has been quiet, or a hold lasts, is read off this machine's clock."""
FORBIDDEN_UNDER_HOLD = frozenset(
    {
        Step.CLAIM,
        Step.RUN_TASK,
        Step.ADOPT_ORPHAN,
        Step.BEGIN_DRAIN,
        Step.WRITE_STOPPING,
        Step.DRAIN_SUPERSEDED,
        Step.STOP_SUPERSEDED,
    }
)
"""Steps that a hold or a pause forbids. A confirmed stop goes on; (5b) itself looks at the hold."""


def compute_plan(world: World, policy: Policy, now: Millis) -> Plan:
    """Return every decision for this world at this time, within budget. The order of rows and tasks is irrelevant."""
    actions: list[Action] = []
    for case in _cases(world, policy, now):
        actions += (_permitted(case, action) for action in decide(case))
    actions.sort(key=lambda a: (_ORDER[a.kind], a.container_id, a.step, a.task.arn if a.task else ""))
    nominated = frozenset(
        a.key
        for a in actions
        if a.step in (Step.BEGIN_DRAIN, Step.ADOPT_ORPHAN, Step.DRAIN_SUPERSEDED, Step.STOP_SUPERSEDED)
        or a.reason is Reason.SEEN_ONCE
    )
    sights = {"sessions": world.sessions_sight, "records": world.records_sight, "tasks": world.tasks_sight}
    plan = Plan(tuple(actions), now, sights, nominated if world.complete else frozenset())
    return enforce(plan, world, policy)


def needs_second_look(plan: Plan) -> bool:
    """Whether something waits only for another complete observation to agree."""
    return any(a.kind is ActionKind.DEFER and a.reason in (Reason.SEEN_ONCE, Reason.MASS_STOP) for a in plan.actions)


# One container


def agents_to_ask(world: World, policy: Policy, now: Millis) -> tuple[tuple[ContainerRecord, Task], ...]:
    """Return whose agents an answer is needed of: to be admitted, to be drained, being drained; second tasks, too.

    An agent can report that it is busy or active. It cannot make a container idle, so nobody else is asked.
    """
    if not policy.agents or not world.complete:
        return ()
    found = []
    for case in _cases(world, policy, now):
        record, task = case.record, case.named
        if record is None:
            continue
        actions = decide(case)
        found += [(record, a.task) for a in actions if a.on_second_task and a.task and case.may_hold_work(a.task)]
        if task is None or not task.live or not case.has_agent(record):
            continue
        steps = {action.step for action in actions}
        if record.status is ContainerStatus.DRAINING or steps & {Step.ADMIT, Step.BEGIN_DRAIN}:
            found.append((record, task))
    return tuple(found)


def _cases(world: World, policy: Policy, now: Millis) -> Iterable[Case]:
    sessions: dict[str, list[Session]] = {}
    tasks: dict[str, list[Task]] = {}
    records = {r.container_id: r for r in world.records}
    quarantined: dict[str, list[Quarantined]] = {}
    for s in world.sessions:
        sessions.setdefault(s.container_id, []).append(s)
    for t in world.tasks:
        tasks.setdefault(t.container_id, []).append(t)
    for q in world.quarantined:
        if q.container_id is not None:
            quarantined.setdefault(q.container_id, []).append(q)
    for container_id in sorted({*sessions, *tasks, *records, *quarantined}):
        yield Case(
            world,
            policy,
            now,
            container_id,
            tuple(sorted(sessions.get(container_id, ()), key=lambda s: s.session_id)),
            records.get(container_id),
            tuple(sorted(tasks.get(container_id, ()), key=lambda t: (t.created_at, t.arn))),
            tuple(quarantined.get(container_id, ())),
        )


def _permitted(case: Case, action: Action) -> Action:
    """Turn what sight, hold or pause forbids into a hold that says what it keeps from happening."""
    tasks, sessions = case.world.tasks_sight, case.world.sessions_sight
    if not tasks.complete and (action.step in NEEDS_TASKS or action.deferred is ActionKind.START):
        return _withheld(case, action, Reason.SIGHT_INCOMPLETE, f"tasks were not all seen: {tasks.detail}")
    if not sessions.complete and action.step in NEEDS_SESSIONS:
        return _withheld(case, action, Reason.SIGHT_INCOMPLETE, f"sessions were not all seen: {sessions.detail}")
    if abs(case.world.clock_offset) > case.policy.clock_slack and action.step in RESTS_ON_OUR_CLOCK:
        message = f"this machine's clock and AWS's differ by {duration(abs(case.world.clock_offset))}"
        return _withheld(case, action, Reason.CLOCK_UNSURE, message)
    if action.step in FORBIDDEN_UNDER_HOLD and case.hold:
        return _withheld(case, action, case.hold_reason(), hold_text(case.hold), case.hold.until)
    if action.step is Step.CLAIM and case.identity is None:
        return _withheld(
            case, action, Reason.AMBIGUOUS_IDENTITY, f"{readings(case.container_id)}: no row or task names the client"
        )
    return action


def _withheld(case: Case, action: Action, reason: Reason, message: str, until: Millis | None = None) -> Action:
    deferred = action.kind if action.kind.changes else action.deferred
    return replace(
        action,
        kind=ActionKind.HOLD,
        step=Step.NONE,
        reason=reason,
        message=message,
        deferred=deferred,
        until=until,
        then=str(deferred) if until else "",
    )
