"""The templates that are checked in are those that the app writes, and CloudFormation's linter has nothing to say."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from manifests.aws.settings import ContextError, Settings, context_key, from_pairs, read
from tests.manifests import templates
from tests.manifests.needs import ROOT, SLOW, missing, program

HOW = "`make synth` sets it up"
# Node and the Python of an environment of its own start slowly on a busy machine; about 12 s of work.
pytestmark = pytest.mark.timeout(240)


def test_the_templates_are_what_the_app_writes(tmp_path):
    _run(program(".venv-cdk", "python", HOW), "-m", "manifests.aws.synth", str(tmp_path))
    written = {f"{path.parent.name}/{path.stem}": path for path in tmp_path.glob("*/*.json")}
    assert sorted(written) == templates.names()
    for name, path in written.items():
        assert path.read_text(encoding="utf-8") == templates.text(name), f"{name} has drifted: make synth"


def test_the_linter_is_content():
    files = sorted(str(path) for path in templates.FOLDER.glob("*/*.json"))
    assert len(files) == len(templates.names())
    _run(program(".venv-cdk", "cfn-lint", HOW), *files)


@pytest.mark.skipif(not SLOW, reason="no installation of one's own is synthesised: EDITCTL_SLOW_TESTS=1 does it")
def test_an_installation_of_ones_own(tmp_path):
    own = ["-c", "existingTables=true", "-c", "vpcId=vpc-00000001", "-c", "subnets=subnet-00000001", "-c", "prefix=b"]
    _run(program(".venv-cdk", "python", HOW), "-m", "manifests.aws.synth", str(tmp_path), *own)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["controller.json", "eks.json", "runtime.json"]
    outputs = json.loads((tmp_path / "runtime.json").read_text(encoding="utf-8"))["Outputs"]
    assert outputs["Subnets"]["Value"] == "subnet-00000001"


def _run(command: Path, *arguments: str) -> None:
    if not any(Path(folder, "node").exists() for folder in os.environ.get("PATH", "").split(os.pathsep)):
        missing("there is no node", "the CDK needs one to run on")
    # The library unpacks itself once, and into HOME if it is not told better: 300 MB, for each test anew.
    environment = {**os.environ, "JSII_RUNTIME_PACKAGE_CACHE_ROOT": str(ROOT / ".venv-cdk" / ".jsii")}
    ended = subprocess.run(
        [command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, f"{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"


# The context


def test_a_context_says_what_is_to_be():
    given: dict[str, Any] = {
        "existingTables": "true",
        "sessionsTable": "s",
        "natGateways": "0",
        "vpcId": None,
        "agentPort": 9000,
    }
    found = read(lambda key: given.get(key))
    assert (found.existing_tables, found.sessions_table, found.nat_gateways, found.agent_port) == (True, "s", 0, 9000)
    assert found.assign_public_ip == "ENABLED"
    assert read(lambda key: None) == Settings()


@pytest.mark.parametrize("given", ["subnet-1, subnet-2", ["subnet-1", "subnet-2"]])
def test_subnets_are_a_list(given):
    assert read({"vpcId": "vpc-1", "subnets": given}.get).subnets == ("subnet-1", "subnet-2")


@pytest.mark.parametrize(
    ("context", "sentence"),
    [
        ({"existingTables": "yes"}, "existingTables is 'yes': it is true or false"),
        ({"agentPort": "high"}, "agentPort is 'high': it is a number"),
        ({"agentPort": "99999"}, "agentPort is 99999"),
        ({"vpcId": "vpc-1"}, "subnets is not"),
        ({"subnets": "subnet-1"}, "vpcId is not"),
        ({"oidcIssuer": "https://oidc.example"}, "without"),
    ],
)
def test_a_context_that_cannot_be_is_refused(context, sentence):
    with pytest.raises(ContextError, match=sentence):
        read(lambda key: context.get(key))


def test_a_mistyped_key_is_refused():
    assert from_pairs(["vpcId=vpc-1", "subnets=a,b"]) == {"vpcId": "vpc-1", "subnets": "a,b"}
    with pytest.raises(ContextError, match="did you mean existingTables"):
        from_pairs(["existingTabels=true"])
    with pytest.raises(ContextError, match="there is no 'x'"):
        from_pairs(["x=1"])


def test_the_keys_of_the_context_are_written_as_there():
    assert context_key("existing_tables") == "existingTables"
    assert context_key("cluster") == "cluster"
