"""ECS: `TaskReader` looks, `Tasks` launches, stops and marks too.

ECS is eventually consistent, forgets a stopped task after about an hour and its tags at once, and has no filter by tag:
so whose a task is gets decided here, from tags, override environment, startedBy and family (`core/identity.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from controller.aws.client import EcsCalls, part, quote, translating
from controller.aws.families import Families, family_of
from controller.core.identity import (
    ENV_TOKEN_SHA256,
    ContainerIdentity,
    check_controller_id,
    classify,
    client_token,
    environment_for,
    generation_from_environment,
    started_by,
    tags_for,
)
from controller.core.model import Millis, Quality, Sight, Task
from controller.core.reads import RunAnswer, TasksRead
from controller.errors import (
    AccessDenied,
    AwsError,
    ClusterNotFound,
    ConfigError,
    InvalidRequest,
    LaunchConflict,
    TaskNotFound,
    Unavailable,
)

MAX_PAGE = 100
"""Tasks in one page of ListTasks and in one DescribeTasks."""
MAX_HALVINGS = 32
"""Batches that one look asks for in halves: enough to single out four ARNs of a hundred that ECS refuses."""
MAX_OVERRIDES = 8_192
"""Characters of a launch's overrides, JSON included (ECS API, RunTask)."""
MAX_REASON = 255
"""Characters of a stop reason; older SDKs document this limit, ECS does not promise more."""

_TASK_ARN = re.compile(r"arn:[^:]+:ecs:[^:]*:[^:]*:task/(?:(?P<cluster>[^/]+)/)?[^/]+")
_STOPPED = ("STOPPED", "DELETED")
_DETACHED = ("DETACHED", "DELETED")


def _no_more(identity: ContainerIdentity, generation: int) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class EcsSettings:
    """Where tasks run and what they are launched with. subnets and security groups are needed to start, not to look."""

    cluster: str = "webordinary"
    controller_id: str = "default"
    task_definition: str = "webordinary-edit"
    """A family, whose newest ACTIVE revision is used, or `family:revision` or an ARN, used as it is."""
    container_name: str = "edit-container"
    family_per_project: bool = False
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    assign_public_ip: str = "DISABLED"
    launch_type: str = "FARGATE"
    """Empty: the cluster's default capacity provider strategy decides."""
    idle_minutes: int = 20
    """What AUTO_SHUTDOWN_MINUTES tells the container."""
    region: str = ""
    """For sentences."""
    environment: Callable[[ContainerIdentity, int], Mapping[str, str]] = field(default=_no_more)
    """More variables of a launch. They can be read by whoever may call DescribeTasks: no secret belongs there."""

    @property
    def family(self) -> str:
        """The family, and the prefix of the per-project ones."""
        return family_of(self.task_definition)

    @property
    def cluster_name(self) -> str:
        """The cluster's name, also where an ARN is configured."""
        return self.cluster.rpartition("/")[2]


