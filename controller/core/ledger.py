"""The conditional writes to a container's record, each step of the protocols as one value.

A `RecordWrite` says what is set and removed and what must still hold; the table evaluates it in one conditional
update. The conditions were explored as explicit-state models: change them there first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from controller.core.identity import ContainerIdentity
from controller.core.model import (
    ContainerRecord,
    ContainerStatus,
    Declaration,
    DrainReason,
    Failure,
    Launch,
    Millis,
    Save,
    Task,
)

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Equals:
    """The attribute is there and has this value."""

    path: Path
    value: Any


@dataclass(frozen=True, slots=True)
class Absent:
    """The attribute is not there."""

    path: Path


@dataclass(frozen=True, slots=True)
class OneOf:
    """The attribute is there and has one of these values, or, with `or_absent`, is not there."""

    path: Path
    values: tuple[Any, ...]
    or_absent: bool = False


@dataclass(frozen=True, slots=True)
class NoLaterThan:
    """The attribute is not there or its number is at most this: no hold is in force."""

    path: Path
    value: Millis


Condition = Equals | Absent | OneOf | NoLaterThan


@dataclass(frozen=True, slots=True)
class RecordWrite:
    """One conditional update of one record.

    set: attribute name to value: whole top-level attributes, or a path of two names into a map that exists.
    remove: attributes to delete. expect: all must hold, else the write is refused and nothing changes.
    """

    container_id: str
    expect: tuple[Condition, ...]
    set: Mapping[Path, Any] = field(default_factory=dict)
    remove: tuple[Path, ...] = ()


def as_read(name: str, value: Any) -> Condition:
    """The attribute still is what it was when it was read, absence included."""
    return Absent((name,)) if value is None else Equals((name,), value)


def as_read_at(path: Path, value: Any) -> Condition:
    """The same of what stands inside an attribute; None: it is not there, or is nothing."""
    return OneOf(path, (0,), or_absent=True) if value is None else Equals(path, value)


def no_hold(now: Millis) -> tuple[Condition, ...]:
    """No hold is in force, neither an operator's nor a declaration's."""
    return NoLaterThan(("hold", "until"), now), NoLaterThan(("declared", "hold", "until"), now)


def _state_as_read(record: ContainerRecord) -> tuple[Condition, ...]:
    return (
        as_read("generation", record.generation),
        as_read("containerStatus", record.status and record.status.value),
        as_read("taskArn", record.task_arn),
    )


def _unmoved(record: ContainerRecord) -> tuple[Condition, ...]:
    """Nobody opened, touched, released or asked for the container since it was read: the fence."""
    return (
        as_read("lastActivity", record.last_activity),
        as_read("sessionCount", record.session_count),
        as_read("wantedUntil", record.wanted_until),
    )


def _identity(identity: ContainerIdentity) -> dict[Path, Any]:
    return {("clientId",): identity.client_id, ("projectId",): identity.project_id, ("userId",): identity.user_id}


def _same_owner(record: ContainerRecord) -> tuple[Condition, ...]:
    owner = record.identity
    return (
        as_read("clientId", owner and owner.client_id),
        as_read("projectId", owner and owner.project_id),
        as_read("userId", owner and owner.user_id),
    )


# Launch


def claim(
    record: ContainerRecord, identity: ContainerIdentity, generation: int, launch: Launch, created_at: str
) -> RecordWrite:
    """(1) Take the next generation, IF the record is as read and nothing runs in its name and no hold is in force."""
    sets: dict[Path, Any] = {
        **_identity(identity),
        ("generation",): generation,
        ("containerStatus",): ContainerStatus.STARTING.value,
        ("launch",): {"requestedAt": launch.requested_at, "keyId": launch.key_id, "request": launch.request},
    }
    if record.created_at is None:
        sets[("createdAt",)] = created_at
    rest = tuple(s.value for s in (ContainerStatus.TERMINATED, ContainerStatus.FAILED))
    return RecordWrite(
        record.container_id,
        (
            *_state_as_read(record),
            *_same_owner(record),
            OneOf(("containerStatus",), rest, or_absent=True),
            Absent(("taskArn",)),
            *no_hold(launch.requested_at),
        ),
        sets,
        (("containerIp",), ("emptySince",)),
    )


def record_arn(container_id: str, generation: int, arn: str) -> RecordWrite:
    """(3) Name the task that RunTask answered with, IF this launch still waits for it."""
    return RecordWrite(
        container_id,
        (
            Equals(("generation",), generation),
            Equals(("containerStatus",), ContainerStatus.STARTING.value),
            Absent(("taskArn",)),
        ),
        {("taskArn",): arn},
    )


def correct(record: ContainerRecord, task: Task) -> RecordWrite:
    """Write what the named task shows (running, its address), IF the record is as read."""
    sets: dict[Path, Any] = {("containerStatus",): ContainerStatus.RUNNING.value}
    if task.ip is not None:
        sets[("containerIp",)] = task.ip
    remove: tuple[Path, ...] = () if task.ip is not None else (("containerIp",),)
    return RecordWrite(
        record.container_id, (*_state_as_read(record), Equals(("taskArn",), task.arn)), sets, (*remove, ("failure",))
    )


def failed(record: ContainerRecord, failure: Failure) -> RecordWrite:
    """Count a launch that came to nothing, or the proven end of a task that somebody wanted.

    IF generation, status and ARN are as read: what has moved on meanwhile is not this launch's failure.
    """
    return RecordWrite(
        record.container_id,
        (*_state_as_read(record), Equals(("containerId",), record.container_id)),
        {("containerStatus",): ContainerStatus.FAILED.value, ("failure",): _failure(failure)},
        (("taskArn",), ("containerIp",), ("launch",)),
    )


def _failure(failure: Failure) -> dict[str, Any]:
    return {"count": failure.count, "reason": failure.reason, "at": failure.at, "retryAt": failure.retry_at}


def terminated(record: ContainerRecord, save: Save | None = None) -> RecordWrite:
    """(7) Nothing runs in this record's name any more, IF generation, status and ARN are as read."""
    sets: dict[Path, Any] = {("containerStatus",): ContainerStatus.TERMINATED.value}
    if save is not None:
        sets[("save",)] = save_map(save)
    return RecordWrite(
        record.container_id,
        _state_as_read(record),
        sets,
        (("taskArn",), ("containerIp",), ("emptySince",), ("launch",)),
    )


