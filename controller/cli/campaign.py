"""What `apply` carries through: one goal a line of the plan, from its first step to where it ends.

A round does one step of each action. A goal is open until what its action began has come to an end: what was started
runs, what was drained has stopped. Nothing that the plan did not show is begun.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from controller.core.conditions import main_action
from controller.core.model import Action, ActionKind, Millis, Outcome, OutcomeStatus, Plan, Reason, Save, Step, World
from controller.core.words import duration
from controller.errors import AwsError

TRIES = 3
"""Failures in a row of one goal, of a kind that may pass, after which it is given up."""

_ALWAYS = frozenset({ActionKind.RECORD, ActionKind.COUNT})
"""Bookkeeping of a container that is worked on anyway."""
_FOLLOW_UPS = {
    ActionKind.DRAIN: frozenset({ActionKind.DRAIN, ActionKind.STOP, ActionKind.CANCEL_DRAIN}),
    ActionKind.STOP: frozenset({ActionKind.STOP, ActionKind.CANCEL_DRAIN}),
}
_STOPS = (ActionKind.DRAIN, ActionKind.STOP)

Key = tuple[str, str]


class State(StrEnum):
    """Where a goal is."""

    OPEN = "open"
    DONE = "done"
    SKIPPED = "skipped"
    DEFERRED = "deferred"
    FAILED = "failed"


@dataclass(slots=True)
class Goal:
    """One action of the first plan, and what has become of it."""

    action: Action
    began: Millis
    state: State = State.OPEN
    message: str = ""
    failures: int = 0
    failed: str = ""
    stepped: bool = False
    """Whether any step of it was done: what was only read is skipped, not ended."""

    @property
    def kind(self) -> ActionKind:
        return self.action.kind

    def end(self, state: State, message: str) -> None:
        """Close the goal."""
        self.state, self.message = state, message


def key_of(action: Action) -> Key:
    """Return which goal of a container the action belongs to."""
    if action.step is Step.REPAIR_COUNT:
        return action.container_id, "count"
    if action.step is Step.MARK_TASK:
        return action.container_id, "mark"
    if action.on_second_task and action.task:
        return action.container_id, action.task.arn
    return action.container_id, ""


@dataclass(slots=True)
class Campaign:
    """The goals of one apply, by container and what they are about, in the plan's order."""

    goals: dict[Key, Goal] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan) -> Campaign:
        """Return the goals of everything that the plan would change."""
        return cls({key_of(a): Goal(a, plan.at) for a in plan.changes})

    @property
    def open(self) -> list[Goal]:
        """The goals that have not come to an end."""
        return [g for g in self.goals.values() if g.state is State.OPEN]

    def restrict(self, plan: Plan) -> Plan:
        """Return the plan with only those changes that carry an open goal on."""
        return replace(plan, actions=tuple(a for a in plan.actions if not a.kind.changes or self._carries_on(a)))

    def _carries_on(self, action: Action) -> bool:
        own = self.goals.get(key_of(action))
        if own is not None:
            if own.state is not State.OPEN:
                return False
            allowed = _FOLLOW_UPS.get(own.kind, frozenset({own.kind}))
            return action.kind in allowed or action.kind in _ALWAYS
        return action.kind in _ALWAYS and any(g.action.container_id == action.container_id for g in self.open)

    def note(self, outcome: Outcome) -> Goal | None:
        """Take an outcome in; return its goal when it has one."""
        goal = self.goals.get(key_of(outcome.action))
        if goal is None or goal.state is not State.OPEN:
            return None
        if outcome.status is OutcomeStatus.FAILED:
            self._note_failure(goal, outcome)
        elif outcome.status is OutcomeStatus.DONE:
            goal.stepped = True
            goal.failures = 0
            goal.message = outcome.message or goal.message
        elif not goal.stepped:
            goal.message = outcome.message
        return goal

    def _note_failure(self, goal: Goal, outcome: Outcome) -> None:
        goal.failed = outcome.message
        goal.failures += 1
        if outcome.error is None:
            # The launch failed and is on record: the planner defers the next one.
            return
        passing = isinstance(outcome.error, AwsError) and outcome.error.retryable
        if not passing or goal.failures >= TRIES:
            goal.end(State.FAILED, outcome.message)

    def judge(self, world: World, plan: Plan) -> list[Goal]:
        """Close the goals that the world shows to be at an end; return those that were closed now."""
        by_id: dict[str, list[Action]] = {}
        for action in plan.actions:
            by_id.setdefault(action.container_id, []).append(action)
        before = self.open
        for key, goal in self.goals.items():
            if goal.state is State.OPEN:
                _judge(key, goal, by_id.get(key[0], []), world, plan.at)
        return [g for g in before if g.state is not State.OPEN]


