"""Trouble on purpose: errors, lost replies and refused placements for the next calls, and how stale the reads are."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass

from controller.local.errors import EcsError
from controller.local.limits import OPERATIONS

__all__ = ["NO_CAPACITY", "Faults", "Quirks", "RefusedPlacement"]

# repost.aws knowledge-center, ecs-fargate-runtask-capacity
NO_CAPACITY = "Capacity is unavailable at this time. Please try again later or in a different availability zone"


@dataclass
class Quirks:
    """What ECS leaves open, or does only sometimes; each can be changed at any time."""

    list_lag_ms: int = 0
    """ListTasks answers with what was true so long ago (AmazonECS APIReference RunTask: eventual consistency)."""

    describe_lag_ms: int = 0
    """DescribeTasks answers with what was true so long ago; a task younger than that is MISSING."""

    overlapping_pages: bool = False
    """Each ListTasks page begins with the last task of the page before."""

    bare_when_fresh: bool = False
    """A PROVISIONING task has neither containers nor attachments yet."""

    tags_until_stopped: bool = False
    """StopTask deletes the tags when the task is STOPPED, not when the call is made."""


@dataclass(frozen=True, slots=True)
class RefusedPlacement:
    """One task that RunTask reports in failures[], and when it shows up all the same (None: never)."""

    reason: str
    detail: str
    appears_after_ms: int | None


class Faults:
    """What goes wrong next; every entry is used up by the call that it hits. An unknown operation is a ValueError."""

    def __init__(self) -> None:
        self._errors: defaultdict[str, deque[EcsError]] = defaultdict(deque)
        self._lost: defaultdict[str, deque[EcsError]] = defaultdict(deque)
        self._placements: deque[RefusedPlacement] = deque()

    def fail(self, operation: str, code: str = "ServerException", times: int = 1, *, message: str = "") -> None:
        """Make the next calls of an operation fail before they have any effect."""
        _check(operation)
        self._errors[operation].extend(EcsError(code, message or f"{code}, as told") for _ in range(times))

    def lose_reply(self, operation: str, times: int = 1, *, code: str = "ServerException") -> None:
        """Make the next calls of an operation take effect and then fail with a status of 500, their answer lost."""
        _check(operation)
        self._lost[operation].extend(EcsError(code, "The reply was lost, as told", 500) for _ in range(times))

    def refuse_placement(
        self, reason: str = NO_CAPACITY, times: int = 1, *, detail: str = "", appears_after_ms: int | None = None
    ) -> None:
        """Put the next tasks into RunTask's failures[]; with `appears_after_ms` each runs, and is seen after that."""
        self._placements.extend(RefusedPlacement(reason, detail, appears_after_ms) for _ in range(times))

    def clear(self) -> None:
        """Let everything go well from here."""
        self._errors.clear()
        self._lost.clear()
        self._placements.clear()

    def before(self, operation: str) -> None:
        """Raise the error that is next for an operation, if there is one."""
        _raise_next(self._errors[operation])

    def after(self, operation: str) -> None:
        """Raise the lost reply that is next for an operation, if there is one."""
        _raise_next(self._lost[operation])

    def next_placement(self) -> RefusedPlacement | None:
        """Return what is to happen instead of placing the next task."""
        return self._placements.popleft() if self._placements else None


def _check(operation: str) -> None:
    if operation not in OPERATIONS:
        raise ValueError(f"{operation} is not an operation")


def _raise_next(errors: deque[EcsError]) -> None:
    if errors:
        raise errors.popleft()