class TaskReader:
    """Reads ECS. Every method may be called from any thread."""

    def __init__(self, client: EcsCalls, settings: EcsSettings, clock: Callable[[], Millis]) -> None:
        check_controller_id(settings.controller_id)
        self._client = client
        self._settings = settings
        self._clock = clock

    def preflight(self) -> str:
        """Return the cluster's ARN. Raises ClusterNotFound, which names the clusters that there are."""
        settings = self._settings
        with self._translating("DescribeClusters"):
            clusters = part(self._client.describe_clusters(clusters=[settings.cluster]), "clusters")
        active = [c for c in clusters if c.get("status", "ACTIVE") == "ACTIVE"]
        if not active:
            raise ClusterNotFound(
                f"no ECS cluster named '{settings.cluster_name}'{' in ' + settings.region if settings.region else ''}",
                self._clusters_here(),
                "set --cluster or EDITCTL_CLUSTER; `editctl config` shows where the value came from",
                code="ClusterNotFoundException",
                operation="DescribeClusters",
            )
        return str(active[0]["clusterArn"])

    def _clusters_here(self) -> str:
        try:
            with self._translating("ListClusters"):
                arns = self._client.list_clusters(maxResults=10).get("clusterArns", ())
        except AwsError:
            return "which clusters there are could not be asked"
        names = ", ".join(sorted(arn.rpartition("/")[2] for arn in arns))
        return f"clusters here: {names}" if names else "there is no cluster here at all"

    # Looking

    def sweep(self) -> TasksRead:
        """Return every task that carries a container id: live, stopping, and stopped as long as ECS lists it.

        The whole cluster is listed, because ListTasks has no filter that would find our tasks, the original system's
        and foreign ones on our ids together: 2 calls for each 100 tasks of the cluster. RUNNING is listed before
        STOPPED, so a task that is stopped in between is on both lists and not on neither.
        """
        look = _Look(self._clock())
        running = self._list("RUNNING", look)
        if look.troubles and not running:
            return look.result(Quality.UNKNOWN)
        stopped = self._list("STOPPED", look)
        missing = self._describe(list(dict.fromkeys([*running, *stopped])), look)
        # DescribeTasks can lag behind ListTasks by a second: what is listed as running was asked for too early.
        late = self._describe(sorted(missing & set(running)), look)
        if late:
            look.troubles.append(f"{len(late)} listed tasks cannot be described yet")
        look.troubles += look.refused
        look.missing = frozenset(missing - set(running))
        return look.result()

    def describe(self, arns: Collection[str]) -> TasksRead:
        """Return these tasks; `missing` names those that ECS does not know (any more, or not yet).

        A text that is no task ARN is missing. An ARN of another cluster, or one that ECS refuses, is neither missing
        nor among the tasks: what became of that task cannot be known here. It spoils the sight of no other.
        """
        look = _Look(self._clock())
        known = {arn: _TASK_ARN.fullmatch(arn) for arn in arns}
        here = [
            arn for arn, found in known.items() if found and found["cluster"] in (None, self._settings.cluster_name)
        ]
        missing = self._describe(here, look)
        look.missing = frozenset(missing | {arn for arn, found in known.items() if not found})
        if look.halvings > MAX_HALVINGS:
            look.troubles += look.refused
        return look.result(Quality.UNKNOWN if here and look.batches == 0 else Quality.INCOMPLETE)

    def _list(self, desired_status: str, look: _Look) -> list[str]:
        arns: dict[str, None] = {}
        pages = 0
        try:
            for found in self._pages(desired_status):
                arns.update(dict.fromkeys(found))
                pages += 1
        except AwsError as error:
            look.troubles.append(f"page {pages + 1} of {desired_status} tasks failed: {_short(error)}")
        return list(arns)

    def _pages(self, desired_status: str) -> Iterator[Sequence[str]]:
        more: Mapping[str, str] = {}
        before: set[str] = set()
        while True:
            with self._translating("ListTasks"):
                answer = self._client.list_tasks(
                    cluster=self._settings.cluster, desiredStatus=desired_status, maxResults=MAX_PAGE, **more
                )
                arns = part(answer, "taskArns")
            yield arns
            token = answer.get("nextToken")
            if not token:
                return
            if token in before:
                raise Unavailable("ListTasks goes round in circles", code="RepeatedToken", operation="ListTasks")
            before.add(token)
            more = {"nextToken": token}

    def _describe(self, arns: Sequence[str], look: _Look) -> set[str]:
        """Add what ECS says of these tasks to the look; return those that it does not know."""
        missing: set[str] = set()
        for start in range(0, len(arns), MAX_PAGE):
            missing |= self._describe_some(arns[start : start + MAX_PAGE], look)
        return missing

    def _describe_some(self, arns: Sequence[str], look: _Look) -> set[str]:
        try:
            with self._translating("DescribeTasks"):
                answer = self._client.describe_tasks(cluster=self._settings.cluster, tasks=list(arns), include=["TAGS"])
                found = part(answer, "tasks")
        except InvalidRequest as error:
            if len(arns) > 1 and look.may_halve():
                middle = len(arns) // 2
                return self._describe_some(arns[:middle], look) | self._describe_some(arns[middle:], look)
            look.refused += [f"{quote(arn)} cannot be described: {error.what}" for arn in arns]
            return set()
        except AwsError as error:
            look.troubles.append(f"{len(arns)} tasks could not be described: {_short(error)}")
            return set()
        look.batches += 1
        for described in found:
            task = parse_task(described, self._settings, look.began)
            if task is not None:
                look.tasks[task.arn] = task
        failures = answer.get("failures", ())
        silent = set(arns) - {d.get("taskArn") for d in found} - {f.get("arn") for f in failures}
        if silent:
            # Neither there nor missing: a shorter answer proves nothing.
            look.troubles.append(f"{len(silent)} tasks were left out of the answer")
        return self._missing(failures, look)

    def _missing(self, failures: Sequence[Mapping[str, Any]], look: _Look) -> set[str]:
        for failure in failures:
            if failure.get("reason") != "MISSING":
                look.troubles.append(f"a task cannot be described: {_failure_text(failure)}")
        return {str(f["arn"]) for f in failures if f.get("reason") == "MISSING" and f.get("arn")}

    def _translating(self, operation: str, **subject: str) -> AbstractContextManager[None]:
        return translating(operation, cluster=self._settings.cluster_name, region=self._settings.region, **subject)


