"""What the workload says of itself: busy leases and activity.

Activity is what the workload reports through `/v1/busy`: taking, renewing or ending a lease, or a lease of 0 seconds.
Files that change do not count: a log or a cache that something keeps writing would keep a container for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.agent.clock import Clock
from controller.errors import EditctlError

MOST_LEASES = 256


class LeaseRefused(EditctlError):
    """The lease had its time, or there are too many."""


@dataclass(slots=True)
class _Lease:
    since: float
    until: float
    spent: bool = False


class Activity:
    """The leases, each with a maximum age from when it was first taken. Not thread-safe: its owner locks."""

    def __init__(self, clock: Clock, maximum: float) -> None:
        self._clock = clock
        self._maximum = maximum
        self._leases: dict[str, _Lease] = {}
        self._last: float | None = None

    def take(self, name: str, seconds: float) -> float:
        """Take or renew a lease; return how long it is valid. Raises LeaseRefused when it had its maximum.

        A lease that ran into its maximum stays refused until it is ended: something is stuck, and whoever renews it
        again and again must not make it a new one.
        """
        now = self._clock.steady()
        self._forget(now)
        if seconds <= 0:
            self._last = now
            return 0.0
        lease = self._leases.get(name)
        if lease is None:
            if len(self._leases) >= MOST_LEASES:
                raise LeaseRefused(f"there are {MOST_LEASES} leases", "each is held by something", "end some")
            lease = self._leases[name] = _Lease(now, now)
        end = lease.since + self._maximum
        if now >= end:
            lease.spent = True
            raise LeaseRefused(
                f"lease {name[:80]!r} had its {self._maximum:.0f} s", "what holds it may be stuck", "end it first"
            )
        lease.until = min(now + seconds, end)
        lease.spent = lease.until >= end
        self._last = now
        return lease.until - now

    def end(self, name: str) -> None:
        """End a lease."""
        if (lease := self._leases.pop(name, None)) is not None and not lease.spent:
            self._last = self._clock.steady()

    def _forget(self, now: float) -> None:
        ended = [name for name, lease in self._leases.items() if lease.until <= now and not lease.spent]
        for name in ended:
            del self._leases[name]

    def busy(self) -> tuple[float, float] | None:
        """Return since when and until when at the latest the container is busy (steady moments); None if it is not."""
        now = self._clock.steady()
        valid = [lease for lease in self._leases.values() if lease.until > now]
        return (min(lease.since for lease in valid), max(lease.until for lease in valid)) if valid else None

    @property
    def last(self) -> float | None:
        """The last activity, as a steady moment."""
        return self._last

    def idle_for(self) -> float:
        """Return the seconds without activity; infinite when there never was any, 0 while busy."""
        if self.busy():
            return 0.0
        return float("inf") if self._last is None else self._clock.steady() - self._last
