"""The decision table, for one container (the task that the record names is *the named one*).

live tasks            record                        decision
0                     none, terminated, failed      wanted: claim the next generation, or wait (backoff, a stop)
any                   starting, no ARN              finish that launch, wanted or not: its answer may have been lost
0                     any other, with an ARN        proven gone: terminated, or failed if wanted; unproven: wait
the named one         stopping                      go on with the stop; never back to running from here
the named one         draining                      wanted again or held: cancel; else write stopping
the named one         starting, running             correct the record; keep; drain (idle, declared, timed out)
not named, ours       none                          adopt the highest generation, then the oldest; drain an orphan
not named, ours       any other                     superseded: saved, stopped, never adopted; no start while it lives
not named, original's none, terminated, failed      adopt; superseded when the record names another
any                   sessionCount != rows          repair the count; until then nobody can say "not wanted"
"""

from __future__ import annotations

from controller.core.case import Case, hold_text, readings, short, why_stopped
from controller.core.identity import Ownership, split_container_id
from controller.core.model import (
    SUPERSEDED_DRAIN,
    Action,
    ActionKind,
    AgentReport,
    ContainerRecord,
    ContainerStatus,
    DrainProgress,
    DrainReason,
    Millis,
    Reason,
    Step,
    Task,
)
from controller.core.usage import Usage
from controller.core.words import counted, duration


def decide(case: Case) -> list[Action]:
    """Return this container's actions, whatever sight, hold or pause may forbid of them."""
    blocked = _blocked(case)
    if blocked:
        return [blocked]
    actions = [*_count(case), *_superseded(case), _main(case), *_mark(case), *_foreign(case)]
    return [a for a in actions if a is not None]


# What keeps any decision from being made


def _blocked(case: Case) -> Action | None:
    if not case.world.records_sight.complete:
        return case.hold_back(Reason.SIGHT_INCOMPLETE, f"records were not all seen: {case.world.records_sight.detail}")
    for row in case.quarantined:
        if row.table == "records":
            return case.hold_back(Reason.ROW_QUARANTINED, f"its record cannot be read: {row.reason}")
    triples = case.triples
    if len(triples) > 1:
        return case.hold_back(Reason.IDENTITY_CONFLICT, "claimed by " + " and ".join(str(t) for t in sorted(triples)))
    if not triples and split_container_id(case.container_id) is None and (case.sessions or case.record):
        return case.hold_back(
            Reason.AMBIGUOUS_IDENTITY, f"{readings(case.container_id)}: no row or task names the client"
        )
    return None


# Decisions beside the main one


def _count(case: Case) -> list[Action]:
    if not case.count_drifted or case.row_quarantined or case.record is None:
        return []
    rows, count = len(case.sessions), case.record.session_count
    return [
        case.act(
            Step.REPAIR_COUNT,
            Reason.COUNT_DRIFTED,
            f"sessionCount {'none' if count is None else count} -> {rows} ({counted(rows, 'row')})",
        )
    ]


def _mark(case: Case) -> list[Action]:
    task = case.named
    if task is None or not task.live or task.ownership is not Ownership.ORIGINAL:
        return []
    return [case.act(Step.MARK_TASK, Reason.NOT_MARKED, f"task {task.short} carries only the original's tags", task)]


def _foreign(case: Case) -> list[Action]:
    return [
        case.hold_back(
            Reason.FOREIGN,
            f"task {t.short} carries this id, not our mark; it is left alone (editctl adopt {t.arn})",
            t,
        )
        for t in case.tasks
        if t.ownership is Ownership.FOREIGN and not t.stopped and not _is_start_blocked_by(case, t)
    ]


def _is_start_blocked_by(case: Case, task: Task) -> bool:
    """Whether the main decision already shows this foreign task."""
    main = _main(case)
    return main is not None and main.reason is Reason.FOREIGN and main.task == task


def _superseded(case: Case) -> list[Action]:
    if case.no_record or case.record is None:
        return []
    record, out = case.record, []
    for t in case.unnamed_live:
        if record.awaits_arn and (t.generation == record.generation or t.ownership is Ownership.ORIGINAL):
            continue
        if t.ownership is Ownership.ORIGINAL and record.names_no_task:
            continue
        if t.ownership is Ownership.ORIGINAL and case.now < t.created_at + case.policy.orphan_grace:
            out.append(
                case.keep(
                    Reason.ORPHAN_GRACE,
                    f"task {t.short} of the original system is young; its record may be on the way",
                    t,
                    t.created_at + case.policy.orphan_grace,
                    "drain",
                )
            )
            continue
        names = (
            f"the record names {short(record.task_arn)}"
            if record.task_arn
            else f"the record is at generation {record.generation or 0}"
        )
        out.append(_second(case, t, f"task {t.short} is a second one: {names}"))
    return out