def adopt(record: ContainerRecord | None, task: Task, created_at: str) -> RecordWrite:
    """Name a task that runs without a record of ours, IF the record is as read, or there still is none."""
    base = record or ContainerRecord(task.container_id)
    sets: dict[Path, Any] = {
        **_identity(task.identity),
        ("generation",): max(task.generation or 0, base.generation or 0),
        ("containerStatus",): ContainerStatus.STARTING.value,
        ("taskArn",): task.arn,
        ("launch",): {"requestedAt": task.created_at, "keyId": "", "request": ""},
    }
    if base.created_at is None:
        sets[("createdAt",)] = created_at
    return RecordWrite(
        task.container_id, (*_state_as_read(base), *_same_owner(base)), sets, (("containerIp",), ("failure",))
    )


def adopt_orphan(task: Task, now: Millis, created_at: str, deadline: Millis) -> RecordWrite:
    """Create the record of a task that nobody owns, as `draining`, IF there still is none."""
    write = adopt(None, task, created_at)
    drain = {"id": 1, "reason": DrainReason.ORPHANED.value, "requestedAt": now, "deadline": deadline}
    sets = {**write.set, ("containerStatus",): ContainerStatus.DRAINING.value, ("drain",): drain, ("sessionCount",): 0}
    return RecordWrite(task.container_id, (Absent(("containerId",)),), sets)


# Bookkeeping


