"""The states of one task as a schedule on the clock, so that looking at a task never changes it.

A schedule is written when the task starts and rewritten from "now" on when it is stopped or exits; what is past stays.
States and their order: Amazon ECS Developer Guide, "Task lifecycle". All instants are epoch milliseconds.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Lifecycle", "Status", "Timings"]


class Status(StrEnum):
    """A task's lastStatus."""

    PROVISIONING = "PROVISIONING"
    PENDING = "PENDING"
    ACTIVATING = "ACTIVATING"
    RUNNING = "RUNNING"
    DEACTIVATING = "DEACTIVATING"
    STOPPING = "STOPPING"
    DEPROVISIONING = "DEPROVISIONING"
    STOPPED = "STOPPED"


# Before these are entered no container was started, so there is nothing to signal.
_UNSTARTED = frozenset({Status.PROVISIONING, Status.PENDING})
_ENDING = frozenset({Status.DEPROVISIONING, Status.STOPPED})


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds that a task stays in each passing state; the defaults are those of an ordinary Fargate task."""

    provisioning: float = 10.0
    pending: float = 14.0
    activating: float = 2.0
    deactivating: float = 2.0
    stopping: float = 3.0
    deprovisioning: float = 9.0

    @classmethod
    def fast(cls) -> Timings:
        """Return timings for people who watch: about half a second up, half a second down."""
        return cls(0.2, 0.2, 0.1, 0.1, 0.2, 0.2)


class Lifecycle:
    """When one task enters which state."""

    __slots__ = ("_at", "_status", "_timings")

    def __init__(self, created_at: int, timings: Timings) -> None:
        self._timings = timings
        self._at: list[int] = []
        self._status: list[Status] = []
        self._append(created_at, Status.PROVISIONING)
        pending = created_at + _ms(timings.provisioning)
        activating = pending + _ms(timings.pending)
        self._append(pending, Status.PENDING)
        self._append(activating, Status.ACTIVATING)
        self._append(activating + _ms(timings.activating), Status.RUNNING)

    def status(self, at: int) -> Status:
        """Return the state at an instant; before the task's creation, its first state."""
        return self._status[max(0, self.version(at) - 1)]

    def version(self, at: int) -> int:
        """Return how many changes of state there were up to an instant (AmazonECS APIReference, Task version)."""
        return bisect_right(self._at, at)

    def entered(self, status: Status) -> int | None:
        """Return when a state is or will be entered, None if it is not on the schedule."""
        return self._at[self._status.index(status)] if status in self._status else None

    def reached(self, status: Status, at: int) -> int | None:
        """Return when a state was entered, None if it was not yet entered at an instant."""
        entered = self.entered(status)
        return entered if entered is not None and entered <= at else None

    def stop(self, at: int, stopping: float | None = None) -> None:
        """Rewrite what comes after an instant as an orderly stop, with `stopping` seconds for the containers to end.

        Only for a task that neither is being stopped nor has ended.
        """
        started = self.status(at) not in _UNSTARTED
        self._forget_after(at)
        if not started:
            self._end(at)
            return
        signalled = at + _ms(self._timings.deactivating)
        self._append(at, Status.DEACTIVATING)
        self._append(signalled, Status.STOPPING)
        self._end(signalled + _ms(self._timings.stopping if stopping is None else stopping))

    def exit(self, at: int) -> bool:
        """Rewrite what comes after an instant as "the containers have ended"; False if they had already."""
        if self.status(at) in _ENDING:
            return False
        self._forget_after(at)
        self._end(at)
        return True

    def _end(self, at: int) -> None:
        self._append(at, Status.DEPROVISIONING)
        self._append(at + _ms(self._timings.deprovisioning), Status.STOPPED)

    def _append(self, at: int, status: Status) -> None:
        self._at.append(at)
        self._status.append(status)

    def _forget_after(self, at: int) -> None:
        keep = bisect_right(self._at, at)
        del self._at[keep:]
        del self._status[keep:]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