def _second(case: Case, task: Task, why: str) -> Action:
    """Return what is done with a superseded task: its agent saves, for good, and then it is stopped.

    No record holds this drain: its id is always the same, when it began is in the agent, and of one that does not
    answer, in who asks.
    """
    report = case.agent(task)
    if not case.may_hold_work(task) or (report and not report.unknown and not report.admitted):
        return _on_second(case, Step.STOP_SUPERSEDED, Reason.SUPERSEDED, why, task)
    if report is None or report.unknown:
        since = report.unknown_since if report else None
        return _second_silent(case, task, why, since, report.unknown if report else "not asked")
    begun = report.drain_id == SUPERSEDED_DRAIN
    if begun and report.progress is DrainProgress.SAVED:
        where = f"{why}; its work:{_saved_where(case, task).removeprefix(',')}" if report.save else why
        return _on_second(case, Step.STOP_SUPERSEDED, Reason.SUPERSEDED, where, task)
    given_up_at = report.drain_since + case.policy.save_hold if begun and report.drain_since is not None else None
    if given_up_at is not None and case.now >= given_up_at:
        return _on_second(case, Step.STOP_SUPERSEDED, Reason.SUPERSEDED, f"{why}; {_given_up(case)}", task)
    if begun and report.progress is DrainProgress.SAVING:
        return _on_second(case, Step.NONE, Reason.SAVING, f"{why}; its agent is saving", task, given_up_at)
    if begun and report.progress is DrainProgress.FAILED:
        return _second_failed(case, task, why, report, given_up_at)
    return _on_second(case, Step.DRAIN_SUPERSEDED, Reason.SUPERSEDED, f"{why}; its work is saved first", task)


def _second_silent(case: Case, task: Task, why: str, since: Millis | None, unknown: str) -> Action:
    given_up_at = since + case.policy.save_hold if since is not None else None
    if given_up_at is not None and case.now >= given_up_at:
        return _on_second(case, Step.STOP_SUPERSEDED, Reason.SUPERSEDED, f"{why}; {_given_up(case)}", task)
    late = since is not None and case.now >= since + case.policy.drain_deadline
    reason = Reason.AGENT_UNREACHABLE if late else Reason.SAVING
    message = f"{why}; its agent does not answer ({unknown}){_all_the_same(case, given_up_at)}"
    return _on_second(case, Step.NONE, reason, message, task, given_up_at)


def _second_failed(case: Case, task: Task, why: str, report: AgentReport, given_up_at: Millis | None) -> Action:
    failed, tried_at = _why_unsaved(case, report)
    again_at = tried_at + case.policy.save_retry
    if case.now >= again_at:
        return _on_second(case, Step.DRAIN_SUPERSEDED, Reason.SAVE_FAILED, f"{why}; once more: {failed}", task)
    until = again_at if given_up_at is None else min(again_at, given_up_at)
    message = f"{why}; its work is not saved: {failed}{_all_the_same(case, given_up_at)}"
    return _on_second(case, Step.NONE, Reason.SAVE_FAILED, message, task, until)


def _all_the_same(case: Case, given_up_at: Millis | None) -> str:
    return "" if given_up_at is None else f"; stopped all the same in {duration(given_up_at - case.now)}"


def _given_up(case: Case) -> str:
    return f"its work was not proven saved in {duration(case.policy.save_hold)}, the stop itself saves once more"


def _on_second(case: Case, step: Step, reason: Reason, message: str, task: Task, until: Millis | None = None) -> Action:
    waits = step is Step.NONE
    return case.act(
        step,
        reason,
        message,
        task,
        kind=ActionKind.DEFER if waits else None,
        drain_reason=DrainReason.SUPERSEDED,
        deferred=ActionKind.STOP if waits else None,
        until=until,
        then="stop" if until is not None else "",
    )


# The main decision


