"""Data, Runtime, Hints and Controller deployed on a second emulator of AWS, and the program run on what they made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from controller.assembly import Assembly, wall_clock
from controller.aws.client import ClientSettings, connect
from controller.config import Config, from_outputs
from controller.core.identity import ContainerIdentity
from tests.contract.engines import MISSING, PYTHON, Ministack
from tests.fakes.clock import FakeClock
from tests.manifests import templates
from tests.manifests.needs import ROOT, missing
from tests.manifests.permissions import REGION

TOM = ContainerIdentity("acme", "blog", "tom")

# What the emulator's CloudFormation does not know. Without these, and what needs them, the rest is deployed as it is.
UNKNOWN_TYPES = {
    "AWS::EC2::EIP",
    "AWS::EC2::NatGateway",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SecurityGroupIngress",
}

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the emulator in a process of its own; return its URL."""
    if not PYTHON.exists():
        missing("there is no second emulator", MISSING)
    emulator = Ministack(tmp_path_factory.mktemp("ministack"))
    yield emulator.url
    emulator.close()


@pytest.fixture(scope="module")
def printed(endpoint: str) -> dict[str, dict[str, str]]:
    """Deploy the stacks in their order; return what each printed."""
    cloudformation = boto3.client("cloudformation", region_name=REGION, endpoint_url=endpoint)
    given: Mapping[str, Mapping[str, str]] = {
        "data": {},
        "runtime": {"EditImage": "webordinary/edit-container:1"},
        "hints": {},
        "controller": {"ControllerImage": "webordinary/editctl:1"},
    }
    return {name: _deploy(cloudformation, name, parameters) for name, parameters in given.items()}


