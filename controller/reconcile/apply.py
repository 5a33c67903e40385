"""The launch, drain and correction protocols, one step at a time.

No step waits. Each is one call or one conditional write; its state is in the record, so whoever looks next goes on
from there, this process or another. A refused condition is not an error: the world moved on, and the next round
decides anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import monotonic
from typing import Protocol, TypeVar

from controller.core import ledger
from controller.core.model import (
    SUPERSEDED_DRAIN,
    Action,
    ActionKind,
    ContainerRecord,
    ContainerStatus,
    DrainReason,
    Failure,
    Hold,
    Launch,
    Millis,
    Outcome,
    OutcomeStatus,
    Plan,
    Reason,
    Save,
    Session,
    Step,
    Task,
    World,
)
from controller.core.policy import Policy
from controller.core.reads import AgentRef, Look, agent_ref
from controller.core.stopping import Verdict, is_same_stop, is_superseded, why_not_stop
from controller.core.words import duration
from controller.errors import (
    AwsError,
    ConditionFailed,
    CredentialsError,
    EditctlError,
    LaunchConflict,
    ProtocolError,
    RowError,
)
from controller.reconcile.limits import Limits
from controller.reconcile.ports import (
    AgentWriter,
    NotesReader,
    QueueReader,
    RecordWriter,
    RunAnswer,
    StrongReader,
    TaskRunner,
)

EXIT_NOT_SAVED = 75
NEVER_RAN = (69, 74, 78)
"""Exit codes of an agent (docs/agent.md): not saved; the workload never ran. A signal took it from 128 on. With every
other code, the workload's own, its work is saved."""
_SIGNALLED = 128


class Ledger(StrongReader, RecordWriter, NotesReader, Protocol):
    """The tables as apply needs them: strong reads and conditional writes."""


@dataclass(frozen=True, slots=True)
class _Done:
    """What a step came to, before it is put into an Outcome."""

    message: str
    status: OutcomeStatus = OutcomeStatus.DONE
    task_arn: str | None = None
    generation: int | None = None
    again_in: Millis | None = None


