"""Two controllers whose calls are put into one chosen order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from typing import Any

from tests.faults.interception import Intercepted

TURNS = 8
"""Calls of each side that are ordered; what a pass has beyond them runs afterwards."""


def orders(turns: int = TURNS) -> Iterator[tuple[int, ...]]:
    """Yield every order of two sides with so many turns each: C(16, 8) = 12,870 for eight."""
    for chosen in combinations(range(2 * turns), turns):
        mine = frozenset(chosen)
        yield tuple(0 if turn in mine else 1 for turn in range(2 * turns))


class Side:
    """A pass in a thread of its own that goes on by one call whenever it is given a turn."""

    def __init__(self) -> None:
        self._turn = threading.Semaphore(0)
        self._rest = threading.Semaphore(0)
        self._free = False
        self.done = False
        self.error: BaseException | None = None

    def wrap(self, port: Any) -> Intercepted:
        """Return the port, its calls waiting for their turns."""
        return Intercepted(port, self._around)

    def _around(self, _: str, call: Callable[[], Any]) -> Any:
        if not self._free:
            self._rest.release()
            self._turn.acquire()
        return call()

    def start(self, work: Callable[[], object]) -> threading.Thread:
        """Begin the pass and run it up to its first call."""

        def run() -> None:
            try:
                work()
            except BaseException as error:
                self.error = error
            self.done = True
            self._rest.release()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._rest.acquire()
        return thread

    def step(self) -> None:
        """Let it make one call and run up to the next."""
        if not self.done:
            self._turn.release()
            self._rest.acquire()

    def finish(self, thread: threading.Thread) -> None:
        """Let it run to its end, and raise what it raised."""
        self._free = True
        self._turn.release()
        thread.join()
        if self.error is not None:
            raise self.error


def interleave(works: Iterable[tuple[Side, Callable[[], object]]], order: Iterable[int]) -> None:
    """Run two passes with their calls in this order, then the first to its end, then the second."""
    sides = [(side, side.start(work)) for side, work in works]
    for turn in order:
        sides[turn][0].step()
    for side, thread in sides:
        side.finish(thread)
