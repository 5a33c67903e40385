"""One task: what was asked for, what became of it, and how the API shows it at an instant."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.local.definitions import TaskDefinition
from controller.local.lifecycle import Lifecycle, Status

__all__ = ["LaunchedContainer", "LaunchedTask", "LocalTask", "Stop"]

_NOT_YET_ATTACHED = frozenset({Status.PROVISIONING, Status.PENDING})
_ENI_STATUS: Mapping[Status, str] = {
    Status.PROVISIONING: "PRECREATED",
    Status.PENDING: "ATTACHING",
    Status.DEPROVISIONING: "DETACHING",
    Status.STOPPED: "DELETED",
}
_CONTAINER_STATUS: Mapping[Status, str] = {
    Status.PROVISIONING: "PENDING",
    Status.PENDING: "PENDING",
    Status.DEPROVISIONING: "STOPPED",
    Status.STOPPED: "STOPPED",
}
_OVER = frozenset({Status.DEPROVISIONING, Status.STOPPED})


@dataclass(frozen=True, slots=True)
class LaunchedContainer:
    """What a process runner needs of one container: definition and overrides put together."""

    name: str
    image: str
    essential: bool
    entry_point: tuple[str, ...]
    command: tuple[str, ...]
    environment: Mapping[str, str]
    working_directory: str | None


@dataclass(frozen=True, slots=True)
class LaunchedTask:
    """A task as an observer gets it; `stop_timeout` is the seconds from the stop signal to SIGKILL."""

    arn: str
    cluster_arn: str
    definition_arn: str
    address: str | None
    stop_timeout: int
    containers: tuple[LaunchedContainer, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """Since when and why the desired status is STOPPED; `clears_tags` if it was StopTask."""

    at: int
    code: str
    reason: str
    clears_tags: bool


@dataclass(slots=True)
class LocalTask:
    """A task of one cluster. All instants are epoch milliseconds."""

    seq: int
    id: str
    arn: str
    cluster_arn: str
    region: str
    definition: TaskDefinition
    group: str
    started_by: str | None
    launch_type: str
    capacity_provider: str | None
    platform_version: str
    cpu: str | None
    memory: str | None
    overrides: Mapping[str, Any]
    execute_command: bool
    subnet: str | None
    address: str | None
    created_at: int
    visible_at: int
    lifecycle: Lifecycle
    stop_exit_code: int
    tag_history: list[tuple[int, dict[str, str]]]
    tags_until_stopped: bool = False
    stop: Stop | None = None
    exit_code: int | None = None
    container_reason: str | None = None
    announced: set[Status] = field(default_factory=set)

    def visible(self, at: int) -> bool:
        """Return whether the API knows the task at an instant."""
        return self.visible_at <= at

    def stopping(self, at: int) -> bool:
        """Return whether the desired status is STOPPED at an instant."""
        return self.stop is not None and self.stop.at <= at

    def tags(self, at: int) -> dict[str, str]:
        """Return the tags at an instant; none once StopTask has deleted them (APIReference StopTask)."""
        if self.stop is not None and self.stop.clears_tags:
            gone = self.lifecycle.entered(Status.STOPPED) if self.tags_until_stopped else self.stop.at
            if gone is not None and gone <= at:
                return {}
        return next((tags for since, tags in reversed(self.tag_history) if since <= at), {})

    def describe(self, at: int, *, with_tags: bool, bare_when_fresh: bool = False) -> dict[str, Any]:
        """Return the API's Task at an instant."""
        status = self.lifecycle.status(at)
        bare = bare_when_fresh and status is Status.PROVISIONING
        tags = self.tags(at) if with_tags else {}
        shown: dict[str, Any] = {
            "attachments": [] if bare else self._attachments(status),
            "attributes": [{"name": "ecs.cpu-architecture", "value": "x86_64"}],
            "availabilityZone": f"{self.region}a",
            "capacityProviderName": self.capacity_provider,
            "clusterArn": self.cluster_arn,
            "connectivity": None if status is Status.PROVISIONING else "CONNECTED",
            "containers": [] if bare else [self._container(definition, status) for definition in self.definition.containers],
            "cpu": self.cpu,
            "desiredStatus": "STOPPED" if self.stopping(at) else "RUNNING",
            "enableExecuteCommand": self.execute_command,
            "ephemeralStorage": {"sizeInGiB": self.overrides.get("ephemeralStorage", {}).get("sizeInGiB", 20)},
            "group": self.group,
            "healthStatus": "UNKNOWN",
            "lastStatus": status.value,
            "launchType": self.launch_type,
            "memory": self.memory,
            "overrides": _copy(self.overrides),
            "platformFamily": "Linux",
            "platformVersion": self.platform_version,
            "startedBy": self.started_by,
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
            "taskArn": self.arn,
            "taskDefinitionArn": self.definition.arn,
            "version": self.lifecycle.version(at),
            **self._instants(at),
            **self._stop(at),
        }
        return {name: value for name, value in shown.items() if value is not None}

    def describe_dead(self, at: int) -> dict[str, Any]:
        """Return all that a repeated RunTask says of a STOPPED task (ECS_Idempotency, "RunTask retry rules")."""
        return {"taskArn": self.arn, "lastStatus": self.lifecycle.status(at).value, "desiredStatus": "STOPPED"}

    def launched(self) -> LaunchedTask:
        """Return the task as a process runner gets it."""
        containers = tuple(self._launched(definition) for definition in self.definition.containers)
        return LaunchedTask(
            self.arn, self.cluster_arn, self.definition.arn, self.address, self.definition.stop_timeout, containers
        )

    def _instants(self, at: int) -> dict[str, float | None]:
        reached = self.lifecycle.reached
        return {
            "createdAt": self.created_at / 1000,
            "connectivityAt": _seconds(reached(Status.PENDING, at)),
            "pullStartedAt": _seconds(reached(Status.PENDING, at)),
            "pullStoppedAt": _seconds(reached(Status.ACTIVATING, at)),
            "startedAt": _seconds(reached(Status.RUNNING, at)),
            "executionStoppedAt": _seconds(reached(Status.DEPROVISIONING, at)),
            "stoppedAt": _seconds(reached(Status.STOPPED, at)),
        }

    def _stop(self, at: int) -> dict[str, Any]:
        if self.stop is None or self.stop.at > at:
            return {}
        return {
            "stopCode": self.stop.code,
            "stoppedReason": self.stop.reason,
            "stoppingAt": self.stop.at / 1000,
        }

    def _attachments(self, status: Status) -> list[dict[str, Any]]:
        if self.address is None:
            return []
        details = [{"name": "subnetId", "value": self.subnet}]
        if not self._has_no_address(status):
            details += [
                {"name": "networkInterfaceId", "value": f"eni-{self._derived('eni')[:17]}"},
                {"name": "macAddress", "value": _mac(self._derived("mac"))},
                {"name": "privateDnsName", "value": f"ip-{self.address.replace('.', '-')}.{self.region}.compute.internal"},
                {"name": "privateIPv4Address", "value": self.address},
            ]
        return [
            {
                "id": self._attachment_id(),
                "type": "ElasticNetworkInterface",
                "status": _ENI_STATUS.get(status, "ATTACHED"),
                "details": details,
            }
        ]

    def _container(self, definition: Mapping[str, Any], status: Status) -> dict[str, Any]:
        interfaces = []
        if self.address is not None and not self._has_no_address(status):
            interfaces = [{"attachmentId": self._attachment_id(), "privateIpv4Address": self.address}]
        shown: dict[str, Any] = {
            "containerArn": f"{self.arn.replace(':task/', ':container/')}/{_uuid(self._derived(definition['name']))}",
            "taskArn": self.arn,
            "name": definition["name"],
            "image": definition["image"],
            "lastStatus": _CONTAINER_STATUS.get(status, "RUNNING"),
            "networkBindings": [],
            "networkInterfaces": interfaces,
            "healthStatus": "UNKNOWN",
            "cpu": str(definition.get("cpu", 0)),
        }
        if "memory" in definition:
            shown["memory"] = str(definition["memory"])
        if status in _OVER:
            shown |= self._ending()
        return shown

    def _ending(self) -> dict[str, Any]:
        ending: dict[str, Any] = {}
        if self.lifecycle.entered(Status.ACTIVATING) is not None and self.container_reason is None:
            ending["exitCode"] = self.stop_exit_code if self.exit_code is None else self.exit_code
        if self.container_reason is not None:
            ending["reason"] = self.container_reason
        return ending

    def _has_no_address(self, status: Status) -> bool:
        # A task that ended before its interface was attached never had an address to show.
        return status in _NOT_YET_ATTACHED or self.lifecycle.entered(Status.ACTIVATING) is None

    def _launched(self, definition: Mapping[str, Any]) -> LaunchedContainer:
        override = self._override(definition["name"])
        environment = {pair["name"]: pair["value"] for pair in definition["environment"]}
        environment |= {pair["name"]: pair["value"] for pair in override.get("environment", ())}
        return LaunchedContainer(
            name=definition["name"],
            image=definition["image"],
            essential=definition["essential"],
            entry_point=tuple(definition.get("entryPoint", ())),
            command=tuple(override.get("command") or definition.get("command", ())),
            environment=environment,
            working_directory=definition.get("workingDirectory"),
        )

    def _override(self, container: str) -> Mapping[str, Any]:
        overrides: Sequence[Mapping[str, Any]] = self.overrides.get("containerOverrides", ())
        return next((override for override in overrides if override.get("name") == container), {})

    def _attachment_id(self) -> str:
        return _uuid(self._derived("attachment"))

    def _derived(self, what: str) -> str:
        return hashlib.sha256(f"{self.id}/{what}".encode()).hexdigest()


def _seconds(at: int | None) -> float | None:
    return None if at is None else at / 1000


def _mac(digits: str) -> str:
    # 0a: a locally administered unicast address.
    return ":".join(["0a", *(digits[i : i + 2] for i in range(0, 10, 2))])


def _uuid(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copy(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_copy(member) for member in value]
    return value