class Applier:
    """Carries out a plan's actions, starts before stops: one that fails is an outcome, not the end."""

    def __init__(
        self,
        tables: Ledger,
        tasks: TaskRunner,
        policy: Policy,
        clock: Callable[[], Millis],
        queues: QueueReader | None = None,
        limits: Limits | None = None,
        agents: AgentWriter | None = None,
        key_id: str = "",
        workers: int = 24,
    ) -> None:
        self._tables = tables
        self._tasks = tasks
        self._policy = policy
        self._clock = clock
        self._queues = queues
        self._limits = limits or Limits(clock)
        self._agents = agents
        self._key_id = key_id
        self._workers = workers
        self._looked_at: Millis | None = None
        self._steps: Mapping[Step, Callable[[Action, _Round], _Done]] = {
            Step.CLAIM: self._claim,
            Step.RUN_TASK: self._run_task,
            Step.ADMIT: self._admit,
            Step.ASK_TO_SAVE: self._ask_to_save,
            Step.RECORD_ARN: self._record_arn,
            Step.ADOPT: self._adopt,
            Step.ADOPT_ORPHAN: self._adopt_orphan,
            Step.MARK_TASK: self._mark_task,
            Step.CORRECT: self._correct,
            Step.SET_EMPTY: self._set_empty,
            Step.CLEAR_EMPTY: self._clear_empty,
            Step.REPAIR_COUNT: self._repair_count,
            Step.CANCEL_DRAIN: self._cancel_drain,
            Step.BEGIN_DRAIN: self._begin_drain,
            Step.WRITE_STOPPING: self._write_stopping,
            Step.LOOK_AGAIN: self._look_again,
            Step.STOP_TASK: self._stop_task,
            Step.DRAIN_SUPERSEDED: self._drain_superseded,
            Step.STOP_SUPERSEDED: self._stop_superseded,
            Step.TERMINATED: self._terminated,
            Step.FAILED: self._failed,
        }

    def apply(self, plan: Plan, world: World) -> Iterator[Outcome]:
        """Yield an outcome for each action that changes something, kind by kind in the plan's order, as they end."""
        round_, changes = _Round(world), plan.changes
        pool: AbstractContextManager[ThreadPoolExecutor | None]
        pool = ThreadPoolExecutor(self._workers, "apply") if self._workers > 1 and len(changes) > 1 else nullcontext()
        with pool as executor:
            for kind in ActionKind:
                actions = [a for a in changes if a.kind is kind]
                if not actions:
                    continue
                self._look(actions, world, round_)
                if executor is None:
                    yield from (self._outcome(a, round_) for a in actions)
                else:
                    yield from executor.map(lambda a: self._outcome(a, round_), actions)

    def _outcome(self, action: Action, round_: _Round) -> Outcome:
        began = monotonic()
        error: EditctlError | None = None
        try:
            done = self._paced(action) or self._steps[action.step](action, round_)
        except ConditionFailed:
            done = _Done("the record has changed since; it is looked at again", OutcomeStatus.SKIPPED, again_in=0)
        except EditctlError as e:
            error = e
            done = _Done(str(e), OutcomeStatus.FAILED, again_in=self._policy.starting_interval)
        return Outcome(
            action,
            done.status,
            done.message,
            error,
            done.task_arn,
            done.generation if done.generation is not None else action.generation,
            monotonic() - began,
            None if done.again_in is None else self._clock() + done.again_in,
        )

    def _paced(self, action: Action) -> _Done | None:
        wait = self._limits.wait_for(action)
        return (
            _Done(f"waits {duration(wait)} for the ECS quota", OutcomeStatus.SKIPPED, again_in=wait) if wait else None
        )

    # The strong look that count repairs and stops of a round share

    def _look(self, actions: list[Action], world: World, round_: _Round) -> None:
        wanted = [
            a.container_id
            for a in actions
            if a.step in (Step.REPAIR_COUNT, Step.LOOK_AGAIN) and a.container_id not in round_.looks
        ]
        if not wanted:
            return
        now = self._clock()
        wait = self._policy.look_interval(world.others.sessions + len(world.sessions))
        if self._looked_at is not None and not round_.looks and now < self._looked_at + wait:
            round_.look_at = self._looked_at + wait
            return
        self._looked_at = now
        try:
            round_.looks.update(self._tables.look(wanted))
        except EditctlError as error:
            round_.look_error = error

    def _looked(self, action: Action, round_: _Round) -> Look | _Done:
        look = round_.looks.get(action.container_id)
        if look is not None:
            return look
        if round_.look_error is not None:
            raise round_.look_error
        wait = max((round_.look_at or self._clock()) - self._clock(), 0)
        return _Done(
            f"waits {duration(wait)} for the next scan of the sessions table", OutcomeStatus.SKIPPED, again_in=wait
        )

    def _clear(self, look: Look, round_: _Round) -> bool:
        """Whether everything that counts could be read: a row that was unreadable for a day counts as absent."""
        expired = self._clock() - self._policy.quarantine_hold
        absent = {row.key for row in round_.world.quarantined if row.table == "sessions" and row.first_seen <= expired}
        return look.record_readable and absent.issuperset(look.unread)

    # Launch

    def _claim(self, action: Action, _: _Round) -> _Done:
        identity, generation, now = _needed(action.identity), _needed(action.generation), self._clock()
        record = action.record or ContainerRecord(action.container_id)
        declared = record.declared
        size = (declared.cpu, declared.memory) if declared else ("", "")
        request = self._tasks.prepare(identity, generation, now, *size)
        launch = Launch(now, request, self._key_id)
        claimed = self._tables.write(ledger.claim(record, identity, generation, launch, _iso(now)))
        return self._send(claimed)

    def _run_task(self, action: Action, _: _Round) -> _Done:
        return self._send(_needed(action.record))

    def _send(self, record: ContainerRecord) -> _Done:
        """(2) and (3): RunTask with the request in the record, then its answer into the record."""
        launch = _needed(record.launch)
        try:
            answer = self._tasks.run(launch.request)
        except CredentialsError:
            raise
        except LaunchConflict as e:
            answer = RunAnswer(failure=f"{e.code}: {e.why or e.what}")
        except AwsError as e:
            if e.retryable:
                raise
            answer = RunAnswer(failure=f"{e.code}: {e.why or e.what}")
        if answer.arn is None or answer.stopped:
            reason = answer.failure or "its task was STOPPED before it was recorded"
            return self._count_failure(record, reason)
        self._tables.write(ledger.record_arn(record.container_id, record.generation or 0, answer.arn))
        return _Done(
            f"task {_short(answer.arn)}, generation {record.generation}",
            task_arn=answer.arn,
            generation=record.generation,
            again_in=self._policy.starting_interval,
        )

    def _count_failure(
        self, record: ContainerRecord, reason: str, status: OutcomeStatus = OutcomeStatus.FAILED
    ) -> _Done:
        failure = self._failure(record, reason)
        self._tables.write(ledger.failed(record, failure))
        wait = max(failure.retry_at - self._clock(), 0)
        return _Done(
            f"failure {failure.count} in a row: {reason}; next try in {duration(wait)}",
            status,
            generation=record.generation,
            again_in=wait,
        )

    def _failure(self, record: ContainerRecord, reason: str) -> Failure:
        """Count one more failure in a row; launches are at least the backoff apart, a lasting one starts anew."""
        now = self._clock()
        launched = record.launch.requested_at if record.launch else now
        lasted = record.status is ContainerStatus.RUNNING and now - launched >= self._policy.launch_timeout
        before = record.failure.count if record.failure and not lasted else 0
        return Failure(before + 1, reason[:500], now, max(now, launched + self._policy.backoff(before + 1)))

    def _record_arn(self, action: Action, _: _Round) -> _Done:
        task = _needed(action.task)
        self._tables.write(ledger.record_arn(action.container_id, _needed(action.generation), task.arn))
        return _Done(
            f"task {task.short}, generation {action.generation}",
            task_arn=task.arn,
            again_in=self._policy.starting_interval,
        )

    def _adopt(self, action: Action, _: _Round) -> _Done:
        task = _needed(action.task)
        written = self._tables.write(ledger.adopt(action.record, task, _iso(task.created_at)))
        return _Done(
            f"task {task.short} is now recorded, generation {written.generation}",
            task_arn=task.arn,
            generation=written.generation,
            again_in=0,
        )

    def _adopt_orphan(self, action: Action, _: _Round) -> _Done:
        task, now = _needed(action.task), self._clock()
        draining = self._tables.write(
            ledger.adopt_orphan(task, now, _iso(task.created_at), now + self._policy.drain_deadline)
        )
        return self._stopping(draining)

    def _mark_task(self, action: Action, _: _Round) -> _Done:
        task = _needed(action.task)
        self._tasks.mark(task.arn, task.identity)
        return _Done(f"task {task.short} is marked as ours", task_arn=task.arn)

    def _failed(self, action: Action, _: _Round) -> _Done:
        """Write down that a task ended which somebody wanted; to know it is no failure of this action."""
        return self._count_failure(_needed(action.record), action.message, OutcomeStatus.DONE)

    # Bookkeeping

    def _correct(self, action: Action, _: _Round) -> _Done:
        task, record = _needed(action.task), _needed(action.record)
        self._tables.write(ledger.correct(record, task))
        if record.launch and record.launch.request and record.container_ip is None:
            return _Done(
                f"running in {duration(self._clock() - record.launch.requested_at)}"
                + (f" at {task.ip}" if task.ip else ""),
                task_arn=task.arn,
            )
        return _Done(action.message, task_arn=task.arn)

    def _set_empty(self, action: Action, _: _Round) -> _Done:
        self._tables.write(ledger.set_empty(_needed(action.record), self._clock()))
        return _Done("the idle clock runs")

    def _clear_empty(self, action: Action, _: _Round) -> _Done:
        self._tables.write(ledger.clear_empty(_needed(action.record)))
        return _Done("no longer empty")

    def _terminated(self, action: Action, _: _Round) -> _Done:
        record = _needed(action.record)
        self._tables.write(ledger.terminated(record, _last_save(record, action.task, self._clock())))
        return _Done("terminated", again_in=0)

    def _repair_count(self, action: Action, round_: _Round) -> _Done:
        look = self._looked(action, round_)
        if isinstance(look, _Done):
            return look
        record, rows = look.record, len(look.sessions)
        if not self._clear(look, round_):
            return _Done("a row cannot be read, so nobody can count", OutcomeStatus.SKIPPED)
        if record is None or (record.session_count or 0) == rows:
            return _Done(f"the count agrees by now ({rows})", OutcomeStatus.SKIPPED, again_in=0)
        self._tables.write(ledger.repair_count(record, rows, self._clock()))
        return _Done(f"sessionCount {record.session_count} -> {rows}", again_in=0)

    # Stop

    def _cancel_drain(self, action: Action, _: _Round) -> _Done:
        record = _needed(action.record)
        self._tables.write(ledger.cancel_drain(record))
        self._thaw(record, action.task)
        return _Done("drain cancelled", again_in=0)

    def _begin_drain(self, action: Action, _: _Round) -> _Done:
        """(2) and (3): the record is read strongly, what was planned on must still be so, then `draining`."""
        planned, now = _needed(action.record), self._clock()
        record = self._strong(action)
        if record is None or not _same_state(record, planned):
            return _moved_on()
        reason = _needed(action.drain_reason)
        if not reason.is_forced and not _same_fence(record, planned):
            return _moved_on()
        draining = self._tables.write(ledger.begin_drain(record, reason, now, now + self._policy.drain_deadline))
        agent = self._agent_of(draining, action.task) if reason is not DrainReason.LAUNCH_TIMED_OUT else None
        return self._ask(agent, draining) if agent else self._stopping(draining)

    def _write_stopping(self, action: Action, round_: _Round) -> _Done:
        report = round_.world.agents.get(action.task.arn) if action.task else None
        return self._stopping(_needed(action.record), report.save if report else None)

    def _stopping(self, record: ContainerRecord, save: Save | None = None) -> _Done:
        """(5): with the agent's receipt; without an agent the SIGTERM of StopTask is the save."""
        self._tables.write(ledger.write_stopping(record, self._clock(), save))
        return _Done("stopping is written; one more strong look before StopTask", task_arn=record.task_arn, again_in=0)

    def _look_again(self, action: Action, round_: _Round) -> _Done:
        """(5b) and (5c): a look begun after `stopping` was written; go back, or confirm and go on to (6)."""
        look = self._looked(action, round_)
        if isinstance(look, _Done):
            return look
        now = self._clock()
        if not is_same_stop(_needed(action.record), look.record):
            return _moved_on()
        record = _needed(look.record)
        verdict = why_not_stop(
            record,
            look.sessions,
            self._clear(look, round_),
            action.task,
            self._tables.read_notes().pause,
            self._policy,
            round_.world.first_seen,
            now,
        )
        verdict = verdict or self._queued(record, look.sessions)
        if verdict:
            self._tables.write(ledger.revert_stopping(record, now, as_activity=verdict.as_activity))
            self._thaw(record, action.task)
            return _Done(f"back to running: {verdict.reason} ({verdict.message})", again_in=0)
        self._tables.write(ledger.confirm_stop(record, now))
        return self._stop_named(record)

    # Agents

    def _agent_of(self, record: ContainerRecord, task: Task | None) -> AgentRef | None:
        return agent_ref(record, task) if self._agents and task and self._policy.agents else None

    def _admit(self, action: Action, round_: _Round) -> _Done:
        """(4) of a launch: the ARN was read in the record, so the workload may begin."""
        record, task = _needed(action.record), _needed(action.task)
        agent = self._agent_of(record, task)
        if agent is None or self._agents is None:
            return _Done("its agent has no address yet", OutcomeStatus.SKIPPED, again_in=self._policy.starting_interval)
        sessions = [s for s in round_.world.sessions if s.container_id == action.container_id]
        report = self._agents.keepalive(agent, record.last_drain_id, sessions)
        if report.unknown:
            message = f"its agent is not ready yet: {report.unknown}"
            return _Done(message, OutcomeStatus.SKIPPED, again_in=self._policy.starting_interval)
        # What the agent answered is as good as asking it again: the task is ready.
        self._tables.write(ledger.correct(record, task))
        took = duration(self._clock() - _needed(record.launch).requested_at)
        return _Done(f"running in {took} at {task.ip}", task_arn=task.arn)

    def _ask_to_save(self, action: Action, _: _Round) -> _Done:
        record = _needed(action.record)
        agent = self._agent_of(record, action.task)
        if agent is None:
            return _Done("its agent has no address", OutcomeStatus.SKIPPED, again_in=self._policy.draining_interval)
        return self._ask(agent, record)

    def _ask(self, agent: AgentRef, record: ContainerRecord) -> _Done:
        """(4) of a stop: the agent saves under this drain's id."""
        if self._agents is None:
            raise ProtocolError("there is an agent to ask and no channel to it")
        report = self._agents.drain(agent, record.last_drain_id)
        message = f"the agent saves under drain {record.last_drain_id}"
        if report.unknown:
            message = f"drain {record.last_drain_id}: the agent does not answer ({report.unknown})"
        return _Done(message, task_arn=record.task_arn, again_in=self._policy.draining_interval)

    def _thaw(self, record: ContainerRecord, task: Task | None) -> None:
        """Take the drain back at the agent, too; should this not arrive, every keepalive says it again."""
        agent = self._agent_of(record, task)
        if agent and self._agents:
            self._agents.cancel(agent, record.last_drain_id)

    def _queued(self, record: ContainerRecord, sessions: tuple[Session, ...]) -> Verdict | None:
        if self._queues is None or (record.drain and record.drain.reason.is_forced):
            return None
        for session in sessions:
            try:
                depth = self._queues.depth(session.input_queue_url) if session.input_queue_url else 0
            except AwsError as e:
                return Verdict(
                    Reason.QUEUE_UNKNOWN,
                    f"the input queue of a session does not answer: {e.code or e.what}",
                    as_activity=True,
                )
            if depth:
                return Verdict(
                    Reason.QUEUE_NOT_EMPTY, f"{depth} messages wait in a session's input queue", as_activity=True
                )
        return None

    def _stop_task(self, action: Action, _: _Round) -> _Done:
        return self._stop_named(_needed(action.record))

    def _stop_named(self, record: ContainerRecord) -> _Done:
        """(6) StopTask of the task whose stop is confirmed."""
        arn = _needed(record.task_arn)
        reason = record.drain.reason if record.drain else DrainReason.IDLE
        self._tasks.stop(arn, f"editctl: {reason}, drain {record.last_drain_id}")
        return _Done(f"StopTask sent to task {_short(arn)}", task_arn=arn, again_in=self._policy.draining_interval)

    def _drain_superseded(self, action: Action, _: _Round) -> _Done:
        """Have the agent of a second task save for good, IF a strong read says that the record has passed it by."""
        task = _needed(action.task)
        record = self._passed_by(action, task)
        agent = self._agent_of(record, task) if record else None
        if agent is None or self._agents is None:
            return _moved_on()
        report = self._agents.drain(agent, SUPERSEDED_DRAIN)
        message = f"the agent of task {task.short} saves, for good"
        if report.unknown:
            message = f"the agent of task {task.short} does not answer ({report.unknown})"
        return _Done(message, task_arn=task.arn, again_in=self._policy.draining_interval)

    def _stop_superseded(self, action: Action, _: _Round) -> _Done:
        """Stop a second task, IF a strong read says that the record has passed it by for good."""
        task = _needed(action.task)
        record = self._passed_by(action, task)
        if record is None:
            return _moved_on()
        self._tasks.stop(task.arn, f"editctl: {DrainReason.SUPERSEDED}, the record names {_short(record.task_arn)}")
        return _Done(f"StopTask sent to task {task.short}", task_arn=task.arn, again_in=self._policy.draining_interval)

    def _passed_by(self, action: Action, task: Task) -> ContainerRecord | None:
        """Return the record, read strongly, when it has passed this task by and no hold is in force."""
        record = self._strong(action)
        if not is_superseded(record, task) or _held(record, self._tables.read_notes().pause, self._clock()):
            return None
        return record

    def _strong(self, action: Action) -> ContainerRecord | None:
        try:
            return self._tables.get_record(action.container_id)
        except RowError as e:
            raise ProtocolError(
                f"the record of {action.container_id} cannot be read", e.what, "mend or delete the row"
            ) from e


