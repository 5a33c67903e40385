"""Whether a container is wanted, by whom, and when that ends by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controller.core.model import AgentReport, ContainerRecord, Millis, Reason, RunPolicy, Session, Task
from controller.core.policy import Policy


@dataclass(frozen=True, slots=True)
class SessionUse:
    """One session's part: active until then."""

    session: Session
    last_activity: Millis
    active_until: Millis
    active: bool
    stale: bool
    """An original row older than its maximum age: shown, counted, not active."""
    skewed: bool
    """Its lastActivity lies in the future and is not believed."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the sessions, the record and the declaration of one container come to.

    wanted_by is the reason, when wanted. idle_at is when the container counts as idle if nobody does anything.
    """

    uses: tuple[SessionUse, ...]
    wanted_by: Reason | None
    idle_at: Millis
    last_activity: Millis | None
    declared_stopped: bool

    @property
    def wanted(self) -> bool:
        return self.wanted_by is not None

    @property
    def active(self) -> int:
        """The number of active sessions."""
        return sum(1 for use in self.uses if use.active)


def session_use(
    session: Session, policy: Policy, idle_timeout: Millis, first_seen: Mapping[str, Millis], now: Millis
) -> SessionUse:
    """Return what one session row says at this time.

    A time ahead of now by more than the tolerance is ignored: createdAt counts, else when the row was seen first.
    """
    usable = [t for t in (session.last_activity, session.created_at) if _believed(t, policy, now)]
    at = usable[0] if usable and usable[0] is not None else first_seen.get(session.session_id, now)
    skewed = session.last_activity is not None and not _believed(session.last_activity, policy, now)
    if session.is_original:
        until = at + policy.original_session_max_age
        return SessionUse(session, at, until, now < until, now >= until, skewed)
    until = at + idle_timeout + policy.clock_slack
    return SessionUse(session, at, until, now < until, False, skewed)


def _believed(t: Millis | None, policy: Policy, now: Millis) -> bool:
    return t is not None and t <= now + policy.future_tolerance


def idle_timeout_of(record: ContainerRecord | None, policy: Policy) -> Millis:
    """Return the container's own idle timeout, where a declaration sets one."""
    declared = record.declared if record else None
    return declared.idle_timeout if declared and declared.idle_timeout is not None else policy.idle_timeout


def usage_of(
    sessions: Iterable[Session],
    record: ContainerRecord | None,
    task: Task | None,
    policy: Policy,
    first_seen: Mapping[str, Millis],
    now: Millis,
    agent: AgentReport | None = None,
) -> Usage:
    """Return who wants the container, and its idle time.

    The idle clock starts at the latest of: lastActivity of the open rows and of the record (writers' clocks, so with
    slack), the launch, `emptySince` and what the agent reports (times of this controller's own clock).
    """
    timeout = idle_timeout_of(record, policy)
    uses = tuple(session_use(s, policy, timeout, first_seen, now) for s in sessions)
    theirs = [use.last_activity for use in uses]
    ours: list[Millis] = [task.created_at] if task else []
    if record:
        if record.last_activity is not None and _believed(record.last_activity, policy, now):
            theirs.append(record.last_activity)
        launched = record.launch.requested_at if record.launch else None
        ours += [t for t in (launched, record.empty_since) if t is not None and _believed(t, policy, now)]
    if agent and agent.last_activity is not None and _believed(agent.last_activity, policy, now):
        ours.append(agent.last_activity)
    idle_at = max(max(theirs, default=0) + policy.clock_slack, max(ours, default=0)) + timeout
    declared = record.declared.run_policy if record and record.declared else RunPolicy.AUTO
    return Usage(
        uses,
        _wanted_by(uses, record, declared, policy, now),
        idle_at,
        max(theirs, default=None),
        declared is RunPolicy.STOPPED,
    )


def _wanted_by(
    uses: tuple[SessionUse, ...], record: ContainerRecord | None, declared: RunPolicy, policy: Policy, now: Millis
) -> Reason | None:
    if declared is RunPolicy.STOPPED:
        return None
    if any(use.active for use in uses):
        return Reason.SESSION_ACTIVE
    if record and record.wanted_until is not None and now < record.wanted_until <= now + policy.wanted_horizon:
        return Reason.WANTED
    return Reason.DECLARED if declared is RunPolicy.ALWAYS else None
