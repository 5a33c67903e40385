"""Why a container is as it is, until when, and what would change it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from controller.core.conditions import Phase, main_action, phase_of
from controller.core.model import (
    Action,
    ActionKind,
    ContainerRecord,
    ContainerStatus,
    Millis,
    Plan,
    Reason,
    Session,
    Task,
    World,
)
from controller.core.policy import Policy
from controller.core.revisions import is_outdated, short_revision
from controller.core.usage import SessionUse, Usage, idle_timeout_of, usage_of
from controller.core.words import counted, duration

At = Callable[[Millis], str]
_SHORT_ID = 12


@dataclass(frozen=True, slots=True)
class Explanation:
    """A headline and labelled lines, in the order in which a person asks: wanted, runs, record, saved, next."""

    headline: str
    parts: tuple[tuple[str, tuple[str, ...]], ...]


def explain(world: World, plan: Plan, container_id: str, policy: Policy, now: Millis, at: At) -> Explanation | None:
    """Return the explanation of one container, or None when nothing is known of it. `at` puts a time into words."""
    actions = [a for a in plan.actions if a.container_id == container_id]
    if not actions:
        return None
    main = main_action(actions)
    record = next((r for r in world.records if r.container_id == container_id), None)
    sessions = sorted((s for s in world.sessions if s.container_id == container_id), key=lambda s: s.session_id)
    tasks = sorted((t for t in world.tasks if t.container_id == container_id), key=lambda t: t.created_at)
    named = next((t for t in tasks if record and t.arn == record.task_arn), None)
    usage = usage_of(sessions, record, named, policy, world.first_seen, now)
    parts = [
        ("wanted", _wanted(usage, record, at, now)),
        ("runs", _runs(tasks, named, record, world.newest_definition, at)),
        ("record", _record(record, actions, sessions)),
        ("stopped", _stopped(record, at)),
        ("saved", _saved(record, at)),
        ("resume", _resume(record, sessions)),
        ("failed", _failed(record, at)),
        ("next", _next(actions, main, at)),
        ("sooner", _lifted(main) or _sooner(usage, record, policy, at)),
        ("never", _never(container_id, main)),
        ("sight", _sight(world)),
    ]
    return Explanation(_headline(main, usage), tuple((label, lines) for label, lines in parts if lines))


def _headline(main: Action, usage: Usage) -> str:
    phase = phase_of(main)
    whole = f"{usage.active} of its {counted(len(usage.uses), 'session')} {'is' if usage.active == 1 else 'are'} active"
    if main.reason in (Reason.HELD, Reason.PAUSED):
        return f"{main.reason} {main.message}."
    if phase is Phase.HELD:
        return f"Held: {main.reason}, {main.message}."
    if main.kind is ActionKind.KEEP and phase is Phase.RUNNING:
        return f"Running, and kept: {whole if usage.active else main.message}."
    if main.kind is ActionKind.KEEP:
        return f"{phase}: {main.message}."
    verb = f"not yet {main.deferred}" if main.kind is ActionKind.DEFER and main.deferred else str(main.kind)
    return f"{phase}, and now: {verb} ({main.reason}): {main.message}."


def _wanted(usage: Usage, record: ContainerRecord | None, at: At, now: Millis) -> tuple[str, ...]:
    lines = [_session_line(use, at, now) for use in usage.uses]
    if record and record.wanted_until is not None and record.wanted_until > now:
        lines.append(f"asked for until {at(record.wanted_until)}")
    if record and record.declared:
        lines.append(f"its declaration says {record.declared.run_policy}")
    if not lines:
        lines.append("no open session")
    return (f"{'yes' if usage.wanted else 'no':<5}{lines[0]}", *(f"     {line}" for line in lines[1:]))


def _session_line(use: SessionUse, at: At, now: Millis) -> str:
    name = use.session.session_id
    short = name if len(name) <= _SHORT_ID else name[:4] + "…"
    what = f"{'original ' if use.session.is_original else ''}session {short}"
    ago = duration(now - use.last_activity)
    skew = "; its lastActivity lies in the future and is not believed" if use.skewed else ""
    if use.stale:
        return f"{what} open, {ago} old: StaleSession, no longer counts{skew}"
    if use.session.is_original:
        return f"{what} open, counts until it is released, {at(use.active_until)} at the latest{skew}"
    if use.active:
        return f"{what} active {ago} ago, counts until {at(use.active_until)}{skew}"
    return f"{what} open, last active {ago} ago, no longer counts{skew}"


def _runs(
    tasks: list[Task], named: Task | None, record: ContainerRecord | None, newest: str, at: At
) -> tuple[str, ...]:
    running = [t for t in tasks if not t.stopped]
    lines = []
    for t in running:
        place = f" at {t.ip}" if t.ip else ""
        role = "" if t is named else "; not the one that the record names"
        generation = f", generation {t.generation}" if t.generation is not None else ""
        lines.append(
            f"task {t.short} {t.last_status} since {at(t.started_at or t.created_at)}{place}{generation}{role}"
        )
        if is_outdated(t, newest):
            lines.append(
                f"Outdated: it runs {short_revision(t.task_definition)}, a new one would run {short_revision(newest)}"
                f" (editctl restart {t.container_id})"
            )
    if not lines:
        named_arn = record.task_arn if record else None
        lines.append("no task" + (f"; the record names {named_arn.rpartition('/')[2][:6]}" if named_arn else ""))
    return (f"{'yes' if running else 'no':<5}{lines[0]}", *(f"     {line}" for line in lines[1:]))


def _record(record: ContainerRecord | None, actions: list[Action], sessions: list[Session]) -> tuple[str, ...]:
    if record is None:
        return ("none",)
    facts = (
        f"{record.status or 'no status'}, sessionCount {record.session_count or 0}, generation {record.generation or 0}"
    )
    behind = [a.message for a in actions if a.kind in (ActionKind.RECORD, ActionKind.COUNT)]
    return (f"behind: {'; '.join(behind)} ({facts})" if behind else f"agrees ({facts})",)


def _saved(record: ContainerRecord | None, at: At) -> tuple[str, ...]:
    save = record.save if record else None
    if save is None:
        return ()
    when = f"{at(save.at)} " if save.at is not None else ""
    where = f"{save.branch} {save.commit[:7]}".strip()
    verified = ", verified at the remote" if save.remote_commit and save.remote_commit == save.commit else ""
    rescue = f", rescued to {save.rescue_ref}" if save.rescue_ref else ""
    return (f"{when}{save.state} {where}{verified}{rescue}{': ' + save.message if save.message else ''}",)


def _stopped(record: ContainerRecord | None, at: At) -> tuple[str, ...]:
    """Say why its last task was stopped, for whoever finds the container gone."""
    if record is None or record.status is not ContainerStatus.TERMINATED or record.drain is None:
        return ()
    drain = record.drain
    when = at(drain.stopping_at if drain.stopping_at is not None else drain.requested_at)
    return (f"generation {record.generation or 0} at {when}: {drain.reason}",)


def _resume(record: ContainerRecord | None, sessions: list[Session]) -> tuple[str, ...]:
    if record is None or record.status is not ContainerStatus.TERMINATED:
        return ()
    work = " with the work as it was saved" if record.save and record.save.state == "saved" else ""
    if sessions:
        return (f"a message in a session starts it again{work}: editctl session touch {sessions[0].session_id}",)
    return (f"a new session starts it again{work}; editctl session open --help",)


def _failed(record: ContainerRecord | None, at: At) -> tuple[str, ...]:
    failure = record.failure if record else None
    if failure is None:
        return ()
    return (f"{counted(failure.count, 'launch', 'launches')} in a row, last at {at(failure.at)}: {failure.reason}",)


def _next(actions: list[Action], main: Action, at: At) -> tuple[str, ...]:
    now = [f"now: {a.kind} ({a.reason}): {a.message}" for a in actions if a.kind.changes]
    # What the main decision does not tell: a second task is still there, and why.
    waits = [f"not yet {a.deferred} ({a.reason}): {a.message}" for a in actions if a.on_second_task and a.deferred]
    if now:
        return (*now, *waits)
    if main.until is not None and main.then:
        condition = ", if nobody writes" if main.then == "drain" and main.reason is not Reason.STARTING else ""
        return (*waits, f"{at(main.until)} {main.then}{condition}")
    return (*waits,) or ("nothing by itself",)


def _lifted(main: Action) -> tuple[str, ...]:
    """What ends a hold before its time."""
    if main.reason is Reason.PAUSED:
        return ("editctl unpause",)
    own = main.record.hold if main.record else None
    return (f"editctl unhold {main.container_id}",) if main.reason is Reason.HELD and own else ()


def _sooner(usage: Usage, record: ContainerRecord | None, policy: Policy, at: At) -> tuple[str, ...]:
    if not usage.wanted or not usage.uses or record is None or record.status is not ContainerStatus.RUNNING:
        return ()
    timeout = duration(idle_timeout_of(record, policy))
    if any(use.active and use.session.is_original for use in usage.uses):
        return (f"if its original sessions are released: {timeout} after that",)
    return (f"if its sessions are released: {at(usage.idle_at)} all the same ({timeout} after the last activity)",)


def _never(container_id: str, main: Action) -> tuple[str, ...]:
    if main.kind is ActionKind.HOLD or not (main.then == "drain" or main.drain_reason):
        return ()
    return (f'while held: editctl hold {container_id} --for 2h --reason "…"',)


def _sight(world: World) -> tuple[str, ...]:
    named = (("sessions", world.sessions_sight), ("records", world.records_sight), ("tasks", world.tasks_sight))
    return tuple(f"{name} {sight.quality}: {sight.detail}" for name, sight in named if not sight.complete)
