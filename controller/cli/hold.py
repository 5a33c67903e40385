"""`editctl hold`, `unhold`, `pause` and `unpause`: an operator's word that nothing is to happen."""

from __future__ import annotations

import getpass
import socket

import click

from controller.cli.app import App, command
from controller.cli.options import DURATION
from controller.cli.plan import look
from controller.cli.screen import escaped, out
from controller.cli.session import identity_of, identity_options
from controller.cli.status import near, unknown
from controller.core import ledger
from controller.core.identity import ContainerIdentity, split_container_id
from controller.core.model import DAY, MINUTE, ContainerRecord, Millis
from controller.core.words import duration
from controller.errors import ConditionFailed, ConfigError, IdentityConflict

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
        editctl hold --client acme --project my-blog --user tom --reason "not before the migration"
    """,
)
@click.argument("container_id", metavar="[CONTAINER]", required=False)
@identity_options
@_for
@_reason
@_by
def hold(
    app: App,
    container_id: str | None,
    client: str | None,
    project: str | None,
    user: str | None,
    for_: Millis,
    reason: str,
    by: str | None,
) -> None:
    """Freeze one container: it is neither started, drained nor stopped. A drain that has begun is cancelled.

    Counts are still repaired. A later hold replaces an earlier one. One that has no record yet gets one, so that it
    can be held before its first session.
    """
    until = _until(app, for_)
    named = identity_of(None, client, project, user) if client or project or user else None
    if named is not None and container_id not in (None, named.container_id):
        raise ConfigError(
            f"'{container_id}' is not the id of {named}",
            f"theirs is {named.container_id}",
            "give the container id, or --client, --project and --user",
        )
    container_id = named.container_id if named else container_id
    if container_id is None:
        raise click.UsageError("Missing argument 'CONTAINER'", click.get_current_context())
    _hold(app, container_id, named, (_who(by), reason, until))
    out([f"held until {app.screen.time(until, app.clock())}: {escaped(container_id)}"])
    out([f"To end it earlier: editctl unhold {escaped(container_id)}"])


def _hold(app: App, container_id: str, named: ContainerIdentity | None, words: tuple[str, str, Millis]) -> None:
    tables = app.assembly.tables
    record = tables.get_record(container_id)
    if record is None:
        identity = named or _unrecorded(app, container_id)
        try:
            tables.write(ledger.hold_new(identity, *words))
            return
        except ConditionFailed:
            # Somebody made the record in this moment.
            record = tables.get_record(container_id)
    if record is None:
        raise unknown(container_id, ())
    if named is not None and record.identity not in (None, named):
        raise IdentityConflict(
            f"{container_id} belongs to {record.identity}", f"not to {named}", "hold it by its container id"
        )
    tables.write(ledger.set_hold(record, *words))


def _unrecorded(app: App, container_id: str) -> ContainerIdentity:
    """Return whose container that is of which there is no record; an id that may be mistyped is not guessed at."""
    known = {a.container_id: a.identity for a in look(app).plan.actions}
    identity = known.get(container_id) or split_container_id(container_id)
    if container_id not in known and near(container_id, known):
        raise unknown(container_id, known, "hold one that is not there yet by --client, --project and --user")
    return identity or identity_of(container_id, None, None, None)


@command("unhold", short_help="Take the hold off a container.", examples="editctl unhold acme-blog-tom@acme.com")
@click.argument("container_id", metavar="CONTAINER")
def unhold(app: App, container_id: str) -> None:
    """Take the hold off a container. It can be repeated."""
    record = app.assembly.tables.get_record(container_id) or ContainerRecord(container_id)
    if record.hold is None:
        _check_known(app, container_id)
    else:
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


def _check_known(app: App, container_id: str) -> None:
    known = {a.container_id for a in look(app).plan.actions}
    if container_id not in known:
        raise unknown(container_id, known)


def _who(by: str | None) -> str:
    return by or f"{getpass.getuser()}@{socket.gethostname()}"
