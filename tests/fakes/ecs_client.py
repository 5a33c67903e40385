"""boto3's ECS client in front of the strict ECS, without HTTP: the same arguments, answers and errors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from controller.local.ecs import StrictEcs
from controller.local.errors import EcsError

# What boto3 gives as a datetime (botocore's model of ECS: members of type timestamp).
_TIMES = frozenset(
    {
        "connectivityAt",
        "createdAt",
        "deregisteredAt",
        "executionStoppedAt",
        "pullStartedAt",
        "pullStoppedAt",
        "registeredAt",
        "startedAt",
        "stoppedAt",
        "stoppingAt",
    }
)


class StrictEcsClient:
    """Has a method for each operation that the strict ECS has, named as boto3 names it."""

    def __init__(self, ecs: StrictEcs) -> None:
        self.ecs = ecs

    def list_tasks(self, **parameters: Any) -> dict[str, Any]:
        return self._call("ListTasks", parameters)

    def describe_tasks(self, **parameters: Any) -> dict[str, Any]:
        return self._call("DescribeTasks", parameters)

    def run_task(self, **parameters: Any) -> dict[str, Any]:
        return self._call("RunTask", parameters)

    def stop_task(self, **parameters: Any) -> dict[str, Any]:
        return self._call("StopTask", parameters)

    def tag_resource(self, **parameters: Any) -> dict[str, Any]:
        return self._call("TagResource", parameters)

    def untag_resource(self, **parameters: Any) -> dict[str, Any]:
        return self._call("UntagResource", parameters)

    def create_cluster(self, **parameters: Any) -> dict[str, Any]:
        return self._call("CreateCluster", parameters)

    def describe_clusters(self, **parameters: Any) -> dict[str, Any]:
        return self._call("DescribeClusters", parameters)

    def list_clusters(self, **parameters: Any) -> dict[str, Any]:
        return self._call("ListClusters", parameters)

    def describe_task_definition(self, **parameters: Any) -> dict[str, Any]:
        return self._call("DescribeTaskDefinition", parameters)

    def register_task_definition(self, **parameters: Any) -> dict[str, Any]:
        return self._call("RegisterTaskDefinition", parameters)

    def deregister_task_definition(self, **parameters: Any) -> dict[str, Any]:
        return self._call("DeregisterTaskDefinition", parameters)

    def _call(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = _with_times(self.ecs.call(operation, parameters))
        except EcsError as error:
            raise client_error(operation, error) from None
        return {**answer, "ResponseMetadata": {"HTTPStatusCode": 200}}


def client_error(operation: str, error: EcsError) -> ClientError:
    """Return the error as botocore raises it: the error's other members stand beside `Error`."""
    return ClientError(
        {
            "Error": {"Code": error.code, "Message": error.message},
            "ResponseMetadata": {"HTTPStatusCode": error.status},
            **error.extra,
        },
        operation,
    )


def _with_times(value: Any, name: str = "") -> Any:
    if isinstance(value, Mapping):
        return {n: _with_times(v, n) for n, v in value.items()}
    if isinstance(value, list):
        return [_with_times(v) for v in value]
    if name in _TIMES and isinstance(value, (int, float)):
        return datetime.fromtimestamp(value, UTC)
    return value
