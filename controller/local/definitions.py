"""Task definitions: families, revisions, and which of them may be run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from controller.local.errors import client_error, invalid_parameter
from controller.local.limits import tags_of

__all__ = ["DEFAULT_STOP_TIMEOUT", "Definitions", "TaskDefinition", "check_fargate_size", "cpu_units", "mebibytes"]

DEFAULT_STOP_TIMEOUT = 30  # seconds; APIReference ContainerDefinition, stopTimeout

_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_ARN = re.compile(r"arn:[^:]+:ecs:[^:]*:[^:]*:task-definition/(?P<name>[^:]+)(?::(?P<revision>\d+))?")
_NUMBER_WITH_UNIT = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>vcpu|gb)?", re.IGNORECASE)

# Developer Guide, "Fargate task size": CPU units -> MiB from, to, step.
_FARGATE_SIZES: Mapping[int, tuple[int, int, int]] = {
    512: (1024, 4096, 1024),
    1024: (2048, 8192, 1024),
    2048: (4096, 16384, 1024),
    4096: (8192, 30720, 1024),
    8192: (16384, 61440, 4096),
    16384: (32768, 122880, 8192),
}
_SMALLEST_FARGATE = (256, (512, 1024, 2048))

_CONTAINER_DEFAULTS: Mapping[str, Any] = {
    "cpu": 0,
    "environment": (),
    "essential": True,
    "mountPoints": (),
    "portMappings": (),
    "systemControls": (),
    "volumesFrom": (),
}


@dataclass(slots=True)
class TaskDefinition:
    """One revision: what DescribeTaskDefinition shows of it, and its tags."""

    described: dict[str, Any]
    tags: dict[str, str]

    @property
    def arn(self) -> str:
        """The ARN with the revision."""
        return str(self.described["taskDefinitionArn"])

    @property
    def family(self) -> str:
        """The family's name."""
        return str(self.described["family"])

    @property
    def active(self) -> bool:
        """Whether new tasks may be run from it."""
        return bool(self.described["status"] == "ACTIVE")

    @property
    def containers(self) -> list[dict[str, Any]]:
        """The container definitions."""
        containers: list[dict[str, Any]] = self.described["containerDefinitions"]
        return containers

    @property
    def network_mode(self) -> str:
        """The network mode, bridge if none was given."""
        return str(self.described["networkMode"])

    @property
    def stop_timeout(self) -> int:
        """Seconds from the stop signal to SIGKILL: the longest of its containers'."""
        return max(int(container.get("stopTimeout", DEFAULT_STOP_TIMEOUT)) for container in self.containers)


class Definitions:
    """All task definitions of the account in this region."""

    def __init__(self, arn_prefix: str) -> None:
        self._arn_prefix = arn_prefix
        self._families: dict[str, list[TaskDefinition]] = {}

    def register(self, params: Mapping[str, Any], at: int) -> TaskDefinition:
        """Return the new revision of a family (APIReference RegisterTaskDefinition)."""
        family = params["family"]
        if not _NAME.fullmatch(family):
            raise client_error("Family should be up to 255 letters, numbers, hyphens and underscores.")
        containers = [_container(definition) for definition in params["containerDefinitions"]]
        _check_names(containers)
        described = {name: value for name, value in params.items() if name not in ("tags", "containerDefinitions")}
        described = _normalised_size(described)
        described.setdefault("networkMode", "bridge")
        described.setdefault("volumes", [])
        described.setdefault("placementConstraints", [])
        if "FARGATE" in params.get("requiresCompatibilities", ()):
            _check_fargate(described, containers)
        revisions = self._families.setdefault(family, [])
        described |= {
            "taskDefinitionArn": f"{self._arn_prefix}:task-definition/{family}:{len(revisions) + 1}",
            "revision": len(revisions) + 1,
            "status": "ACTIVE",
            "containerDefinitions": containers,
            "compatibilities": _compatibilities(described),
            "requiresAttributes": [],
            "registeredAt": at / 1000,
        }
        definition = TaskDefinition(described, tags_of(params.get("tags", ())))
        revisions.append(definition)
        return definition

    def find(self, name: str) -> TaskDefinition | None:
        """Return what `family`, `family:revision` or an ARN names; a bare family is its newest ACTIVE revision."""
        family, revision = _parse(name)
        revisions = self._families.get(family, [])
        if revision is None:
            return next((definition for definition in reversed(revisions) if definition.active), None)
        return revisions[revision - 1] if 1 <= revision <= len(revisions) else None

    def described(self, name: str) -> TaskDefinition:
        """Return a definition for DescribeTaskDefinition, or refuse it."""
        definition = self.find(name)
        if definition is None:
            raise client_error("Unable to describe task definition.")
        return definition

    def runnable(self, name: str) -> TaskDefinition:
        """Return a definition for RunTask, or refuse it."""
        definition = self.find(name)
        if definition is None:
            raise client_error("TaskDefinition not found.")
        if not definition.active:
            raise invalid_parameter("TaskDefinition is inactive")
        return definition

    def deregister(self, name: str, at: int) -> TaskDefinition:
        """Return the revision, now INACTIVE (APIReference DeregisterTaskDefinition)."""
        if _parse(name)[1] is None:
            raise client_error("Revision is missing.")
        definition = self.find(name)
        if definition is None:
            raise client_error("The specified task definition does not exist.")
        definition.described |= {"status": "INACTIVE", "deregisteredAt": at / 1000}
        return definition

    def __iter__(self) -> Iterator[TaskDefinition]:
        """Yield all revisions, families in the order of their names and revisions from the oldest."""
        for family in sorted(self._families):
            yield from self._families[family]


