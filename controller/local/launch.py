"""From a RunTask request to what is to run: definition, capacity, sizes and tags, each checked as ECS does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controller.local.clusters import Cluster
from controller.local.definitions import TaskDefinition, check_fargate_size, cpu_units, mebibytes
from controller.local.errors import client_error, invalid_parameter
from controller.local.limits import check_network, check_overrides, tags_of, with_tags
from controller.local.tasks import Launch

__all__ = ["LAUNCH_TYPES", "prepare"]

LATEST_PLATFORM = "1.4.0"
PLATFORMS = frozenset({"LATEST", "1.3.0", LATEST_PLATFORM})
LAUNCH_TYPES = frozenset({"EC2", "EXTERNAL", "FARGATE", "MANAGED_INSTANCES"})


def prepare(params: Mapping[str, Any], definition: TaskDefinition, cluster: Cluster) -> Launch:
    """Return what a RunTask request amounts to, or refuse it (APIReference RunTask)."""
    overrides = params.get("overrides", {})
    check_overrides(overrides, [container["name"] for container in definition.containers])
    check_network(params.get("networkConfiguration"), definition.network_mode)
    launch_type, provider = _capacity(params, cluster)
    if launch_type not in definition.described["compatibilities"]:
        raise invalid_parameter(f"Task definition does not support launch_type {launch_type}.")
    cpu, memory = _size(overrides, definition)
    return Launch(
        definition=definition,
        group=params.get("group", f"family:{definition.family}"),
        started_by=params.get("startedBy"),
        launch_type=launch_type,
        capacity_provider=provider,
        platform_version=_platform(params.get("platformVersion", "LATEST")),
        cpu=cpu,
        memory=memory,
        overrides=_shown_overrides(overrides, definition),
        execute_command=_execute_command(params, definition),
        subnet=_subnet(params),
        tags=_tags(params, definition, cluster),
    )


def _capacity(params: Mapping[str, Any], cluster: Cluster) -> tuple[str, str | None]:
    launch_type = params.get("launchType")
    strategy: Sequence[Mapping[str, Any]] = params.get("capacityProviderStrategy") or ()
    if launch_type is None:
        strategy = strategy or cluster.strategy
    if strategy:
        return "FARGATE", _provider(strategy, cluster)
    if launch_type is not None and launch_type not in LAUNCH_TYPES:
        raise invalid_parameter(f"launchType {launch_type} is not one of {', '.join(sorted(LAUNCH_TYPES))}.")
    if launch_type != "FARGATE":
        # EC2 is the default, and nobody registers instances here.
        raise invalid_parameter("No Container Instances were found in your cluster.")
    return launch_type, None


def _provider(strategy: Sequence[Mapping[str, Any]], cluster: Cluster) -> str:
    for item in strategy:
        if item.get("capacityProvider") not in cluster.providers:
            raise invalid_parameter(
                "The specified capacity provider strategy cannot contain a capacity provider that is not associated "
                "with the cluster."
            )
    # APIReference CapacityProviderStrategyItem: base comes first, then the share by weight; one task has one provider.
    best = max(strategy, key=lambda item: (item.get("base", 0), item.get("weight", 0)))
    return str(best["capacityProvider"])


def _size(overrides: Mapping[str, Any], definition: TaskDefinition) -> tuple[str | None, str | None]:
    cpu, memory = definition.described.get("cpu"), definition.described.get("memory")
    if "cpu" in overrides:
        cpu = cpu_units(overrides["cpu"])
    if "memory" in overrides:
        memory = mebibytes(overrides["memory"])
    check_fargate_size(cpu, memory)
    return cpu, memory


def _platform(version: str) -> str:
    if version not in PLATFORMS:
        raise invalid_parameter(f"Platform version {version} does not exist.")
    return LATEST_PLATFORM if version == "LATEST" else version


def _execute_command(params: Mapping[str, Any], definition: TaskDefinition) -> bool:
    wanted = bool(params.get("enableExecuteCommand", False))
    role = params.get("overrides", {}).get("taskRoleArn") or definition.described.get("taskRoleArn")
    if wanted and not role:
        raise client_error("Execute command needs a task role in the task definition or in the overrides.")
    return wanted


def _subnet(params: Mapping[str, Any]) -> str | None:
    subnets = params.get("networkConfiguration", {}).get("awsvpcConfiguration", {}).get("subnets", ())
    return str(subnets[0]) if subnets else None


def _tags(params: Mapping[str, Any], definition: TaskDefinition, cluster: Cluster) -> dict[str, str]:
    propagated = definition.tags if params.get("propagateTags") == "TASK_DEFINITION" else {}
    tags = with_tags(propagated, tags_of(params.get("tags", ())))
    if params.get("enableECSManagedTags"):
        tags["aws:ecs:clusterName"] = cluster.name
    return tags


def _shown_overrides(overrides: Mapping[str, Any], definition: TaskDefinition) -> dict[str, Any]:
    # DescribeTasks names every container, overridden or not.
    given = {override["name"]: override for override in overrides.get("containerOverrides", ())}
    containers = [given.get(container["name"], {"name": container["name"]}) for container in definition.containers]
    return {"inferenceAcceleratorOverrides": [], **overrides, "containerOverrides": containers}
