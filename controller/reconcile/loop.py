"""Rounds, as long as this controller leads and nobody asks it to stop: what every host runs.

A look at everything at each poll; in between, a look at the containers that are due: hinted, past a deadline, to be
tried again. While hints come, the look at everything is a resync, every few minutes, and not the poll.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from controller import telemetry
from controller.core.model import (
    MINUTE,
    SECOND,
    Action,
    ActionKind,
    Millis,
    Outcome,
    OutcomeStatus,
    Plan,
    Reason,
    Step,
)
from controller.core.plan import needs_second_look
from controller.core.reads import Hint
from controller.core.words import counted, duration
from controller.errors import AwsError, EditctlError, WrongWorld
from controller.reconcile.leadership import Leadership
from controller.reconcile.reconciler import Reconciler, Round

if TYPE_CHECKING:  # what serves figures is loaded by whoever serves them
    from controller.metrics import Health, Metrics

HEARTBEAT: Millis = MINUTE
LONGEST_BACKOFF = 60.0
"""Seconds between two tries while AWS does not answer."""
HINT_REST: Millis = 50
"""Between two looks at what is hinted: what comes at the same time is looked at together."""
SHORTEST_REST: Millis = 100
"""Between two looks at what is due while something is under way …"""
USUAL_REST: Millis = SECOND
"""… and while nothing is: what is due again at once, for ever, must not become a hot loop."""
AT_ONCE = 100
"""Containers in one look at what is due: a thousand that come at once must not wait for a look at all of them."""
LATENCY_OF_INTEREST: Millis = 5 * MINUTE


def in_utc(at: Millis, now: Millis) -> str:
    """Return a time as a log of machines has it."""
    return telemetry.iso(at)


class Stop(Protocol):
    """Whether to end, and a wait that ends early when it is so, or when somebody calls `wake`."""

    @property
    def requested(self) -> bool: ...

    def wait(self, seconds: float) -> None: ...

    def wake(self) -> None: ...


class Hints(Protocol):
    """Where hints come from, beside the loop: they reach it through what is due."""

    @property
    def fresh(self) -> bool:
        """Whether hints come in, so that polling is not needed."""
        ...

    def answered(self, hints: tuple[Hint, ...]) -> None:
        """Take note that a round has looked at these."""
        ...


class Host(Protocol):
    """Where the loop lives, when that has something of its own to see to."""

    def before(self, container_ids: frozenset[str] | None) -> None:
        """Called before each round with whom it will look at, None for all: what is declared goes into the records.

        While another controller leads, it is called with nobody: that one may have no such host.
        """
        ...

    def after(self, done: Round) -> None:
        """Called after each round: what came of it can be shown. It must not wait."""
        ...


class _NoHints:
    fresh = False

    def answered(self, hints: tuple[Hint, ...]) -> None:
        """Nobody needs to know."""


class _NoHost:
    def before(self, container_ids: frozenset[str] | None) -> None:
        """There is nothing to see to."""

    def after(self, done: Round) -> None:
        """There is nothing to show."""


class _Stopped(Exception):
    """Ends a round between two steps."""


class Loop:
    """Runs rounds of a reconciler.

    poll and resync are the time between two looks at everything, without and with hints. check looks at each resync
    whether this still is the right world, and raises what keeps rounds from being run. say_time writes a time as people
    read it, given what time it is.
    """

    def __init__(
        self,
        reconciler: Reconciler,
        leadership: Leadership,
        stop: Stop,
        clock: Callable[[], Millis],
        poll: Millis,
        *,
        check: Callable[[], object] = lambda: None,
        resync: Millis = 10 * MINUTE,
        metrics: Metrics | None = None,
        health: Health | None = None,
        hints: Hints | None = None,
        host: Host | None = None,
        say_time: Callable[[Millis, Millis], str] = in_utc,
    ) -> None:
        self._metrics = metrics
        self._health = health
        self._hints: Hints = hints or _NoHints()
        self._host: Host = host or _NoHost()
        self._check = check
        self._resync = resync
        self._checked_at: Millis | None = None
        self._reconciler = reconciler
        self._leadership = leadership
        self._stop = stop
        self._clock = clock
        self._poll = poll
        self._say_time = say_time
        self._round = 0
        self._full_from: Millis = 0
        self._polled_from: Millis = 0
        self._hints_from: Millis = 0
        self._due_from: Millis = 0
        self._not_before: Millis = 0
        self._failures = 0
        self._said_at: Millis = 0
        self._leader = ""
        self._told: dict[str, frozenset[Reason]] = {}
        self._containers = 0
        self._sight = ""
        self._fresh = False

    def run(self) -> None:
        """Run until the stop is asked for; give the lease up at the end."""
        self._reconciler.due.on_hint(self._stop.wake)
        try:
            while not self._stop.requested:
                self._stop.wait(self._turn())
        finally:
            self._release()

    def _turn(self) -> float:
        """See to the lease, run a round if it is this controller's and time; return the seconds to the next turn."""
        if self._health:
            self._health.moved()
        try:
            lease = self._leadership.tick() / SECOND
            if not self._leadership.leads:
                self._stand_by()
                self._host.before(frozenset())
                return lease
            self._look()
            self._reconciler.beat()
        except EditctlError as error:
            return self._failed(error)
        except _Stopped:
            return 0.0
        except Exception as error:
            # A fault in one round must not end the control of all containers.
            return self._failed(EditctlError(f"unexpected {type(error).__name__}: {error}"))
        self._failures = self._not_before = 0
        now = self._clock()
        self._say_rest(now)
        return min((self._next_look() - now) / SECOND, lease)

    # When to look at what

    def _look(self) -> None:
        """Run the round that it is time for, if any."""
        self._say_freshness()
        now = self._clock()
        if now < self._not_before:
            return
        if now >= self._full_at():
            self._full()
            return
        due_at = self._due_at()
        if due_at is None or now < due_at:
            return
        due = self._reconciler.due.take(now, most=AT_ONCE)
        if due:
            self._some(due)

    def _full(self) -> None:
        began = self._begin(None)
        done = self._reconciler.round(self._report)
        now = self._finish(done, began, "full")
        # At least as long as it took: half of the time AWS is left alone.
        self._polled_from = now + max(self._poll, now - began)
        again = not done.plan.complete or needs_second_look(done.plan)
        self._full_from = self._polled_from if again else max(now + self._resync, self._polled_from)

    def _some(self, due: Mapping[str, Hint]) -> None:
        try:
            began = self._begin(frozenset(due))
        except BaseException:
            self._reconciler.due.give_back(due.values())
            raise
        done = self._reconciler.look(due, self._report)
        self._finish(done, began, "due")
        if needs_second_look(done.plan):
            self._full_from = self._polled_from

    def _full_at(self) -> Millis:
        return self._full_from if self._hints.fresh else self._polled_from

    def _due_at(self) -> Millis | None:
        at = self._reconciler.due.next_at()
        if at is None:
            return None
        return max(at, self._due_from) if at else self._hints_from

    def _next_look(self) -> Millis:
        due, full = self._due_at(), self._full_at()
        return max(full if due is None else min(due, full), self._not_before)

    # One round

    def _begin(self, container_ids: frozenset[str] | None) -> Millis:
        if self._leader != "us":
            self._leader = "us"
            telemetry.event("leads", message=f"epoch {self._leadership.epoch}")
        self._round += 1
        self._check_world()
        self._host.before(container_ids)
        return self._clock()

    def _finish(self, done: Round, began: Millis, kind: str) -> Millis:
        self._hints.answered(done.answered)
        self._host.after(done)
        self._say_sight(done.plan)
        self._say_decisions(done)
        now = self._clock()
        if self._metrics:
            self._metrics.leader.set(1)
            self._metrics.round(done.world, done.plan, (now - began) / SECOND, kind)
        if self._health and done.full and done.plan.complete:
            self._health.complete()
        if done.outcomes:
            self._said_at = now
        self._hints_from = now + HINT_REST
        self._due_from = now + (SHORTEST_REST if done.progressed else USUAL_REST)
        return now

    def _check_world(self) -> None:
        """At the start and at each resync: raises WrongWorld, and no round is run until an operator accepts it."""
        before = self._checked_at
        if before is not None and self._clock() < before + self._resync:
            return
        try:
            self._checked_at = None
            self._check()
        except AwsError as error:
            # Whoever has seen it right may go on for another resync: DescribeTable is not worth a standstill.
            if before is None:
                raise
            telemetry.problem(error, self._round, self._resync / SECOND)
        self._checked_at = self._clock()

    def _report(self, outcome: Outcome) -> None:
        telemetry.outcome(_with_latency(outcome, self._clock()), self._round)
        if self._metrics:
            self._metrics.outcome(outcome)
        self._leadership.tick()
        if self._stop.requested:
            raise _Stopped

    # What is said

    def _say_decisions(self, done: Round) -> None:
        """Say what is held or deferred, once, when it begins."""
        if not done.plan.complete:
            return
        held: dict[str, frozenset[Reason]] = {}
        for action in done.plan.actions:
            if action.kind not in (ActionKind.HOLD, ActionKind.DEFER):
                continue
            if action.reason not in self._told.get(action.container_id, frozenset()):
                telemetry.decision(action, self._round)
            held[action.container_id] = held.get(action.container_id, frozenset()) | {action.reason}
        if done.full:
            self._told = held
            self._containers = len({a.container_id for a in done.plan.actions})
        else:
            for container_id in done.world.scope or ():
                self._told.pop(container_id, None)
            self._told |= held

    def _say_sight(self, plan: Plan) -> None:
        sight = "; ".join(f"{n} {s.quality}: {s.detail}" for n, s in plan.sights.items() if not s.complete)
        if sight != self._sight:
            self._sight = sight
            telemetry.event("sight", message=sight or "everything is seen again", round=self._round)

    def _say_freshness(self) -> None:
        fresh = self._hints.fresh
        if fresh == self._fresh:
            return
        self._fresh = fresh
        # What was written before they came, and after the last look, is in no hint.
        self._full_from = self._polled_from
        told = f"are received; everything is looked at every {duration(self._resync)}"
        telemetry.event("hints", message=told if fresh else f"do not come; polling every {duration(self._poll)}")

    def _say_rest(self, now: Millis) -> None:
        if now < self._said_at + HEARTBEAT:
            return
        self._said_at = now
        telemetry.event(
            "at rest",
            round=self._round,
            message=f"{counted(self._containers, 'container')}, {self._reconciler.due.overdue(now)} due, "
            f"next {self._say_time(self._next_look(), now)}, sight {'incomplete' if self._sight else 'fresh'}",
        )

    def _failed(self, error: EditctlError) -> float:
        pause = min(2.0**self._failures, LONGEST_BACKOFF)
        self._failures += 1
        telemetry.problem(error, self._round, pause)
        # A hint that comes meanwhile must not make the next try come sooner.
        self._not_before = self._clock() + round(pause * SECOND)
        if self._health and isinstance(error, WrongWorld):
            self._health.trouble(error.what)
        return pause

    def _stand_by(self) -> None:
        if self._metrics:
            self._metrics.leader.set(0)
        if self._health:
            # Another one sees to everything; to stand by is all that this one is for.
            self._health.complete()
        self._failures = 0
        # Whoever comes to lead knows nothing of what happened meanwhile.
        self._full_from = self._polled_from = 0
        if self._leader != self._leadership.holder:
            self._leader = self._leadership.holder
            telemetry.event("standby", message=f"{self._leader or 'nobody'} leads")

    def _release(self) -> None:
        try:
            self._leadership.release()
        except EditctlError as error:
            telemetry.event("error", message=f"the lease could not be given up: {error}")


def _with_latency(outcome: Outcome, now: Millis) -> Outcome:
    """Add to a start how long after the session's last activity it came."""
    action: Action = outcome.action
    if action.step is not Step.CLAIM or outcome.status is not OutcomeStatus.DONE or action.last_activity is None:
        return outcome
    late = now - action.last_activity
    if not 0 <= late <= LATENCY_OF_INTEREST:
        return outcome
    return replace(outcome, message=f"{outcome.message}, {duration(late)} after the row")
