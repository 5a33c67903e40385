"""`editctl`: the commands by name, loaded when they are asked for."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from controller import __version__
from controller.cli.app import ERROR, FINE, App, Command, fail


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command is, and what the overview says of it."""

    module: str
    attribute: str
    help: str

    @property
    def exists(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    def load(self) -> click.Command:
        loaded: click.Command = getattr(importlib.import_module(self.module), self.attribute)
        return loaded


def _entry(module: str, attribute: str, text: str) -> Entry:
    return Entry(f"controller.cli.{module}", attribute, text)


# A new command is one line here; a module that is not there is not listed.
COMMANDS: dict[str, dict[str, Entry]] = {
    "Look": {
        "plan": _entry("plan", "plan", "what would be done now, and why; changes nothing"),
        "status": _entry("status", "status", "the containers and what happens next"),
        "explain": _entry("status", "explain", "why one container is as it is"),
        "logs": _entry("tasks", "logs", "where a container logs"),
    },
    "Act": {
        "apply": _entry("apply", "apply", "do what plan shows, and wait until it is done"),
        "run": _entry("run", "run", "keep doing it"),
        "drain": _entry("drain", "drain", "save and stop one container"),
        "restart": _entry("drain", "restart", "replace a container by one of the newest revision"),
        "adopt": _entry("tasks", "adopt", "mark a task as this controller's"),
        "hold": _entry("hold", "hold", "let nothing happen to one container for a while"),
        "unhold": _entry("hold", "unhold", "take the hold off"),
        "pause": _entry("hold", "pause", "let nothing happen to any container for a while"),
        "unpause": _entry("hold", "unpause", "take the pause off"),
    },
    "Sessions": {
        "session": _entry("session", "session", "open, touch, release and list sessions; get a container"),
    },
    "Set up": {
        "tables": _entry("tables", "tables", "make the tables"),
        "config": _entry("config", "config", "every setting, its value and where it came from"),
        "crd": _entry("crd", "crd", "print the Kubernetes resource that declares containers"),
        "completion": _entry("completion", "completion", "let a shell complete the commands"),
        "local": _entry("local", "local", "AWS on this machine, to try things"),
        "demo": _entry("demo", "demo", "the whole story on this machine"),
    },
}


class Overview(click.Group):
    """The commands of COMMANDS, and errors as three lines with exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for family in COMMANDS.values() for name, entry in family.items() if entry.exists]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = next((family[cmd_name] for family in COMMANDS.values() if cmd_name in family), None)
        return entry.load() if entry and entry.exists else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f"did you mean editctl {near[0]}?" if near else ""
            raise click.UsageError(f"there is no command '{args[0]}'. {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(len(name) for name in self.list_commands(ctx))
        for family, entries in COMMANDS.items():
            rows = [(name.ljust(width), entry.help) for name, entry in entries.items() if entry.exists]
            if rows:
                with formatter.section(family):
                    formatter.write_dl(rows)

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> None:
        app = extra.pop("obj", None) or App()
        extra["standalone_mode"] = False
        sys.exit(self._code(args, prog_name or "editctl", app, extra))

    def _code(self, args: Sequence[str] | None, prog_name: str, app: App, extra: dict[str, Any]) -> int:
        try:
            code = super().main(args=args, prog_name=prog_name, obj=app, **extra)
        except click.exceptions.Exit as done:
            return done.exit_code
        except Exception as error:
            # A bug is said in three lines, too: whoever wants its traceback asks for it.
            return fail(error, app)
        return code if isinstance(code, int) else FINE


@click.group(
    "editctl", cls=Overview, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True
)
@click.version_option(__version__, prog_name="editctl", message="%(prog)s %(version)s")
@click.option("--config", "config_file", metavar="FILE", help="Configuration file instead of ./editctl.toml.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, config_file: str | None, debug: bool) -> int:
    """Keep the edit containers on ECS as the sessions want them.

    `editctl plan` shows what would be done and why, `editctl apply` does it once, `editctl run` does it always.

    \b
    Exit codes: 0 fine, 1 any error, 2 only from plan: there are changes.
    """
    app = ctx.ensure_object(App)
    app.config_file, app.debug = config_file, debug
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return ERROR
    return FINE


def main() -> None:
    """Run editctl with the arguments of this process."""
    cli.main()


__all__ = ["COMMANDS", "Command", "cli", "main"]
