"""`editctl plan`: what would be done, without anything that could do it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from controller.cli import documents, render
from controller.cli.app import CHANGES, ERROR, FINE, App, Problems, command
from controller.cli.screen import out
from controller.core.model import Plan, Quality, World
from controller.errors import AwsError, ConfigError, EditctlError

if TYPE_CHECKING:
    from controller.reconcile.reconciler import Planner, View


@command(
    "plan",
    short_help="What would be done now, and why; changes nothing.",
    examples="""
        editctl plan
        editctl plan --all --idle-timeout 1h
        editctl plan --json | jq '.actions[] | select(.action == "drain")'
    """,
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON (docs/schemas/plan.json).")
@click.option("--all", "show_all", is_flag=True, help="List the containers that stay as they are, too.")
def plan(app: App, as_json: bool, show_all: bool) -> int:
    """Show what would be done now, and why. Nothing is changed: the command holds no client that writes.

    \b
    + start   ~ correct   - drain or stop   ! held, deferred or unreadable   = stays

    Exit code 0: nothing to do, or only bookkeeping of records. 2: there are changes. 1: an error, or nothing to do as
    far as could be seen.
    """
    began = time.monotonic()
    view = look(app)
    seconds = time.monotonic() - began
    if as_json:
        out([documents.text(documents.plan_document(view.world, view.plan))])
    else:
        lines = render.plan_lines(view.world, view.plan, app.screen, seconds=seconds, show_all=show_all)
        out(lines, app.screen.color)
    if not view.plan.is_empty:
        return CHANGES
    return FINE if view.plan.complete else ERROR


def look(app: App, planner: Planner | None = None) -> View:
    """Return the world and its plan. Raises Problems when a setting or a right is what keeps it from being seen."""
    try:
        view = (planner or app.assembly.planner()).twice()
    except AwsError as error:
        raise Problems(app.assembly.preflight(to_start=False) or (error,)) from error
    problems = _why_unseen(app, view.world, view.plan)
    if problems:
        raise Problems(problems)
    return view


def _why_unseen(app: App, world: World, plan: Plan) -> tuple[EditctlError, ...]:
    """Return what is wrong with the settings, asked only when what was seen gives cause: it takes four more calls."""
    if any(sight.quality is Quality.UNKNOWN for sight in plan.sights.values()):
        return app.assembly.preflight(to_start=False)
    if not world.sessions and (world.records or world.tasks or world.quarantined):
        # It may be another table. A right that is missing to look at its keys is no reason to give up.
        found = app.assembly.preflight(to_start=False)
        return tuple(p for p in found if isinstance(p, ConfigError))
    return ()
