"""What every command stands on: the settings as flags, the assembly, and how errors are said."""

from __future__ import annotations

import textwrap
import traceback
from collections.abc import Callable, Iterable
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from controller.cli.screen import Screen, escaped, say, screen
from controller.core.model import Millis
from controller.errors import EditctlError

if TYPE_CHECKING:
    from controller.assembly import Assembly
    from controller.config import Loaded

_F = TypeVar("_F", bound=Callable[..., Any])

FINE = 0
ERROR = 1
CHANGES = 2


class App:
    """One call of editctl: what was asked for beside the command, and the parts, made when they are needed."""

    def __init__(self) -> None:
        self.debug = False
        self.config_file: str | None = None
        self.flags: dict[str, str] = {}

    @cached_property
    def loaded(self) -> Loaded:
        """The settings with their sources. What is odd about them is said once, on standard error."""
        from controller.config import load

        loaded = load(self.flags, file=self.config_file)
        for warning in loaded.warnings:
            say(f"warning: {escaped(warning)}")
        if loaded.from_profile:
            say(_announcement(loaded))
        return loaded

    @cached_property
    def assembly(self) -> Assembly:
        """The parts of this installation."""
        from controller.assembly import Assembly

        return Assembly(
            self.loaded.config, clock=self.clock, wait=self.wait, local=self.loaded.local_endpoint is not None
        )

    @cached_property
    def screen(self) -> Screen:
        """Where the answer goes."""
        return screen()

    def clock(self) -> Millis:
        """Return the time in epoch milliseconds."""
        from controller.assembly import wall_clock

        return wall_clock()

    def wait(self, seconds: float) -> None:
        """Wait."""
        import time

        time.sleep(seconds)


def _announcement(loaded: Loaded) -> str:
    from controller.config import settings, shown

    filled = [
        f"{s.name.replace('_', ' ')} {shown(getattr(loaded.config, s.name), s.takes)}"
        for s in settings()
        if s.name in loaded.from_profile
    ]
    return f"profile local ({loaded.local_endpoint}): {', '.join(filled)}, any credentials"


class Problems(Exception):
    """Several things that a person can act on, each as three lines."""

    def __init__(self, errors: Iterable[EditctlError]) -> None:
        super().__init__()
        self.errors = tuple(errors)


def error_lines(error: EditctlError) -> list[str]:
    """Return the error as it is shown: what failed, and indented why and what to do."""
    first, *rest = (escaped(line) for line in error.lines())
    return [f"error: {first}", *(f"  {line}" for line in rest)]


def fail(error: BaseException, app: App) -> int:
    """Say what went wrong and return the exit code."""
    if app.debug:
        say("".join(traceback.format_exception(error)).rstrip())
    for line in _lines(error):
        say(line)
    return ERROR


def _lines(error: BaseException) -> list[str]:
    if isinstance(error, Problems):
        return [line for one in error.errors for line in error_lines(one)]
    if isinstance(error, EditctlError):
        return error_lines(error)
    if isinstance(error, click.ClickException):
        return error_lines(_usage(error))
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return ["interrupted"]
    return error_lines(
        EditctlError(
            f"unexpected {type(error).__name__}: {str(error)[:300]}",
            "this is a fault of editctl",
            "run it again with --debug for the details",
        )
    )


def _usage(error: click.ClickException) -> EditctlError:
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "editctl"
    message = " ".join(error.format_message().split()).rstrip(".")
    what, _, hint = message.partition(". ")
    hint = _lowered(hint.strip("()"))
    usage = " ".join(context.get_usage().split()).replace("Usage:", "usage:") if context else ""
    return EditctlError(_lowered(what), hint or usage, f"{path} --help says more")


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


# The settings as flags


class SettingOption(click.Option):
    """A flag that stands for a setting. It is not listed in the help of each command; `editctl config` lists them."""


class Command(click.Command):
    """A command with examples, whose setting flags are named in one paragraph."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # The usage line names the arguments.
        own = [p for p in self.get_params(ctx) if isinstance(p, click.Option) and not isinstance(p, SettingOption)]
        records = [record for p in own if (record := p.get_help_record(ctx)) is not None]
        if records:
            with formatter.section("Options"):
                formatter.write_dl(records)
        settings = [p.opts[0] for p in self.params if isinstance(p, SettingOption)]
        if settings:
            with formatter.section("Settings as flags (editctl config --explain says what they mean)"):
                # Not write_text: it would break the flags at their hyphens.
                indent = " " * formatter.current_indent
                wrapped = textwrap.wrap(
                    " ".join(settings),
                    formatter.width,
                    initial_indent=indent,
                    subsequent_indent=indent,
                    break_on_hyphens=False,
                )
                formatter.write("\n".join(wrapped) + "\n")

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line.strip()}\n")


class Family(Command, click.Group):
    """A command that does something by itself and has others below it."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


def family(name: str, **kwargs: Any) -> Callable[[_F], Family]:
    """Make a function a command with others below it; it is called only when none of them is."""
    return cast("Callable[[_F], Family]", command(name, cls=Family, invoke_without_command=True, **kwargs))


def command(
    name: str, *, examples: str = "", settings: bool = True, cls: type[Command] = Command, **kwargs: Any
) -> Callable[[_F], Command]:
    """Make a function a command. It is called with the App, then with its own options and arguments.

    With settings each setting that may be a flag is one.
    """

    def decorate(function: _F) -> Command:
        def call(**values: Any) -> Any:
            app = click.get_current_context().ensure_object(App)
            flags = {name: values.pop(name) for name in names}
            app.flags.update({name: value for name, value in flags.items() if value is not None})
            app.debug |= values.pop("debug")
            app.config_file = values.pop("config_file") or app.config_file
            if click.get_current_context().invoked_subcommand is not None:
                return None
            return function(app, **values)

        extra = [*(_setting_options() if settings else ()), *_common_options()]
        names = [o.name or "" for o in extra if isinstance(o, SettingOption)]
        made: Command = click.command(name, cls=cls, examples=examples, **kwargs)(update_wrapper(call, function))
        made.params += extra
        return made

    return decorate


def _setting_options() -> list[click.Parameter]:
    from controller.config import settings

    return [SettingOption([s.flag, s.name], metavar=s.takes, help=s.description) for s in settings() if s.has_flag]


def _common_options() -> list[click.Parameter]:
    return [
        click.Option(["--config", "config_file"], metavar="FILE", help="Configuration file instead of ./editctl.toml."),
        click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
    ]
