"""Builders with sane defaults: a test names only what it is about.

Ages are texts like "3m" or "90s" before NOW; `identity("acme-blog-tom")` splits at the dashes.
"""

from __future__ import annotations

from typing import Any

from controller.core.identity import ContainerIdentity, Ownership
from controller.core.model import (
    ContainerRecord,
    ContainerStatus,
    Drain,
    DrainReason,
    Failure,
    Hold,
    Launch,
    Quality,
    Session,
    Sight,
    Task,
    World,
)
from tests.fakes.clock import START_MS

NOW = START_MS
TOM = "acme-blog-tom"
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def ms(text: str) -> int:
    """Return a duration like "90s", "3m", "2h" or "1d" in milliseconds."""
    unit = next(u for u in ("ms", "s", "m", "h", "d") if text.endswith(u))
    return round(float(text[: -len(unit)]) * _UNITS[unit])


def ago(text: str) -> int:
    """Return the time so long before NOW; a leading "-" means after it."""
    return NOW + ms(text[1:]) if text.startswith("-") else NOW - ms(text)


def identity(text: str = TOM) -> ContainerIdentity:
    """Return the identity of an id with exactly two dashes."""
    client, project, user = text.split("-")
    return ContainerIdentity(client, project, user)


def arn(number: int = 1) -> str:
    """Return a task ARN whose id begins with the number."""
    return f"arn:aws:ecs:eu-west-1:123456789012:task/webordinary/{number:08d}{'0' * 24}"


def session(session_id: str = "s1", container: str = TOM, *, age: str = "1m", **more: Any) -> Session:
    """Return a row of our own writer, last active so long ago."""
    owner = identity(container)
    values: dict[str, Any] = {"created_at": ago(age), "last_activity": ago(age), **more}
    return Session(session_id, container, owner, **values)


def original_session(session_id: str = "o1", container: str = TOM, *, age: str = "1m", **more: Any) -> Session:
    """Return a row of the original writer: it carries only the container id."""
    values: dict[str, Any] = {"created_at": ago(age), "last_activity": ago(age), **more}
    return Session(session_id, container, None, **values)


def record(
    status: str | None = "running", container: str = TOM, *, age: str = "1m", launched: str = "1h", **more: Any
) -> ContainerRecord:
    """Return a record of generation 1 that agrees with one session and, unless at rest, names task 1."""
    at_rest = status in (None, "terminated", "failed")
    values: dict[str, Any] = {
        "identity": identity(container),
        "task_arn": None if at_rest else arn(1),
        "container_ip": "10.0.0.1" if status in ("running", "draining", "stopping") else None,
        "session_count": 1,
        "created_at": ago("1d"),
        "last_activity": ago(age),
        "generation": 1,
        "launch": None if at_rest else Launch(ago(launched), '{"taskDefinition":"x"}'),
        "drain": drain() if status in ("draining", "stopping") else None,
        **more,
    }
    return ContainerRecord(container, status=ContainerStatus(status) if status else None, **values)


def drain(reason: str = "Idle", *, number: int = 1, age: str = "10s", **more: Any) -> Drain:
    """Return a drain that began so long ago."""
    return Drain(number, DrainReason(reason), ago(age), ago(age) + ms("5m"), **more)


def failure(count: int = 1, *, retry_in: str = "10s", reason: str = "RESOURCE:CPU") -> Failure:
    """Return launches that failed in a row."""
    return Failure(count, reason, NOW, NOW + ms(retry_in))


def hold(*, lasts: str = "1h") -> Hold:
    """Return an operator's hold."""
    return Hold("ops", "looking at it", NOW + ms(lasts))


def task(number: int = 1, container: str = TOM, *, age: str = "1h", ownership: str = "ours", **more: Any) -> Task:
    """Return a running task of ours, of generation 1."""
    values: dict[str, Any] = {
        "generation": 1 if ownership == "ours" else None,
        "ip": "10.0.0.1",
        "created_at": ago(age),
        "started_at": ago(age),
        **more,
    }
    return Task(arn(number), identity(container), Ownership(ownership), **values)


def stopping(number: int = 1, **more: Any) -> Task:
    """Return a task between StopTask and STOPPED."""
    return task(number, last_status="DEACTIVATING", desired_status="STOPPED", **more)


def stopped(number: int = 1, **more: Any) -> Task:
    """Return a task that is STOPPED."""
    return task(number, last_status="STOPPED", desired_status="STOPPED", **more)


def world(*things: object, **more: Any) -> World:
    """Return a world of these sessions, records and tasks, completely seen."""
    return World(
        sessions=tuple(t for t in things if isinstance(t, Session)),
        records=tuple(t for t in things if isinstance(t, ContainerRecord)),
        tasks=tuple(t for t in things if isinstance(t, Task)),
        **more,
    )


def partly(detail: str = "page 2 failed: ThrottlingException") -> Sight:
    """Return the sight of a read that ended early."""
    return Sight(Quality.INCOMPLETE, detail)