def repair_count(record: ContainerRecord, rows: int, now: Millis) -> RecordWrite:
    """Set sessionCount to the rows counted after the record was read, IF count and fence are as read.

    Raising it means somebody came whom the fence did not see: lastActivity moves to now.
    """
    sets: dict[Path, Any] = {("sessionCount",): rows}
    if rows > (record.session_count or 0):
        sets[("lastActivity",)] = now
    return RecordWrite(
        record.container_id,
        (
            as_read("sessionCount", record.session_count),
            as_read("lastActivity", record.last_activity),
            Equals(("containerId",), record.container_id),
        ),
        sets,
    )


def set_empty(record: ContainerRecord, now: Millis) -> RecordWrite:
    """Note when no open session was seen first, IF nothing moved: an original release does not move lastActivity."""
    return RecordWrite(
        record.container_id,
        (Absent(("emptySince",)), *_state_as_read(record), *_unmoved(record)),
        {("emptySince",): now},
    )


def clear_empty(record: ContainerRecord) -> RecordWrite:
    """Forget when it was empty: a session is there."""
    return RecordWrite(
        record.container_id,
        (as_read("emptySince", record.empty_since), Equals(("containerId",), record.container_id)),
        {},
        (("emptySince",),),
    )


# Stop


def begin_drain(record: ContainerRecord, reason: DrainReason, now: Millis, deadline: Millis) -> RecordWrite:
    """(3) draining with the next drain id, IF the record is as read, nothing moved and no hold is in force."""
    drain = {"id": record.last_drain_id + 1, "reason": reason.value, "requestedAt": now, "deadline": deadline}
    return RecordWrite(
        record.container_id,
        (*_state_as_read(record), *_drain_id(record), *(() if reason.is_forced else _unmoved(record)), *no_hold(now)),
        {("containerStatus",): ContainerStatus.DRAINING.value, ("drain",): drain},
    )


def _drain_id(record: ContainerRecord) -> tuple[Condition, ...]:
    return (Absent(("drain",)),) if record.drain is None else (Equals(("drain", "id"), record.drain.id),)


def _forced(record: ContainerRecord) -> bool:
    return record.drain is not None and record.drain.reason.is_forced


def cancel_drain(record: ContainerRecord) -> RecordWrite:
    """Back to running (or starting, for a task that never was ready), IF draining with this id."""
    return RecordWrite(
        record.container_id,
        (*_state_as_read(record), *_drain_id(record)),
        {("containerStatus",): _before_drain(record)},
        (("emptySince",),),
    )


def _before_drain(record: ContainerRecord) -> str:
    timed_out = record.drain is not None and record.drain.reason is DrainReason.LAUNCH_TIMED_OUT
    return (ContainerStatus.STARTING if timed_out or record.container_ip is None else ContainerStatus.RUNNING).value


def write_stopping(record: ContainerRecord, now: Millis, save: Save | None = None) -> RecordWrite:
    """(5) stopping, with the receipt, IF draining with this id, nothing moved and no hold is in force."""
    sets: dict[Path, Any] = {("containerStatus",): ContainerStatus.STOPPING.value, ("drain", "stoppingAt"): now}
    if save is not None:
        sets[("save",)] = save_map(save)
    return RecordWrite(
        record.container_id,
        (*_state_as_read(record), *_drain_id(record), *(() if _forced(record) else _unmoved(record)), *no_hold(now)),
        sets,
        (("drain", "confirmedAt"),),
    )


def save_map(save: Save) -> dict[str, Any]:
    """Return a save as the record holds it; what is empty is left out."""
    values = {
        "state": save.state,
        "branch": save.branch,
        "commit": save.commit,
        "remoteCommit": save.remote_commit,
        "rescueRef": save.rescue_ref,
        "at": save.at,
        "message": save.message,
    }
    return {name: value for name, value in values.items() if value not in ("", None)}


