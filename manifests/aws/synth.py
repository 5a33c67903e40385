"""Writes templates: those that are checked in, or with `-c key=value` those of an installation of one's own.

Checked in are two installations: one that makes everything, and one that takes tables, cluster and VPC as they are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from aws_cdk import App

from manifests.aws.settings import ContextError, Settings, from_pairs, read
from manifests.aws.stacks import build

TEMPLATES = Path(__file__).parent / "templates"

INSTALLATIONS = {
    "new": Settings(),
    "existing": Settings(
        existing_cluster=True,
        existing_tables=True,
        sessions_stream="arn:aws:dynamodb:eu-west-1:123456789012:table/webordinary-edit-sessions/stream/label",
        containers_stream="arn:aws:dynamodb:eu-west-1:123456789012:table/webordinary-containers/stream/label",
        vpc_id="vpc-00000000",
        subnets=("subnet-0000000a", "subnet-0000000b"),
        family_per_project=True,
        oidc_issuer="oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE",
        alarm_topic="arn:aws:sns:eu-west-1:123456789012:example",
    ),
}
"""What the templates show. `new` can be deployed as it is; `existing` is an example with made-up names."""


def templates(settings: Settings) -> dict[str, Any]:
    """Return the templates of an installation by their stacks' short names."""
    with tempfile.TemporaryDirectory() as folder:
        app = App(outdir=folder, analytics_reporting=False)
        stacks = build(app, settings)
        assembly = app.synth()
        return {name: assembly.get_stack_by_name(stack.stack_name).template for name, stack in stacks.items()}


def text(template: dict[str, Any]) -> str:
    """Return the one text of a template."""
    return json.dumps(template, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write(made: dict[str, dict[str, Any]], folder: Path) -> None:
    """Write an installation's templates into a folder, and remove those that are of no stack any more."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, template in made.items():
        (folder / f"{name}.json").write_text(text(template), encoding="utf-8")
    for path in folder.glob("*.json"):
        if path.stem not in made:
            path.unlink()


def main(*arguments: str) -> int:
    """Write the checked-in templates, or those that a context asks for; 1 when the context is wrong."""
    parser = argparse.ArgumentParser(prog="python -m manifests.aws.synth")
    parser.add_argument("folder", nargs="?", type=Path, help="default: manifests/aws/templates, with -c cdk.out")
    parser.add_argument("-c", dest="context", metavar="KEY=VALUE", action="append", default=[], help="docs/deploy.md")
    given = parser.parse_args(arguments)
    if not given.context:
        for installation, settings in INSTALLATIONS.items():
            write(templates(settings), (given.folder or TEMPLATES) / installation)
        return 0
    try:
        settings = read(from_pairs(given.context).get)
    except ContextError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    folder = given.folder or Path("cdk.out")
    write(templates(settings), folder)
    sys.stdout.write(f"{folder}: {', '.join(sorted(path.name for path in folder.glob('*.json')))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
