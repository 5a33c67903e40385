"""docs/deploy.md and docs/permissions.md against what they describe."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from controller.cli.main import COMMANDS
from controller.config import settings
from manifests.aws.policies import policy_names, trust_names
from manifests.aws.settings import Settings, context_key
from tests.manifests import templates
from tests.manifests.needs import ROOT

GUIDE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
PERMISSIONS = (ROOT / "docs" / "permissions.md").read_text(encoding="utf-8")


def section(title: str, text: str = GUIDE) -> str:
    """Return one section of a page."""
    found = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##? |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def table(text: str) -> list[list[str]]:
    """Return the rows of the first table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def code(text: str = GUIDE) -> list[str]:
    """Return the commands of a page, continued lines joined."""
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def test_the_outputs_are_those_that_the_stacks_print():
    listed = {cells[1].strip("`"): cells for cells in table(section("What the stacks print"))}
    printed: dict[str, set[str]] = {}
    for name in templates.names():
        for key in templates.template(name).outputs:
            printed.setdefault(key, set()).add(name.partition("/")[2])
    assert {key: set(cells[0].split(", ")) for key, cells in listed.items()} == printed
    variables = {"".join(word.capitalize() for word in s.name.split("_")): s.variable for s in settings()}
    for key, cells in listed.items():
        assert cells[2] == variables[key] if key in variables else not cells[2].startswith("EDITCTL_")


def test_the_context_is_the_one_that_the_app_reads():
    listed = {cells[0].strip("`"): cells[1] for cells in table(section("What can be chosen"))}
    assert list(listed) == [context_key(field.name) for field in fields(Settings)]
    for field in fields(Settings):
        default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default or "")
        assert listed[context_key(field.name)] == default.replace("()", ""), field.name


def test_the_templates_and_parameters_are_there():
    deployed = [line for line in code() if "cloudformation deploy" in line and "manifests/" in line]
    assert len(deployed) == 5
    for line in deployed:
        found = re.search(r"--template-file manifests/aws/templates/(\S+)\.json", line)
        assert found, line
        parameters = templates.template(found[1]).parameters
        given = set(re.findall(r"(\w+)=", line.partition("--parameter-overrides")[2]))
        assert given <= parameters.keys()
        assert {name for name, p in parameters.items() if "Default" not in p} <= given
        assert f"--stack-name editctl-{found[1].partition('/')[2]} " in line
        needs_iam = bool(templates.template(found[1]).of("IAM::Role"))
        assert ("--capabilities CAPABILITY_IAM" in line) is needs_iam


@pytest.mark.parametrize("page", ["deploy", "permissions"])
def test_the_commands_are_there(page):
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:\.venv/bin/|`)editctl ([a-z]+)", text))
    assert "plan" in named
    assert named <= {command for family in COMMANDS.values() for command in family}


def test_the_targets_are_there():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:^|`)make ([a-z]+)", GUIDE + PERMISSIONS, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


def test_every_policy_and_trust_is_explained():
    for name in (*policy_names(), *trust_names()):
        assert f"`{name}.json`" in PERMISSIONS


def test_the_links_lead_somewhere():
    for page in ("deploy", "permissions"):
        text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", text):
            assert (ROOT / "docs" / link).exists(), f"{page}.md: {link}"
