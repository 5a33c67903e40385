"""The planner: a world, a policy and a time in, a plan out.

The decision table, for one container (the task that the record names is *the named one*):

    live tasks            record                        decision
    0                     none, terminated, failed      wanted: claim the next generation (or wait: backoff, a stop in progress)
    any                   starting, no ARN              finish that launch, wanted or not: its answer may have been lost
    0                     any other, with an ARN        proven gone: terminated, or failed when somebody wanted it; unproven: wait
    the named one         stopping                      go on with the stop; never back to running from here
    the named one         draining                      wanted again or held: cancel; else write stopping
    the named one         starting, running             bring the record up to date; keep; drain when idle, declared or timed out
    not named, ours       none                          adopt the highest generation, then the oldest; an orphan is drained
    not named, ours       any other                     superseded: stopped, never adopted, and no start while it lives
    not named, original's none, terminated, failed      adopt; superseded when the record names another
    any                   sessionCount != rows          repair the count; until then nobody can say "not wanted"

What must not happen on bad sight, under a hold or in a pause is taken out at the end, so that it can be shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from controller.core.identity import ContainerIdentity, Ownership, split_container_id
from controller.core.model import (
    Action,
    ActionKind,
    ContainerRecord,
    ContainerStatus,
    DrainReason,
    Hold,
    Millis,
    Plan,
    Quarantined,
    Reason,
    Session,
    Step,
    Task,
    World,
)
from controller.core.policy import Policy, enforce
from controller.core.usage import Usage, usage_of
from controller.core.words import counted, duration

_ORDER = {kind: position for position, kind in enumerate(ActionKind)}
_AT_REST = (ContainerStatus.TERMINATED, ContainerStatus.FAILED)

NEEDS_TASKS = frozenset(
    {
        Step.CLAIM,
        Step.RUN_TASK,
        Step.RECORD_ARN,
        Step.ADOPT,
        Step.ADOPT_ORPHAN,
        Step.MARK_TASK,
        Step.BEGIN_DRAIN,
        Step.WRITE_STOPPING,
        Step.LOOK_AGAIN,
        Step.STOP_TASK,
        Step.STOP_SUPERSEDED,
        Step.TERMINATED,
        Step.FAILED,
    }
)
"""Steps that nobody may take who has not seen all tasks."""
NEEDS_SESSIONS = frozenset(
    {
        Step.ADOPT_ORPHAN,
        Step.SET_EMPTY,
        Step.REPAIR_COUNT,
        Step.BEGIN_DRAIN,
        Step.WRITE_STOPPING,
        Step.LOOK_AGAIN,
        Step.STOP_TASK,
        Step.STOP_SUPERSEDED,
        Step.TERMINATED,
        Step.FAILED,
    }
)
"""Steps that nobody may take who has not seen all sessions: an absent row proves nothing."""
FORBIDDEN_UNDER_HOLD = frozenset(
    {Step.CLAIM, Step.RUN_TASK, Step.ADOPT_ORPHAN, Step.BEGIN_DRAIN, Step.WRITE_STOPPING, Step.STOP_SUPERSEDED}
)
"""Steps that a hold or a pause forbids. A confirmed stop goes on; (5b) itself looks at the hold."""


def compute_plan(world: World, policy: Policy, now: Millis) -> Plan:
    """Return every decision for this world at this time, within the policy's budgets. The order of rows and tasks is irrelevant."""
    actions: list[Action] = []
    for case in _cases(world, policy, now):
        actions += case.decide()
    actions.sort(key=lambda a: (_ORDER[a.kind], a.container_id, a.step, a.task.arn if a.task else ""))
    nominated = frozenset(
        a.key
        for a in actions
        if a.step in (Step.BEGIN_DRAIN, Step.ADOPT_ORPHAN, Step.STOP_SUPERSEDED) or a.reason is Reason.SEEN_ONCE
    )
    sights = {"sessions": world.sessions_sight, "records": world.records_sight, "tasks": world.tasks_sight}
    plan = Plan(tuple(actions), now, sights, nominated if world.complete else frozenset())
    return enforce(plan, world, policy)