@dataclass
class _Look:
    """What a look has seen so far, and what went wrong with it."""

    began: Millis
    tasks: dict[str, Task] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """ARNs that ECS does not take, each with why; found by halving, since one of them spoils the whole call."""
    missing: frozenset[str] = frozenset()
    batches: int = 0
    halvings: int = 0

    def may_halve(self) -> bool:
        """Whether a refused batch is asked for in halves; not for ever, it may be refused for another reason."""
        self.halvings += 1
        return self.halvings <= MAX_HALVINGS

    def result(self, quality: Quality = Quality.INCOMPLETE) -> TasksRead:
        """Return it; the quality is for a look with troubles."""
        seen = quality if self.troubles else Quality.COMPLETE
        detail = "; ".join((self.troubles or self.refused)[:3])
        return TasksRead(tuple(self.tasks.values()), Sight(seen, detail, self.began), self.missing)


class Tasks(TaskReader):
    """Launches, stops and marks tasks, too."""

    def __init__(self, client: EcsCalls, settings: EcsSettings, clock: Callable[[], Millis]) -> None:
        super().__init__(client, settings, clock)
        self._families = Families(
            client,
            settings.task_definition,
            clock,
            per_project=settings.family_per_project,
            region=settings.region,
        )

    def preflight(self) -> str:
        """Return the cluster's ARN. Raises what keeps tasks from being started, down to a missing subnet."""
        cluster = super().preflight()
        revision = self._families.check(self._settings.container_name)
        if revision.described.get("networkMode") == "awsvpc" and not self._settings.subnets:
            raise ConfigError(
                "no subnets are set",
                f"tasks of '{revision.arn}' get a network interface of their own, in one of them",
                "set EDITCTL_SUBNETS and EDITCTL_SECURITY_GROUPS",
            )
        return cluster

    def prepare(
        self, identity: ContainerIdentity, generation: int, requested_at: Millis, cpu: str = "", memory: str = ""
    ) -> str:
        """Return the exact RunTask argument of a launch as canonical JSON, its task-definition revision pinned.

        The text is kept in the record and replayed verbatim: ECS refuses a client token that comes with anything else.
        """
        settings = self._settings
        request: dict[str, Any] = {
            "cluster": settings.cluster,
            "taskDefinition": self._families.pinned(identity),
            "count": 1,
            "clientToken": client_token(settings.cluster_name, identity, generation, requested_at),
            "startedBy": started_by(settings.controller_id),
            "overrides": self._overrides(identity, generation, cpu, memory),
            "tags": _tag_list(identity, settings.controller_id),
        }
        if settings.launch_type:
            request["launchType"] = settings.launch_type
        if settings.subnets:
            request["networkConfiguration"] = {"awsvpcConfiguration": self._network()}
        return canonical(request)

    def _network(self) -> dict[str, Any]:
        settings = self._settings
        network: dict[str, Any] = {"subnets": list(settings.subnets), "assignPublicIp": settings.assign_public_ip}
        if settings.security_groups:
            network["securityGroups"] = list(settings.security_groups)
        return network

    def _overrides(self, identity: ContainerIdentity, generation: int, cpu: str, memory: str) -> dict[str, Any]:
        settings = self._settings
        variables = {
            **environment_for(identity, generation, settings.controller_id, settings.idle_minutes),
            **settings.environment(identity, generation),
        }
        environment = [{"name": name, "value": value} for name, value in sorted(variables.items())]
        overrides: dict[str, Any] = {name: size for name, size in (("cpu", cpu), ("memory", memory)) if size}
        overrides["containerOverrides"] = [{"name": settings.container_name, "environment": environment}]
        if len(canonical(overrides)) > MAX_OVERRIDES:
            raise InvalidRequest(
                f"the environment of {quote(identity.container_id)} is too long to launch",
                f"it takes {len(canonical(overrides)):,} characters, ECS allows {MAX_OVERRIDES:,}",
                "use shorter client, project and user ids",
                operation="RunTask",
            )
        return overrides

    def run(self, request: str) -> RunAnswer:
        """Send a prepared request; sending it again gives the same task, or the same refusal.

        A task that a replay calls STOPPED is dead already. Raises AwsError when ECS gives no answer to this launch.
        """
        parameters = json.loads(request)
        try:
            with self._translating("RunTask", definition=str(parameters.get("taskDefinition", ""))):
                answer = self._client.run_task(**parameters)
                tasks, failures = part(answer, "tasks"), answer.get("failures", ())
        except LaunchConflict as conflict:
            # This token's launch was made with other parameters: its task is the answer all the same.
            if conflict.resource_ids:
                return RunAnswer(arn=conflict.resource_ids[0])
            return RunAnswer(failure=f"ConflictException: {conflict.why}")
        if tasks:
            return RunAnswer(arn=str(tasks[0]["taskArn"]), stopped=tasks[0].get("lastStatus") in _STOPPED)
        return RunAnswer(failure="; ".join(map(_failure_text, failures)) or "RunTask gave neither a task nor a reason")

    def stop(self, arn: str, reason: str) -> None:
        """Send StopTask. A task that ECS does not know is stopped already, one that is stopping is left to it."""
        try:
            with self._translating("StopTask", task=arn):
                self._client.stop_task(cluster=self._settings.cluster, task=arn, reason=reason[:MAX_REASON])
        except TaskNotFound:
            return
        except AccessDenied:
            # A policy that goes by the task's tags refuses the repeat of a StopTask: the first has deleted them.
            if not self._is_ending(arn):
                raise

    def _is_ending(self, arn: str) -> bool:
        with self._translating("DescribeTasks", task=arn):
            tasks = part(self._client.describe_tasks(cluster=self._settings.cluster, tasks=[arn]), "tasks")
        # MISSING proves nothing: a new task is not there yet.
        return bool(tasks) and all(
            t.get("desiredStatus") == "STOPPED" or t.get("lastStatus") in _STOPPED for t in tasks
        )

    def mark(self, arn: str, identity: ContainerIdentity) -> None:
        """Tag a task as ours. Raises TaskNotFound when it is not running any more."""
        tags = _tag_list(identity, self._settings.controller_id)
        with self._translating("TagResource", task=arn):
            self._client.tag_resource(resourceArn=arn, tags=tags)