def _judge(key: Key, goal: Goal, actions: list[Action], world: World, now: Millis) -> None:
    same = [a for a in actions if key_of(a) == key]
    if key[1]:
        _judge_beside(key, goal, same, world)
        return
    if not same:
        goal.end(State.DONE if goal.stepped else State.SKIPPED, _ended(goal, None, now))
        return
    main = main_action(same)
    if goal.kind in _STOPS:
        if not _is_saved_now(main, world):
            _judge_stop(goal, main, now)
    elif goal.kind is ActionKind.RECORD:
        _judge_record(goal, main)
    else:
        _judge_start(goal, main)


def _judge_beside(key: Key, goal: Goal, same: list[Action], world: World) -> None:
    """A count, a mark or a second task."""
    if same and _is_saved_now(same[0], world):
        return
    if same and not same[0].kind.changes:
        goal.end(State.DEFERRED, f"{same[0].reason}: {same[0].message}")
    elif not same and goal.kind is ActionKind.DRAIN:
        if not any(t.arn == key[1] and not t.stopped for t in world.tasks):
            goal.end(State.DONE, "stopped")
    elif not same:
        goal.end(State.DONE if goal.stepped else State.SKIPPED, goal.message)


def _is_saved_now(action: Action, world: World) -> bool:
    """Whether it waits for a save that its agent says is under way: that takes seconds, and then it goes on."""
    report = world.agents.get(action.task.arn) if action.task else None
    return action.reason is Reason.SAVING and report is not None and not report.unknown


def _judge_stop(goal: Goal, main: Action, now: Millis) -> None:
    if _is_another(goal, main):
        # Whoever stopped it has begun the next one already.
        goal.end(State.DONE if goal.stepped else State.SKIPPED, _ended(goal, main, now))
        return
    if main.kind in (*_STOPS, ActionKind.RECORD, ActionKind.CANCEL_DRAIN) or main.reason is Reason.STOP_IN_PROGRESS:
        return
    nothing_runs = main.record is None or main.record.names_no_task
    if nothing_runs:
        goal.end(State.DONE if goal.stepped else State.SKIPPED, _ended(goal, main, now))
    elif main.kind is ActionKind.KEEP:
        goal.end(State.SKIPPED, f"runs on ({main.reason}): {main.message}")
    else:
        goal.end(State.DEFERRED, f"{main.reason}: {main.message}")


def _is_another(goal: Goal, main: Action) -> bool:
    """Whether the record has gone on to a later launch than the one that was to be stopped."""
    then, now = goal.action.record, main.record
    return then is not None and now is not None and (now.generation or 0) > (then.generation or 0)


def _ended(goal: Goal, main: Action | None, now: Millis) -> str:
    if goal.kind not in _STOPS:
        return goal.message
    if not goal.stepped:
        return "had stopped already"
    save = main.record.save if main and main.record else None
    saved = _saved(save) if save and save.at is not None and save.at >= goal.began else ""
    return f"{saved}stopped after {duration(now - goal.began)}"


def _saved(save: Save) -> str:
    verified = ", verified at the remote" if save.remote_commit and save.remote_commit == save.commit else ""
    return f"{save.state} {save.branch} {save.commit[:7]}".rstrip() + f"{verified}, "


def _judge_record(goal: Goal, main: Action) -> None:
    if main.kind is ActionKind.RECORD and main.step is goal.action.step and not goal.stepped:
        return
    goal.end(State.DONE if goal.stepped else State.SKIPPED, goal.message or main.message)


def _judge_start(goal: Goal, main: Action) -> None:
    """A start, an adoption or a cancelled drain: over when its container runs."""
    if main.kind in (goal.kind, ActionKind.RECORD, ActionKind.START) or main.reason is Reason.STARTING:
        return
    if main.kind is ActionKind.KEEP and main.reason in (Reason.STOP_IN_PROGRESS, Reason.LIST_LAG):
        return
    if main.kind is ActionKind.KEEP and main.reason is not Reason.STOPPED:
        goal.end(State.DONE if goal.stepped else State.SKIPPED, _running(goal, main))
    elif goal.failed:
        goal.end(State.FAILED, goal.failed)
    elif main.kind is ActionKind.DEFER and main.reason is Reason.LIST_LAG:
        return
    else:
        goal.end(State.SKIPPED if main.kind is ActionKind.KEEP else State.DEFERRED, f"{main.reason}: {main.message}")


def _running(goal: Goal, main: Action) -> str:
    if not goal.stepped:
        return f"runs already: {main.message}"
    task = f"task {main.task.short}" if main.task else ""
    return ", ".join(filter(None, [task if task not in goal.message else "", goal.message]))


def said_states(goals: Iterable[Goal]) -> dict[State, dict[ActionKind, int]]:
    """Return how many goals of each kind are in each state."""
    found: dict[State, dict[ActionKind, int]] = {}
    for goal in goals:
        kinds = found.setdefault(goal.state, {})
        kinds[goal.kind] = kinds.get(goal.kind, 0) + 1
    return found