def _deploy(cloudformation: Any, name: str, parameters: Mapping[str, str]) -> dict[str, str]:
    stack = f"editctl-{name}"
    cloudformation.create_stack(
        StackName=stack,
        TemplateBody=json.dumps(deployable(f"new/{name}")),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})
    (found,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    return {o["OutputKey"]: o["OutputValue"] for o in found.get("Outputs", []) if "ExportName" not in o}


def deployable(name: str) -> dict[str, Any]:
    """Return a template without what the emulator does not know, and without what refers to that."""
    template: dict[str, Any] = json.loads(templates.text(name))
    resources = template["Resources"]
    left_out = {key for key, resource in resources.items() if resource["Type"] in UNKNOWN_TYPES}
    while more := {key for key, r in resources.items() if key not in left_out and set(_references(r)) & left_out}:
        left_out |= more
    template["Resources"] = {key: resource for key, resource in resources.items() if key not in left_out}
    return template


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for inner in value:
            yield from _references(inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key == "Ref":
                yield inner
            elif key == "Fn::GetAtt":
                yield inner[0]
            elif key == "DependsOn":
                yield from [inner] if isinstance(inner, str) else inner
            else:
                yield from _references(inner)


def test_little_is_left_out():
    """The routes of the private subnets lead through the NAT gateway; everything else is there."""
    for name in ("data", "hints", "controller"):
        assert deployable(f"new/{name}") == json.loads(templates.text(f"new/{name}"))
    whole, rest = templates.template("new/runtime").resources, deployable("new/runtime")["Resources"]
    without = {whole[key]["Type"] for key in whole.keys() - rest.keys()}
    assert without == UNKNOWN_TYPES | {"AWS::EC2::Route"}
    assert len(rest) >= len(whole) - 6


def test_the_stacks_print_what_is_documented(printed):
    assert {name: set(values) for name, values in printed.items()} == {
        name: set(templates.template(f"new/{name}").outputs) for name in printed
    }


def test_the_tables_are_as_the_program_wants_them(printed, endpoint):
    tables = _assembly(printed, endpoint).table_reader().preflight()
    assert set(tables) == {printed["data"][f"{kind}Table"] for kind in ("Sessions", "Containers", "Controller")}


def test_the_definition_is_as_the_program_wants_it(printed, endpoint):
    assembly = _assembly(printed, endpoint)
    assert assembly.preflight(to_start=True) == ()
    ecs: Any = assembly.clients.ecs
    definition = ecs.describe_task_definition(taskDefinition=printed["runtime"]["TaskDefinition"])["taskDefinition"]
    assert (definition["cpu"], definition["memory"], definition["networkMode"]) == ("1024", "2048", "awsvpc")
    assert "EditContainerTaskRole" in definition["taskRoleArn"]
    assert definition["containerDefinitions"][0]["stopTimeout"] == 120


def test_from_stacks_to_a_converged_fleet_and_back(printed, endpoint):
    """What a stack prints is all that is needed: a session starts a task, its end stops it."""
    # The emulator's tasks are made now; from there on the test's clock goes as it likes.
    clock = FakeClock(now=wall_clock())
    assembly = _assembly(printed, endpoint, clock)
    reconciler, sessions = assembly.reconciler(), assembly.registry()
    sessions.open("s1", TOM)

    def rest() -> None:
        quiet = 0
        for _ in range(40):
            quiet = 0 if reconciler.round().progressed else quiet + 1
            if quiet == 2:
                return
            clock.step(seconds=3)
        raise AssertionError("the controller does not come to rest")

    rest()
    container = sessions.get_or_create_container(TOM)
    ecs: Any = assembly.clients.ecs
    (task,) = ecs.describe_tasks(cluster=assembly.config.cluster, tasks=[container.task_arn], include=["TAGS"])["tasks"]
    assert {t["key"]: t["value"] for t in task["tags"]}["ContainerId"] == TOM.container_id
    sessions.release("s1")
    for _ in range(3):
        rest()
        clock.step(minutes=21)
    (task,) = ecs.describe_tasks(cluster=assembly.config.cluster, tasks=[container.task_arn])["tasks"]
    assert task["lastStatus"] == "STOPPED"


def test_the_commands_of_the_guide_lead_to_a_converged_fleet(printed, endpoint, tmp_path):
    """As docs/deploy.md has it, from what the stacks print to a plan with nothing to do."""
    editctl = _Commands(endpoint, tmp_path)
    assert editctl(
        "config", "--from-stack", "editctl-runtime", "--from-stack", "editctl-hints", "--write", "editctl.toml"
    )
    written = tomllib.loads((tmp_path / "editctl.toml").read_text(encoding="utf-8"))
    assert written["agent_port"] == "8642"
    assert written["cluster"] == printed["runtime"]["Cluster"]
    assert written["hint_queue_url"] == printed["hints"]["HintQueueUrl"]
    # Tasks of the emulator are rows, so no agent answers in them.
    file = tmp_path / "editctl.toml"
    kept = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("agent_port")]
    file.write_text("\n".join(kept), encoding="utf-8")
    assert editctl("session", "open", "s2", "--client", "acme", "--project", "shop", "--user", "eva")
    assert "+ start" in editctl("plan", status=2)
    editctl("apply", "--wait", "2m")
    assert "acme-shop-eva" in editctl("status")
    assert editctl("plan", status=0)


class _Commands:
    """The program as a person has it, in an empty folder."""

    def __init__(self, endpoint: str, folder: Path) -> None:
        self._folder = folder
        self._environment = {**os.environ, "AWS_ENDPOINT_URL": endpoint, "PYTHONPATH": str(ROOT)}

    def __call__(self, *arguments: str, status: int = 0) -> str:
        """Return what a command says."""
        command = [sys.executable, "-c", "from controller.cli.main import main; main()", *arguments]
        ended = subprocess.run(
            command, cwd=self._folder, env=self._environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == status, f"{arguments}: {ended.stdout}\n{ended.stderr}"
        return ended.stdout


def _assembly(printed: Mapping[str, Mapping[str, str]], endpoint: str, clock: FakeClock | None = None) -> Assembly:
    clients = connect(ClientSettings(region=REGION, endpoint_url=endpoint))
    found: dict[str, Any] = dict(from_outputs(printed["runtime"], "stack editctl-runtime"))
    # No agent answers here: tasks of the emulator are rows.
    config = Config(**{**found, "agent_port": None})
    return Assembly(config, clock=clock or FakeClock(), clients=clients)
