"""The frozen values that everything else speaks in.

Times are epoch milliseconds (`Millis`), durations milliseconds: what the tables hold, compared without conversion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from controller.core.identity import ContainerIdentity, Ownership

Millis = int

SECOND: Millis = 1_000
MINUTE: Millis = 60 * SECOND
HOUR: Millis = 60 * MINUTE
DAY: Millis = 24 * HOUR


# Desired state: sessions


@dataclass(frozen=True, slots=True)
class Session:
    """One open chat: a row of the sessions table.

    `identity` is None in a row of the original writer, which carries only `containerId`; such a row keeps its
    container for as long as it exists (up to a maximum age), because its writer never moves `lastActivity` again.
    """

    session_id: str
    container_id: str
    identity: ContainerIdentity | None = None
    input_queue_url: str = ""
    output_queue_url: str = ""
    created_at: Millis | None = None
    last_activity: Millis | None = None

    @property
    def is_original(self) -> bool:
        """Whether the original system wrote this row."""
        return self.identity is None


# The record: the ledger of a container's launches, drains and saves


class ContainerStatus(StrEnum):
    """`containerStatus` of the kept task. `terminated` is the original system's word, as the others of its rows are."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPING = "stopping"
    TERMINATED = "terminated"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Launch:
    """A claim: when it was made and the exact RunTask argument, replayed verbatim until its answer is recorded."""

    requested_at: Millis
    request: str
    """The RunTask parameters as canonical JSON text."""
    key_id: str = ""


class DrainReason(StrEnum):
    """Why a container is being drained."""

    IDLE = "Idle"
    NO_SESSIONS = "NoSessions"
    ORPHANED = "Orphaned"
    DECLARED = "Declared"
    SUPERSEDED = "Superseded"
    LAUNCH_TIMED_OUT = "LaunchTimedOut"
    REQUESTED = "Requested"

    @property
    def is_forced(self) -> bool:
        """Whether the stop goes on although users are active, who would hold off an operator for ever."""
        return self in _FORCED


_FORCED = frozenset({DrainReason.DECLARED, DrainReason.SUPERSEDED, DrainReason.LAUNCH_TIMED_OUT, DrainReason.REQUESTED})


@dataclass(frozen=True, slots=True)
class Drain:
    """One drain of the named task. `id` only grows, so that what belongs to an earlier one is refused."""

    id: int
    reason: DrainReason
    requested_at: Millis
    deadline: Millis | None = None
    stopping_at: Millis | None = None
    confirmed_at: Millis | None = None


@dataclass(frozen=True, slots=True)
class Save:
    """What the last save of the workspace came to."""

    state: str
    branch: str = ""
    commit: str = ""
    remote_commit: str = ""
    rescue_ref: str = ""
    at: Millis | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Launches that failed one after the other, and when the next may be tried."""

    count: int
    reason: str
    at: Millis
    retry_at: Millis


@dataclass(frozen=True, slots=True)
class Hold:
    """An operator's word that nothing is to be started, drained or stopped until then."""

    by: str
    reason: str
    until: Millis

    def in_force(self, now: Millis) -> bool:
        """Whether the hold counts at this time."""
        return self.until > now


class RunPolicy(StrEnum):
    """What a declaration asks for."""

    AUTO = "Auto"
    ALWAYS = "Always"
    STOPPED = "Stopped"


