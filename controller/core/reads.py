"""What a look outside gives back: values, each with how well it was seen.

They stand in core so that `aws` can return them and `reconcile` can ask for them, and neither imports the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.core.identity import ContainerIdentity
from controller.core.model import ContainerRecord, Hold, Millis, Quarantined, Session, Sight, Task


@dataclass(frozen=True, slots=True)
class SessionsRead:
    """The rows of the sessions table, and those that could not be read."""

    sessions: tuple[Session, ...]
    sight: Sight
    quarantined: tuple[Quarantined, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordsRead:
    """The rows of the containers table, and those that could not be read."""

    records: tuple[ContainerRecord, ...]
    sight: Sight
    quarantined: tuple[Quarantined, ...] = ()


@dataclass(frozen=True, slots=True)
class TasksRead:
    """Tasks, and the ARNs that were asked for and are MISSING."""

    tasks: tuple[Task, ...]
    sight: Sight
    missing: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Look:
    """A strongly consistent look at one container: the record was read first, then the base table of sessions.

    record is None when there is none, or when it cannot be read. unread are the keys of its session rows that cannot.
    """

    container_id: str
    record: ContainerRecord | None
    sessions: tuple[Session, ...]
    record_readable: bool = True
    unread: tuple[str, ...] = ()

    @property
    def readable(self) -> bool:
        """Whether every row of it could be read."""
        return self.record_readable and not self.unread


@dataclass(frozen=True, slots=True)
class Notes:
    """The controller table: an operator's pause, and when unreadable rows were first seen, by `table#key`."""

    pause: Hold | None = None
    first_seen: Mapping[str, Millis] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hint:
    """Look at this container again, and where to look: rows and tasks that the stale reads may not show yet.

    It may be lost, doubled, late or wrong: nothing that it says is believed, and what it does not name is seen as well.
    routine: only somebody's latest activity has moved, which nobody need look at while the container is in use.
    receipts: what deletes the messages that it came by.
    """

    container_id: str
    session_ids: frozenset[str] = frozenset()
    task_arns: frozenset[str] = frozenset()
    routine: bool = False
    receipts: frozenset[str] = frozenset()

    def merged(self, other: Hint | None) -> Hint:
        """Return one hint for both."""
        if other is None:
            return self
        return Hint(
            self.container_id,
            self.session_ids | other.session_ids,
            self.task_arns | other.task_arns,
            self.routine and other.routine,
            self.receipts | other.receipts,
        )


@dataclass(frozen=True, slots=True)
class RunAnswer:
    """RunTask's answer: the task (`stopped` when a replay gave a dead one), or why ECS could not place it."""

    arn: str | None = None
    stopped: bool = False
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Marked:
    """One task, None when it carries no client, project and user, and what its marks say: whose tool, whose task."""

    task: Task | None
    managed_by: str = ""
    controller: str = ""


@dataclass(frozen=True, slots=True)
class LogStream:
    """Where a task's container logs: group and stream, empty when its definition does not say."""

    task: Task
    driver: str
    group: str = ""
    stream: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class AgentRef:
    """Which agent is meant: where it is, and what it must say of itself, for an address can change hands."""

    identity: ContainerIdentity
    address: str
    arn: str
    generation: int
    key_id: str
    token_digest: str = ""
    """Of a task that no record tells the key of."""


def agent_ref(record: ContainerRecord, task: Task) -> AgentRef | None:
    """Return the agent of a task of the container; None when the one that is named cannot be reached (yet).

    None, too, for a task without one. A task that the record does not name may have been launched with any key.
    """
    if record.task_arn != task.arn:
        digest = task.token_digest
        return AgentRef(task.identity, task.ip or "", task.arn, task.generation or 0, "", digest) if digest else None
    launch, identity = record.launch, record.identity
    if task.ip is None or identity is None or launch is None or not launch.key_id:
        return None
    return AgentRef(identity, task.ip, task.arn, record.generation or 0, launch.key_id)


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease row: who leads. `version` changes with every write of it, `epoch` with every change of holder.

    It holds no time: each side measures on its own clock how long the version stood still.
    """

    holder: str
    version: int
    epoch: int
    duration: Millis
