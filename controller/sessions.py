"""What the chat service calls: open, touch and release a session, and get the container that serves it.

Each call may be repeated: conditions in the tables make a second one harmless. Touch before you send a message to a
session's input queue: the touch is what a stop in progress looks for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from controller.core.identity import ContainerIdentity
from controller.core.model import (
    MINUTE,
    SECOND,
    ContainerRecord,
    ContainerStatus,
    Millis,
    RunPolicy,
    Session,
)
from controller.core.policy import Policy
from controller.core.words import duration
from controller.errors import (
    ConfigError,
    Held,
    IdentityConflict,
    LaunchFailed,
    NotReadyInTime,
    SessionNotFound,
    StoppedByDeclaration,
)
from controller.reconcile.ports import NotesReader, SessionWriter, StrongReader

LONGEST_WAIT: Millis = 30 * MINUTE
"""How long one call of get_or_create_container may wait; a wish that lies further ahead is not believed."""
_POLL_SECONDS = 0.5


class Store(SessionWriter, StrongReader, NotesReader, Protocol):
    """The tables as session writers need them."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container that can be used: its id, task and address (None where tasks have no network interface)."""

    container_id: str
    task_arn: str
    container_ip: str | None
    generation: int | None


class SessionRegistry:
    """Writes sessions, and waits for containers. Knows the tables, never ECS: the controller starts what is wanted."""

    def __init__(
        self, store: Store, policy: Policy, clock: Callable[[], Millis], wait: Callable[[float], None]
    ) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock
        self._wait = wait

    def get(self, session_id: str) -> Session | None:
        """Return the session's row, read strongly, or None when it is not open."""
        return self._store.get_session(session_id)

    def open(
        self,
        session_id: str,
        identity: ContainerIdentity,
        *,
        input_queue_url: str = "",
        output_queue_url: str = "",
    ) -> bool:
        """Open a session on the identity's container; False when it was open there already.

        Raises SessionExists when it is open on another container, IdentityConflict when the container id belongs to
        another client, project and user.
        """
        now = self._clock()
        session = Session(session_id, identity.container_id, identity, input_queue_url, output_queue_url, now, now)
        return self._store.open(session, identity, now)

    def touch(self, session_id: str) -> None:
        """Say that the session is active now. Raises SessionNotFound when it is not open: a touch never revives."""
        self._store.touch(session_id, self._open_session(session_id).container_id, self._clock())

    def release(self, session_id: str) -> bool:
        """Close the session; False when it was not open. Its container lives on for the idle timeout."""
        session = self._store.get_session(session_id)
        return session is not None and self._store.release(session_id, session.container_id, self._clock())

    def _open_session(self, session_id: str) -> Session:
        session = self._store.get_session(session_id)
        if session is None:
            raise SessionNotFound(
                f"session '{session_id}' is not open", "it was never opened, or it was released", "open it first"
            )
        return session

    def get_or_create_container(self, identity: ContainerIdentity, within: Millis = 5 * MINUTE) -> Container:
        """Return the identity's container when it is ready, asking for it if it does not run.

        Waits at most `within` milliseconds. Raises Held, StoppedByDeclaration, LaunchFailed, NotReadyInTime,
        IdentityConflict.
        """
        if not SECOND <= within <= LONGEST_WAIT:
            raise ConfigError(
                f"a wait of {duration(within)} is out of range",
                f"it may be 1 s to {duration(LONGEST_WAIT)}",
                "choose a deadline in that range",
            )
        asked = self._clock()
        deadline = asked + within
        self._store.want(identity, deadline, asked)
        while True:
            record = self._store.get_record(identity.container_id)
            ready = self._ready(record, identity)
            if ready:
                return ready
            self._check_allowed(identity.container_id, record)
            if self._clock() >= deadline or self._is_hopeless(record, asked, deadline):
                raise self._not_ready(identity.container_id, record, asked, within)
            self._wait(_POLL_SECONDS)

    def _ready(self, record: ContainerRecord | None, identity: ContainerIdentity) -> Container | None:
        if record is None or record.status is not ContainerStatus.RUNNING or record.task_arn is None:
            return None
        if record.identity is not None and record.identity != identity:
            raise IdentityConflict(
                f"container id '{identity.container_id}' belongs to {record.identity}",
                f"{identity} spells the same id",
                "rename one of the two projects",
            )
        return Container(record.container_id, record.task_arn, record.container_ip, record.generation)

    def _check_allowed(self, container_id: str, record: ContainerRecord | None) -> None:
        now = self._clock()
        pause = self._store.read_notes().pause
        hold = record.hold if record else None
        for which, who, lift in (
            (pause, "everything is paused", "editctl unpause"),
            (hold, "it is held", f"editctl unhold {container_id}"),
        ):
            if which and which.in_force(now):
                raise Held(
                    f"'{container_id}' is not started: {who} by {which.by}",
                    f"{which.reason}; for another {duration(which.until - now)}",
                    f"wait, or: {lift}",
                )
        if record and record.declared and record.declared.run_policy is RunPolicy.STOPPED:
            raise StoppedByDeclaration(
                f"'{container_id}' is not started: its declaration says Stopped",
                "an EditContainer object with runPolicy Stopped names it",
                "change runPolicy to Auto",
            )

    def _is_hopeless(self, record: ContainerRecord | None, asked: Millis, deadline: Millis) -> bool:
        failure = record.failure if record else None
        return failure is not None and failure.at >= asked and failure.retry_at >= deadline

    def _not_ready(
        self, container_id: str, record: ContainerRecord | None, asked: Millis, within: Millis
    ) -> LaunchFailed | NotReadyInTime:
        failure = record.failure if record else None
        explain = f"editctl explain {container_id}"
        if failure is not None and failure.at >= asked:
            return LaunchFailed(f"'{container_id}' did not start", failure.reason, explain)
        status = record.status if record and record.status else "not started"
        return NotReadyInTime(
            f"'{container_id}' was not ready within {duration(within)}",
            f"its record says: {status}; is a controller running?",
            explain,
        )