@dataclass(slots=True)
class _Round:
    """What the actions of one round share."""

    world: World
    looks: dict[str, Look] = field(default_factory=dict)
    look_error: EditctlError | None = None
    look_at: Millis | None = None


T = TypeVar("T")


def _needed(value: T | None) -> T:
    if value is None:
        raise ProtocolError("an action lacks what its step needs")
    return value


def _last_save(record: ContainerRecord, task: Task | None, now: Millis) -> Save | None:
    """Return what the save at SIGTERM came to, by the agent's exit code; None when there is nothing to add."""
    if not record.has_agent or task is None:
        return None
    before = record.save or Save("")
    code = task.exit_code
    if code in NEVER_RAN:
        return None
    if code == EXIT_NOT_SAVED:
        return replace(before, state="failed", at=now, message="the save at the end did not succeed")
    if code is not None and code < _SIGNALLED:
        return replace(before, state="saved", at=now)
    if before.state == "saved" and record.status is ContainerStatus.STOPPING:
        return None  # the receipt covers all work: nothing ran after it
    return replace(before, state="unknown", at=now, message=f"the task ended with exit code {code}")


def _moved_on() -> _Done:
    return _Done("the record has changed since; it is looked at again", OutcomeStatus.SKIPPED, again_in=0)


def _same_state(a: ContainerRecord, b: ContainerRecord) -> bool:
    return (a.generation, a.status, a.task_arn, a.identity, a.last_drain_id) == (
        b.generation,
        b.status,
        b.task_arn,
        b.identity,
        b.last_drain_id,
    )


def _same_fence(a: ContainerRecord, b: ContainerRecord) -> bool:
    return (a.last_activity, a.session_count, a.wanted_until) == (b.last_activity, b.session_count, b.wanted_until)


def _held(record: ContainerRecord | None, pause: Hold | None, now: Millis) -> bool:
    holds = (pause, record.hold if record else None, record.declared.hold if record and record.declared else None)
    return any(h.in_force(now) for h in holds if h)


def _short(arn: str | None) -> str:
    return (arn or "none").rpartition("/")[2][:6]


def _iso(at: Millis) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
