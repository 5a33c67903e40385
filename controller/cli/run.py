"""`editctl run`: rounds without end."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Protocol

import click

from controller import __version__, telemetry
from controller.cli.app import App, Problems, command
from controller.cli.screen import Screen
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
from controller.core.words import counted, duration
from controller.errors import AwsError, EditctlError, WrongWorld
from controller.reconcile.leadership import Leadership
from controller.reconcile.reconciler import Reconciler, Round

if TYPE_CHECKING:
    from controller.metrics import Health, Metrics

HEARTBEAT: Millis = MINUTE
LONGEST_BACKOFF = 60.0
"""Seconds between two tries while AWS does not answer."""
SHORTEST_REST: Millis = 200
"""Between two rounds while something is under way …"""
USUAL_REST: Millis = SECOND
"""… and while nothing is: what is due again at once, for ever, must not become a hot loop."""


@command(
    "run",
    short_help="Keep doing what plan shows.",
    examples="""
        editctl run
        editctl run --poll 5s --log-format json
    """,
)
@click.option(
    "--log-format", type=click.Choice(telemetry.FORMATS), default="text", show_default=True, help="Lines for whom."
)
def run(app: App, log_format: str) -> None:
    """Run rounds until SIGTERM or Ctrl-C: one line an outcome, one a minute at rest.

    Of several that run, one leads and the others wait. A round that fails is tried again; only settings and credentials
    that cannot work at the start end it, with exit code 1. At the start and every --resync it looks whether these are
    still the tables and the cluster that were seen first; if not (WrongWorld) it waits and does nothing.
    """
    from controller.metrics import Health, Metrics, MetricsServer

    assembly, config = app.assembly, app.loaded.config
    metrics, health = Metrics(assembly.policy, app.clock), Health(app.clock, config.poll, config.resync)
    assembly.metrics = metrics
    problems = [p for p in assembly.preflight(to_start=True) if not (isinstance(p, AwsError) and p.retryable)]
    if problems:
        raise Problems(problems)
    telemetry.configure(sys.stdout, log_format)
    leadership = assembly.leadership(f"{socket.gethostname()}/{os.getpid()}", _monotonic)
    address = config.metrics_address
    server = nullcontext() if address in ("", "off") else MetricsServer(address, metrics, health)
    with Signals() as stop, server:
        telemetry.event(
            "up",
            message=f"editctl {__version__}, cluster {config.cluster}, controller {config.controller_id}, "
            f"poll {duration(config.poll)}, idle timeout {duration(config.idle_timeout)}",
        )
        Loop(
            assembly.reconciler(),
            leadership,
            stop,
            app.clock,
            config.poll,
            app.screen,
            check=lambda: assembly.check_world(keep=True),
            resync=config.resync,
            metrics=metrics,
            health=health,
        ).run()
        telemetry.event("down", message="the step in hand is finished; what is open is on record")


def _monotonic() -> Millis:
    return time.monotonic_ns() // 1_000_000


class Stop(Protocol):
    """Whether to end, and a wait that ends early when it is so."""

    @property
    def requested(self) -> bool: ...

    def wait(self, seconds: float) -> None: ...


class Signals:
    """SIGTERM and SIGINT ask to stop; a second one ends the process as it always does."""

    def __init__(self) -> None:
        self.requested = False
        # A signal handler may not touch a lock that the main thread may hold: a byte in a pipe wakes the wait.
        self._read, self._write = os.pipe()

    def __enter__(self) -> Signals:
        self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def _ask(self, number: int, _: FrameType | None) -> None:
        self.requested = True
        os.write(self._write, b"!")
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)

    def wait(self, seconds: float) -> None:
        """Wait so long, or until a signal comes."""
        if not self.requested:
            select.select([self._read], [], [], max(seconds, 0))


class _Stopped(Exception):
    """Ends a round between two steps."""


class Loop:
    """Rounds, as long as this controller leads and nobody asks it to stop."""

    def __init__(
        self,
        reconciler: Reconciler,
        leadership: Leadership,
        stop: Stop,
        clock: Callable[[], Millis],
        poll: Millis,
        screen: Screen,
        *,
        check: Callable[[], object] = lambda: None,
        resync: Millis = 10 * MINUTE,
        metrics: Metrics | None = None,
        health: Health | None = None,
    ) -> None:
        self._metrics = metrics
        self._health = health
        self._check = check
        self._resync = resync
        self._checked_at: Millis | None = None
        self._reconciler = reconciler
        self._leadership = leadership
        self._stop = stop
        self._clock = clock
        self._poll = poll
        self._screen = screen
        self._round = 0
        self._due_at: Millis = 0
        self._failures = 0
        self._said_at: Millis = 0
        self._leader = ""
        self._told: frozenset[tuple[str, Reason]] = frozenset()
        self._sight = ""

    def run(self) -> None:
        """Run until the stop is asked for; give the lease up at the end."""
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
                return lease
            if self._clock() >= self._due_at:
                self._one_round()
        except EditctlError as error:
            return self._failed(error)
        except _Stopped:
            return 0.0
        except Exception as error:
            # A fault in one round must not end the control of all containers.
            return self._failed(EditctlError(f"unexpected {type(error).__name__}: {error}"))
        self._failures = 0
        return min((self._due_at - self._clock()) / SECOND, lease)

    def _one_round(self) -> None:
        if self._leader != "us":
            self._leader = "us"
            telemetry.event("leads", message=f"epoch {self._leadership.epoch}")
        self._round += 1
        self._check_world()
        began = self._clock()
        done = self._reconciler.round(self._report)
        self._say_sight(done.plan)
        self._say_decisions(done.plan)
        now = self._clock()
        self._count(done, now - began)
        self._due_at = self._next(done, now, now - began)
        if done.outcomes:
            self._said_at = now
        elif now >= self._said_at + HEARTBEAT:
            self._said_at = now
            self._at_rest(done, now)

    def _count(self, done: Round, took: Millis) -> None:
        if self._metrics:
            self._metrics.leader.set(1)
            self._metrics.round(done.world, done.plan, took / SECOND)
        if self._health and done.plan.complete:
            self._health.complete()

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

    def _next(self, done: Round, now: Millis, took: Millis) -> Millis:
        """Return when the next round is: at the next poll, or before it when something is due or under way."""
        wanted = [now + self._poll]
        due = self._reconciler.due.next_at()
        if due is not None:
            wanted.append(due)
        if any(a.reason in (Reason.STARTING, Reason.STOP_IN_PROGRESS) for a in done.plan.actions):
            wanted.append(now + self._reconciler.planner.policy.starting_interval)
        # At least as long as the round took: half of the time AWS is left alone.
        return max(min(wanted), now + max(SHORTEST_REST if done.progressed else USUAL_REST, took))

    def _report(self, outcome: Outcome) -> None:
        telemetry.outcome(_with_latency(outcome, self._clock()), self._round)
        if self._metrics:
            self._metrics.outcome(outcome)
        self._leadership.tick()
        if self._stop.requested:
            raise _Stopped

    def _say_decisions(self, plan: Plan) -> None:
        """Say what is held or deferred, once, when it begins."""
        held = [a for a in plan.actions if a.kind in (ActionKind.HOLD, ActionKind.DEFER)]
        if plan.complete:
            for action in held:
                if (action.container_id, action.reason) not in self._told:
                    telemetry.decision(action, self._round)
            self._told = frozenset((a.container_id, a.reason) for a in held)

    def _say_sight(self, plan: Plan) -> None:
        sight = "; ".join(f"{n} {s.quality}: {s.detail}" for n, s in plan.sights.items() if not s.complete)
        if sight != self._sight:
            self._sight = sight
            telemetry.event("sight", message=sight or "everything is seen again", round=self._round)

    def _at_rest(self, done: Round, now: Millis) -> None:
        containers = len({a.container_id for a in done.plan.actions})
        due = sum(1 for a in done.plan.actions if a.until is not None and a.until <= now)
        sight = "fresh" if done.plan.complete else "incomplete"
        soon = self._screen.time(self._due_at, now)
        telemetry.event(
            "at rest",
            round=self._round,
            message=f"{counted(containers, 'container')}, {due} due, next {soon}, sight {sight}",
        )

    def _failed(self, error: EditctlError) -> float:
        pause = min(2.0**self._failures, LONGEST_BACKOFF)
        self._failures += 1
        telemetry.problem(error, self._round, pause)
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
        if self._leader != self._leadership.holder:
            self._leader = self._leadership.holder
            telemetry.event("standby", message=f"{self._leader or 'nobody'} leads")

    def _release(self) -> None:
        try:
            self._leadership.release()
        except EditctlError as error:
            telemetry.event("error", message=f"the lease could not be given up: {error}")


_LATENCY_OF_INTEREST: Millis = 5 * MINUTE


def _with_latency(outcome: Outcome, now: Millis) -> Outcome:
    """Add to a start how long after the session's last activity it came."""
    action: Action = outcome.action
    if action.step is not Step.CLAIM or outcome.status is not OutcomeStatus.DONE or action.last_activity is None:
        return outcome
    late = now - action.last_activity
    if not 0 <= late <= _LATENCY_OF_INTEREST:
        return outcome
    return replace(outcome, message=f"{outcome.message}, {duration(late)} after the row")