@dataclass(frozen=True, slots=True)
class Declaration:
    """What an EditContainer object asks for; the Kubernetes host writes it into the record."""

    uid: str
    generation: int = 0
    run_policy: RunPolicy = RunPolicy.AUTO
    idle_timeout: Millis | None = None
    cpu: str = ""
    memory: str = ""
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """The container's row in the containers table. Any attribute may be missing: `ADD` creates rows."""

    container_id: str
    identity: ContainerIdentity | None = None
    status: ContainerStatus | None = None
    task_arn: str | None = None
    container_ip: str | None = None
    session_count: int | None = None
    created_at: Millis | None = None
    last_activity: Millis | None = None
    generation: int | None = None
    launch: Launch | None = None
    wanted_until: Millis | None = None
    empty_since: Millis | None = None
    drain: Drain | None = None
    save: Save | None = None
    failure: Failure | None = None
    hold: Hold | None = None
    declared: Declaration | None = None

    @property
    def awaits_arn(self) -> bool:
        """Whether a launch was claimed whose RunTask answer is not recorded."""
        return self.status is ContainerStatus.STARTING and not self.task_arn

    @property
    def names_no_task(self) -> bool:
        """Whether the ledger is at rest: nothing runs in its name."""
        return self.status in (None, ContainerStatus.TERMINATED, ContainerStatus.FAILED) and not self.task_arn

    @property
    def has_agent(self) -> bool:
        """Whether its task was launched with an agent that listens to this controller."""
        return self.launch is not None and bool(self.launch.key_id)

    @property
    def last_drain_id(self) -> int:
        """The highest drain id given out so far."""
        return self.drain.id if self.drain else 0

    @property
    def stop_confirmed(self) -> bool:
        """Whether the stop was confirmed: from there nobody goes back."""
        return (
            self.status is ContainerStatus.STOPPING and self.drain is not None and self.drain.confirmed_at is not None
        )


# Actual state: tasks


@dataclass(frozen=True, slots=True)
class Task:
    """One ECS task that carries a container id.

    `live` while its desiredStatus is RUNNING, `stopping` from StopTask until lastStatus is STOPPED.
    """

    arn: str
    identity: ContainerIdentity
    ownership: Ownership = Ownership.OURS
    generation: int | None = None
    last_status: str = "RUNNING"
    desired_status: str = "RUNNING"
    ip: str | None = None
    has_interface: bool = True
    created_at: Millis = 0
    started_at: Millis | None = None
    stopped_at: Millis | None = None
    stop_code: str = ""
    stopped_reason: str = ""
    exit_code: int | None = None
    task_definition: str = ""
    token_digest: str = ""
    """What its launch told it of its agent's token; empty where it has no agent."""

    @property
    def container_id(self) -> str:
        return self.identity.container_id

    @property
    def stopped(self) -> bool:
        return self.last_status in ("STOPPED", "DELETED")

    @property
    def live(self) -> bool:
        return self.desired_status == "RUNNING" and not self.stopped

    @property
    def stopping(self) -> bool:
        return not self.live and not self.stopped

    @property
    def ready(self) -> bool:
        """Whether the container can be used: running, and reachable where it has a network interface at all."""
        return self.live and self.last_status == "RUNNING" and (self.ip is not None or not self.has_interface)

    @property
    def has_run(self) -> bool:
        """Whether its containers may have run: before that, nothing in it can have been worked on."""
        return self.last_status not in ("PROVISIONING", "PENDING", "ACTIVATING")

    @property
    def short(self) -> str:
        """The first characters of the task's id, for sentences."""
        return self.arn.rpartition("/")[2][:6]


# Agents: what runs inside a container, and what it says of itself


SUPERSEDED_DRAIN = 1 << 40
"""The id of every superseded task's one drain, above all that records give out: no record's word takes it back."""


class DrainProgress(StrEnum):
    """How far the agent is with the drain that it serves."""

    SAVING = "saving"
    SAVED = "saved"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class AgentReport:
    """What the agent of one task answered, its times turned into ours; `unknown` says why there is no answer.

    Being unknown never means idle, saved or gone.
    """

    arn: str
    unknown: str = ""
    unknown_since: Millis | None = None
    """Since when it has been asked in vain, as far as this process knows."""
    admitted: bool = False
    busy_until: Millis | None = None
    last_activity: Millis | None = None
    drain_id: int = 0
    """The drain that it serves; 0 for none."""
    drain_since: Millis | None = None
    """When it was first asked for this drain."""
    progress: DrainProgress | None = None
    cancelled_up_to: int = 0
    save: Save | None = None
    """What the save of this drain came to, else its last one."""


