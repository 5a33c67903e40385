"""What a decision rests on, as a short text: the same while nothing that matters has changed."""

from __future__ import annotations

import hashlib
import json

from controller.core.model import Action, ContainerRecord, Task

VERSION = "v1"
"""In front of every fingerprint: a saved plan of another version is stale as a whole, never half understood."""


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
