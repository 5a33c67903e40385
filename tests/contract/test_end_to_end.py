"""The program as a person runs it, with unchanged code, against any endpoint: AWS_ENDPOINT_URL is all that differs.

Each command is a process of its own. What ends a container is old enough: rows are given old times by boto3, and the
ten seconds of the shortest idle timeout since the launch pass by themselves while the story goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from controller.local.lifecycle import Timings
from controller.local.server import LocalEndpoint
from tests.contract.engines import Engine

ENGINES = ("local", "ministack")

EDITCTL = Path(sys.executable).with_name("editctl")
AWS = shutil.which("aws")
CLUSTER = "webordinary"
CONTAINER = "acme-blog-tom"
SHORTEST, USUAL = "10s", "20m"
NOTHING_TO_DO, CHANGES = 0, 2
HOUR_MS = 3_600_000
# Looks at what is under way, and seconds between two: four times the idle timeout.
LOOKS = 160
PAUSE = 0.25

# A command takes half a second to start, on a busy machine several.
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def local() -> Iterator[Engine]:
    """Return the local endpoint on this machine's time: the commands have no other."""
    with LocalEndpoint(timings=Timings.fast()) as endpoint:
        yield Engine("local", endpoint.url, endpoint.account)


class Shell:
    """A shell in an empty folder in which AWS_ENDPOINT_URL names an engine."""

    def __init__(self, engine: Engine, folder: Path, idle_timeout: str) -> None:
        self._folder = folder
        self._environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": engine.account,
            "AWS_ENDPOINT_URL": engine.url,
            "AWS_MAX_ATTEMPTS": "1",
            "EDITCTL_IDLE_TIMEOUT": idle_timeout,
            "EDITCTL_METRICS_ADDRESS": "127.0.0.1:0",
            "EDITCTL_POLL": "1s",
        }

    def editctl(self, *command: str, code: int = 0) -> str:
        """Return what a command of editctl printed; it has to end with this code."""
        ran = self.run(str(EDITCTL), *command)
        assert ran.returncode == code, f"editctl {' '.join(command)}: {ran.returncode}\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    def plan(self) -> tuple[int, list[tuple[str, str, str]]]:
        """Return the exit code of `plan`, and action, container and reason of each decision but to keep."""
        ran = self.run(str(EDITCTL), "plan", "--json")
        assert ran.returncode in (NOTHING_TO_DO, CHANGES), ran.stdout + ran.stderr
        actions = json.loads(ran.stdout)["actions"]
        shown = [(each["action"], each["containerId"], each["reason"]) for each in actions if each["action"] != "keep"]
        return ran.returncode, shown

    @contextmanager
    def controller(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the controller meanwhile; it has to end well when it is told to."""
        with (self._folder / "run.log").open("wb") as log:
            process = subprocess.Popen(
                [str(EDITCTL), "run"], cwd=self._folder, env=self._environment, stdout=log, stderr=log
            )
        try:
            yield process
            process.terminate()
            assert process.wait(30) == 0, self.log()
        finally:
            process.kill()
            process.wait()

    def log(self) -> str:
        """Return what the controller wrote."""
        return (self._folder / "run.log").read_text()

    def aws(self, *command: str) -> dict[str, Any]:
        """Return what `aws ecs …` printed."""
        ran = self.run(str(AWS), "--output", "json", "ecs", *command)
        assert ran.returncode == 0, ran.stderr
        printed: dict[str, Any] = json.loads(ran.stdout)
        return printed

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            command, cwd=self._folder, env=self._environment, capture_output=True, text=True, timeout=60
        )


@pytest.fixture
def shell(engine: Engine, tmp_path: Path) -> Shell:
    """Return a shell for the engine, with the shortest idle timeout there is."""
    return Shell(engine, tmp_path, SHORTEST)


def tasks(engine: Engine, desired_status: str) -> list[dict[str, Any]]:
    """Return the tasks of a desired status."""
    ecs = engine.client("ecs")
    arns = ecs.list_tasks(cluster=CLUSTER, desiredStatus=desired_status)["taskArns"]
    found: list[dict[str, Any]] = ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"] if arns else []
    return found


def record(engine: Engine) -> dict[str, Any]:
    """Return the record of the container, DynamoDB JSON."""
    key = {"containerId": {"S": CONTAINER}}
    found: dict[str, Any] = engine.client("dynamodb").get_item(TableName="webordinary-containers", Key=key)["Item"]
    return found


def make_old(engine: Engine, *attributes: str, table: str = "webordinary-containers", **key: str) -> None:
    """Move times of a row an hour into the past, as if nobody had done anything since."""
    engine.client("dynamodb").update_item(
        TableName=table,
        Key={name: {"S": value} for name, value in key.items()},
        UpdateExpression="SET " + ", ".join(f"{name} = :old" for name in attributes),
        ExpressionAttributeValues={":old": {"N": str(time.time_ns() // 1_000_000 - HOUR_MS)}},
    )


def test_from_nothing_to_a_container_and_back(engine: Engine, shell: Shell) -> None:
    made = shell.editctl("tables", "create")
    assert made.count("+ made") == 5
    assert shell.editctl("tables", "create").count("= there") == 5

    # Nothing there, nothing to do.
    assert shell.plan() == (NOTHING_TO_DO, [])
    shell.editctl("apply")
    assert shell.plan() == (NOTHING_TO_DO, [])

    # Somebody comes.
    shell.editctl("session", "open", "s1", "--client", "acme", "--project", "blog", "--user", "tom")
    assert shell.plan() == (CHANGES, [("start", CONTAINER, "SessionActive")])
    shell.editctl("apply")
    assert shell.plan() == (NOTHING_TO_DO, [])
    [task] = tasks(engine, "RUNNING")
    assert (task["lastStatus"], task["startedBy"]) == ("RUNNING", "editctl/default")
    assert record(engine)["taskArn"]["S"] == task["taskArn"]

    # Somebody leaves. A controller runs, and stops the container when its idle time is over.
    shell.editctl("session", "release", "s1")
    shell.editctl("apply")
    make_old(engine, "lastActivity", "emptySince", containerId=CONTAINER)
    with shell.controller() as controller:
        wait_for_status(engine, "terminated", controller, shell)
    assert shell.plan() == (NOTHING_TO_DO, [])
    assert tasks(engine, "RUNNING") == []
    [stopped] = tasks(engine, "STOPPED")
    assert (stopped["taskArn"], stopped["stopCode"]) == (task["taskArn"], "UserInitiated")
    ended = record(engine)
    assert (ended["sessionCount"], "taskArn" in ended) == ({"N": "0"}, False)

    # Somebody comes back: the next generation.
    shell.editctl("session", "open", "s2", "--client", "acme", "--project", "blog", "--user", "tom")
    shell.editctl("apply")
    assert shell.plan() == (NOTHING_TO_DO, [])
    [again] = tasks(engine, "RUNNING")
    assert again["taskArn"] != task["taskArn"]
    assert record(engine)["generation"] == {"N": "2"}


def wait_for_status(engine: Engine, status: str, controller: subprocess.Popen[bytes], shell: Shell) -> None:
    """Wait until the record has a status, for as long as the controller runs."""
    for _ in range(LOOKS):
        if record(engine)["containerStatus"]["S"] == status:
            return
        try:
            pytest.fail(f"the controller ended with {controller.wait(PAUSE)}:\n{shell.log()}")
        except subprocess.TimeoutExpired:
            continue
    pytest.fail(f"the record is not {status}:\n{shell.log()}")


@pytest.mark.skipif(AWS is None, reason="there is no `aws` command here")
def test_with_the_command_line_of_aws(local: Engine, tmp_path: Path) -> None:
    """What editctl started is seen and stopped by `aws ecs`, and what `aws ecs` started is none of its business."""
    shell = Shell(local, tmp_path, USUAL)
    shell.editctl("tables", "create")
    shell.editctl("session", "open", "s1", "--client", "acme", "--project", "blog", "--user", "tom")
    shell.editctl("apply")

    [arn] = shell.aws("list-tasks", "--cluster", CLUSTER, "--started-by", "editctl/default")["taskArns"]
    [task] = shell.aws("describe-tasks", "--cluster", CLUSTER, "--tasks", arn, "--include", "TAGS")["tasks"]
    assert task["lastStatus"] == "RUNNING"
    assert {"key": "ContainerId", "value": CONTAINER} in task["tags"]
    network = "awsvpcConfiguration={subnets=[subnet-1]}"
    definition = ("--task-definition", "webordinary-edit", "--launch-type", "FARGATE")
    run = shell.aws("run-task", "--cluster", CLUSTER, *definition, "--network-configuration", network)
    [foreign] = run["tasks"]
    assert shell.plan() == (NOTHING_TO_DO, [])

    stopped = shell.aws("stop-task", "--cluster", CLUSTER, "--task", arn, "--reason", "by hand")["task"]
    assert (stopped["desiredStatus"], stopped["stoppedReason"]) == ("STOPPED", "by hand")
    # Until it is STOPPED nothing is started beside it; then the record is brought up to date, and the start follows.
    looks = (shell.plan() for _ in range(LOOKS))
    assert any(("record", CONTAINER, "TaskGone") in actions for _, actions in looks)
    shell.editctl("apply")
    # A task that ended soon after its launch is followed by a pause.
    _, [decision] = shell.plan()
    assert decision in (("start", CONTAINER, "SessionActive"), ("defer", CONTAINER, "BackingOff"))
    assert [each["taskArn"] for each in tasks(local, "RUNNING")] == [foreign["taskArn"]]
