"""The control channel between controller and agent: paths, messages and token, one file for both halves.

HTTP/1.0, one JSON object a request and an answer, one request a connection. Every answer on the paths below is the
agent's whole status with the task ARN and the generation it belongs to, so a reused IP address is noticed by whoever
asked. Messages carry the drain's id; what belongs to an earlier drain is refused by the side that knows better.

    GET    /v1/status     how it is
    POST   /v1/drain      {"id": 7, "taskArn": …, "generation": …}      save under this id, then take no new work
    DELETE /v1/drain      {"id": 7, …}                                  drains up to this id are cancelled
    POST   /v1/keepalive  {"taskArn": …, "generation": …, "cancelledUpTo": 7}   admission, and the same word again
    PUT    /v1/sessions   {"sessions": [{"id", "inputQueueUrl", "outputQueueUrl"}], …}

and without a token, on the loopback interface only, for the workload:

    POST   /v1/busy       {"id": "build", "seconds": 90}   take or renew a lease; seconds 0: only report activity
    DELETE /v1/busy       {"id": "build"}                  end it
    GET    /v1/sessions   the sessions and their queues
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from controller.core.identity import ENV_TOKEN_SHA256 as ENV_TOKEN_SHA256
from controller.core.identity import ContainerIdentity
from controller.errors import ProtocolError

_Word = TypeVar("_Word", bound=StrEnum)

PATH_STATUS = "/v1/status"
PATH_DRAIN = "/v1/drain"
PATH_KEEPALIVE = "/v1/keepalive"
PATH_SESSIONS = "/v1/sessions"
PATH_BUSY = "/v1/busy"

ENV_PORT = "EDIT_AGENT_PORT"

MAX_REQUEST_BYTES = 256 * 1024
MAX_ANSWER_BYTES = 256 * 1024

EXIT_SAVED = 0
EXIT_CRASHED = 70
"""The agent itself failed; the work is saved."""
EXIT_NOT_ADMITTED = 69
"""The agent was never admitted within the launch timeout; the workload never ran."""
EXIT_NOT_RESTORED = 74
"""The workspace could not be prepared; the workload never ran."""
EXIT_NOT_SAVED = 75
"""Something of the workspace is not at the remote."""
EXIT_WORKLOAD_75 = 76
"""The workload itself ended with 75, its work is saved."""
EXIT_CONFIG = 78
"""The agent's settings are wrong; nothing was started."""


# Token


def channel_token(secret: bytes, identity: ContainerIdentity, generation: int) -> str:
    """Return the token of one launch: it opens this container's agent and no other's."""
    parts = ["edit-agent", 1, identity.client_id, identity.project_id, identity.user_id, generation]
    return hmac.new(secret, json.dumps(parts).encode(), hashlib.sha256).hexdigest()


def token_digest(token: str) -> str:
    """Return what the launch may tell the container: overrides can be read by DescribeTasks, so never the token."""
    return hashlib.sha256(token.encode()).hexdigest()


def token_matches(token: str, digest: str) -> bool:
    """Compare in constant time what was presented with the digest that the agent was started with."""
    return hmac.compare_digest(token_digest(token), digest.lower())


def channel_environment(secret: bytes, identity: ContainerIdentity, generation: int, port: int) -> dict[str, str]:
    """Return what a launch adds to the task's environment so that its agent listens to this controller."""
    return {ENV_PORT: str(port), ENV_TOKEN_SHA256: token_digest(channel_token(secret, identity, generation))}


# Receipts


class SaveState(StrEnum):
    """What a save came to. Only `saved` is a ground to stop."""

    SAVED = "saved"
    """Everything is at the remote, as the remote itself says."""
    PARTIAL = "partial"
    """What could be read is at the remote; something could not be read."""
    FAILED = "failed"


