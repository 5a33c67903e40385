"""`editctl config`: every setting, its value, and where the value came from."""

from __future__ import annotations

import os

import click

from controller.cli import documents, render, settingsfile
from controller.cli.app import App, command, family
from controller.cli.screen import Screen, escaped, out, padded
from controller.config import Loaded, Setting, from_outputs, settings, shown, toml_line
from controller.core.words import counted
from controller.errors import ConfigError


@family(
    "config",
    short_help="Every setting, its value and where it came from.",
    examples="""
        editctl config
        editctl config --explain
        editctl config --from-stack editctl-runtime --write editctl.toml
        EDITCTL_IDLE_TIMEOUT=1h editctl config --json
    """,
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON (docs/schemas/config.json).")
@click.option("--explain", "meanings", is_flag=True, help="Say what each setting means.")
@click.option("--from-stack", "stacks", metavar="NAME", multiple=True, help="Read settings from a stack's outputs.")
@click.option("--write", "file", metavar="FILE", help="Write them into a file, e.g. editctl.toml.")
def config(app: App, as_json: bool, meanings: bool, stacks: tuple[str, ...], file: str | None) -> None:
    """Show every setting with its value and source: flag, environment, file, profile local, default.

    AWS access is boto3's own: profiles, AWS_REGION, AWS_ENDPOINT_URL and so on.

    --from-stack reads what a CloudFormation stack prints under the names of settings (Cluster, Subnets, SessionsTable,
    ...), checks it and shows it as editctl.toml. --write puts it into a file instead, and leaves the file's other
    settings as they are; both can be repeated.
    """
    if stacks:
        _from_stacks(app, stacks, file)
        return
    if file is not None:
        raise ConfigError("--write goes with --from-stack", "nothing else is written", "give --from-stack NAME")
    loaded = app.loaded
    if as_json:
        out([documents.text(_document(loaded))])
        return
    rows = [(s.variable, escaped(_value(loaded, s)), loaded.sources[s.name]) for s in settings()]
    if meanings:
        out(_explained(rows, app.screen), app.screen.color)
        return
    out(render.table(("SETTING", "VALUE", "FROM"), rows, app.screen), app.screen.color)
    out([_aws(), "What each means: editctl config --explain"])


@command(
    "accept",
    short_help="Say that these are the right tables and cluster.",
    examples="""
        editctl config accept
    """,
)
def accept(app: App) -> None:
    """Keep the ids of the tables and of the cluster as those that are right, after WrongWorld. It can be repeated.

    Look at `editctl config` first: a table that was deleted and made again, or one of another region, holds no
    sessions, and containers are stopped by that.
    """
    changed = app.assembly.accept_world()
    out([f"~ {escaped(sentence)}" for sentence in changed] or ["= the tables and the cluster are those seen first"])
    out(["Accepted." if changed else "Nothing to accept.", "Next: editctl plan"])


config.add_command(accept)


def _from_stacks(app: App, stacks: tuple[str, ...], file: str | None) -> None:
    values: dict[str, str] = {}
    for stack in stacks:
        found = from_outputs(app.assembly.stack_outputs(stack), f"stack {stack}")
        if not found:
            raise ConfigError(
                f"stack '{stack}' prints no setting",
                "none of its outputs has the name of one, such as Cluster or SessionsTable",
                "name the stack of the controller with --from-stack",
            )
        values |= found
    ordered = {s.name: values[s.name] for s in settings() if s.name in values}
    if file is None:
        out([f"# from {', '.join(escaped(s) for s in stacks)}", *(toml_line(n, v) for n, v in ordered.items())])
        return
    changed = settingsfile.write(file, ordered)
    out([f"~ {name}" for name in changed] or [f"= {escaped(file)} says so already"])
    out([f"{counted(len(changed), 'setting')} written to {escaped(file)}", f"Next: editctl plan --config {file}"])


def _explained(rows: list[tuple[str, str, str]], screen: Screen) -> list[str]:
    lines = []
    for setting, (variable, value, source) in zip(settings(), rows, strict=True):
        flag = f"{setting.flag} {setting.takes}" if setting.has_flag else "no flag"
        lines += [screen.paint(variable, bold=True)]
        lines += screen.wrapped(setting.description, "    ", "    ")
        lines += [f"    {padded(value, 24)}  {source}; {flag}"]
    return lines


def _aws() -> str:
    names = ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")
    given = [f"{name}={escaped(os.environ[name])}" for name in names if os.environ.get(name)]
    return f"AWS: {', '.join(given)}" if given else "AWS: as boto3 finds it"


def _value(loaded: Loaded, setting: Setting) -> str:
    return shown(getattr(loaded.config, setting.name), setting.takes)


def _document(loaded: Loaded) -> dict[str, object]:
    return {
        "version": documents.VERSION,
        "settings": {
            s.name: {
                "value": _value(loaded, s),
                "source": loaded.sources[s.name],
                "environment": s.variable,
                "flag": s.flag if s.has_flag else None,
                "description": s.description,
            }
            for s in settings()
        },
    }