# The world: what was observed, and how well


class Quality(StrEnum):
    """How much of a source was seen. Only `complete` authorises a stop."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Sight:
    """How well one source was seen, and why it was not seen better. A complete empty answer is complete."""

    quality: Quality
    detail: str = ""
    read_at: Millis = 0

    @property
    def complete(self) -> bool:
        return self.quality is Quality.COMPLETE


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row that cannot be read. It protects the container it names for `quarantineHold` from its first sight."""

    table: str
    key: str
    container_id: str | None
    reason: str
    first_seen: Millis

    @property
    def note(self) -> str:
        """The key of its note in the controller table."""
        return f"{self.table}#{self.key}"


@dataclass(frozen=True, slots=True)
class Others:
    """What the budgets must know of the containers that a world does not show: figures of the last look at each."""

    live: int = 0
    draining: int = 0
    sessions: int = 0
    stops: tuple[Millis, ...] = ()
    """When their latest stops began."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything observed for some identities. Order carries no meaning.

    scope: the container ids that were looked at; None for all there are.
    others: figures of those outside of the scope.
    missing: ARNs that a record names and DescribeTasks called MISSING.
    first_seen: when this observer first saw a session that carries no time of its own, by session id.
    nominated_before: container ids and ARNs that an earlier complete observation would have stopped; what needs two
    looks is only done when it is in here.
    agents: what the agents that were asked have said, by their task's ARN.
    noted: the unreadable rows, as `table#key`, whose first sight is kept in the controller table.
    clock_offset: how far AWS's clock is ahead of ours, by the Date of its answers.
    newest_definition: the ARN of the task-definition revision that a launch would pin; empty when it is not known.
    """

    sessions: tuple[Session, ...] = ()
    records: tuple[ContainerRecord, ...] = ()
    tasks: tuple[Task, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    missing: frozenset[str] = frozenset()
    sessions_sight: Sight = Sight(Quality.COMPLETE)
    records_sight: Sight = Sight(Quality.COMPLETE)
    tasks_sight: Sight = Sight(Quality.COMPLETE)
    first_seen: Mapping[str, Millis] = field(default_factory=dict)
    nominated_before: frozenset[str] = frozenset()
    agents: Mapping[str, AgentReport] = field(default_factory=dict)
    noted: frozenset[str] = frozenset()
    pause: Hold | None = None
    clock_offset: Millis = 0
    cluster: str = ""
    region: str = ""
    newest_definition: str = ""
    scope: frozenset[str] | None = None
    others: Others = Others()

    @property
    def complete(self) -> bool:
        """Whether every source was seen whole, as far as the scope goes."""
        return self.sessions_sight.complete and self.records_sight.complete and self.tasks_sight.complete


# Decisions


class Reason(StrEnum):
    """Why an action is taken, or not taken. The same word in plan, log, metric, condition and event."""

    SESSION_ACTIVE = "SessionActive"
    WANTED = "Wanted"
    DECLARED = "Declared"
    LAUNCH_UNFINISHED = "LaunchUnfinished"
    TASK_NOT_RECORDED = "TaskNotRecorded"
    RECORD_BEHIND = "RecordBehind"
    NOT_MARKED = "NotMarked"
    COUNT_DRIFTED = "CountDrifted"
    EMPTY = "Empty"
    OCCUPIED = "Occupied"
    TASK_GONE = "TaskGone"
    TASK_STOPPED = "TaskStopped"
    LAUNCH_FAILED = "LaunchFailed"
    LAUNCH_TIMED_OUT = "LaunchTimedOut"
    IDLE = "Idle"
    NO_SESSIONS = "NoSessions"
    ORPHANED = "Orphaned"
    SUPERSEDED = "Superseded"
    REQUESTED = "Requested"
    WANTED_AGAIN = "WantedAgain"
    HELD = "Held"
    PAUSED = "Paused"
    IN_USE = "InUse"
    IDLE_GRACE = "IdleGrace"
    ORPHAN_GRACE = "OrphanGrace"
    BUSY = "Busy"
    SAVING = "Saving"
    SAVE_FAILED = "SaveFailed"
    AGENT_UNREACHABLE = "AgentUnreachable"
    STARTING = "Starting"
    STOPPED = "Stopped"
    BACKING_OFF = "BackingOff"
    STOP_IN_PROGRESS = "StopInProgress"
    LIST_LAG = "ListLag"
    SEEN_ONCE = "SeenOnce"
    BUDGET_EXHAUSTED = "BudgetExhausted"
    MASS_STOP = "MassStop"
    SIGHT_INCOMPLETE = "SightIncomplete"
    AMBIGUOUS_IDENTITY = "AmbiguousIdentity"
    IDENTITY_CONFLICT = "IdentityConflict"
    FOREIGN = "Foreign"
    ROW_QUARANTINED = "RowQuarantined"
    QUEUE_NOT_EMPTY = "QueueNotEmpty"
    QUEUE_UNKNOWN = "QueueUnknown"
    STALE_SESSION = "StaleSession"
    CLOCK_SKEW = "ClockSkew"
    CLOCK_UNSURE = "ClockUnsure"


class ActionKind(StrEnum):
    """What an operator is shown; the order is the order in which a round acts."""

    START = "start"
    ADOPT = "adopt"
    RECORD = "record"
    COUNT = "count"
    CANCEL_DRAIN = "cancelDrain"
    DRAIN = "drain"
    STOP = "stop"
    HOLD = "hold"
    DEFER = "defer"
    KEEP = "keep"

    @property
    def changes(self) -> bool:
        """Whether the action writes anything."""
        return self not in (ActionKind.HOLD, ActionKind.DEFER, ActionKind.KEEP)


class Step(StrEnum):
    """One call or one conditional write of the protocols; `controller/reconcile/apply.py` has one function for each."""

    CLAIM = "claim"
    ADMIT = "admit"
    ASK_TO_SAVE = "askToSave"
    RUN_TASK = "runTask"
    RECORD_ARN = "recordArn"
    ADOPT = "adopt"
    ADOPT_ORPHAN = "adoptOrphan"
    MARK_TASK = "markTask"
    CORRECT = "correct"
    SET_EMPTY = "setEmpty"
    CLEAR_EMPTY = "clearEmpty"
    REPAIR_COUNT = "repairCount"
    CANCEL_DRAIN = "cancelDrain"
    BEGIN_DRAIN = "beginDrain"
    WRITE_STOPPING = "writeStopping"
    LOOK_AGAIN = "lookAgain"
    STOP_TASK = "stopTask"
    DRAIN_SUPERSEDED = "drainSuperseded"
    STOP_SUPERSEDED = "stopSuperseded"
    TERMINATED = "terminated"
    FAILED = "failed"
    NONE = "none"

    @property
    def kind(self) -> ActionKind:
        """The word an operator is shown for this step."""
        return _KIND_OF[self]


_KIND_OF: Mapping[Step, ActionKind] = {
    Step.CLAIM: ActionKind.START,
    Step.ADMIT: ActionKind.RECORD,
    Step.ASK_TO_SAVE: ActionKind.DRAIN,
    Step.RUN_TASK: ActionKind.START,
    Step.RECORD_ARN: ActionKind.START,
    Step.ADOPT: ActionKind.ADOPT,
    Step.ADOPT_ORPHAN: ActionKind.DRAIN,
    Step.MARK_TASK: ActionKind.RECORD,
    Step.CORRECT: ActionKind.RECORD,
    Step.SET_EMPTY: ActionKind.RECORD,
    Step.CLEAR_EMPTY: ActionKind.RECORD,
    Step.REPAIR_COUNT: ActionKind.COUNT,
    Step.CANCEL_DRAIN: ActionKind.CANCEL_DRAIN,
    Step.BEGIN_DRAIN: ActionKind.DRAIN,
    Step.WRITE_STOPPING: ActionKind.STOP,
    Step.LOOK_AGAIN: ActionKind.STOP,
    Step.STOP_TASK: ActionKind.STOP,
    Step.DRAIN_SUPERSEDED: ActionKind.DRAIN,
    Step.STOP_SUPERSEDED: ActionKind.DRAIN,
    Step.TERMINATED: ActionKind.RECORD,
    Step.FAILED: ActionKind.RECORD,
}


@dataclass(frozen=True, slots=True)
class Action:
    """One decision about one container (and, where it is about one, one task).

    record and task are as observed: what a conditional write is conditional on. `until` is when the decision ends by
    itself and `then` what comes of it; both empty when only an event can change it.
    """

    kind: ActionKind
    container_id: str
    reason: Reason
    message: str
    step: Step = Step.NONE
    identity: ContainerIdentity | None = None
    record: ContainerRecord | None = None
    task: Task | None = None
    sessions: int = 0
    active_sessions: int = 0
    generation: int | None = None
    """The generation that a claim takes."""
    last_activity: Millis | None = None
    drain_reason: DrainReason | None = None
    deferred: ActionKind | None = None
    """What a defer or hold keeps from happening."""
    until: Millis | None = None
    then: str = ""

    @property
    def foretells_a_start(self) -> bool:
        """Whether it writes down the end of a task that somebody wants: the next look starts another."""
        return self.step is Step.FAILED or (self.step is Step.TERMINATED and self.active_sessions > 0)

    @property
    def on_second_task(self) -> bool:
        """Whether it is about a task that the record has passed by, and not about the container itself."""
        return self.drain_reason is DrainReason.SUPERSEDED

    @property
    def key(self) -> str:
        """What two observations must agree on: a task that is not the record's, else the container."""
        by_task = self.on_second_task or self.step is Step.ADOPT_ORPHAN or self.reason is Reason.SEEN_ONCE
        return self.task.arn if self.task and by_task else self.container_id


@dataclass(frozen=True, slots=True)
class Upcoming:
    """What happens next by itself."""

    container_id: str
    at: Millis
    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Every decision for a world at a time, the quiet ones too, in the order in which they are applied.

    `nominated` is what this plan would stop, by Action.key: a later observation may need it as its second witness.
    """

    actions: tuple[Action, ...]
    at: Millis
    sights: Mapping[str, Sight] = field(default_factory=dict)
    nominated: frozenset[str] = frozenset()

    @property
    def changes(self) -> tuple[Action, ...]:
        """The actions that write."""
        return tuple(a for a in self.actions if a.kind.changes)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done but pure bookkeeping of records, of which no start follows."""
        return all(a.kind is ActionKind.RECORD and not a.foretells_a_start for a in self.changes)

    @property
    def complete(self) -> bool:
        """Whether it was made on complete sight."""
        return all(s.complete for s in self.sights.values())

    @property
    def next(self) -> Upcoming | None:
        """The earliest decision that changes by itself."""
        due = [a for a in self.actions if a.until is not None and a.then]
        if not due:
            return None
        first = min(due, key=lambda a: (a.until or 0, a.container_id))
        return Upcoming(first.container_id, first.until or 0, first.then, str(first.reason))

    def counts(self) -> dict[str, int]:
        """Return the number of actions of each kind that occurs."""
        found: dict[str, int] = {}
        for action in self.actions:
            found[action.kind.value] = found.get(action.kind.value, 0) + 1
        return found


class OutcomeStatus(StrEnum):
    """How one action ended."""

    DONE = "done"
    SKIPPED = "skipped"
    """The world had moved on; what was decided no longer holds. Not an error: the next look decides anew."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one action came to, in one sentence, with how long it took."""

    action: Action
    status: OutcomeStatus
    message: str = ""
    error: Exception | None = None
    task_arn: str | None = None
    generation: int | None = None
    seconds: float = 0.0
    again_at: Millis | None = None
    """When this container is due again because of it."""
    details: Mapping[str, Any] = field(default_factory=dict)