class SaveReason(StrEnum):
    """Why a save is not `saved`, or what is to be known about one that is."""

    NONE = ""
    UNCHANGED = "Unchanged"
    """Nothing changed since a save that the remote confirmed."""
    NOTHING_RAN = "NothingRan"
    """The workload never started, so there is no work."""
    NOT_ASKED_FOR = "NotAskedFor"
    """EDIT_SAVE_TO=none."""
    RESCUED = "Rescued"
    """The remote refused a branch; the work is under a rescue ref."""
    UNREADABLE = "Unreadable"
    REMOTE_MISSING = "RemoteMissing"
    REMOTE_UNREACHABLE = "RemoteUnreachable"
    CREDENTIAL_MISSING = "CredentialMissing"
    CREDENTIAL_REFUSED = "CredentialRefused"
    PUSH_REFUSED = "PushRefused"
    NOT_VERIFIED = "NotVerified"
    """The push was accepted, but the remote could not be asked what it has, or has something else."""
    DISK_FULL = "DiskFull"
    DEADLINE = "Deadline"
    WORKSPACE_GONE = "WorkspaceGone"
    BUSY_LOCK = "SaveInProgress"
    GIT_FAILED = "GitFailed"
    CRASHED = "Crashed"
    OTHER = "Other"
    """A reason that another version knows."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one save of the workspace came to: exactly what the remote has, as the remote said it."""

    state: SaveState
    at: int
    """Epoch milliseconds by the agent's clock."""
    reason: SaveReason = SaveReason.NONE
    message: str = ""
    branch: str = ""
    """The remote branch that holds `commit`."""
    commit: str = ""
    remote_commit: str = ""
    """What the remote said that it has there; equal to `commit` when saved."""
    rescue_ref: str = ""
    pushed: Mapping[str, str] = field(default_factory=dict)
    """Every ref of ours that the remote confirmed, with its commit."""
    files: int = 0
    changed: int = 0
    """Files whose content was read in this save."""
    ignored: int = 0
    """Entries that .gitignore keeps out: they are not saved."""
    notes: tuple[str, ...] = ()
    """What a person should know: skipped files, an operation in progress, a nested repository."""
    milliseconds: int = 0

    @property
    def saved(self) -> bool:
        """Whether nothing of the workspace is lost when the container ends now."""
        return self.state is SaveState.SAVED

    def to_json(self) -> dict[str, Any]:
        """Return the receipt as it is sent."""
        return {
            "state": str(self.state),
            "at": self.at,
            "reason": str(self.reason),
            "message": self.message,
            "branch": self.branch,
            "commit": self.commit,
            "remoteCommit": self.remote_commit,
            "rescueRef": self.rescue_ref,
            "pushed": dict(self.pushed),
            "files": self.files,
            "changed": self.changed,
            "ignored": self.ignored,
            "notes": list(self.notes),
            "milliseconds": self.milliseconds,
        }


def receipt_from_json(value: Any) -> Receipt:
    """Return the receipt. Raises ProtocolError: an answer that cannot be read is not an answer."""
    body = _object(value)
    pushed = _object(body.get("pushed", {}))
    notes = body.get("notes", [])
    if not isinstance(notes, list):
        raise ProtocolError("the receipt's notes are not a list")
    return Receipt(
        # A word that this version does not know is never a ground to stop.
        state=_known(SaveState, _text(body, "state"), SaveState.FAILED),
        at=_number(body, "at"),
        reason=_known(SaveReason, _text(body, "reason"), SaveReason.OTHER),
        message=_text(body, "message"),
        branch=_text(body, "branch"),
        commit=_text(body, "commit"),
        remote_commit=_text(body, "remoteCommit"),
        rescue_ref=_text(body, "rescueRef"),
        pushed={str(k): str(v) for k, v in pushed.items()},
        files=_number(body, "files"),
        changed=_number(body, "changed"),
        ignored=_number(body, "ignored"),
        notes=tuple(str(note) for note in notes),
        milliseconds=_number(body, "milliseconds"),
    )


# Status


class AgentPhase(StrEnum):
    """What the agent is doing."""

    PREPARING = "preparing"
    """Restoring the workspace."""
    WAITING = "waiting"
    """Ready, not admitted yet; the workload does not run."""
    RUNNING = "running"
    FROZEN = "frozen"
    """The workload is stopped by SIGSTOP: a drain is being saved, or was saved and not cancelled."""
    STOPPING = "stopping"
    """On the way out: the last save."""


class DrainState(StrEnum):
    """How far a drain is."""

    SAVING = "saving"
    SAVED = "saved"
    FAILED = "failed"
    """The save did not succeed; the workload runs on, and the same drain may be asked for again."""


@dataclass(frozen=True, slots=True)
class DrainView:
    """The drain that the agent serves."""

    id: int
    state: DrainState
    receipt: Receipt | None = None
    asked_at: int | None = None
    """When it was first asked for."""


