"""`editctl tables`: the tables, and on this machine's endpoint all that else is needed."""

from __future__ import annotations

import click

from controller.cli.app import App, command
from controller.cli.screen import out


@click.group()
def tables() -> None:
    """Make the three tables."""


@command(
    "create",
    short_help="Make the tables that are missing.",
    examples="""
        editctl tables create
        editctl tables create --sessions-table staging-sessions
    """,
)
def create(app: App) -> None:
    """Make the tables that are missing. It can be repeated: what is there is checked and left alone.

    On an endpoint of this machine (AWS_ENDPOINT_URL) it makes the cluster and a task definition, too.
    """
    for made in app.assembly.create_tables():
        out([f"{'+ made ' if made.made else '= there'}  {made.what} {made.name}"])
    out(["Next: editctl plan"])


tables.add_command(create)
