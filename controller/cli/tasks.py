"""`editctl adopt` and `logs`: what a person does about single tasks."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import click

from controller.cli import documents
from controller.cli.app import App, command
from controller.cli.plan import look
from controller.cli.screen import Screen, escaped, out
from controller.cli.status import unknown
from controller.core.identity import MANAGED_BY, Ownership
from controller.core.model import Millis, Task
from controller.core.reads import LogStream, Marked
from controller.core.revisions import short_revision
from controller.core.words import duration
from controller.errors import NotNow


@command(
    "adopt",
    short_help="Mark a task as this controller's.",
    examples="""
        editctl adopt arn:aws:ecs:eu-west-1:123456789012:task/webordinary/0a1b2c
        editctl adopt arn:aws:ecs:eu-west-1:123456789012:task/webordinary/0a1b2c --from staging
    """,
)
@click.argument("arn", metavar="ARN")
@click.option("--from", "owner", metavar="CONTROLLER", help="Whose mark it may carry: that one is replaced.")
def adopt(app: App, arn: str, owner: str | None) -> None:
    """Show what a task is, and mark it as ours by its tags. From then on it is treated like any task of ours.

    A task that carries another controller's mark is left alone unless --from names that controller: it must not run
    any more, or both would act on the task. It can be repeated.
    """
    found = app.assembly.inspector().marked(arn)
    task = _adoptable(found, arn)
    out(_described(task, found, app.screen, app.clock()))
    ours = app.loaded.config.controller_id
    if task.ownership is Ownership.OURS:
        out([f"It is marked as ours already (controller {ours}).", "Next: editctl plan"])
        return
    _check_owner(found, owner)
    app.assembly.tasks.mark(task.arn, task.identity)
    out([f"Marked as ours (controller {ours}).", "Next: editctl plan"])


def _adoptable(found: Marked, arn: str) -> Task:
    task = found.task
    if task is None:
        raise NotNow(
            f"task {arn} names no client, project and user",
            "neither its tags nor its environment say whose container it is",
            "stop it by hand if nobody needs it",
        )
    if not task.live:
        raise NotNow(
            f"task {task.short} of {task.container_id} is {task.last_status}",
            "what stops or has stopped cannot be marked",
            "Next: editctl plan",
        )
    return task


def _check_owner(found: Marked, owner: str | None) -> None:
    """Whose mark is replaced must be named: whoever set it may still be at work."""
    marked_by = found.controller if found.managed_by == MANAGED_BY else found.managed_by
    if marked_by and owner != marked_by:
        whose = f"controller '{marked_by}'" if found.managed_by == MANAGED_BY else f"'{marked_by}'"
        raise NotNow(
            f"the task carries the mark of {whose}",
            "two that act on one task undo each other's work" if owner is None else f"--from says '{owner}'",
            f"if that one is gone: --from {shlex.quote(marked_by)}",
        )


def _described(task: Task, found: Marked, screen: Screen, now: Millis) -> list[str]:
    marks = found.managed_by or "none"
    if found.controller:
        marks += f", controller {found.controller}"
    rows = (
        ("task", task.arn),
        ("container", task.container_id),
        ("whose", str(task.identity)),
        ("runs", f"{task.last_status} for {duration(now - task.created_at)}, {short_revision(task.task_definition)}"),
        ("mark", marks),
    )
    return [line for label, text in rows for line in screen.wrapped(escaped(text), f"{label:<11}", " " * 11)]


@command(
    "logs",
    short_help="Where a container logs.",
    examples="""
        editctl logs acme-blog-tom@acme.com
        editctl logs acme-blog-tom@acme.com --json | jq -r '.streams[0].command'
    """,
)
@click.argument("container_id", metavar="CONTAINER")
@click.option("--json", "as_json", is_flag=True, help="Write JSON (docs/schemas/logs.json).")
def logs(app: App, container_id: str, as_json: bool) -> None:
    """Show the log group and stream of a container's tasks, and the command that follows them. Nothing is read there.

    The running task comes first, then those that ECS still lists: a stopped one for about an hour.
    """
    view = look(app)
    if container_id not in {a.container_id for a in view.plan.actions}:
        raise unknown(container_id, (a.container_id for a in view.plan.actions))
    tasks = sorted(
        (t for t in view.world.tasks if t.container_id == container_id), key=lambda t: (t.stopped, -t.created_at, t.arn)
    )
    streams = app.assembly.inspector().log_streams(tasks)
    if as_json:
        out([documents.text(_document(container_id, streams))])
        return
    out(_lines(container_id, streams, app.screen, view.plan.at))


def _lines(container_id: str, streams: Sequence[LogStream], screen: Screen, now: Millis) -> list[str]:
    if not streams:
        return [
            f"ECS lists no task of {escaped(container_id)}; it forgets a stopped one after about an hour",
            f"More about it: editctl explain {escaped(container_id)}",
        ]
    lines = []
    for found in streams:
        task = found.task
        lines.append(f"task {task.short}  {task.last_status}, made {duration(now - task.created_at)} ago")
        where = (("group", found.group), ("stream", found.stream)) if found.group else (("logs", _elsewhere(found)),)
        lines += [f"  {label:<8}{escaped(text) or '-'}" for label, text in where]
    tail = next((t for found in streams if (t := _tail(found))), "")
    return [*lines, *([f"To follow it: {tail}"] if tail else [])]


def _elsewhere(found: LogStream) -> str:
    return (
        f"by the driver '{found.driver}', not in CloudWatch" if found.driver else "its definition names no log driver"
    )


def _tail(found: LogStream) -> str:
    """Return the command that follows a stream; empty when group or stream is not known."""
    if not (found.group and found.stream):
        return ""
    region = f" --region {shlex.quote(found.region)}" if found.region else ""
    names = f"{shlex.quote(found.group)} --log-stream-names {shlex.quote(found.stream)}"
    return f"aws logs tail {names}{region} --follow"


def _document(container_id: str, streams: Sequence[LogStream]) -> dict[str, Any]:
    return {
        "version": documents.VERSION,
        "containerId": container_id,
        "streams": [
            {
                "taskArn": s.task.arn,
                "lastStatus": s.task.last_status,
                "driver": s.driver or None,
                "group": s.group or None,
                "stream": s.stream or None,
                "region": s.region or None,
                "command": _tail(s) or None,
            }
            for s in streams
        ],
    }
