"""A strict ECS with a cluster and a task definition, on a clock that the test moves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from controller.local.ecs import EcsError, StrictEcs
from controller.local.lifecycle import Timings
from tests.fakes.clock import FakeClock

CLUSTER = "webordinary"
CONTAINER = "edit-container"
FAMILY = "webordinary-edit"

# Round figures, so that a test can say at which second a task is in which state.
TIMINGS = Timings(provisioning=10, pending=20, activating=5, deactivating=2, stopping=3, deprovisioning=10)
UP = 35  # seconds from RunTask to RUNNING
DOWN = 15  # seconds from StopTask to STOPPED

DEFINITION: Mapping[str, Any] = {
    "family": FAMILY,
    "containerDefinitions": [{"name": CONTAINER, "image": "edit:1"}],
    "cpu": "1024",
    "memory": "2048",
    "networkMode": "awsvpc",
    "requiresCompatibilities": ["FARGATE"],
}
REQUEST: Mapping[str, Any] = {
    "cluster": CLUSTER,
    "taskDefinition": FAMILY,
    "launchType": "FARGATE",
    "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
}


class World:
    """An ECS to be asked, and its clock."""

    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock()
        self.ecs = StrictEcs(self.clock, **{"timings": TIMINGS, **options})
        self.call("CreateCluster", clusterName=CLUSTER)
        self.call("RegisterTaskDefinition", **DEFINITION)

    def call(self, operation: str, /, **params: Any) -> dict[str, Any]:
        """Return the answer of an operation."""
        return self.ecs.call(operation, params)

    def run(self, **params: Any) -> dict[str, Any]:
        """Return the answer of a RunTask that is in order but for `params`."""
        return self.call("RunTask", **{**REQUEST, **params})

    def start(self, **params: Any) -> str:
        """Return the ARN of a new task."""
        arn: str = self.run(**params)["tasks"][0]["taskArn"]
        return arn

    def started(self, **params: Any) -> str:
        """Return the ARN of a task that is RUNNING."""
        arn = self.start(**params)
        self.clock.step(seconds=UP)
        return arn

    def stop(self, arn: str, **params: Any) -> dict[str, Any]:
        """Return the task as StopTask answers it."""
        task: dict[str, Any] = self.call("StopTask", cluster=CLUSTER, task=arn, **params)["task"]
        return task

    def stopped(self, arn: str) -> str:
        """Return the ARN of a task after it was stopped and is STOPPED."""
        self.stop(arn)
        self.clock.step(seconds=DOWN)
        return arn

    def task(self, arn: str) -> dict[str, Any]:
        """Return a task as DescribeTasks shows it, with tags."""
        answer = self.call("DescribeTasks", cluster=CLUSTER, tasks=[arn], include=["TAGS"])
        assert answer["failures"] == []
        task: dict[str, Any] = answer["tasks"][0]
        return task

    def missing(self, arn: str) -> bool:
        """Return whether DescribeTasks does not know a task."""
        answer = self.call("DescribeTasks", cluster=CLUSTER, tasks=[arn])
        return bool(answer["failures"] == [{"arn": arn, "reason": "MISSING"}] and not answer["tasks"])

    def listed(self, **params: Any) -> list[str]:
        """Return all pages of ListTasks, as they come."""
        arns: list[str] = []
        answer = self.call("ListTasks", cluster=CLUSTER, **params)
        arns += answer["taskArns"]
        while "nextToken" in answer:
            answer = self.call("ListTasks", cluster=CLUSTER, nextToken=answer["nextToken"], **params)
            arns += answer["taskArns"]
        return arns


@contextmanager
def refused(code: str, text: str = "") -> Iterator[pytest.ExceptionInfo[EcsError]]:
    """Expect an error of ECS with this code, and this text in its message."""
    with pytest.raises(EcsError, match=re.escape(text) or None) as caught:
        yield caught
    assert caught.value.code == code


def address(task: Mapping[str, Any]) -> str | None:
    """Return the private IPv4 address that a task shows."""
    details = [detail for attachment in task["attachments"] for detail in attachment["details"]]
    return next((detail["value"] for detail in details if detail["name"] == "privateIPv4Address"), None)


def environment(**variables: str) -> dict[str, Any]:
    """Return overrides that set environment variables of the container."""
    pairs = [{"name": name, "value": value} for name, value in variables.items()]
    return {"containerOverrides": [{"name": CONTAINER, "environment": pairs}]}


def tags(**values: str) -> list[dict[str, str]]:
    """Return tags as the API has them."""
    return [{"key": key, "value": value} for key, value in values.items()]
