"""One task: what was asked for, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.local.definitions import TaskDefinition
from controller.local.lifecycle import Lifecycle, Status

__all__ = ["Launch", "LocalTask", "Stop"]


@dataclass(frozen=True, slots=True)
class Launch:
    """A RunTask request that was granted; the same for each of its tasks."""

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
    tags: Mapping[str, str]


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
    launch: Launch
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
