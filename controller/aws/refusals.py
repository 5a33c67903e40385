"""What a session writer is told when rows are not as it wants them; judged from the rows alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.aws.rows import shown, triple
from controller.core.identity import ContainerIdentity, identity_or_none
from controller.core.model import Session
from controller.errors import (
    IdentityConflict,
    ProtocolError,
    SessionExists,
    SessionNotFound,
    TransactionConflict,
)


def check_new_session(session: Session, identity: ContainerIdentity) -> None:
    """Raise ProtocolError when the session to be opened is not one of this identity."""
    if session.container_id != identity.container_id or session.identity not in (None, identity):
        raise ProtocolError(f"session {shown(session.session_id)} is not of {identity}", "row and identity must agree")


def check_open_session(there: Session, identity: ContainerIdentity) -> None:
    """Raise SessionExists or IdentityConflict when the open row is not one of this container."""
    if there.container_id != identity.container_id:
        raise SessionExists(
            f"session {shown(there.session_id)} is open on container {shown(there.container_id)}",
            "a session belongs to one container",
            f"release it there first: editctl session release {there.session_id}",
        )
    if there.identity not in (None, identity):
        raise _conflict(identity, str(there.identity))


def check_owner(identity: ContainerIdentity, item: Mapping[str, Any] | None) -> None:
    """Raise IdentityConflict when the record (plain values) names another triple."""
    if item and any(item.get(name) not in (None, "", value) for name, value in triple(identity).items()):
        raise identity_conflict(identity, item)


def identity_conflict(identity: ContainerIdentity, item: Mapping[str, Any] | None) -> IdentityConflict:
    """Return the error for a record (plain values) that belongs to another triple."""
    parts = [(item or {}).get(name) for name in triple(identity)]
    owner = identity_or_none(*parts)
    return _conflict(identity, str(owner) if owner else "another client, project and user")


def _conflict(identity: ContainerIdentity, owner: str) -> IdentityConflict:
    return IdentityConflict(
        f"container id {shown(identity.container_id)} belongs to {owner}",
        f"{identity} makes the same text",
        "choose another client, project or user id: one without '-' cannot meet another",
    )


def not_open(session_id: str, container_id: str, *, row_missing: bool) -> SessionNotFound:
    """Return the error for a session that cannot be touched."""
    return SessionNotFound(
        f"session {shown(session_id)} is not open on container {shown(container_id)}",
        "its row is gone, or is another container's" if row_missing else "the container has no record",
        "open it again",
    )


def in_between(what: str, name: str) -> TransactionConflict:
    return TransactionConflict(
        f"{what} of '{name}' met another writer",
        "the row changed between two looks",
        "try again",
        code="ChangedBetween",
    )
