"""`editctl status` and `editctl explain`: how it is, and why."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import click

from controller.cli import documents, render
from controller.cli.app import App, command
from controller.cli.plan import look
from controller.cli.screen import out
from controller.core.conditions import summaries
from controller.core.explain import explain as explain_container
from controller.errors import ConfigError, EditctlError


@command(
    "status",
    short_help="The containers and what happens next.",
    examples="""
        editctl status
        editctl status --all
        editctl status --json | jq '.containers[] | select(.phase == "Draining") | .containerId'
    """,
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON (docs/schemas/status.json).")
@click.option("--all", "show_all", is_flag=True, help="List the stopped ones too, and all of them.")
def status(app: App, as_json: bool, show_all: bool) -> None:
    """List the containers: those that need somebody or are on their way first, then by what happens next.

    \b
    SESSIONS  active of open ones
    QUIET     time since the last activity
    AGE       time since its task was made
    NEXT      what happens by itself, and when
    """
    view = look(app)
    found = summaries(view.plan, view.world.newest_definition)
    if as_json:
        out([documents.text(documents.status_document(view.world, view.plan, found))])
        return
    out(render.status_lines(found, view.world, view.plan, app.screen, show_all=show_all), app.screen.color)


@command(
    "explain",
    short_help="Why one container is as it is.",
    examples="""
        editctl explain acme-blog-tom@acme.com
    """,
)
@click.argument("container_id", metavar="CONTAINER")
@click.option("--json", "as_json", is_flag=True, help="Write JSON (docs/schemas/explain.json).")
def explain(app: App, container_id: str, as_json: bool) -> None:
    """Say why a container is as it is, until when, and what would change it."""
    view = look(app)
    policy, now = app.assembly.policy, view.plan.at
    found = explain_container(view.world, view.plan, container_id, policy, now, lambda at: app.screen.time(at, now))
    if found is None:
        raise unknown(container_id, (a.container_id for a in view.plan.actions))
    if as_json:
        summary = next(s for s in summaries(view.plan, view.world.newest_definition) if s.container_id == container_id)
        out([documents.text(documents.explain_document(view.world, view.plan, summary, found))])
        return
    out(render.explanation_lines(found, app.screen), app.screen.color)


def near(container_id: str, known: Iterable[str]) -> list[str]:
    """Return the ids that this one may be a slip of, three at most, the likeliest first."""
    ids = sorted(set(known))
    found = difflib.get_close_matches(container_id, ids, n=3, cutoff=0.5)
    return found + [i for i in ids if container_id in i and i not in found][: 3 - len(found)]


def unknown(container_id: str, known: Iterable[str], todo: str = "`editctl status --all` lists them") -> EditctlError:
    """Return the error for a container that nothing is known of, with those that it may be mistaken for."""
    like = near(container_id, known)
    hint = f"did you mean {', '.join(like)}?" if like else "no session, record or task has this id, or one like it"
    return ConfigError(f"no container '{container_id}'", hint, todo)
