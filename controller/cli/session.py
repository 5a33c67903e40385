"""`editctl session`: what a service that opens sessions does, by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from controller.cli import documents, render
from controller.cli.app import App, command
from controller.cli.options import DURATION
from controller.cli.screen import escaped, out, say
from controller.core.identity import ContainerIdentity, split_container_id
from controller.core.model import Millis
from controller.core.policy import Policy
from controller.core.usage import SessionUse, session_use
from controller.core.words import counted, duration
from controller.errors import AwsError, InvalidIdentity

if TYPE_CHECKING:
    from collections.abc import Callable


@click.group()
def session() -> None:
    """Open, touch, release and list sessions; get the container of a client, project and user."""


def _json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="Write JSON (docs/schemas/).")(function)


def identity_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for name in ("user", "project", "client"):
        function = click.option(f"--{name}", metavar="ID", help=f"The {name}.")(function)
    return function


def identity_of(
    container_id: str | None, client: str | None, project: str | None, user: str | None
) -> ContainerIdentity:
    """Return the triple that is meant. Raises InvalidIdentity when it is not clear."""
    if client and project and user:
        return ContainerIdentity(client, project, user)
    if container_id is None or client or project or user:
        missing = [f"--{n}" for n, v in (("client", client), ("project", project), ("user", user)) if not v]
        raise InvalidIdentity(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
            "a container belongs to one client, project and user",
            "give --client, --project and --user",
        )
    identity = split_container_id(container_id)
    if identity is None:
        raise InvalidIdentity(
            f"'{container_id}' can be read in more than one way, or in none",
            "only a text with exactly two '-' names its client, project and user",
            "give --client, --project and --user",
        )
    return identity


@command(
    "open",
    short_help="Open a session.",
    examples="""
        editctl session open s1 --client acme --project blog --user tom@acme.com
    """,
)
@click.argument("session_id", metavar="SESSION")
@identity_options
@click.option("--input-queue-url", metavar="URL", default="", help="Where messages for the session wait.")
@click.option("--output-queue-url", metavar="URL", default="", help="Where its answers go.")
@_json_option
def open_(
    app: App,
    session_id: str,
    client: str | None,
    project: str | None,
    user: str | None,
    input_queue_url: str,
    output_queue_url: str,
    as_json: bool,
) -> None:
    """Open a session on the container of a client, project and user. It can be repeated."""
    identity = identity_of(None, client, project, user)
    registry = app.assembly.registry()
    opened = registry.open(session_id, identity, input_queue_url=input_queue_url, output_queue_url=output_queue_url)
    if as_json:
        out(
            [
                documents.text(
                    {"version": 1, "sessionId": session_id, "containerId": identity.container_id, "opened": opened}
                )
            ]
        )
        return
    how = "is open" if opened else "was open already"
    out([f"session {escaped(session_id)} {how} on {escaped(identity.container_id)}", "Next: editctl plan"])


@command("touch", short_help="Say that a session is active now.", examples="editctl session touch s1")
@click.argument("session_id", metavar="SESSION")
def touch(app: App, session_id: str) -> None:
    """Say that a session is active now: its container counts as in use for the idle timeout from here."""
    app.assembly.registry().touch(session_id)
    policy = app.assembly.policy
    out([f"session {escaped(session_id)} is active; it counts for {duration(policy.idle_timeout)} from now"])


@command("release", short_help="Close a session.", examples="editctl session release s1")
@click.argument("session_id", metavar="SESSION")
def release(app: App, session_id: str) -> None:
    """Close a session. It can be repeated. Its container lives on for the idle timeout."""
    if app.assembly.registry().release(session_id):
        timeout = duration(app.assembly.policy.idle_timeout)
        out([f"session {escaped(session_id)} is released; its container runs on for {timeout}"])
    else:
        out([f"session {escaped(session_id)} was not open"])


@command(
    "get",
    short_help="Get a container, starting it if it does not run.",
    examples="""
        editctl session get acme-blog-tom
        editctl session get --client acme --project my-blog --user tom --within 2m
    """,
)
@click.argument("container_id", metavar="[CONTAINER]", required=False)
@identity_options
@click.option("--within", type=DURATION, default="5m", show_default=True, help="Wait at most so long.")
@_json_option
def get(
    app: App,
    container_id: str | None,
    client: str | None,
    project: str | None,
    user: str | None,
    within: Millis,
    as_json: bool,
) -> None:
    """Ask for a container and wait until it can be used. A running controller starts it."""
    identity = identity_of(container_id, client, project, user)
    registry = app.assembly.registry()
    say(f"asking for {escaped(identity.container_id)}, for at most {duration(within)}")
    found = registry.get_or_create_container(identity, within)
    if as_json:
        document = {
            "version": 1,
            "containerId": found.container_id,
            "phase": "Running",
            "taskArn": found.task_arn,
            "containerIp": found.container_ip,
            "generation": found.generation,
        }
        out([documents.text(document)])
        return
    rows = [(found.container_id, "Running", found.container_ip or "-", found.task_arn)]
    out(render.table(("CONTAINER", "PHASE", "IP", "TASK"), rows, app.screen), app.screen.color)


@command("list", short_help="List the open sessions.", examples="editctl session list --container acme-blog-tom")
@click.option("--container", metavar="ID", help="Only those of this container.")
@_json_option
def list_(app: App, container: str | None, as_json: bool) -> None:
    """List the open sessions, the most recently active first."""
    read = app.assembly.table_reader().read_sessions()
    if not read.sight.complete:
        problems = app.assembly.preflight(to_start=False)
        raise problems[0] if problems else AwsError("the sessions were not all seen", read.sight.detail, "try again")
    now, policy = app.clock(), app.assembly.policy
    uses = [_use(s, policy, now) for s in read.sessions if container in (None, s.container_id)]
    uses.sort(key=lambda use: (-use.last_activity, use.session.session_id))
    if as_json:
        out([documents.text(documents.sessions_document(uses))])
        return
    rows = [_row(use, now) for use in uses]
    titles = ("SESSION", "CONTAINER", "STATE", "QUIET")
    out(render.table(titles, rows, app.screen) if rows else [], app.screen.color)
    unread = f"; {counted(len(read.quarantined), 'row')} cannot be read: editctl plan" if read.quarantined else ""
    out([f"{counted(len(uses), 'open session')}, {sum(use.active for use in uses)} active{unread}"])


def _use(row: Any, policy: Policy, now: Millis) -> SessionUse:
    return session_use(row, policy, policy.idle_timeout, {}, now)


def _row(use: SessionUse, now: Millis) -> tuple[str, str, str, str]:
    state = "stale" if use.stale else "active" if use.active else "quiet"
    return (
        escaped(use.session.session_id),
        escaped(use.session.container_id),
        f"{state}, original" if use.session.is_original else state,
        duration(now - use.last_activity),
    )


for _command in (get, open_, touch, release, list_):
    session.add_command(_command)
