"""Client tokens of RunTask: which call each stands for, and for how long (AmazonECS APIReference, ECS_Idempotency)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.local.describe import describe, describe_dead
from controller.local.errors import EcsError
from controller.local.lifecycle import Status
from controller.local.tasks import LocalTask

__all__ = ["TokenTable"]

MAX_LIFETIME_MS = 24 * 3_600_000
AFTER_STOPPED_MS = 3_600_000
FAILURES_IN_FULL_MS = 3_600_000

# They say which call it is, or where; they are not what it asks for.
_NOT_COMPARED = frozenset({"clientToken", "cluster"})


@dataclass(frozen=True, slots=True)
class _Call:
    at: int
    fingerprint: str
    tasks: Sequence[LocalTask]
    failures: Sequence[Mapping[str, Any]]

    def dead(self, now: int) -> bool:
        """Return whether the token is free again: 24 h after the call, or 1 h after the last task was STOPPED."""
        stopped = [task.lifecycle.entered(Status.STOPPED) for task in self.tasks]
        ends = self.at + MAX_LIFETIME_MS
        if stopped and None not in stopped:
            ends = min(ends, max(at for at in stopped if at is not None) + AFTER_STOPPED_MS)
        return ends <= now

    def answer(self, now: int) -> dict[str, Any]:
        old = now - self.at > FAILURES_IN_FULL_MS
        return {
            "tasks": [_repeated(task, now) for task in self.tasks],
            "failures": [{} if old else dict(failure) for failure in self.failures],
        }


class TokenTable:
    """The tokens of one cluster; the same token in another cluster is another request."""

    def __init__(self) -> None:
        self._calls: dict[str, _Call] = {}

    def replay(self, params: Mapping[str, Any], now: int) -> dict[str, Any] | None:
        """Return the answer of the earlier call with this token, None if there was none, or refuse another request."""
        call = self._calls.get(params.get("clientToken", ""))
        if call is None or call.dead(now):
            return None
        if call.fingerprint != _fingerprint(params):
            raise EcsError(
                "ConflictException",
                "The client token is in use with other parameters.",
                resourceIds=[task.arn for task in call.tasks],
            )
        return call.answer(now)

    def remember(
        self, params: Mapping[str, Any], now: int, tasks: Sequence[LocalTask], failures: Sequence[Mapping[str, Any]]
    ) -> None:
        """Let the token stand for a call that succeeded."""
        self._drop_expired(now)
        token = params.get("clientToken")
        if token is not None:
            self._calls.pop(token, None)
            self._calls[token] = _Call(now, _fingerprint(params), tuple(tasks), tuple(failures))

    def _drop_expired(self, now: int) -> None:
        # Calls are in the order of their time, so whatever has outlived 24 h is at the front.
        while self._calls:
            token = next(iter(self._calls))
            if self._calls[token].at + MAX_LIFETIME_MS > now:
                return
            del self._calls[token]


def _repeated(task: LocalTask, now: int) -> dict[str, Any]:
    if task.lifecycle.status(now) is Status.STOPPED:
        return describe_dead(task)
    return describe(task, now, with_tags=True)


def _fingerprint(params: Mapping[str, Any]) -> str:
    asked = {name: value for name, value in params.items() if name not in _NOT_COMPARED}
    return json.dumps(asked, sort_keys=True, separators=(",", ":"))
