"""Every error that editctl raises on purpose, as one tree.

    EditctlError                  what failed, why, and what to do: three lines
    ├── ConfigError               a setting is missing, malformed or out of range
    ├── InvalidIdentity           a client, project or user id that cannot name a container
    ├── DeclarationError          an EditContainer object that cannot be read
    ├── RowError                  one row of a table cannot be read; it is quarantined, the rest goes on
    ├── ProtocolError             a caller broke a rule of this program (a bug, not an input)
    ├── PortInUse                 a local endpoint cannot listen where it was told to
    ├── WrongWorld                the tables or the cluster are not those seen first
    ├── PlanError                 a saved plan cannot be read or is not of this world
    ├── NotNow                    what an operator asks for does not go as things are: a hold, a session, a launch
    ├── SessionError              what a session writer is told
    │   ├── SessionExists         the session is open on another container
    │   ├── SessionNotFound       the session is not open (or no longer)
    │   ├── IdentityConflict      another triple has this container id
    │   ├── Held                  an operator's hold or pause forbids a start
    │   ├── StoppedByDeclaration  a declaration says Stopped
    │   ├── LaunchFailed          the container was tried and did not come up
    │   └── NotReadyInTime        the deadline passed before the container was ready
    └── AwsError                  an AWS call failed; `code`, `operation`
        ├── CredentialsError      none, expired, or refused
        ├── AccessDenied          known to AWS, not allowed to do this
        ├── EndpointError         nobody answers there, or region and endpoint do not fit
        ├── Throttled             slow down; retryable
        ├── Unavailable           5xx, time-out, broken connection; retryable, and the call may have worked
        ├── ConditionFailed       a conditional write was refused; `item` is what is there
        ├── TransactionConflict   another transaction was in the way; retryable
        ├── LaunchConflict        RunTask: this client token was used with other parameters; `resource_ids`
        ├── ClusterNotFound
        ├── TableNotFound
        ├── TaskDefinitionNotFound
        ├── TaskNotFound
        └── InvalidRequest        AWS refused a parameter

botocore's errors are turned into these in `controller/aws/client.py` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "AccessDenied",
    "AwsError",
    "ClusterNotFound",
    "ConditionFailed",
    "ConfigError",
    "CredentialsError",
    "DeclarationError",
    "EditctlError",
    "EndpointError",
    "Held",
    "IdentityConflict",
    "InvalidIdentity",
    "InvalidRequest",
    "LaunchConflict",
    "LaunchFailed",
    "NotNow",
    "NotReadyInTime",
    "PlanError",
    "PortInUse",
    "ProtocolError",
    "RowError",
    "SessionError",
    "SessionExists",
    "SessionNotFound",
    "StoppedByDeclaration",
    "TableNotFound",
    "TaskDefinitionNotFound",
    "TaskNotFound",
    "Throttled",
    "TransactionConflict",
    "Unavailable",
    "WrongWorld",
]


class EditctlError(Exception):
    """Something that a person can act on: `what` failed (with the value), `why`, and `todo`."""

    def __init__(self, what: str, why: str = "", todo: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.todo = todo

    def lines(self) -> tuple[str, ...]:
        """Return the one to three lines that a person is shown."""
        return tuple(line for line in (self.what, self.why, self.todo) if line)

    def __str__(self) -> str:
        return ": ".join(self.lines()[:2])


class ConfigError(EditctlError):
    """A setting is missing, malformed or out of range."""


class InvalidIdentity(EditctlError):
    """A client, project or user id that cannot name a container."""


class DeclarationError(EditctlError):
    """An EditContainer object that cannot be read."""


class RowError(EditctlError):
    """One row of a table cannot be read."""


class ProtocolError(EditctlError):
    """A caller broke a rule of this program."""


class PortInUse(EditctlError):
    """A local endpoint cannot listen where it was told to."""


class WrongWorld(EditctlError):
    """The tables or the cluster are not those that this controller saw first."""


class PlanError(EditctlError):
    """A saved plan cannot be read, or is not of this world."""


class NotNow(EditctlError):
    """What an operator asks for does not go as things are."""


class SessionError(EditctlError):
    """What a session writer is told."""


class SessionExists(SessionError):
    """The session is open on another container."""


class SessionNotFound(SessionError):
    """The session is not open, or no longer."""


class IdentityConflict(SessionError):
    """Another client, project and user have this container id."""


class Held(SessionError):
    """An operator's hold or pause forbids a start."""


class StoppedByDeclaration(SessionError):
    """A declaration says that this container is to be stopped."""


class LaunchFailed(SessionError):
    """The container was tried and did not come up."""


class NotReadyInTime(SessionError):
    """The deadline passed before the container was ready."""


class AwsError(EditctlError):
    """An AWS call failed. `code` is the service's own error code, `operation` the call."""

    retryable = False

    def __init__(self, what: str, why: str = "", todo: str = "", *, code: str = "", operation: str = "") -> None:
        super().__init__(what, why, todo)
        self.code = code
        self.operation = operation


class CredentialsError(AwsError):
    """There are no AWS credentials, they are expired, or AWS refuses them."""


class AccessDenied(AwsError):
    """AWS knows the caller and does not allow the call."""


class EndpointError(AwsError):
    """Nobody answers at the endpoint, or region and endpoint do not fit."""

    retryable = True


class Throttled(AwsError):
    """AWS asks to slow down."""

    retryable = True


class Unavailable(AwsError):
    """5xx, a time-out or a broken connection: the call may have worked all the same."""

    retryable = True


class ConditionFailed(AwsError):
    """A conditional write was refused.

    `item` is the row as it stands, as plain values, and `record` the same parsed; None if there is none, it is unknown
    or cannot be read. `reasons` and `items` are those of a transaction, one for each of its operations; a reason is
    "None" for one that would have gone.
    """

    def __init__(
        self,
        what: str,
        why: str = "",
        todo: str = "",
        *,
        code: str = "",
        operation: str = "",
        item: Mapping[str, Any] | None = None,
        record: Any = None,
        reasons: Sequence[str] = (),
        items: Sequence[Mapping[str, Any] | None] = (),
    ) -> None:
        super().__init__(what, why, todo, code=code, operation=operation)
        self.item = item
        self.record = record
        self.reasons = tuple(reasons)
        self.items = tuple(items)


class TransactionConflict(AwsError):
    """Another transaction was in the way."""

    retryable = True


class LaunchConflict(AwsError):
    """RunTask: the client token was used before with other parameters; `resource_ids` are that call's tasks."""

    def __init__(
        self,
        what: str,
        why: str = "",
        todo: str = "",
        *,
        code: str = "",
        operation: str = "",
        resource_ids: Sequence[str] = (),
    ) -> None:
        super().__init__(what, why, todo, code=code, operation=operation)
        self.resource_ids = tuple(resource_ids)


class ClusterNotFound(AwsError):
    """There is no ECS cluster of that name in the region."""


class TableNotFound(AwsError):
    """There is no DynamoDB table of that name in the region."""


class TaskDefinitionNotFound(AwsError):
    """There is no ACTIVE task definition of that family or revision."""


class TaskNotFound(AwsError):
    """ECS knows no such task (any more)."""


class InvalidRequest(AwsError):
    """AWS refused a parameter."""
