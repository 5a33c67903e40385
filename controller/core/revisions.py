"""Whether a task runs the task-definition revision that a new launch would get."""

from __future__ import annotations

from controller.core.model import Task


def is_outdated(task: Task | None, newest: str) -> bool:
    """Whether the task runs another revision of the family than `newest`, which may be unknown (empty)."""
    if task is None or not task.live or not newest or not task.task_definition:
        return False
    return task.task_definition != newest and _family(task.task_definition) == _family(newest)


def short_revision(definition: str) -> str:
    """Return `family:17` of a task definition's ARN."""
    return definition.rpartition("/")[2]


def _family(definition: str) -> str:
    return short_revision(definition).partition(":")[0]
