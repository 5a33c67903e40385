"""The controller's half of the control channel.

Not being reachable is an answer of its own, `Unknown`, with why: it never means idle, saved or gone. So is the answer
of another task at the same address, which ECS may have given to somebody else's container.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from controller.agent import protocol
from controller.agent.protocol import AgentStatus, SessionView, channel_token, status_from_json, token_matches
from controller.core.identity import ContainerIdentity
from controller.errors import ProtocolError

CONNECT_SECONDS = 1.0
TOTAL_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Target:
    """Which agent is meant: where it should be, and what it must say about itself."""

    identity: ContainerIdentity
    address: str
    task_arn: str
    generation: int
    key_id: str = ""
    token_digest: str = ""
    """What the launch told of the token: it finds the key where no key id says which."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No answer of the agent that is meant. Nothing follows from it but that it is not known."""

    why: str
    wrong_task: bool = False
    """Another task answered at that address."""
    refused: bool = False
    """The agent refused the token."""


class AgentClient:
    """Talks to agents. One call is one short connection; it is safe to use from several threads."""

    def __init__(
        self,
        secrets: Mapping[str, bytes],
        port: int,
        *,
        connect_seconds: float = CONNECT_SECONDS,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._secrets = dict(secrets)
        self._port = port
        self._connect_seconds = connect_seconds
        self._total_seconds = total_seconds

    def status(self, target: Target) -> AgentStatus | Unknown:
        """Ask how it is."""
        return self._call(target, "GET", protocol.PATH_STATUS, None)

    def drain(self, target: Target, drain: int) -> AgentStatus | Unknown:
        """Ask it to save under this id and to take no new work then; asked again it tries again."""
        return self._call(target, "POST", protocol.PATH_DRAIN, {"id": drain})

    def cancel(self, target: Target, up_to: int) -> AgentStatus | Unknown:
        """Take back all drains up to this id."""
        return self._call(target, "DELETE", protocol.PATH_DRAIN, {"id": up_to})

    def keepalive(self, target: Target, cancelled_up_to: int) -> AgentStatus | Unknown:
        """Admit the task and say which drains are cancelled. Only after its ARN was read in the record."""
        return self._call(target, "POST", protocol.PATH_KEEPALIVE, {"cancelledUpTo": cancelled_up_to})

    def put_sessions(self, target: Target, sessions: tuple[SessionView, ...]) -> AgentStatus | Unknown:
        """Say which sessions are open and where their queues are."""
        return self._call(target, "PUT", protocol.PATH_SESSIONS, {"sessions": protocol.sessions_to_json(sessions)})

    def _call(self, target: Target, method: str, path: str, body: dict[str, Any] | None) -> AgentStatus | Unknown:
        if not target.address:
            return Unknown("it has no address (yet)")
        token = self._token(target)
        if token is None:
            which = f"has the key id {target.key_id!r}" if target.key_id else "made the token that it was launched with"
            return Unknown(f"no channel secret {which}")
        if body is not None:
            body |= {"taskArn": target.task_arn, "generation": target.generation}
        try:
            status, answer = self._exchange(target.address, method, path, token, body)
            return _understood(target, status, answer)
        except OSError as e:
            return Unknown(f"{target.address} does not answer: {_plain(e)}")
        except ProtocolError as e:
            return Unknown(f"{target.address} answers something else: {e}"[:300])

    def _token(self, target: Target) -> str | None:
        if target.key_id:
            secret = self._secrets.get(target.key_id)
            return None if secret is None else channel_token(secret, target.identity, target.generation)
        tokens = (channel_token(secret, target.identity, target.generation) for secret in self._secrets.values())
        return next((token for token in tokens if token_matches(token, target.token_digest)), None)

    def _exchange(
        self, address: str, method: str, path: str, token: str, body: dict[str, Any] | None
    ) -> tuple[int, bytes]:
        """Send a request and return status and body of the answer.

        Plain sockets, because the time must be bounded in all: a library's time limit begins anew with every byte that
        the other side lets drip, and one slow container would hold up a round. It also knows no proxies.
        """
        end = time.monotonic() + self._total_seconds
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.0\r\nHost: {address}:{self._port}\r\nAuthorization: Bearer {token}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        with socket.create_connection((address, self._port), self._connect_seconds) as connection:
            connection.settimeout(_left(end))
            connection.sendall(head.encode() + data)
            return _parse(_read_all(connection, end))


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _read_all(connection: socket.socket, end: float) -> bytes:
    parts: list[bytes] = []
    size = 0
    while size <= protocol.MAX_ANSWER_BYTES:
        connection.settimeout(_left(end))
        data = connection.recv(65536)
        if not data:
            return b"".join(parts)
        parts.append(data)
        size += len(data)
    raise ProtocolError(f"the answer is longer than {protocol.MAX_ANSWER_BYTES} bytes")


def _parse(answer: bytes) -> tuple[int, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise ProtocolError("the answer is not HTTP")
    return int(words[1]), body


def _understood(target: Target, status: int, answer: bytes) -> AgentStatus | Unknown:
    if status == HTTPStatus.UNAUTHORIZED:
        return Unknown(f"the agent at {target.address} refuses the token: it is another container's", refused=True)
    if status not in (HTTPStatus.OK, HTTPStatus.CONFLICT):
        return Unknown(f"the agent at {target.address} answers {status}")
    said = status_from_json(protocol.parse(answer))
    if (said.task_arn, said.generation) != (target.task_arn, target.generation):
        return Unknown(
            f"at {target.address} is task {said.task_arn or 'of unknown ARN'}, generation {said.generation}",
            wrong_task=bool(said.task_arn) or said.generation != target.generation,
        )
    if status == HTTPStatus.CONFLICT:
        return Unknown(f"the agent at {target.address} refuses the message", refused=True)
    return said


def _plain(e: Exception) -> str:
    return (getattr(e, "strerror", None) or str(e) or type(e).__name__)[:200]
