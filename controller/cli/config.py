"""`editctl config`: every setting, its value, and where the value came from."""

from __future__ import annotations

import os

import click

from controller.cli import documents, render
from controller.cli.app import App, command
from controller.cli.screen import Screen, escaped, out, padded
from controller.config import Loaded, Setting, settings, shown


@command(
    "config",
    short_help="Every setting, its value and where it came from.",
    examples="""
        editctl config
        editctl config --explain
        EDITCTL_IDLE_TIMEOUT=1h editctl config --json
    """,
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON (docs/schemas/config.json).")
@click.option("--explain", "meanings", is_flag=True, help="Say what each setting means.")
def config(app: App, as_json: bool, meanings: bool) -> None:
    """Show every setting with its value and source: flag, environment, file, profile local, default.

    AWS access is boto3's own: profiles, AWS_REGION, AWS_ENDPOINT_URL and so on.
    """
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