def check_fargate_size(cpu: str | None, memory: str | None) -> None:
    """Refuse a pair of task-level cpu and memory that Fargate does not have."""
    units, size = int(cpu or 0), int(memory or 0)
    if units == _SMALLEST_FARGATE[0] and size in _SMALLEST_FARGATE[1]:
        return
    low, high, step = _FARGATE_SIZES.get(units, (1, 0, 1))
    if not (low <= size <= high and (size - low) % step == 0):
        raise client_error("No Fargate configuration exists for given values.")


def cpu_units(cpu: str) -> str:
    """Return task-level cpu as CPU units: `1 vCPU` is `1024`."""
    return _scaled("cpu", cpu, "vcpu")


def mebibytes(memory: str) -> str:
    """Return task-level memory as MiB: `2 GB` is `2048`."""
    return _scaled("memory", memory, "gb")


def _scaled(name: str, text: str, unit: str) -> str:
    match = _NUMBER_WITH_UNIT.fullmatch(text.strip())
    given = (match["unit"] or "").lower() if match else ""
    if match is None or given not in ("", unit):
        raise client_error(f"Invalid '{name}' setting for task: {text}")
    return str(round(float(match["number"]) * (1024 if given else 1)))


def _normalised_size(described: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(described)
    if "cpu" in result:
        result["cpu"] = cpu_units(result["cpu"])
    if "memory" in result:
        result["memory"] = mebibytes(result["memory"])
    return result


def _container(definition: Any) -> dict[str, Any]:
    if not isinstance(definition, Mapping) or not _NAME.fullmatch(str(definition.get("name", ""))):
        raise client_error("Container.name should be up to 255 letters, numbers, hyphens and underscores.")
    if not definition.get("image"):
        raise client_error("Container.image should not be null or empty.")
    defaults = {name: list(value) if isinstance(value, tuple) else value for name, value in _CONTAINER_DEFAULTS.items()}
    return {**defaults, **definition}


def _check_names(containers: list[dict[str, Any]]) -> None:
    if not containers:
        raise client_error("Container list cannot be empty.")
    names = [container["name"] for container in containers]
    if len(set(names)) != len(names):
        raise client_error("Container names must be unique in a task definition.")
    if not any(container["essential"] for container in containers):
        raise client_error("At least one container must be essential.")


def _check_fargate(described: Mapping[str, Any], containers: list[dict[str, Any]]) -> None:
    if described["networkMode"] != "awsvpc":
        raise client_error("Fargate only supports network mode 'awsvpc'.")
    for name in ("cpu", "memory"):
        if name not in described:
            raise client_error(f"Fargate requires that '{name}' be defined at the task level.")
    check_fargate_size(described["cpu"], described["memory"])
    for container in containers:
        if not 2 <= int(container.get("stopTimeout", DEFAULT_STOP_TIMEOUT)) <= 120:
            raise client_error("The valid stopTimeout values for Fargate are 2-120 seconds.")


def _compatibilities(described: Mapping[str, Any]) -> list[str]:
    wanted = list(described.get("requiresCompatibilities", ()))
    return ["EC2", *(name for name in wanted if name != "EC2")]


def _parse(name: str) -> tuple[str, int | None]:
    match = _ARN.fullmatch(name)
    if match:
        return match["name"], int(match["revision"]) if match["revision"] else None
    family, separator, revision = name.partition(":")
    if separator and not revision.isdigit():
        raise client_error(f"Invalid revision number. Number: {revision}")
    return family, int(revision) if separator else None
