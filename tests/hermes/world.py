"""A local AWS with our tables, a controller that runs a round when it is told to, and rows to look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.assembly import Assembly
from controller.aws.client import ClientSettings, connect
from controller.aws.rows import from_item, to_item, to_value
from controller.aws.schema import TableNames
from controller.config import Config
from controller.local.lifecycle import Timings
from controller.local.server import LocalEndpoint
from tests.fakes.clock import FakeClock

REGION = "eu-west-1"


class Rows:
    """The rows of one set of tables, as plain values."""

    def __init__(self, dynamodb: Any, names: TableNames) -> None:
        self._dynamodb = dynamodb
        self.names = names

    def record(self, container_id: str) -> dict[str, Any]:
        """Return a record; empty when there is none."""
        return self._get(self.names.containers, containerId=container_id)

    def session(self, session_id: str) -> dict[str, Any]:
        """Return a session's row; empty when there is none."""
        return self._get(self.names.sessions, sessionId=session_id)

    def sessions(self, container_id: str) -> list[str]:
        """Return the open sessions of a container, whoever wrote them."""
        rows = self.all()[self.names.sessions]
        return sorted(row["sessionId"] for row in rows if row["containerId"] == container_id)

    def all(self) -> dict[str, list[dict[str, Any]]]:
        """Return every row by table."""
        return {table: self._scan(table, key) for table, key in self._keys().items()}

    def put(self, table: str, **values: Any) -> None:
        """Put a row over whatever is there."""
        self._dynamodb.put_item(TableName=table, Item=to_item(values))

    def change(self, container_id: str, **values: Any) -> None:
        """Set attributes of a record, creating it if there is none; None removes one."""
        there = {**self.record(container_id), "containerId": container_id, **values}
        self.put(self.names.containers, **{name: value for name, value in there.items() if value is not None})

    def drop(self, table: str, key: str) -> None:
        """Delete a row."""
        self._dynamodb.delete_item(TableName=table, Key={self._keys()[table]: to_value(key)})

    def clear(self) -> None:
        """Delete every row."""
        for table, rows in self.all().items():
            for row in rows:
                self.drop(table, row[self._keys()[table]])

    def _keys(self) -> Mapping[str, str]:
        names = self.names
        return {names.sessions: "sessionId", names.containers: "containerId", names.controller: "name"}

    def _get(self, table: str, **key: str) -> dict[str, Any]:
        answer = self._dynamodb.get_item(TableName=table, Key=to_item(key), ConsistentRead=True)
        return from_item(answer.get("Item", {}))

    def _scan(self, table: str, key: str) -> list[dict[str, Any]]:
        answer = self._dynamodb.scan(TableName=table, ConsistentRead=True)
        return sorted((from_item(item) for item in answer["Items"]), key=lambda row: str(row[key]))


class Aws:
    """A local AWS for a whole run: worlds in it have tables and a cluster of their own, and share its clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.endpoint = LocalEndpoint(clock=self.clock, timings=Timings.fast(), region=REGION)
        self.clients = connect(ClientSettings(region=REGION, endpoint_url=self.endpoint.url), self.clock)
        self._installations = 0

    def assembly(self) -> Assembly:
        """Return the parts of a new installation, with its tables, cluster and task definition made."""
        self._installations += 1
        name = f"w{self._installations}"
        config = Config(
            cluster=name,
            sessions_table=f"{name}-sessions",
            containers_table=f"{name}-containers",
            controller_table=f"{name}-controller",
            subnets=("subnet-1",),
            security_groups=("sg-1",),
        )
        assembly = Assembly(config, clock=self.clock, wait=self._wait, clients=self.clients, local=True)
        assembly.create_tables()
        return assembly

    def _wait(self, seconds: float) -> None:
        self.clock.step(seconds=seconds)


class World:
    """One installation. Nothing happens in it by itself but what the clock does to tasks."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.clock = aws.clock
        self.faults = aws.endpoint.ecs.faults
        self._assembly = aws.assembly()
        self._reconciler = self._assembly.reconciler()
        self.rows = Rows(aws.clients.dynamodb, self._assembly.names)
        self.tables = self._assembly.tables
        self.registry = self._assembly.registry()

    def beside(self) -> World:
        """Return another one, which knows nothing of this."""
        return World(self.aws)

    def round(self) -> bool:
        """Let the controller run a round; say whether it did anything."""
        return self._reconciler.round().progressed

    def rest(self) -> None:
        """Run rounds, a second apart, until two in a row have nothing to do."""
        quiet = 0
        for _ in range(60):
            quiet = 0 if self.round() else quiet + 1
            if quiet == 2:
                return
            self.clock.step(seconds=1)
        raise AssertionError("the controller does not come to rest")

    def tasks(self) -> list[Mapping[str, Any]]:
        """Return every task that this cluster ever had."""
        cluster = f"/{self._assembly.config.cluster}"
        return [task for task in self.aws.endpoint.ecs.snapshot() if task["clusterArn"].endswith(cluster)]
