"""What is released: one version, a wheel that installs anywhere, an agent that needs nothing else, a bill."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controller import __version__
from manifests import sbom
from tests.manifests.needs import ROOT, SLOW, missing

PROJECT: Mapping[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MADE_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

# pip on a busy machine; about 10 s of work each.
pytestmark = pytest.mark.timeout(300)


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command outside of the tree, so that only what is installed is found."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        command, cwd="/", env={**kept, **environment}, capture_output=True, text=True, check=False, timeout=240
    )


def pip(*arguments: str | Path) -> None:
    """Run this environment's pip; skip where no package index can be reached."""
    ended = run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments)
    if ended.returncode and re.search(r"NewConnectionError|Name or service|No matching distribution", ended.stderr):
        missing("nothing can be installed here", "no package index is reached")
    assert ended.returncode == 0, ended.stderr[-3000:]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Build the wheel from a copy, since building leaves things behind; nothing is fetched for it."""
    source = tmp_path / "source"
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        source.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "controller", source / "controller", ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", tmp_path, source)
    (found,) = tmp_path.glob("*.whl")
    return found


class Empty:
    """An empty environment; not even pip is in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        made = run(sys.executable, "-m", "venv", "--without-pip", folder)
        assert made.returncode == 0, made.stderr

    def install(self, *arguments: str | Path) -> None:
        """Install by this environment's pip, in the versions that are pinned."""
        pins = self.folder / "pins.txt"
        text = "".join((ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8") for name in ("dev", "cdk"))
        # The first of two pins holds: dev is what the package runs with.
        versions: dict[str, str] = {}
        for name, version in re.findall(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", text, re.MULTILINE):
            versions.setdefault(name, version)
        pins.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()), encoding="utf-8")
        pip("--python", self.folder, "install", "--quiet", "--no-compile", "--constraint", pins, *arguments)

    def program(self, name: str) -> Path:
        """Return one of its programs."""
        return self.folder / "bin" / name


@pytest.fixture
def empty(tmp_path: Path) -> Empty:
    """Return an environment in which there is nothing."""
    return Empty(tmp_path / "empty")


# The version


def test_the_version_is_in_one_place():
    assert PROJECT["dynamic"] == ["version"]
    assert "version" not in PROJECT
    assert re.fullmatch(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?", __version__)


def test_the_changelog_begins_with_this_version():
    titles = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert __version__ in titles[0]


# The wheel


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        metadata = packed.read(f"editctl-{__version__}.dist-info/METADATA").decode()
        scripts = packed.read(f"editctl-{__version__}.dist-info/entry_points.txt").decode()
    assert wheel.name == f"editctl-{__version__}-py3-none-any.whl"
    assert {name.partition("/")[0] for name in names} == {"controller", f"editctl-{__version__}.dist-info"}
    assert "controller/py.typed" in names
    packed_code = {name for name in names if name.endswith(".py")}
    assert packed_code == {
        str(path.relative_to(ROOT)) for path in (ROOT / "controller").rglob("*.py") if "__pycache__" not in path.parts
    }
    assert f"Version: {__version__}" in metadata
    assert "License-Expression: Apache-2.0" in metadata
    assert "editctl = controller.cli.main:main" in scripts


def test_the_wheel_works_in_an_empty_environment(wheel, empty):
    empty.install(wheel)
    assert run(empty.program("editctl"), "--version").stdout == f"editctl {__version__}\n"
    helped = run(empty.program("editctl"), "--help")
    assert helped.returncode == 0, helped.stderr
    assert "plan" in helped.stdout
    # Reaching for AWS and not finding it is a sentence of three lines.
    planned = run(empty.program("editctl"), "plan", AWS_REGION="", AWS_DEFAULT_REGION="")
    assert (planned.returncode, planned.stderr[:7]) == (1, "error: "), planned.stderr
    assert "No module named 'kopf'" in run(empty.program("python3"), "-c", "import kopf").stderr


EXTRAS = {
    "kubernetes": "import kopf, controller.aws.client",
    "local": "import controller.local.server",
    "cdk": "import aws_cdk, constructs",
}
"""What has to be there with each extra alone."""


def test_every_extra_is_tried():
    assert PROJECT["optional-dependencies"].keys() <= EXTRAS.keys()


@pytest.mark.skipif(not SLOW, reason="extras are not installed one by one: EDITCTL_SLOW_TESTS=1 does it")
@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_installs_alone(wheel, empty, extra):
    if extra not in PROJECT["optional-dependencies"]:
        pytest.skip(f"the package has no extra {extra}")
    empty.install(f"{wheel}[{extra}]")
    tried = run(empty.program("python3"), "-c", EXTRAS[extra])
    assert tried.returncode == 0, tried.stderr
    assert run(empty.program("editctl"), "--version").returncode == 0


# The agent: the standard library and two of our own modules


def test_the_agent_starts_where_nothing_else_is_installed(wheel, empty, tmp_path):
    pip("--python", empty.folder, "install", "--quiet", "--no-compile", "--no-deps", "--no-index", wheel)
    assert "No module named 'boto3'" in run(empty.program("python3"), "-c", "import boto3").stderr
    agent = [empty.program("python3"), "-c", "from controller.agent.main import main; main()"]
    if "edit-agent" in PROJECT["scripts"]:
        agent = [empty.program("edit-agent")]
    helped = run(*agent, "--help")
    assert helped.returncode == 0, helped.stderr
    assert "edit-agent run" in helped.stdout + helped.stderr
    folders = {"WORKSPACE_PATH": str(tmp_path / "workspace"), "EDIT_STATE_DIR": str(tmp_path / "state")}
    ran = run(*agent, "run", "--", "sh", "-c", "echo at work; exit 3", EDIT_SAVE_TO="none", **folders)
    assert ran.returncode == 3, ran.stderr
    assert "at work" in ran.stdout


# The bill of materials


def bill() -> dict[str, Any]:
    """Return this tree's bill."""
    return sbom.bill(sbom.pins(sbom.PINS.read_text(encoding="utf-8")), PROJECT, __version__, MADE_AT)


def test_the_bill_is_cyclonedx():
    found = bill()
    assert (found["bomFormat"], found["specVersion"], found["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(
        r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", found["serialNumber"]
    )
    assert found["metadata"]["timestamp"] == "2026-01-02T03:04:05Z"
    assert found["metadata"]["component"]["purl"] == f"pkg:pypi/editctl@{__version__}"
    for component in found["components"]:
        assert component.keys() >= {"type", "bom-ref", "name", "version", "purl", "licenses", "properties"}
        assert component["bom-ref"] == component["purl"] == f"pkg:pypi/{component['name']}@{component['version']}"
        (licence,) = component["licenses"]
        assert licence.keys() in ({"expression"}, {"license"})
        assert all(re.fullmatch(r"[0-9a-f]{64}", p["value"]) for p in component["properties"])
        assert component["properties"]


def test_the_bill_lists_what_the_image_holds():
    pinned = re.findall(r"^([a-z0-9][a-z0-9.-]*)==([^\s\\]+)", sbom.PINS.read_text(encoding="utf-8"), re.MULTILINE)
    assert [(c["name"], c["version"]) for c in bill()["components"]] == pinned


def test_the_bills_dependencies_are_a_whole():
    found = bill()
    ours = found["metadata"]["component"]["bom-ref"]
    refs = {ours, *(component["bom-ref"] for component in found["components"])}
    needs = {entry["ref"]: set(entry["dependsOn"]) for entry in found["dependencies"]}
    assert needs.keys() == refs
    assert all(on <= refs - {ref} for ref, on in needs.items())
    declared = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["kubernetes"]]
    names = {re.split(r"[\[<>=!~; ]", each, maxsplit=1)[0] for each in declared}
    assert {ref.partition("/")[2].partition("@")[0] for ref in needs[ours]} == names
    # Whatever is in the image is there because something needs it.
    reached, todo = set[str](), [ours]
    while todo:
        ref = todo.pop()
        if ref not in reached:
            reached.add(ref)
            todo += needs[ref]
    assert reached == refs


def test_the_same_release_gives_the_same_bill(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767323045")
    for name in ("one.json", "other.json"):
        assert sbom.main(str(tmp_path / name)) == 0
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "other.json").read_bytes()
    assert json.loads((tmp_path / "one.json").read_bytes()) == bill()
    assert "components" in capsys.readouterr().out
