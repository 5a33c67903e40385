"""The lease row of the controller table: who leads. It saves work and never carries safety."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from controller.aws.client import DynamoDbCalls, translating
from controller.aws.rows import Attributes, Item, to_item, to_value
from controller.aws.schema import TableNames
from controller.aws.writes import Expression
from controller.core.model import Millis
from controller.core.reads import Lease
from controller.errors import RowError

_T = TypeVar("_T")

_NAME = "lease"
_VERSION = ("version",)


class LeaseTable:
    """Keeps the lease row."""

    def __init__(self, client: DynamoDbCalls, names: TableNames, *, region: str = "") -> None:
        self._client = client
        self._names = names
        self._region = region

    def read_lease(self) -> Lease | None:
        """Return the row, read strongly, or None when nobody ever led."""
        with self._translating("GetItem"):
            answer = self._client.get_item(
                TableName=self._names.controller, Key={"name": to_value(_NAME)}, ConsistentRead=True
            )
        item = answer.get("Item")
        return parse_lease(item) if item else None

    def write_lease(self, lease: Lease, seen: Lease | None) -> None:
        """Write the row IF it still is the one seen. Raises ConditionFailed when it is not."""
        expected = Expression()
        with self._translating("PutItem"):
            self._client.put_item(
                TableName=self._names.controller,
                Item=lease_item(lease),
                ConditionExpression=_as_seen(expected, seen),
                **expected.parameters(),
            )

    def _translating(self, operation: str) -> AbstractContextManager[None]:
        table = self._names.controller
        return translating(operation, table=table, region=self._region, setting=self._names.setting(table))


def _as_seen(expected: Expression, seen: Lease | None) -> str:
    if seen is None:
        return f"attribute_not_exists({expected.path(('name',))})"
    if seen.version == 0:
        return f"NOT attribute_type({expected.path(_VERSION)}, {expected.value('N')})"
    # Every write has another version, so it stands for the whole row.
    return expected.equals(_VERSION, seen.version)


def parse_lease(item: Item) -> Lease:
    """Return the lease. What cannot be read in it counts as 0 or nobody, so that a broken row can be taken over."""
    row = Attributes(item)
    return Lease(
        holder=_or(lambda: row.text("holder"), ""),
        version=_or(lambda: row.whole("version", 0), 0),
        epoch=_or(lambda: row.whole("epoch", 0), 0),
        duration=_or(lambda: row.time("duration"), 0),
    )


def lease_item(lease: Lease) -> dict[str, Any]:
    """Return the row of a lease."""
    values: dict[str, str | Millis] = {
        "name": _NAME,
        "holder": lease.holder,
        "version": lease.version,
        "epoch": lease.epoch,
        "duration": lease.duration,
    }
    return to_item(values)


def _or(read: Callable[[], _T | None], otherwise: _T) -> _T:
    try:
        found = read()
    except RowError:
        return otherwise
    return otherwise if found is None else found
