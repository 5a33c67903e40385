"""One face for the two kinds of tables that the contract is tried on: the fake, and ours over moto's DynamoDB."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Protocol

import boto3

from controller.aws.client import ClientSettings, client_config
from controller.aws.lease import LeaseTable
from controller.aws.rows import RECORDS, SESSIONS, Item, from_item
from controller.aws.schema import TableNames, create_tables
from controller.aws.tables import Tables
from tests.fakes.clock import FakeClock
from tests.fakes.tables import NOTES, FakeTables

NAMES = TableNames()
KEYS = {SESSIONS: "sessionId", RECORDS: "containerId", NOTES: "name"}
TABLES = {SESSIONS: NAMES.sessions, RECORDS: NAMES.containers, NOTES: NAMES.controller}


class Store(Protocol):
    """Tables under test, and a way past them to the rows."""

    tables: Any
    lease: Any
    clock: FakeClock
    lenient: bool
    """Whether the engine takes SET and REMOVE of one path, which DynamoDB refuses."""

    def put(self, table: str, item: Item) -> None:
        """Put a row as it is, DynamoDB JSON."""

    def get(self, table: str, key: str) -> dict[str, Any] | None:
        """Return a row as plain values."""

    def add_count(self, container_id: str, by: int) -> None:
        """The original writers' bare `ADD sessionCount`."""

    def delete(self, table: str, key: str) -> None:
        """Delete a row."""


class FakeStore:
    """The in-memory tables."""

    lenient = False

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.tables = self.lease = FakeTables(clock, NAMES)

    def put(self, table: str, item: Item) -> None:
        self.tables.put_row(table, item)

    def get(self, table: str, key: str) -> dict[str, Any] | None:
        return self.tables.row(table, key)

    def add_count(self, container_id: str, by: int) -> None:
        self.tables.add_raw_count(container_id, by)

    def delete(self, table: str, key: str) -> None:
        self.tables.delete_row(table, key)


class DynamoStore:
    """Our tables over a DynamoDB client."""

    def __init__(self, clock: FakeClock, client: Any, *, lenient: bool = False) -> None:
        self.clock = clock
        self.client = client
        self.lenient = lenient
        create_tables(client, NAMES, wait=lambda seconds: None)
        self.pauses: list[float] = []
        self.tables = Tables(client, NAMES, clock, region="eu-west-1", pause=self.pauses.append, chance=lambda: 0.5)
        self.lease = LeaseTable(client, NAMES)

    def put(self, table: str, item: Item) -> None:
        self.client.put_item(TableName=TABLES[table], Item=item)

    def get(self, table: str, key: str) -> dict[str, Any] | None:
        answer = self.client.get_item(TableName=TABLES[table], Key={KEYS[table]: {"S": key}})
        return from_item(answer["Item"]) if "Item" in answer else None

    def add_count(self, container_id: str, by: int) -> None:
        self.client.update_item(
            TableName=NAMES.containers,
            Key={"containerId": {"S": container_id}},
            UpdateExpression="ADD sessionCount :n",
            ExpressionAttributeValues={":n": {"N": str(by)}},
        )

    def delete(self, table: str, key: str) -> None:
        self.client.delete_item(TableName=TABLES[table], Key={KEYS[table]: {"S": key}})


class OneAtATime:
    """A client behind a lock: moto is not made for threads."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        if not callable(call):
            return call

        def locked(**parameters: Any) -> Mapping[str, Any]:
            with self._lock:
                answer: Mapping[str, Any] = call(**parameters)
                return answer

        return locked


def dynamodb_client(endpoint_url: str | None = None) -> Any:
    """Return boto3's client, configured as the program configures it."""
    config = client_config(ClientSettings())
    return boto3.client("dynamodb", region_name="eu-west-1", endpoint_url=endpoint_url, config=config)


def delete_tables(client: Any) -> None:
    """Leave nothing behind at an endpoint that outlives a test."""
    for name in client.list_tables()["TableNames"]:
        client.delete_table(TableName=name)
