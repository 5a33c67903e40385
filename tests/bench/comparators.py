"""What the controller is measured against, written here for that and for nothing else.

`Naive` is what one writes first: every ten seconds read everything, then decide row by row, with boto3 as it comes.
`Culler` works as idle cullers usually do: at half the idle timeout it pages through everything and stops what is idle,
ten at a time. It stops only; nobody is started by it.

Both are given the controller's own cut-offs, so that what differs is when they look and what a look costs them. Neither
claims, looks again before a stop, or repairs anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from botocore.exceptions import ClientError

from controller.core.model import SECOND, Millis
from tests.bench.world import CLUSTER, SETTINGS, World

Item = Mapping[str, Any]

NAIVE_PERIOD = 10.0
CULLER_WORKERS = 10
"""What it asks for at a time."""


class Contender(Protocol):
    """Something that looks after a world."""

    def run(self, stop: Any) -> None:
        """Look after it until the stop is asked for."""


class Naive:
    """Every ten seconds: Scan both tables, list and describe the tasks, and act on each row in turn."""

    def __init__(self, world: World) -> None:
        with world.virtual.outside():
            dynamodb = world.wire.plain_resource("dynamodb")
            self._ecs = world.wire.plain_client("ecs")
        self._sessions = dynamodb.Table(world.dynamodb.names.sessions)
        self._records = dynamodb.Table(world.dynamodb.names.containers)
        self._clock = world.virtual
        self._policy = world.policy

    def run(self, stop: Any) -> None:
        """Tick until the stop is asked for; a tick that fails is over, and the next one comes in its time."""
        while not stop.requested:
            began = self._clock()
            with suppress(ClientError):
                self.tick()
            stop.wait(NAIVE_PERIOD - (self._clock() - began) / SECOND)

    def tick(self) -> None:
        """Look at everything once and act on what differs."""
        sessions: dict[str, list[Item]] = {}
        for row in _scan(self._sessions):
            sessions.setdefault(row["containerId"], []).append(row)
        records = {row["containerId"]: row for row in _scan(self._records)}
        tasks = {_container_of(task): task for task in _describe(self._ecs, _list(self._ecs))}
        for container_id, rows in sessions.items():
            if container_id not in tasks and any(self._is_active(row["lastActivity"]) for row in rows):
                self._start(container_id, rows[0], records.get(container_id))
        for container_id, task in tasks.items():
            record = records.get(container_id, {})
            newest = max([row["lastActivity"] for row in sessions.get(container_id, ())], default=0)
            if not self._is_active(newest) and not self._is_active(record.get("lastActivity", 0)):
                self._stop(container_id, task)
            elif task["lastStatus"] == "RUNNING" and record.get("containerStatus") != "running":
                self._update(container_id, containerStatus="running", containerIp=_address_of(task))

    def _is_active(self, last_activity: Any) -> bool:
        return self._clock() < int(last_activity) + self._policy.idle_timeout + self._policy.clock_slack

    def _start(self, container_id: str, row: Item, record: Item | None) -> None:
        generation = int((record or {}).get("generation", 0)) + 1
        answer = self._ecs.run_task(
            cluster=CLUSTER,
            taskDefinition=SETTINGS.task_definition,
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": {"subnets": list(SETTINGS.subnets)}},
            overrides={"containerOverrides": [{"name": SETTINGS.container_name, "environment": _environment(row)}]},
            tags=[{"key": key, "value": value} for key, value in _tags(row).items()],
        )
        for task in answer["tasks"]:
            self._update(container_id, containerStatus="starting", taskArn=task["taskArn"], generation=generation)

    def _stop(self, container_id: str, task: Item) -> None:
        self._ecs.stop_task(cluster=CLUSTER, task=task["taskArn"], reason="idle")
        self._update(container_id, containerStatus="terminated")

    def _update(self, container_id: str, **values: Any) -> None:
        names = {f"#{name}": name for name in values}
        self._records.update_item(
            Key={"containerId": container_id},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values),
            ExpressionAttributeNames=names,
            ExpressionAttributeValues={f":{name}": value for name, value in values.items()},
        )


@dataclass(frozen=True, slots=True)
class _Server:
    """One container as the culler sees it."""

    container_id: str
    task_arn: str
    last_activity: Millis


class Culler:
    """Every half idle timeout: page through everything, and stop what has been idle for the whole of it."""

    def __init__(self, world: World) -> None:
        with world.virtual.outside():
            self._dynamodb = world.wire.plain_client("dynamodb")
            self._ecs = world.wire.plain_client("ecs")
        self._names = world.dynamodb.names
        self._clock = world.virtual
        self._policy = world.policy
        self._period = world.policy.idle_timeout / SECOND / 2

    def run(self, stop: Any) -> None:
        """Cull until the stop is asked for, at times that do not depend on how long a pass took."""
        while not stop.requested:
            began = self._clock()
            self.cull()
            stop.wait(self._period - (self._clock() - began) / SECOND)

    def cull(self) -> None:
        """Go once through all servers."""
        with self._clock.pool(CULLER_WORKERS) as pool:
            for _ in pool.map(self._see_to, list(self._servers())):
                pass

    def _servers(self) -> Iterator[_Server]:
        activity: dict[str, Millis] = {}
        for table in (self._names.sessions, self._names.containers):
            for page in self._dynamodb.get_paginator("scan").paginate(TableName=table):
                for row in page["Items"]:
                    container_id, at = row["containerId"]["S"], int(row["lastActivity"]["N"])
                    activity[container_id] = max(at, activity.get(container_id, 0))
        for task in _describe(self._ecs, _list(self._ecs)):
            container_id = _container_of(task)
            yield _Server(container_id, task["taskArn"], activity.get(container_id, 0))

    def _see_to(self, server: _Server) -> None:
        inactive = self._clock() - server.last_activity
        if inactive >= self._policy.idle_timeout + self._policy.clock_slack:
            self._ecs.stop_task(cluster=CLUSTER, task=server.task_arn, reason="culled")


def _scan(table: Any) -> Iterator[Item]:
    answer = table.scan()
    yield from answer["Items"]
    while "LastEvaluatedKey" in answer:
        answer = table.scan(ExclusiveStartKey=answer["LastEvaluatedKey"])
        yield from answer["Items"]


def _list(ecs: Any) -> list[str]:
    pages = ecs.get_paginator("list_tasks").paginate(cluster=CLUSTER)
    return [arn for page in pages for arn in page["taskArns"]]


def _describe(ecs: Any, arns: Sequence[str]) -> Iterator[Item]:
    for start in range(0, len(arns), 100):
        answer = ecs.describe_tasks(cluster=CLUSTER, tasks=arns[start : start + 100], include=["TAGS"])
        yield from answer["tasks"]


def _container_of(task: Item) -> str:
    return next((str(tag["value"]) for tag in task.get("tags", ()) if tag["key"] == "ContainerId"), "")


def _address_of(task: Item) -> str:
    details = (d for a in task.get("attachments", ()) for d in a["details"])
    return next((str(d["value"]) for d in details if d["name"] == "privateIPv4Address"), "")


def _tags(row: Item) -> dict[str, str]:
    return {
        "ContainerId": row["containerId"],
        "ClientId": row["clientId"],
        "ProjectId": row["projectId"],
        "UserId": row["userId"],
    }


def _environment(row: Item) -> list[dict[str, str]]:
    values = {
        "CLIENT_ID": row["clientId"],
        "PROJECT_ID": row["projectId"],
        "USER_ID": row["userId"],
        "CONTAINER_ID": row["containerId"],
    }
    return [{"name": name, "value": value} for name, value in values.items()]
