"""The display phase and the conditions of a container, derived from a plan and never read back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from controller.core.identity import ContainerIdentity
from controller.core.model import Action, ActionKind, ContainerRecord, ContainerStatus, Millis, Plan, Reason, Step, Task
from controller.core.revisions import is_outdated, short_revision


class Phase(StrEnum):
    """One word for people. Decisions are made on the record and the tasks, not on this."""

    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    DRAINING = "Draining"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    FAILED = "Failed"
    HELD = "Held"


_PHASE_OF_STATUS = {
    ContainerStatus.STARTING: Phase.STARTING,
    ContainerStatus.RUNNING: Phase.RUNNING,
    ContainerStatus.DRAINING: Phase.DRAINING,
    ContainerStatus.STOPPING: Phase.STOPPING,
    ContainerStatus.TERMINATED: Phase.STOPPED,
    ContainerStatus.FAILED: Phase.FAILED,
}

OUTDATED = "Outdated"
_STALLED_AFTER = 5
"""Launches that failed in a row after which a container counts as stalled."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One aspect: `status` is True, False or Unknown, with the reason word and a sentence."""

    type: str
    status: str
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """One container as a line of `editctl status`. Times in epoch milliseconds."""

    container_id: str
    identity: ContainerIdentity | None
    phase: Phase
    sessions: int
    active_sessions: int
    last_activity: Millis | None
    since: Millis | None
    """When its task was created."""
    next_at: Millis | None
    next_what: str
    next_reason: str
    generation: int | None
    task_arn: str | None
    container_ip: str | None
    conditions: tuple[Condition, ...] = ()

    @property
    def outdated(self) -> bool:
        """Whether its task runs another revision than a new launch would get."""
        return any(c.type == OUTDATED and c.status == "True" for c in self.conditions)


def summaries(plan: Plan, newest_definition: str = "") -> tuple[Summary, ...]:
    """Return one summary a container, by container id; newest_definition is the world's."""
    grouped: dict[str, list[Action]] = {}
    for action in plan.actions:
        grouped.setdefault(action.container_id, []).append(action)
    return tuple(_summary(grouped[container_id], newest_definition) for container_id in sorted(grouped))


def main_action(actions: list[Action]) -> Action:
    """Return the decision about the container itself, not about its count, its marks or a second task."""
    beside = (Step.REPAIR_COUNT, Step.MARK_TASK)
    main = [
        a
        for a in actions
        if a.step not in beside
        and not a.on_second_task
        and not (a.kind is ActionKind.HOLD and a.reason is Reason.FOREIGN)
    ]
    return (main or actions)[-1]


def _summary(actions: list[Action], newest_definition: str) -> Summary:
    main = main_action(actions)
    record, task = main.record, _named(main)
    timed = [a for a in actions if a.until is not None and a.then and not a.on_second_task]
    upcoming = min(timed, key=lambda a: a.until or 0) if timed else None
    return Summary(
        container_id=main.container_id,
        identity=main.identity,
        phase=phase_of(main),
        sessions=main.sessions,
        active_sessions=main.active_sessions,
        last_activity=main.last_activity,
        since=task.created_at if task else None,
        next_at=upcoming.until if upcoming else None,
        next_what=upcoming.then if upcoming else (str(main.kind) if main.kind.changes else ""),
        next_reason=str(upcoming.reason if upcoming else main.reason),
        generation=record.generation if record else None,
        task_arn=(record.task_arn if record else None) or (task.arn if task else None),
        container_ip=(task.ip if task else None) or (record.container_ip if record else None),
        conditions=conditions_of(actions, newest_definition),
    )


def _named(action: Action) -> Task | None:
    task = action.task
    return task if task and not task.stopped else None


def phase_of(action: Action) -> Phase:
    """Return the phase that the container's main decision and its record come to."""
    if action.kind is ActionKind.HOLD:
        return Phase.HELD
    record = action.record
    if record is None or record.status is None:
        return Phase.PENDING if action.kind in (ActionKind.START, ActionKind.DEFER) else _unrecorded(action)
    if record.names_no_task and action.kind is ActionKind.START:
        return Phase.PENDING
    return _PHASE_OF_STATUS[record.status]


def _unrecorded(action: Action) -> Phase:
    return Phase.RUNNING if _named(action) else Phase.STOPPED


def conditions_of(actions: list[Action], newest_definition: str = "") -> tuple[Condition, ...]:
    """Return Ready, Idle, Draining, WorkSaved, Duplicate, Orphaned, Stalled and Outdated, in this order."""
    main = main_action(actions)
    record = main.record
    return (
        _ready(main, record),
        _flag("Idle", main.drain_reason is not None and main.reason in (Reason.IDLE, Reason.NO_SESSIONS), main),
        _flag(
            "Draining",
            record is not None and record.status in (ContainerStatus.DRAINING, ContainerStatus.STOPPING),
            main,
        ),
        _work_saved(main, record),
        _flag("Duplicate", any(a.on_second_task for a in actions), main),
        _flag("Orphaned", main.reason in (Reason.ORPHANED, Reason.SEEN_ONCE), main),
        _flag("Stalled", _failures(record) >= _STALLED_AFTER, main),
        _outdated(main, newest_definition),
    )


def _flag(kind: str, value: bool, action: Action) -> Condition:
    return Condition(
        kind,
        "True" if value else "False",
        str(action.reason) if value else "AsExpected",
        action.message if value else "",
    )


def _ready(action: Action, record: ContainerRecord | None) -> Condition:
    running = (
        record is not None
        and record.status is ContainerStatus.RUNNING
        and action.task is not None
        and action.task.ready
    )
    return Condition("Ready", "True" if running else "False", str(action.reason), action.message)


def _outdated(action: Action, newest: str) -> Condition:
    task = _named(action)
    if task is None or not newest:
        return Condition(OUTDATED, "False" if task is None else "Unknown", "AsExpected" if task is None else "NotKnown")
    if not is_outdated(task, newest):
        return Condition(OUTDATED, "False", "AsExpected")
    message = (
        f"task {task.short} runs {short_revision(task.task_definition)}, a new one would run {short_revision(newest)}"
    )
    return Condition(OUTDATED, "True", "NewerRevision", message)


def _work_saved(action: Action, record: ContainerRecord | None) -> Condition:
    if action.reason is Reason.SAVE_FAILED:
        # The record hears of it when the drain ends; whoever can help should hear of it now.
        return Condition("WorkSaved", "False", str(action.reason), action.message)
    save = record.save if record else None
    if save is None:
        return Condition("WorkSaved", "Unknown", "NotReported", "no save is on record")
    return Condition(
        "WorkSaved", "True" if save.state == "saved" else "False", save.state or "NotReported", save.message
    )


def _failures(record: ContainerRecord | None) -> int:
    return record.failure.count if record and record.failure else 0
