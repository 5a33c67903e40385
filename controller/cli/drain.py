"""`editctl drain` and `restart`: an operator asks for a container's end, or for a newer one in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import click

from controller.cli.app import ERROR, FINE, App, command
from controller.cli.campaign import Campaign, Goal, State
from controller.cli.options import DURATION
from controller.cli.plan import look
from controller.cli.screen import escaped, out
from controller.cli.status import unknown
from controller.cli.work import Report, Work, check_startable
from controller.core import ledger
from controller.core.conditions import Phase, Summary, main_action, summaries
from controller.core.model import (
    Action,
    ActionKind,
    ContainerRecord,
    ContainerStatus,
    DrainReason,
    Hold,
    Millis,
    Reason,
    Step,
    World,
)
from controller.core.policy import stops_left
from controller.core.revisions import short_revision
from controller.core.words import counted, duration
from controller.errors import ConditionFailed, ConfigError, NotNow
from controller.reconcile.reconciler import Reconciler, View

_BEING_ENDED = (ContainerStatus.DRAINING, ContainerStatus.STOPPING)
_WAS = "was"
"""Key of a drain that has ended, beside the start that follows it."""


def _waiting(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--no-wait", is_flag=True, help="Ask for it and end; a running controller goes on."),
        click.option(
            "--wait", "longest", type=DURATION, default="10m", show_default=True, help="Wait at most so long."
        ),
        click.option("--even-if-active", is_flag=True, help="Also when somebody works in it."),
    ):
        function = option(function)
    return function


@command(
    "drain",
    short_help="Save and stop one container.",
    examples="""
        editctl drain acme-blog-tom@acme.com
        editctl drain acme-blog-tom@acme.com --even-if-active --no-wait
    """,
)
@click.argument("container_id", metavar="CONTAINER")
@_waiting
def drain(app: App, container_id: str, even_if_active: bool, longest: Millis, no_wait: bool) -> int:
    """Save and stop one container, whether it is idle or not. Only a hold cancels it once it has begun.

    It is refused while a session is active, unless --even-if-active is given; a session that is active afterwards, or
    becomes so, gets a new container. It can be repeated: a container that does not run is left alone.

    Exit code 0: it has stopped (with --no-wait: it is asked for). 1: it has not.
    """
    asked = _Asked(app)
    goal = asked.drain(container_id, even_if_active=even_if_active)
    if goal is None:
        out([f"nothing runs: {escaped(container_id)}", "Next: editctl plan"])
        return FINE
    return asked.until_done([goal], 0 if no_wait else longest, again=False)


@command(
    "restart",
    short_help="Replace a container by one of the newest revision.",
    examples="""
        editctl restart acme-blog-tom@acme.com
        editctl restart --outdated --idle-only
    """,
)
@click.argument("container_id", metavar="[CONTAINER]", required=False)
@click.option("--outdated", is_flag=True, help="All that run another revision than a new one would.")
@click.option("--idle-only", is_flag=True, help="Of those only the ones in which nobody is active.")
@_waiting
def restart(
    app: App,
    container_id: str | None,
    outdated: bool,
    idle_only: bool,
    even_if_active: bool,
    longest: Millis,
    no_wait: bool,
) -> int:
    """Save and stop a container; when it is wanted afterwards, start it with the newest task-definition revision.

    With --outdated all containers that `status` calls Outdated, as many at a time as the stop budget allows: repeat it
    for the rest. One that nobody wants is only stopped; its next session starts it with the newest revision.

    Exit code 0: what could be restarted now is. 1: something was not done.
    """
    _check_choice(container_id, outdated=outdated, idle_only=idle_only)
    asked = _Asked(app)
    if container_id is not None:
        chosen, remark = [container_id], ""
    else:
        chosen, remark = asked.choose(idle_only=idle_only, even_if_active=even_if_active)
    goals = [g for i in chosen if (g := asked.drain(i, even_if_active=even_if_active)) is not None]
    if not goals:
        out([remark or f"nothing runs: {escaped(container_id or '')}", "Next: editctl status"])
        return FINE
    code = asked.until_done(goals, 0 if no_wait else longest, again=True)
    out([remark] if remark else [])
    return code


def _check_choice(container_id: str | None, *, outdated: bool, idle_only: bool) -> None:
    if (container_id is None) != outdated:
        raise ConfigError(
            "restart takes either a container or --outdated",
            "neither is given" if container_id is None else "both are given",
            "editctl restart CONTAINER, or editctl restart --outdated --idle-only",
        )
    if idle_only and not outdated:
        raise ConfigError("--idle-only goes with --outdated", "it chooses among several", "leave it out")


class _Asked:
    """What an operator asks for, on one view of the world."""

    def __init__(self, app: App) -> None:
        self._app = app
        app.assembly.check_world(keep=True)
        self._reconciler: Reconciler = app.assembly.reconciler()
        self._view = look(app, self._reconciler.planner)
        self._found = {s.container_id: s for s in summaries(self._view.plan, self._view.world.newest_definition)}

    # One container

    def drain(self, container_id: str, *, even_if_active: bool) -> Goal | None:
        """Write that the container is to be drained; None when nothing runs in its name. Raises NotNow."""
        if container_id not in self._found:
            raise unknown(container_id, self._found)
        tables, now = self._app.assembly.tables, self._app.clock()
        record: ContainerRecord | None = tables.get_record(container_id)
        self._check_recorded(container_id, record)
        if record is None or record.names_no_task:
            return None
        if record.status in _BEING_ENDED:
            return self._goal(record, f"it is being stopped already ({record.drain.reason if record.drain else '-'})")
        self._check_free(record, now)
        if not even_if_active:
            self._check_quiet(container_id)
            self._check_unmoved(record)
        deadline = now + self._app.assembly.policy.drain_deadline
        try:
            written = tables.write(ledger.request_drain(record, now, deadline, even_if_active=even_if_active))
        except ConditionFailed as refused:
            raise _changed(container_id) from refused
        return self._goal(written, "draining is written")

    def _goal(self, record: ContainerRecord, message: str) -> Goal:
        summary = self._found[record.container_id]
        action = Action(
            ActionKind.DRAIN,
            record.container_id,
            Reason.REQUESTED,
            message,
            Step.BEGIN_DRAIN,
            record.identity,
            record,
            sessions=summary.sessions,
            active_sessions=summary.active_sessions,
            drain_reason=DrainReason.REQUESTED,
        )
        return Goal(action, self._app.clock(), message=message, stepped=True)

    def _check_recorded(self, container_id: str, record: ContainerRecord | None) -> None:
        """A task that no record names has no ledger to write its drain into."""
        live = [t for t in self._view.world.tasks if t.container_id == container_id and t.live]
        if live and (record is None or record.names_no_task):
            raise NotNow(
                f"task {live[0].short} of {container_id} is in no record yet",
                "what is drained is written into the record first",
                "let it be adopted (`editctl apply`), then ask again",
            )
        if record is not None and record.awaits_arn:
            raise NotNow(
                f"{container_id} is being launched in this moment",
                "its record does not name a task yet",
                "ask again when `editctl status` shows it starting or running",
            )

    def _check_free(self, record: ContainerRecord, now: Millis) -> None:
        pause = self._view.world.pause
        declared = record.declared.hold if record.declared else None
        for hold, todo in ((pause, "editctl unpause"), (record.hold, f"editctl unhold {record.container_id}")):
            _check_hold(record.container_id, hold, now, todo)
        _check_hold(record.container_id, declared, now, "take the hold out of its declaration")

    def _check_quiet(self, container_id: str) -> None:
        summary = self._found[container_id]
        main = main_action([a for a in self._view.plan.actions if a.container_id == container_id])
        if summary.active_sessions or main.reason in (Reason.IN_USE, Reason.WANTED):
            what = (
                f"{container_id} has {counted(summary.active_sessions, 'active session')}"
                if summary.active_sessions
                else f"{container_id} is wanted: {main.message}"
            )
            raise NotNow(
                what,
                "its work would be saved, and a new container started for them: an interruption of about a minute",
                "wait until they are quiet (`editctl explain`), or give --even-if-active",
            )

    def _check_unmoved(self, record: ContainerRecord) -> None:
        """Who came between the look and this read was not among the active ones."""
        seen = next((r for r in self._view.world.records if r.container_id == record.container_id), None)
        if seen is None or (seen.last_activity, seen.session_count, seen.wanted_until) != (
            record.last_activity,
            record.session_count,
            record.wanted_until,
        ):
            raise _changed(record.container_id)

    # Several

    def choose(self, *, idle_only: bool, even_if_active: bool) -> tuple[list[str], str]:
        """Return the outdated containers that may be restarted now, and a remark on the others. Raises NotNow."""
        world, plan = self._view.world, self._view.plan
        if not world.newest_definition:
            raise NotNow(
                "which revision is the newest is not known",
                "DescribeTaskDefinition gave none, or each project has a family of its own",
                "restart them one by one: editctl restart CONTAINER",
            )
        outdated = [s for s in self._found.values() if s.outdated and s.phase in (Phase.RUNNING, Phase.STARTING)]
        active = [s for s in outdated if s.active_sessions]
        if active and not (idle_only or even_if_active):
            raise NotNow(
                f"{counted(len(active), 'outdated container')} of {len(outdated)} {_have(active)} an active session",
                f"the first is {active[0].container_id}",
                "give --idle-only to leave them out, or --even-if-active to interrupt them",
            )
        willing = [s for s in outdated if not (idle_only and s.active_sessions)]
        willing.sort(key=lambda s: (s.last_activity or 0, s.container_id))
        room = stops_left(world, self._app.assembly.policy, plan.at)
        chosen = [s.container_id for s in willing[:room]]
        return chosen, _remark(world, outdated, len(willing), len(chosen))

    # Until it is done

    def until_done(self, goals: list[Goal], longest: Millis, *, again: bool) -> int:
        """Wait for the goals, and with again for the containers that follow; return the exit code."""
        campaign = Campaign({(g.action.container_id, ""): g for g in goals})
        report = Report(self._app, campaign, self._view.plan.at)
        if not longest:
            report.leave()
            return report.end(self._view)
        work = Work(self._app, self._reconciler, report, self._reconciler.planner.view())
        try:
            began = self._app.clock()
            work.rounds(longest)
            if again and self._follow(campaign, work.view):
                work.rounds(max(longest - (self._app.clock() - began), 1))
        except KeyboardInterrupt:
            report.leave()
            report.end(work.view)
            return ERROR
        return report.end(work.view)

    def _follow(self, campaign: Campaign, view: View) -> bool:
        """Make the start of each container that was drained and is wanted a goal; say whether there is any."""
        done = [g for g in campaign.goals.values() if g.state is State.DONE]
        for goal in done:
            container_id = goal.action.container_id
            actions = [a for a in view.plan.actions if a.container_id == container_id]
            if not actions or main_action(actions).reason is Reason.STOPPED:
                continue
            start = replace(main_action(actions), kind=ActionKind.START, step=Step.CLAIM)
            del campaign.goals[(container_id, "")]
            campaign.goals[(container_id, _WAS)] = goal
            campaign.goals[(container_id, "")] = Goal(start, view.plan.at, stepped=True)
        check_startable(self._app, view.plan)
        return bool(campaign.open)


def _changed(container_id: str) -> NotNow:
    return NotNow(
        f"{container_id} has changed in this moment",
        "somebody opened, touched or released a session, or a controller was at work on it",
        "look at it (`editctl explain`) and ask again",
    )


def _check_hold(container_id: str, hold: Hold | None, now: Millis, todo: str) -> None:
    if hold is not None and hold.in_force(now):
        raise NotNow(
            f"{container_id} is held for another {duration(hold.until - now)} by {hold.by}: {hold.reason}",
            "nothing is drained under a hold or in a pause",
            f"if it may be: {todo}",
        )


def _have(several: Iterable[Summary]) -> str:
    return "has" if len(list(several)) == 1 else "have"


def _remark(world: World, outdated: list[Summary], willing: int, chosen: int) -> str:
    newest = short_revision(world.newest_definition)
    if not outdated:
        return f"no container is outdated: all run {newest}"
    left = len(outdated) - chosen
    if not left:
        return ""
    why = []
    if willing > chosen:
        why.append(f"{willing - chosen} for the stop budget (repeat this in 5 minutes)")
    if len(outdated) > willing:
        why.append(f"{len(outdated) - willing} with an active session")
    return f"{counted(left, 'container')} stay{'s' if left == 1 else ''} outdated: {', '.join(why)}"
