"""Clusters: their names, and what each holds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from controller.local.errors import EcsError, cluster_not_found, invalid_parameter
from controller.local.lifecycle import Status
from controller.local.limits import tags_of
from controller.local.tasks import LocalTask
from controller.local.tokens import TokenTable

__all__ = ["Cluster", "Clusters"]

DEFAULT_NAME = "default"
MAX_DESCRIBED = 100
FARGATE_PROVIDERS = frozenset({"FARGATE", "FARGATE_SPOT"})

_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")


class Cluster:
    """One cluster with its tasks, oldest first, and its client tokens."""

    def __init__(self, name: str, arn: str, params: Mapping[str, Any]) -> None:
        self.name = name
        self.arn = arn
        self.active = True
        self.tags = tags_of(params.get("tags", ()))
        self.providers: list[str] = list(params.get("capacityProviders", ()))
        self.strategy: list[dict[str, Any]] = list(params.get("defaultCapacityProviderStrategy", ()))
        self.settings: list[dict[str, Any]] = list(params.get("settings", ()))
        self.tasks: dict[str, LocalTask] = {}
        self.tokens = TokenTable()

    def states(self, at: int) -> Counter[Status]:
        """Return how many visible tasks are in which state."""
        return Counter(task.lifecycle.status(at) for task in self.tasks.values() if task.visible(at))

    def describe(self, at: int, *, with_tags: bool, with_settings: bool) -> dict[str, Any]:
        """Return the API's Cluster."""
        states = self.states(at)
        return {
            "clusterArn": self.arn,
            "clusterName": self.name,
            "status": "ACTIVE" if self.active else "INACTIVE",
            "registeredContainerInstancesCount": 0,
            "runningTasksCount": states[Status.RUNNING],
            "pendingTasksCount": states[Status.PROVISIONING] + states[Status.PENDING] + states[Status.ACTIVATING],
            "activeServicesCount": 0,
            "statistics": [],
            "tags": [{"key": key, "value": value} for key, value in self.tags.items()] if with_tags else [],
            "settings": list(self.settings) if with_settings else [],
            "capacityProviders": list(self.providers),
            "defaultCapacityProviderStrategy": [dict(item) for item in self.strategy],
        }


class Clusters:
    """All clusters of the account in this region."""

    def __init__(self, arn_prefix: str) -> None:
        self._arn_prefix = arn_prefix
        self._by_name: dict[str, Cluster] = {}

    def create(self, params: Mapping[str, Any]) -> Cluster:
        """Return the cluster of that name, made if there is no active one (APIReference CreateCluster)."""
        name = params.get("clusterName", DEFAULT_NAME)
        if not _NAME.fullmatch(name):
            raise invalid_parameter("A cluster name has up to 255 letters, numbers, underscores and hyphens.")
        _check_providers(params)
        cluster = self._by_name.get(name)
        if cluster is None or not cluster.active:
            cluster = self._by_name[name] = Cluster(name, self._arn(name), params)
        return cluster

    def find(self, reference: str | None) -> Cluster:
        """Return the active cluster of a name or ARN, `default` without one, or refuse it."""
        cluster = self.look_up(reference)
        if cluster is None:
            raise cluster_not_found()
        if not cluster.active:
            raise cluster_not_found("The referenced cluster was inactive.")
        return cluster

    def look_up(self, reference: str | None) -> Cluster | None:
        """Return the cluster of a name or ARN, active or not, None if there never was one."""
        reference = reference or DEFAULT_NAME
        cluster = self._by_name.get(reference.rpartition("/")[2])
        if cluster is None or reference not in (cluster.name, cluster.arn):
            return None
        return cluster

    def delete(self, reference: str, at: int) -> Cluster:
        """Return the cluster, now INACTIVE, or refuse while it has tasks (APIReference DeleteCluster)."""
        cluster = self.find(reference)
        if any(not task.lifecycle.reached(Status.STOPPED, at) for task in cluster.tasks.values()):
            raise EcsError("ClusterContainsTasksException", "The Cluster cannot be deleted while Tasks are active.")
        cluster.active = False
        return cluster

    def describe(self, references: Sequence[str], include: Sequence[str], at: int) -> dict[str, Any]:
        """Return clusters and failures (APIReference DescribeClusters); deleted ones are shown as INACTIVE."""
        if len(references) > MAX_DESCRIBED:
            raise invalid_parameter(f"Clusters cannot have more than {MAX_DESCRIBED} elements.")
        found, failures = [], []
        for reference in dict.fromkeys(references or [DEFAULT_NAME]):
            cluster = self.look_up(reference)
            if cluster is None:
                arn = reference if reference.startswith("arn:") else self._arn(reference)
                failures.append({"arn": arn, "reason": "MISSING"})
            else:
                found.append(cluster.describe(at, with_tags="TAGS" in include, with_settings="SETTINGS" in include))
        return {"clusters": found, "failures": failures}

    def __iter__(self) -> Iterator[Cluster]:
        """Yield the clusters that are active, by name."""
        return (self._by_name[name] for name in sorted(self._by_name) if self._by_name[name].active)

    def _arn(self, name: str) -> str:
        return f"{self._arn_prefix}:cluster/{name}"


def _check_providers(params: Mapping[str, Any]) -> None:
    providers = params.get("capacityProviders", ())
    for name in providers:
        if name not in FARGATE_PROVIDERS:
            raise invalid_parameter(f"The specified capacity provider {name} was not found.")
    for item in params.get("defaultCapacityProviderStrategy", ()):
        if item.get("capacityProvider") not in providers:
            raise invalid_parameter(
                "The default strategy has a capacity provider that is not associated with the cluster."
            )
