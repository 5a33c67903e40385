"""`editctl plan`: what would be done, without anything that could do it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from controller.cli import documents, planfile, render
from controller.cli.app import CHANGES, ERROR, FINE, App, Problems, command
from controller.cli.options import moment_ahead
from controller.cli.screen import escaped, out, say
from controller.core.forecast import forecast
from controller.core.model import Millis, Plan, Quality, World
from controller.core.saved import save
from controller.errors import AwsError, ConfigError, EditctlError

if TYPE_CHECKING:
    from controller.core.whereabouts import Whereabouts
    from controller.reconcile.reconciler import Planner, View


@command(
    "plan",
    short_help="What would be done now, and why; changes nothing.",
    examples="""
        editctl plan
        editctl plan --all --idle-timeout 1h
        editctl plan --at +20m
        editctl plan --out monday.plan
        editctl plan --json | jq '.actions[] | select(.action == "drain")'
    """,
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON (docs/schemas/plan.json).")
@click.option("--all", "show_all", is_flag=True, help="List the containers that stay as they are, too.")
@click.option("--at", metavar="WHEN", help="Forecast: +20m, 15:42 or '2026-03-02 15:42'.")
@click.option(
    "--out", "out_file", metavar="FILE", help="Save it for `apply FILE`; - writes it to standard output instead."
)
def plan(app: App, as_json: bool, show_all: bool, at: str | None, out_file: str | None) -> int:
    """Show what would be done now, and why. Nothing is changed: the command holds no client that writes.

    \b
    + start   ~ correct   - drain or stop   ! held, deferred or unreadable   = stays

    --at shows what would be done at a later time, if until then nobody did anything.

    Exit code 0: nothing to do, or only bookkeeping of records. 2: there are changes. 1: an error, or nothing to do as
    far as could be seen.
    """
    _check_options(at, out_file, as_json)
    moment = moment_ahead(at, app.clock(), app.screen.zone) if at is not None else None
    began = time.monotonic()
    view = look(app)
    seconds = time.monotonic() - began
    here = _check_world(app, needed=out_file is not None)
    observed_at = view.plan.at
    if moment is not None:
        view = replace(view, plan=forecast(view.world, app.assembly.policy, moment))
    if out_file is not None and here is not None:
        _save(out_file, view, here)
    if out_file != planfile.STANDARD:
        _show(app, view, Shown(as_json, show_all, observed_at, seconds, out_file))
    if not view.plan.is_empty:
        return CHANGES
    return FINE if view.plan.complete else ERROR


def _check_options(at: str | None, out_file: str | None, as_json: bool) -> None:
    if at is not None and out_file is not None:
        raise ConfigError("--at and --out do not go together", "a forecast cannot be applied", "leave one of them out")
    if as_json and out_file == planfile.STANDARD:
        raise ConfigError(
            "--json and --out - do not go together", "both write to standard output", "name a file with --out"
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """How a plan is shown."""

    as_json: bool
    show_all: bool
    observed_at: Millis
    seconds: float
    out_file: str | None


def _show(app: App, view: View, how: Shown) -> None:
    if how.as_json:
        out([documents.text(documents.plan_document(view.world, view.plan, how.observed_at))])
        return
    lines = render.plan_lines(
        view.world,
        view.plan,
        app.screen,
        seconds=how.seconds,
        show_all=how.show_all,
        observed_at=how.observed_at,
        saved_as=how.out_file,
    )
    out(lines, app.screen.color)


def _save(out_file: str, view: View, here: Whereabouts) -> None:
    saved = save(view.plan, here.cluster)
    if out_file == planfile.STANDARD:
        out([documents.text(planfile.document(saved, here))])
    else:
        planfile.write(out_file, saved, here)


def _check_world(app: App, *, needed: bool) -> Whereabouts | None:
    """Return the ids of what is here; None when they could not be asked for and are not needed."""
    try:
        return app.assembly.check_world(keep=False)
    except AwsError as error:
        if needed:
            raise
        say(f"warning: whether these are the tables and the cluster seen first is not known: {escaped(str(error))}")
        return None


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
