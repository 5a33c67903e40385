"""Who runs the rounds, when several controllers are up: a lease that saves work and never carries safety.

The row holds no time. A contender watches its version on a clock of its own and takes the lease when the version stood
still for the whole duration, as the DynamoDB lock clients do; so no two machines need to agree on the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from controller.core.model import SECOND, Millis
from controller.core.reads import Lease
from controller.errors import ConditionFailed
from controller.reconcile.ports import LeaseStore

LEASE: Millis = 15 * SECOND
RENEW_EVERY: Millis = 5 * SECOND
LOOK_EVERY: Millis = 1 * SECOND
"""How often a contender looks: a lease that was given up is taken this soon."""


class Leadership:
    """One controller's side of the lease. `clock` is monotonic, in milliseconds.

    Call `tick` as often as it asks for; `leads` is true while this controller may act.
    """

    def __init__(self, store: LeaseStore, holder: str, clock: Callable[[], Millis], duration: Millis = LEASE) -> None:
        self._store = store
        self._holder = holder
        self._clock = clock
        self._duration = duration
        self._mine: Lease | None = None
        self._renewed_at: Millis = 0
        self._seen: Lease | None = None
        self._seen_at: Millis = clock()

    @property
    def leads(self) -> bool:
        """Whether the lease is held and was renewed within its duration."""
        return self._mine is not None and self._clock() < self._renewed_at + self._duration

    @property
    def epoch(self) -> int:
        """The epoch of the lease that is held, or was last seen."""
        known = self._mine or self._seen
        return known.epoch if known else 0

    @property
    def holder(self) -> str:
        """Who leads, as far as is known; empty for nobody."""
        known = self._mine or self._seen
        return known.holder if known else ""

    def tick(self) -> Millis:
        """Renew, watch or take the lease; return the milliseconds until the next tick is wanted.

        Raises AwsError when the table does not answer; the lease then runs out by itself.
        """
        if self._mine is not None:
            if self._clock() < self._renewed_at + RENEW_EVERY:
                return self._renewed_at + RENEW_EVERY - self._clock()
            return self._renew(self._mine)
        return self._contend()

    def release(self) -> None:
        """Give the lease up, so that another need not wait for it to run out."""
        mine, self._mine = self._mine, None
        if mine is None:
            return
        try:
            self._store.write_lease(replace(mine, holder="", version=mine.version + 1), mine)
        except ConditionFailed:
            self._seen = None  # somebody has taken it already

    def _renew(self, mine: Lease) -> Millis:
        return self._take(replace(mine, version=mine.version + 1), mine)

    def _contend(self) -> Millis:
        now, lease = self._clock(), self._store.read_lease()
        if lease != self._seen:
            self._seen, self._seen_at = lease, now
        if lease is None:
            return self._take(Lease(self._holder, 1, 1, self._duration), None)
        if not lease.holder or now - self._seen_at >= lease.duration:
            return self._take(Lease(self._holder, lease.version + 1, lease.epoch + 1, self._duration), lease)
        return LOOK_EVERY

    def _take(self, new: Lease, seen: Lease | None) -> Millis:
        # The time before the write counts: the lease must not be believed longer here than it stands there.
        began = self._clock()
        try:
            self._store.write_lease(new, seen)
        except ConditionFailed:
            self._mine, self._seen, self._seen_at = None, None, self._clock()
            return LOOK_EVERY
        self._mine, self._renewed_at = new, began
        return RENEW_EVERY
