"""Timeouts, budgets and limits as one value, and the filter that keeps a plan inside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from controller.core.model import (
    HOUR,
    MINUTE,
    SECOND,
    Action,
    ActionKind,
    ContainerStatus,
    Millis,
    Plan,
    Reason,
    Step,
    World,
)
from controller.core.words import counted, duration

_CHANGES_UNSEEN = frozenset(
    {Reason.STARTING, Reason.STOP_IN_PROGRESS, Reason.LIST_LAG, Reason.AGENT_UNREACHABLE, Reason.SIGHT_INCOMPLETE}
)
_BEGINS_A_STOP = frozenset({Step.BEGIN_DRAIN, Step.ADOPT_ORPHAN, Step.DRAIN_SUPERSEDED, Step.STOP_SUPERSEDED})


@dataclass(frozen=True, slots=True)
class Policy:
    """What the controller may do and how long it waits; durations in milliseconds.

    Each duration is named for what it protects.
    """

    idle_timeout: Millis = 20 * MINUTE
    """Quiet time after which a container is idle."""
    orphan_grace: Millis = 5 * MINUTE
    """Age below which a task without an owner is left alone: its record may be on the way."""
    original_session_max_age: Millis = 12 * HOUR
    """How long an original row keeps its container: its writer never moves lastActivity again."""
    clock_slack: Millis = 60 * SECOND
    """Added to every cut-off that rests on a writer's clock."""
    future_tolerance: Millis = 5 * MINUTE
    """A time further ahead than this is a wrong clock and is not believed."""
    wanted_horizon: Millis = 60 * MINUTE
    """A wish further ahead than this is a wrong clock and is not believed."""
    launch_timeout: Millis = 10 * MINUTE
    """A task that is not ready by then is given up."""
    missing_after: Millis = 15 * MINUTE
    """Age of a launch at which MISSING proves that its task is gone; before, it may be ECS's lag."""
    quarantine_hold: Millis = 24 * HOUR
    """How long an unreadable row protects its container."""
    agents: bool = False
    """Whether containers have an agent that is asked: none without an agent port."""
    drain_deadline: Millis = 5 * MINUTE
    """An agent that has not answered to a drain by then is said to be unreachable."""
    save_hold: Millis = 2 * HOUR
    """How long a container whose work is not proven saved is kept from being stopped."""
    save_retry: Millis = 5 * MINUTE
    keepalive_interval: Millis = 2 * MINUTE
    """How often a running container hears from the controller; an agent that hears nothing for long ends by itself."""
    backoff_first: Millis = 10 * SECOND
    backoff_most: Millis = 5 * MINUTE
    stop_window: Millis = 5 * MINUTE
    stop_budget: int = 10
    """Stops per window that are always allowed."""
    stop_budget_share: float = 0.10
    """Share of the live tasks that may be stopped per window, when that is more."""
    look_interval_per_row: Millis = 6
    """A strong Scan costs a read unit per 4 kB: the pause between two grows with the table …"""
    look_interval_most: Millis = MINUTE
    """… up to this."""
    starting_interval: Millis = 5 * SECOND
    draining_interval: Millis = 2 * SECOND

    def backoff(self, failures: int) -> Millis:
        """Return the least time between two launches after so many failures in a row."""
        doublings = min(max(failures - 1, 0), 30)
        return min(self.backoff_first << doublings, self.backoff_most)

    def look_interval(self, rows: int) -> Millis:
        """Return the least time between two strong Scans of a sessions table with so many rows."""
        return min(rows * self.look_interval_per_row, self.look_interval_most)

    def look_again_in(self, action: Action) -> Millis | None:
        """Return how soon to look again at what the decision waits for; None when its `until` says so, or an event.

        What ECS and agents do with a task is not called out, or only by a hint that may be lost.
        """
        if action.reason is Reason.SAVING:
            return self.draining_interval
        waits = action.kind is ActionKind.DEFER and action.until is None
        return self.starting_interval if waits or action.reason in _CHANGES_UNSEEN else None

    def stops_allowed(self, live: int) -> int:
        """Return how many stops one window may have with so many live tasks."""
        return max(self.stop_budget, int(live * self.stop_budget_share))


def enforce(plan: Plan, world: World, policy: Policy) -> Plan:
    """Return the plan with the stops over budget, and those of a suspicious wave, turned into deferrals."""
    limit = policy.stops_allowed(_live(world))
    plan = _break_mass_stop(plan, world, limit)
    stamps = _recent_stops(world, plan.at - policy.stop_window)
    free_at = min(stamps) + policy.stop_window if stamps else None
    waiting = _draining(world)
    plan = _cap(
        plan,
        lambda a: a.step is Step.WRITE_STOPPING,
        limit - len(stamps),
        free_at,
        _over_budget(limit, len(stamps), policy),
    )
    return _cap(
        plan,
        lambda a: a.step in _BEGINS_A_STOP,
        limit - len(stamps) - waiting,
        free_at,
        _over_budget(limit, len(stamps), policy),
    )


def stops_left(world: World, policy: Policy, now: Millis) -> int:
    """Return how many more stops may begin now; those that are being drained will draw on it, too."""
    stamps = _recent_stops(world, now - policy.stop_window)
    return max(policy.stops_allowed(_live(world)) - len(stamps) - _draining(world), 0)


def _live(world: World) -> int:
    return world.others.live + sum(1 for t in world.tasks if t.live)


def _draining(world: World) -> int:
    return world.others.draining + sum(1 for r in world.records if r.status is ContainerStatus.DRAINING)


def _over_budget(limit: int, used: int, policy: Policy) -> str:
    made = f"{used} {'was' if used == 1 else 'were'} made"
    return f"{counted(limit, 'stop')} in {duration(policy.stop_window)} are allowed, {made}"


def _recent_stops(world: World, since: Millis) -> list[Millis]:
    """Return when stops began lately, from the records: a budget kept in memory would be refilled by a restart."""
    stamps = (r.drain.stopping_at for r in world.records if r.drain)
    return [at for at in (*world.others.stops, *stamps) if at is not None and at > since]


def _break_mass_stop(plan: Plan, world: World, limit: int) -> Plan:
    """More stops at once than the budget need a second look, at everything: it may be a wrong table."""
    nominated = [a for a in plan.actions if a.step in _BEGINS_A_STOP]
    if len(nominated) <= limit:
        return plan
    message = f"{len(nominated)} stops at once are more than {limit}: a second complete look must agree"
    return _defer(
        plan,
        lambda a: a.step in _BEGINS_A_STOP and (world.scope is not None or a.key not in world.nominated_before),
        Reason.MASS_STOP,
        message,
        None,
    )


def _cap(plan: Plan, counts: Callable[[Action], bool], room: int, until: Millis | None, message: str) -> Plan:
    chosen = sorted((a for a in plan.actions if counts(a)), key=lambda a: (a.last_activity or 0, a.container_id))
    over = {id(a) for a in chosen[max(room, 0) :]}
    return _defer(plan, lambda a: id(a) in over, Reason.BUDGET_EXHAUSTED, message, until) if over else plan


def _defer(plan: Plan, which: Callable[[Action], bool], reason: Reason, message: str, until: Millis | None) -> Plan:
    def turned(action: Action) -> Action:
        if not which(action):
            return action
        why = f"{message} ({action.reason}: {action.message})"
        return replace(
            action,
            kind=ActionKind.DEFER,
            step=Step.NONE,
            reason=reason,
            deferred=action.kind,
            message=why,
            until=until,
            then=str(action.kind),
        )

    return replace(plan, actions=tuple(turned(a) for a in plan.actions))
