"""What a command that acts does after it was decided: rounds until every goal has come to an end, and what is said."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence

import click

from controller.cli import render
from controller.cli.app import ERROR, FINE, App, Problems
from controller.cli.campaign import Campaign, Goal, State, said_states
from controller.cli.render import Columns, Line
from controller.cli.screen import escaped, out, say
from controller.core.model import SECOND, Action, ActionKind, Millis, Outcome, OutcomeStatus, Plan
from controller.core.saved import Stale
from controller.core.words import counted, duration
from controller.reconcile.reconciler import Reconciler, Round, View

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 2.0
"""Seconds between two looks while something is under way; the first ones come quickly."""


def check_startable(app: App, plan: Plan) -> None:
    """Raise Problems with what keeps tasks from being started, before anything is claimed."""
    if any(a.kind is ActionKind.START for a in plan.changes):
        problems = app.assembly.preflight(to_start=True)
        if problems:
            raise Problems(problems)


def carry_out(app: App, reconciler: Reconciler, report: Report, view: View, longest: Millis) -> int:
    """Run rounds until the report's goals are at an end, or for so long; 0 takes one step. Return the exit code."""
    work = Work(app, reconciler, report, view)
    try:
        work.rounds(longest)
    except KeyboardInterrupt:
        report.leave()
        report.end(work.view)
        return ERROR
    return report.end(work.view)


class Work:
    """Runs rounds until every goal has come to an end."""

    def __init__(self, app: App, reconciler: Reconciler, report: Report, view: View) -> None:
        self.view = view
        self._app = app
        self._reconciler = reconciler
        self._report = report
        self._pause = _FIRST_PAUSE

    def rounds(self, longest: Millis) -> None:
        """Run the first round on the view that was shown, then one after the other."""
        campaign = self._report.campaign
        deadline = self._app.clock() + longest
        while campaign.open:
            plan = campaign.restrict(self.view.plan)
            done = self._reconciler.round(self._report.step, View(self.view.world, plan))
            if not longest:
                self._report.leave()
                return
            now = self._app.clock()
            if now >= deadline:
                self._report.late(longest)
                return
            self._app.wait(min(self._next(done, now), (deadline - now) / SECOND))
            self.view = self._reconciler.planner.view(self.view.plan.nominated)
            self._report.closed(campaign.judge(self.view.world, self.view.plan))

    def _next(self, done: Round, now: Millis) -> float:
        """Return the seconds until the next look: soon after a step was done, then less and less often."""
        waits = [o.again_at for o in done.outcomes if o.status is OutcomeStatus.SKIPPED and o.again_at is not None]
        self._pause = _FIRST_PAUSE if done.progressed else min(self._pause * 2, _LONGEST_PAUSE)
        if done.outcomes and len(waits) == len(done.outcomes):
            # All wait for a quota or the next scan, and say how long.
            return max((min(waits) - now) / SECOND, self._pause)
        return self._pause


