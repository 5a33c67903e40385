"""`editctl apply`: carry out what the plan shows, or a plan that was saved, and wait for it."""

from __future__ import annotations

import time

import click

from controller.cli import planfile
from controller.cli.app import App, command
from controller.cli.campaign import Campaign
from controller.cli.options import DURATION
from controller.cli.plan import look
from controller.cli.work import Report, carry_out, check_startable
from controller.core.model import ActionKind, Millis, Plan
from controller.core.saved import SavedPlan, select
from controller.core.whereabouts import check_plan
from controller.reconcile.reconciler import View


@command(
    "apply",
    short_help="Do what plan shows, and wait until it is done.",
    examples="""
        editctl apply
        editctl apply monday.plan
        editctl apply --wait 2m
        editctl apply --no-wait
    """,
)
@click.argument("file", metavar="[FILE]", required=False)
@click.option("--wait", "longest", type=DURATION, default="10m", show_default=True, help="Wait at most so long.")
@click.option("--no-wait", is_flag=True, help="Take the first step of each action and end.")
def apply(app: App, file: str | None, longest: Millis, no_wait: bool) -> int:
    """Do what plan shows: rounds until each of its actions is done or deferred.

    What is started is waited for until it runs, what is drained until it has stopped. Nothing that the plan did not
    show is begun. To break off is safe at any time: each step is on record, and the next apply, or a running
    controller, goes on from there.

    FILE is a plan that `plan --out FILE` has saved (`-`: standard input). Of it only that is done which a fresh look
    finds unchanged; the rest is skipped as stale, with what changed.

    Exit code 0: all that was due is done. 1: something failed, or was not done in time.
    """
    saved = planfile.read(file) if file is not None else None
    here = app.assembly.check_world(keep=True)
    if saved is not None:
        check_plan(saved[1], here)
    reconciler = app.assembly.reconciler()
    began = time.monotonic()
    view = look(app, reconciler.planner)
    view, report = _agreed(app, view, saved[0]) if saved is not None else (view, _all_of(app, view.plan))
    check_startable(app, view.plan)
    report.begin(view, time.monotonic() - began)
    return carry_out(app, reconciler, report, view, 0 if no_wait else longest)


def _all_of(app: App, plan: Plan) -> Report:
    kept_back = (a for a in plan.actions if a.kind in (ActionKind.HOLD, ActionKind.DEFER))
    return Report(app, Campaign.of(plan), plan.at, kept_back)


def _agreed(app: App, view: View, saved: SavedPlan) -> tuple[View, Report]:
    """Return the view with what was agreed to, and the report that names the rest."""
    selection = select(view.plan, saved)
    return View(view.world, selection.plan), Report(
        app, Campaign.of(selection.plan), view.plan.at, stale=selection.stale
    )
