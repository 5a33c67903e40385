"""(5b) of the stop protocol: what the strong look, begun after `stopping` was written, says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.core.model import ContainerRecord, ContainerStatus, DrainReason, Hold, Millis, Reason, Session, Task
from controller.core.policy import Policy
from controller.core.usage import usage_of


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why the container goes back to running; as_activity when the reason counts as activity."""

    reason: Reason
    message: str
    as_activity: bool = False


def is_same_stop(then: ContainerRecord, now: ContainerRecord | None) -> bool:
    """Whether the record still holds the very stop that was read: same task, same drain id, not confirmed."""
    return (
        now is not None
        and now.status is ContainerStatus.STOPPING
        and not now.stop_confirmed
        and (now.generation, now.task_arn, now.last_drain_id) == (then.generation, then.task_arn, then.last_drain_id)
    )


def why_not_stop(
    record: ContainerRecord,
    sessions: tuple[Session, ...],
    readable: bool,
    task: Task | None,
    pause: Hold | None,
    policy: Policy,
    first_seen: Mapping[str, Millis],
    now: Millis,
) -> Verdict | None:
    """Return why the container must not be stopped, or None when the look says "not wanted". Queues are asked apart."""
    for hold in (pause, record.hold, record.declared.hold if record.declared else None):
        if hold and hold.in_force(now):
            return Verdict(Reason.PAUSED if hold is pause else Reason.HELD, f"by {hold.by}: {hold.reason}")
    usage = usage_of(sessions, record, task, policy, first_seen, now)
    reason = record.drain.reason if record.drain else DrainReason.IDLE
    if reason is DrainReason.DECLARED:
        return None if usage.declared_stopped else Verdict(Reason.DECLARED, "the declaration no longer says Stopped")
    if reason.is_forced:
        return None
    if not readable:
        return Verdict(Reason.ROW_QUARANTINED, "a row of this container cannot be read", as_activity=True)
    if any(s.identity is not None and record.identity is not None and s.identity != record.identity for s in sessions):
        return Verdict(
            Reason.IDENTITY_CONFLICT,
            "a session of another client, project and user has this container id",
            as_activity=True,
        )
    if usage.wanted:
        return Verdict(usage.wanted_by or Reason.WANTED, f"{usage.active} active sessions")
    if (record.session_count or 0) != len(sessions):
        return Verdict(Reason.COUNT_DRIFTED, f"{len(sessions)} rows, sessionCount {record.session_count}")
    if reason is not DrainReason.ORPHANED and now < usage.idle_at:
        return Verdict(Reason.IDLE_GRACE, "there was activity")
    return None


def is_superseded(record: ContainerRecord | None, task: Task) -> bool:
    """Whether the record has passed this task by; that is final, for generations only grow."""
    if record is None or (record.status is None and not record.task_arn):
        return False
    return record.task_arn != task.arn and not (record.awaits_arn and task.generation == record.generation)