def _main(case: Case) -> Action | None:
    record = case.record
    if record is not None and record.awaits_arn:
        return _finish_launch(case, record)
    if record is not None and record.task_arn:
        task = case.named
        if task is None:
            return _unlisted(case, record)
        if task.ownership is Ownership.FOREIGN and not task.stopped:
            return _wait_for(case, task)
        if task.stopped:
            return _gone(case, record, f"task {task.short} is STOPPED{why_stopped(task)}", task)
        return _named_stopping(case, task) if task.stopping else _named_live(case, record, task)
    if record is not None and not record.names_no_task:
        return case.act(Step.TERMINATED, Reason.RECORD_BEHIND, f"the record says {record.status} and names no task")
    return _nothing_named(case)


def _finish_launch(case: Case, record: ContainerRecord) -> Action:
    same = [t for t in case.ours if t.generation == record.generation and t.generation is not None]
    for t in (*(t for t in same if t.live), *(t for t in same if t.stopping)):
        return case.act(
            Step.RECORD_ARN,
            Reason.LAUNCH_UNFINISHED,
            f"task {t.short} is the answer of generation {record.generation}",
            t,
        )
    if same:
        return case.act(
            Step.FAILED,
            Reason.LAUNCH_FAILED,
            f"task {same[0].short} of generation {record.generation} is STOPPED{why_stopped(same[0])}",
            same[0],
        )
    if record.launch is None or not record.launch.request:
        return case.act(Step.FAILED, Reason.LAUNCH_FAILED, "the record says starting but holds no request to repeat")
    age = duration(case.now - record.launch.requested_at)
    return case.act(
        Step.RUN_TASK,
        Reason.LAUNCH_UNFINISHED,
        f"generation {record.generation} was claimed {age} ago, its answer is not recorded",
    )


def _unlisted(case: Case, record: ContainerRecord) -> Action:
    arn = record.task_arn or ""
    launched = record.launch.requested_at if record.launch else record.created_at or 0
    proven_at = launched + case.policy.missing_after
    if arn in case.world.missing and case.now >= proven_at:
        return _gone(case, record, f"task {short(arn)} is gone: ECS forgot it", None)
    kind = ActionKind.DEFER if case.usage(None).wanted else ActionKind.KEEP
    at = proven_at if arn in case.world.missing else None
    return case.act(
        Step.NONE,
        Reason.LIST_LAG,
        f"task {short(arn)} is not listed (yet); that proves nothing",
        kind=kind,
        until=at,
        then="record",
    )


def _gone(case: Case, record: ContainerRecord, message: str, task: Task | None) -> Action:
    usage = case.usage(task)
    timed_out = (
        record.status is ContainerStatus.STOPPING
        and record.drain is not None
        and record.drain.reason is DrainReason.LAUNCH_TIMED_OUT
    )
    died = record.status in (ContainerStatus.STARTING, ContainerStatus.RUNNING) and usage.wanted
    if timed_out or died:
        return case.act(Step.FAILED, Reason.LAUNCH_TIMED_OUT if timed_out else Reason.TASK_GONE, message, task)
    return case.act(Step.TERMINATED, Reason.TASK_STOPPED, message, task)


def _named_stopping(case: Case, task: Task) -> Action:
    kind = ActionKind.DEFER if case.usage(task).wanted else ActionKind.KEEP
    return case.act(
        Step.NONE,
        Reason.STOP_IN_PROGRESS,
        f"task {task.short} is {task.last_status}",
        task,
        kind=kind,
        deferred=ActionKind.START if kind is ActionKind.DEFER else None,
    )


def _named_live(case: Case, record: ContainerRecord, task: Task) -> Action:
    if record.status is ContainerStatus.STOPPING:
        return _go_on_stopping(case, record, task)
    if record.status is ContainerStatus.DRAINING:
        return _draining(case, record, task)
    if task.ready and record.status is ContainerStatus.STARTING and not case.admitted(record, task):
        late = _timed_out(case, record, task)
        return late or case.act(
            Step.ADMIT, Reason.STARTING, f"task {task.short} runs; its agent is told to begin", task
        )
    usage = case.usage(task)
    decision = (
        _timed_out(case, record, task)
        or _declared_stop(case, record, task, usage)
        or _wanted(case, record, task, usage)
        or _empty_mark(case, record, task)
        or _quiet(case, record, task, usage)
    )
    behind = (
        task.ready
        and case.admitted(record, task)
        and (record.status is not ContainerStatus.RUNNING or record.container_ip != task.ip)
    )
    # A container that is to be drained need not be brought up to date first.
    return _correct(case, record, task) if behind and decision.kind is not ActionKind.DRAIN else decision