def needs_second_look(plan: Plan) -> bool:
    """Whether something waits only for another complete observation to agree."""
    return any(a.kind is ActionKind.DEFER and a.reason in (Reason.SEEN_ONCE, Reason.MASS_STOP) for a in plan.actions)


# One container


def _cases(world: World, policy: Policy, now: Millis) -> Iterable[_Case]:
    sessions: dict[str, list[Session]] = {}
    tasks: dict[str, list[Task]] = {}
    records = {r.container_id: r for r in world.records}
    quarantined: dict[str, list[Quarantined]] = {}
    for s in world.sessions:
        sessions.setdefault(s.container_id, []).append(s)
    for t in world.tasks:
        tasks.setdefault(t.container_id, []).append(t)
    for q in world.quarantined:
        if q.container_id is not None:
            quarantined.setdefault(q.container_id, []).append(q)
    for container_id in sorted({*sessions, *tasks, *records, *quarantined}):
        yield _Case(
            world,
            policy,
            now,
            container_id,
            tuple(sorted(sessions.get(container_id, ()), key=lambda s: s.session_id)),
            records.get(container_id),
            tuple(sorted(tasks.get(container_id, ()), key=lambda t: (t.created_at, t.arn))),
            tuple(quarantined.get(container_id, ())),
        )


