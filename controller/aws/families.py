"""Task-definition revisions: which one a launch pins, and the clone of the family that each project can have."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.aws.client import EcsCalls, part, translating
from controller.core.identity import ContainerIdentity, project_family, project_log_prefix
from controller.core.model import SECOND, Millis
from controller.errors import ConfigError, TaskDefinitionNotFound

REVISION_KEPT: Millis = 60 * SECOND
"""A new revision is used after so long at the latest; DescribeTaskDefinition is allowed 20 times a second."""

_REGISTRABLE = (
    "containerDefinitions",
    "cpu",
    "enableFaultInjection",
    "ephemeralStorage",
    "executionRoleArn",
    "inferenceAccelerators",
    "ipcMode",
    "memory",
    "networkMode",
    "pidMode",
    "placementConstraints",
    "proxyConfiguration",
    "requiresCompatibilities",
    "runtimePlatform",
    "taskRoleArn",
    "volumes",
)
"""What RegisterTaskDefinition takes of what DescribeTaskDefinition shows."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of a family: its ARN and how ECS describes it."""

    arn: str
    described: Mapping[str, Any]

    @property
    def active(self) -> bool:
        return bool(self.described.get("status", "ACTIVE") == "ACTIVE")

    @property
    def containers(self) -> tuple[str, ...]:
        return tuple(str(c.get("name")) for c in self.described.get("containerDefinitions", ()))


def family_of(definition: str) -> str:
    """Return the family that a family name, `family:revision` or ARN names."""
    return definition.rpartition("/")[2].partition(":")[0]


def is_pinned(definition: str) -> bool:
    """Say whether the text names one revision rather than a family."""
    return ":" in definition.rpartition("/")[2]


class Families:
    """Answers which revision a launch is to use. `definition` is a family, a `family:revision` or an ARN.

    Answers are kept for a minute by the clock, since a thousand launches want the same one.
    """

    def __init__(
        self,
        client: EcsCalls,
        definition: str,
        clock: Callable[[], Millis],
        *,
        per_project: bool = False,
        region: str = "",
    ) -> None:
        self._client = client
        self._definition = definition
        self._clock = clock
        self._per_project = per_project
        self._region = region
        self._kept: dict[str, tuple[Millis, Revision]] = {}
        self._lock = threading.Lock()

    def pinned(self, identity: ContainerIdentity) -> str:
        """Return the ARN (or `family:revision`, where one is configured) that a launch of this container pins.

        Raises TaskDefinitionNotFound when there is no ACTIVE revision.
        """
        if self._per_project:
            return self._of_project(identity).arn
        return self._definition if is_pinned(self._definition) else self.base().arn

    def base(self) -> Revision:
        """Return the configured family's newest ACTIVE revision, or the configured revision."""
        with self._lock:
            return self._kept_or(self._definition, lambda: self._active(self._definition))

    def check(self, container_name: str) -> Revision:
        """Return the base revision. Raises TaskDefinitionNotFound, or ConfigError when it has no such container."""
        revision = self.base()
        if container_name not in revision.containers:
            raise ConfigError(
                f"task definition '{revision.arn}' has no container '{container_name}'",
                f"its containers are {', '.join(revision.containers)}",
                "set EDITCTL_CONTAINER_NAME to the one that edits, or EDITCTL_TASK_DEFINITION to another definition",
            )
        return revision

    def _of_project(self, identity: ContainerIdentity) -> Revision:
        """Return the newest revision of the project's clone, registered anew only when the base has changed."""
        base = self.base()
        family = project_family(family_of(self._definition), identity)
        wanted = clone(base.described, family, project_log_prefix(identity))
        # Under the lock, so that two launches of one project do not register the same revision twice.
        with self._lock:
            return self._kept_or(f"{family} of {base.arn}", lambda: self._cloned(family, wanted))

    def _cloned(self, family: str, wanted: Mapping[str, Any]) -> Revision:
        try:
            there = self._active(family)
            if registrable(there.described, family) == wanted:
                return there
        except TaskDefinitionNotFound:
            pass
        with translating("RegisterTaskDefinition", definition=family, region=self._region):
            answer = part(self._client.register_task_definition(**wanted), "taskDefinition")
        return Revision(answer["taskDefinitionArn"], answer)

    def _active(self, definition: str) -> Revision:
        with translating("DescribeTaskDefinition", definition=definition, region=self._region):
            answer = part(self._client.describe_task_definition(taskDefinition=definition), "taskDefinition")
        revision = Revision(answer["taskDefinitionArn"], answer)
        if not revision.active:
            raise TaskDefinitionNotFound(
                f"no ACTIVE task definition '{definition}'{' in ' + self._region if self._region else ''}",
                f"revision {revision.arn} is {answer.get('status')}",
                "register a revision, or set EDITCTL_TASK_DEFINITION to another",
                code="ClientException",
                operation="DescribeTaskDefinition",
            )
        return revision

    def _kept_or(self, key: str, find: Callable[[], Revision]) -> Revision:
        now = self._clock()
        if key in self._kept and self._kept[key][0] > now - REVISION_KEPT:
            return self._kept[key][1]
        found = find()
        self._kept[key] = (now, found)
        return found


def registrable(described: Mapping[str, Any], family: str) -> dict[str, Any]:
    """Return the RegisterTaskDefinition argument that would make a definition like the described one."""
    found = {name: described[name] for name in _REGISTRABLE if described.get(name) not in (None, [], "")}
    return {"family": family, **found}


def clone(described: Mapping[str, Any], family: str, log_prefix: str) -> dict[str, Any]:
    """Return the RegisterTaskDefinition argument of a project's clone: the base with the project's log prefix."""
    wanted = registrable(described, family)
    wanted["containerDefinitions"] = [_with_log_prefix(c, log_prefix) for c in wanted["containerDefinitions"]]
    return wanted


def _with_log_prefix(container: Mapping[str, Any], log_prefix: str) -> dict[str, Any]:
    log = container.get("logConfiguration")
    if not log or log.get("logDriver") != "awslogs":
        return dict(container)
    options = {**log.get("options", {}), "awslogs-stream-prefix": log_prefix}
    return {**container, "logConfiguration": {**log, "options": options}}
