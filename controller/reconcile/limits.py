"""Token buckets for the AWS quotas: starts before stops before resync.

The quotas belong to the account and region, and everything else there uses them too; ours is a share. A bucket never
sleeps: it says how long to wait, and the container is due again then. docs/decisions/006-the-whole-quota.md
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


# What the service allows to the whole account (Amazon ECS API reference, request throttling; AWS Fargate throttling
# quotas). RunTask's is taken whole: launches are what users wait for, and the start budget leaves some to others.
RUN_TASK = Quota(19, 20)
MODIFY = Quota(80, 32)
"""Cluster resource modify, which RunTask and StopTask draw on together: a fifth is left to everything else."""
TURN_KEPT: Millis = 60 * SECOND
"""How long a token is kept for somebody who does not come for it."""


class TokenBucket:
    """Tokens that refill with time, as those of AWS do. Thread-safe.

    Who finds none gets a turn: when to come again. So a thousand that wait come back one by one, as tokens flow in, and
    not all at once for one of them. Nothing is kept for a turn: what nobody takes in time is gone at AWS, too.
    """

    def __init__(self, quota: Quota, clock: Callable[[], Millis]) -> None:
        self._quota = quota
        self._clock = clock
        self._tokens = quota.burst
        self._at = clock()
        self._turns: dict[str, Millis] = {}
        self._next: Millis = 0
        """The first turn that is free …"""
        self._late: Millis = 0
        """… and the first for somebody who had one and came when nothing was left."""
        self._tidied_at = clock()
        self._lock = threading.Lock()

    def take(self, who: str, reserve: float = 0) -> Millis:
        """Take a token and return 0, or return the milliseconds until it is the turn of `who`.

        `reserve` tokens are left for those who come first; who leaves some gets no turn, only the time to ask again.
        """
        with self._lock:
            now = self._refill()
            turn = self._turns.get(who)
            if turn is not None and turn > now:
                return turn - now
            lacking = 1 + reserve - self._tokens
            if lacking <= 0 and (turn is not None or self._next <= now):
                self._tokens -= 1
                self._turns.pop(who, None)
                return 0
            soonest = now + max(int(lacking * SECOND / self._quota.per_second), 1)
            if reserve:
                return soonest - now
            step = max(int(SECOND / self._quota.per_second), 1)
            if turn is None:
                turn = max(self._next, soonest)
                self._next = turn + step
            else:
                turn = max(self._late, soonest)
                self._late = turn + step
            self._turns[who] = turn
            return turn - now

    def give_back(self) -> None:
        """Return a token that was not used."""
        with self._lock:
            self._tokens = min(self._tokens + 1, self._quota.burst)

    def _refill(self) -> Millis:
        now = self._clock()
        passed = max(now - self._at, 0)
        self._tokens = min(self._quota.burst, self._tokens + passed * self._quota.per_second / SECOND)
        self._at = now
        if now >= self._tidied_at + TURN_KEPT:
            # Whose container is not wanted any more does not come for his token.
            self._turns = {who: turn for who, turn in self._turns.items() if turn > now - TURN_KEPT}
            self._tidied_at = now
        return now


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
        who = f"{action.step} {action.key}"
        if action.step in _RUNS:
            wait = self._told("run_task", self._run_task.take(who))
            if wait:
                return wait
            wait = self._told("modify", self._modify.take(who))
            if wait:
                self._run_task.give_back()
            return wait
        if action.step in _MODIFIES:
            return self._told("modify", self._modify.take(who, self._reserve))
        return 0

    def _told(self, bucket: str, wait: Millis) -> Millis:
        if wait:
            self._on_wait(bucket, wait)
        return wait
