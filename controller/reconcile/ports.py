"""What the reconciler needs of the outside: small protocols, one a noun.

Readers and writers are apart, so that what only looks (`editctl plan`) is given nothing that can write. A read that
fails or sees only a part says so in its `Sight`, it is never a shorter list; a strong read that fails raises AwsError.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from controller.core.identity import ContainerIdentity
from controller.core.ledger import RecordWrite
from controller.core.model import AgentReport, ContainerRecord, Millis, Session
from controller.core.reads import AgentRef, Hint, Lease, Look, Notes, RecordsRead, RunAnswer, SessionsRead, TasksRead

__all__ = [
    "HintSource",
    "Look",
    "Notes",
    "NotesReader",
    "NotesWriter",
    "QueueReader",
    "RecordReader",
    "RecordWriter",
    "RecordsRead",
    "RunAnswer",
    "SessionReader",
    "SessionWriter",
    "SessionsRead",
    "StrongReader",
    "TaskReader",
    "TaskRunner",
    "TasksRead",
]


class SessionReader(Protocol):
    """Reads the sessions table, eventually consistent."""

    def read_sessions(self) -> SessionsRead: ...

    def read_sessions_of(self, container_ids: Collection[str], session_ids: Collection[str]) -> SessionsRead:
        """Return the rows of these containers; what the index says of the sessions that are named is read strongly."""
        ...


class RecordReader(Protocol):
    """Reads the containers table: all of it eventually consistent, a few rows strongly."""

    def read_records(self) -> RecordsRead: ...

    def read_records_of(self, container_ids: Collection[str]) -> RecordsRead: ...


class NotesReader(Protocol):
    """Reads the controller table."""

    def read_notes(self) -> Notes: ...


class TaskReader(Protocol):
    """Reads ECS."""

    def sweep(self) -> TasksRead:
        """Return every task of ours, live, stopping or stopped, that ECS still lists, and foreign ones on our ids."""
        ...

    def describe(self, arns: Collection[str]) -> TasksRead:
        """Return these tasks, with `missing` naming those that ECS does not know (any more, or not yet)."""
        ...


class StrongReader(Protocol):
    """Looks at containers so that everything written before the call began is seen."""

    def get_record(self, container_id: str) -> ContainerRecord | None:
        """Return the record. Raises RowError when it cannot be read."""
        ...

    def look(self, container_ids: Collection[str]) -> Mapping[str, Look]:
        """Return a look at each: all records first, then one Scan of the base table for the sessions of all of them."""
        ...


class RecordWriter(Protocol):
    """Writes records by condition."""

    def write(self, write: RecordWrite) -> ContainerRecord:
        """Return the record as it is now. Raises ConditionFailed when a condition does not hold: nothing is changed."""
        ...


class NotesWriter(Protocol):
    """Writes the controller table."""

    def note_first_seen(self, key: str, at: Millis) -> None:
        """Keep when an unreadable row was first seen; an earlier note stays."""
        ...

    def forget_first_seen(self, key: str) -> None:
        """Drop the note of a row that is readable again, or gone."""
        ...


class TaskRunner(Protocol):
    """Changes tasks."""

    def prepare(
        self, identity: ContainerIdentity, generation: int, requested_at: Millis, cpu: str = "", memory: str = ""
    ) -> str:
        """Return the exact RunTask argument of a launch as JSON text, its task-definition revision pinned.

        cpu (units) and memory (MiB) in place of the definition's, where a declaration asks for them.
        """
        ...

    def run(self, request: str) -> RunAnswer:
        """Send a prepared request; sending it again gives the same task."""
        ...

    def stop(self, arn: str, reason: str) -> None:
        """Send StopTask. A task that ECS does not know is stopped already."""
        ...

    def mark(self, arn: str, identity: ContainerIdentity) -> None:
        """Tag a task as ours."""
        ...


class HintSource(Protocol):
    """Says which containers to look at again."""

    def receive(self) -> Sequence[Hint]:
        """Wait a while for hints and return them; what is no hint is dropped. Raises AwsError."""
        ...

    def delete(self, receipts: Collection[str]) -> None:
        """Drop the messages whose hints were answered. Raises AwsError; one that stays is a doubled hint."""
        ...


class QueueReader(Protocol):
    """Looks into the sessions' input queues."""

    def depth(self, queue_url: str) -> int:
        """Return the messages visible or in flight; 0 when there is no such queue. Raises AwsError."""
        ...


class AgentReader(Protocol):
    """Asks agents how they are."""

    def ask(self, agents: Collection[AgentRef]) -> Mapping[str, AgentReport]:
        """Return a report of each, by its task's ARN; one that does not answer is an unknown report, never an error."""
        ...


class AgentWriter(Protocol):
    """Tells agents something. Each answer is the report that follows from it; not reached is an unknown report."""

    def keepalive(self, agent: AgentRef, cancelled_up_to: int, sessions: Sequence[Session]) -> AgentReport:
        """Admit the task (its ARN was read in the record); say which drains are cancelled, which sessions open."""
        ...

    def drain(self, agent: AgentRef, drain: int) -> AgentReport:
        """Ask it to save under this id and to take no new work then."""
        ...

    def cancel(self, agent: AgentRef, up_to: int) -> AgentReport:
        """Take back all drains up to this id."""
        ...


class SessionWriter(Protocol):
    """The transactions of session writers. Each moves the record's `lastActivity`, the fence, together with the row."""

    def get_session(self, session_id: str) -> Session | None:
        """Return the row, read strongly."""
        ...

    def open(self, session: Session, identity: ContainerIdentity, now: Millis) -> bool:
        """Put the row and add 1 to the count; False when it was open already.

        Raises SessionExists when it is open on another container, IdentityConflict when the record is another triple's.
        """
        ...

    def touch(self, session_id: str, container_id: str, now: Millis) -> None:
        """Move lastActivity of row and record. Raises SessionNotFound when either is gone: it never revives."""
        ...

    def release(self, session_id: str, container_id: str, now: Millis) -> bool:
        """Delete the row and take 1 off the count, never below 0; False when it was not open."""
        ...

    def want(self, identity: ContainerIdentity, until: Millis, now: Millis) -> ContainerRecord:
        """Ask for the container until then, creating its record if there is none. Never shortens an earlier wish."""
        ...


class LeaseStore(Protocol):
    """Keeps the lease row."""

    def read_lease(self) -> Lease | None:
        """Return the row, read strongly, or None when nobody ever led."""
        ...

    def write_lease(self, lease: Lease, seen: Lease | None) -> None:
        """Write the row IF it still is the one seen. Raises ConditionFailed when it is not."""
        ...
