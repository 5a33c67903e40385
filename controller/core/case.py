"""One container id and everything seen of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from controller.core.identity import ContainerIdentity, Ownership, split_container_id
from controller.core.model import (
    Action,
    ActionKind,
    AgentReport,
    ContainerRecord,
    DrainReason,
    Hold,
    Millis,
    Quarantined,
    Reason,
    Session,
    Step,
    Task,
    World,
)
from controller.core.policy import Policy
from controller.core.usage import Usage, usage_of
from controller.core.words import counted, duration


@dataclass(frozen=True)
class Case:
    """One container id and everything seen of it; `tasks` oldest first."""

    world: World
    policy: Policy
    now: Millis
    container_id: str
    sessions: tuple[Session, ...]
    record: ContainerRecord | None
    tasks: tuple[Task, ...]
    quarantined: tuple[Quarantined, ...]
    _usages: dict[str, Usage] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def triples(self) -> frozenset[ContainerIdentity]:
        known = [s.identity for s in self.sessions] + [t.identity for t in self.tasks if not t.stopped]
        known.append(self.record.identity if self.record else None)
        return frozenset(t for t in known if t is not None)

    @property
    def identity(self) -> ContainerIdentity | None:
        triples = self.triples or {t.identity for t in self.tasks}
        return min(triples) if triples else split_container_id(self.container_id)

    @property
    def ours(self) -> tuple[Task, ...]:
        return tuple(t for t in self.tasks if t.ownership is not Ownership.FOREIGN)

    @property
    def named(self) -> Task | None:
        arn = self.record.task_arn if self.record else None
        return next((t for t in self.tasks if t.arn == arn), None) if arn else None

    @property
    def unnamed_live(self) -> tuple[Task, ...]:
        arn = self.record.task_arn if self.record else None
        return tuple(t for t in self.ours if t.live and t.arn != arn)

    @property
    def no_record(self) -> bool:
        """Whether nothing was ever launched in this id's name: no row, or one that only session writers made."""
        return self.record is None or (self.record.status is None and not self.record.task_arn)

    @property
    def hold(self) -> Hold | None:
        r = self.record
        holds = [self.world.pause, r.hold if r else None, r.declared.hold if r and r.declared else None]
        return next((h for h in holds if h and h.in_force(self.now)), None)

    @property
    def row_quarantined(self) -> Quarantined | None:
        """An unreadable session row of this container, while it still protects it."""
        return next(
            (
                q
                for q in self.quarantined
                if q.table == "sessions" and self.now < q.first_seen + self.policy.quarantine_hold
            ),
            None,
        )

    @property
    def count_drifted(self) -> bool:
        return self.record is not None and (self.record.session_count or 0) != len(self.sessions)

    @property
    def unclear(self) -> bool:
        """Whether nobody can say "not wanted": the rows do not agree with the count, or one cannot be read."""
        return self.count_drifted or self.row_quarantined is not None

    def usage(self, task: Task | None) -> Usage:
        """Return who wants the container and until when; every action shows it, so it is worked out once a task."""
        key = task.arn if task else ""
        if key not in self._usages:
            first_seen, agent = self.world.first_seen, self.agent(task) if task else None
            self._usages[key] = usage_of(self.sessions, self.record, task, self.policy, first_seen, self.now, agent)
        return self._usages[key]

    def agent(self, task: Task) -> AgentReport | None:
        """Return what the task's agent said, None when it was not asked."""
        return self.world.agents.get(task.arn)

    def has_agent(self, record: ContainerRecord) -> bool:
        """Whether the named task has an agent that this controller can ask; one launched by others has none."""
        return self.policy.agents and record.has_agent

    def may_hold_work(self, task: Task) -> bool:
        """Whether the agent of a task that the record does not name can be asked for what it may hold."""
        return self.policy.agents and bool(task.token_digest) and task.has_run

    def admitted(self, record: ContainerRecord, task: Task) -> bool:
        """Whether the workload was let in: a task without an agent needs no admission."""
        report = self.agent(task)
        return not self.has_agent(record) or (report is not None and report.admitted)

    def who_wants(self, usage: Usage) -> str:
        if usage.wanted_by is Reason.SESSION_ACTIVE:
            newest = max(use.last_activity for use in usage.uses if use.active)
            return f"{counted(usage.active, 'active session')}, newest {duration(self.now - newest)} ago"
        if usage.wanted_by is Reason.WANTED and self.record:
            return f"asked for, for another {duration((self.record.wanted_until or 0) - self.now)}"
        return "its declaration says Always"

    def hold_reason(self) -> Reason:
        pause = self.world.pause
        return Reason.PAUSED if pause and pause.in_force(self.now) else Reason.HELD

    def hold_back(
        self,
        reason: Reason,
        message: str,
        task: Task | None = None,
        until: Millis | None = None,
        deferred: ActionKind | None = None,
    ) -> Action:
        return self.act(
            Step.NONE,
            reason,
            message,
            task,
            kind=ActionKind.HOLD,
            until=until,
            deferred=deferred,
            then="look again" if until else "",
        )

    def keep(
        self,
        reason: Reason,
        message: str,
        task: Task | None = None,
        until: Millis | None = None,
        then: str = "",
        usage: Usage | None = None,
    ) -> Action:
        return self.act(
            Step.NONE, reason, message, task, kind=ActionKind.KEEP, until=until, then=then if until else "", usage=usage
        )

    def act(
        self,
        step: Step,
        reason: Reason,
        message: str,
        task: Task | None = None,
        *,
        kind: ActionKind | None = None,
        drain_reason: DrainReason | None = None,
        generation: int | None = None,
        deferred: ActionKind | None = None,
        until: Millis | None = None,
        then: str = "",
        usage: Usage | None = None,
    ) -> Action:
        usage = usage or self.usage(task)
        return Action(
            kind=kind or step.kind,
            container_id=self.container_id,
            reason=reason,
            message=message,
            step=step,
            identity=self.identity,
            record=self.record,
            task=task,
            sessions=len(self.sessions),
            active_sessions=usage.active,
            generation=generation if generation is not None else (self.record.generation if self.record else None),
            last_activity=usage.last_activity,
            drain_reason=drain_reason,
            deferred=deferred,
            until=until,
            then=then,
        )


def short(arn: str | None) -> str:
    return (arn or "none").rpartition("/")[2][:6]


def why_stopped(task: Task) -> str:
    parts = [task.stop_code, task.stopped_reason, "" if task.exit_code is None else f"exit code {task.exit_code}"]
    text = ", ".join(p for p in parts if p)
    return f" ({text[:160]})" if text else ""


def hold_text(hold: Hold) -> str:
    return f"by {hold.by}: {hold.reason}"


def readings(container_id: str) -> str:
    """Return the first two ways in which an ambiguous id can be read, for a sentence."""
    parts = container_id.split("-")
    if len(parts) < 3:
        return f"'{container_id[:80]}' holds no client, project and user"
    user = parts[-1]
    return f"{parts[0]} + {'-'.join(parts[1:-1])} + {user} or {'-'.join(parts[:-2])} + {parts[-2]} + {user}"
