"""DynamoDB in memory, metered: the operations that are called here, pages of 1 MB, and what each read and write costs.

Rows are kept as the JSON they are sent as, so that a hundred thousand of them take little room and a page is cut in no
time. Sources: Amazon DynamoDB Developer Guide, "Read consistency", "Scan", "Item sizes and capacity unit consumption".
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from controller.aws.schema import TableNames, schemas
from controller.core.model import Millis
from tests.bench.expressions import Item, predicate, updated

PAGE_BYTES = 1024 * 1024
READ_UNIT_BYTES = 4096
WRITE_UNIT_BYTES = 1024
EVENTUAL = 0.5
"""Of a read unit for each 4 kB; a strong read takes a whole one."""
TRANSACTION = 2
"""Times the write units: prepare and commit."""


class Refused(Exception):
    """DynamoDB's refusal: an error code, a message, and the members that stand beside them."""

    def __init__(self, code: str, message: str, **extra: Any) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.extra = extra


@dataclass
class Meter:
    """What was used."""

    calls: Counter[str] = field(default_factory=Counter)
    read_units: float = 0
    write_units: float = 0

    def read(self, size: int, *, strong: bool) -> None:
        """Count a read of so many bytes."""
        self.read_units += max(ceil(size / READ_UNIT_BYTES), 1) * (1 if strong else EVENTUAL)

    def write(self, size: int, times: int = 1) -> None:
        """Count a write of so many bytes."""
        self.write_units += max(ceil(size / WRITE_UNIT_BYTES), 1) * times

    def restart(self) -> None:
        """Count anew from here."""
        self.calls.clear()
        self.read_units = self.write_units = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it is sent, and its size as DynamoDB counts it."""

    text: bytes
    size: int

    @property
    def item(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text)
        return found


class Table:
    """One table: rows by their key, in the order of the keys."""

    def __init__(self, key: str, index: str = "") -> None:
        self.key = key
        self._index = index
        self._indexed: dict[str, set[str]] = {}
        self._rows: dict[str, Row] = {}
        self._order: list[str] | None = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def size(self) -> int:
        """Bytes of all rows, as DynamoDB counts them."""
        return sum(row.size for row in self._rows.values())

    def row(self, key: str) -> Row | None:
        """Return a row."""
        return self._rows.get(key)

    def put(self, item: Item) -> Row:
        """Put a row."""
        key = item[self.key]["S"]
        row = Row(json.dumps(item, separators=(",", ":"), ensure_ascii=False).encode(), item_size(item))
        if key not in self._rows:
            self._order = None
        self._unindex(key)
        self._rows[key] = row
        if self._index in item:
            self._indexed.setdefault(item[self._index]["S"], set()).add(key)
        return row

    def _unindex(self, key: str) -> None:
        if self._index and key in self._rows:
            self._indexed.get(self._rows[key].item.get(self._index, {}).get("S", ""), set()).discard(key)

    def indexed(self, value: str) -> list[Row]:
        """Return the rows that the index has under a value."""
        return [self._rows[key] for key in sorted(self._indexed.get(value, ()))]

    def delete(self, key: str) -> Row | None:
        """Delete a row and return it."""
        self._unindex(key)
        row = self._rows.pop(key, None)
        if row is not None:
            self._order = None
        return row

    def page(self, after: str | None) -> tuple[list[Row], str | None]:
        """Return the rows of a page, and the key of its last row if more come after it."""
        if self._order is None:
            self._order = sorted(self._rows)
        start = 0 if after is None else bisect_right(self._order, after)
        rows: list[Row] = []
        size = 0
        for position in range(start, len(self._order)):
            row = self._rows[self._order[position]]
            size += row.size
            rows.append(row)
            if size >= PAGE_BYTES:
                return rows, self._order[position] if position + 1 < len(self._order) else None
        return rows, None


class DynamoDb:
    """The three tables behind DynamoDB's JSON protocol.

    looks: how many stale reads of the whole sessions table have begun. lease_writes: when a lease was written.
    """

    def __init__(self, names: TableNames) -> None:
        self.names = names
        self.meter = Meter()
        self.looks = 0
        self.lease_writes: list[Millis] = []
        self.sessions = Table("sessionId", index="containerId")
        self.records = Table("containerId")
        self.notes = Table("name")
        self._tables = {names.sessions: self.sessions, names.containers: self.records, names.controller: self.notes}

    def answer(self, operation: str, request: Mapping[str, Any], now: Millis) -> bytes:
        """Return the body of the answer, or raise Refused."""
        self.meter.calls[operation] += 1
        match operation:
            case "Scan":
                return self._scan(request)
            case "Query":
                return self._query(request)
            case "GetItem":
                return self._get(request)
            case "BatchGetItem":
                return self._get_batch(request)
            case "PutItem":
                return self._put(request, now)
            case "UpdateItem":
                return self._update(request)
            case "DeleteItem":
                return self._delete(request)
            case "TransactWriteItems":
                return self._transact(request)
            case "DescribeTable":
                return self._describe(request)
        raise Refused("UnknownOperationException", f"{operation} is not needed here")

    def _describe(self, request: Mapping[str, Any]) -> bytes:
        schema = next(s for s in schemas(self.names) if s.name == request["TableName"]).request()
        shown = {name: value for name, value in schema.items() if name not in ("BillingMode", "StreamSpecification")}
        return _json({"Table": {**shown, "TableStatus": "ACTIVE", "TableId": f"id of {schema['TableName']}"}})

    # Reads

    def _scan(self, request: Mapping[str, Any]) -> bytes:
        table = self._tables[request["TableName"]]
        start = request.get("ExclusiveStartKey")
        rows, last = table.page(start[table.key]["S"] if start else None)
        strong = bool(request.get("ConsistentRead"))
        self.meter.read(sum(row.size for row in rows), strong=strong)
        self.looks += table is self.sessions and start is None and not strong
        scanned = len(rows)
        if request.get("FilterExpression"):
            wanted = predicate(request["FilterExpression"], request)
            rows = [row for row in rows if wanted(row.item)]
        more = b"" if last is None else b',"LastEvaluatedKey":' + _json({table.key: {"S": last}})
        items = b",".join(row.text for row in rows)
        return b'{"Items":[%b],"Count":%d,"ScannedCount":%d%b}' % (items, len(rows), scanned, more)

    def _query(self, request: Mapping[str, Any]) -> bytes:
        """Of an index by one value, all of it a page: no container has a megabyte of sessions here."""
        [value] = request["ExpressionAttributeValues"].values()
        rows = self._tables[request["TableName"]].indexed(value["S"])
        self.meter.read(sum(row.size for row in rows), strong=False)
        return b'{"Items":[%b],"Count":%d,"ScannedCount":%d}' % (
            b",".join(row.text for row in rows),
            len(rows),
            len(rows),
        )

    def _get(self, request: Mapping[str, Any]) -> bytes:
        table = self._tables[request["TableName"]]
        row = table.row(request["Key"][table.key]["S"])
        self.meter.read(row.size if row else 0, strong=bool(request.get("ConsistentRead")))
        return b"{}" if row is None else b'{"Item":%b}' % row.text

    def _get_batch(self, request: Mapping[str, Any]) -> bytes:
        answers = []
        for name, asked in request["RequestItems"].items():
            rows = [row for key in asked["Keys"] if (row := self._tables[name].row(_only(key)))]
            for row in rows:
                self.meter.read(row.size, strong=bool(asked.get("ConsistentRead")))
            answers.append(_json(name) + b":[%b]" % b",".join(row.text for row in rows))
        return b'{"Responses":{%b},"UnprocessedKeys":{}}' % b",".join(answers)

    # Writes

    def _put(self, request: Mapping[str, Any], now: Millis) -> bytes:
        table = self._tables[request["TableName"]]
        before = table.row(request["Item"][table.key]["S"])
        self._check(request, before)
        row = table.put(request["Item"])
        self.meter.write(max(row.size, before.size if before else 0))
        if request["Item"][table.key]["S"] == "lease":
            self.lease_writes.append(now)
        return b"{}"

    def _update(self, request: Mapping[str, Any]) -> bytes:
        table, key, before = self._target(request)
        self._check(request, before)
        row = self._updated(request, table, key, before)
        self.meter.write(max(row.size, before.size if before else 0))
        return b'{"Attributes":%b}' % row.text if request.get("ReturnValues") == "ALL_NEW" else b"{}"

    def _delete(self, request: Mapping[str, Any]) -> bytes:
        table, key, before = self._target(request)
        self._check(request, before)
        table.delete(key)
        self.meter.write(before.size if before else 0)
        return b'{"Attributes":%b}' % before.text if before and request.get("ReturnValues") == "ALL_OLD" else b"{}"

    def _transact(self, request: Mapping[str, Any]) -> bytes:
        operations = [next(iter(operation.items())) for operation in request["TransactItems"]]
        failed = [not self._holds(each, self._before(each)) for _, each in operations]
        if any(failed):
            reasons = [{"Code": "ConditionalCheckFailed" if bad else "None"} for bad in failed]
            raise Refused("TransactionCanceledException", "Transaction cancelled", CancellationReasons=reasons)
        for kind, each in operations:
            before = self._before(each)
            after = self._carry_out(kind, each, before)
            size = max(before.size if before else 0, after.size if after else 0)
            self.meter.write(size, TRANSACTION)
        return b"{}"

    def _carry_out(self, kind: str, request: Mapping[str, Any], before: Row | None) -> Row | None:
        table = self._tables[request["TableName"]]
        if kind == "Put":
            return table.put(request["Item"])
        key = _only(request["Key"])
        if kind == "Delete":
            table.delete(key)
            return None
        return self._updated(request, table, key, before)

    def _updated(self, request: Mapping[str, Any], table: Table, key: str, before: Row | None) -> Row:
        item = before.item if before else {table.key: {"S": key}}
        return table.put(updated(item, request.get("UpdateExpression"), request))

    def _before(self, request: Mapping[str, Any]) -> Row | None:
        table = self._tables[request["TableName"]]
        return table.row(request["Item"][table.key]["S"] if "Item" in request else _only(request["Key"]))

    def _target(self, request: Mapping[str, Any]) -> tuple[Table, str, Row | None]:
        table, key = self._tables[request["TableName"]], _only(request["Key"])
        return table, key, table.row(key)

    def _holds(self, request: Mapping[str, Any], before: Row | None) -> bool:
        return predicate(request.get("ConditionExpression"), request)(before.item if before else {})

    def _check(self, request: Mapping[str, Any], before: Row | None) -> None:
        if self._holds(request, before):
            return
        # A refused write costs as much as one of the row that is there.
        self.meter.write(before.size if before else 0)
        old = request.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" and before is not None
        raise Refused(
            "ConditionalCheckFailedException",
            "The conditional request failed",
            **({"Item": before.item} if old and before else {}),
        )


def item_size(item: Item) -> int:
    """Return the bytes that DynamoDB counts for an item."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: Mapping[str, Any]) -> int:
    kind, inner = next(iter(value.items()))
    match kind:
        case "S":
            return len(inner.encode())
        case "N":
            # A byte for two digits, and one more.
            return (len(inner.lstrip("-").strip("0")) + 1) // 2 + 1
        case "M":
            return 3 + sum(1 + len(name.encode()) + _value_size(v) for name, v in inner.items())
        case "L":
            return 3 + sum(1 + _value_size(v) for v in inner)
    return 1


def scan_pages(table: Table) -> int:
    """Return the Scans that one look at the table takes at least."""
    pages, last = 1, table.page(None)[1]
    while last is not None:
        pages, last = pages + 1, table.page(last)[1]
    return pages


def _only(key: Mapping[str, Mapping[str, str]]) -> str:
    return next(iter(key.values()))["S"]


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
