"""Which containers are due, and when: hints, deadlines, retries.

One heap for all deadlines, whatever set them; the earliest one is when the loop wakes. A hint says "look again", never
what there is to see, so it may be lost, doubled or late.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable

from controller.core.model import Millis


class Due:
    """A thread-safe set of container ids that are due, with a heap of those that will be."""

    def __init__(self) -> None:
        self._at: dict[str, Millis] = {}
        self._heap: list[tuple[Millis, str]] = []
        self._changed = threading.Condition()

    def add(self, container_id: str, at: Millis = 0) -> None:
        """Make the container due at that time; an earlier time that it has already stays."""
        with self._changed:
            known = self._at.get(container_id)
            if known is None or at < known:
                self._at[container_id] = at
                heapq.heappush(self._heap, (at, container_id))
                self._changed.notify_all()

    def replace(self, deadlines: Iterable[tuple[str, Millis]]) -> None:
        """Forget everything and take these: what a complete round says of all containers."""
        with self._changed:
            self._at = {}
            for container_id, at in deadlines:
                self._at[container_id] = min(at, self._at.get(container_id, at))
            self._heap = [(at, container_id) for container_id, at in self._at.items()]
            heapq.heapify(self._heap)

    def take(self, now: Millis) -> frozenset[str]:
        """Return the containers that are due, and forget them."""
        with self._changed:
            out: set[str] = set()
            while self._heap and self._heap[0][0] <= now:
                at, container_id = heapq.heappop(self._heap)
                if self._at.get(container_id) == at:
                    del self._at[container_id]
                    out.add(container_id)
            return frozenset(out)

    def next_at(self) -> Millis | None:
        """Return the earliest deadline, or None."""
        with self._changed:
            while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
                heapq.heappop(self._heap)
            return self._heap[0][0] if self._heap else None

    def __len__(self) -> int:
        with self._changed:
            return len(self._at)

    def wait(self, seconds: float) -> None:
        """Wait until something is added, or for so long."""
        with self._changed:
            self._changed.wait(seconds)
