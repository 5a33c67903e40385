"""How a task looks from outside: to the API, to a repeated RunTask, and to whoever runs its containers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.local.lifecycle import Status
from controller.local.tasks import LocalTask

__all__ = ["LaunchedContainer", "LaunchedTask", "describe", "describe_dead", "launched"]

_NOT_YET_ATTACHED = frozenset({Status.PROVISIONING, Status.PENDING})
_ENDED = frozenset({Status.DEPROVISIONING, Status.STOPPED})
# APIReference Attachment, status; ATTACHED in all other states.
_ATTACHMENT_STATUS: Mapping[Status, str] = {
    Status.PROVISIONING: "PRECREATED",
    Status.PENDING: "ATTACHING",
    Status.DEPROVISIONING: "DETACHING",
    Status.STOPPED: "DELETED",
}
# RUNNING in all other states.
_CONTAINER_STATUS: Mapping[Status, str] = {
    Status.PROVISIONING: "PENDING",
    Status.PENDING: "PENDING",
    Status.DEPROVISIONING: "STOPPED",
    Status.STOPPED: "STOPPED",
}


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


def describe(task: LocalTask, at: int, *, with_tags: bool, bare_when_fresh: bool = False) -> dict[str, Any]:
    """Return the API's Task at an instant; with `bare_when_fresh` a PROVISIONING one has no parts yet."""
    status = task.lifecycle.status(at)
    bare = bare_when_fresh and status is Status.PROVISIONING
    tags = task.tags(at) if with_tags else {}
    shown = {
        **_request(task),
        "attachments": [] if bare else _attachments(task, status),
        "connectivity": None if status is Status.PROVISIONING else "CONNECTED",
        "containers": [] if bare else [_container(task, definition, status) for definition in _definitions(task)],
        "desiredStatus": "STOPPED" if task.stopping(at) else "RUNNING",
        "healthStatus": "UNKNOWN",
        "lastStatus": status.value,
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
        "version": task.lifecycle.version(at),
        **_instants(task, at),
        **_stop(task, at),
    }
    return {name: value for name, value in shown.items() if value is not None}


def describe_dead(task: LocalTask) -> dict[str, Any]:
    """Return all that a repeated RunTask says of a STOPPED task (ECS_Idempotency, "RunTask retry rules")."""
    return {"taskArn": task.arn, "lastStatus": "STOPPED", "desiredStatus": "STOPPED"}


def launched(task: LocalTask) -> LaunchedTask:
    """Return the task as whoever runs its containers gets it."""
    return LaunchedTask(
        arn=task.arn,
        cluster_arn=task.cluster_arn,
        definition_arn=task.launch.definition.arn,
        address=task.address,
        stop_timeout=task.launch.definition.stop_timeout,
        containers=tuple(_launched_container(task, definition) for definition in _definitions(task)),
    )


def _request(task: LocalTask) -> dict[str, Any]:
    """Return the members that stay the same for the task's whole life."""
    launch = task.launch
    return {
        "attributes": [{"name": "ecs.cpu-architecture", "value": "x86_64"}],
        "availabilityZone": f"{task.region}a",
        "capacityProviderName": launch.capacity_provider,
        "clusterArn": task.cluster_arn,
        "cpu": launch.cpu,
        "enableExecuteCommand": launch.execute_command,
        "ephemeralStorage": {"sizeInGiB": launch.overrides.get("ephemeralStorage", {}).get("sizeInGiB", 20)},
        "group": launch.group,
        "launchType": launch.launch_type,
        "memory": launch.memory,
        "overrides": _copy(launch.overrides),
        "platformFamily": "Linux",
        "platformVersion": launch.platform_version,
        "startedBy": launch.started_by,
        "taskArn": task.arn,
        "taskDefinitionArn": launch.definition.arn,
    }


def _instants(task: LocalTask, at: int) -> dict[str, float | None]:
    def entered(status: Status) -> float | None:
        reached = task.lifecycle.reached(status, at)
        return None if reached is None else reached / 1000

    return {
        "createdAt": task.created_at / 1000,
        "connectivityAt": entered(Status.PENDING),
        "pullStartedAt": entered(Status.PENDING),
        "pullStoppedAt": entered(Status.ACTIVATING),
        "startedAt": entered(Status.RUNNING),
        "executionStoppedAt": entered(Status.DEPROVISIONING),
        "stoppedAt": entered(Status.STOPPED),
    }


def _stop(task: LocalTask, at: int) -> dict[str, Any]:
    if task.stop is None or not task.stopping(at):
        return {}
    return {"stopCode": task.stop.code, "stoppedReason": task.stop.reason, "stoppingAt": task.stop.at / 1000}


def _attachments(task: LocalTask, status: Status) -> list[dict[str, Any]]:
    if task.address is None:
        return []
    details = {"subnetId": task.launch.subnet}
    if _was_attached(task, status):
        details |= {
            "networkInterfaceId": f"eni-{_digits(task, 'eni')[:17]}",
            "macAddress": _mac(_digits(task, "mac")),
            "privateDnsName": f"ip-{task.address.replace('.', '-')}.{task.region}.compute.internal",
            "privateIPv4Address": task.address,
        }
    return [
        {
            "id": _uuid(_digits(task, "attachment")),
            "type": "ElasticNetworkInterface",
            "status": _ATTACHMENT_STATUS.get(status, "ATTACHED"),
            "details": [{"name": name, "value": value} for name, value in details.items()],
        }
    ]


def _container(task: LocalTask, definition: Mapping[str, Any], status: Status) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "containerArn": f"{task.arn.replace(':task/', ':container/')}/{_uuid(_digits(task, definition['name']))}",
        "taskArn": task.arn,
        "name": definition["name"],
        "image": definition["image"],
        "lastStatus": _CONTAINER_STATUS.get(status, "RUNNING"),
        "networkBindings": [],
        "networkInterfaces": _interfaces(task, status),
        "healthStatus": "UNKNOWN",
        "cpu": str(definition["cpu"]),
    }
    if "memory" in definition:
        shown["memory"] = str(definition["memory"])
    if status in _ENDED:
        shown |= _ending(task)
    return shown


def _interfaces(task: LocalTask, status: Status) -> list[dict[str, Any]]:
    if task.address is None or not _was_attached(task, status):
        return []
    return [{"attachmentId": _uuid(_digits(task, "attachment")), "privateIpv4Address": task.address}]


def _ending(task: LocalTask) -> dict[str, Any]:
    if task.container_reason is not None:
        return {"reason": task.container_reason}
    if task.lifecycle.entered(Status.ACTIVATING) is None:
        return {}
    return {"exitCode": task.stop_exit_code if task.exit_code is None else task.exit_code}


def _was_attached(task: LocalTask, status: Status) -> bool:
    # A task that ended before its interface was attached never shows an address; one that had it keeps showing it.
    return status not in _NOT_YET_ATTACHED and task.lifecycle.entered(Status.ACTIVATING) is not None


def _launched_container(task: LocalTask, definition: Mapping[str, Any]) -> LaunchedContainer:
    override = _override(task, definition["name"])
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


def _override(task: LocalTask, container: str) -> Mapping[str, Any]:
    overrides: Sequence[Mapping[str, Any]] = task.launch.overrides["containerOverrides"]
    return next((override for override in overrides if override["name"] == container), {})


def _definitions(task: LocalTask) -> list[dict[str, Any]]:
    return task.launch.definition.containers


def _digits(task: LocalTask, what: str) -> str:
    return hashlib.sha256(f"{task.id}/{what}".encode()).hexdigest()


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