class Report:
    """What is said: a line for each action when it ends, and below what is under way.

    kept_back are decisions that are shown beside the goals and not acted on; stale are saved ones that no longer hold.
    """

    def __init__(
        self, app: App, campaign: Campaign, began: Millis, kept_back: Iterable[Action] = (), stale: Sequence[Stale] = ()
    ) -> None:
        self.campaign = campaign
        self._app = app
        self._screen = app.screen
        self._progress = Progress()
        self._began = began
        self._kept_back = list(kept_back)
        self._stale = [s for s in stale if s.saved.action != ActionKind.RECORD]
        self._beside = [
            *map(render.line_of, self._kept_back),
            *(render.stale_line(s, app.screen, began) for s in self._stale),
        ]
        lines = [*(render.line_of(g.action) for g in self.campaign.goals.values() if not _is_record(g))]
        self._columns = Columns(self._screen, [*lines, *self._beside])
        self._left = False

    def begin(self, view: View, seconds: float) -> None:
        """Say what was seen, and what is not done."""
        lines = render.sight_lines(view.plan, self._screen)
        lines += render.header(view.world, view.plan, self._screen, seconds)
        self._out([*lines, *([""] if self.campaign.goals or self._beside else [])])
        for line in self._beside:
            self._out(self._columns.lay(line))

    def step(self, outcome: Outcome) -> None:
        """Take in what one action came to."""
        goal = self.campaign.note(outcome)
        self._progress.step(outcome)
        if goal is not None and goal.state is State.FAILED:
            self.closed([goal])
        self._under_way()

    def closed(self, goals: Iterable[Goal]) -> None:
        """Say how these ended."""
        for goal in goals:
            if not _is_record(goal) or goal.state is State.FAILED:
                self._out(self._columns.lay(_line(goal)))
        self._under_way()

    def leave(self) -> None:
        """Say that what was begun goes on without us."""
        self._left = True
        for goal in self.campaign.open:
            begun = goal.message or goal.failed
            self._out(
                self._columns.lay(_line(goal, "" if goal.stepped else "!", begun)) if not _is_record(goal) else []
            )

    def late(self, longest: Millis) -> None:
        """Say what has not come to its end in time."""
        for goal in self.campaign.open:
            goal.end(State.FAILED, f"not done within {duration(longest)}; so far: {goal.message or goal.failed or '-'}")
            self._out(self._columns.lay(_line(goal)))

    def end(self, view: View) -> int:
        """Say what it came to and what to do next; return the exit code."""
        self._progress.clear()
        goals = list(self.campaign.goals.values())
        failed = [g for g in goals if g.state is State.FAILED or (self._left and g.failed)]
        lines = ["", *self._screen.wrapped(_summary(goals, self._kept_back, self._stale, self._left))]
        self._out([*lines, *self._next(view, failed)])
        return ERROR if failed else FINE

    def _next(self, view: View, failed: list[Goal]) -> list[str]:
        if failed:
            text = f"To see why: editctl explain {escaped(failed[0].action.container_id)}"
        elif self._left:
            text = "A running controller, or another editctl apply, goes on from here: editctl status"
        elif self.campaign.goals and view.plan.changes:
            text = f"By now {counted(len(view.plan.changes), 'more change')} would follow: editctl plan"
        else:
            return render.next_lines(view.world, view.plan, self._screen)
        return self._screen.wrapped(text)

    def _under_way(self) -> None:
        open_goals = self.campaign.open
        kinds = {kind: sum(1 for g in open_goals if g.kind is kind) for kind in ActionKind}
        said = ", ".join(counted(n, str(kind)) for kind, n in kinds.items() if n)
        self._progress.show(f"{said} under way · {duration(self._app.clock() - self._began)}" if said else "")

    def _out(self, lines: list[str]) -> None:
        self._progress.clear()
        out(lines, self._screen.color)


def _is_record(goal: Goal) -> bool:
    return goal.kind is ActionKind.RECORD


def _line(goal: Goal, symbol: str = "", message: str = "") -> Line:
    line = render.line_of(goal.action)
    bad = {State.FAILED: "failed: ", State.SKIPPED: "skipped: ", State.DEFERRED: "deferred: "}.get(goal.state, "")
    text = f"{bad}{message or goal.message or goal.action.message}"
    return Line(symbol or ("!" if bad else line.symbol), line.verb, line.container_id, line.reason, escaped(text))


_NOUN = {ActionKind.CANCEL_DRAIN: "cancelled drain", ActionKind.COUNT: "count", ActionKind.ADOPT: "adoption"}


def _summary(goals: list[Goal], kept_back: list[Action], stale: list[Stale], left: bool) -> str:
    states = said_states(goals)
    parts = []
    for state, word in (
        (State.DONE, "Done"),
        (State.OPEN, "Begun" if left else "Open"),
        (State.SKIPPED, "Skipped"),
        (State.DEFERRED, "Deferred"),
        (State.FAILED, "Failed"),
    ):
        kinds = states.get(state, {})
        if kinds:
            parts.append(f"{word}: " + ", ".join(counted(n, _NOUN.get(k, str(k))) for k, n in kinds.items()) + ".")
    if stale:
        kinds = Counter(ActionKind(s.saved.action) for s in stale)
        parts.append("Skipped as stale: " + ", ".join(counted(n, _NOUN.get(k, str(k))) for k, n in kinds.items()) + ".")
    if kept_back:
        parts.append(f"{len(kept_back):,} held or deferred.")
    return " ".join(parts if goals else ["Nothing to do.", *parts])


class Progress:
    """What is under way: one line that is written over on a terminal, plain lines elsewhere. On standard error."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._shown = ""

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._live and text != self._shown:
            self.clear()
            click.echo(text, err=True, nl=False)
            self._shown = text

    def clear(self) -> None:
        """Take the line away, so that something else can be written."""
        if self._shown:
            click.echo("\r\x1b[2K", err=True, nl=False)
            self._shown = ""

    def step(self, outcome: Outcome) -> None:
        """Say what one step came to, where there is no line to write over."""
        if not self._live:
            action = outcome.action
            say(escaped(f"{action.step} {action.container_id} {outcome.status}: {outcome.message or action.message}"))