def _go_on_stopping(case: Case, record: ContainerRecord, task: Task) -> Action:
    why = record.drain.reason if record.drain else DrainReason.IDLE
    if record.stop_confirmed:
        return case.act(
            Step.STOP_TASK, Reason(why.value), f"task {task.short}: the stop is confirmed", task, drain_reason=why
        )
    return case.act(
        Step.LOOK_AGAIN,
        Reason(why.value),
        f"task {task.short}: one more strong look, then StopTask",
        task,
        drain_reason=why,
    )


def _draining(case: Case, record: ContainerRecord, task: Task) -> Action:
    drain, usage = record.drain, case.usage(task)
    again = _drain_ended(case, record, task, usage)
    if again or drain is None:
        reason, message = again or (Reason.RECORD_BEHIND, "the record says draining and holds no drain")
        return case.act(Step.CANCEL_DRAIN, reason, message, task)
    if case.unclear and not drain.reason.is_forced:
        return case.act(
            Step.NONE,
            Reason.COUNT_DRIFTED,
            "rows and count do not agree: nobody can say it is not wanted",
            task,
            kind=ActionKind.DEFER,
            deferred=ActionKind.STOP,
        )
    # A launch that timed out was never admitted: its workload has not begun, so there is nothing to save.
    holds_work = case.has_agent(record) and drain.reason is not DrainReason.LAUNCH_TIMED_OUT
    unsaved = _unsaved(case, record, task) if holds_work else None
    return unsaved or case.act(
        Step.WRITE_STOPPING,
        Reason(drain.reason.value),
        f"task {task.short} is drained{_saved_where(case, task)}",
        task,
        drain_reason=drain.reason,
    )


def _saved_where(case: Case, task: Task) -> str:
    report = case.agent(task)
    save = report.save if report else None
    return f", {save.state} {save.branch} {save.commit[:7]}".rstrip() if save else ""


def _unsaved(case: Case, record: ContainerRecord, task: Task) -> Action | None:
    """Return what is done until the agent's receipt for this drain says saved, or its time is over."""
    drain, report = record.drain, case.agent(task)
    if drain is None or (report and report.drain_id == drain.id and report.progress is DrainProgress.SAVED):
        return None
    given_up_at = drain.requested_at + case.policy.save_hold
    if case.now >= given_up_at:
        return None
    if report is None or report.unknown:
        late = drain.deadline is not None and case.now >= drain.deadline
        reason = Reason.AGENT_UNREACHABLE if late else Reason.SAVING
        message = f"its agent does not answer ({report.unknown if report else 'not asked'}); stopped all the same in"
        return _waits(case, task, reason, f"{message} {duration(given_up_at - case.now)}", given_up_at)
    if report.drain_id == drain.id and report.progress is DrainProgress.SAVING:
        return _waits(case, task, Reason.SAVING, "the agent is saving the workspace", given_up_at)
    if report.drain_id == drain.id and report.progress is DrainProgress.FAILED:
        return _save_failed(case, task, report, given_up_at)
    return case.act(Step.ASK_TO_SAVE, Reason(drain.reason.value), f"drain {drain.id}", task, drain_reason=drain.reason)


def _save_failed(case: Case, task: Task, report: AgentReport, given_up_at: Millis) -> Action:
    why, tried_at = _why_unsaved(case, report)
    if case.now >= tried_at + case.policy.save_retry:
        return case.act(Step.ASK_TO_SAVE, Reason.SAVE_FAILED, f"once more: {why}", task)
    message = f"the work is not saved: {why}; stopped all the same in {duration(given_up_at - case.now)}"
    return _waits(case, task, Reason.SAVE_FAILED, message, tried_at + case.policy.save_retry)


def _why_unsaved(case: Case, report: AgentReport) -> tuple[str, Millis]:
    why = (report.save.message or report.save.state) if report.save else "it did not say why"
    return why, (report.save.at if report.save else None) or case.now


def _waits(case: Case, task: Task, reason: Reason, message: str, until: Millis) -> Action:
    return case.act(
        Step.NONE,
        reason,
        message,
        task,
        kind=ActionKind.DEFER,
        deferred=ActionKind.STOP,
        until=until,
        then="stop",
    )


def _busy(case: Case, record: ContainerRecord, task: Task) -> Action | None:
    """Return the keep for a container in which something says that it works, up to its lease's maximum."""
    report = case.agent(task)
    if not case.has_agent(record) or report is None or report.busy_until is None or report.busy_until <= case.now:
        return None
    message = f"a busy lease inside is valid for another {duration(report.busy_until - case.now)}"
    return case.keep(Reason.BUSY, message, task, report.busy_until, "drain")