def revert_stopping(record: ContainerRecord, now: Millis, *, as_activity: bool) -> RecordWrite:
    """(5b) Back to running, IF stopping with this id and not confirmed.

    as_activity moves lastActivity to now: what cannot be told from activity (a message in a queue, a queue that does
    not answer) starts the idle clock anew, or the same stop would be tried again at once, for ever.
    """
    sets: dict[Path, Any] = {("containerStatus",): _before_drain(record)}
    if as_activity:
        sets[("lastActivity",)] = now
    return RecordWrite(
        record.container_id,
        (*_state_as_read(record), *_drain_id(record), Absent(("drain", "confirmedAt"))),
        sets,
        (("drain", "stoppingAt"), ("emptySince",)),
    )


def confirm_stop(record: ContainerRecord, now: Millis) -> RecordWrite:
    """(5c) From here nobody goes back, IF stopping with this id and nothing moved since the look began, and no hold."""
    return RecordWrite(
        record.container_id,
        (
            *_state_as_read(record),
            *_drain_id(record),
            Absent(("drain", "confirmedAt")),
            *(() if _forced(record) else _unmoved(record)),
            *no_hold(now),
        ),
        {("drain", "confirmedAt"): now},
    )


# Operators


def set_hold(record: ContainerRecord, by: str, reason: str, until: Millis) -> RecordWrite:
    """Put a hold on a container that has a record."""
    return RecordWrite(
        record.container_id,
        (Equals(("containerId",), record.container_id),),
        {("hold",): {"by": by, "reason": reason, "until": until}},
    )


def hold_new(identity: ContainerIdentity, by: str, reason: str, until: Millis) -> RecordWrite:
    """Make the record of a container that has none, held, IF there still is none."""
    return RecordWrite(
        identity.container_id,
        (Absent(("containerId",)),),
        {**_identity(identity), ("hold",): {"by": by, "reason": reason, "until": until}},
    )


def request_drain(record: ContainerRecord, now: Millis, deadline: Millis, *, even_if_active: bool) -> RecordWrite:
    """Drain a container because an operator asks for it, IF it is as read; unless told otherwise IF nobody came."""
    write = begin_drain(record, DrainReason.REQUESTED, now, deadline)
    return write if even_if_active else replace(write, expect=(*write.expect, *_unmoved(record)))


def lift_hold(record: ContainerRecord) -> RecordWrite:
    """Take the hold off."""
    return RecordWrite(record.container_id, (Equals(("containerId",), record.container_id),), {}, (("hold",),))


# Declarations


def declare(record: ContainerRecord | None, identity: ContainerIdentity, declaration: Declaration) -> RecordWrite:
    """Write what an object asks for, IF the record is still declared as it was read, and is nobody else's."""
    wish: dict[str, Any] = {"uid": declaration.uid, "generation": declaration.generation}
    wish["runPolicy"] = declaration.run_policy.value
    if declaration.idle_timeout is not None:
        wish["idleTimeout"] = declaration.idle_timeout
    wish |= {name: text for name, text in (("cpu", declaration.cpu), ("memory", declaration.memory)) if text}
    if declaration.hold:
        wish["hold"] = {"by": declaration.hold.by, "reason": declaration.hold.reason, "until": declaration.hold.until}
    set_ = {**_identity(identity), ("declared",): wish}
    if record is None:
        return RecordWrite(identity.container_id, (Absent(("containerId",)),), set_)
    return RecordWrite(record.container_id, (*_declared_as_read(record), *_same_owner(record)), set_)


def undeclare(record: ContainerRecord) -> RecordWrite:
    """Take a declaration back, IF it still is the one that was read."""
    return RecordWrite(record.container_id, _declared_as_read(record), {}, (("declared",),))


def _declared_as_read(record: ContainerRecord) -> tuple[Condition, ...]:
    there = record.declared
    if there is None:
        return (Absent(("declared",)),)
    return Equals(("declared", "uid"), there.uid), as_read_at(("declared", "generation"), there.generation or None)
