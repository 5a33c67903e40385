"""An ECS with a cluster and a task definition, through boto3: what the rules of ECS are written with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from tests.contract.engines import Engine
from tests.local.world import CLUSTER, CONTAINER, DOWN, FAMILY, UP

UNKNOWN = "0" * 32

# Nothing in it is left out that an engine could stumble over: what may be left out is a rule of its own.
DEFINITION: dict[str, Any] = {
    "family": FAMILY,
    "containerDefinitions": [{"name": CONTAINER, "image": "edit:1", "cpu": 256, "memory": 512, "essential": True}],
    "cpu": "1024",
    "memory": "2048",
    "networkMode": "awsvpc",
    "requiresCompatibilities": ["FARGATE"],
}


class Ecs:
    """The ECS of one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # As many connections as the race has threads.
        self.client = engine.client("ecs", connections=16)
        self.client.create_cluster(clusterName=CLUSTER)
        self.client.register_task_definition(**DEFINITION)

    def network(self, **changed: Any) -> dict[str, Any]:
        """Return a network configuration that is in order but for `changed`."""
        return {"awsvpcConfiguration": {"subnets": [self.engine.subnet], "securityGroups": ["sg-1"], **changed}}

    def run(self, **params: Any) -> dict[str, Any]:
        """Return the answer of a RunTask that is in order but for `params`; None leaves one out."""
        request = {
            "cluster": CLUSTER,
            "taskDefinition": FAMILY,
            "launchType": "FARGATE",
            "networkConfiguration": self.network(),
            **params,
        }
        answer: dict[str, Any] = self.client.run_task(**{k: v for k, v in request.items() if v is not None})
        return answer

    def start(self, **params: Any) -> str:
        """Return the ARN of a new task."""
        arn: str = self.run(**params)["tasks"][0]["taskArn"]
        return arn

    def started(self, **params: Any) -> str:
        """Return the ARN of a task that had time to come up."""
        arn = self.start(**params)
        self.engine.pass_time(UP)
        return arn

    def stop(self, arn: str, **params: Any) -> dict[str, Any]:
        """Return the task as StopTask answers it."""
        task: dict[str, Any] = self.client.stop_task(cluster=CLUSTER, task=arn, **params)["task"]
        return task

    def stopped(self, arn: str) -> str:
        """Return the ARN of a task that was stopped and had time to end."""
        self.stop(arn)
        self.engine.pass_time(DOWN)
        return arn

    def describe(self, *arns: str, **params: Any) -> dict[str, Any]:
        """Return the answer of DescribeTasks."""
        answer: dict[str, Any] = self.client.describe_tasks(**{"cluster": CLUSTER, "tasks": list(arns), **params})
        return answer

    def task(self, arn: str) -> dict[str, Any]:
        """Return a task as DescribeTasks shows it, with tags."""
        answer = self.describe(arn, include=["TAGS"])
        assert answer["failures"] == []
        task: dict[str, Any] = answer["tasks"][0]
        return task

    def missing(self, arn: str) -> bool:
        """Return whether DescribeTasks does not know a task."""
        answer = self.describe(arn)
        return not answer["tasks"] and [failure["reason"] for failure in answer["failures"]] == ["MISSING"]

    def listed(self, **params: Any) -> list[str]:
        """Return all pages of ListTasks, as they come."""
        arns: list[str] = []
        answer = self.client.list_tasks(cluster=CLUSTER, **params)
        arns += answer["taskArns"]
        while answer.get("nextToken"):
            answer = self.client.list_tasks(cluster=CLUSTER, nextToken=answer["nextToken"], **params)
            arns += answer["taskArns"]
        return arns

    def register(self, **changed: Any) -> str:
        """Return the ARN of a new revision of the usual definition with some parameters changed; None omits one."""
        params = {k: v for k, v in {**DEFINITION, **changed}.items() if v is not None}
        arn: str = self.client.register_task_definition(**params)["taskDefinition"]["taskDefinitionArn"]
        return arn


class Refusal:
    """What `refused` caught."""

    response: dict[str, Any]


@contextmanager
def refused(code: str, text: str = "") -> Iterator[Refusal]:
    """Expect an error of the service with this code, and this text in its message."""
    caught = Refusal()
    try:
        yield caught
    except ClientError as error:
        caught.response = error.response
        said = error.response["Error"]
        assert (said["Code"], text in said["Message"]) == (code, True), f"refused otherwise: {said}"
    else:
        raise AssertionError(f"not refused; {code} was due")