def _drain_ended(case: Case, record: ContainerRecord, task: Task, usage: Usage) -> tuple[Reason, str] | None:
    """Say why the drain that the record holds is to be cancelled."""
    reason = record.drain.reason if record.drain else None
    if case.hold:
        return case.hold_reason(), hold_text(case.hold)
    if reason is DrainReason.DECLARED:
        return None if usage.declared_stopped else (Reason.DECLARED, "the declaration no longer says Stopped")
    if reason is DrainReason.REQUESTED:
        return None
    if reason is DrainReason.LAUNCH_TIMED_OUT:
        ready = task.ready and case.admitted(record, task)
        return (Reason.WANTED_AGAIN, f"task {task.short} became ready after all") if ready else None
    if usage.wanted:
        return Reason.WANTED_AGAIN, case.who_wants(usage)
    busy = _busy(case, record, task)
    if busy:
        return busy.reason, busy.message
    if reason is not DrainReason.ORPHANED and case.now < usage.idle_at:
        return Reason.WANTED_AGAIN, f"activity {duration(case.now - (usage.last_activity or case.now))} ago"
    return None


def _correct(case: Case, record: ContainerRecord, task: Task) -> Action:
    changes = [f"{record.status or 'no status'} -> running"] if record.status is not ContainerStatus.RUNNING else []
    if record.container_ip != task.ip:
        changes.append(f"ip {record.container_ip or 'none'} -> {task.ip or 'none'}")
    return case.act(Step.CORRECT, Reason.RECORD_BEHIND, ", ".join(changes), task)


def _timed_out(case: Case, record: ContainerRecord, task: Task) -> Action | None:
    if record.status is not ContainerStatus.STARTING or (task.ready and case.admitted(record, task)):
        return None
    launched = record.launch.requested_at if record.launch else task.created_at
    if case.now < launched + case.policy.launch_timeout:
        return None
    message = f"task {task.short} is {task.last_status} after {duration(case.now - launched)}, not ready"
    return case.act(Step.BEGIN_DRAIN, Reason.LAUNCH_TIMED_OUT, message, task, drain_reason=DrainReason.LAUNCH_TIMED_OUT)


def _declared_stop(case: Case, record: ContainerRecord, task: Task, usage: Usage) -> Action | None:
    if not usage.declared_stopped:
        return None
    return case.act(
        Step.BEGIN_DRAIN,
        Reason.DECLARED,
        f"its declaration says Stopped; {counted(usage.active, 'active session')}",
        task,
        drain_reason=DrainReason.DECLARED,
    )


def _wanted(case: Case, record: ContainerRecord, task: Task, usage: Usage) -> Action | None:
    if not usage.wanted:
        return None
    if case.sessions and record.empty_since is not None:
        return case.act(
            Step.CLEAR_EMPTY,
            Reason.OCCUPIED,
            f"{counted(len(case.sessions), 'open session')}: no longer empty",
            task,
        )
    until = max([usage.idle_at, *(use.active_until for use in usage.uses), record.wanted_until or 0])
    if record.status is ContainerStatus.STARTING:
        return case.keep(
            Reason.STARTING,
            f"task {task.short} is {task.last_status}; {case.who_wants(usage)}",
            task,
            _launch_ends(case, record, task),
            "drain",
        )
    always = usage.wanted_by is Reason.DECLARED
    return case.keep(Reason.IN_USE, case.who_wants(usage), task, None if always else until, "drain", usage)


def _launch_ends(case: Case, record: ContainerRecord, task: Task) -> Millis:
    return (record.launch.requested_at if record.launch else task.created_at) + case.policy.launch_timeout


def _empty_mark(case: Case, record: ContainerRecord, task: Task) -> Action | None:
    if case.unclear:
        return None
    if case.sessions and record.empty_since is not None:
        return case.act(
            Step.CLEAR_EMPTY,
            Reason.OCCUPIED,
            f"{counted(len(case.sessions), 'open session')}: no longer empty",
            task,
        )
    if not case.sessions and record.empty_since is None:
        return case.act(Step.SET_EMPTY, Reason.EMPTY, "no open session; the idle clock runs from now", task)
    return None


