"""`editctl hold`, `unhold`, `pause` and `unpause`: an operator's word that nothing is to happen."""

from __future__ import annotations

import getpass
import socket

import click

from controller.cli.app import App, command
from controller.cli.options import DURATION
from controller.cli.screen import escaped, out
from controller.cli.status import unknown
from controller.core import ledger
from controller.core.model import DAY, MINUTE, ContainerRecord, Millis
from controller.core.words import duration
from controller.errors import ConfigError

_SHORTEST: Millis = MINUTE
_LONGEST: Millis = 7 * DAY

_for = click.option("--for", "for_", type=DURATION, default="4h", show_default=True, help="How long: 1m to 7d.")
_reason = click.option("--reason", metavar="TEXT", required=True, help="Why; everybody is shown it.")
_by = click.option("--by", metavar="NAME", default=None, help="Who; you at this machine if not given.")


@command(
    "hold",
    short_help="Let nothing happen to one container for a while.",
    examples="""
        editctl hold acme-blog-tom@acme.com --for 2h --reason "demo for the customer"
    """,
)
@click.argument("container_id", metavar="CONTAINER")
@_for
@_reason
@_by
def hold(app: App, container_id: str, for_: Millis, reason: str, by: str | None) -> None:
    """Freeze one container: it is neither started, drained nor stopped. A drain that has begun is cancelled.

    Counts are still repaired. A later hold replaces an earlier one.
    """
    until = _until(app, for_)
    record = _record(app, container_id)
    app.assembly.tables.write(ledger.set_hold(record, _who(by), reason, until))
    out([f"held until {app.screen.time(until, app.clock())}: {escaped(container_id)}"])
    out([f"To end it earlier: editctl unhold {escaped(container_id)}"])


@command("unhold", short_help="Take the hold off a container.", examples="editctl unhold acme-blog-tom@acme.com")
@click.argument("container_id", metavar="CONTAINER")
def unhold(app: App, container_id: str) -> None:
    """Take the hold off a container. It can be repeated."""
    record = _record(app, container_id)
    if record.hold is not None:
        app.assembly.tables.write(ledger.lift_hold(record))
    was = "no longer held" if record.hold and record.hold.in_force(app.clock()) else "not held"
    out([f"{was}: {escaped(container_id)}", "Next: editctl plan"])


@command(
    "pause",
    short_help="Let nothing happen to any container for a while.",
    examples="""
        editctl pause --for 30m --reason "table restore"
    """,
)
@_for
@_reason
@_by
def pause(app: App, for_: Millis, reason: str, by: str | None) -> None:
    """Freeze everything: nothing is started, drained or stopped. A later pause replaces an earlier one."""
    until = _until(app, for_)
    app.assembly.tables.set_pause(_who(by), reason, until)
    out([f"everything is paused until {app.screen.time(until, app.clock())}", "To end it earlier: editctl unpause"])


@command("unpause", short_help="Take the pause off.", examples="editctl unpause")
def unpause(app: App) -> None:
    """Take the pause off. It can be repeated."""
    was = app.assembly.tables.clear_pause()
    out(["no longer paused" if was else "not paused", "Next: editctl plan"])


def _until(app: App, for_: Millis) -> Millis:
    if not _SHORTEST <= for_ <= _LONGEST:
        raise ConfigError(
            f"--for is {duration(for_)}",
            f"it may be {duration(_SHORTEST)} to {duration(_LONGEST)}: what is frozen longer is forgotten",
            "give another --for, e.g. 4h, and renew it when it ends",
        )
    return app.clock() + for_


def _record(app: App, container_id: str) -> ContainerRecord:
    record = app.assembly.tables.get_record(container_id)
    if record is not None:
        return record
    known = {r.container_id for r in app.assembly.table_reader().read_records().records}
    raise unknown(container_id, known)


def _who(by: str | None) -> str:
    return by or f"{getpass.getuser()}@{socket.gethostname()}"
