"""ECS's request quotas, exactly: token buckets in whole thousandths, on the caller's clock.

Sources: Amazon ECS API reference, "Request throttling"; AWS Fargate, "Throttling quotas". All callers of an account in
a region share them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from controller.core.model import Millis
from controller.local.errors import EcsError

THOUSANDTHS = 1_000


@dataclass(frozen=True, slots=True)
class Quota:
    """A bucket: its size, and what flows in each second."""

    name: str
    burst: int
    per_second: int

    def floor(self, calls: int) -> float:
        """Return the least seconds that so many calls take, from a full bucket."""
        return max(calls - self.burst, 0) / self.per_second


MODIFY = Quota("cluster resource modify", 100, 40)
READ = Quota("cluster resource read", 100, 20)
TAG = Quota("tag modify", 20, 10)
REGISTER = Quota("task definition modify", 20, 1)
READ_DEFINITION = Quota("task definition read", 50, 20)
FARGATE_RUN_TASK = Quota("Fargate RunTask calls", 20, 20)
FARGATE_LAUNCH = Quota("Fargate launches", 100, 20)

BUCKETS: Mapping[str, tuple[Quota, ...]] = {
    "DescribeTaskDefinition": (READ_DEFINITION,),
    "DescribeTasks": (READ,),
    "ListTasks": (READ,),
    "RegisterTaskDefinition": (REGISTER,),
    "RunTask": (MODIFY, FARGATE_RUN_TASK, FARGATE_LAUNCH),
    "StopTask": (MODIFY,),
    "TagResource": (TAG,),
    "UntagResource": (TAG,),
}
"""Which buckets a call draws on; from each it needs a token, or it is refused and takes none."""


class Bucket:
    """Tokens in thousandths: a millisecond brings as many of them as a second brings tokens, so nothing is rounded."""

    def __init__(self, quota: Quota, now: Millis) -> None:
        self._quota = quota
        self._held = quota.burst * THOUSANDTHS
        self._at = now

    def refill(self, now: Millis) -> None:
        """Let flow in what has come since the last time."""
        arrived = max(now - self._at, 0) * self._quota.per_second
        self._held = min(self._quota.burst * THOUSANDTHS, self._held + arrived)
        self._at = max(now, self._at)

    @property
    def has_one(self) -> bool:
        """Whether a token is there."""
        return self._held >= THOUSANDTHS

    def take(self) -> None:
        """Take a token."""
        self._held -= THOUSANDTHS


class Quotas:
    """Admits calls to ECS; give `admit` to the strict ECS. Counts what it admits and refuses."""

    def __init__(self, now: Millis) -> None:
        self.enabled = True
        self.admitted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._buckets = {quota: Bucket(quota, now) for some in BUCKETS.values() for quota in some}

    def admit(self, operation: str, now: Millis) -> None:
        """Take a token from each bucket of the operation, or raise what ECS answers to a call too many."""
        if not self.enabled:
            return
        buckets = [self._buckets[quota] for quota in BUCKETS.get(operation, ())]
        for bucket in buckets:
            bucket.refill(now)
        if not all(bucket.has_one for bucket in buckets):
            self.refused[operation] += 1
            raise EcsError("ThrottlingException", "Rate exceeded")
        for bucket in buckets:
            bucket.take()
        self.admitted[operation] += 1

    def restart(self) -> None:
        """Count anew from here; the buckets stay as full as they are."""
        self.admitted.clear()
        self.refused.clear()