def _quiet(case: Case, record: ContainerRecord, task: Task, usage: Usage) -> Action:
    if case.unclear:
        row = case.row_quarantined
        if row:
            return case.hold_back(
                Reason.ROW_QUARANTINED,
                f"a session row cannot be read: {row.reason}",
                task,
                row.first_seen + case.policy.quarantine_hold,
            )
        return case.keep(Reason.COUNT_DRIFTED, "rows and count do not agree: nobody can say it is not wanted", task)
    busy = _busy(case, record, task)
    if busy:
        return busy
    if case.now < usage.idle_at:
        return case.keep(
            Reason.IDLE_GRACE,
            f"quiet, idle in {duration(usage.idle_at - case.now)}",
            task,
            usage.idle_at,
            "drain",
            usage,
        )
    quiet = duration(case.now - usage.last_activity) if usage.last_activity is not None else "all the time"
    if case.sessions:
        message, reason, why = (
            f"{counted(len(case.sessions), 'open session')}, quiet for {quiet}",
            Reason.IDLE,
            DrainReason.IDLE,
        )
    else:
        empty = f"empty for {duration(case.now - record.empty_since)}" if record.empty_since is not None else "empty"
        message, reason, why = f"no open session, {empty}", Reason.NO_SESSIONS, DrainReason.NO_SESSIONS
    stale = sum(1 for use in usage.uses if use.stale)
    if stale:
        message += f" ({counted(stale, 'original row')} older than {duration(case.policy.original_session_max_age)})"
    return case.act(Step.BEGIN_DRAIN, reason, message, task, drain_reason=why, usage=usage)


# Nothing is named by the record


def _nothing_named(case: Case) -> Action | None:
    candidates = [t for t in case.unnamed_live if case.no_record or t.ownership is Ownership.ORIGINAL]
    if candidates:
        return _adopt(case, max(candidates, key=lambda t: (t.generation or 0, -t.created_at, t.arn)))
    usage = case.usage(None)
    if not usage.wanted:
        return case.keep(Reason.STOPPED, "nothing runs and nobody wants it") if case.record or case.sessions else None
    blocker = next((t for t in case.tasks if not t.stopped), None)
    if blocker is not None:
        return _wait_for(case, blocker)
    failure = case.record.failure if case.record else None
    if failure and case.now < failure.retry_at:
        failed = counted(failure.count, "failed launch", "failed launches")
        message = f"{failed} ({failure.reason}); next try in {duration(failure.retry_at - case.now)}"
        return case.act(
            Step.NONE,
            Reason.BACKING_OFF,
            message,
            kind=ActionKind.DEFER,
            deferred=ActionKind.START,
            until=failure.retry_at,
            then="start",
        )
    generation = max([case.record.generation or 0 if case.record else 0, *(t.generation or 0 for t in case.ours)]) + 1
    return case.act(
        Step.CLAIM, usage.wanted_by or Reason.WANTED, case.who_wants(usage), generation=generation, usage=usage
    )


def _wait_for(case: Case, task: Task) -> Action:
    if task.ownership is Ownership.FOREIGN:
        return case.hold_back(
            Reason.FOREIGN,
            f"task {task.short} carries this id, not our mark: no start beside it (editctl adopt {task.arn})",
            task,
            deferred=ActionKind.START,
        )
    still = "runs" if task.live else "stops"
    message = f"task {task.short} still {still}: its last push could race with a new container's"
    return case.act(Step.NONE, Reason.STOP_IN_PROGRESS, message, task, kind=ActionKind.DEFER, deferred=ActionKind.START)


def _adopt(case: Case, task: Task) -> Action:
    age = duration(case.now - task.created_at)
    owned = bool(case.sessions) or case.record is not None or case.row_quarantined is not None
    if owned:
        return case.act(
            Step.ADOPT, Reason.TASK_NOT_RECORDED, f"task {task.short} runs for {age}, the record names none", task
        )
    if case.now < task.created_at + case.policy.orphan_grace:
        return case.keep(
            Reason.ORPHAN_GRACE,
            f"task {task.short} runs for {age} without an owner",
            task,
            task.created_at + case.policy.orphan_grace,
            "drain",
        )
    message = f"task {task.short} runs for {age}; no session, record or declaration"
    if task.arn not in case.world.nominated_before:
        return case.act(
            Step.NONE,
            Reason.SEEN_ONCE,
            f"{message}; a second look must agree",
            task,
            kind=ActionKind.DEFER,
            deferred=ActionKind.DRAIN,
        )
    return case.act(Step.ADOPT_ORPHAN, Reason.ORPHANED, message, task, drain_reason=DrainReason.ORPHANED)
