"""The overview, the help of each command, and how little is loaded for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from controller import __version__
from controller.cli.app import Command
from controller.cli.main import COMMANDS, cli
from controller.config import settings
from tests.cli.lab import Lab

ROOT = Path(__file__).parents[2]
NAMES = [name for family in COMMANDS.values() for name, entry in family.items() if entry.exists]


def commands() -> list[tuple[str, click.Command]]:
    """Return every command with its path."""
    found: list[tuple[str, click.Command]] = []
    for name in NAMES:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        if isinstance(command, click.Group):
            found += [(f"{name} {n}", c) for n, c in command.commands.items()]
        if isinstance(command, Command):
            found.append((name, command))
    return found


def test_the_overview_lists_every_command(lab: Lab) -> None:
    done = lab.editctl("--help")
    assert done.exit_code == 0
    assert all(f"  {name} " in done.stdout for name in NAMES)


def test_the_version(lab: Lab) -> None:
    assert lab.editctl("--version").stdout == f"editctl {__version__}\n"


@pytest.mark.parametrize(("path", "command"), commands(), ids=[path for path, _ in commands()])
def test_each_help_has_an_example_that_can_be_parsed(lab: Lab, path: str, command: click.Command) -> None:
    done = lab.editctl(*path.split(), "--help")
    assert done.exit_code == 0
    assert isinstance(command, Command)
    examples = [line.strip() for line in command.examples.strip().splitlines()]
    assert examples
    for example in examples:
        assert f"editctl {path}" in example
        assert f"  {example}\n" in done.stdout


@pytest.mark.parametrize(("path", "command"), commands(), ids=[path for path, _ in commands()])
def test_each_json_has_a_schema(path: str, command: click.Command) -> None:
    if any("--json" in p.opts for p in command.params):
        name = f"{path.replace(' ', '-')}.json"
        assert (ROOT / "docs" / "schemas" / name).exists()
        assert any(f'"{name[:-5]}")' in test.read_text(encoding="utf-8") for test in Path(__file__).parent.glob("*.py"))


def test_the_settings_are_flags_of_the_commands(lab: Lab) -> None:
    text = lab.editctl("plan", "--help").stdout
    assert all(s.flag in text for s in settings() if s.has_flag)
    assert "--channel-secret " not in text


@pytest.mark.parametrize(
    ("args", "unwanted"),
    [
        (["--help"], ["boto3", "botocore", "pydantic", "rich", "moto", "controller.core.plan"]),
        (["plan", "--help"], ["boto3", "botocore", "rich", "moto"]),
        (["config"], ["boto3", "botocore", "rich", "moto"]),
    ],
)
def test_help_loads_little(args: list[str], unwanted: list[str]) -> None:
    code = (
        "import sys\nfrom controller.cli.main import cli\n"
        f"try:\n    cli.main({args!r})\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {unwanted!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr.strip() == "[]"


def test_a_reader_that_goes_away_is_no_error(lab: Lab) -> None:
    code = "from controller.cli.main import main; main()"
    command = [sys.executable, "-c", code, "config"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
