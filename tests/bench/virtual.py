"""Virtual time: a wait costs nothing but the clock's hand, and what the measured code computes takes its CPU time.

Threads take turns: exactly one runs, until it waits; then time moves to whoever is due next. So a run is the same every
time, but for the CPU time that is charged, and an hour of waiting takes no longer than what is done in it.

Who waits must not hold a lock that another participant could want: nobody would be left to move time on.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import process_time_ns
from typing import Any, TypeVar

from controller.core.model import Millis
from tests.fakes.clock import START_MS

_T = TypeVar("_T")
_R = TypeVar("_R")

MICROS_PER_MILLI = 1_000
MICROS_PER_SECOND = 1_000_000
NANOS_PER_MICRO = 1_000
NANOS_PER_SECOND = 1_000_000_000


class _Participant:
    """A thread that takes part in virtual time; `baton` is what lets it run."""

    def __init__(self) -> None:
        self.baton = threading.Semaphore(0)


class VirtualTime:
    """Epoch milliseconds for the code under test: call it for the time, `sleep` to wait, `at` to let something happen.

    CPU time that is not spent in an `outside()` block is the measured code's. It adds up in `cpu`; with `charge_cpu`
    the clock moves by it, too: a second of planning delays what comes after it by a second.
    """

    def __init__(self, start: Millis = START_MS, *, charge_cpu: bool = True) -> None:
        self._now = start * MICROS_PER_MILLI
        self._charge_cpu = charge_cpu
        self._numbers = itertools.count()
        self._due: list[tuple[int, int, _Participant | Callable[[], None]]] = []
        self._idle: list[_Participant] = []
        self._me = threading.local()
        self._me.participant = _Participant()
        self._is_outside = False
        self._mark = process_time_ns()
        self._cpu = 0
        self._stretch = 0
        self._longest = 0

    # The clock

    def __call__(self) -> Millis:
        with self.outside(stretch_ends=False):
            return self._now // MICROS_PER_MILLI

    @property
    def now(self) -> Millis:
        """The time, for the simulator's own parts."""
        return self._now // MICROS_PER_MILLI

    @property
    def cpu(self) -> float:
        """CPU seconds of the measured code so far."""
        return self._cpu / NANOS_PER_SECOND

    @property
    def longest_stretch(self) -> float:
        """CPU seconds of the longest computation between two calls or waits since `restart`."""
        return self._longest / NANOS_PER_SECOND

    def restart(self) -> None:
        """Measure anew from here."""
        self._cpu = self._stretch = self._longest = 0
        self._mark = process_time_ns()

    @contextmanager
    def outside(self, *, stretch_ends: bool = True) -> Iterator[None]:
        """Leave the measured code for a moment: what runs in here is the simulator's and costs nothing."""
        before = self._is_outside
        if not before:
            self._is_outside = True
            self._take_stock(stretch_ends=stretch_ends)
        try:
            yield
        finally:
            # Another thread may have run in between; this one goes on as what it was.
            self._is_outside = before
            if not before:
                self._mark = process_time_ns()

    def _take_stock(self, *, stretch_ends: bool) -> None:
        spent = process_time_ns() - self._mark
        self._cpu += spent
        self._stretch += spent
        self._longest = max(self._longest, self._stretch)
        if stretch_ends:
            self._stretch = 0
        if self._charge_cpu:
            self._now += spent // NANOS_PER_MICRO
            self._let_happen_what_is_due()

    # Waiting

    def sleep(self, seconds: float) -> None:
        """Wait so long, while others go on."""
        with self.outside():
            micros = round(seconds * MICROS_PER_SECOND)
            if micros > 0:
                me = self._participant()
                self._push(self._now + micros, me)
                self._hand_over(me)

    def at(self, when: Millis, do: Callable[[], None]) -> None:
        """Let something happen at a time, whatever the measured code is doing then; it must not wait itself."""
        self._push(when * MICROS_PER_MILLI, do)

    def pool(self, workers: int, name: str = "") -> Pool:
        """Return what stands in for a ThreadPoolExecutor."""
        return Pool(self, workers)

    def _participant(self) -> _Participant:
        found: _Participant = self._me.participant
        return found

    def _push(self, at: int, who: _Participant | Callable[[], None]) -> None:
        heapq.heappush(self._due, (at, next(self._numbers), who))

    def _hand_over(self, me: _Participant | None) -> None:
        """Let whoever is due next run, and return when it is this thread's turn again (None: it never is)."""
        while True:
            if not self._due:
                raise RuntimeError("everybody waits for somebody else: time cannot move on")
            at, _, who = heapq.heappop(self._due)
            self._now = max(self._now, at)
            if isinstance(who, _Participant):
                break
            who()
        if who is not me:
            who.baton.release()
            if me is not None:
                me.baton.acquire()

    def _let_happen_what_is_due(self) -> None:
        waiting = []
        while self._due and self._due[0][0] <= self._now:
            at, number, who = heapq.heappop(self._due)
            if isinstance(who, _Participant):
                waiting.append((at, number, who))
            else:
                who()
        for entry in waiting:
            heapq.heappush(self._due, entry)

    # Threads of a pool

    def start(self, work: Callable[[], None]) -> None:
        """Run this in a thread of its own, from now on."""
        participant = _Participant()

        def body() -> None:
            participant.baton.acquire()
            self._me.participant = participant
            self._is_outside = False
            self._mark = process_time_ns()
            try:
                work()
            finally:
                self._is_outside = True
                self._take_stock(stretch_ends=True)
                self._hand_over(None)

        threading.Thread(target=body, daemon=True).start()
        self._push(self._now, participant)

    def wait_for_news(self) -> None:
        """Wait until somebody has news."""
        with self.outside():
            me = self._participant()
            self._idle.append(me)
            self._hand_over(me)

    def tell_news(self) -> None:
        """Wake those who wait for news."""
        for participant in self._idle:
            self._push(self._now, participant)
        self._idle.clear()


class Pool:
    """Has what is used of ThreadPoolExecutor: so many threads, `map` in order, all done at the end."""

    def __init__(self, virtual: VirtualTime, workers: int) -> None:
        self._virtual = virtual
        self._workers = workers
        self._open = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._virtual.wait_for_news()

    def map(self, function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
        """Begin with all of them now, and return an iterator over the results in order, each as soon as it is there."""
        todo = list(items)
        results: dict[int, tuple[bool, Any]] = {}
        numbers = iter(range(len(todo)))

        def work() -> None:
            for number in numbers:
                try:
                    results[number] = True, function(todo[number])
                except BaseException as error:
                    results[number] = False, error
                self._virtual.tell_news()
            self._open -= 1
            self._virtual.tell_news()

        for _ in range(min(self._workers, len(todo))):
            self._open += 1
            self._virtual.start(work)
        return self._results(results, len(todo))

    def _results(self, results: dict[int, tuple[bool, Any]], expected: int) -> Iterator[Any]:
        for number in range(expected):
            while number not in results:
                self._virtual.wait_for_news()
            worked, result = results.pop(number)
            if not worked:
                raise result
            yield result
