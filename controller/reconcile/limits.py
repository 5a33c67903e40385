"""Token buckets for the AWS quotas: starts before stops before resync.

The quotas belong to the account and region, and everything else there uses them too; ours is a share. A bucket never
sleeps: it says how long to wait, and the container is due again then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from controller.core.model import SECOND, Action, Millis, Step


@dataclass(frozen=True, slots=True)
class Quota:
    """A bucket's size and its refill per second."""

    burst: float
    per_second: float


# Half of what the service allows to the whole account (Amazon ECS API reference, request throttling; Fargate quotas:
# RunTask 20 per second). The other half is for everything else that runs there.
RUN_TASK = Quota(20, 10)
MODIFY = Quota(50, 20)
"""Cluster resource modify: RunTask and StopTask draw on it together."""


class TokenBucket:
    """Tokens that refill with time. Thread-safe."""

    def __init__(self, quota: Quota, clock: Callable[[], Millis]) -> None:
        self._quota = quota
        self._clock = clock
        self._tokens = quota.burst
        self._at = clock()
        self._lock = threading.Lock()

    def take(self, reserve: float = 0) -> Millis:
        """Take a token and return 0, or return the milliseconds until one can be had.

        `reserve` tokens are left for those who come first.
        """
        with self._lock:
            now = self._clock()
            self._tokens = min(
                self._quota.burst, self._tokens + max(now - self._at, 0) * self._quota.per_second / SECOND
            )
            self._at = now
            if self._tokens >= 1 + reserve:
                self._tokens -= 1
                return 0
            return max(int((1 + reserve - self._tokens) * SECOND / self._quota.per_second), 1)


_RUNS = frozenset({Step.CLAIM, Step.RUN_TASK})
_MODIFIES = frozenset({Step.LOOK_AGAIN, Step.STOP_TASK, Step.STOP_SUPERSEDED, Step.MARK_TASK})


class Limits:
    """The buckets that the steps of a round draw on."""

    def __init__(
        self,
        clock: Callable[[], Millis],
        run_task: Quota = RUN_TASK,
        modify: Quota = MODIFY,
        on_wait: Callable[[str, Millis], None] = lambda bucket, wait: None,
    ) -> None:
        self._on_wait = on_wait
        self._run_task = TokenBucket(run_task, clock)
        self._modify = TokenBucket(modify, clock)
        self._reserve = modify.burst / 5
        """Tokens that stops leave to starts."""

    def wait_for(self, action: Action) -> Millis:
        """Return 0 when the action may go on now, else how long it waits for its quota."""
        if action.step in _RUNS:
            return self._told("modify", self._modify.take()) or self._told("run_task", self._run_task.take())
        if action.step in _MODIFIES:
            return self._told("modify", self._modify.take(self._reserve))
        return 0

    def _told(self, bucket: str, wait: Millis) -> Millis:
        if wait:
            self._on_wait(bucket, wait)
        return wait