@dataclass(frozen=True)
class _Case:
    """One container id and everything seen of it; `tasks` oldest first."""

    world: World
    policy: Policy
    now: Millis
    container_id: str
    sessions: tuple[Session, ...]
    record: ContainerRecord | None
    tasks: tuple[Task, ...]
    quarantined: tuple[Quarantined, ...]

    def decide(self) -> list[Action]:
        """Return this container's actions, with those that sight, hold or pause forbid turned into holds."""
        blocked = self._blocked()
        if blocked:
            return [blocked]
        actions = [*self._count(), *self._superseded(), self._main(), *self._mark(), *self._foreign()]
        return [self._permitted(a) for a in actions if a is not None]

    # What keeps any decision from being made

    def _blocked(self) -> Action | None:
        if not self.world.records_sight.complete:
            return self._hold(Reason.SIGHT_INCOMPLETE, f"records were not all seen: {self.world.records_sight.detail}")
        for row in self.quarantined:
            if row.table == "records":
                return self._hold(Reason.ROW_QUARANTINED, f"its record cannot be read: {row.reason}")
        triples = self._triples()
        if len(triples) > 1:
            return self._hold(Reason.IDENTITY_CONFLICT, "claimed by " + " and ".join(str(t) for t in sorted(triples)))
        if not triples and split_container_id(self.container_id) is None and (self.sessions or self.record):
            return self._hold(
                Reason.AMBIGUOUS_IDENTITY, f"{_readings(self.container_id)}: no row or task names the client"
            )
        return None

    def _triples(self) -> set[ContainerIdentity]:
        known = [s.identity for s in self.sessions] + [t.identity for t in self.tasks if not t.stopped]
        known.append(self.record.identity if self.record else None)
        return {t for t in known if t is not None}

    @property
    def identity(self) -> ContainerIdentity | None:
        triples = self._triples() or {t.identity for t in self.tasks}
        return min(triples) if triples else split_container_id(self.container_id)

    # The parts of the sight

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
        return usage_of(self.sessions, self.record, task, self.policy, self.world.first_seen, self.now)

    # Decisions beside the main one

    def _count(self) -> list[Action]:
        if not self.count_drifted or self.row_quarantined or self.record is None:
            return []
        rows, count = len(self.sessions), self.record.session_count
        return [
            self._act(
                Step.REPAIR_COUNT,
                Reason.COUNT_DRIFTED,
                f"sessionCount {'none' if count is None else count} -> {rows} ({counted(rows, 'row')})",
            )
        ]

    def _mark(self) -> list[Action]:
        task = self.named
        if task is None or not task.live or task.ownership is not Ownership.ORIGINAL:
            return []
        return [
            self._act(Step.MARK_TASK, Reason.NOT_MARKED, f"task {task.short} carries only the original's tags", task)
        ]

    def _foreign(self) -> list[Action]:
        return [
            self._hold(
                Reason.FOREIGN,
                f"task {t.short} carries this id but not this controller's mark; it is left alone (editctl adopt {t.arn})",
                t,
            )
            for t in self.tasks
            if t.ownership is Ownership.FOREIGN and not t.stopped and not self._is_start_blocked_by(t)
        ]

    def _is_start_blocked_by(self, task: Task) -> bool:
        """Whether the main decision already shows this foreign task."""
        main = self._main()
        return main is not None and main.reason is Reason.FOREIGN and main.task == task

    def _superseded(self) -> list[Action]:
        if self.no_record or self.record is None:
            return []
        record, out = self.record, []
        for t in self.unnamed_live:
            if record.awaits_arn and (t.generation == record.generation or t.ownership is Ownership.ORIGINAL):
                continue
            if t.ownership is Ownership.ORIGINAL and record.names_no_task:
                continue
            if t.ownership is Ownership.ORIGINAL and self.now < t.created_at + self.policy.orphan_grace:
                out.append(
                    self._keep(
                        Reason.ORPHAN_GRACE,
                        f"task {t.short} of the original system is young; its record may be on the way",
                        t,
                        t.created_at + self.policy.orphan_grace,
                        "drain",
                    )
                )
                continue
            names = (
                f"the record names {_short(record.task_arn)}"
                if record.task_arn
                else f"the record is at generation {record.generation or 0}"
            )
            out.append(
                self._act(
                    Step.STOP_SUPERSEDED,
                    Reason.SUPERSEDED,
                    f"task {t.short} is a second one: {names}",
                    t,
                    drain_reason=DrainReason.SUPERSEDED,
                )
            )
        return out

    # The main decision

    def _main(self) -> Action | None:
        record = self.record
        if record is not None and record.awaits_arn:
            return self._finish_launch(record)
        if record is not None and record.task_arn:
            task = self.named
            if task is None:
                return self._unlisted(record)
            if task.stopped:
                return self._gone(record, f"task {task.short} is STOPPED{_why_stopped(task)}", task)
            return self._named_stopping(task) if task.stopping else self._named_live(record, task)
        if record is not None and not record.names_no_task:
            return self._act(
                Step.TERMINATED, Reason.RECORD_BEHIND, f"the record says {record.status} and names no task"
            )
        return self._nothing_named()

    def _finish_launch(self, record: ContainerRecord) -> Action:
        same = [t for t in self.ours if t.generation == record.generation and t.generation is not None]
        for t in (*(t for t in same if t.live), *(t for t in same if t.stopping)):
            return self._act(
                Step.RECORD_ARN,
                Reason.LAUNCH_UNFINISHED,
                f"task {t.short} is the answer of generation {record.generation}",
                t,
            )
        if same:
            return self._act(
                Step.FAILED,
                Reason.LAUNCH_FAILED,
                f"task {same[0].short} of generation {record.generation} is STOPPED{_why_stopped(same[0])}",
                same[0],
            )
        if record.launch is None or not record.launch.request:
            return self._act(
                Step.FAILED, Reason.LAUNCH_FAILED, "the record says starting but holds no request to repeat"
            )
        age = duration(self.now - record.launch.requested_at)
        return self._act(
            Step.RUN_TASK,
            Reason.LAUNCH_UNFINISHED,
            f"generation {record.generation} was claimed {age} ago, its answer is not recorded",
        )

    def _unlisted(self, record: ContainerRecord) -> Action:
        arn = record.task_arn or ""
        launched = record.launch.requested_at if record.launch else record.created_at or 0
        proven_at = launched + self.policy.missing_after
        if arn in self.world.missing and self.now >= proven_at:
            return self._gone(record, f"task {_short(arn)} is gone: ECS forgot it", None)
        kind = ActionKind.DEFER if self.usage(None).wanted else ActionKind.KEEP
        at = proven_at if arn in self.world.missing else None
        return self._act(
            Step.NONE,
            Reason.LIST_LAG,
            f"task {_short(arn)} is not listed (yet); that proves nothing",
            kind=kind,
            until=at,
            then="record",
        )

    def _gone(self, record: ContainerRecord, message: str, task: Task | None) -> Action:
        usage = self.usage(task)
        timed_out = (
            record.status is ContainerStatus.STOPPING
            and record.drain is not None
            and record.drain.reason is DrainReason.LAUNCH_TIMED_OUT
        )
        died = record.status in (ContainerStatus.STARTING, ContainerStatus.RUNNING) and usage.wanted
        if timed_out or died:
            return self._act(Step.FAILED, Reason.LAUNCH_TIMED_OUT if timed_out else Reason.TASK_GONE, message, task)
        return self._act(Step.TERMINATED, Reason.TASK_STOPPED, message, task)

    def _named_stopping(self, task: Task) -> Action:
        kind = ActionKind.DEFER if self.usage(task).wanted else ActionKind.KEEP
        return self._act(
            Step.NONE,
            Reason.STOP_IN_PROGRESS,
            f"task {task.short} is {task.last_status}",
            task,
            kind=kind,
            deferred=ActionKind.START if kind is ActionKind.DEFER else None,
        )

    def _named_live(self, record: ContainerRecord, task: Task) -> Action:
        if record.status is ContainerStatus.STOPPING:
            return self._go_on_stopping(record, task)
        if record.status is ContainerStatus.DRAINING:
            return self._draining(record, task)
        if task.ready and (record.status is not ContainerStatus.RUNNING or record.container_ip != task.ip):
            return self._correct(record, task)
        usage = self.usage(task)
        return (
            self._timed_out(record, task)
            or self._declared_stop(record, task, usage)
            or self._wanted(record, task, usage)
            or self._empty_mark(record, task)
            or self._quiet(record, task, usage)
        )

    def _go_on_stopping(self, record: ContainerRecord, task: Task) -> Action:
        why = record.drain.reason if record.drain else DrainReason.IDLE
        if record.stop_confirmed:
            return self._act(
                Step.STOP_TASK, Reason(why.value), f"task {task.short}: the stop is confirmed", task, drain_reason=why
            )
        return self._act(
            Step.LOOK_AGAIN,
            Reason(why.value),
            f"task {task.short}: one more strong look, then StopTask",
            task,
            drain_reason=why,
        )

    def _draining(self, record: ContainerRecord, task: Task) -> Action:
        drain, usage = record.drain, self.usage(task)
        again = self._drain_ended(record, task, usage)
        if again or drain is None:
            reason, message = again or (Reason.RECORD_BEHIND, "the record says draining and holds no drain")
            return self._act(Step.CANCEL_DRAIN, reason, message, task)
        if self.unclear and not drain.reason.is_forced:
            return self._act(
                Step.NONE,
                Reason.COUNT_DRIFTED,
                "rows and count do not agree: nobody can say it is not wanted",
                task,
                kind=ActionKind.DEFER,
                deferred=ActionKind.STOP,
            )
        return self._act(
            Step.WRITE_STOPPING,
            Reason(drain.reason.value),
            f"task {task.short} is drained",
            task,
            drain_reason=drain.reason,
        )

    def _drain_ended(self, record: ContainerRecord, task: Task, usage: Usage) -> tuple[Reason, str] | None:
        """Say why the drain that the record holds is to be cancelled."""
        reason = record.drain.reason if record.drain else None
        if self.hold:
            return self._hold_reason(), _hold_text(self.hold)
        if reason is DrainReason.DECLARED:
            return None if usage.declared_stopped else (Reason.DECLARED, "the declaration no longer says Stopped")
        if reason is DrainReason.LAUNCH_TIMED_OUT:
            return (Reason.WANTED_AGAIN, f"task {task.short} became ready after all") if task.ready else None
        if usage.wanted:
            return Reason.WANTED_AGAIN, self._who_wants(usage)
        if reason is not DrainReason.ORPHANED and self.now < usage.idle_at:
            return Reason.WANTED_AGAIN, f"activity {duration(self.now - (usage.last_activity or self.now))} ago"
        return None

    def _correct(self, record: ContainerRecord, task: Task) -> Action:
        changes = [f"{record.status or 'no status'} -> running"] if record.status is not ContainerStatus.RUNNING else []
        if record.container_ip != task.ip:
            changes.append(f"ip {record.container_ip or 'none'} -> {task.ip or 'none'}")
        return self._act(Step.CORRECT, Reason.RECORD_BEHIND, ", ".join(changes), task)

    def _timed_out(self, record: ContainerRecord, task: Task) -> Action | None:
        if record.status is not ContainerStatus.STARTING or task.ready:
            return None
        launched = record.launch.requested_at if record.launch else task.created_at
        if self.now < launched + self.policy.launch_timeout:
            return None
        message = f"task {task.short} is {task.last_status} after {duration(self.now - launched)}, not ready"
        return self._act(
            Step.BEGIN_DRAIN, Reason.LAUNCH_TIMED_OUT, message, task, drain_reason=DrainReason.LAUNCH_TIMED_OUT
        )

    def _declared_stop(self, record: ContainerRecord, task: Task, usage: Usage) -> Action | None:
        if not usage.declared_stopped:
            return None
        return self._act(
            Step.BEGIN_DRAIN,
            Reason.DECLARED,
            f"its declaration says Stopped; {counted(usage.active, 'active session')}",
            task,
            drain_reason=DrainReason.DECLARED,
        )

    def _wanted(self, record: ContainerRecord, task: Task, usage: Usage) -> Action | None:
        if not usage.wanted:
            return None
        if self.sessions and record.empty_since is not None:
            return self._act(
                Step.CLEAR_EMPTY,
                Reason.OCCUPIED,
                f"{counted(len(self.sessions), 'open session')}: no longer empty",
                task,
            )
        until = max([usage.idle_at, *(use.active_until for use in usage.uses), record.wanted_until or 0])
        if record.status is ContainerStatus.STARTING:
            return self._keep(
                Reason.STARTING,
                f"task {task.short} is {task.last_status}; {self._who_wants(usage)}",
                task,
                self._launch_ends(record, task),
                "drain",
            )
        always = usage.wanted_by is Reason.DECLARED
        return self._keep(Reason.IN_USE, self._who_wants(usage), task, None if always else until, "drain", usage)

    def _launch_ends(self, record: ContainerRecord, task: Task) -> Millis:
        return (record.launch.requested_at if record.launch else task.created_at) + self.policy.launch_timeout

    def _empty_mark(self, record: ContainerRecord, task: Task) -> Action | None:
        if self.unclear:
            return None
        if self.sessions and record.empty_since is not None:
            return self._act(
                Step.CLEAR_EMPTY,
                Reason.OCCUPIED,
                f"{counted(len(self.sessions), 'open session')}: no longer empty",
                task,
            )
        if not self.sessions and record.empty_since is None:
            return self._act(Step.SET_EMPTY, Reason.EMPTY, "no open session; the idle clock runs from now", task)
        return None

    def _quiet(self, record: ContainerRecord, task: Task, usage: Usage) -> Action:
        if self.unclear:
            row = self.row_quarantined
            if row:
                return self._hold(
                    Reason.ROW_QUARANTINED,
                    f"a session row cannot be read: {row.reason}",
                    task,
                    row.first_seen + self.policy.quarantine_hold,
                )
            return self._keep(
                Reason.COUNT_DRIFTED, "rows and count do not agree: nobody can say it is not wanted", task
            )
        if self.now < usage.idle_at:
            return self._keep(
                Reason.IDLE_GRACE,
                f"quiet, idle in {duration(usage.idle_at - self.now)}",
                task,
                usage.idle_at,
                "drain",
                usage,
            )
        quiet = duration(self.now - usage.last_activity) if usage.last_activity is not None else "all the time"
        if self.sessions:
            message, reason, why = (
                f"{counted(len(self.sessions), 'open session')}, quiet for {quiet}",
                Reason.IDLE,
                DrainReason.IDLE,
            )
        else:
            empty = (
                f"empty for {duration(self.now - record.empty_since)}" if record.empty_since is not None else "empty"
            )
            message, reason, why = f"no open session, {empty}", Reason.NO_SESSIONS, DrainReason.NO_SESSIONS
        stale = sum(1 for use in usage.uses if use.stale)
        if stale:
            message += (
                f" ({counted(stale, 'original row')} older than {duration(self.policy.original_session_max_age)})"
            )
        return self._act(Step.BEGIN_DRAIN, reason, message, task, drain_reason=why, usage=usage)

    # Nothing is named by the record

    def _nothing_named(self) -> Action | None:
        candidates = [t for t in self.unnamed_live if self.no_record or t.ownership is Ownership.ORIGINAL]
        if candidates:
            return self._adopt(max(candidates, key=lambda t: (t.generation or 0, -t.created_at, t.arn)))
        usage = self.usage(None)
        if not usage.wanted:
            return (
                self._keep(Reason.STOPPED, "nothing runs and nobody wants it") if self.record or self.sessions else None
            )
        blocker = next((t for t in self.tasks if not t.stopped), None)
        if blocker is not None:
            return self._wait_for(blocker)
        failure = self.record.failure if self.record else None
        if failure and self.now < failure.retry_at:
            message = f"{counted(failure.count, 'failed launch', 'failed launches')} ({failure.reason}); next try in {duration(failure.retry_at - self.now)}"
            return self._act(
                Step.NONE,
                Reason.BACKING_OFF,
                message,
                kind=ActionKind.DEFER,
                deferred=ActionKind.START,
                until=failure.retry_at,
                then="start",
            )
        generation = (
            max([self.record.generation or 0 if self.record else 0, *(t.generation or 0 for t in self.ours)]) + 1
        )
        return self._act(
            Step.CLAIM, usage.wanted_by or Reason.WANTED, self._who_wants(usage), generation=generation, usage=usage
        )

    def _wait_for(self, task: Task) -> Action:
        if task.ownership is Ownership.FOREIGN:
            return self._hold(
                Reason.FOREIGN,
                f"task {task.short} carries this id but not this controller's mark: no start beside it (editctl adopt {task.arn})",
                task,
                deferred=ActionKind.START,
            )
        message = f"task {task.short} still {'runs' if task.live else 'stops'}: its last push could race with a new container's"
        return self._act(
            Step.NONE, Reason.STOP_IN_PROGRESS, message, task, kind=ActionKind.DEFER, deferred=ActionKind.START
        )

    def _adopt(self, task: Task) -> Action:
        age = duration(self.now - task.created_at)
        owned = bool(self.sessions) or self.record is not None or self.row_quarantined is not None
        if owned:
            return self._act(
                Step.ADOPT, Reason.TASK_NOT_RECORDED, f"task {task.short} runs for {age}, the record names none", task
            )
        if self.now < task.created_at + self.policy.orphan_grace:
            return self._keep(
                Reason.ORPHAN_GRACE,
                f"task {task.short} runs for {age} without an owner",
                task,
                task.created_at + self.policy.orphan_grace,
                "drain",
            )
        message = f"task {task.short} runs for {age}; no session, record or declaration"
        if task.arn not in self.world.nominated_before:
            return self._act(
                Step.NONE,
                Reason.SEEN_ONCE,
                f"{message}; a second look must agree",
                task,
                kind=ActionKind.DEFER,
                deferred=ActionKind.DRAIN,
            )
        return self._act(Step.ADOPT_ORPHAN, Reason.ORPHANED, message, task, drain_reason=DrainReason.ORPHANED)

    # Words and values

    def _who_wants(self, usage: Usage) -> str:
        if usage.wanted_by is Reason.SESSION_ACTIVE:
            newest = max(use.last_activity for use in usage.uses if use.active)
            return f"{counted(usage.active, 'active session')}, newest {duration(self.now - newest)} ago"
        if usage.wanted_by is Reason.WANTED and self.record:
            return f"asked for, for another {duration((self.record.wanted_until or 0) - self.now)}"
        return "its declaration says Always"

    def _hold_reason(self) -> Reason:
        pause = self.world.pause
        return Reason.PAUSED if pause and pause.in_force(self.now) else Reason.HELD

    def _permitted(self, action: Action) -> Action:
        """Turn what sight, hold or pause forbids into a hold that says what it keeps from happening."""
        tasks, sessions = self.world.tasks_sight, self.world.sessions_sight
        if not tasks.complete and (action.step in NEEDS_TASKS or action.deferred is ActionKind.START):
            return self._withheld(action, Reason.SIGHT_INCOMPLETE, f"tasks were not all seen: {tasks.detail}")
        if not sessions.complete and action.step in NEEDS_SESSIONS:
            return self._withheld(action, Reason.SIGHT_INCOMPLETE, f"sessions were not all seen: {sessions.detail}")
        if self.hold and action.step in FORBIDDEN_UNDER_HOLD:
            return self._withheld(action, self._hold_reason(), _hold_text(self.hold), self.hold.until)
        if action.step is Step.CLAIM and self.identity is None:
            return self._withheld(
                action, Reason.AMBIGUOUS_IDENTITY, f"{_readings(self.container_id)}: no row or task names the client"
            )
        return action

    def _withheld(self, action: Action, reason: Reason, message: str, until: Millis | None = None) -> Action:
        deferred = action.kind if action.kind.changes else action.deferred
        return replace(
            action,
            kind=ActionKind.HOLD,
            step=Step.NONE,
            reason=reason,
            message=message,
            deferred=deferred,
            until=until,
            then=str(deferred) if until else "",
        )

    def _hold(
        self,
        reason: Reason,
        message: str,
        task: Task | None = None,
        until: Millis | None = None,
        deferred: ActionKind | None = None,
    ) -> Action:
        return self._act(
            Step.NONE,
            reason,
            message,
            task,
            kind=ActionKind.HOLD,
            until=until,
            deferred=deferred,
            then="look again" if until else "",
        )

    def _keep(
        self,
        reason: Reason,
        message: str,
        task: Task | None = None,
        until: Millis | None = None,
        then: str = "",
        usage: Usage | None = None,
    ) -> Action:
        return self._act(
            Step.NONE, reason, message, task, kind=ActionKind.KEEP, until=until, then=then if until else "", usage=usage
        )

    def _act(
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


def _short(arn: str | None) -> str:
    return (arn or "none").rpartition("/")[2][:6]


def _why_stopped(task: Task) -> str:
    parts = [task.stop_code, task.stopped_reason, "" if task.exit_code is None else f"exit code {task.exit_code}"]
    text = ", ".join(p for p in parts if p)
    return f" ({text[:160]})" if text else ""


def _hold_text(hold: Hold) -> str:
    return f"by {hold.by}: {hold.reason}"


def _readings(container_id: str) -> str:
    """Return the first two ways in which an ambiguous id can be read, for a sentence."""
    parts = container_id.split("-")
    if len(parts) < 3:
        return f"'{container_id[:80]}' holds no client, project and user"
    user = parts[-1]
    return f"{parts[0]} + {'-'.join(parts[1:-1])} + {user} or {'-'.join(parts[:-2])} + {parts[-2]} + {user}"
