"""The row `world` of the controller table: the ids of the cluster and the tables that were seen first."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from controller.aws.client import DynamoDbCalls, translating
from controller.aws.rows import Item, from_item, to_item, to_value
from controller.aws.schema import TableNames
from controller.aws.writes import Expression
from controller.core.whereabouts import Whereabouts
from controller.errors import ConditionFailed, RowError

_NAME = "world"


class WorldReader:
    """Reads the row."""

    def __init__(self, client: DynamoDbCalls, names: TableNames, *, region: str = "") -> None:
        self._client = client
        self._names = names
        self._region = region

    def read_world(self) -> Whereabouts | None:
        """Return what was seen first, read strongly; None before the first run. Raises RowError for a broken row."""
        with self._translating("GetItem"):
            answer = self._client.get_item(
                TableName=self._names.controller, Key={"name": to_value(_NAME)}, ConsistentRead=True
            )
        item = answer.get("Item")
        return parse_world(item) if item else None

    def _translating(self, operation: str) -> AbstractContextManager[None]:
        table = self._names.controller
        return translating(operation, table=table, region=self._region, setting=self._names.setting(table))


class WorldTable(WorldReader):
    """Writes it, too."""

    def keep_world(self, here: Whereabouts) -> bool:
        """Write the row IF there is none; False when somebody else has written it."""
        expected = Expression()
        condition = f"attribute_not_exists({expected.path(('name',))})"
        try:
            with self._translating("PutItem"):
                self._client.put_item(
                    TableName=self._names.controller,
                    Item=world_item(here),
                    ConditionExpression=condition,
                    **expected.parameters(),
                )
        except ConditionFailed:
            return False
        return True

    def accept_world(self, here: Whereabouts) -> None:
        """Write the row whatever is there: an operator says that this is the world."""
        with self._translating("PutItem"):
            self._client.put_item(TableName=self._names.controller, Item=world_item(here))


def world_item(here: Whereabouts) -> dict[str, Any]:
    """Return the row."""
    return to_item({"name": _NAME, "cluster": here.cluster, "tables": dict(here.tables)})


def parse_world(item: Item) -> Whereabouts:
    """Return what the row says."""
    row = from_item(item)
    cluster, tables = row.get("cluster"), row.get("tables")
    if not isinstance(cluster, str) or not isinstance(tables, Mapping):
        raise RowError(
            "the row 'world' of the controller table cannot be read",
            "it holds no cluster, or no tables: whether these are the right ones cannot be told",
            "if they are (`editctl config`): editctl config accept",
        )
    return Whereabouts(cluster, {str(name): str(table_id) for name, table_id in tables.items()})
