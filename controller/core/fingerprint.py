"""What a decision rests on, as a short text: the same while nothing that matters has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from controller.core.model import Action, ContainerRecord, Task

VERSION = "v1"
"""In front of every fingerprint: a saved plan of another version is stale as a whole, never half understood."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that a decision rested on, then and now."""

    name: str
    before: str | int | None
    now: str | int | None


def fingerprint(action: Action) -> str:
    """Return `v1:` and 16 hexadecimal digits over the decision and what it was made of; times that pass are no part."""
    parts = [
        action.container_id,
        action.identity and [action.identity.client_id, action.identity.project_id, action.identity.user_id],
        action.kind,
        action.step,
        action.reason,
        action.generation,
        action.drain_reason,
        action.sessions,
        action.active_sessions,
        _record(action.record),
        _task(action.task),
    ]
    digest = hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()
    return f"{VERSION}:{digest[:16]}"


def basis(action: Action) -> dict[str, str | int | None]:
    """Return what a decision rests on by name, so that it can be said which of it has changed."""
    record, task = action.record, action.task
    return {
        "sessions": action.sessions,
        "activeSessions": action.active_sessions,
        "generation": record.generation if record else None,
        "containerStatus": record.status.value if record and record.status else None,
        "taskArn": record.task_arn if record else None,
        "sessionCount": record.session_count if record else None,
        "lastActivity": record.last_activity if record else None,
        "wantedUntil": record.wanted_until if record else None,
        "drainId": record.last_drain_id if record else None,
        "heldUntil": record.hold.until if record and record.hold else None,
        "task": task.arn if task else None,
        "taskStatus": task.last_status if task else None,
        "desiredStatus": task.desired_status if task else None,
        "containerIp": task.ip if task else None,
    }


def changes(before: Mapping[str, str | int | None], action: Action) -> tuple[Change, ...]:
    """Return what has another value now than it had when `before` was kept."""
    return tuple(Change(name, before.get(name), now) for name, now in basis(action).items() if before.get(name) != now)


def _record(record: ContainerRecord | None) -> object:
    if record is None:
        return None
    return [
        record.generation,
        record.status,
        record.task_arn,
        record.session_count,
        record.last_activity,
        record.wanted_until,
        record.last_drain_id,
        record.hold and record.hold.until,
    ]


def _task(task: Task | None) -> object:
    return None if task is None else [task.arn, task.last_status, task.desired_status, task.ip]
