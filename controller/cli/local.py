"""`editctl local`: an AWS endpoint on this machine, until Ctrl-C."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from controller.cli.app import App, command
from controller.cli.screen import out, say
from controller.errors import ConfigError

if TYPE_CHECKING:
    from controller.local.server import LocalEndpoint

DEFAULT_PORT = 4580
HINT_QUEUE = "editctl-hints"
"""What the hints stack calls it."""


@command(
    "local",
    settings=False,
    short_help="AWS on this machine, to try things.",
    examples="""
        editctl local
        editctl local --port 0
    """,
)
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0: any free one.")
@click.option("--like-fargate", is_flag=True, help="Tasks take as long as on Fargate: 26 s to start, 14 s to stop.")
@click.option("--verbose", "-v", is_flag=True, help="Write a line for each request.")
def local(app: App, port: int, like_fargate: bool, verbose: bool) -> None:
    """Serve ECS, DynamoDB and SQS on this machine until Ctrl-C. Everything is in memory and gone afterwards."""
    endpoint = _endpoint(port, like_fargate, verbose)
    try:
        # What ends a service ends this, too, and as quietly.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        out(_welcome(endpoint))
        endpoint.serve_forever()
    except KeyboardInterrupt:
        say("stopped; its tables and tasks are gone")
    finally:
        endpoint.close()


def _endpoint(port: int, like_fargate: bool, verbose: bool) -> LocalEndpoint:
    try:
        from controller.local.ecs import Timings
        from controller.local.pipes import Pipe
        from controller.local.server import LocalEndpoint
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the local endpoint needs the package '{error.name}'",
            "it is installed with the extra 'local'",
            "pip install 'editctl[local]'",
        ) from error
    timings = Timings() if like_fargate else Timings.fast()
    pipe = Pipe(HINT_QUEUE, is_hint)
    return LocalEndpoint(port, timings=timings, pipe=pipe, on_request=say if verbose else None)


def is_hint(record: Mapping[str, Any]) -> bool:
    """Say whether the pipes of the hints stack would take a stream record: of a session, or of a wish."""
    changed = record.get("dynamodb", {})
    return "sessionId" in changed.get("Keys", {}) or "wantedUntil" in changed.get("NewImage", {})


def _welcome(endpoint: LocalEndpoint) -> list[str]:
    editctl = "editctl" if shutil.which("editctl") else ".venv/bin/editctl"
    return [
        f"AWS is at {endpoint.url} until Ctrl-C: ECS, DynamoDB and SQS in memory. In another terminal:",
        "",
        f"  export AWS_ENDPOINT_URL={endpoint.url}",
        f"  export EDITCTL_HINT_QUEUE_URL={endpoint.hint_queue_url}",
        f"  {editctl} tables create",
        f"  {editctl} session open s1 --client acme --project blog --user tom",
        f"  {editctl} plan",
    ]
