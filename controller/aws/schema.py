"""How the three tables are made, and whether those that are there can be used."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.aws.client import DynamoDbCalls, part, translating
from controller.errors import ConfigError, InvalidRequest, TableNotFound, Unavailable

CONTAINER_INDEX = "container-index"
"""The original system's index of session rows by containerId. An index is never strong: editctl scans, unless it is
told that nobody but its own library writes sessions."""

CREATE_POLL = 1.0
CREATE_TRIES = 120
"""Looks at a table that is being made, one second apart; AWS takes 5 to 20 s."""


@dataclass(frozen=True, slots=True)
class TableNames:
    """What the three tables are called."""

    sessions: str = "webordinary-edit-sessions"
    containers: str = "webordinary-containers"
    controller: str = "webordinary-controller"

    def setting(self, table: str) -> str:
        """Return the setting that names this table, for error messages."""
        settings = {self.sessions: "EDITCTL_SESSIONS_TABLE", self.containers: "EDITCTL_CONTAINERS_TABLE"}
        return settings.get(table, "EDITCTL_CONTROLLER_TABLE")


@dataclass(frozen=True, slots=True)
class TableSchema:
    """One table: its partition key (a text), its indexes with their partition keys, and whether it has a stream."""

    name: str
    key: str
    indexes: Mapping[str, str]
    stream: bool

    def request(self) -> dict[str, Any]:
        """Return the CreateTable argument."""
        keys = dict.fromkeys([self.key, *self.indexes.values()])
        wanted: dict[str, Any] = {
            "TableName": self.name,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"} for key in keys],
            "KeySchema": [{"AttributeName": self.key, "KeyType": "HASH"}],
        }
        if self.indexes:
            wanted["GlobalSecondaryIndexes"] = [
                {
                    "IndexName": name,
                    "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
                for name, key in self.indexes.items()
            ]
        if self.stream:
            wanted["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        return wanted

    def differences(self, table: Mapping[str, Any]) -> list[str]:
        """Return what keeps this table, as DescribeTable shows it, from being used; one sentence each."""
        types = {d["AttributeName"]: d["AttributeType"] for d in table.get("AttributeDefinitions", ())}
        found = []
        if _keys(table) != [(self.key, "HASH")]:
            found.append(f"its key is {_words(table)}, not {self.key} alone")
        elif types.get(self.key) != "S":
            found.append(f"its key {self.key} is of type {types.get(self.key)}, not S")
        present = {i["IndexName"]: i for i in table.get("GlobalSecondaryIndexes", ())}
        for name, key in self.indexes.items():
            if name not in present:
                found.append(f"it has no index '{name}'")
            elif (key, "HASH") not in _keys(present[name]):
                found.append(f"its index '{name}' has the key {_words(present[name])}, not {key}")
        return found


def _keys(described: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(k["AttributeName"], k["KeyType"]) for k in described.get("KeySchema", ())]


def _words(described: Mapping[str, Any]) -> str:
    return " + ".join(name for name, _ in _keys(described)) or "nothing"


def schemas(names: TableNames) -> tuple[TableSchema, TableSchema, TableSchema]:
    """Return the three tables."""
    return (
        TableSchema(names.sessions, "sessionId", {CONTAINER_INDEX: "containerId"}, stream=True),
        TableSchema(names.containers, "containerId", {}, stream=True),
        TableSchema(names.controller, "name", {}, stream=False),
    )


def check_tables(client: DynamoDbCalls, names: TableNames, region: str = "") -> dict[str, str]:
    """Return the id of each table by its name: the id changes when a table is deleted and made again.

    Raises TableNotFound, ConfigError for a table with another key or without its index, or what the call fails with.
    """
    found = {}
    for wanted in schemas(names):
        table = _describe(client, names, wanted.name, region)
        _check(wanted, table, names)
        found[wanted.name] = _id_of(table)
    return found


def _id_of(table: Mapping[str, Any]) -> str:
    """Return what a table that is made again has anew; an engine that gives no ids has at least the time."""
    return str(table.get("TableId") or f"{table.get('TableArn', '')} of {table.get('CreationDateTime', '')}")


def create_tables(
    client: DynamoDbCalls, names: TableNames, region: str = "", wait: Callable[[float], None] = time.sleep
) -> dict[str, bool]:
    """Make the tables that are missing and wait until all can be used; return for each name whether it was made.

    May be repeated. Raises ConfigError when a table is there with another key or without its index.
    """
    made = {wanted.name: _create(client, names, wanted, region) for wanted in schemas(names)}
    for wanted in schemas(names):
        _check(wanted, _until_active(client, names, wanted.name, region, wait), names)
    return made


def _create(client: DynamoDbCalls, names: TableNames, wanted: TableSchema, region: str) -> bool:
    try:
        _check(wanted, _describe(client, names, wanted.name, region), names, active=False)
        return False
    except TableNotFound:
        pass
    try:
        with translating("CreateTable", table=wanted.name, region=region, setting=names.setting(wanted.name)):
            client.create_table(**wanted.request())
        return True
    except InvalidRequest as error:
        # Somebody else made it in between.
        if error.code == "ResourceInUseException":
            return False
        raise


def _until_active(
    client: DynamoDbCalls, names: TableNames, name: str, region: str, wait: Callable[[float], None]
) -> Mapping[str, Any]:
    for _ in range(CREATE_TRIES):
        try:
            table = _describe(client, names, name, region)
            states = [
                table.get("TableStatus"),
                *(i.get("IndexStatus") for i in table.get("GlobalSecondaryIndexes", ())),
            ]
            if all(state in ("ACTIVE", None) for state in states):
                return table
        except TableNotFound:
            # DescribeTable is eventually consistent: a new table may not be there yet.
            pass
        wait(CREATE_POLL)
    raise Unavailable(
        f"the table '{name}' is not ready after {CREATE_TRIES * CREATE_POLL:.0f} s",
        "DynamoDB is still making it",
        "look at it in the AWS console, then repeat `editctl tables create`",
        operation="CreateTable",
    )


def _describe(client: DynamoDbCalls, names: TableNames, name: str, region: str) -> Mapping[str, Any]:
    with translating("DescribeTable", table=name, region=region, setting=names.setting(name)):
        table: Mapping[str, Any] = part(client.describe_table(TableName=name), "Table")
        return table


def _check(wanted: TableSchema, table: Mapping[str, Any], names: TableNames, *, active: bool = True) -> None:
    wrong = wanted.differences(table)
    if active and table.get("TableStatus") in ("CREATING", "DELETING"):
        wrong.append(f"it is {str(table['TableStatus']).lower()}")
    if wrong:
        raise ConfigError(
            f"the table '{wanted.name}' cannot be used: {'; '.join(wrong)}",
            f"editctl needs the key {wanted.key}"
            + "".join(f" and the index '{i}' on {k}" for i, k in wanted.indexes.items()),
            f"set {names.setting(wanted.name)} to the right table, or make one with `editctl tables create`",
        )
