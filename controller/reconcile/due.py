"""Which containers are due, and when: hints, deadlines, retries.

One heap for all of them, whatever set them; the earliest one is when the loop wakes. A hint says "look again" and
where, never what there is to see, so it may be lost, doubled or late.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Collection, Iterable, Mapping

from controller.core.model import Millis
from controller.core.reads import Hint


def _nobody_waits() -> None:
    return None


class Due:
    """A thread-safe set of containers that are due, with a heap of those that will be."""

    def __init__(self) -> None:
        self._at: dict[str, Millis] = {}
        self._heap: list[tuple[Millis, str]] = []
        self._hints: dict[str, Hint] = {}
        self._now: dict[str, None] = {}
        self._in_use: set[str] = set()
        self._lock = threading.Lock()
        self._wake: Callable[[], None] = _nobody_waits

    def on_hint(self, wake: Callable[[], None]) -> None:
        """Have this called after each hint, in the thread that gave it: it wakes whoever waits for the next round."""
        self._wake = wake

    def hint(self, hint: Hint) -> bool:
        """Make a container due now; False when that is not needed.

        Who is in use has a deadline, at which all activity until then is seen. So a routine hint brings nothing.
        """
        with self._lock:
            if hint.routine and hint.container_id in self._in_use:
                return False
        self.give_back((hint,))
        self._wake()
        return True

    def give_back(self, hints: Iterable[Hint], at: Millis = 0) -> None:
        """Make these due (again) at a time, with all that the hints name; an earlier time that one has stays."""
        with self._lock:
            for hint in hints:
                self._hints[hint.container_id] = hint.merged(self._hints.get(hint.container_id))
                self._set(hint.container_id, at)

    def _set(self, container_id: str, at: Millis) -> None:
        if not at:
            self._now[container_id] = None
            return
        known = self._at.get(container_id)
        if known is None or at < known:
            self._at[container_id] = at
            heapq.heappush(self._heap, (at, container_id))

    def replace(self, deadlines: Iterable[tuple[str, Millis]], in_use: Collection[str] = ()) -> None:
        """Forget all deadlines and take these: what a look at everything says. Hints that have come since stay.

        in_use: the containers that are looked at again at their deadline and not before, unless something happens.
        """
        with self._lock:
            self._in_use = set(in_use)
            self._at = {i: self._at[i] for i in self._hints if i in self._at}
            for container_id, at in deadlines:
                self._at[container_id] = min(at, self._at.get(container_id, at))
            self._heap = [(at, container_id) for container_id, at in self._at.items()]
            heapq.heapify(self._heap)

    def settle(
        self, container_ids: Collection[str], deadlines: Iterable[tuple[str, Millis]], in_use: Collection[str] = ()
    ) -> None:
        """Forget the deadlines of these containers and take the new ones. Hints that have come since stay."""
        with self._lock:
            self._in_use.difference_update(container_ids)
            self._in_use.update(in_use)
            for container_id in container_ids:
                if container_id not in self._hints:
                    self._at.pop(container_id, None)
            for container_id, at in deadlines:
                self._set(container_id, at)

    def take(self, now: Millis, most: int | None = None) -> Mapping[str, Hint]:
        """Return the containers that are due, each with what its hints name, and forget them.

        No more than so many: first those whose time has come, then what is hinted, in its order. A thousand hints at
        once must not keep those waiting whose turn it is.
        """
        with self._lock:
            out: dict[str, Hint] = {}
            while self._heap and self._heap[0][0] <= now and len(out) != most:
                at, container_id = heapq.heappop(self._heap)
                if self._at.get(container_id) == at:
                    self._take(container_id, out)
            for container_id in list(self._now):
                if len(out) == most:
                    break
                self._take(container_id, out)
            return out

    def _take(self, container_id: str, out: dict[str, Hint]) -> None:
        self._at.pop(container_id, None)
        self._now.pop(container_id, None)
        out[container_id] = self._hints.pop(container_id, Hint(container_id))

    def take_hints(self) -> Mapping[str, Hint]:
        """Return all hints and forget them: a look at everything that begins now answers them."""
        with self._lock:
            hints, self._hints = self._hints, {}
            self._now.clear()
            for container_id in hints:
                self._at.pop(container_id, None)
            return hints

    def next_at(self) -> Millis | None:
        """Return the earliest time at which something is due, 0 for a hint; None when nothing ever is."""
        with self._lock:
            if self._now:
                return 0
            while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
                heapq.heappop(self._heap)
            return self._heap[0][0] if self._heap else None

    def overdue(self, now: Millis) -> int:
        """Return how many are due by now."""
        with self._lock:
            return len({*self._now, *(i for i, at in self._at.items() if at <= now)})