@dataclass(frozen=True, slots=True)
class SessionView:
    """One open session, as the controller tells the workload."""

    session_id: str
    input_queue_url: str = ""
    output_queue_url: str = ""


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """Everything that an agent says about itself. Times are epoch milliseconds by its own clock, which is `now`."""

    task_arn: str
    generation: int | None
    version: str
    phase: AgentPhase
    admitted: bool
    now: int
    started_at: int
    last_activity: int | None = None
    """The last activity that the workload reported; None: none."""
    busy_until: int | None = None
    """When the longest busy lease ends at the latest; None: not busy."""
    busy_since: int | None = None
    drain: DrainView | None = None
    cancelled_up_to: int = 0
    last_save: Receipt | None = None
    isolated: bool = False
    """Whether the workload runs as another user than the agent, which is what keeps the credential from it."""

    @property
    def busy(self) -> bool:
        """Whether a busy lease was valid when the status was made."""
        return self.busy_until is not None and self.busy_until > self.now

    def to_json(self) -> dict[str, Any]:
        """Return the status as it is sent."""
        drain = self.drain
        return {
            "taskArn": self.task_arn,
            "generation": self.generation,
            "version": self.version,
            "phase": str(self.phase),
            "admitted": self.admitted,
            "now": self.now,
            "startedAt": self.started_at,
            "lastActivity": self.last_activity,
            "busyUntil": self.busy_until,
            "busySince": self.busy_since,
            "drain": drain
            and {
                "id": drain.id,
                "state": str(drain.state),
                "receipt": drain.receipt and drain.receipt.to_json(),
                "askedAt": drain.asked_at,
            },
            "cancelledUpTo": self.cancelled_up_to,
            "lastSave": self.last_save and self.last_save.to_json(),
            "isolated": self.isolated,
        }


def status_from_json(value: Any) -> AgentStatus:
    """Return the status. Raises ProtocolError."""
    body = _object(value)
    if "phase" not in body:
        raise ProtocolError("the status does not say what the agent does")
    return AgentStatus(
        task_arn=_text(body, "taskArn"),
        generation=_number_or_none(body, "generation"),
        version=_text(body, "version"),
        phase=_known(AgentPhase, _text(body, "phase"), AgentPhase.RUNNING),
        admitted=body.get("admitted") is True,
        now=_number(body, "now"),
        started_at=_number(body, "startedAt"),
        last_activity=_number_or_none(body, "lastActivity"),
        busy_until=_number_or_none(body, "busyUntil"),
        busy_since=_number_or_none(body, "busySince"),
        drain=_drain_from_json(body.get("drain")),
        cancelled_up_to=_number(body, "cancelledUpTo"),
        last_save=None if body.get("lastSave") is None else receipt_from_json(body["lastSave"]),
        isolated=body.get("isolated") is True,
    )


def _drain_from_json(value: Any) -> DrainView | None:
    if value is None:
        return None
    body = _object(value)
    state = _known(DrainState, _text(body, "state"), DrainState.SAVING)
    receipt = body.get("receipt")
    return DrainView(
        _number(body, "id"),
        state,
        None if receipt is None else receipt_from_json(receipt),
        _number_or_none(body, "askedAt"),
    )


def sessions_to_json(sessions: tuple[SessionView, ...]) -> list[dict[str, str]]:
    """Return the sessions as they are sent."""
    return [
        {"id": s.session_id, "inputQueueUrl": s.input_queue_url, "outputQueueUrl": s.output_queue_url} for s in sessions
    ]


def sessions_from_json(value: Any) -> tuple[SessionView, ...]:
    """Return the sessions of a message. Raises ProtocolError."""
    if not isinstance(value, list):
        raise ProtocolError("sessions is not a list")
    rows = [_object(each) for each in value]
    return tuple(
        SessionView(_text(row, "id"), _text(row, "inputQueueUrl"), _text(row, "outputQueueUrl")) for row in rows
    )


# Reading messages


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object. Raises ProtocolError."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as e:
        raise ProtocolError("the message is not JSON", str(e)) from e
    return _object(value)


def message_id(body: Mapping[str, Any], key: str) -> int:
    """Return a drain id of a message: a number from 0 up. Raises ProtocolError."""
    number = _number(body, key)
    if number < 0:
        raise ProtocolError(f"{key} is {number}", "ids count up from 1")
    return number


def _known(kind: type[_Word], text: str, otherwise: _Word) -> _Word:
    try:
        return kind(text)
    except ValueError:
        return otherwise


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ProtocolError(f"expected a JSON object, not {type(value).__name__}")
    return value


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key, "")
    if not isinstance(value, str):
        raise ProtocolError(f"{key} is not a text")
    return value


def _number(body: Mapping[str, Any], key: str) -> int:
    value = body.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ProtocolError(f"{key} is not a whole number")
    return value


def _number_or_none(body: Mapping[str, Any], key: str) -> int | None:
    return None if body.get(key) is None else _number(body, key)