def canonical(value: Mapping[str, Any]) -> str:
    """Return the one JSON text of a value: keys sorted, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def parse_task(described: Mapping[str, Any], settings: EcsSettings, now: Millis) -> Task | None:
    """Return a task as DescribeTasks shows it, or None when it does not exist for us.

    A task without a time counts as made now: what is young is not stopped as an orphan.
    """
    environment = _environment(described, settings.container_name)
    last_status = str(described.get("lastStatus", ""))
    desired_status = str(described.get("desiredStatus", "RUNNING"))
    whose = classify(
        tags={str(t.get("key")): str(t.get("value", "")) for t in described.get("tags", ())},
        environment=environment,
        task_started_by=str(described.get("startedBy", "")),
        family=family_of(str(described.get("taskDefinitionArn", ""))),
        live=desired_status == "RUNNING" and last_status not in _STOPPED,
        controller_id=settings.controller_id,
        family_prefix=settings.family,
    )
    if whose is None:
        return None
    ownership, identity = whose
    started_at = _millis(described.get("startedAt"))
    return Task(
        arn=str(described["taskArn"]),
        identity=identity,
        ownership=ownership,
        generation=generation_from_environment(environment),
        last_status=last_status,
        desired_status=desired_status,
        ip=_address(described),
        # A fresh task may not show its interface yet; one that runs without any has none.
        has_interface=last_status != "RUNNING" or bool(described.get("attachments")),
        created_at=_millis(described.get("createdAt")) or started_at or now,
        started_at=started_at,
        stopped_at=_millis(described.get("stoppedAt")),
        stop_code=str(described.get("stopCode", "")),
        stopped_reason=str(described.get("stoppedReason", "")),
        exit_code=_exit_code(described, settings.container_name),
        task_definition=str(described.get("taskDefinitionArn", "")),
        token_digest=environment.get(ENV_TOKEN_SHA256, ""),
    )


def _environment(described: Mapping[str, Any], container_name: str) -> dict[str, str]:
    overrides = described.get("overrides") or {}
    return {
        str(variable.get("name")): str(variable.get("value", ""))
        for container in overrides.get("containerOverrides", ())
        if container.get("name") == container_name
        for variable in container.get("environment", ())
    }


def _address(described: Mapping[str, Any]) -> str | None:
    """Return the private IP, None before there is one and after it was given back: it is somebody else's then."""
    for attachment in described.get("attachments", ()):
        if attachment.get("type") == "ElasticNetworkInterface" and attachment.get("status") not in _DETACHED:
            for detail in attachment.get("details", ()):
                if detail.get("name") == "privateIPv4Address":
                    return str(detail.get("value") or "") or None
    return None


def _exit_code(described: Mapping[str, Any], container_name: str) -> int | None:
    codes = (c.get("exitCode") for c in described.get("containers", ()) if c.get("name") == container_name)
    return next((code for code in codes if isinstance(code, int)), None)


def _millis(moment: object) -> Millis | None:
    """Return epoch milliseconds of what boto3 (a datetime) or the wire (seconds) says."""
    if isinstance(moment, datetime):
        return round(moment.timestamp() * 1000)
    return round(moment * 1000) if isinstance(moment, (int, float)) else None


def _tag_list(identity: ContainerIdentity, controller_id: str) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags_for(identity, controller_id).items()]


def _failure_text(failure: Mapping[str, Any]) -> str:
    parts = [quote(failure[name]) for name in ("reason", "detail") if failure.get(name)]
    return ": ".join(parts) or "no reason given"


def _short(error: AwsError) -> str:
    return error.code if error.retryable and error.code else error.what
