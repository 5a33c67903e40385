"""What scripts read: the JSON of plan, status, explain, sessions and settings. The schemas are in docs/schemas/.

Times are UTC in ISO 8601, ids are whole, keys do not change without a new version.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from controller.cli.render import upcoming_of
from controller.core.conditions import Summary
from controller.core.explain import Explanation
from controller.core.fingerprint import fingerprint
from controller.core.identity import ContainerIdentity
from controller.core.model import Action, ActionKind, Hold, Millis, Plan, Quality, Quarantined, Session, World
from controller.core.usage import SessionUse
from controller.telemetry import iso

VERSION = 1
_SIGHT = {Quality.COMPLETE: "fresh", Quality.INCOMPLETE: "incomplete", Quality.UNKNOWN: "unknown"}


def text(document: Any) -> str:
    """Return the document as it is written; ASCII, so that no terminal and no tool can stumble over an id."""
    return json.dumps(document, indent=2)


def plan_document(world: World, plan: Plan, observed_at: Millis | None = None) -> dict[str, Any]:
    """Return every decision, the quiet ones too. A plan for another time than observed_at is a forecast."""
    seen_at = plan.at if observed_at is None else observed_at
    upcoming = upcoming_of(world, plan)
    return {
        **_head(world, plan),
        "observedAt": iso(seen_at),
        "forecastFor": iso(plan.at) if plan.at != seen_at else None,
        "actions": [_action(a) for a in plan.actions],
        "unreadable": [_row(r) for r in world.quarantined],
        "summary": {kind.value: plan.counts().get(kind.value, 0) for kind in ActionKind},
        "next": upcoming
        and {
            "at": iso(upcoming.at),
            "containerId": upcoming.container_id,
            "action": upcoming.what,
            "reason": upcoming.reason,
        },
    }


def _head(world: World, plan: Plan) -> dict[str, Any]:
    return {
        "version": VERSION,
        "observedAt": iso(plan.at),
        "cluster": world.cluster,
        "region": world.region,
        "sight": {name: _SIGHT[sight.quality] for name, sight in plan.sights.items()},
        "sightDetails": {name: sight.detail for name, sight in plan.sights.items() if not sight.complete},
        "pause": _hold(world.pause) if world.pause and world.pause.in_force(plan.at) else None,
    }


def _hold(hold: Hold) -> dict[str, str]:
    return {"by": hold.by, "reason": hold.reason, "until": iso(hold.until)}


def _action(action: Action) -> dict[str, Any]:
    return {
        **_identity(action.container_id, action.identity),
        "action": action.kind.value,
        "reason": action.reason.value,
        "message": action.message,
        "fingerprint": fingerprint(action),
        "step": action.step.value,
        "taskArn": (action.task.arn if action.task else None) or (action.record.task_arn if action.record else None),
        "generation": action.generation,
        "sessions": action.sessions,
        "activeSessions": action.active_sessions,
        "lastActivity": _time(action.last_activity),
        "instead": action.deferred.value if action.deferred else None,
        "until": _time(action.until),
        "then": action.then or None,
    }


def _identity(container_id: str, identity: ContainerIdentity | None) -> dict[str, str | None]:
    return {
        "containerId": container_id,
        "clientId": identity.client_id if identity else None,
        "projectId": identity.project_id if identity else None,
        "userId": identity.user_id if identity else None,
    }


def _row(row: Quarantined) -> dict[str, Any]:
    return {
        "table": row.table,
        "key": row.key,
        "containerId": row.container_id,
        "reason": row.reason,
        "firstSeen": iso(row.first_seen),
    }


def _time(at: Millis | None) -> str | None:
    return None if at is None else iso(at)


def status_document(world: World, plan: Plan, found: Iterable[Summary]) -> dict[str, Any]:
    """Return one entry a container."""
    return {**_head(world, plan), "containers": [summary_document(s) for s in found]}


def summary_document(s: Summary) -> dict[str, Any]:
    """Return what `status` knows of one container."""
    return {
        **_identity(s.container_id, s.identity),
        "phase": s.phase.value,
        "sessions": s.sessions,
        "activeSessions": s.active_sessions,
        "lastActivity": _time(s.last_activity),
        "since": _time(s.since),
        "next": {"at": _time(s.next_at), "action": s.next_what or None, "reason": s.next_reason},
        "generation": s.generation,
        "taskArn": s.task_arn,
        "containerIp": s.container_ip,
        "conditions": [
            {"type": c.type, "status": c.status, "reason": c.reason, "message": c.message} for c in s.conditions
        ],
    }


def explain_document(world: World, plan: Plan, summary: Summary, explanation: Explanation) -> dict[str, Any]:
    """Return the summary, the explanation and the actions of one container."""
    return {
        **_head(world, plan),
        "container": summary_document(summary),
        "headline": explanation.headline,
        "parts": [{"label": label, "lines": list(lines)} for label, lines in explanation.parts],
        "actions": [_action(a) for a in plan.actions if a.container_id == summary.container_id],
    }


def sessions_document(uses: Sequence[SessionUse]) -> dict[str, Any]:
    """Return one entry a session."""
    return {"version": VERSION, "sessions": [session_document(use) for use in uses]}


def session_document(use: SessionUse) -> dict[str, Any]:
    """Return one session."""
    session: Session = use.session
    return {
        "sessionId": session.session_id,
        **_identity(session.container_id, session.identity),
        "active": use.active,
        "activeUntil": iso(use.active_until),
        "lastActivity": _time(session.last_activity),
        "createdAt": _time(session.created_at),
        "inputQueueUrl": session.input_queue_url or None,
        "outputQueueUrl": session.output_queue_url or None,
    }
