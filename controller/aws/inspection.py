"""What a person asks of ECS about single tasks: whose mark one carries, where it logs, and the newest revision."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from controller.aws.client import EcsCalls, part, quote, translating
from controller.aws.families import REVISION_KEPT
from controller.aws.tasks import EcsSettings, parse_task
from controller.core.identity import TAG_CONTROLLER, TAG_MANAGED_BY
from controller.core.model import Millis, Task
from controller.core.reads import LogStream, Marked
from controller.errors import AwsError, InvalidRequest, TaskNotFound

_TASK_ARN = re.compile(r"arn:[^:\s]+:ecs:[^:\s]*:[^:\s]*:task/(?:(?P<cluster>[^/\s]+)/)?[^/\s]+")


class Inspector:
    """Looks at single tasks and their definitions. It has no method that writes."""

    def __init__(self, client: EcsCalls, settings: EcsSettings, clock: Callable[[], Millis]) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._newest = ""
        self._asked_at: Millis | None = None

    def newest_definition(self) -> str:
        """Return the ARN of the revision that a launch would pin; empty when that is unknown.

        It is kept for a minute. Where each project has a family of its own there is no one answer, and none is given.
        """
        if self._settings.family_per_project:
            return ""
        now = self._clock()
        if self._asked_at is None or now >= self._asked_at + REVISION_KEPT:
            self._asked_at = now
            try:
                self._newest = str(self._definition(self._settings.task_definition)["taskDefinitionArn"])
            except AwsError:
                # Nothing is started or stopped by it: no answer is no reason to fail.
                self._newest = ""
        return self._newest

    def marked(self, arn: str) -> Marked:
        """Return a task with the marks it carries. Raises InvalidRequest for no task of this cluster, TaskNotFound."""
        self._check(arn)
        with self._translating("DescribeTasks", task=arn):
            found = part(
                self._client.describe_tasks(cluster=self._settings.cluster, tasks=[arn], include=["TAGS"]), "tasks"
            )
        if not found:
            raise TaskNotFound(
                f"no task {quote(arn)} in cluster '{self._settings.cluster_name}'",
                "ECS forgets a stopped task after about an hour",
                "`editctl plan` names the tasks that carry our ids",
                code="MISSING",
                operation="DescribeTasks",
            )
        tags = {str(t.get("key")): str(t.get("value", "")) for t in found[0].get("tags", ())}
        task = parse_task(found[0], self._settings, self._clock())
        return Marked(task, tags.get(TAG_MANAGED_BY, ""), tags.get(TAG_CONTROLLER, ""))

    def _check(self, arn: str) -> None:
        match = _TASK_ARN.fullmatch(arn)
        if match and match["cluster"] in (None, self._settings.cluster_name):
            return
        why = f"it is of cluster '{match['cluster']}'" if match else "a task's ARN is arn:…:ecs:…:task/CLUSTER/ID"
        raise InvalidRequest(
            f"{quote(arn)} is no task of cluster '{self._settings.cluster_name}'",
            why,
            "give the whole ARN; `editctl plan` shows it",
            operation="DescribeTasks",
        )

    def log_streams(self, tasks: Iterable[Task]) -> tuple[LogStream, ...]:
        """Return where each task logs, from its definition; what its definition does not name stays empty."""
        definitions: dict[str, Mapping[str, Any]] = {}
        found = []
        for task in tasks:
            if task.task_definition not in definitions:
                definitions[task.task_definition] = self._definition(task.task_definition)
            found.append(self._log_stream(task, definitions[task.task_definition]))
        return tuple(found)

    def _log_stream(self, task: Task, definition: Mapping[str, Any]) -> LogStream:
        name = self._settings.container_name
        containers = definition.get("containerDefinitions", ())
        log = next((c.get("logConfiguration") for c in containers if c.get("name") == name), None) or {}
        options = log.get("options") or {}
        driver = str(log.get("logDriver", ""))
        if driver != "awslogs":
            return LogStream(task, driver)
        prefix = str(options.get("awslogs-stream-prefix", ""))
        stream = f"{prefix}/{name}/{task.arn.rpartition('/')[2]}" if prefix else ""
        return LogStream(
            task, driver, str(options.get("awslogs-group", "")), stream, str(options.get("awslogs-region", ""))
        )

    def _definition(self, definition: str) -> Mapping[str, Any]:
        with self._translating("DescribeTaskDefinition", definition=definition):
            answer: Mapping[str, Any] = part(
                self._client.describe_task_definition(taskDefinition=definition), "taskDefinition"
            )
        return answer

    def _translating(self, operation: str, **subject: str) -> AbstractContextManager[None]:
        return translating(operation, cluster=self._settings.cluster_name, region=self._settings.region, **subject)
